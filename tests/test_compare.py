"""A comparison from end to end, on small arrays and the exact Gaussian generator: nesting, the gate, resume, what stays closed, refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mitate as mi
from mitate import cli, verbs
from mitate.errors import DataError, SettingError
from mitate.intake.listing import Listing, Readers
from mitate.intake.opening import _listing_of
from mitate.intake.splits import nested
from mitate.report import words
from mitate.report.html import write_report
from mitate.settings import plain
from mitate.store import Store
from mitate.studies import compare_cells
from mitate.studies.compare_cells import AXES, Cell, CellJobs
from mitate.studies.compare_planning import Compare, ComparePlan, check_asked, plan_compare
from mitate.studies.compare_table import Table, _read_pace
from mitate.study import Run
from test_pilot import blobs

CHEAP = ("privacy", "utility", "efficiency")
LIGHT = {"most": 20, "eps": [2 / 255], "headline": 2 / 255, "apgd_steps": 1, "pgd_steps": 1, "targets": 1, "queries": 1, "corruptions": ["contrast"]}


def plan_of(n: int = 240, **settings: object) -> ComparePlan:
    chosen = {
        "generators": ("gaussian",), "per_class": (5, 12), "seeds": 3, "trainings": 1, "steps": 3, "synthetic_per_class": 8, "axes": CHEAP, "workers": 1,
        "features": "pixels", "past_the_gate": True, **settings,
    }  # fmt: skip
    return mi.compare(train=blobs(n, 0), **chosen)  # type: ignore[arg-type]


def jobs_of(plan: ComparePlan) -> CellJobs:
    return CellJobs(plan.study, sets=plan.sets, subsets=plan.subsets, blind=plan.blind, weights=plan.weights)


def timeless(run: Run) -> dict[str, Any]:
    """The answer without what depends on the clock."""
    found = run.answer
    found.pop("cost")
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, ComparePlan]]:
    """A finished run and its plan; read, never changed."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITATE_HOME", str(place / "store"))
        plan = plan_of()
        yield mi.run(plan, place / "run", workers=0), plan


# subsets --------------------------------------------------------------------------------------------------------------


def test_smaller_subsets_lie_within_larger_ones_and_are_as_large_as_asked() -> None:
    images = blobs(120, 0)
    parts = [nested(images, n, seed=3) for n in (2, 5, 20)]
    assert [set(p.counts().values()) for p in parts] == [{2}, {5}, {20}]
    assert set(parts[0].names) < set(parts[1].names) < set(parts[2].names)
    assert set(nested(images, 5, seed=4).names) != set(parts[1].names)


def test_a_subset_never_cuts_a_group() -> None:
    images = blobs(120, 0, groups=True)  # groups of six, two of each class
    small, large = nested(images, 3, seed=0), nested(images, 7, seed=0)
    assert set(small.counts().values()) == {4} and set(large.counts().values()) == {8}, "whole groups: the next even number"
    assert small.groups is not None and large.groups is not None and set(small.groups) < set(large.groups)
    for part in (small, large):
        assert all(part.groups.count(g) == 6 for g in set(part.groups or ()))  # type: ignore[union-attr]


def test_a_subset_follows_content_and_not_names() -> None:
    images = blobs(60, 0)
    turned = images.subset(list(reversed(range(60))))
    assert set(nested(images, 4, seed=1).digests) == set(nested(turned, 4, seed=1).digests)


def test_a_subset_of_more_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match=r"21 training images a class are more than there are: low \(20\)") as wrong:
        nested(blobs(60, 0), 21, seed=0)
    assert wrong.value.fix == "ask for at most 20, or give more"


def split_by_hand(**parts: tuple[int, int]) -> Listing:
    """Splits of the user's own: images [start, end) of 240, whose plants have six images each."""
    images = blobs(240, 0, groups=True)
    listings = [_listing_of(images.subset(range(*ends)), split) for split, ends in parts.items()]
    rows = tuple(row for one in listings for row in one.rows)
    return Listing("blobs", rows, Readers(tuple(one.reader for one in listings), tuple(len(one.rows) for one in listings)), classes=images.classes)


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"train": (0, 123), "selection": (123, 180), "holdout": (180, 240)}, "the training images and in the selection split"),
        ({"train": (0, 120), "selection": (120, 183), "holdout": (183, 240)}, "the selection split and in the hold-out"),
        ({"holdout": (0, 63), "train": (63, 180), "selection": (180, 240)}, "the training images and in the hold-out"),
        ({"holdout": (0, 57), "train": (57, 180), "selection": (180, 240)}, "the hold-out and in the test images"),
    ],
)
def test_a_group_in_two_splits_is_refused(parts: dict[str, tuple[int, int]], where: str, tmp_path: Path) -> None:
    asked = Compare(generators=("gaussian",), per_class=(5,), seeds=3, axes=CHEAP, features="pixels")
    with pytest.raises(DataError, match=f"1 group is both in {where}, such as plant"):
        plan_compare(asked, split_by_hand(**parts), store=Store(tmp_path / "store"), workers=1)
    whole = split_by_hand(train=(0, 120), selection=(120, 180), holdout=(180, 240))
    assert plan_compare(asked, whole, store=Store(tmp_path / "store"), workers=1).cells


