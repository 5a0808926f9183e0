"""The command line. Every word is one library call; errors are one line with a fix and exit code 2. Nothing heavy is imported here."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click

from mitate import __version__, cli_loops, cli_pictures, cli_review, cli_runs, cli_skills
from mitate import cli_options as shared
from mitate.cli_asked import PRICES, compare_asked, kind_and_images, pilot_asked, prices_asked, refuse_with_continue, volume_asked
from mitate.cli_merge import merge
from mitate.cli_relabel import relabel
from mitate.cli_runs import EXIT
from mitate.cli_said import refuse, say
from mitate.errors import MitateError, SettingError
from mitate.files import disk_errors
from mitate.store import Store


class _Commands(click.Group):
    """Turns our errors into one line and exit code 2, and lists commands in the order they are used in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from mitate.settings import suggest

            raise SettingError(f"There is no command {args[0]!r}.", fix=suggest(args[0], self.commands))
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mitate")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Will synthetic images help my vision model, which ones, how many, and shall we pay for more?"""
    if ctx.invoked_subcommand is None:
        say(ctx.get_help())


@app.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Run folder.")
@click.option("--text-to-image", "painted", is_flag=True, help="The story of text-to-image models: a set in a look of its own, with and without a style.")
@shared.running
def demo(out: Path, painted: bool, lang: str, engine: str) -> None:
    """The main job on real images that come with the package: 200 scanned digits, verdict and report in minutes."""
    from mitate.studies.planning import Pilot

    asked = Pilot(data="digits:20", replicates=3, budget="30m", steps=150)  # about 3 minutes on two cores; the same sizes everywhere
    if painted:
        from mitate.painted import write_story

        arms = ("balanced+augment", "balanced+augment+align", "bridged+augment")
        asked = Pilot(
            data=str(write_story(out.with_name(f"{out.name}-images.npz"))), generators=("lab@2", "lab@2+untrained", "lab@2+style"), arms=arms, replicates=5,
            budget="60m", steps=150, synthetic_per_class=25, curve="none", backbone="mitate-small+frozen",
        )  # fmt: skip
    cli_runs.pilot(asked, out, lang=lang, engine=engine, cost=False, exit_code=False)


@app.command()
@click.argument("images", required=False)
@shared.run_folder
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="TOML file with these settings; options given here win.")
@shared.per_class
@shared.generators("vae,diffusion")
@click.option("--arms", help="Comma-separated recipes, for instance balanced+augment,bridged+++augment (docs/pilot.md).")
@shared.question(gain="gain", study="pilot")
@click.option("--synthetic", type=int, help="Synthetic images of each class.  [default: 5 for each real one, at most 200]")
@click.option("--replicates", type=int, help="Replicates at full.  [default: what the budget allows, 3 to 8]")
@click.option("--steps", type=int, help="Optimiser steps of an arm.  [default: 300, fewer where the budget is short]")
@click.option("--curve", help="Learning curve: none, real (baseline), full (candidate too).  [default: what the budget allows]")
@shared.seed
@click.option("--label-price", type=float, help="Money for one more real labelled image. Prices are no part of the question.")
@click.option("--machine-price", type=float, help="Money for one hour of one worker.")
@click.option("--currency", help="Of the prices, like EUR.")
@shared.cost
@click.option("--continue", "go_on", type=click.Path(path_type=Path), help="Run folder to give a new look: more replicates, a wider interval.")
@click.option("--seeds", help="With --continue: how many replicates to add, like +5.  [default: +5]")
@shared.running
@click.option("--exit-code", is_flag=True, help="Exit with 0 for go, 10 for stop, 11 for more evidence.")
def pilot(
    images: str | None,
    out: Path | None,
    plan_file: Path | None,
    cost: bool,
    go_on: Path | None,
    seeds: str | None,
    lang: str,
    engine: str,
    exit_code: bool,
    **given: Any,
) -> None:
    """Will synthetic images help? A staged pilot on IMAGES (a folder, file or name) with a verdict and a report."""
    if go_on is not None:
        refuse_with_continue(images, out, plan_file, given)
        cli_runs.continue_run(go_on, seeds or "+5", lang=lang, engine=engine, exit_code=exit_code)
        return
    if seeds is not None:
        raise SettingError("--seeds adds replicates to a run that is there.", fix="give --continue RUN as well, or use --replicates")
    prices = prices_asked(plan_file, {name: given.pop(name) for name in PRICES})
    asked = pilot_asked(images, plan_file, given)
    if out is None and not cost:
        raise SettingError("There is no place for the answer.", fix="give a run folder: --out runs/NAME")
    cli_runs.pilot(asked, out, lang=lang, engine=engine, cost=cost, exit_code=exit_code, prices=prices)


