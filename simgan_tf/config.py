"""Every number of the paper and of its presets, one field a number; flags and config.json are made from the fields.
Knows no TensorFlow, so that a wrong flag fails before TensorFlow starts."""

import dataclasses
import json
import math
import os
import typing
from typing import Any

from absl import flags

from simgan_tf import files

FLOWER_SENTENCES = (
    "this flower has red petals with a yellow center",
    "this flower has bright yellow petals",
    "this flower has purple petals",
    "this flower has white petals and a yellow center",
    "the petals of this flower are pink",
    "this flower has orange petals",
)
BIRD_SENTENCES = (
    "this bird is red with black wings",
    "this is a bright yellow bird with a short black bill",
    "this bird has a blue crown and a white belly",
    "this bird is all black",
    "this small bird is brown with white spots",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training, completely. The defaults are the paper's own values where it gives one (marked `paper`), and
    otherwise the default of the ambiguity it leaves open (A1, A2 ... are listed in docs/ambiguities.md)."""

    method: str = "simgan"  # simgan_tf/methods
    # Pictures
    image_size: int = 256  # pixels, square; paper
    load_size: int = 304  # pixels, shorter side before the random crop; the relatives' 76/64, section "augmentation"
    flip: bool = True  # mirror half of the training pictures
    rotate_degrees: float = 0.0  # largest rotation of a training picture, either way; relatives 0, 10 or 16
    # Generator (paper: 3 convolutions, 16 residual units of 2 convolutions, 2 transposed convolutions)
    width: int = 64  # channels after the first convolution; the next have 2x and 4x; A2
    units: int = 16  # residual units; paper
    encoder_kernels: str = "3-4-4"  # or 7-3-3; A1
    fuse: str = "conv_relu"  # convolution after the join: conv_relu, conv, 1x1_relu or none; A4
    residual_relu: bool = True  # ReLU after each residual sum; A5
    trunk_skip: bool = False  # add the encoder's output to the trunk's; A6
    decoder: str = "transposed"  # or resize (nearest + 3x3 convolution); A7
    output: str = "conv3"  # the layer that makes the picture: conv3, conv7, or transposed (the second one); A8
    first_norm: bool = False  # batch norm after the first convolutions of G and D too; A9
    ca_size: int = 128  # Z, dimensions of the conditioning code; A18
    noise: str = "normal"  # or truncated (at two sigma); A21
    # Discriminator (paper: 8 convolutions)
    d_width: int = 64  # channels after its first convolution; doubled at each stage up to 8x; A10
    d_widest: int = 8  # that cap, in units of d_width; 32 = no cap at 256x256; A10
    d_layout: str = "a"  # a: stride-2 convolutions, 1x1 fusion, 4x4 head; b: two 1x1 before the text; c: SRGAN's; A10
    text_size: int = 128  # dimensions D reduces phi(t) to; A12
    # Objective (Eq. 4)
    adversarial_weight: float = 1.0  # lambda_a; paper
    cycle_weight: float = 10.0  # lambda_c; paper
    kl_weight: float = 1.0  # lambda_ca; paper
    mismatched_weight: float = 1.0  # of the mismatching pair inside Eq. 1; paper, 0.5 in the relatives; A14
    edited_weight: float = 1.0  # of the edited pair inside Eq. 1; paper, 0.5 in the relatives; A14
    mismatch: str = "roll"  # the mismatching text: the batch rolled by one, or other_class; A16
    same_mismatch: bool = True  # one mismatching text for G and for D's real pair, as Eq. 1 writes it; A15
    kl_reduction: str = "mean"  # over dimensions: mean or sum; A22
    cycle_code: str = "mean"  # conditioning code of the way back: mean or sampled; A23
    statistics: str = "edited"  # pass of G that feeds its moving statistics: edited or both; A28
    captions_averaged: int = 1  # captions of a picture whose mean is its embedding; 4 in StackGAN
    own_text: float = 0.0  # share of a batch edited by its own sentence and held to stay as it is; paper: none; A17
    # Optimisation
    batch_size: int = 16  # paper
    epochs: int = 600  # paper
    steps: int = 0  # 0 = epochs x floor(training pictures / batch_size)
    learning_rate: float = 2e-4  # Adam, both networks; paper
    halve_epochs: int = 50  # epochs; 0 = never; paper
    beta1: float = 0.5  # A26
    beta2: float = 0.999
    adam_epsilon: float = 1e-8  # TensorFlow 1's
    precision: str = "float32"  # or mixed_bfloat16
    seed: int = 0
    # Housekeeping, in steps; 0 = never
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    sentences: tuple[str, ...] = FLOWER_SENTENCES  # columns of the sample sheet

    def __post_init__(self) -> None:
        for name, accepted in CHOICES.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, accepted))}.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name}={value} must be a finite number.")
        size = self.image_size
        if size < 16 or size & (size - 1):
            raise ValueError(
                f"image_size={size} must be a power of two from 16: the discriminator halves it down to 4x4 and the "
                f"generator's two stride-2 stages must come back to it; try {max(16, 1 << (size.bit_length() - 1))}."
            )
        if self.load_size < size:
            raise ValueError(
                f"load_size={self.load_size} is below image_size={size}: nothing to crop from; try "
                f"{round(size * 76 / 64)}."
            )
        if self.d_layout == "c" and size < 64:
            raise ValueError(
                f"d_layout='c' halves the picture four times before a dense layer and needs image_size >= "
                f"64, not {size}; use d_layout='a'."
            )
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size={self.batch_size}: the mismatching text comes from another picture of the "
                "batch, so at least 2 are needed."
            )
        if self.batch_size < 3 and not self.same_mismatch:
            raise ValueError("same_mismatch=False needs two other pictures in a batch: batch_size=3 or more, not 2.")
        for name, highest in (("rotate_degrees", 180), ("seed", 2**31 - 1), ("beta1", 0.9999), ("beta2", 0.999999)):
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to {highest}.")
        for name in ("width", "d_width", "d_widest", "ca_size", "text_size", "captions_averaged", "keep_checkpoints",
                     "learning_rate"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")
        if round(self.own_text * self.batch_size) >= self.batch_size:
            raise ValueError(f"own_text={self.own_text} leaves no picture of a batch to edit; it must be below 1.")
        if self.steps == 0 and self.epochs == 0:
            raise ValueError("steps=0 and epochs=0: nothing to train; set one of them.")
        if not self.sentences or not all(sentence.strip() for sentence in self.sentences):
            raise ValueError(
                f"sentences={list(self.sentences)}: the sample sheet needs at least one, none of them empty."
            )


CHOICES = {
    "method": ("simgan",),
    "encoder_kernels": ("3-4-4", "7-3-3"),
    "fuse": ("conv_relu", "conv", "1x1_relu", "none"),
    "decoder": ("transposed", "resize"),
    "output": ("conv3", "conv7", "transposed"),
    "noise": ("normal", "truncated"),
    "d_layout": ("a", "b", "c"),
    "mismatch": ("roll", "other_class"),
    "kl_reduction": ("mean", "sum"),
    "cycle_code": ("mean", "sampled"),
    "statistics": ("edited", "both"),
    "precision": ("float32", "mixed_bfloat16"),
}
NOT_NEGATIVE = (
    "units",
    "adversarial_weight",
    "cycle_weight",
    "kl_weight",
    "mismatched_weight",
    "edited_weight",
    "epochs",
    "steps",
    "halve_epochs",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "own_text",
)
# What a second call of run_train.py may change in a run directory; everything else would make it another run.
CHANGEABLE = ("epochs", "steps", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints", "sentences")

PRESETS = {
    # The paper's two trainings: 256x256, batch 16, 600 epochs, Adam 2e-4 halved every 50, weights 1/10/1.
    "simgan_cub": Config(sentences=BIRD_SENTENCES),
    "simgan_oxford102": Config(),
    # Other readings of the paper, at its size: SISGAN's widths (A2); the other two discriminators (A10).
    "simgan_sis_wide": Config(width=128),
    "simgan_d_b": Config(d_layout="b"),
    "simgan_d_c": Config(d_layout="c"),
    # Differs: 64x64, half the width, 6 units instead of 16, because two CPU cores give about 30 of these images a
    # second; D has 6 convolutions instead of 8, because 64 is halved to 4 in two stages fewer.
    "simgan_oxford102_64": Config(
        image_size=64,
        load_size=76,
        width=32,
        units=6,
        d_width=32,
        steps=6_000,
        halve_epochs=5,
        sample_every=500,
        checkpoint_every=250,
    ),
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


def define_flags(**to: flags.FlagValues) -> None:
    """Defines --preset and one flag a field of Config, all unset, so that only what was typed overrides the preset."""
    flags.DEFINE_enum("preset", None, sorted(PRESETS), "Named configuration to start from.", required=True, **to)
    for field in dataclasses.fields(Config):
        described = f"Config.{field.name}; see simgan_tf/config.py. Paper's value: {field.default!r}."
        if field.name in CHOICES:
            flags.DEFINE_enum(field.name, None, CHOICES[field.name], described, **to)
        elif field.type in (bool, "bool"):
            flags.DEFINE_boolean(field.name, None, described, **to)
        elif field.type in (int, "int"):
            flags.DEFINE_integer(field.name, None, described, **to)
        elif field.type in (float, "float"):
            flags.DEFINE_float(field.name, None, described, **to)
        elif field.name == "sentences":
            flags.DEFINE_multi_string(
                field.name, None, "A column of the sample sheet; repeat the flag for several.", **to
            )
        else:
            flags.DEFINE_string(field.name, None, described, **to)


def from_flags(values: flags.FlagValues) -> Config:
    """The preset named by --preset with every field that was typed on top. Raises: ValueError for a bad value."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        value = values[field.name].value
        if value is not None:
            given[field.name] = tuple(value) if typing.get_origin(field.type) is tuple else value
    return dataclasses.replace(PRESETS[values.preset], **given)


def save(config: Config, run_dir: str, **facts: Any) -> None:
    """Writes run_dir/config.json: the config, and `facts` (dataset, command) beside it."""
    content = json.dumps({"config": dataclasses.asdict(config), **facts}, indent=2)
    files.write_text(os.path.join(run_dir, "config.json"), content + "\n")


def load(run_dir: str) -> tuple[Config, dict[str, Any]]:
    """The config of a run directory and the facts beside it.

    Raises: FileNotFoundError where no run is; ValueError where config.json is damaged or of another version.
    """
    path = os.path.join(run_dir, "config.json")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{run_dir!r} is no run directory: it has no config.json. Train one: python run_train.py "
            f"--preset=simgan_demo --records_dir=... --run_dir={run_dir}"
        )
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
        values = facts.pop("config")
        values["sentences"] = tuple(values["sentences"])
        return Config(**values), facts
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a config of this version ({error}); choose another --run_dir.") from None
