"""Style: how far the look of a synthetic set is from that of the real one.

Three views, each beside its floor. *Told apart*: can a classifier, trained on features of some images, tell real from synthetic among the
others? *Gaps*: named properties of pixels (lightness, chroma, sharpness, ...), the difference of their means and the ratio of their spreads.
*Early Frechet*: the Frechet distance on an early layer, which sees colour and texture and no objects.

The folds of a cross-validation train on each other's test images. That the same images decide in each other's classifiers doubles the variance of
the mean AUC where the sets are alike; an interval that forgets it (DeLong's, fold by fold) held 0.5 in 84 % of worlds. Ours adds Nadeau
and Bengio's term (2003, eq. 3: test share over training share), which is that doubling and a little more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special
from scipy.spatial import distance

from mitate.metrics.frechet import frechet
from mitate.metrics.intervals import Interval, quantile_t
from mitate.metrics.neighbours import radii
from mitate.metrics.subsampling import wilson_form
from mitate.score import Metric

FOLDS = 5
LEAST = 20  # images on either side
LEAST_GROUPS = 10  # patients, plants, or different images, on either side
NOUGHT = 1e-9  # a score nearer to 0 is rounding
NEAR = 0.5  # of the median distance of a real image to its nearest other, as the pilot's copies
PAIRED = 300  # synthetic images whose distances tell how far two of them lie apart
PENALTY = 1.0  # of the squared length of the coefficients, beside the sum of the losses (scikit-learn's 1 / C)
BLOCK = 256  # images at a time
SIDE = 8  # pixels; a smaller image has no spectrum to speak of
RINGS = 16  # of spatial frequency
QUIET = 1e-2  # squared lightness, added before a logarithm: about the rounding of 8 bits

CROSS_FITTED = "DeLong by fold, times 1 + 5/4 for shared training images (Nadeau and Bengio 2003), in Wilson's form"
TOLD_APART = Metric("told_apart", "style", "lower", LEAST, CROSS_FITTED, "AUC of cross-validated logistic regression, real against synthetic; 0.5: cannot tell")
TOLD_APART_RIGHT = Metric(
    "told_apart_right", "style", "lower", LEAST, CROSS_FITTED, "balanced accuracy of the same, a classifier two-sample test (Lopez-Paz and Oquab 2017)"
)
EARLY_FRECHET = Metric("early_frechet", "style", "lower", 10, "none: biased upward by about 1 / n; compare at equal n", "Heusel et al. 2017, eq. 6")


# told apart -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """How well real and synthetic images can be told apart by their features; 0.5 is not at all."""

    auc: Interval
    balanced_accuracy: Interval
    real_scores: np.ndarray  # float64 [n], log odds of being synthetic, from a classifier that has not seen the image
    fake_scores: np.ndarray  # float64 [m]
    real_folds: np.ndarray  # int64 [n]
    fake_folds: np.ndarray  # int64 [m]

    @property
    def twins(self) -> bool:
        """Whether the AUC is surely below 0.5: synthetic images have near copies among the real ones, which mislead the classifier."""
        return self.auc.high < 0.5


@dataclass(frozen=True)
class ApartBeside:
    """The synthetic images, and held-out real ones in their place, told apart from the real ones; both at `n` images."""

    n: int
    value: Apart
    floor: Apart


def told_apart(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    fake_groups: np.ndarray | None = None,
    folds: int = FOLDS,
    confidence: float = 0.95,
) -> Apart:
    """Cross-validated AUC and balanced accuracy of logistic regression between two sets of features. 0 to 1, 0.5 when it cannot tell.

    real [n, d], fake [m, d]: features of one extractor. groups [n], fake_groups [m]: numbers of what came from one patient or plant; equal
    numbers on the two sides are one group. A group stays in one fold, and so do near copies: images nearer to each other than half of what lies
    between a real image and its nearest other (the median), and than a quarter of what lies between two synthetic ones. Else a few images
    drawn again and again would be known by heart, which is a lack of diversity and no style, and an image tested by a classifier that
    learnt its copy under the other name would score far below 0.5 (as copies that escape this still do: `Apart.twins`); that is no praise.

    The AUC is the mean of those within the folds: scores of two classifiers are not compared. Columns are standardised by the training
    folds, both sides weigh the same, the penalty is fixed. A number above 0.5 says that something differs, not that anybody sees it.
    Raises ValueError below 20 images, or 10 groups or different images, on a side.
    """
    _check(real, fake)
    n, m = len(real), len(fake)
    clusters = _clusters(real, fake, groups, fake_groups)
    sides = clusters[:n], clusters[n:]
    counts = [len(np.unique(side)) for side in sides]
    for which, count in zip(("real", "synthetic"), counts, strict=True):
        if count < LEAST_GROUPS:
            raise ValueError(f"needs {LEAST_GROUPS} different {which} images or groups, has {count}; fix: give more")
    real_folds, fake_folds = _folds(*sides, folds, np.random.default_rng(seed))
    real_scores, fake_scores = np.empty(n), np.empty(m)
    for k in range(folds):
        weights = _Classifier.fit(real[real_folds != k], fake[fake_folds != k])
        real_scores[real_folds == k], fake_scores[fake_folds == k] = weights.scores(real[real_folds == k]), weights.scores(fake[fake_folds == k])
    auc, by_image = _auc(real_scores, fake_scores, real_folds, fake_folds, folds)
    right, right_by_image = _right(real_scores, fake_scores)
    return Apart(
        _bounded(auc, by_image, clusters, counts, m, folds, confidence),
        _bounded(right, right_by_image, clusters, counts, m, folds, confidence),
        real_scores,
        fake_scores,
        real_folds,
        fake_folds,
    )


def told_apart_beside(
    real: np.ndarray,
    fake: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int,
    groups: np.ndarray | None = None,
    held_groups: np.ndarray | None = None,
    confidence: float = 0.95,
) -> ApartBeside:
    """`told_apart` of the synthetic images, and of held-out real ones in their place, at equal n.

    The larger of `fake` [m, d] and `held_out` [h, d] is thinned to the size of the smaller, once, by `seed`; the real images stay whole. Groups
    as in `told_apart`, those of the two real sets numbered alike.
    """
    size = min(len(fake), len(held_out))
    rng = np.random.default_rng(seed)
    some, held = np.sort(rng.permutation(len(fake))[:size]), np.sort(rng.permutation(len(held_out))[:size])
    value = told_apart(real, fake[some], seed=seed, groups=groups, confidence=confidence)
    theirs = None if held_groups is None else held_groups[held]
    return ApartBeside(size, value, told_apart(real, held_out[held], seed=seed, groups=groups, fake_groups=theirs, confidence=confidence))


@dataclass(frozen=True)
class _Classifier:
    """Logistic regression on standardised columns; positive scores say synthetic."""

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray  # [d]
    intercept: float

    @classmethod
    def fit(cls, real: np.ndarray, fake: np.ndarray) -> _Classifier:
        """The minimum of 1/2 penalty |w|^2 + the sum of the log losses, each side's weighing half of all; the intercept is free."""
        x = np.concatenate([real, fake]).astype(np.float64)
        n, m = len(real), len(fake)
        x, centre, scale = _standardised(x)
        side = np.repeat([-1.0, 1.0], [n, m])
        share = np.repeat([(n + m) / (2 * n), (n + m) / (2 * m)], [n, m])

        def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
            margin = side * (x @ at[:-1] + at[-1])
            pull = -share * side * special.expit(-margin)
            value = float(share @ np.logaddexp(0.0, -margin)) + 0.5 * PENALTY * float(at[:-1] @ at[:-1])
            return value, np.append(x.T @ pull + PENALTY * at[:-1], pull.sum())

        found = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-6}).x
        return cls(centre, scale, found[:-1], float(found[-1]))

    def scores(self, points: np.ndarray) -> np.ndarray:
        return ((points - self.centre) / self.scale) @ self.weights + self.intercept


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns less their means and over their deviations, and these; a column of one value is only centred. x: float64, overwritten."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale <= 1e-12 * np.abs(centre)] = 1.0
    scale[scale == 0] = 1.0
    x -= centre
    x /= scale
    return x, centre, scale


