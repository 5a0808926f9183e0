"""Hostile input: what comes from outside is read, or refused in one line, in little time and memory; nothing in it is run, obeyed or followed out of its place.

Cases that benchmarks/fuzz_readers.py found are here by what was promised. Data are made here; no file is brought.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from make_run import make_run
from mitate import cli, codec
from mitate.adapter import Adapter
from mitate.curation.ledger import Ledger
from mitate.curation.review import checklist
from mitate.errors import DataError, MitateError, SettingError, StoreError
from mitate.images import Provenance, from_arrays
from mitate.intake.opening import open_images
from mitate.progress import Line, tame
from mitate.prompts.skills import read_skill
from mitate.report.audit import check_audit, write_audit
from mitate.report.html import write_report
from mitate.sets import write_images
from mitate.settings import parsed
from mitate.store import Asked, Store
from mitate.studies.plan_file import read_plan
from mitate.study import Run
from tiny import tiny_captioner, tiny_pipeline

DEEP = "[" * 100_000
HALF = '"\\ud800"'
LONG = "9" * 5000
BAD = "\x1b[2J\x1b]0;x\x07\u202e\udcff\r"  # clears a screen, names a window, turns letters round, is half a character


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


@pytest.mark.parametrize(
    "line", [DEEP, f'{{"file_name": "c0/0.png", "label": {DEEP}', f'{{"file_name": "c0/0.png", "label": {HALF}}}', f'{{"file_name": {LONG}}}']
)
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


@pytest.mark.parametrize(
    "line", ['{"chain": 1e400, "generation": 1, "indicators": {}}', '{"chain": 0, "generation": 1, "indicators": {"a": 1' + "0" * 400 + "}}", DEEP]
)
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


@pytest.mark.parametrize("name", ["classes", "groups", "y"])
@pytest.mark.parametrize("letter", [0x110000, 0xFFFFFFFF, 0xD800])
@pytest.mark.parametrize("order", ["<", ">"])
def test_text_of_an_array_that_is_no_text_is_named(tmp_path: Path, name: str, letter: int, order: str) -> None:
    odd = np.array([97, letter] * 4, f"{order}u4").view(f"{order}U2")
    arrays = {"x": npy(X), "y": npy(Y), name: npy(odd)}
    with pytest.raises(DataError, match=rf"{name} holds text that is none"):
        open_images(npz(tmp_path / "x.npz", **arrays))


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


NOISE = b"x" * 3000


@pytest.mark.parametrize(
    "data", [b"", NOISE, gzip.compress(b"", mtime=0), gzip.compress(NOISE, mtime=0), gzip.compress(NOISE, mtime=0)[:-9]],
    ids=["empty", "noise", "nothing packed", "noise packed", "cut off"],
)  # fmt: skip
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


@pytest.mark.parametrize("rounds", ["1e400", "NaN", '"a"', "[]", "null"])
def test_a_manifest_of_impossible_rounds_is_one_line(tmp_path: Path, rounds: str) -> None:
    from mitate.prompts.pool import write_prompts

    write_prompts("counting", 3, out=tmp_path / "x.jsonl", source="grammar")
    whole = json.loads((file := tmp_path / "x.manifest.json").read_text())
    file.write_text(json.dumps({**whole, "whole_rounds": {**whole["whole_rounds"], "rounds": "@"}}).replace('"@"', rounds))
    with pytest.raises(DataError, match="cannot be read") as found:
        write_prompts("counting", 4, out=tmp_path / "x.jsonl", source="grammar")
    one_line(found.value)


@pytest.mark.parametrize("named", [True, 3, {}, [3], None])
def test_a_model_whose_kind_is_no_name_is_refused(tmp_path: Path, named: Any) -> None:
    pytest.importorskip("transformers")
    from mitate.curation.vqa import Vqa
    from tiny_vqa import tiny_vilt

    config = json.loads((tiny_vilt(tmp_path / "x") / "config.json").read_text())
    (tmp_path / "x" / "config.json").write_text(json.dumps({**config, "architectures": named}))
    with pytest.raises(DataError) as found:
        Vqa(str(tmp_path / "x")).check(["a red circle"])
    one_line(found.value)


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


@pytest.mark.parametrize("index", [f'{{"{"9" * 300}": ["a", "b"]}}', '{"/": ["a", "b"]}', '{"../x": ["a", "b"]}', '{"..": 1}', DEEP, "[[1]]", '{"": 1}'])
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


@pytest.mark.parametrize("key", ["verdict", "reason"])
def test_a_finished_run_whose_answer_was_changed_is_told_of_in_one_line(tmp_path: Path, key: str) -> None:
    from mitate.cli_runs import _table, _tell
    from mitate.studies.skills_answer import lines

    run = Run(make_run(tmp_path / "run"))
    (tmp_path / "run" / "decision.json").write_text(json.dumps({k: v for k, v in run.answer.items() if k != key}))
    for told in (lambda: _tell(run, lang="en", exit_code=True), lambda: _table(run, lines)):
        with pytest.raises(DataError, match="hold") as found:
            told()
        one_line(found.value)


@pytest.mark.parametrize("line", [b"\xff\n", b"[]\n", b'{"study": "b", "test": 1, "run": [], "images": [["x"]]}\n', b'{"study": "b", "images": 3}\n'])
def test_lines_that_are_no_openings_are_passed_over(tmp_path: Path, line: bytes) -> None:
    from mitate.studies.gates import look_number, record_opening

    store = Store(tmp_path / "store")
    store.root.mkdir()
    record_opening(store, study="a", test="t", run=tmp_path, images=("x", "y"))
    (file := store.root / "openings.jsonl").write_bytes(line + file.read_bytes())
    assert look_number(store, study="b", images=("x", "z")) == 2 and look_number(store, study="a", images=("x", "y")) == 1


def test_lines_of_jobs_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    from mitate.studies.evidence import Ending, needed

    (file := tmp_path / "jobs.jsonl").write_bytes(b'{"digest": "ab", "inputs": {"a": "cd"}}\n\xff\xed{"digest": \n')
    assert needed(file) == {"ab", "cd"} and Ending(tmp_path).told == {"ab"}
    assert file.read_text() == '{"digest": "ab", "inputs": {"a": "cd"}}\n'


@pytest.mark.parametrize("data", [b"", b"x", npy(X)[:40], npy(X)[:60] + b"(((" + npy(X)[63:], npy(np.zeros(3)), npy(X[:3])])
def test_a_stored_set_with_a_damaged_array_is_passed_over_and_named_where_it_is_asked_for(tmp_path: Path, data: bytes) -> None:
    from mitate import drawn
    from mitate.drawn import known_sets

    def build(into: Path, _: Path) -> dict[str, Any]:
        np.save(into / "x.npy", X), np.save(into / "y.npy", Y)
        (into / "facts.json").write_text('{"classes": ["a", "b"], "digests": []}')
        return {"kind": "vae"}

    store = Store(tmp_path / "store")
    entry = store.make(Asked("sample", 1, {"kind": "vae"}), build)
    assert len(known_sets(store)) == 1
    entry.path("x.npy").write_bytes(data)
    assert known_sets(store) == []
    with pytest.raises(StoreError, match="is damaged") as found:
        drawn._known(entry, {"verb": "sample", "settings": {}, "inputs": {}}, store, {})
    one_line(found.value)


def stopped(folder: Path, *, at: int) -> None:
    """A fit of four steps with a checkpoint after each, stopped before a step."""
    import torch

    from mitate import fitting

    def loss(net: torch.nn.Module, step: int) -> torch.Tensor:
        if step == at:
            raise KeyboardInterrupt
        return net(torch.ones(1, 2)).square().mean()

    schedule = fitting.Schedule(steps=4, lr=0.01)
    fitting.optimise(torch.nn.Linear(2, 1), loss, schedule, seed=0, checkpoint=folder, validate=lambda net: 1.0, validate_every=1)


def changes_of_a_checkpoint(file: Path) -> dict[str, bytes]:
    """What may become of a checkpoint, by name."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    with safe_open(file, "pt") as opened:
        told, whole = opened.metadata()["log"], load_file(file)
    log = json.loads(told)
    less = {k: v for k, v in whole.items() if not k.endswith("exp_avg")}
    return {
        "half": file.read_bytes()[:-9], "nothing": b"", "no log": save(whole), "no moments": save(less, {"log": told}), "no JSON": save(whole, {"log": DEEP}),
        "other weights": save({**whole, "model.weight": whole["model.weight"].repeat(1, 2)}, {"log": told}),
        "steps": save(whole, {"log": json.dumps({**log, "steps": 10**9})}), "no steps": save(whole, {"log": json.dumps({**log, "steps": "a"})}),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["half", "nothing", "no log", "no moments", "no JSON", "other weights", "steps", "no steps"])
