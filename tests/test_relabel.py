"""Relabelling: wrong labels are found, shares are exact, every decision has a reason in the ledger, and saying it twice says nothing new."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mitate import cli_relabel, frozen
from mitate.cli_relabel import relabel as command
from mitate.codec import pixel_digest
from mitate.curation.export import export
from mitate.curation.filters import Rules, by_confidence, by_labels, by_near_duplicates, changes, groups_of, kept_of
from mitate.curation.labellers import ZeroShot, named
from mitate.curation.ledger import NAME, Decision, Ledger, Standing
from mitate.errors import DataError, MitateError, SettingError
from mitate.frozen import trained
from mitate.images import Provenance, from_arrays
from mitate.intake.opening import open_images
from mitate.lab.reading import understand
from mitate.lab.sets import lab_images
from mitate.metrics.intervals import wilson
from mitate.relabelled import relabel
from mitate.sets import write_images

CLASSES = ("healthy", "rust", "blotch")
MADE = Provenance("vae", "d" * 64, {"steps": 10}, ("p" * 64,))


def patterns(each: int, *, seed: int, size: int = 16, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images whose class is where their bright bar is: easy to tell, no two alike."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), each)
    x = rng.integers(0, 110, (len(y), size, size, 1), dtype=np.uint8)
    for image, k in zip(x, y, strict=True):
        at = 2 + 4 * k + int(rng.integers(0, 2))
        image[at : at + 3] += 120
    return x, y


def write(folder: Path, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Path:
    return write_images(from_arrays(x, y, classes=classes, name="leaves", provenance=MADE), folder)


def write_real(file: Path, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Path:
    np.savez(file, x_train=x, y_train=y, classes=np.array(classes))
    return file


@dataclass(frozen=True)
class Told:
    """A labeller that reads off where the bar is."""

    classes: tuple[str, ...] | None = CLASSES
    name: str = "told"
    digest: str = "t" * 64
    shape: tuple[int, int] = (16, 1)

    def probabilities(self, x: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
        rows = x[..., 0].astype(np.float64).mean(2)
        assert self.classes is not None
        logits = np.stack([rows[:, 2 + 4 * k : 6 + 4 * k].mean(1) / 8 for k in map(self.classes.index, classes)], axis=1)
        found = np.exp(logits - logits.max(1, keepdims=True))
        return found / found.sum(1, keepdims=True)


def swapped(y: np.ndarray, rows: list[int]) -> np.ndarray:
    out = y.copy()
    out[rows] = (out[rows] + 1) % 3
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of each class; the first of each lies under another one."""
    x, y = patterns(8, seed=1)
    return write(tmp_path / "fakes", x, swapped(y, [0, 8, 16]))


def said(folder: Path, name: str) -> dict[str, Decision]:
    return Standing(Ledger(folder).read()).by(f"filter:{name}")


def holds(folder: Path) -> dict[tuple[str, str], Decision]:
    standing = Standing(Ledger(folder).read())
    return {(file, by): replace(d, time="") for file in standing.files() for by, d in standing.of(file).items()}


def untouched(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and NAME not in p.name}


# labels ---------------------------------------------------------------------------------------------------------------


def test_labels_that_were_swapped_on_purpose_are_found_by_a_model_trained_on_real_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "STEPS", 25)
    x, y = patterns(20, seed=2)
    wrong = [i for i in range(60) if i % 5 == 0]
    fakes = write(tmp_path / "fakes", x, swapped(y, wrong))
    before = untouched(fakes)
    real = write_real(tmp_path / "leaves.npz", *patterns(12, seed=3))
    found = relabel(fakes, model=f"real:{real}", rules=Rules(sure=0.5))
    images = open_images(fakes)
    truth = {name: CLASSES[y[i]] for name in images.names for i in [int(Path(name).stem)]}
    changed = {file: d.label for file, d in said(fakes, "labels").items() if d.decision == "relabel"}
    right = wilson(sum(truth[file] == label for file, label in changed.items()), len(changed))
    assert len(changed) >= 10 and right.low > 0.7 and found.model == "real:leaves.npz"
    flipped = {name for name in images.names if int(Path(name).stem) in wrong}
    assert wilson(len(flipped & changed.keys()), len(flipped)).low > 0.55  # 12 of 12 give 0.76
    assert found.counts["relabelled"] == len(changed) and found.counts["kept"] == 60
    assert untouched(fakes) == before
    again, _ = trained(real)
    assert again.digest == found.digest  # frozen, and found in the store


