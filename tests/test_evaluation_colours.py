"""The reader of colours: captions by hand, drawn flowers whose mask and colour are known, real photographs, and the
protocol of words on a method that paints by rule."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import painter
from data.splits import Split
from simgan_tf.evaluation import colours
from simgan_tf.evaluation.measure import measure_words
from tests.tiny import MINI, refused, run

READ = ("red", "yellow", "purple", "white", "pink", "orange")  # drawn flowers have blue and green too


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("this flower has long pale purple oval petals", {"purple"}),
        ("the petals on this flower are mostly orange in color and the inner stamen is yellow", {"orange"}),
        ("a flower with white petals and yellow stamen", {"white"}),
        ("Deep violet blooms, with a golden center.", {"purple"}),
        ("this flower is orange and yellow in color with petals that are layered", {"orange", "yellow"}),
        ("the green leaves are broad", set()),
        ("this flower has petals that are white with many purple spots", {"white"}),
        ("this flower is smooth", set()),
    ],
)
def test_said_of_petals(caption, wanted):
    assert colours.said(caption, colours.FLOWERS) == wanted


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("the bird has a red crown black eyering and small feet", set()),
        ("a small red bird with a black striped wing", {"red"}),
        ("this bird has wings that are black and has a yellow belly", {"yellow"}),
        ("a gray bird with a tan breast", {"grey", "brown"}),
        ("this bird is blue with a long beak", {"blue"}),
    ],
)
def test_said_of_plumage(caption, wanted):
    assert colours.said(caption, colours.BIRDS) == wanted


def test_own_colour_is_that_of_most_captions():
    """Of four captions with a colour three say red: enough, unless two of the six say white; blue is never read."""
    red, white, none = "this flower has red petals", "the petals are white", "a flower"
    assert colours.own_colour([red] * 3 + [white, none], colours.FLOWERS) == "red"
    assert colours.own_colour([red] * 3 + [none], colours.FLOWERS) == ""
    assert colours.own_colour([red] * 3 + [white] * 2, colours.FLOWERS) == ""
    assert colours.own_colour(["this flower has red and white petals"] * 5, colours.FLOWERS) == ""
    assert colours.own_colour(["this flower has blue petals"] * 5, colours.FLOWERS) == ""


def test_exact_keys(tmp_path):
    table = tmp_path / "pairing.csv"
    table.write_text("image,class_id,pairing\na.jpg,1,exact\nb.jpg,1,approx\nc.jpg,2,one_exact\n")
    assert colours.exact_keys(str(table), ["c", "a", "b"]).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"lacks 1 of 2 pictures \(d\)"):
        colours.exact_keys(str(table), ["a", "d"])
    table.write_text("image,class_id\na.jpg,1\n")
    with pytest.raises(ValueError, match="'pairing'"):
        colours.exact_keys(str(table), ["a"])


def test_lab_of_known_colours():
    """White, black and the sRGB red of the CIE's formulas (L 53.24, a 80.09, b 67.20)."""
    found = colours.to_lab(np.array([[1, 1, 1], [-1, -1, -1], [1, -1, -1]], np.float32))
    np.testing.assert_allclose(found, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]], atol=0.05)


@pytest.fixture(scope="module")
def drawn():
    """48 drawn flowers of the six colours at 64 pixels: images in [-1, 1], true masks, colours."""
    images, masks, names = [], [], []
    for index in range(48):
        name = READ[index % len(READ)]
        flower = painter.Flower(name, list(painter.SHAPES)[index % 5], 5, "brown" if index % 2 else "black", False)
        pixels, mask = painter.draw(flower, index)
        images.append(np.asarray(Image.fromarray(pixels).resize([64, 64], Image.Resampling.BILINEAR)) / 127.5 - 1)
        masks.append(np.asarray(Image.fromarray(mask).resize([64, 64])))
        names.append(name)
    return np.array(images, np.float32), np.array(masks), np.array(names)


def test_foreground_finds_drawn_flowers(drawn):
    """They are smaller than photographed ones, for which the prior is made, so some of the ground comes along."""
    images, masks, _ = drawn
    found = colours.foreground(images)
    overlap = (found & masks).sum(axis=(1, 2)) / (found | masks).sum(axis=(1, 2))
    assert np.median(overlap) > 0.65 and found.any(axis=(1, 2)).all()


