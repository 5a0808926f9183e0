"""What a page of human review stands on: the images in their order, what the reviewer has said of each, and what is written next.

A reviewer sees their own decisions and those of filters, never those of another reviewer, so that agreement means something. In an audit
(`audit=50`) they do not see the filters' either: 50 images that a filter dropped come shuffled among as many that none did.
"""

from __future__ import annotations

import io
import threading
import tomllib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate import codec
from mitate.curation.agreement import OPEN, Agreement, Audit, agreed, agreements, audited
from mitate.curation.ledger import START, Decision, Ledger, Standing, reviewer
from mitate.errors import DataError, SettingError
from mitate.images import FileReader
from mitate.intake.imagefolder import list_folder
from mitate.intake.listing import Listing, shown
from mitate.intake.shards import TAR
from mitate.intake.tables import SUFFIXES as TABLES
from mitate.runtime import seed_of

LETTERS = {"keep": "k", "drop": "d", "relabel": "r"}
SIDE = 192  # pixels of a thumbnail's longer side; twice what the sheet shows by default, for sharp screens
CACHE = 64_000_000  # bytes of thumbnails held in memory
LARGEST = 200_000_000  # bytes of an image file
MOST_CHECKS = 9  # one key each
MOST_AT_ONCE = 1000  # images of one decision


@dataclass(frozen=True)
class Change:
    """What a decision changed: image numbers, and the letter that now stands for each ("." for none)."""

    numbers: tuple[int, ...]
    letters: str
    torn: str = ""


@dataclass(frozen=True)
class Figures:
    """How far everybody is, how two agree, what an audit found. `open`: images that this reviewer judged and on which people disagree."""

    counts: dict[str, dict[str, int]]  # by person: keep, drop, relabel
    pairs: tuple[Agreement, ...]
    audit: Audit
    open: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """An image as the page gets it."""

    kind: str  # image/png or image/jpeg
    data: bytes


