"""What jax-privacy says of one-run audits, written to tests/oracles/privacy.json. Run by `make oracles`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jax_privacy import auditing

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from oracle_inputs import guesses  # noqa: E402

PACKAGES = ("jax_privacy", "numpy", "scipy")
SPILL = 0.01


def main() -> None:
    one_run = [
        {"m": m, "r": r, "right": right, "epsilon": epsilon, "delta": delta, "p": float(auditing._one_run_p_value(m, r, right, epsilon, delta))}
        for m, r, right in ((100, 100, 80), (100, 20, 19), (500, 40, 40), (60, 30, 15))
        for epsilon in (0.0, 0.5, 2.0)
        for delta in (0.0, 1e-5, 1e-2)
    ]
    bounds = []
    for seed in range(8):
        scores, included = guesses(seed)
        for k in (20, 60):
            for delta in (0.0, 1e-4):
                right = int(included[np.argsort(-scores, kind="stable")[:k]].sum())
                epsilon = float(auditing._epsilon_one_run(0.0, len(scores), k, right, SPILL, delta))
                bounds.append({"seed": seed, "guesses": k, "right": right, "delta": delta, "spill": SPILL, "epsilon": epsilon})
    path = ROOT / "tests" / "oracles" / "privacy.json"
    path.write_text(json.dumps({"versions": {p: version(p) for p in PACKAGES}, "one run": one_run, "bounds": bounds}, indent=1, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
