"""Loops of the exact toy pair: what theory says must happen, and the promises of agents, policies and chains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitate.errors import DataError, JobError, MitateError, SettingError, StoreError
from mitate.loops import indicators as seen
from mitate.loops.agents import Decode, Origin, Samples, Seat, digest_of, generated, joined
from mitate.loops.chain import Chain, roll_back
from mitate.loops.chains import collapse, read_lines
from mitate.loops.chance import chosen, normals, seeds_of, uniforms
from mitate.loops.loop import Loop
from mitate.loops.policies import policy_of
from mitate.loops.toy import Toy, ToyCaptions, ToyImages, World, cut, regression_bound, regression_errors, regression_replace

PLAIN = Toy(World(kinds=1, wordings=1, dims=3, spread=1.0))
WORDS = Toy(World(kinds=1, wordings=12, spread=0.1))
APART = Toy(World(kinds=5, wordings=1, spread=0.01, skew=0.0))  # kinds that nobody mistakes
SMALL = Loop(n=60, generations=3)


def within(found: np.ndarray, truth: float, *, times: float = 4.5) -> bool:
    """Whether the mean of independent values is the truth but for chance."""
    return bool(abs(found.mean() - truth) <= times * found.std(ddof=1) / np.sqrt(len(found)))


# theory


def test_variance_under_replace_shrinks_by_one_minus_one_over_n_each_time() -> None:
    """Maximum likelihood divides by n: E[S_t] = (1 - 1/n)^t S. The image model's own trace, not that of a sample of it."""
    n, generations = 10, 6
    traces = []
    for seed in range(80):
        chain = Chain(PLAIN, Loop(setting="images", n=n, generations=generations), seed=seed, exact=False)
        traces.append([np.trace(_step(chain).cov[0]) for _ in range(generations)])
    for t in (1, 3, 6):
        assert within(np.array(traces)[:, t - 1], 3 * (1 - 1 / n) ** t)


def test_the_mean_walks_at_random_under_replace() -> None:
    """Its squared distance from the truth grows by S_t / n each time."""
    n, generations = 10, 5
    off = []
    for seed in range(80):
        chain = Chain(PLAIN, Loop(setting="images", n=n, generations=generations), seed=seed, exact=False)
        for _ in range(generations):
            model = _step(chain)
        off.append(float((model.mean[0] ** 2).sum()))
    assert within(np.array(off), 3 / n * sum((1 - 1 / n) ** t for t in range(generations)))


def test_regression_error_grows_with_t_under_replace() -> None:
    told = {"features": 5, "n": 30, "noise": 1.0}
    errors = np.array([regression_errors("replace", generations=8, seed=s, **told) for s in range(600)])
    for t in (1, 4, 8):
        assert within(errors[:, t - 1], regression_replace(t, **told))


def test_regression_error_stays_under_its_bound_under_accumulate() -> None:
    told = {"features": 5, "n": 30, "noise": 1.0}
    errors = np.array([regression_errors("accumulate", generations=12, seed=s, **told) for s in range(600)])
    assert (errors.mean(axis=0) < regression_bound(**told)).all()
    assert errors[:, -1].mean() < regression_replace(2, **told)


def test_captions_survive_one_round_as_often_as_the_closed_form_says() -> None:
    """A caption of probability p comes among n with 1 - (1 - p)^n; the captioner's counted wordings then have it."""
    n, p = 25, WORDS.world.captions
    came = []
    for seed in range(300):
        chain = Chain(WORDS, Loop(setting="captions", n=n), seed=seed, exact=False)
        chain.step()
        model = chain.captioners[0].agent
        assert isinstance(model, ToyCaptions)
        came.append(model.wording[0] > 0)
    for k in (3, 7, 11):
        assert within(np.array(came)[:, k].astype(float), 1 - (1 - p[k]) ** n)
    assert within(np.array(came).sum(axis=1).astype(float), seen.expected_distinct(p, n))


