"""Fidelity and diversity of feature arrays: independent references, closed forms, ties, blocks, memory, refusals.

The references live in an environment of their own; what they said is in tests/oracles, made again by `make oracles`.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mitate.metrics import clusters as cl
from mitate.metrics import coarse, nearest
from mitate.metrics import frechet as fr
from mitate.metrics import kernel as ke
from mitate.metrics import neighbours as nb
from mitate.metrics import vendi as ve
from mitate.metrics.distances import Distances
from mitate.score import Metric
from oracle_inputs import NAMES, features


def oracle(name: str) -> dict[str, Any]:
    found = json.loads((Path(__file__).parent / "oracles" / f"{name}.json").read_text())
    real, fake = features(name)
    assert found["inputs"]["real"] == pytest.approx(np.abs(real).sum(), rel=1e-12), "inputs differ from those of the oracle"
    assert found["inputs"]["fake"] == pytest.approx(np.abs(fake).sum(), rel=1e-12), "inputs differ from those of the oracle"
    return found


def gaussians(n: int = 200, m: int = 180, d: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 3.0, 1.1 * rng.normal(size=(m, d)) + 3.1


def textbook(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, Any]:
    """The definitions with whole matrices of float64 differences."""
    own, other, apart = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    real_radii, fake_radii = np.sort(own, axis=1)[:, k], np.sort(other, axis=1)[:, k]
    inside = apart < real_radii[:, None]
    np.fill_diagonal(own, np.inf)
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (apart < fake_radii).any(axis=1).mean(),
        "density": inside.sum() / k / len(fake),
        "coverage": (apart.min(axis=1) < real_radii).mean(),
        "authenticity": (apart.min(axis=0) > own.min(axis=1)[apart.argmin(axis=0)]).mean(),
    }


def measured(real: np.ndarray, fake: np.ndarray, k: int, **options: Any) -> dict[str, float]:
    found = nb.neighbourhood(real, fake, ks=(k,), **options)
    return {
        "precision": nb.precision(found, k=k).value,
        "recall": nb.recall(found, k=k).value,
        "density": nb.density(found, k=k).value,
        "coverage": nb.coverage(found, k=k),
        "authenticity": nb.authenticity(found).value,
    }


# neighbours


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [3, 5])
def test_neighbour_metrics_are_those_of_prdc_and_scikit_learn(name: str, k: int) -> None:
    said, (real, fake) = oracle(name), features(name)
    found = nb.neighbourhood(real, fake, ks=(3, 5))
    assert nb.precision(found, k=k).value == pytest.approx(said["prdc"][str(k)]["precision"], rel=1e-12)
    assert nb.recall(found, k=k).value == pytest.approx(said["prdc"][str(k)]["recall"], rel=1e-12)
    assert nb.density(found, k=k).value == pytest.approx(said["prdc"][str(k)]["density"], rel=1e-12)
    assert nb.coverage(found, k=k) == pytest.approx(said["prdc"][str(k)]["coverage"], rel=1e-12)
    assert found.real_radii[:, found.column(k)].sum() == pytest.approx(said["scikit-learn"]["radii"][str(k)], rel=1e-12)
    assert found.to_real.sum() == pytest.approx(said["scikit-learn"]["to_real"], rel=1e-12)
    if name != "ties":  # which of several nearest is asked for is each one's own choice
        assert nb.authenticity(found).value == pytest.approx(said["scikit-learn"]["authenticity"], rel=1e-12)


@pytest.mark.parametrize("name", ["plain", "unequal", "wide", "deficient"])
def test_precision_and_recall_are_those_of_torch_fidelity_where_nothing_ties(name: str) -> None:
    said, (real, fake) = oracle(name), features(name)
    found = nb.neighbourhood(real, fake, ks=(3,))
    assert nb.precision(found, k=3).value == pytest.approx(said["torch-fidelity"]["prc 3"]["precision"], rel=1e-6)  # its means are float32
    assert nb.recall(found, k=3).value == pytest.approx(said["torch-fidelity"]["prc 3"]["recall"], rel=1e-6)


def test_torch_fidelity_counts_ties_as_inside() -> None:
    said, (real, fake) = oracle("ties"), features("ties")
    assert nb.precision(nb.neighbourhood(real, fake, ks=(3,)), k=3).value < said["torch-fidelity"]["prc 3"]["precision"]


@pytest.mark.parametrize("way", ["floats", "shorts"])
@pytest.mark.parametrize("block", [16, 64, 1024])
@pytest.mark.parametrize(
    "case", ["gaussian", "float32", "mixed", "offset", "grid", "bits", "outlier", "copies", "tiny", "line", "collapsed", "nearly collapsed"]
)
def test_blocks_and_rounding_change_nothing(case: str, block: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "worth_trying", lambda n, d: way == "shorts")
    real, fake = gaussians()
    if case == "float32":
        real, fake = real.astype(np.float32), fake.astype(np.float32)
    if case == "mixed":
        real = (real + 1e3).astype(np.float32)
        fake = fake + 1e3
    if case == "offset":
        real, fake = real + 1e4, fake + 1e4
    if case == "grid":
        real, fake = np.round(real[:, :3]), np.round(fake[:, :3])
    if case == "bits":
        real, fake = (real[:, :10] > 3).astype(np.float32), (fake[:, :10] > 3).astype(np.float32)
    if case == "collapsed":
        fake[:] = fake[0]
        real[50:] = real[50]
    if case == "nearly collapsed":
        fake = fake[0] + 1e-7 * fake
    if case == "outlier":
        real[3] *= 1e5
        fake[7] = -real[3]
    if case == "copies":
        fake[:60], fake[60:90] = real[:60], real[:30] + 1e-9
    if case == "tiny":
        real, fake = real * 1e-15, fake * 1e-15
    if case == "line":
        real, fake = real[:, :1], fake[:, :1]
    wide = real.astype(np.float64), fake.astype(np.float64)
    for k in (1, 5):
        assert measured(real, fake, k, block=block) == pytest.approx(textbook(*wide, k), rel=1e-12)
    own = np.sort(cdist(wide[0], wide[0]), axis=1)
    np.testing.assert_allclose(nb.radii(real, ks=(1, 4, 9), block=block), own[:, [1, 4, 9]], rtol=1e-12, atol=0)


@pytest.mark.parametrize("d", [3, 257, 3000])
@pytest.mark.parametrize("positive", [False, True])
def test_rounding_of_a_tile_stays_within_its_bound(d: int, positive: bool) -> None:
    rng = np.random.default_rng(0)
    real, fake = (np.abs(x) if positive else x for x in (rng.normal(size=(64, d)), rng.normal(size=(64, d)) * rng.uniform(0, 3, (64, 1))))
    real, fake = np.concatenate([real, -real]), np.concatenate([fake, real + 1e-5])
    a, b = nearest.clouds(real, fake, block=64)
    tiles, whole = nearest.Floats(d, 128, 128), slice(0, 128)
    truth = cdist(real, fake) ** 2 * a.scale**2
    bound = a.rounding * (a.norms[:, None] + b.norms)
    assert (np.abs(tiles.tile(a, whole, tiles.left(a, whole), b, whole, tiles.right(b, whole)) - truth) <= bound).all()
    own = cdist(real, real) ** 2 * a.scale**2
    np.fill_diagonal(own, np.inf)
    with np.errstate(invalid="ignore"):
        assert not (np.abs(tiles.square(tiles.left(a, slice(None))) - own) > a.rounding * (a.norms[:, None] + a.norms)).any()


@pytest.mark.parametrize("d", [3, 257, 3000])
@pytest.mark.parametrize("positive", [False, True])
def test_a_short_tile_stays_within_its_bound(d: int, positive: bool) -> None:
    rng = np.random.default_rng(0)
    real, fake = (np.abs(x) if positive else x for x in (rng.normal(size=(64, d)), rng.normal(size=(64, d)) * rng.uniform(0, 3, (64, 1))))
    real, fake = np.concatenate([real, -real]), np.concatenate([fake, real + 1e-5])
    a, b = nearest.clouds(real, fake, block=64)
    tiles, whole = coarse.Shorts(128), slice(0, 128)
    left, right = tiles.right(a, whole), tiles.right(b, whole)
    tile = tiles.tile(a, whole, left, b, whole, right).astype(np.float64)
    rounded = cdist(left.double().numpy(), right.double().numpy())
    assert (np.abs(tile - rounded**2) <= tiles.of(a).wrong(rounded)).all()
    assert (np.abs(tile.T - rounded.T**2) <= tiles.of(b).wrong(rounded.T)).all()
    truth = cdist(real, fake) * a.scale
    assert (np.abs(rounded - truth) <= tiles.of(a).off[:, None] + tiles.of(b).off).all()
    assert np.median(np.abs(tile - rounded**2) / tiles.of(a).wrong(rounded)) > 1e-3, "the bound is not idle"


def test_sets_that_short_products_cannot_tell_apart_go_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of many dimensions leaves every pair in doubt; a set of few directions does not."""
    monkeypatch.setattr(coarse, "worth_trying", lambda n, d: True)
    rng = np.random.default_rng(0)
    noise, few = rng.normal(size=(600, 4000)).astype(np.float32), (rng.normal(size=(600, 12)) @ rng.normal(size=(12, 400))).astype(np.float32)
    for points, stays in ((noise, False), (few, True)):
        passes = Distances(points)
        own = np.sort(cdist(points.astype(np.float64), points.astype(np.float64)), axis=1)
        np.testing.assert_allclose(np.sqrt(passes.radii(0, (5,)))[:, 0], own[:, 5], rtol=1e-12)
        assert (passes.short is not None) == stays


