"""A headless Firefox, driven through its own Marionette protocol with the standard library alone: Debian packs no
geckodriver, and the commands are the same W3C WebDriver's. Knows no page."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.chromium import PATIENCE, Browser

COMMANDS = {  # WebDriver's path, after the session -> Marionette's name
    ("POST", "/url"): "WebDriver:Navigate",
    ("POST", "/timeouts"): "WebDriver:SetTimeouts",
    ("POST", "/element"): "WebDriver:FindElement",
    ("POST", "/element/ID/click"): "WebDriver:ElementClick",
    ("POST", "/element/ID/value"): "WebDriver:ElementSendKeys",
    ("POST", "/element/ID/clear"): "WebDriver:ElementClear",
    ("POST", "/actions"): "WebDriver:PerformActions",
    ("POST", "/execute/sync"): "WebDriver:ExecuteScript",
    ("GET", "/screenshot"): "WebDriver:TakeScreenshot",
}
PREFERENCES = {
    "marionette.port": 0,  # a free one, which it writes into the profile
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.download.folderList": 2,
    "browser.download.useDownloadDir": True,
    "browser.download.always_ask_before_handling_new_types": False,
    "browser.download.alwaysOpenPanel": False,
}


def program() -> str | None:
    """The browser's file, None where it is not installed."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


def missing() -> str | None:
    """What is not installed, None if nothing."""
    return None if program() else "firefox is not installed (Debian: apt-get install firefox-esr)"


class Firefox(Browser):
    """One window, as `chromium.Browser`."""

    def __init__(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            self.stream = connection.makefile("rwb")  # which keeps it open
        self.numbers = itertools.count(1)
        self._receive()  # who it is
        self._send("WebDriver:NewSession", {})
        self._call("POST", "/timeouts", {"script": int(PATIENCE * 1000), "pageLoad": int(PATIENCE * 1000)})

    def _receive(self):
        length = b""
        while not length.endswith(b":"):
            length += self.stream.read(1)
        return json.loads(self.stream.read(int(length[:-1])))

    def _send(self, command: str, values: dict):
        message = json.dumps([0, next(self.numbers), command, values]).encode()
        self.stream.write(b"%d:%s" % (len(message), message))
        self.stream.flush()
        _, _, error, result = self._receive()
        if error:
            raise RuntimeError(f"{error['error']}: {error['message']}")
        return result

    def _call(self, verb: str, path: str, body: dict | None = None):
        element = re.search(r"/element/([^/]+)/", path)
        name = COMMANDS[verb, path.replace(element[1], "ID") if element else path]
        values = {**(body or {}), **({"id": element[1]} if element else {})}
        if name == "WebDriver:TakeScreenshot":
            values["full"] = False
        result = self._send(name, values)
        return result["value"] if isinstance(result, dict) and result.keys() == {"value"} else result

    def chrome(self, script: str, *values):
        """What a script returns that runs in the browser itself, beside the page."""
        self._send("Marionette:SetContext", {"value": "chrome"})
        try:
            return self.run(script, *values)
        finally:
            self._send("Marionette:SetContext", {"value": "content"})

    def logs(self) -> list[str]:
        """Nothing: WebDriver knows no console."""
        return []

    def size(self, width: int, height: int, mobile: bool = False, scale: float = 1.0) -> None:
        """What the page believes the window to be, in CSS pixels; fingers and other densities are not played."""
        self.chrome(
            "const style = gBrowser.selectedBrowser.style, [width, height] = arguments;"
            "for (const [name, value] of [['width', width], ['height', height]]) {"
            "  for (const limit of ['', 'min-', 'max-']) style.setProperty(limit + name, `${value}px`); }",
            width, height,
        )  # fmt: skip
        self.wait("return innerWidth === arguments[0] && innerHeight === arguments[1]", width, height)

    def scheme(self, name: str) -> None:
        self.chrome("Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', arguments[0])",
                    ["dark", "light"].index(name))  # fmt: skip
        self.wait("return matchMedia(`(prefers-color-scheme: ${arguments[0]})`).matches", name)

    def downloads(self, folder: str) -> None:
        self.chrome("Services.prefs.setStringPref('browser.download.dir', arguments[0])", folder)

    def quit(self) -> None:
        self._send("Marionette:Quit", {"flags": ["eForceQuit"]})
        self.stream.close()


@contextlib.contextmanager
def firefox(profile: str) -> Iterator[Firefox]:
    """A browser with a new profile in the folder `profile`; gone, with its processes, when the block is done."""
    with open(os.path.join(profile, "user.js"), "w", encoding="utf-8") as file:
        file.writelines(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    command = [program(), "--headless", "--marionette", "--remote-allow-system-access", "--no-remote",
               "--profile", profile, "about:blank"]  # fmt: skip
    environment = {**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path, end = pathlib.Path(profile, "MarionetteActivePort"), time.monotonic() + PATIENCE
        while not path.exists() or not (port := path.read_text().strip()):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"firefox did not start (exit code {process.poll()})")
            time.sleep(0.1)
        browser = Firefox(int(port))
        try:
            yield browser
        finally:
            browser.quit()
            process.wait(60)
    finally:
        process.kill()
        process.wait()
