"""What is watched in sentences, and in vectors of images and sentences: functions of texts and arrays, none of which needs a network.

Words are runs of letters and digits, in small letters; signs are words of their own. `indicators.py` has what also holds for captions that are numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

ORDERS = 4  # of n-grams in BLEU


def words_of(text: str) -> list[str]:
    """The words of a text, signs included."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def word_entropy(texts: Sequence[Sequence[str]]) -> float:
    """Entropy of all words that came, in nats (plug-in). ValueError where there is no word."""
    counts = np.array(list(Counter(word for words in texts for word in words).values()), dtype=np.float64)
    if not len(counts):
        raise ValueError("no caption has a word")
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def word_survival(texts: Sequence[Sequence[str]], first: Sequence[Sequence[str]]) -> float:
    """Share of the different words of generation 1 that still come. ValueError where it had none."""
    before = {word for words in first for word in words}
    if not before:
        raise ValueError("generation 1 had no word")
    return len(before & {word for words in texts for word in words}) / len(before)


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Mean BLEU-4 of each caption against all others, 0 to 1, higher is less diverse (Zhu et al. 2018, Texygen).

    BLEU of Papineni et al. 2002: modified precisions of 1 to 4 words (a caption of fewer: as many as it has), those of 2 and more smoothed by one (Lin and
    Och 2004), brevity penalty by the reference nearest in length, the shorter of two. A caption without words scores 0. ValueError for fewer than two captions.
    """
    if len(texts) < 2:
        raise ValueError("one caption has no others")
    most = [_largest(texts, n) for n in range(1, ORDERS + 1)]
    lengths = Counter(len(words) for words in texts)
    return float(np.mean([_bleu(words, most, lengths) for words in texts]))


def _largest(texts: Sequence[Sequence[str]], n: int) -> dict[tuple[str, ...], tuple[int, int]]:
    """The largest count of each n-gram in a caption, and the second largest: with them one caption is left out at no cost."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for words in texts:
        for gram, count in _grams(words, n).items():
            one, two = found.get(gram, (0, 0))
            found[gram] = (count, one) if count > one else (one, max(two, count))
    return found


def _bleu(words: Sequence[str], most: Sequence[dict[tuple[str, ...], tuple[int, int]]], lengths: Counter[int]) -> float:
    logs = []
    for n in range(1, min(ORDERS, len(words)) + 1):
        own = _grams(words, n)
        hits = 0
        for gram, count in own.items():
            one, two = most[n - 1][gram]
            hits += min(count, two if count == one else one)
        smooth = int(n > 1)
        if not hits + smooth:
            return 0.0
        logs.append(math.log((hits + smooth) / (own.total() + smooth)))
    if not logs:
        return 0.0
    others = lengths - Counter([len(words)])
    nearest = min(others, key=lambda length: (abs(length - len(words)), length))
    return math.exp(sum(logs) / len(logs) + min(0.0, 1 - nearest / len(words)))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


# vectors ----------------------------------------------------------------------------------------------------------------


def retrieval(images: np.ndarray, texts: np.ndarray, captions: np.ndarray) -> tuple[float, float]:
    """Recall at 1 among the pairs of a set, (caption found by its image, image found by its caption), 0 to 1 each.

    images, texts: unit vectors [n, d] of one image-text model; captions: [n]. Found is right where its caption is the same text: copies are no mistake.
    """
    near = images @ texts.T
    return float((captions[near.argmax(1)] == captions).mean()), float((captions[near.argmax(0)] == captions).mean())


def dissent(texts: Sequence[np.ndarray]) -> float:
    """How different the captions of the same images by several agents are: one less the mean cosine over pairs of agents. texts: unit vectors [n, d] each."""
    pairs = [(texts[a] * texts[b]).sum(1).mean() for a in range(len(texts)) for b in range(a)]
    if not pairs:
        raise ValueError("one agent disagrees with nobody")
    return float(1 - np.mean(pairs))
