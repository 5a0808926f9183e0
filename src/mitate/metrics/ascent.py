"""How an attack climbs: the ball it stays in, the losses it raises, the gradient, and one run of APGD (Croce and Hein 2020).

x and point: floating [n, c, h, w] in 0 to 1; y, target: int64 [n]. Everything is per image: no image's path depends on its neighbours'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["linf", "l2"]
Height = Callable[[Tensor], Tensor]  # logits [n, k] to what the attack raises, [n]

RHO = 0.75  # of the steps between two checks must raise the loss, or the step is halved
MOMENTUM = 0.75
FIRST_CHECK, SHORTER, SHORTEST = 0.22, 0.03, 0.06  # of the steps: where the first check is, how much sooner each next one, at least how soon


# one run of APGD ------------------------------------------------------------------------------------------------------


@dataclass
class _Climbers:
    """Images still climbing; every field has a row for each. `places`: their rows in the answer."""

    places: Tensor
    x: Tensor
    y: Tensor
    target: Tensor
    point: Tensor
    before: Tensor
    slope: Tensor
    loss: Tensor
    best: Tensor
    best_slope: Tensor
    best_loss: Tensor
    length: Tensor
    rises: Tensor  # steps since the last check that raised the loss
    loss_checked: Tensor  # best loss at the last check
    halved: Tensor  # whether the last check halved the step

    def only(self, rows: Tensor) -> _Climbers:
        return _Climbers(**{name: value[rows] for name, value in vars(self).items()})


def ascend(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, height: Callable[..., Tensor], target: Tensor | None, *, ball: Ball, steps: int) -> Tensor:
    """Algorithm 1 of Croce and Hein 2020 from `start`: of each image the first point that fools, else that of largest loss.

    Two things are as in the authors' program rather than in the text: the first condition is met at exactly rho too, and the loss that a
    step must raise is that of the last point, also where a check has just gone back to the best one.
    """
    answer, aim = start.clone(), y if target is None else target
    loss, slope, fooled = _height(model, start, height, y, target)
    whole = torch.full_like(loss, 2 * ball.eps)
    none, never = torch.zeros(len(x), dtype=torch.long, device=x.device), torch.ones(len(x), dtype=torch.bool, device=x.device)
    go = _Climbers(torch.arange(len(x), device=x.device), x, y, aim, start, start, slope, loss, start, slope, loss, whole, none, loss, never).only(~fooled)
    checks, checked = _checks(steps), 0
    for k in range(steps):
        if not len(go.places):
            break
        weight = MOMENTUM if k else 1.0
        ahead = ball.into(go.x, go.point + _wide(go.length) * ball.direction(go.slope))
        go.before, go.point = go.point, ball.into(go.x, go.point + weight * (ahead - go.point) + (1 - weight) * (go.point - go.before))
        loss, go.slope, fooled = _height(model, go.point, height, go.y, None if target is None else go.target)
        go.rises, go.loss = go.rises + (loss > go.loss), loss
        better = loss > go.best_loss
        go.best, go.best_slope = torch.where(_wide(better), go.point, go.best), torch.where(_wide(better), go.slope, go.best_slope)
        go.best_loss = torch.where(better, loss, go.best_loss)
        answer[go.places[fooled]] = go.point[fooled]
        if k + 1 in checks:
            halve = (go.rises <= RHO * (k + 1 - checked)) | (~go.halved & (go.best_loss <= go.loss_checked))  # conditions 1 and 2
            go.length = torch.where(halve, go.length / 2, go.length)
            go.point, go.slope = torch.where(_wide(halve), go.best, go.point), torch.where(_wide(halve), go.best_slope, go.slope)
            go.rises, go.loss_checked, go.halved, checked = torch.zeros_like(go.rises), go.best_loss, halve, k + 1
        if fooled.any():
            go = go.only(~fooled)
    answer[go.places] = go.best
    return answer


def _checks(steps: int) -> set[int]:
    """Steps after which the step's length is looked at: 22, 41, 57, 70, 80, 87, 93 and 99 of 100."""
    at, gap, found = 0, max(int(FIRST_CHECK * steps), 1), set()
    while (at := at + gap) <= steps:
        found.add(at)
        gap = max(gap - max(int(SHORTER * steps), 1), max(int(SHORTEST * steps), 1))
    return found


