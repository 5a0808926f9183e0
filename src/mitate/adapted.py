"""The verb adapt: what a set of real images has of its own, learnt on top of a frozen model and kept in the store: its look, or (shots.py) its domain.

style = mi.adapt("lab", mi.open_images("leaves/train"), mi.StyleInversion(steps=600), seed=0, name="leaves-style")
fakes = mi.generate(style, per_class=200)                                                  its own classes
fakes = mi.paint(mi.load_generator("lab"), ["a leaf, <style>"], learnt=mi.learnt("leaves-style", base=mi.load_generator("lab")))
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitate.errors import DataError, SettingError
from mitate.files import disk_errors, neighbour, sweep, whole
from mitate.fitted import Fitted, fit, fit_question, load_fitted
from mitate.images import ImageSet
from mitate.progress import Progress
from mitate.runtime import seed_of
from mitate.settings import record, suggest
from mitate.shots import Shots, adapt_shots
from mitate.store import Store
from mitate.verbs import keep_images, perform

if TYPE_CHECKING:
    from mitate.generators.learnt import Learnt
    from mitate.generators.pipelines import Pipeline

KINDS = ("text-to-image", "expert", "merged")  # of fits that stand on a text-to-image model
HELD_OUT = 5  # one caption of so many chooses the step that is kept
FILES = (".safetensors",)


@dataclass(frozen=True)
class StyleInversion:
    """Dataset style inversion: one word for the look of a whole set (generators/inversion.py). template: with {label} and {style}."""

    steps: int = 600
    batch: int = 16
    rate: float = 0.15  # of a step, in spreads of the model's table of words
    vectors: int = 1  # of the word
    start: str = "photo"  # a plain word that the vectors begin as
    template: str = ""
    each_class: bool = False  # a word of its own for each class: the dearer rival


@dataclass(frozen=True)
class Lora:
    """Low-rank changes of the model's attention, learnt by the same loss. template: with {label}; without one, images with captions are learnt by these."""

    steps: int = 600
    batch: int = 16
    rate: float = 0.15  # times 1/150: the learning rate
    rank: int = 4
    template: str = ""
    dropout: float = 0.1  # with captions: the share of them left empty
    clip: float = 1.0  # with captions: the largest norm of the gradient; 0 for none
    text_encoder: bool = False  # with captions: the text encoders learn too


def adapt(
    base: Pipeline | Fitted | str, train: ImageSet, how: StyleInversion | Lora | Shots | None = None, *, seed: int = 0, name: str | None = None,
    store: Store | None = None, progress: Progress | None = None,
) -> Fitted:  # fmt: skip
    """The look of `train`, learnt on `base` and found in the store when it was learnt before: a generator of the set's classes, and under `name` something
    that prompts of other classes can use.

    base: a text-to-image model, or a diffusion generator that `fit` kept (then the classes are its own, and there are no prompts). A fifth of each
    class chooses when to stop, and a fifth is not looked at; images are read at the model's own size. Killed, the same call goes on. With `Shots` it is
    the domain of a few images, every one of which is used.
    """
    from mitate.generators.text_to_image import TextToImage

    how = how or StyleInversion()
    if isinstance(how, Shots):
        base = base if isinstance(base, (str, Fitted)) else base.name
        return adapt_shots(base, train, how, seed=seed, name=name, store=store, progress=progress)[0]
    if (kept := _diffusion(base, store)) is not None:
        return _restyle(kept, train, how, seed=seed, name=name, store=store, progress=progress)
    assert not isinstance(base, Fitted)
    model, place = (base, dict[str, Any]()) if isinstance(base, str) else (base.name, {"device": base.place.device, "precision": base.place.precision})
    if isinstance(how, Lora) and train.captions is not None and not how.template:
        return _expert(model, train, how, place, seed=seed, name=name, store=store, progress=progress)
    if isinstance(how, Lora) and how.text_encoder:
        raise SettingError("The text encoders learn from captions alone.", fix="write one for each image into metadata.jsonl, or leave text_encoder out")
    style = "lora" if isinstance(how, Lora) else "each-class" if how.each_class else "learnt"
    settings: dict[str, Any] = {key: value for key, value in vars(how).items() if key not in ("each_class", "dropout", "clip", "text_encoder")}
    kind = TextToImage.of(model, train.classes, style=style, **settings, **place)
    return fit(kind, train, seed=seed, size=kind.opened.size, name=name, store=store, progress=progress)


def _expert(
    model: str, images: ImageSet, how: Lora, place: dict[str, Any], *, seed: int, name: str | None, store: Store | None, progress: Progress | None
) -> Fitted:
    """A LoRA by captions, of real images or of the model's own. A fifth of the captions, and their images, choose the step that is kept."""
    from mitate.generators.expert import expert_on
    from mitate.generators.places import Place

    store = store or Store.find()
    if lost := sum(not (text or "").strip() for text in images.captions or ()):
        raise DataError(f"{lost} of {len(images)} images have no caption.", fix="write one for each into metadata.jsonl, or give a --template for classes")
    parts = captioned_parts(images, seed=seed)
    kind = expert_on(
        model, Place(**place), sentences=parts["train"].classes, steps=how.steps, batch=how.batch, rate=how.rate / 0.15 * 1e-3, rank=how.rank,
        dropout=how.dropout, clip=how.clip, text_encoder=how.text_encoder,
    )  # fmt: skip
    kind.opened.check(kind.sentences, kind.opened.settled(kind.how))
    digests = {role: keep_images(store, part, size=kind.opened.size, channels=3) for role, part in parts.items()}
    entry = perform(store, fit_question(kind, digests, seed=seed), progress=progress)
    if name:
        store.keep(name, entry.digest)
    return load_fitted(entry)


