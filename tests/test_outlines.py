"""The outline networks: their files, what they find on flowers outlined by hand or drawn, and how they learn."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from benchmarks import fit_outlines
from data import demo, painter
from simgan_tf.evaluation import objects, outlines
from tests.tiny import ROOT

BY_HAND = ROOT / "tests" / "data" / "flowers40.json"  # key -> polygons, in hundredths of the picture's side
WHOLE = ROOT.parent / "realdata" / "whole" / "oxford102" / "jpg"


def test_flowers_on_white_are_found_by_the_network_that_edits_them():
    """Drawn flowers cut out and laid on white, where `flowers` takes white for petals: at most a twentieth beside."""
    drawn = [painter.draw(flower, i + 1, 128) for i, flower in enumerate(demo.flowers()[::7])]
    truth = np.stack([mask for _, mask in drawn]) > 0
    white = objects.on_white(np.stack([pixels for pixels, _ in drawn]) / np.float32(127.5) - 1, truth)
    beside = {}
    for name in ("flowers", "flowers2"):
        found = outlines.inside(outlines.fixed(name), tf.constant(white, tf.float32), 128).numpy() > 0.5
        beside[name] = (found & ~truth).mean()
    assert beside["flowers2"] < 0.05 < beside["flowers"], beside


@pytest.mark.parametrize("name", outlines.NETWORKS)
def test_shipped_weights_are_small(name):
    assert os.path.getsize(os.path.join(outlines.WEIGHTS, f"{name}.npz")) < 1_000_000


@pytest.mark.parametrize("kind", outlines.KINDS)
def test_every_size_is_answered_alike(kind):
    """The answer for a picture of 64 is that for its 128, up to the resizing."""
    flower = painter.draw(demo.flowers()[3], 3, 128)[0][None] / np.float32(127.5) - 1
    finder = outlines.Outliner(kind)
    large = finder.probabilities(flower)
    assert large.shape == (1, 128, 128) and 0 <= large.min() and large.max() <= 1
    small = finder.probabilities(tf.image.resize(flower, [64, 64], antialias=True).numpy())
    assert np.abs(small - large.reshape(1, 64, 2, 64, 2).mean(axis=(2, 4))).mean() < 0.1


def test_drawn_flowers_are_found():
    """Never learned from; their true masks are known. Better than a disc of 0.38 of the side in the middle."""
    drawn = [painter.draw(flower, i + 1, 128) for i, flower in enumerate(demo.flowers()[::7])]
    images = np.stack([pixels for pixels, _ in drawn]) / np.float32(127.5) - 1
    truth = np.stack([mask for _, mask in drawn]) > 0
    found = objects.overlap(outlines.Outliner("flowers").masks(images), truth)
    y, x = np.mgrid[:128, :128] - 63.5
    disc = np.broadcast_to(x**2 + y**2 < (0.38 * 128) ** 2, truth.shape)
    assert np.median(found) > np.median(objects.overlap(disc, truth)), found


@pytest.mark.slow
def test_flowers_outlined_by_hand():
    """40 pictures at even distances through the test split, their largest central square of 256 of 304 pixels."""
    if not WHOLE.is_dir():
        pytest.skip(f"the photographs of Oxford-102 are not at {WHOLE}")
    polygons, images, truth = json.loads(BY_HAND.read_text()), [], []
    for key, shapes in polygons.items():
        with Image.open(WHOLE / f"{key}.jpg") as file:
            side = min(file.size)
            seen = side * 256 / 304
            left, top = (file.width - seen) / 2, (file.height - seen) / 2
            box = (left, top, left + seen, top + seen)
            square = file.convert("RGB").resize((128, 128), Image.Resampling.BILINEAR, box)
        images.append(np.asarray(square, np.float32) / 127.5 - 1)
        mask = Image.new("L", (512, 512))
        for shape in shapes:
            ImageDraw.Draw(mask).polygon([(x * 5.12, y * 5.12) for x, y in shape], fill=255)
        truth.append(np.asarray(mask.resize((128, 128), Image.Resampling.BOX)) > 127)
    found = objects.overlap(outlines.Outliner("flowers").masks(np.array(images)), np.array(truth))
    print(f"overlap {found.mean():.3f} in the mean, {np.median(found):.3f} in the median, worst {np.sort(found)[:4]}")
    assert len(found) == 40 and found.mean() > 0.75


def test_save_and_load(tmp_path):
    """Kernels come back within half a 127th of their channel's largest, all else as it was; another file is refused."""
    network = outlines.build()
    path = str(tmp_path / "a.npz")
    outlines.save(network, path)
    for here, there in zip(outlines.load(path).variables, network.variables, strict=True):
        value, found = there.numpy(), here.numpy()
        if value.ndim == 4:
            step = np.abs(value).max(axis=(0, 1, 2)) / 127
            assert (np.abs(found - value) <= 0.501 * step).all() and not np.array_equal(found, value)
        else:
            np.testing.assert_array_equal(found, value)
    np.savez(path, v000=np.zeros([3, 3, 3, 8], np.float16))
    with pytest.raises(ValueError, match=r"a\.npz holds other weights than UNet's 0th, \(3, 3, 3, 16\)"):
        outlines.load(path)
    with pytest.raises(ValueError, match="kind='trees' must be one of birds, flowers"):
        outlines.Outliner("trees")


