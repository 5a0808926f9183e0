"""Judges: is a picture what its sentence asks for? Nothing here is learnt on the pictures that are judged.

judge = judge_of("oracle")                       the lab's: reads the scene and asks every question of the sentence
judge = judge_of("similarity:lab-clip")          an image-text model in the formats of transformers: CLIP's, SigLIP's, VisionTextDualEncoder
judge = judge_of("vqa:FOLDER")                   a model that answers questions: every question of the sentence, a child of a no being a no (vqa.py)
found = judge.look(x, sentences)                 scores, and where the judge can tell, which pictures are wholly right

Pictures that one judge has chosen must be measured by another one, or by people: whoever is asked twice agrees with himself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.curation.verdicts import Judge, Verdicts, coloured
from mitate.errors import DataError, MissingExtra, SettingError
from mitate.files import file_digest
from mitate.runtime import WEIGHTS
from mitate.settings import digest, suggest

if TYPE_CHECKING:
    from mitate.curation.dependency import Question
    from mitate.lab.captions import Prompt

KINDS = ("oracle", "similarity", "vqa")
TELLING = ("oracle", "vqa")  # kinds that say what is wholly right, and do not only score
OURS = "lab-clip"
BATCH = 64


def judge_of(name: str, questions: Mapping[str, Sequence[Question]] | None = None) -> Judge:
    """The judge by its name: oracle, similarity:MODEL, vqa:MODEL. SettingError names the nearest. questions: of prompts, for vqa."""
    kind, _, model = name.partition(":")
    if kind == "oracle" and not model:
        return Oracle()
    if kind == "similarity" and model:
        return Similarity(model)
    if kind == "vqa" and model:
        from mitate.curation.vqa import Vqa

        return Vqa(model, questions or {})
    fix = suggest(kind, KINDS) if kind not in KINDS else "write oracle, similarity:FOLDER or vqa:FOLDER"
    raise SettingError(f"There is no judge {name!r}.", fix=fix)


def opened_judge(name: str, questions: Mapping[str, Sequence[Question]]) -> Judge:
    """The same; one without questions of its own is opened once a process."""
    return judge_of(name, questions) if questions else _opened(name)


@lru_cache(maxsize=2)
def _opened(name: str) -> Judge:
    return judge_of(name)


def tells(name: str) -> bool:
    """Whether a judge of this name says what is wholly right."""
    return name.partition(":")[0] in TELLING


@dataclass(frozen=True)
class Oracle:
    """The lab's oracle. score: the share of the sentence's questions answered yes, a child of a no being a no (lab/questions.py)."""

    name: str = "oracle"
    digest: str = "oracle"
    bytes: int = 0

    def check(self, sentences: Sequence[str]) -> None:
        for text in dict.fromkeys(sentences):
            understood(text)

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        from mitate.lab.oracle import read
        from mitate.lab.questions import answers

        score, right, counts = [], [], []
        for image, text in zip(x, sentences, strict=True):
            prompt = understood(text)
            found = answers(prompt, read(image, style=prompt.style))
            score.append(sum(found) / len(found))
            right.append(all(found))
            counts.append(len(found))
        return Verdicts(np.array(score, np.float64), np.array(right, bool), np.array(counts, np.int64))


def understood(text: str) -> Prompt:
    """What a sentence of the lab asks for. DataError where it says anything else."""
    from mitate.lab.reading import understand

    told = understand(text)
    if told.prompt is None or told.unknown:
        what = f"says {told.unknown[0]!r}" if told.unknown else "names no thing of the lab"
        raise DataError(f"The sentence {text[:60]!r} {what}, which the oracle does not know.", fix="judge it by similarity:MODEL or vqa:MODEL")
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

    @property
    def bytes(self) -> int:
        return sum(p.stat().st_size for p in self.folder.glob("*.safetensors"))

    def check(self, sentences: Sequence[str]) -> None:
        _ = self._loaded

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        return Verdicts((self.of_images(x) * self.of_texts(sentences)).sum(1))

    def of_images(self, x: np.ndarray) -> np.ndarray:
        """Unit vectors of uint8 [n, h, w, c] pictures, float64 [n, d]."""
        return self._vectors("get_image_features", [{"images": list(coloured(x[i : i + BATCH]))} for i in _starts(x)])

    def of_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit vectors of sentences, float64 [n, d]; each different one is read once."""
        row = {text: k for k, text in enumerate(dict.fromkeys(sentences))}
        texts = list(row)
        found = self._vectors("get_text_features", [{"text": texts[i : i + BATCH], "padding": "max_length", "truncation": True} for i in _starts(texts)])
        return found[[row[text] for text in sentences]]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        if not (self.folder / "config.json").is_file():
            raise DataError(f"{self.folder} holds no model of transformers (a config.json).", fix=f"give a folder, or {OURS}")
        from mitate.runtime import check_sizes, quiet, with_all_weights

        try:
            with quiet():
                from transformers import AutoModel, AutoProcessor
        except ImportError as wrong:
            raise MissingExtra.of(wrong.name or "transformers", "diffusion", "An image-text model") from wrong
        check_sizes(self.folder)
        how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                model = with_all_weights(AutoModel.from_pretrained(self.folder, use_safetensors=True, output_loading_info=True, **how)).float().eval()
                made = model, AutoProcessor.from_pretrained(self.folder, **how)
        except Exception as wrong:  # whatever a damaged folder raises in the library that reads it
            told = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0]
            raise DataError(f"{self.folder} cannot be opened ({told}).", fix="give an image-text model with safetensors") from wrong
        if not all(hasattr(model, name) for name in ("get_text_features", "get_image_features")):
            raise DataError(f"{self.folder} is a {type(model).__name__}, which compares no pictures with sentences.", fix="give one like CLIP")
        return made

    def _vectors(self, feature: str, parts: Sequence[dict[str, Any]]) -> np.ndarray:
        """Unit vectors, float64 [n, d]."""
        import torch

        from mitate.runtime import torch_threads, used

        model, processor = self._loaded
        with used(self.folder), torch_threads(), torch.inference_mode():
            found = [getattr(model, feature)(**processor(return_tensors="pt", **part)) for part in parts]
            rows = np.concatenate([getattr(one, "pooler_output", one).double().numpy() for one in found])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _starts(rows: Any) -> range:
    return range(0, len(rows), BATCH)
