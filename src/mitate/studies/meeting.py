"""What to say in the meeting: two plain sentences from a decision. The answer and what it is worth; what it cost and what comes next.

English is stored in decision.json; the report tells the same from the code and the values, in its own language.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mitate.progress import clock

POINTS = ("accuracy", "balanced", "macro-f1", "recall")  # measures whose gains are told in points
NAMES = {"balanced": "balanced accuracy", "macro-f1": "macro-F1"}
EARLY = ("stop_privacy", "stop_useless", "stop_futile", "no_generator")  # codes of a pilot that ended before the test split was opened
MEASURED = ("go", "stop_small", "more_evidence")  # codes of one that measured the candidate's gain on it


def meeting(decision: Mapping[str, Any]) -> dict[str, Any]:
    """`code`, `values` and `text` of what to say. Values that are not known are null."""
    values = _values(decision)
    code = str(decision.get("reason_code") or "")
    return {"code": code, "values": values, "text": f"{_answer(decision, code, values)} {_cost_and_next(decision, values)}"}


def _values(decision: Mapping[str, Any]) -> dict[str, Any]:
    cost, step = decision.get("cost") or {}, decision.get("next_step") or {}
    money, real = cost.get("money") or {}, decision.get("real_image_equivalent")
    real = real if isinstance(real, Mapping) else {}
    early = str(decision.get("reason_code")) in EARLY and cost.get("machine_seconds") is not None and cost.get("saved_seconds")
    return {
        **(decision.get("reason_values") or {}),
        "train": ((decision.get("meeting") or {}).get("values") or {}).get("train"),
        "seconds": cost.get("machine_seconds"),
        "planned_seconds": round(cost["machine_seconds"] + cost["saved_seconds"], 1) if early else None,
        "currency": money.get("currency", ""),
        "money": money.get("machine"),
        "real": {k: real.get(k) for k in ("status", "value", "low", "high")} if real else None,
        "real_money": money.get("equivalent"),
        "next": step.get("code"),
        "next_values": step.get("values") or {},
        "next_seconds": step.get("wall_seconds", step.get("seconds")),
        "next_money": step.get("money"),
        "next_chance": step.get("chance"),
    }


def _answer(decision: Mapping[str, Any], code: str, v: Mapping[str, Any]) -> str:
    """The first sentence; the decision's own reason for a code that is not known, or whose values are."""
    kind = str(decision.get("measure") or "accuracy")
    points = kind.split(":")[0] in POINTS
    if code in MEASURED and _known(v, "gain", "low", "high", "worthwhile"):
        return _measured(decision, code, v, kind=kind, points=points)
    if code == "stop_futile" and _known(v, "high", "worthwhile"):
        most, least = _change(v["high"], points), _change(v["worthwhile"], points).removeprefix("+")
        return f"We stopped early: no way of using the synthetic images can still gain {least} (at best {most}), and the test images stay unused."
    unmeasured = {
        "stop_privacy": "We stopped before measuring a gain: the generators gave back our own training images.",
        "stop_useless": "We stopped before measuring a gain: a model that learns from the synthetic images alone knows real ones no better than by guessing.",
        "no_generator": "We stopped before measuring a gain: no generator passed its checks.",
    }
    return unmeasured.get(code, str(decision.get("reason") or ""))


def _known(v: Mapping[str, Any], *names: str) -> bool:
    return all(v.get(name) is not None for name in names)


def _measured(decision: Mapping[str, Any], code: str, v: Mapping[str, Any], *, kind: str, points: bool) -> str:
    name = f"recall of {kind.partition(':')[2]}" if kind.startswith("recall:") else NAMES.get(kind, kind) if points else "cost saved on mistakes"
    against = f"{_count(v['train'])} real images" if v.get("train") else "real images"
    against += " with classical augmentation"
    gain, low, high = (_change(v[k], points) for k in ("gain", "low", "high"))
    span = f"({float(decision.get('confidence') or 0.95) * 100:.4g} % interval {low.partition(' ')[0]} to {high})"  # the unit is told once
    if code == "go":
        return f"Synthetic images improve our {name} by {gain} {span} over {against}{_worth(v)}."
    least = _change(v["worthwhile"], points).removeprefix("+")
    opening = "Synthetic images do not help enough" if code == "stop_small" else "We cannot tell yet whether synthetic images help"
    return f"{opening}: over {against}, {name} changes by {gain} {span}, and we asked for {least}{_worth(v)}."