def _clusters(real: np.ndarray, fake: np.ndarray, groups: np.ndarray | None, fake_groups: np.ndarray | None) -> np.ndarray:
    """A number for each image, real ones first: the same for images of one group and for near copies. int64 [n + m]."""
    total = len(real) + len(fake)
    first: dict[object, int] = {}
    edges = []
    for i, point in enumerate((*real, *fake)):
        edges.append((i, first.setdefault(point.astype(np.float64).tobytes(), i)))
        given, j = (groups, i) if i < len(real) else (fake_groups, i - len(real))
        if given is not None:
            edges.append((i, first.setdefault(int(given[j]), i)))
    a, b = np.concatenate([np.array(edges), _near(real, fake)]).T
    links = sparse.coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(total, total))
    return sparse.csgraph.connected_components(links, directed=False)[1].astype(np.int64)


def _near(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Pairs of near copies, int64 [pairs, 2]."""
    points = _standardised(np.concatenate([real, fake]).astype(np.float64))[0]
    made = points[len(real) :][:: max(1, len(fake) // PAIRED)]
    within = NEAR * min(float(np.median(radii(points[: len(real)], ks=(1,)))), 0.5 * float(np.median(distance.pdist(made))))
    squares = np.einsum("ij,ij->i", points, points)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(points), BLOCK):
        some = slice(start, start + BLOCK)
        apart = squares[some, None] + squares[None] - 2.0 * points[some] @ points.T
        found.append(np.argwhere(apart < within * within) + (start, 0))
    return np.concatenate(found)


def _folds(real: np.ndarray, fake: np.ndarray, folds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The fold of each image: clusters whole, the largest first, each to the fold that has least of what it brings."""
    count = int(max(real.max(), fake.max())) + 1
    brings = np.stack([np.bincount(side, minlength=count) / len(side) for side in (real, fake)], axis=1)
    order = rng.permutation(count)
    order = order[np.argsort(-brings[order].max(axis=1), kind="stable")]
    filled, fold = np.zeros((folds, 2)), np.empty(count, np.int64)
    for cluster in order:
        side = brings[cluster] > 0
        fold[cluster] = k = int(np.argmin((filled + brings[cluster])[:, side].max(axis=1)))
        filled[k] += brings[cluster]
    return fold[real], fold[fake]


def _auc(real: np.ndarray, fake: np.ndarray, real_folds: np.ndarray, fake_folds: np.ndarray, folds: int) -> tuple[float, np.ndarray]:
    """Mean AUC of the folds, and how far each image moves it (DeLong et al. 1988: its placement among the other side), [n + m]."""
    value, moves = 0.0, np.zeros(len(real) + len(fake))
    for k in range(folds):
        a, b = np.flatnonzero(real_folds == k), np.flatnonzero(fake_folds == k)
        above = (fake[b] > real[a, None]) + 0.5 * (fake[b] == real[a, None])
        mine = float(above.mean())
        value += mine / folds
        moves[a] = (above.mean(axis=1) - mine) / (folds * len(a))
        moves[len(real) + b] = (above.mean(axis=0) - mine) / (folds * len(b))
    return value, moves


def _right(real: np.ndarray, fake: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of the two sides' shares of right answers, a score of nought half right, and how far each image moves it, [n + m]."""
    sides = [0.5 + 0.5 * np.sign(np.where(np.abs(scores) < NOUGHT, 0.0, scores)) for scores in (-real, fake)]
    moves = [(side - side.mean()) / (2 * len(side)) for side in sides]
    return float(sides[0].mean() + sides[1].mean()) / 2, np.concatenate(moves)


def _bounded(value: float, moves: np.ndarray, clusters: np.ndarray, counts: list[int], m: int, folds: int, confidence: float) -> Interval:
    """A number in 0 to 1 with its interval. moves [n + m]: how far each image moves it; clusters: which vary together; counts of these on either side."""
    variance = float((np.bincount(clusters, weights=moves) ** 2).sum()) * min(counts) / (min(counts) - 1) * (1 + folds / (folds - 1))
    units, df = round(2 / (1 / counts[0] + 1 / counts[1])), min(counts) - 1.0
    low, high = wilson_form(value, variance, units=units, df=df, confidence=confidence)
    return Interval(value, low, high, m, se_images=math.sqrt(variance), df_images=df)


# gaps -----------------------------------------------------------------------------------------------------------------


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


def _check(real: np.ndarray, fake: np.ndarray) -> None:
    for which, points in (("real", real), ("synthetic", fake)):
        if len(points) < LEAST:
            raise ValueError(f"needs {LEAST} {which} images, has {len(points)}; fix: give more")
        if points.ndim != 2 or points.shape[1] != real.shape[1]:
            raise ValueError(f"{which} features have shape {points.shape}; fix: give [images, features] of one extractor")
        if not np.isfinite(points.sum(dtype=np.float64)):
            raise ValueError(f"{which} features are not finite; fix: drop the rows with NaN or infinity")
