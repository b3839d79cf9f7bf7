"""The page of export/web: its modules in node against Python's numbers, its build and its server."""

import io
import json
import math
import os
import pathlib
import shutil
import threading
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, PngImagePlugin

from data.captions import ALPHABET
from export.web import __main__ as web
from export.web import litert, serve
from simgan_tf import carry
from simgan_tf.edit import central_square, small_picture
from simgan_tf.system.pictures import to_pixels
from simgan_tf.text.released_tokens import Characters, Dictionary
from simgan_tf.text.tokens import Vocabulary
from tests.tiny import PAGE, ROOT, node, refused, run, start

TABLE = json.loads((ROOT / "tests" / "words.json").read_text(encoding="ascii"))
TEXTS = list(TABLE)
CONTRACT = {
    "format_version": 1,
    "method": "simgan",
    "step": 7,
    "image": {"size": 16, "load_size": 20},
    "tokens": {"length": 9, "vocabulary": "vocabulary.txt", **Vocabulary.contract},
    "signatures": {
        name: {
            "inputs": {key: {"shape": [1, 4], "dtype": dtype} for key, dtype in inputs.items()},
            "outputs": {"made": {"shape": [1, 4], "dtype": "float32"}},
        }
        for name, inputs in {
            "embed": {"tokens": "int32"},
            "edit": {"image": "float32", "embedding": "float32", "noise": "float32"},
            "manipulate": {"image": "uint8", "tokens": "int32", "noise": "float32"},
        }.items()
    },
}


# ---- words.js ----


def tokenisers():
    """Every second word of the table is known, so that a word read otherwise shows as well as one found by mistake."""
    plain = sorted({word for words in TABLE.values() for word in words})
    spaced = sorted({word for text in TABLE for word in text.encode("utf-8", "replace").decode().split()})
    return {
        "words": Vocabulary(plain[::2]),
        "spaces": Dictionary(spaced[::2]),
        "spaces in small letters": Dictionary([word for word in spaced if word == word.lower()][::2]),
        "characters": Characters(ALPHABET),
    }


@pytest.mark.parametrize("kind", tokenisers())
@pytest.mark.parametrize("length", [1, 4, 30, 201])
def test_ids_in_javascript(tmp_path, kind, length):
    """The ids, the unknown words and whether a sentence is refused, for every sentence of the table."""
    made = tokenisers()[kind]
    vocabulary = None
    if made.in_file:
        made.save(str(tmp_path / "vocabulary.txt"))
        vocabulary = (tmp_path / "vocabulary.txt").read_text(encoding="utf-8")
    found = node(
        """
        const tokeniser = words.makeTokeniser(value.contract, value.vocabulary);
        answer = value.texts.map((text) =>
          [Array.from(tokeniser.ids(text)), tokeniser.unknown(text), tokeniser.refusal(text)]);
        """,
        {"contract": {"length": length, **made.contract}, "vocabulary": vocabulary, "texts": TEXTS},
    )
    ids, unknown, refusals = zip(*found, strict=True)
    expected = made.batch(TEXTS, length)
    assert length == 1 or len(np.unique(expected, axis=0)) > 40
    np.testing.assert_array_equal(np.array(ids), expected)
    assert list(unknown) == [made.unknown_words(text) for text in TEXTS]
    for text, refusal in zip(TEXTS, refusals, strict=True):
        if refusal is None:
            made.check(text)
        else:
            with pytest.raises(ValueError, match="no word|no character"):
                made.check(text)
    assert 0 < sum(refusal is not None for refusal in refusals) < len(TEXTS)


def test_unknown_tokenisation_in_javascript():
    said = node(
        """
        try { words.makeTokeniser(value, null); } catch (error) { answer = error.message; }
        """,
        {"tokenisation": "sounds"},
    )
    assert said.startswith('tokenisation "sounds" is none of words, spaces, characters')


# ---- pixels.js ----


