"""Files of tables, part by part: what parquet (row groups) and arrow (record batches) store together is read together, and never a whole file.

    table = Table(TableFile.of(Path("train-00000-of-00002.parquet")), most_rows=...)
    for batch in table.facts(["label"], "image"): ...                # facts of a thousand rows; images stay where they are
    for cells in images(table.file, table.parts[0], "image"): ...    # the images of one part, some at a time

Row groups come through a small buffer, images by chunks of CHUNK bytes, so a row group of any size is read in flat memory. Arrow files are mapped: what
is held of an uncompressed one is the system's copy of the file, and a record batch is one chunk. What a file says of itself is not believed: every array
is validated in full before a cell of it is read, since offsets of a damaged arrow file lead out of it and end the process when they are followed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MissingExtra
from mitate.intake.listing import SourceError, check_unchanged, shown
from mitate.runtime import memory

PARQUET = ".parquet"
CHUNK = 16_000_000  # bytes of images that are read at once, by what the table tells of their size
CHUNK_ROWS = 256  # at most: a few bytes can stand for many large images
FACT_ROWS = 1000  # rows of facts that are read at once
BUFFER = 1 << 20  # bytes of a parquet column that are read ahead


@dataclass(frozen=True)
class TableFile:
    """A file of a table as it was when it was listed."""

    path: Path
    size: int
    mtime_ns: int
    opened: int = field(default_factory=itertools.count().__next__)  # nothing read before goes for it: clocks of files are coarse

    @classmethod
    def of(cls, path: Path) -> TableFile:
        try:
            stat = path.stat()
        except OSError as wrong:
            raise DataError(f"{path} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
        return cls(path.resolve(), stat.st_size, stat.st_mtime_ns)

    def check(self) -> None:
        """SourceError where the file is another one by now: what was listed says nothing of it."""
        check_unchanged(self.path, self.size, self.mtime_ns)


@dataclass(frozen=True)
class Part:
    """Rows that a file stores together. place: number of the row group or batch, or the byte at which a batch of a stream begins."""

    place: int
    rows: int
    chunk: int  # rows that are read at once
    size: int  # bytes of the part, by what the file tells; 0 where it tells nothing


@dataclass(frozen=True)
class Batch:
    """Facts of rows that follow each other: a list of values for each column that was asked for."""

    rows: int
    columns: dict[str, list[Any]]


class Table:
    """A file of a table. Once `facts` has come to its end, `parts` are those of all rows."""

    def __init__(self, file: TableFile, *, most_rows: int) -> None:
        self.file = file
        self.parts: list[Part] = []
        self._rows, self._most_rows = 0, most_rows
        with reading(file.path):
            self.schema = _form(file).schema

    def facts(self, columns: Sequence[str], image: str) -> Iterator[Batch]:
        """The facts of every row, in order. DataError where the file is damaged, is written to meanwhile, or has more than the most rows."""
        self.parts, self._rows = [], 0
        taken = 0  # bytes
        with reading(self.file.path):
            for rows, arrays in _form(self.file).facts(columns, image, self._found):
                for array in arrays:
                    array.validate(full=True)
                    taken += array.nbytes
                if taken > memory() // 2:
                    raise DataError(f"{self.file.path.name} has over {taken / 1e9:.0f} GB of facts beside its images.", fix="write it with fewer columns")
                for start in range(0, rows, FACT_ROWS):
                    some = (array.slice(start, FACT_ROWS).to_pylist() for array in arrays)
                    yield Batch(min(FACT_ROWS, rows - start), dict(zip(columns, some, strict=True)))
        self.file.check()

    def _found(self, part: Part) -> None:
        if part.rows < 0:
            raise ValueError(f"a part of {part.rows} rows")
        self.parts.append(part)
        self._rows += part.rows
        if self._rows > self._most_rows:  # a few bytes can stand for any number of them
            raise DataError(f"{self.file.path.name} has {self._rows:,} rows.", fix=f"give tables of at most {self._most_rows:,} images")


def images(file: TableFile, part: Part, column: str) -> Iterator[Any]:
    """The images of a part, `part.chunk` at a time (the last time fewer), as validated arrays of pyarrow. SourceError for damage."""
    rows = 0
    file.check()
    with reading(file.path):
        for cells in _form(file).images(part, column):
            cells.validate(full=True)
            rows += len(cells)
            yield cells
        if rows != part.rows:
            raise ValueError(f"{rows} images in place of {part.rows}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow makes of a damaged file into one line."""
    pa = pyarrow()
    try:
        yield
    except (OSError, MemoryError, ArithmeticError, ValueError, LookupError, pa.ArrowException) as wrong:
        first = (str(wrong).splitlines() or [""])[0]
        raise SourceError(f"{path.name} cannot be read as a table ({shown(first, 120)}).", fix="write or download it again") from wrong


