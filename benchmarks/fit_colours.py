"""Fits the table by which the colour reader gives pixels to words, prints it, and checks it on both splits.

python -m benchmarks.fit_colours --records_dir=runs/birds/records [--exact=FILE.csv]

The table is fitted on the training split; what it prints stands in simgan_tf/evaluation/colours.py. --exact as there.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from absl import flags
from scipy import optimize, special

from simgan_tf.evaluation import colours
from simgan_tf.system import commands


def pixels_of(parts: Iterable[tuple[np.ndarray, np.ndarray]], count: int = 128) -> np.ndarray:
    """`count` pixels of each picture's inside at even steps of their weight in reading order, [N, count, 10].

    parts: of `colours.Pictures`.
    """
    picked = []
    for images, masks in parts:
        for lab, weight in colours.inside(images, masks):
            sums = np.cumsum(weight)
            picked.append(lab[np.searchsorted(sums, (np.arange(count) + 0.5) / count * sums[-1])])
    return colours.terms(np.array(picked, np.float32))


def fit(pixels: np.ndarray, labels: np.ndarray, wrong: np.ndarray, words: int) -> np.ndarray:
    """The table of colours.Words, [words + 1, 10]. pixels: of `pixels_of`. labels: [N] int. wrong: [N] chance of error.

    Maximum likelihood by L-BFGS, 80 steps from 0.01 x normal noise: a picture's probability of word w is s_w^3 / sum
    s^3, where s are the words' mean shares of its pixels, mixed with an even guess by its chance of a wrong label.
    Words weigh by the square root of their pictures, sure labels twice; numbers but the constants cost 0.001 x their
    square.
    """
    count, points = pixels.shape[:2]
    rows, sharp = np.arange(count), 3.0
    weight = np.where(wrong < 0.2, 2.0, 1.0) / np.sqrt(np.bincount(labels)[labels])
    weight /= weight.sum()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = flat.reshape(words + 1, 10)
        probability = special.softmax(pixels @ table.T.astype(np.float32), axis=-1)  # [N, P, words + 1]
        shares = probability[..., :words].mean(axis=1) + 1e-4
        chance = shares**sharp / (shares**sharp).sum(axis=1, keepdims=True)
        right = chance[rows, labels]
        mixed = (1 - wrong) * right + wrong / words
        pull = weight * (1 - wrong) * right / mixed  # minus d loss / d log(right)
        to_shares = chance * pull[:, None]
        to_shares[rows, labels] -= pull
        to_probability = np.zeros_like(probability)
        to_probability[..., :words] = (to_shares * sharp / shares / points)[:, None]
        to_scores = probability * (to_probability - (probability * to_probability).sum(axis=-1, keepdims=True))
        gradient = to_scores.reshape(-1, words + 1).T @ pixels.reshape(-1, 10)
        cost = 1e-3 * table * (np.arange(10) > 0)
        value = -(weight * np.log(mixed)).sum() + (cost * table).sum()
        return float(value), (gradient + 2 * cost).ravel().astype(float)

    start = np.random.default_rng(0).normal(scale=0.01, size=(words + 1) * 10)
    done = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 80})
    return done.x.reshape(words + 1, 10)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    commands.start_tensorflow()
    words = colours.WORDS[colours.words_of(values.records_dir, values.words)]
    for name in ("train", "test"):
        pictures = colours.known_pictures(
            values.records_dir, name, words, values.exact, values.image_size, values.load_size
        )
        if name == "train":
            labels = np.array([words.colours.index(colour) for colour in pictures.own])
            # Captions of another picture of the class are right about the colour three times in four, a guess of those
            # who paired the copy of Oxford-102 that the table was fitted on.
            wrong = np.where(pictures.exact, 0.1 if pictures.exact.all() else 0.02, 0.25)
            table = fit(pixels_of(pictures.parts()), labels, wrong, len(words.colours)).round(2)
            words = dataclasses.replace(words, table=tuple(map(tuple, table.tolist())))
            print("table=(\n" + "".join(f"    {row},\n" for row in words.table) + ")")
        colours.print_check(pictures, words, name)


if __name__ == "__main__":
    commands.run(main, colours.define_flags)
