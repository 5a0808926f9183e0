"""Does a learned word bring a text-to-image model nearer to a set's look, and do its pictures still show what they should? In the lab, where both are known.

    python benchmarks/style_gap.py [--model lab] [--looks sepia,chalk,dusk] [--arms plain,named,untrained,learnt,...] [--seeds 0,1,2] [--guidance 2]
    python benchmarks/style_gap.py --summary

The real set: 20 drawings of one thing for each of six shapes, all in one look, a fifth of them for early stopping. `dusk` is a look that the model was never
shown and has no name for. Arms: `plain`, the sentence without a style; `named`, with the look's own name, the best a word could be (none for dusk);
`untrained`, the word before any step; `learnt`, dataset style inversion; `each-class`, a word for each class by as many steps; `lora`; `aligned`, plain
pictures with the real ones' colours, contrast and grain (image space, no model).

Measured on 50 pictures a class against 100 other drawings a class in the look: `gap`, the AUC of a classifier that tells the two apart (0.5: it cannot);
kernel distance (times 1,000); `kept`, the share of pictures that show one thing and of the right shape, by the oracle; core seconds of learning. `floor`
is what other drawings of the same look score. Arms that learn nothing from the real set are measured once. One JSON line a cell in results/style_gap.jsonl.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import cells
from mitate.adapters.alignment import Aligned, Alignment
from mitate.features.extractor import extractor
from mitate.generator import Pixels
from mitate.generators.pipelines import opened
from mitate.generators.text_to_image import TextToImage
from mitate.lab.captions import LOOKS
from mitate.lab.drawing import draw
from mitate.lab.oracle import read
from mitate.lab.sets import PLAIN
from mitate.lab.world import SHAPES, Scene
from mitate.metrics.kernel import kernel_distance
from mitate.metrics.told_apart import told_apart
from mitate.progress import Silent
from mitate.runtime import seed_of

OUT = Path(__file__).parent / "results" / "style_gap.jsonl"
REAL, FRESH, DRAWN = 20, 100, 50  # of each class
ARMS = ("floor", "plain", "named", "untrained", "learnt", "each-class", "lora", "aligned")
LEARNT = ("learnt", "each-class", "lora")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="lab")
    options.add_argument("--looks", default="sepia,chalk,dusk")
    options.add_argument("--arms", default=",".join(ARMS))
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--steps", type=int, default=600)
    options.add_argument("--guidance", type=float, default=2.0, help="a learned word is said louder with it: at 5 the lab's model overdoes a look")
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        weights = opened(given.model).digest[:12]
        names = [
            {"pipeline": weights, "look": look, "arm": arm, "seed": int(seed), "steps": given.steps if arm in LEARNT else 0, "guidance": given.guidance}
            for look in given.looks.split(",") for arm in given.arms.split(",") for seed in given.seeds.split(",")
            if (arm != "named" or look in LOOKS) and (arm in (*LEARNT, "aligned") or seed == given.seeds.split(",")[0])
        ]  # fmt: skip
        todo = [(name, partial(measure, given.model, name)) for name in names]
        cells.fill(given.out, todo, tell=lambda n, r: f"{n['look']} {n['arm']} {n['seed']}: gap {r['gap']:.3f}, kept {r['kept']:.3f}")
    print(summary(cells.read(given.out)))


@cache
def scenes(n: int, seed: str) -> list[tuple[int, Scene]]:
    """n scenes of one thing for each shape."""
    found: list[tuple[int, Scene]] = []
    for k, shape in enumerate(SHAPES):
        i = 0
        while sum(kk == k for kk, _ in found) < n:
            scene = PLAIN.scene(i, seed=seed_of("style gap", seed, k))
            if scene.things[0].shape == shape:
                found.append((k, scene))
            i += 1
    return found


def drawn(n: int, seed: str, look: str) -> Pixels:
    some = scenes(n, seed)
    x = np.stack([draw(scene, style=look) for _, scene in some])
    return Pixels(x, np.array([k for k, _ in some], np.int64), len(SHAPES))


def measure(model: str, name: Mapping[str, Any]) -> cells.Row:
    look, arm, seed = name["look"], name["arm"], name["seed"]
    real, fresh = drawn(REAL, f"real {seed}", look), drawn(FRESH, "fresh", look)
    chosen = np.arange(len(real.x)) % 5 == 4
    parts = [Pixels(real.x[rows], real.y[rows], real.n_classes) for rows in (~chosen, chosen)]
    y = np.repeat(np.arange(len(SHAPES)), DRAWN)
    opened(model)
    started, seconds, facts = time.process_time(), 0.0, {}
    if arm == "floor":
        x = drawn(DRAWN, "floor", look).x
    else:
        kind = kind_of(model, look, arm, name["steps"], name["guidance"])
        with tempfile.TemporaryDirectory() as place:
            facts = kind.fit(*parts, seed=seed, folder=Path(place), checkpoint=Path(place) / "checkpoint", progress=Silent())
            seconds = time.process_time() - started
            x = kind.load(Path(place)).sample(np.array([seed_of("style gap image", i) for i in range(len(y))]), y)
        if arm == "aligned":
            started = time.process_time()
            x = Aligned(Alignment().fit(parts[0].x, x)).apply(x)
            seconds = time.process_time() - started
    found = [read(image, style=look) for image in x]
    right = sum(len(s.things) == 1 and s.things[0].shape == SHAPES[k] for s, k in zip(found, y, strict=True))
    eye = extractor()
    a, b = eye.both(fresh.x).late, eye.both(x).late
    apart, distance = told_apart(a, b, seed=0, labels=(fresh.y, y)).auc, kernel_distance(a, b)
    return {
        **name, "gap": round(apart.value, 4), "gap_interval": [round(apart.low, 4), round(apart.high, 4)], "kernel": round(1000 * distance.value, 2),
        "kept": round(right / len(y), 4), "core_seconds": round(seconds, 1), "best_step": facts.get("best_step", 0),
    }  # fmt: skip


def kind_of(model: str, look: str, arm: str, steps: int, guidance: float) -> TextToImage:
    style = arm if arm in (*LEARNT, "untrained") else "none"
    settings: dict[str, Any] = {"template": f"a picture of a {{label}}, {LOOKS[look][0]}"} if arm == "named" else {}
    return TextToImage.of(model, SHAPES, style=style, steps=steps, guidance=guidance, **settings)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| Look | Guidance | Arm | Told apart (AUC; 0.5: not) | Kernel distance, thousandths | Right shape, % | Core seconds to learn | Seeds |",
        "|" + "---|" * 8,
    ]
    parts = ("pipeline", "look", "guidance", "arm", "steps")
    for key in dict.fromkeys(tuple(r[part] for part in parts) for r in rows):
        some, (_, look, guidance, arm, _) = [r for r in rows if tuple(r[part] for part in parts) == key], key
        told = [
            spread([r[key] * factor for r in some], digits)
            for key, factor, digits in (("gap", 1, 3), ("kernel", 1, 1), ("kept", 100, 1), ("core_seconds", 1, 0))
        ]
        lines.append(f"| {look} | {guidance:g} | {arm} | " + " | ".join(told) + f" | {len(some)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and the range over seeds."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
