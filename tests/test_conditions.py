"""Conditions that fail a build: what they say, what they refuse, and that nothing unmeasured can pass."""

from __future__ import annotations

import pytest

from mitate.errors import SettingError
from mitate.score import Assessment, Score
from mitate.studies.conditions import check, judge, parse

FOUND = Assessment(
    "fakes",
    (
        Score("copies", "privacy", "fakes", 0.12, 0.08, 0.17, 200, floor=0.03, better="lower", floor_low=0.01, floor_high=0.08),
        Score("recall", "diversity", "fakes", 0.5, None, None, 200),
        Score("gain", "utility", "fakes", None, note="needs held-out real images"),
    ),
    {"axes": {"privacy": {"state": "leaks"}, "utility": {"state": "not measured"}}},
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("privacy.copies > floor + 0.05", True),
        ("copies > floor + 0.1", False),
        ("copies.low > floor", True),
        ("copies.high >= .17", True),
        ("copies < 2 * floor", False),
        ("copies > floor * 3", True),
        ("recall.value <= 5e-1", True),
        ("recall < 0.5", False),
        ("privacy is leaks", True),
        ("privacy is no leak found", False),
    ],
)
def test_a_condition_says_what_it_is_written_as(text: str, holds: bool) -> None:
    assert judge(parse(text), FOUND).holds is holds


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("gain < 0", "was not measured (needs held-out real images)"),
        ("recall.low < 0.2", "has no low"),
        ("recall > floor", "has no floor"),
        ("density > 1", "was not measured"),
        ("utility is worse", "utility is not measured"),
    ],
)
def test_a_condition_on_what_was_not_measured_neither_holds_nor_fails_to(text: str, because: str) -> None:
    found = judge(parse(text), FOUND)
    assert found.holds is None
    assert because in found.because


def test_not_measured_can_itself_be_asked_for() -> None:
    assert judge(parse("utility is not measured"), FOUND).holds is True
    assert judge(parse("privacy is not measured"), FOUND).holds is False


@pytest.mark.parametrize("text", ["", "copies", "copies >", "copies > floor +", "copies > floor / 2", "copies == 1", "__import__('os') > 1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(SettingError) as wrong:
        parse(text)
    assert "privacy.copies > floor + 0.05" in wrong.value.fix


@pytest.mark.parametrize(
    ("text", "fix"),
    [("copys > 1", "copies"), ("fidelity.copies > 1", "copies"), ("privcy is leaks", "privacy"), ("privacy is bad", "leaks, no leak found, not measured")],
)
def test_a_name_that_is_not_there_is_an_error_before_anything_runs(text: str, fix: str) -> None:
    metrics = {"copies": "privacy", "recall": "diversity"}
    axes = {"privacy": ("leaks", "no leak found", "not measured"), "fidelity": ("worse", "better", "not told apart", "not measured")}
    with pytest.raises(SettingError) as wrong:
        check(parse(text), metrics=metrics, axes=axes)
    assert fix in wrong.value.fix


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("privacy.recall < 0.5", "did you mean 'diversity.recall'?"),
        ("sincerity > 0.5", "the nearest of 21 are "),
        ("diversity.sincerity > 0.5", "choose from recall"),
    ],
)
def test_the_fix_of_an_unknown_metric_names_a_few_and_not_all(text: str, fix: str) -> None:
    metrics = {"recall": "diversity"} | {f"look_{k}_gap": "style" for k in range(20)}
    with pytest.raises(SettingError) as wrong:
        check(parse(text), metrics=metrics, axes={})
    assert wrong.value.fix.startswith(fix) and len(wrong.value.fix.split(", ")) <= 5