def test_captions_that_are_gone_do_not_come_back_under_replace() -> None:
    for seed in range(5):
        chain = Chain(WORDS, Loop(setting="captions", n=25, generations=8), seed=seed)
        known: list[set[int]] = []
        for _ in range(8):
            chain.step()
            known.append(set(chain.pool.captions[chain.pool.generation == chain.last].tolist()))
        assert all(later <= earlier for earlier, later in zip(known, known[1:], strict=False))


def test_text_loses_diversity_where_the_image_side_is_frozen() -> None:
    """With kinds that nobody mistakes, each generation draws n captions of the last one's: E[1 - sum p^2] = (1 - 1/n)^t of the truth's."""
    n, generations = 20, 6
    found = collapse(APART, Loop(frozen_generators=1, n=n, generations=generations), seeds=100, exact=False).table("caption_variance")
    for t in (1, 6):
        assert within(found[:, t - 1], (1 - 1 / n) ** t * 0.8)


def test_image_spread_contracts_where_the_text_side_is_frozen() -> None:
    """Prompts are a fixed real pool, n_k of each kind: E[S_k] = (1 - 1/n_k)^t s^2."""
    n, generations, ratios = 40, 6, []
    for seed in range(120):
        chain = Chain(APART, Loop(setting="images", n=n, generations=generations), seed=seed, exact=False)
        for _ in range(generations):
            model = _step(chain)
        counts = np.bincount(chain.added[0].captions, minlength=5)
        there = counts > 1
        ratios.append(float(np.mean(np.trace(model.cov, axis1=1, axis2=2)[there] / (2 * 0.01**2 * (1 - 1 / counts[there]) ** generations))))
    assert within(np.array(ratios), 1.0)


def test_training_both_sides_is_worse_than_one_and_real_pairs_prevent_it() -> None:
    world = Toy(World(kinds=5, wordings=1, spread=0.35))
    told = {"n": 30, "generations": 8}
    arms = {
        name: collapse(world, Loop(**told, **more), seeds=12)
        for name, more in {"both": {}, "text frozen": {"setting": "images"}, "fresh": {"policy": "fresh:0.5"}, "real": {"policy": "real"}}.items()
    }
    w2 = {name: found.table("image_w2").mean(axis=0) for name, found in arms.items()}
    assert w2["both"][-1] > w2["text frozen"][-1] > 2 * w2["fresh"][-1] > w2["real"][-1]


def test_frozen_relabelling_repairs_the_label_side_alone() -> None:
    told = {"setting": "captions", "n": 100, "generations": 6}
    plain = collapse(Toy(), Loop(**told), seeds=8)
    frozen = collapse(Toy(), Loop(relabel="frozen", **told), seeds=8)
    assert frozen.table("caption_tv")[:, -1].mean() < plain.table("caption_tv")[:, -1].mean() - 0.1
    apart = {"setting": "images", "n": 60, "generations": 3}  # where labels never go wrong it changes nothing
    images = [collapse(APART, Loop(relabel=relabel, **apart), seeds=3).table("within_variance") for relabel in ("none", "frozen")]
    assert (images[0] == images[1]).all()


# chance, agents, policies


def test_draw_i_depends_on_seed_i_alone() -> None:
    seeds = seeds_of(100, "a", 1)
    assert (seeds_of(10, "a", 1) == seeds[:10]).all() and len(set(seeds.tolist())) == 100 and not set(seeds.tolist()) & set(seeds_of(100, "a", 2).tolist())
    assert (uniforms(seeds, 3)[7] == uniforms(seeds[7:8], 3)[0]).all() and not (uniforms(seeds, 1) == uniforms(seeds, 1, stream=1)).any()
    model = ToyImages(World())
    captions = np.arange(100)
    whole = model.generate(captions, seeds, Decode())
    assert whole[40:50] == pytest.approx(model.generate(captions[40:50], seeds[40:50], Decode()), abs=1e-15)