@app.command()
@click.argument("images")
@shared.run_folder
@shared.generators("diffusion")
@click.option("--volumes", help="Synthetic images of each class, increasing; 0 is the baseline.  [default: 0,50,100,200,500]")
@click.option("--arm", help="The recipe that uses them (docs/pilot.md).  [default: balanced+augment]")
@shared.per_class
@shared.question(gain="gain of the last step", study="study")
@click.option("--replicates", type=int, help="Replicates.  [default: what the budget allows, 3 to 8]")
@click.option("--steps", type=int, help="Optimiser steps at every volume.  [default: 300, fewer where the budget is short]")
@click.option("--machine-price", type=float, help="Money an hour of one worker, to set the gain against its cost.")
@click.option("--currency", help="Of the price, like EUR or JPY.")
@shared.seed
@shared.cost
@shared.running
def volume(images: str, out: Path | None, cost: bool, lang: str, engine: str, **given: Any) -> None:
    """How many synthetic images are enough? Utility of IMAGES against their number, and whether the last step still helped."""
    prices = {name: given.pop(name) for name in ("machine_price", "currency")}
    asked = volume_asked(images, given)
    if out is None and not cost:
        raise SettingError("There is no place for the answer.", fix="give a run folder: --out runs/NAME")
    cli_runs.volume(asked, out, prices=prices, lang=lang, engine=engine, cost=cost)


@app.command()
@click.argument("images")
@shared.run_folder
@click.option("--generators", help="Comma-separated families: vae, gan, diffusion, gaussian, folder:PATH.  [default: vae,gan,diffusion]")
@click.option("--per-class", help="Real training images of each class, increasing.  [default: 10,25,50,100]")
@click.option("--seeds", type=int, help="Subsets of each size: replicates. Fewer than 3 have no interval.  [default: 5]")
@click.option("--fits", type=int, help="Fits on each subset; 2 or more tell the fit's part of the spread from the subset's.  [default: 1]")
@click.option("--trainings", type=int, help="Trainings of each classifier on each fit's images.  [default: 3]")
@click.option("--axes", help="Comma-separated: privacy, fidelity, diversity, utility, robustness, efficiency.  [default: all]")
@click.option("--weights", help="Of your own use case, like utility=.5,privacy=.3: they order its advice, nothing else.")
@click.option("--epsilon", type=float, help="Also fit each family that can with this much differential privacy, like 8.")
@click.option("--past-the-gate", is_flag=True, help="Measure the other axes of what leaks, too.")
@click.option("-o", "options", multiple=True, help="A setting of a family as KIND.name=value, for instance -o vae.steps=2000.")
@click.option("--features", help="pixels, random, mitate-small, mobilenet_v2:FILE, ... (docs/features.md).  [default: mitate-small]")
@click.option("--synthetic", type=int, help="Synthetic images of each class.  [default: 200]")
@click.option("--steps", type=int, help="Optimiser steps of a classifier.  [default: 300]")
@click.option("--size", type=int, help="Working size in pixels.  [default: the images' own, at most 64]")
@shared.seed
@click.option("--cost", is_flag=True, help="Print what it would take, and stop.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report there, too.")
@shared.running
def compare(images: str, out: Path | None, cost: bool, html: Path | None, lang: str, engine: str, **given: Any) -> None:
    """Which family of generators for how few images? Families on nested subsets of IMAGES, six axes, advice by use case."""
    if out is None and not cost:
        raise SettingError("There is no place for the answer.", fix="give a run folder: --out runs/NAME")
    cli_runs.compare(compare_asked(images, given), out, html=html, lang=lang, engine=engine, cost=cost)


