"""Predictions and targets as people hand them in, checked: every malformed record is found, none is skipped.

A record is a dict as in the lines of `refseg score` (id, mask, no_target, no_target_score, boxes, scores), a
`refseg.Segmentation`, or a `refseg.data.Sample`. A mask is COCO run-length encoding or a (H, W) bool array.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from refseg.errors import DataError, RefsegError
from refseg.metrics.clips import join_frames
from refseg.metrics.inputs import Located, RecordProblem, as_mask
from refseg.metrics.protocols import Protocol, get_protocol

ABOUT = ("picture", "text", "kind", "targets", "category", "split", "dataset")
"""What a target may say of its expression, for breakdowns."""


class Checker:
    """Turns records into plain dicts and pairs, collecting a `RecordProblem` for everything that is wrong."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.problems: list[RecordProblem] = []

    def pairs(self, predictions: list[Located], targets: list[Located]) -> Iterator[tuple[str, dict, dict]]:
        """(id, prediction, target), in the targets' order: by id where records have ids, else by place.

        All records are read, the good pairs are yielded, and `problems` is complete when the iteration ends. Masks are
        decoded pair by pair, so that only one pair is in memory at a time.
        """
        predictions, targets = self._fields(predictions), self._fields(targets)
        if self.protocol.task == "video":
            predictions, targets = join_frames(predictions, targets, self.add)
        self._check_made_for(predictions)
        for identity, prediction, target in self._matched(predictions, targets):
            before = len(self.problems)
            read_target = self._read(target, identity, is_target=True)
            read_prediction = self._read(prediction, identity, is_target=False)
            self._check_sizes(prediction, identity, read_prediction, read_target)
            if len(self.problems) == before:
                yield identity, read_prediction, read_target

    def add(self, where: str, identity: str, message: str) -> None:
        self.problems.append(RecordProblem(where, identity, message))

    def _fields(self, records: list[Located]) -> list[Located]:
        result = []
        for entry in records:
            fields = _as_dict(entry.value)
            if fields is None:
                self.add(entry.where, "", f"a record is a JSON object, not {type(entry.value).__name__}")
                continue
            result.append(Located(entry.where, fields))
        return result

    def _matched(self, predictions: list[Located], targets: list[Located]) -> list[tuple[str, Located, Located]]:
        if not any(entry.value.get("id") is not None for entry in (*predictions, *targets)):
            if len(predictions) != len(targets):
                longer = predictions if len(predictions) > len(targets) else targets
                self.add(
                    longer[min(len(predictions), len(targets))].where,
                    "",
                    f"{len(predictions)} predictions for {len(targets)} targets, and no ids to tell "
                    "which is missing or extra",
                )
            return [(str(i), *pair) for i, pair in enumerate(zip(predictions, targets, strict=False), 1)]
        by_id = self._by_id(predictions), self._by_id(targets)
        for identity, entry in by_id[1].items():
            if identity not in by_id[0]:
                self.add(entry.where, identity, "no prediction for this target")
        for identity, entry in by_id[0].items():
            if identity not in by_id[1]:
                self.add(entry.where, identity, "a prediction without a target of this id")
        return [(key, by_id[0][key], entry) for key, entry in by_id[1].items() if key in by_id[0]]

    def _by_id(self, records: list[Located]) -> dict[str, Located]:
        result: dict[str, Located] = {}
        for entry in records:
            identity = entry.value.get("id")
            if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
                problem = (
                    "no id, while other records have one" if identity is None else f"the id {identity!r} is not text"
                )
                self.add(entry.where, "", problem)
            elif str(identity) in result:
                self.add(entry.where, str(identity), f"this id stands at {result[str(identity)].where} already")
            else:
                result[str(identity)] = entry
        return result

    def _check_made_for(self, predictions: list[Located]) -> None:
        """Lines that `refseg evaluate` wrote say for which protocol their masks were made."""
        first: Located | None = None
        for entry in predictions:
            name = entry.value.get("protocol")
            if name is None:
                continue
            first = first or entry
            identity = str(entry.value.get("id", ""))
            if name != first.value["protocol"]:
                made = first.value["protocol"]
                self.add(entry.where, identity, f"made for protocol {name!r}, but {first.where} for {made!r}")
                continue
            try:
                if not isinstance(name, str):
                    raise DataError(f"{name!r} is not a protocol")
                made_for = get_protocol(name)
                # Answers to single frames may be counted as clips.
                alone = made_for.task == "masks" and self.protocol.task == "video"
                fits = alone or made_for.same_masks(self.protocol)
            except RefsegError as error:
                self.add(entry.where, identity, str(error))
                continue
            if not fits and entry is first:
                self.add(
                    entry.where,
                    identity,
                    f"the masks were made for protocol {name!r}, whose threshold or resolution is not that of "
                    f"{self.protocol.name!r}; run refseg evaluate --protocol {self.protocol.name}",
                )

    def _read(self, entry: Located, identity: str, is_target: bool) -> dict[str, Any]:
        fields: Mapping[str, Any] = entry.value
        result: dict[str, Any] = {}
        value = fields.get("no_target")
        if value is not None and not isinstance(value, (bool, np.bool_)):
            self.add(entry.where, identity, f"no_target is true or false, not {value!r}")
            value = None
        result["no_target"] = None if value is None else bool(value)
        score = fields.get("no_target_score")
        if score is not None and not (_is_number(score) and 0.0 <= score <= 1.0):
            self.add(entry.where, identity, f"no_target_score is a probability, 0 to 1, not {score!r}")
            score = None
        result["no_target_score"] = None if score is None else float(score)
        self._read_boxes(entry, identity, fields, result, is_target)
        if self.protocol.task == "video":
            result["masks"] = self._clip(entry, identity, fields)
        elif self.protocol.task == "masks" or fields.get("mask") is not None:
            result["mask"] = self._mask(entry, identity, fields)
            empty_allowed = "mask" in fields and fields["mask"] is None and result["no_target"]
            if fields.get("mask") is None and not empty_allowed:
                self.add(entry.where, identity, "no mask (null is allowed only with no_target: true)")
        if is_target:
            self._check_target(entry, identity, fields, result)
        return result

    def _check_target(self, entry: Located, identity: str, fields: Mapping[str, Any], result: dict[str, Any]) -> None:
        mask = result.get("mask")
        if result["no_target"] is None:
            if self.protocol.task in ("boxes", "box", "phrases"):
                result["no_target"] = result["boxes"] is not None and not len(result["boxes"])
            else:
                result["no_target"] = mask is not None and not mask.any()
        elif result["no_target"] and mask is not None and mask.any():
            self.add(entry.where, identity, f"no_target is true, but the mask has {int(mask.sum())} pixels")
        if self.protocol.task in ("boxes", "box") and not result["no_target"] and not len(result["boxes"] or ()):
            self.add(entry.where, identity, "no boxes, though the expression has a target")
        result["about"] = {key: fields[key] for key in ABOUT if fields.get(key) is not None}
        picture = fields.get("picture", fields.get("image_id", fields.get("image")))
        if picture is not None:
            result["about"]["picture"] = str(picture)
        targets = fields.get("targets")
        if targets is not None and (isinstance(targets, bool) or not isinstance(targets, int) or targets < 0):
            self.add(entry.where, identity, f"targets is the number of targets, not {targets!r}")
        for key in ("text", "kind", "category", "split", "dataset"):
            if fields.get(key) is not None and not isinstance(fields[key], str):
                self.add(entry.where, identity, f"{key} is text, not {fields[key]!r}")

    def _read_boxes(
        self, entry: Located, identity: str, fields: Mapping[str, Any], result: dict[str, Any], is_target: bool
    ) -> None:
        boxes, scores = fields.get("boxes"), fields.get("scores")
        result["boxes"] = result["scores"] = None
        if boxes is not None:
            message = _box_problem(boxes, is_target)
            if message:
                self.add(entry.where, identity, message)
            else:
                result["boxes"] = [[float(value) for value in box] for box in boxes]
        if scores is not None:
            values = list(scores) if isinstance(scores, (list, tuple, np.ndarray)) else None
            if values is None or not all(_is_number(value) for value in values):
                self.add(entry.where, identity, "scores are finite numbers, one a box")
            elif result["boxes"] is not None and len(values) != len(result["boxes"]):
                self.add(entry.where, identity, f"{len(result['boxes'])} boxes have {len(values)} scores")
            else:
                result["scores"] = [float(value) for value in values]

    def _mask(self, entry: Located, identity: str, fields: Mapping[str, Any]) -> np.ndarray | None:
        value = fields.get("mask")
        if value is None:
            return None
        try:
            return as_mask(value)
        except DataError as error:
            self.add(entry.where, identity, str(error))
            return None

    def _clip(self, entry: Located, identity: str, fields: Mapping[str, Any]) -> np.ndarray | None:
        frames = fields.get("masks")
        if not isinstance(frames, (list, tuple, np.ndarray)) or not len(frames):
            self.add(
                entry.where, identity, "no masks: a clip is one line with masks, or lines with mask, video and frame"
            )
            return None
        try:
            decoded = [as_mask(frame) for frame in frames]
        except DataError as error:
            self.add(entry.where, identity, str(error))
            return None
        if len({frame.shape for frame in decoded}) > 1:
            self.add(entry.where, identity, "the frames of a clip have several sizes")
            return None
        first, last = self.protocol.skipped_frames
        if len(decoded) <= first + last:
            words = f"a clip of {len(decoded)} frames has none left without {first} first and {last} last"
            self.add(entry.where, identity, words)
            return None
        return np.stack(decoded)

    def _check_sizes(self, entry: Located, identity: str, prediction: dict[str, Any], target: dict[str, Any]) -> None:
        key = "masks" if self.protocol.task == "video" else "mask"
        predictions, targets = prediction.get(key), target.get(key)
        if predictions is not None and targets is not None and predictions.shape != targets.shape:
            # A clip's first number is that of its frames.
            shapes = [" x ".join(map(str, mask.shape)) for mask in (predictions, targets)]
            self.add(entry.where, identity, f"the mask is {shapes[0]}, but the target is {shapes[1]}: another picture?")
            return
        if self.protocol.task == "masks":
            # A null mask stands for an empty one of the other's size.
            if predictions is None and targets is not None:
                prediction["mask"] = np.zeros_like(targets)
            elif targets is None and predictions is not None:
                target["mask"] = np.zeros_like(predictions)
            elif predictions is None and targets is None:
                prediction["mask"] = target["mask"] = np.zeros((1, 1), dtype=bool)


