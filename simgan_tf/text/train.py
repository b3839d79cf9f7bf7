"""Trains phi on a records folder and writes run_dir/text_encoder.

python -m simgan_tf.text.train --records_dir=runs/demo/records --run_dir=runs/demo

The training itself is simgan_tf.text.training; here are its flags, read before TensorFlow starts.
"""

import os
import shlex

from absl import flags

from data import records
from simgan_tf.system import commands


def define_flags() -> None:
    # The choices that vse.py accepts are repeated here, since importing it starts TensorFlow; a test compares the two.
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string("run_dir", None, "Folder of the run; gets text_encoder/, image_tower.npz, text_metrics.jsonl.",
                        required=True)  # fmt: skip
    flags.DEFINE_enum("split", "train", ["train", "test"], "Split to learn from. test: for a judge of edits, which "
                      "must not have learnt from what a generator learnt from; see simgan_tf.evaluation.judges."
                      )  # fmt: skip
    flags.DEFINE_bool("overwrite", False, "Train again although run_dir/text_encoder is there.")
    flags.DEFINE_enum("encoder", "gru", ["gru", "bow"], "gru reads the words in order; bow, the mean of the word "
                      "vectors, is the baseline.")  # fmt: skip
    flags.DEFINE_integer("dim", 300, "Numbers in a sentence vector.", lower_bound=1)
    flags.DEFINE_integer("word_dim", 0, "Numbers in a word vector; 0 = those of --word_vectors, or else dim with bow "
                         "and 300 with gru.", lower_bound=0)  # fmt: skip
    flags.DEFINE_string("word_vectors", "", "Text file in GloVe's or fastText's form (.txt, .vec) that the word "
                        "vectors start from; empty = at random.")  # fmt: skip
    flags.DEFINE_bool("freeze_words", False, "Leave the word vectors as --word_vectors has them, as SISGAN does.")
    flags.DEFINE_integer("length", 30, "Words kept of a sentence; the rest is cut.", lower_bound=1)
    flags.DEFINE_integer("min_count", 2, "A word enters the vocabulary if met this often.", lower_bound=1)
    flags.DEFINE_float(
        "phi_scale",
        0.0,
        "Factor on the encoder's state: 1 = the raw state, 0 = the factor that brings "
        "the root mean square of its entries over the training captions to 3.",
        lower_bound=0,
    )
    flags.DEFINE_integer("steps", 2000, "Batches to train on.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Pairs in a batch, all pictures at most; each is a negative to the others.",
                         lower_bound=2)  # fmt: skip
    flags.DEFINE_enum("image_features", "cnn", ["cnn", "vgg19"], "cnn = a small network trained with phi; vgg19 = fc7 "
                      "of VGG-19, frozen, of one centre crop, and a trained projection.")  # fmt: skip
    flags.DEFINE_string("vgg19_weights", "", "VGG-19's weights in Keras' HDF5 form; empty = the file in Keras' cache. "
                        "Nothing is downloaded.")  # fmt: skip
    flags.DEFINE_integer("image_size", 64, "Pixels, side of the square crops the cnn sees.", lower_bound=16)
    flags.DEFINE_integer("load_size", 0, "Pixels, side the crops are drawn from; 0 = image_size * 76 / 64.",
                         lower_bound=0)  # fmt: skip
    flags.DEFINE_integer("image_width", 32, "Channels of the cnn's first convolution.", lower_bound=1)
    flags.DEFINE_float("margin", 0.2, "Margin of the ranking loss, in cosine units.", lower_bound=0.0)
    flags.DEFINE_enum("reduction", "mean", ["mean", "sum"], "Of the ranking loss over a batch: mean as SISGAN, sum as "
                      "Kiros et al.")  # fmt: skip
    flags.DEFINE_enum("image_side", "normalised", ["normalised", "raw"], "In the ranking loss: image vectors of length "
                      "1, or raw as in the code of Kiros et al.")  # fmt: skip
    flags.DEFINE_bool("hardest", False, "Only the hardest negative of each pair counts, as in VSE++; starts slowly.")
    flags.DEFINE_float("learning_rate", 5e-4, "Of Adam.", lower_bound=0.0)
    flags.DEFINE_float("word_dropout", 0.05, "Chance that a training word becomes <unk>, which otherwise only rare "
                       "words would train.", lower_bound=0.0, upper_bound=1.0)  # fmt: skip
    flags.DEFINE_integer("validate_every", 100, "Steps between measurements on held-out pictures.", lower_bound=1)
    flags.DEFINE_integer("measured_images", 1000, "Test pictures measured at the end, at most; 0 = all.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Of weights, order, crops and captions.", lower_bound=0)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    info = records.read_info(values.records_dir)  # before TensorFlow starts, so that a wrong name costs no time
    for path in filter(None, (values.word_vectors, values.vgg19_weights)):
        os.stat(path)
    commands.start_tensorflow()
    from simgan_tf.text import training, vse

    directory = os.path.join(values.run_dir, "text_encoder")
    if os.path.isfile(os.path.join(directory, "encoder.json")) and not values.overwrite:
        encoder = vse.TextEncoder.load(directory)
        print(f"{directory} is there already (dim {encoder.dim}, {len(encoder.vocabulary)} words); "
              "nothing to do. --overwrite trains it again.")  # fmt: skip
    else:
        training.run(values)
    records_flag, run_dir = f"--records_dir={shlex.quote(values.records_dir)}", shlex.quote(values.run_dir)
    if values.split == "test":  # a judge, from which no generator may learn
        following = f"python -m simgan_tf.evaluation {records_flag} --run_dir=... --judges={run_dir}"
    else:
        # Those for a processor: the paper's own take weeks of one.
        presets = {"demo": "simgan_demo", "cub": "simgan_cub_64_shipped", "oxford102": "simgan_oxford102_64_shipped"}
        preset = presets.get(info["dataset"], "...")
        following = f"python run_train.py --preset={preset} {records_flag} --run_dir={run_dir}"
    print("next: " + commands.as_typed(following))


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
