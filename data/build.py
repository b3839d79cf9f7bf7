"""Turns a raw data set into record files and dataset.json: python -m data.build --dataset=demo --raw_dir= --out_dir=
Must not know batches, embeddings' meaning or a model."""

from simgan_tf import cli

if __name__ == "__main__":
    cli.start_tensorflow()  # before the imports below, so that its greeting stays off the screen

import hashlib
import itertools
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import tqdm
from absl import flags

from data import demo, oxford102, records

CHUNK = 64  # pictures in flight for each worker, which bounds the memory


def build(
    dataset: str,
    raw_dir: str,
    out_dir: str,
    captions_dir: str = "",
    shards: int = 8,
    skip_missing: bool = False,
    workers: int = 0,
    command: str = "",
) -> tuple[dict[str, object], bool]:
    """Builds `out_dir` from a raw tree; returns its dataset.json and whether it was written now (False: was there).

    The records' bytes depend on the raw files, `dataset` and `shards` only. They are written beside `out_dir` under a
    temporary name and renamed when complete.

    dataset: "demo" (drawn into raw_dir first unless it is there already) or "oxford102".
    captions_dir: "" = raw_dir/text_c10.   workers: threads that check pictures, 0 = one a core.
    command: kept in dataset.json for the reader.

    Raises: ValueError, FileNotFoundError or OSError, one line each; `out_dir` is then as it was.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} must be one of {', '.join(DATASETS)}.")
    if shards < 1:
        raise ValueError(f"shards={shards} must be 1 or more; 8 is the default.")
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (one a core) or more.")
    out_dir = out_dir.rstrip(os.sep) or os.sep
    if os.path.exists(out_dir) and not os.path.isdir(out_dir):
        raise ValueError(f"out_dir={out_dir!r} is a file; choose another folder.")
    if dataset == "demo":
        demo.write(raw_dir)  # or finds the set there already, or refuses a folder with anything else

    found = DATASETS[dataset].listing(raw_dir, captions_dir, skip_missing)
    _require_disjoint(found.splits)
    source = {"dataset": dataset, "shards": shards, "listing": _listing_digest(found)}
    if os.path.isdir(out_dir) and os.listdir(out_dir):
        if os.path.isfile(os.path.join(out_dir, "dataset.json")):
            info = records.read_info(out_dir)
            if info["source"] == source:
                return info, False
        raise ValueError(
            f"out_dir={out_dir!r} exists and holds something else than these raw files would give; "
            f"choose another folder, or delete it: rm -r {shlex.quote(out_dir)}"
        )

    parent = os.path.dirname(os.path.abspath(out_dir))
    os.makedirs(parent, exist_ok=True)
    prefix = f".{os.path.basename(out_dir)}.building-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as scratch:  # removed whatever happens
        unfinished = os.path.join(scratch, "records")
        os.mkdir(unfinished)
        total = sum(len(entries) for entries in found.splits.values())
        splits = {}
        with tqdm.tqdm(total=total, unit="image", desc="checking and writing") as bar:
            for split, entries in found.splits.items():
                loaded = _load_all(DATASETS[dataset].load, entries, workers or os.cpu_count() or 1, bar)
                splits[split] = records.write_split(unfinished, split, loaded, shards)
        fingerprints = "".join(part["fingerprint"] for part in splits.values())
        info = {
            "format_version": records.FORMAT_VERSION,
            "dataset": dataset,
            "command": command,
            "shards": shards,
            "splits": splits,
            "left_out": len(found.missing),
            "has_masks": all(part["masks"] == part["images"] for part in splits.values()),
            "embeddings": None,
            "fingerprint": hashlib.sha256(fingerprints.encode()).hexdigest(),
            "source": source,
        }
        records.write_info(unfinished, info)
        if os.path.isdir(out_dir):
            os.rmdir(out_dir)  # it is empty, and not every system renames over a folder
        os.rename(unfinished, out_dir)
    return info, True


def _load_all(load, entries: list, workers: int, bar: tqdm.tqdm) -> Iterator[records.Example]:
    """Every entry loaded, in order. Threads, since Pillow and TensorFlow decode outside Python's lock."""
    remaining = iter(entries)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(itertools.islice(remaining, CHUNK * workers)):
            for example in pool.map(load, chunk):
                yield example
                bar.update()


