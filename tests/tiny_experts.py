"""LoRA files with random weights for the tiny pipelines, as our own fits, diffusers and peft write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def plain(folder: Path) -> Any:
    """The pipeline as plain diffusers opens it."""
    from diffusers import DiffusionPipeline

    found = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def adapted(net: Any, *, seed: int, rank: int = 2, alpha: float = 0, targets: Sequence[str] = TARGETS, strength: float = 0.3, **settings: Any) -> Any:
    """The net with a LoRA by peft, named default, whose factors are random; and its configuration."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=list(targets), **settings)
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(config, net)
        torch.manual_seed(seed)
        for name, value in net.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(value, std=strength)
    return config


def factors(net: Any) -> dict[str, Any]:
    from peft.utils import get_peft_model_state_dict

    return {name: value.detach().clone().contiguous() for name, value in get_peft_model_state_dict(net, adapter_name="default").items()}


def write_expert(pipeline: Path, file: Path, *, seed: int, rank: int = 2, targets: Sequence[str] = TARGETS, strength: float = 0.3) -> Path:
    """A LoRA as our own fits write it."""
    from safetensors.torch import save_file

    net = plain(pipeline).unet
    adapted(net, seed=seed, rank=rank, targets=targets, strength=strength)
    save_file({f"unet.{name}": value for name, value in factors(net).items()}, file)
    return file


def images_of(pipeline: Any, prompt: str = "a red leaf", n: int = 4) -> np.ndarray:
    """What the diffusers pipeline paints by itself, uint8 [n, h, w, 3]."""
    import torch

    from mitate.runtime import torch_threads

    chances = [torch.Generator().manual_seed(i) for i in range(n)]
    with torch_threads():
        made = pipeline(prompt=[prompt] * n, generator=chances, num_inference_steps=3, guidance_scale=2.0, output_type="np")
    return np.rint(made.images * 255).astype(np.uint8)


def images_with(folder: Path, file: Path, **given: Any) -> np.ndarray:
    """The same with a LoRA file that plain diffusers has loaded."""
    pipeline = plain(folder)
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    return images_of(pipeline, **given)
