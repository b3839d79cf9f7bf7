"""The numbers of a reconstruction of CCGAN, of which neither code nor text is at hand, and its presets."""

import dataclasses
from typing import ClassVar

from simgan_tf.configs.base import BIRD_SENTENCES, Base, setting
from simgan_tf.configs.sisgan import DEMO, PAPER, SMALL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of the reconstruction of CCGAN, completely."""

    method: ClassVar[str] = "ccgan"

    # Generators
    width: int = setting(128, "channels after a G's first convolution; the next have 2x and 4x", least=1)
    units: int = setting(4, "residual units of a G", most=100)
    code_size: int = setting(128, "dimensions that a G reduces phi(t) to", least=1)
    # Discriminators
    d_width: int = setting(64, "channels after a D's first convolution; doubled at each stage up to 8x", least=1)
    text_size: int = setting(128, "dimensions that a D reduces phi(t) to", least=1)
    # Objective
    cycle_weight: float = setting(10.0, "weight of the way back")


PRESETS = {
    # Reconstruction. 64x64 as in SIMGAN's table 1; batch, rate and schedule are SISGAN's.
    "ccgan_cub": Config(**PAPER, sentences=BIRD_SENTENCES),
    "ccgan_oxford102": Config(**PAPER),
    # Reconstruction, for modest hardware. Differs: a quarter of the generators' width and half of the discriminators',
    # batch 16, and the steps that some hours of two CPU cores give; a higher rate, because there are few; a lower
    # weight of the way back, because a G that has learnt to keep everything changes little; and the average of G's
    # weights.
    "ccgan_cub_small": Config(**PAPER | SMALL, cycle_weight=3.0, sentences=BIRD_SENTENCES),
    "ccgan_oxford102_small": Config(**PAPER | SMALL, cycle_weight=3.0),
    # Reconstruction, for the demo's drawings. Differs: as the small ones at half of the generators' width; twice the
    # rate of SISGAN's paper, halved every 4 epochs; no average.
    "ccgan_demo": Config(**PAPER | SMALL | DEMO, cycle_weight=3.0),
}  # fmt: skip
