"""The verb merge: experts (LoRAs) of one text-to-image model made into one, kept in the store, as a small adapter or a whole model.

three = mi.merge(["counting", "spatial", "text"], mi.Ties(density=0.5), name="three")          kept names, files, or what mi.adapt gave
fakes = mi.paint(model, prompts, learnt=three.learnt)                                           and MODEL+three on the command line
three.write("three.safetensors"); three.fuse("three/")                                           for plain diffusers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitate.adapted import KINDS, check_file
from mitate.errors import DataError, JobError, SettingError
from mitate.files import checked_name, whole, writing
from mitate.fitted import Fitted
from mitate.progress import Progress
from mitate.runtime import torch_threads
from mitate.settings import parsed, plain, suggest
from mitate.store import Asked, Entry, Store

if TYPE_CHECKING:
    from mitate.generators.interference import Interference
    from mitate.generators.learnt import Learnt
    from mitate.generators.merging import Method
    from mitate.generators.pipelines import Pipeline
    from mitate.generators.updates import Updates

VERSION = 1
KIND = "merged"
FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")  # what a name that ends so must be


@dataclass(frozen=True)
class Merged:
    """A merge in the store. model: as `open_pipeline` takes it; parents: digests of the experts."""

    entry: Entry
    model: str
    base: str  # digest of the model's weights
    parents: tuple[str, ...]
    settings: dict[str, Any]  # the method by name, and its settings

    @property
    def digest(self) -> str:
        return self.entry.digest

    def __repr__(self) -> str:
        return f"<Merged {self.settings['method']} of {len(self.parents)} on {self.model}, {self.digest[:12]}>"

    @property
    def learnt(self) -> Learnt:
        """For `mi.paint(..., learnt=...)` on its own model."""
        from mitate.generators.learnt import Learnt

        return Learnt.of_fit(self.entry.folder)

    @property
    def updates(self) -> Updates:
        from mitate.generators.learnt import LORA
        from mitate.generators.updates import Updates

        return Updates.read(self.entry.path(LORA))

    @property
    def facts(self) -> dict[str, Any]:
        """Where it comes from, as it goes into files."""
        return {"model": Path(self.model).name, "base": self.base, **self.settings, "parents": list(self.parents)}

    def write(self, file: Path | str) -> Path:
        """As a safetensors file for `load_lora_weights` of plain diffusers."""
        from mitate.generators.learnt import LORA

        check_file(Path(file))
        with writing(Path(file)), whole(Path(file)) as fresh:
            fresh.write_bytes(self.entry.path(LORA).read_bytes())
        return Path(file)

    def fuse(self, folder: Path | str) -> Path:
        """As a whole pipeline in a new folder: the model's weights with the merge added."""
        from mitate.generators.pipelines import open_pipeline

        return fuse(open_pipeline(self.model), self.updates, Path(folder), facts=self.facts)


@dataclass(frozen=True)
class _Expert:
    """updates, and what the store or a file tells of where they come from."""

    updates: Updates
    digest: str
    model: str = ""
    base: str = ""
    sentences: tuple[str, ...] = ()  # that it learnt by


Given = Fitted | Merged | str | Path


def merge(
    experts: Mapping[str, Given] | Sequence[Given], how: Method | None = None, *, base: Pipeline | str | None = None, name: str | None = None,
    store: Store | None = None, progress: Progress | None = None,
) -> Merged:  # fmt: skip
    """Experts of one model made into one by a method (default: `DeltaMean()`), found in the store when they were merged before.

    experts: kept names, what `adapt` or `merge` gave, or LoRA files made elsewhere (safetensors; a folder of peft), for which the base must be named, since
    they need not tell it. name: keep it under this name, so that MODEL+name paints with it. DataError where an expert stands on another model.
    """
    from mitate.generators.interference import interference as measured
    from mitate.generators.learnt import LORA
    from mitate.generators.merging import DeltaMean, method_name
    from mitate.generators.merging import merge as merged

    if name:
        checked_name(name)
    if name == "lab":
        raise SettingError("The name lab is taken: it is the text-to-image model that comes with mitate.", fix="keep yours under another name")
    store, how = store or Store.find(), how or DeltaMean()
    found, model, weights = gathered(experts, base, store)
    how.shares(len(found))  # SettingError where weights do not go with them
    settings = {"method": method_name(how), "settings": plain(how)}
    parents = tuple(one.digest for one in found.values())
    roles = {f"expert {i}": digest for i, digest in enumerate(parents)}
    asked = Asked("merge", VERSION, {"kind": KIND, "options": {"model": model, "weights": weights, **settings}}, roles)

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        given = {label: one.updates for label, one in found.items()}
        try:
            with torch_threads():
                clash, made = measured(given).whole, merged(given, how, progress=progress)
        except (RuntimeError, MemoryError) as wrong:  # of the linear algebra
            told = str(wrong).strip().splitlines() or ["out of memory"]
            raise JobError(f"The merge failed ({told[0]}).", fix="give a smaller rank, or another method") from wrong
        facts = {"model": Path(model).name, **settings, "parents": list(parents)}
        type(made.updates)(made.updates.modules, weights).write(folder / LORA, facts)
        ranks = [one.rank for one in made.updates.modules.values()]
        measures = {"norms": list(clash.norms), "cosine": clash.cosine, "conflict": clash.conflict, "cancelled": clash.cancelled}
        return {"names": list(found), "kept": made.kept, "modules": len(ranks), "rank": max(ranks), "clash": measures}

    entry = store.make(asked, build)
    if name:
        store.keep(name, entry.digest)
    return _of_entry(entry)


