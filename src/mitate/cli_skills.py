"""Commands for skills: prompts, skills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mitate import cli_options as shared
from mitate.cli_said import say
from mitate.errors import SettingError


@click.command()
@click.option("--skill", help="A skill of ours (counting, relation, everyday, ...) or a TOML file of your own.")
@click.option("--n", type=click.IntRange(min=1), help="Prompts, exactly so many.")
@click.option("--from", "source", default="grammar", show_default=True, help="Who writes: grammar (offline), openai:MODEL@URL, transformers:DIR.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, .jsonl; the same command again goes on with it.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--examples", type=int, default=3, show_default=True, help="Shown to a language model in each round.")
@click.option("--examples-from", "drawn", default="all", show_default=True, help="all (seeds and what was kept), or seeds alone.")
@click.option("--ask", "number", type=int, default=20, show_default=True, help="Prompts asked for in a round.")
@click.option("--alike", type=click.FloatRange(0, 1), default=0.0, help="ROUGE-L above which two prompts are one.  [default: 0.8; grammar: 1, the same words]")
@click.option("--patience", type=click.IntRange(min=1), default=10, show_default=True, help="Rounds in a row without anything new before it stops.")
@click.option("--most-rounds", type=click.IntRange(min=0), default=0, help="Rounds at most: a limit of what it may cost.  [default: none]")
@click.option("--blocked", type=click.Path(path_type=Path), help="A file of words that no prompt may hold, one a line.")
@click.option("-o", "options", multiple=True, metavar="NAME=VALUE", help="Of the source: content, temperature, max_tokens, seconds, top_p, device, threads.")
@click.option("--show", help="Print the file of a skill of ours, or of template, and end: to write one's own.")
def prompts(
    skill: str | None, n: int | None, source: str, out: Path | None, seed: int, blocked: Path | None, options: tuple[str, ...], show: str | None,
    patience: int, most_rounds: int, **how: int | float | str,
) -> None:  # fmt: skip
    """Write the prompts of a skill, from a grammar or a language model, none twice.

    The key of a chat service is read from MITATE_API_KEY or OPENAI_API_KEY. The network is used for openai: alone (docs/prompts.md).
    """
    from mitate.progress import Line
    from mitate.prompts.pool import How, read_prompts, told_drops, write_prompts
    from mitate.prompts.skills import names, read_skill, skill_file
    from mitate.prompts.sources import open_source
    from mitate.settings import record

    if show is not None:
        say(skill_file(show), nl=False)
        return
    if skill is None or n is None or out is None:
        told = f"--skill (of ours: {', '.join(names())})" if skill is None else "--n 1000" if n is None else f"--out prompts/{Path(skill).stem}.jsonl"
        raise SettingError("It is not said which skill, how many prompts, or where to.", fix=f"give {told}")
    spec = read_skill(skill)
    words = read_prompts(blocked, what="blocked words") if blocked is not None else []
    line = Line(1.0, title=f"prompts {spec.name}")
    found = write_prompts(
        spec, n, source=open_source(source, options), out=out, seed=seed, how=record(How, how, where="prompts"), blocked=words, patience=patience,
        most_rounds=most_rounds, progress=line,
    )  # fmt: skip
    line.close()
    facts = found.manifest
    rounds = f"{facts['rounds']} whole rounds" if facts["rounds"] != 1 else "1 whole round"
    drops = f"; dropped {told_drops(facts['drops'])}" if facts["drops"] else ""
    say(f"{out}: {len(found.texts)} prompts of {spec.name} from {facts['from']}, {rounds}{drops}")


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), required=False)
@shared.run_folder
@click.option("--model", help="A text-to-image model: lab, a folder of a diffusers pipeline, owner/name of the hub.  [default: lab]")
@click.option("--skills", "names", help="Skills of the lab with commas, or those that the plan has files for.  [default: counting,relation,texture]")
@click.option("--prompts", type=int, help="Prompts of each skill to learn by.  [default: 300]")
@click.option("--tested", type=int, help="Prompts of each skill to measure by.  [default: 150]")
@click.option("--keep", help="Which pictures are learnt from: all, right, best:0.5, each:1.  [default: right]")
@click.option("--merges", help="Ways to merge the experts, with commas (docs/merging.md).  [default: mean,ties]")
@click.option("--controls", help="What experts and merges are compared with, with commas (docs/skills.md).")
@click.option("--steps", type=int, help="Of learning an expert.  [default: 300]")
@click.option("--replicates", type=int, help="Fewer than 2 have intervals over prompts alone.  [default: 1]")
@shared.seed
@shared.cost
@shared.running
def skills(plan: Path | None, out: Path | None, names: str | None, cost: bool, lang: str, engine: str, **given: Any) -> None:
    """Does a text-to-image model do better at what it is asked once it has learnt from its own chosen pictures? One expert a skill, merged, beside controls.

    PLAN is a TOML file with these settings (docs/skills.md); options given here win.
    """
    from mitate import cli_runs
    from mitate.cli_asked import skills_asked

    if out is None and not cost:
        raise SettingError("There is no place for the answer.", fix="give a run folder: --out runs/NAME")
    cli_runs.skills(skills_asked(plan, {"skills": names, **given}), out, lang=lang, engine=engine, cost=cost)
