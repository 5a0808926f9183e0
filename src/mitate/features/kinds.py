"""The kinds of extractors: how each is made, and what it is good for.

A plug-in adds one with an entry point in the group `mitate.extractor`: a function of `variant` and `weights` that returns an Extractor.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.errors import MissingExtra, SettingError
from mitate.features.extractor import Extractor
from mitate.files import file_digest
from mitate.runtime import MITATE_SMALL, seed_of

if TYPE_CHECKING:
    from torch import nn

MOBILENET_SIDE = 128  # pixels: on images of 64, as good as 224 at a fifth of the time (docs/features.md)
DINO = "vit_small_patch14_dinov2.lvd142m"
DINO_SIDE = 224  # pixels; its own 518 takes six times as long and our images hold no more
INCEPTION = "inception_v3.tf_in1k"


def pixels(*, variant: str, weights: Path | None) -> Extractor:
    """Colours as they are: 16 x 16 averages in late, averages and deviations of colours and of their steps in early. No network.

    Brightness and contrast stay in, which fidelity must see; the copies gate takes them out (metrics/privacy.py).
    """
    _no_file("pixels", weights)

    def build() -> nn.Module:
        from mitate.features.networks import Pixels

        return Pixels()

    return Extractor("pixels", "", "", 64, "0 to 1", 1, 16 * 16 * 3, 18, 64, build)


def random(*, variant: str, weights: Path | None) -> Extractor:
    """The network of mitate-small with weights drawn once by a named seed: the control that says what learning adds."""
    _no_file("random", weights)
    drawn = _drawn(_small_shapes())
    content = hashlib.sha256(b"".join(name.encode() + values.tobytes() for name, values in sorted(drawn.items()))).hexdigest()

    def build() -> nn.Module:
        import torch

        from mitate.training.small_net import SmallNet

        net = SmallNet()
        net.load_state_dict({name: torch.from_numpy(values) for name, values in drawn.items()})
        return net

    return Extractor("random", "", content, 64, "-1 to 1", 1, 384, 128, 64, build)


def mitate_small(*, variant: str, weights: Path | None) -> Extractor:
    """Our own small network, shipped (src/mitate/weights/mitate-small.md says what it learnt from), or another file of that shape."""
    path = weights or MITATE_SMALL

    def build() -> nn.Module:
        from mitate.features.networks import load, read
        from mitate.training.small_net import SmallNet

        return load(SmallNet(), read(path), path)

    return Extractor("mitate-small", "", file_digest(path), 64, "-1 to 1", 1, 384, 128, 64, build, weights)


def mobilenet_v2(*, variant: str, weights: Path | None) -> Extractor:
    """MobileNetV2 from a local file (training/backbones.py has its layout): the embedding, and the 24 channels at a quarter of the size."""
    path = _file("mobilenet_v2", weights)

    def build() -> nn.Module:
        from mitate.features.networks import Tapped
        from mitate.training import backbones

        body: Any = backbones.mobilenet_v2(shape=(MOBILENET_SIDE, MOBILENET_SIDE, 3), n_classes=2, weights=path, frozen=True).body
        return Tapped(body, body.net.features[3])

    return Extractor("mobilenet_v2", "", file_digest(path), MOBILENET_SIDE, "-1 to 1", 1, 1280, 48, 32, build, path)


def resnet_cifar(*, variant: str, weights: Path | None) -> Extractor:
    """ResNet for 32 x 32 images from a local file: the embedding, and the 16 channels of the first stage."""
    path = _file("resnet_cifar", weights)

    def build() -> nn.Module:
        from mitate.features.networks import Tapped
        from mitate.training import backbones

        body: Any = backbones.resnet_cifar(shape=(32, 32, 3), n_classes=2, weights=path, frozen=True).body
        return Tapped(body, body.net.layer1)

    return Extractor("resnet_cifar", "", file_digest(path), 32, "0 to 1, minus ImageNet's mean, over its deviation", 1, 64, 32, 64, build, path)


def timm(*, variant: str, weights: Path | None) -> Extractor:
    """A network of timm: its pooled features, and the second of its intermediate layers."""
    return _timm("timm", variant, weights, size=None)


def dinov2_s14(*, variant: str, weights: Path | None) -> Extractor:
    """DINOv2 ViT-S/14 (Oquab et al. 2023) in timm's form, at 224 pixels: the best judge of look and content at these costs."""
    return _timm("dinov2-s14", DINO, weights, size=DINO_SIDE)


def inception(*, variant: str, weights: Path | None) -> Extractor:
    """Inception-v3 in timm's form. Not the 2015 graph of published FID values: use it among your own sets, never against a paper's table."""
    return _timm("inception", INCEPTION, weights, size=None)


def _timm(kind: str, network: str, weights: Path | None, *, size: int | None) -> Extractor:
    try:
        import timm as library
    except Exception as wrong:  # a torchvision that does not match torch raises RuntimeError while timm is imported
        raise MissingExtra.of(f"timm (import failed: {wrong})", "vision", f"The extractor {kind}") from wrong
    if not network or not library.is_model(network.partition(".")[0]):
        raise SettingError(f"timm has no network {network!r}.", fix="write timm:NETWORK, for instance timm:resnet18.a1_in1k")
    path = weights or _fetch(library, kind, network)
    from mitate.features.networks import intermediate

    net = intermediate(library, network, path, size)
    values = "0 to 1, minus {}, over {}".format(*(", ".join(f"{v:.6g}" for v in part) for part in (net.means, net.deviations)))
    return Extractor(kind, network if kind == "timm" else "", file_digest(path), net.size, values, 1, net.width, net.early_width, 8, lambda: net, path)


def _fetch(library: Any, kind: str, network: str) -> Path:
    """The safetensors file of a network on the hub, fetched once into the hub's own cache. Never a pickle."""
    config = library.models.get_pretrained_cfg(network)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        raise SettingError(f"timm knows no hub for the weights of {network}.", fix=f"give a file: {kind}:FILE.safetensors")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as wrong:  # no network, no such file, a hub that says no: its library has an error type for each
        why = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0]
        raise SettingError(f"The weights of {network} could not be fetched ({why}).", fix=f"try where there is a network, or give {kind}:FILE") from wrong


def _file(kind: str, weights: Path | None) -> Path:
    if weights is None:
        raise SettingError(f"The extractor {kind} needs a weights file.", fix=f"write {kind}:PATH.safetensors")
    return weights


def _no_file(kind: str, weights: Path | None) -> None:
    if weights is not None:
        raise SettingError(f"The extractor {kind} takes no weights file.", fix=f"write {kind} alone")


def _small_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of mitate-small's tensors, from the header of the shipped file."""
    from safetensors import safe_open

    with safe_open(MITATE_SMALL, framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Normal weights of variance 2 / inputs (He et al. 2015), no bias, float32; each tensor from a seed of its name."""
    found = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            rng = np.random.default_rng(seed_of("mitate.features", "random", 1, name))
            found[name] = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        else:
            found[name] = np.full(shape, 1.0 if name == "deviation" else 0.0, np.float32)
    return found
