"""Text-to-image models as generators: open one by name, and paint prompts into a set with provenance.

pipeline = mi.load_generator("my-pipeline/")          a folder that diffusers saved
fakes    = mi.paint(pipeline, ["a rusty leaf", "a healthy leaf"], per_prompt=4, seed=0)

`load_generator` also finds what `mitate fit` kept; that draws classes (`mi.generate`), not prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mitate.codec import pixel_digest
from mitate.engine import Cluster, Engine, Workers
from mitate.errors import SettingError
from mitate.generator import in_words
from mitate.images import ArrayReader, ImageSet, Provenance
from mitate.progress import Progress, Silent
from mitate.runtime import cores, free_memory, seed_of
from mitate.settings import plain, record
from mitate.store import Entry, Store
from mitate.study import Job
from mitate.verbs import VERBS, keep_learnt

if TYPE_CHECKING:
    from mitate.captioners.writers import Captioner
    from mitate.fitted import Fitted
    from mitate.generators.learnt import Learnt
    from mitate.generators.pipelines import How, Judge, Pipeline

OURS = "lab"
BLOCK = 4  # batches of a job
COPIES, OVERHEAD = 3, 1_000_000_000  # memory of a worker: so many times the weights on disk (float32 of float16, and the work), and the libraries


def split_name(name: str) -> tuple[str, str] | None:
    """(model, style) of a text-to-image model's name, MODEL or MODEL+STYLE: ours, a folder of a pipeline, or owner/name of the hub; None for others."""
    from mitate.generators.places import is_hub_name, is_pipeline

    for model, style in ((name, ""), tuple(name.rsplit("+", 1)) if "+" in name else (name, "")):
        if model == OURS or is_pipeline(Path(model)) or is_hub_name(model):
            return model, style
    return None


def load_generator(name: str, *, store: Store | None = None) -> Fitted | Pipeline:
    """The text-to-image pipeline `lab`, in a folder, or of the hub, or the generator kept under `name`. SettingError names the nearest known one."""
    if (found := split_name(name)) is not None and not found[1]:
        from mitate.generators.pipelines import open_pipeline

        return open_pipeline(name)
    from mitate.fitted import load_generator as kept

    return kept(name, store=store)


def write_story(file: Path) -> Path:
    """The images of `mitate demo --text-to-image`: drawings in a look that the lab's model has never seen; 8 of each class to train on, 60 to test on."""
    from mitate.lab.sets import write_lab

    return file if file.exists() else write_lab(file, per_class=8, tested=60, style="dusk")


def load_captioner(name: str) -> Captioner:
    """The captioner `lab`, or in a folder that transformers saved."""
    from mitate.captioners.writers import open_captioner

    return open_captioner(name)


def paint(
    pipeline: Pipeline, prompts: Sequence[str], *, per_prompt: int = 1, seed: int = 0, learnt: Learnt | None = None, blocked: Sequence[str] = (),
    judge: Judge | None = None, workers: Workers = None, store: Store | None = None, progress: Progress | None = None, **how: Any,
) -> ImageSet:  # fmt: skip
    """`per_prompt` images of every prompt, as a set with captions and provenance and without labels; found in the store when it was painted before.

    Image i of a prompt follows from seed, prompt and i: neither other prompts nor how many are asked for change it, nor which worker paints it; a prompt
    that is given again has further images. Killed, the same call goes on where it was. how: steps, guidance, negative, sampler, size (`How`). learnt: words
    that prompts may hold, or a LoRA. blocked: words that no prompt may hold. judge: which images may be kept, uint8 [n, h, w, 3] to bool [n]; the others
    are painted again, and nothing of it is kept in the store. workers: processes (default: one a core, on a processor), or a cluster.
    """
    from mitate.generators.learnt import Learnt
    from mitate.generators.pipelines import How, Pipeline

    if not isinstance(pipeline, Pipeline):
        raise SettingError(f"{pipeline!r} draws classes, not prompts.", fix="use mi.generate(..., per_class=100)")
    if per_prompt < 1 or not prompts:
        raise SettingError(f"{len(prompts)} prompts, {per_prompt} images of each: nothing to paint.", fix="give a prompt, and 1 or more images of each")
    if empty := sum(not prompt.strip() for prompt in prompts):
        raise SettingError(f"{empty} of {len(prompts)} prompts are empty.", fix="leave them out")
    check_words(prompts, blocked)
    chosen, told = pipeline.settled(record(How, how, where="paint")), progress or Silent()
    texts = [prompt for prompt in prompts for _ in range(per_prompt)]
    seeds = _seeds(texts, seed)
    _seeds([chosen.negative], 0)  # SettingError where it is no text
    pipeline.check(prompts, chosen, learnt or Learnt())
    if judge is not None:
        x, seeds = pipeline.painted(texts, seeds, chosen, learnt=learnt or Learnt(), judge=judge, progress=told)
    else:
        x, seeds = _in_blocks(pipeline, texts, seeds, chosen, learnt, store or Store.find(), workers, told)
    settings: dict[str, Any] = {**plain(chosen), "seed": seed}
    return ImageSet(
        name=Path(pipeline.name).resolve().name, classes=(), labels=(-1,) * len(texts), reader=ArrayReader(x),
        digests=tuple(pixel_digest(image) for image in x),
        names=tuple(str(i) for i in range(len(texts))), captions=tuple(texts), split="synthetic",
        provenance=Provenance("text-to-image", pipeline.digest, settings, (learnt.digest,) if learnt else (), tuple(seeds)),
    )  # fmt: skip


