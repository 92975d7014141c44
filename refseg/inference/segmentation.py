"""What people get: an answer at the picture's own size, and the geometry that leads there. No torch in this file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.errors import RefsegError


@dataclass(frozen=True)
class Geometry:
    """How a picture was placed on the network's input: scaled by `scale`, moved by `offset`; sizes are (height, width).

    Coordinates are continuous with (0, 0) at the outer corner of the first pixel: the centre of the pixel in column c
    lies at c + 0.5. So x_model = x_original * scale[1] + offset[1], and the scaled picture covers
    `offset` to `offset + original_size * scale` of `model_size`; the rest is padding.
    """

    original_size: tuple[int, int]
    model_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.original_size) < 1 or min(self.model_size) < 1:
            raise RefsegError(f"a picture needs at least one pixel: {self.original_size} -> {self.model_size}")
        if min(self.scale) <= 0:
            raise RefsegError(f"the scale must be positive, not {self.scale}")

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points (..., 2) as (x, y), or boxes (..., 4) as xyxy, from the original picture to the network's input."""
        scale, offset = self._factors(points)
        return np.asarray(points, dtype=np.float64) * scale + offset

    def to_original(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `to_model`."""
        scale, offset = self._factors(points)
        return (np.asarray(points, dtype=np.float64) - offset) / scale

    def content(self) -> tuple[int, int, int, int]:
        """The rows and columns (top, left, bottom, right) of the network's input that hold the picture."""
        top, left = (round(value) for value in self.offset)
        height = max(1, round(self.original_size[0] * self.scale[0]))
        width = max(1, round(self.original_size[1] * self.scale[1]))
        return top, left, min(top + height, self.model_size[0]), min(left + width, self.model_size[1])

    def _factors(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        size = np.shape(points)[-1] if np.ndim(points) else 0
        if size not in (2, 4):
            raise RefsegError(f"points end in 2 numbers (x, y) and boxes in 4 (xyxy), not in {size}")
        repeat = size // 2
        return np.tile(self.scale[::-1], repeat).astype(float), np.tile(self.offset[::-1], repeat).astype(float)


@dataclass(frozen=True)
class Segmentation:
    """The answer to one sentence about one picture, at the picture's own size.

    `mask` (H, W) bool; `boxes` (K, 4) float xyxy in pixels, one a connected or predicted target; `no_target` the
    verdict and `no_target_score` its probability (0 to 1); `score` the mean foreground probability over the mask (0 to
    1; for a no-target answer the probability that there is a target).
    """

    mask: NDArray[np.bool_]
    boxes: NDArray[np.float64]
    no_target: bool
    no_target_score: float
    score: float
    text: str
    extra: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise RefsegError(f"a mask is a (H, W) bool array, not {self.mask.dtype} of shape {self.mask.shape}")
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise RefsegError(f"boxes are (K, 4) xyxy, not of shape {self.boxes.shape}")
        if self.no_target and self.mask.any():
            raise RefsegError("an answer of no target has an empty mask")

    def to_rle(self) -> dict[str, Any]:
        """The mask as COCO run-length encoding: {"size": [H, W], "counts": str}."""
        from refseg.data.rle import encode

        return encode(self.mask)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "text": self.text,
            "no_target": self.no_target,
            "no_target_score": round(float(self.no_target_score), 6),
            "score": round(float(self.score), 6),
            "size": [int(self.mask.shape[0]), int(self.mask.shape[1])],
            "area": int(self.mask.sum()),
            "boxes": [[round(float(value), 2) for value in box] for box in self.boxes],
            "mask": self.to_rle(),
        }

    def to_supervision(self) -> Any:
        """The targets as `supervision.Detections` (needs the package `supervision`), one entry a box."""
        try:
            import supervision
        except ImportError as error:
            raise RefsegError("to_supervision needs the package supervision: pip install supervision") from error
        if self.no_target or not len(self.boxes):
            return supervision.Detections.empty()
        masks = np.zeros((len(self.boxes), *self.mask.shape), dtype=bool)
        for index, (left, top, right, bottom) in enumerate(np.round(self.boxes).astype(int)):
            masks[index, top:bottom, left:right] = self.mask[top:bottom, left:right]
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=masks,
            confidence=np.full(len(self.boxes), self.score, dtype=np.float32),
            data={"text": np.array([self.text] * len(self.boxes))},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask (.png, white on black) or the whole answer (.json) to `path`; nothing is left half-written."""
        from refseg.files import write_bytes, write_text

        path = Path(path)
        if path.suffix.lower() == ".json":
            return write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")
        if path.suffix.lower() == ".png":
            from io import BytesIO

            from PIL import Image

            buffer = BytesIO()
            Image.fromarray(self.mask.astype(np.uint8) * 255).save(buffer, format="PNG")
            return write_bytes(path, buffer.getvalue())
        raise RefsegError(f"{path}: save writes .png (the mask) or .json (the whole answer), not {path.suffix!r}")
