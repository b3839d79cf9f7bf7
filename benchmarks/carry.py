"""Ways to carry an edit up to its photograph, on real photographs: sharpness, halos, background, time and memory.

python -m benchmarks.carry --pretrained=flowers128 --pictures=list.txt [--carrier=...] [--show=FOLDER]

list.txt has a photograph's path a line, after a tab that of its mask where there is one (white = subject). The pictures
are edited by the model's own sentences in turn. One JSON line a carrier; numbers are means over the pictures, of 255,
where nothing else is said.
sharpness: detail finer than the small pixels, root mean square, result over source: [10 %, median, 90 % of pictures].
halo: mean over pairs of pixels two small ones apart, one within a small pixel of a strong edge, the other not, alike in
    the source (within 8 of 255): how much farther apart they are in the result. A fringe along edges makes them so.
back: L1 in [0, 1] between the result, made small again, and G's edit: [mean, 90 % of pictures].
background, small_background: change of the pixels outside of the mask, in the result and in the small edit itself.
leak, inside: the subject alone is recoloured at full size (red and blue swapped) and this made small, carried and
    compared with the truth, within two small pixels of the mask's border: outside of it, inside.
double: L1 to what G makes of twice the size, near strong edges and elsewhere; small pictures are a fourth of it.
seconds, cpu_seconds, peak_mb: of 12 million pixels and a small picture of 128; median of 3, of fewer where one takes
    over 5 seconds; numpy's memory beside the photograph, the result included.
"""

import functools
import json
import os
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from absl import flags
from PIL import Image
from scipy import ndimage

from benchmarks import turns
from simgan_tf import carry
from simgan_tf.edit import Editor, small_picture
from simgan_tf.system import commands
from simgan_tf.system.pictures import to_pixels

Carrier = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # photo, small, edited -> full
LARGE = (3000, 4000)


