"""The metrics of referring segmentation, from `Row`s under a `Protocol`.

Every metric is a ratio of two sums over expressions, so one table of contributions serves the total (`Accumulator`),
the breakdowns and the bootstrap. Names, in fractions:

cIoU (overall IoU, oIoU)  sum of intersections / sum of unions
gIoU, mIoU                mean over the counted expressions of the value of each (see `judge`); GRES calls it gIoU,
                          classic work mIoU. mIoU_target leaves out the expressions without target.
Pr@X                      share of the expressions with a target whose IoU reaches X
N_acc, T_acc              share of expressions without (with) target that are (are not) answered with none
none_AP, none_ECE         average precision and calibration error of the no-target probability
boundary_IoU, pointing, Acc@0.5, box_mIoU   where the rows hold what they need
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from refseg.errors import DataError
from refseg.metrics.counts import ExactSum, Row
from refseg.metrics.protocols import Protocol, get_protocol

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class RowScore:
    """A row under a protocol: intersection and union as the cumulative IoU counts them, and the expression's value."""

    intersection: int
    union: int
    value: float
    says_none: bool

    def to_dict(self) -> dict[str, Any]:
        """Keys I, U, iou, says_none, as saved rows have them."""
        return {"I": self.intersection, "U": self.union, "iou": self.value, "says_none": self.says_none}


def judge(row: Row, protocol: Protocol) -> RowScore:
    """What a protocol makes of an expression: who says none, what that clears, and the IoU."""
    says_none = _says_none(row, protocol)
    if row.no_target and protocol.no_target == "decision":
        union = 0 if says_none else row.prediction_area
        return RowScore(0, union, 1.0 if says_none else 0.0, says_none)
    intersection, union = row.intersection, row.union
    if says_none and protocol.gating == "mask":
        intersection, union = 0, row.target_area
    elif says_none and protocol.gating == "intersection":
        return RowScore(0, union, 0.0, says_none)
    return RowScore(intersection, union, _iou(intersection, union, protocol), says_none)


def _says_none(row: Row, protocol: Protocol) -> bool:
    if protocol.no_target_rule == "pixels":
        return row.prediction_area < protocol.minimum_pixels
    return row.prediction_area == 0 if row.predicted_no_target is None else row.predicted_no_target


def _iou(intersection: int, union: int, protocol: Protocol) -> float:
    if union == 0:
        return protocol.empty_union
    return (intersection + protocol.numerator_smoothing) / (union + protocol.denominator_smoothing)


def contributions(row: Row, row_score: RowScore, protocol: Protocol) -> dict[str, tuple[float | int, int]]:
    """Metric -> (what the expression adds to the numerator, what to the denominator). Absent where it adds nothing."""
    if row.no_target and protocol.sentences == "with_target":
        return {}
    parts: dict[str, tuple[float | int, int]] = {
        "cIoU": (row_score.intersection, row_score.union),
        "gIoU": (row_score.value, 1),
        "mIoU": (row_score.value, 1),
    }
    if row.no_target:
        parts["N_acc"] = (int(row_score.says_none), 1)
    else:
        parts["mIoU_target"] = (row_score.value, 1)
        parts["T_acc"] = (int(not row_score.says_none), 1)
        for level in protocol.precision_levels:
            reached = row_score.value > level if protocol.strict else row_score.value >= level
            parts[precision_name(level)] = (int(reached), 1)
        if row.pointed is not None:
            parts["pointing"] = (int(row.pointed), 1)
        if row.box_iou is not None:
            parts["Acc@0.5"] = (int(row.box_iou > 0.5), 1)
            parts["box_mIoU"] = (row.box_iou, 1)
    if row.boundary_union is not None and row.boundary_intersection is not None and not row.no_target:
        cleared = row_score.says_none and protocol.gating != "none"
        empty = row.boundary_union == 0
        value = 0.0 if cleared or empty else row.boundary_intersection / row.boundary_union
        parts["boundary_IoU"] = (value, 1)
    return parts


def precision_name(level: float) -> str:
    """The key of Pr@X, whatever rounding the level carries: Pr@0.5."""
    return f"Pr@{level:.2g}"


def metric_names(protocol: Protocol) -> list[str]:
    """The metrics that every score under a mask protocol has, in the order in which they are shown."""
    return ["cIoU", "gIoU", "mIoU", *map(precision_name, protocol.precision_levels), "N_acc", "T_acc", "mIoU_target"]


_OF_ROWS = ("boundary_IoU", "pointing", "Acc@0.5", "box_mIoU")
SOMETIMES = (*_OF_ROWS, "none_AP", "none_ECE")
"""Metrics of scores whose rows hold what they need."""


