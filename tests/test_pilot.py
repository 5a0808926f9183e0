"""The pilot from end to end, on small arrays and the exact Gaussian generator: stages, verdicts, resume, looks, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate.errors import DataError, JobError, SettingError
from mitate.metrics.intervals import Interval, quantile_t
from mitate.recipe import BASELINE
from mitate.store import Store
from mitate.studies import answer, budget, curve, gates, spending, stages
from mitate.studies.arms import Arm, Cell, Predictions, arms_of, group_numbers
from mitate.studies.pilot import continue_pilot
from mitate.study import Run

ARMS = ("real", BASELINE, "synthetic+augment", "balanced+augment")


def blobs(n: int, seed: int, *, noise: float = 45.0, groups: bool = False) -> mi.ImageSet:
    """Three classes of 8x8 grey pictures: a bright bar at one of three heights, in noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = np.full((n, 8, 8), 90.0)
    for k in range(3):
        x[y == k, 1 + 2 * k : 3 + 2 * k] += 70
    x = np.clip(x + rng.normal(0, noise, x.shape), 0, 255).astype(np.uint8)
    return mi.from_arrays(x, y, classes=("low", "mid", "top"), name="blobs", groups=[f"plant {i // 6}" for i in range(n)] if groups else None)


def plan_of(n: int = 90, *, tests: int = 120, **settings: object) -> object:
    chosen = {"generators": ("gaussian",), "arms": ARMS, "steps": 12, "replicates": 3, "budget": "1h", "workers": 1, "synthetic_per_class": 20, **settings}
    return mi.pilot(train=blobs(n, 0), test=blobs(tests, 1) if tests else None, **chosen)  # type: ignore[arg-type]


def run_here(plan: object, folder: Path) -> Run:
    return mi.run(plan, folder, workers=0)  # type: ignore[arg-type]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on time, place or interruption."""
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("machine.json", "jobs.jsonl", "study.json")
    }
    decision = spending.timeless(json.loads(found["decision.json"]))
    for look in decision["looks"]:
        look.pop("run")
    found["decision.json"] = json.dumps(decision).encode()
    return found


def weights_of(store: Store) -> dict[str, str]:
    """Digest of every file of every stored result, timings aside."""
    return {f"{name}/{file}": found for name in store.objects() for file, found in (store.get(name) or pytest.fail()).result["files"].items()}


def test_a_pilot_ends_with_a_whole_answer(tmp_path: Path) -> None:
    run = run_here(plan_of(), tmp_path / "run")
    found = run.decision
    assert found["verdict"] in ("go", "stop", "more evidence") and found["reason"]
    labels = [a["label"] for a in found["arms"]]
    assert labels == [BASELINE, "real", "synthetic+augment · gaussian", "balanced+augment · gaussian"]
    worth = found["real_image_equivalent"]
    assert worth["at"] == 54 and worth["least"] < 0 < worth["most"] and [w["at"] for w in worth["measured"]] == [15, 27]
    assert [(p["arm"], p["images"]) for p in found["learning_curve"]["points"]][:3] == [("real+augment", m) for m in (15, 27, 54)]
    for name in ("study.json", "machine.json", "jobs.jsonl", "scores.jsonl", "samples/samples.json"):
        assert (run.folder / name).is_file()
    cost = found["cost"]
    assert sum(row["seconds"] for row in cost["stages"]) == pytest.approx(cost["machine_seconds"], abs=0.5)
    assert found["meeting"]["text"] and cost["money"] is None
    for line in (run.folder / "scores.jsonl").read_text().splitlines():
        score = json.loads(line)
        assert (score["value"] is None) == bool(score["note"] and score["n"] is None)
    gate = {g["subject"]: g["high"] for g in found["gates"] if g["name"] == "reach"}
    for arm in found["arms"]:
        assert arm["split"] != "selection" or arm["gain"] is None or arm["gain"]["high"] == pytest.approx(gate[arm["label"]]), "one interval, gate and table"
    if found["stage"] == "full":
        assert len(list((run.folder / "synthetic").rglob("*.png"))) == 60 and found["looks"][0]["look"] == 1
    assert "NaN" not in (run.folder / "decision.json").read_text()


