"""Damaged and hostile files at every door: whatever a reader is given, it reads it or raises a MitateError, in little time and memory.

    python benchmarks/fuzz_readers.py [--seconds 10] [--readers npz,plan] [--seed 0] [--save] [--keep FOLDER]

For each reader a small valid file is made, then changed (fuzz_changes.py): bits flipped, cut, spliced, and values, keys and cells replaced by hostile ones
where the file has a structure (JSON, JSON lines, TOML, CSV, the header of safetensors, the members of a zip, what a gzip holds). Coverage guides: an input that
takes a step through mitate's code that none took before is kept and changed further (fuzz_guidance.py). It begins with the inputs in tests/corpus/READER/, and
--save writes there what reaches as much with small files. A finding is another exception than MitateError, a process that ended or is stuck, more than
LIMIT_SECONDS or LIMIT_MB. Each reader runs in a process of its own (a fork) and prints one JSON line. Exit code 1: findings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_changes import changed  # noqa: E402
from fuzz_guidance import ROOT, Reached, Step, chosen  # noqa: E402
from fuzz_models import MODELS  # noqa: E402
from fuzz_places import SETS, Place  # noqa: E402
from fuzz_records import RECORDS  # noqa: E402

PLACES: dict[str, Place] = {**SETS, **MODELS, **RECORDS}
CORPUS = Path(__file__).parent.parent / "tests" / "corpus"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files cost nothing
LIMIT_SECONDS = 3.0  # of a processor
LIMIT_MB = 1600  # above what the process had before: a picture of 100 megapixels, as large as is allowed, takes about 1,300
WARM = ("denoiser", "unet", "vilt", "blip", "captioner", "text-model")  # the first of each library and kind
STUCK = 120.0  # seconds
MOST_BYTES = 200_000  # of an input that is changed further


def main() -> None:
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--seconds", type=float, default=10.0, help="of each reader")
    ask.add_argument("--readers", default=",".join(PLACES))
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--save", action="store_true", help="write the inputs that reach something of their own into tests/corpus")
    ask.add_argument("--keep", type=Path, help="write the smallest file of each finding there")
    given = ask.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # is read as Python starts
        sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode)
    names = given.readers.split(",")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as warm:
        for name in WARM if any(name in MODELS for name in names) else ():
            PLACES[name].make(Path(warm) / name)[1]()  # what takes seconds to import is imported once, and each process begins with it
    found = [watched(name, given.seconds, given.seed, save=given.save, keep=given.keep) for name in names]
    sys.exit(1 if any(line["findings"] for line in found) else 0)


def watched(name: str, seconds: float, seed: int, *, save: bool, keep: Path | None) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, print its line and return it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as place:
        log = Path(place) / "log"
        log.mkdir()
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            _inside(name, Path(place), seconds=seconds, seed=seed, log=log)
        code = _ended(process, log / "last")
        findings = [json.loads(path.read_text()) for path in sorted(log.glob("*.json"))]
        told = json.loads((log / "told").read_text()) if (log / "told").exists() else {"runs": 0}
        if not (log / "done").exists():
            tail = (log / "err").read_text(errors="replace").strip().splitlines()[-12:]
            findings.append({"what": f"the process ended with exit code {code}", "where": _placeless(" | ".join(tail))[-800:], "times": 1, "file": "last"})
        elif save:
            shutil.rmtree(CORPUS / name, ignore_errors=True)
            if any((log / "corpus").iterdir()):
                shutil.copytree(log / "corpus", CORPUS / name)
        if keep is not None and findings:
            shutil.copytree(log, keep / name, dirs_exist_ok=True)
        kept = len(list((log / "corpus").iterdir())) if (log / "corpus").exists() else 0
        line = {"what": "fuzz", "reader": name, **told, "seconds": seconds, "seed": seed, "guided": "coverage of mitate", "kept": kept, "findings": findings}
        print(json.dumps(line), flush=True)
        return line


def _ended(process: int, last: Path) -> int:
    """The exit code of a reader's process; one that has read a single input for STUCK seconds is killed, and that input is its last."""
    while (told := os.waitpid(process, os.WNOHANG)) == (0, 0):
        time.sleep(0.2)
        if last.exists() and time.time() - last.stat().st_mtime > STUCK:
            os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(told[1])


