"""Style inversion of a fitted diffusion generator: one vector, learnt on another set's images, beside the class in its frozen network.

The class-conditional counterpart of inversion.py: what a word is to a text-to-image model, a vector added to every class's embedding is to this one. With
`each_class` every class has a vector of its own. What is learnt is added to the table of classes, so the result is a diffusion generator like any other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mitate.errors import DataError, SettingError
from mitate.fitting import Schedule
from mitate.generator import Pixels
from mitate.generators.diffusion import Diffusion, Flow, batch_errors, fixed_loss, write
from mitate.generators.inversion import improve
from mitate.generators.packing import balanced_rows, check
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads


@dataclass(frozen=True)
class Restyled:
    """Settings. base: the stored fit of a diffusion generator, by its digest, and `diffusion` how that was set."""

    version: ClassVar[int] = 1

    base: str = ""
    diffusion: Diffusion = field(default_factory=Diffusion)
    each_class: bool = False
    steps: int = 600
    batch: int = 32
    rate: float = 0.15  # of a step, in spreads of the network's table of classes
    checks: int = 10  # looks at the selection loss
    patience: int = 4  # looks without a better loss before learning ends; 0 for never

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checks) < 1 or not self.rate > 0 or self.patience < 0:
            raise SettingError("Settings of a style are out of range.", fix="give counts of 1 or more, and a rate above 0")

    def fit(
        self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress, base: Path | None = None
    ) -> dict[str, Any]:
        """base: the folder of the stored fit."""
        shape = check(train, selection)
        if base is None:
            raise SettingError("A restyled generator needs its base.", fix="learn it with mitate adapt style --base NAME")
        flow = self.diffusion.load(base)
        if flow.shape != shape or flow.n_classes != train.n_classes:
            told = f"{flow.shape[0]} px, {flow.shape[2]} channels, {flow.n_classes} classes"
            raise DataError(
                f"The generator draws {told}; the images are {shape[0]} px, {shape[2]}, {train.n_classes}.", fix="give images of its classes and size"
            )
        with torch_threads(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("init", seed))
            net = flow.net.requires_grad_(False).eval()
            table = net.class_embedding.weight
            module = _Beside(table.shape[1], train.n_classes + 1 if self.each_class else 1)
            hook = net.class_embedding.register_forward_hook(module.add)
            x, y = flow.packing.pack(train.x), torch.from_numpy(train.y)

            def batch_loss(_: nn.Module, step: int) -> Tensor:
                rows = balanced_rows(y, self.batch)
                return batch_errors(net, x[rows], y[rows], self.diffusion, drop=train.n_classes).mean()

            look = fixed_loss(net, flow.packing.pack(selection.x), torch.from_numpy(selection.y), self.diffusion) if len(selection.x) else None
            schedule = Schedule(self.steps, self.rate * float(table.std()), warmup=min(20, self.steps // 10), clip=0.0, beta2=0.99)
            log = improve(
                module, batch_loss, schedule, seed=seed, look=look, checks=self.checks, patience=self.patience, checkpoint=checkpoint, progress=progress
            )
            hook.remove()
            with torch.no_grad():
                table += module.vectors
        write(net, flow.packing, train.n_classes, folder)
        return {"parameters": module.vectors.numel(), "base": self.base, **asdict(log)}

    def load(self, folder: Path) -> Flow:
        return self.diffusion.load(folder)


class _Beside(nn.Module):
    """A vector for all classes, or one for each (and for "no class")."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(n, width))

    def add(self, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + (self.vectors[args[0]] if len(self.vectors) > 1 else self.vectors[0])
