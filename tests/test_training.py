"""The training loop, its recipes, augmentation and backbones."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mitate.fitting
from mitate.codec import decode
from mitate.errors import DataError, JobError, MissingExtra, SettingError
from mitate.fitting import Log, Schedule, optimise
from mitate.generator import Pixels
from mitate.recipe import DEFAULT_ARMS, RECIPES, parse
from mitate.runtime import torch_threads
from mitate.store import Asked, Store
from mitate.training import backbones
from mitate.training.augmentation import augment, flips_are_safe
from mitate.training.loop import Training, predict, reestimate_batch_norm, train


@pytest.fixture(autouse=True)
def one_thread() -> object:
    with torch_threads():
        yield


def stripes(n: int, seed: int, *, size: int = 8, noise: float = 40) -> Pixels:
    """Two classes: bright left half, bright right half."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = np.full((n, size, size, 1), 80.0)
    x[y == 0, :, : size // 2] += 60
    x[y == 1, :, size // 2 :] += 60
    return Pixels(np.clip(x + rng.normal(0, noise, x.shape), 0, 255).astype(np.uint8), y.astype(np.int64), 2)


def small(n_classes: int = 2) -> backbones.Classifier:
    return backbones.small(shape=(8, 8, 1), n_classes=n_classes)


def weights(model: torch.nn.Module) -> bytes:
    return b"".join(v.numpy().tobytes() for v in model.state_dict().values())


@pytest.mark.parametrize("arm", [*RECIPES, "bridged+++augment", "balanced+augment+mixup"])
def test_every_recipe_learns_and_gives_the_same_bytes_twice(arm: str) -> None:
    real, fake, test = stripes(40, 0), stripes(40, 1), stripes(60, 2)
    first, second = (train(parse(arm), small, real=real, synthetic=fake, training=Training(steps=30), seed=3) for _ in range(2))
    assert weights(first) == weights(second)
    assert (predict(first, test.x).argmax(1) == test.y).mean() > 0.85


def test_synthetic_only_never_sees_real_labels() -> None:
    real, fake, test = stripes(40, 0), stripes(40, 1), stripes(60, 2)
    swapped = Pixels(fake.x, 1 - fake.y, 2)
    model = train(parse("synthetic"), small, real=real, synthetic=swapped, training=Training(steps=30), seed=0)
    assert (predict(model, test.x).argmax(1) == test.y).mean() < 0.15


def test_arms_of_a_replicate_start_from_the_same_weights_and_real_order() -> None:
    real = stripes(40, 0)
    a = train(parse("real"), small, real=real, synthetic=None, training=Training(steps=1, lr=0.0), seed=5)
    b = train(parse("balanced"), small, real=real, synthetic=stripes(10, 1), training=Training(steps=1, lr=0.0), seed=5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_balanced_batches_are_half_real_and_mixed_ones_follow_the_pool() -> None:
    from mitate.training.loop import _plan, _Pool

    pools = {"real": _Pool(torch.zeros(10, 1, 8, 8), torch.zeros(10), False), "synthetic": _Pool(torch.zeros(90, 1, 8, 8), torch.zeros(90), False)}
    (half,) = parse("balanced").phases
    assert [len(rows) for _, rows in _plan(pools, half, 32, 0, 1)] == [16, 16]
    (uniform,) = parse("mixed").phases
    counts = {"real": 0, "synthetic": 0}
    for step in range(25):
        for name, rows in _plan(pools, uniform, 32, step, 1):
            counts[name] += len(rows)
    assert counts == {"real": 80, "synthetic": 720}, "eight epochs of the joint pool: every image eight times"


def test_a_mixed_batch_without_a_single_real_image_is_no_error() -> None:
    crowd = stripes(4000, 1)
    train(parse("mixed+augment"), small, real=stripes(4, 0), synthetic=crowd, training=Training(steps=3, batch=8), seed=0)


def test_a_recipe_without_its_synthetic_images_is_refused() -> None:
    with pytest.raises(DataError, match="no synthetic images"):
        train(parse("balanced"), small, real=stripes(10, 0), synthetic=None, training=Training(steps=1), seed=0)


def test_training_goes_on_to_the_same_bytes_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    real, fake = stripes(40, 0), stripes(40, 1)

    class Kill:
        def __init__(self, at: int) -> None:
            self.left = at

        def step(self, done: int, total: int, note: str = "") -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    whole = train(parse("bridged+++augment"), small, real=real, synthetic=fake, training=Training(steps=20), seed=0)
    for at in (4, 10, 11, 17):
        place = tmp_path / str(at)
        place.mkdir()
        with pytest.raises(KeyboardInterrupt):
            train(parse("bridged+++augment"), small, real=real, synthetic=fake, training=Training(steps=20), seed=0, checkpoint=place, progress=Kill(at))
        assert any(place.rglob("*.safetensors"))
        again = train(parse("bridged+++augment"), small, real=real, synthetic=fake, training=Training(steps=20), seed=0, checkpoint=place)
        assert weights(again) == weights(whole)


def test_batch_norm_statistics_become_those_of_the_real_images() -> None:
    model = small()
    x = torch.rand(50, 1, 8, 8)
    reestimate_batch_norm(model, x)
    bn = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    conv = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        out = conv((x - 0.5) / 0.25)
    assert torch.allclose(bn.running_mean, out.mean(dim=(0, 2, 3)), atol=1e-5) and bn.momentum == 0.1


def test_fresh_head_keeps_the_body() -> None:
    model = small()
    body, head = weights(model.body), model.head.weight.clone()
    model.fresh_head()
    assert weights(model.body) == body and not torch.equal(model.head.weight, head)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    layer = torch.nn.Linear(1, 1)
    with pytest.raises(JobError, match="step 2"):
        optimise(layer, lambda m, step: m(torch.ones(1, 1)).sum() * (float("nan") if step == 2 else 1), Schedule(steps=5, lr=0.1), seed=0)


def test_the_best_weights_on_the_selection_split_are_kept() -> None:
    layer = torch.nn.Linear(1, 1)
    losses = iter([3.0, 1.0, 2.0, 2.5, 2.6, 9.0])
    seen = []

    def validate(module: torch.nn.Module) -> float:
        seen.append(module.weight.detach().clone())
        return next(losses)

    log = optimise(
        layer, lambda m, s: m(torch.ones(1, 1)).sum(), Schedule(steps=60, lr=0.1), seed=0, validate=validate, validate_every=10, patience=3
    )  # fmt: skip
    assert (log.best_step, log.best_loss, log.steps) == (20, 1.0, 50) and torch.equal(layer.weight, seen[1])


def test_seconds_of_every_part_that_a_checkpoint_kept_are_told_after_two_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a step moves by a second: killed in step 7, then in step 9, what was lost is not counted."""
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    now = [100.0]
    monkeypatch.setattr(mitate.fitting, "time", SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0], process_time=lambda: now[0] / 2))

    class Kill:
        def __init__(self, at: int) -> None:
            self.at = at

        def step(self, done: int, total: int, note: str = "") -> None:
            now[0] += 1.0
            if done == self.at:
                raise KeyboardInterrupt

    def fit(at: int) -> Log:
        schedule, loss = Schedule(steps=12, lr=0.1), lambda m, step: m(torch.ones(1, 1)).sum()
        return optimise(torch.nn.Linear(1, 1), loss, schedule, seed=0, checkpoint=tmp_path, progress=Kill(at))

    for at in (7, 9):
        with pytest.raises(KeyboardInterrupt):
            fit(at)
    log, before = fit(0), now[0]
    assert log.steps == 12 and (log.earlier_seconds, log.earlier_cpu_seconds) == (8.0, 4.0) and before - 100 == 12 + 2


def test_a_checkpoint_of_an_earlier_version_makes_a_resumed_fit_and_no_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept no time, so nothing is known of the first part, after a second kill either."""
    monkeypatch.setattr(mitate.fitting, "CHECKPOINT_SECONDS", 0.0)
    store, asked, schedule = Store(tmp_path), Asked("write", 1, {}), Schedule(steps=12, lr=0.1)

    class Kill:
        def __init__(self, at: int) -> None:
            self.at = at

        def step(self, done: int, total: int, note: str = "") -> None:
            if done == self.at:
                raise RuntimeError("killed")

    def build(folder: Path, checkpoint: Path, *, at: int) -> dict[str, Any]:
        loss = lambda m, step: m(torch.ones(1, 1)).sum()  # noqa: E731
        return asdict(optimise(torch.nn.Linear(1, 1), loss, schedule, seed=0, checkpoint=checkpoint, progress=Kill(at)))

    with pytest.raises(RuntimeError, match="killed"):
        store.make(asked, partial(build, at=7))
    (path,) = tmp_path.rglob("fit.safetensors")
    with safe_open(path, "pt") as file:
        log = json.loads(file.metadata()["log"])
    del log["earlier_seconds"], log["earlier_cpu_seconds"]
    save_file(load_file(path), path, metadata={"log": json.dumps(log)})
    with pytest.raises(RuntimeError, match="killed"):
        store.make(asked, partial(build, at=9))
    found = store.make(asked, partial(build, at=0)).result
    assert found["resumed"] and found["steps"] == 12 and "earlier_seconds" not in found


# augmentation


def test_augmentation_keeps_range_shape_and_changes_each_image_differently() -> None:
    x = torch.rand(1, 3, 16, 16).repeat(8, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = augment(x, flip=True)
    assert out.shape == x.shape and out.min() >= 0 and out.max() <= 1
    assert len({o.numpy().tobytes() for o in out}) == 8


def test_flips_are_safe_where_mirrors_look_alike_and_not_where_left_is_the_class() -> None:
    sided = stripes(200, 0, noise=10)
    assert not flips_are_safe(sided.x, sided.y)
    rows = Pixels(sided.x.transpose(0, 2, 1, 3).copy(), sided.y, 2)
    assert flips_are_safe(rows.x, rows.y)


# backbones


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (128, 128, 3)])
def test_the_small_network_takes_any_size(shape: tuple[int, int, int]) -> None:
    model = backbones.small(shape=shape, n_classes=4).eval()
    assert predict(model, np.zeros((2, *shape), np.uint8)).shape == (2, 4)


def test_mobilenet_v2_reads_the_published_photographs(real_data: Path) -> None:
    """Top answers of expected.json, with the file's own 1,000-class head and preprocessing."""
    from PIL import Image
    from safetensors.torch import load_file

    folder = real_data / "backbones"
    state = load_file(folder / "mobilenet_v2.safetensors")
    model = backbones.mobilenet_v2(shape=(224, 224, 3), n_classes=1000, weights=folder / "mobilenet_v2.safetensors").eval()
    head = {k.removeprefix("classifier.1."): v.float() for k, v in state.items() if k.startswith("classifier.1.")}
    model.head.load_state_dict(head)
    expected = json.loads((folder / "expected.json").read_text())["mobilenet_v2"]
    for photo in sorted((folder / "check_photos").iterdir()):
        image = Image.fromarray(decode(photo).pixels)
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        said = predict(model, np.asarray(image.crop((left, top, left + 224, top + 224)))[None])[0]
        assert said.argmax() == expected[photo.name][0]["index"]
        assert said.max() == pytest.approx(expected[photo.name][0]["p"], abs=0.02)


def test_resnet20_classifies_cifar(real_data: Path) -> None:
    from safetensors.torch import load_file

    path = real_data / "backbones" / "resnet20_cifar10.safetensors"
    model = backbones.resnet_cifar(shape=(32, 32, 3), n_classes=10, weights=path).eval()
    model.head.load_state_dict({k.removeprefix("linear."): v.float() for k, v in load_file(path).items() if k.startswith("linear.")})
    data = np.load(real_data / "cifar10_lossless.npz")
    x, y = data["x_test"][:300], data["y_test"][:300]
    assert (predict(model, x).argmax(1) == y).mean() > 0.85


def test_a_frozen_body_does_not_move_and_its_head_learns(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = backbones._ResNetCifar(3)
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "w.safetensors")

    def build() -> backbones.Classifier:
        return backbones.resnet_cifar(shape=(8, 8, 1), n_classes=2, weights=tmp_path / "w.safetensors", frozen=True)

    model = train(
        parse("balanced+augment"), build, real=stripes(20, 0), synthetic=stripes(20, 1), training=Training(steps=200, lr=0.02), seed=0, pretrained=True
    )
    kept = dict(source.state_dict())
    assert all(torch.equal(v, kept[k]) for k, v in model.body.net.state_dict().items())
    assert (predict(model, stripes(40, 2).x).argmax(1) == stripes(40, 2).y).mean() > 0.8


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64, 1), (32, 32, 3), (96, 96, 3)])
def test_the_shipped_body_gives_the_features_of_the_extractor(shape: tuple[int, int, int]) -> None:
    """At its own size to rounding; at others they resize in two ways (bilinear here, bicubic there), and a third of their spread is allowed."""
    from mitate.features.extractor import extractor
    from mitate.lab.sets import lab_images

    x = lab_images(1, size=shape[0]).pixels(size=shape[0], channels=shape[2])
    model = backbones.mitate_small(shape=shape, n_classes=2, frozen=True).eval()
    with torch.no_grad():
        found = model.body(torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255).numpy()
    expected = extractor()(x)
    assert found.shape == expected.shape == (6, 384)
    assert np.abs(found - expected).mean() < (1e-3 if shape[0] == 64 else 0.33 * expected.std())


