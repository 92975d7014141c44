"""Masks as a protocol wants them: from a network's output, and from annotations.

Under `native` a mask is exactly what `Segmenter` answers (through `refseg.inference.postprocess`); published
protocols make theirs as their source does (`foreground`). One thing cannot be seen in `Output`, which holds the
difference of two
channels: ReLA's published code compares the channels after the sigmoid, so that a pixel where both saturate (logits
over 16.6 in float32) is background there; here the larger logit wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refseg.data.masks import bounding_box
from refseg.data.sample import Sample
from refseg.data.transforms import place_objects
from refseg.errors import DataError
from refseg.geometry import Geometry, InputConfig
from refseg.inference.postprocess import check_numbers, corners_of, postprocess
from refseg.metrics.protocols import Protocol
from refseg.types import Output


@dataclass(frozen=True)
class Prediction:
    """What a model says of an expression at a protocol's resolution: the mask before gating, the no-target decision,
    the likeliest pixel (of the map in which the model locates the target, where it has one).

    `no_target` and its probability are None where the model has no no-target head and the protocol no rule instead;
    `point` is (column, row).
    """

    mask: Bool[np.ndarray, "H W"]
    no_target: bool | None
    no_target_score: float | None
    boxes: Float[np.ndarray, "K 4"] | None
    point: tuple[int, int]


def predict(
    output: Output, geometries: Sequence[Geometry], protocol: Protocol, size: tuple[int, int]
) -> list[Prediction]:
    """The answers of a model's output under a protocol. `size` (height, width) is what the network saw."""
    heads = output.no_target_logits
    if protocol.name == "native":
        # What people get. The no-target decision is applied when counting and may not clear the mask here.
        texts = [""] * len(geometries)
        whole = replace(output, instances=None)  # whose masks are not wanted one by one
        segmentations = postprocess(whole, geometries, texts, protocol.threshold, 1.0, input_size=size, separate=False)
        decisions = [
            answer.no_target or (heads is not None and answer.no_target_score > protocol.no_target_threshold)
            for answer in segmentations
        ]
        return [
            Prediction(
                answer.mask,
                none,
                answer.no_target_score,
                _boxes(output, index, geometries[index], none=answer.no_target),
                _point(_located(output)[index], geometries[index], size, protocol),
            )
            for index, (answer, none) in enumerate(zip(segmentations, decisions, strict=True))
        ]
    check_numbers(output)
    answers = []
    for index, geometry in enumerate(geometries):
        logits = output.mask_logits[index].float()
        score = None if heads is None else float(heads[index].double().sigmoid())
        none = None if score is None else score > protocol.no_target_threshold
        mask = foreground(logits, geometry, protocol, size)
        boxes = _boxes(output, index, geometry)
        point = _point(_located(output)[index].float(), geometry, size, protocol)
        answers.append(Prediction(mask, none, score, boxes, point))
    return answers


def _located(output: Output) -> Float[Tensor, "B h w"]:
    """The map whose maximum says where the target is: that of a locator where the model has one, else the mask's."""
    return output.mask_logits if output.location_logits is None else output.location_logits


def answered_boxes(output: Output, index: int, geometry: Geometry, protocol: Protocol) -> Float[np.ndarray, "K 4"]:
    """The boxes that a model answers an expression with, xyxy in pixels of the picture: of its instances, or the one
    that it gives beside its mask; none where its no-target probability is over the protocol's threshold.

    Raises `DataError` for a model that gives no boxes.
    """
    if output.instances is not None:
        boxes = output.instances.boxes[index]
    elif output.boxes is not None:
        boxes = output.boxes[index]
    else:
        raise DataError(f"protocol {protocol.name} compares boxes, and this model gives none; take one of masks")
    none = output.no_target_logits
    if none is not None and float(none[index].double().sigmoid()) > protocol.no_target_threshold:
        boxes = boxes[:0]
    return corners_of(boxes, geometry)


def best_boxes(output: Output, index: int, geometry: Geometry, size: tuple[int, int]) -> Float[np.ndarray, "K 4"]:
    """The boxes of what an expression means, best first, xyxy in pixels of the picture, whatever the model says of no
    target: those of its instances, the one beside its mask, or where it gives masks alone the one around its mask (none
    where that is empty). `size` (height, width) is what the network saw."""
    boxes = _boxes(output, index, geometry)
    if boxes is not None:
        return boxes
    mask = Output(output.mask_logits[index : index + 1])
    answer = postprocess(mask, [geometry], [""], input_size=size, minimum_area=1)[0]
    return np.zeros((0, 4)) if answer.no_target else np.array([bounding_box(answer.mask)], dtype=np.float64)


