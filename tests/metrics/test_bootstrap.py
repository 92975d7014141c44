"""Confidence intervals and the paired comparison."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import ConfigError, DataError
from refseg.metrics import Row, rescore
from refseg.metrics.bootstrap import compare, confidence_interval


def run(values, pictures=None):
    """Rows of targets of 100 pixels of which `values` (0 to 100) are found."""
    return [
        Row(str(i), int(v), 100, int(v), 100, (10, 10), False, picture=None if pictures is None else str(pictures[i]))
        for i, v in enumerate(values)
    ]


def test_the_interval_is_that_of_the_mean():
    random = np.random.default_rng(0)
    values = random.integers(0, 101, 400)
    interval = confidence_interval(run(values), "gIoU")
    half = 1.96 * values.std() / 100 / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean() / 100)
    assert interval.low == pytest.approx(interval.value - half, abs=0.005)
    assert interval.high == pytest.approx(interval.value + half, abs=0.005)


def test_sentences_of_one_picture_go_together():
    """Ten copies of each sentence in one picture tell no more than one: the interval must not shrink."""
    random = np.random.default_rng(1)
    values = random.integers(0, 101, 60)
    alone = confidence_interval(run(values), "gIoU")
    copied = confidence_interval(run(np.repeat(values, 10), np.repeat(np.arange(60), 10)), "gIoU")
    naive = confidence_interval(run(np.repeat(values, 10)), "gIoU")
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=1e-9)
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=12), st.sampled_from(["cIoU", "gIoU", "Pr@0.5", "T_acc"]))
def test_the_value_is_the_scores(values, metric):
    interval = confidence_interval(run(values), metric, resamples=50)
    assert interval.value == pytest.approx(rescore(run(values), "native").compute()[metric])
    assert interval.low <= interval.high


def test_equal_runs_do_not_differ():
    rows = run(range(0, 100, 5))
    found = compare(rows, rows, "cIoU", resamples=200)
    assert (found.difference.value, found.p_value) == (0.0, 1.0)


def test_a_clear_difference_is_found_and_noise_is_not():
    random = np.random.default_rng(2)
    values = random.integers(20, 80, 100)
    better = compare(run(values), run(values + random.integers(5, 15, 100)), "gIoU", resamples=500)
    assert better.difference.low > 0
    assert better.p_value == pytest.approx(1 / 501)
    noise = compare(run(values), run(values + random.integers(-10, 11, 100)), "gIoU", resamples=500)
    assert noise.p_value > 0.05


def test_p_values_of_equal_runs_are_spread_evenly():
    """Under the null hypothesis a p-value is under 0.2 about one time in five."""
    random = np.random.default_rng(4)
    small = 0
    for _ in range(60):
        first, second = (run(random.integers(0, 101, 25)) for _ in range(2))
        small += compare(first, second, "gIoU", resamples=100).p_value <= 0.2
    assert 4 <= small <= 22


def test_runs_that_cannot_be_compared_are_told():
    rows = run([10, 20])
    with pytest.raises(DataError, match="differ in 1 expressions"):
        compare(rows, rows[:1], "gIoU")
    with pytest.raises(DataError, match="other targets"):
        compare(rows, [rows[0], Row("1", 20, 50, 20, 50, (10, 10), False)], "gIoU")
    with pytest.raises(DataError, match="comes twice"):
        confidence_interval([*rows, rows[0]], "gIoU")
    with pytest.raises(DataError, match="no rows"):
        confidence_interval([], "gIoU")
    with pytest.raises(ConfigError, match="not a metric"):
        confidence_interval(rows, "gIuO")
    with pytest.raises(ConfigError, match="confidence"):
        confidence_interval(rows, "gIoU", confidence=1.0)
