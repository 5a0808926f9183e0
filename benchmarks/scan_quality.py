"""What does a scan find of copies that were changed, what does it call a copy that is none, and how does a plain perceptual hash do?

    MITATE_DATA=folder python benchmarks/scan_quality.py [--sets coffee_leaf,...] [--most 200] [--copies 80] [--foreign 600] [--pace 1000] [--summary]

Real images are cut in two halves. One plays the known synthetic set; the other is foreign: distinct images of the same classes, the hardest to
leave alone. `--copies` known images, changed in one way, are put among the foreign ones and the folder is scanned as a user would scan it: a
copy that is found and traced to its image counts, a foreign image that is called a copy is a false alarm. One more row a set has no copies at all.
In `vae_leaves` the known images are drawn by a VAE and the foreign ones are real leaves that it never saw. The same files go to `imagehash.phash`
(64 bits; nearest known image within 10 bits, and within as many as give no more false alarms than the scan), where the package is installed
(pip install imagehash). One JSON line a set and change, in results/scan_quality.jsonl; finished rows are skipped. `--pace` adds a row with the
seconds for so many images against as many known ones.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

import cells
import mitate as mi
from bench_near_duplicates import load
from mitate import codec
from mitate.metrics.intervals import wilson
from mitate.runtime import seed_of
from mitate.store import Store

try:
    import imagehash
except ModuleNotFoundError:
    imagehash = None

SETS = ("coffee_leaf", "bccd_cells", "grocery_fruit", "omniglot", "kmnist", "cifar10", "fashion_mnist", "digits", "vae_leaves")
NO_COPIES = "no copies"
BITS = 10  # a common bound for 64-bit perceptual hashes
LEAST = 8  # pixels of a side that a half-size copy keeps
Change = Callable[[Image.Image], bytes]


def png(image: Image.Image) -> bytes:
    return _saved(image, "PNG")


def jpeg(quality: int) -> Change:
    return lambda image: _saved(image, "JPEG", quality=quality)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((max(LEAST, round(image.width * factor)), max(LEAST, round(image.height * factor))), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float, *, whole: bool = False) -> Image.Image:
    """`share` of the area, at a place that the image's pixels choose; whole: brought back to the old size."""
    rng = np.random.default_rng(seed_of("crop", codec.pixel_digest(_pixels(image)), str(share)))
    w, h = image.size
    a, b = max(1, round(w * share**0.5)), max(1, round(h * share**0.5))
    left, top = int(rng.integers(w - a + 1)), int(rng.integers(h - b + 1))
    part = image.crop((left, top, left + a, top + b))
    return part.resize((w, h), Image.Resampling.BICUBIC) if whole else part


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def framed(image: Image.Image, share: float) -> Image.Image:
    w, h = (max(1, round(side * share)) for side in image.size)
    return ImageOps.expand(image, (w, h), fill=255 if image.mode == "L" else (255, 255, 255))


CHANGES: dict[str, Change] = {
    "metadata stripped": png,
    "jpeg 90": jpeg(90),
    "jpeg 50": jpeg(50),
    "jpeg 30": jpeg(30),
    "half size": lambda i: png(scaled(i, 0.5)),
    "double size": lambda i: png(scaled(i, 2)),
    "90 % of the area": lambda i: png(cropped(i, 0.9)),
    "80 % of the area": lambda i: png(cropped(i, 0.8)),
    "70 % of the area": lambda i: png(cropped(i, 0.7)),
    "mirrored": lambda i: png(mirrored(i)),
    "turned by 90 degrees": lambda i: png(i.transpose(Image.Transpose.ROTATE_90)),
    "brightness x 1.2": lambda i: png(ImageEnhance.Brightness(i).enhance(1.2)),
    "contrast x 0.8": lambda i: png(ImageEnhance.Contrast(i).enhance(0.8)),
    "grey": lambda i: png(i.convert("L")),
    "mirrored, 80 % of the area, x 0.75, brighter, jpeg 75": lambda i: jpeg(75)(ImageEnhance.Brightness(scaled(cropped(mirrored(i), 0.8), 0.75)).enhance(1.1)),
}
BEYOND: dict[str, Change] = {  # more than the scan promises to bear
    "60 % of the area": lambda i: png(cropped(i, 0.6)),
    "50 % of the area": lambda i: png(cropped(i, 0.5)),
    "turned by 5 degrees": lambda i: png(i.rotate(5, Image.Resampling.BICUBIC)),
    "a frame of a tenth": lambda i: png(framed(i, 0.1)),
    "brightness x 1.8": lambda i: png(ImageEnhance.Brightness(i).enhance(1.8)),
    "negative": lambda i: png(ImageOps.invert(i)),
}


