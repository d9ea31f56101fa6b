"""Chromium without a window, driven through its debugging pipe (the Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 60.0
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--remote-debugging-pipe", "about:blank"),
)
#: All text of a page, that in shadow trees (Polymer) among it.
TEXT = """(function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.nodeValue;
  if (["SCRIPT", "STYLE", "TEMPLATE", "DOM-MODULE"].includes(node.nodeName)) return "";
  return [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(text).join(" ");
})(document.body).replace(/\\s+/g, " ")"""


def chromium() -> str | None:
    """Where it is, under the names that it goes by."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of `width` × `height` pixels, with `profile` as the folder of everything that is kept."""

    def __init__(self, program: str, profile: Path, width: int = 1280, height: int = 800) -> None:
        self._program, self._profile, self._size = program, profile, (width, height)
        self._calls = 0
        self._received = b""
        self._session: str | None = None

    def __enter__(self) -> Self:
        hears, self._requests = os.pipe()
        self._replies, says = os.pipe()
        theirs = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (hears, says)]
        os.close(hears)
        os.close(says)
        size = "--window-size={},{}".format(*self._size)
        # It reads requests from descriptor 3 and writes replies to 4.
        command = ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", self._program]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile}", size, *FLAGS],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in theirs:
            os.close(each)
        try:
            page = next(each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page")
            attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self._session = attached["sessionId"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        try:
            self._call("Browser.close")
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._requests)
            os.close(self._replies)

    def open(self, url: str) -> None:
        """Go to `url` afresh, also where only its fragment is another."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """What a script of one expression gives."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """All that the page says, in one line."""
        return str(self.evaluate(TEXT))

    def wait_for(self, *words: str) -> str:
        """The page's text once all of the words are in it; fails after a minute."""
        deadline_s = time.monotonic() + PATIENCE_S
        while missing := [each for each in words if each not in (text := self.text())]:
            assert time.monotonic() < deadline_s, f"waited in vain for {missing} in: {text}"
            time.sleep(0.1)
        return text

    def screenshot(self, path: Path) -> None:
        """Save what is seen as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != self._calls:
            pass  # an event
        assert "error" not in reply, f"{method}: {reply['error']}"
        result: dict[str, Any] = reply["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._replies], [], [], PATIENCE_S)
            assert ready, "the browser says nothing"
            more = os.read(self._replies, 1 << 16)
            assert more, "the browser has ended"
            self._received += more
        message, _, self._received = self._received.partition(b"\0")
        reply: dict[str, Any] = json.loads(message)
        return reply
