"""A browser without a window, driven over WebDriver (W3C) by the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), "")
DRIVER = shutil.which("chromedriver") or ""
PATIENCE_S = 60


class Browser:
    """One session; every method is one command of the protocol."""

    def __init__(self, address: str, *arguments: str) -> None:
        self._address = address
        options = {
            "binary": CHROMIUM,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", *arguments],
            "perfLoggingPrefs": {"enableNetwork": True},
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        found = self._ask("", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/{found['sessionId']}"

    def open(self, path: Path, width: int, scheme: str = "light") -> None:
        """Show a file in a window of this width."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"features": features})
        self._ask(f"{self._session}/url", {"url": path.absolute().as_uri()})

    def run(self, script: str) -> Any:
        """Return what a script returns."""
        return self._ask(f"{self._session}/execute/sync", {"script": script, "args": []})

    def devtools(self, command: str, values: dict[str, Any]) -> Any:
        """Send a command of the browser's developer tools."""
        body = {"cmd": command, "params": values}
        return self._ask(f"{self._session}/goog/cdp/execute", body)

    def said(self) -> list[str]:
        """Return the console's messages since the last call."""
        found = self._ask(f"{self._session}/se/log", {"type": "browser"})
        return [str(one["message"]) for one in found]

    def requested(self) -> list[str]:
        """Return the addresses asked for since the last call."""
        found = self._ask(f"{self._session}/se/log", {"type": "performance"})
        events = [json.loads(one["message"])["message"] for one in found]
        wanted = [one for one in events if one["method"] == "Network.requestWillBeSent"]
        return [str(one["params"]["request"]["url"]) for one in wanted]

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        values = {"captureBeyondViewport": True, "format": "png"}
        path.write_bytes(base64.b64decode(self.devtools("Page.captureScreenshot", values)["data"]))

    def close(self) -> None:
        """End the session."""
        self._ask(self._session, None, "DELETE")

    def _ask(self, path: str, body: dict[str, Any] | None, method: str = "POST") -> Any:
        request = urllib.request.Request(
            f"{self._address}/session{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]


@contextmanager
def driver() -> Iterator[str]:
    """Yield the address of a driver that waits for sessions."""
    process = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        begun = time.monotonic()
        for line in process.stdout:
            if "started successfully on port" in line:
                yield f"http://127.0.0.1:{line.rstrip('.').split()[-1].rstrip('.')}"
                break
            assert time.monotonic() - begun < PATIENCE_S, line
    finally:
        process.kill()
        process.communicate()
