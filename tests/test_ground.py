"""Errors, settings, registry, store, runtime: the ground."""

from __future__ import annotations

import errno
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mitate.store
from mitate import registry
from mitate.errors import DataError, MissingExtra, SettingError, StoreError
from mitate.files import checked_name, disk_errors, write_text
from mitate.runtime import seed_of
from mitate.settings import canonical, digest, from_text, record, seconds
from mitate.store import Asked, Store


@dataclass(frozen=True)
class Kind:
    steps: int = 100
    lr: float = 0.1
    sizes: tuple[int, ...] = (1, 2)
    name: str = "x"


def test_errors_survive_a_trip_between_processes() -> None:
    wrong = pickle.loads(pickle.dumps(DataError("it broke.", fix="mend it")))
    assert isinstance(wrong, DataError) and wrong.fix == "mend it" and str(wrong) == "it broke.  fix: mend it"
    assert "mitate[hf]" in MissingExtra.of("datasets", "hf", "Reading it").fix


def test_equal_records_have_equal_digests_and_nan_has_none() -> None:
    assert digest("t", Kind()) == digest("t", {"name": "x", "lr": 0.1, "steps": 100, "sizes": [1, 2]})
    assert digest("t", Kind()) != digest("u", Kind()) != digest("t", Kind(steps=101))
    with pytest.raises(ValueError, match="canonical"):
        canonical({"a": float("nan")})
    with pytest.raises(TypeError):
        canonical({1, 2})


def test_a_wrong_key_names_the_nearest_known_one() -> None:
    with pytest.raises(SettingError, match="did you mean 'steps'"):
        record(Kind, {"stepz": 3}, where="plan.toml")
    with pytest.raises(SettingError, match="plan.toml"):
        record(Kind, {"steps": "many"}, where="plan.toml")
    assert record(Kind, {"steps": 3}, where="x") == Kind(steps=3)


def test_options_are_read_as_their_fields_types() -> None:
    assert from_text(Kind, ["steps=7", "lr=1e-3", "sizes=4,5", "name=7"], where="o") == Kind(7, 1e-3, (4, 5), "7")
    with pytest.raises(SettingError, match="no value"):
        from_text(Kind, ["steps"], where="o")


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("0.5h", 1800)])
def test_lengths_of_time(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "ten", "0", "-5m", "5x", "m"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="10m"):
        seconds(text)


def test_unknown_kinds_name_the_nearest() -> None:
    with pytest.raises(SettingError, match="did you mean 'diffusion'"):
        registry.find("generator", "difusion")


def test_seeds_follow_from_their_names_alone() -> None:
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", "1") != seed_of("a1")
    assert 0 <= seed_of("a") < 2**63


def make(store: Store, text: str, calls: list[str]) -> Any:
    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        calls.append(text)
        (folder / "data.txt").write_text(text)
        return {"length": len(text)}

    return store.make(Asked("write", 1, {"text": text}), build)


def test_a_second_call_makes_nothing(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "s"), []
    first, second = make(store, "hello", calls), make(store, "hello", calls)
    assert calls == ["hello"] and first.folder == second.folder and second.result["length"] == 5


def test_a_result_that_failed_leaves_nothing_but_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        (checkpoint / "half").write_text("x")
        raise RuntimeError("no")

    asked = Asked("write", 1, {})
    with pytest.raises(RuntimeError):
        store.make(asked, build)
    assert store.get(asked) is None and list(store.objects()) == []
    assert (store.root / "partial" / asked.digest / "half").exists()
    assert not list((store.root / "building").iterdir())


