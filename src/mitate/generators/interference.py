"""How experts of one model stand in each other's way: norms, cosines and conflicts of sign, module by module, before they are merged.

found = interference({"counting": one, "spatial": other})
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mitate.generators.merging import check, inner, modules_of
from mitate.generators.updates import Update, Updates
from mitate.progress import Progress, Silent


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
