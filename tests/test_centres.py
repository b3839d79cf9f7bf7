"""The reader of drawn flowers' centres, on sentences and pictures of the demo; and the numbers made of it."""


import numpy as np
import pytest
import tensorflow as tf

from data import demo, painter
from data.pipeline import evaluation_images
from data.splits import Split
from simgan_tf.evaluation import centres
from simgan_tf.evaluation.measure import measure
from simgan_tf.evaluation.protocol import Pairs
from tests.test_evaluation import Painter
from tests.test_pipeline import png


def test_the_centre_a_sentence_asks_for():
    """Of every template: the centre where it names one, nothing where not."""
    for template in demo.TEMPLATES:
        for petals, centre in (("red", "yellow"), ("yellow", "white"), ("white", "orange"), ("orange", "green")):
            text = template.format(petal=petals, centre=centre, number="six", shape="round", part="stamen")
            assert centres.asked(text, petals) == (centre if "{centre}" in template else ""), text


def test_the_own_centre_is_that_of_most_captions():
    captions = ["a red flower", "red petals with a brown center", "red petals, a brown pistil", "red, with white tips"]
    assert centres.own(captions, "red") == "brown"
    assert centres.own(captions[:1], "red") == ""


@pytest.fixture(scope="module")
def drawn():
    """Twelve flowers of test classes as a split."""
    kinds, numbers = demo.flowers(), demo.split()[1][:12]
    pictures = [painter.draw(kinds[number - 1], 100 + number) for number in numbers]

    flowers = [kinds[number - 1] for number in numbers]
    split = Split(
        keys=[str(number) for number in numbers],
        images=tf.constant([png(pixels) for pixels, _ in pictures]),
        masks=[png(mask.astype(np.uint8) * 255) for _, mask in pictures],
        colours=[flower.colour for flower in flowers],
        class_ids=np.array(numbers, np.int32),
        captions=[tuple(demo.captions(flower, i + 1)) for i, flower in enumerate(flowers)],
        embeddings=None,
    )
    return split, [flower.centre for flower in flowers]


@pytest.mark.parametrize("size, load_size", [(64, 76), (128, 136)])
def test_it_reads_drawn_flowers(drawn, size, load_size):
    split, expected = drawn
    where = centres.Centres(split, size, load_size)[:]
    assert where.shape == (12, size, size) and where.any(axis=(1, 2)).all() and where.mean() < 0.02
    assert centres.read(evaluation_images(split, size, load_size), where) == expected
    assert [centres.own(texts, petals) for texts, petals in zip(split.captions, split.colours, strict=True)] == expected


class YellowCentres(Painter):
    """Paints the petals as asked, and every centre yellow."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def encode(self, texts):
        self.asked = self.asked or list(texts)
        return super().encode(texts)

    def edit(self, image, embedding, noise):
        edited = super().edit(image, embedding, noise).numpy()
        edited[:, 1, 0] = np.array(painter.CENTRES["yellow"]) / 127.5 - 1
        return tf.constant(edited, tf.float32)


def test_centre_numbers_by_hand():
    """Right where a sentence asks for a yellow centre; sentences that ask for none are not counted; one source in four
    has the white centre that is the only other one asked for."""
    names, eager = ["red", "purple", "blue", "pink"], tf.config.functions_run_eagerly()
    images, masks, where = np.zeros([4, 4, 4, 3], np.float32), np.zeros([4, 4, 4], bool), np.zeros([4, 4, 4], bool)
    own = ["yellow", "white", "yellow", "yellow"]
    for image, name, centre in zip(images, names, own, strict=True):
        image[:, :2] = np.array(painter.COLOURS[name]) / 127.5 - 1
        image[1, 0] = np.array(painter.CENTRES[centre]) / 127.5 - 1
    masks[:, :, :2], where[:, 1, 0] = True, True
    captions = [(f"{name} petals with a {centre} center",) for name, centre in zip(names[:3], own, strict=False)]
    captions.append(("a pink flower",))
    split = Split(names, tf.constant([""] * 4), [b"x"] * 4, names, np.arange(4), captions, None)
    others = [1, 2, 3, 0]  # white, yellow, none, yellow
    pairs = Pairs(split, [captions[i][0] for i in others], np.array(names)[others])
    method = YellowCentres()
    tf.config.run_functions_eagerly(True)
    try:
        found, _ = measure(method, images, masks, pairs, samples=2, seed=0, centres=where)
    finally:
        tf.config.run_functions_eagerly(eager)
    named = [text for text in method.asked if "center" in text]
    assert len(method.asked) == 4 and len(named) == found["centre_pairs"] == 3
    assert found["centre_accuracy"] == found["centre_accuracy_mean"] == pytest.approx(2 / 3)
    before = [centre in text for centre, text in zip(own, method.asked, strict=True) if "center" in text]
    assert found["centre_before"] == pytest.approx(np.mean(before))
    assert found["centre_reader"] == 1.0
