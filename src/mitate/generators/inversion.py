"""Dataset style inversion: the vectors of one word, learnt under a frozen text-to-image model so that a sentence with it paints a set's own look.

One word for the whole set, with the class in the sentence ("A rust photo in the style of <leaves>"), so the word explains what the class does not (Li et al.
2024, arXiv 2403.19866; after textual inversion, Gal et al. 2023). Only its vectors move: they are put in where the word stands. With `each_class` every class
has a word of its own, the dearer rival.

The loss is the model's own on the training images. Steps are spread evenly over noise levels; every look at the selection split asks with the same noise, so
that looks differ by the vectors alone, and the best look is kept. The other rival, low-rank changes of the attention, is in lora.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mitate.codec import resize
from mitate.errors import SettingError
from mitate.fitting import Log, Schedule, optimise
from mitate.generators.tokens import Words, readers, said, spoken, start_vectors
from mitate.progress import Progress
from mitate.runtime import seed_of

ENCODED = 16  # images encoded at once
LOOKS = 96  # (image, time) pairs that a look at the selection split asks about
RANGES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Told:
    """Images with the sentence of each: x uint8 [n, h, w, c], classes int64 [n], and the sentence of each class."""

    x: np.ndarray
    y: np.ndarray
    sentences: Sequence[str]


@dataclass(frozen=True)
class Effort:
    """How long and how fast is learnt. rate: of a step, in spreads of the model's own table of vectors."""

    steps: int
    batch: int
    rate: float
    checks: int
    patience: int