@pytest.mark.parametrize("height, width", [(4, 4), (4, 8), (12, 4), (4, 5)])
def test_central_square_and_its_bytes_in_javascript(height, width):
    """Of a model that draws anew: the square that Python takes, and pixels of the edit mixed by strength."""
    small, edited = (np.random.default_rng(i).uniform(-1, 1, [h, w, 3]) for i, (h, w) in
                     enumerate([(height, width), (4, 4)]))  # fmt: skip
    square, found = node(
        """
        const square = pixels.centralSquare(Float32Array.from(value.small), value.w, value.h, 4);
        answer = [Array.from(square), Array.from(pixels.toBytes(square, value.edited, 0.25))];
        """,
        {"small": small.ravel().tolist(), "edited": edited.ravel().tolist(), "h": height, "w": width},
    )
    expected = central_square(small)
    np.testing.assert_allclose(np.reshape(square, [4, 4, 3]), expected, atol=1e-6)
    rgba = np.reshape(found, [4, 4, 4])
    mixed = expected + 0.25 * (edited - expected)
    assert np.abs(rgba[..., :3] - to_pixels(mixed).astype(int)).max() <= 1 and (rgba[..., 3] == 255).all()


@pytest.mark.parametrize(
    "height, width, size, strip",
    [(96, 96, 64, 256), (37, 61, 16, 5), (61, 37, 16, 7), (20, 25, 16, 256), (300, 199, 64, 64), (8, 160, 16, 3),
     (11, 9, 16, 256), (16, 16, 16, 4)],
)  # fmt: skip
def test_preparation_in_javascript(height, width, size, strip):
    """Smaller, larger, equal, upright, lying, of the size that Python gives it, to the last level; noise, so that every
    pixel's weight shows."""
    pixels = np.random.default_rng(0).integers(0, 256, [height, width, 3], np.uint8)
    small = carry.small_size(height, width, size)
    expected = small_picture(pixels, size)
    found = node(
        """
        const { pixels: rgb, height, width, size, strip } = value;
        const readRows = (top, bottom) => {
          const rgba = new Uint8ClampedArray((bottom - top) * width * 4).fill(255);
          for (let i = 0; i < (bottom - top) * width; i++) {
            for (let c = 0; c < 3; c++) rgba[i * 4 + c] = rgb[(top * width + i) * 3 + c];
          }
          return rgba;
        };
        const { w, h } = pixels.smallSize(width, height, size);
        answer = [h, w, Array.from(pixels.prepare(readRows, width, height, w, h, strip))];
        """,
        {"pixels": pixels.ravel().tolist(), "height": height, "width": width, "size": size, "strip": strip},
    )
    assert tuple(found[:2]) == small
    np.testing.assert_allclose(np.reshape(found[2], [*small, 3]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "length, starts", [(16, [0]), (20, [0, 4]), (32, [0, 16]), (36, [0, 8, 20]), (64, [0, 16, 32, 48])]
)
@pytest.mark.parametrize("lying", [True, False])
def test_squares_in_javascript(length, starts, lying):
    """Each square is edited where it stands: of an edit by the square's number, the mixed ones tell the shares.

    Along 20 pixels two squares of 16 overlap by 12: the second one's share is 0 in the first 4, then (i + 0.5) / 12.
    """
    shape = (16, length, 3) if lying else (length, 16, 3)
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    squares, edited = node(
        """
        const squares = [];
        const edit = async (square) => {
          squares.push([...square]);
          return square.map((each) => squares.length);
        };
        const { image, w, h } = value;
        answer = [squares, [...await pixels.editInSquares(Float32Array.from(image), w, h, 16, edit)]];
        """,
        {"image": image.ravel().tolist(), "w": shape[1], "h": shape[0]},
    )
    for square, first in zip(squares, starts, strict=True):
        expected = image[:, first : first + 16] if lying else image[first : first + 16]
        np.testing.assert_array_equal(np.reshape(square, [16, 16, 3]), expected)
    line = np.ones(length)
    for before, first in zip(starts, starts[1:], strict=False):
        overlap = before + 16 - first
        line[first : first + overlap] += (np.arange(overlap) + 0.5) / max(overlap, 1)
        line[first + overlap :] += 1
    line = line[None, :, None] if lying else line[:, None, None]
    np.testing.assert_allclose(np.reshape(edited, shape), np.broadcast_to(line, shape), rtol=1e-6)


def test_noise_in_javascript():
    """Number 0 is none; each other one is standard normal draws of its own (bounds: about four sigma)."""
    n = 40_000
    zero, one, again, two = node("answer = [0, 1, 1, 2].map((k) => Array.from(pixels.drawNoise(value, k)));", n)
    assert set(zero) == {0}
    assert one == again and np.abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.mean(one)) < 4 / math.sqrt(n) and abs(np.std(one) - 1) < 4 / math.sqrt(n)
    assert abs(np.mean(np.abs(one) < 1) - math.erf(math.sqrt(0.5))) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 4 / math.sqrt(n)


