"""A frozen denoiser of any make as one thing: a way of noising, and which clean image it sees in a noisy one.

z = alpha x + sigma e, at levels from noisy to clean. Behind it: a diffusion generator that mitate fitted (flow matching), a diffusers folder with a
`UNet2DModel` (epsilon, v or x0 prediction, learned variance left out; pixels, or latents of its `vqvae`/`vae`), or a text-to-image pipeline of the Stable
Diffusion make, asked with one sentence. What works on this contract (crdi.py) works on all of them.

Levels are our own, explicit (level, next level) pairs: diffusers' schedulers take t - 1000 // steps for the next time, whatever the next listed time is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mitate.codec import resize
from mitate.errors import DataError, MissingExtra, SettingError
from mitate.files import file_digest
from mitate.generators import samplers
from mitate.generators.diffusion import Flow, clean_image
from mitate.generators.inversion import Denoising
from mitate.generators.pipelines import Pipeline
from mitate.generators.places import index_of
from mitate.generators.unet import UNet
from mitate.runtime import check_sizes, quiet, used
from mitate.settings import digest, parsed

PREDICTIONS = ("epsilon", "v_prediction", "sample")
INDEX, UNET = "model_index.json", "unet"
MOST_TIMES = 100_000  # that a schedule may have
MOST_SIDE = 4096  # pixels of an image of a folder


@dataclass(frozen=True)
class Levels:
    """`n` + 1 levels of noise: 0 is the noisiest, n is clean (alpha 1, sigma 0). time: what the network is told at levels 0 to n - 1."""

    time: tuple[float, ...]
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.time)

    def noised(self, x: Tensor, e: Tensor, level: int) -> Tensor:
        return self.alpha[level] * x + self.sigma[level] * e


class Denoiser(Protocol):
    """What crdi.py asks of a model. No weight of it changes."""

    shape: tuple[int, int, int]  # height, width, channels of its images
    n_classes: int  # that it can be told; 0 for none
    pixels: bool  # its maps are pixels in [-1, 1], so that what it sees may be cut off there

    def levels(self, n: int) -> Levels:
        """n steps from noise to clean."""
        ...

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        """The clean maps that it sees in z [n, c, h, w]; classes int64 [n], or n_classes for none. time: of all, or of each, float32 [n]."""
        ...

    def encode(self, x: np.ndarray) -> Tensor:
        """uint8 [n, height, width, channels] as float32 maps [n, c, h, w]."""
        ...

    def decode(self, maps: Tensor) -> np.ndarray:
        """And back."""
        ...

    @property
    def net(self) -> nn.Module:
        """The network whose weights fine-tuning changes, and CRDI does not."""
        ...


class OfFlow:
    """A fitted diffusion generator: alpha = t, sigma = 1 - t, with even levels (its own sampler crowds them where images are nearly clean)."""

    pixels = True

    def __init__(self, flow: Flow) -> None:
        self.flow, self.shape, self.n_classes = flow, flow.shape, flow.n_classes

    @property
    def net(self) -> nn.Module:
        return self.flow.net

    def widened(self, n: int) -> OfFlow:
        """The same with n classes of its own, each begun as no class: what fine-tuning tells apart."""
        net = UNet(replace(self.flow.net.settings, num_class_embeds=n + 1))
        none = self.flow.net.class_embedding.weight[-1:]
        net.load_state_dict({**self.flow.net.state_dict(), "class_embedding.weight": none.detach().repeat(n + 1, 1)})
        return OfFlow(Flow(net.requires_grad_(False), self.flow.packing, n, self.flow.kind))

    def levels(self, n: int) -> Levels:
        grid = samplers.times(n, 1.0)
        return Levels(tuple(grid[:-1]), tuple(grid), tuple(1 - t for t in grid))

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        t = time if isinstance(time, Tensor) else torch.full((len(z),), time)
        return clean_image(self.flow.net, z, t, classes)

    def encode(self, x: np.ndarray) -> Tensor:
        return self.flow.packing.pack(x)

    def decode(self, maps: Tensor) -> np.ndarray:
        return self.flow.packing.unpack(maps)


class OfFolder:
    """A diffusers folder whose `unet` is a `UNet2DModel`, of pixels or of latents."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, unconditional_index(folder)
        if self.index is None:
            raise DataError(f"{folder} holds no denoiser (a {INDEX} with a UNet2DModel).", fix="give a folder that diffusers saved from DDPM, DDIM or LDM")
        check_sizes(folder)
        schedule = _read(folder / "scheduler" / "scheduler_config.json")
        self.kind = str(schedule.get("prediction_type", "epsilon"))
        if self.kind not in PREDICTIONS:
            raise DataError(f"{folder} predicts {self.kind!r}, which is not known here.", fix=f"give one of {', '.join(PREDICTIONS)}")
        self.alphas = _alphas(schedule, where=folder)
        config = _read(folder / UNET / "config.json")
        if config.get("class_embed_type"):
            raise DataError(f"{folder} is told classes in a way that is not known here ({config['class_embed_type']}).", fix="give one with a table of classes")
        self.pixels = self._coder is None
        try:
            side = config["sample_size"]
            rows, columns = (side, side) if isinstance(side, int) else side
            self.maps, self.n_classes = int(config["in_channels"]), max(0, int(config.get("num_class_embeds") or 0) - 1)  # the last class is none
            self.halved = 1 if self.pixels else 2 ** (len(self._coder.config.block_out_channels) - 1)
            self.shape = (int(rows) * self.halved, int(columns) * self.halved, self.maps if self.pixels else int(self._coder.config.in_channels))
            if not (1 <= min(self.shape) and max(self.shape[:2]) <= MOST_SIDE and self.shape[2] in (1, 3)):
                raise ValueError(f"images of {self.shape}")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as wrong:
            told = f"{folder / UNET / 'config.json'} does not say what images it makes ({type(wrong).__name__}: {str(wrong)[:100]})."
            raise DataError(told, fix=f"save it again with diffusers; images have 1 or 3 channels and at most {MOST_SIDE} pixels a side") from wrong

    @cached_property
    def digest(self) -> str:
        """Name of its weights and configuration."""
        assert self.index is not None
        parts = [name for name in sorted(self.index) if (self.folder / name).is_dir()]
        files = [self.folder / INDEX, *(p for part in parts for p in sorted((self.folder / part).rglob("*")) if p.suffix in (".json", ".safetensors"))]
        return digest("mitate.denoiser", [[p.relative_to(self.folder).as_posix(), file_digest(p)] for p in files])

    @cached_property
    def net(self) -> nn.Module:
        return self._open("UNet2DModel", UNET)

    @cached_property
    def _coder(self) -> Any:
        assert self.index is not None
        for name in ("vqvae", "vae"):
            if name in self.index:
                return self._open(str(self.index[name][1]), name)
        return None

    def _open(self, kind: str, part: str) -> Any:
        try:
            with quiet():
                import diffusers
        except ImportError as wrong:
            raise MissingExtra.of("diffusers", "diffusion", "A denoiser of diffusers") from wrong
        if kind not in ("UNet2DModel", "VQModel", "AutoencoderKL"):
            raise DataError(f"{self.folder} holds a {kind}, which is not known here.", fix="give an autoencoder (VQModel, AutoencoderKL), or none")
        try:
            with quiet():
                net = getattr(diffusers, kind).from_pretrained(self.folder / part, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False)
        except Exception as wrong:  # whatever a damaged folder raises in the library that reads it
            told = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0][:400]
            raise DataError(f"{self.folder / part} cannot be opened ({told}).", fix="save it again, as safetensors") from wrong
        return net.requires_grad_(False).eval()

    def levels(self, n: int) -> Levels:
        return _levels(self.alphas, n)

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        t = time if isinstance(time, Tensor) else torch.full((len(z),), time)
        labels = {"class_labels": classes} if self.n_classes else {}
        with used(self.folder / UNET):
            seen = self.net(z, t, **labels).sample[:, : self.maps]  # what follows its maps is a learned variance
        return _clean(self.kind, z, seen, self.alphas[t.long()])

    @torch.no_grad()
    def encode(self, x: np.ndarray) -> Tensor:
        pixels = _signed(x, self.shape)
        if self._coder is None:
            return pixels
        found = self._coder.encode(pixels)
        z = found.latents if hasattr(found, "latents") else found.latent_dist.mean
        return z * getattr(self._coder.config, "scaling_factor", 1.0)

    @torch.no_grad()
    def decode(self, maps: Tensor) -> np.ndarray:
        if self._coder is not None:
            maps = self._coder.decode(maps / getattr(self._coder.config, "scaling_factor", 1.0)).sample
        return _bytes(maps)


