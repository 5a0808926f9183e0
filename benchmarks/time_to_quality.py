"""How long until the images are as good as a rival's best: our flow beside denoising-diffusion-pytorch and a plain diffusers script, one thread.

    MITATE_DATA=folder python benchmarks/time_to_quality.py [--sets fashion_mnist,coffee_leaf] [--rivals ddpm,diffusers] [--match parameters,operations]
    python benchmarks/time_to_quality.py --summary

Quality is the kernel distance of 1,000 images, as many of each class, to fresh real ones (1,000, or all there are) in mitate-small's features. A
rival is trained for 600 and for 300 processor seconds, each a training of its own; drawing comes on top. Its best is the lesser distance of the
two, its time that of the shorter one if it comes within a twentieth of it. We fit with 25, 50, 100 ... steps until two fits in a row are at least as
near as the rival's best: our time is that of the first of them, its own looks and early stop included, and of 1,000 images. `ratio` is the rival's
time over ours.

Alike for all: images, batch of 32, one thread, AdamW with a warm-up and a cosine to zero, averaged weights, classifier-free guidance, four learning
rates tried for two minutes each on another seed (ours: 600 steps, about as long), and a sampler of 8 or 16 steps with guidance 1 or 2, chosen on a
net of full length (ours: of 600 steps): the cheapest within a tenth of the least distance. Only we look at a selection split. Rivals as their readmes
have them (ddpm: predicts v, DDIM; diffusers: predicts noise, linear schedule, multistep DPM-Solver), of two sizes: as many parameters as ours, or as
many multiply-adds a pass. Needs both packages (pip install denoising-diffusion-pytorch diffusers). One JSON line a cell in
results/time_to_quality.jsonl; finished cells are skipped.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import cells
from bench_set import without_torchvision_operators
from looks import Real
from mitate.features.extractor import extractor
from mitate.generator import Pixels, image_seeds
from mitate.generators.diffusion import Diffusion
from mitate.metrics.kernel import kernel_distance
from mitate.progress import Silent
from mitate.runtime import seed_of

T = TypeVar("T")
OUT = Path(__file__).parent / "results" / "time_to_quality.jsonl"
PER_CLASS = {"fashion_mnist": 1000, "coffee_leaf": 100}
MADE, TRIED = 1000, 250  # images that count, and in a trial
LENGTHS, TRIAL = (600.0, 300.0), 120.0  # processor seconds of a rival's training
NEARLY = 1.05  # times the best distance: the rival was there already
BATCH, DROP, WARMUP = 32, 0.1, 100
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SAMPLERS = tuple((steps, guidance) for steps in (8, 16) for guidance in (1.0, 2.0))
STEPS = (25, 50, 100, 150, 200, 300, 400, 600, 900, 1200, 1800, 2400, 3600)  # our ladder
TUNED = 600  # our steps in a trial
SEED_OF_TRIALS = 100


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--sets", default=",".join(PER_CLASS))
    asked.add_argument("--rivals", default=",".join(RIVALS))
    asked.add_argument("--match", default="parameters,operations")
    asked.add_argument("--seeds", default="0,1,2")
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--summary", action="store_true")
    given = asked.parse_args()
    if not given.summary:
        torch.set_num_threads(1)
        cells.fill(given.out, todo(given), tell=lambda name, row: " ".join(map(str, name.values())) + f": {row.get('distance', row.get('rate'))}")
    print(summary(cells.read(given.out)))


def todo(given: argparse.Namespace) -> Iterator[cells.Cell]:
    """Tuning before the seeds; ours after the rivals, whose best it must reach."""
    for name in given.sets.split(","):
        yield {"set": name, "who": "ours", "what": "tuning"}, partial(tune_ours, name)
        rivals = [(who, match) for match in given.match.split(",") for who in given.rivals.split(",")]
        for seed in (int(s) for s in given.seeds.split(",")):
            for who, match in rivals:
                cell = {"set": name, "who": who, "match": match}
                yield {**cell, "what": "tuning"}, partial(tune, name, who, match, given.out)
                yield {**cell, "what": "curve", "seed": seed}, partial(curve, name, who, match, seed, given.out)
            for steps in STEPS:
                yield {"set": name, "who": "ours", "what": "fit", "seed": seed, "steps": steps}, partial(ours, name, seed, steps, given.out)


# the task -------------------------------------------------------------------------------------------------------------


@cache
def task(name: str) -> tuple[Pixels, Pixels, np.ndarray]:
    """Images for the fit, images to stop by (only we look at them), and the features of 1,000 fresh ones."""
    real = Real(name)
    n = min(PER_CLASS[name], min(map(len, real.rows)))
    fitted, selection = real.parts(n, 0)
    return fitted, selection, extractor()(real.fresh.x[np.random.default_rng(0).permutation(len(real.fresh.x))[:MADE]])


def asked_for(n_classes: int, count: int = MADE) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % n_classes


def distance(name: str, images: np.ndarray) -> float:
    return round(float(kernel_distance(task(name)[2], extractor()(images)).value), 6)


def clock() -> float:
    return time.process_time()


def best_rate(fit: Callable[[float], tuple[T, float]]) -> tuple[float, T, list[list[float]]]:
    """The learning rate whose images are nearest, what it made, and the distance of each. fit: of a rate, what it makes and how near that is."""
    tried = [(rate, *fit(rate)) for rate in RATES]
    rate, made, _ = min(tried, key=lambda t: t[2])
    return rate, made, [[rate, near] for rate, _, near in tried]


def best_sampler(name: str, draw: Callable[[int, float], tuple[np.ndarray, float]]) -> tuple[list[float], list[list[float]]]:
    """Steps and guidance of the cheapest sampler whose distance is within a tenth of the least; and of each the same, distance and seconds."""
    tried = []
    for steps, guidance in SAMPLERS:
        images, seconds = draw(steps, guidance)
        tried.append([steps, guidance, distance(name, images), round(seconds, 1)])
    least = min(t[2] for t in tried)
    return min((t for t in tried if t[2] <= 1.1 * least), key=lambda t: t[3])[:2], tried


# ours -----------------------------------------------------------------------------------------------------------------


def preset(name: str) -> Diffusion:
    fitted = task(name)[0]
    return replace(Diffusion.default_for(fitted.x.shape[1:], len(fitted.y)), batch=BATCH, drop_class=DROP)


def fit_ours(name: str, kind: Diffusion, seed: int) -> tuple[Path, float, tempfile.TemporaryDirectory[str]]:
    fitted, selection, _ = task(name)
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name) / "fitted"
    place.mkdir()
    started = clock()
    kind.fit(fitted, selection, seed=seed_of("time to quality", name, seed), folder=place, checkpoint=Path(folder.name) / "checkpoint", progress=Silent())
    return place, clock() - started, folder


def draw_ours(name: str, kind: Diffusion, place: Path, seed: int, count: int = MADE) -> tuple[np.ndarray, float]:
    n_classes = task(name)[0].n_classes
    generator, y = kind.load(place), np.repeat(np.arange(n_classes), count // n_classes)
    seeds = np.concatenate([image_seeds(seed, count // n_classes, condition=k) for k in range(n_classes)])
    started = clock()
    images = generator.sample(seeds, y)
    return images, clock() - started


def tune_ours(name: str) -> cells.Row:
    def fit(rate: float) -> tuple[tuple[Diffusion, Path, Any], float]:
        kind = replace(preset(name), steps=TUNED, lr=rate)
        place, _, folder = fit_ours(name, kind, SEED_OF_TRIALS)
        return (kind, place, folder), distance(name, draw_ours(name, kind, place, SEED_OF_TRIALS, TRIED)[0])

    rate, (kind, place, folder), rates = best_rate(fit)

    def draw(steps: int, guidance: float) -> tuple[np.ndarray, float]:
        return draw_ours(name, replace(kind, sample_steps=steps, guidance=guidance), place, SEED_OF_TRIALS, TRIED)

    sampler, samplers = best_sampler(name, draw)
    flow = kind.load(place)
    given = torch.zeros(1, flow.packing.planes, flow.packing.rows, flow.packing.columns), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    folder.cleanup()
    return {"set": name, "who": "ours", "what": "tuning", "rate": rate, "sampler": sampler, "rates": rates, "samplers": samplers, **measured(flow.net, given)}


def ours(name: str, seed: int, steps: int, out: Path) -> cells.Row | None:
    """One fit of the ladder; None where two shorter ones in a row are as near as every rival's best of this seed."""
    rows = [row for row in cells.read(out) if row["set"] == name and row.get("seed") == seed]
    goals = [row["distance"] for row in rows if row["what"] == "curve"]
    if not goals or reached(rows, min(goals)) is not None:
        return None
    options = tuned(cells.read(out), name, "ours")
    kind = replace(preset(name), steps=steps, lr=options["rate"], sample_steps=options["sampler"][0], guidance=options["sampler"][1])
    place, fit_seconds, folder = fit_ours(name, kind, seed)
    images, draw_seconds = draw_ours(name, kind, place, seed)
    folder.cleanup()
    return {
        "set": name, "who": "ours", "what": "fit", "seed": seed, "steps": steps, "distance": distance(name, images),
        "train": round(fit_seconds, 1), "draw": round(draw_seconds, 1),
    }  # fmt: skip