def test_mixing_in_javascript():
    script = "answer = Array.from(pixels.mix(Float32Array.of(1, 2), Float32Array.of(3, -2), 0.25));"
    assert node(script, None) == [1.5, 1]


# ---- profile.js ----


def with_profile(original: bytes, made: bytes) -> bytes:
    found = node(
        """
        answer = Array.from(profile.withProfile(Uint8Array.from(value[0]), Uint8Array.from(value[1])));
        """,
        [list(original), list(made)],
    )
    return bytes(found)


def encoded(kind: str, mode: str = "RGB", seed: int = 0, **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, [20, 30, 3], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LONG = SRGB[:16] + b"RGB " + SRGB[20:] + bytes(150_000)  # in three segments of a JPEG


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("profile", [SRGB, LONG], ids=["short", "long"])
def test_profile_goes_along(kind, profile):
    """Into a file with none and in place of another, before and after other things; every pixel is as it was."""
    exif = Image.Exif()
    exif[0x010E] = "a flower"
    original = encoded(kind, seed=1, icc_profile=profile, exif=exif)
    for made in (encoded(kind), encoded(kind, icc_profile=SRGB[:400] + bytes(9)), encoded(kind, exif=exif)):
        with Image.open(io.BytesIO(with_profile(original, made))) as picture, Image.open(io.BytesIO(made)) as before:
            assert picture.info["icc_profile"] == profile
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(before))


def test_gamma_goes_along():
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    with Image.open(io.BytesIO(with_profile(encoded("PNG", pnginfo=gamma), encoded("PNG")))) as picture:
        assert picture.info["gamma"] == 1.0


def test_profiles_that_do_not_fit():
    """Of other colours than RGB, of another format, or none: the file stays as it is."""
    for original, made in ((encoded("JPEG", "CMYK", icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:]), encoded("JPEG")),
                           (encoded("JPEG", "L", icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:]), encoded("JPEG")),
                           (encoded("PNG", "L", icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:]), encoded("PNG")),
                           (encoded("WEBP", icc_profile=SRGB), encoded("PNG")),
                           (encoded("JPEG"), encoded("JPEG"))):  # fmt: skip
        assert with_profile(original, made) == made


@pytest.mark.parametrize("quality", [20, 50, 75, 87, 95, 100])
def test_the_quality_of_a_jpeg_goes_along(quality):
    script = "answer = profile.quality(Uint8Array.from(value));"
    for options in ({"progressive": True}, {"icc_profile": LONG, "subsampling": 0}):
        assert abs(100 * node(script, list(encoded("JPEG", quality=quality, **options))) - quality) <= 1.001
    assert node(script, list(encoded("PNG"))) == 0.95


# ---- the build and the server, with files in LiteRT.js's places ----


def write_model(path: pathlib.Path, contract: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"TFL3" * 10)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vocabulary.txt", "<pad>\n<unk>\nred\n")
        archive.writestr("contract.json", json.dumps(contract))


