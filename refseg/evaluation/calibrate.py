"""Choosing the thresholds of a model on held-out pictures: from which probability a pixel counts, and when to say none.

The model runs once, with its masks cut at every mask threshold; what a no-target threshold would do is then counted
from the rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from refseg.data.sample import Sample
from refseg.errors import DataError, RefsegError
from refseg.evaluation.evaluate import evaluate_protocols
from refseg.files import write_text
from refseg.inference.checkpoint import read_config
from refseg.inference.locate import CONFIG
from refseg.metrics import get_protocol
from refseg.metrics.counts import Row
from refseg.metrics.protocols import Protocol
from refseg.metrics.referring import judge, ratio
from refseg.types import Tokens

MASK_THRESHOLDS = tuple(round(0.25 + 0.05 * step, 2) for step in range(9))
NO_TARGET_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class Calibration:
    """The chosen thresholds, and `native` metrics (fractions) with them and with 0.5 for both."""

    threshold: float
    no_target_threshold: float
    chosen: dict[str, float]
    plain: dict[str, float]
    sentences: int

    def to_info(self, source: str) -> dict[str, Any]:
        """What is stored with the weights; `source` says on which data the thresholds were chosen."""
        return {
            "threshold": self.threshold,
            "no_target_threshold": self.no_target_threshold,
            "calibration": {"data": source, "sentences": self.sentences, "metrics": self.chosen},
        }


def calibrate(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: Sequence[Sample],
    *,
    target_accuracy: float = 0.95,
    slack: float = 0.0,
    lean: Literal["target", "none"] = "target",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The thresholds with the highest gIoU under `native` among those that keep T_acc at `target_accuracy` or above.

    Where none keeps it, those with the highest T_acc. Of equals, the ones nearest to 0.5. With `slack`, the no-target
    threshold is then moved as far as gIoU stays within it. Towards `target` it is raised: for expressions that are
    wilder than those of `dataset`, as people's are beside templates, since what is not understood looks like what is
    not there. Towards `none` it is lowered, and T_acc kept, where the few expressions without a target weigh too little
    in gIoU. Raises `DataError` for data without an expression that has a target, and `RefsegError` for an accuracy or a
    slack outside 0 to 1.
    """
    for name, value in (("target accuracy", target_accuracy), ("slack", slack)):
        if not 0 <= value <= 1:
            raise RefsegError(f"the {name} lies between 0 and 1, not {value}")
    native = get_protocol("native")
    protocols = [replace(native, threshold=threshold) for threshold in MASK_THRESHOLDS]
    scores = evaluate_protocols(model, tokenizer, dataset, protocols, batch_size=batch_size, progress=progress)
    if not scores[0].counts["with_target"]:
        raise DataError("thresholds cannot be chosen on data in which no expression has a target")
    found: dict[tuple[float, float], dict[str, float]] = {}
    for threshold, score in zip(MASK_THRESHOLDS, scores, strict=True):
        rows = [Row.from_dict(row) for row in score.rows]
        for no_target_threshold, metrics in zip(NO_TARGET_THRESHOLDS, metrics_at(rows, native), strict=True):
            found[threshold, no_target_threshold] = {
                name: round(value, 6) for name, value in metrics.items() if not math.isnan(value)
            }
    keeping = {pair: metrics for pair, metrics in found.items() if metrics["T_acc"] >= target_accuracy}
    if not keeping:
        best = max(metrics["T_acc"] for metrics in found.values())
        keeping = {pair: metrics for pair, metrics in found.items() if metrics["T_acc"] == best}

    def goodness(pair: tuple[float, float]) -> tuple[float, float]:
        return keeping[pair]["gIoU"], -abs(pair[0] - 0.5) - abs(pair[1] - 0.5)

    chosen = max(keeping, key=goodness)
    if slack:
        least = keeping[chosen]["gIoU"] - slack
        moved = [pair for pair in keeping if pair[0] == chosen[0] and keeping[pair]["gIoU"] >= least]
        chosen = (max if lean == "target" else min)(moved, key=lambda pair: pair[1])
    return Calibration(*chosen, keeping[chosen], found[0.5, 0.5], len(scores[0].rows))


def store(folder: str | Path, calibration: Calibration, source: str) -> None:
    """Put the thresholds into a model folder's config.json."""
    content = read_config(Path(folder))
    info = content["info"]
    content["info"] = {**info, **calibration.to_info(source)}
    write_text(Path(folder) / CONFIG, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def metrics_at(rows: Sequence[Row], protocol: Protocol) -> list[dict[str, float]]:
    """gIoU, cIoU, N_acc, T_acc and mIoU_target under each of `NO_TARGET_THRESHOLDS`: what `refseg.metrics.rescore`
    gives, but each row is judged twice, once for either answer, instead of once for every threshold.

    An empty mask is none under all of them, and a row without a probability keeps its own answer.
    """
    answers = [[judge(replace(row, predicted_no_target=none), protocol) for row in rows] for none in (False, True)]
    kept = [judge(row, protocol) for row in rows]
    absent = [row.no_target for row in rows]
    found = []
    for threshold in NO_TARGET_THRESHOLDS:
        judged = [
            kept[index]
            if row.no_target_score is None
            else answers[row.no_target_score > threshold or not row.prediction_area][index]
            for index, row in enumerate(rows)
        ]
        with_target = [score for score, none in zip(judged, absent, strict=True) if not none]
        without = [score for score, none in zip(judged, absent, strict=True) if none]
        sums = {
            "gIoU": (math.fsum(score.value for score in judged), len(judged)),
            "cIoU": (sum(score.intersection for score in judged), sum(score.union for score in judged)),
            "N_acc": (sum(score.says_none for score in without), len(without)),
            "T_acc": (sum(not score.says_none for score in with_target), len(with_target)),
            "mIoU_target": (math.fsum(score.value for score in with_target), len(with_target)),
        }
        found.append({name: ratio(name, *pair, len(rows), protocol) for name, pair in sums.items()})
    return found
