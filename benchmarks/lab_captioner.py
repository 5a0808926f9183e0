"""Does the captioner say what is there? Drawings of new scenes, clean, noisy and in every style, described and compared with what was drawn.

    python benchmarks/lab_captioner.py [--model lab] [--scenes 500]
    python benchmarks/lab_captioner.py --summary

A text is read back by the lab's grammar. Its things are matched with the drawn ones so that most attributes agree; an attribute of a drawn thing is right
where its match has it, and wrong where it has no match. `number`, `background` and `light` are those of the scene. `all` is the share of all of these;
`whole` of scenes with nothing wrong. Wilson's 95 % intervals. One JSON line a cell in results/lab_captioner.jsonl, under the digest of the captioner.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import cells
from mitate.captioners.writers import Captioner, open_captioner
from mitate.lab.captions import Prompt, Wanted
from mitate.lab.drawing import STYLES, draw_all
from mitate.lab.reading import understand
from mitate.lab.world import Scene, Thing, World

OUT = Path(__file__).parent / "results" / "lab_captioner.jsonl"
OF_THINGS, OF_SCENES = ("shape", "colour", "size", "texture"), ("number", "background", "light")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="lab")
    options.add_argument("--scenes", type=int, default=500)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        captioner = open_captioner(given.model)
        looks = [("flat", 0.0), ("flat", 10.0)] + [(style, 0.0) for style in STYLES if style != "flat"]
        name = {"captioner": captioner.digest[:12], "scenes": given.scenes}
        todo = [({**name, "style": s, "noise": n}, partial(measure, captioner, {**name, "style": s, "noise": n})) for s, n in looks]
        cells.fill(given.out, todo, tell=lambda n, row: f"{n['style']} {n['noise']:g}: {row['all'][0]:.3f}")
    print(summary(cells.read(given.out)))


def measure(captioner: Captioner, name: Mapping[str, Any]) -> cells.Row:
    scenes = [World().scene(i, seed=31) for i in range(name["scenes"])]
    images = draw_all(scenes, style=name["style"], noise=name["noise"])
    started = time.process_time()
    texts = captioner.describe(images)
    seconds = time.process_time() - started
    right, seen, whole = Counter[str](), Counter[str](), 0
    for scene, text in zip(scenes, texts, strict=True):
        found = judged(scene, understand(text).prompt)
        whole += all(yes for _, yes in found)
        for attribute, yes in found:
            seen[attribute] += 1
            right[attribute] += yes
    row = {**name, **{a: cells.share(right[a], seen[a], digits=4) for a in (*OF_THINGS, *OF_SCENES)}, "all": cells.share(right.total(), seen.total(), digits=4)}
    return row | {"whole": cells.share(whole, len(scenes), digits=4), "seconds_an_image": round(seconds / len(scenes), 4)}


def judged(scene: Scene, prompt: Prompt | None) -> list[tuple[str, bool]]:
    """Every attribute of a scene, and whether the prompt says it."""
    said = [g for g in prompt.groups for _ in range(g.count)] if prompt else []
    found = [("number", len(said) == len(scene.things))]
    found += [(name, prompt is not None and getattr(prompt, name) == getattr(scene, name)) for name in OF_SCENES[1:]]
    return found + [(name, match is not None and agrees(thing, match, name)) for thing, match in matched(scene.things, said) for name in OF_THINGS]


def matched(things: Sequence[Thing], said: Sequence[Wanted]) -> list[tuple[Thing, Wanted | None]]:
    """Things with what is said of them, paired so that most attributes agree."""
    options = [*said[:6], *[None] * len(things)]
    best = max(permutations(range(len(options)), len(things)), key=lambda order: sum(scored(t, options[i]) for t, i in zip(things, order, strict=True)))
    return [(thing, options[i]) for thing, i in zip(things, best, strict=True)]


def scored(thing: Thing, said: Wanted | None) -> int:
    return 0 if said is None else sum(agrees(thing, said, name) for name in OF_THINGS)


def agrees(thing: Thing, said: Wanted, name: str) -> bool:
    return getattr(thing, name) == (getattr(said, name) or ("plain" if name == "texture" else None))


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Style | Noise | " + " | ".join((*OF_THINGS, *OF_SCENES)) + " | All attributes, % (95 %) | Whole scenes, % | s an image |", "|" + "---|" * 12]
    for row in rows:
        each = " | ".join(f"{100 * row[name][0]:.1f}" for name in (*OF_THINGS, *OF_SCENES))
        value, low, high = (100 * v for v in row["all"])
        lines.append(
            f"| {row['style']} | {row['noise']:g} | {each} | **{value:.1f}** ({low:.1f} to {high:.1f}) | {100 * row['whole'][0]:.1f} "
            f"| {row['seconds_an_image']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
