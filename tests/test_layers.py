"""The house stands on layers: a file imports only from rows above its own, and only some may import torch at the top."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "mitate"
FACE = ["cli", "cli_asked", "cli_said", "cli_options", "cli_pictures", "cli_runs", "cli_merge", "cli_skills", "cli_review", "cli_relabel", "cli_loops"]
LAYERS = [
    ["errors"],
    ["settings", "registry", "files", "remote", "store", "progress", "runtime", "marks", "codec", "fitting"],
    ["images"],
    ["generator", "adapter", "score", "recipe", "study", "cards"],
    ["sets", "packed"],
    ["intake", "generators", "captioners", "metrics", "training", "adapters"],
    ["features", "lab"],
    ["prompts", "curation"],
    ["loops"],
    ["stored"],
    ["leaks"],
    ["axes"],
    ["verbs"],
    ["answers", "meeting", "cluster", "engine", "fitted", "drawn", "painted", "shots", "adapted", "merged", "judged", "searched", "frozen", "relabelled"],
    ["studies"],
    ["report", "web"],
    ["api"],
    [*FACE, "testing"],
]
APART = {"intake", "generators", "captioners", "metrics", "training", "adapters"}  # rooms of one floor that do not know each other
TORCH = {"fitting", "generators", "training", "features"}  # may import torch at the top
TORCH_FILES = {"metrics/ascent.py", "metrics/attacks.py", "metrics/robustness.py"}  # functions of a torch model
NO_NUMPY = {
    *FACE, "errors", "settings", "registry", "files", "store", "progress", "runtime", "score", "recipe", "study", "answers", "meeting", "remote", "cluster",
    "engine", "__init__", "__main__",
    "plan_file",
}  # fmt: skip


def room_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[0]


def imports(path: Path, *, top_only: bool) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{a.name}" for a in node.names]
    return found


FILES = sorted(SRC.rglob("*.py"))
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_a_file_imports_only_from_rows_above_its_own(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in LEVEL, f"{room} has no layer"
    for name in imports(path, top_only=False):
        if not name.startswith("mitate."):
            continue
        other = name.split(".")[1]
        if other not in LEVEL or other == room:
            continue
        assert LEVEL[other] <= LEVEL[room], f"{path.name} imports {name} from a row below"
        assert not (other in APART and room in APART), f"{path.name} imports {name}: rooms of one floor do not know each other"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_heavy_libraries_are_imported_where_they_belong(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path, top_only=True)}
    if room_of(path) not in TORCH and path.relative_to(SRC).as_posix() not in TORCH_FILES:
        assert "torch" not in tops
    if path.stem in NO_NUMPY:
        assert not tops & {"numpy", "scipy", "PIL", "sklearn"}
    assert not tops & {"pandas", "datasets", "diffusers", "transformers", "matplotlib", "pickle", "ray", "fsspec"}


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import mitate.cli, sys; print([m for m in ('torch', 'numpy', 'scipy', 'pandas', 'matplotlib', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_public_name_can_be_fetched() -> None:
    import mitate

    for name in mitate.__all__:
        assert getattr(mitate, name) is not None


def test_report_stays_a_function_after_the_first_report() -> None:
    before = "import mitate.report.words; import mitate as mi; print(callable(mi.report))"
    after = "import mitate as mi; mi.pilot; mi.report; import mitate.report.words; print(callable(mi.report))"
    for code in (before, after):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "True"
