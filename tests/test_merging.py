"""Merging of updates: algebra against dense deltas, TIES and DARE against small references written here and against peft, and what interference says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from mitate.errors import DataError, SettingError
from mitate.generators.interference import Interference, interference, table
from mitate.generators.merging import (
    METHODS,
    Dare,
    DareTies,
    DeltaMean,
    Dense,
    FactorLinear,
    FactorMean,
    Method,
    Pruned,
    Summed,
    Ties,
    delta_mean,
    inner,
    merge,
    method_name,
    summed,
    to_rank,
    trimmed,
    weighted,
)
from mitate.generators.updates import Update, Updates
from mitate.settings import from_text, record

SHAPES = {"unet.a.to_q": (12, 10), "unet.a.to_k": (6, 14), "unet.conv": (5, 3, 3, 3)}


def update(shape: tuple[int, ...], rank: int, chance: np.random.Generator, scale: float = 1.0) -> Update:
    wide = math.prod(shape[1:])
    up, down = (torch.tensor(chance.normal(size=size), dtype=torch.float32) for size in ((shape[0], rank), (rank, wide)))
    return Update(up, down, shape, scale)


def expert(seed: int, *, rank: int = 2, leave_out: Sequence[str] = (), scale: float = 1.0) -> Updates:
    chance = np.random.default_rng(seed)
    return Updates({name: update(shape, rank, chance, scale) for name, shape in SHAPES.items() if name not in leave_out})


def dense(updates: Updates) -> dict[str, np.ndarray]:
    """The deltas by NumPy alone; zero where nothing is changed."""
    found = {name: np.zeros((shape[0], math.prod(shape[1:]))) for name, shape in SHAPES.items()}
    for name, one in updates.modules.items():
        found[name] = one.scale * (one.up.numpy().astype(np.float64) @ one.down.numpy().astype(np.float64))
    return found


def close(merged: Updates, wanted: dict[str, np.ndarray], tolerance: float = 1e-6) -> None:
    found = dense(merged)
    for name, delta in wanted.items():
        assert np.linalg.norm(found[name] - delta) <= tolerance * max(1.0, np.linalg.norm(delta)), name


def named(*experts: Updates) -> dict[str, Updates]:
    return {f"e{i}": one for i, one in enumerate(experts)}


# means and sums -----------------------------------------------------------------------------------------------------------


def test_the_mean_of_experts_of_unequal_ranks_and_targets_is_the_mean_of_their_deltas() -> None:
    experts = [expert(0, rank=2), expert(1, rank=3, leave_out=["unet.a.to_q"], scale=0.5), expert(2, rank=1, leave_out=["unet.conv"])]
    deltas = [dense(one) for one in experts]
    found = merge(named(*experts), DeltaMean())
    close(found.updates, {name: sum(d[name] for d in deltas) / 3 for name in SHAPES}, 1e-12)
    assert found.kept == pytest.approx(1) and found.updates.modules["unet.conv"].rank == 5  # the ranks' sum
    assert merge(named(expert(0, rank=5), expert(1, rank=5)), DeltaMean()).updates.modules["unet.conv"].rank == 5  # and never more than the weight's


@pytest.mark.parametrize("weights", [(1.0, 2.0, 3.0), (0.5, 0.3, 0.2), (0.0, 0.0, 7.0), (1e-300, 1e-300, 2e-300)])
def test_weights_sum_to_one_whatever_was_given(weights: tuple[float, ...]) -> None:
    experts = [expert(i) for i in range(3)]
    shares = DeltaMean(weights=weights).shares(3)
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    deltas = [dense(one) for one in experts]
    close(merge(named(*experts), DeltaMean(weights=weights)).updates, {n: sum(s * d[n] for s, d in zip(shares, deltas, strict=True)) for n in SHAPES}, 1e-12)


def test_the_sum_is_n_times_the_mean() -> None:
    experts = [expert(i) for i in range(3)]
    mean, total = merge(named(*experts), DeltaMean()).updates, merge(named(*experts), Summed()).updates
    close(total, {name: 3 * delta for name, delta in dense(mean).items()}, 1e-12)
    updates = [one.modules["unet.conv"] for one in experts]
    assert torch.allclose(summed(updates).delta, 3 * delta_mean(updates).delta, atol=1e-12)


PLAIN: list[Method] = [DeltaMean(), Summed(), Ties(density=1.0), Dare(drop=0.0), DareTies(drop=0.0), Pruned(density=1.0), FactorMean(), FactorLinear()]


@pytest.mark.parametrize("how", PLAIN, ids=method_name)
def test_a_merge_of_one_is_the_expert(how: Method) -> None:
    one = expert(3, scale=0.7)
    close(merge(named(one), how).updates, dense(one))


@pytest.mark.parametrize("how", [DeltaMean(), Ties(density=1.0), Dare(drop=0.0), DareTies(drop=0.0), Pruned(density=1.0), FactorMean()], ids=method_name)
@pytest.mark.parametrize("n", [2, 5])
def test_a_merge_of_equal_experts_is_that_expert(how: Method, n: int) -> None:
    one = expert(4, scale=2.0)
    close(merge(named(*[one] * n), how).updates, dense(one))


@pytest.mark.parametrize("how", [Summed(), FactorLinear()], ids=method_name)
def test_methods_that_do_not_average_give_equal_experts_n_times(how: Method) -> None:
    one = expert(4)
    close(merge(named(one, one, one), how).updates, {name: 3 * delta for name, delta in dense(one).items()})


@pytest.mark.parametrize("how", [Ties(density=0.3), Pruned(density=0.3)], ids=method_name)
def test_trimming_equal_experts_gives_the_trimmed_expert(how: Method) -> None:
    one = expert(4)
    wanted = {name: trimmed(torch.tensor(delta), 0.3).numpy() for name, delta in dense(one).items()}
    close(merge(named(one, one), type(how)(**{**vars(how), "rank": 99})).updates, wanted)


def test_an_expert_that_is_switched_off_adds_nothing() -> None:
    one, other = expert(5), expert(6)
    close(merge(named(one, other.scaled(0.0)), Summed()).updates, dense(one), 1e-12)
    zero = merge(named(one.scaled(0.0), other.scaled(0.0)), DeltaMean())
    assert zero.kept is None and all(not delta.any() for delta in dense(zero.updates).values())


@pytest.mark.parametrize("how", [DeltaMean(), Summed(), Ties(density=0.4), Dare(drop=0.5), DareTies(drop=0.5), Pruned(density=0.4)], ids=method_name)
def test_the_order_of_experts_does_not_matter(how: Method) -> None:
    one, other = expert(7), expert(8, rank=3)
    close(merge({"a": one, "b": other}, how).updates, dense(merge({"b": other, "a": one}, how).updates), 1e-9)


@pytest.mark.parametrize("how", [DeltaMean, Ties, Dare, DareTies, Pruned, FactorMean, FactorLinear])
def test_a_weight_of_zero_is_as_leaving_the_expert_out(how: type[DeltaMean]) -> None:
    one, other, third = expert(5), expert(6, leave_out=["unet.conv"]), expert(7, rank=2)
    alone = merge({"a": one, "c": third}, how(weights=(1, 3))).updates
    assert merge({"a": one, "b": other, "c": third}, how(weights=(1, 0, 3))).updates.digest == alone.digest
    assert "unet.conv" not in merge({"a": one, "b": other}, how(weights=(0, 1))).updates.modules


# rank -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_to_rank_is_the_best_of_that_rank_without_becoming_dense(rank: int) -> None:
    experts = [expert(i, rank=3).modules["unet.a.to_q"] for i in range(2)]
    mean = delta_mean(experts)
    u, s, v = np.linalg.svd(mean.delta.numpy())
    wanted = (u[:, :rank] * s[:rank]) @ v[:rank]
    for change in (mean, Dense(mean.delta, mean.shape)):
        found = to_rank(change, rank)
        assert found.rank == rank and np.allclose(found.delta.numpy(), wanted, atol=1e-10)


def test_what_a_rank_holds_is_told() -> None:
    experts = named(expert(0), expert(1))
    whole, small = merge(experts, DeltaMean()), merge(experts, DeltaMean(rank=1))
    exact, found = dense(whole.updates), dense(small.updates)
    wanted = sum(np.sum(d**2) for d in found.values()) / sum(np.sum(d**2) for d in exact.values())
    assert small.kept == pytest.approx(wanted) and 0.1 < small.kept < 1 and {one.rank for one in small.updates.modules.values()} == {1}


# TIES, DARE, pruning against references --------------------------------------------------------------------------------------


def ties_by_hand(deltas: Sequence[np.ndarray], density: float) -> np.ndarray:
    """Algorithm of the paper, entry by entry."""
    cut = []
    for delta in deltas:
        order = np.argsort(-np.abs(delta).ravel())[: int(density * delta.size)]
        kept = np.zeros(delta.size)
        kept[order] = delta.ravel()[order]
        cut.append(kept.reshape(delta.shape))
    found = np.zeros(deltas[0].shape)
    for at in np.ndindex(*found.shape):
        plus, minus = sum(max(c[at], 0.0) for c in cut), sum(max(-c[at], 0.0) for c in cut)
        agreeing = [c[at] for c in cut if (c[at] > 0 if plus > minus else c[at] < 0)]
        found[at] = np.mean(agreeing) if agreeing and plus != minus else 0.0
    return found


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_is_the_papers(density: float) -> None:
    experts = [expert(10, rank=2), expert(11, rank=3), expert(12, rank=1, leave_out=["unet.a.to_k"])]
    deltas = [dense(one) for one in experts]
    wanted = {name: ties_by_hand([d[name] for d in deltas if d[name].any()], density) for name in SHAPES}
    close(merge(named(*experts), Ties(density=density, rank=99)).updates, wanted, 1e-9)


def test_an_entry_on_which_nobody_wins_is_left_alone() -> None:
    one = expert(13)
    close(merge(named(one, one.scaled(-1.0)), Ties(density=1.0)).updates, {name: np.zeros_like(d) for name, d in dense(one).items()})


def test_ties_with_weights_lets_the_heavier_expert_win() -> None:
    one = expert(13)
    against = one.scaled(-1.0)
    close(merge(named(one, against), Ties(density=1.0, weights=(3.0, 1.0))).updates, dense(one))
    close(merge(named(one, against), Ties(density=1.0, weights=(1.0, 3.0))).updates, dense(against))


def test_dare_drops_a_share_enlarges_the_rest_and_is_right_on_average() -> None:
    one = Updates({"unet.m": update((60, 50), 4, np.random.default_rng(0))})
    exact = one.modules["unet.m"].delta.numpy()
    total = np.zeros_like(exact)
    for seed in range(200):
        found = merge({"a": one}, Dare(drop=0.6, seed=seed, rank=50)).updates.modules["unet.m"].delta.numpy()
        kept = np.abs(found) > 1e-9
        assert np.allclose(found[kept], exact[kept] / 0.4, rtol=1e-6, atol=1e-9)
        assert abs(kept.mean() - 0.4) < 0.05
        total += found / 200
    assert np.linalg.norm(total - exact) < 3 * np.linalg.norm(exact) * math.sqrt(0.6 / 0.4 / 200)


def test_dare_is_fixed_by_seed_module_and_expert() -> None:
    experts = named(expert(14), expert(15))
    a, b, c = (merge(experts, Dare(drop=0.5, seed=seed)).updates for seed in (0, 0, 1))
    assert a.digest == b.digest != c.digest
    twice = {"unet.x": expert(14).modules["unet.a.to_q"], "unet.y": expert(14).modules["unet.a.to_q"]}
    found = merge({"a": Updates(twice)}, Dare(drop=0.5, rank=10)).updates
    assert not torch.allclose(found.modules["unet.x"].delta, found.modules["unet.y"].delta)


def test_dare_ties_elects_among_what_was_left() -> None:
    experts = named(expert(16), expert(17))
    how = DareTies(drop=0.5, seed=3, rank=99)
    left = [dense(merge({"one": one}, Dare(drop=0.5, seed=3, rank=99)).updates) for one in experts.values()]
    for name, delta in dense(merge(experts, how).updates).items():
        rows = [np.where(np.abs(d[name]) < 1e-9, 0, d[name]) for d in left]
        assert np.allclose(delta, ties_by_hand(rows, 1.0), atol=1e-8)


# against peft ------------------------------------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(10, 12, bias=False)


def in_peft(experts: Sequence[Update], kind: str, weights: Sequence[float], **settings: object) -> Tensor:
    """What peft merges of the same experts, as a delta."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        net = None
        for i, one in enumerate(experts):
            config = LoraConfig(r=one.rank, lora_alpha=one.scale * one.rank, target_modules=["layer"])  # type: ignore[arg-type]
            if net is None:
                net = get_peft_model(Net(), config, adapter_name="e0")
            else:
                net.add_adapter(f"e{i}", config)
            layer = net.base_model.model.layer  # type: ignore[union-attr]
            layer.lora_A[f"e{i}"].weight.data.copy_(one.down)
            layer.lora_B[f"e{i}"].weight.data.copy_(one.up)
        net.base_model.add_weighted_adapter([f"e{i}" for i in range(len(experts))], list(weights), "merged", combination_type=kind, **settings)  # type: ignore[union-attr,operator]
        return net.base_model.model.layer.get_delta_weight("merged").detach().double()  # type: ignore[union-attr]


