"""What mitate itself drew: every synthetic set that a store still holds, as known sets for a scan.

known_sets(store)                          all samples, also those of pilots and other studies, and what alignment made of them
known_of("leaves-diff", store=store)       one generator's; drawn now where the store holds none
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mitate.errors import StoreError
from mitate.fitted import Fitted, generate, load_generator
from mitate.images import ArrayReader
from mitate.intake.listing import Listing, Row, Stamp
from mitate.intake.scanning import Known
from mitate.progress import Progress
from mitate.settings import parsed
from mitate.store import Entry, Store

DRAWN = 200  # images of each class that a generator without stored samples draws
SETS = ("sample", "align", "paint")  # verbs whose results are synthetic images


def known_sets(store: Store) -> list[Known]:
    """Every synthetic set in the store, one each. A damaged object is passed over; `mitate verify` names it."""
    names = {digest: name for name, digest in store.refs().items()}
    found = []
    for entry, asked in _stored(store):
        with suppress(StoreError, OSError, ValueError, TypeError, LookupError, AttributeError):
            found.append(_known(entry, asked, store, names))
    return found


def known_of(name: str | Fitted, *, store: Store, per_class: int = DRAWN, seed: int = 0, progress: Progress | None = None) -> list[Known]:
    """What the store holds of one generator's samples; where it holds none, `per_class` images of each class are drawn first.

    The first images of a seed are the same however many are asked for, so what was drawn and cleaned away is found again.
    """
    generator = load_generator(name, store=store) if isinstance(name, str) else name
    names = {digest: kept for kept, digest in store.refs().items()}
    mine = [(e, a) for e, a in _stored(store) if a["verb"] == "sample" and a["inputs"].get("generator") == generator.digest]
    if not mine:
        drawn = generate(generator, per_class=per_class, seed=seed, store=store, progress=progress)
        assert drawn.provenance is not None
        entry = store.get(drawn.provenance.parents[-1])
        if entry is None:
            raise StoreError(f"What {generator.kind} drew is not in the store.", fix="run the same command again")
        mine = [(entry, parsed(entry.path("asked.json").read_text()))]
    return [_known(entry, asked, store, names) for entry, asked in mine]


def _stored(store: Store) -> Iterator[tuple[Entry, dict[str, Any]]]:
    for name in store.objects():
        folder = store.folder_of(name)
        try:
            asked = parsed((folder / "asked.json").read_text())
            if (
                not all(isinstance(asked[key], dict) for key in ("settings", "inputs"))
                or asked["verb"] not in SETS
                or not (folder / "x.npy").is_file()
                or (entry := store.get(name)) is None
            ):
                continue
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            continue
        yield entry, asked


def _known(entry: Entry, asked: dict[str, Any], store: Store, names: dict[str, str]) -> Known:
    """A stored set; its pixels stay on disk until they are read."""
    path = entry.path("x.npy")
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
        labels = np.load(entry.path("y.npy"), allow_pickle=False)
        classes = parsed(entry.path("facts.json").read_text(encoding="utf-8"))["classes"]
        if x.dtype != np.uint8 or x.ndim != 4 or labels.shape != x.shape[:1]:
            raise ValueError(f"images {x.dtype} {list(x.shape)}, labels {list(labels.shape)}")
        names_of = [f"{classes[k]}/{i}" for i, k in enumerate(labels.tolist())]
    except Exception as wrong:  # whatever a damaged array raises, also tokenize.TokenError of its header
        told = f"The stored set {entry.digest[:12]} is damaged ({type(wrong).__name__}: {str(wrong)[:100]})."
        raise StoreError(told, fix="forget it with mitate verify --remake, or leave it out with --no-store") from wrong
    stat = path.stat()
    rows = tuple(Row(name=name, stamp=Stamp(f"{path.resolve()}#{i}", stat.st_size, stat.st_mtime_ns)) for i, name in enumerate(names_of))
    source = _generator_of(asked, store)
    name = names.get(source, source[:12]) if source else entry.digest[:12]
    if asked["verb"] == "paint":
        name = f"{Path(asked['settings']['model']).name} {entry.digest[:12]}"
    else:
        name += f" seed {asked['settings'].get('seed', 0)}" if asked["verb"] == "sample" else " aligned"
    return Known(name, Listing(name, rows, ArrayReader(x)), _originals(source, store))


def _generator_of(asked: dict[str, Any], store: Store) -> str:
    """The digest of the generator that a stored set comes from, or "" where the store no longer tells."""
    if asked["verb"] != "align":
        return str(asked["inputs"].get("generator", ""))
    entry = store.folder_of(str(asked["inputs"].get("synthetic", "")))
    return str(_asked(entry).get("inputs", {}).get("generator", ""))


def _originals(generator: str, store: Store) -> frozenset[str]:
    """Pixel digests of the real images that a generator was fitted on, as far as the store still has them."""
    found: set[str] = set()
    for role, name in _asked(store.folder_of(generator)).get("inputs", {}).items() if generator else ():
        if role in ("train", "selection"):
            try:
                found.update(parsed((store.folder_of(name) / "facts.json").read_text(encoding="utf-8")).get("digests", ()))
            except (OSError, ValueError):
                continue
    return frozenset(found)


def _asked(folder: Path) -> dict[str, Any]:
    try:
        values = parsed((folder / "asked.json").read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
