"""The command that lets people judge images: review."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mitate.cli_pictures import FORMATS, Folder
from mitate.cli_said import say
from mitate.errors import SettingError

if TYPE_CHECKING:
    from mitate.curation.agreement import Agreement, Audit
    from mitate.metrics.intervals import Interval


@click.command()
@click.argument("fakes", type=click.Path(path_type=Path))
@click.option("--as", "name", help="Who reviews.  [default: the login name]")
@click.option("--check", "checks", multiple=True, help="A line of the checklist, like 'Exactly one leaf'; again for another one.")
@click.option("--plan", type=click.Path(path_type=Path), help='A TOML file with checklist = ["...", ...].')
@click.option("--audit", type=click.IntRange(min=1), help="Judge, blind, so many images that a filter dropped, shuffled among as many that none did.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the audit's sample.")
@click.option("--export", "out", type=click.Path(path_type=Path), help="Write the images that stand into this folder, and open no page.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="folder", show_default=True, help="With --export: class folders, or shards.")
@click.option("--shard", type=click.IntRange(min=1), help="With --export: images of a shard.  [default: 10,000, fewer of large images]")
@click.option("--reviewed-only", is_flag=True, help="With --export: leave out images that no person judged.")
@click.option("--agreement", is_flag=True, help="Print who judged how many, how two agree, what the audit found, and open no page.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the page.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Only print the address of the page.")
@click.option("--lang", type=click.Choice(["en", "ja"]), default="en", show_default=True, help="Language of the page.")
def review(
    fakes: Path, name: str | None, checks: tuple[str, ...], plan: Path | None, audit: int | None, seed: int, out: Path | None, form: str,
    shard: int | None, reviewed_only: bool, agreement: bool, port: int, no_browser: bool, lang: str,
) -> None:  # fmt: skip
    """Keep, drop or relabel the images of the folder FAKES by hand, on a page of this machine; every decision goes to FAKES/ledger.jsonl at once."""
    for given, option in ((reviewed_only, "--reviewed-only"), (form != "folder", "--format"), (shard is not None, "--shard")):
        if given and out is None:
            raise SettingError(f"{option} says what is exported.", fix="give --export OUT as well")
    if out is not None and (agreement or audit):
        raise SettingError("--export opens no page and prints no figures.", fix="give one of them at a time")
    if out is not None:
        _export(fakes, Folder(out, form, shard), reviewed_only)
    elif agreement:
        _agreement(fakes)
    else:
        _page(fakes, name, checks, plan, audit or 0, seed, port, no_browser, lang)


def _page(fakes: Path, name: str | None, checks: tuple[str, ...], plan: Path | None, audit: int, seed: int, port: int, no_browser: bool, lang: str) -> None:
    import time

    from mitate.curation.review import Review, checklist
    from mitate.web.server import Served

    found = Review(fakes, by=name if name is not None else _login(), checks=checklist(plan, checks), audit=audit, seed=seed)
    if found.unknown:
        say(f"{found.ledger.path}: decisions on {found.unknown} files that are not in the set; they are kept and count for nothing", err=True)
    with Served(found, port=port, lang=lang) as served, _opened(None if no_browser else served.url):
        say(f"{fakes}: {len(found)} images for {found.by}. Ctrl-C ends the review; every decision is on the disk.")
        say(served.url)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
    say(f"{served.decided} decisions made; they are in {found.ledger.path}")


@contextmanager
def _opened(url: str | None) -> Iterator[None]:
    """The page in the browser. It gets a file that leads there: what a program is started with, and so the token, can be read by all users of a machine."""
    import tempfile
    import webbrowser

    if url is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mitate-review-") as folder:
        page = Path(folder) / "review.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={url}"><a href="{url}">review</a>\n', encoding="utf-8")
        webbrowser.open(page.as_uri())
        yield


def _export(fakes: Path, folder: Folder, reviewed_only: bool) -> None:
    from mitate.curation.export import export
    from mitate.progress import Line

    line = Line(1.0, title="export")
    done = export(fakes, folder.out, form=folder.form, shard=folder.shard or 0, reviewed_only=reviewed_only, progress=line)
    line.close()
    told = f"{done.images} images, {done.relabelled} of them relabelled, {done.unseen} that no person judged; left out: {done.dropped} dropped"
    say(f"{folder.out}: {told}, {done.open} on which people disagree")


def _agreement(fakes: Path) -> None:
    from mitate.curation.agreement import agreed, agreements, audited
    from mitate.curation.ledger import Ledger, Standing
    from mitate.curation.review import list_set

    there = {row.name for row in list_set(fakes).rows}
    standing = Standing(d for d in Ledger(fakes).read() if d.file in there)
    for by in standing.names():
        said = [d.decision for d in standing.by(by).values()]
        say(f"{by}: {said.count('keep')} kept, {said.count('drop')} dropped, {said.count('relabel')} relabelled")
    held = [h.state for file in standing.files() if (h := agreed(standing.of(file)))]
    told = ", ".join(f"{held.count(state)} {word}" for state, word in (("keep", "kept"), ("drop", "dropped"), ("relabel", "relabelled"), ("open", "open")))
    say(f"{fakes}: {told}; {len(there) - len(held)} of {len(there)} images without a decision")
    for pair in agreements(standing):
        say(_pair(pair))
    _audit(audited(standing))


def _pair(pair: Agreement) -> str:
    beyond = f"Cohen's kappa {pair.kappa.value:.2f} ({pair.kappa.low:.2f} to {pair.kappa.high:.2f})" if pair.kappa else f"kappa not measured ({pair.note})"
    return f"{pair.one} and {pair.other}: the same on {_share(pair.same)} of {pair.n} images, {beyond}"


def _audit(found: Audit) -> None:
    if found.dropped is None and found.kept is None:
        say("audit: not measured (no image was judged in one: mitate review FAKES --audit 50)")
        return
    if found.dropped:
        say(f"audit: of the images that filters dropped, people keep {_share(found.dropped)}, n = {found.dropped.n}")
    for name, share in found.overruled.items():
        say(f"audit: dropped by {name.partition(':')[2]}: people keep {_share(share)}, n = {share.n}")
    if found.kept:
        say(f"audit: of the images that no filter dropped, people drop {_share(found.kept)}, n = {found.kept.n}")
    if found.relabelled or found.unsettled:
        say(f"audit: {found.relabelled} that filters dropped were relabelled; on {found.unsettled} people disagree")


def _share(found: Interval | None) -> str:
    return f"{found.value:.1%} (95 % interval {found.low:.1%} to {found.high:.1%})" if found else "not measured"


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no login name, as in some containers
        raise SettingError("This machine tells no login name.", fix="say who reviews: --as NAME") from None
