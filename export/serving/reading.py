"""What a request holds, read and checked inside the graph: encoded pictures, sentences, numbers, each row by itself.
Every refusal is an Assert, INVALID_ARGUMENT to the client, and names the row. Knows no network and no server."""

import functools
from collections.abc import Callable

import tensorflow as tf

from data import geometry
from export.serving import USUAL, Bounds

MAX_ROWS = 64  # of a request
MAX_ALL_PIXELS = 100_000_000  # of all its pictures
MAX_ALL_BYTES = 2**26  # of all its encoded pictures
MAX_TEXT = 10_000  # bytes of a sentence
MAX_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; usual are ten
MAX_SCANNED = 250_000_000  # pixels that all these passes go over; twelve scans are always taken
MAX_PARTS = 2_000  # of a file, that are gone through for its orientation and profile: usual are twenty
WEBP = hasattr(tf.raw_ops, "DecodeWebP")  # not in TensorFlow 2.15
ONE = 2**22  # what the weights of Pillow's scaling add up to
HEADER = 32  # bytes in which a PNG or WebP says its size
EXIF_BYTES = 2**17  # of a JPEG, in which its orientation is looked for
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def require(condition: tf.Tensor, *message: object) -> tf.Operation:
    """Fails the request with INVALID_ARGUMENT where `condition` does not hold; the parts of `message` are joined."""
    parts = [part if isinstance(part, str) or part.dtype == tf.string else tf.strings.as_string(part)
             for part in message]  # fmt: skip
    return tf.debugging.Assert(condition, [tf.strings.join(parts)])


def require_rows(good: tf.Tensor, *message: object) -> tf.Operation:
    """Fails the request where a row of good [B] is False, naming the first: "row 2: ..."."""
    row = tf.argmin(tf.cast(good, tf.int32), output_type=tf.int32)
    return require(tf.reduce_all(good), "row ", row, ": ", *message)


def require_same_rows(**tensors: tf.Tensor) -> list[tf.Operation]:
    """Fails the request where the inputs, by name, do not have one number of rows, 1 to MAX_ROWS."""
    (first, leader), *others = tensors.items()
    rows = tf.shape(leader)[0]
    checks = [require((rows >= 1) & (rows <= MAX_ROWS), f"{first} has ", rows, f" rows, must have 1 to {MAX_ROWS}")]
    for name, tensor in others:
        found = tf.shape(tensor)[0]
        checks.append(require(tf.equal(found, rows), f"{name} has ", found, f" rows, {first} has ", rows))
    return checks


def require_shape(name: str, tensor: tf.Tensor, shape: list[int]) -> tf.Operation:
    """Fails the request where `tensor` is not [B, *shape]: a server compares no shapes with a signature."""
    # Without the placeholder the rank is a constant of the graph, true or not, and the check is optimised away.
    found = tf.shape(tf.compat.v1.placeholder_with_default(tensor, None))
    wanted = tf.constant([-1, *shape])
    same = tf.equal(tf.size(found), tf.size(wanted))
    same = tf.cond(same, lambda: tf.reduce_all(tf.equal(found[1:], wanted[1:])), lambda: tf.constant(False))
    shown = tf.strings.reduce_join(tf.strings.as_string(found), separator=", ")
    return require(same, f"{name} is [", shown, "], must be [B", *[f", {side}" for side in shape], "]")


def finite(name: str, tensor: tf.Tensor) -> tf.Operation:
    """Fails the request where a row of `tensor` [B, ...] holds NaN or infinity."""
    good = tf.reduce_all(tf.math.is_finite(tf.reshape(tensor, [tf.shape(tensor)[0], -1])), axis=1)
    return require_rows(good, f"{name} has values that are not finite")


def in_range(image: tf.Tensor) -> tf.Operation:
    """Fails the request where a row of `image` [B, ...] leaves [-1, 1] by more than rounding."""
    largest = tf.reduce_max(tf.abs(tf.reshape(image, [tf.shape(image)[0], -1])), axis=1)
    return require_rows(largest <= 1.001, "image has values outside of [-1, 1]; make it pixels / 127.5 - 1")


