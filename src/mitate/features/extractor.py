"""An Extractor makes images comparable: pixels in, one row of numbers an image out. Two scores are compared only where its digest is the same.

The digest is of everything that changes the numbers: weights, size and filter of the resizing, range and layout of what the network is
given, and a version of the code. A row depends on its image alone: images pass in batches of one declared, padded size on one thread, so
neither the number of images nor an image's place among them changes a byte, and two copies of an image are at distance 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mitate import registry
from mitate.errors import DataError, SettingError
from mitate.runtime import torch_threads
from mitate.settings import digest, suggest

if TYPE_CHECKING:
    import torch

SIDES = (8, 256)  # pixels
CROP = "centre square"
RESIZE = "bicubic (a = -0.5) with antialias in float32, cut to 0 to 1"
LAYOUT = "RGB, channels first; grey is three equal channels"
DEFAULT = "mitate-small"
TENSORS = {  # what tells a file's kind
    "mitate-small": ("blocks.2.second.weight", "deviation"),
    "mobilenet_v2": ("features.18.0.weight", "features.18.1.running_var"),
    "resnet_cifar": ("layer3.0.conv1.weight", "layer3.0.bn1.running_var"),
}


@dataclass(frozen=True)
class Features:
    """Rows of one pass: late float32 [n, width], early float32 [n, early_width]."""

    late: np.ndarray
    early: np.ndarray


@dataclass(frozen=True)
class Extractor:
    """uint8 [n, h, w, c] to float32 [n, width]; h and w from 8 to 256, c = 1 (grey) or 3 (RGB)."""

    name: str  # its kind in the registry
    variant: str  # which of the kind, as timm's name of a network; "" where there is one only
    weights: str  # digest of the weights, "" where there are none
    size: int  # pixels the network is given
    values: str  # range of what the network is given
    version: int  # of the kind's code
    width: int
    early_width: int
    batch: int  # images a pass; the last is filled up with black ones
    build: Callable[[], torch.nn.Module] = field(repr=False, compare=False)  # float32 [b, 3, size, size], 0 to 1, to (late, early)
    file: Path | None = field(default=None, repr=False, compare=False)  # of the weights, where they are not shipped

    @cached_property
    def digest(self) -> str:
        """Name of all that changes the numbers."""
        asked = {"crop": CROP, "resize": RESIZE, "layout": LAYOUT}
        own = {key: getattr(self, key) for key in ("name", "variant", "weights", "size", "values", "version", "batch")}
        return digest("mitate.features", asked | own)

    @property
    def settings(self) -> dict[str, str]:
        """What a job keeps of it: `extractor_of` makes it again, or refuses."""
        return {"name": self.name, "variant": self.variant, "digest": self.digest}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Features of each image, float32 [n, width]."""
        return self.both(x).late

    def early(self, x: np.ndarray) -> np.ndarray:
        """Average and deviation of an early layer's channels, float32 [n, early_width]: the look of an image, not what is on it."""
        return self.both(x).early

    def both(self, x: np.ndarray) -> Features:
        """Late and early features of one pass. x may be a memory map: it is read a batch at a time."""
        check_images(x)
        late, early = np.empty((len(x), self.width), np.float32), np.empty((len(x), self.early_width), np.float32)
        for rows, found in self._passes(x):
            late[rows], early[rows] = (part.numpy()[: rows.stop - rows.start] for part in found)
        for part in (late, early):
            if not np.isfinite(part.sum(dtype=np.float64)):
                raise DataError(f"The extractor {self.name} gave numbers that are not finite.", fix="check its weights file")
        return Features(late, early)

    def _passes(self, x: np.ndarray) -> Iterator[tuple[slice, tuple[torch.Tensor, torch.Tensor]]]:
        import torch

        for start in range(0, len(x), self.batch):
            rows = slice(start, min(start + self.batch, len(x)))
            with torch_threads(), torch.no_grad():
                batch = torch.zeros(self.batch, 3, self.size, self.size)
                batch[: rows.stop - start] = as_input(x[rows], self.size)
                yield rows, self.net(batch.contiguous(memory_format=torch.channels_last))

    @cached_property
    def net(self) -> torch.nn.Module:
        """The network, in evaluation mode. Building it leaves the global random state as it was."""
        import torch

        with torch.random.fork_rng(devices=[]):
            return self.build().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def extractor(name: str = DEFAULT) -> Extractor:
    """The extractor that `name` asks for.

    `mitate-small` (shipped), `pixels`, `random`, `mobilenet_v2:FILE`, `resnet_cifar:FILE`, `timm:NETWORK[:FILE]`, `dinov2-s14[:FILE]`,
    `inception[:FILE]`, or the path of a safetensors file that one of ours was saved to. Without a file the last three fetch theirs from the
    hub, once; nothing else is ever fetched. What is wrong with a file is an error here.
    """
    kind, variant, path = _parse(name)
    if path is not None and not path.is_file():
        raise SettingError(f"There is no weights file {str(path)!r}.", fix="check the path")
    found = registry.find("extractor", kind)(variant=variant, weights=path)
    if path is not None:
        _ = found.net
    return found


