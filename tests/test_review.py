"""A review: what is shown to whom, what is written, what comes out, and that nobody else can read or write."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from click.testing import CliRunner

from mitate import cli_review, codec
from mitate.cli_review import review as command
from mitate.curation.export import export
from mitate.curation.ledger import NAME, Decision, Ledger
from mitate.curation.review import Review, checklist
from mitate.errors import DataError, MitateError, SettingError
from mitate.images import Provenance, from_arrays
from mitate.intake.opening import open_images
from mitate.sets import write_images
from mitate.web import server
from mitate.web.server import Served

CHECKS = ("Exactly one leaf", "No text")


def fakes(folder: Path, *, each: int = 4, size: int = 8, captions: bool = False) -> Path:
    """A synthetic set of three classes, healthy, rust, blotch, in that order."""
    labels = np.repeat(np.arange(3), each)
    x = np.random.default_rng(0).integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
    made = Provenance("vae", "d" * 64, {"steps": 10}, ("p" * 64,), tuple(100 + i for i in range(len(labels))))
    images = from_arrays(x, labels, classes=("healthy", "rust", "blotch"), name="leaves", provenance=made)
    if captions:
        images = replace(images, captions=tuple(f"leaf <b>{i}</b>" for i in range(len(labels))))
    return write_images(images, folder)


def name(k: int, each: int = 4) -> str:
    return f"{('healthy', 'rust', 'blotch')[k // each]}/{k:06d}.png"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fakes(tmp_path / "fakes")


# the review -----------------------------------------------------------------------------------------------------------


def test_a_decision_is_in_the_ledger_and_in_the_next_review(folder: Path) -> None:
    one = Review(folder, by="anna", checks=CHECKS)
    number = [one.name(n) for n in range(len(one))].index(name(5))
    assert one.decide([number], "drop", checks=[1]).letters == "d"
    (line,) = Ledger(folder).read()
    assert (line.file, line.decision, line.by, line.checks) == (name(5), "drop", "anna", ("No text",))
    again = Review(folder, by="anna", checks=CHECKS)
    assert again.columns()["mine"][number] == "d" and again.item(number)["mine"] == {"decision": "drop", "label": None, "checks": ["No text"]}


def test_a_reviewer_does_not_see_what_another_one_said(folder: Path) -> None:
    Review(folder, by="ben").decide([0, 1], "drop")
    anna = Review(folder, by="anna")
    assert set(anna.columns()["mine"]) == {"."} and anna.item(0)["mine"] is None and anna.item(0)["filters"] == []
    assert anna.figures().open == ()
    anna.decide([0], "keep")
    assert anna.figures().open == (0,)  # told only where both have judged


def test_two_reviews_of_one_set_at_once_see_each_others_lines(folder: Path) -> None:
    anna, ben = Review(folder, by="anna"), Review(folder, by="ben")
    for n in range(6):
        anna.decide([n], "keep")
        ben.decide([n], "keep" if n else "drop")
    (pair,) = anna.figures().pairs
    assert pair.n == 6 and len(Ledger(folder).read()) == 12


def test_undo_takes_back_a_whole_batch_and_then_the_one_before(folder: Path) -> None:
    found = Review(folder, by="anna")
    found.decide([0], "keep")
    found.decide([1, 2, 3], "drop")
    assert sorted(found.undo().numbers) == [1, 2, 3]
    again = Review(folder, by="anna")  # the ledger alone knows what the last decision was
    assert again.undo().numbers == (0,) and again.undo().numbers == () and set(again.columns()["mine"]) == {"."}


def test_undo_of_one_image_brings_back_what_was_said_before(folder: Path) -> None:
    found = Review(folder, by="anna")
    found.decide([0], "keep")
    found.decide([0], "relabel", label="spot")
    assert found.undo([0]).letters == "k" and found.undo([0]).letters == "." and found.undo([0]).numbers == ()


@pytest.mark.parametrize(
    ("numbers", "decision", "more"),
    [([], "keep", {}), ([99], "keep", {}), ([-1], "keep", {}), ([0, 0], "keep", {}), ([0], "burn", {}), ([0], "undo", {}), ([0], "relabel", {}),
     ([0], "keep", {"label": "rust"}), ([0], "drop", {"checks": [2]})],
)  # fmt: skip
def test_a_decision_on_nothing_or_of_no_kind_is_refused(folder: Path, numbers: list[int], decision: str, more: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Review(folder, by="anna", checks=CHECKS).decide(numbers, decision, **more)
    assert Ledger(folder).read() == ()


def test_a_set_with_a_ledger_is_still_the_same_set(folder: Path) -> None:
    before = open_images(folder)
    Review(folder, by="anna").decide([0], "drop")
    after = open_images(folder)
    assert after.digest == before.digest and (folder / NAME).is_file()
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=False).returncode == 0


def test_datasets_opens_a_set_with_a_ledger(folder: Path, tmp_path: Path) -> None:
    Review(folder, by="anna").decide([0], "drop")
    code = "import datasets, sys; print(len(datasets.load_dataset('imagefolder', data_dir=sys.argv[1], cache_dir=sys.argv[2])['train']))"
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path / "cache")], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "12", done.stderr[-1000:]


def test_an_audit_is_blind_seeded_and_mixed(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes", each=20)
    dropped = {name(k, 20) for k in range(0, 60, 3)}
    Ledger(folder).append(Decision(file, "drop", "filter:copies", reason="a copy", score=0.9) for file in sorted(dropped))
    one = Review(folder, by="anna", audit=6, seed=1)
    names = [one.name(n) for n in range(len(one))]
    assert len(names) == 12 and len(dropped & set(names)) == 6
    assert "copies" not in json.dumps([one.item(n) for n in range(12)]) and set(one.columns()["filtered"]) == {"."}
    assert names == [n for n in map(Review(folder, by="ben", audit=6, seed=1).name, range(12))]
    more = Review(folder, by="anna", audit=9, seed=1)
    assert set(names) < {more.name(n) for n in range(len(more))} and names != [Review(folder, by="anna", audit=6, seed=2).name(n) for n in range(12)]
    for n in range(12):
        one.decide([n], "keep")
    found = one.figures().audit
    assert found.dropped is not None and (found.dropped.value, found.dropped.n) == (1.0, 6) and found.kept is not None and found.kept.value == 0.0


def test_a_decision_outside_of_an_audit_is_none_of_it(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes")
    Ledger(folder).append(Decision(name(0), "drop", "filter:copies"))
    whole = Review(folder, by="anna")
    whole.decide([[whole.name(n) for n in range(12)].index(name(0))], "keep")
    one = Review(folder, by="anna", audit=5)
    assert set(one.columns()["mine"]) == {"."} and one.undo().numbers == () and one.figures().audit.dropped is None


def test_an_audit_of_filters_that_dropped_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="No filter has dropped"):
        Review(folder, by="anna", audit=5)


def test_a_link_out_of_the_set_is_refused_also_one_that_comes_later(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / name(0), tmp_path / "secret.png")
    found = Review(folder, by="anna")
    number = [found.name(n) for n in range(12)].index(name(3))
    (folder / name(3)).unlink()
    (folder / name(3)).symlink_to(tmp_path / "secret.png")
    for work in (found.picture, found.thumbnail):
        with pytest.raises(DataError, match="leads out of the set"):
            work(number)
    with pytest.raises(DataError, match="leaves"):
        Review(folder, by="anna")


def test_a_broken_image_is_told_and_can_be_dropped(folder: Path) -> None:
    (folder / name(0)).write_bytes(b"no picture")
    found = Review(folder, by="anna")
    number = [found.name(n) for n in range(12)].index(name(0))
    with pytest.raises(DataError, match="is not an image"):
        found.thumbnail(number)
    assert found.decide([number], "drop").letters == "d"


def test_thumbnails_in_memory_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitate.curation.review.CACHE", 1000)
    found = Review(fakes(tmp_path / "fakes"), by="anna")
    for n in [*range(12), *range(12)]:
        found.thumbnail(n)
    assert found._held <= 1000 and found._held == sum(len(t.data) for t in found._thumbnails.values())


def test_a_large_image_becomes_a_small_thumbnail_and_stays_whole_beside_it(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes", each=1, size=400)
    found = Review(folder, by="anna")
    small, whole = found.thumbnail(0), found.picture(0)
    assert codec.decode(small.data).pixels.shape == (192, 192, 3) and small.kind == "image/jpeg"
    assert codec.decode(whole.data).digest == codec.decode(folder / found.name(0)).digest


def test_a_checklist_comes_from_a_plan_and_from_what_was_typed(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('checklist = ["One leaf", "No  text"]\nother = 3\n')
    assert checklist(plan, ["Sharp", "One leaf"]) == ("One leaf", "No text", "Sharp")
    for text in ("", "checklist = []", "checklist = 3", "checklist = [3]", "checklist ="):
        plan.write_text(text)
        with pytest.raises(SettingError):
            checklist(plan, [])
    with pytest.raises(SettingError, match="10 lines"):
        checklist(None, [f"{i}" for i in range(10)])


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("gone", "empty"):
        with pytest.raises(DataError):
            Review(tmp_path / place, by="anna")


# what comes out -------------------------------------------------------------------------------------------------------


def test_an_export_holds_what_stands_with_its_classes_marks_and_seeds(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    Ledger(folder).append([
        Decision(name(0), "drop", "filter:copies"), Decision(name(1), "drop", "filter:copies"), Decision(name(1), "keep", "anna"),
        Decision(name(2), "drop", "anna"), Decision(name(4), "relabel", "anna", "spot"), Decision(name(5), "keep", "anna"),
        Decision(name(5), "drop", "ben"), Decision(name(6), "keep", "filter:blur"), Decision("gone.png", "drop", "anna"),
    ])  # fmt: skip
    done = export(folder, tmp_path / "out")
    assert (done.images, done.relabelled, done.dropped, done.open, done.unseen) == (9, 1, 2, 1, 7)
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    by_source = {row["source"]: row for row in rows}
    assert by_source.keys() == {name(k) for k in (1, 3, 4, 6, 7, 8, 9, 10, 11)}
    for k in (1, 3, 4, 6):
        row = by_source[name(k)]
        picture = codec.decode(tmp_path / "out" / row["file_name"])
        assert picture.digest == codec.decode(folder / name(k)).digest and picture.synthetic and row["seed"] == 100 + k and row["generator"] == "d" * 64
    assert by_source[name(4)]["label"] == "spot" and by_source[name(4)]["filters"] == ["review"] and by_source[name(6)]["filters"] == ["filter:blur"]
    assert by_source[name(3)]["filters"] == []
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert list(told["counts"]) == ["healthy", "rust", "blotch", "spot"] and told["provenance"]["generator"] == "vae"
    assert told["provenance"]["parents"] == ["p" * 64, open_images(folder).digest] and told["provenance"]["settings"]["reviewed"]["open"] == 1
    assert "anna" not in "".join(data.decode("latin-1") for data in contents(tmp_path / "out").values())  # names stay in the ledger
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=False).returncode == 0
    assert {k: v for k, v in contents(folder).items() if "ledger" not in k} == before
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == ["out"]


def test_an_export_of_what_was_reviewed_leaves_the_rest_out(folder: Path, tmp_path: Path) -> None:
    Ledger(folder).append([Decision(name(1), "keep", "anna"), Decision(name(2), "keep", "filter:blur")])
    assert export(folder, tmp_path / "out", reviewed_only=True).images == 1
    with pytest.raises(DataError, match="No image is left"):
        export(fakes(tmp_path / "other"), tmp_path / "none", reviewed_only=True)


def test_the_same_ledger_gives_the_same_folder_and_another_one_is_refused(folder: Path, tmp_path: Path) -> None:
    Ledger(folder).append(Decision(name(1), "drop", "anna"))
    export(folder, tmp_path / "out")
    first = contents(tmp_path / "out")
    export(folder, tmp_path / "out")
    export(folder, tmp_path / "twin")
    assert contents(tmp_path / "out") == first == contents(tmp_path / "twin")
    Ledger(folder).append(Decision(name(2), "drop", "anna"))
    with pytest.raises(SettingError, match="is not empty"):
        export(folder, tmp_path / "out")
    assert contents(tmp_path / "out") == first


def test_an_exported_set_can_be_reviewed_and_exported_again(folder: Path, tmp_path: Path) -> None:
    Ledger(folder).append(Decision(name(1), "drop", "anna"))
    out = export(folder, tmp_path / "out").folder
    found = Review(out, by="anna")
    found.decide([0], "drop")
    assert export(out, tmp_path / "twice").images == 10


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_an_export_in_shards_holds_what_the_folder_would(folder: Path, tmp_path: Path, form: str) -> None:
    pytest.importorskip("pyarrow")
    Ledger(folder).append([Decision(name(0), "drop", "anna"), Decision(name(1), "relabel", "anna", label="rust"), Decision(name(2), "keep", "filter:blur")])
    tree = open_images(export(folder, tmp_path / "tree").folder)
    lines = {r["source"]: r for r in map(json.loads, (tmp_path / "tree" / "metadata.jsonl").read_text(encoding="utf-8").splitlines())}
    for _ in range(2):  # the second time it is there
        done = export(folder, tmp_path / "out", form=form, shard=5)
        assert (done.images, done.relabelled, done.dropped) == (11, 1, 1)
    shards = open_images(tmp_path / "out")

    def told(images: Any) -> list[tuple[str, str]]:
        return sorted(zip(images.digests, [images.classes[k] for k in images.labels], strict=True))

    assert told(shards) == told(tree) and len(list((tmp_path / "out").glob("*-of-00003.parquet" if form == "parquet" else "*.tar"))) == 3
    made, in_order = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))["provenance"], list(lines)
    assert made["settings"]["reviewed"]["dropped"] == 1 and made["seeds"] == [lines[n]["seed"] for n in in_order]
    if form == "parquet":
        import pyarrow.parquet as pq

        rows = [row for file in sorted((tmp_path / "out").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
        assert [(r["source"], r["filters"], r["seed"]) for r in rows] == [(n, lines[n]["filters"], lines[n]["seed"]) for n in in_order]
    Ledger(folder).append(Decision(name(5), "drop", "anna"))
    with pytest.raises(SettingError, match="does not hold this set"):
        export(folder, tmp_path / "out", form=form, shard=5)


def test_the_command_exports_shards_and_refuses_options_that_say_nothing(folder: Path, tmp_path: Path) -> None:
    def run(*words: object) -> Any:
        return CliRunner().invoke(command, [str(word) for word in (folder, *words)])

    done = run("--export", tmp_path / "out", "--format", "webdataset", "--shard", 6)
    assert done.exit_code == 0 and "12 images, 0 of them relabelled, 12 that no person judged" in done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.tar", "000001.tar", "README.md", "SHA256SUMS", "provenance.json"]
    for words, says in (
        (("--format", "parquet"), "--format says what is exported"),
        (("--shard", 3), "--shard says what is exported"),
        (("--export", tmp_path / "x", "--shard", 3), "A folder has no shards"),
    ):
        assert isinstance(wrong := run(*words).exception, SettingError) and says in wrong.message
    shutil.copytree(folder, tmp_path / "real")
    for path in (tmp_path / "real").glob("*/*.png"):
        codec.to_image(codec.decode(path).pixels).save(path)
    (tmp_path / "real" / "provenance.json").unlink()
    wrong = CliRunner().invoke(command, [str(tmp_path / "real"), "--export", str(tmp_path / "y"), "--format", "webdataset"]).exception
    assert isinstance(wrong, SettingError) and "does not say that its images are synthetic" in wrong.message and not (tmp_path / "y").exists()


def test_images_that_may_be_real_are_not_exported_as_synthetic(tmp_path: Path) -> None:
    from PIL import Image

    for k in range(3):
        (tmp_path / "real" / f"{k}").mkdir(parents=True)
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / "real" / f"{k}" / "a.png")
    Review(tmp_path / "real", by="anna").decide([0], "keep")
    with pytest.raises(SettingError, match="does not say that its images are synthetic"):
        export(tmp_path / "real", tmp_path / "out")


def test_an_export_into_the_set_itself_is_refused(folder: Path) -> None:
    for out in (folder, folder / "kept"):
        with pytest.raises(SettingError, match="inside the set"):
            export(folder, out)


# the server -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    with Served(Review(folder, by="anna", checks=CHECKS), patience=2.0) as found:
        yield found


def ask(
    served: Served, path: str, *, method: str = "GET", body: bytes | None = None, token: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """A request as the page makes it; headers given replace the page's own, "" leaves one out."""
    own = {"Host": f"127.0.0.1:{served.port}"}
    if method == "POST":
        own |= {"Origin": f"http://127.0.0.1:{served.port}", "Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
    own |= {k.replace("_", "-"): v for k, v in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.putrequest(method, f"/{served.token if token is None else token}/{path}" if not path.startswith("//") else path[1:], skip_host=True)
    for key, value in own.items():
        if value:
            connection.putheader(key, value)
    if body is not None and "Content-Length" not in own:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        if body is not None:
            connection.send(body)
    except OSError:  # refused before it was all sent
        pass
    try:
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def decision(**more: Any) -> bytes:
    return json.dumps({"id": "one", "numbers": [0], "decision": "keep", **more}).encode()


def test_the_page_is_served_with_everything_it_needs_and_nothing_from_elsewhere(served: Served) -> None:
    kinds = {
        "": "text/html", "review.js": "text/javascript", "saving.js": "text/javascript", "review.css": "text/css", "icon.svg": "image/svg+xml",
        "set": "application/json", "items/0": "application/json", "figures": "application/json", "thumbnail/3": "image/png", "image/3": "image/png",
    }  # fmt: skip
    for path, kind in kinds.items():
        status, data, headers = ask(served, path)
        assert status == 200 and headers["content-type"].startswith(kind) and data
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert not any(k.startswith("access-control") for k in headers) and headers["server"] == "mitate"
        if kind.startswith("text"):
            assert b"http://" not in data and b"https://" not in data and b"innerHTML" not in data and b"<script>" not in data and b"style=" not in data


def test_a_decision_is_answered_when_it_is_in_the_ledger(served: Served, folder: Path) -> None:
    status, data, _ = ask(served, "decide", method="POST", body=decision(decision="relabel", label="葉", checks=[0]))
    assert status == 200 and json.loads(data) == {"numbers": [0], "letters": "r", "torn": False}
    (line,) = Ledger(folder).read()
    assert (line.decision, line.label, line.checks, line.by) == ("relabel", "葉", (CHECKS[0],), "anna") and served.decided == 1


def test_a_decision_that_is_sent_twice_is_written_once(served: Served, folder: Path) -> None:
    assert ask(served, "decide", method="POST", body=decision())[1] == ask(served, "decide", method="POST", body=decision())[1]
    assert len(Ledger(folder).read()) == 1


def test_the_server_listens_on_this_machine_only(served: Served) -> None:
    assert served._server.server_address[0] == "127.0.0.1" and served.url.startswith("http://127.0.0.1:")
    assert len(served.token) >= 40 and Served(served.review).token != served.token


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "%00", "caf%C3%A9"])
def test_without_the_token_nothing_is_told_or_written(served: Served, folder: Path, token: str) -> None:
    for path in ("", "set", "image/0", "nothing"):
        status, data, headers = ask(served, path, token=token)
        assert status == 403 and b"token" in data and headers["content-type"] == "application/json"
    assert ask(served, "//favicon.ico")[0] == 403 and ask(served, "//")[0] == 403
    assert ask(served, "decide", method="POST", body=decision(), token=token)[0] == 403
    assert Ledger(folder).read() == ()


