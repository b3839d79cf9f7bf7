"""A headless Chromium, driven through chromedriver's HTTP interface (W3C WebDriver) with the standard library alone.
Knows no page."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage")  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which WebDriver names an element
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine, whatever proxy is set
PATIENCE = 300.0  # seconds; the machine may be busy


def missing() -> str | None:
    """What is not installed, None if nothing."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"{name} is not installed (Debian: apt-get install chromium chromium-driver)"
    return None


class Browser:
    """One window. Selectors are CSS; scripts are function bodies whose `arguments` are the values given."""

    def __init__(self, port: int, profile: str, flags: tuple[str, ...]) -> None:
        self.root = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, *flags, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options,
                                                   "goog:loggingPrefs": {"browser": "ALL"}}}}  # fmt: skip
        self.root += "/" + self._call("POST", "", wanted)["sessionId"]
        self._call("POST", "/timeouts", {"script": int(PATIENCE * 1000)})

    def _call(self, verb: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=verb)
        try:
            with DIRECT.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(json.load(error)["value"]["message"]) from None

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": address})

    def find(self, selector: str) -> str:
        return self._call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector: str) -> None:
        """As a person does: refused where the thing cannot be seen or something lies over it."""
        self._call("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Keys, after what stands there; into a file input, a path."""
        self._call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def clear(self, selector: str) -> None:
        self._call("POST", f"/element/{self.find(selector)}/clear", {})

    def press(self, *keys: str) -> None:
        """Keys held one after the other and let go in turn, to whatever has the focus."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """A "mouse" or a finger ("touch") put down at one point of the window, drawn to another and let go."""
        points = [{"type": "pointerMove", "duration": 50 if i else 0, "x": round(x), "y": round(y)}
                  for i, (x, y) in enumerate((start, end))]  # fmt: skip
        actions = [points[0], {"type": "pointerDown", "button": 0}, points[1], {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self._call("POST", "/actions", {"actions": [pointer]})

    def run(self, script: str, *values):
        """What the script returns, awaited."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(values)})

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def wait(self, script: str, *values, seconds: float = PATIENCE):
        """The first true thing that the script returns. Raises: TimeoutError, with what the page said."""
        end = time.monotonic() + seconds
        while not (found := self.run(script, *values)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script!r} stayed {found!r}; page: {self.text('body')[:2000]!r}; {self.logs()}")
            time.sleep(0.05)
        return found

    def screenshot(self) -> bytes:
        """PNG of what the window shows."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def logs(self) -> list[str]:
        """What the console got since the last call, warnings and errors included."""
        return [f"{entry['level']} {entry['message']}" for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def devtools(self, command: str, **values):
        """A command of the Chrome DevTools Protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": values})

    def size(self, width: int, height: int, mobile: bool = False, scale: float = 1.0) -> None:
        """What the page believes the window to be, in CSS pixels."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                      mobile=mobile)  # fmt: skip

    def scheme(self, name: str) -> None:
        """Whether the person likes pages "light" or "dark"."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def downloads(self, folder: str) -> None:
        """Where files are saved from now on."""
        self.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)

    def require_readable(self, selectors: str) -> None:
        """Text that is seen stands out from what is behind it: WCAG 2's contrast of 4.5, of more than 15 texts."""
        colours = self.run(
            """
            const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
            return [...document.querySelectorAll(arguments[0])]
              .filter((e) => e.offsetParent && !e.disabled && e.innerText).map((e) => {
                const behind = [];
                for (let up = e; up; up = up.parentElement) behind.push(parse(getComputedStyle(up).backgroundColor));
                return [e.id || e.innerText.slice(0, 20), parse(getComputedStyle(e).color), behind];
              })""",
            selectors,
        )
        assert len(colours) > 15
        for name, ink, behind in colours:
            ground = np.zeros(3)
            for *colour, alpha in ([*c, 1][:4] for c in reversed(behind)):
                ground = alpha * np.array(colour) + (1 - alpha) * ground
            light, dark = sorted((luminance(ink[:3]), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ink, ground)

    def quit(self) -> None:
        self._call("DELETE", "")


def luminance(colour) -> float:
    """Relative luminance of sRGB 0..255, by WCAG 2."""
    share = np.asarray(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@contextlib.contextmanager
def chromium(profile: str, *flags: str) -> Iterator[Browser]:
    """A browser with a new profile in the folder `profile`; gone, with its processes, when the block is done."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in driver.stdout:
            if found := re.search(r"successfully on port (\d+)", line):
                break
        browser = Browser(int(found[1]), profile, flags)
        try:
            yield browser
        finally:
            browser.quit()
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
