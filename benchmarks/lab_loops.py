"""The lab's text-to-image model and captioner in a loop: which claims about multi-modal loops hold for networks, where the truth of pictures is known.

    python benchmarks/lab_loops.py [--seeds 3] [--arms replace,real,...] [--n 96] [--generations 6] [--out benchmarks/results/lab_loops.jsonl]
    python benchmarks/lab_loops.py --summary

A base case (both sides, replace, 1x1) and one dial at a time; `real`, models trained anew on new real pairs each time, is the floor. One JSON line a chain, as
soon as it is finished: indicators of every generation, processor seconds, evaluations a kept pair. Run again, it goes on with the chains that are not there;
more seeds add chains to those that are.

The summary has means over chains, paired differences to `replace` of the same seed (last generation, and the mean of generations 2 and on) with 95 % intervals
of Student's t, and the claims: a part of one is a paired difference of one indicator at the last generation, with Holm's correction over all parts that can be
had; holds, does not hold, cannot tell. They were written down before the chains were run. Results are ours; the paper's figures are not known.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.errors import SettingError
from mitate.loops.agents import Decode
from mitate.loops.captioned import Captioned
from mitate.loops.chains import collapse
from mitate.metrics.intervals import holm, quantile_t
from mitate.settings import suggest
from toy_loops import mean_of, p_of

OUT = Path(__file__).parent / "results" / "lab_loops.jsonl"
SEEDS, N, GENERATIONS = 3, 96, 6
DIGITS = 5  # significant, of an indicator in a row
BASE = "replace"
WORDS = 47  # tokens that the lab's captioner writes at most
STEPS = 12  # of denoising that the lab's model is used with

# settings of the loop; `ground`: of the ground
ARMS: dict[str, dict[str, Any]] = {
    "real": {"policy": "real"},
    BASE: {},
    "images": {"setting": "images"},
    "captions": {"setting": "captions"},
    "accumulate": {"policy": "accumulate"},
    "fresh:0.25": {"policy": "fresh:0.25"},
    "base": {"start": "base"},
    "relabel frozen": {"relabel": "frozen"},
    "samples 4": {"images": Decode(depth=STEPS, samples=2), "captions": Decode(depth=WORDS, samples=2)},
    "search 4": {"images": Decode(depth=STEPS, search=4), "captions": Decode(depth=WORDS, search=4), "ground": {"chooser": "lab-clip"}},
    "depth 3": {"images": Decode(depth=3)},
    "temperature 0.8": {"captions": Decode(depth=WORDS, temperature=0.8)},
    "2x2": {"captioners": 2, "generators": 2},
}

# claim -> (indicator, direction, arm, against). up: +1
CLAIMS: dict[str, list[tuple[str, int, str, str]]] = {
    "quality falls without new data": [
        *((name, -1, BASE, "real") for name in ("painted_right", "told_right", "coverage", "image_tail")),
        *((name, 1, BASE, "real") for name in ("kernel_distance", "image_drift", "caption_drift")),
    ],
    "alignment rises meanwhile": [(name, 1, BASE, "real") for name in ("alignment", "faithful")],
    "alignment rises meanwhile, where a scorer selects": [(name, 1, "search 4", "real") for name in ("alignment", "faithful", "image_drift")],
    "caption variance rises": [(name, 1, BASE, "real") for name in ("text_variance", "word_entropy")],
    "bias is amplified": [(name, 1, BASE, "real") for name in ("image_amplification", "caption_amplification")],
    "more samples help": [(name, -1, "samples 4", BASE) for name in ("image_drift", "caption_drift", "kernel_distance")],
    "search speeds collapse up": [("coverage", -1, "search 4", BASE), ("image_drift", 1, "search 4", BASE)],
    "less depth hurts": [("painted_right", -1, "depth 3", BASE), ("kernel_distance", 1, "depth 3", BASE)],
    "frozen relabelling helps": [
        ("caption_drift", -1, "relabel frozen", BASE), ("told_right", 1, "relabel frozen", BASE), ("faithful", 1, "relabel frozen", BASE),
    ],
    "more trainable models are worse": [(name, 1, "2x2", BASE) for name in ("image_drift", "caption_drift", "kernel_distance")],
    "accumulating helps": [(name, -1, "accumulate", BASE) for name in ("image_drift", "caption_drift", "kernel_distance")],
    "a quarter of new real pairs helps": [(name, -1, "fresh:0.25", BASE) for name in ("image_drift", "caption_drift", "kernel_distance")],
    "a restart from the base holds collapse up": [(name, -1, "base", BASE) for name in ("image_drift", "caption_drift", "kernel_distance")],
}  # fmt: skip

SHOWN = (
    "variance", "within_variance", "coverage", "kernel_distance", "alignment", "faithful", "painted_right", "told_right", "text_variance", "word_entropy",
    "self_bleu", "image_drift", "caption_drift", "image_tail", "image_amplification",
)  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=SEEDS)
    asked.add_argument("--arms", default=",".join(ARMS))
    asked.add_argument("--n", type=int, default=N)
    asked.add_argument("--generations", type=int, default=GENERATIONS)
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--summary", action="store_true")
    given = asked.parse_args()
    warnings.filterwarnings("ignore")
    ground = Captioned()
    told = {"n": given.n, "generations": given.generations, "weights": ground.asked["weights"][:12]}
    if not given.summary:
        arms = given.arms.split(",")
        if unknown := [arm for arm in arms if arm not in ARMS]:
            raise SettingError(f"There is no arm {unknown[0]!r}.", fix=suggest(unknown[0], ARMS))
        names = [{"what": "chain", "arm": arm, "seed": seed, **told} for seed in range(given.seeds) for arm in arms]
        cells.fill(
            given.out, ((name, partial(chain, ground, name)) for name in names), tell=lambda name, row: f"{name['arm']} {name['seed']}: {row['seconds']} s"
        )
    print(summary([row for row in cells.read(given.out) if all(row[k] == v for k, v in told.items())]))


def chain(ground: Captioned, name: Mapping[str, Any]) -> cells.Row:
    """A chain of an arm. A blocked one is an error, so that it is seen and tried again."""
    settings = dict(ARMS[name["arm"]])
    if more := settings.pop("ground", {}):
        ground = replace(ground, **more)
    loop = ground.loop(n=name["n"], generations=name["generations"], **settings)
    began = time.process_time()
    found = collapse(ground, loop, seeds=[name["seed"]])
    if found.blocked:
        raise RuntimeError(f"{name['arm']}, seed {name['seed']}: {found.blocked[name['seed']]}")
    each = found.chains[name["seed"]]
    values = {k: [float(f"{line[k]:.{DIGITS}g}") for line in each] for k in each[0] if all(k in line for line in each)}
    cost = float(np.mean([line["cost"]["per_kept"] for line in found.lines]))
    return {**name, "seconds": round(time.process_time() - began), "cost": round(cost, 1), "indicators": values}


# what comes of it -------------------------------------------------------------------------------------------------------


class Chains:
    """Rows by arm and seed."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = {(row["arm"], row["seed"]): row for row in rows}

    @property
    def arms(self) -> list[str]:
        there = {arm for arm, _ in self.rows}
        return [arm for arm in ARMS if arm in there]

    def values(self, arm: str, indicator: str, *, area: bool = False) -> dict[int, float]:
        """By seed: of the last generation, or the mean of generations 2 and on."""
        found = {}
        for (other, seed), row in self.rows.items():
            if other == arm and indicator in row["indicators"]:
                each = row["indicators"][indicator]
                found[seed] = float(np.mean(each[1:] or each)) if area else each[-1]
        return found

    def difference(self, arm: str, against: str, indicator: str, *, area: bool = False) -> np.ndarray:
        """Of the seeds that both have."""
        one, two = (self.values(a, indicator, area=area) for a in (arm, against))
        return np.array([one[seed] - two[seed] for seed in sorted(set(one) & set(two))])


