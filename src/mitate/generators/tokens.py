"""Learned words of a text-to-image pipeline: vectors that stand for a word that no tokenizer knows ("textual inversion", Gal et al. 2023).

words = Words({"<leaves>": (vectors,)})                  for every text encoder of the pipeline one array float32 [k, width]
with spoken(pipeline, words): ...                      the pipeline reads <leaves> in a prompt, as k tokens
words.write("leaves.safetensors")                      what `load_textual_inversion` of diffusers takes; `Words.read` reads that and others' files

The vectors are put in where the word stands, as the text encoder looks its tokens up; its table is not touched. While they are learnt they may be
tensors with a gradient.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from mitate.errors import DataError, SettingError
from mitate.settings import digest

A1111 = "emb_params"  # the name under which other programs keep the vectors of a file's only word
XL = ("clip_l", "clip_g")  # and of a pipeline with two encoders


@dataclass(frozen=True, eq=False)
class Words:
    """word -> its vectors, float32 [k, width], for each text encoder of the pipeline in turn."""

    vectors: Mapping[str, tuple[np.ndarray, ...]]

    @property
    def digest(self) -> str:
        import hashlib

        sums = {w: [[list(v.shape), hashlib.sha256(np.ascontiguousarray(v, np.float32).tobytes()).hexdigest()] for v in vs] for w, vs in self.vectors.items()}
        return digest("mitate.words", sums)

    def write(self, path: Path) -> None:
        """One word: a file that `load_textual_inversion` takes (two encoders: clip_l and clip_g, to be loaded one after the other)."""
        tensors: dict[str, np.ndarray] = {}
        for word, vectors in self.vectors.items():
            if len(vectors) > len(XL):
                raise SettingError(f"{word} has vectors for {len(vectors)} text encoders; such a file holds two.", fix="keep it in the store (--as NAME)")
            names = (word,) if len(vectors) == 1 else tuple(name if len(self.vectors) == 1 else f"{word}.{name}" for name in XL)
            tensors |= {name: np.ascontiguousarray(v, np.float32) for name, v in zip(names, vectors, strict=True)}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata={"words": " ".join(self.vectors)})

    @classmethod
    def read(cls, path: Path, *, word: str = "") -> Words:
        """The words of a textual-inversion file. word: what a file's only word is called here (default: as in the file, or <its file name>)."""
        try:
            with safe_open(path, "np") as file:
                ours = (file.metadata() or {}).get("words", "").split()
            found = {name: np.atleast_2d(v).astype(np.float32) for name, v in load_file(path).items()}
        except (OSError, ValueError, TypeError, SafetensorError) as wrong:
            raise DataError(f"{path} cannot be read as learned words ({wrong}).", fix="give a safetensors file of textual inversion") from wrong
        if not found or any(v.ndim != 2 or not np.isfinite(v).all() for v in found.values()):
            raise DataError(f"{path} holds no vectors of words.", fix="give a safetensors file of textual inversion")
        own = ours[0] if len(ours) == 1 else f"<{path.stem}>"
        if set(found) == set(XL):
            return cls({word or own: tuple(found[name] for name in XL)})
        if len(found) == 1:
            ((name, vectors),) = found.items()
            return cls({word or (own if name == A1111 else name): (vectors,)})
        pairs = {name.removesuffix(".clip_l") for name in found if name.endswith(".clip_l")}
        if pairs and set(found) == {f"{name}.{part}" for name in pairs for part in XL}:
            return cls({name: tuple(found[f"{name}.{part}"] for part in XL) for name in sorted(pairs)})
        return cls({name: (vectors,) for name, vectors in found.items()})


def readers(pipeline: Any) -> list[tuple[str, Any, nn.Module]]:
    """The (attribute, tokenizer, text encoder) of a diffusers pipeline, in its order."""
    found = []
    for tail in ("", "_2", "_3"):
        tokenizer, encoder = getattr(pipeline, f"tokenizer{tail}", None), getattr(pipeline, f"text_encoder{tail}", None)
        if tokenizer is not None and encoder is not None:
            found.append((f"tokenizer{tail}", tokenizer, encoder))
    return found


