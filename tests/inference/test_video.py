"""Answers over the frames of a clip: proposals, probability maps, clips at once; memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from refseg.errors import RefsegError
from refseg.inference.mask_memory import MaskMemory
from refseg.inference.segmentation import Segmentation
from refseg.inference.tracking import TrackingConfig
from refseg.inference.video import VideoFrame
from tests.support.clips import (
    ClipRedness,
    Redness,
    Scripted,
    Thing,
    moving,
    numbered,
    segmenter_of,
    square,
    write_folder,
    write_video,
)


def answers(model: Redness | Scripted, folder: Path, **options: object) -> list[VideoFrame]:
    return list(segmenter_of(model).video(folder, "the red thing", **options))


def left_of(answer: Segmentation) -> float:
    """The left side of the mask as a share of the width, 2 for an empty one."""
    columns = np.flatnonzero(answer.mask.any(axis=0))
    return columns[0] / answer.mask.shape[1] if len(columns) else 2.0


def test_dense_model_without_doubts_is_answered_as_frame_by_frame(tmp_path: Path) -> None:
    frames = moving(6)
    segmenter = segmenter_of(Redness())
    for frame, image in zip(segmenter.video(write_folder(tmp_path / "c", frames), "red"), frames, strict=True):
        alone = segmenter(image, "red")
        assert np.array_equal(frame.answer.mask, alone.mask)
        assert frame.tracks == ((1,),)
        assert frame.answer.score == pytest.approx(alone.score, abs=1e-6)
        assert np.array_equal(np.asarray(frame.image), np.asarray(image))


def test_weak_frame_of_a_thing_keeps_its_mask_and_a_flash_is_not_shown(tmp_path: Path) -> None:
    frames = [square((20, 24)) for _ in range(8)]
    frames[4] = square((20, 24), brightness=119)  # probability .36: below one half, above a quarter
    segmenter = segmenter_of(Redness())
    assert segmenter(frames[4], "red").no_target
    for frame in segmenter.video(write_folder(tmp_path / "weak", frames), "red"):
        assert not frame.answer.no_target
        assert frame.answer.mask.sum() == 256
    # What was never more than weak is never shown.
    always = [square((20, 24), brightness=119) for _ in range(5)]
    assert all(frame.answer.no_target for frame in segmenter.video(write_folder(tmp_path / "never", always), "red"))


def test_proposals_choice_stays_with_its_track(tmp_path: Path) -> None:
    left, right = (10, 30, 30, 70), (60, 30, 80, 70)
    script = [[Thing(left, 1.0), Thing(right, 0.0)] for _ in range(10)]
    script[5] = [Thing(left, 0.0), Thing(right, 1.0)]  # the frame alone says: the right one
    found = answers(Scripted(script), write_folder(tmp_path / "c", numbered(10)))
    assert [left_of(frame.answer) for frame in found] == pytest.approx([0.1] * 10, abs=0.02)
    assert {frame.tracks for frame in found} == {((1,),)}
    assert {instance.label for frame in found for instance in frame.answer.instances} == {"dog"}


def test_thing_that_the_detector_misses_for_a_frame_is_looked_for_where_it_is_expected(tmp_path: Path) -> None:
    script = [[Thing((10 + 4 * n, 30, 30 + 4 * n, 70), 1.0), Thing((10, 80, 20, 95), -3.0)] for n in range(10)]
    del script[6][0]
    found = answers(Scripted(script), write_folder(tmp_path / "c", numbered(10)))
    for number, frame in enumerate(found):
        assert left_of(frame.answer) == pytest.approx(0.1 + 0.04 * number, abs=0.03), number
        assert frame.tracks == ((1,),)


def test_sets_and_doubles(tmp_path: Path) -> None:
    """Two proposals of one thing take turns in being a member; it is shown once, in every frame."""
    script = [
        [
            Thing((10, 30, 30, 70), 2.0 if number % 2 else -2.0),
            Thing((11, 31, 31, 71), -2.0 if number % 2 else 2.0, kind=1),
            Thing((60, 30, 80, 70), 1.5),
            Thing((85, 80, 95, 95), -3.0),
        ]
        for number in range(8)
    ]
    found = answers(Scripted(script, several=True), write_folder(tmp_path / "c", numbered(8)))
    assert all(len(frame.answer.instances) == 2 for frame in found)
    assert len({frame.tracks for frame in found}) == 1


def test_masks_are_averaged_over_a_track_and_move_with_it() -> None:
    """A square that goes to the right, whose upper half every fourth frame leaves out."""
    memory = MaskMemory(keep=0.8)
    seen = []
    for number in range(12):
        left = 8 + 2 * number
        logits = torch.full((1, 48, 64), -8.0)
        logits[0, 20 if number % 4 == 3 else 8 : 32, left : left + 16] = 8.0
        boxes = torch.tensor([[left / 64, 8 / 48, (left + 16) / 64, 32 / 48]])
        seen.append((memory.update([1], boxes, logits)[0] > 0).numpy())
    for number, mask in enumerate(seen):
        whole = np.zeros((48, 64), dtype=bool)
        whole[8:32, 8 + 2 * number : 24 + 2 * number] = True
        assert (mask & whole).sum() / (mask | whole).sum() > 0.9, number
    # Without memory each frame is as it is; what is not shown is forgotten.
    plain = MaskMemory(keep=0.0).update([1], boxes, logits)
    assert (plain[0, 8:20] < 0).all()
    memory.update([2], boxes, logits)
    assert set(memory._before) == {2}


def test_none_where_nothing_is_meant_and_where_nothing_is_proposed(tmp_path: Path) -> None:
    script = [[Thing((10, 30, 30, 70), 1.0)]] * 4 + [[]] * 2
    found = answers(Scripted(script, none=dict.fromkeys(range(4), 2.0)), write_folder(tmp_path / "c", numbered(6)))
    assert all(frame.answer.no_target and frame.tracks == ((),) for frame in found)
    assert found[0].answer.no_target_score == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-5)


def test_cut_begins_anew(tmp_path: Path) -> None:
    script = [[Thing((10, 30, 30, 70), 1.0), Thing((60, 30, 80, 70), 0.0)]] * 6
    script = script[:3] + [[Thing((10, 30, 30, 70), 0.0), Thing((60, 30, 80, 70), 1.0)]] * 3
    found = answers(Scripted(script), write_folder(tmp_path / "c", numbered(6, scenes=[3])))
    assert [frame.cut for frame in found] == [False, False, False, True, False, False]
    assert [left_of(frame.answer) for frame in found] == pytest.approx([0.1] * 3 + [0.6] * 3, abs=0.02)
    assert found[2].tracks != found[3].tracks


def test_several_expressions_at_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", moving(3))
    found = list(segmenter_of(Redness()).video(folder, ["red", "the red thing"]))
    assert [[answer.text for answer in frame.answers] for frame in found] == [["red", "the red thing"]] * 3
    assert found[0].answer is found[0].answers[0]


def test_clip_models_see_windows_of_one_scene(tmp_path: Path) -> None:
    model = ClipRedness()
    light = [square((20, 24), ground=20) for _ in range(11)]
    dark = [square((40, 24), ground=240) for _ in range(3)]
    found = answers(model, write_folder(tmp_path / "c", light + dark))
    assert model.clips == [8, 3, 3]
    assert [frame.index for frame in found] == list(range(14))
    assert [frame.cut for frame in found] == [number == 11 for number in range(14)]


def test_nothing_is_read_ahead_of_what_is_asked_for(tmp_path: Path) -> None:
    model = Redness()
    frames = segmenter_of(model).video(write_folder(tmp_path / "c", moving(30)), "red")
    next(frames)
    assert model.asked == 1


def test_bad_expressions_and_thresholds_are_told_when_the_first_frame_is_asked_for(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "c", moving(2))
    segmenter = segmenter_of(Redness())
    with pytest.raises(RefsegError, match="the expression is empty"):
        next(segmenter.video(folder, " "))
    with pytest.raises(RefsegError, match="threshold is a probability"):
        next(segmenter.video(folder, "red", threshold=3.0))
    with pytest.raises(RefsegError, match="every is at least 1"):
        segmenter.video(folder, "red", every=0)


def test_tracking_can_be_set(tmp_path: Path) -> None:
    left, right = (10, 30, 30, 70), (60, 30, 80, 70)
    script = [[Thing(left, 2.0), Thing(right, 0.0)], [Thing(left, 0.0), Thing(right, 2.0)]] * 3
    folder = write_folder(tmp_path / "c", numbered(6))
    forgetful = TrackingConfig(half_life=0.1, prior=0.0, stay=0.0)
    places = [left_of(frame.answer) for frame in answers(Scripted(script), folder, tracking=forgetful)]
    assert places == pytest.approx([0.1, 0.6] * 3, abs=0.02)


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """A picture of the clip takes 0.23 MB: seventy of them would be seen if half of each were kept."""
    path = write_video(tmp_path / "c.mp4", [square((20, 24)).resize((320, 240))] * 90, options={"preset": "ultrafast"})
    held = []
    for frame in segmenter_of(Redness()).video(path, "red"):
        if frame.index in (19, 89):
            held.append(resident())
    assert held[1] - held[0] < 8_000_000, held
