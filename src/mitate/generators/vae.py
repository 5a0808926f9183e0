"""A class-conditional convolutional VAE: fits in seconds, draws in microseconds, a little soft.

Kingma & Welling 2014. The decoder's variance is the best one for the data (sigma-VAE, Rybkin et al. 2021), or one for each
band of spatial frequency (in a cosine basis): then coarse shape and fine detail count by how well each can be said at all. After the fit the
codes of the training images of each class get a Gaussian of their own, and new codes are drawn from it (Ghosh et al. 2020).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mitate.errors import SettingError
from mitate.fitting import Schedule, optimise
from mitate.generator import Pixels, draw_padded
from mitate.generators.packing import Packing, balanced_rows, check, content_seeds, noise
from mitate.generators.private import Mechanism, Private
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads
from mitate.settings import plain

MICRO_BATCH = 32  # images drawn at once, always: padding fills the last batch
DRAWS = 16  # of codes, that the loss of an image is averaged over
LEAST_SPREAD = 0.3  # of codes in any direction, where noise hides how wide it is


@dataclass(frozen=True)
class VAE(Private):
    """Settings of the VAE; `steps` is the whole of the training work.

    With an epsilon nothing but noisy gradients and one noisy sum is taken from the images: the decoder starts from mid-grey instead of the mean image,
    the codes' Gaussians have one covariance for all classes, and the selection split is not looked at.
    """

    version: ClassVar[int] = 1

    steps: int = 400  # optimiser steps, 1 or more
    batch: int = 32  # images a step
    lr: float = 2e-3  # highest learning rate of AdamW
    width: int = 32  # channels of the largest map; halved maps have twice and four times as many
    side: int = 16  # the map is about this many positions a side: 28 and 32 px get patches of 2, 64 px of 4, 128 px of 8
    codes: int = 32  # numbers an image is said in
    bands: int = 1  # bands of spatial frequency with a variance of their own
    drop: float = 0.1  # share of the decoder's features left out in training, against learning by heart
    grain: float = 0.0  # 0 shows the mean image, 1 adds what the decoder cannot say, as noise of the same spectrum
    spread: float = 1.0  # 1 draws codes as widely as training images have them; below 1 more typical ones
    ema: float = 0.05  # horizon of the averaged weights, as a share of the steps
    checks: int = 30  # looks at the selection loss in a whole fit
    patience: int = 6  # looks without a better loss before the fit ends; 0 for never

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.width, self.side, self.codes, self.bands, self.checks) < 1 or not 0 <= self.drop < 1:
            raise SettingError("VAE settings are out of range.", fix="give counts of 1 or more, and a drop from 0 to below 1")
        self.check_privacy()
        if self.epsilon and self.grain:
            raise SettingError("grain needs a statistic of the images that epsilon does not cover.", fix="leave grain at 0")
        if self.epsilon and self.drop:
            raise SettingError(
                "drop leaves features out by a chance that images share, which epsilon does not cover.", fix="give drop=0.0 (VAE.private_for does)"
            )

    def fit(self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        shape = check(train, selection)
        packing = Packing.of(shape, side=self.side, multiple=4)
        with torch_threads(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("init", seed))
            net = _Net(packing, train.n_classes, self)
            x, y = packing.pack(train.x), torch.from_numpy(train.y)
            if self.epsilon:
                return self._fit_privately(net, x, y, seed=seed, folder=folder, checkpoint=checkpoint, progress=progress)
            net.mean.copy_(x.mean(0))
            held, held_y, chance = self._held(packing, selection)

            def batch_loss(module: nn.Module, step: int) -> Tensor:
                rows = balanced_rows(y, self.batch)
                assert isinstance(module, _Net)
                return module.loss(x[rows], y[rows], torch.randn(self.batch, self.codes))

            def validate(module: nn.Module) -> float:
                assert isinstance(module, _Net)
                return float(module.loss(held, held_y, chance))

            log = optimise(
                net, batch_loss, self._schedule, seed=seed, validate=validate if len(held) else None,
                validate_every=max(1, self.steps // self.checks), patience=self.patience, checkpoint=checkpoint, progress=progress,
            )  # fmt: skip
            net.eval()
            with torch.no_grad():
                net.settle(x, y)
        self._write(net, folder)
        return {"parameters": sum(p.numel() for p in net.parameters()), **asdict(log)}

    def _fit_privately(self, net: _Net, x: Tensor, y: Tensor, *, seed: int, folder: Path, checkpoint: Path, progress: Progress) -> dict[str, Any]:
        plan = self.plan(images=len(x), batch=self.batch, steps=self.steps, sums=1)

        def losses(module: nn.Module, rows: Tensor, seeds: np.ndarray) -> Tensor:
            assert isinstance(module, _Net)
            return module.losses(x[rows], y[rows], noise(seeds, self.codes))

        mechanism = Mechanism(plan, checkpoint)
        log = mechanism.optimise(net, losses, self._schedule, seed=seed, progress=progress)
        net.eval()
        with torch.no_grad():
            net.settle_privately(x, y, mechanism)
        self._write(net, folder)
        mechanism.forget()
        return {"parameters": sum(p.numel() for p in net.parameters()), **asdict(log), "privacy": plan.facts}

    @property
    def _schedule(self) -> Schedule:
        ema = max(0.0, 1 - 1 / max(1.0, self.ema * self.steps))
        return Schedule(self.steps, self.lr, warmup=min(50, self.steps // 10), ema=ema, weight_decay=0.01)

    def _write(self, net: _Net, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "vae.safetensors", metadata={"format": "pt"})
        facts = {"packing": asdict(net.packing), "n_classes": net.n_classes, "kind": plain(self)}
        (folder / "generator.json").write_text(json.dumps(facts, sort_keys=True) + "\n")

    def _held(self, packing: Packing, selection: Pixels) -> tuple[Tensor, Tensor, Tensor]:
        """At least 128 and at most 256 selection images (each more than once where there are few), their classes, and fixed chance."""
        if not len(selection.x):
            return torch.zeros(0), torch.zeros(0), torch.zeros(0)
        generator = torch.Generator().manual_seed(seed_of("selection", len(selection.x)))
        n = min(256, -(-128 // len(selection.x)) * len(selection.x))
        rows = torch.cat([torch.randperm(len(selection.x), generator=generator) for _ in range(-(-n // len(selection.x)))])[:n]
        chance = torch.randn(n, self.codes, generator=generator)
        return packing.pack(selection.x[rows.numpy()]), torch.from_numpy(selection.y)[rows], chance

    def load(self, folder: Path) -> Decoder:
        facts = json.loads((folder / "generator.json").read_text())
        with torch.random.fork_rng(devices=[]):  # a new network draws its weights, to be written over
            net = _Net(Packing(**facts["packing"]), facts["n_classes"], VAE(**facts["kind"]))
        net.load_state_dict(load_file(folder / "vae.safetensors"))
        return Decoder(net, self)

    @classmethod
    def default_for(cls, shape: tuple[int, int, int], n_train: int) -> VAE:
        """Settings that worked for such images (height, width, channels) and so many of them.

        On one core: 8 px about 5 s, 28 px and 64 px 20 to 25 s; measured at 20 and 200 images a class. Few images stop early by themselves. Codes are
        drawn a little less widely than training images have them: more images are then of their class, and all nearer to real ones (benchmarks/looks.py).
        """
        return cls(width=16, codes=16, steps=250) if max(shape[:2]) <= 12 else cls(steps=400 if n_train < 1000 else 800, spread=0.8)

    @classmethod
    def private_for(cls, shape: tuple[int, int, int], n_train: int, *, epsilon: float) -> VAE:
        """Settings for noise: a small network (noise grows with its size), large batches, a high learning rate, no dropout.

        On one core about half a minute for 28 px. benchmarks/dp_price.py measures what the images are worth at 500 a class.
        """
        return cls(epsilon=epsilon, width=8, codes=8, batch=min(128, n_train), steps=200, lr=1e-2, drop=0.0)


class Decoder:
    """A fitted VAE."""

    def __init__(self, net: _Net, kind: VAE) -> None:
        self.net, self.kind = net.eval(), kind
        self.n_classes = net.n_classes
        self.shape = (net.packing.height, net.packing.width, net.packing.channels)

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        with torch_threads(), torch.inference_mode():
            return draw_padded(self._draw, np.asarray(seeds), np.asarray(conditions), batch=MICRO_BATCH)

    def losses(self, pixels: Pixels, *, seed: int) -> np.ndarray:
        """The negative evidence bound of each image in nats a pixel value, up to a constant; float64 [n]. See `TellsLoss`."""
        with torch_threads(), torch.inference_mode():
            return np.array([self._loss(pixels.x[i], int(pixels.y[i]), seed) for i in range(len(pixels.y))], dtype=np.float64)

    def _loss(self, image: np.ndarray, label: int, seed: int) -> float:
        """All draws of one image are one batch, so no other image enters it."""
        maps, classes = self.net.packing.pack(np.repeat(image[None], DRAWS, axis=0)), torch.full((DRAWS,), label)
        return float(self.net.losses(maps, classes, noise(content_seeds(image, seed=seed, draws=DRAWS), self.net.codes)).double().mean())

    def _draw(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        net, packing = self.net, self.net.packing
        classes = torch.from_numpy(conditions.astype(np.int64))
        pixels = packing.channels * packing.rows * packing.columns * packing.patch**2
        chance = noise(seeds, net.codes + (pixels if self.kind.grain else 0))
        maps = net.decode(net.draw(chance[:, : net.codes] * self.kind.spread, classes), classes)
        if self.kind.grain:
            maps = maps + self.kind.grain * net.grain(chance[:, net.codes :])
        return packing.unpack(maps)


class _Net(nn.Module):
    cosines_r: Tensor  # [height, height], the cosine basis along a column
    cosines_c: Tensor
    band: Tensor  # [height, width], the band of each frequency
    share: Tensor  # [bands], of all frequencies
    mean: Tensor  # [planes, rows, columns], of the training images: the decoder says what is beyond it
    code_mean: Tensor  # [classes, codes]
    code_root: Tensor  # [classes, codes, codes]
    deviation: Tensor  # [bands], of what the decoder cannot say

    def __init__(self, packing: Packing, n_classes: int, kind: VAE) -> None:
        super().__init__()
        self.packing, self.n_classes, self.codes = packing, n_classes, kind.codes
        w, rows, columns = kind.width, packing.rows // 4, packing.columns // 4
        self.small = (4 * w, rows, columns)
        self.encoder = nn.Sequential(
            nn.Conv2d(packing.planes, w, 3, padding=1), nn.SiLU(),
            nn.Conv2d(w, 2 * w, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.to_codes = nn.Linear(4 * w * rows * columns + n_classes, 2 * kind.codes)
        self.from_codes = nn.Linear(kind.codes + n_classes, 4 * w * rows * columns)
        self.decoder = nn.Sequential(
            nn.SiLU(), nn.Dropout(kind.drop), _Block(4 * w),
            nn.Conv2d(4 * w, 2 * w * 4, 3, padding=1), nn.PixelShuffle(2), nn.SiLU(), _Block(2 * w),
            nn.Conv2d(2 * w, w * 4, 3, padding=1), nn.PixelShuffle(2), nn.SiLU(), nn.Conv2d(w, packing.planes, 3, padding=1),
        )  # fmt: skip
        side_r, side_c = packing.rows * packing.patch, packing.columns * packing.patch
        self.register_buffer("cosines_r", _cosines(side_r), persistent=False)
        self.register_buffer("cosines_c", _cosines(side_c), persistent=False)
        self.register_buffer("band", _bands(side_r, side_c, kind.bands), persistent=False)
        self.register_buffer("share", torch.bincount(self.band.flatten()).float() / self.band.numel(), persistent=False)
        self.register_buffer("mean", torch.zeros(packing.planes, packing.rows, packing.columns))
        self.register_buffer("code_mean", torch.zeros(n_classes, kind.codes))
        self.register_buffer("code_root", torch.eye(kind.codes).repeat(n_classes, 1, 1))
        self.register_buffer("deviation", torch.ones(len(self.share)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, maps: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the codes, each [n, codes]."""
        features = torch.cat([self.encoder(maps - self.mean).flatten(1), F.one_hot(classes, self.n_classes).float()], dim=1)
        mean, log_deviation = self.to_codes(features).chunk(2, dim=1)
        return mean, log_deviation.clamp(-6, 3)

    def decode(self, codes: Tensor, classes: Tensor) -> Tensor:
        features = self.from_codes(torch.cat([codes, F.one_hot(classes, self.n_classes).float()], dim=1))
        return self.mean + self.decoder(features.view(-1, *self.small).contiguous(memory_format=torch.channels_last))

    def errors(self, maps: Tensor, shown: Tensor) -> Tensor:
        """Mean squared error in each band of frequency, [bands]."""
        rest = F.pixel_shuffle(shown - maps, self.packing.patch)
        power = (self.cosines_r @ rest @ self.cosines_c.T).square().mean(dim=(0, 1))
        total = torch.zeros(len(self.share)).index_add(0, self.band.flatten(), power.flatten())
        return total / (self.share * self.band.numel())

    def loss(self, maps: Tensor, classes: Tensor, chance: Tensor) -> Tensor:
        """Negative evidence bound in nats a pixel value, each band at its best variance: 1/2 log of its error, up to a constant."""
        mean, log_deviation = self.encode(maps, classes)
        shown = self.decode(mean + log_deviation.exp() * chance, classes)
        said = 0.5 * (self.share * self.errors(maps, shown).clamp(min=1e-6).log()).sum()
        kl = 0.5 * (mean.square() + (2 * log_deviation).exp() - 1 - 2 * log_deviation).sum(1).mean()
        return said + kl / maps[0].numel()

    def losses(self, maps: Tensor, classes: Tensor, chance: Tensor) -> Tensor:
        """The same bound for each image, [n]: here a variance is the best one for that image alone, so that no image enters another's gradient."""
        mean, log_deviation = self.encode(maps, classes)
        rest = F.pixel_shuffle(self.decode(mean + log_deviation.exp() * chance, classes) - maps, self.packing.patch)
        power = (self.cosines_r @ rest @ self.cosines_c.T).square().mean(dim=1).flatten(1)
        bands = power @ F.one_hot(self.band.flatten()).float() / (self.share * self.band.numel())
        said = 0.5 * (self.share * bands.clamp(min=1e-6).log()).sum(1)
        kl = 0.5 * (mean.square() + (2 * log_deviation).exp() - 1 - 2 * log_deviation).sum(1)
        return said + kl / maps[0].numel()

    def settle(self, maps: Tensor, classes: Tensor) -> None:
        """A Gaussian of the codes for each class (covariance shrunk towards that of all), and the deviation of each band."""
        mean, log_deviation = self.encode(maps, classes)
        own = torch.stack([mean[classes == k].mean(0) for k in range(self.n_classes)])
        rest = (mean - own[classes]).double()
        inner = torch.diag_embed((2 * log_deviation).exp().double())
        pooled = rest.T @ rest / max(1, len(rest) - self.n_classes) + inner.mean(0)
        for k in range(self.n_classes):
            mine = classes == k
            n = int(mine.sum())
            weight = max(0, n - 1) / (max(0, n - 1) + self.codes)  # as many images as codes: half its own, half everyone's
            covariance = weight * (rest[mine].T @ rest[mine] / max(1, n - 1) + inner[mine].mean(0)) + (1 - weight) * pooled
            self.code_root[k] = torch.linalg.cholesky(covariance + 1e-6 * torch.eye(self.codes)).float()
        self.code_mean.copy_(own)
        self.deviation.copy_(self.errors(maps, self.decode(mean, classes)).sqrt())

    def settle_privately(self, maps: Tensor, classes: Tensor, mechanism: Mechanism) -> None:
        """A Gaussian of the codes for each class, with one covariance for all, from one noisy sum: counts and sums of each class, squares of all.

        An image's part has a norm of at most 1: one for its class, its code (cut to the unit ball of `reach`) and the code's products, each over the
        square root of 3. Class means are drawn towards that of all by how much noise they hold; directions of the covariance keep a least variance.
        """
        reach, part = 1.5 * math.sqrt(self.codes), 1 / math.sqrt(3)
        mean, log_deviation = self.encode(maps, classes)
        codes = (mean + log_deviation.exp() * noise(mechanism.seeds(), self.codes)).double() / reach
        codes = codes / codes.norm(dim=1, keepdim=True).clamp(min=1.0)
        own = F.one_hot(classes, self.n_classes).double()
        per_class = torch.einsum("nk,nj->nkj", own, torch.cat([torch.ones(len(codes), 1, dtype=torch.float64), codes], dim=1)).flatten(1)
        products = torch.einsum("ni,nj->nij", codes, codes).flatten(1)
        found = mechanism.sum(part * torch.cat([per_class, products], dim=1)) / part
        sums, squares = found[: per_class.shape[1]].view(self.n_classes, -1), found[per_class.shape[1] :].view(self.codes, self.codes)
        counts, n = sums[:, :1].clamp(min=1.0), float(len(codes))
        whole = sums[:, 1:].sum(dim=0) / n
        second = (squares + squares.T) / (2 * n)
        added = (mechanism.plan.sum_noise / part / counts).square()  # variance of a class mean's numbers by noise
        between = ((sums[:, 1:] / counts - whole).square().mean(dim=1, keepdim=True) - added).clamp(min=0.0)
        means = whole + between / (between + added).clamp(min=1e-12) * (sums[:, 1:] / counts - whole)
        within = second - torch.einsum("k,ki,kj->ij", counts[:, 0] / counts.sum(), means, means)
        values, directions = torch.linalg.eigh(within)
        self.code_mean.copy_(reach * means)
        self.code_root.copy_((reach * directions * values.clamp(min=(LEAST_SPREAD / reach) ** 2, max=1.0).sqrt()).expand_as(self.code_root))

    def draw(self, chance: Tensor, classes: Tensor) -> Tensor:
        return self.code_mean[classes] + torch.einsum("nij,nj->ni", self.code_root[classes], chance)

    def grain(self, chance: Tensor) -> Tensor:
        """Noise with the deviation of each band, packed."""
        waves = chance.view(-1, self.packing.channels, *self.band.shape) * self.deviation[self.band]
        return F.pixel_unshuffle(self.cosines_r.T @ waves @ self.cosines_c, self.packing.patch)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.inner(hidden)


def _cosines(n: int) -> Tensor:
    """The orthonormal cosine basis (DCT-II), [frequency, position]."""
    place, frequency = torch.arange(n) + 0.5, torch.arange(n)[:, None]
    basis = torch.cos(math.pi / n * frequency * place) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis


def _bands(rows: int, columns: int, bands: int) -> Tensor:
    """The band of every frequency, [rows, columns]; bands are even in log frequency and the numbers of empty ones are not used."""
    radius = torch.hypot(torch.arange(rows)[:, None] / rows, torch.arange(columns) / columns) * max(rows, columns)
    level = torch.log2(1 + radius) / math.log2(1 + float(radius.max())) * bands
    return torch.unique(level.floor().clamp(max=bands - 1), return_inverse=True)[1]
