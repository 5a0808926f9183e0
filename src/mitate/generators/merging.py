"""Merging of low-rank updates (LoRA experts of one model): pure functions of one module's updates, and a record for each method.

What stands in the way before: interference.py.

merged = merge({"counting": one, "spatial": other}, Ties(density=0.5))      Updates, and the share of the merge that its rank holds

A function takes the updates of one module and the share of each expert, and gives what is added to the weight: as factors where that is exact (means and sums
are factors side by side), else dense, float64. `to_rank` then makes factors of it. An expert that lacks a module adds nothing there. Updates are merged, not
factors: mean(B) mean(A) is not mean(B A), so what merges factors says so by its name.

TIES: Yadav et al. 2023, arXiv 2306.01708. DARE: Yu et al. 2023, arXiv 2311.03099. Experts of skills: SELMA, Li et al. 2024, arXiv 2403.06952.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mitate.errors import DataError, SettingError
from mitate.generators.updates import Update, Updates
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of


@dataclass(frozen=True, eq=False)
class Dense:
    """What is added to one weight, in full: delta float64 [out, in * h * w]; shape: of the weight."""

    delta: Tensor
    shape: tuple[int, ...]


Change = Update | Dense


# one module: updates, and the share of each -> what is added to its weight ---------------------------------------------------


def weighted(updates: Sequence[Update], shares: Sequence[float]) -> Update:
    """Sum of share_i * delta_i, exactly: factors side by side, as long as the sum of ranks. One update with share 1 is itself."""
    if len(updates) == 1:
        return replace(updates[0], scale=shares[0] * updates[0].scale)
    up = torch.cat([share * one.scale * one.up.double() for one, share in zip(updates, shares, strict=True)], 1)
    return Update(up, torch.cat([one.down.double() for one in updates]), updates[0].shape)


def delta_mean(updates: Sequence[Update]) -> Update:
    """The mean of the deltas, exactly."""
    return weighted(updates, [1 / len(updates)] * len(updates))


def summed(updates: Sequence[Update]) -> Update:
    """The naive sum, each update in full: what loading them one on top of the other does."""
    return weighted(updates, [1.0] * len(updates))


def pruned(updates: Sequence[Update], shares: Sequence[float], *, density: float) -> Dense:
    """Weighted sum of the deltas after all but the largest entries of each are dropped. density: the share of entries kept, 0 to 1."""
    return Dense(sum_of([trimmed(one.delta, density) for one in updates], shares), updates[0].shape)


def ties(updates: Sequence[Update], shares: Sequence[float], *, density: float) -> Dense:
    """Trim each delta to its largest entries, elect a sign for each entry by the weighted sum, and average those that have it.

    Yadav et al. 2023, with the trimming by tensor and not by model, as in peft. Where the sum is 0 nobody is elected, and nothing is added; peft takes plus.
    """
    return Dense(agreed([trimmed(one.delta, density) for one in updates], shares), updates[0].shape)


def dare(updates: Sequence[Update], shares: Sequence[float], *, drop: float, seeds: Sequence[int]) -> Dense:
    """Weighted sum of the deltas after a share `drop` of the entries of each was dropped by chance, and the rest divided by 1 - drop (Yu et al. 2023)."""
    return Dense(sum_of(_dropped(updates, drop, seeds), shares), updates[0].shape)


def dare_ties(updates: Sequence[Update], shares: Sequence[float], *, drop: float, seeds: Sequence[int]) -> Dense:
    """Entries dropped by chance as in `dare`, then signs elected and those that agree averaged as in `ties`; no trimming."""
    return Dense(agreed(_dropped(updates, drop, seeds), shares), updates[0].shape)


def factor_mean(updates: Sequence[Update], shares: Sequence[float]) -> Update:
    """(sum share_i scale_i up_i)(sum share_i down_i): factors averaged separately, which is not the mean of the deltas, and depends on how each is factored."""
    up = sum_of([one.scale * one.up.double() for one in updates], shares)
    return Update(up, sum_of([one.down.double() for one in updates], shares), updates[0].shape)


def factor_linear(updates: Sequence[Update], shares: Sequence[float]) -> Update:
    """(sum sqrt(share_i scale_i) up_i)(sum sqrt(share_i scale_i) down_i): peft's `linear`. N equal experts give N times the expert, whatever the shares 1/N."""
    strengths = [share * one.scale for one, share in zip(updates, shares, strict=True)]
    up = sum_of([one.up.double() for one in updates], [math.sqrt(abs(s)) for s in strengths])
    down = sum_of([one.down.double() for one in updates], [math.copysign(math.sqrt(abs(s)), s) for s in strengths])
    return Update(up, down, updates[0].shape)


