"""Tables of images: Hugging Face `datasets` saved to disk, parquet and arrow files, and data sets on the hub (`hf:owner/name`).

A table has a column of images (bytes, or {bytes, path}) and one of labels; class names are read from the schema that the
`datasets` package writes. Local files are read with pyarrow alone; only the hub needs `datasets` and a network.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate import codec
from mitate.errors import DataError, MissingExtra
from mitate.intake.listing import COLUMNS, Listing, Row, Stamp, fields, label_name, said_split, shown, split_name
from mitate.settings import parsed

SUFFIXES = (".parquet", ".arrow")
MOST_ROWS = 50_000_000


@dataclass(frozen=True)
class TableReader:
    """Encoded images in a column of local files: (file, row) each. A row may name a file instead, below `beside` only."""

    files: tuple[Path, ...]
    column: str
    places: tuple[tuple[int, int], ...]
    beside: Path | None = None

    def blob(self, i: int) -> bytes:
        file, row = self.places[i]
        cell = _column(self.files[file], self.column)[row].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not data:
            path = cell.get("path") if isinstance(cell, dict) else None
            if path and self.beside and Path(path).resolve().is_relative_to(self.beside.resolve()):
                return Path(path).read_bytes()
            raise DataError(f"Row {row} of {self.files[file].name} has no image bytes (path {path!r}).", fix="write the table again with the images embedded")
        return bytes(data)

    def read(self, i: int) -> Any:
        file, row = self.places[i]
        return codec.decode(self.blob(i), name=f"{self.files[file].name} row {row}").pixels


def list_tables(files: Sequence[tuple[Path, str]], *, name: str, beside: Path | None = None) -> Listing:
    """The images of parquet or arrow files, each with the split it belongs to ("all": none)."""
    rows: list[Row] = []
    places: list[tuple[int, int]] = []
    classes: tuple[str, ...] | None = None
    column = ""
    counts: dict[str, int] = {}
    for number, (file, split) in enumerate(files):
        table = _table(file)
        features = _features(table.schema)
        image, label = _image_column(table.schema, features, file), _label_column(table.schema, features)
        if column and image != column:
            raise DataError(f"{file.name} keeps its images in {image!r}, the files before it in {column!r}.", fix="give tables of one schema")
        column = image
        names = _items(features.get(label, {}), "names") if label else None
        mine = tuple(str(n) for n in names) if names else None
        if classes is not None and mine is not None and mine != classes:
            raise DataError(f"{file.name} names other classes than the files before it.", fix="give tables of one schema")
        classes = classes or mine
        known = {spelling for spellings in COLUMNS.values() for spelling in spellings}
        others = table.select([c for c in table.column_names if c != image and (c == label or c.lower() in known)]).to_pylist()
        stat = file.stat()
        for row, values in enumerate(others if others else [{}] * table.num_rows):
            said = fields({k: v for k, v in values.items() if k != label}, classes)
            value = values.get(label) if label else None
            part = said_split(said["split"], f"{file.name} row {row}") if "split" in said and split == "all" else split
            index = counts.get(part, 0)
            counts[part] = index + 1
            rows.append(
                Row(
                    name=f"{part}/{index}" if part != "all" else str(index),
                    label=None if value is None else label_name(value, classes),
                    split=part,
                    stamp=Stamp(f"{file.resolve()}#{column}#{row}", stat.st_size, stat.st_mtime_ns),
                    **{k: said.get(k) for k in ("group", "caption", "licence", "consent")},
                )
            )
            places.append((number, row))
    if not rows:
        raise DataError(f"{name} holds no rows.", fix="give a table with at least 5 images of each class")
    return Listing(name, tuple(rows), TableReader(tuple(f.resolve() for f, _ in files), column, tuple(places), beside), classes=classes)


def list_saved(folder: Path) -> Listing:
    """A folder written by `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    files: list[tuple[Path, str]] = []
    parts = [(folder, "all")]
    if (folder / "dataset_dict.json").is_file():
        parts = [(folder / s, split_name(s) or "all") for s in _items(_json(folder / "dataset_dict.json"), "splits") if isinstance(s, str) and _plain(s)]
    for part, split in parts:
        state = part / "state.json"
        listed = [d.get("filename", "") for d in _items(_json(state), "_data_files") if isinstance(d, dict)] if state.is_file() else []
        files += [(part / f, split) for f in listed if isinstance(f, str) and _plain(f)]
    if not files:
        raise DataError(f"{folder} is a saved data set without data files.", fix="save it again with save_to_disk")
    return list_tables(files, name=folder.name)


def list_hub(name: str) -> Listing:
    """A data set on the Hugging Face hub: `owner/name`, or `owner/name:split`."""
    repo, _, split = name.partition(":")
    if not re.fullmatch(r"\w*", split):
        raise DataError(f"hf:{shown(name)} asks for a part of a split.", fix="give a whole split, like hf:owner/name:train, and use per_class for fewer images")
    try:
        import datasets
    except ImportError as wrong:
        raise MissingExtra.of("datasets", "hf", f"hf:{name}") from wrong
    try:
        loaded = datasets.load_dataset(repo, split=split or None)
    except Exception as wrong:  # the hub client raises network, HTTP, value and file errors of many families
        first = (str(wrong).splitlines() or [type(wrong).__name__])[0]
        raise DataError(
            f"hf:{name} could not be opened ({shown(first, 160)}).", fix="check the name and the network, or download it and give the folder"
        ) from wrong
    parts = loaded if isinstance(loaded, dict) else {split: loaded}
    files = [(Path(f["filename"]), split_name(s or "") or "all") for s, part in parts.items() for f in part.cache_files]
    if split and not split_name(split):
        files = [(f, "all") for f, _ in files]
    if not files:
        raise DataError(f"hf:{name} has no local files after loading.", fix="save it with save_to_disk and give the folder")
    return list_tables(files, name=repo.rpartition("/")[2], beside=Path(datasets.config.HF_CACHE_HOME))


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError as wrong:
        raise MissingExtra.of("pyarrow", "hf", "Reading parquet and arrow files") from wrong
    return pyarrow


@functools.lru_cache(maxsize=64)
def _cached_table(path: Path, size: int, mtime_ns: int) -> Any:
    pa = _pyarrow()
    try:
        table = _opened(pa, path)
        table.validate(full=True)  # offsets of a damaged file lead out of it, and end the process when they are followed
        return table
    except (OSError, MemoryError, OverflowError, UnicodeError, pa.ArrowException) as wrong:
        first = (str(wrong).splitlines() or [""])[0]
        raise DataError(f"{path.name} cannot be read as a table ({shown(first, 120)}).", fix="write or download it again") from wrong


def _opened(pa: Any, path: Path) -> Any:
    if path.suffix == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            if rows > MOST_ROWS:  # a few bytes can stand for any number of them
                raise DataError(f"{path.name} has {rows:,} rows.", fix=f"give tables of at most {MOST_ROWS:,} images")
        return pa.parquet.read_table(path)
    try:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _table(path: Path) -> Any:
    try:
        stat = path.stat()
    except OSError as wrong:
        raise DataError(f"{path} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
    return _cached_table(path, stat.st_size, stat.st_mtime_ns)


def _column(path: Path, column: str) -> Any:
    return _table(path).column(column)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the `datasets` package wrote about each column, or nothing."""
    try:
        told = dict(parsed((schema.metadata or {})[b"huggingface"].decode())["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}
    return {column: facts for column, facts in told.items() if isinstance(facts, dict)}


def _image_column(schema: Any, features: dict[str, dict[str, Any]], file: Path) -> str:
    pa = _pyarrow()
    types = {field.name: field.type for field in schema}
    declared = [c for c in types if features.get(c, {}).get("_type") == "Image"]
    structs = [c for c, t in types.items() if pa.types.is_struct(t) and {"bytes", "path"} <= {t.field(i).name for i in range(t.num_fields)}]
    binary = [c for c, t in types.items() if pa.types.is_binary(t) or pa.types.is_large_binary(t)]
    for found in (declared, structs, binary):
        if found:
            return next((c for c in ("image", "img", "jpg", "png") if c in found), found[0])
    raise DataError(
        f"{file.name} has no column of images (its columns: {shown(', '.join(types), 200)}).", fix="give a column image with bytes, or {bytes, path}"
    )


def _label_column(schema: Any, features: dict[str, dict[str, Any]]) -> str | None:
    names = {c.lower(): c for c in schema.names}
    declared = [c for c in schema.names if features.get(c, {}).get("_type") == "ClassLabel"]
    named = [names[s] for s in (*COLUMNS["label"], "fine_label", "coarse_label") if s in names]
    return next((c for c in named if c in declared or not declared), (declared or [None])[0])


def _json(path: Path) -> dict[str, Any]:
    try:
        values = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise DataError(f"{path} cannot be read ({wrong}).", fix="save the data set again with save_to_disk") from wrong
    return values if isinstance(values, dict) else {}


def _items(facts: dict[str, Any], key: str) -> list[Any]:
    found = facts.get(key)
    return found if isinstance(found, list) else []


def _plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\\" not in name
