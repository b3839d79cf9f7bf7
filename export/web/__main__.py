"""Builds a static page that edits pictures in the browser, with a run's .tflite and LiteRT.js inside.

python -m export.web --pretrained=flowers --out_dir=site
"""

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import tempfile
from typing import Any

from absl import flags
from PIL import Image

from data import geometry
from export import device_example
from export.web import litert, serve
from simgan_tf import configs, edit
from simgan_tf.system import commands, files
from simgan_tf.system.quiet import quiet

PAGE = os.path.join(litert.HERE, "page")
FORMAT_VERSION = 1  # of contract.json and of site.json
SAMPLES = 8
SAMPLE_SIZE = 256  # pixels of a drawn sample
PRETRAINED_VARIANT = "float16"  # half the bytes to download; the weights are stored so in any case
CREDITS = os.path.join(edit.PRETRAINED, "samples", "README.md")  # of the photographs beside it
SENTENCES = {  # to try on the photographs of a subject; the page opens with the first of both
    "flowers": (
        "this flower has purple petals",
        "this flower has bright yellow petals",
        "this flower has red petals",
        "the petals of this flower are pink",
        "this flower has white petals",
    ),
    "birds": (
        "this bird is yellow with a yellow belly",
        "this bird is blue with a blue belly",
        "this bird is white with a white belly",
        "this bird is red with a red belly",
    ),
}


def define_flags() -> None:
    edit.define_model_flags()
    flags.adopt_module_key_flags(edit)
    flags.DEFINE_string("out_dir", None, "Folder to write, replaced as a whole.", required=True)
    flags.DEFINE_string(
        "variant",
        None,
        "Which .tflite of RUN_DIR/export: its name, or what follows 'simgan' in it. With --pretrained the kind that is "
        f"made now; default {PRETRAINED_VARIANT}.",
    )
    flags.DEFINE_string("tflite", None, "The .tflite to take instead, from anywhere.")
    flags.DEFINE_string("records_dir", None, "Sample pictures: the first test ones of these records, which are then "
                                             "on the page; default flowers drawn now, and for --pretrained "
                                             "photographs of this package.")  # fmt: skip
    flags.DEFINE_string("litert", None, "Folder with @litertjs/core, for a machine without npm; default: npm ci.")


def build(
    run_dir: str,
    out_dir: str,
    variant: str | None = None,
    tflite: str | None = None,
    records_dir: str | None = None,
    litert_dir: str | None = None,
    pretrained: str | None = None,
) -> dict[str, Any]:
    """Writes the site as a whole or not at all; returns the content of its site.json.

    variant, tflite, records_dir, litert_dir: see the flags. pretrained: the name by which run_dir ships in this
    package; its .tflite is made now, unless `tflite` is given.
    Raises: ValueError, FileNotFoundError where run_dir, the .tflite, the records or LiteRT.js are not what they should
    be, or out_dir holds something else.
    """
    config, _ = configs.load(run_dir)
    out_dir = os.path.abspath(out_dir)
    if os.path.exists(out_dir) and not os.path.isfile(os.path.join(out_dir, "site.json")):
        if not os.path.isdir(out_dir) or os.listdir(out_dir):
            raise ValueError(f"{out_dir!r} exists and is no page: it has no site.json. Choose another --out_dir.")
    with contextlib.ExitStack() as stack:
        model = None if pretrained and tflite is None else find_model(run_dir, variant, tflite)
        modules = litert.find(litert_dir)
        if model is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            model = make_model(run_dir, scratch, variant or PRETRAINED_VARIANT)
        contract, vocabulary = read_packed(model)
        samples, authors = choose_samples(records_dir, pretrained)

        site = stack.enter_context(files.replacing_folder(out_dir))
        shutil.copytree(PAGE, site, dirs_exist_ok=True)
        for folder in ("model", "samples"):
            os.mkdir(os.path.join(site, folder))
        facts: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "model": f"model/{os.path.basename(model)}",
            "vocabulary": vocabulary and "model/vocabulary.txt",
            "litert": litert.wanted_version(),
            "limits": {name.lower(): getattr(geometry, name) for name in ("MAX_PIXELS", "MAX_ASPECT", "MIN_SIDE")},
            "sentences": list(SENTENCES.get(subject_of(pretrained), config.sentences)),
            "samples": [],
        }
        shutil.copyfile(model, os.path.join(site, facts["model"]))
        if vocabulary:
            litert.write(site, facts["vocabulary"], vocabulary)
        if authors:
            shutil.copyfile(authors, os.path.join(site, "samples", "README.md"))
        for name, title, data in samples:
            facts["samples"].append({"file": f"samples/{name}", "name": title})
            litert.write(site, f"samples/{name}", data)
        litert.copy(modules, os.path.join(site, "litert"))
        serve.write_headers(site)
        facts["files"] = files.sizes(site)
        facts["contract"] = contract
        files.write_text(os.path.join(site, "site.json"), json.dumps(facts, indent=2) + "\n")
    return facts


