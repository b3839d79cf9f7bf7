"""People's own pictures and captions as they come: each builds rightly, by the records read back, or is refused in a
line that says what to change; the doctor says the same as the builder. Cases are kinds, drawn in a few pixels."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from data import build, doctor, folder, records
from data.report import Report
from simgan_tf.system import commands

BUILT, REFUSED = {}, {}  # name -> (function that draws it and returns what is expected, options of the build)
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}


def builds(**options):
    return lambda function: BUILT.setdefault(function.__name__, (function, options)) and function


def refused(words: str, **options):
    return lambda function: REFUSED.setdefault(function.__name__, (function, words, options)) and function


def draw(raw: pathlib.Path, *names: str, form: str = "") -> list[str]:
    """A picture of its own colour for each name; returns the names."""
    for i, name in enumerate(names):
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (37 * i % 256, 91 * i % 256, 200)
        ending = path.suffix.lower()
        Image.new("RGB", (12, 10), colour).save(path, form or FORMATS.get(ending, "PNG"))
    return list(names)


def classes(ending: str = ".png", folders: str = "abc", each: int = 2, name: str = "p{}") -> list[str]:
    return [f"{folder}/{name.format(i)}{ending}" for folder in folders for i in range(each)]


def flower(i: int) -> str:
    return f"flower {i} is red"


def table(raw: pathlib.Path, lines: list[str], name: str = "captions.csv", encoding: str = "utf-8", end: str = "\n"):
    (raw / name).parent.mkdir(parents=True, exist_ok=True)
    (raw / name).write_bytes((end.join(lines) + end).encode(encoding))


def rows(names: list[str], header: str = "key,caption", cut: str = ",") -> list[str]:
    return [header, *(f"{name}{cut}{flower(i)}" for i, name in enumerate(names))]


def expect(names: list[str], captions: list | None = None, **more) -> dict:
    """What the records must hold. of: class by key, "" = none; test: the keys that must be for testing."""
    captions = captions or [flower(i) for i in range(len(names))]
    keys = [os.path.splitext(name)[0] for name in names]
    captions = {key: (c,) if isinstance(c, str) else tuple(c) for key, c in zip(keys, captions, strict=True)}
    return {"captions": captions, "of": {key: key.split("/")[0] for key in keys}} | more


NONE = {"of": None}  # no classes


# ---- quotation marks


@builds()
def inches(raw):
    names = draw(raw, *classes())
    table(raw, ["key,caption", *(f'{name},5" tall and 3" wide' for name in names)])
    return expect(names, ['5" tall and 3" wide'] * 6)


@builds()
def quotes_in_the_middle(raw):
    names = draw(raw, *classes())
    table(raw, ["key,caption", *(f'{name},a "so called" rose' for name in names)])
    return expect(names, ['a "so called" rose'] * 6)


@builds()
def quotes_at_the_start(raw):
    names = draw(raw, *classes())
    table(raw, ["key\tcaption", *(f'{name}\t"big" rose, 5" tall' for name in names)])
    return expect(names, ['"big" rose, 5" tall'] * 6)


@builds()
def quoted_by_the_rules(raw):
    names = draw(raw, *classes(name="p, {}"))
    table(raw, ["key,caption", *(f'"{name}" , "a ""big"" rose, red"' for name in names)])
    return expect(names, ['a "big" rose, red'] * 6)


@builds()
def quoted_over_lines(raw):
    names = draw(raw, *classes())
    table(raw, ["key,caption", *(f'{name},"a rose\n\nand ""leaves"""' for name in names)], end="\r\n")
    return expect(names, ['a rose and "leaves"'] * 6)


@refused(r"line 7: a quotation mark opens and is not closed before the file's end")
def open_at_the_end(raw):
    lines = rows(draw(raw, *classes()))
    table(raw, [*lines[:-1], lines[-1].replace(",", ',"')])


@refused(r"line 2: .*not closed before line 3, which is of a/p1")
def closed_rows_later(raw):
    names = draw(raw, *classes())
    lines = ["key,caption", *(f"{name[:-4]},{flower(i)}" for i, name in enumerate(names))]
    lines[1], lines[4] = lines[1].replace(",", ',"'), lines[4] + '"'
    table(raw, lines)


