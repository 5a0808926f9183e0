"""One optimisation loop for everything that is trained here: generators and classifiers, alone (`optimise`) or two against each other
(`duel`). It stops early and survives kills.

Chance at step k comes from (seed, k) alone, so a checkpoint holds no random state: model, optimiser, averaged weights, best
weights and the log are enough to go on to the same bytes. Checkpoints are written each minute, by renaming.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mitate.errors import JobError, StoreError
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of
from mitate.settings import parsed

CHECKPOINT_SECONDS = float(os.environ.get("MITATE_CHECKPOINT_SECONDS", "60"))


@dataclass(frozen=True)
class Schedule:
    """How the optimiser moves: AdamW, linear warm-up, then cosine to zero (or constant)."""

    steps: int
    lr: float
    weight_decay: float = 0.0
    warmup: int = 0  # steps
    cosine: bool = True
    clip: float = 1.0  # largest norm of the gradient; 0 for none
    beta1: float = 0.9
    beta2: float = 0.999
    ema: float = 0.0  # decay of the averaged weights; 0 for none

    def rate(self, step: int) -> float:
        """Learning rate of step 0 to steps - 1."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if not self.cosine:
            return self.lr
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class Log:
    """What happened: steps run, the step whose weights were kept, and (step, loss on the selection split) pairs."""

    steps: int = 0
    best_step: int = 0
    best_loss: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    earlier_seconds: float | None = 0.0  # of the steps before the last kill that a checkpoint kept; None where it was kept without its time
    earlier_cpu_seconds: float | None = 0.0  # the same of the processor


