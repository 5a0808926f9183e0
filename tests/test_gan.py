"""The GAN: two networks against each other and each moved by its own loss alone, changes that stay out of what is drawn, a critic that can be private."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import mitate.fitting
from mitate.cli import app
from mitate.errors import JobError, SettingError
from mitate.fitting import Schedule, duel
from mitate.generator import Pixels, TellsLoss
from mitate.generators import clipping, private
from mitate.generators.changes import CHANCES, changed
from mitate.generators.gan import GAN, _Critic, _Maker, _Near, _real_losses
from mitate.generators.packing import Packing
from test_generators_contract import Killer, Stop, blobs, fitted, weights

TINY = GAN(steps=12, batch=8, width=8, critic_width=8, side=8, codes=4, checks=3)
PRIVATE = replace(TINY, epsilon=8.0, steps=6, batch=6, loss="logistic", lead=0.0, tie=0.0, turns=2)
OFF = 0.999  # a chance at which no change is made


@pytest.fixture(autouse=True)
def chance_of_its_own():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# changes --------------------------------------------------------------------------------------------------------------


def only(**chances: float) -> torch.Tensor:
    """Chances of one image that make just the named changes. Brightness 0 1, saturation 2 3, contrast 4 5, translation 6 7 8, hole 9 10 11."""
    row = torch.full((1, CHANCES), OFF)
    for place, value in chances.items():
        row[0, int(place[1:])] = value
    return row


def test_image_i_is_changed_by_row_i_of_chance_alone():
    x, chance = torch.rand(9, 3, 10, 12) * 2 - 1, torch.rand(9, CHANCES)
    whole = changed(x, chance, share=0.8)
    order = torch.randperm(9)
    assert torch.equal(changed(x[order], chance[order], share=0.8), whole[order])
    assert torch.equal(changed(x[4:5], chance[4:5], share=0.8), whole[4:5])
    assert all(not torch.equal(a, b) for a, b in zip(whole, x, strict=True))


def test_each_change_is_what_it_says():
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    same = partial(torch.allclose, atol=1e-6)
    assert same(changed(x, only(), share=0.5), x)
    assert same(changed(x, only(c0=0.0, c1=0.9), share=0.5), x + 0.4)
    grey = x.mean(dim=1, keepdim=True)
    assert same(changed(x, only(c2=0.0, c3=0.0), share=0.5), grey.expand_as(x))
    assert same(changed(x, only(c4=0.0, c5=0.0), share=0.5), (x + x.mean()) / 2)
    moved = changed(x, only(c6=0.0, c7=0.999, c8=0.0), share=0.5)  # 8 px: one down, one to the left
    assert same(moved[..., 1:, :-1], x[..., :-1, 1:]) and not moved[..., 0, :].any() and not moved[..., -1].any()
    cut = changed(x, only(c9=0.0, c10=0.5, c11=0.5), share=0.5)
    assert not cut[..., 2:6, 2:6].any() and int((cut == 0).sum()) == 3 * 16 and same(cut[..., :2], x[..., :2])


def test_each_change_leaves_its_share_of_images_alone():
    chance = torch.rand(4000, CHANCES)
    x = torch.rand(1, 1, 8, 8).expand(4000, 1, 8, 8)
    untouched = (changed(x, chance, share=0.3) - x).abs().flatten(1).amax(dim=1) < 1e-6
    stay = 0.7**3 * (0.7 + 0.3 / 9) * 0.7  # grey images have no saturation, of nine translations one is none
    stay /= 0.7
    assert float(untouched.float().mean()) == pytest.approx(stay, abs=0.03)
    assert torch.equal(changed(x, chance, share=0.0), x)


def test_gradients_pass_through_every_change():
    x, chance = torch.rand(1, 3, 4, 4, dtype=torch.float64, requires_grad=True), torch.rand(1, CHANCES, dtype=torch.float64) * 0.5
    assert torch.autograd.gradcheck(lambda images: changed(images, chance, share=0.9), x)


@pytest.mark.parametrize("colours", [((200, 60, 60), (60, 60, 200)), ((235, 235, 235), (20, 20, 20))], ids=["colours", "greys"])
def test_changes_do_not_leak_into_what_is_drawn(colours, tmp_path):
    """Images of one flat colour a class, nearly always shown brighter, paler, flatter, elsewhere or with a hole, are drawn in their own colour."""
    y = np.arange(12) % 2
    train = Pixels(np.broadcast_to(np.array(colours, np.uint8)[y][:, None, None], (12, 8, 8, 3)).copy(), y, 2)
    empty = Pixels(train.x[:0], y[:0], 2)
    generator, _ = fitted(replace(TINY, steps=80, lead=0.1, tie=0.0, change=0.9), tmp_path, train=train, selection=empty)
    drawn = generator.sample(np.arange(40), np.arange(40) % 2).astype(float)
    for k in range(2):
        shade = drawn[k::2].mean(axis=(1, 2))
        assert np.abs(shade.mean(axis=0) - colours[k]).max() < 12 and shade.std(axis=0).max() < 12  # as they are shown, brightness alone has 35


# two networks ---------------------------------------------------------------------------------------------------------


class Corner(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(value))


def play(maker: Corner, critic: Corner, *, steps: int = 6, critic_loss=None, **rest):
    schedule = Schedule(steps, 0.1, cosine=False, clip=0.0)
    critic_loss = critic_loss or (lambda maker, critic, step: (critic.place - maker.place).square())
    return duel(
        maker, critic, maker_loss=lambda maker, critic, step: (maker.place + critic.place).square(), critic_loss=critic_loss,
        maker_schedule=schedule, critic_schedule=schedule, seed=0, **rest,
    )  # fmt: skip


def test_a_loss_moves_only_the_network_it_is_of():
    maker, critic, alone = Corner(1.0), Corner(3.0), Corner(3.0)
    play(maker, critic, turns=100)
    assert maker.place.item() == 1.0 and critic.place.item() != 3.0
    play(maker, alone, critic_loss=lambda *_: None)
    assert alone.place.item() == 3.0 and maker.place.item() != 1.0


def test_the_maker_has_its_turn_after_every_few_of_the_critic():
    seen: list[tuple[float, int]] = []

    def critic_loss(maker: Corner, critic: Corner, step: int):
        seen.append((maker.place.item(), step))
        return (critic.place - maker.place).square()

    play(Corner(1.0), Corner(3.0), critic_loss=critic_loss, turns=3, steps=7)
    places = [place for place, _ in seen]
    assert [step for _, step in seen] == list(range(7))
    assert places[0] == places[2] != places[3] == places[5] != places[6]


@pytest.mark.parametrize(("slack", "kept"), [(0.0, 3), (0.2, 5)])
def test_the_last_weights_that_look_nearly_as_near_are_kept(slack: float, kept: int):
    """Looks of 5, 3, 1, 1.3 and 1.1: the third is the best, the fifth within a fifth of it."""
    looks = iter([5.0, 3.0, 1.0, 1.3, 1.1])
    log = play(Corner(1.0), Corner(3.0), steps=5, validate=lambda module: next(looks), validate_every=1, slack=slack)
    assert (log.best_step, log.best_loss) == (kept, dict(log.curve)[kept])


@pytest.mark.parametrize(("lead", "steps"), [(0, 3), (4, 6), (9, 10)])
def test_patience_does_not_run_while_the_maker_has_its_lead(lead: int, steps: int):
    """Looks that only get worse after the first: two more end the duel, but none of the lead's."""
    looks = iter(range(1, 11))
    log = play(Corner(1.0), Corner(3.0), steps=10, validate=lambda module: float(next(looks)), validate_every=1, patience=2, lead=lead)
    assert (log.steps, log.best_step) == (steps, 1)


