"""Exports a trained run: SavedModel and TFLite, each compared with the live model before it gets its final name.

python run_export.py --run_dir=runs/demo
"""

import os

from absl import flags

from export import export_run
from export.serving import USUAL, Bounds
from export.variants import CALIBRATED, VARIANTS
from simgan_tf import edit
from simgan_tf.system import commands


def define_flags() -> None:
    edit.define_model_flags()
    flags.adopt_module_key_flags(edit)
    flags.DEFINE_string(
        "out_dir", None, "Folder to write, replaced as a whole; default RUN_DIR/export, or export_NAME of --pretrained."
    )
    flags.DEFINE_list("formats", list(export_run.FORMATS), f"What to write: any of {', '.join(export_run.FORMATS)}.")
    flags.DEFINE_enum("compute", "float32", ["float32", "bfloat16"], "Convolutions of the SavedModel: bfloat16 is "
                      "faster where the CPU has AMX, or on a GPU, and off by about 0.01 of values "
                      "in [-1, 1].")  # fmt: skip
    flags.DEFINE_integer("max_pixels", USUAL.pixels, "Largest JPEG that the SavedModel takes, in pixels, up to "
                         "50,000,000; half as many of a PNG or WebP. The default takes an old core 3 "
                         "seconds.")  # fmt: skip
    flags.DEFINE_integer("max_aspect", USUAL.aspect, "Longer side over shorter of a picture that the SavedModel "
                         "takes, up to 40; the network works on as many squares.")  # fmt: skip
    flags.DEFINE_string("records_dir", None, "Check on test pictures of these records; default random ones.")
    flags.DEFINE_list(
        "variants",
        None,
        f"Kinds of .tflite: any of {', '.join(VARIANTS)}. Default all, but {', '.join(CALIBRATED)}, which takes its "
        "ranges from training pictures, only with --records_dir.",
    )
    flags.DEFINE_boolean("force", False, "Write a .tflite that is too poor (PSNR, colours) all the same.")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    run_dir = edit.model_dir(values.run_dir, values.pretrained)
    # An installed package may not be written to.
    default = f"export_{values.pretrained}" if values.pretrained else os.path.join(run_dir, "export")
    out_dir = values.out_dir or default
    before = export_run.step_of(out_dir)
    # The files are checked where they will run, on a CPU; a GPU's TF32 convolutions alone are 1e-3 off.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    command = commands.typed()
    report = export_run.export(
        run_dir, out_dir, values.formats, values.records_dir, command, values.variants, values.force, values.compute,
        Bounds(values.max_pixels, values.max_aspect),
    )  # fmt: skip
    print(export_run.table(report))
    small = {name: facts for name, facts in report["files"].items() if "device" in facts}
    if small:
        from export import devices

        print(f"\n{devices.table(small)}\nmeasured on {report['measured_on']}; batch 1, this machine's CPU")
        for name in [name for name, facts in small.items() if "refused" in facts]:
            print(f"kept by --force: {name}: {small[name]['refused']}")
    if "tflite" in values.formats and values.variants is None and not values.records_dir:
        print(f"left out: {', '.join(CALIBRATED)}, which takes its ranges from training pictures: give --records_dir")
    print(f"checked on {report['checked_on']}, against {values.pretrained or run_dir} at step {report['step']}")
    print(f"wrote {out_dir}" + (f", in place of the export of step {before}" if before else ""))


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
