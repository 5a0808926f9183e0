"""Writes the two pages that the program knows best: cli.md from the commands, errors.md from the tree of errors.

python docs/make.py            write them                          (make docs)
python docs/make.py --check    exit 1 if one is not current, and say which
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from mitate import errors
from mitate.cli import EXIT, app

DOCS = Path(__file__).parent
WRITTEN = "<!-- Written by docs/make.py: change the program, then run `make docs`. -->\n"
EXAMPLES = (
    ("piolt", "digits:20"),
    ("pilot", "digits:20"),
    ("pilot", "leavez/", "--out", "runs/leaves"),
    ("generate", "leaves-vae", "--per-class", "20", "--out", "fakes/"),
)


def _commands() -> list[tuple[str, click.Command]]:
    """Every command by what is typed; those of a group by both words."""
    found: list[tuple[str, click.Command]] = []
    for name, command in app.commands.items():
        found += [(f"{name} {sub}", c) for sub, c in command.commands.items()] if isinstance(command, click.Group) else [(name, command)]
    return found


def cli_page() -> str:
    """docs/cli.md: every command with its arguments and options."""
    parts = [
        WRITTEN,
        "# The command line\n",
        f"{app.help}\n",
        "`mitate COMMAND --help` says the same as this page. Every word is also one library call (README).\n",
        "| Command | Does |\n|---|---|",
        *(f"| [`{name}`](#mitate-{name.replace(' ', '-')}) | {_cell(command.help)} |" for name, command in _commands()),
    ]
    for name, command in _commands():
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        options = [p for p in command.params if isinstance(p, click.Option)]
        words = " ".join((a.name or "").upper() if a.required else f"[{(a.name or '').upper()}]" for a in arguments)
        parts += [f"\n## mitate {name}\n", f"    mitate {name} {words} [OPTIONS]".replace("  [", " [") + "\n", f"{command.help}\n"]
        parts[-1] = parts[-1] if options else parts[-1].rstrip()
        if options:
            parts += ["| Option | Meaning |\n|---|---|", *(f"| `{_spelling(o)}` | {_meaning(o)} |" for o in options)]
    codes = ", ".join(f"{code} for `{verdict}`" for verdict, code in EXIT.items())
    parts += [
        "\n## Exit codes\n",
        "| Code | When |\n|---|---|",
        "| 0 | the command did its work (a verdict of any kind, unless `--exit-code`) |",
        "| 1 | `mitate verify` found damage, `mitate audit` refuted a promised epsilon |",
        f"| 2 | an error with a `fix:` line ([errors](errors.md)) |\n| 10 | `mitate assess --fail-if` where a condition held, `mitate scan --fail` where an "
        f"image was found |\n| 130 | interrupted |\n| with `--exit-code` | {codes} |",
        "\n## Environment\n",
        "| Variable | Meaning |\n|---|---|",
        "| `MITATE_HOME` | the store's folder; without it the nearest `.mitate` upward from here, else a new one here |",
        "| `MITATE_SHARED` | a URL where results are shared between machines ([store](store.md)); without it nothing is sent |",
        "| `MITATE_CHECKPOINT_SECONDS` | seconds between two checkpoints of a long fit (60) |",
    ]
    return "\n".join(parts) + "\n"


def errors_page() -> str:
    """docs/errors.md: the tree, what each kind means, and how errors look."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip()
    kinds = [errors.MitateError, *errors.MitateError.__subclasses__()]
    parts = [
        WRITTEN,
        "# Errors\n",
        "Everything mitate raises on purpose is one tree. An error says what happened, with the value, and then what to do about it:",
        "`message` and `fix` in Python, two lines and an exit code on the command line. Nothing that was finished is lost.\n",
        f"```\n{tree}\n```\n",
        "| Class | Means | Exit code |\n|---|---|---|",
        *(f"| `{kind.__name__}` | {_cell(kind.__doc__)} | {kind.exit_code} |" for kind in kinds),
        "\n## As they look\n",
        "```",
        "\n".join(_example(words) for words in EXAMPLES).rstrip(),
        "```\n",
        "## In Python\n",
        "```python",
        "import mitate as mi",
        "",
        "try:",
        '    mi.open_images("leavez/")',
        "except mi.MitateError as wrong:",
        "    print(wrong.message)",
        "    print(wrong.fix)",
        "```\n",
        "A `ValueError`, an `AssertionError` or any other exception from inside mitate is a fault of ours: please report it.",
    ]
    return "\n".join(parts) + "\n"


PAGES = {"cli.md": cli_page, "errors.md": errors_page}


def main() -> None:
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is not current; run: make docs")
        sys.exit(1 if stale else 0)
    print(f"written: {', '.join(stale) or 'nothing, all is current'}")


def _spelling(option: click.Option) -> str:
    names = ", ".join(option.opts)
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {'/'.join(map(str, option.type.choices))}"
    return f"{names} {'PATH' if isinstance(option.type, click.Path) else option.type.name.upper().split()[0]}"


def _meaning(option: click.Option) -> str:
    said = [_cell(option.help)] if option.help else []
    said += ["Can be given several times."] if option.multiple else []
    said += ["Required."] if option.required else []
    said += [f"[default: {option.default}]"] if option.show_default else []
    return " ".join(said)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _example(words: tuple[str, ...]) -> str:
    """A command and what it says, run in an empty folder with an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "MITATE_HOME"}
        found = subprocess.run([sys.executable, "-m", "mitate", *words], cwd=folder, env=environment, capture_output=True, text=True)
    return f"$ mitate {' '.join(words)}\n{found.stderr.strip()}   (exit code {found.returncode})\n"


if __name__ == "__main__":
    main()
