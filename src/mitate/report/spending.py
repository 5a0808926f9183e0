"""Shall we pay for more? The report's part on money: what was spent stage by stage, what a next look would bring, money both ways.

Also the sentences for the meeting, which put all of it into words. A number that is not known is left out; without a price the page
speaks of time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_share
from mitate.report.part import Part
from mitate.studies.meeting import EARLY


@dataclass(frozen=True)
class Odds:
    """A next look: what it adds, what it takes, what it could see, and how it would end. odds: (class, share in percent, text)."""

    adds: str
    takes: str
    sees: str
    odds: tuple[tuple[str, str, str], ...]


class Spending(Part):
    """What more would cost and could show."""

    @property
    def pay(self) -> str:
        """The section's first sentence: yes, no, or what would help."""
        looks, step = as_mapping(self.decision.get("next_looks")), as_mapping(self.decision.get("next_step"))
        options = [as_mapping(o) for o in as_list(looks.get("options"))]
        if looks.get("futile") is True and options:
            values = {"add": say_count(as_number(options[-1].get("add"))), "chance": self._percent_of(max(map(_answer, options)))}
            to = as_number(as_mapping(looks.get("instead")).get("to"))
            return self.w("pay.futile_images", to=say_count(to), **values) if to is not None else self.w("pay.futile", **values)
        chance, add = as_number(step.get("chance")), as_number(as_mapping(step.get("values")).get("add"))
        if chance is not None and add is not None:
            return self.w("pay.more", add=say_count(add), chance=self._percent_of(chance))
        if self._early_planned is not None:
            return self.w("pay.early", after=self.duration(float(self.cost["machine_seconds"])), planned=self._about(self._early_planned))
        if step.get("code") == "looks_used_up":
            return self.w("pay.used_up")
        return self.w({"go": "pay.go", "stop": "pay.stop"}.get(self.tone, "pay.open"))

    @cached_property
    def _early_planned(self) -> float | None:
        """Seconds that the whole pilot would have taken, where it ended early."""
        took, saved = as_number(self.cost.get("machine_seconds")), as_number(self.cost.get("saved_seconds"))
        return took + saved if self.code in EARLY and took is not None and saved else None

    @property
    def spent(self) -> list[tuple[str, str, str, str]]:
        """(stage, machine time, money, what was saved by not doing all of it)."""
        rows = []
        for facts in map(as_mapping, as_list(self.cost.get("stages"))):
            stage, look = str(facts.get("stage") or ""), as_number(facts.get("look"))
            name = self.w.get(f"pay.stage.{stage}", self.w.get(f"stage.{stage}", stage))
            seconds, saved = as_number(facts.get("seconds")), as_number(facts.get("saved_seconds"))
            if look is not None and look > 1:
                name = self.w("pay.later", stage=name, look=say_count(look))
            if not facts.get("ran"):
                took = self.w("pay.not_run")
            else:
                took = self.missing("") if seconds is None else self.duration(seconds)
            price = self.money(facts.get("saved_money"))
            less = self.w("meeting.about", time=self._about(saved)) + (self.w("paren", text=price) if price else "") if saved and saved >= 1 else ""
            rows.append((name, took, self.money(facts.get("money")) if facts.get("ran") else "", less))
        if rows and (whole := as_number(self.cost.get("machine_seconds"))) is not None:
            rows.append((self.w("pay.total"), self.duration(whole), self.money(self.prices.get("machine")), ""))
        return rows

    @property
    def saved(self) -> bool:
        """Whether a stage was cut short."""
        return any(row[3] for row in self.spent)

    @property
    def next_looks(self) -> list[Odds]:
        rows = []
        for facts in map(as_mapping, as_list(as_mapping(self.decision.get("next_looks")).get("options"))):
            chance = as_mapping(facts.get("chance"))
            shares = {key: as_number(chance.get(key)) or 0.0 for key in ("go", "neither", "stop")}
            rows.append(
                Odds(
                    self.w("pay.adds", add=say_count(as_number(facts.get("add"))), replicates=say_count(as_number(facts.get("replicates")))),
                    self._takes(facts),
                    self.w("pay.sees", gain=self.amount(facts.get("detectable")), worthwhile=self.worthwhile),
                    tuple((key, f"{share * 100:.1f}", f"{self.w(f'pay.ends.{key}')} {self._percent_of(share)}") for key, share in shares.items()),
                )
            )
        return rows

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Money both ways: what the images save in labels, what they cost, and how many labels that money would have bought."""
        rows = []
        use = {str(k): n for k, v in as_mapping(self.cost.get("use")).items() if (n := as_number(v)) is not None}
        if use:
            rows.append((self.w("pay.use"), self._about(max(1.0, sum(use.values()))) + self._in_brackets(self.money(self.prices.get("use")))))
        if self._real:
            rows.append((self.w("pay.worth"), self._worth().strip() or self.w("pay.worth_unknown")))
        if (n := as_number(self.prices.get("labels"))) is not None:
            rows.append((self.w("pay.bought"), self.w("pay.under_one") if n < 1 else say_count(float(f"{n:.3g}"))))
        return rows

    @property
    def next_takes(self) -> str:
        """Time, money and chance of the next step, where known."""
        return self._takes(as_mapping(self.decision.get("next_step")))

    # the sentences for the meeting ------------------------------------------------------------------------------------

    @property
    def meeting(self) -> list[str]:
        """Two sentences to be read out: the answer and its worth; what it cost and what comes next."""
        train = self._split_sizes().get("train")
        against = self.w("meeting.against", train=say_count(train)) if train else self.w("meeting.against_plain")
        worth = self._worth("meeting.worth_mark")
        values = self._values(self.decision.get("reason_values")) | {"against": against, "worth": self._in_brackets(worth)}
        answer = self.w.get(f"meeting.{self.code}", str(self.decision.get("reason") or self.badge), values)
        step, seconds = as_mapping(self.decision.get("next_step")), as_number(self.cost.get("machine_seconds"))
        told = self._values(step.get("values"), signed=False) | {"price": self._in_brackets(self.next_takes)}
        coming = self.w.get(f"meeting.next.{step.get('code')}", self.next_step.rstrip("。."), told)
        if seconds is None:
            return [answer, self.w("meeting.next", next=self.next_step)]
        instead = "" if self._early_planned is None else self.w("meeting.instead", time=self._about(self._early_planned))
        price = self._in_brackets(self.money(self.prices.get("machine")))
        return [answer, self.w("meeting.spent", time=self.duration(seconds), money=price, instead=instead, next=coming)]

    @cached_property
    def next_step(self) -> str:
        step = as_mapping(self.decision.get("next_step"))
        fallback = str(step.get("note") or step.get("text") or "") or self.w("next.none")
        return self.w.get(f"next.{step.get('code')}", fallback, self._values(step.get("values"), signed=False))

    @cached_property
    def _real(self) -> dict[str, Any]:
        return as_mapping(self.decision.get("real_image_equivalent"))

    def _worth(self, mark: str = "") -> str:
        """What the images are worth in extra real ones, with interval and money; empty where it cannot be told. mark: word around the number."""

        def said(text: str) -> str:
            return self.w(mark, text=text) if mark else text

        status, saved = self._real.get("status"), as_mapping(self.prices.get("equivalent"))
        value, low, high = (as_number(self._real.get(k)) for k in ("value", "low", "high"))
        if status == "none":
            return said(self.w("meeting.worth_none"))
        if status == "negative":
            return self.w("meeting.worth_lost", n=_images(-high)) if high is not None and high <= -1 else self.w("meeting.worth_lost_some")
        least = low if low is not None else value
        if least is not None and (status == "more" or (status == "worth" and value is None)):  # no value: it lies beyond what was looked at
            parts = [said(self.w("meeting.worth_least", n=_images(least)))]
            labels = self.money(saved.get("low" if low is not None else "value"))
        elif status == "worth" and value is not None:
            parts = [said(self.w("meeting.worth", n=_images(value)))]
            if low is not None:
                parts.append(self.w("interval", low=_images(low), high=_images(high)) if high is not None else self.w("meeting.or_more", low=_images(low)))
            labels = self.money(saved.get("value"))
        else:
            return ""
        return self._join([*parts, self.w("meeting.labels", money=labels)] if labels else parts)

    def _takes(self, facts: Mapping[str, Any]) -> str:
        wall = as_number(facts.get("wall_seconds"))
        seconds, chance = wall if wall is not None else as_number(facts.get("seconds")), as_number(facts.get("chance"))
        parts = [] if seconds is None else [self.w("meeting.about", time=self._about(seconds))]
        parts += [price] if (price := self.money(facts.get("money"))) else []
        parts += [] if chance is None else [self.w("meeting.chance", chance=self._percent_of(chance))]
        return self._join(parts)

    def _about(self, seconds: float) -> str:
        """A length of time that is an estimate: whole minutes, where it is more than one."""
        return self.w("dur.about_min", min=f"{seconds / 60:.0f}") if 90 <= seconds < 5400 else self.duration(float(round(seconds)))

    def _in_brackets(self, text: str) -> str:
        return self.w("paren", text=text) if text else ""

    def _percent_of(self, share: float) -> str:
        return say_share(round(share, 2)).replace(" ", "\u00a0")


def _answer(option: Mapping[str, Any]) -> float:
    chance = as_mapping(option.get("chance"))
    return (as_number(chance.get("go")) or 0.0) + (as_number(chance.get("stop")) or 0.0)


def _images(number: float) -> str:
    """A number of real images: whole, and no finer than three digits."""
    return say_count(float(round(number))) if abs(number) < 1000 else say_digits(number)