class Bench:
    """One data set on disk: known/ and foreign/, and the hashes of all files seen so far."""

    def __init__(self, data: str, folder: Path, *, most: int, copies: int, foreign: int) -> None:
        self.data, self.folder, self.store = data, folder, Store(folder / "store")
        known, others = _halves(data, most, foreign, self.store)
        self.known = {f"k{i:05d}.png": image for i, image in enumerate(known)}
        for kind, images in (("known", known), ("data", others[:most])):
            (folder / kind).mkdir(parents=True)
            for i, image in enumerate(images):  # known files carry the mark, as a generator's do
                bytes_ = codec.encode_png(_pixels(image)) if kind == "known" else png(image)
                (folder / kind / f"{'k' if kind == 'known' else 'f'}{i:05d}.png").write_bytes(bytes_)
        self.more = others[most:]
        rows = np.random.default_rng(seed_of("copies", data)).permutation(len(known))[:copies]
        self.copied = [f"k{i:05d}.png" for i in sorted(rows.tolist())]
        self._hashes: dict[Path, np.ndarray] = {}

    def row(self, change: str) -> dict[str, Any]:
        """Scan the foreign images with the copies of one change among them."""
        data = self.folder / "data"
        names = {} if change == NO_COPIES else {f"copy of {name}": name for name in self.copied}
        added = {name: (CHANGES | BEYOND)[change](self.known[source]) for name, source in names.items()}
        if change == NO_COPIES:
            added = {f"g{i:05d}.png": png(image) for i, image in enumerate(self.more)}
        for name, bytes_ in added.items():
            (data / name).write_bytes(bytes_)
        try:
            found = mi.scan(data, known=[self.folder / "known"], stored=False, store=self.store)
            by = {v.name: v for v in found.verdicts}
            false = [(v.name, v.copy_of, v.by, v.residual, v.expected) for v in found.verdicts if v.verdict != "clean" and v.name not in names]
            mine = [by[name] for name in names]
            row = {
                "n_known": len(self.known), "n_foreign": len(by) - len(names), "n_copies": len(names), "found": sum(v.verdict == "copy" for v in mine),
                "traced": sum(v.copy_of == names[v.name] for v in mine), "false": len(false), "false_alarms": false,
            }  # fmt: skip
            row["missed"] = [names[v.name] for v in mine if v.copy_of != names[v.name]]
            return row | {"phash": self._phash(names, len(false)) if imagehash else "imagehash is not installed"}
        finally:
            for name in added:
                (data / name).unlink()

    def _phash(self, names: dict[str, str], false: int) -> dict[str, Any]:
        known = self._hashed(sorted((self.folder / "known").iterdir()))
        foreign = _nearest(self._hashed(sorted(f for f in (self.folder / "data").iterdir() if f.name not in names)), known)
        copies = _nearest(self._hashed([self.folder / "data" / name for name in names], keep=False), known) if names else np.empty(0, dtype=np.int64)
        within = [bits for bits in range(65) if (foreign <= bits).sum() <= false]
        row = {"found": int((copies <= BITS).sum()), "false": int((foreign <= BITS).sum())}
        return row | {"bits_same": max(within, default=None), "found_same": int((copies <= max(within)).sum()) if within else 0}

    def _hashed(self, files: list[Path], *, keep: bool = True) -> np.ndarray:
        """bool [n, 64]."""
        fresh = {f: _hash(f) for f in files if f not in self._hashes}
        if keep:
            self._hashes |= fresh
        return np.stack([self._hashes[f] if f in self._hashes else fresh[f] for f in files])