def load_merged(name: str, *, store: Store | None = None) -> Merged:
    """The merge kept under a name."""
    store = store or Store.find()
    entry = _kept(name, store)
    if _asked(entry)["settings"].get("kind") != KIND:
        raise SettingError(f"{name!r} is no merge.", fix="name one that mitate merge made")
    return _of_entry(entry)


def interference(
    experts: Mapping[str, Given] | Sequence[Given], *, base: Pipeline | str | None = None, store: Store | None = None, progress: Progress | None = None
) -> Interference:
    """How the experts stand to each other, before they are merged: norms, cosines, sign conflicts, module by module."""
    from mitate.generators.interference import interference as measured

    found, _, _ = gathered(experts, base, store or Store.find())
    with torch_threads():
        return measured({label: one.updates for label, one in found.items()}, progress=progress)


def fuse(pipeline: Pipeline, updates: Updates, folder: Path, *, facts: Mapping[str, Any] | None = None) -> Path:
    """A whole pipeline in a new folder that diffusers opens: the weights of `pipeline` with the updates added. DataError for another base.

    facts: of where the updates come from; a folder that tells the same is left as it is.
    """
    from mitate.generators import fusing

    _require(updates.base, pipeline.digest, "The update", pipeline.name)
    if facts and _told(folder) == plain(facts):
        return folder
    if not _is_free(folder):
        raise _taken(folder)
    with writing(folder), torch_threads():
        fusing.fuse(updates, pipeline.folder, folder, facts=facts)
    return folder


def check_folder(folder: Path) -> None:
    """SettingError where `fuse` would write over something else than a fused model, which may be the same one."""
    if not _is_free(folder) and _told(folder) is None:
        raise _taken(folder)


def _is_free(folder: Path) -> bool:
    return not folder.exists() or folder.is_dir() and not any(folder.iterdir())


def _taken(folder: Path) -> SettingError:
    return SettingError(f"{folder} is there already.", fix="give a new folder")


