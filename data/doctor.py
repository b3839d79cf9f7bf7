"""Looks at raw files, or at records, before you build or train, and says what to do next. It changes nothing.

python -m data.doctor --dataset=cub --raw_dir=...       the same flags as data.build
python -m data.doctor --records_dir=...                 checks every byte of built records

Ends with exit code 0 where the build, or the training, can go on.
"""

import os
import shlex
import statistics
import sys
from collections import Counter

import tqdm
from absl import flags

from data import build, captions, demo, embeddings, images, inspection, layouts, places, records, tables
from data.listing import Entry, Listing, one_line
from data.names import PICTURE_ENDINGS
from data.readers import sandbox
from data.report import Report
from simgan_tf.system import commands

LONG_CAPTION = captions.CHARACTERS  # what the .t7 files and the char-CNN-RNN keep of a caption
PUBLISHED_NAMES = {"cub": "CUB-200-2011", "oxford102": "Oxford-102"}
SOURCES = {  # where the files come from
    "cub": (
        "pictures: CUB_200_2011.tgz, https://data.caltech.edu/records/65de6-vp158",
        "captions: text_c10/ of https://github.com/reedscot/cvpr2016 or icml2016, or the birds' metadata of "
        "https://github.com/taoxugit/AttnGAN",
    ),
    "oxford102": (
        "pictures: 102flowers.tgz and imagelabels.mat, https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        "captions: text_c10/ of https://github.com/reedscot/cvpr2016 or icml2016",
    ),
    "folder": ("your own pictures, and a table whose first line is key,caption, or text files: docs/your_pictures.md",),
}


def check_raw(
    report: Report,
    dataset: str,
    raw_dir: str,
    captions_dir: str = "",
    *,
    embeddings_path: str = "",
    crop: str = "none",
    classes: bool = False,
    workers: int = 0,
    skip_missing: bool = False,
    skip_damaged: bool = False,
    **rule: str | float | int,
) -> str:
    """Prints all that can be found out about a raw tree; returns the flag without which it is refused, "" = none.

    The arguments are those of `build.build`.   classes: whether to print the counts of every class.
    """
    if dataset == "demo" and not (os.path.isdir(raw_dir) and os.listdir(raw_dir)):
        report.line(f"{raw_dir}: new or empty; the demo set will be drawn there, nothing has to be fetched")
        return ""
    layout = build.DATASETS[dataset]
    listing, error = None, ""
    try:
        if dataset == "demo":
            demo.write(raw_dir)  # raises unless the folder holds the demo set
        listing = layout.listing(raw_dir, captions_dir, True, **rule)
    except (ValueError, OSError) as caught:
        error = commands.in_words(caught)
    report.title(f"Files of --dataset={dataset}")
    tree = layout.expected_tree(raw_dir, captions_dir)
    for line in tree.splitlines():
        path, _, remark = line.partition("  ")
        state, details = _state(dataset, path, remark, raw_dir, listing, rule)
        report.expected(state, path, remark.strip(), details)
    if listing is None:
        report.problem(error.replace(f"; {one_line(tree)}", ""))  # the tree was printed above
        paths = _pictures_below(raw_dir)
        if paths:
            commands.start_tensorflow()
            report.title(f"Pictures below {raw_dir}, though they cannot be joined with captions yet")
            report.pictures(inspection.inspect_all(paths, workers=workers))
        return ""
    _print_counts(report, dataset, listing, classes)
    _print_captions(report, listing)
    commands.start_tensorflow()  # only now: mistakes in the tree are reported without waiting for it
    entries = listing.entries
    report.title("Pictures")
    boxes = [None if crop == "none" else entry.box for entry in entries]
    if crop != "none" and None in boxes:
        count = boxes.count(None)
        report.problem(f"--crop={crop}: {count:,} pictures have no box; bounding_boxes.txt is not complete.")
    facts = inspection.inspect_all([entry.image_path for entry in entries], boxes, workers)
    damaged = report.pictures(facts)
    owners = [(split, entry.class_name) for split, of_split in listing.splits.items() for entry in of_split]
    report.same_pictures(facts, owners)
    _print_masks(report, [entry for entry in entries if entry.mask_path])
    if embeddings_path:
        _print_embeddings(report, embeddings_path, listing)
    if why_not := build.verdict(listing, damaged, skip_missing, skip_damaged):
        report.problem(why_not)
        return why_not.rsplit(maxsplit=1)[-1]
    return ""


