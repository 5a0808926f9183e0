"""A class-conditional GAN for few images: a maker draws, a critic tells what was drawn, and each learns from the other, from scratch on one core.

Goodfellow et al. 2014, in the relativistic form (Jolicoeur-Martineau 2019: is the real image more real than the drawn one of its class?) with a
zero-centred penalty on the critic's slope at real images ("R1", Mescheder et al. 2018), now and then as in Karras et al. 2020, images changed
differentiably before the critic sees them (`changes.py`), a projection critic (Miyato & Koyama 2018) and averaged weights of the maker.

A GAN learns slowly at first and forgets what is rare. So the maker has a lead: an image's code is where it lies along the widest directions of its class, in
closed form, and the maker first learns to draw images from their codes (Bojanowski et al. 2018 learn the codes too). Half of its batch stays tied to them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mitate.errors import SettingError
from mitate.fitting import Schedule, duel
from mitate.generator import Pixels, draw_padded
from mitate.generators.changes import CHANCES, changed
from mitate.generators.clipping import clipped_sum
from mitate.generators.packing import Packing, balanced_rows, check, noise
from mitate.generators.private import Mechanism, Private
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads
from mitate.settings import plain, suggest

MICRO_BATCH = 32  # images drawn at once, always: padding fills the last batch
GROUPS = 8  # of GroupNorm
FINEST = 16  # channels of the maker at full resolution, times pixels a side of a patch
LEAD_WEIGHT = 10.0  # of the squared error while the maker has its lead, beside which the critic says nothing
MOST_ROWS = 1000  # images whose differences from their class means give the widest directions
LOOKS = 256  # images at a look, real and drawn
LOSSES = ("pairs", "logistic")
BEYOND = 0.1  # slope of what is drawn beyond black and white, where it will be cut off: the critic still sees it, a little
SLOPE = 0.2  # of LeakyReLU below 0


@dataclass(frozen=True)
class GAN(Private):
    """Settings of the GAN; `steps` is the whole of the training work.

    With an epsilon the critic alone sees images, by noisy gradients; the maker has no lead, the penalty is taken at drawn images, and the selection split
    is not looked at.
    """

    version: ClassVar[int] = 2

    steps: int = 1000  # of the critic, the maker's lead included; 1 or more
    batch: int = 32  # images a step, and as many drawn ones
    lr: float = 1e-3  # highest learning rate of the maker
    critic_lr: float = 1e-3  # and of the critic
    width: int = 32  # channels of the maker's largest map, a multiple of 8; the halved map has twice as many
    critic_width: int = 32  # channels of the critic's largest map; halved maps have twice and four times as many
    side: int = 16  # the map is about this many positions a side: 28 and 32 px get patches of 2, 64 px of 4, 128 px of 8
    codes: int = 32  # numbers an image is drawn from
    layers: int = 1  # residual blocks of the maker a level
    loss: str = "pairs"  # pairs (relativistic), logistic (non-saturating)
    lead: float = 0.3  # share of the steps in which the maker learns to draw training images from their codes, before the critic starts
    tie: float = 5.0  # weight of the same for half of the maker's batch afterwards; 0 for none
    shake: float = 0.3  # deviation of the noise on those codes, 0 to 1
    penalty: float = 1.0  # weight of the critic's squared slope, with images in -1 to 1
    penalty_every: int = 4  # steps
    change: float = 0.4  # share of images that the critic sees changed, for each kind of change; more for fewer images
    ema: float = 0.1  # horizon of the averaged weights, as a share of the steps
    turns: int = 1  # steps of the critic for one of the maker
    checks: int = 20  # looks at the selection split in a whole fit
    patience: int = 8  # looks after the lead without one that is as near, or nearly, before the fit ends; 0 for never
    spread: float = 1.0  # 1 draws codes as widely as in training; below 1 more typical images, more alike
    slack: float = 0.2  # the last weights that looked no more than this share farther than the nearest are kept: looks hardly see the finer grain of later ones

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.width, self.critic_width, self.side, self.codes, self.layers, self.penalty_every, self.turns, self.checks)
        if self.loss not in LOSSES:
            raise SettingError(f"There is no loss {self.loss!r}.", fix=suggest(self.loss, LOSSES))
        if min(counts) < 1 or self.width % GROUPS:
            raise SettingError("GAN settings are out of range.", fix="give counts of 1 or more, and a width that is a multiple of 8")
        if not (0 <= self.lead < 1 and 0 <= self.change < 1 and 0 <= self.shake <= 1 and 0 < self.spread <= 2):
            raise SettingError("GAN settings are out of range.", fix="give a lead and a change from 0 to below 1, a shake from 0 to 1, a spread up to 2")
        if min(self.tie, self.penalty, self.slack) < 0:
            raise SettingError("GAN settings are out of range.", fix="give weights and a slack of 0 or more")
        self.check_privacy()
        if self.epsilon and (self.loss != "logistic" or self.lead or self.tie):
            raise SettingError("Under epsilon the maker must not see an image.", fix="give loss=logistic, lead=0.0 and tie=0.0 (GAN.private_for does)")

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        shape = check(train, selection)
        packing = Packing.of(shape, side=self.side, multiple=2)
        with torch_threads(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("init", seed))
            maker, critic = _Maker(packing, train.n_classes, self), _Critic(packing, train.n_classes, self)
            x, y = packing.pack(train.x), torch.from_numpy(train.y)
            if self.epsilon:
                return self._fit_privately(maker, critic, x, y, seed=seed, folder=folder, checkpoint=checkpoint, progress=progress)
            game = _Game(self, packing, x, y, maker.settle(x, y))
            near = _Near(packing, x, y, packing.pack(selection.x), torch.from_numpy(selection.y), codes=self.codes) if len(selection.x) else None
            log = duel(
                maker, critic, maker_loss=game.maker_loss, critic_loss=game.critic_loss, maker_schedule=self._schedule(self.lr, ema=self.ema),
                critic_schedule=self._schedule(self.critic_lr, ema=0.0), turns=self.turns, seed=seed, validate=near.distance if near else None,
                validate_every=max(1, self.steps // self.checks), patience=self.patience,
                lead=math.ceil(self.lead * self.steps), slack=self.slack, checkpoint=checkpoint, progress=progress,
            )  # fmt: skip
        self._write(maker, folder)
        return {"parameters": _size(maker), "critic_parameters": _size(critic), **asdict(log)}

    def _fit_privately(
        self, maker: _Maker, critic: _Critic, x: Tensor, y: Tensor, *, seed: int, folder: Path, checkpoint: Path, progress: Progress
    ) -> dict[str, Any]:
        plan = self.plan(images=len(x), batch=self.batch, steps=self.steps)
        mechanism = Mechanism(plan, checkpoint)
        noisy = mechanism.noisy(critic, partial(_real_losses, x=x, y=y, packing=maker.packing, change=self.change))
        game = _PrivateGame(self, maker.packing, maker.n_classes, noisy)
        log = duel(
            maker, critic, maker_loss=game.maker_loss, critic_loss=game.critic_loss, maker_schedule=self._schedule(self.lr, ema=self.ema),
            critic_schedule=self._schedule(self.critic_lr, ema=0.0), turns=self.turns, seed=seed, checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        self._write(maker, folder)
        mechanism.forget()
        return {"parameters": _size(maker), "critic_parameters": _size(critic), **asdict(log), "privacy": plan.facts}

    def load(self, folder: Path) -> Drawn:
        facts = json.loads((folder / "generator.json").read_text())
        with torch.random.fork_rng(devices=[]):  # a new network draws its weights, to be written over
            maker = _Maker(Packing(**facts["packing"]), facts["n_classes"], GAN(**facts["kind"]))
        maker.load_state_dict(load_file(folder / "gan.safetensors"))
        return Drawn(maker, self.spread)

    @classmethod
    def default_for(cls, shape: tuple[int, int, int], n_train: int) -> GAN:
        """Settings that worked for such images (height, width, channels) and so many of them.

        On one core 28 px take about 130 s; tried at 100 and 1,000 images a class, at 28 px grey. Other sizes are not tuned.
        """
        return cls(width=24, critic_width=24, steps=600) if max(shape[:2]) <= 12 else cls(spread=0.85)

    @classmethod
    def private_for(cls, shape: tuple[int, int, int], n_train: int, *, epsilon: float) -> GAN:
        """Settings for noise: a small critic (noise grows with its size), large batches, more turns of the critic. Not tuned: what its images are worth was
        not measured.
        """
        return cls(epsilon=epsilon, loss="logistic", lead=0.0, tie=0.0, critic_width=8, batch=min(128, n_train), steps=400, turns=2)

    def _schedule(self, lr: float, *, ema: float) -> Schedule:
        horizon = max(0.0, 1 - 1 / max(1.0, ema * self.steps)) if ema else 0.0
        return Schedule(self.steps, lr, warmup=min(50, self.steps // 10), clip=0.0, beta1=0.5, beta2=0.99, ema=horizon)

    def _write(self, maker: _Maker, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in maker.state_dict().items()}, folder / "gan.safetensors", metadata={"format": "pt"})
        facts = {"packing": asdict(maker.packing), "n_classes": maker.n_classes, "kind": plain(self)}
        (folder / "generator.json").write_text(json.dumps(facts, sort_keys=True) + "\n")


class Drawn:
    """A fitted GAN. It tells no loss: a GAN has no likelihood, and the critic, which would tell more of training images than of others, is not kept."""

    def __init__(self, maker: _Maker, spread: float) -> None:
        self.maker, self.spread = maker.eval(), spread
        self.n_classes = maker.n_classes
        self.shape = (maker.packing.height, maker.packing.width, maker.packing.channels)

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        with torch_threads(), torch.inference_mode():
            return draw_padded(self._draw, np.asarray(seeds), np.asarray(conditions), batch=MICRO_BATCH)

    def _draw(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        return self.maker.packing.unpack(self.maker(self.spread * noise(seeds, self.maker.codes), torch.from_numpy(conditions.astype(np.int64))))


# the two losses of a step ---------------------------------------------------------------------------------------------


class _Game:
    """One step after another: the critic's loss draws images, the maker's goes on from the same ones."""

    def __init__(self, kind: GAN, packing: Packing, x: Tensor, y: Tensor, known: Tensor) -> None:
        self.kind, self.packing, self.x, self.y, self.known = kind, packing, x, y, known

    def critic_loss(self, maker: nn.Module, critic: nn.Module, step: int) -> Tensor | None:
        """How far the critic is from telling drawn images from real ones; None while the maker has its lead."""
        kind = self.kind
        rows = balanced_rows(self.y, kind.batch)
        real, classes = self.x[rows], self.y[rows]
        self.leads = step < kind.lead * kind.steps
        tied = kind.batch if self.leads else kind.batch // 2 if kind.tie else 0
        codes = torch.randn(kind.batch, kind.codes)
        codes[:tied] = math.sqrt(1 - kind.shake**2) * self.known[rows[:tied]] + kind.shake * codes[:tied]
        drawn = maker(codes, classes)
        self.drawn, self.classes, self.error = drawn, classes, (drawn[:tied] - real[:tied]).square().mean() if tied else torch.zeros(())
        if self.leads:
            return None
        shown = _seen(torch.cat([real, drawn.detach()]), torch.rand(2 * kind.batch, CHANCES), self.packing, share=kind.change)
        steep = kind.penalty > 0 and step % kind.penalty_every == 0
        if not steep:
            said, said_drawn = critic(shown, classes.repeat(2)).chunk(2)
        else:
            seen = shown[: kind.batch].requires_grad_()
            said, said_drawn = critic(seen, classes), critic(shown[kind.batch :], classes)
        self.said = said.detach()
        loss = F.softplus(said_drawn - said).mean() if kind.loss == "pairs" else F.softplus(said_drawn).mean() + F.softplus(-said).mean()
        return loss + kind.penalty_every * kind.penalty / 2 * _steepness(said, seen) if steep else loss

    def maker_loss(self, maker: nn.Module, critic: nn.Module, step: int) -> Tensor:
        """How far what was drawn is from being taken for real, and what was drawn from an image's code from that image."""
        kind, drawn = self.kind, self.drawn
        if self.leads:
            return LEAD_WEIGHT * self.error
        said = critic(_seen(drawn, torch.rand(len(drawn), CHANCES), self.packing, share=kind.change), self.classes)
        return F.softplus(self.said - said if kind.loss == "pairs" else -said).mean() + kind.tie * self.error


