"""What a run folder shows beside its answer: sample pictures with their nearest real ones, the candidate's images, the jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mitate import codec
from mitate.errors import StoreError
from mitate.files import write_json, write_text
from mitate.generator import Pixels
from mitate.images import Provenance, from_arrays
from mitate.metrics.privacy import COPY
from mitate.sets import write_images
from mitate.settings import parsed
from mitate.store import Entry, Store
from mitate.stored import read_facts, read_pixels
from mitate.studies.stages import State
from mitate.study import Job

PICTURES = 4  # of each class
CLASSES = 12  # at most, in the samples


def write_samples(state: State, store: Store, folder: Path) -> None:
    """`samples/`: real images of each class, and each generator's first images with the nearest training image of each."""
    cell = state.cells[0]
    train = store.there(cell.train)
    real, classes = read_pixels(train), list(state.study.data["classes"])
    fresh = folder / ".samples.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    saved: dict[int, str] = {}

    def real_file(row: int) -> str:
        if row not in saved:
            saved[row] = f"real/{row:05d}.png"
            write_picture(fresh / saved[row], real.x[row], synthetic=False)
        return saved[row]

    shown = range(min(CLASSES, len(classes)))
    found: dict[str, Any] = {
        "size": int(real.x.shape[1]),
        "channels": int(real.x.shape[3]),
        "classes": [classes[k] for k in shown],
        "real": {classes[k]: [real_file(int(r)) for r in np.flatnonzero(real.y == k)[:PICTURES]] for k in shown},
        "generators": {},
    }
    for number, generator in enumerate(state.study.sizes["generators"]):
        images, check = (state.entries.get(job) for job in (state.jobs.synthetic(generator, cell), state.jobs.checked(generator, cell)))
        if images is None or check is None:
            continue
        made = read_pixels(images)
        found["generators"][generator] = shown_synthetic(made, check, found["classes"], real_file=real_file, place=fresh / f"synthetic-{number}")
    write_json(fresh / "samples.json", found)
    shutil.rmtree(folder / "samples", ignore_errors=True)
    fresh.rename(folder / "samples")


def write_candidate(state: State, store: Store, folder: Path) -> int:
    """`synthetic/`: the candidate's images of the first replicate, those that passed the copies gate. Returns how many."""
    if state.candidate is None or state.candidate.generator is None or state.test is None:
        return 0
    generator = state.candidate.generator
    cell = state.cells[0]
    aligned = "align" in state.candidate.recipe.split("+")
    job = state.jobs.aligned(generator, cell) if aligned else state.jobs.synthetic(generator, cell)
    entry = state.entries[job]
    made = read_pixels(entry)
    seeds = np.load(entry.path("seeds.npy"), allow_pickle=False) if entry.path("seeds.npy").exists() else []
    source = state.study.sizes["generators"][generator]
    provenance = Provenance(
        generator,
        _parent(job),
        {"options": source.get("options", {}), "job": job.name},
        (entry.digest, *job.asked.inputs.values()),
        tuple(int(s) for s in seeds),
    )
    images = from_arrays(
        made.x, made.y, classes=read_facts(entry)["classes"], name=f"{state.study.data['name']}-{generator}", split="synthetic", provenance=provenance
    )
    write_images(images, folder / "synthetic")
    return len(images)


class Ended(Protocol):
    """What a run knows of its jobs that have ended."""

    entries: dict[Job, Entry]
    reused: set[str]  # digests of results that were there before


def write_jobs(state: Ended, folder: Path) -> dict[str, float]:
    """`jobs.jsonl`: every job in the order of the plan. Returns seconds of work by verb, each result counted once."""
    seconds: dict[str, float] = {}
    lines, seen = [], set()
    for job, entry in sorted(state.entries.items(), key=lambda pair: pair[0].name):
        if entry.digest in seen:
            continue
        seen.add(entry.digest)
        spent = float(entry.result.get("seconds", 0.0))
        seconds[job.verb] = seconds.get(job.verb, 0.0) + spent
        lines.append(_line(job, entry, reused=entry.digest in state.reused))
    write_text(folder / "jobs.jsonl", "\n".join(lines) + "\n")
    return seconds