def check_records(report: Report, records_dir: str) -> None:
    """Reads every record, and compares counts, fingerprints and pictures with dataset.json."""
    try:
        info = records.read_info(records_dir)
    except (ValueError, OSError) as error:
        report.problem(commands.in_words(error))
        return
    commands.start_tensorflow()  # only now: a wrong dataset.json is reported without waiting for it
    report.title(f"Records in {records_dir}")
    parts, facts, owners = {}, [], []
    for split, stated in info["splits"].items():
        tally = records.Tally(split)
        examples = records.read_examples(records_dir, split)
        try:
            for example in tqdm.tqdm(examples, total=stated["images"], unit="image", desc=f"reading {split}", delay=1):
                tally.add(example)
                facts.append(inspection.inspect_bytes(example.key, example.image))
                owners.append((split, str(example.class_id)))
        except (ValueError, OSError) as error:
            report.problem(commands.in_words(error))
            continue
        parts[split] = part = tally.part()
        other = [name for name in part.keys() & stated.keys() if part[name] != stated[name]]
        if other:
            report.problem(
                f"{split}: dataset.json does not tell of these records, {', '.join(sorted(other))} differ; "
                "the folder is a mixture of two, build it again."
            )
        else:
            embedded = f", embeddings of {part['embedding_dim']} numbers" if part["embedding_dim"] else ""
            report.line(
                f"ok       {split}: {part['images']:,} pictures, {part['captions']:,} captions, "
                f"{len(part['class_ids'])} classes{embedded}; every checksum and the fingerprint fit"
            )
    if parts and len(parts) == len(info["splits"]):
        if info.get("fingerprint") != records.fingerprint(parts):
            report.problem(f"{records_dir}/dataset.json: its fingerprint is not that of its splits; build it again.")
        dims = {part["embedding_dim"] for part in parts.values()}
        entry = info.get("embeddings")
        if dims != {entry.get("dim") if isinstance(entry, dict) else 0}:
            report.problem(f"{records_dir}/dataset.json tells of embeddings {entry}, the records hold {sorted(dims)} "
                           "numbers a caption; run simgan_tf.text.embed again.")  # fmt: skip
        both = sorted(set.intersection(*(set(part["class_ids"]) for part in parts.values())) - {0})
        if both and info.get("split_rule", {}).get("rule") != "folders":
            report.problem(f"class {both[0]} is in every split ({len(both)} such); build again from class lists.")
    if refused := report.pictures(facts):
        report.problem(refused[0] + (f" ({len(refused):,} such pictures)" if len(refused) > 1 else ""))
    report.same_pictures(facts, owners)
    shards = info["shards"]
    wanted = {records.shard_path("", split, shard, shards) for split in info["splits"] for shard in range(shards)}
    wanted |= {places.index_path("", split) for split in info["splits"]}
    wanted |= {records.pairs_path("", split) for split in info["splits"]} | {records.JUDGE}
    others = sorted(name for name in os.listdir(records_dir) if name not in wanted | {"dataset.json"})
    if others:
        report.some("files that belong to no record of this folder", others)


