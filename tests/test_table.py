"""The table of several measured runs: the same pictures, what differs, and what is refused."""

import json

import numpy as np
import pytest

from simgan_tf.evaluation import measure, protocol, table
from tests.tiny import refused, run


def measured(folder, name, values, **changes):
    """A run directory with results as an evaluation writes them."""
    folder = folder / name
    folder.mkdir()
    results = {
        "method": "simgan", "step": 7, "split": "test", "pictures": 8, "samples": 2, "seed": 0,
        "dataset": {"dataset": "cub", "fingerprint": "f"}, "config": {"image_size": 64},
        "spill": float(np.mean(values)), "intervals": {"spill": protocol.interval(values)},
    } | changes  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    protocol.write_values(str(folder / "results-pictures.csv"), [f"p{i}" for i in range(8)], {"spill": values})
    return str(folder)


def test_table_of_runs(tmp_path):
    """A row a number with its interval, a line a comparison: eight pictures that all rise by 0.1 give p = 2 / 2^8."""
    low = np.arange(8) / 10
    runs = [measured(tmp_path, "a", low), measured(tmp_path, "b", low + 0.1 + np.arange(8) / 500, step=9000)]
    out = tmp_path / "table.md"
    done = run("-m", "simgan_tf.evaluation", f"--table={','.join(runs)}", f"--out={out}")
    page = out.read_text()
    assert page in done.stdout
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line]
    told = {row[0]: row[1:] for row in cells}
    assert told[""] == ["a", "b"] and told["step"] == ["7", "9,000"]
    first, second = (protocol.interval(values) for values in (low, low + 0.1 + np.arange(8) / 500))
    assert ["spill", f"0.350 [{first[0]:.3f}, {first[1]:.3f}]", f"0.457 [{second[0]:.3f}, {second[1]:.3f}]"] in cells
    (compared,) = [row for row in cells if len(row) == 6 and row[0] == "spill"]
    assert compared[1:4] == ["a", "b", "8"] and compared[4].startswith("+0.107") and compared[5] == f"{2 / 256:.3f}"
    assert measure.MEANING["spill"] in page


def test_runs_that_were_asked_otherwise_are_refused(tmp_path):
    low = np.arange(8) / 10
    first = measured(tmp_path, "a", low)
    for name, change, message in (
        ("b", {"seed": 1}, "measured with seed=1, .*a with 0: measure both alike"),
        ("c", {"dataset": {"dataset": "cub", "fingerprint": "g"}}, "measured with dataset="),
        ("d", {"spill": "much"}, "none of an evaluation of this version"),
    ):
        with pytest.raises(ValueError, match=message):
            table.of_runs([first, measured(tmp_path, name, low, **change)], "results")
    with pytest.raises(FileNotFoundError, match="measure that run first"):
        table.of_runs([first, str(tmp_path / "none")], "results")
    other = measured(tmp_path, "e", low)
    protocol.write_values(f"{other}/results-pictures.csv", [f"q{i}" for i in range(8)], {"spill": low})
    with pytest.raises(ValueError, match="on other pictures than"):
        table.of_runs([first, other], "results")
    assert "--run_dir= missing" in refused("-m", "simgan_tf.evaluation")


def test_every_number_has_a_meaning_and_others_have_none():
    assert measure.meaning("fid_2048_n1155").startswith("Frechet")
    for name in ("r_precision_100_phi", "similarity_kiros", "kernel_phi256_n96", "inception_score_10_n40"):
        assert measure.meaning(name), name
    for name in ("fid_2048", "r_precision_100", "kid_2048_n5_std", "pictures", "intervals"):
        assert not measure.meaning(name), name