@refused(r"line 3: a caption of 1,200 characters, over 1,000")
def a_caption_that_never_ends(raw):
    lines = rows(draw(raw, *classes()))
    lines[2] = lines[2].split(",")[0] + "," + "x" * 1200
    table(raw, lines)


# ---- splits


def in_folders(raw, *folders):
    names = draw(raw, *(f"{folder}/p{i}.png" for folder in folders for i in range(2)))
    table(raw, rows(names))
    return names


@builds()
def training_and_testing(raw):
    names = in_folders(raw, "training/rose", "training/lily", "testing/rose")
    return expect(names, of={n[:-4]: n.split("/")[1] for n in names}, test={"testing/rose/p0", "testing/rose/p1"})


@builds()
def train_and_val(raw):
    return expect(in_folders(raw, "Train", "Val"), test={"Val/p0", "Val/p1"}, **NONE)


@builds()
def train_valid_test(raw):
    names = in_folders(raw, "train/a", "train/b", "valid/a", "test/b")
    return expect(names, of={n[:-4]: n.split("/")[1] for n in names}, test={"test/b/p0", "test/b/p1"})


@builds()
def splits_below_classes(raw):
    names = in_folders(raw, "rose/train", "rose/test", "lily/train", "lily/test")
    return expect(names, test={f"{c}/test/p{i}" for c in ("rose", "lily") for i in range(2)})


@builds()
def splits_below_images(raw):
    return expect(in_folders(raw, "images/train", "images/test"), test={"images/test/p0", "images/test/p1"}, **NONE)


@builds()
def images_below_splits(raw):
    return expect(in_folders(raw, "train/images", "test/images"), test={"test/images/p0", "test/images/p1"}, **NONE)


@builds()
def train_alone(raw):
    names = in_folders(raw, "train/rose", "train/lily", "train/iris")
    return expect(names, of={n[:-4]: n.split("/")[1] for n in names})


@refused(r"folder 'test' is named as a split, but the folder 'ships' .*--split_folders=no")
def a_split_beside_another_folder(raw):
    in_folders(raw, "train", "test", "ships")


@builds(split_folders=False)
def trains_and_ships(raw):
    return expect(in_folders(raw, "train", "test", "ships"))


@refused(r"folder 'test' is named as a split, but pictures in no such folder")
def a_split_beside_pictures(raw):
    table(raw, rows(draw(raw, "test/a.png", "b.png", "c.png")))


# ---- letters and encodings


@builds()
def letters_of_all_kinds(raw):
    names = draw(raw, *classes())
    texts = ["红色的花瓣", "красный", unicodedata.normalize("NFD", "blüte"), "🌸 rose", "أحمر", "ดอกไม้"]
    table(raw, ["key,caption", *(f"{name},{text}" for name, text in zip(names, texts, strict=True))])
    return expect(names, texts)


def encoded(encoding):
    def case(raw):
        names = draw(raw, *classes())
        table(raw, ["\ufeffkey,caption", *(f"{name},r\u00f6d \u7ea2 {i}" for i, name in enumerate(names))],
              encoding=encoding, end="\r\n")  # fmt: skip
        return expect(names, [f"r\u00f6d \u7ea2 {i}" for i in range(6)])

    case.__name__ = f"encoded_{encoding}"
    return case


for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
    builds()(encoded(encoding))


def misencoded(encoding, text):
    def case(raw):
        names = draw(raw, *classes())
        table(raw, ["key,caption", *(f"{name},{text}" for name in names)], encoding=encoding)

    case.__name__ = f"misencoded_{encoding}"
    return case


for encoding, text, words in (
    ("cp1252", "très jaune", r"line 2: not UTF-8, it looks like Windows-1252"),
    ("cp1251", "красный цветок", r"line 2: not UTF-8, it looks like Windows-1251"),
    ("shift_jis", "赤い花びらです", r"line 2: not UTF-8, it looks like Shift JIS"),
    ("gbk", "这朵花有红色的花瓣", r"line 2: not UTF-8, it looks like GBK"),
    ("euc_kr", "빨간 꽃입니다", r"line 2: not UTF-8, it looks like EUC-KR"),
    ("utf-16-le", "red", r"line 1: not UTF-8, it looks like UTF-16 without its mark"),
):
    refused(words)(misencoded(encoding, text))


