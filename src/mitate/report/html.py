"""The report of a run: one HTML file with everything in it, for a manager first and an engineer below. No network, no script.

It is made from the files of the run folder alone (docs/run-folder.md), so a run can be reported anywhere, also years later.
Everything in that folder is text from users: the template escapes it, pictures are opened and written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mitate.errors import SettingError
from mitate.files import write_text, writing
from mitate.report.audit import write_audit
from mitate.report.compare import ComparePage
from mitate.report.loop_run import is_loop
from mitate.report.loops import write_page
from mitate.report.numbers import as_mapping, as_number
from mitate.report.record import Record
from mitate.report.skills import SkillsPage
from mitate.report.spending import Spending
from mitate.report.template import read_from, render
from mitate.report.volume import VolumePage
from mitate.report.words import LANGUAGES, Words, load
from mitate.report.worth import WorthPart
from mitate.study import ANSWERS, Run

if TYPE_CHECKING:
    from mitate.studies.spending import Prices


def write_report(run: Run, *, lang: str = "en", out: Path | None = None, beside: Sequence[Path] = ()) -> Path:
    """Write the report of a finished run and return where it is: report.html (English) or report.ja.html in the run folder.

    beside: folders of loops to compare a folder of loops with. The bytes follow from the folders and the language alone. DataError when the run has no
    decision yet, SettingError for studies beside each other.
    """
    if is_loop(run.folder):
        return write_page(run.folder, beside=beside, lang=lang, out=out)
    if beside:
        raise SettingError(f"{run.folder} holds no loops, and nothing can be put beside it.", fix="leave --beside out")
    words = load(lang)
    with read_from(run.folder):
        page, template = _page(run, words)
        text = render(template, page=page, w=words)
    path = out or run.folder / ("report.html" if lang == "en" else f"report.{lang}.html")
    with writing(path):
        write_text(path, text)
    return path


def _page(run: Run, words: Words) -> tuple[Record | SkillsPage, str]:
    """The page of a run's kind of study, and its template."""
    name = run.answer_file.name
    if name == ANSWERS["volume"]:
        return VolumePage(run, words), "volume.html.j2"
    if name == ANSWERS["compare"]:
        return ComparePage(run, words), "compare.html.j2"
    if name == ANSWERS["skills"]:
        return SkillsPage(run, words), "skills.html.j2"
    return Page(run, words), "report.html.j2"


def write_prices(run: Run, prices: Prices) -> None:
    """Tell the money of a finished run with other prices: its answer, every report that is there, and the audit. Nothing is computed."""
    from mitate.studies.repricing import reprice

    if is_loop(run.folder):
        raise SettingError(f"{run.folder} holds loops, whose money is not known.", fix="leave the prices out")
    if not reprice(run, prices):
        return
    for lang in LANGUAGES:
        if (run.folder / ("report.html" if lang == "en" else f"report.{lang}.html")).is_file():
            write_report(run, lang=lang)
    if (run.folder / "audit").is_dir():
        write_audit(run.folder)


class Page(Record, Spending, WorthPart):
    """What the template asks for, each part made from the files of the run."""

    @property
    def headline(self) -> str:
        return self.w.get(f"headline.{self.code}", self.w(f"headline.other_{self.tone}"))

    @property
    def reason(self) -> str:
        return self.w.get(f"reason.{self.code}", str(self.decision.get("reason") or self.headline), self._values(self.decision.get("reason_values")))

    @property
    def gain(self) -> str:
        return f"{self.change(self.confirmed['value'])} {self.unit}" if self.confirmed else ""

    @property
    def gain_interval(self) -> str:
        if not self.confirmed or self._interval(self.confirmed) is None:
            return ""
        low, high = self.change(self.confirmed["low"]), self.change(self.confirmed["high"])
        return self.w("label.interval", confidence=self.confidence, low=low, high=high, unit=self.unit)

    @property
    def cautions(self) -> list[str]:
        """What a verdict must not hide: a `go` with classes or groups worse beyond chance, and real images alone doing better."""
        found = []
        if sure := self._worse()[0] if self.tone == "go" else []:
            found.append(self.w("label.caution", names=self._join(sure)))
        if better := self._better_real():
            found.append(self.w("label.caution_real", names=self._join(better)))
        return found

    def _better_real(self) -> list[str]:
        """Arms of real images alone that score above both the candidate and the baseline on the test split."""
        found: list[str] = []
        scores: dict[str, float] = {}
        for arm in self.decision.get("arms", []):
            score = as_number(as_mapping(arm.get("score")).get("value"))
            if score is None or arm.get("split") != "test":
                continue
            if arm.get("role") in ("candidate", "baseline"):
                scores[str(arm["role"])] = score
            elif arm.get("generator") is None:
                scores[str(arm.get("label"))] = score
                found.append(str(arm.get("label")))
        if "candidate" not in scores:
            return []
        return [label for label in found if scores[label] > max(scores["candidate"], scores.get("baseline", 0.0))]
