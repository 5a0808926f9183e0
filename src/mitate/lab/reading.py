"""Words back into what they ask for: the grammar of captions.py, read from the other side.

understand("two little red discs on grey")      Prompt of two small red circles on a grey ground

What a captioner says, or a language model writes, is judged by this. Words that the lab has no picture for are left aside; `unknown` tells them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mitate.lab.captions import BRIGHT, DIM, LOOKS, NUMBERS, PLACES, PLURAL, RELATIONS, WORDS, Prompt, Wanted
from mitate.lab.world import BACKGROUNDS, COLOURS, SHAPES, TEXTURES

SILENT = frozenset(
    "a an the is are there here it this that of and in on with picture image drawing shows shown show has have background light nothing else thing things "
    "even to left right top bottom corner middle at above over below under beneath like as old photograph all which".split()
)  # fmt: skip


@dataclass(frozen=True)
class Understood:
    """prompt: None where no thing of the lab is named."""

    prompt: Prompt | None
    unknown: tuple[str, ...]


def understand(text: str) -> Understood:
    """What a text asks for, as far as the lab has words for it."""
    words = " ".join(re.findall(r"[a-z]+|\d+|[,.:]", text.lower()))
    groups, spans = [], []
    for found in GROUP.finditer(words):
        count = COUNTS[found["number"]]
        told = {kind: MEANING[word] for word in found["attributes"].split() for kind, names in KINDS.items() if MEANING.get(word) in names}
        groups.append(Wanted(count, MEANING[found["noun"]], told.get("colour"), told.get("size"), told.get("texture")))
        spans.append(found.span())
    if not groups:
        return Understood(None, _unknown(words))
    relation = None
    if len(groups) == 2:
        between = words[spans[0][1] : spans[1][0]]
        relation = next((name for name, phrases in RELATIONS.items() if any(between.strip() == p for p in phrases)), None)
    if len(groups) == 1:
        rest = words[spans[0][1] :]
        place = next((name for name in sorted(PLACES, key=len, reverse=True) if rest.strip().startswith(PLACES[name])), None)
        groups = [Wanted(g.count, g.shape, g.colour, g.size, g.texture, place) for g in groups]
    ground = next((MEANING[w] for w in re.findall(r"on (?:an? )?([a-z]+)|([a-z]+) background", words) for w in w if MEANING.get(w) in BACKGROUNDS), None)
    light = "dim" if any(p in words for p in DIM) else "normal" if any(p in words for p in BRIGHT) else None
    style = next((name for name, phrases in LOOKS.items() if any(p in words for p in phrases)), "flat")
    return Understood(Prompt(text, tuple(groups), relation, ground, light, style), _unknown(words))


def _meaning() -> dict[str, str]:
    found = {name: name for name in (*SHAPES, *COLOURS, *BACKGROUNDS, *TEXTURES, "small", "large")}
    found |= {word: name for name, words in WORDS.items() for word in words}
    nouns = {word: name for word, name in found.items() if name in SHAPES}
    return found | {PLURAL.get(word, word + "s"): name for word, name in nouns.items()}


MEANING = _meaning()
KINDS = {"colour": frozenset(COLOURS), "size": frozenset(("small", "large")), "texture": frozenset(TEXTURES)}
COUNTS = {word: n for n, words in NUMBERS.items() for word in words} | {"an": 1} | {str(n): n for n in NUMBERS}
_NOUNS = "|".join(sorted((w for w, name in MEANING.items() if name in SHAPES), key=len, reverse=True))
_ATTRIBUTES = "|".join(sorted(w for w, name in MEANING.items() if any(name in names for names in KINDS.values())))
_NUMBERS = "|".join(sorted(COUNTS, key=len, reverse=True))
GROUP = re.compile(rf"\b(?P<number>{_NUMBERS}) (?P<attributes>(?:(?:{_ATTRIBUTES}) )*)(?P<noun>{_NOUNS})\b")


def _unknown(words: str) -> tuple[str, ...]:
    phrases = " ".join((*DIM, *BRIGHT, *(p for looks in LOOKS.values() for p in looks))).split()
    known = {part for word in MEANING for part in word.split()} | {part for word in COUNTS for part in word.split()} | SILENT | set(phrases)
    return tuple(dict.fromkeys(w for w in words.split() if w.isalnum() and w not in known))
