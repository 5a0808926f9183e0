"""Few-shot generation on a frozen denoiser: conditional relaxing diffusion inversion (Cao et al., ECCV 2024, arXiv 2407.07249), with a closed form for its fit.

For every shot (a target image) and every segment of the noise levels a map g is fitted that moves what the denoiser sees towards the shot. One guided step
from level k to the next, with s the scale of g:

    x0' = x0 + A g        A = s sigma_k^2 / alpha_k
    z'  = alpha' x0' + sigma' e'  =  (plain DDIM) + B g        B = alpha' A - s sigma' sigma_k

and g minimises E |x - x0'|^2 + E |y - z'|^2 + penalty |g - mean over shots of g|^2, where y is the shot noised to the next level. The network never sees g,
so this is quadratic in g and its minimum is known once E[x0] and E[z'] are: K network evaluations a level and shot, no gradient. `adam` fits the same loss as
published, for comparison.

Steps are counted as in the paper, from the clean end: window (5, 20) guides steps 5 to 19 of 25, and images start at step 19.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mitate.errors import SettingError
from mitate.generators.denoisers import Denoiser, Levels
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of

AT_ONCE = 32  # maps that a network sees at once while fitting
STARTS = ("shot", "other", "noise", "inverted")
CHOICES = ("fixed", "path", "step", "mixture", "mean")
NOISES = ("fresh", "same")
SHARES = (0.04, 0.81)  # of the image in a guided level: steps 5 to 19 of 25 over the linear schedule of 1,000 times have 0.81 to 0.042


@dataclass(frozen=True)
class Window:
    """Which steps are guided, and how they share maps. steps: of the whole walk; guided are first <= i < last, counted from the clean end."""

    steps: int
    first: int
    last: int
    segments: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last <= self.steps or not 1 <= self.segments <= self.last - self.first:
            told = f"steps={self.steps}, window={self.first},{self.last}, segments={self.segments}"
            raise SettingError(f"{told} cannot be.", fix="give 0 <= first < last <= steps, and 1 to last - first segments")

    def start(self, begin: int) -> int:
        """The level where images start that begin at a guided step; -1 for the noisiest. SettingError for a step outside the window."""
        if begin != -1 and not self.first <= begin < self.last:
            raise SettingError(f"begin={begin} lies outside the window {self.first},{self.last}.", fix="give a guided step, or -1")
        return self.steps - 1 - (begin if begin != -1 else self.last - 1)

    def segment(self, level: int) -> int | None:
        """Of a level, 0 the cleanest; None outside the window."""
        step = self.steps - 1 - level
        if not self.first <= step < self.last:
            return None
        return (step - self.first) * self.segments // (self.last - self.first)

    @classmethod
    def of(cls, levels: Levels, segments: int = 0) -> Window:
        """The steps whose share of the image, alpha / sqrt(alpha^2 + sigma^2), lies in SHARES, as in the published configuration; segments 0: one a step."""
        shares = [a / (a * a + s * s) ** 0.5 for a, s in zip(levels.alpha, levels.sigma, strict=True)][: levels.n]
        inside = [levels.n - 1 - k for k, share in enumerate(shares) if SHARES[0] <= share <= SHARES[1]]
        if not inside:
            raise SettingError(f"{levels.n} steps are too few to guide one of them.", fix="give more")
        return cls(levels.n, min(inside), max(inside) + 1, segments or max(inside) + 1 - min(inside))

    def members(self, segment: int) -> list[int]:
        """Levels of a segment, noisiest first."""
        return [k for k in range(self.steps) if self.segment(k) == segment]


@dataclass(frozen=True)
class Aim:
    """What is fitted. noise: `fresh`, of a shot and of the same at the next level, or the `same` for both. clamp: what the model sees is cut off at [-1, 1]."""

    scale: float = 2.0
    penalty: float = 1.0
    noise: str = "fresh"
    clamp: bool = True

    def factors(self, levels: Levels, k: int) -> tuple[float, float]:
        """(A, B) of level k. SettingError where it is pure noise, which no map can guide."""
        alpha, sigma = levels.alpha[k], levels.sigma[k]
        if not alpha:
            raise SettingError("The window begins at pure noise.", fix="let it end one step earlier")
        a = self.scale * sigma**2 / alpha
        return a, levels.alpha[k + 1] * a - self.scale * levels.sigma[k + 1] * sigma


# one step, and a walk of them ------------------------------------------------------------------------------------------


def seen(denoiser: Denoiser, levels: Levels, k: int, z: Tensor, classes: Tensor, *, clamp: bool) -> tuple[Tensor, Tensor]:
    """The clean maps in z at level k, and the noise that is left: z = alpha x0 + sigma e."""
    x0 = denoiser.clean(z, levels.time[k], classes)
    x0 = x0.clamp(-1, 1) if clamp else x0
    return x0, (z - levels.alpha[k] * x0) / levels.sigma[k]


def guided_step(
    denoiser: Denoiser, levels: Levels, k: int, z: Tensor, classes: Tensor, pull: Tensor | None, *, clamp: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(z at level k + 1, the clean maps it heads for). pull: the scale times g, [n, c, h, w]; None or zeros is plain DDIM."""
    x0, e = seen(denoiser, levels, k, z, classes, clamp=clamp)
    if pull is not None:
        x0 = x0 + levels.sigma[k] ** 2 / levels.alpha[k] * pull  # not cut off again
        e = e - levels.sigma[k] * pull
    return levels.alpha[k + 1] * x0 + levels.sigma[k + 1] * e, x0


