"""What a job can do: fit, sample, paint, judge, pick, first, align, copies, features, train, predict, and what axes.py and leaks.py do.

Each takes stored results and makes one more.

A verb reads its inputs from the store and its settings from a plain record, so a job can run in any process that sees the store.
Raise a verb's version when what it computes changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mitate import axes, leaks, registry
from mitate.errors import DataError, JobError, MitateError
from mitate.files import file_digest, write_json
from mitate.generator import image_seeds
from mitate.images import ImageSet
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of, torch_threads
from mitate.settings import digest, record
from mitate.store import Asked, Entry, Store
from mitate.stored import BLOCK, Work, block, build_classifier, kind_of, load_classifier, load_fitted, read_facts, read_pixels


@dataclass(frozen=True)
class Verb:
    """A verb and the version of what it computes."""

    run: Callable[[Work], dict[str, Any]]
    version: int


def perform(store: Store, asked: Asked, *, progress: Progress | None = None) -> Entry:
    """The result of `asked`, from the store or made now. Errors are MitateErrors."""

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        inputs = {}
        for role, name in asked.inputs.items():
            if (entry := store.get(name)) is None:
                raise JobError(f"The {role} of a {asked.verb} job ({name[:12]}) is not in the store.", fix="run the same command again")
            inputs[role] = entry
        with torch_threads():
            return VERBS[asked.verb].run(Work(inputs, asked.settings, folder, checkpoint, progress or Silent()))

    try:
        return store.make(asked, build)
    except (MitateError, KeyboardInterrupt):
        raise
    except MemoryError as wrong:
        raise JobError(f"A {asked.verb} job ran out of memory.", fix="use a smaller --size, or fewer workers (--engine local:1)") from wrong
    except Exception as wrong:
        raise JobError(
            f"A {asked.verb} job{_of_plugin(store, asked)} failed: {type(wrong).__name__}: {wrong}",
            fix="finished jobs are kept; report this with the line above, or leave its arm or generator out",
        ) from wrong


def _of_plugin(store: Store, asked: Asked) -> str:
    """` of the plug-in 'sketch'` where the generator of a job comes from another package."""
    entry = store.get(asked.inputs.get("generator", ""))
    kind = str(asked.settings.get("kind") or (entry.result.get("kind") if entry is not None else ""))
    return f" of the plug-in {kind!r}" if registry.is_plugin("generator", kind) else ""


# images in the store --------------------------------------------------------------------------------------------------


def keep_images(store: Store, images: ImageSet, *, size: int, channels: int, blind: str = "") -> str:
    """Put prepared pixels into the store, once, and return their digest: what jobs read instead of the user's folder.

    blind: from `Store.blind`, for images that a private fit reads: then their digest, which is handed on, confirms no guess of what they are.
    """
    asked = Asked("images", 1, {"size": size, "channels": channels} | ({"blind": blind} if blind else {}), {"images": images.digest})

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        np.save(folder / "x.npy", images.pixels(size=size, channels=channels), allow_pickle=False)
        np.save(folder / "y.npy", images.y, allow_pickle=False)
        write_json(folder / "facts.json", {"classes": images.classes, "digests": images.digests, "names": images.names, "groups": images.groups})
        return {"images": len(images), "seconds": 0.0}

    return store.make(asked, build).digest


def keep_part(store: Store, images: str, *, share: float, seed: int) -> str:
    """A part of a stored image set: of each class the first `share` in an order fixed by content and seed, groups whole, so that a smaller
    part lies within a larger one. Returns its digest; its result tells `images` and `least`, the images of the smallest class."""
    asked = Asked("part", 1, {"share": share, "seed": seed}, {"images": images})

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        if (source := store.get(images)) is None:
            raise JobError(f"The images {images[:12]} are not in the store.", fix="run the same command again")
        whole, facts = read_pixels(source), read_facts(source)
        rows = _part_rows(whole.y, facts, share, seed)
        np.save(folder / "x.npy", whole.x[rows], allow_pickle=False)
        np.save(folder / "y.npy", whole.y[rows], allow_pickle=False)
        groups = None if facts["groups"] is None else [facts["groups"][i] for i in rows]
        names, digests = ([facts[key][i] for i in rows] for key in ("names", "digests"))
        write_json(folder / "facts.json", {"classes": facts["classes"], "digests": digests, "names": names, "groups": groups})
        counts = np.bincount(whole.y[rows], minlength=whole.n_classes)
        return {"images": len(rows), "least": int(counts.min()), "seconds": 0.0}

    return store.make(asked, build).digest


def _part_rows(y: np.ndarray, facts: Mapping[str, Any], share: float, seed: int) -> list[int]:
    """Rows of the part, ascending. Groups come in one order for all classes; a class takes whole groups until it has its share."""
    groups = facts["groups"] or [""] * len(y)
    keys = [seed_of("part", seed, group or digest) for group, digest in zip(groups, facts["digests"], strict=True)]
    rows: list[int] = []
    for k in np.unique(y):
        mine = sorted(np.flatnonzero(y == k), key=lambda i: (keys[i], i))
        wanted = math.ceil(share * len(mine))
        while wanted < len(mine) and keys[mine[wanted]] == keys[mine[wanted - 1]]:
            wanted += 1  # the rest of a group that is begun
        rows += [int(i) for i in mine[:wanted]]
    return sorted(rows)


def keep_file(store: Store, path: Path, *, digest: str) -> str:
    """Put a weights file into the store, once, and return the digest of that object."""
    asked = Asked("file", 1, {}, {"content": digest})

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        (folder / "weights.safetensors").write_bytes(path.read_bytes())
        return {"seconds": 0.0}

    return store.make(asked, build).digest


def keep_learnt(store: Store, learnt: Any) -> str:
    """Put what was learnt on a text-to-image pipeline into the store, once, and return the digest of that object: for `paint` jobs."""
    from mitate.generators.learnt import LORA, WORDS

    asked = Asked("learnt", 1, {}, {"content": learnt.digest})

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        if learnt.words is not None:
            learnt.words.write(folder / WORDS)
        if learnt.lora is not None:
            (folder / LORA).write_bytes(learnt.lora.read_bytes())
        return {"seconds": 0.0}

    return store.make(asked, build).digest


def keep_extractor(store: Store, name: str) -> tuple[dict[str, str], str]:
    """What a `features` job asks for the extractor `name`: its settings, and the digest of its stored weights file ("" where it needs none)."""
    from mitate.features.extractor import extractor

    found = extractor(name)
    return found.settings, keep_file(store, found.file, digest=file_digest(found.file)) if found.file is not None else ""


# the verbs ------------------------------------------------------------------------------------------------------------


def _fit(work: Work) -> dict[str, Any]:
    kind = kind_of(work.settings["kind"], work.settings["options"])
    train, selection = read_pixels(work.inputs["train"]), read_pixels(work.inputs["selection"])
    if getattr(kind, "epsilon", 0):
        _plant_noise(work, versions=[VERBS["fit"].version, kind.version])
    on = {"base": work.inputs["base"].folder} if "base" in work.inputs else {}
    facts = kind.fit(train, selection, seed=work.settings["seed"], folder=work.folder, checkpoint=work.checkpoint, progress=work.progress, **on)
    return {**facts, "kind": work.settings["kind"], "classes": read_facts(work.inputs["train"])["classes"], "shape": list(train.x.shape[1:])}


def _plant_noise(work: Work, *, versions: list[int]) -> None:
    """Fix the noise of a private fit by what only this store knows, and by all that is asked: one question has one answer here, which
    nobody can make again elsewhere, and no two questions share their noise, nor do two versions of the code."""
    from mitate.generators.private import plant_key

    blind = json.loads(work.inputs["train"].path("asked.json").read_text(encoding="utf-8"))["settings"].get("blind")
    if blind:
        inputs = {role: entry.digest for role, entry in work.inputs.items()}
        plant_key(work.checkpoint, bytes.fromhex(digest("mitate.noise", [blind, work.settings, inputs, versions])))


def _sample(work: Work) -> dict[str, Any]:
    """Images in blocks that outlive a kill; image i of a class has seed i, however many are asked for."""
    generator, facts = load_fitted(work.inputs["generator"]), read_facts(work.inputs["like"])
    n, seed, classes = work.settings["per_class"], work.settings["seed"], facts["classes"]
    y = np.repeat(np.arange(len(classes), dtype=np.int64), n)
    seeds = np.concatenate([image_seeds(seed, n, condition=k) for k in range(len(classes))])
    parts = []
    for start in range(0, len(y), BLOCK):
        rows = slice(start, start + BLOCK)
        parts.append(block(work.checkpoint / f"x{start}.npy", lambda rows=rows: generator.sample(seeds[rows], y[rows])))  # type: ignore[misc]
        work.progress.step(min(start + BLOCK, len(y)), len(y), "images")
    return _keep(work.folder, np.concatenate(parts), y, classes, seeds)


def _pick(work: Work) -> dict[str, Any]:
    """Images made elsewhere: `per_class` of each class in an order fixed by content and seed, so fewer are part of more."""
    source, facts = read_pixels(work.inputs["source"]), read_facts(work.inputs["source"])
    rows: list[int] = []
    for k, name in enumerate(facts["classes"]):
        mine = sorted(np.flatnonzero(source.y == k), key=lambda i: seed_of("pick", work.settings["seed"], facts["digests"][i]))
        if not mine:
            raise DataError(f"The outside images have none of class {name!r}.", fix="add some, or leave this generator out")
        rows += [int(i) for i in mine[: work.settings["per_class"]]]
    return _keep(work.folder, source.x[rows], source.y[rows], facts["classes"], None)


def _first(work: Work) -> dict[str, Any]:
    """The first `per_class` images of each class of a synthetic set, so that a smaller set is part of a larger one."""
    source, facts = read_pixels(work.inputs["synthetic"]), read_facts(work.inputs["synthetic"])
    n, rows = work.settings["per_class"], []
    for k, name in enumerate(facts["classes"]):
        mine = np.flatnonzero(source.y == k)[:n]
        if len(mine) < n:
            raise DataError(f"There are {len(mine)} synthetic images of class {name!r}, not {n}.", fix="ask for fewer")
        rows.append(mine)
    chosen, path = np.concatenate(rows), work.inputs["synthetic"].path("seeds.npy")
    seeds = np.load(path, allow_pickle=False)[chosen] if path.exists() else None
    return _keep(work.folder, source.x[chosen], source.y[chosen], facts["classes"], seeds)


def _align(work: Work) -> dict[str, Any]:
    from mitate.adapters.alignment import Aligned, Alignment, gaps

    synthetic, train, facts = read_pixels(work.inputs["synthetic"]), read_pixels(work.inputs["train"]), read_facts(work.inputs["synthetic"])
    adapter = Alignment().fit(train.x, synthetic.x, base=work.inputs["synthetic"].digest, parents=(work.inputs["train"].digest,))
    adapter.save(work.folder)
    x = Aligned(adapter).apply(synthetic.x)
    return {**_keep(work.folder, x, synthetic.y, facts["classes"], None), "before": gaps(synthetic.x, train.x), "after": gaps(x, train.x)}


def _copies(work: Work) -> dict[str, Any]:
    from mitate.metrics import privacy

    synthetic, train, fresh = (privacy.features(read_pixels(work.inputs[role]).x) for role in ("synthetic", "train", "holdout"))
    try:
        found = privacy.copies(synthetic, train, fresh)
        nearer = privacy.nearer_to_train(synthetic, train, fresh, seed=0)
    except ValueError as too_few:
        ratios, nearest = privacy.ratio_to_nearest(synthetic, train) if len(train) >= 3 else (np.ones(len(synthetic)), np.zeros(len(synthetic), np.int64))
        np.savez(work.folder / "nearest.npz", ratios=ratios, nearest=nearest)
        return {"measured": False, "why": str(too_few)}
    np.savez(work.folder / "nearest.npz", ratios=found.ratios, nearest=found.nearest)
    return {
        "measured": True,
        **{name: part.record for name, part in (("share", found.share), ("floor", found.floor), ("excess", found.excess), ("nearer", nearer))},
        "fresh": len(fresh),
    }


def _features(work: Work) -> dict[str, Any]:
    """Late and early features of every image, in blocks that outlive a kill."""
    from mitate.features.extractor import extractor_of

    weights = work.inputs["weights"].path("weights.safetensors") if "weights" in work.inputs else None
    made = extractor_of(work.settings["extractor"], weights)
    x = np.load(work.inputs["images"].path("x.npy"), mmap_mode="r", allow_pickle=False)
    parts = [np.empty((0, made.width + made.early_width), np.float32)]
    for start in range(0, len(x), BLOCK):
        some = x[start : start + BLOCK]
        parts.append(block(work.checkpoint / f"features{start}.npy", lambda some=some: _side_by_side(made.both(some))))  # type: ignore[misc]
        work.progress.step(min(start + BLOCK, len(x)), len(x), "images")
    rows = np.concatenate(parts)
    np.save(work.folder / "features.npy", rows[:, : made.width], allow_pickle=False)
    np.save(work.folder / "early.npy", rows[:, made.width :], allow_pickle=False)
    return {"images": len(rows), "extractor": made.digest}


def _side_by_side(found: Any) -> np.ndarray:
    return np.concatenate([found.late, found.early], axis=1)


def _train(work: Work) -> dict[str, Any]:
    from safetensors.torch import save_file

    from mitate.recipe import parse
    from mitate.training.loop import Training, train

    real = read_pixels(work.inputs["real"])
    synthetic = read_pixels(work.inputs["synthetic"]) if "synthetic" in work.inputs else None
    backbone = work.settings["backbone"]
    model = train(
        parse(work.settings["arm"]), lambda: build_classifier(backbone, real.x.shape[1:], real.n_classes, work.inputs.get("weights")),
        real=real, synthetic=synthetic, training=record(Training, work.settings["training"], where="training"),
        seed=work.settings["seed"], pretrained=backbone["name"] != "small", checkpoint=work.checkpoint, progress=work.progress,
    )  # fmt: skip
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not (model.frozen and k.startswith("body."))}
    save_file(state, work.folder / "model.safetensors")
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _predict(work: Work) -> dict[str, Any]:
    from mitate.training.loop import predict

    images = read_pixels(work.inputs["images"])
    np.save(work.folder / "probabilities.npy", predict(load_classifier(work, images), images.x), allow_pickle=False)
    return {}


def _paint(work: Work) -> dict[str, Any]:
    """A block of a text-to-image pipeline's images: image i of sentence and seed `rows[i]`, whichever worker paints it."""
    from mitate.generators.learnt import Learnt
    from mitate.generators.pipelines import How, opened
    from mitate.generators.places import Place

    told = work.settings
    pipeline = opened(told["model"], record(Place, told["place"], where="place"))
    if pipeline.digest != told["weights"]:
        raise DataError(f"The model {told['model']} changed while it painted.", fix="run the same command again")
    learnt = Learnt.of_fit(work.inputs["learnt"].folder) if "learnt" in work.inputs else Learnt()
    texts, seeds = [told["sentences"][k] for k, _ in told["rows"]], [seed for _, seed in told["rows"]]
    x, used = pipeline.painted(texts, seeds, record(How, told["how"], where="paint"), learnt=learnt, progress=work.progress)
    return _keep(work.folder, x, np.array([k for k, _ in told["rows"]], np.int64), told["sentences"], np.array(used, np.int64))


