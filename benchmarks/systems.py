"""Seconds of one whole training step of SISGAN and of TAGAN, at their papers' sizes and widths.

python -m benchmarks.systems [--peer=torch] [--case=sisgan,64,64]

One JSON line for a case (method, image_size, batch): the paper's preset in float32, the same batch again and again, so
that no input is waited for; sentences of 8 to 18 words, phi and words of 300 numbers. With --peer=torch the same
networks, losses and updates in PyTorch, eager and compiled, take turns with ours: one forward pass of G for both
updates, one look of D at the real pictures, PyTorch's own GRU on packed sentences. PyTorch is no requirement: pip
install torch. Operations are those of convolutions and dense layers in our graph, two for a multiply-add; the GRUs' are
not counted.
"""

import dataclasses
import json
import statistics
from typing import Any

import numpy as np
from absl import flags

from benchmarks import turns
from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.system import commands

CASES = ("sisgan,64,64", "tagan,128,8")
SIZE, LENGTH, WORDS = 300, 30, 200  # of phi and of a word's vector; ids of a sentence; words that there are
PEERS = {"eager": False, "compiled": True}


def define_flags() -> None:
    flags.DEFINE_enum("peer", "none", ["none", "torch"], "What to compare with.")
    flags.DEFINE_multi_enum("peer_runs", list(PEERS), list(PEERS), "Ways in which the peer runs.")
    flags.DEFINE_multi_string("case", list(CASES), "method,image_size,batch; method is sisgan or tagan.")
    flags.DEFINE_integer("rounds", 5, "Turns of each side.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Length of one turn; one step at the least.", lower_bound=0.0)
    flags.DEFINE_enum("clock", "wall", list(turns.CLOCKS), "processor: seconds of one thread, on a machine that others "
                      "use; set TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1.")  # fmt: skip
    flags.DEFINE_string("side", "", "Internal: be a worker, ours or torch.")


def config_of(case: str) -> Base:
    method, size, batch = case.split(",")
    preset = configs.presets()[f"{method}_cub"]
    load_size = round(int(size) * preset.load_size / preset.image_size)
    return dataclasses.replace(preset, image_size=int(size), load_size=load_size, batch_size=int(batch))


def text_encoder() -> Any:
    from simgan_tf.text.tokens import Vocabulary
    from simgan_tf.text.vse import TextEncoder

    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(WORDS)]
    return TextEncoder(Vocabulary(words), dim=SIZE, word_dim=SIZE, length=LENGTH)


def arrays(config: Base) -> dict[str, np.ndarray]:
    """A random batch as the pipeline gives it: image, embedding, tokens, class_id."""
    random, count = np.random.default_rng(0), config.batch_size
    tokens = random.integers(2, WORDS, (count, LENGTH)).astype(np.int32)
    tokens[np.arange(LENGTH) >= random.integers(8, 19, count)[:, None]] = 0
    return {
        "image": random.uniform(-1, 1, (count, config.image_size, config.image_size, 3)).astype(np.float32),
        "embedding": random.normal(size=(count, SIZE)).astype(np.float32),
        "tokens": tokens,
        "class_id": np.arange(count, dtype=np.int32),
    }


class Ours:
    """Answers of the worker that runs the project's own step."""

    def __init__(self) -> None:
        commands.start_tensorflow()
        self.case = ""

    def build(self, case: str) -> None:
        import tensorflow as tf

        from simgan_tf import estimate, methods
        from simgan_tf.methods import step as steps

        self.case, config = case, config_of(case)
        batch = {name: tf.constant(array) for name, array in arrays(config).items()}
        method = methods.build(config, text_encoder(), 500)
        one_step, step = steps.train_step(method), tf.Variable(0, dtype=tf.int64)
        whole = tf.function(lambda batch, step: method.update(method.prepare(batch, step)), autograph=False)
        self.work = 2 * estimate.multiply_adds(whole.get_concrete_function(batch, step).graph)

        def run() -> dict[str, float]:
            scalars = {name: float(value) for name, value in one_step(batch, step).items()}
            step.assign_add(1)
            return scalars

        self.run = run
        run()

    def step(self, case: str, clock: str, seconds: float) -> list[float]:
        if case != self.case:
            self.build(case)
        return turns.times(self.run, seconds, 1, clock)

    def operations(self, case: str) -> int:
        return self.work


class Torch:
    """Answers of the worker that runs the same step in PyTorch."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], Any] = {}

    def step(self, case: str, peer: str, clock: str, seconds: float) -> list[float]:
        if (case, peer) not in self.runs:
            self.runs = {key: run for key, run in self.runs.items() if key[0] == case}
            self.runs[case, peer] = self.build(case, PEERS[peer])
        return turns.times(self.runs[case, peer], seconds, 1, clock)

    def build(self, case: str, compiled: bool) -> Any:
        import torch

        from benchmarks.torch_simgan import as_images
        from benchmarks.torch_sisgan import SISGAN
        from benchmarks.torch_tagan import TAGAN

        config, random = config_of(case), np.random.default_rng(1)
        batch = arrays(config)
        noise = [random.normal(size=(config.batch_size, config.ca_size)).astype(np.float32) for _ in range(2)]
        text = batch["embedding" if config.method == "sisgan" else "tokens"]
        rows = {
            "matching": text, "mismatching": np.roll(text, 1, axis=0), "relevant": np.roll(text, -1, axis=0),
            "noise": noise[0], "own_noise": noise[1],
        }  # fmt: skip
        rows = {name: torch.from_numpy(array) for name, array in rows.items()} | {"image": as_images(batch["image"])}
        if config.method == "sisgan":
            method = SISGAN(config, SIZE, compiled)
        else:
            method = TAGAN(config, random.normal(size=(WORDS, SIZE)).astype(np.float32), compiled)

        def run() -> dict[str, float]:
            return {name: float(value) for name, value in method.train_step(rows).items()}

        run(), run()
        return run


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    if values.side:
        side = Ours() if values.side == "ours" else Torch()
        turns.serve(lambda verb, **question: getattr(side, verb)(**question))
        return
    for case in values.case:
        print(json.dumps(measure(case, values)), flush=True)


def measure(case: str, values: Any) -> dict[str, Any]:
    about, config = turns.machine(), config_of(case)
    ours = turns.Worker("benchmarks.systems", "ours")
    question = {"verb": "step", "case": case, "clock": values.clock}
    sides, workers = [("ours", ours, question)], [ours]
    if values.peer != "none":
        workers.append(turns.Worker("benchmarks.systems", values.peer))
        sides += [(peer, workers[1], {**question, "peer": peer}) for peer in values.peer_runs]
    for _, worker, question in sides:  # builds and compiles
        worker.ask(**question, seconds=0)
    operations = ours.ask(verb="operations", case=case)
    times = turns.in_turns(sides, values.rounds, values.seconds)
    for worker in workers:
        worker.close()
    medians = {name: statistics.median(turn) for name, turn in times.items()}
    line = {
        "benchmark": "systems",
        "method": config.method,
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "clock": values.clock,
        "seconds": {name: round(median, 4) for name, median in medians.items()},
        "range": {name: [round(min(turn), 4), round(max(turn), 4)] for name, turn in times.items()},
        "operations": operations,
        "gflops": round(operations / medians["ours"] / 1e9, 1),
    }
    if values.peer != "none":
        line["ratio"] = round(min(median for name, median in medians.items() if name != "ours") / medians["ours"], 3)
    return line | {"rounds": values.rounds, **about}


if __name__ == "__main__":
    commands.run(main, define_flags)
