"""The systems this project trains, by the name that Config.method gives them."""

from simgan_tf.methods.simgan import SIMGAN

METHODS = {"simgan": SIMGAN}
