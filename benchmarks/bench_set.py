"""The whole set of fidelity and diversity metrics beside the packages that make them, in one run. One JSON line a contender.

    python benchmarks/bench_set.py [--n 500 5000 10000] [--d 512 2048] [--threads 2] [--repeats 3] [--only ours prdc ...] >> benchmarks/results/bench_set.jsonl
    python benchmarks/bench_set.py --summary

Each contender has a process of its own, so that nobody's peak memory hides in another's: peak is what the process held at most during the
calls, less what it held before them (the arrays and the libraries). Contenders take turns, `repeats` rounds; the median is kept. Run it from
the environment of `make oracles` with src on PYTHONPATH and faiss-cpu installed; packages that are not there are left out, and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 5
RESULTS = Path(__file__).parent / "results" / "bench_set.jsonl"
Call = Callable[[np.ndarray, np.ndarray], Any]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="*", default=[500, 5000, 10000], help="images of each set")
    options.add_argument("--d", type=int, nargs="*", default=[512, 2048], help="features")
    options.add_argument("--dims", type=int, default=32, help="features that carry most of the spread, as real extractors have; d for all alike")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--only", nargs="*", default=list(CONTENDERS))
    options.add_argument("--summary", action="store_true")
    options.add_argument("--child", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.summary:
        return summary()
    if given.child:
        return child(*given.child)
    for n in given.n:
        for d in given.d:
            with tempfile.TemporaryDirectory() as folder:
                for name, points in zip(("real", "fake"), features(n, d, given.dims), strict=True):
                    np.save(f"{folder}/{name}.npy", points)
                for line in compare(given.only, Path(folder), given.threads, given.repeats):
                    print(json.dumps({"n": n, "d": d, "dims": given.dims, "threads": given.threads, **line}), flush=True)


def features(n: int, d: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 features whose spread falls off after `dims` columns, turned so that no column is special."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    spread = np.where(np.arange(d) < dims, 1.0, 0.1)
    return ((rng.normal(size=(n, d)) * spread) @ turn).astype(np.float32), ((0.95 * rng.normal(size=(n, d)) * spread) @ turn).astype(np.float32)


def compare(names: list[str], folder: Path, threads: int, repeats: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {}
    env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}
    lines = []
    for _ in range(repeats):
        for name in names:
            if name in found and found[name] is None:
                continue
            ended = subprocess.run([sys.executable, __file__, "--child", name, str(folder)], capture_output=True, text=True, env=env)
            if ended.returncode:
                print(f"{name}: {ended.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found.setdefault(name, []).append(json.loads(ended.stdout.splitlines()[-1]))
    for name, runs in found.items():
        lines.append({
            "contender": name, "version": runs[0]["version"], "seconds": round(statistics.median(r["seconds"] for r in runs), 4),
            "peak_mb": round(statistics.median(r["peak_mb"] for r in runs), 1), "value": runs[0]["value"],
        })  # fmt: skip
    return lines


def child(name: str, folder: str) -> None:
    package, make = CONTENDERS[name]
    if importlib.util.find_spec(package) is None:
        sys.exit(f"{package} is not installed")
    call = make()
    real, fake = (np.load(f"{folder}/{which}.npy") for which in ("real", "fake"))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        call(real[:1000].copy(), fake[:1000].copy())  # libraries, threads, buffers of libraries
        before = held("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        started = time.perf_counter()
        value = call(real, fake)
        seconds = time.perf_counter() - started
        peak, taken = held("VmHWM") - before, [seconds]
        while sum(taken) < 1 and len(taken) < 9:
            started = time.perf_counter()
            call(real, fake)
            taken.append(time.perf_counter() - started)
    version = importlib.metadata.version(PACKAGES.get(package, package)) if package != "mitate" else "this tree"
    print(json.dumps({"seconds": statistics.median(taken), "peak_mb": max(0.0, peak), "version": version, "value": [float(f"{v:.8g}") for v in value]}))


def held(what: str) -> float:
    """MiB, as the kernel counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


# contenders


def ours() -> Call:
    import torch  # noqa: F401  a library, and no part of the call

    from mitate.metrics import frechet, kernel, neighbours, vendi

    def call(real: np.ndarray, fake: np.ndarray) -> list[float]:
        found = neighbours.neighbourhood(real, fake, ks=(K,))
        near = [metric(found).value for metric in (neighbours.precision, neighbours.recall, neighbours.density, neighbours.authenticity)]
        return [*near, neighbours.coverage(found), frechet.frechet(real, fake), kernel.kernel_distance(real, fake).value, vendi.vendi(fake)]

    return call