class Accumulator:
    """Update with rows one by one, merge with those of other processes, compute when all are in. Exact in any order."""

    def __init__(self, protocol: str | Protocol = "native") -> None:
        self.protocol = get_protocol(protocol)
        self.sums: dict[str, tuple[ExactSum, int]] = {}
        self.none_scores: list[tuple[float, bool]] = []
        self.sentences = 0
        self.no_target = 0

    def update(self, row: Row) -> RowScore:
        """Count one expression; returns what the protocol made of it."""
        row_score = judge(row, self.protocol)
        parts = contributions(row, row_score, self.protocol)
        if parts:
            self.sentences += 1
            self.no_target += row.no_target
        for name, (numerator, denominator) in parts.items():
            total, count = self.sums.get(name) or (ExactSum(), 0)
            total.add(numerator)
            self.sums[name] = (total, count + denominator)
        if parts and row.no_target_score is not None:
            self.none_scores.append((row.no_target_score, row.no_target))
        return row_score

    def merge(self, other: Accumulator) -> None:
        """Add everything that `other` counted. Raises `DataError` when it counted under another protocol."""
        if other.protocol != self.protocol:
            raise DataError(f"rows under {other.protocol.name} cannot join rows under {self.protocol.name}")
        self.sentences += other.sentences
        self.no_target += other.no_target
        self.none_scores += other.none_scores
        for name, (total, count) in other.sums.items():
            own, own_count = self.sums.get(name) or (ExactSum(), 0)
            own.add(total.total)
            self.sums[name] = (own, own_count + count)

    def compute(self) -> dict[str, float]:
        """Every metric as a fraction; nan where nothing was there to count (N_acc: no expression without target)."""
        result = {name: self._ratio(name) for name in metric_names(self.protocol)}
        fallback = self.protocol.accuracy_without_no_target
        if fallback is not None and not self.no_target:
            result["N_acc"] = result["T_acc"] = fallback
        for name in _OF_ROWS:
            if name in self.sums:
                result[name] = self._ratio(name)
        if self.none_scores and 0 < self.no_target < self.sentences:
            scores, labels = (np.asarray(column) for column in zip(*self.none_scores, strict=True))
            result["none_AP"] = average_precision(scores.astype(np.float64), labels.astype(bool))
            result["none_ECE"] = calibration_error(scores.astype(np.float64), labels.astype(bool))
        return result

    def counts(self) -> dict[str, int]:
        """How many expressions were counted, with and without target, and the sums under cIoU."""
        intersection, union = self.sums.get("cIoU") or (ExactSum(), 0)
        return {
            "sentences": self.sentences,
            "with_target": self.sentences - self.no_target,
            "no_target": self.no_target,
            "intersection": int(intersection.total),
            "union": union,
        }

    def _ratio(self, name: str) -> float:
        total, count = self.sums.get(name) or (ExactSum(), 0)
        return ratio(name, float(total) if name != "cIoU" else int(total.total), count, self.sentences, self.protocol)


def ratio(name: str, numerator: float | int, denominator: float | int, expressions: int, protocol: Protocol) -> float:
    """A metric from its two sums over `expressions` expressions, with the protocol's smoothing."""
    if not expressions:
        return math.nan
    if name == "cIoU":
        if not denominator:
            return protocol.empty_union
        return numerator / (denominator + protocol.cumulative_smoothing)
    if not denominator:
        return math.nan
    if name in ("gIoU", "mIoU"):
        return numerator / (denominator + protocol.mean_smoothing)
    return numerator / denominator


def rescore(rows: Iterable[Row | Mapping[str, Any]], protocol: str | Protocol) -> Accumulator:
    """Count saved rows again, under any protocol whose masks are made the same way. Needs no model and no mask."""
    accumulator = Accumulator(protocol)
    for row in rows:
        accumulator.update(row if isinstance(row, Row) else Row.from_dict(row))
    return accumulator


def average_precision(scores: Float[np.ndarray, " N"], labels: Bool[np.ndarray, " N"]) -> float:
    """Area under precision over recall as steps, expressions of equal score taken together. nan without a positive."""
    positives = int(labels.sum())
    if not positives:
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    hits = np.cumsum(labels[order])[ends]
    gained = np.diff(np.concatenate([[0], hits]))
    return math.fsum((hits / (ends + 1)) * gained) / positives


def calibration_error(
    probabilities: Float[np.ndarray, " N"], labels: Bool[np.ndarray, " N"], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: |share of positives - mean probability| of equal-width bins, weighted by their size.

    Bins are open at the left (the first is closed): Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    if not len(probabilities):
        return math.nan
    index = np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
    used = [index == number for number in range(bins) if (index == number).any()]
    gaps = [abs(int(labels[members].sum()) - math.fsum(probabilities[members])) for members in used]
    return math.fsum(gaps) / len(probabilities)
