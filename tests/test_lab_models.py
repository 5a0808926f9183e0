"""The models of the lab that we ship: they open in the standard formats, do what their cards say, and give the same bytes as the plain libraries."""

from __future__ import annotations

import numpy as np
import pytest

import mitate as mi
from mitate.captioners import writers
from mitate.generators import pipelines, places
from mitate.lab.captions import SAYABLE, caption
from mitate.lab.drawing import draw_all
from mitate.lab.oracle import read
from mitate.lab.questions import faithfulness
from mitate.lab.reading import understand
from mitate.lab.skills import prompts
from mitate.lab.world import World

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own ways


def test_the_shipped_models_are_small_and_have_cards() -> None:
    for folder, most in ((places.LAB, 12), (writers.LAB, 5), (writers.LAB.parent / "lab-clip", 5)):
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6 <= most
        assert "| Licence |" in (folder / "README.md").read_text(encoding="utf-8")


def test_single_things_are_painted_as_asked() -> None:
    asked = prompts("single", 24, seed=3)
    images = mi.paint(mi.load_generator("lab"), [p.text for p in asked], seed=1)
    found = faithfulness(asked, [read(images.reader.read(i)) for i in range(len(images))])
    assert found.questions >= 0.7  # docs/lab.md has the measured shares; this only holds the model to be there


def test_plain_diffusers_paints_the_same_bytes() -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    plain = StableDiffusionPipeline.from_pretrained(places.LAB, torch_dtype=torch.float32, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    ours = pipelines.open_pipeline("lab")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chances = [torch.Generator().manual_seed(i) for i in range(pipelines.BATCH)]
        asked = ["two red circles"] * pipelines.BATCH
        theirs = plain(prompt=asked, generator=chances, num_inference_steps=ours.steps, guidance_scale=ours.guidance, output_type="np").images
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(np.rint(theirs * 255).astype(np.uint8), ours.paint(asked, list(range(pipelines.BATCH))))


def test_drawings_are_described_as_they_are() -> None:
    scenes = [World().scene(i, seed=21) for i in range(32)]
    texts = mi.load_captioner("lab").describe(draw_all(scenes))
    right = []
    for scene, text in zip(scenes, texts, strict=True):
        prompt = understand(text).prompt
        said = sorted((g.shape, g.colour) for g in prompt.groups for _ in range(g.count)) if prompt else []
        right.append(said == sorted((t.shape, t.colour) for t in scene.things))
    assert np.mean(right) >= 0.7


def test_a_caption_is_found_among_others() -> None:
    import torch
    from transformers import AutoModel, AutoProcessor

    folder = writers.LAB.parent / "lab-clip"
    model, processor = AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), AutoProcessor.from_pretrained(folder)
    scenes = [World().scene(i, seed=22) for i in range(32)]
    texts = [caption(scene, seed=i, say=SAYABLE).text for i, scene in enumerate(scenes)]
    told = processor(text=texts, images=list(draw_all(scenes)), return_tensors="pt", padding="max_length", truncation=True)
    with torch.inference_mode():
        scores = model(**told).logits_per_image
    assert float((scores.argmax(1) == torch.arange(32)).float().mean()) >= 0.85


def test_a_full_caption_says_everything() -> None:
    scene = World().scene(4)
    prompt = caption(scene, seed=0, say=SAYABLE)
    assert prompt.background and prompt.light and all(g.colour and g.size for g in prompt.groups)
