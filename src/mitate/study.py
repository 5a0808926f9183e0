"""Noun 6, Study of Jobs, and Run: a question with its plan, and the folder with its answer.

A Job asks for one result of the store: a verb, its settings, and which results go in. Its digest follows from the digests of its
inputs, so a whole plan can be named before anything has run. A Run folder is for people and is readable without the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitate.errors import DataError
from mitate.settings import digest, parsed, plain
from mitate.store import Asked


@dataclass(frozen=True, eq=False)
class Job:
    """One result to be had. `inputs` maps a role to the job (or stored digest) that plays it."""

    name: str  # for people: small/r1/bridged+++augment/diffusion
    verb: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, Job | str] = field(default_factory=dict)
    estimate: float = 0.0  # seconds of one worker

    @property
    def asked(self) -> Asked:
        names = {role: job if isinstance(job, str) else job.digest for role, job in self.inputs.items()}
        return Asked(self.verb, self.version, plain(self.settings), names)

    @property
    def digest(self) -> str:
        found = self.__dict__.get("_digest")
        if found is None:
            found = self.asked.digest
            object.__setattr__(self, "_digest", found)
        return found


@dataclass(frozen=True)
class Study:
    """A question and everything fixed before it is answered. `study.json` is this record."""

    kind: str  # a row of the registry
    plan: Mapping[str, Any]  # what the user asked for
    data: Mapping[str, Any]  # the splits: digests, counts, findings
    sizes: Mapping[str, Any]  # integers fixed once: steps, images, replicates
    gates: tuple[Mapping[str, Any], ...]  # written down before the run
    detectable: Mapping[str, Any]  # the smallest gain it can show, from planning values
    estimates: Mapping[str, float] = field(default_factory=dict)  # seconds, from the probe; for progress and cost only

    @property
    def digest(self) -> str:
        """Name of the question: everything but the estimates."""
        return digest("mitate.study", {k: v for k, v in plain(self).items() if k != "estimates"})


# kind of study to the file its answer is written to, last
ANSWERS = {"pilot": "decision.json", "volume": "volume.json", "compare": "compare.json", "skills": "skills.json"}


@dataclass(frozen=True)
class Run:
    """A folder with an answer: study.json machine.json jobs.jsonl scores.jsonl samples/ report.html, and the answer's own file (ANSWERS)."""

    folder: Path

    @property
    def study(self) -> Study:
        """The study of this run; DataError when the folder holds none."""
        facts = self.read("study.json")
        try:
            study = Study(facts["kind"], facts["plan"], facts["data"], facts["sizes"], tuple(facts["gates"]), facts["detectable"], facts["estimates"])
            _ = study.digest
            return study
        except (KeyError, TypeError, ValueError) as wrong:
            raise DataError(f"{self.folder}/study.json is not a study ({wrong}).", fix="choose another folder with --out") from wrong

    @property
    def decision(self) -> dict[str, Any]:
        """The answer: verdict, reason, arms, gates, cost. DataError while there is none."""
        return self.read("decision.json")

    @property
    def answer_file(self) -> Path:
        """Where the answer of this kind of study is, or will be."""
        facts = self.read("study.json") if (self.folder / "study.json").is_file() else {}
        kind = facts.get("kind") if isinstance(facts, dict) else None
        return self.folder / ANSWERS.get(str(kind), ANSWERS["pilot"])

    @property
    def answer(self) -> dict[str, Any]:
        """The answer of a study of any kind: a pilot's decision, a volume study's verdicts. DataError while there is none."""
        return self.read(self.answer_file.name)

    @property
    def finished(self) -> bool:
        """Whether the answer in the folder is that of the study in the folder."""
        if not (self.folder / "study.json").is_file() or not self.answer_file.is_file():
            return False
        return self.answer.get("study") == self.study.digest

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        try:
            found = parsed((self.folder / name).read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no record")
            return found
        except FileNotFoundError as wrong:
            raise DataError(f"{self.folder} has no {name}.", fix="give a run folder; if its run was interrupted, give its command again") from wrong
        except (OSError, ValueError) as wrong:
            raise DataError(f"{self.folder / name} cannot be read ({wrong}).", fix="run the same command again with another --out") from wrong
