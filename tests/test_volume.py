"""The volume study from end to end, on small arrays and the exact Gaussian generator: nesting, verdict, curve, resume, looks, refusals."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate import cli
from mitate.errors import DataError, SettingError
from mitate.recipe import BASELINE
from mitate.report import words
from mitate.report.html import write_report
from mitate.store import Store
from mitate.studies import gates, stages, volume_answer
from mitate.studies.arms import Arm
from mitate.studies.pilot import continue_pilot
from mitate.studies.volume_planning import VolumePlan
from mitate.study import Run
from test_pilot import blobs
from test_report import text_of

VOLUMES = (0, 5, 10, 20, 40)


def plan_of(n: int = 90, *, tests: int = 120, **settings: object) -> VolumePlan:
    chosen = {"generators": ("gaussian",), "volumes": VOLUMES, "steps": 12, "replicates": 3, "budget": "1h", "workers": 1, **settings}
    return mi.volume(train=blobs(n, 0), test=blobs(tests, 1) if tests else None, **chosen)  # type: ignore[arg-type]


def arrays(path: Path, n: int = 60, tests: int = 60) -> Path:
    train, test = blobs(n, 0), blobs(tests, 1)
    np.savez(path, x_train=train.pixels(size=8, channels=1), y_train=train.y, x_test=test.pixels(size=8, channels=1), y_test=test.y)
    return path


def timeless(run: Run) -> dict[str, object]:
    """The answer without what depends on the clock."""
    found = run.answer
    found.pop("cost")
    for look in found["looks"]:
        look.pop("run")
    for row in found["generators"]:
        row.pop("cost")
        for step in row["steps"]:
            step.pop("seconds"), step.pop("money")
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, VolumePlan]]:
    """A folder with a finished run and its store, and its plan; copied, never changed."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITATE_HOME", str(place / "store"))
        plan = plan_of()
        mi.run(plan, place / "run", workers=0)
    yield place, plan


@pytest.fixture
def run(finished: tuple[Path, VolumePlan], tmp_path: Path) -> Run:
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    return Run(tmp_path / "run")


# the answer -----------------------------------------------------------------------------------------------------------


def test_a_volume_study_ends_with_a_whole_answer(run: Run) -> None:
    found, (row,) = run.answer, run.answer["generators"]
    assert run.finished and found["verdict"] == row["verdict"] and found["verdict"] in ("saturated", "not saturated", "cannot tell")
    assert [p["volume"] for p in row["points"]] == list(VOLUMES[1:]) and [(s["from"], s["to"]) for s in row["steps"]] == list(
        zip(VOLUMES, VOLUMES[1:], strict=False)
    )
    assert all(p["gain"]["low"] <= p["gain"]["value"] <= p["gain"]["high"] and 0 <= p["p_holm"] <= 1 for p in row["points"])
    assert row["curve"]["band"][0]["volume"] == 5 and row["curve"]["band"][-1]["volume"] == 40 and row["curve_missing"] is None
    assert row["cost"]["image_seconds"] > 0 and row["cost"]["fit_seconds"] > 0 and found["cost"]["money"] is None
    assert found["cost"]["synthetic_images"] == 3 * 3 * 40 and found["looks"][0]["look"] == 1
    for name in ("study.json", "machine.json", "jobs.jsonl", "scores.jsonl", "opening.json", "samples/samples.json"):
        assert (run.folder / name).is_file()
    assert "NaN" not in (run.folder / "volume.json").read_text()
    scores = [json.loads(line) for line in (run.folder / "scores.jsonl").read_text().splitlines()]
    assert [s["subject"] for s in scores if s["axis"] == "utility"] == [BASELINE, *(f"balanced+augment · gaussian · {v}" for v in VOLUMES[1:])]


