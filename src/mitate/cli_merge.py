"""The command merge: experts of one text-to-image model made into one."""

from __future__ import annotations

from pathlib import Path

import click

from mitate.errors import SettingError


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="METHOD EXPERT...")
@click.option("--as", "name", help="Name to keep it under; use it as MODEL+NAME.")
@click.option("--base", help="The model: lab, a folder of a diffusers pipeline, owner/name of the hub. Needed for files, which need not tell theirs.")
@click.option("-o", "options", multiple=True, metavar="NAME=VALUE", help="Settings of the method: weights=0.5,0.3,0.2, rank=8, density=0.5, drop=0.5, seed=0.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write it as a safetensors file for diffusers.")
@click.option("--fused", type=click.Path(path_type=Path), help="Also write the whole model with it, into a new folder.")
@click.option("--report", is_flag=True, help="Print how the experts stand in each other's way, and stop; METHOD can be left out.")
def merge(words: tuple[str, ...], name: str | None, base: str | None, options: tuple[str, ...], out: Path | None, fused: Path | None, report: bool) -> None:
    """Make several LoRAs of one model into one.

    METHOD is mean (of the updates, exactly), sum, ties, dare, dare-ties, prune, or for comparison factor-mean and factor-linear, which merge factors
    (docs/merging.md). EXPERT is a name that mitate adapt lora or mitate merge kept, or a safetensors file.
    """
    from mitate.adapted import check_file
    from mitate.generators.interference import table
    from mitate.generators.merging import METHODS
    from mitate.merged import check_folder, interference, labelled
    from mitate.merged import merge as merged
    from mitate.progress import Line
    from mitate.settings import from_text, suggest
    from mitate.store import checked_name

    method, experts = words[0], list(words[1:])
    if report:
        line = Line(1.0, title="merge")
        found = interference(experts if method in METHODS else list(words), base=base, progress=line)
        line.close()
        for told in table(found):
            click.echo(told)
        return
    if method not in METHODS:
        raise SettingError(f"There is no way {method!r} to merge.", fix=suggest(method, METHODS))
    if name is None and out is None and fused is None:
        raise SettingError("The merge would be kept nowhere.", fix="give --as NAME, --out FILE.safetensors or --fused FOLDER (or --report, to look first)")
    how = from_text(METHODS[method], options, where=f"merge {method}")
    if name is not None:
        checked_name(name)
    if out is not None:
        check_file(out)
    if fused is not None:
        check_folder(fused)
    line = Line(1.0, title=f"merge {method}")
    made = merged(experts, how, base=base, name=name, progress=line)
    line.close()
    facts = made.entry.result
    kept = "nothing: it is zero" if facts["kept"] is None else f"{100 * facts['kept']:.3g} % of it"
    named = zip([label for label, _ in labelled(experts)], how.shares(len(experts)), strict=True)
    shares = ", ".join(f"{label} {share:.3g}" for label, share in named)
    click.echo(f"{name or method}: {shares}; {facts['modules']} modules, rank {facts['rank']} holds {kept}")
    clash = facts["clash"]
    if clash["cancelled"] is not None:
        told = f"{100 * clash['cancelled']:.3g} % of what the experts change is cancelled in their sum"
        click.echo(f"{name or method}: {told} ({100 * (1 - len(experts) ** -0.5):.3g} % by chance; --report tells where)")
    if out is not None:
        click.echo(f"{made.write(out)}: for diffusers")
    if fused is not None:
        click.echo(f"{made.fuse(fused)}: the whole model")