def test_seconds_are_those_of_all_parts_or_the_result_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, store = [0.0], Store(tmp_path / "s")
    monkeypatch.setattr(mitate.store, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 2))

    def work(facts: dict[str, Any], *, killed: bool = False) -> Any:
        def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
            (checkpoint / "half").write_text("x")
            now[0] += 5.0
            if killed:
                raise RuntimeError("killed")
            return facts

        return build

    assert store.make(Asked("write", 1, {"whole": 1}), work({"earlier_seconds": 0.0, "earlier_cpu_seconds": 0.0})).result == {
        "seconds": 5.0,
        "cpu_seconds": 2.5,
        "files": {},
    }
    for facts, told in (
        ({"earlier_seconds": 4.0, "earlier_cpu_seconds": 3.0}, {"seconds": 9.0, "cpu_seconds": 5.5}),
        ({}, {"seconds": 5.0, "cpu_seconds": 2.5, "resumed": True}),
        ({"earlier_seconds": None, "earlier_cpu_seconds": None}, {"seconds": 5.0, "cpu_seconds": 2.5, "resumed": True}),
    ):
        asked = Asked("write", 1, facts)
        with pytest.raises(RuntimeError):
            store.make(asked, work(facts, killed=True))
        assert store.make(asked, work(facts)).result == {**told, "files": {}}


def test_two_writers_of_one_result_both_get_it(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "s"), []

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        make(store, "race", calls)  # another process finishes first
        (folder / "data.txt").write_text("race")
        return {"length": 4}

    assert store.make(Asked("write", 1, {"text": "race"}), build).result["length"] == 4
    assert len(list(store.objects())) == 1


def test_damage_is_found_named_and_forgotten(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "s"), []
    entry = make(store, "hello", calls)
    assert store.damage(entry.digest) is None
    entry.path("data.txt").write_text("hallo")
    assert store.damage(entry.digest) == "changed: data.txt"
    entry.path("data.txt").unlink()
    assert "missing" in str(store.damage(entry.digest))
    entry.path("result.json").write_text("{")
    with pytest.raises(StoreError, match="verify"):
        store.get(entry.digest)
    store.drop(entry.digest)
    make(store, "hello", calls)
    assert calls == ["hello", "hello"]


def test_the_rest_of_a_dropped_result_does_not_stand_in_the_way(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "s"), []
    entry = make(store, "hello", calls)
    entry.path("result.json").unlink()
    assert make(store, "hello", calls).result["length"] == 5 and calls == ["hello", "hello"]


def test_the_loser_of_a_race_takes_the_winners_result(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "s"), []

    def build(folder: Path, checkpoint: Path) -> dict[str, Any]:
        make(store, "race", calls)  # the winner clears the shared checkpoint ...
        (checkpoint / "mine").write_text("x")  # ... under the loser
        return {"length": 0}

    assert store.make(Asked("write", 1, {"text": "race"}), build).result["length"] == 4


def test_a_changed_question_does_not_give_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    entry = make(store, "hello", [])
    asked = json.loads(entry.path("asked.json").read_text())
    asked["settings"]["text"] = "other"
    entry.path("asked.json").write_text(json.dumps(asked))
    assert "question" in str(store.damage(entry.digest))


def test_clean_keeps_names_ledgers_and_what_it_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    a, b, c = (make(store, t, []) for t in "abc")
    store.keep("mine", a.digest)
    (store.root / "openings.jsonl").write_text("{}\n")
    count, size = store.clean(keep={b.digest})
    assert count == 1 and size > 0 and set(store.objects()) == {a.digest, b.digest} and store.get(c.digest) is None
    assert (store.root / "openings.jsonl").exists()
    kept = store.kept("mine")
    assert kept is not None and kept.digest == a.digest


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 101])
def test_kept_names_are_safe_file_names(name: str) -> None:
    with pytest.raises(DataError, match="kept name"):
        checked_name(name)


def test_a_full_disk_is_one_line_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No space left"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StoreError, match="cannot be written"), disk_errors(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system", "x")


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_the_store_is_found_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MITATE_HOME")
    (tmp_path / ".mitate").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert Store.find(tmp_path / "a" / "b").root == tmp_path / ".mitate"