# the plan -------------------------------------------------------------------------------------------------------------


def test_everything_is_fixed_before_the_run() -> None:
    plan = plan_of(weights={"utility": 0.5, "privacy": 0.3}, generators=("gaussian", "vae"), options=("vae.steps=7",))
    sizes = plan.study.sizes
    assert sizes["axes"] == ["privacy", "utility", "efficiency"] and sizes["cases"]["own"] == {"utility": 0.5, "privacy": 0.3}
    assert set(sizes["cases"]) == {"privacy", "utility", "speed", "own"}
    assert sizes["families"]["vae"]["options"]["5"]["steps"] == sizes["families"]["vae"]["options"]["12"]["steps"] == 7
    assert sizes["families"]["gaussian"]["options"]["5"] != sizes["families"]["gaussian"]["options"]["12"], "presets follow the number of images"
    assert sizes["subsets"]["5"]["images"] == 15 and 0 <= sizes["subsets"]["5"]["shared"] < sizes["subsets"]["12"]["shared"] < 1
    assert {rule["name"] for rule in plan.study.gates} == {"leaks", "told_apart", "dominated", "hurts", "advice"}
    assert len(plan.cells) == 2 * 2 * 3
    text = plan.cost()
    assert "3 subsets, 1 fit each, 1 training a fit" in text and "cells            12" in text and "gaussian " in text and "stay closed" in text
    assert "of their images two subsets share " in text and " % at 5, " in text


def test_no_cell_reads_a_test_image_and_generators_read_no_hold_out() -> None:
    plan = plan_of(axes=AXES)
    splits, jobs = plan.data.splits, jobs_of(plan)
    test, held = set(splits.test.digests), set(splits.holdout.digests)
    seen: set[str] = set()
    for cell in plan.cells:
        fitted = jobs.fitted(cell)
        assert fitted is not None
        for name in fitted.asked.inputs.values():
            digests = set(verbs.read_facts(plan.store.get(name))["digests"])  # type: ignore[arg-type]
            assert not digests & (test | held)
        stack: list[Any] = [jobs.leakage(cell), *jobs.measures(cell)]
        while stack:
            one = stack.pop()
            stack += one.inputs.values() if not isinstance(one, str) else []
            entry = plan.store.get(one) if isinstance(one, str) else None
            if entry is not None and entry.path("facts.json").exists():
                seen |= set(verbs.read_facts(entry)["digests"])
    assert seen and not seen & test and held <= seen


def test_families_share_the_models_of_real_images_and_their_seeds() -> None:
    plan = plan_of(generators=("gaussian", "vae"))
    jobs = jobs_of(plan)
    one, two = (jobs.predicted(Cell(f, 5, 0, 0), "real+augment", 0) for f in ("gaussian", "vae"))
    assert one is two
    seeds = {jobs.predicted(Cell(f, 5, 0, 0), "balanced+augment", 0).inputs["model"].settings["seed"] for f in ("gaussian", "vae")}  # type: ignore[union-attr]
    assert len(seeds) == 1
    other = jobs.predicted(Cell("vae", 5, 1, 0), "balanced+augment", 0).inputs["model"]
    assert other.settings["seed"] not in seeds  # type: ignore[union-attr]


def test_fits_and_trainings_are_nested_draws() -> None:
    plan = plan_of(fits=2, trainings=2)
    jobs = jobs_of(plan)
    first, second = (jobs.fitted(Cell("gaussian", 5, 0, f)) for f in (0, 1))
    assert first is not None and second is not None and first.inputs == second.inputs and first.settings["seed"] != second.settings["seed"]
    seeds = [jobs.predicted(Cell("gaussian", 5, 0, f), "balanced+augment", k).inputs["model"].settings["seed"] for f in (0, 1) for k in (0, 1)]  # type: ignore[union-attr]
    assert len(set(seeds)) == 4