class Ending:
    """`jobs.jsonl` of a run that is not finished: a line for each job as it ends, so that `mitate clean` knows whose results they are.

    Lines of an earlier part of the run stay; `write_jobs` puts all in order at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "jobs.jsonl"
        lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines() if self.file.is_file() else []
        whole = {digest: line for line in lines if (digest := _digest_of(line))}  # a kill may have left half a line
        self.told = set(whole)
        write_text(self.file, "".join(line + "\n" for line in whole.values()))

    def add(self, job: Job, entry: Entry, *, reused: bool) -> None:
        if entry.digest in self.told:
            return
        self.told.add(entry.digest)
        with open(self.file, "a", encoding="utf-8") as out:
            out.write(_line(job, entry, reused=reused) + "\n")


def needed(path: Path) -> set[str]:
    """Digests of the results that a jobs.jsonl names, and of what went into them. StoreError where it cannot be read: then nobody knows what is needed."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as wrong:
        raise StoreError(f"{path} cannot be read ({wrong.strerror}).", fix="check its permissions, or move its folder away") from wrong
    found: set[str] = set()
    for line in lines:
        if digest := _digest_of(line):
            inputs = parsed(line).get("inputs")
            found |= {digest, *(map(str, inputs.values()) if isinstance(inputs, dict) else ())}
    return found


def _digest_of(line: str) -> str:
    """Of a whole line; "" of half a one, or of anything else."""
    try:
        found = parsed(line)
    except ValueError:
        return ""
    return str(found.get("digest", "")) if isinstance(found, dict) else ""


def _line(job: Job, entry: Entry, *, reused: bool) -> str:
    facts = {k: v for k, v in entry.result.items() if k not in ("seconds", "cpu_seconds", "resumed", "files")}
    row = {
        "name": job.name, "verb": job.verb, "version": job.version, "digest": entry.digest, "settings": job.asked.settings, "inputs": job.asked.inputs,
        "seconds": round(float(entry.result.get("seconds", 0.0)), 3), "reused": reused, "files": entry.result.get("files", {}), "facts": facts,
    }  # fmt: skip
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def shown_synthetic(made: Pixels, checked: Entry, shown: Sequence[str], *, real_file: Callable[[int], str], place: Path) -> dict[str, list[dict[str, Any]]]:
    """The synthetic images of the first classes, `shown`, written to `place`, each with its nearest training image. checked: a result of the verb `copies`."""
    with np.load(checked.path("nearest.npz"), allow_pickle=False) as arrays:
        ratios, nearest = arrays["ratios"], arrays["nearest"]
    return {
        name: [
            {
                "file": write_picture(place / f"{row:05d}.png", made.x[row], synthetic=True),
                "nearest": real_file(int(nearest[row])),
                "ratio": float(ratios[row]),
                "copy": bool(ratios[row] < COPY),
            }
            for row in _shown_rows(made.y, ratios, k)
        ]
        for k, name in enumerate(shown)
    }


def _shown_rows(y: np.ndarray, ratios: np.ndarray, k: int) -> list[int]:
    """The first images of a class and, in the last place, the one most like a training image: the worst case is always shown."""
    mine = np.flatnonzero(y == k)
    worst = int(mine[ratios[mine].argmin()])
    first = [int(r) for r in mine[:PICTURES]]
    return first if worst in first else [*first[: PICTURES - 1], worst]


def _parent(job: Job) -> str:
    """Digest of the generator that made the images of a sample, pick or align job."""
    asked = job.asked
    if asked.verb == "align":
        synthetic = job.inputs["synthetic"]
        assert isinstance(synthetic, Job)
        return _parent(synthetic)
    return asked.inputs.get("generator") or asked.inputs["source"]


def write_picture(path: Path, pixels: np.ndarray, *, synthetic: bool) -> str:
    """Write one picture, a synthetic one with its mark; returns its place below the folder above its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if synthetic:
        path.write_bytes(codec.encode_png(pixels))
    else:
        codec.to_image(pixels).save(path, "PNG")
    return f"{path.parent.name}/{path.name}"