def test_draws_are_uniform_and_normal() -> None:
    z = normals(seeds_of(20_000, "normal"), 4)
    assert np.abs(z.mean(axis=0)).max() < 0.03 and np.abs(np.cov(z.T) - np.eye(4)).max() < 0.04 and abs((z**4).mean() - 3) < 0.15
    assert chosen(50, 20, "x").tolist() == sorted(set(chosen(50, 20, "x").tolist())) and len(chosen(5, 9, "x")) == 5


def test_training_a_frozen_agent_is_an_error() -> None:
    seat = Seat("captioner-0", ToyCaptions(World()))
    images, captions = World().draw(50, seed=0)
    seat.fit(images, captions, seed=0)
    seat.freeze()
    with pytest.raises(SettingError, match="captioner-0 is frozen"):
        seat.fit(images, captions, seed=0)


def test_a_frozen_agent_that_changes_behind_the_loops_back_ends_the_chain() -> None:
    chain = Chain(Toy(), replace(SMALL, frozen_generators=1), seed=0)
    chain.step()
    frozen = chain.generators[0]
    before = frozen.digest
    chain.step()
    assert frozen.digest == before
    frozen.agent.fit(*World().draw(50, seed=1), seed=0)
    with pytest.raises(JobError, match="generator-0 is frozen and yet has changed"):
        chain.step()


def test_a_clone_shares_nothing() -> None:
    one = ToyImages(World())
    other = one.clone()
    before = digest_of(one.state())
    other.fit(*World().draw(50, seed=1))
    assert digest_of(one.state()) == before != digest_of(other.state())


def test_policies_are_filters_by_generation_and_origin() -> None:
    def part(n: int, origin: Origin) -> Samples:
        return Samples.of(np.zeros((n, 2)), np.zeros(n, dtype=np.int64), origin)

    pool = joined([part(10, Origin(0)), part(10, Origin(1, "generator-0")), part(5, Origin(3)), part(10, Origin(2, "generator-0", "captioner-0"))])
    asked = {"generation": 3, "n": 10, "seed": 0}
    rows = {text: policy_of(text).rows(pool, **asked) for text in ("replace", "accumulate", "budget", "fresh:0.5", "real")}
    assert rows["replace"].tolist() == list(range(25, 35))
    assert rows["accumulate"].tolist() == [*range(20), *range(25, 35)]
    assert len(rows["budget"]) == 10 and set(rows["budget"]) <= set(rows["accumulate"])
    assert len(rows["fresh:0.5"]) == 10 and set(range(20, 25)) <= set(rows["fresh:0.5"]) <= set(range(20, 35))
    assert rows["real"].tolist() == list(range(20, 25))
    assert set(pool.upto(1).generation) == {0, 1}


@pytest.mark.parametrize("text", ["replce", "fresh", "fresh:2", "fresh:a", "budget:3"])
def test_a_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError):
        policy_of(text)


def test_every_pair_says_where_it_comes_from() -> None:
    chain = Chain(Toy(), replace(SMALL, captioners=2, generators=2, policy="fresh:0.25"), seed=0)
    chain.step(), chain.step()
    makers = {(o.generation, o.image_by, o.caption_by) for o in np.array(chain.pool.origins, dtype=object)[np.unique(chain.pool.origin)]}
    assert {(2, f"generator-{i}", f"captioner-{j}") for i in (0, 1) for j in (0, 1)} < makers and (2, "real", "real") in makers
    assert chain.lines[1]["learnt_from"] == {"real": 30, "made": 90}


def test_real_pairs_that_are_held_for_measuring_are_not_learnt_from() -> None:
    class Leaking(Toy):
        def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
            return self.held[0][:n], self.held[1][:n]

    with pytest.raises(DataError, match="held for measuring"):
        Chain(Leaking(), SMALL, seed=0)


# dials


