"""Few-shot generation: a frozen denoiser of a related domain, and ten images of the one that is wanted.

FewShot(base=DIGEST, diffusion=...)          on a diffusion generator that mitate fitted
FewShot(model="ddpm-folder/")                on a diffusers folder, or a text-to-image pipeline

method: `crdi` (crdi.py), and what it must be compared with: `base`, its images as they are; `noised`, shots noised and denoised without guidance
(SDEdit, Meng et al. 2022: the start alone); `inverted`, shots inverted by DDIM with fresh noise mixed in; `mean`, one guidance for all shots of a class;
`tuned`, the whole network trained on the shots; `lora`, low-rank changes of it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mitate.codec import resize
from mitate.errors import DataError, SettingError
from mitate.fitting import Log, Schedule, optimise
from mitate.generator import Pixels, draw_padded
from mitate.generators import crdi
from mitate.generators.denoisers import Denoiser, Levels, OfFlow, OfFolder, OfPipeline
from mitate.generators.diffusion import Diffusion, write
from mitate.generators.packing import balanced_rows, check
from mitate.generators.pipelines import opened
from mitate.generators.places import is_hub_name, is_pipeline
from mitate.progress import Progress
from mitate.runtime import seed_of, torch_threads
from mitate.settings import suggest

METHODS = ("crdi", "base", "noised", "inverted", "mean", "tuned", "lora")
TRAINED = ("tuned", "lora")
SOLVERS = ("closed_form", "adam", "adam_shared")
MICRO_BATCH = 16  # images drawn at once, always
SNR = 5.0  # most that an error counts (Hang et al. 2023)
SHOTS, TUNED, FACTS = "shots.safetensors", "tuned.safetensors", "generator.json"


@dataclass(frozen=True)
class FewShot:
    """Settings. `base`: the stored fit of a diffusion generator by its digest, and `diffusion` how that was set; or `model`, a folder, with its `weights`.

    sentences: what a text-to-image model is asked for each class; empty for "" throughout. told: another base is told the class, where its classes are
    the target's; otherwise it is told none.
    """

    version: ClassVar[int] = 2
    whole: ClassVar[bool] = True  # every image is a shot: none is set aside
    most_size: ClassVar[int] = 1024  # pixels

    base: str = ""
    diffusion: Diffusion = field(default_factory=Diffusion)
    model: str = ""
    weights: str = ""
    sentences: tuple[str, ...] = ()
    told: bool = False
    method: str = "crdi"
    # the guidance
    walk: int = 25  # steps from noise to clean
    window: tuple[int, ...] = ()  # first, last guided step from the clean end, first <= i < last; empty: by the share of the image that is left
    segments: int = 0  # of the window, with a map each; 0: one a step
    solver: str = "closed_form"
    draws: int = 8  # of noise a level and shot, in the closed form: half of them, and their opposites
    passes: int = 120  # of Adam over a segment
    penalty: float = 1.0  # on a map's distance from the mean of all shots
    scale: float = 2.0
    noise: str = "fresh"
    clamp: bool = True  # what the base sees is cut off at [-1, 1], where its maps are pixels
    # drawing
    diversity: float = 0.5  # where images start: 0 at the least noise of the window, 1 at the most
    start: str = "shot"
    choice: str = "step"
    perturb: float = 0.05
    strength: float = 1.0
    mix: float = 0.5
    # tuning, of `tuned` and `lora`
    steps: int = 1
    batch: int = 16
    rate: float = 1e-4
    rank: int = 8

    def __post_init__(self) -> None:
        for value, known in ((self.method, METHODS), (self.solver, SOLVERS), (self.noise, crdi.NOISES)):
            if value not in known:
                raise SettingError(f"There is no {value!r} here.", fix=suggest(value, known))
        if bool(self.base) and bool(self.model):
            raise SettingError("A few-shot generator has one base.", fix="give a stored fit or a model, not both")
        if min(self.draws, self.passes, self.steps, self.batch, self.rank) < 1 or self.walk < 2 or self.segments < 0 or not self.rate > 0:
            raise SettingError("Few-shot settings are out of range.", fix="give counts of 1 or more, a walk of 2 or more, and a rate above 0")
        if not 0 <= self.diversity <= 1 or len(self.window) not in (0, 2) or self.penalty < 0 or not self.scale > 0:
            raise SettingError("Few-shot settings are out of range.", fix="give a diversity from 0 to 1, a window of two steps, a penalty of 0 or more")
        if not all(math.isfinite(v) for v in vars(self).values() if isinstance(v, float)):
            raise SettingError("A few-shot setting is no number.", fix="give numbers")
        _ = self._way(-1)

    @property
    def trained(self) -> bool:
        """Whether its work is `steps` of training, and not the shots."""
        return self.method in TRAINED

    def bound(self, classes: tuple[str, ...]) -> FewShot:
        """The same with the model's place and digest fixed."""
        if not self.model:
            return self
        from dataclasses import replace

        model = self.model if self.model == "lab" or is_hub_name(self.model) else str(Path(self.model).resolve())
        return replace(self, model=model, weights=self.weights or _digest(model))

    @property
    def size(self) -> int:
        """Pixels of a side of what the model draws."""
        return opened(self.model).size if _by_words(self.model) else OfFolder(Path(self.model)).shape[0]

    def _way(self, begin: int) -> crdi.Way:
        """How images are drawn."""
        method = self.method
        strength = self.strength if method in ("crdi", "mean") else 0.0
        start = {"base": "noise", "tuned": "noise", "lora": "noise", "inverted": "inverted"}.get(method, self.start)
        return crdi.Way(begin, start, "mean" if method == "mean" else self.choice, self.perturb if strength else 0.0, strength, self.mix)

    def _window(self, levels: Levels) -> crdi.Window:
        if not self.window:
            return crdi.Window.of(levels, self.segments)
        first, last = self.window
        return crdi.Window(self.walk, first, last, self.segments or last - first)

    def fit(
        self, train: Pixels, selection: Pixels, *, seed: int, folder: Path, checkpoint: Path, progress: Progress, base: Path | None = None
    ) -> dict[str, Any]:
        """Shots are the images of `train`; `selection` is not looked at. base: the folder of the stored fit."""
        shape = check(train, selection)
        with torch_threads(), torch.random.fork_rng(devices=[]):
            denoiser = self._opened(base)
            self._check(denoiser, shape, train.n_classes)
            if self.trained and isinstance(denoiser, OfFlow) and not self.told:
                denoiser = denoiser.widened(train.n_classes)
            x, y = denoiser.encode(train.x), train.y
            known = self.told or self.sentences or (self.trained and denoiser.n_classes == train.n_classes)
            told = torch.from_numpy(y) if known else torch.full((len(y),), denoiser.n_classes)
            levels = denoiser.levels(self.walk)
            window, log = self._window(levels), Log(steps=1, best_step=1)
            g = torch.zeros(len(x), window.segments, *x.shape[1:])
            before = _weights_digest(denoiser.net)
            if self.method in ("crdi", "mean"):
                g = self._fitted(denoiser, levels, window, x, told, seed=seed, progress=progress)
            noise = None
            if self.method == "inverted":
                with torch.inference_mode():
                    start = window.start(self._begin(window))
                    noise = torch.cat([crdi.inverted(denoiser, levels, a, b, level=start) for a, b in zip(x.split(32), told.split(32), strict=True)])
            folder.mkdir(parents=True, exist_ok=True)
            if self.trained:
                log = self._tune(denoiser, levels, x, torch.from_numpy(y), told, seed=seed, checkpoint=checkpoint, progress=progress)
                if not isinstance(denoiser, OfFlow):  # which is written whole
                    save_file({k: v.detach().contiguous().clone() for k, v in denoiser.net.state_dict().items()}, folder / TUNED)
            elif _weights_digest(denoiser.net) != before:
                raise AssertionError("the base was changed")
            if isinstance(denoiser, OfFlow):
                write(denoiser.flow.net, denoiser.flow.packing, denoiser.n_classes, folder / "base")
        kept = {"x": x, "y": torch.from_numpy(y), "told": told, "g": g} | ({"noise": noise} if noise is not None else {})
        save_file({k: v.contiguous().clone() for k, v in kept.items()}, folder / SHOTS)
        (folder / FACTS).write_text(json.dumps({"shape": list(shape), "n_classes": train.n_classes}, sort_keys=True) + "\n")
        progress.step(1, 1)
        return {"parameters": g.numel() if self.method == "crdi" else 0, "base": self.base or self.weights, "shots": len(x), **asdict(log)}

    def _fitted(
        self, denoiser: Denoiser, levels: Levels, window: crdi.Window, x: Tensor, told: Tensor, *, seed: int, progress: Progress
    ) -> Tensor:  # fmt: skip
        aim = self._aim_of(denoiser)
        if self.solver == "closed_form":
            return crdi.fit(denoiser, levels, window, x, told, aim, draws=self.draws, seed=seed, progress=progress)
        shared = self.solver == "adam_shared"
        return crdi.adam(denoiser, levels, window, x, told, aim, passes=self.passes, seed=seed, shared=shared, progress=progress)

    def _aim_of(self, denoiser: Denoiser) -> crdi.Aim:
        return crdi.Aim(self.scale, self.penalty, self.noise, self.clamp and denoiser.pixels)

    def _begin(self, window: crdi.Window) -> int:
        """The guided step where images start."""
        return window.first + round(self.diversity * (window.last - 1 - window.first))

    def _tune(
        self, denoiser: Denoiser, levels: Levels, x: Tensor, y: Tensor, told: Tensor, *, seed: int, checkpoint: Path, progress: Progress
    ) -> Log:  # fmt: skip
        """Train the network on the shots, all of it or by low-rank changes that are merged into it at the end."""
        net = denoiser.net
        torch.manual_seed(seed_of("init", seed))
        if self.method == "lora":
            _low_rank(net, self.rank)
        else:
            net.requires_grad_(True)
        times = torch.tensor(levels.time)
        alpha, sigma = (torch.tensor(v[: levels.n]) for v in (levels.alpha, levels.sigma))
        weight = (alpha / sigma).square().clamp(min=0.01, max=SNR)

        def batch_loss(_: nn.Module, step: int) -> Tensor:
            rows = balanced_rows(y, self.batch)
            k = torch.randint(levels.n, (self.batch,))
            e = torch.randn(self.batch, *x.shape[1:])
            z = alpha[k].view(-1, 1, 1, 1) * x[rows] + sigma[k].view(-1, 1, 1, 1) * e
            error = (denoiser.clean(z, times[k], told[rows]) - x[rows]).square().flatten(1).mean(1)
            return (weight[k] * error).mean()

        schedule = Schedule(self.steps, self.rate, warmup=min(20, self.steps // 10))
        log = optimise(net, batch_loss, schedule, seed=seed, checkpoint=checkpoint, progress=progress)
        if self.method == "lora":
            _merge(net)
        net.requires_grad_(False)
        return log

    def load(self, folder: Path) -> Drawer:
        facts = json.loads((folder / FACTS).read_text())
        with torch_threads():
            denoiser = self._opened(folder / "base")
        if (folder / TUNED).exists():
            denoiser.net.load_state_dict(load_file(folder / TUNED))
        kept = load_file(folder / SHOTS)
        shots = crdi.Shots(kept["x"], kept["y"].numpy(), kept["told"], kept["g"], kept.get("noise"))
        return Drawer(self, denoiser, shots, tuple(facts["shape"]), facts["n_classes"])

    def _opened(self, base: Path | None) -> Denoiser:
        if self.model:
            if (found := _digest(self.model)) != self.weights and self.weights:
                raise DataError(f"The model {self.model} is another one than when this was planned.", fix=f"put it back ({found[:12]} is there now)")
            folder = Path(self.model)
            return OfPipeline(opened(self.model), self.sentences, own=self.trained) if _by_words(self.model) else OfFolder(folder)
        if base is None:
            raise SettingError("A few-shot generator needs its base.", fix="learn it with mitate adapt shots --base NAME")
        return OfFlow(self.diffusion.load(base))

    def _check(self, denoiser: Denoiser, shape: tuple[int, int, int], n_classes: int) -> None:
        if isinstance(denoiser, OfFlow) and denoiser.shape != shape:
            told = f"{denoiser.shape[0]} x {denoiser.shape[1]} px, {denoiser.shape[2]} channels"
            fix = "make the images grey, or colour, like the base's" if denoiser.shape[2] != shape[2] else "give images of its size"
            raise DataError(f"The base draws {told}; the images are {shape[0]} x {shape[1]} px, {shape[2]}.", fix=fix)
        if self.told and denoiser.n_classes != n_classes:
            raise DataError(f"The base knows {denoiser.n_classes} classes; the images have {n_classes}.", fix="leave told out: it is then told no class")
        if self.sentences and not isinstance(denoiser, OfPipeline):
            raise SettingError("This base reads no sentences.", fix="leave them out")
        if self.trained and n_classes > 1 and not (self.told or self.sentences or isinstance(denoiser, OfFlow)):
            message = f"{self.method} cannot tell {n_classes} classes apart on a base that is told none."
            raise SettingError(message, fix="give one class, sentences for a text-to-image base, or a base that mitate fitted")
        if self.sentences and len(self.sentences) != n_classes:
            raise SettingError(f"{n_classes} classes have {len(self.sentences)} sentences.", fix="give one a class, or none")


class Drawer:
    """A base with shots, as a generator of the shots' classes."""

    def __init__(self, kind: FewShot, denoiser: Denoiser, shots: crdi.Shots, shape: tuple[int, ...], n_classes: int) -> None:
        assert len(shape) == 3
        self.kind, self.denoiser, self.shots = kind, denoiser, shots
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.n_classes = n_classes
        self.levels = denoiser.levels(kind.walk)
        self.window = kind._window(self.levels)

    def sample(self, seeds: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        with torch_threads(), torch.inference_mode():
            x = draw_padded(self._draw, np.asarray(seeds), np.asarray(conditions), batch=MICRO_BATCH)
        if x.shape[1:] == self.shape:
            return x
        return np.stack([resize(image, self.shape[0], self.shape[2]) for image in x]) if len(x) else np.zeros((0, *self.shape), np.uint8)

    def like(self, kind: FewShot) -> Drawer:
        """The same shots on the same base by other dials."""
        return Drawer(kind, self.denoiser, self.shots, self.shape, self.n_classes)

    def shown(self, rows: np.ndarray) -> np.ndarray:
        """Shots as the base's own maps show them, uint8 [n, h, w, c]."""
        with torch_threads(), torch.inference_mode():
            return self.denoiser.decode(self.shots.x[rows])

    def leaving_out(self, kind: FewShot, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, h, w, c]: image i of the class of shot rows[i], drawn without that shot and by the dials of `kind`, which differs in dials alone."""
        trial = self.like(kind)
        labels = self.shots.y[rows]
        with torch_threads(), torch.inference_mode():
            parts = [trial._draw(seeds[i : i + MICRO_BATCH], labels[i : i + MICRO_BATCH], rows[i : i + MICRO_BATCH]) for i in range(0, len(rows), MICRO_BATCH)]
        return np.concatenate(parts)

    def _draw(self, seeds: np.ndarray, conditions: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        kind = self.kind
        way, aim = kind._way(kind._begin(self.window)), kind._aim_of(self.denoiser)
        return self.denoiser.decode(crdi.draw(self.denoiser, self.levels, self.window, self.shots, way, aim, seeds, conditions, without=without))


def _by_words(model: str) -> bool:
    """Whether a model is a text-to-image pipeline, and not a folder with a UNet2DModel."""
    from mitate.generators.denoisers import unconditional_index

    return model == "lab" or (unconditional_index(Path(model)) is None and (is_pipeline(Path(model)) or is_hub_name(model)))


def _digest(model: str) -> str:
    return opened(model).digest if _by_words(model) else OfFolder(Path(model)).digest


def _weights_digest(net: nn.Module) -> float:
    """A number that changes with any weight."""
    return float(sum(p.detach().double().sum() + 3 * p.detach().double().square().sum() for p in net.parameters()))


def _low_rank(net: nn.Module, rank: int) -> None:
    """Put low-rank changes beside every linear map and convolution."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as wrong:
        from mitate.errors import MissingExtra

        raise MissingExtra.of("peft", "diffusion", "A LoRA") from wrong
    named = [name for name, part in net.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    net.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=named), net)


def _merge(net: nn.Module) -> None:
    """Fold what `_low_rank` put in into the weights, and take it out."""
    for name, part in list(net.named_modules()):
        if hasattr(part, "merge") and hasattr(part, "base_layer"):
            part.merge()
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, part.base_layer)
