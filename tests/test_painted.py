"""Text-to-image pipelines and captioners, on tiny ones with random weights that are built here: no network, no shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
from mitate.captioners.writers import open_captioner
from mitate.errors import DataError, SettingError
from mitate.generators.pipelines import BATCH, How, open_pipeline
from mitate.painted import paint
from tiny import tiny_captioner, tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways
PROMPTS = ["two red circles", "a blue star", "a green square on grey"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_captioner(tmp_path_factory.mktemp("captioner") / "tiny")


def test_an_image_depends_on_its_prompt_and_seed_alone(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    prompts, seeds = PROMPTS * 7, list(range(21))
    assert len(prompts) > BATCH
    many = pipeline.paint(prompts, seeds, How(steps=2))
    assert many.dtype == np.uint8 and many.shape == (21, pipeline.size, pipeline.size, 3)
    for i in (0, 5, 20):
        assert np.array_equal(pipeline.paint([prompts[i]], [seeds[i]], How(steps=2))[0], many[i])
    assert not np.array_equal(pipeline.paint([prompts[0]], [99], How(steps=2))[0], many[0])
    assert not np.array_equal(pipeline.paint([prompts[1]], [0], How(steps=2))[0], many[0])


def test_the_last_batch_is_as_large_as_every_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, sizes = open_pipeline(folder), []
    inner = type(pipeline.loaded).__call__
    monkeypatch.setattr(type(pipeline.loaded), "__call__", lambda self, *a, **k: sizes.append(len(k["prompt_embeds"])) or inner(self, *a, **k))
    pipeline.paint(PROMPTS, [0, 1, 2], How(steps=1))
    assert sizes == [BATCH]


def test_plain_diffusers_gives_the_same_bytes(folder: Path) -> None:
    import torch
    from diffusers import DiffusionPipeline

    plain = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    chances = [torch.Generator().manual_seed(i) for i in range(BATCH)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs = plain(prompt=["a blue star"] * BATCH, generator=chances, num_inference_steps=3, guidance_scale=2.0, output_type="np").images
    finally:
        torch.set_num_threads(threads)
    ours = open_pipeline(folder).paint(["a blue star"] * BATCH, list(range(BATCH)), How(steps=3, guidance=2.0))
    assert np.array_equal(np.rint(theirs * 255).astype(np.uint8), ours)


def test_guidance_and_a_negative_prompt_change_the_image(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    plain = pipeline.paint(PROMPTS[:1], [0], How(steps=2, guidance=1.0))
    assert not np.array_equal(plain, pipeline.paint(PROMPTS[:1], [0], How(steps=2, guidance=4.0)))
    assert not np.array_equal(
        pipeline.paint(PROMPTS[:1], [0], How(steps=2, guidance=4.0)), pipeline.paint(PROMPTS[:1], [0], How(steps=2, guidance=4.0, negative="red"))
    )


def test_painted_sets_say_where_they_come_from(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(folder)
    images = paint(pipeline, PROMPTS[:2], per_prompt=2, seed=5, steps=1)
    assert images.captions == ("two red circles",) * 2 + ("a blue star",) * 2 and set(images.labels) == {-1}
    assert images.provenance is not None and images.provenance.digest == pipeline.digest and len(images.provenance.seeds) == 4
    assert paint(pipeline, [PROMPTS[1]], per_prompt=1, seed=5, steps=1).digests[0] == images.digests[2]
    mi.write_images(images, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == list(images.captions)


def test_the_digest_is_of_weights_and_not_of_the_folder(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    assert open_pipeline(tmp_path / "copy").digest == open_pipeline(folder).digest
    config = tmp_path / "copy" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert open_pipeline(tmp_path / "copy").digest != open_pipeline(folder).digest


def test_what_cannot_be_painted_is_refused(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(folder)
    with pytest.raises(SettingError, match="2 prompts have 1 seeds"):
        pipeline.paint(PROMPTS[:2], [0])
    with pytest.raises(SettingError, match="guidance"):
        pipeline.paint(PROMPTS[:1], [0], How(guidance=0.5))
    with pytest.raises(SettingError, match="empty"):
        paint(pipeline, ["a", " "])
    with pytest.raises(SettingError, match="nothing to paint"):
        paint(pipeline, [])
    with pytest.raises(DataError, match="no pipeline"):
        open_pipeline(tmp_path)
    with pytest.raises(DataError, match="no captioner"):
        open_captioner(tmp_path)


@pytest.mark.parametrize(("part", "name"), [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_pickled_weights_are_never_opened(folder: Path, tmp_path: Path, part: str, name: str) -> None:
    import pickle
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / part / f"{name}.safetensors").unlink()

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (tmp_path / "sprung").write_text, ("!",)

    for there in ("diffusion_pytorch_model.bin", "pytorch_model.bin"):
        (tmp_path / "copy" / part / there).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"cannot be opened as a pipeline .*safetensors"):
        open_pipeline(tmp_path / "copy").paint(PROMPTS[:1], [0])
    assert not (tmp_path / "sprung").exists()


def test_a_text_does_not_depend_on_the_batch(writer: Path) -> None:
    captioner = open_captioner(writer)
    images = np.random.default_rng(0).integers(0, 256, (35, captioner.size, captioner.size, 3), dtype=np.uint8)
    many = captioner.describe(images)
    assert len(many) == 35 and captioner.describe(images[34:]) == many[34:] and captioner.describe(images[:0]) == []
    with pytest.raises(SettingError, match="float64"):
        captioner.describe(images / 255)


def test_plain_transformers_writes_the_same_text(writer: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    model = AutoModelForImageTextToText.from_pretrained(writer, local_files_only=True)
    pixels = AutoImageProcessor.from_pretrained(writer)(images=[image], return_tensors="pt").pixel_values
    text = AutoTokenizer.from_pretrained(writer).batch_decode(model.generate(pixel_values=pixels, do_sample=False), skip_special_tokens=True)[0].strip()
    assert open_captioner(writer).describe(image[None]) == [text]


def test_the_command_line_paints_and_describes(folder: Path, writer: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from mitate.cli import app

    (tmp_path / "prompts.txt").write_text("a blue star\n\ntwo red circles\n")
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["generate", str(folder), "--prompts", str(tmp_path / "prompts.txt"), "-n", "2", "--steps", "1", "--out", str(out)])
    assert ran.exit_code == 0 and "4 images of 2 prompts" in ran.output, ran.output
    ran = CliRunner().invoke(app, ["caption", str(out), "--with", str(writer), "--json", str(tmp_path / "texts.jsonl")])
    assert ran.exit_code == 0 and len((tmp_path / "texts.jsonl").read_text().splitlines()) == 4, ran.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--per-class", "3"], "paints prompts"),
        ([], "paints prompts"),
        (["--prompts", "nowhere.txt"], "cannot be read as prompts"),
        (["--prompt", "x", "--guidance", "nan"], "guidance=nan"),
        (["--prompt", "x", "--steps", "5000"], "does not paint so"),
        (["--prompt", "x" * 40], "has 42 tokens"),
        (["--prompt", "x", "-n", "0"], "nothing to paint"),
    ],
)
def test_mistakes_on_the_command_line_are_told(folder: Path, tmp_path: Path, words: list[str], told: str) -> None:
    out = tmp_path / "out"
    assert_told(["generate", str(folder), *words, "--out", str(out)], told)
    assert not out.exists()


def assert_told(words: list[str], told: str) -> None:
    """One line with a fix, and exit code 2, from the program itself."""
    import subprocess
    import sys

    ran = subprocess.run([sys.executable, "-m", "mitate", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and told in ran.stderr and "fix:" in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", "nowhere/", "--prompt", "x", "--out", "o"], "There is no kept generator"),
        (["generate", "n" * 300, "--prompt", "x", "--out", "o"], "There is no kept generator"),
        (["caption", "digits:1", "--with", "n" * 300], "holds no captioner"),
    ],
)
def test_models_that_are_not_there_are_told(words: list[str], told: str) -> None:
    assert_told(words, told)


def test_a_full_folder_is_refused_before_anything_is_painted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from mitate.cli import app

    (tmp_path / "mine.txt").write_text("keep")
    monkeypatch.setattr("mitate.painted.paint", lambda *a, **k: pytest.fail("painted"))
    ran = CliRunner().invoke(app, ["generate", str(folder), "--prompt", "x", "--out", str(tmp_path)])
    assert "is not empty" in str(ran.exception) and (tmp_path / "mine.txt").read_text() == "keep"


def test_a_prompt_that_is_given_again_has_further_images(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    twice, two = paint(pipeline, [PROMPTS[0]] * 2, steps=1), paint(pipeline, [PROMPTS[0]], per_prompt=2, steps=1)
    assert len(set(twice.digests)) == 2 and twice.digests == two.digests


@pytest.mark.parametrize("text", ["garbage", "[]", '{"steps": "many"}', '{"steps": -3}', '{"guidance": 0.1}'])
def test_wrong_defaults_of_a_pipeline_are_told(folder: Path, tmp_path: Path, text: str) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "mitate.json").write_text(text)
    with pytest.raises(DataError, match="is not the defaults"):
        open_pipeline(tmp_path / "copy")


@pytest.mark.parametrize("damage", ["truncated", "index", "tokenizer"])
def test_a_damaged_pipeline_is_told_in_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if damage == "truncated":
        weights = copy / "text_encoder" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "index":
        (copy / "model_index.json").write_text("[]")
    else:
        shutil.rmtree(copy / "tokenizer")
    with pytest.raises(DataError):
        open_pipeline(copy).paint(PROMPTS[:1], [0], How(steps=1))


def test_kept_generators_and_pipelines_are_not_mixed_up(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    with pytest.raises(SettingError, match="paints prompts"):
        mi.generate(pipeline, per_class=1)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="draws classes"):
        paint("kept", ["x"])  # type: ignore[arg-type]


def test_a_card_of_prompts_speaks_of_prompts(folder: Path, tmp_path: Path) -> None:
    mi.write_images(paint(open_pipeline(folder), PROMPTS, steps=1), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "3 prompts" in card and "text-to-image" in card and "| a blue star | 1 |" in card and "`caption`" in card


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_pipeline(folder).paint(PROMPTS[:1], [0], How(steps=1))
    assert capfd.readouterr() == ("", "")
