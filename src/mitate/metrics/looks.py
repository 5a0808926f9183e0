"""Looks: named properties of pixels (lightness, chroma, sharpness, ...), and how far two sets are apart in each.

A *gap* is the difference of the means over images, a *spread* the ratio of the deviations. The *early Frechet* distance compares an early layer
of a network instead, which sees colour and texture and no objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mitate.metrics.frechet import frechet
from mitate.metrics.intervals import Interval, quantile_t
from mitate.score import Metric

BLOCK = 256  # images at a time
SIDE = 8  # pixels; a smaller image has no spectrum to speak of
RINGS = 16  # of spatial frequency
QUIET = 1e-2  # squared lightness, added before a logarithm: about the rounding of 8 bits


@dataclass(frozen=True)
class Look:
    """A property of one image's pixels."""

    name: str
    unit: str
    what: str
    colour: bool = False  # asked of colour images only


LOOKS = (
    Look("lightness", "L*, 0 to 100", "mean lightness"),
    Look("contrast", "L*", "deviation of lightness within the image"),
    Look("redness", "a*", "mean of a*, green to red", colour=True),
    Look("yellowness", "b*", "mean of b*, blue to yellow", colour=True),
    Look("chroma", "C*", "mean chroma", colour=True),
    Look("chroma_contrast", "C*", "deviation of chroma within the image", colour=True),
    Look("sharpness", "decades", "log10 of the mean squared Laplacian of lightness"),
    Look("spectrum_slope", "decades a decade", "slope of log10 power against log10 spatial frequency, of lightness; about -2 for photographs, 0 for noise"),
)
BY_JACKKNIFE = "delete-one jackknife over images or groups of both sets, Student's t with Welch's degrees of freedom"
GAPS = {
    look.name: Metric(f"{look.name}_gap", "style", "neither", 10, BY_JACKKNIFE, f"{look.what} ({look.unit}): synthetic minus real; 0 is no gap")
    for look in LOOKS
}
SPREADS = {
    look.name: Metric(
        f"{look.name}_spread",
        "style",
        "neither",
        10,
        BY_JACKKNIFE + ", of the logarithm",
        f"{look.what}: deviation over images, synthetic over real; 1 is as wide",
    )
    for look in LOOKS
}


@dataclass(frozen=True)
class Gap:
    """How far two sets are apart in one look."""

    look: Look
    real: float  # mean over images
    fake: float
    gap: Interval  # synthetic minus real, in the look's unit
    spread: Interval | None  # deviation over images, synthetic over real; None where all images of a set are alike
    in_deviations: float | None  # the gap over the deviation of the real images; None where they are all alike


