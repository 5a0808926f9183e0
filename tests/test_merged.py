"""Experts merged by name or file, kept, painted with, written and fused; on tiny pipelines with random weights, and once on the lab's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mitate as mi
from mitate.adapted import learnt
from mitate.cli_merge import merge as command
from mitate.errors import DataError, MitateError, SettingError
from mitate.files import file_digest
from mitate.generators.fusing import fuse as fuse_folder
from mitate.generators.learnt import LORA
from mitate.generators.merging import DareTies, DeltaMean, FactorMean, Summed, Ties
from mitate.generators.pipelines import How, open_pipeline
from mitate.generators.places import LAB
from mitate.generators.updates import Update, Updates
from mitate.merged import Merged, fuse, interference, load_merged, merge
from mitate.store import Asked, Store
from tiny import tiny_pipeline, tiny_xl
from tiny_experts import TARGETS, adapted, images_of, images_with, plain, write_expert

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three experts of unequal ranks and targets."""
    place = tmp_path_factory.mktemp("experts")
    targets = (TARGETS, (*TARGETS, "proj_in"), ("to_q", "to_v", "conv1"))
    return [write_expert(folder, place / f"{name}.safetensors", seed=i, rank=2 + i, targets=targets[i]) for i, name in enumerate(("one", "two", "three"))]


def kept(folder: Path, file: Path, name: str) -> str:
    """An expert as a fit leaves it, under a name."""
    store, weights = Store.find(), open_pipeline(folder).digest

    def build(place: Path, checkpoint: Path) -> dict[str, object]:
        shutil.copyfile(file, place / LORA)
        return {}

    asked = Asked("fit", 1, {"kind": "expert", "options": {"model": str(folder), "weights": weights, "content": file_digest(file)}})
    store.keep(name, store.make(asked, build).digest)
    return name


@pytest.fixture
def names(folder: Path, files: list[Path]) -> list[str]:
    return [kept(folder, file, file.stem) for file in files]


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# names and files -----------------------------------------------------------------------------------------------------------------


def test_a_merge_is_kept_and_painted_with_by_name(folder: Path, names: list[str]) -> None:
    made = merge(names, Ties(density=0.5), name="all")
    base = open_pipeline(folder)
    found = learnt("all", base=base)
    assert found.lora is not None and made.learnt.digest == found.digest and made.base == base.digest and made.model == str(folder)
    painted = mi.paint(base, ["a red leaf"], per_prompt=2, learnt=found, steps=2, workers=0)
    alone = mi.paint(base, ["a red leaf"], per_prompt=2, steps=2, workers=0)
    assert painted.digests != alone.digests and painted.provenance is not None and painted.provenance.parents == (found.digest,)
    assert load_merged("all").digest == made.digest and isinstance(made, Merged) and "ties of 3" in repr(made)


def test_the_same_merge_is_found_again_whatever_its_experts_are_called(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = merge(names, DeltaMean(weights=(1, 2, 3)))
    monkeypatch.setattr("mitate.generators.merging.merge", lambda *a, **k: pytest.fail("merged again"))
    assert merge(dict(zip("abc", names, strict=True)), DeltaMean(weights=(1, 2, 3))).digest == made.digest


def test_it_is_kept_where_it_comes_from(folder: Path, names: list[str], files: list[Path], tmp_path: Path) -> None:
    store = Store.find()
    made = merge(names, DareTies(drop=0.3, seed=5), name="all")
    assert made.parents == tuple(store.refs()[name] for name in names)
    assert made.settings == {"method": "dare-ties", "settings": {"rank": 0, "weights": [], "drop": 0.3, "seed": 5}}
    assert store.damage(made.digest) is None and "all" in store.refs()
    told = json.loads(_metadata(made.write(tmp_path / "all.safetensors"))["mitate"])
    assert told == {"model": "tiny", "base": made.base, **made.settings, "parents": list(made.parents)} and str(folder.parent) not in json.dumps(told)


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        return dict(opened.metadata())


def test_files_and_names_merge_as_one(folder: Path, files: list[Path], names: list[str]) -> None:
    by_name = merge(names, DeltaMean()).updates
    by_file = merge(files, DeltaMean(), base=str(folder)).updates
    mixed = merge([names[0], files[1], str(files[2])], DeltaMean(), base=open_pipeline(folder)).updates
    assert by_name.digest == by_file.digest == mixed.digest


def test_merges_of_merges_are_merges(names: list[str]) -> None:
    first = merge(names[:2], DeltaMean(), name="first")
    again = merge({"pair": "first", "last": names[2]}, DeltaMean(weights=(2, 1))).updates
    flat = merge(names, DeltaMean()).updates
    assert all(torch.allclose(again.modules[name].delta, one.delta, atol=1e-6) for name, one in flat.modules.items())
    assert merge([first, names[2]], DeltaMean(weights=(2, 1))).updates.digest == again.digest


def test_a_fit_is_merged_as_it_comes_from_adapt(folder: Path) -> None:
    chance = np.random.default_rng(5)
    x = chance.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    real = mi.from_arrays(x, np.arange(20) % 2, classes=("red", "blue"), name="leaves")
    experts = [mi.adapt(str(folder), real, mi.Lora(steps=1, batch=16, template="a {label} leaf", rate=3.0), seed=seed, name=f"e{seed}") for seed in (0, 1)]
    made = merge({"first": experts[0], "second": experts[1]})
    assert made.parents == tuple(one.digest for one in experts) and made.settings["method"] == "mean"
    assert merge(["e0", "e1"]).digest == made.digest
    style = mi.adapt(str(folder), real, mi.StyleInversion(steps=1, batch=16, start="p", template="a {label}, {style}"), name="style")
    for given in (style, "style"):
        with pytest.raises(SettingError, match="is no LoRA"):
            merge([experts[0], given])


# against diffusers -----------------------------------------------------------------------------------------------------------------


def set_adapters(folder: Path, files: list[Path], weights: list[float]) -> object:
    pipeline = plain(folder)
    for file in files:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=file.stem)
    pipeline.set_adapters([file.stem for file in files], weights)
    return pipeline


