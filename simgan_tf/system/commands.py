"""The one way a command starts: absl flags in, one line on stderr for a user's mistake, exit code 0 only on success.
Importable without TensorFlow, so that a mistake is reported at once."""

import errno
import logging
import math
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from simgan_tf.system import files
from simgan_tf.system.quiet import quiet

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # holds simgan_tf, data and export
LONGEST = 2_000  # characters of a message
MAX_FLAGFILE = 2**20  # bytes
REASONS = {  # what the system refuses, in words that help; the file's name stands before them
    errno.ENOENT: "there is no such file or folder; check the name",
    errno.EEXIST: "a file of this name is where a folder is needed; choose another place",
    errno.ELOOP: "this link leads in a circle; give the file itself",
    errno.ENXIO: "this is no file but a socket or a device; give a file",
    errno.EISDIR: "this is a folder, and a file is needed",
    errno.ENOTDIR: "a part of this path is a file, and a folder is needed",
    errno.EACCES: "reading or writing this is not allowed; change its permissions or choose another place",
    errno.EPERM: "reading or writing this is not allowed; change its permissions or choose another place",
    errno.EROFS: "nothing can be written to this disk; choose another place",
    errno.ENOSPC: "the disk is full; make room or choose another place",
    errno.ENAMETOOLONG: "this name is too long; choose a shorter one",
    errno.EFBIG: "the file would be larger than this disk or account allows; choose another place",
}


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None], words: bool = False) -> None:
    """Defines the flags, parses the command line, calls `main` and exits.

    Exit code 0 on success and for --help, 1 with one line on stderr for bad input (ValueError, OSError, TensorFlow's
    own file errors), 130 for Ctrl-C. Anything else is our bug and keeps its traceback.
    --help shows the docstring of main's module and the flags of `define_flags`. The first `python ...` in the
    docstring, to the end of its line, is the example that a refused command line is answered with.
    words: whether the command takes words that are no flags, such as names of files; `main` gets them behind the
    program's name.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd pictures; what matters raises
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # more of them
    before = set(flags.FLAGS)
    define_flags()
    about = main.__globals__["__doc__"] or ""
    own = flags.FlagValues()
    for name in set(flags.FLAGS) - before:
        own[name] = flags.FLAGS[name]

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            _fail(in_words(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception as error:  # noqa: BLE001 - only TensorFlow's file errors are users' mistakes, the rest is raised
            if isinstance(error, MemoryError) or "OOM when allocating" in str(error):
                _fail("there is not enough memory for this; give less at a time, or a smaller file")
            if not _is_tensorflow_file_error(error):
                raise
            _fail(str(error))

    app.run(guarded, flags_parser=lambda argv: _parse(argv, about, own, words))


def as_typed(text: str) -> str:
    """`text` with every command in it as this user types it.

    A text says `python -m simgan_tf.edit` or `python run_train.py`, which is right in a checkout. Where the package is
    installed they become the console commands, simgan-edit and simgan-train: these work in every folder.
    """
    if os.path.isfile(os.path.join(HOME, "pyproject.toml")) and not os.path.basename(sys.argv[0]).startswith("simgan-"):
        return text
    for entry in metadata.entry_points(group="console_scripts"):
        if entry.name.startswith("simgan-"):
            module = re.escape(entry.module.removesuffix(".__main__"))
            text = re.sub(rf"python (-m )?{module}(\.py)?(?!\.?\w)", entry.name, text)
    return text


def typed(module: str = "") -> str:
    """The command line that is running, to be kept with what it writes: of a script, or of `python -m module`."""
    return shlex.join(["python", *(["-m", module] if module else [os.path.basename(sys.argv[0])]), *sys.argv[1:]])


def start(module: str, *arguments: str) -> tuple[subprocess.CompletedProcess, str]:
    """Runs `python -m module`; how it ended, and the last line of its errors."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    return done, (done.stderr.strip().splitlines() or ["no message"])[-1]


