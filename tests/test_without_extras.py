"""What works without the extras (diffusers, transformers, timm, datasets, ray), and that what does not names the extra that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

EXTRAS = ("diffusers", "transformers", "peft", "accelerate", "datasets", "pyarrow", "timm", "ray", "huggingface_hub")
PROGRAM = f"""
import io, json, shlex, sys
from contextlib import redirect_stderr, redirect_stdout

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from mitate import cli

found = []
for line in json.load(sys.stdin):
    sys.argv, told = ["mitate", *shlex.split(line)], io.StringIO()
    try:
        with redirect_stdout(told), redirect_stderr(told):
            cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    found.append([code, told.getvalue()])
json.dump(found, sys.stdout)
"""
WORKS = (
    "--help",
    "collapse toy --generations 2 --seeds 2 --n 40 --out loop",
    "report loop",
    "report loop --lang ja",
    "collapse toy --policy real --generations 2 --seeds 3 --n 40 --out null",
    "monitor loop --null null --rate 0.4",
    "prompts --skill counting --n 3 --out prompts.jsonl",
    "fit gaussian images --as plain",
    "generate plain --per-class 3 --out fakes",
    "scan images",
    "relabel fakes --with real:images --export kept",
    "ls",
    "verify",
)
NEEDS = {
    'generate lab --prompt "a red star" --out painted': "diffusion",
    "caption images --with lab --json texts.jsonl": "diffusion",
    "skills --skills counting --out skills": "diffusion",
    "adapt lora --base lab --images images --as a": "diffusion",
    "adapt shots --base lab --images images --as b": "diffusion",
    "adapt style --base lab --images images --as c": "diffusion",
    "collapse lab --n 4 --generations 1 --seeds 1": "diffusion",
    "relabel images --with similarity:lab-clip --export other": "diffusion",
    "pilot images --backbone timm:resnet18 --cost": "vision",
    "pilot images --engine ray --out pilot": "ray",
    "scan hf:nobody/nothing": "hf",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and words of every command, all in one process that finds none of EXTRAS."""
    place, chance = tmp_path_factory.mktemp("bare"), np.random.default_rng(0)
    for name in ("light", "dark"):
        (place / "images" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(chance.integers(0, 128 + 127 * (name == "light"), (12, 12, 3), dtype=np.uint8)).save(place / "images" / name / f"{i}.png")
    commands = [*WORKS, *NEEDS]
    environment = {**os.environ, "MITATE_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(commands), cwd=place, env=environment, capture_output=True, text=True, check=True, timeout=300
    )  # fmt: skip
    return {command: (code, words) for command, (code, words) in zip(commands, json.loads(ran.stdout), strict=True)}


@pytest.mark.parametrize("command", WORKS)
def test_it_works_without_extras(command: str, told: dict[str, tuple[int, str]]) -> None:
    code, words = told[command]
    assert code == 0, words


@pytest.mark.parametrize("command", NEEDS)
def test_what_needs_an_extra_names_it(command: str, told: dict[str, tuple[int, str]]) -> None:
    code, words = told[command]
    lines = [line for line in words.splitlines() if line.startswith(("error:", "fix:"))]
    assert code == 2 and len(lines) == 2, words
    assert "needs the package" in lines[0] and lines[1] == f'fix: pip install "mitate[{NEEDS[command]}]"'
