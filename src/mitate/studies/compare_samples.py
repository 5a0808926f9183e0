"""The pictures of a comparison: each family's first images at the smallest and the largest number of real ones, with the nearest training image."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mitate.files import write_json
from mitate.store import Entry
from mitate.stored import read_pixels
from mitate.studies.compare_cells import Cell, CellJobs
from mitate.studies.compare_planning import ComparePlan
from mitate.studies.evidence import PICTURES, shown_synthetic, write_picture
from mitate.study import Job

CLASSES = 4  # at most: families times two numbers of images are many pictures


def checked_cells(cells: Sequence[Cell]) -> list[Cell]:
    """The cells that pictures are shown of: first subset, first fit, fewest and most images."""
    ends = {min(cell.n for cell in cells), max(cell.n for cell in cells)}
    return [cell for cell in cells if cell.replicate == cell.fit == 0 and cell.n in ends]


def write_samples(plan: ComparePlan, jobs: CellJobs, entries: Mapping[Job, Entry], folder: Path) -> None:
    """`samples/`: real images of each class, and each family's with the nearest image of its own subset."""
    fresh = folder / ".samples.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    classes = list(plan.study.data["classes"])
    shown = range(min(CLASSES, len(classes)))
    saved: dict[tuple[int, int], str] = {}

    def real_file(n: int, row: int) -> str:
        if (n, row) not in saved:
            saved[n, row] = f"real/{n:05d}-{row:05d}.png"
            write_picture(fresh / saved[n, row], subsets[n].x[row], synthetic=False)
        return saved[n, row]

    cells = checked_cells(plan.cells)
    subsets = {n: read_pixels(_stored(plan, plan.subsets[n, 0])) for n in sorted({cell.n for cell in cells})}
    most = max(subsets)
    found: dict[str, Any] = {
        "size": plan.study.sizes["size"],
        "channels": plan.study.sizes["channels"],
        "classes": [classes[k] for k in shown],
        "real": {classes[k]: [real_file(most, int(r)) for r in np.flatnonzero(subsets[most].y == k)[:PICTURES]] for k in shown},
        "generators": {},
    }
    for number, cell in enumerate(cells):
        made, checked = read_pixels(entries[jobs.synthetic(cell)]), entries[jobs.copies(cell)]
        place = fresh / f"synthetic-{number}"
        found["generators"][f"{cell.family} · {cell.n}"] = shown_synthetic(made, checked, found["classes"], real_file=partial(real_file, cell.n), place=place)
    write_json(fresh / "samples.json", found)
    shutil.rmtree(folder / "samples", ignore_errors=True)
    fresh.rename(folder / "samples")


def _stored(plan: ComparePlan, digest: str) -> Entry:
    entry = plan.store.get(digest)
    assert entry is not None, "image sets are kept before a comparison runs"
    return entry