def test_a_private_row_is_fitted_on_blinded_images_without_a_selection() -> None:
    plan = plan_of(generators=("vae", "gaussian"), epsilon=8.0)
    assert list(plan.study.sizes["families"]) == ["vae", "gaussian", "vae epsilon=8"]
    assert plan.study.sizes["families"]["vae epsilon=8"]["options"]["5"]["epsilon"] == 8
    assert [f["message"] for f in plan.study.data["findings"] if "epsilon" in f["message"]] == ["gaussian has no private fit, so it has no row with epsilon"]
    fitted = jobs_of(plan).fitted(Cell("vae epsilon=8", 5, 0, 0))
    assert fitted is not None and fitted.inputs == {"train": plan.blind[5, 0], "selection": plan.sets["empty"]}
    assert plan.blind[5, 0] != plan.subsets[5, 0]
    assert plan.store.get(plan.sets["empty"]).result["images"] == 0  # type: ignore[union-attr]


# the run --------------------------------------------------------------------------------------------------------------


def test_a_comparison_ends_with_a_whole_answer(finished: tuple[Run, ComparePlan]) -> None:
    run, _ = finished
    found = run.answer
    assert run.finished and found["verdict"] == "measured" and [(r["family"], r["n"]) for r in found["points"]] == [("gaussian", 5), ("gaussian", 12)]
    for row in found["points"]:
        assert row["gate"]["of"] == 3 and row["state"] == "measured"
        for axis in CHEAP:
            facts = row["axes"][axis]
            assert facts["replicates"] == 3 and (facts["low"] is None or facts["low"] <= facts["value"] <= facts["high"])
        assert 0 <= row["beside"]["real_alone"]["value"] <= 1 and row["beside"]["images_per_second"]["value"] > 0
        assert sum(part["share"] for part in row["spread"]["utility"]) in (0, pytest.approx(1))
    for name in ("study.json", "machine.json", "jobs.jsonl", "scores.jsonl", "samples/samples.json"):
        assert (run.folder / name).is_file()
    assert "NaN" not in (run.folder / "compare.json").read_text()
    assert {a["case"] for a in found["advice"]} == {"privacy", "utility", "speed"} and found["cost"]["synthetic_images"] == 2 * 3 * 8 * 3
    assert {entry["what"] for entry in found["not_measured"]} >= {"fidelity", "diversity", "robustness", "gain on the test split"}


def test_the_gain_is_that_of_the_predictions(finished: tuple[Run, ComparePlan]) -> None:
    run, plan = finished
    jobs, y, gains = jobs_of(plan), plan.data.splits.holdout.y, []
    for r in range(3):
        right = {}
        for arm in ("balanced+augment", "real+augment"):
            entry = plan.store.get(jobs.predicted(Cell("gaussian", 12, r, 0), arm, 0).digest)
            assert entry is not None
            right[arm] = (np.load(entry.path("probabilities.npy")).argmax(axis=1) == y).mean()
        gains.append(right["balanced+augment"] - right["real+augment"])
    assert run.answer["points"][1]["axes"]["utility"]["value"] == pytest.approx(np.mean(gains))


def test_the_test_split_stays_closed(finished: tuple[Run, ComparePlan]) -> None:
    run, plan = finished
    assert not (plan.store.root / "openings.jsonl").exists() and not (run.folder / "opening.json").exists()


