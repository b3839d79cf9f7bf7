"""The numbers of Reed et al.'s two steps and their presets: the paper's two trainings, others for modest hardware."""

import dataclasses
from typing import Any, ClassVar

from simgan_tf.configs.base import BIRD_SENTENCES, Base, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of both steps, completely."""

    method: ClassVar[str] = "reed"

    # Which steps train what
    gan_epochs: int = setting(600, "epochs that train G and D; the later ones train the style encoder", least=1)
    gan_steps: int = setting(0, "the same in steps; 0 = gan_epochs")
    # Generator
    width: int = setting(128, "channels of G's last but one map; the maps before have up to 8x", least=1)
    style_size: int = setting(100, "Z, numbers that G draws from and the style encoder finds", least=1)
    text_size: int = setting(128, "dimensions that G and D each reduce phi(t) to", least=1)
    # Discriminator and style encoder
    d_width: int = setting(64, "channels after the first convolution of both; doubled at each stage up to 8x", least=1)
    # Objective
    interpolation_weight: float = setting(
        1.0, "weight of texts halfway between two captions in G's loss, GAN-INT-CLS; 0 = GAN-CLS"
    )
    style_text_noise: float = setting(0.02, "deviation of the noise on phi(t) while the style encoder is trained")


PAPER: dict[str, Any] = dict(
    image_size=64, load_size=76, batch_size=64, halve_epochs=100, epochs=1_300, captions_averaged=4,
    mismatch="other_class",
)  # fmt: skip
SMALL: dict[str, Any] = dict(
    batch_size=16, width=32, d_width=32, gan_steps=6_000, steps=9_000, halve_epochs=5, sample_every=500,
    checkpoint_every=250, keep_every=500,
)  # fmt: skip

PRESETS = {
    # GAN-INT-CLS of the paper: 64x64, batch 64, 600 epochs, Adam 2e-4 halved every 100; then the style encoder.
    # Differs: how long the paper trains the style encoder it does not say; 700 epochs are about the 100,000 steps of
    # H. Dong's code. --interpolation_weight=0 is GAN-CLS.
    "reed_cub": Config(**PAPER, sentences=BIRD_SENTENCES),
    "reed_oxford102": Config(**PAPER),
    # The same objectives for modest hardware. Differs: a quarter of G's width and half of D's, batch 16, and the steps
    # that some hours of two CPU cores give.
    "reed_cub_small": Config(**PAPER | SMALL, sentences=BIRD_SENTENCES),
    "reed_oxford102_small": Config(**PAPER | SMALL),
    # Differs: as the small ones, to draw the demo's flowers in half an hour of two CPU cores; fewer numbers of noise,
    # which the style encoder then finds sooner; one caption, because those of a drawing say the same.
    "reed_demo": Config(
        **PAPER | SMALL | dict(
            width=16, style_size=32, captions_averaged=1, learning_rate=4e-4, halve_epochs=8, gan_steps=3_000,
            steps=4_500, sample_every=250, keep_every=0,
        )
    ),
}  # fmt: skip
