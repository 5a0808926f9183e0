"""LoRA files of every layout are read as the same updates, written so that plain diffusers paints the same, and refused where they are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mitate.errors import DataError
from mitate.generators.updates import Update, Updates
from tiny import tiny_pipeline
from tiny_experts import TARGETS, adapted, factors, images_of, images_with, plain, write_expert

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways
MODULE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


def pair(seed: int = 0, *, rank: int = 2, wide: int = 16) -> tuple[Tensor, Tensor]:
    chance = np.random.default_rng(seed)
    return torch.tensor(chance.normal(size=(rank, wide)), dtype=torch.float32), torch.tensor(chance.normal(size=(wide, rank)), dtype=torch.float32)


# layouts -------------------------------------------------------------------------------------------------------------------------


def in_layout(layout: str, place: Path) -> Path:
    """The same two modules and one of the text encoder, in every way of naming."""
    tensors: dict[str, Tensor] = {}
    for i, module in enumerate((MODULE, OUT, TEXT)):
        down, up = pair(i)
        part, _, inner = module.partition(".")
        flat = ("lora_unet_" if part == "unet" else "lora_te_") + inner.replace(".", "_")
        if layout == "ours":
            names = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
        elif layout == "flattened":  # as transformers 5 names a text encoder's modules
            module = module.replace("text_model.", "")
            names = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
        elif layout == "diffusers":
            names = (f"{module}.lora.down.weight", f"{module}.lora.up.weight")
        elif layout == "processors":
            stem, _, tail = module.removesuffix(".0").rpartition(".")
            tail = f"processor.{tail}" if part == "unet" else {"q_proj": "to_q"}[tail]
            names = (f"{stem}.{tail}_lora.down.weight", f"{stem}.{tail}_lora.up.weight")
        elif layout == "layers":
            names = (f"{module}.lora_linear_layer.down.weight", f"{module}.lora_linear_layer.up.weight")
        elif layout == "peft":
            names = (f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight")
        else:
            names = (f"{flat}.lora_down.weight", f"{flat}.lora_up.weight")
        tensors |= dict(zip(names, (down, up), strict=True))
        if layout == "kohya":
            tensors[f"{flat}.alpha"] = torch.tensor(2.0)
    save_file(tensors, place / "lora.safetensors")
    if layout == "peft":
        (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    return place / "lora.safetensors"


@pytest.mark.parametrize("layout", ["ours", "flattened", "diffusers", "processors", "layers", "peft", "kohya", "kohya without alpha"])
def test_every_layout_is_read_as_the_same_updates(layout: str, tmp_path: Path) -> None:
    found = Updates.read(in_layout(layout, tmp_path))
    assert list(found.modules) == sorted([MODULE, OUT, TEXT])
    for i, module in enumerate((MODULE, OUT, TEXT)):
        down, up = pair(i)
        assert torch.allclose(found.modules[module].delta, up.double() @ down.double(), atol=1e-12)
    (tmp_path / "ours").mkdir()
    assert found.digest == Updates.read(in_layout("ours", tmp_path / "ours")).digest


@pytest.mark.parametrize("rank", [2, 3])
def test_an_alpha_of_its_own_scales_a_module(rank: int, tmp_path: Path) -> None:
    down, up = pair(rank=rank)
    save_file({f"{MODULE}.lora.down.weight": down, f"{MODULE}.lora.up.weight": up, f"{MODULE}.alpha": torch.tensor(6.0)}, tmp_path / "a.safetensors")
    assert Updates.read(tmp_path / "a.safetensors").modules[MODULE].scale == 6.0 / rank


def test_names_of_sdxl_in_kohyas_files_need_the_blocks_of_the_model(tmp_path: Path) -> None:
    down, up = pair()
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}, tmp_path / "xl.safetensors")
    found = Updates.read(tmp_path / "xl.safetensors", layers=2).modules
    assert list(found) == [MODULE] and found[MODULE].scale == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_other_precisions_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    down, up = (t.to(dtype) for t in pair())
    save_file({f"{MODULE}.lora_A.weight": down, f"{MODULE}.lora_B.weight": up}, tmp_path / "x.safetensors")
    assert torch.allclose(Updates.read(tmp_path / "x.safetensors").modules[MODULE].delta, up.double() @ down.double(), atol=1e-6)


# what peft and diffusers write -------------------------------------------------------------------------------------------------


PEFT = [{}, {"alpha": 5.0}, {"alpha": 5.0, "use_rslora": True}, {"alpha_pattern": {"attn1.to_q": 7.0}, "rank_pattern": {"attn1.to_q": 3, "to_v": 1}}]


@pytest.mark.parametrize("settings", PEFT)
def test_what_peft_saves_is_read_with_its_own_deltas(settings: dict[str, object], folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    told = {key: value for key, value in settings.items() if key != "alpha"}
    config = LoraConfig(r=2, lora_alpha=settings.get("alpha", 2), target_modules=[*TARGETS, "proj_in", "conv1"], init_lora_weights=False, **told)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        net = get_peft_model(plain(folder).unet, config)
    net.save_pretrained(tmp_path / "peft")
    found = Updates.read(tmp_path / "peft")
    layers = {name.removeprefix("base_model.model."): layer for name, layer in net.named_modules() if hasattr(layer, "get_delta_weight")}
    assert {f"unet.{name}" for name in layers} == set(found.modules) and any("conv1" in name for name in layers)
    for name, layer in layers.items():
        delta = layer.get_delta_weight("default").detach()
        one = found.modules[f"unet.{name}"]
        assert one.shape == tuple(delta.shape) and torch.allclose(one.delta.float().reshape(delta.shape), delta, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 5.0}, {"alpha": 4.0, "use_rslora": True}, {"rank_pattern": {"attn1.to_q": 4}, "alpha_pattern": {"to_v": 1}}]
)
@pytest.mark.parametrize("told", [False, True])
def test_what_diffusers_saves_paints_the_same_after_we_have_read_and_written_it(
    settings: dict[str, object], told: bool, folder: Path, tmp_path: Path
) -> None:  # fmt: skip
    from diffusers import StableDiffusionPipeline

    pipeline = plain(folder)
    config = adapted(pipeline.unet, seed=3, targets=[*TARGETS, "proj_in", "conv1"], **settings)  # type: ignore[arg-type]
    metadata = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path / "theirs", factors(pipeline.unet), unet_lora_adapter_metadata=metadata if told else None)
    file = tmp_path / "theirs" / "pytorch_lora_weights.safetensors"
    Updates.read(file).write(tmp_path / "ours.safetensors")
    theirs, ours = images_with(folder, file), images_with(folder, tmp_path / "ours.safetensors")
    assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1
    assert np.abs(ours.astype(int) - images_of(plain(folder)).astype(int)).max() > 5


def test_kohyas_file_paints_in_plain_diffusers_as_after_we_have_read_and_written_it(folder: Path, tmp_path: Path) -> None:
    tensors = {}
    for name, value in load_file(write_expert(folder, tmp_path / "own.safetensors", seed=5)).items():
        flat = "lora_" + name.rpartition(".lora_")[0].replace(".", "_")
        tensors[f"{flat}.lora_{'down' if '.lora_A.' in name else 'up'}.weight"] = value
        tensors[f"{flat}.alpha"] = torch.tensor(3.0)
    save_file(tensors, tmp_path / "kohya.safetensors")
    found = Updates.read(tmp_path / "kohya.safetensors")
    assert {one.scale for one in found.modules.values()} == {1.5}
    found.write(tmp_path / "ours.safetensors")
    theirs, ours = images_with(folder, tmp_path / "kohya.safetensors"), images_with(folder, tmp_path / "ours.safetensors")
    assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1


def test_our_own_files_come_back_as_they_were(folder: Path, tmp_path: Path) -> None:
    file = write_expert(folder, tmp_path / "own.safetensors", seed=1, targets=[*TARGETS, "proj_in", "conv1"])
    found = Updates.read(file)
    found.write(tmp_path / "again.safetensors")
    was, now = load_file(file), load_file(tmp_path / "again.safetensors")
    assert set(was) == set(now) and all(torch.equal(was[name], now[name]) for name in was)
    assert Updates.read(tmp_path / "again.safetensors").digest == found.digest


def test_unequal_ranks_and_scales_paint_in_plain_diffusers_as_they_are(folder: Path, tmp_path: Path) -> None:
    """Against the weights themselves, changed by hand."""
    read = Updates.read(write_expert(folder, tmp_path / "own.safetensors", seed=2, rank=3, targets=[*TARGETS, "proj_in", "conv1"]))
    modules = {}
    for i, (name, one) in enumerate(read.modules.items()):
        rank = 1 + i % 3
        modules[name] = Update(one.up[:, :rank], one.down[:rank], one.shape, 0.5 + i % 2)
    mixed = Updates(modules)
    mixed.write(tmp_path / "mixed.safetensors")
    pipeline = plain(folder)
    for name, one in modules.items():
        weight = pipeline.unet.get_submodule(name.removeprefix("unet.")).weight
        weight.data += one.delta.reshape(weight.shape).float()
    ours = images_with(folder, tmp_path / "mixed.safetensors")
    assert np.abs(ours.astype(int) - images_of(pipeline).astype(int)).max() <= 1
    again = Updates.read(tmp_path / "mixed.safetensors")
    assert all(torch.allclose(again.modules[name].delta, one.delta, atol=1e-6) for name, one in modules.items())


def test_an_update_of_scale_zero_leaves_the_images_as_they_are(folder: Path, tmp_path: Path) -> None:
    Updates.read(write_expert(folder, tmp_path / "own.safetensors", seed=2)).scaled(0.0).write(tmp_path / "off.safetensors")
    assert np.array_equal(images_with(folder, tmp_path / "off.safetensors"), images_of(plain(folder)))


# what is refused ------------------------------------------------------------------------------------------------------------------


def with_pair(**more: Tensor) -> dict[str, Tensor]:
    down, up = pair()
    return {f"{MODULE}.lora_A.weight": down, f"{MODULE}.lora_B.weight": up, **more}


def spoilt(value: float) -> dict[str, Tensor]:
    found = with_pair()
    found[f"{MODULE}.lora_B.weight"][3, 1] = value
    return found


def kohya_of(*blocks: str) -> dict[str, Tensor]:
    ends = {"down": pair()[0], "up": pair()[1]}
    return {f"lora_unet_{block}_transformer_blocks_0_attn1_to_q.lora_{end}.weight": value.clone() for block in blocks for end, value in ends.items()}


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (lambda: spoilt(math.nan), "no numbers"),
        (lambda: spoilt(math.inf), "no numbers"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2, 16), f"{MODULE}.lora_B.weight": torch.ones(16, 3)}, "do not go together"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2), f"{MODULE}.lora_B.weight": torch.ones(16, 2)}, "do not go together"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(0, 16), f"{MODULE}.lora_B.weight": torch.ones(16, 0)}, "do not go together"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2, 16, 3, 3), f"{MODULE}.lora_B.weight": torch.ones(16, 2, 3, 3)}, "do not go together"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2, 16, 3, 3), f"{MODULE}.lora_B.weight": torch.ones(16, 2)}, "do not go together"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2, 16).int(), f"{MODULE}.lora_B.weight": torch.ones(16, 2)}, "int32"),
        (lambda: {f"{MODULE}.lora_A.weight": torch.ones(2, 16)}, "has no up factor"),
        (lambda: {f"{MODULE}.alpha": torch.tensor(1.0)}, "no factors"),
        (lambda: {}, "no factors"),
        (lambda: with_pair(**{f"{MODULE}.alpha": torch.tensor(math.nan)}), "is no number"),
        (lambda: with_pair(**{f"{MODULE}.alpha": torch.ones(2)}), "is no number"),
        (lambda: with_pair(**{f"{MODULE}.lora.down.weight": torch.ones(2, 16)}), "twice"),
        (lambda: with_pair(**{f"{MODULE}.lora_magnitude_vector": torch.ones(16)}), "is a DoRA"),
        (lambda: with_pair(**{f"{MODULE}.dora_scale": torch.ones(16)}), "is a DoRA"),
        (lambda: with_pair(**{f"{MODULE}.lora_B.bias": torch.ones(16)}), "is a LoRA with biases"),
        (lambda: {"lora_unet_mid_block.hada_w1_a": torch.ones(2, 2)}, "is a LoHa"),
        (lambda: {"lora_unet_mid_block_attn1_to_q.lora_down.weight": torch.ones(2, 16)}, "cannot convert"),
        (lambda: {**kohya_of("mid_block"), "lora_unet_mid_block_attn1_to_q.dora_scale": torch.ones(16)}, "is a DoRA"),
        (lambda: {"emb_params": torch.ones(1, 16)}, "no part of a LoRA"),
        (lambda: {"base_model.model.mid_block.to_q.lora_A.weight": torch.ones(2, 16)}, "no adapter_config.json"),
    ],
)
def test_files_that_hold_something_else_are_refused(tensors: Callable[[], dict[str, Tensor]], told: str, tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=told) as wrong:
        Updates.read(tmp_path / "x.safetensors")
    assert wrong.value.fix


def test_what_a_converter_would_leave_out_without_a_word_is_refused(tmp_path: Path) -> None:
    save_file(kohya_of("mid_block", "input_blocks_4_1"), tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="mixes the names of two programs"):
        Updates.read(tmp_path / "x.safetensors", layers=2)


@pytest.mark.parametrize(
    "metadata", ["{", "[]", '{"unet.lora_alpha": "much"}', '{"unet.r": 2, "unet.lora_alpha": NaN}', '{"unet.alpha_pattern": {"(a+)+$": 1}}']
)
def test_metadata_that_tells_no_scale_is_refused(metadata: str, tmp_path: Path) -> None:
    save_file(with_pair(), tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": metadata})
    with pytest.raises(DataError, match="fix:"):
        Updates.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "config", [{"peft_type": "LOHA"}, {"use_dora": True}, {"lora_alpha": "x"}, {"lora_alpha": True}, {"alpha_pattern": {".*": 3}}, [], "no json"]
)
def test_configurations_of_peft_that_tell_something_else_are_refused(config: object, tmp_path: Path) -> None:
    down, up = pair()
    save_file({f"base_model.model.{MODULE}.lora_A.weight": down, f"base_model.model.{MODULE}.lora_B.weight": up}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(DataError, match="fix:"):
        Updates.read(tmp_path)


@pytest.mark.parametrize("name", ["x.bin", "x.pt", "x.ckpt", "x.pth", "X.PT"])
def test_pickles_are_never_opened(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / name)
    with pytest.raises(DataError, match="is a pickle"):
        Updates.read(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="cannot be read"):
        Updates.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("content", [b"", b"garbage" * 10, b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="fix:"):
        Updates.read(tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="There is no file"):
        Updates.read(tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 LoRA files"):
        Updates.read(tmp_path / "empty")


def test_values_that_float32_cannot_hold_are_not_written(tmp_path: Path) -> None:
    down, up = pair()
    with pytest.raises(DataError, match="float32 cannot hold"):
        Updates({MODULE: Update(up, down, (16, 16), 1e39)}).write(tmp_path / "x.safetensors")
