"""Clips counted frame by frame: means over annotators, and objects against the answers that fit them best."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refseg.data.rle import encode
from refseg.errors import DataError
from refseg.metrics import PROTOCOLS, RecordsError, score
from refseg.metrics.video import contour_accuracy, region_similarity

RANDOM = np.random.default_rng(3)


def masks(count: int, frames: int = 4) -> np.ndarray:
    """(count, frames, 12, 16) blocks."""
    return np.kron(RANDOM.random((count, frames, 3, 4)) < 0.4, np.ones((4, 4))).astype(bool)


def records(clips: np.ndarray, **about: Any) -> list[dict[str, Any]]:
    return [{"id": f"v_{number}", "masks": clip, **about} for number, clip in enumerate(clips)]


def mean(said: np.ndarray, meant: np.ndarray) -> float:
    return float((region_similarity(said, meant).mean() + contour_accuracy(said, meant).mean()) / 2)


@pytest.mark.parametrize("name", ["youtube-vos", "mevis"])
def test_every_frame_of_every_expression_counts(name: str) -> None:
    said, meant = masks(3), masks(3)
    said[0, 0] = meant[0, 0] = False  # nothing in both counts 1
    found = score(records(said), records(meant), name)
    assert found["J"] == pytest.approx(
        np.mean([region_similarity(*pair).mean() for pair in zip(said, meant, strict=True)])
    )
    assert found["J&F"] == pytest.approx(np.mean([mean(*pair) for pair in zip(said, meant, strict=True)]))
    assert found.rows[0]["J"][0] == 1.0


def test_annotators_weigh_alike_however_much_they_wrote() -> None:
    said, meant = masks(5), masks(5)
    kinds = ["a", "a", "a", "b", "b"]
    targets = [{**record, "kind": kind} for record, kind in zip(records(meant), kinds, strict=True)]
    found = score(records(said), targets, "davis")
    each = [region_similarity(*pair)[1:-1].mean() for pair in zip(said, meant, strict=True)]
    assert found["J"] == pytest.approx((np.mean(each[:3]) + np.mean(each[3:])) / 2)
    assert {name: group["sentences"] for name, group in found.breakdowns["annotator"].items()} == {"a": 3, "b": 2}
    assert found.breakdowns["annotator"]["b"]["J"] == pytest.approx(np.mean(each[3:]))
    plain = score(records(said), targets, replace(PROTOCOLS["davis"], average="expressions"))
    assert plain["J"] == pytest.approx(np.mean(each))


def test_objects_are_compared_with_the_answers_that_fit_best() -> None:
    """Against every order in which answers could be given to objects, within a video and annotator alone."""
    meant = masks(6)
    said = meant[[2, 0, 1, 5, 3, 4]].copy()
    said[:, :, :3] ^= masks(6)[:, :, :3]
    groups = [("v", "a"), ("w", "a")]
    targets = [
        {**record, "picture": groups[number // 3][0], "kind": groups[number // 3][1]}
        for number, record in enumerate(records(meant))
    ]
    best = [
        max(np.mean([mean(said[3 * g + j], meant[3 * g + i]) for i, j in enumerate(order)])
            for order in itertools.permutations(range(3)))
        for g in range(2)
    ]  # fmt: skip
    found = score(records(said), targets, "ref-davis17")
    assert found["J&F"] == pytest.approx(np.mean(best))
    apart = score(records(said), targets, replace(PROTOCOLS["ref-davis17"], match_objects=False))
    assert apart["J&F"] == pytest.approx(np.mean([mean(*pair) for pair in zip(said, meant, strict=True)]))
    assert apart["J&F"] < found["J&F"]


def test_frames_joined_to_clips_keep_video_and_annotator() -> None:
    said, meant = masks(2), masks(2)

    def lines(clips: np.ndarray, **more: Any) -> list[dict[str, Any]]:
        return [
            {"id": f"v_{number}/{frame:05d}", "mask": encode(mask), "picture": "v", "kind": "ab"[number], **more}
            for number, clip in enumerate(clips)
            for frame, mask in enumerate(clip)
        ]

    found = score(lines(said), lines(meant), "ref-davis17")
    assert [row["kind"] for row in found.rows] == ["a", "b"]
    assert {row["picture"] for row in found.rows} == {"v"}
    # Masks of merged objects are other masks than those of each on its own.
    with pytest.raises(RecordsError, match="made for protocol 'mevis'"):
        score(lines(said, protocol="mevis"), lines(meant), "davis")
    assert score(lines(said, protocol="native"), lines(meant), "davis")["J"] >= 0


def test_frames_of_other_sizes_are_refused() -> None:
    from refseg.metrics.clip_rows import ClipCounter

    with pytest.raises(DataError, match="the clips differ"):
        ClipCounter(["c"], PROTOCOLS["mevis"]).update([np.zeros((3, 4), bool)], [np.zeros((4, 4), bool)])