def looks(x: np.ndarray) -> dict[str, np.ndarray]:
    """The looks of each image: float64 [n] by name. x: uint8 [n, h, w, 1 or 3], sRGB, 8 pixels a side or more.

    Lightness and chroma are CIELAB's (D65). Grey images have no chroma: its looks are left out. Sizes matter: a set that was
    resized differently has another sharpness, so both sets must come from one resize filter.
    """
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3) or min(x.shape[1:3]) < SIDE:
        raise ValueError(f"pixels are {x.dtype} {list(x.shape)}; fix: give uint8 [images, height, width, 1 or 3] of {SIDE} pixels or more")
    parts = [_looks(x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def gaps(
    real: dict[str, np.ndarray],
    fake: dict[str, np.ndarray],
    *,
    groups: np.ndarray | None = None,
    fake_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> dict[str, Gap]:
    """The gap in each look that both sets have. real, fake: what `looks` says of each set; groups [n], fake_groups [m]: images that vary together.

    Each interval stands for itself: of eight looks with no gap, one in three sets has one whose 95 % interval leaves 0 out. The floor is
    `gaps` of the real and the held-out images. Raises ValueError below 10 images or groups on a side.
    """
    found = {}
    for look in LOOKS:
        if look.name not in real or look.name not in fake:
            continue
        a, b = _Jackknife.of("real", real[look.name], groups), _Jackknife.of("synthetic", fake[look.name], fake_groups)
        gap = _difference(a.mean, b.mean, b.n, confidence)
        spread = None
        if a.deviation > 0 and b.deviation > 0:
            log = _difference(a.log_deviation, b.log_deviation, b.n, confidence)
            spread = Interval(math.exp(log.value), math.exp(log.low), math.exp(log.high), b.n)
        found[look.name] = Gap(look, a.mean.value, b.mean.value, gap, spread, gap.value / a.deviation if a.deviation > 0 else None)
    return found


def _looks(x: np.ndarray) -> dict[str, np.ndarray]:
    lab = _lab(x)
    light = lab[..., 0]
    found = {"lightness": light.mean(axis=(1, 2)), "contrast": light.std(axis=(1, 2))}
    if x.shape[3] == 3:
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        found |= {"redness": lab[..., 1].mean(axis=(1, 2)), "yellowness": lab[..., 2].mean(axis=(1, 2))}
        found |= {"chroma": chroma.mean(axis=(1, 2)), "chroma_contrast": chroma.std(axis=(1, 2))}
    bend = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:] - 4 * light[:, 1:-1, 1:-1]
    return found | {"sharpness": np.log10((bend**2).mean(axis=(1, 2)) + QUIET), "spectrum_slope": _slope(light)}


def _lab(x: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB pixels (IEC 61966-2-1, CIE 15), white D65; of one channel, lightness alone. float64 [n, h, w, 1 or 3]."""
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)[x]
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    white = to_xyz.sum(axis=1)
    xyz = linear @ (to_xyz / white[:, None]).T if x.shape[3] == 3 else linear
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    if x.shape[3] == 1:
        return 116 * f - 16
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _slope(light: np.ndarray) -> np.ndarray:
    """Least-squares slope of log10 power over log10 frequency, up to half a cycle a pixel, each ring once; borders faded out. float64 [n]."""
    h, w = light.shape[1:]
    window = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1])
    waves = np.fft.rfft2((light - light.mean(axis=(1, 2), keepdims=True)) * window, axes=(1, 2))
    power = (np.abs(waves) ** 2 / (window**2).sum()).reshape(len(light), -1)
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]).reshape(-1)
    twice = np.broadcast_to(np.where(np.arange(w // 2 + 1) * 2 % w == 0, 1.0, 2.0), (h, w // 2 + 1)).reshape(-1)  # its mirror image is not listed
    least = 2 / min(h, w)  # the window blurs what is slower
    edges = np.geomspace(least, 0.5, RINGS + 1)
    edges[-1] += 1e-9
    x, y = [], []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        ring = np.flatnonzero((radius >= low) & (radius < high))
        if len(ring):
            share = twice[ring] / twice[ring].sum()
            x.append(float(share @ np.log10(radius[ring])))
            y.append(np.log10(power[:, ring] @ share + QUIET))
    across = np.array(x) - np.mean(x)
    return across @ np.array(y) / (across @ across)


@dataclass(frozen=True)
class _Estimate:
    value: float
    variance: float
    df: float


@dataclass(frozen=True)
class _Jackknife:
    """Mean and log deviation of numbers [n], each with its variance by leaving out one image or group at a time."""

    n: int
    deviation: float
    mean: _Estimate
    log_deviation: _Estimate

    @classmethod
    def of(cls, which: str, numbers: np.ndarray, groups: np.ndarray | None) -> _Jackknife:
        n = len(numbers)
        members = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        counts = np.bincount(members)
        if len(counts) < 10:
            raise ValueError(f"needs 10 {which} images or groups, has {len(counts)}; fix: give more")
        apart = numbers - numbers.mean()
        first, second = np.bincount(members, weights=apart), np.bincount(members, weights=apart**2)
        rest = n - counts
        means = -first / rest
        deviation = math.sqrt(second.sum() / (n - 1))
        squares = np.maximum(second.sum() - second - rest * means**2, 0.0) / np.maximum(rest - 1, 1)
        if not deviation > 1e-9 * max(1.0, abs(float(numbers.mean()))) or not squares.all():
            return cls(n, 0.0 if deviation < 1e-9 else deviation, cls._estimate(float(numbers.mean()), means), _Estimate(0.0, math.inf, 1.0))
        return cls(n, deviation, cls._estimate(float(numbers.mean()), means), cls._estimate(math.log(deviation), 0.5 * np.log(squares)))

    @staticmethod
    def _estimate(value: float, without: np.ndarray) -> _Estimate:
        return _Estimate(value, (len(without) - 1) * float(without.var()), len(without) - 1.0)


def _difference(a: _Estimate, b: _Estimate, n: int, confidence: float) -> Interval:
    """b - a, with Welch's degrees of freedom."""
    value, variance = b.value - a.value, a.variance + b.variance
    df = variance**2 / (a.variance**2 / a.df + b.variance**2 / b.df) if variance > 0 else a.df + b.df
    half = quantile_t(0.5 + confidence / 2, df) * math.sqrt(variance)
    return Interval(value, value - half, value + half, n, se_images=math.sqrt(variance), df_images=df)


# early layer ----------------------------------------------------------------------------------------------------------

EARLY_FRECHET = Metric("early_frechet", "style", "lower", 10, "none: biased upward by about 1 / n; compare at equal n", "Heusel et al. 2017, eq. 6")


def channel_statistics(maps: np.ndarray) -> np.ndarray:
    """Mean and deviation of each channel over the places of an image: float64 [n, 2 c] of activations [n, c, h, w].

    What style transfer takes for style (Huang and Belongie 2017): it keeps colour and texture and forgets where things are.
    """
    if maps.ndim != 4 or maps.shape[2] * maps.shape[3] < 2:
        raise ValueError(f"activations have shape {list(maps.shape)}; fix: give [images, channels, height, width] of an early layer")
    flat = maps.reshape(*maps.shape[:2], -1)
    return np.concatenate([flat.mean(axis=2, dtype=np.float64), flat.std(axis=2, dtype=np.float64)], axis=1)


def early_frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """Frechet distance on an early layer, 0 or more. real, fake: activations [n, c, h, w] of one layer, or features [n, d] made of them.

    Of activations, `channel_statistics` are compared. Biased upward at small n: compare at equal n.
    """
    return frechet(*(channel_statistics(x) if x.ndim == 4 else x for x in (real, fake)))
