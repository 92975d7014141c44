"""What the detector finds in annotated photographs (COCO's average precision), and masks in true boxes.

Of boxes three lists are judged: those of the first head alone, those of both heads, each with a box a place and class
as COCO's protocol has it, and the proposals that answers choose among. The first two tell what the second head costs
or adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refseg.encoders.vision.nanodet import normalise, suppress
from refseg.models.instances.classes import CLASSES, COCO, class_index
from refseg.models.instances.proposals import Proposer, class_columns
from refseg.models.instances.types import Proposals
from refseg.training.instances.annotated import AnnotatedPicture
from refseg.training.instances.judge import Detections, Predict, average_precision, score_masks

__all__ = ["LISTS", "List", "detected_boxes", "masks_in_true_boxes", "precision"]

List = Literal["first head", "both heads", "proposals"]
LISTS: tuple[List, ...] = ("first head", "both heads", "proposals")
LEAST = 0.02
"""Score from which a box counts."""
MOST = 100
"""Boxes of a picture, best first, as in COCO's protocol."""
_CANDIDATES = 1000

Rows = list[list[float]]
"""x0, y0, x1, y1 in pixels of the picture, score, column of `CLASSES`."""


@torch.inference_mode()
def detected_boxes(proposer: Proposer, picture: AnnotatedPicture, proposals: Proposals) -> dict[str, Rows]:
    """The boxes of every list of `LISTS`; `proposals` are the picture's."""
    side = proposer.config.detector.side
    detected = proposer.detect(normalise([picture.image()], side))
    first = _pairs(detected.boxes[0] / side, detected.logits[0].sigmoid(), torch.arange(len(COCO)))
    second = _pairs(detected.second_boxes[0] / side, detected.second_logits[0].sigmoid(), class_columns())
    both = tuple(torch.cat(parts) for parts in zip(first, second, strict=True))
    told = _pairs(proposals.boxes, proposals.class_probs, torch.arange(len(CLASSES)))
    overlap = proposer.config.proposals.overlap
    found: dict[str, Rows] = {}
    for name, (boxes, scores, columns) in zip(LISTS, (first, both, told), strict=True):
        order = scores.argsort(descending=True, stable=True)[:_CANDIDATES]
        if name != "proposals":
            order = order[suppress(boxes[order], scores[order], columns[order], overlap)]
        kept = order[:MOST]
        height, width = picture.size
        scaled = boxes[kept].clamp(0, 1) * torch.tensor([width, height, width, height])
        table = torch.cat([scaled, scores[kept, None], columns[kept, None].float()], dim=1)
        found[name] = [[round(value, 5) for value in row] for row in table.tolist()]
    return found


def _pairs(boxes: Float[Tensor, "P 4"], chance: Float[Tensor, "P A"], columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and columns of all pairs of a place and a class that count."""
    places, classes = torch.where(chance >= LEAST)
    return boxes[places], chance[places, classes], columns[classes]


def precision(found: Sequence[Mapping[str, Rows]], pictures: Sequence[AnnotatedPicture]) -> dict[str, dict[str, float]]:
    """COCO's box metrics of each list over the categories of these pictures that the model has a class for."""
    names: dict[int, str] = {}
    for category in sorted({item.category for picture in pictures for item in picture.instances}):
        column = class_index(category)
        if column is not None:
            names.setdefault(column, category)
    result: dict[str, dict[str, float]] = {}
    for name in LISTS:
        lists = [_detections(rows[name], names) for rows in found]
        result[name] = average_precision(lists, pictures, list(names.values()))
    return result


def _detections(rows: Rows, names: Mapping[int, str]) -> Detections:
    kept = np.array([row for row in rows if int(row[5]) in names], dtype=np.float64).reshape(-1, 6)
    return Detections(kept[:, :4], kept[:, 4], tuple(names[int(column)] for column in kept[:, 5]))


def masks_in_true_boxes(predict: Predict, picture: AnnotatedPicture) -> list[float] | None:
    """Objects, and their means of IoU and boundary IoU of the masks made in true boxes, and of IoU of an ellipse and
    of the filled box; None where the picture has no object of 8 pixels."""
    scores = score_masks(predict, [picture]).get("all")
    if scores is None:
        return None
    values: list[Any] = [scores.count, scores.iou, scores.boundary_iou, scores.ellipse, scores.box]
    return [float(value) for value in values]
