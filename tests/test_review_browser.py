"""The page of a review in a real browser, by its keys, its buttons and a finger: what is pressed is what the ledger says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browsing import CHROMIUM, Browser
from mitate import codec
from mitate.cli_review import _opened
from mitate.curation.ledger import Decision, Ledger, Standing
from mitate.curation.review import Review
from mitate.images import Provenance, from_arrays
from mitate.sets import write_images
from mitate.web.server import Served
from test_review import CHECKS, fakes, name

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
EVIL = "<img src=x onerror=document.title='owned'>"


def written(browser: Browser) -> None:
    """Wait until nothing is on its way to the disk."""
    browser.until("!document.querySelector('.waiting') && document.querySelector('#trouble').hidden")


def told(folder: Path) -> list[tuple[str, str, str | None]]:
    return [(d.file, d.decision, d.label) for d in Ledger(folder).read()]


def text(browser: Browser, where: str) -> Any:
    return browser.eval(f"document.querySelector({json.dumps(where)}).textContent")


def until_lines(browser: Browser, folder: Path, count: int) -> None:
    for _ in range(400):
        if len(Ledger(folder).read()) >= count:
            return
        browser.eval("new Promise(done => setTimeout(done, 25))")
    raise AssertionError(told(folder))


def test_keys_keep_drop_relabel_and_undo(tmp_path: Path) -> None:
    review = Review(fakes(tmp_path / "fakes"), by="anna", checks=CHECKS)
    folder, order = review.folder, [review.name(n) for n in range(12)]
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        browser.press("k", "d", "r", "2", "ArrowRight", "2", "d", "u", "u")
        until_lines(browser, folder, 6)
        written(browser)
        classes = review.classes
        assert told(folder) == [
            (order[0], "keep", None), (order[1], "drop", None), (order[2], "relabel", classes[1]), (order[4], "drop", None), (order[4], "undo", None),
            (order[2], "undo", None),
        ]  # fmt: skip
        assert Ledger(folder).read()[3].checks == (CHECKS[1],)
        browser.until("document.querySelector('#counts').textContent.startsWith('2 of 12')")
        assert browser.eval("document.querySelectorAll('.tile[data-stands=k]').length") == 1
        assert browser.console == []


def test_the_single_view_shows_what_is_known_and_goes_on_by_itself(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes", captions=True)
    Ledger(folder).append(Decision(name(8), "drop", "filter:copies", reason="nearly a training image", score=0.97123))
    review = Review(folder, by="anna", checks=CHECKS)
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        browser.press("Enter")
        browser.until("document.querySelector('#picture').naturalWidth === 8 && document.querySelector('#voices li')")
        assert text(browser, "#label") == "blotch" and text(browser, "#caption") == "leaf <b>8</b>" and text(browser, "#file") == name(8)
        assert text(browser, "#voices") == "copies dropped itnearly a training image · score 0.971"
        browser.click(".check")
        browser.until("document.querySelector('.check.on')")
        browser.click("#drop")
        until_lines(browser, folder, 2)
        browser.until("document.querySelector('#place').textContent === '2 of 12'")
        browser.press("ArrowLeft")
        browser.until("document.querySelector('#stands').textContent === 'You drop it' && document.querySelector('.check.on')")
        browser.press("k", "Escape")
        browser.until("document.querySelector('.tile[data-stands=k]')")
        assert Ledger(folder).read()[1].checks == (CHECKS[0],) and Ledger(folder).read()[2].checks == () and browser.console == []


def test_a_class_that_is_typed_is_new_and_what_it_says_is_text(tmp_path: Path) -> None:
    x = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    images = from_arrays(x, [0, 0], classes=(EVIL,), provenance=Provenance("x", "d" * 64))
    review = Review(write_images(images, tmp_path / "fakes"), by=EVIL, checks=(EVIL,))
    Ledger(review.folder).append(Decision(review.name(0), "drop", f"filter:{EVIL}", reason=EVIL))
    review.refresh()
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        browser.press("r")
        browser.until("document.querySelector('#relabelling').open")
        for letter in EVIL:
            browser.call("Input.insertText", text=letter)
        browser.press("Enter", "Enter")
        until_lines(browser, review.folder, 2)
        browser.call("Input.insertText", text="")
        browser.press("r")
        browser.until("document.querySelector('#relabelling').open")
        browser.call("Input.insertText", text="<b>葉</b>")
        browser.press("Enter")
        until_lines(browser, review.folder, 3)
        browser.click("#figures")
        browser.until("document.querySelector('#panel table')")
        assert {label for _, d, label in told(review.folder) if d == "relabel"} == {EVIL, "<b>葉</b>"}
        assert browser.eval("document.title") == "Review: fakes"
        assert browser.eval("document.querySelectorAll('img[onerror], b, script:not([src])').length") == 0 and browser.console == []


def test_several_are_chosen_with_shift_and_undone_as_one(tmp_path: Path) -> None:
    review = Review(fakes(tmp_path / "fakes"), by="anna")
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        browser.press("ArrowRight", "ArrowRight", "ArrowRight", shift=True)
        browser.until("document.querySelector('#chosen').textContent === '4 images chosen'")
        browser.press("d")
        until_lines(browser, review.folder, 4)
        written(browser)
        browser.press("u")
        until_lines(browser, review.folder, 8)
        browser.until("document.querySelector('#counts').textContent.startsWith('0 of 12')")
        assert list(Standing(Ledger(review.folder).read()).files()) == []


def test_a_decision_that_cannot_be_written_is_told_and_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    review = Review(fakes(tmp_path / "fakes"), by="anna")
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        with monkeypatch.context() as patch:
            patch.setattr("mitate.curation.ledger.os.fsync", full)
            browser.press("k", "d")
            browser.until("!document.querySelector('#trouble').hidden")
            assert "No space left" in text(browser, "#trouble-text") and "2 waiting" in text(browser, "#trouble-text")
            assert browser.eval("document.querySelectorAll('.waiting').length") == 2 and told(review.folder) == []
        browser.click("#retry")
        until_lines(browser, review.folder, 2)
        written(browser)
        assert [d for _, d, _ in told(review.folder)] == ["keep", "drop"]


@pytest.mark.skipif(not hasattr(os, "kill"), reason="kills a process")
def test_what_was_pressed_while_the_program_is_gone_is_kept_and_told(tmp_path: Path) -> None:
    folder = fakes(tmp_path / "fakes")
    code = (
        "import sys, time; from mitate.curation.review import Review; from mitate.web.server import Served\n"
        "s = Served(Review(sys.argv[1], by='anna'), port=int(sys.argv[2])); s.token = sys.argv[3] or s.token\n"
        "with s: print(s.port, s.token, flush=True); time.sleep(120)"
    )

    def start(port: str = "0", token: str = "") -> tuple[subprocess.Popen[str], str, str]:
        process = subprocess.Popen([sys.executable, "-c", code, str(folder), port, token], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = process.stdout.readline().split()
        return process, told[0], told[1]

    one, port, token = start()
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{port}/{token}/")
        browser.press("k")
        written(browser)
        until_lines(browser, folder, 1)
        one.send_signal(signal.SIGKILL)
        one.communicate()
        browser.press("d", "k")
        browser.until("!document.querySelector('#trouble').hidden")
        assert "does not answer" in text(browser, "#trouble-text") and "2 waiting" in text(browser, "#trouble-text") and len(Ledger(folder).read()) == 1
        two, _, _ = start(port, token)  # the same address, so that the page finds it again
        until_lines(browser, folder, 3)
        written(browser)
        two.kill()
        two.communicate()
    assert [d.decision for d in Ledger(folder).read()] == ["keep", "drop", "keep"]


def test_the_file_that_leads_to_the_page_leads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    with Served(Review(fakes(tmp_path / "fakes"), by="anna")) as served, _opened(served.url), Browser(tmp_path) as browser:
        browser.open(seen[0])
        assert browser.eval("location.href") == served.url and browser.console == []


def test_enter_after_a_panel_was_clicked_and_closed_toggles_the_view(tmp_path: Path) -> None:
    with Served(Review(fakes(tmp_path / "fakes"), by="anna")) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        browser.click("#figures")
        browser.until("document.querySelector('#panel h3')")
        browser.press("Escape")
        browser.until("!document.querySelector('#panel').open")
        browser.press("Enter")
        browser.until("!document.querySelector('#single').hidden")


def test_a_finger_does_what_keys_do(tmp_path: Path) -> None:
    review = Review(fakes(tmp_path / "fakes"), by="anna")
    with Served(review) as served, Browser(tmp_path, width=390, height=800) as browser:
        browser.open(served.url)
        for button in ("#keep", "#drop", "#undo"):
            browser.click(button)
        until_lines(browser, review.folder, 3)
        written(browser)
        browser.click("#relabel")
        browser.until("document.querySelector('#relabelling').open")
        browser.click(".offer")
        until_lines(browser, review.folder, 4)
        assert [d for _, d, _ in told(review.folder)] == ["keep", "drop", "undo", "relabel"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_fits_its_window_and_asks_only_its_own_server(tmp_path: Path, lang: str, width: int) -> None:
    review = Review(fakes(tmp_path / "fakes", captions=True), by="anna", checks=CHECKS)
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => { for (let p = e.parentElement; p; p = p.parentElement)"
        " if (/auto|scroll|hidden|clip/.test(getComputedStyle(p).overflowX) && p !== document.body) return false;"
        " return e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1; }).map(e => e.id || e.className)"
    )
    with Served(review, lang=lang) as served, Browser(tmp_path, width=width) as browser:
        browser.open(served.url)
        browser.until("[...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)")
        assert browser.eval(wide) == [] and browser.eval("document.documentElement.lang") == lang
        browser.press("Enter")
        browser.until("document.querySelector('#picture').naturalWidth")
        assert browser.eval(wide) == []
        browser.press("?")
        browser.until("document.querySelector('#panel').open")
        assert browser.eval("document.documentElement.scrollWidth") <= width
        assert all(url.startswith(served.url) for url in browser.asked if not url.startswith(("about:", "data:"))) and browser.console == []


def test_both_languages_have_the_same_words_with_the_same_places() -> None:
    import re
    from importlib import resources

    one, two = (json.loads(resources.files("mitate.web").joinpath(f"words.{lang}.json").read_text(encoding="utf-8")) for lang in ("en", "ja"))
    assert one.keys() == two.keys()
    for key in one:
        assert set(re.findall(r"\{\w+\}", one[key])) == set(re.findall(r"\{\w+\}", two[key])), key


def test_twenty_thousand_images_scroll_and_only_those_in_sight_exist(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    data = codec.encode_png(np.zeros((4, 4, 1), dtype=np.uint8))
    for k in range(10):
        (folder / f"{k}").mkdir(parents=True)
        for i in range(2000):
            (folder / f"{k}" / f"{i:06d}.png").write_bytes(data)
    Image.new("L", (4, 4), 255).save(folder / "9" / "001999.png")
    review = Review(folder, by="anna")
    with Served(review) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        most = 0
        for share in (0.1, 0.5, 0.9, 0.3):
            browser.eval(f"(s => s.scrollTop = {share} * s.scrollHeight)(document.querySelector('#sheet'))")
            browser.until("document.querySelectorAll('.tile').length && [...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)")
            most = max(most, browser.eval("document.querySelectorAll('.tile').length"))
        assert 20 < most < 120
        browser.press("End", "k")
        until_lines(browser, folder, 1)
        assert told(folder) == [("9/001999.png", "keep", None)]
        browser.until("document.querySelector('#counts').textContent.startsWith('1 of 20,000')")
        assert browser.console == [] and sum("thumbnail" in url for url in browser.asked) < 600


def test_a_narrow_sheet_of_two_hundred_thousand_is_no_higher_than_browsers_bear_and_its_end_is_reached(tmp_path: Path) -> None:
    script = """import("./sheet.js").then(({ Sheet }) => {
      const box = document.createElement("div"), field = document.createElement("div");
      box.style.cssText = "width: 340px; height: 600px; overflow: auto; position: relative";
      box.append(field);
      document.body.replaceChildren(box);
      const sheet = new Sheet(box, field, { dress() {}, pick() {}, enter() {} });
      sheet.show(Array.from({ length: 200000 }, (_, i) => i));
      sheet.reveal(199999);
      sheet.draw();
      const last = document.querySelector("#tile-199999").getBoundingClientRect(), frame = box.getBoundingClientRect();
      return [field.offsetHeight, sheet.columns, last.bottom <= frame.bottom + 1 && last.top >= frame.top];
    })"""
    with Served(Review(fakes(tmp_path / "fakes"), by="anna")) as served, Browser(tmp_path) as browser:
        browser.open(served.url)
        high, columns, seen = browser.eval(script)
    assert 8e6 < high < 15.1e6 and columns == 3 and seen
