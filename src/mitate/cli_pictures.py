"""Commands that make pictures of words and words of pictures: generate, caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mitate.cli_said import say
from mitate.errors import SettingError

if TYPE_CHECKING:
    from mitate.images import ImageSet
    from mitate.progress import Progress

FORMATS = ("folder", "webdataset", "parquet")


@dataclass(frozen=True)
class Folder:
    """Where images go, and as what. SettingError or MissingExtra where they cannot."""

    out: Path
    form: str
    shard: int | None

    def __post_init__(self) -> None:
        if self.form != "folder":
            from mitate.packed import check_form

            check_form(self.form)
        elif self.shard is not None:
            raise SettingError("A folder has no shards.", fix="leave --shard out, or give --format webdataset or parquet")

    def write(self, images: ImageSet, line: Progress) -> None:
        from mitate.packed import write_shards
        from mitate.sets import write_images

        if self.form == "folder":
            write_images(images, self.out, progress=line)
        else:
            write_shards(images, self.out, form=self.form, shard=self.shard or 0, progress=line)


@click.command()
@click.argument("name")
@click.option("--per-class", type=int, help="Images of each class, from a kept generator or (with --classes) a text-to-image model.")
@click.option("--classes", help="What a text-to-image model paints by class: a folder of classes, or their names with commas.")
@click.option("--template", default="", help="The sentence for a class, with {label}, and {style} where one was learnt.  [default: the model's own]")
@click.option("--prompt", "prompts", multiple=True, help="What a text-to-image model shall paint; again for another one.")
@click.option("--prompts", "file", type=click.Path(path_type=Path), help="A file of prompts, one a line.")
@click.option("-n", "--per-prompt", type=int, default=1, show_default=True, help="Images of each prompt.")
@click.option("--diversity", type=click.FloatRange(0, 1), help="Of a few-shot generator: 0 like its images, 1 freely.  [default: as it was kept]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write: class folders of PNGs with a dataset card, or shards.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="folder", show_default=True, help="Class folders, or shards: few large files.")
@click.option("--shard", type=click.IntRange(min=1), help="Images of a shard.  [default: 10,000, fewer of large images]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--steps", type=int, default=0, help="Steps of the sampler, for prompts.  [default: the model's own]")
@click.option("--guidance", type=float, default=0.0, help="Classifier-free guidance, for prompts; 1 is none.  [default: the model's own]")
@click.option("--negative", default="", help="What not to paint, for prompts.")
@click.option("--sampler", default="", help="ddim, dpm++, euler, euler-a, heun, unipc, for prompts.  [default: the model's own]")
@click.option("--size", type=int, default=0, help="Pixels of a side, for prompts.  [default: the model's own]")
@click.option("--blocked", type=click.Path(path_type=Path), help="A file of words that no prompt may hold, one a line.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, for prompts.")
@click.option("--precision", default="float32", show_default=True, help="float32, bfloat16, float16, for prompts.")
@click.option("--saving", default="", help="Save memory, for prompts: slices, offload.")
@click.option("--engine", default="local", show_default=True, help="For prompts: here, local, local:N (each worker has the model), ray or ray://HOST:PORT.")
def generate(
    name: str, per_class: int | None, classes: str | None, template: str, prompts: tuple[str, ...], file: Path | None, per_prompt: int, out: Path, seed: int,
    form: str, shard: int | None, diversity: float | None, blocked: Path | None, device: str, precision: str, saving: str, engine: str, **how: Any,
) -> None:  # fmt: skip
    """Draw images from NAME into a folder that other tools open.

    NAME is a kept generator (with --per-class), or a text-to-image model (with --prompt, or --classes and --per-class): lab (small drawings; comes with
    mitate), a folder of a diffusers pipeline, owner/name of the Hugging Face hub; MODEL+STYLE for one with a style that mitate adapt kept, or with a
    safetensors file.
    """
    from mitate.engine import parse_engine
    from mitate.painted import split_name
    from mitate.progress import Line
    from mitate.prompts.pool import read_prompts
    from mitate.sets import check_new

    asked = [*prompts, *(read_prompts(file) if file is not None else [])]
    check_new(out)
    folder = Folder(out, form, shard)
    line = Line(1.0, title=f"generate {name}")
    if (found := split_name(name)) is not None and not _is_few_shot(name):
        if diversity is not None:
            raise SettingError(f"{name} is no few-shot generator.", fix="leave --diversity out")
        pipeline, learnt = _opened(*found, device=device, precision=precision, saving=saving)
        words = read_prompts(blocked, what="blocked words") if blocked is not None else []
        how |= {"seed": seed, "learnt": learnt, "blocked": words, "workers": parse_engine(engine), "progress": line}
        if classes is not None and per_class is not None and not asked and per_prompt == 1:
            told = _paint_classes(pipeline, classes, folder, line, per_class=per_class, template=template, **how)
        elif asked and classes is None and per_class is None and not template:
            told = _paint(pipeline, asked, folder, line, per_prompt=per_prompt, **how)
        else:
            fix = 'give --prompt "two red circles" -n 4, or --classes FOLDER --per-class 100 (and --template), not both'
            raise SettingError(f"{name} is a text-to-image model: it paints prompts, or classes by a sentence.", fix=fix)
    else:
        refused = asked or classes or template or blocked or per_prompt != 1 or (device, precision, saving) != ("cpu", "float32", "") or any(how.values())
        told = _draw(name, per_class, folder, line, seed=seed, diversity=diversity, refused=bool(refused))
    line.close()
    say(f"{out}: {told}, each marked as made by a model")


@click.group()
def adapt() -> None:
    """Learn the look of real images on top of a text-to-image model, which stays as it is."""


def _adapting(command: Any) -> Any:
    """The options that both ways of adapting share."""
    for option in reversed([
        click.option("--base", required=True, help="The model: lab, a folder of a diffusers pipeline, owner/name of the hub, or a kept diffusion generator."),
        click.option("--images", required=True, help="The real images, in class folders; a train split is used alone."),
        click.option("--as", "name", required=True, help="Name to keep it under; use it as MODEL+NAME."),
        click.option("--template", default="", help="The sentence for a class, with {label} (and {style}).  [default: the model's own]"),
        click.option("--steps", type=click.IntRange(min=1), default=600, show_default=True, help="Steps of learning, at most: it stops by a selection split."),
        click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Images a step."),
        click.option("--rate", type=float, default=0.15, show_default=True, help="Of a step, in spreads of the model's table (docs/text-to-image.md)."),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps."),
        click.option("--precision", default="float32", show_default=True, help="float32, bfloat16, float16."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--file", type=click.Path(path_type=Path), help="Also write it as a safetensors file for diffusers."),
    ]):  # fmt: skip
        command = option(command)
    return command


@adapt.command()
@_adapting
@click.option("--vectors", type=click.IntRange(min=1), default=1, show_default=True, help="Vectors of the word.")
@click.option("--start", default="photo", show_default=True, help="A plain word that the vectors begin as.")
@click.option("--each-class", is_flag=True, help="A word for each class in place of one for all: the dearer rival.")
def style(base: str, images: str, name: str, file: Path | None, seed: int, device: str, precision: str, **how: Any) -> None:
    """One learned word for the look of the whole set (dataset style inversion)."""
    from mitate.adapted import StyleInversion

    _adapt(base, images, name, file, seed, (device, precision), StyleInversion(**how))


@adapt.command()
@_adapting
@click.option("--rank", type=click.IntRange(min=1), default=4, show_default=True, help="Of the changes.")
@click.option("-o", "options", multiple=True, metavar="NAME=VALUE", help="With captions: text_encoder=true (learns too), dropout=0.1, clip=1.")
def lora(base: str, images: str, name: str, file: Path | None, seed: int, device: str, precision: str, options: tuple[str, ...], **how: Any) -> None:
    """Low-rank changes of the model's attention, by the same loss."""
    from mitate.adapted import Lora
    from mitate.settings import from_text

    told, named = from_text(Lora, options, where="adapt lora"), {option.partition("=")[0] for option in options}
    _adapt(base, images, name, file, seed, (device, precision), Lora(**{**how, **{key: getattr(told, key) for key in named}}))


