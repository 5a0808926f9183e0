"""What independent implementations say of the sets of tests/oracle_inputs.py, written to tests/oracles/*.json. Run by `make oracles`.

Only the functions of arrays are called: no extractor and no image is loaded. torchvision's compiled part does not load beside a CPU
build of torch from another source; two of its operators are declared here without a body, and none of what is called uses them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
for operator in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
    with contextlib.suppress(RuntimeError):
        torch.library.define(f"torchvision::{operator.split('(')[0]}", "(" + operator.split("(", 1)[1])

from prdc import compute_prdc  # noqa: E402
from pytorch_fid.fid_score import calculate_frechet_distance  # noqa: E402
from sklearn.metrics.pairwise import polynomial_kernel  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402
from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: E402
from torchmetrics.image.fid import FrechetInceptionDistance  # noqa: E402
from torchmetrics.image.kid import poly_mmd  # noqa: E402
from vendi_score import vendi  # noqa: E402

from oracle_inputs import NAMES, features  # noqa: E402

PACKAGES = ("numpy", "prdc", "pytorch-fid", "scikit-learn", "scipy", "torch", "torch-fidelity", "torchmetrics", "vendi-score")
KS = (3, 5)


def main() -> None:
    for name in NAMES:
        real, fake = features(name)
        found: dict[str, object] = {
            "set": name,
            "versions": {p: version(p) for p in PACKAGES},
            "inputs": {"real": float(np.abs(real).sum()), "fake": float(np.abs(fake).sum())},
            "prdc": {k: quietly(compute_prdc, real, fake, k) for k in KS},
            "torch-fidelity": torch_fidelity(real, fake),
            "scikit-learn": scikit_learn(real, fake),
            "vendi-score": {which: score_of(vendi_points) for which, vendi_points in (("real", real), ("fake", fake))},
        }
        if name not in ("deficient", "ties"):  # sqrtm of a singular product adds 1e-6 to the diagonal: another number
            found["pytorch-fid"] = {"frechet": float(quietly(calculate_frechet_distance, *statistics(real), *statistics(fake)))}
            found["torchmetrics"] = torchmetrics(real, fake)
        path = ROOT / "tests" / "oracles" / f"{name}.json"
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(path.relative_to(ROOT))


def quietly(call, *args):  # type: ignore[no-untyped-def]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = call(*args)
    return {key: float(value) for key, value in found.items()} if isinstance(found, dict) else found


def statistics(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.mean(axis=0), np.cov(points, rowvar=False)


def torch_fidelity(real: np.ndarray, fake: np.ndarray) -> dict[str, object]:
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    found: dict[str, object] = {
        "frechet": fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)["frechet_inception_distance"]
    }
    for k in KS:
        found[f"prc {k}"] = prc_features_to_metric(b, a, prc_neighborhood=k, prc_batch_size=10000, save_cpu_ram=False, verbose=False)
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1.0, "rng_seed": 0, "verbose": False}
    if len(real) == len(fake):
        found["kernel"] = kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=len(real), **kernel)
    found["kernel subsets"] = kid_features_to_metric(a, b, kid_subsets=100, kid_subset_size=100, **kernel)
    return found


def torchmetrics(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    class Same(torch.nn.Module):
        num_features = real.shape[1]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    frechet = FrechetInceptionDistance(feature=Same(), normalize=True).set_dtype(torch.float64)
    frechet.update(torch.from_numpy(real), real=True)
    frechet.update(torch.from_numpy(fake), real=False)
    found = {"frechet": float(frechet.compute())}
    if len(real) == len(fake):
        found["kernel"] = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(fake)))
    return found


def scikit_learn(real: np.ndarray, fake: np.ndarray) -> dict[str, object]:
    """Radii and authenticity by brute search, the kernel distance from whole matrices."""
    within = NearestNeighbors(n_neighbors=max(KS) + 1, algorithm="kd_tree").fit(real)
    own = within.kneighbors()[0]
    to_real, nearest = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(real).kneighbors(fake)
    kernel = {"degree": 3, "gamma": 1 / real.shape[1], "coef0": 1.0}
    n, m = len(real), len(fake)
    a, b, c = polynomial_kernel(real, **kernel), polynomial_kernel(fake, **kernel), polynomial_kernel(real, fake, **kernel)
    return {
        "radii": {k: float(own[:, k - 1].sum()) for k in KS},
        "authenticity": float((to_real[:, 0] > own[nearest[:, 0], 0]).mean()),
        "to_real": float(to_real.sum()),
        "kernel": float((a.sum() - np.trace(a)) / (n * (n - 1)) + (b.sum() - np.trace(b)) / (m * (m - 1)) - 2 * c.mean()),
    }


def score_of(points: np.ndarray) -> dict[str, float]:
    points = points[np.abs(points).sum(axis=1) > 0]
    return {"whole": float(quietly(vendi.score_X, points)), "dual": float(quietly(vendi.score_dual, points))}


if __name__ == "__main__":
    main()
