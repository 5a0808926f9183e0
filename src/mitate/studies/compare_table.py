"""What the cells of a comparison measured, as one table: each axis' headline cell by cell, everything else beside it.

privacy     membership_ratio_auc   how well training images are told from others by the synthetic ones; 0.5 is chance
fidelity    kernel_distance        synthetic images beside the hold-out; unbiased at every number of images
diversity   coverage               share of hold-out images that a synthetic one lies near
utility     gain                   accuracy with synthetic images mixed in, over the same real ones alone
robustness  robust_gain            accuracy that no attack broke, over the same real ones alone
efficiency  thousand_seconds       processor seconds from no generator to 1,000 images: the fit and the drawing
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mitate.metrics.efficiency import IMAGES_PER_SECOND, RESUMED, TRAINING
from mitate.metrics.kernel import KERNEL_DISTANCE
from mitate.metrics.measures import Measure
from mitate.metrics.membership import RATIO_AUC
from mitate.metrics.neighbours import COVERAGE
from mitate.score import Metric, Score
from mitate.store import Entry, Store
from mitate.stored import read_pixels
from mitate.studies.compare_cells import Cell, CellJobs
from mitate.studies.utility import BOTH, GAIN, MADE, REAL, TRAINED_ON_SYNTHETIC
from mitate.study import Job, Study

OVER_REPLICATES = "Student's t over replicates, fits of a replicate averaged; for these hold-out images"
ROBUST_GAIN = Metric(
    "robust_gain", "robustness", "higher", 2, "two-way over replicates and hold-out images", "robust accuracy with synthetic images, over real ones alone"
)
CORRUPTED_GAIN = Metric("corrupted_gain", "robustness", "higher", 2, OVER_REPLICATES, "the same of accuracy on corrupted images")
THOUSAND = Metric("thousand_seconds", "efficiency", "lower", 1, OVER_REPLICATES, "processor seconds of the fit, and of drawing 1,000 images")
HEADLINES: Mapping[str, Metric] = {
    "privacy": RATIO_AUC, "fidelity": KERNEL_DISTANCE, "diversity": COVERAGE, "utility": GAIN, "robustness": ROBUST_GAIN, "efficiency": THOUSAND,
}  # fmt: skip
BESIDE = {  # told beside a headline, and never in its place
    "privacy": ("copies", "membership_loss_auc", "nearer_to_train"), "fidelity": ("precision", "density", "frechet"), "diversity": ("recall", "vendi"),
    "utility": ("trained_on_synthetic", "real_alone"), "robustness": ("corrupted_gain",), "efficiency": ("images_per_second", "training_seconds"),
}  # fmt: skip


@dataclass
class Table:
    """Everything measured. `headline` and `beside` by axis or metric and cell: float64 [trainings, images], or [1, 1] where there is one number."""

    headline: dict[str, dict[Cell, np.ndarray]] = field(default_factory=dict)
    beside: dict[str, dict[Cell, float]] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)  # by metric: what real images score in the place of synthetic ones
    verdicts: dict[Cell, Mapping[str, Any]] = field(default_factory=dict)  # of the gate
    promises: dict[Cell, Mapping[str, Any]] = field(default_factory=dict)  # of private fits
    whys: dict[tuple[Cell, str], str] = field(default_factory=dict)  # why an axis has no number
    scores: list[Score] = field(default_factory=list)
    groups: np.ndarray | None = None  # int64 [hold-out images]
    tried_groups: np.ndarray | None = None  # those under stress

    def put(self, axis: str, cell: Cell, values: np.ndarray | float) -> None:
        """A headline. values: a number, or what each image adds to it, [images] or [trainings, images]."""
        self.headline.setdefault(axis, {})[cell] = np.atleast_2d(np.asarray(values, dtype=np.float64))

    def note(self, metric: str, cell: Cell, value: float) -> None:
        self.beside.setdefault(metric, {})[cell] = float(value)


def read_gate(table: Table, cells: Iterable[Cell], jobs: CellJobs, found: Mapping[Job, Entry]) -> None:
    """Verdicts and numbers of privacy, and what private fits promise."""
    for cell in cells:
        result = found[jobs.leakage(cell)].result
        table.verdicts[cell] = result["verdict"]
        _read_rows(table, cell, result["scores"], {"privacy"})
        fitted = jobs.fitted(cell)
        if fitted is not None and (promise := found[fitted].result.get("privacy")):
            table.promises[cell] = {key: promise[key] for key in ("epsilon", "delta", "unit") if key in promise}


def read_measures(table: Table, cells: Iterable[Cell], study: Study, jobs: CellJobs, found: Mapping[Job, Entry], store: Store, holdout: str) -> None:
    """Every other axis of the cells that passed the gate."""
    axes = set(study.sizes["axes"])
    entry = store.get(holdout)
    assert entry is not None, "the hold-out is kept before a comparison runs"
    y = read_pixels(entry).y
    for cell in cells:
        if axes & {"fidelity", "diversity"}:
            _read_rows(table, cell, found[jobs.likeness(cell)].result["scores"], axes)
        if "utility" in axes:
            _read_utility(table, cell, study, jobs, found, y)
        if "robustness" in axes:
            _read_stress(table, cell, jobs, found)
        if "efficiency" in axes:
            _read_pace(table, cell, jobs, found)


def _read_rows(table: Table, cell: Cell, rows: Iterable[Mapping[str, Any]], axes: set[str]) -> None:
    heads = {metric.name: axis for axis, metric in HEADLINES.items()}
    for row in rows:
        if row["axis"] not in axes:
            continue
        table.scores.append(Score(subject=cell.label, **row))
        axis = heads.get(row["metric"])
        if row["value"] is None:
            if axis is not None:
                table.whys[cell, axis] = row["note"]
            continue
        if row.get("floor") is not None:
            table.floors.setdefault(row["metric"], float(row["floor"]))
        if axis is not None:
            table.put(axis, cell, row["value"])
        else:
            table.note(row["metric"], cell, row["value"])


def _read_utility(table: Table, cell: Cell, study: Study, jobs: CellJobs, found: Mapping[Job, Entry], y: np.ndarray) -> None:
    plainly = Measure("accuracy", tuple(study.data["classes"]))
    right: dict[str, np.ndarray] = {}
    for arm, trainings in jobs.arms().items():
        entries = [found[jobs.predicted(cell, arm, k)] for k in range(trainings)]
        right[arm] = np.stack([plainly.contributions(y, np.load(e.path("probabilities.npy"), allow_pickle=False).argmax(axis=1)) for e in entries])
    table.put("utility", cell, right[BOTH] - right[REAL])
    alone, made = float(right[REAL].mean()), float(right[MADE].mean())
    table.note("real_alone", cell, alone)
    table.note(TRAINED_ON_SYNTHETIC.name, cell, made)
    note = f"mean of {len(right[BOTH])} trainings on the hold-out; real images alone: {alone:.3g}"
    table.scores.append(Score(GAIN.name, "utility", cell.label, float((right[BOTH] - right[REAL]).mean()), n=len(y), floor=0.0, note=note, better="higher"))
    table.scores.append(Score(TRAINED_ON_SYNTHETIC.name, "utility", cell.label, made, n=len(y), floor=alone, note="one training", better="higher"))


def _read_stress(table: Table, cell: Cell, jobs: CellJobs, found: Mapping[Job, Entry]) -> None:
    kept = {}
    for arm in (REAL, BOTH):
        entry = found[jobs.stressed(cell, arm)]
        with np.load(entry.path("tried.npz"), allow_pickle=False) as arrays:
            kept[arm] = dict(arrays)
        subject = f"{cell.label} · {arm}"
        table.scores += [Score(subject=subject, **row) for row in entry.result["scores"] if row["axis"] == "robustness"]
    table.tried_groups = kept[REAL]["groups"]
    table.put("robustness", cell, kept[BOTH]["robust_accuracy"] - kept[REAL]["robust_accuracy"])
    table.note(CORRUPTED_GAIN.name, cell, float((kept[BOTH]["corrupted_accuracy"] - kept[REAL]["corrupted_accuracy"]).mean()))


def _read_pace(table: Table, cell: Cell, jobs: CellJobs, found: Mapping[Job, Entry]) -> None:
    fitted, paced = jobs.fitted(cell), jobs.pace(cell)
    if fitted is None or paced is None:
        table.whys[cell, "efficiency"] = "the images were made elsewhere"
        return
    spent = found[fitted].result
    if spent.get("resumed") or "cpu_seconds" not in spent:
        table.whys[cell, "efficiency"] = RESUMED if spent.get("resumed") else "an earlier version made its fit, and kept no processor time"
        return
    rows = {row["metric"]: row for row in found[paced].result["scores"]}
    table.scores += [Score(subject=cell.label, **row) for row in rows.values()]
    table.put("efficiency", cell, spent["cpu_seconds"] + 1000 / found[paced].result["images_per_cpu_second"])
    table.note(TRAINING.name, cell, spent["seconds"])
    table.note(IMAGES_PER_SECOND.name, cell, rows[IMAGES_PER_SECOND.name]["value"])