def test_a_second_run_computes_nothing(finished: tuple[Run, ComparePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, plan = finished
    before = (run.folder / "compare.json").read_bytes()
    monkeypatch.setattr(verbs, "perform", None)
    assert mi.run(plan, run.folder, workers=0).answer == run.answer and (run.folder / "compare.json").read_bytes() == before
    again = mi.run(plan, tmp_path / "again", workers=0)
    assert timeless(again) == timeless(run) and again.answer["cost"]["reused_seconds"] > 0
    assert (again.folder / "scores.jsonl").read_bytes() == (run.folder / "scores.jsonl").read_bytes()


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"axes": ("privacy", "utility"), "per_class": (5,)}
    done: list[str] = []
    real = verbs.perform

    def counted(store: Store, asked: Any, **given: Any) -> Any:
        if len(done) == 14:
            raise KeyboardInterrupt
        done.append(asked.digest)
        return real(store, asked, **given)

    monkeypatch.setattr(verbs, "perform", counted)
    with pytest.raises(KeyboardInterrupt):
        mi.run(plan_of(**settings), tmp_path / "run", workers=0)
    assert not Run(tmp_path / "run").finished
    before = len(done)
    done.insert(0, "one more, so that the next one is not the last")
    run = mi.run(plan_of(**settings), tmp_path / "run", workers=0)
    assert run.finished and len(set(done[1:])) == len(done[1:]) > before, "nothing was done twice"
    monkeypatch.setattr(verbs, "perform", real)
    monkeypatch.setenv("MITATE_HOME", str(tmp_path / "other"))
    whole = mi.run(plan_of(**settings), tmp_path / "whole", workers=0)
    assert timeless(whole) == timeless(run), "the same bytes in another store"
    assert (whole.folder / "scores.jsonl").read_bytes() == (run.folder / "scores.jsonl").read_bytes()


def test_every_axis_of_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_cells, "STRESS", LIGHT)
    run = mi.run(plan_of(axes=AXES, per_class=(5,), seeds=1), tmp_path / "run", workers=0)
    (row,) = run.answer["points"]
    assert all(row["axes"][axis]["value"] is not None and row["axes"][axis]["low"] is None for axis in AXES)
    assert row["axes"]["fidelity"]["floor"] is not None and row["axes"]["diversity"]["floor"] is not None
    assert {a["code"] for a in run.answer["advice"]} == {"too_few"} and not run.answer["pairs"]
    scores = [json.loads(line) for line in (run.folder / "scores.jsonl").read_text().splitlines()]
    assert {s["axis"] for s in scores} == set(AXES) and all(s["subject"].startswith("gaussian · 5 · r0 · f0") for s in scores)


def test_a_fit_whose_earlier_parts_kept_no_time_has_no_efficiency(finished: tuple[Run, ComparePlan]) -> None:
    _, plan = finished
    jobs, table, cell = jobs_of(plan), Table(), plan.cells[0]
    found = {job: plan.store.there(job.digest) for job in (jobs.fitted(cell), jobs.pace(cell)) if job is not None}
    _read_pace(table, cell, jobs, found)
    assert table.headline["efficiency"][cell] > 0
    resumed = {job: replace(entry, result={**entry.result, "resumed": True}) for job, entry in found.items()}
    other = Table()
    _read_pace(other, cell, jobs, resumed)
    assert not other.headline and other.whys[cell, "efficiency"].startswith("its fit was resumed")


def test_efficiency_counts_what_a_fit_had_of_the_processor_and_not_what_it_waited(finished: tuple[Run, ComparePlan]) -> None:
    run, plan = finished
    jobs, cell = jobs_of(plan), plan.cells[0]
    found = {job: plan.store.there(job.digest) for job in (jobs.fitted(cell), jobs.pace(cell)) if job is not None}
    values = []
    for waited in (0.0, 100.0):
        table, times = Table(), {"cpu_seconds": 3.0, "seconds": 3.0 + waited, "images_per_cpu_second": 500.0}
        _read_pace(table, cell, jobs, {job: replace(entry, result={**entry.result, **times}) for job, entry in found.items()})
        values.append((table.headline["efficiency"][cell].item(), table.beside["training_seconds"][cell]))
    assert values == [(5.0, 3.0), (5.0, 103.0)]
    assert run.answer["cost"]["workers"] == 1 and run.answer["cost"]["fit_core_share"] > 0


# the gate -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> str:
    """A folder of copies of every training image, as a family."""
    plan = plan_of()
    splits = plan.data.splits
    held = {*splits.selection.names, *splits.holdout.names, *splits.test.names}
    side = plan.data.train_side
    pool = side.subset([i for i, name in enumerate(side.names) if name not in held])
    np.savez(tmp_path / "copies.npz", x=pool.pixels(size=8, channels=1), y=pool.y, classes=np.array(pool.classes))
    return f"folder:{tmp_path / 'copies.npz'}"


def test_what_leaks_stops_at_the_gate_unless_asked(tmp_path: Path, copied: str) -> None:
    settings: dict[str, Any] = {"generators": (copied,), "per_class": (12,), "synthetic_per_class": 28, "axes": ("privacy", "utility")}
    run = mi.run(plan_of(**settings, past_the_gate=False), tmp_path / "run", workers=0)
    (row,) = run.answer["points"]
    assert run.answer["verdict"] == "stopped at the gate" and row["gate"]["state"] == "leaks" and row["axes"]["utility"]["why"] == "stopped at the gate"
    verbs_run = [json.loads(line)["verb"] for line in (run.folder / "jobs.jsonl").read_text().splitlines()]
    assert "leakage" in verbs_run and not {"train", "predict"} & set(verbs_run), "nothing more was spent on it"
    asked = mi.run(plan_of(**settings), tmp_path / "past", workers=0)
    (row,) = asked.answer["points"]
    assert row["gate"]["state"] == "leaks" and row["axes"]["utility"]["value"] is not None and row["state"] == "measured"


