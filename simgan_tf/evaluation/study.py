"""The paper's human study: a page on which people rank the systems' results, and the table that their answers make.

python -m simgan_tf.evaluation.study make --run_dirs=runs/sisgan,runs/ccgan,runs/tagan,runs/simgan --out=study
python -m simgan_tf.evaluation.study report answers/*.json

`make` writes a folder for any web server, and beside it study.key.json, which says whose result is whose: keep it back.
`report` needs it. Each shows its own flags: study make --help, study report --help.
"""

import hashlib
import json
import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from simgan_tf.evaluation import answers, lineup
from simgan_tf.evaluation.answers import CRITERIA, FORMAT_VERSION
from simgan_tf.system import commands, files

if TYPE_CHECKING:
    import numpy as np

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "study_page")
MOST_SYSTEMS = 9  # ranks are single keys


def define_flags() -> None:
    """Those of `report` where the command line says so, else those of `make`."""
    if sys.argv[1:2] == ["report"]:
        flags.DEFINE_string(
            "key", "study.key.json", "What `study make` wrote beside the page's folder: whose result is whose."
        )
        flags.DEFINE_string("out", None, "Folder for table.md and results.json besides; default: the screen alone.")
        return
    lineup.define_flags()
    flags.adopt_module_key_flags(lineup)
    flags.DEFINE_string(
        "out", None, "Folder of the page, new or empty; the key is written beside it, as OUT.key.json.", required=True
    )
    flags.DEFINE_integer("images", 6, "Pictures to ask about, at even distances in key order.", lower_bound=1)
    flags.DEFINE_integer(
        "seed", None, "Seed of the results' numbers on the page; default: drawn anew, and told in the key.",
        lower_bound=0,
    )  # fmt: skip


def main(argv: list[str]) -> None:
    action, *words = argv[1:] or [""]
    if action == "report" and words:
        report(words, flags.FLAGS.key, flags.FLAGS.out)
    elif action == "report":
        raise ValueError("study report: no answers; give the files that people sent: study report answers/*.json")
    elif action == "make" and not words:
        make(flags.FLAGS)
    elif action == "make":
        raise ValueError(f"study make: unexpected argument {words[0]!r}: every option is a --flag=value.")
    else:
        raise ValueError(f"study {action}: the first word says what to do: study make, or study report.")


# ---- the page


def make(values: flags.FlagValues) -> None:
    """Edits the pictures that the flags name by every system, and writes the page.

    Raises: ValueError for a --out or a key that is there already, for fewer than 2 systems or more than 9, and for
    records of too few pictures; what `lineup.of_flags` raises.
    """
    if os.path.exists(values.out) and (not os.path.isdir(values.out) or os.listdir(values.out)):
        raise ValueError(f"--out={values.out} is there already and is not empty; choose another folder.")
    if os.path.exists(key := key_of(values.out)):
        raise ValueError(f"{key} is the key of a study whose answers need it; move it, or choose another --out.")
    if not 2 <= len(values.run_dirs) <= MOST_SYSTEMS:
        raise ValueError(f"--run_dirs names {len(values.run_dirs)} systems; people rank 2 to {MOST_SYSTEMS}.")
    shown = lineup.of_flags(values, values.images)
    count, sentences = len(shown.shown), shown.sentences
    if not values.keys and count < values.images:
        raise ValueError(f"--images={values.images}: the {values.split} split has {count} pictures.")
    if repeated := count - len(set(sentences)):
        print(f"{repeated} of {count} sentences come again; to name others: --text=, once a picture")
    from simgan_tf.edit import Editor
    from simgan_tf.evaluation import figures

    columns, systems = [], []
    for i, (name, run_dir, (config, _)) in enumerate(zip(shown.names, shown.run_dirs, shown.loaded, strict=True), 1):
        print(f"{i} of {len(shown.names)}: {name}, {config.method} at {config.image_size}x{config.image_size}")
        editor = Editor(run_dir)
        columns.append(figures.one_each(editor, shown.images(config.image_size), sentences))
        systems.append({"name": name, "method": config.method, "run_dir": run_dir, "step": editor.step,
                        "image_size": config.image_size})  # fmt: skip
    facts = {
        "systems": systems,
        "split": values.split,
        "dataset": {name: shown.info[name] for name in ("dataset", "fingerprint")},
        "frame": f"the middle {1 / shown.frame:.3f} of a picture's shorter side, for every system",
        "command": commands.typed("simgan_tf.evaluation.study"),
    }
    seed = secrets.randbits(32) if values.seed is None else values.seed
    pairs = list(zip(shown.shown.keys, sentences, strict=True))
    write(values.out, shown.images(shown.largest), columns, pairs, seed, facts)
    print(f"wrote {values.out}: {count} pictures x {len(CRITERIA)} questions; any web server can show it")
    print(f"keep back {key}: it says whose result is whose, and the report needs it")


