"""What every generator promises, whichever family: seeds, bytes, resume, early stop, conditions, sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mitate.fitting
from mitate.errors import DataError, SettingError
from mitate.generator import Generator, Pixels, image_seeds
from mitate.generators.diffusion import Diffusion
from mitate.generators.gan import GAN
from mitate.generators.gaussian import Gaussian
from mitate.generators.probe import probe
from mitate.generators.vae import VAE
from mitate.progress import Silent

KINDS = [
    Gaussian(rank=8),
    VAE(steps=12, batch=8, width=8, codes=4, checks=3),
    Diffusion(steps=12, batch=8, width=8, side=8, sample_steps=3, checks=3),
    GAN(steps=12, batch=8, width=8, critic_width=8, side=8, codes=4, checks=3),
]
TRAINED = KINDS[1:]


class Stop(Exception):
    pass


class Killer:
    """Progress that dies at a step, as a killed process would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, done: int, total: int, note: str = "") -> None:
        if done == self.at:
            raise Stop


def blobs(n: int = 12, *, size: int = 8, channels: int = 1, classes: int = 3, seed: int = 0) -> Pixels:
    """Class k is a bright bar in row group k on a dark ground, with noise."""
    chance = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(n) % classes
    x = chance.integers(0, 40, (n, size, size, channels))
    for i, k in enumerate(y):
        x[i, k * size // classes : (k + 1) * size // classes] += 180
    return Pixels(x.astype(np.uint8), y, classes)


def fitted(kind, folder: Path, *, train: Pixels | None = None, selection: Pixels | None = None, progress=None, seed: int = 0) -> tuple[Generator, dict]:
    facts = kind.fit(
        train or blobs(), selection or blobs(6, seed=1), seed=seed, folder=folder / "out", checkpoint=folder / "checkpoint", progress=progress or Silent()
    )
    return kind.load(folder / "out"), facts


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_image_i_depends_only_on_seed_i_and_condition_i(kind, tmp_path):
    generator, _ = fitted(kind, tmp_path)
    seeds, conditions = np.arange(40) * 7919, np.arange(40) % 3
    whole = generator.sample(seeds, conditions)
    assert whole.shape == (40, 8, 8, 1) and whole.dtype == np.uint8
    order = np.random.Generator(np.random.PCG64(0)).permutation(40)
    assert np.array_equal(generator.sample(seeds[order], conditions[order]), whole[order])
    assert np.array_equal(generator.sample(seeds[5:9], conditions[5:9]), whole[5:9])
    for i in (0, 17, 39):
        assert np.array_equal(generator.sample(seeds[i : i + 1], conditions[i : i + 1])[0], whole[i])
    assert len(np.unique(whole.reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_same_seed_writes_same_bytes_and_another_seed_does_not(kind, tmp_path):
    fitted(kind, tmp_path / "a")
    fitted(kind, tmp_path / "b")
    fitted(kind, tmp_path / "c", seed=1)
    a, b, c = (weights(tmp_path / name / "out") for name in "abc")
    assert a == b
    assert (a == c) == isinstance(kind, Gaussian)


@pytest.mark.parametrize("kind", TRAINED, ids=lambda k: type(k).__name__)
def test_a_killed_fit_continues_to_the_same_bytes(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    fitted(kind, tmp_path / "whole")
    with pytest.raises(Stop):
        fitted(kind, tmp_path / "killed", progress=Killer(7))
    assert (tmp_path / "killed" / "checkpoint" / "fit.safetensors").exists()
    fitted(kind, tmp_path / "killed")
    assert weights(tmp_path / "killed" / "out") == weights(tmp_path / "whole" / "out")


@pytest.mark.parametrize("kind", TRAINED, ids=lambda k: type(k).__name__)
def test_fit_leaves_global_chance_and_threads_alone(kind, tmp_path):
    import torch

    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    generator, _ = fitted(kind, tmp_path)
    generator.sample(np.arange(2), np.arange(2))
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", TRAINED, ids=lambda k: type(k).__name__)
def test_fit_keeps_the_best_look_and_stops_when_patience_is_over(kind, tmp_path):
    train = blobs(6)
    chance = np.random.Generator(np.random.PCG64(9))
    strange = Pixels(chance.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8), train.y, 3)  # nothing learnt can help here for long
    exact = replace(kind, slack=0.0) if hasattr(kind, "slack") else kind
    _, facts = fitted(replace(exact, steps=120, checks=40, patience=3, lr=5e-3, batch=6), tmp_path, train=train, selection=strange)
    losses = dict(facts["curve"])
    assert facts["best_loss"] == min(losses.values()) == losses[facts["best_step"]]
    assert facts["steps"] < 120 and facts["steps"] - facts["best_step"] == 3 * 3


@pytest.mark.parametrize("kind", TRAINED, ids=lambda k: type(k).__name__)
def test_fit_without_a_selection_split_uses_every_step(kind, tmp_path):
    empty = Pixels(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64), 3)
    _, facts = fitted(kind, tmp_path, selection=empty)
    assert facts["steps"] == kind.steps and facts["best_loss"] is None


@pytest.mark.parametrize(
    "kind",
    [KINDS[0], replace(KINDS[1], steps=150), replace(KINDS[2], steps=100, width=16, sample_steps=6), replace(KINDS[3], steps=60)],
    ids=lambda k: type(k).__name__,
)
def test_the_condition_decides_what_is_drawn(kind, tmp_path):
    generator, _ = fitted(kind, tmp_path, train=blobs(30))
    x = np.stack([generator.sample(np.arange(16), np.full(16, k)).astype(float).mean(axis=(0, 3)) for k in range(3)])
    bands = np.stack([[image[j * 8 // 3 : (j + 1) * 8 // 3].mean() for j in range(3)] for image in x])
    assert (bands.argmax(axis=1) == np.arange(3)).all(), bands
    assert (bands.diagonal() - bands[~np.eye(3, dtype=bool)].max() > 60).all(), bands


@pytest.mark.parametrize("shape", [(8, 8, 3), (28, 28, 1), (30, 30, 3), (64, 64, 3), (128, 128, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_sizes_and_channels(kind, shape, tmp_path):
    kind = replace(kind, steps=2) if kind in TRAINED else kind
    train, selection = blobs(6, size=shape[0], channels=shape[2]), blobs(3, size=shape[0], channels=shape[2])
    generator, _ = fitted(kind, tmp_path, train=train, selection=selection)
    assert generator.shape == shape and isinstance(generator, Generator)
    assert generator.sample(image_seeds(0, 2, condition=1), np.array([1, 1])).shape == (2, *shape)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_a_class_without_images_is_refused(kind, tmp_path):
    train = blobs()
    with pytest.raises(DataError, match="no training image"):
        fitted(kind, tmp_path, train=Pixels(train.x, train.y, 4))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_probe_times_steps_and_draws(kind):
    cost = probe(kind, (8, 8, 1), n_classes=3, batch=4, n_selection=4)
    assert cost.step_seconds > 0 and cost.image_seconds > 0


@pytest.mark.parametrize("kind", (Gaussian, VAE, GAN, Diffusion))
def test_presets_are_settings_of_the_kind(kind):
    for size in (8, 28, 64, 128):
        assert isinstance(kind.default_for((size, size, 3), 100), kind)


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match="sampler"):
        Diffusion(sampler="huen")
    with pytest.raises(SettingError):
        Diffusion(width=20)
    with pytest.raises(SettingError):
        VAE(codes=0)