THREE = [expert(20 + i, scale=0.5 + 0.25 * i).modules["unet.a.to_q"] for i in range(3)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "weights", "settings", "how"),
    [
        ("cat", (1 / 3,) * 3, {}, DeltaMean()),
        ("svd", (1 / 3,) * 3, {"svd_rank": 6}, DeltaMean()),
        ("svd", (0.5, 0.3, 0.2), {"svd_rank": 3}, DeltaMean(weights=(5, 3, 2), rank=3)),
        ("svd", (1.0,) * 3, {"svd_rank": 6}, Summed()),
        ("linear", (1 / 3,) * 3, {}, FactorLinear()),
        ("ties_svd", (1.0,) * 3, {"svd_rank": 10, "density": 0.5}, Ties(density=0.5, rank=10)),
        ("ties_svd", (1.0,) * 3, {"svd_rank": 4, "density": 0.2}, Ties(density=0.2, rank=4)),
        ("magnitude_prune_svd", (1 / 3,) * 3, {"svd_rank": 10, "density": 0.4}, Pruned(density=0.4, rank=10)),
    ],
)
def test_peft_merges_the_same(kind: str, weights: Sequence[float], settings: dict[str, object], how: Method) -> None:
    found = merge({f"e{i}": Updates({"unet.a.to_q": one}) for i, one in enumerate(THREE)}, how).updates.modules["unet.a.to_q"].delta
    assert (found - in_peft(THREE, kind, weights, **settings)).norm() < 2e-6 * found.norm()  # peft works in float32


