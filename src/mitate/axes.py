"""What the jobs of an assessment do: likeness, leakage, look, pace. Each reads features or a generator from the store and makes rows of scores.

A row is a Score without its subject. A value stands beside its floor: held-out real images in the place of the synthetic ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mitate.metrics.intervals import Interval
    from mitate.score import Metric
    from mitate.store import Entry
    from mitate.verbs import Work

SEEN = 64  # synthetic images whose passes through the network are counted
PACED_SEED = 0


def likeness(work: Work) -> dict[str, Any]:
    """Fidelity and diversity."""
    from mitate.metrics.likeness import likeness

    held = work.inputs.get("held_out_features")
    real, fake = (_features(work.inputs[f"{role}_features"]) for role in ("real", "synthetic"))
    groups, held_groups = _groups(work.inputs["real"], work.inputs["held_out"]) if held else (_groups(work.inputs["real"])[0], None)
    lines = likeness(
        real, fake, _features(held) if held else None, seed=work.settings["seed"], labels=_labels(work.inputs["synthetic"]),
        held_labels=_labels(work.inputs["held_out"]) if held else None, groups=groups, held_groups=held_groups,
    )  # fmt: skip
    digest = work.inputs["real_features"].result["extractor"]
    return {"scores": [_line(line.metric, line.value, line.floor, digest, line.note, line.apart) for line in lines]}


def leakage(work: Work) -> dict[str, Any]:
    """Privacy: attacks and distances beside their floors, copies by pixels, and the verdict, which is an attack's."""
    from mitate.metrics import privacy
    from mitate.metrics.exposure import privacy_of
    from mitate.verbs import read_pixels

    groups = _groups(work.inputs["real"], work.inputs["held_out"])
    synthetic, train, held = (_features(work.inputs[f"{role}_features"]) for role in ("synthetic", "real", "held_out"))
    found = privacy_of(synthetic, train, held, seed=work.settings["seed"], groups_train=groups[0], groups_held_out=groups[1])
    digest = work.inputs["real_features"].result["extractor"]
    rows = [_line(line.metric, line.value, line.floor, digest, line.note) for line in found.lines]
    try:
        copies = privacy.copies(*(privacy.features(read_pixels(work.inputs[role]).x) for role in ("synthetic", "real", "held_out")))
        rows.append(_row(privacy.COPIES, copies.share, floor=copies.floor, features=privacy.FEATURES, note="by pixels, brightness and contrast taken out"))
    except ValueError as few:
        rows.append(_missing(privacy.COPIES, str(few)))
    return {"scores": rows, "verdict": found.verdict.record}


def look(work: Work) -> dict[str, Any]:
    """Style: told apart by a classifier, gaps of named looks, Frechet distance on an early layer."""
    from mitate.metrics import style
    from mitate.verbs import read_pixels

    roles = [role for role in ("synthetic", "real", "held_out") if role in work.inputs]
    has_floor = "held_out" in roles
    groups, held_groups = _groups(work.inputs["real"], work.inputs["held_out"]) if has_floor else (_groups(work.inputs["real"])[0], None)
    late = {role: _features(work.inputs[f"{role}_features"]) for role in roles}
    early = {role: np.load(work.inputs[f"{role}_features"].path("early.npy"), allow_pickle=False) for role in roles}
    digest, seed = work.inputs["real_features"].result["extractor"], work.settings["seed"]
    rows = []
    try:
        value, floor = style.told_apart(late["real"], late["synthetic"], seed=seed, groups=groups), None
        if has_floor:
            both = style.told_apart_beside(late["real"], late["synthetic"], late["held_out"], seed=seed, groups=groups, held_groups=held_groups)
            value, floor = both.value, both.floor
        twins = "below 0.5: near copies on the two sides" if value.twins else ""
        rows.append(_row(style.TOLD_APART, value.auc, floor=floor.auc if floor else None, features=digest, note=twins))
        rows.append(_row(style.TOLD_APART_RIGHT, value.balanced_accuracy, floor=floor.balanced_accuracy if floor else None, features=digest))
    except ValueError as few:
        rows += [_missing(metric, str(few)) for metric in (style.TOLD_APART, style.TOLD_APART_RIGHT)]
    n = min(len(late[role]) for role in roles if role != "real")
    chosen = {role: early[role][_thinned(len(early[role]), n, seed)] for role in roles if role != "real"}
    try:
        floor_value = style.early_frechet(early["real"], chosen["held_out"]) if has_floor else None
        value_early = style.early_frechet(early["real"], chosen["synthetic"])
        rows.append(_number(style.EARLY_FRECHET, value_early, n=n, floor=floor_value, features=digest))
    except ValueError as few:
        rows.append(_missing(style.EARLY_FRECHET, str(few)))
    seen = {role: style.looks(read_pixels(work.inputs[role]).x) for role in roles}
    try:
        gaps = style.gaps(seen["real"], seen["synthetic"], groups=groups)
        floors = style.gaps(seen["real"], seen["held_out"], groups=groups, fake_groups=held_groups) if has_floor else {}
    except ValueError as few:
        return {"scores": [*rows, _missing(style.GAPS["lightness"], str(few))]}
    for name, gap in gaps.items():
        floor_gap = floors.get(name)
        rows.append(_row(style.GAPS[name], gap.gap, floor=floor_gap.gap if floor_gap else None))
        if gap.spread is not None:
            rows.append(_row(style.SPREADS[name], gap.spread, floor=floor_gap.spread if floor_gap else None))
    return {"scores": rows}