class OfPipeline:
    """A text-to-image pipeline of the Stable Diffusion make, asked with one sentence for each class, and with "" for none; no classifier-free guidance."""

    pixels = False

    def __init__(self, pipeline: Pipeline, sentences: Sequence[str], *, own: bool = False) -> None:
        """own: on a copy of the network, which may then be trained; the pipeline is shared with whatever else uses it in this process."""
        self.pipeline, self.n_classes = pipeline, len(sentences)
        self.asking = Denoising(pipeline.loaded, size=pipeline.size)
        self.asking.unet = copy.deepcopy(self.asking.unet) if own else self.asking.unet
        self.shape = (pipeline.size, pipeline.size, 3)
        self.alphas = self.asking.noising.alphas_cumprod.double()
        self.told = self.asking.read([*sentences, ""])

    @property
    def net(self) -> nn.Module:
        return self.asking.unet

    def levels(self, n: int) -> Levels:
        return _levels(self.alphas, n)

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        t = (time if isinstance(time, Tensor) else torch.full((len(z),), time)).long()
        return _clean(self.asking.kind, z, self.asking.seen(z, t, self.told, classes), self.alphas[t])

    def encode(self, x: np.ndarray) -> Tensor:
        return self.asking.latents(x)

    @torch.no_grad()
    def decode(self, maps: Tensor) -> np.ndarray:
        vae = self.pipeline.loaded.vae
        z = maps.to(vae.device, vae.dtype) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return _bytes(vae.decode(z).sample.float().cpu())