@pytest.mark.filterwarnings("ignore")
def test_where_peft_means_something_else() -> None:
    """ties_svd with weights 1/N is N times weaker than TIES; `linear` is no mean of deltas, and neither is the mean of factors."""
    experts = {f"e{i}": Updates({"unet.a.to_q": one}) for i, one in enumerate(THREE)}

    def delta(how: Method) -> Tensor:
        return merge(experts, how).updates.modules["unet.a.to_q"].delta

    theirs, ours = in_peft(THREE, "ties_svd", (1 / 3,) * 3, svd_rank=10, density=0.5), delta(Ties(density=0.5, rank=10))
    assert (3 * theirs - ours).norm() < 2e-6 * ours.norm()
    mean, factors, linear = delta(DeltaMean()), delta(FactorMean()), delta(FactorLinear())
    assert min((mean - factors).norm(), (mean - linear).norm(), (factors - linear).norm()) > 0.3 * mean.norm()


# interference --------------------------------------------------------------------------------------------------------------------


def test_norms_and_cosines_are_those_of_the_dense_deltas() -> None:
    experts = [expert(30, rank=2, scale=0.3), expert(31, rank=3), expert(32, leave_out=["unet.conv"])]
    found = interference(named(*experts))
    flat = [np.concatenate([d.ravel() for d in dense(one).values()]) for one in experts]
    assert found.whole.norms == pytest.approx([np.linalg.norm(f) for f in flat])
    for (a, b), cosine in found.cosines.items():
        x, y = flat[int(a[1])], flat[int(b[1])]
        assert cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        both = (x != 0) & (y != 0)
        assert found.conflicts[a, b] == pytest.approx((x * y < 0)[both].mean())
    stacked = np.stack(flat)
    assert found.whole.cancelled == pytest.approx(1 - np.abs(stacked.sum(0)).sum() / np.abs(stacked).sum())
    assert inner(experts[0].modules["unet.conv"], experts[1].modules["unet.conv"]) == pytest.approx(
        np.sum(dense(experts[0])["unet.conv"] * dense(experts[1])["unet.conv"])
    )


