"""The contact sheet: which records are drawn, where pictures and words stand, what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from data import records, show
from tests.tiny import refused, run

COLOURS = [(200, 40, 40), (40, 160, 40), (40, 60, 200), (220, 200, 30), (150, 40, 160)]


def png(colour, width=40, height=20):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def example(number, **changes):
    texts = tuple(f"caption {j} of picture {number} in plain words" for j in range(5))
    fields = {"image": png(COLOURS[number]), "key": f"key_{number}", "class_id": number + 1, "captions": texts}
    return records.Example(**{**fields, **changes})


@pytest.fixture
def records_dir(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    splits = {"train": range(4), "test": [4]}
    parts = {name: records.write_split(str(folder), name, map(example, of), 2) for name, of in splits.items()}
    records.write_info(str(folder), {"format_version": 1, "shards": 2, "splits": parts, "embeddings": None})
    return folder


def test_draws_without_replacement_in_the_records_order(records_dir):
    drawn = [[e.key for e in show.pick(str(records_dir), "train", 2, seed)] for seed in range(20)]
    assert all(len(set(keys)) == 2 and keys == sorted(keys) for keys in drawn)
    assert drawn[0] == [e.key for e in show.pick(str(records_dir), "train", 2, 0)]
    assert {key for keys in drawn for key in keys} == {f"key_{number}" for number in range(4)}
    assert [e.key for e in show.pick(str(records_dir), "train", 99, 3)] == [f"key_{number}" for number in range(4)]
    with pytest.raises(ValueError, match="count=0"):
        show.pick(str(records_dir), "train", 0, 0)


def test_records_of_another_set_are_not_shown(records_dir, tmp_path):
    """A picture of the same size with another key: whoever looks at records looks at those of dataset.json."""
    other = tmp_path / "other"
    other.mkdir()
    records.write_split(str(other), "train", [example(number, key=f"yek_{number}") for number in range(4)], 2)
    for path in other.iterdir():
        path.replace(records_dir / path.name)
    for read in (lambda: show.pick(str(records_dir), "train", 2, 0),
                 lambda: list(records.first_examples(str(records_dir), "train", 1))):  # fmt: skip
        with pytest.raises(ValueError, match="the train records are not those that dataset.json describes"):
            read()


@pytest.mark.parametrize("change", [{"captions": "20"}, {"class_ids": 3}, {"fingerprint": 1}, {"embedding_dim": "7"}])
def test_a_dataset_json_without_its_numbers_is_refused(records_dir, change):
    info = records.read_info(str(records_dir))
    info["splits"]["train"].update(change)
    records.write_info(str(records_dir), info)
    with pytest.raises(ValueError, match=r"dataset\.json does not say how many captions"):
        show.pick(str(records_dir), "train", 2, 0)


def test_pictures_stand_whole_in_their_cells_and_words_below():
    """Cells of 100 with gaps of 8: cell (row, column) starts at x = 8 + 108 column; a 40x20 picture is 100x50 there."""
    page = show.sheet([example(number) for number in range(3)], columns=2, cell=100, captions=1)
    assert page.width == 8 + 2 * 108
    pixels = np.asarray(page).astype(int)
    for number, left in ((0, 8), (1, 116)):
        assert np.abs(pixels[8 + 25 : 8 + 75, left : left + 100] - COLOURS[number]).max() == 0
        assert (pixels[8 : 8 + 25, left : left + 100] == 236).all()  # the rest of the square is grey
        assert (pixels[8 + 100 : 8 + 160, left : left + 100].min(-1) < 100).any()  # ink
    found = np.argwhere((pixels == COLOURS[2]).all(-1))
    assert (found[:, 1].min(), found[:, 1].max()) == (8, 107) and found[:, 0].max() - found[:, 0].min() == 49
    below = pixels[found[:, 0].min() - 25 :, 116:]
    assert (below == 255).all()  # no fourth picture


def test_more_captions_make_a_longer_sheet_and_no_word_leaves_its_cell():
    long = example(0, key="a_key_without_any_blank_" * 4, captions=("w" * 90, *"abcd"))
    heights = [show.sheet([long], cell=100, captions=count).height for count in (1, 2, 3, 4, 5, 0)]
    line = 11 + 3  # pixels; the line "and n more" gives way to the last caption
    assert [after - before for before, after in zip(heights, heights[1:], strict=False)] == [line] * 3 + [0, 0]
    assert show.sheet([example(0, captions=("w" * 500_000,))], cell=100).height < 100 + 400 * line  # cut, and soon done
    pixels = np.asarray(show.sheet([long], cell=100, captions=0))
    assert (pixels[:, -8:] == 255).all() and pixels.shape[1] == 116


def test_pictures_that_cannot_be_decoded_and_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="'key_1' cannot be decoded"):
        show.sheet([example(0), example(1, image=png((1, 2, 3))[:-30])])
    with pytest.raises(ValueError, match="columns=0 .* cell=9 "):
        show.sheet([example(0)], columns=0, cell=9)


def test_command_writes_a_sheet(records_dir, tmp_path):
    command = ["-m", "data.show", f"--records_dir={records_dir}"]
    done = run(*command, f"--out={tmp_path / 'sheet.png'}", "--count=3", "--columns=3")
    assert "3 pictures of train" in done.stdout
    with Image.open(tmp_path / "sheet.png") as page:
        assert page.width == 8 + 3 * (224 + 8)
    assert "must end in .png" in refused(*command, f"--out={tmp_path / 'sheet.txt'}")
    assert not (tmp_path / "sheet.txt").exists()
