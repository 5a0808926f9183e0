"""A chat endpoint of the OpenAI protocol as a source: POST URL/chat/completions, answers of numbered lines.

Chat("gpt-4o-mini", "https://api.openai.com/v1")         or any server that speaks it: vLLM, llama.cpp, Ollama, LM Studio, a proxy
openai:gpt-4o-mini@https://api.openai.com/v1             as typed

The key is read from MITATE_API_KEY or else OPENAI_API_KEY at each request, sent by https or to this machine only, and kept nowhere. No redirect is followed:
it would carry key and prompts to a host that nobody named. Nothing of an answer is trusted: its size, encoding, JSON and lines are all checked.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import json
import math
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mitate.errors import JobError, MitateError, SettingError
from mitate.prompts.asking import ALIKE, UNREADABLE, Answer, Ask, instructions, read_lines
from mitate.prompts.skills import SkillSpec

KEYS = ("MITATE_API_KEY", "OPENAI_API_KEY")
MOST_BYTES = 4_000_000  # of an answer; 20 prompts have 5,000
LONGEST_WAIT = 60.0  # seconds before a further try, whatever the server asks for
LATER = frozenset({408, 409, 425, 429})  # and every 5xx: worth another try
TOLD = 160  # characters of a server's own words in an error


@dataclass(frozen=True)
class ChatHow:
    """temperature: of sampling; max_tokens: of an answer (0: the server's own); seconds: to wait for an answer, in all; tries: of a request."""

    temperature: float = 1.0
    max_tokens: int = 0
    seconds: float = 120.0
    tries: int = 6

    def __post_init__(self) -> None:
        if not (0 <= self.temperature <= 2 and self.max_tokens >= 0 and 0 < self.seconds < math.inf and self.tries >= 1):
            raise SettingError(f"{self} cannot be.", fix="give temperature 0 to 2, max_tokens 0 or more, seconds above 0, tries 1 or more")


@dataclass
class Chat:
    """A model behind an endpoint. sleep, now: the clock, for tests."""

    model: str
    url: str
    how: ChatHow = ChatHow()
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    now: Callable[[], float] = field(default=time.time, repr=False)
    answered: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.model, self.url = parsed(f"{self.model}@{self.url}")

    @property
    def name(self) -> str:
        return f"openai:{self.model}@{self.url}"

    @property
    def share_alike(self) -> float:
        return ALIKE

    @property
    def asked(self) -> Mapping[str, Any]:
        return {"kind": "openai", "model": self.model, "url": self.url, "temperature": self.how.temperature, "max_tokens": self.how.max_tokens}

    def check(self, skill: SkillSpec, n: int) -> None:
        _key()

    def ask(self, ask: Ask) -> Answer:
        payload: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": instructions(ask)}], "temperature": self.how.temperature}
        if self.how.max_tokens:
            payload["max_tokens"] = self.how.max_tokens
        body, retries = self._posted(json.dumps(payload).encode())
        used = {"requests": 1 + retries}
        content, tokens = _content(body)
        if content is None:
            return Answer((), {UNREADABLE: 1}, used)
        return replace(read_lines(content, number=ask.number), used=used | tokens)

    def _posted(self, data: bytes) -> tuple[bytes, int]:
        """The body of an answer of status 200, and how many tries failed before it."""
        for tried in range(self.how.tries):
            try:
                found = self._once(data)
                self.answered = True
                return found, tried
            except _Again as again:
                if tried + 1 == self.how.tries or (again.dead and not self.answered):
                    raise self._given_up(again, tried + 1) from again.__cause__
                self.sleep(min(LONGEST_WAIT, 2.0**tried if again.wait is None else again.wait))
        raise AssertionError("tries is 1 or more")

    def _once(self, data: bytes) -> bytes:
        key = _key() if self._may_have_key else ""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "mitate"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", data=data, headers=headers, method="POST")
        started = self.now()
        try:
            with self._opener.open(request, timeout=self.how.seconds) as answer:
                return self._read(answer, started)
        except urllib.error.HTTPError as wrong:
            with wrong:
                raise self._refused(wrong, key, started) from None
        except urllib.error.URLError as wrong:
            if isinstance(wrong.reason, ssl.SSLCertVerificationError):
                raise SettingError(f"{self._host} has no certificate that this machine trusts.", fix="check the address") from wrong
            dead = isinstance(wrong.reason, (ConnectionRefusedError, socket.gaierror))
            raise _Again(_line(str(wrong.reason), key), dead=dead) from wrong
        except (OSError, http.client.HTTPException) as wrong:
            raise _Again(_line(str(wrong) or type(wrong).__name__, key)) from wrong

    def _read(self, answer: Any, started: float) -> bytes:
        """All of the body, "" where there is too much of it; what drips in too slowly is a broken connection."""
        parts, size = [], 0
        while part := answer.read1(65536):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                return b""
            if self.now() - started > self.how.seconds:
                raise TimeoutError("the answer did not end in time")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return b"".join(parts)

    def _refused(self, wrong: urllib.error.HTTPError, key: str, started: float) -> Exception:
        """What a status other than 200 means."""
        code = wrong.code
        try:
            said = self._read(wrong, started)
        except (OSError, http.client.HTTPException):
            said = b""
        told, kind = _said(said, key)
        if kind == "insufficient_quota":
            return JobError(f"{self._host} says that the account has no money left.", fix="top it up, and give the same command again")
        if code in LATER or code >= 500:
            return _Again(f"status {code}{told}", wait=_wait(wrong.headers.get("Retry-After"), self.now()))
        if code in (401, 403):
            fix = f"set {KEYS[0]} (or {KEYS[1]}) to a key of that service"
            why = "the key was refused" if key else "no key is set"
            if _key() and not key:
                why, fix = "a key is sent by https alone, and this address is not", "give its https address"
            return SettingError(f"{self._host} refuses access (status {code}: {why}).", fix=fix)
        if 300 <= code < 400:
            told = f"{self._host} sends requests on to {_line(wrong.headers.get('Location') or 'another address', key)}, and none is followed."
            return SettingError(told, fix="give the address that it sends to, if you trust it")
        if code == 404:
            fix = "give the address that ends before /chat/completions, often in /v1, and a model that the service lists"
            return SettingError(f"{self._host} has no {self.model!r} at {urllib.parse.urlsplit(self.url).path or '/'} (status 404{told}).", fix=fix)
        return SettingError(f"{self._host} refuses the request (status {code}{told}).", fix="check model and address, and -o settings such as temperature")

    def _given_up(self, again: _Again, tries: int) -> MitateError:
        if again.dead and not self.answered:
            return JobError(f"Nobody answers at {self._host} ({again}).", fix="check the address, and that the server runs")
        return JobError(f"{self._host} did not answer in {tries} tries ({again}).", fix="give the same command again later; what was written is kept")

    @property
    def _host(self) -> str:
        return urllib.parse.urlsplit(self.url).netloc

    @property
    def _local(self) -> bool:
        host = urllib.parse.urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def _may_have_key(self) -> bool:
        return self.url.startswith("https://") or self._local

    @property
    def _opener(self) -> urllib.request.OpenerDirector:
        """Follows no redirect: there is nobody in it who would. A server on this machine is spoken to directly, whatever proxy is set."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler({} if self._local else None), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler(),
        ):  # fmt: skip
            opener.add_handler(handler)
        return opener


def parsed(text: str) -> tuple[str, str]:
    """(model, address) of MODEL@URL; the address without the / at its end, and with nothing secret in it."""
    found = re.fullmatch(r"(\S+?)@(https?://\S+)", text, re.IGNORECASE)
    if found is None:
        raise SettingError(f"{text.split('@')[0]!r} is no MODEL@URL.", fix="write it like openai:gpt-4o-mini@https://api.openai.com/v1")
    model, url = found[1], found[2].rstrip("/").removesuffix("/chat/completions")
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as wrong:
        raise SettingError(f"The address for {model} cannot be read ({wrong}).", fix="write it like https://api.openai.com/v1") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingError(f"The address for {model} holds a name, a password or a ?query, and it would be written down.", fix=f"give the key as {KEYS[0]}")
    if not host or not url.isascii() or not url.isprintable():
        raise SettingError(f"The address for {model} names no host.", fix="write it like https://api.openai.com/v1")
    return model, parts.scheme.lower() + url[len(parts.scheme) :]


class _Again(Exception):
    """Worth another try. wait: seconds that the server asks for; dead: nobody listens there."""

    def __init__(self, told: str, *, wait: float | None = None, dead: bool = False) -> None:
        super().__init__(told)
        self.wait, self.dead = wait, dead


def _key() -> str:
    """The key, or "". SettingError, without it, where it could be none."""
    key = next((os.environ[name] for name in KEYS if name in os.environ), "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingError(f"{KEYS[0]} (or {KEYS[1]}) holds no key: it has spaces or other signs in it.", fix="set it to the key alone")
    return key


def _wait(asked: str | None, now: float) -> float | None:
    """Seconds of a Retry-After: a number, or a date."""
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(asked).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _content(body: bytes) -> tuple[str | None, dict[str, int]]:
    """The text of the first choice, None where there is none, and the tokens it cost."""
    found = _json(body)
    if not isinstance(found, dict):
        return None, {}
    usage = found.get("usage")
    tokens = {}
    for name in ("prompt_tokens", "completion_tokens"):
        count = usage.get(name) if isinstance(usage, dict) else None
        if type(count) is int and 0 <= count < 10**9:
            tokens[name] = count
    choices = found.get("choices")
    message = choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # parts, as some servers have it
        content = "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return (content if isinstance(content, str) else None), tokens


def _said(body: bytes, key: str) -> tuple[str, str]:
    """(": the server's own words" or "", the code of the error) of an error's body."""
    found = _json(body)
    error = found.get("error") if isinstance(found, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else ""
    return (f": {_line(words, key)}" if isinstance(words, str) and words.strip() else ""), code if isinstance(code, str) else ""


def _line(text: str, key: str) -> str:
    """A server's words as a short line without the key and without signs that a terminal would obey."""
    text = text.replace(key, "***") if key else text
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= TOLD else text[:TOLD] + "..."
