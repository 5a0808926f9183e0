"""Feature extractors: rows that depend on their image alone, digests that tell settings apart, files, and the verb that caches them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn

from mitate import verbs
from mitate.errors import DataError, JobError, MissingExtra, SettingError
from mitate.features.extractor import Extractor, as_input, extractor, extractor_of
from mitate.features.networks import Intermediate, channel_statistics, intermediate
from mitate.files import file_digest
from mitate.images import from_arrays
from mitate.metrics.kernel import kernel_distance
from mitate.runtime import MITATE_SMALL, torch_threads
from mitate.store import Asked, Entry, Store
from mitate.training import backbones
from mitate.training.small_net import SmallNet

OURS = ("pixels", "random", "mitate-small")
EXPERIMENT = Path(__file__).parent.parent / "experiments" / "2026-11-22-mitate-small"


def images(n: int, side: int = 32, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A bright box and a dark one on a ground, at random places, with a little noise."""
    rng = np.random.default_rng(seed)
    x = np.broadcast_to(rng.uniform(60, 200, (n, 1, 1, channels)), (n, side, side, channels)).copy()
    for image in x:
        for colour in rng.uniform(0, 255, (2, channels)):
            top, left = rng.integers(0, side // 2, 2)
            image[top : top + side // 3, left : left + side // 2] = colour
    return np.clip(x + rng.normal(0, 4, x.shape), 0, 255).astype(np.uint8)


def cifar_file(path: Path) -> Path:
    """Random weights of a ResNet with one block a stage, as a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = backbones._ResNetCifar(1)
    save_file(net.state_dict(), path)
    return path


@pytest.mark.parametrize("name", OURS)
def test_a_row_depends_on_its_image_alone(name: str) -> None:
    made, x = extractor(name), images(70)
    whole = made.both(x)
    some = made.both(x[[66, 3]])
    assert np.array_equal(some.late, whole.late[[66, 3]]) and np.array_equal(some.early, whole.early[[66, 3]])
    with torch_threads(2):
        again = made.both(x[3:5])
    assert np.array_equal(again.late, whole.late[3:5]) and np.array_equal(again.early, whole.early[3:5])
    assert len({row.tobytes() for row in whole.late}) == 70


@pytest.mark.parametrize("name", OURS)
def test_copies_of_an_image_have_the_same_bytes_wherever_they_stand(name: str) -> None:
    made, x = extractor(name), images(70)
    x[[0, 17, 63, 64]] = x[5]
    assert len({row.tobytes() for row in made(x)[[0, 5, 17, 63, 64]]}) == 1


@pytest.mark.parametrize("side", [8, 28, 64, 256])
def test_any_size_grey_or_colour(side: int) -> None:
    for name in OURS:
        made, grey = extractor(name), images(2, side, channels=1)
        found = made.both(grey)
        assert found.late.shape == (2, made.width) and found.early.shape == (2, made.early_width)
        assert found.late.dtype == found.early.dtype == np.float32
        assert np.array_equal(found.late, made(np.repeat(grey, 3, axis=-1)))


def test_no_images_make_no_rows() -> None:
    made = extractor("pixels")
    assert made(images(0)).shape == (0, made.width) and made.early(images(0)).shape == (0, made.early_width)


def test_an_oblong_image_is_its_centre_square() -> None:
    made, x = extractor("pixels"), images(3, 40)
    assert np.array_equal(made(x[:, 5:35]), made(x[:, 5:35, 5:35]))


@pytest.mark.parametrize(("side", "size"), [(96, 64), (100, 32), (17, 64), (8, 128), (256, 64)])
def test_resizing_is_pillows_antialiased_bicubic(side: int, size: int) -> None:
    x = images(1, side, seed=side)
    resized = as_input(x, size)[0].permute(1, 2, 0).numpy()
    pillow = [np.asarray(Image.fromarray(x[0, :, :, c].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)) for c in range(3)]
    assert resized == pytest.approx(np.clip(np.stack(pillow, axis=-1) / 255, 0, 1), abs=2e-6)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    x = images(2, 64)
    assert np.array_equal(as_input(x, 64).permute(0, 2, 3, 1).numpy(), x.astype(np.float32) / 255)


def test_pixels_are_averages_and_the_spread_of_colours() -> None:
    x = images(3, 64)
    found = extractor("pixels").both(x)
    blocks = x.reshape(3, 16, 4, 16, 4, 3).mean(axis=(2, 4)) / 255
    assert found.late == pytest.approx(blocks.transpose(0, 3, 1, 2).reshape(3, -1), abs=1e-6)
    colours = x.reshape(3, -1, 3) / 255
    assert found.early[:, :6] == pytest.approx(np.hstack([colours.mean(axis=1), colours.std(axis=1)]), abs=1e-6)
    right = np.diff(x / 255, axis=2).reshape(3, -1, 3)
    assert found.early[:, 6:12] == pytest.approx(np.hstack([right.mean(axis=1), right.std(axis=1)]), abs=1e-6)


def test_early_features_are_averages_and_deviations_of_channels() -> None:
    maps = torch.rand(2, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    truth = np.hstack([maps.numpy().mean(axis=(2, 3)), maps.numpy().std(axis=(2, 3))])
    assert channel_statistics(maps).numpy() == pytest.approx(truth, abs=1e-6)


def test_late_and_early_can_be_asked_alone() -> None:
    made, x = extractor("random"), images(2)
    found = made.both(x)
    assert np.array_equal(found.late, made(x)) and np.array_equal(found.early, made.early(x))


# digests


def test_every_setting_is_in_the_digest() -> None:
    made = extractor("mitate-small")
    changed = [
        replace(made, name="other"), replace(made, variant="x"), replace(made, weights="0" * 64), replace(made, size=32),
        replace(made, values="0 to 1"), replace(made, version=2), replace(made, batch=32),
    ]  # fmt: skip
    assert len({e.digest for e in (made, *changed)}) == 8
    assert made.digest == extractor().digest == extractor("mitate-small").digest, "the default, and the same twice"
    assert len({extractor(name).digest for name in OURS}) == 3


def test_the_way_pixels_become_inputs_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = extractor("pixels").digest
    monkeypatch.setattr("mitate.features.extractor.RESIZE", "nearest")
    assert extractor("pixels").digest != before


def test_a_file_is_known_by_its_tensors_and_named_by_its_content(tmp_path: Path) -> None:
    path = cifar_file(tmp_path / "net.safetensors")
    made = extractor(str(path))
    assert (made.name, made.width, made.early_width, made.size) == ("resnet_cifar", 64, 32, 32)
    (tmp_path / "copy.safetensors").write_bytes(path.read_bytes())
    assert made.digest == extractor(f"resnet_cifar:{tmp_path / 'copy.safetensors'}").digest
    state = load_file(path)
    state["conv1.weight"] += 1e-3
    save_file(state, path)
    assert extractor(str(path)).digest != made.digest


def test_a_file_of_our_own_shape_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    state = {name: tensor.float() for name, tensor in load_file(MITATE_SMALL).items()}
    save_file(state | {"mean": state["mean"] + 1}, path)
    own, shipped, x = extractor(str(path)), extractor(), images(2)
    assert own.name == "mitate-small" and own.digest != shipped.digest
    assert own(x) == pytest.approx(shipped(x) - 1 / state["deviation"].numpy(), abs=1e-4)


def test_random_weights_come_from_a_named_seed_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    made, other = extractor("random"), extractor("random")
    x = images(2)
    assert np.array_equal(made(x), other(x)) and made.digest == other.digest
    assert torch.equal(torch.get_rng_state(), before)
    weights = torch.cat([tensor.flatten() for name, tensor in made.net.state_dict().items() if name.endswith("first.weight")])
    assert weights.mean().abs() < 1e-3


def test_building_a_network_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    path = cifar_file(tmp_path / "net.safetensors")
    before = torch.get_rng_state()
    extractor(str(path))
    assert torch.equal(torch.get_rng_state(), before)


def test_resnet_features_are_those_of_the_backbone(tmp_path: Path) -> None:
    path = cifar_file(tmp_path / "net.safetensors")
    x = images(3)
    body = backbones.resnet_cifar(shape=(32, 32, 3), n_classes=2, weights=path, frozen=True).eval().body
    with torch.no_grad():
        truth = body(as_input(x, 32)).numpy()
    assert extractor(str(path))(x) == pytest.approx(truth, rel=1e-4, abs=1e-5)


# mitate-small


def test_the_shipped_weights_are_small_and_their_card_and_figures_are_theirs() -> None:
    assert MITATE_SMALL.stat().st_size < 5_000_000
    card = MITATE_SMALL.with_suffix(".md").read_text(encoding="utf-8")
    assert file_digest(MITATE_SMALL) in card
    trained = json.loads((EXPERIMENT / "trained.json").read_text())
    assert trained["sha256"]["weights"] == file_digest(MITATE_SMALL)
    assert f"{trained['steps']:,} steps" in card and f"{trained['pictures']:,} pictures" in card
    judged = json.loads((EXPERIMENT / "judged.json").read_text())["mitate-small"]
    assert judged["digest"] == extractor("mitate-small").digest
    for data in ("coffee_leaf", "bccd_cells", "cifar10_lossless"):
        assert f"{round(100 * judged[data]['ridge']['value'], 1)} %" in card


def test_the_shipped_weights_hold_the_network_and_no_less() -> None:
    state = load_file(MITATE_SMALL)
    assert {name: tensor.shape for name, tensor in state.items()} == {name: tensor.shape for name, tensor in SmallNet().state_dict().items()}
    assert all(torch.isfinite(tensor).all() for tensor in state.values()) and (state["deviation"] > 0).all()


def test_kernel_distance_rises_with_blur() -> None:
    made, real, fresh = extractor(), images(64, seed=1), images(64, seed=2)
    sets = [fresh, *(np.stack([ndimage.gaussian_filter(i, (s, s, 0)) for i in fresh]) for s in (1, 2, 4))]
    values = [kernel_distance(made(real), made(x)).value for x in sets]
    assert values == sorted(values) and values[-1] > 0


# files and names


def test_names_and_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    torn = load_file(cifar_file(tmp_path / "net.safetensors"))
    save_file({k: v for k, v in torn.items() if k != "bn1.weight"}, tmp_path / "torn.safetensors")
    small = {name: tensor for name, tensor in load_file(MITATE_SMALL).items() if name != "stem.bias"}
    save_file(small, tmp_path / "torn-small.safetensors")
    for name, message in {
        "mitate-smal": "did you mean 'mitate-small'",
        "mobilenet_v2": "needs a weights file",
        "resnet_cifar": "needs a weights file",
        "pixels:" + str(tmp_path / "net.safetensors"): "takes no weights file",
        "random:" + str(tmp_path / "net.safetensors"): "takes no weights file",
        str(tmp_path / "missing.safetensors"): "There is no weights file",
        "mobilenet_v2:" + str(tmp_path / "missing.safetensors"): "There is no weights file",
        str(tmp_path / "text.safetensors"): "not a safetensors file",
        "mitate-small:" + str(tmp_path / "text.safetensors"): "not a safetensors file",
        str(tmp_path / "other.safetensors"): "holds no network that is known",
        str(tmp_path / "torn.safetensors"): "does not fit",
        str(tmp_path / "torn-small.safetensors"): "does not fit",
        "mobilenet_v2:" + str(tmp_path / "net.safetensors"): "does not hold a mobilenet_v2",
    }.items():
        with pytest.raises(SettingError, match=message):
            extractor(name)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), "float32"),
        (np.zeros((2, 32, 32), np.uint8), "fix: give uint8"),
        (np.zeros((2, 32, 32, 4), np.uint8), "fix: give uint8"),
        (np.zeros((2, 7, 32, 3), np.uint8), "7 x 32 pixels"),
        (np.zeros((2, 300, 300, 3), np.uint8), "fix: give 8 to 256"),
    ],
)
def test_what_is_no_set_of_images_is_refused(x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        extractor("pixels")(x)


def test_weights_that_overflow_are_an_error_not_a_score(tmp_path: Path) -> None:
    state = {name: tensor.float() for name, tensor in load_file(MITATE_SMALL).items()}
    save_file(state | {"stem.weight": state["stem.weight"] * 1e38}, tmp_path / "wild.safetensors")
    with pytest.raises(DataError, match="not finite"):
        extractor(str(tmp_path / "wild.safetensors"))(images(1))


# timm


@pytest.mark.parametrize("name", ["timm:resnet18", "dinov2-s14", "inception"])
def test_timm_extractors_say_what_is_missing(name: str) -> None:
    try:
        import timm  # noqa: F401
    except Exception:
        with pytest.raises(MissingExtra, match=r"mitate\[vision\]"):
            extractor(name)
        return
    pytest.skip("timm imports here; its networks need a hub or a local file")


class Toy(nn.Module):
    """What our code uses of a timm network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 2, 2)])

    def forward_intermediates(self, x: Tensor, *, indices: list[int], output_fmt: str) -> tuple[Tensor, list[Tensor]]:
        assert output_fmt == "NCHW"
        maps = [self.layers[0](x)]
        maps.append(self.layers[1](maps[0]))
        return maps[1], [maps[i] for i in indices]

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def toy_library(hub: str | None = None) -> SimpleNamespace:
    def create_model(name: str, *, pretrained: bool, num_classes: int, pretrained_cfg_overlay: dict[str, str]) -> Toy:
        net = Toy()
        net.load_state_dict(load_file(pretrained_cfg_overlay["file"]), strict=False)
        return net

    config = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1), "input_size": (3, 16, 16)}
    return SimpleNamespace(
        create_model=create_model,
        is_model=lambda name: name == "toy",
        data=SimpleNamespace(resolve_data_config=lambda _args, model: config),
        models=SimpleNamespace(get_pretrained_cfg=lambda name: SimpleNamespace(hf_hub_id=hub)),
    )


