"""What each switch does to a short training: one run a switch, trained and measured by the project's own commands.

python -m benchmarks.ablation --records_dir=runs/flowers/records --text_encoder=runs/flowers --out_dir=runs/ablation

Every case differs from the first in what its name says, and in nothing else; all have the same records, phi, seed and
steps. One JSON line a case: the steps, seconds of training and the numbers of its results.json. A case that is done is
read, not run again, so an interrupted series goes on with the same command. Short runs of small networks on one seed:
differences below those between two seeds (--seed=1 in another --out_dir) say nothing.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

from absl import flags
from tqdm import tqdm

from simgan_tf import cli, files
from simgan_tf.config import SHIPPED

# Half the preset's width, two units less, D as there: 64x64 learns its first colours in minutes on one core.
BASE = {"preset": "simgan_oxford102_64", "width": 16, "units": 4, "halve_epochs": 0, "sample_every": 0, "seed": 0}
CASES: dict[str, dict[str, object]] = {
    "paper": {},
    "fake terms at 0.5 (A14)": {"mismatched_weight": 0.5, "edited_weight": 0.5},
    "way back sampled (A23)": {"cycle_code": "sampled"},
    "statistics of both passes (A28)": {"statistics": "both"},
    "decoder resize (A7)": {"decoder": "resize"},
    "mismatch of another class (A16)": {"mismatch": "other_class"},
    "own_text 0.25": {"own_text": 0.25},
    "lambda_ca 0.1": {"kl_weight": 0.1},
    "lambda_c 3": {"cycle_weight": 3.0},
    "D's rate halved": {"d_learning_rate": 1e-4},
    "shift_cut before D": {"d_augment": "shift_cut"},
    "EMA of G 0.999": {"ema_decay": 0.999},
    "image_skip picture": {"image_skip": "picture"},
    "image_skip detail": {"image_skip": "detail"},
    "shipped": SHIPPED,
}


def define_flags() -> None:
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string("text_encoder", None, "Run directory whose phi all cases take.", required=True)
    flags.DEFINE_string("out_dir", None, "Folder of the runs, one folder a case.", required=True)
    flags.DEFINE_integer("steps", 600, "Of every case.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of every case.", lower_bound=0)
    flags.DEFINE_string("precision", "auto", "Config.precision of every case.")
    flags.DEFINE_multi_enum("case", list(CASES), list(CASES), "Which to run.")
    flags.DEFINE_multi_string("evaluation", [], "Further flags of simgan_tf.evaluation, such as --limit=300.")


def commands(name: str, values: flags.FlagValues) -> tuple[str, list[list[str]]]:
    """Run directory of a case, and the commands that make its results.json there."""
    run_dir = os.path.join(values.out_dir, name.split(" (")[0].replace(" ", "_").replace("'", ""))
    given = {**BASE, "steps": values.steps, "seed": values.seed, "precision": values.precision, **CASES[name]}
    switches = [f"--{field}={value}" for field, value in given.items()]
    places = [f"--run_dir={run_dir}", f"--records_dir={values.records_dir}"]
    train = ["run_train.py", *switches, *places, f"--text_encoder={values.text_encoder}"]
    return run_dir, [train, ["-m", "simgan_tf.evaluation", *places, *values.evaluation]]


def measure(name: str, values: flags.FlagValues) -> dict[str, object]:
    """Trains and measures a case, or reads what is there; its JSON line.

    seconds: of the training, start included; None where it was interrupted and went on.
    Raises: ValueError where a command fails, with the last line it said, or the folder holds a case of other commands.
    """
    run_dir, wanted = commands(name, values)
    path = os.path.join(run_dir, "case.json")
    if not os.path.exists(path):
        anew, start = not os.path.exists(os.path.join(run_dir, "config.json")), time.monotonic()
        _run(wanted[0])
        seconds = round(time.monotonic() - start) if anew else None
        for older in _results(run_dir):  # of a call that ended before it was kept, or of other flags
            older.unlink()
        _run(wanted[1])
        (written,) = _results(run_dir)
        case = {"commands": wanted, "seconds": seconds, "results": json.loads(written.read_text(encoding="utf-8"))}
        files.write_text(path, json.dumps(case, indent=2) + "\n")
    case = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    if case["commands"] != wanted:
        raise ValueError(f"{path} is of other flags than these; choose another --out_dir, or delete {run_dir}.")
    results = case["results"]
    numbers = {key: round(value, 4) for key, value in results.items() if isinstance(value, float)}
    facts = {"steps": results["step"], "seconds": case["seconds"], "pictures": results["pictures"]}
    return {"case": name, **facts, **numbers}


def _results(run_dir: str) -> list[pathlib.Path]:
    """The results files of a run directory."""
    return list(pathlib.Path(run_dir).glob("results*.json"))


def _run(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ValueError(f"{' '.join(arguments)} failed: {said[-1] if said else done.returncode}")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    for name in tqdm(values.case, unit="case", desc="ablation"):
        tqdm.write(json.dumps(measure(name, values)))


if __name__ == "__main__":
    cli.run(main, define_flags)