def difference(photo: np.ndarray, small: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """The difference, interpolated linearly and added."""
    maps = np.zeros([*small.shape[:2], 4, 3], np.float32)
    maps[..., 3, :] = edited - small
    return carry.apply(photo, maps)


def guided(smooth: int, radius: int, epsilon: float, exact: bool = False) -> Carrier:
    """`carry.fit` of other settings; exact: with what it leaves of the small edit, so that this is met exactly."""

    def run(photo: np.ndarray, small: np.ndarray, edited: np.ndarray) -> np.ndarray:
        maps = carry.fit(small, edited, smooth, radius, epsilon)
        if exact:
            maps[..., 3, :] = edited - small - (small[..., None, :] @ maps[..., :3, :])[..., 0, :]
        return carry.apply(photo, maps)

    return run


def bilateral(cell: int, bins: int, epsilon: float, rows: int = 64) -> Carrier:
    """A bilateral grid of affine changes, fitted cell by cell.

    Source: Chen et al., Bilateral Guided Upsampling (2016): its fast fit, of the change as `carry.fit`.

    cell: small pixels between its points.   bins: points along the lightness.   rows: of the photograph at a time.
    """

    def places(shape: tuple[int, int], small: tuple[int, int], first: int, image: np.ndarray) -> list[np.ndarray]:
        height, width = image.shape[:2]
        y = (first + np.arange(height) + 0.5) * small[0] / shape[0] / cell
        x = (np.arange(width) + 0.5) * small[1] / shape[1] / cell
        y, x = np.broadcast_arrays(y[:, None], x[None])
        return [y, x, np.clip((image.mean(-1) + 1) / 2, 0, 1) * (bins - 1)]

    def fit(small: np.ndarray, edited: np.ndarray) -> np.ndarray:  # [gh, gw, bins, 4, 3]
        h, w = small.shape[:2]
        grid = np.zeros([-(-h // cell) + 1, -(-w // cell) + 1, bins, 4, 7])
        one = np.concatenate([small, np.ones([h, w, 1])], 2)
        moments = one[..., :, None] * np.concatenate([one, edited - small], 2)[..., None, :]
        where = places((h, w), (h, w), 0, small)
        first = [np.minimum(axis.astype(int), n - 2) for axis, n in zip(where, grid.shape, strict=False)]
        for corner in np.ndindex(2, 2, 2):
            share = np.prod([1 - np.abs(a - f - c) for a, f, c in zip(where, first, corner, strict=True)], axis=0)
            np.add.at(grid, tuple(f + c for f, c in zip(first, corner, strict=True)), share[..., None, None] * moments)
        for axis in range(3):
            grid = ndimage.convolve1d(grid, [0.25, 0.5, 0.25], axis=axis, mode="constant")
        grid += 0.01 * grid.mean(axis=2, keepdims=True)  # a lightness that is nowhere near changes as the others there
        ridge = epsilon * grid[..., 3:, 3:4] * np.diag([1, 1, 1, 0]) + 1e-6 * np.eye(4)
        return np.linalg.solve(grid[..., :4] + ridge, grid[..., 4:])

    def run(photo: np.ndarray, small: np.ndarray, edited: np.ndarray) -> np.ndarray:
        grid = fit(small.astype(np.float64), edited.astype(np.float64))
        full = np.empty_like(photo)
        for top in range(0, len(photo), rows):
            x = photo[top : top + rows] / 127.5 - 1
            where = places(photo.shape[:2], small.shape[:2], top, x)
            result = x.copy()
            for k in range(4):
                for c in range(3):
                    part = ndimage.map_coordinates(grid[..., k, c], where, order=1, mode="nearest")
                    result[..., c] += part * x[..., k] if k < 3 else part
            full[top : top + rows] = np.clip(127.5 * (result + 1) + 0.5, 0, 255)
        return full

    return run


CARRIERS: dict[str, Carrier] = {
    "difference": difference,
    "guided": carry.carry,
    "guided, radius 4": guided(carry.SMOOTH, 4, carry.EPSILON),
    "guided, not smoothed, radius 4": guided(0, 4, carry.EPSILON),
    "guided, exact": guided(carry.SMOOTH, carry.RADIUS, carry.EPSILON, exact=True),
    "bilateral, cells of 4": bilateral(4, 8, carry.EPSILON),
}


def shrink(photo: np.ndarray, h: int, w: int) -> np.ndarray:
    """[h, w, C] float32 in [-1, 1] of [H, W, C] pixels, antialiased, not rounded."""
    channels = [Image.fromarray(photo[..., c].astype(np.float32)) for c in range(photo.shape[2])]
    small = [np.asarray(channel.resize((w, h), Image.Resampling.BILINEAR)) for channel in channels]
    return np.stack(small, axis=2) / np.float32(127.5) - np.float32(1)


def detail(photo: np.ndarray, h: int, w: int) -> np.ndarray:
    """What of [H, W, 3] pixels is lost when they are made as small and large again."""
    maps = np.zeros([h, w, 4, 3], np.float32)
    maps[..., 3, :] = shrink(photo, h, w) + 1
    return photo.astype(np.float32) - carry.apply(np.zeros_like(photo), maps)


def near_edges(photo: np.ndarray, reach: int) -> np.ndarray:
    """[H, W] bool: within `reach` pixels of the tenth of all pixels whose lightness changes most steeply."""
    steep = ndimage.gaussian_gradient_magnitude(photo.mean(2), 1.0)
    return ndimage.maximum_filter(steep > np.quantile(steep, 0.9), 2 * reach + 1)


def halo(full: np.ndarray, photo: np.ndarray, edge: np.ndarray, apart: int) -> float:
    """See above. edge: [H, W] bool of `near_edges`."""
    before, after = photo.astype(np.int16), full.astype(np.int16)
    farther = []
    for axis in (0, 1):
        first, second = ((end,) if axis == 0 else (np.s_[:], end) for end in (np.s_[:-apart], np.s_[apart:]))
        was = np.abs(before[first] - before[second])
        alike = (edge[first] != edge[second]) & (was.max(2) <= 8)
        farther.append((np.abs(after[first] - after[second]).mean(2) - was.mean(2))[alike])
    farther = np.concatenate(farther)
    return float(farther.mean()) if len(farther) else np.nan


@functools.lru_cache(maxsize=1)
def large() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    h, w = carry.small_size(*LARGE, 128)
    photo = draw.integers(0, 256, [*LARGE, 3], dtype=np.uint8)
    return photo, *draw.uniform(-1, 1, [2, h, w, 3]).astype(np.float32)


def cost(run: Carrier) -> dict[str, float]:
    found: list[tuple[float, float]] = []
    while len(found) < 3 and sum(seconds for seconds, _ in found) < 5:
        began, processor = time.perf_counter(), time.process_time()
        run(*large())
        found.append((time.perf_counter() - began, time.process_time() - processor))
    tracemalloc.start()
    run(*large())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds, processor = (round(float(value), 2) for value in np.median(found, axis=0))
    return {"seconds": seconds, "cpu_seconds": processor, "peak_mb": round(peak / 1e6)}


def read_list(path: str) -> list[tuple[str, str]]:
    """(photograph, mask or "") of each line. Raises: ValueError where there is none; OSError."""
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    if not lines or any(len(line) > 2 for line in lines):
        raise ValueError(f"--pictures={path} must have a photograph's path a line, and after a tab that of its mask.")
    return [(line[0], line[1] if len(line) == 2 else "") for line in lines]


def measure(editor: Editor, pairs: list[tuple[str, str]], names: list[str], show: str | None) -> dict[str, list[dict]]:
    """For each carrier of `names` the numbers of each picture."""
    size, sentences = editor.config.image_size, editor.config.sentences
    found: dict[str, list[dict]] = {name: [] for name in names}
    for number, (path, mask_path) in enumerate(pairs):
        photo = np.asarray(Image.open(path).convert("RGB"))
        h, w = carry.small_size(*photo.shape[:2], size)
        small, text = small_picture(photo, size), sentences[number % len(sentences)]
        edited = carry.in_squares(small, size, lambda square, text=text: editor.edit(square, text)[0])
        twice = shrink(photo, 2 * h, 2 * w)
        truth = carry.in_squares(twice, 2 * size, lambda square, text=text: editor.edit(square, text)[0])
        truth, twice = to_pixels(truth), to_pixels(twice)
        fourths = [shrink(image, h // 2, w // 2) for image in (twice, truth)]
        scale = photo.shape[1] / w
        edge, edge_of_twice, fine = near_edges(photo, round(scale)), near_edges(twice, 3), detail(photo, h, w)
        if mask_path:
            mask = np.asarray(Image.open(mask_path).convert("L"), np.float32) / 255
            around = (mask == 0) & (ndimage.distance_transform_edt(mask <= 0.5) <= 2 * scale)
            inside = (mask == 1) & (ndimage.distance_transform_edt(mask > 0.5) <= 2 * scale)
            small_around = shrink(255 * mask[..., None], h, w)[..., 0] == -1
            swapped = photo + mask[..., None] * (photo[..., ::-1].astype(np.float32) - photo)
            swapped = np.round(swapped).astype(np.uint8)
        for name in names:
            run = CARRIERS[name]
            full = run(photo, small, edited)
            error = np.abs(run(twice, *fourths).astype(np.float32) - truth).mean(2)
            row = {
                "sharpness": np.sqrt(np.mean(detail(full, h, w) ** 2) / np.mean(fine**2)),
                "halo": halo(full, photo, edge, round(2 * scale)),
                "back": np.abs(shrink(full, h, w) - edited).mean() / 2,
                "double": (error[edge_of_twice].mean(), error[~edge_of_twice].mean()),
            }
            if mask_path:
                row["background"] = np.abs(full.astype(np.float32) - photo).mean(2)[mask == 0].mean()
                row["small_background"] = 127.5 * np.abs(edited - small).mean(2)[small_around].mean()
                error = np.abs(run(photo, small, shrink(swapped, h, w)).astype(np.float32) - swapped).mean(2)
                row["leak"], row["inside"] = error[around].mean(), error[inside].mean()
            found[name].append(row)
            if show:
                os.makedirs(show, exist_ok=True)
                Image.fromarray(full).save(os.path.join(show, f"{number:03d} {name}.png"))
    return found


def define_flags() -> None:
    flags.DEFINE_string("pretrained", "flowers128", "A model inside simgan_tf/pretrained.")
    flags.DEFINE_string("pictures", None, "Text file of photographs, see above.", required=True)
    flags.DEFINE_multi_enum("carrier", list(CARRIERS), list(CARRIERS), "What to measure.")
    flags.DEFINE_string("show", None, "Folder for the results as PNG files; none by default.")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    pairs = read_list(values.pictures)
    commands.start_tensorflow()
    found = measure(Editor(values.pretrained), pairs, values.carrier, values.show)
    for name, rows in found.items():
        line = {"benchmark": "carry", "carrier": name, "model": values.pretrained, "n": len(rows)}
        line["sharpness"] = np.percentile([row["sharpness"] for row in rows], [10, 50, 90]).round(3).tolist()
        back = [row["back"] for row in rows]
        line["back"] = [round(float(value), 4) for value in (np.mean(back), np.percentile(back, 90))]
        line["double"] = np.mean([row["double"] for row in rows], axis=0, dtype=float).round(2).tolist()
        for key in ("halo", "background", "small_background", "leak", "inside"):
            if key in rows[0]:
                line[key] = round(float(np.nanmean([row[key] for row in rows])), 2)
        print(json.dumps(line | cost(CARRIERS[name]) | turns.machine()))


if __name__ == "__main__":
    commands.run(main, define_flags)
