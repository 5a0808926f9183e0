"""Text-to-image models as generators: open one by name, and paint prompts into a set with provenance.

pipeline = mi.load_generator("my-pipeline/")          a folder that diffusers saved
fakes    = mi.paint(pipeline, ["a rusty leaf", "a healthy leaf"], per_prompt=4, seed=0)

`load_generator` also finds what `mitate fit` kept; that draws classes (`mi.generate`), not prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mitate.errors import SettingError
from mitate.images import ArrayReader, ImageSet, Provenance
from mitate.progress import Progress
from mitate.runtime import seed_of
from mitate.store import Store

if TYPE_CHECKING:
    from mitate.captioners.writers import Captioner
    from mitate.fitted import Fitted
    from mitate.generators.pipelines import Pipeline

OURS = "lab"


def is_pipeline(name: str) -> bool:
    """Whether the name is that of a text-to-image pipeline: ours, or a folder of one."""
    from mitate.generators.pipelines import is_pipeline as holds_one

    return name == OURS or holds_one(Path(name))


def load_generator(name: str, *, store: Store | None = None) -> Fitted | Pipeline:
    """The text-to-image pipeline `lab` or in a folder, or the generator kept under `name`. SettingError names the nearest known one."""
    if is_pipeline(name):
        from mitate.generators.pipelines import open_pipeline

        return open_pipeline(name)
    from mitate.fitted import load_generator as kept

    return kept(name, store=store)


def load_captioner(name: str) -> Captioner:
    """The captioner `lab`, or in a folder that transformers saved."""
    from mitate.captioners.writers import open_captioner

    return open_captioner(name)


def paint(
    pipeline: Pipeline, prompts: Sequence[str], *, per_prompt: int = 1, seed: int = 0, steps: int = 0, guidance: float = 0.0, negative: str = "",
    progress: Progress | None = None,
) -> ImageSet:  # fmt: skip
    """`per_prompt` images of every prompt, as a set with captions and provenance and without labels.

    Image i of a prompt follows from seed, prompt and i: neither other prompts nor how many are asked for change it; a prompt that is given again
    has further images. steps, guidance: 0 for the pipeline's own.
    """
    from mitate.generators.pipelines import Pipeline

    if not isinstance(pipeline, Pipeline):
        raise SettingError(f"{pipeline!r} draws classes, not prompts.", fix="use mi.generate(..., per_class=100)")
    if per_prompt < 1 or not prompts:
        raise SettingError(f"{len(prompts)} prompts, {per_prompt} images of each: nothing to paint.", fix="give a prompt, and 1 or more images of each")
    if empty := sum(not prompt.strip() for prompt in prompts):
        raise SettingError(f"{empty} of {len(prompts)} prompts are empty.", fix="leave them out")
    from mitate.codec import pixel_digest

    texts = [prompt for prompt in prompts for _ in range(per_prompt)]
    try:
        seen: Counter[str] = Counter()
        seeds = []
        for text in texts:
            seeds.append(seed_of("paint", seed, text, seen[text]))
            seen[text] += 1
    except UnicodeEncodeError as wrong:
        raise SettingError(f"A prompt is no text ({wrong}).", fix="give prompts in UTF-8") from wrong
    x = pipeline.paint(texts, seeds, steps=steps, guidance=guidance, negative=negative, progress=progress)
    settings: dict[str, object] = {"steps": steps or pipeline.steps, "guidance": guidance or pipeline.guidance, "negative": negative, "seed": seed}
    return ImageSet(
        name=Path(pipeline.name).resolve().name, classes=(), labels=(-1,) * len(texts), reader=ArrayReader(x),
        digests=tuple(pixel_digest(image) for image in x),
        names=tuple(str(i) for i in range(len(texts))), captions=tuple(texts), split="synthetic",
        provenance=Provenance("text-to-image", pipeline.digest, settings, (), tuple(seeds)),
    )  # fmt: skip
