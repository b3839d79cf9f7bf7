"""Makes the .tflite variants of a run, measures each as a device would run it, and refuses one that is too poor."""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from data import pipeline, splits
from data.painter import COLOURS
from export import parity, saved_model, tflite, variants
from simgan_tf.edit import Editor
from simgan_tf.evaluation import metrics
from simgan_tf.system import commands

PICTURES, COLOURED = 32, 256  # pictures that quality is measured on; COLOURED where colours can be read
SAMPLES = 64  # training pictures that int8 is calibrated on
LEAST_PSNR, MOST_LOST = 30.0, 0.02  # dB; share of colour accuracy


@dataclasses.dataclass(frozen=True)
class Cases:
    """n held-out inputs and what the live float32 model makes of them."""

    image: np.ndarray  # [n, S, S, 3] uint8
    tokens: np.ndarray  # [n, T] int32
    noise: np.ndarray  # [n, Z] float32; the first is zeros
    edited: np.ndarray  # [n, S, S, 3] float32 in [-1, 1]
    masks: np.ndarray | None  # [n, S, S] bool, inside = the flower; None = no colours can be read
    wanted: np.ndarray | None  # [n] name of the colour that the sentence asks for
    pictures: str  # where they come from, in words


def export(
    editor: Editor,
    folder: str,
    wanted: list[str],
    inputs: parity.Cases,
    records_dir: str | None = None,
    force: bool = False,
    stage: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, dict[str, Any]], str]:
    """Writes the variants `wanted` into `folder`; returns the facts of each file, by name, and a line on the pictures.

    Facts: variant, bytes, times_weights (bytes over those of the float32 weights), checks (float32: `parity.compare` on
    `inputs`), quality and device (see `measure`), and `refused` where force let a poor one pass.
    stage: called with the name of each step as it begins.
    Raises: ValueError where a conversion fails, float32 differs from the live model, or, without force, a variant is
    below LEAST_PSNR or loses more than MOST_LOST of the colour accuracy.
    """
    held_out = cases(editor, records_dir)
    samples = None
    if set(wanted) & set(variants.CALIBRATED):
        samples = calibration(editor, records_dir)
    paths = {variant: os.path.join(folder, tflite.file_name(variant)) for variant in wanted}
    tflite.write_variants(editor, paths, samples, lambda variant: stage(f"converting to TFLite {variant}"))
    weights = 4 * sum(int(np.prod(v.shape)) for v in saved_model.raw_module(editor).weights)
    files, poor = {}, []
    for variant, path in paths.items():
        stage(f"measuring TFLite {variant}")
        facts = {"variant": variant, "bytes": os.path.getsize(path)}
        facts["times_weights"] = round(facts["bytes"] / weights, 4)
        facts["checks"] = parity.check_tflite(path, inputs, editor) if variant == "float32" else {}
        facts["quality"], facts["device"] = measure(path, held_out)
        reason = refusal(facts["quality"])
        if reason:
            facts["refused"] = reason
            poor.append(f"{variant} ({reason})")
        files[os.path.basename(path)] = facts
    if poor and not force:
        rest = ",".join(variant for variant in wanted if not any(line.startswith(f"{variant} ") for line in poor))
        raise ValueError(
            f"TFLite {'; '.join(poor)}: not exported. Leave it out{f' (--variants={rest})' if rest else ''}, or take "
            "it as it is with --force."
        )
    return files, held_out.pictures


