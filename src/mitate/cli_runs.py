"""What `mitate demo`, `pilot`, `volume` and `compare` do once their words are read: plan, say what it takes, run, and tell the verdict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitate.cli_said import say
from mitate.errors import SettingError

if TYPE_CHECKING:
    from mitate.engine import Workers

EXIT = {"go": 0, "stop": 10, "more evidence": 11}  # with --exit-code


def pilot(asked: Any, out: Path | None, *, lang: str, engine: str, cost: bool, exit_code: bool, prices: Any = None) -> None:
    """Run or resume a pilot in `out` and tell its verdict; with `cost`, say what it would take and stop."""
    from dataclasses import replace

    from mitate.studies.pilot import run_pilot
    from mitate.studies.planning import plan_pilot

    workers, around = _around(out, engine)
    plan = plan_pilot(asked, asked.data, **around)
    plan = plan if prices is None else replace(plan, prices=prices)
    if (place := _place(plan, out, cost=cost)) is None:
        return
    run = run_pilot(plan, place, workers=workers, command=_command())
    _tell(run, lang=lang, exit_code=exit_code)


def continue_run(folder: Path, seeds: str, *, lang: str, engine: str, exit_code: bool) -> None:
    """Give a finished pilot a new look. seeds: replicates to add, like +5."""
    from mitate.engine import parse_engine
    from mitate.store import Store
    from mitate.studies.pilot import continue_pilot
    from mitate.study import Run

    digits = seeds.removeprefix("+")
    if not digits.isdecimal() or int(digits) < 1:
        raise SettingError(f"{seeds!r} is not a number of replicates to add.", fix="write it like +5")
    run = continue_pilot(Run(folder), int(digits), store=Store.find(), workers=parse_engine(engine), command=_command())
    _tell(run, lang=lang, exit_code=exit_code)


def volume(asked: Any, out: Path | None, *, prices: dict[str, Any], lang: str, engine: str, cost: bool) -> None:
    """Run or resume a volume study in `out` and tell its verdict; with `cost`, say what it would take and stop."""
    from mitate.studies.spending import prices_of
    from mitate.studies.volume import run_volume
    from mitate.studies.volume_planning import plan_volume

    workers, around = _around(out, engine)
    plan = plan_volume(asked, asked.data, **around, prices=prices_of(prices, where="options"))
    if (place := _place(plan, out, cost=cost)) is None:
        return
    _tell(run_volume(plan, place, workers=workers, command=_command()), lang=lang, exit_code=False)


def compare(asked: Any, out: Path | None, *, html: Path | None, lang: str, engine: str, cost: bool) -> None:
    """Run or resume a comparison in `out` and tell its advice; with `cost`, say what it would take and stop."""
    from mitate.intake.scanning import check_places
    from mitate.studies.compare import run_compare
    from mitate.studies.compare_card import lines
    from mitate.studies.compare_planning import plan_compare

    check_places(html)
    workers, around = _around(out, engine)
    plan = plan_compare(asked, asked.data, **around)
    if (place := _place(plan, out, cost=cost)) is None:
        return
    run = run_compare(plan, place, workers=workers, command=_command())
    _table(run, lines)
    _tell(run, lang=lang, exit_code=False)
    if html is not None:
        from mitate.report.html import write_report

        say(str(write_report(run, lang=lang, out=html)))


def skills(asked: Any, out: Path | None, *, lang: str, engine: str, cost: bool) -> None:
    """Run or resume a study of skills in `out` and tell what it found; with `cost`, say what it would take and stop."""
    from mitate.engine import parse_engine
    from mitate.store import Store
    from mitate.studies.pilot import check_place
    from mitate.studies.skills import run_skills
    from mitate.studies.skills_answer import lines
    from mitate.studies.skills_planning import plan_skills

    workers = parse_engine(engine)
    if out is not None:
        check_place(out)
    plan = plan_skills(asked)
    if (place := _place(plan, out, cost=cost)) is None:
        return
    run = run_skills(plan, place, workers=workers, store=Store.find(), command=_command())
    _table(run, lines)
    _tell(run, lang=lang, exit_code=False)


def _around(out: Path | None, engine: str) -> tuple[Workers, dict[str, Any]]:
    """The workers, and what a study is planned with beside its question: the store, how many work, and the study that `out` already holds."""
    from mitate.engine import how_many, parse_engine
    from mitate.store import Store
    from mitate.studies.pilot import check_place
    from mitate.study import Run

    workers = parse_engine(engine)
    if out is not None:
        check_place(out)
    existing = Run(out).study if out is not None and (out / "study.json").is_file() else None
    return workers, {"store": Store.find(), "workers": how_many(workers), "existing": existing}


def _place(plan: Any, out: Path | None, *, cost: bool) -> Path | None:
    """Say what was found in the images and what it takes. Returns where to run; None where the cost was all that was asked."""
    from mitate.study import Run

    for finding in plan.study.data["findings"]:
        say(f"{finding['severity']}: {finding['message']}", err=True)
    if out is None or not Run(out).finished:
        say(plan.cost(), err=not cost)
    if cost:
        return None
    assert out is not None
    return out


def _table(run: Any, lines: Callable[[dict[str, Any]], list[str]]) -> None:
    """Say what a run found, as lines."""
    from mitate.report.template import read_from

    with read_from(run.folder):
        told = lines(run.answer)
    for line in told:
        say(line)


def _tell(run: Any, *, lang: str, exit_code: bool) -> None:
    """Say the verdict, and where the page is; it is written where it is not there or older than the answer."""
    from mitate.report.html import write_report
    from mitate.report.template import read_from

    path = run.folder / ("report.html" if lang == "en" else f"report.{lang}.html")
    audit = run.folder / "audit" / "SHA256SUMS"
    if not (path.is_file() and audit.is_file()) or path.stat().st_mtime_ns < run.answer_file.stat().st_mtime_ns:
        from mitate.report.audit import write_audit

        write_report(run, lang=lang)
        write_audit(run.folder)
    with read_from(run.folder):
        answer = run.answer
        told = [f"verdict: {answer['verdict']}", str(answer["reason"])]
        told += [f"to say:  {said}"] if (said := (answer.get("meeting") or {}).get("text")) else []
        code = EXIT[answer["verdict"]] if exit_code else 0
    for line in [*told, f"report:  {path}"]:
        say(line)
    if exit_code:
        sys.exit(code)


def _command() -> str:
    import shlex

    return shlex.join(["mitate", *sys.argv[1:]])
