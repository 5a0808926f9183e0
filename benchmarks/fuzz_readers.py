"""Damaged and hostile files at every door: whatever a reader is given, it reads it or raises a MitateError, in little time and memory.

    python benchmarks/fuzz_readers.py [--seconds 10] [--readers npz,plan] [--seed 0] [--keep FOLDER]

For each reader a small valid file is made, then changed: bits flipped, cut, spliced, and values, keys and cells replaced by hostile ones where the file has a
structure (JSON, JSON lines, TOML, CSV, the header of safetensors, the members of a zip, what a gzip holds). Inputs that reach new code are kept and changed
further where `atheris` is installed; without it every change starts from the valid file or from one of the last changed. A finding is another exception than
MitateError, an ended process, more than LIMIT_SECONDS or LIMIT_MB. Each reader runs in a process of its own and prints one JSON line. Exit code 1: findings.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_places import PLACES  # noqa: E402

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files cost nothing
LIMIT_SECONDS = 3.0  # of a processor
LIMIT_MB = 1600  # above what the process had before: a picture of 100 megapixels, as large as is allowed, takes about 1,300
RAW = {  # what JSON can hold and no Python value is written as
    "huge": "1" + "0" * 400, "long": "9" * 5000, "over": "1e400", "nan": "NaN", "inf": "-Infinity", "half": '"\\ud800"', "deep": "[" * 20_000,
    "deeper": '{"a":' * 20_000, "nul": '"a\\u0000b"',
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**70), 1e308, "", " ", "a", "\x1b[2J", "\u202eabc", "../../etc/passwd", "/etc/passwd", "C:\\x", "x" * 5000,
    "=cmd()", "<script>", [], {}, [[]], [None], {"": None}, {"a": 1}, [1, "a", None], "nan", "1e999", "-1", "\n", "NUL", *(f"@@{name}@@" for name in RAW),
)  # fmt: skip
WORDS = (
    "",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    "=",
    ",",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "true",
    "\x00",
    "\x1b[2J",
    "\u202e",
    "../..",
    "#",
    "9" * 5000,
    "[" * 3000,
    "\\u0000",
)


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--seconds", type=float, default=10.0, help="of each reader")
    ask.add_argument("--readers", default=",".join(PLACES))
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--keep", type=Path, help="write the smallest file of each finding there")
    ask.add_argument("--one", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.one:
        fuzz(given.one, seconds=given.seconds, seed=given.seed, log=Path(given.readers))
        return
    found = [watched(name, given.seconds, given.seed, given.keep) for name in given.readers.split(",")]
    sys.exit(1 if any(line["findings"] for line in found) else 0)


def watched(name: str, seconds: float, seed: int, keep: Path | None) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, print its line and return it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as place:
        log = Path(place) / "log"
        log.mkdir()
        command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), "--seed", str(seed), "--readers", str(log)]
        environment = {**os.environ, "MITATE_HOME": str(Path(place) / "store"), "PYTHONHASHSEED": "0"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place, check=False, errors="replace")
        findings = [json.loads(path.read_text()) for path in sorted(log.glob("*.json"))]
        runs = int((log / "runs").read_text()) if (log / "runs").exists() else 0
        if not (log / "done").exists():
            tail = ended.stderr.strip().splitlines()[-12:]
            findings.append({"what": f"the process ended with exit code {ended.returncode}", "where": " | ".join(tail)[-800:], "times": 1, "file": "last"})
        if keep is not None and findings:
            shutil.copytree(log, keep / name, dirs_exist_ok=True)
        line = {"what": "fuzz", "reader": name, "runs": runs, "seconds": seconds, "seed": seed, "guided": (log / "guided").exists(), "findings": findings}
        print(json.dumps(line), flush=True)
        return line


def fuzz(name: str, *, seconds: float, seed: int, log: Path) -> None:
    """Change the file of a reader for so many seconds; findings go to `log`, a JSON file each, beside the smallest file that makes them."""
    try:
        import atheris
    except ImportError:
        atheris = None
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=MEMORY))
    place = PLACES[name]
    try:
        if atheris is None:
            file, read = place.make(folder)
        else:
            with atheris.instrument_imports(include=["mitate"]):
                file, read = place.make(folder)
        valid = file.read_bytes()
        read()  # the valid file is read; a reader that refuses it would test nothing
        one = _Judge(file, read, log)
        chance, began = random.Random(seed), time.monotonic()
        if atheris is None:
            last = [valid]
            while time.monotonic() - began < seconds:
                data = changed(chance.choice([valid, *last]), place.form, chance)
                one(data)
                last = [*last[-20:], data[:200_000]]
        else:
            (log / "guided").touch()
            (corpus := folder.parent / f"{folder.name}-corpus").mkdir()
            (corpus / "valid").write_bytes(valid)

            def mutate(data: bytes, most: int, number: int) -> bytes:
                own = random.Random(number)
                return changed(data, place.form, own)[:most] if own.random() < 0.6 else atheris.Mutate(data, most)

            words = [sys.argv[0], str(corpus), f"-max_total_time={int(seconds)}", "-max_len=100000", "-rss_limit_mb=6000", "-timeout=60", f"-seed={seed + 1}"]
            atheris.Setup([*words, "-verbosity=0"], lambda data: one(bytes(data), ends=began + seconds), custom_mutator=mutate)
            atheris.Fuzz()
        (log / "done").touch()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Judge:
    """One changed file after another, each read and judged."""

    def __init__(self, file: Path, read: Callable[[], Any], log: Path) -> None:
        self.file, self.read, self.log = file, read, log
        self.runs, self.found = 0, dict[str, dict[str, Any]]()
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __call__(self, data: bytes, ends: float = float("inf")) -> None:
        from mitate.errors import MitateError

        self.runs += 1
        self.file.write_bytes(data)
        (self.log / "last").write_bytes(data)
        began = time.process_time()
        try:
            self.read()
        except MitateError as wrong:
            if "\n" in wrong.message or not wrong.fix:
                self._finding("an error of several lines", wrong.message[:200], data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as wrong:
            frames = [f for f in traceback.extract_tb(wrong.__traceback__) if "mitate" in f.filename.split(os.sep)]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            self._finding(f"{type(wrong).__name__}: {str(wrong)[:160]}", where, data, key=f"{type(wrong).__name__} {where}")
        if (took := time.process_time() - began) > LIMIT_SECONDS:
            self._finding(f"took {took:.1f} s", "", data, key="slow")
        if (more := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) // 1024) > LIMIT_MB:
            self._finding(f"took {more} MB", "", data, key="memory")
            self.before += more * 1024
        if self.runs % 20 == 0:
            (self.log / "runs").write_text(str(self.runs))
        if time.monotonic() > ends:
            (self.log / "done").touch()
            os._exit(0)

    def _finding(self, what: str, where: str, data: bytes, *, key: str = "") -> None:
        key = key or what
        old = self.found.get(key)
        if old is None or len(data) < old["bytes"]:
            name = re.sub(r"\W+", "-", key)[:60]
            self.found[key] = {"what": what, "where": where, "bytes": len(data), "times": (old or {"times": 0})["times"], "file": name}
            (self.log / f"{name}.bin").write_bytes(data)
        self.found[key]["times"] += 1
        (self.log / f"{self.found[key]['file']}.json").write_text(json.dumps(self.found[key]))


# changes --------------------------------------------------------------------------------------------------------------


def changed(data: bytes, form: str, chance: random.Random) -> bytes:
    """The file, changed once to four times: mostly as its form is, sometimes blindly."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        try:
            data = FORMS[form](data, chance) if form in FORMS and chance.random() < 0.75 else of_bytes(data, chance)
        except Exception:  # the form is broken already
            data = of_bytes(data, chance)
    return data


