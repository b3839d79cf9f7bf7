"""The edit command's plan of files, and what it writes: sizes, boxes, strength, moving pictures, bad files left out."""

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from simgan_tf import photographs
from simgan_tf.edit import Editor
from simgan_tf.photographs import Wanted, box_of, plan, run, sentences
from tests.tiny import make_run, vse_encoder

TEXT, OTHER = "this flower has red petals", "the petals are blue"


@pytest.fixture(scope="module")
def editor(tmp_path_factory) -> Editor:
    return Editor(make_run(str(tmp_path_factory.mktemp("run")), vse_encoder()))


@pytest.fixture
def album(tmp_path):
    """Three photographs of different sizes and kinds, and a file that is none of them."""
    folder = tmp_path / "album"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, size in (("a.jpg", (60, 40)), ("b.png", (33, 71)), ("c.bmp", (20, 20))):
        small = Image.fromarray(draw.integers(0, 256, [5, 5, 3], np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    (folder / "notes.txt").write_text("nothing")
    return folder


def wanted(album, **more) -> Wanted:
    return Wanted(**{"images": (str(album),), "texts": (TEXT,), "out": str(album.parent / "out"), **more})


def outs(jobs):
    return [os.path.basename(out) for job in jobs for out in job.outs]


def test_a_folder_of_photographs_becomes_a_folder(album):
    """By the photographs' own names and kinds, in order; a kind that is not written becomes a PNG."""
    assert outs(plan(wanted(album))) == ["a.jpg", "b.png", "c.png"]
    assert outs(plan(wanted(album, images=(str(album / "*.p*"),)))) == ["b.png"]
    two = plan(wanted(album, images=(str(album / "a.jpg"),), texts=(TEXT, OTHER), samples=2))
    assert outs(two) == ["a-text1-1.jpg", "a-text1-2.jpg", "a-text2-1.jpg", "a-text2-2.jpg"]
    one = wanted(album, images=(str(album / "a.jpg"),), out=str(album / "edit.webp"))
    assert outs(plan(one)) == ["edit.webp"]
    way = dataclasses.replace(one, to_text=OTHER, steps=5)
    assert outs(plan(way)) == ["edit.webp"] and way.moving
    stills = dataclasses.replace(way, out=str(album / "x.jpg"))
    assert outs(plan(stills)) == [f"x-{i}.jpg" for i in range(1, 6)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": ("nowhere/*.jpg",)}, "--image=nowhere/[*].jpg: there is no such file, folder or pattern"),
        ({"out": "edit.tiff"}, "--out=edit.tiff: a picture's name must end in .jpg, .jpeg, .png, .webp"),
        ({"out": "edit.jpg"}, "--out=edit.jpg is one file, for 3 photographs and 1 sentences: give a folder"),
        ({"sheet": "sheet.bmp"}, "must end in .png, .jpg or .jpeg"),
        ({"to_text": OTHER, "samples": 3}, "--samples=3 does not go with --to_text"),
        ({"size": "model", "box": (0, 0, 9, 9)}, "--box edits a part of the whole photograph"),
    ],
)
def test_names_that_cannot_be_are_refused_before_a_model_is_loaded(album, change, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        plan(wanted(album, **change))


def test_nothing_is_written_over_a_source_or_twice(album):
    with pytest.raises(ValueError, match="a.jpg would be written over"):
        plan(wanted(album, out=str(album)))
    again = album.parent / "again"
    again.mkdir()
    (again / "a.jpg").write_bytes((album / "a.jpg").read_bytes())
    with pytest.raises(ValueError, match="would be written twice"):
        plan(wanted(album, images=(str(album), str(again))))
    photograph, texts, one = str(album / "a.jpg"), str(album / "texts.jpg"), str(album.parent / "edit.jpg")
    for change, said in (
        ({"sheet": photograph}, "a.jpg would be written over: choose another --sheet"),
        ({"sheet": one}, "--sheet=.*edit.jpg is an edit's name too"),
        ({"texts_file": texts, "sheet": texts}, "texts.jpg would be written over: choose another --sheet"),
        ({"texts_file": texts, "out": texts}, "texts.jpg would be written over: choose another --out"),
        ({"out": ""}, "--out= is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            plan(wanted(album, **{"images": (photograph,), "out": one, **change}))


def test_nothing_is_written_over_a_source_by_way_of_a_link(album):
    """A folder by two names, and a photograph that is a link; a link at --out is itself replaced, and so may be."""
    linked, elsewhere = album.parent / "linked", album.parent / "elsewhere"
    linked.symlink_to(album)
    elsewhere.mkdir()
    (elsewhere / "link.jpg").symlink_to(album / "a.jpg")
    for change in (
        {"out": str(linked)},
        {"images": (str(linked / "a.jpg"),), "out": str(album / "a.jpg")},
        {"images": (str(linked / "a.jpg"),), "out": "edit.jpg", "sheet": str(album / "a.jpg")},
        {"images": (str(elsewhere / "link.jpg"),), "out": str(album / "a.jpg")},
    ):
        with pytest.raises(ValueError, match="a.jpg would be written over"):
            plan(wanted(album, **change))
    plan(wanted(album, images=(str(album / "a.jpg"),), out=str(elsewhere / "link.jpg")))
    (album / "inner").mkdir()
    (album.parent / "deep").symlink_to(album / "inner")  # deep/.. is the album
    with pytest.raises(ValueError, match="a.jpg would be written over"):
        plan(wanted(album, images=(str(album / "a.jpg"),), out=f"{album.parent}/deep/../a.jpg"))


def test_sentences_and_boxes_of_flags(tmp_path):
    (tmp_path / "texts.txt").write_text(f"{TEXT}\n\n  {OTHER} \n", encoding="utf-8")
    assert sentences(["red"], str(tmp_path / "texts.txt")) == ("red", TEXT, OTHER)
    with pytest.raises(ValueError, match="no sentence"):
        sentences([], None)
    assert box_of("1, 2,30,40") == (1, 2, 30, 40) and box_of(None) is None
    for bad in ("1,2,3", "a,b,c,d", "1,2,-3,4", "1,2,3," + "9" * 70):
        with pytest.raises(ValueError, match=f"--box={bad} must be x,y,w,h"):
            box_of(bad)


def test_every_photograph_comes_back_at_its_own_size(editor, album, capsys):
    """Others that are damaged are told and passed over; the sheet has a row for each that went well."""
    for bad in ("0bad.jpg", "bad.jpg", "z.jpg"):
        (album / bad).write_bytes(b"\xff\xd8\xff no more")
    task = wanted(album, sheet=str(album.parent / "sheet.png"))
    assert run(editor, task, plan(task)) is False
    captured = capsys.readouterr()
    assert "bad.jpg is not a readable picture" in captured.err and "3 of 6 edits failed" in captured.err
    out = album.parent / "out"
    assert f"wrote 3 pictures, {out / 'a.jpg'} to {out / 'c.png'} and" in captured.out
    for name, size in (("a.jpg", (60, 40)), ("b.png", (33, 71)), ("c.png", (20, 20))):
        with Image.open(out / name) as edited:
            assert edited.size == size
    assert not (out / "bad.jpg").exists()
    with Image.open(album.parent / "sheet.png") as sheet:
        assert sheet.width == 2 * (photographs.CELL + 4)


def test_a_sentence_is_told_as_it_was_understood_once(editor, album, capsys):
    """Of the encoder's nine words: petels is one letter from petals. Three photographs, each line once."""
    task = wanted(album, texts=("this flower is not red, has petels and a very long stem",))
    assert run(editor, task, plan(task))
    assert capsys.readouterr().out.splitlines()[:3] == [
        "only the first 9 words are read; left out: very long stem",
        "unknown to the model: is, petels (did you mean petals?), and, a",
        '"not" is not understood: red is taken as asked for',
    ]


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_strength_goes_from_the_photograph_to_the_edit(editor, album):
    """0 is the photograph, bit for bit; a half lies in the middle, to a rounded pixel."""
    source, edits = pixels(album / "b.png"), {}
    for strength in (0.0, 0.5, 1.0):
        out = str(album.parent / f"{strength}.png")
        task = wanted(album, images=(str(album / "b.png"),), out=out, strength=strength)
        assert run(editor, task, plan(task))
        edits[strength] = pixels(out)
    np.testing.assert_array_equal(edits[0.0], source)
    inside = (edits[1.0] > 0) & (edits[1.0] < 255)
    middle = (source + edits[1.0]) / 2
    assert np.abs(edits[0.5] - middle)[inside].max() <= 1 and np.abs(edits[1.0] - source).max() > 20


def test_a_box_leaves_the_rest_alone(editor, album):
    out = str(album.parent / "boxed.png")
    task = wanted(album, images=(str(album / "b.png"),), out=out, box=(5, 10, 20, 30))
    assert run(editor, task, plan(task))
    changed = np.abs(pixels(out) - pixels(album / "b.png")).max(axis=2) > 0
    assert changed[15:35, 10:20].mean() > 0.5
    changed[10:40, 5:25] = False
    assert not changed.any()
    beyond = dataclasses.replace(task, box=(20, 10, 20, 30))
    with pytest.raises(ValueError, match="box 20,10,20,30 .* inside the photograph of 33x71"):
        run(editor, beyond, plan(beyond))


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_a_way_is_a_moving_picture_there_and_back(editor, album, ending):
    """Four steps: 1 2 3 4 3 2, then again."""
    out = str(album.parent / f"between.{ending}")
    task = wanted(album, images=(str(album / "a.jpg"),), out=out, to_text=OTHER, steps=4)
    assert run(editor, task, plan(task))
    with Image.open(out) as moving:
        assert moving.size == (60, 40) and moving.is_animated and 4 <= moving.n_frames <= 6


def test_the_model_size_is_the_networks_own_square(editor, album):
    out = str(album.parent / "square.png")
    task = wanted(album, images=(str(album / "a.jpg"),), out=out, size="model")
    assert run(editor, task, plan(task))
    size = editor.config.image_size
    expected = editor.edit(editor.read(str(album / "a.jpg")), TEXT)[0]
    assert pixels(out).shape == (size, size, 3)
    assert np.abs(pixels(out) - (expected + 1) * 127.5).max() <= 0.51


def test_the_model_size_hears_the_seed(editor, album):
    """Seed 0 edits by the code's mean, another draws."""
    edits = []
    for seed in (0, 3):
        out = str(album.parent / f"seed{seed}.png")
        task = wanted(album, images=(str(album / "a.jpg"),), out=out, size="model", seed=seed)
        assert run(editor, task, plan(task))
        edits.append(pixels(out))
    assert np.abs(edits[0] - edits[1]).max() > 0


def test_the_editor_takes_paths_pictures_and_pixels(editor, album):
    """All give the same; a picture comes back as one, pixels as pixels; another seed is another result."""
    path = str(album / "b.png")
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    edited = editor(path, TEXT)
    assert isinstance(edited, Image.Image) and edited.size == (33, 71)
    np.testing.assert_array_equal(editor(picture, TEXT), edited)
    there = editor(np.asarray(picture), TEXT)
    assert isinstance(there, np.ndarray)
    np.testing.assert_array_equal(there, edited)
    assert np.abs(editor(picture, TEXT, seed=3) - np.asarray(edited, int)).max() > 0
    np.testing.assert_array_equal(editor(picture, TEXT, strength=0.0), picture)
