"""Made-up comparisons for tests of whatever reads one: a study, a table of what its cells measured, and the run folder of both. Nothing was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from make_run import CLASSES, _leaf
from mitate import codec
from mitate.files import write_json, write_text
from mitate.settings import plain
from mitate.studies.compare import answer
from mitate.studies.compare_cells import AXES, Cell, cells_of
from mitate.studies.compare_planning import CASES, Compare, _rules
from mitate.studies.compare_table import Table
from mitate.study import Study

IMAGES = 40  # of the hold-out
Values = Callable[[str, Cell], float]


def study_of(
    families: tuple[str, ...] = ("vae", "gan", "diffusion"), *, per_class: tuple[int, ...] = (10, 50), seeds: int = 5, fits: int = 1,
    axes: tuple[str, ...] = AXES, past: bool = False, own: dict[str, float] | None = None,
) -> Study:  # fmt: skip
    facts: dict[str, dict[str, Any]] = {}
    for name in families:
        kind = "folder" if name.startswith("folder:") else name.split()[0]
        options = {} if kind == "folder" else {str(n): {"steps": 400, "width": 32} for n in per_class}
        facts[name] = {"kind": kind, "epsilon": 8.0 if "epsilon" in name else 0.0, "options": options}
    sizes = {
        "size": 28, "channels": 1, "families": facts, "per_class": list(per_class), "seeds": seeds, "fits": fits, "trainings": 2, "axes": list(axes),
        "past_the_gate": past, "synthetic_per_class": 200, "training": {"steps": 300, "flip": True}, "extractor": {"name": "mitate-small"},
        "cases": {**{k: dict(v) for k, v in CASES.items()}, **({"own": own} if own else {})},
        "subsets": {str(n): {"images": 5.0 * n, "shared": n / 200} for n in per_class},
    }  # fmt: skip
    splits = {"train": 500, "selection": 100, "holdout": 120, "test": 190}
    data = {
        "name": "leaves", "classes": list(CLASSES), "images": splits, "groups": None, "findings": [], "licences": [], "consents": [],
        "per_class": dict.fromkeys(CLASSES, 100), "digests": {s: hashlib.sha256(s.encode()).hexdigest() for s in splits},
        "image_digests": {s: [hashlib.sha256(f"{s}{i}".encode()).hexdigest()[:32] for i in range(n)] for s, n in splits.items()},
    }  # fmt: skip
    asked = Compare(data="leaves/", generators=families, per_class=per_class, seeds=seeds, fits=fits, axes=axes, past_the_gate=past, weights=own or {})
    return Study("compare", plain(asked), data, sizes, _rules(asked), {}, {"total": 600.0, "wall": 400.0, "workers": 2.0})


def table_of(study: Study, values: Values, *, p: Values = lambda _, __: 0.5, rate: Values | None = None, spread: float = 0.01, seed: int = 0) -> Table:
    """A table with `values` (of efficiency the logarithm of seconds) plus noise of the replicate; p: of the attack on each cell."""
    rng, table = np.random.default_rng(seed), Table()
    for cell in cells_of(study):
        state = "leaks" if p("p", cell) <= 0.025 else "no leak found"
        table.verdicts[cell] = {"state": state, "why": "made up", "attack": "ratio", "p": p("p", cell), "smallest_auc": None, "advantage": None}
        if "epsilon" in cell.family:
            table.promises[cell] = {"epsilon": 7.98, "delta": 0.0021, "unit": "one image and its class"}
        for axis in study.sizes["axes"]:
            value = values(axis, cell) + spread * rng.normal()
            if axis == "utility":
                table.put(axis, cell, value + spread * rng.normal(size=(2, IMAGES)))
            elif axis == "robustness":
                table.put(axis, cell, value + spread * rng.normal(size=IMAGES))
            else:
                table.put(axis, cell, np.exp(value) if axis == "efficiency" else value)
        if rate is not None:
            table.note("images_per_second", cell, rate("rate", cell) * np.exp(spread * rng.normal()))
    table.floors |= {"kernel_distance": 0.001, "coverage": 0.96}
    return table


def like_life(axis: str, cell: Cell) -> float:
    """Values as one might meet them: diffusion looks best and is slow, the VAE is quick and hurts where images are many."""
    scarce, private = np.log(200 / cell.n), "epsilon" in cell.family
    place = {"vae": 2.0, "gan": 1.0, "diffusion": 0.0}.get(cell.family.split()[0], 1.5) + private
    return float({
        "privacy": 0.5 if private else 0.52 + 0.06 * scarce, "fidelity": 0.02 + 0.03 * place + 0.01 * scarce,
        "diversity": 0.85 - 0.15 * place, "utility": 0.05 - 0.06 * place + 0.01 * scarce, "robustness": 0.02 - 0.02 * place,
        "efficiency": np.log({"vae": 25.0, "gan": 70.0, "diffusion": 140.0}.get(cell.family.split()[0], 1.0)),
    }[axis])  # fmt: skip


def make_comparison(folder: Path, *, study: Study | None = None, table: Table | None = None) -> Path:
    """Write the run folder of a comparison: by default three families and a private one, one of which leaks at 10 images."""
    study = study or study_of(("vae", "gan", "diffusion", "vae epsilon=8"), per_class=(10, 25, 50), past=True, own={"fidelity": 1.0})
    leak: Values = lambda _, cell: 0.001 if cell.n == 10 and "epsilon" not in cell.family else 0.4  # noqa: E731
    speed: Values = lambda _, cell: {"vae": 9000.0, "gan": 8000.0}.get(cell.family.split()[0], 150.0)  # noqa: E731
    table = table or table_of(study, like_life, p=leak, rate=speed, spread=0.012)
    folder.mkdir(parents=True, exist_ok=True)
    found = answer(SimpleNamespace(study=study), table)  # type: ignore[arg-type]
    found["cost"] = {
        "seconds": {"fit": 300.0, "train": 200.0, "likeness": 100.0}, "machine_seconds": 600.0, "reused_seconds": 0.0, "wall_seconds": 320.0,
        "synthetic_images": 60_000, "money": None, "workers": 2, "fit_core_share": 0.97,
    }  # fmt: skip
    write_json(folder / "study.json", study)
    write_json(folder / "machine.json", {"system": "Linux", "processor": "made up", "cores": 2, "python": "3.11.9", "command": "mitate compare leaves/"})
    write_text(folder / "scores.jsonl", "".join(json.dumps(plain(s)) + "\n" for s in table.scores))
    write_text(folder / "jobs.jsonl", "")
    _samples(folder / "samples", study)
    write_json(folder / "compare.json", found)
    return folder


def _samples(folder: Path, study: Study) -> None:
    chance = np.random.default_rng(3)

    def picture(name: str, k: int, *, synthetic: bool) -> str:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = _leaf(k, chance, blur=int(synthetic))
        if synthetic:
            (folder / name).write_bytes(codec.encode_png(pixels))
        else:
            codec.to_image(pixels).save(folder / name, "PNG")
        return name

    shown = CLASSES[:3]
    real = {c: [picture(f"real/{k}{i}.png", k, synthetic=False) for i in range(4)] for k, c in enumerate(shown)}
    made = {}
    for g, family in enumerate(study.sizes["families"]):
        for n in (study.sizes["per_class"][0], study.sizes["per_class"][-1]):
            made[f"{family} · {n}"] = {
                c: [
                    {"file": picture(f"synthetic-{g}/{n}-{k}{i}.png", k, synthetic=True), "nearest": real[c][i], "ratio": 0.9 - 0.2 * i, "copy": i == 3}
                    for i in range(4)
                ]
                for k, c in enumerate(shown)
            }
    write_json(folder / "samples.json", {"size": 28, "channels": 3, "classes": list(shown), "real": real, "generators": made})
