"""The flow: its network is diffusers', its samplers are of the order they say, its algebra holds."""

from __future__ import annotations

import math

import pytest
import torch

from mitate.generators import samplers
from mitate.generators.packing import Packing
from mitate.generators.unet import UNet, UNetSettings


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_unet_says_what_diffusers_says(attention, layers, tmp_path, recwarn):
    with torch.random.fork_rng(devices=[]):  # diffusers' import draws from it
        diffusers = pytest.importorskip("diffusers")
    net = UNet(UNetSettings((8, 8), 4, 4, (16, 32), layers, 6, norm_num_groups=8, attention_head_dim=16, add_attention=attention)).eval()
    net.save(tmp_path / "unet")
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False).eval()
    x, t, y = torch.randn(5, 4, 8, 8), torch.rand(5) * 1000, torch.tensor([0, 1, 2, 4, 5])
    with torch.no_grad():
        assert torch.allclose(net(x, t, y), theirs(x, t, class_labels=y).sample, atol=1e-5, rtol=0)
        assert torch.equal(net(x, t, y), UNet.open(tmp_path / "unet").eval()(x, t, y))
    assert set(net.state_dict()) == set(theirs.state_dict())
    recwarn.clear()


def of_a_normal(mean: float, deviation: float):
    """The exact clean image of a normal, and where the flow takes a point: x = mean + deviation * e."""

    def predict(z: torch.Tensor, t: float) -> torch.Tensor:
        return mean + t * deviation**2 / (t**2 * deviation**2 + (1 - t) ** 2) * (z - t * mean)

    return predict


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("multistep", 2)])
def test_samplers_have_the_order_they_say(name, order):
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = 0.3 + 0.5 * z

    def error(steps: int) -> float:
        return float((getattr(samplers, name)(of_a_normal(0.3, 0.5), z, samplers.times(steps, 1.0)) - exact).abs().max())

    found = math.log2(error(64) / error(128))
    assert abs(found - order) < 0.35, found


@pytest.mark.parametrize(("size", "patch"), [(8, 1), (28, 2), (32, 2), (64, 4), (96, 6), (128, 8)])
def test_map_is_about_sixteen_wide(size, patch):
    packing = Packing.of((size, size, 3), side=16, multiple=2)
    assert packing.patch == patch and packing.rows % 2 == 0 and packing.rows * patch >= size


@pytest.mark.parametrize("size", [8, 28, 30, 105])
def test_packing_comes_back_exactly(size):
    import numpy as np

    x = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    packing = Packing.of((size, size, 3), side=16, multiple=4)
    assert np.array_equal(packing.unpack(packing.pack(x)), x)
