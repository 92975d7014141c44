"""Logits -> masks, instances and no-target decisions at the images' own sizes.

A mask is made in two steps: the logits are enlarged to the network's input size (bilinear, as every published system
does), then read at the centre of each pixel of the original image, through its `Geometry` and without touching padding.
The second step runs over strips of rows, so that an enormous image costs little more memory than its own mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from refseg.errors import RefsegError
from refseg.geometry import Geometry
from refseg.inference.segmentation import Instance, Segmentation
from refseg.types import InstancePredictions, Output

__all__ = ["MINIMUM_AREA", "Thresholds", "check_numbers", "check_probability", "corners_of", "postprocess"]

MINIMUM_AREA = 50
"""A mask of fewer pixels says "none" where the network has no no-target head (Liu et al., GRES, CVPR 2023, section
5.3)."""

STRIP = 1 << 22
"""Pixels of the original image that are in work at once."""

LOGIT_MARGIN = 1e-3
"""More than rounding moves a logit that is interpolated, or compared as a probability."""


def postprocess(
    output: Output,
    geometries: Sequence[Geometry],
    texts: Sequence[str],
    threshold: float = 0.5,
    no_target_threshold: float = 0.5,
    *,
    input_size: tuple[int, int] | None = None,
    minimum_area: int = MINIMUM_AREA,
    probabilities: bool = False,
    separate: bool = True,
) -> list[Segmentation]:
    """One `Segmentation` an expression, in order.

    `output` holds B expressions; `geometries` and `texts` have one entry for each of them. A pixel is foreground when
    its probability is above `threshold`. There is no target, and the mask is cleared, when the no-target probability is
    above `no_target_threshold` (ties mean a target, as in `Output`), or when no pixel is foreground (GRES, section
    5.1), in which case the no-target probability is at least one minus that of the most certain pixel. A network
    without a no-target head has no target when fewer than `minimum_area` pixels of the original image are foreground;
    its no-target probability is one minus the foreground probability of the `minimum_area`-th most certain pixel,
    which reaches one minus `threshold` exactly when the rule says none.

    Instances are those of `output.instances`, else one a predicted box (`output.boxes`), else the connected parts of
    the mask; `output.remarks` become `extra["remarks"]`, `output.used_words` `extra["used_words"]`. `input_size`
    (height, width) is what the network saw, where a batch was padded beyond the geometries' own model sizes. With
    `probabilities` each answer carries its probability map; without `separate`, which takes time, no instances.

    Raises `RefsegError` for thresholds outside 0 to 1, lists of another length than the output, and an output that is
    not a number somewhere.
    """
    count = len(output.mask_logits)
    if len(geometries) != count or len(texts) != count:
        raise RefsegError(f"{count} answers need {count} geometries and texts, not {len(geometries)} and {len(texts)}")
    check_probability("threshold", threshold)
    check_probability("no_target_threshold", no_target_threshold)
    check_numbers(output)
    answers = []
    for index, (geometry, text) in enumerate(zip(geometries, texts, strict=True)):
        size = input_size or geometry.model_size
        logits = _at_input_size(output.mask_logits[index], size)
        if output.no_target_logits is not None:
            no_target_score = float(output.no_target_logits[index].float().sigmoid())
            no_target = no_target_score > no_target_threshold
            foreground = _at_original_size(logits, geometry, threshold, 1, probabilities, skip=no_target)
            if not no_target and not foreground.mask.any():
                no_target, no_target_score = True, max(no_target_score, 1.0 - foreground.nth)
        else:
            smallest = min(minimum_area, math.prod(geometry.original_size))
            foreground = _at_original_size(logits, geometry, threshold, smallest, probabilities)
            no_target_score = 1.0 - foreground.nth
            no_target = int(foreground.mask.sum()) < smallest
        boxes: NDArray[np.float64] | None = None
        instances: list[Instance] | None = None
        if no_target or not separate:
            instances = []
        elif output.instances is not None:
            instances = _instances(output.instances, index, geometry, size, threshold, text)
        elif output.boxes is not None:
            boxes = corners_of(output.boxes[index], geometry)
        answers.append(
            Segmentation(
                np.zeros_like(foreground.mask) if no_target else foreground.mask,
                boxes,
                no_target,
                no_target_score,
                1.0 - no_target_score if no_target else foreground.certainty,
                text,
                _extra(output, index),
                instances=instances,
                probabilities=foreground.probabilities,
            )
        )
    return answers


def _extra(output: Output, index: int) -> dict[str, Any] | None:
    """What a system says of an answer besides."""
    said = {"remarks": output.remarks, "used_words": output.used_words}
    return {name: values[index] for name, values in said.items() if values and values[index]} or None


def check_numbers(output: Output) -> None:
    """Raises `RefsegError` where a model's output holds what is not a number: compared with a threshold it would pass
    for an answer, mostly none."""
    for name in ("mask_logits", "no_target_logits"):
        values = getattr(output, name)
        if values is not None and bool(values.isnan().any()):
            raise RefsegError(
                f"the model's {name.replace('_', ' ')} are not numbers (NaN): its weights are damaged, or the "
                "precision is too low; try precision float32, or get the weights again"
            )


@dataclass(frozen=True)
class Thresholds:
    """Probabilities above which a pixel is foreground and an answer is none; see `postprocess`."""

    mask: float = 0.5
    no_target: float = 0.5

    def __post_init__(self) -> None:
        check_probability("threshold", self.mask)
        check_probability("no_target_threshold", self.no_target)


def check_probability(name: str, value: float) -> None:
    """Raises `RefsegError` unless `value` lies between 0 and 1."""
    if not (isinstance(value, (int, float)) and 0.0 <= value <= 1.0):
        raise RefsegError(f"{name} is a probability between 0 and 1, not {value!r}")


def _at_input_size(logits: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Logits enlarged to the network's input size, in float32 whatever the network computed in."""
    if logits.shape == size:
        return logits.float()
    enlarged = torch.nn.functional.interpolate(
        logits[None, None].float(), size=size, mode="bilinear", align_corners=False
    )
    return enlarged[0, 0]


