"""Early warnings: which rows of a log bring which line, when, and how often."""

import dataclasses
import re

import pytest

from simgan_tf.methods.simgan import SIMGAN
from simgan_tf.watch import Watch
from tests.tiny import TINY, phi

HEALTHY = {"d_real": 0.2, "d_mismatched": 0.1, "d_edited": 0.2, "g_kl": 0.2, "source_correlation": 0.7}


def lines(rows, config=TINY, every=50):
    """What is said over rows logged `every` steps, as (step, line)."""
    watch = Watch(SIMGAN(config, phi()).warnings)
    return [(step, line) for i, row in enumerate(rows) for step in [every * (i + 1)] for line in watch.see(step, row)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"d_real": 0.04, "d_mismatched": 0.01, "d_edited": 0.04}, "three scores are saturated.*lower --learning_rate"),
        ({"g_kl": 0.0004}, "g_kl is about zero .0.0004.: the text is silenced.*lower --kl_weight.*--phi_scale"),
        ({"source_correlation": -0.3}, "source_correlation is below 0 .-0.30.*another --seed"),
        ({"source_correlation": 0.999}, "edits equal their sources .source_correlation 0.9990.*--phi_scale"),
    ],
)
def test_each_condition_is_told_once_after_three_hundred_steps(change, said):
    """Rows at 50, 100 ... : 350 is the first that stands 300 steps after the first; 1,000 more bring no second line."""
    ((step, line),) = lines([{**HEALTHY, **change}] * 27)
    assert step == 350 and line.startswith("step 350: since step 50 ")
    assert re.search(said, line)


def test_a_healthy_run_is_left_in_peace():
    assert lines([HEALTHY] * 100) == []
    nearly = [{**HEALTHY, "d_real": 0.04, "d_mismatched": 0.01, "d_edited": 0.06}] * 100
    assert lines(nearly) == [], "two of three scores are no saturation"


def test_one_good_row_starts_the_count_again():
    bad = {**HEALTHY, "source_correlation": -0.1}
    assert lines([*[bad] * 6, HEALTHY, *[bad] * 6]) == []
    assert [step for step, _ in lines([*[bad] * 8, HEALTHY, *[bad] * 8])] == [350, 16 * 50]


def test_five_rows_are_needed_where_few_are_logged():
    """Every 200 steps: 300 steps are over at the third row, but the fifth is the first to tell."""
    assert [step for step, _ in lines([{**HEALTHY, "g_kl": 0.0}] * 9, every=200)] == [1000]


def test_thresholds_follow_the_weights():
    """Terms are logged weighted: 0.04 x 10 is saturated at a weight of 10, 0.04 at a weight of 0.1 is not."""
    saturated = {**HEALTHY, "d_real": 0.4, "d_mismatched": 0.4, "d_edited": 0.4}
    assert lines([saturated] * 9) == []
    assert len(lines([saturated] * 9, dataclasses.replace(TINY, adversarial_weight=10.0))) == 1
    low = {**HEALTHY, "d_real": 0.04, "d_mismatched": 0.04, "d_edited": 0.04}
    assert lines([low] * 9, dataclasses.replace(TINY, adversarial_weight=0.1)) == []
    assert lines([{**HEALTHY, "g_kl": 0.0}] * 9, dataclasses.replace(TINY, kl_weight=0.0)) == []


def test_terms_that_are_missing_are_not_judged():
    assert lines([{}] * 20) == []
