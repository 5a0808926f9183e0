"""From many voices to one: what holds of an image, how far two reviewers agree beyond chance, and how often people overrule a filter.

Cohen 1960: kappa = (p_o - p_e) / (1 - p_e), with p_o the share of images on which both say the same and p_e what two reviewers with these
habits would share by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mitate.curation.ledger import Decision, Standing
from mitate.metrics.intervals import Interval, wilson
from mitate.runtime import seed_of

DRAWS = 2000  # of the bootstrap
OPEN = "open"


@dataclass(frozen=True)
class Held:
    """What holds of one image. state: keep, drop, relabel, or open where people (or, without people, filters) do not say the same."""

    state: str
    label: str | None = None
    by: tuple[str, ...] = ()  # who says so, or who disagrees


@dataclass(frozen=True)
class Agreement:
    """Two people on the images that both judged. `same`: share on which they say the same; `kappa`: None where it is not defined, and `note` says why."""

    one: str
    other: str
    n: int
    same: Interval | None
    kappa: Interval | None
    note: str = ""


@dataclass(frozen=True)
class Audit:
    """What people, blind, said of a random sample. Intervals are Wilson's; None where nothing was judged yet."""

    overruled: Mapping[str, Interval]  # by filter: share of its drops that people keep as they are
    dropped: Interval | None  # of all drops in the sample, whichever filter: the share that people keep
    kept: Interval | None  # of the images that no filter dropped: the share that people drop
    relabelled: int  # dropped by a filter, and given another class by people
    unsettled: int  # on which people disagree; counted nowhere above


def agreed(said: Mapping[str, Decision]) -> Held | None:
    """What holds of an image, from what each reviewer and filter says (`Standing.of`); None where nobody said anything.

    People outweigh filters. People who do not say the same leave it open. Among filters alone one drop is enough, since each looks for another fault.
    """
    people = {by: d for by, d in said.items() if not d.by_filter}
    if people:
        return _one(people)
    drops = tuple(sorted(by for by, d in said.items() if d.decision == "drop"))
    if drops:
        return Held("drop", None, drops)
    relabels = {by: d for by, d in said.items() if d.decision == "relabel"}
    return _one(relabels or said) if said else None


def agreements(standing: Standing, *, seed: int = 0) -> tuple[Agreement, ...]:
    """Every two people who judged some image both."""
    people = [by for by in standing.names() if not by.startswith("filter:")]
    said = {by: {file: _said(d) for file, d in standing.by(by).items()} for by in people}
    pairs = []
    for one, other in combinations(people, 2):
        both = [(said[one][file], said[other][file]) for file in said[one] if file in said[other]]
        if both:
            pairs.append(_pair(one, other, Counter(both), seed=seed))
    return tuple(pairs)


def kappa(table: np.ndarray, *, seed: int, confidence: float = 0.95) -> Interval | None:
    """Cohen's kappa of a square table of counts, int [k, k]; None where chance alone would make two reviewers agree always.

    The interval is the bootstrap's over images (percentiles, Efron 1979), and at least as wide as Wilson's for the share of agreement at the chance
    agreement found (Cohen 1960 holds that fixed, too): ten images on which two reviewers agree do not prove that they always will.
    """
    n = int(table.sum())
    if n < 1:
        return None
    rows, columns = table.sum(axis=1) / n, table.sum(axis=0) / n
    same, chance = float(np.trace(table)) / n, float(rows @ columns)
    if chance > 1 - 1e-12:
        return None
    share = wilson(float(np.trace(table)), n, confidence=confidence)
    low, high = ((end - chance) / (1 - chance) for end in (share.low, share.high))
    draws = _bootstrap(table, n, seed)
    if len(draws):
        tail = (1 - confidence) / 2
        ends = np.quantile(draws, [tail, 1 - tail])
        low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    value = (same - chance) / (1 - chance)
    return Interval(value, max(-1.0, min(low, value)), min(1.0, max(high, value)), n)


def audited(standing: Standing) -> Audit:
    """What the blind audits found. Only decisions made in one count (they carry its seed): images that somebody looked up are no sample."""
    trials: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    relabelled = unsettled = 0
    for file in standing.files():
        said = standing.of(file)
        blind = {by: d for by, d in said.items() if not d.by_filter and d.seed is not None}
        if not blind:
            continue
        held = _one(blind)
        filters = [by for by, d in said.items() if d.by_filter and d.decision == "drop"]
        if held.state == OPEN:
            unsettled += 1
            continue
        relabelled += bool(filters) and held.state == "relabel"
        for name in [*filters, "dropped"] if filters else ["kept"]:
            trials[name] += 1
            hits[name] += held.state == ("keep" if filters else "drop")
    found = {name: wilson(hits[name], trials[name]) for name in sorted(trials)}
    dropped, kept = found.pop("dropped", None), found.pop("kept", None)
    return Audit(found, dropped, kept, relabelled, unsettled)


def _one(said: Mapping[str, Decision]) -> Held:
    by, what = tuple(sorted(said)), {_said(d) for d in said.values()}
    if len(what) > 1:
        return Held(OPEN, None, by)
    decision, label = what.pop()
    return Held(decision, label, by)


def _said(d: Decision) -> tuple[str, str | None]:
    return d.decision, d.label


def _pair(one: str, other: str, both: Counter[tuple[tuple[str, str | None], tuple[str, str | None]]], *, seed: int) -> Agreement:
    what = sorted({w for pair in both for w in pair}, key=lambda w: (w[0], w[1] or ""))
    place = {w: k for k, w in enumerate(what)}
    table = np.zeros((len(what), len(what)), dtype=np.int64)
    for (a, b), count in both.items():
        table[place[a], place[b]] = count
    n = int(table.sum())
    found = kappa(table, seed=seed)
    note = "" if found else "both gave every image the same answer: agreement beyond chance cannot be told"
    return Agreement(one, other, n, wilson(int(np.trace(table)), n), found, note)


def _bootstrap(table: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Kappa of DRAWS tables of n images drawn with replacement, float64; draws where it is not defined are left out."""
    a, b = np.nonzero(table)
    rng = np.random.default_rng(seed_of("kappa", seed))
    counts = rng.multinomial(n, table[a, b] / n, size=DRAWS) / n  # [draws, cells]
    same = counts[:, a == b].sum(axis=1)
    rows, columns = (np.zeros((DRAWS, len(table))) for _ in range(2))
    for cell, (i, j) in enumerate(zip(a, b, strict=True)):
        rows[:, i] += counts[:, cell]
        columns[:, j] += counts[:, cell]
    chance = (rows * columns).sum(axis=1)
    fine = chance < 1 - 1e-12
    return (same[fine] - chance[fine]) / (1 - chance[fine])