@contextmanager
def spoken(pipeline: Any, words: Words | Mapping[str, Sequence[Tensor]] | None) -> Iterator[Mapping[str, str]]:
    """Inside, the pipeline knows the words. Gives what to write in a prompt for each: the word itself, or "w w_1 w_2" for several vectors.

    SettingError where a word is known already, or has vectors of another width than the encoder's.
    """
    if words is None:
        yield {}
        return
    given = words.vectors if isinstance(words, Words) else words
    vectors = {word: [torch.as_tensor(v) for v in parts] for word, parts in given.items()}
    parts = readers(pipeline)
    kept, hooks = {name: tokenizer for name, tokenizer, _ in parts}, []
    written = {word: [word, *(f"{word}_{i}" for i in range(1, len(found[0])))] for word, found in vectors.items()}
    try:
        for at, (name, tokenizer, encoder) in enumerate(parts):
            mine = {word: _of_encoder(word, found, at, len(parts), encoder) for word, found in vectors.items()}
            longer = copy.deepcopy(tokenizer)
            known = longer.get_vocab()
            for word in mine:
                if any(text in known for text in written[word]) or longer.add_tokens(written[word]) != len(written[word]):
                    raise SettingError(f"The model knows the word {word!r} already.", fix="give the learned word another name, like <leaves>")
            ids = {int(longer.convert_tokens_to_ids(text)): mine[word][i] for word, texts in written.items() for i, text in enumerate(texts)}
            hooks += _hooks(encoder.get_input_embeddings(), ids)  # type: ignore[operator]
            setattr(pipeline, name, longer)
        itself = hasattr(pipeline, "maybe_convert_prompt")  # writes a word's further tokens by itself
        yield {word: word if itself else " ".join(texts) for word, texts in written.items()}
    finally:
        for name, tokenizer in kept.items():
            setattr(pipeline, name, tokenizer)
        for hook in hooks:
            hook.remove()


def said(prompt: str, written: Mapping[str, str]) -> str:
    """The prompt with each learned word as `spoken` told to write it, the longest first: one may begin with another."""
    words = sorted(written, key=len, reverse=True)
    return re.sub("|".join(re.escape(word) for word in words), lambda found: written[found.group()], prompt) if words else prompt


def start_vectors(pipeline: Any, *, word: str, k: int) -> list[Tensor]:
    """What k new vectors begin as, for each encoder: the mean vector of a plain word's tokens, and for those after the first a little off it."""
    found = []
    for _, tokenizer, encoder in readers(pipeline):
        table = encoder.get_input_embeddings().weight.detach().float()  # type: ignore[operator]
        if not (ids := tokenizer(word, add_special_tokens=False).input_ids):
            raise SettingError(f"The word {word!r} that vectors shall begin as has no token.", fix="give a plain word, like photo")
        middle = table[ids].mean(0)
        spread = 0.1 * table.std() * torch.randn(k, table.shape[1], generator=torch.Generator().manual_seed(0))
        spread[0] = 0
        found.append(middle + spread)
    return found


def _of_encoder(word: str, vectors: Sequence[Tensor], at: int, encoders: int, encoder: nn.Module) -> Tensor:
    width = encoder.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    if len(vectors) != encoders or vectors[at].shape[1] != width:
        had, needs = " and ".join(str(v.shape[1]) for v in vectors), f"{encoders} text encoder{'s' * (encoders > 1)}, here of width {width}"
        raise SettingError(f"The word {word} has vectors of width {had}; the model has {needs}.", fix="use it with the model it was learnt on")
    return vectors[at]


def _hooks(table: nn.Module, vectors: Mapping[int, Tensor]) -> list[Any]:
    """Hooks on an embedding that put `vectors` in where its input has their ids."""
    asked: list[Tensor] = []
    most = len(table.weight) - 1  # type: ignore[arg-type]

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        asked[:] = [args[0]]
        return (args[0].clamp(max=most), *args[1:])

    def after(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        for i, vector in vectors.items():
            out = torch.where((asked[0] == i)[..., None], vector.to(out), out)
        return out

    return [table.register_forward_pre_hook(before), table.register_forward_hook(after)]
