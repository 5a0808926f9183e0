"""The three stages of a pilot. `look` and `small` see the selection split only; the test split is opened once, at `full`.

    look    one replicate: does a generator copy? can anything be learnt from its labels? Generators are dropped.
    small   two replicates of every arm: arms that cannot reach the worthwhile gain are dropped, one candidate is chosen.
    full    fresh replicates: the candidate against the baseline on the test split. Fresh, because the candidate was chosen
            for doing well in the small ones, luck included.

With cross-fitting (too few images for a test split of its own) every image is a test image once a replicate, so nothing may be
chosen on scores: the candidate is fixed before the run and only the copies gate can drop a generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mitate.engine import Engine
from mitate.metrics import measures, privacy
from mitate.metrics.intervals import Interval, pooled_row_se, two_way
from mitate.metrics.measures import Measure
from mitate.score import Score
from mitate.store import Entry
from mitate.stored import read_facts
from mitate.studies import gates
from mitate.studies.arms import Arm, Cell, Jobs, Predictions, answers, arms_of, group_numbers
from mitate.study import Job, Study

BASELINE_LOOK = "synthetic+augment"  # the arm by which `look` judges a generator's labels
ONE_GROUP = "the images of the selection split are all of one group, so nothing says how far another group would differ"


@dataclass(frozen=True)
class Dropped:
    """Why an arm or a generator went no further: a code for the words, the numbers in it, and the English sentence."""

    code: str
    values: Mapping[str, Any]
    why: str


@dataclass
class State:
    """What a pilot knows so far."""

    study: Study
    measure: Measure
    cells: list[Cell]
    jobs: Jobs
    stage: str = "look"
    alive: list[str] = field(default_factory=list)  # generators
    dropped_generators: dict[str, Dropped] = field(default_factory=dict)
    dropped_arms: dict[Arm, Dropped] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    not_measured: list[dict[str, str]] = field(default_factory=list)
    selection: Predictions | None = None
    selection_groups: np.ndarray | None = None  # int64 [images of the selection split]
    test: Predictions | None = None
    candidate: Arm | None = None
    curve: list[Any] = field(default_factory=list)  # points of the learning curve (studies/curve.py), smallest size first
    best_high: float | None = None  # the best upper bound on the selection split, where the pilot stopped for futility
    entries: dict[Job, Entry] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)

    @property
    def arms(self) -> list[Arm]:
        """Arms still alive, the baseline first."""
        return [a for a in arms_of(self.study.sizes["arms"], self.alive) if a not in self.dropped_arms]

    @property
    def baseline(self) -> Arm:
        return arms_of(self.study.sizes["arms"], self.alive)[0]

    @property
    def worthwhile(self) -> float:
        return float(self.study.plan["worthwhile"])

    def show(self, value: float) -> str:
        """A gain in words."""
        return f"{value * 100:+.3g} points" if self.measure.points else f"{value:+.3g}"


def open_state(study: Study, cells: list[Cell]) -> State:
    """The state before anything has run."""
    measure = measures.thaw(study.sizes["measure"], study.data["classes"])
    jobs = Jobs(study.sizes, study.estimates, seed=study.plan["seed"])
    return State(study, measure, cells, jobs, alive=list(study.sizes["generators"]))


Done = Callable[[Job, Entry, bool], None]


def look(state: State, engine: Engine, done: Done) -> None:
    """One replicate: the gates that a generator must pass."""
    state.stage = "look"
    cell = state.cells[0]
    cross = bool(state.study.sizes["cross_fit"])
    checks = {g: state.jobs.checked(g, cell) for g in state.alive}
    judged = {} if cross else {g: state.jobs.predicted(Arm(BASELINE_LOOK, g), cell, "selection") for g in state.alive}
    found = run_jobs(state, engine, [*checks.values(), *judged.values()], done)
    y = np.zeros(0, np.int64) if cross else _labels(engine, cell.selection)
    groups = None if cross else _groups(engine, cell.selection)
    for generator in list(state.alive):
        drop = copies_gate(state, generator, found[checks[generator]].result)
        if drop is None and generator in judged:
            drop = _labels_gate(state, generator, y, answers(state.measure, found[judged[generator]]), groups=groups)
        if drop is not None:
            state.alive.remove(generator)
            state.dropped_generators[generator] = drop


def small(state: State, engine: Engine, done: Done) -> None:
    """Two replicates of every arm on the selection split: drop what cannot reach the worthwhile gain, choose the candidate."""
    if state.study.sizes["cross_fit"]:
        wanted = state.study.sizes["candidate"]
        state.candidate = next((a for a in state.arms if a.synthetic and a.recipe == wanted), next((a for a in state.arms if a.synthetic), None))
        return
    state.stage = "small"
    cells = [c for c in state.cells if c.replicate < state.study.sizes["small"]]
    state.selection = predictions_on(state, engine, cells, "selection", done)
    state.selection_groups = _groups(engine, cells[0].selection)
    baseline = state.baseline
    others = [a for a in state.arms if a != baseline]
    paired = {a: state.selection.paired(a, baseline) for a in others}
    rule = f"the gain on the selection split may reach {state.worthwhile:g}"
    alone = _one_group(state.selection_groups)
    if alone and others:
        state.not_measured.append({"what": "gains on the selection split", "why": ONE_GROUP})
        state.gates += [_gate("reach", "small", a.label, rule, None, passed=None, note=ONE_GROUP) for a in others]
    gains = {} if alone else {a: on_selection(state, paired, a, confidence=gates.SCREEN) for a in others}
    for arm, gain in gains.items():
        reaches = gain.high >= state.worthwhile
        state.gates.append(_gate("reach", "small", arm.label, rule, gain, passed=reaches))
        if not reaches:
            values = {"high": gain.high, "worthwhile": state.worthwhile}
            state.dropped_arms[arm] = Dropped(
                "cannot_reach", values, f"its gain on the selection split is at most {gain.high:.3g}, below the worthwhile {state.worthwhile:g}"
            )
    hopeful = [a for a in state.arms if a.synthetic]
    if hopeful:
        fitted = additive({a: float(t.mean()) for a, t in paired.items() if a.synthetic})
        state.candidate = max(hopeful, key=fitted.__getitem__)
    else:
        state.best_high = max((g.high for a, g in gains.items() if a.synthetic), default=None)


def on_selection(state: State, tables: Mapping[Arm, np.ndarray], arm: Arm, *, confidence: float) -> Interval:
    """Interval of one arm's table on the selection split. There are two replicates: their spread is pooled over the arms' tables."""
    assert state.selection is not None
    y, measure = state.selection.y, state.measure
    found = two_way(
        tables[arm],
        confidence=confidence,
        groups=state.selection_groups,
        df_images=measure.df_images(y),
        se_replicates=pooled_row_se(list(tables.values())),
        least=measure.one_image(y),
    )
    return replace(found, n=measure.counted(y))


def additive(gains: Mapping[Arm, float]) -> dict[Arm, float]:
    """Gains smoothed by least squares as a recipe's part plus a generator's part.

    Two replicates on a small selection split are mostly noise; arms that share a recipe or a generator lend each other strength, and
    the choice of a candidate is less of a lottery.
    """
    recipes = sorted({a.recipe for a in gains})
    generators = sorted({str(a.generator) for a in gains})
    design = np.array([[float(a.recipe == r) for r in recipes] + [float(str(a.generator) == g) for g in generators] for a in gains])
    weights = np.linalg.lstsq(design, np.array(list(gains.values())), rcond=None)[0]
    return dict(zip(gains, (float(v) for v in design @ weights), strict=True))


def full(state: State, engine: Engine, done: Done) -> None:
    """Fresh replicates on the test split. The caller has written the opening down."""
    state.stage = "full"
    rounds = state.study.sizes["full"]
    first = state.study.sizes["small"]
    cells = [c for c in state.cells if first <= c.replicate < first + rounds[0]]
    state.test = predictions_on(state, engine, cells, "test", done)
    late = [c for c in state.cells if c.replicate >= first + rounds[0]]
    if late and state.candidate is not None:
        predictions_on(state, engine, late, "test", done, arms=[state.baseline, state.candidate], into=state.test)


def gain_on_test(
    state: State, arm: Arm, *, confidence: float, groups: np.ndarray | None, measure: Measure | None = None, rows: np.ndarray | None = None
) -> Interval:
    """Interval of an arm's gain over the baseline on the test split. rows: only these images."""
    assert state.test is not None
    table = state.test.paired(arm, state.baseline, measure)
    typical = _typical_spread(state.test, arm, state.baseline) if measure is None and rows is None else None
    return interval_of(state, table, confidence=confidence, groups=groups, measure=measure, rows=rows, typical=typical)


