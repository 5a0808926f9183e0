"""Progress with time left, on stderr: one line that redraws itself on a terminal, a line every half minute elsewhere.

Work is counted in seconds of estimated work, so that the time left is honest when jobs differ in size.
"""

from __future__ import annotations

import sys
import time
import unicodedata
from typing import IO, Protocol

PLAIN_EVERY = 30.0  # seconds between lines where the output is not a terminal
CONTROL = ("Cc", "Cs", "Zl", "Zp")  # of Unicode: control characters, halves of characters, line ends
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the order of letters


class Progress(Protocol):
    """What long work reports to."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` parts of the present job are finished."""
        ...


class Silent:
    """Progress that nobody watches."""

    def step(self, done: int, total: int, note: str = "") -> None:
        pass


class Line:
    """Progress as one line: what runs, how far, time left."""

    def __init__(self, total: float, *, out: IO[str] | None = None, title: str = "") -> None:
        self.total = max(total, 1e-9)
        self.done = 0.0
        self.title = title
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._started = time.monotonic()
        self._shown = self._started if not self._live else 0.0
        self._width = 0

    def advance(self, amount: float, note: str = "") -> None:
        """`amount` more of the total is done; `note` says what came to an end."""
        self.done = min(self.total, self.done + amount)
        self._show(note)

    def step(self, done: int, total: int, note: str = "") -> None:
        self.done = self.total * done / max(total, 1)
        self._show(note)

    def close(self) -> None:
        if self._live and self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()

    def _show(self, note: str) -> None:
        now = time.monotonic()
        if now - self._shown < (0.1 if self._live else PLAIN_EVERY):
            return
        self._shown = now
        share = self.done / self.total
        spent = now - self._started
        left = f", about {clock(spent / share - spent)} left" if share > 0.02 else ""
        text = tame(f"{self.title} {share:4.0%}{left}" + (f"  {note}" if note else ""))
        if self._live:
            text = text[:100]
            self._out.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._out.write(text + "\n")
        self._out.flush()


def tame(text: str) -> str:
    """Text with `?` for each sign that a terminal would obey, that turns the order of letters, or that no stream can hold. A tab stays."""
    return "".join("?" if c != "\t" and (unicodedata.category(c) in CONTROL or c in TURNING) else c for c in text)


def clock(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
