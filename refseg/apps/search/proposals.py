"""Proposals of a picture as the bytes of an index row, and back.

    boxes          16 bits a side, in 65,535ths of the picture; how drawn it looks in as many
    class scores   on a scale of log p from .001 (the chooser's floor) to 1: 16 bits from .02 on, 8 bits below
    colours        8 bits on a scale of the square root
    masks          28 x 28 bits a proposal, in bytes of their own: no answer depends on them

Everything is compressed with zstd. RoI features are left out: they make coarse masks and decide nothing.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8

from refseg.errors import DataError
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.types import COLOURS, MASK_SIZE, Proposals

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pack_masks", "pack_proposals", "presence_codes", "presence_of", "unpack_proposals"]

FLOOR = 1e-3
"""Probabilities below count as 0: the chooser adds as much to every fit before it takes the logarithm."""
_LOG = -math.log(FLOOR)
FINE = 0.02
"""Probabilities from here on have 16 bits."""
MOST = 4096
"""Proposals of a picture that are believed when read: a damaged row must not fill the memory."""
MASK_LOGIT = 4.0
"""What a bit of a mask means as a logit, inside and (negative) outside."""
_HEAD = struct.Struct("<HHHHH")


def pack_proposals(proposals: Proposals) -> bytes:
    """Boxes, class probabilities and colours of up to 4,096 proposals."""
    count, classes = proposals.class_probs.shape
    height, width = proposals.size
    codes = _codes(proposals.class_probs.numpy(force=True))
    fine = codes >= _FINE_CODE
    parts = (
        _fixed(proposals.boxes.numpy(force=True), 65535, np.uint16).tobytes(),
        (codes >> 8).astype(np.uint8).tobytes(),
        (codes[fine] & 255).astype(np.uint8).tobytes(),
        _fixed(np.sqrt(proposals.colours.numpy(force=True)), 255, np.uint8).tobytes(),
    )
    return _compress(_HEAD.pack(count, classes, height, width, round(65535 * proposals.drawn)) + b"".join(parts))


def unpack_proposals(content: bytes, masks: bytes | None = None) -> Proposals:
    """The inverse of `pack_proposals` and `pack_masks`; without `masks`, mask logits are 0.

    Raises `DataError` for bytes that are none of theirs.
    """
    try:
        data = _decompress(content)
        count, classes, height, width, drawn = _HEAD.unpack_from(data)
        if count > MOST or classes != len(CLASSES):
            raise ValueError(f"{count} proposals of {classes} classes")
        at = _HEAD.size
        boxes = np.frombuffer(data, "<u2", count * 4, at).reshape(count, 4)
        at += boxes.nbytes
        high = np.frombuffer(data, np.uint8, count * classes, at).reshape(count, classes)
        at += high.nbytes
        codes = (high.astype(np.int32) << 8) + 128
        codes[high == 0] = 0
        # A code of 16 bits is known to be one by its high byte, since `_FINE_CODE` ends in a zero byte.
        fine = high >= _FINE_CODE >> 8
        low = np.frombuffer(data, np.uint8, int(fine.sum()), at)
        codes[fine] += low.astype(np.int32) - 128
        colours = np.frombuffer(data, np.uint8, count * len(COLOURS), at + low.nbytes).reshape(count, len(COLOURS))
        logits = np.zeros((count, MASK_SIZE, MASK_SIZE), np.float32)
        if masks is not None:
            bits = np.unpackbits(np.frombuffer(_decompress(masks), np.uint8), count=logits.size).reshape(logits.shape)
            logits = MASK_LOGIT * (2 * bits.astype(np.float32) - 1)
    except (OSError, ValueError, struct.error, pa.ArrowException) as error:
        raise DataError(f"a damaged row of the index ({error}); index the picture again with --rebuild") from error
    class_probs = torch.from_numpy(_probabilities(codes))
    shares = torch.from_numpy((colours.astype(np.float32) / 255) ** 2)
    return Proposals(
        boxes=torch.from_numpy(boxes.astype(np.float32) / 65535),
        scores=class_probs.amax(1) if count else torch.zeros(0),
        class_probs=class_probs,
        features=torch.zeros(count, 0),
        colours=shares / shares.sum(1, keepdim=True).clamp(min=1e-6),
        mask_logits=torch.from_numpy(logits),
        size=(height, width),
        drawn=drawn / 65535,
    )


def pack_masks(proposals: Proposals) -> bytes:
    """Coarse masks, a bit a cell."""
    return _compress(np.packbits(proposals.mask_logits.numpy(force=True) > 0).tobytes())


def presence_codes(class_probs: Float[np.ndarray, "K A"]) -> UInt8[np.ndarray, " A"]:
    """The largest probability of each class in 8 bits, rounded up: what `presence_of` gives is never too small."""
    if not len(class_probs):
        return np.zeros(class_probs.shape[1], np.uint8)
    largest = class_probs.max(axis=0).astype(np.float64)
    scaled = np.ceil(np.log(np.maximum(largest, FLOOR) / FLOOR) / _LOG * 255 - 1e-6)
    return np.where(largest <= 0, 0, scaled.clip(0, 255)).astype(np.uint8)


def presence_of(codes: UInt8[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """The probabilities of `presence_codes`; of code 0 the floor."""
    return _PRESENCE[codes]


_PRESENCE = (FLOOR * np.exp(np.arange(256) / 255 * _LOG)).astype(np.float32)
_FINE_CODE = int(65535 * math.log(FINE / FLOOR) / _LOG) // 256 * 256


def _codes(probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    scaled = np.log(np.maximum(probabilities.astype(np.float64), FLOOR) / FLOOR) / _LOG * 65535
    return np.rint(scaled).clip(0, 65535).astype(np.int32)


def _probabilities(codes: NDArray[np.int32]) -> NDArray[np.float32]:
    return _TABLE[codes]


_TABLE = (FLOOR * np.exp(np.arange(65536) / 65535 * _LOG)).astype(np.float32)
_TABLE[0] = 0.0


def _fixed(
    values: NDArray[np.float32], most: int, kind: type[np.uint8] | type[np.uint16]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    return np.rint(values.clip(0, 1) * most).astype(kind)


def _compress(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + pa.compress(data, codec="zstd", asbytes=True)


def _decompress(content: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", content)
    if size > MOST * (len(CLASSES) * 2 + 128):
        raise ValueError(f"{size} bytes")
    return pa.decompress(content[4:], decompressed_size=size, codec="zstd", asbytes=True)
