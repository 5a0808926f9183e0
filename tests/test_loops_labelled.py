"""Loops on labelled images: what their agents, parts and indicators promise, the grounds by name, and the alarm over null runs of such a loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from mitate.cli_loops import collapse as command
from mitate.cli_loops import monitor as watching
from mitate.errors import DataError, JobError, MitateError, SettingError
from mitate.loops import grounds
from mitate.loops.agents import Decode, Origin, Samples, digest_of
from mitate.loops.chain import Chain
from mitate.loops.chains import collapse
from mitate.loops.chance import seeds_of
from mitate.loops.labelled import EXACT, Labelled, cells
from mitate.loops.loop import Loop
from mitate.loops.scratch import Labels, Refitted, dialled
from mitate.loops.watch import ALARM, NULL, null_count, runs_of

QUICK = {"features": "pixels", "classifier_steps": 4}
TINY_VAE = {"steps": 3, "width": 8, "codes": 4, "batch": 8}


def drawn_images(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of 8 px, grey: a bar in the upper, middle or lower third, its place and brightness by chance, on noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 60, (n, 8, 8, 1))
    for i, k in enumerate(y):
        left = rng.integers(0, 4)
        x[i, 3 * k : 3 * k + 2, left : left + 5] = rng.integers(120, 256)
    return x.astype(np.uint8), y.astype(np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """210 images, all in one file."""
    folder = tmp_path_factory.mktemp("labelled")
    x, y = drawn_images(210, seed=0)
    np.savez(folder / "bars.npz", x=x, y=y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITATE_HOME", str(folder / "store"))
        yield folder / "bars.npz"


@pytest.fixture(scope="module")
def ground(data: Path) -> Labelled:
    found = Labelled(str(data), "gaussian", **QUICK)
    _ = found.parts
    return found


@pytest.fixture(scope="module")
def vae(ground: Labelled) -> Labelled:
    return replace(ground, kind="vae", settings=TINY_VAE)


def quick(**told: object) -> Loop:
    return Loop(**{"n": 30, "generations": 2, "images": Decode(depth=1), "captions": Decode(depth=1), **told})  # type: ignore[arg-type]


def rows_of(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


# real images


def test_no_picture_is_in_two_parts_and_order_does_not_matter(ground: Labelled, tmp_path: Path) -> None:
    parts = ground.parts
    pool, reference, test = (rows_of(p.x) for p in (parts.pool, parts.reference, parts.test))
    assert not pool & reference and not pool & test and not reference & test and len(pool | reference | test) == 210
    assert rows_of(ground.held[0]) == reference | test
    x, y = drawn_images(210, seed=0)
    np.savez(tmp_path / "shuffled.npz", x=x[::-1], y=y[::-1])
    assert rows_of(Labelled(str(tmp_path / "shuffled.npz"), "gaussian", **QUICK).parts.pool.x) == pool


def test_a_draw_has_no_pair_twice_and_every_class(ground: Labelled) -> None:
    x, y = ground.draw(40, seed=1)
    assert len(rows_of(x)) == 40 and set(ground.draw(3, seed=5)[1]) == {0, 1, 2}
    assert (ground.draw(40, seed=1)[0] == x).all() and not (ground.draw(40, seed=2)[0] == x).all()
    whole = len(ground.parts.pool.x)
    assert rows_of(ground.draw(whole, seed=0)[0]) == rows_of(ground.parts.pool.x)
    with pytest.raises(SettingError, match=f"more than the {whole} of .* fix: give --n {whole} or less"):
        ground.draw(whole + 1, seed=0)


def test_a_pool_that_is_too_small_is_told_before_anything_is_trained(ground: Labelled) -> None:
    with pytest.raises(SettingError, match="to draw from"):
        collapse(ground, quick(n=500), seeds=1)


def test_held_images_never_enter_training(ground: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: set[bytes] = set()
    for kind in (Refitted, Labels):
        plain_fit = kind.fit

        def fit(self, images, captions, *, seed, plain_fit=plain_fit):  # type: ignore[no-untyped-def]
            shown.update(row.tobytes() for row in images)
            plain_fit(self, images, captions, seed=seed)

        monkeypatch.setattr(kind, "fit", fit)
    collapse(ground, quick(policy="fresh:0.5", relabel="frozen"), seeds=2)
    assert len(shown) > 60 and not shown & rows_of(ground.held[0])


def test_a_held_image_that_is_drawn_is_refused(ground: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labelled, "draw", lambda self, n, *, seed: (self.held[0][:n], self.held[1][:n]))
    with pytest.raises(DataError, match="held for measuring"):
        Chain(ground, quick(), seed=0)


def test_images_that_have_changed_are_refused(ground: Labelled, tmp_path: Path) -> None:
    asked = ground.asked
    assert grounds.ground_of("labelled", asked).asked == asked
    x, y = drawn_images(210, seed=1)
    np.savez(tmp_path / "bars.npz", x=x, y=y)
    with pytest.raises(DataError, match="not what they were"):
        _ = grounds.ground_of("labelled", {**asked, "data": str(tmp_path / "bars.npz")}).draw(3, seed=0)


# agents


@pytest.mark.parametrize("kind", ["gaussian", "vae"])
def test_image_i_depends_on_its_class_and_seed_i_alone(ground: Labelled, vae: Labelled, kind: str) -> None:
    agent = {"gaussian": ground, "vae": vae}[kind].generator(0)
    agent.fit(*ground.draw(40, seed=0), seed=3)
    captions, seeds = np.arange(50) % 3, seeds_of(50, "test")
    whole = agent.generate(captions, seeds, Decode(depth=1))
    assert whole.shape == (50, 8, 8, 1) and whole.dtype == np.uint8
    some = np.array([41, 7, 20])
    assert (agent.generate(captions[some], seeds[some], Decode(depth=1)) == whole[some]).all()


@pytest.mark.parametrize("kind", ["gaussian", "vae"])
def test_what_an_agent_learnt_is_arrays_without_objects(ground: Labelled, vae: Labelled, kind: str) -> None:
    own = {"gaussian": ground, "vae": vae}[kind]
    x, y = ground.draw(40, seed=0)
    for make, ask in (
        (own.generator, lambda a: a.generate(y, seeds_of(40, "a"), Decode(depth=1))),
        (own.captioner, lambda a: a.score(x, y)),
    ):
        agent, other = make(0), make(1)
        agent.fit(x, y, seed=3)
        assert all(array.dtype != object for array in agent.state().values())
        other.restore(agent.state())
        assert digest_of(other.state()) == digest_of(agent.state()) and (ask(other) == ask(agent)).all()
        clone = agent.clone()
        agent.fit(*ground.draw(40, seed=1), seed=4)
        assert digest_of(clone.state()) == digest_of(other.state()) != digest_of(agent.state())


def test_a_class_is_drawn_from_the_classifiers_probabilities(ground: Labelled) -> None:
    agent = ground.captioner(0)
    x, y = ground.draw(60, seed=0)
    agent.fit(x, y, seed=1)
    sure = np.stack([agent.confidence(x, np.full(60, k)) for k in range(3)], axis=1)
    assert sure.sum(axis=1) == pytest.approx(1) and agent.score(x, y) == pytest.approx(np.log(sure[np.arange(60), y]))
    assert (agent.describe(x, seeds_of(60, "a"), Decode(temperature=1e-6)) == sure.argmax(axis=1)).all()
    often = agent.describe(np.repeat(x[:1], 400, axis=0), seeds_of(400, "a"), Decode())
    assert np.bincount(often, minlength=3) / 400 == pytest.approx(sure[0], abs=0.1)
    seeds = seeds_of(60, "b")
    assert (agent.describe(x[5:9], seeds[5:9], Decode()) == agent.describe(x, seeds, Decode())[5:9]).all()


def test_a_classifier_goes_on_from_where_it_stands_and_a_generator_does_not(ground: Labelled) -> None:
    first, second = ground.draw(40, seed=0), ground.draw(40, seed=1)
    for make, goes_on in ((ground.captioner, True), (ground.generator, False)):
        fresh, trained = make(0), make(0)
        trained.fit(*first, seed=1)
        for agent in (fresh, trained):
            agent.fit(*second, seed=2)
        assert (digest_of(fresh.state()) != digest_of(trained.state())) == goes_on


def test_a_class_that_no_longer_comes_is_remembered_and_one_that_never_came_is_an_error(ground: Labelled) -> None:
    x, y = ground.draw(60, seed=0)
    agent = ground.generator(0)
    with pytest.raises(JobError, match="class 2, which it never learnt"):
        agent.fit(x[y < 2], y[y < 2], seed=0)
        agent.generate(np.array([2]), seeds_of(1, "a"), Decode())
    agent.fit(x, y, seed=0)
    agent.fit(x[y < 2], y[y < 2], seed=1)
    made = agent.generate(np.repeat([0, 1, 2], 30), seeds_of(90, "a"), Decode()).astype(float)
    own = [made[30 * k : 30 * k + 30].mean(axis=0) for k in range(3)]
    real = [x[y == k].mean(axis=0) for k in range(3)]
    assert [int(np.argmin([((o - r) ** 2).sum() for r in real])) for o in own] == [0, 1, 2]


def test_depth_and_temperature_turn_what_a_kind_has(ground: Labelled, vae: Labelled, data: Path) -> None:
    with pytest.raises(SettingError, match="gaussian has no temperature.  fix: leave"):
        ground.generator(0).generate(np.zeros(1, int), seeds_of(1, "a"), Decode(temperature=0.5))
    flow = Labelled(str(data), "diffusion", {"sample_steps": 5}, **QUICK)
    with pytest.raises(SettingError, match="diffusion has no temperature.  fix: set its guidance"):
        flow.notes(quick(images=Decode(temperature=2.0)))
    assert dialled(flow.kind_for((8, 8, 1)), Decode(depth=3), "diffusion").sample_steps == 3
    assert flow.loop().images.depth == 5 and flow.notes(flow.loop()) == [] and vae.loop().images.depth == 1
    assert dialled(vae.kind_for((8, 8, 1)), Decode(temperature=4.0), "vae").spread == 2 * vae.kind_for((8, 8, 1)).spread
    assert [note.split()[0] for note in ground.notes(quick(images=Decode(), captions=Decode(depth=2)))] == ["depth=50", "depth=2"]
    with pytest.raises(SettingError, match="no temperature"):  # in a loop it is no chain's fault
        collapse(ground, quick(images=Decode(temperature=0.5)), seeds=1)


def test_the_preset_does_not_follow_the_number_of_pairs(data: Path) -> None:
    assert Labelled(str(data)).kind_for((8, 8, 1)).steps == 250
    assert Labelled(str(data), settings={"steps": 7}).kind_for((8, 8, 1)).steps == 7


# loops


@pytest.mark.parametrize("kind", ["gaussian", "vae"])
def test_a_whole_loop_is_measured_on_both_sides(ground: Labelled, vae: Labelled, kind: str) -> None:
    own = {"gaussian": ground, "vae": vae}[kind]
    found = collapse(own, quick(), seeds=2)
    learnt = [line["learnt_from"] for line in found.lines]
    assert not found.blocked and learnt[:2] == [{"real": 30, "made": 0}, {"real": 0, "made": 30}]
    first = found.lines[0]["indicators"]
    assert set(first) == {
        "variance", "within_variance", "kernel_distance", "precision", "recall", "coverage", "vendi", "tail", "alignment", "alignment_sd", "entropy",
        "distinct", "caption_variance", "class_drift", "utility",
    }  # fmt: skip
    assert all(0 <= first[name] <= 1 for name in ("precision", "recall", "coverage", "tail", "alignment", "class_drift", "utility"))
    assert list(found.lines[2:]) == list(collapse(own, quick(), seeds=[1]).lines)
    assert "utility" not in collapse(own, quick(generations=1), seeds=1, exact=False).lines[0]["indicators"]


@pytest.mark.parametrize("told", [{"setting": "images"}, {"setting": "captions"}, {"policy": "fresh:0.3", "captioners": 2, "generators": 2}])
def test_other_settings_and_policies_run(ground: Labelled, told: dict[str, object]) -> None:
    found = collapse(ground, quick(**told), seeds=1)
    assert not found.blocked and len(found.lines) == 2
    last = found.lines[-1]
    assert ("disagreement" in last["indicators"]) == ("captioners" in told)
    assert last["learnt_from"]["real"] == (18 if "policy" in told else 0)


def test_a_run_that_was_killed_ends_with_the_same_bytes(ground: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = quick(policy="budget")
    collapse(ground, told, seeds=2, out=tmp_path / "whole")
    plain_save = Chain.save
    steps = [0]

    def save(self: Chain, folder: Path) -> None:
        plain_save(self, folder)
        steps[0] += 1
        if steps[0] == 3:
            raise KeyboardInterrupt  # chain 0 is whole, of chain 1 the first generation is there and its line is not

    with monkeypatch.context() as broken:
        broken.setattr(Chain, "save", save)
        with pytest.raises(KeyboardInterrupt):
            collapse(ground, told, seeds=2, out=tmp_path / "killed")
    collapse(replace(ground), told, seeds=2, out=tmp_path / "killed")
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


def test_a_frozen_agent_stays_what_real_pairs_made_of_it(ground: Labelled) -> None:
    chain = Chain(ground, quick(captioners=2, generators=2, frozen_captioners=1, frozen_generators=1), seed=0)
    chain.step()
    before = {seat.name: seat.digest for seat in chain.seats}
    chain.step()
    assert {seat.name for seat in chain.seats if seat.digest == before[seat.name]} == {"generator-1", "captioner-1"}
    with pytest.raises(SettingError, match="frozen and cannot be trained"):
        chain.generators[1].fit(*ground.draw(30, seed=0), seed=0)
    chain.captioners[1].agent.fit(*ground.draw(30, seed=0), seed=0)
    with pytest.raises(JobError, match="frozen and yet has changed"):
        chain.step()


def test_few_pairs_are_an_error_of_that_chain(ground: Labelled) -> None:
    assert "too few to be measured" in collapse(ground, quick(n=9), seeds=1).blocked[0]


# indicators


def test_a_collapsed_set_is_seen_by_recall_coverage_and_tail_and_not_by_precision(ground: Labelled) -> None:
    def told(images: np.ndarray, captions: np.ndarray) -> dict[str, float]:
        made = Samples.of(images, captions, Origin(1, "generator-0", "captioner-0"))
        return ground.indicators(made, made, [], [])

    x, y = ground.draw(90, seed=0)
    real = told(x, y)
    few = np.concatenate([np.flatnonzero(y == k)[:1] for k in range(3)]).repeat(30)
    collapsed = told(x[few], y[few])
    assert collapsed["within_variance"] == pytest.approx(0, abs=1e-9) and collapsed["variance"] < real["variance"] and collapsed["recall"] == 0
    assert collapsed["coverage"] < 0.5 * real["coverage"] and collapsed["tail"] < 0.5 * real["tail"] and collapsed["vendi"] < real["vendi"]
    assert collapsed["kernel_distance"] > real["kernel_distance"] and collapsed["precision"] >= real["precision"] - 0.05
    assert collapsed["entropy"] == pytest.approx(np.log(3)) and real["distinct"] == 3 and collapsed["class_drift"] < 0.02
    assert told(x, np.zeros(90, int))["class_drift"] == pytest.approx(2 / 3, abs=0.02)


def test_more_pairs_than_are_measured_do_not_raise_what_depends_on_n(ground: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.loops.labelled.MEASURED", 30)
    x, y = ground.draw(90, seed=0)
    made = Samples.of(x, y, Origin(1, "generator-0"))
    entropies = [ground.indicators(made.rows(np.arange(n)), made, [], [], exact=False)["vendi"] for n in (90, 30)]
    assert entropies[0] == pytest.approx(entropies[1], rel=0.3)


def test_cells_find_groups_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = centres[np.arange(90) % 3] + rng.normal(0, 0.3, (90, 2))
    found = cells(points, 3, seed=1)
    assert sorted(map(tuple, found.round(0))) == sorted(map(tuple, centres)) and (cells(points, 3, seed=1) == found).all()


# grounds by name, the command line, the alarm


def test_agents_name_a_ground_and_what_is_looped(data: Path) -> None:
    toy = grounds.named("toy", "", ["kinds=3", "step=0.5"])
    assert (toy.ground.name, toy.ground.world.kinds, toy.ground.step, toy.setting) == ("toy", 3, 0.5, "both")  # type: ignore[attr-defined]
    found = grounds.named(str(data), "vae", ["steps=7", "size=8", "features=pixels"])
    assert found == grounds.Named(Labelled(str(data), "vae", {"steps": 7}, features="pixels", size=8), "both")
    assert grounds.named(str(data), "") == grounds.Named(Labelled(str(data)), "both")
    sides = {"lab": ("lab", "lab", "both"), "mine:t2i": ("mine", None, "images"), "my:x:captioner": (None, "my:x", "captions"), "a+b": ("a", "b", "both")}
    for agents, (model, describer, setting) in sides.items():
        ground = grounds.named("lab", agents)
        assert ground.setting == setting and ground.ground.name == "captioned"
        assert model in (None, ground.ground.model) and describer in (None, ground.ground.describer)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "asked",
    [
        ["toy", "--agents", "vae"], ["lab", "--agents", "vae"], ["toi"], ["nowhere"], ["digits:9", "--agents", "vea"], ["digits:9", "--agents", "lab:t2j"],
        ["digits:9", "-o", "stepps=3"], ["digits:9", "-o", "size=2"], ["digits:9", "-o", "epsilon=3"], ["digits:9", "-o", "classifier_steps=0"],
        ["lab", "--agents", "lab:t2i", "--setting", "captions"], ["lab", "-o", "model=x"], ["digits:9", "--n", "5000"],
        ["digits:9", "--agents", "gaussian", "--decode-images", "temperature=0.5"],
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_a_fix(asked: list[str]) -> None:
    with pytest.raises(MitateError, match="fix: ") as wrong:
        command.main(asked, standalone_mode=False)
    assert wrong.value.exit_code == 2 and "\n" not in str(wrong.value)


def test_images_without_classes_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    for i, image in enumerate(drawn_images(40, seed=0)[0]):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="fix: "):
        _ = Labelled(str(tmp_path), "gaussian", **QUICK).parts  # type: ignore[arg-type]


def test_null_runs_are_few_where_they_are_dear() -> None:
    assert [null_count("labelled", rate) for rate in (0.05, 0.01, 0.2)] == [19, 99, 4]
    assert [null_count("toy", rate) for rate in (0.05, 0.01)] == [199, 999]
    with pytest.raises(SettingError, match="between 0 and 1"):
        null_count("labelled", 0.0)


def test_collapse_and_monitor_of_a_folder_from_the_command_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "loop"
    asked = [str(data), "--agents", "gaussian", "--n", "30", "--generations", "3", "--seeds", "1", "--decode-images", "depth=9", "--out", str(out)]
    asked += [part for name, value in QUICK.items() for part in ("-o", f"{name}={value}")]
    told = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert told.exit_code == 0 and "coverage" in told.output and "3 generations of 1 chains" in told.output
    assert "depth=9 has no effect on gaussian" in told.stderr
    steps = [0]
    plain_step = Chain.step

    def step(self: Chain) -> dict:  # type: ignore[type-arg]
        steps[0] += 1
        if steps[0] == 5:
            raise KeyboardInterrupt
        return plain_step(self)

    monkeypatch.setattr(Chain, "step", step)
    with pytest.raises(click.Abort):
        watching.main([str(out), "--rate", "0.2"], standalone_mode=False)
    found = CliRunner().invoke(watching, [str(out), "--rate", "0.2"], catch_exceptions=False)
    assert found.exit_code == 0 and "(4 null runs)" in found.output and found.output.count("chain 0 generation") == 3
    assert steps[0] == 4 + 1 + 8  # four were kept, one was broken off, eight were left of four runs of three
    again = CliRunner().invoke(watching, [str(out), "--rate", "0.2", "--null", str(out / NULL)], catch_exceptions=False)
    assert again.stdout == found.stdout and steps[0] == 13
    watched = json.loads((out / ALARM).read_text())["monitor"]
    assert not set(EXACT) & {*watched["names"], *watched["still"]} and not any(set(EXACT) & set(g) for run in runs_of(out) for g in run)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}
