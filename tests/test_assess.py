"""The assessment from end to end: copies, collapsed, fresh and mislabelled sets, floors, the store, refusals, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate.axes import ONE_MIX, OWN_MIXES
from mitate.errors import DataError, SettingError
from mitate.metrics.intervals import two_way, wilson
from mitate.score import Assessment, Score
from mitate.store import Entry, Store
from mitate.studies import assess as study
from mitate.studies import assess_answer, utility
from mitate.studies.assess_planning import AXES, Assess, check_asked
from mitate.study import Job
from mitate.verbs import VERBS

CLASSES = 2
FREE = ("privacy", "fidelity", "diversity", "style", "efficiency")  # axes that need no training
QUICK = {"most": 12, "eps": [0.02], "headline": 0.02, "pgd_steps": 2, "apgd_steps": 2, "queries": 2, "corruptions": ["contrast"]}  # a light stress


def pictures(n: int, seed: int, *, sharp: float = 1.0) -> np.ndarray:
    """Striped tiles with random phase, angle and colours, uint8 [n, 16, 16, 3]."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1)
    tiles = np.empty((n, 16, 16, 3), np.uint8)
    for i in range(n):
        turn, width, phase = rng.uniform(0, np.pi), rng.uniform(0.4, 0.9), rng.uniform(0, 6.3)
        wave = np.sin(width * (grid @ [np.cos(turn), np.sin(turn)]) + phase) * sharp
        colour = rng.uniform(60, 190, 3) + (40 if i % CLASSES else -20)
        tiles[i] = np.clip(colour + 45 * wave[..., None] + rng.normal(0, 6, (16, 16, 3)), 0, 255)
    return tiles


def images(x: np.ndarray, name: str, **settings: object) -> mi.ImageSet:
    return mi.from_arrays(x, np.arange(len(x)) % CLASSES, classes=["dark", "light"], name=name, **settings)  # type: ignore[arg-type]


REAL, HELD = pictures(120, 1), pictures(80, 2)


def assess(fakes: np.ndarray, *, axes: tuple[str, ...] = FREE, held: np.ndarray | None = HELD, **settings: object) -> Assessment:
    return mi.assess(
        images(fakes, "fakes"), real=images(REAL, "real"), held_out=images(held, "held") if held is not None else None,
        features="pixels", axes=axes, workers=0, **settings,  # type: ignore[arg-type]
    )  # fmt: skip


def states(found: Assessment) -> dict[str, str]:
    return {axis: facts["state"] for axis, facts in found.facts["axes"].items()}


def test_copies_of_the_training_images_leak_and_nothing_else_is_wrong_with_them() -> None:
    found = assess(REAL[:80])
    assert states(found) == {
        "privacy": "leaks",
        "fidelity": "not told apart",
        "diversity": "not told apart",
        "style": "not told apart",
        "efficiency": "not measured",
    }
    assert found["privacy.copies"].value == 1.0
    assert found["authenticity"].beside == "worse"


def test_fresh_real_images_are_told_apart_on_no_axis() -> None:
    found = assess(pictures(80, 3))
    assert states(found)["privacy"] == "no leak found"
    assert {states(found)[axis] for axis in ("fidelity", "diversity", "style")} == {"not told apart"}


def test_a_collapsed_set_lacks_diversity() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (80, 16, 16, 3))
    collapsed = np.clip(np.repeat(pictures(4, 5), 20, axis=0) + noise, 0, 255).astype(np.uint8)
    found = assess(collapsed, axes=("diversity",))
    assert states(found) == {"diversity": "worse"}
    assert found["vendi"].value is not None and found["vendi"].floor is not None
    assert found["vendi"].value < 0.8 * found["vendi"].floor


