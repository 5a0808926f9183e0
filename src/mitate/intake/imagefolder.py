"""Class-folder trees: one folder a class, with or without train/test above, with or without metadata.jsonl or metadata.csv.

    leaves/rust/1.jpg                    leaves/train/rust/1.jpg  leaves/test/rust/9.jpg         leaves/1.jpg + leaves/metadata.jsonl

The convention is that of Hugging Face `imagefolder`. Hidden files and files that are no images are passed over in silence; a
path that leaves the root, by a link or by `..`, is refused.
"""

from __future__ import annotations

import csv
import io
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mitate.codec import SUFFIXES
from mitate.errors import DataError
from mitate.images import FileReader
from mitate.intake.listing import SPLITS, Listing, Row, Stamp, fields, said_split, shown
from mitate.settings import parsed

METADATA = ("metadata.jsonl", "metadata.csv")
DEPTH = 12  # folders below the root; a tree deeper than this is a mistake or a loop


@dataclass(frozen=True)
class _File:
    parts: tuple[str, ...]  # below the root, as the system spells them
    stamp: Stamp

    @property
    def path(self) -> str:
        return "/".join(self.parts)


def list_folder(root: Path) -> Listing:
    """The images below `root`, labelled by class folder and by metadata; metadata wins."""
    given = root
    root = root.resolve()
    name = root.name or str(root)
    files, tables = _walk(root)
    while wrapper := _wrapper(files):  # an unpacked archive often wraps everything in one more folder
        root = root / wrapper
        files = [_File(f.parts[1:], f.stamp) for f in files]
        tables = [t.relative_to(wrapper) for t in tables if t.parts[0] == wrapper]
    if not files:
        raise DataError(f"{given} holds no images.", fix="put one folder a class in it, with .png or .jpg files")
    splits, passed_over = _splits(files)
    known = _metadata(root, tables, {f.path for f in files})
    rows, kept, notes = [], [], []
    for f in files:
        split = splits.get(f.parts[0], "all") if len(f.parts) > 1 else "all"
        if splits and split == "all":
            if len(f.parts) > 1 or f.path not in known:
                continue
        folders = f.parts[1:-1] if split != "all" else f.parts[:-1]
        said = known.get(f.path, {})
        label = said.get("label") or (unicodedata.normalize("NFC", _text(folders[0])) if folders else None)
        if "split" in said and split == "all":
            split = said["split"]
        more = {k: said.get(k) for k in ("group", "caption", "licence", "consent")}
        rows.append(Row(name=_text(f.path), label=label, split=split, stamp=f.stamp, **more))
        kept.append((f.path, len(folders), "label" in said))
    if not rows:
        raise DataError(f"{given} holds no images below its train and test folders.", fix="put one folder a class in each")
    _refuse_deep(given, kept)
    if passed_over:
        notes.append(
            (
                "passed over",
                f"Folders beside train and test are not read: {', '.join(shown(p) for p in passed_over[:5])}.",
                "move their classes below train or test",
            )
        )
    if missing := sorted(set(known) - {f.path for f in files}):
        notes.append(("missing", f"Metadata names {len(missing)} files that are not there, the first is {shown(missing[0])}.", "correct the metadata"))
    return Listing(name, tuple(rows), FileReader(root, tuple(path for path, _, _ in kept)), notes=tuple(notes))


def list_files(root: Path) -> Listing:
    """Every image below `root`, or the one image that `root` is, by its path: for work that asks nothing of labels and splits."""
    given, root = root, root.resolve()
    if root.is_file():
        stat = root.stat()
        return Listing(root.name, (Row(name=_text(root.name), stamp=Stamp(str(root), stat.st_size, stat.st_mtime_ns)),), FileReader(root.parent, (root.name,)))
    files, _ = _walk(root)
    if not files:
        raise DataError(f"{shown(str(given))} holds no images.", fix="give a folder with .png or .jpg files in it")
    rows = tuple(Row(name=_text(f.path), stamp=f.stamp) for f in files)
    return Listing(root.name or str(root), rows, FileReader(root, tuple(f.path for f in files)))