@app.command()
@click.argument("fakes")
@click.option("--real", required=True, help="Real images that the generator may have seen: a folder or file.")
@click.option("--held-out", default="", help="Real images that it never saw. Without them: no floors, no privacy, no utility.")
@click.option("--foreign", default="", help="Images of other things, which a model must not accept: does it notice them? (robustness)")
@click.option("--features", default="mitate-small", show_default=True, help="pixels, random, mitate-small, mobilenet_v2:FILE, ... (docs/features.md).")
@click.option("--axes", help="Comma-separated: privacy, fidelity, diversity, style, utility, robustness, efficiency.  [default: all]")
@click.option("--size", type=int, default=0, help="Working size in pixels.  [default: the real images' own, at most 64]")
@click.option("--per-class", type=int, default=0, help="Images of each class that a kept generator draws.  [default: 200]")
@click.option("--replicates", type=int, default=3, show_default=True, help="Trainings of each kind, for utility and robustness.")
@click.option("--steps", type=int, default=300, show_default=True, help="Optimiser steps of a training.")
@click.option("--shadows", type=int, default=0, show_default=True, help="Shadow models (like 8), to attack a model trained on these images.")
@click.option("--most", type=int, default=0, help="Images of a set whose neighbours are looked for; of larger sets a part is drawn.  [default: 200,000]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--html", type=click.Path(path_type=Path), help="Write the report there.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything measured there.")
@click.option("--fail-if", "conditions", multiple=True, help='Exit with 10 where it holds, like "privacy.copies > floor + 0.05" or "fidelity is worse".')
@shared.running
def assess(fakes: str, axes: str | None, html: Path | None, json_file: Path | None, conditions: tuple[str, ...], lang: str, engine: str, **given: Any) -> None:
    """What are these synthetic images worth? FAKES (a folder, file or kept generator) on six axes and in style, each beside its floor.

    Of features (.npy files, one row an image) fidelity and diversity are told, for sets of up to millions.
    """
    from mitate.engine import parse_engine
    from mitate.features.given import is_given
    from mitate.intake.scanning import check_places
    from mitate.studies.assess import assess as assess_sets
    from mitate.studies.assess_answer import conditions_of, table, write
    from mitate.studies.assess_planning import AXES, Assess, check_asked
    from mitate.studies.conditions import judge

    asked = Assess(fakes=fakes, axes=tuple(a.strip() for a in axes.split(",") if a.strip()) if axes is not None else AXES, **given)
    check_asked(asked)
    check_places(html, json_file)
    wanted = conditions_of(conditions)
    if is_given(fakes):
        from mitate.studies.assess_given import check_conditions

        check_conditions(wanted)
    found = assess_sets(asked, store=Store.find(), workers=parse_engine(engine), tell=lambda line: say(line, err=True))
    for line in table(found):
        say(line)
    if json_file is not None:
        write(found, json_file)
    if html is not None:
        from mitate.report.assessment import write_assessment

        say(str(write_assessment(found, html, lang=lang)))
    failed = [outcome for outcome in (judge(c, found) for c in wanted) if outcome.holds is not False]
    for outcome in failed:
        say(f"fail-if {outcome.text}: {outcome.because}" + ("" if outcome.holds else "; what was not measured cannot pass"), err=True)
    if failed:
        sys.exit(EXIT["stop"])


@app.command()
@click.argument("images")
@click.option("--known", multiple=True, help="Folder or file of images known to be synthetic.")
@click.option("--generator", "generators", multiple=True, help="Kept generator: its stored images, or fresh ones where none are stored.")
@click.option("--per-class", type=click.IntRange(min=0), default=0, help="Images of each class that such a generator draws.  [default: 200]")
@click.option("--no-store", is_flag=True, help="Leave out what this store has drawn otherwise.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the verdict on every image there.")
@click.option("--drop-list", type=click.Path(path_type=Path), help="Write the names of the images found there, one a line.")
@click.option("--fail", is_flag=True, help="Exit with 10 where any is found.")
def scan(
    images: str,
    known: tuple[str, ...],
    generators: tuple[str, ...],
    per_class: int,
    no_store: bool,
    json_file: Path | None,
    drop_list: Path | None,
    fail: bool,
) -> None:
    """Find synthetic images that came back as real: IMAGES (a folder, file or name) by marks and as copies of known synthetic sets."""
    from mitate.api import scan as scan_images
    from mitate.intake.scanning import check_places, write_drop_list, write_scan
    from mitate.progress import Line

    check_places(json_file, drop_list)
    line = Line(1.0, title="scan")
    found = scan_images(images, known=known, generators=generators, per_class=per_class, stored=not no_store, progress=line)
    line.close()
    say(str(found))
    if json_file is not None:
        write_scan(found, json_file)
    if drop_list is not None:
        write_drop_list(found, drop_list)
    if fail and found.found:
        sys.exit(EXIT["stop"])


