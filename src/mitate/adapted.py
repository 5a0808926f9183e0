"""The verb adapt: the look of a set of real images, learnt on top of a frozen text-to-image model and kept in the store.

style = mi.adapt("lab", mi.open_images("leaves/train"), mi.StyleInversion(steps=600), seed=0, name="leaves-style")
fakes = mi.generate(style, per_class=200)                                                  its own classes
fakes = mi.paint(mi.load_generator("lab"), ["a leaf, <style>"], learnt=mi.learnt("leaves-style", base=mi.load_generator("lab")))
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mitate.errors import DataError, SettingError
from mitate.fitted import Fitted, fit
from mitate.images import ImageSet
from mitate.progress import Progress
from mitate.settings import suggest
from mitate.store import Store

if TYPE_CHECKING:
    from mitate.generators.learnt import Learnt
    from mitate.generators.pipelines import Pipeline

KIND = "text-to-image"
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
    """Low-rank changes of the model's attention, learnt by the same loss. template: with {label}."""

    steps: int = 600
    batch: int = 16
    rate: float = 0.15  # times 1/150: the learning rate
    rank: int = 4
    template: str = ""


def adapt(
    base: Pipeline | str, train: ImageSet, how: StyleInversion | Lora | None = None, *, seed: int = 0, name: str | None = None, store: Store | None = None,
    progress: Progress | None = None,
) -> Fitted:  # fmt: skip
    """The look of `train`, learnt on `base` and found in the store when it was learnt before: a generator of the set's classes, and under `name` something
    that prompts of other classes can use.

    A fifth of each class chooses when to stop, and a fifth is not looked at; images are read at the model's own size. Killed, the same call goes on.
    """
    from mitate.generators.text_to_image import TextToImage

    how, model = how or StyleInversion(), base if isinstance(base, str) else base.name
    style = "lora" if isinstance(how, Lora) else "each-class" if how.each_class else "learnt"
    settings = {key: value for key, value in vars(how).items() if key != "each_class"}
    kind = TextToImage.of(model, train.classes, style=style, **settings)
    return fit(kind, train, seed=seed, size=kind.opened.size, name=name, store=store, progress=progress)


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
    if asked.get("kind") != KIND or not found:
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
    file.parent.mkdir(parents=True, exist_ok=True)
    if found.lora is not None:
        file.write_bytes(found.lora.read_bytes())
    elif found.words is not None:
        own = {f"<{file.stem}>" if len(found.words.vectors) == 1 else word: vectors for word, vectors in found.words.vectors.items()}
        Words(own).write(file)
    return file


def check_file(file: Path) -> None:
    """SettingError where `export` could not write there."""
    if file.suffix not in FILES:
        raise SettingError(f"{file} is no safetensors file.", fix="give a name that ends in .safetensors")
    if file.is_dir():
        raise SettingError(f"{file} is a folder.", fix="give the name of a file")