def captioned_parts(images: ImageSet, *, seed: int) -> dict[str, ImageSet]:
    """train and selection: a fifth of the captions with all their images, by an order of their own; every caption is a class of both."""
    assert images.captions is not None
    sentences = tuple(dict.fromkeys(images.captions))
    number = {text: k for k, text in enumerate(sentences)}
    whole = replace(images, classes=sentences, labels=tuple(number[text] for text in images.captions))
    order = sorted(range(len(sentences)), key=lambda k: seed_of("captions held out", seed, sentences[k]))
    apart = set(order[: len(sentences) // HELD_OUT])
    rows = {"train": [i for i, k in enumerate(whole.labels) if k not in apart], "selection": [i for i, k in enumerate(whole.labels) if k in apart]}
    return {role: whole.subset(some) for role, some in rows.items()}


def _diffusion(base: Pipeline | Fitted | str, store: Store | None) -> Fitted | None:
    """The kept diffusion generator behind a base, or None. SettingError for another kept kind."""
    from mitate.fitted import load_generator
    from mitate.painted import split_name

    if isinstance(base, str):
        if split_name(base) is not None or base not in (store or Store.find()).refs():
            return None
        base = load_generator(base, store=store)
    if not isinstance(base, Fitted):
        return None
    if base.kind not in ("diffusion", "restyled"):
        raise SettingError(f"A style cannot be learnt on a {base.kind}.", fix="fit a diffusion generator, or name a text-to-image model")
    return base


def _restyle(base: Fitted, train: ImageSet, how: StyleInversion | Lora, **given: Any) -> Fitted:
    from mitate.generators.diffusion import Diffusion
    from mitate.generators.restyled import Restyled

    if isinstance(how, Lora) or how.template or how.vectors != 1 or how.start != StyleInversion.start:
        raise SettingError("A diffusion generator has no words: it learns one vector beside its classes.", fix="leave out LoRA, template, vectors and start")
    if train.classes != base.classes:
        raise DataError(f"The generator draws {', '.join(base.classes[:5])}; the images are {', '.join(train.classes[:5])}.", fix="give images of its classes")
    options = base.settings["options"]
    diffusion = record(Diffusion, options if base.kind == "diffusion" else options["diffusion"], where="diffusion")
    kind = Restyled(base=base.digest, diffusion=diffusion, each_class=how.each_class, steps=how.steps, batch=how.batch, rate=how.rate)
    return fit(kind, train, size=base.shape[0], **given)


def learnt(name: str, *, base: Pipeline, store: Store | None = None) -> Learnt:
    """What was learnt under a kept name on this very pipeline, or a safetensors file made elsewhere (a LoRA, or a word: <style> in prompts)."""
    from mitate.generators.learnt import Learnt
    from mitate.generators.text_to_image import WORD

    if Path(name).suffix in FILES:
        return Learnt.of_file(Path(name), word=WORD)
    store = store or Store.find()
    try:
        entry = store.kept(name)
    except DataError:  # not even a possible name
        entry = None
    if entry is None:
        raise SettingError(f"There is no kept style {name!r}.", fix=suggest(name, store.refs()) if store.refs() else "learn one: mitate adapt style")
    asked = json.loads(entry.path("asked.json").read_text(encoding="utf-8"))["settings"]
    found = Learnt.of_fit(entry.folder)
    if asked.get("kind") not in KINDS or not found:
        raise SettingError(f"{name!r} is no style.", fix="name one that mitate adapt made, or a safetensors file")
    if asked["options"]["weights"] != base.digest:
        raise DataError(f"{name!r} was learnt on another model than {base.name}.", fix=f"give the model it was learnt on ({asked['options']['model']})")
    return found


def export(fitted: Fitted, file: Path) -> Path:
    """Write what was learnt as a safetensors file that diffusers takes: `load_textual_inversion` for a style, `load_lora_weights` for a LoRA."""
    from mitate.generators.learnt import Learnt
    from mitate.generators.tokens import Words

    found = Learnt.of_fit(fitted.entry.folder)
    if not found:
        raise SettingError(f"{fitted!r} has learnt nothing.", fix="name what mitate adapt made")
    check_file(file)
    with whole(file) as fresh:
        if found.lora is not None:
            fresh.write_bytes(found.lora.read_bytes())
        elif found.words is not None:
            own = {f"<{file.stem}>" if len(found.words.vectors) == 1 else word: vectors for word, vectors in found.words.vectors.items()}
            Words(own).write(fresh)
    return file


def check_file(file: Path) -> None:
    """SettingError or StoreError where `export` could not write there; its folder is made."""
    if file.suffix not in FILES:
        raise SettingError(f"{file} is no safetensors file.", fix="give a name that ends in .safetensors")
    if file.is_dir():
        raise SettingError(f"{file} is a folder.", fix="give the name of a file")
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file)
        trial = neighbour(file)
        trial.write_bytes(b"")
        trial.unlink()
