"""Boxes: IoU plain and generalized, accuracy of single boxes, GREC, and Flickr30k Entities' recall.

Boxes are xyxy in pixels (or any one unit), K x 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from refseg.errors import DataError
from refseg.metrics.protocols import Protocol, get_protocol


def box_iou(first: Float[np.ndarray, "N 4"], second: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """IoU of every box of `first` with every one of `second`; 0 where both are empty."""
    intersection, union, _ = _areas(first, second)
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def generalized_box_iou(first: Float[np.ndarray, "N 4"], second: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Generalized IoU, -1 to 1: IoU minus what neither covers of the enclosing box (Rezatofighi et al., 2019)."""
    intersection, union, enclosing = _areas(first, second)
    iou = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    uncovered = np.divide(enclosing - union, enclosing, out=np.zeros_like(enclosing), where=enclosing > 0)
    return iou - uncovered


def _areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of the intersection, the union and the smallest enclosing box of every pair, (N, M) each."""
    first, second = as_boxes(first)[:, None], as_boxes(second)[None]
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    intersection = np.clip(high - low, 0, None).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - intersection
    outer = np.maximum(first[..., 2:], second[..., 2:]) - np.minimum(first[..., :2], second[..., :2])
    return intersection, union, np.clip(outer, 0, None).prod(-1)


def as_boxes(boxes: ArrayLike) -> Float[np.ndarray, "K 4"]:
    """K x 4 float64, checked: finite, left of right, top above bottom. Raises `DataError`."""
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes are K x 4 numbers, xyxy: {error}") from error
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"boxes are K x 4, xyxy in pixels, not of shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError("a box holds a number that is not finite")
    if (array[:, 2:] < array[:, :2]).any():
        raise DataError("a box has its right left of its left, or its bottom above its top (boxes are xyxy)")
    return array


@dataclass(frozen=True)
class BoxRow:
    """One expression under GREC: predicted boxes kept, boxes of the targets, matches under either overlap."""

    id: str
    kept: int
    targets: int
    matched: int
    matched_plain: int
    no_target: bool

    @property
    def correct(self) -> bool:
        """Whether the boxes are exactly right (F1 = 1), by the protocol's overlap."""
        return self.kept == 0 if self.no_target else self.matched == self.kept == self.targets

    @property
    def correct_plain(self) -> bool:
        """The same by plain IoU."""
        return self.kept == 0 if self.no_target else self.matched_plain == self.kept == self.targets

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with `f1` and `correct`."""
        total = self.kept + self.targets
        f1 = float(self.correct) if self.no_target or not total else 2 * self.matched / total
        return {
            "id": self.id,
            "kept": self.kept,
            "targets": self.targets,
            "matched": self.matched,
            "matched_plain": self.matched_plain,
            "no_target": self.no_target,
            "f1": f1,
            "correct": self.correct,
            "correct_plain": self.correct_plain,
        }


def count_boxes(
    identity: str,
    boxes: ArrayLike,
    scores: ArrayLike | None,
    targets: ArrayLike,
    no_target: bool,
    protocol: str | Protocol = "grec",
) -> BoxRow:
    """One expression under GREC: keep boxes by score, match greedily by overlap, largest first.

    boxes (K, 4) and targets (M, 4) are xyxy; scores (K,), or None, which keeps every box.
    """
    protocol = get_protocol(protocol)
    predicted, target = as_boxes(boxes), as_boxes(targets)
    if scores is not None:
        values = np.asarray(scores, dtype=np.float64).reshape(-1)
        if len(values) != len(predicted):
            raise DataError(f"{len(predicted)} boxes have {len(values)} scores")
        predicted = predicted[values >= protocol.score_threshold]
    if no_target:
        return BoxRow(identity, len(predicted), 0, 0, 0, True)
    overlap = generalized_box_iou if protocol.box_overlap == "generalized" else box_iou
    matched = _matches(overlap(predicted, target), protocol.overlap_level)
    plain = _matches(box_iou(predicted, target), protocol.overlap_level)
    return BoxRow(identity, len(predicted), len(target), matched, plain, False)


def _matches(overlap: Float[np.ndarray, "N M"], level: float) -> int:
    """Pairs that greedy matching finds: the largest overlap first, each box once, none under `level`."""
    overlap = overlap.copy()
    for found in range(min(overlap.shape)):
        row, column = np.unravel_index(int(np.argmax(overlap)), overlap.shape)
        if overlap[row, column] < level:
            return found
        # The published code writes 0 here; -inf is the same for any level above 0.
        overlap[row, :] = overlap[:, column] = -np.inf
    return min(overlap.shape)


def grec_metrics(rows: Sequence[BoxRow], protocol: str | Protocol = "grec") -> dict[str, float]:
    """F1 (share of expressions that are exactly right), N_acc, T_acc, and F1_plain_IoU; fractions."""
    protocol = get_protocol(protocol)
    without = [row for row in rows if row.no_target]
    with_target = [row for row in rows if not row.no_target]
    fallback = protocol.accuracy_without_no_target
    nothing = float("nan") if fallback is None else fallback
    t_acc = sum(row.kept > 0 for row in with_target) / len(with_target) if with_target else float("nan")
    return {
        "F1": sum(row.correct for row in rows) / len(rows) if rows else float("nan"),
        "N_acc": sum(row.kept == 0 for row in without) / len(without) if without else nothing,
        "T_acc": t_acc if without or fallback is None else fallback,
        "F1_plain_IoU": sum(row.correct_plain for row in rows) / len(rows) if rows else float("nan"),
    }


RANKS = (1, 5, 10)
"""How many best boxes of a phrase may hold the right one, for its recall at each."""


@dataclass(frozen=True)
class PhraseRow:
    """One phrase, or one expression asked for a single box: the best IoU of its first 1, 5 and 10 boxes with its target
    by the protocol's `phrase_boxes`; None where it has no target box."""

    id: str
    overlaps: tuple[float, ...] | None

    def found(self, protocol: Protocol) -> dict[int, bool] | None:
        """Whether one of the first k boxes is right, by k."""
        if self.overlaps is None:
            return None
        level, strict = protocol.overlap_level, protocol.strict
        right = [overlap > level if strict else overlap >= level for overlap in self.overlaps]
        return dict(zip(RANKS, right, strict=True))

    def to_dict(self, protocol: Protocol) -> dict[str, Any]:
        """Plain JSON values: the metrics of this phrase alone."""
        return {"id": self.id, **phrase_metrics([self], protocol)}