def test_the_token_is_needed_whole(served: Served) -> None:
    for token in (served.token[:-1], served.token + "A", served.token.swapcase(), f"..%2f{served.token}"):
        assert ask(served, "set", token=token)[0] == 403


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "127.0.0.1:{port}.evil.example", "[::1]:{port}", "0.0.0.0:{port}"]
)
def test_another_host_name_is_refused(served: Served, folder: Path, host: str) -> None:
    host = host.replace("{port}", str(served.port))
    assert ask(served, "set", Host=host)[0] == 421
    assert ask(served, "decide", method="POST", body=decision(), Host=host)[0] == 421
    assert Ledger(folder).read() == ()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ""}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Origin": "https://127.0.0.1:{port}"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"}, {"Origin": "http://localhost:{port}"}, {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"}, {"Sec_Fetch_Site": "none"},
    ],
)  # fmt: skip
def test_another_site_can_write_nothing_even_with_the_token(served: Served, folder: Path, headers: dict[str, str]) -> None:
    told = {k: v.replace("{port}", str(served.port)) for k, v in headers.items()}
    assert ask(served, "decide", method="POST", body=decision(), **told)[0] == 403
    assert Ledger(folder).read() == ()


def test_another_site_can_read_nothing_even_with_the_token(served: Served) -> None:
    assert ask(served, "image/0", Sec_Fetch_Site="cross-site")[0] == 403 and ask(served, "set", Origin="http://evil.example")[0] == 403
    assert ask(served, "", Sec_Fetch_Site="none")[0] == 200  # typed or opened from the terminal
    opened = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}  # by the file that leads there
    assert ask(served, "", **opened)[0] == 200 and ask(served, "set", **opened)[0] == 403
    assert ask(served, "", **{**opened, "Sec_Fetch_Dest": "iframe"})[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "image/../../../etc/passwd", "image//etc/passwd", "image/..", "image/-1", "image/99", "image/1.5",
        "image/0/..", "image/ 1", "image/١", "image/0x1", "image/" + "9" * 30, "thumbnail/", "items/12", "ledger.jsonl", "words.en.json", "server.py",
        "healthy/000000.png", "image/1?a=b", "review.js/..", "image/%30", "image/0%00",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(served: Served, path: str) -> None:
    status, data, _ = ask(served, quote(path, safe="/%?="))
    assert status == 404 and json.loads(data) == {"error": "nothing here"}


def test_reading_writes_nothing(served: Served, folder: Path) -> None:
    before = contents(folder)
    for path in ("", "set", "figures", "items/0", "image/0", "thumbnail/0", "decide", "decide?decision=drop&numbers=0", "undo"):
        ask(served, path)
    assert ask(served, "set", body=decision(), Content_Type="application/json")[0] == 400
    assert contents(folder) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "PATCH", "CONNECT"])
