"""The lab's image-text model: a small CLIP, trained to tell which caption belongs to which drawing.

    python contrastive.py [--steps 4000] [--work runs/lab-models]            after text.py

Same drawings and captions as the captioner's; its text tower begins as the encoder of text.py. With a small weight it is read from the image tower's patches
what is where, as in eye.py: captions of a batch are told apart by colours and numbers long before shapes. Written as a folder that `CLIPModel` and
`CLIPProcessor` open.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import tokenizer
import torch
from captioner import WIDTH
from eye import OF_THING, truth
from loop import rows, train
from pairs import PAIRS, STYLED, described, kept
from text_to_image import reading
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer

from mitate.lab.skills import training

BATCH, READ, UNSEEN = 64, 0.1, 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=4000)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    words = tokenizer.opened(given.work)
    x, texts = kept(given.work / "described.npz", described)
    tokens = torch.tensor(words(texts, padding="max_length", truncation=True).input_ids)
    there, things, _ = truth([scene for _, scene in (training(i, seed=2, styled=2 * STYLED) for i in range(PAIRS))], ["flat"] * PAIRS)
    net = Both(words, CLIPTextModel.from_pretrained(given.work / "text-encoder"))

    def loss(step: int) -> Tensor:
        some = rows(len(x) - UNSEEN, BATCH, step)
        pixels = torch.from_numpy(x[some.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        longest = int((tokens[some] != words.eos_token_id).sum(1).max()) + 1
        found = net.clip(input_ids=tokens[some, :longest], pixel_values=pixels, return_loss=True)
        seen = net.head(found.vision_model_output.last_hidden_state[:, 1:])
        return found.loss + READ * reading(seen, there[some], {name: values[some] for name, values in things.items()})

    mean = train(net, loss, steps=given.steps, lr=1e-3, folder=given.work / "contrastive-training", decay=0.998)
    judge(mean.clip, x[-UNSEEN:], tokens[-UNSEEN:])
    folder = given.work / "lab-clip"
    mean.clip.half().save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)


class Both(nn.Module):
    """The CLIP, and a head that reads from its patches what is where."""

    def __init__(self, words: CLIPTokenizer, text: CLIPTextModel) -> None:
        super().__init__()
        torch.manual_seed(0)
        tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
        marks = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
        said = {**tower, **marks, "vocab_size": len(words), "max_position_embeddings": tokenizer.LENGTH}
        self.clip = CLIPModel(CLIPConfig(text_config=said, vision_config={**tower, "image_size": 32, "patch_size": 4}, projection_dim=WIDTH))
        own = {name.removeprefix("text_model."): value for name, value in text.state_dict().items()}
        self.clip.text_model.load_state_dict(own)
        self.head = nn.Linear(WIDTH, 1 + sum(len(values) for values in OF_THING.values()))


@torch.no_grad()
def judge(clip: CLIPModel, x: np.ndarray, tokens: Tensor) -> None:
    """Print how often, of 100 captions, the right one lies nearest to an unseen drawing."""
    pixels = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = [
        clip(input_ids=t, pixel_values=p).logits_per_image.argmax(1) == torch.arange(100) for t, p in zip(tokens.split(100), pixels.split(100), strict=True)
    ]
    print(f"the right caption of 100: {float(torch.cat(found).float().mean()):.4f}")


if __name__ == "__main__":
    main()
