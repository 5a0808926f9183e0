"""What a set of synthetic images gives away of the images its generator was trained on: attacks, distances beside their floors, a verdict.

The verdict is an attack's. `leaks`: it beats chance. `no leak found`: it does not, and the smallest AUC it would have seen four times
out of five is told, since 50 images hide what 1,000 show. `not measured`: there is no hold-out, too few images, or a hold-out that can be
told from the training images without any model. Distances are told beside it and decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mitate.metrics import leakage, membership
from mitate.metrics.audit import Bound
from mitate.metrics.intervals import Interval
from mitate.metrics.leakage import DataCopying
from mitate.metrics.line import Line
from mitate.metrics.membership import Attack, Blind, OnClassifier
from mitate.score import Metric

Code = Literal["leaks", "no leak found", "not measured"]
BLIND = 0.01  # p below which a hold-out is another sort of images than the training set
NO_LOSS, NO_MODEL = "no loss of the images was given", "no attack on a model was given"
LOSS_METRICS = (membership.LOSS_AUC, membership.LOSS_CAUGHT)
MODEL_METRICS = (membership.LIRA_AUC, membership.LIRA_CAUGHT, membership.THRESHOLD_AUC)


@dataclass(frozen=True)
class Verdict:
    """Whether an attack beats chance, and what could have been seen."""

    state: Code
    why: str
    attack: str = ""  # the attack, or audit, that it rests on
    p: float | None = None  # one-sided, with Bonferroni over attacks
    smallest_auc: float | None = None  # that would have been seen four times out of five
    advantage: float | None = None  # the same as 2 AUC - 1, 0 to 1

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return {"state": self.state, "why": self.why, "attack": self.attack, "p": self.p, "smallest_auc": self.smallest_auc, "advantage": self.advantage}


@dataclass(frozen=True)
class Privacy:
    """All that features tell of a synthetic set's privacy. None: not measured, and `notes` says why, by the metric's name."""

    verdict: Verdict
    ratio: Attack | None  # on the images; always in the verdict
    near: Attack | None
    votes: Attack | None
    loss: Attack | None  # on the generator; in the verdict where it was made
    model: OnClassifier | None  # on a model trained on the images; its LiRA is in the verdict where it was made
    blind: Blind | None
    nearer: Interval | None  # 0.5 is no leak
    distance_ratio: Interval
    distance_ratio_floor: Interval | None
    authenticity: Interval
    authenticity_floor: Interval | None
    data_copying: DataCopying | None
    copies: int  # synthetic images at distance 0 from a training image
    shared: int | None  # held-out images at distance 0 from a training image
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every measure in the order in which it is read: the attacks first."""
        ratio, near, votes, loss, copying = self.ratio, self.near, self.votes, self.loss, self.data_copying
        lira, threshold = (self.model.lira, self.model.threshold) if self.model else (None, None)
        rows: list[tuple[Metric, Interval | None, Interval | None]] = [
            (membership.RATIO_AUC, ratio.auc if ratio else None, CHANCE),
            (membership.CAUGHT_1_IN_100, ratio.at_1_in_100.caught if ratio and ratio.at_1_in_100 else None, _exactly(0.01)),
            (membership.CAUGHT_1_IN_1000, ratio.at_1_in_1000.caught if ratio and ratio.at_1_in_1000 else None, _exactly(0.001)),
            (membership.AUC, near.auc if near else None, CHANCE),
            (membership.VOTES_AUC, votes.auc if votes else None, CHANCE),
            (membership.LOSS_AUC, loss.auc if loss else None, CHANCE),
            (membership.LOSS_CAUGHT, loss.at_1_in_100.caught if loss and loss.at_1_in_100 else None, _exactly(0.01)),
            (membership.LIRA_AUC, lira.auc if lira else None, CHANCE),
            (membership.LIRA_CAUGHT, lira.at_1_in_100.caught if lira and lira.at_1_in_100 else None, _exactly(0.01)),
            (membership.THRESHOLD_AUC, threshold.auc if threshold else None, CHANCE),
            (leakage.NEARER, self.nearer, CHANCE),
            (leakage.DISTANCE_RATIO, self.distance_ratio, self.distance_ratio_floor),
            (leakage.AUTHENTICITY, self.authenticity, self.authenticity_floor),
            (leakage.C_T, copying.value if copying else None, _exactly(0.0)),
        ]
        return tuple(Line(m, value, floor if value else None, self.notes.get(m.name, "")) for m, value, floor in rows)


