"""One training loop for the lab's models: AdamW, warm-up and cosine, averaged weights, a checkpoint a minute; killed, it comes to the same bytes.

Batch `i` follows from i alone, so nothing but weights and optimiser is kept. Under torchrun every process takes batches of its own (process r of n takes
batch n i + r in step i), gradients are averaged, and the first process writes.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn

EVERY = 60.0  # seconds from checkpoint to checkpoint


def train(
    net: nn.Module, loss: Callable[[int], Tensor], *, steps: int, lr: float, folder: Path, warmup: int = 200, decay: float = 0.999, tell: int = 100,
    start: Path | None = None, anew: bool = False,
) -> nn.Module:  # fmt: skip
    """The averaged net after `steps` steps of all processes. loss(i): of batch i, through `net`. start: averaged weights that `lend` wrote, where there is no
    checkpoint: the steps go on from theirs, the optimiser begins anew. anew: so do the steps."""
    rank, processes = together()
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0 and start is not None and not (folder / "checkpoint.safetensors").exists():
        _borrow(net, start, folder, anew=anew)
    if processes > 1:
        distributed.barrier()  # until what was borrowed is there
    mean = copy.deepcopy(net).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    start, spent = _resume(net, mean, optimiser, folder)
    begun, saved, losses = time.process_time(), time.monotonic(), []
    for step in range(start, steps):
        rate = lr * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate
        value = loss(processes * step + rank)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        if processes > 1:
            _average([p.grad for p in net.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        share = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - share)
        losses.append(value.item())
        if rank:
            continue
        if (step + 1) % tell == 0:
            used = spent + time.process_time() - begun
            line = {"step": step + 1, "loss": round(sum(losses[-tell:]) / len(losses[-tell:]), 5), "cpu_seconds": round(used)}
            print(json.dumps(line), flush=True)
            with open(folder / "losses.jsonl", "a") as out:
                out.write(json.dumps(line) + "\n")
        if time.monotonic() - saved > EVERY or step + 1 == steps:
            _save(net, mean, optimiser, folder, step + 1, spent + time.process_time() - begun)
            saved = time.monotonic()
    return mean


def together() -> tuple[int, int]:
    """Which process this is, and how many there are: those of torchrun, each on a core of its own, or 0 of 1."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[distributed.get_rank() % len(cores)]})
    return distributed.get_rank(), processes


def _average(gradients: list[Tensor]) -> None:
    """Over all processes, in place."""
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


def rows(n: int, batch: int, step: int) -> Tensor:
    """The rows of batch `step`: a fresh order of all n each time round. int64 [batch]."""
    per_round = n // batch
    order = torch.randperm(n, generator=torch.Generator().manual_seed(step // per_round))
    return order[(step % per_round) * batch : (step % per_round + 1) * batch]


def lend(folder: Path, out: Path) -> None:
    """Write the averaged weights of a training's checkpoint as float16, for a day when the rest of it is gone."""
    place = folder / "checkpoint.safetensors"
    with safe_open(place, "pt") as opened:
        about = opened.metadata()
    save_file({k[5:]: v.half() for k, v in load_file(place).items() if k.startswith("mean.")}, out, metadata=about)


def _borrow(net: nn.Module, start: Path, folder: Path, *, anew: bool) -> None:
    with safe_open(start, "pt") as opened:
        about = {**opened.metadata(), **({"step": "0"} if anew else {})}
    net.load_state_dict({k: v.float() for k, v in load_file(start).items()})
    flat = {f"{part}.{k}": v for part in ("net", "mean") for k, v in net.state_dict().items()}
    save_file({k: v.contiguous().clone() for k, v in flat.items()}, folder / "checkpoint.safetensors", metadata=about)


def _save(net: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer, folder: Path, step: int, spent: float) -> None:
    state = optimiser.state_dict()["state"]
    flat = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"mean.{k}": v for k, v in mean.state_dict().items()}
    flat |= {f"adam.{i}.{k}": v.clone() for i, row in state.items() for k, v in row.items()}
    save_file({k: v.contiguous().clone() for k, v in flat.items()}, folder / "checkpoint.tmp", metadata={"step": str(step), "cpu_seconds": str(spent)})
    os.replace(folder / "checkpoint.tmp", folder / "checkpoint.safetensors")


def _resume(net: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    place = folder / "checkpoint.safetensors"
    if not place.exists():
        return 0, 0.0
    flat = load_file(place)
    net.load_state_dict({k[4:]: v for k, v in flat.items() if k.startswith("net.")})
    mean.load_state_dict({k[5:]: v for k, v in flat.items() if k.startswith("mean.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    with safe_open(place, "pt") as opened:
        about = opened.metadata()
    return int(about["step"]), float(about["cpu_seconds"])