def count_phrase(identity: str, boxes: ArrayLike, targets: ArrayLike, protocol: str | Protocol) -> PhraseRow:
    """One phrase: `boxes` (K, 4) best first, `targets` (M, 4), both xyxy."""
    protocol = get_protocol(protocol)
    target = as_boxes(targets)
    if not len(target):
        return PhraseRow(identity, None)
    if protocol.phrase_boxes == "merged":
        target = np.concatenate([target[:, :2].min(0), target[:, 2:].max(0)])[None]
    overlaps = box_iou(as_boxes(boxes), target).max(axis=1, initial=0.0)
    return PhraseRow(identity, tuple(float(overlaps[:rank].max(initial=0.0)) for rank in RANKS))


def phrase_metrics(rows: Sequence[PhraseRow], protocol: str | Protocol) -> dict[str, float]:
    """Over the phrases that have a target box: Recall@1, 5 and 10, or of a protocol of single boxes Acc@0.5 and
    box_mIoU, the mean IoU of the first box; nan where no phrase has one."""
    protocol = get_protocol(protocol)
    counted = [row for row in rows if row.overlaps is not None]
    total = len(counted)
    found = [row.found(protocol) or {} for row in counted]
    shares = {rank: sum(each[rank] for each in found) / total if total else math.nan for rank in RANKS}
    mean = math.fsum(row.overlaps[0] for row in counted if row.overlaps) / total if total else math.nan
    if protocol.task == "box":
        return {f"Acc@{protocol.overlap_level:.2g}": shares[1], "box_mIoU": mean}
    return {f"Recall@{rank}": share for rank, share in shares.items()}


def best_box_iou(boxes: ArrayLike, scores: ArrayLike | None, targets: ArrayLike) -> float | None:
    """IoU of the best-scored box (the first, where there are no scores) with the only target; None without one.

    The accuracy of classic referring comprehension is the share of expressions where it is over 0.5.
    """
    target = as_boxes(targets)
    if len(target) != 1:
        return None
    predicted = as_boxes(boxes)
    if not len(predicted):
        return 0.0
    best = int(np.argmax(np.asarray(scores, dtype=np.float64))) if scores is not None else 0
    return float(box_iou(predicted[best : best + 1], target)[0, 0])
