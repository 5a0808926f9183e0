"""The lab's tokenizer: byte-level BPE with an end-of-word mark, in the format of CLIP's, learnt from the lab's captions until every word is one token.

Any other text falls apart into shorter pieces and, at worst, bytes; nothing is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mitate.lab.skills import training

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

LENGTH = 48  # tokens of a prompt, with its two marks
CAPTIONS = 6000
START, END = "<|startoftext|>", "<|endoftext|>"


def make(folder: Path) -> None:
    """Write a tokenizer that `CLIPTokenizer.from_pretrained(folder)` opens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learnt.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learnt.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(_words(), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=2, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False)
    learnt.train_from_iterator((training(i, seed=1, styled=0.4)[0].text for i in range(CAPTIONS)), trainer)
    merges = [tuple(m) for m in json.loads(learnt.to_str())["model"]["merges"]]
    tokens = [*sorted(letters), *(letter + "</w>" for letter in sorted(letters)), *("".join(m) for m in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    made = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, unk_token=END, bos_token=START, eos_token=END, pad_token=END)
    made.save_pretrained(folder)


def opened(work: Path) -> CLIPTokenizer:
    """The tokenizer in a folder of work, made first where it is not there."""
    from transformers import CLIPTokenizer

    if not (work / "tokenizer").exists():
        make(work / "tokenizer")
    return CLIPTokenizer.from_pretrained(work / "tokenizer")


def _words() -> object:
    from tokenizers import Regex

    return Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


if __name__ == "__main__":
    make(Path("runs/lab-models/tokenizer"))
