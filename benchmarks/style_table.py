"""Which pictures of a text-to-image or class-conditional model help a classifier that has 2 to 16 real images a class, in a look that the model never saw?

    MITATE_DATA=folder python benchmarks/style_table.py [--targets dusk,outline,camera] [--shots 2,4,8,16] [--replicates 0,1,2,3,4]
    python benchmarks/style_table.py --summary

Targets. `dusk`: the lab's drawings of six shapes in a look that its text-to-image model was never shown (32 px). `outline`: Fashion-MNIST as white outlines,
drawn by a diffusion model that learnt 3,000 other images in their usual look (28 px). `camera`: coffee leaves at 32 px as another camera would have them
(darker, bluer, softer, grain), drawn by one that learnt half of the training split as it is; the other half gives the shots.

Pictures, 25 a class: `plain`, the model as it is; `untrained`, the same sentence with a word that says nothing yet (text-to-image only); `aligned`, plain
ones with the shots' colours, sharpness and grain; `learnt`, one word or vector for the look by style inversion (300 steps). A quarter as many other images as
shots, at least one a class, stop it in time; nothing else sees them. `apart`: AUC of a classifier that tells the pictures from up to 50 other real ones a
class; `kernel`: kernel distance to those, thousandths; `kept`: share that shows the class, by the lab's oracle or by a classifier that learnt the model's own
images in the look.

Arms, 300 steps each, augmented: real; real-long (twice the steps); mixed, balanced, bridged, bridged++ with each kind of pictures. Bodies: `small` from
scratch; `frozen`, mitate-small that learns a head alone (bridged++ says nothing there). Accuracy on the test images. Arms of a replicate share shots and seeds.
One JSON line a target, number of shots, replicate and body in results/style_table.jsonl.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, stats

import cells
import mitate as mi
from mitate import registry
from mitate.adapters.alignment import Aligned, Alignment
from mitate.features.extractor import extractor
from mitate.fitted import Fitted
from mitate.generator import Pixels
from mitate.generators.diffusion import Diffusion
from mitate.generators.restyled import Restyled
from mitate.generators.text_to_image import TextToImage
from mitate.intake.opening import open_images
from mitate.lab.oracle import read
from mitate.lab.sets import lab_images
from mitate.lab.world import SHAPES
from mitate.metrics.intervals import holm
from mitate.metrics.kernel import kernel_distance
from mitate.metrics.told_apart import told_apart
from mitate.progress import Silent
from mitate.recipe import parse
from mitate.runtime import seed_of, torch_threads
from mitate.store import Store
from mitate.training.augmentation import flips_are_safe
from mitate.training.loop import Training, predict, train

OUT = Path(__file__).parent / "results" / "style_table.jsonl"
STORE = Path("runs") / "style-table"  # bases are fitted once
DRAWN, POOL, FRESH, LEARNING, STEPS, LONG = 25, 20, 50, 300, 300, 2
GUIDANCE = 2.0
SOURCES = ("plain", "untrained", "aligned", "learnt")
MIXES = ("mixed", "balanced", "bridged", "bridged++")
BODIES = {"small": ("small", False), "frozen": ("mitate-small", True)}
PAIRS = (  # what the published ordering says is better, and than what: sources first, then mixes
    ("learnt", "plain"), ("learnt", "untrained"), ("learnt", "aligned"), ("balanced", "mixed"), ("bridged", "mixed"), ("bridged++", "bridged"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Target:
    """Images in the look: to draw shots from, to test on, to measure pictures against. base: what the model learnt, in its own look; None for the lab's."""

    pool: Pixels
    test: Pixels
    fresh: Pixels
    base: Pixels | None
    right: Callable[[np.ndarray, np.ndarray], float]  # the share of pictures that show their class


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--targets", default="dusk,outline,camera")
    options.add_argument("--shots", default="2,4,8,16")
    options.add_argument("--replicates", default="0,1,2,3,4")
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [
            {"target": target, "shots": int(n), "replicate": int(r), "body": body}
            for target in given.targets.split(",") for r in given.replicates.split(",") for n in given.shots.split(",") for body in BODIES
        ]  # fmt: skip
        cells.fill(given.out, [(name, partial(measure, name)) for name in names], tell=lambda n, r: f"{n}: real {r['real']:.3f}, {r['seconds']} s")
    print(summary(cells.read(given.out)))


# targets --------------------------------------------------------------------------------------------------------------


