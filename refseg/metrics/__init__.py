"""Metrics of referring segmentation, grounding and video, and the named protocols of the field.

>>> from refseg.metrics import score
>>> result = score(predictions, targets, protocol="rela")
>>> result["gIoU"], result.protocol.source, result.rows[0]["iou"]
"""

from __future__ import annotations

from refseg.metrics.breakdown import breakdown, breakdowns
from refseg.metrics.counts import Row, count_masks
from refseg.metrics.inputs import RecordsError
from refseg.metrics.protocols import PROTOCOLS, Protocol, get_protocol
from refseg.metrics.referring import Accumulator, rescore
from refseg.metrics.scoring import OWN_METRICS, Metric, Score, score, score_names

__all__ = [
    "OWN_METRICS",
    "PROTOCOLS",
    "Accumulator",
    "Metric",
    "Protocol",
    "RecordsError",
    "Row",
    "Score",
    "breakdown",
    "breakdowns",
    "count_masks",
    "get_protocol",
    "rescore",
    "score",
    "score_names",
]
