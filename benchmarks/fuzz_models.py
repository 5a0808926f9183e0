"""The doors of models and of what was learnt on them: adapters, words, weights, folders of diffusers and of transformers, checkpoints. See fuzz_places.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fuzz_places import Place, Read


def _lora(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.updates import Updates

    ones = np.ones((2, 4), np.float32)
    told = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.r": 2, "unet.alpha_pattern": {}}), "mitate": '{"base": "abc"}'}
    save_file({"unet.a.to_q.lora_A.weight": ones, "unet.a.to_q.lora_B.weight": ones.T.copy()}, folder / "x.safetensors", metadata=told)
    return folder / "x.safetensors", lambda: Updates.read(folder / "x.safetensors").digest


def _peft(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.updates import Updates

    ones, name = np.ones((2, 4), np.float32), "base_model.model.a.to_q"
    save_file({f"{name}.lora_A.weight": ones, f"{name}.lora_B.weight": ones.T.copy()}, folder / "adapter_model.safetensors")
    (file := folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"a.to_q": 8}, "use_dora": false}')
    return file, lambda: Updates.read(folder).digest


def _words(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.learnt import Learnt

    save_file({"<leaf>": np.ones((2, 4), np.float32)}, folder / "x.safetensors", metadata={"words": "<leaf>"})
    return folder / "x.safetensors", lambda: Learnt.of_file(folder / "x.safetensors", word="<x>").digest


def _weights(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.features.extractor import _recognised
    from mitate.features.networks import read
    from mitate.training.backbones import _read

    save_file({"a.weight": np.ones((2, 4), np.float32)}, file := folder / "x.safetensors")

    def all_three() -> None:
        from mitate.errors import SettingError

        for door in (lambda: read(file), lambda: _read(file, "small", "")):
            door()
        try:
            _recognised(file)
        except SettingError:
            pass

    return file, all_three


def _adapter(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.adapter import Adapter

        Adapter("alignment", "ab" * 32, {"a": np.ones((2, 3))}, {"x": 1}, ("cd" * 32,)).save(folder / "a")
        return folder / "a" / name, lambda: Adapter.load(folder / "a")

    return Place(make, form)


def _pipeline(name: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.generators.denoisers import unconditional_index
        from mitate.generators.pipelines import open_pipeline
        from mitate.generators.places import is_pipeline

        (folder / "p" / "unet").mkdir(parents=True)
        (folder / "p" / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "sample_size": 8}')
        (folder / "p" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}')
        (folder / "p" / "mitate.json").write_text('{"steps": 20, "guidance": 3.5, "template": "a {label}", "styled": "a {label} in {style}"}')

        def read() -> None:
            is_pipeline(folder / "p"), unconditional_index(folder / "p")
            _ = open_pipeline(folder / "p").digest
            _ = open_pipeline(folder / "p").loaded

        def without_weights() -> None:
            from mitate.errors import DataError

            try:
                read()
            except DataError as wrong:
                if "cannot be opened as a pipeline" not in wrong.message:
                    raise

        return folder / "p" / name, without_weights

    return Place(make, "json")


def _painter(name: str, form: str = "json") -> Place:
    """A file of a whole pipeline, which then paints."""

    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.generators.pipelines import How, open_pipeline
        from tiny import tiny_pipeline

        tiny_pipeline(folder / "p")

        def read() -> None:
            pipeline = open_pipeline(folder / "p")
            pipeline.paint(["a red leaf"], [0], pipeline.settled(How(steps=1)))

        return folder / "p" / name, read

    return Place(make, form)


def _denoiser(name: str) -> Place:
    """A file of a folder with a UNet2DModel, the base of few-shot adaptation."""

    def make(folder: Path) -> tuple[Path, Read]:
        import diffusers
        import torch

        from mitate.generators.denoisers import OfFolder

        net = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler()).save_pretrained(folder / "p")

        def read() -> None:
            base = OfFolder(folder / "p")
            z = base.encode(np.zeros((1, *base.shape), np.uint8))
            levels = base.levels(5)
            with torch.no_grad():
                base.decode(base.clean(z, levels.time[2], torch.zeros(1, dtype=torch.int64)))
            _ = base.digest

        return folder / "p" / name, read

    return Place(make, "json")


def _transformer(kind: str, name: str, form: str = "json") -> Place:
    """A file of a folder of transformers, whose model is then asked once."""

    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.captioners import writers
        from mitate.curation import vqa
        from mitate.curation.dependency import Question
        from mitate.prompts.text_model import open_text_model
        from tiny import tiny_captioner
        from tiny_vqa import tiny_blip, tiny_vilt

        place = {"vilt": tiny_vilt, "blip": tiny_blip, "captioner": tiny_captioner, "text": tiny_text}[kind](folder / "m")
        x = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        asked = {"a": (Question("1", "is there a circle ?"), Question("2", "what colour ?", "red", ("1",)))}

        def read() -> None:
            if kind == "captioner":
                writers.open_captioner(place).describe(x)
            elif kind == "text":
                _ = open_text_model(place).loaded
            else:
                vqa._load.cache_clear()
                vqa.Vqa(str(place), asked).look(x, ["a"])

        return place / name, read

    return Place(make, form)


def tiny_text(folder: Path) -> Path:
    """A text model of a layer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from tiny import LENGTH, tokenizer

    words = tokenizer()
    GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _checkpoint(folder: Path) -> tuple[Path, Read]:
    """A fit that was stopped after a checkpoint, and goes on."""
    import torch

    from mitate import fitting

    def fit(stopped: int) -> None:
        def loss(net: torch.nn.Module, step: int) -> torch.Tensor:
            if step == stopped:
                raise KeyboardInterrupt
            return net(torch.ones(1, 2)).square().mean()

        net, schedule = torch.nn.Linear(2, 1), fitting.Schedule(steps=4, lr=0.01)
        fitting.optimise(net, loss, schedule, seed=0, checkpoint=folder / "c", validate=lambda net: 1.0, validate_every=1)

    usual, fitting.CHECKPOINT_SECONDS = fitting.CHECKPOINT_SECONDS, 0.0
    try:
        fit(2)
    except KeyboardInterrupt:
        pass
    finally:
        fitting.CHECKPOINT_SECONDS = usual
    return folder / "c" / "fit.safetensors", lambda: fit(9)


