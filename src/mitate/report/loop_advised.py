"""Loops beside each other on their page: what each avoids of the first one's damage, at what price, and what to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mitate.loops.advice import Advice, Outcome, compare
from mitate.report.loop_run import LoopRun
from mitate.report.loop_words import Spoken
from mitate.report.numbers import say_count, say_flat, say_p
from mitate.report.told import Told

Text = tuple[str, str]  # a value with its unit, and its interval
NONE: Text = ("–", "")


@dataclass(frozen=True)
class Cell:
    """An arm on one indicator: its damage, what it avoids at the end and on average, Holm's p; texts."""

    damage: Text
    last: Text = NONE
    p: str = ""
    area: Text = NONE


@dataclass(frozen=True)
class Against:
    """An arm as the page shows it, with a cell for each indicator; texts."""

    name: str
    what: str
    chains: str
    cells: tuple[Cell, ...]
    price: str
    tag: str
    tone: str
    advised: bool


class Advised(Told):
    """The comparison. runs: the first is what the others are compared with."""

    def __init__(self, runs: Sequence[LoopRun], spoken: Spoken) -> None:
        super().__init__(spoken.w)
        self.runs, self.spoken = list(runs), spoken

    @cached_property
    def names(self) -> list[str]:
        """A name for each run: its folder's, with the folder above it where two are alike."""
        short = [run.name for run in self.runs]
        if len(set(short)) == len(short):
            return short
        long = ["/".join(run.folder.resolve().parts[-2:]) for run in self.runs]
        return long if len(set(long)) == len(long) else [f"{name} ({k})" for k, name in enumerate(long, 1)]

    @cached_property
    def advice(self) -> Advice | None:
        """None for a run alone."""
        if len(self.runs) < 2:
            return None
        first, *others = (run.arm(name) for run, name in zip(self.runs, self.names, strict=True))
        return compare(first, others)

    @property
    def advised(self) -> str:
        """What to take and its price, or that it cannot be told."""
        advice = self.advice
        assert advice is not None
        code = advice.code.replace(" ", "_")
        if advice.arm is None:
            return self.w(f"loops.advice.{code}", reference=advice.reference)
        own = [o for o in advice.outcomes if o.arm == advice.arm]
        parts = self._join(self._avoids(o) for o in own)
        k = self.names.index(advice.arm)
        price = self.spoken.extra(self.runs[k].price, self.runs[0].price)
        return self.w("loops.advice.recommend", arm=advice.arm, t=say_count(advice.generation), parts=parts, reference=advice.reference, price=price)

    def _avoids(self, outcome: Outcome) -> str:
        value, span = self.spoken.avoided(outcome.last, outcome.indicator)
        return self.w("loops.part.signed", name=self.spoken.indicator(outcome.indicator), value=value, span=self.w("loops.bracket", span=span) if span else "")

    @property
    def indicators(self) -> list[str]:
        """What arms are judged by, named."""
        return [self.spoken.indicator(name) for name in self.advice.indicators] if self.advice is not None else []

    @property
    def damages(self) -> str:
        """What damage is on each of them."""
        return self._join(self.spoken.damage(name) for name in self.advice.indicators) if self.advice is not None else ""

    @cached_property
    def against(self) -> list[Against]:
        advice = self.advice
        if advice is None:
            return []
        cells = tuple(Cell(self.spoken.avoided(estimate, name)) for name, estimate in advice.damage)
        what, price = self.w("loops.reference"), self._join(self.spoken.price(self.runs[0].price))
        first = Against(advice.reference, what, say_count(advice.damage[0][1].chains), cells, price, "", "", False)
        return [first, *(self._against(advice, k) for k in range(1, len(self.runs)))]

    def _against(self, advice: Advice, k: int) -> Against:
        run, name = self.runs[k], self.names[k]
        own = [o for o in advice.outcomes if o.arm == name]
        cells = tuple(self._cell(o) for o in own) or (Cell(NONE),) * len(advice.indicators)
        what = ", ".join(f"{key} {say_flat(value)}" for key, value in run.differs(self.runs[0]).items()) or self.w("loops.same_dials")
        chains = say_count(own[0].last.chains) if own else "0"
        price = self.spoken.extra(run.price, self.runs[0].price)
        return Against(name, what, chains, cells, price, *self._tag(advice, k), advised=name == advice.arm)

    def _cell(self, o: Outcome) -> Cell:
        own, last, area = (self.spoken.avoided(e, o.indicator) for e in (o.damage, o.last, o.area))
        return Cell(own, last, "" if o.p_holm is None else say_p(o.p_holm), area)

    def _tag(self, advice: Advice, k: int) -> tuple[str, str]:
        """Word and colour: advised, floor, worse, helps, cannot tell (not dominated, or dominated)."""
        name = self.names[k]
        own = [o for o in advice.outcomes if o.arm == name]
        if name == advice.arm:
            return self.w("loops.tag.advised"), "ok"
        if self.runs[k].loop.policy == "real":
            return self.w("loops.tag.floor"), "unsure"
        if any(o.hurts for o in own):
            return self.w("loops.tag.hurts"), "bad"
        if name in advice.helping:
            return self.w("loops.tag.helps"), "ok"
        return self.w("loops.tag.frontier" if name in advice.frontier else "loops.tag.dominated"), "unsure"