class Review:
    """One reviewer's view of the image set in `folder`. Safe to use from several threads; other processes may write to the same ledger."""

    def __init__(self, folder: Path | str, *, by: str, checks: Sequence[str] = (), audit: int = 0, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.by = reviewer(by)
        self.checks = _checks(checks)
        self.seed = seed if audit else None
        self.listing = list_set(self.folder)
        self.ledger = Ledger(self.folder)
        self._lock = threading.RLock()
        self._place, self._standing = START, Standing()
        self._own: list[Decision] = []  # this reviewer's, not undone, in order; an audit's own where this is one
        self._numbers: dict[str, int] = {}
        self.refresh()
        self.order = self._sample(audit, seed) if audit else tuple(range(len(self.listing.rows)))
        self._numbers = {self.listing.rows[row].name: number for number, row in enumerate(self.order)}
        self.classes = tuple(dict.fromkeys((*self.listing.class_names(), *(d.label for d in self._own if d.label))))
        self.unknown = len(set(self._standing.files()) - {row.name for row in self.listing.rows})
        self._thumbnails: OrderedDict[int, Encoded] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return len(self.order)

    def name(self, number: int) -> str:
        return self.listing.rows[self.order[number]].name

    # what is known ----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what others have written since."""
        with self._lock:
            lines = self.ledger.since(self._place)
            if lines.afresh:
                self._standing, self._own = Standing(), []
            for d in lines.decisions:
                self._take(d)
            self._place = lines

    def columns(self) -> dict[str, Any]:
        """Of every image in order, small enough for tens of thousands: class index (-1 for none), own decision and filters' decision as letters."""
        with self._lock:
            index = {label: k for k, label in enumerate(self.classes)}
            labels = [-1 if (label := self.listing.rows[row].label) is None else index[label] for row in self.order]
            return {"labels": labels, "mine": "".join(map(self._mine, range(len(self)))), "filtered": "".join(map(self._filtered, range(len(self))))}

    def item(self, number: int) -> dict[str, Any]:
        """What the page tells of one image. Nothing of other reviewers; in an audit, nothing of filters."""
        row = self.listing.rows[self.order[number]]
        with self._lock:
            said = self._standing.of(row.name)
        own = self._own_of(said)
        filters = [] if self.seed is not None else sorted((d for d in said.values() if d.by_filter), key=lambda d: d.by)
        return {
            "file": shown(row.name),
            "class": row.label,
            "caption": row.caption,
            "mine": {"decision": own.decision, "label": own.label, "checks": list(own.checks)} if own else None,
            "filters": [
                {"by": d.by.partition(":")[2], "decision": d.decision, "label": d.label, "reason": d.reason, "score": d.score} for d in filters
            ],
        }  # fmt: skip

    def figures(self) -> Figures:
        """How far everybody is, how two agree, what an audit found."""
        self.refresh()
        with self._lock:
            people = [by for by in self._standing.names() if not by.startswith("filter:")]
            counts = {by: {k: 0 for k in LETTERS} for by in people}
            for by in people:
                for d in self._standing.by(by).values():
                    counts[by][d.decision] += 1
            judged = [n for n in range(len(self)) if self._mine(n) != "."]
            opened = tuple(n for n in judged if (held := agreed(self._standing.of(self.name(n)))) is not None and held.state == OPEN)
            return Figures(counts, agreements(self._standing), audited(self._standing), opened)

    # what is decided --------------------------------------------------------------------------------------------------

    def decide(self, numbers: Sequence[int], decision: str, *, label: str | None = None, checks: Sequence[int] = ()) -> Change:
        """Write one decision on each of `numbers`, as one; it is on the disk when this returns. checks: numbers of what the images fail."""
        if not 0 < len(numbers) <= MOST_AT_ONCE or not all(0 <= n < len(self) for n in numbers) or len(set(numbers)) != len(numbers):
            raise SettingError("There is no such image.", fix=f"give the numbers of 1 to {MOST_AT_ONCE} images of this set")
        if decision not in LETTERS:
            raise SettingError(f"{decision!r} is no decision.", fix="keep, drop or relabel")
        if not all(0 <= k < len(self.checks) for k in checks):
            raise SettingError("There is no such line of the checklist.", fix="reload the page")
        failed = tuple(self.checks[k] for k in sorted(set(checks)))
        label = label.strip() if label else None
        fresh = [Decision(self.name(n), decision, self.by, label, checks=failed, seed=self.seed) for n in numbers]
        return self._write(fresh, numbers)

    def undo(self, numbers: Sequence[int] = ()) -> Change:
        """Take back this reviewer's last decision (all images of it), or what they last said of each of `numbers`."""
        with self._lock:
            if numbers:
                if not all(0 <= n < len(self) for n in numbers):
                    raise SettingError("There is no such image.", fix="give numbers of images of this set")
                files = [self.name(n) for n in numbers if self._mine(n) != "."]
            else:
                last = self._own[-1].time if self._own else ""
                files = [d.file for d in self._own[-MOST_AT_ONCE:] if d.time == last]
            if not files:
                return Change((), "")
            fresh = [Decision(file, "undo", self.by, seed=self.seed) for file in files]
            return self._write(fresh, [self._numbers[file] for file in files if file in self._numbers])

    def _write(self, fresh: Sequence[Decision], numbers: Sequence[int]) -> Change:
        with self._lock:
            torn = self.ledger.append(fresh).torn
            self.refresh()  # reads back what was written, behind what others wrote first
            return Change(tuple(numbers), "".join(map(self._mine, numbers)), torn)

    def _take(self, d: Decision) -> None:
        self._standing.add(d)
        if d.by != self.by:
            return
        if d.decision != "undo":
            if self.seed is None or d.seed == self.seed:
                self._own.append(d)
            return
        for k in range(len(self._own) - 1, -1, -1):
            if self._own[k].file == d.file:
                del self._own[k]
                return

    def _own_of(self, said: Any) -> Decision | None:
        own = said.get(self.by)
        return own if own is not None and (self.seed is None or own.seed == self.seed) else None

    def _mine(self, number: int) -> str:
        own = self._own_of(self._standing.of(self.name(number)))
        return LETTERS[own.decision] if own else "."

    def _filtered(self, number: int) -> str:
        if self.seed is not None:
            return "."
        held = agreed({by: d for by, d in self._standing.of(self.name(number)).items() if d.by_filter})
        return LETTERS.get(held.state, "r") if held else "."

    def _sample(self, count: int, seed: int) -> tuple[int, ...]:
        """`count` images that a filter dropped and as many that none did, all shuffled together; a smaller sample is part of a larger one."""
        dropped: list[int] = []
        rest: list[int] = []
        for row, known in enumerate(self.listing.rows):
            out = any(d.by_filter and d.decision == "drop" for d in self._standing.of(known.name).values())
            (dropped if out else rest).append(row)
        if not dropped:
            raise SettingError("No filter has dropped an image of this set.", fix="leave --audit out, or run a filter first")

        def drawn(rows: list[int], word: str) -> list[int]:
            return sorted(rows, key=lambda row: seed_of(word, seed, self.listing.rows[row].name))

        both = [*drawn(dropped, "audit")[:count], *drawn(rest, "audit")[: min(count, len(dropped))]]
        return tuple(drawn(both, "audit order"))

    # pictures ---------------------------------------------------------------------------------------------------------

    def picture(self, number: int) -> Encoded:
        """The image as it is, as a PNG."""
        return _png(self._pixels(number))

    def thumbnail(self, number: int) -> Encoded:
        """The image at most SIDE pixels wide and high; small images as they are. The latest are held in memory."""
        with self._lock:
            if (found := self._thumbnails.get(number)) is not None:
                self._thumbnails.move_to_end(number)
                return found
        fresh = _small(self._pixels(number))
        with self._lock:
            if number not in self._thumbnails:
                self._thumbnails[number] = fresh
                self._held += len(fresh.data)
            while self._held > CACHE and len(self._thumbnails) > 1:
                self._held -= len(self._thumbnails.popitem(last=False)[1].data)
        return fresh

    def _pixels(self, number: int) -> Any:
        reader = self.listing.reader
        assert isinstance(reader, FileReader)
        path = reader.root / reader.files[self.order[number]]
        name = shown(self.name(number))
        try:
            inside = path.resolve().is_relative_to(reader.root)
            size = path.stat().st_size
        except (OSError, RuntimeError) as wrong:
            raise DataError(f"{name} cannot be read.", fix="bring the file back") from wrong
        if not inside or not path.is_file():  # a link may have come since the folder was listed
            raise DataError(f"{name} leads out of the set.", fix="copy the file into the set")
        if size > LARGEST:
            raise DataError(f"{name} has {size / 1e6:.0f} MB.", fix="shrink it, or take it out")
        return codec.decode(path, name=name).pixels


def list_set(folder: Path) -> Listing:
    """The images of a folder, undecoded. Links that leave it are refused, and shards."""
    if not folder.is_dir():
        raise DataError(f"{shown(str(folder))} is no folder.", fix="give a folder of images, as mitate generate writes it")
    try:
        listing = list_folder(folder)
    except DataError as wrong:
        if not any(p.name.endswith((*TAR, *TABLES)) for p in folder.iterdir()):
            raise
        what = f"{shown(str(folder))} holds shards, and decisions stand beside files of single images."
        raise DataError(what, fix="write the set with --format folder, decide, and give --format again when it is exported") from wrong
    if len({row.name for row in listing.rows}) != len(listing.rows):
        raise DataError(f"Two images of {shown(str(folder))} have the same name.", fix="give the files names in UTF-8")
    return listing


def checklist(plan: Path | None, given: Sequence[str]) -> tuple[str, ...]:
    """The lines of a checklist: those of a TOML plan (`checklist = ["...", ...]`), then those typed."""
    lines: list[str] = []
    if plan is not None:
        try:
            found = tomllib.loads(plan.read_text(encoding="utf-8-sig")).get("checklist")
        except OSError as wrong:
            raise SettingError(f"The plan {plan} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
        except (ValueError, RecursionError) as wrong:
            raise SettingError(f"The plan {plan} is not TOML: {wrong}.", fix="mend that line") from wrong
        if not isinstance(found, list) or not found or not all(isinstance(line, str) for line in found):
            raise SettingError(f"The plan {plan} has no checklist.", fix='write checklist = ["Exactly one leaf", "No text"]')
        lines += found
    return _checks([*lines, *given])


def _checks(given: Sequence[str]) -> tuple[str, ...]:
    lines = tuple(dict.fromkeys(" ".join(line.split()) for line in given))
    if len(lines) > MOST_CHECKS or not all(0 < len(line) <= 120 and line.isprintable() for line in lines):
        raise SettingError(f"The checklist has {len(lines)} lines.", fix=f"give at most {MOST_CHECKS} of 1 to 120 characters: each has a key")
    return lines


def _png(pixels: Any) -> Encoded:
    out = io.BytesIO()
    codec.to_image(pixels).save(out, "PNG", compress_level=1)
    return Encoded("image/png", out.getvalue())


def _small(pixels: Any) -> Encoded:
    if max(pixels.shape[:2]) <= SIDE:
        return _png(pixels)
    image, out = codec.to_image(pixels), io.BytesIO()
    image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    image.save(out, "JPEG", quality=88)
    return Encoded("image/jpeg", out.getvalue())
