"""What a worker answers when it has done a job, wherever it runs, and the error that an answer tells."""

from __future__ import annotations

import time
from typing import Any

from mitate.errors import DataError, JobError, MissingExtra, MitateError, SettingError, StoreError
from mitate.store import Asked, Store

ERRORS = {kind.__name__: kind for kind in (DataError, SettingError, MissingExtra, StoreError, JobError)}


def answer_to(store: Store, asked: Asked) -> dict[str, Any]:
    """What a worker answers when the job is done: its seconds, or its error whole."""
    from mitate.verbs import perform

    started = time.perf_counter()
    try:
        perform(store, asked)
    except MitateError as wrong:
        return told_error(wrong)
    return {"seconds": time.perf_counter() - started}


def told_error(wrong: MitateError) -> dict[str, Any]:
    """An error as an answer."""
    return {"error": type(wrong).__name__, "message": wrong.message, "fix": wrong.fix}


def check_answer(name: str, answer: dict[str, Any]) -> None:
    """Raise the error that a worker's answer tells, as what it was there. name: of the job."""
    if "error" in answer:
        raise ERRORS.get(answer["error"], JobError)(f"{name}: {answer['message']}", fix=answer["fix"])
