"""Made-up assessments for tests of whatever reads one: a rich one, a leaking one, and one with hardly anything in it. Nothing was measured."""

from __future__ import annotations

import hashlib
from typing import Any

from mitate.score import Assessment, Score

FEATURES = hashlib.sha256(b"features").hexdigest()
CLASSES = ("healthy", "rust", "leaf miner", "phoma", "cercospora")


def scored(
    axis: Any,
    metric: str,
    value: float | None,
    span: float | None = None,
    floor: float | None = None,
    floor_span: float | None = None,
    *,
    better: Any = "higher",
    n: int = 1000,
    note: str = "",
) -> Score:
    """A score with intervals of half-widths `span` and `floor_span`."""
    ends = (None, None) if value is None or span is None else (value - span, value + span)
    floor_ends = (None, None) if floor is None or floor_span is None else (floor - floor_span, floor + floor_span)
    return Score(
        metric, axis, "fakes", value, *ends, n=None if value is None else n, floor=floor, features=FEATURES if axis in ("fidelity", "diversity") else None,
        note=note, better=better, floor_low=floor_ends[0], floor_high=floor_ends[1],
    )  # fmt: skip


def sets(held_out: int = 400) -> dict[str, Any]:
    def told(name: str, n: int, groups: int | None = None) -> dict[str, Any]:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return {"name": name, "images": n, "classes": dict.fromkeys(CLASSES, n // 5), "groups": groups, "digest": digest}

    found = {"synthetic": told("fakes/", 1000), "real": told("leaves/train", 1200, 310)}
    return found | ({"held_out": told("leaves/holdout", held_out, 104)} if held_out else {})


def facts(axes: dict[str, dict[str, Any]], *, held_out: int = 400, generator: str | None = FEATURES[::-1], findings: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "asked": {
            "fakes": "fakes/", "real": "leaves/train", "held_out": "leaves/holdout", "features": "mitate-small", "axes": list(axes), "size": 0,
            "per_class": 0, "replicates": 3, "steps": 300, "seed": 0,
        },
        "subject": "fakes/", "size": 64, "channels": 3, "features": {"name": "mitate-small", "version": 1, "side": 64, "filter": "bicubic"},
        "sets": sets(held_out), "generator": generator, "findings": list(findings), "axes": axes,
        "stored": {role: told["digest"] for role, told in sets(held_out).items()},
    }  # fmt: skip


def rich(*, leaks: bool = False) -> Assessment:
    """Every axis measured: worse in fidelity, diversity, style; a gain; about as robust. With `leaks`, training images leak."""
    auc = 0.78 if leaks else 0.513
    scores = (
        scored("privacy", "membership_ratio_auc", auc, 0.021, 0.5, better="lower", n=1600),
        scored("privacy", "members_caught_at_1_in_100", 0.31 if leaks else 0.014, 0.009, 0.01, better="lower", n=1200),
        scored("privacy", "members_caught_at_1_in_1000", None, better="lower", note="needs 1,000 non-members, has 400"),
        scored("privacy", "membership_auc", 0.71 if leaks else 0.508, 0.022, 0.5, better="lower", n=1600),
        scored("privacy", "copies", 0.062 if leaks else 0.004, 0.004, 0.003, 0.003, better="lower"),
        scored("privacy", "nearer_to_train", 0.74 if leaks else 0.52, 0.041, 0.5, better="lower"),
        scored("privacy", "distance_ratio", 0.61, 0.02, 0.68, 0.03),
        scored("privacy", "authenticity", 0.55, 0.03, 0.59, 0.05),
        scored("privacy", "c_t", -0.62, 1.4, 0.0, better="neither"),
        scored("fidelity", "precision", 0.621, 0.031, 0.912, 0.022),
        scored("fidelity", "density", 0.71, 0.06, 1.02, 0.05),
        scored("fidelity", "kernel_distance", 0.0412, 0.0071, 0.0003, 0.0012, better="lower"),
        scored("fidelity", "frechet", 31.2, None, 8.4, better="lower"),
        scored("diversity", "recall", 0.402, 0.028, 0.885, 0.02, n=1200),
        scored("diversity", "coverage", 0.731, None, 0.962, n=1200),
        scored("diversity", "vendi", 41.3, None, 78.0),
        scored("diversity", "vendi:leaf miner", 12.4, None, 20.1, n=200),
        scored("style", "told_apart", 0.83, 0.03, 0.51, 0.04, better="lower"),
        scored("style", "told_apart_right", 0.76, 0.03, 0.5, 0.04, better="lower"),
        scored("style", "lightness_gap", 4.1, 1.2, 0.3, 1.3, better="neither"),
        scored("style", "lightness_spread", 0.81, 0.06, 1.02, 0.08, better="neither"),
        scored("utility", "gain", 0.021, 0.017, 0.0, n=400, note="a measurement; the verdict is a pilot's"),
        scored("utility", "recognised", 0.912, 0.025, 0.842, 0.03),
        scored("utility", "trained_on_synthetic", 0.643, 0.041, 0.842, 0.03, n=400),
        scored("utility", "leep", -0.871, None, n=1200),
        scored("robustness", "clean_accuracy", 0.861, 0.03, 0.842, 0.03, n=256),
        scored("robustness", "robust_accuracy", 0.242, 0.05, 0.231, 0.05, n=256, note="linf, eps 0.00784 of 1: no attack found, APGD of 9 steps and 4 targets"),
        scored("robustness", "corrupted_accuracy", 0.64, 0.035, 0.612, 0.04, n=256),
        scored("robustness", "moonlight_accuracy", 0.41, 0.05, 0.43, 0.05, n=256, note="a metric of a later version"),
        scored("efficiency", "images_per_second", 12.4, 0.9, n=320),
        scored("efficiency", "latency_p50", 0.412, n=20, better="lower"),
        scored("efficiency", "training_seconds", 1843.0, n=1, better="lower"),
        scored("efficiency", "parameters", 963_411, n=1, better="lower"),
        scored("efficiency", "peak_memory", None, better="lower", note="drawing a batch did not raise the process's peak"),
    )
    why = (
        "ratio: AUC 0.78 [0.759, 0.801] (chance 0.5); 372 of 1200 training images lie above all but 4 of 400 held-out ones; "
        "3 synthetic images equal a training image in these features: look at them"
        if leaks
        else "an AUC of 0.545 or more would have been seen four times out of five"
    )
    axes = {
        "privacy": {"state": "leaks" if leaks else "no leak found", "why": why, "attack": "ratio", "p": 0.0001 if leaks else 0.11, "smallest_auc": 0.545},
        "fidelity": {"state": "worse", "why": ""}, "diversity": {"state": "worse", "why": ""}, "style": {"state": "worse", "why": ""},
        "utility": {"state": "better", "why": ""}, "robustness": {"state": "not told apart", "why": ""}, "efficiency": {"state": "measured", "why": ""},
    }  # fmt: skip
    return Assessment("fakes/", scores, facts(axes, findings=("12 synthetic images repeat another one",)))


def poor() -> Assessment:
    """A folder from elsewhere and nothing held out: no privacy, no floors, no utility."""
    why = "no held-out images were given: --held-out FOLDER"
    scores = (
        scored("fidelity", "precision", 0.62, 0.09, n=60),
        scored("fidelity", "kernel_distance", 0.04, 0.02, n=60, better="lower"),
        scored("fidelity", "frechet_infinity", None, better="lower", note="needs 100 synthetic images, has 60; fix: give more"),
        scored("diversity", "recall", 0.4, 0.1, n=60),
    )
    axes = {
        "privacy": {"state": "not measured", "why": why}, "fidelity": {"state": "not measured", "why": ""}, "diversity": {"state": "not measured", "why": ""},
        "utility": {"state": "not measured", "why": "needs held-out real images to test on"},
        "efficiency": {"state": "not measured", "why": "these images came from elsewhere; name a kept generator"},
    }  # fmt: skip
    return Assessment("downloads/fakes", scores, facts(axes, held_out=0, generator=None) | {"subject": "downloads/fakes"})


def clear() -> Assessment:
    """Few images, nothing told apart, no leak found."""
    scores = (
        scored("privacy", "membership_ratio_auc", 0.49, 0.09, 0.5, better="lower", n=120),
        scored("fidelity", "precision", 0.9, 0.07, 0.93, 0.06, n=60),
        scored("fidelity", "density", 1.0, 0.2, 1.03, 0.2, n=60),
        scored("diversity", "recall", 0.86, 0.08, 0.9, 0.08, n=60),
    )
    said = {"state": "no leak found", "why": "an AUC of 0.71 or more would have been seen four times out of five", "attack": "ratio", "smallest_auc": 0.71}
    same = {"state": "not told apart", "why": ""}
    return Assessment("fakes/", scores, facts({"privacy": said, "fidelity": same, "diversity": same}, held_out=60))