@pytest.fixture
def run_dir(tmp_path) -> str:
    """A run directory with all that the build reads of one: config.json and files in export/."""
    folder = tmp_path / "run"
    write_model(folder / "export" / "simgan.tflite", CONTRACT)
    write_model(folder / "export" / "simgan_int8.tflite", CONTRACT)
    config = {"config": {"method": "simgan", "sentences": ["a red flower"], "image_size": 16, "load_size": 20}}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_build(tmp_path, run_dir, litert_dir):
    """All that the page asks for is there, with its size; a second build takes the place of the first."""
    out = tmp_path / "site"
    command = ["-m", "export.web", f"--run_dir={run_dir}", f"--out_dir={out}", f"--litert={litert_dir}"]
    done = run(*command)
    assert "a visit downloads model/simgan.tflite" in done.stdout
    site = json.loads((out / "site.json").read_text())
    on_disk = {path.relative_to(out).as_posix(): path.stat().st_size for path in out.rglob("*") if path.is_file()}
    assert site["files"] == {name: size for name, size in on_disk.items() if name != "site.json"}
    assert (site["contract"], site["sentences"]) == (CONTRACT, ["a red flower"])
    assert {name for name in on_disk if "/" not in name} == {*os.listdir(PAGE), "site.json", "_headers", "nginx.conf"}
    assert (out / site["vocabulary"]).read_text() == "<pad>\n<unk>\nred\n"
    assert (out / "litert" / "index.js").read_text().endswith('from "./wasm-utils.js";')
    assert site["limits"] == {"max_pixels": 50_000_000, "max_aspect": 40, "min_side": 8}
    assert len(site["samples"]) == web.SAMPLES
    for sample in site["samples"]:
        pixels = tf.io.decode_png((out / sample["file"]).read_bytes())
        assert pixels.shape == (web.SAMPLE_SIZE, web.SAMPLE_SIZE, 3) and "flower" in sample["name"]
    (out / "stale.txt").write_text("old")
    run(*command, "--variant=int8")
    assert json.loads((out / "site.json").read_text())["model"] == "model/simgan_int8.tflite"
    assert sorted(os.listdir(out / "model")) == ["simgan_int8.tflite", "vocabulary.txt"]
    assert not (out / "stale.txt").exists()
    assert sorted(os.listdir(tmp_path)) == ["npm", "run", "site"]


def test_pictures_of_records(path, tmp_path, run_dir, litert_dir):
    facts = web.build(run_dir, str(tmp_path / "site"), records_dir=str(path / "records"), litert_dir=litert_dir)
    assert [sample["file"] for sample in facts["samples"]] == [f"samples/{i}.jpg" for i in range(1, 7)]
    assert all("flower" in sample["name"] or "petals" in sample["name"] for sample in facts["samples"])


