"""How long does an assessment without training take, and how long the second time? 1,000 real, 1,000 synthetic and 600 held-out images of 64 x 64.

    MITATE_DATA=folder python benchmarks/assess_pace.py

The images are CIFAR-10's, enlarged; all are real, since only the time counts. Prints one JSON line: wall seconds of the command line, first and again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"real": 1000, "fakes": 1000, "held": 600}
AXES = "privacy,fidelity,diversity,style,efficiency"


def main() -> None:
    data = np.load(Path(os.environ["MITATE_DATA"]) / "cifar10_lossless.npz", allow_pickle=False)
    x, y = (np.concatenate([data[f"{name}_train"], data[f"{name}_test"]]) for name in "xy")
    order = np.random.default_rng(0).permutation(len(x))
    with tempfile.TemporaryDirectory() as place:
        start = 0
        for name, count in SIZES.items():
            for j, i in enumerate(order[start : start + count]):
                folder = Path(place) / name / str(int(y[i]))
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x[i]).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{j}.png")
            start += count
        command = [sys.executable, "-m", "mitate", "assess", "fakes/", "--real", "real", "--held-out", "held", "--axes", AXES]
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(command, cwd=place, env={**os.environ, "MITATE_HOME": f"{place}/.mitate"}, check=True, capture_output=True)
            seconds.append(round(time.perf_counter() - started, 1))
    print(json.dumps({"what": "assess_pace", "images": SIZES, "axes": AXES, "first_seconds": seconds[0], "again_seconds": seconds[1]}))


if __name__ == "__main__":
    main()