@refused(r"line 2: it holds a zero byte, which is in no text")
def zero_bytes(raw):
    table(raw, [line + "\0" * (i == 1) for i, line in enumerate(rows(draw(raw, *classes())))])


@refused(r"1 with broken captions .*a caption of a/p1 holds U\+FFFD")
def lost_letters(raw):
    table(raw, [line + "\ufffd" * (i == 2) for i, line in enumerate(rows(draw(raw, *classes())))])


@builds()
def sidecar_as_an_editor_saves_it(raw):
    names = draw(raw, *classes())
    for i, name in enumerate(names):
        table(raw, ["\ufeff" + flower(i), "", "weiße Blüte"], name[:-4] + ".txt", "utf-16-le", "\r\n")
    return expect(names, [(flower(i), "weiße Blüte") for i in range(6)])


@refused(r"a/p0\.txt, line 1: not UTF-8, it looks like Windows-1252")
def sidecar_in_another_encoding(raw):
    for name in draw(raw, *classes()):
        table(raw, ["weiße Blüte"], name[:-4] + ".txt", "latin-1")


# ---- folders that are no classes


@builds()
def by_date(raw):
    return expect(in_folders(raw, "2021-05-03", "2021-06-01", "2022"), **NONE)


@builds()
def in_parts(raw):
    return expect(in_folders(raw, "part1", "part2", "part 3"), **NONE)


@builds()
def some_in_no_folder(raw):
    names = draw(raw, "a/0.png", "a/1.png", "b/2.png", "b/3.png", "4.png")
    table(raw, rows(names))
    return expect(names, **NONE)


@builds()
def a_folder_each(raw):
    names = draw(raw, *(f"flower{i}/photo.png" for i in range(5)))
    table(raw, rows(names))
    return expect(names, **NONE)


@builds(class_folders=False)
def folders_called_no_classes(raw):
    return expect(in_folders(raw, "holiday", "garden", "park"), **NONE)


@builds()
def classes_far_below(raw):
    names = in_folders(raw, "data/flowers/rose", "data/flowers/lily/deep", "data/flowers/iris")
    return expect(names, of={n[:-4]: n.split("/")[2] for n in names})


# ---- ways of writing captions


@builds()
def hugging_face_in_each_split(raw):
    names = in_folders(raw, "train", "test")
    (raw / "captions.csv").unlink()
    for split in ("train", "test"):
        own = [n for n in names if n.startswith(split)]
        lines = ["file_name,text", *(f"{n.split('/')[1]},{flower(names.index(n))}" for n in own)]
        table(raw, lines, f"{split}/metadata.csv")
    return expect(names, test={"test/p0", "test/p1"}, **NONE)


@builds()
def hugging_face_with_lists(raw):
    names = draw(raw, *classes())
    lines = [json.dumps({"file_name": n, "text": [flower(i), "so"], "id": i}) for i, n in enumerate(names)]
    table(raw, lines, "metadata.jsonl")
    return expect(names, [(flower(i), "so") for i in range(6)])


def as_json(name, content):
    def case(raw):
        names = draw(raw, *classes())
        table(raw, [json.dumps(content(names))], "captions.json")
        return expect(names, [(flower(i), "so") for i in range(6)])

    case.__name__ = name
    builds()(case)


as_json("json_of_lists", lambda names: {n: [flower(i), "so"] for i, n in enumerate(names)})
as_json("json_of_objects", lambda names: [{"image": n, "caption": [flower(i), "so"]} for i, n in enumerate(names)])
as_json("json_of_named_objects", lambda names: {n: {"captions": [flower(i), "so"]} for i, n in enumerate(names)})
as_json("json_of_sentences", lambda names: {"images": [
    {"filename": n, "sentences": [{"raw": flower(i), "tokens": []}, {"raw": "so"}]} for i, n in enumerate(names)]})
as_json("json_of_coco", lambda names: {
    "images": [{"id": i, "file_name": n} for i, n in enumerate(names)],
    "annotations": [{"image_id": i, "caption": c} for i in range(6) for c in (flower(i), "so")]})  # fmt: skip


