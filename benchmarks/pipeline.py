"""Images a second of the training pipeline, beside a PyTorch DataLoader doing the same work on the same bytes.

python -m benchmarks.pipeline [--images=FOLDER] [--peer=torch]

One JSON line a case. Work, on both sides: encoded pictures -> decode -> shorter side to load_size where it is another
-> random crop -> mirror half of them -> float32 in [-1, 1], with the embedding and the tokens of a random caption, in
batches. Ours come out of record files, PyTorch's out of a list. The sides run in turns, each in processes of its own,
and the medians are compared.
PyTorch is no requirement of the project: pip install torch.
"""

import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags
from PIL import Image

from simgan_tf.system import commands

CASES = (  # image_size, load_size, stored shorter side
    (64, 76, 76),
    (64, 76, 304),
    (128, 152, 152),
    (128, 152, 304),
    (256, 304, 304),
    (256, 304, 375),
)
CAPTIONS, DIM, LENGTH = 10, 1024, 30
PEERS = {
    "none": (),
    "torch": ("torch, normalised in the worker", "torch, normalised in the main process"),
}


def define_flags() -> None:
    flags.DEFINE_string("images", "", "Folder of photographs, any sizes; default: drawn flowers.")
    flags.DEFINE_enum("peer", "none", [*PEERS], "What to compare with.")
    flags.DEFINE_integer("batch_size", 16, "Pictures in a batch.", lower_bound=1)
    flags.DEFINE_integer("pictures", 600, "Different pictures.", lower_bound=16)
    flags.DEFINE_float("seconds", 4.0, "Length of one measurement.", lower_bound=0.5)
    flags.DEFINE_integer("repeats", 3, "Measurements of each side.", lower_bound=1)
    flags.DEFINE_multi_integer("size", [], "Only these image sizes.")
    flags.DEFINE_string("side", "", "Internal: measure one side of one case and print its rate.")
    flags.DEFINE_string("jpegs", "", "Internal: the file of encoded pictures.")
    flags.DEFINE_list("case", [], "Internal: image_size,load_size,stored.")