def test_the_same_command_again_samples_nothing_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    run = run_here(plan, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    again = run_here(plan, tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in again.folder.rglob("*")} == before


def test_a_plan_made_again_runs_under_the_integers_of_the_first_and_opens_nothing_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_here(plan_of(), tmp_path / "run")
    before = first.decision
    again = plan_of()
    sizes = {**again.study.sizes, "training": {**again.study.sizes["training"], "steps": 7}}  # type: ignore[attr-defined]  # another probe, another speed
    moved = replace(again, study=replace(again.study, sizes=sizes))  # type: ignore[type-var, attr-defined]
    assert run_here(moved, tmp_path / "run").decision == before and Run(tmp_path / "run").study.digest == first.study.digest
    with pytest.raises(SettingError, match="another pilot"):
        run_here(plan_of(seed=3), tmp_path / "run")
    ledger = Store.find().root / "openings.jsonl"
    assert not ledger.exists() or len(ledger.read_text().splitlines()) == 1


def test_an_answer_of_another_study_is_not_taken_for_this_one(tmp_path: Path) -> None:
    plan = plan_of()
    run = run_here(plan, tmp_path / "run")
    decision = run.decision
    (run.folder / "decision.json").write_text(json.dumps({**decision, "study": "0" * 64}))
    assert not run.finished
    assert run_here(plan, tmp_path / "run").decision["study"] == plan.study.digest  # type: ignore[attr-defined]


def test_workers_and_interruptions_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    straight = run_here(plan, tmp_path / "a")
    first = weights_of(plan.store)  # type: ignore[attr-defined]

    other = Store(tmp_path / "other")
    monkeypatch.setenv("MITATE_HOME", str(other.root))
    moved = mi.pilot(**_arguments(other))  # type: ignore[arg-type]
    moved = replace(moved, study=plan.study)  # type: ignore[attr-defined]  # the same integers, on another store
    from mitate import verbs

    real, calls = verbs.perform, []

    def fragile(*args: object, **settings: object) -> object:
        calls.append(1)
        if len(calls) % 7 == 0:
            raise KeyboardInterrupt
        return real(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(verbs, "perform", fragile)
    for _ in range(60):
        try:
            broken = run_here(moved, tmp_path / "b")
            break
        except KeyboardInterrupt:
            continue
    else:
        pytest.fail("never finished")
    assert files_of(broken.folder) == files_of(straight.folder)
    second = weights_of(other)
    assert second == first and len(second) > 20


def _arguments(store: Store) -> dict[str, object]:
    return {
        "train": blobs(90, 0), "test": blobs(120, 1), "generators": ("gaussian",), "arms": ARMS, "steps": 12, "replicates": 3, "budget": "1h", "workers": 1,
        "synthetic_per_class": 20, "store": store,
    }  # fmt: skip


def test_the_plan_says_which_look_it_would_be_and_when_none_is_left() -> None:
    plan = plan_of()
    assert "look  " not in plan.cost()  # type: ignore[attr-defined]
    images = tuple(d[:16] for d in plan.test.digests)  # type: ignore[attr-defined]
    gates.record_opening(plan.store, study="before", test="t", run=Path("a"), images=images)  # type: ignore[attr-defined]
    assert "2 of 3 at these test images: the interval is 97.5%" in plan.cost()  # type: ignore[attr-defined]
    for study in ("again", "once more"):
        gates.record_opening(plan.store, study=study, test="t", run=Path("a"), images=images)  # type: ignore[attr-defined]
    assert "none is left at these test images" in plan.cost()  # type: ignore[attr-defined]


def test_the_test_split_is_opened_once_and_the_fourth_look_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    images = tuple(f"{i:016x}" for i in range(50))
    for k, study in enumerate(("a", "b", "c"), start=1):
        assert gates.look_number(store, study=study, images=images) == k
        assert gates.record_opening(store, study=study, test="t", run=Path("r"), images=images) == k
        assert gates.record_opening(store, study=study, test="t", run=Path("r"), images=images) == k
    assert gates.look_number(store, study="b", images=images) == 2, "the same study again is the same look"
    with pytest.raises(DataError, match="3 times"):
        gates.look_number(store, study="d", images=images)
    with pytest.raises(DataError, match="3 times"):
        gates.record_opening(store, study="d", test="t", run=Path("r"), images=images)
    assert gates.look_number(store, study="d", images=tuple(f"x{i}" for i in range(50))) == 1
    with pytest.raises(DataError):
        gates.look_number(store, study="d", images=(*images[:6], *(f"x{i}" for i in range(44))))
    with open(store.root / "openings.jsonl", "a") as ledger:
        ledger.write('{"study": "cut sho')
    assert gates.look_number(store, study="a", images=images) == 1


def test_a_continued_run_is_the_next_look_with_a_wider_interval(tmp_path: Path) -> None:
    data = tmp_path / "blobs.npz"
    train, test = blobs(90, 0), blobs(120, 1)
    np.savez(data, x_train=train.pixels(size=8, channels=1), y_train=train.y, x_test=test.pixels(size=8, channels=1), y_test=test.y)
    plan = mi.pilot(str(data), generators=("gaussian",), arms=ARMS, steps=12, replicates=3, budget="1h", workers=1, synthetic_per_class=20, worthwhile=0.0)
    run = run_here(plan, tmp_path / "run")
    if run.decision["stage"] != "full":
        pytest.skip("this pilot ended early")
    first = run.decision
    run = continue_pilot(run, 2, store=plan.store, workers=0)
    assert [(x["look"], x["confidence"], x["replicates"]) for x in run.decision["looks"]] == [(1, 0.95, 3), (2, 0.975, 5)]
    assert run.decision["candidate"] == first["candidate"] and run.decision["confidence"] == 0.975
    assert Run(run.folder / "look1").decision == first
    for option in first["next_looks"]["options"]:
        assert option["replicates"] == 3 + option["add"] and option["confidence"] == 0.975 and sum(option["chance"].values()) == pytest.approx(1, abs=1e-3)
    assert first["next_step"]["chance"] is None or 0.2 <= first["next_step"]["chance"] <= 1
    later = {(r["stage"], r["look"]): r["seconds"] for r in run.decision["cost"]["stages"]}
    assert later["full", 2] > 0, "what the second look added is told apart"
    predicted, took = first["next_looks"]["options"][0]["seconds"] / 5, sum(later.values()) - first["cost"]["machine_seconds"]
    assert 0.2 < predicted * 2 / took < 5, "two replicates took about what two replicates were said to take"
    if run.decision["verdict"] != "more evidence":
        pytest.skip("the second look settled it")
    continue_pilot(run, 1, store=plan.store, workers=0)
    with pytest.raises(SettingError, match="3 looks|its answer"):
        continue_pilot(run, 1, store=plan.store, workers=0)


def test_a_run_made_before_there_were_learning_curves_is_continued_without_one(tmp_path: Path) -> None:
    data = tmp_path / "blobs.npz"
    train, test = blobs(90, 0), blobs(120, 1)
    np.savez(data, x_train=train.pixels(size=8, channels=1), y_train=train.y, x_test=test.pixels(size=8, channels=1), y_test=test.y)
    settings = {"generators": ("gaussian",), "arms": ("balanced+augment",), "steps": 6, "replicates": 3, "budget": "1h", "workers": 1, "curve": "none"}
    plan = mi.pilot(str(data), worthwhile=0.0, **settings)  # type: ignore[arg-type]
    run = run_here(plan, tmp_path / "run")
    assert run.decision["stage"] == "full"
    study = json.loads((run.folder / "study.json").read_text())
    study["plan"].pop("curve"), study["sizes"].pop("curve")
    (run.folder / "study.json").write_text(json.dumps(study))
    (run.folder / "decision.json").write_text(json.dumps({**run.read("decision.json"), "study": Run(run.folder).study.digest, "verdict": "more evidence"}))
    found = continue_pilot(Run(run.folder), 1, store=plan.store, workers=0).decision
    assert found["looks"][-1]["replicates"] == 4 and found["learning_curve"] is None
    assert [m["why"] for m in found["not_measured"] if m["what"] == "real_image_equivalent"] == [curve.NOT_ASKED]


def test_too_few_images_are_cross_fitted_with_a_candidate_fixed_before(tmp_path: Path) -> None:
    plan = plan_of(60, tests=0)
    study = plan.study  # type: ignore[attr-defined]
    assert study.sizes["cross_fit"] and study.sizes["folds"] == 5 and study.sizes["candidate"] == "balanced+augment"
    found = run_here(plan, tmp_path / "run").decision
    assert found["candidate"] == "balanced+augment · gaussian" and found["stage"] == "full"
    assert found["arms"][0]["score"]["n"] == 60, "every image is tested once a replicate"
    assert any(m["what"] == "choice of the candidate" for m in found["not_measured"])


def test_groups_are_counted_and_never_split(tmp_path: Path) -> None:
    plan = mi.pilot(
        train=blobs(180, 0, groups=True), generators=("gaussian",), arms=ARMS, steps=12, replicates=3, budget="1h", workers=1, synthetic_per_class=20
    )
    found = run_here(plan, tmp_path / "run").decision
    arm = next(a for a in found["arms"] if a["role"] == "candidate")
    assert len(arm["gain_per_group"]) >= 5 and set(arm["gain_per_class"]) == {"low", "mid", "top"}


@pytest.mark.parametrize(("plants", "sizes"), [(3, None), (4, [45, 90]), (6, [30, 60, 120])])
def test_groups_too_large_to_part_leave_sizes_out_of_the_learning_curve(tmp_path: Path, plants: int, sizes: list[int] | None) -> None:
    images = blobs(180, 0)
    train = mi.from_arrays(images.pixels(size=8, channels=1), images.y, classes=images.classes, groups=[f"plant {i % 3} {i // 3 % plants}" for i in range(180)])
    settings = {"generators": ("gaussian",), "arms": ("balanced+augment",), "steps": 6, "replicates": 3, "budget": "1h", "workers": 1, "curve": "full"}
    found = run_here(mi.pilot(train=train, test=blobs(60, 1), worthwhile=0.0, **settings), tmp_path / "run").decision  # type: ignore[arg-type]
    assert found["stage"] == "full"
    if sizes is None:
        assert found["learning_curve"] is None and found["real_image_equivalent"] is None
        assert [m["why"] for m in found["not_measured"] if m["what"] == "learning_curve"] == [curve.ONE_SIZE]
        return
    points = found["learning_curve"]["points"]
    assert [p["images"] for p in points if p["arm"] == BASELINE] == sizes and found["real_image_equivalent"]["at"] == sizes[-1]
    assert all(0 <= p["low"] <= p["value"] <= p["high"] <= 1 for p in points), "no score lies outside what a share can be"


def test_another_pilot_does_not_overwrite_a_run(tmp_path: Path) -> None:
    from mitate.studies.planning import Pilot, plan_pilot

    plan = plan_of()
    run_here(plan, tmp_path / "run")
    with pytest.raises(SettingError, match="another pilot"):
        plan_pilot(Pilot(data="blobs", seed=1), blobs(90, 0), store=plan.store, workers=1, existing=Run(tmp_path / "run").study)  # type: ignore[attr-defined]


def test_images_that_changed_since_are_noticed(tmp_path: Path) -> None:
    from mitate.settings import record
    from mitate.studies.planning import Pilot, plan_pilot

    plan = plan_of(120, tests=0)
    study = run_here(plan, tmp_path / "run").study
    asked = record(Pilot, study.plan, where="x")
    with pytest.raises(SettingError, match="images changed"):
        plan_pilot(asked, blobs(120, 7), store=plan.store, workers=1, existing=study)  # type: ignore[attr-defined]


def test_outside_images_are_a_generator_and_missing_classes_are_named(tmp_path: Path) -> None:
    fakes = blobs(60, 5)
    x, y = fakes.pixels(size=8, channels=1), fakes.y
    np.savez(tmp_path / "fakes.npz", x=x, y=y, classes=np.array(["LOW", "mid", "top"]))
    plan = plan_of(generators=(f"folder:{tmp_path / 'fakes.npz'}",))
    found = run_here(plan, tmp_path / "run").decision
    assert any(a["generator"] and a["generator"].startswith("folder:") for a in found["arms"])
    np.savez(tmp_path / "few.npz", x=x[y < 2], y=y[y < 2], classes=np.array(["low", "mid"]))
    with pytest.raises(DataError, match="no images of top"):
        plan_of(generators=(f"folder:{tmp_path / 'few.npz'}",))


def test_outside_images_that_are_test_images_are_refused_and_copies_of_held_back_ones_left_out(tmp_path: Path) -> None:
    test, train = blobs(120, 1), blobs(90, 0)
    np.savez(tmp_path / "stolen.npz", x=test.pixels(size=8, channels=1)[:30], y=test.y[:30], classes=np.array(["low", "mid", "top"]))
    with pytest.raises(DataError, match="30 of the test images"):
        plan_of(generators=(f"folder:{tmp_path / 'stolen.npz'}",))
    np.savez(tmp_path / "all.npz", x=train.pixels(size=8, channels=1), y=train.y, classes=np.array(["low", "mid", "top"]))
    plan = plan_of(generators=(f"folder:{tmp_path / 'all.npz'}",))
    (finding,) = [f for f in plan.study.data["findings"] if f["kind"] == "held back"]  # type: ignore[attr-defined]
    held = plan.study.data["images"]["selection"] + plan.study.data["images"]["holdout"]  # type: ignore[attr-defined]
    assert f"{held} images left out" in finding["message"]


def test_a_kept_generator_that_has_seen_the_test_images_is_refused(tmp_path: Path) -> None:
    x = np.concatenate([blobs(90, 0).pixels(size=8, channels=1), blobs(120, 1).pixels(size=8, channels=1)])
    seen = mi.from_arrays(x, [*blobs(90, 0).y, *blobs(120, 1).y], classes=("low", "mid", "top"))
    mi.fit(mi.Gaussian(), seen, name="cheat")
    with pytest.raises(DataError, match="holds back from it"):
        plan_of(generators=("cheat",))
    plan = plan_of()
    honest = mi.open_images(blobs(90, 0))
    taken = set(plan.study.data["image_digests"]["selection"]) | set(plan.study.data["image_digests"]["holdout"])  # type: ignore[attr-defined]
    mi.fit(mi.Gaussian(), honest.subset([i for i, d in enumerate(honest.digests) if d not in taken]), name="honest")
    found = run_here(plan_of(generators=("honest",), curve="full"), tmp_path / "run").decision
    assert any(a["generator"] == "honest" for a in found["arms"])
    measured = [(p["arm"], p["images"]) for p in found["learning_curve"]["points"]]
    assert measured == [(BASELINE, 15), (BASELINE, 27), (BASELINE, 54), (found["candidate"], 54)], "it has seen more than a part of the images"
    assert found["real_image_equivalent"]["measured"] == []


def test_aligned_arms_run_and_keep_their_adapter(tmp_path: Path) -> None:
    plan = plan_of(arms=("synthetic+augment", "balanced+augment+align"))
    found = run_here(plan, tmp_path / "run").decision
    assert any(a["name"] == "balanced+augment+align" for a in found["arms"])
    assert any((plan.store.folder_of(n) / "adapter.safetensors").exists() for n in plan.store.objects())  # type: ignore[attr-defined]


def test_a_generator_that_copies_is_stopped_before_the_test_split(tmp_path: Path) -> None:
    train = blobs(90, 0)
    np.savez(tmp_path / "copies.npz", x=train.pixels(size=8, channels=1), y=train.y, classes=np.array(["low", "mid", "top"]))
    run = run_here(plan_of(generators=(f"folder:{tmp_path / 'copies.npz'}",)), tmp_path / "run")
    found = run.decision
    assert (found["verdict"], found["reason_code"], found["stage"]) == ("stop", "stop_privacy", "look")
    assert found["looks"] == [] and not (run.folder / "opening.json").exists() and not Store.find().root.joinpath("openings.jsonl").exists()
    stages_ = {row["stage"]: row for row in found["cost"]["stages"]}
    assert stages_["look"]["ran"] and not stages_["small"]["ran"] and not stages_["full"]["ran"]
    assert stages_["full"]["saved_seconds"] > stages_["small"]["saved_seconds"] > 0 and "instead of about" in found["meeting"]["text"]


def test_labels_that_teach_nothing_are_stopped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 3, classes=np.array(["low", "mid", "top"]))
    found = run_here(plan_of(150, generators=(f"folder:{tmp_path / 'noise.npz'}",)), tmp_path / "run").decision
    assert found["reason_code"] in ("stop_useless", "stop_futile", "stop_small", "more_evidence") and found["verdict"] != "go"


def test_a_failing_job_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mitate import verbs

    def broken(work: object) -> dict[str, object]:
        raise ZeroDivisionError("no")

    monkeypatch.setitem(verbs.VERBS, "train", verbs.Verb(broken, 1))
    plan = plan_of()
    with pytest.raises(JobError, match="ZeroDivisionError"):
        run_here(plan, tmp_path / "run")
    monkeypatch.undo()


def test_arms_stand_once_for_each_generator_and_the_baseline_is_first() -> None:
    arms = arms_of(["real", "balanced"], ["a", "b"])
    assert arms == [Arm(BASELINE), Arm("real"), Arm("balanced", "a"), Arm("balanced", "b")]


def test_the_candidate_leans_on_its_recipe_and_generator_not_on_one_lucky_cell() -> None:
    from mitate.studies.stages import additive

    grid = {
        Arm(r, g): value
        for r, row in {"mixed": (0.00, 0.01), "balanced": (0.03, 0.04), "bridged": (0.05, -0.03)}.items()
        for g, value in zip("ab", row, strict=True)
    }
    fitted = additive(grid)
    assert max(fitted, key=fitted.__getitem__).recipe == "balanced", "bridged with a was lucky: its other generator says so"
    exact = {Arm(r, g): i + 10 * j for i, r in enumerate(("mixed", "balanced")) for j, g in enumerate("ab")}
    assert additive(exact) == pytest.approx(exact)
    assert additive({Arm("mixed", "a"): 0.5}) == pytest.approx({Arm("mixed", "a"): 0.5})


# the verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.011, 0.05, "go"), (0.009, 0.05, "more evidence"), (-0.05, 0.009, "stop"), (-0.05, 0.011, "more evidence")]
)
def test_the_verdict_needs_the_whole_interval_on_one_side(low: float, high: float, verdict: str) -> None:
    assert gates.decide(Interval((low + high) / 2, low, high, 100), worthwhile=0.01) == verdict