def _state(
    dataset: str, path: str, remark: str, raw_dir: str, listing: Listing | None, rule: dict
) -> tuple[str, str]:
    """State of a line of the expected tree, "ok", "MISSING" or "--" (absent and not needed), and details."""
    path, example = path.removesuffix(" ..."), path.endswith(" ...")
    ending, gone = os.path.splitext(path)[1].lower(), "--" if listing or remark.endswith(" only") else "MISSING"
    if dataset == "folder" and not example and not listing:
        files = [name for _, names in layouts.walk(raw_dir) for name in names] if os.path.isdir(raw_dir) else []
        found = any(name.lower().endswith(tables.ENDINGS) for name in files)
        return ("--", "there are others") if found else ("MISSING", f"No captions at {path!r}")
    if "classes.txt and " in path:
        if listing:
            state = "ok" if listing.split_rule["rule"] == "lists" else "--"
            return state, f"split {build.rule_in_words(listing.split_rule)}"
        if rule.get("test_share"):
            return "--", "split drawn"
        lists = captions.list_paths(os.path.dirname(path), rule.get("train_classes", ""), rule.get("test_classes", ""))
        absent = [name for name in lists.values() if not os.path.isfile(name)]
        return ("MISSING", f"no {absent[0]}") if absent else ("ok", "")
    above = os.path.dirname(os.path.dirname(path))  # of the class folders
    if example and ending in PICTURE_ENDINGS:
        count = len(_pictures_below({"cub": above, "folder": raw_dir}.get(dataset, os.path.dirname(path))))
        return "ok" if count else gone, f"{count:,} pictures"
    if ending in (".txt", ".mat") and not example:
        return ("ok", "") if os.path.isfile(path) else (gone, "not there")
    if listing:
        return "ok", f"captions of {sum(listing.captioned.values()):,} pictures, {listing.carrier}"
    try:
        read = captions.read(above if example else path, set())
    except (ValueError, OSError) as error:
        return "MISSING", commands.in_words(error)
    return "ok", f"captions of {len(read.keys()):,} pictures, {read.carrier}"


def _print_counts(report: Report, dataset: str, listing: Listing, classes: bool) -> None:
    published = getattr(build.DATASETS[dataset], "PUBLISHED", None) if dataset != "demo" else None
    report.title("Counts")
    report.line(f"{'split':<8}{'classes':>9}{'pictures':>10}{'captioned':>11}{'published':>11}   pictures a class")
    for i, (split, entries) in enumerate(listing.splits.items()):
        sizes = Counter((entry.class_id, entry.class_name or entry.key) for entry in entries)
        each = f"least {min(sizes.values())}, median {statistics.median(sizes.values()):g}, most {max(sizes.values())}"
        expected = f"{published[i]:,}" if published else "-"
        count = len({number for number, _ in sizes} - {0}) or "-"
        report.line(f"{split:<8}{count:>9}{len(entries):>10,}{listing.captioned[split]:>11,}{expected:>11}   {each}")
        if classes:
            for (number, name), count in sorted(sizes.items()):
                report.line(f"    {number:>5} {name:<40} {count:>6,}")
    if published and tuple(listing.captioned[split] for split in listing.splits) != published:
        report.line(f"note: the published {PUBLISHED_NAMES[dataset]} splits have other counts of captioned pictures")
    for remark in listing.remarks:
        report.line(remark)
    for reason, lines in listing.reasons.items():
        report.some(f"left out, {reason}", lines)


def _print_captions(report: Report, listing: Listing) -> None:
    entries = listing.entries
    counts = Counter(len(entry.captions) for entry in entries)
    report.title("Captions")
    report.line("captions a picture: " + ", ".join(f"{n} ({counts[n]:,} pictures)" for n in sorted(counts)))
    usual = counts.most_common(1)[0][0]
    fewer = [f"{entry.key}: {len(entry.captions)}" for entry in entries if len(entry.captions) < usual]
    texts = [(entry.key, text) for entry in entries for text in entry.captions]
    long = [f"{key}: {len(text)} characters" for key, text in texts if len(text) > LONG_CAPTION]
    foreign = [f"{key}: {text!a}"[:110] for key, text in texts if not text.isascii()]
    wordless = [f"{key}: {text!a}"[:110] for key, text in texts if not any(c.isalnum() for c in text)]
    for title, names in (
        (f"pictures with fewer captions than the usual {usual}", fewer if len(counts) > 1 else []),
        (f"captions over {LONG_CAPTION} characters", long),
        ("captions with other than ASCII characters", foreign),
        ("captions without a letter or digit", wordless),
    ):
        if names:
            report.some(title, names)


def _print_masks(report: Report, entries: list[Entry]) -> None:
    """Checks that each mask fits its picture. entries: those with masks."""
    wrong = []
    for entry in tqdm.tqdm(entries, unit="mask", desc="looking at the masks", delay=1, leave=False):
        try:
            images.read_mask(entry.mask_path, images.read_picture(entry.image_path))
        except (ValueError, OSError) as error:
            if entry.mask_path in str(error):  # a broken picture was reported above
                wrong.append(str(error))
    if entries:
        report.line(f"{len(entries):,} masks, {len(wrong):,} of them wrong")
    if wrong:
        report.problem(wrong[0])