def test_a_fit_does_not_stop_in_its_lead(tmp_path, monkeypatch):
    """A selection split that looks farther at every look, and patience for one: the critic still has its turn."""
    looks = iter(range(1, 100))
    monkeypatch.setattr(_Near, "distance", lambda self, maker: float(next(looks)))
    _, facts = fitted(replace(TINY, lead=0.5, checks=12, patience=1), tmp_path)
    assert facts["steps"] == 7, "six in the lead, and one look without a new best"


def test_a_duel_that_is_no_number_is_an_error_and_so_are_two_lengths():
    with pytest.raises(JobError, match="The loss became nan at step 0"):
        play(Corner(1.0), Corner(math.nan))
    with pytest.raises(ValueError, match="the maker has 3 steps and the critic 4"):
        duel(Corner(1.0), Corner(1.0), maker_loss=None, critic_loss=None, maker_schedule=Schedule(3, 1.0), critic_schedule=Schedule(4, 1.0), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [TINY, replace(TINY, lr=1e30, lead=0.5)], ids=["fits", "does not"])
def test_a_loss_that_is_not_finite_is_a_job_error(kind, tmp_path):
    if kind is TINY:
        fitted(kind, tmp_path)
        return
    with pytest.raises(JobError, match="became"):
        fitted(kind, tmp_path)


