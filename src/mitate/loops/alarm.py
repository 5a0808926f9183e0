"""The early alarm: rings when a loop's indicators leave what loops that do not recurse do, rarely wrongly, and says where to roll back to.

monitor = Monitor.calibrated(null_runs, rate=0.05)      null_runs: indicators, a mapping a generation, of loops retrained from scratch on new real pairs
state = monitor.update({"variance": 1.02, "tail": 0.4}) after each generation of one's own loop
if state.name == STOP: roll back to state.roll_back_to

Every indicator is taken relative to generation 1. Of a null run the values v of generations are independent with covariance S, so with weight L the averages

    e_t = L (v_t - v_1) + (1 - L) e_{t-1},  e_1 = 0         have covariance c_t S
    c_t = L^2 (1 - (1 - L)^(2 (t - 1))) / (1 - (1 - L)^2) + (1 - (1 - L)^(t - 1))^2

(EWMA, Roberts 1959; the second term is generation 1's own chance, which every later difference holds). Two statistics are watched: the largest
|e_t| / sqrt(c_t S_jj) of any indicator, and jointly the root of e' S^-1 e / c_t (Hotelling; as MEWMA of Lowry et al. 1992). Of each run the largest values in
all its looks are put on one scale, that of independent normal values, and the larger of the two is the run's number. The limit is an order statistic of the
null runs' numbers: the false-alarm rate is one of whole runs (chains), not of looks, and rests on no distribution. Covariances for a null run's own statistics
come from the other null runs (ten parts), so limits are not too low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mitate.errors import SettingError
from mitate.runtime import seed_of

OK, WATCH, STOP = "OK", "WATCH", "STOP"
WEIGHT = 0.3  # of the newest generation
PARTS = 10  # that null runs are cut into, so that none is judged by its own moments
STILL = 1e-12  # spread below which an indicator counts as one that never moves
LARGEST = 1e100  # of an indicator: squares of such, and sums of them, are numbers
Run = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class State:
    """What the alarm says of a generation. roll_back_to: the last generation before it began to leave; None where there is nothing to undo.

    largest, joint: the two statistics over their limits, so that 1 is the limit. beyond: more looks than the rate was stated for.
    """

    name: str
    generation: int
    reasons: tuple[str, ...] = ()
    roll_back_to: int | None = None
    largest: float = 0.0
    joint: float = 0.0
    beyond: bool = False


@dataclass
class Monitor:
    """An alarm with its limits. `update` takes a generation's indicators; `fresh` gives the same alarm for another run.

    names: indicators that are watched; still: those that null runs never moved. limits, watch: of (largest, joint) for STOP and WATCH. lows: limits of the
    user's own, such as {"tail": 0.3}, below which it is STOP at once; they are outside the stated rate.
    """

    names: tuple[str, ...]
    still: tuple[str, ...]
    spread: np.ndarray  # [k], standard deviations of null generations
    whiten: np.ndarray  # [r, k], rows that take e to independent units of variance 1
    limits: tuple[float, float]
    watch: tuple[float, float]
    rate: float
    watch_rate: float
    looks: int
    runs: int
    weight: float = WEIGHT
    lows: Mapping[str, float] = field(default_factory=dict)
    first: dict[str, float] | None = None
    states: list[State] = field(default_factory=list)
    average: np.ndarray | None = None

    @classmethod
    def calibrated(
        cls, null_runs: Sequence[Run], *, rate: float = 0.05, watch: float | None = None, weight: float = WEIGHT, names: Sequence[str] | None = None,
        lows: Mapping[str, float] | None = None, looks: int | None = None, resamples: int = 0, seed: int = 0,
    ) -> Monitor:  # fmt: skip
        """A monitor whose runs of as many looks as null runs ring falsely with a chance of at most `rate`. At least 1 / rate - 1 null runs are needed.

        watch: rate of WATCH in a run; four times that of STOP where not given. names: indicators to use; all that every null generation has where not given.
        resamples: draw so many runs of `looks` generations from the null generations instead, for more looks or from few null runs; right only where null
        generations of one run are as independent as those of two (no pool of prompts or images that a run keeps), and as good as the generations are many.
        """
        watch = min(0.5, 4 * rate) if watch is None else watch
        if not 0 < rate <= watch < 1 or not 0 < weight <= 1:
            raise SettingError(f"rate={rate:g}, watch={watch:g}, weight={weight:g} cannot be.", fix="give 0 < rate <= watch < 1 and 0 < weight <= 1")
        values, known = _table(null_runs, names)
        if resamples:
            flat, size = values.reshape(-1, values.shape[2]), looks or values.shape[1]
            if len(flat) < size:
                raise SettingError(f"{len(flat)} null generations cannot make runs of {size}.", fix="give more null runs")
            rng = np.random.default_rng(seed_of("alarm", seed))
            values = flat[np.stack([rng.choice(len(flat), size, replace=False) for _ in range(resamples)])]
        elif looks is not None:
            values = values[:, :looks]
        runs, size = values.shape[:2]
        if size < 2 or (looks is not None and size < looks):
            raise SettingError(f"Null runs of {size} generations do not calibrate {looks or 2} looks.", fix="give longer null runs, or resamples")
        if rate * (runs + 1) < 1:
            raise SettingError(
                f"{runs} null runs cannot show a rate of {rate:g} a run.", fix=f"give {math.ceil(1 / rate) - 1} null runs or more, or a larger rate"
            )
        if (largest_seen := float(np.abs(values).max())) > LARGEST:
            raise SettingError(f"An indicator of the null runs is {largest_seen:.3g}.", fix=f"watch indicators of at most {LARGEST:g}")
        moves = _covariance(values).diagonal() > STILL
        still = tuple(n for n, m in zip(known, moves, strict=True) if not m)
        if not moves.any():
            raise SettingError("No indicator moves in null runs.", fix="watch indicators that real pairs move")
        values = values[:, :, moves]
        covariance = _covariance(values)
        if not len(whiten := _whitening(covariance)):
            raise SettingError("No indicator moves by itself in null runs.", fix="watch indicators that real pairs move")
        largest, joint = _run_maxima(values, weight)
        known_size = {"indicators": values.shape[2], "free": len(whiten), "looks": size}
        return cls(
            names=tuple(n for n, m in zip(known, moves, strict=True) if m), still=still, spread=np.sqrt(covariance.diagonal()), whiten=whiten,
            limits=_limits(largest, joint, rate, **known_size), watch=_limits(largest, joint, watch, **known_size), rate=rate, watch_rate=watch, looks=size,
            runs=runs, weight=weight, lows=dict(lows or {}),
        )  # fmt: skip

    def fresh(self) -> Monitor:
        """The same alarm, before generation 1 of another run."""
        return Monitor.of(self.record)

    def update(self, indicators: Mapping[str, float]) -> State:
        """What the alarm says after this generation. SettingError where an indicator is missing or no number. STOP stays STOP."""
        for name in (*self.names, *self.still):
            if name not in indicators or not math.isfinite(indicators[name]):
                raise SettingError(f"The indicator {name} is missing or no number.", fix=f"give {', '.join(self.names)} after every generation")
        t = len(self.states) + 1
        values = {name: float(v) for name, v in indicators.items()}
        if self.first is None:
            self.first, self.average = values, np.zeros(len(self.names))
        assert self.average is not None
        if t > 1:
            self.average = self.weight * np.array([values[n] - self.first[n] for n in self.names]) + (1 - self.weight) * self.average
        state = self._judged(t, values)
        self.states.append(state)
        return state

    def _judged(self, t: int, values: Mapping[str, float]) -> State:
        assert self.average is not None and self.first is not None
        name, reasons, largest, joint = OK, [], 0.0, 0.0
        if t > 1:
            scale = math.sqrt(_factor(t, self.weight))
            each = self.average / (self.spread * scale)
            together = float(np.sqrt(((self.whiten @ self.average) ** 2).sum())) / scale
            largest, joint = float(np.abs(each).max()) / self.limits[0], together / self.limits[1]
            name = STOP if max(largest, joint) > 1 else WATCH if np.abs(each).max() > self.watch[0] or together > self.watch[1] else OK
            if name != OK:
                far = np.argsort(-np.abs(each))
                told = [j for j in far if abs(each[j]) > (self.limits if name == STOP else self.watch)[0]] or list(far[:2])
                reasons = [f"{self.names[j]} {'up' if each[j] > 0 else 'down'} {abs(each[j]):.1f} sd" for j in told]
                if together > (self.limits if name == STOP else self.watch)[1]:
                    reasons.append(f"all together {together / self.limits[1]:.2f} of the limit")
        for still in self.still:
            if abs(values[still] - self.first[still]) > STILL:
                name = WATCH if name == OK else name
                reasons.append(f"{still} moved, which it never does in null runs")
        for low, limit in self.lows.items():
            if low not in values:
                raise SettingError(f"The indicator {low} has a limit and is missing.", fix="give it after every generation")
            if values[low] < limit:
                name = STOP
                reasons.append(f"{low} {values[low]:.3g} is under its limit {limit:g}")
        before = self.states[-1] if self.states else None
        if before is not None and before.name == STOP:
            return State(STOP, t, tuple(reasons) or ("stopped before",), before.roll_back_to, largest, joint, t > self.looks)
        return State(name, t, tuple(reasons), self._before(t) if name != OK else None, largest, joint, t > self.looks)

    def _before(self, t: int) -> int | None:
        """The last generation that was OK; 1 at least, None where the trouble is in generation 1 itself."""
        good = [s.generation for s in self.states if s.name == OK]
        return max(good) if good else None

    # written down -----------------------------------------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """The alarm as plain values, without what it has seen."""
        return {
            "names": list(self.names), "still": list(self.still), "spread": self.spread.tolist(), "whiten": self.whiten.tolist(), "limits": list(self.limits),
            "watch": list(self.watch), "rate": self.rate, "watch_rate": self.watch_rate, "looks": self.looks, "runs": self.runs, "weight": self.weight,
            "lows": dict(self.lows),
        }  # fmt: skip

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Monitor:
        """The alarm that was written down. SettingError where this is none."""
        try:
            told = dict(record)
            for name in ("names", "still", "limits", "watch"):
                told[name] = tuple(told[name])
            for name in ("spread", "whiten"):
                told[name] = np.array(told[name], dtype=np.float64)
            return cls(**told)
        except (KeyError, TypeError, ValueError) as wrong:
            raise SettingError(f"This is no alarm that was written down ({wrong}).", fix="calibrate it again") from None


def _table(null_runs: Sequence[Run], names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Null runs as float64 [runs, generations, indicators], and the indicators."""
    lengths = {len(run) for run in null_runs}
    if len(lengths) != 1 or not min(lengths):
        raise SettingError(f"Null runs of {sorted(lengths)} generations.", fix="give one or more null runs, all of the same length")
    known = tuple(names) if names is not None else tuple(sorted(set.intersection(*(set(g) for run in null_runs for g in run))))
    try:
        values = np.array([[[float(g[n]) for n in known] for g in run] for run in null_runs], dtype=np.float64)
    except KeyError as wrong:
        raise SettingError(f"A null generation has no indicator {wrong}.", fix="give the same indicators in every null generation") from None
    if not known or not np.isfinite(values).all():
        raise SettingError(
            "Null runs have no indicators in common, or some that are no numbers.", fix="give the same finite indicators in every null generation"
        )
    return values, known


