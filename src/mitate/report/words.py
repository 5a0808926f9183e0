"""The words of the report: one file a language, the same keys and the same placeholders in each.

A code that a study emits (a reason, a next step, why an arm was dropped) is a key with its values. A key that is not known here,
or values that do not fit it, give the English sentence that the study stored beside it, never an error.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from functools import cache
from importlib import resources

from mitate.errors import SettingError
from mitate.settings import suggest

LANGUAGES = ("en", "ja")


class Words:
    """The words of one language. `words("arms.title")`, `words("n", n="60")`."""

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._texts = _read(lang)

    def __call__(self, key: str, /, **values: str) -> str:
        return self._texts[key].format_map(values)

    def __contains__(self, key: object) -> bool:
        return key in self._texts

    def family(self, prefix: str) -> dict[str, str]:
        """The texts whose keys start so, with their placeholders."""
        return {key: text for key, text in self._texts.items() if key.startswith(prefix)}

    def get(self, key: str, fallback: str, values: Mapping[str, str] | None = None) -> str:
        """The text of `key` with its `values`, or `fallback` where the key is unknown or a value is missing."""
        text = self._texts.get(key)
        if text is None or not placeholders(text) <= set(values or {}):
            return fallback
        return text.format_map(values or {})


def load(lang: str) -> Words:
    """The words of a language; SettingError for one we do not speak."""
    if lang not in LANGUAGES:
        raise SettingError(f"There is no report in the language {lang!r}.", fix=suggest(lang, LANGUAGES))
    return Words(lang)


def placeholders(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@cache
def _read(lang: str) -> dict[str, str]:
    return json.loads(resources.files("mitate.report").joinpath(f"words.{lang}.json").read_text(encoding="utf-8"))
