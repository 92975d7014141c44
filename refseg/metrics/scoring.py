"""`score`: predictions against targets under a protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from refseg.metrics.breakdown import breakdowns
from refseg.metrics.counts import Row, count_masks
from refseg.metrics.grounding import BoxRow, best_box_iou, count_boxes, grec_metrics, phrase_recall
from refseg.metrics.inputs import RecordProblem, RecordsError, located
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.records import Checker
from refseg.metrics.referring import Accumulator, judge


class Score(dict[str, float]):
    """Metrics by name, as fractions; `protocol` is how they were counted, `rows` what each sentence gave.

    `counts` says of how many sentences; `breakdowns` holds metrics of groups (mask protocols); `problems` names the
    sentences that could not be evaluated and are in no number.
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
    count = {"masks": _score_masks, "boxes": _score_boxes, "phrases": _score_phrases, "video": _score_video}
    result = count[protocol.task](pairs, protocol, boundary)
    if not checker.problems and not result.rows:
        checker.problems.append(RecordProblem("predictions and targets", "", "there are no records"))
    if checker.problems:
        raise RecordsError(checker.problems)
    return result


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
    return Score(accumulator.compute(), protocol, accumulator.counts(), saved, breakdowns(rows, protocol))


def finish_boxes(rows: list[BoxRow], protocol: Protocol) -> Score:
    """The `Score` of boxes that were counted."""
    without = sum(row.no_target for row in rows)
    counts = {"sentences": len(rows), "with_target": len(rows) - without, "no_target": without}
    return Score(grec_metrics(rows, protocol), protocol, counts, [row.to_dict() for row in rows])


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
    names, predicted, target_boxes = [], [], []
    for identity, prediction, target in pairs:
        boxes, scores = prediction["boxes"], prediction["scores"]
        boxes = [] if boxes is None else list(boxes)
        if scores is not None:
            boxes = [boxes[place] for place in sorted(range(len(boxes)), key=lambda place: -scores[place])]
        names.append(identity)
        predicted.append(boxes)
        target_boxes.append([] if target["boxes"] is None else target["boxes"])

    def recall(first: int, last: int) -> dict[str, float]:
        return phrase_recall(
            predicted[first:last],
            target_boxes[first:last],
            boxes=protocol.phrase_boxes,
            level=protocol.overlap_level,
            strict=protocol.strict,
        )

    counts = {"phrases": len(names), "with_boxes": sum(bool(len(boxes)) for boxes in target_boxes)}
    saved = [{"id": name, **_plain(recall(place, place + 1))} for place, name in enumerate(names)]
    return Score(recall(0, len(names)), protocol, counts, saved)


def _score_video(pairs: Iterable[tuple[str, dict, dict]], protocol: Protocol, boundary: bool) -> Score:
    from refseg.metrics.video import clip_statistics, contour_accuracy, region_similarity, video_metrics

    rows, clips, frames = [], [], 0
    for identity, prediction, target in pairs:
        region = region_similarity(prediction["masks"], target["masks"])
        contour = contour_accuracy(prediction["masks"], target["masks"], tolerance=protocol.boundary_tolerance)
        statistics = tuple(clip_statistics(values, protocol.skipped_frames) for values in (region, contour))
        clips.append((statistics[0], statistics[1]))
        frames += len(region)
        rows.append({"id": identity, "J": region.tolist(), "F": contour.tolist()})
    return Score(video_metrics(clips), protocol, {"objects": len(rows), "frames": frames}, rows)


def _plain(metrics: Mapping[str, float | int]) -> dict[str, float | int | None]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in metrics.items()}