def privacy_of(
    synthetic: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray | None,
    *,
    seed: int,
    views: np.ndarray | None = None,
    groups_train: np.ndarray | None = None,
    groups_held_out: np.ndarray | None = None,
    loss: tuple[np.ndarray, np.ndarray] | str = NO_LOSS,
    model: OnClassifier | str = NO_MODEL,
    confidence: float = 0.95,
) -> Privacy:
    """Attacks, distances beside their floors and the verdict for a set of synthetic images.

    synthetic [m, d], train [n, d], held_out [h, d] or None: float32 or float64 features of one extractor; train are the images that the
    generator was fitted on, held_out others drawn in the same way that it never saw. views [v, d]: features of the synthetic images flipped and
    shifted (`membership.views`), which attacks look at too. groups: int [n] and [h], images of one patient or plant.
    loss: scores [n] and [h] by the generator's own loss (`membership.loss_scores`), model: an attack on a model trained on the images; or why
    there is none. What is given is in the verdict, so give it because it was planned, not because of what it shows.

    Raises ValueError below 10 synthetic or training images, on groups that are on both sides, or features that do not fit; without a hold-out or
    with fewer than 10 images in it the record says "not measured" and keeps what needs none.
    """
    found = leakage.reach(synthetic, train)
    ratio, authentic = leakage.distance_ratio(found, confidence=confidence), leakage.authenticity(found, train, confidence=confidence)
    copies = int((found.first == 0).sum())
    if held_out is None or (why := _why_not(held_out, groups_train, groups_held_out)):
        why = why if held_out is not None else "needs held-out real images that the generator never saw, has none"
        notes = {metric.name: why for metric in NEED_HELD_OUT}
        return Privacy(Verdict("not measured", why), None, None, None, None, None, None, None, ratio, None, authentic, None, None, copies, None, notes)
    fresh = leakage.reach(held_out, train)
    scores = membership.sample_scores(train, held_out, synthetic, views=views, groups_train=groups_train, groups_held_out=groups_held_out)

    def judged(name: str, of: tuple[np.ndarray, np.ndarray]) -> Attack:
        return membership.attack(name, *of, groups_members=groups_train, groups_others=groups_held_out, confidence=confidence)

    first = judged("ratio", scores.ratio)
    by_loss = None if isinstance(loss, str) else judged("loss", loss)
    on_model = None if isinstance(model, str) else model
    attacks = [first, *([by_loss] if by_loss else []), *([on_model.lira] if on_model else [])]
    notes = first.notes | _notes(LOSS_METRICS, loss if isinstance(loss, str) else by_loss)
    notes |= _notes(MODEL_METRICS, model if isinstance(model, str) else model.lira)
    blind = membership.told_apart(train, held_out, seed=seed, groups_train=groups_train, groups_held_out=groups_held_out)
    copying = leakage.data_copying(synthetic, train, held_out, seed=seed, confidence=confidence)
    return Privacy(
        verdict(attacks, blind=blind, copies=copies, confidence=confidence),
        ratio=first,
        near=judged("near", scores.near),
        votes=judged("votes", scores.votes),
        loss=by_loss,
        model=on_model,
        blind=blind,
        nearer=leakage.nearer_to_train(
            synthetic, train, held_out, seed=seed, groups_train=groups_train, groups_held_out=groups_held_out, confidence=confidence
        ),
        distance_ratio=ratio,
        distance_ratio_floor=leakage.distance_ratio(fresh, confidence=confidence),
        authenticity=authentic,
        authenticity_floor=leakage.authenticity(fresh, train, confidence=confidence),
        data_copying=copying,
        copies=copies,
        shared=int((fresh.first == 0).sum()),
        notes=notes | ({leakage.C_T.name: copying.note} if copying.value is None else {}),
    )


