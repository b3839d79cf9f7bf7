"""The settings that every training has: pictures, optimisation, housekeeping.
Without TensorFlow, so that a wrong flag is refused at once and not after the seconds that TensorFlow takes to start."""

import dataclasses
import math
from typing import Any, ClassVar

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


def setting(
    default: Any,
    meaning: str,
    *,
    least: float = 0,
    most: float = math.inf,
    choices: tuple[str, ...] = (),
    changeable: bool = False,
) -> Any:
    """A field of a configuration, with all that its flag, its check and a resumed run need to know.

    meaning: the words of --help. least, most: of a number, both allowed. choices: of a string.
    changeable: a second call of run_train.py may give another value; with any other field changed it is another run.
    """
    facts = {"help": meaning, "least": least, "most": most, "choices": choices, "changeable": changeable}
    return dataclasses.field(default=default, metadata=facts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """The fields that all methods share; each method's own configuration inherits them.

    The defaults are the paper's own values where it gives one (marked `paper`), and otherwise the default of the
    ambiguity it leaves open (A1, A2 ... are listed in docs/ambiguities.md). Raises: ValueError for a bad value.
    """

    method: ClassVar[str]  # its name in simgan_tf.methods.METHODS

    # Pictures and sentences
    image_size: int = setting(256, "pixels, square; paper", least=16, most=512)
    load_size: int = setting(304, "pixels, shorter side before the random crop; the relatives' 76/64", most=4096)
    flip: bool = setting(True, "mirror half of the training pictures")
    rotate_degrees: float = setting(
        0.0, "largest rotation of a training picture, either way; relatives 0, 10 or 16", most=180
    )
    captions_averaged: int = setting(1, "captions of a picture whose mean is its embedding; 4 in StackGAN", least=1)
    mismatch: str = setting(
        "roll",
        "the mismatching text: of the batch's picture before, or of another class; A16",
        choices=("roll", "other_class"),
    )
    # Optimisation
    batch_size: int = setting(16, "pictures, on all devices together; paper", least=2)
    epochs: int = setting(600, "passes over the training pictures; paper", changeable=True)
    steps: int = setting(
        0, "length of the training; 0 = epochs x floor(training pictures / batch_size)", changeable=True
    )
    learning_rate: float = setting(2e-4, "Adam's, of all networks; paper", least=1e-12)
    halve_epochs: int = setting(50, "epochs after which the rate is halved, again and again; 0 = never; paper")
    beta1: float = setting(0.5, "Adam's first momentum; A26", most=0.9999)
    beta2: float = setting(0.999, "Adam's second momentum; TensorFlow 1's", most=0.999999)
    adam_epsilon: float = setting(1e-8, "Adam's epsilon; TensorFlow 1's")
    ema_decay: float = setting(
        0.0, "weights averaged over steps, to edit with; 0 = off, the paper; 0.999 is usual", most=0.999999
    )
    precision: str = setting(
        "float32",
        "of the layers; the weights are float32. auto = mixed_bfloat16 where the hardware gains by it; paper: float32",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    xla: bool = setting(
        False, "compile the step by XLA; one device alone, and on a CPU many times slower", changeable=True
    )
    seed: int = setting(0, "of initial weights, order of the pictures, crops and noise", most=2**31 - 1)
    # Housekeeping; 0 = never
    log_every: int = setting(50, "steps from one row of metrics.jsonl and TensorBoard to the next", changeable=True)
    sample_every: int = setting(1000, "steps from one sample sheet to the next", changeable=True)
    checkpoint_every: int = setting(1000, "steps from one checkpoint to the next", changeable=True)
    keep_checkpoints: int = setting(3, "newest checkpoints that stay", least=1, changeable=True)
    keep_every: int = setting(0, "steps; the checkpoints of its multiples stay for good", changeable=True)
    sentences: tuple[str, ...] = setting(FLOWER_SENTENCES, "columns of the sample sheet", changeable=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), type(field.default), **field.metadata)
        size = self.image_size
        if size & (size - 1):
            raise ValueError(
                f"image_size={size} must be a power of two from 16: the discriminators halve it down to 4x4; try "
                f"{1 << (size.bit_length() - 1)}."
            )
        if self.load_size < size:
            raise ValueError(
                f"load_size={self.load_size} is below image_size={size}: nothing to crop from; try "
                f"{round(size * 76 / 64)}."
            )
        if self.steps == 0 and self.epochs == 0:
            raise ValueError("steps=0 and epochs=0: nothing to train; set one of them.")
        if not self.sentences or not all(sentence.strip() for sentence in self.sentences):
            raise ValueError(
                f"sentences={list(self.sentences)}: the sample sheet needs at least one, none of them empty."
            )

    def total_steps(self, images: int) -> int:
        """Steps of the whole training: `steps`, or `epochs` over floor(images / batch_size) (A39)."""
        return self.steps or self.epochs * (images // self.batch_size)


def _check(
    name: str, value: Any, kind: type, *, choices: tuple[str, ...], least: float, most: float, **_: Any
) -> None:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name}={ascii(value)[:80]} must be a {kind.__name__}, not a {type(value).__name__}.")
    if kind is tuple and not all(isinstance(part, str) for part in value):
        raise ValueError(f"{name}={str(value)[:80]} must be texts.")
    if choices and value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value} must be a finite number.")
    if isinstance(value, int | float) and not least <= value <= most:
        accepted = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise ValueError(f"{name}={value} must be {accepted}.")