def test_a_decision_tells_what_the_model_says_and_how_sure_it_is(folder: Path) -> None:
    relabel(folder, model=Told())
    d = next(d for d in said(folder, "labels").values() if d.decision == "relabel")
    assert d.reason.startswith("told says ") and "% sure) and the set" in d.reason and 0.9 <= (d.score or 0) <= 1
    kept = next(d for d in said(folder, "labels").values() if d.decision == "keep")
    assert kept.reason.endswith("as the set does")
    assert len(said(folder, "labels")) == 24


def test_the_set_keeps_its_class_where_the_model_is_not_sure_enough() -> None:
    found = np.array([[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    files, folders, rules = ["a", "b", "c"], ["x", "x", "x"], Rules(sure=0.75)
    got = by_labels(files, folders, found, ["x", "y"], rules, model="m")
    assert [(d.decision, d.label) for d in got] == [("relabel", "y"), ("keep", None), ("keep", None)]
    assert "under 0.75" in got[1].reason
    dropped = by_labels(files, folders, found, ["x", "y"], replace(rules, differing="drop"), model="m")
    assert [d.decision for d in dropped] == ["drop", "keep", "keep"]


def test_with_no_relabel_what_the_model_differs_on_is_dropped(folder: Path) -> None:
    found = relabel(folder, model=Told(), rules=Rules(differing="drop"))
    assert found.counts == {"kept": 21, "relabelled": 0, "labels": 3} and found.differing == found.sure == 3


def test_the_table_of_model_by_set_counts_every_image_once(folder: Path) -> None:
    found = relabel(folder, model=Told())
    assert found.confusion is not None and found.confusion.sum() == 24 and np.trace(found.confusion) == 21
    told = found.record["confusion"]
    assert told["model"] == told["set"] == sorted(CLASSES) and [sum(row) for row in zip(*told["images"], strict=True)] == [r.images for r in found.rows]


# shares ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "share", "kept"), [(10, 0.8, 8), (5, 0.5, 3), (3, 0.01, 1), (1, 0.5, 1), (7, 1.0, 7)])
def test_a_share_is_a_whole_number_of_images_and_at_least_one(n: int, share: float, kept: int) -> None:
    assert kept_of(n, share) == kept


def test_the_share_that_is_kept_is_exact_in_every_class_that_then_stands(folder: Path) -> None:
    found = relabel(folder, model=Told(), rules=Rules(keep=0.75))
    truth = Counter(CLASSES[int(Path(file).stem) // 8] for file, d in said(folder, "confidence").items() if d.decision == "keep")
    assert truth == dict.fromkeys(CLASSES, 6) and found.counts["confidence"] == 6
    drops = [d for d in said(folder, "confidence").values() if d.decision == "drop"]
    assert all("not in the most confident 0.75 of its class" in d.reason for d in drops)
    least = min(d.score or 0 for d in said(folder, "confidence").values() if d.decision == "keep")
    assert len(drops) == 6 and least >= 0.5
    assert [row.variety is not None for row in found.rows] == [True] * 3


def test_a_least_probability_drops_what_is_below_it_also_among_the_share() -> None:
    p = np.array([0.9, 0.6, 0.4, 0.8])
    got = by_confidence(list("abcd"), ["x", "x", "x", "y"], p, Rules(keep=0.7, confidence=0.7), model="m")
    assert [d.decision for d in got] == ["keep", "drop", "drop", "keep"] and "under 0.7" in got[1].reason
    assert by_confidence(list("abcd"), ["x"] * 4, p, Rules(), model="m") == ()


def test_of_equal_probabilities_the_earlier_image_is_kept() -> None:
    got = by_confidence(list("abcd"), ["x"] * 4, np.full(4, 0.5), Rules(keep=0.5), model="m")
    assert [d.decision for d in got] == ["keep", "keep", "drop", "drop"]


# the ledger -----------------------------------------------------------------------------------------------------------


def test_the_same_call_again_appends_nothing(folder: Path) -> None:
    first = relabel(folder, model=Told(), rules=Rules(keep=0.75), near_duplicates=True)
    before = (folder / NAME).read_bytes()
    again = relabel(folder, model=Told(), rules=Rules(keep=0.75), near_duplicates=True)
    assert first.appended == 24 * 3 and again.appended == 0 and (folder / NAME).read_bytes() == before


def test_another_rule_first_undoes_what_the_filter_said(folder: Path) -> None:
    relabel(folder, model=Told(), rules=Rules(keep=0.75))
    labels = said(folder, "labels")
    relabel(folder, model=Told(), rules=Rules(keep=0.5))
    lines = Ledger(folder).read()
    kinds = Counter((d.by, d.decision == "undo") for d in lines)
    assert kinds["filter:confidence", True] == 24 and kinds["filter:labels", True] == 0
    assert said(folder, "labels") == labels
    assert sum(d.decision == "keep" for d in said(folder, "confidence").values()) == 12
    relabel(folder, model=Told())  # no share asked: what confidence said does not stand any more
    assert said(folder, "confidence") == {} and said(folder, "labels") == labels


def test_filters_that_are_not_asked_stay_and_undo_takes_one_back(folder: Path) -> None:
    relabel(folder, model=Told())
    relabel(folder, near_duplicates=True)
    assert len(said(folder, "labels")) == len(said(folder, "near-duplicates")) == 24
    found = relabel(folder, undo=("labels",))
    assert said(folder, "labels") == {} and len(said(folder, "near-duplicates")) == 24 and found.appended == 24


def test_each_filter_writes_in_one_append_and_people_are_left_alone(folder: Path) -> None:
    file = open_images(folder).names[0]
    Ledger(folder).append(Decision(file, "keep", "anna"))
    relabel(folder, model=Told(), rules=Rules(keep=0.5), near_duplicates=True)
    lines = Ledger(folder).read()
    times = {name: {d.time for d in lines if d.by == f"filter:{name}"} for name in ("labels", "confidence", "near-duplicates")}
    assert all(len(found) == 1 for found in times.values()) and lines[0].by == "anna" and said(folder, "labels")[file].by == "filter:labels"


def test_a_kill_in_the_middle_of_writing_loses_nothing(folder: Path) -> None:
    relabel(folder, model=Told(), rules=Rules(keep=0.75))
    start = len((folder / NAME).read_bytes())
    relabel(folder, model=Told(), rules=Rules(keep=0.5, sure=0.95))
    whole, wanted = (folder / NAME).read_bytes(), holds(folder)
    for cut in np.linspace(0, len(whole) - 1, 9).astype(int):
        (folder / NAME).write_bytes(whole[:cut])
        relabel(folder, model=Told(), rules=Rules(keep=0.5, sure=0.95))
        assert holds(folder) == wanted, cut
        text = (folder / NAME).read_bytes()
        assert text.startswith(whole[: whole[:cut].rfind(b"\n") + 1]) or cut < start
        assert relabel(folder, model=Told(), rules=Rules(keep=0.5, sure=0.95)).appended == 0


def test_what_must_change_is_told_by_file() -> None:
    old = [Decision("a", "keep", "filter:x", reason="r", time="1"), Decision("b", "drop", "filter:x", reason="r"), Decision("a", "drop", "anna")]
    new = [Decision("a", "keep", "filter:x", reason="r"), Decision("c", "keep", "filter:x", reason="r")]
    assert [(d.file, d.decision) for d in changes(old, new, "x")] == [("b", "undo"), ("c", "keep")]
    twice = [*old, Decision("a", "drop", "filter:x")]  # said over what was said: both are undone
    assert [(d.file, d.decision) for d in changes(twice, new[:1], "x")] == [("b", "undo"), ("a", "undo"), ("a", "undo"), ("a", "keep")]


def test_what_stands_is_exported(folder: Path, tmp_path: Path) -> None:
    relabel(folder, model=Told(), rules=Rules(keep=0.75))
    done = export(folder, tmp_path / "kept")
    kept = open_images(tmp_path / "kept")
    assert done.images == len(kept) == 18 and set(kept.counts().values()) == {6}
    rows = [json.loads(line) for line in (tmp_path / "kept" / "metadata.jsonl").read_text().splitlines()]
    assert all("filter:confidence" in row["filters"] for row in rows)


# copies and look-alikes -----------------------------------------------------------------------------------------------


def test_planted_copies_are_dropped_and_nothing_else(tmp_path: Path) -> None:
    real_x, real_y = patterns(15, seed=4)
    x, y = patterns(8, seed=5)
    planted = [3, 11, 20]
    noise = np.random.default_rng(0).integers(0, 4, x[planted].shape, dtype=np.uint8)
    x[planted] = real_x[[1, 17, 33]] + noise
    fakes = write(tmp_path / "fakes", x, y)
    real, fresh = write_real(tmp_path / "real.npz", real_x, real_y), write_real(tmp_path / "fresh.npz", *patterns(10, seed=6))
    found = relabel(fakes, copies_of=real, held_out=fresh)
    drops = {int(Path(file).stem): d for file, d in said(fakes, "copies").items() if d.decision == "drop"}
    assert set(drops) == set(planted) and all("a copy" in d.reason and (d.score or 0) < 0.5 for d in drops.values())
    assert found.copies is not None and found.copies.floor is not None and found.copies.floor.value == 0 and found.copies.dropped == 3
    assert found.counts["kept"] == 21 and len(said(fakes, "copies")) == 24
    assert json.loads(json.dumps(found.record, allow_nan=False))["copies"]["floor"]["value"] == 0


def test_of_near_duplicates_one_is_kept(tmp_path: Path) -> None:
    x, y = patterns(8, seed=7)
    x[5], x[9] = np.clip(x[2] * 1.05, 0, 255).astype(np.uint8), x[2]
    fakes = write(tmp_path / "fakes", x, y)
    relabel(fakes, near_duplicates=True)
    drops = {int(Path(file).stem): d for file, d in said(fakes, "near-duplicates").items() if d.decision == "drop"}
    assert set(drops) == {5, 9} and all("000002.png, which is kept" in d.reason for d in drops.values())
    relabel(fakes, model=Told(), near_duplicates=True)  # 9 lies under rust, and is relabelled first
    assert sum(d.decision == "drop" for d in said(fakes, "near-duplicates").values()) == 2


def test_whoever_is_paired_is_in_one_group_and_the_most_confident_stays() -> None:
    assert groups_of([(3, 1), (1, 0), (4, 5)], 6) == [0, 0, 2, 0, 4, 4]
    got = by_near_duplicates(list("abcdef"), [0, 0, 2, 0, 4, 4], np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.7]))
    assert [d.decision for d in got] == ["drop", "keep", "keep", "drop", "keep", "drop"] and got[1].score == 3


# captions and sentences -----------------------------------------------------------------------------------------------


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    images = lab_images(1)
    wrong = replace(images, captions=("three green things", *(images.captions or ())[1:]), provenance=MADE)
    return write_images(wrong, tmp_path / "drawings")


@pytest.mark.filterwarnings("ignore")
def test_captions_are_rewritten_by_a_frozen_captioner(drawings: Path, tmp_path: Path) -> None:
    found = relabel(drawings, model="lab")
    lines = said(drawings, "captions")
    first = next(name for name in lines if name.endswith("000000.png"))
    assert len(lines) == 6 and found.captions >= 1 and lines[first].reason != "three green things" and (lines[first].score or 0) < 0.5
    assert (prompt := understand(lines[first].reason).prompt) is not None and len(prompt.groups) == 1
    assert relabel(drawings, model="lab").appended == 0
    done = export(drawings, tmp_path / "kept")
    kept = open_images(tmp_path / "kept")
    rows = [json.loads(line) for line in (tmp_path / "kept" / "metadata.jsonl").read_text().splitlines()]
    assert done.images == 6 and [row["caption"] for row in rows] == [lines[row["source"]].reason for row in rows] and kept.captions is not None
    export(drawings, tmp_path / "kept")  # the same again is left as it is
    with pytest.raises(SettingError, match="gives no probabilities"):
        relabel(drawings, model="lab", rules=Rules(keep=0.5))


@pytest.mark.filterwarnings("ignore")
def test_an_image_text_model_labels_by_sentences(tmp_path: Path) -> None:
    images = lab_images(3)
    colours = ("red", "blue")
    of = [next((c for c in colours if c in text), "") for text in images.captions or ()]
    rows = [i for i, c in enumerate(of) if c]
    if len({of[i] for i in rows}) < 2:
        pytest.skip("the scenes hold one of the colours only")
    x = np.stack([images.reader.read(i) for i in rows])
    y = np.array([colours.index(of[i]) for i in rows])
    wrong = y.copy()
    wrong[0] = 1 - wrong[0]
    fakes = write(tmp_path / "fakes", x, wrong, colours)
    found = relabel(fakes, model="similarity:lab-clip", rules=Rules(sure=0.5), template="a picture of a {label} thing")
    assert found.model == "similarity:lab-clip"
    changed = {int(Path(file).stem): d.label for file, d in said(fakes, "labels").items() if d.decision == "relabel"}
    assert changed.get(0) == colours[y[0]] and len(changed) <= 2


def test_the_template_needs_a_place_and_classes_different_words() -> None:
    with pytest.raises(SettingError, match="no place"):
        ZeroShot("lab-clip", "a leaf").sentences(["a", "b"])
    with pytest.raises(SettingError, match="same sentence"):
        ZeroShot("lab-clip").sentences(["early-blight", "early_blight"])


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "reel:leaves", "real:", "real", "similarity", "caption: ", "lab:", "gpt"])
def test_an_unknown_model_is_one_line_with_a_fix(text: str, folder: Path) -> None:
    with pytest.raises(SettingError, match="no labeller") as wrong:
        named(text)
    assert "\n" not in str(wrong.value) and "real:FOLDER" in wrong.value.fix
    assert CliRunner().invoke(command, [str(folder), "--with", text]).exception.__class__ is SettingError


@pytest.mark.parametrize(
    "options",
    [
        ["--keep", "0"], ["--keep", "1.2"], ["--keep", "nan"], ["--keep", "80"], ["--confidence", "-1"], ["--sure", "2"], ["--confidence", "inf"],
    ],
)  # fmt: skip
def test_a_share_out_of_range_is_one_line_with_a_fix(options: list[str], folder: Path) -> None:
    ran = CliRunner().invoke(command, [str(folder), "--with", "real:nowhere", *options])
    assert isinstance(ran.exception, SettingError) and options[0] in ran.exception.message and ran.exception.fix
    assert not (folder / NAME).exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "No filter"), (["--keep", "0.5"], "of a model"), (["--held-out", "x"], "Held-out"), (["--undo", "lables"], "no filter"),
        (["--near-duplicates", "--undo", "near-duplicates"], "take back"), (["--with", "real:nowhere"], "is not there"),
        (["--with", "similarity:nowhere"], "holds no model"), (["--with", "lab"], "no captions"), (["--with", "real:x", "--template", "{label}"], "template"),
        (["--copies-of", "nowhere"], "is not there"), (["--near-duplicates", "--export", "fakes/kept"], "inside"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_written(options: list[str], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    ran = CliRunner().invoke(command, ["fakes", *options])
    assert isinstance(ran.exception, MitateError) and told in str(ran.exception) and ran.exception.fix
    assert not (folder / NAME).exists()


def test_sets_without_classes_and_models_of_other_classes_are_refused(tmp_path: Path, folder: Path) -> None:
    x, y = patterns(4, seed=1)
    bare = write_images(replace(from_arrays(x, y, classes=CLASSES, provenance=MADE), classes=(), labels=(-1,) * 12), tmp_path / "bare")
    with pytest.raises(DataError, match="12 of 12 images have no class"):
        relabel(bare, model=Told())
    assert relabel(bare, near_duplicates=True).counts["kept"] == 12  # needs no classes
    with pytest.raises(DataError, match="knows no class 'blotch'"):
        relabel(folder, model=Told(classes=("healthy", "rust")))
    with pytest.raises(DataError, match="one class"):
        relabel(write(tmp_path / "one", x, y * 0, ("leaf",)), model=Told(classes=("leaf",)))
    with pytest.raises(DataError, match="There are 5 real images"):
        relabel(folder, copies_of=write_real(tmp_path / "few.npz", x[:5], y[:5]))


def test_hostile_class_names_are_relabelled_and_printed_on_one_line(tmp_path: Path) -> None:
    hostile = ("../../etc", "<script>alert(1)</script>\n\x1b[31m", "con" + "x" * 300)
    x, y = patterns(4, seed=8)
    fakes = write(tmp_path / "fakes", x, swapped(y, [0, 5]), hostile)
    found = relabel(fakes, model=Told(classes=hostile), rules=Rules(keep=0.5))
    changed = {int(Path(file).stem): d for file, d in said(fakes, "labels").items() if d.decision == "relabel"}
    assert {i: d.label for i, d in changed.items()} == {0: hostile[0], 5: hostile[1]}
    for line in [*cli_relabel.lines(found), *(d.reason for d in changed.values())]:
        assert line.isprintable()
    export(fakes, tmp_path / "kept")
    assert set(open_images(tmp_path / "kept").classes) == set(hostile)


# the command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_became_of_each_class_and_writes_the_table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "STEPS", 25)
    real = write_real(tmp_path / "real.npz", *patterns(12, seed=3))
    asked = [str(folder), "--with", f"real:{real}", "--keep", "0.75", "--sure", "0.5", "--copies-of", str(real), "--near-duplicates"]
    ran = CliRunner().invoke(command, [*asked, "--json", str(tmp_path / "t.json"), "--export", str(tmp_path / "kept")], catch_exceptions=False)
    head = next(line for line in ran.output.splitlines() if line.startswith("class"))
    assert head.split()[:5] == ["class", "images", "kept", "relabelled", "gained"] and "dropped: confidence" in head
    assert "lines added" in ran.output and "variety of healthy" in ran.output and "not measured (--held-out REAL)" in ran.output
    record = json.loads((tmp_path / "t.json").read_text())
    assert sum(map(sum, record["confusion"]["images"])) == 24 and record["counts"]["kept"] == len(open_images(tmp_path / "kept"))
    again = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert "nothing added: it said so already" in again.output


def test_image_names_of_the_ledger_are_those_of_the_set(folder: Path) -> None:
    relabel(folder, model=Told())
    images = open_images(folder)
    assert set(said(folder, "labels")) == set(images.names) and images.digests[0] == pixel_digest(images.reader.read(0))
