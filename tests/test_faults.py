"""Faults: a disk that is full, read-only or broken, two processes at once, a clock that jumps, a loss that is no number, a plug-in that fails.

A verb then ends with one line and a fix, or with what it would have made; and the same command again makes the same bytes as if nothing had been. Kills
of every verb are in benchmarks/fault_table.py.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mitate import cli, codec, registry
from mitate.engine import _Here
from mitate.errors import JobError, SettingError
from mitate.files import write_text
from mitate.generator import Pixels
from mitate.store import Store
from mitate.study import Run

WRITES = ("w", "a", "x", "+")
SMALL = "--replicates 3 --steps 5 --generators gaussian --budget 1h --engine here".split()
Mitate = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def mitate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mitate:
    """The command line, in a folder of its own: (exit code, out, err). Anything but an exit fails the test."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def call(*words: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["mitate", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code, *capsys.readouterr())

    return call


def leaves(root: Path, *, classes: int = 2, n: int = 30) -> Path:
    """Class folders of noise, brighter from class to class."""
    rng = np.random.default_rng(0)
    for k in range(classes):
        (root / f"c{k}").mkdir(parents=True)
        for i in range(n):
            (root / f"c{k}" / f"{i}.png").write_bytes(codec.encode_png(rng.integers(80 * k, 256, (8, 8, 1), dtype=np.uint8)))
    return root


def made(store: Store) -> dict[str, str]:
    """Digest of every file of every object but for what holds seconds."""
    from mitate.files import file_digest

    return {
        f"{name[:8]}/{p.name}": file_digest(p)
        for name in store.objects()
        for p in sorted(store.folder_of(name).rglob("*"))
        if p.is_file() and p.name != "result.json"
    }


class Fault:
    """The disk says no: from the write `at` on, every write fails with this error; without `at`, writes are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, *, at: int | None = None) -> None:
        self.writes, self.at, self.number = 0, at, number
        for module, name in ((os, "replace"), (os, "rename"), (os, "mkdir"), (os, "fsync")):
            monkeypatch.setattr(module, name, self.failing(getattr(os, name)))
        real = builtins.open
        monkeypatch.setattr(builtins, "open", self.failing(real, only=WRITES))
        monkeypatch.setattr(io, "open", self.failing(real, only=WRITES))

    def failing(self, real: Callable[..., Any], only: tuple[str, ...] = ()) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            mode = str(more.get("mode", words[1] if len(words) > 1 else "r"))
            if not only or any(sign in mode for sign in only):
                self.writes += 1
                if self.at is not None and self.writes >= self.at:
                    raise OSError(self.number, os.strerror(self.number), str(words[0]))
            return real(*words, **more)

        return call


COMMANDS: dict[str, list[str]] = {
    "fit": ["fit", "gaussian", "leaves", "--as", "g"],
    "generate": ["generate", "g", "--per-class", "2", "--out", "fakes"],
    "scan": ["scan", "leaves", "--json", "scan.json", "--drop-list", "drop.txt"],
    "export": ["review", "fakes", "--export", "reviewed"],
    "relabel": ["relabel", "fakes", "--near-duplicates", "--export", "relabelled"],
    "prompts": ["prompts", "--skill", "counting", "--n", "5", "--out", "p.jsonl"],
    "collapse": ["collapse", "toy", "--out", "loop", "--seeds", "1", "--generations", "2", "--n", "16"],
    "report": ["report", "loop"],
}


def results(folder: Path) -> dict[str, bytes]:
    """What the commands left in a folder: every file but hidden ones and what holds times."""
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(".") and "/." not in name and p.name != "ledger.jsonl"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What each command makes where nothing fails."""
    leaves((place := tmp_path_factory.mktemp("undisturbed")) / "leaves")
    found = {}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        patch.chdir(place)
        patch.setenv("MITATE_HOME", str(place / ".store"))
        for name, words in COMMANDS.items():
            patch.setattr(sys, "argv", ["mitate", *words])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == 0
            found[name] = results(place)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
@pytest.mark.parametrize("verb", list(COMMANDS))
def test_a_disk_that_fails_at_any_write_is_one_line_and_the_same_command_makes_the_same_bytes(
    mitate: Mitate, verb: str, number: int, undisturbed: dict[str, dict[str, bytes]]
) -> None:
    leaves(Path("leaves"))
    for earlier in list(COMMANDS)[: list(COMMANDS).index(verb)]:
        assert mitate(*COMMANDS[earlier])[0] == 0
    at, step, told = 1, 1, 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, number, at=at)
            code, _, err = mitate(*COMMANDS[verb])
        if fault.writes < at:
            break
        lines = [line for line in err.splitlines() if line.startswith(("error: ", "fix: "))]
        assert code in (0, 2) and (code == 0 or len(lines) == 2), (at, code, err)  # what is only remembered may be lost in silence
        told += code == 2
        at, step = at + step, step + 1
    assert told, "no write failed: this test would test nothing"
    assert mitate(*COMMANDS[verb])[0] == 0
    assert results(Path.cwd()) == undisturbed[verb]
    assert mitate("verify")[0] == 0