def cases(editor: Editor, records_dir: str | None = None, seed: int = 0) -> Cases:
    """Held-out inputs with the live model's edits.

    records_dir: test pictures at even distances in key order (COLOURED of the demo's, else PICTURES, or all of a
    smaller split), each with a caption of a random other picture, in the demo one of another colour; None: PICTURES
    smooth random pictures and the sentences of the sample sheet.
    Raises: FileNotFoundError or ValueError where records_dir holds no test split of two pictures.
    """
    config = editor.config
    masks = wanted = None
    if records_dir is None:
        image = parity.smooth_pictures(PICTURES, config.image_size, seed)
        text = [config.sentences[i % len(config.sentences)] for i in range(PICTURES)]
        pictures = f"{PICTURES} smooth random pictures, seed {seed}"
    else:
        split = splits.load_split(records_dir, "test")
        coloured = all(split.colours) and bool(split.masked.all()) and len(set(split.colours)) > 1
        split = split.spread(COLOURED if coloured else PICTURES)
        image = pipeline.evaluation_images(split, config.image_size, config.load_size)
        text, others = _other_captions(split, coloured, seed)
        if coloured:
            masks = pipeline.decoded_masks(split, config.image_size, config.load_size).all()
            wanted = np.array(split.colours)[others]
        pictures = f"{len(split)} test pictures of the records"
    pixels = np.round((image + 1) * 127.5).astype(np.uint8)
    noise = editor.draw_noise(len(pixels), [seed, 3])
    noise[0] = 0
    tokens = editor.text_encoder.tokens(text)
    embedding = editor.method.encode(text)
    edit = tf.function(editor.method.edit, reduce_retracing=True)
    edited = np.concatenate([
        edit(pixels[i : i + 16] / np.float32(127.5) - 1, embedding[i : i + 16], noise[i : i + 16]).numpy()
        for i in range(0, len(pixels), 16)
    ])  # fmt: skip
    return Cases(pixels, tokens, noise, edited, masks, wanted, pictures)


def calibration(editor: Editor, records_dir: str | None, seed: int = 0) -> dict[str, np.ndarray]:
    """SAMPLES training inputs, as `quantise.activation_ranges` takes them. Raises: ValueError without records."""
    if records_dir is None:
        raise ValueError(f"variants={','.join(variants.CALIBRATED)} needs --records_dir: its ranges are those of "
                         "training pictures. Give it, or leave the variant out.")  # fmt: skip
    config = editor.config
    split = splits.load_split(records_dir, "train").spread(SAMPLES)
    text, _ = _other_captions(split, False, seed)
    image = pipeline.evaluation_images(split, config.image_size, config.load_size)
    return {
        "image": np.round((image + 1) * 127.5).astype(np.uint8),
        "tokens": editor.text_encoder.tokens(text),
        "noise": editor.draw_noise(len(text), [seed, 4]),
    }


def _other_captions(split: splits.Split, coloured: bool, seed: int) -> tuple[list[str], np.ndarray]:
    """For each picture a caption of a random other one (where coloured, of another colour), and that one's row."""
    if len(split) < 2:
        raise ValueError(f"{len(split)} pictures in a split of the records; two are needed, to edit one as the other.")
    random = np.random.default_rng(seed)
    colours = np.array(split.colours) if coloured else np.arange(len(split))
    others = np.array([random.choice(np.flatnonzero(colours != colour)) for colour in colours])
    return [split.captions[j][random.integers(len(split.captions[j]))] for j in others], others


