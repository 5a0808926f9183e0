"""Files written whole or not at all, locks between processes, and what the disk says as an error that a user can act on."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MitateError, StoreError
from mitate.settings import plain


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or leave what was there: through a neighbour that is renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as fresh, open(fresh, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A neighbour to write, which then takes the file's place: a kill leaves what was there, and the next write takes the neighbour away."""
    sweep(path)
    fresh = neighbour(path)
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def neighbour(path: Path) -> Path:
    """Where this process may write before the file takes its place; `sweep` knows such names."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(path: Path) -> None:
    """Take away what processes that were killed as they wrote `path` have left beside it: `.NAME.PID.tmp`, a file or a folder."""
    if os.name != "posix":  # elsewhere nobody can ask whether a process lives
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        number = left.name.removesuffix(".tmp").rpartition(".")[2]
        if number.isdecimal() and not _lives(int(number)):
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write a record as indented JSON, atomically."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def checked_name(name: str) -> str:
    """`name` if it is safe as one file name: letters, digits, dot, dash, underscore, not starting with a dot."""
    if not name or name.startswith(".") or not all(c.isalnum() or c in "._-" for c in name) or len(name) > 100:
        raise DataError(f"{name!r} cannot be a kept name.", fix="use letters, digits, dots, dashes and underscores")
    return name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait for whoever holds it. Where the system has no such locks, nothing is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            import fcntl
        except ImportError:  # not a Unix
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn what the disk says into an error a user can act on."""
    try:
        yield
    except MitateError:
        raise
    except Exception as wrong:
        if _is_full(wrong):
            raise StoreError(
                f"No space left on the disk of {root}.", fix="free some space (mitate clean) and run the same command again; finished work is kept"
            ) from wrong
        number, name = (wrong.errno, wrong.filename or root) if isinstance(wrong, OSError) else (None, root)
        if number in (errno.EIO, errno.ENAMETOOLONG, errno.EMFILE, errno.ELOOP):
            raise StoreError(f"{name} cannot be used ({wrong.strerror}).", fix="check the disk and the place, and run the same command again") from wrong  # type: ignore[attr-defined]
        if number in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreError(f"{name} cannot be written.", fix="make it writable, or set MITATE_HOME to a folder that is") from wrong
        if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise StoreError(f"{name} is in the way: a file stands where a folder should be, or a folder where a file.", fix="choose another place") from wrong
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The same for a file that the user named: whatever else the system says of its place is one line too, also of one that vanished meanwhile."""
    try:
        with disk_errors(path):
            yield
    except OSError as wrong:
        raise StoreError(f"{path} cannot be written ({wrong.strerror}).", fix="choose another place") from wrong


def _is_full(wrong: Exception) -> bool:
    """Whether the disk is full. NumPy and safetensors say so in words only, without the system's error number."""
    if isinstance(wrong, OSError) and wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return re.search(r"\d+ requested and \d+ written|No space left on device", str(wrong)) is not None
