"""Linking, the choice over tracks, cuts: each against what a frame alone would say."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refseg.inference.tracking import (
    Candidates,
    CutDetector,
    Linker,
    TrackingConfig,
    TrackMemory,
    logit,
    pair_iou,
    same_things,
)
from tests.support.clips import moving, square


def found(
    *boxes: tuple[float, float, float, float], scores: list[float] | None = None, kinds: list[int] | None = None
) -> Candidates:
    count = len(boxes)
    return Candidates(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores if scores is not None else [0.9] * count, dtype=np.float64),
        np.eye(3)[kinds if kinds is not None else [0] * count].reshape(count, 3),
        np.ones((count, 2)),
    )


def at(x: float, y: float = 0.5, side: float = 0.2) -> tuple[float, float, float, float]:
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def test_things_that_pass_each_other_keep_their_numbers() -> None:
    linker = Linker()
    for step in range(21):
        x = 0.15 + 0.035 * step
        # Kinds differ, so that the tracks can be told apart where the boxes cover each other.
        numbers = linker.update(found(at(x, 0.45), at(1 - x, 0.55), kinds=[0, 1]))
        assert numbers.tolist() == [1, 2], step


def test_order_of_the_candidates_does_not_matter() -> None:
    linker = Linker()
    assert linker.update(found(at(0.2), at(0.5), at(0.8))).tolist() == [1, 2, 3]
    assert linker.update(found(at(0.81), at(0.21), at(0.51))).tolist() == [3, 1, 2]


def test_gap_is_bridged_where_the_thing_is_expected_and_ends_a_track_when_long() -> None:
    linker = Linker(TrackingConfig(longest_gap=4))
    for step in range(5):
        linker.update(found(at(0.2 + 0.03 * step)))
    for _ in range(3):
        assert len(linker.update(found())) == 0
    assert set(linker.missing()) == {1}
    gap, box = linker.missing()[1]
    assert gap == 3
    # It is expected where it would be if it went on, which its last box would not tell.
    assert box[0] > 0.2 + 0.03 * 4 - 0.1 + 0.03
    assert linker.update(found(at(0.2 + 0.03 * 7))).tolist() == [1]
    for _ in range(5):
        linker.update(found())
    assert linker.alive() == set()
    assert linker.update(found(at(0.4))).tolist() == [2]


def test_weak_candidate_goes_on_with_a_track_but_never_takes_it_from_a_strong_one() -> None:
    linker = Linker()
    linker.update(found(at(0.3)))
    assert linker.update(found(at(0.31), scores=[0.1])).tolist() == [1]
    # The weak one lies nearer to where the track is expected.
    assert linker.update(found(at(0.315), at(0.34), scores=[0.1, 0.9])).tolist() == [2, 1]


def test_cut_ends_all_tracks() -> None:
    linker = Linker()
    linker.update(found(at(0.3)))
    linker.cut()
    assert linker.update(found(at(0.3))).tolist() == [2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=6))
def test_iou_of_boxes_against_a_loop(corners: list[tuple[float, float, float, float]]) -> None:
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners])
    table = pair_iou(boxes, boxes)
    for row, one in enumerate(boxes):
        for column, other in enumerate(boxes):
            wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
            high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
            union = areas[0] + areas[1] - wide * high
            if union > 1e-9:
                assert table[row, column] == pytest.approx(wide * high / union, abs=1e-6)


def test_same_things_by_overlap() -> None:
    boxes = np.array([at(0.3), at(0.31), at(0.7)])
    assert same_things(boxes).tolist() == [[True, True, False], [True, True, False], [False, False, True]]


class Clip:
    """A memory asked frame by frame, with two tracks that are always seen unless a frame says otherwise."""

    def __init__(self, several: bool = False, **fields: float) -> None:
        self.memory = TrackMemory(TrackingConfig(**fields))
        self.several = several
        self.gaps: dict[int, int] = {}

    def frame(self, logits: dict[int, float], none: float = -3.0) -> tuple[int, ...]:
        self.gaps = {
            number: self.gaps.get(number, 0) + 1 for number in {*self.gaps, *self.known()} if number not in logits
        }
        values = np.array(list(logits.values()))
        alive = set(logits) | set(self.gaps)
        chosen = self.memory.choose(list(logits), values, none, self.several, self.gaps, alive)
        return chosen.tracks if chosen.none_logit <= 0 else ()

    def known(self) -> set[int]:
        return set(self.memory._evidence)


def test_first_frame_alone_is_answered_as_without_tracks() -> None:
    assert Clip().frame({1: 0.4, 2: -0.4}) == (1,)
    assert Clip(several=True).frame({1: 0.4, 2: -0.4, 3: 1.0}) == (3, 1)
    assert Clip().frame({1: 0.4, 2: -0.4}, none=0.1) == ()


def test_one_frame_does_not_move_the_choice_and_many_do() -> None:
    clip = Clip()
    for _ in range(5):
        assert clip.frame({1: 1.0, 2: -1.0}) == (1,)
    assert clip.frame({1: -4.0, 2: 4.0}) == (1,)
    answers = [clip.frame({1: -4.0, 2: 4.0}) for _ in range(12)]
    assert answers[-1] == (2,)
    # It moves once and not back.
    assert sum(one != other for one, other in pairwise(answers)) <= 1


def test_set_keeps_a_member_through_weak_frames_and_never_takes_a_flash() -> None:
    clip = Clip(several=True)
    for _ in range(8):
        assert set(clip.frame({1: 2.0, 2: -2.0})) == {1}
    assert set(clip.frame({1: -3.0, 2: 3.0})) == {1}
    assert set(clip.frame({1: 2.0, 2: -2.0})) == {1}


def test_none_is_decided_over_the_track() -> None:
    clip = Clip()
    for _ in range(6):
        assert clip.frame({1: 2.0}, none=-2.0) == (1,)
    assert clip.frame({1: 2.0}, none=3.0) == (1,)
    assert [clip.frame({1: 2.0}, none=4.0) for _ in range(20)][-1] == ()


def test_new_thing_that_fits_is_found_at_once_after_a_long_none() -> None:
    clip = Clip()
    for _ in range(30):
        assert clip.frame({1: 2.0}, none=4.0) == ()
    assert clip.frame({1: -5.0, 2: 5.0}, none=-4.0) == (2,)


def test_chosen_thing_is_waited_for_and_another_one_is_not_meant_instead() -> None:
    clip = Clip(coast=2)
    for _ in range(6):
        clip.frame({1: 3.0, 2: -3.0})
    assert clip.frame({2: 3.0}) == (1,)
    assert clip.frame({2: 3.0}) == (1,)
    assert clip.frame({2: 3.0}) == ()
    assert clip.frame({1: 3.0, 2: -3.0}) == (1,)


def test_nothing_in_the_frame_is_none() -> None:
    for several in (False, True):
        chosen = TrackMemory().choose([], np.zeros(0), -3.0, several, {}, set())
        assert chosen.tracks == ()
        assert chosen.none_logit > 0


def test_memory_forgets_tracks_that_ended() -> None:
    memory = TrackMemory()
    for number in range(1, 200):
        memory.choose([number], np.array([1.0]), -1.0, False, {}, {number})
    assert len(memory._evidence) == 1


def test_cuts_are_told_from_motion_and_from_light() -> None:
    cuts = CutDetector()
    assert not any(cuts.update(frame) for frame in moving(10))
    assert not any(cuts.update(square((30, 24), ground=ground)) for ground in range(20, 60, 4))
    sky = Image.fromarray(np.full((48, 64, 3), (90, 160, 250), np.uint8))
    assert cuts.update(sky)
    assert not cuts.update(sky)
    assert cuts.update(square((30, 24)))


def test_logit_is_bounded() -> None:
    assert logit(0.5) == 0
    assert logit(0.8) == pytest.approx(math.log(4))
    assert math.isfinite(logit(0.0))
    assert math.isfinite(logit(1.0))
