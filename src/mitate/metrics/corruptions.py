"""Common corruptions: fifteen ways in which pictures get worse without anybody's intent, five severities each, and what accuracy is left.

The kinds are those of Hendrycks and Dietterich 2019, written anew. Strengths are their ImageNet-C ones at 224 pixels and their
CIFAR-10-C ones at 32 and below, geometrically between in the logarithm of the smaller side; lengths are shares of that side. So that
any size, one channel and no foreign picture will do, and so that worse is always worse, six differ from theirs: defocus and motion have
kernels of fractional width, glass takes each pixel from a random place nearby, fog is a spectral fractal, frost a drawn texture that is
blended in, snow and elastic have one draw that grows. Numbers of other programs are therefore near, not equal; compare models on one.

Image i has one draw per kind, from the seed and its row; the severities make it stronger.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from mitate.metrics.intervals import Interval, one_way, quantile_t
from mitate.runtime import seed_of
from mitate.score import Metric

LEAST = 10  # images
LEAST_SIDE = 8  # pixels
SEVERITIES = (1, 2, 3, 4, 5)
SMALL, LARGE = 32, 224  # pixels: sides of the two published tables
BLOCK = 64  # images at a time; memory only
ICE = np.array([0.80, 0.90, 1.00], np.float32)

OVER_IMAGES = "Student's t over images or groups, each image the mean of its corrupted versions"
CORRUPTED_ACCURACY = Metric("corrupted_accuracy", "robustness", "higher", LEAST, OVER_IMAGES, "Hendrycks and Dietterich 2019, section 4, unweighted")
CORRUPTION_ERROR = Metric(
    "mean_corruption_error", "robustness", "lower", LEAST, "delete-one jackknife over images", "Hendrycks and Dietterich 2019, section 4.3"
)

Chances = Sequence[np.random.Generator]


@dataclass(frozen=True)
class UnderCorruption:
    """Accuracy over kinds and severities, beside clean accuracy on the same images."""

    clean: Interval
    corrupted: Interval
    drop: Interval  # clean - corrupted, paired by image
    kept: float | None  # corrupted / clean; None where nothing is right when clean
    by_kind: tuple[Interval, ...]  # in the order that was measured
    by_severity: tuple[Interval, ...]
    each: np.ndarray  # float64 [n], of each image the share of its versions that are right


def corrupt(x: np.ndarray, *, kind: str, severity: int, seed: int, first: int = 0) -> np.ndarray:
    """x made worse: uint8 [n, h, w, c], c of 1 or 3, sides of 8 pixels or more; as x. first: the number of the first image, for its draw."""
    if kind not in KINDS:
        raise ValueError(f"there is no corruption {kind!r}; fix: choose from {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}; fix: give 1 to 5")
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3):
        raise ValueError(f"images have shape {x.shape} and type {x.dtype}; fix: give uint8 [n, h, w, 1 or 3]")
    if min(x.shape[1:3]) < LEAST_SIDE:
        raise ValueError(f"needs sides of {LEAST_SIDE} pixels, has {x.shape[1]} x {x.shape[2]}; fix: enlarge the images")
    out = np.empty_like(x)
    for start in range(0, len(x), BLOCK):
        some = x[start : start + BLOCK]
        chances = [np.random.default_rng(seed_of("corrupt", kind, seed, first + start + i)) for i in range(len(some))]
        worse = KINDS[kind](some.astype(np.float32) / 255, severity - 1, chances)
        out[start : start + BLOCK] = np.rint(np.clip(worse, 0, 1) * 255).astype(np.uint8)
    return out


def answers(predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, *, seed: int, kinds: Sequence[str] | None = None) -> np.ndarray:
    """Class probabilities of every corrupted version: float32 [kinds, 5, n, classes].

    predict: uint8 [n, h, w, c] to probabilities [n, classes]. kinds: all fifteen where not given.
    """
    chosen = tuple(KINDS) if kinds is None else tuple(kinds)
    said = [[predict(corrupt(x, kind=kind, severity=severity, seed=seed)) for severity in SEVERITIES] for kind in chosen]
    return np.asarray(said, dtype=np.float32)


def corrupted_accuracy(right: np.ndarray, clean: np.ndarray, *, groups: np.ndarray | None = None, confidence: float = 0.95) -> UnderCorruption:
    """Mean accuracy over kinds and severities, each counted alike. right: bool [kinds, severities, n]; clean: bool [n], the same images unharmed.

    An image's versions are not independent, so intervals count images, not versions; or groups, int [n]: images of one patient or plant.
    Raises ValueError below 10 images, or with a single group.
    """
    _check(right, clean.shape[0])
    share = right.mean(axis=(0, 1))
    interval = lambda values, low=0.0: one_way(values.astype(np.float64), confidence=confidence, groups=groups, within=(low, 1.0))  # noqa: E731
    return UnderCorruption(
        interval(clean.astype(np.float64)),
        interval(share),
        interval(clean - share, -1.0),
        float(share.mean() / clean.mean()) if clean.any() else None,
        tuple(interval(part) for part in right.mean(axis=1)),
        tuple(interval(part) for part in right.mean(axis=0)),
        share,
    )


def mean_corruption_error(right: np.ndarray, reference: np.ndarray, *, confidence: float = 0.95) -> Interval:
    """mCE: the errors of each kind over those of a reference model, averaged over kinds. 1 is as bad as the reference; 0 or more.

    right, reference: bool [kinds, severities, n] on the same corrupted images. Raises ValueError where the reference errs on fewer than
    two images of a kind. The published mCE has AlexNet as reference; with another one only ratios to it can be compared.
    """
    _check(right, reference.shape[2])
    _same(right, reference)
    found = _ratio((~right).sum(axis=1), (~reference).sum(axis=1), confidence)
    return replace(found, low=max(0.0, found.low))


def relative_corruption_error(
    right: np.ndarray, clean: np.ndarray, reference: np.ndarray, reference_clean: np.ndarray, *, confidence: float = 0.95
) -> Interval:
    """Relative mCE: errors that corruption adds, over those that it adds to a reference model, averaged over kinds. May be below 0.

    right, reference: bool [kinds, severities, n]; clean, reference_clean: bool [n]. A model that errs much when clean has little to lose.
    """
    _check(right, clean.shape[0])
    _same(right, reference)
    added = lambda worse, whole: whole.astype(int) * worse.shape[1] - worse.sum(axis=1)  # noqa: E731
    return _ratio(added(right, clean), added(reference, reference_clean), confidence)


def _ratio(own: np.ndarray, reference: np.ndarray, confidence: float) -> Interval:
    """Mean over kinds of a ratio of sums over images, [kinds, n] each, with the delete-one jackknife over images."""
    n, top, bottom = own.shape[1], own.sum(axis=1), reference.sum(axis=1)
    rest = bottom[:, None] - reference
    if (rest <= 0).any() or (bottom <= 0).any():
        raise ValueError("the reference loses nothing on some kind, or all of it on one image; fix: give a weaker reference or more images")
    value, without = float((top / bottom).mean()), ((top[:, None] - own) / rest).mean(axis=0)
    se = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    half = quantile_t(0.5 + confidence / 2, n - 1) * se
    return Interval(value, value - half, value + half, n, se_images=se, df_images=n - 1)


def _same(right: np.ndarray, reference: np.ndarray) -> None:
    if right.shape != reference.shape:
        raise ValueError(f"answers have shape {right.shape}, the reference's {reference.shape}; fix: measure both on the same images")


def _check(right: np.ndarray, n: int) -> None:
    if right.ndim != 3 or right.shape[2] != n or right.dtype != bool:
        raise ValueError(f"answers have shape {right.shape} and type {right.dtype}; fix: give bool [kinds, severities, {n} images]")
    if n < LEAST:
        raise ValueError(f"needs {LEAST} images, has {n}; fix: give more")


# strengths ------------------------------------------------------------------------------------------------------------


def _at(x: np.ndarray, level: int, small: Sequence[float], large: Sequence[float]) -> float:
    """The strength for images of this size: `small` up to 32 pixels, `large` from 224, geometric between."""
    share = min(1.0, max(0.0, math.log(_side(x) / SMALL) / math.log(LARGE / SMALL)))
    return float(small[level] ** (1 - share) * large[level] ** share)


def _side(x: np.ndarray) -> int:
    return min(x.shape[1:3])


# noise ----------------------------------------------------------------------------------------------------------------


def _gaussian_noise(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    return x + _at(x, level, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)) * _drawn(chances, "normal", x.shape[1:])


def _shot_noise(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    photons = _at(x, level, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    return np.stack([rng.poisson(image * photons) for rng, image in zip(chances, x, strict=True)]).astype(np.float32) / photons


def _impulse_noise(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    hit = _drawn(chances, "random", x.shape[1:]) < _at(x, level, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    return np.where(hit, _drawn(chances, "random", x.shape[1:]) < 0.5, x)


# blur -----------------------------------------------------------------------------------------------------------------


def _defocus_blur(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    radius = (0.012, 0.018, 0.027, 0.036, 0.046)[level] * _side(x)
    places = np.linspace(-radius, radius, 33)
    down, across = (part.ravel() for part in np.meshgrid(places, places, indexing="ij"))
    inside = down**2 + across**2 <= radius**2 * (1 + 1e-9)
    return _convolve(x, _kernel(down[inside], across[inside], np.ones(int(inside.sum())), math.ceil(radius))[None])


def _glass_blur(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    reach = _at(x, level, (0.016, 0.022, 0.028, 0.037, 0.047), (0.010, 0.013, 0.018, 0.021, 0.026)) * _side(x)
    apart = reach * (2 * _drawn(chances, "random", (2, *x.shape[1:3])) - 1)
    return _soften(_moved(x, apart[:, 0], apart[:, 1]), reach / 2.5)


def _motion_blur(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    length = _at(x, level, (0.030, 0.045, 0.060, 0.070, 0.085), (0.013, 0.022, 0.036, 0.054, 0.067)) * _side(x)
    return _convolve(x, _trails(np.array([rng.uniform(-45, 45) for rng in chances]), length))


def _zoom_blur(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    most = _at(x, level, (1.05, 1.10, 1.15, 1.20, 1.25), (1.10, 1.15, 1.20, 1.25, 1.30))
    zooms = np.linspace(1, most, 11)
    return np.stack([_zoomed(_zoomed(x, zoom, 1), zoom, 2) for zoom in zooms]).mean(axis=0)


# weather --------------------------------------------------------------------------------------------------------------


def _snow(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    """Flakes are the peaks of a random field, drawn out by wind; severity lowers what counts as a peak and greys the rest."""
    field = _soften(_drawn(chances, "normal", (*x.shape[1:3], 1)), max(0.4, 0.005 * _side(x)))
    field /= field.std(axis=(1, 2), keepdims=True)
    peak = _at(x, level, (2.3, 1.9, 1.5, 1.25, 1.05), (1.65, 1.40, 1.30, 1.15, 1.00))
    flakes = np.where(field > peak, np.clip(0.5 + 0.3 * (field - peak), 0, 1), 0).astype(np.float32)
    flakes = np.maximum(_convolve(flakes, _trails(np.array([rng.uniform(45, 135) for rng in chances]), 0.02 * _side(x))), 0)
    grey = x.mean(axis=3, keepdims=True)
    clear = _at(x, level, (0.95, 0.92, 0.89, 0.85, 0.80), (0.80, 0.74, 0.68, 0.62, 0.55))
    return clear * x + (1 - clear) * np.maximum(x, 1.5 * grey + 0.5) + flakes + flakes[:, ::-1, ::-1]


def _frost(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    """Needles are the ridges of one fractal, where another one lets ice grow."""
    needles = 1 - np.abs(2 * _fractal(chances, x.shape[1:3], 1.4) - 1)
    ice = np.clip(0.4 * _fractal(chances, x.shape[1:3], 1.8) + 0.7 * needles**3, 0, 1)[..., None]
    colour = ICE if x.shape[3] == 3 else ICE.mean()
    return x + _at(x, level, (0.25, 0.35, 0.45, 0.55, 0.65), (0.70, 0.78, 0.86, 0.93, 1.00)) * ice * (colour - x)


def _fog(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    thick = _at(x, level, (0.2, 0.5, 0.75, 1.0, 1.5), (1.5, 2.0, 2.5, 2.75, 3.0))
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + thick * _fractal(chances, x.shape[1:3], 1.8)[..., None]) * brightest / np.maximum(brightest + thick, 1e-6)


# light, shape, coding -------------------------------------------------------------------------------------------------


def _brightness(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    """The value of hue, saturation, value raised; for one channel the grey itself."""
    value = x.max(axis=3, keepdims=True)
    raised = np.minimum(value + _at(x, level, (0.05, 0.10, 0.15, 0.20, 0.30), (0.1, 0.2, 0.3, 0.4, 0.5)), 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised)


def _contrast(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + _at(x, level, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)) * (x - mean)


def _elastic_transform(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    """Each pixel from a place moved by a smooth random field; severity is how far, root mean square."""
    field = _soften(_drawn(chances, "normal", (*x.shape[1:3], 2)), max(0.8, 0.05 * _side(x)))
    field /= np.sqrt((field**2).mean(axis=(1, 2), keepdims=True))
    far = _at(x, level, (0.015, 0.020, 0.027, 0.034, 0.042), (0.005, 0.007, 0.009, 0.011, 0.013)) * _side(x)
    return _moved(x, far * field[..., 0], far * field[..., 1])


def _pixelate(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    """Box averages onto fewer pixels, at least one fewer a severity, and back by nearest neighbours."""
    height, width = x.shape[1:3]
    small, large = (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)
    sizes = [(height, width)]
    for i in range(level + 1):
        share = _at(x, i, small, large)
        sizes.append((min(int(share * height), sizes[-1][0] - 1), min(int(share * width), sizes[-1][1] - 1)))
    rows, columns = sizes[-1]
    return _each(x, lambda image: image.resize((columns, rows), Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST))


def _jpeg_compression(x: np.ndarray, level: int, chances: Chances) -> np.ndarray:
    quality = round(_at(x, level, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)))

    def coded(image: Image.Image) -> Image.Image:
        image.save(file := io.BytesIO(), "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, coded)


KINDS: dict[str, Callable[[np.ndarray, int, Chances], np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


# tools ----------------------------------------------------------------------------------------------------------------


def _drawn(chances: Chances, law: str, shape: tuple[int, ...]) -> np.ndarray:
    """One draw an image from its own chance: standard normal, or even in 0 to 1. float32 [n, *shape]."""
    return np.stack([rng.standard_normal(shape, np.float32) if law == "normal" else rng.random(shape, np.float32) for rng in chances])


def _soften(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="reflect")


def _fractal(chances: Chances, shape: tuple[int, int], roughness: float) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power -roughness, stretched to 0 to 1. [n, h, w]."""
    spectrum = fft.rfft2(_drawn(chances, "normal", shape))
    down, across = fft.fftfreq(shape[0]), fft.rfftfreq(shape[1])
    frequency = np.hypot(down[:, None], across[None]).astype(np.float32)
    frequency[0, 0] = np.inf
    found = fft.irfft2(spectrum * frequency**-roughness, shape)
    low, high = found.min(axis=(1, 2), keepdims=True), found.max(axis=(1, 2), keepdims=True)
    return (found - low) / (high - low)


