"""What a text must be like to be kept as a prompt, and why another is dropped.

judged("1 red cup", most=30, blocked=blocked(["gun"]))       Judged("1 red cup", "")
judged("<b>cup</b>", most=30, blocked=...)                   Judged("<b>cup</b>", "markup")

A prompt goes into files, pages and models: it is one line of words. What writes it may be hostile, so whatever is not words is dropped, not mended.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from mitate.errors import SettingError

EMPTY, LONG, CONTROL, MARKUP, BLOCKED = "empty", "too long", "control characters", "markup", "blocked words"
LETTERS = 16  # characters a word may have on average: the limit of texts that put no spaces between words
JOINERS = "\u200c\u200d"  # unseen, and part of words in Persian, Hindi and others
MARKS = re.compile(r"[<>{}\[\]|\\`]|://|\bwww\.|&#?\w+;|\*\*|__|~~", re.IGNORECASE)
WRAPPED = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("「", "」"), ("**", "**"), ("*", "*"))
SPACED = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN", "DIGIT")  # scripts whose words stand apart, by the names of their letters


@dataclass(frozen=True)
class Judged:
    """text: with outer quotes and needless spaces off; reason: why it is dropped, or ""."""

    text: str
    reason: str


def judged(text: str, *, most: int, blocked: Sequence[re.Pattern[str]] = ()) -> Judged:
    """Whether a text can be a prompt. most: words it may have."""
    if len(text) > 2 * LETTERS * most:  # however it ends, and before anything looks through all of it
        return Judged(text[: LETTERS * most], LONG)
    text = _unwrapped(" ".join(part for part in text.strip(" \t").replace("\t", " ").split(" ") if part))
    if any(_unseen(c) for c in text):
        return Judged(text, CONTROL)
    if MARKS.search(text):
        return Judged(text, MARKUP)
    if not any(c.isalpha() for c in text):
        return Judged(text, EMPTY)
    if len(text.split()) > most or len(text) > LETTERS * most:
        return Judged(text, LONG)
    plain = folded(text)
    return Judged(text, BLOCKED if any(word.search(plain) for word in blocked) else "")


def blocked(words: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """What finds a blocked word in a `folded` text: as a whole word (in scripts of SPACED; in others anywhere), in any case and width."""
    found = []
    for word in words:
        if not (plain := folded(word)):
            raise SettingError("A blocked word is empty.", fix="leave it out")
        ends = [edge if unicodedata.name(letter, "").startswith(SPACED) else "" for edge, letter in ((r"(?<!\w)", plain[0]), (r"(?!\w)", plain[-1]))]
        found.append(re.compile(ends[0] + re.escape(plain) + ends[1]))
    return tuple(found)


def folded(text: str) -> str:
    """Case and width apart, and letters that nobody sees left out."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(seen.casefold().split())


def _unseen(c: str) -> bool:
    """Control, direction, private, unassigned and half characters, and ends of line."""
    return c not in JOINERS and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _unwrapped(text: str) -> str:
    for left, right in WRAPPED:
        inner = text[len(left) : -len(right)]
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and left not in inner and right not in inner:
            return inner.strip()
    return text