def reached(rows: list[cells.Row], goal: float) -> cells.Row | None:
    """Of our fits in these rows the first that is as near as `goal`, and the next one too."""
    fits = sorted((row for row in rows if row["what"] == "fit"), key=lambda row: row["steps"])
    return next((one for one, two in pairwise(fits) if max(one["distance"], two["distance"]) <= goal), None)


def measured(net: nn.Module, given: tuple[Tensor, ...]) -> dict[str, int]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*given)  # of one image
    return {"parameters": sum(p.numel() for p in net.parameters()), "operations": counter.get_total_flops() // 2}


# the rivals -----------------------------------------------------------------------------------------------------------


class Rival(Protocol):
    net: nn.Module  # what is trained

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """x: float32 [n, c, h, w], -1 to 1."""

    def draw(self, net: nn.Module, y: Tensor, steps: int, guidance: float) -> Tensor:
        """float32 [n, c, h, w], -1 to 1."""

    def given(self) -> tuple[Tensor, ...]:
        """What one pass of one image takes."""


class Diffusers:
    """A plain script around UNet2DModel: noise is predicted, the sampler is multistep DPM-Solver."""

    least = 8  # channels, and the step between widths: groups of the norm

    def __init__(self, shape: tuple[int, ...], n_classes: int, width: int) -> None:
        without_torchvision_operators()
        from diffusers import DDPMScheduler, UNet2DModel

        h, w, self.channels = shape
        self.size, self.n_classes = (h, w), n_classes
        depth = 3 if h < 64 else 4
        self.net = UNet2DModel(
            sample_size=(h, w), in_channels=self.channels, out_channels=self.channels, layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
            block_out_channels=tuple(width * (i + 1) for i in range(depth)), down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth, num_class_embeds=n_classes + 1,
        )  # fmt: skip
        self.scheduler = DDPMScheduler(1000)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
        shown = torch.where(torch.rand(len(x)) < DROP, self.n_classes, y)
        return (self.net(self.scheduler.add_noise(x, noise, t), t, class_labels=shown).sample - noise).square().mean()

    def draw(self, net: nn.Module, y: Tensor, steps: int, guidance: float) -> Tensor:
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        x, nobody = torch.randn(len(y), self.channels, *self.size), torch.full_like(y, self.n_classes)
        for t in scheduler.timesteps:
            noise = net(x, t, class_labels=y).sample
            if guidance != 1:
                untold = net(x, t, class_labels=nobody).sample
                noise = untold + guidance * (noise - untold)
            x = scheduler.step(noise, t, x).prev_sample
        return x

    def given(self) -> tuple[Tensor, ...]:
        return torch.zeros(1, self.channels, *self.size), torch.zeros(1), torch.zeros(1, dtype=torch.int64)


class Ddpm:
    """denoising-diffusion-pytorch with its classifier-free guidance: v is predicted, the sampler is DDIM without noise."""

    least = 4

    def __init__(self, shape: tuple[int, ...], n_classes: int, width: int) -> None:
        without_torchvision_operators()
        from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

        h, _, self.channels = shape
        self.size = h
        self.net = Unet(dim=width, dim_mults=(1, 2, 4) if h < 64 else (1, 2, 4, 8), num_classes=n_classes, cond_drop_prob=DROP, channels=self.channels)
        self.make = partial(GaussianDiffusion, image_size=h, timesteps=1000, objective="pred_v", ddim_sampling_eta=0.0)
        self.process = self.make(self.net, sampling_timesteps=SAMPLERS[0][0])

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return self.process(x / 2 + 0.5, classes=y)

    def draw(self, net: nn.Module, y: Tensor, steps: int, guidance: float) -> Tensor:
        if guidance == 1:  # the package's own way to draw without guidance (2.3.4) ends in an error
            net = copy.copy(net)
            net.forward_with_cond_scale = lambda *given, **_: (net(*given, cond_drop_prob=0.0), None)  # type: ignore[assignment]
        return self.make(net, sampling_timesteps=steps).sample(y, cond_scale=guidance) * 2 - 1

    def given(self) -> tuple[Tensor, ...]:
        return torch.zeros(1, self.channels, self.size, self.size), torch.zeros(1), torch.zeros(1, dtype=torch.int64)


RIVALS: dict[str, Callable[[tuple[int, ...], int, int], Rival]] = {"ddpm": Ddpm, "diffusers": Diffusers}


def width_for(name: str, who: str, match: str, goal: int) -> int:
    """The width whose parameters or multiply-adds are nearest to ours, as a ratio; they grow with it."""
    fitted, kind = task(name)[0], RIVALS[who]
    sizes: dict[int, int] = {}
    width = 0
    while not sizes or sizes[width] < goal:
        width += kind.least  # type: ignore[attr-defined]
        rival = kind(fitted.x.shape[1:], fitted.n_classes, width)
        sizes[width] = measured(rival.net, rival.given())[match]
    return min(sizes, key=lambda w: abs(np.log(sizes[w] / goal)))


@dataclass
class Run:
    """A rival in training: its averaged weights follow its own."""

    rival: Rival
    name: str
    rate: float

    def __post_init__(self) -> None:
        fitted = task(self.name)[0]
        self.x = torch.from_numpy(fitted.x).permute(0, 3, 1, 2).contiguous()
        self.y = torch.from_numpy(fitted.y)
        self.average = copy.deepcopy(self.rival.net).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.rival.net.parameters(), lr=self.rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.steps = 0

    def train(self, seconds: float) -> None:
        """For so many processor seconds; the rate falls to zero with them."""
        started = clock()
        while (spent := (clock() - started) / seconds) < 1:
            rows = torch.randint(0, len(self.y), (BATCH,))
            loss = self.rival.loss(self.x[rows].float() / 127.5 - 1, self.y[rows])
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * min((self.steps + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * spent)))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.rival.net.parameters(), 1.0)
            self.optimiser.step()
            decay = min(0.999, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                for mean, now in zip(self.average.parameters(), self.rival.net.parameters(), strict=True):
                    mean.lerp_(now, 1 - decay)
            self.steps += 1

    @torch.no_grad()
    def draw(self, steps: int, guidance: float, count: int = MADE) -> tuple[np.ndarray, float]:
        y = torch.from_numpy(asked_for(task(self.name)[0].n_classes, count))
        started = clock()
        parts = [self.rival.draw(self.average, some, steps, guidance) for some in y.split(BATCH)]
        images = ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        return images, clock() - started


def begin(name: str, who: str, width: int, seed: int, rate: float) -> Run:
    torch.manual_seed(seed_of("time to quality", name, who, width, seed))
    fitted = task(name)[0]
    return Run(RIVALS[who](fitted.x.shape[1:], fitted.n_classes, width), name, rate)


def tune(name: str, who: str, match: str, out: Path) -> cells.Row:
    rows = cells.read(out)
    width = width_for(name, who, match, tuned(rows, name, "ours")[match])
    if same := [r for r in rows if r["what"] == "tuning" and (r["set"], r["who"], r.get("width")) == (name, who, width)]:
        return same[0] | {"match": match}

    def fit(rate: float) -> tuple[Run, float]:
        run = begin(name, who, width, SEED_OF_TRIALS, rate)
        run.train(TRIAL)
        return run, distance(name, run.draw(*SAMPLERS[0], TRIED)[0])

    rate, run, rates = best_rate(fit)
    size = measured(run.rival.net, run.rival.given())
    return {"set": name, "who": who, "match": match, "what": "tuning", "rate": rate, "rates": rates, "width": width, **size}


def tuned(rows: list[cells.Row], name: str, who: str, match: str | None = None) -> cells.Row:
    return next(r for r in rows if r["what"] == "tuning" and (r["set"], r["who"], r.get("match")) == (name, who, match))


def curve(name: str, who: str, match: str, seed: int, out: Path) -> cells.Row:
    rows = cells.read(out)
    row = tuned(rows, name, who, match)
    for other in (r for r in rows if r["what"] == "curve" and (r["set"], r["who"], r["seed"]) == (name, who, seed)):
        if tuned(rows, name, who, other["match"])["width"] == row["width"]:
            return other | {"match": match}  # one network is the nearest in both ways
    points: list[cells.Row] = []
    sampler: list[Any] = []
    samplers: list[list[float]] = []
    for length in LENGTHS:
        run = begin(name, who, row["width"], seed, row["rate"])
        run.train(length)
        if not sampler:
            sampler, samplers = best_sampler(name, partial(run.draw, count=TRIED))
        images, seconds = run.draw(*sampler)
        points.append({"steps": run.steps, "train": length, "draw": round(seconds, 1), "distance": distance(name, images)})
    best = min(point["distance"] for point in points)
    return {
        "set": name, "who": who, "match": match, "what": "curve", "seed": seed, "distance": best, "sampler": sampler, "samplers": samplers, "points": points,
    }  # fmt: skip


# what it says ---------------------------------------------------------------------------------------------------------


def summary(rows: list[cells.Row]) -> str:
    lines = [
        "| Set | Rival | As many | Parameters, ours | Multiply-adds, ours | Rival's best | After, s | Ours, s | Ratio, median (range) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    sizes = {(r["set"], r["who"], r.get("match")): r for r in rows if r["what"] == "tuning"}
    for (name, who, match), size in sizes.items():
        if who == "ours":
            continue
        curves = [r for r in rows if r["what"] == "curve" and (r["set"], r["who"], r["match"]) == (name, who, match)]
        found = [told for told in (against(rows, r) for r in curves) if told is not None]
        if not found:
            continue
        own = sizes[name, "ours", None]
        best, theirs, us = (statistics.median(f[i] for f in found) for i in range(3))
        ratios = sorted(f[1] / f[2] for f in found)
        lines.append(
            f"| {name} | {who} | {match} | {size['parameters']:,}, {own['parameters']:,} | {size['operations'] / 1e6:.1f} M, {own['operations'] / 1e6:.1f} M "
            f"| {best:.4f} | {theirs:.0f} | {us:.0f} | {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}; {len(ratios)} seeds) |"
        )
    return "\n".join(lines)


def against(rows: list[cells.Row], curve: cells.Row) -> tuple[float, float, float] | None:
    """The rival's best distance, its seconds until it was nearly there and ours; None where we did not reach it yet."""
    first = min((p for p in curve["points"] if p["distance"] <= NEARLY * curve["distance"]), key=lambda p: p["train"])
    own = reached([r for r in rows if (r["set"], r.get("seed")) == (curve["set"], curve["seed"])], curve["distance"])
    return None if own is None else (curve["distance"], first["train"] + first["draw"], own["train"] + own["draw"])


if __name__ == "__main__":
    main()
