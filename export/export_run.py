"""Exports a trained run: SavedModel and TFLite, each compared with the live model before it gets its final name.
TensorFlow starts only after the names of files and variants have been checked."""

import json
import os
import platform
import re
from importlib import metadata
from typing import Any

from export.serving import USUAL, Bounds
from export.variants import chosen
from simgan_tf import configs
from simgan_tf.system import files
from simgan_tf.system.quiet import quiet

FORMATS = ("saved_model", "tflite")


def export(
    run_dir: str,
    out_dir: str,
    formats: list[str],
    records_dir: str | None,
    command: str,
    variants: list[str] | None = None,
    force: bool = False,
    compute: str = "float32",
    bounds: Bounds = USUAL,
) -> dict[str, Any]:
    """Writes `out_dir` with export.json, saved_model/simgan/<step>/ and .tflite files; returns export.json's content.

    Everything is made in a folder beside out_dir, checked there, and then takes the place of out_dir.
    variants: of the .tflite, of `export.variants.VARIANTS`; None = all that records_dir allows. force: keep poor ones.
    compute: of the SavedModel's convolutions. bounds: of the pictures that the SavedModel takes.
    Raises: ValueError where a format or variant is unknown, bounds are too wide, out_dir holds something else, a
    file differs from the live model, or a variant is too poor; FileNotFoundError where the run or its checkpoint is
    missing. out_dir is then as it was.
    """
    out_dir = os.path.abspath(out_dir)
    if not formats or not set(formats) <= set(FORMATS):
        raise ValueError(f"formats={','.join(formats)!r} must be one or more of {', '.join(FORMATS)}.")
    bounds.check()
    variants = chosen(variants, "tflite" in formats, records_dir is not None)
    configs.load(run_dir)  # before TensorFlow starts, so that a wrong folder costs no time
    if records_dir is not None and not os.path.isfile(os.path.join(records_dir, "dataset.json")):
        raise FileNotFoundError(f"no dataset.json in --records_dir={records_dir}: give a folder that data.build wrote.")
    if os.path.exists(out_dir) and not os.path.isfile(os.path.join(out_dir, "export.json")):
        if not os.path.isdir(out_dir) or os.listdir(out_dir):
            raise ValueError(f"{out_dir!r} exists and is no export: it has no export.json. Choose another --out_dir.")

    from tqdm import tqdm

    with quiet():
        from export import devices, parity, saved_model
        from export.serving import checks, deployment
        from simgan_tf.edit import Editor

        editor = Editor(run_dir)
    written: dict[str, dict[str, Any]] = {}
    with files.replacing_folder(out_dir) as partial:
        total = 1 + 2 * ("saved_model" in formats) + 2 * len(variants)
        with tqdm(total=total, unit="stage", desc="exporting", leave=False) as bar:

            def stage(name: str) -> None:
                bar.update()
                bar.set_postfix_str(name)

            stage("live model")
            with quiet():
                inputs = parity.cases(editor, records_dir)
            if "saved_model" in formats:
                name = f"saved_model/{deployment.MODEL}/{max(editor.step, 1)}"  # the server wants versions from 1 on
                path = os.path.join(partial, name)
                os.makedirs(os.path.dirname(path))
                stage("writing SavedModel")
                saved_model.write(editor, path, compute, bounds)
                deployment.write(editor, path)
                stage("checking SavedModel")
                size = sum(files.sizes(path).values())
                written[name] = {"bytes": size, **checks.check(path, editor, inputs, compute)}
            measured_on = None
            if "tflite" in formats:
                tflite_files, measured_on = devices.export(
                    editor, partial, variants, inputs, records_dir, force, stage
                )
                written |= tflite_files
        report = {
            "format_version": 1,
            "method": editor.config.method,
            "step": editor.step,
            "image_size": editor.config.image_size,
            "embedding_size": editor.method.embedding_size,
            "noise_size": editor.method.noise_size,
            "checked_on": inputs.pictures,
            "measured_on": measured_on,
            "limits": dict(zip(("max_error", "mean_error"), parity.LIMITS, strict=True)),
            "files": written,
            "versions": _versions(),
            "command": command,
        }
        files.write_text(os.path.join(partial, "export.json"), json.dumps(report, indent=2) + "\n")
    return report


def _versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "ai-edge-litert": metadata.version("ai-edge-litert"),
    }


def step_of(out_dir: str) -> str | None:
    """Step of the export that `out_dir` holds, "unknown" for a damaged one, None for none."""
    path = os.path.join(out_dir, "export.json")
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        match = re.search(r'"step": (\d+)', file.read())
    return match[1] if match else "unknown"


def table(report: dict[str, Any]) -> str:
    """The report's numbers, one line a check."""
    lines = [f"{'file':<24}{'MB':>9}  {'run by':<22}{'n':>3}{'max error':>11}{'mean error':>12}{'PSNR dB':>9}"]
    for name, facts in report["files"].items():
        label = f"{name:<24}{facts['bytes'] / 1e6:>9.2f}"
        for loader, check in facts["checks"].items():
            psnr = "same" if check["psnr_db"] is None else f"{check['psnr_db']:.1f}"
            lines.append(
                f"{label:<33}  {loader:<22}{check['n']:>3}{check['max_error']:>11.1e}"
                f"{check['mean_error']:>12.1e}{psnr:>9}"
            )
            label = ""
    return "\n".join(lines)
