"""Answers at the image's own size. Free of torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from refseg.data.rle import decode, encode
from refseg.errors import DataError, RefsegError
from refseg.files import write_bytes, write_text
from refseg.inference.connected_components import counts_as_target, find_components

if TYPE_CHECKING:
    import supervision

__all__ = ["Instance", "Segmentation", "connected_instances"]


@dataclass(frozen=True, eq=False)
class Instance:
    """One target of an answer.

    `box` (4,) float xyxy in pixels of the image, as predicted or around the mask; `score` 0 to 1; `label` its class, or
    the expression where the model names none. Of the mask only `region`, the part inside its tightest box, is kept.
    """

    region: NDArray[np.bool_] = field(repr=False)
    corner: tuple[int, int]
    """Row and column of the region's first pixel in the image."""
    size: tuple[int, int]
    """Height and width of the image."""
    box: NDArray[np.float64]
    score: float
    label: str

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], score: float, label: str, box: ArrayLike | None = None) -> Instance:
        """The instance of a (H, W) bool mask; `box` is the one around it unless it is given, zeros where the mask is
        empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
        own = np.array((left, top, right, bottom) if box is None else box, dtype=np.float64)
        size = (int(mask.shape[0]), int(mask.shape[1]))
        return cls(mask[top:bottom, left:right].copy(), (top, left), size, own, float(score), label)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, a new array at each call."""
        mask = np.zeros(self.size, dtype=bool)
        mask[self.rows_and_columns] = self.region
        return mask

    @property
    def rows_and_columns(self) -> tuple[slice, slice]:
        """Where `region` lies in the image."""
        (top, left), (height, width) = self.corner, self.region.shape
        return slice(top, top + height), slice(left, left + width)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values; the mask as COCO run-length encoding."""
        return {
            "label": self.label,
            "score": self.score,
            "area": int(self.region.sum()),
            "box": self.box.tolist(),
            "mask": encode(self.mask),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instance):
            return NotImplemented
        return (
            (self.size, self.corner, self.score, self.label) == (other.size, other.corner, other.score, other.label)
            and np.array_equal(self.box, other.box)
            and np.array_equal(self.region, other.region)
        )

    def __hash__(self) -> int:
        return hash((self.size, self.corner, self.region.shape, self.score, self.label))


@dataclass(frozen=True, eq=False, init=False)
class Segmentation:
    """The answer to one expression about one image, at the image's own size.

    True where there is a target. Equal to an answer with the same text, masks, boxes and scores (`probabilities` and
    `extra` do not count). Its arrays are not to be changed.
    """

    mask: NDArray[np.bool_]
    """(H, W), the union of all targets; empty for an answer of no target."""
    instances: tuple[Instance, ...]
    """The targets one by one: those that the model tells apart, else one a predicted box or connected part of the mask
    (`connected_instances`)."""
    no_target: bool
    no_target_score: float
    """Probability that there is no target, 0 to 1."""
    score: float
    """Mean foreground probability over the mask, 0 to 1; of an answer of no target one minus `no_target_score`."""
    text: str
    """The expression."""
    probabilities: NDArray[np.float32] | None
    """(H, W) foreground probability of each pixel, where it was asked for."""
    extra: dict[str, Any]
    """`remarks` on the expression, where there are any; `used_words`, those that the answer rests on, of systems that
    can tell; and what callers add."""

    def __init__(
        self,
        mask: NDArray[np.bool_],
        boxes: NDArray[np.floating] | None = None,
        no_target: bool = False,
        no_target_score: float = 0.0,
        score: float = 1.0,
        text: str = "",
        extra: Mapping[str, Any] | None = None,
        *,
        instances: Sequence[Instance] | None = None,
        probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        """Without `instances`, each of the `boxes` (K, 4) xyxy stands for the mask inside it; without both, connected
        parts are the instances. Raises `RefsegError` for arrays of another kind, and a mask where there is no
        target."""
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise RefsegError(f"a mask is a (H, W) bool array, not {mask.dtype} of shape {mask.shape}")
        if no_target and mask.any():
            raise RefsegError("an answer of no target has an empty mask")
        if probabilities is not None and probabilities.shape != mask.shape:
            raise RefsegError(f"probabilities are (H, W) as the mask {mask.shape}, not {probabilities.shape}")
        if instances is None:
            if boxes is None:
                instances = connected_instances(mask, score, text)
            else:
                instances = _boxed_instances(mask, boxes, score, text)
        for name, value in (
            ("mask", mask),
            ("instances", tuple(instances)),
            ("no_target", bool(no_target)),
            ("no_target_score", float(no_target_score)),
            ("score", float(score)),
            ("text", text),
            ("probabilities", probabilities),
            ("extra", dict(extra or {})),
        ):
            object.__setattr__(self, name, value)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(K, 4) xyxy in pixels, those of the instances."""
        return np.array([instance.box for instance in self.instances], dtype=np.float64).reshape(-1, 4)

    def to_rle(self) -> dict[str, Any]:
        """The mask as COCO run-length encoding: {"size": [H, W], "counts": str}."""
        return encode(self.mask)

    def to_dict(self) -> dict[str, Any]:
        """Everything but `probabilities` and `extra` as plain JSON values; `from_dict` gives an equal answer."""
        return {
            "text": self.text,
            "no_target": self.no_target,
            "no_target_score": self.no_target_score,
            "score": self.score,
            "size": [int(self.mask.shape[0]), int(self.mask.shape[1])],
            "area": int(self.mask.sum()),
            "boxes": self.boxes.tolist(),
            "mask": self.to_rle(),
            "instances": [instance.to_dict() for instance in self.instances],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Segmentation:
        """The inverse of `to_dict`; other keys become `extra`. Raises `DataError` for what is no such document."""
        try:
            rest = dict(values)
            text, no_target = rest.pop("text"), rest.pop("no_target")
            no_target_score, score = rest.pop("no_target_score"), rest.pop("score")
            mask = decode(rest.pop("mask"))
            instances = [
                Instance.from_mask(decode(each["mask"]), each["score"], each["label"], each["box"])
                for each in rest.pop("instances")
            ]
            for derived in ("size", "area", "boxes"):
                rest.pop(derived, None)
            return cls(mask, None, no_target, no_target_score, score, text, rest, instances=instances)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"not an answer as Segmentation.to_dict gives it: {reason}") from error

    def to_coco(self, image_id: int | str = 0, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations with scores, one an instance: `bbox` is x, y, width, height in pixels."""
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": encode(instance.mask),
                "bbox": [float(value) for value in (*instance.box[:2], *(instance.box[2:] - instance.box[:2]))],
                "area": int(instance.region.sum()),
                "iscrowd": 0,
                "score": instance.score,
            }
            for instance in self.instances
        ]

    def to_supervision(self) -> supervision.Detections:
        """The instances as `supervision.Detections` (needs the package `supervision`); their labels are `class_name`,
        numbered in the order in which they first occur."""
        try:
            import supervision
        except ImportError as error:
            raise RefsegError("to_supervision needs the package supervision: pip install supervision") from error
        if not self.instances:
            return supervision.Detections.empty()
        labels = [instance.label for instance in self.instances]
        classes = list(dict.fromkeys(labels))
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=np.stack([instance.mask for instance in self.instances]),
            confidence=np.array([instance.score for instance in self.instances], dtype=np.float32),
            class_id=np.array([classes.index(label) for label in labels]),
            data={"class_name": np.array(labels), "text": np.array([self.text] * len(labels))},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask (.png, white on black) or the whole answer (.json) to `path`; nothing is left half-written."""
        path = Path(path)
        if path.suffix.lower() == ".json":
            return write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")
        if path.suffix.lower() == ".png":
            return write_bytes(path, self._repr_png_())
        raise RefsegError(f"{path}: save writes .png (the mask) or .json (the whole answer), not {path.suffix!r}")

    def _repr_png_(self) -> bytes:
        """The mask as a notebook shows it, white on black."""
        buffer = BytesIO()
        Image.fromarray(self.mask.astype(np.uint8) * 255).save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        targets = "no target" if self.no_target else f"instances={len(self.instances)}, area={int(self.mask.sum())}"
        return (
            f"Segmentation({self.text!r}, {targets}, score={self.score:.3f}, "
            f"no_target_score={self.no_target_score:.3f}, size={self.mask.shape})"
        )

    def __bool__(self) -> bool:
        return not self.no_target

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Segmentation):
            return NotImplemented
        return (
            self._scalars() == other._scalars()
            and np.array_equal(self.mask, other.mask)
            and self.instances == other.instances
        )

    def __hash__(self) -> int:
        return hash((*self._scalars(), self.mask.shape))

    def _scalars(self) -> tuple[str, bool, float, float]:
        return self.text, self.no_target, self.no_target_score, self.score


def connected_instances(mask: NDArray[np.bool_], score: float, label: str) -> list[Instance]:
    """The connected parts of a (H, W) bool mask that are no specks (`counts_as_target`), the largest first."""
    parts = find_components(mask)
    instances = []
    for number in np.flatnonzero(counts_as_target(parts)).tolist():
        left, top, right, bottom = parts.boxes[number].tolist()
        region = parts.labels[top:bottom, left:right] == number
        size = cast(tuple[int, int], mask.shape)
        instances.append(Instance(region, (top, left), size, parts.boxes[number].astype(np.float64), score, label))
    return instances


def _boxed_instances(mask: NDArray[np.bool_], boxes: NDArray[np.floating], score: float, label: str) -> list[Instance]:
    """One instance a box, with the mask's pixels inside it, borders rounded."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise RefsegError(f"boxes are (K, 4) xyxy, not of shape {boxes.shape}")
    instances = []
    for box in boxes:
        left, top, right, bottom = np.round(box).astype(int).clip(0).tolist()
        inside = np.zeros_like(mask)
        inside[top:bottom, left:right] = mask[top:bottom, left:right]
        instances.append(Instance.from_mask(inside, score, label, box))
    return instances