def test_every_measured_score_names_its_features_n_and_direction() -> None:
    for score in assess(pictures(60, 4)).scores:
        assert score.axis in AXES and score.better in ("higher", "lower", "neither")
        if score.value is None:
            assert score.note
        else:
            assert score.n is not None and score.n > 0
            assert score.low is None or score.low <= score.value <= score.high  # type: ignore[operator]
        if score.axis in ("fidelity", "diversity") and score.value is not None:
            assert score.features and score.floor is not None


def test_a_condition_can_name_what_an_assessment_of_everything_holds_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    mi.fit(mi.Gaussian(), images(REAL, "train"), seed=0, name="tiles")
    monkeypatch.setattr(utility, "STRESS", QUICK)
    found = mi.assess(
        "tiles", real=images(REAL, "real"), held_out=images(HELD, "held"), foreign=images(noise(30, 0), "noise"), features="pixels", per_class=20, steps=2,
        replicates=2, workers=0,
    )  # fmt: skip
    assert {score.metric: score.axis for score in found.scores} == assess_answer.known_metrics()


def test_without_held_out_images_there_is_no_floor_and_no_privacy() -> None:
    found = assess(pictures(60, 4), axes=("privacy", "fidelity", "utility"), held=None)
    assert states(found) == {"privacy": "not measured", "fidelity": "not measured", "utility": "not measured"}
    assert all(score.floor is None for score in found.scores)
    assert "held-out" in found.facts["axes"]["privacy"]["why"] and "held-out" in found.facts["axes"]["utility"]["why"]


def test_mislabelled_images_are_caught_by_a_model_of_the_real_ones() -> None:
    wrong = mi.from_arrays(pictures(80, 6), 1 - np.arange(80) % CLASSES, classes=["dark", "light"], name="wrong")
    right = images(pictures(80, 6), "right")
    for fakes, expected in ((wrong, "worse"), (right, "not told apart")):
        found = mi.assess(
            fakes, real=images(REAL, "real"), held_out=images(HELD, "held"), features="pixels", axes=("utility",), steps=15, replicates=2, workers=0
        )
        assert found["recognised"].beside == expected, found["recognised"]


def test_a_second_assessment_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = assess(pictures(40, 7), axes=("fidelity", "style"))
    monkeypatch.setattr("mitate.verbs.VERBS", {name: v for name, v in VERBS.items() if name not in ("features", "likeness", "look")})
    again = assess(pictures(40, 7), axes=("fidelity", "style"))
    assert again.scores == first.scores


def test_held_out_images_that_are_real_ones_are_left_out_and_told() -> None:
    found = assess(pictures(40, 8), axes=("fidelity",), held=np.concatenate([REAL[:5], HELD]))
    assert found.facts["sets"]["held_out"]["images"] == 80
    assert any("5 held-out images are also among the real ones" in finding for finding in found.facts["findings"])


def test_synthetic_images_that_are_held_out_ones_are_refused() -> None:
    with pytest.raises(DataError) as wrong:
        assess(np.concatenate([pictures(40, 9), HELD[:3]]))
    assert "3 of the synthetic images are held-out images" in wrong.value.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"axes": ("fidelty",)}, "no axis 'fidelty'"), ({"axes": ()}, "No axis"), ({"replicates": 1}, "replicates is 1"), ({"size": 4}, "4 pixels")],
)
def test_what_cannot_be_asked_is_an_error_before_anything_is_read(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as wrong:
        check_asked(Assess("nowhere", "nowhere", **settings))  # type: ignore[arg-type]
    assert message in wrong.value.message


def test_a_kept_generator_is_assessed_with_its_pace(own_store: Path) -> None:
    mi.fit(mi.Gaussian(), images(np.concatenate([REAL, pictures(60, 10)]), "train"), seed=0, name="tiles")
    found = mi.assess(
        "tiles", real=images(REAL, "real"), held_out=images(pictures(60, 11), "held"), features="pixels", axes=("fidelity", "efficiency"), per_class=20,
        workers=0,
    )  # fmt: skip
    assert found.facts["sets"]["synthetic"]["images"] == 40
    assert states(found)["efficiency"] == "measured"
    assert found["images_per_second"].value > 0  # type: ignore[operator]


def test_a_kept_generator_that_has_seen_the_held_out_images_is_refused() -> None:
    mi.fit(mi.Gaussian(), images(np.concatenate([REAL, HELD]), "train"), seed=0, name="tiles")
    with pytest.raises(DataError) as wrong:
        mi.assess("tiles", real=images(REAL, "real"), held_out=images(HELD, "held"), features="pixels", axes=("fidelity",), workers=0)
    assert "was fitted on" in wrong.value.message


def noise(n: int, seed: int) -> np.ndarray:
    """Images of other things."""
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3)).astype(np.uint8)


