"""Seconds of one whole training step of SIMGAN, and its share of the machine's matrix-product peak.

python -m benchmarks.train_step [--peer=torch] [--case=64,32,16] [--precision=float32]

One JSON line for a case (image_size, width, batch) and precision: G of 16 units, an embedding of 1024, D as wide as G,
everything else as the paper's preset; the same batch again and again, so that no input is waited for. Operations are
those of convolutions and dense layers in our graph, two for a multiply-add, forward and backward; the peak is that of
the best square matrix product of this run. With --peer=torch the same step in PyTorch, eager and compiled, from one
forward pass of G as ours and from two as the relatives', takes turns with ours; PyTorch is no requirement: pip install
torch. In PyTorch D looks at the real pictures twice, once for the real and once for the mismatching pairs, as Eq. 1 is
usually written; ours looks once, which saves 1 % of a step's operations.
With a batch of 1 there is no other picture to take a mismatching text from (Config refuses to train so). The picture's
own text is used then: the work is the same.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from benchmarks import turns
from simgan_tf.configs.simgan import PRESETS, Config
from simgan_tf.system import commands

CASES = ("64,32,16", "128,64,4", "256,64,1", "256,64,2")
PRECISIONS = ("float32", "mixed_bfloat16")
EMBEDDING = 1024
MATRICES = (1024, 2048, 4096)
PEERS = {  # name -> (compiled, forward passes of G)
    "eager": (False, 1),
    "compiled": (True, 1),
    "eager, two forwards": (False, 2),
    "compiled, two forwards": (True, 2),
}


def define_flags() -> None:
    flags.DEFINE_enum("peer", "none", ["none", "torch"], "What to compare with.")
    flags.DEFINE_multi_enum("case", list(CASES), CASES, "image_size,width,batch.")
    flags.DEFINE_multi_enum("precision", list(PRECISIONS), PRECISIONS, "Config.precision.")
    flags.DEFINE_integer("rounds", 5, "Turns of each side.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Length of one turn; two steps at the least.", lower_bound=0.0)
    flags.DEFINE_string("side", "", "Internal: be a worker, ours or torch.")


def config_of(case: str, precision: str = "float32") -> Config:
    size, width, batch = map(int, case.split(","))
    return dataclasses.replace(
        PRESETS["simgan_cub"],
        image_size=size,
        load_size=round(size * 76 / 64),
        width=width,
        d_width=width,
        batch_size=max(2, batch),
        precision=precision,
    )


def text_encoder(dim: int) -> Any:
    """A text encoder of one word: the time of a step depends on the size of its vectors, not on their values."""
    from simgan_tf.text.tokens import Vocabulary
    from simgan_tf.text.vse import TextEncoder

    return TextEncoder(Vocabulary(["flower"]), dim=dim, word_dim=1, length=1)


# ---------------------------------------------------------------------------------------------------------- the sides


def arrays(case: str) -> dict[str, np.ndarray]:
    """A random batch: image, embedding, mismatching embedding, noise."""
    config, count = config_of(case), int(case.split(",")[2])
    random = np.random.default_rng(0)
    embedding = random.normal(size=(count, EMBEDDING)).astype(np.float32)
    return {
        "image": random.uniform(-1, 1, (count, config.image_size, config.image_size, 3)).astype(np.float32),
        "embedding": embedding,
        "mismatching": np.roll(embedding, 1, axis=0),
        "noise": random.normal(size=(count, config.ca_size)).astype(np.float32),
    }


class Ours:
    """Answers of the worker that runs the project's own step."""

    def __init__(self) -> None:
        commands.start_tensorflow()
        self.runs: dict[str, Any] = {}

    def peak(self, precision: str, seconds: float) -> list[float]:
        """Best rate of square matrix products, operations a second."""
        import tensorflow as tf

        dtype = tf.float32 if precision == "float32" else tf.bfloat16
        product = tf.function(tf.matmul)

        def rate(n: int) -> float:
            a = tf.cast(tf.random.stateless_normal([n, n], [0, 0]), dtype)
            product(a, a).numpy()
            return 2 * n**3 / min(turns.times(lambda: product(a, a)[0, 0].numpy(), seconds / len(MATRICES), least=3))

        return max(map(rate, MATRICES))

    def operations(self, case: str, precision: str) -> int:
        """Of one step, two for a multiply-add; builds it, where it is not built yet."""
        import tensorflow as tf

        from simgan_tf import estimate
        from simgan_tf.methods.simgan import SIMGAN
        from simgan_tf.methods.step import train_step

        if case + precision not in self.runs:
            self.runs.clear()
            batch = arrays(case)
            inputs = {name: tf.constant(batch[name]) for name in ("image", "embedding")}
            inputs["class_id"] = tf.range(len(batch["image"]))
            method = SIMGAN(config_of(case, precision), text_encoder(EMBEDDING), steps_per_epoch=500)
            one_step = train_step(method)
            step = tf.Variable(0, dtype=tf.int64)
            whole = tf.function(lambda batch, step: method.update(method.prepare(batch, step)), autograph=False)
            work = 2 * estimate.multiply_adds(whole.get_concrete_function(inputs, step).graph)

            def run() -> dict[str, float]:
                scalars = {name: float(value) for name, value in one_step(inputs, step).items()}
                step.assign_add(1)
                return scalars

            run()
            self.runs[case + precision] = run, work
        return self.runs[case + precision][1]

    def step(self, case: str, precision: str, seconds: float) -> list[float]:
        self.operations(case, precision)
        return turns.times(self.runs[case + precision][0], seconds)


