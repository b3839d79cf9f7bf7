"""A contact sheet of records: pictures with their captions.

python -m data.show --records_dir=records/cub --out=sheet.png
"""

import io
import os

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from data import images, records
from simgan_tf.system import commands, pictures

GAP = 8  # pixels between the cells
LONGEST = 400  # characters of a key or a caption that are shown


def pick(records_dir: str, split: str, count: int, seed: int) -> list[records.Example]:
    """`count` examples of `split`, or all where there are fewer, drawn by `seed`, in the order of the records.

    Raises: as `records.open_split`; ValueError for a count under 1.
    """
    if count < 1:
        raise ValueError(f"count={count} must be 1 or more.")
    found = records.open_split(records_dir, split)
    rows = np.random.default_rng(seed).permutation(len(found.table))[:count]
    return [records.parse(found.record(row)) for row in np.sort(rows)]


def sheet(examples: list[records.Example], columns: int = 4, cell: int = 224, captions: int = 3) -> Image.Image:
    """The examples in rows: each picture whole in a square, below it its key, class and captions.

    cell: pixels of the square.   captions: at most that many of each, 0 = all.

    Raises: ValueError naming the key of a picture that cannot be decoded; for columns or cell out of range.
    """
    if columns < 1 or captions < 0 or not 64 <= cell <= 1024:
        raise ValueError(
            f"columns={columns} must be 1 or more, cell={cell} 64 to 1024, captions={captions} 0 (all) or more."
        )
    font = ImageFont.load_default(size=max(11, cell // 17))
    line = font.size + 3
    cells = [(_decode(example, cell), _lines(example, font, cell, captions)) for example in examples]
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    heights = [cell + 4 + line * max(len(words) for _, words in row) + GAP for row in rows]
    page = Image.new("RGB", (GAP + (cell + GAP) * min(columns, len(cells)), GAP + sum(heights)), "white")
    pen = ImageDraw.Draw(page)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (picture, words) in enumerate(row):
            left = GAP + column * (cell + GAP)
            pen.rectangle((left, top, left + cell - 1, top + cell - 1), fill=(236, 236, 236))
            page.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
            for i, (text, colour) in enumerate(words):
                pen.text((left, top + cell + 4 + i * line), text, fill=colour, font=font)
        top += height
    return page


def _decode(example: records.Example, cell: int) -> Image.Image:
    """The whole picture, its longer side `cell` pixels."""
    try:
        with images.open_picture(example.key, example.image) as picture:
            if picture.width * picture.height > images.MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels")
            scale = cell / max(picture.size)
            size = tuple(max(1, round(scale * side)) for side in picture.size)
            return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    except (*images.BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture of the record {example.key!r} cannot be decoded ({images.reason(error)}); build "
                         "the folder again.") from error  # fmt: skip


def _lines(
    example: records.Example, font: ImageFont.ImageFont, width: int, captions: int
) -> list[tuple[str, str | tuple[int, int, int]]]:
    """(text, colour) of the lines below a picture."""
    with Image.open(io.BytesIO(example.image)) as picture:
        facts = f"class {example.class_id}, {picture.width}x{picture.height} {picture.format}"
    grey = (110, 110, 110)
    lines = [(text, "black") for text in _wrap(example.key, font, width)]
    lines += [(text, grey) for text in _wrap(f"{facts}, {example.colour}".removesuffix(", "), font, width)]
    printed = example.captions[: captions or None]
    for number, caption in enumerate(printed, start=1):
        lines += [(text, (20, 60, 140)) for text in _wrap(f"{number}. {caption}", font, width)]
    rest = len(example.captions) - len(printed)
    return lines + ([(f"and {rest} more", grey)] if rest else [])


def _wrap(text: str, font: ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most `width` pixels; a longer word, such as a key, is broken, and a text cut at LONGEST."""
    lines = []
    for line in pictures.wrap(text if len(text) <= LONGEST else f"{text[:LONGEST]} ...", font, width):
        while font.getlength(line) > width:
            fits = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= width)
            lines.append(line[:fits])
            line = line[fits:]
        lines.append(line)
    return lines


def define_flags() -> None:
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string("out", None, "Picture to write, .png or .jpg.", required=True)
    flags.DEFINE_enum("split", "train", list(records.SPLITS), "Which pictures.")
    flags.DEFINE_integer("count", 12, "Number of pictures.", lower_bound=1, upper_bound=1000)
    flags.DEFINE_integer("seed", 0, "Another one draws other pictures.", lower_bound=0)
    flags.DEFINE_integer("columns", 4, "Pictures in a row.", lower_bound=1)
    flags.DEFINE_integer("captions", 3, "Captions shown of each picture at most; 0 = all.", lower_bound=0)
    flags.DEFINE_integer("cell", 224, "Pixels of a picture's longer side.", lower_bound=64, upper_bound=1024)


def main(argv: list[str]) -> None:
    """Writes the sheet and says where it is."""
    values = flags.FLAGS
    pictures.check_image_name(values.out)
    records.read_info(values.records_dir)  # before TensorFlow starts, so that a wrong folder costs no time
    commands.start_tensorflow()
    examples = pick(values.records_dir, values.split, values.count, values.seed)
    if not examples:
        raise ValueError(f"The {values.split} split of {values.records_dir!r} is empty; choose the other --split.")
    pictures.save_image(sheet(examples, values.columns, values.cell, values.captions), values.out)
    print(f"{os.path.abspath(values.out)}: {len(examples)} pictures of {values.split}, seed {values.seed}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
