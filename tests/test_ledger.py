"""The ledger of an image set: what is told as written stays written, and what holds is read off."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mitate.curation import ledger as module
from mitate.curation.agreement import OPEN, agreed, agreements, audited, kappa
from mitate.curation.ledger import NAME, START, Decision, Ledger, Standing, reviewer
from mitate.errors import DataError, SettingError, StoreError
from mitate.metrics.intervals import wilson


def keep(file: str, by: str = "anna", **more: object) -> Decision:
    return Decision(file, "keep", by, **more)  # type: ignore[arg-type]


def drop(file: str, by: str = "anna", **more: object) -> Decision:
    return Decision(file, "drop", by, **more)  # type: ignore[arg-type]


def undo(file: str, by: str = "anna") -> Decision:
    return Decision(file, "undo", by)


def test_a_decision_comes_back_as_it_was_written(tmp_path: Path) -> None:
    whole = Decision("錆/1.png", "relabel", "filter:agreement", "錆\u2028病", 'a "reason"\nof two lines', 0.97, ("One leaf",), 7, "2026-01-02T03:04:05Z")
    ledger = Ledger(tmp_path)
    assert ledger.read() == ()
    told = ledger.append([whole, keep("a.png")])
    assert ledger.read() == told.decisions and told.decisions[0] == whole and told.torn == ""
    lines = (tmp_path / NAME).read_text(encoding="utf-8").split("\n")
    assert len(lines) == 3 and json.loads(lines[1]).keys() == {"file", "decision", "by", "time"}


def test_decisions_of_one_call_share_their_time_and_later_ones_come_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    one, two = ledger.append([keep("a"), keep("b")]).decisions, ledger.append(keep("c")).decisions
    assert one[0].time == one[1].time < two[0].time and one[0].time.endswith("Z")


@pytest.mark.parametrize(
    "wrong",
    [
        Decision("a", "burn", "anna"), Decision("a", "keep", ""), Decision("a", "keep", "filter:"), Decision("a", "keep", "an\nna"),
        Decision("", "keep", "anna"),
        Decision("/etc/passwd", "drop", "anna"), Decision("../a", "drop", "anna"), Decision("a/../../b", "drop", "anna"), Decision("a", "relabel", "anna"),
        Decision("a", "relabel", "anna", "  "), Decision("a", "keep", "anna", "rust"), Decision("a", "drop", "anna", reason="x" * 1001),
        Decision("a", "drop", "anna", score=float("nan")), Decision("a", "drop", "anna", reason="\ud800"), Decision("a\0", "drop", "anna"),
    ],
)  # fmt: skip
def test_a_decision_that_cannot_be_read_back_is_not_written(tmp_path: Path, wrong: Decision) -> None:
    with pytest.raises(SettingError):
        Ledger(tmp_path).append([keep("good"), wrong])
    assert Ledger(tmp_path).read() == ()


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_torn_by_a_kill_is_passed_over_and_taken_off_by_the_next_one(tmp_path: Path, cut: int) -> None:
    ledger = Ledger(tmp_path)
    ledger.append([keep("a"), keep("b")])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert [d.file for d in ledger.read()] == ["a"]
    told = ledger.append(keep("c"))
    assert told.torn.startswith('{"file": "b"') and [d.file for d in ledger.read()] == ["a", "c"]
    assert ledger.append(keep("d")).torn == ""


def test_a_torn_line_that_is_longer_than_what_is_read_at_once_is_taken_off_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(keep("a"))
    with open(tmp_path / NAME, "ab") as file:
        file.write(b"\0" * 200_000)  # what some file systems leave after a power cut
    assert len(ledger.append(keep("b")).torn) == 200_000 and [d.file for d in ledger.read()] == ["a", "b"]


@pytest.mark.parametrize(
    "line", [b"{", b'{"file": "a", "decision": "burn", "by": "anna"}', b'{"file": 3, "decision": "keep", "by": "anna"}', b"\xff\xfe", b"[]"]
)
def test_other_damage_is_an_error_that_names_the_line(tmp_path: Path, line: bytes) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(keep("a"))
    with open(tmp_path / NAME, "ab") as file:
        file.write(line + b"\n")
    ledger.append(keep("b"))
    with pytest.raises(DataError, match="line 2") as wrong:
        ledger.read()
    assert "take that line out" in wrong.value.fix


def test_a_line_of_a_later_version_is_read_for_what_is_known_of_it(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"file": "a", "decision": "keep", "by": "anna", "weather": "fine"}\n\n')
    assert Ledger(tmp_path).read() == (keep("a"),)


def test_a_full_disk_leaves_no_half_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(keep("a"))
    before = (tmp_path / NAME).read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        ledger.append([keep("b"), keep("c")])
    monkeypatch.undo()
    assert (tmp_path / NAME).read_bytes() == before


def test_a_ledger_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "set" / NAME).symlink_to(tmp_path / "elsewhere")
    for work in (lambda ledger: ledger.read(), lambda ledger: ledger.append(keep("a"))):
        with pytest.raises(StoreError, match="is a link"):
            work(Ledger(tmp_path / "set"))
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_set_that_went_away_is_told_and_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not there any more"):
        Ledger(tmp_path / "gone").append(keep("a"))
    assert not (tmp_path / "gone").exists()


def _write_many(folder: str, by: str) -> None:
    for i in range(40):
        Ledger(folder).append([keep(f"{i}", by), drop(f"x{i}", by)])


def test_two_processes_write_every_line_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_write_many, args=(str(tmp_path), by)) for by in ("anna", "ben")]
    for one in both:
        one.start()
    for one in both:
        one.join()
    found = Ledger(tmp_path).read()
    assert len(found) == 160
    for by in ("anna", "ben"):
        assert [d.file for d in found if d.by == by] == [name for i in range(40) for name in (f"{i}", f"x{i}")]


@pytest.mark.skipif(not hasattr(os, "kill"), reason="kills a process")
def test_what_was_told_as_written_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from mitate.curation.ledger import *\n"
        "ledger = Ledger(sys.argv[1]); i = 0\n"
        "while True: ledger.append(Decision(f'{i}.png', 'keep', 'anna')); print(i, flush=True); i += 1"
    )
    for _ in range(3):
        start = len(Ledger(tmp_path).read())
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(20)]
        process.kill()
        told += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        assert len(Ledger(tmp_path).read()) - start >= len(told)


def test_what_was_written_since_is_read_without_reading_the_rest_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append([keep("a"), keep("b")])
    place = ledger.since(START)
    assert len(place.decisions) == 2 and ledger.since(place).decisions == ()
    ledger.append(keep("c"))
    later = ledger.since(place)
    assert [d.file for d in later.decisions] == ["c"] and not later.afresh and later.line == 3
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes().split(b"\n")[0] + b"\n")
    again = ledger.since(later)
    assert again.afresh and [d.file for d in again.decisions] == ["a"]
    (tmp_path / NAME).unlink()
    assert ledger.since(again).afresh


def test_a_hundred_thousand_lines_are_read_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(Decision(f"rust/{i:06d}.png", "drop" if i % 3 else "keep", f"filter:{i % 4}", score=i / 7) for i in range(100_000))
    standing = Standing(ledger.read())
    assert sum(1 for _ in standing.files()) == 100_000 and len(standing.by("filter:1")) == 25_000


# what holds -----------------------------------------------------------------------------------------------------------


def test_the_latest_decision_holds_and_undo_brings_back_the_one_before() -> None:
    said = [keep("a"), drop("a")]
    assert Standing(said).of("a")["anna"].decision == "drop"
    assert Standing([*said, undo("a")]).of("a")["anna"].decision == "keep"
    assert Standing([*said, undo("a"), undo("a")]).of("a") == {}
    assert Standing([undo("a"), undo("a"), keep("a")]).of("a")["anna"].decision == "keep"


def test_undo_takes_back_nothing_of_others() -> None:
    standing = Standing([keep("a"), drop("a", "ben"), keep("b"), undo("a")])
    assert standing.of("a").keys() == {"ben"} and standing.of("b").keys() == {"anna"} and standing.names() == ("anna", "ben")
    assert list(Standing([keep("a"), undo("a")]).files()) == []


def test_people_outweigh_filters_and_two_who_differ_leave_it_open() -> None:
    filters = {"filter:copies": drop("a", "filter:copies"), "filter:blur": keep("a", "filter:blur")}
    assert agreed({}) is None
    assert agreed(filters) is not None and agreed(filters).state == "drop" and agreed(filters).by == ("filter:copies",)  # type: ignore[union-attr]
    one = agreed({**filters, "anna": keep("a")})
    assert one is not None and one.state == "keep" and one.by == ("anna",)
    two = agreed({**filters, "anna": keep("a"), "ben": drop("a", "ben")})
    assert two is not None and two.state == OPEN and two.by == ("anna", "ben")


def test_relabels_agree_only_on_the_same_class() -> None:
    rust, spot = (Decision("a", "relabel", "anna", label) for label in ("rust", "spot"))
    assert agreed({"anna": rust, "ben": rust}).label == "rust" and agreed({"anna": rust, "ben": spot}).state == OPEN  # type: ignore[union-attr]
    by_filter = {"filter:x": Decision("a", "relabel", "filter:x", "rust"), "filter:y": keep("a", "filter:y")}
    assert agreed(by_filter).label == "rust"  # type: ignore[union-attr]


# how far two agree ----------------------------------------------------------------------------------------------------


def test_kappa_is_that_of_the_textbook_table() -> None:
    found = kappa(np.array([[20, 5], [10, 15]]), seed=0)  # p_o 0.7, p_e 0.5
    assert found is not None and found.value == pytest.approx(0.4) and found.n == 50 and found.low < 0.2 and 0.55 < found.high < 0.75


def test_kappa_of_three_classes_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.7, a, rng.integers(0, 3, 200))
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (a, b), 1)
    assert kappa(table, seed=0).value == pytest.approx(cohen_kappa_score(a, b))  # type: ignore[union-attr]


def test_full_agreement_on_few_images_does_not_prove_that_it_is_certain() -> None:
    few, more = kappa(np.diag([3, 3]), seed=0), kappa(np.diag([300, 300]), seed=0)
    assert few is not None and few.value == few.high == 1.0 and few.low < 0.4
    assert more is not None and more.low > 0.98


def test_kappa_is_not_defined_where_both_gave_one_answer() -> None:
    assert kappa(np.array([[9, 0], [0, 0]]), seed=0) is None and kappa(np.zeros((2, 2), dtype=np.int64), seed=0) is None
    (pair,) = agreements(Standing([keep("a"), keep("a", "ben")]))
    assert pair.kappa is None and "cannot be told" in pair.note and pair.same is not None and pair.same.low < 0.5


def test_kappa_depends_on_its_seed_alone() -> None:
    table = np.array([[20, 5, 1], [10, 15, 0], [0, 0, 3]])
    assert kappa(table, seed=3) == kappa(table, seed=3)
    assert kappa(table, seed=3).value == kappa(table, seed=4).value  # type: ignore[union-attr]


def test_every_two_people_are_compared_on_the_images_that_both_judged() -> None:
    said = [keep("a"), keep("b"), drop("c"), keep("a", "ben"), drop("b", "ben"), keep("d", "ben"), keep("z", "cleo"), drop("a", "filter:x")]
    (pair,) = agreements(Standing(said))
    assert (pair.one, pair.other, pair.n) == ("anna", "ben", 2) and pair.same is not None and pair.same.value == 0.5


# audits ---------------------------------------------------------------------------------------------------------------


def test_an_audit_counts_blind_decisions_of_people_only() -> None:
    said = [drop(f"{i}", "filter:copies") for i in range(10)] + [drop("0", "filter:blur")]
    said += [keep("0", seed=0), drop("1", seed=0), drop("2", seed=0), keep("3")]  # 3 was looked up
    said += [keep("k1", seed=0), drop("k2", seed=0), Decision("4", "relabel", "anna", "rust", seed=0), keep("5", seed=0), drop("5", "ben", seed=0)]
    found = audited(Standing(said))
    assert found.dropped == wilson(1, 4) and found.kept == wilson(1, 2) and (found.relabelled, found.unsettled) == (1, 1)
    assert found.overruled == {"filter:blur": wilson(1, 1), "filter:copies": wilson(1, 4)}


def test_an_audit_that_has_not_begun_is_not_measured() -> None:
    found = audited(Standing([drop("a", "filter:x"), keep("a")]))
    assert found.dropped is None and found.kept is None and found.overruled == {}


@pytest.mark.parametrize("name", ["", "  ", "filter:x", "a\nb", "x" * 101])
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="cannot be a reviewer"):
        reviewer(name)
