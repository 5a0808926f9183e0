"""Text-to-image pipelines: a diffusers folder as something that paints prompts, one seed an image.

pipeline = open_pipeline("my-pipeline/")                      or "lab", for the one in weights/lab
pipeline.paint(["two red circles"], [7])                           uint8 [1, 32, 32, 3]

All noise of image i comes from seed i, and batches have one padded size, so an image does not depend on how many are asked for.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.progress import Progress, Silent
from mitate.runtime import quiet, torch_threads
from mitate.settings import digest
from mitate.store import file_digest

LAB = Path(__file__).parent.parent / "weights" / "lab"
BATCH = 16
STEPS, GUIDANCE = 50, 7.5  # where neither caller nor folder names them: what diffusers takes
LEAST_GUIDANCE = 1.0  # and there is none: the prompt alone
LONGEST = 10**6  # tokens; a tokenizer without a limit names a larger one


@dataclass(frozen=True)
class Pipeline:
    """A text-to-image pipeline in a folder that diffusers opens."""

    name: str
    folder: Path
    steps: int  # of the sampler, where none are asked for
    guidance: float  # classifier-free, where none is asked for; 1 is none

    @cached_property
    def digest(self) -> str:
        """Name of the weights and configuration, not of the folder: every file of the components that model_index.json names."""
        index = json.loads((self.folder / "model_index.json").read_text(encoding="utf-8"))
        parts = [self.folder / name for name in sorted(index) if (self.folder / name).is_dir()]
        files = [self.folder / "model_index.json", *(p for part in parts for p in sorted(part.rglob("*")) if p.is_file())]
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
        if steps < 0 or not math.isfinite(guidance) or (guidance and guidance < LEAST_GUIDANCE):
            raise SettingError(f"steps={steps}, guidance={guidance:g} cannot be.", fix="give steps from 1, a guidance from 1, or 0 for the default")
        import torch

        self._check_lengths([*dict.fromkeys(prompts), negative])
        told, parts = progress or Silent(), []
        how = self._taken(
            {"num_inference_steps": steps or self.steps, "guidance_scale": guidance or self.guidance}, asked={"guidance_scale"} if guidance else set()
        )
        if negative:
            how |= self._taken({"negative_prompt": [negative] * BATCH}, asked={"negative_prompt"})
        with torch_threads():
            for start in range(0, len(prompts), BATCH):
                some = list(prompts[start : start + BATCH])
                chances = [torch.Generator().manual_seed(int(s) % 2**63) for s in seeds[start : start + BATCH]]
                short = BATCH - len(some)
                chances += [torch.Generator().manual_seed(0) for _ in range(short)]
                try:
                    made = self.loaded(prompt=some + [""] * short, generator=chances, output_type="np", **how).images
                except ValueError as wrong:
                    raise SettingError(f"{self.name} does not paint so ({str(wrong).splitlines()[0]}).", fix="change the steps or the guidance") from wrong
                parts.append(np.rint(made[: BATCH - short] * 255).astype(np.uint8))
                told.step(start + len(some), len(prompts))
        return np.concatenate(parts) if parts else np.zeros((0, self.size, self.size, 3), np.uint8)

    def _taken(self, values: dict[str, Any], *, asked: set[str]) -> dict[str, Any]:
        """The arguments that this class of pipeline takes; SettingError for one that was asked for and is not among them."""
        known = inspect.signature(type(self.loaded).__call__).parameters
        if missing := sorted(asked - set(known)):
            raise SettingError(f"{type(self.loaded).__name__} has no {missing[0]}.", fix="leave it out")
        return {name: value for name, value in values.items() if name in known}

    def _check_lengths(self, prompts: Sequence[str]) -> None:
        """SettingError for a prompt of which the model would read a part only."""
        words = getattr(self.loaded, "tokenizer", None)
        most = getattr(words, "model_max_length", 0)
        if not callable(words) or not 0 < most < LONGEST:
            return
        for prompt, tokens in zip(prompts, words(list(prompts), verbose=False).input_ids, strict=True):
            if len(tokens) > most:
                raise SettingError(f"The prompt {prompt[:40]!r} has {len(tokens)} tokens; {self.name} reads {most}.", fix="shorten it")


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is there and holds a pipeline of diffusers."""
    try:
        return isinstance(json.loads((folder / "model_index.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def open_pipeline(source: str | Path) -> Pipeline:
    """The pipeline in a folder, or ours by the name `lab`. DataError where there is none."""
    folder = LAB if str(source) == "lab" else Path(source)
    if folder == LAB and not is_pipeline(folder):
        raise DataError("The lab's text-to-image model is in training and does not come with this version.", fix="give a folder that diffusers saved")
    if not is_pipeline(folder):
        raise DataError(f"{folder} holds no pipeline (a model_index.json).", fix='give a folder that diffusers saved, or "lab"')
    facts = {"steps": STEPS, "guidance": GUIDANCE}
    try:
        if (folder / "mitate.json").is_file():
            facts |= dict(json.loads((folder / "mitate.json").read_text(encoding="utf-8")).items())
        steps, guidance = int(facts["steps"]), float(facts["guidance"])
        if steps < 1 or not guidance >= LEAST_GUIDANCE:
            raise ValueError(f"steps {steps}, guidance {guidance:g}")
    except (OSError, ValueError, TypeError, AttributeError) as wrong:
        raise DataError(f"{folder / 'mitate.json'} is not the defaults of a pipeline ({wrong}).", fix="correct it, or delete it") from wrong
    return Pipeline(str(source), folder, steps, guidance)


def _load(folder: Path) -> Any:
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    named = [name for name, kind in index.items() if isinstance(kind, list) and kind and kind[0]]
    if missing := [name for name in named if not (folder / name).is_dir()]:
        raise DataError(f"{folder} cannot be opened as a pipeline: it has no {missing[0]}.", fix="copy the folder whole")
    try:
        import torch

        with quiet():
            from diffusers import AutoPipelineForText2Image
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "diffusers", "diffusion", "A text-to-image pipeline") from wrong
    with quiet():
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except Exception as wrong:  # whatever a damaged folder raises in the libraries that read it
            told = str(wrong).strip().splitlines() or [type(wrong).__name__]
            raise DataError(f"{folder} cannot be opened as a pipeline ({told[0]}).", fix="give a folder that diffusers saved as safetensors") from wrong
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
