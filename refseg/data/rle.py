"""COCO run-length encoding of masks, through pycocotools. Counts are text, so that they go into JSON as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.errors import DataError


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A (H, W) bool mask as {"size": [H, W], "counts": str}."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(value) for value in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode(rle: dict[str, Any], size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """The (H, W) bool mask of a compressed ("counts" text) or plain ("counts" list) encoding.

    Raises `DataError` when the runs do not fill the size exactly, or `size` (height, width) is given and differs.
    """
    from pycocotools import mask as coco

    height, width = check_size(rle, size)
    counts = rle["counts"]
    if isinstance(counts, (list, tuple)):
        runs = np.asarray(counts, dtype=np.int64)
        if (runs < 0).any() or int(runs.sum()) != height * width:
            raise DataError(f"the runs add up to {int(runs.sum())} pixels, but the mask is {height} x {width}")
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return flat.reshape(width, height).T
    runs_total = _total_of(counts if isinstance(counts, bytes) else str(counts).encode("ascii", "replace"))
    if runs_total != height * width:
        raise DataError(f"the encoded runs add up to {runs_total} pixels, but the mask is {height} x {width}")
    raw = counts if isinstance(counts, bytes) else counts.encode("ascii")
    return coco.decode({"size": [height, width], "counts": raw}).astype(bool)


def check_size(rle: dict[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of an encoding, checked."""
    if not isinstance(rle, dict) or "counts" not in rle or "size" not in rle:
        raise DataError('a mask is run-length encoded as {"size": [H, W], "counts": ...}')
    found = rle["size"]
    if not isinstance(found, (list, tuple)) or len(found) != 2 or not all(isinstance(v, int) and v > 0 for v in found):
        raise DataError(f"the size of a mask is [height, width], two positive integers, not {found!r}")
    if size is not None and tuple(found) != tuple(size):
        raise DataError(f"the mask is {found[0]} x {found[1]}, but the picture is {size[0]} x {size[1]}")
    return int(found[0]), int(found[1])


def _total_of(counts: bytes) -> int:
    """Sum of the runs of a compressed encoding (base-32 digits with continuation bit, differences after the second run).

    pycocotools trusts its input: runs past the end of the mask write outside it, so the sum is checked first.
    """
    runs: list[int] = []
    position = 0
    while position < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(counts):
                raise DataError("the run-length encoding ends in the middle of a number")
            digit = counts[position] - 48
            if not 0 <= digit < 64 or shift > 60:
                raise DataError(f"the run-length encoding holds a character that is not its own: {counts[position:position + 1]!r}")
            value |= (digit & 0x1F) << shift
            more = bool(digit & 0x20)
            position += 1
            shift += 5
            if not more and digit & 0x10:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise DataError("the run-length encoding holds a negative run")
        runs.append(value)
    return sum(runs)
