"""The local page of a review: a small HTTP server for this machine and for whoever has the token.

    with Served(review) as served: print(served.url)          http://127.0.0.1:PORT/TOKEN/

Images go by number, never by path. Every request must carry the token and name this server as its host; a decision must also come from
the page itself (Origin, Sec-Fetch-Site) and be JSON, so that no other site open in the same browser can read or write. A decision is answered
when the disk has it.
"""

from __future__ import annotations

import hmac
import io
import json
import secrets
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from mitate.curation.agreement import Agreement, Audit
from mitate.curation.review import Change, Encoded, Review
from mitate.errors import MitateError, SettingError, StoreError
from mitate.metrics.intervals import Interval

ADDRESS = "127.0.0.1"
LANGUAGES = ("en", "ja")
FILES = {
    "review.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml",
    **dict.fromkeys(("review.js", "sheet.js", "saving.js", "panels.js"), "text/javascript; charset=utf-8"),
}  # fmt: skip
MOST_BYTES = 32_768  # of a request's body
MOST_CLIENTS = 48  # connections at once; a browser opens six
PATIENCE = 20.0  # seconds for a whole request, and for a whole answer
ITEMS = 100  # images of one answer
REMEMBERED = 4096  # answered decisions, so that one sent twice is written once
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Served:
    """A review on its page, from `with` to its end. port 0: any free one."""

    def __init__(self, review: Review, *, port: int = 0, lang: str = "en", patience: float = PATIENCE) -> None:
        if lang not in LANGUAGES:
            raise SettingError(f"There is no page in the language {lang!r}.", fix=f"choose from {', '.join(LANGUAGES)}")
        self.review = review
        self.lang = lang
        self.patience = patience
        self.token = secrets.token_urlsafe(32)
        self.decided = 0  # decisions of this page that are in the ledger, undone ones included
        self.answered: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.deciding = threading.Lock()
        self.port = port  # once served, the one that it is

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}/{self.token}/"

    def __enter__(self) -> Served:
        try:
            self._server = _Server((ADDRESS, self.port), _handler(self))
        except (OSError, OverflowError) as wrong:
            raise SettingError(f"Port {self.port} cannot be used ({wrong}).", fix="leave --port out: a free one is found") from wrong
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """As TCPServer's: http.server's own would ask the network for this machine's name."""
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would let others listen, too
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # a port whose last connections are still being forgotten
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Patient(io.RawIOBase):
    """What a client sends, until its time is up: one that sends a byte now and then is not waited for longer than one that sends nothing."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"served": served})


class _Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    # the protocol -----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        super().setup()
        self._patient = _Patient(self.connection)
        self.rfile = io.BufferedReader(self._patient)

    def handle_one_request(self) -> None:
        self._patient.until = time.monotonic() + self.served.patience
        super().handle_one_request()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # gone, or too slow
            self.close_connection = True

    def version_string(self) -> str:
        return "mitate"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address has the token in it."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._answer(HTTPStatus(code), "application/json", json.dumps({"error": message or HTTPStatus(code).phrase}).encode())

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_POST(self) -> None:
        self._serve(self._post)

    def _serve(self, work: Any) -> None:
        try:
            self._told(*work(self._checked_path()))
        except _Refused as no:
            self.send_error(no.status, no.why)
        except StoreError as wrong:
            self._told("application/json", _json({"error": wrong.message, "fix": wrong.fix}), HTTPStatus.INSUFFICIENT_STORAGE)
        except MitateError as wrong:
            self._told("application/json", _json({"error": wrong.message, "fix": wrong.fix}), HTTPStatus.UNPROCESSABLE_ENTITY)

    def _told(self, kind: str, data: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(status, kind, data)

    def _answer(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.connection.settimeout(self.served.patience)
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **HEADERS}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    # who asks ---------------------------------------------------------------------------------------------------------

    def _checked_path(self) -> str:
        """What is asked for, below the token. Refuses whoever does not name this server, does not have the token, or comes from another site."""
        port = self.served.port
        here = {f"{ADDRESS}:{port}", f"localhost:{port}"}
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].strip().lower() not in here:  # another name for this address: DNS rebinding
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "not this host")
        token, slash, rest = self.path[1:].partition("/")
        if not (self.path.startswith("/") and slash) or not hmac.compare_digest(token.encode("latin-1", "replace"), self.served.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "wrong or missing token")
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        opened = self.command == "GET" and rest == "" and self.headers.get("Sec-Fetch-Mode") == "navigate" and self.headers.get("Sec-Fetch-Dest") == "document"
        if site != "same-origin" and not (self.command == "GET" and site == "none") and not opened:
            raise _Refused(HTTPStatus.FORBIDDEN, "another site asks")
        origins = self.headers.get_all("Origin", [])
        if (origins or self.command == "POST") and (len(origins) != 1 or origins[0] != f"http://{hosts[0].strip().lower()}"):
            raise _Refused(HTTPStatus.FORBIDDEN, "another site asks")
        return rest

    # what is told -----------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> tuple[str, bytes]:
        review = self.served.review
        if self.headers.get("Content-Length", "0") != "0" or self.headers.get("Transfer-Encoding"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a body is not read here")
        if path == "":
            return "text/html; charset=utf-8", _file("review.html").replace(b"{lang}", self.served.lang.encode())
        if path in FILES:
            return FILES[path], _file(path)
        if path == "set":
            review.refresh()
            return "application/json", _json(_set(self.served))
        if path == "figures":
            return "application/json", _json(_figures(review))
        room, _, number = path.partition("/")
        if not number.isascii() or not number.isdigit() or len(number) > 9 or int(number) >= len(review):
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")
        if room == "items":
            first = int(number)
            return "application/json", _json([review.item(n) for n in range(first, min(first + ITEMS, len(review)))])
        if room == "thumbnail":
            return _image(review.thumbnail(int(number)))
        if room == "image":
            return _image(review.picture(int(number)))
        raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")

    def _post(self, path: str) -> tuple[str, bytes]:
        if path != "decide":
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")
        asked = self._body()
        name = asked.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= 64:
            raise _Refused(HTTPStatus.BAD_REQUEST, "a decision needs an id")
        served = self.served
        with served.deciding:
            if (before := served.answered.get(name)) is None:
                change = _decide(served.review, asked)
                before = {"numbers": list(change.numbers), "letters": change.letters, "torn": bool(change.torn)}
                served.decided += len(change.numbers)
                served.answered[name] = before
                if len(served.answered) > REMEMBERED:
                    served.answered.popitem(last=False)
        return "application/json", _json(before)

    def _body(self) -> dict[str, Any]:
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = self.headers.get("Content-Length", "")
        if kind != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "decisions are JSON")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()) or len(self.headers.get_all("Content-Length", [])) != 1:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a decision says its length")
        if len(length) > 9 or int(length) > MOST_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a decision has at most {MOST_BYTES} bytes")
        data = self.rfile.read(int(length))
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if len(data) != int(length) or not isinstance(found, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "this is no decision")
        return found


def _decide(review: Review, asked: dict[str, Any]) -> Change:
    numbers, checks = asked.get("numbers", []), asked.get("checks", [])
    decision, label = asked.get("decision"), asked.get("label")
    if not (_whole(numbers) and _whole(checks) and isinstance(decision, str) and (label is None or isinstance(label, str))):
        raise _Refused(HTTPStatus.BAD_REQUEST, "this is no decision")
    if label is not None and not (label.strip() and len(label) <= 200 and label.isprintable()):
        raise SettingError("This cannot be the name of a class.", fix="give a short name in one line")
    if decision == "undo":
        return review.undo(numbers)
    return review.decide(numbers, decision, label=label, checks=checks)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in values)


def _set(served: Served) -> dict[str, Any]:
    review = served.review
    return {
        "name": review.folder.resolve().name, "by": review.by, "count": len(review), "classes": list(review.classes), "checks": list(review.checks),
        "audit": review.seed is not None, "items": ITEMS, "words": json.loads(_file(f"words.{served.lang}.json")), **review.columns(),
    }  # fmt: skip


def _figures(review: Review) -> dict[str, Any]:
    found = review.figures()
    return {
        "counts": found.counts,
        "pairs": [_pair(p) for p in found.pairs],
        "audit": _audit(found.audit),
        "open": list(found.open),
    }


def _pair(pair: Agreement) -> dict[str, Any]:
    return {**asdict(pair), "same": _ends(pair.same), "kappa": _ends(pair.kappa)}


def _audit(audit: Audit) -> dict[str, Any]:
    overruled = {name.partition(":")[2]: _ends(share) for name, share in audit.overruled.items()}
    return {"overruled": overruled, "dropped": _ends(audit.dropped), "kept": _ends(audit.kept), "unsettled": audit.unsettled}


def _ends(interval: Interval | None) -> dict[str, Any] | None:
    return interval.record if interval is not None else None


def _image(found: Encoded) -> tuple[str, bytes]:
    return found.kind, found.data


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()


@cache
def _file(name: str) -> bytes:
    return resources.files("mitate.web").joinpath(name).read_bytes()
