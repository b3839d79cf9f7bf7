"""Writes the demo set: drawn flowers with masks, petal colours and captions, in Oxford-102's folder layout.
Must not know records, models or metrics; the evaluation has its own colour reader.

The same files from the same arguments and any number of workers; another Pillow may differ by a bit here and there.
"""

import concurrent.futures
import functools
import io
import json
import math
import multiprocessing
import os
import pathlib

import numpy as np
import scipy.io
from PIL import Image
from tqdm import tqdm

from data.painter import CENTRES, COLOURS, SHAPES, Flower, draw, generator, pick, shuffled
from simgan_tf.system import files

PAINTER = 2  # raised whenever the same arguments draw another picture
NUMBERS = dict(enumerate("four five six seven eight nine ten eleven twelve thirteen fourteen".split(), start=4))
TEMPLATES = (
    "this flower has {petal} petals with a {centre} center",
    "this flower has {shape} {petal} petals and a {centre} center",
    "the petals on this flower are {petal} and {shape}",
    "the petals of this flower are {petal} with a {centre} {part}",
    "a flower with {number} {shape} {petal} petals surrounding a {centre} {part}",
    "this flower has {number} {petal} petals that are {shape}",
    "a {petal} flower with {number} {shape} petals",
    "this is a {petal} flower with a {centre} pistil in the middle",
    "this flower is {petal} in color with petals that are {shape}",
    "the {petal} petals of this bloom are {shape} and meet at a {centre} center",
    "{number} {petal} petals are arranged around a {centre} {part}",
    "{petal} {shape} petals with a {centre} center",
    "the flower shown has {petal} petals and {centre} anthers",
    "a pretty {petal} flower whose {number} petals are {shape}",
    "this bright {petal} flower has {number} petals",
    "the flower is {petal} and has {shape} petals with a {centre} {part}",
    "a single flower with {petal} petals",
    "there are {number} {shape} petals on this flower and all of them are {petal}",
    "a ring of {petal} petals grows around the {centre} {part}",
    "you can see {number} {petal} petals and a {centre} stamen",
    "all petals of this flower are {shape} and {petal} in color",
    "it has {petal} petals which are {shape} and a center that is {centre}",
    "the bloom has {number} petals in {petal} and its center is {centre}",
    "this {petal} flower has a {centre} center and {shape} petals",
    "each of the {number} petals is {petal} with a {shape} outline",
    "petals are {petal} in color and the stamen is {centre}",
    "an open flower showing {shape} {petal} petals around {centre} anthers",
    "large {petal} petals that are {shape} with a {centre} stamen in the middle",
    "the outer petals are {petal} while the pistil is {centre}",
    "a blossom of {number} {petal} petals",
)
RANGES = {"images_per_class": (1, 980), "classes": (2, 102), "size": (32, 512), "seed": (0, 2**32 - 1)}
PARTS = ("center", "stamen", "pistil")
MAT_HEADER = b"MATLAB 5.0 MAT-file, labels of the drawn demo set".ljust(116)  # savemat writes the date here


def flowers(classes: int = 102, seed: int = 0) -> list[Flower]:
    """One flower a class, no two alike in colour, shape, petals and centre; the eight colours take turns."""
    rng = generator(seed, 0, 2)
    made: list[Flower] = []
    seen = set()
    while len(made) < classes:
        colour = list(COLOURS)[len(made) % len(COLOURS)]
        shape = pick(rng, list(SHAPES))
        petals = int(rng.integers(SHAPES[shape][0], SHAPES[shape][1] + 1))
        centre = pick(rng, [name for name in CENTRES if name != colour])
        anthers = rng.random() < 0.5
        if (colour, shape, petals, centre) not in seen:
            seen.add((colour, shape, petals, centre))
            made.append(Flower(colour, shape, petals, centre, anthers))
    return made


def split(classes: int = 102, seed: int = 0) -> tuple[list[int], list[int]]:
    """(train, test) class numbers from 1, disjoint; 20 of 102 are for testing, the petal colours taking turns.

    With 39 classes or more all eight colours are in both lists; a test class is then an unseen combination of known
    colour, shape, number of petals and centre.
    """
    rng = generator(seed, 0, 3)
    order = shuffled(rng, range(1, classes + 1))
    turns = [[number for number in order if (number - 1) % len(COLOURS) == turn] for turn in range(len(COLOURS))]
    test: list[int] = []
    while len(test) < max(1, round(classes * 20 / 102)):
        candidates = turns[len(test) % len(turns)]
        test.append(candidates.pop())
    return sorted(set(order) - set(test)), sorted(test)


def captions(flower: Flower, index: int, seed: int = 0) -> list[str]:
    """Ten different sentences, each naming the petals' colour and none the background.

    index: number of the picture, from 1; with `seed` it decides templates and words.
    """
    rng = generator(seed, index, 1)
    fixed = {"petal": flower.colour, "number": NUMBERS[flower.petals], "centre": flower.centre}
    return [
        template.format(**fixed, shape=pick(rng, SHAPES[flower.shape][3]), part=pick(rng, PARTS)).replace(
            "a orange", "an orange"
        )
        for template in shuffled(rng, TEMPLATES)[:10]
    ]


