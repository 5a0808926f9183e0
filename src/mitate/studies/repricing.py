"""The money of a finished run told again with other prices, whichever study it is of."""

from __future__ import annotations

from mitate.errors import DataError
from mitate.files import disk_errors, write_json
from mitate.settings import plain
from mitate.studies import compare_card, spending, volume_answer
from mitate.studies.spending import Prices
from mitate.study import ANSWERS, Run


def reprice(run: Run, prices: Prices) -> bool:
    """Tell the money of a finished run again with other prices; nothing is computed. Returns whether the answer's text changed."""
    before = run.answer
    if not isinstance(before.get("cost"), dict):
        raise DataError(f"{run.answer_file} says nothing of cost.", fix="run the same command again with another --out")
    kept = spending.keep_prices(run, prices)
    if run.answer_file.name == ANSWERS["volume"]:
        after = volume_answer.priced(before, kept)
    elif run.answer_file.name == ANSWERS["compare"]:
        after = compare_card.priced(before, kept)
    else:
        after = spending.priced(before, kept)
    if plain(after) == before:
        return False
    with disk_errors(run.folder):
        write_json(run.answer_file, after)
    return True