@pytest.mark.parametrize("at", [2, 7], ids=["in the lead", "after it"])
@pytest.mark.parametrize("kind", [TINY, replace(TINY, loss="logistic", turns=2, penalty_every=1)], ids=["pairs", "logistic"])
def test_both_networks_and_both_optimisers_come_back_after_a_kill(kind, at, tmp_path, monkeypatch):
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    fitted(kind, tmp_path / "whole")
    with pytest.raises(Stop):
        fitted(kind, tmp_path / "killed", progress=Killer(at))
    fitted(kind, tmp_path / "killed")
    assert weights(tmp_path / "killed" / "out") == weights(tmp_path / "whole" / "out")


# what each network does -----------------------------------------------------------------------------------------------


def nets(kind: GAN = TINY, shape: tuple[int, int, int] = (9, 9, 3)) -> tuple[Packing, _Maker, _Critic]:
    packing = Packing.of(shape, side=8, multiple=2)
    return packing, _Maker(packing, 3, kind), _Critic(packing, 3, kind)


def test_the_critic_sees_each_image_alone_and_asks_for_its_class():
    packing, _, critic = nets()
    x, y = torch.randn(6, packing.planes, packing.rows, packing.columns), torch.arange(6) % 3
    whole = critic(x, y)
    assert torch.allclose(critic(x[2:3], y[2:3]), whole[2:3], atol=1e-5)
    assert not torch.allclose(critic(x, (y + 1) % 3), whole, atol=1e-3)


def test_codes_of_images_are_what_normal_codes_can_stand_for():
    packing, maker, _ = nets()
    centre = 2 * torch.randn(3, 1, packing.planes, packing.rows, packing.columns)
    spread = torch.randn(6, packing.planes, packing.rows, packing.columns)
    x = (centre + torch.einsum("knd,dprc->knprc", torch.randn(3, 200, 6), spread)).flatten(0, 1)
    y = torch.arange(3).repeat_interleave(200)
    known = maker.settle(x, y)
    assert torch.allclose(maker.mean, torch.stack([x[y == k].mean(0) for k in range(3)]))
    for k in range(3):
        mine = known[y == k]
        assert float(mine.mean(0).abs().max()) < 1e-3 and float((mine.T @ mine / 199 - torch.eye(4)).abs().max()) < 0.2
    rest = (x - maker.mean[y]).flatten(1)
    told = known @ torch.linalg.lstsq(known, rest).solution
    widest = torch.linalg.svdvals(rest).square()
    assert float((rest - told).square().sum()) == pytest.approx(float(widest[4:].sum()), rel=0.1)  # four codes tell what the four widest directions hold


def test_before_the_first_step_a_class_is_its_mean_image():
    packing, maker, _ = nets()
    x, y = torch.rand(9, packing.planes, packing.rows, packing.columns), torch.arange(9) % 3
    maker.settle(x, y)
    assert torch.equal(maker(torch.randn(3, 4), torch.arange(3)), maker.mean)


@pytest.mark.parametrize("per_class", [1, 2])
def test_a_fit_on_one_or_two_images_a_class_draws_different_images(per_class, tmp_path):
    train = blobs(3 * per_class)
    generator, facts = fitted(TINY, tmp_path, train=train, selection=blobs(3, seed=1))
    drawn = generator.sample(np.arange(30), np.arange(30) % 3)
    assert facts["steps"] and len(np.unique(drawn.reshape(30, -1), axis=0)) >= 3 * per_class


def test_nearness_prefers_the_right_images_in_the_right_class_and_all_of_them():
    train, held = blobs(60), blobs(30, seed=1)
    packing = Packing.of((8, 8, 1), side=8, multiple=2)
    x, y = packing.pack(train.x), torch.from_numpy(train.y)
    near = _Near(packing, x, y, packing.pack(held.x), torch.from_numpy(held.y), codes=4)
    chance = torch.randint(20, (10_000,))

    def distance(of_class) -> float:
        return near.distance(lambda codes, classes: torch.stack([x[y == of_class(k)][int(chance[i])] for i, k in enumerate(classes.tolist())]))

    def one(codes, classes):
        return torch.stack([x[y == k][0] for k in classes.tolist()])

    right, wrong = distance(lambda k: k), distance(lambda k: (k + 1) % 3)
    assert right < 0.2 * near.distance(one) and right < 0.2 * wrong