def find_model(run_dir: str, variant: str | None, tflite: str | None) -> str:
    """The .tflite to show. Raises: ValueError or FileNotFoundError where there is none, naming those that there are."""
    if tflite is not None:
        if variant is not None:
            raise ValueError(f"--variant={variant} and --tflite={tflite} name a file each; give one of them.")
        if not os.path.isfile(tflite):
            raise FileNotFoundError(f"no file {tflite!r}; give the .tflite that run_export.py wrote.")
        return tflite
    folder = os.path.join(run_dir, "export")
    found = os.listdir(folder) if os.path.isdir(folder) else []
    names = sorted(name.removesuffix(".tflite") for name in found if name.endswith(".tflite"))
    if not names:
        raise FileNotFoundError(f"{folder!r} has no .tflite; write it: python run_export.py --run_dir={run_dir}")
    wanted = "simgan" if variant in (None, "float32") else variant.removesuffix(".tflite")
    fitting = [name for name in names if wanted in (name, name.removeprefix("simgan").lstrip("._-"))]
    if len(fitting) != 1:
        flag = f"--variant={variant}" if variant is not None else "--variant is not given, and"
        raise ValueError(f"{flag} fits {len(fitting)} files of {folder!r}: it has {', '.join(names)}.")
    return os.path.join(folder, f"{fitting[0]}.tflite")


def make_model(run_dir: str, folder: str, variant: str) -> str:
    """The .tflite of a model that ships without one, made in `folder` and held against the live model.

    Raises: ValueError where there is no such variant, or it is too poor.
    """
    from export import variants

    variants.chosen([variant], tflite=True, records=False)
    print(f"making the {variant} .tflite of this model ...", flush=True)
    commands.start_tensorflow()
    with quiet():
        from export import devices, parity

        editor = edit.Editor(run_dir)
        made, _ = devices.export(editor, folder, [variant], parity.cases(editor))
    return os.path.join(folder, next(iter(made)))


def read_packed(model: str) -> tuple[dict[str, Any], bytes | None]:
    """Contract and vocabulary from inside a .tflite; no vocabulary where its text encoder reads characters.

    Raises: ValueError where the file carries none, or one that the page cannot feed.
    """
    contract, vocabulary = device_example.unpack_contract(model)
    version = contract["format_version"]
    inputs = {**contract["signatures"]["embed"]["inputs"], **contract["signatures"]["edit"]["inputs"]}
    names = ["tokens", "image", "embedding", *(["noise"] if "noise" in inputs else [])]
    dtypes = {name: inputs.get(name, {}).get("dtype") for name in names}
    if version != FORMAT_VERSION or dtypes != {**dict.fromkeys(dtypes, "float32"), "tokens": "int32"}:
        raise ValueError(f"{model} has format_version {version} and inputs of {dtypes}; the page feeds format_version "
                         f"{FORMAT_VERSION} with tokens of int32 and the others of float32: take another variant."
                         )  # fmt: skip
    return contract, vocabulary


def choose_samples(records_dir: str | None, pretrained: str | None) -> tuple[list[tuple[str, str, bytes]], str | None]:
    """`recorded_samples`, else `photographs`, else `drawn_samples`; the file that names the photographs' authors."""
    if records_dir:
        return recorded_samples(records_dir), None
    samples = photographs(subject_of(pretrained))
    return (samples, CREDITS) if samples else (drawn_samples(), None)


def subject_of(pretrained: str | None) -> str:
    """What a model of this package edits: flowers128 and flowers-tagan edit flowers."""
    return re.split(r"[-0-9]", pretrained or "")[0]


def photographs(subject: str) -> list[tuple[str, str, bytes]]:
    """(file name, words with author and licence, JPEG bytes) of this package's photographs of `subject`."""
    with open(CREDITS, encoding="utf-8") as file:
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| \[([^\]]+)\]", file.read(), re.MULTILINE)
    samples = []
    for path, what, author, licence in rows:
        if os.path.dirname(path) == subject:
            with open(os.path.join(os.path.dirname(CREDITS), path), "rb") as file:
                samples.append((os.path.basename(path), f"{what}, by {author}, {licence}, made smaller", file.read()))
    return samples


def drawn_samples() -> list[tuple[str, str, bytes]]:
    """(file name, words, PNG bytes) of SAMPLES flowers of the demo's held-out classes, each of another colour."""
    from data import demo, painter

    kinds = demo.flowers()
    held_out = {}
    for number in demo.split()[1]:
        held_out.setdefault(kinds[number - 1].colour, number)
    samples = []
    for colour, number in itertools.islice(held_out.items(), SAMPLES):
        pixels, _ = painter.draw(kinds[number - 1], number, SAMPLE_SIZE)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        samples.append((f"flower_{number:03d}.png", f"a drawn {colour} flower", buffer.getvalue()))
    return samples


def recorded_samples(records_dir: str) -> list[tuple[str, str, bytes]]:
    """(file name, first caption, encoded bytes) of the first SAMPLES test pictures. Raises: as data.records."""
    commands.start_tensorflow()
    from data import records

    samples = []
    for i, example in enumerate(records.first_examples(records_dir, "test", SAMPLES), start=1):
        ending = "png" if example.image.startswith(b"\x89PNG") else "jpg"  # records hold no others
        samples.append((f"{i}.{ending}", example.captions[0], example.image))
    return samples


def main(argv: list[str]) -> None:
    v = flags.FLAGS
    run_dir = edit.model_dir(v.run_dir, v.pretrained)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # as run_export.py: checked where it will run
    facts = build(run_dir, v.out_dir, v.variant, v.tflite, v.records_dir, v.litert, v.pretrained)
    sizes = facts["files"]
    visit = sizes[facts["model"]] + sizes["litert/litert_wasm_internal.wasm.gz"]
    print(f"wrote {v.out_dir}: {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files; a visit downloads "
          f"{facts['model']} and one LiteRT.js, {visit / 1e6:.1f} MB, and less than 1 MB besides")  # fmt: skip
    print(f"look at it: python -m export.web.serve --site_dir={v.out_dir}")


if __name__ == "__main__":
    commands.run(main, define_flags)
