"""What an answer that does not read its expression scores: every thing of the picture, or nothing at all.

A system whose figures are those of "everything" has learnt to see and not to read, which gIoU alone does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refseg.data.sample import ReferringDataset
from refseg.metrics.breakdown import breakdown
from refseg.metrics.counts import Row, count_masks

__all__ = ["unread"]


def unread(scenes: ReferringDataset, metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The answers "everything" and "nothing" -> `metrics` in percent; None where a metric is of no expression."""
    rows: dict[str, list[Row]] = {"everything": [], "nothing": []}
    for indices in scenes.by_picture().values():
        things: np.ndarray | None = None
        for sample in (scenes[index] for index in indices):
            if things is None:
                things = np.zeros(sample.size, dtype=bool)
                for thing in sample.surroundings:
                    things |= thing.mask(sample.size)
            for name, answer in (("everything", things), ("nothing", np.zeros_like(things))):
                rows[name].append(
                    Row(
                        id=sample.id,
                        no_target=sample.no_target,
                        predicted_no_target=not answer.any(),
                        picture=str(sample.image_id),
                        kind="all",
                        **count_masks(answer, sample.mask()),
                    )
                )
    scores = {name: breakdown(each, "kind", "native").get("all", {}) for name, each in rows.items()}
    return {
        name: {metric: round(100 * score[metric], 2) if metric in score else None for metric in metrics}
        for name, score in scores.items()
    }