@builds()
def lists_in_fields(raw):
    names = draw(raw, *classes())
    table(raw, ["caption,key", *(f"\"['{flower(i)}', 'so']\",{n}" for i, n in enumerate(names[:3])),
                *(f'"[""{flower(i + 3)}"", ""so""]",{n}' for i, n in enumerate(names[3:]))])  # fmt: skip
    return expect(names, [(flower(i), "so") for i in range(6)])


@builds()
def caption_files_of_two_kinds(raw):
    names = draw(raw, *classes(".jpg"))
    for i, name in enumerate(names):
        table(raw, [flower(i)], name[:-4] + ".caption" if i % 2 else name + ".txt")
    return expect(names)


@builds()
def as_flickr_8k(raw):
    names = draw(raw, *(f"Images/{i}.jpg" for i in range(5)))
    table(raw, rows([os.path.basename(n) for n in names], "image,caption"), "captions.txt")
    return expect(names, **NONE)


@builds()
def as_flickr_30k(raw):
    names = draw(raw, *(f"images/{i}.jpg" for i in range(5)))
    lines = [f"{os.path.basename(n)}| {k}| {flower(i)} , {k}" for i, n in enumerate(names) for k in range(2)]
    table(raw, ["image_name| comment_number| comment", *lines])
    return expect(names, [[f"{flower(i)} , {k}" for k in range(2)] for i in range(5)], **NONE)


@builds()
def as_excel_saves_it(raw):
    names = draw(raw, *classes())
    lines = ["sep=;", "Prompt;Filename;;", *(f"{flower(i)};{n};;" for i, n in enumerate(names))]
    table(raw, lines, "Captions.CSV", end="\r\n")
    return expect(names)


@builds()
def old_macintosh(raw):
    names = draw(raw, *classes())
    table(raw, rows(names, "path;description", ";"), end="\r")
    return expect(names)


@refused(r"captions\.csv and metadata\.csv beside it are both tables of captions; say which: --captions_dir=")
def two_tables(raw):
    names = draw(raw, *classes())
    table(raw, rows(names))
    table(raw, rows(names, "file_name,text"), "metadata.csv")


@refused(r"has the fields text and description; name the one with the captions caption")
def two_fields_of_captions(raw):
    table(raw, rows(draw(raw, *classes()), "key,text,description"))


@refused(r"begins with 'photo,title'; the first line must be key,caption")
def other_fields(raw):
    table(raw, rows(draw(raw, *classes()), "photo,title"))


@refused(r"line 3: 3 fields, the header has 2; put a caption with a comma in quotes")
def a_comma_too_many(raw):
    lines = rows(draw(raw, *classes()))
    table(raw, [line + ", and white" * (i == 2) for i, line in enumerate(lines)])


@refused(r"No captions in .*a table whose first line is key,caption, or a text file beside each picture")
def no_captions(raw):
    draw(raw, *classes())


@builds()
def as_kaggle_has_it(raw):
    """The one table there is, under another name."""
    names = draw(raw, *(f"flickr30k_images/{i}.jpg" for i in range(5)))
    lines = [f"{os.path.basename(n)}| {k}| {flower(i)} , {k}" for i, n in enumerate(names) for k in range(2)]
    table(raw, ["image_name| comment_number| comment", *lines], "results.csv")
    return expect(names, [[f"{flower(i)} , {k}" for k in range(2)] for i in range(5)], **NONE)


@builds()
def coco_as_it_is_unpacked(raw):
    names = draw(raw, *(f"train2017/{i}.jpg" for i in range(5)))
    content = {"images": [{"id": i, "file_name": os.path.basename(n)} for i, n in enumerate(names)],
               "annotations": [{"image_id": i, "caption": flower(i)} for i in range(5)]}  # fmt: skip
    table(raw, [json.dumps(content)], "annotations/captions_train2017.json")
    return expect(names, **NONE)


@builds()
def json_lines_called_json(raw):
    names = draw(raw, *classes())
    table(raw, [json.dumps({"file_name": n, "text": flower(i)}) for i, n in enumerate(names)], "metadata.json")
    return expect(names)


