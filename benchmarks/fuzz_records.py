"""The doors of what mitate wrote itself and reads again: pools, ledgers, sets, run folders, loops, the store. See fuzz_places.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from fuzz_places import Place, Read, pictures


def _pool(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.prompts.pool import write_prompts

        write_prompts("counting", 8, out=folder / "x.jsonl", source="grammar")
        return folder / name, lambda: write_prompts("counting", 9, out=folder / "x.jsonl", source="grammar")

    return Place(make, form)


def _ledger(folder: Path) -> tuple[Path, Read]:
    from mitate.curation.agreement import agreed, agreements, audited
    from mitate.curation.ledger import Decision, Ledger, Standing
    from mitate.curation.review import Review

    place = pictures(folder / "set", each=2)
    for by in ("anna", "ben", "filter:copies"):
        Ledger(place).append([Decision(f"c{k}/{i}.png", "keep", by, reason="why", score=0.5) for k in (0, 1) for i in (0, 1)])
    Ledger(place).append(
        [Decision("c0/0.png", "relabel", "anna", label="c1"), Decision("c0/0.png", "undo", "anna"), Decision("c1/1.png", "drop", "ben", seed=3)]
    )

    def read() -> None:
        standing = Standing(Ledger(place).read())
        [agreed(standing.of(f)) for f in standing.files()]
        agreements(standing), audited(standing)
        review = Review(place, by="anna", checks=(), audit=0, seed=0)
        [review.item(i) for i in range(len(review))], review.figures(), review.columns()

    return place / "ledger.jsonl", read


def _export(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.curation.export import export
        from mitate.images import Provenance, from_arrays
        from mitate.sets import write_images

        x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
        made = from_arrays(x, [0, 1, 0, 1], classes=("a", "b"), provenance=Provenance("vae", "ab" * 32, {"steps": 3}, ("cd" * 32,), (1, 2, 3, 4)))
        write_images(made, folder / "set")

        def read() -> None:
            import shutil

            shutil.rmtree(folder / "out", ignore_errors=True)
            export(folder / "set", folder / "out", reviewed_only=False)
            write_images(made, folder / "set")

        def unlike() -> None:
            from mitate.errors import SettingError

            try:
                read()
            except SettingError:
                pass

        return folder / "set" / name, unlike

    return Place(make, form)


def _run(name: str, form: str, kind: str = "pilot") -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from make_comparison import make_comparison
        from make_run import make_run
        from mitate.report.audit import check_audit, write_audit
        from mitate.report.html import write_report
        from mitate.studies.compare_card import lines
        from mitate.study import Run

        run = Run(make_comparison(folder / "run") if kind == "compare" else make_run(folder / "run", classes=("a", "b")))
        write_audit(run.folder)

        def read() -> None:
            _ = run.finished
            write_report(run, out=folder / "x.html")
            write_audit(run.folder)
            check_audit(run.folder)
            told(run, lines if kind == "compare" else None)

        return run.folder / name, (lambda: check_audit(run.folder)) if name.startswith("audit") else read

    return Place(make, form)


def told(run: Any, lines: Any) -> None:
    """What the command of a study says of a run that is there."""
    from contextlib import redirect_stdout

    from mitate import cli_runs

    with redirect_stdout(io.StringIO()):
        if lines is not None:
            cli_runs._table(run, lines)
        cli_runs._tell(run, lang="en", exit_code=False)


def _loop(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from dataclasses import replace

        from mitate.loops.chain import roll_back
        from mitate.loops.chains import collapse
        from mitate.loops.grounds import ground_of
        from mitate.loops.loop import Loop
        from mitate.loops.watch import monitor_of, states
        from mitate.report.html import write_report
        from mitate.study import Run

        ground = ground_of("toy", {})
        loop = replace(Loop(), n=16, generations=3)
        collapse(ground, loop, seeds=2, out=folder / "run")
        monitor_of(folder / "run", rate=0.5)
        valid = {p: p.read_bytes() for p in sorted((folder / "run").rglob("*")) if p.is_file()}
        file = folder / "run" / name

        def read() -> None:
            for path, data in valid.items():
                if path != file:
                    path.write_bytes(data)
            monitor = monitor_of(folder / "run", rate=0.5)
            list(states(folder / "run", monitor))
            write_report(Run(folder / "run"), out=folder / "x.html")
            roll_back(folder / "run" / "chain-000", 3)
            collapse(ground, loop, seeds=2, out=folder / "run")

        return file, read

    return Place(make, form)


def _store(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.drawn import known_sets
        from mitate.store import Asked, Store

        store = Store(folder / "store")
        asked = Asked("sample", 1, {"kind": "vae"}, {"a": "ab" * 32})

        def build(into: Path, _: Path) -> dict[str, Any]:
            np.save(into / "x.npy", np.zeros((2, 8, 8, 1), np.uint8)), np.save(into / "y.npy", np.zeros(2, np.int64))
            (into / "facts.json").write_text('{"classes": ["a"], "digests": []}')
            return {"kind": "vae"}

        entry = store.make(asked, build)
        store.keep("name", entry.digest)
        file = store.root / "refs" / "name" if name == "ref" else entry.path(name)

        def read() -> None:
            for found in store.objects():
                store.damage(found)
            store.kept("name"), store.refs(), store.get(asked)
            known_sets(store)

        return file, read

    return Place(make, form)


def _skills(name: str) -> Place:
    """The run folder of a study of skills, made up."""

    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.files import write_json
        from mitate.report.html import write_report
        from mitate.settings import plain
        from mitate.studies.skills_answer import answer, lines
        from mitate.studies.skills_planning import Skills
        from mitate.study import Run, Study

        skills, models = ["counting", "relation"], ["base", "expert:counting", "expert:relation", "merge:mean", "best-of"]
        plan = plain(Skills(skills=tuple(skills), controls=("best-of",), merges=("mean",), replicates=2))
        study = Study("skills", plan, {"findings": []}, {"models": models}, (), {}, {})
        chance = np.random.default_rng(0)
        right = {model: {skill: chance.integers(0, 2, (2, 4)).tolist() for skill in skills} for model in models}
        micro = {model: dict.fromkeys(skills, [0.5, 0.75]) for model in models}
        tried = [{"weights": [0.5, 0.5], "score": 0.25}, {"weights": [0.75, 0.25], "score": 0.5}]
        found = {
            **answer(study, right, right, micro),
            "searches": [{"replicate": 0, "weights": {"counting": 0.75, "relation": 0.25}, "score": 0.5, "tried": tried, "prompts": 2, "judge": "oracle"}],
            "yields": [{"skill": "counting", "kept": 3, "painted": 6, "sentences": 6, "vendi": 2.0, "vendi_by_chance": 2.5}],
            "interference": [{"cosine": 0.1, "conflict": 0.4, "cancelled": None}],
            "trained": [{"model": "expert:counting", "pictures": 3, "steps": 4, "best_step": 4, "selection": True, "parameters": 1000}],
            "cost": {"machine_seconds": 3.0, "wall_seconds": 2.0, "reused_seconds": 0.0},
        }
        write_json(folder / "run" / "study.json", study)
        write_json(folder / "run" / "skills.json", found)
        run = Run(folder / "run")

        def read() -> None:
            _ = run.finished
            write_report(run, out=folder / "x.html")
            told(run, lines)

        return run.folder / name, read

    return Place(make, "json")


def _null(folder: Path) -> tuple[Path, Read]:
    """Lines of somebody else's loop that does not recurse, which an alarm is made from."""
    from mitate.loops.watch import monitor_of, states

    for name in ("loop", "null"):
        (folder / name).mkdir()
        rows = [{"chain": c, "generation": g, "indicators": {"variance": 1 + 0.1 * c - 0.01 * g, "tail": 0.5}} for c in range(4) for g in (1, 2, 3)]
        (folder / name / "loop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read() -> None:
        (folder / "loop" / "alarm.json").unlink(missing_ok=True)
        list(states(folder / "loop", monitor_of(folder / "loop", null=folder / "null", rate=0.5)))

    return folder / "null" / "loop.jsonl", read


def _openings(folder: Path) -> tuple[Path, Read]:
    from mitate.store import Store
    from mitate.studies.gates import look_number, record_opening

    store = Store(folder / "store")
    store.root.mkdir(parents=True)
    record_opening(store, study="a", test="t", run=Path("runs/a"), images=("x", "y"))

    def read() -> None:
        look_number(store, study="b", images=("x", "z"))
        look_number(store, study="a", images=("x", "y"))

    return store.root / "openings.jsonl", read


def _needed(folder: Path) -> tuple[Path, Read]:
    from mitate.studies.evidence import Ending, needed

    (file := folder / "jobs.jsonl").write_text('{"digest": "ab", "inputs": {"a": "cd"}, "seconds": 1.0}\n{"digest": "ef", "inputs": {}}\n')

    def read() -> None:
        needed(file)
        Ending(folder)

    return file, read


RECORDS: dict[str, Place] = {
    "pool": _pool("x.jsonl", "lines"), "manifest": _pool("x.manifest.json", "json"), "ledger": Place(_ledger, "lines"),
    "provenance": _export("provenance.json", "json"), "set-metadata": _export("metadata.jsonl", "lines"), "set-sums": _export("SHA256SUMS", "words"),
    "study": _run("study.json", "json"), "decision": _run("decision.json", "json"), "jobs": _run("jobs.jsonl", "lines"),
    "scores": _run("scores.jsonl", "lines"), "machine": _run("machine.json", "json"), "samples": _run("samples/samples.json", "json"),
    "audit-sums": _run("audit/SHA256SUMS", "words"), "compare": _run("compare.json", "json", "compare"), "compare-study": _run("study.json", "json", "compare"),
    "skills": _skills("skills.json"), "skills-study": _skills("study.json"), "loop-lines": _loop("loop.jsonl", "lines"), "loop": _loop("run.json", "json"),
    "alarm": _loop("alarm.json", "json"), "chain-state": _loop("chain-000/state.json", "json"), "generation": _loop("chain-000/generation-003.npz", "zip"),
    "blocked": _loop("blocked.json", "json"), "null-lines": Place(_null, "lines"), "result": _store("result.json", "json"),
    "asked": _store("asked.json", "json"), "ref": _store("ref", "words"), "facts": _store("facts.json", "json"), "drawn": _store("x.npy", "head"),
    "drawn-labels": _store("y.npy", "head"), "openings": Place(_openings, "lines"), "jobs-needed": Place(_needed, "lines"),
}  # fmt: skip