# ---- the folder ----


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 92, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _paint(job: tuple[int, int, Flower], folder: str, size: int, seed: int) -> None:
    """Writes picture, mask and captions of one (index, class number, flower)."""
    index, number, flower = job
    pixels, mask = draw(flower, index, size, seed)
    key, root = f"image_{index:05d}", pathlib.Path(folder)
    (root / "jpg" / f"{key}.jpg").write_bytes(_encoded(pixels, "JPEG"))
    (root / "masks" / f"{key}.png").write_bytes(_encoded(mask.astype(np.uint8) * np.uint8(255), "PNG"))
    (root / "text_c10" / f"class_{number:05d}" / f"{key}.txt").write_bytes(
        "".join(sentence + "\n" for sentence in captions(flower, index, seed)).encode()
    )


def _already_there(root: pathlib.Path, arguments: dict) -> bool:
    """True if `root` holds this very set, False if nothing is there.

    Raises: ValueError if it holds anything else.
    """
    if not root.exists():
        return False
    remedy = "choose another raw_dir or delete this one"
    if not root.is_dir():
        raise ValueError(f"raw_dir={str(root)!r} is a file, not a folder; {remedy}.")
    if not any(root.iterdir()):
        return False
    note = root / "demo.json"
    if not note.is_file():
        raise ValueError(f"raw_dir={str(root)!r} is not empty and holds no drawn demo set; {remedy}.")
    try:
        found = json.loads(note.read_text())
    except ValueError as error:
        raise ValueError(f"{str(note)!r} is not valid JSON; {remedy}.") from error
    if found != arguments:
        raise ValueError(f"raw_dir={str(root)!r} holds a demo set made with {found}, wanted {arguments}; {remedy}.")
    total = arguments["images_per_class"] * arguments["classes"]
    for name, pattern in (("jpg", "*.jpg"), ("masks", "*.png"), ("text_c10", "*/*.txt")):
        count = sum(1 for _ in (root / name).glob(pattern))
        if count != total:
            raise ValueError(f"{str(root / name)!r} holds {count} of {total} files; {remedy}.")
    return True


def write(raw_dir: str, images_per_class: int = 48, classes: int = 102, size: int = 96, seed: int = 0,
          workers: int | None = None) -> None:  # fmt: skip
    """Writes the demo set to `raw_dir`, or says that the same set is already there.

    size: side of the square pictures in pixels. workers: processes, which change no byte; None means one for each
    processor, and one alone for a small set.
    Raises: ValueError for an argument out of range or a `raw_dir` with other content.
    """
    arguments = {"images_per_class": images_per_class, "classes": classes, "size": size, "seed": seed}
    for name, (low, high) in RANGES.items():
        if not low <= arguments[name] <= high:
            raise ValueError(f"{name}={arguments[name]} must be from {low} to {high}.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be 1 or more, or None for one a processor.")
    arguments["painter"] = PAINTER
    if _already_there(pathlib.Path(raw_dir), arguments):
        print(f"{raw_dir}: this demo set is already there.")
        return
    kinds = flowers(classes, seed)
    jobs = [
        (number * images_per_class + turn + 1, number + 1, flower)
        for number, flower in enumerate(kinds)
        for turn in range(images_per_class)
    ]
    if workers is None:
        workers = min(os.cpu_count() or 1, math.ceil(len(jobs) / 100))
    with files.replacing_folder(raw_dir) as folder, tqdm(
        total=len(jobs), desc="drawing", unit="picture", disable=len(jobs) < 100
    ) as progress:
        partial = pathlib.Path(folder)
        for name in ("jpg", "masks", *(f"text_c10/class_{number:05d}" for number in range(1, classes + 1))):
            (partial / name).mkdir(parents=True)
        paint = functools.partial(_paint, folder=folder, size=size, seed=seed)
        if workers == 1:
            for job in jobs:
                paint(job)
                progress.update()
        else:
            # spawn: forking a process that runs threads, as TensorFlow's, can hang
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
                for _ in pool.map(paint, jobs, chunksize=16):
                    progress.update()
        _write_tables(partial, jobs, classes, seed)
        (partial / "demo.json").write_text(json.dumps(arguments) + "\n")


def _write_tables(root: pathlib.Path, jobs: list[tuple[int, int, Flower]], classes: int, seed: int) -> None:
    """Labels, petal colours and the two class lists."""
    labels = io.BytesIO()
    scipy.io.savemat(labels, {"labels": np.array([[number for _, number, _ in jobs]], np.uint8)})
    (root / "imagelabels.mat").write_bytes(MAT_HEADER + labels.getvalue()[len(MAT_HEADER) :])
    rows = [f"image_{index:05d},{flower.colour}\n" for index, _, flower in jobs]
    (root / "colours.csv").write_bytes("".join(["key,colour\n", *rows]).encode())
    for name, numbers in zip(("trainvalclasses.txt", "testclasses.txt"), split(classes, seed), strict=True):
        (root / "text_c10" / name).write_bytes("".join(f"class_{number:05d}\n" for number in numbers).encode())