@adapt.command()
@click.option("--base", required=True, help="A kept diffusion generator, a folder of diffusers with a UNet2DModel, or a text-to-image model.")
@click.option("--images", required=True, help="The images of the new domain, in class folders; a train split is used alone. Every one is used.")
@click.option("--as", "name", required=True, help="Name to keep it under.")
@click.option("--few", type=click.IntRange(min=0), default=0, help="Images of each class at most.  [default: all]")
@click.option("--method", default="crdi", show_default=True, help="crdi; its controls: base, noised, inverted, mean, tuned, lora.")
@click.option("--diversity", type=click.FloatRange(0, 1), help="0: like the images given, 1: freely.  [default: chosen on these images]")
@click.option("-o", "options", multiple=True, metavar="NAME=VALUE", help="Further settings: solver=adam, window=5,20, segments=15 (docs/few-shot.md).")
@click.option("--seed", type=int, default=0, show_default=True)
def shots(base: str, images: str, name: str, few: int, method: str, diversity: float | None, options: tuple[str, ...], seed: int) -> None:
    """The domain of a few images on a frozen diffusion model of a related one: no weight is trained (CRDI)."""
    from mitate.cli_asked import train_images
    from mitate.files import checked_name
    from mitate.progress import Line, clock
    from mitate.shots import FAR, Shots, adapt_shots, typed

    checked_name(name)
    line = Line(1.0, title=f"adapt {base}")
    found, chosen = adapt_shots(base, train_images(images), Shots(few, method, diversity, typed(options)), seed=seed, name=name, progress=line)
    line.close()
    facts, told = found.entry.result, found.settings["options"]
    guidance = f", guidance {told['strength']:g}" if method in ("crdi", "mean") else ""
    dials = f"diversity {told['diversity']:g}{guidance}"
    dials = {"tuned": f"{facts['steps']} steps", "lora": f"{facts['steps']} steps", "base": "as they are"}.get(method, dials)
    why = ""
    if chosen is not None:
        copied = "" if (c := chosen.found.copied) is None else f", {max(0.0, c):.0%} more copies"
        why = f", chosen on images left out (energy score {chosen.found.score:.4g}; {chosen.found.near:.2f} times as far as new ones{copied})"
    say(f"{name}: {facts['shots']} images on {base} in {clock(facts['seconds'])}, {dials}{why}")
    if chosen is not None and chosen.found.again:
        say(f"{name}: every dial that was tried draws nearly the images given again (docs/few-shot.md)", err=True)
    if chosen is not None and chosen.far > FAR:
        told = f"its images lie {chosen.far:.1f} times as far from those of {base} as those from each other: it may be too far"
        say(f"{name}: {told} (docs/few-shot.md)", err=True)


