"""Settings are frozen records: one record is the TOML plan, the command line option, the cache key and the report row.

A record is a frozen dataclass of plain values. `canonical` writes it as canonical JSON, `digest` names it, `record` reads it
back from a mapping and refuses unknown keys with the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mitate.errors import SettingError

T = TypeVar("T")
QUIET = {"quiet": True}  # metadata of a field that came later: at its default it is left out, so that older digests hold
LISTED, NEAREST = 12, 5  # options that an error lists in full; of more, the few it names


def plain(value: Any) -> Any:
    """The JSON form of a record: dataclasses become mappings, tuples lists. NaN, sets and objects are refused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: (f, getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {name: plain(v) for name, (f, v) in fields.items() if not (f.metadata.get("quiet") and v == f.default)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no canonical form")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. Equal records give equal bytes."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(tag: str, value: Any) -> str:
    """SHA-256 of a tag and the canonical JSON of `value`, 64 hex characters. The tag keeps kinds of names apart."""
    return hashlib.sha256(tag.encode() + b"\0" + canonical(value)).hexdigest()


def parsed(text: str) -> Any:
    """What JSON text holds. ValueError for whatever is none, also for brackets nested too deep and for halves of characters, which no file can hold."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
    return value


def record(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """The record `kind` with `values` checked against its field types; `where` is named in the error."""
    import msgspec

    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise SettingError(f"{where}: {str(values)[:60]!r} is no table of settings.", fix="write name = value")
    for key in values:
        if key not in known:
            raise SettingError(f"{where}: there is no setting {key!r}.", fix=suggest(key, known))
    try:
        return msgspec.convert(dict(values), kind, strict=True)
    except (msgspec.ValidationError, ValueError, OverflowError) as wrong:
        raise SettingError(f"{where}: {wrong}.", fix="give a value of the type and range it names") from None


def from_text(kind: type[T], options: Iterable[str], *, where: str) -> T:
    """The record `kind` from `name=value` words as typed after `-o`; each value is read as its field's type."""
    fields = {f.name: str(f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for option in options:
        name, eq, text = option.partition("=")
        if not eq:
            raise SettingError(f"{where}: {option!r} has no value.", fix="write it as name=value")
        if name not in fields:
            raise SettingError(f"{where}: there is no setting {name!r}.", fix=suggest(name, fields))
        values[name] = _read(text, fields[name])
    return record(kind, values, where=where)


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean "steps"?`, or the list of what there is: of many, the few that are spelt most like it."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(options) > LISTED:
        return f"the nearest of {len(options)} are " + ", ".join(difflib.get_close_matches(word, options, n=NEAREST, cutoff=0.0))
    return "choose from " + ", ".join(options)


def seconds(text: str) -> float:
    """`90`, `90s`, `10m`, `2h` or `1h30m` as seconds, above 0."""
    whole = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    value = sum(float(part or 0) * unit for part, unit in zip(whole.groups(), (3600, 60, 1), strict=True)) if whole else 0.0
    if not value > 0:
        raise SettingError(f"{text!r} is not a length of time.", fix="write it like 90s, 10m or 1h30m")
    return value


def _read(text: str, kind: str) -> Any:
    if kind.startswith("str"):
        return text
    if kind.startswith("tuple"):
        return [_number(part) for part in text.split(",") if part]
    return _number(text)


def _number(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
