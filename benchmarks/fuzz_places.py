"""The doors through which people bring files, each with a small valid file and what reads it: pictures, sets, tables, shards, settings, texts, decisions.

For benchmarks/fuzz_readers.py and tests/test_corpus.py; models are in fuzz_models.py, what mitate wrote itself and reads again in fuzz_records.py.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

Read = Callable[[], Any]


@dataclass(frozen=True)
class Place:
    """make: writes what is valid into an empty folder, and gives the file to be changed and what reads it. form: how the file is built."""

    make: Callable[[Path], tuple[Path, Read]]
    form: str = ""


def pictures(folder: Path, *, classes: int = 2, each: int = 5) -> Path:
    """A folder of small pictures, in folders of classes."""
    from mitate.codec import encode_png

    chance = np.random.default_rng(0)
    for k in range(classes):
        (folder / f"c{k}").mkdir(parents=True, exist_ok=True)
        for i in range(each):
            (folder / f"c{k}" / f"{i}.png").write_bytes(encode_png(chance.integers(0, 256, (8, 8, 1), dtype=np.uint8)))
    return folder


def opened(source: Path) -> None:
    """What every verb asks of a source first: its listing, its images, their digest, what is wrong with them."""
    from mitate.intake.opening import find, open_images
    from mitate.settings import canonical, plain

    find(source)
    canonical([plain(f) for f in find(source)])
    images = open_images(source)
    _ = images.digest, images.counts(), [images.reader.read(i) for i in range(min(2, len(images)))]


def _image(form: str, mode: str = "RGB", **how: Any) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from PIL import Image

        from mitate.codec import decode

        file = folder / f"x.{form}"
        pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(file, **how)
        return file, lambda: decode(file)

    return Place(make)


def _metadata(name: str, text: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        pictures(folder / "set")
        file = folder / "set" / name
        file.write_text(text)
        return file, lambda: opened(folder / "set")

    return Place(make, form)


def _npz(folder: Path) -> tuple[Path, Read]:
    chance = np.random.default_rng(0)
    x, y = chance.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8), np.arange(10) % 2
    np.savez_compressed(folder / "x.npz", x=x, y=y, classes=np.array(["a", "b"]), groups=np.arange(10))
    return folder / "x.npz", lambda: opened(folder / "x.npz")


def _table(suffix: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        pictures(folder / "set")
        cells = [{"bytes": p.read_bytes(), "path": p.name} for p in sorted((folder / "set").rglob("*.png"))]
        features = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
        table = pa.table({"image": cells, "label": [i % 2 for i in range(len(cells))]}).replace_schema_metadata({"huggingface": json.dumps(features)})
        file = folder / f"x{suffix}"
        if suffix == ".parquet":
            parquet.write_table(table, file)
        else:
            with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
                stream.write_table(table)
        return file, lambda: opened(file)

    return Place(make)


def _features(folder: Path) -> tuple[Path, Read]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    pictures(folder / "set")
    table = pa.table({"image": [p.read_bytes() for p in sorted((folder / "set").rglob("*.png"))], "label": [i % 2 for i in range(10)]})
    file = folder / "features.json"
    file.write_text(json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}))

    def read() -> None:
        parquet.write_table(table.replace_schema_metadata({"huggingface": file.read_bytes()}), folder / "x.parquet")
        opened(folder / "x.parquet")

    return file, read


def _saved(name: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        import pyarrow as pa

        pictures(folder / "pictures")
        table = pa.table({"image": [p.read_bytes() for p in sorted((folder / "pictures").rglob("*.png"))], "label": [i % 2 for i in range(10)]})
        part = folder / "set" / "train"
        part.mkdir(parents=True)
        with pa.OSFile(str(part / "data-0.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        (part / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
        (folder / "set" / "dataset_dict.json").write_text('{"splits": ["train"]}')
        return folder / "set" / name, lambda: opened(folder / "set")

    return Place(make, "json")


def _shard(suffix: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        pictures(folder / "set", each=2)
        file = folder / f"x{suffix}"
        with tarfile.open(file, "w:gz" if suffix.endswith("gz") else "w") as tar:
            for i, picture in enumerate(sorted((folder / "set").rglob("*.png"))):
                for end, data in (("png", picture.read_bytes()), ("cls", b"a"), ("json", b'{"caption": "x", "label": "b"}')):
                    (told := tarfile.TarInfo(f"{i:04d}.{end}")).size = len(data)
                    tar.addfile(told, io.BytesIO(data))
        return file, lambda: opened(file)

    return Place(make, "gzip" if suffix.endswith("gz") else "")


def _sidecar(folder: Path) -> tuple[Path, Read]:
    pictures(folder / "set", each=1)
    (file := folder / "told.json").write_text('{"caption": "x", "label": "b", "split": "train", "group": 3}')

    def read() -> None:
        with tarfile.open(folder / "x.tar", "w") as tar:
            for end, data in (("png", (folder / "set" / "c0" / "0.png").read_bytes()), ("json", file.read_bytes())):
                (told := tarfile.TarInfo(f"0.{end}")).size = len(data)
                tar.addfile(told, io.BytesIO(data))
        opened(folder / "x.tar")

    return file, read


def _plan(folder: Path) -> tuple[Path, Read]:
    from mitate.settings import record
    from mitate.studies.plan_file import read_plan
    from mitate.studies.planning import Pilot

    (file := folder / "x.toml").write_text(
        '[pilot]\ndata = "digits:20"\narms = ["real+augment", "balanced"]\nbudget = "10h"\nreplicates = 3\nworthwhile = 0.05\n'
    )
    return file, lambda: record(Pilot, read_plan(file), where="x.toml")


def _skill(folder: Path) -> tuple[Path, Read]:
    from mitate.prompts.skills import TEMPLATE, read_skill, skill_file

    (file := folder / "x.toml").write_text(skill_file(TEMPLATE))
    return file, lambda: read_skill(file)


def _checklist(folder: Path) -> tuple[Path, Read]:
    from mitate.curation.review import checklist

    (file := folder / "x.toml").write_text('checklist = ["Exactly one leaf", "No text"]\n')
    return file, lambda: checklist(file, ())


def _costs(folder: Path) -> tuple[Path, Read]:
    from mitate.metrics.measures import parse

    (file := folder / "x.csv").write_text("truth,a,b\na,0,1\nb,5,0\n")
    return file, lambda: parse(str(file), ("a", "b"))


def _prompts(name: str, text: str) -> Place:
    """Prompts as `generate --prompts`, `--blocked` and `merge --search FILE` read them, the last with a judge that must know each."""

    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.curation.judges import judge_of
        from mitate.prompts.pool import read_prompts

        (file := folder / name).write_text(text)

        def read() -> None:
            read_prompts(file, what="blocked words")
            judge_of("oracle").check(read_prompts(file))

        return file, read

    return Place(make, "lines" if name.endswith(".jsonl") else "words")


def _plan_of_skills(folder: Path) -> tuple[Path, Read]:
    from mitate.cli_asked import skills_asked

    (file := folder / "x.toml").write_text(
        'skills = ["counting", "mine"]\nprompts = 6\nkeep = "best:0.5"\nmerges = ["mean"]\ncontrols = ["pooled"]\nchooser = "vqa:blip"\n'
        '[prompt_files]\nmine = "a.jsonl"\n[tested_files]\nmine = "b.jsonl"\n'
    )
    return file, lambda: skills_asked(file, {"names": None})


def _prompts_of_skills(folder: Path) -> tuple[Path, Read]:
    from mitate.studies.skills_planning import Skills, lessons, questions_known, questions_of, search_prompts

    for name, colours in (("a", ("red", "blue", "green", "white")), ("b", ("black", "grey"))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"a {colour} star"}) + "\n" for colour in colours))
    files: dict[str, Any] = {"prompt_files": {"mine": str(folder / "a.jsonl")}, "tested_files": {"mine": str(folder / "b.jsonl")}}
    asked = Skills(skills=("mine", "single"), prompts=2, tested=2, searched=1, controls=(), merges=("searched",), chooser="vqa:blip", judge="vqa:blip", **files)

    def read() -> None:
        lessons(asked, "mine", 0), questions_of(asked, "mine"), questions_known(asked), search_prompts(asked, 0)

    return folder / "a.jsonl", read


def _questions(folder: Path) -> tuple[Path, Read]:
    from mitate.curation.dependency import read_questions

    rows = [{"id": 1, "question": "a cup?", "parents": []}, {"id": "2", "question": "red?", "answer": "yes", "parents": [1]}]
    (file := folder / "x.jsonl").write_text(json.dumps({"prompt": "a red cup", "questions": rows}) + "\n")
    return file, lambda: read_questions(file)


def _descriptions(folder: Path) -> tuple[Path, Read]:
    from mitate.intake.opening import open_images
    from mitate.lab.sets import by_descriptions

    images = open_images(pictures(folder / "set", each=1))
    (file := folder / "x.jsonl").write_text("".join(json.dumps({"file": name, "text": "a leaf"}) + "\n" for name in images.names))
    return file, lambda: by_descriptions(images, file).digest


def _chat(folder: Path) -> tuple[Path, Read]:
    from mitate.prompts.asking import read_lines
    from mitate.prompts.chat import _content

    (file := folder / "x.json").write_text(json.dumps({"choices": [{"message": {"content": "1. a cup\n2. a dog"}}], "usage": {"prompt_tokens": 3}}))

    def read() -> None:
        text, _ = _content(file.read_bytes())
        if text is not None:
            read_lines(text, number=5)

    return file, read


def _decision(folder: Path) -> tuple[Path, Read]:
    """What the page of a review sends to the server."""
    from mitate.curation.review import Review
    from mitate.web.server import _decide, _Refused

    pictures(folder / "set", each=2)
    (file := folder / "x.json").write_text('{"id": "a", "numbers": [0, 1], "checks": [0], "decision": "relabel", "label": "c1"}')

    def read() -> None:
        (folder / "set" / "ledger.jsonl").unlink(missing_ok=True)
        review = Review(folder / "set", by="anna", checks=("Exactly one leaf",), audit=0, seed=0)
        try:
            asked = json.loads(file.read_bytes())
        except (ValueError, RecursionError):  # refused by the server before it is a decision
            return
        try:
            _decide(review, asked) if isinstance(asked, dict) else None
        except _Refused:
            pass
        review.figures(), review.columns()

    return file, read


ROWS = '{"file_name": "c0/0.png", "label": "a", "group": "g1", "split": "train"}\n{"file_name": "c1/0.png", "text": "x"}\n'
CELLS = 'file_name,label,group,caption\nc0/0.png,a,g1,"x, y"\nc1/0.png,b,g2,z\n'
ASKED = '{"text": "two red circles", "skill": "counting", "round": 1}\n{"text": "a blue star"}\n'
SETS: dict[str, Place] = {
    "png": _image("png"), "png-16": _image("png", "I;16"), "png-palette": _image("png", "P"), "jpeg": _image("jpg"), "gif": _image("gif"), "bmp": _image("bmp"),
    "tiff": _image("tif"), "tiff-packed": _image("tif", compression="tiff_lzw"), "webp": _image("webp"), "ppm": _image("ppm"),
    "metadata-jsonl": _metadata("metadata.jsonl", ROWS, "lines"), "metadata-csv": _metadata("metadata.csv", CELLS, "words"), "costs": Place(_costs, "words"),
    "npz": Place(_npz, "zip"), "parquet": _table(".parquet"), "arrow": _table(".arrow"), "features": Place(_features, "json"),
    "state": _saved("train/state.json"), "dataset-dict": _saved("dataset_dict.json"), "tar": _shard(".tar"), "tar-gz": _shard(".tar.gz"),
    "sidecar": Place(_sidecar, "json"), "plan": Place(_plan, "words"), "skill": Place(_skill, "words"), "checklist": Place(_checklist, "words"),
    "prompts": _prompts("x.jsonl", ASKED), "prompts-txt": _prompts("x.txt", "two red circles\na blue star\n"),
    "plan-of-skills": Place(_plan_of_skills, "words"), "prompts-of-skills": Place(_prompts_of_skills, "lines"), "questions": Place(_questions, "lines"),
    "descriptions": Place(_descriptions, "lines"), "chat": Place(_chat, "json"), "decision-of-review": Place(_decision, "json"),
}  # fmt: skip
