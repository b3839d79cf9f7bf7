"""What a training of very many pictures needs before its first step, and how fast it then reads them.

python -m benchmarks.scale --work_dir=scratch [--counts=10000,100000,1000000] [--bytes=2000]

Records of so many pictures are drawn once into --work_dir, cheaply: JPEGs of noise of --bytes each, of which there are
100 different ones, with five captions out of 512. A training of a small model then starts on them twice,
each time in a process of its own: the first call encodes the captions, the second finds them. One JSON line a number of
pictures: seconds from the start of the second process to the end of its first step, the peak of its memory up to that
step and after --steps steps, and the pictures a second that the pipeline alone reads, in batches of 64. Memory is what
Linux calls RssAnon, looked at 100 times a second: what the process holds itself, without the pages of mapped files,
libraries and the captions' vectors among them, which belong to the page cache; beside it stands the peak with these.
A table of all of them follows.
"""

import io
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
from absl import flags
from PIL import Image

from simgan_tf.system import commands, files

CAPTIONS = 5
COLOURS = ("red", "white", "blue", "yellow", "pink", "purple", "orange", "green")
PARTS = ("petals", "stamen", "leaves", "sepals", "anthers", "pistil", "centre", "edges")
SHAPES = ("round", "long", "thin", "wide", "curly", "flat", "pointed", "soft")


def define_flags() -> None:
    flags.DEFINE_string("work_dir", None, "Folder for records and runs; what is there is used again.", required=True)
    flags.DEFINE_list("counts", ["10000", "100000", "1000000"], "Numbers of pictures.")
    flags.DEFINE_integer("bytes", 2000, "Of a picture, about.", lower_bound=800)
    flags.DEFINE_integer("steps", 200, "Steps that are trained for the peak of memory.", lower_bound=1)
    flags.DEFINE_integer("image_size", 16, "Pixels that are trained on.", lower_bound=8)
    flags.DEFINE_float("seconds", 10.0, "Length of the measurement of reading.", lower_bound=0.5)
    flags.DEFINE_string("case", "", "Internal: the records of one number of pictures; trains on them.")


def pictures(size: int) -> list[bytes]:
    """100 JPEGs of noise of about `size` bytes each: the side is sought by which they come out so large."""
    side = 16
    while len(_noise(side, 0)) < size:
        side += 4
    return [_noise(side, seed) for seed in range(100)]