MODELS: dict[str, Place] = {
    "lora": Place(_lora, "safetensors"), "peft": Place(_peft, "json"), "words": Place(_words, "safetensors"), "weights": Place(_weights, "safetensors"),
    "adapter-json": _adapter("adapter.json", "json"), "adapter": _adapter("adapter.safetensors", "safetensors"),
    "model-index": _pipeline("model_index.json"), "defaults": _pipeline("mitate.json"),
    "unet": _painter("unet/config.json"), "scheduler": _painter("scheduler/scheduler_config.json"), "text-encoder": _painter("text_encoder/config.json"),
    "tokenizer": _painter("tokenizer/tokenizer_config.json"), "autoencoder": _painter("vae/config.json"), "index-of-parts": _painter("model_index.json"),
    "unet-weights": _painter("unet/diffusion_pytorch_model.safetensors", "safetensors"),
    "denoiser": _denoiser("unet/config.json"), "denoiser-schedule": _denoiser("scheduler/scheduler_config.json"),
    "vilt": _transformer("vilt", "config.json"), "vilt-pictures": _transformer("vilt", "preprocessor_config.json"),
    "vilt-words": _transformer("vilt", "tokenizer.json"), "vilt-weights": _transformer("vilt", "model.safetensors", "safetensors"),
    "blip": _transformer("blip", "config.json"), "blip-answers": _transformer("blip", "generation_config.json"),
    "captioner": _transformer("captioner", "config.json"), "captioner-pictures": _transformer("captioner", "preprocessor_config.json"),
    "captioner-answers": _transformer("captioner", "generation_config.json"), "text-model": _transformer("text", "config.json"),
    "checkpoint": Place(_checkpoint, "safetensors"),
}  # fmt: skip
