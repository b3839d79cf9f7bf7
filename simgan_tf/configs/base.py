"""Every number of the paper and of its presets, one field a number; flags and config.json are made from the fields.
Knows no TensorFlow, so that a wrong flag fails before TensorFlow starts."""

import dataclasses
import json
import math
import os
import typing
from typing import Any

from absl import flags

from simgan_tf.system import files

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


def setting(default: Any, meaning: str) -> Any:
    """A field of Config: its default, and what it is in the words of its flag's --help."""
    return dataclasses.field(default=default, metadata={"help": meaning})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training, completely. The defaults are the paper's own values where it gives one (marked `paper`), and
    otherwise the default of the ambiguity it leaves open (A1, A2 ... are listed in docs/ambiguities.md)."""

    method: str = setting("simgan", "system to train, one of simgan_tf/methods")
    # Pictures
    image_size: int = setting(256, "pixels, square; paper")
    load_size: int = setting(304, "pixels, shorter side before the random crop; the relatives' 76/64")
    flip: bool = setting(True, "mirror half of the training pictures")
    rotate_degrees: float = setting(0.0, "largest rotation of a training picture, either way; relatives 0, 10 or 16")
    # Generator (paper: 3 convolutions, 16 residual units of 2 convolutions, 2 transposed convolutions)
    width: int = setting(64, "channels after G's first convolution; the next have 2x and 4x; A2")
    units: int = setting(16, "residual units of G; paper")
    encoder_kernels: str = setting("3-4-4", "kernels of G's first three convolutions; A1")
    fuse: str = setting("conv_relu", "G's convolution after the join of picture and text; A4")
    residual_relu: bool = setting(True, "a ReLU after each residual sum; A5")
    trunk_skip: bool = setting(False, "add the encoder's output to the trunk's; A6")
    decoder: str = setting("transposed", "how G doubles its size; resize = nearest and a 3x3 convolution; A7")
    output: str = setting("conv3", "the layer that makes the picture; transposed = G's second doubling itself; A8")
    image_skip: str = setting(
        "none",
        "what of the picture is added to G's last convolution, before the tanh: all of it, so that G learns the "
        "change, or its fine lightness (detail), so that G learns the colours; paper: none",
    )
    first_norm: bool = setting(False, "batch norm after the first convolutions of G and D too; A9")
    ca_size: int = setting(128, "Z, dimensions of the conditioning code; A18")
    noise: str = setting("normal", "epsilon of the conditioning code; truncated = at two sigma; A21")
    # Discriminator (paper: 8 convolutions)
    d_width: int = setting(64, "channels after D's first convolution; doubled at each stage up to 8x; A10")
    d_widest: int = setting(8, "cap of that width, in units of d_width; 32 = no cap at 256x256; A10")
    d_layout: str = setting(
        "a", "D's layers: a = stride-2 convolutions, 1x1 fusion, 4x4 head; b = two 1x1 before it; c = SRGAN's; A10"
    )
    text_size: int = setting(128, "dimensions D reduces phi(t) to; A12")
    # Objective (Eq. 4)
    adversarial_weight: float = setting(1.0, "lambda_a, weight of D's terms and of G's adversarial one; paper")
    cycle_weight: float = setting(10.0, "lambda_c, weight of the way back; paper")
    kl_weight: float = setting(1.0, "lambda_ca, weight of the conditioning code's KL; paper")
    mismatched_weight: float = setting(1.0, "weight of the mismatching pair in Eq. 1; paper, 0.5 in the relatives; A14")
    edited_weight: float = setting(1.0, "weight of the edited pair in Eq. 1; paper, 0.5 in the relatives; A14")
    mismatch: str = setting("roll", "the mismatching text: of the batch's picture before, or of another class; A16")
    same_mismatch: bool = setting(True, "one mismatching text for G and for D's real pair, as Eq. 1 writes it; A15")
    kl_reduction: str = setting("mean", "of the KL over the code's dimensions; A22")
    cycle_code: str = setting("mean", "conditioning code of the way back; A23")
    statistics: str = setting("edited", "passes of G that feed its moving statistics; A28")
    captions_averaged: int = setting(1, "captions of a picture whose mean is its embedding; 4 in StackGAN")
    own_text: float = setting(
        0.0, "share of a batch edited by its own sentence and held to stay as it is; paper: none; A17"
    )
    d_augment: str = setting(
        "none",
        "what is done to every picture D sees, differentiably; shift_cut = moved by up to 1/8, a square half as wide "
        "blanked; paper: none",
    )
    cycle_noise: float = setting(
        0.0, "deviation of normal noise, in units of [-1, 1], on the edited picture before the way back; paper: 0"
    )
    # Optimisation
    batch_size: int = setting(16, "pictures, on all devices together; paper")
    epochs: int = setting(600, "passes over the training pictures; paper")
    steps: int = setting(0, "length of the training; 0 = epochs x floor(training pictures / batch_size)")
    learning_rate: float = setting(2e-4, "Adam's, of both networks; paper")
    d_learning_rate: float = setting(0.0, "Adam's, of D alone; 0 = learning_rate, the paper")
    halve_epochs: int = setting(50, "epochs after which the rate is halved, again and again; 0 = never; paper")
    beta1: float = setting(0.5, "Adam's first momentum; A26")
    beta2: float = setting(0.999, "Adam's second momentum; TensorFlow 1's")
    adam_epsilon: float = setting(1e-8, "Adam's epsilon; TensorFlow 1's")
    precision: str = setting(
        "float32", "of the layers; the weights are float32. auto = mixed_bfloat16 where the hardware gains by it; paper"
    )
    xla: bool = setting(False, "compile the step by XLA; one device alone, and on a CPU many times slower")
    batch_statistics: str = setting(
        "synchronised", "of batch norm on several devices: of the whole batch, or of each replica's share of it"
    )
    ema_decay: float = setting(0.0, "G's weights averaged over steps, to edit with; 0 = off, the paper; 0.999 is usual")
    seed: int = setting(0, "of initial weights, order of the pictures, crops and noise")
    # Housekeeping; 0 = never
    log_every: int = setting(50, "steps from one row of metrics.jsonl and TensorBoard to the next")
    sample_every: int = setting(1000, "steps from one sample sheet to the next")
    checkpoint_every: int = setting(1000, "steps from one checkpoint to the next")
    keep_checkpoints: int = setting(3, "newest checkpoints that stay")
    keep_every: int = setting(0, "steps; the checkpoints of its multiples stay for good")
    sentences: tuple[str, ...] = setting(FLOWER_SENTENCES, "columns of the sample sheet")

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
        for name, highest in (("rotate_degrees", 180), ("seed", 2**31 - 1), ("beta1", 0.9999),
                              ("beta2", 0.999999), ("ema_decay", 0.999999)):  # fmt: skip
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
    "image_skip": ("none", "picture", "detail"),
    "noise": ("normal", "truncated"),
    "d_layout": ("a", "b", "c"),
    "mismatch": ("roll", "other_class"),
    "kl_reduction": ("mean", "sum"),
    "cycle_code": ("mean", "sampled"),
    "statistics": ("edited", "both"),
    "d_augment": ("none", "shift_cut"),
    "precision": ("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    "batch_statistics": ("synchronised", "replica"),
}
NOT_NEGATIVE = (
    "units",
    "adversarial_weight",
    "cycle_weight",
    "kl_weight",
    "mismatched_weight",
    "edited_weight",
    "d_learning_rate",
    "epochs",
    "steps",
    "halve_epochs",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_every",
    "own_text",
    "cycle_noise",
)
# What a second call of run_train.py may change in a run directory; everything else would make it another run.
CHANGEABLE = (
    "epochs",
    "steps",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "sentences",
    "xla",
)

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
    # Other readings of the paper, at its size: SISGAN's widths (A2); the other two discriminators (A10).
    "simgan_sis_wide": Config(width=128),
    "simgan_d_b": Config(d_layout="b"),
    "simgan_d_c": Config(d_layout="c"),
    # The paper's objective for modest hardware. Differs: 64x64 or 128x128, half the width, 6 units instead of 16: two
    # CPU cores give 20 to 40 images of 64x64 a second, and a quarter of that at 128x128; D has 6 or 7 convolutions
    # instead of 8: it halves down to 4x4 in fewer stages; the 600 epochs, halved every 50, become the steps that some
    # hours give, halved every few epochs.
    "simgan_oxford102_64": Config(**SMALL),
    "simgan_cub_64": Config(**SMALL, sentences=BIRD_SENTENCES),
    "simgan_oxford102_128": Config(**SMALL | LARGER),
    "simgan_cub_128": Config(**SMALL | LARGER, sentences=BIRD_SENTENCES),
    # What the models in simgan_tf/pretrained take, but for lambda_c, lambda_ca and the birds' cycle_noise, which the
    # cards there have stage by stage. Differs: image_skip, because a G that has minutes to learn otherwise spends them
    # on drawing edges anew; decoder, because transposed convolutions leave a checkerboard; lambda_c of 3, because at 10
    # a G that has learnt to keep details changes colours less and less; own_text and a tenth of lambda_ca, as in
    # simgan_demo; ema_decay; a higher rate, because there are few epochs. The README's ablation says what each of them
    # does.
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


PRESET_HELP = (
    "Configuration to start from; every flag below changes one number of it. 'paper' marks the paper's values; A1, A2 "
    "... are its open points, see docs/ambiguities.md."
)


def differences(config: Config, preset: Config) -> dict[str, tuple[Any, Any]]:
    """Fields whose values differ: name -> (in `config`, in `preset`)."""
    names = [field.name for field in dataclasses.fields(Config)]
    pairs = {name: (getattr(config, name), getattr(preset, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def define_flags(**to: flags.FlagValues) -> None:
    """Defines --preset and one flag a field of Config, all unset, so that only what was typed overrides the preset."""
    flags.DEFINE_enum("preset", None, sorted(PRESETS), PRESET_HELP, required=True, **to)
    for field in dataclasses.fields(Config):
        described = f"{field.metadata['help']}. Default: {field.default!r}, or the preset's."
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
                field.name, None, f"{field.metadata['help']}; repeat the flag for several.", **to
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
