"""Attacks: how far a classifier's accuracy falls when each image may be changed by at most eps, in the way that is worst for it.

    fgsm     one step along the gradient's sign                                Goodfellow et al. 2015
    pgd      many steps, brought back into the ball after each                 Madry et al. 2018
    apgd     steps that halve themselves, on two losses and towards each       Croce and Hein 2020
             other class: what a claim should rest on
    square   no gradients at all, random squares: finds what hidden gradients  Andriushchenko et al. 2020
             hide

A model is any torch module from images in 0 to 1 to logits [n, classes]; it is put into evaluation mode and back. x: floating
[n, c, h, w] in 0 to 1, y: int64 [n]; eps and step are in the same unit, so what a model does to scale its input is its own part. Noise
of an image comes from the seed and its row, never from how many others there are. An attack can only show that an image is not
robust: every accuracy here is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mitate.metrics.ascent import Norm, ascend, ball_of, climb, cross_entropy, dlr_to, evaluating, like, logits_of, margin_of, margin_to
from mitate.metrics.intervals import Interval, share_of
from mitate.runtime import seed_of
from mitate.score import Metric

LEAST = 10  # images
CHUNK = 128  # images at a time; memory only
PGD_STEPS = 10
APGD_STEPS = 20  # a claim that a model resists should rest on 100
TARGETS = 9  # other classes that are aimed at, likeliest first; all of them up to ten classes
QUERIES = 200
SQUARE_SHARE = 0.8  # of the image's area that the first squares take
SQUARE_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the area halves

BY_IMAGE = "Wilson 1927, over images, for this model; with groups Student's t over groups"
FGSM_ACCURACY = Metric("fgsm_accuracy", "robustness", "higher", LEAST, BY_IMAGE, "Goodfellow et al. 2015, section 4")
PGD_ACCURACY = Metric("pgd_accuracy", "robustness", "higher", LEAST, BY_IMAGE, "Madry et al. 2018, section 2.1")
ROBUST_ACCURACY = Metric("robust_accuracy", "robustness", "higher", LEAST, BY_IMAGE, "Croce and Hein 2020, algorithm 1 and equation 7")


@dataclass(frozen=True)
class UnderAttack:
    """Accuracy of the same images with and without an attack. Only images that are right when clean are attacked, so the drop is a share."""

    clean: Interval
    robust: Interval  # right when clean and under attack
    drop: Interval  # clean - robust: right when clean, wrong under attack
    right: np.ndarray  # bool [n], when clean
    kept: np.ndarray  # bool [n], right under attack too


def robust_accuracy(
    model: nn.Module, x: Tensor, y: Tensor, attack: Callable[..., Tensor], *, groups: np.ndarray | None = None, confidence: float = 0.95
) -> UnderAttack:
    """Accuracy under `attack`, beside clean accuracy. attack(model, x, y, rows=...): one of this file with its settings bound by `partial`.

    groups: int [n], as in `under_attack`. Raises ValueError below 10 images. A model that is worse when clean can look as if it lost less: read
    the two together.
    """
    if len(x) < LEAST:
        raise ValueError(f"needs {LEAST} images, has {len(x)}; fix: give more")
    right = correct(model, x, y)
    kept, rows = right.copy(), np.flatnonzero(right)
    if len(rows):
        chosen = torch.from_numpy(rows).to(x.device)
        kept[rows] = correct(model, attack(model, x[chosen], y[chosen], rows=rows), y[chosen])
    return under_attack(right, kept, groups=groups, confidence=confidence)


def under_attack(right: np.ndarray, kept: np.ndarray, *, groups: np.ndarray | None = None, confidence: float = 0.95) -> UnderAttack:
    """The record of `right` when clean and `kept` under attack, bool [n]; what is wrong when clean cannot be kept.

    groups: int [n], images of one patient or plant, which a model gets right or wrong together: intervals then count groups.
    Raises ValueError with a single group.
    """
    kept = right & kept
    clean, robust, drop = (share_of(hits, groups=groups, confidence=confidence) for hits in (right, kept, right & ~kept))
    return UnderAttack(clean, robust, drop, right, kept)


def correct(model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """Whether the likeliest class is the right one, bool [n]."""
    with evaluating(model), torch.no_grad():
        return torch.cat([model(x[i : i + CHUNK]).argmax(1) == y[i : i + CHUNK] for i in range(0, len(x), CHUNK)]).cpu().numpy()


# the attacks ----------------------------------------------------------------------------------------------------------


def fgsm(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: Norm = "linf", rows: Sequence[int] | None = None) -> Tensor:
    """x after one step of length eps that raises the cross-entropy: along the gradient's sign (linf) or the gradient (l2). As x."""
    ball = ball_of(norm, eps)

    def attack(x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        _, slope, _ = climb(model, x, partial(cross_entropy, y=y))
        return (x + eps * ball.direction(slope)).clamp(0, 1)

    return _in_chunks(model, x, y, rows, attack)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = PGD_STEPS,
    step: float | None = None,
    restarts: int = 1,
    seed: int = 0,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """x moved `steps` times by `step` up the cross-entropy, within eps. As x: of each image the last point of the start that fools, else of largest loss.

    step: 2.5 eps / steps where not given. restarts: starts from a random point of the ball; with 0 one start from the image itself.
    rows: the images' numbers, which their noise depends on; 0 to n - 1 where not given. A single start and ten steps flatter a model.
    """
    ball, length = ball_of(norm, eps), 2.5 * eps / max(steps, 1) if step is None else step

    def attack(x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        best, most = x.clone(), torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
        todo = torch.arange(len(x), device=x.device)
        for start in range(max(1, restarts)):
            clean, labels = x[todo], y[todo]
            point = ball.start(clean, [seed_of("pgd", seed, start, int(rows[i])) for i in todo.tolist()]) if restarts else clean
            for _ in range(steps):
                _, slope, _ = climb(model, point, partial(cross_entropy, y=labels))
                point = ball.into(clean, point + length * ball.direction(slope))
            logits = logits_of(model, point)
            fooled, loss = logits.argmax(1) != labels, cross_entropy(logits, labels)
            better = fooled | (loss > most[todo])
            best[todo[better]], most[todo[better]] = point[better], loss[better]
            todo = todo[~fooled]
            if not len(todo):
                break
        return best

    return _in_chunks(model, x, y, rows, attack)


def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = APGD_STEPS,
    restarts: int = 1,
    targets: int = TARGETS,
    seed: int = 0,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """x after APGD on the cross-entropy, then towards each other class, likeliest first. As x: the first point that fools, else of least margin.

    Towards a class the loss is the targeted DLR (equation 7 of the paper), which needs four classes; with two or three it is the plain
    difference of the two logits: APGD sees signs or directions of gradients and orders of losses, so scale does not matter to it. At most
    `targets` classes, never more than there are. An image leaves as soon as it is fooled, so the time goes to images that resist.
    """
    ball = ball_of(norm, eps)

    def attack(x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        logits = logits_of(model, x)
        best, least = x.clone(), margin_of(logits, y)
        others = logits.scatter(1, y[:, None], -math.inf).argsort(dim=1, descending=True)[:, : min(targets, logits.shape[1] - 1)]
        towards = margin_to if logits.shape[1] < 4 else dlr_to
        aims: list[tuple[str, Callable[..., Tensor], Tensor | None]] = [("ce", cross_entropy, None)]
        aims += [(f"class {j}", towards, others[:, j]) for j in range(others.shape[1])]
        todo = torch.nonzero(least > 0)[:, 0]
        for name, height, target in aims:
            for start in range(restarts):
                if not len(todo):
                    return best
                seeds = [seed_of("apgd", name, seed, start, int(rows[i])) for i in todo.tolist()]
                point = ascend(model, x[todo], y[todo], ball.start(x[todo], seeds), height, None if target is None else target[todo], ball=ball, steps=steps)
                margin = margin_of(logits_of(model, point), y[todo])
                better = margin < least[todo]
                best[todo[better]], least[todo[better]] = point[better], margin[better]
                todo = todo[margin > 0]
        return best

    return _in_chunks(model, x, y, rows, attack)


def square(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: Norm = "linf", queries: int = QUERIES, seed: int = 0, rows: Sequence[int] | None = None
) -> Tensor:
    """x after a random search that sees logits only: squares of random place and colour, kept where the margin falls. As x.

    linf: algorithms 1 and 2 of the paper, with its schedule of sizes over `queries`. l2: the same squares, added and scaled back to length
    eps (ours; simpler and weaker than the paper's). With its few queries it is weak: a sign of hidden gradients where it fools what PGD
    does not, never evidence of robustness.
    """
    ball = ball_of(norm, eps)

    def attack(x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        n, c, h, w = x.shape
        chances = [np.random.default_rng(seed_of("square", seed, int(row))) for row in rows]
        stripes = like(x, np.stack([rng.choice((-1.0, 1.0), (c, 1, w)) for rng in chances])).expand(n, c, h, w)
        places = like(x, np.stack([rng.random((queries, 2)) for rng in chances]))
        colours = like(x, np.stack([rng.choice((-1.0, 1.0), (queries, c)) for rng in chances]))
        best = ball.into(x, x + eps * ball.direction(stripes))
        least = margin_of(logits_of(model, best), y)
        across, down = torch.arange(w, device=x.device), torch.arange(h, device=x.device)
        for query in range(queries):
            todo = torch.nonzero(least > 0)[:, 0]
            if not len(todo):
                break
            side = max(1, min(h, w, round(math.sqrt(_share(query, queries) * h * w))))
            top, left = ((places[todo, query, axis] * (size - side + 1)).long()[:, None] for axis, size in ((0, h), (1, w)))
            inside = ((down >= top) & (down < top + side))[:, None, :, None] & ((across >= left) & (across < left + side))[:, None, None, :]
            colour = colours[todo, query][:, :, None, None]
            candidate = ball.mark(x[todo], best[todo], inside, colour)
            margin = margin_of(logits_of(model, candidate), y[todo])
            better = margin < least[todo]
            best[todo[better]], least[todo[better]] = candidate[better], margin[better]
        return best

    return _in_chunks(model, x, y, rows, attack)


def _share(query: int, queries: int) -> float:
    """Share of the area that a square takes: halved along the paper's schedule, stretched to `queries`."""
    return SQUARE_SHARE / 2 ** sum(query * 10_000 > at * queries for at in SQUARE_HALVED)


def _in_chunks(model: nn.Module, x: Tensor, y: Tensor, rows: Sequence[int] | None, attack: Callable[[Tensor, Tensor, np.ndarray], Tensor]) -> Tensor:
    numbers = np.arange(len(x)) if rows is None else np.asarray(rows)
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"images have shape {tuple(x.shape)} and type {x.dtype}; fix: give floating [n, c, h, w] in 0 to 1")
    if len(y) != len(x) or len(numbers) != len(x):
        raise ValueError(f"there are {len(x)} images, {len(y)} labels and {len(numbers)} rows; fix: give one of each an image")
    if len(x) and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise ValueError(f"images run from {float(x.min()):.3g} to {float(x.max()):.3g}; fix: scale them to 0 to 1")
    with evaluating(model):
        parts = [attack(x[i : i + CHUNK], y[i : i + CHUNK], numbers[i : i + CHUNK]) for i in range(0, len(x), CHUNK)]
    return torch.cat([part.detach() for part in parts]) if parts else x.clone()