def pace(n: int, folder: Path) -> dict[str, Any]:
    """Seconds to scan n images against n known ones, first and again, and what the hash takes."""
    images, _ = load(Path(os.environ["MITATE_DATA"]), "fashion_mnist")
    images = [images[i] for i in np.random.default_rng(0).permutation(len(images))[: 2 * n]]
    for kind, part in (("known", images[:n]), ("data", images[n:])):
        (folder / kind).mkdir(parents=True)
        for i, pixels in enumerate(part):
            (folder / kind / f"{i:05d}.png").write_bytes(png(codec.to_image(pixels)))
    store, row = Store(folder / "store"), {"images": len(images) - n, "known": n}
    for when in ("first", "again"):
        started = time.perf_counter()
        found = mi.scan(folder / "data", known=[folder / "known"], stored=False, store=store)
        row[when] = round(time.perf_counter() - started, 1)
    row["found"] = len(found.found)
    if imagehash:
        started = time.perf_counter()
        hashes = [np.stack([_hash(f) for f in sorted((folder / kind).iterdir())]) for kind in ("data", "known")]
        near = _nearest(*hashes)
        row |= {"phash": round(time.perf_counter() - started, 1), "phash_found": int((near <= BITS).sum())}
    return row


def summary(rows: list[dict[str, Any]]) -> None:
    """Print the tables of docs/scan.md."""
    mine = [r for r in rows if "n_known" in r]
    hashed = [r for r in mine if isinstance(r["phash"], dict)]
    print("| Change | found and traced, % | phash within 10 bits | phash at as few false alarms |\n|---|---|---|---|")
    for change in CHANGES | BEYOND:
        here = [r for r in mine if r["change"] == change]
        if not here:
            continue
        theirs = [r for r in hashed if r["change"] == change]
        n = sum(r["n_copies"] for r in theirs)
        peer = [_share(sum(r["phash"][key] for r in theirs), n) for key in ("found", "found_same")] if n else ["not installed"] * 2
        print(f"| {change} | {_share(sum(r['traced'] for r in here), sum(r['n_copies'] for r in here))} | {' | '.join(peer)} |")
    print("\n| Images | known | foreign | false alarms, % | with copies among them | found and traced, all changes, % | phash: false alarms, % | found |")
    print("|---|---|---|---|---|---|---|---|")
    for data in dict.fromkeys(r["data"] for r in mine):
        here = [r for r in mine if r["data"] == data and r["change"] not in BEYOND]
        clean = next((r for r in here if r["change"] == NO_COPIES), None)
        if clean is None:
            continue
        most = max((r["false"] for r in here if r["n_copies"]), default=0)
        n = sum(r["n_copies"] for r in here)
        peer = (
            [_share(clean["phash"]["false"], clean["n_foreign"]), f"{100 * sum(r['phash']['found'] for r in here) / max(n, 1):.0f}"]
            if clean in hashed
            else ["", ""]
        )
        traced = f"{100 * sum(r['traced'] for r in here) / max(n, 1):.0f}"
        false = f"{_share(clean['false'], clean['n_foreign'])} | at most {most}"
        print(f"| {data} | {clean['n_known']} | {clean['n_foreign']} | {false} | {traced} | {' | '.join(peer)} |")
    print("\n| Images | " + " | ".join(CHANGES) + " |\n|---|" + "---|" * len(CHANGES))
    for data in dict.fromkeys(r["data"] for r in mine):
        shares = {r["change"]: f"{100 * r['traced'] / r['n_copies']:.0f}" for r in mine if r["data"] == data and r["n_copies"]}
        print(f"| {data} | " + " | ".join(shares.get(change, "") for change in CHANGES) + " |")
    for row in rows:
        if "first" in row:
            print(f"\n{row}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS))
    options.add_argument("--beyond", default="coffee_leaf,grocery_fruit,cifar10", help="sets on which changes beyond the promise are tried")
    options.add_argument("--most", type=int, default=200, help="known images")
    options.add_argument("--copies", type=int, default=80)
    options.add_argument("--foreign", type=int, default=600, help="foreign images of the row without copies; the other rows have at most --most")
    options.add_argument("--pace", type=int, default=0, help="images and known images of the row that tells seconds; 0: no such row")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scan_quality.jsonl")
    options.add_argument("--summary", action="store_true")
    given = options.parse_args()
    if not given.summary:
        for data in given.sets.split(","):
            with tempfile.TemporaryDirectory() as folder:
                bench: list[Bench] = []

                def row(change: str, data: str = data, folder: str = folder, bench: list[Bench] = bench) -> dict[str, Any]:
                    if not bench:
                        bench.append(Bench(data, Path(folder) / "bench", most=given.most, copies=given.copies, foreign=given.foreign))
                    return {"data": data, "change": change, "most": given.most} | bench[0].row(change)

                names = [
                    {"data": data, "change": change, "most": given.most}
                    for change in (NO_COPIES, *CHANGES, *(BEYOND if data in given.beyond.split(",") else ()))
                ]
                jobs = [(name, lambda name=name: row(name["change"])) for name in names]
                cells.fill(given.out, jobs, tell=lambda _, r: f"{r['data']}, {r['change']}: {r['traced']} of {r['n_copies']}, {r['false']} false, {r['phash']}")
        if given.pace:
            folder = Path(tempfile.mkdtemp())
            job = ({"pace": given.pace}, lambda: {"pace": given.pace} | pace(given.pace, folder))
            cells.fill(given.out, [job], tell=lambda _, r: str(r))
            shutil.rmtree(folder)
    summary(cells.read(given.out))


def _halves(data: str, most: int, foreign: int, store: Store) -> tuple[list[Image.Image], list[Image.Image]]:
    """Known images, at most `most`, and foreign ones, at most `foreign`."""
    root = Path(os.environ["MITATE_DATA"])
    rng = np.random.default_rng(seed_of("scan", "halves", data))
    if data == "vae_leaves":
        vae = mi.fit(mi.VAE(steps=600), mi.open_images(root / "coffee_leaf" / "train"), seed=0, size=32, store=store)
        fakes, held = mi.generate(vae, per_class=most // 5, seed=0, store=store), mi.open_images(root / "coffee_leaf" / "test")
        x, y = fakes.pixels(size=32, channels=3), held.pixels(size=32, channels=3)
        return [codec.to_image(p) for p in x], [codec.to_image(p) for p in y[rng.permutation(len(y))[:foreign]]]
    images, _ = load(root, data)
    order = rng.permutation(len(images))
    known, others = order[: len(order) // 2][:most], order[len(order) // 2 :][:foreign]
    return [codec.to_image(images[i]) for i in known], [codec.to_image(images[i]) for i in others]


def _hash(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return imagehash.phash(image).hash.ravel()


def _nearest(ours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bits between each of ours and the nearest known one, int64 [n]."""
    a, b = ours.astype(np.float32), known.astype(np.float32)
    return np.concatenate([(p.sum(1)[:, None] + b.sum(1) - 2 * p @ b.T).min(axis=1) for p in np.array_split(a, len(a) // 1000 + 1)]).round().astype(np.int64)


def _pixels(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _share(hits: int, n: int) -> str:
    found = wilson(hits, n)
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


if __name__ == "__main__":
    main()
