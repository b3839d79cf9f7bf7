"""Captions from every carrier: the same texts under the same keys, and what does not fit named with its place."""

import json
import pathlib
import pickle
import re
import tarfile

import numpy as np
import pytest

from data import captions, tables
from tests.strangers import t7_table

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
TEXTS = {  # all carriers can hold these: lower case, no punctuation
    "Crow_0001_1": ("a black crow", "this bird has 2 wings"),
    "Crow_0002_22": ("a crow on a fence", "the crow is black"),
    "Jay_0001_7": ("a blue jay", "a jay"),
}
CLASSES = {"Crow_0001_1": "029.Crow", "Crow_0002_22": "029.Crow", "Jay_0001_7": "073.Jay"}
SPLITS = {"Crow_0001_1": "train", "Crow_0002_22": "train", "Jay_0001_7": "test"}
FIRST_70 = "".join(map(chr, range(97, 123))) + "0123456789" + "-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{}" + " "


def write_text(root):
    for key, texts in TEXTS.items():
        (root / CLASSES[key]).mkdir(parents=True, exist_ok=True)
        (root / CLASSES[key] / f"{key}.txt").write_text("\n".join(texts) + "\n")
    return root


def characters(*texts):
    """[201, captions]: places in the alphabet from 1, the space 70."""
    columns = np.zeros((201, len(texts)), np.uint8)
    for j, text in enumerate(texts):
        columns[: len(text), j] = [70 if c == " " else FIRST_70.index(c) + 1 for c in text]
    return columns


def write_t7(root):
    for key, texts in TEXTS.items():
        (root / CLASSES[key]).mkdir(parents=True, exist_ok=True)
        table = t7_table(img=f"{CLASSES[key]}/{key}.jpg".encode(), char=characters(*texts))
        (root / CLASSES[key] / f"{key}.t7").write_bytes(table)
    return root


def attngan():
    """The content of captions.pickle, and the names of each split."""
    words = sorted({word for texts in TEXTS.values() for text in texts for word in text.split()})
    numbers = {word: number for number, word in enumerate(words, start=1)}
    lists = {"train": [], "test": []}
    for key, texts in TEXTS.items():
        lists[SPLITS[key]] += [[numbers[word] for word in text.split()] for text in texts]
    names = {split: [f"{CLASSES[key]}/{key}" for key in TEXTS if SPLITS[key] == split] for split in lists}
    return [lists["train"], lists["test"], {0: "<end>", **{n: w for w, n in numbers.items()}}, numbers], names


def write_attngan(root, content=None, names=None, protocol=2):
    root.mkdir(exist_ok=True)
    own = attngan()
    (root / "captions.pickle").write_bytes(pickle.dumps(content or own[0], protocol))
    for split, listed in (names or own[1]).items():
        (root / split).mkdir(exist_ok=True)
        (root / split / "filenames.pickle").write_bytes(pickle.dumps(listed, protocol))
    return root


def write_csv(path):
    path.write_text("key,caption\n" + "".join(f"{key},{text}\n" for key, texts in TEXTS.items() for text in texts))
    return path


def write_jsonl(path):
    path.write_text("\n".join(json.dumps({"key": key, "captions": texts}) for key, texts in TEXTS.items()))
    return path


def test_every_carrier_gives_the_same_captions(tmp_path):
    (tmp_path / "all").mkdir()
    for path, carrier, classes, splits in (
        (write_text(tmp_path / "a"), "text files", CLASSES, {}),
        (write_text(tmp_path / "above" / "text_c10").parent, "text files", CLASSES, {}),
        (write_t7(tmp_path / "b"), "t7 files", CLASSES, {}),
        (write_attngan(tmp_path / "c"), "AttnGAN pickles", CLASSES, SPLITS),
        (write_attngan(tmp_path / "d", protocol=0) / "captions.pickle", "AttnGAN pickles", CLASSES, SPLITS),
        (write_csv(tmp_path / "mine.csv"), "csv", {}, {}),
        (write_csv(tmp_path / "all" / "captions.csv").parent, "csv", {}, {}),
        (write_jsonl(tmp_path / "mine.jsonl"), "jsonl", {}, {}),
    ):
        found = captions.read(str(path))
        assert (found.texts, found.carrier, found.class_of, found.split_of) == (TEXTS, carrier, classes, splits), path
        assert found.keys() == TEXTS.keys() and str(path) in found.where("Jay_0001_7")


def test_only_what_is_wanted_is_read(tmp_path):
    """The other file is not even opened: it is no t7 file. Its key and class are known all the same."""
    root = write_t7(tmp_path / "a")
    (root / "029.Crow" / "Crow_0001_1.t7").write_bytes(b"broken")
    found = captions.read(str(root), {"Jay_0001_7"})
    assert found.texts == {"Jay_0001_7": TEXTS["Jay_0001_7"]} and found.class_of == CLASSES
    with pytest.raises(ValueError, match=r"Crow_0001_1\.t7"):
        captions.read(str(root))
    found = captions.read(str(write_attngan(tmp_path / "b")), {"Jay_0001_7"})
    assert found.texts == {"Jay_0001_7": TEXTS["Jay_0001_7"]} and found.split_of == SPLITS


