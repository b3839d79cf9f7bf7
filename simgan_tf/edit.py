"""Edits photographs by a sentence, at their own size; the Editor is what evaluation and export stand on.

python -m simgan_tf.edit --pretrained=flowers --image=photo.jpg --text="this flower has purple petals" --out=edit.jpg
"""

import dataclasses
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from simgan_tf import configs
from simgan_tf.system import commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL import Image

    from data.photo import Photo
    from simgan_tf.text.encoders import TextEncoder


MEANT = {"flowers": "flowers256"}  # by a name without a size: the best
PRETRAINED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pretrained")


def pretrained_names() -> list[str]:
    """Names of the models inside this package."""
    found = os.listdir(PRETRAINED) if os.path.isdir(PRETRAINED) else []
    return sorted(name for name in found if os.path.isfile(os.path.join(PRETRAINED, name, "config.json")))


def define_model_flags() -> None:
    """--run_dir and --pretrained, of which `model_dir` takes one."""
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.")
    meant = "; ".join(f"{name} means {model}" for name, model in MEANT.items())
    flags.DEFINE_string(
        "pretrained", None, f"A model inside this package instead: one of {', '.join(pretrained_names())} ({meant})."
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
    pretrained = MEANT.get(pretrained, pretrained)
    if pretrained not in pretrained_names():
        raise ValueError(f"--pretrained={pretrained!r} is no model of this package; it has: {names}.")
    return os.path.join(PRETRAINED, pretrained)


def _require_own_data() -> None:
    """Raises: ImportError where a package `data` of the user's stands before this project's."""
    path = importlib.util.find_spec("data").origin or ""
    if os.path.dirname(os.path.dirname(path)) != commands.HOME:
        raise ImportError(
            f"{os.path.dirname(path)} hides this project's own package `data`: start from another folder, or rename it."
        )


def directory_of(model: str) -> str:
    """The run directory of a model's name, or of a run directory itself. Raises: FileNotFoundError for neither."""
    model = MEANT.get(model, model)
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
    keeps_picture: of the method, see simgan_tf/methods/__init__.py. facts: what else config.json says.
    """

    def __init__(self, model: str, text_encoder: "TextEncoder | None" = None, step: int | None = None) -> None:
        """model: the name of one inside this package, or a run directory.

        text_encoder: in place of that of the run, which one on recorded embeddings has not. step: of the checkpoint;
        None = the newest whole one.
        Raises: FileNotFoundError or ValueError where there is no such model, or its run directory holds no finished
        text encoder, config or checkpoint.
        """
        _require_own_data()
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

        with checkpoints.networks_of(run_dir):
            self.text_encoder = text_encoder or encoders.load(folder)
        if self.facts.get("text_encoder") != self.text_encoder.fingerprint:
            raise ValueError(
                f"{run_dir}/text_encoder is not the one this run was trained with; put the old one back or train anew."
            )
        with checkpoints.networks_of(run_dir):
            self.method = methods.build(self.config, self.text_encoder)
        self.keeps_picture: bool = getattr(self.method, "keeps_picture", True)
        parts = {self.method.part: self.method.variables()[self.method.part]}
        self.step = checkpoints.restore_parts(run_dir, parts, step)

    def __call__(
        self,
        picture: "Image.Image | np.ndarray | str",
        text: str,
        *,
        seed: int = 0,
        strength: float = 1.0,
        box: tuple[int, int, int, int] | None = None,
    ) -> "Image.Image | np.ndarray":
        """The whole picture at its own size, changed to what `text` says: a Pillow picture, or pixels of pixels.

        Of a method that does not keep the picture: the square of the trained size that it draws anew.
        picture: a path, a Pillow picture, or pixels [H, W, 3] uint8. seed: 0 = the mean edit, each other number gives
        another one. strength: 0 = the picture itself, 1 = the whole change. box: x, y, width, height of the part that
        is edited, in pixels; it fades into the rest.
        Raises: FileNotFoundError; ValueError for a picture, a sentence or a box that cannot be used, in one line.
        """
        import numpy as np
        from PIL import Image

        from data import photo

        embedding = self.embed(text)
        source = photo.read(picture)
        pixels = self.edit_pixels(source, embedding, self.noise(2, seed)[1 if seed else 0], strength, box)
        if isinstance(picture, np.ndarray):
            return pixels
        carried = source.alpha is not None and self.keeps_picture
        whole = np.dstack([pixels, source.alpha]) if carried else pixels
        edited = Image.fromarray(whole)
        if source.icc_profile:
            edited.info["icc_profile"] = source.icc_profile
        return edited

    def edit_pixels(
        self,
        source: "Photo",
        embedding: "np.ndarray",
        noise: "np.ndarray",
        strength: float = 1.0,
        box: tuple[int, int, int, int] | None = None,
    ) -> "np.ndarray":
        """Pixels [H, W, 3] uint8 of the photograph edited at its own size; arguments as of calling the editor.

        The network edits the photograph scaled so that its shorter side is the trained size, in as many squares as
        cover it; `carry` brings the change up to all pixels. embedding: [D] float32. noise: [Z] float32.
        Of a method that does not keep the picture: [S, S, 3], what it draws of the central square, which takes no box.
        """
        from data import photo
        from simgan_tf import carry

        seen = source.seen
        if not self.keeps_picture:
            if box is not None:
                raise ValueError(
                    f"{self.config.method} draws the whole picture anew, not a part of it; leave the box out."
                )
            from simgan_tf.system import pictures

            small = central_square(small_picture(seen, self.config.image_size))
            edited = self.edit_square(small, [embedding], noise[None])[0]
            return pictures.to_pixels(small + strength * (edited - small))
        if box is not None:
            x, y, width, height = carry.require_box(seen, box)
            seen = seen[y : y + height, x : x + width]
        size = self.config.image_size
        small = small_picture(seen, size)
        edited = carry.in_squares(small, size, lambda square: self.edit_square(square, [embedding], noise[None])[0])
        result = carry.carry(seen, small, edited, strength)
        if box is not None:
            result = carry.put_back(source.seen, result, box)
        return photo.beneath(source, result)

    def read(self, picture: "Image.Image | np.ndarray | str") -> "np.ndarray":
        """The central square of a picture as evaluation sees it: [S, S, 3] float32 in [-1, 1], at training's scale.

        Raises: FileNotFoundError; ValueError naming a damaged, tiny or enormous file.
        """
        from data import photo, pipeline

        pixels = photo.read(picture).seen
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
        return self.edit_square(image, [self.embed(text)] * samples, self.noise(samples, seed))

    def interpolate(self, image: "np.ndarray", text: str, to_text: str, steps: int, seed: int = 0) -> "np.ndarray":
        """[steps, S, S, 3]: phi mixed linearly from `text` (first) to `to_text` (last) with one fixed epsilon.

        Source: Sec. 3.4. Differs: the paper says "representations"; phi itself is mixed here, before the conditioning
        augmentation. seed 0 fixes epsilon = 0.
        """
        import numpy as np

        start, end = self.embed(text), self.embed(to_text)
        share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
        noise = self.noise(2, seed)[1 if seed else 0]
        return self.edit_square(image, (1 - share) * start + share * end, np.tile(noise, (steps, 1)))

    def draw_noise(self, count: int, seed: "Sequence[int]") -> "np.ndarray":
        """epsilon [count, Z] float32; a pure function of `seed`, two integers."""
        from simgan_tf.methods.step import draw_noise

        return draw_noise(count, self.method.noise_size, seed).numpy()

    def noise(self, samples: int, seed: int) -> "np.ndarray":
        """epsilon [samples, Z] of an edit and its other results: the first is zeros, the others are drawn from seed."""
        import numpy as np

        noise = self.draw_noise(samples, [seed, 0])
        noise[:1] = np.float32(0)
        return noise

    def edit_square(self, image: "np.ndarray", embeddings: "np.ndarray", noise: "np.ndarray") -> "np.ndarray":
        """[n, S, S, 3] of one image [S, S, 3]: an edit for each of embeddings [n, D] with its noise, of [n, Z]."""
        import numpy as np
        import tensorflow as tf

        # One picture at a time: any number of samples fits in memory, and each is bit for bit what it is alone.
        return np.concatenate(
            [
                self.method.edit(image[None], tf.convert_to_tensor(e)[None], n[None]).numpy()
                for e, n in zip(embeddings, noise, strict=True)
            ]
        )


def small_picture(pixels: "np.ndarray", size: int) -> "np.ndarray":
    """All of a picture [H, W, 3] uint8 as a network takes it: [h, w, 3] float32 in [-1, 1].

    The shorter side is `size`; both are multiples of 4. Across first, then down: Pillow's own order depends on its
    release and the sides, and the pixels, which are rounded in between, on the order.
    """
    import numpy as np
    from PIL import Image

    from simgan_tf import carry

    height, width = carry.small_size(*pixels.shape[:2], size)
    narrow = Image.fromarray(pixels).resize((width, len(pixels)), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR)) / np.float32(127.5) - 1


def central_square(small: "np.ndarray") -> "np.ndarray":
    """The central square of a small picture [h, w, 3], which a method that draws anew is given."""
    height, width = small.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return small[top : top + side, left : left + side]


def define_flags() -> None:
    define_model_flags()
    flags.DEFINE_multi_string(
        "image", None, "Photograph to edit: a file, a folder of them, or a pattern such as 'holiday/*.jpg'. Repeat the "
        "flag for several.", required=True,
    )  # fmt: skip
    flags.DEFINE_multi_string("text", [], "What it should show, e.g. 'this flower has purple petals'.")
    flags.DEFINE_string("texts", None, "File with one sentence a line: each photograph is edited by each of them.")
    flags.DEFINE_string(
        "out",
        None,
        "Edited photograph to write (.jpg, .jpeg, .png, .webp); with --to_text also one moving picture (.webp, .gif). "
        "A name without such an ending is a folder, for several photographs or sentences.",
        required=True,
    )
    flags.DEFINE_integer(
        "samples", 1, "Different edits: OUT-1, OUT-2 ... The first has no noise.", lower_bound=1, upper_bound=64
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of the noise; 0 = the first edit has none.", lower_bound=0, upper_bound=2**31 - 1
    )
    flags.DEFINE_float("strength", 1.0, "0 = the photograph itself, 1 = the whole change.", 0.0, 1.0)
    flags.DEFINE_string("box", None, "x,y,w,h in pixels from the top left corner: edit this part alone.")
    flags.DEFINE_enum(
        "size", "own", ["own", "model"], "own: the whole photograph at its own size; model: what the network itself "
        "makes, of its central square."
    )  # fmt: skip
    flags.DEFINE_string("sheet", None, "Also write a contact sheet, .png or .jpg: sources and edits, made small.")
    flags.DEFINE_string("to_text", None, "Second sentence: go from --text to it in --steps pictures.")
    flags.DEFINE_integer("steps", 8, "Pictures from --text to --to_text.", lower_bound=2, upper_bound=64)


def main(argv: list[str]) -> None:
    from simgan_tf import photographs

    values = flags.FLAGS
    model = model_dir(values.run_dir, values.pretrained)
    wanted = photographs.Wanted(
        images=tuple(values.image), texts=photographs.sentences(values.text, values.texts), out=values.out,
        samples=values.samples, seed=values.seed, strength=values.strength, box=photographs.box_of(values.box),
        size=values.size, sheet=values.sheet, texts_file=values.texts, to_text=values.to_text, steps=values.steps,
    )  # fmt: skip
    plan = photographs.plan(wanted)  # before anything heavy is loaded: what is wrong with the names is said at once
    if not photographs.run(Editor(model), wanted, plan):
        sys.exit(1)


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
