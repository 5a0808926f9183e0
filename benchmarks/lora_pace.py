"""How fast is an expert learnt, beside the plain loop of diffusers and peft? Images a core-second, in turns in one process, at the same steps and batches.

    python benchmarks/lora_pace.py [--steps 40] [--turns 5] [--model lab]
    python benchmarks/lora_pace.py --summary

`plain` is the loop that is usually written: each step encodes its images and its sentences, adds noise, asks the U-Net with a peft adapter, clips and steps.
`plain, cached` is given what we keep (latents and read sentences). `ours` is what `mitate adapt lora` runs. All learn the same pictures with the same rate and
rank; `loss` is the error on 96 (picture, time, noise) triples that none of them learnt from, before and after. Core-seconds of one thread; medians of turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cells
from mitate.generators.inversion import LOOKS, Denoising, Effort, Told, look_at
from mitate.generators.lora import TARGETS, _read, tune
from mitate.generators.pipelines import open_pipeline
from mitate.lab.drawing import draw
from mitate.progress import Silent
from mitate.prompts.grammar import shown
from mitate.runtime import torch_threads

OUT = Path(__file__).parent / "results" / "lora_pace.jsonl"
BATCH, RANK, RATE, LEARNT = 16, 8, 1e-3, 200
WAYS = ("plain", "plain, cached", "ours")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="lab")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        warnings.filterwarnings("ignore")
        pipeline = open_pipeline(given.model)
        name = {"pipeline": pipeline.digest[:12], "steps": given.steps, "batch": BATCH, "rank": RANK}
        todo = [({**name, "turn": turn}, partial(measure, pipeline, {**name, "turn": turn})) for turn in range(given.turns)]
        cells.fill(given.out, todo, tell=lambda n, row: f"turn {n['turn']}: " + ", ".join(f"{way} {row[way]['seconds']:.1f} s" for way in WAYS))
    print(summary(cells.read(given.out)))


def measure(pipeline: Any, name: Mapping[str, Any]) -> cells.Row:
    """Each way once, the order turning."""
    train, test = lessons(0), lessons(1)
    found: dict[str, Any] = dict(name)
    steps, turn = name["steps"], name["turn"]
    with torch_threads():
        for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
            torch.manual_seed(turn)
            found[way] = ours(pipeline, train, test, steps, turn) if way == "ours" else plain(pipeline, train, test, steps, cached=way != "plain")
    return found


def lessons(part: int) -> Told:
    """Pictures of counting with their sentences, true drawings."""
    pairs = [pair for pair, _ in zip(shown("counting", part * LEARNT, seed=3), range(LEARNT), strict=False)]
    return Told(np.stack([draw(scene) for _, scene in pairs]), np.arange(LEARNT), [prompt.text for prompt, _ in pairs])


def ours(pipeline: Any, train: Told, test: Told, steps: int, seed: int) -> dict[str, float]:
    nobody = Told(train.x[:0], train.y[:0], train.sentences)
    with tempfile.TemporaryDirectory() as place, torch.random.fork_rng(devices=[]):
        started = time.process_time()
        effort = Effort(steps, BATCH, RATE, 1, 0)
        tensors, _ = tune(pipeline.loaded, train, nobody, effort, rank=RANK, size=pipeline.size, seed=seed, checkpoint=Path(place), progress=Silent(), clip=1.0)
        seconds = time.process_time() - started
    before = error(pipeline, test)
    return {"seconds": round(seconds, 3), "before": before, "after": with_adapter(pipeline, tensors, lambda: error(pipeline, test))}


def plain(pipeline: Any, train: Told, test: Told, steps: int, *, cached: bool) -> dict[str, float]:
    """The loop as it is usually written, with diffusers' and peft's own parts alone."""
    from diffusers import DDPMScheduler
    from peft import LoraConfig

    pipe, before = pipeline.loaded, error(pipeline, test)
    started = time.process_time()
    unet, vae = pipe.unet, pipe.vae
    noising = DDPMScheduler.from_config(pipe.scheduler.config)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS)), adapter_name="plain")
    try:
        parameters = [p for p in unet.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
        pixels = torch.from_numpy(train.x).permute(0, 3, 1, 2).float() / 127.5 - 1

        @torch.no_grad()
        def latents(x: torch.Tensor) -> torch.Tensor:
            return vae.encode(x).latent_dist.mean * vae.config.scaling_factor

        @torch.no_grad()
        def read(texts: Sequence[str]) -> torch.Tensor:
            tokens = pipe.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
            return pipe.text_encoder(tokens)[0]

        kept = (
            (torch.cat([latents(part) for part in pixels.split(16)]), torch.cat([read(train.sentences[i : i + 16]) for i in range(0, LEARNT, 16)]))
            if cached
            else None
        )
        for _ in range(steps):
            some = torch.randint(LEARNT, (BATCH,))
            z, told = (kept[0][some], kept[1][some]) if kept else (latents(pixels[some]), read([train.sentences[int(i)] for i in some]))
            t, noise = torch.randint(noising.config.num_train_timesteps, (BATCH,)), torch.randn_like(z)
            seen = unet(noising.add_noise(z, noise, t), t, encoder_hidden_states=told).sample
            target = noising.get_velocity(z, noise, t) if noising.config.prediction_type == "v_prediction" else noise
            loss = torch.nn.functional.mse_loss(seen, target)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
        seconds = time.process_time() - started
        return {"seconds": round(seconds, 3), "before": before, "after": error(pipeline, test)}
    finally:
        unet.delete_adapters("plain")


def with_adapter(pipeline: Any, tensors: Mapping[str, torch.Tensor], what: Callable[[], float]) -> float:
    from safetensors.torch import save_file

    from mitate.generators.learnt import Learnt

    with tempfile.TemporaryDirectory() as place:
        save_file(dict(tensors), Path(place) / "lora.safetensors")
        with Learnt(lora=Path(place) / "lora.safetensors").on(pipeline.loaded):
            return what()


@torch.no_grad()
def error(pipeline: Any, test: Told) -> float:
    """On pictures that were not learnt from, with the same times and noise each time."""
    loss = Denoising(pipeline.loaded, size=pipeline.size)
    told = _read(loss, test.sentences)
    look = look_at(loss, loss.latents(test.x[:LOOKS]), test.y[:LOOKS], BATCH, lambda z, y, t, noise: loss.errors_of(z, t, noise, told, torch.tensor(y)))
    return round(look(torch.nn.Identity()), 5)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Way | Images a core-second | Its time over ours | Loss before | after |", "|---|---|---|---|---|"]
    for way in WAYS:
        pace = statistics.median(row["steps"] * row["batch"] / row[way]["seconds"] for row in rows)
        ratios = sorted(row[way]["seconds"] / row["ours"]["seconds"] for row in rows)
        before, after = (statistics.median(row[way][k] for row in rows) for k in ("before", "after"))
        lines.append(f"| {way} | {pace:.1f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {before:.4f} | {after:.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
