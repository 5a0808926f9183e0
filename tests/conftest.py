"""Each test gets its own store, and fails when it leaves a global seed, dtype or thread count changed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts the tests in the background has it so, and children would inherit it
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    home = tmp_path / "store"
    monkeypatch.setenv("MITATE_HOME", str(home))
    monkeypatch.delenv("MITATE_SHARED", raising=False)
    return home


@pytest.fixture(autouse=True)
def globals_unchanged() -> Iterator[None]:
    """Global state of torch and numpy is the same after a test as before."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(), torch.are_deterministic_algorithms_enabled()
    yield
    after = torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(), torch.are_deterministic_algorithms_enabled()
    assert after == before, "a global of torch was left changed (dtype, threads, seed, determinism)"


@pytest.fixture
def real_data() -> Path:
    """The folder of real images, or skip."""
    folder = os.environ.get("MITATE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MITATE_DATA names no folder of real images")
    return Path(folder)