def unconditional_index(folder: Path) -> dict[str, Any] | None:
    """What `model_index.json` names, where that is a `UNet2DModel`; None for other folders."""
    try:
        index = index_of(folder)
        return index if isinstance(index, dict) and index.get(UNET, [None, None])[1] == "UNet2DModel" else None
    except (DataError, TypeError, LookupError):
        return None


def _levels(alphas: Tensor, n: int) -> Levels:
    """n of the times that a model was trained at, from the noisiest to 0, as evenly as integers can be (the published respacing)."""
    if not 2 <= n <= len(alphas):
        raise SettingError(f"{n} steps cannot be taken over {len(alphas)} times.", fix=f"give 2 to {len(alphas)}")
    times = [round(i * (len(alphas) - 1) / (n - 1)) for i in range(n)][::-1]
    return Levels(
        tuple(float(t) for t in times), (*(float(alphas[t].sqrt()) for t in times), 1.0), (*(float((1 - alphas[t]).sqrt()) for t in times), 0.0)
    )  # fmt: skip


def _clean(kind: str, z: Tensor, seen: Tensor, alphas: Tensor) -> Tensor:
    """The clean maps behind a prediction of the noise, of v = alpha e - sigma x (Salimans & Ho 2022), or of themselves; alphas: alpha squared, [n]."""
    alpha, sigma = (v.sqrt().float().view(-1, 1, 1, 1) for v in (alphas, 1 - alphas))
    if kind == "epsilon":
        return (z - sigma * seen) / alpha
    return alpha * z - sigma * seen if kind == "v_prediction" else seen


def _alphas(schedule: dict[str, Any], *, where: Path) -> Tensor:
    """Cumulative products of 1 - beta, float64 [times], as a diffusers scheduler with these settings has them."""
    with quiet():
        from diffusers import DDPMScheduler
    try:
        if (times := int(schedule.get("num_train_timesteps", 1000))) > MOST_TIMES:
            raise ValueError(f"{times} times")
        found = DDPMScheduler.from_config({k: v for k, v in schedule.items() if not k.startswith("_")}).alphas_cumprod.double()
        if found.ndim != 1 or len(found) < 2 or not ((found >= 0) & (found <= 1)).all():
            raise ValueError("its signal is no share")
        return found
    except (NotImplementedError, TypeError, ValueError, OverflowError, RuntimeError, LookupError, AttributeError) as wrong:
        raise DataError(f"{where} has a noise schedule that is not known here ({wrong}).", fix="give a model of DDPM make") from wrong


def _read(file: Path) -> dict[str, Any]:
    try:
        found = parsed(file.read_text(encoding="utf-8"))
        return dict(found)
    except (OSError, ValueError, TypeError) as wrong:
        raise DataError(f"{file} cannot be read ({wrong}).", fix="copy the folder whole") from wrong


def _signed(x: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """uint8 [n, h, w, c] as float32 [n, c, height, width] in [-1, 1], at the model's size and channels."""
    if x.shape[1:] != shape:
        if shape[0] != shape[1]:
            raise DataError(f"The images are {x.shape[1:]}, the model's {shape}.", fix="give images of its size")
        x = np.stack([resize(image, shape[0], shape[2]) for image in x])
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _bytes(maps: Tensor) -> np.ndarray:
    """float [n, c, h, w] in [-1, 1] as uint8 [n, h, w, c]."""
    return ((maps.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
