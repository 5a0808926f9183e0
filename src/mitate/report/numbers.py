"""Plain values of JSON files as texts: three significant digits, signs, counts; what is no number is None, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import metadata
from typing import Any


def as_mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def as_number(value: Any) -> float | None:
    """A finite number, or None: NaN and infinity are no measurements."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or isinstance(value, int) and value.bit_length() > 1000:
        return None
    return float(value) if math.isfinite(value) else None


def say_digits(value: float) -> str:
    """Three significant digits, as people write them."""
    if value == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= 1e6 or abs(rounded) < 1e-4:
        return f"{value:.2e}".replace("-", "−")
    return f"{rounded:,.{max(0, places - (abs(rounded) >= 10 ** (3 - places)))}f}".replace("-", "−")


def say_signed(value: float, *, places: int | None = None) -> str:
    """With its sign, at most `places` decimals unless nothing would be left."""
    text = say_digits(value)
    if places is not None and abs(value) < 1:
        text = f"{value:.{places}f}".replace("-", "−")
        if value != 0 and not text.strip("−0."):
            text = f"{value:.1g}".replace("-", "−")
    return text if text[0] == "−" or value == 0 else f"+{text}"


def say_plain(value: float) -> str:
    """A number somebody chose, without idle zeros: 1, 0.5, 2.13."""
    text = say_digits(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def say_share(value: float) -> str:
    return f"{say_plain(value * 100)} %"


def say_count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if float(value).is_integer() else say_digits(value)


def say_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def say_money(amount: float, currency: str) -> str:
    """`0.17 EUR`, `1,240 EUR`: cents below ten."""
    text = "< 0.01" if 0 < abs(amount) < 0.005 else f"{amount:,.2f}" if abs(amount) < 9.995 else f"{amount:,.0f}"
    return f"{text} {currency}".rstrip().replace("-", "−")


def say_flat(value: Any) -> str:
    """A setting in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {say_flat(v)}" for k, v in value.items() if v is not None and v != "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(say_flat(v) for v in value)
    number = as_number(value)
    return say_plain(number) if number is not None and not float(number).is_integer() else f"{number:,.0f}" if number is not None else str(value)


def say_label(arm: Mapping[str, Any]) -> str:
    return str(arm.get("label") or arm.get("name") or "")


def say_version() -> str:
    try:
        return metadata.version("mitate")
    except metadata.PackageNotFoundError:
        return ""
