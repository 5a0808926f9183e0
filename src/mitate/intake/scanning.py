"""Scan a set for synthetic images that came back as real: by the marks in their files, and by their pixels against known synthetic sets.

    scan_listing(listing_of("data/"), [Known("fakes", listing_of("fakes/"))])

Every image gets one verdict: `marked` (its file says that a model made it), `copy` (of a known synthetic image), `original` (a real image
that a generator was fitted on and has copied), `clean`, or `unreadable`. Nothing is moved, changed or deleted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mitate.codec import SUFFIXES
from mitate.errors import DataError, SettingError
from mitate.files import write_json, write_text, writing
from mitate.intake.duplicates import FLAT, SIDE
from mitate.intake.imagefolder import list_files
from mitate.intake.listing import Listing, shown
from mitate.intake.opening import Source, list_source
from mitate.intake.seen import Look, look, traced
from mitate.intake.tracing import Copy
from mitate.progress import Progress, Silent
from mitate.store import Store

FORMAT = 1  # of the record; raise it when a reader of the JSON would have to change
VERDICTS = ("marked", "copy", "original", "clean", "unreadable")
FOUND = ("marked", "copy")
SHOWN = 20  # found images that the summary names
PARTS = 10_000  # of the whole, in progress
TURNED = (  # by tracing's three bits
    "", "mirrored", "upside down", "turned by 180 degrees",
    "mirrored and turned by 90 degrees", "turned by 90 degrees", "turned by 90 degrees", "mirrored and turned by 90 degrees",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """Images known to be synthetic. originals: pixel digests of the real images that their generator was fitted on."""

    name: str
    listing: Listing
    originals: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """What was found about one image. A marked image may also be a copy; then both are told."""

    name: str
    verdict: str  # one of VERDICTS
    mark: str | None = None
    known: str | None = None  # the known set it is a copy from
    copy_of: str | None = None  # the image there
    by: str | None = None  # how it was changed: "pixel for pixel", "mirrored, cropped to 81 x 90 %", ...
    residual: float | None = None  # share of variance that the known image does not explain
    expected: float | None = None  # what it would be for a distinct image

    @property
    def why(self) -> str:
        """One line for people."""
        told = [f"marked: {self.mark}"] if self.mark else []
        if self.copy_of is not None:
            whose = "was copied by the generator of" if self.verdict == "original" else "copy of"
            told.append(f"{whose} {shown(self.known or '')}: {shown(self.copy_of)} ({self.by})")
        return "; ".join(told) or self.verdict


@dataclass(frozen=True)
class Scan:
    """The verdicts on a set, in its order. `found` are the names of marked images and copies."""

    name: str
    verdicts: tuple[Verdict, ...]
    known: tuple[tuple[str, int], ...] = ()  # name and number of readable images of each known set
    signed: tuple[str, ...] = ()  # carry a C2PA manifest that names no model: cameras sign photographs, too
    notes: tuple[str, ...] = field(default=())

    @property
    def found(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.verdicts if v.verdict in FOUND)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each verdict, also of those that did not occur."""
        there = Counter(v.verdict for v in self.verdicts)
        return {kind: there[kind] for kind in VERDICTS}

    @property
    def record(self) -> dict[str, Any]:
        """Everything, as written to JSON; fields that say nothing are left out."""
        rows = [{k: v for k, v in vars(verdict).items() if v is not None} for verdict in self.verdicts]
        return {
            "format": FORMAT, "images": self.name, "counts": {"images": len(self.verdicts), **self.counts},
            "known": [{"name": name, "images": n} for name, n in self.known], "signed": list(self.signed), "notes": list(self.notes), "verdicts": rows,
        }  # fmt: skip

    def __str__(self) -> str:
        """The first found images and the counts."""
        rows = [v for v in self.verdicts if v.verdict in (*FOUND, "original")]
        lines = [f"{v.verdict:8} {shown(v.name)}  {v.why}" for v in rows[:SHOWN]]
        if len(rows) > SHOWN:
            lines.append(f"... and {len(rows) - SHOWN} more")
        counts = self.counts
        told = ", ".join(f"{counts[kind]} {kind if kind != 'copy' or counts[kind] == 1 else 'copies'}" for kind in VERDICTS if counts[kind] or kind in FOUND)
        against = f" against {_images(sum(n for _, n in self.known), 'known synthetic ')}" if self.known else ""
        return "\n".join([*lines, *self.notes, f"{shown(self.name)}: {_images(len(self.verdicts))}{against}: {told}"])


def listing_of(source: Source) -> Listing:
    """What a source holds, labels and splits aside: every image file of a folder, one image file, or whatever `open_images` takes."""
    if isinstance(source, (str, Path)) and str(source).strip():
        path = Path(source).expanduser()
        try:
            is_image = path.suffix.lower() in SUFFIXES and path.is_file()
            if is_image or (path.is_dir() and _holds_images(path)):
                return list_files(path)
        except (OSError, ValueError):  # list_source says what is wrong with the path
            pass
    return list_source(source)


