"""Words back into what they ask for: the grammar of captions.py, read from the other side.

understand("two little red discs on grey")      Prompt of two small red circles on a grey ground

It reads the grammar and its near neighbours, not English: what a text says beyond that is in `unknown`, and a text with anything there is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mitate.lab.captions import BRIGHT, DIM, LOOKS, NUMBERS, PLACES, PLURAL, RELATIONS, WORDS, Prompt, Wanted
from mitate.lab.world import BACKGROUNDS, COLOURS, SHAPES, TEXTURES

GLUE = frozenset("a an the is are there here it this that of and in on with picture image drawing shows has have even background nothing else".split())


@dataclass(frozen=True)
class Understood:
    """prompt: None where no thing of the lab is named."""

    prompt: Prompt | None
    unknown: tuple[str, ...]


def understand(text: str) -> Understood:
    """What a text asks for, as far as the lab has words for it."""
    words = " ".join(re.findall(r"[a-z]+|\d+|[^\w\s]", text.lower()))
    groups, spans = [], []
    for found in GROUP.finditer(words):
        count = COUNTS[found["number"]]
        told = {kind: MEANING[word] for word in found["attributes"].split() for kind, names in KINDS.items() if MEANING.get(word) in names}
        groups.append(Wanted(count, MEANING[found["noun"]], told.get("colour"), told.get("size"), told.get("texture")))
        spans.append(found.span())
    if not groups:
        return Understood(None, _unread(words))
    rest = words
    for start, end in spans:
        rest = rest[:start] + "#" * (end - start) + rest[end:]
    rest = re.sub(rf"\b({'|'.join(COUNTS)}) things? :", " ", rest)
    relation = place = None
    if len(groups) == 2:
        between = re.search(r"# (?:is )?([a-z ]+?) #", rest)
        relation = next((name for name, phrases in RELATIONS.items() if between and between[1] in phrases), None)
        rest = rest.replace(between[1], " ", 1) if between and relation else rest
    if len(groups) == 1:
        where = re.search(rf"# ({'|'.join(sorted(PLACES.values(), key=len, reverse=True))})\b", rest)
        place = next((name for name, phrase in PLACES.items() if where and where[1] == phrase), None)
        rest = rest.replace(where[1], " ", 1) if where else rest
        groups = [Wanted(g.count, g.shape, g.colour, g.size, g.texture, place) for g in groups]
    light, rest = _taken(rest, {"dim": DIM, "normal": BRIGHT})
    style, rest = _taken(rest, LOOKS)
    on = re.search(rf"on (?:an? )?({_GROUNDS})\b|\b({_GROUNDS}) background", rest)
    ground = MEANING[on[1] or on[2]] if on else None
    rest = rest.replace(on[0], " ", 1) if on else rest
    return Understood(Prompt(text, tuple(groups), relation, ground, light, style or "flat"), _unread(rest))


def _taken(words: str, phrases: Mapping[str, tuple[str, ...]]) -> tuple[str | None, str]:
    """The name whose phrase stands in the words, and the words without it."""
    for name, options in phrases.items():
        for phrase in options:
            if phrase in words:
                return name, words.replace(phrase, " ", 1)
    return None, words


def _unread(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(w for w in words.split() if w.isalnum() and w not in GLUE))


def _meaning() -> dict[str, str]:
    found = {name: name for name in (*SHAPES, *COLOURS, *BACKGROUNDS, *TEXTURES, "small", "large")}
    found |= {word: name for name, words in WORDS.items() for word in words}
    nouns = {word: name for word, name in found.items() if name in SHAPES}
    return found | {PLURAL.get(word, word + "s"): name for word, name in nouns.items()}


MEANING = _meaning()
KINDS = {"colour": frozenset(COLOURS), "size": frozenset(("small", "large")), "texture": frozenset(TEXTURES)}
_GROUNDS = "|".join(word for word, name in MEANING.items() if name in BACKGROUNDS)
COUNTS = {"the": 1} | {word: n for n, words in NUMBERS.items() for word in words} | {"an": 1} | {str(n): n for n in NUMBERS}
_NOUNS = "|".join(sorted((w for w, name in MEANING.items() if name in SHAPES), key=len, reverse=True))
_ATTRIBUTES = "|".join(sorted(w for w, name in MEANING.items() if any(name in names for names in KINDS.values())))
_NUMBERS = "|".join(sorted(COUNTS, key=len, reverse=True))
GROUP = re.compile(rf"\b(?P<number>{_NUMBERS}) (?P<attributes>(?:(?:{_ATTRIBUTES})(?: ,)? )*)(?P<noun>{_NOUNS})\b")