def prdc() -> Call:
    from prdc import compute_prdc

    return lambda real, fake: list(compute_prdc(real, fake, K).values())


def without_torchvision_operators() -> None:
    """torchvision's own operators may not be built for this torch; none is called here."""
    import torch

    for name, form in (
        ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ):
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{name}", form)


def torch_fidelity() -> Call:
    import torch

    without_torchvision_operators()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    def call(real: np.ndarray, fake: np.ndarray) -> list[float]:
        a, b = torch.from_numpy(real), torch.from_numpy(fake)
        fid = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
        kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1.0, "rng_seed": 0}
        kid = kid_features_to_metric(a, b, kid_subsets=100, kid_subset_size=min(1000, len(a)), **kernel, verbose=False)
        prc = prc_features_to_metric(b, a, prc_neighborhood=K, prc_batch_size=10000, save_cpu_ram=False, verbose=False)
        return [*fid.values(), *kid.values(), *prc.values()]

    return call


def pytorch_fid() -> Call:
    without_torchvision_operators()
    from pytorch_fid.fid_score import calculate_frechet_distance

    def call(real: np.ndarray, fake: np.ndarray) -> list[float]:
        sides = [(s.mean(axis=0), np.cov(s, rowvar=False)) for s in (real, fake)]
        return [calculate_frechet_distance(*sides[0], *sides[1])]

    return call


def vendi_score() -> Call:
    from vendi_score import vendi

    return lambda real, fake: [vendi.score_dual(fake)]


def scikit_learn() -> Call:
    """Radii and nearest of the other set, by its brute search."""
    from sklearn.neighbors import NearestNeighbors

    def call(real: np.ndarray, fake: np.ndarray) -> list[float]:
        sides = [NearestNeighbors(n_neighbors=K, algorithm="brute").fit(s) for s in (real, fake)]
        radii = [side.kneighbors()[0][:, -1] for side in sides]
        nearest = [sides[0].kneighbors(fake, n_neighbors=1)[0], sides[1].kneighbors(real, n_neighbors=1)[0]]
        return [float((nearest[1][:, 0] < radii[0]).mean()), float(radii[1].mean())]

    return call


def faiss_flat() -> Call:
    """Radii and nearest of the other set, by its flat index."""
    import faiss

    def call(real: np.ndarray, fake: np.ndarray) -> list[float]:
        sides = []
        for points in (real, fake):
            index = faiss.IndexFlatL2(points.shape[1])
            index.add(points)
            sides.append(index)
        radii = [np.sqrt(index.search(points, K + 1)[0][:, -1]) for index, points in zip(sides, (real, fake), strict=True)]
        nearest = np.sqrt(sides[1].search(real, 1)[0][:, 0])
        sides[0].search(fake, 1)
        return [float((nearest < radii[0]).mean()), float(radii[1].mean())]

    return call


PACKAGES = {"sklearn": "scikit-learn", "faiss": "faiss-cpu"}  # where the package has another name than the module
CONTENDERS: dict[str, tuple[str, Callable[[], Call]]] = {
    "ours": ("mitate", ours),
    "prdc": ("prdc", prdc),
    "torch-fidelity": ("torch_fidelity", torch_fidelity),
    "pytorch-fid": ("pytorch_fid", pytorch_fid),
    "vendi-score": ("vendi_score", vendi_score),
    "scikit-learn": ("sklearn", scikit_learn),
    "faiss": ("faiss", faiss_flat),
}


def summary() -> None:
    """What the sum of the packages takes, over what ours takes; and the largest and the least of their peaks over ours."""
    cells: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for line in map(json.loads, RESULTS.read_text().splitlines()):
        cells.setdefault((line["n"], line["d"]), {})[line["contender"]] = line
    print("| n | d | ours, s | MB | the six packages, s | times ours | largest peak, times ours | which |")
    print("|---|---|---|---|---|---|---|---|")
    for (n, d), rows in sorted(cells.items()):
        mine, others = rows["ours"], [row for name, row in rows.items() if name != "ours"]
        start = f"| {n:,} | {d:,} | {mine['seconds']:.2f} | {mine['peak_mb']:.0f} |"
        if not others:
            print(f"{start} not run | | | |")
            continue
        total, most = sum(row["seconds"] for row in others), max(others, key=lambda row: row["peak_mb"])
        print(f"{start} {total:.1f} | {total / mine['seconds']:.1f} | {most['peak_mb'] / max(1.0, mine['peak_mb']):.1f} | {most['contender']} |")


if __name__ == "__main__":
    main()
