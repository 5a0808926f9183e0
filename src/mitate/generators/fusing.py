"""Updates added to the weights of a pipeline's folder: a whole model that needs no adapter. Also, whether updates go on a folder at all.

fits(updates, Path("my-pipeline"), name="three")           DataError where they change what is not there, or has another shape
fuse(updates, Path("my-pipeline"), Path("fused"))          a folder that diffusers opens

Tensors are changed where they stand, in float64, and written in the type that they had; every other file of the components is copied. So the same updates give
the same bytes, however often.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mitate.errors import DataError
from mitate.files import sweep, write_json
from mitate.generators.places import index_of
from mitate.generators.updates import Updates, part_of
from mitate.settings import parsed

WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")  # of a component, in one file; or beside it, an index of several
INDICES = tuple(f"{name}.index.json" for name in WEIGHTS)
HEAVY = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".pb")  # files of weights
DEFAULTS, FACTS = "mitate.json", "fused.json"
PLACE = "_name_or_path"  # of a configuration: where the model lay on the machine that saved it


def fits(updates: Updates, folder: Path, *, name: str) -> None:
    """DataError where the updates (called `name`) do not go on the pipeline in a folder. Only headers are read."""
    parts = {part_of(module) for module in updates.modules}
    shapes = {part: {weight: shape for file in _files(folder, part) for weight, shape in _shapes(file).items()} for part in parts}
    for module, one in updates.modules.items():
        part, _, inner = module.partition(".")
        weight = _weight(inner, shapes[part])
        if weight is None:
            raise DataError(f"{name} changes {module}, which {folder.name} does not have.", fix="give the model it was learnt on")
        if (has := shapes[part][weight]) != one.shape:
            raise DataError(f"{name} changes {module} as {list(one.shape)}; in {folder.name} it is {list(has)}.", fix="give the model it was learnt on")


def fuse(updates: Updates, folder: Path, out: Path, *, facts: Mapping[str, Any] | None = None) -> None:
    """Write the pipeline in `folder`, with the updates added, into the new folder `out`. facts: of where the updates come from, kept in fused.json."""
    fits(updates, folder, name="the update")
    index = index_of(folder)
    sweep(out)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        fresh.mkdir(parents=True)
        for part in sorted(name for name in index if (folder / name).is_dir()):
            _fuse_part(updates, folder, part, fresh)
        for name in ("model_index.json", DEFAULTS):
            if (folder / name).is_file():
                _copy(folder / name, fresh / name)
        if facts:
            write_json(fresh / FACTS, facts)
        if out.is_dir():
            out.rmdir()
        os.replace(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fuse_part(updates: Updates, folder: Path, part: str, out: Path) -> None:
    """One component. Where it is changed, weights of other precisions that lie beside are left out: they would be the old model's."""
    mine = {module.partition(".")[2]: one for module, one in updates.modules.items() if part_of(module) == part}
    changed = _files(folder, part) if mine else []
    for file in sorted(p for p in (folder / part).rglob("*") if p.is_file()):
        target = out / file.relative_to(folder)
        if mine and file not in changed and (file.suffix in HEAVY or file.name.endswith(".index.json") and file.name not in INDICES):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if file not in changed:
            _copy(file, target)
            continue
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(file)
        for module, one in mine.items():
            if (weight := _weight(module, tensors)) is not None:
                was = tensors[weight]
                tensors[weight] = (was.double() + one.delta.reshape(was.shape)).to(was.dtype)
        save_file(tensors, target, metadata=metadata)


def _copy(file: Path, target: Path) -> None:
    """As it is, but for the place in a configuration."""
    if file.suffix == ".json":
        found = parsed(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and PLACE in found:
            write_json(target, {key: value for key, value in found.items() if key != PLACE})
            return
    shutil.copyfile(file, target)


def _files(folder: Path, part: str) -> list[Path]:
    """The weights files of a component, as diffusers would open them. DataError where there are none."""
    for name in WEIGHTS:
        if (folder / part / name).is_file():
            return [folder / part / name]
        index = folder / part / f"{name}.index.json"
        if index.is_file():
            try:
                found = parsed(index.read_text(encoding="utf-8"))["weight_map"].values()
                return [folder / part / Path(file).name for file in sorted(set(found))]
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as wrong:
                raise DataError(f"{index} cannot be read ({wrong}).", fix="copy the folder whole") from wrong
    raise DataError(f"{folder.name} has no {part} in safetensors.", fix="give the model it was learnt on, saved by diffusers as safetensors")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as wrong:
        raise DataError(f"{file} cannot be read ({wrong}).", fix="copy the folder whole") from wrong


def _weight(module: str, known: Mapping[str, Any]) -> str | None:
    """The name of a module's weight in a file: CLIP's have lost a prefix with transformers 5."""
    names = (f"{module}.weight", f"{module.removeprefix('text_model.')}.weight")
    return next((name for name in names if name in known), None)