# clean ----------------------------------------------------------------------------------------------------------------


STUDIES = {
    "pilot": ["pilot", "a.npz", "--arms", "real+augment,balanced+augment", "--curve", "none", "--synthetic", "5", *SMALL],
    "volume": ["volume", "a.npz", "--volumes", "0,5", *SMALL],
    "compare": [
        "compare", "a.npz", "--generators", "gaussian", "--per-class", "8", "--seeds", "1", "--trainings", "1", "--axes", "privacy,utility", "--synthetic", "8",
        "--steps", "4", "--engine", "here",
    ],
}  # fmt: skip


def arrays(path: Path) -> Path:
    from test_volume import arrays as of_blobs

    return of_blobs(path, n=120)


@pytest.mark.parametrize("study", list(STUDIES))
def test_clean_keeps_what_a_killed_study_has_finished(mitate: Mitate, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays(Path("a.npz"))
    words = [*STUDIES[study], "--out", f"runs/{study}"]
    real, done = _Here.ended, list[str]()

    def dying(self: Any) -> Any:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(self._next.digest)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Here, "ended", dying)
        assert mitate(*words)[0] == 130
    assert mitate("clean")[0] == 0
    assert set(done) <= set(Store.find().objects()), "results of a study that is not finished were dropped"
    with monkeypatch.context() as patch:
        patch.setattr(_Here, "ended", lambda self: pytest.fail("made again") if self._next.digest in done else real(self))
        assert mitate(*words)[0] == 0
    jobs = [json.loads(line)["digest"] for line in Path(f"runs/{study}/jobs.jsonl").read_text().splitlines()]
    assert set(done) <= set(jobs) and len(set(jobs)) == len(jobs)
    assert mitate("clean")[0] == 0 and set(jobs) <= set(Store.find().objects())


@pytest.mark.parametrize("line", ["[]", "3", '{"digest": 3}', '{"inputs": {}}', '{"digest": "a", "inputs": [1]}', "{", "[" * 100_000, '"\\ud800"'])
def test_clean_is_not_stopped_by_lines_that_are_no_jobs(mitate: Mitate, line: str) -> None:
    (Path("runs") / "x").mkdir(parents=True)
    (Path("runs") / "x" / "jobs.jsonl").write_text(line + "\n")
    leaves(Path("leaves"))
    assert mitate(*COMMANDS["fit"])[0] == 0 and mitate("clean")[:2] == (0, "0 results dropped, 0.0 MB freed\n")


def test_what_a_killed_write_left_goes_with_the_next_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, folder = tmp_path / f".a.json.{ended.pid}.tmp", tmp_path / f".a.json.{ended.pid + 2**22}.tmp"
    living, other = tmp_path / f".a.json.{os.getppid()}.tmp", tmp_path / f".b.json.{ended.pid}.tmp"
    for path in (dead, living, other):
        path.write_text("half")
    (folder / "inside").mkdir(parents=True)
    write_text(tmp_path / "a.json", "whole")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "store") == sorted([living.name, other.name, "a.json"])


@pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways
def test_the_same_merge_again_leaves_the_fused_model_and_takes_away_what_a_kill_left(mitate: Mitate) -> None:
    pytest.importorskip("peft")
    from tiny import tiny_pipeline
    from tiny_experts import write_expert

    model = tiny_pipeline(Path("model"))
    experts = [str(write_expert(model, Path(f"{seed}.safetensors"), seed=seed)) for seed in (1, 2)]
    words = ["merge", "mean", *experts, "--base", model, "--out", "m.safetensors", "--fused", "fused"]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (left := Path(f".m.safetensors.{ended.pid}.tmp")).write_bytes(b"half")
    assert mitate(*words)[0] == 0 and not left.exists()
    made = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path("fused").rglob("*") if p.is_file()}
    assert mitate(*words)[0] == 0
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path("fused").rglob("*") if p.is_file()} == made
    code, _, err = mitate("merge", "sum", *words[2:])
    assert code == 2 and "fused is there already" in err
    assert [p.name for p in Path.cwd().iterdir() if p.name.startswith(".")] == []


