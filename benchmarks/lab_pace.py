"""How many scenes of the lab are thought up and drawn in a minute? One core.

    python benchmarks/lab_pace.py

Prints one JSON line a size: median of five rounds of 500 scenes of the plain world, in processor time.
"""

from __future__ import annotations

import json
import statistics
import time

from mitate.lab.drawing import draw
from mitate.lab.world import World

ROUNDS, SCENES = 5, 500


def main() -> None:
    for size in (32, 64):
        seconds = []
        for k in range(ROUNDS):
            started = time.process_time()
            for i in range(SCENES):
                draw(World().scene(i, seed=k), size=size)
            seconds.append(time.process_time() - started)
        print(json.dumps({"what": "scenes drawn", "size": size, "a_minute": round(60 * SCENES / statistics.median(seconds))}))


if __name__ == "__main__":
    main()
