"""Captioners: a transformers folder as something that describes images.

captioner = open_captioner("my-captioner/")      or "lab", for the one in weights/lab-captioner
captioner.describe(images)                             uint8 [n, h, w, 3] to n texts

Any folder that `AutoModelForImageTextToText` opens and that needs no prompt beside the image will do. Greedy unless asked otherwise: the same image, the same
text, in whatever batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.files import file_digest
from mitate.progress import Progress, Silent
from mitate.runtime import WEIGHTS, check_sizes, quiet, torch_threads, used, with_all_weights
from mitate.settings import digest

LAB = WEIGHTS / "lab-captioner"
BATCH = 32


@dataclass(frozen=True)
class Captioner:
    """A captioner in a folder that transformers opens."""

    name: str
    folder: Path

    @cached_property
    def digest(self) -> str:
        """Name of the weights and configuration, not of the folder."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in (".json", ".safetensors", ".txt", ".model", ".jinja") and p.is_file())
        return digest("mitate.captioner", [[p.relative_to(self.folder).as_posix(), file_digest(p)] for p in files])

    @cached_property
    def loaded(self) -> tuple[Any, Any, Any]:
        """Model in float32, image processor, tokenizer."""
        return _load(self.folder)

    @property
    def size(self) -> int:
        """Pixels of a side of what it looks at."""
        size = self.loaded[1].size
        with used(self.folder):
            return int(size.get("height") or size.get("shortest_edge"))

    def describe(self, images: np.ndarray, *, progress: Progress | None = None) -> list[str]:
        """One text an image. images: uint8 [n, h, w, 3]."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise SettingError(f"The images are {images.dtype} {list(images.shape)}.", fix="give uint8 [n, h, w, 3]")
        import torch

        told, texts = progress or Silent(), []
        model, look, words = self.loaded
        with used(self.folder), torch_threads(), torch.inference_mode():
            for start in range(0, len(images), BATCH):
                some = images[start : start + BATCH]
                short = BATCH - len(some)
                pixels = look(images=[*some, *([some[-1]] * short)], return_tensors="pt").pixel_values
                tokens = model.generate(pixel_values=pixels, do_sample=False, num_beams=1)
                texts += [text.strip() for text in words.batch_decode(tokens[: len(some)], skip_special_tokens=True)]
                told.step(start + len(some), len(images))
        return texts


def open_captioner(source: str | Path) -> Captioner:
    """The captioner in a folder, or ours by the name `lab`. DataError where there is none."""
    folder = LAB if str(source) == "lab" else Path(source)
    try:
        there = (folder / "config.json").is_file()
    except OSError:  # a name too long for the system
        there = False
    if not there:
        raise DataError(f"{folder} holds no captioner (config.json).", fix='give a folder that transformers saved, or "lab"')
    return Captioner(str(source), folder)


def _load(folder: Path) -> tuple[Any, Any, Any]:
    try:
        import torch

        with quiet():
            from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "transformers", "diffusion", "A captioner") from wrong
    check_sizes(folder)
    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        try:
            found = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **how)
            return with_all_weights(found).eval(), AutoImageProcessor.from_pretrained(folder, **how), AutoTokenizer.from_pretrained(folder, **how)
        except Exception as wrong:  # whatever a damaged folder raises in the libraries that read it
            told = str(wrong).strip().splitlines() or [type(wrong).__name__]
            raise DataError(f"{folder} cannot be opened as a captioner ({told[0]}).", fix="give a folder that transformers saved as safetensors") from wrong
