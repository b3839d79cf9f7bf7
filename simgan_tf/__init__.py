"""SIMGAN in TensorFlow 2: change a photograph by a sentence."""

import os
import sys

# `python -m simgan_tf.edit` searches the current folder first and would take a package `data` or `export` that the user
# has there for ours. While Python looks for the module behind -m it imports this file, and sys.argv[0] is "-m".
if sys.argv[:1] == ["-m"]:
    HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[0] in ("", os.getcwd()) and sys.path[0] != HOME:
        sys.path.append(sys.path.pop(0))
        if HOME not in sys.path:  # after pip install -e
            sys.path.insert(0, HOME)
