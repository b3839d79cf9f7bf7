"""Keeps library chatter off the screen while a block runs.
Imports no TensorFlow, so that it can cover TensorFlow's import, which prints lines too."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what C++ and Python write to stderr inside; shows it if the block ends by an error that is our bug.

    After ValueError and OSError nothing is shown: they are a user's mistake, which the command reports in one line.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        screen = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except (ValueError, OSError):
            raise
        except BaseException:
            log.seek(0)
            os.write(screen, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
