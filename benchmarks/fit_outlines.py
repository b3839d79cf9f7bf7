"""Learns the networks of simgan_tf.evaluation.outlines from pictures of training classes, and tells their errors.

python -m benchmarks.fit_outlines --kind=birds --raw_dir=runs/raw/cub --held=3,12,15,18 --out=birds.npz
python -m benchmarks.fit_outlines --kind=flowers --records_dir=runs/flowers/records --out=flowers.npz

Birds: 712 of CUB's training pictures have outlines, of 17 species; the others have boxes. Round 1 learns from both:
inside a box an outline must reach all four sides, outside of it there is none (Tian et al. 2021, "BoxInst", their
projection term). Round 2 goes on with the outlines that round 1 finds inside the boxes. Flowers have neither: round 1
learns from `colours.foreground`, a colour model of each picture, and what thousands of pictures have in common is more
often right than it; round 2 from the mean of round 1's answer and a colour model begun from that.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import flags
from PIL import Image
from tqdm import tqdm

from simgan_tf.evaluation import colours, objects, outlines
from simgan_tf.system import commands

SHORT = 160  # pixels of the shorter side that pictures are kept at
FLOWERS = 2_500  # pictures, at even distances in key order: more than the steps of both rounds look at twice
BATCH = 16
PLAIN = 0.25  # share of the pictures with a known outline that are cut out by it and laid on a plain ground
RATES = (2e-3, 1e-3)  # of Adam in the two rounds, each falling to a fiftieth by a cosine
KEPT = 0.998  # of the averaged weights, which are what comes out

Square = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclasses.dataclass
class Picture:
    """One picture at SHORT pixels, and what is known of its outline."""

    pixels: np.ndarray  # [H, W, 3] uint8
    species: str
    outline: np.ndarray | None = None  # [H, W] uint8, 255 = the object for sure; drawn, or found by a round before
    drawn: bool = False  # by a person
    box: Square | None = None  # of the object


# ---- pictures


def birds(raw_dir: str) -> list[Picture]:
    """CUB's training pictures with boxes, and outlines where there are any."""
    from data import cub

    found = []
    entries = cub.listing(raw_dir).splits["train"]
    for entry in tqdm(entries, unit="picture", desc="reading pictures", delay=2):
        with Image.open(entry.image_path) as file:
            scale = SHORT / min(file.size)
            size = (round(file.width * scale), round(file.height * scale))
            pixels = np.asarray(file.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        outline = None
        if entry.mask_path:
            with Image.open(entry.mask_path) as file:
                outline = np.asarray(file.convert("L").resize(size, Image.Resampling.BOX))
        x, y, width, height = (scale * value for value in entry.box)
        box = (max(x, 0.0), max(y, 0.0), min(x + width, size[0]), min(y + height, size[1]))
        found.append(Picture(pixels, entry.class_name, outline, outline is not None, box))
    return found


def flowers(records_dir: str) -> list[Picture]:
    """The largest central square of FLOWERS training pictures, with the outline that its colours alone give."""
    from data import pipeline, splits

    split = splits.load_split(records_dir, "train").spread(FLOWERS)
    found = []
    for start in tqdm(range(0, len(split), 128), unit="batch", desc="reading pictures", delay=2):
        part = split.take(np.arange(start, min(start + 128, len(split))))
        images = pipeline.evaluation_images(part, SHORT, SHORT)
        masks = colours.foreground(pipeline.evaluation_images(part, 64, 64))
        for image, mask, label in zip(images, masks, part.class_ids, strict=True):
            pixels = np.round((image + 1) * 127.5).astype(np.uint8)
            found.append(Picture(pixels, str(label), _resized(np.where(mask, 255, 0).astype(np.uint8), SHORT)))
    return [picture for picture in found if 0.08 < picture.outline.mean() / 255 < 0.92]


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))


def square(picture: Picture, factor: float, random: np.random.Generator | None = None) -> Square:
    """A square of `factor` times the box's longer side, or as large as the picture is; around the box, moved within
    its room where `random` is given. Without a box: of `factor` of the picture's side, anywhere, or in the middle."""
    height, width = picture.pixels.shape[:2]
    most = min(height, width)
    left, top, right, bottom = picture.box or (0.0, 0.0, width, height)
    longest = max(right - left, bottom - top)
    side = min(max(factor * longest, 24.0), most)
    room = 0.9 * max(side - longest, 0.0) if picture.box else 2.0 * (most - side)
    shift = (random.random(2) - 0.5) * room if random else np.zeros(2)
    x = np.clip((left + right - side) / 2 + shift[0], 0, width - side)
    y = np.clip((top + bottom - side) / 2 + shift[1], 0, height - side)
    return x, y, x + side, y + side


