"""The record in the report: cost, what was not measured, the legal checklist, and how it all was made."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mitate import codec
from mitate.errors import MitateError
from mitate.report import charts
from mitate.report.arms import Arms, Plot
from mitate.report.numbers import as_list, as_mapping, as_number, say_count, say_digits, say_flat, say_version
from mitate.report.pictures import Pictures
from mitate.report.rules import Rules

MARK_CHECKED = 5_000  # files of synthetic/ that are read for the mark
SHOWN_SCORES = 120  # rows of the score table


class Record(Arms, Pictures, Rules):
    """Everything that somebody who doubts the answer asks for."""

    @property
    def cost_line(self) -> list[str]:
        """The cost in the few words of the page's first part."""
        parts = []
        if (seconds := as_number(self.cost.get("machine_seconds"))) is not None:
            parts.append(self.w("count.machine", time=self.duration(seconds)))
        if (images := as_number(self.cost.get("synthetic_images"))) is not None:
            parts.append(self.w("count.synthetic", n=say_count(images)))
        if money := self.money(self.prices.get("machine")):
            parts.append(money)
        return parts or [self.missing("")]

    @property
    def cost_verbs(self) -> list[tuple[str, str]]:
        seconds = {str(k): as_number(v) for k, v in as_mapping(self.cost.get("seconds")).items()}
        rows = sorted(((k, v) for k, v in seconds.items() if v is not None), key=lambda row: -row[1])
        return [(self.w.get(f"verb.{verb}", verb), self.duration(value)) for verb, value in rows]

    @property
    def cost_totals(self) -> list[tuple[str, str]]:
        rows = []
        for key, label in (("machine_seconds", "cost.machine"), ("wall_seconds", "cost.wall"), ("reused_seconds", "cost.reused")):
            value = as_number(self.cost.get(key))
            rows.append((self.w(label), self.missing("") if value is None else self.duration(value)))
        images = as_number(self.cost.get("synthetic_images"))
        rows.append((self.w("cost.images"), self.missing("") if images is None else self.w("count.images", n=say_count(images))))
        rows.append((self.w("cost.money"), self.money(self.prices.get("machine")) or self.missing(self.w("cost.no_price"))))
        return rows

    @property
    def not_measured(self) -> list[tuple[str, str]]:
        rows: dict[str, str] = {}
        for facts in map(as_mapping, as_list(self.decision.get("not_measured"))):
            rows.setdefault(self._say(facts, "what", "what"), self._say(facts, "why", "why") or self.w("missing.why"))
        for what, why in self._scores_not_measured():
            rows.setdefault(what, why)
        if self.cost.get("money") is None:
            rows.setdefault(self.w("missing.money"), self.w("cost.no_price"))
        return list(rows.items())

    def _scores_not_measured(self) -> list[tuple[str, str]]:
        """(score, why) of scores without a value."""
        missing = (score for score in self.scores if as_number(score.get("value")) is None)
        return [(f"{score.get('metric')} · {score.get('subject')}", self._say(score, "note", "note") or self.w("missing.why")) for score in missing]

    @property
    def legal(self) -> list[tuple[str, list[str]]]:
        """(what to tick, what is known)."""
        w = self.w
        data = as_mapping(self.study.get("data"))
        return [
            (w("legal.licence"), [self._named(data.get("licences"), "legal.licence")]),
            (w("legal.consent"), [self._named(data.get("consents"), "legal.consent")]),
            (w("legal.generator"), [w("legal.generator_other" if g.startswith("folder") else "legal.generator_own", name=g) for g in self._generators()]),
            (w("legal.copies"), [w("legal.copies_note", gate=w("gate.copies"))]),
            (w("legal.mark"), [self._marks()]),
            (w("legal.act"), [w("legal.act_note")]),
            (w("legal.style"), [w("legal.style_note")]),
        ]

    def _named(self, found: Any, key: str) -> str:
        if isinstance(found, Mapping):
            names = [f"{name} ({say_count(n)})" if (n := as_number(count)) is not None else str(name) for name, count in found.items()]
        else:
            names = [str(name) for name in as_list(found)]
        return self.w(f"{key}_known", names=self._join(names)) if names else self.w(f"{key}_unknown")

    def _generators(self) -> list[str]:
        names = [str(arm["generator"]) for arm in self.arms if arm.get("generator")]
        names += [gallery.generator for gallery in self.galleries]
        return list(dict.fromkeys(names))

    def _marks(self) -> str:
        folder = self.run.folder / "synthetic"
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in codec.SUFFIXES and p.is_file())[:MARK_CHECKED] if folder.is_dir() else []
        if not files:
            return self.w("legal.mark_none")
        needle = codec.SOURCE_TYPE.encode()
        marked = sum(needle in p.read_bytes() for p in files)
        return self.w("legal.mark_checked", marked=say_count(marked), n=say_count(len(files)))

    @property
    def splits(self) -> list[tuple[str, str, str]]:
        """(split, images, digest)."""
        digests = as_mapping(as_mapping(self.study.get("data")).get("digests"))
        return [(self.w.get(f"split.{name}", name), say_count(n), str(digests.get(name) or "")) for name, n in self._split_sizes().items()]

    @property
    def per_class(self) -> str:
        """Training images of each class, or the range where the classes are many."""
        found = {str(k): n for k, v in as_mapping(as_mapping(self.study.get("data")).get("per_class")).items() if (n := as_number(v)) is not None}
        if len(found) > 20:
            return self.w("how.range", classes=say_count(len(found)), low=say_count(min(found.values())), high=say_count(max(found.values())))
        return self._join(f"{k} {say_count(n)}" for k, n in found.items())

    @property
    def findings(self) -> list[str]:
        found = as_mapping(self.study.get("data")).get("findings")
        if isinstance(found, Mapping):
            found = [f"{k}: {say_flat(v)}" for k, v in found.items() if v]
        out = []
        for facts in as_list(found):
            if isinstance(facts, Mapping):
                out.append(self._say(facts, "message", "finding") or say_flat(facts))
            else:
                out.append(str(facts))
        return out

    @property
    def facts(self) -> list[tuple[str, str]]:
        m = self.machine
        packages = {"python": m.get("python"), **as_mapping(m.get("packages"))}
        nothing = self.w("missing.recorded")
        reused = sum(job.get("reused") is True for job in self.jobs)
        opening = self._optional("opening.json")
        look = as_number(opening.get("look"))
        if look is None and self.looks_used:
            look = self.looks_used
        return [
            (self.w("how.system"), str(m.get("system") or nothing)),
            (self.w("how.processor"), str(m.get("processor") or nothing)),
            (self.w("how.cores"), say_count(as_number(m.get("cores"))) if m.get("cores") else nothing),
            (self.w("how.packages"), ", ".join(f"{k} {v}" for k, v in packages.items() if v) or nothing),
            (self.w("how.jobs"), self.w("how.jobs_value", n=say_count(len(self.jobs)), reused=say_count(reused)) if self.jobs else nothing),
            (self.w("how.opened"), self.w("how.opened_value", look=say_count(look)) if look else self.w("how.opened_never")),
            (self.w("how.study"), self._study_digest()),
        ]

    def _study_digest(self) -> str:
        try:
            return self.run.study.digest
        except (MitateError, TypeError, ValueError):
            return self.w("missing.recorded")

    @property
    def command(self) -> str:
        command = self.machine.get("command")
        if isinstance(command, (list, tuple)):
            return shlex.join(str(part) for part in command)
        return str(command) if command else ""

    @property
    def sizes(self) -> list[tuple[str, str]]:
        return [(str(k), say_flat(v)) for k, v in as_mapping(self.study.get("sizes")).items() if v is not None]

    @property
    def score_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """(metric, subject, value with interval, n, floor, features) of measured scores."""
        rows = []
        for score in self.scores[:SHOWN_SCORES]:
            value, floor, n = (as_number(score.get(key)) for key in ("value", "floor", "n"))
            if value is None:
                text = self.missing(self._say(score, "note", "note"))
            else:
                span = self._span(score, say_digits)
                text = f"{say_digits(value)} [{span}]" if span else say_digits(value)
            axis = self.w.get(f"axis.{score.get('axis')}", str(score.get("axis") or ""))
            rows.append((
                f"{score.get('metric')} · {axis}", str(score.get("subject") or ""), text, "–" if n is None else say_count(n),
                "–" if floor is None else say_digits(floor), str(score.get("features") or "–")[:8],
            ))  # fmt: skip
        return rows

    @property
    def scores_note(self) -> str:
        n = len(self.scores)
        return self.w("how.scores_more", shown=say_count(SHOWN_SCORES), n=say_count(n)) if n > SHOWN_SCORES else ""

    @cached_property
    def fit_plots(self) -> list[Plot]:
        """Loss on the selection split of every fit, a plot a generator. Fits are the jobs whose facts hold a curve and whose verb is fit."""
        lines: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
        for job in self.jobs:
            facts = as_mapping(job.get("facts"))
            curve = [p for p in as_list(facts.get("curve")) if isinstance(p, list) and len(p) == 2 and all(as_number(v) is not None for v in p)]
            if job.get("verb") == "fit" and curve:
                name = str(facts.get("generator") or facts.get("kind") or str(job.get("name") or "").rsplit("/", 1)[-1])
                lines.setdefault(name, []).append((str(job.get("name") or ""), [(float(a), float(b)) for a, b in curve]))
        plots = []
        for name, fits in lines.items():
            title = self.w("how.curve_title", name=name)
            across, up, best = self.w("how.curve_across"), self.w("how.curve_up"), self.w("how.curve_best")
            wide = charts.curves(fits, width=460, title=title, across=across, up=up, best=best)
            if wide:
                plots.append(Plot(title, wide, charts.curves(fits, width=charts.NARROW, title=title, across=across, up=up, best=best)))
        return plots

    @property
    def glossary(self) -> list[tuple[str, str]]:
        terms = ("points", "interval", "arm", "baseline", "candidate", "exploratory", "replicate", "split", "copy", "worthwhile")
        rows = [(self.measure, self.measure_text)]
        rows += [(self.w(f"term.{t}"), self.w(f"term.{t}.text")) for t in terms if t != "points" or self.in_points]
        return rows

    @property
    def arm_glossary(self) -> list[tuple[str, str]]:
        """Every arm of this run by its typed name, once."""
        names = dict.fromkeys(str(arm.get("name") or "") for arm in self.arms)
        return [(name, plain) for name in names if (plain := self._plain(name))]

    @property
    def version(self) -> str:
        return str(as_mapping(self.machine.get("packages")).get("mitate") or say_version())
