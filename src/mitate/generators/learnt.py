"""What is learnt on top of a frozen text-to-image pipeline: words (tokens.py), a LoRA, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitate.errors import DataError
from mitate.files import file_digest
from mitate.generators.tokens import Words, spoken
from mitate.runtime import quiet
from mitate.settings import digest

WORDS, LORA = "words.safetensors", "pytorch_lora_weights.safetensors"  # in the folder of a fit
LORA_PARTS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora.down.", ".lora.up.")  # of the names of a LoRA's tensors


@dataclass(frozen=True, eq=False)
class Learnt:
    """words: those that a prompt may hold; lora: a file as `save_lora_weights` of diffusers writes it."""

    words: Words | None = None
    lora: Path | None = None

    def __bool__(self) -> bool:
        return self.words is not None or self.lora is not None

    @property
    def digest(self) -> str:
        return digest("mitate.learnt", [self.words.digest if self.words else "", file_digest(self.lora) if self.lora else ""])

    @classmethod
    def of_fit(cls, folder: Path) -> Learnt:
        """What a fit of a text-to-image generator left in its folder."""
        words, lora = folder / WORDS, folder / LORA
        return cls(Words.read(words) if words.exists() else None, lora if lora.exists() else None)

    @classmethod
    def of_file(cls, path: Path, *, word: str) -> Learnt:
        """A safetensors file made elsewhere: a LoRA, or a word of textual inversion, which is called `word` here."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                names = list(file.keys())
        except (OSError, ValueError, SafetensorError) as wrong:
            raise DataError(f"{path} cannot be read ({wrong}).", fix="give a safetensors file of a LoRA or of textual inversion") from wrong
        if any(part in name for name in names for part in LORA_PARTS):
            return cls(lora=path)
        return cls(words=Words.read(path, word=word))

    @contextmanager
    def on(self, pipeline: Any) -> Iterator[Mapping[str, str]]:
        """Inside, the diffusers pipeline has it; gives how its words are written in a prompt."""
        with spoken(pipeline, self.words) as written:
            if self.lora is None:
                yield written
                return
            try:
                with quiet():
                    try:
                        pipeline.load_lora_weights(self.lora.parent, weight_name=self.lora.name, adapter_name="mitate")
                    except Exception as wrong:  # whatever the library raises at weights of another model
                        message = f"{self.lora} does not go on this model ({str(wrong).splitlines()[0]})."
                        raise DataError(message, fix="give the model it was learnt on") from wrong
                if not any("mitate" in names for names in pipeline.get_list_adapters().values()):
                    raise DataError(f"{self.lora} changes no part of this model.", fix="give the model it was learnt on")
                yield written
            finally:
                pipeline.unload_lora_weights()