def start_tensorflow(first: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow and runs a first operation, with what it prints at its start kept off the screen.

    first: called before TensorFlow's first operation, as what joins a cluster must be; its result is returned.

    Its C++ log is off too, since failures raise exceptions; TF_CPP_MIN_LOG_LEVEL=0 in the environment brings it back.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf

        result = first() if first else None
        tf.zeros([1]).numpy()
    return result


def _parse(argv: list[str], about: str, own: flags.FlagValues, words: bool) -> list[str]:
    """Parses into flags.FLAGS and returns the rest.

    about, own: the command's docstring and flags, for --help and for messages. words: as for `run`.
    """
    if {"--help", "-help", "-h", "-?"} & set(argv[1:]):
        flags_help = own.get_help(include_special_flags=False)
        try:
            print(as_typed(f"{about}\nflags (--helpfull shows the libraries' too):\n{flags_help}"), flush=True)
        except BrokenPipeError:  # `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    match = re.search(r"python .*", about)
    example = f"; for example: {match[0].strip()}" if match else ""
    flags.FLAGS.set_gnu_getopt(True)  # flags behind a stray word are read, so that they are not called missing
    try:
        _check_flagfiles(argv)
        # A first word without dashes is reported before flags that are missing.
        rest = flags.FLAGS(argv) if words or len(argv) == 1 or argv[1].startswith("-") else argv
        for name in own:
            if isinstance(own[name].value, float) and not math.isfinite(own[name].value):
                _fail(f"--{name}={own[name].value} must be a finite number (see --help)")
    except (OSError, ValueError) as error:
        _fail(in_words(error))
    except flags.Error as error:
        missing = re.findall(r"Flag --(\w+) must have a value other than None", str(error))
        if missing:
            _fail(f"{', '.join(f'--{name}=' for name in missing)} missing{example} (see --help)")
        _fail(f"{error} (see --help)")
    if len(rest) > 1 and not words:
        _fail(
            f"unexpected argument {rest[1]!r}: every option is a --flag=value, and a value with spaces needs quotes"
            f"{example} (see --help)"
        )
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = absl_logging.WARNING  # absl takes INFO, at which TensorFlow remarks on every checkpoint
    return rest


def _check_flagfiles(argv: list[str]) -> None:
    """Raises: ValueError where a --flagfile= is no small file of text, which absl would read for ever; OSError."""
    for i, word in enumerate(argv[1:], start=1):
        if match := re.fullmatch(r"--?flagfile(=(.*))?", word, re.DOTALL):
            path = match[2] if match[1] else "".join(argv[i + 1 : i + 2])
            text = files.read_text(path, MAX_FLAGFILE, "give a file with one flag a line")
            if re.search(r"^\s*--?flagfile", text, re.MULTILINE):
                raise ValueError(f"--flagfile={path} names another one; write its flags into this file")


def in_words(error: Exception) -> str:
    """The error's message; the system's own, such as [Errno 2], in our words, with the flag that named the file."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    reason = REASONS.get(error.errno, error.strerror)
    if not isinstance(error.filename, (str, bytes)):
        return reason
    name = os.fsdecode(error.filename)
    flag = next((f"--{flag}=" for flag in flags.FLAGS if flags.FLAGS[flag].value == name), "")
    return f"{flag}{name}: {reason}" + ("" if os.path.isabs(name) else f" (looked for in {os.getcwd()})")


def _is_tensorflow_file_error(error: Exception) -> bool:
    """Whether TensorFlow reports a missing file, a full disk or a damaged record."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OpError" in names and bool(
        names & {"NotFoundError", "PermissionDeniedError", "ResourceExhaustedError", "DataLossError", "UnknownError"}
    )


def _fail(message: str) -> None:
    print("error: " + as_typed(printable(message)), file=sys.stderr)
    sys.exit(1)


def printable(message: str) -> str:
    """One line of it that a screen can show: without line ends, control characters and the system's error numbers."""
    message = re.sub(r"\[(Errno|WinError) -?\d+\] ", "", " ".join(message.split()))
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    return escaped(message)


def escaped(text: str) -> str:
    """The text with all that a screen cannot show, or would obey, written out: a name may hold "\\x1b[2J"."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)
