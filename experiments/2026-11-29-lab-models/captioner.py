"""The lab's captioner: a small Swin transformer over patches of 2 px and a small text decoder, as transformers' VisionEncoderDecoderModel.

    python captioner.py [--steps 4000] [--work runs/lab-models]             after eye.py

It learns from drawings in every style, half of them noisy, and from captions that say all that can be said, in the grammar's many wordings, so that what
it leaves out is an error. Written as a folder that `AutoModelForImageTextToText` or `VisionEncoderDecoderModel` opens.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import tokenizer
import torch
from loop import rows, train
from pairs import described, kept
from torch import Tensor
from transformers import CLIPTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel, SwinModel, VisionEncoderDecoderModel, ViTImageProcessor

BATCH, WIDTH = 32, 128


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
    ends = (tokens == words.eos_token_id).cumsum(1)
    labels = torch.where(ends > 1, -100, tokens)[:, 1:]  # what follows the first end is not learnt
    net = new(words, SwinModel.from_pretrained(given.work / "eye", add_pooling_layer=False))

    def loss(step: int) -> Tensor:
        some = rows(len(x), BATCH, step)
        longest = int((labels[some] != -100).sum(1).max())
        pixels = torch.from_numpy(x[some.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        return net(pixel_values=pixels, decoder_input_ids=tokens[some, :longest], labels=labels[some, :longest]).loss

    mean = train(net, loss, steps=given.steps, lr=1e-3, folder=given.work / "captioner-training", decay=0.998)
    folder = given.work / "lab-captioner"
    mean.half().save_pretrained(folder)
    words.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)


def new(words: CLIPTokenizer, eye: SwinModel) -> VisionEncoderDecoderModel:
    torch.manual_seed(0)
    mouth = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(words),
            n_positions=tokenizer.LENGTH,
            n_embd=WIDTH,
            n_layer=3,
            n_head=4,
            add_cross_attention=True,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )  # fmt: skip
    )
    net = VisionEncoderDecoderModel(encoder=eye, decoder=mouth)
    net.config.decoder_start_token_id = words.bos_token_id
    net.config.pad_token_id, net.config.eos_token_id = words.pad_token_id, words.eos_token_id
    net.generation_config = GenerationConfig(
        max_length=tokenizer.LENGTH, decoder_start_token_id=words.bos_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    return net


if __name__ == "__main__":
    main()
