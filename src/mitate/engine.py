"""Runs jobs: in this process, on local workers, or on a Ray cluster. Same jobs, same bytes, whichever and however many.

One loop (`Engine.run`) says which job is next; an `Executor` is a way to run one. A local worker is a process of its own
(`python -m mitate.engine STORE`) that takes one job a line on its standard input and answers with one line, so a study can be run from
any script, and a worker ends when the process that started it does, however it ends. The cluster is in `cluster`.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import LifoQueue
from typing import Protocol

from mitate.answers import answer_to, check_answer, worked
from mitate.cluster import Cluster, OnRay, count_cores
from mitate.errors import JobError, MitateError, SettingError, StoreError
from mitate.remote import VARIABLE, Remote
from mitate.runtime import cores, die_with_parent
from mitate.settings import plain
from mitate.store import Asked, Entry, Store
from mitate.study import Job

PREFIX = "mitate:"  # of a worker's answer; anything else on its output is some library talking
ENGINES = "here, local, local:N, ray, ray://HOST:PORT or ray:HOST:PORT"
Done = Callable[[Job, Entry, bool], None]
Workers = int | Cluster | None  # where jobs run: so many processes (0: in this one; None: a process a core), or a cluster


class Executor(Protocol):
    """A way to run jobs, several at once. What a job needs is in the store, or in the shared one, when it is started."""

    def room(self) -> int:
        """How many more jobs may be started now."""
        ...

    def start(self, job: Job) -> None: ...

    def ended(self) -> list[tuple[Job, Exception | None]]:
        """Waits until a job has ended. Every one that has, and its error."""
        ...

    def stop(self) -> None:
        """Ends what still runs."""
        ...


class Engine:
    """Runs jobs on a store, where `workers` says. Use it as a context manager."""

    def __init__(self, store: Store, *, workers: Workers = None) -> None:
        self.store = store
        self._where = workers
        self._executor: Executor | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.stop()

    @property
    def workers(self) -> int:
        """How many jobs run at once; 0 where they run in this process."""
        return 0 if self._where == 0 else how_many(self._where)

    def run(self, jobs: Iterable[Job], *, done: Done | None = None) -> dict[Job, Entry]:
        """Results of `jobs` and of everything they need. `done(job, entry, reused)` is told of each, in this thread.

        The first job that fails ends the run with its error, after the jobs under way have come to their end; finished jobs are kept.
        """
        results: dict[Job, Entry] = {}
        missing: dict[str, list[Job]] = {}  # equal jobs together: the first of them runs

        def tell(job: Job, entry: Entry, reused: bool) -> None:
            results[job] = entry
            if done:
                done(job, entry, reused)

        order = in_order(jobs)
        found = self.store.found(job.digest for job in order)
        for job in order:
            if (entry := found.get(job.digest)) is not None:
                tell(job, entry, True)
            else:
                missing.setdefault(job.digest, []).append(job)

        def made(job: Job) -> MitateError | None:
            entry = self.store.get(job.digest)
            if entry is None:
                return StoreError(f"The result of {job.name} vanished.", fix="run the same command again")
            for twin in missing[job.digest]:
                tell(twin, entry, twin is not job)
            return None

        if missing:
            self._executor = self._executor or self._employ()
            try:
                _work(self._executor, _Queue([twins[0] for twins in missing.values()]), made)
            except MitateError:
                self.store.doubt()  # a worker may have taken back what was damaged
                raise
        return results

    def _employ(self) -> Executor:
        if isinstance(self._where, Cluster):
            return OnRay(self.store, self._where)
        return _Here(self.store) if self._where == 0 else _Local(self.store, how_many(self._where))


def _work(executor: Executor, queue: _Queue, made: Callable[[Job], Exception | None]) -> None:
    """Every job of the queue; `made` is told of each that has ended well, and says what is wrong with its result."""
    running, failure = 0, None
    while (queue and failure is None) or running:
        while failure is None and queue and executor.room() > 0:
            executor.start(queue.take())
            running += 1
        for job, wrong in executor.ended():
            running -= 1
            if (wrong := wrong or made(job)) is None:
                queue.ended(job)
            failure = failure or wrong
    if failure is not None:
        raise failure


class _Queue:
    """Jobs in order, needs first; one can be taken when all that it needs has ended. True while one can."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._number = {job.digest: i for i, job in enumerate(jobs)}
        self._open: list[int] = []  # how many of its needs have not ended
        self._after: list[list[int]] = [[] for _ in jobs]
        for i, job in enumerate(jobs):
            names = {need if isinstance(need, str) else need.digest for need in job.inputs.values()}
            needs = [self._number[name] for name in names if name in self._number]
            self._open.append(len(needs))
            for need in needs:
                self._after[need].append(i)
        self._ready = [i for i, count in enumerate(self._open) if count == 0]

    def __bool__(self) -> bool:
        return bool(self._ready)

    def take(self) -> Job:
        return self._jobs[heapq.heappop(self._ready)]

    def ended(self, job: Job) -> None:
        for i in self._after[self._number[job.digest]]:
            self._open[i] -= 1
            if self._open[i] == 0:
                heapq.heappush(self._ready, i)


