"""ROUGE-L is the reference's to the bit, and looking through many texts at once changes no answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mitate.prompts.rouge import Alike, rouge_l, words
from rouge_inputs import pairs, texts

REFERENCE = json.loads((Path(__file__).parent / "oracles" / "rouge.json").read_text())


def slow_length(one: list[str], two: list[str]) -> int:
    """The longest common subsequence by its table."""
    row = [0] * (len(two) + 1)
    for a in one:
        last = row
        row = [0]
        for j, b in enumerate(two):
            row.append(last[j] + 1 if a == b else max(last[j + 1], row[j]))
    return row[-1]


def test_scores_are_those_of_rouge_score_to_the_bit() -> None:
    for (one, two), expected in zip(pairs(), REFERENCE["scores"], strict=True):
        assert rouge_l(words(one), words(two)) == expected, (one, two)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.8])
def test_the_loop_keeps_what_the_reference_keeps(share: float) -> None:
    pool, kept = Alike(share), []
    for i, text in enumerate(texts(400, seed=3)):
        if pool.nearest(text) is None:
            pool.add(text)
            kept.append(i)
    assert kept == REFERENCE["kept"][str(share)] and 50 < len(kept) < 350


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.95, 1.0])
def test_looking_through_all_at_once_finds_what_looking_one_by_one_finds(share: float) -> None:
    some = texts(150, seed=5)
    pool = Alike(share)
    for k, text in enumerate(some):
        near = [rouge_l(words(text), words(other)) for other in some[:k]]
        found = pool.nearest(text)
        wanted = any(value > share or value == 1.0 for value in near)
        assert (found is not None) == wanted
        assert found is None or near[found] > share or near[found] == 1.0
        pool.add(text)


def test_score_is_the_same_both_ways_and_one_of_itself() -> None:
    some = [words(text) for text in texts(60, seed=7)]
    for one, two in zip(some, some[1:], strict=False):
        assert rouge_l(one, two) == rouge_l(two, one) and rouge_l(one, one) == 1.0
        common = slow_length(one, two)
        assert abs(rouge_l(one, two) - 2 * common / (len(one) + len(two))) < 1e-12


def test_long_texts_need_more_than_one_machine_word() -> None:
    one, two = words(" ".join(texts(30, seed=8))), words(" ".join(texts(30, seed=9)))
    assert min(len(one), len(two)) > 128
    assert abs(rouge_l(one, two) - 2 * slow_length(one, two) / (len(one) + len(two))) < 1e-12


def test_four_of_five_words_count_as_above_eight_tenths_as_in_the_reference() -> None:
    pool = Alike(0.8)
    pool.add("a photo of two cats")
    assert pool.nearest("a photo of three cats") == 0  # 0.8000000000000002
    assert pool.nearest("a photo of three dogs") is None


def test_a_text_without_words_is_alike_to_nothing() -> None:
    pool = Alike(0.5)
    pool.add("二つの赤いカップ")
    assert pool.nearest("二つの赤いカップ") is None and pool.nearest("two cups") is None and len(pool) == 1
