"""Where a training runs: one device, the devices of one machine, or several machines, by tf.distribute."""

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from simgan_tf.methods.step import train_step

NAMES = ("auto", "none", "mirrored", "multi_worker")
TF_CONFIG = (
    'TF_CONFIG=\'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}\''
)

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.CancelledError)


def workers() -> int:
    """How many processes the cluster of the variable TF_CONFIG names; 0 without one.

    Raises: ValueError where TF_CONFIG cannot be read.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text or "{}").get("cluster", {})
        return sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"TF_CONFIG={text!r} cannot be read ({error}); for example {TF_CONFIG}.") from None


class Replicas:
    """The devices of a training, each holding a copy of every variable and an equal share of every batch.

    count: of all machines together. chief: whether this process is the one that writes. alone: whether it is the only
    one.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync if strategy else 1
        resolver = strategy.cluster_resolver if strategy else None
        self.alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.chief = self.alone or resolver.task_type == "chief" or (
            resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
        )  # fmt: skip
        self._sum = tf.function(self._sum_of_workers)

    def require_shares(self, batch_size: int, xla: bool = False) -> None:
        """Raises: ValueError where a batch cannot be cut into equal parts, one a replica, or XLA has several."""
        if xla and self.count > 1:
            raise ValueError(f"xla=True compiles for one device, not for {self.count}: --strategy=none, or no --xla.")
        if batch_size % self.count:
            raise ValueError(
                f"batch_size={batch_size} cannot be shared out equally over {self.count} devices; try "
                f"{max(1, round(batch_size / self.count)) * self.count}, or --strategy=none."
            )

    def share(self, batch_size: int) -> tuple[int, int] | None:
        """First row and number of rows of a batch that this process' devices train on; None = all of it.

        Replicas are numbered process by process, the chief's first, and each process has as many.
        """
        if self.alone:
            return None
        resolver = self.strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict()
        before = len(jobs.get("chief", [])) if resolver.task_type == "worker" else 0
        rows = batch_size // sum(len(jobs.get(job, [])) for job in ("chief", "worker"))
        return (before + resolver.task_id) * rows, rows

    def scope(self) -> contextlib.AbstractContextManager:
        """Inside, variables are made on every replica."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def train_step(self, method: Any) -> Callable[..., dict[str, tf.Tensor]]:
        """`step.train_step` of the method over these devices: (batch, step, measure) on the whole, global batch."""
        step = train_step(method, self.strategy)

        def guarded_step(*arguments: Any) -> dict[str, tf.Tensor]:
            with self._lost_worker_in_words():
                return step(*arguments)

        return guarded_step

    def any(self, flag: bool) -> bool:
        """Whether any process says True. Every process must ask, in the same order; it also waits for all of them."""
        if self.alone:
            return flag
        with self._lost_worker_in_words():
            return bool(self._sum(tf.constant(int(flag))) > 0)

    def require_same(self, what: str) -> None:
        """Raises: ValueError unless all processes call this with the same text."""
        if not self.alone:
            checksum = zlib.crc32(what.encode())
            with self._lost_worker_in_words():
                total = int(self._sum(tf.constant(checksum, tf.int64)))
            if self.any(checksum * self.count != total):  # all of them must learn of it
                raise ValueError(
                    f"the workers differ; this one has {what}. Start all with the same command, on the same records, "
                    "with one --run_dir that all of them see."
                )

    def _sum_of_workers(self, value: tf.Tensor) -> tf.Tensor:
        values = self.strategy.run(tf.identity, (value,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    @contextlib.contextmanager
    def _lost_worker_in_words(self) -> Iterator[None]:
        """Turns the loss of another worker into one line."""
        try:
            yield
        except LOST as error:
            if self.alone:
                raise
            raise ConnectionError(
                f"another worker is lost ({type(error).__name__}); start all of them again with the same command, they "
                "go on from the last checkpoint."
            ) from None


def choose(name: str) -> Replicas:
    """The replicas that --strategy=`name` asks for; must come before TensorFlow's first operation.

    auto: the cluster of TF_CONFIG where it has more than one process, else all GPUs where there are several, else one
    device. mirrored: all GPUs, or all logical CPUs where there is none. multi_worker waits for the other processes.
    Raises: ValueError for an unknown name, or a cluster that TF_CONFIG does not give.
    """
    if name not in NAMES:
        raise ValueError(f"strategy={name!r} is not one of {', '.join(map(repr, NAMES))}.")
    count = workers()
    if name == "multi_worker" and not count:
        raise ValueError(f"strategy='multi_worker' needs the cluster in the environment, for example {TF_CONFIG}.")
    if name == "multi_worker" or (name == "auto" and count > 1):
        print(f"waiting for the {count} workers of TF_CONFIG", flush=True)
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    if name == "mirrored" or (name == "auto" and len(tf.config.list_physical_devices("GPU")) > 1):
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))
    return Replicas()


def precision(name: str) -> str:
    """The precision that --precision=`name` means on this machine; "auto" is resolved, everything else stays.

    auto: mixed_bfloat16 on GPUs of compute capability 8.0 or more, on a CPU with AMX, and on AMD's with AVX512-BF16;
    else float32.
    Differs: an Intel CPU with AVX512-BF16 but without AMX takes float32; bfloat16 was slower there in every trial, and
    1.7 times as fast on AMD's.
    """
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capable = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
        return "mixed_bfloat16" if min(capable) >= (8, 0) else "float32"
    facts = _cpu_facts()
    fast = "amx_bf16" in facts or {"AuthenticAMD", "avx512_bf16"} <= facts
    return "mixed_bfloat16" if fast else "float32"


def _cpu_facts() -> set[str]:
    """The processor's maker and the names of what it can do; empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return {word for line in file if line.startswith(("flags", "vendor_id")) for word in line.split()}
    except OSError:
        return set()
