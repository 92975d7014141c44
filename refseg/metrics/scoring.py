"""`score`: predictions against targets under a protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from refseg.metrics.breakdown import breakdowns
from refseg.metrics.clip_rows import ClipCounter, ClipRow, clip_breakdown, clip_metrics
from refseg.metrics.counts import Row, count_masks
from refseg.metrics.grounding import (
    BoxRow,
    PhraseRow,
    best_box_iou,
    count_boxes,
    count_phrase,
    grec_metrics,
    phrase_metrics,
)
from refseg.metrics.inputs import RecordProblem, RecordsError, located
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.records import Checker
from refseg.metrics.referring import SOMETIMES, Accumulator, judge, metric_names
from refseg.plugins import Table

Metric = Callable[[Sequence[Row], Protocol], float]
"""A metric of one's own: the rows of all expressions and the protocol to a number, nan where it is not defined."""

OWN_METRICS: dict[str, Metric] = Table({}, "refseg.metrics", callable)
"""Metrics that other packages add to every score of masks, by name (`refseg.plugins`)."""


class Score(dict[str, float]):
    """Metrics by name, as fractions; `protocol` is how they were counted, `rows` what each expression gave.

    `counts` says of how many expressions; `breakdowns` holds metrics of groups (mask protocols); `problems` names the
    expressions that could not be evaluated and are in no number.
    """

    def __init__(
        self,
        metrics: Mapping[str, float],
        protocol: Protocol,
        counts: Mapping[str, int],
        rows: list[dict[str, Any]],
        groups: Mapping[str, dict[str, dict[str, float | int]]] | None = None,
    ) -> None:
        super().__init__(metrics)
        self.protocol = protocol
        self.counts = dict(counts)
        self.rows = rows
        self.breakdowns = dict(groups or {})
        self.problems: list[str] = []

    @property
    def headline(self) -> float:
        """The metric that the protocol's source prints first."""
        return self[self.protocol.headline]

    def to_dict(self) -> dict[str, Any]:
        """Metrics, protocol, counts and breakdowns as plain JSON values; what is undefined is null."""
        return {
            "metrics": _plain(self),
            "protocol": self.protocol.to_dict(),
            "counts": self.counts,
            "breakdowns": {
                by: {name: _plain(metrics) for name, metrics in groups.items()}
                for by, groups in self.breakdowns.items()
            },
        }


def score(
    predictions: Iterable[Any],
    targets: Iterable[Any],
    protocol: str | Protocol = "native",
    *,
    boundary: bool = False,
) -> Score:
    """Compare predictions with targets.

    Args:
        predictions, targets: records as in `refseg.metrics.records` (dicts, `Segmentation`s, `Sample`s), matched by id
            where they have ids and by place otherwise. Masks are compared at the size they have: under protocols of
            another resolution than the picture's, hand in masks of that resolution.
        protocol: a name of `PROTOCOLS`, or a `Protocol`.
        boundary: also compute boundary IoU, which takes longer than all the rest.

    Raises: RecordsError that lists every malformed record.
    """
    protocol = get_protocol(protocol)
    checker = Checker(protocol)
    pairs = checker.pairs(located(predictions, "prediction"), located(targets, "target"))
    count = {
        "masks": _score_masks,
        "boxes": _score_boxes,
        "box": _score_phrases,
        "phrases": _score_phrases,
        "video": _score_video,
    }
    result = count[protocol.task](pairs, protocol, boundary)
    if not checker.problems and not result.rows:
        checker.problems.append(RecordProblem("predictions and targets", "", "there are no records"))
    if checker.problems:
        raise RecordsError(checker.problems)
    return result


def score_names(protocol: Protocol) -> list[str]:
    """The metrics that a score under the protocol can have; some are there for some models and data only."""
    if protocol.task == "boxes":
        return list(grec_metrics([], protocol))
    if protocol.task in ("box", "phrases"):
        return list(phrase_metrics([], protocol))
    if protocol.task == "video":
        from refseg.metrics.video import video_metrics

        return list(video_metrics([]))
    return [*metric_names(protocol), *SOMETIMES, *OWN_METRICS]


def make_row(identity: str, prediction: Mapping[str, Any], target: Mapping[str, Any], boundary: bool = False) -> Row:
    """The `Row` of a prediction and a target as `Checker.pairs` gives them."""
    point = prediction.get("point")
    box = None
    if prediction.get("boxes") is not None and target.get("boxes") is not None and not target["no_target"]:
        box = best_box_iou(prediction["boxes"], prediction.get("scores"), target["boxes"])
    return Row(
        id=identity,
        no_target=bool(target["no_target"]),
        predicted_no_target=prediction.get("no_target"),
        no_target_score=prediction.get("no_target_score"),
        pointed=None if point is None else bool(target["mask"][point[1], point[0]]),
        box_iou=box,
        **count_masks(prediction["mask"], target["mask"], boundary),
        **target.get("about", {}),
    )


