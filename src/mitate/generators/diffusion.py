"""Flow matching with a small U-Net: straight paths from noise to images, learnt from scratch in minutes on one core.

z_t = t x + (1 - t) e, and the network says which clean image x it sees in z_t (Lipman et al. 2023; predicting the image itself
keeps big patches learnable: Li & He 2025, "Back to basics"). Classifier-free guidance (Ho & Salimans 2022), averaged weights,
early stop on the loss of the selection split under fixed noise and times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mitate.errors import SettingError
from mitate.fitting import Schedule, optimise
from mitate.generator import Pixels, draw_padded
from mitate.generators import samplers
from mitate.generators.packing import Packing, balanced_rows, check, content_seeds, noise
from mitate.generators.private import Mechanism, Private
from mitate.generators.unet import UNet, UNetSettings
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads
from mitate.settings import suggest

MICRO_BATCH = 32  # images drawn at once, always: padding fills the last batch
DRAWS = 32  # of noise, each at a time of its own, that the loss of an image is averaged over
GROUPS = 8  # of GroupNorm
FLOOR = 0.05  # smallest 1 - t that the loss divides by
SAMPLERS = {"euler": samplers.euler, "heun": samplers.heun, "multistep": samplers.multistep}


@dataclass(frozen=True)
class Diffusion(Private):
    """Settings of the flow-matching generator; `steps` is the whole of the training work.

    With an epsilon nothing but noisy gradients is taken from the images, and the selection split is not looked at.
    """

    version: ClassVar[int] = 1

    steps: int = 600  # optimiser steps, 1 or more
    batch: int = 32  # images a step
    lr: float = 3e-3  # highest learning rate of AdamW
    width: int = 32  # channels of the map; the halved map has twice as many; a multiple of 8
    side: int = 16  # the map is about this many positions a side: 28 and 32 px get patches of 2, 64 px of 4, 128 px of 8
    layers: int = 1  # residual blocks a level
    attention: bool = False  # in the middle block
    ema: float = 0.05  # horizon of the averaged weights, as a share of the steps
    mean_time: float = -0.4  # times are logistic(mean + spread * normal): below 0 noise gets more of them
    spread_time: float = 1.0
    drop_class: float = 0.1  # share of training images shown without their class
    guidance: float = 2.0  # 1 is none; above 1 images are more typical of their class, and more alike
    sampler: str = "multistep"  # euler, heun, multistep
    sample_steps: int = 8  # steps of the sampler
    shift: float = 0.5  # below 1 the sampler takes shorter steps where images are nearly clean, above 1 where they are nearly noise
    checks: int = 20  # looks at the selection loss in a whole fit
    patience: int = 6  # looks without a better loss before the fit ends; 0 for never

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise SettingError(f"There is no sampler {self.sampler!r}.", fix=suggest(self.sampler, SAMPLERS))
        if self.width % GROUPS or min(self.width, self.steps, self.batch, self.sample_steps, self.checks, self.layers, self.side) < 1:
            raise SettingError("Diffusion settings are out of range.", fix="give counts of 1 or more, and a width that is a multiple of 8")
        self.check_privacy()

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        shape = check(train, selection)
        packing = Packing.of(shape, side=self.side, multiple=2)
        with torch_threads(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("init", seed))
            net = self._net(packing, train.n_classes)
            x, y = packing.pack(train.x), torch.from_numpy(train.y)
            if self.epsilon:
                return self._fit_privately(net, packing, x, y, seed=seed, folder=folder, checkpoint=checkpoint, progress=progress)
            fixed = _Fixed.of(packing.pack(selection.x), torch.from_numpy(selection.y), self) if len(selection.x) else None

            def batch_loss(module: nn.Module, step: int) -> Tensor:
                rows = balanced_rows(y, self.batch)
                return batch_errors(module, x[rows], y[rows], self, drop=train.n_classes).mean()

            log = optimise(
                net, batch_loss, self._schedule, seed=seed, validate=fixed.loss if fixed else None, validate_every=max(1, self.steps // self.checks),
                patience=self.patience, checkpoint=checkpoint, progress=progress,
            )  # fmt: skip
        write(net, packing, train.n_classes, folder)
        return {"parameters": sum(p.numel() for p in net.parameters()), **asdict(log)}

    def _fit_privately(
        self, net: UNet, packing: Packing, x: Tensor, y: Tensor, *, seed: int, folder: Path, checkpoint: Path, progress: Progress
    ) -> dict[str, Any]:
        plan, n_classes = self.plan(images=len(x), batch=self.batch, steps=self.steps), net.settings.num_class_embeds - 1

        def losses(module: nn.Module, rows: Tensor, seeds: np.ndarray) -> Tensor:
            clean = x[rows]
            drawn = noise(seeds, 2 + clean[0].numel())
            t = torch.sigmoid(self.mean_time + self.spread_time * drawn[:, 0])
            shown = torch.where(torch.special.ndtr(drawn[:, 1]) < self.drop_class, n_classes, y[rows])
            return _errors(module, clean, t, drawn[:, 2:].view_as(clean), shown).flatten(1).mean(1)

        mechanism = Mechanism(plan, checkpoint)
        log = mechanism.optimise(net, losses, self._schedule, seed=seed, progress=progress)
        write(net, packing, n_classes, folder)
        mechanism.forget()
        return {"parameters": sum(p.numel() for p in net.parameters()), **asdict(log), "privacy": plan.facts}

    @property
    def _schedule(self) -> Schedule:
        ema = max(0.0, 1 - 1 / max(1.0, self.ema * self.steps))
        return Schedule(self.steps, self.lr, warmup=min(100, self.steps // 10), ema=ema, beta2=0.99)

    def load(self, folder: Path) -> Flow:
        facts = json.loads((folder / "generator.json").read_text())
        return Flow(UNet.open(folder / "unet"), Packing(**facts["packing"]), facts["n_classes"], self)

    @classmethod
    def default_for(cls, shape: tuple[int, int, int], n_train: int) -> Diffusion:
        """Settings that worked for such images (height, width, channels) and so many of them.

        On one core: 8 px about 20 s, 28 px 90 s, 64 px 110 s; measured at 20 and 200 images a class. Few images stop early by themselves. A `shift` below 0.5
        pays for grain (clothes of 28 px, leaves of 64 px) with shapes (blood cells of 64 px).
        """
        if max(shape[:2]) <= 12:
            return cls(width=24, steps=400)
        return cls(steps=600 if n_train < 1000 else 900, shift=0.25 if max(shape[:2]) <= 32 else 0.5)

    @classmethod
    def private_for(cls, shape: tuple[int, int, int], n_train: int, *, epsilon: float) -> Diffusion:
        """Settings for noise: a small network (noise grows with its size), large batches, several draws of noise and time for each image.

        On one core 4 to 5 minutes for 28 px. Not tuned: what its images are worth was not measured.
        """
        return cls(epsilon=epsilon, width=8, batch=min(128, n_train), steps=200, lr=1e-2, draws=4, shift=1.0)

    def _net(self, packing: Packing, n_classes: int) -> UNet:
        net = UNet(
            UNetSettings(
                (packing.rows, packing.columns), packing.planes, packing.planes, (self.width, 2 * self.width), self.layers, n_classes + 1,
                norm_num_groups=GROUPS, attention_head_dim=64, add_attention=self.attention,
            )
        )  # fmt: skip
        nn.init.zeros_(net.conv_out.weight)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net


class Flow:
    """A fitted flow."""

    def __init__(self, net: UNet, packing: Packing, n_classes: int, kind: Diffusion) -> None:
        self.net = net.eval()
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.packing, self.n_classes, self.kind = packing, n_classes, kind
        self.shape = (packing.height, packing.width, packing.channels)

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        with torch_threads(), torch.inference_mode():
            return draw_padded(self._draw, np.asarray(seeds), np.asarray(conditions), batch=MICRO_BATCH)

    def losses(self, pixels: Pixels, *, seed: int) -> np.ndarray:
        """Mean squared error of the velocity at times spread as in training, for each image; float64 [n]. See `TellsLoss`."""
        shares = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
        t = torch.sigmoid(self.kind.mean_time + self.kind.spread_time * torch.special.ndtri(shares)).float()
        with torch_threads(), torch.inference_mode():
            return np.array([self._loss(pixels.x[i], int(pixels.y[i]), t, seed) for i in range(len(pixels.y))], dtype=np.float64)

    def _loss(self, image: np.ndarray, label: int, t: Tensor, seed: int) -> float:
        """All draws of one image are one batch, so no other image enters it."""
        clean = self.packing.pack(np.repeat(image[None], DRAWS, axis=0))
        e = noise(content_seeds(image, seed=seed, draws=DRAWS), *clean.shape[1:]).contiguous(memory_format=torch.channels_last)
        return float(_errors(self.net, clean, t, e, torch.full((DRAWS,), label)).double().mean())

    def _draw(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        packing, guidance = self.packing, self.kind.guidance
        classes = torch.from_numpy(conditions.astype(np.int64))
        nobody = torch.full_like(classes, self.n_classes)

        def predict(z: Tensor, t: float) -> Tensor:
            if guidance == 1:
                return clean_image(self.net, z, torch.full((len(z),), t), classes)
            both = clean_image(self.net, torch.cat([z, z]), torch.full((2 * len(z),), t), torch.cat([classes, nobody]))
            told, untold = both.chunk(2)
            return untold + guidance * (told - untold)

        z = noise(seeds, packing.planes, packing.rows, packing.columns).contiguous(memory_format=torch.channels_last)
        grid = samplers.times(self.kind.sample_steps, self.kind.shift)
        return packing.unpack(SAMPLERS[self.kind.sampler](predict, z, grid))


def clean_image(net: nn.Module, z: Tensor, t: Tensor, classes: Tensor) -> Tensor:
    """The clean image that the network sees in z, which comes to it at about one variance. Diffusers' times run from 0 to 1000."""
    time = t[:, None, None, None]
    return net(z / (time.square() + (1 - time).square()).sqrt(), 1000 * t, classes)