def test_the_reader_reads_drawn_flowers(drawn):
    """Inside the true masks; the table was fitted on photographs, not on these."""
    images, masks, names = drawn
    assert np.mean(colours.read(images, masks, colours.FLOWERS) == names) >= 0.9
    assert np.mean(colours.read(images, colours.foreground(images), colours.FLOWERS) == names) >= 0.75


def test_masks_and_readings_are_alike_at_all_sizes(drawn):
    """At 128 pixels of doubled ones everything is the same; alone or in a batch too; 16 pixels work."""
    images = drawn[0][:6]
    masks = colours.foreground(images)
    large = images.repeat(2, axis=1).repeat(2, axis=2)
    found = colours.foreground(large)
    np.testing.assert_array_equal(found, masks.repeat(2, axis=1).repeat(2, axis=2))
    shares = colours.word_shares(images, masks, colours.FLOWERS)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(colours.word_shares(large, found, colours.FLOWERS), shares, atol=1e-5)
    np.testing.assert_array_equal(colours.foreground(images[3:4])[0], masks[3])
    assert colours.foreground(images[:, ::4, ::4]).any(axis=(1, 2)).all()


def test_flat_pictures_have_a_foreground_in_the_middle():
    found = colours.foreground(np.zeros([1, 64, 64, 3], np.float32))[0]
    assert found[32, 32] and not found[0].any()


def test_background_keeps_off_the_border():
    """A square of 8 of 64 pixels grows by 2 to each side: 12 x 12 are not background."""
    mask = np.zeros([1, 64, 64], bool)
    mask[0, 20:28, 30:38] = True
    outside = colours.background(mask)
    assert (~outside).sum() == 144 and not outside[0, 18:30, 28:40].any()


def test_check_by_hand():
    found = colours.check(np.array(["red", "white", "red"]), np.array(["red", "red", ""]), ("red", "white"))
    assert found == {"pictures": 2, "accuracy": 0.5, "by_colour": {"red": [1, 2]}, "confused": {"red white": 1}}


@pytest.mark.parametrize(("name", "kind", "least"), [("oxford102/jpg", "flowers", 0.6), ("cub", "birds", 0.5)])
def test_real_photographs(name, kind, least):
    """24 pictures are few, and a flower's captions here may be of another of its class: far better than chance (1 of 6)
    is asked for, and masks that are neither all nor nothing."""
    if not MINI.is_dir():
        pytest.skip("the photographs of ../shared/data/mini are not on this machine")
    words, images, own = colours.WORDS[kind], [], []
    for file in sorted((MINI / name).rglob("*.jpg")):
        text = next((MINI / name.split("/")[0] / "text_c10").rglob(f"{file.stem}.txt"))
        with Image.open(file) as picture:
            side = min(picture.size)
            left, top = (picture.size[0] - side) // 2, (picture.size[1] - side) // 2
            box = (left, top, left + side, top + side)
            small = picture.convert("RGB").resize([64, 64], Image.Resampling.BILINEAR, box)
        images.append(np.asarray(small, np.float32) / 127.5 - 1)
        own.append(colours.own_colour(text.read_text().splitlines(), words))
    images, own = np.array(images), np.array(own)
    masks = colours.foreground(images)
    assert 0.2 < masks.mean() < 0.7 and masks.mean(axis=(1, 2)).min() > 0.03
    found = colours.check(colours.read(images, masks, words), own, words.colours)
    assert found["pictures"] >= 5 and found["accuracy"] >= least, found


class Painter:
    """Paints by rule: the whole picture gets the asked colour, but not where the picture is bluish; with noise the
    asked orange comes out yellow. Its text encoder gives the number of the sentence's colour."""

    def __init__(self):
        self.method = self.text_encoder = self

    def encode(self, texts):
        return np.array([[READ.index(text.split()[3])] for text in texts], np.float32)

    def draw_noise(self, count, seed):
        return tf.ones([count, 1])

    def edit(self, image, embedding, noise):
        number = tf.cast(embedding[:, 0], tf.int32)
        number = tf.where((number == READ.index("orange")) & (noise[:, 0] > 0), READ.index("yellow"), number)
        palette = tf.constant([painter.COLOURS[name] for name in READ], tf.float32) / 127.5 - 1
        colour = tf.gather(palette, number)[:, None, None]
        return tf.where(image[..., 2:] > image[..., :1], image + 0.02, tf.broadcast_to(colour, tf.shape(image)))


