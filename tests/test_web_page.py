"""The page of export/web in a headless Chromium and a headless Firefox: what a person does; its pixels against Python's
of the same file."""

import base64
import functools
import http.server
import io
import json
import os
import re
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from data import images
from export import tflite
from export.web import __main__ as web
from export.web import litert, serve
from simgan_tf import carry
from simgan_tf.edit import Editor, small_picture
from tests import chromium, firefox, plain
from tests.tiny import CONFIG, make_run, vse_encoder

EDITED = "return document.querySelector('#status').textContent.startsWith('Edited')"
ENTER, TAB, SHIFT, HOME, END = "\ue007", "\ue004", "\ue008", "\ue011", "\ue010"  # WebDriver's names of keys
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"

RELAXED_SIMD = bytes.fromhex(  # a module with one function of it: i8x16.relaxed_swizzle of two splats
    "0061736d01000000"  "01050160" "00017b"  "03020100"  "0a0f010d00" "4101fd0f" "4102fd0f" "fd8002" "0b"
)  # fmt: skip

BROWSERS = {"chromium": (chromium.missing, chromium.chromium), "firefox": (firefox.missing, firefox.firefox)}

pytestmark = [pytest.mark.ci, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> str:
    """A built page of an untrained run whose generator uses its whole range."""
    try:
        modules = litert.find()
    except ValueError as error:
        pytest.skip(f"no LiteRT.js: {error}")
    run_dir = str(tmp_path_factory.mktemp("run"))
    make_run(run_dir, vse_encoder())
    os.mkdir(os.path.join(run_dir, "export"))
    tflite.write_variants(Editor(run_dir), {"float32": os.path.join(run_dir, "export", "simgan.tflite")})
    out_dir = str(tmp_path_factory.mktemp("site") / "site")
    web.build(run_dir, out_dir, litert_dir=os.path.dirname(modules))
    return out_dir


class Python:
    """What Python makes of the site's own .tflite, by its packed contract and LiteRT's interpreter."""

    def __init__(self, site: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model = os.path.join(site, "model", "simgan.tflite")
        self.contract, self.vocabulary = tflite.read_contract(model)
        self.interpreter = Interpreter(model)

    def photo(self, path: str) -> np.ndarray:
        """[H, W, 3] uint8, upright and on white; a JPEG is decoded by Pillow, as exactly as browsers do it.

        TensorFlow's decoder, in its default setting, is a faster one: up to 10 of 255 off these two, 0.8 on average.
        """
        if path.endswith(".jpg"):
            with Image.open(path) as picture:
                return np.asarray(ImageOps.exif_transpose(picture))
        return tf.io.decode_image(images.read_picture(path), channels=3, expand_animations=False).numpy()

    def edit(self, path: str, text: str, to_text: str = "", share: float = 0.0, noise=None, box=None, strength=1.0):
        """The photograph of `path`, or a box (x, y, width, height) of it, edited: [H, W, 3] uint8."""
        embed, edit = (self.interpreter.get_signature_runner(name) for name in ("embed", "edit"))
        first, second = (
            embed(tokens=self.vocabulary.batch([words], self.contract["tokens"]["length"]))["embedding"]
            for words in (text, to_text)
        )
        mixed = np.float32(1 - share) * first + np.float32(share) * second
        noise = np.zeros([1, CONFIG.ca_size], np.float32) if noise is None else np.array([noise], np.float32)
        photo = self.photo(path)
        x, y, width, height = box or (0, 0, *photo.shape[1::-1])
        part = photo[y : y + height, x : x + width]
        small = small_picture(part, CONFIG.image_size)

        def edited(square: np.ndarray) -> np.ndarray:
            return edit(image=square[None], embedding=mixed, noise=noise)["edited"][0]

        carried = carry.carry(part, small, plain.in_squares(small, edited), strength)
        return carry.put_back(photo, carried, box) if box else carried


@pytest.fixture(scope="module")
def python(site) -> Python:
    return Python(site)


def serving(server: http.server.HTTPServer):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request, tmp_path_factory):
    missing, start = BROWSERS[request.param]
    if reason := missing():
        pytest.skip(reason)
    with start(str(tmp_path_factory.mktemp("profile"))) as window:
        yield window


@pytest.fixture(scope="module")
def page(site, browser):
    """The page, loaded from our server, the first sample edited by the first sentence."""
    with serve.server(site, "127.0.0.1", 0) as server:
        browser.address = serving(server)
        browser.size(1100, 900)
        browser.open(browser.address)
        browser.wait(EDITED)
        yield browser
        server.shutdown()


def canvas(browser, name: str) -> np.ndarray:
    """[H, W, 3] uint8 of what a canvas shows."""
    width, height, pixels = browser.run(
        "const c = document.getElementById(arguments[0]), copy = new OffscreenCanvas(c.width, c.height);"
        "const pen = copy.getContext('2d');"
        "pen.drawImage(c, 0, 0);"
        "const bytes = pen.getImageData(0, 0, c.width, c.height).data;"
        "let text = '';"
        "for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));"
        "return [c.width, c.height, btoa(text)]",
        name,
    )
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape([height, width, 4])[..., :3]


def changed(browser, what, *arguments):
    """Does `what` and waits until another edit is on the page."""
    browser.run("document.querySelector('#status').textContent = ''")
    what(*arguments)
    browser.wait(EDITED)


def refusal(browser, what, *arguments) -> str:
    """Does `what`, which the page must refuse; its words. Then everything must still work."""
    what(*arguments)
    said = browser.wait("const e = document.querySelector('#error'); return e.hidden ? '' : e.innerText")
    changed(browser, browser.click, "#samples button:nth-child(2)")
    assert browser.run("return document.querySelector('#error').hidden")
    return said


def write(browser, selector: str, text: str) -> None:
    browser.clear(selector)
    browser.type(selector, text)


def close(found: np.ndarray, expected: np.ndarray, within: int = 2) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= within
    assert expected.std() > 20  # a flat picture would prove nothing


def sample(site: str, number: int) -> str:
    folder = os.path.join(site, "samples")
    return os.path.join(folder, sorted(os.listdir(folder))[number - 1])


def test_first_sight(page, site, python):
    """Without a touch: the first sample, whole, by the first sentence; threads, and all that was fetched."""
    close(canvas(page, "before"), python.photo(sample(site, 1)), 1)
    close(canvas(page, "after"), python.edit(sample(site, 1), CONFIG.sentences[0]))
    assert page.run("return document.querySelector('#text').value") == CONFIG.sentences[0]
    assert re.fullmatch(r"Edited in [\d.]+ m?s\.", page.text("#status"))
    assert page.run("return crossOriginIsolated")
    facts = page.run("return document.querySelector('#facts').textContent")
    cores = page.run("return navigator.hardwareConcurrency")
    if page.run("return WebAssembly.validate(new Uint8Array(arguments[0]))", list(RELAXED_SIMD)):
        assert f"{min(cores, 4)} thread" in facts and "16x16" in facts
    else:  # LiteRT.js has no build with threads and without relaxed SIMD; Firefox 140 has none
        assert "1 thread (more need a browser with relaxed SIMD" in facts and "16x16" in facts
    assert page.text("#downloaded").endswith("MB, done")
    size = os.path.getsize(os.path.join(site, "model", "simgan.tflite"))
    listed = page.run("return document.querySelector('#files').textContent")
    assert "simgan.tflite" in listed and f"{size / 1e3:.1f} kB" in listed and litert.wanted_version() in listed


def test_type_click_slide(page, site, python):
    """A sentence with Enter, a sample by click, the slider by keys, another result twice, and back to the first."""
    write(page, "#text", "this FLOWER has (blue) petals")
    changed(page, page.type, "#text", ENTER)
    close(canvas(page, "after"), python.edit(sample(site, 1), "this flower has blue petals"))
    changed(page, page.click, "#samples button:nth-child(3)")
    close(canvas(page, "before"), python.photo(sample(site, 3)), 1)
    assert page.run("return document.querySelector('#share').disabled")
    write(page, "#to-text", "the petals are pink")
    changed(page, page.click, "#edit")
    page.run("document.querySelector('#share').value = 59")
    changed(page, page.type, "#share", RIGHT)  # 60
    two = (sample(site, 3), "this flower has blue petals", "the petals are pink")
    close(canvas(page, "after"), python.edit(*two, 0.6))
    assert page.text("#share-shown") == "60 %"
    for number in (1, 2):
        changed(page, page.click, "#another")
        noise = page.run(
            "return import('/pixels.js').then((m) => Array.from(m.drawNoise(arguments[0], arguments[1])))",
            CONFIG.ca_size, number,
        )  # fmt: skip
        expected = python.edit(*two, 0.6, noise)
        close(canvas(page, "after"), expected)
        assert page.text("#status").endswith(f": result {number + 1}.")
        assert np.abs(expected.astype(int) - python.edit(*two, 0.6)).max() > 10
    changed(page, page.click, "#first")
    close(canvas(page, "after"), python.edit(*two, 0.6))
    changed(page, write, page, "#to-text", ENTER)  # without a second sentence the slider says nothing
    close(canvas(page, "after"), python.edit(sample(site, 3), "this flower has blue petals"))


def test_the_last_sample_clicked_wins(page, site, python):
    """Also where an earlier one arrives later; its button alone is pressed."""
    page.run(
        "const real = window.fetch; let count = 0;"
        "window.fetch = async (...given) => {"
        "  const late = count++ === 0;"
        "  if (late) await new Promise((resolve) => setTimeout(resolve, 1000));"
        "  const answer = await real(...given);"
        "  if (late) { window.fetch = real; setTimeout(() => { window.late = true; }, 500); }"
        "  return answer; };"
        "window.late = false"
    )

    def both() -> None:
        page.click("#samples button:nth-child(2)")
        page.click("#samples button:nth-child(3)")

    changed(page, both)
    page.wait("return window.late")
    close(canvas(page, "before"), python.photo(sample(site, 3)), 1)
    pressed = page.run("return [...document.querySelectorAll('#samples button')].map((b) => b.ariaPressed)")
    assert pressed == ["true" if i == 2 else "false" for i in range(web.SAMPLES)]


def test_strength(page, site, python):
    """By keys from all of the edit to none, where the photograph is as it was."""
    changed(page, page.click, "#samples button:nth-child(2)")
    whole = python.edit(sample(site, 2), page.run("return document.querySelector('#text').value"))
    changed(page, page.type, "#strength", LEFT * 60)
    assert page.text("#strength-shown") == "40 %"
    half = canvas(page, "after")
    close(half, python.edit(sample(site, 2), page.run("return document.querySelector('#text').value"), strength=0.4))
    photo = python.photo(sample(site, 2)).astype(int)
    assert 0 < np.abs(half - photo).mean() < np.abs(whole - photo).mean()
    changed(page, page.type, "#strength", HOME)
    np.testing.assert_array_equal(canvas(page, "after"), photo)
    changed(page, page.type, "#strength", END)
    close(canvas(page, "after"), whole)


def the_box(page) -> tuple[int, int, int, int]:
    """x, y, width, height of the box on the page, as it is told."""
    width, height, x, y = map(int, re.findall(r"\d+", page.text("#part-shown")))
    said = page.run("return document.querySelector('#box').ariaLabel")
    assert said.startswith(f"the part to change, {width}x{height}")
    return x, y, width, height


def test_a_part(page, site, python, tmp_path):
    """A box by keys, by mouse and by touch: moved, resized, drawn anew; only it changes, with a soft edge."""
    path = str(tmp_path / "wide.png")
    Image.fromarray(python.photo(sample(site, 1))).resize((240, 150)).save(path)
    changed(page, page.type, "#file", path)
    text = page.run("return document.querySelector('#text').value")
    changed(page, page.click, "#part")
    assert the_box(page) == (60, 38, 120, 75)
    close(canvas(page, "after"), python.edit(path, text, box=(60, 38, 120, 75)))
    for keys, box in (([RIGHT], (65, 38, 120, 75)), ([DOWN], (65, 41, 120, 75)), ([SHIFT, LEFT], (65, 41, 115, 75)),
                      ([SHIFT, UP], (65, 41, 115, 72))):  # fmt: skip
        changed(page, page.press, *keys)
        assert the_box(page) == box
    close(canvas(page, "after"), python.edit(path, text, box=box))
    np.testing.assert_array_equal(canvas(page, "after")[:41], python.photo(path)[:41])
    for _ in range(30):
        page.press(RIGHT)
    assert the_box(page) == (125, 41, 115, 72)  # no further than the edge
    page.press(SHIFT, RIGHT)
    assert the_box(page) == (125, 41, 115, 72)

    left, top, width, height = page.run(
        "document.querySelector('#frame').scrollIntoView({block: 'center'});"
        "const r = document.querySelector('#frame').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / 240 * width, top + y / 150 * height

    for start, end, kind, box in (
        ((180, 80), (80, 60), "mouse", (25, 21, 115, 72)),  # taken in the middle: moved
        ((140, 93), (200, 120), "mouse", (25, 21, 175, 99)),  # by its corner: resized, the other one stays
        ((210, 140), (120, 30), "mouse", (120, 30, 90, 110)),  # beside it: drawn anew
        ((165, 85), (105, 70), "touch", (60, 15, 90, 110)),
        ((60, 15), (-50, 50), "touch", (0, 50, 150, 75)),  # no further than the edge
    ):
        changed(page, page.drag, at(*start), at(*end), kind)
        assert np.abs(np.array(the_box(page)) - box).max() <= 2, (the_box(page), box)
    close(canvas(page, "after"), python.edit(path, text, box=the_box(page)))
    changed(page, page.click, "#part")  # the whole photograph again
    assert page.run("return document.querySelector('#box').hidden")
    close(canvas(page, "after"), python.edit(path, text))


def saved(page, folder) -> bytes:
    """What the button brings, under the name that the page says."""
    page.downloads(str(folder))
    page.click("#save")
    said = page.wait("const s = document.querySelector('#status').textContent; return s.startsWith('Saved') && s")
    name = said.removeprefix("Saved as ").removesuffix(".")
    end = time.monotonic() + chromium.PATIENCE
    while not (folder / name).exists() or not (folder / name).stat().st_size or list(folder.glob("*.part")):
        assert time.monotonic() < end, os.listdir(folder)
        time.sleep(0.05)
    assert "petals" in name
    return (folder / name).read_bytes()


def test_save(page, tmp_path, python):
    """A PNG of a PNG, every pixel; a JPEG of a JPEG; of the photograph's upright size, with its colour profile."""
    changed(page, page.click, "#samples button:nth-child(3)")
    with Image.open(io.BytesIO(saved(page, tmp_path))) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), canvas(page, "after"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.Exif()
    turned[images.ORIENTATION] = 6
    noise = np.random.default_rng(0).integers(0, 256, [9, 7, 3], np.uint8)
    large = Image.fromarray(noise).resize((301, 203), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", exif=turned, icc_profile=profile)
    changed(page, page.type, "#file", str(tmp_path / "large.jpg"))
    with Image.open(io.BytesIO(saved(page, tmp_path))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (203, 301)) and picture.info["icc_profile"] == profile
        assert images.ORIENTATION not in picture.getexif()
        assert np.abs(np.asarray(picture).astype(int) - canvas(page, "after")).mean() < 3


def write_odd_pictures(folder) -> list[str]:
    """Files that need care; every exact decoder sees the same pixels in them, "glass.png" apart, blended in 8 bits."""
    noise = np.random.default_rng(0)
    smooth = Image.fromarray(noise.integers(0, 256, [9, 7, 3], np.uint8)).resize((97, 61), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[images.ORIENTATION] = 6
    glass = smooth.convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    smooth.save(folder / "upright.jpg", quality=95)
    smooth.save(folder / "turned.jpg", quality=95, exif=turned)
    for number in range(2, 9):  # all ways to lie
        turned[images.ORIENTATION] = number
        smooth.save(folder / f"turned{number}.png", exif=turned)
        smooth.save(folder / f"turned{number}.webp", lossless=True, exif=turned)
    glass.save(folder / "glass.png")
    smooth.convert("L").save(folder / "grey.png")
    smooth.quantize(16).save(folder / "palette.png")
    smooth.resize((2000, 1500)).save(folder / "large.png")
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))  # 1.0: a browser that heeds it shows another picture
    smooth.save(folder / "gamma.png", pnginfo=gamma)
    smooth.save(folder / "lossless.webp", lossless=True)
    return sorted(os.listdir(folder))


def test_files_of_ones_own(page, python, tmp_path):
    """Chosen and dropped: turned by EXIF, transparent, grey, of a palette, with a gamma, larger than a strip."""
    text = page.run("return document.querySelector('#text').value")
    for name in write_odd_pictures(tmp_path):
        path = str(tmp_path / name)
        changed(page, page.type, "#file", path)
        close(canvas(page, "before"), python.photo(path), 1)
        close(canvas(page, "after"), python.edit(path, text), 4 if name == "glass.png" else 2)
    drop = """return fetch(arguments[0]).then((r) => r.blob()).then((blob) => {
        const data = new DataTransfer();
        data.items.add(new File([blob], "dropped.png"));
        document.querySelector("#drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    })"""
    before = canvas(page, "before")
    changed(page, page.run, drop, page.run("return document.querySelector('#samples img').src"))
    assert page.run("return document.querySelector('#before').getAttribute('aria-label')") == "dropped.png"
    assert canvas(page, "before").shape != before.shape


def test_bad_input(page, tmp_path):
    """Each is refused in a line that says what to do, and the page lives on."""
    (tmp_path / "letter.txt").write_text("dear flower")
    (tmp_path / "no.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    Image.new("1", (8000, 6300)).save(tmp_path / "huge.png")
    Image.new("L", (7, 70)).save(tmp_path / "tiny.png")
    Image.new("L", (4000, 90)).save(tmp_path / "long.png")
    Image.fromarray(np.full([20, 20], 4095, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"></svg>')
    for name, message in (
        ("letter.txt", "letter.txt is not a picture that this browser can read. Take a JPEG"),
        ("no.jpg", "no.jpg is not a picture"),
        ("huge.png", "huge.png is 8000x6300, over 50 million pixels. Make it smaller."),
        ("tiny.png", "tiny.png is 7x70. Both sides need 8 pixels"),
        ("long.png", "long.png is 4000x90. The longer side may be 40 times"),
        ("deep.png", "deep.png: it has 16 bits a colour of which the upper 4 are empty"),
        ("drawing.svg", "drawing.svg: it is damaged, or of a kind that this browser cannot read; take a JPEG"),
    ):
        assert message in refusal(page, page.type, "#file", str(tmp_path / name))
    drop_text = "document.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer(), bubbles: true}))"
    assert "That was no file" in refusal(page, page.run, drop_text)
    for text, message in ((" ", "There is no word in the sentence. Try: this, flower, has"),
                          ("qqqq zzzz", 'The model knows no word of "qqqq zzzz". It knows 11 words')):  # fmt: skip
        write(page, "#text", text)
        page.click("#edit")
        said = page.wait("const e = document.querySelector('#error'); return e.hidden ? '' : e.innerText")
        assert message in said
        write(page, "#text", "red")
        changed(page, page.click, "#edit")
    write(page, "#text", "a red flower <b>qqqq</b>")
    assert page.text("#notes") == "unknown to the model: a, b, qqqq"
    write(page, "#to-text", "!?")
    page.click("#edit")
    assert "no word in the sentence" in page.wait("return document.querySelector('#error').innerText")
    page.clear("#to-text")
    changed(page, page.click, "#edit")


@pytest.mark.parametrize("width", [360, 1100])
def test_keyboard(page, width):
    """Tab goes from the box over the picture to the saving, and Shift-Tab back; every stop has a name, shows the focus,
    and nothing lies over it."""
    page.size(width, 780, mobile=width < 500)
    changed(page, page.run, "document.querySelector('#part').click()")
    write(page, "#to-text", "red")
    page.run("const h1 = document.querySelector('h1'); h1.tabIndex = -1; h1.focus()")
    there = walk(page, TAB)
    order = ["box", "file", "samples", "part", "text", "to-text", "edit", "sentences", "share", "strength", "another",
             "first", "save", "downloads"]  # fmt: skip
    assert list(dict.fromkeys(there)) == order
    assert there.count("samples") == web.SAMPLES and there.count("sentences") == len(CONFIG.sentences)
    page.run("document.querySelector('summary').focus()")
    assert walk(page, SHIFT, TAB) == there[-2::-1]
    changed(page, page.run, "document.querySelector('#part').click()")


def walk(page, *keys: str) -> list[str]:
    """Where the focus comes, key by key, up to the first or last control; ids, of the group where there is none."""
    stops = []
    while len(stops) < 2 or stops[-1] not in ("box", "downloads"):
        page.press(*keys)
        stop, name, outline, top = page.run(
            "const e = document.activeElement, label = e.labels?.[0];"
            "const shown = e.classList.contains('unseen') ? label : e, place = shown.getBoundingClientRect();"
            "const top = document.elementFromPoint(place.x + place.width / 2, place.y + place.height / 2);"
            "const name = (label ?? e).innerText || e.ariaLabel || e.querySelector('img')?.alt;"
            "const outline = getComputedStyle(shown).outlineStyle;"
            "return [e.id || e.parentElement.id || e.tagName, name, outline, shown.contains(top)]"
        )
        assert name and outline == "solid" and top, (stop, name, outline, top)
        stops.append(stop)
        assert len(stops) < 40, stops
    return stops


@pytest.mark.parametrize("width", [360, 700, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_widths_and_schemes(page, width, scheme):
    """Nothing sticks out, also with a word that has no end; text stands out from what is behind it (WCAG: 4.5)."""
    page.size(width, 780, mobile=width < 500)
    page.scheme(scheme)
    write(page, "#text", "flower " + "q" * 300)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.require_readable("h1, p, label, figcaption, button, input, summary, .hint")
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        assert shot.size == (width, 780)
    write(page, "#text", "red")


class Plain(http.server.SimpleHTTPRequestHandler):
    """A server without our headers, of the kind that declares .gz files as packed for the journey."""

    asked: list[str] = []

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # the files change in the test
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        self.asked.append(f"{self.command} {self.path}")


def test_any_other_server(site, browser, python):
    """One thread, and the same picture; then the same folder with its model gone and cut short: a line, no model."""
    model = os.path.join(site, "model", "simgan.tflite")
    handler = functools.partial(Plain, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Plain.asked.clear()  # by another browser
        address = serving(server)
        browser.open(address)
        browser.wait(EDITED)
        assert not browser.run("return crossOriginIsolated")
        facts = browser.run("return document.querySelector('#facts').textContent")
        assert "1 thread (more need the headers COOP and COEP from the server)" in facts
        close(canvas(browser, "after"), python.edit(sample(site, 1), CONFIG.sentences[0]))
        with open(os.path.join(site, "site.json"), encoding="utf-8") as file:
            files = json.load(file)["files"]  # nothing but these is asked for
        assert set(Plain.asked) <= {"GET /", "GET /site.json", *(f"GET /{name}" for name in files)}
        assert sum(".wasm.gz" in line for line in Plain.asked) == 1
        with open(model, "rb") as file:
            whole = file.read()
        try:
            for content, message in ((None, "model/simgan.tflite could not be loaded (404 File not found): the whole"),
                                     (whole[:500], "model/simgan.tflite has 500 of"),
                                     (b"x" * len(whole), "The model did not start: ")):  # fmt: skip
                os.remove(model)
                if content is not None:
                    with open(model, "wb") as file:
                        file.write(content)
                browser.open(address)
                said = browser.wait("const e = document.querySelector('#error'); return e.hidden ? '' : e.innerText")
                assert message in said and "undefined" not in said and "[object" not in said, said
                assert browser.run("return document.querySelector('#edit').disabled")
                assert "Reload" in browser.text("#status")
                if content is None:
                    open(model, "wb").close()
        finally:
            with open(model, "wb") as file:
                file.write(whole)
            server.shutdown()
