"""Does the lab's image-text model know which caption belongs to a drawing? New scenes in every look, against other scenes' captions and near misses.

    python benchmarks/lab_clip.py [--model lab-clip] [--scenes 500]
    python benchmarks/lab_clip.py --summary

`of 100`: how often the drawing's own full caption lies nearest among those of 100 scenes. The rest: how often the own caption lies nearer than that of the
same scene with one thing (or the scene) changed in one attribute, told in the same words (chance: 50). Scenes are of the whole world, also what training left
out. Wilson's 95 % intervals. One JSON line a look in results/lab_clip.jsonl, under the digest of the weights.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cells
from mitate.files import file_digest
from mitate.lab.captions import SAYABLE, caption
from mitate.lab.drawing import STYLES, draw_all
from mitate.lab.foils import ATTRIBUTES, foil
from mitate.lab.world import Scene, World
from mitate.runtime import torch_threads

OUT = Path(__file__).parent / "results" / "lab_clip.jsonl"
OURS = Path(__file__).parents[1] / "src" / "mitate" / "weights" / "lab-clip"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", type=Path, default=OURS)
    options.add_argument("--scenes", type=int, default=500)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        warnings.filterwarnings("ignore")
        model = Judge(given.model)
        looks = [("flat", 0.0), ("flat", 10.0)] + [(style, 0.0) for style in STYLES if style != "flat"]
        name = {"weights": file_digest(given.model / "model.safetensors")[:12], "scenes": given.scenes}
        todo = [({**name, "style": s, "noise": n}, partial(measure, model, {**name, "style": s, "noise": n})) for s, n in looks]
        cells.fill(given.out, todo, tell=lambda n, row: f"{n['style']} {n['noise']:g}: {row['of 100'][0]:.3f}")
    print(summary(cells.read(given.out)))


class Judge:
    """The model, as plain transformers opens it."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoProcessor

        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def images(self, x: np.ndarray) -> np.ndarray:
        """Unit vectors [n, d]."""
        parts = [self.model.get_image_features(**self.processor(images=list(some), return_tensors="pt")) for some in np.array_split(x, -(-len(x) // 50))]
        return _unit(parts)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        told = [list(texts[i : i + 50]) for i in range(0, len(texts), 50)]
        return _unit([self.model.get_text_features(**self.processor(text=t, return_tensors="pt", padding="max_length", truncation=True)) for t in told])


def _unit(parts: Sequence[Any]) -> np.ndarray:
    found = np.concatenate([getattr(p, "pooler_output", p).numpy() for p in parts])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def measure(model: Judge, name: Mapping[str, Any]) -> cells.Row:
    n = name["scenes"]
    scenes = [World().scene(i, seed=41) for i in range(n)]
    with torch_threads():
        seen = model.images(draw_all(scenes, style=name["style"], noise=name["noise"]))
        own = model.texts([told(scene, i) for i, scene in enumerate(scenes)])
        right = (seen * own).sum(1)
        groups = [slice(i, i + 100) for i in range(0, n - n % 100, 100)]
        best = sum(int(((seen[g] @ own[g].T).argmax(1) == np.arange(100)).sum()) for g in groups)
        row = {**name, "of 100": cells.share(best, 100 * len(groups), digits=4)}
        for attribute in ATTRIBUTES:
            foils = [foil(scene, attribute, np.random.default_rng([5, i])) for i, scene in enumerate(scenes)]
            at = [i for i, other in enumerate(foils) if other is not None and told(other, i) != told(scenes[i], i)]
            wrong = (seen[at] * model.texts([told(foils[i], i) for i in at])).sum(1)  # type: ignore[arg-type]
            row[attribute] = cells.share(int((right[at] > wrong).sum()), len(at), digits=4)
    return row


def told(scene: Scene, i: int) -> str:
    return caption(scene, seed=i, say=SAYABLE).text


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    asked = ("of 100", *ATTRIBUTES)
    lines = ["| Style | Noise | " + " | ".join(asked) + " |", "|" + "---|" * (2 + len(asked))]
    for row in rows:
        each = [f"{100 * row[a][0]:.1f}" + (f" ({100 * row[a][1]:.1f} to {100 * row[a][2]:.1f})" if a == "of 100" else "") for a in asked]
        lines.append(f"| {row['style']} | {row['noise']:g} | " + " | ".join(each) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
