"""A model that answers questions about pictures, as a judge: every question of a sentence is asked, and a child of a no is a no (curation/dependency.py).

judge = Vqa("blip-vqa/", read_questions(Path("counting.questions.jsonl")))       a folder of transformers, or owner/name of the hub
judge.look(x, sentences)                                                          score: share of yes of each picture; right: nothing but yes

ViLT picks its answer from a list (Kim et al. 2021, arXiv 2102.03334), BLIP writes it (Li et al. 2022, arXiv 2201.12086). One picture is looked at with all its
questions at once, so its verdict follows from it and them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mitate.curation.dependency import Question, answered, of_lab, same
from mitate.curation.verdicts import Verdicts, coloured
from mitate.errors import DataError, MissingExtra
from mitate.files import file_digest
from mitate.generators.places import fetch_model, is_hub_name
from mitate.runtime import check_sizes, quiet, torch_threads, used
from mitate.settings import digest

KINDS = ("vilt", "blip")  # model types of transformers
LONGEST = 40  # tokens of a question: what ViLT reads
MOST_SAID = 10  # tokens of an answer
FILES = (".json", ".safetensors", ".txt", ".model")


@dataclass(frozen=True, eq=False)
class Vqa:
    """questions: of the prompts that have their own, by prompt; a prompt of the lab needs none. digest: of the model alone."""

    model: str
    questions: Mapping[str, Sequence[Question]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"vqa:{self.model}"

    @cached_property
    def folder(self) -> Path:
        return fetch_model(self.model) if is_hub_name(self.model) else Path(self.model)

    @cached_property
    def digest(self) -> str:
        return _digest(self.folder)

    @property
    def bytes(self) -> int:
        return sum(p.stat().st_size for p in self.folder.glob("*.safetensors"))

    def asked_of(self, sentence: str) -> Sequence[Question]:
        """The questions of a sentence. DataError where it has none and is no sentence of the lab."""
        from mitate.lab.reading import understand

        if sentence in self.questions:
            return self.questions[sentence]
        told = understand(sentence)
        if told.prompt is None or told.unknown:
            message = f"No questions are known for the prompt {sentence[:60]!r}."
            raise DataError(message, fix="write them beside the prompts: NAME.questions.jsonl of NAME.jsonl (docs/skills.md)")
        return of_lab(told.prompt)

    def check(self, sentences: Sequence[str]) -> None:
        """DataError for a sentence without questions, or a question that is longer than the model reads."""
        tokenizer = self._loaded[2]
        texts = list(dict.fromkeys(q.question for sentence in dict.fromkeys(sentences) for q in self.asked_of(sentence)))
        with used(self.folder):
            read = tokenizer(texts).input_ids
        for text, tokens in zip(texts, read, strict=True):
            if len(tokens) > self._length:
                raise DataError(f"The question {text[:60]!r} has {len(tokens)} tokens; {self.model} reads {self._length}.", fix="shorten it")

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [n, h, w, c] pictures, each with its sentence."""
        self.check(sentences)
        found = [self.answers(image, self.asked_of(text)) for image, text in zip(coloured(x), sentences, strict=True)]
        yes, counts = np.array([sum(f) for f in found], np.float64), np.array([len(f) for f in found], np.int64)
        return Verdicts(yes / counts, yes == counts, counts)

    def answers(self, image: np.ndarray, questions: Sequence[Question]) -> list[bool]:
        """Whether each question is answered as wanted, by a picture uint8 [h, w, 3]; a child of a no is a no."""
        said = self.say(image, [q.question for q in questions])
        return answered(questions, [same(text, q.answer) for text, q in zip(said, questions, strict=True)])

    def say(self, image: np.ndarray, questions: Sequence[str]) -> list[str]:
        """What the model answers, in its own words."""
        import torch

        model, look, tokenizer = self._loaded
        with used(self.folder), torch_threads(), torch.inference_mode(), torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)  # ViLT shuffles the patches of a picture
            words = tokenizer(list(questions), padding="max_length", max_length=self._length, return_tensors="pt")
            seen = {name: v.expand(len(questions), *v.shape[1:]) for name, v in look(images=[image], return_tensors="pt").items()}
            told = {"input_ids": words.input_ids, "attention_mask": words.attention_mask, "pixel_values": seen["pixel_values"]}
            if model.config.model_type == "vilt":
                best = model(**told, pixel_mask=seen["pixel_mask"]).logits.argmax(-1)
                return [str(model.config.id2label[int(k)]) for k in best]
            tokens = model.generate(**told, do_sample=False, num_beams=1, max_new_tokens=MOST_SAID)
            return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    @property
    def _length(self) -> int:
        model, _, tokenizer = self._loaded
        reads = getattr(model.config, "text_config", None) or model.config
        with used(self.folder):
            return int(min(LONGEST, tokenizer.model_max_length, reads.max_position_embeddings))

    @property
    def _loaded(self) -> tuple[Any, Any, Any]:
        return _load(self.folder)


@lru_cache(maxsize=2)
def _digest(folder: Path) -> str:
    _ = _load(folder)  # DataError where there is none
    return digest("mitate.vqa", sorted([p.name, file_digest(p)] for p in folder.iterdir() if p.is_file() and p.suffix in FILES))


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Any, Any, Any]:
    """Model in float32, image processor, tokenizer."""
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder} holds no model of transformers (a config.json).", fix="give a folder of a ViLT or BLIP model that answers questions")
    try:
        import torch

        with quiet():
            from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
            from transformers import BlipForQuestionAnswering as Blip
            from transformers import ViltForQuestionAnswering as Vilt
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "transformers", "diffusion", "A judge that answers questions") from wrong
    check_sizes(folder)
    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    fix = "give a folder that transformers saved as safetensors"
    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder, **how)
        except Exception as wrong:  # whatever a damaged folder raises in the library that reads it
            raise DataError(f"{folder} cannot be opened ({_first(wrong)}).", fix=fix) from wrong
        made = config.architectures if isinstance(config.architectures, list) else []
        if config.model_type not in KINDS or not any("QuestionAnswering" in str(name) for name in made):
            kind = (made or [config.model_type])[0]
            raise DataError(f"{folder} is a {kind}, which answers no questions here.", fix="give ViltForQuestionAnswering or BlipForQuestionAnswering")
        try:
            opened: Any = Vilt if config.model_type == "vilt" else Blip
            model, info = opened.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **how)
            parts = AutoImageProcessor.from_pretrained(folder, **how), AutoTokenizer.from_pretrained(folder, **how)
        except Exception as wrong:
            raise DataError(f"{folder} cannot be opened ({_first(wrong)}).", fix=fix) from wrong
    if missing := sorted(info["missing_keys"]):
        raise DataError(f"{folder} lacks {len(missing)} weights, like {missing[0]}.", fix="copy the folder whole")
    return model.eval(), *parts


def _first(wrong: Exception) -> str:
    return (str(wrong).strip().splitlines() or [type(wrong).__name__])[0][:200]
