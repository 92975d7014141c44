"""Detections of several names as the things of one picture: doubles gone, one thing for what two names share.

Detections of a name -> suppression by masks (boxes, where there are none) -> Things
Things of all names of an expression -> merging of what is the same -> each its names' scores; of names that
    exclude one another ("horse", "zebra") a thing keeps the one that it has most of
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from refseg.encoders.vision.proposers import Detections
from refseg.errors import RefsegError
from refseg.models.instances.types import MASK_SIZE
from refseg.nn.boxes import pair_iou

__all__ = ["Crop", "Gathered", "Things", "crop_mask", "gather", "overlaps", "things_of"]

SAME = 0.7
"""IoU from which two instances of one name, or of two names, are one thing."""
MOST = 200
"""Most instances of one name, best scores first."""


@dataclass(frozen=True)
class Crop:
    """A mask where it lies in an image: `shares` (0 to 255 of each pixel) from row `top` and column `left` on."""

    top: int
    left: int
    shares: UInt8[np.ndarray, "h w"]

    def logits(self, size: tuple[int, int], outside: float) -> Float[Tensor, "H W"]:
        """At an image's size: 0 where half a pixel is covered; `outside` (negative) where nothing is."""
        result = torch.full(size, outside)
        height, width = self.shares.shape
        values = torch.from_numpy(self.shares.astype(np.float32)) / 255
        result[self.top : self.top + height, self.left : self.left + width] = (values - 0.5) * (-2 * outside)
        return result

    def sampled(self, box: Float[Tensor, " 4"], size: tuple[int, int]) -> Float[Tensor, "M M"]:
        """Logits at the centres of `MASK_SIZE` squared cells of a box, 0 to 1 of an image of `size`."""
        steps = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
        x0, y0, x1, y1 = box.tolist()
        rows = np.floor((y0 + (y1 - y0) * steps) * size[0]).astype(int) - self.top
        columns = np.floor((x0 + (x1 - x0) * steps) * size[1]).astype(int) - self.left
        inside = ((rows >= 0) & (rows < self.shares.shape[0]))[:, None]
        inside = inside & ((columns >= 0) & (columns < self.shares.shape[1]))
        values = self.shares[rows.clip(0, self.shares.shape[0] - 1)[:, None], columns.clip(0, self.shares.shape[1] - 1)]
        return torch.from_numpy(np.where(inside, values / 255 - 0.5, -0.5).astype(np.float32)) * 20


