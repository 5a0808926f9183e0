"""Which family for how few images? Three data sets, three families at their presets, six axes: the cells of `mitate compare`, kept one by one.

    MITATE_DATA=folder python run.py [--sets fashion_mnist,bccd_cells,coffee_leaf] [--parts main,more] [--work runs/scarcity]

`main` has 10 and 50 images a class and five subsets of each; `more` has 25 (Fashion-MNIST also 100) and two. Families are measured past the gate, since
the published ordering is about families, not about what may be released. Leaves and cells at 32 px, from all images that the source gives: the plan
cuts its own hold-out and leaves its own test split closed. Finished cells are lines of `cells/<set>-<part>.jsonl`, so another machine, or another day,
goes on from them; with the last one the answer is written beside (`<set>-<part>.compare.json`). `table.py` reads both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mitate.engine import Engine
from mitate.files import write_json
from mitate.settings import plain
from mitate.store import Store
from mitate.studies.arms import group_numbers
from mitate.studies.compare import answer
from mitate.studies.compare_cells import Cell, CellJobs
from mitate.studies.compare_planning import Compare, ComparePlan, plan_compare
from mitate.studies.compare_table import Table, read_gate, read_measures

HERE = Path(__file__).parent
SETS = {"fashion_mnist": 28, "bccd_cells": 32, "coffee_leaf": 32}
PARTS: Mapping[str, tuple[tuple[int, ...], int]] = {"main": ((10, 50), 5), "more": ((25,), 2)}
MORE_OF_FASHION = (25, 100)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--work", type=Path, default=Path("runs/scarcity"))
    given = options.parse_args()
    (HERE / "cells").mkdir(exist_ok=True)
    for part in given.parts.split(","):
        for name in given.sets.split(","):
            measure(name, part, given.work)


def planned(name: str, part: str, work: Path) -> ComparePlan:
    per_class, seeds = PARTS[part]
    if name == "fashion_mnist" and part == "more":
        per_class = MORE_OF_FASHION
    asked = Compare(
        data=name, generators=("vae", "gan", "diffusion"), per_class=per_class, seeds=seeds, trainings=1, synthetic_per_class=100, size=SETS[name],
        past_the_gate=True,
    )  # fmt: skip
    return plan_compare(asked, str(images(name, work)), store=Store(work / f"store-{name}"), workers=1)


def measure(name: str, part: str, work: Path) -> None:
    """Every cell that is not kept yet, replicate by replicate; then the answer."""
    kept, told = HERE / "cells" / f"{name}-{part}.jsonl", HERE / "cells" / f"{name}-{part}.compare.json"
    if told.exists():
        return
    plan = planned(name, part, work)
    jobs = CellJobs(plan.study, sets=plan.sets, subsets=plan.subsets, blind=plan.blind, weights=plan.weights)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    if any(row["study"] != plan.study.digest for row in rows):
        raise SystemExit(f"{kept} was measured under another plan; move it away to begin anew")
    done = {Cell(**row["cell"]) for row in rows}
    with Engine(plan.store, workers=0) as engine:
        for cell in sorted(plan.cells, key=lambda c: (c.replicate, c.n, c.family)):
            if cell in done:
                continue
            table = Table()
            found = engine.run([jobs.leakage(cell), *jobs.measures(cell)])
            read_gate(table, [cell], jobs, found)
            read_measures(table, [cell], plan.study, jobs, found, plan.store, plan.sets["holdout"])
            rows.append({"study": plan.study.digest, **as_row(cell, table)})
            with open(kept, "a") as out:
                out.write(json.dumps(rows[-1]) + "\n")
            print(f"{name} {part}: {cell.label}, {len(rows)} of {len(plan.cells)}", flush=True)
    table = as_table(rows)
    holdout = plan.data.splits.holdout
    table.groups = group_numbers(holdout.groups, holdout.names)[0]
    write_json(told, answer(plan, table))
    write_json(told.with_suffix("").with_suffix(".study.json"), plan.study)


def as_row(cell: Cell, table: Table) -> dict[str, Any]:
    """What one cell measured, as JSON."""
    return {
        "cell": plain(cell), "verdict": plain(table.verdicts[cell]), "floors": table.floors, "whys": {axis: why for (_, axis), why in table.whys.items()},
        "headline": {axis: _short(values[cell]) for axis, values in table.headline.items()},
        "beside": {metric: round(values[cell], 6) for metric, values in table.beside.items()},
        "tried_groups": table.tried_groups.tolist() if table.tried_groups is not None else None,
    }  # fmt: skip


def as_table(rows: list[dict[str, Any]]) -> Table:
    """The table of many rows, as a comparison has it."""
    table = Table()
    for row in rows:
        cell = Cell(**row["cell"])
        table.verdicts[cell] = row["verdict"]
        table.floors |= row["floors"]
        table.whys |= {(cell, axis): why for axis, why in row["whys"].items()}
        for axis, values in row["headline"].items():
            table.put(axis, cell, np.asarray(values))
        for metric, value in row["beside"].items():
            table.note(metric, cell, value)
        table.tried_groups = np.asarray(row["tried_groups"]) if row["tried_groups"] else None
    return table


def images(name: str, work: Path) -> Path:
    """The whole set: an archive, or its two class folders in one."""
    source = Path(os.environ["MITATE_DATA"]) / name
    if not source.is_dir():
        return source.with_suffix(".npz")
    whole = work / "images" / name
    for file in sorted(p for split in ("train", "test") for p in (source / split).rglob("*") if p.is_file()):
        place = whole / file.parent.name / file.name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return whole


def _short(values: np.ndarray) -> list[list[float]]:
    return [[int(v) if float(v).is_integer() else round(float(v), 6) for v in row] for row in values]


if __name__ == "__main__":
    main()