def toy_file(path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(Toy().state_dict(), path)
    return path


def test_a_timm_network_has_its_own_colours_size_and_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", toy_library())
    path = toy_file(tmp_path / "toy.safetensors")
    made, x = extractor(f"timm:toy:{path}"), images(2, 16)
    assert (made.size, made.width, made.early_width, made.variant) == (16, 6, 12, "toy")
    assert made.values == "0 to 1, minus 0.5, 0.4, 0.3, over 0.2, 0.2, 0.1"
    net = made.net
    assert isinstance(net, Intermediate)
    given = (torch.from_numpy(x).permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.2, 0.1])[:, None, None]
    with torch.no_grad():
        last, (early,) = net.net.forward_intermediates(given, indices=[1], output_fmt="NCHW")
    assert made(x) == pytest.approx(last.mean(dim=(2, 3)).numpy(), abs=1e-5)
    assert made.early(x) == pytest.approx(channel_statistics(early).numpy(), abs=1e-5)
    assert extractor_of(made.settings, path).digest == made.digest
    for name in ("timm:other", "timm"):
        with pytest.raises(SettingError, match="timm has no network"):
            extractor(name)
    with pytest.raises(SettingError, match="no hub"):
        extractor("timm:toy")


def test_weights_are_fetched_as_safetensors_when_a_network_is_named_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = toy_file(tmp_path / "toy.safetensors"), []

    def download(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        if len(asked) > 1:
            raise OSError("no route\nto the hub")
        return str(path)

    monkeypatch.setitem(sys.modules, "timm", toy_library("timm/toy"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    made = extractor("timm:toy")
    assert made.digest == extractor(f"timm:toy:{path}").digest and made.file == path
    assert asked == [("timm/toy", "model.safetensors")]
    with pytest.raises(SettingError, match=r"could not be fetched \(no route\)"):
        extractor("timm:toy")


def test_a_timm_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    path = toy_file(tmp_path / "toy.safetensors")
    save_file({name: tensor for name, tensor in load_file(path).items() if name != "layers.1.bias"}, path)
    with pytest.raises(SettingError, match="layers.1.bias"):
        intermediate(toy_library(), "toy", path, None)


# the verb


def ask(store: Store, x: np.ndarray, name: str) -> Asked:
    kept = verbs.keep_images(store, from_arrays(x, np.arange(len(x)) % 2), size=x.shape[1], channels=x.shape[-1])
    settings, weights = verbs.keep_extractor(store, name)
    return Asked("features", verbs.VERBS["features"].version, {"extractor": settings}, {"images": kept} | ({"weights": weights} if weights else {}))


def rows_of(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    late, early = (np.load(entry.path(name), allow_pickle=False) for name in ("features.npy", "early.npy"))
    return late, early


def test_features_are_computed_once_and_kept_by_content(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, x = Store(own_store), images(9)
    path = cifar_file(tmp_path / "net.safetensors")
    first = {name: verbs.perform(store, ask(store, x, name)) for name in ("random", str(path))}
    for name, entry in first.items():
        late, early = rows_of(entry)
        made = extractor(name)
        assert np.array_equal(late, made(x)) and np.array_equal(early, made.early(x)) and late.dtype == np.float32
        assert entry.result["extractor"] == made.digest
    monkeypatch.setattr(Extractor, "both", None)
    path.rename(tmp_path / "elsewhere.safetensors")
    for name, again in {"random": "random", str(path): f"resnet_cifar:{tmp_path / 'elsewhere.safetensors'}"}.items():
        assert verbs.perform(store, ask(store, x.copy(), again)).digest == first[name].digest
    with pytest.raises(JobError):
        verbs.perform(store, ask(store, images(9, seed=1), "random"))


def test_features_go_on_after_a_kill_to_the_same_bytes(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, x, calls = Store(own_store), images(10), []
    monkeypatch.setattr(verbs, "BLOCK", 4)
    whole, both = extractor("random").both(x), Extractor.both

    def counted(self: Extractor, some: np.ndarray) -> object:
        calls.append(len(some))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return both(self, some)

    monkeypatch.setattr(Extractor, "both", counted)
    asked = ask(store, x, "random")
    with pytest.raises(KeyboardInterrupt):
        verbs.perform(store, asked)
    late, early = rows_of(verbs.perform(store, asked))
    assert calls == [4, 4, 2, 2], "two blocks outlived the kill"
    assert np.array_equal(late, whole.late) and np.array_equal(early, whole.early)


def test_a_job_refuses_an_extractor_that_has_changed(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(own_store)
    asked = ask(store, images(4), "pixels")
    monkeypatch.setattr("mitate.features.extractor.LAYOUT", "BGR")
    with pytest.raises(SettingError, match="not the one that was asked for"):
        verbs.perform(store, asked)


# real weights


def test_mobilenet_features_are_those_of_the_backbone(real_data: Path) -> None:
    path = real_data / "backbones" / "mobilenet_v2.safetensors"
    made, x = extractor(str(path)), images(2, 64)
    assert (made.name, made.width, made.early_width) == ("mobilenet_v2", 1280, 48)
    body = backbones.mobilenet_v2(shape=(128, 128, 3), n_classes=2, weights=path, frozen=True).eval().body
    with torch.no_grad():
        truth = body(as_input(x, 128)).numpy()
    found = made.both(x[[1, 0]])
    assert found.late[[1, 0]] == pytest.approx(truth, abs=1e-4)
    assert found.early.std() > 0