def pace(work: Work) -> dict[str, Any]:
    """Efficiency of a kept generator."""
    from safetensors import safe_open

    from mitate.generator import image_seeds
    from mitate.metrics import efficiency as ef
    from mitate.verbs import load_fitted

    entry = work.inputs["generator"]
    generator = load_fitted(entry)

    def draw(n: int) -> np.ndarray:
        return generator.sample(image_seeds(PACED_SEED, n, condition=0), np.arange(n, dtype=np.int64) % generator.n_classes)

    before = _peak()
    draw(ef.BATCH)
    memory = _peak() - before
    found = ef.pace(draw)
    rows = [
        _row(ef.IMAGES_PER_SECOND, found.images_per_second),
        _number(ef.LATENCY, found.latency_p50, n=ef.SINGLES),
        _number(ef.LATENCY_TAIL, found.latency_p95, n=ef.SINGLES),
        _number(ef.TRAINING, entry.result["seconds"], n=1) if "seconds" in entry.result else _missing(ef.TRAINING, "the fit kept no time"),
        _number(ef.MEMORY, memory, n=ef.BATCH) if memory else _missing(ef.MEMORY, "drawing a batch did not raise the process's peak"),
    ]
    parameters = 0
    for path in sorted(entry.folder.rglob("*.safetensors")):
        with safe_open(path, framework="np") as tensors:
            parameters += sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118 - not a mapping
    rows.append(_number(ef.PARAMETERS, parameters, n=1) if parameters else _missing(ef.PARAMETERS, "it has no weights file"))
    passes = _evaluations(generator, draw)
    rows.append(_number(ef.EVALUATIONS, passes, n=SEEN) if passes else _missing(ef.EVALUATIONS, "it has no network that could be counted"))
    return {"scores": rows}


def _evaluations(generator: Any, draw: Any) -> float:
    """Times an image passes through the network while it is drawn, padding not counted; 0 where there is no network."""
    net = getattr(generator, "net", None)
    if net is None or not hasattr(net, "register_forward_hook"):
        return 0.0
    passed = [0]

    def count(_module: Any, given: tuple[Any, ...], _answer: Any) -> None:
        passed[0] += len(given[0])

    handle = net.register_forward_hook(count)
    try:
        draw(SEEN)
    finally:
        handle.remove()
    return passed[0] / SEEN


def _peak() -> int:
    """The process's peak resident memory in bytes; 0 where the system does not tell."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


# rows -----------------------------------------------------------------------------------------------------------------


def _line(metric: Metric, value: Interval | None, floor: Interval | None, features: str, note: str, apart: Interval | None = None) -> dict[str, Any]:
    if value is None:
        return _missing(metric, note)
    row = _row(metric, value, floor=floor, features=features, note=note)
    return row if apart is None else row | {"apart_low": apart.low, "apart_high": apart.high}


def _row(metric: Metric, value: Interval, *, floor: Interval | None = None, features: str | None = None, note: str = "") -> dict[str, Any]:
    spanned = value.high > value.low
    row = _number(metric, value.value, n=value.n, features=features, note=note)
    row |= {"low": value.low if spanned else None, "high": value.high if spanned else None}
    if floor is not None:
        wide = floor.high > floor.low
        row |= {"floor": floor.value, "floor_low": floor.low if wide else None, "floor_high": floor.high if wide else None}
    return row


def _number(metric: Metric, value: float, *, n: int, floor: float | None = None, features: str | None = None, note: str = "") -> dict[str, Any]:
    """A row without an interval."""
    return {
        "metric": metric.name, "axis": metric.axis, "value": float(value), "n": n, "floor": floor, "features": features, "note": note, "better": metric.better
    }  # fmt: skip


def _missing(metric: Metric, why: str) -> dict[str, Any]:
    return {"metric": metric.name, "axis": metric.axis, "value": None, "note": why, "better": metric.better}


def _labels(entry: Entry) -> np.ndarray:
    return np.load(entry.path("y.npy"), allow_pickle=False)


def _thinned(n: int, most: int, seed: int) -> np.ndarray:
    """At most `most` of n rows, ascending, by the seed."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def _groups(*entries: Entry) -> tuple[np.ndarray | None, ...]:
    """Group numbers of stored image sets, numbered alike over all; an image without a group is on its own. None where no set has groups."""
    facts = [_facts(entry) for entry in entries]
    if all(f.get("groups") is None for f in facts):
        return (None,) * len(facts)
    keys = [[g or f"alone {k} {i}" for i, g in enumerate(f["groups"] or [""] * len(f["names"]))] for k, f in enumerate(facts)]
    index = {key: i for i, key in enumerate(sorted({key for one in keys for key in one}))}
    return tuple(np.array([index[key] for key in one], dtype=np.int64) for one in keys)


def _features(entry: Entry) -> np.ndarray:
    return np.load(entry.path("features.npy"), allow_pickle=False)


def _facts(entry: Entry) -> Mapping[str, Any]:
    return json.loads(entry.path("facts.json").read_text(encoding="utf-8"))