def test_only_the_last_step_decides(run: Run) -> None:
    (row,) = run.answer["generators"]
    last = row["steps"][-1]
    assert [s["decides"] for s in row["steps"]] == [False, False, False, True]
    assert row["verdict"] == volume_answer.decide(last["gain"]["low"], last["gain"]["high"], worthwhile=0.01)
    gains = [s["gain"]["value"] for s in row["steps"]]
    assert sum(gains) == pytest.approx(row["points"][-1]["gain"]["value"]), "steps are differences of the same paired tables"
    assert last["gain_per_100"]["value"] == pytest.approx(5 * last["gain"]["value"])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.02, 0.009, "saturated"), (0.001, 0.009, "saturated"), (-0.05, -0.02, "saturated"), (0.001, 0.02, "not saturated"),
        (-0.001, 0.02, "cannot tell"), (0.0, 0.01, "cannot tell"),
    ],
)  # fmt: skip
def test_the_verdict_follows_the_interval_and_nothing_else(low: float, high: float, verdict: str) -> None:
    assert volume_answer.decide(low, high, worthwhile=0.01) == verdict


def test_images_that_surely_hurt_are_named(finished: tuple[Path, VolumePlan]) -> None:
    plan = finished[1]
    state = stages.open_state(plan.study, plan.cells)
    y = np.arange(120) % 3
    state.test = stages.Predictions(state.measure, y)
    for replicate in range(3):
        for arm in volume_answer.arms_of_study(state):
            said = y.copy()
            said[: 2 * (arm.volume or 0)] = (said[: 2 * (arm.volume or 0)] + 1) % 3
            state.test.add(arm, replicate, np.arange(120), said)
    found, _ = volume_answer.answer(state, confidence=0.95, groups=None)
    (row,) = found["generators"]
    assert row["verdict"] == "saturated" and 40 in row["hurts"] and row["next_step"]["code"] == "do_not_use"
    assert "Worse than no synthetic images" in row["reason"] and row["points"][-1]["gain"]["value"] == pytest.approx(-80 / 120)
    assert row["curve"]["band"][0]["value"] < row["curve"]["band"][-1]["value"], "the error rises"


def test_after_the_last_look_nobody_is_sent_for_another(finished: tuple[Path, VolumePlan]) -> None:
    plan, y = finished[1], np.arange(120) % 3
    state = stages.open_state(plan.study, plan.cells)
    state.test = stages.Predictions(state.measure, y)
    rng = np.random.default_rng(0)
    for replicate in range(3):
        for arm in volume_answer.arms_of_study(state):
            state.test.add(arm, replicate, np.arange(120), np.where(rng.random(120) < 0.8, y, (y + 1) % 3))
    for look, code in ((1, "more_proof"), (3, "looks_used_up")):
        (row,) = volume_answer.answer(state, confidence=gates.CONFIDENCE[look - 1], groups=None, look=look)[0]["generators"]
        assert row["verdict"] == "cannot tell" and row["next_step"]["code"] == code


def test_fewer_than_four_volumes_above_zero_have_no_curve(tmp_path: Path) -> None:
    plan = plan_of(volumes=(5, 10))
    assert "not fitted" in plan.cost()
    (row,) = mi.run(plan, tmp_path / "run", workers=0).answer["generators"]
    assert plan.study.sizes["volumes"] == [0, 5, 10], "the baseline is always measured"
    assert row["curve"] is None and "4 volumes" in row["curve_missing"] and row["verdict"]
    assert "4 volumes above 0" in text_of(write_report(Run(tmp_path / "run")))


# the images -----------------------------------------------------------------------------------------------------------


def test_a_smaller_volume_is_the_first_images_of_the_largest(finished: tuple[Path, VolumePlan]) -> None:
    place, plan = finished
    store, state = Store(place / "store"), stages.open_state(plan.study, plan.cells)
    cell = plan.cells[0]
    whole = store.get(state.jobs.synthetic("gaussian", cell).digest)
    part = store.get(state.jobs.images(Arm("balanced+augment", "gaussian", 5), cell).digest)
    assert whole is not None and part is not None
    x, y, few, labels = (np.load(e.path(name)) for e, name in ((whole, "x.npy"), (whole, "y.npy"), (part, "x.npy"), (part, "y.npy")))
    assert len(few) == 15 and all((few[labels == k] == x[y == k][:5]).all() for k in range(3))
    assert (np.load(part.path("seeds.npy")) == np.concatenate([np.load(whole.path("seeds.npy"))[y == k][:5] for k in range(3)])).all()
    assert state.jobs.images(Arm("balanced+augment", "gaussian", 40), cell) is state.jobs.synthetic("gaussian", cell)