def _worth(v: Mapping[str, Any]) -> str:
    """What the images are worth in real ones, in brackets; nothing where it is not known."""
    real, money = v.get("real") or {}, v.get("real_money") or {}
    status, value, low, high = (real.get(k) for k in ("status", "value", "low", "high"))
    if status == "none":
        return " (worth no extra real images)"
    if status == "negative":
        lost = f"{_count(-high)} or more" if high is not None and high <= -1 else "some"
        return f" (as if {lost} real images had been taken away)"
    least = low if low is not None else value
    if least is not None and (status == "more" or (status == "worth" and value is None)):  # no value: it lies beyond what was looked at
        price = (money.get("low") if low is not None else money.get("value")) if money else None
        return f" (worth at least {_count(least)} more real images{_labels(price, v)})"
    if status != "worth" or value is None:
        return ""
    span = f", {_count(low)} to {_count(high)}" if low is not None and high is not None else f", {_count(low)} or more" if low is not None else ""
    return f" (worth about {_count(value)} more real images{span}{_labels(money.get('value'), v)})"


def _labels(amount: float | None, v: Mapping[str, Any]) -> str:
    return "" if amount is None else f", {money_text(amount, v['currency'])} of labels"


def _cost_and_next(decision: Mapping[str, Any], v: Mapping[str, Any]) -> str:
    step, more = v["next_values"], _takes(v)
    coming = {
        "scale_up": f"make {_count(step.get('images'))} synthetic images of each class in the same way and train with them{more}",
        "try_other": "pay for no more of these images; collect real ones or try another generator",
        "more_replicates": f"{'run ' + _count(step.get('add')) + ' more replicates' if step.get('add') else 'run more replicates'}{more}",
        "more_test_images": f"collect real test images, {_count(step.get('test_images'))} in all{more}",
        "looks_used_up": "collect new test images before asking again",
        "fix_privacy": "share none of these images, and give the generators more real ones or fewer steps",
        "futile": "decide with what is known, for more replicates would hardly tell more",
    }.get(str(v["next"]), "")
    if v.get("seconds") is None:
        return f"Next: {coming}." if coming else ""
    price = "" if v["money"] is None else f" ({money_text(v['money'], v['currency'])})"
    instead = f" instead of about {clock(v['planned_seconds'])}" if v.get("planned_seconds") is not None else ""
    return f"Finding out took {clock(v['seconds'])} of machine time{price}{instead}" + (f"; next: {coming}." if coming else ".")


def _takes(v: Mapping[str, Any]) -> str:
    parts = [f"about {clock(v['next_seconds'])}"] if v["next_seconds"] is not None else []
    parts += [money_text(v["next_money"], v["currency"])] if v["next_money"] is not None else []
    parts += [f"a {v['next_chance'] * 100:.0f} % chance of an answer"] if v["next_chance"] is not None else []
    return f" ({', '.join(parts)})" if parts else ""


def money_text(amount: float, currency: str) -> str:
    """`0.17 EUR`, `1,240 EUR`: cents below ten."""
    size = abs(amount)
    text = "under 0.01" if 0 < size < 0.005 else f"{amount:,.2f}" if size < 9.995 else f"{amount:,.0f}"
    return f"{text} {currency}".rstrip()


def _change(value: float, points: bool) -> str:
    text = f"{value * (100 if points else 1):+.3g}"
    unit = "point" if points else "cost unit"
    return f"{text} {unit}" if text.lstrip("+-") == "1" else f"{text} {unit}s"


def _count(value: Any) -> str:
    return f"{float(value):,.0f}" if isinstance(value, (int, float)) else "?"