@pytest.mark.parametrize("d", [2, 257])
def test_differences_that_float32_cannot_see_decide(d: int) -> None:
    """Two rings of synthetic images, one a billionth inside and one a billionth outside the radius of a lone real image."""
    rng = np.random.default_rng(0)
    way = rng.normal(size=(40, d))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    real = np.concatenate([np.zeros((1, d)), way[:10], 1000 + rng.normal(size=(30, d))])
    found = nb.neighbourhood(real, np.concatenate([(1 - 1e-9) * way[10:20], (1 + 1e-9) * way[20:30]]), ks=(1,))
    inside = cdist(real[:1], np.concatenate([(1 - 1e-9) * way[10:20], (1 + 1e-9) * way[20:30]]))[0] < cdist(real, real)[0, 1:].min()
    others = (cdist(real[1:], np.concatenate([(1 - 1e-9) * way[10:20], (1 + 1e-9) * way[20:30]])) < nb.radii(real, ks=(1,))[1:]).sum(axis=0)
    assert inside.tolist() == [True] * 10 + [False] * 10
    assert found.real_balls[:, 0].tolist() == (inside + others).tolist()


def test_a_copied_set_has_full_marks_and_no_authentic_image() -> None:
    real, _ = gaussians()
    found = nb.neighbourhood(real, real.copy())
    assert (nb.precision(found).value, nb.recall(found).value, nb.coverage(found)) == (1.0, 1.0, 1.0)
    assert nb.authenticity(found).value == 0.0
    assert not found.to_real.any() and found.nearest_real.tolist() == list(range(len(real)))


