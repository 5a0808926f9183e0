"""Sources of prompts by name.

open_source("grammar")                                   offline (grammar.py)
open_source("openai:gpt-4o-mini@https://api.openai.com/v1")     a chat endpoint of that protocol (chat.py)
open_source("transformers:my-model/")                    a text model in a folder (text_model.py)
"""

from __future__ import annotations

from collections.abc import Iterable

from mitate.errors import SettingError
from mitate.prompts.asking import Source
from mitate.settings import from_text, suggest

KINDS = {"grammar": "grammar", "openai": "openai:MODEL@URL", "transformers": "transformers:DIR"}


def open_source(named: str, options: Iterable[str] = ()) -> Source:
    """The source of a name, with `name=value` options of its settings."""
    kind, _, rest = named.partition(":")
    if kind not in KINDS or (kind == "grammar") != (not rest):
        raise SettingError(f"There is no source {named!r}.", fix="give " + ", ".join(KINDS.values()) if kind in KINDS else suggest(kind, KINDS))
    if kind == "grammar":
        from mitate.prompts.grammar import Grammar

        return from_text(Grammar, options, where="grammar")
    if kind == "openai":
        from mitate.prompts.chat import Chat, ChatHow, parsed

        return Chat(*parsed(rest), from_text(ChatHow, options, where="openai"))
    from mitate.prompts.text_model import TextHow, open_text_model

    return open_text_model(rest, from_text(TextHow, options, where="transformers"))
