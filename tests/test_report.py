"""The report of a run: what it must say, in both languages, and what it must never let through."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from make_run import CLASSES, VERDICTS, make_run
from mitate.errors import DataError, SettingError
from mitate.recipe import DEFAULT_ARMS, DIALS, RECIPES
from mitate.report import charts, words
from mitate.report.audit import check_audit, write_audit
from mitate.report.html import write_report
from mitate.report.numbers import say_digits, say_signed
from mitate.studies.meeting import meeting
from mitate.study import Run


def text_of(path: Path) -> str:
    """Visible text of a page, on one line."""
    page = path.read_text(encoding="utf-8")
    body = re.sub(r"<style.*?</style>|<title>.*?</title>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def edit(run: Path, name: str, change) -> None:
    facts = json.loads((run / name).read_text(encoding="utf-8"))
    change(facts)
    (run / name).write_text(json.dumps(facts), encoding="utf-8")


# words ----------------------------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, japanese = words._read("en"), words._read("ja")
    assert english.keys() == japanese.keys()
    assert {k for k in english if words.placeholders(english[k]) != words.placeholders(japanese[k])} == set()


def test_every_recipe_and_dial_has_words() -> None:
    for lang in words.LANGUAGES:
        spoken = words.load(lang)
        assert all(f"arm.{name}" in spoken for name in RECIPES) and all(f"dial.{name}" in spoken for name in DIALS)


def test_every_code_of_the_pilot_has_words() -> None:
    codes = {
        "reason": VERDICTS, "headline": VERDICTS, "meeting": VERDICTS,
        "next": ("scale_up", "try_other", "more_replicates", "more_test_images", "looks_used_up", "fix_privacy"),
        "dropped": ("copies", "useless_labels", "cannot_reach", "budget", "not_candidate_budget"),
        "smaller": ("test_images", "replicates"), "gate": ("copies", "labels", "reach", "verdict"), "rule": ("copies", "labels", "reach", "verdict"),
    }  # fmt: skip
    assert [f"{family}.{code}" for family, all_ in codes.items() for code in all_ if f"{family}.{code}" not in words.load("ja")] == []


def test_an_unknown_language_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="choose from en, ja"):
        write_report(Run(make_run(tmp_path)), lang="xx")


# the page -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", words.LANGUAGES)
@pytest.mark.parametrize("code", VERDICTS)
def test_a_report_tells_verdict_reason_and_next_step_and_no_empty_number(tmp_path: Path, code: str, lang: str) -> None:
    path = write_report(Run(make_run(tmp_path, code)), lang=lang)
    text, spoken = text_of(path), words.load(lang)
    assert path.name == ("report.html" if lang == "en" else "report.ja.html")
    assert spoken(f"headline.{code}") in text
    assert "English reason" not in text  # the code's own sentence was used
    assert not re.search(r"\b(None|NaN|nan|null|inf|Undefined)\b", text)
    assert "{" not in text and "}" not in text


def test_the_verdict_of_a_go_has_its_gain_interval_and_what_got_worse(tmp_path: Path) -> None:
    text = text_of(write_report(Run(make_run(tmp_path, "go"))))
    assert "+3.86 points" in text and "95 % interval +1.41 to +6.31" in text
    assert "But worse, beyond chance: cercospora (−8.30 points)" in text


def test_real_images_that_did_better_than_candidate_and_baseline_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, "more_evidence")

    def scored(real: float) -> str:
        def change(decision: dict) -> None:
            for arm in decision["arms"]:
                if arm["role"] in ("candidate", "baseline"):
                    arm["split"], arm["score"] = "test", {"value": {"candidate": 0.70, "baseline": 0.75}[arm["role"]], "low": 0.6, "high": 0.8, "n": 90}
                elif arm["generator"] is None:
                    arm["split"], arm["role"], arm["score"] = "test", "exploratory", {"value": real, "low": real, "high": real, "n": 90}

        edit(run, "decision.json", change)
        return text_of(write_report(Run(run)))

    assert "Real images alone did better" in scored(0.80)
    assert "Real images alone did better" not in scored(0.72), "better than the candidate, but not than the baseline"


def test_a_closed_test_split_gives_no_gain_but_the_reason(tmp_path: Path) -> None:
    text = text_of(write_report(Run(make_run(tmp_path, "stop_futile"))))
    assert "Not measured the test split was not opened" in text
    assert "The test images were not looked at" in text


def test_a_japanese_report_holds_no_english_sentence(tmp_path: Path) -> None:
    for code in VERDICTS:
        text = text_of(write_report(Run(make_run(tmp_path / code, code)), lang="ja"))
        text = text.replace("1 file is cut off and was left out", "").replace("needs 2,000 images, there are 100", "")  # texts of the run itself
        assert not re.search(r"\b(the|of|is|not|was|and|with)\b", text)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path))
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_report_asks_nothing_of_the_network_and_runs_nothing(tmp_path: Path) -> None:
    page = write_report(Run(make_run(tmp_path))).read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe|object|form)\b|@import|url\(", page, re.I)
    assert set(re.findall(r'src="([a-z]+):', page)) == {"data"} and "http" not in re.sub(r"<meta http-equiv", "", page)


def test_names_from_users_are_escaped_everywhere(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}'
    classes = (evil, "rust", "</text></svg><script>alert(3)</script>")
    run = make_run(tmp_path, "go", classes=classes, measure=f"recall:{evil}")

    def spoil(decision: dict) -> None:
        for arm in decision["arms"]:
            arm["label"] += evil
        decision["next_step"] = {"code": "never heard of", "values": {}, "note": evil}
        decision["gates"][0]["rule"] = decision["gates"][0]["name"] = decision["gates"][0]["subject"] = evil
        decision["not_measured"].append({"what": evil, "why": evil})

    edit(run, "decision.json", spoil)
    edit(run, "study.json", lambda study: study["data"].update(name=evil, licences=[evil], findings=[{"message": evil}]))
    edit(run, "machine.json", lambda machine: machine.update(command=["mitate", evil], processor=evil))
    for lang in words.LANGUAGES:
        page = write_report(Run(run), lang=lang).read_text(encoding="utf-8")
        assert "<script" not in page and "<img src=x" not in page and "</svg><script" not in page
        assert "&lt;script&gt;alert(1)" in page and "{{ 7*7 }}" in page and ">49<" not in page


def test_unknown_codes_and_missing_values_fall_back_to_the_stored_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path, "more_evidence")

    def change(decision: dict) -> None:
        decision |= {"reason_code": "of_a_later_version", "reason": "A sentence of a later version."}
        decision["arms"][-2] |= {"role": "dropped", "dropped_code": "cannot_reach", "dropped_values": {}, "dropped": "Its own words."}
        decision["next_step"] = {"code": "more_replicates", "values": {"replicates": 12}}
        decision["smallest_detectable_gain"]["smaller_by"].append({"change": "prayer", "to": 3, "gain": 0.01})

    edit(run, "decision.json", change)
    text = text_of(write_report(Run(run), lang="ja"))
    assert "A sentence of a later version." in text and "Its own words." in text and "prayer 3: 1 ポイント" in text


def test_a_bare_decision_is_reported_without_the_other_files(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go")
    (run / "decision.json").write_text('{"verdict": "stop", "reason": "Because."}')
    (run / "study.json").write_text("{}")
    for name in ("machine.json", "jobs.jsonl", "scores.jsonl", "opening.json", "samples/samples.json"):
        (run / name).unlink()
    text = text_of(write_report(Run(run)))
    assert "Because." in text and "No sample pictures were kept" in text and "None" not in text


def test_numbers_that_are_none_are_shown_as_not_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go")
    text = (run / "decision.json").read_text().replace('"wall_seconds": 291.0', '"wall_seconds": NaN').replace('"after": 0.0219', '"after": null')
    (run / "decision.json").write_text(text)
    shown = text_of(write_report(Run(run)))
    assert "From start to end not measured (no reason recorded)" in shown and "NaN" not in shown


def test_a_cost_measure_is_told_in_its_own_unit(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go", measure="costs")
    text = text_of(write_report(Run(run)))
    assert "+0.0386 cost units" in text and "points" not in text


def test_a_gain_in_costs_is_cost_saved_and_never_read_as_a_cost_that_fell(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, "stop_small", measure="costs"))
    gain = "cost saved on mistakes changes by"
    assert gain in meeting(run.decision)["text"] and gain in text_of(write_report(run))
    assert "changes cost saved on mistakes by −" in text_of(write_report(run)), "where the gain is negative the cost rises"


def test_a_run_without_an_answer_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "decision.json").unlink()
    with pytest.raises(DataError, match="has no decision.json"):
        write_report(Run(run))


def test_pictures_outside_the_run_folder_are_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "go")
    secret = tmp_path / "secret.png"
    secret.write_bytes((run / "samples/real/0-0.png").read_bytes())
    edit(run, "samples/samples.json", lambda facts: facts["real"].update({CLASSES[0]: ["../../secret.png", str(secret), "gone.png", 3]}))
    assert text_of(write_report(Run(run))).count("picture missing") == 4 * 2


def test_copies_are_framed_and_counted(tmp_path: Path) -> None:
    page = write_report(Run(make_run(tmp_path, "stop_privacy"))).read_text(encoding="utf-8")
    assert page.count('class="pair copy"') == 2 * len(CLASSES) * 3
    assert "Copies among the 30 shown here: 15." in page


def test_default_arms_are_explained(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    edit(run, "decision.json", lambda d: d["arms"].extend({"name": name, "label": name, "role": "exploratory"} for name in DEFAULT_ARMS))
    text = text_of(write_report(Run(run)))
    assert "synthetic images first, blended in pairs (mixup), then real ones with a fresh output layer; strong classical augmentation" in text


# numbers and plots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1.234, "1.23"), (-12.34, "−12.3"), (9.996, "10.0"), (123456, "123,000"), (0.0001234, "0.000123")])
def test_three_significant_digits(value: float, text: str) -> None:
    assert say_digits(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.413, "+0.41"), (-0.5, "−0.50"), (3.864, "+3.86"), (0.003, "+0.003"), (0.0, "0.00")])
def test_points_are_signed_and_no_finer_than_a_hundredth(value: float, text: str) -> None:
    assert say_signed(value, places=2) == text


def test_a_plot_escapes_its_labels_and_keeps_text_as_text() -> None:
    row = charts.Interval("<b>&", 1.0, 0.5, 1.5, "+1 [<]", "dot")
    drawn = str(charts.intervals([charts.Block("<i>", (row,))], width=charts.WIDE, title='"><', worthwhile=1.0, worthwhile_label="<u>"))
    assert "&lt;b&gt;&amp;" in drawn and "<b>" not in drawn and "<i>" not in drawn and "<u>" not in drawn and "+1 [&lt;]" in drawn


def test_a_plot_of_nothing_is_empty() -> None:
    assert charts.intervals([], width=300, title="") == "" and charts.curves([("a", [(1, 2)])], width=300, title="", across="", up="", best="") == ""


# audit ----------------------------------------------------------------------------------------------------------------


def test_an_audit_is_checked_with_sha256sum_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go")
    write_report(Run(run))
    audit = write_audit(run)
    done = subprocess.run(["sha256sum", "--quiet", "-c", "audit/SHA256SUMS"], cwd=run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    script = "(printf 'mitate.study\\0'; cat audit/study.json) | sha256sum"
    found = subprocess.run(["bash", "-c", script], cwd=run, capture_output=True, text=True, check=True).stdout.split()[0]
    assert found == Run(run).study.digest and found in (audit / "README.md").read_text()
    overlap = subprocess.run(["bash", "-c", "cat audit/splits/*.txt | grep -v '^#' | sort | uniq -d"], cwd=run, capture_output=True, text=True, check=True)
    assert overlap.stdout == "" and len((audit / "splits/train.txt").read_text().splitlines()) == 2 + 100


def test_an_audit_finds_what_changed_and_is_replaced_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go")
    write_audit(run)
    assert check_audit(run) == []
    (run / "report.ja.html").write_text("added later")
    with (run / "decision.json").open("a") as file:
        file.write(" ")
    (run / "machine.json").unlink()
    assert check_audit(run) == ["changed: decision.json", "missing: machine.json"]
    write_audit(run)
    assert check_audit(run) == [] and [p.name for p in run.iterdir() if p.name.startswith(".")] == []


def test_an_audit_lists_names_with_line_breaks_as_sha256sum_does(tmp_path: Path) -> None:
    run = make_run(tmp_path, "go")
    (run / "odd\nname\\.txt").write_text("x")
    write_audit(run)
    assert subprocess.run(["sha256sum", "--quiet", "-c", "audit/SHA256SUMS"], cwd=run, check=False).returncode == 0
    assert check_audit(run) == []


@pytest.mark.parametrize(("lang", "said"), [("en", "a style word learnt from the real images"), ("ja", "実画像から学習したスタイル語")])
def test_an_arm_of_a_text_to_image_model_says_how_it_was_told_to_paint(tmp_path: Path, lang: str, said: str) -> None:
    run = make_run(tmp_path / "run")
    assert said not in text_of(write_report(Run(run), lang=lang))
    edit(run, "study.json", lambda facts: facts["sizes"].update(generators={"vae": {"kind": "text-to-image", "options": {"style": "learnt"}}}))
    assert said in text_of(write_report(Run(run), lang=lang))


def test_every_style_has_words() -> None:
    from mitate.generators.text_to_image import STYLES

    for lang in words.LANGUAGES:
        assert all(f"style.{style}" in words.load(lang) for style in STYLES if style != "none")