class _PrivateGame:
    """The same with noise: of the images the critic alone gets something, which is `noisy`. The rest is drawn, and drawing costs nothing."""

    def __init__(self, kind: GAN, packing: Packing, n_classes: int, noisy: Callable[[nn.Module, int], Tensor]) -> None:
        self.kind, self.packing, self.n_classes, self.noisy = kind, packing, n_classes, noisy

    def critic_loss(self, maker: nn.Module, critic: nn.Module, step: int) -> Tensor:
        """A loss whose gradient is the noisy one of real images and that of drawn ones, clipped alike so that the two sides weigh the same."""
        kind = self.kind
        self.classes = torch.randint(self.n_classes, (kind.batch,))  # how many images a class has is nobody's business
        self.drawn = maker(torch.randn(kind.batch, kind.codes), self.classes)
        shown = _seen(self.drawn.detach(), torch.rand(kind.batch, CHANCES), self.packing, share=kind.change)
        parts = clipped_sum(critic, lambda: F.softplus(critic(shown, self.classes)), clip_norm=kind.clip_norm)
        trained = [p for p in critic.parameters() if p.requires_grad]
        loss = self.noisy(critic, step) + torch.stack([(p * g).sum() for p, g in zip(trained, parts, strict=True)]).sum() / kind.batch
        if kind.penalty > 0 and step % kind.penalty_every == 0:
            seen = shown.requires_grad_()
            loss = loss + kind.penalty_every * kind.penalty / 2 * _steepness(critic(seen, self.classes), seen)
        return loss

    def maker_loss(self, maker: nn.Module, critic: nn.Module, step: int) -> Tensor:
        drawn = self.drawn
        return F.softplus(-critic(_seen(drawn, torch.rand(len(drawn), CHANCES), self.packing, share=self.kind.change), self.classes)).mean()