class Denoising:
    """The loss of a frozen pipeline: what it says of noisy images and their sentences. SettingError for a model whose loss is not known here."""

    def __init__(self, pipeline: Any, *, size: int) -> None:
        unet = getattr(pipeline, "unet", None)
        kind = getattr(pipeline.scheduler.config, "prediction_type", "epsilon")
        if unet is None or kind not in RANGES or not hasattr(pipeline, "vae"):
            raise SettingError(f"A style cannot be learnt on a {type(pipeline).__name__} yet.", fix="give a Stable Diffusion 1, 2 or XL pipeline, or lab")
        from diffusers import DDPMScheduler

        self.pipeline, self.unet, self.kind, self.size = pipeline, unet, kind, size
        self.noising = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.times = int(self.noising.config.num_train_timesteps)
        self.xl = "XL" in type(pipeline).__name__
        for part in (unet, pipeline.vae, *(encoder for _, _, encoder in readers(pipeline))):
            part.requires_grad_(False).eval()

    @torch.no_grad()
    def latents(self, x: np.ndarray) -> Tensor:
        """float32 [n, channels, h, w] of uint8 [n, h, w, c] images, at the pipeline's size."""
        vae, parts = self.pipeline.vae, []
        for start in range(0, len(x), ENCODED):
            some = np.stack([resize(image, self.size, 3) for image in x[start : start + ENCODED]])
            pixels = torch.from_numpy(some).permute(0, 3, 1, 2).to(vae.dtype) / 127.5 - 1
            z = vae.encode(pixels.to(vae.device)).latent_dist.mean - (getattr(vae.config, "shift_factor", None) or 0.0)
            parts.append((z * vae.config.scaling_factor).float())
        return torch.cat(parts)

    def read(self, sentences: Sequence[str]) -> Sequence[Tensor]:
        """What the text encoders make of sentences, a row each; gradients reach the vectors of words in them."""
        return self.pipeline.encode_prompt(prompt=list(sentences), device=self.unet.device, num_images_per_prompt=1, do_classifier_free_guidance=False)

    def seen(self, z: Tensor, t: Tensor, told: Sequence[Tensor], rows: Tensor) -> Tensor:
        """What the U-Net says of noisy latents at times t [n], asked with rows [n] of what was `read`: float32, of the kind that it predicts."""
        device, dtype, more = self.unet.device, self.unet.dtype, {}
        if self.xl:
            ids = torch.tensor([[self.size, self.size, 0, 0, self.size, self.size]], dtype=dtype, device=device).expand(len(rows), -1)
            more = {"added_cond_kwargs": {"text_embeds": told[2][rows], "time_ids": ids}}
        return self.unet(z.to(device, dtype), t.to(device), encoder_hidden_states=told[0][rows], **more).sample.float()

    def errors(self, z: Tensor, sentences: Sequence[str], t: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of each noisy image, [n]; gradients reach the vectors of words in the sentences."""
        words = list(dict.fromkeys(sentences))
        return self.errors_of(z, t, noise, self.read(words), torch.tensor([words.index(s) for s in sentences]))

    def errors_of(self, z: Tensor, t: Tensor, noise: Tensor, told: Sequence[Tensor], rows: Tensor) -> Tensor:
        """The same, asked with rows [n] of what was `read`."""
        seen = self.seen(self.noising.add_noise(z, noise, t), t, told, rows)
        target = {"epsilon": noise, "sample": z}.get(self.kind)
        target = self.noising.get_velocity(z, noise, t) if target is None else target
        return (seen - target.to(seen)).square().flatten(1).mean(1)


def invert(
    pipeline: Any, train: Told, selection: Told, effort: Effort, *, words: Sequence[str], start: str, vectors: int, size: int, seed: int, checkpoint: Path,
    progress: Progress,
) -> tuple[Words, Log]:  # fmt: skip
    """The words, learnt, and the log of the fit. words: one, in every sentence, or one for each class. start: a plain word that they begin as."""
    loss = Denoising(pipeline, size=size)
    module = _Vectors(pipeline, words, start=start, k=vectors)
    with spoken(pipeline, module.given) as written:
        lines = {role: [said(s, written) for s in told.sentences] for role, told in (("train", train), ("selection", selection))}
        spread = float(np.mean([encoder.get_input_embeddings().weight.float().std() for _, _, encoder in readers(pipeline)]))  # type: ignore[operator]
        log = _learn(loss, module, train, selection, lines, effort, lr=effort.rate * spread, seed=seed, checkpoint=checkpoint, progress=progress)
    return module.learnt, log


def untrained(pipeline: Any, *, words: Sequence[str], start: str, vectors: int) -> Words:
    """The words as they are before any step: the control, which has the sentence and not the style."""
    return _Vectors(pipeline, words, start=start, k=vectors).learnt


# how they are learnt -----------------------------------------------------------------------------------------------------


def _learn(
    loss: Denoising, module: nn.Module, train: Told, selection: Told, lines: Mapping[str, Sequence[str]], effort: Effort, *, lr: float, seed: int,
    checkpoint: Path, progress: Progress,
) -> Log:  # fmt: skip
    z, y, batch = loss.latents(train.x), train.y, effort.batch

    def errors(z: Tensor, y: Sequence[int], t: Tensor, noise: Tensor) -> Tensor:
        return loss.errors(z, [lines["selection"][k] for k in y], t, noise)

    look = look_at(loss, loss.latents(selection.x), selection.y, batch, errors) if len(selection.x) else None

    def batch_loss(_: nn.Module, step: int) -> Tensor:
        rows = torch.randint(len(z), (batch,))
        return loss.errors(z[rows], [lines["train"][int(y[i])] for i in rows], spread(batch, loss.times), torch.randn_like(z[rows])).mean()

    schedule = Schedule(effort.steps, lr, warmup=min(20, effort.steps // 10), clip=0.0, beta2=0.99)
    return improve(module, batch_loss, schedule, seed=seed, look=look, checks=effort.checks, patience=effort.patience, checkpoint=checkpoint, progress=progress)


def spread(n: int, times: int) -> Tensor:
    """n noise levels, int64 in [0, times), spread evenly and each at a place of its own by chance."""
    return ((torch.arange(n) + torch.rand(n)) / n * times).long().clamp(max=times - 1)


def improve(
    module: nn.Module, batch_loss: Callable[[nn.Module, int], Tensor], schedule: Schedule, *, seed: int, look: Callable[[nn.Module], float] | None, checks: int,
    patience: int, checkpoint: Path, progress: Progress,
) -> Log:  # fmt: skip
    """`optimise`, with a look before the first step: where no later one is better, the module is left as it was."""
    begun = {k: v.detach().clone() for k, v in module.state_dict().items()}
    with torch.no_grad():
        before = look(module) if look is not None else None
    every = max(1, schedule.steps // checks)
    log = optimise(module, batch_loss, schedule, seed=seed, validate=look, validate_every=every, patience=patience, checkpoint=checkpoint, progress=progress)
    if before is not None:
        log.curve.insert(0, (0, before))
        if log.best_loss is None or before <= log.best_loss:  # nothing that was learnt is better than the start
            module.load_state_dict(begun)
            log.best_loss, log.best_step = before, 0
    return log


def look_at(loss: Denoising, z: Tensor, y: np.ndarray, batch: int, errors: Callable[..., Tensor]) -> Callable[[nn.Module], float]:
    """The loss on the selection split, with the same images, times and noise at every look. errors(z, y, t, noise): of each image [n]."""
    n = max(len(z), LOOKS)
    chance = torch.Generator().manual_seed(seed_of("look"))
    rows = torch.arange(n) % len(z)
    t = ((torch.randperm(n, generator=chance) + 0.5) / n * loss.times).long()
    noise = torch.randn(n, *z.shape[1:], generator=chance)

    def look(_: nn.Module) -> float:
        parts = [slice(i, i + batch) for i in range(0, n, batch)]
        return float(torch.cat([errors(z[rows[p]], [int(y[i]) for i in rows[p]], t[p], noise[p]) for p in parts]).mean())

    return look


class _Vectors(nn.Module):
    """The vectors of each word, for each text encoder."""

    def __init__(self, pipeline: Any, words: Sequence[str], *, start: str, k: int) -> None:
        super().__init__()
        begun = start_vectors(pipeline, word=start, k=k)
        self.words = tuple(words)
        self.vectors = nn.ParameterList([nn.Parameter(v.clone()) for _ in words for v in begun])
        self.encoders = len(begun)

    @property
    def given(self) -> dict[str, list[Tensor]]:
        return {w: list(self.vectors[i * self.encoders : (i + 1) * self.encoders]) for i, w in enumerate(self.words)}

    @property
    def learnt(self) -> Words:
        return Words({w: tuple(v.detach().float().cpu().numpy().copy() for v in vectors) for w, vectors in self.given.items()})