def test_which_model(run_dir, tmp_path):
    folder = os.path.join(run_dir, "export")
    for name in (None, "float32", "simgan"):
        assert web.find_model(run_dir, name, None) == os.path.join(folder, "simgan.tflite")
    for name in ("int8", "simgan_int8", "simgan_int8.tflite"):
        assert web.find_model(run_dir, name, None) == os.path.join(folder, "simgan_int8.tflite")
    other = os.path.join(folder, "simgan_int8.tflite")
    assert web.find_model("nowhere", None, other) == other
    for arguments, message in (
        ((run_dir, "float8", None), "--variant=float8 fits 0 files of .*: it has simgan, simgan_int8"),
        ((run_dir, "int8", other), "give one of them"),
        ((run_dir, None, str(tmp_path / "no.tflite")), "no file '.*no.tflite'"),
        ((str(tmp_path), None, None), "has no .tflite; write it: python run_export.py"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            web.find_model(*arguments)


def test_wrong_models(tmp_path):
    """No contract, a later one, one of integers: refused before anything is written."""
    model = tmp_path / "m.tflite"
    model.write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"m.tflite carries no contract that this code knows"):
        web.read_packed(str(model))
    integers = json.loads(json.dumps(CONTRACT))
    integers["signatures"]["edit"]["inputs"]["image"]["dtype"] = "int8"
    for contract, message in (({**CONTRACT, "format_version": 2}, "format_version 2"), (integers, "'image': 'int8'"),
                              ({"format_version": 1}, "'tokens'")):  # fmt: skip
        write_model(model, contract)
        with pytest.raises(ValueError, match=message):
            web.read_packed(str(model))


def test_bad_input_of_the_build_is_one_line(tmp_path, run_dir, litert_dir, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    usual = [f"--run_dir={run_dir}", f"--out_dir={tmp_path / 'site'}"]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for arguments, message in (
        ([f"--run_dir={tmp_path}", usual[1]], "is no run directory"),
        ([usual[0], f"--out_dir={full}", f"--litert={litert_dir}"], "exists and is no page"),
        ([*usual, f"--litert={tmp_path}"], f"must hold @litertjs/core {litert.wanted_version()}, found none"),
        (usual, "npm is not installed"),
    ):
        assert message in refused("-m", "export.web", *arguments)
    assert (full / "thesis.txt").read_text() == "mine"
    assert not (tmp_path / "site").exists()


def test_npm_without_a_network(tmp_path, run_dir, monkeypatch):
    """A registry that nobody serves: one line, and nothing half-fetched stays in the cache."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    for name, value in (("XDG_CACHE_HOME", tmp_path / "cache"), ("npm_config_cache", tmp_path / "npm"),
                        ("npm_config_registry", "http://127.0.0.1:9/"), ("npm_config_fetch_retries", 0)):  # fmt: skip
        monkeypatch.setenv(name, str(value))
    said = refused("-m", "export.web", f"--run_dir={run_dir}", f"--out_dir={tmp_path / 'site'}")
    assert "npm could not fetch LiteRT.js" in said and "ECONNREFUSED" in said and "--litert=FOLDER" in said
    assert os.listdir(tmp_path / "cache" / "simgan-tf") == [] and not (tmp_path / "site").exists()


@pytest.mark.parametrize("prefix", ["npm ERR!", "npm error"])
def test_what_npm_says(prefix):
    """Of old and new npm: all but where the log lies."""
    lines = ["code E401", "login needed", "A complete log of this run can be found in: x.log"]
    assert litert._npm_error("\n".join(["npm warn old", *(f"{prefix} {line}" for line in lines)])) == (
        "code E401 login needed"
    )


def test_npm_that_hangs(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexec sleep 60\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(litert, "NPM_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"npm could not fetch LiteRT.js \(not done after 0.2 s\)"):
        litert._install(str(tmp_path / "cache" / "litert"))
    assert os.listdir(tmp_path / "cache") == []


def test_the_build_does_without_tensorflow():
    """It takes a second, and a machine that only serves the page needs no TensorFlow."""
    start("-c", "import sys; import export.web.__main__ as web; web.drawn_samples(); "
              "import export.web.serve; assert 'tensorflow' not in sys.modules")  # fmt: skip


def test_lock_names_no_machine():
    """Versions and checksums; no address of anybody's registry or folder."""
    lock = json.loads((ROOT / "export" / "web" / "package-lock.json").read_text())
    wanted = {name: entry for name, entry in lock["packages"].items() if name}
    assert set(wanted) == {"node_modules/@litertjs/core", "node_modules/@litertjs/wasm-utils"}
    for entry in wanted.values():
        assert entry["integrity"].startswith("sha512-") and "resolved" not in entry
    assert wanted["node_modules/@litertjs/core"]["version"] == litert.wanted_version()


@pytest.fixture
def address(tmp_path) -> str:
    """Of a running server of a folder with one file of each kind."""
    site = tmp_path / "site"
    (site / "model").mkdir(parents=True)
    for name in ("site.json", "page.js", "index.html", "model/m.tflite"):
        (site / name).write_text("{}")
    with serve.server(str(site), "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_server(address, tmp_path):
    for name, kind in (("", "text/html"), ("page.js", "text/javascript"), ("site.json", "application/json"),
                       ("model/m.tflite", "application/octet-stream")):  # fmt: skip
        with urllib.request.urlopen(f"{address}/{name}", timeout=300) as answer:
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    for name in ("model/", "no.js", "../run/config.json", "%00", "model/%ED%A0%80", "\\\\elsewhere/..", "model/.."):
        with pytest.raises(urllib.error.HTTPError, match="404") as refusal:
            urllib.request.urlopen(f"{address}/{name}", timeout=300)
        refusal.value.close()


def test_bad_input_of_the_server_is_one_line(address, tmp_path):
    said = refused("-m", "export.web.serve", f"--site_dir={tmp_path}")
    assert "holds no page; build one: python -m export.web" in said
    port = address.rpartition(":")[2]
    said = refused("-m", "export.web.serve", f"--site_dir={tmp_path / 'site'}", f"--port={port}")
    assert f"cannot listen on 127.0.0.1:{port}" in said and "another --port" in said