def test_a_changed_checkpoint_is_one_line_that_says_what_to_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("mitate.fitting.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path, at=2)
    file = tmp_path / "fit.safetensors"
    file.write_bytes(changes_of_a_checkpoint(file)[name])
    with pytest.raises(StoreError, match="checkpoint .* is damaged") as found:
        stopped(tmp_path, at=9)
    one_line(found.value)
    assert "delete it" in found.value.fix
    file.unlink()
    stopped(tmp_path, at=9)


# loops ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    from mitate.loops.chains import collapse
    from mitate.loops.grounds import ground_of
    from mitate.loops.loop import Loop

    collapse(ground_of("toy", {}), Loop(n=16, generations=2), seeds=1, out=tmp_path / "loop")
    return tmp_path / "loop"


@pytest.mark.parametrize("file", ["../../precious", "/etc/precious", "run.json", "generation-000.npz/../../run.json"])
def test_rolling_back_deletes_no_file_that_a_changed_state_names(looped: Path, tmp_path: Path, file: str) -> None:
    from mitate.loops.chain import roll_back

    (tmp_path / "precious").write_text("x")
    state = json.loads((looped / "chain-000" / "state.json").read_text())
    state["files"][2]["file"] = file
    (looped / "chain-000" / "state.json").write_text(json.dumps(state))
    with pytest.raises(StoreError, match="damaged"):
        roll_back(looped / "chain-000", 1)
    assert (tmp_path / "precious").exists() and (looped / "run.json").exists()


@pytest.mark.parametrize(
    "text", ["[]", "3", DEEP, "{}", '{"loop": [], "ground": 3, "seeds": [0]}', '{"loop": {"generations": "x"}, "seeds": 1}', '{"asked": 1}']
)
@pytest.mark.parametrize("name", ["run.json", "chain-000/state.json", "alarm.json", "loop.jsonl", "blocked.json"])
def test_a_folder_of_loops_with_an_odd_record_is_one_line(looped: Path, name: str, text: str) -> None:
    from mitate.loops.chains import collapse
    from mitate.loops.grounds import ground_of
    from mitate.loops.loop import Loop
    from mitate.loops.watch import monitor_of

    (looped / name).write_text(text + "\n")
    for verb in (
        lambda: write_report(Run(looped)), lambda: monitor_of(looped, null=looped, rate=0.9),
        lambda: monitor_of(looped, rate=0.5) if name == "alarm.json" else None,
        lambda: collapse(ground_of("toy", {}), Loop(n=16, generations=2), seeds=1, out=looped),
    ):  # fmt: skip
        try:
            verb()
        except MitateError as wrong:
            one_line(wrong)


@pytest.mark.parametrize("large", [1e308, 1e155, 1e40])
def test_null_runs_of_numbers_whose_squares_are_none_are_one_line(tmp_path: Path, large: float) -> None:
    from mitate.loops.watch import monitor_of, states

    for name in ("loop", "null"):
        (tmp_path / name).mkdir()
        rows = [{"chain": c, "generation": g, "indicators": {"a": large * (1 + 0.1 * c * g), "b": float(c)}} for c in range(4) for g in (1, 2, 3)]
        (tmp_path / name / "loop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        list(states(tmp_path / "loop", monitor_of(tmp_path / "loop", null=tmp_path / "null", rate=0.5)))
        assert large < 1e100
    except MitateError as wrong:
        one_line(wrong)


def test_an_alarm_without_its_limits_is_one_line(looped: Path) -> None:
    from mitate.loops.watch import monitor_of

    monitor_of(looped, rate=0.5)
    asked = json.loads((looped / "alarm.json").read_text())["asked"]
    (looped / "alarm.json").write_text(json.dumps({"asked": asked}))
    with pytest.raises(SettingError, match="no alarm that was written down") as found:
        monitor_of(looped, rate=0.5)
    one_line(found.value)


# the terminal and the pages -------------------------------------------------------------------------------------------


def test_what_a_terminal_would_obey_is_shown_as_a_question_mark() -> None:
    assert tame(f"a{BAD}b\tc 葉　🌿") == "a?[2J?]0;x????b\tc 葉　🌿"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_does_not_hand_names_to_the_terminal() -> None:
    out = _Terminal()
    Line(1.0, out=out, title=f"fit {BAD}").step(1, 2, f"c{BAD}")
    assert "\x1b" not in out.getvalue() and "\u202e" not in out.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ["pilot", f"x{BAD}", "--out", "r"], ["report", f"x{BAD}"], ["scan", f"leaves{BAD[:4]}"], [f"pil{BAD}ot"],
        ["fit", "gaussian", "leaves", "--as", f"g{BAD}"], ["pilot", "leaves", "--plan", f"p{BAD}", "--out", "r"], ["review", f"x{BAD}"],
        ["verify", "--run", f"x{BAD}"], ["pilot", "--no" + BAD],
    ],
)  # fmt: skip
def test_no_words_of_the_command_line_reach_the_terminal_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mitate", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and not set(said.out + said.err) & set("\x1b\x07\u202e\udcff\r") and len(said.err.splitlines()) == 2