def _in_blocks(
    pipeline: Pipeline, texts: Sequence[str], seeds: Sequence[int], how: How, learnt: Learnt | None, store: Store, workers: Workers, told: Progress
) -> tuple[np.ndarray, list[int]]:
    """The images, painted as jobs that are kept as soon as they are done, uint8 [n, h, w, 3], and the seed of each."""
    from mitate.generators.pipelines import lend

    jobs = jobs_of(pipeline, texts, seeds, how, learnt, store)
    there = len(store.found(job.digest for job in jobs))
    if not isinstance(workers, Cluster) and (len(jobs) - there < 2 or pipeline.place.device != "cpu"):
        workers = 0
    elif workers is None:
        workers = max(1, min(cores(), len(jobs) - there, free_memory() // (COPIES * pipeline.bytes + OVERHEAD)))
    if workers == 0:
        lend(str(pipeline.folder.resolve()), pipeline)
    done = 0

    def tell(job: Job, entry: Entry, reused: bool) -> None:
        nonlocal done
        done += len(job.settings["rows"])
        told.step(done, len(texts), "images")

    with Engine(store, workers=workers) as engine:
        found = engine.run(jobs, done=tell)
    parts = [[np.load(found[job].path(name), allow_pickle=False) for job in jobs] for name in ("x.npy", "seeds.npy")]
    return np.concatenate(parts[0]), [int(s) for s in np.concatenate(parts[1])]


def jobs_of(
    pipeline: Pipeline, texts: Sequence[str], seeds: Sequence[int], how: How, learnt: Learnt | None, store: Store, *, size: int = 0
) -> list[Job]:  # fmt: skip
    """The images as jobs of `size` images (0: BLOCK batches), in order."""
    size = size or BLOCK * pipeline.batch_for(how.size or pipeline.size)
    inputs = {"learnt": keep_learnt(store, learnt)} if learnt else {}
    common = {"model": str(pipeline.folder.resolve()), "weights": pipeline.digest, "place": plain(pipeline.place), "how": plain(pipeline.settled(how))}
    jobs = []
    for start in range(0, len(texts), size):
        some = texts[start : start + size]
        sentences = list(dict.fromkeys(some))
        rows = [[sentences.index(text), s] for text, s in zip(some, seeds[start : start + size], strict=True)]
        jobs.append(Job(f"paint/{start}", "paint", VERBS["paint"].version, {**common, "sentences": sentences, "rows": rows}, inputs))
    return jobs


def paint_classes(
    pipeline: Pipeline, classes: Sequence[str], *, per_class: int, template: str = "", learnt: Learnt | None = None, **how: Any
) -> ImageSet:  # fmt: skip
    """`per_class` images of each class by a sentence for it, as a labelled set. template: with {label}, and with {style} where a style was learnt (default:
    the pipeline's own). how: as for `paint`."""
    from mitate.generators.text_to_image import class_word

    word = next(iter(learnt.words.vectors)) if learnt is not None and learnt.words is not None else ""
    template = template or (pipeline.styled if word else pipeline.template)
    if "{label}" not in template or ("{style}" in template) != bool(word):
        wanted = "{label} and {style}" if word else "{label}, and {style} only where a style was learnt"
        raise SettingError(f"The template {template!r} does not go with this.", fix=f"write {wanted} into it")
    known = learnt.words.vectors if learnt is not None and learnt.words is not None else {}
    words = [class_word(in_words(c)) if len(known) > 1 else word for c in classes]
    if missing := [c for c, w in zip(classes, words, strict=True) if known and w not in known]:
        raise SettingError(f"This style has a word for each class that it was learnt on, and none for {missing[0]!r}.", fix="give --classes its own classes")
    sentences = [template.replace("{label}", in_words(c)).replace("{style}", w) for c, w in zip(classes, words, strict=True)]
    if len(set(sentences)) < len(sentences):
        raise SettingError("Two classes have the same sentence.", fix="call their folders by different words")
    images = paint(pipeline, sentences, per_prompt=per_class, learnt=learnt, **how)
    return replace(images, classes=tuple(classes), labels=tuple(k for k in range(len(classes)) for _ in range(per_class)))


def check_words(prompts: Sequence[str], blocked: Sequence[str]) -> None:
    """SettingError for a prompt that holds a blocked word (prompts/wording.py)."""
    from mitate.prompts import wording

    for word, pattern in zip(blocked, wording.blocked(blocked), strict=True):
        for prompt in prompts:
            if pattern.search(wording.folded(prompt)):
                raise SettingError(f"The prompt {prompt[:60]!r} holds the blocked word {word!r}.", fix="change the prompt, or the list of blocked words")


def _seeds(texts: Sequence[str], seed: int) -> list[int]:
    """The seed of each image: by its prompt and how often that came before."""
    seen: Counter[str] = Counter()
    seeds = []
    try:
        for text in texts:
            seeds.append(seed_of("paint", seed, text, seen[text]))
            seen[text] += 1
    except UnicodeEncodeError as wrong:
        raise SettingError(f"A prompt is no text ({wrong}).", fix="give prompts in UTF-8") from wrong
    return seeds
