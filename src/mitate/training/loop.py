"""The one visible training loop: a Recipe, real and synthetic images in, a Classifier out.

All arms get the same optimiser, steps, batch, schedule and weight decay; they differ by their Recipe only. Arms of one replicate
share their seed, so they start from the same weights and meet the real images in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mitate.errors import DataError
from mitate.fitting import Schedule, optimise
from mitate.generator import Pixels
from mitate.progress import Progress, Silent
from mitate.recipe import VIEWS, Phase, Recipe
from mitate.runtime import seed_of
from mitate.training.augmentation import augment
from mitate.training.backbones import Classifier

CHUNK = 256  # images at a time where no gradient is needed


@dataclass(frozen=True)
class Training:
    """What is equal for every arm. `lr` is for a network from scratch; a pretrained body is trained at a tenth of it."""

    steps: int = 300
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    flip: bool = False  # whether augmentation may mirror images
    label_smoothing: float = 0.0


def train(
    recipe: Recipe,
    build: Callable[[], Classifier],
    *,
    real: Pixels,
    synthetic: Pixels | None,
    training: Training,
    seed: int,
    pretrained: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """The network that `recipe` makes of real and synthetic images; the same bytes for the same arguments."""
    if recipe.uses_synthetic and (synthetic is None or len(synthetic.x) == 0):
        raise DataError(f"The arm {recipe.name} has no synthetic images.", fix="give a generator, or drop the arm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("init", seed))
        model = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pools = {"real": _pool(model, real, training, seed_of("views", "real", seed), recipe)}
        if synthetic is not None and recipe.uses_synthetic:
            pools["synthetic"] = _pool(model, synthetic, training, seed_of("views", "synthetic", seed), recipe)
        lr = training.lr * (0.1 if pretrained and not model.frozen else 1.0)
        for number, phase in enumerate(recipe.phases):
            done = checkpoint / f"phase{number}.safetensors" if checkpoint is not None else None
            if done is not None and done.exists():
                model.load_state_dict(load_file(done))
                continue
            torch.manual_seed(seed_of("phase", seed, number))
            if phase.fresh_head:
                model.fresh_head()
            if phase.source == "real" and number > 0 and not model.frozen:
                reestimate_batch_norm(model, pools["real"].x)
            steps = max(1, round(training.steps * phase.share))
            schedule = Schedule(steps=steps, lr=lr, weight_decay=training.weight_decay, warmup=min(steps // 10, 50), clip=1.0)
            model.train()
            optimise(
                model,
                partial(_batch_loss, pools=pools, phase=phase, training=training, seed=seed_of("order", seed, number)),
                schedule,
                seed=seed_of("chance", seed, number),
                checkpoint=checkpoint / f"phase{number}" if checkpoint is not None else None,
                progress=progress or Silent(),
            )
            if done is not None:
                _save_state(model, done)
    return model.eval()


@torch.no_grad()
def predict(model: Classifier, x: np.ndarray) -> np.ndarray:
    """Class probabilities, float32 [n, k], of x uint8 [n, h, w, c]."""
    model.eval()
    parts = [F.softmax(model(as_tensor(x[i : i + CHUNK])), dim=1) for i in range(0, len(x), CHUNK)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, model.head.out_features), np.float32)


@torch.no_grad()
def read_off(model: Classifier, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float32 [n, k], and the features that the head reads, float32 [n, width], of x uint8 [n, h, w, c]."""
    model.eval()
    features = [model.body(as_tensor(x[i : i + CHUNK])) for i in range(0, len(x), CHUNK)]
    if not features:
        return np.zeros((0, model.head.out_features), np.float32), np.zeros((0, model.head.in_features), np.float32)
    return torch.cat([model.head(some) for some in features]).numpy(), torch.cat(features).numpy()


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, x: Tensor) -> None:
    """Set every BatchNorm's running mean and variance to those of x (uint8 or float [n, c, h, w]); weights stay."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not layers:
        return
    momenta = [m.momentum for m in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over what follows
    model.train()
    for i in range(0, len(x), CHUNK):
        if len(x) - i > 1:  # a batch of one has no variance
            model(_unit(x[i : i + CHUNK]))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def as_tensor(x: np.ndarray) -> Tensor:
    """uint8 [n, h, w, c] as float [n, c, h, w] in 0 to 1, channels last in memory."""
    return torch.from_numpy(np.array(x)).permute(0, 3, 1, 2).float().div_(255)


# batches --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    """x: uint8 images [n, c, h, w], or for a frozen body its features [views, n, d] with the plain view first."""

    x: Tensor
    y: Tensor
    features: bool

    def batch(self, rows: Tensor, *, changed: bool, flip: bool) -> Tensor:
        if self.features:
            views = torch.randint(self.x.shape[0], (len(rows),)) if changed else torch.zeros(len(rows), dtype=torch.long)
            return self.x[views, rows]
        images = _unit(self.x[rows])
        return augment(images, flip=flip) if changed else images


def _pool(model: Classifier, data: Pixels, training: Training, seed: int, recipe: Recipe) -> _Pool:
    x = torch.from_numpy(np.array(data.x)).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(data.y)
    if not model.frozen:
        return _Pool(x, y, features=False)
    views = VIEWS if any(phase.augment for phase in recipe.phases) else 0
    model.eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        plain = _features(model, x, lambda images: images)
        changed = [_features(model, x, partial(augment, flip=training.flip)) for _ in range(views)]
    return _Pool(torch.stack([plain, *changed]), y, features=True)


def _features(model: Classifier, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([model.body(change(_unit(x[i : i + CHUNK]))) for i in range(0, len(x), CHUNK)])


def _batch_loss(module: nn.Module, step: int, *, pools: dict[str, _Pool], phase: Phase, training: Training, seed: int) -> Tensor:
    model: Classifier = module  # type: ignore[assignment]
    parts = _plan(pools, phase, training.batch, step, seed)
    x = torch.cat([pools[name].batch(rows, changed=phase.augment, flip=training.flip) for name, rows in parts])
    y = F.one_hot(torch.cat([pools[name].y[rows] for name, rows in parts]), model.head.out_features).float()
    if phase.mixup:
        weight = float(np.random.default_rng(seed_of("mixup", seed, step)).beta(phase.mixup, phase.mixup))
        order = torch.randperm(len(x))
        x, y = torch.lerp(x[order], x, weight), torch.lerp(y[order], y, weight)
    logits = model.head(x) if model.frozen else model(x)
    return F.cross_entropy(logits, y, label_smoothing=training.label_smoothing)


def _plan(pools: dict[str, _Pool], phase: Phase, batch: int, step: int, seed: int) -> list[tuple[str, Tensor]]:
    """Which rows of which pool make the batch of this step."""
    if phase.source != "both":
        return [(phase.source, _rows(len(pools[phase.source].y), batch, step, seed_of(seed, phase.source)))]
    n_real, n_synthetic = len(pools["real"].y), len(pools["synthetic"].y)
    if phase.real_share is None:
        joint = _rows(n_real + n_synthetic, batch, step, seed_of(seed, "joint"))
        parts = [("real", joint[joint < n_real]), ("synthetic", joint[joint >= n_real] - n_real)]
        return [(name, rows) for name, rows in parts if len(rows)]
    share = round(batch * phase.real_share)
    return [("real", _rows(n_real, share, step, seed_of(seed, "real"))), ("synthetic", _rows(n_synthetic, batch - share, step, seed_of(seed, "synthetic")))]


def _rows(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Rows `step * batch` to `(step + 1) * batch` of an endless sequence of shuffled epochs."""
    places = np.arange(step * batch, (step + 1) * batch)
    return torch.from_numpy(np.array([_epoch(n, int(e), seed)[p] for e, p in zip(places // n, places % n, strict=True)], dtype=np.int64))


@lru_cache(maxsize=64)
def _epoch(n: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed_of("epoch", seed, epoch)).permutation(n)


def _unit(x: Tensor) -> Tensor:
    return x.float().div(255) if x.dtype == torch.uint8 else x


def _save_state(model: nn.Module, path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, fresh)
    os.replace(fresh, path)
