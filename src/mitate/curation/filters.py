"""Filters: what a frozen model, distances and pairs of look-alikes say of a set, as decisions with reasons. Pure functions; the ledger is written elsewhere.

labels            the model's class differs from the folder's, and it is sure: relabel, or drop
copies            nearly one image of a real set (metrics/privacy.py): drop
near-duplicates   one picture several times: all but one dropped
confidence        the model gives the class that now stands too little: drop
captions          the caption that a frozen captioner writes, as the reason of a keep

Each filter says something of every image that it looked at, with what it measured. An image that an earlier filter of the list dropped is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mitate.curation.ledger import FILTER, LONGEST, Decision
from mitate.errors import SettingError
from mitate.intake.listing import shown
from mitate.metrics.privacy import COPY

NAMES = ("labels", "copies", "near-duplicates", "confidence", "captions")
SURE = 0.9  # of overruling a folder; what it costs and finds: benchmarks/relabel_quality.py
LONG = 80  # characters of a class or file in a reason


@dataclass(frozen=True)
class Rules:
    """keep: share of each class with the highest probability; confidence: least probability; None where not asked. sure: least probability of another class
    that overrules the folder. differing: what then happens, relabel or drop."""

    keep: float | None = None
    confidence: float | None = None
    sure: float = SURE
    differing: str = "relabel"

    def check(self) -> None:
        """SettingError for a number out of its range."""
        for option, value, low in (("--keep", self.keep, "above 0"), ("--confidence", self.confidence, "0"), ("--sure", self.sure, "0")):
            if value is not None and not (0 <= value <= 1 and (value > 0 or option != "--keep")):
                raise SettingError(f"{option} is {value:g}.", fix=f"give a share from {low} to 1, like {option} 0.8")
        if self.differing not in ("relabel", "drop"):
            raise SettingError(f"{self.differing!r} is nothing to do with an image.", fix="choose relabel or drop")


def by_labels(files: Sequence[str], folders: Sequence[str], found: np.ndarray, classes: Sequence[str], rules: Rules, *, model: str) -> tuple[Decision, ...]:
    """What the model makes of each folder's class. found: its probabilities, float [n, k], of `classes`; folders: the class that each image has now.

    The score is the probability of the model's own class. Where it differs without being sure, the folder's class stays, and the reason says so.
    """
    out = []
    for file, folder, row in zip(files, folders, found, strict=True):
        best, p = classes[int(row.argmax())], float(row.max())
        told = f"{model} says {_short(best)} ({p:.1%} sure)"
        if best == folder:
            out.append(_decision("labels", file, "keep", f"{told}, as the set does", p))
        elif p < rules.sure:
            out.append(_decision("labels", file, "keep", f"{told} and the set {_short(folder)}; under {rules.sure:.3g}, so the set's stays", p))
        elif rules.differing == "relabel":
            out.append(_decision("labels", file, "relabel", f"{told} and the set {_short(folder)}; at least {rules.sure:.3g}", p, label=best))
        else:
            out.append(_decision("labels", file, "drop", f"{told} and the set {_short(folder)}; at least {rules.sure:.3g}", p))
    return tuple(out)


def by_copies(files: Sequence[str], ratios: np.ndarray, nearest: Sequence[str], *, real: str) -> tuple[Decision, ...]:
    """Copies of real images. ratios: float [n], distance to the nearest real image over that to the next ten (privacy.ratio_to_nearest); nearest: its name."""
    out = []
    for file, ratio, name in zip(files, ratios, nearest, strict=True):
        told = f"{ratio:.2f} times as far from {shown(name, LONG)} of {shown(real, LONG)} as from the next ones"
        if ratio < COPY:
            out.append(_decision("copies", file, "drop", f"{told}, under {COPY:g}: a copy", ratio))
        else:
            out.append(_decision("copies", file, "keep", f"{told}, not under {COPY:g}", ratio))
    return tuple(out)


def groups_of(pairs: Iterable[tuple[int, int]], n: int) -> list[int]:
    """The group of each of n images, named by its first image: whoever is paired, also over others, is in one."""
    group = list(range(n))

    def first(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for a, b in pairs:
        one, other = sorted((first(a), first(b)))
        group[other] = one
    return [first(i) for i in range(n)]


def by_near_duplicates(files: Sequence[str], groups: Sequence[int], score: np.ndarray | None) -> tuple[Decision, ...]:
    """One of each group stays: that with the highest score (the model's probability of its class), else the first. The score in the ledger is the size of
    the group."""
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    out = []
    for i, (file, group) in enumerate(zip(files, groups, strict=True)):
        mine = members[group]
        best = mine[0] if score is None else min(mine, key=lambda j: (-float(score[j]), j))
        if len(mine) == 1:
            out.append(_decision("near-duplicates", file, "keep", "like no other", 1))
        elif i == best:
            out.append(_decision("near-duplicates", file, "keep", f"stands for {len(mine)} that are one picture", len(mine)))
        else:
            out.append(_decision("near-duplicates", file, "drop", f"one picture with {shown(files[best], LONG)}, which is kept", len(mine)))
    return tuple(out)


def by_confidence(files: Sequence[str], standing: Sequence[str], p: np.ndarray, rules: Rules, *, model: str) -> tuple[Decision, ...]:
    """The most confident of each class. standing: the class that each image now has; p: float [n], the model's probability of it. None asked: nothing said.

    `keep` leaves round(share x images) of every class, at least one, so that the mix of classes stays; of equal probabilities the earlier image is the better
    one. `confidence` then drops what is below it, whatever that leaves.
    """
    if rules.keep is None and rules.confidence is None:
        return ()
    among = np.ones(len(files), bool)
    if rules.keep is not None:
        for label in dict.fromkeys(standing):
            mine = sorted((i for i, own in enumerate(standing) if own == label), key=lambda i: (-float(p[i]), i))
            among[mine[kept_of(len(mine), rules.keep) :]] = False
    out = []
    for i, (file, label) in enumerate(zip(files, standing, strict=True)):
        told = f"{model}: {p[i]:.1%} for {_short(label)}"
        if rules.confidence is not None and p[i] < rules.confidence:
            out.append(_decision("confidence", file, "drop", f"{told}, under {rules.confidence:.3g}", float(p[i])))
        elif not among[i]:
            out.append(_decision("confidence", file, "drop", f"{told}, not in the most confident {rules.keep:.3g} of its class", float(p[i])))
        else:
            rule = [f"the most confident {rules.keep:.3g} of its class"] if rules.keep is not None else []
            rule += [f"at least {rules.confidence:.3g}"] if rules.confidence is not None else []
            out.append(_decision("confidence", file, "keep", f"{told}, {' and '.join(rule)}", float(p[i])))
    return tuple(out)


def kept_of(n: int, share: float) -> int:
    """How many of n a share leaves: the nearest whole number, at least 1; of two equally near the larger."""
    return min(n, max(1, math.floor(share * n + 0.5)))


def by_captions(files: Sequence[str], captions: Sequence[str], likeness: Sequence[float]) -> tuple[Decision, ...]:
    """Captions rewritten: the new one is the reason. An image of which the captioner says nothing is dropped. likeness: of old and new caption, 0 to 1."""
    out = []
    for file, text, like in zip(files, captions, likeness, strict=True):
        if text.strip():
            out.append(_decision("captions", file, "keep", " ".join(text.split())[:LONGEST], like))
        else:
            out.append(_decision("captions", file, "drop", "the captioner says nothing of it", like))
    return tuple(out)


def rewritten(standing: Mapping[str, Decision]) -> dict[str, str]:
    """The new caption of each file. standing: what holds of the filter captions, by file (`Standing.by`)."""
    return {file: d.reason for file, d in standing.items() if d.decision == "keep"}


# what the ledger does not say yet -------------------------------------------------------------------------------------


def changes(said: Iterable[Decision], wanted: Sequence[Decision], name: str) -> tuple[Decision, ...]:
    """What must be appended so that the filter `name` says `wanted` and nothing else: undos of what differs, each before what holds instead.

    said: the whole ledger. Empty where it says so already, whenever it was said. What a killed append left is mended alike.
    """
    by = FILTER + name
    stacks: dict[str, list[Decision]] = {}
    for d in said:
        if d.by != by:
            continue
        if d.decision != "undo":
            stacks.setdefault(d.file, []).append(replace(d, time=""))
        elif stacks.get(d.file):
            stacks[d.file].pop()
    new = {d.file: d for d in wanted}
    gone = [file for file in stacks if file not in new]
    out: list[Decision] = []
    for file in [*gone, *new]:
        there = stacks.get(file, [])
        if file in new and there == [new[file]]:
            continue
        out += [Decision(file, "undo", by)] * len(there)
        out += [new[file]] if file in new else []
    return tuple(out)


def _decision(name: str, file: str, decision: str, reason: str, score: float, *, label: str | None = None) -> Decision:
    return Decision(file, decision, FILTER + name, label, reason, round(float(score), 6))


def _short(label: str) -> str:
    return shown(label, LONG)
