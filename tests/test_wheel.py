"""The package as it is handed out: a source archive, a wheel made of that, and what a stranger gets who installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOREIGN = (".venv", "runs", ".mitate", ".git")  # what lies in a checkout and is nobody else's


def ran(*command: str | Path, cwd: Path, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=600
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_the_wheel_of_the_source_archive_works_for_a_stranger(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the package: pip install 'mitate[dev]'")
    ran("-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
    archive = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archive) as there:
        names = there.getnames()
        there.extractall(tmp_path / "source", filter="data")
    assert not [name for name in names if set(Path(name).parts[1:2]) & set(FOREIGN)]
    ran("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=next((tmp_path / "source").iterdir()))
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = set(wheel.namelist())
        wheel.extractall(tmp_path / "installed")
    own = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "mitate").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert own <= inside, sorted(own - inside)[:5]
    assert {name.split("/")[0] for name in inside} == {"mitate", "mitate-0.1.0.dist-info"}

    (tmp_path / "elsewhere").mkdir()
    place = {"PYTHONPATH": str(tmp_path / "installed"), "MITATE_HOME": str(tmp_path / "home")}
    assert str(tmp_path) in ran("-c", "import mitate; print(mitate.__file__)", cwd=tmp_path / "elsewhere", **place)
    ran("-m", "mitate", "collapse", "toy", "--generations", "2", "--seeds", "2", "--out", "loop", cwd=tmp_path / "elsewhere", **place)
    ran("-m", "mitate", "report", "loop", cwd=tmp_path / "elsewhere", **place)
    ran("-m", "mitate", "fit", "gaussian", "digits:20", "--as", "plain", cwd=tmp_path / "elsewhere", **place)
    assert (tmp_path / "elsewhere" / "loop" / "report.html").is_file()
