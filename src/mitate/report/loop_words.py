"""How loops are told in one language: indicators, changes, prices, captions, and the reasons of the alarm."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mitate.loops.advice import INSTEAD, LEADING, Estimate, Price
from mitate.loops.losses import SHARES, Loss
from mitate.report.numbers import say_count
from mitate.report.told import Told

HIGHER = frozenset({*SHARES, "alignment", "survival", "precision", "density", "caption_found", "image_found", "faithful", "understood"})
LOWER = frozenset({"drift", "class_drift", "image_drift", "caption_drift", "caption_tv", "caption_kl", "image_w2", "kernel_distance", "frechet", "self_bleu"})
REASONS = (  # of mitate.loops.alarm, in the order in which they are tried
    ("moved", re.compile(r"(?P<name>\S+) moved, which it never does in null runs")),
    ("low", re.compile(r"(?P<name>\S+) (?P<value>\S+) is under its limit (?P<limit>\S+)")),
    ("joint", re.compile(r"all together (?P<share>\S+) of the limit")),
    ("up", re.compile(r"(?P<name>\S+) up (?P<sd>\S+) sd")),
    ("down", re.compile(r"(?P<name>\S+) down (?P<sd>\S+) sd")),
    ("before", re.compile(r"stopped before")),
)


class Spoken(Told):
    """The words of loops."""

    def sentences(self, a: str, b: str) -> str:
        return self.w("volume.sentences", a=a, b=b)

    def indicator(self, name: str) -> str:
        """An indicator's name; one that is not known here stays as it is."""
        return self.w.get(f"loops.ind.{name}", name)

    def better(self, name: str) -> str:
        return self.w("compare.higher") if name in HIGHER else self.w("compare.lower") if name in LOWER else self.w("loops.neither")

    # changes ----------------------------------------------------------------------------------------------------------

    def loss(self, loss: Loss, *, signed: bool) -> str:
        """`48 % of its different captions (95 % interval 40 to 56)`; signed: `different captions −48 % (...)`."""
        e, unit = loss.estimate, "points" if loss.share else "percent"
        name = self.indicator(loss.indicator)
        if signed:
            value, span = self.change(loss)
            return self.w("loops.part.signed", name=name, value=value, span=self._bracket(span))
        sign = -1 if e.value < 0 else 1
        low, high = (self._number(sign * v) for v in (e.low if sign > 0 else e.high, e.high if sign > 0 else e.low) if v is not None)
        return self.w(f"loops.part.{unit}", name=name, value=self._number(sign * e.value), span=self._bracket(self._ends(low, high)))

    def change(self, loss: Loss) -> tuple[str, str]:
        """The signed change from generation 1 to the last with its unit, and its interval."""
        e = loss.estimate
        value = self.w("loops.points" if loss.share else "loops.percent", value=self.signed(-e.value))
        return value, "" if e.low is None or e.high is None else self._ends(self.signed(-e.high), self.signed(-e.low))

    def avoided(self, e: Estimate, indicator: str) -> tuple[str, str]:
        """Damage, or damage avoided, with its unit, and the interval."""
        value = self.w("loops.points" if indicator in LEADING else "loops.percent", value=self.signed(e.value))
        return value, "" if e.low is None or e.high is None else self._ends(self.signed(e.low), self.signed(e.high))

    def signed(self, value: float) -> str:
        """100 times a share with its sign, one decimal."""
        text = f"{100 * value:+.1f}".replace("-", "−")
        return "0.0" if text in ("+0.0", "−0.0") else text

    def _number(self, value: float) -> str:
        return f"{100 * value:.1f}".replace("-", "−")

    def _ends(self, low: str, high: str) -> str:
        return self.w("loops.interval", confidence=self._confidence(0.95), low=low, high=high)

    def _bracket(self, span: str) -> str:
        return self.w("loops.bracket", span=span) if span else ""

    def damage(self, indicator: str) -> str:
        """What damage on an indicator is."""
        return self.w("loops.damage.variance" if indicator == INSTEAD else "loops.damage.share", name=self.indicator(indicator))

    # prices -----------------------------------------------------------------------------------------------------------

    def price(self, price: Price) -> list[str]:
        found = [self.w("loops.price.evaluations", n=self.count(price.evaluations))]
        found += [self.w("loops.price.real", n=self.count(price.real))] if price.real else [self.w("loops.price.no_real")]
        found += [self.w("loops.price.human", n=self.count(price.human))] if price.human else []
        return [*found, self.w("loops.price.learnt", n=self.count(price.learnt))] if price.learnt else found

    def extra(self, price: Price, reference: Price) -> str:
        """What is dearer than in the reference, and what is cheaper."""
        parts = []
        for key in ("real", "human", "evaluations", "learnt"):
            one, other = getattr(price, key), getattr(reference, key)
            if abs(one - other) > 1e-9 * max(1.0, abs(other)):
                parts.append(self.w(f"loops.price.{key}_than", n=self.count(one), other=self.count(other)))
        return self._join(parts) or self.w("loops.price.same")

    def count(self, value: float) -> str:
        return say_count(round(value, 6))

    # captions and reasons ---------------------------------------------------------------------------------------------

    def namer(self, ground: Mapping[str, Any]) -> Callable[[object], str]:
        """How a caption of this ground is written: words as they are, numbers as kind and wording, class name, or number."""
        wordings = _wordings(ground)
        names = ground["settings"].get("named")
        classes = [str(name) for name in names] if isinstance(names, list) else []

        def name(caption: object) -> str:
            if not isinstance(caption, (int, np.integer)):
                return str(caption)
            number = int(caption)
            if wordings:
                return self.w("loops.wording", kind=str(number // wordings), wording=str(number % wordings))
            return classes[number] if 0 <= number < len(classes) else self.w("loops.class", n=str(number))

        return name

    def kinds(self, ground: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray] | None:
        """Kinds of number captions, for the shapes of points; None where captions are text."""
        wordings = _wordings(ground)
        return (lambda captions: captions // wordings) if wordings else None

    def reason(self, text: str) -> str:
        """A reason of the alarm in this language; one that is not known here stays as it is."""
        for key, form in REASONS:
            if found := form.fullmatch(text):
                values = found.groupdict()
                return self.w(f"loops.reason.{key}", **{k: self.indicator(v) if k == "name" else v for k, v in values.items()})
        return text


def _wordings(ground: Mapping[str, Any]) -> int:
    """Wordings of a kind in the toy world; 0 elsewhere."""
    world = ground["settings"].get("world")
    found = world.get("wordings") if isinstance(world, Mapping) else None
    return found if isinstance(found, int) and found > 0 else 0