@cache
def target(name: str) -> Target:
    if name == "dusk":
        sets = (lab_images(n, seed=seed, style=name) for n, seed in ((POOL, 11), (60, 12), (FRESH, 13)))
        pool, test, fresh = (Pixels(images.pixels(size=32, channels=3), images.y, len(SHAPES)) for images in sets)
        return Target(pool, test, fresh, None, _shown)
    root, chance = Path(os.environ["MITATE_DATA"]), np.random.default_rng(0)
    if name == "outline":
        data = np.load(root / "fashion_mnist.npz", allow_pickle=False)
        x, y, xt, yt = (data[k] for k in ("x_train", "y_train", "x_test", "y_test"))
        base, rest = some(x[..., None], y, 300, chance)
        tested, _ = some(xt[..., None], yt, 100, chance)
        return _restyled(base, rest, tested, outlined)
    parts = [open_images(root / "coffee_leaf" / part) for part in ("train", "test")]
    (x, y), (xt, yt) = ((p.pixels(size=32, channels=3), p.y) for p in parts)
    base, rest = some(x, y, int(np.bincount(y).min() // 2), chance)
    return _restyled(base, rest, Pixels(xt, yt, base.n_classes), photographed)


def some(x: np.ndarray, y: np.ndarray, each: int, chance: np.random.Generator) -> tuple[Pixels, Pixels]:
    """So many images of each class, and all others."""
    k = int(y.max()) + 1
    rows = np.concatenate([chance.permutation(np.flatnonzero(y == label))[:each] for label in range(k)])
    others = np.setdiff1d(np.arange(len(y)), rows)
    return Pixels(x[rows], y[rows].astype(np.int64), k), Pixels(x[others], y[others].astype(np.int64), k)


def _restyled(base: Pixels, rest: Pixels, test: Pixels, look: Callable[[np.ndarray], np.ndarray]) -> Target:
    pool, rest = some(rest.x, rest.y, POOL, np.random.default_rng(1))
    fresh, _ = some(rest.x, rest.y, FRESH, np.random.default_rng(2))
    net = _trained("real+augment", "small", Pixels(look(base.x), base.y, base.n_classes), None, 2 * STEPS, 0)
    pool, test, fresh = (Pixels(look(part.x), part.y, part.n_classes) for part in (pool, test, fresh))
    return Target(pool, test, fresh, base, lambda x, y: float((predict(net, x).argmax(1) == y).mean()))


def outlined(x: np.ndarray) -> np.ndarray:
    """Light outlines on black: the steepness of brightness."""
    soft = ndimage.gaussian_filter(x[..., 0].astype(np.float64), (0, 0.7, 0.7))
    steep = np.hypot(ndimage.sobel(soft, axis=1), ndimage.sobel(soft, axis=2))
    return np.clip(steep / 2, 0, 255).astype(np.uint8)[..., None]


def photographed(x: np.ndarray) -> np.ndarray:
    """By another camera: darker, bluer, softer, with grain. Image i has grain of its own."""
    soft = ndimage.gaussian_filter(x.astype(np.float64) / 255, (0, 0.8, 0.8, 0))
    toned = soft**1.5 * np.array([0.7, 0.85, 1.0]) + 0.08
    grain = np.stack([np.random.default_rng(int(image.sum())).normal(0, 0.03, image.shape) for image in x])
    return np.clip(255 * (toned + grain), 0, 255).astype(np.uint8)


def _shown(x: np.ndarray, y: np.ndarray) -> float:
    found = [read(image, style="dusk") for image in x]
    return float(np.mean([len(s.things) == 1 and s.things[0].shape == SHAPES[k] for s, k in zip(found, y, strict=True)]))


# cells ----------------------------------------------------------------------------------------------------------------


def measure(name: Mapping[str, Any]) -> cells.Row:
    t, started = target(name["target"]), time.process_time()
    shots, pictures, facts = drawn(name["target"], name["shots"], name["replicate"])
    right = partial(_accuracy, t.test, name["body"], shots, seed=name["replicate"])
    found: dict[str, Any] = {"real": right("real+augment", None), "real-long": right("real-long+augment", None, steps=LONG * STEPS)}
    for source, x in pictures.items():
        mixes = [mix for mix in MIXES if name["body"] == "small" or not parse(mix).forgets]
        found[source] = {mix: right(f"{mix}+augment", x) for mix in mixes}
    return {**name, **found, "pictures": facts, "seconds": round(time.process_time() - started, 1)}


@lru_cache(maxsize=1)
def drawn(name: str, n: int, replicate: int) -> tuple[Pixels, dict[str, Pixels], dict[str, Any]]:
    """The shots, the pictures of each source, and how near these come to the look."""
    t = target(name)
    chance = np.random.default_rng([replicate, n])
    rows = [chance.permutation(np.flatnonzero(t.pool.y == k)) for k in range(t.pool.n_classes)]
    shots, others = (_rows(t.pool, np.concatenate([r[a:b] for r in rows])) for a, b in ((0, n), (n, n + max(1, n // 4))))
    y = np.repeat(np.arange(t.pool.n_classes), DRAWN)
    pictures, facts, eye = {}, {}, extractor()
    for source in SOURCES:
        started = time.process_time()
        x = _pictures(name, source, shots, others, y, replicate) if source != "aligned" else None
        if source == "aligned":
            x = Aligned(Alignment().fit(shots.x, pictures["plain"].x)).apply(pictures["plain"].x)
        if x is None:
            continue
        pictures[source] = Pixels(x, y, t.pool.n_classes)
        a, b = eye.both(t.fresh.x).late, eye.both(x).late
        facts[source] = {
            "apart": round(told_apart(a, b, seed=0, labels=(t.fresh.y, y)).auc.value, 4), "kernel": round(1000 * kernel_distance(a, b).value, 1),
            "kept": round(t.right(x, y), 4), "seconds": round(time.process_time() - started, 1),
        }  # fmt: skip
    return shots, pictures, facts


def _rows(pixels: Pixels, rows: np.ndarray) -> Pixels:
    return Pixels(pixels.x[rows], pixels.y[rows], pixels.n_classes)


def _pictures(name: str, source: str, shots: Pixels, others: Pixels, y: np.ndarray, replicate: int) -> np.ndarray | None:
    """uint8 [n, h, w, c] of the classes y; None where the model has no such source."""
    seeds = np.array([seed_of("picture", replicate, i) for i in range(len(y))])
    if name == "dusk":
        kind = TextToImage.of("lab", SHAPES, style="none" if source == "plain" else source, steps=LEARNING if source == "learnt" else 0, guidance=GUIDANCE)
    elif source == "untrained":
        return None
    else:
        base = _base(name)
        if source == "plain":
            return _how(name).load(base.entry.folder).sample(seeds, y)
        kind = Restyled(base=base.digest, diffusion=_how(name), steps=LEARNING)
    with tempfile.TemporaryDirectory() as place:
        more = {} if name == "dusk" else {"base": _base(name).entry.folder}
        kind.fit(shots, others, seed=replicate, folder=Path(place), checkpoint=Path(place) / "checkpoint", progress=Silent(), **more)
        return kind.load(Path(place)).sample(seeds, y)


def _how(name: str) -> Diffusion:
    base = target(name).base
    assert base is not None
    return Diffusion.default_for(base.x.shape[1:], len(base.x))


@cache
def _base(name: str) -> Fitted:
    base = target(name).base
    assert base is not None
    images = mi.from_arrays(base.x, base.y, classes=[str(k) for k in range(base.n_classes)], name=name)
    return mi.fit(_how(name), images, seed=0, size=base.x.shape[1], store=Store(STORE))


def _trained(arm: str, body: str, real: Pixels, pictures: Pixels | None, steps: int, seed: int) -> Any:
    kind, frozen = BODIES[body]
    build = partial(registry.find("backbone", kind), shape=real.x.shape[1:], n_classes=real.n_classes, frozen=frozen)
    training = Training(steps=steps, flip=flips_are_safe(real.x, real.y))
    with torch_threads():
        return train(parse(arm), build, real=real, synthetic=pictures, training=training, seed=seed, pretrained=frozen)


def _accuracy(test: Pixels, body: str, shots: Pixels, arm: str, pictures: Pixels | None, *, seed: int, steps: int = STEPS) -> float:
    net = _trained(arm, body, shots, pictures, steps, seed)
    return round(float((predict(net, test.x).argmax(1) == test.y).mean()), 4)


# what is told ---------------------------------------------------------------------------------------------------------


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join([looks(rows), gains(rows), orderings(rows)])


def looks(rows: Sequence[Mapping[str, Any]]) -> str:
    """How near the pictures come to the look; over shots and replicates, each counted once."""
    lines = ["| Target | Shots | Pictures | Told apart (AUC) | Kernel distance, thousandths | Class kept, % | Core s | n |", "|" + "---|" * 8]
    for name, n in dict.fromkeys((r["target"], r["shots"]) for r in rows):
        some = {r["replicate"]: r["pictures"] for r in rows if (r["target"], r["shots"]) == (name, n)}
        for source in next(iter(some.values())):
            of = [facts[source] for facts in some.values()]
            told = [cells.interval([factor * f[key] for f in of], digits) for key, factor, digits in (("apart", 1, 3), ("kernel", 1, 0), ("kept", 100, 0))]
            lines.append(f"| {name} | {n} | {source} | {' | '.join(told)} | {statistics.median(f['seconds'] for f in of):.0f} | {len(of)} |")
    return "\n".join(lines)


def gains(rows: Sequence[Mapping[str, Any]]) -> str:
    """Points of accuracy over real images alone: by shots, and over shots with Student's interval over replicates and Holm's p over a target's arms."""
    counts = sorted({r["shots"] for r in rows})
    lines = [
        "| Target | Body | Pictures | Arm | " + " | ".join(f"{n} shots" for n in counts) + " | all shots (95 %) | p, Holm | n |",
        "|" + "---|" * (len(counts) + 7),
    ]
    for name, body in dict.fromkeys((r["target"], r["body"]) for r in rows):
        mine = [r for r in rows if (r["target"], r["body"]) == (name, body)]
        arms = [("", "real-long"), *((s, mix) for s in SOURCES if s in mine[0] for mix in mine[0][s])]
        over = {arm: _over_replicates(mine, lambda r, arm=arm: _of(r, *arm) - r["real"]) for arm in arms}
        p = dict(zip(over, holm([_p(values) for values in over.values()]), strict=True))
        at = [[r for r in mine if r["shots"] == n] for n in counts]
        real = " | ".join(f"{100 * statistics.mean(r['real'] for r in some):.1f} %" if some else "" for some in at)
        lines.append(f"| {name} | {body} | | real | {real} | | | |")
        for (source, mix), values in over.items():
            told = " | ".join(f"{100 * statistics.mean(_of(r, source, mix) - r['real'] for r in some):+.1f}" if some else "" for some in at)
            lines.append(f"| {name} | {body} | {source} | {mix} | {told} | {cells.interval(values, 1)} | {p[source, mix]:.2f} | {len(values)} |")
    return "\n".join(lines)


def orderings(rows: Sequence[Mapping[str, Any]]) -> str:
    """Differences that the published ordering says are positive, over all shots, mixes and sources that both have."""
    lines = ["| Target | Body | Better, as published | than | Points (95 %) | holds? |", "|" + "---|" * 6]
    for name, body in dict.fromkeys((r["target"], r["body"]) for r in rows):
        mine = [r for r in rows if (r["target"], r["body"]) == (name, body)]
        for a, b in PAIRS:
            if a in SOURCES and not all(s in mine[0] for s in (a, b)):
                continue
            if a not in SOURCES and not all(m in mine[0]["plain"] for m in (a, b)):
                continue
            values = _over_replicates(mine, partial(_apart, a=a, b=b))
            low, high = _ends(values)
            lines.append(
                f"| {name} | {body} | {a} | {b} | {cells.interval(values, 1)} | {'holds' if low > 0 else 'does not hold' if high < 0 else 'cannot tell'} |"
            )
    return "\n".join(lines)


def _of(row: Mapping[str, Any], source: str, mix: str) -> float:
    return float(row[source][mix] if source else row[mix])


def _apart(row: Mapping[str, Any], a: str, b: str) -> float:
    """a less b: over mixes where they are sources, over sources where they are mixes."""
    if a in SOURCES:
        return statistics.mean(row[a][mix] - row[b][mix] for mix in row[a])
    return statistics.mean(row[source][a] - row[source][b] for source in SOURCES if source in row)


def _over_replicates(rows: Sequence[Mapping[str, Any]], what: Callable[[Mapping[str, Any]], float]) -> list[float]:
    """Points for each replicate that has all numbers of shots: the mean over these."""
    counts = {r["shots"] for r in rows}
    whole = [i for i in sorted({r["replicate"] for r in rows}) if {r["shots"] for r in rows if r["replicate"] == i} == counts]
    return [100 * statistics.mean(what(r) for r in rows if r["replicate"] == i) for i in whole]


def _p(values: Sequence[float]) -> float:
    """Student's, two-sided, of a mean of 0."""
    return float(stats.ttest_1samp(values, 0.0).pvalue) if len(set(values)) > 1 else 1.0


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if len(set(values)) < 2:
        return -np.inf, np.inf
    found = stats.t.interval(0.95, len(values) - 1, statistics.mean(values), stats.sem(values))
    return float(found[0]), float(found[1])


if __name__ == "__main__":
    main()