def test_volumes_share_their_seed_and_steps_and_a_pilot_shares_their_jobs(finished: tuple[Path, VolumePlan]) -> None:
    plan = finished[1]
    jobs = stages.open_state(plan.study, plan.cells).jobs
    cell = plan.cells[1]
    trained = [jobs.trained(Arm("balanced+augment", "gaussian", v), cell) for v in VOLUMES[1:]]
    assert len({json.dumps(dict(job.settings), sort_keys=True) for job in trained}) == 1 and len({job.digest for job in trained}) == 4
    assert jobs.trained(Arm("balanced+augment", "gaussian"), cell).digest == trained[-1].digest, "all images, or the largest volume: the same job"
    assert "first" not in [need.verb for need in jobs.trained(Arm("balanced+augment", "gaussian"), cell).inputs.values() if not isinstance(need, str)]


def test_aligned_volumes_are_nested_too(finished: tuple[Path, VolumePlan]) -> None:
    plan = finished[1]
    jobs = stages.open_state(plan.study, plan.cells).jobs
    job = jobs.images(Arm("balanced+augment+align", "gaussian", 5), plan.cells[0])
    whole = job.inputs["synthetic"]
    assert job.verb == "first" and not isinstance(whole, str) and whole.verb == "align"


def test_a_generator_that_copies_is_reported_and_not_measured(tmp_path: Path) -> None:
    train = mi.volume(train=blobs(150, 0), test=blobs(120, 1), generators=("gaussian",), volumes=(0, 5), steps=12, replicates=3, budget="1h", workers=1)
    kept = train.data.splits.train
    np.savez(tmp_path / "copies.npz", x=kept.pixels(size=8, channels=1), y=kept.y, classes=np.array(kept.classes))
    name = f"folder:{tmp_path / 'copies.npz'}"
    found = mi.run(plan_of(150, generators=(name,), volumes=(0, 5, 20)), tmp_path / "run", workers=0)
    answer = found.answer
    assert answer["verdict"] == "not measured" and answer["generators"][0]["verdict"] is None and answer["generators"][0]["reason_code"] == "copies"
    assert answer["looks"] == [] and not (found.folder / "opening.json").exists() and not (Store.find().root / "openings.jsonl").exists()
    for lang in words.LANGUAGES:
        text = text_of(write_report(found, lang=lang))
        assert words.load(lang)("volume.headline.not measured") in text and "None" not in text


# running --------------------------------------------------------------------------------------------------------------