def test_classes_and_files_of_any_name_reach_the_terminal_tamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], leaves: Path
) -> None:
    os.rename(leaves / "c0", leaves / "c\x1b[2J\u202e")
    (leaves / "c1" / os.fsdecode(b"\xff\x1b[31m.png")).write_bytes((leaves / "c1" / "0.png").read_bytes())
    (leaves / "ledger.jsonl").write_text(json.dumps({"file": "c1/0.png", "decision": "relabel", "label": f"x{BAD[:4]}", "by": "anna"}) + "\n")
    for words in (["scan", str(leaves)], ["review", str(leaves), "--agreement"], ["fit", "gaussian", str(leaves), "--as", "g"], ["ls"]):
        monkeypatch.setattr(sys, "argv", ["mitate", *words])
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr()
        assert not set(said.out + said.err) & set("\x1b\x07\u202e\r"), words


EVIL = "</td></script></style></title></svg><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}javascript:alert(3)"


def markup(page: str) -> tuple[set[str], set[str]]:
    """The tags of a page, and the names of their attributes."""
    from html.parser import HTMLParser

    tags, names = set[str](), set[str]()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            names.update(name for name, _ in attrs)
            assert not any((value or "").strip().lower().startswith("javascript:") for _, value in attrs)

    Parser().feed(page)
    return tags, names


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("pilot", "study.json"), ("pilot", "decision.json"), ("pilot", "jobs.jsonl"), ("pilot", "scores.jsonl"), ("pilot", "machine.json"),
        ("compare", "study.json"), ("compare", "compare.json"), ("loop", "run.json"), ("loop", "blocked.json"),
    ],
)  # fmt: skip
def test_no_text_of_a_run_folder_becomes_markup(tmp_path: Path, kind: str, name: str, request: pytest.FixtureRequest) -> None:
    from make_comparison import make_comparison

    folder = request.getfixturevalue("looped") if kind == "loop" else {"pilot": make_run, "compare": make_comparison}[kind](tmp_path / "run")
    tags, names = markup(write_report(Run(folder)).read_text(encoding="utf-8"))
    assert "script" not in tags
    path = folder / name
    if name == "blocked.json":
        path.write_text(json.dumps({"0": "why"}))
    whole = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else json.loads(path.read_text())
    places = sorted(leaves_of(whole))
    for start in range(0, len(places), 9):
        changed = whole
        for place in places[start : start + 9]:
            changed = with_leaf(changed, place, EVIL)
        path.write_text("".join(json.dumps(one) + "\n" for one in changed) if path.suffix == ".jsonl" else json.dumps(changed))
        try:
            page = write_report(Run(folder)).read_text(encoding="utf-8")
        except MitateError:
            continue
        new_tags, new_names = markup(page)
        assert "script" not in new_tags and "onerror" not in new_names and "<script>alert" not in page