def _boxes(output: Output, index: int, geometry: Geometry, none: bool = False) -> Float[np.ndarray, "K 4"] | None:
    """The boxes that a model gives, none where it says `none`; None where it gives no boxes at all."""
    if output.boxes is None and output.instances is None:
        return None
    boxes = output.boxes[index] if output.boxes is not None else output.instances.boxes[index]  # type: ignore[union-attr]
    return corners_of(boxes[:0] if none else boxes, geometry)


def foreground(
    logits: Float[Tensor, "h w"], geometry: Geometry, protocol: Protocol, size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """The mask that a protocol's source would cut from `logits`, at the protocol's resolution."""
    values = enlarged(logits, geometry, protocol, size)
    chosen = values >= level_of(protocol) if protocol.inclusive else values > level_of(protocol)
    return chosen.numpy()


def level_of(protocol: Protocol) -> float:
    """The threshold for what `enlarged` gives."""
    level = protocol.threshold
    if protocol.resized == "probabilities":
        return level
    # The logit of the threshold, rather than the probability of the logits: exact where the sigmoid saturates.
    return math.log(level / (1 - level)) if 0 < level < 1 else math.copysign(math.inf, level - 0.5)


def enlarged(
    logits: Float[Tensor, "h w"], geometry: Geometry, protocol: Protocol, size: tuple[int, int]
) -> Float[Tensor, "H W"]:
    """A map of logits at the protocol's resolution, as logits or probabilities (`Protocol.resized`).

    It is enlarged to the network's input `size`, cropped to the picture, and for "original" enlarged again to it.
    """
    values = logits.float()[None, None]
    if protocol.resized == "probabilities":
        values = values.sigmoid()
    bicubic = protocol.interpolation == "bicubic"
    enlarge = partial(nn.functional.interpolate, mode="bicubic" if bicubic else "bilinear", align_corners=bicubic)
    values = enlarge(values, size=size)
    top, left, bottom, right = geometry.content()
    if protocol.resolution == "input":
        values = values[..., top:bottom, left:right]
    elif bicubic:
        values = _affine(values, geometry)
    else:
        values = enlarge(values[..., top:bottom, left:right], size=geometry.original_size)
    return values[0, 0]


def _affine(values: Float[Tensor, "1 1 H W"], geometry: Geometry) -> Float[Tensor, "1 1 h w"]:
    """The picture cut out as cv2.warpAffine does with INTER_CUBIC: pixel indices scaled, 0 beyond the border.

    (cv2 rounds positions to 1/32 of a pixel; this does not.)
    """
    height, width = geometry.original_size
    rows = torch.arange(height, dtype=torch.float32) * geometry.scale[0] + geometry.offset[0]
    columns = torch.arange(width, dtype=torch.float32) * geometry.scale[1] + geometry.offset[1]
    extent = values.shape[-2:]
    y = rows * 2 / max(1, extent[0] - 1) - 1
    x = columns * 2 / max(1, extent[1] - 1) - 1
    grid = torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], dim=-1)[None]
    return nn.functional.grid_sample(values, grid, mode="bicubic", padding_mode="zeros", align_corners=True)


def _point(
    logits: Float[Tensor, "h w"], geometry: Geometry, size: tuple[int, int], protocol: Protocol
) -> tuple[int, int]:
    """(column, row) of the centre of a map's largest cell within the picture, at the protocol's resolution."""
    height, width = logits.shape
    top, left, bottom, right = geometry.content()
    scale = size[0] / height, size[1] / width
    rows = slice(int(top / scale[0]), max(int(top / scale[0]) + 1, math.ceil(bottom / scale[0])))
    columns = slice(int(left / scale[1]), max(int(left / scale[1]) + 1, math.ceil(right / scale[1])))
    part = logits[rows, columns]
    row, column = divmod(int(part.argmax()), part.shape[1])
    point = np.array([(column + columns.start + 0.5) * scale[1], (row + rows.start + 0.5) * scale[0]])
    if protocol.resolution == "original":
        point, limit = geometry.to_original(point), geometry.original_size
    else:
        point, limit = point - np.array([left, top]), (bottom - top, right - left)
    return min(max(int(point[0]), 0), limit[1] - 1), min(max(int(point[1]), 0), limit[0] - 1)


def target_mask(sample: Sample, geometry: Geometry, protocol: Protocol, config: InputConfig) -> Bool[np.ndarray, "H W"]:
    """What the expression means, at the protocol's resolution."""
    if protocol.resolution == "original":
        return sample.mask()
    rasterise: Literal["model", "original"] = "model" if protocol.target == "polygons" else "original"
    placed = place_objects(sample.objects, geometry, replace(config, rasterise=rasterise)).numpy()
    top, left, bottom, right = geometry.content()
    return np.asarray(placed[:, top:bottom, left:right].any(axis=0))