def under_stress(monkeypatch: pytest.MonkeyPatch, **settings: object) -> Assessment:
    """Robustness alone, on few images and few steps."""
    monkeypatch.setattr(utility, "STRESS", QUICK)
    return assess(pictures(40, 4), axes=("robustness",), steps=2, replicates=2, **settings)  # type: ignore[arg-type]


def test_foreign_images_tell_whether_a_model_notices_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = under_stress(monkeypatch, foreign=images(noise(30, 0), "noise"))
    for metric in ("foreign_auroc", "foreign_accepted", "foreign_energy_auroc", "foreign_doubt_auroc", "foreign_far_auroc"):
        score = found[metric]
        assert score.value is not None and score.floor is not None and score.axis == "robustness" and score.n == 30
        assert score.beside in ("worse", "better", "not told apart")
    assert found["foreign_auroc"].better == "higher" and found["foreign_accepted"].better == "lower"
    assert found["foreign_auroc"].apart_low is not None, "compared image by image"
    assert found.facts["sets"]["foreign"]["images"] == 30 and found.facts["axes"]["robustness"]["rests_on"] == ["robust_accuracy", "corrupted_accuracy"]


def test_without_foreign_images_the_line_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    found = under_stress(monkeypatch)
    assert found["foreign_auroc"].value is None and found["robust_accuracy"].value is not None
    assert [line for line in assess_answer.table(found) if "foreign" in line] == [
        f"  {name:28}not measured: give --foreign FOLDER" for name in ("foreign_auroc", "foreign_accepted")
    ]
    assert "foreign" not in found.facts["sets"] and "foreign" not in found.facts["asked"]


@pytest.mark.parametrize("which", ["real", "held-out", "synthetic"])
def test_foreign_images_that_are_among_the_others_are_refused(which: str) -> None:
    fakes = pictures(40, 4)
    shared = {"real": REAL, "held-out": HELD, "synthetic": fakes}[which][:2]
    with pytest.raises(DataError) as wrong:
        assess(fakes, axes=("robustness",), foreign=images(np.concatenate([noise(30, 0), shared]), "noise"))
    assert f"2 of the foreign images are among the {which} ones" in wrong.value.message


def test_foreign_images_that_nobody_asks_for_or_too_few_are_refused() -> None:
    with pytest.raises(SettingError, match="robustness, which was not asked for"):
        assess(pictures(40, 4), axes=("fidelity",), foreign=images(noise(30, 0), "noise"))
    with pytest.raises(DataError, match="There are 19 foreign images"):
        assess(pictures(40, 4), axes=("robustness",), foreign=images(noise(19, 0), "noise"))


def stressed(folder: Path, arms: dict[str, np.ndarray], groups: np.ndarray) -> tuple[utility.Trainings, dict[Job, Entry]]:
    """What stress jobs would have kept: of each arm [replicates, images] right or wrong under attack, and a Brier score."""
    jobs, found = {}, {}
    for arm, table in arms.items():
        for r, each in enumerate(table):
            job, place = Job(f"{arm}/{r}", "stress", 2, {"arm": arm, "r": r}), folder / arm / str(r)
            place.mkdir(parents=True)
            np.savez(place / "tried.npz", robust_accuracy=each, groups=groups, least=1 / len(np.unique(groups)))
            ends = wilson(int(each.sum()), len(each)).record
            brier = {"metric": "brier", "better": "lower", "value": 0.3, "low": 0.2, "high": 0.4, "n": len(each)}
            rows = [{"metric": "robust_accuracy", "better": "higher", **ends}, brier]
            jobs[arm, r], found[job] = job, Entry(job.digest, place, {"scores": [row | {"axis": "robustness", "note": ""} for row in rows]})
    return utility.Trainings({}, jobs), found


