"""The doctor: what it finds in raw folders and in records, what it tells to do next, and its exit code."""

import io
import json
import os
import re

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import build, doctor, inspection, records
from data.report import Report
from tests.tiny import MINI, run

CLASSES = {"001.Auk": 3, "002.Jay": 2, "003.Wren": 4, "004.Tern": 2}  # pictures of each; the last two are for testing


def scene(seed, height=80, width=100):
    """A picture of smooth shapes, as photographs are: 5 x 4 random colours, enlarged."""
    grid = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def cub(tmp_path):
    """Eleven birds in four classes, two captions each."""
    root = tmp_path / "cub"
    lines = {name: [] for name in ("images", "image_class_labels", "classes", "bounding_boxes")}
    number = 0
    for label, (folder, count) in enumerate(CLASSES.items(), start=1):
        lines["classes"].append(f"{label} {folder}")
        (root / "CUB_200_2011" / "images" / folder).mkdir(parents=True)
        (root / "text_c10" / folder).mkdir(parents=True)
        for k in range(count):
            number += 1
            key = f"{folder[4:]}_{k}"
            lines["images"].append(f"{number} {folder}/{key}.jpg")
            lines["image_class_labels"].append(f"{number} {label}")
            lines["bounding_boxes"].append(f"{number} 10.0 20.0 50.0 40.0")
            (root / "CUB_200_2011" / "images" / folder / f"{key}.jpg").write_bytes(jpeg(scene(number)))
            (root / "text_c10" / folder / f"{key}.txt").write_text(f"a bird, {key}\nit has number {number}\n")
    for name, of_file in lines.items():
        (root / "CUB_200_2011" / f"{name}.txt").write_text("\n".join(of_file) + "\n")
    (root / "text_c10" / "trainvalclasses.txt").write_text("001.Auk\n002.Jay\n")
    (root / "text_c10" / "testclasses.txt").write_text("003.Wren\n004.Tern\n")
    return root


def look(capsys, raw, dataset="cub", **options):
    """(problems, whether --skip_missing is needed, what was printed)."""
    report = Report()
    partial = doctor.check_raw(report, dataset, str(raw), workers=2, **options)
    said = capsys.readouterr().out
    assert said.isascii()
    return report, partial, said


def image_path(cub, key):
    return next((cub / "CUB_200_2011" / "images").glob(f"*/{key}.jpg"))


def test_a_whole_tree_is_counted_and_can_be_built(cub, capsys):
    report, partial, said = look(capsys, cub, classes=True)
    assert report.problems == [] and not partial and not report.incomplete
    assert said.count("  ok  ") == 7 and "MISSING" not in said
    rows = [line.split() for line in said.splitlines()]
    # split, classes, pictures, captioned, published; 3 and 2 pictures a class in train, 4 and 2 in test
    for row in (
        ["train", "2", "5", "5", "8,855", "least", "2,", "median", "2.5,", "most", "3"],
        ["test", "2", "6", "6", "2,933", "least", "2,", "median", "3,", "most", "4"],
        ["3", "003.Wren", "4"],
        ["captions", "a", "picture:", "2", "(11", "pictures)"],
        ["11", "readable;", "shorter", "side:", "least", "80,", "median", "80,", "most", "80", "pixels"],
    ):
        assert row in rows
    assert "no picture is in both splits" in said
    lines = doctor.next_step(report, "cub", str(cub), {"crop": "none", "test_share": 0.0, "captions_dir": ""}, partial)
    assert lines == [f"next: python -m data.build --dataset=cub --raw_dir={cub} --out_dir=records/cub"]


