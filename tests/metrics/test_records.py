"""Every malformed record is reported, all at once, with where it stands and its id."""

import json
import math

import numpy as np
import pytest

from refseg.data.rle import encode
from refseg.errors import DataError
from refseg.evaluation.score import score_files
from refseg.metrics import RecordsError, score
from refseg.metrics.inputs import as_mask
from tests.support.damage import swapped

SQUARE = np.zeros((4, 4), dtype=bool)
SQUARE[:2, :2] = True
GOOD = {"id": "1", "mask": encode(SQUARE), "no_target": False}


def problems(prediction=None, target=None, protocol="native"):
    """The messages for one pair, of which one side is changed."""
    with pytest.raises(RecordsError) as caught:
        score([{**GOOD, **(prediction or {})}], [{**GOOD, **(target or {})}], protocol)
    return [str(problem) for problem in caught.value.problems]


OTHER_SIZE = encode(np.ones((3, 5), dtype=bool))
OVERFULL = {"size": [4, 4], "counts": encode(np.ones((9, 9), dtype=bool))["counts"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, "no mask"),
        ({"mask": "x"}, "a mask is (H, W)"),
        ({"mask": OTHER_SIZE}, "the mask is 3 x 5, but the target is 4 x 4"),
        ({"mask": OVERFULL}, "81 pixels, but the mask is 4 x 4"),
        ({"mask": {"size": [4, 4]}}, "run-length encoded"),
        ({"mask": {"size": [0, 4], "counts": ""}}, "two positive integers"),
        ({"mask": np.full((4, 4), 2)}, "0 and 1"),
        ({"no_target": "yes"}, "no_target is true or false"),
        ({"no_target_score": math.nan}, "no_target_score is a probability"),
        ({"no_target_score": 1.5}, "no_target_score is a probability"),
        ({"boxes": [[5, 5, 1, 1]]}, "negative width or height"),
        ({"boxes": [[-9, -9, -5, -5]]}, "negative coordinates"),
        ({"boxes": [[0, 0, 1]]}, "four finite numbers"),
        ({"boxes": 3}, "boxes are a list"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [math.inf]}, "scores are finite numbers"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [0.5, 0.5]}, "1 boxes have 2 scores"),
        ({"protocol": "vlt"}, "made for protocol 'vlt'"),
        ({"protocol": "nonsense"}, "not a protocol"),
        ({"protocol": ["vlt"]}, "not a protocol"),
        ({"mask": {"size": [10**6, 10**6], "counts": [10**12]}}, "more than 100,000,000 pixels"),
    ],
)
def test_malformed_predictions(change, message):
    found = problems(prediction=change)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("prediction 1: id 1: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, "no mask"),
        ({"no_target": True}, "no_target is true, but the mask has 4 pixels"),
        ({"boxes": [[-1, 0, 2, 2]]}, "negative coordinates"),
        ({"targets": -1}, "number of targets"),
        ({"text": 5}, "text is text"),
    ],
)
def test_malformed_targets(change, message):
    found = problems(target=change)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("target 1: id 1: ")


def test_missing_extra_and_double_records_are_all_told():
    predictions = [GOOD, {**GOOD, "id": "2"}, {**GOOD, "id": "2"}, {**GOOD, "id": "extra"}, {"mask": GOOD["mask"]}, 7]
    targets = [GOOD, {**GOOD, "id": "2"}, {**GOOD, "id": "missing", "mask": None}]
    with pytest.raises(RecordsError) as caught:
        score(predictions, targets)
    assert [str(problem) for problem in caught.value.problems] == [
        "prediction 6: a record is a JSON object, not int",
        "prediction 3: id 2: this id stands at prediction 2 already",
        "prediction 5: no id, while other records have one",
        "target 3: id missing: no prediction for this target",
        "prediction 4: id extra: a prediction without a target of this id",
    ]


def test_several_faults_of_several_records():
    with pytest.raises(RecordsError) as caught:
        score(
            [{**GOOD, "no_target": 1, "boxes": [[3, 3, 1, 1]]}, {**GOOD, "id": "2", "mask": OTHER_SIZE}],
            [GOOD, {**GOOD, "id": "2"}],
        )
    assert len(caught.value.problems) == 3
    assert "3 malformed records" in str(caught.value)


def test_without_ids_the_numbers_must_agree():
    with pytest.raises(RecordsError, match="2 predictions for 1 targets"):
        score([{"mask": SQUARE}] * 2, [{"mask": SQUARE}])
    with pytest.raises(RecordsError, match="no records"):
        score([], [])


def test_mixed_protocols_are_told():
    with pytest.raises(RecordsError, match="made for protocol 'restr', but prediction 1 for 'native'"):
        score([{**GOOD, "protocol": "native"}, {**GOOD, "id": "2", "protocol": "restr"}], [GOOD, {**GOOD, "id": "2"}])


