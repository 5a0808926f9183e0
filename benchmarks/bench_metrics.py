"""Fidelity and diversity of feature arrays, ours beside others in one run. One JSON line a task.

    python benchmarks/bench_metrics.py [--n 2000] [--d 256] [--dims 32] [--threads 1] [--repeats 3] [--task neighbours ...]

Every call is timed in turn (ours, peer, ours, peer), the median is kept; memory is the peak that numpy asked for beside the input,
measured in a call of its own. The process is held to as many cores as threads, so that a peer's own threads gain nothing. Packages
that are not installed are left out: run it from the environment of `make oracles` (with src on PYTHONPATH) to see them all.
`floor` is what the multiply-adds of the three blocks of distances take at the speed measured for a product of two tiles.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from bench_set import features, pytorch_fid, without_torchvision_operators
from mitate.metrics import frechet, kernel, neighbours, vendi

K = 5
Call = Callable[[np.ndarray, np.ndarray], Any]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=2000, help="images of each set")
    options.add_argument("--d", type=int, default=256, help="features")
    options.add_argument("--dims", type=int, default=32, help="features that carry most of the spread, as real extractors have; d for all alike")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--task", nargs="*", default=list(TASKS))
    given = options.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    real, fake = features(given.n, given.d, given.dims)
    with threadpool_limits(given.threads):
        for task in given.task:
            line: dict[str, Any] = {
                "what": task,
                "n": given.n,
                "d": given.d,
                "dims": given.dims,
                "threads": given.threads,
                "machine": platform.processor() or platform.machine(),
            }
            line |= compare(TASKS[task](), real, fake, given.repeats, least=partial(floor, given.n, given.d) if task == "neighbours" else None)
            print(json.dumps(line), flush=True)


def compare(calls: dict[str, Call], real: np.ndarray, fake: np.ndarray, repeats: int, least: Callable[[], float] | None) -> dict[str, Any]:
    """least: seconds that ours cannot do without; measured before and after each call of ours, since a busy machine changes its pace."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    floors: list[float] = []
    for _ in range(repeats):
        for name, call in calls.items():
            before = least() if least and name == "ours" else 0.0
            started = time.perf_counter()
            quietly(call, real, fake)
            seconds[name].append(time.perf_counter() - started)
            if least and name == "ours":
                floors.append((before + least()) / 2)
    found: dict[str, Any] = {}
    for name, call in calls.items():
        tracemalloc.start()
        value = quietly(call, real, fake)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found[name] = {"seconds": round(statistics.median(seconds[name]), 4), "peak_mb": round(peak / 2**20, 1), "value": value}
    if floors:
        ratios = [taken / floor for taken, floor in zip(seconds["ours"], floors, strict=True)]
        found["ours"]["times_floor"], found["floor"] = round(statistics.median(ratios), 2), round(statistics.median(floors), 4)
    for name in list(calls)[1:]:
        found[name]["times_ours"] = round(found[name]["seconds"] / found["ours"]["seconds"], 2)
    return found


def quietly(call: Call, real: np.ndarray, fake: np.ndarray) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = call(real, fake)
    return [float(f"{v:.10g}") for v in np.atleast_1d(value)]


def floor(n: int, d: int) -> float:
    """Seconds for n (n + 1) + n^2 products of d numbers, each pair once, at the speed of a product of two tiles."""
    side = neighbours.BLOCK
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(side, d)).astype(np.float32), rng.normal(size=(side, d)).astype(np.float32)
    out, taken = np.empty((side, side), np.float32), []
    for _ in range(15):
        started = time.perf_counter()
        np.matmul(a, b.T, out=out)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) / side**2 * (n * (n + 1) + n * n)


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# neighbours


def neighbour_calls() -> dict[str, Call]:
    def ours(real: np.ndarray, fake: np.ndarray) -> list[float]:
        found = neighbours.neighbourhood(real, fake, ks=(K,))
        return [neighbours.precision(found).value, neighbours.recall(found).value, neighbours.density(found).value, neighbours.coverage(found)]

    calls: dict[str, Call] = {"ours": ours, "whole matrices": whole_matrices, "scikit-learn": scikit_learn}
    if has("prdc"):
        from prdc import compute_prdc

        def prdc(real: np.ndarray, fake: np.ndarray) -> list[float]:
            found = compute_prdc(real, fake, K)
            return [found[name] for name in ("precision", "recall", "density", "coverage")]

        calls["prdc"] = prdc
    return calls


def whole_matrices(real: np.ndarray, fake: np.ndarray) -> list[float]:
    """The textbook: three whole matrices in float32, a partition for the radii."""

    def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)

    real_radii = np.partition(squares(real, real), K, axis=1)[:, K]
    fake_radii = np.partition(squares(fake, fake), K, axis=1)[:, K]
    return marks(squares(real, fake), real_radii, fake_radii)