# reports --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_a_run_has_a_report_in_both_languages(finished: tuple[Run, ComparePlan], tmp_path: Path, lang: str) -> None:
    page = write_report(finished[0], lang=lang, out=tmp_path / "a.html").read_text()
    assert words.load(lang)("compare.card.title") in page and "gaussian" in page and "{" not in page.split("</style>")[1].replace("{&#34;", "")


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": ()}, "numbers of images"), ({"per_class": (1, 5)}, "out of range"), ({"per_class": (10, 5)}, "do not increase"),
        ({"generators": ()}, "No generator"), ({"generators": ("vae", "vae")}, "named twice"), ({"generators": ("vea",)}, "no family"),
        ({"axes": ()}, "No axis"), ({"axes": ("utilty",)}, "no axis 'utilty'"), ({"weights": {"style": 1.0}}, "no axis 'style'"),
        ({"weights": {"fidelity": 1.0}}, "has a weight and is not measured"), ({"weights": {"utility": 0.0}}, "Weights are 0 or more"),
        ({"seeds": 0}, "seeds is 0"), ({"fits": 0}, "fits is 0"), ({"trainings": 0}, "trainings is 0"), ({"size": 5}, "5 pixels"),
        ({"epsilon": -1.0}, "epsilon is -1"), ({"epsilon": 8.0}, "None of the generators has a private fit"), ({"options": ("steps=3",)}, "names no setting"),
        ({"options": ("vae.steps=3",)}, "not compared"), ({"options": ("gaussian.rnak=3",)}, "no setting 'rnak'"),
        ({"generators": ("vae",), "options": ("vae.epsilon=8",)}, "no option of a family"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_a_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as wrong:
        plan_of(**settings)
    assert wrong.value.fix


def test_too_few_images_are_refused_before_anything_runs() -> None:
    with pytest.raises(DataError, match="40 training images a class are more than there are"):
        plan_of(per_class=(5, 40))


def test_another_question_in_the_same_folder_is_refused(finished: tuple[Run, ComparePlan]) -> None:
    run, plan = finished
    with pytest.raises(SettingError, match=r"another comparison \(it differs in weights\)"):
        mi.run(plan_of(weights={"utility": 1.0}), run.folder, workers=0)
    check_asked(plan.asked)


def arrays(path: Path) -> Path:
    images = blobs(240, 0)
    np.savez(path, x=images.pixels(size=8, channels=1), y=images.y)
    return path


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *typed: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mitate", *map(str, typed)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_the_command_line_plans_runs_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    typed = (
        "compare", arrays(tmp_path / "a.npz"), "--generators", "gaussian", "--per-class", "5", "--seeds", 3, "--trainings", 1, "--steps", 3, "--synthetic", 8,
        "--axes", "privacy,utility", "--past-the-gate", "--weights", "utility=1", "--features", "pixels", "--engine", "here",
    )  # fmt: skip
    code, out, _ = said(monkeypatch, capsys, *typed, "--cost")
    assert code == 0 and "about" in out and "gaussian" in out and not (tmp_path / "run").exists()
    code, out, _ = said(monkeypatch, capsys, *typed, "--out", tmp_path / "run", "--html", tmp_path / "page.html", "--lang", "ja")
    assert code == 0 and "5 a class: not dominated gaussian" in out and "verdict: measured" in out
    assert (tmp_path / "page.html").is_file() and (tmp_path / "run" / "report.ja.html").is_file() and (tmp_path / "run" / "audit" / "SHA256SUMS").is_file()
    assert plain(Run(tmp_path / "run").study)["plan"]["weights"] == {"utility": 1.0}


@pytest.mark.parametrize(
    "typed",
    [
        ("--per-class", "5,x"), ("--weights", "utility"), ("--weights", "utility=much"), ("--generators", "vea"), ("--axes", "privcy"), ("--engine", "cloud"),
        ("--per-class", "5,5000"),
    ],
)  # fmt: skip
def test_the_command_line_refuses_with_a_fix_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: tuple[str, ...]
) -> None:
    code, _, err = said(monkeypatch, capsys, "compare", arrays(tmp_path / "a.npz"), "--out", tmp_path / "run", *typed)
    assert code == 2 and err.startswith("error: ") and "\nfix: " in err
    code, _, err = said(monkeypatch, capsys, "compare", tmp_path / "a.npz")
    assert code == 2 and "give a run folder" in err
