"""What edits and its text encoder as one SavedModel for TensorFlow Serving: picture and sentence in, picture out.
Knows no run directory's layout, no data and no TFLite; measures nothing, that is serving/checks.py's."""

import functools
import os
import tempfile
from collections.abc import Callable

import tensorflow as tf

from export.serving import USUAL, Bounds, carrying, noting, profiles, reading
from simgan_tf import folding
from simgan_tf.edit import Editor
from simgan_tf.methods.step import draw_noise, raw_variables
from simgan_tf.system.quiet import quiet
from simgan_tf.text.encoders import TextEncoder
from simgan_tf.text.released_tokens import Characters

SIGNATURE = "serving_default"
VOCABULARY = "vocabulary.txt"
COMPUTE = {"float32": tf.float32, "bfloat16": tf.bfloat16}
MOST_STEPS = 256  # pictures of all interpolations of a request
STEPS = 8  # pictures of an interpolation that does not say how many


def write(
    editor: Editor, directory: str, compute: str = "float32", bounds: Bounds = USUAL
) -> folding.Folded:
    """Writes a SavedModel with four signatures to `directory`, which must not exist; gives the network inside it.

    serving_default: image_bytes [B] (JPEG, PNG or WebP of any size), text [B] string, seed [B] int32 ([0] if left
        out; 0 = the mean edit, any other one another edit) -> image_bytes [B], each of its picture's own size (of a
        method that draws anew: S x S, of the central square): a JPEG of a JPEG, as coarse as that one (of quality 95
        where its colours are as fine as its lightness), else a PNG; with the colour profile of a JPEG or PNG. And
        notes [B] string: what a person should know of the sentence, line by line (words that are not read or not
        known, negations, rare colours); "" where there is nothing.
    edit: image [B, S, S, 3] float32 in [-1, 1], embedding [B, D] float32, noise [B, Z] float32 (of a method that draws
        any) -> image.
    embed: text [B] -> embedding [B, D] float32.
    interpolate: image_bytes [B], text [B], to_text [B], steps [B] int32 ([8] if left out), seed [B] -> png_bytes
        [B, N], N the largest of `steps`; a row with fewer ends in empty strings.
    B is free, up to reading.MAX_ROWS, and `steps` may add up to MOST_STEPS. What is wrong with a request fails it with
    INVALID_ARGUMENT, naming the row.

    compute: of the generator's convolutions, "float32" or "bfloat16". bounds: of the pictures
    that it takes. The vocabulary is an asset, which a text encoder
    that reads characters does not need. Only raw variables are tracked, see `raw_module`; the network's weights are
    constants.
    """
    with tempfile.TemporaryDirectory(prefix=".saved_model-", dir=os.path.dirname(directory) or ".") as scratch:
        server = tf.Module()
        folded = folding.Folded(editor.method.network, COMPUTE[compute])
        server.weights, server.table = [*editor.method.embed_variables(), *folded.kept], None
        if editor.text_encoder.vocabulary.in_file:
            vocabulary = os.path.join(scratch, VOCABULARY)
            editor.text_encoder.vocabulary.save(vocabulary)
            server.table = editor.text_encoder.vocabulary.file_table(vocabulary)
        built = os.path.join(scratch, "built")
        save(server, built, _signatures(editor, folded, server.table, bounds))
        os.rename(built, directory)  # away from its vocabulary, as every later user has it
    return folded


