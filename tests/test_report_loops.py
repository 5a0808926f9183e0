"""The page of a run of loops: its numbers are those of the files, in both languages, and nothing gets into it that is not escaped."""

from __future__ import annotations

import html
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import mitate as mi
from mitate.cli import app
from mitate.errors import DataError, SettingError, StoreError
from mitate.loops.advice import compare
from mitate.loops.agents import Captioner, Decode, Generator, Samples, Seat, State
from mitate.loops.alarm import STOP
from mitate.loops.chain import Chain
from mitate.loops.chains import collapse, read_lines
from mitate.loops.loop import Loop
from mitate.loops.toy import Toy
from mitate.loops.watch import monitor_of, states
from mitate.report import words
from mitate.report.loop_drawn import Course, course
from mitate.report.loop_run import LoopRun
from mitate.report.loop_words import Spoken
from mitate.report.loops import write_page
from mitate.report.numbers import say_digits
from test_report_browser import CHROMIUM, looked_at

SMALL = Loop(n=40, generations=3)
LAST = 6  # generations of the runs that tests share
HOSTILE = '<script>alert("x")</script> & {w}'
OTHER = "a quiet <b>field</b>"


def text_of(path: Path) -> str:
    """Visible text of a page, on one line."""
    page = path.read_text(encoding="utf-8")
    body = re.sub(r"<style.*?</style>|<title>.*?</title>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the toy pair: loop (with its alarm), fresh, floor; and one, with a single chain."""
    folder = tmp_path_factory.mktemp("loops")
    for name, policy, seeds in (("loop", "replace", 4), ("fresh", "fresh:0.25", 4), ("floor", "real", 4), ("one", "replace", 1)):
        collapse(Toy(), Loop(policy=policy, n=40, generations=LAST), seeds=seeds, out=folder / name)
    monitor_of(folder / "loop", rate=0.2)
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


# pictures with text -----------------------------------------------------------------------------------------------------


@dataclass
class Hand:
    """An agent of both sides that makes grey pictures and says one of two things."""

    level: float = 100.0
    architecture: str = "hand"

    def fit(self, images: np.ndarray, captions: np.ndarray, *, seed: int) -> None:
        self.level = float(images.mean())

    def generate(self, captions: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        noise = (seeds % np.uint64(9)).astype(np.float64)
        return np.tile((self.level + noise)[:, None, None, None], (1, 6, 6, 3)).astype(np.uint8)

    def describe(self, images: np.ndarray, seeds: np.ndarray, decode: Decode) -> np.ndarray:
        return np.where(seeds % np.uint64(3) > 0, HOSTILE, OTHER)

    def score(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        return np.zeros(len(captions))

    def confidence(self, images: np.ndarray, captions: np.ndarray) -> np.ndarray:
        return np.ones(len(captions))

    def clone(self) -> Self:
        return type(self)(self.level)

    def state(self) -> State:
        return {"level": np.array(self.level)}

    def restore(self, state: State) -> None:
        self.level = float(state["level"])


@dataclass(frozen=True)
class Album:
    """A ground of pictures whose captions are hostile."""

    name = "album"

    def draw(self, n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return np.random.default_rng(seed).integers(60, 200, (n, 6, 6, 3), dtype=np.uint8), np.array([HOSTILE, OTHER] * n)[:n]

    def generator(self, index: int) -> Generator:
        return Hand()

    def captioner(self, index: int) -> Captioner:
        return Hand()

    def written(self, images: np.ndarray) -> np.ndarray:
        return np.full(len(images), OTHER)

    @property
    def held(self) -> tuple[np.ndarray, np.ndarray]:
        return self.draw(4, seed=99)

    def indicators(
        self, made: Samples, first: Samples, generators: list[Seat[Generator]], captioners: list[Seat[Captioner]], *, exact: bool = True
    ) -> dict[str, float]:  # fmt: skip
        return {"variance": float(made.images.var()) + 1, "distinct": float(len(np.unique(made.captions))), HOSTILE: 1.0}


# the page ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_the_numbers_of_the_page_are_those_of_the_files(made: Path, tmp_path: Path, lang: str) -> None:
    text = text_of(write_page(made / "loop", lang=lang, out=tmp_path / "page.html"))
    chains: dict[int, list[dict[str, float]]] = {}
    for line in read_lines(made / "loop" / "loop.jsonl"):
        chains.setdefault(line["chain"], []).append(line["indicators"])
    first, last = (np.array([run[k]["distinct"] for run in chains.values()]) for k in (0, -1))
    lost = 1 - last / first
    low, high = stats.ttest_1samp(lost, 0).confidence_interval(0.95)
    assert f"−{100 * lost.mean():.1f} %" in text and f"−{100 * high:.1f}" in text and f"{-100 * low:+.1f}".replace("-", "−") in text
    for k, t in ((0, 1), (-1, LAST)):
        for name in ("utility", "entropy", "image_w2"):
            assert say_digits(float(np.mean([run[k][name] for run in chains.values()]))) in text, (name, t)
    assert not re.search(r"\b(None|NaN|nan|null|inf|Undefined)\b", text.replace("null runs", ""))
    assert "{" not in text and "}" not in text


def test_the_alarm_is_told_as_the_monitor_tells_it(made: Path, tmp_path: Path) -> None:
    path = write_page(made / "loop", out=tmp_path / "page.html")
    text = text_of(path)
    told = list(states(made / "loop", monitor_of(made / "loop", rate=0.2)))
    stops = {t.chain: t.state for t in reversed(told) if t.state.name == STOP}
    assert stops, "the alarm rings somewhere in this example"
    assert f"The alarm rang in {len(stops)} of 4 chains, first at generation {min(s.generation for s in stops.values())}" in text
    assert re.findall(r'class="tag \w+">(\w+)<', path.read_text(encoding="utf-8")) == [t.state.name for t in told]
    assert all(f"{stop.generation} {stop.roll_back_to} " in text for stop in stops.values())
    assert "at most 20 % of chains of 6 generations (199 null runs" in text


def test_without_an_alarm_the_page_says_so_and_what_to_do(made: Path, tmp_path: Path) -> None:
    text = text_of(write_page(made / "fresh", out=tmp_path / "page.html"))
    assert "No alarm has looked at this run." in text and "Let mitate monitor look at this folder" in text


def test_an_alarm_of_another_loop_is_not_used(runs: Path) -> None:
    shutil.copy(runs / "loop" / "alarm.json", runs / "fresh" / "alarm.json")
    assert LoopRun(runs / "loop").alarm is not None and LoopRun(runs / "fresh").alarm is None


def test_one_chain_has_no_interval_and_the_page_says_so(made: Path, tmp_path: Path) -> None:
    text = text_of(write_page(made / "one", out=tmp_path / "page.html"))
    assert "One chain shows what happened, not what happens." in text and "no number here has an interval" in text
    assert "95 % interval −" not in text and "95 % interval +" not in text and "has lost" not in text


def test_a_blocked_chain_is_told_and_left_out_of_every_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Chain.step

    def step(self: Chain) -> dict[str, object]:
        if self.seed == 1 and self.last == 1:
            raise RuntimeError("out of memory")
        return real(self)

    monkeypatch.setattr(Chain, "step", step)
    found = collapse(Toy(), SMALL, seeds=3, out=tmp_path / "run")
    assert list(found.blocked) == [1]
    text = text_of(write_page(tmp_path / "run"))
    assert "1 of 3 chains did not reach generation 3" in text and "chain 1 ended at 1" in text and "Chain 1 after generation 1" in text
    assert "generation 2: RuntimeError: out of memory" in text
    assert say_digits(float(np.mean([found.chains[s][-1]["entropy"] for s in (0, 2)]))) in text
    assert sorted(LoopRun(tmp_path / "run").whole) == [0, 2]


def test_hostile_captions_and_names_stay_text(tmp_path: Path) -> None:
    collapse(Album(), SMALL, seeds=2, out=tmp_path / 'a"><script>run')
    path = write_page(tmp_path / 'a"><script>run')
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page and "<b>field" not in page
    assert HOSTILE in text_of(path) and OTHER in text_of(path)
    assert page.count("data:image/png") == 6 * 4, "six rows of the real pairs and of three generations"


def test_a_page_asks_nothing_of_the_network_and_runs_nothing(made: Path, tmp_path: Path) -> None:
    page = write_page(made / "loop", beside=[made / "fresh"], out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe|object|form)\b|@import|url\(| on[a-z]+=", page, re.I) and "http" not in page.replace("<meta http-equiv", "")


def test_pictures_of_a_real_pool_do_not_carry_the_mark_of_synthetic_ones(tmp_path: Path) -> None:
    from mitate.report.loop_shown import columns

    collapse(Album(), Loop(setting="captions", n=8, generations=2), seeds=1, out=tmp_path / "said")
    collapse(Album(), Loop(setting="images", n=8, generations=2), seeds=1, out=tmp_path / "painted")
    lengths = {}
    for name in ("said", "painted"):
        found = columns(LoopRun(tmp_path / name).pairs(0), name=str, kind=None, title=str)
        lengths[name] = [min(len(shot.uri) for shot in column.shots) for column in found]
    assert max(lengths["said"]) < 600 < min(lengths["painted"][1:]) and lengths["painted"][0] < 600


def test_captions_that_are_numbers_are_told_by_name() -> None:
    spoken = Spoken(words.load("en"))
    assert spoken.namer({"settings": {"world": {"wordings": 20}}})(np.int64(43)) == "kind 2, wording 3"
    assert spoken.namer({"settings": {"named": ["rust", "healthy"]}})(np.int64(1)) == "healthy"
    assert spoken.namer({"settings": {}})(np.int64(1)) == "class 1" and spoken.namer({"settings": {}})("a leaf") == "a leaf"


@pytest.mark.parametrize("name", ["loop", "one", "floor"])
def test_a_japanese_page_holds_no_english_sentence(made: Path, tmp_path: Path, name: str) -> None:
    others = [made / n for n in ("fresh", "floor")] if name == "loop" else []
    text = text_of(write_page(made / name, beside=others, lang="ja", out=tmp_path / "page.html"))
    assert not re.search(r"\b(the|of|is|not|was|and|with|no|at|down|up)\b", text)


def test_every_indicator_state_and_reason_has_words() -> None:
    told = collapse(Toy(), Loop(captioners=2, n=40, generations=1), seeds=1).lines[0]["indicators"]
    for lang in words.LANGUAGES:
        spoken = Spoken(words.load(lang))
        assert [name for name in told if spoken.indicator(name) == name] == []
        assert all(f"loops.{part}.{code}" in spoken.w for part in ("badge", "headline") for code in ("collapse", "alarm", "holds", "unsure", "one", "floor"))
    japanese = Spoken(words.load("ja"))
    for reason in (
        "variance down 3.2 sd", "entropy up 4.0 sd", "all together 1.31 of the limit", "tail 0.05 is under its limit 0.1", "stopped before",
        "variance moved, which it never does in null runs",
    ):  # fmt: skip
        assert japanese.reason(reason) != reason
    assert japanese.reason("a reason of a later version") == "a reason of a later version"
    english = words.load("en").family("loops.")
    assert [
        key for key, text in words.load("ja").family("loops.").items() if text == english[key] and re.search(r"[a-z]{3}", re.sub(r"\{\w+\}", "", text))
    ] == []


def test_the_same_folders_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    pages = [write_page(made / "loop", beside=[made / "fresh"], out=tmp_path / f"{k}.html").read_bytes() for k in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_a_page_fits_its_window_and_asks_the_network_for_nothing(made: Path, tmp_path: Path, lang: str, width: int) -> None:
    collapse(Album(), SMALL, seeds=2, out=tmp_path / "album")
    for name, beside in ((made / "loop", [made / "fresh", made / "floor"]), (tmp_path / "album", [])):
        page = write_page(name, beside=beside, lang=lang, out=tmp_path / f"{name.name}.html")
        found, console = looked_at(page, width, tmp_path / f"browser-{name.name}")
        assert found["width"] == width and console == "" and found["fetched"] == [] and found["broken"] == 0
        assert found["wide"] == [] and isinstance(found["scroll"], int) and found["scroll"] <= width


# beside -----------------------------------------------------------------------------------------------------------------


def test_runs_beside_each_other_are_told_as_the_advice_tells_them(made: Path, tmp_path: Path) -> None:
    text = text_of(write_page(made / "loop", beside=[made / "fresh", made / "floor"], out=tmp_path / "page.html"))
    arms = [LoopRun(made / name).arm(name) for name in ("loop", "fresh", "floor")]
    advice = compare(arms[0], arms[1:])
    for outcome in advice.outcomes:
        for estimate in (outcome.damage, outcome.last, outcome.area):
            value = f"{100 * estimate.value:+.1f}".replace("-", "−")
            assert ("0.0" if value in ("+0.0", "−0.0") else value) + " points" in text
    assert "policy fresh:0.25" in text and "10 new real pairs a generation instead of 0" in text and "floor" in text
    assert advice.code != "cannot tell" or "it cannot be told which to take" in text


def test_runs_that_cannot_be_compared_are_refused(made: Path, tmp_path: Path) -> None:
    collapse(Toy(bias=0.1), SMALL, seeds=2, out=tmp_path / "biased")
    collapse(Toy(), Loop(n=30, generations=3), seeds=2, out=tmp_path / "small")
    for other, told in (("biased", "another ground"), ("small", "n=30")):
        with pytest.raises(SettingError, match=told):
            write_page(made / "loop", beside=[tmp_path / other], out=tmp_path / "page.html")
    with pytest.raises(SettingError, match="compared with itself"):
        write_page(made / "loop", beside=[made / "loop"], out=tmp_path / "page.html")


def test_two_folders_of_one_name_are_told_apart(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "fresh", tmp_path / "later" / "loop")
    text = text_of(write_page(made / "loop", beside=[tmp_path / "later" / "loop"], out=tmp_path / "page.html"))
    assert "later/loop" in text and f"{made.name}/loop" in text


# errors and doors -------------------------------------------------------------------------------------------------------


def test_a_folder_without_loops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no loops"):
        write_page(tmp_path)
    (tmp_path / "loop.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="does not say what was looped"):
        write_page(tmp_path)
    (tmp_path / "run.json").write_text('{"loop": {}}', encoding="utf-8")
    with pytest.raises(DataError, match="does not say what was looped"):
        write_page(tmp_path)


def test_lines_that_are_no_numbers_or_out_of_order_are_refused(runs: Path) -> None:
    lines = [json.loads(line) for line in (runs / "loop" / "loop.jsonl").read_text().splitlines()]
    for spoiled, told in (([{**lines[0], "indicators": {"variance": float("nan")}}, *lines[1:]], "are no numbers"), (lines[1:], "after 0")):
        (runs / "loop" / "loop.jsonl").write_text("".join(json.dumps(line) + "\n" for line in spoiled), encoding="utf-8")
        with pytest.raises(DataError, match=told):
            write_page(runs / "loop")


def test_a_damaged_generation_is_an_error_that_names_it(runs: Path) -> None:
    (runs / "loop" / "chain-000" / "generation-002.npz").write_bytes(b"PK")
    with pytest.raises(StoreError, match=r"generation-002\.npz is missing or damaged"):
        write_page(runs / "loop")


def test_a_run_whose_pairs_are_gone_is_told_without_them(runs: Path) -> None:
    for chain in (runs / "loop").glob("chain-*"):
        shutil.rmtree(chain)
    assert "its pairs do not lie in the folder" in text_of(write_page(runs / "loop"))


def test_report_finds_loops_from_the_command_line_and_from_python(runs: Path) -> None:
    said = CliRunner().invoke(app, ["report", str(runs / "loop"), "--beside", str(runs / "fresh"), "--lang", "ja"], catch_exceptions=False)
    assert said.exit_code == 0 and said.output.strip() == str(runs / "loop" / "report.ja.html")
    assert mi.report(runs / "loop", beside=[runs / "fresh"]) == runs / "loop" / "report.html"
    with pytest.raises(SettingError, match="money is not known"):
        mi.report(runs / "loop", label_price=1.0)
    with pytest.raises(SettingError, match="holds no loops"):
        mi.report(runs, beside=[runs / "fresh"])


def test_a_curve_of_one_generation_and_one_of_many_can_be_drawn() -> None:
    told = {"width": 340, "title": "<t>", "across": "a", "up": "u", "floor": 1.0, "floor_label": "f"}
    for length in (1, 40):
        drawn = str(course([Course("<x>", [1.0] * length), Course("y", [2.0] * length, [1.0] * length, [3.0] * length)], **told))
        assert drawn.count("<svg") == 1 and "<x>" not in drawn and "nan" not in drawn and drawn.count("f-span") == length
