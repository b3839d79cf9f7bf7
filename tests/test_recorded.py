"""Embeddings that came with the data: looked up, held against an encoder, and a run on them without an encoder."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data import records, splits
from simgan_tf.text.recorded import Recorded, require_same
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder
from tests.tiny import TINY_FLAGS, refused, run

CAPTIONS = [("a red flower", "petals of red"), ("a white flower", "a white flower too")]


def split_with(rows):
    return splits.Split(
        keys=["a", "b"],
        images=tf.constant([b"", b""]),
        masks=[b"", b""],
        colours=["", ""],
        class_ids=np.array([1, 2], np.int32),
        captions=CAPTIONS,
        embeddings=np.asarray(rows, np.float32),
    )


def info_of(dim, fingerprint="f"):
    return {"embeddings": {"name": "theirs", "dim": dim, "scale": 1.0, "source": "npz", "fingerprint": fingerprint}}


def test_lookup_gives_the_row_of_the_caption():
    recorded = Recorded(info_of(2), [split_with([[1, 2], [3, 4], [5, 6], [7, 8]])])
    found = recorded.encode(["a white flower too", "a red flower", "a red flower"])
    assert found.dtype == np.float32 and found.tolist() == [[7, 8], [1, 2], [1, 2]]
    assert (recorded.dim, recorded.name, recorded.fingerprint) == (2, "theirs", "f")
    with pytest.raises(ValueError, match=r"'a blue flower' is no caption .*theirs.*--text_encoder"):
        recorded.encode(["a red flower", "a blue flower"])


@pytest.fixture
def encoder():
    return TextEncoder(Vocabulary(["a", "red", "white", "flower", "petals", "of", "too"]), dim=6, word_dim=4, length=5)


def test_an_encoder_is_held_against_the_embeddings(encoder):
    """Its own rows pass, also times a factor; rows in another order or of another size do not."""
    rows = encoder.encode([caption for of_picture in CAPTIONS for caption in of_picture])
    require_same(encoder, info_of(6), split_with(rows))
    require_same(encoder, info_of(6), split_with(3 * rows))
    with pytest.raises(ValueError, match=r"mean cosine -?0\.\d{3} over 4 captions"):
        require_same(encoder, info_of(6), split_with(rows[::-1] * [[1], [-1], [1], [-1]]))
    with pytest.raises(ValueError, match=r"5-dimensional embeddings \(theirs\).* gives 6"):
        require_same(encoder, info_of(5), split_with(rows[:, :5]))
    require_same(encoder, info_of(5, encoder.fingerprint), split_with(rows[:, :5]))  # the fingerprint decides


@pytest.fixture(scope="module")
def recorded_run(path, tmp_path_factory):
    """Records with random embeddings of 12 numbers from an .npz, and a run of two steps on their means of four."""
    root = tmp_path_factory.mktemp("recorded")
    examples = [e for split in ("train", "test") for e in records.read_examples(str(path / "records"), split)]
    vectors = np.random.default_rng(0).normal(size=(len(examples), 10, 12)).astype(np.float32)
    np.savez(root / "vectors.npz", keys=np.array([e.key for e in examples]), embeddings=vectors)
    run("-m", "data.build", "--dataset=oxford102", f"--raw_dir={path / 'raw'}", f"--out_dir={root / 'records'}",
        "--shards=2", f"--embeddings={root / 'vectors.npz'}")  # fmt: skip
    done = run("run_train.py", *TINY_FLAGS, f"--records_dir={root / 'records'}", f"--run_dir={root / 'run'}",
               "--captions_averaged=4", "--steps=2", "--sample_every=2")  # fmt: skip
    assert "12-dimensional embeddings of the records (vectors)" in done.stdout
    return root


@pytest.mark.ci
@pytest.mark.slow
def test_a_run_on_embeddings_alone(recorded_run):
    """Trains, draws its sheet, resumes and is measured; a sentence of one's own is refused in one line."""
    root = recorded_run
    assert (root / "run" / "samples" / "0000002.png").is_file()
    assert not (root / "run" / "text_encoder").exists()
    where = [f"--records_dir={root / 'records'}", f"--run_dir={root / 'run'}"]
    assert "from step 2" in run("run_train.py", *TINY_FLAGS, *where, "--captions_averaged=4", "--steps=3").stdout
    run("-m", "simgan_tf.evaluation", *where, "--figures")
    assert json.loads((root / "run" / "results.json").read_text())["step"] == 3
    assert (root / "run" / "figures" / "interpolation.png").is_file()
    said = refused("-m", "simgan_tf.edit", f"--run_dir={root / 'run'}", f"--image={root / 'run/samples/0000002.png'}",
                   "--text=a red flower", f"--out={root / 'edit.png'}")  # fmt: skip
    assert "no text_encoder" in said


def test_a_foreign_encoder_is_refused(recorded_run, path, tmp_path):
    """The encoder of another run gives 8 numbers, the records hold 12."""
    said = refused("run_train.py", *TINY_FLAGS, f"--records_dir={recorded_run / 'records'}",
                   f"--run_dir={tmp_path / 'run'}", f"--text_encoder={path / 'run'}", "--steps=2")  # fmt: skip
    assert "12-dimensional embeddings" in said and "gives 8" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.ci
@pytest.mark.slow
def test_an_encoder_is_taken_into_the_run(path, tmp_path):
    """--text_encoder copies it, records filled by it fit, and the run can be moved and edited with."""
    filled = tmp_path / "records"
    shutil.copytree(path / "records", filled)
    run("-m", "simgan_tf.text.embed", f"--records_dir={filled}", f"--encoder={path / 'run'}")
    run("run_train.py", *TINY_FLAGS, f"--records_dir={filled}", f"--run_dir={tmp_path / 'run'}",
        f"--text_encoder={path / 'run' / 'text_encoder'}", "--steps=2")  # fmt: skip
    (tmp_path / "run").rename(tmp_path / "moved")
    run("-m", "simgan_tf.edit", f"--run_dir={tmp_path / 'moved'}", f"--image={path / 'raw/jpg/image_00001.jpg'}",
        "--text=this flower has red petals", f"--out={tmp_path / 'edit.png'}")  # fmt: skip
    assert (tmp_path / "edit.png").is_file()
