"""Where text-to-image pipelines are found, and how they are opened: ours, a folder that diffusers saved, or one of the Hugging Face hub.

Weights are opened as safetensors only, no code that a folder brings is run, and the network is used for names of the hub alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.runtime import WEIGHTS, check_sizes, quiet
from mitate.settings import parsed, suggest

LAB = WEIGHTS / "lab"
PRECISIONS = ("float32", "bfloat16", "float16")
SAVINGS = ("", "slices", "offload")
LONGEST = 255  # bytes that the name of a folder can have


@dataclass(frozen=True)
class Place:
    """Where a pipeline runs. precision: of weights and work; saving: `slices` (attention and decoding in parts), `offload` (parts wait on the processor)."""

    device: str = "cpu"
    precision: str = "float32"
    saving: str = ""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"There is no precision {self.precision!r}.", fix=suggest(self.precision, PRECISIONS))
        if self.saving not in SAVINGS:
            raise SettingError(f"There is no way {self.saving!r} to save memory.", fix=suggest(self.saving, SAVINGS[1:]))
        if self.device.startswith("cuda"):
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch wants for work that comes out the same each time
        if self.device != "cpu" and not _has_device(self.device):
            raise SettingError(f"There is no device {self.device!r} here.", fix="give cpu, or a device that torch sees")


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is there and holds a pipeline of diffusers."""
    try:
        return isinstance(parsed((folder / "model_index.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def index_of(folder: Path) -> dict[str, Any]:
    """What the model_index.json of a pipeline holds. DataError where it names something that does not lie in the folder."""
    try:
        index = dict(parsed((folder / "model_index.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as wrong:
        raise DataError(f"{folder} holds no pipeline (a model_index.json that can be read).", fix="copy the folder whole") from wrong
    if odd := [name for name in index if name in ("", ".", "..") or Path(name).name != name or "\\" in name or len(name.encode()) > LONGEST]:
        raise DataError(f"{folder}/model_index.json names {odd[0][:60]!r}, which cannot be a part of it.", fix="copy the folder whole from where it was made")
    return index


def is_hub_name(name: str) -> bool:
    """Whether the name can only be one of the Hugging Face hub: owner/name, and no folder of that name here."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII)) and Path(name).suffix != ".safetensors" and not Path(name).exists()


def fetch(name: str) -> Path:
    """The folder of a pipeline of the hub: its safetensors, settings and tokenizers, and nothing that could run."""
    return _snapshot(name, "pipeline", ["*.json", "*/*.safetensors", "*/*.txt", "*/*.model"])


def fetch_model(name: str) -> Path:
    """The folder of a single model of the hub, by the same rules."""
    return _snapshot(name, "model", ["*.json", "*.safetensors", "*.txt", "*.model"])


def _snapshot(name: str, what: str, files: list[str]) -> Path:
    try:
        with quiet():
            from huggingface_hub import snapshot_download
    except ImportError as wrong:
        raise MissingExtra.of("huggingface_hub", "diffusion", f"A {what} of the hub") from wrong
    try:
        return Path(snapshot_download(name, allow_patterns=files, ignore_patterns=["*.fp16.*", "*.non_ema.*"]))
    except Exception as wrong:  # no network, no such name, no right to it: whatever the hub's client raises
        told = str(wrong).strip().splitlines() or [type(wrong).__name__]
        raise DataError(f"There is no folder {name}, and the hub gives no {what} of that name ({told[0]}).", fix="check the name and the network") from wrong


def load(folder: Path, place: Place) -> Any:
    index = index_of(folder)
    named = [name for name, kind in index.items() if isinstance(kind, list) and kind and kind[0]]
    if missing := [name for name in named if not (folder / name).is_dir()]:
        raise DataError(f"{folder} cannot be opened as a pipeline: it has no {missing[0]}.", fix="copy the folder whole")
    check_sizes(folder)
    try:
        import torch

        with quiet():
            from diffusers import AutoPipelineForText2Image
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "diffusers", "diffusion", "A text-to-image pipeline") from wrong
    with quiet():
        try:
            if odd := [name for name in named if not _is_known(index[name][0])]:
                raise ValueError(f"its {odd[0]} is of {str(index[odd[0]][0])[:60]!r}, which is neither diffusers nor transformers")
            pipeline = AutoPipelineForText2Image.from_pretrained(
                folder, torch_dtype=getattr(torch, place.precision), local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except Exception as wrong:  # whatever a damaged folder raises in the libraries that read it
            told = str(wrong).strip().splitlines() or [type(wrong).__name__]
            raise DataError(f"{folder} cannot be opened as a pipeline ({told[0][:400]}).", fix="give a folder that diffusers saved as safetensors") from wrong
    pipeline.set_progress_bar_config(disable=True)
    if place.saving == "offload":
        pipeline.enable_model_cpu_offload(device=place.device)
    else:
        try:
            pipeline.to(place.device)
        except NotImplementedError as wrong:  # a tensor that its file does not have
            raise DataError(f"{folder} cannot be opened as a pipeline: it lacks weights.", fix="copy the folder whole") from wrong
    if place.saving == "slices":
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_slicing()
    return pipeline


def _is_known(library: object) -> bool:
    """Whether diffusers or transformers have a component: diffusers would import any other module that is named, and so run it."""
    from diffusers import pipelines

    return isinstance(library, str) and (library in ("diffusers", "transformers") or hasattr(pipelines, library))


def _has_device(name: str) -> bool:
    import torch

    try:
        kind = torch.device(name)
    except RuntimeError:
        return False
    if kind.type == "cuda":
        return torch.cuda.is_available() and (kind.index or 0) < torch.cuda.device_count()
    return kind.type == "cpu" or (kind.type == "mps" and torch.backends.mps.is_available())
