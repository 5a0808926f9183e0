"""Differential privacy: what is spent is what opacus says, no image moves a step by more than its share, and nothing else is looked at."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mitate as mi
import mitate.fitting
from mitate.cli import app
from mitate.errors import JobError, SettingError
from mitate.fitting import Log, Schedule
from mitate.generator import Pixels
from mitate.generators import accountant, clipping, private
from mitate.generators.accountant import Part
from mitate.generators.diffusion import Diffusion, _errors
from mitate.generators.gan import GAN
from mitate.generators.gaussian import Gaussian
from mitate.generators.packing import Packing
from mitate.generators.vae import VAE, _Net
from mitate.images import from_arrays
from mitate.progress import Silent
from mitate.settings import digest, plain
from mitate.store import Store
from test_generators_contract import Killer, Stop, blobs, weights

ORACLE = json.loads((Path(__file__).parent / "oracles" / "privacy_accountant.json").read_text())
CASES = [pytest.param(case, id=f"{case['rate']}-{case['noise']}-{case['steps']}") for case in ORACLE["cases"]]
KEY = bytes(range(32))
KINDS = [
    VAE(epsilon=8.0, steps=6, batch=6, width=8, codes=4, draws=2, drop=0.0),
    Diffusion(epsilon=8.0, steps=6, batch=6, width=8, side=8, sample_steps=3, draws=2),
    GAN(epsilon=8.0, steps=6, batch=6, width=8, critic_width=8, side=8, codes=4, loss="logistic", lead=0.0, tie=0.0, draws=2),
]
EMPTY = Pixels(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64), 3)

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    """The secrets that nobody planted: each another, and in every run the same."""
    count = itertools.count()
    monkeypatch.setattr(private.secrets, "token_bytes", lambda n=32: hashlib.sha256(f"secret {next(count)}".encode()).digest()[:n])


def fitted(kind, folder: Path, *, train: Pixels | None = None, selection: Pixels = EMPTY, key: bytes | None = KEY, seed: int = 0, progress=None) -> dict:
    if key is not None:
        private.plant_key(folder / "checkpoint", key)
    return kind.fit(train or blobs(), selection, seed=seed, folder=folder / "out", checkpoint=folder / "checkpoint", progress=progress or Silent())


# what is spent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_renyi_divergences_are_those_of_opacus(case):
    ours = accountant.divergences(rate=case["rate"], noise=case["noise"], orders=tuple(ORACLE["orders"]))
    assert ours == pytest.approx(case["rdp"], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_epsilon_is_that_of_opacus_and_jax_privacy_and_above_that_of_the_whole_distribution(case):
    check_epsilon(Part(case["rate"], case["noise"], case["steps"]), said=case)


@pytest.mark.parametrize("mixed", ORACLE["mixed"], ids=lambda mixed: str(mixed["parts"]))
def test_steps_and_sums_together_spend_what_opacus_and_jax_privacy_say(mixed):
    check_epsilon(*(Part(*part) for part in mixed["parts"]), said=mixed)


def check_epsilon(*parts: Part, said: dict[str, float]) -> None:
    spent = partial(accountant.spent, *parts, delta=ORACLE["delta"])
    assert spent(orders=tuple(ORACLE["epsilon_orders"])).epsilon == pytest.approx(said["renyi"], rel=1e-9)
    assert spent(orders=tuple(map(float, ORACLE["whole_orders"]))).epsilon == pytest.approx(said["jax_renyi"], rel=1e-9)
    assert max(said["prv"], said["jax_pld"]) <= spent().epsilon <= min(said["renyi"], said["jax_renyi"]) * (1 + 1e-9)  # more orders can only prove less


@pytest.mark.parametrize("noise", [0.5, 1.0, 7.0])
def test_without_sampling_the_divergence_is_the_gaussians_own(noise):
    orders = (1.1, 2.0, 17.5, 300.0)
    assert accountant.divergences(rate=1.0, noise=noise, orders=orders) == pytest.approx([a / (2 * noise**2) for a in orders], rel=1e-12)


@pytest.mark.parametrize(("rate", "noise"), [(0.3, 0.6), (0.01, 1.0), (1e-4, 4.0)])
def test_at_whole_orders_the_moment_is_a_binomial_sum(rate, noise):
    orders = (2, 3, 7, 14)
    beyond = [sum(math.comb(a, k) * (1 - rate) ** (a - k) * rate**k * math.expm1(k * (k - 1) / (2 * noise**2)) for k in range(2, a + 1)) for a in orders]
    expected = [math.log1p(b) / (a - 1) for a, b in zip(orders, beyond, strict=True)]
    assert accountant.divergences(rate=rate, noise=noise, orders=tuple(map(float, orders))) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(8.0, 0.25, 100), (1.0, 1.0, 50), (0.1, 0.01, 1000)])
def test_noise_keeps_the_promise_and_hardly_more(epsilon, rate, steps):
    noise = accountant.noise_for(epsilon, rate=rate, steps=steps, delta=1e-4)
    at, less = (accountant.spent(Part(rate, n, steps), delta=1e-4).epsilon for n in (noise, noise * 0.999))
    assert at <= epsilon < less


def test_what_is_beside_the_steps_is_added_to_what_they_spend():
    beside = Part(1.0, 3.0, 2)
    noise = accountant.noise_for(4.0, rate=0.2, steps=50, delta=1e-4, beside=(beside,))
    assert accountant.spent(Part(0.2, noise, 50), beside, delta=1e-4).epsilon == pytest.approx(4.0, rel=1e-3)
    assert noise > accountant.noise_for(4.0, rate=0.2, steps=50, delta=1e-4)
    halves = accountant.spent(Part(0.2, noise, 20), Part(0.2, noise, 30), delta=1e-4)
    assert halves.epsilon == pytest.approx(accountant.spent(Part(0.2, noise, 50), delta=1e-4).epsilon, rel=1e-12)


def test_a_promise_that_no_noise_keeps_is_refused():
    with pytest.raises(SettingError, match="No noise keeps"):
        accountant.noise_for(1e-9, rate=1.0, steps=10, delta=1e-12)


# gradients of single images -------------------------------------------------------------------------------------------


def network(kind: VAE | Diffusion, draws: int):
    """A network of the kind with weights that are all of some size, and losses of chosen rows of five images under fixed chance."""
    torch.manual_seed(3)
    multiple = 4 if isinstance(kind, VAE) else 2
    packing = Packing.of((9, 9, 3), side=8, multiple=multiple)
    x, y = torch.rand(5 * draws, packing.planes, packing.rows, packing.columns), torch.arange(5).repeat_interleave(draws) % 3
    if isinstance(kind, VAE):
        net, chance = _Net(packing, 3, kind), torch.randn(5 * draws, kind.codes)
        return net, lambda rows: net.losses(x[rows], y[rows], chance[rows])
    unet, t, e = kind._net(packing, 3), torch.rand(5 * draws), torch.randn_like(x)
    nn.init.normal_(unet.conv_out.weight, std=0.1)
    return unet, lambda rows: _errors(unet, x[rows], t[rows], e[rows], y[rows]).flatten(1).mean(1)


def rows_of(images: list[int], draws: int) -> torch.Tensor:
    return torch.tensor([i * draws + j for i in images for j in range(draws)])


def flat(parts) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in parts])


NETS = [VAE(width=8, codes=4, bands=3, drop=0.0), Diffusion(width=8, side=8, attention=True)]
by_net = pytest.mark.parametrize("kind", NETS, ids=lambda k: type(k).__name__)


@pytest.mark.parametrize("clip_norm", [1e-3, 0.3, 1e6])
@pytest.mark.parametrize("draws", [1, 3])
@by_net
def test_clipped_gradients_are_those_of_a_loop_over_images(kind, draws, clip_norm):
    with torch.random.fork_rng(devices=[]):
        net, losses = network(kind, draws)
    expected = torch.zeros(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    for i in range(5):
        one = flat(torch.autograd.grad(losses(rows_of([i], draws)).mean(), list(net.parameters())))
        expected += one * min(1.0, clip_norm / float(one.norm()))
    ours = flat(clipping.clipped_sum(net, partial(losses, rows_of([0, 1, 2, 3, 4], draws)), clip_norm=clip_norm, draws=draws))
    assert float((ours - expected).norm() / expected.norm()) < 5e-5


@by_net
def test_one_image_moves_the_sum_by_at_most_the_norm(kind):
    with torch.random.fork_rng(devices=[]):
        net, losses = network(kind, 2)
    for clip_norm in (1e-2, 0.2):
        whole, without = (
            flat(clipping.clipped_sum(net, partial(losses, rows_of(images, 2)), clip_norm=clip_norm, draws=2)) for images in ([0, 1, 2, 3], [0, 1, 3])
        )
        moved = float((whole - without).norm())
        assert 0.9 * clip_norm < moved <= clip_norm


def test_an_image_whose_gradient_is_not_finite_counts_as_none():
    net, x = nn.Linear(3, 1), torch.tensor([[1.0, 2.0, 3.0], [math.inf, 0.0, 0.0], [0.5, 0.0, 1.0], [math.nan, 1.0, 1.0]])
    ours = clipping.clipped_sum(net, lambda: net(x).square().sum(1), clip_norm=0.5)
    finite = clipping.clipped_sum(net, lambda: net(x[[0, 2]]).square().sum(1), clip_norm=0.5)
    assert torch.allclose(flat(ours), flat(finite)) and float(flat(ours).norm()) > 0


def test_layers_that_mix_images_or_are_not_known_are_refused():
    x = torch.rand(2, 3, 4, 4)

    def sums(net: nn.Module) -> None:
        clipping.clipped_sum(net, lambda: net(x).flatten(1).sum(1), clip_norm=1.0)

    with pytest.raises(SettingError, match="BatchNorm2d mixes the images") as wrong:
        sums(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    assert wrong.value.fix == "use GroupNorm"
    for unknown in (nn.ConvTranspose2d(3, 4, 2), nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.PReLU()):
        with pytest.raises(SettingError, match="knows no such"):
            sums(unknown)
    twice = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="runs twice"):
        sums(nn.Sequential(twice, twice))
    tied = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="shares a parameter"):
        sums(tied)


def test_a_parameter_that_no_loss_uses_gets_no_gradient_of_its_own():
    net = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    found = clipping.clipped_sum(net, lambda: net["used"](torch.ones(3, 2)).sum(1), clip_norm=1.0)
    assert [float(g.abs().sum()) > 0 for g in found] == [True, True, False, False]


# steps ----------------------------------------------------------------------------------------------------------------


class Steps:
    """Stands in for the optimiser: runs every step's gradient without moving the weights, and keeps it."""

    def __init__(self) -> None:
        self.gradients: list[list[torch.Tensor]] = []

    def __call__(self, module, batch_loss, schedule, **_) -> Log:
        assert schedule.clip == 0
        with torch.random.fork_rng(devices=[]):
            for step in range(schedule.steps):
                module.zero_grad()
                batch_loss(module, step).backward()
                self.gradients.append([p.grad.clone() for p in module.parameters()])
        return Log(steps=schedule.steps)


