"""The engine: the same bytes here and on workers; failures, kills and interruptions keep what was finished; no worker is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate import verbs
from mitate.engine import Engine, parse_engine
from mitate.errors import DataError, JobError, SettingError
from mitate.store import Asked, Entry, Store
from mitate.study import Job
from mitate.verbs import keep_images

FOREVER = {"steps": 10_000_000, "checks": 1}  # of a VAE: work that only a kill ends


def images(seed: int = 0) -> mi.ImageSet:
    rng = np.random.default_rng(seed)
    return mi.from_arrays(rng.integers(0, 256, (24, 8, 8), dtype=np.uint8), np.arange(24) % 3, classes=("a", "b", "c"))


def chain(store: Store, seed: int = 0) -> list[Job]:
    """Two fits and a set drawn from each, the second one twice: 5 jobs, 4 results."""
    kept = keep_images(store, images(), size=8, channels=1)
    inputs = {"train": kept, "selection": kept}
    fits = [Job(f"fit {k}", "fit", 1001, {"kind": "gaussian", "options": {"rank": 2 + k}, "seed": seed}, inputs) for k in range(2)]
    draws = [Job(f"draw {k}", "sample", 1, {"per_class": 4, "seed": seed}, {"generator": fits[min(k, 1)], "like": kept}) for k in range(3)]
    return [*fits, *draws]


def long_job(store: Store) -> Job:
    kept = keep_images(store, images(), size=8, channels=1)
    return Job("long", "fit", 1001, {"kind": "vae", "options": FOREVER, "seed": 0}, {"train": kept, "selection": kept})


def bad_job(store: Store) -> Job:
    """Fails in whichever process it runs: the outside images have none of class c."""
    source = images().subset([i for i, k in enumerate(images().labels) if k < 2])
    return Job("bad", "pick", 1, {"per_class": 2, "seed": 0}, {"source": keep_images(store, source, size=8, channels=1)})


def files(found: dict[Job, Entry]) -> dict[str, object]:
    return {job.name: entry.result["files"] for job, entry in found.items()}


def until(happened: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
    """Poll; the limit only ends a test that would hang."""
    for _ in range(round(seconds / 0.02)):
        if happened():
            return
        time.sleep(0.02)
    pytest.fail(f"waited in vain: {what}")


def children(parent: int) -> set[int]:
    """Processes that `parent` started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.add(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


# in this process ------------------------------------------------------------------------------------------------------


def test_jobs_run_after_what_they_need_and_equal_jobs_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, order = Store(tmp_path), []
    real = verbs.perform
    monkeypatch.setattr(verbs, "perform", lambda s, asked, **k: order.append(asked.verb) or real(s, asked, **k))
    jobs = chain(store)
    told: list[tuple[str, bool]] = []
    with Engine(store, workers=0) as engine:
        found = engine.run(jobs[2:][::-1], done=lambda job, entry, reused: told.append((job.name, reused)))
    assert order == ["fit", "sample", "fit", "sample"] and set(found) == set(jobs)
    assert found[jobs[3]] == found[jobs[4]] and len(told) == 5 and sum(reused for _, reused in told) == 1, "the twin is reused"


def test_a_second_run_performs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    with Engine(store, workers=0) as engine:
        first = files(engine.run(chain(store)))
        monkeypatch.setattr(verbs, "perform", lambda *a, **k: pytest.fail("a job ran"))
        told: list[bool] = []
        assert files(engine.run(chain(store), done=lambda job, entry, reused: told.append(reused))) == first and told == [True] * 5


def test_a_failing_job_ends_the_run_with_its_error_and_finished_ones_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs = chain(store)
    with Engine(store, workers=0) as engine, pytest.raises(DataError, match="none of class 'c'"):
        engine.run([jobs[0], bad_job(store), jobs[1]])
    assert store.get(jobs[0].digest) is not None and store.get(jobs[1].digest) is None
    assert list((tmp_path / "building").iterdir()) == []


def test_an_interruption_passes_through_and_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(work: verbs.Work) -> dict[str, object]:
        raise KeyboardInterrupt

    store = Store(tmp_path)
    jobs = chain(store)
    with monkeypatch.context() as patch, Engine(store, workers=0) as engine, pytest.raises(KeyboardInterrupt):
        patch.setitem(verbs.VERBS, "sample", verbs.Verb(interrupted, 1))
        engine.run(jobs)
    assert store.get(jobs[0].digest) is not None and store.get(jobs[2].digest) is None and list((tmp_path / "building").iterdir()) == []
    with Engine(store, workers=0) as engine:
        assert len(engine.run(jobs)) == 5


def test_a_job_whose_input_is_gone_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = Job("draw", "sample", 1, {"per_class": 1, "seed": 0}, {"generator": "0" * 64, "like": "1" * 64})
    with Engine(store, workers=0) as engine, pytest.raises(JobError, match="is not in the store"):
        engine.run([job])


def test_too_little_memory_is_one_line_with_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(work: verbs.Work) -> dict[str, object]:
        raise MemoryError

    monkeypatch.setitem(verbs.VERBS, "fit", verbs.Verb(hungry, 1))
    store = Store(tmp_path)
    with Engine(store, workers=0) as engine, pytest.raises(JobError, match="out of memory") as wrong:
        engine.run(chain(store))
    assert "--engine local:1" in wrong.value.fix


@pytest.mark.parametrize(("text", "workers"), [("local", None), ("here", 0), ("local:1", 1), ("local:12", 12)])
def test_an_engine_is_read_as_typed(text: str, workers: int | None) -> None:
    assert parse_engine(text) == workers


@pytest.mark.parametrize("text", ["", "local:", "local:0", "local:-1", "local:two", "local:1:2", "here:1", "cluster", "LOCAL", "3", "local:²"])
def test_an_unknown_engine_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(SettingError) as wrong:
        parse_engine(text)
    assert wrong.value.fix == "choose here, local, local:N, ray, ray://HOST:PORT or ray:HOST:PORT"


# on workers -----------------------------------------------------------------------------------------------------------


def test_a_worker_gives_the_bytes_this_process_gives_and_hands_errors_over_whole(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    with Engine(here, workers=0) as engine:
        expected = files(engine.run(chain(here)))
    with Engine(there, workers=1) as engine:
        assert files(engine.run(chain(there))) == expected
        with pytest.raises(DataError, match="^bad: .*none of class 'c'") as wrong:
            engine.run([bad_job(there)])
        assert wrong.value.fix == "add some, or leave this generator out"
        assert len(engine.run(chain(there, seed=1))) == 5, "the worker goes on after an error"
    leftovers = [p for p in (there.root / "building").iterdir()]
    assert leftovers == []


def test_a_worker_that_runs_is_taken_before_one_that_would_have_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("mitate.engine._Worker.ask", lambda self, job: asked.append(self) or verbs.perform(self._store, job.asked))
    store = Store(tmp_path)
    fit, *_, draw = chain(store)[1:]
    with Engine(store, workers=3) as engine:
        engine.run([fit])
        engine.run([draw])
    assert len(asked) == 2 and asked[0] is asked[1]


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_and_a_failure_waits_for_the_job_beside_it(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    with Engine(here, workers=0) as engine:
        expected = files(engine.run(chain(here)))
    with Engine(there, workers=2) as engine:
        assert files(engine.run(chain(there))) == expected
        beside = chain(there, seed=7)[0]
        with pytest.raises(DataError, match="none of class 'c'"):
            engine.run([bad_job(there), beside])
    assert there.get(beside.digest) is not None


@pytest.mark.slow
@linux
def test_a_worker_killed_at_work_is_one_line_and_the_same_call_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MITATE_CHECKPOINT_SECONDS", "0")
    store = Store(tmp_path)
    quick, long = chain(store)[0], long_job(store)
    with Engine(store, workers=1) as engine:
        engine.run([quick])
        (worker,) = (p for p in children(os.getpid()) if b"mitate.engine" in Path(f"/proc/{p}/cmdline").read_bytes())

        def kill() -> None:
            until(lambda: (tmp_path / "partial" / long.digest / "fit.safetensors").exists(), what="the fit to be under way")
            os.kill(worker, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(JobError) as wrong:
            engine.run([long])
        killer.join()
        assert len(engine.run(chain(store))) == 5, "a fresh worker takes the place of the killed one"
    assert "\n" not in str(wrong.value) and "exit code -9" in str(wrong.value) and "--engine local:1" in str(wrong.value)


PARENT = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from test_engine import Engine, Store, chain, long_job
    from dataclasses import replace
    if __name__ == "__main__":
        store = Store(sys.argv[1])
        one = long_job(store)
        with Engine(store, workers=2) as engine:
            engine.run([one, replace(one, settings={**one.settings, "seed": 1})])
"""


def start_parent(tmp_path: Path) -> tuple[subprocess.Popen[str], set[int]]:
    """A process whose two workers are in the middle of their jobs, and those workers."""
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "store"), str(Path(__file__).parent)], stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "MITATE_CHECKPOINT_SECONDS": "0"},
    )  # fmt: skip
    until(lambda: parent.poll() is not None or len(list((tmp_path / "store" / "partial").glob("*/fit.safetensors"))) == 2, what="both fits to be under way")
    assert parent.poll() is None, parent.stderr.read() if parent.stderr else ""
    return parent, children(parent.pid)


@pytest.mark.slow
@linux
def test_workers_end_with_the_process_that_started_them_however_it_ends(tmp_path: Path) -> None:
    parent, workers = start_parent(tmp_path)
    assert len(workers) == 2
    parent.kill()
    parent.communicate()
    until(lambda: not any(alive(p) for p in workers), what="the workers to end", seconds=5)


@pytest.mark.slow
@linux
def test_ctrl_c_ends_the_run_and_its_workers(tmp_path: Path) -> None:
    parent, workers = start_parent(tmp_path)
    os.killpg(parent.pid, signal.SIGINT)  # what a terminal does: the whole group
    try:
        _, said = parent.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()
        pytest.fail("still at work after Ctrl-C")
    assert parent.returncode != 0 and "KeyboardInterrupt" in said
    until(lambda: not any(alive(p) for p in workers), what="the workers to end", seconds=5)


def test_a_stored_question_is_named_by_all_of_its_parts() -> None:
    one = Asked("fit", 1, {"seed": 0}, {"train": "a"})
    others = [Asked("fat", 1, {"seed": 0}, {"train": "a"}), Asked("fit", 2, {"seed": 0}, {"train": "a"}), Asked("fit", 1, {"seed": 1}, {"train": "a"})]
    assert len({a.digest for a in [one, *others, Asked("fit", 1, {"seed": 0}, {"train": "b"})]}) == 5
