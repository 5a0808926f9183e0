"""Commands for loops that train on what they made: collapse, monitor."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

import click

from mitate import cli_options as shared
from mitate.cli_said import say
from mitate.errors import SettingError
from mitate.progress import Line, clock

SHOWN = (
    "variance", "within_variance", "kernel_distance", "precision", "recall", "coverage", "alignment", "entropy", "distinct", "tail", "utility", "caption_tv",
    "image_w2",
)  # fmt: skip
DEAR = 2.0  # seconds of a generation from which its cost is told


@click.command()
@click.argument("ground", required=False)
@shared.run_folder
@click.option(
    "--agents",
    default="",
    help="On a folder: vae, gan, diffusion, gaussian, each with a classifier; on sentences: lab, MODEL+CAPTIONER, MODEL:t2i, "
    "CAPTIONER:captioner.  [default: vae, of lab its own models]",
)
@click.option("--setting", help="images (self-consuming image model), captions (self-consuming captioner) or both.  [default: what the agents are]")
@click.option("--policy", default="replace", show_default=True, help="replace, accumulate, budget, fresh:SHARE, or real (no recursion: the floor).")
@click.option("--agents-count", "count", default="1x1", show_default=True, metavar="MxN", help="Captioners x generators.")
@click.option("--frozen", default="0x0", show_default=True, metavar="MxN", help="Of them, those that learn from real pairs alone.")
@click.option("--start", default="continue", show_default=True, help="continue from the last generation, or from the base, as a folder's generators always do.")
@click.option("--relabel", default="none", show_default=True, help="none, frozen (captions), frozen-images.")
@click.option("--keep", type=float, default=0.0, help="Confidence below which a frozen captioner's caption goes to a person.  [default: 0, none]")
@click.option("--human", type=int, default=0, show_default=True, help="Captions by people in a generation; what is beyond is dropped.")
@click.option("--decode", default="", metavar="DIALS", help="Of both sides, like samples=4,search=1,depth=8,temperature=1.  [default depth: the models' own]")
@click.option("--decode-images", default="", metavar="DIALS", help="Of images alone.")
@click.option("--decode-captions", default="", metavar="DIALS", help="Of captions alone.")
@click.option("--n", type=int, help="Pairs of an agent in a generation.  [default: 200, of sentences 96]")
@click.option("--generations", type=int, default=6, show_default=True)
@click.option("--seeds", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Chains, each a replicate.")
@click.option("--engine", help="here, local or local:N: chains beside each other, each in a process.  [default: local with --out, but of toy here]")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a folder: size, seed, features, classifier_steps, and any setting of the generator (steps, width, ...). "
    "Of toy: kinds, wordings, dims, spread, radius, skew, tail, step, bias, mixed. Of sentences: rank, steps, rate, guidance, ...",
)
def collapse(
    ground: str | None, out: Path | None, agents: str, setting: str | None, count: str, frozen: str, decode: str, decode_images: str, decode_captions: str,
    n: int | None, seeds: int, engine: str | None, options: tuple[str, ...], **told: Any,
) -> None:  # fmt: skip
    """What becomes of models that train on what they made?

    GROUND is a folder of labelled images, lab (scenes with sentences), or toy: Gaussian images and multinomial captions, whose truth is known.

    One table row a generation; generation 1 has learnt from real pairs and is the floor. The same command with the same --out goes on after a kill.
    """
    from mitate.loops import grounds
    from mitate.loops.chains import collapse as run

    if out is not None and (out / "study.json").exists():
        raise SettingError(f"{out} holds a study.", fix="give another folder with --out")
    if ground is None:
        raise SettingError("It is not said what is looped.", fix="mitate collapse toy, or mitate collapse FOLDER --agents vae")
    captioners, generators = _pair(count, "--agents-count")
    frozen_captioners, frozen_generators = _pair(frozen, "--frozen")
    named = grounds.named(ground, agents, options)
    if setting is not None and named.setting not in ("both", setting):
        raise SettingError(f"{agents} has nothing to do in the setting {setting}.", fix=f"give --setting {named.setting}, or both agents: MODEL+CAPTIONER")
    usual = grounds.usual(named.ground)
    loop = dataclasses.replace(
        usual, setting=setting or named.setting, captioners=captioners, generators=generators, frozen_captioners=frozen_captioners,
        frozen_generators=frozen_generators, images=_decode(usual.images, decode, decode_images), captions=_decode(usual.captions, decode, decode_captions),
        n=usual.n if n is None else n, **told,
    )  # fmt: skip
    for note in grounds.notes(named.ground, loop):
        say(note, err=True)
    line = _Paced("collapse")
    found = run(named.ground, loop, seeds=seeds, out=out, workers=_workers(engine, ground, seeds, out), progress=line)
    line.close()
    for seed, why in found.blocked.items():
        say(f"chain {seed} is blocked: {why}", err=True)
    _print(found)
    if out is not None:
        say(f"{out / 'loop.jsonl'}: {len(found.lines)} generations of {len(found.chains)} chains; mitate report {out} writes its page")


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--follow", is_flag=True, help="Wait for more lines until every chain is whole.")
@click.option(
    "--null",
    type=click.Path(path_type=Path),
    help="Folder with the loop.jsonl of loops that do not recurse.  [default: made, 199 of toy, else the fewest that the rate allows, kept in RUN/null]",
)
@click.option("--rate", type=float, default=0.05, show_default=True, help="False alarms in a chain: not in a look, and not in a folder of several chains.")
@click.option("--low", "lows", multiple=True, metavar="INDICATOR=VALUE", help="STOP at once below this, like tail=0.1 (outside the rate).")
@click.option("--every", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Seconds between two looks at the file.")
@click.option("--exit-code", is_flag=True, help="End with 1 where a chain is at STOP.")
def monitor(run: Path | None, follow: bool, null: Path | None, rate: float, lows: tuple[str, ...], every: float, exit_code: bool) -> None:
    """Is a loop collapsing? Tells OK, WATCH or STOP of each generation in RUN/loop.jsonl, why, and which generation to roll back to.

    Any training loop can write that file: {"chain": 0, "generation": 1, "indicators": {"variance": 1.2}} a line, and the like into the folder of --null.
    """
    from mitate.loops.alarm import STOP
    from mitate.loops.watch import monitor_of, states

    if run is None:
        raise SettingError("It is not said which run.", fix="mitate monitor runs/loop")
    line = _Paced("null runs")
    alarm = monitor_of(run, rate=rate, null=null, lows=dict(_low(text) for text in lows), progress=line)
    line.close()
    say(f"{len(alarm.names)} indicators; false alarms in at most {alarm.rate:g} of chains of {alarm.looks} generations ({alarm.runs} null runs)")
    stopped: set[int] = set()
    for told in states(run, alarm, follow=follow, every=every):
        state = told.state
        back = f"; roll back to generation {state.roll_back_to}" if state.roll_back_to is not None else ""
        why = f": {', '.join(state.reasons)}{back}" if state.reasons else ""
        beyond = " (beyond the looks of the stated rate)" if state.beyond else ""
        say(f"chain {told.chain} generation {state.generation} {state.name}{why}{beyond}")
        if state.name == STOP:
            stopped.add(told.chain)
    say(f"STOP in {len(stopped)} chains" if stopped else "no chain is at STOP")
    if exit_code and stopped:
        raise SystemExit(1)


class _Paced:
    """A line of progress that tells the cost of what is left once one generation is made, where it is dear. What lay on the disk before does not count."""

    def __init__(self, title: str) -> None:
        self.title, self.before = title, 0
        self.started = time.monotonic()
        self.line: Line | None = None

    def step(self, done: int, total: int, note: str = "") -> None:
        if self.line is None:
            spent, self.before = time.monotonic() - self.started, done - 1
            left = total - done
            if spent >= DEAR and left:
                say(f"{self.title}: {note} took {clock(spent)}, with what is made once; {left} generations are left, at most {clock(left * spent)}", err=True)
            self.line = Line(1.0, title=self.title)
        self.line.step(done - self.before, total - self.before, note)

    def close(self) -> None:
        if self.line is not None:
            self.line.close()


def _workers(engine: str | None, ground: str, seeds: int, out: Path | None) -> int:
    """Processes for chains; 0 for this one."""
    from mitate.engine import Cluster, parse_engine
    from mitate.loops.grounds import CHEAP
    from mitate.runtime import cores

    workers = parse_engine(engine) if engine is not None else 0 if out is None or ground in CHEAP else None
    if isinstance(workers, Cluster):
        raise SettingError("Chains of a loop run on one machine.", fix="give --engine here, local or local:N")
    return min(seeds, cores() if workers is None else workers)


def _pair(text: str, option: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,3})x(\d{1,3})", text)
    if found is None:
        raise SettingError(f"{option} {text!r} cannot be read.", fix="write captioners x generators, like 2x2")
    return int(found[1]), int(found[2])


def _decode(usual: Any, *texts: str) -> Any:
    """Dials from texts over the usual ones, the last word wins."""
    from mitate.loops.agents import Decode
    from mitate.settings import from_text, plain

    before = [f"{name}={value}" for name, value in plain(usual).items()]
    return from_text(Decode, [*before, *(part for text in texts for part in text.split(",") if part)], where="--decode")


def _low(text: str) -> tuple[str, float]:
    name, eq, value = text.partition("=")
    try:
        limit = float(value if eq else "none")
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise SettingError(f"--low {text!r} cannot be read.", fix="write it like tail=0.1")
    return name, limit


def _print(found: Any) -> None:
    """A row a generation: mean over chains, and half the width of its 95 % interval."""
    names = [name for name in SHOWN if all(name in g for chain in found.chains.values() for g in chain)]
    bands = {name: found.band(name) for name in names}
    rows = [["generation", *names]]
    for t in range(found.loop.generations):
        cells = [f"{mean[t]:.3g}" + (f" ±{half[t]:.2g}" if half is not None else "") for mean, half in bands.values()]
        rows.append([str(t + 1), *cells])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