def pyarrow() -> Any:
    """The package, or MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError as wrong:
        raise MissingExtra.of("pyarrow", "hf", "Reading parquet and arrow files") from wrong
    return pyarrow


Found = Callable[[Part], None]


@lru_cache(maxsize=16)
def _form(file: TableFile) -> _Parquet | _Stream | _Numbered:
    if file.path.suffix == PARQUET:
        return _Parquet(file)
    try:
        return _Stream(file)
    except pyarrow().ArrowInvalid:
        return _Numbered(file)


# parquet --------------------------------------------------------------------------------------------------------------


class _Parquet:
    def __init__(self, file: TableFile) -> None:
        self.file = file
        with self._open() as opened:
            self.schema, self.metadata = opened.schema_arrow, opened.metadata

    def facts(self, columns: Sequence[str], image: str, found: Found) -> Iterator[tuple[int, list[Any]]]:
        groups = [self.metadata.row_group(k) for k in range(self.metadata.num_row_groups)]
        for number, group in enumerate(groups):
            told = max(0, group.total_byte_size)  # of all its columns: to ask a damaged column for its size ends the process (pyarrow 26)
            found(Part(number, group.num_rows, max(1, min(CHUNK_ROWS, CHUNK * group.num_rows // max(told, 1))), told))
        rows = sum(group.num_rows for group in groups)
        if not columns:
            yield from ((min(FACT_ROWS, rows - start), []) for start in range(0, rows, FACT_ROWS))
            return
        seen = 0
        with self._open() as opened:
            for batch in opened.iter_batches(batch_size=FACT_ROWS, columns=list(columns), use_threads=False):
                seen += len(batch)
                yield len(batch), [batch.column(column) for column in columns]
        if seen != rows:
            raise ValueError(f"{seen} rows of facts in place of {rows}")

    def images(self, part: Part, column: str) -> Iterator[Any]:
        with self._open() as opened:
            batches = opened.iter_batches(batch_size=part.chunk, row_groups=[part.place], columns=[column], use_threads=False)
            yield from _regular((batch.column(column) for batch in batches), part.chunk)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The file, read through a buffer: a column of a row group never comes as a whole."""
        known = getattr(self, "metadata", None)
        with pyarrow().parquet.ParquetFile(self.file.path, metadata=known, buffer_size=BUFFER, pre_buffer=False) as opened:
            yield opened


def _regular(arrays: Iterator[Any], rows: int) -> Iterator[Any]:
    """The same cells, exactly `rows` at a time: a reader may end a batch where it likes."""
    pa = pyarrow()
    held: list[Any] = []
    for array in arrays:
        while len(array):
            some = array.slice(0, rows - sum(map(len, held)))
            array = array.slice(len(some))
            held.append(some)
            if sum(map(len, held)) == rows:
                yield pa.chunked_array(held)
                held = []
    if held:
        yield pa.chunked_array(held)


# arrow ----------------------------------------------------------------------------------------------------------------


class _Stream:
    """What `datasets` writes: batch after batch."""

    def __init__(self, file: TableFile) -> None:
        self.file = file
        self.schema = self._open(None)[0].schema

    def facts(self, columns: Sequence[str], image: str, found: Found) -> Iterator[tuple[int, list[Any]]]:
        for place, batch in self._batches([self.schema.get_field_index(column) for column in (*columns, image)]):
            found(Part(place, len(batch), max(1, len(batch)), 0))
            batch.column(image).validate(full=True)  # its offsets only; the images themselves are not read
            yield len(batch), [batch.column(column) for column in columns]

    def images(self, part: Part, column: str) -> Iterator[Any]:
        pa = pyarrow()
        mapped = pa.memory_map(str(self.file.path))
        mapped.seek(part.place)
        while (message := pa.ipc.read_message(mapped)).type == "dictionary":
            pass
        plain = [f.with_type(f.type.index_type) if pa.types.is_dictionary(f.type) else f for f in self.schema]  # the words stand in other messages
        yield pa.ipc.read_record_batch(message, pa.schema(plain)).column(column)

    def _batches(self, fields: Sequence[int]) -> Iterator[tuple[int, Any]]:
        opened, mapped = self._open(fields)
        while True:
            place = mapped.tell()
            try:
                batch = opened.read_next_batch()
            except StopIteration:
                return
            yield place, batch

    def _open(self, fields: Sequence[int] | None) -> tuple[Any, Any]:
        ipc, mapped = pyarrow().ipc, pyarrow().memory_map(str(self.file.path))
        return ipc.open_stream(mapped, options=_only(fields)), mapped


class _Numbered(_Stream):
    """What feather writes: batches, and a list of them at the end."""

    def images(self, part: Part, column: str) -> Iterator[Any]:
        yield self._open([self.schema.get_field_index(column)])[0].get_batch(part.place).column(column)

    def _batches(self, fields: Sequence[int]) -> Iterator[tuple[int, Any]]:
        opened, _ = self._open(fields)
        for number in range(opened.num_record_batches):
            yield number, opened.get_batch(number)

    def _open(self, fields: Sequence[int] | None) -> tuple[Any, Any]:
        ipc, mapped = pyarrow().ipc, pyarrow().memory_map(str(self.file.path))
        return ipc.open_file(mapped, options=_only(fields)), mapped


def _only(fields: Sequence[int] | None) -> Any:
    return pyarrow().ipc.IpcReadOptions(use_threads=False, **({} if fields is None else {"included_fields": list(fields)}))
