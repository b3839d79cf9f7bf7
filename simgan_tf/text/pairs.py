"""Pictures with their sentences in memory, and the batches drawn from them to train phi."""

import dataclasses

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from data import pipeline, splits
from simgan_tf.system.pictures import to_pixels
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.tokens import Vocabulary


@dataclasses.dataclass(frozen=True)
class Pairs:
    """What the training and the measuring take.

    images: [N, L, L, 3] uint8, out of which crops are cut, or [N, F] float32, features that are taken as they are.
    tokens: [sum of captions, T] int32. first: [N + 1] int64; the captions of picture i are rows
    first[i] .. first[i + 1] - 1 of tokens.
    """

    images: np.ndarray
    tokens: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def to_pairs(images: np.ndarray, captions: list[tuple[str, ...]], vocabulary: Vocabulary, length: int) -> Pairs:
    """images as in `Pairs`; captions: those of each picture; length: T."""
    texts = [caption for each in captions for caption in each]
    first = np.concatenate([[0], np.cumsum([len(each) for each in captions])])
    return Pairs(images, vocabulary.batch(texts, length), first.astype(np.int64))


def decode(split: splits.Split, load_size: int) -> np.ndarray:
    """Every picture of `split`, short side to `load_size`, central square: [N, L, L, 3] uint8.

    Differs: crops are drawn from this square, so that a picture is decoded once and not once an epoch; with 64 px
    crops of 76 px squares a run of 2,000 batches decodes 7,000 photographs, not 128,000.
    """
    images = pipeline.decoded_images(split, load_size, load_size)  # whose float32 numbers would fill the memory
    pixels = np.empty(images.shape, np.uint8)
    for start in tqdm(range(0, len(split), 256), desc="decode", unit="256 pictures", mininterval=1.0):
        pixels[start : start + 256] = to_pixels(images[start : start + 256])
    return pixels


def draw(
    pairs: Pairs, rows: np.ndarray, image_size: int, word_dropout: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A batch: images [B, S, S, 3] uint8, cropped and flipped at random (or features [B, F]), and tokens [B, T'] int32
    of one caption each.

    T' is the longest caption's length.
    Differs: a word becomes "<unk>" with probability `word_dropout`, because a word never seen in training would
    otherwise enter as the random vector that "<unk>" began with.
    """
    images = _crops(pairs.images, rows, image_size, random) if pairs.images.ndim == 4 else pairs.images[rows]
    captions = random.integers(pairs.first[rows], pairs.first[rows + 1])
    tokens = pairs.tokens[captions]
    tokens = tokens[:, : max(int((tokens != tokens_lib.PAD).sum(axis=1).max()), 1)]
    dropped = (random.random(tokens.shape) < word_dropout) & (tokens != tokens_lib.PAD)
    return images, np.where(dropped, tokens_lib.UNKNOWN, tokens).astype(np.int32)


def central(pairs: Pairs, image_size: int) -> np.ndarray:
    """The central crops [N, S, S, 3] uint8, or the features [N, F]."""
    if pairs.images.ndim != 4:
        return pairs.images
    margin = (pairs.images.shape[1] - image_size) // 2
    return pairs.images[:, margin : margin + image_size, margin : margin + image_size]


def to_network(images: tf.Tensor) -> tf.Tensor:
    """Pixels uint8 -> float32 in [-1, 1]; features as they are."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0 if images.dtype == tf.uint8 else images


def held_out_mask(count: int) -> np.ndarray:
    """Mask [count] bool of the pictures kept for choosing the best step: every 20th, at most 500 (at least 1)."""
    stride = max(20, -(-count // 500))
    return np.arange(count) % stride == min(stride, count) - 1


def _crops(images: np.ndarray, rows: np.ndarray, image_size: int, random: np.random.Generator) -> np.ndarray:
    room = images.shape[1] - image_size
    pixels = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    for i, row in enumerate(rows):
        top, left = random.integers(0, room + 1, 2)
        crop = images[row, top : top + image_size, left : left + image_size]
        pixels[i] = crop[:, ::-1] if random.random() < 0.5 else crop
    return pixels
