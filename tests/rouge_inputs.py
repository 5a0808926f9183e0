"""Texts whose ROUGE-L the reference has said (oracles/rouge.py): drawn from few words, so that they share some, with what trips a tokenizer."""

from __future__ import annotations

import random

ODD = (
    "", " ", "...", "a", "A", "two red cups", "Two RED cups!", "two  red\tcups", "cups red two", "co-op, don't 3D x2", "co op don t 3d x2", "naïve café über",
    "na ve caf ber", "二つの赤いカップ", "two 赤い cups", "İstanbul ß ſ", "a a a a a", "a a a", "a b a b a b", "b a b a b a", "under_score", "under score",
    "½ x²", "x x",
)  # fmt: skip
NOUNS = "cup dog tree lamp boat chair clock apple horse bridge".split()
ATTRIBUTES = "red blue small large old wooden striped wet".split()
PLACES = "on a table|under the bridge|in the rain|beside a wall|at dusk".split("|")


def texts(n: int, *, seed: int) -> list[str]:
    """n texts of 3 to 40 words, many of them near another."""
    chance = random.Random(seed)
    found: list[str] = []
    for _ in range(n):
        if found and chance.random() < 0.5:  # another one, changed a little
            words = chance.choice(found).split()
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(words))
                words[at : at + 1] = chance.choice([[], [chance.choice(NOUNS)], [words[at], chance.choice(ATTRIBUTES)]])
                words = words or ["a"]
            found.append(" ".join(words))
            continue
        parts = []
        for _ in range(chance.choice([1, 1, 2, 5])):
            parts.append(
                " ".join([chance.choice(["a", "the", "two"]), *chance.sample(ATTRIBUTES, chance.randint(0, 2)), chance.choice(NOUNS), chance.choice(PLACES)])
            )
        found.append(", and ".join(parts))
    return found


def pairs() -> list[tuple[str, str]]:
    """The odd texts each with each, and 300 pairs of the others."""
    some, chance = texts(120, seed=1), random.Random(2)
    return [(one, two) for one in ODD for two in ODD] + [(chance.choice(some), chance.choice(some)) for _ in range(300)]
