"""Experts of a skill: LoRAs learnt from images and a sentence for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import mitate as mi
from mitate.adapted import captioned_parts
from mitate.cli_pictures import adapt as adapting
from mitate.codec import encode_png
from mitate.errors import DataError, SettingError
from mitate.fitted import fit_question
from mitate.generators import lora
from mitate.generators.expert import Expert, expert_on
from mitate.generators.learnt import Learnt
from mitate.generators.pipelines import How, lend, open_pipeline
from mitate.images import from_arrays
from mitate.merged import merge
from mitate.runtime import torch_threads
from mitate.settings import plain as plain_record
from mitate.store import Store
from mitate.verbs import perform
from tiny import tiny_pipeline, tiny_xl
from tiny_experts import images_of, images_with, plain

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


def captioned(n: int = 12, *, sentences: int = 6) -> mi.ImageSet:
    chance = np.random.default_rng(0)
    x = chance.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    images = from_arrays(x, np.zeros(n, np.int64), classes=("all",), name="captioned")
    return replace(images, labels=(-1,) * n, captions=tuple(f"picture {i % sentences}" for i in range(n)))


def test_a_caption_is_learnt_from_or_chooses_and_never_both() -> None:
    parts = captioned_parts(captioned(40, sentences=20), seed=0)
    texts = {role: {part.classes[k] for k in part.labels} for role, part in parts.items()}
    assert not texts["train"] & texts["selection"] and len(texts["selection"]) == 4
    assert len(parts["train"]) + len(parts["selection"]) == 40


def test_an_expert_by_captions_is_kept_found_and_painted_with(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    how = mi.Lora(steps=4, batch=4, rank=2, rate=1.0)
    found = mi.adapt(str(folder), captioned(), how, name="counting", store=store)
    assert found.kind == "expert" and found.entry.result["parameters"] > 0
    assert mi.adapt(str(folder), captioned(), how, name="counting", store=store).digest == found.digest
    pipeline = open_pipeline(folder)
    learnt = mi.learnt("counting", base=pipeline, store=store)
    plain, changed = (mi.paint(pipeline, ["picture 1"], per_prompt=2, steps=2, learnt=some, store=store, workers=0) for some in (None, learnt))
    assert plain.digests != changed.digests
    drawn = mi.generate(found, per_class=1, store=store)
    assert drawn.classes == found.classes and len(drawn) == len(found.classes)


def test_the_same_captions_and_seed_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    how = mi.Lora(steps=3, batch=4, rank=2)
    found = [mi.adapt(str(folder), captioned(), how, seed=s, store=Store(tmp_path / n)) for n, s in (("a", 1), ("b", 1), ("c", 2))]
    files = [one.entry.path("pytorch_lora_weights.safetensors").read_bytes() for one in found]
    assert files[0] == files[1] != files[2]


def test_the_gradient_is_truly_clipped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters: object, norm: float) -> object:
        given = list(parameters)  # type: ignore[call-overload]
        assert given, "nothing is clipped"
        out = clip(given, norm)
        seen.append(float(sum(p.grad.square().sum() for p in given if p.grad is not None) ** 0.5))
        return out

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    mi.adapt(str(folder), captioned(), mi.Lora(steps=3, batch=4, rank=2, clip=1e-3), store=Store(tmp_path))
    assert len(seen) == 3 and max(seen) <= 1e-3 * 1.001


def test_sentences_are_read_once_however_many_steps(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = lora.Denoising.read
    monkeypatch.setattr(lora.Denoising, "read", lambda self, texts: asked.append(len(texts)) or read(self, texts))
    mi.adapt(str(folder), captioned(), mi.Lora(steps=6, batch=4, rank=2), store=Store(tmp_path))
    assert sum(asked) == 6 + 1  # and the empty one


def test_images_without_captions_or_a_wrong_model_are_refused(folder: Path, tmp_path: Path) -> None:
    images = captioned()
    with pytest.raises(DataError, match="have no caption"):
        mi.adapt(str(folder), replace(images, captions=(None, *images.captions[1:])), mi.Lora(steps=2), store=Store(tmp_path))  # type: ignore[index, arg-type]
    with pytest.raises(SettingError, match="tokens"):
        mi.adapt(str(folder), replace(images, captions=("word " * 500,) * len(images)), mi.Lora(steps=2), store=Store(tmp_path))
    with pytest.raises(SettingError, match="out of range"):
        Expert(rank=0)


# text encoders that learn too ----------------------------------------------------------------------------------------------

BOTH = mi.Lora(steps=4, batch=4, rank=2, rate=3.0, text_encoder=True)
FILE = "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_text_encoders_learn_too_and_plain_diffusers_paints_the_same(make: Callable[[Path], Path], tmp_path: Path) -> None:
    model = make(tmp_path / "model")
    found = mi.adapt(str(model), captioned(sentences=4), BOTH, seed=1, store=Store(tmp_path / "store"))  # too few to choose a step by
    tensors = load_file(found.entry.path(FILE))
    changed = {name.partition(".lora_")[0] for name, value in tensors.items() if ".lora_B." in name and value.abs().max() > 0}
    parts = {name.partition(".")[0] for name in changed}
    assert parts == {"unet", "text_encoder"} | ({"text_encoder_2"} if make is tiny_xl else set())
    assert all(name.split(".")[1] == "text_model" for name in tensors if name.startswith("text_encoder"))
    pipeline, prompts, seeds = open_pipeline(model), ["picture 1", "picture 2"], [5, 6]
    ours = pipeline.paint(prompts, seeds, How(steps=3, guidance=2.0), learnt=Learnt(lora=found.entry.path(FILE)), batch=2)
    theirs = plain(model)
    theirs.load_lora_weights(str(found.entry.folder), weight_name=FILE)
    chances = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch_threads():
        made = theirs(prompt=prompts, generator=chances, num_inference_steps=3, guidance_scale=2.0, output_type="np")
    assert np.array_equal(ours, np.rint(made.images * 255).astype(np.uint8))

    alone = {name: value for name, value in tensors.items() if name.startswith("unet.")}
    save_file(alone, tmp_path / "unet.safetensors")
    without = pipeline.paint(prompts, seeds, How(steps=3, guidance=2.0), learnt=Learnt(lora=tmp_path / "unet.safetensors"), batch=2)
    assert not np.array_equal(ours, without), "what the text encoders learnt is painted with"


def test_the_model_is_as_it_was_after_its_text_encoder_has_learnt(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(folder)
    before = pipeline.paint(["picture 1"], [1], How(steps=2))
    names = [name for name, _ in pipeline.loaded.text_encoder.named_modules()]
    lend(str(folder.resolve()), pipeline)
    mi.adapt(str(folder), captioned(), BOTH, store=Store(tmp_path))
    assert np.array_equal(pipeline.paint(["picture 1"], [1], How(steps=2)), before)
    assert [name for name, _ in pipeline.loaded.text_encoder.named_modules()] == names


def test_sentences_are_read_anew_where_the_text_encoder_learns(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    read = lora.Denoising.read

    def spy(self: lora.Denoising, texts: Sequence[str]) -> Sequence[torch.Tensor]:
        asked.append(tuple(texts))
        found = read(self, texts)
        assert not torch.is_grad_enabled() or found[0].requires_grad, "the loss must reach the text encoder"
        return found

    monkeypatch.setattr(lora.Denoising, "read", spy)
    mi.adapt(str(folder), captioned(), BOTH, store=Store(tmp_path))
    assert len(asked) > BOTH.steps


def test_experts_with_text_encoders_merge_and_go_on_from_each_other(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one, two = (mi.adapt(str(folder), captioned(), BOTH, seed=s, name=f"e{s}", store=store) for s in (1, 2))
    made = merge({"one": one, "two": two}, store=store)
    assert {name.partition(".")[0] for name in made.updates.modules} == {"unet", "text_encoder"}
    painted = images_with(folder, made.write(tmp_path / "merged.safetensors"))
    fused = images_of(plain(made.fuse(tmp_path / "fused")))
    assert np.abs(painted.astype(int) - fused).max() <= 1 and np.abs(painted.astype(int) - images_of(plain(folder))).max() > 5
    other = tiny_xl(tmp_path / "xl")
    with pytest.raises(DataError, match="another model"):
        merge({"one": one, "two": two}, base=str(other), store=store)

    kind = replace(expert_of(folder), base=one.digest, sentences=one.classes)
    digests = {role: json.loads(one.entry.path("asked.json").read_text())["inputs"][role] for role in ("train", "selection")}
    further = perform(store, fit_question(kind, digests, seed=3))
    assert set(load_file(further.path(FILE))) == set(load_file(one.entry.path(FILE)))
    with pytest.raises(DataError, match="changes other parts"):
        perform(store, fit_question(replace(kind, text_encoder=False), digests, seed=3))


def expert_of(folder: Path) -> Expert:
    return expert_on(str(folder), steps=2, batch=4, rank=2, text_encoder=True)


def test_older_experts_keep_their_names() -> None:
    assert "text_encoder" not in plain_record(Expert()) and plain_record(Expert(text_encoder=True))["text_encoder"] is True


def test_text_encoders_need_captions_and_an_encoder_that_takes_a_lora(folder: Path, tmp_path: Path) -> None:
    images = replace(captioned(), captions=None, labels=(0,) * 12)
    with pytest.raises(SettingError, match="captions alone"):
        mi.adapt(str(folder), images, mi.Lora(steps=2, text_encoder=True), store=Store(tmp_path))
    pipeline = open_pipeline(folder).loaded
    pipeline.text_encoder = torch.nn.Linear(2, 2)
    with pytest.raises(SettingError, match="A Linear takes no LoRA"):
        lora._encoders(pipeline)


def test_the_command_takes_settings_of_the_text_encoder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    rows = []
    for i, text in enumerate(captioned().captions or ()):
        (tmp_path / "kept" / f"{i}.png").write_bytes(encode_png(captioned().reader.read(i)))
        rows.append(json.dumps({"file_name": f"{i}.png", "text": text}) + "\n")
    (tmp_path / "kept" / "metadata.jsonl").write_text("".join(rows))
    words = ["lora", "--base", str(folder), "--images", str(tmp_path / "kept"), "--as", "both", "--steps", "2", "--batch", "4"]
    CliRunner().invoke(adapting, [*words, "-o", "text_encoder=true", "-o", "clip=0.5"], catch_exceptions=False, standalone_mode=False)
    entry = Store.find().kept("both")
    assert entry is not None
    told = json.loads(entry.path("asked.json").read_text())["settings"]["options"]
    assert told["text_encoder"] is True and told["clip"] == 0.5 and told["steps"] == 2 and told["dropout"] == 0.1
    with pytest.raises(SettingError, match="did you mean 'text_encoder'"):
        CliRunner().invoke(adapting, [*words, "-o", "text_encodr=true"], catch_exceptions=False, standalone_mode=False)
