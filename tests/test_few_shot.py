"""Few-shot generation: the closed form is the minimum, zero guidance is plain DDIM, a perfect denoiser gives the shot back, and no weight of a base moves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import mitate as mi
from mitate.errors import DataError, SettingError
from mitate.generators import crdi
from mitate.generators.denoisers import Levels, OfFlow, OfFolder
from mitate.generators.few_shot import METHODS, Drawer, FewShot
from mitate.metrics.energy import energy_score
from mitate.shots import Choice, Tried, _copied, adapt_shots, drawn_with, load_adapted, typed
from mitate.store import Store
from mitate.stored import load_fitted
from tiny import tiny_pipeline


def toy_images(n: int, classes: int, size: int, *, seed: int = 0) -> mi.ImageSet:
    """Grey images of classes whose bright half differs."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), n)
    x = rng.integers(0, 60, (len(y), size, size, 1))
    x[y == 0, : size // 2] += 150
    x[y == 1, :, : size // 2] += 150
    return mi.from_arrays(x.astype(np.uint8), y, classes=[f"class {k}" for k in range(classes)])


NONE = torch.zeros(64, dtype=torch.int64)


def ddpm_levels(n: int = 25) -> Levels:
    """The published schedule: linear beta, 1,000 times respaced to n."""
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    times = [round(i * 999 / (n - 1)) for i in range(n)][::-1]
    return Levels(
        tuple(float(t) for t in times), (*(float(abar[t].sqrt()) for t in times), 1.0), (*(float((1 - abar[t]).sqrt()) for t in times), 0.0)
    )  # fmt: skip


class Gaussian:
    """The exact denoiser of N(mean, spread^2): what the clean image must be on average, in closed form."""

    shape, n_classes, pixels, net = (4, 4, 1), 0, True, nn.Identity()

    def __init__(self, levels: Levels, mean: float = 0.3, spread: float = 0.2) -> None:
        self.known, self.mean, self.spread = levels, mean, spread

    def levels(self, n: int) -> Levels:
        return self.known

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        k = self.known.time.index(float(time))
        a, s, v = self.known.alpha[k], self.known.sigma[k], self.spread**2
        return self.mean + a * v / (a * a * v + s * s) * (z - a * self.mean)

    def encode(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1

    def decode(self, maps: Tensor) -> np.ndarray:
        return ((maps.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


class Perfect(Gaussian):
    """A denoiser that knows the one image there is."""

    def __init__(self, levels: Levels, image: Tensor) -> None:
        super().__init__(levels)
        self.image = image

    def clean(self, z: Tensor, time: float | Tensor, classes: Tensor) -> Tensor:
        return self.image.expand_as(z)


@pytest.fixture
def shots() -> Tensor:
    return torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


LEVELS = ddpm_levels()
WINDOW = crdi.Window(25, 5, 20, 5)


def test_the_published_window_is_found_by_the_share_of_the_image() -> None:
    assert crdi.Window.of(LEVELS) == crdi.Window(25, 5, 20, 15)


def test_factors_are_those_of_the_guided_step() -> None:
    aim, k = crdi.Aim(scale=2.0), 10
    a, b = aim.factors(LEVELS, k)
    z, g = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    base = Gaussian(LEVELS)
    plain, x0 = crdi.guided_step(base, LEVELS, k, z, NONE[:2], None, clamp=True)
    moved, x1 = crdi.guided_step(base, LEVELS, k, z, NONE[:2], 2.0 * g, clamp=True)
    assert torch.allclose(x1 - x0, a * g, atol=1e-5)
    assert torch.allclose(moved - plain, b * g, atol=1e-5)


def test_zero_guidance_is_plain_ddim_to_the_bit() -> None:
    base, z = Gaussian(LEVELS), torch.randn(4, 1, 4, 4)
    plain = z
    for k in range(25):
        x0 = base.clean(plain, LEVELS.time[k], NONE).clamp(-1, 1)
        e = (plain - LEVELS.alpha[k] * x0) / LEVELS.sigma[k]
        plain = LEVELS.alpha[k + 1] * x0 + LEVELS.sigma[k + 1] * e
    walked = crdi.walk(base, LEVELS, z, NONE[:4], start=0, clamp=True, pull=lambda k: torch.zeros_like(z))
    assert torch.equal(walked, plain)


@pytest.mark.parametrize("noise", crdi.NOISES)
@pytest.mark.parametrize("segments", [1, 5, 15])
def test_the_closed_form_is_where_the_loss_has_no_slope(shots: Tensor, noise: str, segments: int) -> None:
    """Over its own draws, with the target's noise averaged: moving any map any way makes the loss larger."""
    base, aim, window = Gaussian(LEVELS), crdi.Aim(noise=noise), crdi.Window(25, 5, 20, segments)
    g = crdi.fit(base, LEVELS, window, shots, NONE[:3], aim, draws=8, seed=0).requires_grad_(True)
    total = torch.zeros(())
    for k in range(25):
        if (segment := window.segment(k)) is None:
            continue
        a, b = aim.factors(LEVELS, k)
        own = g[:, segment]
        for e in crdi.fixed_noise(shots.shape[1:], k, 8, seed=0):
            z = LEVELS.noised(shots, e, k)
            x0, left = crdi.seen(base, LEVELS, k, z, NONE[:3], clamp=True)
            plain = LEVELS.alpha[k + 1] * x0 + LEVELS.sigma[k + 1] * left
            y = LEVELS.noised(shots, e if noise == "same" else torch.zeros_like(e), k + 1)
            total = total + ((shots - x0 - a * own).square().sum() + (y - plain - b * own).square().sum()) / 8
        total = total + aim.penalty * (own - own.mean(0, keepdim=True)).square().sum()
    (slope,) = torch.autograd.grad(total, g)
    assert slope.abs().max() < 1e-3 * max(1.0, float(total.detach()))


@pytest.mark.parametrize("draws", [1, 2, 5, 8])
def test_noises_of_the_fit_come_with_their_opposites(draws: int) -> None:
    e = crdi.fixed_noise((1, 4, 4), 3, draws, seed=0)
    assert len(e) == draws
    for one, other in zip(e[::2], e[1::2], strict=False):
        assert torch.equal(other, -one)
    assert len(torch.unique(e[::2], dim=0)) == (draws + 1) // 2


def test_one_pair_of_noises_is_enough_where_the_denoiser_is_linear(shots: Tensor) -> None:
    aim = crdi.Aim(clamp=False)
    pair, many, one = (crdi.fit(Gaussian(LEVELS), LEVELS, WINDOW, shots, NONE[:3], aim, draws=n, seed=0) for n in (2, 512, 1))
    assert torch.allclose(pair, many, atol=1e-4) and not torch.allclose(one, many, atol=1e-2)


def test_adam_comes_to_the_closed_form(shots: Tensor) -> None:
    """Per segment, on one noise level each, with enough passes: within a tenth of the maps' spread (random noise keeps it from more)."""
    base, aim, window = Gaussian(LEVELS), crdi.Aim(), crdi.Window(25, 8, 12, 4)
    exact = crdi.fit(base, LEVELS, window, shots, NONE[:3], aim, draws=512, seed=0)
    found = crdi.adam(base, LEVELS, window, shots, NONE[:3], aim, passes=1500, seed=0, rate=0.01)
    assert (found - exact).std() < 0.1 * exact.std()


def test_one_optimiser_for_all_segments_ends_farther_from_the_minimum(shots: Tensor) -> None:
    base, aim = Gaussian(LEVELS), crdi.Aim()
    exact = crdi.fit(base, LEVELS, WINDOW, shots, NONE[:3], aim, draws=256, seed=0)
    own, shared = (crdi.adam(base, LEVELS, WINDOW, shots, NONE[:3], aim, passes=120, seed=0, shared=s) for s in (False, True))
    assert (own - exact).std() < (shared - exact).std()


def test_a_perfect_denoiser_gives_the_shot_back() -> None:
    image = torch.rand(1, 1, 4, 4) * 1.6 - 0.8
    base = Perfect(LEVELS, image)
    g = crdi.fit(base, LEVELS, WINDOW, image, NONE[:1], crdi.Aim(), draws=4, seed=0)
    found = crdi.Shots(image, np.zeros(1, np.int64), NONE[:1], g)
    way = crdi.Way(choice="fixed", perturb=0.0)
    made = crdi.draw(base, LEVELS, WINDOW, found, way, crdi.Aim(), np.arange(3), np.zeros(3, np.int64))
    assert torch.allclose(made, image.expand(3, -1, -1, -1), atol=1e-5)


def test_guidance_pulls_towards_the_shot(shots: Tensor) -> None:
    base = Gaussian(LEVELS)
    g = crdi.fit(base, LEVELS, WINDOW, shots, NONE[:3], crdi.Aim(), draws=32, seed=0)
    found, labels = crdi.Shots(shots, np.arange(3), NONE[:3], g), np.arange(3)
    with_, without = (
        crdi.draw(base, LEVELS, WINDOW, found, crdi.Way(choice="fixed", perturb=0, strength=s), crdi.Aim(), np.arange(3), labels) for s in (1.0, 0.0)
    )
    assert (with_ - shots).square().mean() < (without - shots).square().mean()


def test_image_i_depends_on_its_seed_and_class_alone(shots: Tensor) -> None:
    base = Gaussian(LEVELS)
    g = crdi.fit(base, LEVELS, WINDOW, shots, NONE[:3], crdi.Aim(), draws=4, seed=0)
    found = crdi.Shots(shots, np.array([0, 0, 1]), NONE[:3], g)
    for choice in crdi.CHOICES:
        for start in ("shot", "other", "noise"):
            way = crdi.Way(choice=choice, start=start)
            many = crdi.draw(base, LEVELS, WINDOW, found, way, crdi.Aim(), np.arange(5), np.array([0, 1, 0, 0, 1]))
            one = crdi.draw(base, LEVELS, WINDOW, found, way, crdi.Aim(), np.array([3]), np.array([0]))
            assert torch.equal(many[3], one[0]), (choice, start)


def test_a_left_out_shot_is_not_used(shots: Tensor) -> None:
    base = Gaussian(LEVELS)
    found = crdi.Shots(shots, np.array([0, 0, 0]), NONE[:3], torch.zeros(3, 5, 1, 4, 4))
    way, window = crdi.Way(strength=0, perturb=0, begin=5), WINDOW
    for row in range(3):
        changed = replace(found, x=found.x.index_fill(0, torch.tensor([row]), 9.0))
        made = [crdi.draw(base, LEVELS, window, s, way, crdi.Aim(), np.arange(6), np.zeros(6, int), without=np.full(6, row)) for s in (found, changed)]
        assert torch.equal(*made)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 10.0])
def test_leaving_a_shot_out_gives_the_maps_of_a_fit_without_it(shots: Tensor, penalty: float) -> None:
    base, aim = Gaussian(LEVELS), crdi.Aim(penalty=penalty)
    g = crdi.fit(base, LEVELS, WINDOW, shots, NONE[:3], aim, draws=4, seed=0)
    for row in range(3):
        rest = [i for i in range(3) if i != row]
        refitted = crdi.fit(base, LEVELS, WINDOW, shots[rest], NONE[:2], aim, draws=4, seed=0)
        assert torch.allclose(g[rest] + crdi.without_shot(g, LEVELS, WINDOW, aim, row), refitted, atol=1e-5)


# the energy score


def test_the_energy_score_likes_the_truth_best() -> None:
    rng = np.random.default_rng(0)
    truths = rng.normal(size=(400, 3))
    worlds = {"truth": (0, 1), "copies": (0, 0.1), "wide": (0, 3), "far": (2, 1)}
    scores = {name: np.mean([energy_score(m + s * rng.normal(size=(8, 3)), t) for t in truths]) for name, (m, s) in worlds.items()}
    assert min(scores, key=lambda name: scores[name]) == "truth"


def test_the_energy_score_needs_two() -> None:
    assert energy_score(np.zeros((3, 2)), np.array([3.0, 4.0])) == 5.0
    with pytest.raises(ValueError, match="no distance"):
        energy_score(np.zeros((1, 2)), np.zeros(2))


# as a generator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, mi.ImageSet]:
    """A store with a base of two toy classes, and a few images."""
    store = Store(tmp_path_factory.mktemp("store"))
    images = toy_images(n=24, classes=2, size=8)
    mi.fit(mi.Diffusion(steps=20, width=8, batch=8), images, name="toys", store=store)
    return store, images.few(4, seed=5)


def test_the_base_is_not_changed(world: tuple[Store, mi.ImageSet]) -> None:
    store, few = world
    base = load_fitted(mi.load_generator("toys", store=store).entry)  # type: ignore[union-attr]
    found, _ = adapt_shots("toys", few, mi.Shots(diversity=0.5, options={"draws": 2}), store=store)
    drawer = load_fitted(found.entry)
    assert isinstance(drawer, Drawer) and isinstance(drawer.denoiser, OfFlow)
    for (name, a), (_, b) in zip(base.net.state_dict().items(), drawer.denoiser.net.state_dict().items(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(a, b), name
    assert found.entry.result["shots"] == 8 and found.classes == few.classes


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_and_draws_the_same_again(world: tuple[Store, mi.ImageSet], method: str, tmp_path: Path) -> None:
    store, few = world
    if method == "lora":
        pytest.importorskip("peft")
    how = mi.Shots(method=method, diversity=0.7, options={"draws": 2, "steps": 3})
    found, chosen = adapt_shots("toys", few, how, store=store)
    images = mi.generate(found, per_class=3, store=store)
    assert chosen is None and len(images) == 6 and images.provenance is not None
    again = Store(tmp_path)
    mi.fit(mi.Diffusion(steps=20, width=8, batch=8), toy_images(n=24, classes=2, size=8), name="toys", store=again)
    same = mi.generate(adapt_shots("toys", few, how, store=again)[0], per_class=2, store=again)
    assert [images.digests[i] for i in (0, 1, 3, 4)] == list(same.digests)


def test_dials_are_chosen_on_the_shots_and_kept(world: tuple[Store, mi.ImageSet]) -> None:
    store, few = world
    found, chosen = adapt_shots("toys", few, mi.Shots(options={"draws": 2}), name="few", store=store)
    assert chosen is not None and 2 <= len(chosen.tried) <= 7
    assert {strength for _, strength in chosen.tried} == {0.0, 1.0}
    assert found.settings["options"]["diversity"] == chosen.diversity
    assert load_adapted("toys+few", store=store).digest == found.digest == load_adapted("few", store=store).digest
    other = drawn_with(found, 0.9, store=store)
    assert other.settings["options"]["diversity"] == 0.9 and other.digest != found.digest


def test_dials_that_draw_the_shots_again_are_not_chosen_however_well_they_score() -> None:
    shots, copies, wide, base = (0.0, 0.0), (0.25, 1.0), (0.5, 1.0), (1.0, 0.0)
    tried = {shots: Tried(1.0, 0.1), copies: Tried(1.1, 0.9, 0.2), wide: Tried(1.2, 0.9, 0.02), base: Tried(3.0, 1.8, -0.1)}
    chosen = Choice.of(tried, far=1.0)
    assert (chosen.diversity, chosen.strength) == wide and chosen.found.score == 1.2 and not chosen.found.again
    chosen = Choice.of({shots: tried[shots], copies: tried[copies]}, far=1.0)
    assert (chosen.diversity, chosen.strength) == copies and chosen.found.again


def test_images_of_little_noise_lie_nearer_to_the_shots(world: tuple[Store, mi.ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    store, few = world
    monkeypatch.setattr("mitate.shots.AGAIN", 0.0)  # so that every diversity is tried
    monkeypatch.setattr("mitate.shots.COPIED", 1.0)
    monkeypatch.setattr("mitate.shots.VERSION", 100)
    chosen = adapt_shots("toys", few, mi.Shots(options={"draws": 2}), store=store)[1]
    assert chosen is not None and len(chosen.tried) == 6
    assert chosen.tried[0.0, 1.0].near < chosen.tried[1.0, 1.0].near


def test_copies_of_other_shots_are_counted_and_not_those_of_the_one_left_out() -> None:
    shots = np.random.default_rng(0).normal(size=(8, 50))
    queries = np.concatenate([shots[[0]], shots[[1]] + 0.01, np.random.default_rng(1).normal(size=(2, 50))])
    assert _copied(queries, shots, np.array([0, 0, 1, 2])) == 0.25  # image 0 is the shot that was left out
    assert _copied(queries, shots, np.array([7, 7, 7, 7])) == 0.5
    assert _copied(queries, shots[:3], np.array([0, 0, 1, 2])) is None


def test_less_noise_is_not_tried_where_more_draws_the_shots_again_already(world: tuple[Store, mi.ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    store, few = world
    monkeypatch.setattr("mitate.shots.AGAIN", 1e9)
    monkeypatch.setattr("mitate.shots.VERSION", 101)
    chosen = adapt_shots("toys", few, mi.Shots(options={"draws": 2}), store=store)[1]
    assert chosen is not None and set(chosen.tried) == {(1.0, 1.0), (1.0, 0.0)} and chosen.found.again


def test_half_way_back_is_tried_where_images_become_the_shots_again(world: tuple[Store, mi.ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    store, few = world
    seen: list[Tried] = []
    monkeypatch.setattr(Tried, "again", property(lambda told: seen.append(told) or told is not seen[0]))  # all but the first are
    monkeypatch.setattr("mitate.shots.VERSION", 102)
    chosen = adapt_shots("toys", few, mi.Shots(options={"draws": 2}), store=store)[1]
    assert chosen is not None and set(chosen.tried) == {(1.0, 1.0), (0.75, 1.0), (0.875, 1.0), (1.0, 0.0)}


def test_one_shot_and_two_hundred_work(world: tuple[Store, mi.ImageSet]) -> None:
    store, _ = world
    for n in (1, 100):
        images = toy_images(n=n, classes=2, size=8, seed=9)
        found, chosen = adapt_shots("toys", images, mi.Shots(options={"draws": 1, "walk": 8}), store=store)
        assert (chosen is None) == (n == 1)
        assert len(mi.generate(found, per_class=1, store=store)) == 2


def test_adam_is_offered_as_published(world: tuple[Store, mi.ImageSet]) -> None:
    store, few = world
    for solver in ("adam", "adam_shared"):
        options = {"solver": solver, "passes": 2, "window": (5, 20), "segments": 3}
        found, _ = adapt_shots("toys", few, mi.Shots(diversity=1.0, options=options), store=store)
        assert len(mi.generate(found, per_class=1, store=store)) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"window": (20, 5)}, "cannot be"), ({"window": (0, 25), "walk": 25}, "pure noise"), ({"solver": "newton"}, "newton"), ({"diversity": 2.0}, "range"),
        ({"choice": "none"}, "choice"), ({"scale": float("inf")}, "no number"), ({"sentences": ["a", "b"]}, "no sentences"), ({"told": True}, None),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(world: tuple[Store, mi.ImageSet], options: dict[str, object], told: str | None) -> None:
    store, few = world
    if told is None:
        adapt_shots("toys", few, mi.Shots(diversity=0.5, options=options | {"draws": 1}), store=store)  # the base knows as many classes
        return
    with pytest.raises(SettingError, match=told):
        adapt_shots("toys", few, mi.Shots(diversity=None if "diversity" in options else 0.5, options=options), store=store)


def test_a_wrong_base_is_refused(world: tuple[Store, mi.ImageSet]) -> None:
    store, few = world
    with pytest.raises(SettingError, match="no kept generator"):
        adapt_shots("nothing", few, mi.Shots(), store=store)
    mi.fit(mi.Gaussian(), toy_images(n=24, classes=2, size=8), name="plain", store=store)
    with pytest.raises(SettingError, match="cannot stand"):
        adapt_shots("plain", few, mi.Shots(), store=store)
    found, _ = adapt_shots("toys", few, mi.Shots(diversity=0.5, options={"draws": 2}), name="on-toys", store=store)
    with pytest.raises(SettingError, match="does not stand on"):
        load_adapted("plain+on-toys", store=store)
    assert found.kind == "shots"


# folders of diffusers


@pytest.fixture
def ddpm(tmp_path: Path) -> Path:
    """A tiny DDPM folder with random weights."""
    diffusers = pytest.importorskip("diffusers")
    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # random weights; two planes, of which the second would be a learned variance  # fmt: skip
    diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def test_a_folder_of_diffusers_is_a_base(ddpm: Path, tmp_path: Path) -> None:
    store, few = Store(tmp_path / "store"), toy_images(n=3, classes=2, size=8)
    found, _ = adapt_shots(str(ddpm), few, mi.Shots(diversity=0.5, options={"draws": 2}), store=store)
    assert len(mi.generate(found, per_class=2, store=store)) == 4
    (ddpm / "unet" / "config.json").write_text((ddpm / "unet" / "config.json").read_text() + " ")
    with pytest.raises(DataError, match="another one"):
        load_fitted(found.entry)


def test_a_table_of_classes_is_told_none_by_its_last(ddpm: Path, tmp_path: Path) -> None:
    import diffusers

    net = diffusers.UNet2DModel.from_pretrained(ddpm / "unet")
    config = dict(net.config) | {"num_class_embeds": 3, "out_channels": 1}
    diffusers.UNet2DModel.from_config(config).save_pretrained(ddpm / "unet")
    base, z = OfFolder(ddpm), torch.randn(2, 1, 8, 8)
    assert base.n_classes == 2
    with torch.no_grad():
        seen = [base.clean(z, 300.0, torch.full((2,), k)) for k in range(3)]
    assert not torch.equal(seen[0], seen[2])
    found, _ = adapt_shots(str(ddpm), toy_images(n=3, classes=2, size=8), mi.Shots(diversity=0.5, options={"draws": 1}), store=Store(tmp_path / "s"))
    assert set(load_fitted(found.entry).shots.told.tolist()) == {2}  # type: ignore[attr-defined]


def test_predictions_of_noise_v_and_images_are_one_denoiser(ddpm: Path) -> None:
    """The same network read as another kind sees the image that this kind's definition says."""
    z = torch.randn(2, 1, 8, 8)
    config = ddpm / "scheduler" / "scheduler_config.json"
    told = json.loads(config.read_text())
    seen = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        config.write_text(json.dumps(told | {"prediction_type": kind}))
        base = OfFolder(ddpm)
        with torch.no_grad():
            seen[kind], raw = base.clean(z, 500.0, NONE[:2]), base.net(z, torch.tensor([500.0, 500.0])).sample[:, :1]
        alpha, sigma = float(base.alphas[500].sqrt()), float((1 - base.alphas[500]).sqrt())
    assert torch.allclose(seen["sample"], raw)
    assert torch.allclose(seen["epsilon"], (z - sigma * raw) / alpha, atol=1e-4)
    assert torch.allclose(seen["v_prediction"], alpha * z - sigma * raw, atol=1e-5)


def test_levels_are_the_published_respacing(ddpm: Path) -> None:
    levels = OfFolder(ddpm).levels(25)
    assert [int(t) for t in levels.time[::-1]][:8] == [0, 42, 83, 125, 166, 208, 250, 291]
    assert np.allclose(levels.alpha, LEVELS.alpha, atol=1e-6)


def test_a_folder_that_is_no_denoiser_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(DataError, match="no denoiser"):
        OfFolder(tmp_path)


def test_a_text_to_image_pipeline_is_a_base(tmp_path: Path) -> None:
    folder = tiny_pipeline(tmp_path / "pipe")
    store, few = Store(tmp_path / "store"), toy_images(n=3, classes=2, size=8)
    found, _ = adapt_shots(str(folder), few, mi.Shots(diversity=0.5, options={"draws": 1, "walk": 8, "sentences": ["a ring", "a bar"]}), store=store)
    assert len(mi.generate(found, per_class=1, store=store)) == 2


def test_tuning_leaves_the_shared_pipeline_as_it_is(tmp_path: Path) -> None:
    """One process, one loaded model: what is fitted after a fine-tuning is what was fitted before it."""
    folder, few = tiny_pipeline(tmp_path / "pipe"), toy_images(n=3, classes=2, size=8)
    sentences = {"sentences": ["a ring", "a bar"], "draws": 1, "walk": 8}
    images = []
    for place, method in (("a", "crdi"), ("b", "tuned"), ("c", "crdi")):
        store = Store(tmp_path / place)
        found, _ = adapt_shots(str(folder), few, mi.Shots(method=method, diversity=0.5, options=sentences), store=store)
        images.append(mi.generate(found, per_class=2, store=store).digests)
    assert images[0] == images[2] != images[1]


def test_a_tuned_base_draws_each_class_its_own_images(world: tuple[Store, mi.ImageSet]) -> None:
    store, few = world
    found, _ = adapt_shots("toys", few, mi.Shots(method="tuned", options={"steps": 5}), store=store)
    drawer = load_fitted(found.entry)
    one, two = drawer.sample(np.array([7, 7]), np.array([0, 1]))
    assert not np.array_equal(one, two) and found.entry.result["steps"] == 5
    with pytest.raises(SettingError, match="no diversity"):
        drawn_with(found, 0.5, store=store)


def test_options_that_are_fixed_elsewhere_are_refused() -> None:
    for option in ("base=x", "method=noised", "sentences=a,b"):
        with pytest.raises(SettingError, match="no setting to type"):
            typed([option])
    assert typed(["window=5,20", "solver=adam"]) == {"window": [5, 20], "solver": "adam"}


def test_settings_have_one_base() -> None:
    with pytest.raises(SettingError, match="one base"):
        FewShot(base="a", model="b")
    with pytest.raises(SettingError, match="needs its base"):
        FewShot()._opened(None)


def test_a_pilot_takes_a_few_shot_generator_on_a_kept_base(tmp_path: Path) -> None:
    store, images = Store.find(), toy_images(n=30, classes=2, size=8, seed=3)
    mi.fit(mi.Diffusion(steps=20, width=8, batch=8), toy_images(n=24, classes=2, size=8), name="toys", store=store)
    few, test = images.subset([*range(8), *range(30, 38)]), images.subset([*range(8, 30), *range(38, 60)])
    asked = {"arms": ["balanced"], "replicates": 3, "synthetic_per_class": 4, "steps": 5, "budget": "30m", "size": 8}
    plan = mi.pilot(train=few, test=test, generators=["toys+shots", "toys+noised"], store=store, **asked)
    facts = plan.study.sizes["generators"]
    assert facts["toys+shots"]["options"]["method"] == "crdi" and facts["toys+noised"]["options"]["method"] == "noised"
    run = mi.run(plan, tmp_path / "run", workers=0)
    assert run.decision["verdict"] in ("go", "stop", "more evidence")
    with pytest.raises(SettingError, match="few-shot method"):
        mi.pilot(train=few, test=test, generators=["toys+shotz"], store=store, **asked)
    seen = toy_images(n=24, classes=2, size=8)
    with pytest.raises(DataError, match="holds back"):
        mi.pilot(train=few, test=seen, generators=["toys+shots"], store=store, **asked)


def test_the_commands_adapt_and_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from mitate.cli import app

    monkeypatch.chdir(tmp_path)
    images = toy_images(n=4, classes=2, size=8, seed=4)
    for i, (x, k) in enumerate(zip(images.pixels(size=8, channels=1), images.labels, strict=True)):
        (tmp_path / "few" / str(k)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[:, :, 0]).save(tmp_path / "few" / str(k) / f"{i}.png")
    mi.fit(mi.Diffusion(steps=20, width=8, batch=8), toy_images(n=24, classes=2, size=8), name="toys")
    (tmp_path / "toys").mkdir()  # a folder of the same name is not the kept base

    def call(*words: str) -> str:
        ran = CliRunner().invoke(app, words)
        return ran.output if ran.exception is None or isinstance(ran.exception, SystemExit) else f"error: {ran.exception}"

    assert "diversity" in call("adapt", "shots", "--base", "toys", "--images", "few", "--as", "few-3", "--few", "3", "-o", "draws=1")
    assert "4 images, 2 classes" in call("generate", "toys+few-3", "--per-class", "2", "--out", "a")
    assert "4 images, 2 classes" in call("generate", "few-3", "--per-class", "2", "--diversity", "0.9", "--out", "b")
    assert "no few-shot generator" in call("generate", "toys", "--per-class", "2", "--diversity", "0.9", "--out", "c")
    assert "no setting to type" in call("adapt", "shots", "--base", "toys", "--images", "few", "--as", "x", "-o", "method=lora")