def each(
    encoded: tf.Tensor,
    function: Callable[..., tf.Tensor],
    spec: tf.TensorSpec,
    *others: tf.Tensor,
    at_once: int = 2,
    bounds: Bounds = USUAL,
) -> tf.Tensor:
    """function(pixels [H, W, 3] uint8, other ...) of every row of JPEG, PNG or WebP bytes [B] and of `others` [B, ...].

    Any sizes in one batch; pixels as the command line's edit sees the same files: a JPEG's EXIF rotation is honoured,
    transparent parts are white. spec: of what function gives. at_once: rows worked on, each with its decoded picture.
    Refused by row, by the headers and before anything is decoded: what is none of the three, animated, outside of
    `bounds`, with a side under 8 pixels, a JPEG of too many scans; the whole, over MAX_ALL_PIXELS or MAX_ALL_BYTES.
    Refused when its row is decoded: what is damaged.
    """
    total = tf.reduce_sum(tf.cast(tf.strings.length(encoded), tf.int64))
    light = require(total <= MAX_ALL_BYTES, "image_bytes has ", total, f" bytes in all, over {MAX_ALL_BYTES:,}")
    with tf.control_dependencies([light]):
        checked = functools.partial(_checked_area, bounds=bounds)
        areas = tf.map_fn(checked, (tf.range(tf.size(encoded)), encoded), tf.int64)
    area = tf.reduce_sum(areas)
    few = require(area <= MAX_ALL_PIXELS, "image_bytes has ", area, f" pixels in all, over {MAX_ALL_PIXELS:,}")
    with tf.control_dependencies([few]):
        encoded = tf.identity(encoded)

    def row(inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        number, data, *rest = inputs
        pixels = _attempt(_pixels, data, tf.zeros([0, 0, 3], tf.uint8))
        whole = require(tf.size(pixels) > 0, "row ", number, ": image_bytes is damaged, it cannot be decoded")
        reason = ": image_bytes has 16 bits a colour of which the upper 4 are empty, as of 12 bits in 16; send 8 bits"
        black = require(~_is_black(data, pixels), "row ", number, reason)
        with tf.control_dependencies([whole, black]):
            return function(tf.identity(pixels), *rest)

    rows = (tf.range(tf.size(encoded)), encoded, *others)
    return tf.map_fn(row, rows, fn_output_signature=spec, parallel_iterations=at_once)


def small(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """All of a picture [H, W, 3] uint8 as the network takes it, [h, w, 3] float32 in [-1, 1]: `edit.small_picture`.

    As Pillow does it to the last bit, across first: a level more or less in a few pixels became 5 of 255 in the edited
    photograph. Of sides of 500 pixels, as those of Oxford-102 are, many sums are halves, which rounding may take either
    way.
    """
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    short = tf.minimum(height, width)
    h, w = (tf.maximum(4, 4 * ((side * size + 2 * short) // (4 * short))) for side in (height, width))
    for side in (w, h):
        pixels = _narrowed(tf.transpose(pixels, [1, 0, 2]), side)
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def _narrowed(pixels: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """[length, ...] uint8 scaled to [side, ...] along the first axis.

    With a triangle as wide as a new pixel where the side shrinks, its weights integers that add up to ONE, as Pillow
    has them. One tap of all new pixels at a time: the whole picture is never held in another type.
    """
    length = tf.shape(pixels)[0]
    scale = tf.cast(length, tf.float64) / tf.cast(side, tf.float64)
    reach = tf.maximum(scale, 1.0)
    centre = (tf.cast(tf.range(side), tf.float64) + 0.5) * scale
    taps = tf.cast(tf.math.ceil(2 * reach), tf.int32) + 1
    place = tf.maximum(tf.cast(tf.math.ceil(centre - reach - 0.5), tf.int32), 0) + tf.range(taps)[:, None]
    weights = tf.maximum(1 - tf.abs(tf.cast(place, tf.float64) + 0.5 - centre) / reach, 0.0)
    weights *= tf.cast(place < length, tf.float64)
    weights = tf.cast(tf.floor(ONE * weights / tf.reduce_sum(weights, axis=0) + 0.5), tf.int32)
    place = tf.minimum(place, length - 1)

    def add(tap: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tap + 1, total + weights[tap][:, None, None] * tf.cast(tf.gather(pixels, place[tap]), tf.int32)

    half = tf.fill(tf.concat([[side], tf.shape(pixels)[1:]], 0), ONE // 2)
    shapes = tf.TensorShape([]), tf.TensorShape([None, None, 3])
    _, total = tf.while_loop(lambda tap, _: tap < taps, add, (0, half), shapes, parallel_iterations=1)
    return tf.cast(tf.minimum(total // ONE, 255), tf.uint8)


def square(image: tf.Tensor, size: int) -> tf.Tensor:
    """The central square of a small picture [h, w, 3], of which one side is `size`: `edit.central_square`."""
    top, left = (tf.shape(image)[0] - size) // 2, (tf.shape(image)[1] - size) // 2
    return tf.ensure_shape(image[top : top + size, left : left + size], [size, size, 3])


def is_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether bytes begin as a JPEG."""
    return _kinds(_head(data))[0]


def is_png(data: tf.Tensor) -> tf.Tensor:
    """Whether bytes begin as a PNG."""
    return _kinds(_head(data))[1]


def _scans(data: tf.Tensor) -> tf.Tensor:
    """How often the head of a JPEG's scan stands in it, by its mark, length and number of channels: what follows the
    picture in its file, such as a phone's film, has none by chance."""
    heads = [b"\xff\xda\0" + bytes([6 + 2 * channels, channels]) for channels in (1, 2, 3, 4)]
    return tf.add_n([tf.size(tf.strings.split(data, head)) - 1 for head in heads])


def _checked_area(inputs: tuple[tf.Tensor, tf.Tensor], bounds: Bounds) -> tf.Tensor:
    """Pixels by the header of a row's bytes, which are refused by what needs no decoding.

    One check after the other, so that the first fault is the one that is told.
    """
    number, data = inputs
    head = _head(data)
    place = ["row ", number, ": image_bytes "]
    is_jpeg, is_png, is_webp = _kinds(head)
    known = require(is_jpeg | is_png | is_webp, *place, "is no JPEG, PNG or WebP (", tf.strings.length(data), " bytes)")
    with tf.control_dependencies([known]):
        size = tf.cond(is_jpeg, lambda: _jpeg_size(data), lambda: _size(tf.identity(head), is_png))
        height, width = size[0], size[1]
        pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
        shown = ["is ", width, "x", height]
        short, long = tf.minimum(height, width), tf.maximum(height, width)
        moving = is_webp & _is_animation(head)
        scans = tf.cond(is_jpeg, lambda: _scans(data), lambda: 0)
        most = tf.cast(tf.clip_by_value(MAX_SCANNED // tf.maximum(pixels, 1), 12, MAX_SCANS), tf.int32)
    checks = [known]
    for good, message in (
        *([] if WEBP else [(~is_webp, ["is a WebP, which TensorFlow 2.15 cannot read; send a JPEG or PNG"])]),
        (~moving, ["is an animated WebP; send a still picture"]),
        (short > 0, ["has a damaged header"]),
        (pixels <= tf.where(is_jpeg, tf.constant(bounds.pixels, tf.int64), bounds.pixels // 2),
         [*shown, tf.where(is_jpeg, f", over {bounds.pixels:,}", f", over {bounds.pixels // 2:,}"), " pixels"]),
        (short >= geometry.MIN_SIDE, [*shown, f"; both sides need {geometry.MIN_SIDE} pixels or more"]),
        (long <= bounds.aspect * short, [*shown, f"; one side may be {bounds.aspect} times the other"]),
        (scans <= most, ["is a JPEG of ", scans, " scans, over ", most]),
    ):
        with tf.control_dependencies(checks):
            checks.append(require(tf.identity(good), *place, *message))
    with tf.control_dependencies(checks):
        return tf.identity(pixels)


def _head(data: tf.Tensor) -> tf.Tensor:
    """The first HEADER bytes, with zeros where there are fewer."""
    return tf.strings.substr(tf.strings.join([tf.strings.substr(data, 0, HEADER), "\0" * HEADER]), 0, HEADER)


def _kinds(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether bytes begin as JPEG, PNG, WebP."""

    def begins(start: int, mark: bytes) -> tf.Tensor:
        return tf.equal(tf.strings.substr(head, start, len(mark)), mark)

    return begins(0, JPEG), begins(0, PNG), begins(0, b"RIFF") & begins(8, b"WEBP")


def _is_animation(head: tf.Tensor) -> tf.Tensor:
    """Whether a WebP says that it moves. TensorFlow 2.21's decoder writes beyond its memory for one and may abort."""
    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)[0]
    return tf.equal(tf.strings.substr(head, 12, 4), "VP8X") & tf.not_equal(tf.bitwise.bitwise_and(flags, 2), 0)


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """[2] int32, height and width as the JPEG's header has them; zeros where it is damaged."""
    return _attempt(lambda jpeg: tf.io.extract_jpeg_shape(jpeg)[:2], data, tf.zeros([2], tf.int32))


def _size(head: tf.Tensor, is_png: tf.Tensor) -> tf.Tensor:
    """[2] int32, height and width of a PNG or WebP by its first HEADER bytes; zeros or less for a damaged one."""
    byte = tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=HEADER), tf.int32)

    def number(places: range, shift: int = 0, bits: int = 31) -> tf.Tensor:
        """Little-endian integer of these bytes."""
        value = tf.add_n([tf.bitwise.left_shift(byte[place], 8 * i) for i, place in enumerate(places)])
        return tf.bitwise.bitwise_and(tf.bitwise.right_shift(value, shift), 2**bits - 1)

    def webp() -> tf.Tensor:
        chunk = tf.strings.substr(head, 12, 4)
        extended = tf.stack([number(range(27, 30)), number(range(24, 27))]) + 1
        lossless = tf.stack([number(range(22, 25), 6, 14), number(range(21, 23), 0, 14)]) + 1
        lossy = tf.stack([number(range(28, 30), 0, 14), number(range(26, 28), 0, 14)])
        found = tf.where(tf.equal(chunk, "VP8X"), extended, tf.where(tf.equal(chunk, "VP8L"), lossless, lossy))
        return tf.where(tf.equal(tf.strings.substr(chunk, 0, 3), "VP8"), found, 0)

    # A side of 2^31 or more comes out below 0 and is refused as damage.
    png = tf.stack([tf.bitwise.bitwise_or(number(range(23, 20, -1)), tf.bitwise.left_shift(byte[20], 24)),
                    tf.bitwise.bitwise_or(number(range(19, 16, -1)), tf.bitwise.left_shift(byte[16], 24))])  # fmt: skip
    return tf.cond(is_png, lambda: png, webp)


def _attempt(function: Callable[[tf.Tensor], tf.Tensor], data: tf.Tensor, otherwise: tf.Tensor) -> tf.Tensor:
    """function(data), or `otherwise` where an op in it fails: tf.data alone can go on after that, inside a graph."""

    def on_cpu(given: tf.Tensor) -> tf.Tensor:  # a data set's function does not hear of the device around it
        with tf.device("CPU:0"):
            return function(given)

    tried = tf.data.Dataset.from_tensors(data).map(on_cpu).ignore_errors()
    return tried.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


def _pixels(data: tf.Tensor) -> tf.Tensor:
    """[H, W, 3] uint8, upright, transparent parts on white."""

    def jpeg() -> tf.Tensor:
        return _upright(tf.io.decode_jpeg(data, channels=3), _orientation(data))

    def png() -> tf.Tensor:
        return _on_white(tf.io.decode_png(data, channels=4))

    def webp() -> tf.Tensor:
        """The decoder gives 3 or 4 channels, as the file has them, and refuses to be asked for others."""
        pixels = tf.ensure_shape(tf.io.decode_image(data, expand_animations=False), [None, None, None])
        return tf.cond(tf.equal(tf.shape(pixels)[2], 4), lambda: _on_white(pixels), lambda: pixels)

    is_jpeg, is_png, _ = _kinds(_head(data))
    pixels = tf.cond(is_jpeg, jpeg, lambda: tf.cond(is_png, png, webp))
    return tf.ensure_shape(pixels, [None, None, 3])


def _is_black(data: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Whether a PNG of 16 bits a colour comes out black, since its numbers are those of 12 bits or fewer."""
    deep = is_png(data) & tf.equal(tf.strings.substr(_head(data), 24, 1), b"\x10")  # its bit depth
    return tf.cond(deep, lambda: tf.reduce_max(tf.cast(pixels, tf.int32)) < 16, lambda: False)


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    """[H, W, 3] uint8 of RGBA uint8: c a / 255 + (255 - a), rounded as Pillow rounds it."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]

    def blend() -> tf.Tensor:
        wide, share = tf.cast(colours, tf.uint16), tf.cast(alpha, tf.uint16)
        value = wide * share + 255 * (255 - share) + 128  # at most 255 * 255 + 128: fits
        return tf.cast(tf.bitwise.right_shift(tf.bitwise.right_shift(value, 8) + value, 8), tf.uint8)

    return tf.cond(tf.reduce_all(tf.equal(alpha, 255)), lambda: colours, blend)


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Pixels [H, W, 3] turned back by the value of the EXIF tag, 1 to 8."""

    def among(*values: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(orientation, values))

    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    pixels = tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(pixels, [0]), lambda: pixels)


def _orientation(data: tf.Tensor) -> tf.Tensor:
    """Value of a JPEG's EXIF orientation tag, 1 to 8; 1, as it is, where there is none or it is damaged.

    The EXIF segment is the first one marked FFE1 and "Exif"; in it stands a TIFF header, II or MM, with the place of a
    directory of 12-byte entries: tag, type, count, value.
    """
    byte = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, EXIF_BYTES), tf.uint8), tf.int32)
    byte = tf.concat([byte, tf.zeros([16], tf.int32)], 0)  # so that no place is out of it

    def at(place: tf.Tensor) -> tf.Tensor:
        return tf.gather(byte, tf.clip_by_value(place, 0, tf.size(byte) - 1))

    def two(place: tf.Tensor, little: tf.Tensor | bool = False) -> tf.Tensor:
        return tf.where(little, at(place + 1) * 256 + at(place), at(place) * 256 + at(place + 1))

    def is_exif(place: tf.Tensor) -> tf.Tensor:
        return tf.equal(two(place), 0xFFE1) & tf.equal(two(place + 4), 0x4578) & tf.equal(two(place + 6), 0x6966)

    def goes_on(place: tf.Tensor) -> tf.Tensor:
        """Another segment before the pixels; its two bytes of length count themselves."""
        marked = tf.equal(at(place), 0xFF) & tf.not_equal(at(place + 1), 0xDA) & (two(place + 2) >= 2)
        return marked & ~is_exif(place) & (place < tf.size(byte) - 16)

    start = (tf.constant(2),)
    (place,) = tf.while_loop(goes_on, lambda place: (place + 2 + two(place + 2),), start, maximum_iterations=MAX_PARTS)
    tiff = place + 10
    little = tf.equal(at(tiff), 0x49)
    entries = tiff + tf.where(little, two(tiff + 4, True), two(tiff + 6))  # in a segment: below 65536
    entries += 2 + 12 * tf.range(tf.minimum(two(entries, little), 100))
    found = tf.boolean_mask(two(entries + 8, little), tf.equal(two(entries, little), 0x0112))
    value = tf.concat([found, [1]], 0)[0]
    return tf.where(is_exif(place) & (value >= 1) & (value <= 8), value, 1)
