"""Few-step samplers of the flow dz/dt = v(z, t) from noise (t = 0) to images (t = 1): functions of one signature.

z_t = t x + (1 - t) e. `predict(z, t)` returns the expected clean image x; the velocity is then (x - z) / (1 - t). All of them are
deterministic: noise enters once, at t = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, float], Tensor]


def times(steps: int, shift: float) -> list[float]:
    """`steps` + 1 times from 0 to 1; `shift` above 1 takes shorter steps at the noisy end (Esser et al. 2024, eq. 23)."""
    even = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return [float(t) for t in even / (shift + (1 - shift) * even)]


def euler(predict: Predict, z: Tensor, grid: list[float]) -> Tensor:
    """One evaluation a step, first order. Exact in the last step, where it returns the prediction itself."""
    for t, s in zip(grid, grid[1:], strict=False):
        z = _towards(z, predict(z, t), t, s)
    return z


def heun(predict: Predict, z: Tensor, grid: list[float]) -> Tensor:
    """Two evaluations a step but the last, second order (Karras et al. 2022, algorithm 1)."""
    for t, s in zip(grid, grid[1:], strict=False):
        first = predict(z, t)
        ahead = _towards(z, first, t, s)
        if s < 1:
            slope = 0.5 * ((first - z) / (1 - t) + (predict(ahead, s) - ahead) / (1 - s))
            z = z + (s - t) * slope
        else:
            z = ahead
    return z


def multistep(predict: Predict, z: Tensor, grid: list[float]) -> Tensor:
    """One evaluation a step, second order from the second on: DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) for this flow.

    With alpha = t and sigma = 1 - t, half the log signal-to-noise ratio is lambda = log(t / (1 - t)).
    """
    grid_ = torch.tensor(grid, dtype=torch.float64)
    lambdas = (grid_ / (1 - grid_)).log().tolist()
    before: Tensor | None = None
    for i, (t, s) in enumerate(zip(grid, grid[1:], strict=False)):
        x = predict(z, t)
        ahead = x
        if before is not None and s < 1 and grid[i - 1] > 0:
            r = (lambdas[i] - lambdas[i - 1]) / (lambdas[i + 1] - lambdas[i])
            ahead = x + (x - before) / (2 * r)
        z = _towards(z, ahead, t, s)
        before = x
    return z


def _towards(z: Tensor, x: Tensor, t: float, s: float) -> Tensor:
    """From time t to s if the clean image were `x`: the straight line (1 - s) / (1 - t) of the way is left."""
    left = (1 - s) / (1 - t)
    return x + (z - x) * left