def scikit_learn(real: np.ndarray, fake: np.ndarray) -> list[float]:
    """Radii by its brute search, the distances between the sets by its pairwise function."""
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    real_radii, fake_radii = (NearestNeighbors(n_neighbors=K, algorithm="brute").fit(s).kneighbors()[0][:, -1] for s in (real, fake))
    return marks(pairwise_distances(real, fake), real_radii, fake_radii)


def marks(apart: np.ndarray, real_radii: np.ndarray, fake_radii: np.ndarray) -> list[float]:
    inside = apart < real_radii[:, None]
    return [inside.any(0).mean(), (apart < fake_radii).any(1).mean(), inside.sum() / K / apart.shape[1], (apart.min(1) < real_radii).mean()]


# Frechet


def frechet_calls() -> dict[str, Call]:
    calls: dict[str, Call] = {"ours": frechet.frechet, "scipy sqrtm": sqrtm, "numpy eigvals": eigenvalues}
    if has("torch_fidelity"):
        import torch

        without_torchvision_operators()
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        def torch_fidelity(real: np.ndarray, fake: np.ndarray) -> float:
            statistics_of = (fid_features_to_statistics(torch.from_numpy(points)) for points in (real, fake))
            return float(fid_statistics_to_metric(*statistics_of, verbose=False)["frechet_inception_distance"])

        calls["torch-fidelity"] = torch_fidelity
    if has("pytorch_fid"):
        peer = pytorch_fid()
        calls["pytorch-fid"] = lambda real, fake: peer(real, fake)[0]
    return calls


def sqrtm(real: np.ndarray, fake: np.ndarray) -> float:
    """The recipe of pytorch-fid and of most papers."""
    a, b = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    apart = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    return float(apart @ apart + np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(a @ b)).real)


def eigenvalues(real: np.ndarray, fake: np.ndarray) -> float:
    """The recipe of torch-fidelity 0.4 and torchmetrics."""
    a, b = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    apart = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    return float(apart @ apart + np.trace(a) + np.trace(b) - 2 * np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum())


# kernel distance


def kernel_calls() -> dict[str, Call]:
    return {
        "ours": lambda real, fake: kernel.kernel_distance(real, fake).value,
        "ours by subsets": lambda real, fake: kernel.kernel_distance_by_subsets(real, fake, seed=0).mean,
        "textbook": lambda real, fake: polynomial(real.astype(np.float64), fake.astype(np.float64)),
        "textbook by subsets": polynomial_by_subsets,
    }


def polynomial(real: np.ndarray, fake: np.ndarray) -> float:
    """Whole matrices of scikit-learn's polynomial kernel."""
    from sklearn.metrics.pairwise import polynomial_kernel

    options = {"degree": 3, "gamma": 1 / real.shape[1], "coef0": 1.0}
    n, m = len(real), len(fake)
    a, b = polynomial_kernel(real, **options), polynomial_kernel(fake, **options)
    c = polynomial_kernel(real, fake, **options)
    return float((a.sum() - np.trace(a)) / (n * (n - 1)) + (b.sum() - np.trace(b)) / (m * (m - 1)) - 2 * c.mean())


def polynomial_by_subsets(real: np.ndarray, fake: np.ndarray) -> float:
    """100 subsets of 1,000 with ** 3, as torch-fidelity does it."""
    rng, size = np.random.default_rng(0), min(1000, len(real), len(fake))
    values = []
    for _ in range(100):
        x, y = real[rng.choice(len(real), size, replace=False)], fake[rng.choice(len(fake), size, replace=False)]
        a, b, c = ((p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
        values.append((a.sum() - np.trace(a) + b.sum() - np.trace(b)) / (size * (size - 1)) - 2 * c.mean())
    return float(np.mean(values))


# Vendi


def vendi_calls() -> dict[str, Call]:
    def whole(points: np.ndarray) -> float:
        rows = points / np.linalg.norm(points, axis=1, keepdims=True)
        share = np.linalg.eigvalsh(rows @ rows.T / len(rows))
        share = share[share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))

    calls: dict[str, Call] = {"ours": lambda real, fake: vendi.vendi(fake), "whole matrix": lambda real, fake: whole(fake)}
    if has("vendi_score"):
        from vendi_score import vendi as peer

        calls["vendi-score score_X"] = lambda real, fake: peer.score_X(fake)
        calls["vendi-score score_dual"] = lambda real, fake: peer.score_dual(fake)
    return calls


TASKS: dict[str, Callable[[], dict[str, Call]]] = {
    "neighbours": neighbour_calls,
    "frechet": frechet_calls,
    "kernel": kernel_calls,
    "vendi": vendi_calls,
}

if __name__ == "__main__":
    main()
