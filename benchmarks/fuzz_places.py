"""The doors through which files from outside come in, each with a small valid file and what reads it: for benchmarks/fuzz_readers.py."""

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


def _prompts(folder: Path) -> tuple[Path, Read]:
    from mitate.prompts.pool import read_prompts

    (file := folder / "x.jsonl").write_text('{"text": "two red cups", "skill": "counting", "round": 1}\n{"text": "a dog"}\n')
    return file, lambda: read_prompts(file)


def _pool(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.prompts.pool import write_prompts

        write_prompts("counting", 8, out=folder / "x.jsonl", source="grammar")
        return folder / name, lambda: write_prompts("counting", 9, out=folder / "x.jsonl", source="grammar")

    return Place(make, form)


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
    from mitate.prompts.chat import _content
    from mitate.prompts.sources import read_lines

    (file := folder / "x.json").write_text(json.dumps({"choices": [{"message": {"content": "1. a cup\n2. a dog"}}], "usage": {"prompt_tokens": 3}}))

    def read() -> None:
        text, _ = _content(file.read_bytes())
        if text is not None:
            read_lines(text, number=5)

    return file, read


def _lora(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.updates import Updates

    ones = np.ones((2, 4), np.float32)
    told = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.r": 2, "unet.alpha_pattern": {}}), "mitate": '{"base": "abc"}'}
    save_file({"unet.a.to_q.lora_A.weight": ones, "unet.a.to_q.lora_B.weight": ones.T.copy()}, folder / "x.safetensors", metadata=told)
    return folder / "x.safetensors", lambda: Updates.read(folder / "x.safetensors").digest


def _peft(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.updates import Updates

    ones, name = np.ones((2, 4), np.float32), "base_model.model.a.to_q"
    save_file({f"{name}.lora_A.weight": ones, f"{name}.lora_B.weight": ones.T.copy()}, folder / "adapter_model.safetensors")
    (file := folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"a.to_q": 8}, "use_dora": false}')
    return file, lambda: Updates.read(folder).digest


def _words(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.generators.learnt import Learnt

    save_file({"<leaf>": np.ones((2, 4), np.float32)}, folder / "x.safetensors", metadata={"words": "<leaf>"})
    return folder / "x.safetensors", lambda: Learnt.of_file(folder / "x.safetensors", word="<x>").digest


def _weights(folder: Path) -> tuple[Path, Read]:
    from safetensors.numpy import save_file

    from mitate.features.extractor import _recognised
    from mitate.features.networks import read
    from mitate.training.backbones import _read

    save_file({"a.weight": np.ones((2, 4), np.float32)}, file := folder / "x.safetensors")

    def all_three() -> None:
        from mitate.errors import SettingError

        for door in (lambda: read(file), lambda: _read(file, "small", "")):
            door()
        try:
            _recognised(file)
        except SettingError:
            pass

    return file, all_three


def _adapter(name: str, form: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.adapter import Adapter

        Adapter("alignment", "ab" * 32, {"a": np.ones((2, 3))}, {"x": 1}, ("cd" * 32,)).save(folder / "a")
        return folder / "a" / name, lambda: Adapter.load(folder / "a")

    return Place(make, form)


def _pipeline(name: str) -> Place:
    def make(folder: Path) -> tuple[Path, Read]:
        from mitate.generators.denoisers import unconditional_index
        from mitate.generators.pipelines import open_pipeline
        from mitate.generators.places import is_pipeline

        (folder / "p" / "unet").mkdir(parents=True)
        (folder / "p" / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "sample_size": 8}')
        (folder / "p" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}')
        (folder / "p" / "mitate.json").write_text('{"steps": 20, "guidance": 3.5, "template": "a {label}", "styled": "a {label} in {style}"}')

        def read() -> None:
            is_pipeline(folder / "p"), unconditional_index(folder / "p")
            _ = open_pipeline(folder / "p").digest
            _ = open_pipeline(folder / "p").loaded

        def without_weights() -> None:
            from mitate.errors import DataError

            try:
                read()
            except DataError as wrong:
                if "cannot be opened as a pipeline" not in wrong.message:
                    raise

        return folder / "p" / name, without_weights

    return Place(make, "json")


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
        from mitate.study import Run

        run = Run(make_comparison(folder / "run") if kind == "compare" else make_run(folder / "run"))
        write_audit(run.folder)

        def read() -> None:
            _ = run.finished
            write_report(run, out=folder / "x.html")
            write_audit(run.folder)
            check_audit(run.folder)

        return run.folder / name, (lambda: check_audit(run.folder)) if name.startswith("audit") else read

    return Place(make, form)


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


ROWS = '{"file_name": "c0/0.png", "label": "a", "group": "g1", "split": "train"}\n{"file_name": "c1/0.png", "text": "x"}\n'
CELLS = 'file_name,label,group,caption\nc0/0.png,a,g1,"x, y"\nc1/0.png,b,g2,z\n'
PLACES: dict[str, Place] = {
    "png": _image("png"), "png-16": _image("png", "I;16"), "png-palette": _image("png", "P"), "jpeg": _image("jpg"), "gif": _image("gif"), "bmp": _image("bmp"),
    "tiff": _image("tif"), "tiff-packed": _image("tif", compression="tiff_lzw"), "webp": _image("webp"), "ppm": _image("ppm"),
    "metadata-jsonl": _metadata("metadata.jsonl", ROWS, "lines"), "metadata-csv": _metadata("metadata.csv", CELLS, "words"), "costs": Place(_costs, "words"),
    "npz": Place(_npz, "zip"), "parquet": _table(".parquet"), "arrow": _table(".arrow"), "features": Place(_features, "json"),
    "state": _saved("train/state.json"), "dataset-dict": _saved("dataset_dict.json"), "tar": _shard(".tar"), "tar-gz": _shard(".tar.gz"),
    "sidecar": Place(_sidecar, "json"), "plan": Place(_plan, "words"), "skill": Place(_skill, "words"), "checklist": Place(_checklist, "words"),
    "prompts": Place(_prompts, "lines"), "pool": _pool("x.jsonl", "lines"), "manifest": _pool("x.manifest.json", "json"),
    "questions": Place(_questions, "lines"), "descriptions": Place(_descriptions, "lines"), "chat": Place(_chat, "json"),
    "lora": Place(_lora, "safetensors"), "peft": Place(_peft, "json"), "words": Place(_words, "safetensors"), "weights": Place(_weights, "safetensors"),
    "adapter-json": _adapter("adapter.json", "json"), "adapter": _adapter("adapter.safetensors", "safetensors"),
    "model-index": _pipeline("model_index.json"), "defaults": _pipeline("mitate.json"), "ledger": Place(_ledger, "lines"),
    "provenance": _export("provenance.json", "json"), "set-metadata": _export("metadata.jsonl", "lines"), "set-sums": _export("SHA256SUMS", "words"),
    "study": _run("study.json", "json"), "decision": _run("decision.json", "json"), "jobs": _run("jobs.jsonl", "lines"),
    "scores": _run("scores.jsonl", "lines"), "samples": _run("samples/samples.json", "json"), "audit-sums": _run("audit/SHA256SUMS", "words"),
    "compare": _run("compare.json", "json", "compare"),
    "compare-study": _run("study.json", "json", "compare"), "loop-lines": _loop("loop.jsonl", "lines"), "loop": _loop("run.json", "json"),
    "alarm": _loop("alarm.json", "json"), "chain-state": _loop("chain-000/state.json", "json"), "generation": _loop("chain-000/generation-003.npz", "zip"),
    "blocked": _loop("blocked.json", "json"), "result": _store("result.json", "json"), "asked": _store("asked.json", "json"), "ref": _store("ref", "words"),
    "facts": _store("facts.json", "json"),
}  # fmt: skip
