"""Metrics of large sets of features: seconds, peak memory, and both beside what arithmetic asks at least. One JSON line a task in results/large_sets.jsonl.

    taskset -c 0 python benchmarks/large_sets.py [--n 200000 1000000] [--d 512] [--task kernel neighbours ...] [--rival 20000]
    python benchmarks/large_sets.py --summary

`floor` is the products of matrices of a task over the speed of such products, measured in the same process before and after it (neighbours can fall
below it: their floor is of float32, and where the processor is quick at bfloat16 most of their products are of that); `predicted` is what
`metrics/forecast.py` says before it starts. Each task has a process of its own, and its sets are in memory before the clock starts: `peak_mb` is what the
process held at most beside them. Above 200,000 images `neighbours` are those of as many, drawn by a seed, as `likeness` has it.

--rival: at so many images the same beside pairs (the kernel distance) and packages that are installed (run it from the environment of `make oracles`).
Rows that are there are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mitate.metrics import coarse, forecast, frechet, kernel, neighbours, vendi
from mitate.metrics.likeness import MOST

OUT = Path(__file__).parent / "results" / "large_sets.jsonl"
DIMS = 32  # columns that carry most of the spread, as real extractors have
CHUNK = 10_000  # images made at a time
Sets = tuple[np.ndarray, np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, nargs="*", default=[200_000, 1_000_000], help="images of each set")
    options.add_argument("--d", type=int, default=512, help="features")
    options.add_argument("--task", nargs="*", default=list(TASKS))
    options.add_argument("--rival", type=int, default=0, help="images of each set")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--summary", action="store_true")
    options.add_argument("--child", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.summary:
        return summary()
    if given.child:
        return child(*given.child, given.threads)
    tasks = {**dict.fromkeys(given.task, given.n), **dict.fromkeys(RIVALS if given.rival else (), [given.rival])}
    kept = {(row["task"], row["n"], row["d"], row["threads"]) for row in read()}
    env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(given.threads))}
    for n in sorted({n for asked in tasks.values() for n in asked}):
        todo = [task for task, asked in tasks.items() if n in asked and (task, n, given.d, given.threads) not in kept]
        if not todo:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), n, given.d)
            for task in todo:
                ended = subprocess.run(
                    [sys.executable, __file__, "--threads", str(given.threads), "--child", task, folder], stdout=subprocess.PIPE, text=True, env=env
                )
                if ended.returncode:
                    print(f"{task}, {n}: ended with {ended.returncode}", flush=True)
                    continue
                row = {"task": task, "n": n, "d": given.d, "threads": given.threads, **json.loads(ended.stdout.splitlines()[-1])}
                with open(OUT, "a") as out:
                    out.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def make(folder: Path, n: int, d: int) -> None:
    """Two float32 sets, written chunk by chunk; the second has a twentieth less spread."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    spread = np.where(np.arange(d) < DIMS, 1.0, 0.1)
    for name, share in (("real", 1.0), ("fake", 0.95)):
        points = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, d))
        for i in range(0, n, CHUNK):
            points[i : i + CHUNK] = (share * rng.normal(size=(min(CHUNK, n - i), d)) * spread) @ turn
        points.flush()


def child(task: str, folder: str, threads: int) -> None:
    real, fake = (np.load(f"{folder}/{which}.npy") for which in ("real", "fake"))
    n, d = real.shape
    with threadpool_limits(threads):
        call = {**TASKS, **RIVALS}[task]
        call((real[:500].copy(), fake[:500].copy()))  # libraries and their buffers
        before = forecast.rates()
        work = forecast.operations(n, (n,), d, most=MOST)
        parts = forecast.seconds(work, before, short=coarse.worth_trying(min(n, MOST), d))
        predicted = parts.get({"kernel": "kernel_distance"}.get(task, task))
        floor = FLOORS[task](n, d) if task in FLOORS else None
        print(f"{task} of {n:,} x {d}: predicted {predicted}", file=sys.stderr, flush=True)
        held = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        started = time.perf_counter()
        value = call((real, fake))
        seconds = time.perf_counter() - started
        peak = _memory("VmHWM") - held
        after = forecast.rates()
    rates = {"float64": (before.float64 + after.float64) / 2, "float32": (before.float32 + after.float32) / 2}
    least = None if floor is None else floor[0] / rates[floor[1]]
    print(json.dumps({
        "seconds": round(seconds, 2), "floor": None if least is None else round(least, 2), "times_floor": None if least is None else round(seconds / least, 2),
        "predicted": None if predicted is None else round(predicted, 1), "peak_mb": round(max(0.0, peak), 1),
        "sets_mb": round((real.nbytes + fake.nbytes) / 2**20),
        "gflops": {kind: round(rate / 1e9, 1) for kind, rate in rates.items()}, "value": value,
    }))  # fmt: skip


