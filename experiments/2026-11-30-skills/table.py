"""The tables of README.md, from skills.json beside it: every model by every skill, the questions, what was chosen, how the experts stand to each other."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any


def main() -> None:
    found = json.loads((Path(__file__).parent / "skills.json").read_text())
    skills = list(found["rows"][0]["skills"])
    print("| Model | " + " | ".join(skills) + " | mean |\n|" + "---|" * (len(skills) + 2))
    for row in found["rows"]:
        print(f"| `{row['model']}` | " + " | ".join(share(c) for c in (*row["skills"].values(), row["overall"])) + " |")
    print("\n| Question | Answer | Difference, points | p (Holm) |\n|---|---|---|---|")
    for q in found["questions"]:
        print(f"| {q['question']} | {q['answer']} | {100 * q['value']:+.1f} ({100 * q['low']:+.1f} to {100 * q['high']:+.1f}) | {q['p']:.2g} |")
    print("\n| Skill | Kept of painted | Variety | Of as many by chance |\n|---|---|---|---|")
    for skill in skills:
        rows = [y for y in found["yields"] if y["skill"] == skill]
        kept, painted = sum(y["kept"] for y in rows), sum(y["painted"] for y in rows)
        print(f"| {skill} | {kept} of {painted} | {mean(y['vendi'] for y in rows):.1f} | {mean(y['vendi_by_chance'] for y in rows):.1f} |")
    clashes = [(c["cosine"], c["conflict"], c["cancelled"]) for c in found["interference"]]
    told = (f"{name} {mean(values):.2f}" for name, values in zip(("cosine", "signs that differ", "lost in the sum"), zip(*clashes, strict=True), strict=True))
    print("\nInterference: " + ", ".join(told))
    print("Cost:", found["cost"])


def share(cell: dict[str, Any]) -> str:
    return f"{100 * cell['value']:.1f} ({100 * cell['low']:.1f} to {100 * cell['high']:.1f})"


if __name__ == "__main__":
    main()