def of_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bits flipped, cut, a part repeated, moved or overwritten."""
    if not data:
        return bytes(chance.randrange(256) for _ in range(8))
    at, size = chance.randrange(len(data)), chance.choice((1, 2, 4, 8, 64, 1024))
    other = chance.randrange(len(data))
    return chance.choice((
        lambda: data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :],
        lambda: data[:at],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at] + data[other : other + size] + data[at:],
        lambda: data[:at] + chance.choice((b"\xff", b"\x00")) * min(size, 8) + data[at + min(size, 8) :],
        lambda: data[:at] + chance.choice((b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00" * 8, b"\x00\x00\x00\x80")) + data[at + 4 :],
        lambda: data[:at] + chance.choice(WORDS).encode("utf-8", "surrogatepass") + data[at:],
    ))()  # fmt: skip


def of_json(data: bytes, chance: random.Random) -> bytes:
    """One value, key or item of a JSON document replaced, left out or doubled."""
    return _written(_node_changed(json.loads(data), chance))


def of_lines(data: bytes, chance: random.Random) -> bytes:
    """One line of JSON lines changed, doubled or moved."""
    lines = data.split(b"\n")
    at = chance.randrange(max(1, len(lines) - 1))
    if chance.random() < 0.15:
        return b"\n".join([*lines[:at], lines[at], *lines[at:]])
    return b"\n".join([*lines[:at], of_json(lines[at], chance), *lines[at + 1 :]])


def of_words(data: bytes, chance: random.Random) -> bytes:
    """One word or sign of a text replaced (TOML, CSV)."""
    parts = re.findall(r"\w+|\s+|[^\w\s]", data.decode("utf-8", "replace"))
    parts[chance.randrange(len(parts))] = chance.choice((*WORDS, chance.choice(parts)))
    return "".join(parts).encode("utf-8", "surrogatepass")


def of_safetensors(data: bytes, chance: random.Random) -> bytes:
    """The header, as JSON; its length told rightly, or not."""
    size = int.from_bytes(data[:8], "little")
    header = of_json(data[8 : 8 + size], chance)
    told = len(header) if chance.random() < 0.95 else chance.choice((0, 2**63, len(header) + 8, 100_000_001))
    return told.to_bytes(8, "little") + header + data[8 + size :]


def of_zip(data: bytes, chance: random.Random) -> bytes:
    """One member of a zip changed and packed again, or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        one = chance.choice(names)
        for name in names:
            if name == one and chance.random() < 0.1:
                continue
            inner = old.open(name).read(1 << 17)
            new.writestr(name, of_bytes(inner[:128], chance) + inner[128:] if name == one else inner)
    return out.getvalue()


