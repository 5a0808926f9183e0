"""`kill -9` at random moments of a small pilot, then the same command: benchmarks/kill_and_resume.py with a few kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills process groups")
def test_a_pilot_that_is_killed_again_and_again_ends_with_the_bytes_of_one_left_alone(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "kill_and_resume.py"
    words = [sys.executable, str(script), "--kills", "5", "--generator-steps", "40", "--keep", str(tmp_path / "place")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-2000:]
    line = json.loads(done.stdout)
    assert line["kills"] == 5 and line["finished"] >= 1 and line["identical"] and line["differing"] == [] and done.returncode == 0
    assert line["files_compared"] > 200
