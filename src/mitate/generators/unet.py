"""A small class-conditional U-Net whose settings and tensor names are a subset of diffusers' `UNet2DModel`.

Written without diffusers: its folder (`config.json`, `diffusion_pytorch_model.safetensors`) opens with
`UNet2DModel.from_pretrained`, and a test compares the outputs. Residual blocks after Ho et al. 2020 (DDPM); attention only in the
middle, where the map is 7 x 7 or 8 x 8 and costs nothing.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class UNetSettings:
    """Shape of the network; every name is diffusers' own."""

    sample_size: tuple[int, int]  # rows, columns of the map
    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    num_class_embeds: int  # classes + 1, the last of them is "no class"
    norm_num_groups: int
    attention_head_dim: int
    add_attention: bool  # in the middle block

    def config(self) -> dict[str, Any]:
        """The mapping that `UNet2DModel.from_config` takes."""
        depth = len(self.block_out_channels)
        fixed = {
            "_class_name": "UNet2DModel",
            "act_fn": "silu",
            "down_block_types": ["DownBlock2D"] * depth,
            "up_block_types": ["UpBlock2D"] * depth,
            "time_embedding_type": "positional",
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "norm_eps": 1e-5,
            "resnet_time_scale_shift": "default",
        }
        return {k: list(v) if isinstance(v, tuple) else v for k, v in {**asdict(self), **fixed}.items()}

    @classmethod
    def of(cls, config: dict[str, Any]) -> UNetSettings:
        """The settings in such a mapping."""
        values: dict[str, Any] = {name: config[name] for name in cls.__dataclass_fields__}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)


class UNet(nn.Module):
    """Float maps [n, in_channels, rows, columns], times [n] in 0 to 1000 and classes [n] to maps [n, out_channels, rows, columns]."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        widths, groups = settings.block_out_channels, settings.norm_num_groups
        self.settings = settings
        features = 4 * widths[0]
        self.conv_in = nn.Conv2d(settings.in_channels, widths[0], 3, padding=1)
        self.time_embedding = _TimeEmbedding(widths[0], features)
        self.class_embedding = nn.Embedding(settings.num_class_embeds, features)
        skips = [widths[0]]
        down, before = [], widths[0]
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            down.append(_Down(before, width, features, groups, settings.layers_per_block, halve=not last))
            skips += [width] * (settings.layers_per_block + (not last))
            before = width
        self.down_blocks = nn.ModuleList(down)
        self.mid_block = _Middle(before, features, groups, settings.attention_head_dim if settings.add_attention else 0)
        up = []
        for level, width in reversed(list(enumerate(widths))):
            taken = [skips.pop() for _ in range(settings.layers_per_block + 1)]
            up.append(_Up(before, taken, width, features, groups, double=level > 0))
            before = width
        self.up_blocks = nn.ModuleList(up)
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], settings.out_channels, 3, padding=1)

    def forward(self, maps: Tensor, times: Tensor, classes: Tensor) -> Tensor:
        hidden = self.conv_in(maps)
        condition = F.silu(self.time_embedding(_waves(times, self.settings.block_out_channels[0])) + self.class_embedding(classes))
        skips = [hidden]
        for down in self.down_blocks:
            hidden, made = down(hidden, condition)
            skips += made
        hidden = self.mid_block(hidden, condition)
        for up in self.up_blocks:
            hidden = up(hidden, skips, condition)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))

    def save(self, folder: Path) -> None:
        """Write config and weights as diffusers names them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.settings.config(), indent=2, sort_keys=True) + "\n")
        save_file({k: v.detach().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def open(cls, folder: Path) -> UNet:
        """The network in `folder`."""
        with torch.random.fork_rng(devices=[]):  # a new network draws its weights, to be written over
            net = cls(UNetSettings.of(json.loads((folder / CONFIG).read_text())))
        net.load_state_dict(load_file(folder / WEIGHTS))
        return net


def _waves(times: Tensor, width: int) -> Tensor:
    """Cosines and sines of `times` at width / 2 frequencies from 1 to 1 / 10,000."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=times.device) / half)
    angles = times.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, features)
        self.linear_2 = nn.Linear(features, features)

    def forward(self, waves: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(waves)))


class _Residual(nn.Module):
    """Two normalised convolutions beside a shortcut; the condition is added between them. It comes with its SiLU applied."""

    def __init__(self, before: int, width: int, features: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=1e-5)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(features, width)
        self.norm2 = nn.GroupNorm(groups, width, eps=1e-5)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(hidden))) + self.time_emb_proj(condition)[:, :, None, None]
        return self.conv_shortcut(hidden) + self.conv2(F.silu(self.norm2(inner)))


class _Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(hidden)


class _Double(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class _Down(nn.Module):
    def __init__(self, before: int, width: int, features: int, groups: int, layers: int, *, halve: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Residual(before if i == 0 else width, width, features, groups) for i in range(layers))
        self.downsamplers = nn.ModuleList([_Halve(width)] if halve else [])

    def forward(self, hidden: Tensor, condition: Tensor) -> tuple[Tensor, list[Tensor]]:
        made = []
        for block in self.resnets:
            hidden = block(hidden, condition)
            made.append(hidden)
        for halve in self.downsamplers:
            hidden = halve(hidden)
            made.append(hidden)
        return hidden, made


class _Up(nn.Module):
    def __init__(self, before: int, skips: list[int], width: int, features: int, groups: int, *, double: bool) -> None:
        super().__init__()
        inner = [before] + [width] * (len(skips) - 1)
        self.resnets = nn.ModuleList(_Residual(i + s, width, features, groups) for i, s in zip(inner, skips, strict=True))
        self.upsamplers = nn.ModuleList([_Double(width)] if double else [])

    def forward(self, hidden: Tensor, skips: list[Tensor], condition: Tensor) -> Tensor:
        for block in self.resnets:
            hidden = block(torch.cat([hidden, skips.pop()], dim=1), condition)
        for double in self.upsamplers:
            hidden = double(hidden)
        return hidden


class _Middle(nn.Module):
    def __init__(self, width: int, features: int, groups: int, head: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Residual(width, width, features, groups) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(width, groups, head)] if head else [])

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        first, second = self.resnets
        hidden = first(hidden, condition)
        for attention in self.attentions:
            hidden = attention(hidden)
        return second(hidden, condition)


class _Attention(nn.Module):
    def __init__(self, width: int, groups: int, head: int) -> None:
        super().__init__()
        self.heads = max(1, width // head)
        self.group_norm = nn.GroupNorm(groups, width, eps=1e-5)
        self.to_q, self.to_k, self.to_v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, hidden: Tensor) -> Tensor:
        n, width, rows, columns = hidden.shape
        tokens = self.group_norm(hidden).flatten(2).transpose(1, 2)

        def split(projected: Tensor) -> Tensor:
            return projected.view(n, rows * columns, self.heads, width // self.heads).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(self.to_q(tokens)), split(self.to_k(tokens)), split(self.to_v(tokens)))
        out = self.to_out[0](mixed.transpose(1, 2).reshape(n, rows * columns, width))
        return hidden + out.transpose(1, 2).reshape(n, width, rows, columns)