def test_two_models_on_the_same_images_are_compared_image_by_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    alone = np.tile(rng.random(200) < 0.5, (3, 1)).astype(float)
    both = alone.copy()
    both[:, np.flatnonzero(alone[0] == 0)[:16]] = 1.0  # 16 images more, and none less
    score = next(s for s in utility.robustness(*stressed(tmp_path, {utility.REAL: alone, utility.BOTH: both}, np.arange(200)), subject="x"))
    assert score.metric == "robust_accuracy" and score.value == pytest.approx(both.mean()) and score.floor == pytest.approx(alone.mean())
    apart = two_way(both - alone, confidence=0.95)
    assert (score.apart_low, score.apart_high) == pytest.approx((apart.low, apart.high)) and score.n == 200
    assert score.beside == "better" and replace(score, apart_low=None, apart_high=None).beside == "not told apart"


def test_images_of_one_patient_are_compared_as_one(tmp_path: Path) -> None:
    alone = np.zeros((3, 200))
    both = alone.copy()
    both[:, :40] = 1.0
    for name, groups, state in (("images", np.arange(200), "better"), ("patients", np.arange(200) // 40, "not told apart")):
        trainings, found = stressed(tmp_path / name, {utility.REAL: alone, utility.BOTH: both}, groups)
        score = utility.robustness(trainings, found, subject="x")[0]
        assert score.value == 0.2 and score.beside == state, "one patient of five carries the whole difference"


def test_what_has_no_outcome_of_each_image_is_compared_by_two_intervals(tmp_path: Path) -> None:
    table = np.tile(np.arange(50) % 2.0, (3, 1))
    scores = {s.metric: s for s in utility.robustness(*stressed(tmp_path, {utility.REAL: table, utility.BOTH: table}, np.arange(50)), subject="x")}
    brier = scores["brier"]
    assert brier.apart_low is None and (brier.low, brier.floor_high) == pytest.approx((0.2, 0.4)) and brier.beside == "not told apart"
    assert scores["robust_accuracy"].beside == "not told apart"
    assert scores["foreign_auroc"].note == scores["foreign_accepted"].note == "give --foreign FOLDER"


def test_held_out_images_of_one_patient_test_no_model() -> None:
    held = images(HELD, "held", groups=("one patient",) * len(HELD))
    assert utility.why_not(images(pictures(40, 4), "fakes"), images(REAL, "real"), held) == "the held-out images are of one group"


def folder(path: Path, x: np.ndarray) -> Path:
    from PIL import Image

    for i, picture in enumerate(x):
        place = path / ("light" if i % CLASSES else "dark")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.png")
    return path


def test_the_command_line_gates_a_build(tmp_path: Path) -> None:
    places = {name: folder(tmp_path / name, x) for name, x in (("fakes", REAL[:40]), ("real", REAL), ("held", HELD))}
    command = [
        sys.executable, "-m", "mitate", "assess", str(places["fakes"]), "--real", str(places["real"]), "--held-out", str(places["held"]),
        "--features", "pixels", "--axes", "privacy", "--engine", "here", "--json", str(tmp_path / "a.json"),
    ]  # fmt: skip
    passed = subprocess.run([*command, "--fail-if", "privacy.copies < floor"], capture_output=True, text=True)
    assert passed.returncode == 0, passed.stderr
    failed = subprocess.run([*command, "--fail-if", "privacy.copies > floor + 0.05", "--fail-if", "recall < 0.5"], capture_output=True, text=True)
    assert failed.returncode == 10
    assert "privacy.copies > floor + 0.05" in failed.stderr and "what was not measured cannot pass" in failed.stderr
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["axes"]["privacy"]["state"] == "leaks" and kept["sets"]["real"]["images"] == 120
    typo = subprocess.run([*command, "--fail-if", "privacy.copys > 1"], capture_output=True, text=True)
    assert typo.returncode == 2 and "copies" in typo.stderr and "Traceback" not in typo.stderr


def test_marked_images_are_refused_as_real_ones(tmp_path: Path, own_store: Path) -> None:
    generator = mi.fit(mi.Gaussian(), images(REAL, "train"), seed=0)
    place = mi.write_images(mi.generate(generator, per_class=15), tmp_path / "made")
    asked = Assess(str(place), str(place), features="pixels", axes=("fidelity",))
    with pytest.raises(DataError) as wrong:
        study.assess(asked, store=Store.find(), workers=0)
    assert "carry a mark" in wrong.value.message


def beside(metric: str, axis: str, state: str | None) -> Score:
    """A score whose difference to its floor is worse, better, or not told apart."""
    ends = {"worse": (-0.2, -0.1), "better": (0.1, 0.2), "not told apart": (-0.1, 0.1), None: (None, None)}[state]
    return Score(metric, axis, "x", 0.5, n=9, floor=0.5 + (0.15 if state == "worse" else -0.15), apart_low=ends[0], apart_high=ends[1], better="higher")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gain", "recognised", "state"),
    [
        ("better", "worse", "better"),
        ("worse", "better", "worse"),
        ("not told apart", "worse", "worse"),
        ("not told apart", "better", "not told apart"),
        ("not told apart", "not told apart", "not told apart"),
    ],
)
def test_the_gain_decides_on_utility_and_labels_where_it_cannot(gain: str, recognised: str, state: str) -> None:
    scores = [beside("gain", "utility", gain), beside("recognised", "utility", recognised)]
    assert assess_answer.state_of("utility", scores, assess_answer.HEADLINES["utility"]) == state


def test_diversity_rests_on_recall_only_where_images_look_real() -> None:
    recall, around = beside("recall", "diversity", "worse"), beside("intra_cluster", "diversity", "not told apart")
    for fidelity, state in (("not told apart", "worse"), ("worse", "not told apart")):
        heads = assess_answer.headlines_of("diversity", [beside("density", "fidelity", fidelity), recall, around])
        assert assess_answer.state_of("diversity", [recall, around], heads) == state


def test_synthetic_images_of_an_unknown_class_are_told_and_not_trained_on() -> None:
    odd = mi.from_arrays(pictures(60, 5), np.arange(60) % 3, classes=["dark", "light", "odd"], name="odd")
    settings: dict[str, object] = {"features": "pixels", "axes": ("fidelity", "utility"), "steps": 5, "replicates": 2, "workers": 0}
    found = mi.assess(odd, real=images(REAL, "real"), held_out=images(HELD, "held"), **settings)  # type: ignore[arg-type]
    assert "20 synthetic images have no label or a class that no real image has" in " ".join(found.facts["findings"])
    assert found["gain"].value is not None and found["recognised"].n == 40 and found["frechet"].n == 60
    bare = mi.from_arrays(pictures(40, 5), [0] * 40, classes=["odd"], name="bare")
    found = mi.assess(bare, real=images(REAL, "real"), held_out=images(HELD, "held"), **settings)  # type: ignore[arg-type]
    assert found.facts["axes"]["utility"]["state"] == "not measured" and found["frechet"].value is not None


def test_patients_on_both_sides_leave_privacy_unmeasured_and_the_rest_as_it_is() -> None:
    real, held = images(REAL, "real", groups=[f"p{i // 4}" for i in range(120)]), images(HELD, "held", groups=[f"p{i // 4}" for i in range(80)])
    found = mi.assess(images(pictures(60, 3), "made"), real=real, held_out=held, features="pixels", axes=("privacy", "fidelity"), workers=0)
    assert found.facts["axes"]["privacy"]["state"] == "not measured" and "split by group" in found.facts["axes"]["privacy"]["why"]
    assert found["precision"].value is not None


def test_other_mixes_of_classes_and_grey_beside_colour_are_told() -> None:
    skewed = mi.from_arrays(pictures(60, 3), np.r_[np.zeros(54, np.int64), np.ones(6, np.int64)], classes=["dark", "light"], name="skewed")
    settings: dict[str, object] = {"real": images(REAL, "real"), "held_out": images(HELD, "held"), "features": "pixels", "axes": ("fidelity",), "workers": 0}
    assert "mix their classes differently (90 10 / 50 50 %)" in " ".join(mi.assess(skewed, **settings).facts["findings"])  # type: ignore[arg-type]
    grey = images(np.repeat(pictures(60, 3)[..., :1], 1, axis=3), "grey")
    found = mi.assess(grey, **settings)  # type: ignore[arg-type]
    assert "the synthetic images are grey and the others are not" in " ".join(found.facts["findings"]) and found.facts["channels"] == 3


def test_style_of_a_fresh_set_of_another_mix_is_not_blamed_for_it() -> None:
    x, y = pictures(180, 3), np.r_[np.zeros(90, np.int64), np.ones(10, np.int64)]
    settings: dict[str, object] = {"features": "pixels", "axes": ("style",), "workers": 0}

    def found(*, labelled: bool) -> Assessment:
        classes, labels = (["dark", "light"], y) if labelled else (["any"], 0 * y)
        made = mi.from_arrays(np.concatenate([x[::2][:90], x[1::2][:10]]), labels, classes=classes, name="made")
        return mi.assess(made, real=images(REAL, "real"), held_out=images(HELD, "held"), **settings)  # type: ignore[arg-type]

    even, as_it_comes = found(labelled=True), found(labelled=False)
    assert states(even) == {"style": "not told apart"} and states(as_it_comes) == {"style": "worse"}
    assert even["told_apart"].note == ONE_MIX and as_it_comes["told_apart"].note == OWN_MIXES
    gap, blamed = even["lightness_gap"], as_it_comes["lightness_gap"]
    assert gap.low < 0 < gap.high and blamed.high < 0 and gap.n == 60  # type: ignore[operator]
    assert even["told_apart"].n == even["early_frechet"].n == 48, "as many as of the held-out images at this mix"


def test_labels_are_compared_with_held_out_images_at_the_synthetic_mix() -> None:
    """A model knows every dark image and half of the light ones. Fakes of the light class, all labelled rightly, are known as well as held-out ones."""
    held, light = images(HELD, "held"), mi.from_arrays(pictures(50, 3), np.r_[0, np.ones(49, np.int64)], classes=["dark", "light"], name="light")
    dark = held.y == 0
    rng = np.random.default_rng(0)
    table = np.stack([np.where(dark, 1.0, rng.permutation(np.arange(80) % 4 < 2)[: len(dark)]) for _ in range(3)])
    found, plain = utility._at_mix_of(light, table, held, None), two_way(table, confidence=0.95)
    assert found.value == pytest.approx(0.02 + 0.98 * table[:, ~dark].mean()) and plain.value == pytest.approx(table.mean())
    assert found.low < 0.5 < found.high < plain.value, "the floor of the whole set would call them mislabelled"
    even = utility._at_mix_of(images(pictures(40, 4), "even"), table, held, None)
    assert even.value == pytest.approx(plain.value) and even.high - even.low < plain.high - plain.low + 0.01


def test_shadows_without_privacy_are_refused() -> None:
    with pytest.raises(SettingError, match="privacy, which is not among the axes"):
        check_asked(Assess("f", "r", "h", axes=("utility",), shadows=4))
