"""Low-rank changes of a frozen text-to-image model (Hu et al. 2022, arXiv 2106.09685), learnt from images and a sentence for each: the expert of a skill.

An expert is learnt from pictures that the model itself has painted and something has judged (SELMA, Li et al. 2024, arXiv 2403.06952), or from real ones with
captions. Latents and what the text encoders make of sentences are computed once; where the text encoders learn too, sentences are read anew at every step.
Nothing is mirrored or cropped, since sentences may name sides. The gradient is clipped, a share of sentences is left out so that guidance goes on working, and
the step that is kept is the best on sentences held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.fitting import Log, Schedule
from mitate.generators.inversion import Denoising, Effort, Told, improve, look_at, spread
from mitate.generators.tokens import readers
from mitate.progress import Progress
from mitate.runtime import seed_of

READ = 64  # sentences read at once
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
OF_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")  # the attention of CLIP's text encoders
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")  # that diffusers puts a LoRA on
ENCODED = ("text_encoder", "text_encoder_2", "text_encoder_3")  # what a pipeline and its LoRA files call them
ADAPTER = "mitate"


def tune(
    pipeline: Any, train: Told, selection: Told, effort: Effort, *, rank: int, size: int, seed: int, checkpoint: Path, progress: Progress,
    dropout: float = 0.0, clip: float = 0.0, text_encoder: bool = False, start: Path | None = None,
) -> tuple[dict[str, Tensor], Log]:  # fmt: skip
    """Low-rank changes of the U-Net's attention, as `load_lora_weights` takes them (alpha = rank), and the log. effort.rate: the learning rate.

    dropout: share of sentences left empty; clip: largest norm of the gradient, 0 for none; text_encoder: the attention of the text encoders changes too;
    start: a file of this function to go on from. SettingError for text encoders that diffusers loads no LoRA on.
    """
    loss = Denoising(pipeline, size=size)
    nets: dict[str, Any] = {"unet": pipeline.unet, **(_encoders(pipeline) if text_encoder else {})}
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as wrong:
        raise MissingExtra.of("peft", "diffusion", "A LoRA") from wrong
    torch.manual_seed(seed_of("lora", seed))
    try:
        for part, net in nets.items():
            targets = OF_TEXT if part in ENCODED else TARGETS
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(targets)), net, ADAPTER)
        if start is not None:
            _go_on(nets, start)
        module = _Changes(nets.values())
        how: dict[str, Any] = {"dropout": dropout, "clip": clip, "seed": seed, "checkpoint": checkpoint, "progress": progress}
        log = _learn(loss, module, train, selection, effort, again=text_encoder, **how)
        found = {name: value for part, net in nets.items() for name, value in _factors(part, net).items()}
    finally:
        pipeline.unload_lora_weights()
    return found, log


def _encoders(pipeline: Any) -> dict[str, nn.Module]:
    """The text encoders of a pipeline by the names that a LoRA file has for them."""
    found = {f"text_encoder{name.removeprefix('tokenizer')}": encoder for name, _, encoder in readers(pipeline)}
    if other := [type(encoder).__name__ for encoder in found.values() if type(encoder).__name__ not in ENCODERS]:
        raise SettingError(f"A {other[0]} takes no LoRA.", fix="leave text_encoder out: the U-Net alone can learn")
    return found


def _factors(part: str, net: Any) -> dict[str, Tensor]:
    """The factors of a net by the names that files have."""
    from peft.utils import get_peft_model_state_dict

    return {f"{_front(part, net)}{name}": value.detach().clone() for name, value in get_peft_model_state_dict(net, adapter_name=ADAPTER).items()}


def _front(part: str, net: Any) -> str:
    """What stands before a net's own names in a file: CLIP's have lost text_model with transformers 5."""
    return f"{part}.text_model." if part in ENCODED and not hasattr(net, "text_model") else f"{part}."


def _go_on(nets: Mapping[str, Any], start: Path) -> None:
    """Put the factors of a file into the nets. DataError where it changes other modules than theirs."""
    from peft.utils import set_peft_model_state_dict

    begun = load_file(start)
    if set(begun) != {name for part, net in nets.items() for name in _factors(part, net)}:
        raise DataError("The expert to go on from changes other parts of the model.", fix="learn both with text_encoder, or both without")
    for part, net in nets.items():
        front = _front(part, net)
        set_peft_model_state_dict(net, {name.removeprefix(front): value for name, value in begun.items() if name.startswith(front)}, adapter_name=ADAPTER)


def _learn(
    loss: Denoising, module: nn.Module, train: Told, selection: Told, effort: Effort, *, again: bool, dropout: float, clip: float, seed: int,
    checkpoint: Path, progress: Progress,
) -> Log:  # fmt: skip
    """again: the text encoders change, so sentences are read whenever they are asked with; else all of them once."""
    sentences = list(dict.fromkeys([*train.sentences, *selection.sentences, ""]))
    row = {text: k for k, text in enumerate(sentences)}
    nothing = row[""]
    told = None if again else _read(loss, sentences)
    z, y = loss.latents(train.x), torch.tensor([row[train.sentences[k]] for k in np.asarray(train.y)])

    def errors_of(z: Tensor, t: Tensor, noise: Tensor, asked: Tensor) -> Tensor:
        if told is not None:
            return loss.errors_of(z, t, noise, told, asked)
        return loss.errors(z, [sentences[int(k)] for k in asked], t, noise)

    def errors(z: Tensor, y: Sequence[int], t: Tensor, noise: Tensor) -> Tensor:
        return errors_of(z, t, noise, torch.tensor([row[selection.sentences[k]] for k in y]))

    look = look_at(loss, loss.latents(selection.x), selection.y, effort.batch, errors) if len(selection.x) else None

    def batch_loss(_: nn.Module, step: int) -> Tensor:
        some = torch.randint(len(z), (effort.batch,))
        asked = y[some]
        if dropout:
            asked = torch.where(torch.rand(effort.batch) < dropout, nothing, asked)
        return errors_of(z[some], spread(effort.batch, loss.times), torch.randn_like(z[some]), asked).mean()

    schedule = Schedule(effort.steps, effort.rate, warmup=min(20, effort.steps // 10), clip=clip, beta2=0.99)
    return improve(module, batch_loss, schedule, seed=seed, look=look, checks=effort.checks, patience=effort.patience, checkpoint=checkpoint, progress=progress)


@torch.no_grad()
def _read(loss: Denoising, sentences: Sequence[str]) -> list[Tensor]:
    """What the text encoders make of all sentences, a row each."""
    parts = [loss.read(sentences[i : i + READ]) for i in range(0, len(sentences), READ)]
    return [torch.cat([part[k] for part in parts]) if torch.is_tensor(parts[0][k]) else parts[0][k] for k in range(len(parts[0]))]


class _Changes(nn.Module):
    """The trainable tensors of some nets, alone, as something that `optimise` trains and keeps."""

    def __init__(self, nets: Iterable[nn.Module]) -> None:
        super().__init__()
        self.tensors = nn.ParameterList([p for net in nets for p in net.parameters() if p.requires_grad])