@pytest.mark.parametrize("arm", [a for a in DEFAULT_ARMS if parse(a).uses_synthetic])
def test_an_arm_on_a_frozen_body_changes_with_the_synthetic_images_or_says_that_it_does_not(arm: str) -> None:
    def said(seed: int) -> np.ndarray:
        build = partial(backbones.mitate_small, shape=(8, 8, 1), n_classes=2, frozen=True)
        model = train(parse(arm), build, real=stripes(6, 0), synthetic=stripes(6, seed), training=Training(steps=8, batch=8), seed=0, pretrained=True)
        return predict(model, stripes(6, 9).x)

    assert np.array_equal(said(1), said(2)) == parse(arm).forgets


def test_a_body_that_was_shipped_is_trained_or_kept_as_asked() -> None:
    shipped = {k: v.clone() for k, v in backbones.mitate_small(shape=(16, 16, 1), n_classes=2).body.state_dict().items()}
    for frozen in (True, False):
        model = train(
            parse("balanced+augment"), lambda frozen=frozen: backbones.mitate_small(shape=(16, 16, 1), n_classes=2, frozen=frozen),  # type: ignore[misc]
            real=stripes(12, 0), synthetic=stripes(12, 1), training=Training(steps=20, batch=16), seed=0, pretrained=True,
        )  # fmt: skip
        moved = any(not torch.equal(v, shipped[k]) for k, v in model.body.state_dict().items())
        assert moved != frozen


def test_wrong_weights_are_refused_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"\x80\x04junk")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for path, said in ((None, "needs a weights file"), (tmp_path / "junk.safetensors", "pickles"), (tmp_path / "other.safetensors", "does not hold")):
        with pytest.raises(SettingError) as wrong:
            backbones.mobilenet_v2(shape=(32, 32, 3), n_classes=2, weights=path)
        assert said in str(wrong.value)
    with pytest.raises(SettingError, match="no pretrained"):
        backbones.small(shape=(8, 8, 1), n_classes=2, frozen=True)


def test_timm_networks_train_here_or_say_what_is_missing() -> None:
    try:
        import timm  # noqa: F401
    except Exception:
        with pytest.raises(MissingExtra, match="timm"):
            backbones.timm(shape=(32, 32, 3), n_classes=2)
        return
    pytest.skip("timm imports here; its networks need a hub or a local file")