def test_other_methods_do_nothing(served: Served, folder: Path, method: str) -> None:
    status, _, headers = ask(served, "decide", method=method, body=decision())
    assert status == 501 and "access-control-allow-origin" not in headers and Ledger(folder).read() == ()


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "application/jsonp"])
def test_what_a_form_of_another_site_can_send_is_refused(served: Served, folder: Path, kind: str) -> None:
    assert ask(served, "decide", method="POST", body=decision(), Content_Type=kind)[0] == 415
    assert Ledger(folder).read() == ()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"[]", 400), (b"{", 400), (b"\xff", 400), (b"[" * 9000, 400), (decision(id=3), 400), (decision(id=""), 400), (decision(id="x" * 65), 400),
        (decision(numbers=[True]), 400), (decision(numbers="0"), 400), (decision(numbers=[0.5]), 400), (decision(decision=None), 400), (decision(label=7), 400),
        (decision(numbers=[99]), 422), (decision(numbers=[]), 422), (decision(numbers=[10**30]), 422), (decision(decision="burn"), 422),
        (decision(decision="relabel"), 422), (decision(decision="relabel", label="a\nb"), 422), (decision(decision="relabel", label="x" * 201), 422),
        (decision(decision="relabel", label="\ud800"), 422), (decision(checks=[9]), 422), (b'{"id": "a", "numbers": [NaN], "decision": "keep"}', 400),
    ],
)  # fmt: skip
def test_what_is_no_decision_is_refused_and_the_next_one_is_served(served: Served, folder: Path, body: bytes, status: int) -> None:
    assert ask(served, "decide", method="POST", body=body)[0] == status
    assert Ledger(folder).read() == ()
    assert ask(served, "decide", method="POST", body=decision(id="next"))[0] == 200


