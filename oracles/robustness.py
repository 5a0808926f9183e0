"""What independent implementations say of the inputs of tests/robustness_inputs.py, written to tests/oracles/robustness.json. Run by `make oracles`.

torchattacks for attacks, scikit-learn for calibration and detection, imagecorruptions for corruptions. imagecorruptions asks for names that
numpy, scipy, scikit-image and setuptools no longer have; they are given back here. Where an attack starts is ours: torch's draws are
replaced by those of the inputs, so that both sides start at one point.
"""

from __future__ import annotations

import json
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
old = types.ModuleType("pkg_resources")
old.resource_filename = lambda package, path: str(resources.files(package.split(".")[0]) / path)  # type: ignore[attr-defined]
sys.modules.setdefault("pkg_resources", old)
sys.modules.setdefault("scipy.ndimage.interpolation", scipy.ndimage)
np.float_ = np.float64  # type: ignore[attr-defined]
for operator in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
    try:
        torch.library.define(f"torchvision::{operator.split('(')[0]}", "(" + operator.split("(", 1)[1])
    except RuntimeError:
        pass

import imagecorruptions.corruptions  # noqa: E402
import skimage.filters  # noqa: E402
import skimage.util  # noqa: E402
import torchattacks  # noqa: E402
from imagecorruptions import corrupt  # noqa: E402
from sklearn.calibration import calibration_curve  # noqa: E402
from sklearn.covariance import LedoitWolf  # noqa: E402
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402
from sklearn.preprocessing import normalize  # noqa: E402

from robustness_inputs import CLASSES, EPS, answered, featured, model_and_images, noise, photograph, scored, weights  # noqa: E402

imagecorruptions.corruptions.gaussian = lambda image, sigma, multichannel=False, **options: skimage.filters.gaussian(
    image, sigma, channel_axis=-1 if multichannel else None, **options
)
skimage.util.random_noise = partial(skimage.util.random_noise, rng=0)  # it has no seed of its own
PACKAGES = ("imagecorruptions", "numpy", "pillow", "scikit-image", "scikit-learn", "scipy", "torch", "torchattacks")
KINDS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog"),
    *("brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)


def main() -> None:
    warnings.simplefilter("ignore")
    found = {
        "versions": {p: version(p) for p in PACKAGES},
        "torchattacks": {name: attacks(name) for name in CLASSES},
        "scikit-learn": {"calibration": calibration(), "detection": detection()},
        "imagecorruptions": corruptions(),
    }
    path = ROOT / "tests" / "oracles" / "robustness.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))


def attacks(name: str) -> dict[str, object]:
    model, x, y = model_and_images(name)
    eps, length = EPS[name]["linf"], EPS[name]["l2"]
    found: dict[str, object] = {
        "inputs": {"x": float((x.numpy() * weights(tuple(x.shape))).sum()), "logits": float(model(x).abs().sum())},
        "fgsm": told(model, torchattacks.FGSM(model, eps=eps)(x, y), y),
        "pgd linf": told(model, torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=10, random_start=False)(x, y), y),
        "pgd l2": told(model, torchattacks.PGDL2(model, eps=length, alpha=length / 4, steps=10, random_start=False)(x, y), y),
        "apgd linf": run(name, torchattacks.APGD(model, norm="Linf", eps=eps, steps=50), x, y, "linf"),
        "apgd l2": run(name, torchattacks.APGD(model, norm="L2", eps=length, steps=50), x, y, "l2"),
    }
    kept: dict[str, list[int]] = {}
    for size in (0.5, 1.0, 1.5):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            starts = [right(model, torchattacks.PGD(model, eps=size * eps, alpha=size * eps / 4, steps=10)(x, y), y) for _ in range(5)]
            apgd = right(model, torchattacks.APGD(model, norm="Linf", eps=size * eps, steps=50)(x, y), y)
            if CLASSES[name] >= 4:
                apgd = apgd & right(model, torchattacks.APGDT(model, norm="Linf", eps=size * eps, steps=50, n_classes=CLASSES[name])(x, y), y)
        kept[f"pgd {size}"], kept[f"apgd {size}"] = np.logical_and.reduce(starts).astype(int).tolist(), apgd.astype(int).tolist()
    single = deepcopy(model).float()  # its Square makes float32 points
    kept["square 1.5"] = right(single, torchattacks.Square(single, norm="Linf", eps=1.5 * eps, n_queries=200)(x.float(), y), y).astype(int).tolist()
    found["kept"] = kept
    if CLASSES[name] >= 4:
        for place in (2, 3):
            attack = torchattacks.APGDT(model, norm="Linf", eps=eps, steps=50, n_classes=CLASSES[name])
            attack.target_class = place
            found[f"apgd to {place}"] = run(name, attack, x, y, "linf")
    return found


