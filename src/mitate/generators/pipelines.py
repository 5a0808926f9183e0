"""Text-to-image pipelines: a diffusers folder as something that paints prompts, one seed an image.

pipeline = open_pipeline("my-pipeline/")              or "lab", for the one in weights/lab, or owner/name on the Hugging Face hub
pipeline.paint(["two red circles"], [7])                           uint8 [1, 32, 32, 3]
pipeline.paint(prompts, seeds, How(steps=20, guidance=2, sampler="dpm++"))

All noise of image i comes from seed i, and batches have one padded size, so an image does not depend on how many are asked for. A prompt is read by
the text encoder once, however many images of it are asked for.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mitate.errors import DataError, JobError, SettingError
from mitate.files import file_digest
from mitate.generators.learnt import Learnt
from mitate.generators.places import LAB, Place, fetch, index_of, is_hub_name, is_pipeline, load
from mitate.generators.tokens import said
from mitate.progress import Progress, Silent
from mitate.runtime import seed_of, torch_threads, used
from mitate.settings import QUIET, digest, parsed, suggest

BATCH = 16  # images at once up to PIXELS of a side; above, fewer, so that memory stays about the same
PIXELS = 128
STEPS, GUIDANCE = 50, 7.5  # where neither caller nor folder names them: what diffusers takes
TEMPLATE, STYLED = "A good photo of the {label}", "A {label} photo in the style of {style}"  # of arXiv 2403.19866
LEAST_GUIDANCE = 1.0  # and there is none: the prompt alone
LONGEST = 10**6  # tokens; a tokenizer without a limit names a larger one
TRIES = 4  # seeds that an image is painted from before it is said that it cannot be

SAMPLERS = {  # ours -> the class in diffusers, and what it is told beside the model's own noise schedule
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
ENCODED = {  # what `encode_prompt` gives, by the arguments it becomes; other classes read prompts themselves
    "StableDiffusion": ("prompt_embeds", "negative_prompt_embeds"),
    "StableDiffusionXL": ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
}

Judge = Callable[[np.ndarray], np.ndarray]  # of images uint8 [n, h, w, 3], bool [n]: whether each may be kept


@dataclass(frozen=True)
class How:
    """How a pipeline paints; 0 and "" are the pipeline's own ways."""

    steps: int = 0  # of the sampler
    guidance: float = 0.0  # classifier-free; 1 is none; low ones give more varied images, which often train better classifiers
    negative: str = ""  # what not to paint
    sampler: str = field(default="", metadata=QUIET)  # one of SAMPLERS
    size: int = field(default=0, metadata=QUIET)  # pixels of a side

    def __post_init__(self) -> None:
        if self.steps < 0 or not math.isfinite(self.guidance) or (self.guidance and self.guidance < LEAST_GUIDANCE):
            raise SettingError(f"steps={self.steps}, guidance={self.guidance:g} cannot be.", fix="give steps from 1, a guidance from 1, or 0 for the default")
        if self.sampler and self.sampler not in SAMPLERS:
            raise SettingError(f"There is no sampler {self.sampler!r}.", fix=suggest(self.sampler, SAMPLERS))
        if self.size < 0:
            raise SettingError(f"A size of {self.size} pixels cannot be.", fix="give the pixels of a side, or 0 for the pipeline's own")


PLAIN, NOTHING = How(), Learnt()


