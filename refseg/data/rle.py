"""COCO run-length encoding of masks, through pycocotools. Counts are text, so that they go into JSON as they are."""

from __future__ import annotations

from reprlib import repr
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.data.images import MAX_PIXELS
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
    height, width = check_size(rle, size)
    # Not through pycocotools: numpy asks its masks for a copy in a way that they refuse, and a Ctrl-C that comes at
    # that moment ends as a TypeError.
    runs = _checked_runs(rle["counts"], height, width)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def compressed(rle: dict[str, Any], size: tuple[int, int] | None = None) -> dict[str, Any]:
    """The encoding as pycocotools keeps it, {"size": [H, W], "counts": bytes}, checked as `validate` does."""
    from pycocotools import mask as coco

    height, width = validate(rle, size)
    counts = rle["counts"]
    if isinstance(counts, (list, tuple)):
        return coco.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
    return {"size": [height, width], "counts": counts if isinstance(counts, bytes) else counts.encode("ascii")}


def validate(rle: dict[str, Any], size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of an encoding whose runs fill that size exactly; raises `DataError` as `decode` does."""
    height, width = check_size(rle, size)
    _checked_runs(rle["counts"], height, width)
    return height, width


def check_size(rle: dict[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of an encoding, checked."""
    if not isinstance(rle, dict) or "counts" not in rle or "size" not in rle:
        raise DataError('a mask is run-length encoded as {"size": [H, W], "counts": ...}')
    found = rle["size"]
    if not isinstance(found, (list, tuple)) or len(found) != 2 or not all(isinstance(v, int) and v > 0 for v in found):
        raise DataError(f"the size of a mask is [height, width], two positive integers, not {repr(found)}")
    if found[0] * found[1] > MAX_PIXELS:
        raise DataError(f"a mask of {found[0]} x {found[1]} has more than {MAX_PIXELS:,} pixels, the limit")
    if size is not None and tuple(found) != tuple(size):
        raise DataError(f"the mask is {found[0]} x {found[1]}, but the picture is {size[0]} x {size[1]}")
    return int(found[0]), int(found[1])


def _checked_runs(counts: object, height: int, width: int) -> NDArray[np.int64]:
    """Lengths of the runs, background first, which fill height x width pixels; raises `DataError`."""
    if isinstance(counts, (list, tuple)):
        # A run is at most all pixels; pycocotools keeps runs in 32 bits.
        if not all(isinstance(run, int) and 0 <= run <= height * width for run in counts):
            raise DataError("the runs of a plain encoding are integers, 0 or more, none larger than the mask")
        runs = np.asarray(counts, dtype=np.int64)
    elif isinstance(counts, (str, bytes)):
        if isinstance(counts, str) and not counts.isascii():
            raise DataError("the run-length encoding holds characters that are not its own")
        runs = _runs_of(counts if isinstance(counts, bytes) else counts.encode("ascii"))
    else:
        raise DataError(f'"counts" is text or a list of runs, not {type(counts).__name__}')
    total = int(runs.sum())
    if total != height * width:
        raise DataError(f"the runs add up to {total} pixels, but the mask is {height} x {width}")
    return runs


def _runs_of(counts: bytes) -> NDArray[np.int64]:
    """Runs of a compressed encoding (base-32 digits, continuation bit, differences after the second run).

    pycocotools trusts its input: runs past the end of the mask write outside it, so they are read here and checked.
    """
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not len(digits):
        return digits
    foreign = np.flatnonzero((digits < 0) | (digits > 63))
    if len(foreign):
        found = counts[foreign[0] : foreign[0] + 1]
        raise DataError(f"the run-length encoding holds a character that is not its own: {found!r}")
    ends = np.flatnonzero(digits < 32)
    if not len(ends) or ends[-1] != len(digits) - 1:
        raise DataError("the run-length encoding ends in the middle of a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # seven digits of five bits: more than any picture's number of pixels
        raise DataError("the run-length encoding holds a number that is too large")
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    values = np.add.reduceat((digits & 31) << shifts, starts)
    values -= ((digits[ends] & 16) != 0) * (np.int64(1) << (5 * lengths))  # the last digit holds the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if (values < 0).any():
        raise DataError("the run-length encoding holds a negative run")
    return values
