"""How often intervals of set metrics hold the truth: what the metric is on average, at this n, over independent draws of both sets.

    python benchmarks/set_interval_coverage.py [--worlds 1.0] [--only gaussian-16] [--out benchmarks/results/set_interval_coverage.jsonl]

One JSON line a setting and metric: truth, coverage and mean width of each method; settings that are in the file are skipped.
Settings: Gaussian sets of 16 and 64 columns, alike or apart, and MobileNetV2 features of Fashion-MNIST from the folder MITATE_DATA (projected on 128
principal axes), beside the same kind of images blurred. Methods: draws without replacement of 80, 50 and 20 %, the delete-one jackknife, the
bootstrap with replacement (by its quantiles, and by its deviation), and Wilson's or Student's interval over the images of one side, the other side
taken as given.

Numbers are computed on whole matrices of distances, which for hundreds of draws of one world is several times as fast as the package's own
pass; the first world of each setting checks that both say the same. `width`: of the mean interval, over that of an interval that knows the
deviation. 200 worlds leave a Monte Carlo error of 0.015 at 0.95, 60 of 0.028, 24 of 0.044.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from mitate.metrics import clusters as cl
from mitate.metrics import frechet as fr
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.intervals import quantile_t, wilson
from mitate.metrics.subsampling import HALF, SHARE, at_equal_n, subsampled

K = 5
DRAWS = 50
WORLDS = {30: 200, 100: 150, 300: 60, 1000: 24}  # in which intervals are made
RIVAL_WORLDS = 40  # in which those of the rivals are made
TRUTH = 4  # times as many worlds tell the truth
RATIO = 10  # neighbours after the first that a distance is compared with
IMAGES = 12000  # of each population of real features
AXES = 128
EXCESS = ", excess over the floor"  # of a setting's name

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


class World:
    """Two sets and the distances in and between them; `statistic` takes rows."""

    def __init__(self, real: np.ndarray, fake: np.ndarray) -> None:
        self.real, self.fake = real, fake
        self.infinity = 2.5 * fr.LEAST_INFINITY <= len(fake) <= 500 and real.shape[1] < 50  # half of them is still enough; beyond, too slow
        self.own, self.other, self.apart = (cdist(a, b).astype(np.float32) for a, b in ((real, real), (fake, fake), (fake, real)))

    def statistic(self, rows: np.ndarray, others: np.ndarray) -> dict[str, float]:
        return {name: float(np.mean(found)) for name, found in self.contributions(rows, others).items()}

    def contributions(self, rows: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray | float]:
        own, other, apart = self.own[np.ix_(rows, rows)], self.other[np.ix_(others, others)], self.apart[np.ix_(others, rows)]
        nearest = np.sort(np.partition(own, K, axis=1)[:, : K + 1], axis=1)
        gap, radii = nearest[:, 1], nearest[:, K]
        inside = apart < radii
        near = np.partition(apart, RATIO, axis=1)[:, : RATIO + 1]
        to_real = near.min(axis=1)
        which = apart.argmin(axis=1)
        real, fake = self.real[rows], self.fake[others]
        found: dict[str, np.ndarray | float] = {
            "precision": inside.any(axis=1),
            "recall": (apart < np.partition(other, K, axis=1)[:, K, None]).any(axis=0),
            "density": inside.sum(axis=1) / K,
            "coverage": apart.min(axis=0) < radii,
            "authenticity": to_real > gap[which],
            "distance_ratio": to_real / ((near.sum(axis=1) - to_real) / RATIO),
            "intra_cluster": _intra_cluster(other, which),
            "vendi": ve.vendi(fake),
            "frechet": fr.frechet(real, fake),
        }
        if self.infinity and len(fake) >= fr.LEAST_INFINITY:
            found["frechet_infinity"] = fr.frechet_infinity(real, fake, seed=0).value
        return found


def _intra_cluster(other: np.ndarray, which: np.ndarray) -> float:
    same = which[:, None] == which[None]
    counts = same.sum(axis=1)
    some = counts > 1
    within = np.where(same, other, 0.0).sum(axis=1)[some] / ((counts[some] - 1) * counts[some])
    return float(within.sum() / len(np.unique(which[some])))


def gaussian(d: int, scale: float, shift: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(n, d)), scale * rng.normal(size=(n, d)) + shift

    return draw


def photographs(real: np.ndarray, fake: np.ndarray) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        if fake is real:
            both = rng.permutation(len(real))[: 2 * n]
            return real[both[:n]], real[both[n:]]
        return real[rng.permutation(len(real))[:n]], fake[rng.permutation(len(fake))[:n]]

    return draw


def populations(folder: Path, kept: Path) -> tuple[np.ndarray, np.ndarray]:
    """MobileNetV2 features of clothing, and of other clothing blurred, on the principal axes of the first. Computed once, kept beside."""
    if kept.is_file():
        with np.load(kept) as found:
            return found["real"], found["fake"]
    import torch

    from mitate.training.backbones import mobilenet_v2

    with np.load(folder / "fashion_mnist.npz") as data:
        x = np.concatenate([data["x_train"], data["x_test"]])[: 2 * IMAGES]
    body = mobilenet_v2(shape=(28, 28, 1), n_classes=10, weights=folder / "backbones" / "mobilenet_v2.safetensors", frozen=True).eval().body
    blurred = x[IMAGES:].astype(np.float32).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)

    def features(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            parts = [body(torch.from_numpy(np.float32(images[i : i + 64]))[:, None] / 255).numpy() for i in range(0, len(images), 64)]
        return np.concatenate(parts).astype(np.float64)

    real, fake = features(x[:IMAGES]), features(blurred)
    axes = np.linalg.eigh(np.cov(real, rowvar=False))[1][:, ::-1][:, :AXES]
    real, fake = real @ axes, fake @ axes
    np.savez(kept, real=real, fake=fake)
    return real, fake


# methods: (value, low, high) of each metric


def of_subsampling(share: float) -> Callable[[World, int], dict[str, tuple[float, float, float]]]:
    def intervals(world: World, seed: int) -> dict[str, tuple[float, float, float]]:
        n = len(world.real)
        statistic = world.statistic if share >= 0.5 else partial(_without_infinity, world)
        found = subsampled(statistic, np.arange(n), np.arange(len(world.fake)), seed=seed, draws=DRAWS, share=share)
        return {name: (i.value, i.low, i.high) for name, i in found.items()}

    return intervals


def _without_infinity(world: World, rows: np.ndarray, others: np.ndarray) -> dict[str, float]:
    return {name: v for name, v in world.statistic(rows, others).items() if name != "frechet_infinity"}


def jackknife(world: World, seed: int) -> dict[str, tuple[float, float, float]]:
    n, m = len(world.real), len(world.fake)
    rows, others = np.arange(n), np.arange(m)
    less = [[_without_infinity(world, np.delete(rows, i), others) for i in rows], [_without_infinity(world, rows, np.delete(others, i)) for i in others]]
    out = {}
    for name, v in _without_infinity(world, rows, others).items():
        variance = sum((len(side) - 1) * np.var([found[name] for found in side]) for side in less)
        half = quantile_t(0.975, min(n, m) - 1) * np.sqrt(variance)
        out[name] = (v, v - half, v + half)
    return out


def bootstrap(world: World, seed: int) -> dict[str, tuple[float, float, float]]:
    n, m = len(world.real), len(world.fake)
    rng = np.random.default_rng(seed)
    draws = [_without_infinity(world, rng.integers(0, n, n), rng.integers(0, m, m)) for _ in range(DRAWS)]
    value = _without_infinity(world, np.arange(n), np.arange(m))
    out = {}
    for name, v in value.items():
        found = [draw[name] for draw in draws]
        half = quantile_t(0.975, DRAWS - 1) * np.std(found, ddof=1)
        out[name] = (v, *np.quantile(found, [0.025, 0.975]))
        out[name + " by deviation"] = (v, v - half, v + half)
    return out


def one_side(world: World, seed: int) -> dict[str, tuple[float, float, float]]:
    """Wilson's interval for shares, Student's for means over images."""
    out = {}
    for name, found in world.contributions(np.arange(len(world.real)), np.arange(len(world.fake))).items():
        if isinstance(found, float):
            continue
        v, n = float(found.mean()), len(found)
        if found.dtype == bool:
            i = wilson(int(found.sum()), n)
            out[name] = (v, i.low, i.high)
        else:
            half = quantile_t(0.975, n - 1) * float(found.std(ddof=1)) / np.sqrt(n)
            out[name] = (v, v - half, v + half)
    return out


METHODS = {
    "80 %": of_subsampling(0.8),
    "50 %": of_subsampling(0.5),
    "20 %": of_subsampling(0.2),
    "jackknife": jackknife,
    "bootstrap": bootstrap,
    "one side": one_side,
}


def fits(method: str, n: int, world: int) -> bool:
    """Whether a method is cheap enough, and its draws large enough."""
    if method in ("20 %", "jackknife", "bootstrap") and (world >= RIVAL_WORLDS or n > 300):
        return False
    return {"50 %": n >= 30, "20 %": n >= 300, "jackknife": n <= 30}.get(method, True)


def measure(setting: str, draw: Draw, n: int, worlds: int) -> list[dict[str, object]]:
    rng = np.random.default_rng([n, *setting.encode()])
    rows = np.arange(n)
    values: dict[str, list[float]] = {}
    held: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for w in range(worlds * TRUTH):
        world = World(*draw(rng, n))
        for name, v in world.statistic(rows, rows).items():
            values.setdefault(name, []).append(v)
        if w == 0:
            check(world)
        if w < worlds:
            for method, intervals in METHODS.items():
                if not fits(method, n, w):
                    continue
                for name, ends in intervals(world, w).items():
                    by, name = (method + " by deviation", name.removesuffix(" by deviation")) if name.endswith(" by deviation") else (method, name)
                    held.setdefault(name, {}).setdefault(by, []).append(ends)
    return [_line(setting, n, name, values[name], by_method) for name, by_method in held.items()]


def _line(setting: str, n: int, metric: str, values: list[float], by_method: dict[str, list[tuple[float, float, float]]]) -> dict[str, object]:
    truth, spread = float(np.mean(values)), float(np.std(values))
    line: dict[str, object] = {
        "what": "set_interval_coverage", "setting": setting, "n": n, "metric": metric, "truth": float(f"{truth:.5g}"), "deviation": float(f"{spread:.3g}"),
    }  # fmt: skip
    for method, ends in by_method.items():
        low, high = np.array(ends)[:, 1], np.array(ends)[:, 2]
        held, width = float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean() / (3.92 * spread))
        line[method] = {"holds": round(held, 3), "width": round(width, 2), "worlds": len(ends)}
    return line


def measure_excess(setting: str, draw: Draw, n: int, worlds: int) -> list[dict[str, object]]:
    """The same for the difference to the floor: synthetic images beside as many held-out real ones."""
    rng = np.random.default_rng([n, 1, *setting.encode()])
    rows, held = np.arange(n), n + np.arange(n)
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    truths: dict[str, list[float]] = {}
    for w in range(worlds * TRUTH):
        real, fake = draw(rng, n)
        world = World(real, np.concatenate([fake, draw(rng, n)[0]]))
        value, floor = world.statistic(rows, rows), world.statistic(rows, held)
        for name in value:
            truths.setdefault(name, []).append(value[name] - floor[name])
        for share in (SHARE, HALF) if w < worlds else ():
            for name, i in at_equal_n(world.statistic, rows, rows, held, seed=w, share=share, draws=DRAWS).excess.items():
                found.setdefault(name, {}).setdefault(f"{100 * share:.0f} %", []).append((i.value, i.low, i.high))
    return [_line(setting + EXCESS, n, name, truths[name], by_method) for name, by_method in found.items()]


def check(world: World) -> None:
    found = nb.neighbourhood(world.real, world.fake, ks=(K,))
    said = {
        "precision": nb.precision(found).value, "recall": nb.recall(found).value, "density": nb.density(found).value, "coverage": nb.coverage(found),
        "authenticity": nb.authenticity(found).value, "intra_cluster": cl.intra_cluster(world.fake, found.nearest_real, n_real=len(world.real)).value,
    }  # fmt: skip
    rows = np.arange(len(world.real))
    for name, v in world.statistic(rows, rows).items():
        assert name not in said or abs(said[name] - v) < 1e-5 * max(1.0, abs(v)), f"{name}: {v} here, {said[name]} in the package"


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--worlds", type=float, default=1.0, help="times the number of worlds")
    asked.add_argument("--only", default="", help="part of a setting's name")
    asked.add_argument("--part", choices=("sets", "excess"), help="the numbers themselves, or their difference to the floor, alone")
    asked.add_argument("--n", type=int, default=0, help="this number of images alone")
    asked.add_argument("--features", type=Path, default=Path("/tmp/mitate_fashion_features.npz"), help="where features are kept")
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    settings: dict[str, tuple[Draw, tuple[int, ...]]] = {}
    for d in (16, 64):
        settings[f"gaussian-{d} alike"] = gaussian(d, 1.0, 0.0), (30, 100, 300)
        settings[f"gaussian-{d} apart"] = gaussian(d, 0.8, 0.3), (30, 100, 300, 1000)
    if folder := os.environ.get("MITATE_DATA"):
        real, fake = populations(Path(folder), options.features)
        settings["clothing alike"], settings["clothing blurred"] = (photographs(real, real), (100, 300)), (photographs(real, fake), (100, 300, 1000))
    done = {(line["setting"], line["n"]) for line in map(json.loads, options.out.read_text().splitlines())} if options.out and options.out.exists() else set()
    for setting, (draw, sizes) in settings.items():
        if options.only not in setting:
            continue
        for n in (size for size in sizes if options.n in (0, size)):
            started, found = time.perf_counter(), []
            if options.part != "excess" and (setting, n) not in done:
                found += measure(setting, draw, n, max(2, round(WORLDS[n] * options.worlds)))
            if n == 100 and "64" not in setting and options.part != "sets" and (setting + EXCESS, n) not in done:
                found += measure_excess(setting, draw, n, max(2, round(WORLDS[n] * options.worlds * 2 / 3)))
            text = "".join(json.dumps(line) + "\n" for line in found)
            print(f"{text}# {setting} {n}: {time.perf_counter() - started:.0f} s", flush=True)
            if options.out is not None:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                with options.out.open("a") as file:
                    file.write(text)


if __name__ == "__main__":
    main()
