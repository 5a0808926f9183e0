"""The lab's autoencoder: 32 x 32 x 3 pixels to 16 x 16 x 8 latents and back, as diffusers' AutoencoderKL.

    python autoencoder.py [--steps 3000] [--work runs/lab-models]
    python autoencoder.py --decoder [--steps 4000] [--start start/vae-refined]
                                                          goes on with the decoder alone, so that latents, and what is trained on them, stay as they are;
                                                          half of its drawings are of mostly small things, whose corners are the first to be lost

    python autoencoder.py --judge start/vae               what is left of new drawings that are encoded and decoded, by the oracle

Loss: squared and absolute error, on things and beside them four times, and a little weight on latents being small and smooth. At the end the latents' mean
and overall spread are folded into the 1 x 1 convolutions beside them, so that the pipeline needs no scale. (Unit variance in every direction was tried:
directions that hold next to nothing then are as loud as the rest, and a denoiser spends itself on them.)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from loop import rows, train
from pairs import asked, kept, small
from torch import Tensor, nn
from torch.nn import functional

from mitate.lab.drawing import draw
from mitate.lab.oracle import read
from mitate.lab.questions import faithfulness
from mitate.lab.skills import training
from mitate.metrics.intervals import wilson

BATCH, KL, CHANNELS, SIDE = 16, 2e-5, 8, 16
SLACK = 0.05  # noise on latents (of unit variance) that the decoder learns to bear


def new() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(24, 48), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=8, sample_size=32,
        mid_block_add_attention=False, scaling_factor=1.0,
    )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--decoder", action="store_true")
    options.add_argument("--start", type=Path, help="with --decoder: the folder of the autoencoder to go on from (default: vae of --work)")
    options.add_argument("--judge", type=Path)
    options.add_argument("--work", type=Path, default=Path("runs/lab-models"))
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.judge:
        judge(given.judge)
        return
    x, _ = kept(given.work / "asked.npz", asked)
    if given.decoder:
        little, _ = kept(given.work / "small.npz", small)
        refine(given.work, [x, little], given.steps, given.start or given.work / "vae")
        return
    net = new()

    def loss(step: int) -> Tensor:
        given_x = torch.from_numpy(x[rows(len(x), BATCH, step).numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        noise = torch.Generator().manual_seed(step)
        posterior = net.encode(given_x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=noise)
        return error(net.decode(z).sample, given_x) + KL * posterior.kl().mean() / SIDE**2

    mean = train(net, loss, steps=given.steps, lr=2e-3, folder=given.work / "autoencoder", decay=0.999)
    fold(mean, torch.from_numpy(x[:4000]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    mean.save_pretrained(given.work / "vae")


@torch.no_grad()
def judge(folder: Path, scenes: int = 500) -> None:
    """Print the share of captions that new flat drawings still fulfil once they were encoded and decoded."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
    pairs = [training(i, seed=77) for i in range(scenes)]
    x = torch.from_numpy(np.stack([draw(scene) for _, scene in pairs])).permute(0, 3, 1, 2).float() / 127.5 - 1
    made = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in x.split(50)])
    images = ((made.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    found = faithfulness([prompt for prompt, _ in pairs], [read(image) for image in images])
    whole = wilson(sum(found.right), scenes)
    print(f"captions {found.prompts:.3f} ({whole.low:.3f} to {whole.high:.3f}), questions {found.questions:.3f}; by kind {found.kinds}")


def error(made: Tensor, clean: Tensor, *, more: float = 3.0) -> Tensor:
    """Squared and absolute error, `more` times added where a pixel differs from what surrounds it, or lies beside one that does."""
    ground = functional.avg_pool2d(clean, 13, 1, 6, count_include_pad=False)
    there = functional.max_pool2d(((clean - ground).abs().amax(1, keepdim=True) > 0.15).float(), 3, 1, 1)
    off = made - clean
    return ((1 + more * there) * (off.square() + 0.2 * off.abs())).mean()


def refine(work: Path, drawn: Sequence[np.ndarray], steps: int, start: Path) -> None:
    """Train the decoder on, on latents with a little noise, as a sampler leaves it. Each batch takes as many of every set that was drawn."""
    net = AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32)
    codes = [latents(net, x, work / f"latents{f'-{i}' * (i > 0)}.npz") for i, x in enumerate(drawn)]

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.post = net.decoder, net.post_quant_conv

    part = Decoder()

    def loss(step: int) -> Tensor:
        some = rows(len(drawn[0]), BATCH // len(drawn), step)
        clean = torch.cat([torch.from_numpy(x[some.numpy()]) for x in drawn]).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = torch.cat([code[some] for code in codes]).float()
        z = z + SLACK * torch.randn(z.shape, generator=torch.Generator().manual_seed(step))
        return error(part.decoder(part.post(z)), clean, more=9.0)

    mean = train(part, loss, steps=steps, lr=1e-3, folder=work / "decoder", decay=0.998)
    net.decoder.load_state_dict(mean.decoder.state_dict())
    net.post_quant_conv.load_state_dict(mean.post.state_dict())
    net.save_pretrained(work / "vae-refined")


@torch.no_grad()
def latents(vae: AutoencoderKL, x: np.ndarray, place: Path) -> Tensor:
    """float16 [n, CHANNELS, SIDE, SIDE], kept in a file."""
    if not place.exists():
        made = [vae.encode(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean for part in np.array_split(x, len(x) // 200)]
        np.savez(place, z=torch.cat(made).half().numpy())
    with np.load(place, allow_pickle=False) as data:
        return torch.from_numpy(data["z"])


@torch.no_grad()
def fold(net: AutoencoderKL, x: Tensor) -> None:
    """Centre and scale the latents, z' = (z - m) / s, folded into what follows the encoder and what precedes the decoder. s: one number."""
    z = torch.cat([net.encode(part).latent_dist.mean for part in x.split(250)])
    m = z.mean(dim=(0, 2, 3))
    s = float((z - m[None, :, None, None]).square().mean().sqrt())
    weight, bias = net.quant_conv.weight, net.quant_conv.bias
    weight[:CHANNELS], bias[:CHANNELS] = weight[:CHANNELS] / s, (bias[:CHANNELS] - m) / s
    bias[CHANNELS:] -= 2 * math.log(s)  # the logarithm of the variance
    net.post_quant_conv.bias += net.post_quant_conv.weight[:, :, 0, 0] @ m
    net.post_quant_conv.weight *= s


if __name__ == "__main__":
    main()