def test_the_detectable_gain_is_what_gets_a_go_in_four_of_five_worlds() -> None:
    rng = np.random.default_rng(0)
    gain = gates.detectable(test_images=200, replicates=5, confidence=0.95, row_sd=0.02, image_variance=0.05)
    from mitate.metrics.intervals import two_way

    goes = 0
    for _ in range(600):
        table = 0.01 + gain + rng.normal(0, 0.02, (5, 1)) + rng.normal(0, np.sqrt(0.05), (1, 200)) + np.zeros((5, 200))
        goes += gates.decide(two_way(table, confidence=0.95, low_share=gates.LOW_SHARE), worthwhile=0.01) == "go"
    assert 0.74 < goes / 600 < 0.86


# the budget


def test_the_chosen_sizes_fit_the_budget_and_shrink_with_it() -> None:
    speeds = budget.Speeds(0.02, {"vae": (0.01, 0.0005), "diffusion": (0.02, 0.01)})
    common = {
        "steps": 300, "replicates": 0, "generator_steps": {"vae": 500, "diffusion": 800}, "images": 500, "small": 2, "folds": 1, "workers": 2,
        "tested": 0.1, "curve": "auto",
    }  # fmt: skip
    from mitate.recipe import DEFAULT_ARMS

    walls, sizes = [], []
    for seconds in (100_000, 1500, 600, 300):
        chosen, long_steps, found = budget.choose(DEFAULT_ARMS, speeds, budget=seconds, **common)  # type: ignore[arg-type]
        assert found["wall"] <= seconds and chosen.steps <= long_steps <= 4 * chosen.steps
        walls.append(found["wall"])
        sizes.append(chosen)
    assert walls == sorted(walls, reverse=True) and sizes[0].full == 8 and sizes[0].steps == 300
    with pytest.raises(SettingError, match="too small"):
        budget.choose(DEFAULT_ARMS, speeds, budget=5, **common)  # type: ignore[arg-type]


