"""De-duplicating prompts by ROUGE-L: ours over all of them, the reference (rouge-score) over a sample of the pairs. One JSON line a set.

    python benchmarks/bench_rouge.py [--n 10000] [--pairs 20000] [--reference .oracles/bin/python] >> benchmarks/results/bench_rouge.jsonl

Ours compares each prompt with all that were kept before and keeps what is not alike (above 0.8), as a run of `mitate prompts` does. The reference has to score
pairs one by one, at least those of each kept prompt with all kept before: its time a pair (scorer made once, median of 5 rounds over the same sample) times
the number of these pairs is `reference_seconds`, extrapolated. It runs in an interpreter of its own that has rouge-score. Two sets: `lab`, captions of the lab
(60 words in all, so nearly all texts share some: the hard case for counting), and `vocabulary`, texts of 6 to 30 of 8,000 words by Zipf's law (nothing is
alike, so the pool grows to n).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from mitate.lab.skills import training
from mitate.prompts.rouge import Alike, rouge_l, words

SHARE = 0.8
ROUNDS = 5
CHILD = """
import json, statistics, sys, time
from importlib.metadata import version
from rouge_score.rouge_scorer import RougeScorer
pairs, rounds = json.load(sys.stdin)
scorer = RougeScorer(["rougeL"], use_stemmer=False)
seconds = []
for _ in range(rounds):
    started = time.perf_counter()
    scores = [scorer.score(one, two)["rougeL"].fmeasure for one, two in pairs]
    seconds.append(time.perf_counter() - started)
json.dump({"version": version("rouge-score"), "seconds": statistics.median(seconds), "scores": scores}, sys.stdout)
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=10_000)
    options.add_argument("--pairs", type=int, default=20_000)
    options.add_argument("--reference", default=sys.executable, help="an interpreter that has rouge-score")
    given = options.parse_args()
    for name, make in SETS.items():
        texts = make(given.n)
        seconds, (kept, pairs) = median(lambda texts=texts: kept_of(texts), ROUNDS)
        chance = np.random.default_rng(0)
        sample = [(texts[i], texts[j]) for i, j in chance.integers(len(texts), size=(given.pairs, 2)).tolist()]
        asked = json.dumps([sample, ROUNDS])
        reference = json.loads(subprocess.run([given.reference, "-c", CHILD], input=asked, capture_output=True, text=True, check=True).stdout)
        same = sum(rouge_l(words(one), words(two)) == score for (one, two), score in zip(sample, reference["scores"], strict=True))
        whole = reference["seconds"] / len(sample) * pairs
        line = {
            "what": "rouge-l de-duplication", "set": name, "n": len(texts), "kept": kept, "pairs": pairs, "seconds": round(seconds, 3),
            "reference": f"rouge-score {reference['version']}", "sample_pairs": len(sample),
            "reference_us_a_pair": round(reference["seconds"] / len(sample) * 1e6, 1),
            "reference_seconds": round(whole, 1), "times_faster": round(whole / seconds), "sample_scores_equal": same,
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "threads": 1, "machine": platform.machine(),
        }  # fmt: skip
        print(json.dumps(line), flush=True)


def kept_of(texts: list[str]) -> tuple[int, int]:
    """How many are kept, and how many pairs have to be scored one by one at least: a text that is kept with all before it, any other with one."""
    pool, pairs = Alike(SHARE), 0
    for text in texts:
        if pool.nearest(text) is None:
            pairs += len(pool)
            pool.add(text)
        else:
            pairs += 1
    return len(pool), pairs


def median(call: Callable[[], tuple[int, int]], rounds: int) -> tuple[float, tuple[int, int]]:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), found


def lab(n: int) -> list[str]:
    return [training(i, seed=0)[0].text for i in range(n)]


def vocabulary(n: int) -> list[str]:
    chance = np.random.default_rng(0)
    weights = 1 / np.arange(1, 8001)
    return [" ".join(f"w{k}" for k in chance.choice(8000, size=chance.integers(6, 31), p=weights / weights.sum())) for _ in range(n)]


SETS = {"lab": lab, "vocabulary": vocabulary}

if __name__ == "__main__":
    main()