def told(model: torch.nn.Module, adversarial: torch.Tensor, y: torch.Tensor) -> dict[str, object]:
    """An attack's images as one weighted sum, and the loss of each."""
    loss = torch.nn.functional.cross_entropy(model(adversarial), y, reduction="none")
    return {"sum": float((adversarial.numpy() * weights(tuple(adversarial.shape))).sum()), "loss": loss.tolist()}


def run(name: str, attack: torchattacks.attack.Attack, x: torch.Tensor, y: torch.Tensor, norm: str) -> dict[str, object]:
    """One run of APGD from our start: the largest loss of each image over all steps, and who is never fooled."""
    with starting(noise(name, norm)):
        _, kept, loss, *_ = attack.attack_single_run(x, y)
    return {"loss": loss.tolist(), "kept": kept.int().tolist()}


@contextmanager
def starting(values: np.ndarray) -> Iterator[None]:
    """torch.rand and torch.randn give `values`."""
    kept = torch.rand, torch.randn
    torch.rand = torch.randn = lambda shape: torch.from_numpy(values)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.rand, torch.randn = kept


def right(model: torch.nn.Module, adversarial: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    return (model(adversarial).argmax(1) == y).numpy()


def calibration() -> dict[str, object]:
    said, y = answered()
    top, hit = said.max(axis=1), said.argmax(axis=1) == y
    accuracy, confidence = calibration_curve(hit, top, n_bins=15, strategy="quantile")
    return {
        "error": float(np.abs(accuracy - confidence).mean()),  # twenty answers a bin
        "brier": float(brier_score_loss(y, said, labels=np.arange(4), scale_by_half=False)),
        "brier two": float(brier_score_loss(y > 1, said[:, 2:].sum(axis=1))),
        "log loss": float(log_loss(y, said)),
        "log loss of zero": float(log_loss([0] * 10, [[0.0, 1.0]] * 10, labels=[0, 1])),
    }


def detection() -> dict[str, object]:
    found: dict[str, object] = {}
    for name, ties in (("plain", False), ("ties", True)):
        known, foreign = scored(ties=ties)
        # what is known is to be accepted: it is the positive class, and its score the lower one
        truth, score = np.r_[np.ones(len(known)), np.zeros(len(foreign))], -np.r_[known, foreign]
        false, true, _ = roc_curve(truth, score, drop_intermediate=False)
        found[name] = {"auroc": float(roc_auc_score(truth, score)), "accepted": float(false[np.flatnonzero(true >= 0.95)[0]])}
    features, train, y = featured()
    near, _ = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(normalize(train)).kneighbors(normalize(features))
    means = np.stack([train[y == k].mean(axis=0) for k in range(3)])
    shared = LedoitWolf(assume_centered=True).fit(train - means[y])
    distances = np.sqrt(np.min([shared.mahalanobis(features - mean) for mean in means], axis=0))
    return {**found, "far": near[:, 9].tolist(), "mahalanobis": distances.tolist()}


def corruptions() -> dict[str, list[float]]:
    """Mean distance to the clean picture, in grey levels, by severity."""
    picture = photograph()
    found = {}
    for kind in KINDS:
        np.random.seed(0)
        changed = [corrupt(picture, corruption_name=kind, severity=s) for s in (1, 2, 3, 4, 5)]
        found[kind] = [float(np.abs(c.astype(float) - picture).mean()) for c in changed]
    return found


if __name__ == "__main__":
    main()
