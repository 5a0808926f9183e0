"""Is the flow's network faster with convolutions in bfloat16? A pass of 64 images and a training step of 32, one thread. One JSON line.

    python benchmarks/precision.py [--repeats 15] [--size 28]

`convolutions`: inputs and weights of each convolution are rounded to bfloat16, its output goes on in float32. `autocast`: torch's own choice. Medians of
processor seconds; the ways take turns. `off`: mean difference of the pass from float32, over the mean size of its output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mitate.generators.packing import Packing
from mitate.generators.unet import UNet, UNetSettings

FLOAT = nn.Conv2d.forward


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--repeats", type=int, default=15)
    asked.add_argument("--size", type=int, default=28, help="pixels a side: 28 grey, else colour")
    given = asked.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    packing = Packing.of((given.size, given.size, 1 if given.size == 28 else 3), side=16, multiple=2)
    net = UNet(UNetSettings((packing.rows, packing.columns), packing.planes, packing.planes, (32, 64), 1, 11, 8, 64, False))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    maps = torch.randn(64, packing.planes, packing.rows, packing.columns).contiguous(memory_format=torch.channels_last)
    t, classes = 1000 * torch.rand(64), torch.randint(0, 10, (64,))

    def draw() -> Tensor:
        with torch.inference_mode():
            return net(maps, t, classes)

    def step() -> None:
        net(maps[:32], t[:32], classes[:32]).square().mean().backward()

    calls: dict[str, Callable[[], object]] = {"pass": draw, "step": step}
    seconds: dict[tuple[str, str], list[float]] = {(way, name): [] for way in WAYS for name in calls}
    for turn in range(given.repeats + 1):
        for (way, name), taken in seconds.items():
            with WAYS[way]():
                started = time.process_time()
                calls[name]()
                if turn:  # the first warms up
                    taken.append(time.process_time() - started)
    line: dict[str, object] = {"what": "precision", "size": given.size, "abilities": torch.backends.cpu.get_cpu_capability(), "repeats": given.repeats}
    exact = draw()
    for way, context in WAYS.items():
        with context():
            off = float((draw().float() - exact).abs().mean() / exact.abs().mean())
        middle = {name: statistics.median(seconds[way, name]) for name in calls}
        times = {f"{name}_times": round(statistics.median(seconds["float32", name]) / s, 2) for name, s in middle.items()}
        line[way] = {name: round(s, 4) for name, s in middle.items()} | times | {"off": round(off, 5)}
    print(json.dumps(line))


@contextlib.contextmanager
def short_convolutions() -> Iterator[None]:
    nn.Conv2d.forward = _short  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Conv2d.forward = FLOAT  # type: ignore[method-assign]


def _short(self: nn.Conv2d, maps: Tensor) -> Tensor:
    bias = None if self.bias is None else self.bias.bfloat16()
    return F.conv2d(maps.bfloat16(), self.weight.bfloat16(), bias, self.stride, self.padding).float()


WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "float32": contextlib.nullcontext,
    "convolutions": short_convolutions,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}

if __name__ == "__main__":
    main()
