"""Accumulators: exact under any sharding; the metrics of verdicts and outlines against slow definitions."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import DataError
from refseg.metrics import PROTOCOLS, Accumulator, Row, count_masks, rescore
from refseg.metrics.counts import ExactSum, boundary_band
from refseg.metrics.referring import average_precision, calibration_error

MASK_PROTOCOLS = sorted(name for name, entry in PROTOCOLS.items() if entry.task == "masks")


@st.composite
def rows(draw):
    """Consistent counts of a picture of 100 pixels."""
    target_area = draw(st.integers(0, 100))
    intersection = draw(st.integers(0, target_area))
    beside = draw(st.integers(0, 100 - target_area))
    no_target = target_area == 0 and draw(st.booleans())
    return Row(
        id=str(draw(st.integers())),
        intersection=intersection,
        union=target_area + beside,
        prediction_area=intersection + beside,
        target_area=target_area,
        size=(10, 10),
        no_target=no_target,
        predicted_no_target=draw(st.sampled_from([True, False, None])),
        no_target_score=draw(st.one_of(st.none(), st.floats(0, 1))),
        pointed=draw(st.one_of(st.none(), st.booleans())),
    )


def same(first, second):
    return first.keys() == second.keys() and all(
        value == second[name] or (math.isnan(value) and math.isnan(second[name])) for name, value in first.items()
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), max_size=30), st.sampled_from(MASK_PROTOCOLS), st.integers(1, 5), st.randoms())
def test_shards_merge_exactly(entries, protocol, shards, random):
    whole = rescore(entries, protocol)
    shuffled = list(entries)
    random.shuffle(shuffled)
    merged = Accumulator(protocol)
    for number in range(shards):
        merged.merge(rescore(shuffled[number::shards], protocol))
    assert same(whole.compute(), merged.compute())
    assert whole.counts() == merged.counts()


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=20), st.sampled_from(MASK_PROTOCOLS))
def test_metrics_are_fractions(entries, protocol):
    for name, value in rescore(entries, protocol).compute().items():
        # MCN's smoothing can lift an IoU over 1 by rounding only.
        assert math.isnan(value) or 0 <= value <= 1 + 1e-9, name


@settings(max_examples=60, deadline=None)
@given(rows())
def test_rows_survive_json(row):
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_merging_other_protocols_is_refused():
    with pytest.raises(DataError, match="cannot join"):
        Accumulator("native").merge(Accumulator("rela"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"union": 2}, "do not fit"),
        ({"intersection": 9}, "do not fit"),
        ({"union": -1}, "whole numbers"),
        ({"size": 3}, "size is"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(change, message):
    good = Row("1", 2, 5, 4, 3, (4, 4), False).to_dict()
    with pytest.raises(DataError, match=message):
        Row.from_dict({**good, **change})
    del good["union"]
    with pytest.raises(DataError, match="no union"):
        Row.from_dict(good)


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms())
def test_exact_sum_is_correctly_rounded_in_any_order(values, random):
    total = ExactSum()
    for value in random.sample(values, len(values)):
        total.add(value)
    assert float(total) == math.fsum(values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.fractions(), max_size=20))
def test_exact_sum_is_that_of_fractions(values):
    total = ExactSum()
    for value in values:
        total.add(value)
    assert total.total == sum(map(Fraction, values), Fraction(0))
    joined = ExactSum(total.total)
    joined.add(total.total)
    assert joined.total == 2 * total.total


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=25))
def test_average_precision_against_a_slow_definition(pairs):
    scores, labels = np.array([s for s, _ in pairs]), np.array([bool(t) for _, t in pairs])
    if not labels.any():
        assert math.isnan(average_precision(scores, labels))
        return
    area, recall_before = 0.0, 0.0
    for level in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= level
        recall = labels[chosen].sum() / labels.sum()
        area += labels[chosen].mean() * (recall - recall_before)
        recall_before = recall
    assert average_precision(scores, labels) == pytest.approx(area)


def test_calibration_error_by_hand():
    # Two bins: (0, 0.5] holds 0.2 and 0.4, one of them true: |1 - 0.6|; (0.5, 1] holds 0.9, false: |0 - 0.9|.
    probabilities, labels = np.array([0.2, 0.4, 0.9]), np.array([True, False, False])
    assert calibration_error(probabilities, labels, bins=2) == pytest.approx((0.4 + 0.9) / 3)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0


def test_no_target_probabilities_are_scored():
    entries = [
        Row("1", 0, 0, 0, 0, (4, 4), True, True, 0.9),
        Row("2", 4, 4, 4, 4, (4, 4), False, False, 0.1),
        Row("3", 4, 4, 4, 4, (4, 4), False, True, 0.95),
    ]
    result = rescore(entries, "native").compute()
    assert result["none_AP"] == 0.5
    # bins of 1/15: 0.9 and 0.95 share none, 0.1 is alone
    assert result["none_ECE"] == pytest.approx((0.1 + 0.1 + 0.95) / 3)
    assert (result["N_acc"], result["T_acc"]) == (1.0, 0.5)


def slow_band(mask, share):
    """Cheng et al.: the pixels of the mask that d erosions by 3 x 3 remove, with background outside the picture."""
    height, width = mask.shape
    inner = mask.copy()
    for _ in range(max(1, round(share * math.hypot(height, width)))):
        padded = np.pad(inner, 1)
        inner = np.array([[padded[y : y + 3, x : x + 3].all() for x in range(width)] for y in range(height)])
    return mask & ~inner


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_boundary_band_against_erosions(share):
    random = np.random.default_rng(3)
    mask = np.kron(random.random((4, 5)) < 0.7, np.ones((5, 4))).astype(bool)
    assert (boundary_band(mask, share) == slow_band(mask, share)).all()


def test_boundary_iou_looks_at_the_outline_only():
    target = np.zeros((40, 40), dtype=bool)
    target[5:35, 5:35] = True
    smaller = np.zeros_like(target)
    smaller[8:32, 8:32] = True
    counts = count_masks(smaller, target, boundary=True)
    assert counts["intersection"] / counts["union"] == 0.64
    assert counts["boundary_intersection"] == 0
    result = rescore([Row("1", no_target=False, **counts)], "native").compute()
    assert result["boundary_IoU"] == 0.0