def _height(model: nn.Module, point: Tensor, height: Callable[..., Tensor], y: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, its gradient, and who is fooled."""
    loss, slope, logits = climb(model, point, partial(height, y=y) if target is None else partial(height, y=y, target=target))
    return loss, slope, logits.argmax(1) != y


# the ball -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ball:
    """Points at most eps from an image, in 0 to 1."""

    norm: Norm
    eps: float

    def into(self, x: Tensor, point: Tensor) -> Tensor:
        """`point` brought into the ball around x, then into 0 to 1. In l2 the second step leaves a point that is inside, not the nearest one."""
        apart = point - x
        if self.norm == "linf":
            return (x + apart.clamp(-self.eps, self.eps)).clamp(0, 1)
        return (x + apart * (self.eps / _length(apart)).clamp(max=1.0)).clamp(0, 1)

    def direction(self, slope: Tensor) -> Tensor:
        """The step of length 1 that climbs most; none where there is no slope."""
        return slope.sign() if self.norm == "linf" else slope / _length(slope)

    def start(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """A point drawn evenly from the ball around each image, image i by seed i, cut to 0 to 1."""
        chances, shape = [np.random.default_rng(seed) for seed in seeds], tuple(x.shape[1:])
        if self.norm == "linf":
            return (x + self.eps * like(x, np.stack([rng.uniform(-1, 1, shape) for rng in chances]))).clamp(0, 1)
        ways = like(x, np.stack([rng.normal(size=shape) for rng in chances]))
        radii = like(x, np.array([rng.random() ** (1 / math.prod(shape)) for rng in chances]))
        return (x + self.eps * _wide(radii) * ways / _length(ways)).clamp(0, 1)

    def mark(self, x: Tensor, point: Tensor, inside: Tensor, colour: Tensor) -> Tensor:
        """`point` with a square of one colour an image: set to eps (linf), or added and the whole scaled to length eps (l2)."""
        if self.norm == "linf":
            return torch.where(inside, x + self.eps * colour, point).clamp(0, 1)
        patch = inside * colour
        return self.into(x, x + self.eps * _unit(point - x + self.eps * patch / _length(patch)))


def ball_of(norm: Norm, eps: float) -> Ball:
    if norm not in ("linf", "l2"):
        raise ValueError(f"there is no norm {norm!r}; fix: give linf or l2")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps is {eps}; fix: give 0 or more, in the unit of images in 0 to 1")
    return Ball(norm, eps)


def _unit(ways: Tensor) -> Tensor:
    return ways / _length(ways)


def _length(ways: Tensor) -> Tensor:
    """Euclidean length of each, [n, 1, 1, 1], never 0."""
    return _wide(torch.linalg.vector_norm(ways.flatten(1), dim=1).clamp(min=1e-12))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def like(x: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(x)


# heights --------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def dlr_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Equation 7 of Croce and Hein 2020: -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), z_i the i-th largest."""
    top = logits.topk(4, dim=1).values
    return margin_to(logits, y, target) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def margin_to(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]


def margin_of(logits: Tensor, y: Tensor) -> Tensor:
    """How far the right class is ahead of the next, [n]; never above 0 where another class is the answer."""
    ahead = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -math.inf).amax(1)
    return torch.where(logits.argmax(1) == y, ahead.clamp(min=torch.finfo(logits.dtype).tiny), ahead.clamp(max=0))


# the model ------------------------------------------------------------------------------------------------------------


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode inside; every module in the mode it had outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def climb(model: nn.Module, point: Tensor, height: Height) -> tuple[Tensor, Tensor, Tensor]:
    """What is raised, [n], its gradient, as point, and the logits. No gradient of the model's own parameters is touched."""
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(point)
        value = height(logits)
        if not value.requires_grad:
            raise ValueError("the model's answers have no gradient in its images; fix: give one that torch can differentiate, or use square")
        (slope,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), slope, logits.detach()


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)
