"""Trains phi on a records folder and writes run_dir/text_encoder: python -m simgan_tf.text.train.
Knows no GAN; what it measures on the test split is reported and decides nothing."""

from simgan_tf import cli

if __name__ == "__main__":
    cli.start_tensorflow()  # before the imports below, so that its greeting stays off the screen

import dataclasses
import json
import os
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

from data import pipeline, records
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text import vse
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

CLIP_NORM = 2.0  # of all gradients together. Source: the code of Kiros et al.
PHI_SIZE = 3.0  # root mean square of phi's entries: at 3 the code's means of two colours part sooner than at 1
MEASURED_IMAGES, MEASURED_CAPTIONS = 1000, 5  # at most, for a recall. Source: the protocol of Kiros et al.


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pictures and their sentences in memory: what the training and the measuring take.

    pixels: [N, L, L, 3] uint8. tokens: [sum of captions, T] int32. first: [N + 1] int64; the captions of picture i
    are rows first[i] .. first[i + 1] - 1 of tokens.
    """

    pixels: np.ndarray
    tokens: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def train(
    encoder: TextEncoder,
    pairs: Pairs,
    held_out: Pairs,
    *,
    image_size: int,
    image_width: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    margin: float,
    word_dropout: float,
    validate_every: int,
    seed: int,
    log: Callable[[dict], None],
) -> keras.Model:
    """Trains `encoder` in place and returns the image tower; both end at the step with the best held-out recall.

    Differs: Adam at 5e-4 by default, where the SISGAN code has 2e-4 for 300 epochs, because the default here is about
    20 epochs. The best step counts, as with Kiros et al.; best is the sum of recall at 1, 5 and 10 in both
    directions, measured every `validate_every` steps.
    `log` gets a dict a measurement. Crops, flips, captions and order come from `seed`.

    Raises:
        ValueError: fewer pictures than `batch_size`; the loss is not finite (names the step).
    """
    if len(pairs) < batch_size:
        raise ValueError(f"batch_size={batch_size} is above the {len(pairs)} training pictures; lower --batch_size")
    tower = vse.image_tower(encoder.dim, image_width)
    tower.build((None, image_size, image_size, 3))
    weights = [*encoder.trainable_variables, *tower.trainable_variables]
    optimizer = keras.optimizers.Adam(learning_rate, epsilon=1e-8, global_clipnorm=CLIP_NORM)
    optimizer.build(weights)
    saved = [*encoder.variables, *map(vse.raw, tower.variables)]

    @tf.function(input_signature=[tf.TensorSpec((None, image_size, image_size, 3), tf.uint8),
                                  tf.TensorSpec((None, None), tf.int32)])  # fmt: skip
    def step_once(pixels, tokens):
        with tf.GradientTape() as tape:
            image_vectors = tower(to_image(pixels), training=True)
            loss = vse.ranking_loss(image_vectors, encoder.embed(tokens), margin)
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    random = np.random.default_rng(seed)
    best, best_score, losses = [], -1.0, []
    order = np.empty(0, np.int64)
    with tqdm(total=steps, desc="text encoder", unit="step", mininterval=1.0) as bar:
        for step in range(1, steps + 1):
            if len(order) < batch_size:
                order = random.permutation(len(pairs))  # the rest of an epoch that fills no batch is dropped
            rows, order = order[:batch_size], order[batch_size:]
            losses.append(step_once(*draw(pairs, rows, image_size, word_dropout, random)))
            bar.update()
            if step % validate_every and step != steps:
                continue
            values = tf.stack(losses).numpy()
            if not np.isfinite(values).all():
                bad = step - len(values) + 1 + int(np.argmax(~np.isfinite(values)))
                raise ValueError(f"the ranking loss is not finite at step {bad}; lower --learning_rate={learning_rate}")
            found = measure(encoder, tower, held_out, image_size)
            score = sum(found[way][f"recall_at_{r}"] for way in found for r in (1, 5, 10))
            log({"step": step, "loss": float(values.mean()), "validation": found})
            bar.set_postfix(loss=f"{values.mean():.3f}", r10=f"{found['text_to_image']['recall_at_10']:.3f}")
            losses = []
            if score > best_score:
                best_score, best = score, [np.copy(variable.numpy()) for variable in saved]
    for variable, value in zip(saved, best, strict=True):
        variable.assign(value)
    return tower


def to_image(pixels: tf.Tensor) -> tf.Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def draw(
    pairs: Pairs, rows: np.ndarray, image_size: int, word_dropout: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A batch: pixels [B, S, S, 3] uint8, cropped and flipped at random, and tokens [B, T'] int32 of one caption each.

    T' is the longest caption's length.
    Differs: a word becomes "<unk>" with probability `word_dropout`, because a word never seen in training would
    otherwise enter as the random vector that "<unk>" began with.
    """
    room = pairs.pixels.shape[1] - image_size
    pixels = np.empty((len(rows), image_size, image_size, 3), np.uint8)
    for i, row in enumerate(rows):
        top, left = random.integers(0, room + 1, 2)
        crop = pairs.pixels[row, top : top + image_size, left : left + image_size]
        pixels[i] = crop[:, ::-1] if random.random() < 0.5 else crop
    captions = random.integers(pairs.first[rows], pairs.first[rows + 1])
    tokens = pairs.tokens[captions]
    tokens = tokens[:, : max(int((tokens != tokens_lib.PAD).sum(axis=1).max()), 1)]
    dropped = (random.random(tokens.shape) < word_dropout) & (tokens != tokens_lib.PAD)
    return pixels, np.where(dropped, tokens_lib.UNKNOWN, tokens).astype(np.int32)