def test_a_collapsed_set_has_no_recall() -> None:
    real, _ = gaussians()
    found = nb.neighbourhood(real, np.repeat(real[:1], 150, axis=0))
    assert nb.recall(found).value == 0.0 and not found.fake_radii.any()
    assert nb.precision(found).value == 1.0, "precision sees no collapse"
    assert nb.coverage(found) < 0.2


def test_clouds_of_one_point_have_no_neighbour_nearer_than_nothing() -> None:
    same = np.ones((50, 8))
    assert set(measured(same, same.copy(), 5).values()) == {0.0}
    apart = nb.neighbourhood(same, same + 1.0)
    assert apart.to_real == pytest.approx(np.sqrt(8)) and nb.precision(apart).value == 0.0 and nb.authenticity(apart).value == 1.0


def test_far_sets_share_nothing() -> None:
    real, fake = gaussians()
    found = measured(real, fake + 100.0, 5)
    assert found == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0, "authenticity": 1.0}


def test_order_and_shift_change_nothing() -> None:
    real, fake = gaussians()
    rng = np.random.default_rng(1)
    whole = pytest.approx(measured(real, fake, 5), rel=1e-12)
    assert measured(real[rng.permutation(len(real))], fake[rng.permutation(len(fake))], 5) == whole
    assert measured(real + 7.0, fake + 7.0, 5) == whole


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    real, fake = gaussians()
    one, other = nb.neighbourhood(real, fake), nb.neighbourhood(fake, real)
    assert (nb.precision(one).value, nb.recall(one).value) == (nb.recall(other).value, nb.precision(other).value)