def _typical_spread(test: Predictions, arm: Arm, baseline: Arm) -> float | None:
    """Variance of a row mean in a typical other arm (the median); None where no other arm has two replicates."""
    others = [test.paired(a, baseline).mean(axis=1) for a in test.arms() if a not in (arm, baseline)]
    spread = [float(rows.var(ddof=1)) for rows in others if len(rows) > 1]
    return float(np.median(spread)) if spread else None


def interval_of(
    state: State,
    table: np.ndarray,
    *,
    confidence: float,
    groups: np.ndarray | None,
    measure: Measure | None = None,
    rows: np.ndarray | None = None,
    typical: float | None = None,
    low_share: float = gates.LOW_SHARE,
) -> Interval:
    """Two-way interval of a table of gains on the test split, with what cross-fitting adds. With rows, of a plain share among those images."""
    assert state.test is not None
    measure = measure or state.measure
    overlap = float(state.study.sizes["overlap"])
    if rows is not None:
        kept = groups[rows] if groups is not None else None
        return two_way(table[:, rows], confidence=confidence, groups=kept, overlap=overlap, low_share=low_share)
    y, least = state.test.y, measure.one_image(state.test.y)
    df_images = measure.df_images(y)
    found = two_way(table, confidence=confidence, groups=groups, df_images=df_images, typical=typical, overlap=overlap, least=least, low_share=low_share)
    return replace(found, n=measure.counted(y))


