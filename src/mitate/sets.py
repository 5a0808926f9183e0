"""Synthetic sets written for others: an image folder that `datasets` opens, whole or not at all.

fakes/                          write_images
  rust/000000.png ...           class folders; every file carries the IPTC mark "trained algorithmic media"
  metadata.jsonl                one line an image: file_name, label, caption, seed, generator, filters
  README.md  provenance.json    dataset card; generator, settings, parents
  SHA256SUMS                    `sha256sum -c SHA256SUMS`

What holds for shards (packed) as well is here: that a set appears whole, who may be written, how an image is encoded and what is told of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitate import codec
from mitate.cards import dataset_card
from mitate.errors import SettingError
from mitate.files import disk_errors, file_digest, write_json, write_text
from mitate.images import ImageSet, Provenance
from mitate.progress import Progress, Silent
from mitate.settings import digest, parsed, plain

SUMS = "SHA256SUMS"
UNLABELLED = "unlabelled"
_LONGEST = 40  # characters of a class folder before its digest; file systems allow 255 bytes, and Japanese takes three a character
_SPLIT_WORDS = frozenset("train training validation valid dev val test testing eval evaluation".split())  # `datasets` would read them as splits
_DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))])  # not file names on Windows


def write_images(images: ImageSet, folder: Path, *, progress: Progress | None = None) -> Path:
    """Write a synthetic set as class folders of PNGs that `datasets.load_dataset("imagefolder", data_dir=folder)` opens.

    The label of an image is the `label` column (a string); folder names are only made safe from it. The folder appears whole or
    not at all: files are gathered in a hidden neighbour, which a killed write continues. A folder that holds this very set is
    left as it is; one that holds anything else is refused. Real sets are refused too: the mark would be a lie on their images.
    """
    made = origin(images)
    name = _identity(images, made)
    return appear(Path(folder), name, lambda building: _write_all(images, made, building, name, progress or Silent()))


def origin(images: ImageSet) -> Provenance:
    """Where a set comes from. SettingError for real images, which are never written as synthetic."""
    if images.provenance is None:
        raise SettingError(f"{images.name!r} holds real images.", fix="write synthetic sets only: every file written here is marked as made by a model")
    return images.provenance


def appear(folder: Path, name: str, write: Callable[[Path], None]) -> Path:
    """`folder` with the set `name` in it, whole or not at all: `write` fills a hidden neighbour, and goes on where a killed one was.

    A folder that holds this very set is left as it is; one that holds anything else is refused.
    """
    if _holds(folder, name):
        return folder
    building = folder.with_name(f".{folder.name}.{name[:12]}.partial")
    with disk_errors(folder):
        try:
            write(building)
            if folder.is_dir():
                folder.rmdir()  # empty, as _holds has seen; a rename onto it would fail on Windows
            os.rename(building, folder)
        except FileNotFoundError:  # another process wrote the same set and renamed our common neighbour first
            if not _holds(folder, name):
                raise
        except OSError as wrong:
            if wrong.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _holds(folder, name):
                raise
            shutil.rmtree(building, ignore_errors=True)
    return folder


def facts_of(images: ImageSet, made: Provenance, i: int) -> dict[str, Any]:
    """What is written of image `i` beside its file."""
    label = images.labels[i]
    return {
        "label": images.classes[label] if label >= 0 else None,
        "caption": images.captions[i] if images.captions else None,
        "seed": made.seeds[i] if made.seeds else None,
        "generator": made.digest,
        "filters": [],
    }


def encoded(images: ImageSet, made: Provenance, i: int) -> bytes:
    """Image `i` as a PNG with the mark; the same image of the same set gives the same bytes in a folder and in a shard."""
    seed = made.seeds[i] if made.seeds else None
    return codec.encode_png(images.reader.read(i), description=f"synthetic image, {made.generator} {made.digest[:12]}, seed {seed}")


def close(building: Path, sums: list[tuple[str, str]], told: tuple[str, ...]) -> None:
    """Write SHA256SUMS of the files named in `sums` (digest, name) and of `told`, and take away what killed writes left."""
    sums = [*sums, *((file_digest(building / file), file) for file in told)]
    write_text(building / SUMS, "".join(f"{value}  {file}\n" for value, file in sums))
    for left in building.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def folder_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """One safe folder name a class: unique, also where upper and lower case are one, and no split word for `datasets`."""
    taken: set[str] = {UNLABELLED}
    names = []
    for k, label in enumerate(classes):
        name = _safe(label)
        if name is None or name.casefold() in taken:
            clean = _safe(_clean(label)) or "class"
            name = f"{clean}-{digest('mitate.class', [k, label])[:8]}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


# image folders --------------------------------------------------------------------------------------------------------


def _identity(images: ImageSet, provenance: Provenance) -> str:
    return digest("mitate.written", [images.digest, plain(provenance)])


def check_new(folder: Path) -> None:
    """SettingError where a set cannot be written into `folder`, before its images are made. A set that is there may be the same one."""
    if (folder.exists() or folder.is_symlink()) and not (folder.is_dir() and (folder / "provenance.json").is_file()):
        _holds(folder, "")


def _holds(folder: Path, name: str) -> bool:
    """Whether `folder` holds the set `name`, whole. False where there is nothing; SettingError where there is anything else."""
    if not folder.exists() and not folder.is_symlink():
        return False
    if not folder.is_dir():
        raise SettingError(f"{folder} is not a folder.", fix="choose another folder with --out")
    if not any(folder.iterdir()):
        return False
    try:
        found = parsed((folder / "provenance.json").read_text(encoding="utf-8")).get("identity")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != name:
        raise SettingError(f"{folder} is not empty and does not hold this set.", fix="choose another folder with --out, or empty it")
    if damaged := _damaged(folder):
        what = f"{folder} holds this set, but {len(damaged)} of its files are missing or changed ({damaged[0]})."
        raise SettingError(what, fix="move the folder away and run again")
    return True


def _damaged(folder: Path) -> list[str]:
    """Files that SHA256SUMS lists and that are missing or changed. Files that it does not list (a ledger) are the user's."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return [SUMS]
    listed = [line.partition("  ") for line in lines]
    return [file or SUMS for expected, _, file in listed if not _is_whole(folder, file, expected)]


