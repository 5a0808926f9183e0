"""The lab's text-to-image model: a Stable-Diffusion-class pipeline, small enough to be trained on one core.

    python text_to_image.py [--steps 30000] [--start start/painter.safetensors] [--work runs/lab-models]
    python text_to_image.py --start FILE --first 30000 --lr 4e-4 --steps 6500      a further round: a schedule of its own, batches from 30,000 on
    torchrun --nproc-per-node 2 text_to_image.py ...      two processes that share gradients

A batch is of two kinds of pairs: --urged of it of `urged`, which say where things are and how they stand to each other far more often than chance does.

A U-Net over 16 x 16 x 8 latents, with cross-attention at its maps of 8 and 4 and the pooled text beside the time, learns to paint what the text encoder
of text.py, which stays as it is, makes of a caption: v is predicted, noise by the cosine schedule, a tenth of captions dropped for classifier-free guidance.
Written as a diffusers pipeline folder in float16.

Two things help it to shapes. Errors count three times at and beside things. And from a map inside the U-Net it is read what is where (eye.py has the same
questions), with a small weight: as representation alignment does it with a large model's features (Yu et al. 2024, arXiv 2410.06940), with the world's truth
in their place. The head that reads is thrown away.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import tokenizer
import torch
from autoencoder import CHANNELS, SIDE, latents
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from eye import OF_THING, truth
from eye import SIDE as PLACES
from loop import rows, together, train
from pairs import PAIRS, STYLED, asked, kept, urged, urging
from text import WIDTH
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from mitate.lab.captions import RELATIONS
from mitate.lab.skills import training

BATCH, DROP, READ, WIDTHS = 16, 0.1, 0.05, (40, 80, 128)
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def denoiser() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=WIDTHS, layers_per_block=1, mid_block_type=None,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2), up_block_types=(*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=8, addition_embed_type="text", addition_embed_type_num_heads=4,
    )  # fmt: skip


class Painter(nn.Module):
    """The U-Net, and a head that reads what is where from one of its last maps."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        torch.manual_seed(1)
        self.head = nn.Linear(WIDTHS[1], 1 + sum(len(values) for values in OF_THING.values()))

    def forward(self, z: Tensor, t: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """v [n, CHANNELS, SIDE, SIDE], and scores [n, 64, 1 + values]."""
        kept: list[Tensor] = []
        hook = self.unet.up_blocks[1].register_forward_hook(lambda block, given, out: kept.append(out))
        try:
            v = self.unet(z, t, states).sample
        finally:
            hook.remove()
        return v, self.head(functional.avg_pool2d(kept[0], SIDE // PLACES).flatten(2).transpose(1, 2))


def reading(seen: Tensor, there: Tensor, things: dict[str, Tensor]) -> Tensor:
    """The error of what is read: whether a thing lies at each place, and which."""
    parts = [4 * functional.binary_cross_entropy_with_logits(seen[..., 0], there.float())]
    at = 1
    for name, values in OF_THING.items():
        parts.append(functional.cross_entropy(seen[..., at : at + len(values)].flatten(0, 1), things[name].flatten(), ignore_index=-1))
        at += len(values)
    return torch.stack(parts).sum()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=30000)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--start", type=Path)
    options.add_argument("--first", type=int, default=0, help="the batch that the first step takes; above 0 the schedule begins anew")
    options.add_argument("--urged", type=int, default=12, help="so many of a batch are pairs of `urged`")
    options.add_argument("--alone", type=int, default=0, help="so many of a batch are drawings of one thing, beside those that come anyway")
    options.add_argument("--pairs", type=int, default=0, help="so many are of two things whose caption says nothing of how they stand, beside those")
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(given.threads)
    words = tokenizer.opened(given.work)
    vae = AutoencoderKL.from_pretrained(given.work / "vae")
    text = CLIPTextModel.from_pretrained(given.work / "text-encoder", torch_dtype=torch.float32).eval()
    rank, processes = together()
    if rank:
        distributed.barrier()  # the first process makes what all read
    x, texts = kept(given.work / "asked.npz", asked)
    others, told = kept(given.work / "urged.npz", urged)
    z = torch.cat([latents(vae, x, given.work / "latents.npz"), latents(vae, others, given.work / "latents-urged.npz")])
    states, nothing = read(given.work / "states.npy", text, words, texts + told), said(text, words, [""])
    there, things = places(given.work / "places.npz")
    if rank == 0 and processes > 1:
        distributed.barrier()
    noising = DDPMScheduler(**SCHEDULE)

    near = functional.max_pool2d(there.float().view(-1, 1, PLACES, PLACES), 3, 1, 1)  # at things and beside them
    near = functional.interpolate(near, scale_factor=SIDE // PLACES)
    alone = there.sum(1).eq(1).nonzero()[:, 0]
    phrases = [f" {phrase} " for words_of in RELATIONS.values() for phrase in words_of]
    silent = torch.tensor([" and " in text and not any(phrase in text for phrase in phrases) for text in texts + told])
    apart = (there.sum(1).eq(2) & silent).nonzero()[:, 0]
    painter = Painter(denoiser())

    def loss(step: int) -> Tensor:
        step += given.first
        chance = torch.Generator().manual_seed(step)
        some = torch.cat([rows(PAIRS, BATCH - given.urged, step), PAIRS + rows(PAIRS, given.urged, step)])
        some = some[torch.randperm(BATCH, generator=chance)]  # both kinds at all times
        for more, of_them in ((given.alone, alone), (given.pairs, apart)):
            if more:
                some = torch.cat([some[more:], of_them[rows(len(of_them), more, step)]])[torch.randperm(BATCH, generator=chance)]
        clean, noise = z[some].float(), torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=chance)
        t = (torch.arange(BATCH) + torch.rand(BATCH, generator=chance)) / BATCH  # times spread evenly over a batch
        t = (t * 1000).long().clamp(0, 999)
        told = torch.where(torch.rand(BATCH, 1, 1, generator=chance) < DROP, nothing, states[some]).float()
        v, seen = painter(noising.add_noise(clean, noise, t), t, told)
        weight = 1 + 2 * near[some]
        error = (weight * (v - noising.get_velocity(clean, noise, t)).square()).mean() / weight.mean()
        return error + READ * reading(seen, there[some], {name: values[some].long() for name, values in things.items()})

    folder = given.work / ("text-to-image" + f"-{given.first}" * (given.first > 0))
    mean = train(painter, loss, steps=given.steps, lr=given.lr, folder=folder, decay=0.999, start=given.start, anew=given.first > 0)
    if rank == 0:
        write(mean.unet, text, vae, words, given.work / "lab")


def read(place: Path, text: CLIPTextModel, words: CLIPTokenizer, texts: list[str]) -> Tensor:
    """What the encoder makes of all texts (`said`), kept in a file that processes share. Delete it when the encoder has changed."""
    if not place.exists():
        np.save(place.with_suffix(".tmp.npy"), said(text, words, texts).numpy())
        place.with_suffix(".tmp.npy").rename(place)
    return torch.from_numpy(np.load(place, mmap_mode="c"))


def places(place: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """What is where in every drawing of `asked` and then of `urged`, as eye.truth has it, kept in a file."""
    if not place.exists():
        scenes = [training(i, seed=0, styled=STYLED)[1] for i in range(PAIRS)] + [urging(i)[1] for i in range(PAIRS)]
        there, things, _ = truth(scenes, ["flat"] * len(scenes))
        np.savez(place.with_suffix(".tmp.npz"), there=there.numpy(), **{name: values.numpy().astype(np.int8) for name, values in things.items()})
        place.with_suffix(".tmp.npz").rename(place)
    with np.load(place, allow_pickle=False) as data:
        return torch.from_numpy(data["there"]), {name: torch.from_numpy(data[name]) for name in data.files if name != "there"}


@torch.no_grad()
def said(text: CLIPTextModel, words: CLIPTokenizer, texts: list[str]) -> Tensor:
    """The encoder's last states of some texts, float16 [n, tokenizer.LENGTH, WIDTH]."""
    tokens = torch.tensor(words(texts, padding="max_length", truncation=True).input_ids)
    return torch.cat([text(part).last_hidden_state.half() for part in tokens.split(250)])


def write(unet: UNet2DConditionModel, text: CLIPTextModel, vae: AutoencoderKL, words: CLIPTokenizer, folder: Path) -> None:
    """The pipeline as a folder of float16 weights."""
    scheduler = DPMSolverMultistepScheduler(**SCHEDULE, timestep_spacing="trailing", lambda_min_clipped=-5.1)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    main()
