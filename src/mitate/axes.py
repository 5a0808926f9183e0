"""What the jobs of an assessment do: likeness, leakage, look, pace, stress. Each reads features or a model from the store and makes rows of scores.

A row is a Score without its subject. A value stands beside its floor: held-out real images in the place of the synthetic ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate import leaks
from mitate.stored import Work, groups_of, load_classifier, load_fitted, read_pixels

if TYPE_CHECKING:
    from mitate.generator import Pixels
    from mitate.metrics.intervals import Interval
    from mitate.score import Metric
    from mitate.store import Entry

SEEN = 64  # synthetic images whose passes through the network are counted
PACED_SEED = 0
FOREIGN_NOTE = "holds for these foreign images; others may be harder to notice"
ONE_MIX = "of parts of the sets, drawn so that all mix their classes alike"
OWN_MIXES = "classes are mixed as they come: fewer than 20 images of a set can be drawn so that all mix them alike"


def likeness(work: Work) -> dict[str, Any]:
    """Fidelity and diversity."""
    from mitate.metrics.likeness import MOST, likeness

    held = work.inputs.get("held_out_features")
    real, fake = (_features(work.inputs[f"{role}_features"]) for role in ("real", "synthetic"))
    groups, held_groups = groups_of(work.inputs["real"], work.inputs["held_out"]) if held else (groups_of(work.inputs["real"])[0], None)
    lines = likeness(
        real, fake, _features(held) if held else None, seed=work.settings["seed"], labels=_labels(work.inputs["synthetic"]),
        held_labels=_labels(work.inputs["held_out"]) if held else None, groups=groups, held_groups=held_groups,
        most=work.settings.get("most", MOST), progress=work.progress,
    )  # fmt: skip
    digest = work.inputs["real_features"].result["extractor"]
    return {"scores": [_line(line.metric, line.value, line.floor, digest, line.note, line.apart) for line in lines]}


def likeness_given(work: Work) -> dict[str, Any]:
    """A part of fidelity and diversity of features that were given: setting `part` of `PARTS`, of at most `most` images where pairs count."""
    from mitate.metrics.likeness import likeness

    sets = {role: np.load(entry.path("features.npy"), mmap_mode="r", allow_pickle=False) for role, entry in work.inputs.items()}
    seed, most, part = (work.settings[key] for key in ("seed", "most", "part"))
    real, fake, held = (sets.get(f"{role}_features") for role in ("real", "synthetic", "held_out"))
    assert real is not None and fake is not None
    lines = likeness(real, fake, held, seed=seed, most=most, parts=(part,), progress=work.progress)
    return {"scores": [_line(line.metric, line.value, line.floor, None, line.note, line.apart) for line in lines]}


def leakage(work: Work) -> dict[str, Any]:
    """Privacy: attacks and distances beside their floors, copies by pixels, and the verdict, which is an attack's.

    Members are the real images that the generator was fitted on (input `fitted_on`), or all of them where that is not known. Settings no_loss and
    no_model say why there is no attack on the generator or on a trained model; else their inputs are there.
    """
    from mitate.metrics import privacy
    from mitate.metrics.exposure import ON_FEATURES, privacy_of

    inputs, seed = work.inputs, work.settings["seed"]
    members = leaks.members_of(inputs["real"], inputs.get("fitted_on"))
    own, others = groups_of(inputs["real"], inputs["held_out"])
    own = own if own is None else own[members]
    synthetic, real, held = (_features(inputs[f"{role}_features"]) for role in ("synthetic", "real", "held_out"))
    loss, model = work.settings.get("no_loss") or leaks.loss_of(inputs), work.settings.get("no_model", "")
    lira = model or leaks.on_model(inputs, members, pairs=work.settings["pairs"], seed=seed, groups=(own, others))
    found = privacy_of(synthetic, real[members], held, seed=seed, groups_train=own, groups_held_out=others, loss=loss, model=lira)
    digest = inputs["real_features"].result["extractor"]
    rows = [_line(line.metric, line.value, line.floor, digest if line.metric.name in ON_FEATURES else None, line.note) for line in found.lines]
    try:
        pixels = [read_pixels(inputs[role]).x for role in ("synthetic", "real", "held_out")]
        copies = privacy.copies(*(privacy.features(x) for x in (pixels[0], pixels[1][members], pixels[2])))
        rows.append(_row(privacy.COPIES, copies.share, floor=copies.floor, features=privacy.FEATURES, note="by pixels, brightness and contrast taken out"))
    except ValueError as few:
        rows.append(_missing(privacy.COPIES, str(few)))
    return {"scores": rows, "verdict": found.verdict.record}


def look(work: Work) -> dict[str, Any]:
    """Style: told apart by a classifier, gaps of named looks, Frechet distance on an early layer. All at one mix of classes, where labels allow."""
    from mitate.metrics import looks as lk
    from mitate.metrics import told_apart as ta
    from mitate.metrics.mixes import thinned

    roles = [role for role in ("real", "synthetic", "held_out") if role in work.inputs]
    seed, digest, has_floor = work.settings["seed"], work.inputs["real_features"].result["extractor"], "held_out" in roles
    chosen, labels, note = _at_one_mix({role: _labels(work.inputs[role]) for role in roles}, seed)
    real_roles = [role for role in roles if role != "synthetic"]
    members = dict(zip(real_roles, groups_of(*(work.inputs[role] for role in real_roles)), strict=True))
    groups, held_groups = (members[role][chosen[role]] if members.get(role) is not None else None for role in ("real", "held_out"))  # type: ignore[index]
    late = {role: _features(work.inputs[f"{role}_features"])[chosen[role]] for role in roles}
    early = {role: np.load(work.inputs[f"{role}_features"].path("early.npy"), allow_pickle=False)[chosen[role]] for role in roles}
    rows = []
    try:
        if has_floor:
            sides = tuple(labels[role] for role in roles)
            both = ta.told_apart_beside(
                late["real"], late["synthetic"], late["held_out"], seed=seed, groups=groups, held_groups=held_groups, labels=sides,  # type: ignore[arg-type]
            )  # fmt: skip
            value, floor = both.value, both.floor
        else:
            value, floor = ta.told_apart(late["real"], late["synthetic"], seed=seed, groups=groups, labels=(labels["real"], labels["synthetic"])), None
        said = "; ".join(part for part in ("below 0.5: near copies on the two sides" if value.twins else "", note) if part)
        rows.append(_row(ta.TOLD_APART, value.auc, floor=floor.auc if floor else None, features=digest, note=said))
        right = floor.balanced_accuracy if floor else None
        rows.append(_row(ta.TOLD_APART_RIGHT, value.balanced_accuracy, floor=right, features=digest, note=note))
    except ValueError as few:
        rows += [_missing(metric, str(few)) for metric in (ta.TOLD_APART, ta.TOLD_APART_RIGHT)]
    n = min(len(late[role]) for role in roles if role != "real")
    rng = np.random.default_rng(seed)
    some = {role: early[role][thinned(labels[role], n, rng=rng)] for role in roles if role != "real"}
    try:
        floor_value = lk.early_frechet(early["real"], some["held_out"]) if has_floor else None
        rows.append(_number(lk.EARLY_FRECHET, lk.early_frechet(early["real"], some["synthetic"]), n=n, floor=floor_value, features=digest, note=note))
    except ValueError as few:
        rows.append(_missing(lk.EARLY_FRECHET, str(few)))
    seen = {role: lk.looks(read_pixels(work.inputs[role]).x[chosen[role]]) for role in roles}
    try:
        gaps = lk.gaps(seen["real"], seen["synthetic"], groups=groups)
        floors = lk.gaps(seen["real"], seen["held_out"], groups=groups, fake_groups=held_groups) if has_floor else {}
    except ValueError as few:
        return {"scores": [*rows, _missing(lk.GAPS["lightness"], str(few))]}
    for name, gap in gaps.items():
        floor_gap = floors.get(name)
        rows.append(_row(lk.GAPS[name], gap.gap, floor=floor_gap.gap if floor_gap else None))
        if gap.spread is not None:
            rows.append(_row(lk.SPREADS[name], gap.spread, floor=floor_gap.spread if floor_gap else None))
    return {"scores": rows}


def _at_one_mix(labels: Mapping[str, np.ndarray], seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """Rows of each set with their labels, of one mix of classes in all sets, and what is to be said of it.

    All rows, as of one class, where the real images have but one class, or where fewer than 20 images of some set would be left.
    """
    from mitate.metrics.mixes import one_mix
    from mitate.metrics.told_apart import LEAST

    whole = {role: np.arange(len(y)) for role, y in labels.items()}
    bare = {role: np.zeros(len(y), np.int64) for role, y in labels.items()}
    if len(np.unique(labels["real"])) < 2:
        return whole, bare, ""
    try:
        rows = dict(zip(labels, one_mix(list(labels.values()), seed=seed), strict=True))
    except ValueError:  # no class in common
        return whole, bare, OWN_MIXES
    if min(len(some) for some in rows.values()) < LEAST:
        return whole, bare, OWN_MIXES
    return rows, {role: labels[role][some] for role, some in rows.items()}, ONE_MIX if any(len(rows[r]) < len(y) for r, y in labels.items()) else ""


def pace(work: Work) -> dict[str, Any]:
    """Efficiency of a kept generator."""
    from safetensors import safe_open

    from mitate.generator import image_seeds
    from mitate.metrics import efficiency as ef

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
        _missing(ef.TRAINING, ef.RESUMED) if entry.result.get("resumed") else _number(ef.TRAINING, entry.result["seconds"], n=1),
        _number(ef.MEMORY, memory, n=ef.BATCH) if memory else _missing(ef.MEMORY, "drawing a batch did not raise the process's peak"),
    ]
    parameters = 0
    for path in sorted(entry.folder.rglob("*.safetensors")):
        with safe_open(path, framework="np") as tensors:
            parameters += sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118 - not a mapping
    rows.append(_number(ef.PARAMETERS, parameters, n=1) if parameters else _missing(ef.PARAMETERS, "it has no weights file"))
    passes = _evaluations(generator, draw)
    rows.append(_number(ef.EVALUATIONS, passes, n=SEEN) if passes else _missing(ef.EVALUATIONS, "it has no network that could be counted"))
    return {"scores": rows, "images_per_cpu_second": found.images_per_cpu_second}


def stress(work: Work) -> dict[str, Any]:
    """Robustness of a trained model: attacks, corruptions and calibration on at most `most` of the images, drawn by the seed, and how it takes
    `foreign` images, where they are given. Settings beside these are those of `Stress`.

    What each image adds to a score is kept, so that two models can be compared image by image: tried.npz for the images that were tried,
    foreign.npz for all images and the foreign ones; in each `groups` int [n], and `least`, how far one image moves a mean.
    """
    from mitate.errors import DataError
    from mitate.metrics import robustness as ro
    from mitate.runtime import seed_of
    from mitate.settings import plain, record

    images, settings = read_pixels(work.inputs["images"]), dict(work.settings)
    seed, most = settings.pop("seed"), settings.pop("most")
    del settings["backbone"]
    (groups,) = groups_of(work.inputs["images"])
    chosen = _thinned(len(images.x), most, seed_of("stress", seed))
    tried = record(ro.Stress, settings, where="stress")
    members = None if groups is None else groups[chosen]
    model = load_classifier(work, images).eval()
    try:
        found = ro.robustness(model, images.x[chosen], images.y[chosen], seed=seed, stress=tried, groups=members)
    except ValueError as wrong:
        raise DataError(f"The model cannot be put under stress: {wrong}.", fix="test on more images, or leave robustness out") from wrong
    each: dict[str, Any] = dict(ro.outcomes(found))
    np.savez(work.folder / "tried.npz", groups=np.arange(found.n) if members is None else members, least=1 / found.counted, **each)
    rows = [*ro.rows(found), *(_foreign(work, model, images) if "foreign" in work.inputs else [])]
    return {"scores": rows, **ro.facts(found), "stress": plain(tried), "seed": seed}


def _foreign(work: Work, model: Any, images: Pixels) -> list[dict[str, Any]]:
    """Whether the model notices foreign images, beside all of its own kind that it was not trained on."""
    from mitate.metrics import detection as de
    from mitate.training.loop import read_off

    real, foreign = (read_pixels(work.inputs[role]) for role in ("real", "foreign"))
    known, others, train = (de.Seen(*read_off(model, some.x)) for some in (images, foreign, real))
    groups, foreign_groups = groups_of(work.inputs["images"], work.inputs["foreign"])
    found = de.noticed(known, others, train, real.y, groups=groups, foreign_groups=foreign_groups)
    told = {de.FOREIGN_AUROC: found.auroc[de.HEADLINE], de.FOREIGN_ACCEPTED: found.accepted, **{m: found.auroc[by] for by, m in de.BESIDE.items()}}
    together = de.both_groups(groups, foreign_groups, len(images.x), len(foreign.x))
    members = np.arange(len(images.x) + len(foreign.x)) if together is None else together
    fewer = min(len(np.unique(part)) for part in (members[: len(images.x)], members[len(images.x) :]))
    each: dict[str, Any] = {(de.BESIDE[by] if by in de.BESIDE else de.FOREIGN_AUROC).name: values for by, values in found.each.items()}
    np.savez(work.folder / "foreign.npz", groups=members, least=1 / (2 * fewer), **each)
    return [_missing(metric, value) if isinstance(value, str) else _row(metric, value, note=FOREIGN_NOTE) for metric, value in told.items()]


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


def _line(metric: Metric, value: Interval | None, floor: Interval | None, features: str | None, note: str, apart: Interval | None = None) -> dict[str, Any]:
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


def _features(entry: Entry) -> np.ndarray:
    return np.load(entry.path("features.npy"), allow_pickle=False)