def within(measure: Measure, interval: Interval) -> Interval:
    """The interval of a score cut to what the measure can be: 0 to 1 for shares, at most 0 for costs."""
    low, high = (0.0, 1.0) if measure.points else (-math.inf, 0.0)
    return replace(interval, low=max(low, interval.low), high=min(high, interval.high))


# gates ----------------------------------------------------------------------------------------------------------------


def copies_gate(state: State, generator: str, facts: Mapping[str, Any]) -> Dropped | None:
    rule = f"share of copies at most {gates.COPIES_MARGIN:.0%} above the hold-out's own share"
    metric = privacy.COPIES
    if not facts["measured"]:
        state.gates.append(_gate("copies", "look", generator, rule, None, passed=None, note=facts["why"]))
        state.not_measured.append({"what": f"copies of {generator}", "why": facts["why"]})
        state.scores.append(Score(metric.name, metric.axis, generator, None, note=facts["why"]))
        return None
    share, floor, excess = (Interval(**facts[k]) for k in ("share", "floor", "excess"))
    passed = excess.low <= gates.COPIES_MARGIN
    state.gates.append({**_gate("copies", "look", generator, rule, share, passed=passed), "floor": floor.value})
    common: dict[str, Any] = {"features": privacy.FEATURES, "subject": generator, "axis": metric.axis}
    state.scores.append(Score(metric.name, value=share.value, low=share.low, high=share.high, n=share.n, floor=floor.value, **common))
    nearer = Interval(**facts["nearer"])
    state.scores.append(Score(privacy.NEARER.name, value=nearer.value, low=nearer.low, high=nearer.high, n=nearer.n, floor=0.5, **common))
    if passed:
        return None
    why = f"{share.value:.0%} of its images are copies of training images (hold-out: {floor.value:.0%})"
    return Dropped("copies", {"share": share.value, "floor": floor.value}, why)