def verdict(attacks: Sequence[Attack] = (), *, bounds: Sequence[Bound] = (), blind: Blind | None = None, copies: int = 0, confidence: float = 0.95) -> Verdict:
    """`leaks` where one of the attacks or audits beats chance, `no leak found` with what could have been seen, or `not measured` and why.

    Each has a one-sided p, which times their number (Bonferroni) is compared with (1 - confidence) / 2, as the low end of an interval would be. The
    first that beats chance is told, in the order given; else that of the smallest p. Name the attacks before looking: those left out after a look
    are not counted. blind: attacks, but not audits with their own coins,
    say nothing where training and held-out images differ by themselves. copies: synthetic images that equal a training image; they are told and
    decide nothing.
    """
    beside = f"; {copies} synthetic images equal a training image in these features: look at them" if copies else ""
    apart = blind is not None and blind.p < BLIND
    usable = [] if apart else list(attacks)
    found = [(a.p, a.name, _told(a)) for a in usable] + [(b.p, "audit", _told_bound(b)) for b in bounds]
    if not found:
        why = "no attack was made"
        if apart and blind is not None:
            why = f"held-out and training images can be told apart without the generator (p = {blind.p:.3g}); split them at random"
        return Verdict("not measured", why + beside)
    spill = (1 - confidence) / 2
    one, name, told = next((f for f in found if len(found) * f[0] <= spill), min(found))
    p = min(1.0, len(found) * one)
    least = min((a.smallest_auc(tests=len(found)) for a in usable), default=None)
    advantage = None if least is None else 2 * least - 1
    if p <= spill:
        return Verdict("leaks", told + beside, name, p, least, advantage)
    if least is None:
        could = f"an attack that always guesses right would have shown an epsilon of {max(b.most for b in bounds):.3g}"
    else:
        could = f"an AUC of {least:.3g} or more would have been seen four times out of five"
    return Verdict("no leak found", could + beside, name, p, least, advantage)


def _why_not(held_out: np.ndarray, groups_train: np.ndarray | None, groups_held_out: np.ndarray | None) -> str:
    """Why nothing can be attacked with this hold-out; empty where it can."""
    if len(held_out) < leakage.LEAST:
        return f"needs {leakage.LEAST} held-out images, has {len(held_out)}"
    counts = [len(np.unique(groups)) for groups in (groups_train, groups_held_out) if groups is not None]
    return f"needs two groups on either side, has {min(counts)}" if counts and min(counts) < 2 else ""


def _exactly(value: float) -> Interval:
    return Interval(value, value, value, 0)


CHANCE = _exactly(0.5)
ON_FEATURES = frozenset(
    metric.name
    for metric in (
        *(membership.RATIO_AUC, membership.CAUGHT_1_IN_100, membership.CAUGHT_1_IN_1000, membership.AUC, membership.VOTES_AUC),
        *(leakage.NEARER, leakage.DISTANCE_RATIO, leakage.AUTHENTICITY, leakage.C_T),
    )
)
NEED_HELD_OUT = (
    *(membership.RATIO_AUC, membership.CAUGHT_1_IN_100, membership.CAUGHT_1_IN_1000, membership.AUC, membership.VOTES_AUC),
    *(*LOSS_METRICS, *MODEL_METRICS, leakage.NEARER, leakage.C_T),
)


def _notes(metrics: Sequence[Metric], found: Attack | str | None) -> dict[str, str]:
    """Why the rows of one attack have no value: no attack was made, or too few non-members for those caught."""
    if isinstance(found, str):
        return {metric.name: found for metric in metrics}
    few = found.notes.get(membership.CAUGHT_1_IN_100.name) if found else None
    return {metrics[1].name: few} if few else {}


def _told(attack: Attack) -> str:
    auc, caught, false = attack.auc, attack.surest.caught, attack.surest.false
    above = f"{round(caught.value * caught.n)} of {caught.n} training images lie above all but {round(false.value * false.n)} of {false.n} held-out ones"
    return f"{attack.name}: AUC {auc.value:.3g} [{auc.low:.3g}, {auc.high:.3g}] (chance 0.5); {above}"


def _told_bound(bound: Bound) -> str:
    return f"audit: epsilon is at least {bound.epsilon.low:.3g} ({bound.rule})"