def scan_listing(listing: Listing, known: Sequence[Known] = (), *, store: Store | None = None, progress: Progress | None = None) -> Scan:
    """A verdict on every image of `listing`. Raises DataError where nothing in it, or nothing in a known set, can be read."""
    told = progress or Silent()
    n, m = len(listing.rows), sum(len(k.listing.rows) for k in known)
    if n == 0:
        raise DataError(f"{shown(listing.name)} holds no images.", fix="give images to look at")
    stamps = {row.stamp for row in listing.rows}
    for one in known:
        if None not in stamps and stamps <= {row.stamp for row in one.listing.rows}:
            raise DataError(f"Every image of {shown(listing.name)} is one of the known images {shown(one.name)}.", fix="give --known a folder of its own")
    reading, whole = n + m, n + m + 4 * n * (1 + m // 10_000) * bool(m)
    looks, broken = look(listing, store=store, progress=_Part(told, 0, n / whole))
    if len(broken) == len(listing.rows):
        raise broken[0][1] if n == 1 else DataError(f"None of the {n} files of {shown(listing.name)} can be read.", fix=broken[0][1].fix)
    pool, sizes = _pool(known, store, _Part(told, n / whole, reading / whole))
    matches = _matches(looks, pool, store, _Part(told, reading / whole, 1))
    verdicts = tuple(_verdict(row.name, seen, matches.get(i), pool, known) for i, (row, seen) in enumerate(zip(listing.rows, looks, strict=True)))
    signed = tuple(v.name for v, seen in zip(verdicts, looks, strict=True) if seen is not None and seen.signed and v.mark is None)
    counted = tuple((k.name, size) for k, size in zip(known, sizes, strict=True))
    return Scan(listing.name, verdicts, counted, signed, _notes(broken, signed, m - sum(sizes), listing, known))


def check_places(*places: Path | None) -> None:
    """SettingError where writing to one of the places (None: not asked for) would fail, or take the place of an image, a folder or another."""
    given = [place for place in places if place is not None]
    for path in given:
        if path.is_dir():
            raise SettingError(f"{path} is a folder.", fix="name a file to write")
        if path.suffix.lower() in SUFFIXES:
            raise SettingError(f"{path} has the name of an image.", fix="name it like scan.json or drop.txt")
        above = next((p for p in path.absolute().parents if p.exists()), path.absolute())
        if not above.is_dir():
            raise SettingError(f"{above} is a file, so {path} cannot be written.", fix="choose another place")
    if len({path.resolve() for path in given}) < len(given):
        raise SettingError(f"{given[-1]} is named twice.", fix="name a file for each")


def write_scan(found: Scan, path: Path) -> None:
    """Write the record of a scan as JSON."""
    with writing(path):
        write_json(path, found.record)


def write_drop_list(found: Scan, path: Path) -> None:
    """Write the names of the images found, one a line, below the folder that was scanned. A name with a line break cannot be told so."""
    if unfit := [name for name in found.found if len(name.splitlines()) > 1 or "\ufffd" in name]:
        raise DataError(f"{shown(unfit[0])} cannot stand in a list of lines (line break, or bytes that are no UTF-8).", fix="use --json, or rename the file")
    with writing(path):
        write_text(path, "".join(f"{name}\n" for name in found.found))


# known images ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    """Distinct known images, in order: the set of each, its row there, and how it looks."""

    sets: list[int]
    rows: list[int]
    looks: list[Look]


@dataclass(frozen=True)
class _Match:
    """Image matched with known image `at` of the pool."""

    at: int
    by: str
    residual: float
    expected: float


def _pool(known: Sequence[Known], store: Store | None, progress: Progress) -> tuple[_Pool, list[int]]:
    """Every distinct known image, and how many of each set could be read."""
    pool, sizes, there = _Pool([], [], []), [], set()
    done, total = 0, sum(len(k.listing.rows) for k in known)
    for number, one in enumerate(known):
        looks, broken = look(one.listing, store=store, progress=_Part(progress, done / total, (done + len(one.listing.rows)) / total))
        done += len(one.listing.rows)
        if len(broken) == len(looks):
            raise DataError(f"None of the {len(looks)} known images of {shown(one.name)} can be read.", fix=broken[0][1].fix)
        sizes.append(len(looks) - len(broken))
        for row, seen in enumerate(looks):
            if seen is not None and seen.digest not in there:
                there.add(seen.digest)
                pool.sets.append(number)
                pool.rows.append(row)
                pool.looks.append(seen)
    return pool, sizes


def _matches(looks: Sequence[Look | None], pool: _Pool, store: Store | None, progress: Progress) -> dict[int, _Match]:
    """The known image that each image is a copy of, by its row."""
    same = {seen.digest: at for at, seen in enumerate(pool.looks)}
    found: dict[int, _Match] = {}
    rest: list[tuple[int, Look]] = []
    for i, seen in enumerate(looks):
        if seen is None:
            continue
        if seen.digest in same and _thumbs([seen]).std() >= FLAT:  # two blank pictures are the same and prove nothing
            found[i] = _Match(same[seen.digest], "pixel for pixel", 0.0, math.nan)
        else:
            rest.append((i, seen))
    if not rest or not pool.looks:
        return found
    for copy in traced([seen for _, seen in rest], pool.looks, store=store, progress=progress):
        i, seen = rest[copy.row]
        found[i] = _Match(copy.known, _by(copy, seen, pool.looks[copy.known]), copy.residual, copy.expected)
    return found


def _by(copy: Copy, seen: Look, known: Look) -> str:
    """How a copy was changed, as far as thumbnails and sizes tell."""
    told = [TURNED[copy.turn]] if copy.turn else []
    top, tall, left, wide = copy.window
    if min(tall, wide) < 0.965:
        told.append(f"cropped to {100 * min(tall, 1):.0f} x {100 * min(wide, 1):.0f} %")
    height, width = (seen.shape[1], seen.shape[0]) if copy.turn & 4 else seen.shape[:2]
    ratio = math.sqrt(height * width / (known.shape[0] * min(tall, 1) * known.shape[1] * min(wide, 1)))
    if abs(math.log(ratio)) > 0.06:
        told.append(f"resized from {known.shape[1]} x {known.shape[0]}" if min(tall, wide) >= 0.965 else "resized")
    if seen.shape[2] == 1 and known.shape[2] == 3:
        told.append("in grey")
    rows, columns = (slice(max(0, round(a * SIDE)), max(1, round((a + b) * SIDE))) for a, b in ((top, tall), (left, wide)))
    part = _thumbs([known])[0][rows, columns]
    shift = float(_thumbs([seen])[0].mean()) - float(part.mean())
    if abs(shift) > 12 or not 0.85 < copy.gain < 1.18:
        told.append("brightness or contrast changed")
    return ", ".join(told) or "encoded again"


def _thumbs(looks: Sequence[Look]) -> np.ndarray:
    return np.frombuffer(b"".join(a.thumb for a in looks), dtype=np.uint8).reshape(len(looks), SIDE, SIDE)


# verdicts -------------------------------------------------------------------------------------------------------------


def _verdict(name: str, seen: Look | None, match: _Match | None, pool: _Pool, known: Sequence[Known]) -> Verdict:
    if seen is None:
        return Verdict(name, "unreadable")
    if match is None:
        return Verdict(name, "marked" if seen.mark else "clean", mark=seen.mark)
    one = known[pool.sets[match.at]]
    real = seen.mark is None and seen.digest in one.originals
    return Verdict(
        name, "marked" if seen.mark else "original" if real else "copy", mark=seen.mark, known=one.name, copy_of=one.listing.rows[pool.rows[match.at]].name,
        by=match.by, residual=round(match.residual, 5), expected=None if math.isnan(match.expected) else round(match.expected, 5),
    )  # fmt: skip


def _notes(broken: Sequence[tuple[int, DataError]], signed: Sequence[str], lost: int, listing: Listing, known: Sequence[Known]) -> tuple[str, ...]:
    notes = []
    if not known:
        notes.append("No synthetic images are known here, so only marks were looked for: give --known FOLDER")
    if broken:
        first = shown(listing.rows[broken[0][0]].name)
        notes.append(f"{_images(len(broken))} cannot be read and {'were' if len(broken) > 1 else 'was'} not judged: {first}" + ", ..." * (len(broken) > 1))
    if lost:
        notes.append(f"{_images(lost, 'known ')} cannot be read; copies are not found")
    if signed:
        first = shown(signed[0])
        notes.append(f"{_images(len(signed))} with a C2PA manifest that names no model, as some cameras write: {first}" + ", ..." * (len(signed) > 1))
    return tuple(notes)


# helpers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A part of longer work, from one share of it to another."""

    whole: Progress
    start: float
    stop: float

    def step(self, done: int, total: int, note: str = "") -> None:
        share = self.start + (self.stop - self.start) * done / max(total, 1)
        self.whole.step(round(PARTS * share), PARTS, note)


def _images(n: int, kind: str = "") -> str:
    return f"{n} {kind}image" + "s" * (n != 1)


def _holds_images(folder: Path) -> bool:
    """Whether a folder holds image files, and is no saved data set (whose files are tables)."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return False
    return any(p.suffix.lower() in SUFFIXES for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
