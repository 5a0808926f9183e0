"""Results shared at a URL: the same bytes on another machine; nothing half is believed; what fails says so in one line and the same command goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from mitate import remote, verbs
from mitate.answers import worked
from mitate.cli import app
from mitate.engine import Engine
from mitate.errors import JobError, MissingExtra, MitateError, SettingError, StoreError
from mitate.files import write_json
from mitate.meeting import invitation, meeting_of
from mitate.remote import Damaged, Record, Remote
from mitate.settings import plain
from mitate.store import Asked, Entry, Store
from mitate.study import Job
from mitate.verbs import keep_images
from test_engine import chain, files, images

BIG = remote.ASK_FIRST  # bytes of a file that is not sent where it lies already


class Unsure(MemoryFileSystem):
    """A file system in memory that does what a test says before each request: `before("write", path)` may raise; `cut` loses bytes of what is written."""

    protocol = "unsure"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    requests: ClassVar[list[tuple[str, str]]] = []
    before: ClassVar[Callable[[str, str], None]]
    cut: ClassVar[Callable[[str, bytes], bytes]]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("unsure://", "memory://"))

    @classmethod
    def calm(cls) -> None:
        cls.before, cls.cut = staticmethod(lambda kind, path: None), staticmethod(lambda path, data: data)

    def _note(self, kind: str, path: str) -> None:
        self.requests.append((kind, path))
        type(self).before(kind, path)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        self._note("write", rpath)
        super().pipe_file(rpath, type(self).cut(rpath, Path(lpath).read_bytes()))

    def pipe_file(self, path: str, value: bytes, *args: Any, **kwargs: Any) -> None:
        self._note("write", path)
        super().pipe_file(path, type(self).cut(path, value))

    def get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        self._note("read", rpath)
        super().get_file(rpath, lpath)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._note("read", path)
        return super().cat_file(path, *args, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._note("read", path)
        return super().info(path, **kwargs)

    def rm_file(self, path: str) -> None:
        self._note("delete", path)
        super().rm_file(path)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    monkeypatch.delenv("MITATE_SHARED", raising=False)


@pytest.fixture
def unsure() -> Iterator[type[Unsure]]:
    fsspec.register_implementation("unsure", Unsure, clobber=True)
    Unsure.calm()
    for held in (Unsure.store, Unsure.pseudo_dirs[1:], Unsure.requests):
        held.clear()
    yield Unsure
    Unsure.store.clear()
    Unsure.requests.clear()


@pytest.fixture(params=["memory", "file", "several at a time"])
def url(request: pytest.FixtureRequest, tmp_path: Path, unsure: type[Unsure], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place to share at, of three sorts."""
    if request.param == "file":
        yield f"file://{tmp_path}/shared"
    elif request.param == "memory":
        yield "memory://mitate-tests"
        MemoryFileSystem.store.clear()
    else:
        monkeypatch.setattr(Unsure, "async_impl", True)
        yield "unsure://bucket/mitate"


def machine(tmp_path: Path, name: str, url: str = "unsure://bucket/mitate") -> Store:
    """A machine's own store, which shares at a URL."""
    return Store(tmp_path / name, shared=Remote(url))


def made(store: Store, text: str = "hello", *, verb: str = "write", size: int = 0) -> Entry:
    """A result of two files, one of them in a folder."""

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        (folder / "text.txt").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "zeros.bin").write_bytes(bytes(size))
        return {"length": len(text)}

    return store.make(question(text, verb=verb), build)


def question(text: str = "hello", *, verb: str = "write") -> Asked:
    return Asked(verb, 1, {"text": text})


def bytes_of(entry: Entry) -> dict[str, bytes]:
    return {p.relative_to(entry.folder).as_posix(): p.read_bytes() for p in sorted(entry.folder.rglob("*")) if p.is_file()}


def in_one_line(wrong: pytest.ExceptionInfo[MitateError]) -> str:
    said = str(wrong.value)
    assert "\n" not in said and wrong.value.fix
    return said


# what another machine gets --------------------------------------------------------------------------------------------


