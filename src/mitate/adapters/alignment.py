"""Image-space alignment: give synthetic images the colour, contrast, sharpness and grain of the real ones.

Three maps, each fitted once and then applied to every image by itself: (1) the linear colour map between the two colour Gaussians
(Monge-Kantorovich; Pitie & Kokaram 2007), (2) a gain for each ring of spatial frequency, from the ratio of the two radial power
spectra, and grain where the synthetic images have too little left to raise, (3) a curve for each channel that matches histograms.
Every difference is shrunk by how well it is known (its spread over groups of images), so that sets which agree stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from mitate.adapter import Adapter
from mitate.errors import DataError, SettingError
from mitate.runtime import seed_of

GROUPS = 8  # of images, to see how well a difference is known
RINGS = 24  # of spatial frequency, from 0 to half a cycle a pixel along an axis; corners are in the last
LEVELS = 6  # of local brightness, grain has its own strength at each


@dataclass(frozen=True)
class Alignment:
    """Settings of the alignment. Each strength is from 0 (leave as it is) to 1 (whole difference removed)."""

    version: ClassVar[int] = 1

    colour: float = 1.0  # mean and covariance of the channels, then the histogram of each
    spectrum: float = 1.0  # sharpness: gain of each ring of frequency
    grain: float = 1.0  # noise where a gain may not reach
    largest_gain: float = 2.5  # of a ring, above 1; the smallest is its inverse

    def __post_init__(self) -> None:
        if not all(0 <= v <= 1 for v in (self.colour, self.spectrum, self.grain)) or self.largest_gain < 1:
            raise SettingError("Alignment settings are out of range.", fix="give strengths from 0 to 1 and a largest gain of 1 or more")

    def fit(self, real: np.ndarray, synthetic: np.ndarray, *, base: str = "", parents: tuple[str, ...] = ()) -> Adapter:
        """The maps fitted on uint8 [n, h, w, c] real and [m, h, w, c] synthetic pixels. base: digest of the synthetic set."""
        if min(len(real), len(synthetic)) < 2 or real.shape[1:] != synthetic.shape[1:]:
            message = f"Alignment got real pixels {list(real.shape)} and synthetic pixels {list(synthetic.shape)}."
            raise DataError(message, fix="give at least two images of each, of one size and channel count")
        maps = _Maps.none(real.shape[-1])
        x = synthetic.astype(np.float64)
        target = real.astype(np.float64)
        maps.matrix, maps.shift = _colour_map(x, target, self.colour)
        for _ in range(2):  # the curve changes the spectrum and the spectrum the histogram: twice is enough
            toned = maps.coloured(x)
            maps.gain = _gain(toned, target, self)
            filtered = _filter(toned, maps.gain)
            maps.grain = _grain(filtered, target, self.grain)
            grained = _add_grain(filtered, maps.grain, synthetic)
            maps.curve = _curve(grained, target, self.colour)
        tensors = {k: np.ascontiguousarray(v, dtype=np.float64) for k, v in asdict(maps).items()}
        return Adapter("alignment", base, tensors, asdict(self), parents)


class Aligned:
    """A fitted alignment: a pure map of one image to one image."""

    def __init__(self, adapter: Adapter) -> None:
        self._maps = _Maps(**adapter.tensors)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """uint8 [n, h, w, c] to uint8 [n, h, w, c]; image i of the result depends on image i alone."""
        return self._maps.apply(x)


def gaps(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """How far two uint8 sets [n, h, w, c] are apart: root mean square difference of

    `colour`: channel means and deviations (grey levels), `histogram`: quantiles of each channel (grey levels),
    `spectrum`: log10 of the radial power spectra.
    """
    a, b = x.astype(np.float64), y.astype(np.float64)
    moments = [np.concatenate([v.mean(axis=(0, 1, 2)), v.std(axis=(0, 1, 2))]) for v in (a, b)]
    tables = [_quantiles(v) for v in (a, b)]
    rings = [np.log10(_power(v).mean(axis=0)) for v in (a, b)]
    return {name: float(np.sqrt(np.mean((p - q) ** 2))) for name, (p, q) in (("colour", moments), ("histogram", tables), ("spectrum", rings))}


@dataclass
class _Maps:
    matrix: np.ndarray  # [c, c]
    shift: np.ndarray  # [c]
    gain: np.ndarray  # [rings, c]
    grain: np.ndarray  # [levels, c], standard deviation in grey levels
    curve: np.ndarray  # [256, c], grey levels out for grey levels in

    @classmethod
    def none(cls, channels: int) -> _Maps:
        """Maps that change nothing."""
        ramp = np.repeat(np.arange(256.0)[:, None], channels, axis=1)
        return cls(np.eye(channels), np.zeros(channels), np.ones((RINGS, channels)), np.zeros((LEVELS, channels)), ramp)

    def coloured(self, x: np.ndarray) -> np.ndarray:
        return np.clip(np.einsum("nhwc,dc->nhwd", x, self.matrix) + self.shift, 0, 255)

    def apply(self, x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for i in range(len(x)):  # one by one: a sum over images would be another sum for another number of them
            image = x[i : i + 1]
            toned = _filter(self.coloured(image.astype(np.float64)), self.gain)
            toned = _toned(_add_grain(toned, self.grain, image), self.curve)
            out[i] = np.clip(np.rint(toned[0]), 0, 255).astype(np.uint8)
        return out


# colour ---------------------------------------------------------------------------------------------------------------


def _colour_map(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrix [c, c] and shift [c] from the colours of x to those of y."""

    def moments(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(-1, images.shape[-1])
        return np.concatenate([flat.mean(axis=0), np.cov(flat, rowvar=False).reshape(-1)])

    c = x.shape[-1]
    have = moments(x)
    want = have + strength * _known(moments, x, y)
    a, b = have[c:].reshape(c, c) + 0.1 * np.eye(c), want[c:].reshape(c, c) + 0.1 * np.eye(c)
    root = _root(a)
    inverse = np.linalg.inv(root)
    matrix = inverse @ _root(root @ b @ root) @ inverse  # Pitie & Kokaram 2007, eq. 6
    return matrix, want[:c] - matrix @ have[:c]


def _curve(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Grey levels out [256, c]: the quantiles of x sent to those of y."""
    have = _quantiles(x)
    want = have + strength * _known(_quantiles, x, y)
    levels = np.arange(256.0)
    out = np.empty((256, x.shape[-1]))
    for c in range(x.shape[-1]):
        places, first = np.unique(have[:, c], return_inverse=True)
        means = np.bincount(first, weights=want[:, c]) / np.bincount(first)
        delta = np.interp(levels, places, means - places)
        out[:, c] = np.maximum.accumulate(np.clip(levels + delta, 0, 255))
    return out


def _toned(x: np.ndarray, curve: np.ndarray) -> np.ndarray:
    levels = np.arange(256.0)
    return np.stack([np.interp(x[..., c], levels, curve[:, c]) for c in range(x.shape[-1])], axis=-1)


def _quantiles(x: np.ndarray) -> np.ndarray:
    """65 quantiles of each channel, [65, c]."""
    return np.quantile(np.clip(x, 0, 255).reshape(-1, x.shape[-1]), np.linspace(0, 1, 65), axis=0)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


# sharpness and grain --------------------------------------------------------------------------------------------------


def _gain(x: np.ndarray, y: np.ndarray, settings: Alignment) -> np.ndarray:
    """Gain of each ring and channel, [rings, c]."""

    def log_power(power: np.ndarray) -> np.ndarray:
        return np.log(power.mean(axis=0))

    difference = 0.5 * settings.spectrum * _known(log_power, _power(x), _power(y))
    limit = np.log(settings.largest_gain)
    difference[0] = 0.0  # mean and slow shading are colour's to set
    return np.exp(np.clip(difference, -limit, limit))


def _power(x: np.ndarray) -> np.ndarray:
    """Mean power of each ring, [n, rings, c], of each image about its own mean, windowed so that borders do not count as edges."""
    n, h, w, c = x.shape
    window = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1])[None, :, :, None]
    waves = np.fft.rfft2((x - x.mean(axis=(1, 2), keepdims=True)) * window, axes=(1, 2))
    ring = _ring(h, w)
    power = (np.abs(waves) ** 2).reshape(n, -1, c)
    out = np.empty((n, RINGS, c))
    for k in range(RINGS):
        inside = power[:, ring.reshape(-1) == k]
        out[:, k] = inside.mean(axis=1) if inside.shape[1] else out[:, k - 1]
    return out + 1e-3 * h * w  # a floor well under the power of rounding to whole grey levels


def _ring(h: int, w: int) -> np.ndarray:
    """The ring of each frequency of a real transform, [h, w // 2 + 1]."""
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    return np.minimum((radius * 2 * RINGS).astype(int), RINGS - 1)


def _filter(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Each image with its rings scaled, mirrored at its borders so that opposite ones do not leak."""
    if np.all(gain == 1):
        return x
    n, h, w, c = x.shape
    padded = np.pad(x, ((0, 0), (h // 2, h // 2), (w // 2, w // 2), (0, 0)), mode="symmetric")
    hp, wp = padded.shape[1:3]
    radius = np.hypot(np.fft.fftfreq(hp)[:, None], np.fft.rfftfreq(wp)[None]) * 2 * RINGS
    middles = np.arange(RINGS) + 0.5
    scale = np.stack([np.interp(radius, middles, gain[:, k]) for k in range(c)], axis=-1)
    out = np.fft.irfft2(np.fft.rfft2(padded, axes=(1, 2)) * scale, s=(hp, wp), axes=(1, 2))
    return np.clip(out[:, h // 2 : h // 2 + h, w // 2 : w // 2 + w], 0, 255)


def _grain(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Deviation of the grain to add at each level of local brightness, [levels, c]: the missing fine power, never below 0."""
    difference = _known(_roughness, x, y)
    return np.sqrt(np.clip(strength * difference / _roughness_of_white_noise(), 0, 12.0**2))


def _roughness(x: np.ndarray) -> np.ndarray:
    """Median squared fine detail (a pixel less its neighbours' mean) at each level of local brightness, [levels, c]; median, so that edges
    do not count as grain."""
    near = _neighbours(x)
    fine = (x - near) ** 2
    level = _level(near)
    out = np.zeros((LEVELS, x.shape[-1]))
    for c in range(x.shape[-1]):
        for k in range(LEVELS):
            inside = fine[..., c][level[..., c] == k]
            out[k, c] = np.median(inside) if len(inside) >= 64 else np.nan
    return out


def _level(near: np.ndarray) -> np.ndarray:
    """The level of local brightness. Means of whole grey levels lie on the borders between levels, and rounding must not move them over."""
    return np.clip((near * LEVELS / 256 + 1e-6).astype(int), 0, LEVELS - 1)


def _roughness_of_white_noise() -> float:
    """What `_roughness` says of noise with deviation 1: variance 1 + 1/4, and 0.455 of it is the median of a squared normal."""
    return 1.25 * 0.455


def _neighbours(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    return (padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]) / 4


def _add_grain(x: np.ndarray, grain: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Noise drawn from each image's own bytes (`key`, the image as it came in), so that an image always gets the same."""
    if not grain.any():
        return x
    level = _level(_neighbours(x))
    out = np.empty_like(x)
    for i in range(len(x)):
        chance = np.random.Generator(np.random.PCG64(seed_of("grain", np.ascontiguousarray(key[i]).tobytes().hex())))
        strength = np.stack([grain[level[i, ..., c], c] for c in range(x.shape[-1])], axis=-1)
        out[i] = x[i] + strength * chance.standard_normal(x.shape[1:])
    return np.clip(out, 0, 255)


# how well a difference is known ---------------------------------------------------------------------------------------


def _known(statistic: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """statistic(y) - statistic(x), each number d shrunk to d^3 / (d^2 + 4 e^2), where e is its standard error over groups of images.

    What a statistic could not say (NaN) counts as no difference.
    """
    difference = statistic(y) - statistic(x)
    error = _error(statistic, x) + _error(statistic, y)
    shrunk = difference * difference**2 / np.maximum(difference**2 + 4 * error, 1e-12)
    return np.nan_to_num(shrunk, nan=0.0)


def _error(statistic: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Squared standard error of a statistic of images [n, ...], from its spread over groups."""
    groups = min(GROUPS, len(x))
    parts = np.stack([statistic(x[k::groups]) for k in range(groups)])
    return parts.var(axis=0, ddof=1) / groups
