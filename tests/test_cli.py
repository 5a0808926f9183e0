"""The command line: every bad input is one line, a fix and exit code 2 with nothing lost; the working paths end where they say."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from make_assessment import rich
from mitate import cli
from mitate.score import Assessment
from mitate.settings import plain, record
from mitate.store import Store
from mitate.studies.audit import Audit
from mitate.studies.plan_file import read_plan
from mitate.studies.planning import Pilot

QUICK = (
    "--generators",
    "gaussian",
    "--arms",
    "real,balanced+augment",
    "--steps",
    "12",
    "--replicates",
    "3",
    "--synthetic",
    "8",
    "--budget",
    "9h",
    "--engine",
    "here",
)


@dataclass(frozen=True)
class Said:
    code: int | str | None
    out: str
    err: str


Mitate = Callable[..., Said]


@pytest.fixture
def mitate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mitate:
    """The command line, in an empty folder; anything but an exit is a traceback and fails the test."""
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "work")

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["mitate", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = capsys.readouterr()
        return Said(ended.value.code, found.out, found.err)

    return call


def refused(said: Said, message: str, fix: str = "") -> None:
    """Exit code 2, nothing on stdout, exactly one line of error and one of fix."""
    lines = said.err.splitlines()
    assert (said.code, said.out, len(lines)) == (2, "", 2), said
    assert lines[0].startswith("error: ") and message in lines[0], lines[0]
    assert lines[1].startswith("fix: ") and len(lines[1]) > 8 and fix in lines[1], lines[1]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leaves(root: Path, *, classes: int = 3, n: int = 8, side: int = 12) -> Path:
    """Class folders of noise pictures, brighter from class to class."""
    rng = np.random.default_rng(0)
    for k in range(classes):
        (root / f"c{k}").mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(40 * k, 256, (side, side), dtype=np.uint8)).save(root / f"c{k}" / f"{i}.png")
    return root


def arrays(path: Path, *, n: int = 60, tests: int = 60) -> Path:
    """Bars at one of three heights, in noise, train and test, as `.npz`."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % 3
        x = np.full((count, 8, 8), 90.0) + rng.normal(0, 40, (count, 8, 8))
        for k in range(3):
            x[y == k, 1 + 2 * k : 3 + 2 * k] += 80
        return np.clip(x, 0, 255).astype(np.uint8), y

    (x, y), (x_test, y_test) = draw(n), draw(tests)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, classes=np.array(["low", "mid", "top"]))
    return path


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG that claims this size; there is nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


# help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "demo", "pilot", "fit", "generate", "report", "ls", "verify", "clean"])
def test_every_command_has_a_help_page_and_every_option_a_line(mitate: Mitate, command: str) -> None:
    said = mitate(*command.split(), "--help")
    assert said.code == 0 and said.err == "" and said.out.startswith("Usage: mitate")
    listed = [name for name in cli.app.commands if name in said.out]
    assert command or listed == list(cli.app.commands)


def test_no_words_at_all_show_the_commands(mitate: Mitate) -> None:
    said = mitate()
    assert said.code == 0 and "pilot" in said.out and said.err == ""


# bad images -----------------------------------------------------------------------------------------------------------


def _empty(root: Path) -> str:
    root.mkdir()
    return "holds no images"


def _missing(root: Path) -> str:
    return "is not there"


def _one_class(root: Path) -> str:
    leaves(root, classes=1)
    return "only one class: c0"


def _one_each(root: Path) -> str:
    leaves(root, n=1)
    return "c0 (1), c1 (1), c2 (1)"


def _text_as_jpg(root: Path) -> str:
    (leaves(root) / "c1" / "notes.jpg").write_text("not a picture")
    return "c1/notes.jpg is not an image"


def _truncated(root: Path) -> str:
    file = leaves(root) / "c1" / "3.png"
    file.write_bytes(file.read_bytes()[:-60])
    return "c1/3.png is broken"


