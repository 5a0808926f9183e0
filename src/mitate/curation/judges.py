"""Judges: is a picture what its sentence asks for? Nothing here is learnt on the pictures that are judged.

judge = judge_of("oracle")                       the lab's: reads the scene and asks every question of the sentence
judge = judge_of("similarity:lab-clip")          an image-text model in the formats of transformers: CLIP's, SigLIP's, VisionTextDualEncoder
found = judge.look(x, sentences)                 scores, and where the judge can tell, which pictures are wholly right

Pictures that one judge has chosen must be measured by another one, or by people: whoever is asked twice agrees with himself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mitate.errors import DataError, SettingError
from mitate.settings import digest, suggest
from mitate.store import file_digest

if TYPE_CHECKING:
    from mitate.lab.captions import Prompt

KINDS = ("oracle", "similarity")
WEIGHTS = Path(__file__).parent.parent / "weights"
OURS = "lab-clip"
BATCH = 64


@dataclass(frozen=True, eq=False)
class Verdicts:
    """score: float64 [n], higher is better, of one judge's own scale. right: bool [n], everything that was asked is there; None where the judge cannot tell."""

    score: np.ndarray
    right: np.ndarray | None = None


class Judge(Protocol):
    """name: as `judge_of` takes it; digest: of all that its verdicts follow from."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [n, h, w, c] pictures, each with its sentence."""
        ...


def judge_of(name: str) -> Judge:
    """The judge by its name: oracle, similarity:MODEL. SettingError names the nearest."""
    kind, _, model = name.partition(":")
    if kind == "oracle" and not model:
        return Oracle()
    if kind == "similarity" and model:
        return Similarity(model)
    raise SettingError(f"There is no judge {name!r}.", fix=suggest(kind, KINDS) if kind not in KINDS else "write oracle, or similarity:FOLDER")


@dataclass(frozen=True)
class Oracle:
    """The lab's oracle. score: the share of the sentence's questions answered yes, a child of a no being a no (lab/questions.py)."""

    name: str = "oracle"
    digest: str = "oracle"

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        from mitate.lab.oracle import read
        from mitate.lab.questions import answers

        score, right = [], []
        for image, text in zip(x, sentences, strict=True):
            prompt = understood(text)
            found = answers(prompt, read(image, style=prompt.style))
            score.append(sum(found) / len(found))
            right.append(all(found))
        return Verdicts(np.array(score, np.float64), np.array(right, bool))


def understood(text: str) -> Prompt:
    """What a sentence of the lab asks for. DataError where it says anything else."""
    from mitate.lab.reading import understand

    told = understand(text)
    if told.prompt is None or told.unknown:
        what = f"says {told.unknown[0]!r}" if told.unknown else "names no thing of the lab"
        raise DataError(f"The sentence {text[:60]!r} {what}, which the oracle does not know.", fix="judge it by similarity:MODEL")
    return told.prompt


@dataclass(frozen=True)
class Similarity:
    """Cosine of picture and sentence under an image-text model, which reads as much of a long sentence as it can.

    It ranks pictures of one sentence well, and pictures of different sentences less so.
    """

    model: str

    @property
    def name(self) -> str:
        return f"similarity:{self.model}"

    @property
    def folder(self) -> Path:
        return WEIGHTS / OURS if self.model == OURS else Path(self.model)

    @cached_property
    def digest(self) -> str:
        _ = self._loaded  # DataError where there is none
        return digest("mitate.judge", sorted([p.name, file_digest(p)] for p in self.folder.iterdir() if p.is_file() and p.suffix != ".md"))

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        texts = list(dict.fromkeys(sentences))
        of_texts = self._vectors("get_text_features", [{"text": texts[i : i + BATCH], "padding": "max_length", "truncation": True} for i in _starts(texts)])
        of_images = self._vectors("get_image_features", [{"images": list(_coloured(x[i : i + BATCH]))} for i in _starts(x)])
        rows = [texts.index(text) for text in sentences]
        return Verdicts((of_images * of_texts[rows]).sum(1))

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        if not (self.folder / "config.json").is_file():
            raise DataError(f"{self.folder} holds no model of transformers (a config.json).", fix=f"give a folder, or {OURS}")
        try:
            from transformers import AutoModel, AutoProcessor

            from mitate.runtime import quiet

            with quiet():
                model = AutoModel.from_pretrained(self.folder, use_safetensors=True, local_files_only=True).float().eval()
                made = model, AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, ImportError, KeyError) as wrong:
            raise DataError(f"{self.folder} cannot be opened ({str(wrong).splitlines()[0]}).", fix="give an image-text model with safetensors") from wrong
        if not all(hasattr(model, name) for name in ("get_text_features", "get_image_features")):
            raise DataError(f"{self.folder} is a {type(model).__name__}, which compares no pictures with sentences.", fix="give one like CLIP")
        return made

    def _vectors(self, feature: str, parts: Sequence[dict[str, Any]]) -> np.ndarray:
        """Unit vectors, float64 [n, d]."""
        import torch

        from mitate.runtime import torch_threads

        model, processor = self._loaded
        with torch_threads(), torch.inference_mode():
            found = [getattr(model, feature)(**processor(return_tensors="pt", **part)) for part in parts]
            rows = np.concatenate([getattr(one, "pooler_output", one).double().numpy() for one in found])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _starts(rows: Any) -> range:
    return range(0, len(rows), BATCH)


def _coloured(x: np.ndarray) -> np.ndarray:
    return x if x.shape[-1] == 3 else np.repeat(x, 3, axis=-1)
