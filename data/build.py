"""Turns pictures and captions into record files: python -m data.build --dataset=cub --raw_dir=... --out_dir=...

What the folders must look like (python -m data.doctor compares it with what is there, and says what to do):

  demo       raw_dir is empty or new: 4,896 flowers are drawn into it, nothing is fetched.
  cub        raw_dir/CUB_200_2011/{images/<class>/<picture>.jpg, images.txt, image_class_labels.txt, classes.txt}
             raw_dir/text_c10/<class>/<picture>.txt, and the class lists there or above it
  oxford102  raw_dir/{jpg/image_00001.jpg ..., imagelabels.mat}
             raw_dir/text_c10/class_00001/image_06734.txt ..., and the class lists there or above it
  folder     pictures of your own in raw_dir, in any folders; captions as a table (captions.csv, metadata.csv, .jsonl,
             .json; .parquet with pyarrow) or as text files beside the pictures: docs/your_pictures.md

Captions in another place or form: --captions_dir= a folder of text_c10's form with .txt or with .t7 files (ICML 2016),
AttnGAN's folder with captions.pickle, train/ and test/, or a table (.csv, .jsonl; of folder also .json, .parquet).
A build of many pictures that was killed goes on from its last whole shard. Several processes, on one machine or on
several, build --part=1/4 to --part=4/4 of it into OUT_DIR.parts/; the same command without --part joins and checks
them.
The class lists, trainvalclasses.txt and testclasses.txt, name one class folder a line: --train_classes= and
--test_classes= say where else they are, --test_share=0.2 draws the test classes instead.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import zlib
from collections.abc import Iterator

import numpy as np
import tqdm
from absl import flags

from data import cub, demo, embeddings, folder, geometry, images, loading, oxford102, records
from data.listing import BROKEN, DAMAGED, NO_CAPTIONS, NO_PICTURE, NO_SPLIT, Listing, refusal
from data.readers import sandbox
from simgan_tf.system import commands, files

MOST_SHARDS = 10_000
MOST_LISTED = 20  # lines about left-out pictures that dataset.json keeps
SOURCE = "source.json"  # in a folder that is not whole: what it is built from
BOXES = 100  # in so many boxes one may leave its picture by far: CUB has 2 such among 11,788
CROPS = ("none", "box", "frames")
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
    skip_damaged: bool = False,
    part: tuple[int, int] | None = None,
    **rule: str | float | int,
) -> tuple[dict[str, object], bool]:
    """Builds `out_dir` from a raw tree; returns its dataset.json and whether it was written now (False: was there).

    The records' bytes depend on the raw files and the arguments other than workers and part only. They are written
    beside `out_dir` under a temporary name and renamed when complete. Whole shards of the same build that a killed
    process, or `out_dir`.parts, holds are taken over.

    dataset: "demo" (drawn into raw_dir first unless it is there already), "cub", "oxford102" or "folder".
    captions_dir, skip_missing: as the data set's `listing`.   skip_damaged: the same, and damaged pictures are left out
    too.   rule: train_classes, test_classes, test_share and split_seed of `data.listing.rule_of`; of a folder also
    split_folders and class_folders of `data.layouts.structure`.   workers: threads that check pictures, 0 = one a core.
    command: kept in dataset.json for the reader.   embeddings_path: what `data.embeddings.read` takes, "" = none.
    crop: "box" cuts the birds out by `geometry.crop_rectangle`, after clipping the boxes to their pictures; "frames"
    cuts from 1.2 times the box to the whole picture, by `geometry.frame_box`.
    stored_size: as `images.read_picture`.
    check: "pixels" decodes every picture once; "headers" accepts JPEGs whose beginning and end are right.
    part: (k, n) writes only every n-th shard from the k-th on, into `out_dir`.parts; then {"parts": shards there,
    "shards": of all} is returned instead.

    Raises: ValueError, FileNotFoundError or OSError, one line each; `out_dir` is then as it was.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} must be one of {', '.join(DATASETS)}.")
    if crop not in CROPS or (crop != "none" and dataset != "cub"):
        raise ValueError(f"crop={crop!r} must be none, box or frames; the last two of cub, which alone has boxes.")
    if stored_size and not 2 * geometry.MIN_SIDE <= stored_size <= 4096:
        raise ValueError(f"stored_size={stored_size} must be 0 (as it is) or {2 * geometry.MIN_SIDE} to 4096 pixels.")
    if check not in CHECKS:
        raise ValueError(f"check={check!r} must be one of {', '.join(CHECKS)}.")
    if not 1 <= shards <= MOST_SHARDS:
        raise ValueError(f"shards={shards} must be 1 to {MOST_SHARDS:,}; 8 is the default.")
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (one a core) or more.")
    if part and not 1 <= part[0] <= part[1] <= shards:
        raise ValueError(f"part={part[0]}/{part[1]} must be 1/N to N/N, N at most the {shards} of --shards.")
    out_dir = out_dir.rstrip(os.sep) or os.sep
    if os.path.exists(out_dir) and not os.path.isdir(out_dir):
        raise ValueError(f"out_dir={out_dir!r} is a file; choose another folder.")
    if dataset == "demo":
        demo.write(raw_dir)  # or finds the set there already, or refuses a folder with anything else

    listing = DATASETS[dataset].listing(raw_dir, captions_dir, True, **rule)
    clipped = 0
    if crop != "none":
        _require_boxes(listing, raw_dir, crop)
        listing, clipped = _clip_boxes(listing, frames=crop == "frames")
    vectors = embeddings.read(embeddings_path) if embeddings_path else None
    if vectors:
        vectors = embeddings.by_picture(vectors, listing)
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

    damaged: list[str] = []  # a line for each picture that cannot be read
    if part and skip_damaged:
        raise ValueError("--part and --skip_damaged: a part cannot tell the others what it left out; give one of them.")

    def loaded(split: str, bar: tqdm.tqdm, shard: int | None) -> Iterator[records.Example]:
        entries = listing.splits[split] if shard is None else listing.splits[split][shard::shards]
        options = crop != "none", stored_size, vectors, check == "headers", damaged
        for example in loading.examples(entries, workers, *options):
            yield example
            bar.update()

    def write_shard(folder: str, split: str, shard: int, bar: tqdm.tqdm) -> records.Written | None:
        before = len(damaged)
        written = records.write_shard(folder, split, shard, shards, functools.partial(loaded, split, bar))
        if len(damaged) > before:  # else a build that goes on would take the shard for whole
            os.unlink(records.shard_path(folder, split, shard, shards))
        return written

    def progress(total: int) -> tqdm.tqdm:
        return tqdm.tqdm(total=total, unit="image", desc="checking and writing", delay=1)

    total, parts = len(listing.entries), f"{out_dir}.parts"
    every = [(split, shard) for split in listing.splits for shard in range(shards)]
    if os.path.isdir(parts) and not _is_of(source, parts):
        raise ValueError(
            f"{parts!r} holds parts of another build than these raw files and flags give; delete it: "
            f"rm -r {shlex.quote(parts)}"
        )
    if part:
        os.makedirs(parts, exist_ok=True)
        files.write_text(os.path.join(parts, SOURCE), json.dumps(source))
        mine = [(split, shard) for split, shard in every if shard % part[1] == part[0] - 1]
        with progress(sum(len(listing.splits[split][shard::shards]) for split, shard in mine)) as bar:
            written = [write_shard(parts, split, shard, bar) is not None for split, shard in mine]
        if damaged:
            raise ValueError(verdict(listing, damaged, skip_missing, skip_damaged))
        there = sum(os.path.exists(records.shard_path(parts, *name, shards)) for name in every)
        return {"parts": there, "shards": len(every)}, any(written)

    # Where damaged pictures may be missing, only the whole build knows which shard the next one belongs to.
    reuse = None if skip_damaged else functools.partial(_is_of, source)
    with files.replacing_folder(out_dir, reuse) as unfinished:
        files.write_text(os.path.join(unfinished, SOURCE), json.dumps(source))
        there = 0
        for split, shard in [] if skip_damaged else every:
            path = records.shard_path(unfinished, split, shard, shards)
            held = records.shard_path(parts, split, shard, shards)
            if os.path.exists(held) and not os.path.exists(path):
                _link(held, path)
            there += os.path.exists(path)
        if there:
            print(f"{there} of {len(every)} shards are whole already, and taken over")
        for name in os.listdir(unfinished):
            if ".unfinished-" in name:
                os.unlink(os.path.join(unfinished, name))
        splits, keys, written = {}, {}, {split: {} for split in listing.splits}
        with progress(total) as bar:
            for split, shard in [] if skip_damaged else every:
                written[split][shard] = write_shard(unfinished, split, shard, bar)
            if why_not := verdict(listing, damaged, skip_missing, skip_damaged):
                raise ValueError(why_not)
            for split in listing.splits:
                keys[split] = {}
                splits[split] = records.write_split(
                    unfinished,
                    split,
                    loaded(split, bar, None) if skip_damaged else functools.partial(loaded, split, bar),
                    shards,
                    functools.partial(_note, keys[split]),
                    written.pop(split),
                )
        os.unlink(os.path.join(unfinished, SOURCE))
        if not all(of_split["images"] for of_split in splits.values()):
            raise ValueError(f"No picture of a split can be used. {refusal({DAMAGED: damaged}, total, 'Mend some.')}")
        left_out = listing.reasons | ({DAMAGED: damaged} if damaged else {})
        missing = [line for lines in left_out.values() for line in lines]
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
                "count": len(missing), "reasons": {reason: len(lines) for reason, lines in left_out.items()},
                "first": missing[:MOST_LISTED], "damaged": damaged,
            },  # fmt: skip
            "remarks": listing.remarks,
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
    shutil.rmtree(parts, ignore_errors=True)
    return info, True