@pytest.fixture
def steps(monkeypatch) -> Steps:
    found = Steps()
    monkeypatch.setattr(private, "optimise", found)
    return found


def plan_of(**changes) -> private.Plan:
    spent = accountant.Spent(1.0, 1e-3, 2.0)
    return replace(private.Plan(images=200, steps=60, rate=0.1, noise=3.0, clip_norm=0.5, draws=1, sums=1, sum_noise=2.0, spent=spent), **changes)


def silent_net() -> nn.Module:
    net = nn.Linear(40, 30)
    nn.init.zeros_(net.weight)
    return net


def test_noise_has_the_deviation_that_was_promised(steps, tmp_path):
    plan = plan_of()
    private.Mechanism(plan, tmp_path).optimise(silent_net(), lambda net, rows, _: 0 * net(torch.ones(len(rows), 40)).sum(1), Schedule(60, 1.0), seed=0)
    noise = torch.cat([flat(g) for g in steps.gradients]) * plan.rate * plan.images  # 73,800 draws: the deviation is known to 0.3 %
    assert float(noise.std()) == pytest.approx(plan.noise * plan.clip_norm, rel=0.015) and abs(float(noise.mean())) < 0.03
    assert not torch.equal(steps.gradients[0][0], steps.gradients[1][0])