def test_what_one_machine_made_another_finds_with_the_same_bytes_and_runs_nothing(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = machine(tmp_path, "a", url), machine(tmp_path, "b", url)
    with Engine(a, workers=0) as engine:
        first = engine.run(chain(a))
    monkeypatch.setattr(verbs, "perform", lambda *given, **k: pytest.fail("a job ran"))
    with Engine(b, workers=0) as engine:
        second = engine.run(chain(b))
    assert files(second) == files(first)
    assert [bytes_of(entry) for entry in second.values()] == [bytes_of(entry) for entry in first.values()]
    assert all(b.damage(entry.digest) is None for entry in second.values())
    assert list((b.root / "building").iterdir()) == []


def test_a_result_comes_here_only_when_something_of_it_is_opened(tmp_path: Path, url: str) -> None:
    name = made(machine(tmp_path, "a", url)).digest
    b = machine(tmp_path, "b", url)
    entry = b.there(name)
    assert entry.result["length"] == 5 and b.found([name, "0" * 64]) == {name: entry} and b.inputs(entry) == set()
    assert list(b.objects()) == []
    assert entry.path("text.txt").read_text() == "hello" and list(b.objects()) == [name] and b.damage(name) is None
    b.drop(name)
    assert entry.path("text.txt").read_text() == "hello", "what was dropped here is fetched again"


def test_a_job_gets_what_it_needs_from_elsewhere_and_its_seconds_are_those_of_its_work(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    fit, *_, draw = chain(a)[1:]
    with Engine(a, workers=0) as engine:
        engine.run([fit])
    chain(b)  # keeps the images
    with Engine(b, workers=0) as engine:
        found = engine.run([draw])
    assert b.damage(fit.digest) is None and found[draw].result["images"] == 12
    order = [path for kind, path in unsure.requests if kind == "write"]
    assert draw.digest[2:] in order[-1], "and pushes what it made"


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_local_workers_fetch_and_push_too(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, alone = machine(tmp_path, "a", url), machine(tmp_path, "b", url), Store(tmp_path / "alone")
    monkeypatch.setenv("MITATE_SHARED", "memory://not-this-one")
    jobs = chain(a)
    with Engine(a, workers=0) as engine:
        engine.run(jobs[:2])
    with Engine(b, workers=1) as engine:
        made_by_worker = engine.run(chain(b))
    with Engine(alone, workers=0) as engine:
        assert files(engine.run(chain(alone))) == files(made_by_worker)
    c = machine(tmp_path, "c", url)
    assert set(c.found([job.digest for job in jobs])) == {job.digest for job in jobs}
    assert {job.digest for job in jobs[2:4]} <= set(b.objects())


def test_own_images_stay_until_a_job_elsewhere_needs_them(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    kept = keep_images(a, images(), size=8, channels=1)
    half = made(a, verb="half").digest
    assert not stored(unsure, "/files/") and b.get(kept) is None
    a.share([kept, half, kept])
    assert b.get(kept) is not None and b.get(half) is not None
    written = len([kind for kind, _ in unsure.requests if kind == "write"])
    a.share([kept])
    machine(tmp_path, "a").share([kept, "0" * 64, "no digest"])
    assert len([kind for kind, _ in unsure.requests if kind == "write"]) == written, "what is there is not sent again"


def test_a_big_file_is_sent_once_whichever_result_holds_it(tmp_path: Path, unsure: type[Unsure]) -> None:
    a = machine(tmp_path, "a")
    made(a, "one", size=BIG)
    made(a, "two", size=BIG)
    zeros = hashlib.sha256(bytes(BIG)).hexdigest()
    assert sum(kind == "write" and path.endswith(zeros[2:]) for kind, path in unsure.requests) == 1
    assert bytes_of(machine(tmp_path, "b").there(question("two").digest))["deep/zeros.bin"] == bytes(BIG)


def test_a_job_takes_two_requests_a_file_two_for_its_record_and_two_to_see_that_nobody_made_it(tmp_path: Path, unsure: type[Unsure]) -> None:
    a = machine(tmp_path, "a")
    fit = chain(a)[0]
    a.share(fit.asked.inputs.values())
    unsure.requests.clear()
    entry = worked(a, fit.asked)
    assert len(unsure.requests) == 2 * len(entry.result["files"]) + 4


def test_a_small_result_takes_two_requests_a_file_and_two_for_its_record(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    name = made(a).digest
    first, *rest = [(kind, path.rpartition("/")[2]) for kind, path in unsure.requests]
    assert first == ("read", "about.json") and len(rest) == 2 + 1 + 2 * 2 + 2, "the first says what the place is; asked once; all is written, and looked at"
    unsure.requests.clear()
    made(b)
    assert len(unsure.requests) == 2, "what the place is, and the record"
    assert b.there(name).path("text.txt").exists() and sum(kind == "read" and "/files/" in path for kind, path in unsure.requests) <= 2 * 2


def test_machines_with_other_versions_do_not_read_each_others_results(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(machine(tmp_path, "a", url)).digest
    real = remote.machine()
    monkeypatch.setattr(remote, "machine", lambda: {**real, "packages": {**real["packages"], "torch": "1.0"}})
    assert machine(tmp_path, "b", url).get(name) is None


def test_two_that_push_the_same_result_with_other_bytes_leave_one_of_them_whole(tmp_path: Path, url: str) -> None:
    def build(text: str) -> Callable[[Path, Path], dict[str, Any]]:
        def inner(folder: Path, checkpoint: Path) -> dict[str, Any]:
            (folder / "text.txt").write_text(text)
            (folder / "same.txt").write_text("same")
            return {}

        return inner

    asked = question()
    for name, text in (("a", "one"), ("b", "another")):
        Store(tmp_path / name).make(asked, build(text))  # each by itself
    for name in "ab":
        machine(tmp_path, name, url)._push(Store(tmp_path / name).there(asked.digest))
    c = machine(tmp_path, "c", url).there(asked.digest)
    assert bytes_of(c)["text.txt"] == b"another" and Store(tmp_path / "c").damage(asked.digest) is None


def test_the_store_of_a_command_shares_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_fit: list[str]) -> None:
    monkeypatch.setenv("MITATE_SHARED", f"file://{tmp_path}/shared")
    for name in "ab":
        monkeypatch.setenv("MITATE_HOME", str(tmp_path / name))
        said = CliRunner().invoke(app, ["fit", "gaussian", "digits:20", "--as", "plain"])
        assert said.exit_code == 0, said.output + str(said.exception)
    assert real_fit == ["fit"], "the second machine found what the first had fitted"
    digests = {(tmp_path / name / "refs" / "plain").read_text() for name in "ab"}
    assert len(digests) == 1
    assert CliRunner().invoke(app, ["clean"]).exit_code == 0 and Store(tmp_path / "b").get(digests.pop().strip()) is None, "nothing came for `clean`"


@pytest.fixture
def real_fit(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which verbs were really performed."""
    ran: list[str] = []
    real = verbs.VERBS["fit"]
    monkeypatch.setitem(verbs.VERBS, "fit", replace(real, run=lambda work: ran.append("fit") or real.run(work)))
    return ran


# what can break -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(3))
def test_a_write_that_fails_for_good_keeps_the_result_here_and_shows_nothing_there(tmp_path: Path, unsure: type[Unsure], n: int) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    assert a.get(question()) is None
    unsure.requests.clear()

    def fail(kind: str, path: str) -> None:
        if kind == "write" and len({p for k, p in unsure.requests if k == "write"}) > n:
            raise OSError("connection reset")

    unsure.before = staticmethod(fail)
    with pytest.raises(StoreError, match="What is shared at unsure://bucket/mitate cannot be written .*connection reset") as wrong:
        made(a)
    assert "finished work is kept" in in_one_line(wrong) and "without MITATE_SHARED" in wrong.value.fix
    unsure.calm()
    name = question().digest
    assert a.get(name) is not None and b.get(name) is None, "the record comes last"
    assert list((a.root / "building").iterdir()) == []
    a.share([name])
    assert bytes_of(b.there(name)) == bytes_of(a.there(name))


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize("every", [2, 3])
def test_a_connection_that_drops_now_and_then_does_no_harm(tmp_path: Path, unsure: type[Unsure], kind: str, every: int) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")

    def fail(what: str, path: str) -> None:
        if what == kind and sum(k == kind for k, _ in unsure.requests) % every == 0:
            raise ConnectionResetError("peer")

    unsure.before = staticmethod(fail)
    name = made(a, size=BIG).digest
    assert bytes_of(b.there(name)) == bytes_of(a.there(name))


@pytest.mark.parametrize("part", ["/files/", "/records/"])
def test_what_arrives_short_is_sent_again_and_in_the_end_refused(tmp_path: Path, unsure: type[Unsure], part: str) -> None:
    a, b, lost = machine(tmp_path, "a"), machine(tmp_path, "b"), [1]
    unsure.cut = staticmethod(lambda path, data: data[:-1] if part in path and data and lost and lost.pop() else data)
    name = made(a).digest
    assert lost == [] and bytes_of(b.there(name)) == bytes_of(a.there(name))
    unsure.cut = staticmethod(lambda path, data: data[:-1] if part in path else data)
    with pytest.raises(StoreError, match=r"cannot be written \(OSError: \d+ of \d+ bytes came there\)") as wrong:
        made(a, "hello again")
    in_one_line(wrong)


def stored(unsure: type[Unsure], part: str) -> list[str]:
    return sorted(path for path in unsure.store if part in path)


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "changed": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[: len(data) // 2],
    "gone": lambda data: None,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_found_by_its_digest_taken_back_and_made_anew(tmp_path: Path, unsure: type[Unsure], how: str) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    name, before = made(a, size=BIG).digest, bytes_of(made(a, size=BIG))
    path = next(p for p in stored(unsure, "/files/") if unsure.store[p].size == BIG)
    spoil(unsure, path, DAMAGE[how])
    entry = b.there(name)
    with pytest.raises(StoreError, match=f"The result {name[:12]} at unsure://bucket/mitate is damaged .*deep/zeros.bin.* was taken back") as wrong:
        _ = entry.folder
    assert wrong.value.fix == "run the same command again; it is made anew" and in_one_line(wrong)
    assert list(b.objects()) == [] and list((b.root / "building").iterdir()) == []
    assert b.get(name) is None and {k: v for k, v in bytes_of(made(b, size=BIG)).items() if k != "result.json"} == without_record(before)
    assert without_record(bytes_of(machine(tmp_path, "c").there(name))) == without_record(before)


def without_record(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if name != "result.json"}


def spoil(unsure: type[Unsure], path: str, change: Callable[[bytes], bytes | None]) -> None:
    new = change(unsure.store[path].getvalue())
    del unsure.store[path]
    if new is not None:
        MemoryFileSystem.pipe_file(fsspec.filesystem("unsure"), path, new)


def test_a_file_that_was_damaged_on_its_way_is_fetched_anew(tmp_path: Path, unsure: type[Unsure], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, left = machine(tmp_path, "a"), machine(tmp_path, "b"), [1, 1]
    name, real = made(a).digest, Unsure.get_file

    def garbled(self: Unsure, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        real(self, rpath, lpath)
        if left and left.pop():
            Path(lpath).write_bytes(b"half")

    monkeypatch.setattr(Unsure, "get_file", garbled)
    assert bytes_of(b.there(name)) == bytes_of(a.there(name)) and left == []


HALF: dict[str, Callable[[dict[str, Any]], object]] = {
    "half written": lambda record: json.dumps(record)[:-20],
    "no text": lambda record: b"\xff\xfe",
    "a list": lambda record: [],
    "nested too deep": lambda record: "[" * 100_000,
    "no question": lambda record: {"result": record["result"]},
    "another question": lambda record: {**record, "asked": {**record["asked"], "version": 2}},
    "no number": lambda record: json.dumps({**record, "result": {**record["result"], "length": float("nan")}}),
    "brackets that only just can be read": lambda record: json.dumps({**record, "result": {**record["result"], "x": 0}})[:-4] + "[" * 900 + "]" * 900 + "}}",
    "half a character": lambda record: json.dumps({**record, "result": {**record["result"], "x": "\ud800"}}),
    "no files": lambda record: {**record, "result": {"length": 5}},
    "files of no digest": lambda record: {**record, "result": {"files": {"text.txt": "../../secret"}}},
    "files in a list": lambda record: {**record, "result": {"files": ["text.txt"]}},
}
NAMES = ("../out", "/etc/out", "deep/../../out", "..", ".", "", "asked.json", "result.json", "deep\\out", "C:out", "deep//out", "./out", "out\n", "out\0")
EVIL: dict[str, Callable[[dict[str, Any]], object]] = {
    f"name {i}": lambda record, name=name: {**record, "result": {"files": {name: hashlib.sha256(b"hello").hexdigest()}}}  # type: ignore[misc]
    for i, name in enumerate(NAMES)
}


@pytest.mark.parametrize("how", [*HALF, *EVIL])
def test_a_record_that_is_none_is_refused_and_taken_back(tmp_path: Path, unsure: type[Unsure], how: str) -> None:
    name = made(machine(tmp_path, "a")).digest
    (path,) = stored(unsure, "/records/")
    found = {**HALF, **EVIL}[how](json.loads(unsure.store[path].getvalue()))
    data = found if isinstance(found, bytes) else (found if isinstance(found, str) else json.dumps(found)).encode()
    spoil(unsure, path, lambda _: data)
    b = machine(tmp_path, "b")
    with pytest.raises(StoreError, match=f"The result {name[:12]} at .* is damaged .* was taken back") as wrong:
        b.get(name)
    in_one_line(wrong)
    assert stored(unsure, "/records/") == [] and not (tmp_path / "b").exists() and not list(tmp_path.rglob("out*"))
    assert b.get(name) is None and made(b).result["length"] == 5


def test_what_may_not_be_taken_back_is_named(tmp_path: Path, unsure: type[Unsure]) -> None:
    name = made(machine(tmp_path, "a")).digest
    (path,) = stored(unsure, "/records/")
    spoil(unsure, path, DAMAGE["cut"])

    def fail(kind: str, path: str) -> None:
        if kind == "delete":
            raise PermissionError("403")

    unsure.before = staticmethod(fail)
    with pytest.raises(StoreError, match="cannot be taken back") as wrong:
        machine(tmp_path, "b").get(name)
    assert path in wrong.value.fix and in_one_line(wrong)


def test_a_result_that_is_damaged_here_is_not_shared(tmp_path: Path, unsure: type[Unsure]) -> None:
    a = machine(tmp_path, "a")
    entry = made(a, verb="images")
    entry.path("text.txt").write_text("other")
    with pytest.raises(StoreError, match=r"is damaged \(changed: text.txt\), and was not shared") as wrong:
        a.share([entry.digest])
    assert wrong.value.fix == "mitate verify --remake" and not stored(unsure, "/files/")


def test_no_right_to_read_is_said_at_once(tmp_path: Path, unsure: type[Unsure]) -> None:
    def fail(kind: str, path: str) -> None:
        raise PermissionError("Access Denied")

    unsure.before = staticmethod(fail)
    with pytest.raises(StoreError, match="cannot be read .*Access Denied") as wrong:
        machine(tmp_path, "a").get(question())
    assert wrong.value.fix.startswith("let its key read, write, list and delete there") and in_one_line(wrong) and len(unsure.requests) == 1


def test_a_disk_that_is_full_here_is_not_blamed_on_the_place_there(tmp_path: Path, unsure: type[Unsure], monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(machine(tmp_path, "a")).digest

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Unsure, "get_file", full)
    with pytest.raises(StoreError, match=f"No space left on the disk of {tmp_path / 'b'}"):
        _ = machine(tmp_path, "b").there(name).folder


def test_a_bucket_that_is_missing_is_said_and_not_made(tmp_path: Path, unsure: type[Unsure], monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def fail(kind: str, path: str) -> None:
        if kind == "write":
            raise FileNotFoundError("NoSuchBucket")

    def mkdir(self: Unsure, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        folders.append(path)
        raise FileNotFoundError(path)

    unsure.before = staticmethod(fail)
    monkeypatch.setattr(Unsure, "mkdir", mkdir)
    with pytest.raises(StoreError, match="There is no unsure://bucket/mitate") as wrong:
        machine(tmp_path, "a").make(question(), lambda folder, checkpoint: pytest.fail("the work was begun"))
    assert in_one_line(wrong) and folders and all(path.startswith("/bucket/mitate") for path in folders), "folders in a bucket, but no bucket"


@pytest.mark.parametrize("wrong", [RuntimeError("a driver's own\nerror"), TimeoutError(), ValueError("bad range")])
def test_an_error_of_any_kind_of_file_system_is_one_line(tmp_path: Path, unsure: type[Unsure], wrong: Exception) -> None:
    def fail(kind: str, path: str) -> None:
        raise wrong

    unsure.before = staticmethod(fail)
    with pytest.raises(StoreError, match=type(wrong).__name__) as found:
        machine(tmp_path, "a").get(question())
    in_one_line(found)
    assert len(unsure.requests) == 3


def test_an_input_that_was_taken_back_ends_the_run_and_the_same_run_makes_it_anew(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    with Engine(a, workers=0) as engine:
        expected = files(engine.run(chain(a)))
    for job in chain(a)[2:]:
        spoil_record(unsure, job, lambda data: None)  # the draws are lost
    for path in stored(unsure, "/files/"):
        spoil(unsure, path, DAMAGE["changed"])
    with Engine(b, workers=0) as engine, pytest.raises(StoreError, match="taken back") as wrong:
        engine.run(chain(b))
    in_one_line(wrong)
    for _ in range(2):  # one run for each of the two fits
        try:
            with Engine(b, workers=0) as engine:
                assert files(engine.run(chain(b))) == expected
        except StoreError as again:
            assert "taken back" in str(again)
    assert set(b.objects()) >= {job.digest for job in chain(b)}


@pytest.mark.parametrize("url", ["file"], indirect=True)
def test_what_a_worker_took_back_the_next_run_of_the_same_process_makes_anew(tmp_path: Path, url: str) -> None:
    a, b = machine(tmp_path, "a", url), machine(tmp_path, "b", url)
    fit, *_, draw = chain(a)[1:]
    with Engine(a, workers=0) as engine:
        engine.run([fit])
    chain(b)
    (weights,) = (Path(p) for p in tmp_path.glob("shared/*/files/*/*") if p.stat().st_size == a.there(fit.digest).path("gaussian.safetensors").stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1])
    with Engine(b, workers=1) as engine:
        with pytest.raises(StoreError, match="draw 2: .*taken back"):
            engine.run([draw])
        assert len(engine.run([draw])) == 2 and b.damage(draw.digest) is None


def spoil_record(unsure: type[Unsure], job: Job, change: Callable[[bytes], bytes | None]) -> None:
    for path in stored(unsure, f"/records/{job.digest[:2]}/{job.digest[2:]}"):
        spoil(unsure, path, change)


# addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["shared", "/shared", "s3:bucket", "S3://bucket", "s3://", "s3:///", "memory://", "file:///", "file://shared/x", "s3://b/a b", "s3://b/x?sig=1",
     "s3://b/x#y", "simplecache::s3://b/x", "s3://[b/x"],
)  # fmt: skip
def test_what_is_no_plain_url_of_a_folder_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises((SettingError, MissingExtra), match="MITATE_SHARED=") as wrong:
        machine(tmp_path, "a", url).get(question())
    in_one_line(wrong)
    assert isinstance(wrong.value, SettingError) or url in ("s3://", "s3:///")


def test_an_unknown_protocol_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is no protocol 'carrier-pigeon'") as wrong:
        machine(tmp_path, "a", "carrier-pigeon://roof/x").get(question())
    assert "s3://bucket/mitate" in in_one_line(wrong)


@pytest.mark.parametrize(("url", "module", "package"), [("s3://b/x", "s3fs", "s3fs"), ("gs://b/x", "gcsfs", "gcsfs"), ("sftp://h/x", "paramiko", "paramiko")])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in [m for m in sys.modules if m.startswith("fsspec.implementations.sftp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition(":")[0], raising=False)  # what an earlier test has loaded
    with pytest.raises(MissingExtra, match=f"needs the package {package}") as wrong:
        machine(tmp_path, "a", url).get(question())
    assert wrong.value.fix == f"pip install {package}, on every machine"


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="holds a password") as wrong:
        machine(tmp_path, "a", "sftp://me:hunter2@host/folder").get(question())
    assert "hunter2" not in in_one_line(wrong) and "sftp://...@host/folder" in str(wrong.value)


def test_nothing_is_loaded_or_asked_before_the_first_result_is_looked_for() -> None:
    code = """
import os, sys
os.environ["MITATE_SHARED"] = "carrier-pigeon://roof/x"
import mitate.cli
from mitate.store import Store
assert Store.find().shared.url == "carrier-pigeon://roof/x"
print([m for m in ("fsspec", "torch", "numpy") if m in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# with a cluster -------------------------------------------------------------------------------------------------------


def test_a_meeting_leaves_nothing_behind(tmp_path: Path, url: str) -> None:
    told = invitation(machine(tmp_path, "a", url))
    here, there = meeting_of(told), meeting_of(told)
    here.leave("token", "abc")
    assert there.left("token") == "abc" and there.left("node") is None and here.left("node") is None
    there.leave("node", "here")
    assert here.left("node") == "here"
    here.end()
    assert there.left("token") is None and there.left("node") is None
    assert meeting_of(invitation(machine(tmp_path, "a", url))).left("token") is None


def test_a_record_told_by_another_machine_needs_no_question(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    entry = made(a)
    unsure.requests.clear()
    b.told(question(), entry.result)
    assert b.there(entry.digest).result == entry.result and unsure.requests == []
    assert bytes_of(b.there(entry.digest)) == bytes_of(entry)
    with pytest.raises(StoreError, match="of another machine is damaged"):
        b.told(question("x"), {"files": {"../x": "0" * 64}})


def test_a_job_whose_input_is_nowhere_says_so(tmp_path: Path, unsure: type[Unsure]) -> None:
    job = Job("draw", "sample", 1, {"per_class": 1, "seed": 0}, {"generator": "0" * 64, "like": "1" * 64})
    with Engine(machine(tmp_path, "a"), workers=0) as engine, pytest.raises(JobError, match="is not in the store"):
        engine.run([job])


def test_a_record_holds_what_the_files_of_an_entry_hold(tmp_path: Path) -> None:
    entry = made(Store(tmp_path / "a"), "ü \u2028 " + "0.1" * 3)
    asked = json.loads(entry.path("asked.json").read_text(encoding="utf-8"))
    again = Record.read(entry.digest, Record.of(entry.digest, asked, entry.result).data)
    for name, value in (("asked.json", again.asked), ("result.json", again.result)):
        write_json(tmp_path / name, value)
        assert (tmp_path / name).read_bytes() == entry.path(name).read_bytes()
    assert asked["digest"] == entry.digest and plain(question("x")).keys() <= asked.keys()
    with pytest.raises(Damaged, match="does not give its name"):
        Record.of("0" * 64, asked, entry.result)


def test_arrays_that_come_from_elsewhere_are_never_unpickled(tmp_path: Path, unsure: type[Unsure]) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        np.save(folder / "x.npy", np.array([print], dtype=object), allow_pickle=True)
        np.save(folder / "y.npy", np.zeros(1, np.int64))
        write_json(folder / "facts.json", {"classes": ["a"]})
        return {}

    name = a.make(question(), build).digest
    with pytest.raises(ValueError, match="allow_pickle"):
        verbs.read_pixels(b.there(name))