def test_a_table_of_jobs_computes_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "jobs.jsonl").write_text(json.dumps({"digest": "=cmd()", "verb": "@SUM(1)", "name": "+1\t-2"}) + "\n")
    write_audit(run)
    assert (run / "audit" / "jobs" / "jobs.tsv").read_text().splitlines()[1] == "'=cmd()\t'@SUM(1)\t'+1 -2"


@pytest.mark.parametrize("name", [EVIL, "---\nlicense: mit\n---\n# x", "`${x}`", "=cmd()", "a\u202eb", "| a | b |\n|---|---|"])
def test_the_card_of_a_set_holds_names_as_text(tmp_path: Path, name: str) -> None:
    card = (fakes(tmp_path / "fakes", (name, "b")) / "README.md").read_text(encoding="utf-8")
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "<script" not in body and "<img" not in body and "\n# x" not in body and "\n|---|---|" not in body
    keys = [line.partition(":")[0] for line in head.splitlines()]
    assert keys == ["license", "pretty_name", "task_categories", "annotations_creators", "tags", "size_categories"]


def test_a_page_of_skills_shows_no_file_from_outside_of_its_folder(tmp_path: Path) -> None:
    from mitate.report.skills import SkillsPage

    secret = tmp_path / "secret-x.png"
    secret.write_bytes(codec.encode_png(X[0]))
    (samples := tmp_path / "run" / "samples").mkdir(parents=True)
    (samples / "a.png").write_bytes(secret.read_bytes()), (samples / "b.png").symlink_to(secret), (samples / "c.png").write_bytes(b"<script>")
    page = SkillsPage.__new__(SkillsPage)
    page.run = Run(tmp_path / "run")
    assert page._picture("a.png").startswith("data:image/png;base64,")
    assert [page._picture(name) for name in ("../../secret-x.png", "b.png", "c.png", "none.png", str(secret))] == [""] * 5


