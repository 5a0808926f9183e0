"""How often is the lab's oracle right? Scenes of the plain world, drawn clean, noisy and in every style, read back and compared with what was drawn.

    python benchmarks/oracle_accuracy.py [--scenes 2000] [--sizes 32,64]
    python benchmarks/oracle_accuracy.py --summary

An attribute of a thing is right where the thing read nearest to its place (within a tenth of a side) has it, so a thing that was not found has none;
`number` is right where as many things were read as drawn. `all` is the share of all attributes. Intervals are Wilson's, over scenes for what a scene has
once and over things for the rest (things of one scene are not independent; read them as a guide). One JSON line a cell in results/oracle_accuracy.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cells
from mitate.lab.captions import place_of
from mitate.lab.drawing import STYLES, draw
from mitate.lab.oracle import read
from mitate.lab.world import Scene, Thing, World

OUT = Path(__file__).parent / "results" / "oracle_accuracy.jsonl"
OF_THINGS, OF_SCENES = ("shape", "colour", "size", "texture", "place"), ("number", "background", "light")
NOISE = (0.0, 5.0, 10.0)
NEAR = 0.1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scenes", type=int, default=2000)
    options.add_argument("--sizes", default="32,64")
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        looks = [("flat", noise) for noise in NOISE] + [(style, 0.0) for style in STYLES if style != "flat"]
        todo = [
            ({"pixels": size, "style": style, "noise": noise, "scenes": given.scenes}, partial(measure, size, style, noise, given.scenes))
            for size in map(int, given.sizes.split(","))
            for style, noise in looks
        ]
        cells.fill(given.out, todo, tell=lambda name, row: f"{name}: {row['all'][0]:.4f}")
    print(summary(cells.read(given.out)))


def measure(size: int, style: str, noise: float, scenes: int) -> cells.Row:
    world, right, seen, spent = World(), Counter[str](), Counter[str](), 0.0
    for i in range(scenes):
        scene = world.scene(i, seed=11)
        image = draw(scene, size=size, style=style, noise=noise)
        started = time.process_time()
        found = read(image, style=style)
        spent += time.process_time() - started
        for name, yes in judged(scene, found):
            seen[name] += 1
            right[name] += yes
    row: dict[str, Any] = {"pixels": size, "style": style, "noise": noise, "scenes": scenes}
    row |= {name: cells.share(right[name], seen[name], digits=5) for name in (*OF_THINGS, *OF_SCENES)}
    return row | {"all": cells.share(right.total(), seen.total(), digits=5), "milliseconds": round(1e3 * spent / scenes, 2)}


def judged(scene: Scene, found: Scene) -> list[tuple[str, bool]]:
    """Every attribute of a scene, and whether what was read has it."""
    told = [("number", len(found.things) == len(scene.things)), ("background", found.background == scene.background), ("light", found.light == scene.light)]
    for thing in scene.things:
        near = min(found.things, key=lambda t: distance(t, thing), default=None)
        there = near is not None and distance(near, thing) <= NEAR
        told += [(name, there and getattr(near, name) == getattr(thing, name)) for name in OF_THINGS[:4]]
        told.append(("place", there and (place_of(thing) is None or place_of(near) in (None, place_of(thing)))))
    return told


def distance(one: Thing, two: Thing) -> float:
    return float(((one.x - two.x) ** 2 + (one.y - two.y) ** 2) ** 0.5)


def summary(rows: list[Mapping[str, Any]]) -> str:
    lines = ["| Pixels | Style | Noise | " + " | ".join((*OF_THINGS, *OF_SCENES)) + " | All (95 %) | ms |", "|" + "---|" * 13]
    for row in rows:
        each = " | ".join(f"{100 * row[name][0]:.1f}" for name in (*OF_THINGS, *OF_SCENES))
        value, low, high = (100 * v for v in row["all"])
        lines.append(
            f"| {row['pixels']} | {row['style']} | {row['noise']:g} | {each} | **{value:.2f}** ({low:.2f} to {high:.2f}) | {row['milliseconds']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