def finish(accumulator: Accumulator, rows: list[Row]) -> Score:
    """The `Score` of what an accumulator counted."""
    protocol = accumulator.protocol
    saved = [{**row.to_dict(), **judge(row, protocol).to_dict()} for row in rows]
    metrics = accumulator.compute()
    own = {name: float(metric(rows, protocol)) for name, metric in OWN_METRICS.items() if name not in metrics}
    return Score({**metrics, **own}, protocol, accumulator.counts(), saved, breakdowns(rows, protocol))


def finish_boxes(rows: list[BoxRow], protocol: Protocol) -> Score:
    """The `Score` of boxes that were counted."""
    without = sum(row.no_target for row in rows)
    counts = {"sentences": len(rows), "with_target": len(rows) - without, "no_target": without}
    return Score(grec_metrics(rows, protocol), protocol, counts, [row.to_dict() for row in rows])


def finish_phrases(rows: list[PhraseRow], protocol: Protocol, no_target: int = 0) -> Score:
    """The `Score` of phrases, or of single boxes, that were counted; `no_target` expressions mean nothing and are in no
    number."""
    with_boxes = sum(row.overlaps is not None for row in rows)
    counts = {"phrases": len(rows), "with_boxes": with_boxes}
    if protocol.task == "box":
        counts = {"sentences": len(rows) + no_target, "with_target": with_boxes, "no_target": no_target}
    saved = [
        {name: value if isinstance(value, str) else _plain({name: value})[name] for name, value in row.items()}
        for row in (each.to_dict(protocol) for each in rows)
    ]
    return Score(phrase_metrics(rows, protocol), protocol, counts, saved)


def _score_masks(pairs: Iterable[tuple[str, dict, dict]], protocol: Protocol, boundary: bool) -> Score:
    accumulator, rows = Accumulator(protocol), []
    for identity, prediction, target in pairs:
        row = make_row(identity, prediction, target, boundary)
        accumulator.update(row)
        rows.append(row)
    return finish(accumulator, rows)


def _score_boxes(pairs: Iterable[tuple[str, dict, dict]], protocol: Protocol, boundary: bool) -> Score:
    rows: list[BoxRow] = []
    for identity, prediction, target in pairs:
        boxes = prediction["boxes"] or []
        rows.append(
            count_boxes(identity, boxes, prediction["scores"], target["boxes"] or [], target["no_target"], protocol)
        )
    return finish_boxes(rows, protocol)


def _score_phrases(pairs: Iterable[tuple[str, dict, dict]], protocol: Protocol, boundary: bool) -> Score:
    """Boxes are taken best first by their scores, or as they stand; phrases without a box are in no number."""
    rows, without = [], 0
    for identity, prediction, target in pairs:
        if protocol.task == "box" and target["no_target"]:
            without += 1
            continue
        boxes, scores = prediction["boxes"] or [], prediction["scores"]
        if scores is not None:
            boxes = [boxes[place] for place in sorted(range(len(boxes)), key=lambda place: -scores[place])]
        rows.append(count_phrase(identity, boxes, target["boxes"] or [], protocol))
    return finish_phrases(rows, protocol, without)


def finish_clips(rows: list[ClipRow], protocol: Protocol) -> Score:
    """The `Score` of clips that were counted. Raises `DataError` where a clip has no frame that counts."""
    counts = {"objects": len(rows), "frames": sum(len(row.region) for row in rows)}
    saved = [row.to_dict() for row in rows]
    return Score(clip_metrics(rows, protocol), protocol, counts, saved, clip_breakdown(rows, protocol))


def _score_video(pairs: Iterable[tuple[str, dict, dict]], protocol: Protocol, boundary: bool) -> Score:
    groups: dict[tuple[str, str | None], list[tuple[str, Any, Any, tuple[int, ...]]]] = {}
    rows: list[ClipRow] = []
    for identity, prediction, target in pairs:
        about = target.get("about", {})
        key = (about.get("picture", identity), about.get("kind"))
        predicted, wanted = prediction["masks"], target["masks"]
        if protocol.match_objects:  # which is about all clips of a video, kept as bits
            packed = [np.packbits(masks, axis=None) for masks in (predicted, wanted)]
            groups.setdefault(key, []).append((identity, *packed, wanted.shape))
            continue
        rows += _counted([identity], [predicted], [wanted], protocol, key)
    for key, members in groups.items():
        ids, sides = (
            [entry[0] for entry in members],
            ([entry[1:3] for entry in members], [entry[3] for entry in members]),
        )
        predictions, targets = (
            [
                np.unpackbits(packed[side], count=math.prod(shape)).view(bool).reshape(shape)
                for packed, shape in zip(*sides, strict=True)
            ]
            for side in range(2)
        )
        rows += _counted(ids, predictions, targets, protocol, key)
    return finish_clips(rows, protocol)


def _counted(
    ids: list[str], predictions: list[Any], targets: list[Any], protocol: Protocol, key: tuple[str, str | None]
) -> list[ClipRow]:
    counter = ClipCounter(ids, protocol, *key)
    for frame in range(len(targets[0])):
        counter.update([masks[frame] for masks in predictions], [masks[frame] for masks in targets])
    return counter.rows()


def _plain(metrics: Mapping[str, float | int]) -> dict[str, float | int | None]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in metrics.items()}
