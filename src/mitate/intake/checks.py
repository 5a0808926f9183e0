"""What is wrong with the data, found and named before anything is trained.

A finding is an `error` (training would lie: stop), a `drop` (these images are left out, and named) or a `warning`. An error
must be right, so only what is exact stops a user; what is merely very likely, such as a near-duplicate, is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mitate.errors import DataError
from mitate.intake.listing import Listing, Row, shown
from mitate.intake.seen import Look, near_leaks, near_pairs

LEAST_SIDE = 8  # pixels; smaller pictures hold nothing to learn from
LEAST_TRAIN = 4  # images of a class: one for selection, one for the hold-out, two to learn from
FEW = 10  # images of a class; below this every number has a wide interval
REFUSED = frozenset({"no", "n", "false", "0", "withdrawn", "refused", "denied", "revoked", "none", "declined", "opt-out", "optout"})


@dataclass(frozen=True)
class Finding:
    """One thing wrong: what, how bad, in one line, what to do, and the images (or classes, groups) it concerns."""

    kind: str
    severity: str  # "error", "drop" or "warning"
    message: str
    fix: str
    items: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}  fix: {self.fix}"


def listed(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c, d, e and 7 more`."""
    names = list(names)
    rest = len(names) - limit
    return ", ".join(shown(n) for n in names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def broken(listing: Listing, errors: Sequence[tuple[int, DataError]]) -> list[Finding]:
    """Files that could not be decoded: `bomb` for those too large to open safely, `unreadable` for the rest."""
    out = []
    for kind, what, fix in (
        ("bomb", "too large to open safely", "shrink them below 100 megapixels, or remove them"),
        ("unreadable", "not readable as images", "remove them, or replace them by good copies"),
    ):
        mine = [(listing.rows[i].name, e) for i, e in errors if ("megapixels" in e.fix) == (kind == "bomb")]
        if len(mine) == 1:
            out.append(Finding(kind, "error", mine[0][1].message, mine[0][1].fix, (mine[0][0],)))
        elif mine:
            out.append(Finding(kind, "error", f"{len(mine)} files are {what}: {listed(n for n, _ in mine)}.", fix, tuple(n for n, _ in mine)))
    return out


def notes(listing: Listing) -> list[Finding]:
    """What the listing itself had to say."""
    return [Finding(kind, "warning", message, fix) for kind, message, fix in listing.notes]


def check(listing: Listing, looks: Sequence[Look]) -> list[Finding]:
    """Every finding on decoded images, drops before the errors that are judged without the dropped images."""
    found = notes(listing)
    dropped: set[int] = set()

    def drop(kind: str, rows: Sequence[int], message: str, fix: str) -> None:
        rows = [i for i in rows if i not in dropped]
        if rows:
            names = tuple(sorted(listing.rows[i].name for i in rows))
            found.append(Finding(kind, "drop", f"{_several(len(names), 'image', 'images')} left out ({message}): {listed(names)}.", fix, names))
            dropped.update(rows)

    def where(test: Callable[[Row, Look], bool]) -> list[int]:
        return [i for i, (row, seen) in enumerate(zip(listing.rows, looks, strict=True)) if i not in dropped and test(row, seen)]

    drop("tiny", where(lambda _, a: min(a.shape[:2]) < LEAST_SIDE), f"under {LEAST_SIDE} x {LEAST_SIDE} pixels", "give larger copies")
    drop(
        "consent",
        where(lambda r, _: (r.consent or "").strip().lower() in REFUSED),
        "consent refused or withdrawn",
        "nothing to do, or ask for consent and correct the metadata",
    )
    marked = where(lambda _, a: a.mark is not None)
    if marked and len(marked) == len(where(lambda *_: True)):
        found.append(
            _error(
                "synthetic",
                "Every image carries a mark that says it was made by a model.",
                "give real images here; synthetic ones enter as folder:PATH",
                [r.name for r in listing.rows],
            )
        )
        return found
    drop("synthetic", marked, "marked as made by a model", "nothing to do, or remove the mark if it is wrong")
    drop("unlabelled", where(lambda r, _: r.label is None), "no label", "put them into class folders, or name their labels in metadata.jsonl")
    if not where(lambda *_: True):
        if found[-1].kind == "unlabelled":
            found.append(_error("unlabelled", "No image has a label.", "put images into one folder a class, or name labels in metadata.jsonl", ()))
        else:
            found.append(_error("empty", "No image is left once the unusable ones are taken out.", "see the other findings", ()))
        return found
    found += _spellings(listing, where(lambda *_: True))
    found += _straddling(listing, where(lambda *_: True))
    _duplicates(listing, looks, where(lambda *_: True), drop, found)
    _near(listing, looks, where(lambda *_: True), drop, found)
    found += _counts(listing, where(lambda *_: True))
    return found


def _spellings(listing: Listing, rows: Sequence[int]) -> list[Finding]:
    """Labels that are one word but for case and white space. Single letters may be classes of their own: only a warning."""
    words: dict[str, set[str]] = {}
    for i in rows:
        label = listing.rows[i].label or ""
        words.setdefault(" ".join(label.split()).casefold(), set()).add(label)
    out = []
    for plain, spellings in sorted(words.items()):
        if len(spellings) < 2:
            continue
        names = sorted(spellings)
        severity = "warning" if len(plain) == 1 else "error"
        quoted = " and ".join(repr(shown(n)) for n in names)
        out.append(
            Finding(
                "spelling",
                severity,
                f"The labels {quoted} differ only by case or white space.",
                "give them one spelling, or names that differ more",
                tuple(names),
            )
        )
    return out


def _straddling(listing: Listing, rows: Sequence[int]) -> list[Finding]:
    sides: dict[str, set[bool]] = {}
    for i in rows:
        row = listing.rows[i]
        if row.group is not None and row.split != "all":
            sides.setdefault(row.group, set()).add(row.split == "test")
    both = sorted(g for g, s in sides.items() if len(s) == 2)
    if not both:
        return []
    return [
        _error(
            "group leak",
            f"{_several(len(both), 'group stands', 'groups stand')} in both train and test: {listed(both)}.",
            "keep all images of a group on one side",
            both,
        )
    ]


Dropper = Callable[[str, Sequence[int], str, str], None]


def _duplicates(listing: Listing, looks: Sequence[Look], rows: Sequence[int], drop: Dropper, found: list[Finding]) -> None:
    """Exact copies: of test images in train (error), with two labels (all dropped), within one side (all but one dropped)."""
    same: dict[str, list[int]] = {}
    for i in rows:
        same.setdefault(looks[i].digest, []).append(i)
    leaks, conflicts, extra, repeats = [], [], [], []
    for mine in same.values():
        if len(mine) < 2:
            continue
        if len({listing.rows[i].split == "test" for i in mine}) == 2:
            leaks.append(mine)
        elif len({listing.rows[i].label for i in mine}) > 1:
            conflicts += mine
        elif listing.rows[mine[0]].split == "test":
            repeats += sorted(listing.rows[i].name for i in mine)[1:]
        else:
            extra += sorted(mine, key=lambda i: _keeps(listing.rows[i]))[1:]
    if leaks:
        pairs = [_leak(listing, mine) for mine in leaks]
        fix = "take them out of train, or of test"
        names = [listing.rows[i].name for mine in leaks for i in mine]
        found.append(
            _error(
                "leak",
                f"{_several(len(leaks), 'test image stands', 'test images stand')} among the train images, pixel for pixel: {listed(pairs)}.",
                fix,
                names,
            )
        )
    drop("two labels", conflicts, "pixel for pixel the same under two labels", "keep each under its right label only")
    drop("duplicate", extra, "repeats another one, pixel for pixel", "nothing to do, or remove the copies")
    _twice(repeats, found)


def _near(listing: Listing, looks: Sequence[Look], rows: Sequence[int], drop: Dropper, found: list[Finding]) -> None:
    """Near copies: the one on the train side goes, and what copies it; within one side the one that comes later."""
    usable = list(rows)
    gone: set[int] = set()
    stolen: set[int] = set()
    across, within, twice = [], [], []
    held = [i for i in usable if listing.rows[i].split == "test"]
    outside = [i for i in usable if listing.rows[i].split != "test"]
    leaks = [(outside[p.a], held[p.b]) for p in near_leaks([looks[i] for i in outside], [looks[i] for i in held])]
    pairs = [(usable[p.a], usable[p.b]) for p in near_pairs([looks[i] for i in usable])]
    for a, b in [*leaks, *pairs]:
        if looks[a].digest == looks[b].digest or (a in gone and b in gone):
            continue
        ra, rb = listing.rows[a], listing.rows[b]
        if ra.group is not None and ra.group == rb.group and ra.split == rb.split:
            continue  # frames of one clip, pictures of one plant: they stay on one side anyway
        if a in gone or b in gone:
            out = a if b in gone else b
            if not stolen.isdisjoint((a, b)) and listing.rows[out].split != "test":  # a copy of what copies a test image
                across.append(out)
                stolen.add(out)
                gone.add(out)
            continue
        if ra.split == rb.split == "test":
            twice.append(max(ra.name, rb.name))
            continue
        if (ra.split == "test") != (rb.split == "test"):
            out = b if ra.split == "test" else a
            across.append(out)
            stolen.add(out)
        else:
            out = max(a, b, key=lambda i: _keeps(listing.rows[i]))
            within.append(out)
        gone.add(out)
    drop(
        "near leak",
        across,
        "train side, copy of a test image: re-encoded, resized, brightened or cropped",
        "nothing to do, or keep copies of one picture on one side",
    )
    drop("near duplicate", within, "copy of another one: re-encoded, resized, brightened or cropped", "nothing to do, or keep one copy of each picture")
    _twice(twice, found)


def _twice(names: Sequence[str], found: list[Finding]) -> None:
    """Copies within a test set that the user gave: said, not touched."""
    if names := sorted(set(names)):
        message = f"{_several(len(names), 'image of the test set shows', 'images of the test set show')} the same picture as another: {listed(names)}."
        found.append(Finding("test repeats", "warning", message, "keep one copy of each picture; repeats make intervals too narrow", tuple(names)))


def _counts(listing: Listing, rows: Sequence[int]) -> list[Finding]:
    """One class only, classes too small, classes that only train or only test has."""
    names = [c for c in listing.class_names()]
    tested = any(r.split == "test" for r in listing.rows)
    count = {side: {c: 0 for c in names} for side in ("train", "test")}
    for i in rows:
        row = listing.rows[i]
        count["test" if row.split == "test" else "train"][row.label or ""] += 1
    present = [c for c in names if count["train"][c] or count["test"][c]]
    if len(present) == 1:
        return [_error("one class", f"There is only one class: {shown(present[0])}.", "give at least two classes, one folder each", present)]
    out = []
    if tested and (only := [c for c in present if not count["train"][c]]):
        out.append(
            _error("classes", f"Classes with test images but no train images: {listed(only)}.", "add train images, or spell the class as in train", only)
        )
    least = LEAST_TRAIN if tested else LEAST_TRAIN + 1
    if small := [c for c in names if count["train"][c] < least and c not in (only if tested else [])]:
        said = listed(f"{c} ({count['train'][c]})" for c in small)
        kind = "train images" if tested else "images, test included"
        out.append(
            _error("too small", f"Classes with under {least} {kind}: {said}.", f"give at least {least} images a class, or leave these classes out", small)
        )
    if few := [c for c in names if least <= count["train"][c] < FEW]:
        out.append(Finding("few", "warning", f"Classes with under {FEW} images: {listed(few)}.", "expect wide intervals", tuple(few)))
    if tested and (untested := [c for c in names if not count["test"][c] and count["train"][c]]):
        out.append(
            Finding(
                "untested",
                "warning",
                f"Classes without test images: {listed(untested)}.",
                "add test images; nothing can be said of these classes",
                tuple(untested),
            )
        )
    return out


def _keeps(row: Row) -> tuple[bool, bool, str]:
    """Order in which copies are kept: grouped ones first, then by name."""
    return (row.split not in ("train", "all"), row.group is None, row.name)


def _leak(listing: Listing, rows: Sequence[int]) -> str:
    test = next(i for i in rows if listing.rows[i].split == "test")
    train = next(i for i in rows if listing.rows[i].split != "test")
    return f"{shown(listing.rows[test].name, 60)} = {shown(listing.rows[train].name, 60)}"


def _several(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _error(kind: str, message: str, fix: str, items: Sequence[str]) -> Finding:
    return Finding(kind, "error", message, fix, tuple(items))