def test_share_intervals_hold_for_the_set_that_stays() -> None:
    """Over fresh synthetic sets, one real set: 95 % intervals of precision, density and authenticity."""
    rng = np.random.default_rng(5)
    real = rng.normal(size=(60, 4))
    truth = nb.neighbourhood(real, 1.2 * rng.normal(size=(20000, 4)))
    for measure in (nb.precision, nb.density, nb.authenticity):
        hits = 0
        for _ in range(60):
            found = measure(nb.neighbourhood(real, 1.2 * rng.normal(size=(60, 4))))  # type: ignore[operator]
            hits += found.low <= measure(truth).value <= found.high  # type: ignore[operator]
        assert hits >= 51


def test_intra_cluster_is_the_mean_over_pairs_that_share_a_real_image() -> None:
    real, fake = gaussians(n=12, m=90, d=5)
    nearest = cdist(fake, real).argmin(axis=1)
    apart = [cdist(fake[nearest == r], fake[nearest == r]) for r in range(12) if (nearest == r).sum() > 1]
    truth = np.mean([a.sum() / (len(a) * (len(a) - 1)) for a in apart])
    assert nb.neighbourhood(real, fake).nearest_real.tolist() == nearest.tolist()
    assert cl.intra_cluster(fake, nearest, n_real=12).value == pytest.approx(truth, rel=1e-9)
    assert cl.intra_cluster(fake, nearest, n_real=12, block=7).value == pytest.approx(truth, rel=1e-9)
    assert cl.intra_cluster(np.repeat(real, 3, axis=0), np.repeat(np.arange(12), 3), n_real=12).value == 0.0
    with pytest.raises(ValueError, match="needs two"):
        cl.intra_cluster(fake[:12], np.arange(12), n_real=12)


# Frechet


@pytest.mark.parametrize("name", NAMES)
def test_frechet_is_that_of_the_references(name: str) -> None:
    said, value = oracle(name), fr.frechet(*features(name))
    assert value == pytest.approx(said["torch-fidelity"]["frechet"], rel=1e-6)
    for other in ("pytorch-fid", "torchmetrics"):
        if other in said:
            assert value == pytest.approx(said[other]["frechet"], rel=1e-6)