def verdict(listing: Listing, damaged: list[str], skip_missing: bool, skip_damaged: bool) -> str:
    """All for which these pictures are refused, in a line; "" = nothing. The doctor says the same.

    damaged: a line for each picture that cannot be read.
    """
    skipped = {NO_PICTURE, NO_CAPTIONS, NO_SPLIT} if skip_missing else set()
    reasons = {} if skip_damaged else {**listing.reasons, DAMAGED: damaged}
    left = {reason: lines for reason, lines in reasons.items() if lines and reason not in skipped}
    count = len(listing.entries) + len(listing.missing) - len(listing.reasons.get(BROKEN, ()))
    return refusal(left, count) if left else ""


def _is_of(source: dict[str, object], folder: str) -> bool:
    """Whether a folder of shards was begun by a build of this source."""
    try:
        with open(os.path.join(folder, SOURCE), encoding="utf-8") as file:
            return json.load(file) == source
    except (OSError, ValueError):
        return False


def _link(path: str, name: str) -> None:
    """A second name of a file; a copy where the file system has no such."""
    try:
        os.link(path, name)
    except OSError:
        with files.replacing(name) as temporary:
            shutil.copyfile(path, temporary)


def _holds(info: dict[str, object], vectors: embeddings.Embeddings) -> bool:
    """Whether the records hold these embeddings; simgan_tf.text.embed may have replaced them since the build."""
    entry = info["embeddings"] or {}
    return (entry.get("name"), entry.get("dim"), entry.get("scale")) == (vectors.name, vectors.dim, vectors.scale)


