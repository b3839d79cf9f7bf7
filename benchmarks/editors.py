"""How far the served model and the example for devices are from simgan-edit, on photographs at their own size.

simgan-export --pretrained=flowers128 --out_dir=exported --variants=float32,float16
python -m benchmarks.editors --pretrained=flowers128 --exported=exported --pictures=list.txt

list.txt has a photograph's path a line. Each is edited by two of the model's own sentences in turn, by the mean of the
code. One JSON line an editor: the largest difference at any pixel and the mean one, of 255; over: edits farther than 2.
The photographs are given as PNG files of the pixels that simgan-edit reads, so that decoders of JPEG, which differ by
levels of their own, stay out of it.
"""

import json
import os
import tempfile

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import turns
from simgan_tf.edit import Editor
from simgan_tf.system import commands


def define_flags() -> None:
    flags.DEFINE_string("pretrained", "flowers128", "A model inside simgan_tf/pretrained.")
    flags.DEFINE_string("exported", None, "Its export by simgan-export.", required=True)
    flags.DEFINE_string("pictures", None, "Text file with a photograph's path a line.", required=True)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    with open(values.pictures, encoding="utf-8") as file:
        paths = [line.strip() for line in file if line.strip()]
    commands.start_tensorflow()
    import tensorflow as tf

    from export import device_example

    editor = Editor(values.pretrained)
    served = os.path.join(values.exported, "saved_model", "simgan", str(editor.step))
    served = tf.saved_model.load(served).signatures["serving_default"]

    def by_server(path: str, text: str) -> np.ndarray:
        with open(path, "rb") as file:
            given = served(image_bytes=tf.constant([file.read()]), text=tf.constant([text]), seed=tf.constant([0]))
        return tf.io.decode_png(given["image_bytes"][0]).numpy()

    def by_device(name: str) -> object:
        model = os.path.join(values.exported, name)
        return lambda path, text: np.asarray(device_example.edit(model, path, text))

    editors = {
        "served": by_server,
        "device, float32": by_device("simgan.tflite"),
        "device, float16": by_device("simgan_float16.tflite"),
    }
    apart: dict[str, list[tuple[int, float]]] = {name: [] for name in editors}
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "photograph.png")
        for number, path in enumerate(paths):
            Image.open(path).convert("RGB").save(copy)
            for turn in (0, 1):
                text = editor.config.sentences[(2 * number + turn) % len(editor.config.sentences)]
                asked = np.asarray(editor(copy, text)).astype(int)
                for name, edit in editors.items():
                    difference = np.abs(edit(copy, text) - asked)
                    apart[name].append((int(difference.max()), float(difference.mean())))
    for name, pairs in apart.items():
        largest, means = zip(*pairs, strict=True)
        line = {"benchmark": "editors", "editor": name, "model": values.pretrained, "n": len(pairs)}
        line |= {"largest": max(largest), "over": sum(value > 2 for value in largest), "mean": round(np.mean(means), 4)}
        print(json.dumps(line | turns.machine()))


if __name__ == "__main__":
    commands.run(main, define_flags)