def optimise(
    module: nn.Module,
    batch_loss: Callable[[nn.Module, int], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 0,
    patience: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Log:
    """Train `module` in place and return the log.

    batch_loss(module, step): a scalar; the global random state is set from (seed, step) before each call. With `validate`, its
    value (lower is better) is taken every `validate_every` steps on the averaged weights, the best weights are kept, and
    `patience` checks without a new best end the fit. Raises JobError where the loss is not finite.
    """
    player = _Player(module, schedule)

    def turn(step: int) -> None:
        player.descend(batch_loss(module, step), step)

    return _run([player], turn, seed, validate, validate_every, patience, 0, 0.0, checkpoint, progress or Silent())


def duel(
    maker: nn.Module,
    critic: nn.Module,
    *,
    maker_loss: Callable[[nn.Module, nn.Module, int], Tensor],
    critic_loss: Callable[[nn.Module, nn.Module, int], Tensor | None],
    maker_schedule: Schedule,
    critic_schedule: Schedule,
    turns: int = 1,
    seed: int,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 0,
    patience: int = 0,
    lead: int = 0,
    slack: float = 0.0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Log:
    """Train `maker` and `critic` in place, each by a loss of its own, and return the log. Both schedules have the same steps.

    A step is one of the critic, `critic_loss(maker, critic, step)`; after every `turns` of them the maker has one. A loss moves only the network
    it is of. Averaged weights, looks at the selection split, best weights and the early stop are the maker's. Patience does not run in the first
    `lead` steps. With `slack`, the last weights whose look was no more than that share worse than the best are kept. The rest is as in `optimise`.
    """
    if maker_schedule.steps != critic_schedule.steps:
        raise ValueError(f"the maker has {maker_schedule.steps} steps and the critic {critic_schedule.steps}")
    players = [_Player(maker, maker_schedule), _Player(critic, critic_schedule)]

    def turn(step: int) -> None:
        if (loss := critic_loss(maker, critic, step)) is not None:
            players[1].descend(loss, step)
        if (step + 1) % turns == 0:
            players[0].descend(maker_loss(maker, critic, step), step)

    return _run(players, turn, seed, validate, validate_every, patience, lead, slack, checkpoint, progress or Silent())


class _Player:
    """A network that is trained, with its optimiser."""

    def __init__(self, module: nn.Module, schedule: Schedule) -> None:
        self.module, self.schedule = module, schedule
        self.trained = [p for p in module.parameters() if p.requires_grad]
        betas = (schedule.beta1, schedule.beta2)
        self.optimiser = torch.optim.AdamW(self.trained, lr=schedule.lr, betas=betas, weight_decay=schedule.weight_decay)

    def descend(self, loss: Tensor, step: int) -> None:
        """One step down the gradient of `loss`; no other network gets a gradient. JobError where the loss is not finite."""
        if not torch.isfinite(loss):
            raise JobError(f"The loss became {loss.item()} at step {step}.", fix="lower the learning rate")
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward(inputs=self.trained)
        if self.schedule.clip:
            nn.utils.clip_grad_norm_(self.trained, self.schedule.clip)
        self.optimiser.step()


def _run(
    players: list[_Player],
    turn: Callable[[int], None],
    seed: int,
    validate: Callable[[nn.Module], float] | None,
    validate_every: int,
    patience: int,
    lead: int,
    slack: float,
    checkpoint: Path | None,
    progress: Progress,
) -> Log:
    """Every step a `turn`, with chance from (seed, step); weights are averaged, judged and kept of the first player."""
    module, schedule = players[0].module, players[0].schedule
    averaged = copy.deepcopy(module) if schedule.ema else module
    log = Log()
    best: dict[str, Tensor] | None = None
    start, started, started_cpu = 0, time.perf_counter(), time.process_time()
    with torch.random.fork_rng(devices=[]):
        if checkpoint is not None and (state := _restored(checkpoint, players, averaged)) is not None:
            start, log, best = state
        saved = time.monotonic()
        done = _exhausted(log, validate_every, patience, lead)
        for step in range(start, schedule.steps):
            if done:
                break
            torch.manual_seed(seed_of("step", seed, step))
            turn(step)
            if schedule.ema:
                _average(averaged, module, decay=min(schedule.ema, (1 + step) / (10 + step)))
            log.steps = step + 1
            if validate is not None and validate_every and ((step + 1) % validate_every == 0 or step + 1 == schedule.steps):
                best = _check(averaged, validate, log, best, slack)
                done = _exhausted(log, validate_every, patience, lead)
            progress.step(step + 1, schedule.steps)
            if checkpoint is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                spent = _since(log.earlier_seconds, time.perf_counter() - started)
                spent_cpu = _since(log.earlier_cpu_seconds, time.process_time() - started_cpu)
                kept = replace(log, earlier_seconds=spent, earlier_cpu_seconds=spent_cpu)
                _write(checkpoint, players, averaged if schedule.ema else None, best, kept)
                saved = time.monotonic()
    if best is not None:
        module.load_state_dict(best)
    elif schedule.ema:
        module.load_state_dict(averaged.state_dict())
    return log


def _since(earlier: float | None, seconds: float) -> float | None:
    return None if earlier is None else earlier + seconds


def _check(module: nn.Module, validate: Callable[[nn.Module], float], log: Log, best: dict[str, Tensor] | None, slack: float) -> dict[str, Tensor] | None:
    training = module.training
    module.eval()
    with torch.no_grad():
        loss = float(validate(module))
    module.train(training)
    if not math.isfinite(loss):
        raise JobError(f"The loss on the selection split became {loss} at step {log.steps}.", fix="lower the learning rate")
    least = min((seen for _, seen in log.curve), default=math.inf)
    log.curve.append((log.steps, loss))
    if loss < least or (slack and loss <= least + slack * abs(least)):
        log.best_loss, log.best_step = loss, log.steps
        return {k: v.detach().clone() for k, v in module.state_dict().items()}
    return best


def _exhausted(log: Log, every: int, patience: int, lead: int) -> bool:
    return bool(patience and every and log.best_loss is not None and log.steps - max(log.best_step, lead) >= patience * every)


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, *, decay: float) -> None:
    old: list[Tensor] = list(averaged.parameters())
    new: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(old, new, 1 - decay)
    for a, b in zip(averaged.buffers(), module.buffers(), strict=True):
        a.copy_(b)


# checkpoints ----------------------------------------------------------------------------------------------------------


MOMENTS = ("exp_avg", "exp_avg_sq")  # that AdamW keeps of each parameter, beside its steps
PREFIXES = ("", "critic.")  # of the first player's tensors, and of the second's


def _write(folder: Path, players: list[_Player], averaged: nn.Module | None, best: dict[str, Tensor] | None, log: Log) -> None:
    tensors: dict[str, Tensor] = {}
    for prefix, player in zip(PREFIXES, players, strict=False):
        tensors |= {f"{prefix}model.{k}": v for k, v in player.module.state_dict().items()}
        for i, parameter in enumerate(player.trained):
            tensors |= {f"{prefix}optimiser.{i}.{k}": torch.as_tensor(v) for k, v in player.optimiser.state[parameter].items()}
    if averaged is not None:
        tensors |= {f"averaged.{k}": v for k, v in averaged.state_dict().items()}
    if best is not None:
        tensors |= {f"best.{k}": v for k, v in best.items()}
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".fit.{os.getpid()}.tmp"
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, fresh, metadata={"log": json.dumps(asdict(log))})
    os.replace(fresh, folder / "fit.safetensors")


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    path = folder / "fit.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            log = parsed(file.metadata()["log"])
        return load_file(path), dict(log)
    except (OSError, ValueError, TypeError, LookupError, SafetensorError) as wrong:
        raise _damaged(path, wrong) from wrong


def _damaged(path: Path, wrong: Exception) -> StoreError:
    """Checkpoints are renamed into place whole, so a kill leaves none like this: the disk, or somebody, has changed it."""
    told = (str(wrong).strip().splitlines() or [""])[0][:200]
    return StoreError(f"The checkpoint {path} is damaged ({type(wrong).__name__}: {told}).", fix="delete it, and the fit begins anew")


def _restored(folder: Path, players: list[_Player], averaged: nn.Module) -> tuple[int, Log, dict[str, Tensor] | None] | None:
    """Where a fit goes on, of its checkpoint; None where there is none. StoreError for a checkpoint that is none of this fit."""
    if (state := _read(folder)) is None:
        return None
    try:
        return _restore(state, players, averaged)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as wrong:
        raise _damaged(folder / "fit.safetensors", wrong) from wrong


def _restore(state: tuple[dict[str, Tensor], dict[str, object]], players: list[_Player], averaged: nn.Module) -> tuple[int, Log, dict[str, Tensor] | None]:
    tensors, facts = state

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    for prefix, player in zip(PREFIXES, players, strict=False):
        player.module.load_state_dict(part(f"{prefix}model."))
        for i, parameter in enumerate(player.trained):
            if slots := part(f"{prefix}optimiser.{i}."):
                if slots.keys() != {"step", *MOMENTS} or any((slots[m].shape, slots[m].dtype) != (parameter.shape, parameter.dtype) for m in MOMENTS):
                    raise ValueError(f"its optimiser holds {', '.join(sorted(slots))} of parameter {i}")
                player.optimiser.state[parameter] = slots
    if averaged is not players[0].module:
        averaged.load_state_dict(part("averaged."))
    # an earlier version kept no time
    log = Log(**{"earlier_seconds": None, "earlier_cpu_seconds": None, **facts})  # type: ignore[arg-type]
    log.curve = [(int(s), float(v)) for s, v in log.curve]
    numbers = [v for v in (log.earlier_seconds, log.earlier_cpu_seconds, log.best_loss) if v is not None]
    counts = log.steps, log.best_step
    if not (all(type(n) is int for n in counts) and 0 < log.steps <= players[0].schedule.steps and all(isinstance(v, float | int) for v in numbers)):
        raise ValueError(f"it says that {log.steps} of {players[0].schedule.steps} steps were done")
    best = part("best.")
    if best and {k: v.shape for k, v in best.items()} != {k: v.shape for k, v in players[0].module.state_dict().items()}:
        raise ValueError("its best weights are those of another network")
    return log.steps, log, best or None
