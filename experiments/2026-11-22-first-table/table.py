"""The table of run.py's bits: every arm against real + augmentation, and the orderings that were asked about.

    python table.py            prints Markdown and writes results.jsonl, one line for each set and number of images

Intervals: 95 %, over replicates and test images (groups where the images name them), a fifth of the error beyond the low end, as a pilot's. An arm's
p-value is adjusted (Holm) over the arms of its row. No arm was chosen, so none of these is a verdict; the column says what one look at this
arm alone would have said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mitate.metrics.intervals import Interval, holm, p_value, two_way
from mitate.studies import gates

HERE = Path(__file__).parent
BASELINE, WORTHWHILE = "real+augment", 0.01
ORDERINGS = (  # first minus second, for each generator where an arm has one
    ("mixed+augment", "real+augment"),
    ("mixed+augment", "balanced+augment"),
    ("balanced+augment", "real+augment"),
    ("bridged+++augment", "real+augment"),
    ("bridged+++augment", "balanced+augment"),
    ("bridged+++augment", "real+augment+mixup"),
    ("bridged+++augment", "real-long+augment"),
    ("balanced+augment+align", "balanced+augment"),
    ("real-long+augment", "real+augment"),
)


class Row:
    """What each model got right, of one set at one number of images."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as kept:
            self.facts = json.loads(str(kept["facts"]))
            n, groups = int(kept["images"]), kept["groups"]
            arms = [arm for arm in kept.files if arm not in ("images", "groups", "facts")]
            self.right = {arm: np.unpackbits(kept[arm], axis=1, count=n).astype(np.float64) for arm in arms}
        self.groups = groups if len(groups) else None
        self.generators = sorted({arm.split(" · ")[1] for arm in self.right if " · " in arm})

    def gap(self, first: str, second: str) -> Interval:
        """First minus second, as a pilot would say it: the spread of its rows borrows from that of the other arms."""
        rows = [(right - self.right[second]).mean(axis=1) for arm, right in self.right.items() if arm not in (first, second)]
        typical = float(np.median([r.var(ddof=1) for r in rows]))
        table = self.right[first] - self.right[second]
        return two_way(table, confidence=0.95, groups=self.groups, typical=typical, low_share=gates.LOW_SHARE)

    def score(self, arm: str) -> Interval:
        return two_way(self.right[arm], confidence=0.95, groups=self.groups)


def arms(row: Row) -> list[dict[str, Any]]:
    """Every arm with its score, its gain, the adjusted p-value, and what one look would have said."""
    gains = {arm: row.gap(arm, BASELINE) for arm in row.right if arm != BASELINE}
    adjusted = dict(zip(gains, holm([p_value(g) for g in gains.values()]), strict=True))
    found = []
    for arm in row.right:
        facts: dict[str, Any] = {"arm": arm, "score": _three(row.score(arm))}
        if arm in gains:
            facts |= {"gain": _three(gains[arm]), "p_holm": adjusted[arm], "one_look": gates.decide(gains[arm], worthwhile=WORTHWHILE)}
            facts |= {
                "row_sd": float((row.right[arm] - row.right[BASELINE]).mean(axis=1).std(ddof=1)),
                "image_variance": gains[arm].se_images ** 2 * gains[arm].n,
            }
        found.append(facts)
    return found


def orderings(row: Row) -> list[dict[str, Any]]:
    found = []
    for first, second in ORDERINGS:
        pairs = [tuple(a if a in row.right else f"{a} · {g}" for a in (first, second)) for g in row.generators]
        found += [{"first": a, "second": b, "gap": _three(row.gap(a, b))} for a, b in dict.fromkeys(pairs)]
    return found


def _three(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _points(facts: dict[str, float]) -> str:
    return f"{100 * facts['value']:+.1f} ({100 * facts['low']:+.1f} to {100 * facts['high']:+.1f})"


def main() -> None:
    lines = []
    for path in sorted((HERE / "right").glob("*.npz")):
        row = Row(path)
        facts = {**row.facts, "arms": arms(row), "orderings": orderings(row)}
        lines.append(json.dumps(facts))
        images = row.facts["images"]
        print(f"\n### {facts['set']}, {facts['per_class']} a class, {facts['size']} px ({images['train']} train, {images['test']} test)\n")
        print("| Arm | Accuracy, % | Gain, points (95 %) | p, Holm | One look |\n|---|---|---|---|---|")
        for arm in facts["arms"]:
            gain = (_points(arm["gain"]), f"{arm['p_holm']:.3f}", arm["one_look"]) if "gain" in arm else ("baseline", "", "")
            print(f"| {arm['arm']} | {100 * arm['score']['value']:.1f} | {' | '.join(gain)} |")
        print("\n| First minus second | Points (95 %) |\n|---|---|")
        for pair in facts["orderings"]:
            print(f"| {pair['first']} - {pair['second']} | {_points(pair['gap'])} |")
    (HERE / "results.jsonl").write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
