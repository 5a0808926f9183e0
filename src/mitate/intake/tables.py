"""Tables of images: Hugging Face `datasets` saved to disk, parquet and arrow files, and data sets on the hub (`hf:owner/name`).

A table has a column of images (bytes, or {bytes, path}) and one of labels; class names are read from the schema that the
`datasets` package writes. Local files are read with pyarrow alone; only the hub needs `datasets` and a network. Listing reads columns of facts and no
image; images are read part by part when they are asked for (parts, cells), so tables may be larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MissingExtra
from mitate.intake.cells import HELD, TableReader
from mitate.intake.listing import COLUMNS, Listing, Row, Stamp, fields, label_name, said_split, shown, split_name
from mitate.intake.parts import PARQUET, Part, Table, TableFile, pyarrow, reading
from mitate.settings import parsed

SUFFIXES = (PARQUET, ".arrow")
MOST_ROWS = 50_000_000
KNOWN = frozenset(spelling for spellings in COLUMNS.values() for spelling in spellings)


def list_tables(files: Sequence[tuple[Path, str]], *, name: str, beside: Path | None = None) -> Listing:
    """The images of parquet or arrow files, each with the split it belongs to ("all": none). Images are not read, other columns row by row."""
    rows: list[Row] = []
    opened: list[TableFile] = []
    parts: list[tuple[int, Part]] = []
    classes: tuple[str, ...] | None = None
    column = ""
    counts: dict[str, int] = {}
    for number, (file, split) in enumerate(files):
        table = Table(TableFile.of(file), most_rows=MOST_ROWS)
        with reading(file):  # names of columns are told by the file, too
            features = _features(table.schema)
            image, label = _image_column(table.schema, features, file), _label_column(table.schema, features)
            told = [c for c in table.schema.names if c != image and (c == label or c.lower() in KNOWN)]
        if column and image != column:
            raise DataError(f"{file.name} keeps its images in {image!r}, the files before it in {column!r}.", fix="give tables of one schema")
        column = image
        names = _items(features.get(label, {}), "names") if label else None
        mine = tuple(str(n) for n in names) if names else None
        if classes is not None and mine is not None and mine != classes:
            raise DataError(f"{file.name} names other classes than the files before it.", fix="give tables of one schema")
        classes = classes or mine
        for row, values in enumerate(_facts(table, told, image)):
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
                    stamp=Stamp(f"{table.file.path}#{column}#{row}", table.file.size, table.file.mtime_ns),
                    **{k: said.get(k) for k in ("group", "caption", "licence", "consent")},
                )
            )
        opened.append(table.file)
        parts += [(number, part) for part in table.parts]
    if not rows:
        raise DataError(f"{name} holds no rows.", fix="give a table with at least 5 images of each class")
    return Listing(name, tuple(rows), TableReader(tuple(opened), column, tuple(parts), beside), classes=classes, notes=tuple(_notes(opened, parts)))


def _facts(table: Table, columns: Sequence[str], image: str) -> Iterator[dict[str, Any]]:
    """What each row says beside its image."""
    for batch in table.facts(columns, image):
        for row in range(batch.rows):
            yield {column: values[row] for column, values in batch.columns.items()}


def _notes(files: Sequence[TableFile], parts: Sequence[tuple[int, Part]]) -> Iterator[tuple[str, str, str]]:
    number, largest = max(parts, key=lambda one: one[1].size)
    if largest.size > HELD:
        what = f"{shown(files[number].path.name)} has {largest.size / 1e9:.1f} GB of images in one row group: read in order it is as fast as any, else slow."
        yield "row group", what, "write it with row groups of about 100 images (row_group_size=100)"


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


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the `datasets` package wrote about each column, or nothing."""
    try:
        told = dict(parsed((schema.metadata or {})[b"huggingface"].decode())["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}
    return {column: facts for column, facts in told.items() if isinstance(facts, dict)}


def _image_column(schema: Any, features: dict[str, dict[str, Any]], file: Path) -> str:
    pa = pyarrow()
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
