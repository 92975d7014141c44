"""Published numbers next to measured ones: `refseg results`.

>>> from refseg.evaluation.leaderboard import load_published, select
>>> select(load_published(), system="ReLA", dataset="gRefCOCO", split="val", metric="gIoU")[0].value
63.6
"""

from __future__ import annotations

from refseg.evaluation.leaderboard.board import Board, MixedMeasuresError, select
from refseg.evaluation.leaderboard.measured import load_measured, trained_as
from refseg.evaluation.leaderboard.published import Result, disagreements, documents, load_published

__all__ = [
    "Board",
    "MixedMeasuresError",
    "Result",
    "disagreements",
    "documents",
    "load_measured",
    "load_published",
    "select",
    "trained_as",
]
