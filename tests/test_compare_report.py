"""The report of a comparison: advice first, leaks and harm beside it, nothing that the run did not measure, the same in both languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from make_comparison import like_life, make_comparison, study_of, table_of
from mitate.errors import DataError
from mitate.report import words
from mitate.report.compare import AXES, ComparePage
from mitate.report.html import write_prices, write_report
from mitate.report.scarcity import Line, Place, scarcity
from mitate.studies import compare_card
from mitate.studies.compare_table import HEADLINES
from mitate.studies.spending import Prices
from mitate.study import Run
from test_report import text_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a made-up comparison; read, never changed."""
    return make_comparison(tmp_path_factory.mktemp("made") / "run")


def page_of(folder: Path, lang: str = "en") -> ComparePage:
    return ComparePage(Run(folder), words.load(lang))


def test_every_code_and_axis_has_words() -> None:
    spoken = words.load("ja")
    for code in compare_card.SAID:
        assert f"compare.advice.{code}" in spoken or f"compare.warning.{code}" in spoken
    for said in ("holds", "does not hold", "cannot tell", "not asked"):
        assert f"compare.said.{said}" in spoken
    for axis, metric in HEADLINES.items():
        assert axis in AXES and f"compare.floor.{axis}" in spoken and f"assess.metric.{metric.name}" in spoken
    for outcome in ("stopped", "few", "none", "one", "level", "mixed"):
        assert f"compare.badge.{outcome}" in spoken and f"compare.headline.{outcome}" in spoken
    for rule in study_of().gates:
        assert f"compare.rule.{rule['rule_code']}" in spoken and f"compare.rule_name.{rule['name']}" in spoken


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_the_page_tells_advice_leaks_harm_price_and_the_published_ordering(made: Path, tmp_path: Path, lang: str) -> None:
    spoken, text = words.load(lang), text_of(write_report(Run(made), lang=lang, out=tmp_path / "a.html"))
    assert spoken("compare.limits.workers", workers="2", share="97 %") in text
    for key in ("compare.card.title", "compare.case.own", "compare.warning.leaks", "compare.published.title", "compare.price.title", "compare.limits.confirm"):
        assert spoken(key) in text
    page = page_of(made, lang)
    assert page.hurts and all(family == "vae epsilon=8" for family, *_ in page.hurts)
    assert {said for _, said, _, _ in page.published} == {spoken("compare.said.holds")}
    assert len(page.plots) == 6 and len(page.cases) == 4 and re.search(r"\bnan\b|\bNone\b[^a-z ]", text) is None


def test_japanese_pages_hold_no_english_sentence(made: Path, tmp_path: Path) -> None:
    text = text_of(write_report(Run(made), lang="ja", out=tmp_path / "a.html"))
    told = re.sub(r"\b(vae|gan|diffusion|epsilon|folder)\b", "-", text.split("mitate compare leaves/")[0])
    assert re.findall(r"(?:[A-Za-z]{2,}[ ,.]+){4,}", told) == []


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_the_card_tells_how_much_subsets_share_and_what_that_hides(tmp_path: Path, lang: str) -> None:
    study = study_of(("vae", "gan"), per_class=(10, 50))
    study.sizes["subsets"]["50"]["shared"] = 1.0
    run, spoken = Run(make_comparison(tmp_path / "run", study=study, table=table_of(study, like_life))), words.load(lang)
    text = text_of(write_report(run, lang=lang, out=tmp_path / "a.html"))
    assert spoken("compare.pool", shared="5 %", wider="1.1") in text and spoken("compare.pool.same") in text


def test_a_private_family_below_chance_is_not_told_to_be_more_private_than_one_at_chance(tmp_path: Path) -> None:
    study = study_of(("vae", "vae epsilon=8"), per_class=(10,), axes=("privacy",))
    table = table_of(study, lambda _, cell: 0.4 if "epsilon" in cell.family else 0.495)
    ((_, _, (cell,)),) = page_of(make_comparison(tmp_path / "run", study=study, table=table)).prices_of_epsilon
    assert cell.value.startswith("−9") and words.load("en")("compare.price.at_chance") in cell.span


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_a_run_of_an_earlier_version_is_not_told_in_words_of_this_one(made: Path, tmp_path: Path, lang: str) -> None:
    run, spoken = Run(make_comparison(tmp_path / "run")), words.load(lang)
    answer = json.loads(run.answer_file.read_text())
    for row in answer["points"]:
        del row["pool"]
    del answer["cost"]["workers"], answer["cost"]["fit_core_share"]
    run.answer_file.write_text(json.dumps(answer))
    study = json.loads((run.folder / "study.json").read_text())
    for rule in study["gates"]:
        rule["rule_code"] = {"told_apart": "told_apart", "advice": "advice"}.get(rule["name"], rule["rule_code"])
    (run.folder / "study.json").write_text(json.dumps(study))
    old, new = (text_of(write_report(one, lang=lang, out=tmp_path / "a.html")) for one in (run, Run(made)))
    for key in ("rule.told_apart_above_chance", "rule.advice_front", "limits.pool_wider", "limits.speed"):
        assert spoken(f"compare.{key}") in new and spoken(f"compare.{key}") not in old
    for key in ("rule.told_apart", "rule.advice", "limits.speed_clock", "clock.thousand_seconds"):
        assert spoken(f"compare.{key}") in old
    assert spoken("assess.metric.thousand_seconds.text") in new and spoken("assess.metric.thousand_seconds.text") not in old
    assert spoken("compare.pool.lead") not in old


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_without_intervals_the_page_promises_no_wider_ones(tmp_path: Path, lang: str, seeds: int) -> None:
    study, spoken = study_of(("vae", "gan"), per_class=(10,), seeds=seeds), words.load(lang)
    study.sizes["subsets"]["10"]["shared"] = None if seeds == 1 else 0.05
    text = text_of(write_report(Run(make_comparison(tmp_path / "run", study=study, table=table_of(study, like_life))), lang=lang, out=tmp_path / "a.html"))
    assert spoken("compare.limits.pool_wider") not in text
    assert (spoken("compare.limits.one_subset") if seeds == 1 else spoken("compare.pool.shared", shared="5 %")) in text