def _errors(net: nn.Module, clean: Tensor, t: Tensor, e: Tensor, classes: Tensor) -> Tensor:
    """Squared errors of the velocity x - e = (x - z) / (1 - t), with 1 - t never below FLOOR."""
    time = t[:, None, None, None]
    z = time * clean + (1 - time) * e
    error = (clean_image(net, z, t, classes) - clean) / (1 - time).clamp(min=FLOOR)
    return error.square()


def batch_errors(net: nn.Module, clean: Tensor, y: Tensor, kind: Diffusion, *, drop: int) -> Tensor:
    """Squared errors of packed images at random times under random noise, a share of them shown as class `drop`: the loss of a step."""
    t = torch.sigmoid(kind.mean_time + kind.spread_time * torch.randn(len(clean)))
    shown = torch.where(torch.rand(len(clean)) < kind.drop_class, drop, y)
    return _errors(net, clean, t, torch.randn_like(clean), shown)


def fixed_loss(net: nn.Module, x: Tensor, y: Tensor, kind: Diffusion) -> Callable[[nn.Module], float]:
    """The loss of `net` on packed images of the selection split, under noise and times drawn once."""
    fixed = _Fixed.of(x, y, kind)
    return lambda _: fixed.loss(net)


def write(net: UNet, packing: Packing, n_classes: int, folder: Path) -> None:
    net.save(folder / "unet")
    (folder / "generator.json").write_text(json.dumps({"packing": asdict(packing), "n_classes": n_classes}, sort_keys=True) + "\n")


@dataclass(frozen=True)
class _Fixed:
    """The selection split with noise and times drawn once: equal weights have an equal loss."""

    x: Tensor
    y: Tensor
    t: Tensor
    e: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, kind: Diffusion) -> _Fixed:
        """256 draws, or a few more; times are the quantiles of those in training, so that few draws cover them."""
        n = 256 if len(x) > 256 else -(-256 // len(x)) * len(x)  # every image equally often
        generator = torch.Generator().manual_seed(seed_of("selection", n))
        rows = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(-(-n // len(x)))])[:n]
        shares = (torch.randperm(n, generator=generator).double() + 0.5) / n
        t = torch.sigmoid(kind.mean_time + kind.spread_time * torch.special.ndtri(shares)).float()
        e = torch.randn(n, *x.shape[1:], generator=generator)
        return cls(x[rows], y[rows], t, e)

    def loss(self, net: nn.Module) -> float:
        total = 0.0
        for part in torch.arange(len(self.t)).split(64):
            clean = self.x[part].contiguous(memory_format=torch.channels_last)
            total += float(_errors(net, clean, self.t[part], self.e[part], self.y[part]).mean()) * len(part)
        return total / len(self.t)
