"""Synthetic sets in shards: what folders promise, others and mitate itself read, in flat memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import mitate as mi
from mitate import codec, packed
from mitate.cards import dataset_card
from mitate.cli_pictures import generate
from mitate.curation.review import list_set
from mitate.errors import DataError, MissingExtra, SettingError
from mitate.images import ImageSet, Provenance, from_arrays
from mitate.intake.opening import list_source, open_images
from mitate.packed import FORMS, write_shards
from mitate.sets import write_images

CLASSES = ("rust", "healthy", "葉")


def fakes(n: int = 11, **more: Any) -> ImageSet:
    x = np.random.default_rng(0).integers(0, 256, (n, 9, 8, 3), dtype=np.uint8)
    made = Provenance("vae", "d" * 64, {"steps": 10}, ("p" * 64,), tuple(2**62 + i for i in range(n)))
    return replace(from_arrays(x, np.arange(n) % 3, classes=CLASSES, name="leaves-vae", provenance=made), **more)


def written(folder: Path, form: str, images: ImageSet | None = None, **how: Any) -> Path:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    return write_shards(fakes() if images is None else images, folder, form=form, **{"shard": 4, **how})


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def pngs(folder: Path) -> list[bytes]:
    """The encoded images of a set in shards, in its order."""
    listing = list_source(folder)
    return [listing.reader.blob(i) for i in range(len(listing.rows))]


SHARDS = {
    "webdataset": ["000000.tar", "000001.tar", "000002.tar"],
    "parquet": [f"train-0000{k}-of-00003.parquet" for k in range(3)],
}


@pytest.mark.parametrize("form", FORMS)
def test_mitate_reads_back_the_images_and_labels_that_it_wrote(tmp_path: Path, form: str) -> None:
    images = fakes(captions=tuple(f"leaf {i} 葉" for i in range(11)))
    folder = written(tmp_path / "set", form, images)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*SHARDS[form], "README.md", "SHA256SUMS", "provenance.json"])
    back = open_images(folder)
    assert back.digests == images.digests and back.captions == images.captions
    assert [back.classes[k] for k in back.labels] == [images.classes[k] for k in images.labels]
    assert form == "webdataset" or (back.classes == images.classes and back.digest == images.digest)  # names in the order of the set


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_a_shard_has_the_bytes_and_the_mark_that_it_has_in_a_folder(tmp_path: Path, form: str) -> None:
    tree = write_images(fakes(), tmp_path / "tree")
    lines = [json.loads(line) for line in (tree / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    found = pngs(written(tmp_path / "set", form))
    assert found == [(tree / line["file_name"]).read_bytes() for line in lines]
    assert {codec.decode(data).synthetic for data in found} == {"IPTC trainedAlgorithmicMedia"}


def test_members_of_a_tar_are_pairs_of_nobody_at_time_zero_that_say_what_a_line_of_a_folder_says(tmp_path: Path) -> None:
    tree = write_images(fakes(), tmp_path / "tree")
    lines = [json.loads(line) for line in (tree / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    folder, found = written(tmp_path / "set", "webdataset"), []
    for shard in SHARDS["webdataset"]:
        with tarfile.open(folder / shard) as tar:
            members = tar.getmembers()
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
            for image, facts in zip(members[::2], members[1::2], strict=True):
                assert image.name == f"{len(found):06d}.png" and facts.name == f"{len(found):06d}.json"
                found.append(json.load(tar.extractfile(facts)))  # type: ignore[arg-type]
    assert found == [{k: v for k, v in line.items() if k != "file_name"} for line in lines]


@pytest.mark.parametrize("form", FORMS)
def test_every_file_is_summed_and_the_card_speaks_of_shards(tmp_path: Path, form: str) -> None:
    folder = written(tmp_path / "set", form)
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 5
    for images in (fakes(), replace(fakes(), classes=(), labels=(-1,) * 11, captions=("a leaf",) * 11)):
        card = dataset_card(images, read=packed.HOW_READ[form])
        assert not any(word in card for word in ("imagefolder", "metadata.jsonl", "folder names", "フォルダ名", "ファイルのメタデータ", "Every file carries"))
        assert "Every image carries the IPTC digital source type" in card and "すべての画像のメタデータに、IPTC" in card
        assert all(word in card for word in (".tar", "KEY.json") if form == "webdataset") and (form == "webdataset" or "*.parquet" in card)
    with pytest.raises(DataError, match="holds shards") as wrong:
        list_set(folder)
    assert "--format folder" in wrong.value.fix
    told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert told["count"] == 11 and told["form"] == form and told["shard"] == 4 and told["classes"] == list(CLASSES) and told["provenance"]["digest"] == "d" * 64


@pytest.mark.parametrize("form", FORMS)
def test_the_same_set_gives_the_same_bytes_and_is_left_as_it_is(tmp_path: Path, form: str) -> None:
    one, other = written(tmp_path / "one", form), written(tmp_path / "other", form)
    assert contents(one) == contents(other)
    before = {p: p.stat().st_mtime_ns for p in one.rglob("*")}
    assert written(one, form) == one and {p: p.stat().st_mtime_ns for p in one.rglob("*")} == before
    for how in ({"shard": 5}, {"images": fakes(10)}, {"told": [{"filters": ["review"], "source": "a"}] * 11}):
        with pytest.raises(SettingError, match="does not hold this set"):
            written(one, form, **how)
    shard = one / SHARDS[form][1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(SettingError, match=rf"1 of its files are missing or changed \({shard.name}\)"):
        written(one, form)


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_write_goes_on_with_the_shard_it_was_at_and_comes_to_the_same_bytes(tmp_path: Path, form: str) -> None:
    class Killed(BaseException):
        pass

    class Reader:
        def __init__(self, most: int) -> None:
            self.most, self.seen, self.inner = most, list[int](), fakes().reader

        def read(self, i: int) -> np.ndarray:
            if len(self.seen) == self.most:
                raise Killed
            self.seen.append(i)
            return self.inner.read(i)

    whole = written(tmp_path / "whole", form)
    with pytest.raises(Killed):
        written(tmp_path / "cut", form, replace(fakes(), reader=Reader(9)))
    assert not (tmp_path / "cut").exists()
    partial = next(p for p in tmp_path.iterdir() if p.name.startswith(".cut"))
    assert sorted(p.name for p in partial.iterdir() if not p.name.startswith(".")) == SHARDS[form][:2]
    (partial / SHARDS[form][1]).write_bytes(b"half of it")  # as a crash of the machine would leave it
    (partial / f".{SHARDS[form][2]}.77.tmp").write_bytes(b"half")
    again = Reader(1000)
    cut = written(tmp_path / "cut", form, replace(fakes(), reader=again))
    assert contents(cut) == contents(whole) and again.seen == [4, 5, 6, 7, 8, 9, 10]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "store") == ["cut", "whole"]


@pytest.mark.parametrize("form", FORMS)
def test_real_images_are_never_packed_with_the_mark(tmp_path: Path, form: str) -> None:
    with pytest.raises(SettingError, match="real images"):
        written(tmp_path / "real", form, replace(fakes(), provenance=None))
    assert not any(tmp_path.glob("*real*"))


@pytest.mark.parametrize("form", FORMS)
def test_images_without_labels_seeds_and_captions_are_packed_too(tmp_path: Path, form: str) -> None:
    outside = replace(fakes(), labels=(-1, *fakes().labels[1:]), provenance=Provenance("folder", "e" * 64))
    back = open_images(written(tmp_path / "some", form, outside))
    assert back.labels[0] == -1 and [back.classes[k] for k in back.labels[1:]] == [CLASSES[k] for k in outside.labels[1:]] and back.captions is None
    painted = replace(fakes(), classes=(), labels=(-1,) * 11, captions=tuple(f"prompt {i}" for i in range(11)))
    back = open_images(written(tmp_path / "painted", form, painted))
    assert back.classes == () and back.captions == painted.captions and back.digests == painted.digests


@pytest.mark.parametrize(("pixels", "shards"), [(9 * 8 * 3 * 2, 2), (1, 3), (10**9, 1)])
def test_a_shard_holds_as_many_images_as_its_bytes_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, shards: int) -> None:
    monkeypatch.setattr(packed, "BYTES", pixels)
    assert len(list(write_shards(fakes(3), tmp_path / "set", form="webdataset").glob("*.tar"))) == shards


def test_further_facts_of_images_stand_in_both_forms(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    told = [{"filters": ["filter:blur", "review"], "source": f"{i}.png"} for i in range(11)]
    folder = written(tmp_path / "tar", "webdataset", told=told)
    with tarfile.open(folder / "000001.tar") as tar:
        facts = json.load(tar.extractfile("000004.json"))  # type: ignore[arg-type]
    row = pq.read_table(written(tmp_path / "parquet", "parquet", told=told) / SHARDS["parquet"][1]).to_pylist()[0]
    assert facts["source"] == row["source"] == "4.png" and facts["filters"] == row["filters"] == ["filter:blur", "review"]
    assert facts["label"] == "healthy" and row["label"] == 1 and facts["seed"] == row["seed"] == 2**62 + 4


def test_row_groups_are_small_whatever_a_shard_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(packed, "ROWS", 3)
    folder = written(tmp_path / "rows", "parquet", shard=11)
    metadata = pq.read_metadata(folder / "train-00000-of-00001.parquet")
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [3, 3, 3, 2]
    monkeypatch.setattr(packed, "GROUP", 1)
    metadata = pq.read_metadata(written(tmp_path / "bytes", "parquet", shard=11) / "train-00000-of-00001.parquet")
    assert metadata.num_row_groups == 11 and open_images(tmp_path / "bytes").digests == fakes().digests


def test_what_there_is_not_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="no form of shards 'tar'"):
        write_shards(fakes(), tmp_path / "set", form="tar")
    with pytest.raises(SettingError, match="A shard has -1 images"):
        write_shards(fakes(), tmp_path / "set", form="webdataset", shard=-1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as wrong:
        write_shards(fakes(), tmp_path / "set", form="parquet")
    assert "mitate[hf]" in wrong.value.fix and not any(p.name != "store" for p in tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_datasets_opens_the_shards_with_their_labels(tmp_path: Path, form: str) -> None:
    pytest.importorskip("datasets")
    folder = written(tmp_path / "set", form)
    suffix = SHARDS[form][0].rpartition(".")[2]
    script = (
        "import sys, json, datasets; datasets.disable_progress_bars()\n"
        "found = datasets.load_dataset(sys.argv[1], data_files=sys.argv[2], split='train', cache_dir=sys.argv[3])\n"
        "label = (lambda r: found.features['label'].int2str(r['label'])) if 'label' in found.features else (lambda r: r['json']['label'])\n"
        "image = 'image' if 'image' in found.features else 'png'\n"
        "print(json.dumps([[label(r), r[image].size, (r.get('json') or r)['seed'], r.get('__key__')] for r in found]))"
    )
    words = [form, str(folder / f"*.{suffix}"), str(tmp_path / "cache")]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [(row[0], row[2]) for row in found] == [(CLASSES[i % 3], 2**62 + i) for i in range(11)] and found[0][1] == [8, 9]


def test_the_command_writes_what_it_draws_as_shards(tmp_path: Path) -> None:
    mi.fit(mi.Gaussian(rank=4), from_arrays(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2), seed=0, name="g")

    def run(*words: object) -> Any:
        return CliRunner().invoke(generate, ["g", "--per-class", "3", "--seed", "1", *map(str, words)])

    assert run("--out", tmp_path / "tree").exit_code == 0
    done = run("--out", tmp_path / "set", "--format", "webdataset", "--shard", 4)
    assert done.exit_code == 0 and "6 images, 2 classes, each marked" in done.output
    assert open_images(tmp_path / "set").digests == open_images(tmp_path / "tree").digests and len(list((tmp_path / "set").glob("*.tar"))) == 2
    wrong = run("--out", tmp_path / "none", "--shard", 4).exception
    assert isinstance(wrong, SettingError) and "A folder has no shards" in wrong.message and not (tmp_path / "none").exists()
    assert run("--out", tmp_path / "none", "--format", "zip").exit_code == 2


def test_a_plain_reader_of_tar_shards_finds_pairs_under_one_key(tmp_path: Path) -> None:
    """As webdataset groups them: members that follow each other and share what stands before the first dot."""
    folder, keys = written(tmp_path / "set", "webdataset"), []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(shard.read_bytes()), mode="r|") as tar:  # a stream: no seeking
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if not keys or keys[-1][0] != key:
                    keys.append((key, []))
                keys[-1][1].append(suffix)
    assert len(keys) == 11 and all(suffixes == ["png", "json"] for _, suffixes in keys)
