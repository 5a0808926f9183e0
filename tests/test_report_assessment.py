"""The report of an assessment: what it must say, in both languages, and what it must never let through."""

from __future__ import annotations

import html
import importlib
import math
import pkgutil
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mitate.metrics
from make_assessment import clear, facts, poor, rich, scored
from mitate.errors import SettingError
from mitate.report import words
from mitate.report.assessment import write_assessment
from mitate.report.axis import ATTACKS, CODES
from mitate.report.beside import Beside, beside
from mitate.report.measure import Measures
from mitate.score import Assessment, Metric
from mitate.studies import utility
from mitate.studies.assess_answer import AXIS_STATES, HEADLINES
from mitate.studies.assess_planning import AXES

EXAMPLES = {"rich": rich(), "leaks": rich(leaks=True), "poor": poor(), "clear": clear()}


def page_of(tmp_path: Path, assessment: Assessment, lang: str = "en") -> str:
    return write_assessment(assessment, tmp_path / f"a.{lang}.html", lang=lang).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """Visible text of a page, on one line."""
    body = re.sub(r"<style.*?</style>|<title>.*?</title>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def with_facts(assessment: Assessment, **changes: Any) -> Assessment:
    return replace(assessment, facts={**assessment.facts, **changes})


def with_state(assessment: Assessment, axis: str, **said: Any) -> Assessment:
    axes: Mapping[str, Any] = assessment.facts["axes"]
    return with_facts(assessment, axes={**axes, axis: {**axes.get(axis, {}), **said}})


# words ----------------------------------------------------------------------------------------------------------------


def test_every_word_of_the_report_is_there_in_both_languages() -> None:
    english, japanese = (words.load(lang).family("assess.") for lang in ("en", "ja"))
    assert english.keys() == japanese.keys() and len(english) > 200
    assert {key for key in english if words.placeholders(english[key]) != words.placeholders(japanese[key])} == set()
    same = {key for key in english if english[key] == japanese[key] and not key.startswith(("assess.source.", "assess.unit.", "assess.evidence_alone"))}
    assert same == set(), "told in English on the Japanese page"


def test_every_state_an_axis_can_have_has_a_word_and_an_answer() -> None:
    spoken = words.load("en")
    for axis, states in AXIS_STATES.items():
        for code in (CODES[state] for state in states):
            assert f"assess.state.{code}" in spoken
            assert axis == "utility" or f"assess.answer.{axis}.{code}" in spoken or f"assess.answer.{code}" in spoken, (axis, code)
        assert f"assess.lead.{axis}" in spoken


def test_every_metric_of_the_package_has_a_name_a_meaning_and_its_own_source() -> None:
    def plain(text: str) -> str:
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()

    found: dict[str, Metric] = {}
    rooms = [importlib.import_module(f"mitate.metrics.{module.name}") for module in pkgutil.iter_modules(mitate.metrics.__path__)]
    for room in [*rooms, utility]:
        for value in vars(room).values():
            rows = value.values() if isinstance(value, dict) else [value]
            found |= {metric.name: metric for metric in rows if isinstance(metric, Metric)}
    assert len(found) > 30
    spoken = Measures(words.load("en"))
    for name, metric in found.items():
        key, _ = spoken._known(name)
        assert spoken.metric_name(name) != name and f"assess.metric.{key}.text" in spoken.w, f"{name} has no words in report/words.*.json"
        source = spoken.w.get(f"assess.source.{key}", "")
        for word in re.findall(r"[A-Z][\w-]+|\d{4}", plain(source)):
            assert word in plain(metric.source), f"{name}: {source} is not in {metric.source}"


def test_every_headline_has_words() -> None:
    spoken = Measures(words.load("en"))
    assert [name for names in HEADLINES.values() for name in (*names, *ATTACKS.values()) if spoken.metric_name(name) == name] == []


def test_an_unknown_language_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="choose from en, ja"):
        write_assessment(rich(), tmp_path / "a.html", lang="xx")


