"""Turns pictures and captions into record files: python -m data.build --dataset=cub --raw_dir=... --out_dir=...

What the folders must look like (python -m data.doctor compares it with what is there, and says what to do):

  demo       raw_dir is empty or new: 4,896 flowers are drawn into it, nothing is fetched.
  cub        raw_dir/CUB_200_2011/{images/<class>/<picture>.jpg, images.txt, image_class_labels.txt, classes.txt}
             raw_dir/text_c10/<class>/<picture>.txt, and the class lists there or above it
  oxford102  raw_dir/{jpg/image_00001.jpg ..., imagelabels.mat}
             raw_dir/text_c10/class_00001/image_06734.txt ..., and the class lists there or above it
  folder     pictures of your own in raw_dir, in any folders; raw_dir/captions.csv whose first line is key,caption
             and whose other lines are such as: any/folder/picture,a red flower with round petals

Captions in another place or form: --captions_dir= a folder of text_c10's form with .txt or with .t7 files (ICML 2016),
AttnGAN's folder with captions.pickle, train/ and test/, or a file .csv or .jsonl.
The class lists, trainvalclasses.txt and testclasses.txt, name one class folder a line: --train_classes= and
--test_classes= say where else they are, --test_share=0.2 draws the test classes instead.
"""

import dataclasses
import hashlib
import os
import shlex
import sys
from collections.abc import Iterator

import tqdm
from absl import flags

from data import cub, demo, embeddings, folder, geometry, images, loading, oxford102, records
from data.listing import Listing
from simgan_tf.system import commands, files

MOST_LISTED = 20  # lines about left-out pictures that dataset.json keeps
BOXES = 100  # in so many boxes one may leave its picture by far: CUB has 2 such among 11,788
CROPS = ("none", "box")
CHECKS = ("pixels", "headers")
DATASETS = {"demo": oxford102, "cub": cub, "oxford102": oxford102, "folder": folder}


