"""A reviewed set as a new folder or as shards: without what was dropped, with the right classes, and still marked as synthetic.

The folder is what `write_images` writes, the shards what `write_shards` does; `filters` of each image says who let it through, `source` which file it was.
The set that was reviewed stays as it is. Where nobody reviewed a set, all of it stands: so this is also the way from a folder to shards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mitate.curation.agreement import OPEN, Held, agreed
from mitate.curation.filters import rewritten
from mitate.curation.ledger import FILTER, NAME, Decision, Ledger, Standing
from mitate.curation.review import list_set
from mitate.errors import DataError, SettingError
from mitate.files import disk_errors, file_digest, write_text
from mitate.images import ImageSet, Provenance
from mitate.intake.opening import look_all, open_images
from mitate.packed import check_form, write_shards
from mitate.progress import Progress
from mitate.sets import SUMS, check_new, write_images
from mitate.settings import parsed

FOLDER = "folder"  # the form of an export that is no shards
PERSON = "review"  # in `filters`: at least one person looked at it. Names of people stay in the ledger


@dataclass(frozen=True)
class Exported:
    """What was written, and what was left out."""

    folder: Path
    images: int
    relabelled: int
    unseen: int  # among the images: nobody but filters judged them
    dropped: int
    open: int  # left out because people disagree


def export(
    folder: Path, out: Path, *, form: str = FOLDER, shard: int = 0, reviewed_only: bool = False, progress: Progress | None = None
) -> Exported:  # fmt: skip
    """Write the images of `folder` that stand into `out`. form: "folder", or one of `packed`, with `shard` images each (0: as `write_shards` does);
    reviewed_only: leave out those that no person judged.

    Captions that the filter captions has rewritten are the new ones. What filters alone dropped is left out, too; what people disagree on is left out
    until they agree. The same ledger gives the same folder, and a folder that holds it already is left as it is.
    """
    folder, out = Path(folder), Path(out)
    if out.resolve().is_relative_to(folder.resolve()):
        raise SettingError(f"{out} lies inside the set.", fix="choose a folder outside of it")
    check_new(out)
    if form != FOLDER:
        check_form(form, shard)
    listing = list_set(folder)
    looks = look_all(listing)
    images = open_images(listing)
    said = Standing(Ledger(folder).read())
    held = [agreed(said.of(name)) for name in images.names]
    seen = [any(not d.by_filter for d in said.of(name).values()) for name in images.names]
    stand = [i for i, h in enumerate(held) if (h is None or h.state not in ("drop", OPEN)) and (seen[i] or not reviewed_only)]
    if not stand:
        raise DataError("No image is left.", fix="keep some first, or leave out --reviewed-only")
    made, classes = _provenance(folder, images, all(look.mark for look in looks)), _classes(folder, images)
    told = {
        "dropped": sum(h is not None and h.state == "drop" for h in held),
        "relabelled": sum(_relabelled(held[i]) for i in stand),
        "open": sum(h is not None and h.state == OPEN for h in held),
        "unseen": sum(not seen[i] for i in stand),
    }
    captions = rewritten(said.by(FILTER + "captions"))
    again = {"recaptioned": sum(images.names[i] in captions for i in stand)} if captions else {}
    left = _curated(images, classes, held, stand, made, {**told, **again})
    if captions:
        left = replace(left, captions=tuple(captions.get(name, text) for name, text in zip(left.names, left.captions or ("",) * len(left), strict=True)))
    passed = [_passed(said.of(images.names[i])) for i in stand]
    sources = [images.names[i] for i in stand]
    if form == FOLDER:
        _place(left, sources, passed, out, progress)
    else:
        facts = [{"filters": p, "source": s} for s, p in zip(sources, passed, strict=True)]
        write_shards(left, out, form=form, shard=shard, told=facts, progress=progress)
    return Exported(out, len(left), **told)


def _curated(
    images: ImageSet, classes: Sequence[str], held: Sequence[Held | None], stand: Sequence[int], made: Provenance, told: Mapping[str, int]
) -> ImageSet:
    """The images that stand, with their right classes, those of the set first and in its own order."""
    labels = [images.classes[images.labels[i]] if images.labels[i] >= 0 else None for i in stand]
    labels = [h.label if (h := held[i]) is not None and h.state == "relabel" else label for i, label in zip(stand, labels, strict=True)]
    known = list(dict.fromkeys([*classes, *sorted({label for label in labels if label is not None})]))
    settings = {**made.settings, "reviewed": {"images": len(images), **told}}
    whole = replace(images, provenance=replace(made, settings=settings, parents=tuple(dict.fromkeys((*made.parents, images.digest)))))
    index = {label: k for k, label in enumerate(known)}
    return replace(whole.subset(stand), classes=tuple(known), labels=tuple(-1 if label is None else index[label] for label in labels))


def _relabelled(held: Held | None) -> bool:
    return held is not None and held.state == "relabel"


def _passed(said: Mapping[str, Decision]) -> list[str]:
    """Who judged an image that stands: filters that kept it, then `review`."""
    names = sorted({d.by for d in said.values() if d.by_filter and d.decision == "keep"})
    return [*names, *([PERSON] if any(not d.by_filter for d in said.values()) else [])]


def _provenance(folder: Path, images: ImageSet, marked: bool) -> Provenance:
    """Where the set says that it comes from; of sets made elsewhere, that much. SettingError for images that may be real."""
    try:
        said = parsed((folder / "provenance.json").read_text(encoding="utf-8"))["provenance"]
        made = Provenance(str(said["generator"]), str(said["digest"]), dict(said["settings"]), tuple(map(str, said["parents"])))
    except (FileNotFoundError, NotADirectoryError):
        if not marked:
            what = f"{folder} does not say that its images are synthetic, and some carry no mark."
            raise SettingError(what, fix="review works on any set; only sets that mitate wrote, or marked images, are exported as synthetic") from None
        return Provenance("made elsewhere", images.digest)
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise DataError(f"{folder / 'provenance.json'} cannot be read ({wrong}).", fix="bring it back from a copy") from wrong
    seeds = _seeds(folder)
    of_images = tuple(seeds.get(name) for name in images.names)
    whole = tuple(s for s in of_images if s is not None)
    return replace(made, seeds=whole if len(whole) == len(images) else ())


def _classes(folder: Path, images: ImageSet) -> Sequence[str]:
    """The set's classes in the order in which it was written, where it says so; else by name."""
    try:
        order = list(parsed((folder / "provenance.json").read_text(encoding="utf-8"))["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return images.classes
    return order if set(order) >= set(images.classes) else images.classes


def _seeds(folder: Path) -> dict[str, int]:
    """The seed of each file, where the metadata tell it."""
    try:
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        return {}
    rows = (parsed(line) for line in lines if line.strip())  # read as JSON before, when the set was opened
    return {str(row.get("file_name")): row["seed"] for row in rows if isinstance(row.get("seed"), int) and not isinstance(row["seed"], bool)}


def _place(images: ImageSet, sources: Sequence[str], passed: Sequence[list[str]], out: Path, progress: Progress | None) -> None:
    """Write the set beside its place, tell more in its metadata, and rename it there; whole or not at all."""
    building = out.with_name(f".{out.name}.reviewed.partial")
    with disk_errors(out):
        shutil.rmtree(building, ignore_errors=True)  # of an export that was killed
        try:
            write_images(images, building, progress=progress)
            path = building / "metadata.jsonl"
            rows = [parsed(line) for line in path.read_text(encoding="utf-8").splitlines()]
            told = ({**row, "filters": p, "source": s} for row, s, p in zip(rows, sources, passed, strict=True))
            write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in told))
            _sum(building, path.name)
            if out.is_dir() and any(out.iterdir()):
                if not _same(building, out):
                    raise SettingError(f"{out} is not empty and does not hold what stands now.", fix="choose another folder, or empty it")
                return
            if out.is_dir():
                out.rmdir()
            os.rename(building, out)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _sum(folder: Path, name: str) -> None:
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    fresh = [f"{file_digest(folder / name)}  {name}" if line.split("  ", 1)[1] == name else line for line in lines]
    write_text(folder / SUMS, "\n".join(fresh) + "\n")


def _same(fresh: Path, there: Path) -> bool:
    """Whether `there` holds every file of `fresh`, unchanged, and no other but a ledger of its own."""

    def files(folder: Path) -> dict[str, Any]:
        return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and NAME not in p.name}

    one, other = files(fresh), files(there)
    return one.keys() == other.keys() and all(file_digest(one[name]) == file_digest(other[name]) for name in one)
