"""Experts of a skill: LoRAs learnt from images and a sentence for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mitate as mi
from mitate.adapted import captioned_parts
from mitate.errors import DataError, SettingError
from mitate.generators import lora
from mitate.generators.lora import Expert
from mitate.generators.pipelines import open_pipeline
from mitate.images import from_arrays
from mitate.store import Store
from tiny import tiny_pipeline


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