def test_a_file_of_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.png", "wb") as out:
        out.truncate(1 << 42)
    with pytest.raises(DataError, match="has 4398 GB"):
        codec.decode(tmp_path / "x.png")


@pytest.mark.parametrize("read", [read_plan, read_skill], ids=["plan", "skill"])
def test_a_settings_file_without_end_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "x.toml").symlink_to("/dev/zero")
    with pytest.raises(SettingError, match="has more than"):
        read(tmp_path / "x.toml")


# pickles --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline and a captioner."""
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline(folder / "pipeline"), tiny_captioner(folder / "captioner")
    return folder


def swapped(source: Path, target: Path, pickled: bytes) -> Path:
    """A copy of a model whose weights are pickles by every name that libraries look for."""
    shutil.copytree(source, target)
    for file in sorted(target.rglob("*.safetensors")):
        file.unlink()
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.pt", "model.pkl", "adapter_model.bin"):
            (file.parent / name).write_bytes(pickled)
    return target


def test_a_pipeline_of_pickles_is_refused(models: Path, tmp_path: Path, trap: bytes) -> None:
    from mitate.generators.pipelines import open_pipeline

    with pytest.raises(DataError, match="cannot be opened as a pipeline") as found:
        open_pipeline(swapped(models / "pipeline", tmp_path / "p", trap)).paint(["a"], [0])
    one_line(found.value)


