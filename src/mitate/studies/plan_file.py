"""A plan as a TOML file: the keys are the fields of the study's record, and a wrong one is an error that names the nearest."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mitate.errors import SettingError

MOST_BYTES = 1_000_000


def read_plan(path: Path, *, header: str = "pilot") -> dict[str, Any]:
    """The table in a TOML file, at the top or under `[pilot]` (or another header)."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as wrong:
        raise SettingError(f"The plan {path} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
    if len(data) > MOST_BYTES:
        raise SettingError(f"The plan {path} has more than {MOST_BYTES} bytes.", fix="give a TOML file of settings")
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as wrong:
        raise SettingError(f"The plan {path} is not TOML: {wrong}.", fix="mend that line") from wrong
    inner = values.pop(header, None) if isinstance(values.get(header), dict) else None
    if inner is not None and (values or not isinstance(inner, dict)):
        raise SettingError(f"The plan {path} has keys outside [{header}].", fix=f"put them all under [{header}], or drop the header")
    return inner if isinstance(inner, dict) else values
