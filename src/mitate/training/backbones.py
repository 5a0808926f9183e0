"""Downstream networks: a small residual network for tiny images, our own pretrained one, and others from local safetensors files.

Every network is a Classifier: `body` maps images (float [n, c, h, w], 0 to 1) to features, `head` maps features to logits. The
head can be drawn anew (bridged transfer) and the body can be frozen (then its features are computed once, for several augmented
views of each image).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mitate.errors import MissingExtra, SettingError
from mitate.runtime import MITATE_SMALL
from mitate.training.small_net import SIZE, WIDTH, SmallNet


class Classifier(nn.Module):
    """A body and a head. `frozen`: the body is never trained and stays in evaluation mode."""

    def __init__(self, body: nn.Module, width: int, n_classes: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, n_classes)
        self.frozen = frozen
        if frozen:
            body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def fresh_head(self) -> None:
        """Draw the head anew from the global random state."""
        self.head.reset_parameters()


# small ----------------------------------------------------------------------------------------------------------------


def small(*, shape: tuple[int, int, int], n_classes: int, weights: Path | None = None, frozen: bool = False) -> Classifier:
    """A residual network of about 0.2 million parameters for images of 8 to 128 pixels, drawn from the global random state.

    The first convolution strides so that the map is at most 16 x 16: on one core that is what lets tens of trainings fit into
    minutes.
    """
    if weights is not None or frozen:
        raise SettingError("The backbone small has no pretrained weights.", fix="use it plain, or name a pretrained backbone with its file")
    height, _, channels = shape
    stride = max(1, -(-height // 16))
    width = 32
    body = nn.Sequential(
        nn.Conv2d(channels, width, max(3, 2 * stride - 1), stride, max(3, 2 * stride - 1) // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        _Block(width, width, 1),
        _Block(width, 2 * width, 2),
        _Block(2 * width, 2 * width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return Classifier(_Normalised(body, (0.5,) * channels, (0.25,) * channels, None), 2 * width, n_classes)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if stride > 1 or inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _Normalised(nn.Module):
    """Images in 0 to 1 to what a network expects: colours, size, mean and deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], size: int | None) -> None:
        super().__init__()
        self.net = net
        self.size = size
        self.register_buffer("mean", torch.tensor(mean)[None, :, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[None, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1 and self.mean.shape[1] == 3:
            x = x.expand(-1, 3, -1, -1)
        if self.size is not None and x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=x.shape[-1] > self.size)
        x = (x - self.mean) / self.std
        return self.net(x.contiguous(memory_format=torch.channels_last))


# pretrained -----------------------------------------------------------------------------------------------------------


def mitate_small(*, shape: tuple[int, int, int], n_classes: int, weights: Path | None = None, frozen: bool = False) -> Classifier:
    """The network of the extractor mitate-small, which comes with the package (weights/mitate-small.md says what it learnt from); 384 features."""
    net = SmallNet()
    _load(net, _read(weights or MITATE_SMALL, "mitate-small", "stem.weight"))
    return Classifier(_Normalised(_Late(net), (0.0,) * 3, (1.0,) * 3, SIZE), WIDTH, n_classes, frozen=frozen)


class _Late(nn.Module):
    def __init__(self, net: SmallNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.late(self.net.maps(x))


def mobilenet_v2(*, shape: tuple[int, int, int], n_classes: int, weights: Path | None = None, frozen: bool = False) -> Classifier:
    """MobileNetV2 1.0 (Sandler et al. 2018) with torchvision's parameter names; 1,280 features.

    Images are scaled to a multiple of 32 pixels from 96 up to 224. Stride-2 convolutions pad right and below only, as the TensorFlow
    original does; the stock torchvision padding costs such weights about ten points.
    """
    state = _read(weights, "mobilenet_v2", "features.18.0.weight")
    net = _MobileNetV2()
    _load(net, {k: v for k, v in state.items() if k.startswith("features.")})
    size = min(224, max(96, -(-shape[0] // 32) * 32))
    return Classifier(_Normalised(net, (0.5,) * 3, (0.5,) * 3, size), 1280, n_classes, frozen=frozen)


class _MobileNetV2(nn.Module):
    PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # expand, out, repeat, stride

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, 32, 3, 2, 1)]
        inside = 32
        for expand, outside, repeat, stride in self.PLAN:
            for i in range(repeat):
                layers.append(_Inverted(inside, outside, stride if i == 0 else 1, expand))
                inside = outside
        layers.append(_conv_bn(inside, 1280, 1, 1, 1))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean(dim=(2, 3))


class _Inverted(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inside * expand
        layers: list[nn.Module] = [_conv_bn(inside, hidden, 1, 1, 1)] if expand > 1 else []
        layers += [_conv_bn(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, outside, 1, bias=False), nn.BatchNorm2d(outside)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _OneSided(nn.Conv2d):
    """A stride-2 convolution that pads one pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def _conv_bn(inside: int, outside: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    kind, padding = (_OneSided, 0) if stride == 2 else (nn.Conv2d, kernel // 2)
    return nn.Sequential(kind(inside, outside, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outside), nn.ReLU6())


def resnet_cifar(*, shape: tuple[int, int, int], n_classes: int, weights: Path | None = None, frozen: bool = False) -> Classifier:
    """ResNet for 32 x 32 images (He et al. 2016, section 4.2; 20, 32, 44 or 56 layers as the file says); 64 features."""
    state = _read(weights, "resnet_cifar", "layer3.0.conv1.weight")
    blocks = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("layer1."))
    net = _ResNetCifar(blocks)
    _load(net, {k: v for k, v in state.items() if not k.startswith("linear.")})
    return Classifier(_Normalised(net, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 32), 64, n_classes, frozen=frozen)


class _ResNetCifar(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for i, width in enumerate((16, 32, 64)):
            first = 16 if i == 0 else width // 2
            setattr(self, f"layer{i + 1}", nn.Sequential(*(_CifarBlock(first if j == 0 else width, width) for j in range(blocks))))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            assert isinstance(layer, nn.Module)
            x = layer(x)
        return x.mean(dim=(2, 3))


class _CifarBlock(nn.Module):
    """Basic block whose shortcut has no parameters: every second pixel, zero channels on both sides (option A)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.stride = 2 if inside != outside else 1
        self.conv1 = nn.Conv2d(inside, outside, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.pad = (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


def timm(*, shape: tuple[int, int, int], n_classes: int, weights: Path | None = None, frozen: bool = False, name: str = "resnet18") -> Classifier:
    """Any timm network by name; `weights` is a local safetensors file, without it timm fetches its own from the hub."""
    try:
        import timm as library
    except Exception as wrong:  # a torchvision that does not match torch raises RuntimeError while timm is imported
        raise MissingExtra.of(f"timm (import failed: {wrong})", "vision", f"The backbone timm:{name}") from wrong
    net = library.create_model(name, pretrained=weights is None, num_classes=0)
    if weights is not None:
        _load(net, {k: v for k, v in _read(weights, f"timm:{name}", "").items() if k in net.state_dict()})
    config = library.data.resolve_data_config({}, model=net)
    return Classifier(_Normalised(net, config["mean"], config["std"], config["input_size"][-1]), net.num_features, n_classes, frozen=frozen)


def _read(weights: Path | None, name: str, expected: str) -> Mapping[str, Tensor]:
    if weights is None:
        raise SettingError(f"The backbone {name} needs a weights file.", fix=f"write --backbone {name}:PATH.safetensors")
    try:
        state = load_file(weights)
    except Exception as wrong:  # safetensors raises its own error type for what is no safetensors file
        raise SettingError(
            f"{weights} is not a safetensors file that can be read ({wrong}).", fix="give a .safetensors file; pickles are not opened"
        ) from wrong
    if expected and expected not in state:
        raise SettingError(f"{weights} does not hold a {name}: it has no tensor {expected!r}.", fix="name the backbone that the file was saved from")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    missing, extra = net.load_state_dict(state, strict=False)
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or extra:
        odd = (missing + extra)[0]
        raise SettingError(f"The weights file does not fit the network ({odd!r}, {len(missing)} missing, {len(extra)} extra).", fix="name the right backbone")
