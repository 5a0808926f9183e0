"""Grounds by name, and what is meant by the agents that are named on the command line.

toy          the exact pair
labelled     a labelled image set: from-scratch generators and classifiers
captioned    images with sentences: a text-to-image model and a captioner

vae, gan, diffusion, gaussian, ...    that generator on the images of a folder, with a classifier                       setting both
lab                                   the lab's text-to-image model and captioner                                       setting both
MODEL+CAPTIONER                       a text-to-image model and a captioner, by folder or name                          setting both
MODEL:t2i                             the text-to-image model alone                                                     setting images
CAPTIONER:captioner                   the captioner alone                                                               setting captions
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate.errors import SettingError
from mitate.loops.loop import Ground, Loop
from mitate.settings import from_text, record, suggest

GROUNDS = {"toy": "mitate.loops.toy:Toy", "labelled": "mitate.loops.labelled:Labelled", "captioned": "mitate.loops.captioned:Captioned"}
TOY, LAB = "toy", "lab"
CHEAP = (TOY,)  # grounds of which hundreds of loops take seconds
SIDES = {"t2i": ("model", "images"), "captioner": ("describer", "captions")}  # which field of a captioned ground they fill, and what is looped


@dataclass(frozen=True)
class Named:
    """A ground with the setting that its agents stand for."""

    ground: Ground
    setting: str


def ground_of(name: str, settings: Mapping[str, Any]) -> Ground:
    """A ground by name and settings."""
    found: Ground = record(_class_of(name), settings, where=name)
    return found


def exact_of(name: str) -> tuple[str, ...]:
    """Indicators that only a known truth or real test data can tell: the alarm goes without them."""
    found: tuple[str, ...] = importlib.import_module(_place(name)[0]).EXACT
    return found


def named(data: str, agents: str, options: Iterable[str] = ()) -> Named:
    """The ground of `mitate collapse DATA --agents AGENTS -o NAME=VALUE ...`.

    data: toy, lab (the lab's scenes) or what intake opens. agents: as above; "" is the toy pair, the lab's models, or vae.
    """
    if data == TOY:
        if agents:
            raise SettingError("The toy pair has agents of its own.", fix="leave --agents out, or give a folder of images")
        return Named(_toy(options), "both")
    if data != LAB and not Path(data).exists() and (near := suggest(data, (TOY, LAB))).startswith("did you mean"):
        raise SettingError(f"There is no ground {data!r}.", fix=near)
    agents = agents or (LAB if data == LAB else "vae")
    whole, _, side = agents.rpartition(":")
    if side in SIDES and whole:
        one, setting = SIDES[side]
        return Named(_captioned(data, {one: whole}, options), setting)
    if agents == LAB:
        return Named(_captioned(data, {"model": LAB, "describer": LAB}, options), "both")
    model, plus, describer = agents.partition("+")
    if plus and model and describer:
        return Named(_captioned(data, {"model": model, "describer": describer}, options), "both")
    if data == LAB:
        raise SettingError(f"{agents[:60]!r} cannot learn from the lab's sentences.", fix="give lab, lab:t2i, lab:captioner or MODEL+CAPTIONER")
    return Named(_labelled(data, agents, options), "both")


def usual(ground: Ground) -> Loop:
    """A loop with the number of pairs and the dials that are usual on a ground."""
    found: Loop = getattr(ground, "loop", Loop)()
    return found


def notes(ground: Ground, loop: Loop) -> list[str]:
    """What a loop asks for that has no effect on a ground, in words. SettingError for what it cannot do."""
    return list(ground.notes(loop)) if hasattr(ground, "notes") else []


def _toy(options: Iterable[str]) -> Ground:
    from mitate.loops.toy import Toy, World

    own = {f.name for f in dataclasses.fields(Toy)} - {"world"}
    told = list(options)
    of_toy = [o for o in told if o.partition("=")[0] in own]
    world = from_text(World, [o for o in told if o not in of_toy], where="toy")
    return dataclasses.replace(from_text(Toy, of_toy, where="toy"), world=world)


def _labelled(data: str, kind: str, options: Iterable[str]) -> Ground:
    from mitate import registry
    from mitate.loops.labelled import Labelled, generator_kinds

    if kind not in (known := generator_kinds()):
        raise SettingError(f"There are no agents {kind[:60]!r}.", fix=f"{suggest(kind, known)} (or lab, MODEL:t2i, CAPTIONER:captioner, MODEL+CAPTIONER)")
    own = {f.name for f in dataclasses.fields(Labelled)} - {"data", "kind", "settings", "content", "named"}
    told = list(options)
    of_ground = [o for o in told if o.partition("=")[0] in own]
    settings = _typed(registry.find("generator", kind), [o for o in told if o not in of_ground], where=f"generator {kind}")
    return Labelled(settings=settings, **_typed(Labelled, [f"data={data}", f"kind={kind}", *of_ground], where="labelled"))


def _captioned(data: str, agents: Mapping[str, str], options: Iterable[str]) -> Ground:
    found = _class_of("captioned")
    told = _typed(found, options, where="captioned")
    if twice := set(told) & {"data", *agents}:
        raise SettingError(f"-o {min(twice)} is said twice.", fix="say it once, as DATA or --agents")
    ground: Ground = record(found, {**told, "data": data, **agents}, where="captioned")
    return ground


def _typed(kind: Any, options: Iterable[str], *, where: str) -> dict[str, Any]:
    """What was typed for a record, read by its types. SettingError for a name that it does not have, or a value that does not fit."""
    told = list(options)
    whole = from_text(kind, told, where=where)
    return {name: getattr(whole, name) for name in (o.partition("=")[0] for o in told)}


def _class_of(name: str) -> Any:
    module, attribute = _place(name)
    return getattr(importlib.import_module(module), attribute)


def _place(name: str) -> list[str]:
    if name not in GROUNDS:
        raise SettingError(f"There is no ground {name!r} for loops.", fix=suggest(name, GROUNDS))
    return GROUNDS[name].split(":")
