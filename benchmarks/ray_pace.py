"""How much faster two workers are than one, local and on Ray, and how many empty jobs a second one head gives out.

    python benchmarks/ray_pace.py [--jobs 12] [--steps 400] [--empty 400] [--turns 3]

Needs two free cores. `fill`: independent fits of a small VAE, one thread each, that fill their core: on one local worker, on two, and on a Ray cluster of two
nodes of a core each on this machine. Workers are started before the clock, by two fits each. The ways take turns; each has a store of its own. A ratio is the
seconds of one worker through those of the way, the median over turns; 2 would be perfect.

`empty`: jobs that take one image of a tiny set and keep it: what is left is giving out, the store, and the answer. Jobs a second by the clock, and the
processor seconds a job of this process, which is the head: one through those is the most that one head can give out, however many nodes there are (the
cluster's own processes not counted: where they share the head's cores, the first number is the one that holds). One line in results/ray_pace.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import mitate as mi
from mitate.engine import Cluster, Engine, Workers
from mitate.runtime import cores
from mitate.store import Store
from mitate.study import Job
from mitate.verbs import VERBS, keep_images

OUT = Path(__file__).parent / "results" / "ray_pace.jsonl"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}  # bytes
SIZE = 16  # pixels


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=12)
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--empty", type=int, default=400)
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--out", type=Path, default=OUT)
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    filled: dict[str, list[float]] = {}
    empty: dict[str, list[tuple[float, float]]] = {}
    with two_nodes() as address, tempfile.TemporaryDirectory() as place:
        ways: dict[str, Workers] = {"local:1": 1, "local:2": 2, "ray": Cluster(address)}
        for turn in range(given.turns):
            for way, workers in ways.items():
                store = Store(Path(place) / f"{way.replace(':', '-')}-{turn}")
                filled.setdefault(way, []).append(fill(store, workers, given.jobs, given.steps))
                empty.setdefault(way, []).append(hand_out(store, workers, given.empty))
                rate = given.empty / empty[way][-1][0]
                print(f"turn {turn}: {way} {given.jobs} fits {filled[way][-1]:.1f} s, {rate:.0f} empty jobs a second", flush=True)
    row = {
        "jobs": given.jobs, "steps": given.steps, "empty": given.empty, "turns": given.turns, "cores": cores(),
        "fill_seconds": {way: [round(s, 2) for s in found] for way, found in filled.items()},
        "ratio": {way: round(statistics.median(one / s for one, s in zip(filled["local:1"], found, strict=True)), 3) for way, found in filled.items()},
        "empty_a_second": {way: round(statistics.median(given.empty / wall for wall, _ in found), 1) for way, found in empty.items()},
        "head_cpu_ms_a_job": {way: round(1000 * statistics.median(cpu for _, cpu in found) / given.empty, 3) for way, found in empty.items()},
    }  # fmt: skip
    given.out.parent.mkdir(exist_ok=True)
    with open(given.out, "a") as out:
        out.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


def fill(store: Store, workers: Workers, jobs: int, steps: int) -> float:
    """Seconds of `jobs` fits, workers started."""
    with Engine(store, workers=workers) as engine:
        engine.run(fits(store, 2 * max(1, engine.workers), steps, first=1_000_000))
        todo, started = fits(store, jobs, steps), time.perf_counter()
        engine.run(todo)
        return time.perf_counter() - started


def hand_out(store: Store, workers: Workers, jobs: int) -> tuple[float, float]:
    """Seconds by the clock, and of this process's processor, of `jobs` jobs that do next to nothing, workers started."""
    with Engine(store, workers=workers) as engine:
        engine.run(picks(store, 20, first=1_000_000))
        todo, started, started_cpu = picks(store, jobs), time.perf_counter(), time.process_time()
        engine.run(todo)
        return time.perf_counter() - started, time.process_time() - started_cpu


def fits(store: Store, count: int, steps: int, *, first: int = 0) -> list[Job]:
    kept = some_images(store)
    settings = {"kind": "vae", "options": {"steps": steps, "checks": 1}}
    inputs = {"train": kept, "selection": kept}
    return [Job(f"fit {i}", "fit", VERBS["fit"].version, {**settings, "seed": first + i}, inputs) for i in range(count)]


def picks(store: Store, count: int, *, first: int = 0) -> list[Job]:
    kept = some_images(store)
    return [Job(f"pick {i}", "pick", VERBS["pick"].version, {"per_class": 1, "seed": first + i}, {"source": kept}) for i in range(count)]


def some_images(store: Store) -> str:
    """The digest of 64 stored images of noise."""
    x = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE), dtype=np.uint8)
    return keep_images(store, mi.from_arrays(x, np.arange(64) % 2, classes=("a", "b")), size=SIZE, channels=1)


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes on this machine."""
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    os.environ |= {"RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # as nice as local workers
    import ray
    from ray.cluster_utils import Cluster as Nodes

    nodes: Any = Nodes(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        nodes.add_node(**NODE)
        yield nodes.address
    finally:
        ray.shutdown()
        nodes.shutdown()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
