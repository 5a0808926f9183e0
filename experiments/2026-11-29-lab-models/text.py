"""The lab's text encoder, which learns to say what a prompt asks for before anything is painted.

    python text.py [--steps 2000] [--work runs/lab-models]
    python text.py --start start/text-encoder --steps 1200      goes on from an encoder; queries and what reads begin anew

CLIP's text transformer, 3 layers of 128. For each group of things in a prompt (their number, shape, colour, size, texture, place, how they stand to the other
group) and for the whole of it (relation, background, light, style) one query attends once to the encoder's last states, as a layer of a U-Net would, and the
values are read from there: what a word stands to is then written at the words themselves, and a painter need not find it out from pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tokenizer
import torch
from loop import rows, train
from pairs import STYLED, urging
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mitate.lab.captions import LOOKS, OPPOSITE, PLACES, Prompt
from mitate.lab.skills import training
from mitate.lab.world import BACKGROUNDS, COLOURS, LIGHTS, SHAPES, SIZES, TEXTURES

WIDTH, BATCH, PROMPTS, GROUPS, UNSEEN = 128, 64, 60_000, 3, 2000
OF_GROUP = {"count": (0, 1, 2, 3, 4), "shape": SHAPES, "colour": COLOURS, "size": tuple(SIZES), "texture": TEXTURES, "place": tuple(PLACES)} | {
    "stands": tuple(OPPOSITE)
}
OF_ALL = {"relation": tuple(OPPOSITE), "background": BACKGROUNDS, "light": tuple(LIGHTS), "style": ("flat", *LOOKS)}


def encoder(words: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.LENGTH,
            projection_dim=WIDTH,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )  # fmt: skip
    )


class Reader(nn.Module):
    """The encoder, and a query for each group and one for the whole."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.text = encoder(words)
        self.queries = nn.Parameter(0.1 * torch.randn(GROUPS + 1, WIDTH))
        self.look = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.of_group = nn.ModuleDict({name: nn.Linear(WIDTH, 1 + len(values)) for name, values in OF_GROUP.items()})
        self.of_all = nn.ModuleDict({name: nn.Linear(WIDTH, 1 + len(values)) for name, values in OF_ALL.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Scores of each value, the first of them: nothing is said. {name: [n, 3 or 1, 1 + values]}."""
        states = self.text(tokens).last_hidden_state
        seen, _ = self.look(self.queries.expand(len(tokens), -1, -1), states, states, need_weights=False)
        return {name: head(seen[:, :GROUPS]) for name, head in self.of_group.items()} | {name: head(seen[:, GROUPS:]) for name, head in self.of_all.items()}


def wanted(prompt: Prompt) -> dict[str, list[int]]:
    """What a prompt asks for, as numbers: 0 where nothing is said."""
    groups = [*prompt.groups, *[None] * (GROUPS - len(prompt.groups))]
    asked = {name: [getattr(g, name, None) for g in groups] for name in OF_GROUP if name != "stands"}
    asked["stands"] = [prompt.relation, OPPOSITE.get(prompt.relation or ""), None]  # each of two things by itself, so that its own words tell where it goes
    told = {name: [0 if value is None else 1 + OF_GROUP[name].index(value) for value in values] for name, values in asked.items()}
    return told | {name: [0 if getattr(prompt, name) is None else 1 + values.index(getattr(prompt, name))] for name, values in OF_ALL.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--start", type=Path)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    torch.set_num_threads(1)
    words = tokenizer.opened(given.work)
    asked = [(urging(10**6 + i) if i % 2 else training(i, seed=3, styled=STYLED))[0] for i in range(PROMPTS)]
    truth = {name: torch.tensor([wanted(p)[name] for p in asked]) for name in (*OF_GROUP, *OF_ALL)}
    tokens = torch.tensor(words([p.text for p in asked], padding="max_length", truncation=True).input_ids)
    reader = Reader(words)
    if given.start:
        reader.text = CLIPTextModel.from_pretrained(given.start, torch_dtype=torch.float32)

    def loss(step: int) -> Tensor:
        some = rows(PROMPTS - UNSEEN, BATCH, step)
        longest = int((tokens[some] != words.eos_token_id).sum(1).max()) + 1
        if step % 4 == 0:
            longest = tokenizer.LENGTH  # a painter sees the padding too
        scores = reader(tokens[some, :longest])
        return torch.stack([functional.cross_entropy(scores[name].flatten(0, 1), truth[name][some].flatten()) for name in scores]).sum()

    mean = train(reader, loss, steps=given.steps, lr=given.lr, folder=given.work / "text-training", decay=0.998)
    with torch.no_grad():
        scores = [mean(part) for part in tokens[-UNSEEN:].split(100)]
    right = {name: torch.cat([s[name] for s in scores]).argmax(-1) == truth[name][-UNSEEN:] for name in scores[0]}
    whole = torch.stack([ok.all(1) for ok in right.values()]).all(0)
    print({name: round(float(ok.float().mean()), 4) for name, ok in right.items()}, f"prompts wholly right: {float(whole.float().mean()):.4f}")
    mean.text.save_pretrained(given.work / "text-encoder")


if __name__ == "__main__":
    main()