def _walk(root: Path) -> tuple[list[_File], list[Path]]:
    """Every image file below `root` in sorted order, and the metadata tables."""
    files: list[_File] = []
    tables: list[Path] = []

    def scan(folder: Path, parts: tuple[str, ...]) -> None:
        if len(parts) > DEPTH:
            raise DataError(f"{shown(str(folder))} lies more than {DEPTH} folders deep.", fix="use one folder a class")
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as wrong:
            raise DataError(f"{shown(str(folder))} cannot be read ({wrong.strerror}).", fix="check its permissions") from wrong
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_symlink() and not _inside(Path(entry.path), root):
                raise DataError(
                    f"{shown('/'.join((*parts, entry.name)))} is a link that leaves {root.name}.", fix="copy the files it points to, or open that folder itself"
                )
            if _is_odd(entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                scan(Path(entry.path), (*parts, entry.name))
            elif entry.name in METADATA:
                tables.append(Path(*parts, entry.name))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir():
                try:
                    stat = entry.stat()
                    stamp = Stamp(os.path.realpath(entry.path) if entry.is_symlink() else entry.path, stat.st_size, stat.st_mtime_ns)
                except OSError:  # a link to nothing: decoding says so, with its name
                    stamp = Stamp(entry.path, -1, -1)
                files.append(_File((*parts, entry.name), stamp))

    scan(root, ())
    return files, tables


def _is_odd(entry: os.DirEntry[str]) -> bool:
    """A pipe, a socket or a device: reading one may never end."""
    try:
        mode = entry.stat().st_mode
    except OSError:  # a link to nothing
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        return False


def _wrapper(files: list[_File]) -> str | None:
    """The one folder that holds everything and only folders, or None."""
    tops = {f.parts[0] for f in files if len(f.parts) > 1}
    if len(tops) != 1 or any(len(f.parts) < 3 for f in files) or tops & set(SPLITS):
        return None
    seconds = {f.parts[1] for f in files}
    return tops.pop() if len(seconds) > 1 and all(len(f.parts) == 3 or f.parts[1].lower() in SPLITS for f in files) else None


def _splits(files: list[_File]) -> tuple[dict[str, str], list[str]]:
    """Top folders that are splits, and the top folders beside them that are not. A class may be called `test` where no `train` is."""
    tops = sorted({f.parts[0] for f in files if len(f.parts) > 1})
    found = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    if "train" not in found.values() and len(found) != len(tops):
        return {}, []
    return found, [top for top in tops if top not in found] if found else []


def _refuse_deep(root: Path, kept: list[tuple[str, int, bool]]) -> None:
    depths = [depth for _, depth, labelled in kept if not labelled]
    if depths and min(depths) > 1:
        raise DataError(
            f"Images in {root} lie {min(depths)} folders deep ({shown(kept[0][0])}), so which folder is the class is a guess.",
            fix="use one folder a class, or name label and group of each file in a metadata.jsonl",
        )


def _metadata(root: Path, tables: list[Path], there: set[str]) -> dict[str, dict[str, str]]:
    """What metadata files say of each file, by path below the root."""
    known: dict[str, dict[str, str]] = {}
    for table in tables:
        for number, values in _lines(root / table, shown(table.as_posix())):
            said = fields(values)
            where = f"{shown(table.as_posix())} line {number}"
            if "file" not in said:
                raise DataError(f"{where} names no file.", fix="add a column file_name")
            if "split" in said:
                said["split"] = said_split(said["split"], where)
            path = PurePosixPath(said["file"].replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DataError(f"{where} leaves the folder: {shown(said['file'])}.", fix="name files below the folder of the metadata file")
            full = (PurePosixPath(table.parent.as_posix()) / path).as_posix()
            if full not in there and unicodedata.normalize("NFC", full) not in known:
                full = next((f for f in (unicodedata.normalize(form, full) for form in ("NFC", "NFD")) if f in there), full)
            known[full] = said
    return known


def _lines(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as wrong:
        raise DataError(f"{name} cannot be read ({wrong.strerror}).", fix="check its permissions") from wrong
    except UnicodeDecodeError as wrong:
        raise DataError(f"{name} is not UTF-8 text (byte {wrong.start}).", fix="save it as UTF-8") from wrong
    if path.suffix == ".csv":
        try:
            yield from enumerate(csv.DictReader(io.StringIO(text), strict=True), start=2)
        except csv.Error as wrong:
            raise DataError(f"{name} is not a table ({wrong}).", fix="save it as comma-separated values with a header line") from wrong
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = parsed(line)
        except ValueError as wrong:
            raise DataError(f"{name} line {number} is not JSON ({wrong}).", fix='write one record a line: {"file_name": ..., "label": ...}') from wrong
        if not isinstance(values, dict):
            raise DataError(f"{name} line {number} is no record.", fix='write one record a line: {"file_name": ..., "label": ...}')
        yield number, values


def _text(name: str) -> str:
    """A file name as text that can be written everywhere; bytes that are no UTF-8 become a replacement sign."""
    return os.fsencode(name).decode("utf-8", "replace")