# the page -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_has_no_empty_number_and_no_open_brace(tmp_path: Path, name: str, lang: str) -> None:
    text = text_of(page_of(tmp_path, EXAMPLES[name], lang))
    assert not re.search(r"\b(None|NaN|nan|null|inf|Undefined|True|False)\b", text)
    assert "{" not in text and "}" not in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_japanese_page_holds_no_english_sentence(tmp_path: Path, name: str) -> None:
    text = text_of(page_of(tmp_path, EXAMPLES[name], "ja")).replace("a metric of a later version", "")  # a note of the assessment itself
    assert not re.search(r"\b(the|of|is|not|was|with|needs|from|give)\b", text)  # `and` stands between authors


def test_the_same_assessment_gives_the_same_bytes_wherever_it_is_written(tmp_path: Path) -> None:
    first = write_assessment(rich(), tmp_path / "a.html").read_bytes()
    assert write_assessment(rich(), tmp_path / "deeper" / "b.html").read_bytes() == first
    assert write_assessment(rich(), tmp_path / "c.html", lang="ja").read_bytes() != first


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_asks_nothing_of_the_network_and_runs_nothing(tmp_path: Path, name: str) -> None:
    page = page_of(tmp_path, EXAMPLES[name])
    assert not re.search(r"<(script|link|iframe|object|form|img)\b|@import|url\(|\bon\w+=", page, re.I)
    assert "http" not in re.sub(r"<meta http-equiv", "", page) and "default-src 'none'" in page


def test_text_from_users_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = '</text></svg><script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}{x}'
    scores = (
        scored("fidelity", evil, 0.5, 0.1, 0.6, 0.1, note=evil), scored("fidelity", f"precision:{evil}", 0.5, 0.1, 0.6, 0.1),
        replace(scored("fidelity", "precision", 0.4, 0.1, 0.6, 0.1), features=evil), scored(evil, "recall", None, note=evil),
    )  # fmt: skip
    told = facts({"privacy": {"state": evil, "why": evil, "attack": evil}, "fidelity": {"state": "worse"}, evil: {"state": "not measured", "why": evil}})
    told |= {"subject": evil, "generator": evil, "findings": [evil], "features": {"name": evil}, "stored": {evil: evil}}
    told["sets"] = {"synthetic": {"name": evil, "images": 5, "classes": {evil: 5}, "digest": evil}, evil: {"name": evil}}
    told["asked"] = {"axes": [evil], "seed": evil}
    for lang in words.LANGUAGES:
        page = page_of(tmp_path, Assessment(evil, scores, told), lang)
        assert "<script" not in page and "<img" not in page and page.count("<svg") == page.count("</svg>") and page.count("</text>") == page.count("<text")
        assert "&lt;script&gt;alert(1)" in page and "{{ 7*7 }}" in page and ">49<" not in page


# privacy first --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_a_leak_is_red_and_comes_before_everything(tmp_path: Path, lang: str) -> None:
    page, spoken = page_of(tmp_path, rich(leaks=True), lang), words.load(lang)
    text = text_of(page)
    assert 'class="verdict tone-stop"' in page and 'class="verdict tone-stop"' not in page_of(tmp_path, rich(), lang)
    assert text.index(spoken("assess.headline.leaks")) < min(text.index(spoken(f"axis.{axis}").capitalize()) for axis in AXES)
    assert re.search(r"<li class=\"(\w+)\"", page)[1] == "leak"  # type: ignore[index]
    assert re.search(r'<dd class="next">([^<]+)', page)[1] == spoken("assess.next.withhold")  # type: ignore[index]
    assert spoken("assess.meeting.leaks") in text and spoken("assess.next.pilot") not in text


def test_a_leak_is_told_as_what_an_attacker_gets_right(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, rich(leaks=True)))
    assert "the attacker picks the training image 78.0 % of the time (95 % interval 75.9 to 80.1 %); guessing gives 50 %" in text
    assert "372 of 1200 training images lie above all but 4 of 400 held-out ones" in text
    assert "They also fall behind real images in: fidelity, diversity, style." in text


