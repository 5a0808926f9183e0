"""What an extractor runs: networks that return late and early features of float32 [b, 3, size, size] in 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mitate.errors import SettingError
from mitate.training.small_net import channel_statistics

EARLY_LAYER = 1  # the second of the layers that timm lists: the first stage of a convolutional network, the second block of a transformer


class Pixels(nn.Module):
    """16 x 16 averages; and averages and deviations of the colours and of their steps to the right and down."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        right, down = x[:, :, :, 1:] - x[:, :, :, :-1], x[:, :, 1:] - x[:, :, :-1]
        early = torch.cat([channel_statistics(part) for part in (x, right, down)], dim=1)
        return F.adaptive_avg_pool2d(x, 16).flatten(1), early


class Tapped(nn.Module):
    """A network whose answer is late; the output of its module `tap`, as channel statistics, is early."""

    def __init__(self, net: nn.Module, tap: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[Tensor] = []
        tap.register_forward_hook(lambda _module, _given, answer: self.seen.append(answer))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        late = self.net(x)
        return late, channel_statistics(self.seen.pop())


class Intermediate(nn.Module):
    """A timm network with its own colour normalisation."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Any, means: tuple[float, ...], deviations: tuple[float, ...], size: int) -> None:
        super().__init__()
        self.net, self.means, self.deviations, self.size = net, means, deviations, size
        self.register_buffer("shift", torch.tensor(means)[:, None, None])
        self.register_buffer("scale", torch.tensor(deviations)[:, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last, (early,) = self.net.forward_intermediates((x - self.shift) / self.scale, indices=[EARLY_LAYER], output_fmt="NCHW")
        return self.net.forward_head(last), channel_statistics(early)

    @torch.no_grad()
    def measure(self) -> Intermediate:
        """Take the widths from one pass."""
        late, early = self(torch.zeros(1, 3, self.size, self.size))
        self.width, self.early_width = late.shape[1], early.shape[1]
        return self


def intermediate(library: Any, network: str, path: Path, size: int | None) -> Intermediate:
    """A timm network with the weights of a local file, at `size` pixels or its own."""
    options = {"img_size": size} if size is not None else {}
    held = set(read(path))
    try:
        with torch.random.fork_rng(devices=[]):
            net = library.create_model(network, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(path)}, **options)
        if missing := [name for name in net.state_dict() if name not in held and not name.endswith("num_batches_tracked")]:
            raise ValueError(f"it has no tensor {missing[0]!r}")  # timm would leave it random
        config = library.data.resolve_data_config({}, model=net)
        return Intermediate(net.eval(), tuple(config["mean"]), tuple(config["std"]), size or int(config["input_size"][-1])).eval().measure()
    except (AttributeError, AssertionError, ValueError, RuntimeError, OSError) as wrong:
        why = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0]
        raise SettingError(f"{path} could not be loaded as {network} ({why}).", fix="name the network that the file was saved from") from wrong


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file, in float32."""
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except Exception as wrong:  # safetensors raises its own error type for what is no safetensors file
        raise SettingError(f"{path} is not a safetensors file that can be read ({wrong}).", fix="give a .safetensors file; pickles are not opened") from wrong


def load(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """`net` with these weights, every one of them."""
    try:
        net.load_state_dict(state)
    except RuntimeError as wrong:
        raise SettingError(f"{path} does not fit the network ({str(wrong).splitlines()[-1].strip()}).", fix="name the right extractor") from wrong
    return net