def _memory(what: str) -> float:
    """MiB, as the kernel counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


# tasks: each tells its numbers


def by_kernel(sets: Sets) -> dict[str, float]:
    found = kernel.kernel_distance(*sets)
    return {"kernel_distance": found.value, "low": found.low, "high": found.high}


def by_neighbours(sets: Sets) -> dict[str, float]:
    rng = np.random.default_rng(0)
    real, fake = (points if len(points) <= MOST else points[np.sort(rng.permutation(len(points))[:MOST])] for points in sets)
    found = neighbours.neighbourhood(real, fake)
    told = {metric.__name__: metric(found) for metric in (neighbours.precision, neighbours.recall, neighbours.density, neighbours.authenticity)}
    values = {name: number for name, at in told.items() for name, number in ((name, at.value), (f"{name}_low", at.low), (f"{name}_high", at.high))}
    return {"images": len(real), **values, "coverage": neighbours.coverage(found)}


def by_pairs(sets: Sets) -> dict[str, float]:
    found = kernel._by_pairs(sets[0], sets[1:], kernel.BLOCK)
    return {"kernel_distance": kernel._interval(found, 1, len(sets[0]), len(sets[1]), 0.95).value}


def by_torch_fidelity(sets: Sets) -> dict[str, float]:
    from bench_set import torch_fidelity

    return {str(i): value for i, value in enumerate(torch_fidelity()(*sets))}


def by_prdc(sets: Sets) -> dict[str, float]:
    from prdc import compute_prdc

    return {name: float(value) for name, value in compute_prdc(*sets, 5).items()}


TASKS: dict[str, Callable[[Sets], dict[str, float]]] = {
    "frechet": lambda sets: {"frechet": frechet.frechet(*sets)},
    "vendi": lambda sets: {"vendi": vendi.vendi(sets[1])},
    "frechet_infinity": lambda sets: {"frechet_infinity": frechet.frechet_infinity(*sets, seed=0).value},
    "kernel": by_kernel,
    "neighbours": by_neighbours,
}
RIVALS: dict[str, Callable[[Sets], dict[str, float]]] = {
    "kernel": by_kernel, "kernel by pairs": by_pairs, "neighbours": by_neighbours, "torch-fidelity (KID by subsets, FID, precision)": by_torch_fidelity,
    "prdc": by_prdc,
}  # fmt: skip
FLOORS: dict[str, Callable[[int, int], tuple[float, str]]] = {  # operations that cannot be done without, and in what
    "frechet": lambda n, d: (2 * n * d * d, "float64"),  # half of a product with its own transpose
    "vendi": lambda n, d: (n * d * d, "float64"),
    "kernel": lambda n, d: (min(4 * n * n * d, 2 * (2 * n) * (d + 1) ** 3 / 6), "float64"),
    "kernel by pairs": lambda n, d: (4 * n * n * d, "float64"),
    "neighbours": lambda n, d: (4 * min(n, MOST) ** 2 * d, "float32"),
}


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []


def summary() -> None:
    print("| Task | Images of each set | Seconds | Predicted | Times the floor | Peak beside the sets |\n|---|---:|---:|---:|---:|---:|")
    for row in sorted(read(), key=lambda r: (r["n"], r["task"])):
        told = [f"{row['seconds']:.0f}", *("" if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in (("predicted", 0), ("times_floor", 1)))]
        print(f"| {row['task']} | {row['n']:,} | {' | '.join(told)} | {row['peak_mb']:.0f} MB |")


if __name__ == "__main__":
    main()
