"""Video object segmentation as the DAVIS tool scores it (Perazzi et al., CVPR 2016; davis2017-evaluation@30b698a).

J is the IoU of the regions and F the F-measure of the contours, one value a frame. Their mean, recall and decay leave
out the first and the last frame. Clips are (frames, H, W) bool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from refseg.errors import DataError

TOLERANCE = 0.008
"""How far two contours may lie apart and still match: this share of the picture's diagonal, rounded up to pixels."""

RECALL_LEVEL = 0.5


def region_similarity(
    prediction: Bool[np.ndarray, "T H W"],
    target: Bool[np.ndarray, "t h w"],
    void: Bool[np.ndarray, "t h w"] | None = None,
) -> Float[np.ndarray, " T"]:
    """J: intersection over union of each frame; 1 where both are empty. Pixels of `void` are not counted."""
    _check(prediction, target, void)
    if void is not None:
        prediction, target = prediction & ~void, target & ~void
    union = np.count_nonzero(prediction | target, axis=(1, 2))
    intersection = np.count_nonzero(prediction & target, axis=(1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def contour_accuracy(
    prediction: Bool[np.ndarray, "T H W"],
    target: Bool[np.ndarray, "t h w"],
    void: Bool[np.ndarray, "t h w"] | None = None,
    tolerance: float | int = TOLERANCE,
) -> Float[np.ndarray, " T"]:
    """F: harmonic mean of how much of the predicted contour lies near the target's and of the reverse, a frame.

    `tolerance` is a share of the diagonal, or pixels from 1 on. Without any contour F is 1; with only one it is 0.
    """
    _check(prediction, target, void)
    if void is not None:
        prediction, target = prediction & ~void, target & ~void
    height, width = target.shape[1:]
    radius = int(tolerance) if tolerance >= 1 else math.ceil(tolerance * float(np.hypot(height, width)))
    return np.array([_f_measure(*frames, radius) for frames in zip(prediction, target, strict=True)], dtype=np.float64)


def _check(prediction: np.ndarray, target: np.ndarray, void: np.ndarray | None) -> None:
    if prediction.shape != target.shape or (void is not None and void.shape != target.shape):
        raise DataError(f"the clips differ: prediction {prediction.shape}, target {target.shape} (frames, H, W)")


def _f_measure(prediction: Bool[np.ndarray, "H W"], target: Bool[np.ndarray, "H W"], radius: int) -> float:
    predicted, target = boundary_map(prediction), boundary_map(target)
    n_predicted, n_target = int(predicted.sum()), int(target.sum())
    if n_predicted == 0 or n_target == 0:
        return float(n_predicted == n_target)
    precision = int((predicted & dilated(target, radius)).sum()) / n_predicted
    recall = int((target & dilated(predicted, radius)).sum()) / n_target
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that differ from their neighbour to the right, below, or both: a contour half a pixel towards the origin.

    In the last row only the right neighbour counts, in the last column only the one below, and the last corner never.
    """
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] ^ mask[1:, :]
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges


def dilated(points: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
    """True where a True pixel lies within `radius` (Euclidean, between pixel centres)."""
    height, width = points.shape
    result = np.zeros_like(points)
    rows, columns = np.nonzero(points)
    if not len(rows):
        return result
    # Only the part that the points can reach; in it each row of the disk widens the points along the row.
    top, bottom = max(0, rows.min() - radius), min(height, rows.max() + radius + 1)
    left, right = max(0, columns.min() - radius), min(width, columns.max() + radius + 1)
    part = points[top:bottom, left:right]
    reached = np.zeros_like(part)
    padded = np.pad(part, ((0, 0), (radius + 1, radius)))
    sums = np.cumsum(padded, axis=1, dtype=np.int32)
    extent = part.shape[1]
    for offset in range(radius + 1):
        half = math.isqrt(radius * radius - offset * offset)
        first = radius - half
        widened = sums[:, first + 2 * half + 1 : first + 2 * half + 1 + extent] > sums[:, first : first + extent]
        if offset == 0:
            reached |= widened
        elif offset < part.shape[0]:
            reached[offset:] |= widened[:-offset]
            reached[:-offset] |= widened[offset:]
    result[top:bottom, left:right] = reached
    return result


@dataclass(frozen=True)
class ClipStatistics:
    """A clip's frames in three numbers: mean, share of frames over 0.5, and first quarter minus last quarter."""

    mean: float
    recall: float
    decay: float


def clip_statistics(values: Float[np.ndarray, " T"], skipped: tuple[int, int] = (1, 1)) -> ClipStatistics:
    """Mean, recall and decay over the frames, without `skipped` at the start and the end.

    The quarters share their border frames, as in the tool. (The tool keeps frame numbers in 8 bits, so that its
    decay is wrong over 256 frames; here it is not.) Raises `DataError` when no frame is left.
    """
    kept = values[skipped[0] : len(values) - skipped[1]]
    if not len(kept):
        raise DataError(
            f"a clip of {len(values)} frames has none left without {skipped[0]} first and {skipped[1]} last"
        )
    borders = (np.round(np.linspace(1, len(kept), 5) + 1e-10) - 1).astype(np.int64)
    first, last = kept[borders[0] : borders[1] + 1], kept[borders[3] : borders[4] + 1]
    return ClipStatistics(float(kept.mean()), float((kept > RECALL_LEVEL).mean()), float(first.mean() - last.mean()))


def video_metrics(clips: Sequence[tuple[ClipStatistics, ClipStatistics]]) -> dict[str, float]:
    """J, F and J&F with recall and decay, each the mean over objects. `clips` holds (J, F) statistics an object."""
    if not clips:
        return dict.fromkeys(("J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay"), math.nan)
    result = {}
    for letter, column in zip("JF", zip(*clips, strict=True), strict=True):
        result[letter] = float(np.mean([entry.mean for entry in column]))
        result[f"{letter}_recall"] = float(np.mean([entry.recall for entry in column]))
        result[f"{letter}_decay"] = float(np.mean([entry.decay for entry in column]))
    return {"J&F": (result["J"] + result["F"]) / 2, **result}