@builds()
def text_files_in_a_folder_beside(raw):
    names = draw(raw, *(f"images/p{i}.jpg" for i in range(5)))
    for i in range(5):
        table(raw, [flower(i)], f"labels/p{i}.txt")
    return expect(names, **NONE)


@builds()
def text_files_in_a_folder_of_each_split(raw):
    names = draw(raw, *(f"{split}/images/{split}{i}.jpg" for split in ("train", "valid", "test") for i in range(2)))
    for i, name in enumerate(names):
        table(raw, [flower(i)], name.replace("images", "labels")[:-4] + ".txt")
    return expect(names, test={"test/images/test0", "test/images/test1"}, **NONE)


@builds()
def classes_of_pictures_and_texts_apart(raw):
    names = draw(raw, *(f"images/{name}" for name in classes()))
    for i, name in enumerate(names):
        table(raw, [flower(i)], name.replace("images", "texts")[:-4] + ".txt")
    return expect(names, of={n[:-4]: n.split("/")[1] for n in names})


@refused(r"2 with broken captions .*a/p0 is 'nan', which programs write for an empty field.*b/p0 is 'None'")
def words_for_nothing(raw):
    lines = rows(draw(raw, *classes()))
    table(raw, [re.sub(",flower [02] .*", ",nan" if i == 1 else ",None", line) for i, line in enumerate(lines)])


@refused(r"labels\.csv begins with 'image_id,label'; the first line must be key,caption")
def a_table_of_classes_alone(raw):
    table(raw, rows(draw(raw, *classes()), "image_id,label"), "labels.csv")


@refused(r"but 2 tables of other names, such as .*one\.csv and .*two\.csv; say which .*--captions_dir=")
def two_tables_of_other_names(raw):
    names = draw(raw, *classes())
    for name in ("one.csv", "two.csv"):
        table(raw, rows(names), name)


@refused(r"No captions in .*, but .*flowers\.xlsx, a spreadsheet: save it as CSV")
def a_workbook(raw):
    draw(raw, *classes())
    (raw / "README.txt").write_text("flowers")
    (raw / "flowers.xlsx").write_bytes(b"PK\3\4")


@refused(r"No captions in .*, but .*captions\.csv\.gz, an archive: unpack it")
def a_packed_table(raw):
    draw(raw, *classes())
    (raw / "captions.csv.gz").write_bytes(b"\x1f\x8b")


@refused(r"No captions in .*, but .*Flickr8k\.token\.txt, whose name is no picture's: give it a first line key,caption")
def a_text_of_names_and_captions(raw):
    table(raw, [f"{name}#0\t{flower(i)}" for i, name in enumerate(draw(raw, *classes()))], "Flickr8k.token.txt")


@refused(r"No pictures in .*, but .*00000\.tar, an archive: unpack it")
def shards_of_an_archive(raw):
    (raw / "00000.tar").write_bytes(b"")


@refused(r"No pictures in .*, but .*train\.parquet, which may hold the pictures itself: save them as files")
def pictures_in_a_table(raw):
    (raw / "train.parquet").write_bytes(b"PAR1")


@refused(r"named such as 'a/001', those that .* has captions for such as '1'; write the names as the files have them")
def zeros_that_a_spreadsheet_took(raw):
    draw(raw, "a/001.png", "a/002.png")
    table(raw, ["image,caption", "1,red", "2,blue"])


@refused(r"captions\.csv is no text but a zip archive or an Excel or Word document")
def a_workbook_called_csv(raw):
    draw(raw, *classes())
    (raw / "captions.csv").write_bytes(b"PK\x03\x04" + b"\0" * 50)


@refused(r"captions\.csv is no text but an HTML page")
def a_page_called_csv(raw):
    draw(raw, *classes())
    table(raw, ["<!DOCTYPE html>", "<html>login</html>"])


# ---- names


@builds()
def narrow_and_trailing_blanks(raw):
    names = draw(raw, *(f"{f}/p\u202f{i}  b.png" for f in "abc" for i in range(2)))
    table(raw, rows([n.replace("\u202f", " ").replace("  ", " ") + " " for n in names]))
    return expect(names)


@builds()
def another_machine(raw):
    names = draw(raw, *classes(".jpg"))
    table(raw, rows(["C:\\Users\\me\\My Pictures\\" + n.replace("/", "\\") for n in names]))
    return expect(names)