def trimmed(delta: Tensor, density: float) -> Tensor:
    """The entries of largest magnitude, at least one, and as many more as are exactly as large as the last; 0 elsewhere."""
    keep = max(1, int(density * delta.numel()))
    if keep == delta.numel():
        return delta
    size = delta.abs()
    least = size.flatten().kthvalue(delta.numel() - keep + 1).values
    return torch.where(size >= least, delta, 0.0)


def agreed(deltas: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Entry by entry, the weighted mean of the deltas that have the sign of their weighted sum; 0 where the sum is 0."""
    sign = sum_of(deltas, shares).sign()
    kept = [(delta.sign() == sign) & (sign != 0) for delta in deltas]
    total = sum_of([one.double() for one in kept], shares)
    return sum_of([delta * one for delta, one in zip(deltas, kept, strict=True)], shares) / total.where(total > 0, 1.0)


def sum_of(deltas: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(deltas[0])
    for delta, share in zip(deltas, shares, strict=True):
        total += share * delta
    return total


def _dropped(updates: Sequence[Update], drop: float, seeds: Sequence[int]) -> list[Tensor]:
    found = []
    for one, seed in zip(updates, seeds, strict=True):
        chance = torch.Generator().manual_seed(seed)
        delta = one.delta
        kept = torch.rand(delta.shape, dtype=torch.float64, generator=chance) >= drop
        found.append(torch.where(kept, delta / (1 - drop), 0.0))
    return found


def to_rank(change: Change, rank: int) -> Update:
    """The best factors of a rank (Eckart and Young): by SVD. Factors that have no more than that come back as they are; others never become dense."""
    if isinstance(change, Update):
        if change.rank <= rank:
            return change
        left, upper = torch.linalg.qr(change.scale * change.up.double())
        right, lower = torch.linalg.qr(change.down.double().T)
        u, s, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
        u, v = left @ u, v @ right.T
    else:
        u, s, v = torch.linalg.svd(change.delta, full_matrices=False)
    root = s[:rank].sqrt()
    return Update(u[:, :rank] * root, root[:, None] * v[:rank], change.shape)


def squared_norm(change: Change) -> float:
    """Sum of the squared entries of the delta."""
    return inner(change, change) if isinstance(change, Update) else float(change.delta.square().sum())


def inner(one: Update, other: Update) -> float:
    """Sum of the products of the deltas' entries, by the small matrices of the factors' own products."""
    ups, downs = one.up.double().T @ other.up.double(), one.down.double() @ other.down.double().T
    return one.scale * other.scale * float((ups * downs).sum())


# the methods as records -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """rank: of the merged update (0: the sum of the experts' ranks, which holds means and sums exactly)."""

    rank: int = 0

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise SettingError(f"A rank of {self.rank} cannot be.", fix="give 1 or more, or 0 for the sum of the experts' ranks")

    def shares(self, n: int) -> tuple[float, ...]:
        """Of each of n experts."""
        return (1 / n,) * n

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        """What is added to one weight. seeds: a number for each update, fixed by its module and its expert's content."""
        raise NotImplementedError

    def seed_for(self, module: str, expert: str) -> int:
        return 0


@dataclass(frozen=True)
class Weighing(Method):
    """weights: of the experts in their order, from 0; what counts is their share of the sum. None: equal ones."""

    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not math.isfinite(w) or w < 0 for w in self.weights):
            raise SettingError(f"Weights are {', '.join(f'{w:g}' for w in self.weights)}.", fix="give numbers from 0; they need not sum to 1")
        if self.weights and not 0 < sum(self.weights) < math.inf:
            raise SettingError("All weights are 0.", fix="give at least one above 0")

    def shares(self, n: int) -> tuple[float, ...]:
        if self.weights and len(self.weights) != n:
            raise SettingError(f"{n} experts have {len(self.weights)} weights.", fix="give one weight an expert, in the same order")
        return tuple(w / math.fsum(self.weights) for w in self.weights) if self.weights else super().shares(n)


@dataclass(frozen=True)
class DeltaMean(Weighing):
    """The (weighted) mean of the updates, exactly."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return weighted(updates, shares)


@dataclass(frozen=True)
class Summed(Method):
    """The sum of the updates, each in full."""

    def shares(self, n: int) -> tuple[float, ...]:
        return (1.0,) * n

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return weighted(updates, shares)


@dataclass(frozen=True)
class _Trimming(Weighing):
    """density: share of each update's entries that is kept, above 0 to 1."""

    density: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.density <= 1:
            raise SettingError(f"A density of {self.density:g} cannot be.", fix="give a share above 0, up to 1 for all entries")


@dataclass(frozen=True)
class Ties(_Trimming):
    """TIES: trim, elect signs, average what agrees."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return ties(updates, shares, density=self.density)


@dataclass(frozen=True)
class Pruned(_Trimming):
    """The mean of the updates, each cut to its largest entries."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return pruned(updates, shares, density=self.density)


@dataclass(frozen=True)
class Dare(Weighing):
    """DARE: entries dropped by chance and the others enlarged, then the mean. drop: share that is dropped, from 0 to below 1."""

    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop < 1:
            raise SettingError(f"A drop of {self.drop:g} cannot be.", fix="give a share from 0 to below 1")

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return dare(updates, shares, drop=self.drop, seeds=seeds)

    def seed_for(self, module: str, expert: str) -> int:
        return seed_of("dare", self.seed, module, expert)


@dataclass(frozen=True)
class DareTies(Dare):
    """DARE, then signs elected and averaged as in TIES."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return dare_ties(updates, shares, drop=self.drop, seeds=seeds)


@dataclass(frozen=True)
class FactorMean(Weighing):
    """Each factor averaged by itself: not the mean of the updates. For comparison."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return factor_mean(_same_rank(updates, "factor-mean"), shares)


@dataclass(frozen=True)
class FactorLinear(Weighing):
    """peft's `linear`: factors summed with the roots of weights. Not the mean of the updates. For comparison."""

    def of(self, updates: Sequence[Update], shares: Sequence[float], seeds: Sequence[int]) -> Change:
        return factor_linear(_same_rank(updates, "factor-linear"), shares)


METHODS: dict[str, type[Method]] = {
    "mean": DeltaMean, "sum": Summed, "ties": Ties, "dare": Dare, "dare-ties": DareTies, "prune": Pruned, "factor-mean": FactorMean,
    "factor-linear": FactorLinear,
}  # fmt: skip


def method_name(how: Method) -> str:
    return next(name for name, kind in METHODS.items() if kind is type(how))


def _same_rank(updates: Sequence[Update], method: str) -> Sequence[Update]:
    ranks = sorted({one.rank for one in updates})
    if len(ranks) > 1:
        raise DataError(f"{method} needs experts of one rank; these have {' and '.join(map(str, ranks))}.", fix="use mean, which merges updates of any rank")
    return updates


# whole experts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merge:
    """updates: the merged ones; kept: share of the merge's squared norm that their rank holds, 0 to 1 (1 is all; None of a merge that is zero)."""

    updates: Updates
    kept: float | None


def merge(experts: Mapping[str, Updates], how: Method, *, progress: Progress | None = None) -> Merge:
    """The experts merged, module after module, so that one module at a time is dense. The order of experts matters for their weights only."""
    base = check(experts)
    shares, told = how.shares(len(experts)), progress or Silent()
    modules, whole, held = {}, 0.0, 0.0
    names = modules_of(experts)
    for at, module in enumerate(names):
        there = [(one, share) for one, share in zip(experts.values(), shares, strict=True) if share > 0 and module in one.modules]
        rows = [(one.modules[module], share, one.digest) for one, share in there]
        if not rows:  # only experts of weight 0 change it
            continue
        updates = [update for update, _, _ in rows]
        change = how.of(updates, [share for _, share, _ in rows], [how.seed_for(module, expert) for _, _, expert in rows])
        widest = min(updates[0].up.shape[0], updates[0].down.shape[1])
        modules[module] = to_rank(change, min(widest, how.rank or sum(one.rank for one in updates)))
        whole += squared_norm(change)
        held += squared_norm(modules[module])
        told.step(at + 1, len(names), "modules")
    return Merge(Updates(modules, base), min(1.0, held / whole) if whole else None)


def check(experts: Mapping[str, Updates]) -> str:
    """The base that all experts stand on, as far as they tell. SettingError for no experts; DataError where they do not go together."""
    if not experts:
        raise SettingError("There is nothing to merge.", fix="name one expert or more")
    bases = {one.base: name for name, one in experts.items() if one.base}
    if len(bases) > 1:
        (_, a), (_, b) = list(bases.items())[:2]
        raise DataError(f"{a} and {b} were learnt on different models.", fix="merge experts of one model")
    for module in modules_of(experts):
        shapes = {one.modules[module].shape: name for name, one in experts.items() if module in one.modules}
        if len(shapes) > 1:
            (one, a), (other, b) = list(shapes.items())[:2]
            raise DataError(f"{module} is {list(one)} in {a} and {list(other)} in {b}.", fix="merge experts of one model")
    return next(iter(bases), "")


def modules_of(experts: Mapping[str, Updates]) -> list[str]:
    """Every module that an expert changes."""
    return sorted({module for one in experts.values() for module in one.modules})
