"""The store: a result's name is the digest of what was asked, so cache, resume and provenance are one mechanism.

    .mitate/objects/3f/9ac1.../     asked.json · the data · result.json, written last
    .mitate/partial/3f9ac1.../      a job under way: its checkpoint; a killed job goes on from here
    .mitate/refs/leaves-diff        a kept name -> digest
    .mitate/secret                  32 bytes that `blind` needs; made when first asked for, never handed on
    .mitate/openings.jsonl          which test images were opened, by which run (see studies/gates); `clean` never touches it

A result is built in a folder of its own and renamed into place, so a reader never sees half of one; two processes may race, the
first wins and the second uses what the first made. Deleting the store costs time, never a result in a run folder.

Machines can share results at a URL as well (MITATE_SHARED, see `remote`): what is made here goes there, and what is not here is looked for there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mitate.errors import StoreError
from mitate.files import checked_name, disk_errors, file_digest, locked, write_json, write_text
from mitate.remote import Damaged, Record, Remote
from mitate.settings import digest, parsed, plain

HOME = ".mitate"
DIGEST = re.compile("[0-9a-f]{64}")
EARLIER = ("earlier_seconds", "earlier_cpu_seconds")  # of the parts of a work before the last kill
OWN = {"images", "given", "part", "half", "file", "learnt"}  # results that are the user's own images or files: shared only where a job elsewhere needs them


@dataclass(frozen=True)
class Asked:
    """What was asked: a verb, the version of its code, its settings, and the digests of what goes in."""

    verb: str
    version: int
    settings: Any
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest("mitate.asked", self)


@dataclass(frozen=True)
class Entry:
    """A finished result: its folder and its `result.json`. Where only the shared store has it, it comes here when its folder is asked for."""

    digest: str
    _folder: Path
    result: dict[str, Any]
    _bring: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        if self._bring is not None:
            self._bring()
        return self._folder

    def path(self, name: str) -> Path:
        return self.folder / name


class Store:
    """The folder that keeps results. `Store.find()` looks upward from here for `.mitate`, or takes MITATE_HOME. shared: where results go as well."""

    def __init__(self, root: Path | str, *, shared: Remote | None = None) -> None:
        self.root, self.shared = Path(root), shared
        self._records: dict[str, Record] = {}  # of the shared store, as far as they were read

    @classmethod
    def find(cls, start: Path | None = None) -> Store:
        """The store that work in `start` (default: here) uses: MITATE_HOME, else the nearest `.mitate` upward, else a new one here; shared at MITATE_SHARED."""
        return cls(_home(start), shared=Remote.named())

    def folder_of(self, name: str) -> Path:
        return self.root / "objects" / name[:2] / name[2:]

    def get(self, asked: Asked | str) -> Entry | None:
        """The finished result of `asked` (or of a digest), or None."""
        name = asked if isinstance(asked, str) else asked.digest
        if not DIGEST.fullmatch(name):  # a changed reference must not lead out of the store
            return None
        return self._here(name) or self._elsewhere([name]).get(name)

    def found(self, names: Iterable[str]) -> dict[str, Entry]:
        """The finished results of those of many digests that have one; what is elsewhere is asked for all at once."""
        names = [name for name in dict.fromkeys(names) if DIGEST.fullmatch(name)]
        here = {name: entry for name in names if (entry := self._here(name)) is not None}
        return here | self._elsewhere([name for name in names if name not in here])

    def _here(self, name: str) -> Entry | None:
        folder = self.folder_of(name)
        try:
            result = parsed((folder / "result.json").read_text(encoding="utf-8"))
            if not isinstance(result, dict):
                raise ValueError("it is no record")
            return Entry(name, folder, result)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as wrong:
            raise StoreError(f"The stored result {name[:12]} cannot be read ({wrong}).", fix="mitate verify --remake") from wrong

    def there(self, digest: str) -> Entry:
        """The result of a digest that this command has kept or found before."""
        entry = self.get(digest)
        if entry is None:
            raise StoreError(f"The result {digest[:12]} vanished from the store.", fix="run the same command again")
        return entry

    def make(self, asked: Asked, build: Callable[[Path, Path], dict[str, Any]]) -> Entry:
        """The result of `asked`: found, or made by `build(folder, checkpoint) -> result` and kept.

        `build` writes its files into `folder`; `checkpoint` is a folder that outlives a kill. A result another process finished
        first is taken and ours dropped. `seconds` of the result, and `cpu_seconds` that this process had of a processor, are those of all parts of
        the work: a `build` that goes on from a checkpoint tells `earlier_seconds` and `earlier_cpu_seconds`; where one that found a checkpoint does
        not, or tells None, the result is `resumed`, and its seconds are the last part's.
        """
        if entry := self.get(asked):
            return entry
        name = asked.digest
        fresh, checkpoint = self._fresh(name), self.root / "partial" / name
        with disk_errors(self.root):
            fresh.mkdir(parents=True)
            checkpoint.mkdir(parents=True, exist_ok=True)
            begun = any(checkpoint.iterdir())
        try:
            with disk_errors(self.root):
                started, started_cpu = time.perf_counter(), time.process_time()
                result = {key: value for key, value in build(fresh, checkpoint).items() if value is not None or key not in EARLIER}
                resumed = {"resumed": True} if begun and not set(EARLIER) <= result.keys() else {}
                seconds = result.pop("earlier_seconds", 0.0) + time.perf_counter() - started
                cpu = result.pop("earlier_cpu_seconds", 0.0) + time.process_time() - started_cpu
                result = {"seconds": seconds, "cpu_seconds": cpu, **resumed, **result}
                result["files"] = {p.relative_to(fresh).as_posix(): file_digest(p) for p in sorted(fresh.rglob("*")) if p.is_file()}
                write_json(fresh / "asked.json", {**plain(asked), "digest": name})
                write_json(fresh / "result.json", result)
                self._place(fresh, name)
                shutil.rmtree(checkpoint, ignore_errors=True)
        except Exception:
            if entry := self._here(name):  # another process finished it first, and cleared the checkpoint we were using
                return entry
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        entry = self._here(name)
        if entry is None:
            raise StoreError(f"The result {name[:12]} vanished while it was kept.", fix="run the same command again")
        if self.shared is not None and asked.verb not in OWN:
            self._push(entry)
        return entry

    def _place(self, fresh: Path, name: str) -> None:
        final = self.folder_of(name)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(fresh, final)
        except OSError:
            if self._here(name) is not None:
                return
            self.drop(name)  # what is there is the rest of a result that was being dropped
            os.rename(fresh, final)

    def inputs(self, entry: Entry) -> set[str]:
        """Digests of what went into a result. StoreError where its question is damaged."""
        try:
            known = self._records.get(entry.digest)
            asked = known.asked if known is not None else parsed(entry.path("asked.json").read_text(encoding="utf-8"))
            return set(map(str, dict(asked["inputs"]).values()))
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise StoreError(f"The stored result {entry.digest[:12]} cannot be read ({wrong}).", fix="mitate verify --remake") from wrong

    # what is shared ---------------------------------------------------------------------------------------------------

    def bring(self, names: Iterable[str]) -> None:
        """Copy those results here that only the shared store has."""
        for name in names:
            if (entry := self.get(name)) is not None:
                _ = entry.folder

    def share(self, names: Iterable[str]) -> None:
        """Push those results that are here and not in the shared store."""
        if self.shared is not None:
            mine = {name: entry for name in dict.fromkeys(names) if name not in self._records and (entry := self._here(name)) is not None}
            there = self._elsewhere(list(mine))
            for name, entry in mine.items():
                if name not in there:
                    self._push(entry)

    def doubt(self) -> None:
        """Ask anew what the shared store has."""
        self._records.clear()

    def told(self, asked: Asked, result: dict[str, Any]) -> None:
        """Believe another machine that it has pushed this result, so that nobody has to ask. StoreError where the result cannot be one."""
        try:
            self._records[asked.digest] = Record.of(asked.digest, {**plain(asked), "digest": asked.digest}, result)
        except Damaged as wrong:
            raise StoreError(f"The result {asked.digest[:12]} of another machine is damaged ({wrong}).", fix="run the same command again") from wrong

    def _elsewhere(self, names: list[str]) -> dict[str, Entry]:
        """Those results that the shared store has. Their records are read once, their files when they are needed."""
        if self.shared is None:
            return {}
        self._records |= self.shared.records([name for name in names if name not in self._records])
        found = [self._records[name] for name in names if name in self._records]
        return {record.name: Entry(record.name, self.folder_of(record.name), record.result, partial(self._fetch, record)) for record in found}

    def _fetch(self, record: Record) -> None:
        """Copy a result here, built apart and renamed into place as one that is made here."""
        if self._here(record.name) is not None:
            return
        assert self.shared is not None
        fresh = self._fresh(record.name)
        try:
            with disk_errors(self.root):
                fresh.mkdir(parents=True)
                self.shared.fetch(record, fresh)
                write_json(fresh / "asked.json", record.asked)
                write_json(fresh / "result.json", record.result)
                self._place(fresh, record.name)
        except StoreError:
            self._records.pop(record.name, None)
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _push(self, entry: Entry) -> None:
        assert self.shared is not None
        with disk_errors(self.root):
            asked = parsed(entry.path("asked.json").read_text(encoding="utf-8"))
            try:
                record = Record.of(entry.digest, asked, entry.result)
            except Damaged as wrong:
                raise StoreError(f"The stored result {entry.digest[:12]} is damaged ({wrong}), and was not shared.", fix="mitate verify --remake") from wrong
            self.shared.push(record, entry.folder)
        self._records[entry.digest] = record

    def _fresh(self, name: str) -> Path:
        return self.root / "building" / f"{name[:12]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    # kept names -------------------------------------------------------------------------------------------------------

    def keep(self, name: str, target: str) -> None:
        """Give the result `target` the name `name`, replacing an older one."""
        with disk_errors(self.root):
            write_text(self.root / "refs" / checked_name(name), target + "\n")

    def kept(self, name: str) -> Entry | None:
        """The result kept under `name`, or None."""
        try:
            target = (self.root / "refs" / checked_name(name)).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return self.get(target)

    def refs(self) -> dict[str, str]:
        """Every kept name and its digest."""
        folder = self.root / "refs"
        if not folder.is_dir():
            return {}
        files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file())  # a kill may leave half a hidden one
        return {p.name: p.read_text(encoding="utf-8", errors="replace").strip() for p in files}

    def blind(self, name: str) -> str:
        """A name in place of `name` that nobody can guess who has not this store: its HMAC with the store's secret, 64 hex characters."""
        path = self.root / "secret"
        with disk_errors(self.root), locked(self.root / ".secret.lock"):
            if not path.exists():
                fresh = self.root / f".secret.{os.getpid()}.tmp"
                fresh.unlink(missing_ok=True)
                with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                    out.write(secrets.token_hex(32) + "\n")
                os.replace(fresh, path)
            _check_own(path)
            secret = bytes.fromhex(path.read_text().strip())
        return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()

    # housekeeping -----------------------------------------------------------------------------------------------------

    def objects(self) -> Iterator[str]:
        """Digests of every object, finished or damaged."""
        for folder in sorted((self.root / "objects").glob("??/*")):
            yield folder.parent.name + folder.name

    def damage(self, name: str) -> str | None:
        """What is wrong with an object, or None: a missing or unreadable record, a changed, missing or extra file."""
        folder = self.folder_of(name)
        try:
            asked, result = (dict(parsed((folder / f).read_text(encoding="utf-8"))) for f in ("asked.json", "result.json"))
            settings = {k: asked[k] for k in ("verb", "version", "settings", "inputs")}
            listed = dict(result.get("files", {}))
            told = digest("mitate.asked", settings)
        except (OSError, ValueError, TypeError, KeyError) as wrong:
            return f"record unreadable: {wrong}"
        present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"asked.json", "result.json"}
        if missing := set(listed) - present:
            return f"missing: {', '.join(sorted(missing))}"
        if extra := present - set(listed):
            return f"not listed: {', '.join(sorted(extra))}"
        for file, expected in listed.items():
            if file_digest(folder / file) != expected:
                return f"changed: {file}"
        return None if told == name else "its question does not give its name"

    def drop(self, name: str) -> None:
        """Forget an object; it is remade when it is next asked for. It leaves its place at once and is then deleted."""
        aside = self.root / "building" / f"dropped-{name[:12]}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.folder_of(name), aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def clean(self, *, keep: set[str]) -> tuple[int, int]:
        """Drop every object that is not in `keep`, and all work under way. Returns (objects, bytes) dropped.

        Kept names are always kept, and so are ledgers and the record of opened test sets.
        """
        keep = keep | set(self.refs().values())
        count = size = 0
        for name in list(self.objects()):
            if name not in keep:
                size += sum(p.stat().st_size for p in self.folder_of(name).rglob("*") if p.is_file())
                count += 1
                self.drop(name)
        for folder in ("building", "partial"):
            size += sum(p.stat().st_size for p in (self.root / folder).rglob("*") if p.is_file())
            shutil.rmtree(self.root / folder, ignore_errors=True)
        return count, size


def _home(start: Path | None) -> Path:
    if home := os.environ.get("MITATE_HOME"):
        return Path(home)
    here = (start or Path.cwd()).resolve()
    return next((folder / HOME for folder in (here, *here.parents) if (folder / HOME).is_dir()), here / HOME)


def _check_own(secret: Path) -> None:
    """StoreError where others made the secret or can read it: noise that they can make again hides nothing from them."""
    found = secret.stat()
    if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
        raise StoreError(f"{secret} belongs to others or can be read by them.", fix="set MITATE_HOME to a folder of your own, and fit there")