def test_time_on_a_frozen_body_grows_with_the_images() -> None:
    sizes = budget.Sizes(full=3, steps=100, generator_share=1.0, arms=("real", "balanced"), curve="none")
    common = {"generator_steps": {"vae": 10}, "cells_small": 0, "folds": 1, "long_steps": 100, "tested": 0.1}
    for image, more in ((0.0, 0.0), (0.01, 9 * 0.01 * 900)):
        speeds = budget.Speeds(0.001, {"vae": (0.01, 0.0)}, image)
        few, many = (budget.estimate(sizes, speeds, images=n, real=50, **common) for n in (100, 1000))  # type: ignore[arg-type]
        assert many["train"] - few["train"] == pytest.approx(more)
        assert budget.testing(speeds, 1000, batch=32) - 0.1 == pytest.approx(1000 * image or 1000 * 0.001 / 96)


def test_the_default_arms_of_a_frozen_body_leave_out_those_that_would_say_nothing() -> None:
    from mitate.recipe import DEFAULT_ARMS, of_frozen

    kept = of_frozen(DEFAULT_ARMS)
    assert set(DEFAULT_ARMS) - set(kept) == {"bridged-fresh+augment", "bridged+++augment"}
    assert of_frozen(("real", "bridged+augment")) == ("real", "bridged+augment")
    shortest = budget.ladder(kept, steps=300, replicates=0, curve="auto")[-1]
    assert set(shortest.arms) < set(kept)  # still the default ones: they may be left out for time


