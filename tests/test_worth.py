"""What synthetic images are worth in real ones: the arithmetic, its promises on simulated curves, and the parts of a training set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mitate.images import from_arrays
from mitate.metrics.intervals import along, ends, two_way
from mitate.metrics.worth import possible, weights, worth
from mitate.store import Store
from mitate.stored import read_facts
from mitate.studies import gates
from mitate.verbs import keep_images, keep_part

SIZES = (50.0, 100.0, 200.0)


def accuracy(m: float, *, shape: float = 0.5) -> float:
    return 1 - (0.1 + 0.2 * (m / 200) ** -shape)


def tables(rng: np.random.Generator, score: float, *, replicates: int = 5, images: int = 400, luck: float = 0.01) -> np.ndarray:
    return (rng.random((replicates, images)) < score + rng.normal(0, luck, (replicates, 1))).astype(np.float64)


def exact(score: float) -> np.ndarray:
    """A table with this mean and next to no spread, so that the interval is a point but for one image's floor."""
    table = np.full((4, 100_000), score)
    return table + np.resize([1e-9, -1e-9], table.shape)


# intervals


def test_the_low_end_takes_its_share_of_the_error() -> None:
    table = np.random.default_rng(0).normal(0.05, 0.3, (5, 300))
    even, careful = two_way(table, confidence=0.95), two_way(table, confidence=0.95, low_share=gates.LOW_SHARE)
    assert careful.low < even.low and careful.high < even.high
    assert careful.low == pytest.approx(ends(even, confidence=0.98).low) and careful.high == pytest.approx(ends(even, confidence=0.92).high)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 4])
def test_along_is_two_way_of_the_combined_table(groups: np.ndarray | None) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.1, 1, (4, 60)), rng.normal(0, 1, (4, 60))
    settings = {"confidence": 0.95, "groups": groups, "overlap": 0.2, "least": 0.05, "low_share": 0.25}
    shares = np.array([-2.0, 0.0, 0.3, 5.0])
    for share, found in zip(shares, along(first, second, shares, **settings).T, strict=True):
        one = two_way(first + share * second, **settings)
        assert found == pytest.approx([one.value, one.low, one.high])


# the curve