def test_unrelated_experts_conflict_by_chance_and_equal_ones_not_at_all() -> None:
    def wide(seed: int) -> Updates:
        return Updates({"unet.m": update((80, 80), 40, np.random.default_rng(seed))})

    for n in (2, 3, 4):
        found = interference(named(*[wide(seed) for seed in range(n)])).whole
        assert found.conflict == pytest.approx(1 - 2 ** (1 - n), abs=0.03) and found.cancelled == pytest.approx(1 - n**-0.5, abs=0.03)
    same = interference(named(wide(0), wide(0), wide(0))).whole
    assert same.conflict == 0 and same.cancelled == pytest.approx(0, abs=1e-12) and same.cosine == pytest.approx(1)
    against = interference(named(wide(0), wide(0).scaled(-2.0)))
    assert against.whole.conflict == 1 and against.cosines["e0", "e1"] == pytest.approx(-1) and against.whole.cancelled == pytest.approx(2 / 3)


def test_the_module_that_clashes_most_is_named_first() -> None:
    one, other = expert(33), expert(34)
    modules = {**one.modules, "unet.a.to_k": other.modules["unet.a.to_k"], "unet.conv": one.scaled(-1.0).modules["unet.conv"]}
    found = interference({"a": one, "b": Updates(modules)})
    assert [clash.where for clash in found.worst()] == ["unet.conv", "unet.a.to_k", "unet.a.to_q"]
    assert any("unet.conv" in line and "cancelled 1" in line for line in table(found)) and "by chance 0.5 and 0.293" in "\n".join(table(found))


