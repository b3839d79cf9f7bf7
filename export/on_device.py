"""Runs a .tflite as a device does, one picture after the other, and takes time and memory.
Needs ai-edge-litert and numpy alone, so that it runs where TensorFlow does not, such as on ARM boards.

python -m export.on_device MODEL.tflite IN.npz OUT.npz
"""

import resource
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

TIMED = 32  # pictures at most, after one that is not counted
THREADS = (1, 2)


def measure(path: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the signatures of `path` make of n inputs, with figures.

    inputs: image [n, S, S, 3] uint8, tokens [n, T] int32, noise [n, Z] float32.
    Returns: embedding [n, D] and edited [n, S, S, 3], both float32, by `embed` and `edit`; manipulated [m, S, S, 3]
    uint8, by `manipulate`, m the smaller of n and TIMED. Scalars: manipulate_ms_<threads> (median of m pictures);
    load_ms (from the file to the first picture, less that median: weights are laid out when they are first needed);
    memory_mb (what the peak of the resident memory grew by while loading and running `manipulate` on one thread).
    """
    count = len(inputs["image"])
    # A model that draws no noise has no such input.
    rows = [{name: values[i : i + 1] for name, values in inputs.items() if values.shape[1]} for i in range(count)]
    before = _memory("VmRSS")
    figures = {}
    for threads in THREADS:
        start = time.perf_counter()
        interpreter = Interpreter(path, num_threads=threads)
        manipulate = interpreter.get_signature_runner("manipulate")
        manipulate(**rows[0])
        first = 1e3 * (time.perf_counter() - start)
        times, pictures = [], []
        for row in rows[:TIMED]:
            start = time.perf_counter()
            pictures.append(manipulate(**row)["edited"])
            times.append(1e3 * (time.perf_counter() - start))
        figures[f"manipulate_ms_{threads}"] = np.median(times)
        if threads == THREADS[0]:
            figures["load_ms"] = max(first - np.median(times), 0.0)
            figures["memory_mb"] = (_memory("VmHWM") - before) / 1e6
            figures["manipulated"] = np.concatenate(pictures)
    embed, edit = (interpreter.get_signature_runner(key) for key in ("embed", "edit"))
    embeddings, edits = [], []
    for row in rows:
        embeddings.append(embed(tokens=row["tokens"])["embedding"])
        image = row["image"] / np.float32(127.5) - 1
        drawn = {"noise": row["noise"]} if "noise" in row else {}
        edits.append(edit(image=image, embedding=embeddings[-1], **drawn)["edited"])
    return {**figures, "embedding": np.concatenate(embeddings), "edited": np.concatenate(edits)}


def _memory(name: str) -> float:
    """Bytes of resident memory, VmRSS now or VmHWM at its peak; elsewhere than on Linux always the peak."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    with np.load(sys.argv[2], allow_pickle=False) as arrays:
        np.savez(sys.argv[3], **measure(sys.argv[1], dict(arrays)))