def _trails(degrees: np.ndarray, length: float) -> np.ndarray:
    """One-sided trails that fade as half a Gaussian of this length, [n, k, k]."""
    along = np.linspace(0, 2.5 * length, 4 * math.ceil(2.5 * length) + 9)
    weights = np.exp(-(along**2) / (2 * length**2))
    ways = np.radians(degrees)
    return np.stack([_kernel(np.sin(way) * along, np.cos(way) * along, weights, math.ceil(2.5 * length)) for way in ways])


def _kernel(down: np.ndarray, across: np.ndarray, weights: np.ndarray, reach: int) -> np.ndarray:
    """A kernel of sum 1 and odd side that holds each point's weight on the four pixels around it. [k, k]."""
    side = 2 * (reach + 1) + 1
    kernel = np.zeros((side, side))
    rows, columns = np.floor(down).astype(int), np.floor(across).astype(int)
    for i, row_share in ((0, 1 - (down - rows)), (1, down - rows)):
        for j, column_share in ((0, 1 - (across - columns)), (1, across - columns)):
            np.add.at(kernel, (rows + i + reach + 1, columns + j + reach + 1), weights * row_share * column_share)
    return (kernel / kernel.sum()).astype(np.float32)


def _convolve(x: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """x with one kernel an image, or one for all; edges mirrored. x [n, h, w, c], kernels [n or 1, k, k] with k odd."""
    reach = kernels.shape[1] // 2
    wide = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    shape = tuple(fft.next_fast_len(side, real=True) for side in wide.shape[1:3])
    mixed = fft.rfft2(wide, shape, axes=(1, 2)) * fft.rfft2(kernels, shape, axes=(1, 2))[..., None]
    out = fft.irfft2(mixed, shape, axes=(1, 2))
    return out[:, 2 * reach : 2 * reach + x.shape[1], 2 * reach : 2 * reach + x.shape[2]]


def _moved(x: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Each pixel from the place `down` and `across` of it, between pixels linearly, edges mirrored. Fields [n, h, w]."""
    height, width = x.shape[1:3]
    images = np.arange(len(x))[:, None, None]
    top, row = _split(np.arange(height)[:, None] + down, height)
    left, column = _split(np.arange(width)[None] + across, width)
    row, column = row[..., None], column[..., None]
    upper = x[images, top[0], left[0]] * (1 - column) + x[images, top[0], left[1]] * column
    lower = x[images, top[1], left[0]] * (1 - column) + x[images, top[1], left[1]] * column
    return upper * (1 - row) + lower * row


def _zoomed(x: np.ndarray, zoom: float, axis: int) -> np.ndarray:
    """The middle of x along one axis, enlarged to the whole."""
    size = x.shape[axis]
    (low, high), share = _split((np.arange(size) - (size - 1) / 2) / zoom + (size - 1) / 2, size)
    share = share.reshape([-1 if i == axis else 1 for i in range(4)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def _split(places: np.ndarray, size: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The two pixels around each place, mirrored at the edges, and the share of the second."""
    low = np.floor(places).astype(int)
    mirror = lambda rows: np.where(rows % (2 * size) < size, rows % (2 * size), 2 * size - 1 - rows % (2 * size))  # noqa: E731
    return (mirror(low), mirror(low + 1)), (places - low).astype(np.float32)


def _each(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Images through PIL as bytes and back."""
    pixels = np.rint(x * 255).astype(np.uint8)
    changed = [np.asarray(change(Image.fromarray(p if p.shape[2] == 3 else p[..., 0]))) for p in pixels]
    return (np.stack(changed).reshape(x.shape) / np.float32(255)).astype(np.float32)
