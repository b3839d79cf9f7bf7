"""SISGAN's own numbers and its presets: the paper's two trainings, others for modest hardware."""

import dataclasses
from typing import Any, ClassVar

from simgan_tf.configs.base import BIRD_SENTENCES, Base, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of SISGAN, completely."""

    method: ClassVar[str] = "sisgan"

    # Generator
    vgg_weights: str = setting(
        "",
        "file of keras.applications' VGG16 weights (.h5), whose features up to conv4_3 are then G's encoder, the "
        "paper's encoder A; without one G's encoder is trained, the paper's encoder B",
    )
    width: int = setting(128, "channels after encoder B's first convolution; the next have 2x and 4x", least=1)
    units: int = setting(4, "residual units of G", most=100)
    ca_size: int = setting(128, "Z, dimensions of the conditioning code", least=1)
    # Discriminator
    d_width: int = setting(64, "channels after D's first convolution; doubled at each stage up to 8x", least=1)
    text_size: int = setting(128, "dimensions D reduces phi(t) to", least=1)
    # Objective
    kl_weight: float = setting(1.0, "weight of the conditioning code's KL")


PAPER: dict[str, Any] = dict(image_size=64, load_size=74, batch_size=64, halve_epochs=100)
SMALL: dict[str, Any] = dict(
    batch_size=16, width=32, d_width=32, steps=6_000, halve_epochs=5, sample_every=500, checkpoint_every=250,
    keep_every=500, learning_rate=3e-4, ema_decay=0.999,
)  # fmt: skip
DEMO: dict[str, Any] = dict(
    width=16, learning_rate=4e-4, ema_decay=0.0, halve_epochs=4, steps=2_000, sample_every=250, keep_every=0,
)  # fmt: skip

PRESETS = {
    # SISGAN's two trainings: 64x64, batch 64, 600 epochs, Adam 2e-4 halved every 100. Encoder A: --vgg_weights=FILE.
    "sisgan_cub": Config(**PAPER, sentences=BIRD_SENTENCES),
    "sisgan_oxford102": Config(**PAPER),
    # The same objective for modest hardware. Differs: a quarter of G's width and half of D's, batch 16, and the steps
    # that some hours of two CPU cores give in place of 600 epochs; a higher rate, because there are few; a tenth of the
    # KL's weight, because at 1 the noise of the code is as wide as the distance of two colours (as in simgan_demo); and
    # the average of G's weights.
    "sisgan_cub_small": Config(**PAPER | SMALL, kl_weight=0.1, sentences=BIRD_SENTENCES),
    "sisgan_oxford102_small": Config(**PAPER | SMALL, kl_weight=0.1),
    # Differs: as the small ones at half of G's width, to learn the demo's drawings in half an hour of two CPU cores;
    # twice the paper's rate, halved every 4 epochs, because there are few; no average.
    "sisgan_demo": Config(**PAPER | SMALL | DEMO, kl_weight=0.1),
}  # fmt: skip
