"""Masks and boxes judged by themselves: mask IoU in true boxes beside ellipse and filled box; COCO's AP of boxes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from refseg.data.masks import bounding_box
from refseg.training.instances.annotated import AnnotatedPicture

__all__ = ["Detections", "MaskScores", "average_precision", "boundary_band", "ellipse", "iou", "score_masks"]


def iou(first: Bool[np.ndarray, "H W"], second: Bool[np.ndarray, "H W"]) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((first | second).sum())
    return 1.0 if union == 0 else int((first & second).sum()) / union


def boundary_band(mask: Bool[np.ndarray, "H W"], ratio: float = 0.02) -> NDArray[np.bool_]:
    """The pixels of a mask within a distance of its outline: `ratio` of the picture's diagonal, at least one pixel.

    The picture's border is outline (Cheng et al., Boundary IoU, CVPR 2021, section 4, and their published code: 2 %,
    eroded by a 3 x 3 square that many times).
    """
    times = max(1, round(ratio * float(np.hypot(*mask.shape))))
    inner = np.pad(mask, 1)
    for _ in range(times):
        rows = inner[:-2] & inner[1:-1] & inner[2:]
        inner = np.pad(rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:], 1)
    return mask & ~inner[1:-1, 1:-1]


def ellipse(box: Sequence[float], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centres lie in the ellipse that a box x0 y0 x1 y1 holds."""
    x0, y0, x1, y1 = box
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5
    across, down = max((x1 - x0) / 2, 1e-6), max((y1 - y0) / 2, 1e-6)
    return ((columns - (x0 + x1) / 2) / across) ** 2 + ((rows - (y0 + y1) / 2) / down) ** 2 <= 1


@dataclass(frozen=True)
class MaskScores:
    """Means over `count` instances."""

    count: int
    iou: float
    boundary_iou: float
    ellipse: float
    box: float


Predict = Callable[[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "K 4"]], Float[np.ndarray, "K H W"]]
"""(picture, boxes x0 y0 x1 y1 in pixels) -> mask logits at the picture's size."""


def score_masks(predict: Predict, pictures: Iterable[AnnotatedPicture], *, min_side: int = 8) -> dict[str, MaskScores]:
    """Masks predicted in the true boxes, by source and "all"; boxes with a side under `min_side` pixels are skipped."""
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for picture in pictures:
        masks = picture.masks()
        boxes = np.array([bounding_box(mask) for mask in masks], dtype=np.float64).reshape(-1, 4)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        chosen = np.flatnonzero(sides >= min_side)
        if not len(chosen):
            continue
        logits = predict(picture.image(), boxes[chosen])
        for index, found in zip(chosen, logits > 0, strict=True):
            truth, filled = masks[index], np.zeros(picture.size, dtype=bool)
            x0, y0, x1, y1 = boxes[index].astype(int)
            filled[y0:y1, x0:x1] = True
            row = (
                iou(found, truth),
                iou(boundary_band(found), boundary_band(truth)),
                iou(ellipse(boxes[index].tolist(), picture.size), truth),
                iou(filled, truth),
            )
            for name in (picture.source, "all"):
                rows.setdefault(name, []).append(row)
    means = {name: np.mean(values, axis=0) for name, values in rows.items()}
    return {name: MaskScores(len(rows[name]), *map(float, mean)) for name, mean in sorted(means.items())}


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture: boxes x0 y0 x1 y1 in pixels, scores, and category names."""

    boxes: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, " K"]
    categories: tuple[str, ...]


def average_precision(
    found: Sequence[Detections], pictures: Sequence[AnnotatedPicture], categories: Sequence[str]
) -> dict[str, float]:
    """COCO's box metrics over some categories: "AP", "AP50", "AP75", "AR100" (0 to 1; nan without objects)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {name: index for index, name in enumerate(categories, 1)}
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for number, (picture, detections) in enumerate(zip(pictures, found, strict=True), 1):
        for item in picture.instances:
            x0, y0, x1, y1 = item.bbox
            if item.category in numbers:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": numbers[item.category],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                )
        for box, score, name in zip(detections.boxes, detections.scores, detections.categories, strict=True):
            if name in numbers:
                x0, y0, x1, y1 = (float(value) for value in box)
                results.append(
                    {
                        "image_id": number,
                        "category_id": numbers[name],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": float(score),
                    }
                )
    if not annotations:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR100"), float("nan"))
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number + 1} for number in range(len(pictures))],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if not results:
            return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "AR100": 0.0}
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: float(judge.stats[index]) for name, index in (("AP", 0), ("AP50", 1), ("AP75", 2), ("AR100", 8))}
