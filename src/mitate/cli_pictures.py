"""Commands that make pictures of words and words of pictures: generate, caption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mitate.errors import DataError, SettingError

if TYPE_CHECKING:
    from mitate.progress import Progress


@click.command()
@click.argument("name")
@click.option("--per-class", type=int, help="Images of each class, from a generator that mitate fit made.")
@click.option("--prompt", "prompts", multiple=True, help="What a text-to-image model shall paint; again for another one.")
@click.option("--prompts", "file", type=click.Path(path_type=Path), help="A file of prompts, one a line.")
@click.option("-n", "--per-prompt", type=int, default=1, show_default=True, help="Images of each prompt.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write: class folders of PNGs with a dataset card.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--steps", type=int, default=0, help="Steps of the sampler, for prompts.  [default: the model's own]")
@click.option("--guidance", type=float, default=0.0, help="Classifier-free guidance, for prompts; 1 is none.  [default: the model's own]")
def generate(
    name: str, per_class: int | None, prompts: tuple[str, ...], file: Path | None, per_prompt: int, out: Path, seed: int, steps: int, guidance: float
) -> None:
    """Draw images from NAME into a folder that other tools open. NAME is a kept generator (with --per-class) or a folder of a diffusers pipeline (with
    --prompt)."""
    from mitate.painted import is_pipeline
    from mitate.progress import Line
    from mitate.sets import check_new

    asked = [*prompts, *(_lines(file) if file is not None else [])]
    check_new(out)
    line = Line(1.0, title=f"generate {name}")
    if is_pipeline(name):
        if per_class is not None or not asked:
            raise SettingError(f"{name} is a text-to-image model: it paints prompts.", fix='give --prompt "two red circles" -n 4, and no --per-class')
        told = _paint(name, asked, out, line, per_prompt=per_prompt, seed=seed, steps=steps, guidance=guidance)
    else:
        told = _draw(name, per_class, out, line, seed=seed, refused=bool(asked or steps or guidance or per_prompt != 1))
    line.close()
    click.echo(f"{out}: {told}, each marked as made by a model")


@click.command()
@click.argument("images")
@click.option("--with", "model", required=True, help="A folder of a captioner that transformers saved.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write file and text of each image there, a line each.")
def caption(images: str, model: str, json_file: Path | None) -> None:
    """Describe every image of IMAGES in words."""
    import json

    from mitate.intake.opening import open_images
    from mitate.intake.scanning import check_places
    from mitate.painted import load_captioner
    from mitate.progress import Line
    from mitate.store import disk_errors, write_text

    check_places(json_file)
    if json_file is not None and json_file.name == "metadata.jsonl":
        raise SettingError(f"{json_file} would take the place of a set's own metadata.", fix="give another name")
    captioner, found = load_captioner(model), open_images(images)
    line = Line(1.0, title="caption")
    texts = captioner.describe(found.pixels(size=captioner.size, channels=3), progress=line)
    line.close()
    for name, text in zip(found.names, texts, strict=True):
        click.echo(f"{name}\t{text}")
    if json_file is not None:
        rows = [{"file": name, "text": text, "captioner": captioner.digest} for name, text in zip(found.names, texts, strict=True)]
        with disk_errors(json_file):
            write_text(json_file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _lines(file: Path) -> list[str]:
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as wrong:
        raise DataError(f"{file} cannot be read as prompts ({wrong}).", fix="give a text file in UTF-8, one prompt a line") from wrong
    if not found:
        raise DataError(f"{file} holds no prompts.", fix="write one a line")
    return found


def _paint(name: str, prompts: list[str], out: Path, line: Progress, **how: Any) -> str:
    from mitate.generators.pipelines import open_pipeline
    from mitate.painted import paint
    from mitate.sets import write_images

    images = paint(open_pipeline(name), prompts, progress=line, **how)
    write_images(images, out, progress=line)
    return f"{len(images)} images of {len(prompts)} {'prompt' if len(prompts) == 1 else 'prompts'}"


def _draw(name: str, per_class: int | None, out: Path, line: Progress, *, seed: int, refused: bool) -> str:
    from dataclasses import replace

    from mitate.fitted import generate as draw
    from mitate.fitted import load_generator
    from mitate.sets import write_images
    from mitate.store import Store

    store = Store.find()
    generator = load_generator(name, store=store)  # SettingError where there is none
    if refused or per_class is None:
        raise SettingError(f"{name} draws classes, not prompts.", fix="give --per-class 100, and none of --prompt, --prompts, -n, --steps, --guidance")
    images = draw(generator, per_class=per_class, seed=seed, store=store, progress=line)
    write_images(replace(images, name=name), out, progress=line)
    return f"{len(images)} images, {len(images.classes)} classes"
