"""Label Studio's masks: the run-length packing of @thi.ng/rle-pack, over RGBA pixels row by row.

A stream of bits: 32 for the number of bytes that are packed, 5 for the bits of a byte minus one, four times 4 for the
bits minus one in which lengths are written (3, 4, 8, 16), then runs: a 1, 2 bits that choose one of the four, the
length minus one, and the byte.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = (3, 4, 8, 16)


def pack(mask: NDArray[np.bool_]) -> list[int]:
    """A (H, W) mask as Label Studio's `rle`: bytes 0 to 255. Chosen pixels are white and opaque."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = 4 * np.diff(np.concatenate([starts, [len(flat)]]))  # four bytes a pixel, all of one value
    values = flat[starts]
    parts = [f"{4 * len(flat):032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for length, value in zip(lengths.tolist(), values.tolist(), strict=True):
        byte = "11111111" if value else "00000000"
        while length:
            run = min(length, 1 << SIZES[-1])
            kind = next(number for number, size in enumerate(SIZES) if run <= 1 << size)
            parts.append(f"1{kind:02b}{run - 1:0{SIZES[kind]}b}{byte}")
            length -= run
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
