"""The training of phi: from a records folder to run_dir/text_encoder, and what the encoder is worth.
What it measures on the test split is reported and decides nothing."""

import json
import os
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

from data import pipeline, records, splits
from simgan_tf import keras2
from simgan_tf.system import files
from simgan_tf.text import features, notes, vectors, vse
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.pairs import Pairs, central, decode, draw, held_out_mask, to_network, to_pairs
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

CLIP_NORM = 2.0  # of all gradients together. Source: the code of Kiros et al.
PHI_SIZE = 3.0  # root mean square of phi's entries: with 3, the conditioning codes of two colours part sooner
MEASURED_CAPTIONS = 5  # of a picture, for a recall; and 1,000 pictures. Source: the protocol of Kiros et al.
DEFAULT_WORD_DIM = 300  # Source: Kiros et al. and SISGAN
TRAIN_FLAGS = ("image_width", "steps", "learning_rate", "margin", "word_dropout", "validate_every", "seed",
               "reduction", "image_side", "hardest")  # fmt: skip


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
    reduction: str = "mean",
    image_side: str = "normalised",
    hardest: bool = False,
) -> keras.Model:
    """Trains `encoder` in place and returns the image tower; both end at the step with the best held-out recall.

    The tower is `vse.image_tower` for pictures and `features.projection` for features.
    Differs: Adam at 5e-4 by default, where the SISGAN code has 2e-4 for 300 epochs, because the default here is about
    20 epochs. The best step counts, as with Kiros et al.; best is the sum of recall at 1, 5 and 10 in both
    directions, measured every `validate_every` steps.
    `log` is called with a dict for each measurement. Crops, flips, captions and order come from `seed`.

    Raises:
        ValueError: fewer pictures than `batch_size`; the loss is not finite (names the step).
    """
    if len(pairs) < batch_size:
        raise ValueError(f"batch_size={batch_size} is above the {len(pairs)} training pictures; lower --batch_size")
    of_pixels = pairs.images.ndim == 4
    tower = vse.image_tower(encoder.dim, image_width) if of_pixels else features.projection(encoder.dim)
    shape = (None, image_size, image_size, 3) if of_pixels else (None, pairs.images.shape[1])
    tower.build(shape)
    weights = [*encoder.trainable_variables, *tower.trainable_variables]
    optimizer = keras.optimizers.Adam(learning_rate, epsilon=1e-8, global_clipnorm=CLIP_NORM)
    optimizer.build(weights)
    saved = [*encoder.variables, *keras2.weights_of(tower)]

    @tf.function(input_signature=[tf.TensorSpec(shape, pairs.images.dtype), tf.TensorSpec((None, None), tf.int32)])
    def step_once(images, tokens):
        with tf.GradientTape() as tape:
            loss = vse.ranking_loss(
                tower(to_network(images), training=True),
                encoder.embed(tokens),
                margin,
                reduction=reduction,
                image_side=image_side,
                hardest=hardest,
            )
        keras2.apply(optimizer, tape.gradient(loss, weights), weights)
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
            results = measure(encoder, tower, held_out, image_size)
            score = vse.recall_sum(results)
            log({"step": step, "loss": float(values.mean()), "rsum": score, "validation": results})
            bar.set_postfix(loss=f"{values.mean():.3f}", r10=f"{results['text_to_image']['recall_at_10']:.3f}")
            losses = []
            if score > best_score:
                best_score, best = score, [np.copy(variable.numpy()) for variable in saved]
    for variable, value in zip(saved, best, strict=True):
        variable.assign(value)
    return tower


def measure(encoder: TextEncoder, tower: keras.Model, pairs: Pairs, image_size: int) -> dict:
    """`vse.retrieval` over the central crops and the first captions of each picture (as many as all have)."""
    captions = captions_each(pairs)
    images = central(pairs, image_size)
    image_vectors = [tower(to_network(images[i : i + 64]), training=False).numpy() for i in range(0, len(images), 64)]
    rows = (pairs.first[:-1, None] + np.arange(captions)[None, :]).reshape(-1)
    return vse.retrieval(np.concatenate(image_vectors), encoder.encode_tokens(pairs.tokens[rows]))


