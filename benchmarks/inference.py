"""Seconds of one edit by the generator, and its share of the machine's matrix-product peak.

python -m benchmarks.inference [--peer=torch] [--case=256,64,1] [--precision=float32]

One JSON line for a case (image_size, width, batch) and precision: G of 16 units and an embedding of 1024, with random
weights. Ours is measured as Editor runs it ("live"), as it trains ("model", batch norm by its moving statistics, in a
graph) and as SavedModels in a Session, as TensorFlow Serving runs them: "unfolded", and "folded", as it is exported,
with batch norm inside the convolutions, which with --precision=mixed_bfloat16 are bfloat16's. With --peer=torch the
same generator in PyTorch, eager and compiled, takes turns with these. `ratio` is the best of PyTorch's times over ours,
folded; PyTorch is no requirement: pip install torch.
"""

import functools
import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from benchmarks import train_step, turns
from benchmarks.train_step import CASES, EMBEDDING, PRECISIONS, arrays, config_of, text_encoder
from simgan_tf.system import commands

OURS = ("folded", "unfolded", "model", "live")
PEERS = {"eager": False, "compiled": True}


def define_flags() -> None:
    flags.DEFINE_enum("peer", "none", ["none", "torch"], "What to compare with.")
    flags.DEFINE_multi_enum("case", list(CASES), CASES, "image_size,width,batch.")
    flags.DEFINE_multi_enum("precision", list(PRECISIONS), PRECISIONS, "Of the convolutions.")
    flags.DEFINE_integer("rounds", 5, "Turns of each side.", lower_bound=1)
    flags.DEFINE_float("seconds", 3.0, "Length of one turn; two edits at the least.", lower_bound=0.0)
    flags.DEFINE_string("side", "", "Internal: be a worker, ours or torch.")


class Ours(train_step.Ours):
    """Answers of the worker that runs our generator."""

    def edit(self, case: str, precision: str, how: str, seconds: float) -> list[float]:
        return turns.times(self._calls(case, precision)[how], seconds)

    def operations(self, case: str, precision: str) -> int:
        self._calls(case, precision)
        return self.work

    @functools.lru_cache(maxsize=1)  # noqa: B019 - the worker lives as long as its process
    def _calls(self, case: str, precision: str) -> dict[str, Callable[[], np.ndarray]]:
        import tensorflow as tf

        from export import saved_model
        from simgan_tf import estimate, folding
        from simgan_tf.methods.simgan import SIMGAN
        from simgan_tf.system.quiet import quiet

        batch = arrays(case)
        inputs = {name: batch[name] for name in ("image", "mismatching", "noise")}
        method = SIMGAN(config_of(case, precision), text_encoder(EMBEDDING))
        folded = folding.Folded(method.network, tf.float32 if precision == "float32" else tf.bfloat16)
        specs = [tf.TensorSpec(array.shape, tf.float32, name) for name, array in inputs.items()]
        model, tensors = tf.function(method.edit, autograph=False), [tf.constant(array) for array in inputs.values()]
        self.work = 2 * estimate.multiply_adds(model.get_concrete_function(*tensors).graph)
        calls = {"model": lambda: model(*tensors).numpy(), "live": lambda: method.edit(*tensors).numpy()}
        for how, edit, weights in (
            ("folded", functools.partial(method.edit, network=folded), []),
            ("unfolded", method.edit, method.variables()[method.part]),
        ):
            module, exported = tf.Module(), tf.function(edit, input_signature=specs, autograph=False)
            module.weights = weights
            with tempfile.TemporaryDirectory() as scratch, quiet():
                saved_model.save(module, os.path.join(scratch, "model"), {"edit": exported})
                session = tf.compat.v1.Session(graph=tf.Graph())
                with session.graph.as_default():
                    loaded = tf.compat.v1.saved_model.load(session, ["serve"], os.path.join(scratch, "model"))
            signature = loaded.signature_def["edit"]
            (output,) = signature.outputs.values()
            run = session.make_callable(output.name, [signature.inputs[spec.name].name for spec in specs])
            calls[how] = lambda run=run: run(*inputs.values())
        for call in calls.values():
            call(), call()
        return calls


class Torch(train_step.Torch):
    """Answers of the worker that runs the same generator in PyTorch."""

    def edit(self, case: str, precision: str, how: str, seconds: float) -> list[float]:
        return turns.times(self._calls(case, precision)[how], seconds)

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _calls(self, case: str, precision: str) -> dict[str, Callable[[], np.ndarray]]:
        import torch

        from benchmarks import torch_simgan

        batch = arrays(case)
        inputs = [torch_simgan.as_images(batch["image"])]
        inputs += [torch.from_numpy(batch[name]) for name in ("mismatching", "noise")]
        calls = {}
        for how, compiled in PEERS.items():
            method = torch_simgan.SIMGAN(config_of(case), EMBEDDING, precision, compiled)
            method.generator.eval()
            calls[how] = lambda method=method: method.edit(*inputs).numpy()
        for call in calls.values():
            call(), call()
        return calls


def main(argv: list[str]) -> None:
    train_step.run(Ours, Torch, measure)


def measure(case: str, precision: str, peer: str, rounds: int, seconds: float) -> dict[str, Any]:
    about = turns.machine()
    workers = {"ours": turns.Worker("benchmarks.inference", "ours")}
    question = {"verb": "edit", "case": case, "precision": precision}
    sides = [(how, workers["ours"], {**question, "how": how}) for how in OURS]
    if peer != "none":
        workers[peer] = turns.Worker("benchmarks.inference", peer)
        sides += [(how, workers[peer], {**question, "how": how}) for how in PEERS]
    operations = workers["ours"].ask(**{**question, "verb": "operations"})
    times, peak = turns.compare(sides, precision, rounds, seconds)
    medians = {name: statistics.median(turn) for name, turn in times.items()}
    count = int(case.split(",")[2])
    line = {
        "benchmark": "inference",
        "image_size": config_of(case).image_size,
        "width": config_of(case).width,
        "batch_size": count,
        "precision": precision,
        "images_per_second": round(count / medians["folded"], 3),
        "seconds": {name: round(median, 4) for name, median in medians.items()},
        "range": {name: [round(min(turn), 4), round(max(turn), 4)] for name, turn in times.items()},
        "operations": operations,
        "gflops": round(operations / medians["folded"] / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(operations / medians["folded"] / peak, 3),
    }
    if peer != "none":
        line["ratio"] = round(min(medians[how] for how in PEERS) / medians["folded"], 3)
    return line | {"rounds": rounds, **about}


if __name__ == "__main__":
    commands.run(main, define_flags)
