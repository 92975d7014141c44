"""Whether an exported model answers as torch does: mask pixels, instances and no-target decisions, by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refseg.inference.predictor import ImageLike, Segmenter
from refseg.inference.segmentation import Segmentation

__all__ = ["BATCHES", "Parity", "answers_of", "compare"]

BATCHES = (1, 2, 8)
"""Expressions at once that are compared."""


@dataclass(frozen=True)
class Parity:
    """Differences over all answers.

    `pixels` of `of_pixels` differ; `tolerance` is the least distance from the threshold, as a probability, at which no
    pixel would count as different. `decisions` of `answers` say none where the other does not; `instances` differ in
    number, `score` is the largest difference of no-target probabilities, `iou` the mean intersection over union of the
    two masks (1 where both are empty).
    """

    batch: int
    answers: int
    pixels: int
    of_pixels: int
    tolerance: float
    decisions: int
    instances: int
    score: float
    iou: float

    @property
    def exact(self) -> bool:
        """Whether no pixel, decision or number of instances differs."""
        return not (self.pixels or self.decisions or self.instances)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def answers_of(
    segmenter: Segmenter, images: Sequence[ImageLike], texts: Sequence[str], batch: int
) -> list[Segmentation]:
    """Every expression about every image with probability maps, `batch` expressions at once."""
    return [
        answer
        for image in images
        for answer in segmenter.encode(image).ask(list(texts), batch_size=batch, probabilities=True)
    ]


def compare(
    reference: Sequence[Segmentation], other: Sequence[Segmentation], batch: int, threshold: float = 0.5
) -> Parity:
    """How the answers of two segmenters differ; `threshold` is that of the masks."""
    pixels = of_pixels = decisions = instances = 0
    tolerance = score = iou = 0.0
    for one, two in zip(reference, other, strict=True):
        differing = one.mask != two.mask
        pixels += int(differing.sum())
        of_pixels += differing.size
        decisions += one.no_target != two.no_target
        instances += len(one.instances) != len(two.instances)
        score = max(score, abs(one.no_target_score - two.no_target_score))
        both = np.logical_or(one.mask, two.mask).sum()
        iou += float(np.logical_and(one.mask, two.mask).sum() / both) if both else 1.0
        if differing.any() and one.probabilities is not None and one.no_target == two.no_target:
            tolerance = max(tolerance, float(np.abs(one.probabilities[differing] - threshold).max()))
    count = len(reference)
    return Parity(
        batch, count, pixels, of_pixels, tolerance, int(decisions), int(instances), score, iou / max(count, 1)
    )
