"""What training with noise spends: Renyi differential privacy of the Poisson-subsampled Gaussian, and the noise that keeps a promise.

Each step every image takes part with probability `rate`, gradients have a norm of at most 1, and a normal of deviation `noise` is
added. Neighbouring data sets differ by one image added or removed. Renyi divergences of single steps add up (Mironov 2017), and
turn into (epsilon, delta) at the order that suits best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from mitate.errors import SettingError

NAME, VERSION = "Renyi divergence of the Poisson-subsampled Gaussian", 1
ORDERS = (*(1 + i / 10 for i in range(1, 100)), *map(float, range(11, 64)), *(64.0 * 2 ** (i / 4) for i in range(17)))  # 1.1 to 1,024
LEAST_NOISE, MOST_NOISE = 0.2, 1e5
REACH = 14.0  # standard deviations of the normal that count: what is left out is below 1e-40


@dataclass(frozen=True)
class Part:
    """So many steps of one kind: the chance of an image to take part (0 to 1), and the standard deviation of the noise over the clipping norm."""

    rate: float
    noise: float
    steps: int = 1


@dataclass(frozen=True)
class Spent:
    """An (epsilon, delta) guarantee and the Renyi order that gave it."""

    epsilon: float
    delta: float
    order: float


def spent(*parts: Part, delta: float, orders: tuple[float, ...] = ORDERS) -> Spent:
    """The least epsilon that the Renyi divergences of `orders` prove for all `parts` together. delta: above 0, below 1.

    Canonne, Kamath & Steinke 2020, proposition 12, from Renyi to (epsilon, delta). An upper bound: the tightest one (from the whole distribution of
    the privacy loss) is some percent lower.
    """
    alpha = np.asarray(orders)
    whole = np.sum([part.steps * divergences(rate=part.rate, noise=part.noise, orders=orders) for part in parts], axis=0)
    epsilons = whole + np.log1p(-1 / alpha) - (math.log(delta) + np.log(alpha)) / (alpha - 1)
    best = int(np.argmin(epsilons))
    return Spent(max(0.0, float(epsilons[best])), delta, float(alpha[best]))


@cache
def noise_for(epsilon: float, *, rate: float, steps: int, delta: float, beside: tuple[Part, ...] = ()) -> float:
    """The noise with which `steps` steps and what is `beside` them spend at most `epsilon`, and hardly less: by bisection, on the safe side.

    Within 1 part in 10,000. Never below 0.2, which spends less than a large epsilon asks for. SettingError where no noise is enough.
    """

    def enough(noise: float) -> bool:
        return spent(Part(rate, noise, steps), *beside, delta=delta).epsilon <= epsilon

    if enough(LEAST_NOISE):
        return LEAST_NOISE
    low, high = LEAST_NOISE, 1.0
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise SettingError(f"No noise keeps epsilon = {epsilon:g} with delta = {delta:g} over {steps} steps.", fix="allow a larger epsilon or delta")
    while high > low * (1 + 1e-4):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def divergences(*, rate: float, noise: float, orders: tuple[float, ...] = ORDERS) -> np.ndarray:
    """Renyi divergence of one step at each order above 1, float64 [orders].

    Mironov, Talwar & Zhang 2019: log A / (order - 1) with A the mean over z ~ N(0, noise^2) of (1 - rate + rate exp((2 z - 1) / (2 noise^2)))^order
    (section 3; theorem 5 there: the other direction is never larger). Whole and fractional orders alike by the trapezoid rule, whose
    error falls exponentially for such a function: far below 1e-9 relative at this spacing.
    """
    return np.array([_log_moment(rate, noise, order) / (order - 1) for order in orders])


def _log_moment(rate: float, noise: float, order: float) -> float:
    if rate == 0:
        return 0.0
    spacing = min(noise, noise**2) / 4  # the nearest zero of the base lies pi noise^2 off the real line: an error of about exp(-8 pi^2)
    z = np.arange(-REACH * noise, order + REACH * noise + spacing, spacing)  # what the order adds moves the peak to z = order at most
    likelihood = (2 * z - 1) / (2 * noise**2)
    base = np.logaddexp(np.log1p(-rate) if rate < 1 else -np.inf, np.log(rate) + likelihood)
    near = likelihood < 1  # where the base is close to 1 its logarithm keeps its digits this way
    base[near] = np.log1p(rate * np.expm1(likelihood[near])) if rate < 1 else likelihood[near]
    weight = -0.5 * (z / noise) ** 2 - math.log(noise * math.sqrt(2 * math.pi)) + math.log(spacing)
    exponent = weight + order * base
    top = float(exponent.max())
    log_moment = top + math.log(float(np.exp(exponent - top).sum()))
    if log_moment > 1e-2:
        return log_moment
    # A - 1 is tiny: the mean of base^order - 1 - order (base - 1), whose last part has mean 0, keeps the digits that A loses.
    beyond = np.exp(weight) * (np.expm1(order * base) - order * np.expm1(base))
    return math.log1p(float(beyond.sum()))