def test_measure_words_by_hand():
    """Three flowers, discs of red, red and yellow on a blue ground that every edit makes 0.01 of [0, 1] lighter. Of six
    words, orange fails with noise: 5/6 of the pairs agree, without noise all. Without the pairs that ask for what is
    read in the source, 4 of 5 a picture agree. The third picture's captions are another's: the reader, right on both
    exact ones, would be wrong on it."""
    y, x = np.mgrid[:64, :64] - 31.5
    images = np.broadcast_to(np.array([30, 60, 160]) / 127.5 - 1, [3, 64, 64, 3]).astype(np.float32)
    for image, name in zip(images, ("red", "red", "yellow"), strict=True):
        image[x**2 + y**2 < 400] = np.array(painter.COLOURS[name]) / 127.5 - 1
    captions = [("this flower has red petals",) * 4] * 3
    split = Split(["a", "b", "c"], tf.constant([""] * 3), [b""] * 3, [""] * 3, np.arange(3), captions, None)
    exact, asked = np.array([True, True, False]), colours.FLOWERS.colours
    found, values = measure_words(Painter(), images, split, "flowers", exact, 0, asked)
    np.testing.assert_allclose(values["colour_agreement"], [5 / 6] * 3)
    assert found["colour_agreement"] == pytest.approx(5 / 6) and found["colour_agreement_mean"] == 1.0
    assert found["colour_agreement_new"] == pytest.approx(4 / 5) and found["colour_agreement_new_mean"] == 1.0
    assert found["by_colour"] == {name: float(name != "orange") for name in READ}
    assert found["colour_chance"] < 0.6
    assert found["colour_reader"] == 1.0 and found["colour_agreement_relative"] == found["colour_agreement"]
    assert found["colour_reader_all"] == pytest.approx(2 / 3)
    assert found["reader"] == {
        "pictures": 2, "by_colour": {"red": [2, 2]}, "confused": {}, "left_out": 0, "pictures_all": 3
    }  # fmt: skip
    assert found["background_l1"] == pytest.approx(0.01, rel=1e-3)
    assert found["background_l1_mean"] == pytest.approx(0.01, rel=1e-3)


def test_captions_without_a_colour_have_no_own_colour():
    assert colours.own_colour(["this flower is smooth"] * 5, colours.FLOWERS) == ""
    assert colours.own_colour([], colours.FLOWERS) == ""


def test_commands_ask_for_words(path, tmp_path):
    """Drawn flowers whose records lost their masks are asked for words; the reader's own command reads them."""
    run_dir, raw, records, table = (tmp_path / name for name in ("run", "raw", "records", "pairing.csv"))
    shutil.copytree(path / "run", run_dir)
    shutil.copytree(path / "raw", raw)
    shutil.rmtree(raw / "masks")
    run("-m", "data.build", "--dataset=oxford102", f"--raw_dir={raw}", f"--out_dir={records}")
    pictures = sorted(file.name for file in (raw / "jpg").iterdir())
    table.write_text("image,pairing\n" + "".join(f"{name},exact\n" for name in pictures))
    places = [f"--records_dir={records}", f"--exact={table}"]
    done = run("-m", "simgan_tf.evaluation", f"--run_dir={run_dir}", *places)
    results = json.loads((run_dir / "results.json").read_text())
    assert results["words"] == "flowers" and len(results["by_colour"]) == 6
    for name in ("colour_agreement", "colour_agreement_new_mean", "background_l1", "reconstruction_l1", "sharpness"):
        assert np.isfinite(results[name]) and name in done.stdout
    assert "colour_accuracy" not in results
    assert "reader checked on" in done.stdout
    done = run("-m", "simgan_tf.evaluation.colours", *places, "--image_size=32", "--load_size=36")
    assert done.stdout.count("'accuracy'") == 4


def test_words_are_refused_where_the_records_know_better(path):
    places = f"--run_dir={path / 'run'}", f"--records_dir={path / 'records'}"
    assert "have masks and colours of their own" in refused("-m", "simgan_tf.evaluation", *places, "--words=flowers")
    assert "--exact=a.csv is for records" in refused("-m", "simgan_tf.evaluation", *places, "--exact=a.csv")
