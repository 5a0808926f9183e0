"""Styles learnt on text-to-image pipelines, and pipelines as generators of classes; on tiny ones with random weights, built here."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate.adapted import export, learnt
from mitate.errors import DataError, JobError, SettingError
from mitate.fitted import Fitted
from mitate.generator import Pixels
from mitate.generators import inversion
from mitate.generators.learnt import Learnt
from mitate.generators.pipelines import SAMPLERS, TRIES, How, Pipeline, open_pipeline
from mitate.generators.places import Place, is_hub_name
from mitate.generators.text_to_image import STYLES, TextToImage, named
from mitate.generators.tokens import Words
from mitate.progress import Silent
from tiny import tiny_pipeline, tiny_xl

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways
CLASSES = ("red-leaf", "blue leaf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_xl(tmp_path_factory.mktemp("pipeline") / "xl")


@pytest.fixture(params=["folder", "xl"])
def any_model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def pixels(n: int, *, seed: int = 0) -> Pixels:
    chance = np.random.default_rng(seed)
    return Pixels(chance.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8), np.arange(n) % 2, 2)


def kind(model: Path, style: str, **settings: object) -> TextToImage:
    template = "a {label}" + (", {style}" if style not in ("none", "lora") else "")
    return TextToImage.of(str(model), CLASSES, **{"style": style, "template": template, "start": "p", "sample_steps": 2, "batch": 4, **settings})  # type: ignore[arg-type]


def fitted(made: TextToImage, place: Path, progress: object = None) -> dict[str, object]:
    return made.fit(pixels(12), pixels(6, seed=1), seed=3, folder=place, checkpoint=place / "checkpoint", progress=progress or Silent())  # type: ignore[arg-type]


def weights_of(pipeline: Pipeline) -> dict[str, float]:
    parts = {"unet": pipeline.loaded.unet, "text": pipeline.loaded.text_encoder, "vae": pipeline.loaded.vae}
    return {f"{part}.{name}": float(v.double().sum()) for part, net in parts.items() for name, v in net.state_dict().items()}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_learnt_and_drawn_and_leaves_the_model_as_it_was(folder: Path, tmp_path: Path, style: str) -> None:
    made = kind(folder, style, steps=4)
    before = weights_of(made.opened)
    facts = fitted(made, tmp_path / "fit")
    x = made.load(tmp_path / "fit").sample(np.arange(5), np.array([0, 1, 0, 1, 0]))
    assert x.dtype == np.uint8 and x.shape == (5, 16, 16, 3) and len({i.tobytes() for i in x}) == 5
    assert facts["steps"] == (4 if style in ("learnt", "each-class", "lora") else 1)
    assert weights_of(made.opened) == before
    again = made.load(tmp_path / "fit").sample(np.array([4]), np.array([0]))
    assert np.array_equal(again[0], x[4])


@pytest.mark.parametrize("style", ["learnt", "lora"])
def test_a_killed_fit_comes_to_the_same_bytes(any_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    monkeypatch.setattr("mitate.fitting.CHECKPOINT_SECONDS", 0.0)
    made = kind(any_model, style, steps=6)

    class Kill:
        def step(self, done: int, total: int, note: str = "") -> None:
            if done == 3:
                raise KeyboardInterrupt

    fitted(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted(made, tmp_path / "killed", Kill())
    fitted(made, tmp_path / "killed")
    name = "pytorch_lora_weights.safetensors" if style == "lora" else "words.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_gradient_reaches_the_vectors_and_is_right(any_model: Path) -> None:
    import torch

    pipeline = open_pipeline(any_model).loaded
    loss = inversion.Denoising(pipeline, size=16)
    chance = torch.Generator().manual_seed(0)
    z, noise = torch.randn(3, 4, 8, 8, generator=chance), torch.randn(3, 4, 8, 8, generator=chance)
    t = torch.tensor([100, 500, 900])
    with torch.random.fork_rng():
        module = inversion._Vectors(pipeline, ["<new>"], start="p", k=2)

    def value() -> torch.Tensor:
        from mitate.generators.tokens import said, spoken

        with spoken(pipeline, module.given) as written:
            return loss.errors(z, [said("a leaf, <new>", written)] * 3, t, noise).mean()

    value().backward()
    vector = module.vectors[-1]
    assert vector.grad is not None
    direction = vector.grad / vector.grad.norm()
    with torch.no_grad():
        step = 1e-2 * float(vector.norm())
        vector += step * direction
        up = float(value())
        vector -= 2 * step * direction
        down = float(value())
    assert (up - down) / (2 * step) == pytest.approx(float(vector.grad.norm()), rel=0.05)


def test_learning_lowers_the_loss_on_images_that_were_not_learnt_from(folder: Path, tmp_path: Path) -> None:
    curve = fitted(kind(folder, "learnt", steps=60, rate=3.0), tmp_path)["curve"]
    untrained = fitted(kind(folder, "learnt", steps=1, rate=1e-6), tmp_path / "none")["curve"]
    assert min(loss for _, loss in curve) < untrained[0][1]  # type: ignore[attr-defined,index]


# files ----------------------------------------------------------------------------------------------------------------


def plain_images(pipeline: object, prompt: str) -> np.ndarray:
    """What the diffusers pipeline paints by itself, in our batch and with our seeds."""
    import torch

    from mitate.generators.pipelines import BATCH
    from mitate.runtime import torch_threads

    pipeline.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]
    chances = [torch.Generator().manual_seed(i) for i in range(BATCH)]
    with torch_threads():
        made = pipeline(prompt=[prompt] * BATCH, generator=chances, num_inference_steps=2, guidance_scale=2.0, output_type="np")  # type: ignore[operator]
    return np.rint(made.images * 255).astype(np.uint8)


@pytest.mark.parametrize("vectors", [1, 2])
def test_our_style_file_gives_the_same_images_in_plain_diffusers(folder: Path, tmp_path: Path, vectors: int) -> None:
    from diffusers import DiffusionPipeline

    words = Words({"<leaves>": (np.random.default_rng(0).normal(size=(vectors, 16)).astype(np.float32),)})
    words.write(tmp_path / "leaves.safetensors")
    plain = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    plain.load_textual_inversion(str(tmp_path / "leaves.safetensors"), token="<leaves>" if vectors == 1 else None)
    ours = open_pipeline(folder)
    prompt, seeds = "a leaf, <leaves>", list(range(16))
    found = ours.paint([prompt] * 16, seeds, How(steps=2, guidance=2.0), learnt=Learnt(Words.read(tmp_path / "leaves.safetensors")))
    assert np.array_equal(found, plain_images(plain, prompt))
    assert not np.array_equal(found, ours.paint(["a leaf, x"] * 16, seeds, How(steps=2, guidance=2.0)))


def test_our_style_file_of_two_encoders_gives_the_same_images_in_plain_diffusers(xl: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline
    from safetensors.torch import load_file

    chance = np.random.default_rng(0)
    words = Words({"<leaves>": tuple(chance.normal(size=(1, 16)).astype(np.float32) for _ in range(2))})
    words.write(tmp_path / "leaves.safetensors")
    plain = DiffusionPipeline.from_pretrained(xl, local_files_only=True)
    state = load_file(tmp_path / "leaves.safetensors")
    plain.load_textual_inversion(state["clip_l"], token="<leaves>", text_encoder=plain.text_encoder, tokenizer=plain.tokenizer)
    plain.load_textual_inversion(state["clip_g"], token="<leaves>", text_encoder=plain.text_encoder_2, tokenizer=plain.tokenizer_2)
    found = open_pipeline(xl).paint(["a leaf, <leaves>"] * 16, list(range(16)), How(steps=2, guidance=2.0), learnt=Learnt(words))
    assert np.array_equal(found, plain_images(plain, "a leaf, <leaves>"))


def test_our_lora_gives_the_same_images_in_plain_diffusers(folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    made = kind(folder, "lora", steps=8, rate=10.0)
    fitted(made, tmp_path / "fit")
    plain = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    bare = plain_images(plain, "a red leaf")
    plain.load_lora_weights(str(tmp_path / "fit"), weight_name="pytorch_lora_weights.safetensors")
    theirs = plain_images(plain, "a red leaf")
    ours = open_pipeline(folder).paint(["a red leaf"] * 16, list(range(16)), How(steps=2, guidance=2.0), learnt=Learnt.of_fit(tmp_path / "fit"))
    assert np.array_equal(ours, theirs) and not np.array_equal(bare, theirs)


@pytest.mark.parametrize("layout", ["diffusers", "emb_params", "flat"])
def test_files_of_other_programs_load_here(folder: Path, tmp_path: Path, layout: str) -> None:
    from safetensors.numpy import save_file

    vector = np.random.default_rng(1).normal(size=(1, 16)).astype(np.float32)
    name = {"diffusers": "<cat-toy>", "emb_params": "emb_params", "flat": "<cat-toy>"}[layout]
    save_file({name: vector[0] if layout == "flat" else vector}, tmp_path / "file.safetensors")
    found = Learnt.of_file(tmp_path / "file.safetensors", word="<style>")
    assert found.words is not None and np.array_equal(found.words.vectors["<style>"][0], vector)
    assert Words.read(tmp_path / "file.safetensors").vectors.keys() == {"<file>" if layout == "emb_params" else "<cat-toy>"}
    open_pipeline(folder).paint(["a leaf, <style>"], [0], How(steps=1), learnt=found)


@pytest.mark.parametrize("content", [b"", b"garbage" * 10, b"\x08\0\0\0\0\0\0\0{}      "])
def test_files_that_are_no_style_are_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="fix:"):
        Learnt.of_file(tmp_path / "x.safetensors", word="<style>")


def test_words_of_another_model_are_refused(folder: Path, xl: Path) -> None:
    wide = Learnt(Words({"<w>": (np.zeros((1, 8), np.float32),)}))
    with pytest.raises(SettingError, match="vectors of width 8"):
        open_pipeline(folder).paint(["<w>"], [0], How(steps=1), learnt=wide)
    with pytest.raises(SettingError, match="2 text encoders"):
        open_pipeline(xl).paint(["<w>"], [0], How(steps=1), learnt=Learnt(Words({"<w>": (np.zeros((1, 16), np.float32),)})))
    with pytest.raises(SettingError, match="knows the word"):
        open_pipeline(folder).paint(["a"], [0], How(steps=1), learnt=Learnt(Words({"a": (np.zeros((1, 16), np.float32),)})))


# what a pipeline is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_paints(folder: Path, sampler: str) -> None:
    pipeline = open_pipeline(folder)
    own = pipeline.paint(["a leaf"], [0], How(steps=3))
    other = pipeline.paint(["a leaf"], [0], How(steps=3, sampler=sampler))
    assert other.shape == own.shape and type(pipeline.loaded.scheduler).__name__ == "DDIMScheduler"


def test_size_precision_and_saving_are_dials(folder: Path) -> None:
    pipeline = open_pipeline(folder, Place(precision="bfloat16", saving="slices"))
    assert pipeline.paint(["a leaf"], [0], How(steps=1, size=32)).shape == (1, 32, 32, 3)
    assert pipeline.batch_for(1024) == 1 and pipeline.batch_for(512) == 1 and pipeline.batch_for(256) == 4 and pipeline.batch_for(32) == 16


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: How(sampler="ddin"), "did you mean 'ddim'"),
        (lambda: How(size=-1), "size of -1"),
        (lambda: Place(precision="float8"), "precision"),
        (lambda: Place(saving="all"), "save memory"),
        (lambda: Place(device="cuda:77"), "no device"),
        (lambda: Place(device="gpu"), "no device"),
    ],
)
def test_wrong_dials_are_told(wrong: object, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        wrong()  # type: ignore[operator]


def test_another_batch_moves_hardly_a_value(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    prompts, seeds = ["a leaf", "a red leaf"] * 8, list(range(16))
    whole = pipeline.paint(prompts, seeds, How(steps=3)).astype(int)
    for batch in (1, 3, 8):
        apart = np.abs(pipeline.paint(prompts, seeds, How(steps=3), batch=batch).astype(int) - whole)
        assert apart.max() <= 1 and (apart > 0).mean() <= 0.001


def test_a_prompt_is_read_once_however_many_images_it_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, asked = open_pipeline(folder), []
    inner = type(pipeline.loaded).encode_prompt
    monkeypatch.setattr(type(pipeline.loaded), "encode_prompt", lambda self, *a, **k: asked.append(k.get("prompt")) or inner(self, *a, **k))
    pipeline.paint(["a leaf", "a red leaf"] * 20, list(range(40)), How(steps=1))
    assert [prompts for prompts in asked if prompts is not None] == [["a leaf", "a red leaf", *[""] * 14]]


def test_what_a_filter_refuses_is_painted_again_and_counts_stay(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    plain = pipeline.paint(["a leaf"] * 20, list(range(20)), How(steps=1))
    bad = {plain[3].tobytes(), plain[17].tobytes()}
    made = pipeline.paint(["a leaf"] * 20, list(range(20)), How(steps=1), judge=lambda x: np.array([i.tobytes() not in bad for i in x]))
    assert len(made) == 20 and not {i.tobytes() for i in made} & bad
    assert all(np.array_equal(made[i], plain[i]) for i in range(20) if i not in (3, 17))


def test_a_filter_that_refuses_everything_ends_in_an_error_that_names_the_prompt(folder: Path) -> None:
    seen: list[int] = []
    with pytest.raises(JobError, match=r"2 of 2 images were refused .* 'a leaf'"):
        open_pipeline(folder).paint(["a leaf"] * 2, [0, 1], How(steps=1), judge=lambda x: seen.append(len(x)) or np.zeros(len(x), bool))  # type: ignore[func-returns-value]
    assert seen == [2] * TRIES
    with pytest.raises(SettingError, match="content filter gave"):
        open_pipeline(folder).paint(["a leaf"], [0], How(steps=1), judge=lambda x: x.mean(axis=(1, 2, 3)))


def test_what_the_models_own_checker_blackens_is_never_handed_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = open_pipeline(folder)
    inner, calls = type(pipeline.loaded).__call__, []

    def checked(self: object, *args: object, **given: object) -> object:
        made = inner(self, *args, **given)
        calls.append(1)
        made.nsfw_content_detected = [len(calls) == 1] * len(made.images)
        return made

    monkeypatch.setattr(type(pipeline.loaded), "__call__", checked)
    assert len(pipeline.paint(["a leaf"] * 3, [0, 1, 2], How(steps=1))) == 3 and len(calls) == 2


@pytest.mark.parametrize(
    ("prompt", "word", "held"), [("a Weapon here", "weapon", True), ("weaponry", "weapon", False), ("ＷＥＡＰＯＮ", "weapon", True), ("赤い 銃", "銃", True)]
)
def test_blocked_words_are_found_as_words(folder: Path, prompt: str, word: str, held: bool) -> None:
    from mitate.painted import check_words

    if held:
        with pytest.raises(SettingError, match="blocked word"):
            check_words([prompt], [word])
    else:
        check_words([prompt], [word])


def test_painting_goes_on_after_a_kill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, asked = open_pipeline(folder), []
    inner = Pipeline.painted

    def counted(self: Pipeline, prompts: list[str], *args: object, **given: object) -> object:
        if len(asked) == 1 and killing:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return inner(self, prompts, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "painted", counted)
    killing = True
    with pytest.raises(KeyboardInterrupt):
        mi.paint(pipeline, ["a leaf"], per_prompt=100, steps=1, workers=0)
    killing = False
    images = mi.paint(pipeline, ["a leaf"], per_prompt=100, steps=1, workers=0)
    assert len(images) == 100 and asked == [64, 36]
    assert mi.paint(pipeline, ["a leaf"], per_prompt=100, steps=1, workers=0).digests == images.digests and asked == [64, 36]


# styles by name ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> mi.ImageSet:
    chance = np.random.default_rng(5)
    x = chance.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    return mi.from_arrays(x, np.arange(30) % 2, classes=CLASSES, name="leaves")


def test_a_kept_style_paints_its_own_classes_and_others(folder: Path, real: mi.ImageSet, tmp_path: Path) -> None:
    how = mi.StyleInversion(steps=4, batch=4, start="p", template="a {label}, {style}")
    style = mi.adapt(str(folder), real, how, seed=0, name="leaves-style")
    assert isinstance(style, Fitted) and style.shape == (16, 16, 3)
    own = mi.generate(style, per_class=2)
    assert own.classes == CLASSES and own.labels == (0, 0, 1, 1)
    base = open_pipeline(folder)
    found = learnt("leaves-style", base=base)
    other = mi.paint_classes(base, ["cat", "dog"], per_class=2, learnt=found, template="a {label}, {style}", steps=1)
    assert other.classes == ("cat", "dog") and other.captions == ("a cat, <style>",) * 2 + ("a dog, <style>",) * 2
    file = export(style, tmp_path / "leaves.safetensors")
    assert Words.read(file).vectors.keys() == {"<leaves>"}
    assert np.array_equal(Learnt.of_file(file, word="<style>").words.vectors["<style>"][0], found.words.vectors["<style>"][0])  # type: ignore[union-attr]


def test_a_style_is_refused_on_another_model(folder: Path, xl: Path, real: mi.ImageSet) -> None:
    mi.adapt(str(folder), real, mi.StyleInversion(steps=1, batch=2, start="p", template="a {label}, {style}"), name="mine")
    with pytest.raises(DataError, match="learnt on another model"):
        learnt("mine", base=open_pipeline(xl))
    with pytest.raises(SettingError, match="no kept style"):
        learnt("others", base=open_pipeline(folder))


def test_a_model_that_changed_since_a_plan_is_an_error(folder: Path, tmp_path: Path) -> None:
    made = kind(folder, "none")
    from dataclasses import replace

    with pytest.raises(DataError, match="another one than when this was planned"):
        _ = replace(made, weights="0" * 64).opened


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lab", ("lab", "none", 0.0)),
        ("lab@2.5+style", ("lab", "learnt", 2.5)),
        ("lab+untrained", ("lab", "untrained", 0.0)),
        ("FOLDER+lora", ("FOLDER", "lora", 0.0)),
        ("owner/model@1+each-class", ("owner/model", "each-class", 1.0)),
        ("vae", None),
        ("lab@0.5", None),
        ("folder:x", None),
    ],
)
def test_names_of_text_to_image_generators(folder: Path, name: str, found: tuple[str, str, float] | None) -> None:
    assert named(name.replace("FOLDER", str(folder))) == (found and (found[0].replace("FOLDER", str(folder)), *found[1:]))


def test_names_of_the_hub_are_told_from_paths(tmp_path: Path) -> None:
    assert is_hub_name("stabilityai/sd-turbo") and not is_hub_name("lab") and not is_hub_name("./x") and not is_hub_name("a/b/c") and not is_hub_name("x/")


def test_a_pipeline_of_the_hub_is_opened_from_its_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import huggingface_hub.constants as hub

    commit = "0" * 40
    place = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert open_pipeline("owner/tiny").digest == open_pipeline(folder).digest
    with pytest.raises(DataError, match="the hub gives no pipeline"):
        open_pipeline("owner/other")


# the command line -------------------------------------------------------------------------------------------------------


def test_the_command_line_learns_and_paints_a_style(folder: Path, real: mi.ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner
    from PIL import Image

    from mitate.cli import app

    for i in range(len(real)):
        place = tmp_path / "leaves" / real.classes[real.labels[i]] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(real.reader.read(i)).save(place)
    words = ["adapt", "style", "--base", str(folder), "--images", str(tmp_path / "leaves"), "--as", "look", "--steps", "3", "--batch", "2", "--start", "p"]
    ran = CliRunner().invoke(app, [*words, "--template", "a {label}, {style}", "--file", str(tmp_path / "look.safetensors")], catch_exceptions=False)
    assert ran.exit_code == 0 and "16 numbers learnt" in ran.output and (tmp_path / "look.safetensors").exists(), ran.output
    for style in ("look", str(tmp_path / "look.safetensors")):
        out = tmp_path / f"out-{len(style)}"
        words = ["generate", f"{folder}+{style}", "--classes", str(tmp_path / "leaves"), "--template", "a {label}, {style}", "--per-class", "2", "--steps", "1"]
        ran = CliRunner().invoke(app, [*words, "--out", str(out)], catch_exceptions=False)
        assert ran.exit_code == 0 and "4 images, 2 classes" in ran.output, ran.output
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
        assert {row["label"] for row in rows} == set(CLASSES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", "MODEL", "--classes", "a,b", "--out", "OUT"], "paints prompts, or classes"),
        (["generate", "MODEL", "--prompt", "x", "--template", "a {label}", "--out", "OUT"], "paints prompts, or classes"),
        (["generate", "MODEL+nostyle", "--prompt", "x", "--out", "OUT"], "no kept style"),
        (["generate", "MODEL", "--prompt", "a gun", "--blocked", "LIST", "--out", "OUT"], "blocked word 'gun'"),
        (["generate", "MODEL", "--classes", "a,b", "--per-class", "1", "--template", "no label", "--out", "OUT"], "{label}"),
        (["generate", "MODEL", "--prompt", "x", "--device", "cuda:99", "--out", "OUT"], "no device"),
        (["generate", "MODEL", "--prompt", "x", "--sampler", "nothing", "--out", "OUT"], "no sampler"),
        (["generate", "MODEL", "--classes", "a,a", "--per-class", "1", "--out", "OUT"], "names no classes, or one twice"),
        (["adapt", "style", "--base", "MODEL", "--images", "digits:3", "--as", "x", "--template", "a {label}"], "does not go with the style"),
        (["adapt", "style", "--base", "MODEL", "--images", "digits:3", "--as", "x", "--file", "style.bin"], "no safetensors file"),
        (["adapt", "style", "--base", "nowhere", "--images", "digits:3", "--as", "x"], "holds no pipeline"),
        (["pilot", "digits:5", "--generators", "vae", "--style", "--cost"], "none is named"),
        (["pilot", "digits:5", "--generators", "text-to-image", "--cost"], "needs its model"),
        (["pilot", "digits:5", "--generators", "MODEL", "--guidance", "0.5", "--cost"], "guidance"),
        (["adapt", "style", "--base", "MODEL", "--images", "digits:3", "--as", "x", "--file", "PLAIN/x.safetensors"], "fix:"),
        (["generate", "MODEL", "--classes", "leavs/", "--per-class", "1", "--out", "OUT"], "leavs"),
        (["pilot", "digits:5", "--generators", "MODEL", "--guidance", ",", "--cost"], "is no number"),
        (["pilot", "digits:5", "--generators", "MODEL@2", "--guidance", "3", "--cost"], "in its name"),
        (["compare", "digits:40", "--generators", "text-to-image", "--per-class", "5", "--cost"], "no family"),
    ],
)
def test_mistakes_are_told(folder: Path, tmp_path: Path, words: list[str], told: str) -> None:
    from click.testing import CliRunner

    from mitate.cli import app
    from mitate.errors import MitateError

    (tmp_path / "list.txt").write_text("gun\n")
    (tmp_path / "plain").write_text("a file")
    places = {"MODEL": str(folder), "OUT": str(tmp_path / "out"), "LIST": str(tmp_path / "list.txt"), "PLAIN": str(tmp_path / "plain")}
    asked = [functools.reduce(lambda text, name: text.replace(name, places[name]), places, word) for word in words]
    ran = CliRunner().invoke(app, asked)
    assert isinstance(ran.exception, MitateError) and told in str(ran.exception), ran.output + str(ran.exception)
    assert not (tmp_path / "out").exists()


def test_a_pilot_plans_a_model_with_its_controls(folder: Path) -> None:
    plan = mi.pilot("digits:12", generators=[str(folder), f"{folder}+untrained", f"{folder}+style"], budget="1h", replicates=3)
    sizes = plan.study.sizes["generators"]
    assert [sizes[name]["options"]["style"] for name in sizes] == ["none", "untrained", "learnt"]
    assert all(sizes[name]["options"]["words"] == [str(k) for k in range(10)] for name in sizes)
    assert [sizes[name]["options"]["steps"] == 1 for name in sizes] == [True, True, False]


@pytest.mark.slow
def test_workers_paint_the_same_bytes_as_this_process(folder: Path, tmp_path: Path) -> None:
    pipeline, found = open_pipeline(folder), []
    words = Learnt(Words({"<style>": (np.random.default_rng(0).normal(size=(1, 16)).astype(np.float32),)}))
    for workers in (0, 2):
        store = mi.Store(tmp_path / f"store{workers}")
        found.append(mi.paint(pipeline, ["a leaf, <style>"], per_prompt=150, steps=1, learnt=words, workers=workers, store=store).digests)
    assert found[0] == found[1]


def test_painted_images_are_known_when_they_come_back(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    images = mi.paint(open_pipeline(folder), ["a leaf"], per_prompt=3, steps=2)
    (tmp_path / "back").mkdir()
    for i in range(3):
        Image.fromarray(images.reader.read(i)).save(tmp_path / "back" / f"{i}.png")
    assert len(mi.scan(str(tmp_path / "back")).found) == 3


# class-conditional denoisers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shifted() -> tuple[mi.ImageSet, mi.ImageSet]:
    """Two classes of simple pictures, half of them dark on light and half light on dark; and further ones that are all light on dark."""
    chance = np.random.default_rng(2)
    x = np.full((90, 8, 8, 1), 220, np.int64)
    for i in range(90):
        x[i, 2 : 4 if i % 2 else 6, 2 : 6 if i % 2 else 4] = 40
        if i >= 30:
            x[i] = 255 - x[i]
    x = (x + chance.normal(0, 6, x.shape)).clip(0, 255).astype(np.uint8)
    y = np.arange(90) % 2
    return mi.from_arrays(x[:60], y[:60], classes=("wide", "high"), name="both"), mi.from_arrays(x[60:], y[60:], classes=("wide", "high"), name="dark")


def test_a_diffusion_generator_learns_the_look_of_another_set(shifted: tuple[mi.ImageSet, mi.ImageSet]) -> None:
    base = mi.fit(mi.Diffusion(width=8, steps=200, batch=16), shifted[0], name="base")
    style = mi.adapt("base", shifted[1], mi.StyleInversion(steps=120, batch=16, rate=0.8), name="dark")
    dark = [(mi.generate(g, per_class=20).pixels(size=8, channels=1).mean(axis=(1, 2, 3)) < 127).mean() for g in (base, style)]
    curve = style.entry.result["curve"]
    assert 0.2 < dark[0] < 0.8 and dark[1] > max(0.75, dark[0] + 0.15)
    assert style.kind == "restyled" and style.entry.result["parameters"] == 32 and min(loss for _, loss in curve) < curve[0][1]


def test_what_a_diffusion_generator_cannot_learn_is_told(shifted: tuple[mi.ImageSet, mi.ImageSet], real: mi.ImageSet) -> None:
    mi.fit(mi.Diffusion(width=8, steps=2, batch=4), shifted[0], name="base")
    mi.fit(mi.Gaussian(), shifted[0], name="normal")
    with pytest.raises(SettingError, match="on a gaussian"):
        mi.adapt("normal", shifted[1])
    with pytest.raises(SettingError, match="has no words"):
        mi.adapt("base", shifted[1], mi.Lora())
    with pytest.raises(DataError, match="The generator draws wide"):
        mi.adapt("base", real)


# what a review found ------------------------------------------------------------------------------------------------------


def test_a_learned_word_changes_the_images_of_a_model_with_two_encoders(xl: Path, tmp_path: Path) -> None:
    made = kind(xl, "untrained")
    fitted(made, tmp_path / "fit")
    painter = made.load(tmp_path / "fit")
    assert painter.learnt.words is not None and set(painter.learnt.words.vectors) == {"<style>"}
    begun = painter.sample(np.arange(2), np.array([0, 1]))
    Words({"<style>": tuple(-3 * v for v in painter.learnt.words.vectors["<style>"])}).write(tmp_path / "fit" / "words.safetensors")
    assert not np.array_equal(begun, made.load(tmp_path / "fit").sample(np.arange(2), np.array([0, 1])))
    base = open_pipeline(xl)
    words = [Learnt(Words({"<style>": tuple(np.full((1, 16), v, np.float32) for _ in range(2))})) for v in (0.1, -0.3)]
    found = [mi.paint(base, ["a leaf, <style>"], steps=1, learnt=w, workers=0).digests for w in words]
    assert found[0] != found[1]


def test_words_of_each_class_go_by_name_and_not_by_place(folder: Path, real: mi.ImageSet) -> None:
    how = mi.StyleInversion(steps=2, batch=4, start="p", template="a {label}, {style}", each_class=True)
    mi.adapt(str(folder), real, how, name="each")
    base = open_pipeline(folder)
    found, how_asked = learnt("each", base=base), {"template": "a {label}, {style}", "steps": 1}
    one = mi.paint_classes(base, ["blue leaf", "red-leaf"], per_class=1, learnt=found, **how_asked)  # type: ignore[arg-type]
    two = mi.paint_classes(base, ["red-leaf", "blue leaf"], per_class=1, learnt=found, **how_asked)  # type: ignore[arg-type]
    assert one.captions == ("a blue leaf, <style-blue-leaf>", "a red leaf, <style-red-leaf>") and one.digests == two.digests[::-1]
    with pytest.raises(SettingError, match="none for 'green'"):
        mi.paint_classes(base, ["green", "red-leaf"], per_class=1, learnt=found, **how_asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["owner/name+leaves", "models/tiny@2", "tiny+styles/x.safetensors", "styles/x.safetensors", "a b/c", "../x"])
def test_what_is_no_name_of_the_hub(name: str) -> None:
    assert not is_hub_name(name)


def test_models_of_the_hub_take_styles() -> None:
    from mitate.painted import split_name

    assert split_name("owner/name+leaves-style") == ("owner/name", "leaves-style") and split_name("owner/name") == ("owner/name", "")


def test_defaults_that_a_folder_changes_change_what_is_asked(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    found = []
    for steps in (1, 3):
        (copy / "mitate.json").write_text(json.dumps({"steps": steps, "guidance": 2}))
        found.append(mi.paint(open_pipeline(copy), ["a leaf"]).digests)
    assert found[0] != found[1]
    assert kind(folder, "none", sample_steps=0).sample_steps == 50 and kind(folder, "none").guidance == 7.5


def test_values_that_are_no_numbers_are_never_handed_out_as_black(folder: Path) -> None:
    import torch

    pipeline = open_pipeline(folder)
    with torch.no_grad():
        pipeline.loaded.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(JobError, match="no numbers"):
        pipeline.paint(["a leaf"], [0], How(steps=1))


def test_a_lora_of_another_model_is_an_error(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"transformer.blocks.0.attn.to_k.lora_A.weight": np.zeros((2, 4), np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=r"changes no part|does not go on"):
        open_pipeline(folder).paint(["a leaf"], [0], How(steps=1), learnt=Learnt.of_file(tmp_path / "x.safetensors", word="<style>"))
    Words({"<flora>": (np.zeros((1, 16), np.float32),)}).write(tmp_path / "flora.safetensors")
    assert Learnt.of_file(tmp_path / "flora.safetensors", word="<style>").lora is None


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("ナイフを持つ人", "ナイフ"),
        ("血まみれの絵", "血"),
        ("blo\u200bod", "blood"),
        ("a gun", "gun\u200b"),
        ("人々が歩く", "人々"),
        ("고양이를 그려", "고양이"),
    ],
)
def test_blocked_words_are_found_in_scripts_without_spaces_and_past_unseen_letters(prompt: str, word: str) -> None:
    from mitate.painted import check_words

    with pytest.raises(SettingError, match="blocked word"):
        check_words([prompt], [word])


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"vectors": 90}, "tokens"), ({"start": ""}, "has no token"), ({"words": ("x" * 60, "y")}, "tokens"), ({"words": ("same", "same")}, "same sentence")],
)
def test_sentences_are_checked_before_anything_is_learnt(folder: Path, settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        kind(folder, "learnt", **settings)


def test_a_prompt_with_a_word_that_nothing_was_learnt_for_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="nothing was learnt for it"):
        mi.paint(open_pipeline(folder), ["a leaf in the style of <style>"], steps=1)
    with pytest.raises(SettingError, match="multiple of 8"):
        mi.paint(open_pipeline(folder), ["a leaf"], steps=1, size=17)


def test_an_image_that_was_painted_again_keeps_the_seed_it_comes_from(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    first = mi.paint(pipeline, ["a leaf"], per_prompt=2, steps=1)
    bad = first.reader.read(1).tobytes()
    again = mi.paint(pipeline, ["a leaf"], per_prompt=2, steps=1, judge=lambda x: np.array([i.tobytes() != bad for i in x]))
    assert again.provenance is not None and first.provenance is not None
    assert again.provenance.seeds[0] == first.provenance.seeds[0] and again.provenance.seeds[1] != first.provenance.seeds[1]
    assert np.array_equal(pipeline.paint(["a leaf"], [again.provenance.seeds[1]], How(steps=1))[0], again.reader.read(1))


def test_what_is_learnt_is_never_worse_than_the_start_on_the_selection_split(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(100))
    monkeypatch.setattr(inversion, "look_at", lambda *args: lambda module: float(next(looks)))  # each look worse than the one before
    facts = fitted(kind(folder, "learnt", steps=4), tmp_path / "wild")
    curve = facts["curve"]
    assert facts["best_step"] == 0 and facts["best_loss"] == curve[0][1]  # type: ignore[index]
    fitted(kind(folder, "untrained"), tmp_path / "begun")
    assert Learnt.of_fit(tmp_path / "wild").digest == Learnt.of_fit(tmp_path / "begun").digest


def test_words_that_begin_alike_are_not_mixed_up() -> None:
    from mitate.generators.tokens import said

    assert said("x <a>b <a>", {"<a>": "<a> <a>_1", "<a>b": "<a>b <a>b_1"}) == "x <a>b <a>b_1 <a> <a>_1"


def test_what_a_restyled_generator_stands_on_has_seen_its_images(shifted: tuple[mi.ImageSet, mi.ImageSet]) -> None:
    from mitate.studies.sources import fitted_on

    base = mi.fit(mi.Diffusion(width=8, steps=2, batch=4), shifted[0], name="base")
    style = mi.adapt("base", shifted[1], mi.StyleInversion(steps=2, batch=4), name="dark")
    store = mi.Store.find()
    own, all_ = fitted_on(base.entry, store), fitted_on(style.entry, store)
    assert own[0] < all_[0] and own[1] < all_[1] and all_[0] - own[0] <= set(shifted[1].digests)
    assert style.parents[2] == base.digest


def test_a_restyled_generator_is_never_worse_than_its_base_on_the_selection_split(
    shifted: tuple[mi.ImageSet, mi.ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(100))
    monkeypatch.setattr("mitate.generators.restyled.fixed_loss", lambda *args: lambda module: float(next(looks)))
    base = mi.fit(mi.Diffusion(width=8, steps=2, batch=4), shifted[0], name="base")
    style = mi.adapt("base", shifted[1], mi.StyleInversion(steps=3, batch=4), name="dark")
    assert style.entry.result["best_step"] == 0
    assert mi.generate(style, per_class=1).digests == mi.generate(base, per_class=1).digests


def test_painting_here_loads_the_model_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mitate.generators import pipelines

    loads, inner = [], pipelines.load
    monkeypatch.setattr(pipelines, "load", lambda *args: loads.append(1) or inner(*args))
    mi.paint(open_pipeline(folder), ["a leaf nobody painted"], steps=1)
    assert len(loads) == 1


def test_a_plan_file_may_hold_no_list_of_guidances(folder: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from mitate.cli import app

    (tmp_path / "plan.toml").write_text('data = "digits:12"\nguidance = [1.5, 3]\n')
    ran = CliRunner().invoke(app, ["pilot", "--plan", str(tmp_path / "plan.toml"), "--generators", str(folder), "--cost"])
    assert isinstance(ran.exception, SettingError), ran.exception
