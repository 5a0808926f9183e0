"""Options that commands share, told the same way in each. Imported by cli.py; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Option) -> Option:
    """One decorator of several options, in the order in which --help lists them."""
    return lambda command: reduce(lambda found, option: option(found), reversed(options), command)


run_folder = click.option("--out", type=click.Path(path_type=Path), help="Run folder. The same command with the same folder resumes.")
per_class = click.option("--per-class", type=int, help="Real training images of each class (default: all).")
seed = click.option("--seed", type=int, help="Seed of everything.  [default: 0]")
cost = click.option("--cost", is_flag=True, help="Print what it would take and could show, and stop.")
running = together(
    click.option("--lang", type=click.Choice(["en", "ja"]), default="en", show_default=True, help="Language of the report."),
    click.option("--engine", default="local", show_default=True, help="here, local or local:N (worker processes); ray or ray://HOST:PORT (a cluster)."),
)


def generators(default: str) -> Option:
    return together(
        click.option("--generators", help=f"Comma-separated: vae, gan, diffusion, gaussian, folder:PATH, kept names, MODEL[+style].  [default: {default}]"),
        click.option("--style", is_flag=True, default=None, help="Each text-to-image model also with an untrained word, and with the set's learned style."),
        click.option("--guidance", help="Each text-to-image model at these guidances, like 1.5,3,7.5; 1 is none.  [default: the model's own]"),
    )


def question(*, gain: str, study: str) -> Option:
    """What is measured, with what, within what. gain: that has to be worthwhile; study: that the budget is for."""
    return together(
        click.option("--measure", help="accuracy, balanced, macro-f1, recall:CLASS, or a CSV file of costs.  [default: accuracy]"),
        click.option("--worthwhile", type=float, help=f"Smallest {gain} worth having, in the measure's unit.  [default: 0.01]"),
        click.option("--backbone", help="small, mitate-small, mobilenet_v2:FILE, resnet_cifar:FILE, timm:NAME; +frozen: the head alone.  [default: small]"),
        click.option("--budget", help=f"Time for the whole {study}, like 10m or 2h.  [default: 10m]"),
        click.option("--size", type=int, help="Working size in pixels.  [default: the images' own, at most 64]"),
    )