class Torch:
    """Answers of the worker that runs the same step in PyTorch."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}

    def peak(self, precision: str, seconds: float) -> list[float]:
        import torch

        dtype = torch.float32 if precision == "float32" else torch.bfloat16

        def rate(n: int) -> float:
            a = torch.randn(n, n).to(dtype)
            return 2 * n**3 / min(turns.times(lambda: a @ a, seconds / len(MATRICES), least=4)[1:])

        return max(map(rate, MATRICES))

    def step(self, case: str, precision: str, peer: str, seconds: float) -> list[float]:
        import torch

        from benchmarks import torch_simgan

        key = (case, precision, peer)
        if key not in self.runs:
            if not any(case == built[0] and precision == built[1] for built in self.runs):
                self.runs.clear()
            batch = arrays(case)
            image = torch_simgan.as_images(batch["image"])
            others = [torch.from_numpy(batch[name]) for name in ("embedding", "mismatching", "noise")]
            compiled, forwards = PEERS[peer]
            method = torch_simgan.SIMGAN(config_of(case), EMBEDDING, precision, compiled)

            def run() -> dict[str, float]:
                scalars = method.train_step(image, *others, forwards=forwards)
                return {name: float(value) for name, value in scalars.items()}

            run(), run()
            self.runs[key] = run
        return turns.times(self.runs[key], seconds)


# ------------------------------------------------------------------------------------------------------------- the run


def main(argv: list[str]) -> None:
    run(Ours, Torch, measure)


def run(ours: type, torch: type, measure: Callable[..., dict[str, Any]]) -> None:
    """Serves as the worker that --side names; without --side measures every case and precision, a JSON line each."""
    values = flags.FLAGS
    if values.side:
        side = ours() if values.side == "ours" else torch()
        turns.serve(lambda verb, **question: getattr(side, verb)(**question))
        return
    for case in values.case:
        for precision in values.precision:
            print(json.dumps(measure(case, precision, values.peer, values.rounds, values.seconds)), flush=True)


def measure(case: str, precision: str, peer: str, rounds: int, seconds: float) -> dict[str, Any]:
    about = turns.machine()
    workers = {side: turns.Worker("benchmarks.train_step", side) for side in ("ours", *([peer] * (peer != "none")))}
    question = {"verb": "step", "case": case, "precision": precision}
    sides = [("ours", workers["ours"], question)]
    if peer != "none":
        sides += [(name, workers[peer], {**question, "peer": name}) for name in PEERS]
    operations = workers["ours"].ask(**{**question, "verb": "operations"})
    times, peak = turns.compare(sides, precision, rounds, seconds)
    medians = {name: statistics.median(turn) for name, turn in times.items()}
    config, count = config_of(case), int(case.split(",")[2])
    line = {
        "benchmark": "train_step",
        "image_size": config.image_size,
        "width": config.width,
        "batch_size": count,
        "precision": precision,
        "images_per_second": round(count / medians["ours"], 3),
        "seconds": round(medians["ours"], 4),
        "range": [round(min(times["ours"]), 4), round(max(times["ours"]), 4)],
        "operations": operations,
        "gflops": round(operations / medians["ours"] / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(operations / medians["ours"] / peak, 3),
    }
    if peer != "none":
        line["peer"] = {
            name: {"seconds": round(medians[name], 4), "range": [round(min(turn), 4), round(max(turn), 4)]}
            for name, turn in times.items()
            if name != "ours"
        }
        for forwards in (1, 2):
            best = min((name for name in PEERS if PEERS[name][1] == forwards), key=medians.get)
            line[f"ratio_{forwards}"] = round(medians[best] / medians["ours"], 3)
    return line | {"rounds": rounds, **about}


if __name__ == "__main__":
    commands.run(main, define_flags)
