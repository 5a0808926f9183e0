"""A plan as a TOML file: the keys are the fields of the study's record, and a wrong one is an error that names the nearest."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mitate.errors import SettingError

MOST_BYTES = 1_000_000


def read_plan(path: Path) -> dict[str, Any]:
    """The table in a TOML file, at the top or under `[pilot]`."""
    try:
        data = path.read_bytes()
    except OSError as wrong:
        raise SettingError(f"The plan {path} cannot be read ({wrong.strerror}).", fix="check the path") from wrong
    if len(data) > MOST_BYTES:
        raise SettingError(f"The plan {path} has {len(data)} bytes.", fix="give a TOML file of settings")
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise SettingError(f"The plan {path} is not TOML: {wrong}.", fix="mend that line") from wrong
    inner = values.pop("pilot", None)
    if inner is not None and (values or not isinstance(inner, dict)):
        raise SettingError(f"The plan {path} has keys outside [pilot].", fix="put them all under [pilot], or drop the header")
    return inner if isinstance(inner, dict) else values
