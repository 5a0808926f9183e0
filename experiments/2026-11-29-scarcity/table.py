"""The cells that are kept, as a table: mean of each axis' headline over subsets, with Student's 95 % interval from three subsets on.

    python table.py

Finished comparisons also tell what the published ordering (docs/compare.md) is worth here. Utility and robustness are told in points; these intervals are
over subsets alone, those of a finished comparison also over hold-out images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

HERE = Path(__file__).parent
AXES = {  # axis: heading, factor, digits
    "privacy": ("attack AUC", 1, 2), "fidelity": ("kernel distance", 1, 2), "diversity": ("coverage", 1, 2), "utility": ("gain, points", 100, 1),
    "robustness": ("robust gain, points", 100, 1), "efficiency": ("seconds to 1,000", 1, 0),
}  # fmt: skip


def main() -> None:
    headings = ["Set", "n", "Family", "Subsets", "Leaks", *(heading for heading, _, _ in AXES.values())]
    print("| " + " | ".join(headings) + " |\n" + "|---" * len(headings) + "|")
    for file in sorted((HERE / "cells").glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for n, family in sorted({(row["cell"]["n"], row["cell"]["family"]) for row in rows}):
            mine = [row for row in rows if (row["cell"]["n"], row["cell"]["family"]) == (n, family)]
            leaks = sum(row["verdict"]["state"] == "leaks" for row in mine)
            print(f"| {file.stem.rpartition('-')[0]} | {n} | {family} | {len(mine)} | {leaks} | " + " | ".join(told(mine, axis) for axis in AXES) + " |")
    for file in sorted((HERE / "cells").glob("*.compare.json")):
        for claim in json.loads(file.read_text())["published"]:
            print(f"- {file.name.split('.')[0]}: {claim['claim']}, {claim['family']}: **{claim['said']}** {claim['where'] or ''}")


def told(rows: list[dict[str, Any]], axis: str) -> str:
    _, factor, digits = AXES[axis]
    values = [factor * float(np.mean(row["headline"][axis])) for row in rows if axis in row["headline"]]
    if not values:
        return "not measured"
    text = f"{np.mean(values):.{digits}f}"
    if len(values) < 3:
        return text
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return f"{text} ({np.mean(values) - half:.{digits}f} to {np.mean(values) + half:.{digits}f})"


if __name__ == "__main__":
    main()