@builds()
def above_the_folder(raw):
    names = draw(raw, *classes())
    table(raw, rows([f"./mine/flowers/{n}" for n in names]))
    return expect(names)


@builds()
def composed_and_taken_apart(raw):
    names = draw(raw, *(unicodedata.normalize("NFC", n) for n in classes(folders="éöå", name="ñ{}")))
    table(raw, rows([unicodedata.normalize("NFD", n) for n in names]))
    return expect(names)


@builds()
def other_endings_and_capitals(raw):
    names = draw(raw, *classes(".jpg", name="IMG_{}"))
    table(raw, rows([n.lower().replace(".jpg", ".JPEG") for n in names]))
    return expect(names)


@builds()
def capitals_that_tell_apart(raw):
    names = draw(raw, "a/P.png", "a/p.png", "b/P.png", "b/p.png")
    table(raw, rows(names))
    return expect(names)


@refused(r"line 2: 'p0\.png' may be a/p0 or b/p0 or c/p0; write the folder too")
def bare_names_of_several(raw):
    draw(raw, *classes())
    table(raw, rows(["p0.png", "p1.png"]))


@refused(r"line 3: 'a/P0\.png' and 'a/p0\.png' are one picture, a/p0; write it one way")
def one_picture_two_ways(raw):
    names = draw(raw, *classes())
    table(raw, rows([names[0], "a/P0.png", *names[1:]]))


@refused(r"1 without a picture \(first: no picture 'z/p0\.png' for the captions .*line 8\)")
def a_folder_that_is_not_there(raw):
    table(raw, rows([*draw(raw, *classes()), "z/p0.png"]))


@builds()
def texts_of_equal_names(raw):
    names = draw(raw, *classes())
    for i, name in enumerate(names):
        table(raw, [flower(i)], f"text_c10/{name[:-4]}.txt")
    return expect(names)


@builds()
def texts_in_folders_pictures_in_none(raw):
    names = draw(raw, *(f"all/{i}.png" for i in range(6)))
    for i in range(6):
        table(raw, [flower(i)], f"text_c10/kind{i % 3}/{i}.txt")
    return expect(names, of={name[:-4]: f"kind{i % 3}" for i, name in enumerate(names)})


# ---- links, endings, what is no picture


@builds()
def links_that_go_round(raw):
    names = draw(raw, *classes())
    (raw / "a" / "up").symlink_to(raw)
    (raw / "b" / "again").symlink_to(raw / "a")
    draw(raw.parent / "elsewhere", "p0.png", "p1.png")
    (raw / "d").symlink_to(raw.parent / "elsewhere")
    (raw / "e").symlink_to(raw.parent / "elsewhere")
    names += ["d/p0.png", "d/p1.png"]
    table(raw, rows(names))
    return expect(names)


@refused(r"1 damaged \(first: No '\S+/b/p1\.png'.*; add it\.\)")
def a_link_to_nothing(raw):
    names = draw(raw, *classes())
    (raw / "b" / "p1.png").unlink()
    (raw / "b" / "p1.png").symlink_to(raw / "gone.png")
    table(raw, rows(names))


@refused(r"1 damaged \(first: \S+/b/p1\.png: this link leads in a circle; give the file itself\)")
def a_link_to_itself(raw):
    names = draw(raw, *classes())
    (raw / "b" / "p1.png").unlink()
    (raw / "b" / "p1.png").symlink_to("p1.png")
    table(raw, rows(names))


@builds()
def endings_of_all_kinds(raw):
    names = draw(raw, "a/0.JFIF", "a/1.webp", "b/2.tif", "b/3.BMP", "c/4.jpeg", "c/5.Png")
    table(raw, rows(names))
    return expect(names)


@builds()
def wrong_endings(raw):
    names = draw(raw, *classes(".jpg"), form="PNG")
    draw(raw, names[0], form="WEBP")
    table(raw, rows(names))
    return expect(names)


def spoilt(name, data, words):
    def case(raw):
        names = draw(raw, *classes(".jpg"))
        (raw / names[3]).write_bytes(data)
        table(raw, rows(names))

    case.__name__ = name
    refused(rf"Of 6 pictures, 1 damaged \(first: \S+b/p1\.jpg is not a readable picture \({words}.*--skip_dam")(case)