def _adapt(base: str, images: str, name: str, file: Path | None, seed: int, place: tuple[str, str], how: Any) -> None:
    from mitate.adapted import adapt as learn
    from mitate.adapted import check_file, export
    from mitate.cli_asked import train_images
    from mitate.files import checked_name
    from mitate.generators.pipelines import open_pipeline
    from mitate.generators.places import Place
    from mitate.painted import split_name
    from mitate.progress import Line, clock
    from mitate.store import Store

    checked_name(name)
    if file is not None:
        check_file(file)
    if split_name(base) is None and base in Store.find().refs() and (file is not None or place != ("cpu", "float32")):
        told = f"{base} is a diffusion generator: it has no words for a file, and learns on the processor."
        raise SettingError(told, fix="leave out --file, --device, --precision")
    line = Line(1.0, title=f"adapt {base}")
    model = base if place == ("cpu", "float32") else open_pipeline(base, Place(*place))
    found = learn(model, train_images(images), how, seed=seed, name=name, progress=line)
    line.close()
    facts = found.entry.result
    kept = f"kept those of step {facts['best_step']}" if facts["curve"] else "kept the last"
    say(
        f"{name}: {facts['parameters']} numbers learnt on {base} in {clock(facts['seconds'])}, {facts['steps']} steps, {kept}"
        f" (selection loss {_told_curve(facts['curve'])})"
    )
    if file is not None:
        say(f"{export(found, file)}: for diffusers")


