"""A text model in a folder of transformers as a source: a chat model is asked, any other goes on with the text. Seeded: a round's answer is the same again.

open_text_model("my-model/")            what `AutoModelForCausalLM` opens; weights as safetensors only, no code of the folder is run, no network is used
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MissingExtra, SettingError
from mitate.files import file_digest
from mitate.prompts.asking import ALIKE, Answer, Ask, instructions, read_lines
from mitate.prompts.skills import SkillSpec
from mitate.runtime import check_sizes, quiet, seed_of, torch_threads, used, with_all_weights
from mitate.settings import digest, suggest

PRECISIONS = ("float32", "bfloat16", "float16")
TOKENS_A_WORD = 3  # that an answer may have: numbers, line ends and rare words included
LEAST = 16  # tokens that must be left for an answer


@dataclass(frozen=True)
class TextHow:
    """temperature, top_p: of sampling; max_tokens: of an answer (0: by the words asked for); device, precision, threads: of the work."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 0
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SettingError(f"There is no precision {self.precision!r}.", fix=suggest(self.precision, PRECISIONS))
        if not (0 < self.temperature <= 10 and 0 < self.top_p <= 1 and self.max_tokens >= 0 and self.threads >= 1):
            raise SettingError(f"{self} cannot be.", fix="give temperature above 0, top_p above 0 and at most 1, max_tokens 0 or more, threads 1 or more")


@dataclass(frozen=True)
class TextModel:
    """A model that writes."""

    folder: Path
    how: TextHow = TextHow()

    @property
    def name(self) -> str:
        return f"transformers:{self.folder.resolve().name}"

    @property
    def share_alike(self) -> float:
        return ALIKE

    @property
    def asked(self) -> Mapping[str, Any]:
        how = self.how
        told = {"temperature": how.temperature, "top_p": how.top_p, "max_tokens": how.max_tokens}
        return {"kind": "transformers", "weights": self.digest, **told, "device": how.device, "precision": how.precision, "threads": how.threads}

    @cached_property
    def digest(self) -> str:
        """Name of the weights and configuration, not of the folder."""
        files = sorted(p for p in self.folder.rglob("*") if p.suffix in (".json", ".safetensors", ".txt", ".model", ".jinja") and p.is_file())
        return digest("mitate.text_model", [[p.relative_to(self.folder).as_posix(), file_digest(p)] for p in files])

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        return _load(self.folder, self.how)

    def check(self, skill: SkillSpec, n: int) -> None:
        _ = self.loaded

    def ask(self, ask: Ask) -> Answer:
        import torch

        model, words = self.loaded
        text, began = instructions(ask), f"{len(ask.examples) + 1}."
        with used(self.folder), quiet():
            if words.chat_template:
                text, began = words.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True), ""
            else:
                text = f"{text}\n\n{began}"
            tokens = words(text, return_tensors="pt", add_special_tokens=not began == "").to(self.how.device)
            asked = int(tokens["input_ids"].shape[1])
            most = self._most(ask, asked, model)
            with torch_threads(self.how.threads), torch.inference_mode(), torch.random.fork_rng(devices=_cuda(self.how.device)):
                torch.manual_seed(seed_of("prompts text model", ask.seed, ask.round))
                rows = model.generate(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], do_sample=True, temperature=self.how.temperature,
                    top_p=self.how.top_p, top_k=0, num_return_sequences=1, max_new_tokens=most,
                    pad_token_id=words.pad_token_id if words.pad_token_id is not None else words.eos_token_id,
                )  # fmt: skip
        written = words.decode(rows[0, asked:], skip_special_tokens=True)
        answer = read_lines(f"{began} {written.lstrip(' ')}" if began else written, number=ask.number)
        return Answer(answer.texts, answer.drops, {"prompt_tokens": asked, "completion_tokens": int(rows.shape[1]) - asked})

    def _most(self, ask: Ask, asked: int, model: Any) -> int:
        """Tokens that an answer may have."""
        room = getattr(model.config, "max_position_embeddings", None) or asked + 100_000
        if room - asked < LEAST:
            raise SettingError(f"{self.name} takes {room} tokens, and the question has {asked}.", fix="take fewer --examples, shorter rules, or another model")
        return min(self.how.max_tokens or ask.number * ask.skill.max_words * TOKENS_A_WORD, room - asked)


def open_text_model(folder: str | Path, how: TextHow | None = None) -> TextModel:
    """The model in a folder that transformers saved. DataError where there is none."""
    place = Path(folder)
    try:
        there = (place / "config.json").is_file()
    except OSError:  # a name too long for the system
        there = False
    if not there:
        raise DataError(f"{folder} holds no text model (config.json).", fix="give a folder that transformers saved; names of the hub are not fetched")
    return TextModel(place, how or TextHow())


def _cuda(device: str) -> list[Any]:
    import torch

    return [torch.device(device).index or 0] if device.startswith("cuda") else []


def _load(folder: Path, how: TextHow) -> tuple[Any, Any]:
    try:
        import torch

        with quiet():
            from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as wrong:
        raise MissingExtra.of(wrong.name or "transformers", "diffusion", "A text model") from wrong
    check_sizes(folder)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        try:
            precision = getattr(torch, how.precision)
            found = AutoModelForCausalLM.from_pretrained(folder, dtype=precision, use_safetensors=True, output_loading_info=True, **local)
            return with_all_weights(found).eval().to(how.device), AutoTokenizer.from_pretrained(folder, **local)
        except Exception as wrong:  # whatever a damaged folder raises in the libraries that read it
            told = str(wrong).strip().splitlines() or [type(wrong).__name__]
            raise DataError(f"{folder} cannot be opened as a text model ({told[0]}).", fix="give a folder that transformers saved as safetensors") from wrong
