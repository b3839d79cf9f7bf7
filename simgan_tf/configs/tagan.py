"""TAGAN's own numbers and its presets: the paper's two trainings, others for modest hardware."""

import dataclasses
from typing import Any, ClassVar

from simgan_tf.configs.base import BIRD_SENTENCES, Base, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of TAGAN, completely. `paper` marks the values of its authors' code."""

    method: ClassVar[str] = "tagan"

    # Words
    word_size: int = setting(
        0, "numbers that a word becomes, learned by G and D each for itself; 0 = phi's word vectors, left as they are; "
        "paper: fastText's, left as they are",
    )  # fmt: skip
    hidden_size: int = setting(512, "numbers that G's and D's own GRUs make of a word in its sentence; paper", least=1)
    # Generator
    width: int = setting(64, "channels after G's first convolution; the next have 2x, 4x and 8x; paper", least=1)
    units: int = setting(4, "residual units of G; paper", most=100)
    ca_size: int = setting(128, "Z, dimensions of the conditioning code; paper", least=1)
    text_scale: float = setting(
        1.0, "factor on the sentence's vector that G makes its code of, small beside the code's noise; paper: 1",
        least=1e-3,
    )  # fmt: skip
    # Discriminator
    d_width: int = setting(64, "channels after D's first convolution; doubled at each stage up to 8x; paper", least=1)
    # Objective
    conditional_weight: float = setting(10.0, "lambda_1, weight of how well the words fit the picture; paper")
    reconstruction_weight: float = setting(
        0.2, "lambda_2, weight of the distance of a picture edited by its own sentence to itself; paper"
    )
    kl_weight: float = setting(0.5, "weight of the conditioning code's KL, in each of G's two passes; paper")


PAPER: dict[str, Any] = dict(image_size=128, load_size=136, rotate_degrees=10.0, batch_size=64, halve_epochs=100)
SMALL: dict[str, Any] = dict(
    batch_size=16, hidden_size=256, width=24, d_width=32, steps=6_000, halve_epochs=5, sample_every=500,
    checkpoint_every=250, keep_every=500, text_scale=32.0, conditional_weight=3.0, reconstruction_weight=10.0,
    kl_weight=0.05, ema_decay=0.999,
)  # fmt: skip
AT_64: dict[str, Any] = dict(image_size=64, load_size=68)

PRESETS = {
    # TAGAN's two trainings: 128x128, batch 64, 600 epochs, Adam 2e-4 halved every 100.
    "tagan_cub": Config(**PAPER, sentences=BIRD_SENTENCES),
    "tagan_oxford102": Config(**PAPER),
    # The same networks and objective at 64x64, to stand beside SISGAN and CCGAN. Differs: D has one stage less, and
    # looks at the words on maps of 16x16, 8x8 and 4x4 places as at 128x128.
    "tagan_cub_64": Config(**PAPER | AT_64, sentences=BIRD_SENTENCES),
    "tagan_oxford102_64": Config(**PAPER | AT_64),
    # The same objective for modest hardware. Differs: 3/8 of G's width and half of the others, batch 16, and the steps
    # that some hours of two CPU cores give in place of 600 epochs; text_scale, lambda_1 of 3 and lambda_2 of 10,
    # because with 1, 10 and 2 the demo's G had heard no word and forgotten the picture after 100 steps, and with these
    # it had not; a tenth of the KL's weight, because at more the noise of the code is as wide as the distance of
    # two colours (as in simgan_demo); and the average of G's weights.
    "tagan_cub_small": Config(**PAPER | AT_64 | SMALL, sentences=BIRD_SENTENCES),
    "tagan_oxford102_small": Config(**PAPER | AT_64 | SMALL),
    "tagan_cub_128_small": Config(**PAPER | SMALL, sentences=BIRD_SENTENCES),
    "tagan_oxford102_128_small": Config(**PAPER | SMALL),
    # Differs: as the small ones, G at a quarter of the paper's width and the GRUs at an eighth, to learn the demo's
    # drawings in half an hour of two CPU cores, and no rotation; twice the paper's rate, halved every 8 epochs, because
    # there are few; a shorter average.
    "tagan_demo": Config(
        **PAPER | AT_64 | SMALL | dict(
            rotate_degrees=0.0, hidden_size=64, width=16, ema_decay=0.99, learning_rate=4e-4, halve_epochs=8,
            steps=2_655, sample_every=250, keep_every=0,
        )
    ),
}  # fmt: skip
