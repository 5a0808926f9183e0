"""Large sets of features: kernel sums without pairs, parts for what takes pairs, features from files, and how long it will take."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mitate.cli import app
from mitate.errors import DataError, SettingError
from mitate.features.given import keep, open_features
from mitate.metrics import forecast, frechet, kernel, moments, neighbours
from mitate.metrics import likeness as li
from mitate.store import Store
from mitate.studies.assess import assess
from mitate.studies.assess_planning import Assess


def points(n: int, d: int = 12, *, seed: int = 0, scale: float = 1.0, dtype: type = np.float32) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(0.2, 1.0, (n, d))).astype(dtype)


# kernel sums


@pytest.mark.parametrize("memory", [1 << 28, 5000, 1])
@pytest.mark.parametrize("d", [1, 12, 150])
def test_sums_by_moments_are_those_over_pairs(d: int, memory: int) -> None:
    sets = [points(60, d), points(45, d, seed=1, scale=1.3, dtype=np.float64)]
    asked = [np.arange(60), np.array([3, 7, 44])]
    found = moments.cubic_sums(sets, asked, memory=memory)
    values = [[(a.astype(float) @ b.T.astype(float) / d + 1) ** 3 for b in sets] for a in sets]
    for s in range(2):
        assert found.alone[s] == pytest.approx(np.trace(values[s][s]), rel=1e-12)
        assert found.own[s] == pytest.approx(np.diag(values[s][s])[asked[s]], rel=1e-12)
        for t in range(2):
            assert found.total[s, t] == pytest.approx(values[s][t].sum(), rel=1e-12)
            assert found.rows[s][t] == pytest.approx(values[s][t][asked[s]].sum(axis=1), rel=1e-11, abs=1e-9)


def test_the_kernel_distance_is_the_same_by_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake, held = points(300), points(250, seed=1, scale=1.1), points(200, seed=2)
    by_pairs = kernel.kernel_distances(real, (fake, held))
    assert by_pairs[0] == kernel.kernel_distance(real, fake) != by_pairs[1], "the floor beside it changes nothing"
    monkeypatch.setattr(moments, "pays", lambda lengths, asked, d: True)
    by_moments = kernel.kernel_distances(real, (fake, held))
    for a, b in zip(by_pairs, by_moments, strict=True):
        assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), rel=1e-9) and b.df_images == a.df_images
    monkeypatch.setattr(kernel, "LEFT_OUT", 150)
    few = kernel.kernel_distance(real, fake)
    assert few.value == pytest.approx(by_pairs[0].value, rel=1e-9), "the value has all images"
    assert few.se_images == pytest.approx(by_pairs[0].se_images, rel=0.3) and few.se_images != by_pairs[0].se_images
    assert few == kernel.kernel_distance(real, fake)


def test_moments_are_for_many_images_and_few_columns() -> None:
    assert moments.pays([1_000_000, 1_000_000], 10_000, 512) and moments.pays([200_000, 200_000], 10_000, 512)
    assert not moments.pays([20_000, 20_000], 10_000, 2048) and not moments.pays([10_000, 10_000], 10_000, 4), "no more images than would be asked anyway"
    assert moments.cost([2000, 1000], 500, 64) == pytest.approx(65**3 * (0.4 * 3000 + 2 / 3 * 2 * 1000))


def test_memory_of_moments_does_not_grow_with_the_images() -> None:
    def peak(n: int) -> int:
        sets, asked = [points(n), points(n, seed=1)], [np.arange(50)] * 2
        tracemalloc.start()
        try:
            moments.cubic_sums(sets, asked)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40_000) < 1.2 * peak(10_000)


# parts of large sets


def test_metrics_of_neighbours_of_large_sets_are_of_a_part_and_say_so() -> None:
    real, fake, held = points(600), points(400, seed=1), points(200, seed=2)
    found = {line.metric.name: line for line in li.likeness(real, fake, held, seed=3, most=300)}
    rng = np.random.default_rng(3)
    real_rows, fake_rows, held_rows = (np.sort(rng.permutation(n)[: n // 2]) for n in (600, 400, 200))
    part = {line.metric.name: line for line in li.likeness(real[real_rows], fake[fake_rows], held[held_rows], seed=3)}
    for metric in li.BY_NEIGHBOURS:
        line = found[metric.name]
        assert line.value == part[metric.name].value and line.floor == part[metric.name].floor and line.value is not None and line.value.n == 100
        assert "300 of 600 real, 200 of 400 synthetic, 100 of 200 held-out images, drawn by the seed" in line.note
    whole = {line.metric.name: line for line in li.likeness(real, fake, held, seed=3)}
    for name in ("kernel_distance", "frechet", "frechet_infinity", "vendi"):
        assert found[name].value == whole[name].value and found[name].note == whole[name].note, "linear in the images: all of them"


def test_parts_of_the_likeness_are_its_lines() -> None:
    sets = points(60), points(50, seed=1), points(40, seed=2)
    whole = li.likeness(*sets, seed=0)
    parts = [line for part in li.PARTS for line in li.likeness(*sets, seed=0, parts=(part,))]
    assert {line.metric.name for line in parts} == {line.metric.name for line in whole}
    assert sorted(line.metric.name for line in parts) == sorted(line.metric.name for line in whole), "each once"
    assert {line.metric.name: line.value.value for line in parts if line.value} == {line.metric.name: line.value.value for line in whole if line.value}


def test_the_largest_draw_of_frechet_at_infinity_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "LARGEST_DRAWN", 300)
    assert frechet.frechet_infinity(points(200), points(1000, seed=1), seed=0).sizes[-1] == 300


# how long


def test_the_forecast_counts_what_the_metrics_do() -> None:
    one, two = (forecast.operations(n, (n,), 64, most=10**9) for n in (20_000, 40_000))
    assert two["neighbours"].float32 == pytest.approx(4 * one["neighbours"].float32) and one["neighbours"].float32 == pytest.approx(4 * 64 * 20_000**2)
    assert two["kernel_distance"].float64 < 2.1 * one["kernel_distance"].float64, "by moments it grows with the images"
    capped = forecast.operations(1_000_000, (1_000_000,), 64, most=20_000)
    assert capped["neighbours"] == one["neighbours"]
    with_floor = forecast.operations(20_000, (20_000, 20_000), 64, most=10**9)
    assert with_floor["neighbours"].float32 == pytest.approx(2 * one["neighbours"].float32)
    few = forecast.operations(40, (40, 30), 4096, most=10**9)["sets"]
    assert few.float64 < 1e10, "with fewer images than columns no matrix of columns is made"
    told = forecast.seconds(one, forecast.Rates(1e9, 1e9))
    assert set(told) == set(li.PARTS) == set(forecast.BESIDE) and all(seconds > 0 for seconds in told.values())
    assert all(rate > 0 for rate in (forecast.rates().float32, forecast.rates().float64))


# features from files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, (name, n) in enumerate((("real", 120), ("fakes", 100), ("held", 80))):
        np.save(f"{name}.npy", points(n, seed=seed))
    return tmp_path


def test_features_are_assessed_as_the_metrics_have_them(files: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    asked = Assess(fakes="fakes.npy", real="real.npy", held_out="held.npy")
    found = assess(asked, store=store, workers=0)
    near = neighbours.neighbourhood(points(120), points(100, seed=1)[:80])
    assert found["kernel_distance"].value == kernel.kernel_distance(points(120), points(100, seed=1)).value
    assert found["recall"].n == 80 and found["recall"].floor is not None and 0 < neighbours.recall(near).value <= 1
    axes = found.facts["axes"]
    assert axes["fidelity"]["state"] in ("worse", "better", "not told apart") and axes["privacy"] == {
        "state": "not measured", "why": "features alone were given; give the images", "rests_on": [],
    }  # fmt: skip
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("result.json")}
    assert assess(asked, store=store, workers=0) == found, "a second question computes nothing"
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("result.json")} == kept


def test_a_kept_set_is_named_by_its_values(files: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    wide = np.load("real.npy").astype(np.float64)
    np.save("wide.npy", wide)
    np.save("turned.npy", np.asfortranarray(np.load("real.npy")))
    names = [keep(store, open_features(name)) for name in ("real.npy", "turned.npy", "wide.npy")]
    assert names[0] == names[1] != names[2]
    for name, dtype in zip(names[1:], (np.float32, np.float64), strict=True):
        entry = store.get(name)
        assert entry is not None
        kept = np.load(entry.path("features.npy"))
        assert kept.dtype == dtype and np.array_equal(kept, wide)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", ">f4"])
def test_rows_that_stand_in_two_sets_are_found_whatever_type_they_were_saved_as(files: Path, dtype: str) -> None:
    held = np.load("held.npy")
    held[[5, 17]] = np.load("real.npy")[[100, 3]]
    np.save("held.npy", held.astype(dtype))
    assert open_features("held.npy").shared_with(open_features("real.npy")).tolist() == [5, 17]
    assert open_features("real.npy").shared_with(open_features("held.npy")).tolist() == [3, 100]
    with pytest.raises(DataError, match=r"2 held-out rows are also among the real ones \(row 5"):
        assess(Assess(fakes="fakes.npy", real="real.npy", held_out="held.npy"), store=Store(files / "store"), workers=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: Path("fakes.npy").write_bytes(b"no array"), "cannot be read as features"),
        (lambda: Path("fakes.npy").unlink(), "is not there"),
        (lambda: Path("fakes.npy").write_bytes(Path("fakes.npy").read_bytes()[:-40]), "cannot be read as features"),
        (lambda: np.save("fakes.npy", np.array([[object()] * 3] * 30), allow_pickle=True), "cannot be read as features"),
        (lambda: np.save("fakes.npy", points(100)[:, 0]), "holds float32"),
        (lambda: np.save("fakes.npy", np.ones((50, 12), int)), "holds int64"),
        (lambda: np.save("fakes.npy", points(10)), "has 10 rows"),
        (lambda: np.save("fakes.npy", points(100, 7)), "different numbers of columns"),
        (lambda: np.save("fakes.npy", np.where(np.arange(100)[:, None] == 41, np.nan, points(100))), r"not finite \(row 41\)"),
        (lambda: np.save("fakes.npy", points(100) * np.float32(1e20)), r"values above 1e\+15 \(row 0\)"),
        (lambda: (np.savez("x.npz", x=points(100)), Path("x.npz").replace("fakes.npy")), "an archive of arrays"),
        (lambda: (Path("fakes.npy").unlink(), Path("fakes.npy").mkdir()), "is a folder"),
        (lambda: np.save("fakes.npy", np.load("held.npy")), "80 held-out rows are also among the synthetic ones"),
    ],
    ids="garbage missing cut pickle flat integers few columns nan huge archive folder held".split(),
)
def test_files_that_hold_no_features_are_refused_in_one_line(files: Path, change, said: str) -> None:
    change()
    with pytest.raises(DataError, match=said) as wrong:
        assess(Assess(fakes="fakes.npy", real="real.npy", held_out="held.npy"), store=Store(files / "store"), workers=0)
    assert "fix: " in str(wrong.value) and "\n" not in str(wrong.value)


def test_synthetic_rows_that_are_real_ones_are_told(files: Path) -> None:
    found = assess(Assess(fakes="real.npy", real="real.npy", most=60), store=Store(files / "store"), workers=0).facts["findings"]
    assert found[0] == "120 of 120 synthetic rows are among the real ones, value for value"
    assert found[1] == "metrics of neighbours are of parts of the sets, at most 60 images of each"


@pytest.mark.parametrize("condition", ["privacy is leaks", "copies > 0", "utility.gain > 0"])
def test_a_condition_on_what_features_never_tell_is_refused_before_anything_runs(files: Path, condition: str) -> None:
    done = CliRunner().invoke(app, ["assess", "fakes.npy", "--real", "real.npy", "--fail-if", condition])
    assert isinstance(done.exception, SettingError) and "features alone do not tell of" in str(done.exception) and not (files / "store" / "objects").exists()


def test_axes_and_images_that_features_cannot_answer_are_refused(files: Path) -> None:
    store = Store(files / "store")
    for asked, said in (
        (Assess(fakes="fakes.npy", real="real.npy", axes=("privacy", "fidelity")), "do not tell of privacy"),
        (Assess(fakes="fakes.npy", real="digits:5"), "digits:5 holds images"),
        (Assess(fakes="fakes.npy", real="real.npy", foreign="real.npy"), "no use for foreign"),
        (Assess(fakes="fakes.npy", real="real.npy", features="pixels", steps=20), "no use for features and steps"),
        (Assess(fakes="fakes.npy", real="real.npy", most=5), "most is 5"),
    ):
        with pytest.raises(SettingError, match=said):
            assess(asked, store=store, workers=0)


def test_the_command_tells_how_long_and_writes_a_page(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MITATE_HOME", str(files / "store"))
    monkeypatch.setattr("mitate.studies.assess_given.WORTH_TELLING", 0.0)
    words = ["assess", "fakes.npy", "--real", "real.npy", "--held-out", "held.npy", "--engine", "here", "--most", "60", "--json", "a.json", "--html", "a.html"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "of one core: kernel distance " in done.stderr and "neighbours " in done.stderr
    assert "60 of 120 real, 50 of 100 synthetic, 40 of 80 held-out images" in Path("a.json").read_text()
    told = json.loads(Path("a.json").read_text())
    assert told["sets"]["real"]["images"] == 120 and told["asked"]["most"] == 60
    assert "fidelity" in Path("a.html").read_text().lower()
    assert CliRunner().invoke(app, [*words, "--lang", "ja"]).exit_code == 0
