"""What a worker answers when it has done a job, wherever it runs, and the error that an answer tells."""

from __future__ import annotations

import time
from typing import Any

from mitate.errors import DataError, JobError, MissingExtra, MitateError, SettingError, StoreError
from mitate.store import Asked, Entry, Store

ERRORS = {kind.__name__: kind for kind in (DataError, SettingError, MissingExtra, StoreError, JobError)}


def answer_to(store: Store, asked: Asked) -> dict[str, Any]:
    """What a worker answers when the job is done: its seconds, or its error whole."""
    started = time.perf_counter()
    try:
        worked(store, asked)
    except MitateError as wrong:
        return told_error(wrong)
    return {"seconds": time.perf_counter() - started}


def answer_from(store: Store, asked: Asked) -> dict[str, Any]:
    """The answer of a machine that has a store of its own: the result is in the shared store when it is told, and the answer holds its record."""
    answer = answer_to(store, asked)
    if "error" in answer:
        return answer
    try:
        store.share([asked.digest])
        return {**answer, "result": store.there(asked.digest).result}
    except MitateError as wrong:
        return told_error(wrong)


def worked(store: Store, asked: Asked) -> Entry:
    """The result of a job. What only the shared store has comes here first, so that the job's seconds are those of its work."""
    from mitate.verbs import perform

    if store.shared is not None and store.get(asked) is None:
        store.bring(asked.inputs.values())
    return perform(store, asked)


def told_error(wrong: MitateError) -> dict[str, Any]:
    """An error as an answer."""
    return {"error": type(wrong).__name__, "message": wrong.message, "fix": wrong.fix}


def check_answer(name: str, answer: dict[str, Any]) -> None:
    """Raise the error that a worker's answer tells, as what it was there. name: of the job."""
    if "error" in answer:
        raise ERRORS.get(answer["error"], JobError)(f"{name}: {answer['message']}", fix=answer["fix"])