def _note(keys: dict[tuple, str], example: records.Example) -> None:
    """Notes the example's key, by its picture's bytes."""
    keys.setdefault((len(example.image), hash(example.image)), example.key)  # 64 bits: enough to compare with


def _require_boxes(listing: Listing, raw_dir: str, crop: str) -> None:
    without = [entry.key for entry in listing.entries if entry.box is None]
    if without:
        raise ValueError(
            f"crop={crop!r} needs CUB_200_2011/bounding_boxes.txt in {raw_dir!r}; {len(without):,} pictures have no "
            "box."
        )


def _clip_boxes(listing: Listing, frames: bool = False) -> tuple[Listing, int]:
    """The listing with every box cut off at its picture's edges, and how many were.

    frames: each box is then replaced by that of a frame around the object, drawn by the picture's key.

    Raises: ValueError where more than one box in BOXES leaves its picture by over geometry.SLACK of a side: the boxes
    were drawn on other pictures than these.
    """
    clipped, astray, splits = 0, [], {}
    total = len(listing.entries)
    with tqdm.tqdm(total=total, unit="image", desc="checking boxes", delay=2, leave=False) as bar:
        for split, entries in listing.splits.items():
            splits[split] = []
            for entry in entries:
                size = images.picture_size(entry.image_path)
                box, beyond = geometry.clip_box(size, entry.box) if size else (entry.box, 0.0)
                clipped += beyond > 0
                if beyond > geometry.SLACK:
                    astray.append((entry, size))
                if frames and size and min(box[2:]) > 0:
                    draws = tuple(np.random.default_rng(zlib.crc32(entry.key.encode())).random(3))
                    box = geometry.frame_box(size, box, draws)
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
            size, mask = files.size(entry.image_path), files.size(entry.mask_path) if entry.mask_path else 0
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
        classes = len({*part["class_ids"]} - {0}) or "-"
        lines.append(f"{split:<8}{classes:>9}{part['images']:>9,}{part['captions']:>10,}{each:>10}")
    return "\n".join(lines)


