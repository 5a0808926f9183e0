"""The report in a real browser, at desktop and phone width: nothing is fetched, nothing complains, nothing runs over the edge."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from make_assessment import clear, poor, rich
from make_comparison import make_comparison
from make_run import make_run
from mitate.report.assessment import write_assessment
from mitate.report.html import write_report
from mitate.score import Assessment
from mitate.study import Run

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

# A page around the report: a frame of the asked width (a window cannot be as narrow as a phone), and what went on inside it.
AROUND = """<!doctype html><meta charset="utf-8"><iframe id="f" src="report.html" style="width:{width}px;height:900px;border:0"></iframe><pre id="found"></pre>
<script>
addEventListener("load", () => {{
  const f = document.getElementById("f"), d = f.contentDocument, w = f.contentWindow, all = [...d.querySelectorAll("body *")];
  const clipped = e => {{ for (let p = e.parentElement; p && p !== d.body; p = p.parentElement)
    if (/auto|scroll|hidden|clip/.test(w.getComputedStyle(p).overflowX)) return true; return false; }};
  const wide = all.filter(e => e.getClientRects().length && e.getBoundingClientRect().right > w.innerWidth + 1 && !clipped(e));
  document.getElementById("found").textContent = JSON.stringify({{
    width: w.innerWidth, scroll: d.documentElement.scrollWidth, wide: wide.map(e => e.tagName + "." + e.getAttribute("class")).slice(0, 5),
    fetched: w.performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")), height: d.documentElement.scrollHeight,
    broken: [...d.images].filter(i => !i.complete || !i.naturalWidth).length, pictures: d.images.length, title: d.title,
  }});
}});
</script>"""


def looked_at(page: Path, width: int, folder: Path) -> tuple[dict[str, object], str]:
    """What a browser of this width found in the page, and what it wrote to its console."""
    folder.mkdir()
    shutil.copy(page, folder / "report.html")
    (folder / "around.html").write_text(AROUND.format(width=width))
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 600)},900", "--virtual-time-budget=5000", "--dump-dom",
            (folder / "around.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', done.stdout, re.DOTALL)
    assert found is not None, f"the page was not loaded: {done.stderr[-2000:]}"
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")), console


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("code", "lang"), [("go", "en"), ("go", "ja"), ("stop_privacy", "en"), ("more_evidence", "ja")])
def test_a_report_fits_its_window_and_asks_the_network_for_nothing(tmp_path: Path, code: str, lang: str, width: int) -> None:
    page = write_report(Run(make_run(tmp_path / "run", code)), lang=lang)
    found, console = looked_at(page, width, tmp_path / "browser")
    assert found["width"] == width and console == ""
    assert found["fetched"] == [] and found["broken"] == 0 and isinstance(found["pictures"], int) and found["pictures"] > 0
    assert found["wide"] == [] and isinstance(found["scroll"], int) and found["scroll"] <= width


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("made", [rich, poor, clear])
def test_an_assessment_fits_its_window_and_asks_the_network_for_nothing(tmp_path: Path, made: Callable[[], Assessment], lang: str, width: int) -> None:
    found, console = looked_at(write_assessment(made(), tmp_path / "a.html", lang=lang), width, tmp_path / "browser")
    assert found["width"] == width and console == "" and found["fetched"] == []
    assert found["wide"] == [] and isinstance(found["scroll"], int) and found["scroll"] <= width


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_comparison_fits_its_window_and_asks_the_network_for_nothing(tmp_path: Path, lang: str, width: int) -> None:
    found, console = looked_at(write_report(Run(make_comparison(tmp_path / "run")), lang=lang), width, tmp_path / "browser")
    assert found["width"] == width and console == "" and found["fetched"] == [] and found["broken"] == 0
    assert found["wide"] == [] and isinstance(found["scroll"], int) and found["scroll"] <= width


def test_a_page_that_is_too_wide_noisy_and_fetching_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<!doctype html><p style="width:3000px">wide</p><img src="http://example.invalid/a.png"><script>console.error("no")</script>')
    found, console = looked_at(page, 390, tmp_path / "browser")
    assert found["wide"] == ["P.null"] and found["scroll"] == 3008 and found["broken"] == 1
    assert found["fetched"] == ["http://example.invalid/a.png"] and '"no"' in console