def cut(pixels: np.ndarray, part: Square) -> np.ndarray:
    """The square as outlines.SIDE pixels, float32 0 to 255."""
    file = Image.fromarray(pixels)
    side = (outlines.SIDE, outlines.SIDE)
    return np.asarray(file.resize(side, Image.Resampling.BILINEAR, box=part), np.float32)


def varied(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture in another light, and at times as blurred as a picture of 48 to 80 pixels is."""
    image = image * random.uniform(0.7, 1.3) + random.uniform(-0.25, 0.25)
    image = image * random.uniform(0.85, 1.15, 3) + random.uniform(-0.12, 0.12, 3)
    if random.random() < 0.15:
        image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    image = np.clip(image, -1, 1)
    if random.random() < 0.3:
        small = int(random.choice([48, 64, 80]))
        pixels = np.round((image + 1) * 127.5).astype(np.uint8)
        image = _resized(_resized(pixels, small), outlines.SIDE) / 127.5 - 1
    return image.astype(np.float32)


def on_plain(image: np.ndarray, outline: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The object alone on a ground as shops and studios have it, and its outline, with an edge of two pixels.

    The ground: white more often than not, else of any colour, with light that falls off to one side. Whatever the
    outline missed is gone from the picture too, so of these pictures the outline is exact.
    image: [S, S, 3], 0 to 255. outline: [S, S] in [0, 1].
    """
    edge = np.clip((outline - 0.5) * 2 + 0.5, 0, 1)
    tone = random.uniform(245, 255) if random.random() < 0.6 else random.uniform(0, 255, 3)
    place = np.linspace(-0.5, 0.5, len(image))
    slope = random.uniform(-0.15, 0.15, 2)
    light = 1 - abs(slope).sum() / 2 + slope[0] * place[:, None] + slope[1] * place
    ground = np.clip(np.ones(3) * tone * light[..., None] + random.normal(0, 2, image.shape), 0, 255)
    return edge[..., None] * image + (1 - edge[..., None]) * ground, edge


def example(picture: Picture, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Picture [S, S, 3] in [-1, 1], outline [S, S] in [0, 1], box [S, S] of 0 and 1; 1.0 where the outline is known.

    From close around the object to the whole picture, mirrored at random; some on a plain ground.
    """
    if picture.box:
        longest = max(picture.box[2] - picture.box[0], picture.box[3] - picture.box[1])
        most = max(min(picture.pixels.shape[:2]) / longest, 1.25)
        factor = 99.0 if random.random() < 0.2 else np.exp(random.uniform(np.log(1.1), np.log(most)))
    else:
        factor = random.uniform(0.6, 1.0)
    part = square(picture, factor, random)
    image = cut(picture.pixels, part)
    known = picture.outline is not None
    outline = cut(picture.outline, part) / 255 if known else np.zeros([outlines.SIDE, outlines.SIDE], np.float32)
    if known and random.random() < PLAIN:
        image, outline = on_plain(image, outline, random)
    image = varied(image / 127.5 - 1, random)
    inside = np.zeros([outlines.SIDE, outlines.SIDE], np.float32)
    if picture.box:
        scale = outlines.SIDE / (part[2] - part[0])
        left, top = (max(int((picture.box[i] - part[i]) * scale), 0) for i in (0, 1))
        right, bottom = (max(int(np.ceil((picture.box[i + 2] - part[i]) * scale)), 0) for i in (0, 1))
        inside[top:bottom, left:right] = 1
    if random.random() < 0.5:
        image, outline, inside = image[:, ::-1], outline[:, ::-1], inside[:, ::-1]
    return image, outline, inside, float(known)


# ---- learning


def loss_of(logits: tf.Tensor, outline: tf.Tensor, box: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Scalar. Where the outline is known: cross entropy and the soft Dice distance. Where only the box is: cross
    entropy outside of it, and the Dice distance of what rows and columns hold at most to the box's shadow on each side.

    logits, outline, box: [B, S, S] float32. known: [B] of 0 and 1.
    """
    found = tf.sigmoid(logits)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=outline, logits=logits)
    both = tf.reduce_sum(found * outline, axis=[1, 2])
    dice = 1 - (2 * both + 1) / (tf.reduce_sum(found + outline, axis=[1, 2]) + 1)
    learnt = tf.reduce_mean(entropy, axis=[1, 2]) + dice
    outside = tf.reduce_mean((1 - box) * tf.nn.softplus(logits), axis=[1, 2])
    shadows = tf.zeros_like(known)
    for axis in (1, 2):
        most, wanted = tf.reduce_max(found, axis), tf.reduce_max(box, axis)
        both = tf.reduce_sum(most * wanted, axis=1)
        shadows += 1 - (2 * both + 1) / (tf.reduce_sum(most**2 + wanted**2, axis=1) + 1)
    return tf.reduce_mean(known * learnt + (1 - known) * (outside + 0.5 * shadows))


def fit(
    pictures: Sequence[Picture], steps: int, start: outlines.UNet | None = None, precision: str = "float32"
) -> outlines.UNet:
    """A network learned in `steps` batches, half of each batch of pictures whose outline a person drew, where there are
    any; from `start` at the lower rate."""
    random = np.random.default_rng(1)
    drawn = [picture for picture in pictures if picture.drawn]
    others = [picture for picture in pictures if not picture.drawn] or drawn
    keras.utils.set_random_seed(0)
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    network = outlines.build()
    keras.mixed_precision.set_global_policy(policy)
    average = outlines.build()
    for new, old in zip(network.variables, (start or network).variables, strict=True):
        new.assign(old)
    for new, old in zip(average.variables, network.variables, strict=True):
        new.assign(old)
    rate = keras.optimizers.schedules.CosineDecay(RATES[start is not None], steps, alpha=0.02)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(network.trainable_variables)

    @tf.function
    def learn(step: tf.Tensor, *batch: tf.Tensor) -> tf.Tensor:
        image, outline, box, known = batch
        with tf.GradientTape() as tape:
            loss = loss_of(network(image, training=True), outline, box, known)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        decay = tf.minimum(KEPT, (1.0 + step) / (10.0 + step))
        for new, old in zip(average.variables, network.variables, strict=True):
            new.assign(decay * new + (1.0 - decay) * tf.cast(old, tf.float32))
        return loss

    bar = tqdm(range(steps), unit="step", desc="learning outlines")
    for step in bar:
        chosen = [drawn[i] for i in random.integers(len(drawn), size=BATCH // 2)] if drawn else []
        chosen += [others[i] for i in random.integers(len(others), size=BATCH - len(chosen))]
        columns = zip(*(example(picture, random) for picture in chosen), strict=True)
        loss = float(learn(tf.constant(step, tf.float32), *(tf.constant(np.stack(c), tf.float32) for c in columns)))
        if not np.isfinite(loss):
            raise FloatingPointError(f"step {step}: the loss is {loss}; nothing is written.")
        bar.set_postfix_str(f"loss {loss:.3f}")
    return average


def found_in(network: outlines.UNet, images: np.ndarray) -> np.ndarray:
    """Probabilities [N, S, S] of pictures and of their mirror images, averaged. images: [N, S, S, 3]."""
    run = tf.function(lambda batch: tf.sigmoid(network(batch)), reduce_retracing=True)
    both = [run(images[..., ::flip, :]).numpy()[..., ::flip] for flip in (1, -1)]
    return (both[0] + both[1]) / 2


def relabelled(pictures: Sequence[Picture], network: outlines.UNet) -> list[Picture]:
    """The pictures for round 2: those without a drawn outline get what the network finds, or are left out.

    Birds: in the square of 1.35 times the box, nothing outside of the box; left out where it fills less than a quarter
    or more than 85 % of the box. Flowers: the mean of what it finds and a colour model begun from that.
    """
    kept = [picture for picture in pictures if picture.drawn]
    others = [picture for picture in pictures if not picture.drawn]
    for start in tqdm(range(0, len(others), 64), unit="batch", desc="finding outlines", delay=2):
        part = others[start : start + 64]
        squares = [square(picture, 1.35 if picture.box else 1.0) for picture in part]
        images = np.stack([cut(p.pixels, s) / 127.5 - 1 for p, s in zip(part, squares, strict=True)])
        found = found_in(network, images)
        if part[0].box is None:
            small = np.stack([_resized((f * 255).astype(np.uint8), 64) for f in found]) / np.float32(255)
            shrunk = images.reshape(len(images), 64, 2, 64, 2, 3).mean(axis=(2, 4))
            model = colours.coloured(shrunk, np.clip(small, 0.03, 0.97))
            found = np.stack([_resized((f * 255).astype(np.uint8), outlines.SIDE) for f in (small + model) / 2]) / 255
        for picture, where, values in zip(part, squares, found, strict=True):
            outline = _laid_down(picture, where, values)
            if picture.box is None:
                believed = 0.08 < outline.mean() / 255 < 0.92
            else:
                left, top, right, bottom = picture.box
                believed = 0.25 < outline.sum() / 255 / ((right - left) * (bottom - top)) < 0.85
            if believed:
                kept.append(dataclasses.replace(picture, outline=outline))
    return kept


def _laid_down(picture: Picture, part: Square, found: np.ndarray) -> np.ndarray:
    """What was found in a square, in the picture's own pixels; twice as sure, and nothing outside of the box."""
    height, width = picture.pixels.shape[:2]
    left, top, right, bottom = (round(value) for value in part)
    sure = np.clip((found - 0.5) * 2 + 0.5, 0, 1) if picture.box else found
    outline = np.zeros([height, width], np.uint8)
    file = Image.fromarray((sure * 255).astype(np.uint8))
    outline[top:bottom, left:right] = file.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    if picture.box:
        inside = np.zeros([height, width], bool)
        left, top, right, bottom = picture.box
        inside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
        outline[~inside] = 0
    return outline


# ---- errors


def errors(network: outlines.UNet, pictures: Sequence[Picture], factor: float) -> dict[str, list[float]]:
    """Intersection over union with the drawn outlines, by species; each picture's square of `factor` times its box."""
    found: dict[str, list[float]] = {}
    run = tf.function(lambda batch: network(batch))
    for picture in pictures:
        part = square(picture, factor)
        truth = cut(picture.outline, part) > 127.5
        logits = run(tf.constant(cut(picture.pixels, part)[None] / 127.5 - 1))
        found.setdefault(picture.species, []).append(float(objects.overlap(logits.numpy() > 0, truth[None])[0]))
    return found


def tell(network: outlines.UNet, held: Sequence[Picture]) -> None:
    """Prints the errors on the pictures that were held back and have drawn outlines."""
    drawn = [picture for picture in held if picture.drawn]
    for title, factor in (("box x 1.5", 1.5), ("the largest square", 99.0)) if drawn else ():
        of = errors(network, drawn, factor)
        every = np.concatenate(list(of.values()))
        told = ", ".join(f"{species} {np.mean(of[species]):.3f}" for species in of)
        print(f"{title}: overlap {every.mean():.3f} in the mean, {np.median(every):.3f} in the median ({told})")


def define_flags() -> None:
    flags.DEFINE_enum("kind", None, outlines.KINDS, "Objects to learn the outlines of.", required=True)
    flags.DEFINE_string("raw_dir", "", "Birds: folder of the raw set, with segmentations/ and bounding_boxes.txt.")
    flags.DEFINE_string("records_dir", "", "Flowers: folder that data.build wrote.")
    flags.DEFINE_list("held", [], "Birds: numbers of species with outlines to leave out and to tell the error on.")
    flags.DEFINE_integer("steps", 600, "Batches a round.", lower_bound=1)
    flags.DEFINE_string("start", "", "A network that this command wrote: round 2 alone, begun from it.")
    flags.DEFINE_float("narrower", 0.0, "Taken from what the network says before its sigmoid: the colour models that "
                       "stand for flowers' outlines are wide.")  # fmt: skip
    flags.DEFINE_string("precision", "float32", "Of the layers: float32 or mixed_bfloat16.")
    flags.DEFINE_string("out", None, "File to write, .npz.", required=True)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    given, wanted = (values.raw_dir, "raw_dir") if values.kind == "birds" else (values.records_dir, "records_dir")
    if not given or not os.path.isdir(given):
        raise ValueError(f"--{wanted}={given!r} is no folder; --kind={values.kind} learns from one.")
    commands.start_tensorflow()
    read: Callable[[str], list[Picture]] = birds if values.kind == "birds" else flowers
    pictures = read(given)
    held = [p for p in pictures if p.species.split(".")[0].lstrip("0") in values.held]
    known = [p for p in pictures if not any(p is h for h in held)]
    if values.start:
        network = outlines.load(values.start)
    else:
        network = fit(known, values.steps, precision=values.precision)
        outlines.save(network, values.out)
        tell(network, held)
    network = fit(relabelled(known, network), values.steps, network, values.precision)
    network.to_logit.bias.assign_sub([values.narrower])
    outlines.save(network, values.out)
    tell(network, held)
    print(f"wrote {values.out}")


if __name__ == "__main__":
    commands.run(main, define_flags)