def _told_curve(curve: list[Any]) -> str:
    return f"{curve[0][1]:.5g} at step {curve[0][0]}, {min(loss for _, loss in curve):.5g} at best" if curve else "not measured"


@click.command()
@click.argument("images")
@click.option("--with", "model", default="lab", show_default=True, help="The captioner: a folder that transformers saved, or lab, for drawings of the lab.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write file and text of each image there, a line each.")
def caption(images: str, model: str, json_file: Path | None) -> None:
    """Describe every image of IMAGES in words."""
    import json

    from mitate.files import disk_errors, write_text
    from mitate.intake.opening import open_images
    from mitate.intake.scanning import check_places
    from mitate.painted import load_captioner
    from mitate.progress import Line

    check_places(json_file)
    if json_file is not None and json_file.name == "metadata.jsonl":
        raise SettingError(f"{json_file} would take the place of a set's own metadata.", fix="give another name")
    captioner, found = load_captioner(model), open_images(images)
    line = Line(1.0, title="caption")
    texts = captioner.describe(found.pixels(size=captioner.size, channels=3), progress=line)
    line.close()
    for name, text in zip(found.names, texts, strict=True):
        say(f"{name}\t{text}")
    if json_file is not None:
        rows = [{"file": name, "text": text, "captioner": captioner.digest} for name, text in zip(found.names, texts, strict=True)]
        with disk_errors(json_file):
            write_text(json_file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _opened(model: str, style: str, **place: str) -> tuple[Any, Any]:
    """The pipeline, and what was learnt on it."""
    from mitate.adapted import learnt
    from mitate.generators.pipelines import open_pipeline
    from mitate.generators.places import Place

    pipeline = open_pipeline(model, Place(**place))
    return pipeline, learnt(style, base=pipeline) if style else None


def _paint(pipeline: Any, prompts: list[str], folder: Folder, line: Progress, **how: Any) -> str:
    from mitate.painted import paint

    images = paint(pipeline, prompts, **how)
    folder.write(images, line)
    return f"{len(images)} images of {len(prompts)} {'prompt' if len(prompts) == 1 else 'prompts'}"


def _paint_classes(pipeline: Any, classes: str, folder: Folder, line: Progress, **how: Any) -> str:
    from mitate.intake.opening import list_source
    from mitate.painted import paint_classes

    names = [c.strip() for c in classes.split(",") if c.strip()]
    if len(names) == 1 and (Path(classes).exists() or set(classes) & set("/\\:")):
        names = list(list_source(classes).class_names())  # DataError where there is no such source
    if len(names) != len(set(names)) or not names:
        raise SettingError(f"{classes!r} names no classes, or one twice.", fix="give a folder of class folders, or names with commas")
    images = paint_classes(pipeline, names, **how)
    folder.write(images, line)
    return f"{len(images)} images, {len(images.classes)} classes"


def _is_few_shot(name: str) -> bool:
    """Whether BASE+NAME names a few-shot generator on a text-to-image model, and not a style."""
    from mitate.shots import is_shots

    return "+" in name and is_shots(name.rpartition("+")[2])


def _draw(name: str, per_class: int | None, folder: Folder, line: Progress, *, seed: int, diversity: float | None, refused: bool) -> str:
    from dataclasses import replace

    from mitate.fitted import generate as draw
    from mitate.shots import drawn_with, load_adapted
    from mitate.store import Store

    store = Store.find()
    generator = load_adapted(name, store=store)  # SettingError where there is none
    if diversity is not None:
        generator = drawn_with(generator, diversity, store=store)
    if refused or per_class is None:
        raise SettingError(f"{name} draws classes, not prompts.", fix="give --per-class 100, and none of the options for prompts")
    images = draw(generator, per_class=per_class, seed=seed, store=store, progress=line)
    folder.write(replace(images, name=name), line)
    return f"{len(images)} images, {len(images.classes)} classes"