def test_the_shipped_backbone_is_kept_in_the_store_like_any_file(tmp_path: Path) -> None:
    from mitate.runtime import MITATE_SMALL
    from mitate.studies.planning import backbone_of

    store = Store(tmp_path)
    found = backbone_of("mitate-small+frozen", store)
    assert (found["name"], found["frozen"]) == ("mitate-small", True)
    assert store.there(found["weights"]).path("weights.safetensors").read_bytes() == MITATE_SMALL.read_bytes()
    assert backbone_of(f"mitate-small:{MITATE_SMALL}", store)["weights"] == found["weights"]


# what the intervals take into account


def small_state(measure: str, y: np.ndarray, *, overlap: float = 0.0) -> stages.State:
    """A pilot of the baseline and four arms, before anything has run."""
    from mitate.metrics import measures
    from mitate.study import Study

    classes = ["low", "mid", "top"]
    frozen = measures.freeze(measures.parse(measure, classes))
    arms = [BASELINE, "synthetic+augment", "balanced+augment", "mixed+augment", "balanced"]
    sizes = {"arms": arms, "generators": {"g": {}}, "measure": frozen, "overlap": overlap, "folds": 1, "cross_fit": False}
    before = {"gain": 0.1, "test_images": len(y), "replicates": 5, "smaller_by": []}
    return stages.open_state(Study("pilot", {"worthwhile": 0.05, "seed": 0}, {"classes": classes}, sizes, (), before), [])


