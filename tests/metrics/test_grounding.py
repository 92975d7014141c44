"""Boxes: overlaps against pixels, greedy matching, Flickr30k recall."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refseg.errors import DataError
from refseg.metrics.grounding import (
    best_box_iou,
    box_iou,
    count_boxes,
    generalized_box_iou,
    grec_metrics,
    phrase_recall,
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


def test_phrase_recall_any_and_merged():
    target = [[0, 0, 4, 4], [4, 0, 8, 4]]
    predictions = [[[0, 0, 1, 1], [0, 0, 4, 4], [0, 0, 8, 4]]]
    assert phrase_recall(predictions, [target], ranks=(1, 2, 3)) == {"Recall@1": 0.0, "Recall@2": 1.0, "Recall@3": 1.0}
    merged = phrase_recall(predictions, [target], ranks=(1, 2, 3), boxes="merged")
    # [0, 4] of [0, 8] is IoU 0.5, which is enough.
    assert merged == {"Recall@1": 0.0, "Recall@2": 1.0, "Recall@3": 1.0}
    assert phrase_recall(predictions, [target], ranks=(2,), boxes="merged", level=0.6) == {"Recall@2": 0.0}
    # RefTR's code wants more than 0.5.
    strict = phrase_recall(predictions, [target], ranks=(2, 3), boxes="merged", strict=True)
    assert strict == {"Recall@2": 0.0, "Recall@3": 1.0}
    assert phrase_recall([[], []], [target, []], ranks=(1,)) == {"Recall@1": 0.0}
    assert phrase_recall([[]], [target], ranks=(1,), level=0.0, strict=True) == {"Recall@1": 0.0}


def test_malformed_boxes_are_told():
    with pytest.raises(DataError, match="K x 4"):
        count_boxes("1", [[0, 0, 1]], None, [], True)
    with pytest.raises(DataError, match="2 scores"):
        count_boxes("1", [[0, 0, 1, 1]], [0.5, 0.5], [], True)
    with pytest.raises(DataError, match="not finite"):
        count_boxes("1", [[0, 0, np.nan, 1]], None, [], True)
    with pytest.raises(DataError, match="phrases"):
        phrase_recall([[]], [])