class _Mask(NamedTuple):
    """A mask at the original size, the mean probability of its pixels (0 if it is empty), the nth highest probability
    of all pixels (0 if none was asked for), and the whole map where it was asked for."""

    mask: NDArray[np.bool_]
    certainty: float
    nth: float
    probabilities: NDArray[np.float32] | None


def _at_original_size(
    logits: Float[Tensor, "H W"],
    geometry: Geometry,
    threshold: float,
    nth: int = 0,
    probabilities: bool = False,
    skip: bool = False,
) -> _Mask:
    """With `skip` the mask stays empty, and is not computed unless the map is wanted."""
    height, width = geometry.original_size
    mask = np.zeros((height, width), dtype=bool)
    if skip and not probabilities:
        return _Mask(mask, 0.0, 0.0, None)
    top, left, bottom, right = geometry.content()
    content = logits[top:bottom, left:right]
    down = _neighbours(height, geometry.scale[0], geometry.offset[0] - top, content.shape[0], logits.device)
    across = _neighbours(width, geometry.scale[1], geometry.offset[1] - left, content.shape[1], logits.device)
    if not probabilities and nth <= 1:
        rows, columns = _reached(content, threshold, down, across)
        found = _sample(content, down.part(rows), across.part(columns), threshold)
        if found.mask.any() or not nth:
            mask[rows, columns] = found.mask
            return found._replace(mask=mask)
    found = _sample(content, down, across, threshold, nth, probabilities)
    return found._replace(mask=mask) if skip else found


class _Neighbours(NamedTuple):
    """For each pixel of an original axis: the two input pixels it lies between, and the second one's weight."""

    low: Int[Tensor, " n"]
    high: Int[Tensor, " n"]
    weight: Float[Tensor, " n"]

    def part(self, pixels: slice) -> _Neighbours:
        return _Neighbours(self.low[pixels], self.high[pixels], self.weight[pixels])


