"""Hostile input: what comes from outside is read, or refused in one line, in little time and memory; nothing in it is run, obeyed or followed out of its place.

Cases that benchmarks/fuzz_readers.py found are here by what was promised. Data are made here; no file is brought.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_run import make_run
from tiny import tiny_captioner, tiny_pipeline

from mitate import cli, codec
from mitate.adapter import Adapter
from mitate.curation.ledger import Ledger
from mitate.curation.review import checklist
from mitate.errors import DataError, MitateError, SettingError, StoreError
from mitate.images import Provenance, from_arrays
from mitate.intake.opening import find, open_images
from mitate.progress import Line, tame
from mitate.prompts.skills import read_skill
from mitate.report.audit import check_audit, write_audit
from mitate.report.html import write_report
from mitate.sets import write_images
from mitate.settings import parsed
from mitate.store import Asked, Store
from mitate.studies.plan_file import read_plan
from mitate.study import Run

DEEP = "[" * 100_000
HALF = '"\\ud800"'
LONG = "9" * 5000
BAD = "\x1b[2J\x1b]0;x\x07\u202e\ud800\r"  # clears a screen, names a window, turns letters round, is half a character


class Trap:
    """What a pickle can do: make a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path(self.sprung).write_text, ("!",)


@pytest.fixture
def trap(tmp_path: Path) -> Any:
    """A pickle; at the end of the test nothing may have run it."""
    yield pickle.dumps(Trap(tmp_path / "sprung"))
    assert not (tmp_path / "sprung").exists(), "a pickle was run"


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Two classes of two pictures each."""
    for k in (0, 1):
        for i in (0, 1):
            path = tmp_path / "leaves" / f"c{k}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(codec.encode_png(np.random.default_rng(2 * k + i).integers(0, 256, (8, 8, 1), dtype=np.uint8)))
    return tmp_path / "leaves"


def one_line(wrong: MitateError) -> None:
    assert len(wrong.message.splitlines()) == 1 and wrong.fix and len(wrong.message) < 2000


# text that is no JSON, TOML or CSV ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, HALF, '{"a": "\\uDFFF"}', LONG, "", "{", "\x00"])
def test_what_cannot_be_json_is_a_value_error_whatever_is_wrong_with_it(text: str) -> None:
    with pytest.raises(ValueError):
        parsed(text)


def test_characters_of_two_halves_are_read_as_json_has_them() -> None:
    assert parsed('"\\ud83c\\udf3f \\u0000"') == "\U0001f33f \x00"


@pytest.mark.parametrize("line", [DEEP, f'{{"file_name": "c0/0.png", "label": {DEEP}', f'{{"file_name": "c0/0.png", "label": {HALF}}}', f'{{"file_name": {LONG}}}'])
def test_metadata_that_cannot_be_json_is_one_line(leaves: Path, line: str) -> None:
    (leaves / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match="line 1 is not JSON") as found:
        open_images(leaves)
    one_line(found.value)


@pytest.mark.parametrize("value", [DEEP, LONG, "{" * 5000])
@pytest.mark.parametrize("read", [read_plan, read_skill, lambda path: checklist(path, ())], ids=["plan", "skill", "checklist"])
def test_a_plan_a_skill_and_a_checklist_that_cannot_be_toml_are_one_line(tmp_path: Path, read: Callable[[Path], object], value: str) -> None:
    (tmp_path / "x.toml").write_text(f"a = {value}\n")
    with pytest.raises(SettingError, match="is not TOML") as found:
        read(tmp_path / "x.toml")
    one_line(found.value)


def test_a_ledger_of_brackets_is_one_line(leaves: Path) -> None:
    (leaves / "ledger.jsonl").write_text(f'{{"file": "a", "checks": {DEEP}\n')
    with pytest.raises(DataError, match="line 1 is no decision"):
        Ledger(leaves).read()


@pytest.mark.parametrize("line", ['{"chain": 1e400, "generation": 1, "indicators": {}}', '{"chain": 0, "generation": 1, "indicators": {"a": 1' + "0" * 400 + "}}", DEEP])
def test_lines_of_a_loop_with_impossible_numbers_are_named(tmp_path: Path, line: str) -> None:
    from mitate.loops.chains import read_lines

    (tmp_path / "loop.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match="line 1: no line of a loop"):
        list(read_lines(tmp_path / "loop.jsonl"))


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    wrong = DataError("a\nb\r\nc", fix="d\u2028e")
    assert (wrong.message, wrong.fix) == ("a b c", "d e")


# pictures, arrays, shards, tables -------------------------------------------------------------------------------------


def test_a_pipe_among_the_images_does_not_stop_the_reading(leaves: Path) -> None:
    os.mkfifo(leaves / "c0" / "2.png")
    os.mkfifo(leaves / "metadata.csv")
    assert len(open_images(leaves)) == 4


def test_sixteen_bits_become_eight_in_parts_and_are_what_they_were_at_once() -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (700, 5)).astype(np.uint16)
    assert (codec._narrow(wide)[..., 0] == np.rint(wide.astype(np.float64) * (255 / 65535)).astype(np.uint8)).all()


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(f"{name}.npy", data)
    return path


def npy(array: np.ndarray) -> bytes:
    np.save(out := io.BytesIO(), array, allow_pickle=False)
    return out.getvalue()


X, Y = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2


def test_an_array_that_claims_a_petabyte_is_refused(tmp_path: Path) -> None:
    lie = npy(X).replace(b"(4, 8, 8, 1)", b"(9" + b"9" * 9 + b",8000,1)").replace(b" " * 8, b"", 1)
    with pytest.raises(DataError, match="cannot be read as .npz"):
        open_images(npz(tmp_path / "x.npz", x=lie, y=npy(Y)))


def test_an_archive_that_unpacks_to_more_than_the_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.intake.arrays.memory", lambda: 10_000_000)
    with pytest.raises(DataError, match="unpacks to"):
        open_images(npz(tmp_path / "x.npz", x=npy(np.zeros((20_000, 32, 32, 1), np.uint8)), y=npy(np.zeros(20_000, np.int64))))


@pytest.mark.parametrize("name", ["classes", "groups"])
def test_a_column_that_is_no_column_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is \[\]"):
        open_images(npz(tmp_path / "x.npz", x=npy(X), y=npy(Y), **{name: npy(np.array("a"))}))


def test_an_encrypted_or_oddly_packed_archive_is_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "x.npz", x=npy(X), y=npy(Y)).read_bytes()
    for at, value in ((8, 99), (6, 1)):  # the way it is packed; the flag of a secret
        data = bytearray(whole)
        for start in (whole.index(b"PK\x03\x04"), *(i for i in range(len(whole)) if whole.startswith(b"PK\x01\x02", i))):
            data[start + at + (2 if start != whole.index(b"PK\x03\x04") else 0)] = value
        (tmp_path / "y.npz").write_bytes(bytes(data))
        with pytest.raises(DataError, match="cannot be read as .npz"):
            open_images(tmp_path / "y.npz")


def test_a_damaged_array_is_not_said_to_need_unpickling(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as .npz"):
        open_images(npz(tmp_path / "x.npz", x=npy(X)[:-5], y=npy(Y)))


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            (told := tarfile.TarInfo(name)).size = len(data)
            tar.addfile(told, io.BytesIO(data))
    return path


def test_a_header_of_a_shard_that_unpacks_to_gigabytes_is_not_read(tmp_path: Path) -> None:
    told = tarfile.TarInfo("x")
    told.type, told.size = tarfile.XHDTYPE, 1 << 33
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as out:
        out.write(told.tobuf(tarfile.USTAR_FORMAT) if told.size < 1 << 33 else told.tobuf(tarfile.GNU_FORMAT))
        for _ in range(8):
            out.write(bytes(1 << 20))
    with pytest.raises(DataError, match="cannot be read as a tar shard"):
        open_images(tmp_path / "x.tar.gz")


def test_a_shard_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.intake.shards.memory", lambda: 1_000_000)
    with pytest.raises(DataError, match="unpacks to"):
        open_images(shard(tmp_path / "x.tar.gz", {"0.bin": bytes(600_000), "1.png": b""}, "w:gz"))


def test_a_shard_is_unpacked_by_what_it_is_and_not_by_its_name(tmp_path: Path, leaves: Path) -> None:
    picture = (leaves / "c0" / "0.png").read_bytes()
    shard(tmp_path / "a.tar", {"0.png": picture, "0.cls": b"a"})
    shard(tmp_path / "b.tar.gz", {"0.png": picture, "0.cls": b"a"}, "w:gz").rename(tmp_path / "b.tar")
    assert open_images(tmp_path / "a.tar").digest == open_images(tmp_path / "b.tar").digest


@pytest.mark.parametrize("data", [b"", b"x" * 3000, gzip.compress(b""), gzip.compress(b"x" * 3000), gzip.compress(b"x" * 3000)[:-9]])
def test_what_is_no_shard_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError) as found:
        open_images(tmp_path / "x.tar")
    one_line(found.value)


def table(tmp_path: Path, leaves: Path, suffix: str, features: Any = None) -> Path:
    pa = pytest.importorskip("pyarrow")
    cells = [{"bytes": p.read_bytes(), "path": p.name} for p in sorted(leaves.rglob("*.png"))]
    made = pa.table({"image": cells, "label": [0, 0, 1, 1]})
    made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}) if features is not None else made
    if suffix == ".parquet":
        pa.parquet.write_table(made, tmp_path / "x.parquet")
    else:
        with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_stream(out, made.schema) as stream:
            stream.write_table(made)
    return tmp_path / f"x{suffix}"


def test_offsets_of_an_arrow_file_that_lead_out_of_it_do_not_end_the_process(tmp_path: Path, leaves: Path) -> None:
    path = table(tmp_path, leaves, ".arrow")
    sizes = [p.stat().st_size for p in sorted(leaves.rglob("*.png"))]
    offsets = np.cumsum([0, *sizes]).astype("<i4").tobytes()
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_images(path)


def test_a_small_file_of_very_many_rows_is_refused_before_it_is_read(tmp_path: Path, leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.intake.tables.MOST_ROWS", 3)
    with pytest.raises(DataError, match="has 4 rows"):
        open_images(table(tmp_path, leaves, ".parquet"))


@pytest.mark.parametrize("features", [[], {"image": "Image", "label": 3}, {"label": {"_type": "ClassLabel", "names": 7}}, {"label": {"names": "ab"}}, "x"])
def test_odd_features_of_a_table_are_passed_over(tmp_path: Path, leaves: Path, features: Any) -> None:
    assert open_images(table(tmp_path, leaves, ".parquet", features)).classes == ("0", "1")


@pytest.mark.parametrize(("name", "text"), [("dataset_dict.json", '{"splits": 3}'), ("dataset_dict.json", "[]"), ("dataset_dict.json", DEEP)])
def test_a_saved_data_set_of_odd_records_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        open_images(tmp_path)


@pytest.mark.parametrize("text", ['{"_data_files": 1.5}', '{"_data_files": ["a"]}', '{"_data_files": [{"filename": "../x.arrow"}]}'])
def test_a_saved_part_of_odd_records_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match="without data files"):
        open_images(tmp_path)


# what lies in the store and in folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[]", "3", DEEP, '"x"', "{", '{"files": 3}', '{"files": {"../../x": "y"}}'])
@pytest.mark.parametrize("name", ["result.json", "asked.json"])
def test_a_record_of_the_store_that_is_none_is_damage_and_can_be_remade(tmp_path: Path, name: str, text: str) -> None:
    store, asked = Store(tmp_path / "store"), Asked("sample", 1, {"kind": "vae"})
    entry = store.make(asked, lambda folder, _: {"images": (folder / "x.txt").write_text("x")})
    entry.path(name).write_text(text)
    assert store.damage(entry.digest)
    if name == "result.json" and "files" not in text:
        with pytest.raises(StoreError, match="cannot be read"):
            store.get(asked)
    store.drop(entry.digest)
    again = store.make(asked, lambda folder, _: {"images": (folder / "x.txt").write_text("x")})
    assert store.damage(again.digest) is None


@pytest.mark.parametrize("target", ["../../secret", "/etc", "..", "", "é" * 64, "0" * 63])
def test_a_changed_reference_does_not_lead_out_of_the_store(tmp_path: Path, target: str) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "result.json").write_text("{}")
    (store.root / "refs").mkdir(parents=True)
    (store.root / "refs" / "name").write_text(target)
    assert store.kept("name") is None and store.get(target) is None and list(store.refs()) == ["name"]


def fakes(folder: Path, classes: tuple[str, ...] = ("a", "b")) -> Path:
    made = from_arrays(X, Y, classes=classes, provenance=Provenance("vae", "ab" * 32, {}, (), (1, 2, 3, 4)))
    return write_images(made, folder)


@pytest.mark.parametrize("line", ["x", f"{'0' * 64}  ../secret", f"{'0' * 64}  /dev/zero", f"{'0' * 64}  " + "x" * 5000, f"{'0' * 64}  a\0b"])
def test_a_changed_list_of_digests_is_damage_and_is_not_followed(tmp_path: Path, line: str) -> None:
    (tmp_path / "secret").write_text("x")
    (fakes(tmp_path / "fakes") / "SHA256SUMS").write_text(line + "\n")
    with pytest.raises(SettingError, match="1 of its files are missing or changed"):
        fakes(tmp_path / "fakes")
    write_audit(make_run(tmp_path / "run"))
    (tmp_path / "run" / "audit" / "SHA256SUMS").write_text(line + "\n")
    assert len(check_audit(tmp_path / "run")) == 1 and check_audit(tmp_path / "run")[0].startswith("missing")


@pytest.mark.parametrize("key", ["settings", "parents", "base"])
@pytest.mark.parametrize("value", [None, 1e400, "ab", {"a": [1]}, 3])
def test_an_adapter_of_odd_facts_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    Adapter("alignment", "ab" * 32, {"a": np.ones(3)}).save(tmp_path)
    facts = json.loads((tmp_path / "adapter.json").read_text())
    (tmp_path / "adapter.json").write_text(json.dumps({**facts, key: value}))
    with pytest.raises(DataError):
        Adapter.load(tmp_path)


@pytest.mark.parametrize("told", ['{"lora_alpha": 1' + "0" * 400 + "}", '{"alpha_pattern": "ab"}', '{"alpha_pattern": 3}', DEEP, "[]", '{"lora_alpha": NaN}'])
def test_what_odd_settings_tell_of_a_lora_is_one_line(tmp_path: Path, told: str) -> None:
    from safetensors.numpy import save_file

    from mitate.generators.updates import Updates

    ones = np.ones((2, 4), np.float32)
    save_file({"base_model.model.a.lora_A.weight": ones, "base_model.model.a.lora_B.weight": ones.T.copy()}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(told)
    with pytest.raises(DataError) as found:
        Updates.read(tmp_path)
    one_line(found.value)


@pytest.mark.parametrize("index", ['{"/": ["a", "b"]}', '{"../x": ["a", "b"]}', '{"..": 1}', DEEP, "[[1]]", '{"": 1}'])
def test_parts_of_a_pipeline_lie_in_its_folder(tmp_path: Path, index: str) -> None:
    from mitate.generators.denoisers import unconditional_index
    from mitate.generators.pipelines import open_pipeline

    (tmp_path / "model_index.json").write_text(index)
    assert unconditional_index(tmp_path) is None
    with pytest.raises(DataError):
        _ = open_pipeline(tmp_path).digest


def leaves_of(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Where texts stand in a record, list items as one."""
    if isinstance(value, dict):
        return set().union(*(leaves_of(v, (*path, k)) for k, v in value.items()), set())
    if isinstance(value, list):
        return set().union(*(leaves_of(v, (*path, "*")) for v in value), set())
    return {path} if isinstance(value, str) else set()


def with_leaf(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {k: with_leaf(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    return [with_leaf(v, path[1:], new) for v in value] if isinstance(value, list) and path[0] == "*" else value


@pytest.mark.parametrize("value", [None, 3, [], {}, "x", [[]], 10**400], ids=["null", "number", "list", "record", "text", "lists", "huge"])
@pytest.mark.parametrize("name", ["study.json", "decision.json", "samples/samples.json"])
def test_a_run_folder_with_another_sort_of_value_is_reported_or_refused(tmp_path: Path, name: str, value: Any) -> None:
    run = make_run(tmp_path / "run")
    whole = json.loads((run / name).read_text())
    for key in whole:
        (run / name).write_text(json.dumps({**whole, key: value}))
        try:
            write_report(Run(run))
        except MitateError as wrong:
            one_line(wrong)
    for text in (json.dumps(value), DEEP, ""):
        (run / name).write_text(text)
        try:
            write_report(Run(run))
        except MitateError as wrong:
            one_line(wrong)