@pytest.mark.parametrize("shape", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("at", [60.0, 100.0, 150.0, 400.0])
def test_weights_follow_a_power_law_exactly(shape: float, at: float) -> None:
    found = weights([100.0, 200.0], at, shape=shape)
    assert found.sum() == pytest.approx(1)
    assert found @ [accuracy(m, shape=shape) for m in (100.0, 200.0)] == pytest.approx(accuracy(at, shape=shape))


def test_weights_use_the_two_sizes_around_and_the_limit_is_straight_in_log() -> None:
    assert weights(SIZES, 100, shape=0) == pytest.approx([0, 1, 0])
    assert weights(SIZES, 100 * np.sqrt(2), shape=0) == pytest.approx([0, 0.5, 0.5])
    assert weights(SIZES, 400, shape=0) == pytest.approx([0, -1, 2])
    assert weights(SIZES, 150, shape=1e-6) == pytest.approx(weights(SIZES, 150, shape=0), abs=1e-5)


@pytest.mark.parametrize(("had", "extra"), [(100, 40), (100, -30), (200, -80), (200, 0), (200, 60)])
def test_without_noise_the_worth_is_the_number_of_images(had: int, extra: int) -> None:
    found = worth(exact(accuracy(had + extra)), {m: exact(accuracy(m)) for m in SIZES}, at=had, confidence=0.95)
    assert found.value == pytest.approx(extra, abs=4)
    assert found.low is not None and found.high is not None and found.low - 6 <= extra <= found.high + 6
    # an extrapolation knows only that the exponent lies between 0 and 2, and says so
    assert found.extrapolated == (had + extra >= 200) and (found.high - found.low < 50 or extra == 60)
    assert found.status == ("none" if extra == 0 else "worth" if extra > 0 else "negative")


def test_a_candidate_beyond_everything_is_more_and_one_below_everything_negative() -> None:
    curve = {m: exact(accuracy(m)) for m in SIZES}
    better, worse = (worth(exact(score), curve, at=200, confidence=0.95) for score in (0.99, 0.2))
    assert (better.status, better.value, better.low, better.high, better.extrapolated) == ("more", None, pytest.approx(600), None, True)
    assert (worse.status, worse.value, worse.low, worse.high) == ("negative", None, None, pytest.approx(-150))


@pytest.mark.parametrize("scores", [(0.85, 0.80, 0.75), (0.75, 0.82, 0.78)])
@pytest.mark.parametrize("gain", [0.02, -0.02])
def test_a_curve_that_falls_never_turns_a_gain_into_harm_or_harm_into_worth(scores: tuple[float, ...], gain: float) -> None:
    curve = {m: exact(score) for m, score in zip(SIZES, scores, strict=True)}
    found = worth(exact(scores[-1] + gain), curve, at=200, confidence=0.95)
    assert found.status in (("worth", "more", "cannot tell") if gain > 0 else ("negative", "cannot tell"))
    assert found.value is None or found.value * gain > 0


def test_an_interval_between_two_of_the_numbers_tried_is_still_one() -> None:
    curve = {m: exact(accuracy(m)) for m in SIZES}
    for size in np.linspace(201, 206, 6):
        found = worth(exact(accuracy(size)), curve, at=100, confidence=0.95)
        assert found.status == "worth" and found.low is not None and found.high is not None and found.low - 6 <= size - 100 <= found.high + 6


def test_a_flat_noisy_curve_says_that_it_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    found = worth(tables(rng, 0.7), {m: tables(rng, 0.7) for m in SIZES}, at=200, confidence=0.95)
    assert found.status == "cannot tell" and found.high is None


@pytest.mark.parametrize(("shape", "had", "extra"), [(0.3, 200, 0.0), (1.0, 200, 1.5), (0.5, 100, 0.5)])
def test_the_interval_holds_the_truth(shape: float, had: int, extra: float) -> None:
    rng, hits, trials = np.random.default_rng(5), 0, 400
    for _ in range(trials):
        curve = {m: tables(rng, accuracy(m, shape=shape), images=200) for m in SIZES}
        candidate = tables(rng, accuracy(had * (1 + extra), shape=shape), images=200)
        hits += bool(possible(candidate, curve, np.array([had * (1 + extra)]), confidence=0.95)[0])
    assert hits / trials > 0.93


def test_one_size_is_no_curve() -> None:
    with pytest.raises(ValueError, match="one size"):
        worth(exact(0.5), {100.0: exact(0.5)}, at=100, confidence=0.95)


# parts of a training set


def kept(store: Store, groups: list[str] | None, counts: tuple[int, ...] = (20, 8)) -> str:
    n = sum(counts)
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    return keep_images(store, from_arrays(x, np.repeat(np.arange(len(counts)), counts), groups=groups), size=8, channels=1)


def names(store: Store, digest: str) -> set[str]:
    entry = store.get(digest)
    assert entry is not None
    return set(read_facts(entry)["names"])


def test_parts_are_nested_and_take_their_share_of_every_class(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = kept(store, None)
    quarter, half = (keep_part(store, whole, share=s, seed=3) for s in (0.25, 0.5))
    assert names(store, quarter) < names(store, half) < names(store, whole)
    entry = store.get(quarter)
    assert entry is not None and entry.result["images"] == 7 and entry.result["least"] == 2
    assert np.bincount(np.load(entry.path("y.npy"))).tolist() == [5, 2]
    assert names(store, keep_part(store, whole, share=0.25, seed=4)) != names(store, quarter)


def test_parts_keep_groups_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    groups = [f"plant {i // 3}" for i in range(28)]
    entry = store.get(keep_part(store, kept(store, groups), share=0.5, seed=1))
    assert entry is not None
    facts = json.loads(entry.path("facts.json").read_text())
    y = np.load(entry.path("y.npy"))
    for k in (0, 1):
        taken = [g for g, label in zip(facts["groups"], y, strict=True) if label == k]
        there = [g for g, label in zip(groups, np.repeat([0, 1], (20, 8)), strict=True) if label == k]
        assert all(taken.count(g) == there.count(g) for g in taken)
