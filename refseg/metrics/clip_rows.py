"""J and F of clips, frame by frame: of each expression, and of the objects of a video against those that fit best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from refseg.metrics.protocols import Protocol
from refseg.metrics.video import clip_statistics, contour_accuracy, region_similarity, video_metrics

__all__ = ["ClipCounter", "ClipRow", "clip_breakdown", "clip_metrics"]


@dataclass(frozen=True)
class ClipRow:
    """What one expression gave in a video: J and F of each frame; `annotator` wrote it, where there are several."""

    id: str
    video: str
    annotator: str | None
    region: Float[np.ndarray, " T"]
    contour: Float[np.ndarray, " T"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `kind` is the annotator, as in other rows."""
        rest = {"J": self.region.tolist(), "F": self.contour.tolist()}
        return {"id": self.id, "picture": self.video, "kind": self.annotator, **rest}


class ClipCounter:
    """Counts the K expressions of one video and annotator, a frame at a time.

    With `match_objects` (DAVIS' unsupervised task) each target is compared with the answer that fits it best, one
    answer a target, so that the mean of J and F over all frames is largest; otherwise with its own.
    """

    def __init__(self, ids: Sequence[str], protocol: Protocol, video: str = "", annotator: str | None = None) -> None:
        self.ids, self.protocol, self.video, self.annotator = list(ids), protocol, video, annotator
        count = len(self.ids)
        everyone = [(answer, target) for answer in range(count) for target in range(count)]
        self.pairs = everyone if protocol.match_objects else [(number, number) for number in range(count)]
        self.values: list[list[tuple[float, float]]] = [[] for _ in self.pairs]

    def update(
        self, predictions: Sequence[Bool[np.ndarray, "h w"]], targets: Sequence[Bool[np.ndarray, "H W"]]
    ) -> None:
        """One frame's K masks. Raises `DataError` where their sizes differ."""
        tolerance = self.protocol.boundary_tolerance
        for (answer, target), values in zip(self.pairs, self.values, strict=True):
            predicted, wanted = predictions[answer][None], targets[target][None]
            region = region_similarity(predicted, wanted)[0]
            values.append((float(region), float(contour_accuracy(predicted, wanted, tolerance=tolerance)[0])))

    def rows(self) -> list[ClipRow]:
        """A row an expression."""
        measured = {pair: np.array(values).T for pair, values in zip(self.pairs, self.values, strict=True)}
        answers = list(range(len(self.ids)))
        if self.protocol.match_objects:
            from scipy.optimize import linear_sum_assignment

            means = np.zeros((len(answers), len(answers)))
            for (answer, target), values in measured.items():
                means[target, answer] = values.mean()
            answers = linear_sum_assignment(means, maximize=True)[1].tolist()
        return [
            ClipRow(identity, self.video, self.annotator, *measured[answers[target], target])
            for target, identity in enumerate(self.ids)
        ]


def clip_metrics(rows: Sequence[ClipRow], protocol: Protocol) -> dict[str, float]:
    """J&F, J and F with recall and decay over the expressions; of several annotators the mean of theirs where the
    protocol says so. nan where there is no row. Raises `DataError` where a clip has no frame that counts."""
    groups = _by_annotator(rows) if protocol.average == "annotators" else {None: list(rows)}
    each = [_metrics(members, protocol) for members in groups.values()] or [video_metrics([])]
    return {name: math.fsum(values[name] for values in each) / len(each) for name in each[0]}


def clip_breakdown(rows: Sequence[ClipRow], protocol: Protocol) -> dict[str, dict[str, dict[str, float | int]]]:
    """The metrics of each annotator, where there are any."""
    groups = {name: members for name, members in _by_annotator(rows).items() if name is not None}
    found = {name: {"sentences": len(members), **_metrics(members, protocol)} for name, members in groups.items()}
    return {"annotator": found} if found else {}


def _metrics(rows: Sequence[ClipRow], protocol: Protocol) -> dict[str, float]:
    skipped = protocol.skipped_frames
    return video_metrics(
        [(clip_statistics(row.region, skipped), clip_statistics(row.contour, skipped)) for row in rows]
    )


def _by_annotator(rows: Sequence[ClipRow]) -> dict[str | None, list[ClipRow]]:
    groups: dict[str | None, list[ClipRow]] = {}
    for row in rows:
        groups.setdefault(row.annotator, []).append(row)
    return groups
