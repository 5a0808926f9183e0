"""ROUGE-L of short texts, and which of many thousand texts another one is alike to.

rouge_l(words("two red cups"), words("Two cups."))     F1 of the longest common subsequence of words, to the bit that of rouge-score 0.1.2
pool = Alike(0.8); pool.add(text)                      texts, none above 0.8 of another
pool.nearest(text)                                     the place of one above 0.8, or None

Lin 2004. Words are runs of a-z and 0-9 of the lower-cased text, no stemming. The subsequence takes one addition of long integers a word (Hyyro 2004). Of many
texts few need it: F1 is at most 2 c / (m + n) with c the words in common, order apart, and c of all texts at once is a count over lists of who has which word.
A text without such words (another script) is alike to nothing.
"""

from __future__ import annotations

import re

import numpy as np

WORD = re.compile("[a-z0-9]+")
ROUNDING = 1e-9  # how far a share may be off by the order of its divisions; a bound is looked through from so far below


def words(text: str) -> list[str]:
    """The words that are compared."""
    return WORD.findall(text.lower())


def rouge_l(one: list[str], two: list[str]) -> float:
    """F1 of the longest common subsequence, 0 to 1; 0 where one has no words."""
    return _f1(common_length(_places(one), two), len(one), len(two)) if one and two else 0.0


def common_length(places: dict[str, int], two: list[str]) -> int:
    """Length of the longest common subsequence of `two` and the words whose `places` (bit i: word i) are given. Hyyro 2004, one step a word of `two`."""
    rows = 0
    for at in places.values():
        rows |= at
    open_rows = rows
    for word in two:
        if met := open_rows & places.get(word, 0):
            open_rows = ((open_rows + met) | (open_rows - met)) & rows
    return (rows ^ open_rows).bit_count()


class Alike:
    """Texts in the order they were added, and which of them another text is alike to.

    share: F1 above which two texts are alike; at 1, only those of the same words in the same order.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._texts: list[list[str]] = []
        self._exact: dict[tuple[str, ...], int] = {}
        self._lengths = _Rows()
        self._who: dict[tuple[str, int], _Rows] = {}  # who has a word for the k-th time

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        own = words(text)
        place = len(self._texts)
        self._texts.append(own)
        self._exact.setdefault(tuple(own), place)
        self._lengths.append(len(own))
        for key in _counted(own):
            self._who.setdefault(key, _Rows()).append(place)

    def nearest(self, text: str) -> int | None:
        """The place of a text that is alike to this one, the likeliest looked at first; None where there is none."""
        own = words(text)
        if not own:
            return None
        if (same := self._exact.get(tuple(own))) is not None:
            return same
        if self.share >= 1:
            return None
        lists = [found.rows for key in _counted(own) if (found := self._who.get(key)) is not None]
        if not lists:
            return None
        bound = 2 * np.bincount(np.concatenate(lists), minlength=len(self)) / (self._lengths.rows + len(own))
        likely = np.flatnonzero(bound > self.share - ROUNDING)
        places = _places(own)
        for place in likely[np.argsort(-bound[likely], kind="stable")].tolist():
            other = self._texts[place]
            if _f1(common_length(places, other), len(own), len(other)) > self.share:
                return place
        return None


def _f1(common: int, m: int, n: int) -> float:
    """In the order of operations of rouge-score, so that 0.8000000000000002 is what it is there too (four of five words)."""
    if common == 0:
        return 0.0
    precision, recall = common / n, common / m
    return 2 * precision * recall / (precision + recall)


def _places(own: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for i, word in enumerate(own):
        found[word] = found.get(word, 0) | 1 << i
    return found


def _counted(own: list[str]) -> list[tuple[str, int]]:
    """Every word with how often it came before: as a set, the bag of words."""
    seen: dict[str, int] = {}
    found = []
    for word in own:
        found.append((word, seen.get(word, 0)))
        seen[word] = seen.get(word, 0) + 1
    return found


class _Rows:
    """Integers that are added at the end."""

    def __init__(self) -> None:
        self._held = np.empty(4, np.int32)
        self._n = 0

    @property
    def rows(self) -> np.ndarray:
        """int32 [n], a view."""
        return self._held[: self._n]

    def append(self, value: int) -> None:
        if self._n == len(self._held):
            self._held = np.concatenate([self._held, np.empty(self._n, np.int32)])
        self._held[self._n] = value
        self._n += 1
