"""What very many images take: writing a synthetic set, scanning, assessing and reviewing it, as class folders and as shards. One JSON line a step.

    python benchmarks/large_folders.py [--n 200000] [--steps write,list,scan,known,near,review,export,assess] [--forms folder,webdataset,parquet] \
        >> benchmarks/results/large_folders.jsonl

Pictures of 32 x 32 pixels are drawn from seeds: ten classes of shapes on a shaded ground, with noise; the real and the synthetic ones differ a little. The
synthetic set of n images is written as class folders, tar shards and parquet shards, the real one as class folders, below --place (deleted at the end), and

    write    one form of the synthetic set (the writing alone; before_mb: held before it)
    list     labels and names of a form, no image read
    scan     `mitate scan FORM --no-store`: every image decoded, marks looked for; `again`: the same command, from what is remembered
    known    `mitate scan` of --known-n real images against 200 known ones: copies are sought
    near     near-duplicates among the thumbnails of --near-n images, as a pilot seeks them
    review   start of `mitate review`, the page with its whole set, the first 100 items, a thumbnail, a decision, the figures (one line)
    export   `mitate review --export` of the folder into each form
    assess   `mitate assess` of --assess-n synthetic against as many real images (class folders), for each of --axes

Each step has a process of its own. seconds are those of the clock, cpu_seconds those of the processor (workers too); peak_mb is the most memory that the
process held (VmHWM), with libraries, workers_mb that of its largest worker, where it has any.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES, BLOCK = 32, 10, 1000
FORMS = ("folder", "webdataset", "parquet")
STEPS = ("write", "list", "scan", "known", "near", "review", "export", "assess")


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--n", type=int, default=200_000)
    ask.add_argument("--known-n", type=int, default=2000)
    ask.add_argument("--near-n", type=int, default=20_000)
    ask.add_argument("--assess-n", type=int, default=0, help="images of each set; 0: half of n")
    ask.add_argument("--axes", nargs="*", default=["fidelity,diversity"])
    ask.add_argument("--steps", default=",".join(STEPS))
    ask.add_argument("--forms", default=",".join(FORMS))
    ask.add_argument("--place", type=Path, help="folder to write into; what is there already is used, and nothing is deleted")
    ask.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.child:
        child(given.place, *given.child)
        return
    with contextlib.ExitStack() as stack:
        place = given.place or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="large-folders-")))
        place.mkdir(parents=True, exist_ok=True)
        os.environ["MITATE_HOME"] = str(place / "store")
        for line in steps(place, given):
            print(json.dumps({"what": "large_folders", **line}), flush=True)


def steps(place: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    wanted, forms, n = given.steps.split(","), given.forms.split(","), given.n
    if set(wanted) != {"near"}:
        run(place, "draw", str(n))
    for form in dict.fromkeys(("folder", *forms)) if set(wanted) != {"near"} else ():
        fresh = not (place / form).is_dir()
        found = run(place, "write", form, str(n)) if fresh else {}
        if "write" in wanted and fresh:
            yield row("write", n, found, form=form)
    for form in forms if "list" in wanted else ():
        yield row("list", n, run(place, "list", form), form=form)
    for form in forms if "scan" in wanted else ():
        command = ("scan", str(place / form), "--no-store")
        found, again = run(place, "mitate", *command), run(place, "mitate", *command)
        yield row("scan", n, found, form=form, **{f"again_{name}": again[name] for name in ("seconds", "cpu_seconds", "peak_mb")})
    if "known" in wanted:
        few(place / "real", place / "some", given.known_n)
        few(place / "folder", place / "fakes", 200)
        found = run(place, "mitate", "scan", str(place / "some"), "--known", str(place / "fakes"), "--no-store")
        yield row("known", given.known_n, found, known=200)
    if "near" in wanted:
        yield row("near", given.near_n, run(place, "near", str(given.near_n)))
    if "review" in wanted:
        yield row("review", n, run(place, "review"))
    for form in forms if "export" in wanted else ():
        found = run(place, "mitate", "review", str(place / "folder"), "--export", str(place / f"kept-{form}"), "--format", form)
        shutil.rmtree(place / f"kept-{form}")
        yield row("export", n, found, form=form)
    if "assess" in wanted:
        half = given.assess_n or n // 2
        few(place / "real", place / "real-half", half)
        few(place / "folder", place / "fakes-half", half)
        for axes in given.axes:
            found = run(place, "mitate", "assess", str(place / "fakes-half"), "--real", str(place / "real-half"), "--axes", axes)
            yield row("assess", half, found, axes=axes)


def row(step: str, n: int, found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"step": step, "n": n, **more, **found, "images_a_cpu_second": round(n / max(found["cpu_seconds"], 0.01), 1)}


def run(place: Path, *words: str) -> dict[str, Any]:
    """What a step took, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--place", str(place), "--child", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def few(source: Path, target: Path, n: int) -> None:
    """The first n images of a set of class folders, as a set of links to the same files."""
    shutil.rmtree(target, ignore_errors=True)
    for folder in sorted(p for p in source.iterdir() if p.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[: n // CLASSES]:
            os.link(file, target / folder.name / file.name)


# in a process of its own ----------------------------------------------------------------------------------------------


def child(place: Path, step: str, *words: str) -> None:
    began, cpu = time.perf_counter(), cpu_seconds()
    more = CHILDREN[step](place, *words)
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu, **more}
    found = {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({**found, "peak_mb": round(peak_mb()), **({"workers_mb": round(workers)} if workers > 50 else {})}))


def cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def peak_mb() -> float:
    with open("/proc/self/status") as lines:
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def draw(place: Path, n: str) -> dict[str, Any]:
    """The real set as class folders, and the pixels of the synthetic one in one file; left as they are where they are there."""
    from PIL import Image

    blocks = range(0, int(n), BLOCK)
    if not (place / "real").is_dir():
        for k in range(CLASSES):
            (place / "drawing" / f"class-{k}").mkdir(parents=True)
        for start in blocks:
            for i, pixels in enumerate(pictures(start // BLOCK, real=True)[: int(n) - start], start=start):
                Image.fromarray(pixels).save(place / "drawing" / f"class-{i % CLASSES}" / f"{i:06d}.png", compress_level=1)
        (place / "drawing").rename(place / "real")
    if not (place / "pixels").is_file():
        with open(place / "pixels.part", "wb") as out:
            for start in blocks:
                out.write(pictures(start // BLOCK, real=False).tobytes())
        (place / "pixels.part").rename(place / "pixels")
    return {}


def write(place: Path, form: str, n: str) -> dict[str, Any]:
    from mitate.codec import pixel_digest
    from mitate.images import ImageSet, Provenance
    from mitate.packed import write_shards
    from mitate.sets import write_images

    reader, count = Drawn(place / "pixels"), int(n)
    images = ImageSet(
        name="shapes", classes=tuple(f"class-{k}" for k in range(CLASSES)), labels=tuple(i % CLASSES for i in range(count)), reader=reader,
        digests=tuple(pixel_digest(reader.read(i)) for i in range(count)), names=tuple(map(str, range(count))), split="synthetic",
        provenance=Provenance("shapes", "0" * 64, {}, (), tuple(range(count))),
    )  # fmt: skip
    before, began, cpu = peak_mb(), time.perf_counter(), cpu_seconds()
    folder = write_images(images, place / form) if form == "folder" else write_shards(images, place / form, form=form)
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {**took, "before_mb": round(before), "mb": round(size / 1e6), "files": sum(p.is_file() for p in folder.rglob("*"))}


def list_form(place: Path, form: str) -> dict[str, Any]:
    from mitate.intake.opening import list_source

    assert list_source(place / form).rows
    return {}


def mitate(place: Path, *words: str) -> dict[str, Any]:
    from mitate.cli import app

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app.main(list(words), standalone_mode=False)
    return {}


def near(place: Path, n: str) -> dict[str, Any]:
    from mitate.intake.duplicates import near_duplicates, thumbnail

    thumbs = np.stack([thumbnail(pixels) for block in range(-(-int(n) // BLOCK)) for pixels in pictures(block, real=True)])[: int(n)]
    before, began, cpu = peak_mb(), time.perf_counter(), cpu_seconds()
    pairs = len(near_duplicates(thumbs))
    return {"pairs": pairs, "before_mb": round(before), "seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}


def review(place: Path) -> dict[str, Any]:
    from mitate.curation.review import Review
    from mitate.web.server import Served

    began, took = time.perf_counter(), {}
    (place / "folder" / "ledger.jsonl").unlink(missing_ok=True)
    with Served(Review(place / "folder", by="anna")) as served:
        took["start"] = time.perf_counter() - began

        def ask(path: str, body: dict[str, Any] | None = None) -> bytes:
            since = time.perf_counter()
            to = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)
            headers = {} if body is None else {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{served.port}"}
            to.request("GET" if body is None else "POST", f"/{served.token}/{path}", None if body is None else json.dumps(body), headers)
            answer = to.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            took[path.partition("/")[0] or "page"] = time.perf_counter() - since
            return data

        ask("")
        size = len(ask("set"))
        ask("items/0")
        ask("thumbnail/0")
        ask("decide", {"id": "a", "numbers": list(range(1000)), "decision": "keep"})
        ask("figures")
    return {"set_bytes": size, "parts": {name: round(seconds, 3) for name, seconds in took.items()}}


CHILDREN = {"draw": draw, "write": write, "list": list_form, "mitate": mitate, "near": near, "review": review}


class Drawn:
    """The synthetic pictures, read from their file a block at a time: none of them is held in memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._block, self._pictures = path, -1, np.empty(0)

    def read(self, i: int) -> np.ndarray:
        if i // BLOCK != self._block:
            size = BLOCK * SIDE * SIDE * 3
            self._block = i // BLOCK
            self._pictures = np.fromfile(self._path, np.uint8, size, offset=self._block * size).reshape(BLOCK, SIDE, SIDE, 3)
        return self._pictures[i % BLOCK]


def pictures(block: int, *, real: bool) -> np.ndarray:
    """BLOCK pictures, uint8 [n, SIDE, SIDE, 3]; picture i has class i % CLASSES: five shapes, bright on dark or dark on bright."""
    chance = np.random.default_rng([int(real), block])
    kind = np.arange(BLOCK) % CLASSES
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    x, y = (a[None] - b for a, b in zip((x, y), chance.uniform(-0.4, 0.4, (2, BLOCK, 1, 1)), strict=True))
    size = chance.uniform(0.25, 0.6 if real else 0.55, (BLOCK, 1, 1))
    across, r = np.abs(x) + np.abs(y), np.hypot(x, y)
    shapes = (r < size, np.maximum(np.abs(x), np.abs(y)) < size, across < size, np.abs(r - size) < 0.12, np.minimum(np.abs(x), np.abs(y)) < size / 3)
    mask = np.choose((kind % 5)[:, None, None], shapes)[..., None]
    low, high = chance.uniform(20, 110, (BLOCK, 1, 1, 3)), chance.uniform(140, 235, (BLOCK, 1, 1, 3))
    bright = (kind < 5)[:, None, None, None]
    ground = np.where(bright, low, high) + chance.uniform(-25, 25, (BLOCK, 1, 1, 1)) * x[..., None] + chance.uniform(-25, 25, (BLOCK, 1, 1, 1)) * y[..., None]
    picture = np.where(mask, np.where(bright, high, low), ground) + chance.normal(0, 6 if real else 4, (BLOCK, SIDE, SIDE, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
