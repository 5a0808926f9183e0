"""A headless Chromium that does what a test says: its own protocol over two pipes, so that no driver is needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
PATIENCE = 60.0  # seconds until something that a page should do counts as not done
CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27, "Home": 36, "End": 35, "PageDown": 34}


class Browser:
    """`with Browser(folder) as browser: browser.open(url)`. What the page wrote to its console, and what it asked the network for, is kept."""

    def __init__(self, folder: Path, *, width: int = 1280, height: int = 860, dark: bool = False) -> None:
        self.width, self.height, self.dark = width, height, dark
        self.console: list[str] = []
        self.asked: list[str] = []
        self._profile = folder / "profile"
        self._number = 0

    def __enter__(self) -> Browser:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank",
        ]  # fmt: skip
        high = [fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 10) for handle in (theirs_in, theirs_out)]  # out of the way of 3 and 4
        moves = [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]  # Chromium reads commands from 3 and answers on 4
        quiet = [(os.POSIX_SPAWN_OPEN, handle, os.devnull, os.O_RDWR, 0) for handle in (0, 1, 2)]
        self._pid = os.posix_spawn(str(CHROMIUM), [str(CHROMIUM), *flags], os.environ, file_actions=[*quiet, *moves])
        for handle in (theirs_in, theirs_out, *high):
            os.close(handle)
        self._rest = b""
        self._session = None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(self.width, self.height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}])
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._out)
        os.close(self._in)

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.body && document.body.dataset.ready === 'yes'")

    def eval(self, code: str) -> Any:
        told = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"]["exception"].get("description", code))
        return told["result"].get("value")

    def until(self, code: str) -> Any:
        """Wait until `code` is true in the page."""
        end = time.monotonic() + PATIENCE
        while True:
            found = self.eval(f"!!({code})")
            if found:
                return
            assert time.monotonic() < end, f"never true: {code}; console: {self.console}"
            time.sleep(0.05)

    def press(self, *keys: str, shift: bool = False) -> None:
        for key in keys:
            more = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            code = f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else f"Digit{key}" if key.isdigit() else key
            told = {"key": key, "code": code, "windowsVirtualKeyCode": CODES.get(key, ord(key.upper()[0])), "modifiers": 8 if shift else 0}
            self.call("Input.dispatchKeyEvent", type="keyDown", **told, **more)
            self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def click(self, where: str) -> None:
        x, y = self.eval(f"(e => (r => [r.x + r.width / 2, r.y + r.height / 2])(e.getBoundingClientRect()))(document.querySelector({json.dumps(where)}))")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def shot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **values: Any) -> Any:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": values, **({"sessionId": self._session} if self._session else {})}
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]
            self._note(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._in, 1 << 16)
            assert data, "the browser is gone"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)

    def _note(self, told: dict[str, Any]) -> None:
        method, values = told.get("method"), told.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in values["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(values["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Log.entryAdded":
            self.console.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(values["request"]["url"])
