"""Sheets of pictures and their files: float images in [-1, 1] in, PNG or JPEG out."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simgan_tf.system.files import replacing


def save_image(picture: Image.Image, path: str) -> None:
    """Writes a PNG or JPEG by its name's ending, under a temporary name first."""
    check_image_name(path)
    with replacing(path) as temporary:
        picture.save(temporary)


def check_image_name(path: str) -> None:
    """Raises: ValueError where `path` does not end like a picture that save_image writes."""
    if not path.lower().endswith((".png", ".jpg", ".jpeg")):
        raise ValueError(f"{path!r}: a picture's name must end in .png, .jpg or .jpeg.")


def to_pixels(image: np.ndarray) -> np.ndarray:
    """uint8 pixels of float images in [-1, 1], rounded to nearest."""
    return np.clip(np.round((np.asarray(image) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def sheet(
    rows: list[list[np.ndarray]], titles: list[str], size: int | None = None, labels: list[str] | None = None
) -> Image.Image:
    """A grid of pictures under wrapped column titles.

    rows: each a list of [S, S, 3] float images in [-1, 1], one for each title; of another size than a cell they are
    shown by their nearest pixels. size: pixels of a cell, default S of the first, or 96. labels: a text for each row,
    in a column of their own behind the first.
    """
    cell = size or max(96, rows[0][0].shape[0])
    font = ImageFont.load_default(size=max(10, cell // 9))
    if labels:
        blank = np.ones([1, 1, 3])
        titles, rows = [titles[0], "", *titles[1:]], [[row[0], blank, *row[1:]] for row in rows]
    lines = [wrap(title, font, cell - 6) for title in titles]
    height = font.size + 2
    header = 6 + height * max(map(len, lines))
    page = Image.new("RGB", ((cell + 4) * len(titles), header + (cell + 4) * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for column, words in enumerate(lines):
        for i, line in enumerate(words):
            pen.text((column * (cell + 4) + 3, 2 + i * height), line, fill="black", font=font)
        for row, images in enumerate(rows):
            picture = Image.fromarray(to_pixels(images[column])).resize((cell, cell), Image.Resampling.NEAREST)
            page.paste(picture, (column * (cell + 4) + 2, header + row * (cell + 4)))
    for row, label in enumerate(labels or []):
        words = wrap(label, font, cell - 6)
        top = header + row * (cell + 4) + max(0, (cell - height * len(words)) // 2)
        for i, line in enumerate(words):
            pen.text((cell + 4 + 3, top + i * height), line, fill="black", font=font)
    return page


def wrap(text: str, font: ImageFont.ImageFont, width: int) -> list[str]:
    """The words of `text` as lines of at most `width` pixels; a longer word has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
