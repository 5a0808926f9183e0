"""Arms as they are typed."""

from __future__ import annotations

import pytest

from mitate.errors import SettingError
from mitate.recipe import BASELINE, DEFAULT_ARMS, RECIPES, parse


def test_every_recipe_spends_the_same_steps() -> None:
    for recipe in RECIPES.values():
        assert sum(phase.share for phase in recipe.phases) == 1


def test_default_arms_are_known_and_hold_the_baseline() -> None:
    assert all(parse(arm).name == arm for arm in DEFAULT_ARMS) and BASELINE in DEFAULT_ARMS


def test_bridged_plus_plus_is_fresh_head_and_mixup_in_the_synthetic_phase() -> None:
    synthetic, real = parse("bridged++").phases
    assert synthetic.mixup > 0 and not synthetic.fresh_head and synthetic.source == "synthetic"
    assert real.mixup == 0 and real.fresh_head and real.source == "real"


def test_dials_turn_every_phase_and_have_one_order() -> None:
    assert all(p.augment and p.mixup for p in parse("bridged++" + "+mixup+augment").phases)
    assert parse("balanced+mixup+augment").name == parse("balanced+augment+mixup").name == "balanced+augment+mixup"
    assert parse("balanced+align").align


@pytest.mark.parametrize("text", ["ballanced", "balanced+augmnt", "real+align", "", "+augment"])
def test_what_is_no_arm_is_refused_with_a_fix(text: str) -> None:
    with pytest.raises(SettingError) as wrong:
        parse(text)
    assert wrong.value.fix