def _bomb(root: Path) -> str:
    (leaves(root) / "c0" / "huge.png").write_bytes(png_of(40_000, 40_000))
    return "c0/huge.png is "


def _leak(root: Path) -> str:
    leaves(root / "train"), leaves(root / "test")
    return "test images stand among the train images"


def _loose(root: Path) -> str:
    for i, file in enumerate(sorted(leaves(root).rglob("*.png"))):
        file.rename(root / f"{i}.png")
    return "No image has a label"


def _one_image(root: Path) -> str:
    Image.new("L", (9, 9)).save(root.with_suffix(".png"))
    root.with_suffix(".png").rename(root)
    return "is a file, not a folder of images"


BAD = [_empty, _missing, _one_class, _one_each, _text_as_jpg, _truncated, _bomb, _leak, _loose, _one_image]


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__.strip("_"))
def test_bad_images_are_one_line_with_a_fix_and_nothing_is_lost(mitate: Mitate, make: Callable[[Path], str]) -> None:
    message = make(Path("leaves"))
    before = snapshot(Path.cwd())
    refused(mitate("pilot", "leaves", "--out", "runs/a"), message)
    assert snapshot(Path.cwd()) == before and not Path("runs").exists(), "no run folder of a pilot that never began"


@pytest.mark.parametrize("make", [_empty, _missing, _text_as_jpg, _truncated, _bomb, _one_each, _one_image], ids=lambda f: f.__name__.strip("_"))
def test_a_generator_is_not_fitted_on_bad_images(mitate: Mitate, make: Callable[[Path], str]) -> None:
    message = "(1)" if make is _one_each else make(Path("leaves"))
    if make is _one_each:
        make(Path("leaves"))
    refused(mitate("fit", "gaussian", "leaves", "--as", "g"), message)
    assert Store.find().refs() == {}


def test_a_generator_is_not_fitted_on_images_without_labels(mitate: Mitate) -> None:
    _loose(Path("leaves"))
    refused(mitate("fit", "gaussian", "leaves", "--as", "g"), "24 of 24 images have no label", "one folder a class")


