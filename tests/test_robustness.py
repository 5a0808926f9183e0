"""Attacks, corruptions, calibration, detection, and the job that puts a model under all of them: references, closed forms, invariants, refusals.

The references live in an environment of their own; what they said is in tests/oracles/robustness.json, made again by `make oracles`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mitate as mi
from mitate.errors import DataError, SettingError
from mitate.metrics import ascent as asc
from mitate.metrics import attacks as at
from mitate.metrics import calibration as ca
from mitate.metrics import corruptions as co
from mitate.metrics import detection as de
from mitate.metrics import robustness as ro
from mitate.metrics.intervals import one_way, wilson
from mitate.score import Metric, Score
from mitate.store import Asked, Store
from mitate.verbs import VERBS, keep_images, perform
from robustness_inputs import CLASSES, EPS, answered, featured, model_and_images, noise, photograph, scored, weights

SAID = json.loads((Path(__file__).parent / "oracles" / "robustness.json").read_text())
LINF = partial(at.apgd, eps=0.05)
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": at.fgsm,
    "pgd": partial(at.pgd, steps=5, restarts=2, seed=3),
    "apgd": partial(at.apgd, steps=10, seed=3),
    "square": partial(at.square, queries=30, seed=3),
}


def reference(name: str) -> tuple[dict[str, Any], nn.Module, Tensor, Tensor]:
    model, x, y = model_and_images(name)
    said = SAID["torchattacks"][name]
    assert said["inputs"]["x"] == pytest.approx(float((x.numpy() * weights(tuple(x.shape))).sum()), rel=1e-9), "inputs differ from those of the oracle"
    assert said["inputs"]["logits"] == pytest.approx(float(model(x).abs().sum()), rel=1e-9), "the model differs from that of the oracle"
    return said, model, x, y


class Linear(nn.Module):
    """Logits W x + b of the pixels."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.from_numpy(weight)), nn.Parameter(torch.from_numpy(bias))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def linear(classes: int, *, inside: bool = False) -> tuple[Linear, Tensor, Tensor]:
    """A linear model of 6 x 6 pixels and 60 images that it gets right; `inside`: no pixel near 0 or 1."""
    rng = np.random.default_rng(classes)
    model = Linear(rng.normal(size=(classes, 36)), rng.normal(size=classes))
    x = rng.uniform(0.35, 0.65, (60, 1, 6, 6)) if inside else rng.uniform(0, 1, (60, 1, 6, 6))
    images = torch.from_numpy(x)
    return model, images, model(images).argmax(1)


# attacks: references


@pytest.mark.parametrize("name", CLASSES)
def test_fgsm_and_pgd_without_random_start_are_those_of_torchattacks(name: str) -> None:
    said, model, x, y = reference(name)
    eps, length = EPS[name]["linf"], EPS[name]["l2"]
    for which, adversarial in {
        "fgsm": at.fgsm(model, x, y, eps=eps),
        "pgd linf": at.pgd(model, x, y, eps=eps, steps=10, step=eps / 4, restarts=0),
        "pgd l2": at.pgd(model, x, y, eps=length, norm="l2", steps=10, step=length / 4, restarts=0),
    }.items():
        loss, rel = nn.functional.cross_entropy(model(adversarial), y, reduction="none"), 1e-5 if which == "pgd l2" else 1e-9
        assert loss.tolist() == pytest.approx(said[which]["loss"], rel=rel), f"{which}: in l2 they add 1e-10 to the gradient's length"
        assert float((adversarial.numpy() * weights(tuple(x.shape))).sum()) == pytest.approx(said[which]["sum"], rel=rel), which


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_run_of_apgd_reaches_what_torchattacks_reaches_from_the_same_start(name: str, norm: asc.Norm) -> None:
    """Images that are fooled leave our run at once and go on in theirs, so losses are compared where nobody is fooled.

    Their first check compares the first step with a row of zeros, ours with the start; an image where that matters goes another way.
    """
    said, model, x, y = reference(name)
    eps, drawn = EPS[name][norm], noise(name, norm)
    ways = 2 * drawn - 1 if norm == "linf" else drawn
    ways /= np.abs(ways).max(axis=(1, 2, 3), keepdims=True) if norm == "linf" else np.sqrt((ways**2).sum(axis=(1, 2, 3), keepdims=True))
    start = (x + eps * torch.from_numpy(ways)).clamp(0, 1)
    order = model(x).argsort(dim=1)
    runs = {f"apgd {norm}": (asc.cross_entropy, None)}
    if norm == "linf" and CLASSES[name] >= 4:
        runs |= {f"apgd to {place}": (asc.dlr_to, order[:, -place]) for place in (2, 3)}
    for which, (height, target) in runs.items():
        point = asc.ascend(model, x, y, start, height, target, ball=asc.ball_of(norm, eps), steps=50)
        logits = model(point)
        kept = logits.argmax(1) == y
        assert kept.int().tolist() == said[which]["kept"], which
        loss = height(logits, y) if target is None else height(logits, y, target)
        apart = np.abs(loss[kept].numpy() / np.array(said[which]["loss"])[kept.numpy()] - 1)
        assert (apart > 1e-5).sum() <= 1 and apart.max() < 0.02, which


@pytest.mark.parametrize("name", CLASSES)
def test_accuracies_under_attack_are_those_of_torchattacks_within_noise(name: str) -> None:
    said, model, x, y = reference(name)
    for size in (0.5, 1.0, 1.5):
        eps = size * EPS[name]["linf"]
        pgd = at.robust_accuracy(model, x, y, partial(at.pgd, eps=eps, steps=10, step=eps / 4, restarts=5))
        apgd = at.robust_accuracy(model, x, y, partial(at.apgd, eps=eps))
        assert pgd.kept.sum() == pytest.approx(sum(said["kept"][f"pgd {size}"]), abs=2)
        assert sum(said["kept"][f"apgd {size}"]) - 4 <= apgd.kept.sum() <= min(sum(said["kept"][f"apgd {size}"]), sum(said["kept"][f"pgd {size}"]) + 1)
    square = at.robust_accuracy(model, x, y, partial(at.square, eps=1.5 * EPS[name]["linf"], queries=200))
    assert square.kept.sum() == pytest.approx(sum(said["kept"]["square 1.5"]), abs=5)


# attacks: groups


