"""Decode every image once and remember it: pixel digest, marks, shape and a small thumbnail, by (path, size, mtime_ns).

The memory is `seen.jsonl` in the store, and `near/` for what large sets were found to share. It is only a memory: a damaged line is passed
over, a store that cannot be written is no error, and deleting the files costs time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mitate.errors import DataError, StoreError
from mitate.files import whole, write_text
from mitate.intake.duplicates import SIDE, Pair, near_copies, near_duplicates, thumbnail
from mitate.intake.listing import Listing, SourceError, Stamp
from mitate.intake.tracing import Copy, copies
from mitate.progress import Progress, Silent
from mitate.store import Store

VERSION = 2  # raise it when decoding, marks or thumbnails change
RULE = 2  # raise it when the rule of near-duplicates changes
TRACING = 1  # raise it when the rule of changed copies (tracing) changes
WORTH_KEEPING = 2000  # images; below this comparing takes under a second
WORTH_TRACING = 200  # images; tracing takes a few milliseconds each
LARGEST = 1_000_000_000  # bytes, about 650,000 images; a larger memory forgets all images but those that are looked at, however many these are
BATCH = 1000  # images remembered at a time, so that a killed look need not begin again


@dataclass(frozen=True)
class Look:
    """What decoding an image tells."""

    digest: str
    mark: str | None
    shape: tuple[int, int, int]  # h, w, c
    thumb: bytes  # uint8 [SIDE, SIDE], row by row
    signed: bool = False  # as in codec.Picture


def look(listing: Listing, *, store: Store | None = None, progress: Progress | None = None) -> tuple[list[Look | None], list[tuple[int, DataError]]]:
    """A Look of each row, None where it could not be decoded, and the (row, error) of those."""
    path = (store or Store.find()).root / "seen.jsonl"
    wanted = {row.stamp for row in listing.rows if row.stamp}
    known = _recall(path, wanted)
    room = False
    looks: list[Look | None] = []
    broken: list[tuple[int, DataError]] = []
    fresh: list[tuple[Stamp, Look]] = []
    told = progress or Silent()
    for i, row in enumerate(listing.rows):
        found = known.get(row.stamp) if row.stamp else None
        if found is None:
            try:
                picture = listing.picture(i)
            except SourceError:  # says nothing of this image alone
                raise
            except DataError as wrong:
                broken.append((i, wrong))
                looks.append(None)
                continue
            h, w, c = picture.pixels.shape
            found = Look(picture.digest, picture.synthetic, (h, w, c), thumbnail(picture.pixels).tobytes(), picture.signed)
            if row.stamp:
                fresh.append((row.stamp, found))
            if len(fresh) == BATCH:
                room = room or _make_room(path, wanted)
                _remember(path, fresh)
                fresh = []
        looks.append(found)
        told.step(i + 1, len(listing.rows), "reading")
    if fresh:
        room = room or _make_room(path, wanted)
        _remember(path, fresh)
    return looks, broken


def near_pairs(looks: Sequence[Look], *, store: Store | None = None) -> list[Pair]:
    """Near-duplicates among images; remembered for large sets, by what was compared."""
    thumbs, sides = _compared(looks)
    return _remembered("", [thumbs, sides], lambda: near_duplicates(thumbs, sides), store)


def near_leaks(outside: Sequence[Look], held: Sequence[Look], *, store: Store | None = None) -> list[Pair]:
    """Images of `outside` (row a) that are near copies of one of `held` (row b); remembered like `near_pairs`."""
    (ours, our_sides), (theirs, their_sides) = _compared(outside), _compared(held)
    return _remembered("leaks", [ours, our_sides, theirs, their_sides], lambda: near_copies(ours, theirs, our_sides, their_sides), store)


def traced(ours: Sequence[Look], known: Sequence[Look], *, store: Store | None = None, progress: Progress | None = None) -> list[Copy]:
    """Images of `ours` that are copies of one of `known`, also cropped, mirrored and brightened ones (tracing); remembered for large sets."""
    (thumbs, sides), (theirs, _) = _compared(ours), _compared(known)
    shapes = [seen.shape[:2] for seen in known]

    def trace() -> list[Copy]:
        return copies(thumbs, theirs, sides=sides, known_shapes=shapes, progress=progress)

    if len(ours) < WORTH_TRACING:
        return trace()
    path = _place(f"copies {TRACING}", [thumbs, sides, theirs, np.array(shapes, dtype=np.int64)], store)
    try:
        return [_copy(*values) for values in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, RecursionError, OverflowError):
        found = trace()
    with contextlib.suppress(OSError, StoreError):
        write_text(path, json.dumps([[c.row, c.known, c.residual, c.expected, c.turn, c.window, c.gain] for c in found]))
    return found


def _copy(row: int, known: int, residual: float, expected: float, turn: int, window: Sequence[float], gain: float) -> Copy:
    top, height, left, width = map(float, window)
    return Copy(int(row), int(known), float(residual), float(expected), int(turn), (top, height, left, width), float(gain))


def _compared(looks: Sequence[Look]) -> tuple[np.ndarray, np.ndarray]:
    thumbs = np.frombuffer(b"".join(a.thumb for a in looks), dtype=np.uint8).reshape(len(looks), SIDE, SIDE)
    return thumbs, np.array([min(a.shape[:2]) for a in looks], dtype=np.int64)


def _remembered(what: str, arrays: Sequence[np.ndarray], compare: Callable[[], list[Pair]], store: Store | None) -> list[Pair]:
    if sum(len(a) for a in arrays) // 2 < WORTH_KEEPING:
        return compare()
    path = _place(what, arrays, store)
    try:
        return [Pair(*map(int, p[:2]), *map(float, p[2:])) for p in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, RecursionError, OverflowError):
        pairs = compare()
    with contextlib.suppress(OSError, StoreError):
        write_text(path, json.dumps([[p.a, p.b, p.residual, p.spacing] for p in pairs]))
    return pairs


def _place(what: str, arrays: Sequence[np.ndarray], store: Store | None) -> Path:
    """Where the answer about these arrays is remembered."""
    name = hashlib.sha256(f"{VERSION}\0{RULE}\0{what}\0".encode())
    for array in arrays:
        name.update(f"{array.shape}\0".encode())
        name.update(np.ascontiguousarray(array).data)
    return (store or Store.find()).root / "near" / f"{name.hexdigest()[:32]}.json"


def _recall(path: Path, wanted: set[Stamp]) -> dict[Stamp, Look]:
    known: dict[Stamp, Look] = {}
    with contextlib.suppress(OSError):
        for _, stamp, look in _lines(path, wanted):
            known[stamp] = look
    return known


def _lines(path: Path, wanted: set[Stamp]) -> Iterator[tuple[bytes, Stamp, Look]]:
    """What is remembered of the images that are wanted, line by line."""
    if not wanted:
        return
    head = os.path.commonprefix([s.place for s in wanted])
    start = json.dumps([VERSION, head])[:-2].encode()  # lines of other folders are not even parsed
    with open(path, "rb") as lines:
        for line in lines:
            if not line.startswith(start):
                continue
            try:
                _, place, size, mtime_ns, digest, mark, signed, (h, w, c), thumb = json.loads(line)
                stamp = Stamp(place, size, mtime_ns)
                raw = base64.b64decode(thumb, validate=True)
                if stamp in wanted and len(raw) == SIDE * SIDE and len(digest) == 32:
                    yield line, stamp, Look(digest, mark, (int(h), int(w), int(c)), raw, bool(signed))
            except (ValueError, TypeError, RecursionError, OverflowError):
                continue


def _make_room(path: Path, wanted: set[Stamp]) -> bool:
    """Forget other images where the memory has become too large. What another process remembers meanwhile may be lost: it is only a memory."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LARGEST:
            with whole(path) as fresh, open(fresh, "wb") as out:
                out.writelines(line for line, _, _ in _lines(path, wanted))
    return True


def _remember(path: Path, fresh: list[tuple[Stamp, Look]]) -> None:
    lines = [
        json.dumps([VERSION, s.place, s.size, s.mtime_ns, a.digest, a.mark, a.signed, a.shape, base64.b64encode(a.thumb).decode()])
        for s, a in fresh
        if s.size >= 0
    ]
    if not lines:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as out:
            out.write(("\n" + "\n".join(lines) + "\n").encode())  # the first newline ends a line that a kill left half written
    except OSError:
        return
