"""What a picture's file says beside its pixels, inside the graph: its colour profile (ICC), without which a telephone's
photograph, of wide colours, would come back pale, and how coarse a JPEG is, so that it comes back as coarse."""

import tensorflow as tf

from export.serving import reading

MOST = 2**21  # bytes of profiles that are kept: the largest in use have half a megabyte
AFTER_HEADER = {"jpeg": 20, "png": 33}  # bytes of what TensorFlow writes first: start and JFIF; signature and IHDR
ICC = b"ICC_PROFILE\0"
SUM_AT_50 = 3688  # sum of the 64 numbers by which a JPEG of quality 50 divides lightness (ITU-T T.81, table K.1)


def of_jpeg(data: tf.Tensor) -> tf.Tensor:
    """The APP2 segments of a JPEG's bytes that hold its profile, joined; "" where it has none, or one not of RGB.

    Source: ICC.1:2022, B.4: marker, length, "ICC_PROFILE", number and count of the segment, part of the profile, in
    whose first part the colour space stands at 16.
    """

    def step(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        marker, length = _number(data, place, 2), _number(data, place + 2, 2)
        segment = _part(data, place, length + 2)
        whole = tf.equal(tf.strings.length(segment), length + 2)
        is_profile = whole & tf.equal(marker, 0xFFE2) & tf.equal(_part(segment, 4, len(ICC)), ICC)
        goes_on = (marker >= 0xFF00) & tf.not_equal(marker, 0xFFDA) & (length >= 2)
        return place + 2 + length, tf.strings.join([found, tf.where(is_profile, segment, "")]), goes_on

    found = _walk(data, 2, step)
    return tf.where(tf.equal(_part(found, 4 + len(ICC) + 2 + 16, 4), "RGB "), found, "")


def coding_of_jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """How a JPEG's bytes were encoded: the quality, 1 to 100, of an encoder of the IJG that divides as finely, and
    whether colours are as fine as lightness (4:4:4). 95 and True where that cannot be told.

    By the sum of the lightness' table: that of quality 50 times s, where s = 2 - q / 50 from 50 on, and 50 / q below.
    Source: ITU-T T.81, B.2.2 and B.2.4.1.
    """

    def step(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        marker, length = _number(data, place, 2), _number(data, place + 2, 2)
        is_frame = tf.reduce_any(tf.equal(marker, [0xFFC0, 0xFFC1, 0xFFC2]))
        is_table = tf.equal(marker, 0xFFDB) & (length >= 67) & tf.equal(_part(data, place + 4, 1), b"\0")  # of bytes, 0
        is_table &= tf.equal(found, "")
        part = tf.where(is_table, _part(data, place + 5, 64), tf.where(is_frame, _part(data, place + 11, 1), ""))
        goes_on = (marker >= 0xFF00) & tf.not_equal(marker, 0xFFDA) & (length >= 2) & ~is_frame
        return place + 2 + length, tf.strings.join([found, part]), goes_on

    found = _walk(data, 2, step)  # 64 numbers of the table and the first colour's sampling, four bits across, four down
    numbers = tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=65), tf.float32)
    total = tf.reduce_sum(numbers[:64])
    share = tf.maximum(total, 1.0) / SUM_AT_50
    quality = tf.where(share <= 1.0, 100.0 - 50.0 * share, 50.0 / share)
    quality = tf.where(total <= 64.0, 100.0, quality)  # all numbers are 1: no finer is possible
    known = tf.equal(tf.strings.length(found), 65)
    quality = tf.where(known, tf.clip_by_value(tf.cast(tf.round(quality), tf.int32), 1, 100), 95)
    return quality, ~known | tf.equal(numbers[64], 0x11)


def of_png(data: tf.Tensor) -> tf.Tensor:
    """The iCCP chunk of a PNG's bytes; "" where it has none, or is grey. Source: PNG specification, 11.3.2.3."""

    def step(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length, kind = _number(data, place, 4), _part(data, place + 4, 4)
        goes_on = tf.not_equal(kind, "IDAT") & (length >= 0) & (length <= MOST)
        size = 12 + tf.clip_by_value(length, 0, MOST)
        chunk = _part(data, place, size)
        is_profile = goes_on & tf.equal(kind, "iCCP") & tf.equal(tf.strings.length(chunk), size)
        return place + size, tf.strings.join([found, tf.where(is_profile, chunk, "")]), goes_on

    grey = tf.equal(tf.bitwise.bitwise_and(_number(data, 25, 1), 2), 0)  # the colour type's bit for colours
    return tf.where(grey, "", _walk(data, 8, step))


def put(encoded: tf.Tensor, profile: tf.Tensor, kind: str) -> tf.Tensor:
    """A file that TensorFlow encoded ("jpeg" or "png"), with the profile of one of the same kind."""
    place = AFTER_HEADER[kind]
    first, rest = tf.strings.substr(encoded, 0, place), tf.strings.substr(encoded, place, 2**31 - 1)
    return tf.strings.join([first, profile, rest])


def _walk(data: tf.Tensor, start: int, step) -> tf.Tensor:
    """What `step` collects from part to part of a file, until it says to stop or the file ends, or has had too many."""
    size = tf.strings.length(data)

    def goes_on(place: tf.Tensor, found: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
        return more & (place >= 0) & (place + 12 <= size) & (tf.strings.length(found) <= MOST)

    begin, most = (start, "", True), reading.MAX_PARTS
    _, found, _ = tf.while_loop(goes_on, lambda place, found, _: step(place, found), begin, maximum_iterations=most)
    return tf.where(tf.strings.length(found) <= MOST, found, "")


def _part(data: tf.Tensor, place: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Bytes of a string, fewer where it ends before."""
    place = tf.minimum(place, tf.strings.length(data))
    return tf.strings.substr(data, place, length)


def _number(data: tf.Tensor, place: tf.Tensor | int, count: int) -> tf.Tensor:
    """The big-endian integer of `count` bytes, which lie in the file; of four, below 0 from 2^31 on."""
    value, found = tf.constant(0), tf.io.decode_raw(_part(data, place, count), tf.uint8, fixed_length=count)
    for byte in tf.unstack(tf.cast(found, tf.int32)):
        value = tf.bitwise.bitwise_or(tf.bitwise.left_shift(value, 8), byte)
    return value
