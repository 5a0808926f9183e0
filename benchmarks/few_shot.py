"""Ten images of a class that the model has never seen: CRDI and its controls on real images, and in the lab, where the truth is known.

    MITATE_DATA=folder python benchmarks/few_shot.py [--sets greek,kmnist,fashion,lab-near,lab-far] [--methods chosen,crdi,...] [--replicates 0,1,2,3,4]
    python benchmarks/few_shot.py --summary

Bases, of one class and 28 px: `greek` and `kmnist` stand on Latin, Balinese and Early Aramaic letters (Omniglot, 1,440 drawings), `fashion` on Fashion-MNIST
without trousers, sandals and bags, which are its target. Shots: 8 of the 10 that come with a class of the first two, 10 of a class of the third, drawn
anew in each replicate. `lab-near` and `lab-far` stand on the lab's text-to-image model (32 px), asked with empty sentences: drawings of three pairs of
shape and colour that it was never shown, in the look it knows, and in one that it was never shown (`dusk`).

Methods: `chosen`, crdi with both dials chosen on the shots; `noised chosen`, the noised start with its one dial chosen so; `crdi` and `noised` from the
noisiest start of the window; `fixed`, crdi with each image's own shot; `mean`, `inverted`, `base`; `tuned` and `lora`, 300 steps of 16.

20 images a class, against real ones that nothing was learnt from. `energy`: the energy score, mean over reference images of their class (metrics/energy.py, in
features of mitate-small; lower is better; `floor` draws real images in place of synthetic ones where there are enough). `spread`: mean distance of a class's
images from each other, over the reference's. `near`: median distance to the nearest shot, over the reference's (below 1: nearer to the shots than new real
images are). `copies`: share of images that are copies of a shot less that of new real images, in points (metrics/privacy.py). `ssim`: mean structural
similarity to the most similar shot of the class, less that of new real images. `asked` (lab): share of images in which the oracle reads one thing of the right
shape and colour. `classes`: accuracy on the reference of a logistic regression on features of shots and images, less that of shots alone, in points.
One JSON line a cell in results/few_shot.jsonl. --grids FOLDER: pictures of the first replicate, ten of each of the first six classes a method, and SET.png, two
classes of each method of SHOWN below each other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

import cells
import mitate as mi
from mitate.codec import resize
from mitate.features.extractor import extractor
from mitate.fitted import Fitted
from mitate.lab.drawing import draw
from mitate.lab.oracle import read
from mitate.lab.world import WITHHELD, World
from mitate.metrics.energy import energy_score
from mitate.metrics.privacy import copies, features
from mitate.metrics.similarity import nearest_ssim
from mitate.shots import adapt_shots
from mitate.store import Store

OUT = Path(__file__).parent / "results" / "few_shot.jsonl"
STORE = Path("runs") / "few-shot"  # bases are fitted once
DRAWN, PIXELS, STEPS = 20, 28, 900
NEW = (1, 5, 8)  # trousers, sandals, bags
PAIRS = WITHHELD[:3]  # of the lab: blue stars, cyan circles, pink squares
SHOWN = ("shots", "chosen", "noised chosen", "crdi", "noised", "inverted", "tuned", "base")
LOOKS = {"lab-near": "flat", "lab-far": "dusk"}
WAYS: dict[str, mi.Shots] = {
    "chosen": mi.Shots(),
    "noised chosen": mi.Shots(method="noised"),
    "crdi": mi.Shots(diversity=1.0),
    "fixed": mi.Shots(diversity=1.0, options={"choice": "fixed"}),
    "noised": mi.Shots(method="noised", diversity=1.0),
    "mean": mi.Shots(method="mean", diversity=1.0),
    "inverted": mi.Shots(method="inverted", diversity=1.0),
    "base": mi.Shots(method="base"),
    "tuned": mi.Shots(method="tuned", options={"steps": 300, "rate": 3e-4}),
    "lora": mi.Shots(method="lora", options={"steps": 300, "rate": 1e-3}),
}


@dataclass(frozen=True)
class Task:
    """What the base learns (nothing where it is the lab's), the shots, and what images are judged by: uint8 [n, size, size, c] with classes."""

    base: np.ndarray | None
    shots: np.ndarray
    y: np.ndarray
    reference: np.ndarray
    reference_y: np.ndarray
    few: int

    @property
    def shape(self) -> dict[str, int]:
        return {"size": self.shots.shape[1], "channels": self.shots.shape[3]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default="greek,kmnist,fashion,lab-near,lab-far")
    options.add_argument("--methods", default=",".join(["floor", "shots", *WAYS]))
    options.add_argument("--replicates", default="0,1,2,3,4")
    options.add_argument("--grids", type=Path)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        names = [
            {"set": s, "replicate": int(r), "method": m} for r in given.replicates.split(",") for s in given.sets.split(",") for m in given.methods.split(",")
        ]  # fmt: skip
        cells.fill(given.out, [(n, partial(measure, n, given.grids)) for n in names], tell=lambda n, r: f"{n}: energy {r['energy']:.3f}, near {r['near']:.2f}")
        if given.grids is not None:
            together(given.grids, given.sets.split(","))
    print(summary(cells.read(given.out)))


@cache
def task(name: str) -> Task:
    if name in LOOKS:
        shots, y = drawn(LOOKS[name], 30, seed=1)
        return Task(None, shots, y, *drawn(LOOKS[name], 60, seed=2), 10)
    root = Path(os.environ["MITATE_DATA"])
    if name == "fashion":
        data = np.load(root / "fashion_mnist.npz", allow_pickle=False)
        x, y, xt, yt = (data[k] for k in ("x_train", "y_train", "x_test", "y_test"))
        old, new, judged = ~np.isin(y, NEW), np.isin(y, NEW), np.isin(yt, NEW)
        rows = np.random.default_rng(0).permutation(np.flatnonzero(old))[:3000]
        known = {k: i for i, k in enumerate(NEW)}
        pick = np.concatenate([np.flatnonzero(judged & (yt == k))[:200] for k in NEW])
        labels, labels_t = (np.array([known[int(k)] for k in v]) for v in (y[new], yt[pick]))
        return Task(x[rows, :, :, None], x[new][:, :, :, None], labels, xt[pick, :, :, None], labels_t, 10)
    letters = np.load(root / "few_shot" / "omniglot_greek_reference.npz", allow_pickle=False)
    base = ink(letters["source_x"])
    folder = root / "few_shot" / ("omniglot_greek_10shot" if name == "greek" else "kmnist_10shot")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    files = [(k, f) for k, c in enumerate(classes) for f in sorted((folder / c).iterdir())]
    shots = np.stack([resize(np.asarray(Image.open(f).convert("L"))[:, :, None], PIXELS, 1) for _, f in files])
    y = np.array([k for k, _ in files])
    if name == "greek":
        return Task(base, shots, y, ink(letters["x"]), letters["y"].astype(np.int64), 8)
    data = np.load(root / "few_shot" / "kmnist_reference.npz", allow_pickle=False)
    pick = np.concatenate([np.flatnonzero(data["y"] == k)[:60] for k in range(len(classes))])
    x = data["x"][pick].reshape(-1, PIXELS, PIXELS, 1)
    if shots.mean() < 127:  # white strokes on black there, ink on paper in the base
        shots, x = 255 - shots, 255 - x
    return Task(base, shots, y, x, data["y"][pick].astype(np.int64), 8)


def drawn(look: str, each: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawings of one thing of each of PAIRS, uint8 [n, 32, 32, 3], and which pair."""
    scenes = [World(counts=(1.0,), only=(pair,)).scene(i, seed=seed) for pair in PAIRS for i in range(each)]
    return np.stack([draw(scene, style=look) for scene in scenes]), np.repeat(np.arange(len(PAIRS)), each)


def ink(x: np.ndarray) -> np.ndarray:
    """Drawings of 0 and 1 (ink) as dark strokes on white, 28 px."""
    return np.stack([resize(((1 - image) * 255).astype(np.uint8)[:, :, None], PIXELS, 1) for image in x])


def base_of(name: str) -> Fitted | None:
    """The base of a set, fitted once; None where it is the lab's model."""
    if name in LOOKS:
        return None
    return mi.fit(mi.Diffusion(steps=STEPS, shift=0.25), _base_images(name), seed=0, size=PIXELS, store=Store(STORE))


def measure(name: Mapping[str, Any], grids: Path | None) -> cells.Row:
    t, method, replicate = task(name["set"]), name["method"], name["replicate"]
    classes = [f"class {k:02d}" for k in range(int(t.y.max()) + 1)]
    shots = mi.from_arrays(t.shots, t.y, classes=classes, name=name["set"]).few(t.few, seed=replicate)
    real = shots.pixels(**t.shape)
    facts: dict[str, Any] = {}
    rows = np.arange(len(t.reference_y))
    started = time.process_time()
    if method == "floor":  # as many other real images of each class; the rest judge
        chance = np.random.default_rng(replicate)
        own = [chance.permutation(np.flatnonzero(t.reference_y == k)) for k in range(len(classes))]
        take = min(DRAWN, min(len(r) for r in own) // 2)
        mine = np.concatenate([r[:take] for r in own])
        x, y, rows = t.reference[mine], t.reference_y[mine], np.concatenate([r[take:] for r in own])
    elif method == "shots":
        x, y = real, shots.y
    else:
        base = base_of(name["set"])
        started = time.process_time()
        with tempfile.TemporaryDirectory() as place:
            store = Store(place)
            if base is not None:
                mi.fit(mi.Diffusion(steps=STEPS, shift=0.25), _base_images(name["set"]), seed=0, size=PIXELS, store=linked(store, base), name="base")
            how = WAYS[method] if base is not None else told(WAYS[method])
            fitted, chosen = adapt_shots("base" if base is not None else "lab", shots, how, seed=replicate, store=store)
            facts["fit_seconds"] = round(time.process_time() - started, 1)
            if chosen is not None:
                facts |= {"diversity": chosen.diversity, "strength": chosen.strength}
            made = mi.generate(fitted, per_class=DRAWN, seed=replicate, store=store)
            x, y = made.pixels(**t.shape), made.y
    facts["seconds"] = round(time.process_time() - started, 1)
    if grids is not None and replicate == 0:
        grids.mkdir(parents=True, exist_ok=True)
        sheet(x, y, grids / _file(name["set"], method))
    if name["set"] in LOOKS:
        facts["asked"] = round(float(np.mean([fulfilled(image, PAIRS[k], LOOKS[name["set"]]) for image, k in zip(x, y, strict=True)])), 4)
    return {**name, **judged(t, real, shots.y, x, y, rows), **facts}


def told(how: mi.Shots) -> mi.Shots:
    """The same on a text-to-image model: no sentences, so that no word helps; methods that learn get one of no meaning for each class, to tell them apart."""
    if how.method not in ("tuned", "lora"):
        return how
    return replace(how, options={**how.options, "sentences": tuple(f"thing {k}" for k in "abc")})


def fulfilled(image: np.ndarray, pair: tuple[str, str], look: str) -> bool:
    """Whether the oracle reads one thing of this shape and colour."""
    scene = read(image, style=look)
    return [(t.shape, t.colour) for t in scene.things] == [pair]


def _base_images(name: str) -> mi.ImageSet:
    x = task(name).base
    assert x is not None
    return mi.from_arrays(x, np.zeros(len(x), np.int64), classes=["image"], name="base")


def linked(store: Store, base: Fitted) -> Store:
    """A store that holds the base already."""
    place = store.folder_of(base.digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(base.entry.folder.resolve(), target_is_directory=True)
    return store


def judged(t: Task, real: np.ndarray, real_y: np.ndarray, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    eye = extractor()
    f, s, r, ry = eye(x).astype(np.float64), eye(real).astype(np.float64), eye(t.reference[rows]).astype(np.float64), t.reference_y[rows]
    energy, spread, near, alike = [], [], [], []
    for k in np.unique(y):
        drawn, shot, truth = f[y == k], s[real_y == k], r[ry == k]
        energy.append(np.mean([energy_score(drawn, one) for one in truth]))
        spread.append(apart(drawn) / apart(truth))
        near.append(np.median(nearest(drawn, shot)) / np.median(nearest(truth, shot)))
        own = real[real_y == k]
        alike.append(nearest_ssim(x[y == k], own).mean() - nearest_ssim(t.reference[rows][ry == k], own).mean())
    copied = copies(features(x), features(real), features(t.reference[rows]))
    scores = [
        LogisticRegression(max_iter=2000, C=0.1).fit(a, b).score(r, ry) for a, b in ((s, real_y), (np.concatenate([s, f]), np.concatenate([real_y, y])))
    ]  # fmt: skip
    found = {
        "energy": np.mean(energy),
        "spread": np.mean(spread),
        "near": np.mean(near),
        "copies": 100 * copied.excess.value,
        "ssim": np.mean(alike),
        "shots_alone": scores[0],
        "classes": 100 * (scores[1] - scores[0]),
    }
    return {key: round(float(value), 4) for key, value in found.items()}


def apart(x: np.ndarray) -> float:
    return float(np.linalg.norm(x[:, None] - x[None], axis=2).sum() / (len(x) * (len(x) - 1)))


def nearest(x: np.ndarray, shots: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None] - shots[None], axis=2).min(1)


def sheet(x: np.ndarray, y: np.ndarray, place: Path) -> None:
    """Ten images of each of the first six classes."""
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=160)
    lines = [np.concatenate(list(framed[y == k][:10]), axis=1) for k in np.unique(y)[:6]]
    widest = max(line.shape[1] for line in lines)
    whole = np.concatenate([np.pad(line, ((0, 0), (0, widest - line.shape[1]), (0, 0)), constant_values=160) for line in lines])
    Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole).save(place)


def _file(name: str, method: str) -> str:
    return f"{name}-{method.replace(' ', '-')}.png"


def together(grids: Path, sets: Sequence[str]) -> None:
    """SET.png: the first two classes of each method's sheet, a light gap between methods."""
    for name in sets:
        tall = 2 * (task(name).shape["size"] + 2)
        parts = [np.asarray(Image.open(grids / _file(name, method)))[:tall] for method in SHOWN if (grids / _file(name, method)).exists()]
        if parts:
            wide = max(part.shape[1] for part in parts)
            gapped = [np.pad(part, ((0, 6), (0, wide - part.shape[1]), *[(0, 0)] * (part.ndim - 2)), constant_values=255) for part in parts]
            Image.fromarray(np.concatenate(gapped)[:-6]).save(grids / f"{name}.png", optimize=True)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| Set | Method | Energy score (95 %) | less the noised start, chosen | Spread | Near | Copies, points | SSIM | Asked, % | Accuracy, points "
        "| Diversity, guidance chosen | Core s | n |",
        "|" + "---|" * 13,
    ]
    for s, m in dict.fromkeys((r["set"], r["method"]) for r in rows):
        some = {r["replicate"]: r for r in rows if (r["set"], r["method"]) == (s, m)}
        rival = {r["replicate"]: r for r in rows if (r["set"], r["method"]) == (s, "noised chosen")}
        both = sorted(set(some) & set(rival))
        gap = cells.interval([some[i]["energy"] - rival[i]["energy"] for i in both], 3) if both and m != "noised chosen" else ""
        dials = sorted({f"{r['diversity']:g}, {r['strength']:g}" for r in some.values() if "diversity" in r})
        mean = {key: statistics.mean(r[key] for r in some.values()) for key in ("spread", "near", "copies", "ssim", "classes", "seconds")}
        asked = [100 * r["asked"] for r in some.values() if "asked" in r]
        lines.append(
            f"| {s} | {m} | {cells.interval([r['energy'] for r in some.values()], 3)} | {gap} | {mean['spread']:.2f} | {mean['near']:.2f} "
            f"| {mean['copies']:+.1f} | {mean['ssim']:+.2f} | {f'{statistics.mean(asked):.0f}' if asked else ''} | {mean['classes']:+.1f} "
            f"| {'; '.join(dials)} | {mean['seconds']:.0f} | {len(some)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
