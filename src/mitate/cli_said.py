"""What the command line says: text from files and users is shown, never obeyed by the terminal."""

from __future__ import annotations

import click

from mitate.progress import tame

LONGEST = 2000  # characters of an error: it may quote a file


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text, its lines kept; signs that a terminal would obey, or that turn the order of its letters, become `?`."""
    click.echo("\n".join(tame(line) for line in str(text).split("\n")), err=err, nl=nl)


def refuse(message: str, fix: str) -> None:
    """Print an error as one line, and what to do about it as another."""
    for name, text in (("error", message), ("fix", fix)):
        line = " ".join(text.split())
        say(f"{name}: {line if len(line) <= LONGEST else line[:LONGEST] + '...'}", err=True)
