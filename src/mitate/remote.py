"""Results that machines share at a URL: any file system that fsspec knows (S3, Google, Azure, SFTP, a folder). Each machine keeps a store of its own too.

    URL/3fa9c12e0b71/about.json                  the versions that this folder stands for
    URL/3fa9c12e0b71/records/3f/9ac1....json     a question and its result, written last: what it names is there
    URL/3fa9c12e0b71/files/ab/cdef...            bytes, named by their SHA-256
    URL/meetings/...                             a word between a run and its cluster's nodes, while it lasts

An object store has no rename, but one object is whole or not there. So a result is there when its record is, and two machines that push the same
result at once write the same files; the later record stands. The first folder is named by the versions of what results are computed with, so that
machines with other versions do not read each other's numbers.

Nothing that comes from there is believed: a question has to give its name, a file its digest, and a file's name may not lead out of its folder.
Nothing is listed and nothing unpickled. What is damaged is read anew, and then taken back, so that it is made anew. Keys and passwords are fsspec's matter.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mitate.errors import MissingExtra, MitateError, SettingError, StoreError
from mitate.runtime import machine
from mitate.settings import digest, parsed, plain

T = TypeVar("T")
U = TypeVar("U")
VARIABLE = "MITATE_SHARED"
LIKE = "write it like s3://bucket/mitate, gs://bucket/mitate, sftp://host/folder or file:///folder"
PAUSES = (0.5, 2.0)  # seconds before a second and a third try
AT_ONCE = 16  # requests under way, where the file system takes more than one
ASK_FIRST = 2**20  # bytes of a file from which it is cheaper to ask whether it is there than to send it again
RENAMES = {"file", "local", "sftp", "ssh"}  # where others see a file that is half written, and a rename puts a whole one in its place
PACKAGES = {"smbclient": "smbprotocol"}  # modules that a package of another name holds
SHA256 = re.compile("[0-9a-f]{64}")
OURS = ("asked.json", "result.json")  # of an entry; they travel in its record


class Damaged(Exception):
    """What is wrong with a record, or with a file that it names. file: the digest that names the file."""

    def __init__(self, why: str, *, file: str = "") -> None:
        super().__init__(why)
        self.file = file


@dataclass(frozen=True)
class Record:
    """A question and its result, as `asked.json` and `result.json` of an entry hold them."""

    name: str
    asked: dict[str, Any]
    result: dict[str, Any]

    @classmethod
    def of(cls, name: str, asked: Any, result: Any) -> Record:
        """The record of the result `name`; Damaged where the question does not give that name, or a file's name leads elsewhere."""
        try:
            told = digest("mitate.asked", {key: asked[key] for key in ("verb", "version", "settings", "inputs")})
            files = dict(plain(result)["files"])
        except (TypeError, KeyError, ValueError, RecursionError) as wrong:
            raise Damaged(f"its record is none: {type(wrong).__name__}") from wrong
        if told != name:
            raise Damaged("its question does not give its name")
        for file, sha256 in files.items():
            if not _is_inside(file):
                raise Damaged(f"a file is called {file!r}")
            if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
                raise Damaged(f"{file} has no digest")
        return cls(name, asked, result)

    @classmethod
    def read(cls, name: str, data: bytes) -> Record:
        """The record that was read under `name`."""
        try:
            found = dict(parsed(data.decode()))
        except (ValueError, TypeError) as wrong:
            raise Damaged("its record is half written") from wrong
        return cls.of(name, found.get("asked"), found.get("result"))

    @property
    def data(self) -> bytes:
        return (json.dumps({"asked": self.asked, "result": self.result}, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @property
    def files(self) -> dict[str, str]:
        """Name of each file and its SHA-256."""
        return dict(self.result["files"])


def _is_inside(name: Any) -> bool:
    """Whether a file's name stays in the folder of its entry, on any system, and is none of our own."""
    if not isinstance(name, str) or name in OURS or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        return False
    return bool(name) and name == PurePosixPath(name).as_posix() and not name.startswith("/") and ".." not in name.split("/") and name != "."


class Remote:
    """What is shared at a URL. Nothing is imported or asked before the first call."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def named(cls) -> Remote | None:
        """What MITATE_SHARED names, or None."""
        url = os.environ.get(VARIABLE, "").strip()
        return cls(url) if url else None

    # results ----------------------------------------------------------------------------------------------------------

    def record(self, name: str) -> Record | None:
        """The record of a result, or None. StoreError for a damaged one, which is taken back."""
        path = self._record(name)
        try:
            return self._tried("read", lambda: Record.read(name, self._fs.cat_file(path)))
        except FileNotFoundError:
            return None
        except Damaged as wrong:
            raise self._taken_back(name, wrong) from wrong

    def records(self, names: Iterable[str]) -> dict[str, Record]:
        """The records of those results that are there."""
        return {found.name: found for found in self._each(self.record, list(names)) if found is not None}

    def push(self, record: Record, folder: Path) -> None:
        """Send the files of an entry, and then its record. StoreError where a file is not what the record says."""
        for name, sha256 in record.files.items():
            if not (folder / name).is_file() or _sha256(folder / name) != sha256:
                raise StoreError(f"The stored result {record.name[:12]} is damaged (changed: {name}), and was not shared.", fix="mitate verify --remake")
        self._each(lambda item: self._send(folder / item[0], item[1]), list(record.files.items()))
        data = record.data
        self._write(self._record(record.name), len(data), lambda path: self._fs.pipe_file(path, data))

    def fetch(self, record: Record, folder: Path) -> None:
        """Bring the files of a result into `folder`, each checked. StoreError where one is damaged or missing there; its record is then taken back."""
        for name in record.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._each(lambda item: self._receive(folder, *item), list(record.files.items()))
        except Damaged as wrong:
            raise self._taken_back(record.name, wrong) from wrong

    def _send(self, file: Path, sha256: str) -> None:
        path, size = self._file(sha256), file.stat().st_size
        if size < ASK_FIRST or self._tried("read", lambda: self._size(path)) != size:
            self._write(path, size, lambda place: self._fs.put_file(str(file), place))

    def _receive(self, folder: Path, name: str, sha256: str) -> None:
        path, target = self._file(sha256), folder / name

        def once() -> None:
            try:
                self._fs.get_file(path, str(target))
            except FileNotFoundError:
                raise Damaged(f"missing: {name}", file=sha256) from None
            if not target.is_file() or _sha256(target) != sha256:
                raise Damaged(f"changed: {name}", file=sha256)

        self._tried("read", once)

    def _taken_back(self, name: str, wrong: Damaged) -> StoreError:
        """The error of a damaged result. Its record is gone, and the damaged file: the next who asks makes it anew."""
        told, again = f"The result {name[:12]} at {self.url} is damaged ({wrong})", "run the same command again; it is made anew"
        for path in (self._record(name), *((self._file(wrong.file),) if wrong.file else ())):
            try:
                self._tried("written", lambda path=path: self._fs.rm_file(path))  # type: ignore[misc]
            except FileNotFoundError:
                continue
            except StoreError:
                return StoreError(f"{told}, and cannot be taken back.", fix=f"delete {path} there, and {again}")
        return StoreError(f"{told} and was taken back.", fix=again)

    # a word between a run and its nodes -------------------------------------------------------------------------------

    def leave(self, name: str, text: str) -> None:
        """Leave a text under `name`, for another machine to find."""
        data = text.encode()
        self._write(self._meeting(name), len(data), lambda path: self._fs.pipe_file(path, data))

    def left(self, name: str) -> str | None:
        """The text that was left under `name`, or None."""
        try:
            return self._tried("read", lambda: self._fs.cat_file(self._meeting(name)).decode(errors="replace"))
        except FileNotFoundError:
            return None

    def forget(self, name: str) -> None:
        """Take away what was left under `name`."""
        try:
            self._tried("written", lambda: self._fs.rm_file(self._meeting(name)))
        except FileNotFoundError:
            pass

    # places -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _results(self) -> str:
        """The folder of results. The first who comes says what it stands for, so that a place where nothing can be put is found before the work."""
        packages = machine()["packages"]
        folder = f"{self._connected[1]}/{digest('mitate.versions', packages)[:12]}"
        try:
            self._tried("read", lambda: self._fs.cat_file(f"{folder}/about.json"))
        except FileNotFoundError:
            data = (json.dumps(packages, indent=1) + "\n").encode()
            self._write(f"{folder}/about.json", len(data), lambda path: self._fs.pipe_file(path, data))
        return folder

    def _record(self, name: str) -> str:
        return f"{self._results}/records/{name[:2]}/{name[2:]}.json"

    def _file(self, sha256: str) -> str:
        return f"{self._results}/files/{sha256[:2]}/{sha256[2:]}"

    def _meeting(self, name: str) -> str:
        return f"{self._connected[1]}/meetings/{name}"

    # the file system --------------------------------------------------------------------------------------------------

    @property
    def _fs(self) -> Any:
        return self._connected[0]

    @cached_property
    def _connected(self) -> tuple[Any, str]:
        """The file system of fsspec, and the folder in it."""
        from fsspec import get_filesystem_class
        from fsspec.core import url_to_fs

        protocol = _protocol(self.url)
        try:
            get_filesystem_class(protocol)
        except ValueError as wrong:
            raise SettingError(f"{VARIABLE}={self.url}: there is no protocol {protocol!r}.", fix=LIKE) from wrong
        except ImportError as wrong:
            module = str(getattr(wrong.__cause__, "name", None) or protocol).partition(".")[0]
            package = PACKAGES.get(module, module)
            raise MissingExtra(f"{VARIABLE}={self.url} needs the package {package}.", fix=f"pip install {package}, on every machine") from wrong
        try:
            system, root = self._tried("reached", lambda: url_to_fs(self.url))
        except FileNotFoundError as wrong:
            raise self._refused("reached", wrong) from wrong
        if not root.strip("/"):
            raise SettingError(f"{VARIABLE}={self.url} names no folder.", fix=LIKE)
        return system, root.rstrip("/")

    def _write(self, path: str, size: int, put: Callable[[str], object]) -> None:
        """Put a file of `size` bytes at `path`, and look whether it came there whole."""

        def once() -> None:
            try:
                put(place)
            except FileNotFoundError:
                self._make_folder(path.rpartition("/")[0])
                put(place)
            if (found := self._size(place)) != size:
                raise OSError(f"{found} of {size} bytes came there")
            if place != path:
                self._fs.mv(place, path)

        place = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if _protocol(self.url) in RENAMES else path
        try:
            self._tried("written", once)
        except FileNotFoundError as wrong:
            raise StoreError(f"There is no {self.url}.", fix=f"make its bucket or first folder, or set {VARIABLE} to one that is there") from wrong

    def _make_folder(self, path: str) -> None:
        """A folder and those above it. Never what has none above it: a bucket that is missing is a mistake, and is not made."""
        above = path.rpartition("/")[0]
        if not above:
            raise FileNotFoundError(path)
        for made_above in (False, True):
            try:
                return self._fs.mkdir(path, create_parents=False)
            except FileExistsError:
                return
            except FileNotFoundError:
                if made_above:
                    raise
                self._make_folder(above)

    def _size(self, path: str) -> int | None:
        """Bytes of what is there now, not of what a list of an earlier moment says; None where nothing is."""
        self._fs.invalidate_cache()
        try:
            return int(self._fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def _each(self, act: Callable[[T], U], items: list[T]) -> list[U]:
        """`act` on each; several at a time where the file system was made for that."""
        if len(items) < 2 or not getattr(self._fs, "async_impl", False):
            return [act(item) for item in items]
        with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
            return list(pool.map(act, items))

    def _tried(self, doing: str, act: Callable[[], T]) -> T:
        """What `act` returns, tried thrice. FileNotFoundError is an answer; the last Damaged comes out as it is; all else is a StoreError."""
        for pause in (*PAUSES, None):
            try:
                return act()
            except (FileNotFoundError, MitateError):
                raise
            except Exception as wrong:  # each file system has errors of its own
                if doing == "read" and isinstance(wrong, OSError) and wrong.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # of this machine's disk
                if pause is None and isinstance(wrong, Damaged):
                    raise
                if pause is None or isinstance(wrong, (PermissionError, NotImplementedError)):
                    raise self._refused(doing, wrong) from wrong
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _refused(self, doing: str, wrong: Exception) -> StoreError:
        lines = [line.strip().rstrip(".") for line in str(wrong).splitlines() if line.strip()]
        told = f"{type(wrong).__name__}: {lines[0][:200]}" if lines else type(wrong).__name__
        kept = f"run the same command again, or without {VARIABLE}; finished work is kept"
        do = "let its key read, write, list and delete there" if isinstance(wrong, PermissionError) else "check the address, the key and the network"
        return StoreError(f"What is shared at {self.url} cannot be {doing} ({told}).", fix=f"{do}, and {kept}")


def _protocol(url: str) -> str:
    """The protocol of a plain URL. SettingError for what is none, or holds a password: it would travel to other machines and into messages."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s?#*\[\]]+", url) or "::" in url:
        raise SettingError(f"{VARIABLE}={url} is no plain URL.", fix=LIKE)
    parts = urlsplit(url)
    if parts.password is not None:
        hidden = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise SettingError(f"{VARIABLE}={hidden} holds a password.", fix="leave it out, and give it by what fsspec reads (docs/store.md)")
    if parts.scheme == "file" and parts.netloc:
        raise SettingError(f"{VARIABLE}={url} names no whole path.", fix=LIKE)
    return parts.scheme


def _sha256(path: Path) -> str:
    with open(path, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
