"""SIMGAN's own numbers and its presets: the paper's two trainings, others for modest hardware."""

import dataclasses
from typing import Any, ClassVar

from simgan_tf.configs.base import BIRD_SENTENCES, Base, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of SIMGAN, completely."""

    method: ClassVar[str] = "simgan"

    # Generator (paper: 3 convolutions, 16 residual units of 2 convolutions, 2 transposed convolutions)
    width: int = setting(64, "channels after G's first convolution; the next have 2x and 4x; A2", least=1, most=2048)
    units: int = setting(16, "residual units of G; paper", most=100)
    ca_size: int = setting(128, "Z, dimensions of the conditioning code; A18", least=1, most=65536)
    # Discriminator (paper: 8 convolutions)
    d_width: int = setting(
        64, "channels after D's first convolution; doubled at each stage up to 8x; A10", least=1, most=2048
    )
    text_size: int = setting(128, "dimensions D reduces phi(t) to; A12", least=1, most=65536)
    # Objective (Eq. 4)
    adversarial_weight: float = setting(1.0, "lambda_a, weight of D's terms and of G's adversarial one; paper")
    cycle_weight: float = setting(10.0, "lambda_c, weight of the way back; paper")
    kl_weight: float = setting(1.0, "lambda_ca, weight of the conditioning code's KL; paper")
    # Additions, which the paper does not have and its presets leave off
    decoder: str = setting(
        "transposed",
        "how G doubles its size; resize = nearest and a 3x3 convolution, without a checkerboard; paper: transposed; A7",
        choices=("transposed", "resize"),
    )
    image_skip: str = setting(
        "none",
        "detail: the picture's fine lightness is added to G's last convolution, so that G learns the colours and need "
        "not draw every edge anew; paper: none",
        choices=("none", "detail"),
    )
    dilation: int = setting(
        1, "places from one element of a residual unit's kernel to the next: with 2, G sees twice as far; paper: 1",
        least=1, most=16,
    )  # fmt: skip
    own_text: float = setting(
        0.0, "share of a batch edited by its own sentence and held to stay as it is; paper: none; A17"
    )
    outlined: str = setting(
        "none",
        "which network of simgan_tf.evaluation.outlines finds the object: G's picture is laid over the source there "
        "alone, and D sees the object alone; paper: none",
        choices=("none", "birds", "flowers", "flowers2"),
    )
    looks: int = setting(
        1,
        "pictures that D looks at for each one that G edits: a batch of 64 with looks=4 costs little more than one of "
        "16; paper: 1",
        least=1,
    )
    d_alone: int = setting(
        0, "first steps in which D alone learns, where G comes from another run and D does not; paper: 0"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.looks:
            raise ValueError(f"looks={self.looks} must divide batch_size={self.batch_size}.")
        if self.own_rows >= self.batch_size // self.looks:
            raise ValueError(f"own_text={self.own_text} leaves no picture of a batch to edit; it must be below 1.")

    @property
    def own_rows(self) -> int:
        """Pictures of a batch that are edited by their own sentence: the first of the edited ones."""
        return round(self.own_text * self.batch_size / self.looks)


# Parts of presets.
SMALL: dict[str, Any] = dict(
    image_size=64, load_size=76, width=32, units=6, d_width=32, steps=6_000, halve_epochs=5, sample_every=500,
    checkpoint_every=250, keep_every=500,
)  # fmt: skip
LARGER: dict[str, Any] = dict(image_size=128, load_size=152)
SHIPPED: dict[str, Any] = dict(
    image_skip="detail", decoder="resize", own_text=0.25, cycle_weight=3.0, kl_weight=0.1, ema_decay=0.999,
    learning_rate=3e-4,
)

PRESETS = {
    # The paper's two trainings: 256x256, batch 16, 600 epochs, Adam 2e-4 halved every 50, weights 1/10/1.
    "simgan_cub": Config(sentences=BIRD_SENTENCES),
    "simgan_oxford102": Config(),
    # The paper's training at its size with SISGAN's widths (A2).
    "simgan_sis_wide": Config(width=128),
    # The paper's objective for modest hardware. Differs: 64x64 or 128x128, half the width, 6 units instead of 16: two
    # CPU cores give 20 to 40 images of 64x64 a second, and a quarter of that at 128x128; D has 6 or 7 convolutions
    # instead of 8: it halves down to 4x4 in fewer stages; the 600 epochs, halved every 50, become the steps that some
    # hours give, halved every few epochs.
    "simgan_oxford102_64": Config(**SMALL),
    "simgan_cub_64": Config(**SMALL, sentences=BIRD_SENTENCES),
    "simgan_oxford102_128": Config(**SMALL | LARGER),
    "simgan_cub_128": Config(**SMALL | LARGER, sentences=BIRD_SENTENCES),
    # What the models in simgan_tf/pretrained take, but for lambda_c and lambda_ca, which the cards there have stage by
    # stage. Differs: image_skip, because a G that has minutes to learn otherwise spends them on drawing edges anew;
    # decoder, because transposed convolutions leave a checkerboard; lambda_c of 3, because at 10 a G that has learnt to
    # keep details changes colours less and less; own_text and a tenth of lambda_ca, as in simgan_demo; ema_decay; a
    # higher rate, because there are few epochs. docs/history.md has what each of them did.
    "simgan_oxford102_64_shipped": Config(**SMALL | SHIPPED),
    "simgan_cub_64_shipped": Config(**SMALL | SHIPPED | {"halve_epochs": 8}, sentences=BIRD_SENTENCES),
    "simgan_oxford102_128_shipped": Config(**SMALL | LARGER | SHIPPED),
    "simgan_cub_128_shipped": Config(**SMALL | LARGER | SHIPPED | {"halve_epochs": 8}, sentences=BIRD_SENTENCES),
    # Differs: 64x64, a quarter of the width and 4 units, to fit `make demo` on two CPU cores, D as above; twice the
    # rate, halved every 4 epochs, because there are 8 epochs, not 600; own_text, because the demo's backgrounds do not
    # go with its flowers, so that nothing else says which way round a background is right; a tenth of lambda_ca,
    # because at 1 the codes of two colours stay about two sigma apart, and the noise alone turns one into the other.
    "simgan_demo": Config(
        image_size=64,
        load_size=76,
        width=16,
        units=4,
        d_width=32,
        own_text=0.25,
        kl_weight=0.1,
        learning_rate=4e-4,
        halve_epochs=4,
        steps=2_000,
        sample_every=250,
        checkpoint_every=250,
    ),
}
