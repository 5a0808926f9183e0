"""What of mitate's own code an input reaches, for benchmarks/fuzz_readers.py: steps from line to line, the inputs that are worth keeping, and these made small.

Python's trace function is asked, in files of the package alone, so nothing has to be installed or compiled; libraries below are not looked into.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import mitate

ROOT = str(Path(mitate.__file__).parent)
MOST_BYTES = 8_000  # of an input that is kept for later runs
MOST_OF_READER = 24_000  # bytes of all of them
SMALL = 200  # bytes below which an input is not made smaller
LONGEST = 30  # letters of a word that is taken from the code

Step = tuple[int, int, int]  # number of the file, line before (0: entered), line


class Reached:
    """Runs a function and tells which steps of mitate's code it took."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}  # 0: none of ours
        self._steps: set[Step] = set()

    def of(self, call: Callable[[], Any]) -> set[Step]:
        """The steps of one call; what it raises is passed on, and `last` has the steps until then."""
        self._steps = set()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(None)
        return self._steps

    @property
    def last(self) -> set[Step]:
        """Steps of the last call, also of one that raised."""
        return self._steps

    @property
    def words(self) -> tuple[str, ...]:
        """Short texts that stand in the files that were reached: keys, names, marks."""
        found: set[str] = set()
        for name in sorted(name for name, number in self._files.items() if number):
            tree = ast.parse(Path(name).read_text(encoding="utf-8"))
            found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and 0 < len(n.value) <= LONGEST}
        return tuple(sorted(word for word in found if " " not in word))

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = len(self._files) + 1 if name.startswith(ROOT) and name.endswith(".py") else 0  # no templates
        if not file:
            return None
        before, add = 0, self._steps.add

        def follow(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal before
            if event == "line":
                line = frame.f_lineno
                add((file, before, line))
                before = line
            return follow

        return follow


def chosen(inputs: Iterable[bytes], steps: Callable[[bytes], set[Step]], *, known: set[Step], seconds: float) -> list[bytes]:
    """The inputs, from small to large, that take steps which those before them do not, made as small as still takes them while there is time.

    steps: what an input reaches; known: what is reached anyhow. At most MOST_BYTES each and MOST_OF_READER in all.
    """
    ends = time.monotonic() + seconds
    kept: list[bytes] = []
    reached = set(known)
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        if new := steps(data) - reached:
            small = shrunk(data, lambda other, new=new: new <= steps(other), ends=ends)  # type: ignore[misc]
            if len(small) <= MOST_BYTES and sum(map(len, kept)) + len(small) <= MOST_OF_READER:
                kept.append(small)
                reached |= steps(small)
    return kept


def shrunk(data: bytes, same: Callable[[bytes], bool], *, ends: float) -> bytes:
    """The input without the parts, from halves to a few bytes, that it does as well without."""
    size = len(data) // 2
    while size >= 4 and len(data) > SMALL:
        at = 0
        while at < len(data) and time.monotonic() < ends:
            if same(shorter := data[:at] + data[at + size :]):
                data = shorter
            else:
                at += size
        size //= 2
    return data