def test_a_leak_is_the_headline_even_where_everything_else_is_better(tmp_path: Path) -> None:
    fine = {axis: {"state": "better"} for axis in ("fidelity", "diversity", "style", "utility", "robustness")}
    page = page_of(tmp_path, Assessment("a", (), facts({**fine, "privacy": {"state": "leaks", "why": "an audit"}})))
    assert 'class="verdict tone-stop"' in page and "Do not share or use these images" in page and "an audit" in page


def test_no_leak_found_is_said_to_be_no_proof_with_what_could_have_been_seen(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, clear()))
    assert "The attack that was run found no leak. That is no proof that there is none." in text
    assert "An attacker who is right 71.0 % of the time would have been seen four times out of five" in text
    assert "“no leak found” is no proof of privacy" in text


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_privacy_that_nobody_asked_for_is_told_and_asked_for(tmp_path: Path, lang: str) -> None:
    told = facts({"fidelity": {"state": "not told apart"}})
    text, spoken = text_of(page_of(tmp_path, Assessment("a", (scored("fidelity", "precision", 0.9, 0.1, 0.9, 0.1),), told), lang)), words.load(lang)
    assert spoken("assess.badge.open") in text and spoken("assess.next.ask_privacy") in text and spoken("assess.meeting.none") in text


def test_privacy_that_could_not_be_measured_is_no_clean_bill(tmp_path: Path) -> None:
    why = "held-out and training images can be told apart without the generator (p = 0.001); split them at random"
    page = page_of(tmp_path, with_state(clear(), "privacy", state="not measured", why=why))
    assert 'tone-go"' not in page and "treat these images as if they leaked" in page
    assert f"Get privacy measured before anything is shared. It was not: {why}." in text_of(page)


# what was found -------------------------------------------------------------------------------------------------------


def test_each_axis_answers_in_one_line_with_its_numbers_beside_the_floor(tmp_path: Path) -> None:
    page = page_of(tmp_path, rich())
    answers = [text_of(item) for item in re.findall(r"<li class=\"\w+\">.*?</li>", page.split('class="answers"')[1].split("</ul>")[0], re.S)]
    assert len(answers) == 7 and answers[0].strip().startswith("✓ no leak found Privacy")
    assert "▼ worse Fidelity They look less like real images than fresh real ones do." in answers[1]
    assert "Images among real ones: 62.1 % beside 91.2 %" in answers[1]
    assert "▲ better Utility Training with them made the model better." in answers[4] and "Gain in accuracy: +2.10 points beside 0 points" in answers[4]
    assert "○ not told apart Robustness" in answers[5] and "12.4 images a second" in answers[6]


def test_a_table_tells_value_interval_floor_direction_and_how_they_stand(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, rich()))
    assert "fidelity.precision · Kynkäänniemi et al. 2019 62.1 % 59.0 to 65.2 % 91.2 % 89.0 to 93.4 % ▼ worse higher is better 1,000" in text
    assert "diversity.coverage · Naeem et al. 2020 73.1 % no interval 96.2 % – no interval higher is better 1,200" in text
    assert "efficiency.training_seconds 30 min 43 s" in text and "963,411" in text and "−0.620 −2.02 to 0.780" in text


def test_a_measure_of_a_later_version_keeps_its_bare_name_and_note(tmp_path: Path) -> None:
    for lang in words.LANGUAGES:
        text = text_of(page_of(tmp_path, rich(), lang))
        assert "moonlight_accuracy a metric of a later version robustness.moonlight_accuracy 41.0 %" in text
    strange = Assessment("a", (scored("sparkle", "twinkle", 2.5, 0.5, 2.4, 0.5),), facts({"sparkle": {"state": "dazzling", "why": "so it is"}}))
    text = text_of(page_of(tmp_path, strange))
    assert "dazzling Sparkle so it is" in text and "twinkle sparkle.twinkle 2.50 2.00 to 3.00 2.40" in text


def test_a_part_behind_a_colon_is_named(tmp_path: Path) -> None:
    assert "Different images (Vendi): leaf miner" in text_of(page_of(tmp_path, rich()))