def test_frechet_of_two_gaussians_is_the_closed_form() -> None:
    """Covariances that commute: |difference of means|^2 + the squared differences of the standard deviations."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    a, b = rng.uniform(0, 2, 20), rng.uniform(0, 2, 20)
    a[:5], b[3:8] = 0.0, 0.0  # neither of full rank
    mean, other = rng.normal(size=20), rng.normal(size=20)
    value = fr.frechet_gaussians(mean, turn * a**2 @ turn.T, other, turn * b**2 @ turn.T)
    assert value == pytest.approx(((mean - other) ** 2).sum() + ((a - b) ** 2).sum(), rel=1e-7)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 40, 80), (50, 120, 80), (120, 50, 80), (120, 100, 80), (80, 81, 80)])
def test_low_rank_and_whole_forms_agree(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(n, d)) * np.linspace(0.1, 3, d), rng.normal(size=(m, d)) + 0.2
    whole = fr.frechet_gaussians(real.mean(0), np.cov(real, rowvar=False), fake.mean(0), np.cov(fake, rowvar=False))
    assert fr.frechet(real, fake) == pytest.approx(whole, rel=1e-6)
    assert fr.frechet(real, fake) == pytest.approx(fr.frechet(fake, real), rel=1e-9)


@pytest.mark.parametrize("d", [24, 400])
def test_frechet_of_a_copied_set_is_zero_and_of_a_shifted_one_the_shift(d: int) -> None:
    real, _ = gaussians(d=d)
    assert fr.frechet(real, real.copy()) == pytest.approx(0.0, abs=1e-8)
    assert fr.frechet(real, real + 2.0) == pytest.approx(4.0 * d, rel=1e-9)
    assert fr.frechet(real, np.repeat(real[:1], 30, axis=0)) == pytest.approx(((real - real[0]).mean(0) ** 2).sum() + real.var(0, ddof=1).sum(), rel=1e-9)


def test_frechet_infinity_takes_the_synthetic_sets_bias_away() -> None:
    rng = np.random.default_rng(0)
    real, fakes = rng.normal(size=(20000, 16)), [1.2 * rng.normal(size=(1500, 16)) for _ in range(8)]
    truth = fr.frechet_gaussians(real.mean(0), np.cov(real, rowvar=False), np.zeros(16), 1.44 * np.eye(16))
    values = [fr.frechet_infinity(real, fake, seed=0).value for fake in fakes]
    assert abs(np.mean(values) - truth) < 3 * np.std(values) / np.sqrt(8) + 0.02 * truth
    found, fake = fr.frechet_infinity(real, fakes[0], seed=0), fakes[0]
    assert found.distances[0] > 1.1 * truth and found.slope > 0
    assert (len(found.sizes), found.sizes[0], found.sizes[-1]) == (15, 150, 1500)
    assert found.value == fr.frechet_infinity(real, fake, seed=0).value != fr.frechet_infinity(real, fake, seed=1).value
    slope, intercept = np.polyfit(1 / np.array(found.sizes), found.distances, 1)
    assert (found.slope, found.value) == pytest.approx((slope, intercept), rel=1e-9)


# kernel distance


@pytest.mark.parametrize("name", NAMES)
def test_kernel_distance_is_that_of_the_references(name: str) -> None:
    said, value = oracle(name), ke.kernel_distance(*features(name)).value
    assert value == pytest.approx(said["scikit-learn"]["kernel"], rel=1e-9)
    if "kernel" in said["torch-fidelity"]:
        assert value == pytest.approx(said["torch-fidelity"]["kernel"]["kernel_inception_distance_mean"], rel=1e-9)
    if "kernel" in said.get("torchmetrics", {}):
        assert value == pytest.approx(said["torchmetrics"]["kernel"], rel=1e-9)


@pytest.mark.parametrize("name", ["plain", "wide"])
def test_subsets_scatter_around_the_exact_value_as_torch_fidelitys_do(name: str) -> None:
    said, sets = oracle(name)["torch-fidelity"]["kernel subsets"], features(name)
    found = ke.kernel_distance_by_subsets(*sets, seed=0, size=100)
    noise = found.deviation / 10
    assert found.mean == pytest.approx(ke.kernel_distance(*sets).value, abs=4 * noise)
    assert found.mean == pytest.approx(said["kernel_inception_distance_mean"], abs=6 * noise)
    assert found.deviation == pytest.approx(said["kernel_inception_distance_std"], rel=0.4)
    assert ke.kernel_distance_by_subsets(*sets, seed=0, subsets=2).values == pytest.approx([ke.kernel_distance(*sets).value] * 2, rel=1e-9)


def test_kernel_distance_does_not_depend_on_blocks_and_swaps() -> None:
    real, fake = gaussians()
    whole = ke.kernel_distance(real, fake)
    for found in (ke.kernel_distance(real, fake, block=37), ke.kernel_distance(fake, real)):
        assert (found.value, found.low, found.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9)


def test_kernel_interval_is_the_delete_one_jackknife() -> None:
    real, fake = gaussians(n=14, m=11, d=4)
    less_real = np.array([ke.kernel_distance(np.delete(real, i, 0), fake).value for i in range(14)])
    less_fake = np.array([ke.kernel_distance(real, np.delete(fake, i, 0)).value for i in range(11)])
    variance = 13 / 14 * ((less_real - less_real.mean()) ** 2).sum() + 10 / 11 * ((less_fake - less_fake.mean()) ** 2).sum()
    assert ke.kernel_distance(real, fake).se_images == pytest.approx(np.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kernel_interval_covers(shift: float) -> None:
    """Nominal 95 %; where the sets are alike it covers more, since the jackknife counts the second order twice."""
    rng = np.random.default_rng(3)
    truth = 0.0 if not shift else ke.kernel_distance(rng.normal(size=(3000, 8)), rng.normal(size=(3000, 8)) + shift).value
    found = [ke.kernel_distance(rng.normal(size=(50, 8)), rng.normal(size=(50, 8)) + shift) for _ in range(200)]
    assert np.mean([i.low <= truth <= i.high for i in found]) >= 0.92
    assert abs(np.mean([i.value for i in found]) - truth) < 4 * np.std([i.value for i in found]) / np.sqrt(200) + 0.02 * truth, "unbiased"


# Vendi


@pytest.mark.parametrize("name", NAMES)
def test_vendi_is_that_of_the_reference(name: str) -> None:
    said = oracle(name)["vendi-score"]
    for which, points in zip(("real", "fake"), features(name), strict=True):
        value = ve.vendi(points[np.abs(points).sum(axis=1) > 0])
        assert value == pytest.approx(said[which]["whole"], rel=1e-6)
        assert value == pytest.approx(said[which]["dual"], rel=1e-6)


def test_vendi_counts_directions() -> None:
    assert ve.vendi(np.eye(12)) == pytest.approx(12.0, rel=1e-12)
    assert ve.vendi(np.repeat(np.eye(12), 5, axis=0) * 3.0) == pytest.approx(12.0, rel=1e-12)
    assert ve.vendi(np.ones((40, 6))) == pytest.approx(1.0, rel=1e-9)
    shares = np.array([30, 10, 10])
    assert ve.vendi(np.repeat(np.eye(3), shares, axis=0)) == pytest.approx(np.exp(-(shares / 50 * np.log(shares / 50)).sum()), rel=1e-12)


def test_vendi_does_not_depend_on_form_and_blocks() -> None:
    real, _ = gaussians(n=90, d=100)
    more = np.concatenate([real, real])
    assert ve.vendi(real) == pytest.approx(ve.vendi(more), rel=1e-9), "a set twice is no more diverse; n < d and n > d"
    assert ve.vendi(more, block=17) == pytest.approx(ve.vendi(more), rel=1e-12)


def test_vendi_by_class_says_which_class_is_too_small() -> None:
    found = ve.vendi_by_class(np.eye(6), np.array([0, 0, 0, 1, 1, 2]))
    assert (found[0], found[1]) == pytest.approx((3.0, 2.0)) and found[2] is None


# memory, refusals, records


def peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "call", "row"),
    [
        ("neighbours", lambda a, b: nb.neighbourhood(a, b, block=256), 1000),
        ("kernel", lambda a, b: ke.kernel_distance(a, b, block=128), 200),
        ("vendi", lambda a, b: ve.vendi(a, block=128), 50),
        ("frechet", fr.frechet, 50),
    ],
)
def test_memory_does_not_grow_beyond_a_few_numbers_an_image(name: str, call: Callable[..., object], row: int) -> None:
    real, fake = gaussians(n=4000, m=4000, d=32)
    small, large = peak(lambda: call(real[:1000], fake[:1000])), peak(lambda: call(real, fake))
    assert large - small < 2 * row * 3000, f"{name}: {small} bytes for 1,000 images, {large} for 4,000"


def test_sets_too_small_are_refused_with_the_number_they_need() -> None:
    real, fake = gaussians()
    for call in (
        lambda: nb.neighbourhood(real[:9], fake),
        lambda: nb.neighbourhood(real, fake[:9]),
        lambda: fr.frechet(real, fake[:9]),
        lambda: ke.kernel_distance(real[:9], fake),
    ):
        with pytest.raises(ValueError, match="needs 10 .* has 9; fix:"):
            call()
    with pytest.raises(ValueError, match="needs 31 real images, has 30"):
        nb.neighbourhood(real[:30], fake, ks=(5, 30))
    with pytest.raises(ValueError, match="needs 100 synthetic"):
        fr.frechet_infinity(real, fake[:99], seed=0)
    with pytest.raises(ValueError, match="needs 2 images"):
        ve.vendi(real[:1])
    with pytest.raises(ValueError, match="needs 10 images a subset"):
        ke.kernel_distance_by_subsets(real, fake, seed=0, size=4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(bad: float) -> None:
    real, fake = gaussians()
    fake[5, 3] = bad
    for call in (lambda: nb.neighbourhood(real, fake), lambda: fr.frechet(real, fake), lambda: ke.kernel_distance(real, fake), lambda: ve.vendi(fake)):
        with pytest.raises(ValueError, match="not finite"):
            call()


def test_mixed_extractors_and_unmeasured_k_are_refused() -> None:
    real, fake = gaussians()
    for call in (nb.neighbourhood, fr.frechet, ke.kernel_distance):
        with pytest.raises(ValueError, match="one extractor"):
            call(real, fake[:, :5])
    with pytest.raises(ValueError, match="k = 3 was not measured"):
        nb.precision(nb.neighbourhood(real, fake), k=3)
    with pytest.raises(ValueError, match="fix: scale them"):
        nb.neighbourhood(real * 1e-30, fake * 1e-30)
    with pytest.raises(ValueError, match="no direction"):
        ve.vendi(np.zeros((20, 3)))


def test_every_metric_has_a_record() -> None:
    records = [m for module in (cl, nb, fr, ke, ve) for m in vars(module).values() if isinstance(m, Metric)]
    assert {m.name for m in records} == {
        *("precision", "recall", "density", "coverage", "authenticity", "intra_cluster"),
        *("frechet", "frechet_infinity", "kernel_distance", "vendi"),
    }
    assert all(m.interval and m.source for m in records)