def key_of(out: str) -> str:
    """Where the key of the page in the folder `out` lies: beside it, so that it is not put on the server with it."""
    return f"{os.path.normpath(out)}.key.json"


def write(
    out: str,
    sources: "np.ndarray",
    columns: "list[list[np.ndarray]]",
    pairs: list[tuple[str, str]],
    seed: int,
    facts: dict[str, Any],
) -> None:
    """Writes the page to the folder `out` and its key to `key_of(out)`, both or neither.

    sources: [N, S, S, 3] float in [-1, 1]. columns: the edits of each of facts["systems"], N pictures as large or
    smaller. pairs: (the picture's key, the sentence), N. seed: of the results' numbers. facts: what the key says too.
    Differs: systems of smaller pictures are enlarged by their nearest pixels to S x S, so that a picture's size does
    not tell whose it is; the paper does not say how its subjects were shown pictures of four sizes. Results are ranked
    without ties, as its text says, though the sharpness of its table 1 adds up to 9.73 and not to 1 + 2 + 3 + 4.
    """
    names = [system["name"] for system in facts["systems"]]
    placed = blinded(len(pairs), names, seed)
    encoded = {}  # file name -> PNG; written in the page's order, so that no file's time tells a system
    for row, (source, named) in enumerate(zip(sources, placed, strict=True)):
        encoded[f"{row + 1}-source.png"] = png(source, len(source))
        for picture, name in named.items():
            encoded[f"{picture}.png"] = png(columns[names.index(name)][row], len(source))
    questions = [{"sentence": sentence, "source": f"{row}-source", "pictures": list(named)}
                 for row, ((_, sentence), named) in enumerate(zip(pairs, placed, strict=True), 1)]  # fmt: skip
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, CRITERIA, questions]).encode())
    for data in encoded.values():
        digest.update(data)
    study = {"format_version": FORMAT_VERSION, "study": digest.hexdigest()[:16]}
    whose = [{"picture": picture, "sentence": sentence, "results": named}
             for (picture, sentence), named in zip(pairs, placed, strict=True)]  # fmt: skip
    criteria = [{"name": name, "question": question} for name, question in CRITERIA.items()]
    content = json.dumps(study | {"criteria": criteria, "questions": questions}, indent=2)
    with files.replacing_folder(out) as folder:
        shutil.copytree(PAGE, folder, dirs_exist_ok=True)
        os.mkdir(os.path.join(folder, "pictures"))
        for name, data in encoded.items():
            with open(os.path.join(folder, "pictures", name), "wb") as file:
                file.write(data)
        files.write_text(os.path.join(folder, "questions.js"), f"const STUDY = {content};\n")
        files.write_text(key_of(out), json.dumps(study | {"questions": whose, "seed": seed} | facts, indent=2) + "\n")


def blinded(count: int, names: list[str], seed: int) -> list[dict[str, str]]:
    """For each of `count` questions the results' names on the page, "2-1", "2-2" ..., and whose they are, at random."""
    import numpy as np

    draw = np.random.default_rng(seed)
    return [{f"{row}-{number}": names[system] for number, system in enumerate(draw.permutation(len(names)), 1)}
            for row in range(1, count + 1)]  # fmt: skip


def png(image: "np.ndarray", size: int) -> bytes:
    """A picture [S, S, 3] in [-1, 1] at size x size by its nearest pixels."""
    import io

    from PIL import Image

    from simgan_tf.system.pictures import to_pixels

    buffer = io.BytesIO()
    Image.fromarray(to_pixels(image)).resize((size, size), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


# ---- the answers


def report(paths: list[str], key_path: str, out: str | None) -> None:
    """Prints the table of these answers, and writes it and its numbers to the folder `out`, if one is given."""
    import numpy as np

    key = answers.read_key(key_path)
    subjects: dict[str, str] = {}
    ranks = []
    for path in paths:
        subject, ranked = answers.read_answer(path, key, key_path)
        if subject in subjects:
            raise ValueError(f"{path} is of subject {subject}, as {subjects[subject]} is: leave one of them out.")
        subjects[subject] = path
        ranks.append(ranked)
    results = answers.measure(np.array(ranks), [system["name"] for system in key["systems"]])
    results = {"study": key["study"], "subjects": len(subjects), "pictures": len(key["questions"]), **results,
               "systems": key["systems"], "dataset": key["dataset"],
               "command": commands.typed("simgan_tf.evaluation.study")}  # fmt: skip
    table = answers.as_table(results)
    if out is not None:
        files.write_text(os.path.join(out, "table.md"), table)
        files.write_text(os.path.join(out, "results.json"), json.dumps(results, indent=2, allow_nan=False) + "\n")
    print(table)


def command() -> None:
    commands.run(main, define_flags, words=True)


if __name__ == "__main__":
    command()