spoilt("nothing", b"", "it is empty")
spoilt("zeros", b"\0" * 300, "it is nothing but zero bytes")
spoilt("a_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer.*git lfs")
spoilt("a_page", b"\n<html><head>404</head></html>", "it is an HTML page, as a failed download leaves it")
spoilt("a_message", b"Access denied\n", "it is a text that begins with 'Access denied")
spoilt("a_drawing", b"<?xml version='1.0'?><svg xmlns='x'></svg>", "it is an SVG drawing")


# ---- all that is wrong at once


def much_is_wrong(raw):
    """Four of each class are damaged, c/p5 has an empty caption, and one caption has no picture."""
    names = draw(raw, *classes(".jpg", "abc", 6))
    for name in names:
        if name[3] < "4":
            (raw / name).write_bytes(b"x")
    table(raw, [*rows(names[:-1]), "z/1.jpg,red", "c/p5.jpg,"])
    left = [i for i, name in enumerate(names[:-1]) if name[3] >= "4"]
    return expect([names[i] for i in left], [flower(i) for i in left])


refused(r"1 without a picture .*'z/1\.jpg'.*1 without captions .*c/p5\.jpg.*1 with broken captions .*line 20: no cap"
        r".*12 damaged \(first: (.*p\d\.jpg is not){10}.*; and 2 more\)\. Mend them, or leave these out: --skip_damaged"
        )(much_is_wrong)  # fmt: skip
BUILT["much_is_left_out"] = (much_is_wrong, {"skip_damaged": True})


@refused(r"entry 2: a caption of a/p1 has 501 words, over 500")
def a_book(raw):
    names = draw(raw, *classes())
    table(raw, [json.dumps([{"key": n, "text": "red " * (501 if i == 1 else 3)} for i, n in enumerate(names)])],
          "captions.json")  # fmt: skip


@refused(r"line 4: a caption of b/p0 holds the name of another picture, c/p0\.png")
def a_row_swallowed(raw):
    lines = rows(draw(raw, *classes()))
    table(raw, [line + " c/p0.png red" * (i == 3) for i, line in enumerate(lines)])


# ---- the tests


def examine(raw: pathlib.Path, options: dict) -> list[str]:
    """What the doctor calls problems."""
    report = Report()
    with contextlib.redirect_stdout(io.StringIO()):
        doctor.check_raw(report, "folder", str(raw), **options)
    return report.problems


def test_there_are_many():
    assert len(BUILT) + len(REFUSED) >= 80


@pytest.mark.parametrize("name", BUILT)
def test_what_builds(tmp_path, name):
    function, options = BUILT[name]
    raw = tmp_path / "raw"
    raw.mkdir()
    expected = function(raw)
    assert examine(raw, options) == []
    info, _ = build.build("folder", str(raw), str(tmp_path / "out"), shards=1, workers=1, **options)
    found = {split: list(records.read_examples(str(tmp_path / "out"), split)) for split in ("train", "test")}
    examples = {example.key: example for of_split in found.values() for example in of_split}
    assert {key: example.captions for key, example in examples.items()} == expected["captions"]
    if expected["of"] is None:
        assert {example.class_id for example in examples.values()} == {0}
        assert "no classes" in " ".join(info["remarks"])
    else:
        pairs = {(expected["of"][key], example.class_id) for key, example in examples.items()}
        assert len(pairs) == len({name for name, _ in pairs}) == len({number for _, number in pairs})
        assert all(number > 0 for _, number in pairs)
    tested = {example.key for example in found["test"]}
    if "test" in expected:
        assert tested == expected["test"] and "folders are splits" in " ".join(info["remarks"])
    else:
        assert tested and info["split_rule"]["rule"] == "seeded"
    for key, example in examples.items():  # the very picture: its colour
        folder, _, stem = key.rpartition("/")
        source = next(p for p in (raw / folder).iterdir() if p.name.startswith(stem + ".")
                      and p.suffix not in (".txt", ".caption"))  # fmt: skip
        with Image.open(source) as one, Image.open(io.BytesIO(example.image)) as other:
            apart = np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(other.convert("RGB"), int))
        assert apart.max() <= 4, key
    if options.get("skip_damaged"):
        assert len(info["missing"]["damaged"]) == 12 and info["missing"]["reasons"]["damaged"] == 12


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    function, words, options = REFUSED[name]
    raw = tmp_path / "raw"
    raw.mkdir()
    function(raw)
    with pytest.raises((ValueError, OSError)) as caught:
        build.build("folder", str(raw), str(tmp_path / "out"), shards=1, workers=1, **options)
    line = commands.in_words(caught.value)
    assert re.search(words, line), line
    assert "\n" not in line and not (tmp_path / "out").exists()
    said = " ".join(examine(raw, options))
    assert said and re.search(words, said), said


