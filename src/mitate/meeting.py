"""Where a run and the nodes of its cluster meet: what they share, and where they leave each other a word to see that they do.

They share the folder of the store, under one path, or what is at the URL of MITATE_SHARED; then each node has a store of its own beside it.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mitate.errors import MitateError
from mitate.files import disk_errors
from mitate.remote import VARIABLE, Remote
from mitate.store import Store


class Meeting(Protocol):
    """Where a run and its nodes leave each other a word, by names of their own. `facts` is what a node has to know to come here."""

    facts: dict[str, str]
    place: str  # as errors name it
    fix: str

    def leave(self, name: str, text: str) -> None: ...

    def left(self, name: str) -> str | None:
        """What was left under a name; None where nothing is."""
        ...

    def end(self) -> None:
        """Takes away what was left."""
        ...


def invitation(store: Store) -> dict[str, str]:
    """What a node has to know to come to a new meeting of those that share this store."""
    where = {"store": os.path.abspath(store.root)} if store.shared is None else {"shared": store.shared.url}
    return {**where, "number": secrets.token_hex(8)}


def meeting_of(told: Mapping[str, str]) -> Meeting:
    """The meeting that an invitation tells of."""
    return AtUrl(told["shared"], told["number"]) if "shared" in told else InFolder(told["store"], told["number"])


class InFolder:
    """In the folder of the store, which all see under one path."""

    fix = "set MITATE_HOME to a folder that every node sees under the same path and may write to"

    def __init__(self, store: str, number: str) -> None:
        self.facts, self.place = {"store": store, "number": number}, f"the store {store}"
        self._folder = Path(store) / "building" / f"cluster-{number}"

    def leave(self, name: str, text: str) -> None:
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_text(text)

    def left(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text()
        except OSError:
            return None

    def end(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class AtUrl:
    """At the URL of the shared store, which all can reach."""

    fix = f"give every node a way to {VARIABLE}, and its key"

    def __init__(self, url: str, number: str) -> None:
        self.facts, self.place = {"shared": url, "number": number}, f"what is shared at {url}"
        self._shared, self._names = Remote(url), set[str]()

    def leave(self, name: str, text: str) -> None:
        self._names.add(name)
        self._shared.leave(f"{self.facts['number']}-{name}", text)

    def left(self, name: str) -> str | None:
        self._names.add(name)
        return self._shared.left(f"{self.facts['number']}-{name}")

    def end(self) -> None:
        for name in self._names:
            try:
                self._shared.forget(f"{self.facts['number']}-{name}")
            except MitateError:
                return  # some bytes stay there; what the run has to say is more urgent


@functools.cache
def store_of(facts: str) -> Store:
    """The store that a job works in on this node: the folder that all see, or this node's own, beside what is shared."""
    told = json.loads(facts)
    if "shared" not in told:
        return Store(told["store"])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Store(os.environ.get("MITATE_HOME") or cache / "mitate", shared=Remote(told["shared"]))
