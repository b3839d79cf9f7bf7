"""The number formats a .tflite is made in. Each conversion is a process of its own: a converter may crash.

python -m export.variants VARIANT SOURCE OUT [SAMPLES.npz]
"""

import importlib.util
import os
import sys

from simgan_tf.system import commands

SIGNATURES = ("embed", "edit", "manipulate")
VARIANTS = {  # name -> what it is, for people
    "float32": "as trained",
    "float16": "weights in 16 bits, computed in float32",
    "dynamic_int8": "weights in int8, activations brought to int8 while running",
    "weight_int8": "weights in int8, computed in float32",
    "int8": "weights and all that the picture flows through in int8, ranges from training pictures; the sentence as in "
            "dynamic_int8",
}  # fmt: skip
CALIBRATED = ("int8",)  # need training pictures
FROM_FLOAT = ("weight_int8", "int8")  # made out of the float32 .tflite; the others out of the SavedModel


def chosen(wanted: list[str] | None, tflite: bool, records: bool) -> list[str]:
    """The variants to make: `wanted`; None = all that can be made, and none without tflite.

    Those of CALIBRATED need records, those of FROM_FLOAT the quantizer.

    Raises: ValueError for an unknown variant, one that needs what is not there, or any where no .tflite is wanted.
    """
    quantizer = importlib.util.find_spec("litert_quantizer") is not None
    if wanted is None:
        possible = [name for name in VARIANTS if (records or name not in CALIBRATED)]
        return [name for name in possible if tflite and (quantizer or name not in FROM_FLOAT)]
    names = ",".join(wanted)
    if not wanted or not set(wanted) <= set(VARIANTS):
        raise ValueError(f"variants={names!r} must be one or more of {', '.join(VARIANTS)}.")
    if not tflite:
        raise ValueError(f"variants={names} are kinds of .tflite: add tflite to --formats, or leave --variants out.")
    needing = [name for name in wanted if name in CALIBRATED and not records]
    if needing:
        raise ValueError(f"variants={needing[0]} takes its ranges from training pictures: give --records_dir too.")
    unmakable = [name for name in wanted if name in FROM_FLOAT and not quantizer]
    if unmakable:
        raise ValueError(
            f'variants={unmakable[0]} needs the quantizer, which is not installed: pip install "simgan-tf[device]"'
        )
    return wanted


def convert(variant: str, source: str, out: str, samples: str | None = None) -> None:
    """Writes the .tflite `out`, of built-in operations only, in a process of its own.

    source: for FROM_FLOAT a float32 .tflite of `convert`, else a SavedModel with SIGNATURES.
    samples: for CALIBRATED, an .npz as `quantise.activation_ranges` takes it.
    Raises: ValueError with the process's last line, or the signal that ended it.
    """
    done, last = commands.start("export.variants", variant, source, out, *([samples] if samples else []))
    if done.returncode or not os.path.isfile(out):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ValueError(f"TFLite {variant}: the conversion ended with {how}: {last}; not exported.")


def from_saved_model(variant: str, source: str) -> bytes:
    """float32, float16 or dynamic_int8, by TensorFlow's own converter."""
    commands.start_tensorflow()
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(source, signature_keys=list(SIGNATURES))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def main(variant: str, source: str, out: str, samples: str | None = None) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if variant in FROM_FLOAT:
        from export import quantise

        with open(source, "rb") as file:
            model = file.read()
        converted = quantise.static_int8(model, samples) if variant == "int8" else quantise.weights_int8(model)
    else:
        converted = from_saved_model(variant, source)
    with open(out, "wb") as file:
        file.write(converted)


if __name__ == "__main__":
    main(*sys.argv[1:])
