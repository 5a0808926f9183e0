"""Money and spending: chances of a next look against simulation, prices that are no part of the question, and what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from make_run import VERDICTS, make_run
from mitate.errors import SettingError
from mitate.metrics.intervals import Interval, ends, two_way
from mitate.report.html import write_prices, write_report
from mitate.report.words import LANGUAGES
from mitate.studies import gates
from mitate.studies.chances import Chances, next_look
from mitate.studies.meeting import money_text
from mitate.studies.repricing import reprice
from mitate.studies.spending import FILE, Prices, kept_prices, priced, prices_of, timeless
from mitate.study import Run
from test_report import edit, text_of

NEXT = {"overlap": 0.0, "confidence": 0.975, "low_share": gates.LOW_SHARE, "worthwhile": 0.0}
EURO = Prices(0.4, 1.2, "EUR")


# chances --------------------------------------------------------------------------------------------------------------


def verdicts(tables: list[np.ndarray]) -> Chances:
    found = [gates.decide(two_way(t, confidence=0.975, low_share=gates.LOW_SHARE), worthwhile=0.0) for t in tables]
    return Chances(*(found.count(v) / len(found) for v in ("go", "stop", "more evidence")))


@pytest.mark.parametrize(("replicates", "add", "shift", "spread"), [(3, 10, 0.05, 0.02), (5, 5, 0.042, 0.02), (6, 10, -0.03, 0.02)])
def test_the_chances_are_those_of_tables_drawn_from_what_is_known(replicates: int, add: int, shift: float, spread: float) -> None:
    """One table of 60 images; 1,200 futures of it, true mean and spread drawn from what the table leaves open, judged by the real rule."""
    rng, n, draws = np.random.default_rng(replicates), 60, 1200
    table = rng.normal(0, spread, (replicates, 1)) + rng.normal(0, 0.03, (1, n)) + rng.normal(0, 0.03, (replicates, n))
    table += shift - table.mean()
    gain = two_way(table, confidence=0.95, low_share=gates.LOW_SHARE)
    rows, columns = table.mean(axis=1), table.mean(axis=0) - table.mean()
    rest = table - table.mean(axis=1, keepdims=True) - columns
    noise = np.sqrt((rest**2).sum() / ((replicates - 1) * (n - 1)))
    futures = []
    for _ in range(draws):
        sd = np.sqrt(((rows - rows.mean()) ** 2).sum() / rng.chisquare(replicates - 1))
        mean = table.mean() + sd / np.sqrt(replicates) * rng.standard_normal()
        new = rng.normal(0, noise, (add, n))
        futures.append(np.vstack([table, mean + sd * rng.standard_normal((add, 1)) + columns + new - new.mean(axis=1, keepdims=True)]))
    told, seen = next_look(gain, replicates=replicates, add=add, **NEXT), verdicts(futures)
    for kind in ("go", "stop", "neither"):
        p = getattr(told, kind)
        assert getattr(seen, kind) == pytest.approx(p, abs=0.02 + 3 * np.sqrt(p * (1 - p) / draws)), kind
    assert 0.02 < told.answer < 0.98


def test_over_many_worlds_the_chances_come_true() -> None:
    """Worlds with any true gain and any spread: among those that said `more evidence`, as many end as was foretold."""
    rng, told, seen, weight = np.random.default_rng(1), [], [], []
    for _ in range(1500):
        sd = np.exp(rng.uniform(np.log(0.001), np.log(0.3)))
        width = 4 * (sd / np.sqrt(5) + 0.01)
        x = rng.uniform(-width, width) + sd * rng.standard_normal(15)

        def look(k: int, confidence: float, x: np.ndarray = x) -> Interval:
            se = x[:k].std(ddof=1) / np.sqrt(k)
            return ends(Interval(float(x[:k].mean()), 0, 0, 100, se, 0.01, k - 1, 99), confidence=confidence, low_share=gates.LOW_SHARE)

        first = look(5, 0.95)
        if gates.decide(first, worthwhile=0.0) == "more evidence":
            told.append(next_look(first, replicates=5, add=10, **NEXT).answer)
            seen.append(gates.decide(look(15, 0.975), worthwhile=0.0) != "more evidence")
            weight.append(width)  # the true gain is then flat, whatever the spread
    error = np.sqrt((np.square(weight) * 0.25).sum()) / np.sum(weight)
    assert len(told) > 500 and np.average(seen, weights=weight) == pytest.approx(np.average(told, weights=weight), abs=0.01 + 3 * error)


def test_without_a_spread_of_replicates_nothing_moves_and_more_of_them_help_most_where_they_matter() -> None:
    still = Interval(0.01, -0.05, 0.07, 100, 0.0, 0.02, 4, 99)
    assert next_look(still, replicates=5, add=10, **NEXT) == Chances(0.0, 0.0, 1.0)
    noisy = Interval(0.03, -0.05, 0.07, 100, 0.02, 0.001, 4, 99)
    few, many = (next_look(noisy, replicates=5, add=add, **NEXT) for add in (5, 10))
    assert few.go < many.go and few.go + few.stop + few.neither == pytest.approx(1)
    with pytest.raises(ValueError, match="foretell nothing"):
        next_look(noisy, replicates=1, add=5, **NEXT)


# prices ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{"label_price": 0.0}, {"label_price": -1.0}, {"machine_price": -0.1}, {"machine_price": float("nan")}, {"currency": "E\nUR"}, {"currency": "x" * 13}],
)
def test_what_is_no_price_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        prices_of(values, where="options")


def test_new_prices_go_over_kept_ones_and_currencies_are_not_mixed() -> None:
    assert Prices(machine_price=2.0).over(EURO) == Prices(0.4, 2.0, "EUR")
    assert Prices(label_price=1, machine_price=2, currency="USD").over(EURO) == Prices(1, 2, "USD")
    with pytest.raises(SettingError, match="label_price was given in EUR, not in USD"):
        Prices(machine_price=2.0, currency="USD").over(EURO)
    with pytest.raises(SettingError, match="without a price"):
        Prices(currency="EUR").over(Prices())


def test_money_is_seconds_and_images_times_their_price(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, "go"))
    real = {"status": "worth", "value": 50.0, "low": 20.0, "high": None, "at": 100, "extrapolated": False}
    found = priced({**run.decision, "real_image_equivalent": real}, EURO)
    money = found["cost"]["money"]
    assert money["machine"] == pytest.approx(525.2 / 3600 * 1.2, abs=1e-5) and money["use"] == pytest.approx(35.3 / 3600 * 1.2, abs=1e-5)
    assert money["equivalent"] == {"value": 20.0, "low": 8.0, "high": None} and money["labels"] == pytest.approx(money["machine"] / 0.4, abs=1e-3)
    assert sum(row["money"] for row in found["cost"]["stages"]) == pytest.approx(money["machine"], abs=1e-4)
    assert "worth about 50 more real images, 20 or more, 20 EUR of labels" in found["meeting"]["text"]
    assert priced(found, Prices())["cost"]["money"] is None and "EUR" not in priced(found, Prices())["meeting"]["text"]
    assert priced(found, Prices(label_price=0.4))["cost"]["money"]["machine"] is None


@pytest.mark.parametrize(
    ("real", "said"),
    [
        (("worth", 50.0, 20.0, 80.0), "worth about 50 more real images, 20 to 80"),
        (("more", None, 60.0, None), "worth at least 60 more real images"),
        (("worth", None, 40.0, None), "worth at least 40 more real images"),
        (("none", 1.0, -5.0, 6.0), "worth no extra real images"),
        (("negative", -75.0, None, -38.0), "as if 38 or more real images had been taken away"),
        (("negative", -0.4, -0.9, -0.1), "as if some real images had been taken away"),
        (("cannot tell", 3.0, None, None), ""),
    ],
)
def test_the_worth_is_told_by_its_status_and_never_more_than_is_known(tmp_path: Path, real: tuple, said: str) -> None:
    run = Run(make_run(tmp_path, "stop_small"))
    edit(run.folder, "decision.json", lambda d: d.update(real_image_equivalent=dict(zip(("status", "value", "low", "high"), real, strict=True))))
    write_prices(run, EURO)
    text, stored = text_of(write_report(run)), run.decision["meeting"]["text"]
    assert said in text and said in stored
    assert said or not any(word in stored for word in ("worth about", "worth at least", "taken away"))


@pytest.mark.parametrize(("lang", "said"), [("en", "did more than 40 more real images would have done"), ("ja", "実画像 40 枚の追加を上回る効果でした")])
def test_a_worth_beyond_what_was_looked_at_has_a_whole_first_sentence(tmp_path: Path, lang: str, said: str) -> None:
    run = Run(make_run(tmp_path, "go"))
    real = {"status": "worth", "value": None, "low": 40.0, "high": None, "at": 100.0, "least": -75.0, "most": 300.0, "extrapolated": True, "measured": []}
    edit(run.folder, "decision.json", lambda d: d.update(real_image_equivalent=real))
    assert said in text_of(write_report(run, lang=lang))


@pytest.mark.parametrize(("amount", "text"), [(0.0, "0.00 EUR"), (0.001, "under 0.01 EUR"), (0.178, "0.18 EUR"), (33.36, "33 EUR"), (1240.2, "1,240 EUR")])
def test_money_is_told_no_finer_than_is_of_use(amount: float, text: str) -> None:
    assert money_text(amount, "EUR") == text


def test_an_image_more_for_the_test_is_a_label_more(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, "more_evidence"))
    found = priced(run.decision, EURO)
    assert found["next_step"]["money"] == pytest.approx((900 - 150) * 0.4), "150 test images are there, 900 are asked for"
    assert [o["money"] for o in found["next_looks"]["options"]] == pytest.approx([305 / 3000, 610 / 3000], abs=1e-5)


def test_another_price_tells_the_money_anew_and_nothing_else(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, "go"))
    write_report(run)
    write_report(run, lang="ja")
    before = timeless(run.decision)
    write_prices(run, EURO)
    assert kept_prices(run) == EURO and timeless(run.decision) == before
    assert "0.18 EUR" in text_of(run.folder / "report.html") and "0.18 EUR" in text_of(run.folder / "report.ja.html")
    assert not reprice(run, Prices()) and not reprice(run, EURO), "the same prices change nothing"
    write_prices(run, Prices(machine_price=2.4))
    assert kept_prices(run) == Prices(0.4, 2.4, "EUR") and "0.35 EUR" in text_of(run.folder / "report.html")
    (run.folder / FILE).write_text('{"label_price": "cheap"}')
    with pytest.raises(SettingError, match=FILE):
        reprice(run, EURO)


# the page -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("code", VERDICTS)
def test_every_verdict_is_told_with_its_money_in_both_languages(tmp_path: Path, code: str, lang: str) -> None:
    run = Run(make_run(tmp_path, code))
    write_prices(run, EURO)
    text, said = text_of(write_report(run, lang=lang)), run.decision["meeting"]
    assert "0.18 EUR" in text and "None" not in text and "{" not in text
    assert said["code"] == code and "0.18 EUR" in said["text"] and "?" not in said["text"] and said["text"].count(".") < 12
    if lang == "ja":
        assert "さらに費用をかけるべきか" in text and not [w for w in (" the ", " of ", " and ") if w in text.split("何を比べたか")[0]]


def test_a_futile_next_look_is_called_so_and_says_what_would_help(tmp_path: Path) -> None:
    text = text_of(write_report(Run(make_run(tmp_path, "more_evidence"))))
    assert "even 10 more settle the question with a chance of 16 % at most. What would help is real test images, 900 in all." in text
    assert "Go 14 %" in text and "no answer 84 %" in text


def test_a_pilot_that_stopped_early_says_what_that_saved(tmp_path: Path) -> None:
    text = text_of(write_report(Run(make_run(tmp_path, "stop_futile"))))
    assert "Finding out took 8 min 45 s of machine time instead of about 21 min" in text and "not run about 8 min" in text


def test_without_a_price_the_page_says_in_one_line_how_to_give_one(tmp_path: Path) -> None:
    text = text_of(write_report(Run(make_run(tmp_path, "go"))))
    assert text.count("mitate report RUN --label-price 0.40 --machine-price 1.20 --currency EUR") == 1
    assert "EUR" not in text.replace("--currency EUR", "")


def test_a_run_of_an_earlier_version_is_priced_and_reported_all_the_same(tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, "more_evidence"))

    def earlier(decision: dict) -> None:
        for key in ("stages", "saved_seconds", "use"):
            decision["cost"].pop(key)
        decision.pop("next_looks")
        decision["next_step"] = {"code": "more_replicates", "values": {"replicates": 10, "gain": 0.02}}

    edit(run.folder, "decision.json", earlier)
    write_prices(run, EURO)
    text = text_of(write_report(run))
    assert "0.18 EUR" in text and "next: Run it again with 10 replicates in all" in text and json.loads((run.folder / FILE).read_text())["currency"] == "EUR"