def walk(
    denoiser: Denoiser, levels: Levels, z: Tensor, classes: Tensor, *, start: int, clamp: bool, pull: Callable[[int], Tensor | None] | None = None
) -> Tensor:
    """Clean maps from z at level `start`. pull(k): the scale times g at level k."""
    for k in range(start, levels.n):
        z, _ = guided_step(denoiser, levels, k, z, classes, pull(k) if pull is not None else None, clamp=clamp)
    return z


def inverted(denoiser: Denoiser, levels: Levels, x: Tensor, classes: Tensor, *, level: int) -> Tensor:
    """DDIM run backwards: the noise e of maps x at `level`, by the denoiser's own account of them (Song et al. 2021, eq. 13)."""
    z = levels.alpha[-2] * x  # at the last level before clean
    for k in range(levels.n - 1, level, -1):
        x0, e = seen(denoiser, levels, k, z, classes, clamp=False)
        z = levels.alpha[k - 1] * x0 + levels.sigma[k - 1] * e
    return (z - levels.alpha[level] * x) / levels.sigma[level]


# fitting --------------------------------------------------------------------------------------------------------------


def fit(
    denoiser: Denoiser, levels: Levels, window: Window, x: Tensor, classes: Tensor, aim: Aim, *, draws: int, seed: int, progress: Progress | None = None
) -> Tensor:
    """The maps g of shots x [n, c, h, w], float32 [n, segments, c, h, w]: the minimum of the loss over `draws` noises a level and shot.

    Noises of a shot come from (seed, level, draw) alone, the same for every shot, so a shot's own part does not depend on the others; they come in opposite
    pairs, which estimate the mean as well as about three times as many independent ones.
    """
    told, done, total = progress or Silent(), 0, window.last - window.first
    tops, bottoms = torch.zeros(len(x), window.segments, *x.shape[1:]), torch.zeros(window.segments)
    counts = torch.zeros(window.segments)
    with torch.inference_mode():
        for k in range(levels.n):
            if (segment := window.segment(k)) is None:
                continue
            a, b = aim.factors(levels, k)
            tops[:, segment] += _pulled(denoiser, levels, k, x, classes, aim, draws=draws, seed=seed)
            bottoms[segment] += a * a + b * b
            counts[segment] += 1
            done += 1
            told.step(done, total, "levels")
    bottom, penalty = bottoms.view(1, -1, 1, 1, 1), aim.penalty * counts.view(1, -1, 1, 1, 1)
    mean = (tops / bottom).mean(0, keepdim=True)
    return (tops + penalty * mean) / (bottom + penalty)


def without_shot(g: Tensor, levels: Levels, window: Window, aim: Aim, row: int) -> Tensor:
    """What every other shot's maps would be moved by, had the shot `row` not been fitted with them: float32 [segments, c, h, w].

    Shots meet in the penalty alone, so with B the sum of A^2 + B^2 of a segment and P its penalty, g_i = (B u_i + P mean(u)) / (B + P), u_i the shot's own
    minimum and mean(u) = mean(g). Exact for maps of the closed form.
    """
    if len(g) < 2:
        return torch.zeros_like(g[0])
    bottom, penalty = torch.zeros(window.segments), torch.zeros(window.segments)
    for k in range(levels.n):
        if (segment := window.segment(k)) is not None:
            a, b = aim.factors(levels, k)
            bottom[segment] += a * a + b * b
            penalty[segment] += aim.penalty
    bottom, penalty = bottom.view(-1, 1, 1, 1), penalty.view(-1, 1, 1, 1)
    mean = g.mean(0)
    own = ((bottom + penalty) * g[row] - penalty * mean) / bottom
    return penalty / (bottom + penalty) * (mean - own) / (len(g) - 1)