def test_a_folder_that_cannot_be_read_is_named(mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves(Path("leaves"))
    real = os.scandir

    def scandir(path: object = ".") -> object:
        if str(path).endswith("c1"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)  # tests may run as root, whom no permission stops
    refused(mitate("pilot", "leaves", "--out", "runs/a"), "c1 cannot be read (Permission denied)", "permissions")


def test_an_image_that_cannot_be_read_is_named(mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves(Path("leaves"))
    real = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self.name == "5.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    refused(mitate("pilot", "leaves", "--out", "runs/a"), "3 files are not readable as images: c0/5.png, c1/5.png, c2/5.png")


class _Opens:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("run-by-a-pickle",)


@pytest.mark.parametrize("name", ["x_train", "y_train", "classes"])
def test_arrays_that_need_unpickling_are_refused_and_never_run(mitate: Mitate, name: str) -> None:
    with np.load(arrays(Path("a.npz"))) as found:
        values: dict[str, np.ndarray] = dict(found)
    np.savez("a.npz", **{**values, name: np.array([_Opens()] * len(values[name]), dtype=object)})
    refused(mitate("pilot", "a.npz", "--out", "runs/a"), f"a.npz: the array {name} needs unpickling")
    assert not Path("run-by-a-pickle").exists()


# bad settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message", "fix"),
    [
        ("--generators diffuson", "no generator 'diffuson'", "did you mean 'diffusion'?"),
        ("--generators folder", "needs a path", "folder:PATH"),
        ("--generators folder:nowhere", "nowhere is not there", ""),
        ("--generators ,", "No generator was named", "--generators"),
        ("--backbone smal", "no backbone 'smal'", "did you mean 'small'?"),
        ("--backbone mobilenet_v2:none.safetensors", "no weights file 'none.safetensors'", ""),
        ("--backbone mobilenet_v2:a.npz", "is not a safetensors file", "pickles are not opened"),
        ("--backbone small+frosen", "no dial 'frosen'", "+frozen"),
        ("--backbone mitate-smal", "no backbone 'mitate-smal'", "did you mean 'mitate-small'?"),
        ("--backbone mitate-small:none.safetensors", "no weights file 'none.safetensors'", "check the path"),
        ("--backbone mitate-small:a.npz", "is not a safetensors file", "pickles are not opened"),
        ("--backbone mitate-small+frozen --arms balanced,bridged++", "leaves nothing of the synthetic images", "bridged+augment"),
        ("--arms balancd", "no arm 'balancd'", "did you mean 'balanced'?"),
        ("--arms balanced+augmnt", "no dial 'augmnt'", "did you mean 'augment'?"),
        ("--arms real", "None of the arms uses synthetic images", "balanced+augment"),
        ("--measure acuracy", "no measure 'acuracy'", "did you mean 'accuracy'?"),
        ("--measure recall:mit", "no class 'mit'", "did you mean 'mid'?"),
        ("--measure none.csv", "none.csv cannot be read", ""),
        ("--budget 1s --generators gaussian", "too small", "--budget "),
        ("--budget soon", "not a length of time", "10m"),
        ("--size 4", "4 pixels is out of range", "8 to 256"),
        ("--replicates 2", "2 replicates", "3 or more"),
        ("--steps 0", "steps is 0", ""),
        ("--worthwhile nan", "worthwhile is nan", ""),
        ("--worthwhile -0.1", "worthwhile is -0.1", ""),
        ("--seeds +5", "--seeds adds replicates", "--continue"),
        ("--lang fr", "'fr' is not one of 'en', 'ja'", ""),
        ("--engine cluster", "no engine 'cluster'", "here, local"),
        ("--speed 3", "No such option", "mitate pilot --help"),
        ("--size big", "'big' is not a valid integer", ""),
        ("--continue runs/b", "takes its settings from the run", "alone"),
    ],
)
def test_a_wrong_setting_is_one_line_with_a_fix(mitate: Mitate, words: str, message: str, fix: str) -> None:
    arrays(Path("a.npz"))
    before = snapshot(Path.cwd())
    refused(mitate("pilot", "a.npz", "--out", "runs/a", *words.split()), message, fix)
    assert snapshot(Path.cwd()) == before and not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message", "fix"),
    [
        ("plot leaves", "no command 'plot'", "did you mean 'pilot'?"),
        ("pilot", "No images were named", "mitate pilot"),
        ("pilot leaves", "no place for the answer", "--out"),
        ("fit gausian leaves --as g", "no generator 'gausian'", "did you mean 'gaussian'?"),
        ("fit gaussian leaves --as ../g", "cannot be a kept name", ""),
        ("fit gaussian leaves --as g -o rnk=2", "no setting 'rnk'", "did you mean 'rank'?"),
        ("fit gaussian leaves --as g -o rank", "has no value", "name=value"),
        ("fit gaussian leaves --as g -o rank=two", "Expected `int`", ""),
        ("fit gaussian leaves --as g --size 3", "size of 3 pixels", "8 to 256"),
        ("fit gaussian leaves --as g --per-class -3", "-3 is not in the range", ""),
        ("fit gaussian leaves", "Missing option '--as'", "mitate fit --help"),
        ("generate none --per-class 2 --out o", "no kept generator 'none'", "mitate fit"),
        ("generate ../none --per-class 2 --out o", "no kept generator", ""),
        ("report none", "has no decision.json", ""),
        ("report leaves", "has no decision.json", ""),
        ("verify --run leaves", "has no audit", ""),
        ("ls more", "unexpected extra argument", ""),
        ("pilot --continue none", "has no study.json", ""),
        ("pilot --continue none --seeds five", "'five' is not a number of replicates", "+5"),
        ("pilot --continue none --seeds ²", "'²' is not a number of replicates", "+5"),
    ],
)
def test_a_wrong_word_is_one_line_with_a_fix(mitate: Mitate, words: str, message: str, fix: str) -> None:
    leaves(Path("leaves"))
    before = snapshot(Path.cwd())
    refused(mitate(*words.split()), message, fix)
    assert snapshot(Path.cwd()) == before and Store.find().refs() == {}


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ('generatrs = ["vae"]', "plan.toml: there is no setting 'generatrs'", "did you mean 'generators'?"),
        ('generators = "vae"', "Expected `array`, got `str`", ""),
        ("[pilot]\nbudget = 5", "Expected `str`, got `int`", ""),
        ('seed = 1\n[pilot]\nbudget = "5m"', "keys outside [pilot]", ""),
        ("budget =", "is not TOML", "mend that line"),
    ],
)
def test_a_wrong_plan_file_is_one_line_with_a_fix(mitate: Mitate, text: str, message: str, fix: str) -> None:
    Path("plan.toml").write_text(text)
    refused(mitate("pilot", "leaves", "--plan", "plan.toml", "--out", "runs/a"), message, fix)
    refused(mitate("pilot", "leaves", "--plan", "plam.toml", "--out", "runs/a"), "plam.toml cannot be read")