def unknown_share(captions: Sequence[str], vocabulary: Vocabulary) -> float:
    """The share, 0 to 1, of all words of `captions` that have no id of their own."""
    ids = [i for caption in captions for i in vocabulary.ids(caption)]
    return ids.count(tokens_lib.UNKNOWN) / max(len(ids), 1)


def captions_each(pairs: Pairs) -> int:
    """How many captions of every picture a measurement uses."""
    return min(MEASURED_CAPTIONS, int(np.diff(pairs.first).min()))


def run(values: flags.FlagValues) -> None:
    """Trains by the flags of simgan_tf.text.train, writes run_dir/text_encoder and prints what it is worth.

    Raises: ValueError or OSError, one line each; run_dir/text_encoder is then as it was.
    """
    began, directory = time.monotonic(), os.path.join(values.run_dir, "text_encoder")
    keras.utils.set_random_seed(values.seed)
    info = records.read_info(values.records_dir)
    pictures_of, picture_facts = _picture_source(values)
    split = splits.load_split(values.records_dir, values.split)
    if len(split.keys) < 3:
        raise ValueError(
            f"{values.records_dir} has {len(split.keys)} {values.split} pictures; at least 3 are needed: 2 that are "
            "told apart, and one that is held out"
        )
    held_out = held_out_mask(len(split.keys))
    seen, unseen = split.take(np.flatnonzero(~held_out)), split.take(np.flatnonzero(held_out))
    captions = [caption for each in seen.captions for caption in each]
    vocabulary = Vocabulary.build(captions, values.min_count)
    lengths = np.array([len(tokens_lib.word_list(caption)) for caption in captions])
    print(f"{len(seen.keys)} pictures, {len(captions)} captions (mean {lengths.mean():.1f} words, "
          f"{np.mean(lengths > values.length):.1%} cut at {values.length}), {len(vocabulary)} ids in the vocabulary; "
          f"{len(unseen.keys)} pictures held out")  # fmt: skip
    held_out_captions = [caption for each in unseen.captions for caption in each]
    print(f"words that phi does not know: {unknown_share(captions, vocabulary):.1%} of those it trains on (met fewer "
          f"than --min_count={values.min_count} times), {unknown_share(held_out_captions, vocabulary):.1%} of the held "
          "out ones")  # fmt: skip
    batch_size = min(values.batch_size, len(seen.keys))
    if batch_size < values.batch_size:
        print(f"--batch_size={values.batch_size} is above the {batch_size} pictures to train on: {batch_size} is taken")

    encoder, word_facts = _new_encoder(values, vocabulary)
    image_size = values.image_size

    def pairs_of(part: splits.Split) -> Pairs:
        return to_pairs(pictures_of(part), part.captions, vocabulary, values.length)

    pairs, validation = pairs_of(seen), pairs_of(unseen)
    os.makedirs(values.run_dir, exist_ok=True)  # what cannot be made is told before the training
    rows: list[dict] = []
    tower = train(
        encoder,
        pairs,
        validation,
        image_size=image_size,
        batch_size=batch_size,
        log=rows.append,
        **{name: getattr(values, name) for name in TRAIN_FLAGS},
    )
    best_step = max(rows, key=lambda row: row["rsum"])["step"]  # the first of equals, as in `train`
    results = {"validation": report(f"held-out pictures of {values.split}", encoder, tower, validation, image_size)}
    if values.split != "test" and info["splits"].get("test", {}).get("images", 0):
        test = splits.load_split(values.records_dir, "test")
        test_pairs = pairs_of(test.spread(values.measured_images or len(test)))
        results["test"] = report("test split", encoder, tower, test_pairs, image_size)
    rows.append({"final": results, "best_step": best_step})

    names = ("encoder", "steps", "margin", "reduction", "image_side", "hardest", "learning_rate",
             "word_dropout", "min_count", "seed")  # fmt: skip
    if not values.phi_scale:
        # Differs: A25 takes the raw state. The ranking loss sees directions only, so a GRU trained for minutes keeps
        # states of a few hundredths, which drown in the conditioning augmentation's unit noise.
        size = np.sqrt(np.mean(encoder.encode(captions[:: max(1, len(captions) // 5000)]) ** 2))
        encoder.phi_scale = PHI_SIZE / float(size)
    encoder.colours = notes.shares(captions)
    encoder.training = {
        "dataset": info["dataset"],
        "fingerprint": info["fingerprint"],
        "split": values.split,
        **{name: getattr(values, name) for name in names},
        "batch_size": batch_size,
        **picture_facts,
        **word_facts,
        "pictures": len(seen.keys),
        "captions": len(captions),
        "best_step": best_step,
        **results,
    }
    path = os.path.join(values.run_dir, features.TOWER)
    if pairs.images.ndim == 4:
        features.save_tower(tower, image_size, path)
    elif os.path.exists(path):  # of a training before, whose encoder is replaced now
        os.unlink(path)
    encoder.save(directory)
    log = "".join(json.dumps(row) + "\n" for row in rows)
    files.write_text(os.path.join(values.run_dir, "text_metrics.jsonl"), log)
    print(f"wrote {directory} after {time.monotonic() - began:.0f} s")


def report(title: str, encoder: TextEncoder, tower: keras.Model, pairs: Pairs, image_size: int) -> dict:
    """Measures `pairs` and prints the numbers beside those of a random order; returns the measured ones."""
    results = measure(encoder, tower, pairs, image_size)
    random = vse.chance(len(pairs), captions_each(pairs))
    print(f"{title}: {len(pairs)} pictures, {captions_each(pairs)} sentences each")
    for way, row in results.items():
        cells = [f"R@{r} {row[f'recall_at_{r}']:6.1%} (chance {random[way][f'recall_at_{r}']:.1%})" for r in (1, 5, 10)]
        print(f"  {way:14s} {'  '.join(cells)}  median rank {row['median_rank']:g} "
              f"(chance {random[way]['median_rank']:g})")  # fmt: skip
    return {"pictures": len(pairs), "sentences_each": captions_each(pairs), **results}


def _picture_source(values: flags.FlagValues) -> tuple[Callable[[splits.Split], np.ndarray], dict]:
    """What turns a split into `Pairs.images`, and its settings. Fails before anything is read."""
    if values.image_features == "vgg19":
        network = features.vgg19(values.vgg19_weights)
        sizes = features.CROP_SIZE, features.LOAD_SIZE
        return lambda split: features.fc7(network, pipeline.decoded_images(split, *sizes)), {"image_features": "vgg19"}
    load_size = values.load_size or round(values.image_size * 76 / 64)
    if load_size < values.image_size:
        raise ValueError(f"load_size={load_size} must be at least image_size={values.image_size}")
    facts = {"image_features": "cnn", "image_size": values.image_size, "image_width": values.image_width,
             "load_size": load_size}  # fmt: skip
    return lambda split: decode(split, load_size), facts


def _new_encoder(values: flags.FlagValues, vocabulary: Vocabulary) -> tuple[TextEncoder, dict]:
    """The encoder at its start, its words from --word_vectors if given, and the settings of that."""
    if values.freeze_words and not values.word_vectors:
        raise ValueError("freeze_words=True needs --word_vectors; frozen random vectors would say nothing")
    if values.freeze_words and values.encoder == "bow":
        raise ValueError("freeze_words=True leaves nothing to train in encoder=bow; take --encoder=gru")
    word_vectors = vectors.read(values.word_vectors, vocabulary.words) if values.word_vectors else None
    default = values.dim if values.encoder == "bow" else DEFAULT_WORD_DIM
    encoder = TextEncoder(
        vocabulary,
        dim=values.dim,
        word_dim=values.word_dim or (word_vectors.dim if word_vectors else default),
        length=values.length,
        phi_scale=values.phi_scale or 1.0,
        architecture=values.encoder,
    )
    if not word_vectors:
        return encoder, {"word_vectors": ""}
    random = vectors.fill(encoder, word_vectors)
    encoder.embedding.trainable = not values.freeze_words
    known, all_words = len(word_vectors.rows), len(vocabulary.words)
    print(f"{values.word_vectors}: {word_vectors.lines:,} words of {word_vectors.dim} numbers; it has {known} of the "
          f"{all_words} words of the vocabulary ({known / all_words:.1%}), at random stay: "
          f"{', '.join(random[:8]) or 'none'}"
          f"{', ...' if len(random) > 8 else ''}")  # fmt: skip
    name = os.path.basename(values.word_vectors)
    return encoder, {"word_vectors": name, "words_found": known, "freeze_words": values.freeze_words}
