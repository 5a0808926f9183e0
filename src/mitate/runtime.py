"""What a run stands on: seeds, threads, the machine, and processes that do not outlive their parent.

All chance comes from named seeds: `seed_of("fit", 3, "batch", 17)` is the same number everywhere, so no random state has to be
saved to continue a job, and no draw depends on how many draws came before it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mitate.errors import DataError, MitateError
from mitate.settings import parsed

WEIGHTS = Path(__file__).parent / "weights"  # what we trained and ship, each with its model card
MITATE_SMALL = WEIGHTS / "mitate-small.safetensors"
MOST_LAYERS = 1000  # that the settings of a model may ask for
THREADS = 1  # threads of one job; more speed comes from more jobs at once, so bytes never depend on the number of cores


def seed_of(*parts: int | str) -> int:
    """A seed from 0 to 2**63 - 1, fixed by `parts` and by nothing else."""
    text = "\0".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def torch_threads(n: int = THREADS) -> Iterator[None]:
    """Torch and NumPy's linear algebra with `n` threads and deterministic kernels inside, as they were before outside."""
    import torch
    from threadpoolctl import threadpool_limits

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(n)
    torch.use_deterministic_algorithms(True)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries that talk on standard error while they load (diffusers, transformers, their bars and warnings) are silent inside; errors are raised as ever."""
    import io
    import logging
    import warnings
    from contextlib import redirect_stderr

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def with_all_weights(loaded: Any) -> Any:
    """The model of transformers' `from_pretrained(..., output_loading_info=True)`. ValueError where weights are missing, which it draws at random."""
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"it lacks {len(missing)} weights, like {missing[0]}")
    return model


def check_sizes(folder: Path) -> None:
    """DataError where the settings of a model, or of a part of it, ask for more layers than any has: libraries would build them for ever."""
    for file in sorted([*folder.glob("config.json"), *folder.glob("*/config.json")]):
        try:
            found = parsed(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # which the library that reads it will say
            continue
        if odd := _beyond(found):
            raise DataError(f"{file} asks for {odd}.", fix="copy the folder whole from where it was made")


def _beyond(value: Any, *, of: str = "") -> str:
    """The first number above MOST_LAYERS that stands under a key of layers or depths, with that key; "" where there is none."""
    if isinstance(value, dict):
        parts = [(inner, key if "layer" in key or "depth" in key else "") for key, inner in value.items()]
    elif isinstance(value, list):
        parts = [(inner, of) for inner in value]
    else:
        many = of and isinstance(value, int | float) and abs(value) > MOST_LAYERS
        return f"{str(value)[:30]} as {of[:60]}" if many else ""
    return next((found for inner, key in parts if (found := _beyond(inner, of=key))), "")


@contextmanager
def used(folder: Path | str) -> Iterator[None]:
    """Inside, a model that could be opened and does not work is one line: settings in its folder that do not go together show only when it is asked."""
    try:
        yield
    except (MitateError, MemoryError, OSError):
        raise
    except Exception as wrong:  # whatever libraries raise then
        told = (str(wrong).strip().splitlines() or [""])[0][:300]
        raise DataError(f"{folder} cannot be used ({type(wrong).__name__}: {told}).", fix="give a folder whose settings go with its weights") from wrong


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Where a result was made: system, processor, cores, Python and package versions. Versions are read, not imported."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in ("mitate", "torch", "numpy", "scipy", "scikit-learn", "pillow", "safetensors"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "threads_a_job": THREADS,
        "python": platform.python_version(),
        "packages": packages,
    }


def die_with_parent() -> None:
    """On Linux, end this process when the one that started it ends, however that ends. Elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(1)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def memory() -> int:
    """Bytes of memory that the machine has, as far as the system tells; else 16 GB."""
    try:
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 16_000_000_000


def free_memory() -> int:
    """Bytes of memory that are free, as far as the system tells; else 4 GB."""
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4_000_000_000
