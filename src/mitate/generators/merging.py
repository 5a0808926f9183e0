"""Merging of low-rank updates (LoRA experts of one model): pure functions of one module's updates, a record for each method, and what stands in the way.

merged = merge({"counting": one, "spatial": other}, Ties(density=0.5))      Updates, and the share of the merge that its rank holds
found  = interference({"counting": one, "spatial": other})                  norms, cosines, sign conflicts, module by module

A function takes the updates of one module and the share of each expert, and gives what is added to the weight: as factors where that is exact (means and sums
are factors side by side), else dense, float64. `to_rank` then makes factors of it. An expert that lacks a module adds nothing there. Updates are merged, not
factors: mean(B) mean(A) is not mean(B A), so what merges factors says so by its name.

TIES: Yadav et al. 2023, arXiv 2306.01708. DARE: Yu et al. 2023, arXiv 2311.03099. Experts of skills: SELMA, Li et al. 2024, arXiv 2403.06952.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

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


# what stands in the way ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clash:
    """How experts stand to each other in some weights. None: could not be said, as one of them changes nothing there.

    norms: of each expert's delta; cosine: mean over pairs; conflict: share of the entries that two or more change in which not all signs agree (N unrelated
    experts: 1 - 2^(1-N)); cancelled: share of all magnitude that is lost in the sum, 1 - sum |sum_i d_i| / sum sum_i |d_i| (N alike: 0; N unrelated of one
    size: 1 - 1/sqrt(N)).
    """

    where: str
    norms: tuple[float, ...]
    cosine: float | None
    conflict: float | None
    cancelled: float | None


@dataclass(frozen=True)
class Interference:
    """whole: all modules as one; modules: each; cosines and conflicts: of each pair of experts, in the order of `names`."""

    names: tuple[str, ...]
    whole: Clash
    cosines: dict[tuple[str, str], float | None]
    conflicts: dict[tuple[str, str], float | None]
    modules: tuple[Clash, ...]

    def worst(self, n: int = 10) -> list[Clash]:
        """The modules where most is cancelled in the sum."""
        return sorted((one for one in self.modules if one.cancelled is not None), key=lambda one: -(one.cancelled or 0.0))[:n]


def interference(experts: Mapping[str, Updates], *, progress: Progress | None = None) -> Interference:
    """Norms and cosines by the factors, signs by the deltas of one module at a time."""
    check(experts)
    names, told = tuple(experts), progress or Silent()
    pairs = list(combinations(range(len(names)), 2))
    whole, clashes, modules = _Counts(len(names)), [], modules_of(experts)
    for at, module in enumerate(modules):
        counts = _Counts(len(names))
        counts.add([one.modules.get(module) for one in experts.values()])
        clashes.append(counts.clash(module, pairs))
        whole.take(counts)
        told.step(at + 1, len(modules), "modules")
    named = {(names[i], names[j]): (i, j) for i, j in pairs}
    cosines = {pair: whole.cosine(*at) for pair, at in named.items()}
    conflicts = {pair: _share(float(whole.against[at]), float(whole.both[at])) for pair, at in named.items()}
    return Interference(names, whole.clash("all", pairs), cosines, conflicts, tuple(clashes))


class _Counts:
    """Sums over entries from which all of a Clash follows: Gram matrix of the experts, entries that both change and in which signs differ, magnitudes."""

    def __init__(self, n: int) -> None:
        self.gram, self.both, self.against = (torch.zeros(n, n, dtype=torch.float64) for _ in range(3))
        self.shared = self.split = self.total = self.left = 0.0

    def add(self, updates: Sequence[Update | None]) -> None:
        there = [(i, one) for i, one in enumerate(updates) if one is not None]
        for i, one in there:
            for j, other in there:
                self.gram[i, j] = inner(one, other)
        signs, total, magnitude = {}, None, None
        for i, one in there:
            delta = one.delta
            signs[i] = delta.sign().to(torch.int8)
            total, magnitude = (delta, delta.abs()) if total is None or magnitude is None else (total + delta, magnitude + delta.abs())
        if total is None or magnitude is None:
            return
        for i, j in combinations(signs, 2):
            self.both[i, j] = int(((signs[i] != 0) & (signs[j] != 0)).sum())
            self.against[i, j] = int((signs[i] * signs[j] < 0).sum())
        changed = sum((sign != 0).to(torch.int16) for sign in signs.values())
        net = sum(sign.to(torch.int16) for sign in signs.values())
        assert isinstance(changed, Tensor) and isinstance(net, Tensor)
        self.shared, self.split = float((changed > 1).sum()), float(((changed > 1) & (net.abs() < changed)).sum())
        self.total, self.left = float(magnitude.sum()), float(total.abs().sum())

    def take(self, other: _Counts) -> None:
        self.gram, self.both, self.against = self.gram + other.gram, self.both + other.both, self.against + other.against
        self.shared, self.split = self.shared + other.shared, self.split + other.split
        self.total, self.left = self.total + other.total, self.left + other.left

    def cosine(self, i: int, j: int) -> float | None:
        return _share(float(self.gram[i, j]), math.sqrt(max(0.0, float(self.gram[i, i] * self.gram[j, j]))))

    def clash(self, where: str, pairs: Sequence[tuple[int, int]]) -> Clash:
        norms = tuple(math.sqrt(max(0.0, float(self.gram[i, i]))) for i in range(len(self.gram)))
        found = [cosine for i, j in pairs if (cosine := self.cosine(i, j)) is not None]
        several = sum(norm > 0 for norm in norms) > 1
        cancelled = max(0.0, 1 - self.left / self.total) if several else None
        return Clash(where, norms, sum(found) / len(found) if found else None, _share(self.split, self.shared), cancelled)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def table(found: Interference, *, worst: int = 10) -> list[str]:
    """Lines to print: the experts, their pairs, and the modules where most is cancelled."""
    n = len(found.names)
    lines = ["expert norms: " + ", ".join(f"{name} {norm:.3g}" for name, norm in zip(found.names, found.whole.norms, strict=True))]
    if n < 2:
        return [*lines, "one expert: nothing can interfere"]
    wide = max(len(f"{a} and {b}") for a, b in found.cosines)
    lines += [f"{f'{a} and {b}':{wide}}  cosine {_told(c)}  signs differ {_told(found.conflicts[a, b])}" for (a, b), c in found.cosines.items()]
    chance = f"by chance {1 - 2 ** (1 - n):.3g} and {1 - n**-0.5:.3g}"
    lines.append(f"all: signs not alike {_told(found.whole.conflict)}, cancelled in the sum {_told(found.whole.cancelled)} ({chance})")
    if rows := found.worst(worst):
        wide = max(len(row.where) for row in rows)
        lines.append(f"where most is cancelled ({len(rows)} of {len(found.modules)} modules):")
        for row in rows:
            told = f"cancelled {_told(row.cancelled)}  signs not alike {_told(row.conflict)}  cosine {_told(row.cosine)}"
            lines.append(f"  {row.where:{wide}}  {told}  norms {' '.join(f'{norm:.3g}' for norm in row.norms)}")
    return lines


def _told(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
