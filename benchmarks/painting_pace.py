"""Images a second of a text-to-image pipeline: mitate's painting against plain loops over diffusers, same weights, sampler, steps and guidance.

    python benchmarks/painting_pace.py [--model lab] [--images 256] [--rounds 3]

Rivals, both with every core as torch takes them: `loop`, one image a call, as the examples of diffusers do; `batched`, sixteen a call. Ours: as many
workers as cores, one thread each, every prompt read once, started before the clock (`workers`) and with their start in it (`whole`). The ways take
turns. The pictures are the same: the share of values that differ from the batched rival's is printed. One line a round in results/painting_pace.jsonl.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parent / "results" / "painting_pace.jsonl"
BATCH = 16
PROMPTS = ("a large red circle", "two blue squares", "a small green star on black", "a yellow triangle left of a pink cross")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="lab")
    options.add_argument("--images", type=int, default=256)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--plain", choices=("loop", "batched"))
    options.add_argument("--file", type=Path)
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    if given.plain:
        plain(given.model, given.images, given.plain, given.file)
        return
    ways: dict[str, Callable[[Path], float]] = {
        "loop": lambda f: rival(given, "loop", f), "batched": lambda f: rival(given, "batched", f), "workers": lambda f: ours(given, f, warm=True),
        "whole": lambda f: ours(given, f, warm=False),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(given.rounds):
            for way, run in ways.items():
                seconds[way].append(run(Path(place) / f"{way}.npy"))
                print(f"round {turn}: {way} {given.images / seconds[way][-1]:.1f} images a second", flush=True)
        made = {way: np.load(Path(place) / f"{way}.npy").astype(int) for way in ways}
    apart = np.abs(made["workers"] - made["batched"])
    row = {
        "model": Path(given.model).name, "images": given.images, "seconds": {way: [round(s, 2) for s in found] for way, found in seconds.items()},
        "ratio_to_loop": round(ratio(seconds, "loop"), 2), "ratio_to_batched": round(ratio(seconds, "batched"), 2),
        "whole_to_loop": round(statistics.median(a / b for a, b in zip(seconds["loop"], seconds["whole"], strict=True)), 2),
        "differing": float((apart > 0).mean()), "most": int(apart.max()), "same_as_workers": bool((made["whole"] == made["workers"]).all()),
    }  # fmt: skip
    OUT.parent.mkdir(exist_ok=True)
    with open(OUT, "a") as out:
        out.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


def ratio(seconds: dict[str, list[float]], way: str) -> float:
    """How many times as many images a second ours makes: the median over rounds."""
    return statistics.median(a / b for a, b in zip(seconds[way], seconds["workers"], strict=True))


def asked(n: int) -> tuple[list[str], list[int]]:
    return [PROMPTS[i % len(PROMPTS)] for i in range(n)], list(range(1000, 1000 + n))


def rival(given: argparse.Namespace, way: str, file: Path) -> float:
    """Seconds of a plain loop in a process of its own, its start not counted."""
    words = [sys.executable, "-W", "ignore", __file__, "--model", given.model, "--images", str(given.images), "--plain", way, "--file", str(file)]
    ran = subprocess.run(words, check=True, capture_output=True, text=True)
    return float(ran.stdout.strip().splitlines()[-1])


def plain(model: str, n: int, way: str, file: Path) -> None:
    import torch
    from diffusers import DiffusionPipeline

    from mitate.generators.pipelines import open_pipeline

    ours_ = open_pipeline(model)
    pipeline = DiffusionPipeline.from_pretrained(ours_.folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    texts, seeds = asked(n)
    step = 1 if way == "loop" else BATCH

    def paint(rows: slice) -> Any:
        chances = [torch.Generator().manual_seed(s) for s in seeds[rows]]
        how = {"num_inference_steps": ours_.steps, "guidance_scale": ours_.guidance, "output_type": "np"}
        return np.rint(pipeline(prompt=texts[rows], generator=chances, **how).images * 255).astype(np.uint8)

    paint(slice(0, step))  # warm
    started = time.perf_counter()
    made = np.concatenate([paint(slice(i, i + step)) for i in range(0, n, step)])
    seconds = time.perf_counter() - started
    np.save(file, made)
    print(seconds)


def ours(given: argparse.Namespace, file: Path, *, warm: bool) -> float:
    """Seconds of the same images as jobs on one worker a core; warm: workers that have opened the model already."""
    from mitate.engine import Engine
    from mitate.generators.pipelines import How, open_pipeline
    from mitate.painted import jobs_of
    from mitate.runtime import cores
    from mitate.store import Store

    pipeline = open_pipeline(given.model)
    texts, seeds = asked(given.images)
    with tempfile.TemporaryDirectory() as place:
        store = Store(place)
        with Engine(store, workers=cores()) as engine:
            if warm:
                engine.run(jobs_of(pipeline, texts[:1] * cores(), [*range(cores())], How(), None, store, size=1))
            started = time.perf_counter()
            jobs = jobs_of(pipeline, texts, seeds, How(), None, store)
            found = engine.run(jobs)
            made = np.concatenate([np.load(found[job].path("x.npy"), allow_pickle=False) for job in jobs])
            seconds = time.perf_counter() - started
    np.save(file, made)
    return seconds


if __name__ == "__main__":
    main()
