"""Synthetic sets packed into shards: few large files that are read in a stream, for sets of very many images.

fakes/                                 write_shards(images, folder, form="webdataset")
  000000.tar  000001.tar ...           KEY.png and KEY.json (label, caption, seed, generator, filters) of each image; no KEY stands twice in a set
fakes/                                 write_shards(images, folder, form="parquet")
  train-00000-of-00002.parquet ...     columns image {bytes, path}, label (a ClassLabel of `datasets`), caption, seed, generator, filters
fakes/
  README.md  provenance.json           dataset card; form, generator, settings, parents
  SHA256SUMS                           `sha256sum -c SHA256SUMS`

The promises are those of folders (sets): every PNG carries the mark, a set appears whole or not at all, and the same set gives the same bytes (of parquet:
with the same pyarrow). A killed write goes on with the shard that it was at. Memory does not grow with the set: it holds an image, or a row group.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mitate import codec
from mitate.cards import HowRead, dataset_card
from mitate.errors import MissingExtra, SettingError
from mitate.files import file_digest, write_json, write_text
from mitate.images import ImageSet, Provenance
from mitate.progress import Progress, Silent
from mitate.sets import appear, close, encoded, facts_of, origin
from mitate.settings import digest, plain, suggest

VERSION = 1  # raise it when the bytes of shards change
FORMS = ("webdataset", "parquet")
MOST = 10_000  # images of a shard, unless more are asked for
BYTES = 256_000_000  # of a shard's pixels, as many as MOST images allow; PNGs take less
ROWS, GROUP = 1000, 16_000_000  # images, and bytes of them, that end a row group of parquet: what a reader holds to read one of them


def write_shards(
    images: ImageSet, folder: Path, *, form: str, shard: int = 0, told: Sequence[Mapping[str, Any]] | None = None, progress: Progress | None = None
) -> Path:
    """Write a synthetic set as shards. shard: images of each; 0: at most MOST, and BYTES of pixels by the size of the first image.

    told: further facts of each image, over those of the set (`filters`, `source`). A folder that holds this very set in these shards is left as it is; one
    that holds anything else is refused, and so are real images, as in `write_images`.
    """
    made = origin(images)
    check_form(form, shard)
    if told is not None and len(told) != len(images):
        raise ValueError("told has another length than the images")
    each = shard or _size(images)
    name = digest("mitate.packed", [VERSION, form, each, images.digest, plain(made), list(told or ())])
    return appear(Path(folder), name, lambda building: _write_all(images, made, building, name, form, each, told, progress or Silent()))


def check_form(form: str, shard: int = 0) -> None:
    """SettingError for a form that there is not, MissingExtra where its package is not installed: before images are made."""
    if form not in FORMS:
        raise SettingError(f"There is no form of shards {form!r}.", fix=suggest(form, FORMS))
    if shard < 0:
        raise SettingError(f"A shard has {shard} images.", fix="ask for 1 or more, or leave it out")
    if form == "parquet":
        _parquet()


def _size(images: ImageSet) -> int:
    return max(1, min(MOST, BYTES // max(1, images.reader.read(0).size))) if len(images) else MOST


def _write_all(
    images: ImageSet, made: Provenance, building: Path, name: str, form: str, each: int, told: Sequence[Mapping[str, Any]] | None, progress: Progress
) -> None:
    building.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(images), each) or range(1)
    sums: list[tuple[str, str]] = []
    for number, start in enumerate(starts):
        stop = min(start + each, len(images))
        file = f"{number:06d}.tar" if form == "webdataset" else f"train-{number:05d}-of-{len(starts):05d}.parquet"
        if (known := _kept(building, file)) is None:
            samples = _samples(images, made, range(start, stop), told, file, progress)
            known = _shard(building, file, samples, images.classes if form == "parquet" else None, extra=told is not None)
        progress.step(stop, len(images), file)
        sums.append((known, file))
    write_text(building / "README.md", dataset_card(images, read=HOW_READ[form]))
    write_json(building / "provenance.json", {
        "identity": name, "images": images.digest, "count": len(images), "counts": images.counts(), "classes": images.classes, "form": form, "shard": each,
        "provenance": made, "mark": codec.SOURCE_TYPE,
    })  # fmt: skip
    close(building, sums, ("README.md", "provenance.json"))
    for _, file in sums:
        (building / _record(file)).unlink(missing_ok=True)


Sample = tuple[str, bytes, dict[str, Any]]  # key, PNG, facts


def _samples(
    images: ImageSet, made: Provenance, rows: range, told: Sequence[Mapping[str, Any]] | None, file: str, progress: Progress
) -> Iterator[Sample]:  # fmt: skip
    for i in rows:
        progress.step(i, len(images), file)
        yield f"{i:06d}", encoded(images, made, i), {**facts_of(images, made, i), **(told[i] if told is not None else {})}


def _record(file: str) -> str:
    """Name of the file that says which bytes a finished shard of an unfinished set has."""
    return f".{file}.sum"


def _kept(building: Path, file: str) -> str | None:
    """The digest of a shard that an earlier, killed write has finished, or None."""
    try:
        known = (building / _record(file)).read_text(encoding="utf-8").strip()
        return known if file_digest(building / file) == known else None
    except (OSError, ValueError):
        return None


def _shard(building: Path, file: str, samples: Iterator[Sample], classes: tuple[str, ...] | None, *, extra: bool) -> str:
    """Write one shard; classes: of a parquet file. Returns its digest, once the disk has it."""
    fresh = building / f".{file}.{os.getpid()}.tmp"
    try:
        if classes is None:
            _write_tar(fresh, samples)
        else:
            _write_parquet(fresh, samples, classes, extra)
        with open(fresh, "rb+") as whole:
            os.fsync(whole.fileno())
        known = file_digest(fresh)
        os.replace(fresh, building / file)
    finally:
        fresh.unlink(missing_ok=True)
    write_text(building / _record(file), known)
    return known


# tar ------------------------------------------------------------------------------------------------------------------


def _write_tar(path: Path, samples: Iterator[Sample]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, image, facts in samples:
            for suffix, data in (("png", image), ("json", json.dumps(facts, ensure_ascii=False).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")  # of nobody, at time 0
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


# parquet --------------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, samples: Iterator[Sample], classes: tuple[str, ...], extra: bool) -> None:
    pa = _parquet()
    schema = _schema(pa, classes, extra)
    index = {label: k for k, label in enumerate(classes)}
    words = [name for name in ("label", "caption", "generator", "source") if name in schema.names]
    with pa.parquet.ParquetWriter(path, schema, use_dictionary=words, write_statistics=False) as out:
        rows: list[dict[str, Any]] = []
        size = 0
        for key, image, facts in samples:
            facts["label"] = None if facts["label"] is None else index[facts["label"]]
            rows.append({"image": {"bytes": image, "path": f"{key}.png"}, **facts})
            size += len(image)
            if len(rows) >= ROWS or size >= GROUP:
                out.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=ROWS)
                rows, size = [], 0
        if rows:
            out.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=ROWS)


def _schema(pa: Any, classes: tuple[str, ...], extra: bool) -> Any:
    """The columns, with what the `datasets` package wants to know of them."""
    text = {"dtype": "string", "_type": "Value"}
    columns: dict[str, tuple[Any, Any]] = {"image": (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"_type": "Image"})}
    if classes:
        columns["label"] = (pa.int64(), {"names": list(classes), "_type": "ClassLabel"})
    columns |= {
        "caption": (pa.string(), text),
        "seed": (pa.int64(), {"dtype": "int64", "_type": "Value"}),
        "generator": (pa.string(), text),
        "filters": (pa.list_(pa.string()), [text]),
    }
    if extra:
        columns["source"] = (pa.string(), text)
    features = {name: feature for name, (_, feature) in columns.items()}
    told = json.dumps({"info": {"features": features}})
    return pa.schema([(name, kind) for name, (kind, _) in columns.items()], metadata={"huggingface": told})


def _parquet() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError as wrong:
        raise MissingExtra.of("pyarrow", "hf", "Writing parquet files") from wrong
    return pyarrow


# card -----------------------------------------------------------------------------------------------------------------

_EACH = ("image", "すべての画像")
HOW_READ = {
    "webdataset": HowRead(
        code='import glob, webdataset\nwebdataset.WebDataset(sorted(glob.glob("this folder/*.tar"))).decode("rgb8").to_tuple("png", "json")',
        seed=("in its `.json`", "`.json` に記録"),
        label=("`KEY.png` is an image, `KEY.json` says its `label`.", "`KEY.png` が画像、`KEY.json` の `label` がクラスです。"),
        prompt=("`KEY.png` is an image, `KEY.json` says its prompt (`caption`).", "`KEY.png` が画像、`KEY.json` の `caption` がプロンプトです。"),
        each=_EACH,
    ),
    "parquet": HowRead(
        code='from datasets import load_dataset\nload_dataset("parquet", data_files="this folder/*.parquet", split="train")',
        seed=("in the column `seed`", "`seed` 列に記録"),
        label=("The class is the column `label`.", "クラスは `label` 列です。"),
        prompt=("The prompt is the column `caption`.", "プロンプトは `caption` 列です。"),
        each=_EACH,
    ),
}