def _noise(side: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def write(folder: str, count: int, size: int) -> None:
    """Records of `count` pictures; the test split has 64 more."""
    from data import records

    jpegs, random = pictures(size), np.random.default_rng(0)
    sentences = [f"a flower with {' '.join(words)}" for words in itertools.product(SHAPES, COLOURS, PARTS)]

    def examples(first: int, number: int) -> Iterator[records.Example]:
        for i in range(first, first + number):
            captions = tuple(sentences[j] for j in random.integers(len(sentences), size=CAPTIONS))
            yield records.Example(jpegs[i % 100], f"k{i:07d}", 1 + i % 100, captions)

    with files.replacing_folder(folder) as unfinished:
        splits = {
            split: records.write_split(unfinished, split, examples(first, number), 8)
            for split, first, number in (("train", 0, count), ("test", count, 64))
        }
        info = {
            "format_version": records.FORMAT_VERSION, "dataset": "scale", "shards": 8, "splits": splits,
            "embeddings": None, "fingerprint": records.fingerprint(splits),
        }  # fmt: skip
        records.write_info(unfinished, info)


def train(records_dir: str, run_dir: str, steps: int, image_size: int, seconds: float) -> dict[str, float]:
    """A training of the small model, and what it took; called in a process of its own."""
    began = _started()
    commands.start_tensorflow()
    from data import pipeline, splits
    from simgan_tf import session
    from simgan_tf.configs.simgan import Config
    from simgan_tf.text.tokens import Vocabulary
    from simgan_tf.text.vse import TextEncoder

    if not os.path.isdir(os.path.join(run_dir, "text_encoder")):
        import keras

        keras.utils.set_random_seed(0)
        words = Vocabulary(["a", "flower", "with", *COLOURS, *PARTS, *SHAPES])
        TextEncoder(words, dim=300, word_dim=300, length=30).save(os.path.join(run_dir, "text_encoder"))
    config = Config(
        image_size=image_size, load_size=image_size + 4, batch_size=64, steps=steps, width=8, d_width=8, units=1,
        sample_every=0, checkpoint_every=0, log_every=1, keep_checkpoints=1,
    )  # fmt: skip
    seen = {"first": 0.0, "before": 0, "peak": 0}
    threading.Thread(target=_watch, args=(os.path.join(run_dir, "metrics.jsonl"), seen), daemon=True).start()
    session.train(config, records_dir, run_dir, preset="simgan_demo", strategy="none")
    with_files = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {
        "seconds_to_first_step": seen["first"] - began, "bytes_at_first_step": seen["before"],
        "peak_bytes": seen["peak"], "peak_bytes_with_files": with_files,
    }  # fmt: skip

    split = splits.load_split(records_dir, "train")
    batches = iter(pipeline.training_batches(
        split, None, None, image_size=image_size, load_size=image_size + 4, batch_size=64, seed=1
    ))  # fmt: skip
    for _ in range(8):
        next(batches)
    start, read = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        read += 64
    rate = read / (time.perf_counter() - start)
    return found | {"pictures_per_second": rate}


def _watch(path: str, seen: dict[str, float]) -> None:
    """Notes when the first row of a log is there, and the memory's peak before and at any time."""
    while True:
        seen["peak"] = max(seen["peak"], _own_bytes())
        if not seen["first"] and os.path.exists(path) and os.path.getsize(path):
            seen["first"], seen["before"] = time.monotonic(), seen["peak"]
        time.sleep(0.01)


def _own_bytes() -> int:
    """Memory of this process without pages of files; with them where the system does not tell them apart."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _started() -> float:
    """When this process began, by time.monotonic."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # since the machine's start
        return time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # no Linux: without Python's own start
        return time.monotonic()


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    if values.case:
        run_dir = values.case + "-run"
        print(json.dumps(train(values.case, run_dir, values.steps, values.image_size, values.seconds)))
        return
    import shutil

    lines = []
    for count in map(int, values.counts):
        folder = os.path.join(values.work_dir, f"{count}x{values.bytes}")
        began = time.perf_counter()
        if not os.path.isdir(folder):
            write(folder, count, values.bytes)
        line = {"benchmark": "scale", "pictures": count, "seconds_to_draw": round(time.perf_counter() - began, 1)}
        line["bytes"] = round(sum(e.stat().st_size for e in os.scandir(folder) if "train-" in e.name) / count)
        for call in ("first", "second"):
            shutil.rmtree(f"{folder}-run", ignore_errors=True)
            if call == "first":  # the second finds the captions' files, which stand beside the run
                shutil.rmtree(f"{folder}-run.phi", ignore_errors=True)
            command = [sys.executable, "-m", "benchmarks.scale", "--work_dir=.", f"--case={folder}"]
            command += [f"--{name}={values[name].value}" for name in ("steps", "image_size", "seconds")]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.strip().splitlines()[-1])
            line |= {f"{name}_{call}_call": round(value, 1) for name, value in found.items()}
        line["cores"] = os.cpu_count()
        print(json.dumps(line), flush=True)
        lines.append(line)

    print(f"{'pictures':>10}{'first call, s':>15}{'second call, s':>16}{'peak, GB':>10}{'pictures/s':>12}")
    for line in lines:
        print(
            f"{line['pictures']:>10,}{line['seconds_to_first_step_first_call']:>15.1f}"
            f"{line['seconds_to_first_step_second_call']:>16.1f}{line['peak_bytes_second_call'] / 1e9:>10.2f}"
            f"{line['pictures_per_second_second_call']:>12,.0f}"
        )


if __name__ == "__main__":
    commands.run(main, define_flags)
