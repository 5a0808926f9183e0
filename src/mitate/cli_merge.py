"""The command merge: experts of one text-to-image model made into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mitate.cli_said import say
from mitate.errors import SettingError


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="METHOD EXPERT...")
@click.option("--as", "name", help="Name to keep it under; use it as MODEL+NAME.")
@click.option("--base", help="The model: lab, a folder of a diffusers pipeline, owner/name of the hub. Needed for files, which need not tell theirs.")
@click.option("-o", "options", multiple=True, metavar="NAME=VALUE", help="Settings of the method: weights=0.5,0.3,0.2, rank=8, density=0.5, drop=0.5, seed=0.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write it as a safetensors file for diffusers.")
@click.option("--fused", type=click.Path(path_type=Path), help="Also write the whole model with it, into a new folder.")
@click.option("--search", "by", help="Search the weights by prompts: a file (.txt, .jsonl), lab (skills that experts are called after), lab:SKILL,SKILL.")
@click.option("--judge", default="oracle", show_default=True, help="Of --search: oracle (lab), vqa:MODEL, similarity:MODEL (docs/skills.md).")
@click.option("--budget", type=click.IntRange(min=2), default=12, show_default=True, help="Of --search: merges that are tried, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of --search: of its pictures.")
@click.option("--report", is_flag=True, help="Print how the experts stand in each other's way, and stop; METHOD can be left out.")
def merge(
    words: tuple[str, ...], name: str | None, base: str | None, options: tuple[str, ...], out: Path | None, fused: Path | None, report: bool, by: str | None,
    judge: str, budget: int, seed: int,
) -> None:  # fmt: skip
    """Make several LoRAs of one model into one.

    METHOD is mean (of the updates, exactly), sum, ties, dare, dare-ties, prune, or for comparison factor-mean and factor-linear, which merge factors
    (docs/merging.md). EXPERT is a name that mitate adapt lora or mitate merge kept, or a safetensors file.
    """
    from mitate.adapted import check_file
    from mitate.files import checked_name
    from mitate.generators.interference import table
    from mitate.generators.merging import METHODS
    from mitate.merged import check_folder, interference, labelled
    from mitate.merged import merge as merged
    from mitate.progress import Line
    from mitate.settings import from_text, suggest

    method, experts = words[0], list(words[1:])
    if report:
        line = Line(1.0, title="merge")
        found = interference(experts if method in METHODS else list(words), base=base, progress=line)
        line.close()
        for told in table(found):
            say(told)
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
    if by is not None:
        how = _searched(experts, how, by, base=base, judge=judge, budget=budget, seed=seed, name=name)
    line = Line(1.0, title=f"merge {method}")
    made = merged(experts, how, base=base, name=name, progress=line)
    line.close()
    facts = made.entry.result
    kept = "nothing: it is zero" if facts["kept"] is None else f"{100 * facts['kept']:.3g} % of it"
    named = zip([label for label, _ in labelled(experts)], how.shares(len(experts)), strict=True)
    shares = ", ".join(f"{label} {share:.3g}" for label, share in named)
    say(f"{name or method}: {shares}; {facts['modules']} modules, rank {facts['rank']} holds {kept}")
    clash = facts["clash"]
    if clash["cancelled"] is not None:
        told = f"{100 * clash['cancelled']:.3g} % of what the experts change is cancelled in their sum"
        say(f"{name or method}: {told} ({100 * (1 - len(experts) ** -0.5):.3g} % by chance; --report tells where)")
    if out is not None:
        say(f"{made.write(out)}: for diffusers")
    if fused is not None:
        say(f"{made.fuse(fused)}: the whole model")


def _searched(experts: list[str], how: Any, by: str, *, base: str | None, judge: str, budget: int, seed: int, name: str | None) -> Any:
    """The method with weights that were searched; what was tried is told, and kept as NAME.search."""
    from mitate.curation.dependency import beside, read_questions
    from mitate.merged import labelled
    from mitate.progress import Line
    from mitate.prompts.pool import read_prompts
    from mitate.searched import lab_prompts, search_weights
    from mitate.store import Store

    kind, _, skills = by.partition(":")
    questions = {}
    if kind == "lab":
        prompts = lab_prompts([skill for skill in skills.split(",") if skill], experts, seed=seed)
    else:
        prompts = list(dict.fromkeys(read_prompts(by)))
        questions = read_questions(beside(Path(by))) if beside(Path(by)).is_file() else {}
    line = Line(1.0, title="search")
    found = search_weights(experts, how, prompts, judge=judge, budget=budget, seed=seed, questions=questions, base=base, progress=line)
    line.close()
    if name is not None:
        Store.find().keep(f"{name}.search", found.entry.digest)
    labels = [label for label, _ in labelled(experts)]
    for weights, score in found.tried:
        shares = ", ".join(f"{label} {share:.3g}" for label, share in zip(labels, weights, strict=True))
        say(f"tried {shares}: {score:.4g}{' (kept)' if weights == found.how.weights else ''}")
    ended = "to its end" if found.whole else "until its budget was spent"
    say(f"searched {ended} on {len(prompts)} prompts, judged by {judge}; the best of {len(found.tried)} scores too high: measure it on other prompts")
    return found.how
