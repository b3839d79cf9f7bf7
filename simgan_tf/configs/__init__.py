"""Every number of a training: base.py has what all have, one file a method its own and its presets."""

from simgan_tf.configs.base import *  # noqa: F403
from simgan_tf.configs.base import CHANGEABLE, CHOICES, PRESETS, Config  # noqa: F401
