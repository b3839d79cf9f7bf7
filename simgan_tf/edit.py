"""Edits a picture by a sentence with a trained run; the Editor is what evaluation and export stand on.

python -m simgan_tf.edit --pretrained=flowers --image=flower.jpg --text="this flower has purple petals" --out=edit.png
"""

import dataclasses
import os
from typing import TYPE_CHECKING

from absl import flags

from simgan_tf import configs
from simgan_tf.system import commands, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL import Image

    from simgan_tf.text.encoders import TextEncoder


PRETRAINED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pretrained")


def pretrained_names() -> list[str]:
    """Names of the models inside this package."""
    found = os.listdir(PRETRAINED) if os.path.isdir(PRETRAINED) else []
    return sorted(name for name in found if os.path.isfile(os.path.join(PRETRAINED, name, "config.json")))


def define_model_flags() -> None:
    """--run_dir and --pretrained, of which `model_dir` takes one."""
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.")
    flags.DEFINE_string(
        "pretrained", None, f"A model inside this package instead: one of {', '.join(pretrained_names()) or 'none'}."
    )


def model_dir(run_dir: str | None, pretrained: str | None) -> str:
    """The run directory that the two flags name: a model inside this package is one.

    Raises: ValueError where not exactly one is given, or no model is called that.
    """
    names = ", ".join(pretrained_names()) or "none"
    if (run_dir is None) == (pretrained is None):
        given = "neither is" if run_dir is None else f"--run_dir={run_dir} and --pretrained={pretrained} are both"
        raise ValueError(
            f"{given} given: give --run_dir=RUN, what run_train.py wrote, or --pretrained=NAME, of: {names}."
        )
    if pretrained is None:
        return run_dir
    if pretrained not in pretrained_names():
        raise ValueError(f"--pretrained={pretrained!r} is no model of this package; it has: {names}.")
    return os.path.join(PRETRAINED, pretrained)


def directory_of(model: str) -> str:
    """The run directory of a model's name, or of a run directory itself. Raises: FileNotFoundError for neither."""
    if model in pretrained_names():
        return os.path.join(PRETRAINED, model)
    if not os.path.isdir(model):
        raise FileNotFoundError(
            f"{model!r} is no run directory, and no model of this package; it has: {', '.join(pretrained_names())}."
        )
    return model