@app.command()
@click.argument("kind")
@click.argument("images")
@click.option("--as", "name", required=True, help="Name to keep it under.")
@click.option("-o", "options", multiple=True, help="A setting of the kind as name=value, for instance -o steps=2000.")
@click.option("--size", type=int, default=0, help="Pixels of the images it draws.  [default: the images' own, at most 64]")
@click.option("--per-class", type=click.IntRange(min=0), default=0, help="Use at most so many images of each class.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True)
def fit(kind: str, images: str, name: str, options: tuple[str, ...], size: int, per_class: int, seed: int) -> None:
    """Fit a generator KIND (vae, gan, diffusion, gaussian) on IMAGES and keep it under a name."""
    from mitate.files import checked_name
    from mitate.fitted import fit as fit_generator
    from mitate.progress import Line, clock

    checked_name(name)
    chosen, train = kind_and_images(kind, images, options, size=size, per_class=per_class, seed=seed)
    line = Line(1.0, title=f"fit {kind}")
    found = fit_generator(chosen, train, seed=seed, size=size, name=name, store=Store.find(), progress=line)
    line.close()
    say(f"{name}: {kind}, {len(found.classes)} classes at {found.shape[0]} px, fitted in {clock(found.entry.result['seconds'])}")
    told = found.entry.result.get("privacy", {})
    if told.get("accountant", {}).get("by") == "mitate":
        say(
            f"{name}: private, epsilon {told['epsilon']:.3g} at delta {told['delta']:.2g} for one image of {told['images']}"
            f" (noise {told['noise_multiplier']:.3g}, rate {told['sampling_rate']:.3g}, {told['steps']} steps)"
        )
        if train.groups is not None:
            say(f"{name}: the images have groups, and epsilon is not for a group. {told['groups']}")


app.add_command(cli_pictures.adapt)
app.add_command(cli_pictures.generate)
app.add_command(cli_pictures.caption)
app.add_command(cli_skills.prompts)
app.add_command(cli_skills.skills)
app.add_command(merge)
app.add_command(cli_review.review)
app.add_command(relabel)
app.add_command(cli_loops.collapse)
app.add_command(cli_loops.monitor)


@app.command()
@click.argument("kind")
@click.argument("images")
@click.option("-o", "options", multiple=True, help="A setting of the kind as name=value, as for fit; -o epsilon=8 audits a private fit.")
@click.option("--canaries", type=int, default=200, show_default=True, help="Pictures that are made; each is planted or left out by its own coin.")
@click.option("--size", type=int, default=0, help="Pixels of the images it draws.  [default: the images' own, at most 64]")
@click.option("--per-class", type=click.IntRange(min=0), default=0, help="Use at most so many images of each class.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything found there.")
def audit(kind: str, images: str, options: tuple[str, ...], canaries: int, size: int, per_class: int, seed: int, json_file: Path | None) -> None:
    """Plant pictures among IMAGES, fit KIND and look for them: which epsilon of differential privacy is refuted? Exit code 1 where a promised one is."""
    from mitate.intake.scanning import check_places
    from mitate.progress import Line
    from mitate.studies.audit import audit as audit_kind
    from mitate.studies.audit import write

    check_places(json_file)
    chosen, train = kind_and_images(kind, images, options, size=size, per_class=per_class, seed=seed)
    line = Line(1.0, title=f"audit {kind}")
    found = audit_kind(chosen, train, canaries=canaries, seed=seed, size=size, progress=line)
    line.close()
    say(str(found))
    if json_file is not None:
        write(found, json_file)
    if found.refuted:
        sys.exit(1)


@app.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--lang", type=click.Choice(["en", "ja"]), default="en", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: report.html or report.ja.html in the run folder]")
@click.option("--label-price", type=float, help="Money for one more real labelled image: the run's money is told anew, nothing is computed.")
@click.option("--machine-price", type=float, help="Money for one hour of one worker.")
@click.option("--currency", help="Of the prices, like EUR.")
@click.option("--beside", type=click.Path(path_type=Path), multiple=True, help="Of loops: another folder, same ground and n, to compare with; several times.")
def report(run: Path, lang: str, out: Path | None, beside: tuple[Path, ...], **given: Any) -> None:
    """Write the report of the run folder RUN again, in English or Japanese, or with other prices; of loops, also beside others."""
    from mitate.report.html import write_prices, write_report
    from mitate.study import Run

    if any(v is not None for v in given.values()):
        write_prices(Run(run), prices_asked(None, given))
    say(str(write_report(Run(run), lang=lang, out=out, beside=beside)))


