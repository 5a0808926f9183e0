"""Runs jobs: in this process, or on local workers. Same jobs, same bytes, whichever and however many.

A worker is a process of its own (`python -m mitate.engine STORE`) that takes one job a line on its standard input and answers with
one line, so a study can be run from any script, and a worker ends when the process that started it does, however it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import LifoQueue
from typing import Any

from mitate.errors import DataError, JobError, MissingExtra, MitateError, SettingError, StoreError
from mitate.runtime import cores, die_with_parent
from mitate.settings import plain
from mitate.store import Asked, Entry, Store
from mitate.study import Job

ERRORS = {kind.__name__: kind for kind in (DataError, SettingError, MissingExtra, StoreError, JobError)}
PREFIX = "mitate:"  # of a worker's answer; anything else on its output is some library talking


class Engine:
    """Runs jobs on a store with `workers` processes; 0 runs them here. Use it as a context manager."""

    def __init__(self, store: Store, *, workers: int | None = None) -> None:
        self.store = store
        self.workers = cores() if workers is None else workers
        self._all = [_Worker(store) for _ in range(self.workers)]  # their processes start with their first job
        self._idle: LifoQueue[_Worker] = LifoQueue()  # last in, first out: one that runs already is taken before one that would have to start
        for worker in self._all:
            self._idle.put(worker)
        # One pool for the engine's whole life: Linux ends a worker when the *thread* that started it ends (see die_with_parent).
        self._pool = ThreadPoolExecutor(max(1, self.workers))

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.stop()
        self._pool.shutdown()

    def run(self, jobs: Iterable[Job], *, done: Callable[[Job, Entry, bool], None] | None = None) -> dict[Job, Entry]:
        """Results of `jobs` and of everything they need. `done(job, entry, reused)` is told of each, in this thread.

        The first job that fails ends the run with its error, after the jobs under way have come to their end; finished jobs are kept.
        """
        order = in_order(jobs)
        results: dict[Job, Entry] = {}
        waiting: list[Job] = []
        for job in order:
            if (entry := self.store.get(job.asked)) is not None:
                results[job] = entry
                if done:
                    done(job, entry, True)
            else:
                waiting.append(job)
        unique: dict[str, Job] = {}
        for job in waiting:
            unique.setdefault(job.digest, job)
        if self.workers == 0:
            self._here(list(unique.values()), waiting, results, done)
        else:
            self._spread(list(unique.values()), waiting, results, done)
        return results

    def _here(self, todo: list[Job], waiting: list[Job], results: dict[Job, Entry], done: Callable[[Job, Entry, bool], None] | None) -> None:
        from mitate.verbs import perform

        for job in todo:
            entry = perform(self.store, job.asked)
            _finish(job, entry, waiting, results, done)

    def _spread(self, todo: list[Job], waiting: list[Job], results: dict[Job, Entry], done: Callable[[Job, Entry, bool], None] | None) -> None:
        running: dict[Future[None], Job] = {}
        failure: BaseException | None = None
        missing = {job.digest for job in todo}
        while (todo and failure is None) or running:
            ready = [] if failure else [job for job in todo if not (missing & set(job.asked.inputs.values()))]
            for job in ready[: self.workers - len(running)]:
                todo.remove(job)
                running[self._pool.submit(self._remote, job)] = job
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                job = running.pop(future)
                if (wrong := future.exception()) is not None:
                    failure = failure or wrong
                    continue
                entry = self.store.get(job.digest)
                if entry is None:
                    failure = failure or StoreError(f"The result of {job.name} vanished.", fix="run the same command again")
                    continue
                missing.discard(job.digest)
                _finish(job, entry, waiting, results, done)
        if failure is not None:
            raise failure

    def _remote(self, job: Job) -> None:
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
        answer = json.loads(line.removeprefix(PREFIX))
        if "error" in answer:
            kind = ERRORS.get(answer["error"], JobError)
            raise kind(f"{job.name}: {answer['message']}", fix=answer["fix"])

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
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "mitate.engine", str(self._store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )


def parse_engine(text: str) -> int | None:
    """`--engine` as typed: `local` (a worker a core), `local:N`, or `here`. Returns the number of workers, None for all cores."""
    if text == "local":
        return None
    if text == "here":
        return 0
    name, _, count = text.partition(":")
    if name == "local" and count.isdecimal() and int(count) > 0:
        return int(count)
    raise SettingError(f"There is no engine {text!r}.", fix="choose here, local or local:N")


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


def _finish(job: Job, entry: Entry, waiting: list[Job], results: dict[Job, Entry], done: Callable[[Job, Entry, bool], None] | None) -> None:
    for twin in waiting:
        if twin.digest == job.digest and twin not in results:
            results[twin] = entry
            if done:
                done(twin, entry, twin is not job)


def _serve(root: str) -> None:
    """The worker's loop."""
    die_with_parent()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not look like an answer
    from mitate.verbs import perform

    store = Store(root)
    for line in sys.stdin:
        facts = json.loads(line)
        asked = Asked(**facts["asked"])
        started = time.perf_counter()
        answer: dict[str, Any]
        try:
            perform(store, asked)
            answer = {"seconds": time.perf_counter() - started}
        except MitateError as wrong:
            answer = {"error": type(wrong).__name__, "message": wrong.message, "fix": wrong.fix}
        answers.write(PREFIX + json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    try:
        _serve(sys.argv[1])
    except KeyboardInterrupt:
        pass