def _pulled(denoiser: Denoiser, levels: Levels, k: int, x: Tensor, classes: Tensor, aim: Aim, *, draws: int, seed: int) -> Tensor:
    """A E[x - x0] + B E[y - z'] of every shot at level k, z' the plain step."""
    (a, b), after = aim.factors(levels, k), k + 1
    e = fixed_noise(x.shape[1:], k, draws, seed=seed)
    out = torch.empty_like(x)
    for i in range(len(x)):
        parts = []
        for some in e.split(AT_ONCE):
            shot = x[i : i + 1].expand(len(some), -1, -1, -1)
            z = levels.noised(shot, some, k)
            x0, left = seen(denoiser, levels, k, z, classes[i : i + 1].expand(len(some)), clamp=aim.clamp)
            plain = levels.alpha[after] * x0 + levels.sigma[after] * left
            y = levels.noised(shot, some, after) if aim.noise == "same" else levels.alpha[after] * shot  # whose mean over fresh noise that is
            parts.append((a * (shot - x0) + b * (y - plain)).double().sum(0))
        out[i] = (torch.stack(parts).sum(0) / draws).float()
    return out


def fixed_noise(shape: Sequence[int], level: int, draws: int, *, seed: int) -> Tensor:
    """[draws, *shape], by (seed, level): each noise followed by its opposite, so that what is odd in it cancels in a mean (antithetic variates)."""
    e = torch.randn((draws + 1) // 2, *shape, generator=torch.Generator().manual_seed(seed_of("shots", seed, level)))
    return torch.stack([e, -e], dim=1).flatten(0, 1)[:draws]


def loss(denoiser: Denoiser, levels: Levels, k: int, x: Tensor, classes: Tensor, g: Tensor, aim: Aim, chance: torch.Generator) -> Tensor:
    """The published loss of maps g [n, c, h, w] at level k under noise from `chance`: a mean over shots and values. Gradients reach g, and not the network."""
    e = torch.randn(x.shape, generator=chance)
    y = levels.noised(x, e if aim.noise == "same" else torch.randn(x.shape, generator=chance), k + 1)
    with torch.no_grad():
        x0, left = seen(denoiser, levels, k, levels.noised(x, e, k), classes, clamp=aim.clamp)
        plain = levels.alpha[k + 1] * x0 + levels.sigma[k + 1] * left
    a, b = aim.factors(levels, k)
    own = g - g.mean(0, keepdim=True)
    return (x - x0 - a * g).square().mean() + (y - plain - b * g).square().mean() + aim.penalty * own.square().mean()


def adam(
    denoiser: Denoiser, levels: Levels, window: Window, x: Tensor, classes: Tensor, aim: Aim, *, passes: int, seed: int, rate: float = 0.05,
    shared: bool = False, progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """The same maps by Adam from normal draws, segments from the noisiest to the cleanest, each pass over 80 % of a segment's levels (stratified).

    shared: one optimiser for all segments, as the released code has it: a segment that is done drifts on while others are fitted. The network is
    frozen and nothing flows back through it, which the released code pays for and does not need.
    """
    told, chance = progress or Silent(), torch.Generator().manual_seed(seed_of("adam", seed))
    g = torch.randn(len(x), window.segments, *x.shape[1:], generator=chance)
    maps = [g.requires_grad_(True)] if shared else [g[:, s].clone().requires_grad_(True) for s in range(window.segments)]
    one = torch.optim.Adam(maps, lr=rate) if shared else None
    for at, segment in enumerate(reversed(range(window.segments))):
        members = window.members(segment)
        optimiser = one or torch.optim.Adam([maps[segment]], lr=rate)
        for _ in range(passes):
            optimiser.zero_grad()
            for k in _stratified(members, chance):
                loss(denoiser, levels, k, x, classes, maps[0][:, segment] if shared else maps[segment], aim, chance).backward()
            optimiser.step()
        told.step(at + 1, window.segments, "segments")
    return g.detach() if shared else torch.stack([part.detach() for part in maps], dim=1)


def _stratified(members: Sequence[int], chance: torch.Generator) -> list[int]:
    """80 % of the levels (at least one), one from each of as many equal parts."""
    m = max(int(0.8 * len(members)), 1)
    edges = np.linspace(0, len(members), m + 1)
    draws = torch.rand(m, generator=chance).tolist()
    return [members[min(len(members) - 1, int(low + u * (high - low)))] for low, high, u in zip(edges[:-1], edges[1:], draws, strict=True)]


# drawing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How images are drawn from fitted shots.

    begin: the guided step where images start, counted from the clean end; -1 is the noisiest. start: the noised `shot` that the image is of, an`other`
    one of its class, pure `noise` (then the walk begins at the noisiest level), or the shot `inverted` by DDIM, a share `mix` of whose noise is fresh.
    choice: whose map guides: `fixed`, the shot's own; `path`, one drawn for the image; `step`, one drawn for each step; `mixture`, a convex mixture drawn
    for the image; `mean`, of all shots of the class. perturb: spread of noise on the pull at the noisy end of the window, falling to 0. strength: of the
    pull; 0 is none.
    """

    begin: int = -1
    start: str = "shot"
    choice: str = "step"
    perturb: float = 0.05
    strength: float = 1.0
    mix: float = 0.5

    def __post_init__(self) -> None:
        if self.start not in STARTS or self.choice not in CHOICES:
            raise SettingError(f"start={self.start}, choice={self.choice} cannot be.", fix=f"give a start of {STARTS} and a choice of {CHOICES}")
        if min(self.perturb, self.strength) < 0 or not 0 <= self.mix <= 1:
            raise SettingError("perturb and strength are below 0, or mix is no share.", fix="give 0 or more, and a mix from 0 to 1")


@dataclass(frozen=True)
class Shots:
    """What was fitted: shots as maps x [n, c, h, w] with their classes (of the target) and what the base is told of each, and g [n, segments, c, h, w].

    noise: of DDIM inversion at the start level, [n, c, h, w], where images may start there.
    """

    x: Tensor
    y: np.ndarray
    told: Tensor
    g: Tensor
    noise: Tensor | None = None

    def of(self, label: int) -> np.ndarray:
        """Rows of the shots of a class."""
        return np.flatnonzero(self.y == label)


def draw(
    denoiser: Denoiser, levels: Levels, window: Window, shots: Shots, way: Way, aim: Aim, seeds: np.ndarray, labels: np.ndarray,
    *, without: np.ndarray | None = None,
) -> Tensor:  # fmt: skip
    """Clean maps [n, c, h, w] of labels [n]. All chance of image i comes from seed i; the network's work for an image does not grow with the number of
    shots. without: the row of a shot that an image may not use, [n]."""
    chances = [torch.Generator().manual_seed(int(s)) for s in seeds]
    mine = [shots.of(int(label)) for label in labels]
    if without is not None:
        mine = [own[own != row] for own, row in zip(mine, without, strict=True)]
    shape = shots.x.shape[1:]
    e = torch.stack([torch.randn(shape, generator=c) for c in chances])
    rows = [_picked(own, c) for own, c in zip(mine, chances, strict=True)]  # the shot that an image is of
    others = [_picked(own[own != row], c) if len(own) > 1 else row for own, row, c in zip(mine, rows, chances, strict=True)]
    along = [_picked(own, c) for own, c in zip(mine, chances, strict=True)]
    start = 0 if way.start == "noise" else window.start(way.begin)
    if way.start == "noise":
        z = levels.noised(torch.zeros_like(e), e, 0)
    else:
        from_ = others if way.start == "other" else rows
        if way.start == "inverted":
            assert shots.noise is not None
            e = (1 - way.mix**2) ** 0.5 * shots.noise[from_] + way.mix * e
        z = levels.noised(shots.x[from_], e, start)
    shares = [_shares(len(own), c) for own, c in zip(mine, chances, strict=True)] if way.choice == "mixture" else []
    told = shots.told[rows]
    moved: dict[int, Tensor] = {}
    if without is not None and way.strength:
        moved = {int(row): without_shot(shots.g, levels, window, aim, int(row)) for row in np.unique(without)}

    def pull(k: int) -> Tensor | None:
        segment = window.segment(k)
        if segment is None or not way.strength:
            return None
        g = shots.g[:, segment]
        if way.choice == "mixture":
            chosen = torch.stack([torch.einsum("m,m...->...", share, g[own]) for share, own in zip(shares, mine, strict=True)])
        elif way.choice == "mean":
            chosen = torch.stack([g[own].mean(0) for own in mine])
        elif way.choice == "fixed":
            chosen = g[rows]
        else:
            at = [_picked(own, c) for own, c in zip(mine, chances, strict=True)] if way.choice == "step" else along
            chosen = g[at]
        if without is not None:
            chosen = chosen + torch.stack([moved[int(row)][segment] for row in without])
        chosen = aim.scale * way.strength * chosen
        if way.perturb:
            spread = way.perturb * (window.steps - 1 - k - window.first) / (window.last - window.first)
            chosen = chosen + spread * torch.stack([torch.randn(shape, generator=c) for c in chances])
        return chosen

    return walk(denoiser, levels, z, told, start=start, clamp=aim.clamp, pull=pull)


def _picked(rows: np.ndarray, chance: torch.Generator) -> int:
    return int(rows[int(torch.randint(len(rows), (1,), generator=chance))])


def _shares(n: int, chance: torch.Generator) -> Tensor:
    """Uniform over convex mixtures of n."""
    drawn = -torch.log(torch.rand(n, generator=chance).clamp(min=1e-12))
    return drawn / drawn.sum()