def test_what_was_not_measured_is_listed_with_its_reason(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, rich())).partition("What was not measured, and why")[2]
    assert "Training images caught, 1 false in 1,000 needs 1,000 non-members, has 400" in text
    assert "Efficiency: Memory drawing a batch did not raise the process's peak" in text
    text = text_of(page_of(tmp_path, poor())).partition("What was not measured, and why")[2]
    assert "Privacy no held-out images were given" in text and "Style not asked for" in text and "Robustness not asked for" in text


def test_without_held_out_images_numbers_are_shown_and_compared_with_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, poor())
    text = text_of(page)
    assert "Nothing could be set beside real images." in text and 'tone-more"' in page
    assert "Measured, but not comparable with real images: there are no held-out ones." in text
    assert "62.0 % 53.0 to 71.0 % – no floor" in text and "▼" not in text and "▲ " not in text.replace("▲ Privacy", "")
    assert "no held-out real images" in text and "Hold out some real images that the generator never sees" in text


def test_a_value_that_is_no_number_is_not_measured(tmp_path: Path) -> None:
    scores = (scored("fidelity", "precision", math.nan, note="it broke"), scored("privacy", "epsilon_at_least", 1.2, better="lower"))
    scores = (scores[0], replace(scores[1], low=0.8, high=math.inf))
    text = text_of(page_of(tmp_path, Assessment("a", scores, {})))
    assert "not measured (it broke)" in text and "at least 0.800" in text and "nan" not in text and "inf " not in text


def test_an_assessment_without_facts_or_scores_is_a_page_all_the_same(tmp_path: Path) -> None:
    for lang in words.LANGUAGES:
        text = text_of(page_of(tmp_path, Assessment("nothing", ()), lang))
        assert words.load(lang)("assess.badge.nothing") in text and words.load(lang)("assess.plot.none") in text


def test_nothing_is_weighed_into_one_number_and_the_page_says_so(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, rich()))
    assert "The axes are never weighed into one number." in text and "no verdict on a purchase" in text


def test_not_told_apart_is_said_to_be_no_proof_above_the_numbers(tmp_path: Path) -> None:
    top = text_of(page_of(tmp_path, clear())).partition("To say in the meeting")[0]
    assert "It is no proof of likeness: with few images hardly anything can be told apart." in top


# what to do next ------------------------------------------------------------------------------------------------------


def steps(tmp_path: Path, assessment: Assessment) -> list[str]:
    """The codes of the steps on the page."""
    listed = page_of(tmp_path, assessment).split('<ol class="steps">')[1].split("</ol>")[0]
    found = words.load("en").family("assess.next.")
    starts = {text.partition("{")[0]: key.rpartition(".")[2] for key, text in found.items()}
    return [next(code for start, code in starts.items() if html.unescape(item).startswith(start)) for item in re.findall(r"<li>(.*?)</li>", listed)]


def gained(gain: float, recognised: float = 0.8) -> Assessment:
    scores = (scored("utility", "gain", gain, 0.01, 0.0), scored("utility", "recognised", recognised, 0.02, 0.8, 0.02))
    return Assessment("a", scores, facts({"privacy": {"state": "no leak found"}, "utility": {"state": "worse" if gain < 0 or recognised < 0.7 else "better"}}))


def test_next_steps_follow_from_the_findings(tmp_path: Path) -> None:
    assert steps(tmp_path, rich(leaks=True)) == ["withhold", "refit", "stronger", "align"]
    assert steps(tmp_path, rich()) == ["stronger", "align", "pilot"]
    assert steps(tmp_path, with_state(rich(), "fidelity", state="not told apart")) == ["diversity", "align", "pilot"]
    assert steps(tmp_path, with_state(rich(), "diversity", state="better")) == ["fidelity", "align", "look", "pilot"]
    assert steps(tmp_path, with_state(rich(), "robustness", state="worse")) == ["stronger", "align", "robustness", "pilot"]
    assert steps(tmp_path, poor()) == ["hold_out", "pilot"]
    assert steps(tmp_path, clear()) == ["pilot", "more_held_out"]


