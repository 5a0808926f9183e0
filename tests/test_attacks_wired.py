"""Attacks on privacy as a user calls them: on a kept generator by its loss, on a trained model by shadow models, and audits with canaries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import mitate as mi
import mitate.verbs
from mitate import leaks, registry
from mitate.errors import SettingError
from mitate.generator import Pixels, TellsLoss
from mitate.metrics.membership import halves
from mitate.score import Assessment
from mitate.studies.assess_planning import Assess, check_asked
from remembering import Remembers, Silent

SIDE = 8


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's generators by name."""
    monkeypatch.setitem(registry.KINDS["generator"], "remembers", "remembering:Remembers")
    monkeypatch.setitem(registry.KINDS["generator"], "silent", "remembering:Silent")


def noise(n: int, seed: int) -> np.ndarray:
    """Smooth noise around a grey, uint8 [n, 8, 8, 1]."""
    coarse = np.random.default_rng(seed).normal(128, 45, (n, SIDE // 2, SIDE // 2, 1))
    return np.clip(coarse.repeat(2, axis=1).repeat(2, axis=2), 0, 255).astype(np.uint8)


def images(x: np.ndarray, name: str, **settings: object) -> mi.ImageSet:
    return mi.from_arrays(x, np.arange(len(x)) % 2, classes=["a", "b"], name=name, **settings)  # type: ignore[arg-type]


REAL, HELD, OTHER = noise(100, 1), noise(60, 2), noise(100, 3)


def assess(fakes: object, *, real: np.ndarray = REAL, held: np.ndarray = HELD, **settings: object) -> Assessment:
    given = {"features": "pixels", "axes": ("privacy",), "workers": 0, "per_class": 30, **settings}
    return mi.assess(fakes, real=images(real, "real"), held_out=images(held, "held"), **given)  # type: ignore[arg-type]


def privacy(found: Assessment) -> dict[str, object]:
    return found.facts["axes"]["privacy"]


# on a kept generator --------------------------------------------------------------------------------------------------


def test_a_generator_that_remembers_is_caught_by_its_images_and_by_its_loss_on_those_it_saw() -> None:
    mi.fit(Remembers(), images(REAL, "train"), name="sieve")
    found = assess("sieve")
    assert privacy(found)["state"] == "leaks" and privacy(found)["attack"] == "ratio", "the first of those that beat chance is told"
    for metric in ("membership_ratio_auc", "membership_loss_auc"):
        assert found[metric].low > 0.6 and found[metric].floor == 0.5  # type: ignore[operator]
    assert found["membership_loss_auc"].value == 1.0 and found["membership_loss_auc"].n == 60 + 60
    assert "the generator was fitted on 60 of the 100 real images; only those are attacked" in found.facts["findings"]


def test_a_generator_whose_images_are_fresh_is_caught_by_its_loss_alone() -> None:
    mi.fit(Remembers(draws=False), images(REAL, "train"), name="whisper")
    found = assess("whisper")
    assert found["membership_ratio_auc"].beside == "not told apart"
    assert privacy(found)["state"] == "leaks" and privacy(found)["attack"] == "loss"


def test_a_generator_that_remembers_nothing_is_not_said_to_leak_and_two_attacks_share_the_doubt() -> None:
    mi.fit(Remembers(draws=False, tells=False), images(REAL, "train"), name="fresh")
    found = assess("fresh")
    assert privacy(found)["state"] == "no leak found"
    assert found["membership_loss_auc"].beside == "not told apart"
    outside = assess(images(noise(60, 4), "outside"), real=REAL[:60])
    assert privacy(found)["smallest_auc"] > privacy(outside)["smallest_auc"]  # type: ignore[operator]


def test_images_drawn_in_python_are_known_by_their_generator() -> None:
    fakes = mi.generate(mi.fit(Remembers(), images(REAL, "train")), per_class=30)
    assert assess(fakes)["membership_loss_auc"].value == 1.0


def test_a_generator_that_saw_none_of_the_real_images_is_attacked_on_all_and_says_so() -> None:
    mi.fit(Remembers(), images(OTHER, "train"), name="elsewhere")
    found = assess("elsewhere")
    assert privacy(found)["state"] == "no leak found"
    assert found["membership_loss_auc"].n == 160
    assert "fitted on none of the 100 real images" in found.facts["findings"][-1]


def test_a_generator_that_saw_fewer_than_ten_of_the_real_images_is_not_measured() -> None:
    generator = mi.fit(Remembers(), images(OTHER, "train"), name="few")
    seen = json.loads((mi.Store.find().get(generator.parents[0]).folder / "facts.json").read_text())["digests"]  # type: ignore[union-attr]
    rows = [i for i, digest in enumerate(images(OTHER, "train").digests) if digest in set(seen)]
    found = assess("few", real=np.concatenate([REAL[:40], OTHER[rows[:4]]]))
    assert privacy(found) == {"state": "not measured", "why": "needs 10 real images that the generator was fitted on, has 4"}
    assert found.scores == ()


def test_what_tells_no_loss_says_so() -> None:
    mi.fit(Silent(), images(REAL, "train"), name="mute")
    assert "tells no loss" in assess("mute")["membership_loss_auc"].note
    assert "came from elsewhere" in assess(images(noise(40, 4), "outside"))["loss_caught_at_1_in_100"].note
    assert assess("mute")["lira_auc"].note == "no shadow models were asked for: give --shadows 8"


def test_the_page_says_whether_the_images_leak_or_the_generator_and_in_japanese_all_of_it(tmp_path: Path) -> None:
    mi.fit(Remembers(draws=False), images(REAL, "train"), name="whisper")
    mi.fit(Remembers(), images(REAL, "train"), name="sieve")
    mi.fit(Silent(), images(OTHER, "train"), name="mute")
    whisper, sieve, mute = (assess(name) for name in ("whisper", "sieve", "mute"))
    page = {name: mi.report(found, out=tmp_path / f"{name}.html").read_text() for name, found in (("whisper", whisper), ("sieve", sieve))}
    assert "Do not share this generator" in page["whisper"] and "Give the generator to nobody" in page["whisper"]
    assert "Do not share this generator" not in page["sieve"] and "Do not share or use these images" in page["sieve"]
    for found in (whisper, mute):
        japanese = mi.report(found, out=tmp_path / "ja.html", lang="ja").read_text()
        text = re.sub(r"<style.*?</style>|<[^>]+>", " ", japanese, flags=re.S)
        assert not re.search(r"\b(the|of|is|not|was|with|needs|from|give)\b", text)


@pytest.mark.parametrize("kind", [mi.VAE(steps=3, width=8, codes=4, batch=8), mi.Diffusion(steps=3, width=8, batch=8)], ids=lambda k: type(k).__name__)
def test_the_loss_of_an_image_depends_on_that_image_its_class_and_the_seed_alone(kind: object, tmp_path: Path) -> None:
    y = np.arange(12) % 2
    fit = {"seed": 0, "folder": tmp_path / "out", "checkpoint": tmp_path / "checkpoint", "progress": mitate.verbs.Silent()}
    kind.fit(Pixels(REAL[:12], y, 2), Pixels(HELD[:4], y[:4], 2), **fit)  # type: ignore[attr-defined]
    generator = kind.load(tmp_path / "out")  # type: ignore[attr-defined]
    assert isinstance(generator, TellsLoss)
    whole = generator.losses(Pixels(REAL[:5], y[:5], 2), seed=0)
    assert whole.shape == (5,) and whole.dtype == np.float64 and np.isfinite(whole).all()
    order = [3, 0, 4]
    assert np.array_equal(generator.losses(Pixels(REAL[order], y[order], 2), seed=0), whole[order])
    assert not np.isclose(generator.losses(Pixels(REAL[:5], y[:5], 2), seed=1), whole, rtol=1e-9).any()
    assert not np.isclose(generator.losses(Pixels(REAL[:5], 1 - y[:5], 2), seed=0), whole, rtol=1e-9).any()


# on a trained model ---------------------------------------------------------------------------------------------------


def labelled(x: np.ndarray, name: str, seed: int) -> mi.ImageSet:
    """Labels by chance: a model can only learn them by heart."""
    return mi.from_arrays(x, np.random.default_rng(seed).permutation(np.arange(len(x)) % 2), classes=["a", "b"], name=name)


def test_a_model_that_learnt_copies_by_heart_is_caught_by_shadow_models_and_asked_again_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    real, held = labelled(REAL[:24], "real", 0), labelled(HELD[:24], "held", 1)
    copies = mi.from_arrays(np.clip(REAL[:24].astype(int) + 1, 0, 255).astype(np.uint8), real.y, classes=["a", "b"], name="copies")
    settings: dict[str, object] = {"features": "pixels", "axes": ("privacy",), "workers": 0, "shadows": 4, "steps": 40}
    found = mi.assess(copies, real=real, held_out=held, **settings)  # type: ignore[arg-type]
    assert found["lira_auc"].low > 0.5 and found["lira_auc"].n == 48 and found["threshold_auc"].value > 0.5  # type: ignore[operator]
    monkeypatch.setattr("mitate.verbs.VERBS", {})
    assert mi.assess(copies, real=real, held_out=held, **settings).scores == found.scores  # type: ignore[arg-type]


def test_held_out_images_that_cannot_be_halved_say_so() -> None:
    held = mi.from_arrays(HELD[:24], np.arange(24) == 0, classes=["a", "b"], name="held")
    found = mi.assess(images(noise(40, 4), "fakes"), real=images(REAL[:24], "real"), held_out=held, features="pixels", axes=("privacy",), workers=0, shadows=4)
    assert "needs 2 held-out images" in found["lira_auc"].note


@pytest.mark.parametrize("shadows", [2, 7, -4])
def test_shadow_models_come_in_pairs(shadows: int) -> None:
    with pytest.raises(SettingError, match=f"{shadows} shadow models"):
        check_asked(Assess("nowhere", "nowhere", shadows=shadows))


def test_every_image_is_out_of_one_of_each_pair_and_groups_stay_whole() -> None:
    y = np.array([0] * 30 + [1] * 9 + [2] * 2)
    alone = halves(y, pairs=3, seed=0)
    assert alone.shape == (6, 41) and (alone[::2] != alone[1::2]).all() and (alone.sum(axis=1) - 20.5 < 1).all()
    assert all(set(y[half]) == {0, 1, 2} for half in alone)
    assert (alone == halves(y, pairs=3, seed=0)).all() and (alone[0] != halves(y, pairs=3, seed=1)[0]).any() and (alone[0] != alone[2]).any()
    groups = np.arange(38) // 2
    assert all(len(set(row[groups == g])) == 1 for row in halves(y[:38], pairs=2, seed=0, groups=groups) for g in range(19))
    with pytest.raises(ValueError, match="needs 2 held-out"):
        halves(np.array([0, 0, 0, 1]), pairs=2, seed=0)


# audits ---------------------------------------------------------------------------------------------------------------


def test_canaries_are_found_in_what_remembers_and_not_in_what_does_not() -> None:
    train = images(REAL, "train")
    caught, fresh = mi.audit(Remembers(), train, canaries=40), mi.audit(Remembers(tells=False), train, canaries=40)
    assert caught.most > caught.epsilon > 1 and caught.by == "loss" and 10 < caught.planted < 30 and caught.images == 60
    assert fresh.epsilon == 0 and "proves nothing" in str(fresh) and fresh.promised is None
    assert any("change what is learnt" in finding for finding in caught.findings)


def test_a_kind_without_a_loss_is_audited_by_what_it_draws() -> None:
    train = images(REAL, "train")
    caught, fresh = mi.audit(Silent(), train, canaries=40), mi.audit(Silent(draws=False), train, canaries=40)
    assert caught.by == fresh.by == "distance"
    assert caught.epsilon > 0.5 and fresh.epsilon == 0


def test_an_audit_is_computed_once_and_its_generator_thrown_away(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Remembers(), Silent()):
        first = mi.audit(kind, images(REAL, "train"), canaries=20, seed=3)
        assert not list(own_store.rglob("seen.npz")) and mi.Store.find().refs() == {}
        with monkeypatch.context() as patched:
            patched.setattr("mitate.verbs.VERBS", {})
            assert mi.audit(kind, images(REAL, "train"), canaries=20, seed=3) == first
        assert mi.audit(kind, images(REAL, "train"), canaries=20, seed=4) != first


def test_a_private_fit_is_audited_beside_its_promise() -> None:
    kind = mi.VAE(epsilon=4.0, drop=0.0, steps=3, width=8, codes=2, batch=20)
    found = mi.audit(kind, images(REAL, "train"), canaries=20)
    assert found.images == 100 and found.settings["epsilon"] == 4.0 and found.most > 0.5
    assert found.delta == 1e-5 and found.promised is not None and 4.0 < found.promised < 12.0, "the same noise promises less at a smaller delta"
    assert not found.refuted and "at delta 1e-05 was promised" in str(found)
    own = {"epsilon": 2.0, "delta": 1e-3, "accountant": {"by": "somebody"}}
    assert leaks.promise_at(own, 1e-5) == (2.0, 1e-3) and leaks.promise_at(own, 1e-2) == (2.0, 1e-3) and leaks.promise_at({}, 1e-5) == (None, 0.0)


@pytest.mark.parametrize(("canaries", "message"), [(5, "5 canaries are too few"), (3000, "would be too alike")])
def test_a_number_of_canaries_that_cannot_be_is_one_error_with_a_fix(canaries: int, message: str) -> None:
    with pytest.raises(SettingError, match=message) as wrong:
        mi.audit(Remembers(), images(REAL, "train"), canaries=canaries)
    assert wrong.value.fix


def test_the_command_line_audits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from mitate.cli import app

    for i, picture in enumerate(REAL[:40]):
        place = tmp_path / "leaves" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(place / f"{i}.png")
    command = ["audit", "gaussian", str(tmp_path / "leaves"), "-o", "rank=4", "--canaries", "20", "--json", str(tmp_path / "a.json")]
    app.main(command, standalone_mode=False)
    kept = json.loads((tmp_path / "a.json").read_text())
    assert "gaussian: fitted on 24 images" in capsys.readouterr().out
    assert kept["settings"] == {"rank": 4} and kept["by"] == "distance" and kept["canaries"] == 20 and kept["promised"] is None
    with pytest.raises(SettingError) as typo:
        app.main(["audit", "gausian", str(tmp_path / "leaves")], standalone_mode=False)
    assert "did you mean" in typo.value.fix
