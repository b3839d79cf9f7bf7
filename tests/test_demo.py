"""data.demo: the drawn flowers, their sentences and their folder, on a few small pictures.
Holds its own colour reader, so that the palette is not judged by the code that uses it."""

import collections
import colorsys
import csv
import math
import pathlib
import re

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import demo, painter

SMALL = {"images_per_class": 2, "classes": 6, "size": 48}
BACKGROUND_WORDS = set(
    "background grass leaf leaves bokeh soil earth ground stone rock sky cloud wood wooden plank planks board dark "
    "blur blurred water brick bricks wall stem".split()
)


def tree(root: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("demo") / "raw"
    demo.write(str(root), **SMALL, workers=1)
    return root


def test_same_bytes_again_and_with_two_workers(small, tmp_path):
    demo.write(str(tmp_path / "again"), **SMALL, workers=2)
    assert tree(tmp_path / "again") == tree(small)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # no temporary folder stays behind


def test_another_seed_draws_other_pictures(small, tmp_path):
    demo.write(str(tmp_path / "other"), **SMALL, seed=1)
    assert (tmp_path / "other/jpg/image_00001.jpg").read_bytes() != (small / "jpg/image_00001.jpg").read_bytes()


def test_layout_is_oxfords(small):
    """6 classes x 2 pictures = 12 keys, two in a row for each class; round(6 x 20 / 102) = 1 class for testing."""
    keys = [f"image_{index:05d}" for index in range(1, 13)]
    classes = [f"class_{number:05d}" for number in range(1, 7)]
    expected = {
        "imagelabels.mat",
        "colours.csv",
        "demo.json",
        "text_c10/trainvalclasses.txt",
        "text_c10/testclasses.txt",
    }
    for place, key in enumerate(keys):
        expected |= {f"jpg/{key}.jpg", f"masks/{key}.png", f"text_c10/{classes[place // 2]}/{key}.txt"}
    assert set(tree(small)) == expected

    labels = scipy.io.loadmat(small / "imagelabels.mat")["labels"]
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]]
    header = (small / "imagelabels.mat").read_bytes()[:116]
    assert header.startswith(b"MATLAB 5.0 MAT-file") and not re.search(rb"\d\d:\d\d", header)

    train = (small / "text_c10/trainvalclasses.txt").read_text().splitlines()
    test = (small / "text_c10/testclasses.txt").read_text().splitlines()
    assert len(test) == 1 and sorted(train + test) == classes

    rows = list(csv.DictReader((small / "colours.csv").read_text().splitlines()))
    assert [row["key"] for row in rows] == keys
    for key in keys:
        with Image.open(small / f"jpg/{key}.jpg") as picture, Image.open(small / f"masks/{key}.png") as mask:
            assert (picture.mode, picture.size, mask.mode, mask.size) == ("RGB", (48, 48), "L", (48, 48))
            assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_files_hold_the_sentences_of_their_picture(small):
    rows = list(csv.DictReader((small / "colours.csv").read_text().splitlines()))
    for index, row in enumerate(rows, start=1):
        (path,) = (small / "text_c10").glob(f"*/{row['key']}.txt")
        lines = path.read_text().splitlines()
        flower = demo.flowers(6)[int(path.parent.name[-5:]) - 1]
        assert flower.colour == row["colour"]
        assert lines == demo.captions(flower, index)


def test_every_sentence_names_the_petals_colour_and_no_background():
    """Other colour words stand only at the centre: directly before its noun, or after 'is'."""
    colours = set(painter.COLOURS) | set(painter.CENTRES)
    used = set()
    for index, flower in enumerate(demo.flowers() * 3, start=1):
        sentences = demo.captions(flower, index)
        assert len(set(sentences)) == 10
        for sentence in sentences:
            used.add(sentence)
            words = sentence.split()
            assert re.fullmatch("[a-z ]+", sentence) and not BACKGROUND_WORDS & set(words), sentence
            rest = re.sub(rf"{flower.centre} (center|stamen|pistil|anthers)\b", "", sentence)
            rest = re.sub(rf"(center|stamen|pistil)( that)? is {flower.centre}", "", rest)
            assert [word for word in rest.split() if word in colours] == [flower.colour], sentence
            numbers = [word for word in words if word in demo.NUMBERS.values()]
            assert numbers in ([], [demo.NUMBERS[flower.petals]]), sentence
            assert not re.search(r"\ba [aeio]", sentence) and not re.search(r"\ban [^aeio]", sentence), sentence
    assert len(demo.TEMPLATES) >= 25 and len(used) > 1000
    assert demo.captions(demo.flowers()[0], 1) != demo.captions(demo.flowers()[0], 2)


