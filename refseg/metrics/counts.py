"""What is counted of one expression: integers from which every protocol's numbers follow, so that no mask need be kept.

A `Row` says nothing about a protocol's rules; `refseg.metrics.referring` applies those. Sums over rows are exact
(`ExactSum`), so that the result is the same however the rows are spread over processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool

from refseg.errors import DataError

BOUNDARY_SHARE = 0.02
"""Width of the band that boundary IoU compares, of the picture's diagonal (Cheng et al., Boundary IoU, CVPR 2021)."""


@dataclass(frozen=True)
class Row:
    """One expression's sufficient statistics, in pixels, before any gating; and what breakdowns group by.

    intersection, union, prediction_area, target_area: of the mask as predicted; `size` is the (height, width) of both.
    no_target: whether the expression means nothing in the picture; predicted_no_target: the prediction's own decision,
    None where it gives none; no_target_score: its probability.
    boundary_intersection, boundary_union: of the bands along the outlines, where wanted.
    pointed: whether the most likely pixel lies in the target. box_iou: of the best-scored box with the only target.
    """

    id: str
    intersection: int
    union: int
    prediction_area: int
    target_area: int
    size: tuple[int, int]
    no_target: bool
    predicted_no_target: bool | None = None
    no_target_score: float | None = None
    boundary_intersection: int | None = None
    boundary_union: int | None = None
    pointed: bool | None = None
    box_iou: float | None = None
    picture: str | None = None
    text: str = ""
    kind: str | None = None
    targets: int | None = None
    category: str | None = None
    split: str | None = None
    dataset: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; fields that are None are left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        values["size"] = list(self.size)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """The row that `to_dict` wrote; keys of a protocol's results are passed over. Raises `DataError`."""
        names = [item.name for item in fields(cls)]
        missing = [name for name in names[:7] if name not in values]
        if missing:
            raise DataError(f"row {values.get('id', '?')}: no {', '.join(missing)}; refseg evaluate writes rows")
        known = {name: values[name] for name in names if name in values}
        size = known["size"]
        if not (isinstance(size, (list, tuple)) and len(size) == 2):
            raise DataError(f"row {values['id']}: size is [height, width], not {size!r}")
        numbers = [known[name] for name in names[1:5]]
        if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
            raise DataError(f"row {values['id']}: intersection, union and areas are whole numbers, not {numbers}")
        intersection, union, prediction_area, target_area = numbers
        if prediction_area + target_area != intersection + union or intersection > min(prediction_area, target_area):
            raise DataError(f"row {values['id']}: intersection, union and areas {numbers} do not fit each other")
        return cls(**{**known, "size": (int(size[0]), int(size[1]))})


def count_masks(
    prediction: Bool[np.ndarray, "H W"], target: Bool[np.ndarray, "h w"], boundary: bool = False
) -> dict[str, Any]:
    """The fields of a `Row` that come from two masks of one size; with `boundary` those of boundary IoU too."""
    if prediction.shape != target.shape:
        raise DataError(f"the predicted mask is {prediction.shape}, but the target is {target.shape}")
    counts: dict[str, Any] = {
        "intersection": int(np.count_nonzero(prediction & target)),
        "union": int(np.count_nonzero(prediction | target)),
        "prediction_area": int(np.count_nonzero(prediction)),
        "target_area": int(np.count_nonzero(target)),
        "size": (int(target.shape[0]), int(target.shape[1])),
    }
    if boundary:
        bands = boundary_band(prediction), boundary_band(target)
        counts["boundary_intersection"] = int(np.count_nonzero(bands[0] & bands[1]))
        counts["boundary_union"] = int(np.count_nonzero(bands[0] | bands[1]))
    return counts


def boundary_band(mask: Bool[np.ndarray, "H W"], share: float = BOUNDARY_SHARE) -> Bool[np.ndarray, "H W"]:
    """The mask's pixels within d of its outline; d is `share` of the diagonal, rounded, at least 1.

    Distance is that of d erosions by a 3 x 3 square; outside the picture is background (Boundary IoU's published code).
    """
    height, width = mask.shape
    distance = max(1, round(share * float(np.hypot(height, width))))
    inner = mask
    for axis in (0, 1):
        inner = _eroded(inner, distance, axis)
    return mask & ~inner


def _eroded(mask: Bool[np.ndarray, "H W"], distance: int, axis: int) -> Bool[np.ndarray, "H W"]:
    """True where the 2 * distance + 1 pixels along `axis` around a pixel are all True and inside the picture."""
    length = mask.shape[axis]
    padding = [(0, 0), (0, 0)]
    padding[axis] = (distance + 1, distance)
    sums = np.cumsum(np.pad(mask, padding), axis=axis, dtype=np.int32)
    window = 2 * distance + 1
    last = np.take(sums, np.arange(window, window + length), axis=axis)
    return last - np.take(sums, np.arange(length), axis=axis) == window


class ExactSum:
    """A sum of floats without rounding, so that its order and grouping cannot matter."""

    def __init__(self, total: Fraction | int | float = 0) -> None:
        self._whole, self._rest = 0, Fraction(0)
        self._scaled = 0
        """What floats add, in units of the smallest one: integers take an eighth of the time of fractions."""
        self.add(total)

    @property
    def total(self) -> Fraction:
        """The sum."""
        return self._whole + Fraction(self._scaled, 1 << _UNIT) + self._rest

    def add(self, value: float | int | Fraction) -> None:
        """Raises `ValueError` or `OverflowError` for what is not finite."""
        if isinstance(value, int):
            self._whole += value
        elif isinstance(value, float):
            numerator, denominator = value.as_integer_ratio()
            self._scaled += numerator << (_UNIT + 1 - denominator.bit_length())
        else:
            self._rest += Fraction(value)

    def __float__(self) -> float:
        return float(self.total)


_UNIT = 1074
"""Every finite float is a whole number of 2 ** -1074."""
