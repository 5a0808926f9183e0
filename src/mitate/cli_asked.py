"""What was typed, as the records that the library takes. Options that were not given are left to the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mitate.errors import SettingError

PRICES = ("label_price", "machine_price", "currency")  # given beside a plan, never part of it


def volume_asked(images: str, given: dict[str, Any]) -> Any:
    """The `Volume` of a command line."""
    from mitate.settings import record
    from mitate.studies.volume_planning import Volume

    values = {"data": images, **{k: v for k, v in given.items() if v is not None}}
    if "generators" in values:
        values["generators"] = _words(values["generators"])
    values = _dialled(values)
    if "volumes" in values:
        parts = [part.strip() for part in values["volumes"].split(",") if part.strip()]
        if wrong := [part for part in parts if not part.removeprefix("-").isdecimal()]:
            raise SettingError(f"The volume {wrong[0]!r} is not a whole number.", fix="write them like 0,50,100,200,500")
        values["volumes"] = [int(part) for part in parts]
    return record(Volume, values, where="options")


def compare_asked(images: str, given: dict[str, Any]) -> Any:
    """The `Compare` of a command line."""
    from mitate.settings import record
    from mitate.studies.compare_planning import Compare

    values = {"data": images, **{k: v for k, v in given.items() if v is not None}}
    for name in ("generators", "axes"):
        if name in values:
            values[name] = _words(values[name])
    if "per_class" in values:
        if wrong := [part for part in _words(values["per_class"]) if not part.isdecimal()]:
            raise SettingError(f"{wrong[0]!r} images a class are no whole number.", fix="write them like 10,25,50,100")
        values["per_class"] = [int(part) for part in _words(values["per_class"])]
    if "weights" in values:
        values["weights"] = dict(_weight(part) for part in _words(values["weights"]))
    if "synthetic" in values:
        values["synthetic_per_class"] = values.pop("synthetic")
    return record(Compare, {**values, "options": list(values["options"])}, where="options")


def skills_asked(plan_file: Path | None, given: dict[str, Any]) -> Any:
    """The `Skills` of a plan file and the options; options win. Files of prompts are found from the plan's folder."""
    from mitate.settings import record
    from mitate.studies.plan_file import read_plan
    from mitate.studies.skills_planning import Skills

    values = dict(read_plan(plan_file, header="skills")) if plan_file is not None else {}
    for name in ("prompt_files", "tested_files"):
        if plan_file is not None and isinstance(values.get(name), dict):
            values[name] = {skill: str(plan_file.parent / str(file)) for skill, file in values[name].items()}
    values |= {k: _words(v) if k in ("skills", "merges", "controls") else v for k, v in given.items() if v is not None}
    return record(Skills, values, where="skills")


def pilot_asked(images: str | None, plan_file: Path | None, given: dict[str, Any]) -> Any:
    """The `Pilot` of a plan file and the options; options win."""
    from mitate.settings import record
    from mitate.studies.plan_file import read_plan
    from mitate.studies.planning import Pilot

    values = {k: v for k, v in read_plan(plan_file).items() if k not in PRICES} if plan_file is not None else {}
    given = {("synthetic_per_class" if k == "synthetic" else k): v for k, v in given.items() if v is not None}
    given = {k: _words(v) if k in ("arms", "generators") else v for k, v in given.items()}
    if images is not None:
        given["data"] = images
    asked = record(Pilot, _dialled({**values, **given}), where=str(plan_file) if plan_file else "options")
    if not asked.data:
        raise SettingError("No images were named.", fix="give a folder: mitate pilot leaves/ --out runs/leaves")
    return asked


def prices_asked(plan_file: Path | None, given: dict[str, Any]) -> Any:
    """The prices of a plan file and the options; options win."""
    from mitate.studies.plan_file import read_plan
    from mitate.studies.spending import prices_of

    planned = {k: v for k, v in read_plan(plan_file).items() if k in PRICES} if plan_file is not None else {}
    told = {k: v for k, v in given.items() if v is not None}
    return prices_of({**planned, **told}, where="options" if told or plan_file is None else str(plan_file))


