"""The lab's image-text model: a small CLIP, trained to tell which caption belongs to which drawing.

    python contrastive.py [--steps 4000] [--work runs/lab-models]

Same drawings and captions as the captioner's. Written as a folder that `CLIPModel` and `CLIPProcessor` open.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import tokenizer
import torch
from captioner import WIDTH
from loop import rows, train
from pairs import described, kept
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

BATCH = 128


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
    net = new(words)

    def loss(step: int) -> Tensor:
        some = rows(len(x), BATCH, step)
        pixels = torch.from_numpy(x[some.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        longest = int((tokens[some] != words.eos_token_id).sum(1).max()) + 1
        return net(input_ids=tokens[some, :longest], pixel_values=pixels, return_loss=True).loss

    mean = train(net, loss, steps=given.steps, lr=1e-3, folder=given.work / "contrastive-training", decay=0.998)
    folder = given.work / "lab-clip"
    mean.half().save_pretrained(folder)
    words.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)


def new(words: CLIPTokenizer) -> CLIPModel:
    torch.manual_seed(0)
    tower = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
    marks = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text = {**tower, **marks, "vocab_size": len(words), "max_position_embeddings": tokenizer.LENGTH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**tower, "image_size": 32, "patch_size": 4}, projection_dim=WIDTH))


if __name__ == "__main__":
    main()
