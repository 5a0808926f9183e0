"""The closed form of CRDI's guidance against the published loop and against Adam on a frozen network: loss on fresh noise, and time.

    MITATE_DATA=folder python benchmarks/few_shot_solver.py [--shots 10] [--rounds 3]
    python benchmarks/few_shot_solver.py --summary

Base and shots as `greek` of few_shot.py: letters of 28 px, ten drawings of two that the base has not seen, a map for each guided step, of which there are as
many as have the published share of the image. `published`: 120 passes of Adam a segment, one state for all segments, the network's weights asking for
gradients and each pass going back through it, as the released code does; `adam shared`: the same maps without the way back; `adam`: one state a segment;
`closed form` with K noises a level and shot. Loss: the published one without its penalty, mean over 500 noises a shot and level, and their opposites,
that nothing was fitted on, less the least there is (the closed form of those very noises). Core seconds, on one thread. One JSON line a way and round
in results/few_shot_solver.jsonl.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cells
from few_shot import base_of, task
from mitate.generators import crdi
from mitate.generators.denoisers import OfFlow
from mitate.runtime import torch_threads
from mitate.stored import load_fitted

OUT = Path(__file__).parent / "results" / "few_shot_solver.jsonl"
FRESH, AIM = 1000, crdi.Aim()
DRAWS, PASSES = (1, 2, 4, 8, 16, 32), (120, 480)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shots", type=int, default=10)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        world = World(given.shots)
        ways = ["published", "adam shared", *(f"adam {p}" for p in PASSES), *(f"closed form {k}" for k in DRAWS)]
        names = [{"way": way, "round": r, "shots": given.shots} for r in range(given.rounds) for way in ways]
        cells.fill(given.out, [(n, partial(world.measure, n)) for n in names], tell=lambda n, r: f"{n['way']}: {r['seconds']} s, {r['excess']}")
    print(summary(cells.read(given.out)))


class World:
    """Base, shots, and what maps are judged by."""

    def __init__(self, shots: int) -> None:
        base = load_fitted(base_of("greek").entry)
        self.base = OfFlow(base)  # type: ignore[arg-type]
        t = task("greek")
        rows = np.flatnonzero(np.isin(t.y, (0, 8)))[:: max(1, 20 // shots)][:shots]
        self.x, self.told = self.base.encode(t.shots[rows]).contiguous(), torch.full((len(rows),), 1)
        self.levels = self.base.levels(25)
        self.window = crdi.Window.of(self.levels)
        self._moments: dict[int, tuple[Tensor, Tensor]] | None = None

    @property
    def moments(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Means of x - x0 and y - z' over FRESH noises, for each guided level."""
        if self._moments is None:
            found = {}
            with torch_threads(), torch.inference_mode():
                for k in range(self.levels.n):
                    if self.window.segment(k) is not None:
                        found[k] = self._fresh(k)
            self._moments = found
        return self._moments

    def _fresh(self, k: int) -> tuple[Tensor, Tensor]:
        one, two = torch.zeros_like(self.x), torch.zeros_like(self.x)
        noises = crdi.fixed_noise(self.x.shape[1:], k, FRESH, seed=12345)
        for i, (shot, told) in enumerate(zip(self.x, self.told, strict=True)):
            for e in noises.split(50):
                x = shot.expand(len(e), -1, -1, -1)
                x0, left = crdi.seen(self.base, self.levels, k, self.levels.noised(x, e, k), told.expand(len(e)), clamp=True)
                plain = self.levels.alpha[k + 1] * x0 + self.levels.sigma[k + 1] * left
                one[i] += (x - x0).sum(0) / FRESH
                two[i] += (self.levels.alpha[k + 1] * x - plain).sum(0) / FRESH
        return one, two

    def excess(self, g: Tensor) -> float:
        """The loss of maps [n, segments, c, h, w] less the least: in g the loss is (A^2 + B^2) |g - best|^2 and a constant."""
        total = []
        for k, (one, two) in self.moments.items():
            a, b = AIM.factors(self.levels, k)
            best = (a * one + b * two) / (a * a + b * b)
            segment = self.window.segment(k)
            total.append((a * a + b * b) * float((g[:, segment] - best).square().mean()))
        return statistics.mean(total)

    def measure(self, name: Mapping[str, Any]) -> cells.Row:
        way, seed = name["way"], name["round"]
        told = {"window": self.window, "x": self.x, "classes": self.told}
        kind, _, number = way.rpartition(" ")
        run: Callable[[], Tensor]
        no_penalty = crdi.Aim(penalty=0.0)
        if kind == "closed form":
            run = partial(crdi.fit, self.base, self.levels, **told, aim=no_penalty, draws=int(number), seed=seed)
        elif way == "published":
            run = partial(published, self.base, self.levels, **told, seed=seed)
        else:
            passes, shared = (PASSES[0], True) if way == "adam shared" else (int(number), False)
            run = partial(crdi.adam, self.base, self.levels, **told, aim=no_penalty, passes=passes, seed=seed, shared=shared)
        with torch_threads():
            started = time.process_time()
            g = run()
            seconds = time.process_time() - started
        return {**name, "seconds": round(seconds, 3), "excess": round(self.excess(g), 6)}


def published(base: OfFlow, levels: Any, window: crdi.Window, x: Tensor, classes: Tensor, *, seed: int) -> Tensor:
    """The released loop: one Adam for all maps, the loss differentiated through the network, whose weights ask for gradients, too."""
    chance = torch.Generator().manual_seed(seed)
    g = torch.randn(len(x), window.segments, *x.shape[1:], generator=chance).requires_grad_(True)
    optimiser, net = torch.optim.Adam([g], lr=0.05), base.net.requires_grad_(True)
    try:
        for segment in reversed(range(window.segments)):
            (k,) = window.members(segment)
            a, b = AIM.factors(levels, k)
            for _ in range(PASSES[0]):
                optimiser.zero_grad()
                e, other = (torch.randn(x.shape, generator=chance) for _ in range(2))
                x0, left = crdi.seen(base, levels, k, levels.noised(x, e, k), classes, clamp=True)
                plain = levels.alpha[k + 1] * x0 + levels.sigma[k + 1] * left
                y = levels.noised(x, other, k + 1)
                loss = (x - x0 - a * g[:, segment]).square().mean() + (y - plain - b * g[:, segment]).square().mean()
                loss.backward()
                optimiser.step()
    finally:
        net.requires_grad_(False)
        net.zero_grad(set_to_none=True)
    return g.detach()


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Way | Core seconds, median (range) | Times as fast as published | Loss above the least, median (range) | Rounds |", "|" + "---|" * 5]
    slow = [r["seconds"] for r in rows if r["way"] == "published"]
    for way in dict.fromkeys(r["way"] for r in rows):
        some = [r for r in rows if r["way"] == way]
        seconds, excess = ([r[key] for r in some] for key in ("seconds", "excess"))
        ratio = f"{statistics.median(slow) / statistics.median(seconds):.1f}" if slow else ""
        lines.append(f"| {way} | {spread(seconds, 3)} | {ratio} | {spread(excess, 3)} | {len(some)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}g} ({min(values):.{digits}g} to {max(values):.{digits}g})"


if __name__ == "__main__":
    main()