def test_every_image_takes_part_by_its_own_chance(steps, tmp_path):
    taken = np.zeros((60, 200), int)

    def losses(net: nn.Module, rows: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        taken[len(steps.gradients)][rows.numpy()] += 1
        return net(torch.ones(len(rows), 40)).sum(1)

    private.Mechanism(plan_of(noise=0.0), tmp_path).optimise(silent_net(), losses, Schedule(60, 1.0), seed=0)
    assert taken.max() == 1
    assert taken.mean() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / taken.size))
    sizes = taken.sum(axis=1)
    assert 0.5 < sizes.var() / (200 * 0.09) < 1.7  # binomial, not fixed: 59 degrees of freedom
    whole = [float(flat(g).norm()) * 0.1 * 200 for g in steps.gradients]
    assert whole == pytest.approx(sizes * 0.5, rel=1e-4)  # each image adds a gradient of norm clip_norm, all alike


def test_a_step_without_any_image_is_noise_alone(steps, tmp_path):
    def losses(net: nn.Module, rows: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        raise AssertionError("no image takes part")

    private.Mechanism(plan_of(rate=1e-9, steps=2), tmp_path).optimise(silent_net(), losses, Schedule(2, 1.0), seed=0)
    assert all(float(flat(g).norm()) > 0 for g in steps.gradients)


def test_every_draw_of_an_image_counts_once_and_has_a_seed_of_its_own(steps, tmp_path):
    seen = []

    def losses(net: nn.Module, rows: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        seen.append((rows.clone(), torch.from_numpy(seeds)))
        return net(torch.ones(len(rows), 40)).sum(1)

    private.Mechanism(plan_of(steps=1, draws=4, noise=0.0), tmp_path).optimise(silent_net(), losses, Schedule(1, 1.0), seed=0)
    rows, chance = torch.cat([r for r, _ in seen]), torch.cat([c for _, c in seen])
    images = rows.view(-1, 4)
    assert (images == images[:, :1]).all() and len(images[:, 0].unique()) == len(images) and len(chance.unique()) == len(chance)
    assert float(flat(steps.gradients[0]).norm()) * 0.1 * 200 == pytest.approx(0.5 * len(images), rel=1e-4)


def test_seeds_are_the_same_whichever_images_take_part(steps, tmp_path):
    """So an image that is there or not moves the chance of no other."""
    seeds_of: list[dict[int, int]] = []
    for rate in (0.1, 0.5):
        seen: dict[int, int] = {}

        def losses(net: nn.Module, rows: torch.Tensor, seeds: np.ndarray, seen=seen) -> torch.Tensor:
            seen.update(zip(rows.tolist(), seeds.tolist(), strict=True))
            return net(torch.ones(len(rows), 40)).sum(1)

        private.plant_key(tmp_path / str(rate), KEY)
        private.Mechanism(plan_of(steps=1, rate=rate), tmp_path / str(rate)).optimise(silent_net(), losses, Schedule(1, 1.0), seed=0)
        seeds_of.append(seen)
    few, many = seeds_of
    assert 0 < len(few) < len(many) and few.items() <= many.items()


def test_a_loss_whose_chance_is_shared_by_images_is_refused(steps, tmp_path):
    mechanism = private.Mechanism(plan_of(steps=1), tmp_path)
    with pytest.raises(ValueError, match="drew from the global random state"):
        mechanism.optimise(silent_net(), lambda net, rows, _: net(torch.rand(len(rows), 40)).sum(1), Schedule(1, 1.0), seed=0)
    with pytest.raises(SettingError, match="drop leaves features out by a chance that images share"):
        VAE(epsilon=8.0)


def test_a_sum_has_the_noise_that_was_promised_and_no_row_moves_it_by_more_than_one(tmp_path):
    chance = np.random.Generator(np.random.PCG64(0))
    rows = torch.from_numpy(3 * chance.standard_normal((200, 5000)) / math.sqrt(5000))
    rows[0] = rows[0] * 1e9
    quiet = private.Mechanism(plan_of(sum_noise=0.0), tmp_path / "quiet").sum(rows)
    expected = (rows / rows.norm(dim=1, keepdim=True).clamp(min=1.0)).sum(dim=0)
    assert torch.allclose(quiet, expected, atol=1e-4)
    noise = private.Mechanism(plan_of(), tmp_path / "noisy").sum(rows) - quiet
    assert float(noise.std()) == pytest.approx(2.0, rel=0.04) and abs(float(noise.mean())) < 0.12  # 5,000 draws
    moved = private.Mechanism(plan_of(sum_noise=0.0, images=199), tmp_path / "one less").sum(rows[1:]) - quiet
    assert 0.99 < float(moved.norm()) <= 1


def test_nothing_is_asked_of_the_images_that_was_not_planned(tmp_path):
    mechanism = private.Mechanism(plan_of(), tmp_path)
    mechanism.sum(torch.ones(200, 2))
    with pytest.raises(ValueError, match="1 sums over 200 images were planned"):
        mechanism.sum(torch.ones(200, 2))
    with pytest.raises(ValueError, match="60 steps were planned, not 61"):
        mechanism.optimise(silent_net(), lambda net, rows, _: net(torch.ones(len(rows), 40)).sum(1), Schedule(61, 1.0), seed=0)


# fits -----------------------------------------------------------------------------------------------------------------


@by_kind
def test_a_fit_says_what_it_spent(kind, tmp_path):
    facts = fitted(kind, tmp_path)
    told = facts["privacy"]
    assert json.loads(json.dumps(told)) == told
    assert told["epsilon"] <= 8.0 < told["epsilon"] * 1.01 and told["delta"] == pytest.approx(12**-1.1)
    assert (told["images"], told["steps"], told["sampling_rate"], told["clip_norm"], told["draws"]) == (12, 6, 0.5, 1.0, 2)
    beside = [Part(1.0, told["sum_noise_multiplier"], told["sums"])] if told["sums"] else []
    assert told["sums"] == (1 if isinstance(kind, VAE) else 0)
    again = accountant.spent(Part(0.5, told["noise_multiplier"], 6), *beside, delta=told["delta"])
    assert asdict(again) == {name: told[name] for name in ("epsilon", "delta", "order")}
    assert told["accountant"]["version"] == accountant.VERSION and "added or removed" in told["neighbours"]
    generator = kind.load(tmp_path / "out")
    assert generator.sample(np.arange(4), np.arange(4) % 3).shape == (4, 8, 8, 1)


@by_kind
def test_a_killed_private_fit_continues_to_the_same_bytes(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    fitted(kind, tmp_path / "whole")
    with pytest.raises(Stop):
        fitted(kind, tmp_path / "killed", progress=Killer(4))
    assert (tmp_path / "killed" / "checkpoint" / private.KEY).read_bytes() == KEY
    fitted(kind, tmp_path / "killed", key=None)
    assert weights(tmp_path / "killed" / "out") == weights(tmp_path / "whole" / "out")


@by_kind
def test_noise_comes_from_the_key_and_never_from_the_seed(kind, tmp_path):
    for name, key in (("a", KEY), ("b", KEY), ("c", KEY[::-1]), ("d", None), ("e", None)):
        fitted(kind, tmp_path / name, key=key)
        assert not (tmp_path / name / "checkpoint" / private.KEY).exists()  # a key is for one fit
    found = [weights(tmp_path / name / "out") for name in "abcde"]
    assert found[0] == found[1] and all(found[i] != found[j] for i in range(2, 5) for j in range(i))


@by_kind
def test_the_selection_split_is_not_looked_at(kind, tmp_path):
    fitted(kind, tmp_path / "a")
    facts = fitted(kind, tmp_path / "b", selection=blobs(6, seed=1))
    assert weights(tmp_path / "a" / "out") == weights(tmp_path / "b" / "out")
    assert facts["curve"] == [] and facts["best_loss"] is None and facts["steps"] == kind.steps


def test_only_what_was_summed_with_noise_is_kept_beside_the_weights(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(private.Mechanism, "sum", lambda self, parts: asked.append(parts) or torch.zeros(parts.shape[1], dtype=torch.float64))
    fitted(KINDS[0], tmp_path)
    net = KINDS[0].load(tmp_path / "out").net
    assert len(asked) == 1 and float(asked[0].norm(dim=1).max()) <= 1 + 1e-9 and len(asked[0]) == 12
    assert not net.mean.any() and torch.equal(net.deviation, torch.ones(1))  # constants
    assert not net.code_mean.any() and torch.allclose(net.code_root @ net.code_root.mT, 0.3**2 * torch.eye(4).expand(3, 4, 4))  # of sums of zero


def test_codes_settle_where_they_are_when_there_is_hardly_noise(tmp_path):
    """With little noise the private Gaussians of the codes are those of the images' own codes."""
    private.plant_key(tmp_path, KEY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        packing = Packing.of((8, 8, 1), side=8, multiple=4)
        net, x = _Net(packing, 3, VAE(width=8, codes=4)).eval(), torch.rand(600, packing.planes, packing.rows, packing.columns)
        net.to_codes.weight.data *= 8
        y = torch.arange(600) % 3
        x[y == 1] *= -1
        with torch.no_grad():
            mean, log_deviation = net.encode(x, y)
            net.settle_privately(x, y, private.Mechanism(plan_of(images=600, sum_noise=1e-3), tmp_path))
    own = torch.stack([mean[y == k].mean(0) for k in range(3)])
    rest = mean - own[y]
    covariance = rest.T @ rest / len(rest) + torch.diag((2 * log_deviation).exp().mean(0))
    assert float((net.code_mean - own).abs().max()) < 0.25  # codes are drawn: 200 a class
    assert float((net.code_root[0] @ net.code_root[0].T - covariance).norm() / covariance.norm()) < 0.25


def test_where_noise_drowns_everything_no_image_is_learnt(tmp_path):
    """With other images, and the same key, a fit of hardly any epsilon comes to nearly the same weights."""
    quiet = replace(KINDS[0], epsilon=0.01, draws=1)
    other = Pixels(255 - blobs().x, blobs().y, 3)
    fitted(quiet, tmp_path / "a")
    fitted(quiet, tmp_path / "b", train=other)
    a, b = (quiet.load(tmp_path / name / "out").net for name in "ab")
    gap = float((flat(a.parameters()) - flat(b.parameters())).norm())
    fitted(replace(quiet, lr=1e-12), tmp_path / "c")
    start = quiet.load(tmp_path / "c" / "out").net
    assert gap < 0.2 * float((flat(a.parameters()) - flat(start.parameters())).norm())


def test_the_key_is_for_its_owner_only_and_half_a_key_is_refused(tmp_path):
    private.secret_key(tmp_path)
    assert os.name != "posix" or (tmp_path / private.KEY).stat().st_mode & 0o777 == 0o600
    private.plant_key(tmp_path / "b", KEY)
    private.plant_key(tmp_path / "b", KEY[::-1])
    assert private.secret_key(tmp_path / "b") == KEY  # the first one stays
    (tmp_path / private.KEY).write_bytes(b"half")
    with pytest.raises(SettingError, match="32 bytes"):
        private.secret_key(tmp_path)


# without an epsilon nothing changes -----------------------------------------------------------------------------------


def test_settings_without_epsilon_have_the_digests_they_had():
    """Digests of the settings from before there was an epsilon: fits in users' stores are found by them."""
    assert digest("x", VAE()) == "e6828831f5d2eebe50f96a7313ac952e96b0c60c30f14316f3ac339e7d315219"
    assert digest("x", Diffusion(epsilon=0.0, shift=1.0)) == "19b4ef4a5af47c225d07268ccdcd11e065944a21e5e3a3fbf7c70593169ca783"
    for kind in KINDS:
        assert set(plain(kind)) - set(plain(type(kind)())) == {"epsilon", "draws"}
        assert digest("x", replace(kind, delta=1e-5)) != digest("x", kind) != digest("x", replace(kind, epsilon=7.0))


@by_kind
def test_a_fit_without_epsilon_knows_nothing_of_privacy(kind, tmp_path):
    facts = fitted(replace(kind, epsilon=0.0, draws=1), tmp_path, selection=blobs(6, seed=1), key=None)
    assert "privacy" not in facts and facts["best_loss"] is not None
    assert not (tmp_path / "checkpoint" / private.KEY).exists()
    said = "".join(p.read_text() for p in (tmp_path / "out").rglob("*.json"))
    assert not any(f.name in said for f in private.fields(private.Private))


# the library ----------------------------------------------------------------------------------------------------------


def images_of(pixels: Pixels):
    return from_arrays(pixels.x, pixels.y, classes=[f"c{k}" for k in range(pixels.n_classes)])


@by_kind
def test_a_private_fit_uses_every_image_and_is_found_again(kind):
    images = images_of(blobs(18))
    found = mi.fit(kind, images)
    assert found.entry.result["privacy"]["images"] == 18
    assert mi.fit(kind, images).entry.result == found.entry.result
    assert mi.load_generator(found.digest).settings == found.settings
    store = Store.find()
    before = (found.entry.folder / "generator.json").read_bytes(), weights(found.entry.folder)
    store.drop(found.digest)
    again = mi.fit(kind, images)
    after = (again.entry.folder / "generator.json").read_bytes(), weights(again.entry.folder)
    before[1].pop("result.json"), after[1].pop("result.json")  # holds the seconds
    assert after == before  # the same store makes the same noise for the same question, so nothing more is spent


@by_kind
def test_a_killed_private_fit_continues_to_the_same_bytes_in_the_same_store(kind, monkeypatch):
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    images, store = images_of(blobs()), Store.find()
    with pytest.raises(JobError, match="Stop"):
        mi.fit(kind, images, progress=Killer(4))
    steps: list[int] = []
    monkeypatch.setattr(Silent, "step", lambda self, done, total, note="": steps.append(done))
    continued = mi.fit(kind, images)
    assert steps == [4, 5, 6]  # the killed step was not kept, those before it were
    files = weights(continued.entry.folder)
    store.drop(continued.digest)
    files.pop("result.json")  # holds the seconds
    again = weights(mi.fit(kind, images).entry.folder)
    again.pop("result.json")
    assert again == files and steps == [4, 5, 6, 1, 2, 3, 4, 5, 6]


def test_two_questions_and_two_versions_do_not_share_their_noise(monkeypatch):
    keys, vae = [], KINDS[0]
    monkeypatch.setattr(private, "plant_key", lambda checkpoint, key: keys.append(key))
    monkeypatch.setattr(VAE, "fit", lambda self, *_, **__: (_ for _ in ()).throw(SettingError("stop", fix="")))
    questions = [(vae, 18, 0, 1), (vae, 18, 1, 1), (vae, 17, 0, 1), (replace(vae, lr=1e-3), 18, 0, 1), (vae, 18, 0, 2)]
    for kind, n, seed, version in (*questions, questions[0]):
        monkeypatch.setattr(VAE, "version", version)
        with pytest.raises(SettingError, match="stop"):
            mi.fit(kind, images_of(blobs(n)), seed=seed)
    assert len(set(keys)) == len(questions) and keys[-1] == keys[0]


def test_what_is_handed_on_confirms_no_guess_of_the_images(tmp_path, monkeypatch):
    """Digests of the training images appear in cards; those of a private fit cannot be made again from the images alone."""
    images = images_of(blobs(18))
    fakes = mi.generate(mi.fit(KINDS[0], images), per_class=2)
    mi.write_images(fakes, tmp_path / "fakes")
    card = json.loads((tmp_path / "fakes" / "provenance.json").read_text())
    monkeypatch.setenv("MITATE_HOME", str(tmp_path / "elsewhere"))
    other = mi.generate(mi.fit(KINDS[0], images), per_class=2)
    assert fakes.provenance.digest != other.provenance.digest and not set(fakes.provenance.parents) & set(other.provenance.parents)
    assert images.digest not in json.dumps(card)
    told = card["provenance"]["settings"]["privacy"]
    assert told["epsilon"] <= 8 and "Renyi" in told["accountant"]["name"]
    said = (tmp_path / "fakes" / "README.md").read_text()
    for words in (f"epsilon {told['epsilon']:.3g} at delta {told['delta']:.2g}, for one image", f"{told['steps']} steps", "For k images", "差分プライバシー"):
        assert words in said


def test_a_secret_is_made_once_and_survives_cleaning(tmp_path):
    store = Store(tmp_path / "a")
    name = store.blind("x")
    assert name == Store(tmp_path / "a").blind("x") != store.blind("y") and len(name) == 64
    store.clean(keep=set())
    assert store.blind("x") == name != Store(tmp_path / "b").blind("x")
    assert os.name != "posix" or (tmp_path / "a" / "secret").stat().st_mode & 0o777 == 0o600


SMALL = ["-o", "epsilon=8", "-o", "steps=2", "-o", "batch=8", "-o", "draws=1"]


@pytest.mark.parametrize("kind", ["vae", "gan", "diffusion"])
def test_mitate_fit_takes_an_epsilon(kind, capsys):
    app.main(["fit", kind, "digits:4", "--as", "x", *SMALL], standalone_mode=False)
    said = capsys.readouterr().out
    assert "x: private, epsilon 8 at delta 0.017 for one image of 40 (noise" in said and "rate 0.2, 2 steps)" in said and "group" not in said


def test_mitate_fit_says_that_epsilon_is_not_for_a_group(tmp_path, capsys):
    x = blobs(6).x
    for i in range(6):
        Image.fromarray(x[i, :, :, 0]).save(tmp_path / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "label": f"c{i % 3}", "group": f"patient {i // 2}"}) for i in range(6)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    app.main(["fit", "vae", str(tmp_path), "--as", "x", *SMALL], standalone_mode=False)
    assert "x: the images have groups, and epsilon is not for a group. k images of one person: k epsilon" in capsys.readouterr().out


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"epsilon": -1.0}, {"epsilon": 0.001}, {"epsilon": 1e4}, {"delta": 1.0}, {"clip_norm": 0.0}, {"draws": 0}], ids=str)
@by_kind
def test_privacy_settings_out_of_range_are_refused(kind, changes):
    with pytest.raises(SettingError):
        replace(kind, **changes)


@pytest.mark.parametrize("changes", [{"delta": 1e-5}, {"clip_norm": 0.5}, {"draws": 2}], ids=str)
def test_a_privacy_setting_without_epsilon_is_refused(changes):
    with pytest.raises(SettingError, match=f"{next(iter(changes))} does nothing without epsilon"):
        VAE(**changes)


def test_a_delta_that_gives_an_image_away_is_refused(tmp_path):
    with pytest.raises(SettingError, match="given away whole"):
        fitted(replace(KINDS[0], delta=0.1), tmp_path)


def test_statistics_that_epsilon_does_not_cover_are_refused():
    with pytest.raises(SettingError, match="grain needs a statistic"):
        VAE(epsilon=8.0, drop=0.0, grain=0.5)
    with pytest.raises(TypeError):
        Gaussian(epsilon=8.0)


def test_mitate_fit_refuses_an_epsilon_that_would_not_hold(capsys):
    for arguments, said in (
        (["gaussian", "digits:4", "-o", "epsilon=8"], "no setting 'epsilon'"),
        (["vae", "digits:4", "--per-class", "3", "-o", "epsilon=8"], "--per-class lets one image decide"),
    ):
        with pytest.raises(SettingError, match=said):
            app.main(["fit", *arguments, "--as", "x"], standalone_mode=False)