def _print_embeddings(report: Report, path: str, listing: Listing) -> None:
    report.title("Embeddings")
    try:
        vectors = embeddings.read(path)
        unused = embeddings.check(embeddings.by_picture(vectors, listing), listing)
    except (ValueError, OSError) as error:
        report.problem(commands.in_words(error))
        return
    report.line(
        f"ok       {vectors.name} from {vectors.source}: {len(vectors.rows):,} pictures, {vectors.dim} numbers a "
        f"caption, root mean square {vectors.scale:.3g}"
    )
    if unused:
        report.line(f"{unused:,} pictures of them are not used")


def _pictures_below(folder: str) -> list[str]:
    """Every picture file in `folder`, at any depth, masks, hidden ones and folders that may not be read left out."""
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in ("__MACOSX", "masks"))
        paths += [os.path.join(place, name) for name in sorted(names)
                  if name[0] != "." and name.lower().endswith(PICTURE_ENDINGS)]  # fmt: skip
    return paths


def next_step(report: Report, dataset: str, raw_dir: str, options: dict[str, object], flag: str) -> list[str]:
    """The last lines: the command to type, or what to do first.

    options: the flags that data.build shares.   flag: that the build needs unless all is mended; "" = none.
    """
    typed = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()
             if value not in ("", 0, "none", "yes")]  # fmt: skip
    command = ["python", "-m", "data.build", f"--dataset={dataset}", f"--raw_dir={raw_dir}", *typed]
    command += [f"--out_dir={os.path.join('records', dataset)}"]
    if not report.problems:
        return [f"next: {shlex.join(command)}"]
    lines = [f"next: {report.problems[0]}"]
    if flag and len(report.problems) == 1:
        lines.append(f"      or, without these: {shlex.join([*command, flag])}")
    if report.incomplete:
        lines += [f"      {source}" for source in SOURCES.get(dataset, ())]
        lines.append("      an archive is unpacked by tar -xf ARCHIVE -C NEW_FOLDER, or unzip")
    return [*lines, "      then look again: " + shlex.join(["python", "-m", "data.doctor", *sys.argv[1:]])]


def define_flags() -> None:
    flags.DEFINE_enum("dataset", None, list(build.DATASETS), "Layout of the raw files, see data.build --help.")
    flags.DEFINE_string("raw_dir", None, "Folder of the raw set.")
    flags.DEFINE_string("embeddings", "", "Ready embeddings of the captions to check as well.")
    flags.DEFINE_enum("crop", "none", build.CROPS, "box, frames: check the bounding boxes as well.")
    build.define_shared_flags()
    flags.DEFINE_bool("classes", False, "Print the number of pictures of every class.")
    flags.DEFINE_integer("workers", 0, "Threads that look at the pictures; 0 = one a core.", lower_bound=0)
    sandbox.define_flag()
    flags.DEFINE_string("records_dir", None, "Check these built records instead of raw files.")


def main(argv: list[str]) -> None:
    """Prints the report; exit code 1 where something has to be mended first."""
    values = flags.FLAGS
    report = Report()
    if (values.records_dir is None) == (values.dataset is None) or (values.dataset and values.raw_dir is None):
        raise ValueError("Give --dataset= with --raw_dir= to look at raw files, or --records_dir= to look at records.")
    if values.records_dir:
        check_records(report, values.records_dir)
        run = f"python -m simgan_tf.text.train --records_dir={shlex.quote(values.records_dir)} --run_dir=..."
        lines = [f"next: {report.problems[0] if report.problems else run}"]
    else:
        options = {name: getattr(values, name) for name in build.SHARED}
        flag = check_raw(
            report, values.dataset, values.raw_dir, embeddings_path=values.embeddings, classes=values.classes,
            workers=values.workers, **options, **build.folder_rule(),
        )  # fmt: skip
        options |= {name: getattr(values, name) for name in ("embeddings", "split_folders", "class_folders", "trust")}
        lines = next_step(report, values.dataset, values.raw_dir, options, flag)
    print("\n" + commands.as_typed("\n".join(map(commands.escaped, lines))))
    if report.problems:
        sys.exit(1)


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
