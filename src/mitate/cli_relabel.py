"""The command that lets a frozen model and filters judge images: relabel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mitate.cli_said import say
from mitate.errors import SettingError

if TYPE_CHECKING:
    from mitate.relabelled import ClassRow, Relabelled


@click.command()
@click.argument("fakes", type=click.Path(path_type=Path))
@click.option("--with", "model", help="real:FOLDER (trained here on real images), similarity:MODEL (zero-shot), caption:FOLDER or lab (rewrite captions).")
@click.option("--keep", type=float, help="Keep this share of each class, the most confident first, like 0.8.  [default: all]")
@click.option("--confidence", type=float, help="Drop images whose class the model gives less than this probability.")
@click.option("--sure", type=float, default=0.9, show_default=True, help="Least probability at which the model overrules the set's class.")
@click.option("--no-relabel", is_flag=True, help="Where the model is sure of another class, drop the image instead of relabelling it.")
@click.option("--template", default="", help="With similarity: the sentence of a class, with {label}.  [default: a picture of a {label}]")
@click.option("--copies-of", type=click.Path(path_type=Path), help="Drop images that are nearly one image of these real ones.")
@click.option("--held-out", type=click.Path(path_type=Path), help="With --copies-of: other real images; how many of them would be called copies?")
@click.option("--near-duplicates", is_flag=True, help="Of images that are one picture keep one.")
@click.option("--undo", multiple=True, metavar="FILTER", help="Take back all that a filter said: labels, copies, near-duplicates, confidence, captions.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of training with real:FOLDER.")
@click.option("--export", "out", type=click.Path(path_type=Path), help="Then write the images that stand into this folder, as mitate review --export does.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures, and the table of model by set, into this file.")
def relabel(
    fakes: Path, model: str | None, keep: float | None, confidence: float | None, sure: float, no_relabel: bool, template: str, copies_of: Path | None,
    held_out: Path | None, near_duplicates: bool, undo: tuple[str, ...], seed: int, out: Path | None, file: Path | None,
) -> None:  # fmt: skip
    """Relabel and filter the synthetic images of the folder FAKES by a frozen model, copies of real images, and look-alikes.

    Every decision goes to FAKES/ledger.jsonl with its reason; the images are never changed. The same command again adds nothing; another rule first takes back
    what the filter said before (docs/relabel.md).
    """
    from mitate.curation.export import export
    from mitate.curation.filters import Rules
    from mitate.files import write_json, writing
    from mitate.progress import Line
    from mitate.relabelled import relabel as run

    rules = Rules(keep, confidence, sure, "drop" if no_relabel else "relabel")
    if out is not None and out.resolve().is_relative_to(fakes.resolve()):
        raise SettingError(f"{out} lies inside the set.", fix="choose a folder outside of it")
    line = Line(1.0, title="relabel")
    found = run(
        fakes, model=model, rules=rules, copies_of=copies_of, held_out=held_out, near_duplicates=near_duplicates, undo=undo,
        template=template, seed=seed, progress=line,
    )  # fmt: skip
    line.close()
    for told in lines(found):
        say(told)
    if file is not None:
        with writing(file):
            write_json(file, found.record)
    if out is not None:
        done = export(fakes, out)
        told = f"{done.images} images, {done.relabelled} of them relabelled; left out: {done.dropped} dropped"
        say(f"{out}: {told}, {done.open} on which people or filters disagree")


def lines(found: Relabelled) -> list[str]:
    """What the command prints: one table, and what must be known beside it."""
    out = list(found.notes)
    if found.filters:
        out += _table(found)
    if found.confusion is not None:
        told = f"{found.model} gives {found.differing} of {found.images} another class than the set, and is sure of {found.sure}"
        out.append(f"{told} (at least {found.rules.sure:.3g}; how often it is right then is not known here)")
    if "captions" in found.filters:
        out.append(f"{found.model} tells {found.captions} of {found.images} in other words; --export writes them")
    out += _copies(found)
    out += [line for row in found.rows if (line := _variety(row))]
    stand = found.stand
    stay = stand["keep"] + stand["relabel"] + stand["unsaid"]
    told = f"{stay} images stand ({stand['relabel']} relabelled), {stand['drop']} are dropped, {stand['open']} are open"
    wrote = f"{found.appended} lines added" if found.appended else "nothing added: it said so already"
    return [*out, f"{_name(found.folder.name)}/ledger.jsonl: {wrote}; with all that people and filters said, {told}"]


def _table(found: Relabelled) -> list[str]:
    """One row a class of the set: what became of its images, in this call alone."""
    names = [name for name in found.filters if any(name in row.dropped for row in found.rows)]
    head = ["class", "images", "kept", "relabelled", "gained", *(f"dropped: {name}" for name in names)]
    body = [
        [_name(row.label) or "(none)", *map(str, (row.images, row.kept, row.relabelled, row.gained)), *(str(row.dropped.get(name, 0)) for name in names)]
        for row in found.rows
    ]
    if len(body) > 1:
        body.append(["all", *(str(sum(int(row[k]) for row in body)) for k in range(1, len(head)))])
    widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
    return ["  ".join(v.ljust(w) if k == 0 else v.rjust(w) for k, (v, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in [head, *body]]


def _copies(found: Relabelled) -> list[str]:
    from mitate.metrics.privacy import COPY, LEAST, NEIGHBOURS

    if (c := found.copies) is None:
        return []
    rule = f"a copy is under {COPY:g} times as far from one image of {_name(c.real)} as from the next {NEIGHBOURS}"
    if c.floor is None or c.excess is None:
        why = "--held-out REAL" if c.n >= LEAST else f"{c.n} images are fewer than {LEAST}"
        return [f"copies: {c.dropped} of {c.n} ({rule}); how many fresh images it would call so is not measured ({why})"]
    fresh = f"of {c.floor.n} held-out images it calls {c.floor.value:.1%} so ({c.floor.low:.1%} to {c.floor.high:.1%})"
    more = f"difference {c.excess.value:+.1%} ({c.excess.low:+.1%} to {c.excess.high:+.1%})"
    doubt = "" if c.excess.low > 0 or not c.dropped else ": no more than fresh images have, so these may be none"
    return [f"copies: {c.dropped} of {c.n} ({rule}); {fresh}, {more}{doubt}"]


def _variety(row: ClassRow) -> str:
    if row.variety is not None:
        return f"variety of {_name(row.label) or '(none)'}: {row.variety[0]:.3g} different pictures, {row.variety[1]:.3g} of as many by chance (Vendi)"
    if row.why in ("", "nothing was dropped"):
        return ""
    return f"variety of {_name(row.label) or '(none)'}: not measured ({row.why})"


def _name(text: str) -> str:
    from mitate.intake.listing import shown

    return shown(text, 40)