def test_a_place_without_captions_says_what_is_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*--captions_dir"):
        captions.read(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"captions\.csv.*captions\.pickle.*text_c10.*\.t7.*--captions_dir"):
        captions.read(str(tmp_path))
    (tmp_path / "mine.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"mine\.xlsx is no file of captions; \.csv"):
        captions.read(str(tmp_path / "mine.xlsx"))


# ---- text files and class lists


def test_lines_are_stripped_and_lost_letters_become_blanks(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k.txt").write_bytes(b"\xef\xbb\xbf one . \r\n\n  two\xef\xbf\xbdx\n \t\nthree")
    (tmp_path / "a" / "empty.txt").write_bytes(b" \n\n")
    (tmp_path / "a" / "._k.txt").write_bytes(b"junk")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "k.txt").write_bytes(b"junk")
    assert captions.read(str(tmp_path)).texts == {"k": ("one .", "two x", "three"), "empty": ()}
    (tmp_path / "a" / "k.txt").write_bytes("one\ntr\u00e8s".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a/k\.txt, line 2: not UTF-8, it looks like Windows-1252"):
        captions.read(str(tmp_path))
    (tmp_path / "a" / "k.txt").write_bytes("\ufeffr\u00f6d\n\u7ea2".encode("utf-16-le"))
    assert captions.read(str(tmp_path)).texts["k"] == ("r\u00f6d", "\u7ea2")
    with open(tmp_path / "a" / "k.txt", "ab") as file:
        file.truncate(2**33)  # a hole: it takes no disk
    with pytest.raises(ValueError, match=r"a/k\.txt has over 1,048,576 bytes"):
        captions.read(str(tmp_path))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "k.txt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"b/k\.txt is there a second time, in a"):
        captions.read(str(tmp_path))


def test_class_lists_are_found_and_must_not_share_a_class(tmp_path):
    texts = tmp_path / "text_c10"
    texts.mkdir()
    with pytest.raises(FileNotFoundError, match=r"text_c10/trainvalclasses\.txt.*--train_classes.*--test_share"):
        captions.class_lists(str(texts))
    (tmp_path / "trainvalclasses.txt").write_text("b\na\n\n")
    (tmp_path / "testclasses.txt").write_text("c\r\n")
    assert captions.class_lists(str(texts)) == {"train": ["a", "b"], "test": ["c"]}  # cvpr2016 has them above
    (texts / "trainvalclasses.txt").write_text("d\n")
    with pytest.raises(FileNotFoundError, match=r"text_c10/testclasses\.txt"):
        captions.class_lists(str(texts))
    (texts / "testclasses.txt").write_text("d\ne\n")
    with pytest.raises(ValueError, match=r"'d' stands in both .*trainvalclasses\.txt and .*\(1 such"):
        captions.class_lists(str(texts))
    (texts / "testclasses.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"testclasses\.txt is empty"):
        captions.class_lists(str(texts))
    lists = captions.class_lists(str(texts), str(tmp_path / "trainvalclasses.txt"), str(tmp_path / "testclasses.txt"))
    assert lists == {"train": ["a", "b"], "test": ["c"]}


# ---- t7 files


def test_the_alphabet_is_reeds():
    assert captions.ALPHABET == FIRST_70 and len(FIRST_70) == 70
    assert [i + 1 for i, c in enumerate(FIRST_70) if c == "-"] == [37, 60] and FIRST_70[69] == " "


def test_characters_are_decoded_column_by_column():
    """Zeros are nothing, wherever they stand; both hyphens are hyphens."""
    matrix = np.zeros((201, 3), np.float64)
    matrix[:5, 0] = [1, 37, 2, 60, 3]
    matrix[2:9, 1] = [70, 26, 0, 27, 70, 36, 70]
    assert captions.decode_characters("p", matrix) == ("a-b-c", "z0 9", "")
    for wrong, words in (
        (matrix[:200], r"'char' is \[200, 3\], expected numbers \[201, captions\]"),
        (np.full((201, 1), 71), "holds 71, expected 0 to 70"),
        (np.full((201, 1), -1), "holds -1, expected 0 to 70"),
        (np.full((201, 1), 1.5), "holds 1.5, expected 0 to 70"),
        (np.full((201, 1), np.nan), "holds nan, expected 0 to 70"),
        ({}, "'char' is dict"),
    ):
        with pytest.raises(ValueError, match="p: .*" + words):
            captions.decode_characters("p", wrong)


def test_a_t7_file_of_another_picture_is_named(tmp_path):
    root = write_t7(tmp_path)
    path = root / "073.Jay" / "Jay_0001_7.t7"
    path.write_bytes(t7_table(img=b"073.Jay/Jay_0001_8.jpg", char=characters("a jay")))
    with pytest.raises(ValueError, match=r"Jay_0001_7\.t7 says that it belongs to the picture 'Jay_0001_8'"):
        captions.read(str(root))
    path.write_bytes(t7_table(txt=np.zeros((1, 4), np.float32)))
    with pytest.raises(ValueError, match=r"Jay_0001_7\.t7 is no table with 'char'"):
        captions.read(str(root))


# ---- AttnGAN's pickles


def change(place, value):
    content, names = attngan()
    (content[place[0]] if len(place) > 1 else content)[place[-1]] = value
    return content, names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (attngan()[0][:3], "is not AttnGAN's"),
        ({"train": []}, "is not AttnGAN's"),
        (change((2,), {1: 2})[0], "is not AttnGAN's"),
        (change((0,), attngan()[0][0][:3])[0], r"holds 3 train captions for 2 names in train/filenames\.pickle"),
        (change((0,), [])[0], "holds 0 train captions for 2 names"),
        (change((0, 2), [1, 99])[0], r"train caption of picture 1 \(Crow_0002_22\).*99"),
        (change((0, 2), [0, 1])[0], r"train caption of picture 1 \(Crow_0002_22\)"),
        (change((1, 0), 5)[0], r"test caption of picture 0 \(Jay_0001_7\)"),
        (change((1, 0), [[1]])[0], r"test caption of picture 0 \(Jay_0001_7\)"),
    ],
)
def test_pickles_that_do_not_fit_are_refused(tmp_path, content, words):
    root = write_attngan(tmp_path / "a", content)
    with pytest.raises(ValueError, match=r"captions\.pickle.*" + words) as caught:
        captions.read(str(root))
    assert "\n" not in str(caught.value)


def test_names_that_do_not_fit_are_refused(tmp_path):
    names = attngan()[1]
    for changed, words in (
        ({**names, "test": ["029.Crow/Crow_0001_1"]}, r"test/filenames\.pickle: name 0, 'Crow_0001_1', is there a sec"),
        ({**names, "test": [7]}, r"test/filenames\.pickle is no list of picture names"),
        ({**names, "test": "Jay"}, r"test/filenames\.pickle is no list of picture names"),
    ):
        with pytest.raises(ValueError, match=words):
            captions.read(str(write_attngan(tmp_path / "a", names=changed)))
    (tmp_path / "a" / "test" / "filenames.pickle").unlink()
    with pytest.raises(FileNotFoundError, match=r"test/filenames\.pickle"):
        captions.read(str(tmp_path / "a"))


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "ran",)

    for protocol in range(6):
        write_attngan(tmp_path / "a", [Evil()], protocol=protocol)
        with pytest.raises(ValueError, match=r"captions\.pickle"):
            captions.read(str(tmp_path / "a"))
    assert not (tmp_path / "ran").exists()


