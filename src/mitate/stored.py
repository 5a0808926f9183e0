"""What a job is given, and what it reads of stored results: pixels, facts, groups, fitted generators, classifiers.

Verbs stand on this; nothing here computes anything that is kept but blocks of a job that may be killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate import registry
from mitate.generator import Generator, Pixels
from mitate.progress import Progress
from mitate.settings import record
from mitate.store import Entry

BLOCK = 512  # images between two checkpoints


@dataclass(frozen=True)
class Work:
    """What a verb is given."""

    inputs: Mapping[str, Entry]
    settings: Mapping[str, Any]
    folder: Path
    checkpoint: Path
    progress: Progress


def read_pixels(entry: Entry) -> Pixels:
    """Images of a stored set: x uint8 [n, h, w, c], y int64 [n]."""
    x = np.load(entry.path("x.npy"), allow_pickle=False)
    return Pixels(x, np.load(entry.path("y.npy"), allow_pickle=False), len(read_facts(entry)["classes"]))


def read_facts(entry: Entry) -> dict[str, Any]:
    return json.loads(entry.path("facts.json").read_text(encoding="utf-8"))


def groups_of(*entries: Entry) -> tuple[np.ndarray | None, ...]:
    """Group numbers of stored image sets, numbered alike over all; an image without a group is on its own. None where no set has groups."""
    facts = [read_facts(entry) for entry in entries]
    if all(f.get("groups") is None for f in facts):
        return (None,) * len(facts)
    keys = [[g or f"alone {k} {i}" for i, g in enumerate(f["groups"] or [""] * len(f["names"]))] for k, f in enumerate(facts)]
    index = {key: i for i, key in enumerate(sorted({key for one in keys for key in one}))}
    return tuple(np.array([index[key] for key in one], dtype=np.int64) for one in keys)


def load_fitted(entry: Entry) -> Generator:
    """The generator that a `fit` job made."""
    asked = json.loads(entry.path("asked.json").read_text())["settings"]
    return kind_of(asked["kind"], asked["options"]).load(entry.folder)


def kind_of(name: str, options: Mapping[str, Any]) -> Any:
    """A generator kind with its settings."""
    return record(registry.find("generator", name), options, where=f"generator {name}")


def load_classifier(work: Work, images: Pixels) -> Any:
    """The classifier of a `train` job, for images of this shape."""
    from safetensors.torch import load_file

    model = build_classifier(work.settings["backbone"], images.x.shape[1:], images.n_classes, work.inputs.get("weights"))
    model.load_state_dict(load_file(work.inputs["model"].path("model.safetensors")), strict=not model.frozen)
    return model


def build_classifier(backbone: Mapping[str, Any], shape: tuple[int, ...], n_classes: int, weights: Entry | None) -> Any:
    """The network that a backbone's settings describe. `weights`: a stored weights file."""
    return _network(backbone, shape, n_classes, weights.path("weights.safetensors") if weights is not None else None)


def try_classifier(backbone: Mapping[str, Any], weights: Path | None) -> None:
    """Build the network once from the file as the user named it, so that a wrong file is an error that names it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        _network(backbone, (32, 32, 3), 2, weights)


def _network(backbone: Mapping[str, Any], shape: tuple[int, ...], n_classes: int, path: Path | None) -> Any:
    options = {"name": backbone["variant"]} if backbone.get("variant") else {}
    return registry.find("backbone", backbone["name"])(shape=tuple(shape), n_classes=n_classes, weights=path, frozen=backbone["frozen"], **options)


def block(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array at `path`, made where it is missing; it is whole or not there."""
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        with open(fresh, "wb") as out:
            np.save(out, make(), allow_pickle=False)
        fresh.replace(path)
    return np.load(path, allow_pickle=False)
