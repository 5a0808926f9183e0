"""The lab's text-to-image model: a Stable-Diffusion-class pipeline, small enough to be trained on one core.

    python text_to_image.py [--steps 16000] [--work runs/lab-models]

A U-Net over 8 x 8 x 16 latents, with cross-attention at both levels and the pooled text beside the time, learns to paint what the text encoder of text.py,
which stays as it is, makes of a caption: v is predicted, noise by the cosine schedule, a tenth of captions dropped for classifier-free guidance. Written as
a diffusers pipeline folder in float16.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import tokenizer
import torch
from autoencoder import CHANNELS, latents
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from loop import rows, train
from pairs import asked, kept
from text import WIDTH
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

BATCH, DROP = 32, 0.1
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def denoiser() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, mid_block_type=None, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH, attention_head_dim=4, norm_num_groups=8, addition_embed_type="text", addition_embed_type_num_heads=4,
    )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=16000)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--lr", type=float, default=1e-3)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(given.threads)
    words = tokenizer.opened(given.work)
    vae = AutoencoderKL.from_pretrained(given.work / "vae")
    x, texts = kept(given.work / "asked.npz", asked)
    z = latents(vae, x, given.work / "latents.npz")
    text = CLIPTextModel.from_pretrained(given.work / "text-encoder").eval()
    states, nothing = said(text, words, texts), said(text, words, [""])
    unet, noising = denoiser(), DDPMScheduler(**SCHEDULE)

    def loss(step: int) -> Tensor:
        chance = torch.Generator().manual_seed(step)
        some = rows(len(z), BATCH, step)
        clean, noise = z[some].float(), torch.randn(BATCH, CHANNELS, 8, 8, generator=chance)
        t = (torch.arange(BATCH) + torch.rand(BATCH, generator=chance)) / BATCH  # times spread evenly over a batch
        t = (t * 1000).long().clamp(0, 999)
        told = torch.where(torch.rand(BATCH, 1, 1, generator=chance) < DROP, nothing, states[some]).float()
        v = unet(noising.add_noise(clean, noise, t), t, told).sample
        return (v - noising.get_velocity(clean, noise, t)).square().mean()

    mean = train(unet, loss, steps=given.steps, lr=given.lr, folder=given.work / "text-to-image", decay=0.999)
    write(mean, text, vae, words, given.work / "lab")


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