@dataclass(frozen=True)
class Things:
    """Instances of one name: `boxes` 0 to 1 of the picture, `crops` in the image of the network's input."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    crops: tuple[Crop | None, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, rows: Sequence[int]) -> Things:
        """Those of these numbers, in that order."""
        index = torch.tensor(list(rows), dtype=torch.long)
        crops, labels = (tuple(values[row] for row in rows) for values in (self.crops, self.labels))
        return Things(self.boxes[index], self.scores[index], crops, labels)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Gathered:
    """K things of all names of an expression: `scores` of each name, and `iou` of masks where both have one."""

    boxes: Float[Tensor, "K 4"]
    scores: Float[Tensor, "K names"]
    crops: tuple[Crop | None, ...]
    labels: tuple[str, ...]
    iou: Float[Tensor, "K K"]


def things_of(detections: Detections, name: str, picture: tuple[int, int], image: tuple[int, int]) -> Things:
    """What a proposer says of one name, in a `picture` (height, width) of which the network's input shows `image`.

    Boxes are cut at the picture's edges; what lies outside, has no pixel, or is shown by a better one, goes. Raises
    `RefsegError` for values that are no numbers, scores outside 0 to 1, and masks of another size.
    """
    boxes, scores = detections.boxes.float().cpu(), detections.scores.float().cpu()
    if not bool(boxes.isfinite().all()) or not bool(((scores >= 0) & (scores <= 1)).all()):
        raise RefsegError(f"detections of {name!r}: boxes are finite numbers and scores 0 to 1")
    masks = detections.masks
    if masks is not None and tuple(masks.shape[1:]) != picture:
        raise RefsegError(
            f"detections of {name!r}: masks of {tuple(masks.shape[1:])} do not fit a picture of {picture}"
        )
    boxes = (boxes / boxes.new_tensor([picture[1], picture[0]] * 2)).clamp(0, 1)
    crops: list[Crop | None] = [None] * len(boxes)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    if masks is not None:
        for row, mask in enumerate(masks.cpu().numpy()):
            crops[row] = crop_mask(mask, image)
            kept[row] &= crops[row] is not None
    order = [row for row in scores.argsort(descending=True, stable=True).tolist() if bool(kept[row])][:MOST]
    labels = detections.labels or (name,) * len(boxes)
    things = Things(boxes, scores, tuple(crops), labels).select(order)
    iou = overlaps(things.boxes, things.crops)
    chosen: list[int] = []
    for row in range(len(things)):  # greedy: what is suppressed itself suppresses nothing
        if not any(float(iou[row, other]) > SAME for other in chosen):
            chosen.append(row)
    return things.select(chosen)


def gather(names: Sequence[str], found: Sequence[Things], exclusive: Callable[[str, str], bool]) -> Gathered:
    """The things of several names as one list, best scores first; `exclusive` says which names nothing has both of."""
    boxes = torch.cat([things.boxes for things in found]) if found else torch.zeros(0, 4)
    scores = torch.zeros(len(boxes), len(names))
    start = 0
    for column, things in enumerate(found):
        scores[start : start + len(things), column] = things.scores
        start += len(things)
    crops = tuple(crop for things in found for crop in things.crops)
    labels = tuple(label for things in found for label in things.labels)
    iou = overlaps(boxes, crops)
    merged: list[int] = []
    for row in scores.amax(1).argsort(descending=True, stable=True).tolist() if len(boxes) else ():
        same = next((first for first in merged if float(iou[row, first]) > SAME), None)
        if same is None:
            merged.append(row)
        else:
            scores[same] = torch.maximum(scores[same], scores[row])
    for one, other in combinations(range(len(names)), 2):
        if exclusive(names[one], names[other]):
            less = scores[:, one] < scores[:, other]
            scores[less, one] = 0.0
            scores[~less, other] = 0.0
    index = torch.tensor(merged, dtype=torch.long)
    return Gathered(
        boxes[index],
        scores[index],
        tuple(crops[row] for row in merged),
        tuple(labels[row] for row in merged),
        iou[index][:, index],
    )


def crop_mask(mask: np.ndarray, size: tuple[int, int]) -> Crop | None:
    """A mask (H, W) bool of a picture in an image of it of `size`; None where it has no pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    if mask.shape == size:
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Crop(int(rows[0]), int(columns[0]), part.astype(np.uint8) * 255)
    down, across = size[0] / mask.shape[0], size[1] / mask.shape[1]
    top, bottom = max(0, int(rows[0] * down) - 1), min(size[0], int(np.ceil((rows[-1] + 1) * down)) + 1)
    left, right = max(0, int(columns[0] * across) - 1), min(size[1], int(np.ceil((columns[-1] + 1) * across)) + 1)
    whole = Image.fromarray(mask.astype(np.uint8) * 255)
    region = (left / across, top / down, min(right / across, mask.shape[1]), min(bottom / down, mask.shape[0]))
    resized = whole.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=region)
    return Crop(top, left, np.asarray(resized))


def overlaps(boxes: Float[Tensor, "K 4"], crops: Sequence[Crop | None]) -> Float[Tensor, "K K"]:
    """IoU of each pair: of the masks where both have one, else of the boxes."""
    iou = pair_iou(boxes, boxes)
    near = ((iou > 0.1).triu(1)).nonzero().tolist()
    for one, other in near:
        first, second = crops[one], crops[other]
        if first is not None and second is not None:
            iou[one, other] = iou[other, one] = _mask_iou(first, second)
    return iou


def _mask_iou(one: Crop, other: Crop) -> float:
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.shares.shape[0], other.top + other.shares.shape[0])
    right = min(one.left + one.shares.shape[1], other.left + other.shares.shape[1])
    areas = [int((crop.shares > 127).sum()) for crop in (one, other)]
    if bottom <= top or right <= left:
        return 0.0
    first, second = (
        crop.shares[top - crop.top : bottom - crop.top, left - crop.left : right - crop.left] > 127
        for crop in (one, other)
    )
    shared = int((first & second).sum())
    return shared / max(sum(areas) - shared, 1)
