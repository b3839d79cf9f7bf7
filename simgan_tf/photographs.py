"""Photographs in, edited photographs out, at their own size: what the command simgan_tf.edit does with its flags.
Plans all names before a model is loaded; one bad file does not stop the others."""

import collections
import dataclasses
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simgan_tf.system import commands, files, pictures

if TYPE_CHECKING:
    import numpy as np

    from data.photo import Photo
    from simgan_tf.edit import Editor

STILL, MOVING = (".jpg", ".jpeg", ".png", ".webp"), (".webp", ".gif")
PICTURES = (*STILL, ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif")  # looked for in a folder
MAX_TEXTS = 2**20  # bytes of a file of sentences
MILLISECONDS = 200  # of one picture of a moving one; the first and last stay four times as long
LARGEST_MOVING = 1024  # pixels, longer side of a moving picture
CELL = 256  # pixels, longer side of a picture of the contact sheet


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the flags say; see --help."""

    images: tuple[str, ...]
    texts: tuple[str, ...]
    out: str
    samples: int = 1
    seed: int = 0
    strength: float = 1.0
    box: tuple[int, int, int, int] | None = None
    size: str = "own"
    sheet: str | None = None
    texts_file: str | None = None
    to_text: str | None = None
    steps: int = 8

    @property
    def moving(self) -> bool:
        """Whether one moving picture is wanted, not a file a step."""
        return self.to_text is not None and self.out.lower().endswith(MOVING)


@dataclasses.dataclass(frozen=True)
class Job:
    """One photograph, one sentence, and the files that are written."""

    image: str
    text: str
    outs: tuple[str, ...]


def sentences(texts: Sequence[str], path: str | None) -> tuple[str, ...]:
    """The sentences of --text and of the lines of a file. Raises: ValueError for none, or another file; OSError."""
    lines: list[str] = list(texts)
    if path is not None:
        text = files.read_text(path, MAX_TEXTS, "give a file in UTF-8 with one sentence a line.")
        lines += [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("no sentence: give --text='this flower has purple petals', or --texts=FILE.")
    return tuple(lines)


def box_of(text: str | None) -> tuple[int, int, int, int] | None:
    """--box as four whole numbers. Raises: ValueError."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise ValueError(f"--box={text[:80]} must be x,y,w,h: four whole numbers of pixels, such as 120,80,300,200.")
    x, y, width, height = map(int, parts)
    return x, y, width, height


def plan(wanted: Wanted) -> list[Job]:
    """What is read and written, every name checked.

    Raises: FileNotFoundError, ValueError for a name that is missing, means nothing, or would be written twice.
    """
    if not wanted.out:
        raise ValueError("--out= is empty; give the name of a picture or a folder.")
    images = [path for name in wanted.images for path in _photographs(name)]
    ending = os.path.splitext(wanted.out)[1].lower()
    is_file = ending in STILL or wanted.moving
    if wanted.sheet is not None:
        pictures.check_image_name(wanted.sheet)
    if ending and not is_file and not os.path.isdir(wanted.out):
        kinds = ", ".join(STILL) + (", .gif" if wanted.to_text is not None else "")
        raise ValueError(f"--out={wanted.out}: a picture's name must end in {kinds}; a folder's has no such ending.")
    if is_file and (len(images) > 1 or len(wanted.texts) > 1):
        raise ValueError(
            f"--out={wanted.out} is one file, for {len(images)} photographs and {len(wanted.texts)} sentences: give a "
            "folder, --out=edits."
        )
    if wanted.size == "model" and wanted.box is not None:
        raise ValueError("--box edits a part of the whole photograph; leave --size=model out.")
    if wanted.to_text is not None and wanted.samples > 1:
        raise ValueError(f"--samples={wanted.samples} does not go with --to_text; leave one of them out.")
    count = 1 if wanted.moving else wanted.steps if wanted.to_text is not None else wanted.samples
    jobs = []
    for image in images:
        for number, text in enumerate(wanted.texts, start=1):
            out = wanted.out
            if not is_file:
                stem, own = os.path.splitext(os.path.basename(image))
                stem += f"-text{number}" if len(wanted.texts) > 1 else ""
                kept = ".jpg" if own.lower() in (".heic", ".heif", ".avif") else own if own.lower() in STILL else ".png"
                out = os.path.join(wanted.out, stem + kept)
            start, end = os.path.splitext(out)
            outs = (out,) if count == 1 else tuple(f"{start}-{i}{end}" for i in range(1, count + 1))
            jobs.append(Job(image, text, outs))
    written = [files.place(out) for job in jobs for out in job.outs]
    if len(set(written)) < len(written):
        path = collections.Counter(written).most_common(1)[0][0]
        raise ValueError(f"{path} would be written twice: two photographs have that name; give them apart.")
    sheet = {files.place(wanted.sheet)} if wanted.sheet is not None else set()
    if sheet & set(written):
        raise ValueError(f"--sheet={wanted.sheet} is an edit's name too; choose another.")
    names = [*images, *filter(None, [wanted.texts_file])]
    sources = {files.place(name) for name in names} | {os.path.realpath(name) for name in names}
    for flag, places in (("out", set(written)), ("sheet", sheet)):
        if hit := sources & places:
            raise ValueError(f"{min(hit)} would be written over: choose another --{flag}.")
    return jobs


def _photographs(name: str) -> list[str]:
    if os.path.isdir(name):
        inside = sorted(entry for entry in os.listdir(name) if entry.lower().endswith(PICTURES))
        if not inside:
            raise ValueError(f"--image={name}: no photograph in this folder ({', '.join(PICTURES)}).")
        return [os.path.join(name, entry) for entry in inside]
    if os.path.exists(name):
        return [name]
    matching = sorted(path for path in glob.glob(name) if os.path.isfile(path))
    if not matching:
        raise FileNotFoundError(f"--image={name}: there is no such file, folder or pattern.")
    return matching


def run(editor: "Editor", wanted: Wanted, jobs: list[Job]) -> bool:
    """Edits and writes; whether all of it went well. What cannot be read is told on stderr and passed over."""
    from tqdm import tqdm

    from data import photo
    from simgan_tf.text import notes

    for text in dict.fromkeys([*wanted.texts, *([wanted.to_text] if wanted.to_text is not None else [])]):
        editor.text_encoder.check(text)
        for line in notes.notes(text, editor.text_encoder):
            print(commands.printable(line))
    size = wanted.size if editor.keeps_picture else "model"
    if not editor.keeps_picture:
        if wanted.box is not None:
            raise ValueError(
                f"--box: {editor.config.method} draws the whole picture anew, not a part of it; leave it out."
            )
        side = editor.config.image_size
        print(f"{editor.config.method} draws anew: each edit is its own square of {side}x{side}, of the central square")
    bad, written, rows = 0, [], []
    with tqdm(total=len(jobs), unit="edit", desc="editing", delay=2, leave=False, disable=len(jobs) < 2) as bar:
        for job in jobs:
            try:
                source = photo.read(job.image)
                edits = list(_edits(editor, wanted, source, job))
                if wanted.moving:
                    _write_moving(edits, job.outs[0])
                else:
                    for pixels, out in zip(edits, job.outs, strict=True):
                        _write(source, pixels, out, size)
                written += job.outs
                if wanted.sheet is not None:
                    alpha = source.alpha if size == "own" else None
                    looks = [dataclasses.replace(source, pixels=pixels, alpha=alpha).seen for pixels in edits]
                    rows.append((job, [_thumbnail(pixels) for pixels in (source.seen, *looks)]))
            except (ValueError, OSError) as error:
                if len(jobs) == 1:
                    raise
                bad += 1
                bar.write(f"error: {commands.printable(commands.in_words(error))}", file=sys.stderr)
            bar.update()
    if rows:
        pictures.save_image(_sheet(rows), wanted.sheet)
    if written:
        where = written[0] if len(written) == 1 else f"{len(written)} pictures, {written[0]} to {written[-1]}"
        sheet = f" and {wanted.sheet}" if rows else ""
        print(commands.escaped(f"wrote {where}{sheet}, at step {editor.step} of the model"))
    if bad:
        print(f"error: {bad} of {len(jobs)} edits failed, see above", file=sys.stderr)
    return not bad


def _edits(editor: "Editor", wanted: Wanted, source: "Photo", job: Job) -> "Iterator[np.ndarray]":
    """Pixels [H, W, 3] uint8 of each edit of one photograph by one sentence."""
    import numpy as np

    square = editor.read(source.seen) if wanted.size == "model" else None
    drawn = editor.noise(max(2, wanted.samples), wanted.seed)
    embedding = editor.embed(job.text)
    if wanted.to_text is None:
        codes, noise = [embedding] * wanted.samples, drawn
        if wanted.samples == 1:
            noise = drawn[1:] if wanted.seed else drawn
    else:
        last, shares = editor.embed(wanted.to_text), np.linspace(0.0, 1.0, wanted.steps, dtype=np.float32)
        codes = [(1 - share) * embedding + share * last for share in shares]
        noise = [drawn[1 if wanted.seed else 0]] * wanted.steps
    for code, epsilon in zip(codes, noise, strict=False):
        if square is None:
            yield editor.edit_pixels(source, code, epsilon, wanted.strength, wanted.box)
        else:
            (edited,) = editor.edit_square(square, [code], epsilon[None])
            yield pictures.to_pixels(square + wanted.strength * (edited - square))


def _write(source: "Photo", pixels: "np.ndarray", path: str, size: str) -> None:
    from data import photo

    whole = source if size == "own" else dataclasses.replace(source, alpha=None)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(photo.encode(whole, pixels, os.path.splitext(path)[1]))


def _write_moving(edits: "list[np.ndarray]", path: str) -> None:
    """There and back, so that it runs on without a jump."""
    from PIL import Image

    frames = []
    for pixels in [*edits, *edits[-2:0:-1]]:
        frame = Image.fromarray(pixels)
        frame.thumbnail((LARGEST_MOVING, LARGEST_MOVING), Image.Resampling.LANCZOS)
        frames.append(frame)
    times = [MILLISECONDS] * len(frames)
    times[0] = times[len(edits) - 1] = 4 * MILLISECONDS
    options = {"quality": 90} if path.lower().endswith(".webp") else {}
    with files.replacing(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=times, loop=0, **options)


def _thumbnail(pixels: "np.ndarray") -> "np.ndarray":
    """[CELL, CELL, 3] float32 in [-1, 1]: the whole picture, made small, on white."""
    import numpy as np
    from PIL import Image, ImageOps

    cell = ImageOps.pad(Image.fromarray(pixels), (CELL, CELL), Image.Resampling.LANCZOS, color="white")
    return np.asarray(cell) / np.float32(127.5) - 1


def _sheet(rows: "list[tuple[Job, list[np.ndarray]]]") -> object:
    one = len({job.text for job, _ in rows}) == 1
    count = len(rows[0][1]) - 1
    titles = ["source", rows[0][0].text if one else "edited", *[f"another {i}" for i in range(1, count)]]
    return pictures.sheet([images for _, images in rows], titles)