def test_a_search_keeps_the_best_and_costs_as_many() -> None:
    judge = Seat("judge", ToyCaptions(World()))
    judge.fit(*World().draw(300, seed=0), seed=0)
    seat = Seat("generator-0", ToyImages(World()))
    captions, seeds = World().draw(200, seed=1)[1], seeds_of(200, "x")
    one = generated(seat, captions, seeds, Decode(), score=judge.agent.score)
    best = generated(seat, captions, seeds, Decode(search=8), score=judge.agent.score)
    before, after = judge.agent.score(one, captions), judge.agent.score(best, captions)
    assert (after >= before).all() and after.mean() > before.mean() + 1
    assert (Decode().cost, Decode(search=8).cost, Decode(depth=10).cost, Decode(samples=4).cost) == (50, 408, 10, 50)
    with pytest.raises(SettingError, match="nothing to choose by"):
        generated(seat, captions, seeds, Decode(search=2))


def test_depth_and_temperature_do_what_they_say() -> None:
    model = ToyImages(World(kinds=1, wordings=1))
    model.restore({"mean": np.zeros((1, 2)), "cov": np.eye(2)[None]})
    zeros, seeds = np.zeros(4000, dtype=np.int64), seeds_of(4000, "x")
    for decode, factor in ((Decode(depth=1), 0.25), (Decode(depth=2), 0.5625), (Decode(temperature=0.5), 0.5), (Decode(), 1.0)):
        assert seen.variance(model.generate(zeros, seeds, decode)) == pytest.approx(2 * factor, rel=0.05)
    assert cut(np.arange(8), 50).tolist() == list(range(8))
    assert cut(np.arange(8), 1).tolist() == [0] * 8 and cut(np.arange(8), 2).tolist() == [0, 1, 2, 1, 1, 2, 2, 1]


def test_samples_make_more_pairs_of_each_prompt() -> None:
    line = Chain(Toy(), replace(SMALL, images=Decode(samples=3), captions=Decode(samples=2)), seed=0).step()
    assert line["cost"] == {"images": 60 * 3 * 50, "captions": 60 * 6 * 50, "human": 0, "kept": 360, "per_kept": 75.0}


def test_people_write_what_the_frozen_captioner_is_not_sure_of() -> None:
    told = replace(SMALL, relabel="frozen", keep=0.9)
    without, some = (Chain(Toy(), replace(told, human=human), seed=0).step() for human in (0, 7))
    assert without["cost"]["kept"] < 60 and some["cost"]["kept"] == without["cost"]["kept"] + 7 and some["cost"]["human"] == 7


# chains on disk


def test_same_seed_same_bytes_and_another_seed_another_chain(tmp_path: Path) -> None:
    for name in ("a", "b"):
        collapse(Toy(), SMALL, seeds=2, out=tmp_path / name)
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    lines = [json.loads(line) for line in (tmp_path / "a" / "loop.jsonl").read_text().splitlines()]
    assert lines[0]["indicators"] != lines[3]["indicators"]


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = replace(SMALL, policy="fresh:0.25", relabel="frozen", images=Decode(search=2))
    collapse(Toy(), told, seeds=2, out=tmp_path / "whole")
    for after in (1, 4):
        steps, plain_save = [0], Chain.save

        def save(self: Chain, folder: Path, *, steps: list[int] = steps, after: int = after, plain_save=plain_save) -> None:  # type: ignore[no-untyped-def]
            plain_save(self, folder)
            steps[0] += 1
            if steps[0] == after:
                raise KeyboardInterrupt  # the state is there, the line is not

        with monkeypatch.context() as broken:
            broken.setattr(Chain, "save", save)
            with pytest.raises(KeyboardInterrupt):
                collapse(Toy(), told, seeds=2, out=tmp_path / f"killed-{after}")
        collapse(Toy(), told, seeds=2, out=tmp_path / f"killed-{after}")
        assert _bytes(tmp_path / f"killed-{after}") == _bytes(tmp_path / "whole")


