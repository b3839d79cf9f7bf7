"""Milliseconds an edit by the live model and by SavedModels: batch norm folded or not, float32 or bfloat16.

python -m benchmarks.saved_model [--size=256 --width=64 --units=16]

One JSON line. Random weights. "live" is the model as Editor runs it; the others are written as SavedModels and run by
the classic Session, as a server does it. Batch 1; they take turns. times_as_fast is the median over the rounds of the
first side's time divided by this side's time in the same round: what slows the machine for a while slows both.
"""

import functools
import json
import os
import statistics
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks.train_step import text_encoder
from simgan_tf.configs.simgan import Config
from simgan_tf.system import commands

SIDES = ("live", "unfolded float32", "folded float32", "folded bfloat16")


def define_flags() -> None:
    flags.DEFINE_integer("size", 256, "Picture size.", lower_bound=16)
    flags.DEFINE_integer("width", 64, "Config.width.", lower_bound=1)
    flags.DEFINE_integer("units", 16, "Config.units.", lower_bound=0)
    flags.DEFINE_integer("rounds", 9, "Edits of each generator; the first one is not counted.", lower_bound=2)
    flags.DEFINE_list("sides", list(SIDES), f"What to time: any of {', '.join(SIDES)}.")


def processor() -> dict[str, object]:
    """Cores and the instructions that decide how fast bfloat16 is."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        known = file.read().split()
    return {"cores": os.cpu_count(), **{name: name in known for name in ("avx512f", "avx512_bf16", "amx_bf16")}}


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    if not values.sides or not set(values.sides) <= set(SIDES):
        raise ValueError(f"--sides={','.join(values.sides)!r} must be one or more of {', '.join(SIDES)}.")
    commands.start_tensorflow()
    import tensorflow as tf

    from export import saved_model
    from simgan_tf import folding
    from simgan_tf.methods.simgan import SIMGAN
    from simgan_tf.system.quiet import quiet

    config = Config(image_size=values.size, load_size=values.size, width=values.width, units=values.units)
    method = SIMGAN(config, text_encoder(300))
    draw = np.random.default_rng(0)
    image = draw.uniform(-1, 1, [1, values.size, values.size, 3]).astype(np.float32)
    embedding = draw.normal(size=[1, 300]).astype(np.float32)
    noise = np.zeros([1, config.ca_size], np.float32)
    builders = {
        "unfolded float32": lambda: (method.variables()[method.part], method.edit),
        "folded float32": lambda: ([], functools.partial(method.edit, network=folding.Folded(method.network))),
        "folded bfloat16": lambda: (
            [], functools.partial(method.edit, network=folding.Folded(method.network, tf.bfloat16))
        ),
    }
    runs = {"live": lambda *inputs: method.edit(*inputs).numpy()} if "live" in values.sides else {}
    with tempfile.TemporaryDirectory() as scratch, quiet():
        for side in (side for side in values.sides if side in builders):
            module = tf.Module()
            module.weights, edit = builders[side]()
            directory = os.path.join(scratch, side.replace(" ", "_"))
            specs = [tf.TensorSpec([None, *array.shape[1:]], tf.float32, name)
                     for name, array in (("image", image), ("embedding", embedding), ("noise", noise))]  # fmt: skip
            saved_model.save(module, directory, {"edit": tf.function(edit, input_signature=specs, autograph=False)})
            session = tf.compat.v1.Session(graph=tf.Graph())
            with session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def["edit"]
            (output,) = loaded.outputs.values()
            runs[side] = session.make_callable(output.name, [loaded.inputs[spec.name].name for spec in specs])
    seconds = {side: [] for side in runs}
    for _ in range(values.rounds):
        for side, run in runs.items():
            began = time.perf_counter()
            run(image, embedding, noise)
            seconds[side].append(time.perf_counter() - began)
    seconds = {side: times[1:] for side, times in seconds.items()}
    base = next(iter(seconds.values()))
    ratios = {side: [first / own for first, own in zip(base, times, strict=True)] for side, times in seconds.items()}
    line = {
        "benchmark": "saved_model",
        "image_size": values.size,
        "width": values.width,
        "units": values.units,
        "milliseconds": {side: round(1000 * statistics.median(times)) for side, times in seconds.items()},
        "range": {side: [round(1000 * min(times)), round(1000 * max(times))] for side, times in seconds.items()},
        "times_as_fast": {side: round(statistics.median(times), 3) for side, times in ratios.items()},
        "n": values.rounds - 1,
        "processor": processor(),
        "tensorflow": tf.__version__,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    commands.run(main, define_flags)