def _real_losses(critic: nn.Module, rows: Tensor, seeds: np.ndarray, *, x: Tensor, y: Tensor, packing: Packing, change: float) -> Tensor:
    """The critic's loss of each real image, [n]: how far it is from taking it for real. An image's changes come from its seed."""
    chance = torch.special.ndtr(noise(seeds, CHANCES))
    return F.softplus(-critic(_seen(x[rows], chance, packing, share=change), y[rows]))


def _seen(maps: Tensor, chance: Tensor, packing: Packing, *, share: float) -> Tensor:
    """Packed images as the critic sees them: changed."""
    patch = packing.patch
    images = changed(F.pixel_shuffle(maps, patch), chance, share=share)
    return F.pixel_unshuffle(images, patch).contiguous(memory_format=torch.channels_last)


def _steepness(said: Tensor, seen: Tensor) -> Tensor:
    """The mean squared norm of the critic's slope at the images it saw."""
    (slope,) = torch.autograd.grad(said.sum(), seen, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


class _Near:
    """How near drawn images are to those of the selection split: the squared kernel distance of images and classes, in features drawn once.

    Features are those of two layers of random convolutions, averaged over a 4 x 4 grid, in units of their deviation over training images; the kernel is
    the cubic one of Binkowski et al. 2018, times 1 for images of one class and `ACROSS` for others. Codes are drawn once too: equal weights are
    equally near.
    """

    ACROSS = 0.1

    def __init__(self, packing: Packing, x: Tensor, y: Tensor, held: Tensor, held_y: Tensor, *, codes: int) -> None:
        generator = torch.Generator().manual_seed(seed_of("selection"))
        self.patch = packing.patch
        self.first = torch.randn(32, packing.channels, 5, 5, generator=generator) / math.sqrt(25 * packing.channels)
        self.second = torch.randn(64, 32, 3, 3, generator=generator) / math.sqrt(9 * 16)
        self.shifts = 0.3 * torch.randn(2, 64, generator=generator)
        known = self._raw(x[torch.randperm(len(x), generator=generator)[: 2 * LOOKS]])
        self.mean, self.deviation = known.mean(0), known.std(0, correction=0) + 0.05 * known.std()
        rows = torch.randperm(len(held), generator=generator)[:LOOKS]
        self.held, self.held_y = self._features(held[rows]), held_y[rows]
        n_classes = int(y.max()) + 1
        self.classes = torch.arange(-(-LOOKS // n_classes) * n_classes) % n_classes
        self.codes = torch.randn(len(self.classes), codes, generator=generator)
        self.alone = float(self._kernel(self.held, self.held_y, self.held, self.held_y).mean())

    def distance(self, maker: nn.Module) -> float:
        drawn = self._features(torch.cat([maker(self.codes[part], self.classes[part]) for part in torch.arange(len(self.codes)).split(64)]))
        own = self._kernel(drawn, self.classes, drawn, self.classes)
        n = len(drawn)
        within = (own.sum() - own.diagonal().sum()) / (n * (n - 1))
        return float(within - 2 * self._kernel(drawn, self.classes, self.held, self.held_y).mean()) + self.alone

    def _kernel(self, a: Tensor, a_y: Tensor, b: Tensor, b_y: Tensor) -> Tensor:
        same = torch.where(a_y[:, None] == b_y, 1.0, self.ACROSS).double()
        return same * (a @ b.T / a.shape[1] + 1) ** 3

    def _features(self, maps: Tensor) -> Tensor:
        return ((self._raw(maps) - self.mean) / self.deviation).double()

    def _raw(self, maps: Tensor) -> Tensor:
        hidden = F.relu(F.conv2d(F.pixel_shuffle(maps, self.patch), self.first, self.shifts[0, :32], stride=2, padding=2))
        hidden = F.relu(F.conv2d(hidden, self.second, self.shifts[1], stride=2, padding=1))
        return F.adaptive_avg_pool2d(hidden, 4).flatten(1)


# the two networks -----------------------------------------------------------------------------------------------------


class _Maker(nn.Module):
    """Codes [n, codes] and classes [n] to packed images: a class's mean, and what residual blocks bent by code and class add to it."""

    mean: Tensor  # [classes, planes, rows, columns], of the training images

    def __init__(self, packing: Packing, n_classes: int, kind: GAN) -> None:
        super().__init__()
        self.packing, self.n_classes, self.codes = packing, n_classes, kind.codes
        w, rows, columns, style = kind.width, packing.rows // 2, packing.columns // 2, 4 * kind.width
        self.small = (2 * w, rows, columns)
        self.classes = nn.Embedding(n_classes, kind.codes)
        self.style = nn.Sequential(nn.Linear(2 * kind.codes, style), nn.LeakyReLU(SLOPE), nn.Linear(style, style), nn.LeakyReLU(SLOPE))
        self.start = nn.Linear(style, 2 * w * rows * columns)
        self.low = nn.ModuleList(_Bent(2 * w, 2 * w, style) for _ in range(kind.layers))
        self.larger = _Bent(2 * w, w, style, double=True)
        self.high = nn.ModuleList(_Bent(w, w, style) for _ in range(kind.layers))
        self.norm = nn.GroupNorm(GROUPS, w)
        finest = max(packing.channels, FINEST // packing.patch)
        self.out = nn.Conv2d(w, finest * packing.patch**2, 3, padding=1)
        self.fine = nn.Conv2d(finest, packing.channels, 3, padding=1)  # across the borders of patches
        self.register_buffer("mean", torch.zeros(n_classes, packing.planes, packing.rows, packing.columns))
        _spread_weights(self)
        for bent in (m for m in self.modules() if isinstance(m, _Bent)):
            for bend in (bent.bend1, bent.bend2):
                nn.init.normal_(bend.weight, std=0.3 / math.sqrt(style))
        nn.init.zeros_(self.fine.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, codes: Tensor, classes: Tensor) -> Tensor:
        style = self.style(torch.cat([codes, self.classes(classes)], dim=1))
        hidden = self.start(style).view(-1, *self.small).contiguous(memory_format=torch.channels_last)
        for block in (*self.low, self.larger, *self.high):
            hidden = block(hidden, style)
        hidden = F.pixel_shuffle(self.out(F.silu(self.norm(hidden))), self.packing.patch)
        maps = self.mean[classes] + F.pixel_unshuffle(self.fine(F.silu(hidden)), self.packing.patch)
        inside = maps.clamp(-1, 1)
        return inside + BEYOND * (maps - inside)

    @torch.no_grad()
    def settle(self, maps: Tensor, classes: Tensor) -> Tensor:
        """Set the class means, and return the code of each image, [n, codes]: where it lies along the widest directions, in units of its class.

        Codes of a class have mean 0 and about unit covariance (that of few images is drawn towards that of all), so that normal ones can take their place.
        """
        self.mean.copy_(torch.stack([maps[classes == k].mean(0) for k in range(self.n_classes)]))
        rest = (maps - self.mean[classes]).flatten(1)
        some = rest[torch.arange(min(len(rest), MOST_ROWS)) * len(rest) // min(len(rest), MOST_ROWS)]
        values, vectors = torch.linalg.eigh((some @ some.T).double())
        keep = values.flip(0)[: self.codes] > 1e-6 * values[-1].clamp(min=1e-12)
        axes = (some.T @ (vectors.flip(1)[:, : self.codes] / values.flip(0)[: self.codes].clamp(min=1e-12).sqrt()).float())[:, keep]
        places = (rest @ axes).double()
        pooled = places.T @ places / max(1, len(places) - self.n_classes)
        known = torch.zeros(len(maps), self.codes)
        for k in range(self.n_classes):
            mine = places[classes == k]
            n = len(mine)
            weight = max(0, n - 1) / (max(0, n - 1) + self.codes)  # as many images as codes: half its own, half everyone's
            covariance = weight * mine.T @ mine / max(1, n - 1) + (1 - weight) * pooled
            root = torch.linalg.cholesky(covariance + 1e-6 * torch.eye(len(covariance)))
            known[classes == k, : len(root)] = torch.linalg.solve_triangular(root, mine.T, upper=False).T.float()
        return known


class _Bent(nn.Module):
    """A residual block whose normalised maps are scaled and shifted by the style; `double` also doubles the map."""

    def __init__(self, before: int, after: int, style: int, *, double: bool = False) -> None:
        super().__init__()
        self.scale = 2 if double else 1
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, before, affine=False), nn.GroupNorm(GROUPS, after, affine=False)
        self.bend1, self.bend2 = nn.Linear(style, 2 * before), nn.Linear(style, 2 * after)
        self.conv1, self.conv2 = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.short = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, hidden: Tensor, style: Tensor) -> Tensor:
        inner = self._larger(self.conv1(F.silu(_bend(self.norm1(hidden), self.bend1(style)))))
        return self._larger(self.short(hidden)) + self.conv2(F.silu(_bend(self.norm2(inner), self.bend2(style))))

    def _larger(self, hidden: Tensor) -> Tensor:
        return F.interpolate(hidden, scale_factor=2.0, mode="nearest") if self.scale == 2 else hidden


def _bend(hidden: Tensor, by: Tensor) -> Tensor:
    scale, shift = by[:, :, None, None].chunk(2, dim=1)
    return hidden * (1 + scale) + shift


class _Critic(nn.Module):
    """Packed images and classes to a number each, higher for what looks real. No layer mixes images, so that each one's gradient can be clipped."""

    def __init__(self, packing: Packing, n_classes: int, kind: GAN) -> None:
        super().__init__()
        w = kind.critic_width
        rows, columns = (-(-side // 4) for side in (packing.rows, packing.columns))
        self.enter = nn.Conv2d(packing.planes, w, 3, padding=1)
        self.halve = nn.Sequential(_Halve(w, 2 * w), _Halve(2 * w, 4 * w))
        self.last = nn.Linear(4 * w * rows * columns, 4 * w)
        self.says = nn.Linear(4 * w, 1)
        self.classes = nn.Embedding(n_classes, 4 * w)
        _spread_weights(self)
        for layer in (self.says, self.classes):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(4 * w))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, maps: Tensor, classes: Tensor) -> Tensor:
        features = F.leaky_relu(self.last(self.halve(self.enter(maps)).flatten(1)), SLOPE)
        return self.says(features)[:, 0] + (features * self.classes(classes)).sum(dim=1)


class _Halve(nn.Module):
    """A residual block that halves the map."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1)
        self.conv2 = nn.Conv2d(before, after, 3, stride=2, padding=1)
        self.short = nn.Conv2d(before, after, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(hidden, SLOPE)), SLOPE))
        return (self.short(F.avg_pool2d(hidden, 2, ceil_mode=True)) + inner) * math.sqrt(0.5)


def _spread_weights(net: nn.Module) -> None:
    """Weights that keep the size of what passes (He et al. 2015), and no shifts: images drawn from different codes differ from the first step."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def _size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