def test_images_that_hurt_are_not_mixed_and_wrong_labels_are_looked_through(tmp_path: Path) -> None:
    assert steps(tmp_path, gained(-0.05)) == ["do_not_mix"] and steps(tmp_path, gained(0.05)) == ["pilot"]
    assert steps(tmp_path, gained(0.0, recognised=0.5)) == ["check_labels", "pilot"]
    assert "Training with them made the model worse." in page_of(tmp_path, gained(-0.05))
    assert "brought no gain that could be seen, and fewer of them show what their labels say" in page_of(tmp_path, gained(0.0, recognised=0.5))


def test_better_than_real_is_told_as_a_reason_to_look(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, with_state(clear(), "fidelity", state="better")))
    assert "Copies and blurred averages score like this" in text and "more often copying or blur than quality" in text


def test_the_meeting_hears_what_was_compared_privacy_weaknesses_and_the_next_step(tmp_path: Path) -> None:
    said = text_of(page_of(tmp_path, rich())).partition("To say in the meeting")[2].partition("Beside real images")[0]
    assert said.strip() == (
        "We set 1,000 synthetic images beside 1,200 real ones, and 400 more that the generator never saw. "
        "The attack that was run found no leak, which is no proof that there is none. They fall behind real images in: fidelity, diversity, style. "
        "Next: Give the generator more: longer training, more real images, or a pretrained one. It is too weak in quality and in variety."
    )


# what the study says, and the plot ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("needs 1,000 non-members, has 200", "ホールドアウトの画像が 1,000 枚必要なところ 200 枚"),
        ("needs 10 images, has 5; fix: give more", "画像が 10 枚必要なところ 5 枚; 画像を増やしてください"),
        ("no synthetic image of rust, phoma", "合成画像のないクラスがある (rust, phoma)"),
        ("these images came from elsewhere; name a kept generator", "外部で作られた画像のため。保存した生成モデルの名前を指定すると測定できます"),
        ("a sentence of a later version; needs 7 images, has 3", "a sentence of a later version; 画像が 7 枚必要なところ 3 枚"),
        ("", ""),
    ],
)
def test_sentences_of_the_study_are_translated_with_their_numbers(said: str, told: str) -> None:
    assert Measures(words.load("ja")).translated(said) == told
    assert Measures(words.load("en")).translated(said) == said


def test_the_plot_places_value_floor_and_arrow_on_the_scale() -> None:
    row = Beside("a", "50 %", 50.0, 40.0, 60.0, 100.0, 90.0, 100.0, "lower", "worse", True)
    drawn = str(beside([("", [row])], width=340, title="t"))
    ((x0, x1),) = re.findall(r'class="c-track" x1="([\d.]+)" x2="([\d.]+)"', drawn)
    (a, b), *_ = re.findall(r'class="m-span" x1="([\d.]+)" x2="([\d.]+)"', drawn)
    (line,) = re.findall(r'class="c-real" x1="([\d.]+)"', drawn)
    left, right = float(x0), float(x1)
    assert (float(a) + float(b)) / 2 == pytest.approx((left + right) / 2, abs=0.2) and float(line) == pytest.approx(right, abs=0.1)
    assert float(b) - float(a) == pytest.approx(0.2 * (right - left), abs=0.2)
    assert float(re.findall(r'class="c-arrow" d="M([\d.]+)', drawn)[0]) < left, "lower is better: it points left"


def test_a_plot_of_nothing_is_empty_and_labels_are_escaped() -> None:
    assert beside([("x", [])], width=340, title="") == ""
    row = Beside("<b>&", "<i>", -3.0, None, None, None, None, None, "neither", "plain", False)
    drawn = str(beside([("<u>", [row])], width=960, title='"><'))
    assert "&lt;b&gt;&amp;" in drawn and not re.search(r"<[biu]>", drawn) and "c-arrow" not in drawn and "−3" in drawn
