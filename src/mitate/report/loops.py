"""The page of a run of loops: what the template asks for, made from run.json, loop.jsonl, alarm.json and the chains' folders; beside it other runs.

write_page(Path("runs/loop"), beside=[Path("runs/mended")], lang="ja")          runs/loop/report.ja.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate import __version__
from mitate.files import write_text, writing
from mitate.loops.advice import LEADING
from mitate.loops.alarm import OK, STOP, WATCH
from mitate.loops.losses import SHARES, Loss, losses, verdict
from mitate.metrics.intervals import quantile_t
from mitate.report import charts
from mitate.report.arms import Plot
from mitate.report.loop_advised import Advised
from mitate.report.loop_drawn import Course, course
from mitate.report.loop_run import LoopRun, flat, same_question
from mitate.report.loop_shown import Column, columns, said
from mitate.report.loop_words import Spoken
from mitate.report.numbers import say_count, say_digits, say_flat
from mitate.report.template import read_from, render
from mitate.report.words import load
from mitate.settings import plain

TONES = {"collapse": "stop", "alarm": "stop", "holds": "go"}  # all others: more
TAGS = {OK: "ok", WATCH: "unsure", STOP: "bad"}
FIRST = (*LEADING, "variance", "distinct", "alignment")  # curves that are shown at once
BOUNDED = frozenset({*SHARES, "survival", "drift", "attribute", "caption_tv", "caption_variance", "precision", "disagreement"})  # 0 to 1
SHOWN_RUNS = 4  # whose pictures are shown


def write_page(folder: Path, *, beside: Sequence[Path] = (), lang: str = "en", out: Path | None = None) -> Path:
    """Write the page of a run of loops and return where it is: report.html, or report.ja.html, in its folder.

    beside: folders of other loops of the same ground and n, which are compared with it. The bytes follow from the folders and the language alone.
    DataError for folders without loops, SettingError for loops that cannot be compared.
    """
    words = load(lang)
    with read_from(folder):
        runs = [LoopRun(one) for one in (folder, *beside)]
        same_question(runs)
        text = render("loops.html.j2", page=LoopPage(runs, Spoken(words)), w=words)
    path = out or folder / ("report.html" if lang == "en" else f"report.{lang}.html")
    with writing(path):
        write_text(path, text)
    return path


@dataclass(frozen=True)
class Sheet:
    """What a chain of a run made. columns: empty where it cannot be shown, `why` then says why."""

    run: str
    chain: str
    columns: tuple[Column, ...]
    why: str = ""


@dataclass(frozen=True)
class Watched:
    """A chain under the alarm: (state, its tag) by generation; first STOP, reasons, where to go back to."""

    chain: str
    states: tuple[tuple[str, str], ...]
    stop: str
    reasons: str
    back: str


class LoopPage(Advised):
    """What the template of a run of loops asks for."""

    def __init__(self, runs: Sequence[LoopRun], spoken: Spoken) -> None:
        super().__init__(runs, spoken)
        self.run, self.version = runs[0], __version__
        self.name = self.names[0]

    # the first screen -------------------------------------------------------------------------------------------------

    @cached_property
    def lost(self) -> tuple[Loss, ...]:
        return losses(self.run.whole)

    @property
    def stopped(self) -> dict[int, tuple[int, int | None]]:
        """Of chains that came to STOP: in which generation, and where to go back to."""
        found = {}
        for seed, states in self.run.states.items():
            if first := next((s for s in states if s.name == STOP), None):
                found[seed] = (first.generation, first.roll_back_to)
        return found

    @cached_property
    def code(self) -> str:
        return verdict(self.lost, policy=self.run.loop.policy, chains=len(self.run.states), stopped=len(self.stopped), **self._rate)

    @property
    def _rate(self) -> dict[str, float]:
        return {} if self.run.alarm is None else {"rate": self.run.alarm.rate}

    @property
    def tone(self) -> str:
        return TONES.get(self.code, "more")

    @property
    def badge(self) -> str:
        return self.w(f"loops.badge.{self.code}")

    @property
    def headline(self) -> str:
        return self.w(f"loops.headline.{self.code}")

    @property
    def reasons(self) -> list[str]:
        return [self.asked, *self._changes(), self._rang()]

    @property
    def asked(self) -> str:
        loop, kind = self.run.loop, self.run.loop.policy.partition(":")[0]
        share = f"{100 * loop.rule.share:g}"
        policy = self.w(f"loops.policy.{kind}", **({"share": share} if kind == "fresh" else {}))
        counts = {"chains": say_count(len(self.run.seeds)), "generations": say_count(loop.generations), "n": say_count(loop.n)}
        return self.w("loops.asked", setting=self.w(f"loops.setting.{loop.setting}"), ground=self._ground, policy=policy, **counts)

    @property
    def _ground(self) -> str:
        """The ground's name, and its data where it has any."""
        data = self.run.ground["settings"].get("data")
        return f"{self.run.ground['name']} ({data})" if isinstance(data, str) else self.run.ground["name"]

    def _changes(self) -> list[str]:
        """What surely fell, what surely rose, and what cannot be told; one chain gives what was seen in it."""
        if not self.lost:
            return [self.w("loops.still", t=say_count(self.run.last))]
        groups: dict[str, list[str]] = {}
        for loss in self.lost:
            e = loss.estimate
            key = "one" if e.p is None else "lost" if loss.sure else "gained" if (e.high or 0.0) < 0 and (loss.p_holm or 0.0) < 0.05 else "open"
            groups.setdefault(key, []).append(self.spoken.loss(loss, signed=key != "lost"))
        t = say_count(self.run.last)
        return [self.w(f"loops.{key}", t=t, parts=self._join(groups[key])) for key in ("lost", "gained", "open", "one") if key in groups]

    def _rang(self) -> str:
        """What the alarm did."""
        if self.run.alarm is None:
            return self.w("loops.alarm.none")
        n, stopped = len(self.run.states), self.stopped
        if not stopped:
            return self.w("loops.alarm.quiet", chains=say_count(n))
        at = [t for t, _ in stopped.values()]
        backs = [b for _, b in stopped.values() if b is not None]
        said = self.w("loops.alarm.rang", k=say_count(len(stopped)), chains=say_count(n), first=say_count(min(at)), median=f"{float(np.median(at)):g}")
        if not backs:
            return self.spoken.sentences(said, self.w("loops.alarm.no_back"))
        back = say_count(min(backs)) if min(backs) == max(backs) else self.w("interval", low=say_count(min(backs)), high=say_count(max(backs)))
        return self.spoken.sentences(said, self.w("loops.alarm.back", back=back))

    @property
    def cautions(self) -> list[str]:
        found = [self._broken(run, name) for run, name in zip(self.runs, self.names, strict=True) if run.broken]
        if len(self.run.whole) == 1:
            found.append(self.w("loops.one_chain"))
        if self.run.last < self.run.loop.generations:
            found.append(self.w("loops.unfinished", t=say_count(self.run.last), generations=say_count(self.run.loop.generations)))
        return found

    def _broken(self, run: LoopRun, name: str) -> str:
        parts = self._join(self.w("loops.broken_at", chain=str(seed), t=str(t)) for seed, t in run.broken.items())
        return self.w("loops.broken", run=name, k=say_count(len(run.broken)), chains=say_count(len(run.seeds)), t=say_count(run.last), parts=parts)

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """(what, change from generation 1 to the last, interval); sure losses first."""
        shown = sorted(self.lost, key=lambda loss: not loss.sure)[:3]
        return [(self.spoken.indicator(loss.indicator), *self.spoken.change(loss)) for loss in shown]

    @property
    def next_steps(self) -> list[str]:
        found = []
        if self.code in ("collapse", "alarm"):
            backs = [b for _, b in self.stopped.values() if b is not None]
            found.append(self.w("loops.next.back", back=say_count(min(backs))) if backs else self.w("loops.next.stop"))
        if self.advice is not None:
            found.append(self.advised)
        elif self.code in ("collapse", "alarm"):
            found.append(self.w("loops.next.compare"))
        if self.code in ("unsure", "one") or (self.advice is not None and self.advice.code in ("cannot tell", "too few")):
            found.append(self.w("loops.next.chains", chains=say_count(max(5, 2 * len(self.run.seeds)))))
        if self.run.alarm is None:
            found.append(self.w("loops.next.monitor"))
        return found or [self.w(f"loops.next.{'floor' if self.code == 'floor' else 'watch'}")]

    @property
    def cost_line(self) -> list[str]:
        return self.spoken.price(self.run.price)

    # curves -----------------------------------------------------------------------------------------------------------

    @property
    def plots(self) -> list[Plot]:
        return [self._plot(name) for name in FIRST if name in self.run.indicators]

    @property
    def more_plots(self) -> list[Plot]:
        return [self._plot(name) for name in self.run.indicators if name not in FIRST]

    def _plot(self, indicator: str) -> Plot:
        drawn = [self._course(run, name, indicator) for run, name in zip(self.runs, self.names, strict=True) if indicator in run.indicators]
        title = self.spoken.indicator(indicator)
        told: dict[str, Any] = {
            "title": title, "across": self.w("loops.across"), "up": self.spoken.better(indicator), "floor": float(self.run.table(indicator)[:, 0].mean()),
            "floor_label": self.w("loops.floor"),
        }  # fmt: skip
        return Plot(title, course(drawn, width=460, **told), course(drawn, width=charts.NARROW, **told))

    def _course(self, run: LoopRun, name: str, indicator: str) -> Course:
        """Means and t intervals by generation; ends of what lies between 0 and 1 are cut there."""
        table = run.table(indicator)
        mean = table.mean(axis=0)
        if len(table) < 2:
            return Course(name, mean.tolist())
        half = quantile_t(0.975, len(table) - 1) * table.std(axis=0, ddof=1) / np.sqrt(len(table))
        low, high = mean - half, mean + half
        if indicator in BOUNDED:
            low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
        return Course(name, mean.tolist(), low.tolist(), high.tolist())

    @property
    def values(self) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
        """(generations, (indicator, (mean, interval) of generation 1 and of the last)): the numbers of the curves of this run."""
        rows = []
        for indicator in self.run.indicators:
            one = self._course(self.run, self.name, indicator)
            cells = []
            for k in (0, -1):
                ends = "" if one.low is None or one.high is None else self.w("interval", low=say_digits(one.low[k]), high=say_digits(one.high[k]))
                cells.append((say_digits(one.mean[k]), ends))
            rows.append((self.spoken.indicator(indicator), cells))
        return [self.w("loops.generation", t=say_count(t)) for t in (1, self.run.last)], rows

    # what was made ----------------------------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The chain that is shown: the first one that came to the last generation."""
        return min(self.run.whole)

    @cached_property
    def sheets(self) -> list[Sheet]:
        found = []
        for run, name in zip(self.runs[:SHOWN_RUNS], self.names, strict=False):
            seed = self.seed if self.seed in run.chains else min(run.chains)
            pairs = run.pairs(seed)
            made = columns(pairs, name=self.spoken.namer(run.ground), kind=self.spoken.kinds(run.ground), title=self.generation)
            why = "" if made else self.w("loops.no_pairs" if not pairs else "loops.no_pictures")
            found.append(Sheet(name, str(seed), tuple(made), why))
        return found

    def generation(self, t: int) -> str:
        return self.w("loops.real") if t == 0 else self.w("loops.generation", t=str(t))

    @cached_property
    def captions(self) -> tuple[list[str], list[tuple[str, list[str]]]]:
        """(generations, (caption, its shares)) of the captions said most often; empty where captions are those of a fixed pool."""
        if self.run.loop.setting == "images":
            return [], []
        pairs = self.run.pairs(self.seed)
        rows = said(pairs, name=self.spoken.namer(self.run.ground))
        return [str(p.generation) for p in pairs if p.generation > 0], [(caption, [f"{100 * s:.1f}" for s in shares]) for caption, shares in rows]

    # the alarm --------------------------------------------------------------------------------------------------------

    @property
    def watched(self) -> list[Watched]:
        found = []
        for seed, states in self.run.states.items():
            told = next((s for s in states if s.name == STOP), None) or next((s for s in states if s.name == WATCH), None)
            cells = tuple((s.name, TAGS[s.name]) for s in states)
            stop = str(told.generation) if told is not None and told.name == STOP else "–"
            why = self._join(map(self.spoken.reason, told.reasons)) if told is not None else "–"
            back = str(told.roll_back_to) if told is not None and told.roll_back_to is not None else "–"
            found.append(Watched(str(seed), cells, stop, why, back))
        return found

    @property
    def alarm_lead(self) -> str:
        alarm = self.run.alarm
        if alarm is None:
            return self.w("loops.alarm.none")
        told = self.w("loops.alarm.lead", rate=f"{100 * alarm.rate:g}", looks=say_count(alarm.looks), runs=say_count(alarm.runs), k=say_count(len(alarm.names)))
        beyond = any(s.beyond for states in self.run.states.values() for s in states)
        return self.spoken.sentences(told, self.w("loops.alarm.beyond")) if beyond else told

    # the record -------------------------------------------------------------------------------------------------------

    @property
    def not_measured(self) -> list[tuple[str, str]]:
        w, run = self.w, self.run
        rows = [(w("loops.what.chain", chain=str(seed), t=str(t)), run.blocked.get(seed) or w("loops.why.chain")) for seed, t in run.broken.items()]
        rows += [(self.spoken.indicator(name), w("loops.why.indicator")) for name in self._unseen()]
        if len(run.whole) == 1:
            rows.append((w("loops.what.interval"), w("loops.why.interval")))
        if run.alarm is None:
            rows.append((w("loops.what.alarm"), w("loops.why.alarm")))
        if not any(other.loop.policy == "real" for other in self.runs):
            rows.append((w("loops.what.floor"), w("loops.why.floor")))
        if len(self.runs) == 1:
            rows.append((w("loops.what.others"), w("loops.why.others")))
        rows += [(w("loops.what.pictures", run=sheet.run), sheet.why) for sheet in self.sheets if sheet.why]
        return [*rows, (w("missing.money"), w("cost.no_price"))]

    def _unseen(self) -> list[str]:
        """Of what a loop is judged by, what this one does not tell; the lab's own truth stands for both."""
        there = set(self.run.indicators)
        accuracy = [] if there & {"utility", "painted_right", "told_right"} else ["utility"]
        return accuracy if there & {"tail", "image_tail", "caption_tail"} else [*accuracy, "tail"]

    @property
    def costs(self) -> list[tuple[str, str, str, str, str]]:
        """(run, evaluations for each kept pair, new real pairs, captions by people, pairs to learn from)."""
        count, prices = self.spoken.count, [(name, run.price) for run, name in zip(self.runs, self.names, strict=True)]
        return [(name, count(p.evaluations), count(p.real), count(p.human), count(p.learnt)) for name, p in prices]

    @property
    def facts(self) -> list[tuple[str, str]]:
        ground = [(f"ground.{key}", say_flat(value)) for key, value in flat(self.run.ground["settings"]).items()]
        seeds = ", ".join(map(str, self.run.seeds))
        return [("ground", self.run.ground["name"]), *ground, *((k, say_flat(v)) for k, v in flat(plain(self.run.loop)).items()), ("seeds", seeds)]

    @property
    def glossary(self) -> list[tuple[str, str]]:
        return [(self.w(f"loops.term.{t}"), self.w(f"loops.term.{t}.text")) for t in ("generation", "chain", "floor", "interval", "holm", "alarm", "back")]