def _require_disjoint(splits: dict[str, list]) -> None:
    """Raises: ValueError for a key or a class in two splits."""
    for name, values in (
        ("key", {split: {entry.key for entry in entries} for split, entries in splits.items()}),
        ("class", {split: {entry.class_id for entry in entries} for split, entries in splits.items()}),
    ):
        both = sorted(values["train"] & values["test"])
        if both:
            raise ValueError(f"The {name} {both[0]!r} is in both splits ({len(both)} such); correct the class lists.")


def _listing_digest(found: oxford102.Listing) -> str:
    """sha256 of what would be built, without opening a picture: its file's size stands for it."""
    digest = hashlib.sha256()
    for split, entries in found.splits.items():
        for entry in entries:
            try:
                size = os.path.getsize(entry.image_path)
                mask = os.path.getsize(entry.mask_path) if entry.mask_path else 0
            except FileNotFoundError as error:
                raise FileNotFoundError(f"No {error.filename!r} for {entry.key}; add it.") from error
            digest.update(repr((split, entry.key, entry.class_id, entry.captions, entry.colour, size, mask)).encode())
    return digest.hexdigest()


def table(info: dict[str, object]) -> str:
    """Counts per split as lines of text."""
    lines = [f"{'split':<8}{'classes':>9}{'images':>9}{'captions':>10}{'an image':>10}"]
    for split, part in info["splits"].items():
        low, high = part["captions_per_image"]
        each = f"{low}" if low == high else f"{low} to {high}"
        lines.append(f"{split:<8}{len(part['class_ids']):>9,}{part['images']:>9,}{part['captions']:>10,}{each:>10}")
    return "\n".join(lines)


DATASETS = {"demo": oxford102, "oxford102": oxford102}


def define_flags() -> None:
    """Flags of `python -m data.build`."""
    flags.DEFINE_enum("dataset", None, list(DATASETS), "Layout of the raw files; demo is drawn first.", required=True)
    flags.DEFINE_string("raw_dir", None, "Folder of the raw set: jpg/, imagelabels.mat.", required=True)
    flags.DEFINE_string("captions_dir", "", "Folder of class_*/ and the class lists; default raw_dir/text_c10.")
    flags.DEFINE_string("out_dir", None, "Folder to make: the record files and dataset.json.", required=True)
    flags.DEFINE_integer("shards", 8, "Files a split.", lower_bound=1)
    flags.DEFINE_bool("skip_missing", False, "Leave out pictures without captions and captions without pictures.")
    flags.DEFINE_integer("workers", 0, "Threads that check the pictures; 0 = one a core.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Builds the records and says what to run next."""
    values = flags.FLAGS
    info, written = build(
        values.dataset,
        values.raw_dir,
        values.out_dir,
        captions_dir=values.captions_dir,
        shards=values.shards,
        skip_missing=values.skip_missing,
        workers=values.workers,
        command=shlex.join(["python", "-m", "data.build", *sys.argv[1:]]),
    )
    state = "written" if written else "complete already, built from the same files; left as it is"
    print(f"{values.out_dir}: {state}")
    print(table(info))
    counts = tuple(part["images"] for part in info["splits"].values())
    if info["dataset"] == "oxford102" and counts != oxford102.PUBLISHED:
        print("note: the whole of Oxford-102 has {:,} training and {:,} test pictures".format(*oxford102.PUBLISHED))
    if info["left_out"]:
        print(f"left out: {info['left_out']:,} pictures or caption files without their partner (--skip_missing)")
    run_dir = os.path.join("runs", values.dataset)
    print(f"next: python -m simgan_tf.text.train --records_dir={shlex.quote(values.out_dir)} --run_dir={run_dir}")


if __name__ == "__main__":
    cli.run(main, define_flags)