def _as_dict(value: Any) -> Mapping[str, Any] | None:
    """The fields of a record: of a dict, a `Segmentation`, or a `Sample`."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "objects") and callable(getattr(value, "mask", None)):
        names = sorted({item.category for item in value.objects if item.category})
        return {
            "id": value.id,
            "mask": value.mask(),
            "no_target": value.no_target,
            "boxes": value.boxes(),
            "picture": str(value.image_id),
            "text": value.text,
            "kind": value.kind,
            "targets": len(value.objects),
            "category": names[0] if len(names) == 1 else None,
            "split": value.split or None,
            "dataset": value.dataset or None,
        }
    if hasattr(value, "no_target_score") and hasattr(value, "mask"):
        fields = {name: getattr(value, name) for name in ("mask", "no_target", "no_target_score", "boxes")}
        return {**fields, "id": value.extra.get("id")}
    return None


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    return number and math.isfinite(value)


def _box_problem(boxes: Any, is_target: bool) -> str | None:
    """What is wrong with boxes, if anything. A predicted box may reach over the picture's border; a target may not."""
    if not isinstance(boxes, (list, tuple, np.ndarray)):
        return f"boxes are a list of [left, top, right, bottom], not {boxes!r}"
    for number, box in enumerate(boxes, 1):
        if not isinstance(box, (list, tuple, np.ndarray)) or len(box) != 4 or not all(map(_is_number, box)):
            return f"box {number} is four finite numbers [left, top, right, bottom], not {box!r}"
        left, top, right, bottom = box
        if right < left or bottom < top:
            return f"box {number} has a negative width or height (boxes are xyxy): {list(map(float, box))}"
        if min(right, bottom) < 0 or (is_target and min(left, top) < 0):
            return f"box {number} has negative coordinates: {list(map(float, box))}"
    return None