def test_a_chain_rolled_back_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    before = _bytes(tmp_path)
    roll_back(tmp_path / "chain-000", 1)
    assert len(list((tmp_path / "chain-000").glob("*.npz"))) == 2
    collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    assert _bytes(tmp_path) == before


def test_more_generations_go_on_from_there(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    more = collapse(Toy(), replace(SMALL, generations=5), seeds=1, out=tmp_path)
    assert [line["generation"] for line in more.lines] == [1, 2, 3, 4, 5]
    assert list(more.lines) == list(collapse(Toy(), replace(SMALL, generations=5), seeds=1).lines)


def test_a_broken_link_blocks_its_own_chain_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_step = Chain.step

    def step(self: Chain) -> dict:  # type: ignore[type-arg]
        if self.seed == 1 and self.last == 1:
            raise ZeroDivisionError("the model burst")
        return plain_step(self)

    monkeypatch.setattr(Chain, "step", step)
    found = collapse(Toy(), SMALL, seeds=3)
    assert found.blocked == {1: "generation 2: ZeroDivisionError: the model burst"}
    assert [len(chain) for chain in found.chains.values()] == [3, 1, 3] and found.table("entropy").shape == (2, 3)


def test_chains_in_processes_of_their_own_leave_the_same_bytes(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=3, out=tmp_path / "here")
    found = collapse(Toy(), SMALL, seeds=3, out=tmp_path / "spread", workers=2)
    assert _bytes(tmp_path / "spread") == _bytes(tmp_path / "here") and sorted(found.chains) == [0, 1, 2] and not found.blocked


def test_a_chain_that_breaks_in_its_process_is_told_as_one_that_breaks_here(tmp_path: Path) -> None:
    starved = replace(SMALL, relabel="frozen", keep=1.0)
    found = collapse(Toy(), starved, seeds=2, out=tmp_path / "spread", workers=2)
    assert found.blocked == collapse(Toy(), starved, seeds=2, out=tmp_path / "here").blocked and "kept" in found.blocked[1]
    assert _bytes(tmp_path / "spread") == _bytes(tmp_path / "here")


def test_damage_that_a_process_finds_is_told_as_here(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    (tmp_path / "chain-000" / "generation-002.npz").write_bytes(b"")
    with pytest.raises(StoreError, match="missing or damaged") as told:
        collapse(Toy(), SMALL, seeds=1, out=tmp_path, workers=1)
    assert "roll back" in told.value.fix
    with pytest.raises(SettingError, match="leave what they make in a folder"):
        collapse(Toy(), SMALL, seeds=1, workers=1)


def test_a_resume_that_fails_loses_no_line(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=3, out=tmp_path)
    before = (tmp_path / "loop.jsonl").read_bytes()
    (tmp_path / "chain-000" / "state.json").write_text("[")
    with pytest.raises(StoreError):
        collapse(Toy(), SMALL, seeds=3, out=tmp_path)
    assert (tmp_path / "loop.jsonl").read_bytes() == before


def test_fewer_chains_than_there_are_is_refused_and_drops_none(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=3, out=tmp_path)
    before = _bytes(tmp_path)
    with pytest.raises(SettingError, match="has the chain 1"):
        collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    assert _bytes(tmp_path) == before


def test_a_loop_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    class Empty(Toy):
        def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
            raise SettingError("The pool is too small.", fix="give more images")

    with pytest.raises(SettingError, match="too small"):
        collapse(Empty(), SMALL, seeds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_new_real_pairs_are_as_many_for_every_agent_in_every_generation() -> None:
    lines = collapse(Toy(), replace(SMALL, policy="real", captioners=3, generators=2), seeds=1).lines
    assert [line["learnt_from"] for line in lines] == [{"real": 60, "made": 0}, {"real": 180, "made": 0}, {"real": 180, "made": 0}]


def test_another_loop_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    collapse(Toy(), SMALL, seeds=1, out=tmp_path)
    with pytest.raises(SettingError, match="holds another loop"):
        collapse(Toy(), replace(SMALL, n=61), seeds=1, out=tmp_path)
    (tmp_path / "chain-000" / "generation-002.npz").write_bytes(b"")
    with pytest.raises(StoreError, match="missing or damaged"):
        collapse(Toy(), SMALL, seeds=1, out=tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        {"setting": "video"},
        {"policy": "fresh"}, {"captioners": 0}, {"frozen_generators": 2}, {"n": 1}, {"keep": 0.5}, {"relabel": "thawed"}, {"start": "end"},
        {"setting": "images", "relabel": "frozen-images"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(told: dict[str, object]) -> None:
    with pytest.raises(MitateError, match="fix: "):
        Loop(**told)  # type: ignore[arg-type]


# indicators


def test_indicators_of_known_sets() -> None:
    captions = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert seen.entropy(captions) == pytest.approx(np.log(4)) and seen.distinct(captions) == 4
    assert seen.caption_variance(captions) == pytest.approx(6 / 7)
    assert seen.survival(np.array([0, 1]), captions) == 0.5 and seen.tail_recall(captions, np.array([3, 9])) == 0.5
    assert seen.distinct_n([["a", "red", "cat"], ["a", "red", "dog"]], 2) == 0.75
    assert seen.attribute_drift(np.array([0, 0, 0, 1]), np.array([0.5, 0.5])) == 0.25
    assert seen.bias_amplification(np.array([0, 0, 0, 1]), np.zeros(4, dtype=int), np.array([[0.5, 0.5]])) == 0.25
    assert seen.disagreement(np.array([[0, 1], [0, 2], [0, 1]])) == pytest.approx(1 / 3)
    assert seen.read(seen.entropy, captions, np.arange(8)).floor == pytest.approx(np.log(8))
    with pytest.raises(ValueError, match="as many"):
        seen.read(seen.entropy, captions, np.arange(9))


def test_variances_add_up_and_the_tail_is_the_rarest_tenth() -> None:
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(200, 3)), rng.integers(0, 4, 200)
    pooled = sum(seen.variance(x[groups == k]) * ((groups == k).sum() - 1) for k in range(4)) / 196
    assert seen.within_variance(x, groups) == pytest.approx(pooled)
    p = World().captions
    assert len(seen.tail_of(p)) == 10 and p[seen.tail_of(p)].max() <= np.sort(p)[10]
    draws = np.array([seen.tail_recall(World().draw(100, seed=s)[1], World().tail_captions) for s in range(300)])
    assert within(draws, seen.expected_tail(p, World().tail_captions, 100))


def test_distribution_errors_in_closed_form() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert seen.total_variation(p, q) == 0.5 and seen.divergence(p, p) == 0
    assert seen.divergence(p, q, smoothing=1e-12) == pytest.approx(np.log(2), abs=1e-6)
    zero, eye = np.zeros(2), np.eye(2)
    assert seen.wasserstein(zero, eye, np.array([3.0, 4.0]), eye) == pytest.approx(25)
    assert seen.wasserstein(zero, np.diag([4.0, 1.0]), zero, np.diag([1.0, 9.0])) == pytest.approx(1 + 4)
    assert seen.wasserstein(zero, 0 * eye, zero, eye) == pytest.approx(2)


def test_lines_that_are_being_written_are_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "loop.jsonl"
    path.write_text('{"chain": 0, "generation": 1, "indicators": {"a": 1}}\n{"chain": 0, "gen')
    assert [line["generation"] for line in read_lines(path)] == [1]
    path.write_text('{"chain": 0, "generation": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        list(read_lines(path))


def _step(chain: Chain) -> ToyImages:
    chain.step()
    model = chain.generators[0].agent
    assert isinstance(model, ToyImages)
    return model


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}
