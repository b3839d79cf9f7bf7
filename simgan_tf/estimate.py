"""What a training will cost: parameters, multiplications, memory and hours, before it is begun. Writes nothing."""

import math
import time
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.methods import step as steps_of

# Share of the matrix-product peak that a step is assumed to reach where it is not run: about what benchmarks.train_step
# found on two cores, and a guess for GPUs.
SHARES = {"CPU": 0.75, "GPU": 0.4}
CHEAP = 60.0  # seconds that running a few real steps may take
TIMED = 3  # of them, after one that is not timed
IN_PLACE = {"ReadVariableOp", "Identity", "Reshape", "StopGradient", "ExpandDims", "Squeeze", "IdentityN", "Const"}


def needed(graph: tf.Graph) -> list[tf.Operation]:
    """Operations that a traced function executes, in order: those that its results and assignments depend on."""
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    reached = set()
    while waiting:
        op = waiting.pop()
        if op not in reached:
            reached.add(op)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return [op for op in graph.get_operations() if op in reached]


def multiply_adds(graph: tf.Graph) -> int:
    """Multiply-adds of the convolutions and matrix products of a traced function, forward or backward, once run."""

    def size(tensor: tf.Tensor) -> int:
        return math.prod(tensor.shape)

    total = 0
    for op in needed(graph):
        if op.type == "Conv2D":  # picture, kernel [h, w, in, out]
            total += size(op.outputs[0]) * math.prod(op.inputs[1].shape[:3])
        elif op.type == "Conv2DBackpropInput":  # sizes, kernel, gradient [B, H, W, out]; also a transposed convolution
            total += size(op.inputs[2]) * math.prod(op.inputs[1].shape[:3])
        elif op.type == "Conv2DBackpropFilter":  # picture, sizes, gradient -> kernel
            total += size(op.inputs[2]) * math.prod(op.outputs[0].shape[:3])
        elif op.type == "MatMul":
            total += size(op.outputs[0]) * op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
    return total


def peak_bytes(graph: tf.Graph) -> int:
    """Most bytes of tensors alive at once when a traced function's operations run in the order they were traced.

    A tensor lives from its operation to its last reader. Workspace of the kernels is not counted, nor are operations
    that write over their input, nor those that run at the same time as others.
    """
    operations = needed(graph)
    last = {}
    for place, op in enumerate(operations):
        for tensor in op.inputs:
            last[tensor.ref()] = place
    ending: dict[int, int] = {}
    alive = most = 0
    for place, op in enumerate(operations):
        for tensor in op.outputs:
            numbers = tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool
            if numbers and op.type not in IN_PLACE and tensor.shape.is_fully_defined():
                size = math.prod(tensor.shape) * tensor.dtype.size
                alive += size
                end = last.get(tensor.ref(), place)
                ending[end] = ending.get(end, 0) + size
        most = max(most, alive)
        alive -= ending.pop(place, 0)
    return most


def matrix_peak(dtype: tf.DType) -> float:
    """Multiply-adds a second of a square matrix product, the best of five."""
    size = 2048
    matrix = tf.cast(tf.random.stateless_normal([size, size], [0, 0]), dtype)
    product = tf.function(tf.matmul, autograph=False)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - start)
    return size**3 / min(seconds[1:])


def report(
    method: Any,
    preset: Base,
    preset_name: str,
    batches: Iterable[dict[str, tf.Tensor]],
    images: int,
    steps: int,
    done: int = 0,
) -> str:
    """The text of --dry_run. images: pictures in the training split. done: step of the checkpoint to go on from.

    Takes a few real steps where they are cheap.
    """
    config = method.config
    differing = configs.differences(config, preset)
    lines = [f"--preset={preset_name}, resolved; * marks what differs from the preset:"]
    for name, value in configs.as_json(config).items():
        text = f"  {name + ' ':<20}{value!r}"
        if name in differing:
            text = f"* {text[2:]}   (preset: {differing[name][1]!r})"
        lines.append(text)

    batches = iter(batches)
    batch = next(batches)
    variables = method.variables()
    for name, part in variables.items():
        if not name.endswith("_optimizer"):
            lines.append(f"{name}: {sum(math.prod(v.shape) for v in part):,} parameters")
    image = tf.TensorSpec([1, *batch["image"].shape[1:]])
    code, noise = tf.TensorSpec([1, method.embedding_size]), tf.TensorSpec([1, method.noise_size])
    edit = multiply_adds(_traced(method.edit, image, code, noise))
    step = tf.Variable(done, dtype=tf.int64)
    stage = steps_of.stage_of(method, done)
    graph = _traced(lambda batch, step: method.update(method.prepare(batch, step, *stage), False, *stage), batch, step)
    work = multiply_adds(graph)
    lines.append(f"an edit: {edit / 1e9:.3g} GMAC a picture")
    lines.append(f"a step: {work / 1e9:.4g} GMAC on {config.batch_size} pictures, forward and backward")
    per_epoch = images // config.batch_size
    epochs = steps / per_epoch
    lines.append(f"length: {steps:,} steps = {epochs:.4g} epochs of {per_epoch:,} steps ({images:,} pictures)")
    if done:
        lines.append(f"goes on from step {done:,}: {max(0, steps - done):,} steps are left")

    state = sum(math.prod(v.shape) * v.dtype.size for part in variables.values() for v in part)
    tensors = peak_bytes(graph)
    lines.append(
        f"memory: about {(state + tensors) / 2**30:.2g} GB on one device: {state / 2**30:.2g} of weights and "
        f"optimizers, {tensors / 2**30:.2g} of a step's tensors (alive at once when its operations run one by one as "
        "they are written; no workspace), beside TensorFlow"
    )

    peak = matrix_peak(tf.as_dtype(config.precision.removeprefix("mixed_")))
    share = SHARES["GPU" if tf.config.list_physical_devices("GPU") else "CPU"]
    seconds, how = work / peak / share, f"at {share:.0%} of this machine's {2 * peak / 1e9:,.0f} GFLOP/s; not run"
    if (TIMED + 2) * seconds < CHEAP:
        durations, train_step = [], steps_of.train_step(method)
        for _ in range(TIMED + 1):
            start = time.perf_counter()
            float(next(iter(train_step(batch, step).values())))
            batch = next(batches)
            durations.append(time.perf_counter() - start)
        seconds, how = min(durations[1:]), f"the best of {TIMED} steps run here on one device"
    if stage:
        how += f", all as in step {done:,}, though this method trains other networks later"
    lines.append(f"time: about {max(0, steps - done) * seconds / 3600:.2g} hours: {seconds:.3g} s a step, {how}")
    lines.append("nothing was written")
    return "\n".join(lines)


def _traced(function: Any, *specs: Any) -> tf.Graph:
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph
