"""What rouge-score says of the texts of tests/rouge_inputs.py, written to tests/oracles/rouge.json. Run by `make oracles`.

scores: ROUGE-L F1 of each pair, without stemming. kept: which of 400 texts the loop of SELMA keeps that compares each with all kept before, at three shares.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rouge_inputs import pairs, texts  # noqa: E402

SHARES = (0.5, 0.7, 0.8)
SCORER = RougeScorer(["rougeL"], use_stemmer=False)


def main() -> None:
    some = texts(400, seed=3)
    found = {
        "versions": {"rouge-score": version("rouge-score")},
        "scores": [score(one, two) for one, two in pairs()],
        "kept": {str(share): kept(some, share) for share in SHARES},
    }
    path = ROOT / "tests" / "oracles" / "rouge.json"
    path.write_text(json.dumps(found) + "\n")
    print(path.relative_to(ROOT))


def score(one: str, two: str) -> float:
    return float(SCORER.score(one, two)["rougeL"].fmeasure)


def kept(some: list[str], share: float) -> list[int]:
    found: list[int] = []
    for i, text in enumerate(some):
        if all(score(some[k], text) <= share for k in found):
            found.append(i)
    return found


if __name__ == "__main__":
    main()