@pytest.mark.parametrize("door", ["captioner", "vqa", "text", "judge"])
def test_a_folder_of_transformers_with_pickles_is_refused(models: Path, tmp_path: Path, trap: bytes, door: str) -> None:
    from mitate.captioners.writers import open_captioner
    from mitate.curation.judges import Similarity
    from mitate.curation.vqa import Vqa
    from mitate.prompts.text_model import open_text_model
    from tiny_vqa import tiny_blip

    source = tiny_blip(tmp_path / "blip") if door == "vqa" else models / "captioner"
    folder = swapped(source, tmp_path / "x", trap)
    opening: dict[str, Callable[[], object]] = {
        "captioner": lambda: open_captioner(folder).loaded, "vqa": lambda: Vqa(str(folder)).check(["a red circle"]),
        "text": lambda: open_text_model(folder).loaded, "judge": lambda: Similarity(str(folder)).check([]),
    }  # fmt: skip
    with pytest.raises(DataError, match="cannot be opened") as found:
        opening[door]()
    one_line(found.value)


@pytest.mark.parametrize("door", ["captioner", "vqa", "text", "judge", "pipeline", "denoiser"])
def test_a_model_of_endless_layers_is_not_built(tmp_path: Path, door: str) -> None:
    from mitate.captioners.writers import open_captioner
    from mitate.curation.judges import Similarity
    from mitate.curation.vqa import Vqa
    from mitate.generators.denoisers import OfFolder
    from mitate.generators.pipelines import open_pipeline
    from mitate.prompts.text_model import open_text_model

    pytest.importorskip("diffusers")
    (tmp_path / "unet").mkdir()
    kind = {"pipeline": "UNet2DConditionModel", "denoiser": "UNet2DModel"}.get(door, "")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", kind]}))
    told = {"model_type": "vilt", "encoder": {"depths": [2, 2**63]}, "hidden_size": 10**6, "layer_norm_eps": 1e-5}
    (tmp_path / ("unet" if kind else ".") / "config.json").write_text(json.dumps(told))
    opening: dict[str, Callable[[], object]] = {
        "captioner": lambda: open_captioner(tmp_path).loaded, "vqa": lambda: Vqa(str(tmp_path)).check(["a red circle"]),
        "text": lambda: open_text_model(tmp_path).loaded, "judge": lambda: Similarity(str(tmp_path)).check([]),
        "pipeline": lambda: open_pipeline(tmp_path).loaded, "denoiser": lambda: OfFolder(tmp_path),
    }  # fmt: skip
    with pytest.raises(DataError, match="config.json asks for 9223372036854775808 as depths") as found:
        opening[door]()
    one_line(found.value)


@pytest.mark.parametrize("told", [{"num_train_timesteps": 10**12}, {"num_train_timesteps": None}, {"trained_betas": 3}, {"trained_betas": [0.1, 5.0]}])
def test_an_odd_schedule_of_a_base_for_shots_is_one_line(tmp_path: Path, told: dict[str, Any]) -> None:
    diffusers = pytest.importorskip("diffusers")
    from mitate.generators.denoisers import _alphas

    assert len(_alphas(dict(diffusers.DDPMScheduler().config), where=tmp_path)) == 1000
    with pytest.raises(DataError, match="noise schedule") as found:
        _alphas({**diffusers.DDPMScheduler().config, **told}, where=tmp_path)
    one_line(found.value)


