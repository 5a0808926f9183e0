"""Training that keeps each image's influence below what noise hides: DP-SGD, for every generator that is a network.

Abadi et al. 2016: each step every image takes part with equal chance (Poisson sampling), its own gradient is scaled down to a norm of at
most `clip_norm`, and the sum gets a normal of standard deviation noise x clip_norm. `draws` chances of an image are averaged
before its gradient is clipped (De et al. 2022; for diffusion Dockhorn et al. 2023). The accountant is `accountant.py`.

What the noise and the sampling are drawn from must be secret: it comes from the operating system, not from the seed of the fit,
which anybody can guess. It stays in the checkpoint folder (`noise.key`) until the fit is over, so that a killed fit goes on to the
same bytes. What an image draws in its loss comes from a seed of its own, so that no image moves the chance of another. Noise is
float32 from NumPy's Philox: no defence against attacks on the rounding of floating-point noise (Mironov 2012).
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mitate.errors import SettingError
from mitate.fitting import Log, Schedule, optimise
from mitate.generators import accountant
from mitate.generators.accountant import Part, Spent
from mitate.generators.clipping import SLACK, clipped_sum
from mitate.progress import Progress
from mitate.settings import QUIET

KEY = "noise.key"  # in the checkpoint folder: 32 bytes that nobody may see
SUM_SHARE = 0.2  # of epsilon: what a sum over all images would spend were it alone; beside the training it costs far less
ROWS = 32  # examples and draws whose gradients are held at once
EPSILONS = (0.01, 100.0)  # below, noise is all there is; above, nothing is promised

Losses = Callable[[nn.Module, Tensor, np.ndarray], Tensor]  # (module, rows [n], their seeds [n]) to the loss of each row [n]


@dataclass(frozen=True, kw_only=True)
class Private:
    """Settings that make a fit differentially private. At their defaults they are no part of the question: digests are as without them."""

    epsilon: float = field(default=0.0, metadata=QUIET)  # what may be spent, 0.01 to 100; 0 trains without privacy
    delta: float = field(default=0.0, metadata=QUIET)  # 0 is n ** -1.1 for n images
    clip_norm: float = field(default=1.0, metadata=QUIET)  # largest norm of one image's gradient
    draws: int = field(default=1, metadata=QUIET)  # chances of an image that are averaged before its gradient is clipped

    def check_privacy(self) -> None:
        """SettingError where the settings are out of range or would do nothing."""
        if self.epsilon == 0:
            if idle := [f.name for f in fields(Private) if getattr(self, f.name) != f.default]:
                raise SettingError(f"{idle[0]} does nothing without epsilon.", fix="give an epsilon, like epsilon=8, or leave it out")
            return
        if not EPSILONS[0] <= self.epsilon <= EPSILONS[1]:
            raise SettingError(f"epsilon is {self.epsilon:g}.", fix=f"give {EPSILONS[0]:g} to {EPSILONS[1]:g}, or 0 for no privacy")
        if not 0 <= self.delta < 1 or not 0 < self.clip_norm < math.inf or self.draws < 1:
            raise SettingError("Privacy settings are out of range.", fix="give a delta from 0 to below 1, a clip_norm above 0, draws of 1 or more")

    def plan(self, *, images: int, batch: int, steps: int, sums: int = 0) -> Plan:
        """The noise of a fit on so many images, with `batch` of them a step on average, and of `sums` sums over all of them."""
        delta = self.delta or images**-1.1
        if delta >= 1 / images:
            raise SettingError(f"A delta of {delta:g} lets one of {images} images be given away whole.", fix="give a delta well below 1 / images, or 0")
        rate = min(1.0, batch / images)
        sum_noise = accountant.noise_for(SUM_SHARE * self.epsilon, rate=1.0, steps=sums, delta=delta) if sums else 0.0
        beside = (Part(1.0, sum_noise, sums),) if sums else ()
        noise = accountant.noise_for(self.epsilon, rate=rate, steps=steps, delta=delta, beside=beside)
        whole = accountant.spent(Part(rate, noise, steps), *beside, delta=delta)
        return Plan(images, steps, rate, noise, self.clip_norm, self.draws, sums, sum_noise, whole)


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is spent, fixed before the first step."""

    images: int
    steps: int
    rate: float  # the chance of an image to take part in a step
    noise: float  # standard deviation over clip_norm
    clip_norm: float
    draws: int
    sums: int  # over all images, beside the steps
    sum_noise: float  # standard deviation over the largest norm of an image's part
    spent: Spent

    @property
    def facts(self) -> dict[str, Any]:
        """For the record: JSON values."""
        return {
            **asdict(self.spent),
            "accountant": {"name": accountant.NAME, "version": accountant.VERSION, "by": "mitate"},
            "noise_multiplier": self.noise,
            "clip_norm": self.clip_norm,
            "draws": self.draws,
            "sampling": "Poisson",
            "sampling_rate": self.rate,
            "steps": self.steps,
            "sums": self.sums,
            "sum_noise_multiplier": self.sum_noise,
            "images": self.images,
            "unit": "one image and its class",
            "neighbours": "one image added or removed",
            "groups": "k images of one person: k epsilon, at delta times k exp((k - 1) epsilon)",
            "public": ["classes", "number of images", "size and channels of the images", "settings"],
        }