def test_what_cannot_be_said_is_none() -> None:
    one = expert(35)
    alone = interference({"a": one})
    assert alone.whole.conflict is None and alone.whole.cosine is None and alone.whole.cancelled is None and isinstance(alone, Interference)
    apart = interference({"a": expert(35, leave_out=["unet.conv"]), "b": Updates({"unet.conv": one.modules["unet.conv"]})})
    assert apart.whole.conflict is None and apart.whole.cosine == 0 and apart.whole.cancelled == pytest.approx(0)
    silent = interference({"a": one, "b": one.scaled(0.0)})
    assert silent.cosines["a", "b"] is None and "cosine none" in "\n".join(table(silent))


# refusals -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_nothing_cannot_be_merged(method: str) -> None:
    with pytest.raises(SettingError, match="nothing to merge"):
        merge({}, METHODS[method]())


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("mean", ["weights=1,-1"], "Weights are 1, -1"),
        ("mean", ["weights=0,0"], "All weights are 0"),
        ("mean", ["weights=nan,1"], "Weights are nan"),
        ("mean", ["weights=inf,1"], "Weights are inf"),
        ("mean", ["weights=1,2,3"], "2 experts have 3 weights"),
        ("mean", ["rank=-1"], "rank of -1"),
        ("mean", ["weight=1,2"], "did you mean 'weights'"),
        ("sum", ["weights=1,2"], "no setting 'weights'"),
        ("ties", ["density=0"], "density of 0"),
        ("ties", ["density=1.5"], "density of 1.5"),
        ("ties", ["density=nan"], "density of nan"),
        ("prune", ["density=-1"], "density of -1"),
        ("dare", ["drop=1"], "drop of 1"),
        ("dare", ["drop=nan"], "drop of nan"),
        ("dare-ties", ["drop=-0.1"], "drop of -0.1"),
        ("ties", ["density=high"], "density"),
    ],
)
def test_wrong_settings_are_told(method: str, options: list[str], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        merge(named(expert(0), expert(1)), from_text(METHODS[method], options, where=f"merge {method}"))


def test_settings_are_read_from_words_and_records() -> None:
    assert from_text(METHODS["ties"], ["weights=0.5,1", "density=0.5", "rank=8"], where="x") == Ties(rank=8, weights=(0.5, 1), density=0.5)
    assert record(DareTies, {"drop": 0.25, "seed": 4}, where="x") == DareTies(drop=0.25, seed=4)
    assert [method_name(kind()) for kind in METHODS.values()] == list(METHODS)


@pytest.mark.parametrize("how", [FactorMean(), FactorLinear()], ids=method_name)
def test_factors_of_unequal_ranks_have_no_mean(how: Method) -> None:
    with pytest.raises(DataError, match="experts of one rank; these have 2 and 3"):
        merge(named(expert(0), expert(1, rank=3)), how)


def test_experts_of_other_models_are_refused() -> None:
    one, other = Updates(expert(0).modules, base="a" * 64), Updates(expert(1).modules, base="b" * 64)
    with pytest.raises(DataError, match="e0 and e1 were learnt on different models"):
        merge(named(one, other), DeltaMean())
    wider = Updates({"unet.a.to_q": update((12, 11), 2, np.random.default_rng(0))})
    with pytest.raises(DataError, match=r"unet.a.to_q is \[12, 10\] in e0 and \[12, 11\] in e1"):
        merge(named(one, wider), DeltaMean())
    assert merge(named(one, expert(1)), DeltaMean()).updates.base == "a" * 64


def test_one_update_alone_is_handed_on_without_rounding() -> None:
    one = expert(36, scale=0.3).modules["unet.conv"]
    found = weighted([one], [1.0])
    assert found.up is one.up and found.down is one.down and found.scale == one.scale and to_rank(found, one.rank) is found
