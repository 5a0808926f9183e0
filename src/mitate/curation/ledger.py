"""The ledger of an image set: one line a decision, written once, never changed.

fakes/ledger.jsonl            {"file": "rust/000007.png", "decision": "drop", "by": "filter:copies", "reason": "...", "score": 0.97, "time": "..."}

People and filters write the same lines. What holds is read off: the latest decision of each on each file, less what was undone. A decision is
written, with its line end, and synchronised with the disk before `append` returns; a kill can only tear a line that nobody was told of.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mitate.errors import DataError, SettingError, StoreError
from mitate.files import locked, writing

NAME = "ledger.jsonl"
KINDS = ("keep", "drop", "relabel", "undo")
FILTER = "filter:"  # what the name of a filter begins with; nobody else's does
LONGEST = 1000  # characters of a text in a line


@dataclass(frozen=True)
class Decision:
    """What one reviewer or filter says of one image. `undo` takes back the latest decision of the same one on the same file."""

    file: str  # the image's name inside the set, as the set is read: folders with /
    decision: str  # one of KINDS
    by: str  # a person's name, or filter:NAME
    label: str | None = None  # of relabel: the right class
    reason: str = ""
    score: float | None = None  # what a filter measured
    checks: tuple[str, ...] = ()  # what of the checklist the image fails
    seed: int | None = None  # of the blind audit that the decision was made in
    time: str = ""  # ISO 8601, UTC; the ledger's clock where it is not given

    @property
    def by_filter(self) -> bool:
        return self.by.startswith(FILTER)


@dataclass(frozen=True)
class Appended:
    """What was written, with its times. `torn`: the rest of a line that a kill had torn and that was taken off first, or ""."""

    decisions: tuple[Decision, ...]
    torn: str = ""


@dataclass(frozen=True)
class Lines:
    """Decisions of a part of the ledger, the byte and the line after them. `afresh`: the file had become shorter, these are all of its decisions."""

    decisions: tuple[Decision, ...]
    end: int
    line: int
    afresh: bool = False


START = Lines((), 0, 0)


class Ledger:
    """The ledger of the image set in `folder`. The file appears with the first decision."""

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / NAME
        self._lock = Path(folder) / f".{NAME}.lock"

    def append(self, decisions: Decision | Iterable[Decision]) -> Appended:
        """Write decisions, all or none, and return when the disk has them. One call's decisions share one time; other processes wait."""
        found = [decisions] if isinstance(decisions, Decision) else list(decisions)
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        whole = tuple(replace(d, time=d.time or now) for d in found)
        data = b"".join(_line(checked(d)) for d in whole)
        if not whole:
            return Appended(())
        with writing(self.path):
            self._refuse_link()
            if not self.path.parent.is_dir():
                raise StoreError(f"{self.path.parent} is not there any more.", fix="bring the image set back to its place")
            with locked(self._lock):
                return Appended(whole, self._write(data))

    def read(self) -> tuple[Decision, ...]:
        """Every decision, in the order in which they were made. A torn last line is passed over: nobody was told that it was written."""
        return self.since(START).decisions

    def since(self, place: Lines) -> Lines:
        """The decisions after `place`; all of them where the file has become shorter since."""
        self._refuse_link()
        try:
            with open(self.path, "rb") as file:
                shorter = file.seek(0, os.SEEK_END) < place.end
                place = START if shorter else place
                file.seek(place.end)
                data = file.read()
        except FileNotFoundError:
            return replace(START, afresh=place.end > 0)
        except OSError as wrong:
            raise DataError(f"{self.path} cannot be read ({wrong.strerror}).", fix="check its permissions") from wrong
        whole = data.rfind(b"\n") + 1
        return Lines(tuple(self._decode(data[:whole], place.line)), place.end + whole, place.line + data.count(b"\n"), shorter)

    def _refuse_link(self) -> None:
        if self.path.is_symlink():
            raise StoreError(f"{self.path} is a link: decisions would be written somewhere else.", fix="put the file itself there, or move the link away")

    def _decode(self, data: bytes, before: int) -> Iterator[Decision]:
        import msgspec

        decode = msgspec.json.Decoder(Decision).decode
        for number, line in enumerate(data.split(b"\n")[:-1], start=before + 1):
            if not line.strip():
                continue
            try:
                yield _sound(decode(line))
            except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
                raise DataError(
                    f"{self.path} line {number} is no decision ({wrong}).", fix="take that line out with a text editor, or bring the file back from a copy"
                ) from None

    def _write(self, data: bytes) -> str:
        """Put whole lines behind the last whole line. Returns what was torn."""
        new = not self.path.exists()
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666), "r+b") as file:
            end, torn = _whole(file)
            if torn or file.seek(0, os.SEEK_END) != end:
                file.truncate(end)
            try:
                file.seek(end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # half a batch must not look like one
                raise
        if new:
            _sync(self.path.parent)
        return torn


class Standing:
    """What holds: for each file the latest decision of each reviewer and filter, after what was undone.

    `Standing(ledger.read())`; `add` takes further decisions in the order of the ledger. An undo brings back what the same one had said before.
    """

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._said: dict[str, dict[str, list[Decision]]] = {}
        for d in decisions:
            self.add(d)

    def add(self, decision: Decision) -> None:
        said = self._said.setdefault(decision.file, {})
        if decision.decision != "undo":
            said.setdefault(decision.by, []).append(decision)
        elif decision.by in said:
            said[decision.by].pop()
            if not said[decision.by]:
                del said[decision.by]

    def of(self, file: str) -> Mapping[str, Decision]:
        """What holds of a file, by who says so, filters and people."""
        return {by: said[-1] for by, said in self._said.get(file, {}).items()}

    def by(self, name: str) -> dict[str, Decision]:
        """What holds of one reviewer or filter, by file."""
        return {file: said[name][-1] for file, said in self._said.items() if name in said}

    def files(self) -> Iterator[str]:
        """Files of which something holds."""
        return (file for file, said in self._said.items() if said)

    def names(self) -> tuple[str, ...]:
        """Everybody of whom something holds: people first, then filters, each in order of name."""
        found = {by for said in self._said.values() for by in said}
        return tuple(sorted(found, key=lambda by: (by.startswith(FILTER), by)))


def checked(decision: Decision) -> Decision:
    """The decision, if it can be written; SettingError with what is wrong with it."""
    try:
        return _sound(decision)
    except ValueError as wrong:
        raise SettingError(f"A decision cannot be written: {wrong}.", fix="correct it; docs/review.md says what a line holds") from None


def reviewer(name: str) -> str:
    """A person's name as it is written in the ledger; SettingError for one that cannot be."""
    name = name.strip()
    if not name or name.startswith(FILTER) or len(name) > 100 or not name.isprintable():
        raise SettingError(f"{name!r} cannot be a reviewer's name.", fix="give a short name with --as, like --as anna")
    return name


def _sound(d: Decision) -> Decision:
    if d.decision not in KINDS:
        raise ValueError(f"{d.decision!r} is not one of {', '.join(KINDS)}")
    if not d.by or d.by == FILTER or len(d.by) > 2 * 100 or not d.by.isprintable():
        raise ValueError(f"{d.by!r} is nobody")
    if not d.file or d.file.startswith("/") or "\0" in d.file or ".." in d.file.split("/"):
        raise ValueError(f"{d.file!r} is not a name inside the set")
    if (d.decision == "relabel") != bool(d.label and d.label.strip()):
        raise ValueError("relabel needs a label, and nothing else has one")
    if any(len(text) > LONGEST for text in (d.reason, d.label or "", *d.checks)):
        raise ValueError(f"a text has more than {LONGEST} characters")
    if d.score is not None and not math.isfinite(d.score):
        raise ValueError(f"the score {d.score} is no number")
    return d


def _line(d: Decision) -> bytes:
    values: dict[str, Any] = {"file": d.file, "decision": d.decision, "by": d.by}
    values |= {k: v for k in ("label", "reason", "score", "checks", "seed", "time") if (v := getattr(d, k)) not in (None, "", ())}
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError as wrong:
        raise SettingError("A decision holds characters that are no text.", fix="use another label or reason") from wrong


def _whole(file: Any) -> tuple[int, str]:
    """Where the last whole line ends, and what stands behind it."""
    size = file.seek(0, os.SEEK_END)
    tail, start = b"", size
    while start > 0 and b"\n" not in tail:
        start = max(0, start - 65536)
        file.seek(start)
        tail = file.read(size - start)
    end = start + tail.rfind(b"\n") + 1
    return end, tail[end - start :].decode("utf-8", "replace")


def _sync(folder: Path) -> None:
    """Make the disk keep a new name in a folder. Systems that cannot open folders keep it by themselves."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
