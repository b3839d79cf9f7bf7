"""LiteRT.js, which runs a .tflite in a browser: fetched from npm once, then kept in the user's cache.
Knows the package's files and nothing of models or pages."""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile

from tqdm import tqdm

HERE = os.path.dirname(os.path.abspath(__file__))
NPM_FILES = ("package.json", "package-lock.json")  # which version, and its checksums
NPM_SECONDS = 180  # that `npm ci` may take
FLAVOURS = ("", "threaded_", "compat_")  # with relaxed SIMD, also with threads, with neither
NOTICE = """LiteRT.js (@litertjs/core and @litertjs/wasm-utils {version}), Copyright Google LLC, Apache License 2.0,
https://github.com/google-ai-edge/LiteRT. Changed here: index.js names its second package by file, and the .wasm files
are compressed with gzip.
"""


def wanted_version() -> str:
    with open(os.path.join(HERE, "package.json"), encoding="utf-8") as file:
        return json.load(file)["dependencies"]["@litertjs/core"]


def find(folder: str | None = None) -> str:
    """A node_modules folder with LiteRT.js of `wanted_version`.

    folder: where it, or what holds it, is; None: the cache ($XDG_CACHE_HOME or ~/.cache), filled by `npm ci` if empty.
    Raises: ValueError where folder has no or another version, or where npm is missing or fails.
    """
    version = wanted_version()
    if folder is not None:
        for modules in (folder, os.path.join(folder, "node_modules")):
            if _version(modules) == version:
                return modules
        found = _version(folder) or _version(os.path.join(folder, "node_modules")) or "none"
        raise ValueError(f"--litert={folder!r} must hold @litertjs/core {version}, found {found}: "
                         f"npm install @litertjs/core@{version} in a folder and name that one.")  # fmt: skip
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    home = os.path.join(cache, "simgan-tf", f"litert-{version}")
    modules = os.path.join(home, "node_modules")
    if _version(modules) != version:
        print(f"fetching LiteRT.js {version} from npm, once (13 MB) ...", flush=True)
        _install(home)
    return modules


def _version(modules: str) -> str | None:
    try:
        with open(os.path.join(modules, "@litertjs", "core", "package.json"), encoding="utf-8") as file:
            return json.load(file)["version"]
    except FileNotFoundError:
        return None


def _install(home: str) -> None:
    """`npm ci` in a folder beside `home`, which then becomes it."""
    npm = shutil.which("npm")
    remedy = "or give --litert=FOLDER, where another machine installed it"
    if npm is None:
        raise ValueError(f"npm is not installed, and LiteRT.js comes from it: install Node.js 18 or newer, {remedy}.")
    os.makedirs(os.path.dirname(home), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=os.path.dirname(home)) as scratch:
        for name in NPM_FILES:
            shutil.copy(os.path.join(HERE, name), scratch)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
                   "--fetch-timeout=30000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # fmt: skip
        said = None
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, check=False, timeout=NPM_SECONDS
            )
            if done.returncode:
                said = _npm_error(done.stderr)
        except subprocess.TimeoutExpired:
            said = f"not done after {NPM_SECONDS} s"
        if said is not None:
            raise ValueError(f"npm could not fetch LiteRT.js ({said}): check the network, {remedy}.")
        shutil.rmtree(home, ignore_errors=True)
        os.rename(scratch, home)
        os.mkdir(scratch)  # for the block's end to take away


def _npm_error(stderr: str) -> str:
    """What npm says of its failure, in one line: "npm ERR!" up to npm 9, "npm error" since; not where its log lies."""
    lines = [line for line in stderr.splitlines() if re.match(r"npm (error|ERR!)", line) and "complete log" not in line]
    return " ".join(re.sub(r"npm (error|ERR!)", "", line, count=1).strip() for line in lines)[:200]


def copy(modules: str, out_dir: str) -> None:
    """Writes into `out_dir`, which it makes, the files a browser needs.

    index.js, wasm-utils.js, and of every flavour litert_wasm_*internal.js and .wasm.gz. A page fetches one flavour,
    2.8 to 2.9 MB, instead of 9.4 MB unpacked.
    Raises: ValueError where the package is built otherwise than this code knows.
    """
    os.mkdir(out_dir)
    core, utils = (os.path.join(modules, "@litertjs", name) for name in ("core", "wasm-utils"))
    with open(os.path.join(core, "dist", "index.js"), encoding="utf-8") as file:
        script = file.read()
    package = '"@litertjs/wasm-utils"'  # a worker has no import map that could find it
    if script.count(package) != 1:
        raise ValueError(f"{core}/dist/index.js does not name {package} once: it is not the version this code knows.")
    write(out_dir, "index.js", script.replace(package, '"./wasm-utils.js"').encode())
    with open(os.path.join(utils, "dist", "bundle.js"), "rb") as file:
        write(out_dir, "wasm-utils.js", file.read())
    for flavour in tqdm(FLAVOURS, desc="compressing", unit="file", leave=False, delay=1):
        name = f"litert_wasm_{flavour}internal"
        shutil.copyfile(os.path.join(core, "wasm", f"{name}.js"), os.path.join(out_dir, f"{name}.js"))
        with open(os.path.join(core, "wasm", f"{name}.wasm"), "rb") as file:
            write(out_dir, f"{name}.wasm.gz", gzip.compress(file.read(), 9, mtime=0))
    write(out_dir, "NOTICE.txt", NOTICE.format(version=_version(modules)).encode())


def write(folder: str, name: str, data: bytes) -> None:
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