def build(
    dataset: str,
    raw_dir: str,
    out_dir: str,
    captions_dir: str = "",
    shards: int = 8,
    skip_missing: bool = False,
    workers: int = 0,
    command: str = "",
    *,
    embeddings_path: str = "",
    crop: str = "none",
    stored_size: int = 0,
    check: str = "pixels",
    **rule: str | float | int,
) -> tuple[dict[str, object], bool]:
    """Builds `out_dir` from a raw tree; returns its dataset.json and whether it was written now (False: was there).

    The records' bytes depend on the raw files and the arguments other than workers only. They are written beside
    `out_dir` under a temporary name and renamed when complete.

    dataset: "demo" (drawn into raw_dir first unless it is there already), "cub", "oxford102" or "folder".
    captions_dir, skip_missing: as the data set's `listing`.   rule: train_classes, test_classes, test_share and
    split_seed of `data.listing.rule_of`.   workers: threads that check pictures, 0 = one a core.
    command: kept in dataset.json for the reader.   embeddings_path: what `data.embeddings.read` takes, "" = none.
    crop: "box" cuts the birds out by `geometry.crop_rectangle`, after clipping the boxes to their pictures.
    stored_size: as `images.read_picture`.
    check: "pixels" decodes every picture once; "headers" accepts JPEGs whose beginning and end are right.

    Raises: ValueError, FileNotFoundError or OSError, one line each; `out_dir` is then as it was.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} must be one of {', '.join(DATASETS)}.")
    if crop not in CROPS or (crop == "box" and dataset != "cub"):
        raise ValueError(f"crop={crop!r} must be none, or box with --dataset=cub; only the birds have bounding boxes.")
    if stored_size and not 2 * geometry.MIN_SIDE <= stored_size <= 4096:
        raise ValueError(f"stored_size={stored_size} must be 0 (as it is) or {2 * geometry.MIN_SIDE} to 4096 pixels.")
    if check not in CHECKS:
        raise ValueError(f"check={check!r} must be one of {', '.join(CHECKS)}.")
    if shards < 1:
        raise ValueError(f"shards={shards} must be 1 or more; 8 is the default.")
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (one a core) or more.")
    out_dir = out_dir.rstrip(os.sep) or os.sep
    if os.path.exists(out_dir) and not os.path.isdir(out_dir):
        raise ValueError(f"out_dir={out_dir!r} is a file; choose another folder.")
    if dataset == "demo":
        demo.write(raw_dir)  # or finds the set there already, or refuses a folder with anything else

    listing = DATASETS[dataset].listing(raw_dir, captions_dir, skip_missing, **rule)
    clipped = 0
    if crop == "box":
        _require_boxes(listing, raw_dir)
        listing, clipped = _clip_boxes(listing)
    vectors = embeddings.read(embeddings_path) if embeddings_path else None
    if vectors:
        embeddings.check(vectors, listing)
    source = {
        "dataset": dataset,
        "shards": shards,
        "crop": crop,
        "stored_size": stored_size,
        "listing": _listing_digest(listing, vectors),
    }
    if os.path.isdir(out_dir) and os.listdir(out_dir):
        if os.path.isfile(os.path.join(out_dir, "dataset.json")):
            info = records.read_info(out_dir)
            if info["source"] == source and (vectors is None or _holds(info, vectors)):
                return info, False
        raise ValueError(
            f"out_dir={out_dir!r} exists and holds something else than these raw files would give; "
            f"choose another folder, or delete it: rm -r {shlex.quote(out_dir)}"
        )

    commands.start_tensorflow()  # only now: mistakes in the raw files are reported without waiting for it
    with files.replacing_folder(out_dir) as unfinished:
        total = sum(len(entries) for entries in listing.splits.values())
        splits, keys = {}, {}
        with tqdm.tqdm(total=total, unit="image", desc="checking and writing", delay=1) as bar:
            for split, entries in listing.splits.items():
                loaded = loading.examples(
                    entries, workers, crop == "box", stored_size, vectors, check == "headers"
                )
                keys[split] = {}
                splits[split] = records.write_split(unfinished, split, _watched(loaded, keys[split], bar), shards)
        both = [[keys["train"][digest], keys["test"][digest]] for digest in keys["train"] if digest in keys["test"]]
        entry = records.embeddings_entry(splits, vectors.name, vectors.scale, vectors.source) if vectors else None
        info = {
            "format_version": records.FORMAT_VERSION,
            "dataset": dataset,
            "command": command,
            "shards": shards,
            "crop": crop,
            "stored_size": stored_size,
            "splits": splits,
            "split_rule": listing.split_rule,
            "carrier": listing.carrier,
            "captioned": listing.captioned,
            "missing": {
                "count": len(listing.missing), "reasons": listing.reasons, "first": listing.missing[:MOST_LISTED],
            },  # fmt: skip
            "duplicates": both,  # [key in train, key in test] of pictures that are the same, byte for byte
            "clipped_boxes": clipped,
            "has_masks": all(part["masks"] == part["images"] for part in splits.values()),
            "embeddings": entry,
            "fingerprint": records.fingerprint(splits),
            "source": source,
        }
        records.write_info(unfinished, info)
        if os.path.isdir(out_dir):
            os.rmdir(out_dir)  # it was empty when this build began; raises where another build has filled it
    return info, True


def _holds(info: dict[str, object], vectors: embeddings.Embeddings) -> bool:
    """Whether the records hold these embeddings; simgan_tf.text.embed may have replaced them since the build."""
    entry = info["embeddings"] or {}
    return (entry.get("name"), entry.get("dim"), entry.get("scale")) == (vectors.name, vectors.dim, vectors.scale)


def _watched(examples: Iterator[records.Example], keys: dict[tuple, str], bar: tqdm.tqdm) -> Iterator[records.Example]:
    """The examples unchanged; notes each one's key in `keys`, by its picture's bytes, and moves the progress bar."""
    for example in examples:
        keys.setdefault((len(example.image), hash(example.image)), example.key)  # 64 bits: enough to compare with
        yield example
        bar.update()


def _require_boxes(listing: Listing, raw_dir: str) -> None:
    without = [entry.key for entries in listing.splits.values() for entry in entries if entry.box is None]
    if without:
        raise ValueError(
            f"crop='box' needs CUB_200_2011/bounding_boxes.txt in {raw_dir!r}; {len(without):,} pictures have no box."
        )


def _clip_boxes(listing: Listing) -> tuple[Listing, int]:
    """The listing with every box cut off at its picture's edges, and how many were.

    Raises: ValueError where more than one box in BOXES leaves its picture by over geometry.SLACK of a side: the boxes
    were drawn on other pictures than these.
    """
    clipped, astray, splits = 0, [], {}
    total = sum(len(entries) for entries in listing.splits.values())
    with tqdm.tqdm(total=total, unit="image", desc="checking boxes", delay=2, leave=False) as bar:
        for split, entries in listing.splits.items():
            splits[split] = []
            for entry in entries:
                size = images.picture_size(entry.image_path)
                box, beyond = geometry.clip_box(size, entry.box) if size else (entry.box, 0.0)
                clipped += beyond > 0
                if beyond > geometry.SLACK:
                    astray.append((entry, size))
                splits[split].append(dataclasses.replace(entry, box=box))
                bar.update()
    if astray and len(astray) * BOXES > total:
        entry, size = astray[0]
        first = geometry.beside(entry.image_path, size, entry.box)
        raise ValueError(f"{len(astray):,} of {total:,} boxes leave their pictures, the first: {first}")
    return dataclasses.replace(listing, splits=splits), clipped


def _listing_digest(listing: Listing, vectors: embeddings.Embeddings | None) -> str:
    """sha256 of what would be built. No picture is opened: the sizes of their files enter instead of the bytes."""
    digest = hashlib.sha256()
    for split, entries in listing.splits.items():
        for entry in entries:
            try:
                size = os.path.getsize(entry.image_path)
                mask = os.path.getsize(entry.mask_path) if entry.mask_path else 0
            except FileNotFoundError as error:
                raise FileNotFoundError(f"No {error.filename!r} for {entry.key}; add it.") from error
            values = (split, entry.key, entry.class_id, entry.captions, entry.colour, entry.box, size, mask)
            digest.update(repr(values).encode())
            if vectors:
                digest.update(vectors.rows[entry.key].tobytes())
    return digest.hexdigest()


def table(info: dict[str, object]) -> str:
    """Counts per split as lines of text."""
    lines = [f"{'split':<8}{'classes':>9}{'images':>9}{'captions':>10}{'an image':>10}"]
    for split, part in info["splits"].items():
        low, high = part["captions_per_image"]
        each = f"{low}" if low == high else f"{low} to {high}"
        lines.append(f"{split:<8}{len(part['class_ids']):>9,}{part['images']:>9,}{part['captions']:>10,}{each:>10}")
    return "\n".join(lines)


def remarks(info: dict[str, object]) -> list[str]:
    """What is worth knowing about the records beside their counts: split, captions, what was left out, duplicates."""
    rule = info["split_rule"]
    descriptions = {
        "lists": lambda: "by " + " and ".join(rule["files"].values()),
        "seeded": lambda: f"{rule['test_share']:.0%} of the classes for testing, drawn with split_seed={rule['seed']}",
        "captions": lambda: "as the captions' pickles say",
    }
    lines = [f"captions: {info['carrier']}; split: {descriptions[rule['rule']]()}"]
    if info["embeddings"]:
        lines.append("embeddings: {name}, {dim} numbers, root mean square {scale:.3g}".format(**info["embeddings"]))
    published = getattr(DATASETS[info["dataset"]], "PUBLISHED", None) if info["dataset"] != "demo" else None
    counts = tuple(part["images"] for part in info["splits"].values())
    if published and rule["rule"] != "seeded" and published != counts:
        lines.append("note: the whole of this set has {:,} training and {:,} test pictures".format(*published))
    missing = info["missing"]
    if missing["count"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in missing["reasons"].items())
        lines.append(f"left out: {missing['count']:,} ({reasons}), first: {missing['first'][0]}")
    if clipped := info.get("clipped_boxes"):  # records of before have no such number
        lines.append(f"{clipped:,} boxes left their pictures and were clipped to them")
    if info["duplicates"]:
        train, test = info["duplicates"][0]
        lines.append(f"note: {len(info['duplicates'])} pictures are in both splits, such as {train} = {test}")
    return lines


def define_flags() -> None:
    """Flags of `python -m data.build`."""
    flags.DEFINE_enum("dataset", None, list(DATASETS), "Layout of the raw files, see above.", required=True)
    flags.DEFINE_string("raw_dir", None, "Folder of the raw set, see above.", required=True)
    flags.DEFINE_string("captions_dir", "", "Folder or file of the captions; default: in raw_dir.")
    flags.DEFINE_string("out_dir", None, "Folder to make: the record files and dataset.json.", required=True)
    flags.DEFINE_string(
        "embeddings", "", "Ready embeddings of the captions: StackGAN's folder with train/ and test/, a folder of .t7 "
        "files, an .npz or an .npy; default none, since training makes its own.",
    )  # fmt: skip
    flags.DEFINE_enum("crop", "none", CROPS, "box: cut the birds out around their bounding boxes, as StackGAN.")
    flags.DEFINE_integer(
        "stored_size", 0, "Pixels that a longer shorter side is brought down to, once; 0 = keep the files' bytes.",
        lower_bound=0,
    )  # fmt: skip
    flags.DEFINE_enum(
        "check", "pixels", CHECKS, "headers: judge JPEGs by their header and end alone, two to three times as fast for "
        "large pictures; damage in between then shows up in training.",
    )  # fmt: skip
    flags.DEFINE_string("train_classes", "", "File with the training classes, one class folder a line.")
    flags.DEFINE_string("test_classes", "", "File with the test classes, one class folder a line.")
    flags.DEFINE_float("test_share", 0, "Draw this share of the classes for testing, without lists; folder: 0 = 0.1.")
    flags.DEFINE_integer("split_seed", 0, "Of the draw of --test_share: another seed, other test classes.")
    flags.DEFINE_bool("skip_missing", False, "Leave out pictures without captions, and captions without pictures.")
    flags.DEFINE_integer("workers", 0, "Threads that check the pictures; 0 = one a core.", lower_bound=0)
    flags.DEFINE_integer("shards", 8, "Files a split.", lower_bound=1)


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
        embeddings_path=values.embeddings,
        crop=values.crop,
        stored_size=values.stored_size,
        check=values.check,
        train_classes=values.train_classes,
        test_classes=values.test_classes,
        test_share=values.test_share,
        split_seed=values.split_seed,
    )
    state = "written" if written else "complete already, built from the same files; left as it is"
    print(f"{values.out_dir}: {state}")
    print(table(info))
    print("\n".join(remarks(info)))
    run_dir = os.path.join("runs", values.dataset)
    next_command = f"python -m simgan_tf.text.train --records_dir={shlex.quote(values.out_dir)} --run_dir={run_dir}"
    print(f"next: {commands.as_typed(next_command)}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