def extractor_of(settings: Mapping[str, str], weights: Path | None) -> Extractor:
    """The extractor of a job's settings, with its stored weights file. SettingError where it is no longer the same."""
    found: Extractor = registry.find("extractor", settings["name"])(variant=settings["variant"], weights=weights)
    if found.digest != settings["digest"]:
        raise SettingError(f"The extractor {settings['name']} is not the one that was asked for: its weights or its code changed.", fix="ask again")
    return found


def _parse(name: str) -> tuple[str, str, Path | None]:
    """Kind, variant and file that a name stands for."""
    kind, _, rest = name.partition(":")
    if kind in registry.names("extractor"):
        variant = ""
        if kind == "timm":
            variant, _, rest = rest.partition(":")
        return kind, variant, Path(rest).expanduser() if rest else None
    path = Path(name).expanduser()
    if path.is_file():
        return _recognised(path), "", path
    if name.endswith(".safetensors") or "/" in name:
        raise SettingError(f"There is no weights file {name!r}.", fix="check the path")
    raise SettingError(f"There is no feature extractor {name!r}.", fix=suggest(kind, registry.names("extractor")))


def _recognised(path: Path) -> str:
    """The kind whose tensors a safetensors file holds."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            held = set(file.keys())
    except Exception as wrong:  # safetensors raises its own error type for what is no safetensors file
        raise SettingError(f"{path} is not a safetensors file that can be read ({wrong}).", fix="give a .safetensors file; pickles are not opened") from wrong
    for kind, tensors in TENSORS.items():
        if set(tensors) <= held:
            return kind
    raise SettingError(f"{path} holds no network that is known here.", fix=f"one of {', '.join(TENSORS)}, or name it: timm:NETWORK:{path.name}")


# images ---------------------------------------------------------------------------------------------------------------


def check_images(x: np.ndarray) -> None:
    """DataError for what is not uint8 [n, h, w, 1 or 3] with 8 to 256 pixels a side."""
    low, high = SIDES
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise DataError(f"The images are {x.dtype} {list(x.shape)}.", fix="give uint8 [n, h, w, 1 or 3]")
    if not all(low <= side <= high for side in x.shape[1:3]):
        raise DataError(f"The images are {x.shape[1]} x {x.shape[2]} pixels.", fix=f"give {low} to {high} pixels a side (--size)")


def as_input(x: np.ndarray, size: int) -> torch.Tensor:
    """uint8 [b, h, w, c] to float32 [b, 3, size, size], 0 to 1: centre square, antialiased bicubic."""
    import torch
    import torch.nn.functional as F

    side = min(x.shape[1:3])
    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
    square = x[:, top : top + side, left : left + side].copy()  # torch takes no read-only memory map
    image = torch.from_numpy(square).permute(0, 3, 1, 2).to(torch.float32) / 255
    if side != size:
        image = F.interpolate(image, (size, size), mode="bicubic", align_corners=False, antialias=True).clamp_(0, 1)
    return image.expand(-1, 3, -1, -1)