def answered(state: stages.State, y: np.ndarray, arms: list[Arm], *, replicates: int, seed: int = 0) -> Predictions:
    rng, table = np.random.default_rng(seed), Predictions(state.measure, y)
    for arm in arms:
        for r in range(replicates):
            table.add(arm, r, np.arange(len(y)), np.where(rng.random(len(y)) < 0.6, y, (y + 1) % 3))
    return table


def test_the_reach_gate_seldom_drops_an_arm_that_just_reaches_when_images_come_in_groups() -> None:
    """20 groups of 5 images, four arms whose true gain is the worthwhile one."""
    y, members, rng = np.arange(100) % 3, np.repeat(np.arange(20), 5), np.random.default_rng(0)
    state = small_state("accuracy", y)
    arms = [a for a in state.arms if a.synthetic]
    state.selection = Predictions(state.measure, y)
    dropped = {"groups": 0, "images": 0}
    for _ in range(150):
        tables = {a: 0.05 + rng.normal(0, 0.01, (2, 1)) + rng.normal(0, 0.4, 20)[members] + rng.normal(0, 0.2, (2, 100)) for a in arms}
        for name, groups in (("groups", members), ("images", None)):
            state.selection_groups = groups
            dropped[name] += sum(stages.on_selection(state, tables, a, confidence=0.95).high < 0.05 for a in arms)
    groups, images = (dropped[name] / 600 for name in ("groups", "images"))
    assert groups < 0.025, "one side of a 95 % interval"
    assert images > 2 * groups + 0.04, "images taken one by one drop far more"