# places that are taken, disks that are full ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "message"), [("notes", "notes is not a folder"), ("notes/run", "notes is not a folder"), ("mine", "mine is not empty and holds no run")]
)
def test_a_pilot_never_writes_where_something_else_is(mitate: Mitate, out: str, message: str) -> None:
    Path("notes").write_text("mine")
    Path("mine/samples").mkdir(parents=True)
    Path("mine/samples/precious.txt").write_text("mine")
    before = snapshot(Path.cwd())
    refused(mitate("pilot", "digits:20", "--out", out), message, "--out")
    assert snapshot(Path.cwd()) == before


def test_a_set_is_never_written_where_something_else_is(mitate: Mitate) -> None:
    leaves(Path("leaves"))
    Path("notes").write_text("mine")
    assert mitate("fit", "gaussian", "leaves", "--as", "g").code == 0
    before = snapshot(Path.cwd())
    for out in ("notes", "notes/set", "leaves"):
        said = mitate("generate", "g", "--per-class", 2, "--out", out)
        refused(said, "in the way" if out == "notes/set" else out)
    assert snapshot(Path.cwd()) == before


def test_a_store_that_is_a_file_is_said_so(mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves(Path("leaves"))
    Path("file").write_text("mine")
    monkeypatch.setenv("MITATE_HOME", "file")
    refused(mitate("fit", "gaussian", "leaves", "--as", "g"), "is in the way")
    assert Path("file").read_text() == "mine"


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_numpy(*_: object, **__: object) -> None:
    raise OSError("4000000 requested and 1048448 written")  # what numpy.save says on a full disk, with no error number


@pytest.mark.parametrize(
    ("place", "how"), [("os.fsync", _full), ("numpy.save", _full_numpy), ("safetensors.numpy.save_file", None)], ids=["fsync", "numpy", "weights"]
)
def test_a_full_disk_is_one_line_and_what_was_kept_stays(mitate: Mitate, monkeypatch: pytest.MonkeyPatch, place: str, how: Callable[..., None] | None) -> None:
    leaves(Path("leaves"))
    assert mitate("fit", "gaussian", "leaves", "--as", "old", "--seed", 1).code == 0
    store = Store.find()
    kept = {p: v for p, v in snapshot(store.root).items() if p.startswith(("objects", "refs"))}
    with monkeypatch.context() as patch:
        if how is not None:
            patch.setattr(place, how)
        else:  # safetensors' own words, as a Rust error

            def save_file(*_: object, **__: object) -> None:
                raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

            patch.setattr("mitate.generators.gaussian.save_file", save_file)
        seed = ("--seed", 2, "--per-class", 7) if place == "numpy.save" else ("--seed", 2)
        refused(mitate("fit", "gaussian", "leaves", "--as", "new", *seed), "No space left on the disk", "finished work is kept")
    now = snapshot(store.root)
    assert {p: now[p] for p in kept} == kept and list(store.refs()) == ["old"]
    assert not any(p.startswith("building") for p in now), "nothing half made is left"
    assert mitate("fit", "gaussian", "leaves", "--as", "new", "--seed", 2).code == 0, "with space, the same command works"


@pytest.mark.slow
def test_a_disk_that_is_really_full_is_one_line_and_the_same_command_goes_on_once_there_is_space(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        leaves(tmp_path / "leaves")
        words = [sys.executable, "-m", "mitate", "fit", "vae", str(tmp_path / "leaves"), "--as", "v", "-o", "steps=4"]
        environment = {**os.environ, "MITATE_HOME": str(small / "store"), "MITATE_CHECKPOINT_SECONDS": "0"}
        full = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        refused(Said(full.returncode, full.stdout, full.stderr), "No space left on the disk")
        subprocess.run([mount, "-o", "remount,size=64m", str(small)], check=True)
        again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        store = Store(small / "store")
        assert [store.damage(name) for name in store.objects()] == [None] * len(list(store.objects())) and list(store.refs()) == ["v"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


# fit, generate, ls, verify, clean -------------------------------------------------------------------------------------


@pytest.fixture
def fakes(mitate: Mitate) -> Path:
    """A set drawn from a kept generator."""
    leaves(Path("leaves"))
    assert mitate("fit", "gaussian", "leaves", "--as", "leaves-g", "-o", "rank=3").code == 0
    said = mitate("generate", "leaves-g", "--per-class", 3, "--out", "fakes")
    assert said.code == 0 and said.out == "fakes: 9 images, 3 classes, each marked as made by a model\n" and said.err == ""
    return Path("fakes")


def test_a_drawn_set_carries_its_mark_card_and_sums(mitate: Mitate, fakes: Path) -> None:
    assert mitate("ls").out.split()[:6] == ["leaves-g", "gaussian", "12", "px,", "3", "classes"]
    files = sorted(fakes.rglob("*.png"))
    assert len(files) == 9
    for file in files:
        with Image.open(file) as image:
            assert "digitalsourcetype/trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    done = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=fakes, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "") and (fakes / "README.md").is_file()
    before = snapshot(fakes)
    assert mitate("generate", "leaves-g", "--per-class", 3, "--out", "fakes").code == 0 and snapshot(fakes) == before
    more = mitate("generate", "leaves-g", "--per-class", 5, "--out", "more")
    assert more.code == 0
    with Image.open("more/c1/000005.png") as a, Image.open(fakes / "c1/000003.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b)), "the first image of a class is the same however many are asked for"
    refused(mitate("pilot", "fakes", "--out", "runs/a"), "made by a model", "folder:PATH")


@pytest.mark.slow
def test_a_drawn_set_opens_with_datasets_and_its_labels(fakes: Path, tmp_path: Path) -> None:
    script = (
        "import datasets, json, sys; d = datasets.load_dataset('imagefolder', data_dir=sys.argv[1], cache_dir=sys.argv[2]); "
        "rows = d['train']; print(json.dumps([list(d), sorted(rows['label']), rows[0]['image'].size]))"
    )
    pytest.importorskip("datasets")
    done = subprocess.run([sys.executable, "-c", script, str(fakes), str(tmp_path / "cache")], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [["train"], ["c0"] * 3 + ["c1"] * 3 + ["c2"] * 3, [12, 12]]


def test_verify_finds_damage_and_remake_makes_room_for_the_same_bytes(mitate: Mitate, fakes: Path) -> None:
    store = Store.find()
    assert mitate("verify").out.endswith("stored results, 0 damaged\n")
    name = next(n for n in store.objects() if (store.folder_of(n) / "seeds.npy").exists())
    file = store.folder_of(name) / "x.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = mitate("verify")
    assert said.code == 1 and f"{name[:12]}  changed: x.npy" in said.out and "1 damaged; forget them with --remake" in said.out
    assert mitate("verify", "--remake").code == 0 and mitate("verify").code == 0 and not file.exists()
    shutil.rmtree(fakes)
    assert mitate("generate", "leaves-g", "--per-class", 3, "--out", "fakes").code == 0 and file.read_bytes() == whole


def test_a_damaged_record_is_one_line_with_the_command_that_mends_it(mitate: Mitate, fakes: Path) -> None:
    store = Store.find()
    (store.folder_of(store.refs()["leaves-g"]) / "result.json").write_text('{"cut')
    refused(mitate("ls"), "cannot be read", "mitate verify --remake")
    assert mitate("verify", "--remake").code == 0
    assert "missing from the store" in mitate("ls").out


def test_clean_keeps_kept_generators_and_ledgers_and_drops_the_rest(mitate: Mitate, fakes: Path) -> None:
    store = Store.find()
    (store.root / "openings.jsonl").write_text("a ledger\n")
    generator = store.refs()["leaves-g"]
    before = len(list(store.objects()))
    said = mitate("clean", "--all")
    assert said.code == 0 and said.out.startswith("1 results dropped"), "the drawn images"
    assert len(list(store.objects())) == before - 1 and store.get(generator) is not None
    assert (store.root / "openings.jsonl").read_text() == "a ledger\n"
    assert mitate("generate", "leaves-g", "--per-class", 3, "--out", "again").code == 0 and snapshot(Path("again")) == snapshot(fakes)


# the pilot ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished run `runs/a` of `a.npz` and its store; copied, never changed."""
    place = tmp_path_factory.mktemp("finished")
    arrays(place / "a.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MITATE_HOME", str(place / "store"))
        patch.setattr(sys, "argv", ["mitate", "pilot", "a.npz", "--out", "runs/a", *QUICK])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    yield place


@pytest.fixture
def run(finished: Path, mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run, in the folder the command line works in."""
    shutil.copytree(finished, Path.cwd(), dirs_exist_ok=True)
    monkeypatch.setenv("MITATE_HOME", str(Path.cwd() / "store"))
    return Path("runs/a")


def test_the_same_command_again_changes_nothing_and_tells_the_verdict(mitate: Mitate, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    before = snapshot(run)
    said = mitate("pilot", "a.npz", "--out", run, *QUICK)
    decision = json.loads((run / "decision.json").read_text())
    lines = [f"verdict: {decision['verdict']}", decision["reason"], f"to say:  {decision['meeting']['text']}", f"report:  {run / 'report.html'}"]
    assert said.code == 0 and said.out.splitlines() == lines
    assert snapshot(run) == before and f"{run}" in mitate("ls").out and decision["verdict"] in mitate("ls").out


@pytest.mark.parametrize(("verdict", "code"), [("go", 0), ("stop", 10), ("more evidence", 11)])
def test_the_exit_code_says_the_verdict_when_asked(mitate: Mitate, run: Path, verdict: str, code: int) -> None:
    decision = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**decision, "verdict": verdict}))
    assert mitate("pilot", "a.npz", "--out", run, *QUICK, "--exit-code").code == code
    assert mitate("pilot", "a.npz", "--out", run, *QUICK).code == 0


def test_another_pilot_into_the_same_folder_is_refused_and_names_what_differs(mitate: Mitate, run: Path) -> None:
    before = snapshot(run)
    refused(mitate("pilot", "a.npz", "--out", run, *QUICK, "--seed", "1"), "another pilot (it differs in seed)", "--out")
    arrays(Path("a.npz"), n=63)
    refused(mitate("pilot", "a.npz", "--out", run, *QUICK), "The images changed", "--out")
    assert snapshot(run) == before


def test_a_run_that_was_stopped_early_or_never_finished_is_not_continued(mitate: Mitate, run: Path) -> None:
    decision = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**decision, "stage": "small", "candidate": None}))
    before = snapshot(run)
    refused(mitate("pilot", "--continue", run), "ended at 'small'", "nothing to continue")
    assert snapshot(run) == before
    (run / "decision.json").unlink()
    refused(mitate("pilot", "--continue", run), "is not finished", "once more")
    assert "not finished" in mitate("ls").out


def test_a_damaged_run_is_one_line_with_a_fix(mitate: Mitate, run: Path) -> None:
    (run / "decision.json").write_text("{cut")
    refused(mitate("report", run), "cannot be read")
    assert "damaged" in mitate("ls").out
    (run / "study.json").write_text('{"kind": "pilot"}')
    refused(mitate("pilot", "a.npz", "--out", run, *QUICK), "study.json is not a study", "--out")


def test_a_report_is_written_in_either_language_and_never_over_a_folder(mitate: Mitate, run: Path) -> None:
    english = (run / "report.html").read_bytes()
    said = mitate("report", run, "--lang", "ja")
    assert said.code == 0 and said.out == f"{run / 'report.ja.html'}\n" and 'lang="ja"' in (run / "report.ja.html").read_text(encoding="utf-8")
    assert mitate("report", run).code == 0 and (run / "report.html").read_bytes() == english
    assert mitate("report", run, "--out", "elsewhere/r.html").code == 0 and Path("elsewhere/r.html").read_bytes() == english
    refused(mitate("report", run, "--out", "elsewhere"), "in the way")


def test_prices_change_no_digest_and_run_nothing(mitate: Mitate, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    study = (run / "study.json").read_bytes()
    said = mitate("pilot", "a.npz", "--out", run, *QUICK, "--machine-price", "3600", "--currency", "EUR")
    decision = json.loads((run / "decision.json").read_text())
    assert said.code == 0 and decision["cost"]["money"]["machine"] == pytest.approx(decision["cost"]["machine_seconds"])
    assert "EUR" in said.out and "EUR" in (run / "report.html").read_text(encoding="utf-8") and mitate("verify", "--run", run).code == 0
    assert mitate("report", run, "--label-price", "0.5").code == 0
    decision = json.loads((run / "decision.json").read_text())
    assert decision["cost"]["money"]["label_price"] == 0.5 and decision["cost"]["money"]["machine_price"] == 3600
    assert (run / "study.json").read_bytes() == study and mitate("verify", "--run", run).code == 0
    refused(mitate("report", run, "--label-price", "2", "--currency", "USD"), "machine_price was given in EUR", "--machine-price")
    refused(mitate("report", run, "--label-price", "0"), "label_price is 0.0", "above 0")
    refused(mitate("pilot", "--continue", run, "--label-price", "1"), "--continue takes its settings from the run", "alone")


def test_a_plan_file_may_hold_prices_beside_the_question(mitate: Mitate, run: Path) -> None:
    asked = json.loads((run / "study.json").read_text())["plan"]
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in asked.items()]
    Path("plan.toml").write_text("".join([*lines, 'label_price = 0.4\nmachine_price = 1\ncurrency = "EUR"\n']))
    assert mitate("pilot", "--plan", "plan.toml", "--out", run, "--machine-price", "2").code == 0
    assert json.loads((run / "prices.json").read_text()) == {"label_price": 0.4, "machine_price": 2.0, "currency": "EUR"}
    Path("plan.toml").write_text("".join([*lines, 'label_price = "much"\n']))
    refused(mitate("pilot", "--plan", "plan.toml", "--out", run), "plan.toml", "type")


def test_an_audit_is_checked_by_verify(mitate: Mitate, run: Path) -> None:
    assert mitate("verify", "--run", run).code == 0
    with (run / "scores.jsonl").open("a") as file:
        file.write(" ")
    said = mitate("verify", "--run", run)
    assert said.code == 1 and f"{run}: changed: scores.jsonl" in said.out


def test_clean_keeps_what_runs_were_made_from(mitate: Mitate, run: Path) -> None:
    store = Store.find()
    opened = (store.root / "openings.jsonl").read_bytes() if (store.root / "openings.jsonl").exists() else None
    asked = {json.loads(line)["digest"] for line in (run / "jobs.jsonl").read_text().splitlines()}
    assert mitate("clean").code == 0 and asked <= set(store.objects())
    assert mitate("clean", "--all").code == 0 and list(store.objects()) == []
    assert ((store.root / "openings.jsonl").read_bytes() if opened is not None else None) == opened
    assert mitate("report", run).code == 0, "a run folder is readable without the store"


def test_cost_runs_nothing_and_opens_nothing(mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.verbs.perform", lambda *a, **k: pytest.fail("a job ran"))
    arrays(Path("a.npz"))
    said = mitate("pilot", "a.npz", *QUICK, "--cost")
    assert said.code == 0 and "can detect" in said.out and "real images" in said.out
    assert not Path("runs").exists() and not (Store.find().root / "openings.jsonl").exists()


def test_a_plan_written_as_toml_is_the_same_question(mitate: Mitate, run: Path) -> None:
    asked = json.loads((run / "study.json").read_text())["plan"]
    Path("plan.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in asked.items()))
    assert plain(record(Pilot, read_plan(Path("plan.toml")), where="plan.toml")) == asked
    before = snapshot(run)
    assert mitate("pilot", "--plan", "plan.toml", "--out", run).code == 0 and snapshot(run) == before
    refused(mitate("pilot", "--plan", "plan.toml", "--steps", "13", "--out", run), "differs in steps")


@pytest.mark.parametrize(("promised", "code"), [(1.0, 1), (4.0, 0), (None, 0)])
def test_an_audit_that_refutes_a_promised_epsilon_ends_with_1(mitate: Mitate, monkeypatch: pytest.MonkeyPatch, promised: float | None, code: int) -> None:
    leaves(Path("leaves"))
    found = Audit("vae", {}, 24, 12, 20, 10, "loss", 2.0, 1e-5, 0.01, 2.5, "10 guesses, 10 right", promised, 0)
    monkeypatch.setattr("mitate.studies.audit.audit", lambda *a, **k: found)
    said = mitate("audit", "vae", "leaves", "--json", "a.json")
    assert said.code == code and ("does not hold" in said.out) == (code == 1)
    assert json.loads(Path("a.json").read_text())["refuted"] is (code == 1)


def test_a_place_for_the_record_of_an_audit_is_checked_before_anything_is_fitted(mitate: Mitate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.studies.audit.audit", lambda *a, **k: pytest.fail("it was fitted"))
    leaves(Path("leaves"))
    refused(mitate("audit", "gaussian", "leaves", "--json", "leaves"), "leaves is a folder")


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_a_place_that_vanishes_while_an_assessment_runs_is_one_line_with_a_fix(mitate: Mitate, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    place = Path.cwd() / "place"
    place.mkdir()

    def measured(*_: object, **__: object) -> Assessment:
        place.rmdir()
        return rich()

    monkeypatch.chdir(place)
    monkeypatch.setattr("mitate.studies.assess.assess", measured)
    said = mitate("assess", "fakes", "--real", "real", option, "a.out")
    lines = said.err.splitlines()
    assert said.code == 2 and len(lines) == 2, said
    assert "a.out cannot be written (No such file or directory)" in lines[0] and lines[1] == "fix: choose another place"


def test_a_report_into_a_place_that_vanished_is_one_line_with_a_fix(mitate: Mitate, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, place = run.absolute(), Path.cwd() / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    refused(mitate("report", there, "--out", "r.html"), "r.html cannot be written (No such file or directory)", "another place")
