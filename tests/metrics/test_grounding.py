"""Boxes: overlaps against pixels, greedy matching, Flickr30k recall."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import DataError
from refseg.metrics import PROTOCOLS
from refseg.metrics.grounding import (
    best_box_iou,
    box_iou,
    count_boxes,
    count_phrase,
    generalized_box_iou,
    grec_metrics,
    phrase_metrics,
)


@st.composite
def whole_boxes(draw):
    left, top = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    return [left, top, left + draw(st.integers(1, 6)), top + draw(st.integers(1, 6))]


def painted(box):
    picture = np.zeros((16, 16), dtype=bool)
    picture[box[1] : box[3], box[0] : box[2]] = True
    return picture


@settings(max_examples=60, deadline=None)
@given(whole_boxes(), whole_boxes())
def test_overlaps_are_those_of_painted_boxes(first, second):
    one, two = painted(first), painted(second)
    around = [*np.minimum(first, second)[:2], *np.maximum(first, second)[2:]]
    iou = (one & two).sum() / (one | two).sum()
    uncovered = (painted(around) & ~(one | two)).sum() / painted(around).sum()
    boxes = np.array([first], dtype=float), np.array([second], dtype=float)
    assert box_iou(*boxes)[0, 0] == pytest.approx(iou)
    assert generalized_box_iou(*boxes)[0, 0] == pytest.approx(iou - uncovered)


def test_empty_boxes_have_no_overlap():
    point = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert box_iou(point, point)[0, 0] == 0.0
    assert box_iou(np.zeros((0, 4)), point).shape == (0, 1)


def test_matching_takes_the_largest_overlap_first_and_each_box_once():
    target = [[0, 0, 10, 10], [0, 0, 10, 6]]
    # The first prediction fits both targets, the second only the larger one.
    row = count_boxes("1", [[0, 0, 10, 7], [0, 0, 10, 10]], [0.9, 0.9], target, False)
    assert (row.kept, row.targets, row.matched) == (2, 2, 2)
    doubled = count_boxes("1", [[0, 0, 10, 10]] * 2, None, target, False)
    assert (doubled.matched, doubled.correct) == (2, True)
    one = count_boxes("1", [[0, 0, 10, 10]] * 2, None, target[:1], False)
    assert (one.matched, one.correct, one.to_dict()["f1"]) == (1, False, 2 / 3)


def test_float32_scores_are_compared_as_they_are():
    """0.7 as float32 is a little under 0.7, so the published code drops it, and so must this."""
    scores = np.array([0.7], dtype=np.float32)
    assert count_boxes("1", [[0, 0, 1, 1]], scores, [[0, 0, 1, 1]], False).kept == 0
    assert count_boxes("1", [[0, 0, 1, 1]], [0.7], [[0, 0, 1, 1]], False).kept == 1


def test_grec_without_no_target_sentences():
    rows = [count_boxes("1", [[0, 0, 1, 1]], None, [[0, 0, 1, 1]], False)]
    assert grec_metrics(rows) == {"F1": 1.0, "N_acc": 0.0, "T_acc": 0.0, "F1_plain_IoU": 1.0}


def test_single_box_accuracy_takes_the_best_scored_box():
    boxes = [[5, 5, 6, 6], [0, 0, 2, 2]]
    assert best_box_iou(boxes, [0.1, 0.9], [[0, 0, 2, 2]]) == 1.0
    assert best_box_iou(boxes, None, [[0, 0, 2, 2]]) == 0.0
    assert best_box_iou([], None, [[0, 0, 2, 2]]) == 0.0
    assert best_box_iou(boxes, None, [[0, 0, 2, 2], [3, 3, 4, 4]]) is None


ANY, MERGED, REC = (PROTOCOLS[name] for name in ("flickr30k", "flickr30k-merged", "rec"))


def test_phrases_by_any_of_their_boxes_and_by_the_one_around_them():
    target = [[0, 0, 4, 4], [4, 0, 8, 4]]
    boxes = [[0, 0, 1, 1], [0, 0, 4, 4], [0, 0, 8, 4]]
    assert count_phrase("1", boxes, target, ANY).overlaps == (1 / 16, 1.0, 1.0)
    assert count_phrase("1", boxes, target, MERGED).overlaps == (1 / 32, 1.0, 1.0)
    # [0, 4] of [0, 8] is IoU 0.5, which is enough unless more is wanted, as in RefTR's code.
    half = count_phrase("1", boxes[1:2], target, MERGED)
    assert half.overlaps == (0.5, 0.5, 0.5)
    assert half.found(MERGED) == dict.fromkeys((1, 5, 10), False)
    assert half.found(replace(MERGED, strict=False)) == dict.fromkeys((1, 5, 10), True)
    assert half.found(replace(MERGED, strict=False, overlap_level=0.6)) == dict.fromkeys((1, 5, 10), False)
    rows = [count_phrase("1", [], target, ANY), count_phrase("2", boxes, [], ANY)]
    assert rows[1].overlaps is None
    assert phrase_metrics(rows, ANY) == {"Recall@1": 0.0, "Recall@5": 0.0, "Recall@10": 0.0}
    assert math.isnan(phrase_metrics(rows[1:], ANY)["Recall@1"])


@given(st.lists(whole_boxes(), min_size=1, max_size=12), st.lists(whole_boxes(), min_size=1, max_size=3))
@settings(deadline=None, max_examples=30)
def test_a_phrase_is_found_by_its_best_of_k_boxes(boxes, targets):
    """Against a loop over boxes and targets."""
    row = count_phrase("1", boxes, targets, ANY)
    for rank, overlap in zip((1, 5, 10), row.overlaps, strict=True):
        best = max(box_iou(np.array([b], float), np.array([t], float))[0, 0] for b in boxes[:rank] for t in targets)
        assert overlap == pytest.approx(best)
    around = [
        min(t[0] for t in targets),
        min(t[1] for t in targets),
        max(t[2] for t in targets),
        max(t[3] for t in targets),
    ]
    first = box_iou(np.array(boxes[:1], float), np.array([around], float))[0, 0]
    assert phrase_metrics([count_phrase("1", boxes, targets, REC)], REC) == {
        "Acc@0.5": float(first > 0.5),
        "box_mIoU": pytest.approx(first),
    }


def test_malformed_boxes_are_told():
    with pytest.raises(DataError, match="K x 4"):
        count_boxes("1", [[0, 0, 1]], None, [], True)
    with pytest.raises(DataError, match="2 scores"):
        count_boxes("1", [[0, 0, 1, 1]], [0.5, 0.5], [], True)
    with pytest.raises(DataError, match="not finite"):
        count_boxes("1", [[0, 0, np.nan, 1]], None, [], True)
    with pytest.raises(DataError, match="K x 4"):
        count_phrase("1", [[0, 0, 1]], [[0, 0, 1, 1]], ANY)
