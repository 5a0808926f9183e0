"""A benchmark made of cells: one JSON line a cell in a file that grows, so that a run that was broken off goes on where it was."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mitate.metrics.intervals import quantile_t, wilson

Row = dict[str, Any]  # what is kept of a cell, its name included
Cell = tuple[Row, Callable[[], Row | None]]  # a name, and what computes the row; None where the cell cannot be had


def read(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def share(right: int, n: int, *, digits: int) -> list[float]:
    """A share as a row holds it: value, low and high of Wilson's 95 % interval, rounded."""
    found = wilson(right, n)
    return [round(v, digits) for v in (right / n, found.low, found.high)]


def interval(values: Sequence[float], digits: int) -> str:
    """The mean with Student's 95 % interval, in words; of one value the value alone."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = quantile_t(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} ({mean - half:.{digits}f} to {mean + half:.{digits}f})"


def fill(path: Path, cells: Iterable[Cell], *, tell: Callable[[Row, Row], str]) -> None:
    """Compute the cells that `path` holds no row of, each appended as soon as it is finished. tell: of name and row, the line to print.

    A cell is finished where a row holds everything that its name holds: settings that are not in the name (how many worlds) are not compared.
    """
    rows = read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as out:
        for name, compute in cells:
            if any(all(row.get(k) == v for k, v in name.items()) for row in rows):
                continue
            if (row := compute()) is not None:
                out.write(json.dumps(row) + "\n")
                out.flush()
                rows.append(row)  # a name may come twice
                print(tell(name, row), flush=True)
