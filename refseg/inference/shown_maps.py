"""A system's `NamedMap`s of one expression as arrays, with what it takes to draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.errors import RefsegError, did_you_mean
from refseg.geometry import Geometry
from refseg.inference.segmentation import Segmentation

__all__ = ["Shown", "ShownMap"]


@dataclass(frozen=True, eq=False)
class ShownMap:
    """One map of one expression, K panels of it.

    `values` by `kind`: "pixels" (K, h, w) over the network's input with its padding; "words" (K, L) over
    `Shown.words`; "bars" and "boxes" (K,). `boxes` (K, 4) are xyxy in pixels of the picture. `weights` (K,) say
    which panels count most; None where their order does.
    """

    name: str
    title: str
    kind: Literal["pixels", "words", "bars", "boxes"]
    values: NDArray[np.float32]
    names: tuple[str, ...]
    weights: NDArray[np.float32] | None = None
    boxes: NDArray[np.float64] | None = None
    scale: Literal["share", "probability", "logit"] = "share"

    def heaviest(self, most: int) -> list[int]:
        """The numbers of at most `most` panels, by falling weight where there are weights, otherwise the first."""
        if self.weights is None:
            return list(range(min(most, len(self.values))))
        return np.argsort(-self.weights, kind="stable")[:most].tolist()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; those of pixels are left out (`Shown.arrays` has them)."""
        document: dict[str, Any] = {"name": self.name, "title": self.title, "kind": self.kind}
        document |= {"scale": self.scale, "names": list(self.names)}
        if self.weights is not None:
            document["weights"] = self.weights.tolist()
        if self.boxes is not None:
            document["boxes"] = self.boxes.tolist()
        if self.kind != "pixels":
            document["values"] = self.values.tolist()
        return document


@dataclass(frozen=True, eq=False)
class Shown:
    """An answer and the maps of the way to it, as numbers."""

    image: Image.Image
    answer: Segmentation
    words: tuple[str, ...]
    """The expression's tokens, of which maps over words have a column each; empty where it is cut into bytes."""
    maps: tuple[ShownMap, ...]
    geometry: Geometry
    """Where the picture lies in the network's input, which maps over pixels cover."""

    def __getitem__(self, name: str) -> ShownMap:
        found = {each.name: each for each in self.maps}
        if name not in found:
            raise RefsegError(f"there is no map {name!r}; {did_you_mean(name, list(found))}")
        return found[name]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All values by map, and `content`: rows and columns (top, left, bottom, right; 0 to 1) of the maps over pixels
        that hold the picture."""
        height, width = self.geometry.model_size
        content = np.array(self.geometry.content()) / (height, width, height, width)
        return {"content": content, **{each.name: each.values for each in self.maps}}

    def to_dict(self) -> dict[str, Any]:
        """The answer, the words and the maps without pixels, as plain JSON values."""
        return {
            "answer": self.answer.to_dict(),
            "words": list(self.words),
            "maps": [each.to_dict() for each in self.maps],
        }