def _is_whole(folder: Path, file: str, expected: str) -> bool:
    path = folder / file
    try:
        return path.resolve().is_relative_to(folder.resolve()) and path.is_file() and file_digest(path) == expected
    except (OSError, ValueError):  # a list that was changed can name anything
        return False


def _write_all(images: ImageSet, made: Provenance, building: Path, name: str, progress: Progress) -> None:
    folders = folder_names(images.classes)
    for k in {*images.labels}:
        (building / (folders[k] if k >= 0 else UNLABELLED)).mkdir(parents=True, exist_ok=True)
    building.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    sums: list[tuple[str, str]] = []
    for i, label in enumerate(images.labels):
        file = f"{folders[label] if label >= 0 else UNLABELLED}/{i:06d}.png"
        sums.append((_write_png(encoded(images, made, i), building / file), file))
        lines.append(json.dumps({"file_name": file, **facts_of(images, made, i)}, ensure_ascii=False) + "\n")
        progress.step(i + 1, len(images), file)
    write_text(building / "metadata.jsonl", "".join(lines))
    write_text(building / "README.md", dataset_card(images))
    write_json(building / "provenance.json", {
        "identity": name, "images": images.digest, "count": len(images), "counts": images.counts(), "folders": dict(zip(images.classes, folders, strict=True)),
        "provenance": made, "mark": codec.SOURCE_TYPE,
    })  # fmt: skip
    close(building, sums, ("README.md", "metadata.jsonl", "provenance.json"))


def _write_png(data: bytes, path: Path) -> str:
    """Write an image, or keep the file an earlier, killed write left whole. Returns the digest of its bytes."""
    try:
        same = path.read_bytes() == data
    except OSError:
        same = False
    if not same:
        fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fresh.write_bytes(data)
        os.replace(fresh, path)
    return hashlib.sha256(data).hexdigest()


def _safe(label: str) -> str | None:
    """`label` if it can be a folder name everywhere as it is, or None."""
    fine = label == _clean(label) and 0 < len(label) <= _LONGEST and label.split(".")[0].casefold() not in _DEVICES
    return label if fine and not _SPLIT_WORDS & set(re.split(r"[-._ 0-9]+", label.casefold())) else None


def _clean(label: str) -> str:
    text = "".join(c if c.isalnum() or c in "._- +" else "_" for c in unicodedata.normalize("NFC", label))
    return text.strip("._- ")[:_LONGEST].rstrip("._- ")