def claims(chains: Chains) -> list[cells.Row]:
    """Every part of every claim whose chains are there, two seeds at least."""
    parts = [(claim, *part) for claim, those in CLAIMS.items() for part in those]
    differences = [chains.difference(arm, against, indicator) for _, indicator, _, arm, against in parts]
    there = [(part, d) for part, d in zip(parts, differences, strict=True) if len(d) > 1]
    rows = []
    for ((claim, indicator, way, arm, against), d), p in zip(there, holm([p_of(d) for _, d in there]), strict=True):
        verdict = "cannot tell" if p >= 0.05 else "holds" if way * d.mean() > 0 else "does not hold"
        told = {"indicator": indicator, "expected": "up" if way > 0 else "down", "arm": arm, "against": against}
        rows.append({"claim": claim, **told, "chains": len(d), "difference": mean_of(d), "p_holm": round(float(p), 4), "verdict": verdict})
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tables in Markdown."""
    chains = Chains(rows)
    lines = ["Last generation, means over chains", "", _row(["Arm", "Chains", "s a chain", "Cost", *SHOWN]), _rule(4 + len(SHOWN))]
    for arm in chains.arms:
        own = [row for (other, _), row in chains.rows.items() if other == arm]
        means = [_number(list(chains.values(arm, k).values())) for k in SHOWN]
        lines.append(_row([arm, str(len(own)), f"{np.mean([r['seconds'] for r in own]):.0f}", f"{own[0]['cost']:g}", *means]))
    lines += ["", f"Against {BASE}: last generation; mean of generations 2 and on", "", _row(["Arm", "Indicator", "Last (95 %)", "Mean (95 %)"]), _rule(4)]
    for arm in chains.arms:
        for k in SHOWN if arm != BASE else ():
            last, area = (chains.difference(arm, BASE, k, area=whole) for whole in (False, True))
            if len(last) > 1:
                lines.append(_row([arm, k, _interval(last), _interval(area)]))
    lines += ["", "Claims", "", _row(["Claim", "Indicator", "Expected", "Arm", "Against", "Difference (95 %)", "p (Holm)", "Verdict"]), _rule(8)]
    for row in claims(chains):
        value, low, high = row["difference"]
        told = f"{value:+.3g} ({low:.3g} to {high:.3g}), {row['chains']} chains"
        lines.append(_row([row["claim"], row["indicator"], row["expected"], row["arm"], row["against"], told, f"{row['p_holm']:g}", row["verdict"]]))
    return "\n".join(lines)


def _interval(values: np.ndarray) -> str:
    half = quantile_t(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3g} ({values.mean() - half:.3g} to {values.mean() + half:.3g})"


def _number(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3g}" if values else "not measured"


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


if __name__ == "__main__":
    main()