def test_a_null_mask_goes_with_saying_none():
    empty = {"id": "1", "mask": None, "no_target": True}
    result = score([empty], [GOOD])
    assert (result["T_acc"], result.rows[0]["U"]) == (0.0, 4)
    assert score([{"id": "1", "mask": SQUARE, "no_target": True}], [empty])["gIoU"] == 1.0
    assert score([empty], [empty])["gIoU"] == 1.0


def test_boxes_over_the_border_are_possible_predictions():
    predicted = {"id": "1", "boxes": [[-3, 0, 4, 4]], "scores": [0.9]}
    assert score([predicted], [{"id": "1", "boxes": [[0, 0, 4, 4]]}], "grec")["T_acc"] == 0.0  # no no-target sentence
    assert problems({"boxes": None}, {"boxes": []}, "grec") == [
        "target 1: id 1: no boxes, though the expression has a target"
    ]


def test_clips_are_checked():
    frames = [encode(SQUARE)] * 3
    with pytest.raises(RecordsError, match="no masks: a clip is"):
        score([{"id": 1}], [{"id": 1, "masks": frames}], "davis")
    with pytest.raises(RecordsError, match="3 x 4 x 4, but the target is 4 x 4 x 4"):
        score([{"id": 1, "masks": frames}], [{"id": 1, "masks": [*frames, frames[0]]}], "davis")
    with pytest.raises(RecordsError, match="no masks: a clip is"):
        score([{"id": 1, "masks": 5}], [{"id": 1, "masks": frames}], "davis")
    with pytest.raises(RecordsError, match="several sizes"):
        score([{"id": 1, "masks": [*frames, OTHER_SIZE]}], [{"id": 1, "masks": frames}], "davis")


def test_clips_may_come_a_frame_at_a_time():
    whole = score(
        [{"id": "c", "masks": [SQUARE, ~SQUARE, SQUARE, SQUARE]}], [{"id": "c", "masks": [SQUARE] * 4}], "davis"
    )
    said = [(10, SQUARE), (2, ~SQUARE), (1, SQUARE), (9, SQUARE)]
    lines = [{"video": "c", "frame": frame, "mask": encode(mask)} for frame, mask in said]
    meant = [{"id": f"c/{frame}", "mask": encode(SQUARE)} for frame in (1, 2, 9, 10)]
    found = score(lines, meant, "davis")
    assert dict(found) == dict(whole)
    assert found.rows == whole.rows
    with pytest.raises(RecordsError) as caught:
        score([*lines[1:], lines[1], {**lines[0], "frame": 11}], meant, "davis")
    assert [str(problem) for problem in caught.value.problems] == [
        "prediction 4: id c: frame 2 stands at prediction 1 already",
        "target 4: id c: no prediction for frame 10",
        "prediction 5: id c: a prediction for frame 11, which the target does not have",
    ]


def test_masks_in_every_form():
    for form in (SQUARE, SQUARE.astype(np.uint8), SQUARE.astype(float), SQUARE.tolist(), encode(SQUARE)):
        assert (as_mask(form) == SQUARE).all()
    plain = {"size": [4, 4], "counts": [0, 2, 2, 2, 10]}
    assert (as_mask(plain) == SQUARE).all()
    with pytest.raises(DataError):
        as_mask(np.zeros((0, 4)))


def test_one_wrong_field_does_not_hide_another():
    assert len(problems({"boxes": 3, "scores": [0.5], "no_target_score": "x"})) == 2


@pytest.mark.parametrize("protocol", ["native", "rela", "grec", "davis"])
def test_lines_with_odd_values_are_scored_or_named(protocol, tmp_path):
    """Any value of any field may be anything JSON can hold."""
    said = [
        {**GOOD, "boxes": [[1, 1, 3, 3]], "scores": [0.9], "no_target_score": 0.1},
        {"id": "2", "mask": None, "no_target": True, "boxes": [], "scores": []},
    ]
    about = {"text": "x", "kind": "k", "targets": 1, "category": "c", "split": "val", "dataset": "d", "image_id": 3}
    meant = [{**GOOD, "boxes": [[1, 1, 3, 3]], **about}, {"id": "2", "mask": None, "no_target": True, "boxes": []}]
    if protocol == "davis":
        frames = [{"id": f"v/{frame}", "mask": encode(SQUARE), "video": "v", "frame": frame} for frame in range(3)]
        said = meant = [*frames, {"id": "w", "masks": [encode(SQUARE)] * 3}]
    random = np.random.default_rng(0)
    named = 0
    for turn in range(150):
        sides = [swapped(said, random), meant] if turn % 2 else [said, swapped(meant, random)]
        files = [tmp_path / "P.jsonl", tmp_path / "T.jsonl"]
        for path, records in zip(files, sides, strict=True):
            path.write_text("\n".join(json.dumps(record) for record in records))
        try:
            json.dumps(score_files(*files, protocol).to_dict(), allow_nan=False)
        except RecordsError as error:
            named += all(problem.where.startswith(str(tmp_path)) for problem in error.problems)
    assert named > 75
