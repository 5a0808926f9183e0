"""What a judge says of pictures, and what a judge is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Verdicts:
    """score: float64 [n], higher is better, of one judge's own scale. right: bool [n], everything that was asked is there; None where the judge cannot tell.

    questions: int64 [n], how many were asked of each picture, where the score is the share of them answered yes; None of other scores.
    """

    score: np.ndarray
    right: np.ndarray | None = None
    questions: np.ndarray | None = None

    @property
    def micro(self) -> float | None:
        """Share of yes of all questions of all pictures, as DSG's headline has it: a picture of many questions counts more. None of other scores."""
        return None if self.questions is None else float((self.score * self.questions).sum() / self.questions.sum())

    def rows(self, some: np.ndarray) -> Verdicts:
        parts = [None if part is None else part[some] for part in (self.right, self.questions)]
        return Verdicts(self.score[some], *parts)


class Judge(Protocol):
    """name: as `judge_of` takes it; digest: of all that its verdicts follow from, but the questions that it was given; bytes: of its weights."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def bytes(self) -> int: ...

    def check(self, sentences: Sequence[str]) -> None:
        """DataError for a sentence that it cannot judge by."""
        ...

    def look(self, x: np.ndarray, sentences: Sequence[str]) -> Verdicts:
        """Verdicts on uint8 [n, h, w, c] pictures, each with its sentence."""
        ...


def coloured(x: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3] of pictures of one channel or three."""
    return x if x.shape[-1] == 3 else np.repeat(x, 3, axis=-1)
