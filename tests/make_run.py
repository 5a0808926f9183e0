"""A made-up but complete run folder for each verdict, for tests of whatever reads one. Nothing in it was measured."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mitate import codec
from mitate.files import write_json, write_text

VERDICTS = ("go", "stop_small", "more_evidence", "stop_privacy", "stop_useless", "stop_futile", "no_generator")
CLASSES = ("healthy", "rust", "leaf miner", "phoma", "cercospora")
GENERATORS = ("vae", "diffusion")
SIZE = 28


def make_run(folder: Path, code: str = "go", *, classes: tuple[str, ...] = CLASSES, measure: str = "accuracy") -> Path:
    """Write the run folder of a pilot that ended with the reason `code`."""
    chance = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, each in (("train", 20), ("selection", 12), ("holdout", 10), ("test", 30)):
        images = [hashlib.sha256(f"{split}{k}{i}".encode()).hexdigest()[:32] for k in range(len(classes)) for i in range(each)]
        splits[split] = {
            "digest": hashlib.sha256(split.encode()).hexdigest(),
            "n": len(images),
            "counts": dict.fromkeys(classes, each),
            "images": images,
        }
    write_json(
        folder / "study.json",
        {
            "kind": "pilot",
            "plan": {"measure": measure, "worthwhile": 0.01, "budget": 600, "generators": list(GENERATORS)},
            "data": {
                "name": "leaves",
                "classes": list(classes),
                "digests": {split: facts["digest"] for split, facts in splits.items()},
                "images": {split: facts["n"] for split, facts in splits.items()},
                "per_class": splits["train"]["counts"],
                "image_digests": {split: facts["images"] for split, facts in splits.items()},
                "groups": 2,
                "licences": ["CC BY 4.0"],
                "consents": [],
                "findings": [{"kind": "truncated", "severity": "drop", "message": "1 file is cut off and was left out: rust/0113.jpg"}],
            },
            "sizes": {
                "replicates": 5,
                "steps": 600,
                "images_per_class": 200,
                "generator_steps": {"vae": 1500, "diffusion": 4000},
                "backbone": {"name": "small", "weights": None, "frozen": False},
            },
            "gates": [
                {"name": "copies", "stage": "look", "threshold": 0.05, "rule": "drop a generator that copies"},
                {"name": "labels", "stage": "look", "threshold": None, "rule": "drop a generator whose labels are wrong"},
                {"name": "reach", "stage": "small", "threshold": 0.01, "rule": "drop an arm that stays below"},
                {"name": "verdict", "stage": "full", "threshold": 0.01, "rule": "go above, stop below"},
            ],
            "detectable": {"gain": 0.024},
            "estimates": {"workers": 2.0},
        },
    )
    write_json(
        folder / "machine.json",
        {
            "system": "Linux x86_64",
            "processor": "AMD EPYC 9R14",
            "cores": 2,
            "threads_a_job": 1,
            "python": "3.11.9",
            "packages": {"mitate": "0.1.0", "torch": "2.13.0", "numpy": "2.4.1"},
            "command": ["mitate", "pilot", "leaves/", "--out", "runs/leaves", "--budget", "10m", "--generators", "vae,diffusion"],
        },
    )
    jobs = []
    for r in range(3):
        for g in GENERATORS:
            steps = np.arange(100, 1600, 100)
            loss = 1.4 * np.exp(-steps / 400) + 0.35 + 0.00012 * np.maximum(0, steps - 900) + chance.normal(0, 0.012, len(steps))
            digest = hashlib.sha256(f"{g}{r}".encode()).hexdigest()
            curve = [[int(s), float(v)] for s, v in zip(steps, loss, strict=True)]
            jobs.append(
                {
                    "name": f"small/r{r}/{g}",
                    "verb": "fit",
                    "digest": digest,
                    "seconds": 31.2,
                    "reused": r == 0,
                    "facts": {"generator": g, "curve": curve},
                }
            )
    write_text(folder / "jobs.jsonl", "".join(json.dumps(job) + "\n" for job in jobs))
    scores = []
    for g in GENERATORS:
        features = hashlib.sha256(b"features").hexdigest()
        scores.append(
            {
                "metric": "copies",
                "axis": "privacy",
                "subject": g,
                "value": 0.012,
                "low": 0.004,
                "high": 0.03,
                "n": 1000,
                "floor": 0.01,
                "confidence": 0.95,
                "features": features,
                "note": "",
            }
        )
        scores.append(
            {
                "metric": "kernel_distance",
                "axis": "fidelity",
                "subject": g,
                "value": 0.0834,
                "low": 0.071,
                "high": 0.098,
                "n": 100,
                "floor": 0.0031,
                "confidence": 0.95,
                "features": features,
                "note": "",
            }
        )
        scores.append(
            {
                "metric": "frechet_distance",
                "axis": "fidelity",
                "subject": g,
                "value": None,
                "low": None,
                "high": None,
                "n": None,
                "floor": None,
                "confidence": 0.95,
                "features": None,
                "note": "needs 2,000 images, there are 100",
            }
        )
    write_text(folder / "scores.jsonl", "".join(json.dumps(score) + "\n" for score in scores))
    decision = _decision(code, classes, measure, chance)
    write_json(folder / "decision.json", decision)
    if decision["smallest_detectable_gain"]["after"] is not None:
        write_json(folder / "opening.json", {"look": 1, "images": splits["test"]["digest"]})
    _samples(folder / "samples", classes, chance, copied="all" if code == "stop_privacy" else "one")
    return folder


def _decision(code: str, classes: tuple[str, ...], measure: str, chance: np.random.Generator) -> dict[str, Any]:
    opened = code in ("go", "stop_small", "more_evidence")
    gain = {"go": (0.0386, 0.0141, 0.0631), "stop_small": (-0.0031, -0.0142, 0.008), "more_evidence": (0.0127, -0.0092, 0.0346)}.get(code)
    copied = code in ("stop_privacy", "no_generator")
    arms: list[dict[str, Any]] = [_arm("real+augment", None, "baseline", "test" if opened else "selection", 0.784, None)]
    dropped: dict[str, tuple[str, str, dict[str, Any]]] = {
        "stop_privacy": ("copies", "copies training images (31 % against 1 %)", {"share": 0.31, "floor": 0.01}),
        "no_generator": ("copies", "copies training images (31 % against 1 %)", {"share": 0.31, "floor": 0.01}),
        "stop_useless": ("useless_labels", "labels of its images cannot be used", {"score": 0.21, "chance": 0.2}),
    }
    for generator in GENERATORS:
        for k, name in enumerate(("balanced+augment", "bridged+++augment", "mixed+augment", "synthetic+augment")):
            if gain and generator == "diffusion" and name == "balanced+augment":
                arm = _arm(name, generator, "candidate", "test", 0.784 + gain[0], gain)
                arm["gain_per_class"] = _per_class(classes, gain[0], chance)
                arm["gain_per_group"] = {"plot A": _figure(0.03, -0.01, 0.07, 60), "plot B": _figure(-0.02, None, None, 12)} if code == "go" else {}
            elif opened and k < 3 and generator == "diffusion":
                value = float(chance.normal(0.004, 0.012))
                arm = _arm(name, generator, "exploratory", "test", 0.784 + value, (value, value - 0.022, value + 0.022)) | {"p_holm": 0.41}
                arm["gain_per_class"] = _per_class(classes, value, chance)
            else:
                reason = dropped.get(code) or ("cannot_reach", "cannot reach the gain worth having", {"high": 0.0041, "worthwhile": 0.01})
                value = -0.012 - 0.015 * k
                measured = None if code in dropped else (value, value - 0.016, value + 0.0161)
                arm = _arm(name, generator, "dropped", "selection", None if measured is None else 0.77 + value, measured)
                if copied and code == "no_generator" and generator == "vae":
                    reason = ("useless_labels", "labels of its images cannot be used", {"score": 0.21, "chance": 0.2})
                arm |= {"dropped": reason[1], "dropped_code": reason[0], "dropped_values": reason[2], "stage": "look"}
                if measured:
                    arm["gain_per_class"] = _per_class(classes, value, chance)
            arms.append(arm)
    arms.append(
        _arm("real-long+augment", None, "exploratory", "test", 0.789, (0.005, -0.011, 0.021)) | {"p_holm": 1.0}
        if opened
        else _arm("real-long+augment", None, "dropped", "selection", None, None) | {"dropped": "no budget", "dropped_code": "budget", "dropped_values": {}}
    )
    common = {"gain": gain[0], "low": gain[1], "high": gain[2], "worthwhile": 0.01, "candidate": "balanced+augment"} if gain else {}
    values: dict[str, Any] = {
        "go": common | {"measure": measure},
        "stop_small": common,
        "more_evidence": common,
        "stop_privacy": {"generators": list(GENERATORS)},
        "stop_useless": {"generators": list(GENERATORS)},
        "stop_futile": {"arms": 9, "worthwhile": 0.01, "best": -0.0121, "high": 0.0041},
        "no_generator": {},
    }[code]
    next_step = {
        "go": ("scale_up", {"images": 5000}),
        "more_evidence": ("more_test_images", {"test_images": 900, "gain": 0.01}),
        "stop_privacy": ("fix_privacy", {}),
    }.get(code, ("try_other", {}))
    share = 0.31 if copied else 0.012
    gates: list[dict[str, Any]] = [
        _gate(
            "copies",
            "look",
            g,
            "share of copies at most twice that of the hold-out",
            share,
            0.5 * share,
            1.6 * share,
            0.01,
            1000,
            not copied,
        )
        for g in GENERATORS
    ]
    gates.append(
        _gate(
            "labels",
            "look",
            "diffusion",
            "better than chance on real images, interval above it",
            0.64,
            0.58,
            0.7,
            0.2,
            60,
            code != "stop_useless",
        )
    )
    gates.append(
        _gate(
            "reach",
            "small",
            "balanced+augment · diffusion",
            "upper bound of the gain above the gain worth having",
            0.019,
            0.001,
            0.037,
            None,
            60,
            code != "stop_futile",
        )
    )
    if gain:
        gates.append(
            _gate(
                "verdict",
                "full",
                "balanced+augment · diffusion",
                "whole interval above zero, gain at least the worthwhile one",
                *gain,
                None,
                150,
                code == "go",
            )
        )
    else:
        gates.append(
            _gate("verdict", "full", "", "whole interval above zero, gain at least the worthwhile one", None, None, None, None, None, None)
            | {"note": "the test split stayed closed"}
        )
    return {
        "verdict": {"go": "go", "more_evidence": "more evidence"}.get(code, "stop"),
        "reason": f"English reason for {code}.",
        "reason_code": code,
        "reason_values": values,
        "measure": measure,
        "worthwhile": 0.01,
        "stage": "full" if opened else "look",
        "confidence": 0.95,
        "baseline": "real+augment",
        "candidate": "balanced+augment" if gain else None,
        "arms": arms,
        "gates": gates,
        "looks": [{"look": 1, "confidence": 0.95, "test_images": 150, "replicates": 5, "run": "leaves"}] if opened else [],
        "smallest_detectable_gain": {
            "before": 0.0244,
            "after": 0.0219 if opened else None,
            "test_images": 150,
            "replicates": 5,
            "smaller_by": [{"change": "test_images", "to": 600, "gain": 0.0131}, {"change": "replicates", "to": 10, "gain": 0.0212}],
        },
        "real_image_equivalent": None,
        "cost": {
            "seconds": {"fit": 187.4, "generate": 24.2, "train": 301.0, "measure": 12.6},
            "wall_seconds": 291.0,
            "machine_seconds": 525.2,
            "reused_seconds": 62.4,
            "synthetic_images": 2000,
            "money": None,
            "stages": _stages(opened),
            "saved_seconds": 0.0 if opened else 705.0,
            "use": {"fit": 31.2, "sample": 4.1} if gain else None,
        },
        "next_looks": _next_looks() if code == "more_evidence" else None,
        "next_step": {"code": next_step[0], "values": next_step[1], "seconds": None, "money": None, "chance": None},
        "not_measured": [
            {
                "what": "membership inference",
                "why": "the pilot's privacy gate looks for copies only; an attack is a part of the six-axis assessment",
            }
        ],
    }


def _stages(opened: bool) -> list[dict[str, Any]]:
    rows = [("look", None, 38.4, 0.0), ("small", None, 131.0, 0.0), ("full", 1, 312.8, 0.0), ("curve", None, 43.0, 0.0)]
    if not opened:
        rows = [("look", None, 525.2, 0.0), ("small", None, 0.0, 180.0), ("full", 1, 0.0, 480.0), ("curve", None, 0.0, 45.0)]
    return [{"stage": s, "look": k, "ran": t > 0, "seconds": t, "saved_seconds": saved} for s, k, t, saved in rows]


def _next_looks() -> dict[str, Any]:
    options = [
        {"add": add, "replicates": 5 + add, "seconds": 61.0 * add, "wall_seconds": 31.0 * add, "confidence": 0.975, "detectable": sees, "chance": chance}
        for add, sees, chance in ((5, 0.0204, {"go": 0.09, "stop": 0.01, "neither": 0.9}), (10, 0.0198, {"go": 0.14, "stop": 0.02, "neither": 0.84}))
    ]
    return {"options": options, "futile": True, "instead": {"change": "test_images", "to": 900, "gain": 0.01}}


def _figure(value: float | None, low: float | None, high: float | None, n: int | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def _arm(name: str, generator: str | None, role: str, split: str, score: float | None, gain: tuple[float, float, float] | None) -> dict[str, Any]:
    n = 150 if split == "test" else 60
    return {
        "name": name,
        "generator": generator,
        "label": f"{name} · {generator}" if generator else name,
        "role": role,
        "stage": "full" if split == "test" else "small",
        "split": split,
        "score": _figure(score, score and score - 0.031, score and score + 0.031, n if score else None),
        "gain": _figure(*gain, n) if gain else None,
        "p_holm": None,
        "gain_per_class": {},
        "gain_per_group": {},
        "dropped": None,
        "dropped_code": None,
        "dropped_values": None,
    }


def _per_class(classes: tuple[str, ...], centre: float, chance: np.random.Generator) -> dict[str, Any]:
    values = centre + chance.normal(0, 0.035, len(classes))
    values[-1] = -0.083  # one class where it clearly hurt
    return {c: _figure(float(v), float(v) - 0.05, float(v) + 0.05, 30) for c, v in zip(classes, values, strict=True)}


def _gate(name: str, stage: str, subject: str, rule: str, value: Any, low: Any, high: Any, floor: Any, n: Any, passed: bool | None) -> dict[str, Any]:
    return {
        "name": name,
        "stage": stage,
        "subject": subject,
        "rule": rule,
        "value": value,
        "low": low,
        "high": high,
        "floor": floor,
        "n": n,
        "passed": passed,
        "note": "",
    }


def _samples(folder: Path, classes: tuple[str, ...], chance: np.random.Generator, *, copied: str) -> None:
    real: dict[str, list[str]] = {}
    pixels: dict[str, np.ndarray] = {}
    for k, label in enumerate(classes):
        for i in range(6):
            file = f"real/{k}-{i}.png"
            pixels[file] = _leaf(k, chance)
            out = io.BytesIO()
            codec.to_image(pixels[file]).save(out, "PNG")
            (folder / "real").mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(out.getvalue())
            real.setdefault(label, []).append(file)
    generators: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for g, generator in enumerate(GENERATORS):
        for k, label in enumerate(classes):
            for i in range(6):
                file, nearest = f"{generator}/{k}-{i}.png", real[label][i]
                copy = copied == "all" and i % 2 == 0 or copied == "one" and (g, k, i) == (0, 1, 2)
                image = pixels[nearest] if copy else _leaf(k, chance, blur=2 - g)
                image = np.clip(image + chance.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
                (folder / generator).mkdir(exist_ok=True)
                (folder / file).write_bytes(codec.encode_png(image))
                generators.setdefault(generator, {}).setdefault(label, []).append(
                    {"file": file, "nearest": nearest, "ratio": 0.11 if copy else float(chance.uniform(0.7, 1.2)), "copy": bool(copy)}
                )
    write_json(folder / "samples.json", {"size": SIZE, "channels": 3, "classes": list(classes), "real": real, "generators": generators})


def _leaf(k: int, chance: np.random.Generator, *, blur: int = 0) -> np.ndarray:
    """A green oval with spots, the more the higher the class: uint8 [28, 28, 3]."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]  # type: ignore[misc]
    a = chance.uniform(0, np.pi)
    u, v = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
    leaf = (u / 0.95) ** 2 + (v / chance.uniform(0.4, 0.6)) ** 2
    image = np.stack([np.where(leaf < 1, c, b) for c, b in ((70, 235), (140, 232), (60, 224))], -1).astype(float)
    for _ in range(2 * k):
        p, q = chance.uniform(-0.5, 0.5), chance.uniform(-0.25, 0.25)
        spot = ((u - p) ** 2 + (v - q) ** 2 < 0.012) & (leaf < 1)
        image[spot] = (150, 90, 30) if k % 2 else (200, 190, 120)
    image += chance.normal(0, 9, (SIZE, SIZE, 1))
    for _ in range(blur):
        image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, -1, 0) + np.roll(image, -1, 1)) / 5
    return np.clip(image, 0, 255).astype(np.uint8)