def test_no_number_stands_over_all_axes(made: Path) -> None:
    answer = json.loads((made / "compare.json").read_text())
    assert not {"score", "rank", "total", "league"} & {key for row in answer["points"] for key in row}
    assert all(set(a["marks"]) <= {"vae", "gan", "diffusion", "vae epsilon=8"} and a["case"] for a in answer["advice"])


@pytest.mark.parametrize("lang", words.LANGUAGES)
def test_what_stopped_at_the_gate_shows_why_and_no_number(tmp_path: Path, lang: str) -> None:
    study = study_of(("vae",), per_class=(10,))
    table = table_of(study, like_life, p=lambda _, __: 0.001)
    for axis in AXES[1:]:
        table.headline.pop(axis)
    page = page_of(make_comparison(tmp_path / "run", study=study, table=table), lang)
    assert page.outcome == "stopped" and page.tone == "stop" and page.cautions
    (_, (point,)) = page.tables[0]
    assert [cell.measured for cell in point.cells] == [True] + 5 * [False]
    assert words.load(lang)("said.stopped at the gate") in point.cells[1].value
    assert len(page.plots) == 1


def test_two_replicates_say_that_nothing_can_be_told(tmp_path: Path) -> None:
    study = study_of(("vae", "gan"), seeds=2)
    page = page_of(make_comparison(tmp_path / "run", study=study, table=table_of(study, like_life)))
    assert page.outcome == "few" and page.next_steps == [words.load("en")("compare.next.seeds")]
    assert all(cell.span == "" for _, rows in page.tables for point in rows for cell in point.cells)


def test_the_parts_of_the_spread_stand_where_there_are_second_fits(tmp_path: Path) -> None:
    study = study_of(("vae",), per_class=(10,), fits=2)
    page = page_of(make_comparison(tmp_path / "run", study=study, table=table_of(study, like_life)))
    cells = {cell.label: cell.span for _, rows in page.spreads for _, cells in rows for cell in cells}
    assert cells["utility"].startswith("subset ") and "generator" in cells["utility"] and "classifier" in cells["utility"]
    assert cells["fidelity"].startswith("subset ") and "classifier" not in cells["fidelity"] and "--fits" not in page.spread_lead


def test_a_price_tells_the_machine_time_in_money(tmp_path: Path) -> None:
    run = Run(make_comparison(tmp_path / "run"))
    write_prices(run, Prices(machine_price=6.0, currency="EUR"))
    assert run.answer["cost"]["money"] == {"label_price": None, "machine_price": 6.0, "currency": "EUR", "machine": 1.0}
    assert "1.00 EUR" in text_of(write_report(run))


def test_an_answer_that_is_no_comparison_is_refused(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "run")
    (folder / "compare.json").write_text("[]")
    with pytest.raises(DataError, match="is no record"):
        write_report(Run(folder))


def test_the_same_run_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    one, two = (write_report(Run(made), out=tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two


# the plot -------------------------------------------------------------------------------------------------------------

LINES = (Line("vae", (Place(10, 1.0, 0.5, 1.5), Place(50, 2.0, 1.5, 2.5, True))), Line("<gan>", (Place(10, 3.0, None, None),)))


def drawn(**given: object) -> str:
    told = {"width": 460, "title": "t", "across": "n", "up": "u", "logarithmic": False, "floor": 1.2, "floor_label": "guessing", **given}
    return str(scarcity(LINES, **told))  # type: ignore[arg-type]


def test_a_plot_shows_every_value_its_interval_and_a_leak() -> None:
    text = drawn()
    assert text.count("f-mark") == 3 + 2 and text.count("f-span") == 2 and text.count("f-leak") == 1, "values and the key"
    assert "&lt;gan&gt;" in text and "<gan>" not in text and "guessing" in text


def test_higher_values_stand_higher_and_more_images_to_the_right() -> None:
    places = [(float(a), float(b)) for a, b in re.findall(r'<circle class="f-mark[^"]*" cx="([\d.]+)" cy="([\d.]+)"', drawn())][:2]
    assert places[0][0] < places[1][0] and places[0][1] > places[1][1]


def test_a_plot_without_values_is_empty_and_one_number_of_images_is_drawn() -> None:
    assert str(scarcity((Line("vae", ()),), width=300, title="", across="", up="", logarithmic=True, floor=None, floor_label="")) == ""
    one = (Line("vae", (Place(10, 5.0, 4.0, 7.0),)),)
    assert "f-mark" in str(scarcity(one, width=300, title="", across="", up="", logarithmic=True, floor=None, floor_label=""))