def test_inside_is_the_networks_probability_at_the_pictures_size():
    """A network that says log 3 in the left half and -log 3 in the right: 3/4 and 1/4, at any side."""

    def network(images):
        return tf.where(tf.range(128)[None, None] < 64, 1.0, -1.0) * np.log(3) * tf.ones([len(images), 128, 1])

    for side in (64, 128):
        found = outlines.inside(network, tf.zeros([2, side, side, 3]), side).numpy()
        assert found.shape == (2, side, side)
        np.testing.assert_allclose(found[:, :, : side // 2 - 1], 0.75, atol=1e-5)
        np.testing.assert_allclose(found[:, :, side // 2 + 1 :], 0.25, atol=1e-5)


def test_a_longer_picture_is_found_as_a_whole():
    """100 pixels more, which the network's four halvings do not divide: those of the mirrored rest are cut off again.

    The constants of `fixed` say what the network says; a graph that knows no sides says the same.
    """
    network, fixed = outlines.load("birds"), outlines.fixed("birds")
    image = tf.nn.avg_pool2d(tf.random.stateless_uniform([1, 128, 228, 3], [0, 0], -1, 1), 9, 1, "SAME")
    padded = np.pad(image, [(0, 0), (0, 0), (0, 12), (0, 0)], mode="reflect")
    wanted = tf.sigmoid(network(padded)).numpy()[:, :, :228]
    np.testing.assert_allclose(outlines.inside(fixed, image, 128), wanted, atol=1e-5)
    turned = outlines.inside(fixed, tf.transpose(image, [0, 2, 1, 3]), 128)
    assert turned.shape == (1, 228, 128) and not fixed.kept
    graph = tf.function(lambda x: outlines.inside(fixed, x, 128), input_signature=[tf.TensorSpec([None] * 3 + [3])])
    np.testing.assert_allclose(graph(image), wanted, atol=1e-5)
    halves = tf.nn.avg_pool2d(image, 2, 2, "VALID")  # of a model of 64
    assert outlines.inside(fixed, halves, 64).shape == (1, 64, 114)


def test_square_around_a_box():
    """Box (40, 20, 60, 30) of a picture of 200 x 100: centre (50, 25), 2 x 20 = 40 pixels would begin at y = 5; five
    times the box, 100, is all of the height and is pushed to the left edge. 99 times is cut to 100 as well."""
    picture = fit_outlines.Picture(np.zeros([100, 200, 3], np.uint8), "a", box=(40, 20, 60, 30))
    assert fit_outlines.square(picture, 2.0) == (30, 5, 70, 45)
    assert fit_outlines.square(picture, 5.0) == (0, 0, 100, 100) == fit_outlines.square(picture, 99.0)
    plain = fit_outlines.Picture(np.zeros([100, 100, 3], np.uint8), "a")
    assert fit_outlines.square(plain, 0.6) == (20, 20, 80, 80)
    random = np.random.default_rng(0)
    for _ in range(50):
        left, top, right, bottom = fit_outlines.square(picture, 2.0, random)
        assert left <= 40 and right >= 60 and top <= 20 and bottom >= 30 and right - left == pytest.approx(40)


def test_an_example_on_a_plain_ground_keeps_the_object_alone():
    """Where the outline is 1 the picture stays; where it is 0 all is of one colour but for light and grain, which leave
    it within 20 % and a grain of 12 of its mean."""
    image = np.random.default_rng(0).uniform(0, 255, [32, 32, 3])
    outline = np.zeros([32, 32])
    outline[8:24, 8:24], outline[16, 8] = 1, 0.5
    for seed in range(20):
        laid, edge = fit_outlines.on_plain(image, outline, np.random.default_rng(seed))
        np.testing.assert_array_equal(edge, outline)
        np.testing.assert_allclose(laid[outline == 1], image[outline == 1], atol=1e-9)
        ground = laid[outline == 0]
        assert (np.abs(ground - ground.mean(0)) <= 0.2 * ground.mean(0) + 12).all()
        assert 0 <= ground.min() and ground.max() <= 255


def test_an_example_shows_outline_and_box_where_the_object_is(monkeypatch):
    """A white square on black, its outline and its box: all three coincide in every example, mirrored or not."""
    monkeypatch.setattr(fit_outlines, "PLAIN", 0.0)
    pixels = np.zeros([100, 160, 3], np.uint8)
    pixels[30:70, 90:130] = 255
    picture = fit_outlines.Picture(pixels, "a", pixels[..., 0].copy(), True, (90, 30, 130, 70))
    for seed in range(20):
        image, outline, box, known = fit_outlines.example(picture, np.random.default_rng(seed))
        bright = image.mean(axis=-1) > (image.max() + image.min()) / 2
        assert known == 1.0
        assert objects.overlap(bright[None], outline[None] > 0.5)[0] > 0.85
        assert objects.overlap(box[None] > 0.5, outline[None] > 0.5)[0] > 0.85


def test_loss_is_least_at_the_truth_and_a_box_asks_for_its_shadows():
    """Known: a right outline costs nearly nothing, its opposite much. Box alone: a cross that spans the box casts its
    whole shadow on both sides and costs nearly nothing; half the box as high, half a shadow: 0.5 x (1 - 2 x 8 / 24) =
    1/6; a pixel outside costs more."""
    outline = np.zeros([1, 32, 32], np.float32)
    outline[0, 8:24, 8:24] = 1

    def loss(found, known):
        logits = tf.constant(np.where(found > 0, 20.0, -20.0), tf.float32)
        truth = tf.constant(outline)
        return float(fit_outlines.loss_of(logits, truth * known, truth, tf.constant([float(known)])))

    assert loss(outline, 1) < 1e-3 and loss(1 - outline, 1) > 5
    cross = np.zeros_like(outline)
    cross[0, 16, 8:24] = cross[0, 8:24, 16] = 1
    assert loss(cross, 0) < 1e-3
    half = cross.copy()
    half[0, 16:24] = 0
    half[0, 15, 8:24] = 1
    assert loss(half, 0) == pytest.approx(1 / 6, abs=0.02)
    beyond = cross.copy()
    beyond[0, 0, 0] = 1
    assert loss(beyond, 0) > 0.03


@pytest.mark.slow
def test_two_rounds_learn_bright_squares_from_boxes_and_a_few_outlines():
    """24 pictures of a bright square on a dark noisy ground, 6 with outlines, the others with boxes alone."""
    random, pictures = np.random.default_rng(0), []
    for i in range(24):
        pixels = random.integers(0, 70, [100, 140, 3]).astype(np.uint8)
        left, top, side = random.integers(10, 70), random.integers(10, 50), random.integers(25, 40)
        pixels[top : top + side, left : left + side] += 130
        outline = np.zeros([100, 140], np.uint8)
        outline[top : top + side, left : left + side] = 255
        drawn = i % 4 == 0
        box = (left, top, left + side, top + side)
        pictures.append(fit_outlines.Picture(pixels, "a", outline if drawn else None, drawn, box))
    network = fit_outlines.fit(pictures, 60)
    again = fit_outlines.relabelled(pictures, network)
    assert sum(p.drawn for p in again) == 6 and all(p.outline is not None for p in again)
    network = fit_outlines.fit(again, 30, network)
    found = fit_outlines.errors(network, [p for p in pictures if p.drawn], 2.0)
    assert np.mean(found["a"]) > 0.8


def test_what_is_found_in_a_square_is_laid_down_there_and_inside_the_box_alone():
    """Everything found, in a box of 20 x 10 (40 to 60, 20 to 30): 200 pixels, wherever the square's edges fall."""
    picture = fit_outlines.Picture(np.zeros([100, 200, 3], np.uint8), "a", box=(40, 20, 60, 30))
    for part in ((36.4, 11.6, 63.4, 38.6), (36.5, 11.5, 63.5, 38.5), (30.0, 5.0, 70.0, 45.0)):
        outline = fit_outlines._laid_down(picture, part, np.ones([128, 128], np.float32))
        assert outline.shape == (100, 200) and outline[20:30, 40:60].min() == 255
        assert (outline > 0).sum() == 200
