"""The lab's image-text model: two encoders, trained to tell which caption belongs to which drawing, near misses among them.

    python contrastive.py [--steps 3000] [--work runs/lab-models]            after text.py and eye.py

The eye of eye.py and the text encoder of text.py learn on together (CLIP's loss), on the drawings and captions of the captioner. Beside the other captions
of a batch an image is shown as many foils: the own caption of each drawing with one attribute changed (lab/foils.py), never one of what training leaves
out. Without them captions are told apart by colours and numbers, and shapes are hardly looked at. Written as a folder that AutoModel and AutoProcessor
open (VisionTextDualEncoderModel).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import tokenizer
import torch
from loop import rows, train
from pairs import PAIRS, STYLED, described, kept
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPTextModel, SwinModel, VisionTextDualEncoderConfig, VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

from mitate.lab.captions import SAYABLE, caption
from mitate.lab.foils import ATTRIBUTES, foil
from mitate.lab.skills import held_out, training
from mitate.lab.world import Scene

BATCH, UNSEEN, WIDTH = 48, 1000, 128


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    words = tokenizer.opened(given.work)
    x, texts = kept(given.work / "described.npz", described)
    told = [training(i, seed=2, styled=2 * STYLED) for i in range(PAIRS)]  # the scenes of these drawings
    wrong = [near_miss(scene, prompt.style, text) for (prompt, scene), text in zip(told, texts, strict=True)]
    tokens, foils = (torch.tensor(words(t, padding="max_length", truncation=True).input_ids) for t in (texts, wrong))
    net = both(given.work)

    def loss(step: int) -> Tensor:
        some = rows(len(x) - UNSEEN, BATCH, step)
        asked = torch.cat([tokens[some], foils[some]])
        longest = int((asked != words.eos_token_id).sum(1).max()) + 1
        found = net(input_ids=asked[:, :longest], pixel_values=pixels(x[some.numpy()]))
        of_image, own = found.logits_per_image, torch.arange(BATCH)  # [images, captions and foils]
        return (functional.cross_entropy(of_image, own) + functional.cross_entropy(of_image[:, :BATCH].T, own)) / 2

    mean = train(net, loss, steps=given.steps, lr=5e-4, folder=given.work / "contrastive-training", decay=0.998)
    judge(mean, x[-UNSEEN:], tokens[-UNSEEN:], foils[-UNSEEN:])
    folder = given.work / "lab-clip"
    mean.half().save_pretrained(folder)
    size = {"height": 32, "width": 32}
    eye = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    VisionTextDualEncoderProcessor(eye, words).save_pretrained(folder)


def both(work: Path) -> VisionTextDualEncoderModel:
    """The two encoders with fresh projections."""
    eye, text = SwinModel.from_pretrained(work / "eye", add_pooling_layer=True), CLIPTextModel.from_pretrained(work / "text-encoder")
    torch.manual_seed(0)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(eye.config, text.config, projection_dim=WIDTH)
    return VisionTextDualEncoderModel(config=config, vision_model=eye, text_model=text)


def near_miss(scene: Scene, style: str, text: str) -> str:
    """The caption of a foil, in the words of the scene's own."""
    chance = np.random.default_rng([scene.seed, 3])
    while True:
        other = foil(scene, ATTRIBUTES[int(chance.integers(len(ATTRIBUTES)))], chance)
        if other is not None and not held_out(other):
            told = caption(other, seed=scene.seed + 2, say=SAYABLE, style=style).text
            if told != text:
                return told


def pixels(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def judge(net: nn.Module, x: np.ndarray, tokens: Tensor, foils: Tensor) -> None:
    """Print how often the right caption lies nearest among 100, and how often nearer than its near miss, for unseen drawings."""
    best, nearer = [], []
    for some in torch.arange(len(x)).split(100):
        scores = net(input_ids=torch.cat([tokens[some], foils[some]]), pixel_values=pixels(x[some.numpy()])).logits_per_image
        best.append(scores[:, :100].argmax(1) == torch.arange(100))
        nearer.append(scores.diagonal() > scores[:, 100:].diagonal())
    print(f"the right caption of 100: {float(torch.cat(best).float().mean()):.4f}; nearer than its near miss: {float(torch.cat(nearer).float().mean()):.4f}")


if __name__ == "__main__":
    main()
