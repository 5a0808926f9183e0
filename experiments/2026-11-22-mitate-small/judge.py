"""What mitate-small is worth on images it never saw, beside raw pixels, the same network untrained, and its teacher.

    MITATE_DATA=folder nice python judge.py [--extractors mitate-small,random] [--out judged.json]

Coffee leaves, blood cells and CIFAR-10 gave nothing to its training. Two questions: how many test images do five neighbours and a ridge
classifier (its penalty by leave-one-out on the train split) get right; and does a distance between the train split and the test split
rise with each step of blur, noise, JPEG and class imbalance?
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mitate.codec import decode
from mitate.features.extractor import Extractor, extractor
from mitate.metrics.frechet import frechet
from mitate.metrics.intervals import wilson
from mitate.metrics.kernel import kernel_distance
from mitate.runtime import seed_of, torch_threads

HERE = Path(__file__).parent
NAMES = ("pixels", "random", "mitate-small", "mobilenet_v2")
SEVERITIES = {  # of a side of 64 pixels; the first leaves the images as they are
    "blur": (0.0, 0.75, 1.0, 1.5, 2.0, 3.0),  # deviation, pixels; half as much on CIFAR-10, where 0.25 would change no byte
    "noise": (0.0, 4.0, 8.0, 16.0, 32.0, 64.0),  # deviation, of 255
    "jpeg": (101, 70, 50, 30, 15, 7),  # quality; 101 is untouched
    "imbalance": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),  # share of one class beyond its own; mean over the classes in that place
}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--extractors", default=",".join(NAMES))
    options.add_argument("--out", type=Path, default=HERE / "judged.json")
    given = options.parse_args()
    data = Path(os.environ["MITATE_DATA"])
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    with torch_threads():
        for name in given.extractors.split(","):
            made = extractor(f"{name}:{data / 'backbones' / 'mobilenet_v2.safetensors'}" if name == "mobilenet_v2" else name)
            found[name] = {"digest": made.digest, "width": made.width, "images_per_second": speed(made)} | {s: judge(made, *sets(data, s)) for s in SETS}
            given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


SETS = ("coffee_leaf", "bccd_cells", "cifar10_lossless")


def sets(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train and test images with labels."""
    if name == "cifar10_lossless":
        found = np.load(data / f"{name}.npz")
        return found["x_train"], found["y_train"], found["x_test"], found["y_test"]
    parts: list[np.ndarray] = []
    for split in ("train", "test"):
        folders = sorted(p for p in (data / name / split).iterdir() if p.is_dir())
        files = [(f, k) for k, folder in enumerate(folders) for f in sorted(folder.iterdir())]
        parts += [np.stack([decode(f).pixels for f, _ in files]), np.array([k for _, k in files])]
    return parts[0], parts[1], parts[2], parts[3]


def judge(made: Extractor, x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> dict[str, object]:
    train, test = made.both(x), made.both(test_x)
    neighbours = KNeighborsClassifier(5).fit(train.late, y).predict(test.late) == test_y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ill-conditioned: more features than images
        ridge = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(0, 6, 13))).fit(train.late, y).predict(test.late) == test_y
    found: dict[str, object] = {"neighbours": share(neighbours), "ridge": share(ridge)}
    for kind, severities in SEVERITIES.items():
        rows = []
        for severity in severities:
            if kind == "imbalance":
                rows.append(imbalanced(train.late, train.early, test.late, test.early, test_y, severity))
            elif severity == severities[0]:
                rows.append(distances(train.late, train.early, test.late, test.early))
            else:
                worse = made.both(np.stack([degrade(image, kind, severity, i) for i, image in enumerate(test_x)]))
                rows.append(distances(train.late, train.early, worse.late, worse.early))
        found[kind] = {"severity": severities} | {key: [row[key] for row in rows] for key in rows[0]}
    return found


def share(right: np.ndarray) -> dict[str, float]:
    interval = wilson(int(right.sum()), len(right))
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def distances(late: np.ndarray, early: np.ndarray, other_late: np.ndarray, other_early: np.ndarray) -> dict[str, float]:
    kernel = kernel_distance(late, other_late)
    return {"kernel": kernel.value, "kernel_se": kernel.se_images, "frechet": frechet(late, other_late), "early_frechet": frechet(early, other_early)}


def imbalanced(late: np.ndarray, early: np.ndarray, other_late: np.ndarray, other_early: np.ndarray, y: np.ndarray, severity: float) -> dict[str, float]:
    """As many images at each severity, one class taking the place of the others; the mean over which class."""
    counts = np.bincount(y)
    n, rows = int(counts.min()), []
    for k in range(len(counts)):
        own = round(n * (1 / len(counts) + severity * (1 - 1 / len(counts))))
        order = np.random.default_rng(seed_of("imbalance", k)).permutation(len(y))
        mine, rest = order[y[order] == k], order[y[order] != k]
        chosen = np.concatenate([mine[:own], rest[: n - own]])
        rows.append(distances(late, early, other_late[chosen], other_early[chosen]))
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def degrade(image: np.ndarray, kind: str, severity: float, i: int) -> np.ndarray:
    if kind == "blur":
        sigma = severity * image.shape[0] / 64
        return ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0)).round().astype(np.uint8)
    if kind == "noise":
        grain = np.random.default_rng(seed_of("noise", i)).standard_normal(image.shape)
        return np.clip(image + severity * grain, 0, 255).round().astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=int(severity))
    return np.asarray(Image.open(out))


def speed(made: Extractor, n: int = 1000) -> float:
    """Images of 64 x 64 pixels a second of one core's processor time, the network already built."""
    x = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), np.uint8)
    made(x[:64])
    begun = time.process_time()
    made(x)
    return round(n / (time.process_time() - begun), 1)


def rises(values: list[float]) -> bool:
    return bool((np.diff(values) > 0).all())


def table(found: dict[str, dict]) -> str:  # type: ignore[type-arg]
    """Markdown: shares right, and in how many of the 12 (three sets, four degradations) each distance rises at every step."""
    heads = ["features", "width", "images/s", *(f"{s}: 5 neighbours, ridge" for s in SETS), "kernel rises", "Frechet rises", "early Frechet rises"]
    lines = [row(heads), row(["---"] * len(heads))]
    for name, facts in found.items():
        right = [" ".join(f"{facts[s][k]['value']:.3f} ({facts[s][k]['low']:.3f} to {facts[s][k]['high']:.3f})" for k in ("neighbours", "ridge")) for s in SETS]
        up = [sum(rises(facts[s][kind][key]) for s in SETS for kind in SEVERITIES) for key in ("kernel", "frechet", "early_frechet")]
        lines.append(row([name, str(facts["width"]), f"{facts['images_per_second']:.0f}", *right, *(f"{u} of 12" for u in up)]))
    return "\n".join(lines)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