@pytest.mark.parametrize("door", ["captioner", "vqa"])
def test_settings_of_a_model_that_show_only_when_it_is_asked_are_one_line(models: Path, tmp_path: Path, door: str) -> None:
    from mitate.captioners.writers import open_captioner
    from mitate.curation.dependency import Question
    from mitate.curation.vqa import Vqa
    from tiny_vqa import tiny_vilt

    folder = tiny_vilt(tmp_path / "x") if door == "vqa" else Path(shutil.copytree(models / "captioner", tmp_path / "x"))
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**told, "size_divisor": {}, "image_mean": [0.5] * 7, "size": {"shortest_edge": "x"}}))
    x = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(DataError) as found:
        open_captioner(folder).describe(x) if door == "captioner" else Vqa(str(folder), {"a": (Question("1", "is there a star ?"),)}).look(x, ["a"])
    one_line(found.value)


def test_a_pipeline_that_lacks_weights_is_refused(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from mitate.generators.pipelines import open_pipeline

    folder = Path(shutil.copytree(models / "pipeline", tmp_path / "p"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: value for name, value in tensors.items() if name != sorted(tensors)[0]}, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match="cannot be opened as a pipeline") as found:
        _ = open_pipeline(folder).loaded
    one_line(found.value)


@pytest.mark.parametrize("facts", [{"steps": 1e400}, {"guidance": "x"}, {"steps": [1]}])
def test_odd_defaults_of_a_pipeline_are_one_line(models: Path, tmp_path: Path, facts: dict[str, Any]) -> None:
    from mitate.generators.pipelines import open_pipeline

    folder = Path(shutil.copytree(models / "pipeline", tmp_path / "p"))
    (folder / "mitate.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="not the defaults of a pipeline") as found:
        open_pipeline(folder)
    one_line(found.value)


def test_code_and_adapters_that_a_folder_brings_are_not_run(models: Path, tmp_path: Path, trap: bytes) -> None:
    from mitate.captioners.writers import open_captioner

    folder = tmp_path / "x"
    shutil.copytree(models / "captioner", folder)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText"), "code.Model")}))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["c_attn"], "r": 2}))
    (folder / "adapter_model.bin").write_bytes(trap)
    try:
        _ = open_captioner(folder).loaded
    except DataError as wrong:
        one_line(wrong)


@pytest.mark.parametrize("door", ["captioner", "vqa", "text", "judge"])
def test_a_model_that_lacks_weights_is_refused_and_not_drawn_at_random(models: Path, tmp_path: Path, door: str) -> None:
    from safetensors.torch import load_file, save_file

    from mitate.captioners.writers import open_captioner
    from mitate.curation.judges import WEIGHTS, Similarity
    from mitate.curation.vqa import Vqa
    from mitate.prompts.text_model import open_text_model
    from tiny_vqa import tiny_blip

    source = {"vqa": lambda: tiny_blip(tmp_path / "blip"), "judge": lambda: WEIGHTS / "lab-clip"}.get(door, lambda: models / "captioner")()
    shutil.copytree(source, folder := tmp_path / "x")
    if door == "text":
        from transformers import GPT2Config, GPT2LMHeadModel

        GPT2LMHeadModel(GPT2Config(vocab_size=600, n_positions=8, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({name: value for name, value in tensors.items() if name != sorted(tensors)[0]}, file, metadata={"format": "pt"})
    opening: dict[str, Callable[[], object]] = {
        "captioner": lambda: open_captioner(folder).loaded, "vqa": lambda: Vqa(str(folder)).check(["a red circle"]),
        "text": lambda: open_text_model(folder).loaded, "judge": lambda: Similarity(str(folder)).check([]),
    }  # fmt: skip
    with pytest.raises(DataError, match="lacks 1 weights") as found:
        opening[door]()
    one_line(found.value)


@pytest.mark.parametrize(
    "told",
    [
        {"sample_size": None}, {"sample_size": "x"}, {"sample_size": [8]}, {"sample_size": 10**9}, {"in_channels": 10**400}, {"mid_block_scale_factor": "nan"},
        [],
    ],
)  # fmt: skip
def test_odd_settings_of_a_base_for_shots_are_one_line(tmp_path: Path, told: Any) -> None:
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")
    from mitate.generators.denoisers import OfFolder

    net = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    config = tmp_path / "ddpm" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **told} if told else told))
    with pytest.raises(DataError) as found:
        base = OfFolder(tmp_path / "ddpm")
        base.clean(torch.zeros(1, 1, 8, 8), 3.0, torch.zeros(1, dtype=torch.int64))
    one_line(found.value)


def test_a_part_of_a_pipeline_from_a_module_of_ones_own_is_not_imported(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: bytes) -> None:
    from mitate.generators.pipelines import open_pipeline

    shutil.copytree(models / "pipeline", tmp_path / "p")
    index = json.loads((tmp_path / "p" / "model_index.json").read_text())
    (tmp_path / "p" / "model_index.json").write_text(json.dumps({**index, "unet": ["mine_to_import", "Model"]}))
    (tmp_path / "mine_to_import.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Model: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match="neither diffusers nor transformers"):
        _ = open_pipeline(tmp_path / "p").loaded


@pytest.mark.parametrize("name", ["x.bin", "x.pt", "x.pth", "x.ckpt", "x.safetensors"])
def test_weights_and_learned_words_that_are_pickles_are_refused(tmp_path: Path, trap: bytes, name: str) -> None:
    from mitate.features.extractor import _recognised
    from mitate.features.networks import read
    from mitate.generators.learnt import Learnt
    from mitate.generators.tokens import Words
    from mitate.generators.updates import Updates
    from mitate.training import backbones

    (file := tmp_path / name).write_bytes(trap)
    shape = (8, 8, 1)
    for door in (
        lambda: Updates.read(file), lambda: Words.read(file), lambda: Learnt.of_file(file, word="x"), lambda: read(file), lambda: _recognised(file),
        lambda: backbones.mobilenet_v2(shape=shape, n_classes=2, weights=file), lambda: backbones.resnet_cifar(shape=shape, n_classes=2, weights=file),
    ):  # fmt: skip
        with pytest.raises((DataError, SettingError)) as found:
            door()
        one_line(found.value)


@pytest.mark.parametrize("name", ["x", "y", "classes", "groups"])
def test_an_archive_with_pickled_arrays_is_refused(tmp_path: Path, trap: bytes, name: str) -> None:
    arrays = {"x": X, "y": Y, "classes": np.array(["a", "b"]), "groups": Y, name: np.array([Trap(tmp_path / "sprung")] * 4, dtype=object)}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=f"the array {name} needs unpickling"):
        open_images(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(trap)
    with pytest.raises(DataError, match="cannot be read as .npz"):
        open_images(tmp_path / "x.npz")


def test_a_generation_of_a_loop_with_pickled_arrays_is_refused(looped: Path, tmp_path: Path, trap: bytes) -> None:
    from mitate.files import file_digest
    from mitate.loops.chains import collapse
    from mitate.loops.grounds import ground_of
    from mitate.loops.loop import Loop
    from mitate.report.loop_run import LoopRun

    own = looped / "chain-000"
    np.savez(own / "generation-002.npz", images=np.array([Trap(tmp_path / "sprung")], dtype=object))
    state = json.loads((own / "state.json").read_text())
    state["files"][2]["digest"] = file_digest(own / "generation-002.npz")
    (own / "state.json").write_text(json.dumps(state))
    with pytest.raises(StoreError, match="missing or damaged"):
        LoopRun(looped).pairs(0)
    with pytest.raises(StoreError, match="cannot be read"):
        collapse(ground_of("toy", {}), Loop(n=16, generations=3), seeds=1, out=looped)