def remarks(info: dict[str, object]) -> list[str]:
    """What is worth knowing about the records beside their counts: split, captions, what was left out, duplicates."""
    lines = [f"captions: {info['carrier']}; split: {rule_in_words(info['split_rule'])}"]
    lines += info.get("remarks", [])
    if info["embeddings"]:
        lines.append("embeddings: {name}, {dim} numbers, root mean square {scale:.3g}".format(**info["embeddings"]))
    published = getattr(DATASETS[info["dataset"]], "PUBLISHED", None) if info["dataset"] != "demo" else None
    counts = tuple(part["images"] for part in info["splits"].values())
    if published and info["split_rule"]["rule"] != "seeded" and published != counts:
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


def rule_in_words(rule: dict) -> str:
    """How the split was made. rule: `split_rule` of a listing or of dataset.json."""
    if rule["rule"] == "lists":
        return "by " + " and ".join(rule["files"].values())
    if rule["rule"] == "seeded":
        share, of = rule["test_share"], rule.get("of", "classes")
        return f"{share:.0%} of the {of} for testing, drawn with split_seed={rule['seed']}"
    return {"folders": "as the folders say", "captions": "as the captions' pickles say"}[rule["rule"]]


def define_flags() -> None:
    flags.DEFINE_enum("dataset", None, list(DATASETS), "Layout of the raw files, see above.", required=True)
    flags.DEFINE_string("raw_dir", None, "Folder of the raw set, see above.", required=True)
    flags.DEFINE_string("out_dir", None, "Folder to make: the record files and dataset.json.", required=True)
    flags.DEFINE_string(
        "embeddings", "", "Ready embeddings of the captions: StackGAN's folder with train/ and test/, a folder of .t7 "
        "files, an .npz or an .npy; default none, since training makes its own.",
    )  # fmt: skip
    flags.DEFINE_enum(
        "crop",
        "none",
        CROPS,
        "box: cut the birds out around their bounding boxes, as StackGAN; frames: from close around the bird to the "
        "whole photograph, drawn by the picture's name.",
    )
    flags.DEFINE_integer(
        "stored_size", 0, "Pixels that a longer shorter side is brought down to, once; 0 = keep the files' bytes.",
        lower_bound=0,
    )  # fmt: skip
    flags.DEFINE_enum(
        "check", "pixels", CHECKS, "headers: judge JPEGs by their header and end alone, two to three times as fast for "
        "large pictures; damage in between then shows up in training.",
    )  # fmt: skip
    define_shared_flags()
    flags.DEFINE_integer("workers", 0, "Threads that check the pictures; 0 = one a core.", lower_bound=0)
    sandbox.define_flag()
    flags.DEFINE_integer(
        "shards", 8, "Files a split; a killed build goes on from the last whole one, so 1 for every 10,000 pictures.",
        lower_bound=1, upper_bound=MOST_SHARDS,
    )  # fmt: skip
    flags.DEFINE_string("part", "", "Build part K of N alone, such as 2/8, into OUT_DIR.parts/; see above.")