def test_the_labels_gate_counts_groups_not_images() -> None:
    picks = np.random.default_rng(1).choice([0.0, 1.0], 20, p=[0.75, 0.25]).repeat(5)
    n, members = 100, np.repeat(np.arange(20), 5)
    mean, alone, _ = gates.above_chance(picks, chance=0.5, least=1 / n)
    assert alone - mean == pytest.approx(quantile_t(0.975, 99) * picks.std(ddof=1) / 10)
    assert gates.above_chance(picks, chance=0.5, least=1 / n, groups=np.arange(n))[1] == pytest.approx(alone)
    together = gates.above_chance(picks, chance=0.5, least=1 / n, groups=members)[1]
    assert together - mean == pytest.approx(quantile_t(0.975, 19) * picks[::5].std(ddof=1) / np.sqrt(20))
    assert gates.above_chance(np.zeros(n), chance=0.5, least=0.3)[2], "one image of a rare class is worth that much"
    with pytest.raises(ValueError, match="1 groups"):
        gates.above_chance(picks, chance=0.5, least=1 / n, groups=np.zeros(n, np.int64))


def test_groups_are_read_from_the_stored_images_and_those_without_are_on_their_own(tmp_path: Path) -> None:
    from mitate.engine import Engine
    from mitate.verbs import keep_images

    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    store = Store(tmp_path / "s")
    with Engine(store, workers=0) as engine:
        some = mi.from_arrays(x, [0, 1, 2, 0, 1, 2], classes=("low", "mid", "top"), groups=["b", "a", "", "b", "", "a"])
        numbers = stages._groups(engine, keep_images(store, some, size=8, channels=1))
        assert numbers is not None and numbers[0] == numbers[3] and numbers[1] == numbers[5] and len(set(numbers)) == 4
        none = mi.from_arrays(x, [0, 1, 2, 0, 1, 2], classes=("low", "mid", "top"))
        assert stages._groups(engine, keep_images(store, none, size=8, channels=1)) is None


