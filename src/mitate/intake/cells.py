"""Images of tables, read when they are asked for: the chunks read last are kept, HELD bytes of them for all tables together.

In order, a table is read once, whatever its size. Out of order each image costs the chunks of its part before it, unless they are kept; so tables up to
HELD, and parts up to HELD whose images are read near each other, are read once in any order. A part larger than HELD begins again when going back in it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate import codec
from mitate.errors import DataError
from mitate.intake.parts import Part, TableFile, images

HELD = 256_000_000  # bytes
OPEN = 4  # parts that stay open where their last chunk ended


@dataclass(frozen=True)
class TableReader:
    """Encoded images in a column of local files, part after part. A row may name a file instead, below `beside` only."""

    files: tuple[TableFile, ...]
    column: str
    parts: tuple[tuple[int, Part], ...]  # number of the file, and a part of it
    beside: Path | None = None

    def blob(self, i: int) -> bytes:
        number = self._part(i)
        file, part = self.files[self.parts[number][0]], self.parts[number][1]
        file.check()
        cell = KEPT.cell(file, part, self.column, i - self._starts[number])
        data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if isinstance(data, bytes) and data:
            return data
        if isinstance(path, str) and path and self.beside and Path(path).resolve().is_relative_to(self.beside.resolve()):
            return Path(path).read_bytes()
        raise DataError(f"Row {self._row(i)} of {file.path.name} has no image bytes (path {path!r}).", fix="write the table again with the images embedded")

    def read(self, i: int) -> np.ndarray:
        file = self.files[self.parts[self._part(i)][0]]
        return codec.decode(self.blob(i), name=f"{file.path.name} row {self._row(i)}").pixels

    @cached_property
    def _starts(self) -> list[int]:
        """The first image of each part."""
        rows = [0, *(part.rows for _, part in self.parts)]
        return [int(n) for n in np.cumsum(rows)[:-1]]

    @cached_property
    def _firsts(self) -> dict[int, int]:
        """The first image of each file."""
        return {file: start for (file, _), start in reversed(list(zip(self.parts, self._starts, strict=True)))}

    def _part(self, i: int) -> int:
        return bisect_right(self._starts, i) - 1  # the last of those that begin there: those before it are empty

    def _row(self, i: int) -> int:
        """The row of image `i` in its file."""
        return i - self._firsts[self.parts[self._part(i)][0]]


Key = tuple[TableFile, str, int]  # a part: its file, column and place


class Kept:
    """Chunks of images that were read last. Safe to use from several threads."""

    def __init__(self, held: int) -> None:
        self.held = held
        self.size = 0  # bytes
        self._chunks: OrderedDict[tuple[Key, int], Any] = OrderedDict()
        self._open: OrderedDict[Key, tuple[int, Iterator[Any]]] = OrderedDict()  # which chunk comes next, and whence
        self._lock = threading.Lock()

    def cell(self, file: TableFile, part: Part, column: str, row: int) -> Any:
        """What stands in a row of a part."""
        if not 0 <= row < part.rows:
            raise IndexError(row)
        with self._lock:
            number, row = divmod(row, part.chunk)
            return self._chunk((file, column, part.place), part, number)[row].as_py()

    def _chunk(self, key: Key, part: Part, wanted: int) -> Any:
        if (found := self._chunks.get((key, wanted))) is not None:
            self._chunks.move_to_end((key, wanted))
            return found
        number, chunks = self._open.pop(key, (wanted + 1, iter(())))
        if number > wanted:
            number, chunks = 0, images(key[0], part, key[1])
        while number <= wanted:
            found = next(chunks)
            self._keep((key, number), found)
            number += 1
        if number * part.chunk < part.rows:
            self._open[key] = number, chunks
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
        else:
            next(chunks, None)  # tells where there are more cells than rows, and closes the file
        return found

    def _keep(self, name: tuple[Key, int], cells: Any) -> None:
        self.size += cells.nbytes
        if name in self._chunks:
            self.size -= self._chunks.pop(name).nbytes
        self._chunks[name] = cells
        while self.size > self.held and len(self._chunks) > 1:
            self.size -= self._chunks.popitem(last=False)[1].nbytes


KEPT = Kept(HELD)