SHARED = ("captions_dir", "crop", "train_classes", "test_classes", "test_share", "split_seed", "skip_missing",
          "skip_damaged")  # fmt: skip


def define_shared_flags() -> None:
    """Flags of data.build and of data.doctor: captions, splits, how folders are understood, what may be left out."""
    either = ["yes", "no"]
    flags.DEFINE_string("captions_dir", "", "Folder or file of the captions; default: in raw_dir.")
    flags.DEFINE_string("train_classes", "", "File with the training classes, one class folder a line.")
    flags.DEFINE_string("test_classes", "", "File with the test classes, one class folder a line.")
    flags.DEFINE_float("test_share", 0, "Draw this share of the classes for testing, without lists; folder: 0 = 0.1.")
    flags.DEFINE_integer("split_seed", 0, "Of the draw of --test_share: another seed, other test classes.")
    flags.DEFINE_enum("split_folders", "yes", either, "folder: whether folders called train, val, test are splits.")
    flags.DEFINE_enum("class_folders", "yes", either, "folder: whether the folders of the pictures are classes.")
    flags.DEFINE_bool("skip_missing", False, "Leave out pictures without captions, and captions without pictures.")
    flags.DEFINE_bool("skip_damaged", False, "Leave out damaged pictures and broken captions as well.")


def folder_rule() -> dict[str, bool]:
    """The flags of `define_shared_flags`, as arguments of `build`; {} for other data sets."""
    values = flags.FLAGS
    if values.dataset != "folder":
        return {}
    return {name: getattr(values, name) == "yes" for name in ("split_folders", "class_folders")}


def main(argv: list[str]) -> None:
    """Builds the records and says what to run next."""
    values = flags.FLAGS
    part = None
    if values.part:
        if not re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", values.part):
            raise ValueError(f"part={values.part!r} must be K/N, such as 2/8.")
        part = tuple(map(int, values.part.split("/")))
    command = commands.typed("data.build")
    taken = {name: getattr(values, name) for name in (*SHARED, "shards", "workers", "stored_size", "check")}
    info, written = build(
        values.dataset, values.raw_dir, values.out_dir, command=command, embeddings_path=values.embeddings, part=part,
        **taken, **folder_rule(),
    )  # fmt: skip
    if part:
        print(f"{values.out_dir}.parts: {info['parts']} of {info['shards']} shards are whole")
        print("next: the other parts; then the same command without --part joins and checks them")
        return
    state = "written" if written else "complete already, built from the same files; left as it is"
    print(commands.escaped(f"{values.out_dir}: {state}"))
    print(table(info))
    print("\n".join(remarks(info)))
    run_dir = os.path.join("runs", values.dataset)
    next_command = f"python -m simgan_tf.text.train --records_dir={shlex.quote(values.out_dir)} --run_dir={run_dir}"
    print(f"next: {commands.as_typed(next_command)}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
