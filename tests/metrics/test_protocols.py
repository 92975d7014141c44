"""Every mask protocol on five sentences about 4 x 4 pictures that a reader can count by hand.

A  hit      target 4 px, prediction 3 of them and 1 beside:          I 3, U 5, IoU 0.6
B  refused  target 4 px, prediction 2 of them and 1 beside, but "none" is said:  I 2, U 5
C  silent   nothing is meant, "none" is said, the mask has 1 px
D  fooled   nothing is meant, an object is said, the mask has 2 px
E  blank    nothing is meant, an object is said, the mask is empty
"""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from refseg.errors import ConfigError
from refseg.metrics import PROTOCOLS, Protocol, get_protocol, score
from refseg.metrics.worked_example import DRAWN, mask_of, worked_scores


def mask(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows])


SQUARE = mask("##..", "##..", "....", "....")
NOTHING = mask("....", "....", "....", "....")

# id: (target, prediction, whether the prediction says none)
SENTENCES = {
    "A": (SQUARE, mask("###.", "#...", "....", "...."), False),
    "B": (SQUARE, mask("##..", "....", "....", "...#"), True),
    "C": (NOTHING, mask("....", "....", "....", "...#"), True),
    "D": (NOTHING, mask("....", "....", "..##", "...."), False),
    "E": (NOTHING, NOTHING, False),
}
PREDICTIONS = [{"id": key, "mask": said, "no_target": none} for key, (_, said, none) in SENTENCES.items()]
TARGETS = [{"id": key, "mask": meant, "no_target": not meant.any()} for key, (meant, _, _) in SENTENCES.items()]