@app.command()
def ls() -> None:
    """Kept generators, and the runs below runs/."""
    import json

    from mitate.study import Run

    store = Store.find()
    for name, digest in store.refs().items():
        entry = store.get(digest)
        what = (
            "missing from the store"
            if entry is None
            else f"{entry.result.get('kind', '')} {entry.result.get('shape', ['?'])[0]} px, {len(entry.result.get('classes', []))} classes"
        )
        say(f"{name:24} {what}  {digest[:12]}")
    for path in sorted(Path("runs").glob("*/study.json")) if Path("runs").is_dir() else []:
        run = Run(path.parent)
        try:
            verdict = run.answer["verdict"] if run.finished else "not finished"
        except (MitateError, KeyError, json.JSONDecodeError):
            verdict = "damaged"
        say(f"{path.parent!s:24} {verdict}")


@app.command()
@click.option("--remake", is_flag=True, help="Forget damaged results; they are made again when next asked for.")
@click.option("--run", "runs", type=click.Path(path_type=Path), multiple=True, help="Also check the audit of a run folder.")
def verify(remake: bool, runs: tuple[Path, ...]) -> None:
    """Check every stored result against its digest. Exit code 1 when something is damaged."""

    store = Store.find()
    count, damaged = 0, []
    for name in store.objects():
        count += 1
        if (wrong := store.damage(name)) is not None:
            damaged.append(name)
            say(f"{name[:12]}  {wrong}")
            if remake:
                store.drop(name)
    for run in runs:
        from mitate.report.audit import check_audit

        for wrong in check_audit(run):
            damaged.append(str(run))
            say(f"{run}: {wrong}")
    fate = " (forgotten; they are made again when next asked for)" if remake and damaged else "; forget them with --remake" if damaged else ""
    say(f"{count} stored results, {len(damaged)} damaged{fate}")
    if damaged and not remake:
        sys.exit(1)


@app.command()
@click.option("--all", "everything", is_flag=True, help="Also what the runs below runs/ were made from; their folders stay readable.")
def clean(everything: bool) -> None:
    """Free the store's space. Kept generators, runs, ledgers and the record of opened test images stay."""
    from mitate.studies.evidence import needed

    store, keep = Store.find(), set()
    for path in sorted(Path("runs").glob("*/jobs.jsonl")) if Path("runs").is_dir() and not everything else []:
        keep |= needed(path)
    for digest in store.refs().values():
        if (entry := store.get(digest)) is not None:
            keep |= store.inputs(entry)
    count, size = store.clean(keep=keep)
    say(f"{count} results dropped, {size / 1e6:.1f} MB freed")


def main() -> NoReturn:
    """Run the command line; the exit code is 2 for every error a user can act on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still gets its line
    try:
        with disk_errors(Store.find().root):
            app.main(prog_name="mitate", standalone_mode=False)
    except MitateError as wrong:
        refuse(wrong.message, wrong.fix)
        sys.exit(wrong.exit_code)
    except click.ClickException as wrong:
        refuse(wrong.format_message(), f"see mitate {' '.join(sys.argv[1:2])} --help")
        sys.exit(2)
    except MemoryError:
        refuse("There is not enough memory for this.", "give fewer or smaller images, or fewer workers (--engine local:1)")
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted; the same command goes on from here", err=True)
        sys.exit(130)
    sys.exit(0)