@dataclass(frozen=True)
class Pipeline:
    """A text-to-image pipeline in a folder that diffusers opens."""

    name: str
    folder: Path
    steps: int  # of the sampler, where none are asked for
    guidance: float  # classifier-free, where none is asked for; 1 is none
    template: str = TEMPLATE  # of the prompt for a class, with {label}
    styled: str = STYLED  # the same with {style}
    place: Place = field(default_factory=Place)

    @cached_property
    def digest(self) -> str:
        """Name of the weights and configuration, not of the folder: every file of the components that model_index.json names."""
        index = index_of(self.folder)
        parts = [self.folder / name for name in sorted(index) if (self.folder / name).is_dir()]
        files = [self.folder / "model_index.json", *(p for part in parts for p in sorted(part.rglob("*")) if p.is_file())]
        return digest("mitate.pipeline", [[p.relative_to(self.folder).as_posix(), file_digest(p)] for p in files])

    @cached_property
    def loaded(self) -> Any:
        """The diffusers pipeline, where it shall run."""
        return load(self.folder, self.place)

    @property
    def size(self) -> int:
        """Pixels of a side of what it paints."""
        pipeline = self.loaded
        net = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        return int(net.config.sample_size * pipeline.vae_scale_factor)  # type: ignore[union-attr]

    def batch_for(self, size: int) -> int:
        """Images that are painted at once at so many pixels: fixed by the size, so that bytes are."""
        return max(1, BATCH * PIXELS**2 // max(PIXELS, size) ** 2)

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], how: How = PLAIN, *, learnt: Learnt = NOTHING, judge: Judge | None = None, batch: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        """uint8 [n, size, size, 3], image i of prompt i and seed i.

        learnt: words that the prompts may hold, or a LoRA. judge: says what may be kept; what it or the pipeline's own safety checker refuses is painted again
        from further seeds, `seed_of("again", seed, try)`; JobError after TRIES of them. batch: images at once (0: by size); another batch may move
        single values by one grey level.
        """
        return self.painted(prompts, seeds, how, learnt=learnt, judge=judge, batch=batch, progress=progress)[0]

    def painted(
        self, prompts: Sequence[str], seeds: Sequence[int], how: How = PLAIN, *, learnt: Learnt = NOTHING, judge: Judge | None = None, batch: int = 0,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, list[int]]:  # fmt: skip
        """As `paint`, and the seed that each image comes from in the end."""
        if len(prompts) != len(seeds):
            raise SettingError(f"{len(prompts)} prompts have {len(seeds)} seeds.", fix="give one seed a prompt")
        size, told = how.size or self.size, progress or Silent()
        batch = batch or self.batch_for(size)
        x = np.zeros((len(prompts), size, size, 3), np.uint8)
        used = [int(s) for s in seeds]
        if not len(prompts):
            return x, used
        with torch_threads(), learnt.on(self.loaded) as written, self._sampler(how.sampler):
            texts = [said(p, written) for p in prompts]
            self._check_lengths([*dict.fromkeys(texts), how.negative])
            brush = _Brush(self, how, size, batch)
            brush.read(list(dict.fromkeys(texts)))
            todo = list(range(len(texts)))
            for again in range(TRIES):
                mine = [int(seeds[i]) if not again else seed_of("again", int(seeds[i]), again) for i in todo]
                refused = []
                for start in range(0, len(todo), batch):
                    rows = todo[start : start + batch]
                    for i, seed in zip(rows, mine[start : start + batch], strict=True):
                        used[i] = seed
                    made, allowed = brush.paint([texts[i] for i in rows], mine[start : start + batch])
                    x[rows] = made
                    kept = allowed if judge is None else allowed & _verdicts(judge, made)
                    refused += [i for i, ok in zip(rows, kept.tolist(), strict=True) if not ok]
                    told.step(len(texts) - len(todo) + start + len(rows), len(texts), "images")
                if not (todo := refused):
                    return x, used
        raise JobError(
            f"{len(todo)} of {len(prompts)} images were refused by the content filter {TRIES} times, the first of the prompt {prompts[todo[0]][:60]!r}.",
            fix="change the prompt, or the filter",
        )

    def settled(self, how: How) -> How:
        """The same with the pipeline's own steps and guidance where none are asked for."""
        return replace(how, steps=how.steps or self.steps, guidance=how.guidance or self.guidance)

    @cached_property
    def bytes(self) -> int:
        """Of its weights on disk."""
        return sum(p.stat().st_size for p in self.folder.rglob("*.safetensors"))

    def check(self, prompts: Sequence[str], how: How, learnt: Learnt = NOTHING) -> None:
        """SettingError or DataError for what `paint` would refuse, before anything is painted."""
        with learnt.on(self.loaded) as written, self._sampler(how.sampler):
            self._check_lengths([*dict.fromkeys(said(p, written) for p in prompts), how.negative])
            known = learnt.words.vectors if learnt.words is not None else ()
            if unknown := [word for p in prompts for word in re.findall(r"<style[^<> ]*>", p) if word not in known]:
                raise SettingError(f"A prompt holds {unknown[0]}, and nothing was learnt for it.", fix="name a style (MODEL+STYLE), or leave the word out")
            multiple = math.lcm(8, int(self.loaded.vae_scale_factor))  # diffusers wants 8, whatever the model
            if how.size % multiple:
                raise SettingError(f"A size of {how.size} pixels cannot be painted by {self.name}.", fix=f"give a multiple of {multiple}")
            _Brush(self, how, how.size or self.size, 1)

    @contextmanager
    def _sampler(self, name: str) -> Iterator[None]:
        """Inside, the pipeline samples so; "" is its own way."""
        own = self.loaded.scheduler
        if name:
            import diffusers

            kind, told = SAMPLERS[name]
            try:
                self.loaded.scheduler = getattr(diffusers, kind).from_config(own.config, **told)
            except (ValueError, TypeError, NotImplementedError) as wrong:
                raise SettingError(f"{self.name} cannot be sampled by {name} ({str(wrong).splitlines()[0]}).", fix="leave the sampler out") from wrong
        try:
            yield
        finally:
            self.loaded.scheduler = own

    def _check_lengths(self, prompts: Sequence[str]) -> None:
        """SettingError for a prompt of which the model would read a part only."""
        words = getattr(self.loaded, "tokenizer", None)
        most = getattr(words, "model_max_length", 0)
        if not callable(words) or not isinstance(most, int | float) or not 0 < most < LONGEST:
            return
        convert = getattr(self.loaded, "maybe_convert_prompt", None)
        whole = [convert(p, words) if convert else p for p in prompts]  # with every vector of a learned word
        with used(self.folder):
            read = words(whole, verbose=False).input_ids
        for prompt, tokens in zip(prompts, read, strict=True):
            if len(tokens) > most:
                raise SettingError(f"The prompt {prompt[:40]!r} has {len(tokens)} tokens; {self.name} reads {most}.", fix="shorten it")


