"""WebDataset shards: tar archives whose members share a key, `0001.jpg` + `0001.cls` (or .json, .txt). Nothing is unpacked to disk.

A shard is read once to list its members; an image is later read in place by offset. A compressed shard has no offsets, so
its encoded images are kept in memory. Member names are only keys: they are never used as paths.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from mitate import codec
from mitate.errors import DataError
from mitate.intake.listing import Listing, Row, Stamp, check_unchanged, fields, said_split, shown, split_of_file
from mitate.runtime import memory
from mitate.settings import parsed

TAR = (".tar", ".tar.gz", ".tgz")
SIDECARS = frozenset({"cls", "json", "txt"})
MAX_IMAGE = 1 << 28  # bytes; a member of a compressed shard is read into memory, and a few bytes can unpack to any number
MOST_AT_ONCE = 1 << 28  # bytes that tarfile may ask for; its own headers can tell any length
MAX_SIDECAR = 1 << 20  # bytes; a label or a caption is far smaller


@dataclass(frozen=True)
class Blobs:
    """Encoded images in memory."""

    blobs: Sequence[bytes]

    def blob(self, i: int) -> bytes:
        return self.blobs[i]

    def read(self, i: int) -> Any:
        return codec.decode(self.blobs[i]).pixels


@dataclass(frozen=True, eq=False)
class ShardReader:
    """Encoded images inside uncompressed tar files. places: int64 [n, 3], file, offset and bytes of each; stats: size and mtime_ns of each file then."""

    files: tuple[Path, ...]
    stats: tuple[tuple[int, int], ...]
    places: np.ndarray

    def blob(self, i: int) -> bytes:
        number, offset, size = map(int, self.places[i])
        check_unchanged(self.files[number], *self.stats[number])
        with open(self.files[number], "rb") as data:
            data.seek(offset)
            return data.read(size)

    def read(self, i: int) -> Any:
        return codec.decode(self.blob(i), name=f"{self.files[int(self.places[i, 0])].name} image {i}").pixels


def list_shards(files: Sequence[Path], *, name: str, root: Path | None = None) -> Listing:
    """The images of WebDataset shards, in shard order. Below a `root`, a shard's name or folder gives the split: train-*, test/*.

    Where it gives none, a `split` in an image's .json does.
    """
    rows: list[Row] = []
    places = array("q")
    blobs: list[bytes] = []
    stats: list[tuple[int, int]] = []
    packed = any(_is_packed(f) for f in files)
    several = len(files) > 1
    for number, file in enumerate(files):
        stat, whole = file.stat(), file.resolve()
        stats.append((stat.st_size, stat.st_mtime_ns))
        inside = file.relative_to(root).as_posix() if root else file.name
        split = split_of_file(file, root) if root else "all"
        for key, image, said in _samples(file, keep=packed):
            where = f"{inside}/{key}" if several else key
            more = {k: said.get(k) for k in ("label", "group", "caption", "licence", "consent")}
            stamp = Stamp(f"{whole}#{key}", stat.st_size, stat.st_mtime_ns)
            mine = said_split(said["split"], where) if "split" in said and split == "all" else split
            rows.append(Row(name=where, split=mine, stamp=stamp, **more))
            places.extend((number, image.offset, image.size))
            if packed:
                blobs.append(image.data)
        check_unchanged(file, *stats[-1])
    if not rows:
        raise DataError(f"{name} holds no images.", fix="give tar shards with members like 0001.jpg and 0001.cls")
    if packed:
        return Listing(name, tuple(rows), Blobs(blobs))
    reader = ShardReader(tuple(f.resolve() for f in files), tuple(stats), np.array(places, dtype=np.int64).reshape(-1, 3))
    return Listing(name, tuple(rows), reader)


@dataclass(frozen=True)
class _Image:
    offset: int
    size: int
    data: bytes


def _samples(file: Path, *, keep: bool) -> list[tuple[str, _Image, dict[str, str]]]:
    """(key, image, what is said of it) for each key of a shard that has an image."""
    images: dict[str, tuple[str, _Image]] = {}
    said: dict[str, dict[str, Any]] = {}
    unpacked = 0  # bytes
    try:
        with _stream(file) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as tar:
            for member in tar:
                unpacked += member.size
                if keep and unpacked > memory() // 2:
                    raise DataError(f"{file.name} unpacks to {unpacked / 1e9:.0f} GB or more.", fix="unpack it, and give the .tar")
                folder, _, base = member.name.rpartition("/")
                stem, dot, suffix = base.partition(".")
                suffix = suffix.lower()
                if not member.isfile() or not stem or not dot:
                    continue
                key = f"{folder}/{stem}" if folder not in ("", ".") else stem
                if "." + suffix.rpartition(".")[2] in codec.SUFFIXES:
                    if key in images:
                        raise DataError(f"{file.name} has two images under the key {shown(key)}.", fix="give each image a key of its own")
                    if member.size > MAX_IMAGE:
                        raise DataError(f"{file.name}: {shown(member.name)} is {member.size} bytes.", fix="keep each image under 256 MB")
                    data = _data(tar, member) if keep else b""
                    images[key] = (member.name, _Image(member.offset_data, member.size, data))
                elif suffix in SIDECARS:
                    if member.size > MAX_SIDECAR:
                        raise DataError(f"{file.name}: {shown(member.name)} is {member.size} bytes.", fix="keep labels and captions under 1 MB")
                    said.setdefault(key, {}).update(_sidecar(suffix, _data(tar, member), f"{file.name}: {shown(member.name)}"))
    except DataError:
        raise
    except Exception as wrong:  # tarfile, zlib and lzma raise what they like: TarError, zlib.error, ValueError, RecursionError, MemoryError, ...
        raise DataError(f"{file.name} cannot be read as a tar shard ({wrong}).", fix="write or download it again") from wrong
    return [(member, image, fields(said.get(key, {}))) for key, (member, image) in images.items()]


class _Bounded(io.RawIOBase):
    """A stream of which nobody reads more than MOST_AT_ONCE at once: tarfile would read a header of any length into memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _is_packed(file: Path) -> bool:
    try:
        with open(file, "rb") as data:
            return data.read(2) == b"\x1f\x8b"
    except OSError as wrong:
        raise DataError(f"{shown(file.name)} cannot be read ({wrong.strerror}).", fix="check its permissions") from wrong


def _stream(file: Path) -> BinaryIO:
    """The bytes of a shard, unpacked where it is a gzip."""
    return cast(BinaryIO, gzip.open(file, "rb")) if _is_packed(file) else open(file, "rb")


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return stream.read() if stream else b""


def _sidecar(suffix: str, data: bytes, where: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8").strip()
        if suffix == "cls":
            return {"label": text}
        if suffix == "txt":
            return {"caption": text}
        values = parsed(text)
    except ValueError as wrong:
        raise DataError(f"{where} is not readable text ({wrong}).", fix="write .cls and .txt as UTF-8 and .json as one JSON record") from wrong
    if not isinstance(values, dict):
        raise DataError(f"{where} is no record.", fix='write a JSON record like {"label": "rust"}')
    return values