def _labels_gate(state: State, generator: str, y: np.ndarray, said: np.ndarray, *, groups: np.ndarray | None) -> Dropped | None:
    """A model trained on these images alone must be able to beat chance on real ones (balanced accuracy, so 1 / classes)."""
    chance = 1 / len(state.measure.classes)
    balanced = Measure("balanced", state.measure.classes)
    rule = "a model trained on its images alone may beat chance on real ones"
    if _one_group(groups):
        state.gates.append(_gate("labels", "look", generator, rule, None, passed=None, note=ONE_GROUP))
        state.not_measured.append({"what": f"labels of {generator}", "why": ONE_GROUP})
        return None
    mean, high, passed = gates.above_chance(balanced.contributions(y, said), chance=chance, least=balanced.one_image(y), groups=groups)
    interval = Interval(mean, max(0.0, 2 * mean - high), min(1.0, high), len(y))
    state.gates.append({**_gate("labels", "look", generator, rule, interval, passed=passed), "floor": chance})
    state.scores.append(
        Score(
            "trained_on_synthetic",
            "utility",
            generator,
            mean,
            interval.low,
            interval.high,
            len(y),
            floor=chance,
            note="balanced accuracy on the selection split",
        )
    )
    if passed:
        return None
    return Dropped(
        "useless_labels", {"score": mean, "chance": chance}, f"a model trained on its images alone scores {mean:.0%} on real ones; chance is {chance:.0%}"
    )


def _one_group(groups: np.ndarray | None) -> bool:
    return groups is not None and len(np.unique(groups)) < 2


def _gate(name: str, stage: str, subject: str, rule: str, measured: Interval | None, *, passed: bool | None, note: str = "") -> dict[str, Any]:
    found = {k: getattr(measured, k) if measured is not None else None for k in ("value", "low", "high", "n")}
    return {"name": name, "stage": stage, "subject": subject, "rule": rule, **found, "floor": None, "passed": passed, "note": note}


# running --------------------------------------------------------------------------------------------------------------


def run_jobs(state: State, engine: Engine, jobs: list[Job], done: Done) -> dict[Job, Entry]:
    found = engine.run(jobs, done=done)
    state.entries |= found
    return found


def predictions_on(
    state: State, engine: Engine, cells: list[Cell], split: str, done: Done, *, arms: list[Arm] | None = None, into: Predictions | None = None
) -> Predictions:
    arms = state.arms if arms is None else arms
    jobs = {(a, c): state.jobs.predicted(a, c, split) for c in cells for a in arms}
    found = run_jobs(state, engine, list(jobs.values()), done)
    folded = state.study.sizes["folds"] > 1 and split == "test"
    if folded:
        rows = {c.test: np.asarray(state.study.data["test_rows"][f"{c.replicate}/{c.fold}"], dtype=np.int64) for c in cells}
        y = np.asarray(state.study.data["labels"], dtype=np.int64)
    else:
        y = _labels(engine, getattr(cells[0], split))
        rows = {getattr(c, split): np.arange(len(y)) for c in cells}
    table = into or Predictions(state.measure, y)
    for (arm, cell), job in jobs.items():
        table.add(arm, cell.replicate, rows[getattr(cell, split)], answers(state.measure, found[job]))
    return table


def _labels(engine: Engine, digest: str) -> np.ndarray:
    return np.load(engine.store.there(digest).path("y.npy"), allow_pickle=False)


def _groups(engine: Engine, digest: str) -> np.ndarray | None:
    """Group numbers of a stored image set."""
    facts = read_facts(engine.store.there(digest))
    return group_numbers(facts["groups"], facts["names"])[0]