# in this process and on local workers ---------------------------------------------------------------------------------


class _Here:
    """One job at a time, in this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next: Job | None = None

    def room(self) -> int:
        return int(self._next is None)

    def start(self, job: Job) -> None:
        self._next = job

    def ended(self) -> list[tuple[Job, Exception | None]]:
        job, self._next = self._next, None
        assert job is not None
        try:
            worked(self._store, job.asked)
        except MitateError as wrong:
            return [(job, wrong)]
        return [(job, None)]

    def stop(self) -> None:
        pass


class _Local:
    """`count` processes of this machine."""

    def __init__(self, store: Store, count: int) -> None:
        self._all = [_Worker(store) for _ in range(count)]  # their processes start with their first job
        self._idle: LifoQueue[_Worker] = LifoQueue()  # last in, first out: one that runs already is taken before one that would have to start
        for worker in self._all:
            self._idle.put(worker)
        # One pool for the executor's whole life: Linux ends a worker when the *thread* that started it ends (see die_with_parent).
        self._pool = ThreadPoolExecutor(count)
        self._running: dict[Future[None], Job] = {}

    def room(self) -> int:
        return len(self._all) - len(self._running)

    def start(self, job: Job) -> None:
        self._running[self._pool.submit(self._ask, job)] = job

    def ended(self) -> list[tuple[Job, Exception | None]]:
        futures, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.exception()) for future in futures]  # type: ignore[misc]

    def stop(self) -> None:
        for worker in self._all:
            worker.stop()
        self._pool.shutdown()

    def _ask(self, job: Job) -> None:
        worker = self._idle.get()
        try:
            worker.ask(job)
        finally:
            self._idle.put(worker)


class _Worker:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def ask(self, job: Job) -> None:
        with self._lock:
            process = self._process = self._process or self._launch()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps({"name": job.name, "asked": plain(job.asked)}) + "\n")
                process.stdin.flush()
                line = next((text for text in process.stdout if text.startswith(PREFIX)), "")
            except OSError:
                line = ""
            if not line:
                code = process.wait()
                self.stop()
                raise JobError(
                    f"The worker of {job.name} ended without an answer (exit code {code}; -9 is often too little memory).",
                    fix="run the same command again, with fewer workers (--engine local:1)",
                )
        check_answer(job.name, json.loads(line.removeprefix(PREFIX)))

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # a broken pipe of a process that has ended

    def _launch(self) -> subprocess.Popen[str]:
        shared = self._store.shared.url if self._store.shared is not None else ""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", VARIABLE: shared}
        return subprocess.Popen(
            [sys.executable, "-m", "mitate.engine", str(self._store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )


def parse_engine(text: str) -> Workers:
    """`--engine` as typed: `here`, `local` (a worker a core), `local:N`, `ray`, `ray://HOST:PORT` or `ray:HOST:PORT`."""
    name, _, rest = text.partition(":")
    if text in ("here", "local"):
        return 0 if text == "here" else None
    if name == "local" and rest.isascii() and rest.isdecimal() and int(rest) > 0:
        return int(rest)
    if text == "ray":
        return Cluster()
    if name == "ray" and re.fullmatch(r"(//)?[\w.-]+:\d{1,5}", rest, re.ASCII):
        return Cluster(text if rest.startswith("//") else rest)
    raise SettingError(f"There is no engine {text!r}.", fix=f"choose {ENGINES}")


def how_many(workers: Workers) -> int:
    """How many jobs run at once, 1 or more. A cluster is asked how many cores it has."""
    if isinstance(workers, Cluster):
        return count_cores(workers)
    return cores() if workers is None else max(1, workers)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Every job and what it needs, needs first, each once."""
    order: dict[int, Job] = {}

    def visit(job: Job) -> None:
        if id(job) not in order:
            for need in job.inputs.values():
                if isinstance(need, Job):
                    visit(need)
            order[id(job)] = job

    for job in jobs:
        visit(job)
    return list(order.values())


def _serve(root: str) -> None:
    """The worker's loop."""
    die_with_parent()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not look like an answer
    store = Store(root, shared=Remote.named())
    for line in sys.stdin:
        answer = answer_to(store, Asked(**json.loads(line)["asked"]))
        answers.write(PREFIX + json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    try:
        _serve(sys.argv[1])
    except KeyboardInterrupt:
        pass
