"""The captioner's eye, which learns to say what is where before it is asked for sentences.

    python eye.py [--steps 8000] [--work runs/lab-models]

A Swin transformer over patches of 2 px, whose last map has 8 x 8 positions. At each of them is read whether a thing's centre lies there, and its shape,
colour, size and texture; from the mean of all, ground, light and style. Captions alone teach an eye colours and numbers long before they teach it shapes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from loop import rows, train
from pairs import PAIRS, STYLED, described, kept
from torch import Tensor, nn
from torch.nn import functional
from transformers import SwinConfig, SwinModel

from mitate.lab.captions import LOOKS
from mitate.lab.skills import training
from mitate.lab.world import BACKGROUNDS, COLOURS, LIGHTS, SHAPES, SIZES, TEXTURES, Scene

WIDTH, SIDE, BATCH, UNSEEN = 96, 8, 32, 1000
OF_THING = {"shape": SHAPES, "colour": COLOURS, "size": tuple(SIZES), "texture": TEXTURES}
OF_ALL = {"background": BACKGROUNDS, "light": tuple(LIGHTS), "style": ("flat", *LOOKS)}


def eye() -> SwinModel:
    torch.manual_seed(0)
    seeing = SwinConfig(image_size=32, patch_size=2, embed_dim=WIDTH // 2, depths=[2, 4], num_heads=[3, 6], window_size=4, drop_path_rate=0.0)
    return SwinModel(seeing, add_pooling_layer=False)


class Looker(nn.Module):
    """The eye, and what is read from its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = eye()
        self.there = nn.Linear(WIDTH, 1)
        self.of_thing = nn.ModuleDict({name: nn.Linear(WIDTH, len(values)) for name, values in OF_THING.items()})
        self.of_all = nn.ModuleDict({name: nn.Linear(WIDTH, len(values)) for name, values in OF_ALL.items()})

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """x: [n, 3, 32, 32] in [-1, 1]. Scores: [n, 64], {name: [n, 64, values]}, {name: [n, values]}."""
        states = self.eye(x).last_hidden_state
        whole = states.mean(1)
        things, alls = ({name: head(s) for name, head in heads.items()} for heads, s in ((self.of_thing, states), (self.of_all, whole)))
        return self.there(states)[..., 0], things, alls


def truth(scenes: list[Scene], styles: list[str]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """there: bool [n, 64]; of things int64 [n, 64], -1 where there is none; of scenes int64 [n]."""
    there = torch.zeros(len(scenes), SIDE * SIDE, dtype=torch.bool)
    things = {name: torch.full((len(scenes), SIDE * SIDE), -1) for name in OF_THING}
    for i, scene in enumerate(scenes):
        for thing in scene.things:
            at = int(thing.y * SIDE) * SIDE + int(thing.x * SIDE)
            there[i, at] = True
            for name, values in OF_THING.items():
                things[name][i, at] = values.index(getattr(thing, name))
    alls = {name: torch.tensor([values.index(getattr(s, name)) for s in scenes]) for name, values in OF_ALL.items() if name != "style"}
    return there, things, alls | {"style": torch.tensor([OF_ALL["style"].index(s) for s in styles])}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=8000)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    torch.set_num_threads(1)
    x, _ = kept(given.work / "described.npz", described)
    told = [training(i, seed=2, styled=2 * STYLED) for i in range(PAIRS)]  # the scenes of these drawings
    there, things, alls = truth([scene for _, scene in told], [prompt.style for prompt, _ in told])
    looker = Looker()

    def pixels(some: np.ndarray) -> Tensor:
        return torch.from_numpy(some).permute(0, 3, 1, 2).float() / 127.5 - 1

    def loss(step: int) -> Tensor:
        some = rows(PAIRS - UNSEEN, BATCH, step)
        seen, of_thing, of_all = looker(pixels(x[some.numpy()]))
        parts = [4 * functional.binary_cross_entropy_with_logits(seen, there[some].float())]
        parts += [functional.cross_entropy(of_thing[name].flatten(0, 1), things[name][some].flatten(), ignore_index=-1) for name in OF_THING]
        parts += [functional.cross_entropy(of_all[name], alls[name][some]) for name in OF_ALL]
        return torch.stack(parts).sum()

    mean = train(looker, loss, steps=given.steps, lr=1e-3, folder=given.work / "eye-training", decay=0.998)
    judge(mean, x[-UNSEEN:], there[-UNSEEN:], {k: v[-UNSEEN:] for k, v in things.items()}, {k: v[-UNSEEN:] for k, v in alls.items()})
    mean.eye.save_pretrained(given.work / "eye")


@torch.no_grad()
def judge(looker: Looker, x: np.ndarray, there: Tensor, things: dict[str, Tensor], alls: dict[str, Tensor]) -> None:
    """Print how often each value is right on drawings that were not learnt from."""
    found = [looker(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1) for part in np.array_split(x, len(x) // 100)]
    seen = torch.cat([f[0] for f in found]) > 0
    told = {"places": float((seen == there).all(1).float().mean())}
    told |= {name: float((torch.cat([f[1][name] for f in found]).argmax(-1)[there] == things[name][there]).float().mean()) for name in OF_THING}
    told |= {name: float((torch.cat([f[2][name] for f in found]).argmax(-1) == alls[name]).float().mean()) for name in OF_ALL}
    print({name: round(share, 4) for name, share in told.items()})


if __name__ == "__main__":
    main()