def _covariance(values: np.ndarray) -> np.ndarray:
    """Of a null generation, [k, k], within runs: what a run keeps cancels in its differences."""
    left = (values - values.mean(axis=1, keepdims=True)).reshape(-1, values.shape[2])
    return left.T @ left / (values.shape[0] * (values.shape[1] - 1))


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """Rows W with W S W' = 1 on the directions that move: those whose correlation has an eigenvalue above 1e-6."""
    spread = np.sqrt(covariance.diagonal())
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    keep = values > 1e-6
    return (vectors[:, keep] / np.sqrt(values[keep])).T / spread


def _factor(t: int, weight: float) -> float:
    """c_t: variance of e_t in units of a null generation's."""
    left = (1 - weight) ** (t - 1)
    return weight**2 * (1 - left**2) / (1 - (1 - weight) ** 2) + (1 - left) ** 2


def _run_maxima(values: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """The largest of either statistic in each null run, each by the moments of the other parts; [runs] both."""
    runs, looks, _ = values.shape
    averages = np.zeros_like(values)
    for t in range(1, looks):
        averages[:, t] = weight * (values[:, t] - values[:, 0]) + (1 - weight) * averages[:, t - 1]
    scale = np.sqrt([_factor(t, weight) for t in range(2, looks + 1)])[:, None]
    largest, joint = np.empty(runs), np.empty(runs)
    part = np.arange(runs) % min(PARTS, runs)
    for k in range(part.max() + 1):
        own = part == k
        covariance = _covariance(values[~own] if (~own).any() else values)
        covariance = covariance + np.diag(np.where(covariance.diagonal() > STILL, 0.0, _covariance(values).diagonal()))
        e = averages[own, 1:] / scale
        largest[own] = (np.abs(e) / np.sqrt(covariance.diagonal())).max(axis=(1, 2))
        joint[own] = np.sqrt(((e @ _whitening(covariance).T) ** 2).sum(axis=2)).max(axis=1)
    return largest, joint


def _limits(largest: np.ndarray, joint: np.ndarray, rate: float, *, indicators: int, free: int, looks: int) -> tuple[float, float]:
    """Limits of both statistics at one place of their common scale, beyond which at most (runs + 1) rate - 1 null runs lie in either.

    The scale is fixed before any run is seen, so a new run's number is one of runs + 1 that are alike, and one of the largest (runs + 1) rate of them with a
    chance of at most `rate`, averaged over null runs. free: directions that move.
    """
    allowed = math.floor(rate * (len(largest) + 1) + 1e-9) - 1
    middle, spread = zip(*_scales(indicators, free, looks - 1), strict=True)
    numbers = np.maximum((largest - middle[0]) / spread[0], (joint - middle[1]) / spread[1])
    limit = float(np.sort(numbers)[::-1][allowed])
    return middle[0] + spread[0] * limit, middle[1] + spread[1] * limit


def _scales(indicators: int, free: int, looks: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median, and how far the upper twentieth begins beyond it, of either statistic's largest value, if all of it were independent and normal."""
    from scipy.stats import chi, norm

    found = [(norm.isf(p / (2 * indicators * looks)), chi.isf(p / looks, free)) for p in (0.5, 0.05)]
    return tuple((float(half), float(high - half)) for half, high in zip(*found, strict=True))  # type: ignore[return-value]