def of_gzip(data: bytes, chance: random.Random) -> bytes:
    return gzip.compress(of_bytes(zlib.decompressobj(31).decompress(data, 1 << 17), chance), 1)


FORMS = {"json": of_json, "lines": of_lines, "words": of_words, "safetensors": of_safetensors, "zip": of_zip, "gzip": of_gzip}


def _node_changed(node: Any, chance: random.Random) -> Any:
    inside = isinstance(node, (dict, list)) and len(node) > 0
    if not inside or chance.random() < 0.12:
        return chance.choice(VALUES)
    if isinstance(node, list):
        at = chance.randrange(len(node))
        kind = chance.random()
        if kind < 0.1:
            return node[:at] + node[at + 1 :]
        if kind < 0.2:
            return [*node, node[at]]
        return [*node[:at], _node_changed(node[at], chance), *node[at + 1 :]]
    key = chance.choice(list(node))
    kind = chance.random()
    if kind < 0.1:
        return {k: v for k, v in node.items() if k != key}
    if kind < 0.2:
        return {(str(chance.choice(VALUES))[:200] if k == key else k): v for k, v in node.items()}
    return {k: (_node_changed(v, chance) if k == key else v) for k, v in node.items()}


def _written(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r'"@@(\w+)@@"', lambda found: RAW.get(found[1], found[0]), text).encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    main()
