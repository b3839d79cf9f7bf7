"""An edit carried up to its photograph: numpy against formulas and a slower second version, TensorFlow and the page's
JavaScript against numpy."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import carry as benchmark
from export.serving import carrying
from simgan_tf import carry
from tests import plain
from tests.tiny import node

SIZES = {  # height, width of a photograph and of its small picture
    "usual": (90, 141, 16, 24),
    "long": (100, 3000, 16, 480),
    "upright and long": (640, 33, 320, 16),
    "smaller than the small one": (9, 13, 16, 24),
    "of the small one's size": (16, 24, 16, 24),
    "a row": (1, 50, 4, 20),
    "one small pixel": (7, 5, 1, 1),
}
SPECS = [tf.TensorSpec([None, None, 3], dtype) for dtype in (tf.uint8, tf.float32, tf.float32)]
in_graph = tf.function(carrying.carry, input_signature=SPECS, autograph=False)


def drawn(size, seed=0, flat=()):
    """(photo, small, edited) of noise; channels of `flat` are the same everywhere in small, so that nothing varies."""
    height, width, h, w = size
    draw = np.random.default_rng(seed)
    photo = draw.integers(0, 256, [height, width, 3], dtype=np.uint8)
    small, edited = draw.uniform(-1, 1, [2, h, w, 3]).astype(np.float32)
    small[..., list(flat)] = 0.25
    return photo, small, edited


def in_javascript(photo, small, edited, strip=10**9):
    """carry.js on the same picture, `strip` rows at a time; the alpha bytes have to come back as they went."""
    height, width = photo.shape[:2]
    alpha = np.random.default_rng(1).integers(0, 256, [height, width, 1], dtype=np.uint8)
    value = {"bytes": np.concatenate([photo, alpha], 2).ravel().tolist(), "width": width, "height": height,
             "small": small.ravel().tolist(), "edited": edited.ravel().tolist(),
             "w": small.shape[1], "h": small.shape[0], "strip": strip}  # fmt: skip
    found = node(
        """
        const bytes = Uint8ClampedArray.from(value.bytes), { width, height, strip } = value;
        const fitted = carry.fit(value.small, value.edited, value.w, value.h);
        for (let top = 0; top < height; top += strip) {
          const end = Math.min(top + strip, height);
          carry.apply(fitted, bytes.subarray(4 * width * top, 4 * width * end), width, height, top);
        }
        answer = Array.from(bytes);
        """,
        value,
    )
    found = np.array(found, np.uint8).reshape(height, width, 4)
    np.testing.assert_array_equal(found[..., 3:], alpha)
    return found[..., :3]


def largest(first, second):
    assert first.shape == second.shape and first.dtype == second.dtype == np.uint8
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def slowly(small, edited):
    """Maps of simgan_tf.carry.fit, each window's by least squares: EPSILON of the pixels' number is a row for each
    slope, and the offset has none. Then the slopes are scaled so that the window's contrast, the root of its new
    variance over its old one (EPSILON a channel as the variance of noise in both), is 1 if twice or half does. Then all
    of them again, by 1.25 at most, so that what a mean of 3x3 takes from the small picture is as strong as before;
    then a share of what a mean of 3x3 finds still missing of the edit is added: half of it while the mean absolute
    error in [-1, 1] is below 0.03, all of it from 0.06 on, in proportion between."""
    h, w = small.shape[:2]

    def window(array, row, column, radius):
        return array[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]

    def smooth(array):
        return np.array([[window(array, i, j, carry.SMOOTH).mean((0, 1)) for j in range(w)] for i in range(h)])

    x, d = smooth(small.astype(np.float64)), smooth(edited.astype(np.float64) - small)
    fits = np.empty([h, w, 4, 3])
    for i in range(h):
        for j in range(w):
            inputs = window(x, i, j, carry.RADIUS).reshape(-1, 3)
            outputs = window(d, i, j, carry.RADIUS).reshape(-1, 3)
            rows = np.concatenate([inputs, np.ones([len(inputs), 1])], 1)
            ridge = np.sqrt(carry.EPSILON * len(inputs)) * np.eye(4)[:3]
            wanted = np.concatenate([outputs, np.zeros([3, 3])])
            found = np.linalg.lstsq(np.concatenate([rows, ridge]), wanted, rcond=None)[0]
            turned = np.eye(3) + found[:3]
            noise = carry.EPSILON * (turned**2).sum(), carry.EPSILON * 3
            after, before = ((values.var(0).sum() + more) ** 0.5 for values, more in
                             zip((inputs @ turned, inputs), noise, strict=True))  # fmt: skip
            turned *= min(max(before / after, 1 / 2), 2)
            found[:3] = turned - np.eye(3)
            fits[i, j] = [*found[:3], outputs.mean(0) - inputs.mean(0) @ found[:3]]
    maps = np.array([[window(fits, i, j, carry.RADIUS).mean((0, 1)) for j in range(w)] for i in range(h)])
    old = small.astype(np.float64)

    def new():
        return old + np.array([[old[i, j] @ maps[i, j, :3] + maps[i, j, 3] for j in range(w)] for i in range(h)])

    before, after = (np.std(image - smooth(image)) ** 2 + np.mean(image - smooth(image)) ** 2 for image in (old, new()))
    factor = min(max(np.sqrt((before + 1e-9) / (after + 1e-9)), 1 / 1.25), 1.25)
    middle = smooth(old)  # a pixel of this colour stays what the maps make of it
    for i, j in np.ndindex(h, w):
        kept = middle[i, j] @ (np.eye(3) + maps[i, j, :3]) + maps[i, j, 3]
        maps[i, j, :3] = factor * (np.eye(3) + maps[i, j, :3]) - np.eye(3)
        maps[i, j, 3] = kept - middle[i, j] @ (np.eye(3) + maps[i, j, :3])
    missing = edited.astype(np.float64) - new()
    error = np.mean(np.abs(missing))
    maps[..., 3, :] += (0.5 if error < 0.03 else 1 if error > 0.06 else error / 0.06) * smooth(missing)
    return maps


def at_once(photo, maps):
    """The photograph under maps, all of it at once, every one of the twelve interpolated by np.interp."""
    height, width = photo.shape[:2]
    h, w = maps.shape[:2]
    rows, columns = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((height, h), (width, w)))
    full = maps.reshape(h, w, 12).astype(np.float64)
    full = np.apply_along_axis(lambda line: np.interp(rows, np.arange(h), line), 0, full)
    full = np.apply_along_axis(lambda line: np.interp(columns, np.arange(w), line), 1, full)
    full = full.reshape(height, width, 4, 3)
    x = photo / 127.5 - 1
    x = x + (x[..., None] * full[..., :3, :]).sum(2) + full[..., 3, :]
    return np.clip(np.round(127.5 * (x + 1)), 0, 255).astype(np.uint8)


# ---- numpy ----


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_an_edit_that_changes_nothing_gives_the_photograph(size):
    photo, small, _ = drawn(size)
    np.testing.assert_array_equal(carry.carry(photo, small, small), photo)
    np.testing.assert_array_equal(in_graph(photo, small, small).numpy(), photo)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_change_that_is_the_same_everywhere(size):
    """40/127.5 more red and 30/127.5 less blue: 40 and 30 of 255, cut off at both ends; nothing of it varies with x."""
    photo, small, _ = drawn(size)
    edited = small + np.array([40, 0, -30], np.float32) / 127.5
    expected = np.clip(photo.astype(int) + [40, 0, -30], 0, 255).astype(np.uint8)
    assert largest(carry.carry(photo, small, edited), expected) == 0
    assert largest(in_graph(photo, small, edited).numpy(), expected) == 0


def test_swapped_colours_are_swapped_in_the_photographs_detail(monkeypatch):
    """Red rises by 0.08 a column, blue by 0.1 a row, green is even; the edit swaps red and blue.

    A window's variances are 2 * 0.08^2 = 0.0128 and 2 * 0.1^2 = 0.02, its covariance 0: slopes are 0.0128 / 0.0138 and
    0.02 / 0.021, to which the two means around add nothing on a slope. So a photograph's pixel x over a small one m is
    m with red and blue swapped, and its differences from m, swapped and times that, at the contrast that they had.
    """
    monkeypatch.setattr(carry, "GAIN_OF_ALL", 1.0)  # the small picture's only finest detail is at its edges
    rows, columns = np.mgrid[0:16, 0:24].astype(np.float32)
    small = np.stack([0.08 * (columns - 12), np.full_like(rows, 0.25), 0.1 * (rows - 8)], axis=2)
    photo = drawn(SIZES["of the small one's size"])[0]
    inner = (slice(5, -5), slice(5, -5))  # beyond the reach of the edges, where means are of fewer pixels
    red, green, blue = np.moveaxis(photo / 127.5 - 1 - small, 2, 0)
    a, b = 0.0128 / 0.0138, 0.02 / 0.021
    after = 0.0138 * ((1 - a) ** 2 + a**2) + 0.001 + 0.021 * (b**2 + (1 - b) ** 2)
    gain = ((0.0138 + 0.001 + 0.021) / after) ** 0.5
    assert 1 < gain < 2
    expected = [small[..., 2] + gain * ((1 - a) * red + b * blue), small[..., 1] + gain * green,
                small[..., 0] + gain * (a * red + (1 - b) * blue)]  # fmt: skip
    expected = np.clip(np.round(127.5 * (np.stack(expected, axis=2) + 1)), 0, 255).astype(np.uint8)
    found = carry.carry(photo, small, small[..., ::-1])
    assert largest(found[inner], expected[inner]) <= 1  # at halves
    assert (found[inner] != expected[inner]).mean() < 0.01


SHAPES = [(16, 16), (16, 24), (24, 16), (16, 60), (200, 16)]


@pytest.mark.parametrize("shape", SHAPES)
def test_squares_cover_a_picture_and_fade_into_each_other(shape):
    """An edit that is the picture itself gives it back; each place is a mean of the squares that it lies in."""
    small = np.random.default_rng(0).integers(0, 256, [*shape, 3]).astype(np.uint8)
    np.testing.assert_allclose(carry.in_squares(small, 16, lambda square: square), small, atol=1e-4)
    starts = []

    def numbered(square):
        assert square.shape == (16, 16, 3)
        starts.append(square)
        return np.full_like(square, len(starts) % 200)

    levels = carry.in_squares(small, 16, numbered)
    assert len(starts) == -(-max(shape) // 16) and levels.min() >= 1 and levels.max() <= len(starts)


@pytest.mark.parametrize("shape", SHAPES)
def test_squares_are_a_weighted_sum(shape):
    """By numpy, and of two edits at once by TensorFlow, of a size that the graph does not know; against the sum."""
    small = np.random.default_rng(1).uniform(-1, 1, [*shape, 3]).astype(np.float32)
    ramp = np.arange(16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3) / 400  # other at every place of a square

    def edit(square):
        return np.sin(square * ramp) + square.mean()

    wanted = plain.in_squares(small, edit)
    np.testing.assert_allclose(carry.in_squares(small, 16, edit), wanted, atol=1e-5)

    def edits(square):
        made = tf.sin(square * ramp) + tf.reduce_mean(square)
        return tf.stack([made, -made])

    spec = [tf.TensorSpec([None, None, 3])]
    graph = tf.function(lambda image: carrying.in_squares(image, 16, edits, 2), input_signature=spec, autograph=False)
    np.testing.assert_allclose(graph(small), [wanted, -wanted], atol=1e-5)


@pytest.mark.parametrize("amount", [1, 0.06, 0.02])  # all of what the rules miss, about 0.6 of it, half of it
@pytest.mark.parametrize("flat", [(), (1,), (0, 1, 2)])
def test_fit_is_least_squares_in_every_window(flat, amount):
    _, small, edited = drawn((1, 1, 7, 10), flat=flat)
    edited = small + np.float32(amount) * (edited - small)
    np.testing.assert_allclose(carry.fit(small, edited), slowly(small, edited), atol=1e-5)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_in_bands_as_at_once(size):
    photo, small, edited = drawn(size)
    found, expected = carry.carry(photo, small, edited), at_once(photo, carry.fit(small, edited))
    assert largest(found, expected) <= 1  # float32 against float64, at halves
    assert (found != expected).mean() < 1e-3


def test_strength_is_the_share_of_the_change():
    """Of 0 the photograph itself; of a half the mean of it and the whole edit, where nothing is cut off at 0 or 255."""
    photo, small, edited = drawn((40, 30, 12, 9))
    photo, edited = photo // 3 + 80, small + 0.1 * (edited - small)
    np.testing.assert_array_equal(carry.carry(photo, small, edited, 0.0), photo)
    whole, half = carry.carry(photo, small, edited), carry.carry(photo, small, edited, 0.5)
    inside = (whole > 0) & (whole < 255)
    assert inside.mean() > 0.9
    assert np.abs(half[inside] - (photo[inside].astype(float) + whole[inside]) / 2).max() <= 1


def test_detail_is_not_lost_where_the_edit_is_flat():
    """A grey picture of noise edited to one red: its own contrast stays, its mean is the red of the edit."""
    draw = np.random.default_rng(0)
    small = np.repeat(draw.normal(0, 0.2, [24, 24, 1]), 3, axis=2).astype(np.float32)
    edited = np.broadcast_to(np.float32([0.4, -0.3, -0.3]), small.shape)
    photo = np.round(127.5 * (small.repeat(8, 0).repeat(8, 1) + 1)).clip(0, 255).astype(np.uint8)
    made = carry.carry(photo, small, edited)
    np.testing.assert_allclose(made.mean((0, 1)) / 127.5 - 1, [0.4, -0.3, -0.3], atol=0.03)
    inner = carry.fit(small, edited)[4:-4, 4:-4]
    kept = 1.6 * (carry.EPSILON / (carry.EPSILON + 0.2**2 / 9))  # rows of A near -1 leave little to be multiplied
    assert made.std() / photo.std() > kept and np.isfinite(inner).all()


def test_memory_beside_the_photograph():
    """6 million pixels: the result is 18 MB; as float32 at once the photograph alone would be 72."""
    photo, small, edited = drawn((2000, 3000, 128, 192))
    tracemalloc.start()
    carry.carry(photo, small, edited)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < photo.nbytes + 600 * 128 * 192 + 10e6


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (3000, 4000, 128, (128, 172)),  # 4000 * 128 / 3000 = 170.7, and 172 is the nearest multiple of 4
        (4000, 3000, 64, (84, 64)),  # 85.3
        (100, 3000, 128, (128, 3840)),
        (500, 501, 256, (256, 256)),  # 256.5
        (8, 160, 64, (64, 1280)),
    ],
)
def test_small_size(height, width, size, expected):
    assert carry.small_size(height, width, size) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda photo, small, edited: (photo[..., 0], small, edited), r"photo is \(90, 141\) uint8"),
        (lambda photo, small, edited: (photo.astype(np.float32), small, edited), r"\(90, 141, 3\) float32"),
        (lambda photo, small, edited: (photo, small, edited[1:]), r"small is \(16, 24, 3\), edited \(15, 24, 3\)"),
        (lambda photo, small, edited: (photo, small, edited * np.float32(np.nan)), "not finite"),
    ],
)
def test_what_is_no_edit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        carry.carry(*change(*drawn(SIZES["usual"])))


# ---- TensorFlow ----


@pytest.mark.parametrize("flat", [(), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_in_the_graph_as_in_numpy(size, flat):
    photo, small, edited = drawn(size, flat=flat)
    assert largest(in_graph(photo, small, edited).numpy(), carry.carry(photo, small, edited)) <= 1


def test_in_the_graph_over_several_bands_and_sizes_in_one_trace():
    for size in ((carrying.ROWS, 8, 16, 16), (2 * carrying.ROWS + 1, 8, 16, 16)):
        photo, small, edited = drawn(size)
        assert largest(in_graph(photo, small, edited).numpy(), carry.carry(photo, small, edited)) <= 1
    assert in_graph.experimental_get_tracing_count() == 1


def of_pixels(small, edited):
    """Maps of carry.fit as graph and page have them, of pixels 0 to 255: nine slopes and three offsets, [h, w, 12]."""
    maps = carry.fit(small, edited)
    offsets = 127.5 * (maps[..., 3, :] - maps[..., :3, :].sum(axis=-2))
    return np.concatenate([maps[..., :3, :].reshape(*maps.shape[:2], 9), offsets], axis=-1)


AMOUNTS = [1, 0.06, 0.02]  # all of what the rules miss is given back, about 0.6 of it, half of it


@pytest.mark.parametrize("amount", AMOUNTS)
def test_maps_of_the_graph(amount):
    _, small, edited = drawn((1, 1, 7, 10))
    edited = small + np.float32(amount) * (edited - small)
    found = np.moveaxis(carrying.fit(tf.constant(small), tf.constant(edited)).numpy(), 0, -1)
    np.testing.assert_allclose(found, of_pixels(small, edited), atol=1e-3 * amount)


# ---- JavaScript ----


@pytest.mark.parametrize("amount", AMOUNTS)
def test_maps_of_the_page(amount):
    _, small, edited = drawn((1, 1, 7, 10))
    edited = small + np.float32(amount) * (edited - small)
    value = {"small": small.ravel().tolist(), "edited": edited.ravel().tolist()}
    found = node("answer = Array.from(carry.fit(value.small, value.edited, 10, 7).maps);", value)
    np.testing.assert_allclose(np.reshape(found, [7, 10, 12]), of_pixels(small, edited), atol=1e-3 * amount)


@pytest.mark.parametrize(("name", "flat"), [(name, ()) for name in SIZES if name != "long"] + [("usual", (0, 1, 2))])
def test_in_javascript_as_in_numpy(name, flat):
    photo, small, edited = drawn(SIZES[name], flat=flat)
    assert largest(in_javascript(photo, small, edited), carry.carry(photo, small, edited)) <= 1


def test_strips_in_javascript_are_the_whole():
    photo, small, edited = drawn(SIZES["usual"])
    whole = in_javascript(photo, small, edited)
    assert largest(in_javascript(photo, small, edited, strip=7), whole) == 0


def test_nothing_changed_in_javascript():
    photo, small, _ = drawn(SIZES["usual"])
    assert largest(in_javascript(photo, small, small), photo) == 0


def test_no_number_in_javascript():
    script = "try { carry.fit([0, 0, 0], [0, NaN, 0], 1, 1); } catch (error) { answer = error.message; }"
    assert "not numbers" in node(script, {})


# ---- a part put back ----


def boxes():
    """Boxes in 40 rows of 60 pixels: inside, at an edge, at a corner, all of it, as small as may be, flat."""
    return [(10, 8, 32, 16), (0, 8, 24, 20), (30, 20, 30, 20), (0, 0, 60, 40), (7, 9, 8, 8), (3, 4, 50, 9)]


def test_a_part_fades_in_along_its_border():
    """A box of 32x16 has a border of 16/8 = 2 pixels: shares t^2 (3 - 2 t) at 0.5/2 and 1.5/2, 5/32 and 27/32."""
    photo, part = np.zeros([40, 60, 3], np.uint8), np.full([16, 32, 3], 200, np.uint8)
    result = carry.put_back(photo, part, (10, 8, 32, 16))
    shares = np.array([5 / 32, 27 / 32, *[1] * 28, 27 / 32, 5 / 32])
    np.testing.assert_array_equal(result[16, 10:42, 0], np.floor(200 * shares + 0.5))
    np.testing.assert_array_equal(result[8:24, 20, 1], np.floor(200 * shares[[0, 1, *[2] * 12, -2, -1]] + 0.5))
    assert result[8, 10, 2] == round(200 * (5 / 32) ** 2)
    result[8:24, 10:42] = 0
    assert not result.any() and not photo.any()


def test_a_side_on_the_photographs_edge_does_not_fade():
    photo, part = np.zeros([40, 60, 3], np.uint8), np.full([40, 24, 3], 200, np.uint8)
    result = carry.put_back(photo, part, (0, 0, 24, 40))
    assert (result[:, :21] == 200).all() and (np.diff(result[:, 20:25, 0].astype(int)) < 0).all()
    np.testing.assert_array_equal(carry.put_back(photo, np.full_like(photo, 9), (0, 0, 60, 40)), np.full_like(photo, 9))


@pytest.mark.parametrize("box", boxes())
def test_a_part_that_is_the_same_changes_nothing(box):
    photo = drawn((40, 60, 4, 4))[0]
    x, y, width, height = box
    np.testing.assert_array_equal(carry.put_back(photo, photo[y : y + height, x : x + width], box), photo)


@pytest.mark.parametrize("box", boxes())
def test_a_part_put_back_in_javascript(box):
    photo, part = drawn((40, 60, 4, 4))[0], drawn((box[3], box[2], 4, 4), seed=1)[0]

    def rgba(pixels):
        return np.pad(pixels, [(0, 0), (0, 0), (0, 1)], constant_values=255).ravel().tolist()

    named = dict(zip(("x", "y", "width", "height"), box, strict=True))
    found = node(
        """
        const bytes = Uint8ClampedArray.from(value.bytes);
        carry.putBack(bytes, 60, 40, Uint8ClampedArray.from(value.part), value.box);
        answer = Array.from(bytes);
        """,
        {"bytes": rgba(photo), "part": rgba(part), "box": named},
    )
    found = np.array(found, np.uint8).reshape(40, 60, 4)
    assert largest(found[..., :3], carry.put_back(photo, part, box)) <= 1
    assert (found[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("box", "shape", "message"),
    [
        ((40, 10, 21, 10), (10, 21, 3), r"box 40,10,21,10 .* inside the photograph of 60x40"),
        ((-1, 0, 9, 9), (9, 9, 3), r"box -1,0,9,9 .* inside the photograph of 60x40"),
        ((0, 0, 7, 9), (9, 7, 3), "sides of 8 or more"),
        ((0, 0, 8, 9), (8, 9, 3), r"part is \(8, 9, 3\), must be \(9, 8, 3\)"),
    ],
)
def test_a_box_outside_is_refused(box, shape, message):
    with pytest.raises(ValueError, match=message):
        carry.put_back(np.zeros([40, 60, 3], np.uint8), np.zeros(shape, np.uint8), box)


# ---- what measures them ----


@pytest.mark.parametrize("name", benchmark.CARRIERS)
def test_every_carrier_carries_a_change_that_is_the_same_everywhere(name):
    photo, small, _ = drawn(SIZES["usual"])
    carrier = benchmark.CARRIERS[name]
    assert largest(carrier(photo, small, small), photo) == 0
    found = carrier(photo, small, small + np.float32(40 / 127.5))
    assert largest(found, np.clip(photo.astype(int) + 40, 0, 255).astype(np.uint8)) <= 1


def test_halo_of_a_fringe_along_an_edge():
    """A dark half beside a bright one; all pixels near the edge are 20 brighter: every counted pair is 20 apart."""
    photo = np.full([60, 100, 3], 30, np.uint8)
    photo[:, 50:] = 180
    edge = benchmark.near_edges(photo, 4)
    assert edge[:, 46:54].all() and not edge[:, :30].any() and not edge[:, 70:].any()
    fringed = photo + np.uint8(20) * edge[..., None]
    assert benchmark.halo(fringed, photo, edge, 8) == 20
    assert benchmark.halo(photo, photo, edge, 8) == 0
    assert benchmark.halo(photo // 2, photo, edge, 8) == 0


def test_detail_of_half_the_contrast():
    photo = drawn((80, 120, 1, 1))[0] // 2 * 2
    whole, half = (benchmark.detail(image, 16, 24) for image in (photo, photo // 2))
    np.testing.assert_allclose(half, whole / 2, atol=1)  # the smooth part is rounded
    assert 35 < whole.std() < 75  # noise of standard deviation 74 less its mean over some pixels


def test_lists_of_photographs(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\nb c.jpg\tmask.png\n\n")
    assert benchmark.read_list(str(path)) == [("a.jpg", ""), ("b c.jpg", "mask.png")]
    path.write_text("\n")
    with pytest.raises(ValueError, match="list.txt must have a photograph's path a line"):
        benchmark.read_list(str(path))