class _Brush:
    """One way of painting: arguments that all batches share, and the prompts as they were read."""

    def __init__(self, pipeline: Pipeline, how: How, size: int, batch: int) -> None:
        self.pipeline, self.batch, self.negative = pipeline, batch, how.negative
        guidance = how.guidance or pipeline.guidance
        values: dict[str, Any] = {"num_inference_steps": how.steps or pipeline.steps, "guidance_scale": guidance}
        if how.size:
            values |= {"height": size, "width": size}
        self.how = self._taken(values, asked={"guidance_scale"} if how.guidance else set())
        self.guided = guidance > LEAST_GUIDANCE
        self.rows: dict[str, tuple[torch.Tensor | None, ...]] = {}
        kind = type(pipeline.loaded).__name__.removesuffix("Pipeline")
        self.names = ENCODED.get(kind, ())
        if how.negative and not self.names:
            self.how |= self._taken({"negative_prompt": [how.negative] * batch}, asked={"negative_prompt"})

    def read(self, prompts: Sequence[str]) -> None:
        """Let the text encoders read every prompt, once, in batches of one size."""
        if not self.names:
            return
        encode, device = self.pipeline.loaded.encode_prompt, self.pipeline.loaded._execution_device
        with torch.inference_mode():
            for start in range(0, len(prompts), self.batch):
                some = list(prompts[start : start + self.batch])
                padded = some + [""] * (self.batch - len(some))
                told = {"prompt": padded, "device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": self.guided}
                with used(self.pipeline.folder):
                    found = encode(**told, negative_prompt=[self.negative] * self.batch if self.guided and self.negative else None)
                for i, prompt in enumerate(some):
                    self.rows[prompt] = tuple(part[i] if part is not None else None for part in found)

    def paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """At most a batch of images, uint8 [n, size, size, 3], and which of them the pipeline's own checker lets pass, bool [n]."""
        with used(self.pipeline.folder):
            return self._paint(prompts, seeds)

    def _paint(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        short = self.batch - len(prompts)
        chances = [torch.Generator().manual_seed(s % 2**63) for s in [*seeds, *[0] * short]]
        padded = [*prompts, *[prompts[-1]] * short]
        words: dict[str, Any] = {"prompt": padded}
        if self.names:
            parts = zip(self.names, zip(*(self.rows[p] for p in padded), strict=True), strict=True)
            words = {name: torch.stack(rows) for name, rows in parts if rows[0] is not None}
        try:
            made = self.pipeline.loaded(**words, generator=chances, output_type="np", **self.how)
        except ValueError as wrong:
            told = (str(wrong).splitlines() or [""])[0]
            raise SettingError(f"{self.pipeline.name} does not paint so ({told}).", fix="change the steps or the guidance") from wrong
        if not np.isfinite(made.images[: len(prompts)]).all():
            name, how = self.pipeline.name, self.pipeline.place.precision
            raise JobError(f"{name} painted values that are no numbers, in {how}.", fix="use another precision: float32 or bfloat16")
        flagged = getattr(made, "nsfw_content_detected", None) or [False] * self.batch
        x = np.rint(made.images[: len(prompts)] * 255).astype(np.uint8)
        return x, ~np.array(flagged[: len(prompts)], dtype=bool)

    def _taken(self, values: dict[str, Any], *, asked: set[str]) -> dict[str, Any]:
        """The arguments that this class of pipeline takes; SettingError for one that was asked for and is not among them."""
        known = inspect.signature(type(self.pipeline.loaded).__call__).parameters
        if missing := sorted(asked - set(known)):
            raise SettingError(f"{type(self.pipeline.loaded).__name__} has no {missing[0]}.", fix="leave it out")
        return {name: value for name, value in values.items() if name in known}


def open_pipeline(source: str | Path, place: Place | None = None) -> Pipeline:
    """The pipeline in a folder, ours by the name `lab`, or one of the hub by owner/name (fetched, or found in its cache). DataError where there is none."""
    folder = LAB if str(source) == "lab" else Path(source)
    if folder == LAB and not is_pipeline(folder):
        raise DataError("This installation lacks the lab's text-to-image model.", fix="install mitate again, or give a folder that diffusers saved")
    if not is_pipeline(folder) and is_hub_name(str(source)):
        folder = fetch(str(source))
    if not is_pipeline(folder):
        raise DataError(f"{folder} holds no pipeline (a model_index.json).", fix='give a folder that diffusers saved, or "lab"')
    facts: dict[str, Any] = {"steps": STEPS, "guidance": GUIDANCE, "template": TEMPLATE, "styled": STYLED}
    try:
        if (folder / "mitate.json").is_file():
            facts |= dict(parsed((folder / "mitate.json").read_text(encoding="utf-8")).items())
        steps, guidance = int(facts["steps"]), float(facts["guidance"])
        if steps < 1 or not guidance >= LEAST_GUIDANCE:
            raise ValueError(f"steps {steps}, guidance {guidance:g}")
        template, styled = str(facts["template"]), str(facts["styled"])
        if "{label}" not in template or not all(part in styled for part in ("{label}", "{style}")):
            raise ValueError(f"template {template!r}, styled {styled!r}")
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as wrong:
        raise DataError(f"{folder / 'mitate.json'} is not the defaults of a pipeline ({wrong}).", fix="correct it, or delete it") from wrong
    return Pipeline(str(source), folder, steps, guidance, template, styled, place or Place())


def opened(source: str, place: Place | None = None) -> Pipeline:
    """The same, and the one that was opened last in this process, or was lent, is not opened again."""
    if (source, place or Place()) not in _LAST:
        lend(source, open_pipeline(source, place))
    return _LAST[source, place or Place()]


def lend(source: str, pipeline: Pipeline) -> None:
    """Let `opened` give this pipeline for a source: whoever has loaded a model need not load it twice."""
    _LAST.clear()
    _LAST[source, pipeline.place] = pipeline


_LAST: dict[tuple[str, Place], Pipeline] = {}


def _verdicts(judge: Judge, x: np.ndarray) -> np.ndarray:
    found = np.asarray(judge(x))
    if found.shape != (len(x),) or found.dtype != np.bool_:
        raise SettingError(f"The content filter gave {found.dtype} {list(found.shape)} for {len(x)} images.", fix="let it give one true or false an image")
    return found