def test_the_same_call_again_runs_nothing_and_changes_nothing(finished: tuple[Path, VolumePlan], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    assert mi.run(finished[1], run.folder, workers=0).answer == run.answer
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


def test_interruptions_do_not_change_the_answer(finished: tuple[Path, VolumePlan], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mitate import verbs

    moved = replace(plan_of(), study=finished[1].study)  # the same integers, on a store of its own
    real, calls = verbs.perform, []

    def fragile(*args: object, **settings: object) -> object:
        calls.append(1)
        if len(calls) % 11 == 0:
            raise KeyboardInterrupt
        return real(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(verbs, "perform", fragile)
    for _ in range(60):
        try:
            broken = mi.run(moved, tmp_path / "b", workers=0)
            break
        except KeyboardInterrupt:
            continue
    else:
        pytest.fail("never finished")
    assert len(calls) > 11 and timeless(broken) == timeless(run)
    assert (broken.folder / "scores.jsonl").read_bytes() == (run.folder / "scores.jsonl").read_bytes()
    assert len((Store.find().root / "openings.jsonl").read_text().splitlines()) == 1


def test_another_question_in_the_same_folder_is_refused(run: Run) -> None:
    with pytest.raises(SettingError, match="another volume study .it differs in worthwhile") as wrong:
        mi.run(plan_of(worthwhile=0.03), run.folder, workers=0)
    assert "--out" in wrong.value.fix
    with pytest.raises(SettingError, match="holds a volume study, not a pilot"):
        mi.run(mi.pilot(train=blobs(90, 0), test=blobs(120, 1), generators=("gaussian",), budget="1h", workers=1), run.folder, workers=0)
    with pytest.raises(SettingError, match="holds a volume study"):
        continue_pilot(run, 2, store=Store.find())


def test_a_fourth_look_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    images = tuple(d[:16] for d in plan.test.digests)
    for study in "abc":
        gates.record_opening(plan.store, study=study, test="t", run=Path("r"), images=images)
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    with pytest.raises(DataError, match="3 times"):
        mi.run(plan, tmp_path / "run", workers=0)


def test_few_images_are_cross_fitted(tmp_path: Path) -> None:
    plan = plan_of(60, tests=0, volumes=(0, 5), steps=4)
    assert plan.study.sizes["cross_fit"] and len(plan.cells) == 15
    (row,) = mi.run(plan, tmp_path / "run", workers=0).answer["generators"]
    assert row["points"][0]["score"]["n"] == 60, "every image is tested once a replicate"


def test_prices_are_no_part_of_the_question(finished: tuple[Path, VolumePlan], run: Run) -> None:
    from mitate.studies.spending import Prices

    before = run.answer
    mi.run(replace(finished[1], prices=Prices(machine_price=3600.0, currency="EUR")), run.folder, workers=0)
    found, (row,) = run.answer, run.answer["generators"]
    assert found["cost"]["money"]["machine"] == pytest.approx(found["cost"]["machine_seconds"]) and found["cost"]["money"]["currency"] == "EUR"
    assert row["steps"][-1]["money"] == pytest.approx(row["steps"][-1]["seconds"]) and row["cost"]["money_per_100"] == pytest.approx(
        row["cost"]["seconds_per_100"]
    )
    assert found["study"] == before["study"] and "EUR" in text_of(write_report(run))


def test_a_currency_without_a_price_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="came without a price"):
        mi.run(plan_of(currency="EUR"), tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message", "fix"),
    [
        ({"volumes": (0, 50, 20)}, "do not increase", "small to large"),
        ({"volumes": (0, 10, 10)}, "do not increase", "each once"),
        ({"volumes": (-5, 10)}, "negative", "0 or more"),
        ({"volumes": (50,)}, "1 volumes make no step", "two or more"),
        ({"volumes": ()}, "0 volumes make no step", "two or more"),
        ({"volumes": (0, 10**9)}, "out of range", "at most"),
        ({"generators": ()}, "No generator", "--generators"),
        ({"arm": "real+augment"}, "uses no synthetic images", "balanced"),
        ({"arm": "ballanced"}, "no arm", "balanced"),
        ({"replicates": 2}, "2 replicates", "3 or more"),
        ({"worthwhile": -1.0}, "worthwhile", "0 or more"),
        ({"budget": "1s"}, "smallest volume study", "--budget"),
        ({"machine_price": -2.0}, "machine_price", "0 or more"),
    ],
)
def test_a_wrong_setting_is_an_error_with_a_fix(settings: dict[str, object], message: str, fix: str) -> None:
    with pytest.raises(SettingError, match=message) as wrong:
        plan_of(**settings)
    assert fix in wrong.value.fix


def test_a_folder_with_fewer_images_than_the_largest_volume_is_refused(tmp_path: Path) -> None:
    fakes = blobs(60, 5)
    np.savez(tmp_path / "fakes.npz", x=fakes.pixels(size=8, channels=1), y=fakes.y, classes=np.array(["low", "mid", "top"]))
    with pytest.raises(SettingError, match="20 images of its rarest class; 40") as wrong:
        plan_of(generators=(f"folder:{tmp_path / 'fakes.npz'}",))
    assert "up to 20" in wrong.value.fix
    assert plan_of(generators=(f"folder:{tmp_path / 'fakes.npz'}",), volumes=(0, 5, 20)).study.sizes["synthetic_per_class"] == 20


# faces ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_the_report_tells_verdict_step_and_curve_in_either_language(run: Run, lang: str) -> None:
    text, spoken = text_of(path := write_report(run, lang=lang)), words.load(lang)
    verdict = run.answer["verdict"]
    assert spoken(f"volume.headline.{verdict}") in text and spoken(f"volume.verdict.{verdict}") in text
    assert spoken("volume.decides") in text and spoken("volume.caution") in text and spoken("term.power.text") in text
    assert not re.search(r"\b(None|NaN|nan|null|inf|Undefined)\b", text) and "{" not in text and "}" not in text
    page = path.read_text(encoding="utf-8")
    assert 'class="c-area"' in page and 'class="c-fit"' in page and 'class="c-base"' in page and "<script" not in page
    if lang == "ja":
        assert "gaussian: from" not in text and "saturated" not in html.unescape(text)
    assert path.read_bytes() == write_report(run, lang=lang).read_bytes()


@pytest.mark.parametrize("verdict", ["saturated", "not saturated", "cannot tell", "mixed", "not measured"])
def test_every_verdict_next_step_and_rule_has_words(verdict: str) -> None:
    spoken = words.load("ja")
    assert f"volume.verdict.{verdict}" in spoken and f"volume.headline.{verdict}" in spoken
    reasons = ("saturated", "not_saturated", "cannot_tell", "copies")
    steps = ("make_no_more", "not_worth", "ask_for_more", "more_proof", "do_not_use", "looks_used_up")
    assert all(f"volume.reason.{code}" in spoken for code in reasons) and all(f"volume.next.{code}" in spoken for code in steps)
    assert "gate.saturation" in spoken and "rule.saturation" in spoken and "verb.first" in spoken


def test_the_command_runs_tells_lists_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays(tmp_path / "a.npz")

    def mitate(*typed: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mitate", *typed])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    quick = ("volume", "a.npz", "--generators", "gaussian", "--volumes", "0,5,10", "--steps", "4", "--replicates", "3", "--budget", "1h", "--engine", "here")
    code, out, _ = mitate(*quick, "--cost")
    assert code == 0 and "0, 5, 10 synthetic images a class" in out and not (tmp_path / "runs").exists()
    code, out, err = mitate(*quick, "--out", "runs/v")
    verdict = Run(Path("runs/v")).answer["verdict"]
    assert (code, out.splitlines()[0]) == (0, f"verdict: {verdict}") and "report.html" in out, err
    assert mitate(*quick, "--out", "runs/v")[1] == out
    assert verdict in mitate("ls")[1] and mitate("report", "runs/v", "--lang", "ja")[0] == 0 and Path("runs/v/report.ja.html").is_file()
    assert mitate("verify", "--run", "runs/v")[0] == 0
    for words_, message in ((("--volumes", "0,many"), "'many' is not a whole number"), (("--volumes", "5"), "no step"), (("--generators", ""), "No generator")):
        code, out, err = mitate("volume", "a.npz", "--out", "runs/w", *words_)
        lines = err.splitlines()
        assert (code, out, len(lines)) == (2, "", 2) and message in lines[0] and lines[1].startswith("fix: "), err
    code, _, err = mitate("volume", "a.npz", "--generators", "gaussian")
    assert code == 2 and "no place for the answer" in err


def test_a_last_step_that_helps_is_no_green_light_while_the_images_do_not_beat_none(run: Run) -> None:
    facts = json.loads((run.folder / "volume.json").read_text())
    (row,) = facts["generators"]
    facts["verdict"] = row["verdict"] = "not saturated"
    row["reason_code"] = "not_saturated"
    for low, key, tone in ((-0.02, "volume.headline.not_yet", "tone-more"), (0.01, "volume.headline.not saturated", "tone-go")):
        row["points"][-1]["gain"] = {"value": 0.03, "low": low, "high": 0.08, "n": 120}
        (run.folder / "volume.json").write_text(json.dumps(facts))
        path = write_report(run)
        assert (
            words.load("en")(key) in text_of(path)
            and f"verdict {tone}" in path.read_text()
            and "Against no synthetic images, the gain of 40 images" in text_of(path)
        )