def test_a_body_that_is_too_long_is_not_read(served: Served, folder: Path) -> None:
    assert ask(served, "decide", method="POST", body=b"{", Content_Length=str(10**9))[0] == 413
    assert ask(served, "decide", method="POST", body=b"{", Content_Length="9" * 4000)[0] == 413
    for length in ("", "-1", "1e3", "+5", "٣"):
        assert (
            ask(
                served,
                "decide",
                method="POST",
                body=None if length == "" else b"{",
                **({"Content_Length": length.encode().decode("latin-1")} if length else {}),
            )[0]
            == 411
        )
    assert ask(served, "decide", method="POST", Transfer_Encoding="chunked")[0] == 411
    assert Ledger(folder).read() == ()


def test_a_client_that_sends_slowly_is_dropped_and_others_are_served(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        begun = time.monotonic()
        slow.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        assert ask(served, "set")[0] == 200
        try:
            while time.monotonic() - begun < 15:  # a byte now and then does not buy time
                slow.sendall(b"a")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - begun < 10


def test_a_client_that_never_sends_its_body_is_dropped(served: Served, folder: Path) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        head = f"POST /{served.token}/decide HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nOrigin: http://127.0.0.1:{served.port}\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode() + decision())
        slow.settimeout(15)
        assert slow.recv(1000) == b"" and Ledger(folder).read() == ()


def test_more_clients_than_there_are_places_do_not_stop_the_server(served: Served) -> None:
    crowd = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(server.MOST_CLIENTS + 20)]
    time.sleep(0.3)
    for one in crowd:
        one.close()
    end = time.monotonic() + 10
    while True:
        try:
            assert ask(served, "set")[0] == 200
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_bytes_that_are_no_request_do_not_stop_the_server(served: Served) -> None:
    for data in (
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01",
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as one:
            one.sendall(data)
            one.settimeout(10)
            try:
                one.shutdown(socket.SHUT_WR)
                while one.recv(65536):
                    pass
            except OSError:
                pass
    assert ask(served, "set")[0] == 200


def test_two_hosts_or_two_lengths_in_one_request_are_refused(served: Served, folder: Path) -> None:
    good = f"127.0.0.1:{served.port}"
    for extra, status in (
        (f"Host: {good}\r\nContent-Length: {len(decision())}\r\n", b"421"),
        (f"Content-Length: {len(decision())}\r\nContent-Length: 5\r\n", b"411"),
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as one:
            head = f"POST /{served.token}/decide HTTP/1.1\r\nHost: {good}\r\nOrigin: http://{good}\r\nContent-Type: application/json\r\n{extra}\r\n"
            one.sendall(head.encode() + decision())
            one.settimeout(10)
            assert one.recv(1000).split()[1] == status
    assert Ledger(folder).read() == ()


def test_a_ledger_that_cannot_be_written_is_told_and_the_decision_can_be_sent_again(served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mitate.curation.ledger.os.fsync", full)
        status, data, _ = ask(served, "decide", method="POST", body=decision())
    assert status == 507 and "No space left" in json.loads(data)["error"] and Ledger(folder).read() == ()
    assert ask(served, "decide", method="POST", body=decision())[0] == 200 and len(Ledger(folder).read()) == 1


def test_a_port_that_is_taken_is_told(served: Served) -> None:
    with pytest.raises(SettingError, match="cannot be used"), Served(served.review, port=served.port):
        pass


@pytest.mark.skipif(not hasattr(os, "kill"), reason="kills a process")
def test_a_server_that_is_killed_loses_no_answered_decision(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes", each=40)
    code = (
        "import sys, time; from mitate.curation.review import Review; from mitate.web.server import Served\n"
        "with Served(Review(sys.argv[1], by='anna')) as s: print(s.port, s.token, flush=True); time.sleep(60)"
    )
    answered: dict[int, str] = {}
    for turn in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        port, token = process.stdout.readline().split()
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        headers = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
        for k in range(15 + turn):
            number, what = turn * 30 + k, "keep" if k % 2 else "drop"
            connection.request("POST", f"/{token}/decide", decision(id=f"{k}", numbers=[number], decision=what), headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            answered[number] = what[0]
        connection.request("POST", f"/{token}/decide", decision(id="last", numbers=[119], decision="keep"), headers)  # nobody hears the answer
        process.kill()
        process.wait()
        process.stdout.close()
        connection.close()
    mine = Review(folder, by="anna").columns()["mine"]
    assert {n: mine[n] for n in answered} == answered


# the command ----------------------------------------------------------------------------------------------------------


def run(*words: str) -> Any:
    return CliRunner().invoke(command, list(words), catch_exceptions=True)


def test_the_command_tells_who_judged_what_and_how_two_agree(folder: Path) -> None:
    Ledger(folder).append([Decision(name(0), "drop", "filter:copies"), Decision("gone.png", "drop", "anna")])
    for by in ("anna", "ben"):
        Review(folder, by=by).decide(range(6), "keep")
    told = run(str(folder), "--agreement")
    assert told.exit_code == 0, told.output
    assert "anna: 6 kept, 0 dropped, 0 relabelled" in told.output and "filter:copies: 0 kept, 1 dropped" in told.output
    assert "anna and ben: the same on 100.0% (95 % interval 61.0% to 100.0%) of 6 images, kappa not measured" in told.output
    assert "audit: not measured" in told.output


def test_the_command_exports(folder: Path, tmp_path: Path) -> None:
    Ledger(folder).append(Decision(name(0), "drop", "anna"))
    told = run(str(folder), "--export", str(tmp_path / "out"))
    assert told.exit_code == 0 and "11 images, 0 of them relabelled, 11 that no person judged; left out: 1 dropped, 0 on which people disagree" in told.output


@pytest.mark.parametrize("words", [["--reviewed-only"], ["--export", "out", "--agreement"], ["--as", "filter:x"], ["--as", ""], ["--audit", "5"]])
def test_the_command_refuses_what_it_cannot_do(folder: Path, words: list[str]) -> None:
    told = run(str(folder), *words, "--no-browser")
    assert isinstance(told.exception, MitateError) and told.exception.fix


def test_the_token_is_no_argument_of_the_browser_which_all_users_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    with cli_review._opened("http://127.0.0.1:1/secret/"):
        page = Path(seen[0].removeprefix("file://"))
        assert "secret" not in seen[0] and "0;url=http://127.0.0.1:1/secret/" in page.read_text()
        assert os.name == "nt" or page.parent.stat().st_mode & 0o077 == 0
    assert not page.exists()
    with cli_review._opened(None):
        assert len(seen) == 1


@pytest.mark.skipif(os.name == "nt", reason="sends an interrupt")
def test_an_interrupt_says_how_many_decisions_were_made_and_where_they_are(folder: Path) -> None:
    import signal

    code = "import sys; from mitate.cli_review import review; review(sys.argv[1:], standalone_mode=False)"
    words = [sys.executable, "-u", "-c", code, str(folder), "--as", "anna", "--no-browser"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "12 images for anna" in process.stdout.readline()
    port, token = process.stdout.readline().strip().removeprefix("http://127.0.0.1:").split("/")[:2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    connection.request("POST", f"/{token}/decide", decision(numbers=[0, 1]), {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert rest.strip() == f"2 decisions made; they are in {folder / NAME}" and process.returncode == 0
