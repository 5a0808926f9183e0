"""The audit folder of a run: digests that a third party can re-check without mitate and without the store.

runs/leaves/audit/
  SHA256SUMS                    of every file of the run; `sha256sum -c audit/SHA256SUMS` in the run folder
  study.json  jobs/  splits/    the bytes that the digests of the study, its jobs and its splits are made of
  README.md                     how to check them, with sha256sum only
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mitate.errors import DataError
from mitate.files import disk_errors, file_digest, write_text
from mitate.report.template import read_from
from mitate.settings import canonical, digest, parsed
from mitate.study import Run

SUMS = "SHA256SUMS"


def write_audit(run_folder: Path) -> Path:
    """Write `audit/` in a run folder: digests of every file, of the study, its jobs and the images of every split.

    Everything can be checked with sha256sum alone; audit/README.md says how. An audit that is there is replaced whole.
    """
    run = Run(Path(run_folder))
    study = run.read("study.json")
    question = {key: value for key, value in study.items() if key != "estimates"}  # what Study.digest names
    audit, fresh = run.folder / "audit", run.folder / ".audit.partial"
    with disk_errors(run.folder), read_from(run.folder):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        (fresh / "study.json").write_bytes(canonical(question))
        _write_splits(study, fresh / "splits")
        jobs = _write_jobs(run.folder / "jobs.jsonl", fresh / "jobs")
        write_text(fresh / "README.md", _audit_readme(digest("mitate.study", question), jobs))
        files = [p for p in _files(run.folder) if p.relative_to(run.folder).parts[0] not in ("audit", ".audit.partial")]
        write_text(fresh / SUMS, "".join(_sum_line(p, run.folder) for p in files))
        if audit.exists():
            old = run.folder / ".audit.old"
            shutil.rmtree(old, ignore_errors=True)
            os.rename(audit, old)
            os.rename(fresh, audit)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(fresh, audit)
    return audit


def check_audit(run_folder: Path) -> list[str]:
    """What is wrong with a run folder by its audit: files that are missing or changed. Empty where all is well.

    DataError where there is no audit. Files added since (a report in another language) are no fault.
    """
    run_folder = Path(run_folder)
    try:
        lines = (run_folder / "audit" / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as wrong:
        raise DataError(f"{run_folder} has no audit/{SUMS} that can be read.", fix="give the folder of a finished run") from wrong
    wrongs = []
    for line in lines:
        expected, _, name = line.lstrip("\\").partition("  ")
        if line.startswith("\\"):
            name = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        if (found := _digest_of(run_folder, name)) != expected:
            wrongs.append(f"{'changed' if found else 'missing'}: {name}")
    return wrongs


def _digest_of(folder: Path, name: str) -> str:
    """The digest of a file below the folder; "" where there is none, as where a changed list leads out of it."""
    path = folder / name
    try:
        return file_digest(path) if path.resolve().is_relative_to(folder.resolve()) and path.is_file() else ""
    except (OSError, ValueError):
        return ""


def _files(folder: Path) -> list[Path]:
    """Every file below `folder`, sorted; hidden ones are unfinished writes and left out."""
    found = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _sum_line(path: Path, root: Path) -> str:
    """One line as sha256sum writes it: names with a backslash or a line break are escaped and the line starts with one."""
    name = path.relative_to(root).as_posix()
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if name == escaped else chr(92)}{file_digest(path)}  {escaped}\n"


def _write_splits(study: dict[str, Any], folder: Path) -> None:
    """A text file a split: its digest as a comment, then the digest of each image's pixels, sorted."""
    data = study.get("data")
    data = data if isinstance(data, Mapping) else {}
    digests, images = (found if isinstance(found := data.get(key), Mapping) else {} for key in ("digests", "image_digests"))
    for split in sorted({*digests, *images}):
        listed = images.get(split)
        body = sorted(map(str, listed)) if isinstance(listed, list) else ["# the digests of its images were not recorded"]
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in split)[:60]
        head = [f"# split {split}", f"# digest {digests.get(split, 'not recorded')}"]
        write_text(folder / f"{name}.txt", "\n".join([*head, *body]) + "\n")


def _write_jobs(path: Path, folder: Path) -> int:
    """jobs/jobs.tsv (digest, verb, name), and for jobs whose question is recorded the bytes its digest is made of."""
    try:
        jobs = [parsed(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        jobs = []
    except ValueError as wrong:
        raise DataError(f"{path} cannot be read ({wrong}).", fix="run the same command again") from wrong
    rows = []
    for job in jobs:
        name = str(job.get("digest", ""))
        rows.append("\t".join(_cell(job.get(key, "")) for key in ("digest", "verb", "name")))
        asked = {key: job[key] for key in ("verb", "version", "settings", "inputs") if key in job}
        if len(asked) == 4 and digest("mitate.asked", asked) == name:
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.json").write_bytes(canonical(asked))
    write_text(folder / "jobs.tsv", "\n".join(["digest\tverb\tname", *rows]) + "\n")
    return len(rows)


def _cell(value: Any) -> str:
    """Text for a table: no tab or line end, and nothing that a spreadsheet would compute."""
    text = re.sub(r"\s", " ", str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _audit_readme(study: str, jobs: int) -> str:
    return f"""# Audit

This folder lets anybody check the run without mitate and without its store. All that is needed is `sha256sum`.
Give the commands in the run folder, the one above this.

1. No file was changed after the audit was written:

       sha256sum --quiet -c audit/{SUMS}

   A file that is listed nowhere was added later. `sha256sum audit/{SUMS}` names the whole folder in one line: keep that line
   somewhere else, and the folder can no longer be changed unseen.

2. The question is the one that was fixed before the first job. The digest of this study is
   `{study}`:

       (printf 'mitate.study\\0'; cat audit/study.json) | sha256sum

   `audit/study.json` holds the values of `study.json` (but for the estimates of time) in canonical form: sorted keys, no spaces.

3. The {jobs} finished jobs are listed in `audit/jobs/jobs.tsv`. Where a job's question was recorded, its digest is

       (printf 'mitate.asked\\0'; cat audit/jobs/DIGEST.json) | sha256sum

   A question names the digests of its inputs, so the chain can be followed from a score back to the images.

4. `audit/splits/` lists the images of each split by the digest of their pixels: the first 32 hex characters of the SHA-256 of
   "height,width,channels", a zero byte, and the pixels as 8-bit rows. No line may be in two splits:

       cat audit/splits/*.txt | grep -v '^#' | sort | uniq -d

   prints nothing when no picture is in two splits (or twice in one).
"""