def test_a_selection_split_of_one_group_drops_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(60) % 3
    state = small_state("accuracy", y)
    state.study.sizes["small"] = 2  # type: ignore[index]
    table = answered(state, y, state.arms, replicates=2)
    state.cells = [Cell(r, 0, "", "", "", "") for r in range(2)]
    monkeypatch.setattr(stages, "predictions_on", lambda *a, **k: table)
    monkeypatch.setattr(stages, "_groups", lambda *a: np.zeros(60, np.int64))
    stages.small(state, None, lambda *a: None)  # type: ignore[arg-type]
    assert not state.dropped_arms and state.candidate is not None and {g["passed"] for g in state.gates} == {None}
    assert [m["what"] for m in state.not_measured] == ["gains on the selection split"]
    assert stages._labels_gate(state, "g", y, y, groups=np.zeros(60, np.int64)) is None and state.gates[-1]["passed"] is None


def test_images_without_a_group_have_no_gain_per_group() -> None:
    y = np.arange(30) % 3
    state = small_state("accuracy", y)
    state.test = answered(state, y, state.arms, replicates=3)
    groups, names = group_numbers(["p"] * 12 + ["q"] * 10 + ["r"] + [""] * 7, [f"{i}.png" for i in range(30)])
    assert list(answer._per_group(state, state.arms[1], confidence=0.95, groups=groups, names=names)) == ["p", "q", "r"]


def test_the_n_of_a_recall_is_that_of_its_class_in_the_row_and_in_the_detectable_gain() -> None:
    y = np.repeat(np.arange(3), (60, 30, 10))
    state = small_state("recall:top", y)
    state.test = answered(state, y, state.arms, replicates=5)
    state.candidate = state.arms[1]
    row = answer._arm_row(state, state.candidate, confidence=0.95, groups=None, group_names=[])
    assert row["gain"]["n"] == row["score"]["n"] == 10 and row["gain_per_class"]["low"]["n"] == 60
    found = answer._detectable(state, confidence=0.95, groups=None)
    assert {o["to"] for o in found["smaller_by"] if o["change"] == "test_images"} <= {20, 40}
    state.selection, state.test = state.test, None
    assert answer._arm_row(state, state.candidate, confidence=0.95, groups=None, group_names=[])["gain"]["n"] == 10


def test_the_measured_spread_of_replicates_is_what_the_overlap_was_multiplied_onto() -> None:
    y = np.arange(100) % 3
    state = small_state("accuracy", y, overlap=0.4)
    state.test = answered(state, y, state.arms, replicates=5)
    state.candidate = state.arms[1]
    gain = stages.gain_on_test(state, state.candidate, confidence=0.95, groups=None)
    variances = {a: state.test.paired(a, state.baseline).mean(axis=1).var(ddof=1) for a in state.arms[1:]}
    own, others = variances[state.candidate], [v for a, v in variances.items() if a != state.candidate]
    sd = np.sqrt(max(own, (4 * own + 0.4 * np.median(others)) / 4.4))
    assert gain.se_replicates == pytest.approx(sd * np.sqrt(1 / 5 + 0.4))
    spread = {"row_sd": sd, "image_variance": gain.se_images**2 * 100, "overlap": 0.4}
    expected = gates.smaller_by(test_images=100, replicates=5, confidence=0.95, **spread)
    assert answer._detectable(state, confidence=0.95, groups=None)["smaller_by"] == [{**o, "gain": pytest.approx(o["gain"])} for o in expected]


def test_more_replicates_do_not_shrink_the_overlap_of_the_detectable_gain() -> None:
    common = {"test_images": 10**7, "confidence": 0.95, "row_sd": 0.02, "image_variance": 0.1}
    many = gates.detectable(replicates=10**6, overlap=0.4, **common)  # type: ignore[arg-type]
    assert many == pytest.approx((2.32635 + 0.84162) * 0.02 * np.sqrt(0.4), rel=1e-2)
    assert gates.smaller_by(replicates=20, **common)  # type: ignore[arg-type]
    assert not gates.smaller_by(replicates=20, overlap=0.4, **common)  # type: ignore[arg-type]


def test_the_overlap_of_cross_fitting_is_that_of_the_folds_that_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 images: 12 tested, 9 and 9 carved, 30 trained on in every fold."""
    monkeypatch.setattr("mitate.studies.planning.probe_speeds", lambda *a, **k: (budget.Speeds(0.001, {"gaussian": (0.0, 0.0)}), {"gaussian": 1}))
    plan = plan_of(60, tests=0)
    study = plan.study  # type: ignore[attr-defined]
    sizes = {(plan.store.get(c.test).result["images"], plan.store.get(c.train).result["images"]) for c in plan.cells}  # type: ignore[attr-defined]
    assert sizes == {(12, 30)} and study.sizes["overlap"] == pytest.approx(0.4)
    assert study.detectable["gain"] == gates.detectable(test_images=60, replicates=3, confidence=0.95, overlap=0.4)
