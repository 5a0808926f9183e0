"""Efficiency: how fast a fitted generator draws, what one image takes, and how large it is. Of this machine, one thread, as it was then.

Every number is of the generator's own work: warm-up first, then whole batches, then single images. A machine shared with others is
slower than it could be, so the spread over batches stands beside the mean, and ratios of two generators timed in one run say more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mitate.metrics.intervals import Interval, quantile_t
from mitate.score import Metric

BATCH = 64  # images
BATCHES, SINGLES = 5, 20
RESUMED = "its fit was resumed, and the time of earlier parts was not kept"

OVER_BATCHES = "Student's t over batches of 64, after one to warm up"
IMAGES_PER_SECOND = Metric("images_per_second", "efficiency", "higher", BATCH, OVER_BATCHES, "wall clock of one thread")
USEFUL_PER_SECOND = Metric(
    "useful_per_second", "efficiency", "higher", BATCH, "none", "images a second times the share that lies among real ones and is no copy"
)
LATENCY = Metric("latency_p50", "efficiency", "lower", SINGLES, "none: a median of twenty", "seconds from asking for one image to having it")
LATENCY_TAIL = Metric("latency_p95", "efficiency", "lower", SINGLES, "none", "the same, nineteen times in twenty")
EVALUATIONS = Metric("evaluations", "efficiency", "lower", 1, "exact", "times an image passes through the network, counted; guidance counts twice")
TRAINING = Metric("training_seconds", "efficiency", "lower", 1, "none: one fit", "of the fit that made it")
PARAMETERS = Metric("parameters", "efficiency", "lower", 1, "exact", "numbers in its weights files")
MEMORY = Metric("peak_memory", "efficiency", "lower", 1, "none", "bytes that drawing a batch added to the process's peak")


@dataclass(frozen=True)
class Pace:
    """images_per_second over batches, and of a second that the process had of a processor; latencies in seconds."""

    images_per_second: Interval
    images_per_cpu_second: float
    latency_p50: float
    latency_p95: float


def pace(draw: Callable[[int], object], *, clock: Callable[[], float] = time.perf_counter, confidence: float = 0.95) -> Pace:
    """How fast `draw(n)` makes n images. It is called 5 times with 64 and 20 times with 1, in this order, after one call to warm up."""
    draw(BATCH)
    started = time.process_time()
    rates = np.array([BATCH / _seconds(draw, BATCH, clock) for _ in range(BATCHES)])
    cpu = time.process_time() - started
    singles = np.array([_seconds(draw, 1, clock) for _ in range(SINGLES)])
    half = quantile_t(0.5 + confidence / 2, BATCHES - 1) * float(rates.std(ddof=1)) / math.sqrt(BATCHES)
    value = float(rates.mean())
    p50, p95 = np.quantile(singles, [0.5, 0.95])
    busy = BATCH * BATCHES / cpu if cpu > 0 else value  # some systems tell the processor's time in steps of 16 ms only
    return Pace(Interval(value, max(0.0, value - half), value + half, BATCH * BATCHES), busy, float(p50), float(p95))


def _seconds(draw: Callable[[int], object], n: int, clock: Callable[[], float]) -> float:
    started = clock()
    draw(n)
    return max(clock() - started, 1e-9)