def _inside(name: str, place: Path, *, seconds: float, seed: int, log: Path) -> NoReturn:
    """The process of one reader: it works in its own place, says nothing, and ends here."""
    code = 1
    try:
        os.chdir(place)
        os.environ["MITATE_HOME"], tempfile.tempdir = str(place / "store"), str(place)
        with open(log / "err", "w") as err:
            os.dup2(err.fileno(), 1)
            os.dup2(err.fileno(), 2)
        fuzz(name, seconds=seconds, seed=seed, log=log)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def fuzz(name: str, *, seconds: float, seed: int, log: Path) -> None:
    """Change the file of a reader for so many seconds; findings go to `log`, a JSON file each, beside the smallest file that makes them, and inputs that
    reach something of their own to `log`/corpus."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))  # below that of `watched`
    place = PLACES[name]
    try:
        file, read = place.make(folder)
        valid = file.read_bytes()
        read()  # the valid file is read; a reader that refuses it would test nothing
        judge, chance = Judge(file, read, log), random.Random(seed)
        known = set.union(*(judge(valid) for _ in range(3)))  # what is done once, like imports, is no news
        words, steps = judge.reached.words, dict[bytes, set[Step]]()
        reached, began = set(known), time.monotonic()
        for data in (kept := corpus(name)):
            reached |= steps.setdefault(data, judge(data))
        pool = [valid, *kept]
        while time.monotonic() - began < seconds:
            data = changed(pool[-1 - int(len(pool) * chance.random() ** 2)], place.form, chance, words)
            took = judge(data)
            if not took <= reached and len(data) < MOST_BYTES:
                reached |= took
                steps[data] = took
                pool.append(data)
        places = (str(folder.parent).encode(), ROOT.encode())
        own = [data for data in pool[1:] if not any(place in data for place in places)]  # a path of this machine is for nobody else
        told = {"runs": judge.runs, "steps": len(reached), "steps_of_valid": len(known)}
        judge.log = log / "shrinking"  # what is found there is no finding of a change
        judge.log.mkdir()
        (log / "corpus").mkdir()
        for data in chosen(own, lambda data: steps.get(data) or judge(data), known=known, seconds=seconds / 4):
            (log / "corpus" / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
        (log / "told").write_text(json.dumps(told))
        (log / "done").touch()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a reader."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] if (CORPUS / name).is_dir() else []


class Judge:
    """One changed file after another, each read and judged; each call gives the steps that it took through mitate's code."""

    def __init__(self, file: Path, read: Callable[[], Any], log: Path) -> None:
        self.file, self.read, self.log, self.reached = file, read, log, Reached()
        self.runs, self.found = 0, dict[str, dict[str, Any]]()
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def __call__(self, data: bytes) -> set[Step]:
        from mitate.errors import MitateError

        self.runs += 1
        self.file.write_bytes(data)
        (self.log / "last").write_bytes(data)
        began = time.process_time()
        try:
            self.reached.of(self.read)
        except MitateError as wrong:
            if "\n" in wrong.message or not wrong.fix:
                self._finding("an error of several lines", wrong.message[:200], data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as wrong:
            frames = [f for f in traceback.extract_tb(wrong.__traceback__) if "mitate" in f.filename.split(os.sep)]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            self._finding(f"{type(wrong).__name__}: {str(wrong)[:160]}", where, data, key=f"{type(wrong).__name__} {where}")
        if time.process_time() - began > LIMIT_SECONDS and (took := self._alone()) > LIMIT_SECONDS:
            self._finding(f"took {took:.1f} s", "", data, key="slow")
        if (more := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) // 1024) > LIMIT_MB:
            self._finding(f"took {more} MB", "", data, key="memory")
            self.before += more * 1024
        if self.runs % 20 == 0:
            (self.log / "told").write_text(json.dumps({"runs": self.runs}))
        return self.reached.last

    def _alone(self) -> float:
        """Seconds of the same without the guidance, which slows it down."""
        began = time.process_time()
        with contextlib.suppress(Exception):
            self.read()
        return time.process_time() - began

    def _finding(self, what: str, where: str, data: bytes, *, key: str = "") -> None:
        key = key or what
        old = self.found.get(key)
        if old is None or len(data) < old["bytes"]:
            name = re.sub(r"\W+", "-", key)[:60]
            self.found[key] = {"what": _placeless(what), "where": where, "bytes": len(data), "times": (old or {"times": 0})["times"], "file": name}
            (self.log / f"{name}.bin").write_bytes(data)
        self.found[key]["times"] += 1
        (self.log / f"{self.found[key]['file']}.json").write_text(json.dumps(self.found[key]))


def _placeless(text: str) -> str:
    """Without the folders of this machine."""
    return re.sub(r"/[^\s'\"]*/", "", text)


if __name__ == "__main__":
    main()