def measure(path: str, held_out: Cases) -> tuple[dict[str, Any], dict[str, float]]:
    """Quality and figures of a .tflite, run in a process without TensorFlow.

    Quality, against the live model: n, max_error, mean_error, psnr_db (peak 2, None = no difference) of `edit` after
    the file's own `embed`; ssim; manipulate_psnr_db of the pixels of `manipulate`, which rounding alone brings to 58.7;
    where colours can be read colour_accuracy and colour_lost, the live model's accuracy less the file's, as shares.
    Figures: those of `on_device.measure`.
    Raises: ValueError where the file does not run or a value is not finite.
    """
    name = os.path.basename(path)
    with tempfile.TemporaryDirectory() as scratch:
        in_path, out_path = os.path.join(scratch, "in.npz"), os.path.join(scratch, "out.npz")
        np.savez(in_path, image=held_out.image, tokens=held_out.tokens, noise=held_out.noise)
        done, last = commands.start("export.on_device", os.path.abspath(path), in_path, out_path)
        if done.returncode:
            raise ValueError(f"{name}: does not run: {last}; not exported.")
        with np.load(out_path, allow_pickle=False) as arrays:
            outputs = dict(arrays)
    anything = (np.inf, np.inf)
    quality = parity.compare(name, outputs["edited"], held_out.edited, anything)
    ssim = tf.image.ssim(metrics.to_unit(outputs["edited"]), metrics.to_unit(held_out.edited), 1.0)
    quality["ssim"] = round(float(tf.reduce_mean(ssim)), 5)
    manipulated = outputs["manipulated"].astype(np.float64) / 127.5 - 1
    checked = parity.compare(f"{name} manipulate", manipulated, held_out.edited[: len(manipulated)], anything)
    quality["manipulate_psnr_db"] = checked["psnr_db"]
    if held_out.masks is not None:
        live, own = (_colour_accuracy(edited, held_out) for edited in (held_out.edited, outputs["edited"]))
        quality |= {"colour_accuracy": round(own, 4), "colour_lost": round(live - own, 4)}
    figures = ("load_ms", "manipulate_ms_1", "manipulate_ms_2", "memory_mb")
    return quality, {figure: round(float(outputs[figure]), 2) for figure in figures}


def _colour_accuracy(edited: np.ndarray, held_out: Cases) -> float:
    pictures = zip(metrics.to_unit(edited), held_out.masks, held_out.wanted, strict=True)
    return float(np.mean([metrics.dominant_colour(picture[mask], COLOURS) == name for picture, mask, name in pictures]))


def refusal(quality: dict[str, Any]) -> str | None:
    """Why a variant is too poor, with the figure; None where it is not."""
    for key in ("psnr_db", "manipulate_psnr_db"):
        if quality[key] is not None and quality[key] < LEAST_PSNR:
            name = "manipulate's PSNR" if key.startswith("manipulate") else "PSNR"
            return f"{name} {quality[key]} dB against the live model on {quality['n']} pictures, below {LEAST_PSNR:.0f}"
    if quality.get("colour_lost", 0) > MOST_LOST:
        return (f"{100 * quality['colour_lost']:.1f} points of colour accuracy lost on {quality['n']} pictures, more "
                f"than {100 * MOST_LOST:.0f}")  # fmt: skip
    return None


def table(files: dict[str, dict[str, Any]]) -> str:
    """Size, speed and quality of the .tflite files, a line each, to choose by."""
    lines = [f"{'file':<27}{'MB':>7}{'/weights':>9}{'load ms':>9}{'ms, 1 thread':>14}{'2 threads':>11}{'peak MB':>9}"
             f"{'max error':>11}{'mean error':>12}{'PSNR dB':>9}{'SSIM':>8}{'colour':>8}{'lost':>7}"]  # fmt: skip
    for name, facts in files.items():
        quality, device = facts["quality"], facts["device"]
        colours = f"{'-':>8}{'-':>7}"
        if "colour_lost" in quality:
            colours = f"{quality['colour_accuracy']:>8.3f}{100 * quality['colour_lost']:>7.1f}"
        lines.append(
            f"{name:<27}{facts['bytes'] / 1e6:>7.2f}{facts['times_weights']:>9.3f}{device['load_ms']:>9.1f}"
            f"{device['manipulate_ms_1']:>14.1f}{device['manipulate_ms_2']:>11.1f}{device['memory_mb']:>9.1f}"
            f"{quality['max_error']:>11.1e}{quality['mean_error']:>12.1e}{_psnr(quality['psnr_db']):>9}"
            f"{quality['ssim']:>8.4f}{colours}"
        )
    return "\n".join(lines)


def _psnr(value: float | None) -> str:
    return "same" if value is None else f"{value:.1f}"
