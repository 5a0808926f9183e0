"""Does the text-to-image model paint what it is asked? The lab's pipeline, skill by skill, judged by the oracle.

    python benchmarks/lab_skills.py [--model lab] [--prompts 300] [--skills single,counting,...] [--steps 0] [--guidance 0] [--grids folder]
    python benchmarks/lab_skills.py --summary

Of each prompt one image is painted, read by the oracle, and asked the prompt's questions; `prompts` is the share of prompts with nothing but yes, `yes` the
share of yes over all questions (a child of a no is a no), with Wilson's 95 % interval for prompts. Prompts are of content that training left out
(docs/lab.md). A grid of each skill goes to --grids. One JSON line a cell in results/lab_skills.jsonl, under the digest of the pipeline.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cells
from mitate.generators.pipelines import How, Pipeline, open_pipeline
from mitate.lab.oracle import read
from mitate.lab.questions import faithfulness
from mitate.lab.skills import SKILLS, prompts
from mitate.runtime import seed_of

OUT = Path(__file__).parent / "results" / "lab_skills.jsonl"
SEED = 17
SHOWN = 12


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="lab")
    options.add_argument("--skills", default=",".join(SKILLS))
    options.add_argument("--prompts", type=int, default=300)
    options.add_argument("--steps", type=int, default=0)
    options.add_argument("--guidance", type=float, default=0.0)
    options.add_argument("--grids", type=Path)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        pipeline = open_pipeline(given.model)
        name = {"pipeline": pipeline.digest[:12], "steps": given.steps or pipeline.steps, "guidance": given.guidance or pipeline.guidance, "n": given.prompts}
        todo = [({**name, "skill": s}, partial(measure, pipeline, {**name, "skill": s}, given.grids)) for s in given.skills.split(",")]
        cells.fill(given.out, todo, tell=lambda n, row: f"{n['skill']}: {row['prompts'][0]:.3f} of prompts, {row['yes']:.3f} of questions")
    print(summary(cells.read(given.out)))


def measure(pipeline: Pipeline, name: Mapping[str, Any], grids: Path | None) -> cells.Row:
    asked = prompts(name["skill"], name["n"], seed=SEED)
    seeds = [seed_of("lab skills", name["skill"], i) for i in range(name["n"])]
    started = time.process_time()
    made = pipeline.paint([p.text for p in asked], seeds, How(steps=name["steps"], guidance=name["guidance"]))
    seconds = time.process_time() - started
    found = faithfulness(asked, [read(image, style=p.style) for image, p in zip(made, asked, strict=True)])
    if grids:
        grids.mkdir(parents=True, exist_ok=True)
        show(made[:SHOWN], grids / f"{name['skill']}.png")
    return {
        **name, "prompts": cells.share(sum(found.right), len(asked), digits=4), "yes": round(found.questions, 4),
        "kinds": {kind: round(share, 4) for kind, share in found.kinds.items()}, "seconds_an_image": round(seconds / len(asked), 4),
    }  # fmt: skip


def show(images: Sequence[np.ndarray] | np.ndarray, place: Path) -> None:
    row = np.concatenate([np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=255) for image in images], axis=1)
    Image.fromarray(row).resize((2 * row.shape[1], 2 * row.shape[0]), Image.Resampling.NEAREST).save(place)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| Pipeline | Skill | Steps | Guidance | Prompts wholly right, % (95 %) | Questions, % | Core-s an image |", "|" + "---|" * 7]
    for row in rows:
        value, low, high = (100 * v for v in row["prompts"])
        lines.append(
            f"| {row['pipeline']} | {row['skill']} | {row['steps']} | {row['guidance']:g} | {value:.1f} ({low:.1f} to {high:.1f}) | {100 * row['yes']:.1f} "
            f"| {row['seconds_an_image']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