def _judge(work: Work) -> dict[str, Any]:
    """Verdicts on some pictures of a set, each with its sentence: score.npy, and right.npy and questions.npy of a judge that has them."""
    from mitate.curation.dependency import from_plain
    from mitate.curation.judges import opened_judge

    told = work.settings
    judge = opened_judge(told["judge"], from_plain(told["questions"]))
    if judge.digest != told["weights"]:
        raise DataError(f"The judge {told['judge']} changed while it judged.", fix="run the same command again")
    x = np.load(work.inputs["images"].path("x.npy"), mmap_mode="r", allow_pickle=False)
    found = judge.look(np.asarray(x[told["rows"]]), told["sentences"])
    for name, part in (("score", found.score), ("right", found.right), ("questions", found.questions)):
        if part is not None:
            np.save(work.folder / f"{name}.npy", part, allow_pickle=False)
    return {"images": len(found.score)}


def _keep(folder: Path, x: np.ndarray, y: np.ndarray, classes: list[str], seeds: np.ndarray | None) -> dict[str, Any]:
    np.save(folder / "x.npy", x, allow_pickle=False)
    np.save(folder / "y.npy", y, allow_pickle=False)
    if seeds is not None:
        np.save(folder / "seeds.npy", seeds, allow_pickle=False)
    write_json(folder / "facts.json", {"classes": classes})
    return {"images": len(x)}


VERBS: dict[str, Verb] = {
    "fit": Verb(_fit, 1),
    "sample": Verb(_sample, 1),
    "paint": Verb(_paint, 1),
    "judge": Verb(_judge, 1),
    "pick": Verb(_pick, 1),
    "first": Verb(_first, 1),
    "align": Verb(_align, 1),
    "copies": Verb(_copies, 2),
    "features": Verb(_features, 1),
    "likeness": Verb(axes.likeness, 3),
    "likeness_given": Verb(axes.likeness_given, 1),
    "leakage": Verb(axes.leakage, 2),
    "losses": Verb(leaks.losses, 1),
    "half": Verb(leaks.half, 1),
    "audit": Verb(leaks.audit, 1),
    "look": Verb(axes.look, 4),
    "pace": Verb(axes.pace, 2),
    "train": Verb(_train, 1),
    "predict": Verb(_predict, 1),
    "stress": Verb(axes.stress, 3),
}
