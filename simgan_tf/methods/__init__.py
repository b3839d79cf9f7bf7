"""The systems this project trains, and the contract that each of them keeps. Starts no TensorFlow.

A method is one class in a file of its own. It holds its networks (keras.Model) and optimizers, and is made by
`build(config, text_encoder, steps_per_epoch)`:

    config            its own Config, of simgan_tf/configs
    text_encoder      phi, see simgan_tf.text.encoders.TextEncoder; a method with words of its own takes the ids of
                      phi's vocabulary
    steps_per_epoch   for the learning rate's schedule; None = made to edit alone, without D and optimizers

What it is:

    noise_size        Z, normal numbers that make one edit differ from another; 0 = it draws none
    embedding_size    D, numbers that a sentence becomes
    network           the keras.Model that `edit` runs; of averaged weights where they are averaged
    part              the name of that network's variables in a checkpoint
    keeps_picture     whether an edit shows the picture it was made of, at its places, so that the change can be carried
                      up to a photograph's own size; left out = True. A method that draws anew gives its own square

What it does:

    encode(texts)                        [n, D] float32 of n sentences, as numpy: phi's vectors, or its own encoder's
    embed(tokens)                        the same of ids [B, T] int32, as TensorFlow ops, for exports
    edit(image, embedding, noise, network=None)
                                         [B, H, W, 3] float32 in [-1, 1] of image [B, H, W, 3], embedding [B, D] and
                                         noise [B, Z]; zeros give the mean edit. network: stands in for its own, such
                                         as one whose weights are constants
    stage(step)                          optional, of a method that trains one network after another: a number that
                                         says what its step, a Python int from 0, trains; `prepare` and `update` take it
                                         as their last argument
    prepare(batch, step)                 rows [B, ...] by name, of the whole batch (image, embedding, tokens, class_id):
                                         all that a step draws, and all that a row needs of other rows; pairs of rows
                                         may be fewer, as many as the devices can share. Of several workers each has its
                                         own rows of pictures alone (four axes), and all rows of the rest
    update(rows, measure)                one step on a replica's rows: its losses, as its paper has them, and
                                         `step.descend`; returns scalars by name: the weighted terms, d_... of D and
                                         g_... of G, their totals d_loss and g_loss, source_correlation where it edits,
                                         and what ends in _norm where measure
    average(step), restart_average()     once after each step; once after weights came from elsewhere
    variables()                          {part: [tf.Variable]}: all that a checkpoint holds; an optimizer's name ends in
                                         _optimizer, an averaged network's is the trained one's and _ema
    embed_variables()                    those that `embed` reads, as raw variables; `edit` reads those of `network`
    lent_by(other, parts)                {own part: its part}: what a run of the configuration `other`, whose checkpoint
                                         has `parts`, may fill before the first step; optimizers are not lent
    warnings(terms)                      {name: (holds, line)}: the conditions under which this GAN is dying, by one row
                                         of the log

Nothing outside of methods/ and configs/ names a network, or a field of one method.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simgan_tf.configs.base import Base
    from simgan_tf.text.encoders import TextEncoder

# name -> the module with its Config and PRESETS, and its class
METHODS = {
    "simgan": ("simgan_tf.configs.simgan", "simgan_tf.methods.simgan:SIMGAN"),
    "sisgan": ("simgan_tf.configs.sisgan", "simgan_tf.methods.sisgan:SISGAN"),
    "reed": ("simgan_tf.configs.reed", "simgan_tf.methods.reed:Reed"),
    "ccgan": ("simgan_tf.configs.ccgan", "simgan_tf.methods.ccgan:CCGAN"),
    "tagan": ("simgan_tf.configs.tagan", "simgan_tf.methods.tagan:TAGAN"),
}


def build(config: "Base", text_encoder: "TextEncoder", steps_per_epoch: int | None = None) -> Any:
    """The method of `config`, its networks newly drawn; see the contract above."""
    return pkgutil.resolve_name(METHODS[config.method][1])(config, text_encoder, steps_per_epoch)