# protocol: (cIoU, gIoU, values of A to E, Pr@0.6, N_acc, T_acc)
BY_HAND = {
    # B is cleared (0 / 4), C is cleared (empty and empty: 1), E is empty and empty: 1.
    "native": (3 / (5 + 4 + 0 + 2 + 0), 2.6 / 5, (0.6, 0, 1, 0, 1), 1 / 2, 1 / 3, 1 / 2),
    # B keeps its union of 5 and loses its intersection; C is right and ignored; D adds its 2 px; E is wrong.
    "rela": (3 / (5 + 5 + 0 + 2 + 0), 1.6 / 5, (0.6, 0, 1, 0, 0), 1 / 2, 1 / 3, 1 / 2),
    # No mask of a 4 x 4 picture has 50 px: all are cleared and say none.
    "rela-50px": (0 / (4 + 4), 3 / 5, (0, 0, 1, 1, 1), 0, 1, 0),
    # Nobody asks for the verdict: B counts 2 / 5, C 0 / 1; the empty union of E counts 0.
    "lavt": (5 / (5 + 5 + 1 + 2 + 0), 1.0 / 5, (0.6, 0.4, 0, 0, 0), 1 / 2, 1 / 3, 1 / 2),
    "restr": (5 / (5 + 5 + 1 + 2 + 0), 1.0 / 5, (0.6, 0.4, 0, 0, 0), 1 / 2, 1 / 3, 1 / 2),
    # Pr@0.6 wants more than 0.6.
    "reftr": (5 / 13, 1.0 / 5, (0.6, 0.4, 0, 0, 0), 0, 1 / 3, 1 / 2),
    # 1e-6 under every union, and more than 0.6 is wanted.
    "cris": (5 / 13, (3 / 5.000001 + 2 / 5.000001) / 5, (3 / 5.000001, 2 / 5.000001, 0, 0, 0), 0, 1 / 3, 1 / 2),
    # 1e-10 above and below: E is 1, and A is a little over 0.6 (which is why a strict > lets it pass).
    "mcn": (5 / 13, 2.0 / 5, (0.6, 0.4, 0, 0, 1), 1 / 2, 1 / 3, 1 / 2),
    "vlt": (5 / 13, 2.0 / 5, (0.6, 0.4, 0, 0, 1), 1 / 2, 1 / 3, 1 / 2),
    "lts": (5 / 13, 2.0 / 5, (0.6, 0.4, 0, 0, 1), 1 / 2, 1 / 3, 1 / 2),
    # The verdict decides where nothing is meant (C right, D and E wrong) and does nothing to B.
    "gsva": (5 / (5 + 5 + 0 + 2 + 0), 2.0 / 5.00001, (0.6, 0.4, 1, 0, 0), 0, 1 / 3, 1 / 2),
    # Empty and empty is 1; the mean is over 5 + 1e-5 sentences.
    "lisa": (5 / 13, 2.0 / 5.00001, (0.6, 0.4, 0, 0, 1), 0, 1 / 3, 1 / 2),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_worked_example(name):
    ciou, giou, values, precision, n_acc, t_acc = BY_HAND[name]
    result = score(PREDICTIONS, TARGETS, name)
    # Smoothing of at most 1e-5 in 5 is the only thing that the figures above leave out.
    assert [row["iou"] for row in result.rows] == pytest.approx(values, abs=2e-6)
    assert result["cIoU"] == pytest.approx(ciou, abs=1e-10)
    assert result["gIoU"] == result["mIoU"] == pytest.approx(giou, abs=2e-6)
    assert (result["Pr@0.6"], result["N_acc"], result["T_acc"]) == pytest.approx((precision, n_acc, t_acc))
    assert result.counts["sentences"] == 5
    assert result.counts["no_target"] == 3


def test_the_page_works_out_the_same_sentences():
    for key, (_, meant, said, none) in DRAWN.items():
        assert (mask_of(meant) == SENTENCES[key][0]).all()
        assert (mask_of(said) == SENTENCES[key][1]).all()
        assert none == SENTENCES[key][2]
    assert list(DRAWN) == list(SENTENCES)
    assert set(worked_scores()) == set(BY_HAND)


def test_every_mask_protocol_has_a_worked_example():
    assert set(BY_HAND) == {name for name, entry in PROTOCOLS.items() if entry.task == "masks"}


def test_smoothing_is_the_sources():
    rows = {name: score(PREDICTIONS, TARGETS, name).rows[0]["iou"] for name in ("cris", "mcn", "gsva", "lisa")}
    assert rows == {
        "cris": 3 / (5 + 1e-6),
        "mcn": (3 + 1e-10) / (5 + 1e-10),
        "gsva": 3 / (5 + 1e-8),
        "lisa": 3 / (5 + 1e-5),
    }


def test_grec_worked_example():
    """One sentence is exactly right, one has a box too many, one has a box under the score, one rightly has none."""
    square, beside = [0, 0, 2, 2], [2, 0, 4, 2]
    predictions = [
        {"id": 1, "boxes": [square, beside], "scores": [0.9, 0.2]},
        {"id": 2, "boxes": [square, beside], "scores": [0.9, 0.8]},
        {"id": 3, "boxes": [square], "scores": [0.69]},
        {"id": 4, "boxes": [square], "scores": [0.69]},
    ]
    targets = [
        {"id": 1, "boxes": [square], "no_target": False},
        {"id": 2, "boxes": [square], "no_target": False},
        {"id": 3, "boxes": [square], "no_target": False},
        {"id": 4, "boxes": [], "no_target": True},
    ]
    result = score(predictions, targets, "grec")
    assert (result["F1"], result["N_acc"], result["T_acc"]) == (2 / 4, 1.0, 2 / 3)
    assert [row["f1"] for row in result.rows] == [1.0, 2 / 3, 0.0, 1.0]


def test_flickr30k_worked_example():
    """Two boxes of one phrase side by side: each of them is found by "any", the box around both by "merged"."""
    predictions = [
        {"id": "pair", "boxes": [[0, 0, 10, 10], [0, 0, 20, 10]], "scores": [0.4, 0.9]},
        {"id": "one", "boxes": [[50, 50, 60, 60], [0, 0, 10, 9]]},
        {"id": "scene", "boxes": [[0, 0, 1, 1]]},
        {"id": "silent", "boxes": []},
    ]
    targets = [
        {"id": "pair", "boxes": [[0, 0, 9, 10], [11, 0, 20, 10]]},
        {"id": "one", "boxes": [[0, 0, 10, 10]]},
        {"id": "scene", "boxes": []},
        {"id": "silent", "boxes": [[0, 0, 5, 5]]},
    ]
    found = score(predictions, targets, "flickr30k")
    # pair: the best box, 20 x 10, has IoU .45 with either; the second one .9. one: the second box.
    assert dict(found) == pytest.approx({"Recall@1": 0.0, "Recall@5": 2 / 3, "Recall@10": 2 / 3})
    assert found.counts == {"phrases": 4, "with_boxes": 3}
    assert found.rows[2] == {"id": "scene", "Recall@1": None, "Recall@5": None, "Recall@10": None}
    merged = score(predictions, targets, "flickr30k-merged")
    assert dict(merged) == pytest.approx({"Recall@1": 1 / 3, "Recall@5": 2 / 3, "Recall@10": 2 / 3})
    assert [row["Recall@1"] for row in merged.rows] == [1.0, 0.0, None, 0.0]


def test_reftr_does_not_count_a_phrase_of_half_overlap():
    predictions = [{"id": "half", "boxes": [[0, 0, 4, 4]]}, {"id": "more", "boxes": [[0, 0, 5, 4]]}]
    targets = [{"id": name, "boxes": [[0, 0, 8, 4]]} for name in ("half", "more")]
    assert score(predictions, targets, "flickr30k")["Recall@1"] == 1.0
    assert score(predictions, targets, "flickr30k-merged")["Recall@1"] == 0.5


def test_grec_is_stricter_than_plain_iou():
    """Side by side in a long box: IoU 0.5, but a third of the enclosing box is neither's in the diagonal case."""
    # [0, 2] x [0, 2] with [0, 1] x [0, 2] has IoU 0.5 and nothing uncovered; a shifted pair of IoU over 0.5 loses some.
    predictions = [{"id": 1, "boxes": [[0, 0, 4, 4]], "scores": [1.0]}]
    targets = [{"id": 1, "boxes": [[0.5, 0.5, 4.5, 4.5]], "no_target": False}]
    result = score(predictions, targets, "grec")  # IoU 12.25 / 19.75 = 0.620, generalized 0.620 - 0.5 / 20.25 = 0.596
    assert result["F1"] == 1.0
    tighter = score(predictions, targets, replace(PROTOCOLS["grec"], overlap_level=0.61))
    assert (tighter["F1"], tighter["F1_plain_IoU"]) == (0.0, 1.0)


def test_davis_worked_example():
    """Four frames: the first and the last are not looked at; of the middle two one is perfect and one empty-handed."""
    target = np.stack([SQUARE] * 4)
    prediction = np.stack([NOTHING, SQUARE, NOTHING, NOTHING])
    result = score([{"id": "clip", "masks": prediction}], [{"id": "clip", "masks": target}], "davis")
    assert result.rows[0]["J"] == [0, 1, 0, 0]
    assert (result["J"], result["F"], result["J&F"], result["J_recall"]) == (0.5, 0.5, 0.5, 0.5)


# A value for each field that makes a difference to the five sentences above, or to the boxes and clips beside them.
CHANGES = {
    "sentences": "with_target",
    "no_target_rule": "pixels",
    "gating": "intersection",
    "no_target": "decision",
    "empty_union": 0.0,
    "numerator_smoothing": 0.5,
    "denominator_smoothing": 0.5,
    "mean_smoothing": 0.5,
    "cumulative_smoothing": 0.5,
    "precision_levels": (0.75,),
    "strict": True,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_counting_field_has_an_effect(name):
    native = PROTOCOLS["native"]
    assert dict(score(PREDICTIONS, TARGETS, native)) != dict(
        score(PREDICTIONS, TARGETS, replace(native, **{name: CHANGES[name]}))
    )


def test_minimum_pixels_and_the_missing_accuracy_have_an_effect():
    pixels = replace(PROTOCOLS["native"], no_target_rule="pixels")
    assert score(PREDICTIONS, TARGETS, pixels)["T_acc"] == 1.0
    assert score(PREDICTIONS, TARGETS, replace(pixels, minimum_pixels=4))["T_acc"] == 0.5  # B has 3 px
    only = PREDICTIONS[:1], TARGETS[:1]
    assert np.isnan(score(*only, "native")["N_acc"])
    assert score(*only, "rela")["N_acc"] == score(*only, "rela")["T_acc"] == 0.0  # as published


def test_box_and_video_fields_have_an_effect():
    predictions = [{"id": 1, "boxes": [[0, 0, 4, 4], [9, 9, 10, 10]], "scores": [0.8, 0.5]}]
    targets = [{"id": 1, "boxes": [[0, 0, 4, 3]], "no_target": False}]
    assert score(predictions, targets, "grec")["F1"] == 1.0
    for name, value in (("score_threshold", 0.4), ("overlap_level", 0.8)):
        assert score(predictions, targets, replace(PROTOCOLS["grec"], **{name: value}))["F1"] == 0.0
    apart = [{"id": 1, "boxes": [[1, 1, 4, 4]], "scores": [0.8]}]
    assert (
        score(apart, [{"id": 1, "boxes": [[0, 0, 4, 4]]}], replace(PROTOCOLS["grec"], overlap_level=0.56))["F1"] == 1.0
    )
    aside = [{"id": 1, "boxes": [[2, 2, 6, 6]], "scores": [0.8]}]
    plain = replace(PROTOCOLS["grec"], box_overlap="plain", overlap_level=0.1)
    assert score(aside, [{"id": 1, "boxes": [[0, 0, 4, 4]]}], plain)["F1"] == 1.0
    assert score(aside, [{"id": 1, "boxes": [[0, 0, 4, 4]]}], replace(plain, box_overlap="generalized"))["F1"] == 0.0
    clip = [{"id": "c", "masks": np.stack([NOTHING, SQUARE, NOTHING, NOTHING])}]
    meant = [{"id": "c", "masks": np.stack([SQUARE] * 4)}]
    assert score(clip, meant, replace(PROTOCOLS["davis"], skipped_frames=(0, 0)))["J"] == 0.25
    moved = [{"id": "c", "masks": np.roll(np.stack([SQUARE] * 4), 1, axis=2)}]
    near, far = (replace(PROTOCOLS["davis"], boundary_tolerance=pixels) for pixels in (0.0, 1.0))
    assert score(moved, meant, near)["F"] < score(moved, meant, far)["F"]


def test_every_field_is_named_in_the_tests():
    """Fields of making masks are tested in test_protocol_masks.py, of clips in test_clip_rows.py and (objects) in
    evaluation/test_clips.py; those of words are words."""
    words = {"name", "title", "source", "task", "headline"}
    making = {"threshold", "inclusive", "resolution", "target", "interpolation", "resized", "no_target_threshold"}
    boxes_and_video = {"score_threshold", "box_overlap", "overlap_level", "skipped_frames", "boundary_tolerance"}
    boxes_and_video |= {"phrase_boxes", "objects", "match_objects", "average"}
    alone = {"minimum_pixels", "accuracy_without_no_target"}
    assert words | making | boxes_and_video | alone | set(CHANGES) == {item.name for item in fields(Protocol)}


def test_a_protocol_is_json_and_has_its_source():
    for protocol in PROTOCOLS.values():
        written = json.loads(json.dumps(protocol.to_dict()))
        assert written["source"]
        assert written["units"] == "fractions, 0 to 1"
        assert written["headline"] in ("cIoU", "gIoU", "mIoU", "F1", "J&F", "Recall@1", "Acc@0.5")


def test_unknown_names_and_wrong_values_are_told():
    with pytest.raises(ConfigError, match="did you mean 'rela'"):
        get_protocol("rel")
    with pytest.raises(ConfigError, match="threshold lies between 0 and 1"):
        replace(PROTOCOLS["native"], threshold=1.5)
    with pytest.raises(ConfigError, match="two empty masks"):
        replace(PROTOCOLS["native"], empty_union=0.5)


def test_same_masks_asks_only_for_what_makes_masks():
    assert PROTOCOLS["rela"].same_masks(PROTOCOLS["rela-50px"])
    assert PROTOCOLS["native"].same_masks(PROTOCOLS["restr"])
    assert not PROTOCOLS["native"].same_masks(PROTOCOLS["vlt"])
    assert not PROTOCOLS["native"].same_masks(PROTOCOLS["rela"])