def _told(folder: Path) -> dict[str, Any] | None:
    """Where the updates of a fused model come from; None for any other folder."""
    from mitate.generators.fusing import FACTS

    try:
        return dict(parsed((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


# experts as they were given -------------------------------------------------------------------------------------------------


def gathered(experts: Mapping[str, Given] | Sequence[Given], base: Pipeline | str | None, store: Store) -> tuple[dict[str, _Expert], str, str]:
    """Every expert by what it is called, and the model they stand on: its name and its digest."""
    from mitate.generators.merging import check
    from mitate.generators.text_to_image import placed

    pipeline = _pipeline(base)
    found: dict[str, _Expert] = {}
    for label, given in labelled(experts):
        expert = _expert(given, pipeline, store)
        if pipeline is not None:
            _require(expert.base, pipeline.digest, label, pipeline.name)
        found[label] = expert
    known = {one.base: (label, one) for label, one in found.items() if one.base}
    if len(known) > 1:
        (a, _), (b, _) = list(known.values())[:2]
        raise DataError(f"{a} and {b} were learnt on different models.", fix="merge experts of one model")
    if pipeline is None and (alone := [label for label, one in found.items() if not one.model]):
        raise SettingError(f"Nothing tells which model {alone[0]} stands on.", fix="name it: --base MODEL")
    check({label: one.updates for label, one in found.items()})
    if pipeline is not None:
        return found, placed(pipeline.name), pipeline.digest
    first = next(iter(found.values()))
    return found, first.model, first.base


def labelled(experts: Mapping[str, Given] | Sequence[Given]) -> list[tuple[str, Given]]:
    """The experts by what they are called: as in the mapping, by their kept names or files, or by number."""
    if isinstance(experts, Mapping):
        return [(str(label), given) for label, given in experts.items()]
    if isinstance(experts, (str, Path)):
        raise SettingError("One expert was given by itself.", fix="give a list of them")
    rows = [(_label(given, i), given) for i, given in enumerate(experts)]
    labels = [label for label, _ in rows]
    return [(label if labels.count(label) == 1 else f"{label} ({i + 1})", given) for i, (label, given) in enumerate(rows)]


def _label(given: Given, i: int) -> str:
    if isinstance(given, (str, Path)):
        return Path(given).stem if _is_file(given) else str(given)
    return f"expert {i + 1}"


def _is_file(given: Given) -> bool:
    return isinstance(given, Path) or isinstance(given, str) and (Path(given).suffix.lower() in FILES or "/" in given or "\\" in given)


def _expert(given: Given, pipeline: Pipeline | None, store: Store) -> _Expert:
    from mitate.generators.fusing import fits
    from mitate.generators.learnt import LORA
    from mitate.generators.updates import Updates

    if isinstance(given, (str, Path)) and _is_file(given):
        if pipeline is None:
            raise SettingError(f"Nothing tells which model {given} stands on.", fix="name it: --base MODEL")
        updates = Updates.read(Path(given), layers=_layers(pipeline))
        _require(updates.base, pipeline.digest, str(given), pipeline.name)
        fits(updates, pipeline.folder, name=str(given))
        return _Expert(updates, updates.digest)
    entry = given.entry if isinstance(given, (Fitted, Merged)) else _kept(str(given), store)
    settings = _asked(entry)["settings"]
    if settings.get("kind") not in KINDS or not entry.path(LORA).is_file():
        raise SettingError(f"{given!r} is no LoRA: only those can be merged.", fix="name one that mitate adapt lora made, or a safetensors file")
    options = settings["options"]
    return _Expert(Updates.read(entry.path(LORA)), entry.digest, options["model"], options["weights"], _sentences(entry, store))


def learnt_by(given: Given, store: Store) -> tuple[str, ...]:
    """The sentences that an expert, or the experts of a merge, learnt by, as far as the store knows: files do not tell."""
    entry = given.entry if isinstance(given, (Fitted, Merged)) else None if _is_file(given) else _kept(str(given), store)
    return _sentences(entry, store) if entry is not None else ()


def _sentences(entry: Entry, store: Store) -> tuple[str, ...]:
    asked = _asked(entry)
    if asked["settings"].get("kind") != KIND:
        return tuple(asked["settings"].get("options", {}).get("sentences", ()))
    parents = [found for name in asked["inputs"].values() if (found := store.get(name)) is not None]
    return tuple(dict.fromkeys(text for parent in parents for text in _sentences(parent, store)))


def _layers(pipeline: Pipeline) -> int:
    try:
        found = parsed((pipeline.folder / "unet" / "config.json").read_text(encoding="utf-8"))["layers_per_block"]
    except (OSError, ValueError, KeyError):
        return 0
    return found if isinstance(found, int) else 0


def _kept(name: str, store: Store) -> Entry:
    try:
        entry = store.kept(name)
    except DataError:  # not even a possible name
        entry = None
    if entry is None:
        raise SettingError(f"There is no kept expert {name!r}.", fix=suggest(name, store.refs()) if store.refs() else "learn one: mitate adapt lora")
    return entry


def _asked(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = parsed(entry.path("asked.json").read_text(encoding="utf-8"))
    return found


def _of_entry(entry: Entry) -> Merged:
    asked = _asked(entry)
    options = asked["settings"]["options"]
    parents = tuple(asked["inputs"][f"expert {i}"] for i in range(len(asked["inputs"])))
    return Merged(entry, options["model"], options["weights"], parents, {"method": options["method"], "settings": options["settings"]})


def _pipeline(base: Pipeline | str | None) -> Pipeline | None:
    from mitate.generators.pipelines import open_pipeline

    return open_pipeline(base) if isinstance(base, str) else base


def _require(stands: str, base: str, what: str, name: str) -> None:
    if stands and stands != base:
        raise DataError(f"{what} was learnt on another model than {name}.", fix="give the model it was learnt on")