def test_flowers_names_tell_no_class(tmp_path):
    content, _ = attngan()
    names = {"train": ["jpg/image_00001", "jpg/image_00002"], "test": ["jpg/image_00003"]}
    assert set(captions.read(str(write_attngan(tmp_path / "a", content, names))).class_of.values()) == {""}


# ---- CSV and JSONL


def test_a_csv_of_any_program_is_read(tmp_path):
    """Windows line ends, a byte order mark, quotes, commas, line breaks in a field, other columns, backslashes."""
    path = tmp_path / "captions.csv"
    path.write_bytes(
        b'\xef\xbb\xbfKey,by, Caption\r\nred\\a.jpg,me,"a red,  small ""rose"""\r\n./b,you,"two\r\nlines"\r\n\r\n'
        b"red\\a.jpg,me,r\xc3\xb6d\r\n"
    )
    found = tables.read(str(path))
    assert found.texts == {"red\\a.jpg": ['a red, small "rose"', "r\u00f6d"], "./b": ["two lines"]}
    assert found.place("./b") == f"{path}, line 3" and not found.faults


def test_jsonl_of_both_forms_is_read(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"key": "a", "caption": "one"}\n\n{"key": "b", "captions": ["x", "y \\u00e4"], "by": 1}\n'
                    '{"key": "a", "caption": "two \\ud800, \\ud83d\\ude00"}')  # fmt: skip
    assert tables.read(str(path)).texts == {"a": ["one", "two \ufffd, \U0001f600"], "b": ["x", "y \u00e4"]}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("c.csv", b"key;title\na;b\n", "begins with 'key;title'; the first line must be key,caption"),
        ("c.csv", b"", "begins with ''"),
        ("c.csv", b"key,caption\n", "holds no captions"),
        ("c.csv", b"key,caption\na,r\xf6d\n", "line 2: not UTF-8"),
        ("c.csv", b"k\0e\0y\0,\0", "line 1: not UTF-8, it looks like UTF-16 without its mark"),
        ("c.csv", b"\xff\xfek\0e\0y\0,\0\0\xd8b\0", "is damaged UTF-16; save it as UTF-8"),  # half a letter
        ("c.csv", b"<!DOCTYPE html><html>", "no text but an HTML page"),
        ("c.csv", b"key,caption\na," + b"x" * 2**20 + b"\n", r"line 2: over 1,048,576 characters"),
        ("c.json", b'"a"\n', "neither a list of pictures nor a table of names"),
        ("c.jsonl", b'{"key": "a", "caption": "b"\n', "line 1: .*JSONDecodeError"),
        ("c.json", b'{"a.jpg": "b", "b.jpg": "d", "a.jpg": "c"}', "'a.jpg' stands twice in one object"),
        ("c.jsonl", b"[" * 500_000, "not JSON .(?:RecursionError|JSONDecodeError)"),
        ("c.jsonl", b"", "holds no captions"),
    ],
)
def test_tables_that_do_not_fit_name_the_line(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{re.escape(name)}.*(?:{words})") as caught:
        tables.read(str(tmp_path / name))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("c.csv", b"key,caption\na,b\nc,d,e\n", "line 3: 3 fields, the header has 2"),
        ("c.csv", b"key,caption\na,b\nc,\n", "line 3: no caption for c"),
        ("c.csv", b"key,caption\n ,b\n", "line 2: no name"),
        ("c.csv", b'key,caption\na,"' + b"word \n" * 30_000, "line 2: a quotation mark opens and is not closed"),
        ("c.csv", b'key,caption\na,"red\nb.jpg,"blue"\n', r"line 2: .* before line 3, which is of b\.jpg"),
        ("c.csv", b'key,caption\na,"[[\'red\'],[\'b\']]"\n', "line 2: the list .* holds other things than texts"),
        ("c.csv", b"key,caption\na," + b"red " * 251, "line 2: a caption of 1,003 characters"),
        ("c.jsonl", b'{"key": "a", "caption": "b"}\n{"key": "a"}\n', "line 2: no caption among key"),
        ("c.jsonl", b'{"key": 1, "caption": "b"}\n', "line 1: .*must be texts"),
        ("c.jsonl", b'{"key": "a", "caption": "b", "caption": "c"}\n', "line 1: 'caption' stands twice in one object"),
        ("c.jsonl", b'{"key": "a", "captions": [1]}\n', "line 1: .*must be texts"),
        ("c.jsonl", b'[3, {"key": "a", "caption": "b"}]', "entry 1: '3' is no object"),
    ],
)
def test_rows_that_cannot_be_used_are_collected(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    faults = tables.read(str(tmp_path / name)).faults
    assert re.search(words, faults[0]) and str(tmp_path / name) in faults[0] and "\n" not in faults[0]


def test_huge_tables_are_refused_unread(tmp_path):
    with open(tmp_path / "c.csv", "wb") as file:
        file.truncate(2**33)  # a hole: it takes no disk
    with pytest.raises(ValueError, match=r"c\.csv has 8,589,934,592 bytes; at most 1,073,741,824"):
        tables.read(str(tmp_path / "c.csv"))


# ---- the real birds


def test_real_birds_have_the_same_captions_in_both_carriers(tmp_path):
    """All 117,880 of AttnGAN's pickles against text_c10, as lower-case words."""
    if not (SHARED / "cub.tar").is_file():
        pytest.skip("../shared/data/cub.tar is not on this machine")
    words, texts, classes = re.compile(r"\w+"), {}, {}
    with tarfile.open(SHARED / "cub.tar", "r:") as archive:
        for member in archive:
            path = pathlib.PurePosixPath(member.name)
            if "attngan_birds" in path.parts and path.name in ("captions.pickle", "filenames.pickle"):
                out = tmp_path.joinpath(*path.parts[path.parts.index("attngan_birds") + 1 :])
                out.parent.mkdir(exist_ok=True)
                out.write_bytes(archive.extractfile(member).read())
            elif path.match("text_c10/*/*.txt"):
                lines = archive.extractfile(member).read().decode("utf-8", "replace").splitlines()
                texts[path.stem] = tuple(" ".join(words.findall(line.lower())) for line in lines if line.strip())
                classes[path.stem] = path.parent.name
    found = captions.read(str(tmp_path))
    assert sum(map(len, texts.values())) == 117_880
    assert found.texts == texts and found.class_of == classes
    splits = list(found.split_of.values())
    assert (splits.count("train"), splits.count("test")) == (8855, 2933)