def test_what_is_said_beside_the_counts(tmp_path):
    """Text files that a table hides, and captions that all say one thing: both build, and both are told."""
    names = draw(tmp_path / "raw", *classes())
    table(tmp_path / "raw", ["key,caption", *(f"{name},a flower" for name in names)])
    table(tmp_path / "raw", ["blue"], "b/p1.txt")
    said = " ".join(folder.listing(str(tmp_path / "raw")).remarks)
    assert f"captions are those of {tmp_path}/raw/captions.csv; the text files beside 1 pictures are not read" in said
    assert "b/p1.txt" in said and "every caption is 'a flower': no word can be learnt" in said
    table(tmp_path / "raw", rows(names))
    (tmp_path / "raw" / "b" / "p1.txt").unlink()
    assert not {"every", "captions"} & {remark.split()[0] for remark in folder.listing(str(tmp_path / "raw")).remarks}


def test_embeddings_by_bare_name(tmp_path):
    names = draw(tmp_path / "raw", *classes(name="x{}", folders="abc", each=1), "a/y.png", "b/z.png", "c/w.png")
    names = [n.replace("x0", f"x0{n[0]}") for n in names]
    for old, new in zip(("a/x0.png", "b/x0.png", "c/x0.png"), names[:3], strict=True):
        os.rename(tmp_path / "raw" / old, tmp_path / "raw" / new)
    table(tmp_path / "raw", rows(names))
    keys = [os.path.basename(name) for name in names]
    np.savez(tmp_path / "e.npz", keys=keys, embeddings=np.arange(12, dtype=np.float32).reshape(6, 1, 2))
    build.build("folder", str(tmp_path / "raw"), str(tmp_path / "out"), embeddings_path=str(tmp_path / "e.npz"))
    found = {e.key: e.embeddings.tolist() for split in records.SPLITS
             for e in records.read_examples(str(tmp_path / "out"), split)}  # fmt: skip
    assert found == {name[:-4]: [[2.0 * i, 2.0 * i + 1]] for i, name in enumerate(names)}


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed here")
def test_parquet_needs_pyarrow(tmp_path):
    draw(tmp_path, *classes())
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"metadata\.parquet is a Parquet table; pip install pyarrow"):
        build.build("folder", str(tmp_path), str(tmp_path / "out"))


@pytest.mark.parametrize("several", [False, True])
def test_parquet(tmp_path, several):
    """As Hugging Face writes it: a row a picture, its caption a string or a list of them."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed; only tables in Parquet need it")
    from pyarrow import parquet

    names = draw(tmp_path / "raw", *classes())
    captions = [[flower(i), f"petals of {i}"] if several else flower(i) for i in range(len(names))]
    parquet.write_table(pyarrow.table({"file_name": names, "text": captions}), tmp_path / "raw" / "metadata.parquet")
    assert examine(tmp_path / "raw", {}) == []
    build.build("folder", str(tmp_path / "raw"), str(tmp_path / "out"), shards=1)
    found = {e.key: e.captions for split in records.SPLITS for e in records.read_examples(str(tmp_path / "out"), split)}
    assert found == {name[:-4]: tuple(c) if several else (c,) for name, c in zip(names, captions, strict=True)}


def test_a_damaged_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; only tables in Parquet need it")
    draw(tmp_path / "raw", *classes())
    (tmp_path / "raw" / "metadata.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises((ValueError, OSError)) as caught:
        build.build("folder", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert "metadata.parquet" in (line := commands.in_words(caught.value)) and "\n" not in line
