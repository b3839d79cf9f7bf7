"""The one way a command starts: absl flags in, one line on stderr for a user's mistake, exit code 0 only on success.
Knows no flag, no model and no data, and must stay importable without TensorFlow."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from simgan_tf.system.quiet import quiet


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None]) -> None:
    """Defines the flags, parses the command line, calls `main` and exits.

    Exit code 0 on success and for --help, 1 with one line on stderr for bad input (ValueError, OSError,
    TensorFlow's own file errors), 130 for Ctrl-C. Anything else is our bug and keeps its traceback.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; every option is a --flag=value, see --help")
        try:
            main(argv)
        except (ValueError, OSError, FloatingPointError) as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception as error:  # noqa: BLE001 - only TensorFlow's file errors are users' mistakes, the rest is raised
            if not _is_tensorflow_file_error(error):
                raise
            _fail(str(error))

    warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd pictures; what matters raises
    define_flags()
    app.run(guarded, flags_parser=_parse)


def start_tensorflow(first: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow and makes it greet its processor now, with the chatter kept off the screen.

    first: called before TensorFlow's first operation, as what joins a cluster must be; its result is returned.

    Its C++ log is off too (what fails raises here); TF_CPP_MIN_LOG_LEVEL=0 in the environment brings it back.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf

        made = first() if first else None
        tf.zeros([1]).numpy()
    return made


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if flags.FLAGS["verbosity"].using_default_value:
            flags.FLAGS.verbosity = logging.WARNING  # absl takes INFO, at which TensorFlow remarks on every checkpoint
        return rest
    except flags.Error as error:
        _fail(f"{error} (see --help)")
    except SystemExit:  # absl leaves --help with 1
        sys.exit(0)


def _is_tensorflow_file_error(error: Exception) -> bool:
    """Whether TensorFlow reports a missing file, a full disk or a damaged record."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OpError" in names and bool(
        names & {"NotFoundError", "PermissionDeniedError", "ResourceExhaustedError", "DataLossError", "UnknownError"}
    )


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(1)