def test_a_partial_tree_says_how_much_is_missing_and_can_be_built_without_it(cub, capsys, tmp_path):
    for key in ("Auk_1", "Wren_0", "Wren_3"):
        image_path(cub, key).unlink()
    (cub / "text_c10" / "002.Jay" / "Jay_0.txt").unlink()
    report, flag, said = look(capsys, cub)
    assert flag == "--skip_missing" and len(report.problems) == 1
    with pytest.raises(ValueError) as refused:  # what the builder says is what the doctor says
        build.build("cub", str(cub), str(tmp_path / "records"))
    assert report.problems == [str(refused.value)]
    assert "left out, without a picture: 3" in said and "left out, without captions: 1" in said
    options = {"test_share": 0.5, "split_seed": 3, "captions_dir": str(cub / "text_c10"), "crop": "none"}
    line = doctor.next_step(report, "cub", str(cub), options, flag)[1]
    assert line.endswith(
        f"python -m data.build --dataset=cub --raw_dir={cub} --test_share=0.5 --split_seed=3 "
        f"--captions_dir={cub / 'text_c10'} --out_dir=records/cub --skip_missing"
    )
    report, flag, _ = look(capsys, cub, skip_missing=True)
    assert not flag and not report.problems
    info, _ = build.build("cub", str(cub), str(tmp_path / "records"), skip_missing=True)  # and so it can
    assert [part["images"] for part in info["splits"].values()] == [3, 4]


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("CUB_200_2011/images.txt", r"MISSING  \S+/CUB_200_2011/images\.txt .*not there"),
        ("CUB_200_2011/images", r"MISSING  \S+/images/001\.Black_footed_Albatross\S+jpg \.\.\. .*: 0 pictures"),
        ("text_c10", r"MISSING  \S+/text_c10/001\.Black\S+txt \.\.\. .*No captions at '\S+text_c10'"),
        ("text_c10/testclasses.txt", r"MISSING  \S+/trainvalclasses\.txt and testclasses\.txt .*no \S+/testclasses"),
        ("", r"MISSING  \S+/CUB_200_2011/classes\.txt"),
    ],
)
def test_what_is_missing_is_marked_and_where_to_get_it_told(cub, capsys, gone, words):
    os.rename(cub / gone, cub.parent / "away")
    report, partial, said = look(capsys, cub)
    assert re.search(words, said), said
    assert len(report.problems) == 1 and not partial and report.incomplete
    assert "PROBLEM  No '" in said and "; expected" not in report.problems[0]
    lines = doctor.next_step(report, "cub", str(cub), {}, partial)
    assert lines[0] == f"next: {report.problems[0]}"
    assert "CUB_200_2011.tgz, https://data.caltech.edu" in lines[1] and "data.doctor" in lines[-1]


def test_bounding_boxes_are_needed_for_the_crop_only(cub, capsys):
    (cub / "CUB_200_2011" / "bounding_boxes.txt").unlink()
    report, _, said = look(capsys, cub)
    assert re.search(r"--       \S+/bounding_boxes\.txt", said) and report.problems == []
    report, _, said = look(capsys, cub, crop="box")
    assert "--crop=box: 11 pictures have no box" in report.problems[0]


def test_a_box_that_leaves_its_picture_is_found(cub, capsys):
    assert look(capsys, cub, crop="box")[0].problems == []
    path = cub / "CUB_200_2011" / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("4 10.0 20.0 50.0 40.0", "4 10.0 20.0 150.0 40.0"))
    report, _, said = look(capsys, cub, crop="box")
    assert len(report.problems) == 1 and "Jay_0.jpg is 100x80, but its bounding box of 150x40" in report.problems[0]
    assert "no picture is in both splits" not in said  # not all were looked at