def measure(encoder: TextEncoder, tower: keras.Model, pairs: Pairs, image_size: int) -> dict:
    """`vse.retrieval` over the central crops and the first captions of each picture (as many as all have)."""
    captions = captions_each(pairs)
    margin = (pairs.pixels.shape[1] - image_size) // 2
    crops = pairs.pixels[:, margin : margin + image_size, margin : margin + image_size]
    images = [tower(to_image(crops[i : i + 64]), training=False).numpy() for i in range(0, len(crops), 64)]
    rows = (pairs.first[:-1, None] + np.arange(captions)[None, :]).reshape(-1)
    return vse.retrieval(np.concatenate(images), encoder.encode_tokens(pairs.tokens[rows]))


def captions_each(pairs: Pairs) -> int:
    """How many captions of every picture a measurement uses."""
    return min(MEASURED_CAPTIONS, int(np.diff(pairs.first).min()))


def held_out_mask(count: int) -> np.ndarray:
    """Mask [count] bool of the pictures kept for choosing the best step: every 20th, at most 500 (at least 1)."""
    stride = max(20, -(-count // 500))
    return np.arange(count) % stride == min(stride, count) - 1


def decode(split: pipeline.Split, load_size: int) -> np.ndarray:
    """Every picture of `split`, short side to `load_size`, central square: [N, L, L, 3] uint8.

    Differs: crops are drawn from this square, so that a picture is decoded once and not once an epoch; with 64 px
    crops of 76 px squares a run of 2,000 batches decodes 7,000 photographs, not 128,000.
    """
    pixels = np.empty((len(split.keys), load_size, load_size, 3), np.uint8)
    with tqdm(total=len(pixels), desc="decode", unit="picture", mininterval=1.0) as bar:
        for start in range(0, len(pixels), 256):
            part = split.take(np.arange(start, min(start + 256, len(pixels))))
            images = pipeline.evaluation_images(part, load_size, load_size)
            pixels[start : start + len(images)] = np.clip(np.rint((images + 1.0) * 127.5), 0, 255)
            bar.update(len(images))
    return pixels


def to_pairs(split: pipeline.Split, vocabulary: Vocabulary, length: int, load_size: int) -> Pairs:
    """Pictures and token rows of `split`."""
    texts = [caption for captions in split.captions for caption in captions]
    first = np.concatenate([[0], np.cumsum([len(captions) for captions in split.captions])])
    return Pairs(decode(split, load_size), vocabulary.batch(texts, length), first.astype(np.int64))


def define_flags() -> None:
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string("run_dir", None, "Folder of the run; gets text_encoder/ and text_metrics.jsonl.", required=True)
    flags.DEFINE_bool("overwrite", False, "Train again although run_dir/text_encoder is there.")
    flags.DEFINE_integer("dim", 300, "Numbers in a sentence vector.", lower_bound=1)
    flags.DEFINE_integer("word_dim", 300, "Numbers in a word vector.", lower_bound=1)
    flags.DEFINE_integer("length", 30, "Words kept of a sentence; the rest is cut.", lower_bound=1)
    flags.DEFINE_integer("min_count", 2, "A word enters the vocabulary if met this often.", lower_bound=1)
    flags.DEFINE_float(
        "phi_scale",
        0.0,
        "Factor on the GRU's last state: 1 = the raw state, 0 = the factor that brings "
        "the root mean square of its entries over the training captions to 3.",
        lower_bound=0,
    )
    flags.DEFINE_integer("steps", 2000, "Batches to train on.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Pairs in a batch; each is a negative to all others.", lower_bound=2)
    flags.DEFINE_integer("image_size", 64, "Pixels, side of the square crops the image tower sees.", lower_bound=16)
    flags.DEFINE_integer("load_size", 0, "Pixels, side the crops are drawn from; 0 = image_size * 76 / 64.",
                         lower_bound=0)  # fmt: skip
    flags.DEFINE_integer("image_width", 32, "Channels of the image tower's first convolution.", lower_bound=1)
    flags.DEFINE_float("margin", 0.2, "Margin of the ranking loss, in cosine units.", lower_bound=0.0)
    flags.DEFINE_float("learning_rate", 5e-4, "Of Adam.", lower_bound=0.0)
    flags.DEFINE_float("word_dropout", 0.05, "Chance that a training word becomes <unk>, which otherwise only rare "
                       "words would train.", lower_bound=0.0, upper_bound=1.0)  # fmt: skip
    flags.DEFINE_integer("validate_every", 100, "Steps between measurements on held-out pictures.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of weights, order, crops and captions.", lower_bound=0)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    directory = os.path.join(values.run_dir, "text_encoder")
    if os.path.isfile(os.path.join(directory, "encoder.json")) and not values.overwrite:
        encoder = TextEncoder.load(directory)
        print(f"{directory} is there already (dim {encoder.dim}, {len(encoder.vocabulary)} words); "
              "nothing to do. --overwrite trains it again.")  # fmt: skip
        return
    load_size = values.load_size or round(values.image_size * 76 / 64)
    if load_size < values.image_size:
        raise ValueError(f"load_size={load_size} must be at least image_size={values.image_size}")
    began = time.monotonic()
    keras.utils.set_random_seed(values.seed)
    info = records.read_info(values.records_dir)
    split = pipeline.load_split(values.records_dir, "train")
    if len(split.keys) < 2:
        raise ValueError(f"{values.records_dir} has {len(split.keys)} training pictures; at least 2 are needed")
    held_out = held_out_mask(len(split.keys))
    seen, unseen = split.take(np.flatnonzero(~held_out)), split.take(np.flatnonzero(held_out))
    captions = [caption for each in seen.captions for caption in each]
    vocabulary = Vocabulary.build(captions, values.min_count)
    lengths = np.array([len(tokens_lib.word_list(caption)) for caption in captions])
    print(f"{len(seen.keys)} pictures, {len(captions)} captions (mean {lengths.mean():.1f} words, "
          f"{np.mean(lengths > values.length):.1%} cut at {values.length}), {len(vocabulary)} ids in the vocabulary; "
          f"{len(unseen.keys)} pictures held out")  # fmt: skip

    encoder = TextEncoder(
        vocabulary, dim=values.dim, word_dim=values.word_dim, length=values.length, phi_scale=values.phi_scale or 1.0
    )
    pairs = to_pairs(seen, vocabulary, values.length, load_size)
    validation = to_pairs(unseen, vocabulary, values.length, load_size)
    os.makedirs(values.run_dir, exist_ok=True)
    log_path = os.path.join(values.run_dir, "text_metrics.jsonl")
    with open(log_path, "w", encoding="utf-8") as log_file:

        def log(row: dict) -> None:
            log_file.write(json.dumps(row) + "\n")
            log_file.flush()

        tower = train(
            encoder,
            pairs,
            validation,
            image_size=values.image_size,
            image_width=values.image_width,
            steps=values.steps,
            batch_size=values.batch_size,
            learning_rate=values.learning_rate,
            margin=values.margin,
            word_dropout=values.word_dropout,
            validate_every=values.validate_every,
            seed=values.seed,
            log=log,
        )
        found = {"validation": report("held-out pictures of train", encoder, tower, validation, values.image_size)}
        if info["splits"].get("test", {}).get("images", 0):
            test = pipeline.load_split(values.records_dir, "test")
            rows = np.unique(np.linspace(0, len(test.keys) - 1, MEASURED_IMAGES).astype(int))
            test_pairs = to_pairs(test.take(rows), vocabulary, values.length, load_size)
            found["test"] = report("test split", encoder, tower, test_pairs, values.image_size)
        log({"final": found})

    names = ("steps", "batch_size", "image_size", "image_width", "margin", "learning_rate", "word_dropout", "min_count",
             "seed")  # fmt: skip
    if not values.phi_scale:
        # Differs: A25 takes the raw state. The ranking loss sees directions only, so a GRU trained for minutes keeps
        # states of a few hundredths, which drown in the conditioning augmentation's unit noise.
        size = np.sqrt(np.mean(encoder.encode(captions[:: max(1, len(captions) // 5000)]) ** 2))
        encoder.phi_scale = PHI_SIZE / float(size)
    encoder.training = {
        "dataset": info["dataset"],
        "fingerprint": info["fingerprint"],
        **{name: getattr(values, name) for name in names},
        "load_size": load_size,
        "pictures": len(seen.keys),
        "captions": len(captions),
        **found,
    }
    encoder.save(directory)
    print(f"wrote {directory} after {time.monotonic() - began:.0f} s")


def report(title: str, encoder: TextEncoder, tower: keras.Model, pairs: Pairs, image_size: int) -> dict:
    """Measures `pairs` and prints the numbers beside those of a random order; returns the measured ones."""
    found = measure(encoder, tower, pairs, image_size)
    random = vse.chance(len(pairs), captions_each(pairs))
    print(f"{title}: {len(pairs)} pictures, {captions_each(pairs)} sentences each")
    for way, row in found.items():
        cells = [f"R@{r} {row[f'recall_at_{r}']:6.1%} (chance {random[way][f'recall_at_{r}']:.1%})" for r in (1, 5, 10)]
        print(f"  {way:14s} {'  '.join(cells)}  median rank {row['median_rank']:g} "
              f"(chance {random[way]['median_rank']:g})")  # fmt: skip
    return found


if __name__ == "__main__":
    cli.run(main, define_flags)