@pytest.mark.parametrize(("how", "weights"), [(DeltaMean(), [1 / 3] * 3), (DeltaMean(weights=(5, 3, 2)), [0.5, 0.3, 0.2]), (Summed(), [1.0] * 3)])
def test_means_and_sums_paint_what_set_adapters_paints(how: DeltaMean, weights: list[float], folder: Path, files: list[Path], tmp_path: Path) -> None:
    pipeline = set_adapters(folder, files, weights)
    made = merge(files, how, base=str(folder))
    for name, layer in pipeline.unet.named_modules():  # type: ignore[attr-defined]
        if hasattr(layer, "get_delta_weight"):
            theirs = sum(layer.get_delta_weight(active) for active in layer.active_adapters if active in layer.scaling)
            assert torch.allclose(made.updates.modules[f"unet.{name}"].delta.float().reshape(theirs.shape), theirs, atol=1e-6)
    theirs, ours = images_of(pipeline), images_with(folder, made.write(tmp_path / "merged.safetensors"))
    assert apart(theirs, ours) <= 1 and apart(ours, images_of(plain(folder))) > 5


# fusing ------------------------------------------------------------------------------------------------------------------------------


def test_a_fused_model_paints_what_the_adapter_paints(folder: Path, names: list[str], tmp_path: Path) -> None:
    made = merge(names, Ties(density=0.5), name="all")
    fused = open_pipeline(made.fuse(tmp_path / "fused"))
    base = open_pipeline(folder)
    prompts, seeds, how = ["a red leaf"] * 8, list(range(8)), How(steps=3, guidance=2.0)
    with_adapter = base.paint(prompts, seeds, how, learnt=made.learnt)
    assert apart(fused.paint(prompts, seeds, how), with_adapter) <= 1 < apart(base.paint(prompts, seeds, how), with_adapter)
    told = json.loads((tmp_path / "fused" / "fused.json").read_text())
    assert told == json.loads(json.dumps(made.facts)) and fused.digest != base.digest


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_fusing_again_gives_the_same_bytes_and_leaves_the_base_alone(folder: Path, names: list[str], tmp_path: Path) -> None:
    before = tree(folder)
    made = merge(names, DeltaMean())
    made.fuse(tmp_path / "a")
    made.fuse(tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b") and tree(folder) == before
    changed = {name for name, digest in before.items() if tree(tmp_path / "a")[name] != digest}
    assert changed == {"unet/diffusion_pytorch_model.safetensors"}


def test_an_update_of_scale_zero_fuses_to_the_base_bit_by_bit(folder: Path, files: list[Path], tmp_path: Path) -> None:
    fuse(open_pipeline(folder), Updates.read(files[0]).scaled(0.0), tmp_path / "off")
    was, now = (load_file(place / "unet" / "diffusion_pytorch_model.safetensors") for place in (folder, tmp_path / "off"))
    assert was.keys() == now.keys() and all(torch.equal(was[name], now[name]) for name in was)
    assert np.array_equal(images_of(plain(folder)), images_of(plain(tmp_path / "off")))


def test_parts_of_text_encoders_are_kept_and_fused(tmp_path: Path) -> None:
    """Both encoders of an XL model, under the names of transformers 4 and 5."""
    xl = tiny_xl(tmp_path / "xl")
    tensors, chance = {}, np.random.default_rng(0)
    for module in (TEXT, TEXT.replace("text_encoder", "text_encoder_2"), "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"):
        net = plain(xl).unet if module.startswith("unet") else None
        wide = net.get_submodule(module.removeprefix("unet.")).weight.shape[1] if net is not None else 16
        tensors[f"{module}.lora_A.weight"] = torch.tensor(chance.normal(size=(2, wide)), dtype=torch.float32)
        tensors[f"{module}.lora_B.weight"] = torch.tensor(chance.normal(size=(wide, 2)), dtype=torch.float32)
    save_file(tensors, tmp_path / "one.safetensors")
    made = merge([tmp_path / "one.safetensors"] * 2, base=str(xl))
    assert set(made.updates.modules) == {name.rpartition(".lora_")[0] for name in tensors}
    fused = plain(made.fuse(tmp_path / "fused"))
    with_adapter = images_with(xl, made.write(tmp_path / "merged.safetensors"))
    assert apart(images_of(fused), with_adapter) <= 1 and apart(images_of(plain(xl)), with_adapter) > 5
    for part in ("text_encoder", "text_encoder_2"):
        was, now = getattr(plain(xl), part).state_dict(), getattr(fused, part).state_dict()
        (changed,) = [name for name in was if not torch.equal(was[name], now[name])]
        assert changed.endswith("encoder.layers.0.self_attn.q_proj.weight")
        inner = TEXT.replace("text_encoder", part)
        assert torch.allclose(now[changed] - was[changed], tensors[f"{inner}.lora_B.weight"] @ tensors[f"{inner}.lora_A.weight"], atol=1e-5)


def test_half_precision_and_shards_are_fused_as_they_were(folder: Path, files: list[Path], tmp_path: Path) -> None:
    pipeline = plain(folder)
    pipeline.unet.half()
    shutil.copytree(folder, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "unet")
    pipeline.unet.save_pretrained(tmp_path / "half" / "unet", max_shard_size="60KB")
    config = tmp_path / "half" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_name_or_path": "/somewhere/else"}))
    (tmp_path / "half" / "mitate.json").write_text('{"steps": 3, "guidance": 2}')
    assert len(list((tmp_path / "half" / "unet").glob("*.safetensors"))) > 1
    updates = Updates.read(files[1])
    fuse(open_pipeline(tmp_path / "half"), updates, tmp_path / "fused")
    was, now = (dict(plain(place).unet.half().state_dict()) for place in (tmp_path / "half", tmp_path / "fused"))
    for name in was:
        one = updates.modules.get(f"unet.{name.removesuffix('.weight')}") if name.endswith(".weight") else None
        wanted = (was[name].double() + one.delta.reshape(was[name].shape)).half() if one is not None else was[name]
        assert torch.equal(now[name], wanted), name
    assert "somewhere" not in (tmp_path / "fused" / "unet" / "config.json").read_text() and open_pipeline(tmp_path / "fused").steps == 3
    shards = [load_file(p) for p in (tmp_path / "fused" / "unet").glob("*.safetensors")]
    assert {t.dtype for shard in shards for t in shard.values()} == {torch.float16}


def test_weights_of_other_precisions_that_lie_beside_are_not_taken_along(folder: Path, files: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "base")
    unet = tmp_path / "base" / "unet"
    shutil.copyfile(unet / "diffusion_pytorch_model.safetensors", unet / "diffusion_pytorch_model.fp16.safetensors")
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    fuse(open_pipeline(tmp_path / "base"), Updates.read(files[0]), tmp_path / "fused")
    assert sorted(p.name for p in (tmp_path / "fused" / "unet").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_fuse_that_fails_leaves_nothing_behind(folder: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mitate.generators.fusing.save_file", full)
    with pytest.raises(MitateError, match="No space left"):
        fuse(open_pipeline(folder), Updates.read(files[0]), tmp_path / "out" / "fused")
    assert not list((tmp_path / "out").iterdir())


# what others made --------------------------------------------------------------------------------------------------------------------


def test_files_of_peft_and_diffusers_merge_with_ours_and_load_in_plain_diffusers(folder: Path, files: list[Path], tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = get_peft_model(plain(folder).unet, LoraConfig(r=3, lora_alpha=6, target_modules=list(TARGETS), init_lora_weights=False))
    net.save_pretrained(tmp_path / "peft")
    other = plain(folder)
    config = adapted(other.unet, seed=9, rank=2, alpha=1.0)
    from tiny_experts import factors

    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "diffusers", factors(other.unet), unet_lora_adapter_metadata={"r": 2, "lora_alpha": 1.0, "target_modules": sorted(config.target_modules)}
    )
    experts = [files[0], tmp_path / "peft", tmp_path / "diffusers" / "pytorch_lora_weights.safetensors"]
    made = merge(experts, base=str(folder))
    reference = plain(folder)
    nets = [net, other.unet]
    own = load_file(files[0])
    for name, _ in list(reference.unet.named_modules()):
        if not name.endswith(TARGETS):
            continue
        deltas = [own[f"unet.{name}.lora_B.weight"] @ own[f"unet.{name}.lora_A.weight"]]
        for made_by in nets:
            deltas.append(made_by.get_submodule(f"base_model.model.{name}" if made_by is net else name).get_delta_weight("default"))
        reference.unet.get_submodule(name).weight.data += sum(deltas).detach() / 3  # type: ignore[union-attr]
    assert apart(images_of(reference), images_with(folder, made.write(tmp_path / "merged.safetensors"))) <= 1


# what is refused ----------------------------------------------------------------------------------------------------------------------


def test_experts_of_another_model_are_refused_by_name_and_by_file(folder: Path, files: list[Path], names: list[str], tmp_path: Path) -> None:
    xl = tiny_xl(tmp_path / "xl")
    with pytest.raises(DataError, match="one was learnt on another model"):
        merge(names, base=str(xl))
    with pytest.raises(DataError, match="changes unet.*which xl does not have|in xl it is"):
        merge(files, base=str(xl))
    made = merge(names, name="all")
    with pytest.raises(DataError, match="learnt on another model"):
        learnt("all", base=open_pipeline(xl))
    with pytest.raises(DataError, match="learnt on another model"):
        fuse(open_pipeline(xl), made.updates, tmp_path / "fused")
    other = tmp_path / "other"  # same shapes, other weights: a file that we wrote tells its base
    shutil.copytree(folder, other)
    weights = load_file(other / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, other / "unet" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="learnt on another model"):
        merge([made.write(tmp_path / "all.safetensors")], base=str(other))
    with pytest.raises(DataError, match="e and one were learnt on different models|one and e were learnt on different models"):
        merge([names[0], kept(other, files[0], "e")])


def test_shapes_that_the_model_does_not_have_are_refused(folder: Path, tmp_path: Path) -> None:
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    ones = torch.ones(17, 2), torch.ones(2, 16)
    Updates({module: Update(*ones, (17, 16))}).write(tmp_path / "wide.safetensors")
    with pytest.raises(DataError, match=r"as \[17, 16\]; in tiny it is \[16, 16\]"):
        merge([tmp_path / "wide.safetensors"], base=str(folder))
    Updates({"transformer.x": Update(*ones, (17, 16))}).write(tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="tiny has no transformer"):
        merge([tmp_path / "other.safetensors"], base=str(folder))


@pytest.mark.parametrize(
    ("experts", "told"),
    [
        ([], "nothing to merge"),
        (["nobody"], "no kept expert 'nobody'"),
        (["../x"], "Nothing tells which model"),
        ("one", "by itself"),
        (["one.safetensors"], "name it: --base MODEL"),
        (["weights.ckpt"], "Nothing tells which model"),
    ],
)
def test_what_cannot_be_merged_is_told(experts: list[str], told: str) -> None:
    with pytest.raises(MitateError, match=told):
        merge(experts)


def test_names_and_folders_that_are_taken_are_refused(folder: Path, names: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="lab is taken"):
        merge(names, name="lab")
    with pytest.raises(DataError, match="cannot be a kept name"):
        merge(names, name="a/b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    for place in (tmp_path / "full", tmp_path / "full" / "x"):
        with pytest.raises(SettingError, match="is there already"):
            merge(names).fuse(place)
    with pytest.raises(SettingError, match="is no merge"):
        load_merged(names[0])
    with pytest.raises(SettingError, match="no kept expert 'nobody'"):
        load_merged("nobody")
    with pytest.raises(SettingError, match="2 weights"):
        merge(names, DeltaMean(weights=(1, 1)))
    with pytest.raises(DataError, match="experts of one rank"):
        merge(names, FactorMean())


@pytest.mark.parametrize("wrong", ["nan", "shape", "pickle"])
def test_hostile_files_are_refused_and_nothing_is_kept(wrong: str, folder: Path, files: list[Path], tmp_path: Path) -> None:
    tensors = load_file(files[0])
    name = next(iter(tensors))
    file = tmp_path / ("bad.pt" if wrong == "pickle" else "bad.safetensors")
    if wrong == "pickle":
        torch.save(tensors, file)
    else:
        tensors[name] = tensors[name] * float("nan") if wrong == "nan" else tensors[name][:, :-1].contiguous()
        save_file(tensors, file)
    with pytest.raises(DataError, match="fix:"):
        merge([files[0], file], base=str(folder), name="bad")
    assert "bad" not in Store.find().refs()


# on the command line -------------------------------------------------------------------------------------------------------------------


def run(*words: object) -> str:
    from click.testing import CliRunner

    found = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return found.output


def test_the_command_merges_writes_and_fuses(folder: Path, names: list[str], files: list[Path], tmp_path: Path) -> None:
    told = run("ties", *names, "-o", "density=0.5", "--as", "three-of-them")
    assert "one 0.333, two 0.333, three 0.333" in told and "modules, rank 9 holds" in told and "cancelled in their sum (42.3 % by chance" in told
    assert learnt("three-of-them", base=open_pipeline(folder))
    told = run("mean", *files, "--base", folder, "-o", "weights=5,3,2", "--out", tmp_path / "m.safetensors", "--fused", tmp_path / "fused")
    assert "one 0.5, two 0.3, three 0.2" in told and "holds 100 % of it" in told
    assert apart(images_of(plain(tmp_path / "fused")), images_with(folder, tmp_path / "m.safetensors")) <= 1


def test_the_command_reports_interference_and_stops(names: list[str], folder: Path, files: list[Path]) -> None:
    told = run("ties", *names, "--report")
    assert "one and two" in told and "where most is cancelled" in told and told == run(*names, "--report")
    assert not list(Store.find().refs().keys() - set(names))
    assert "one and two" in run(*files, "--base", folder, "--report")
    assert interference(names).whole.cancelled is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tiess", "one", "--as", "x"), "did you mean 'ties'"),
        (("mean", "one"), "kept nowhere"),
        (("mean", "--as", "x"), "nothing to merge"),
        (("mean", "one", "--as", "x", "-o", "weight=1"), "did you mean 'weights'"),
        (("mean", "one", "--as", "../x"), "cannot be a kept name"),
        (("mean", "one", "--out", "x.bin"), "no safetensors file"),
        (("mean", "ones", "--as", "x"), "did you mean 'one'"),
    ],
)
def test_wrong_words_are_one_line_with_a_fix(words: tuple[str, ...], told: str, names: list[str]) -> None:
    with pytest.raises(MitateError, match=told) as wrong:
        run(*words)
    assert wrong.value.fix and "\n" not in str(wrong.value)


# the lab ----------------------------------------------------------------------------------------------------------------------------------


def test_experts_of_the_lab_merge_into_lab_plus_name(tmp_path: Path) -> None:
    modules = {}
    for name, shape in _attention(LAB).items():
        chance = np.random.default_rng(len(modules))
        up, down = (torch.tensor(0.05 * chance.normal(size=size), dtype=torch.float32) for size in ((shape[0], 4), (4, shape[1])))
        modules[name] = Update(up, down, shape)
    Updates(modules).write(tmp_path / "a.safetensors")
    Updates(modules).scaled(0.5).write(tmp_path / "b.safetensors")
    made = merge([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], Ties(density=0.5), base="lab", name="both")
    lab = open_pipeline("lab")
    painted = lab.paint(["two red circles"], [3], How(steps=2), learnt=learnt("both", base=lab), batch=1)
    fused = open_pipeline(made.fuse(tmp_path / "fused"))
    assert (fused.steps, fused.guidance, fused.template) == (lab.steps, lab.guidance, lab.template)
    assert apart(fused.paint(["two red circles"], [3], How(steps=2), batch=1), painted) <= 1
    assert made.model == "lab" and not np.array_equal(lab.paint(["two red circles"], [3], How(steps=2), batch=1), painted)


def _attention(folder: Path) -> dict[str, tuple[int, ...]]:
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    names = [name.removesuffix(".weight") for name in weights if name.endswith(("to_q.weight", "to_v.weight"))]
    return {f"unet.{name}": tuple(weights[f"{name}.weight"].shape) for name in names}


def test_fusing_refuses_a_folder_without_weights(folder: Path, files: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "empty")
    (tmp_path / "empty" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(DataError, match="no unet in safetensors"):
        fuse_folder(Updates.read(files[0]), tmp_path / "empty", tmp_path / "out")