def test_odd_pictures_are_listed_by_kind_and_broken_ones_stop_the_build(cub, capsys):
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = jpeg(scene(40))
    for key, data in {
        "Auk_0": jpeg(scene(41).convert("L")),
        "Auk_1": jpeg(scene(42).convert("CMYK")),
        "Auk_2": jpeg(scene(43), exif=turned),
        "Jay_0": png(scene(44)),
        "Jay_1": jpeg(scene(45, 60, 61)),
        "Wren_0": jpeg(scene(46, 70, 211)),
        "Wren_1": whole[: len(whole) // 2],
        "Wren_2": b"no picture at all",
        "Wren_3": jpeg(scene(47, 7, 100)),
    }.items():
        image_path(cub, key).write_bytes(data)
    report, _, said = look(capsys, cub)
    for title, key, size in (
        ("mode L, not RGB: 1", "Auk_0", "100x80"),
        ("mode CMYK, not RGB: 1", "Auk_1", "100x80"),
        ("turned by EXIF: 1", "Auk_2", "100x80"),
        (r"named \.jpg, but a PNG: 1", "Jay_0", "100x80"),
        ("shorter side under 64 pixels: 1", "Jay_1", "61x60"),
        ("over 3 times as long as wide: 1", "Wren_0", "211x70"),
    ):
        assert re.search(rf"unusual, but usable: {title}\n      \S+/{key}\.jpg \({size}\)", said), title
    assert "8 readable; shorter side: least 60" in said
    after = said[said.index("cannot be used: 3\n") :].splitlines()
    for line, words in zip(after[1:4], ("1.jpg is not a readable", "2.jpg is not a readable", "3.jpg is 100x7; both"),
                           strict=True):  # fmt: skip
        assert f"Wren_{words}" in line
    assert len(report.problems) == 1 and report.problems[0].startswith("Of 11 pictures, 3 damaged (first: ")
    lines = doctor.next_step(report, "cub", str(cub), {}, False)
    assert lines[0].startswith("next: ") and "Wren_1.jpg" in lines[0] and not any("https" in line for line in lines)


def test_only_five_names_of_a_kind_are_printed(cub, capsys):
    for path in (cub / "CUB_200_2011" / "images").glob("*/*.jpg"):
        path.write_bytes(jpeg(Image.open(path).convert("L")))
    said = look(capsys, cub)[2]
    after = said[said.index("mode L, not RGB: 11\n") :].splitlines()
    assert all(".jpg (100x80)" in line for line in after[1:6]) and after[6].strip() == "and 6 more"


def test_pictures_that_are_there_twice_are_told_by_where(cub, capsys):
    """One file in both splits, one made smaller in the other split, one compressed anew in another class."""
    image_path(cub, "Wren_1").write_bytes(image_path(cub, "Auk_0").read_bytes())
    image_path(cub, "Tern_0").write_bytes(jpeg(scene(2).resize((60, 48), Image.Resampling.LANCZOS)))  # of Auk_1
    image_path(cub, "Jay_1").write_bytes(jpeg(scene(3), quality=60))  # of Auk_2
    image_path(cub, "Wren_3").write_bytes(image_path(cub, "Wren_2").read_bytes())
    report, _, said = look(capsys, cub)
    for title, one, other in (
        ("same file in both splits, so that the test is not fair: 1", "Auk_0", "Wren_1"),
        ("same file twice in one class: 1", "Wren_2", "Wren_3"),
        ("same picture by its looks in both splits, so that the test is not fair: 1", "Auk_1", "Tern_0"),
        ("same picture by its looks in two classes: 1", "Auk_2", "Jay_1"),
    ):
        assert re.search(rf"{title}\n +\S+/{one}\.jpg = \S+/{other}\.jpg\n", said), title
    assert said.count("same ") == 4 and report.problems == [] and "no picture is in both" not in said


def test_difference_hash_by_hand():
    """A picture of 9x8 points is its own small copy: a bit is 1 where a point is brighter than its right neighbour."""
    grey = np.random.default_rng(0).integers(0, 256, (8, 9), np.uint8)
    bits = "".join("1" if grey[y, x] > grey[y, x + 1] else "0" for y in range(8) for x in range(8))
    expected = int(bits, 2).to_bytes(8, "big")
    assert inspection.difference_hash(Image.fromarray(grey).convert("RGB")) == expected


def test_other_pictures_are_not_taken_for_the_same(tmp_path):
    """Different scenes, and plain surfaces, whose hashes are all alike."""
    found = [inspection.inspect_bytes(f"{seed}", jpeg(scene(seed))) for seed in range(60)]
    found += [inspection.inspect_bytes(f"grey {v}", png(Image.new("RGB", (80, 80), (v, v, v)))) for v in (100, 101)]
    assert inspection.same_pictures(found) == ([], [])
    copies = [inspection.inspect_bytes("copy", jpeg(scene(7).resize((50, 40)), quality=75)), found[-1]]
    assert inspection.same_pictures([*found, *copies]) == ([(61, 63)], [(7, 62)])


def test_near_hashes_are_found_as_by_comparing_all():
    """Against every pair: 200 hashes, of which some are others with 0 to 5 bits changed."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (100, 64), np.uint8)
    changed = bits.copy()
    for row in range(100):
        changed[row, rng.permutation(64)[: row % 6]] ^= 1
    every = np.concatenate([bits, changed])
    distances = (every[:, None] != every[None]).sum(-1)
    expected = [(i, j) for i in range(200) for j in range(i + 1, 200) if distances[i, j] <= 3]
    assert list(inspection._near(np.packbits(every, axis=1))) == expected and len(expected) >= 66


def test_odd_captions_are_told(cub, capsys):
    folder = cub / "text_c10"
    (folder / "001.Auk" / "Auk_0.txt").write_text("a bird " * 30 + "\nshort\n")  # 210 - 1 characters, stripped
    (folder / "001.Auk" / "Auk_1.txt").write_text("only one\n\n")
    (folder / "003.Wren" / "Wren_2.txt").write_text("a caf\u00e9 bird\n...\n", encoding="utf-8")
    (folder / "003.Wren" / "Wren_3.txt").write_text("\n \n")
    report, partial, said = look(capsys, cub)
    assert partial and "left out, without captions: 1" in said
    for words in (
        r"captions a picture: 1 \(1 pictures\), 2 \(9 pictures\)",
        r"fewer captions than the usual 2: 1\n      Auk_1: 1\n",
        r"captions over 201 characters: 1\n      Auk_0: 209 characters",
        r"other than ASCII characters: 1\n      Wren_2: 'a caf\\xe9 bird'",
        r"without a letter or digit: 1\n      Wren_2: '\.\.\.'",
    ):
        assert re.search(words, said), words


def test_embeddings_are_checked_as_well(cub, capsys, tmp_path):
    keys = sorted(path.stem for path in (cub / "CUB_200_2011" / "images").glob("*/*.jpg"))
    for count, words in ((11, ""), (10, "1 of 11 pictures have no embeddings, such as 'Wren_3'")):
        np.savez(tmp_path / "e.npz", keys=np.array(keys[:count]), embeddings=np.ones((count, 2, 4), np.float32))
        report, partial, said = look(capsys, cub, embeddings_path=str(tmp_path / "e.npz"))
        assert ([words] if words else []) == [problem[: len(words)] for problem in report.problems]
        assert words or "ok       e from npz: 11 pictures, 4 numbers a caption, root mean square 1\n" in said


def test_labels_that_contradict_the_folders_are_a_problem_and_the_pictures_still_looked_at(cub, capsys):
    path = cub / "CUB_200_2011" / "image_class_labels.txt"
    path.write_text(path.read_text().replace("1 1\n", "1 2\n", 1))
    report, _, said = look(capsys, cub)
    assert len(report.problems) == 1 and "images.txt, line 1" in report.problems[0]
    assert "11 readable" in said and "cannot be joined" in said


def test_own_pictures_in_a_folder(tmp_path, capsys):
    raw, lines = tmp_path / "own", ["key,caption"]
    for number in range(6):
        (raw / f"kind{number % 3}").mkdir(parents=True, exist_ok=True)
        (raw / f"kind{number % 3}" / f"{number}.png").write_bytes(png(scene(number)))
        lines.append(f"kind{number % 3}/{number},picture number {number}")
    report, _, said = look(capsys, raw, "folder")
    assert report.incomplete and re.search(r"ok       \S+/own/any/folders/name\.jpg \.\.\. .*: 6 pictures", said)
    assert re.search(r"MISSING  \S+/own/captions\.csv .*No captions at", said) and "6 readable" in said
    (raw / "captions.csv").write_text("\n".join(lines))
    report, partial, said = look(capsys, raw, "folder")
    assert report.problems == [] and not partial and "captions of 6 pictures, csv" in said
    assert "published" in said and re.search(r"train +2 +4 +4 +- ", said)  # of 3 classes one is for testing


def test_a_mask_that_is_not_of_its_picture_is_a_problem(tmp_path, capsys):
    raw = tmp_path / "flowers"
    for folder in ("jpg", "masks", "text_c10"):
        (raw / folder).mkdir(parents=True)
    scipy.io.savemat(raw / "imagelabels.mat", {"labels": np.array([[1, 2, 2]], np.uint8)})
    for number, label in ((1, 1), (2, 2), (3, 2)):
        key = f"image_{number:05d}"
        (raw / "jpg" / f"{key}.jpg").write_bytes(jpeg(scene(number)))
        (raw / "masks" / f"{key}.png").write_bytes(png(Image.new("L", (100, 80 + number // 3))))
        (raw / "text_c10" / f"class_{label:05d}").mkdir(exist_ok=True)
        (raw / "text_c10" / f"class_{label:05d}" / f"{key}.txt").write_text("a flower\n")
    report, _, said = look(capsys, raw, "oxford102", test_share=0.5)
    assert "3 masks, 1 of them wrong" in said and "--       " in said and "drawn with split_seed=0" in said
    assert len(report.problems) == 1 and re.search(r"masks/image_00003\.png .*\(100, 81\).*\(100, 80\)", said)


def test_demo_needs_nothing_but_room(tmp_path, capsys):
    for raw in (tmp_path / "new", tmp_path):
        report, partial, said = look(capsys, raw, "demo")
        assert report.problems == [] and not partial and "will be drawn there" in said
    (tmp_path / "file").write_text("x")
    assert "holds no drawn demo set" in look(capsys, tmp_path, "demo")[0].problems[0]


@pytest.fixture
def built(cub):
    out = cub.parent / "records"
    build.build("cub", str(cub), str(out), shards=2)
    return out


def check(capsys, folder):
    report = Report()
    doctor.check_records(report, str(folder))
    return report, capsys.readouterr().out


def test_records_are_held_against_dataset_json(built, capsys):
    report, said = check(capsys, built)
    assert report.problems == [] and "11 readable" in said
    assert "ok       train: 5 pictures, 10 captions, 2 classes; every checksum" in said
    assert "ok       test: 6 pictures, 12 captions, 2 classes; every checksum" in said
    (built / "train-00000-of-00009.tfrecord").write_bytes(b"")
    said = check(capsys, built)[1]
    assert "belong to no record of this folder: 1\n      train-00000-of-00009.tfrecord" in said


def test_damaged_and_mixed_records_are_told(built, capsys):
    shard = built / "test-00001-of-00002.tfrecord"
    good = shard.read_bytes()
    data = bytearray(good)
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    report, said = check(capsys, built)
    assert len(report.problems) == 1 and "ok       train: 5 pictures" in said
    assert re.search(r"test-00001-of-00002\.tfrecord is damaged: record \d: its checksum", report.problems[0])
    shard.write_bytes(good[:-100])
    assert "would end after the file's" in check(capsys, built)[0].problems[0]

    shard.write_bytes(good)
    examples = list(records.read_examples(str(built), "train"))
    records.write_split(str(built), "train", [*examples[:-1], records.Example(examples[-1].image, "x", 9, ("y",))], 2)
    (problem,) = [line for line in check(capsys, built)[0].problems if line.startswith("train")]
    assert "captions, captions_per_image, class_ids, fingerprint differ" in problem


def test_dataset_json_that_lies_is_told(built, capsys):
    path = built / "dataset.json"
    info = json.loads(path.read_text())
    for change, words in (
        ({"fingerprint": "0" * 64}, "its fingerprint is not that of its splits"),
        ({"embeddings": {"name": "x", "dim": 7}}, r"embeddings .*'dim': 7.*hold \[0\] numbers"),
        ({"embeddings": {}}, r"embeddings \{\}"),
        ({"shards": 0}, r"shards and pictures of the splits are \[0, "),
        ({"splits": {"train": {"images": -1}}}, r"\[-1\]"),
        ({"format_version": 99}, "format_version=99"),
    ):
        path.write_text(json.dumps({**info, **change}))
        (problem,) = check(capsys, built)[0].problems
        assert re.search(words, problem), change
    path.unlink()
    assert "No dataset.json" in check(capsys, built)[0].problems[0]


def test_command_prints_the_report_and_its_exit_code_says_whether_to_go_on(cub):
    good = run("-m", "data.doctor", "--dataset=cub", f"--raw_dir={cub}", "--test_share=0.5").stdout
    bad = run("-m", "data.doctor", "--dataset=cub", f"--raw_dir={cub / 'none'}", check=False)
    command = f"python -m data.build --dataset=cub --raw_dir={cub} --test_share=0.5 --out_dir=records/cub"
    assert good.splitlines()[-1] == f"next: {command}"
    assert bad.returncode == 1 and "next: No '" in bad.stdout


def test_mini_sets_can_be_built(capsys):
    if not MINI.is_dir():
        pytest.skip("the 48 photographs of ../shared/data/mini are not on this machine")
    for dataset in ("cub", "oxford102"):
        report, partial, said = look(capsys, MINI / dataset, dataset)
        assert report.problems == [] and "24 readable" in said