def test_flowers_differ_and_the_splits_share_every_colour_but_no_class():
    kinds = demo.flowers()
    assert len({(kind.colour, kind.shape, kind.petals, kind.centre) for kind in kinds}) == 102
    assert all(kind.colour != kind.centre and 4 <= kind.petals <= 14 for kind in kinds)
    assert {kind.shape for kind in kinds} == set(painter.SHAPES)
    train, test = demo.split()
    assert (len(train), len(test)) == (82, 20)
    assert sorted(train + test) == list(range(1, 103))
    known = [kinds[number - 1] for number in train]
    for numbers in (train, test):
        assert {kinds[number - 1].colour for number in numbers} == set(painter.COLOURS)
    for number in test:
        unseen = kinds[number - 1]
        assert unseen.shape in {kind.shape for kind in known} and unseen.centre in {kind.centre for kind in known}


def read_colour(pixels: np.ndarray) -> str:
    """Name most of the [n, 3] uint8 pixels are nearest to on the hue-saturation disc (brightness left out)."""

    def place(rgb):
        hue, saturation, _ = colorsys.rgb_to_hsv(*(float(value) / 255 for value in rgb))
        return saturation * math.cos(2 * math.pi * hue), saturation * math.sin(2 * math.pi * hue)

    palette = {name: place(rgb) for name, rgb in painter.COLOURS.items()}
    votes = collections.Counter()
    for pixel in pixels:
        here = place(pixel)
        votes[min(palette, key=lambda name: math.dist(here, palette[name]))] += 1
    return votes.most_common(1)[0][0]


def test_masks_fit_and_petal_colours_can_be_read():
    """204 pictures, two of each class. At most 1 % may be misread, that is 2.

    A flower is 45-85 % of the side wide: a full disc of that width covers 0.16-0.57, gaps between petals and tilt
    take up to two thirds of it away.
    """
    wrong = []
    for number, flower in enumerate(demo.flowers()):
        for index in (2 * number + 1, 2 * number + 2):
            pixels, mask = painter.draw(flower, index, size=48)
            assert pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8
            assert mask.shape == (48, 48) and mask.dtype == bool
            assert 0.05 < mask.mean() < 0.57
            assert np.abs(pixels[mask].mean(0) - pixels[~mask].mean(0)).max() > 12
            if read_colour(pixels[mask][::3]) != flower.colour:
                wrong.append(index)
    assert len(wrong) <= 2, wrong


def test_mask_edge_lies_on_the_pictures_edge():
    """Red on whatever lies behind: red minus green is high up to the mask's border and falls off outside it."""
    for index in range(1, 13):
        pixels, mask = painter.draw(painter.Flower("red", "round", 6, "yellow", False), index)
        grown = np.zeros_like(mask)
        grown[2:-2, 2:-2] = [[mask[y - 2 : y + 3, x - 2 : x + 3].any() for x in range(2, 94)] for y in range(2, 94)]
        shrunk = np.zeros_like(mask)
        shrunk[2:-2, 2:-2] = [[mask[y - 2 : y + 3, x - 2 : x + 3].all() for x in range(2, 94)] for y in range(2, 94)]
        redness = pixels[..., 0].astype(int) - pixels[..., 1]
        assert redness[mask & ~shrunk].mean() > 90
        assert redness[grown & ~mask].mean() < 60


def test_pictures_of_a_class_differ_but_not_by_who_is_asked_first():
    flower = demo.flowers()[10]
    first, _ = painter.draw(flower, 1, size=48)
    second, _ = painter.draw(flower, 2, size=48)
    assert (first != second).mean() > 0.5
    np.testing.assert_array_equal(painter.draw(flower, 1, size=48)[0], first)


def test_same_set_is_left_alone(small, capsys):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    demo.write(str(small), **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert "already there" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"images_per_class": 0}, "images_per_class=0 must be from 1 to 980"),
        ({"classes": 103}, "classes=103 must be from 2 to 102"),
        ({"size": 8}, "size=8 must be from 32 to 512"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0 must be 1 or more"),
    ],
)
def test_bad_arguments(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        demo.write(str(tmp_path / "raw"), **arguments)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_other_content_is_refused_and_kept(small, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="holds no drawn demo set; choose another raw_dir"):
        demo.write(str(foreign), **SMALL)
    assert tree(tmp_path) == {"foreign/letter.txt": b"keep me"}

    with pytest.raises(ValueError, match="is a file"):
        demo.write(str(foreign / "letter.txt"), **SMALL)
    with pytest.raises(ValueError, match="'seed': 0.*wanted.*'seed': 5"):
        demo.write(str(small), **SMALL, seed=5)

    broken = tmp_path / "broken"
    demo.write(str(broken), **SMALL)
    (broken / "jpg/image_00003.jpg").unlink()
    with pytest.raises(ValueError, match="holds 11 of 12 files"):
        demo.write(str(broken), **SMALL)
    (broken / "demo.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        demo.write(str(broken), **SMALL)