def test_under_attack_images_of_one_group_count_once() -> None:
    rng = np.random.default_rng(0)
    right, kept = rng.random(30) < 0.9, rng.random(30) < 0.5
    plain = at.under_attack(right, kept)
    assert plain.robust == wilson(int((right & kept).sum()), 30)
    groups = np.tile(np.arange(30), 8)
    once, together = at.under_attack(right, kept, groups=np.arange(30)), at.under_attack(np.tile(right, 8), np.tile(kept, 8), groups=groups)
    apart = at.under_attack(np.tile(right, 8), np.tile(kept, 8))
    for part in ("clean", "robust", "drop"):
        a, b, c = (getattr(found, part) for found in (once, together, apart))
        assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high)), part
        assert c.high - c.low < 0.6 * (b.high - b.low), "eight times the images would be worth more"
    assert at.under_attack(np.ones(40, bool), np.ones(40, bool), groups=np.arange(40) // 8).robust.low < 0.8, "five patients are no certainty"
    with pytest.raises(ValueError, match="one group"):
        at.under_attack(right, kept, groups=np.zeros(30, int))


def test_intervals_under_attack_cover_where_groups_share_their_fate() -> None:
    """40 patients of 6 images; a patient's images resist with a chance of its own. Nominal 95 %; Wilson over images holds the truth far less often."""
    rng = np.random.default_rng(1)
    hits = np.zeros(2)
    for _ in range(200):
        chance = rng.beta(0.6, 0.6, 40)
        kept = (rng.random((40, 6)) < chance[:, None]).ravel()
        with_groups, without = (at.under_attack(np.ones(240, bool), kept, groups=g).robust for g in (np.arange(40).repeat(6), None))
        hits += [with_groups.low <= 0.5 <= with_groups.high, without.low <= 0.5 <= without.high]
    assert hits[0] >= 182 and hits[1] < 165, hits


# attacks: closed forms


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_apgd_finds_exactly_what_can_be_found_on_a_linear_model(classes: int) -> None:
    """In linf each pixel can do its worst alone, as far as 0 and 1 let it, so the least margin has a closed form."""
    model, x, y = linear(classes)
    weight, eps = model.weight.detach().numpy(), 0.04
    flat, clean = x.numpy().reshape(60, 36), model(x).detach().numpy()
    margins = np.full((60, classes), np.inf)
    for i, own in enumerate(y.tolist()):
        for other in set(range(classes)) - {own}:
            way = weight[own] - weight[other]
            room = np.where(way > 0, np.minimum(eps, flat[i]), np.minimum(eps, 1 - flat[i]))
            margins[i, other] = clean[i, own] - clean[i, other] - (np.abs(way) * room).sum()
    least = margins.min(axis=1)
    assert np.abs(least).min() > 1e-4 and 5 < (least > 0).sum() < 55, "a fair test"
    assert at.robust_accuracy(model, x, y, partial(at.apgd, eps=eps)).kept.tolist() == (least > 0).tolist()
    if classes == 2:
        for attack in (partial(at.fgsm, eps=eps), partial(at.pgd, eps=eps)):
            assert at.robust_accuracy(model, x, y, attack).kept.tolist() == (least > 0).tolist()


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_least_perturbation_of_a_linear_model_is_met_from_both_sides(norm: asc.Norm, dual: int, classes: int) -> None:
    """Away from 0 and 1 it is the least margin over the dual norm of the difference of two rows."""
    model, x, y = linear(classes, inside=True)
    logits, weight = model(x).detach().numpy(), model.weight.detach().numpy()
    for i in range(6):
        own = int(y[i])
        distance = min((logits[i, own] - logits[i, k]) / np.linalg.norm(weight[own] - weight[k], dual) for k in range(classes) if k != own)
        for size, fooled in ((0.999, False), (1.001, True)):
            point = at.apgd(model, x[i : i + 1], y[i : i + 1], eps=size * distance, norm=norm)
            assert (int(model(point).argmax(1)) != own) == fooled


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attacks_stay_within_eps_and_within_the_range_of_pixels(attack: str, norm: asc.Norm, dtype: torch.dtype) -> None:
    model, x, y = model_and_images("ten")
    x = torch.cat([x, torch.zeros_like(x[:4]), torch.ones_like(x[:4])]).to(dtype)
    y = torch.cat([y, y[:8]])
    eps = EPS["ten"][norm]
    found = ATTACKS[attack](model.to(dtype), x, y, eps=eps, norm=norm)
    apart = (found - x).flatten(1)
    reach = apart.abs().amax(1) if norm == "linf" else apart.norm(dim=1)
    assert found.dtype == dtype and found.shape == x.shape and not found.requires_grad
    assert float(reach.max()) <= eps * (1 + 1e-5) and float(found.min()) >= 0 and float(found.max()) <= 1
    assert float(reach.max()) > 0.9 * eps


def test_attacks_get_stronger_in_the_order_that_is_claimed() -> None:
    model, x, y = model_and_images("ten")
    eps = EPS["ten"]["linf"]
    order = (partial(at.square, eps=eps, queries=50), partial(at.fgsm, eps=eps), partial(at.pgd, eps=eps), partial(at.apgd, eps=eps))
    kept = [at.robust_accuracy(model, x, y, attack).robust.value for attack in (*order, partial(at.apgd, eps=2 * eps))]
    assert kept == sorted(kept, reverse=True) and kept[0] > kept[2] > kept[4]


# attacks: invariants


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_happens_to_an_image_depends_on_its_row_and_not_on_its_neighbours(attack: str, norm: asc.Norm) -> None:
    model, x, y = model_and_images("ten")
    state = torch.get_rng_state()
    eps = EPS["ten"][norm]
    whole = ATTACKS[attack](model, x, y, eps=eps, norm=norm)
    part = ATTACKS[attack](model, x[[9, 3, 4]], y[[9, 3, 4]], eps=eps, norm=norm, rows=[9, 3, 4])
    assert float((whole[[9, 3, 4]] - part).abs().max()) < 1e-9
    assert torch.equal(whole, ATTACKS[attack](model, x, y, eps=eps, norm=norm)), "the same bytes twice"
    assert torch.equal(state, torch.get_rng_state())
    if attack in ("pgd", "square"):
        assert not torch.equal(whole, ATTACKS[attack](model, x, y, eps=eps, norm=norm, seed=4))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = model_and_images("ten")
    whole = at.apgd(model, x, y, eps=0.05, steps=5)
    monkeypatch.setattr(at, "CHUNK", 7)
    assert float((whole - at.apgd(model, x, y, eps=0.05, steps=5)).abs().max()) < 1e-9


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 3))
    model.train()
    model[0].eval()
    x, y = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for attack in ATTACKS.values():
        at.robust_accuracy(model, x, y, partial(attack, eps=0.1))
    assert [m.training for m in model] == [False, True, True, True] and model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_images_that_are_wrong_when_clean_are_not_attacked_and_count_as_fallen() -> None:
    model, x, y = model_and_images("ten")
    y = y.clone()
    y[:8] = (y[:8] + 1) % 10
    asked: list[int] = []

    def harmless(model: nn.Module, x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        asked.extend(rows.tolist())
        return x

    found = at.robust_accuracy(model, x, y, harmless)
    assert asked == list(range(8, 24))
    assert (found.clean.value, found.robust.value, found.drop.value) == (16 / 24, 16 / 24, 0.0) and found.drop.high > 0
    beaten = at.robust_accuracy(model, x, y, partial(at.apgd, eps=1.0))
    assert beaten.robust.value == 0.0 and beaten.drop.value == beaten.clean.value


def test_targets_are_at_most_the_other_classes() -> None:
    for name in CLASSES:
        model, x, y = model_and_images(name)
        some = at.apgd(model, x, y, eps=0.02, targets=1, steps=3)
        assert torch.equal(at.apgd(model, x, y, eps=0.02, targets=9, steps=3), at.apgd(model, x, y, eps=0.02, targets=CLASSES[name] - 1, steps=3))
        assert some.shape == x.shape


class Saturated(nn.Module):
    """A model whose cross-entropy has no slope in float32 that would lead anywhere: its logits are a thousand times too large."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * self.model(x)


class Staircase(nn.Module):
    """A model that sees pixels in 24 steps: almost everywhere without a slope."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * 24).round() / 24)


def test_the_targeted_loss_sees_through_logits_that_are_too_large() -> None:
    model, x, y = model_and_images("ten")
    plain, masked, x = model.float(), Saturated(model), x.float()
    honest = at.robust_accuracy(plain, x, y, partial(at.apgd, eps=0.05)).robust.value
    assert at.robust_accuracy(masked, x, y, partial(at.pgd, eps=0.05)).robust.value > honest + 0.2, "cross-entropy is blind"
    assert at.robust_accuracy(masked, x, y, partial(at.apgd, eps=0.05)).robust.value == pytest.approx(honest, abs=1.01 / 24)


def test_a_search_without_gradients_fools_what_pgd_cannot() -> None:
    model, x, y = model_and_images("ten")
    hidden = Staircase(model)
    assert at.robust_accuracy(hidden, x, y, partial(at.pgd, eps=0.075, restarts=0)).robust.value == 1.0
    for norm, eps in (("linf", 0.075), ("l2", 0.6)):
        assert at.robust_accuracy(hidden, x, y, partial(at.square, eps=eps, norm=norm)).robust.value < 0.6


def test_attacks_refuse_what_they_cannot_read() -> None:
    model, x, y = model_and_images("ten")
    for wrong, call in {
        "scale them to 0 to 1": lambda: at.pgd(model, 255 * x, y, eps=0.1),
        "floating": lambda: at.fgsm(model, (255 * x).byte(), y, eps=0.1),
        "no norm": lambda: at.apgd(model, x, y, eps=0.1, norm="l1"),  # type: ignore[arg-type]
        "eps is -1": lambda: at.apgd(model, x, y, eps=-1.0),
        "24 images, 23 labels": lambda: at.square(model, x, y[1:], eps=0.1),
        "needs 10 images, has 9": lambda: at.robust_accuracy(model, x[:9], y[:9], LINF),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            call()

    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 10)

    with pytest.raises(ValueError, match="no gradient in its images"):
        at.fgsm(Deaf(), x, y, eps=0.1)


# corruptions


def pictures(n: int, height: int, width: int, channels: int) -> np.ndarray:
    """Crops of the made photograph, averaged down to a size."""
    whole, rng = photograph(), np.random.default_rng(0)
    out = np.empty((n, height, width, channels), np.uint8)
    for i in range(n):
        size = int(rng.integers(80, 200))
        top, left = rng.integers(0, 224 - size, 2)
        rows, columns = (np.linspace(0, size, k + 1).astype(int)[:-1] for k in (height, width))
        crop = whole[top : top + size, left : left + size].astype(float)
        small = np.add.reduceat(np.add.reduceat(crop, rows, 0), columns, 1)
        small /= np.diff(np.append(rows, size))[:, None, None] * np.diff(np.append(columns, size))[None, :, None]
        out[i] = np.rint(small if channels == 3 else small.mean(axis=2, keepdims=True))
    return out


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (20, 31, 3), (28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_worse_is_worse_at_every_size(shape: tuple[int, int, int]) -> None:
    x = pictures(24, *shape)
    kept = x.copy()
    for kind in co.KINDS:
        found = [co.corrupt(x, kind=kind, severity=severity, seed=0) for severity in co.SEVERITIES]
        assert all(part.shape == x.shape and part.dtype == np.uint8 for part in found)
        distances = [np.abs(part.astype(float) - x).mean() for part in found]
        assert distances[0] > 0.3 and (np.diff(distances) > 0).all(), f"{kind}: {distances}"
    assert (x == kept).all()


@pytest.mark.parametrize("kind", co.KINDS)
def test_the_draw_of_an_image_depends_on_its_number_alone(kind: str) -> None:
    x = pictures(9, 16, 16, 3)
    whole = co.corrupt(x, kind=kind, severity=3, seed=1)
    assert (co.corrupt(x[5:7], kind=kind, severity=3, seed=1, first=5) == whole[5:7]).all()
    drawn = kind not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert (co.corrupt(x, kind=kind, severity=3, seed=2) != whole).any() == drawn


@pytest.mark.parametrize("kind", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate", "jpeg_compression"])
def test_what_moves_or_mixes_pixels_leaves_an_even_picture_alone(kind: str) -> None:
    x = np.full((3, 24, 24, 3), 93, np.uint8)
    for severity in co.SEVERITIES:
        assert np.abs(co.corrupt(x, kind=kind, severity=severity, seed=0).astype(int) - 93).max() <= 1


@pytest.mark.parametrize("kind", co.KINDS)
def test_strengths_at_224_pixels_are_near_those_of_imagecorruptions(kind: str) -> None:
    """Mean distance to one clean picture. Kinds with the same definition agree closely, those of our own drawing within a factor."""
    x = photograph()[None]
    severities = (1, 3, 5)
    ours = [np.abs(co.corrupt(x, kind=kind, severity=s, seed=0).astype(float) - x).mean() for s in severities]
    theirs = [SAID["imagecorruptions"][kind][s - 1] for s in severities]
    if kind in ("contrast", "pixelate", "jpeg_compression", "brightness"):  # the same definition; their brightness cuts decimals off
        assert ours == pytest.approx(theirs, abs=0.02 if kind in ("pixelate", "jpeg_compression") else 0.7)
    elif kind in ("gaussian_noise", "shot_noise", "impulse_noise"):
        assert ours == pytest.approx(theirs, rel=0.04)
    else:
        assert np.abs(np.log(np.array(ours) / theirs)).max() < np.log(1.6), f"{ours} beside {theirs}"


def test_noise_has_the_published_strength_at_either_size() -> None:
    for side, sds in ((32, (0.04, 0.06, 0.08, 0.09, 0.10)), (224, (0.08, 0.12, 0.18, 0.26, 0.38))):
        x = np.full((4, side, side, 1), 128, np.uint8)
        for severity in (1, 2):
            noise = co.corrupt(x, kind="gaussian_noise", severity=severity, seed=0) / 255 - 128 / 255
            assert noise.std() == pytest.approx(sds[severity - 1], rel=0.05)


def test_corrupted_accuracy_is_the_mean_over_kinds_and_severities_with_the_spread_of_images() -> None:
    rng = np.random.default_rng(0)
    clean = rng.random(40) < 0.9
    right = (rng.random((3, 5, 40)) < 0.7) & clean
    found = co.corrupted_accuracy(right, clean)
    assert found.corrupted.value == pytest.approx(right.mean()) and found.clean.value == clean.mean()
    assert found.drop.value == pytest.approx(clean.mean() - right.mean()) and found.kept == pytest.approx(right.mean() / clean.mean())
    se = right.mean(axis=(0, 1)).std(ddof=1) / np.sqrt(40)
    assert found.corrupted.high - found.corrupted.value == pytest.approx(2.0227 * se, rel=1e-3)  # Student's t of 39
    assert [part.value for part in found.by_kind] == pytest.approx(right.mean(axis=(1, 2)).tolist())
    assert [part.value for part in found.by_severity] == pytest.approx(right.mean(axis=(0, 2)).tolist())
    assert co.corrupted_accuracy(np.ones((2, 5, 12), bool), np.ones(12, bool)).corrupted.low < 1, "twelve right answers are no certainty"
    assert co.corrupted_accuracy(np.zeros((2, 5, 12), bool), np.zeros(12, bool)).kept is None


def test_mean_corruption_error_is_the_mean_of_ratios_with_the_jackknife_over_images() -> None:
    rng = np.random.default_rng(1)
    right, reference = rng.random((4, 5, 30)) < 0.7, rng.random((4, 5, 30)) < 0.5
    truth = lambda a, b: np.mean([(~a[k]).sum() / (~b[k]).sum() for k in range(4)])  # noqa: E731
    found = co.mean_corruption_error(right, reference)
    assert found.value == pytest.approx(truth(right, reference))
    without = np.array([truth(np.delete(right, i, 2), np.delete(reference, i, 2)) for i in range(30)])
    assert found.se_images == pytest.approx(np.sqrt(29 / 30 * ((without - without.mean()) ** 2).sum()), rel=1e-9)
    same = co.mean_corruption_error(right, right)
    assert (same.value, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    clean, other = rng.random(30) < 0.95, rng.random(30) < 0.8
    added = [((~right[k]).sum() - 5 * (~clean).sum()) / ((~reference[k]).sum() - 5 * (~other).sum()) for k in range(4)]
    assert co.relative_corruption_error(right, clean, reference, other).value == pytest.approx(np.mean(added))


def test_corruptions_refuse_what_they_cannot_do() -> None:
    x = pictures(2, 16, 16, 3)
    right = np.ones((2, 5, 20), bool)
    for wrong, call in {
        "no corruption 'rain'": lambda: co.corrupt(x, kind="rain", severity=1, seed=0),
        "severity is 6": lambda: co.corrupt(x, kind="fog", severity=6, seed=0),
        "needs sides of 8 pixels, has 7 x 16": lambda: co.corrupt(x[:, :7], kind="fog", severity=1, seed=0),
        "uint8": lambda: co.corrupt(x / 255, kind="fog", severity=1, seed=0),
        "needs 10 images, has 9": lambda: co.corrupted_accuracy(right[..., :9], right[0, 0, :9]),
        "reference loses nothing": lambda: co.mean_corruption_error(right, right),
        "same images": lambda: co.mean_corruption_error(right, right[:1]),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            call()


# calibration


def test_calibration_scores_are_those_of_scikit_learn() -> None:
    said, (p, y) = SAID["scikit-learn"]["calibration"], answered()
    assert ca.calibration_error(p, y).value == pytest.approx(said["error"], rel=1e-9)
    assert ca.brier(p, y).score.value == pytest.approx(said["brier"], rel=1e-9)
    two = p[:, 2:].sum(axis=1)
    assert ca.brier(np.stack([1 - two, two], axis=1), (y > 1).astype(int)).score.value / 2 == pytest.approx(said["brier two"], rel=1e-9)
    assert ca.log_loss(p, y).value == pytest.approx(said["log loss"], rel=1e-9)
    assert ca.log_loss(np.tile([0.0, 1.0], (10, 1)), np.zeros(10, int)).value == pytest.approx(said["log loss of zero"], rel=1e-9)


def test_the_debiased_error_is_that_of_kumar_where_a_bin_has_one_confidence() -> None:
    p, y = answered(levels=True)
    top, hit = p.max(axis=1), p.argmax(axis=1) == y
    parts = [(top[top == level].mean() - hit[top == level].mean()) ** 2 - hit[top == level].var(ddof=1) / 60 for level in np.unique(top)]
    assert ca.debiased_calibration_error(p, y, bins=5).value == pytest.approx(np.sqrt(np.mean(parts)), rel=1e-9)


def test_brier_parts_add_up_and_are_murphys_where_a_bin_has_one_probability() -> None:
    p, y = answered()
    found = ca.brier(p, y)
    assert found.score.value == pytest.approx(found.reliability - found.resolution + found.uncertainty + found.within, rel=1e-12)
    rng = np.random.default_rng(0)
    said = rng.choice([0.2, 0.5, 0.8], 600)
    hit = (rng.random(600) < 0.6 * said).astype(int)
    two = ca.brier(np.stack([1 - said, said], axis=1), hit, bins=100)
    shares = [(said == v).mean() for v in (0.2, 0.5, 0.8)]
    true = [hit[said == v].mean() for v in (0.2, 0.5, 0.8)]
    assert two.within == pytest.approx(0.0, abs=1e-12)
    assert two.reliability == pytest.approx(2 * sum(s * (v - t) ** 2 for s, v, t in zip(shares, (0.2, 0.5, 0.8), true, strict=True)))
    assert two.resolution == pytest.approx(2 * sum(s * (t - hit.mean()) ** 2 for s, t in zip(shares, true, strict=True)))
    assert two.uncertainty == pytest.approx(2 * hit.mean() * (1 - hit.mean()))


def test_calibration_in_closed_form() -> None:
    y = np.arange(100) % 2
    sure = np.eye(2)[y]
    assert ca.calibration_error(sure, y, bins=10).value == 0.0 and ca.debiased_calibration_error(sure, y, bins=10).value == 0.0
    assert ca.calibration_error(sure, 1 - y, bins=10).value == 1.0 and ca.brier(sure, 1 - y).score.value == 2.0
    even = np.full((100, 2), 0.5)
    assert ca.brier(even, y).score.value == pytest.approx(0.5) and ca.log_loss(even, y).value == pytest.approx(np.log(2))
    assert ca.calibration_error(even, y, bins=10).value == pytest.approx(0.0, abs=1e-12)


def test_order_changes_nothing_also_where_confidences_tie() -> None:
    p, y = answered()
    p = np.round(p, 1)
    p[:, 0] += 1 - p.sum(axis=1)
    p = np.clip(p, 0, None) / np.clip(p, 0, None).sum(axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(len(y))
    whole, turned = ca.calibration(p, y), ca.calibration(p[order], y[order])
    for name in ("error", "debiased", "log_loss"):
        assert getattr(whole, name).record == pytest.approx(getattr(turned, name).record)
    assert whole.brier.reliability == pytest.approx(turned.brier.reliability)


def test_versions_of_one_image_count_once() -> None:
    p, y = answered()
    five, groups = (np.tile(p, (5, 1)), np.tile(y, 5)), np.tile(np.arange(300), 5)
    for measure in (ca.calibration_error, ca.debiased_calibration_error, ca.log_loss):
        once, together, apart = measure(p, y), measure(*five, groups=groups), measure(*five)  # type: ignore[operator]
        assert together.n == 300
        assert (together.low, together.high) == pytest.approx((once.low, once.high), rel=1e-6)
        assert apart.high - apart.low < 0.8 * (once.high - once.low), "five times the images would be worth more"


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_intervals_of_the_calibration_errors_cover(temperature: float) -> None:
    """150 images of a model that is calibrated, or twice too sure; nominal 95 %."""
    rng = np.random.default_rng(2)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = rng.normal(0, 1.5, (n, 3))
        true, said = (np.exp(t * z) / np.exp(t * z).sum(axis=1, keepdims=True) for t in (1.0, temperature))
        return said, (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), true

    said, _, true = draw(200_000)
    top, order = said.max(axis=1), said.max(axis=1).argsort()
    gaps = (top - true[np.arange(len(top)), said.argmax(axis=1)])[order].reshape(10, -1).mean(axis=1)
    hits = np.zeros(2)
    for _ in range(60):
        p, y, _ = draw(150)
        mean, square = ca.calibration_error(p, y, bins=10), ca.debiased_calibration_error(p, y, bins=10)
        hits += [mean.low <= np.abs(gaps).mean() <= mean.high, square.low <= np.sqrt((gaps**2).mean()) <= square.high]
    assert (hits >= 53).all(), hits


def test_calibration_refuses_what_it_cannot_measure() -> None:
    p, y = answered()
    for wrong, call in {
        "needs 75 images, has 74": lambda: ca.calibration_error(p[:74], y[:74]),
        "needs 10 images, has 9": lambda: ca.log_loss(p[:9], y[:9]),
        "sum to 1": lambda: ca.brier(2 * p, y),
        "labels run from 1 to 4": lambda: ca.log_loss(p, y + 1) if y.min() == 0 and y.max() == 3 else None,
        "fix: give 1 or more": lambda: ca.calibration_error(p, y, bins=0),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            call()
    few = ca.calibration(p[:40], y[:40], bins=4)
    assert few.error is None and few.debiased is None and few.brier.score.n == 40


# detection


@pytest.mark.parametrize("ties", [False, True])
def test_sorting_scores_are_those_of_scikit_learn(ties: bool) -> None:
    said, (known, foreign) = SAID["scikit-learn"]["detection"]["ties" if ties else "plain"], scored(ties=ties)
    assert de.foreign_auroc(known, foreign).value == pytest.approx(said["auroc"], rel=1e-12)
    assert de.foreign_accepted(known, foreign).value == pytest.approx(said["accepted"], rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_variance_of_the_sorting_is_delongs(ties: bool) -> None:
    """Sen's components from the whole matrix of comparisons."""
    known, foreign = scored(ties=ties)
    wins = (foreign[:, None] > known) + 0.5 * (foreign[:, None] == known)
    truth = wins.mean(axis=1).var(ddof=1) / 90 + wins.mean(axis=0).var(ddof=1) / 120
    assert de.foreign_auroc(known, foreign).se_images == pytest.approx(np.sqrt(truth), rel=1e-9)


def test_feature_distances_are_those_of_scikit_learn() -> None:
    said, (features, train, y) = SAID["scikit-learn"]["detection"], featured()
    assert de.far(features, train, k=10).tolist() == pytest.approx(said["far"], rel=1e-9)
    assert de.mahalanobis(features, train, y).tolist() == pytest.approx(said["mahalanobis"], rel=1e-9)
    assert de.far(train[:5], train, k=1) == pytest.approx(0.0, abs=1e-7)


def test_logit_scores_in_closed_form_and_beyond_rounding() -> None:
    assert de.doubt(np.zeros((2, 4))).tolist() == pytest.approx([0.75, 0.75])
    assert de.energy(np.zeros((2, 4))).tolist() == pytest.approx([-np.log(4)] * 2)
    sure = np.array([[60.0, 0.0, 0.0], [80.0, 0.0, 0.0]], np.float32)
    assert de.doubt(sure)[0] > de.doubt(sure)[1] > 0, "a softmax of 1 still sorts"
    assert de.energy(np.array([[3.0, 1.0]]), temperature=1e-3).tolist() == pytest.approx([-3.0])


def test_sorting_in_closed_form() -> None:
    known, foreign = np.arange(40.0), np.arange(40.0) + 100
    perfect, blind = de.foreign_auroc(known, foreign), de.foreign_auroc(known, known)
    assert perfect.value == 1.0 == perfect.high and perfect.low < 0.99, "forty of each are no certainty"
    assert blind.value == 0.5 and blind.low < 0.5 < blind.high
    assert de.foreign_auroc(foreign, known).value == 0.0
    found = de.foreign_accepted(known, np.arange(20.0) * 4)  # threshold 37: ten of twenty at or below
    assert found.value == 0.5 and found.high == 1.0, "forty known images do not bound the threshold from above"
    assert de.foreign_accepted(np.arange(400.0), foreign + 1000).high < 0.15


def test_intervals_of_the_sorting_cover() -> None:
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(4)
    truth, accepted = ndtr(2 / np.sqrt(2)), ndtr(ndtri(0.95) - 2)
    hits = np.zeros(2)
    for _ in range(150):
        known, foreign = rng.normal(size=100), rng.normal(2, 1, 60)
        a, b = de.foreign_auroc(known, foreign), de.foreign_accepted(known, foreign)
        hits += [a.low <= truth <= a.high, b.low <= accepted <= b.high]
    assert (hits >= 136).all(), hits


@pytest.mark.parametrize("ties", [False, True])
def test_what_images_add_to_the_sorting_has_its_mean_and_its_spread(ties: bool) -> None:
    known, foreign = scored(ties=ties)
    each, found = de.shares_of_auroc(known, foreign), de.foreign_auroc(known, foreign)
    assert len(each) == len(known) + len(foreign) and each.mean() == pytest.approx(found.value, rel=1e-12)
    assert one_way(each).se_images == pytest.approx(found.se_images, rel=0.01), "up to (n - 1) / n"


def test_foreign_images_of_one_group_count_once() -> None:
    known, foreign = scored()
    five = np.tile(known, 5), np.tile(foreign, 5)
    groups = np.tile(np.arange(len(known)), 5), np.tile(np.arange(len(foreign)) + len(known), 5)
    together = {"groups": groups[0], "foreign_groups": groups[1]}
    once, grouped, apart = de.foreign_auroc(known, foreign), de.foreign_auroc(*five, **together), de.foreign_auroc(*five)
    assert grouped.value == pytest.approx(once.value) and grouped.se_images == pytest.approx(once.se_images, rel=0.02)
    assert apart.se_images < 0.5 * grouped.se_images
    passed, all_passed = de.foreign_accepted(known, foreign), de.foreign_accepted(*five, **together)
    assert (all_passed.value, all_passed.low, all_passed.high) == pytest.approx((passed.value, passed.low, passed.high))
    half = de.foreign_auroc(five[0], foreign, groups=groups[0])
    assert half.se_images == pytest.approx(once.se_images, rel=0.02), "foreign images without a group are on their own"
    with pytest.raises(ValueError, match="one group of known or of foreign images"):
        de.foreign_auroc(known, foreign, foreign_groups=np.zeros(len(foreign), int))


def test_intervals_of_the_sorting_cover_where_groups_vary_together() -> None:
    from scipy.special import ndtr

    rng = np.random.default_rng(6)
    truth, hits = ndtr(2 / 2), np.zeros(2)  # each score has variance 2: its group's and its own
    known_groups, foreign_groups = np.arange(30).repeat(5), np.arange(30, 50).repeat(5)
    for _ in range(150):
        known, foreign = rng.normal(size=30).repeat(5) + rng.normal(size=150), 2 + rng.normal(size=20).repeat(5) + rng.normal(size=100)
        a, b = de.foreign_auroc(known, foreign, groups=known_groups, foreign_groups=foreign_groups), de.foreign_auroc(known, foreign)
        hits += [a.low <= truth <= a.high, b.low <= truth <= b.high]
    assert hits[0] >= 136 and hits[1] < 130, hits


def seen(n: int, centre: float, seed: int) -> de.Seen:
    """Three features, the first two of which are the logits."""
    features = np.random.default_rng(seed).normal(centre, 1, (n, 3))
    return de.Seen(features[:, :2], features)


def test_every_score_of_strangeness_is_told_or_says_why_not() -> None:
    train, y = seen(60, 3.0, 0), np.arange(60) % 2
    found = de.noticed(seen(80, 3.0, 1), seen(40, -3.0, 2), train, y)
    assert set(found.auroc) == {de.HEADLINE, *de.BESIDE} and isinstance(found.accepted, de.Interval) and found.accepted.value < 0.05
    for by in ("energy", "far", "mahalanobis"):
        value = found.auroc[by]
        assert isinstance(value, de.Interval) and value.value > 0.98 and found.each[by].mean() == pytest.approx(value.value)
    few = de.noticed(seen(15, 3.0, 1), seen(40, -3.0, 2), seen(4, 3.0, 0), y[:4])
    assert isinstance(few.auroc[de.HEADLINE], de.Interval) and few.accepted == "needs 20 known images, has 15; fix: give more"
    assert "needs 10 training images, has 4" in str(few.auroc["far"]) and "far" not in few.each


def test_the_headline_sees_what_logits_do_not_and_needs_no_foreign_image() -> None:
    """Class means along the first feature, which the logits read; foreign images lie off along the third, which they do not."""
    rng, y = np.random.default_rng(0), np.arange(240) % 2
    features = rng.normal(size=(300, 3)) + np.r_[3.0 * (2 * y - 1), rng.choice([-3.0, 3.0], 60)][:, None] * [1, 0, 0]
    features[240:, 2] += 6.0
    train, known, foreign = (de.Seen(part[:, :1] * [-1, 1], part) for part in np.split(features, [160, 240]))
    found = de.noticed(known, foreign, train, y[:160])
    headline, said = found.auroc[de.HEADLINE], found.auroc["energy"]
    assert isinstance(headline, de.Interval) and isinstance(said, de.Interval) and isinstance(found.accepted, de.Interval)
    assert headline.low > 0.9 and said.low < 0.5 < said.high and found.accepted.value < 0.1
    alone = de.mahalanobis(foreign.features[:1], train.features, y[:160])
    assert alone[0] == pytest.approx(de.mahalanobis(foreign.features, train.features, y[:160])[0], rel=1e-12), "one image is judged as it comes"


def test_detection_refuses_what_it_cannot_measure() -> None:
    known, foreign = scored()
    features, train, y = featured()
    for wrong, call in {
        "needs 10 foreign images, has 9": lambda: de.foreign_auroc(known, foreign[:9]),
        "needs 20 known images, has 19": lambda: de.foreign_accepted(known[:19], foreign),
        "hold NaN": lambda: de.foreign_auroc(known, foreign * np.nan),
        "needs 151 training images, has 150": lambda: de.far(features, train, k=151),
        "no direction": lambda: de.far(0 * features, train),
        "more images than classes": lambda: de.mahalanobis(features, train, np.arange(150)),
        "do not vary": lambda: de.mahalanobis(features, train[y], y),
        "not finite": lambda: de.energy(np.array([[np.inf, 0.0]])),
    }.items():
        with pytest.raises(ValueError, match=wrong):
            call()


# all together


def tried(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> ro.Robustness:
    pixels = (255 * x).round().byte().permute(0, 2, 3, 1).numpy()
    return ro.robustness(model.float(), pixels, y.numpy(), seed=0, stress=ro.Stress(corruptions=("contrast", "fog"), apgd_steps=5, queries=60, **options))


def test_robustness_gathers_what_its_parts_measure() -> None:
    model, x, y = model_and_images("ten", n=60)
    found = tried(model, x, y, eps=(0.01, 0.05), headline=0.05)
    assert found.clean.value >= 0.95 and found.n == 60 and not found.gradients_hidden
    assert ro.facts(found) == ro.facts(tried(model, x, y, eps=(0.01, 0.05), headline=0.05)), "the same twice"
    for name in ("fgsm", "pgd", "worst"):
        small, large = (found.under(name, eps).accuracy.value for eps in (0.01, 0.05))
        assert small > large
    for eps in (0.01, 0.05):
        assert found.under("worst", eps).accuracy.value <= found.under("pgd", eps).accuracy.value <= found.under("fgsm", eps).accuracy.value + 0.05
        assert found.under("pgd", eps).drop.value == pytest.approx(found.clean.value - found.under("pgd", eps).accuracy.value)
    alone = at.robust_accuracy(model, (255 * x).round().div(255).float(), y, partial(at.apgd, eps=0.05, steps=5))
    assert found.under("worst", 0.05).accuracy.value == pytest.approx(alone.robust.value, abs=0.04)
    assert found.corruption.by_severity[0].value > found.corruption.by_severity[4].value
    assert found.calibration.error is not None and found.shifted.error is not None and found.shifted.error.n == 60
    assert found.shifted.log_loss.value > found.calibration.log_loss.value


def test_what_images_add_has_the_accuracies_as_its_means() -> None:
    model, x, y = model_and_images("ten", n=40)
    found = tried(model, x, y, eps=(0.01, 0.05), headline=0.05)
    values = {row["metric"]: row["value"] for row in ro.rows(found)}
    each = ro.outcomes(found)
    assert set(each) == {"clean_accuracy", "fgsm_accuracy", "pgd_accuracy", "robust_accuracy", "corrupted_accuracy"}
    assert all(each[name].shape == (40,) and each[name].mean() == pytest.approx(values[name]) for name in each)


def test_groups_change_intervals_and_no_value() -> None:
    model, x, y = model_and_images("ten", n=60)
    pixels, stress = (255 * x).round().byte().permute(0, 2, 3, 1).numpy(), ro.Stress(eps=(0.05,), headline=0.05, corruptions=("fog",), apgd_steps=5, queries=20)
    plain, grouped = (ro.robustness(model.float(), pixels, y.numpy(), seed=0, stress=stress, groups=g) for g in (None, np.arange(60) // 6))
    assert (plain.counted, grouped.counted) == (60, 10) and plain.hidden == grouped.hidden
    for a, b in zip(ro.rows(plain), ro.rows(grouped), strict=True):
        assert a["metric"] == b["metric"] and b.get("n") in (60, None)
        if b["value"] is None:
            assert b["note"] == "needs 50 images or groups, has 10" and "calibration" in b["metric"]
        else:
            assert a["value"] == pytest.approx(b["value"])
    a, b = plain.corruption.corrupted, grouped.corruption.corrupted
    assert b.df_images == 9 and a.df_images == 59 and a.value == b.value
    with pytest.raises(ValueError, match="one group of test images"):
        ro.robustness(model.float(), pixels, y.numpy(), seed=0, stress=stress, groups=np.zeros(60, int))


def test_hidden_gradients_are_told() -> None:
    model, x, y = model_and_images("ten", n=40)
    found = tried(Staircase(model), x, y, eps=(0.075,), headline=0.075)
    assert found.gradients_hidden and found.under("worst", 0.075).accuracy.value < found.under("pgd", 0.075).accuracy.value - 0.1
    assert all("hidden" in row["note"] for row in ro.rows(found) if row["metric"] in ("pgd_accuracy", "robust_accuracy"))


def test_rows_are_scores_and_facts_are_plain() -> None:
    model, x, y = model_and_images("three", n=12)
    found = tried(model, x, y, eps=(0.02,), headline=0.02)
    scores = [Score(subject="model", **row) for row in ro.rows(found)]
    assert [s.metric for s in scores][:5] == ["clean_accuracy", "fgsm_accuracy", "pgd_accuracy", "robust_accuracy", "corrupted_accuracy"]
    missing = [s for s in scores if s.value is None]
    assert [s.metric for s in missing] == ["calibration_error", "shifted_calibration_error"] and "needs 50 images, has 12" in missing[0].note
    assert all(s.low <= s.value <= s.high for s in scores if s.value is not None and s.low is not None and s.high is not None)
    json.dumps(ro.facts(found), allow_nan=False)


def test_stress_that_makes_no_sense_is_refused() -> None:
    for options in ({"eps": (0.2, 0.1)}, {"eps": ()}, {"headline": 0.5}, {"corruptions": ("rain",)}, {"apgd_steps": 0}):
        with pytest.raises(ValueError, match="fix:"):
            ro.Stress(**options)
    model, x, y = model_and_images("ten")
    with pytest.raises(ValueError, match="needs 10 images, has 9"):
        tried(model, x[:9], y[:9])


def test_every_metric_has_a_record() -> None:
    found = [value for module in (at, ca, co, de, ro) for value in (*vars(module).values(), *de.BESIDE.values())]
    records = {m.name: m for m in found if isinstance(m, Metric)}
    assert set(records) == {
        *("clean_accuracy", "fgsm_accuracy", "pgd_accuracy", "robust_accuracy", "corrupted_accuracy", "mean_corruption_error"),
        *("calibration_error", "debiased_calibration_error", "brier", "log_loss", "shifted_calibration_error", "shifted_brier", "shifted_log_loss"),
        *("foreign_auroc", "foreign_accepted", "foreign_energy_auroc", "foreign_doubt_auroc", "foreign_far_auroc"),
    }
    assert all(m.axis == "robustness" and m.interval and m.source for m in records.values())


# the job


def stripes(n: int, seed: int, *, patients: int = 0) -> mi.ImageSet:
    """Two classes, bright left and bright right half, 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = np.full((n, 8, 8), 80.0)
    x[y == 0, :, :4] += 70
    x[y == 1, :, 4:] += 70
    groups = tuple(f"patient {i * patients // n}" for i in range(n)) if patients else None
    return mi.from_arrays(np.clip(x + rng.normal(0, 30, x.shape), 0, 255).astype(np.uint8), y, classes=("left", "right"), groups=groups)


BACKBONE = {"name": "small", "variant": "", "frozen": False}
QUICK = {"eps": [0.02, 0.1], "headline": 0.1, "apgd_steps": 5, "queries": 20, "corruptions": ["contrast", "gaussian_noise"]}


@pytest.fixture
def trained(own_store: Path) -> tuple[Store, dict[str, str]]:
    store = Store(own_store)
    real, test = (keep_images(store, stripes(n, seed), size=8, channels=1) for n, seed in ((40, 0), (60, 1)))
    settings = {"arm": "real", "training": {"steps": 30}, "backbone": BACKBONE, "seed": 0}
    model = perform(store, Asked("train", VERBS["train"].version, settings, {"real": real}))
    return store, {"model": model.digest, "images": test}


def test_the_stress_job_tests_a_stored_model_on_stored_images(trained: tuple[Store, dict[str, str]]) -> None:
    store, inputs = trained
    asked = Asked("stress", VERBS["stress"].version, {"backbone": BACKBONE, "most": 24, "seed": 5, **QUICK}, inputs)
    result = perform(store, asked).result
    assert result["images"] == 24 and result["clean"]["n"] == 24 and result["clean"]["value"] > 0.8
    assert [(a["attack"], a["eps"]) for a in result["attacks"]] == [(name, eps) for eps in (0.02, 0.1) for name in ("fgsm", "pgd", "worst")]
    assert set(result["corruption"]["by_kind"]) == {"contrast", "gaussian_noise"} and result["stress"]["pgd_steps"] == at.PGD_STEPS
    by_metric = {row["metric"]: row for row in result["scores"]}
    worst = result["attacks"][-1]["accuracy"]
    assert all(by_metric["robust_accuracy"][key] == worst[key] for key in ("value", "low", "high", "n"))
    assert by_metric["robust_accuracy"]["value"] <= by_metric["pgd_accuracy"]["value"] <= by_metric["clean_accuracy"]["value"]


def test_the_stress_job_counts_the_groups_of_its_images(trained: tuple[Store, dict[str, str]]) -> None:
    store, inputs = trained
    grouped = keep_images(store, stripes(60, 1, patients=6), size=8, channels=1)
    asked = {"backbone": BACKBONE, "most": 40, "seed": 5, **QUICK}
    plain, told = (perform(store, Asked("stress", VERBS["stress"].version, asked, {**inputs, "images": images})) for images in (inputs["images"], grouped))
    assert (plain.result["groups"], told.result["groups"]) == (40, 6)
    with np.load(told.path("tried.npz"), allow_pickle=False) as each:
        assert len(np.unique(each["groups"])) == 6 and each["least"] == pytest.approx(1 / 6)
        values = {row["metric"]: row["value"] for row in told.result["scores"]}
        assert all(each[name].mean() == pytest.approx(values[name]) for name in each if name not in ("groups", "least"))
    assert [r["value"] for r in plain.result["scores"] if "accuracy" in r["metric"]] == [r["value"] for r in told.result["scores"] if "accuracy" in r["metric"]]


def test_the_stress_job_tells_how_foreign_images_are_taken(trained: tuple[Store, dict[str, str]]) -> None:
    store, inputs = trained
    noise = np.random.default_rng(3).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    foreign, real = (
        keep_images(store, images, size=8, channels=1) for images in (mi.from_arrays(noise, np.zeros(30, int), classes=("noise",)), stripes(40, 0))
    )
    asked = Asked("stress", VERBS["stress"].version, {"backbone": BACKBONE, "most": 24, "seed": 5, **QUICK}, {**inputs, "foreign": foreign, "real": real})
    entry = perform(store, asked)
    by_metric = {row["metric"]: row for row in entry.result["scores"]}
    names = {"foreign_auroc", *(m.name for m in de.BESIDE.values())}
    assert names | {"foreign_accepted"} <= set(by_metric) and by_metric["foreign_auroc"]["n"] == 30, "all 60 known images, not 24 of them"
    with np.load(entry.path("foreign.npz"), allow_pickle=False) as each:
        assert names | {"groups", "least"} == set(each) and len(each["groups"]) == 90
        assert all(each[name].mean() == pytest.approx(by_metric[name]["value"]) for name in names)
    assert by_metric["foreign_far_auroc"]["value"] > 0.9 and 0 <= by_metric["foreign_accepted"]["value"] <= 1


def test_a_wrong_setting_or_too_few_images_are_the_users_to_mend(trained: tuple[Store, dict[str, str]]) -> None:
    store, inputs = trained
    wanted = {"backbone": BACKBONE, "most": 24, "seed": 5}
    with pytest.raises(SettingError, match="no setting 'epz'"):
        perform(store, Asked("stress", VERBS["stress"].version, {**wanted, "epz": [0.1]}, inputs))
    with pytest.raises(DataError, match="needs 10 images, has 8"):
        perform(store, Asked("stress", VERBS["stress"].version, {**wanted, "most": 8}, inputs))