def _signatures(
    editor: Editor, folded: folding.Folded, table: tf.lookup.StaticHashTable | None, bounds: Bounds
) -> dict[str, Callable]:
    size, method = editor.config.image_size, editor.method
    dim, noise_size = method.embedding_size, method.noise_size
    no_seed, usual_steps = tf.constant([0]), tf.constant([STEPS])  # tensors become defaults of the signature

    def generator(image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        with tf.device(None):  # on a GPU, where there is one; all else is on the CPU, see `_on_cpu`
            return method.edit(image, embedding, noise, network=folded)

    def phi(name: str, text: tf.Tensor) -> tf.Tensor:
        encoder = editor.text_encoder
        with tf.control_dependencies(_text_checks(encoder, name, text, table)):
            return method.embed(encoder.vocabulary.graph(tf.identity(text), encoder.length, table))

    def seen(pixels: tf.Tensor) -> tf.Tensor:
        small = reading.small(pixels, size)
        return small if editor.keeps_picture else reading.square(small, size)

    def in_squares(small: tf.Tensor, codes: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """[n, h, w, 3]: an edit of the one small picture by each code and noise."""
        rows = tf.shape(codes)[0]
        return carrying.in_squares(
            small, size, lambda square: generator(tf.repeat(square[None], rows, 0), codes, noise), rows
        )

    def noise_of(seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """[B, Z]: what the command line's edit draws from this seed; zeros for 0."""

        def draw(one: tf.Tensor) -> tf.Tensor:
            return tf.cast(one != 0, tf.float32) * draw_noise(2, noise_size, tf.stack([one, 0]))[1]

        spec = tf.TensorSpec([noise_size], tf.float32)
        return tf.map_fn(draw, tf.broadcast_to(seed, [rows]), fn_output_signature=spec)

    def serve(image_bytes: tf.Tensor, text: tf.Tensor, seed: tf.Tensor = no_seed) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(_row_checks({"image_bytes": image_bytes, "text": text}, seed=seed)):
            image_bytes, text, seed = tf.identity(image_bytes), tf.identity(text), tf.identity(seed)

        def row(pixels: tf.Tensor, code: tf.Tensor, epsilon: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
            small = seen(pixels)
            edited = in_squares(small, code[None], epsilon[None])[0]
            edited = carrying.carry(pixels, small, edited) if editor.keeps_picture else to_pixels(edited)

            def jpeg() -> tf.Tensor:
                quality, fine = profiles.coding_of_jpeg(data)
                encoded = tf.cond(
                    fine,  # this operation's quality is fixed, the other's colours are half as fine (4:2:0)
                    lambda: tf.io.encode_jpeg(edited, quality=95, chroma_downsampling=False),
                    lambda: tf.raw_ops.EncodeJpegVariableQuality(images=edited, quality=quality),
                )
                return profiles.put(encoded, profiles.of_jpeg(data), "jpeg")

            def png() -> tf.Tensor:
                profile = tf.cond(reading.is_png(data), lambda: profiles.of_png(data), lambda: "")
                return profiles.put(tf.io.encode_png(edited), profile, "png")

            return tf.cond(reading.is_jpeg(data), jpeg, png)

        others = phi("text", text), noise_of(seed, tf.size(text)), image_bytes
        made = reading.each(image_bytes, row, tf.TensorSpec([], tf.string), *others, bounds=bounds)
        return {"image_bytes": made, "notes": noting.of(text, editor.text_encoder, table)}

    def edit(image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        given = {"image": (image, [size, size, 3]), "embedding": (embedding, [dim])}
        if noise is None:
            noise = tf.zeros([tf.shape(image)[0], 0])
        else:
            given["noise"] = (noise, [noise_size])
        checks = [reading.require_shape(name, tensor, shape) for name, (tensor, shape) in given.items()]
        with tf.control_dependencies(checks):
            checks += reading.require_same_rows(**{name: tf.identity(tensor) for name, (tensor, _) in given.items()})
        with tf.control_dependencies(checks):
            checks += [reading.finite(name, tf.identity(tensor)) for name, (tensor, _) in given.items()]
        with tf.control_dependencies(checks):
            checks.append(reading.in_range(tf.identity(image)))
        with tf.control_dependencies(checks):
            return {"image": generator(tf.identity(image), embedding, noise)}

    def embed(text: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(_row_checks({"text": text})):
            return {"embedding": phi("text", text)}

    def interpolate(
        image_bytes: tf.Tensor, text: tf.Tensor, to_text: tf.Tensor,
        steps: tf.Tensor = usual_steps, seed: tf.Tensor = no_seed,
    ) -> dict[str, tf.Tensor]:  # fmt: skip
        rows = {"image_bytes": image_bytes, "text": text, "to_text": to_text}
        checks = _row_checks(rows, steps=steps, seed=seed)
        with tf.control_dependencies(checks):
            good = (steps >= 2) & (steps <= reading.MAX_ROWS)
            checks.append(reading.require_rows(good, f"steps must be 2 to {reading.MAX_ROWS}"))
            total = tf.reduce_sum(tf.broadcast_to(tf.identity(steps), [tf.size(image_bytes)]))
            checks.append(reading.require(total <= MOST_STEPS, "steps add up to ", total, f", may be {MOST_STEPS}"))
        with tf.control_dependencies(checks):
            image_bytes, text, to_text = tf.identity(image_bytes), tf.identity(text), tf.identity(to_text)
            steps, seed = tf.identity(steps), tf.identity(seed)
        start, end, noise = phi("text", text), phi("to_text", to_text), noise_of(seed, tf.size(text))
        steps, longest = tf.broadcast_to(steps, [tf.size(text)]), tf.reduce_max(steps)

        def row(
            pixels: tf.Tensor, first: tf.Tensor, last: tf.Tensor, epsilon: tf.Tensor, count: tf.Tensor
        ) -> tf.Tensor:
            picture = seen(pixels)
            share = tf.linspace(0.0, 1.0, count)[:, None]
            mixed = (1 - share) * first + share * last
            edited = in_squares(picture, mixed, tf.repeat(epsilon[None], count, 0))
            return tf.concat([to_png(edited), tf.fill([longest - count], "")], 0)

        spec = tf.TensorSpec([None], tf.string)
        pictures = reading.each(
            image_bytes, row, spec, start, end, noise, steps, at_once=1, bounds=bounds
        )
        return {"png_bytes": pictures}

    pictures, texts, numbers = (tf.TensorSpec([None], dtype) for dtype in (tf.string, tf.string, tf.int32))
    floats = tf.float32
    specs = {
        SIGNATURE: (_on_cpu(serve), [pictures, texts, numbers]),
        "edit": (edit, [tf.TensorSpec([None, size, size, 3], floats), tf.TensorSpec([None, dim], floats),
                        *([tf.TensorSpec([None, noise_size], floats)] if noise_size else [])]),
        "embed": (_on_cpu(embed), [texts]),
        "interpolate": (_on_cpu(interpolate), [pictures, texts, texts, numbers, numbers]),
    }  # fmt: skip
    return {name: tf.function(made, input_signature=spec, autograph=False) for name, (made, spec) in specs.items()}


def _on_cpu(function: Callable) -> Callable:
    """The function with its ops on the CPU, but those that say otherwise.

    Left to itself, TensorFlow may place a loop over strings on a GPU, which cannot hold them.
    """

    @functools.wraps(function)
    def pinned(*arguments: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device("CPU:0"):
            return function(*arguments, **named)

    return pinned


def to_png(image: tf.Tensor) -> tf.Tensor:
    """PNG bytes [B] of images [B, S, S, 3] float32 in [-1, 1]."""
    return tf.io.encode_png(to_pixels(image))


def to_pixels(image: tf.Tensor) -> tf.Tensor:
    """uint8 pixels of images in [-1, 1], rounded as `pictures.to_pixels` does it."""
    return tf.cast(tf.clip_by_value(tf.round((image + 1.0) * 127.5), 0.0, 255.0), tf.uint8)


def _row_checks(needed: dict[str, tf.Tensor], **optional: tf.Tensor) -> list[tf.Operation]:
    """Refuses what is no list of rows, and lists of different lengths; an optional input may also have one row."""
    checks = [reading.require_shape(name, tensor, []) for name, tensor in (needed | optional).items()]
    with tf.control_dependencies(checks):
        rows = {name: tf.identity(tensor) for name, tensor in needed.items()}
        first = next(iter(rows.values()))
        for name, tensor in optional.items():
            single = tf.equal(tf.size(tensor), 1)
            rows[name] = tf.cond(single, lambda: tf.zeros([tf.size(first)], tf.int32), lambda t=tensor: tf.identity(t))
        return [*checks, *reading.require_same_rows(**rows)]


def _text_checks(
    encoder: TextEncoder, name: str, text: tf.Tensor, table: tf.lookup.StaticHashTable | None
) -> list[tf.Operation]:
    """Refuses a sentence that is empty, or of which nothing is known to phi, as `TextEncoder.check` does."""
    vocabulary = encoder.vocabulary
    short = reading.require_rows(
        tf.strings.length(text) <= reading.MAX_TEXT, f"{name} has over {reading.MAX_TEXT:,} bytes"
    )
    with tf.control_dependencies([short]):
        text = tf.identity(text)
    ids = vocabulary.graph(text, encoder.length, table)
    known = ids > vocabulary.contract["unknown"]  # which is the last of the special ids, of all three kinds
    if isinstance(vocabulary, Characters):  # spaces alone say nothing
        known &= ids != vocabulary.alphabet.rindex(" ") + 1
    empty = reading.require_rows(tf.strings.length(tf.strings.strip(text)) > 0, f"{name} is empty")
    with tf.control_dependencies([empty]):
        return [short, empty, reading.require_rows(
            tf.reduce_any(tf.identity(known), axis=1), f"no word of {name} is known to this model"
        )]  # fmt: skip


def raw_module(editor: Editor) -> tf.Module:
    """A tf.Module that holds the raw variables that embed and edit read, and nothing of Keras.

    Tracking a Keras 3 model instead gives a SavedModel whose functions read variables that the restore never fills: it
    works in Python, and fails in TensorFlow Serving and, as NaN, in TFLite. Exported functions reach the models by
    closure.
    """
    module = tf.Module()
    method = editor.method
    both = [*method.embed_variables(), *raw_variables(method.network)]
    module.weights = list({id(variable): variable for variable in both}.values())  # a method may have its words in it
    return module


def save(module: tf.Module, directory: str, signatures: dict[str, Callable]) -> None:
    """tf.saved_model.save without its log lines."""
    with quiet():
        tf.saved_model.save(module, directory, signatures=signatures)