def encoded(folder: str, count: int, stored: int) -> list[bytes]:
    """`count` JPEGs of quality 90, shorter side `stored`, of the photographs of `folder` or of drawn flowers."""
    if folder:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith((".jpg", ".jpeg", ".png")))
        if not names:
            raise ValueError(f"no .jpg or .png in --images={folder!r}")
        pictures = (Image.open(os.path.join(folder, name)).convert("RGB") for name in names[:count])
    else:
        from data import demo, painter

        kinds = demo.flowers()
        drawn = (painter.draw(kinds[i % len(kinds)], i + 1, 128, 0)[0] for i in range(min(count, 100)))
        pictures = (Image.fromarray(pixels) for pixels in drawn)
    jpegs = []
    for picture in pictures:
        scale = stored / min(picture.size)
        sized = picture.resize([max(stored, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        sized.save(buffer, "JPEG", quality=90)
        jpegs.append(buffer.getvalue())
    return (jpegs * -(-count // len(jpegs)))[:count]


def ours(jpegs: list[bytes], image_size: int, load_size: int, batch_size: int, seconds: float) -> float:
    """Images a second of data.pipeline.training_batches, out of record files."""
    commands.start_tensorflow()
    from data import pipeline, records, splits

    count = len(jpegs)
    folder = tempfile.TemporaryDirectory()  # until this process ends
    examples = (records.Example(jpeg, str(i), i, ("",) * CAPTIONS) for i, jpeg in enumerate(jpegs))
    part = records.write_split(folder.name, "train", examples, 8)
    records.write_info(folder.name, {"format_version": records.FORMAT_VERSION, "shards": 8, "splits": {"train": part}})
    split = splits.load_split(folder.name, "train")
    batches = pipeline.training_batches(
        split,
        np.zeros((count * CAPTIONS, DIM), np.float32),
        np.zeros((count * CAPTIONS, LENGTH), np.int32),
        image_size=image_size,
        load_size=load_size,
        batch_size=batch_size,
        seed=0,
    )
    return rate(iter(batches), batch_size, seconds)


def torch_side(jpegs: list[bytes], image_size: int, load_size: int, batch_size: int, seconds: float, late: bool):
    """Images a second of a DataLoader with one worker a core; late: uint8 from the workers, normalised in batches."""
    import torch

    embeddings = torch.zeros(len(jpegs) * CAPTIONS, DIM)
    tokens = torch.zeros(len(jpegs) * CAPTIONS, LENGTH, dtype=torch.int32)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(jpegs)

        def __getitem__(self, i: int):
            picture = Image.open(io.BytesIO(jpegs[i])).convert("RGB")
            width, height = picture.size
            short = min(width, height)
            if short != load_size:
                size = [(side * load_size + short // 2) // short for side in (width, height)]
                picture = picture.resize(size, Image.Resampling.BILINEAR)
                width, height = size
            random = torch.rand(4).tolist()
            left, top = int(random[0] * (width - image_size + 1)), int(random[1] * (height - image_size + 1))
            picture = picture.crop((left, top, left + image_size, top + image_size))
            if random[2] < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            image = torch.from_numpy(np.array(picture))
            caption = i * CAPTIONS + int(random[3] * CAPTIONS)
            return image if late else image / 127.5 - 1.0, embeddings[caption], tokens[caption], i

    def batches():
        workers = os.cpu_count() or 1
        loader = torch.utils.data.DataLoader(
            Pictures(),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=True,
            prefetch_factor=4,
        )
        while True:
            for image, *rest in loader:
                yield (image / 127.5 - 1.0 if late else image), *rest

    return rate(batches(), batch_size, seconds)


def rate(batches, batch_size: int, seconds: float) -> float:
    """Images a second after a warm-up of a second."""
    began = time.perf_counter()
    while time.perf_counter() - began < 1.0:
        next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - began)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    if values.side:
        with np.load(values.jpegs) as arrays:
            bounds, joined = arrays["bounds"], arrays["joined"].tobytes()
        jpegs = [joined[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
        image_size, load_size, _ = map(int, values.case)
        options = (jpegs, image_size, load_size, values.batch_size, values.seconds)
        if values.side == "ours":
            print(ours(*options))
        else:
            print(torch_side(*options, late=values.side == PEERS["torch"][1]))
        return

    sides = ["ours", *PEERS[values.peer]]
    for case in CASES:
        if values.size and case[0] not in values.size:
            continue
        jpegs = encoded(values.images, values.pictures, case[2])
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            bounds = np.cumsum([0, *map(len, jpegs)])
            np.savez(file.name, bounds=bounds, joined=np.frombuffer(b"".join(jpegs), np.uint8))
            measured = {side: [] for side in sides}
            for _ in range(values.repeats):
                for side in sides:
                    command = [sys.executable, "-m", "benchmarks.pipeline", f"--side={side}", f"--jpegs={file.name}",
                               f"--case={','.join(map(str, case))}", f"--batch_size={values.batch_size}",
                               f"--seconds={values.seconds}"]  # fmt: skip
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    measured[side].append(float(done.stdout.split()[-1]))
        medians = {side: statistics.median(rates) for side, rates in measured.items()}
        line = {
            "benchmark": "pipeline",
            "image_size": case[0],
            "load_size": case[1],
            "stored_size": case[2],
            "jpeg_bytes": round(sum(map(len, jpegs)) / len(jpegs)),
            "batch_size": values.batch_size,
            "images_per_second": round(medians["ours"]),
            "range": [round(min(measured["ours"])), round(max(measured["ours"]))],
        }
        if values.peer != "none":
            best = max(PEERS[values.peer], key=medians.get)
            line |= {"peer": best, "peer_images_per_second": round(medians[best]),
                     "peer_range": [round(min(measured[best])), round(max(measured[best]))],
                     "ratio": round(medians["ours"] / medians[best], 2)}  # fmt: skip
        line |= {"pictures": os.path.basename(values.images.rstrip("/")) or "drawn", "cores": os.cpu_count(),
                 "machine": platform.machine()}  # fmt: skip
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    commands.run(main, define_flags)