def refuse_with_continue(images: str | None, out: Path | None, plan_file: Path | None, given: dict[str, Any]) -> None:
    """SettingError where --continue was given with anything that the run settles itself."""
    extra = [k for k, v in {"IMAGES": images, "--out": out, "--plan": plan_file, **given}.items() if v is not None]
    if extra:
        raise SettingError(f"--continue takes its settings from the run ({extra[0]} was given too).", fix="give --continue RUN --seeds +5 alone")


def kind_and_images(kind: str, images: str, options: tuple[str, ...], *, size: int, per_class: int, seed: int) -> tuple[Any, Any]:
    """A generator kind with its preset and the options typed, and the images it is fitted on: the train split where there is one."""
    from mitate import registry
    from mitate.fitted import epsilon_of, options_of
    from mitate.settings import from_text, plain

    if kind in registry.ON_TOP:
        raise SettingError(f"A {kind} generator stands on a model.", fix="learn it with mitate adapt style or shots, --base MODEL")
    cls = registry.find("generator", kind)
    train = train_images(images)
    epsilon = epsilon_of(cls, options, where=f"generator {kind}")
    if per_class and epsilon:
        raise SettingError("--per-class lets one image decide whether another is used, which epsilon does not cover.", fix="give a folder of the images to use")
    if per_class:
        train = train.few(per_class, seed=seed)
    preset = plain(options_of(cls, (size or 64, size or 64, 3), len(train), epsilon=epsilon))
    chosen = from_text(
        cls, [f"{k}={v}" for k, v in preset.items() if not any(o.startswith(f"{k}=") for o in options)] + list(options), where=f"generator {kind}"
    )
    return chosen, train


def train_images(images: str) -> Any:
    """The images that may be learnt from: the train split where there is one, else all."""
    from mitate.intake.opening import open_images

    return open_images(images, split="train") if _has_train(images) else open_images(images)


def _has_train(images: str) -> bool:
    from mitate.intake.opening import list_source

    return any(row.split == "train" for row in list_source(images).rows)


def _dialled(values: dict[str, Any]) -> dict[str, Any]:
    """The generators as a list, each text-to-image model once for every guidance, and with --style as three: plain, untrained word, learned style."""
    values = dict(values)
    style, guidance = values.pop("style", None), values.pop("guidance", None)
    if not style and not guidance:
        return values
    from mitate.painted import split_name

    models = [g for g in values.get("generators", []) if (found := split_name(_undialled(g))) is not None and not found[1]]
    if guidance and any(_undialled(g) != g for g in models):
        raise SettingError("A model has a guidance in its name, and --guidance gives others.", fix="leave one of the two out")
    if not models:
        raise SettingError("--style and --guidance are for text-to-image models, and none is named.", fix="name one with --generators, a folder or owner/name")
    if guidance is not None and not isinstance(guidance, str):
        raise SettingError(f"The guidance {guidance!r} is no text.", fix='write it like "1.5,3,7.5"')
    if wrong := [g for g in _words(guidance) or [guidance] if not _at_least_one(g)] if guidance else []:
        raise SettingError(f"The guidance {wrong[0]!r} is no number from 1.", fix="write them like 1,2,7.5; 1 is none")
    made = []
    for name in values["generators"]:
        dialled = [f"{name}@{g}" for g in dict.fromkeys(f"{float(g):g}" for g in _words(guidance))] if guidance and name in models else [name]
        made += [one + tail for one in dialled for tail in (("", "+untrained", "+style") if style and name in models else ("",))]
    return {**values, "generators": made}


def _undialled(name: str) -> str:
    """A model's name without the guidance in it."""
    model, at, number = name.rpartition("@")
    return model if at and _at_least_one(number) else name


def _at_least_one(text: str) -> bool:
    try:
        return 1 <= float(text) < float("inf")
    except ValueError:
        return False


def _weight(text: str) -> tuple[str, float]:
    axis, _, number = text.partition("=")
    try:
        return axis.strip(), float(number)
    except ValueError:
        raise SettingError(f"The weight {text!r} is no number of an axis.", fix="write them like utility=0.5,privacy=0.3") from None


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