class Mechanism:
    """All that a private fit may ask of its images: noisy gradients and noisy sums, as planned, from a secret key."""

    def __init__(self, plan: Plan, checkpoint: Path) -> None:
        self.plan, self.checkpoint, self._sums = plan, checkpoint, 0
        self._key = secret_key(checkpoint)

    def optimise(self, module: nn.Module, losses: Losses, schedule: Schedule, *, seed: int, progress: Progress | None = None) -> Log:
        """Train `module` in place on rows 0 to `plan.images` - 1, every step and no early stop, and return the log.

        losses(module, rows, seeds): the loss of each row; rows come `plan.draws` times in a row, each time with another seed. The loss of a
        row may depend on that row's image and seed alone. ValueError where it draws from the global random state, which rows share.
        """
        if schedule.steps != self.plan.steps:
            raise ValueError(f"{self.plan.steps} steps were planned, not {schedule.steps}")
        noisy = self.noisy(module, losses)
        return optimise(module, noisy, replace(schedule, clip=0.0), seed=seed, checkpoint=self.checkpoint, progress=progress)

    def noisy(self, module: nn.Module, losses: Losses) -> Callable[[nn.Module, int], Tensor]:
        """A loss of (module, step) whose gradient is the noisy one of `losses`, for steps 0 to `plan.steps` - 1, each of them asked once."""
        plan = self.plan
        trained = [p for p in module.parameters() if p.requires_grad]

        def batch_loss(module: nn.Module, step: int) -> Tensor:
            if step >= plan.steps:
                raise ValueError(f"{plan.steps} steps were planned")
            chance = self._chance("step", step)
            rows = torch.from_numpy(np.flatnonzero(chance.random(plan.images) < plan.rate))
            seeds = _seeds(chance, plan.images, plan.draws)
            total = [torch.zeros_like(p) for p in trained]
            for part in rows.split(max(1, ROWS // plan.draws)) if len(rows) else ():  # a step without any image is noise alone
                run = partial(losses, module, part.repeat_interleave(plan.draws), seeds[part.numpy()].reshape(-1))
                shared = torch.get_rng_state()
                torch._foreach_add_(total, clipped_sum(module, run, clip_norm=plan.clip_norm, draws=plan.draws))
                if not torch.equal(shared, torch.get_rng_state()):
                    raise ValueError("a loss drew from the global random state, which the images of a step share")
            share = 1 / (plan.rate * plan.images)
            noisy = [share * (g + plan.noise * plan.clip_norm * _normal(chance, g)) for g in total]
            return torch.stack([(p * g).sum() for p, g in zip(trained, noisy, strict=True)]).sum()  # its gradient is `noisy`, to the last bit

        return batch_loss

    def sum(self, parts: Tensor) -> Tensor:
        """The sum of rows, each scaled down to a norm of at most 1, with noise; float64 [numbers]. parts: [images, numbers], one image a row."""
        if self._sums == self.plan.sums or len(parts) != self.plan.images:
            raise ValueError(f"{self.plan.sums} sums over {self.plan.images} images were planned")
        self._sums += 1
        rows = torch.nan_to_num(parts.double().flatten(1))
        rows = rows * ((1 - SLACK) / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)
        noise = torch.from_numpy(self._chance("sum", self._sums).standard_normal(rows.shape[1]))
        return rows.sum(dim=0) + self.plan.sum_noise * noise

    def seeds(self) -> np.ndarray:
        """A seed for each image, for what is drawn before the next sum; int64 [images]."""
        return _seeds(self._chance("beside", self._sums), self.plan.images, 1)[:, 0]

    def forget(self) -> None:
        """Delete the key, once the fit is over: a key is for one fit, and the same noise on other images would cancel out."""
        (self.checkpoint / KEY).unlink(missing_ok=True)

    def _chance(self, what: str, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=_number(self._key, what, number)))


def secret_key(checkpoint: Path) -> bytes:
    """The 32 bytes that all chance of a private fit comes from: those in the checkpoint folder, or new ones from the operating system."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    path = checkpoint / KEY
    if not path.exists():
        plant_key(checkpoint, secrets.token_bytes(32))
    key = path.read_bytes()
    if len(key) != 32:
        raise SettingError(f"{path} is not a key of 32 bytes.", fix="delete the checkpoint folder and fit again")
    return key


def plant_key(checkpoint: Path, key: bytes) -> None:
    """Put a key into a checkpoint folder, readable by its owner only, unless there is one."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    fresh = checkpoint / f".{KEY}.{os.getpid()}.tmp"
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(key)
    try:
        os.link(fresh, checkpoint / KEY)  # the first of two processes wins, and nobody reads half a key
    except OSError:
        if not (checkpoint / KEY).exists():  # a disk without hard links
            os.replace(fresh, checkpoint / KEY)
    finally:
        fresh.unlink(missing_ok=True)


def _seeds(chance: np.random.Generator, images: int, draws: int) -> np.ndarray:
    """Seeds of every image, whether it takes part or not; int64 [images, draws]."""
    return chance.integers(2**63, size=(images, draws))


def _normal(chance: np.random.Generator, like: Tensor) -> Tensor:
    return torch.from_numpy(chance.standard_normal(tuple(like.shape), dtype=np.float32))


def _number(key: bytes, what: str, step: int) -> int:
    """128 bits that nobody knows without the key."""
    return int.from_bytes(hashlib.sha256(key + f"\0{what}\0{step}".encode()).digest()[:16], "big")