# two at once, clocks, damage --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_on_one_store_and_one_folder_end_with_the_same(tmp_path: Path) -> None:
    leaves(tmp_path / "leaves"), arrays(tmp_path / "a.npz")
    environment = {**os.environ, "MITATE_HOME": str(tmp_path / ".store"), "OMP_NUM_THREADS": "1"}
    for words in (
        COMMANDS["fit"],
        COMMANDS["generate"],
        COMMANDS["collapse"],
        [*STUDIES["pilot"], "--out", "runs/p"],
    ):
        both = [subprocess.Popen([sys.executable, "-m", "mitate", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [(one.communicate()[1], one.returncode) for one in both]
        assert [code for _, code in said] == [0, 0], said
    store = Store(tmp_path / ".store")
    assert [store.damage(name) for name in store.objects()] == [None] * len(list(store.objects()))
    assert Run(tmp_path / "runs" / "p").finished and not any((store.root / "building").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-1e9, 1e9], ids=["back", "forward"])
def test_a_clock_that_jumps_changes_no_result(mitate: Mitate, jump: float, undisturbed: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    leaves(Path("leaves"))
    told = [time.time()]

    def jumping() -> float:
        told[0] += jump
        return told[0]

    monkeypatch.setattr(time, "time", jumping)
    for words in COMMANDS.values():
        assert mitate(*words)[0] == 0
    assert results(Path.cwd()) == undisturbed["report"]
    assert mitate("clean")[0] == 0 and mitate("verify")[0] == 0


def test_damage_to_any_file_of_the_store_is_found_and_made_again_the_same(mitate: Mitate) -> None:
    leaves(Path("leaves"))
    assert mitate(*COMMANDS["fit"])[0] == 0 and mitate(*COMMANDS["generate"])[0] == 0
    store, whole = Store.find(), made(Store.find())
    for name in list(store.objects()):
        for path in sorted(p for p in store.folder_of(name).rglob("*") if p.is_file()):
            before = path.read_bytes()
            path.write_bytes(bytes([before[0] ^ 255]) + before[1:])
            assert mitate("verify")[0] == 1, path
            path.write_bytes(before)
        (path := store.folder_of(name) / "result.json").write_bytes(b"")
        assert mitate("verify", "--remake")[0] == 0
    assert mitate(*COMMANDS["fit"])[0] == 0
    (Path("fakes") / "SHA256SUMS").unlink()
    assert mitate("generate", "g", "--per-class", "2", "--out", "again")[0] == 0
    assert {k: v for k, v in made(store).items() if "asked" not in k} == {k: v for k, v in whole.items() if "asked" not in k}


# losses and plug-ins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [("vae", ["steps=30", "lr=1e30"]), ("gan", ["steps=30", "lr=1e30"]), ("diffusion", ["steps=30", "lr=1e30"])],
    ids=["vae", "gan", "diffusion"],
)
def test_a_loss_that_is_no_number_is_one_line_and_nothing_is_kept(mitate: Mitate, kind: str, options: list[str]) -> None:
    leaves(Path("leaves"))
    code, out, err = mitate("fit", kind, "leaves", "--as", "g", *(word for option in options for word in ("-o", option)))
    assert (code, out) == (2, "") and len([line for line in err.splitlines() if line.startswith(("error: ", "fix: "))]) == 2, err
    store = Store.find()
    verbs = {json.loads((store.folder_of(name) / "asked.json").read_text())["verb"] for name in store.objects()}
    assert store.refs() == {} and verbs == {"images"}


class Sketch:
    """A plug-in that fits and cannot draw."""

    version = 1

    def fit(self, train: Pixels, selection: Pixels, *, folder: Path, **_: Any) -> dict[str, Any]:
        (folder / "x").write_text("x")
        return {}

    def load(self, folder: Path) -> Sketch:
        return self

    def sample(self, seeds: Any, conditions: Any) -> Any:
        raise ZeroDivisionError("no pencil")


@pytest.mark.parametrize("place", ["no_such_package.sketch:Sketch", "test_faults:Missing", "broken_plugin:Sketch"])
def test_a_plug_in_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_plugins", lambda noun: {"sketch": place})
    with pytest.raises(SettingError, match="The plug-in 'sketch' .* cannot be imported"):
        registry.find("generator", "sketch")


def test_a_plug_in_that_fails_as_it_draws_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mitate.store import Asked
    from mitate.verbs import perform

    monkeypatch.setattr(registry, "_plugins", lambda noun: {"sketch": "test_faults:Sketch"} if noun == "generator" else {})
    monkeypatch.setattr("mitate.stored.kind_of", lambda name, options: Sketch())
    store = Store.find()
    fit = store.make(Asked("fit", 1, {"kind": "sketch", "options": {}}), lambda folder, _: {"kind": "sketch", "files": {}, "n": (folder / "x").write_text("x")})
    like = store.make(Asked("images", 1, {}), lambda folder, _: {"n": (folder / "facts.json").write_text('{"classes": ["a"]}')})
    with pytest.raises(JobError, match="of the plug-in 'sketch' failed: ZeroDivisionError: no pencil"):
        perform(store, Asked("sample", 1, {"per_class": 2, "seed": 0}, {"generator": fit.digest, "like": like.digest}))
