"""Weights of a merge, searched on prompts held out: shares of the experts that sum to one, tried one after the other under a budget.

found = search(score, 3, budget=20)               score(weights) -> a number, higher is better; found.weights, found.tried

Coordinate search on a lattice of the simplex, without chance:
1. the mean; each expert alone; half way between the mean and each expert;
2. from the best so far, move a share of 1/4 from one expert to another, each pair in turn; the best of these moves is the next place if it is better, and
   else the share is halved, down to 1/64.
Nothing is tried twice, and of equal scores the earlier is kept, so that the mean wins where weights do not matter. The best score of many is too high by
chance (it was chosen for it): what the merge is worth must be measured on other prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mitate.errors import SettingError

FINEST = 64  # the smallest move is a share of one in so many
LEAST = 2  # merges that are tried: fewer are no search


@dataclass(frozen=True)
class Trial:
    """weights: of the experts in their order, from 0, summing to one; score: what the judge made of the merge."""

    weights: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Found:
    """best: the trial that is kept; tried: all of them, in order; whole: whether the search came to its end before the budget did."""

    best: Trial
    tried: tuple[Trial, ...]
    whole: bool

    @property
    def weights(self) -> tuple[float, ...]:
        return self.best.weights

    @property
    def gain(self) -> float:
        """What the best scores more than the mean: too high by chance, and never below 0."""
        return self.best.score - self.tried[0].score


def search(score: Callable[[tuple[float, ...]], float], n: int, *, budget: int) -> Found:
    """The best weights for n experts, n from 2, after at most `budget` calls of `score`. SettingError for a budget below LEAST or fewer experts than two."""
    if n < 2:
        raise SettingError(f"{n} expert has no weights to search.", fix="name two experts or more")
    if budget < LEAST:
        raise SettingError(f"A budget of {budget} merges is no search.", fix=f"give {2 * n + 1} or more: the mean, each expert, and half way to it")
    walk = _Walk(score, n, budget)
    whole = walk.to_the_end()
    trials = tuple(Trial(walk.shares(place), value) for place, value in walk.scores.items())
    return Found(Trial(walk.shares(walk.best), walk.scores[walk.best]), trials, whole)


class _Walk:
    """Places of the lattice are counts of experts that sum to n * FINEST, so that the mean is one of them and equal places are equal exactly."""

    def __init__(self, score: Callable[[tuple[float, ...]], float], n: int, budget: int) -> None:
        self.score, self.n, self.budget, self.total = score, n, budget, n * FINEST
        self.scores: dict[tuple[int, ...], float] = {}
        self.best = (FINEST,) * n

    def shares(self, place: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(count / self.total for count in place)

    def to_the_end(self) -> bool:
        """Walk; False where the budget ended it."""
        if not self.look(list(self.begun())):
            return False
        step = self.total // 4
        while step >= self.total // FINEST:
            before = self.best
            if not self.look(list(self.moves(before, step))):
                return False
            if self.best == before:
                step //= 2
        return True

    def begun(self) -> Iterator[tuple[int, ...]]:
        yield self.best
        for share in (self.total, self.total // 2):  # an expert alone; and the mean and it, half of each
            for i in range(self.n):
                rest = (self.total - share) // self.n
                yield tuple(rest + share * (k == i) for k in range(self.n))

    def moves(self, place: tuple[int, ...], step: int) -> Iterator[tuple[int, ...]]:
        for giver in range(self.n):
            for taker in range(self.n):
                if giver != taker and (given := min(step, place[giver])):
                    yield tuple(count + given * ((k == taker) - (k == giver)) for k, count in enumerate(place))

    def look(self, places: list[tuple[int, ...]]) -> bool:
        """Score the places that have none, and know the best of all. False where the budget does not suffice for every one."""
        for place in places:
            if place not in self.scores:
                if len(self.scores) == self.budget:
                    return False
                self.scores[place] = float(self.score(self.shares(place)))
                if self.scores[place] > self.scores[self.best]:
                    self.best = place
        return True