def test_codes_drawn_less_widely_give_images_more_alike(tmp_path):
    fitted(TINY, tmp_path)
    seeds, classes = np.arange(60), np.zeros(60, np.int64)
    apart = [replace(TINY, spread=spread).load(tmp_path / "out").sample(seeds, classes).std(axis=0).mean() for spread in (1.0, 0.5, 0.1)]
    assert apart[0] > 1.3 * apart[1] > 1.3 * 1.3 * apart[2]


def test_a_gan_tells_no_loss(tmp_path):
    generator, _ = fitted(TINY, tmp_path)
    assert not isinstance(generator, TellsLoss)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gan.safetensors", "generator.json"]  # the critic is not kept


# privacy --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 3])
def test_clipped_gradients_of_the_critic_are_those_of_a_loop_over_images(draws):
    packing, _, critic = nets()
    x, y, seeds = torch.randn(5, packing.planes, packing.rows, packing.columns), torch.arange(5) % 3, np.arange(15).reshape(5, 3)[:, :draws]
    losses = partial(_real_losses, critic, x=x, y=y, packing=packing, change=0.8)

    def flat(parts) -> torch.Tensor:
        return torch.cat([p.flatten().double() for p in parts])

    expected = torch.zeros(sum(p.numel() for p in critic.parameters()), dtype=torch.float64)
    for i in range(5):
        one = flat(torch.autograd.grad(losses(torch.full((draws,), i), seeds[i]).mean(), list(critic.parameters())))
        expected += one * min(1.0, 0.5 / float(one.norm()))
    rows = torch.arange(5).repeat_interleave(draws)
    ours = flat(clipping.clipped_sum(critic, lambda: losses(rows, seeds.reshape(-1)), clip_norm=0.5, draws=draws))
    assert float((ours - expected).norm() / expected.norm()) < 5e-5


def test_nothing_but_the_noisy_gradient_of_the_critic_is_taken_from_the_images(tmp_path, monkeypatch):
    """Where that gradient is replaced by zero, other images give the same bytes."""
    monkeypatch.setattr(private.secrets, "token_bytes", lambda n=32: hashlib.sha256(b"secret").digest()[:n])
    train, other = blobs(), blobs(seed=5)
    other = Pixels(255 - other.x, other.y[::-1].copy(), 3)
    fitted(PRIVATE, tmp_path / "a", train=train)
    fitted(PRIVATE, tmp_path / "b", train=other)
    assert weights(tmp_path / "a" / "out") != weights(tmp_path / "b" / "out")
    monkeypatch.setattr(private.Mechanism, "noisy", lambda self, module, losses: lambda module, step: sum(0 * p.sum() for p in module.parameters()))
    fitted(PRIVATE, tmp_path / "c", train=train)
    fitted(PRIVATE, tmp_path / "d", train=other)
    assert weights(tmp_path / "c" / "out") == weights(tmp_path / "d" / "out")


# refusals and the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"loss": "pair"}, {"width": 12}, {"turns": 0}, {"lead": 1.0}, {"change": 1.0}, {"shake": 1.5}, {"tie": -1.0}, {"penalty": -0.1}], ids=str
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(SettingError):
        replace(TINY, **changes)


@pytest.mark.parametrize("changes", [{"loss": "pairs"}, {"lead": 0.3}, {"tie": 1.0}], ids=str)
def test_a_private_maker_that_would_see_an_image_is_refused(changes):
    with pytest.raises(SettingError, match="the maker must not see an image"):
        replace(PRIVATE, **changes)


@pytest.mark.parametrize("options", [["steps=4"], ["epsilon=8", "steps=2", "batch=8"]], ids=["plain", "private"])
def test_mitate_fit_knows_the_gan(options, capsys):
    app.main(["fit", "gan", "digits:6", "--as", "x", *(word for option in options for word in ("-o", option))], standalone_mode=False)
    said = capsys.readouterr().out
    assert "x: gan, 10 classes at 8 px" in said and ("private, epsilon 8" in said) == (len(options) > 1)
