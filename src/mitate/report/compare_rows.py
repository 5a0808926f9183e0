"""What the card and the tables of a comparison's page hold, as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """The advice of one use case at one number of images."""

    n: str
    families: str
    said: str
    warnings: tuple[str, ...]
    tone: str


@dataclass(frozen=True)
class Case:
    """A use case with its advice."""

    name: str
    weights: str
    rows: tuple[Advice, ...]


@dataclass(frozen=True)
class Cell:
    """A number with its interval, in a table."""

    label: str
    value: str
    span: str
    measured: bool = True


@dataclass(frozen=True)
class Point:
    """A family at a number of images, as the table shows it."""

    n: str
    images: str
    state: str
    tone: str
    cells: tuple[Cell, ...]
