"""Text-to-image pipelines: a diffusers folder as something that paints prompts, one seed an image.

lab = open_pipeline("lab")                                    the pipeline we ship (weights/lab)
lab.paint(["two red circles"], [7])                           uint8 [1, 32, 32, 3]

All noise of image i comes from seed i, and batches have one padded size, so an image does not depend on how many are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.progress import Progress, Silent
from mitate.runtime import torch_threads
from mitate.settings import digest
from mitate.store import file_digest

LAB = Path(__file__).parent.parent / "weights" / "lab"
BATCH = 16
LEAST_GUIDANCE = 1.0  # and there is none: the prompt alone


@dataclass(frozen=True)
class Pipeline:
    """A text-to-image pipeline in a folder that diffusers opens."""

    name: str
    folder: Path
    steps: int  # of the sampler, where none are asked for
    guidance: float  # classifier-free, where none is asked for; 1 is none

    @cached_property
    def digest(self) -> str:
        """Name of the weights and configuration, not of the folder."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in (".json", ".safetensors", ".txt") and p.is_file())
        return digest("mitate.pipeline", [[p.relative_to(self.folder).as_posix(), file_digest(p)] for p in files])

    @cached_property
    def loaded(self) -> Any:
        """The diffusers pipeline, in float32 on the processor."""
        return _load(self.folder)

    @property
    def size(self) -> int:
        """Pixels of a side of what it paints."""
        pipeline = self.loaded
        return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int = 0, guidance: float = 0.0, negative: str = "", progress: Progress | None = None
    ) -> np.ndarray:
        """uint8 [n, size, size, 3], image i of prompt i and seed i. steps, guidance: 0 for the pipeline's own; negative: what not to paint."""
        if len(prompts) != len(seeds):
            raise SettingError(f"{len(prompts)} prompts have {len(seeds)} seeds.", fix="give one seed a prompt")
        if steps < 0 or (guidance and guidance < LEAST_GUIDANCE):
            raise SettingError(f"steps={steps}, guidance={guidance:g} cannot be.", fix="give steps from 1, a guidance from 1, or 0 for the default")
        import torch

        told, parts = progress or Silent(), []
        with torch_threads():
            for start in range(0, len(prompts), BATCH):
                some = list(prompts[start : start + BATCH])
                chances = [torch.Generator().manual_seed(int(s) % 2**63) for s in seeds[start : start + BATCH]]
                short = BATCH - len(some)
                chances += [torch.Generator().manual_seed(0) for _ in range(short)]
                made = self.loaded(
                    prompt=some + [""] * short, generator=chances, num_inference_steps=steps or self.steps, guidance_scale=guidance or self.guidance,
                    negative_prompt=[negative] * BATCH if negative else None, output_type="np",
                ).images  # fmt: skip
                parts.append(np.rint(made[: BATCH - short] * 255).astype(np.uint8))
                told.step(start + len(some), len(prompts))
        return np.concatenate(parts) if parts else np.zeros((0, self.size, self.size, 3), np.uint8)


def open_pipeline(source: str | Path) -> Pipeline:
    """The pipeline in a folder, or ours by the name `lab`. DataError where there is none."""
    folder = LAB if str(source) == "lab" else Path(source)
    if not (folder / "model_index.json").is_file():
        raise DataError(f"{folder} holds no pipeline (model_index.json).", fix='give a folder that diffusers saved, or "lab"')
    facts = json.loads((folder / "mitate.json").read_text()) if (folder / "mitate.json").is_file() else {}
    return Pipeline(str(source), folder, int(facts.get("steps", 50)), float(facts.get("guidance", 7.5)))


def _load(folder: Path) -> Any:
    try:
        import torch
        from diffusers import AutoPipelineForText2Image
        from diffusers.utils import logging
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "diffusers", "diffusion", "A text-to-image pipeline") from wrong
    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError) as wrong:
        told = str(wrong).strip().splitlines() or [type(wrong).__name__]
        raise DataError(f"{folder} cannot be opened as a pipeline ({told[0]}).", fix="give a folder that diffusers saved as safetensors") from wrong
    finally:
        logging.set_verbosity(level)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