class Editor:
    """A trained model, ready to edit: config, text encoder, the network of a checkpoint that edits, in float32.

        editor = Editor("flowers")
        editor(Image.open("rose.jpg"), "this flower has purple petals").save("edit.png")

    config, method, text_encoder (of any kind, see simgan_tf.text.encoders): as trained. step: of the checkpoint.
    facts: what else config.json says.
    """

    def __init__(self, model: str, text_encoder: "TextEncoder | None" = None, step: int | None = None) -> None:
        """model: the name of one inside this package, or a run directory.

        text_encoder: in place of that of the run, which one on recorded embeddings has not. step: of the checkpoint;
        None = the newest whole one.
        Raises: FileNotFoundError or ValueError where there is no such model, or its run directory holds no finished
        text encoder, config or checkpoint.
        """
        run_dir = directory_of(model)
        config, self.facts = configs.load(run_dir)
        self.config = dataclasses.replace(config, precision="float32")
        folder = os.path.join(run_dir, "text_encoder")
        if text_encoder is None and not os.path.isdir(folder):
            raise FileNotFoundError(
                f"{run_dir} has no text_encoder/; put it back. A run trained on the embeddings of its records has none "
                "and reads no sentences: train with run_train.py --text_encoder=..."
            )
        commands.start_tensorflow()
        from simgan_tf import checkpoints, methods
        from simgan_tf.text import encoders

        self.text_encoder = text_encoder or encoders.load(folder)
        if self.facts.get("text_encoder") != self.text_encoder.fingerprint:
            raise ValueError(
                f"{run_dir}/text_encoder is not the one this run was trained with; put the old one back or train anew."
            )
        self.method = methods.build(self.config, self.text_encoder)
        parts = {self.method.part: self.method.variables()[self.method.part]}
        if step is None:
            self.step = checkpoints.restore_parts(run_dir, parts)
        else:
            self.step = checkpoints.restore_step(run_dir, parts, step)

    def __call__(
        self, picture: "Image.Image | np.ndarray | str", text: str, seed: int = 0
    ) -> "Image.Image | np.ndarray":
        """`picture`, changed to what `text` says: a Pillow picture of a Pillow picture or a path, pixels of pixels.

        picture: a path, a Pillow picture, or pixels [H, W, 3] uint8. seed: 0 = the mean edit, each other number gives
        another one. Raises: as `read` and `embed`.
        """
        import numpy as np
        from PIL import Image

        edited = self._edit(self.read(picture), [self.embed(text)], self._noise(2, seed)[1 if seed else 0][None])
        pixels = pictures.to_pixels(edited[0])
        return pixels if isinstance(picture, np.ndarray) else Image.fromarray(pixels)

    def read(self, picture: "Image.Image | np.ndarray | str") -> "np.ndarray":
        """A picture as the generator takes it: [S, S, 3] float32 in [-1, 1].

        Any size from 8 pixels and any mode; EXIF rotation is honoured; the central square is kept, at training's scale.
        Raises: FileNotFoundError; ValueError naming a damaged, tiny or enormous file.
        """
        import numpy as np
        import tensorflow as tf
        from PIL import ImageOps

        from data import images, pipeline

        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"pixels are {picture.dtype} {list(picture.shape)}; accepted are uint8 [H, W, 3].")
            pixels = tf.constant(picture)
        elif isinstance(picture, str | os.PathLike):
            encoded = images.read_picture(os.fspath(picture))
            pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        else:
            pixels = tf.constant(np.asarray(ImageOps.exif_transpose(picture).convert("RGB")))
        return pipeline.centre_crop(pixels, self.config.image_size, self.config.load_size).numpy()

    def embed(self, text: str) -> "np.ndarray":
        """What the sentence becomes for this method, [D] float32.

        Raises: ValueError for a sentence of which nothing is known to the text encoder.
        """
        self.text_encoder.check(text)
        return self.method.encode([text])[0]

    def edit(self, image: "np.ndarray", text: str, samples: int = 1, seed: int = 0) -> "np.ndarray":
        """Edits [samples, S, S, 3] float32 in [-1, 1] of one image [S, S, 3].

        The first with the mean code (epsilon = 0), the others with epsilon drawn from `seed`.
        Source: one-to-many generation, Sec. 2.3 and 3.4.
        """
        return self._edit(image, [self.embed(text)] * samples, self._noise(samples, seed))

    def interpolate(self, image: "np.ndarray", text: str, to_text: str, steps: int, seed: int = 0) -> "np.ndarray":
        """[steps, S, S, 3]: phi mixed linearly from `text` (first) to `to_text` (last) with one fixed epsilon.

        Source: Sec. 3.4. Differs: the paper says "representations"; phi itself is mixed here, before the conditioning
        augmentation. seed 0 fixes epsilon = 0.
        """
        import numpy as np

        start, end = self.embed(text), self.embed(to_text)
        share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
        noise = self._noise(2, seed)[1 if seed else 0]
        return self._edit(image, (1 - share) * start + share * end, np.tile(noise, (steps, 1)))

    def draw_noise(self, count: int, seed: "Sequence[int]") -> "np.ndarray":
        """epsilon [count, Z] float32; a pure function of `seed`, two integers."""
        from simgan_tf.methods.step import draw_noise

        return draw_noise(count, self.method.noise_size, seed).numpy()

    def _noise(self, samples: int, seed: int) -> "np.ndarray":
        import numpy as np

        noise = self.draw_noise(samples, [seed, 0])
        noise[:1] = np.float32(0)
        return noise

    def _edit(self, image: "np.ndarray", embeddings: "np.ndarray", noise: "np.ndarray") -> "np.ndarray":
        import numpy as np
        import tensorflow as tf

        # One picture at a time: any number of samples fits in memory, and each is bit for bit what it is alone.
        return np.concatenate(
            [
                self.method.edit(image[None], tf.convert_to_tensor(e)[None], n[None]).numpy()
                for e, n in zip(embeddings, noise, strict=True)
            ]
        )


def define_flags() -> None:
    define_model_flags()
    flags.DEFINE_string("image", None, "The picture to edit: any size, any mode.", required=True)
    flags.DEFINE_string("text", None, "What it should show, e.g. 'this flower has purple petals'.", required=True)
    flags.DEFINE_string("out", None, "Sheet to write, .png or .jpg: source, then the edits.", required=True)
    flags.DEFINE_integer("samples", 4, "Number of different edits.", lower_bound=1, upper_bound=64)
    flags.DEFINE_integer("seed", 0, "Seed of the noise; the first sample has none.", lower_bound=0)
    flags.DEFINE_string("to_text", None, "Second sentence: interpolate from --text to it instead of sampling.")
    flags.DEFINE_integer("steps", 8, "Pictures of the interpolation.", lower_bound=2, upper_bound=64)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    pictures.check_image_name(values.out)
    run_dir = model_dir(values.run_dir, values.pretrained)
    editor = Editor(run_dir)
    unknown = [word for text in (values.text, values.to_text or "") for word in editor.text_encoder.unknown_words(text)]
    image = editor.read(values.image)
    if values.to_text is not None:
        edits = editor.interpolate(image, values.text, values.to_text, values.steps, values.seed)
        titles = [values.text, *[""] * (len(edits) - 2), values.to_text]
    else:
        edits = editor.edit(image, values.text, values.samples, values.seed)
        titles = [values.text, *[f"sample {i + 1}" for i in range(1, len(edits))]]
    pictures.save_image(pictures.sheet([[image, *edits]], ["source", *titles]), values.out)
    if unknown:
        shown = (word if word.isprintable() else repr(word) for word in dict.fromkeys(unknown))
        print(f"unknown to the text encoder: {', '.join(shown)}")
    model = values.pretrained or run_dir
    print(f"wrote {values.out}: the source and {len(edits)} edits, by {model} at step {editor.step}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