def _neighbours(size: int, scale: float, offset: float, available: int, device: torch.device) -> _Neighbours:
    """Positions follow `Geometry`: the centre of original pixel c lies at (c + 0.5) * scale + offset of the content."""
    centres = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) * scale + offset - 0.5
    centres = centres.clamp(0, available - 1)
    low = centres.floor().long()
    return _Neighbours(low, (low + 1).clamp(max=available - 1), (centres - low).float())


def _reached(
    content: Float[Tensor, "h w"], threshold: float, down: _Neighbours, across: _Neighbours
) -> tuple[slice, slice]:
    """Rows and columns of the original outside of which no pixel is foreground: one is no surer than the four input
    pixels it lies between."""
    if not 0 < threshold < 1:
        return slice(0, len(down.low)), slice(0, len(across.low))
    likely = content > math.log(threshold / (1 - threshold)) - LOGIT_MARGIN
    parts = []
    for axis, neighbours in ((1, down), (0, across)):
        there = likely.any(dim=axis)
        reached = (there[neighbours.low] | there[neighbours.high]).nonzero()
        parts.append(slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 0))
    return parts[0], parts[1]


def _sample(
    content: Float[Tensor, "h w"],
    down: _Neighbours,
    across: _Neighbours,
    threshold: float,
    nth: int = 0,
    probabilities: bool = False,
) -> _Mask:
    """The pixels of the original, by the input pixels each lies between."""
    height, width = len(down.low), len(across.low)
    mask = np.zeros((height, width), dtype=bool)
    kept = np.empty((height, width), dtype=np.float32) if probabilities else None
    # Sampled along the columns first: what remains is (content height) x (original width), whatever the picture's
    # height.
    wide = content.index_select(1, across.low).mul_(1 - across.weight)
    wide += content.index_select(1, across.high).mul_(across.weight)
    total, pixels = 0.0, 0
    highest = content.new_zeros(0)
    rows = max(1, STRIP // max(1, width))
    for start in range(0, height, rows):
        part = slice(start, start + rows)
        low, high, weight = down.part(part)
        strip = wide.index_select(0, low).mul_(1 - weight[:, None])
        strip += wide.index_select(0, high).mul_(weight[:, None])
        probability = strip.sigmoid_()
        if kept is not None:
            kept[part] = probability.cpu().numpy()
        chosen = probability > threshold
        mask[part] = chosen.cpu().numpy()
        total += float(probability[chosen].sum(dtype=torch.float64))
        pixels += int(chosen.sum())
        if nth:
            best = probability.flatten().topk(min(nth, probability.numel())).values
            highest = torch.cat([highest, best]).topk(min(nth, len(highest) + len(best))).values
    certainty = total / pixels if pixels else 0.0
    return _Mask(mask, certainty, float(highest[-1]) if len(highest) else 0.0, kept)


def corners_of(boxes: Float[Tensor, "P 4"], geometry: Geometry) -> NDArray[np.float64]:
    """Boxes cxcywh, 0 to 1 of the image, as xyxy in its pixels, cut at its borders."""
    centre_x, centre_y, width, height = boxes.double().cpu().numpy().T
    corners = np.stack(
        [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2], axis=1
    )
    original_height, original_width = geometry.original_size
    return corners.clip(0, 1) * np.array([original_width, original_height, original_width, original_height], float)


def _instances(
    predicted: InstancePredictions, index: int, geometry: Geometry, size: tuple[int, int], threshold: float, label: str
) -> list[Instance]:
    """The instances of one expression, in the order of the model; the expression is the label of nameless ones."""
    boxes = corners_of(predicted.boxes[index], geometry)
    labels = [label] * len(boxes) if predicted.labels is None else predicted.labels[index]
    return [
        Instance.from_mask(
            _at_original_size(_at_input_size(logits, size), geometry, threshold).mask, float(score), name, box
        )
        for logits, score, box, name in zip(
            predicted.mask_logits[index],
            predicted.scores[index],
            boxes,
            labels,
            strict=True,
        )
    ]
