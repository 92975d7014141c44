"""How an answer came about: a system's `NamedMap`s of one expression, as numbers and as pictures.

>>> shown = refseg.load("rela-photo").explain("photo.jpg", "the dog on the left")
>>> [each.name for each in shown.maps]
['minimap', 'region_masks']
>>> shown.sheet().save("explained.png")

Nothing here knows a system: what can be shown, and how each map is called, stands in `Output.maps`. The drawing is in
`refseg.inference.map_pictures`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from refseg.files import write_bytes, write_text
from refseg.geometry import Geometry
from refseg.inference.map_pictures import draw_map, draw_sheet
from refseg.inference.postprocess import corners_of
from refseg.inference.segmentation import Segmentation
from refseg.inference.shown_maps import Shown, ShownMap
from refseg.types import NamedMap, Output, Panels

__all__ = ["Explanation", "ShownMap", "explain_output"]

MOST_PANELS = 6
"""Panels of a map that are drawn."""


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """An answer with everything that its system can show of the way to it; made by `Segmenter.explain`."""

    def pictures(self, most: int = MOST_PANELS) -> dict[str, Image.Image]:
        """Each map's picture by its name, with at most `most` panels."""
        return {each.name: draw_map(self, each, most) for each in self.maps}

    def sheet(self, most: int = MOST_PANELS) -> Image.Image:
        """The answer and all maps, one below the other."""
        return draw_sheet(self, self.pictures(most))

    def save(self, folder: str | os.PathLike[str], stem: str, most: int = MOST_PANELS) -> list[Path]:
        """Write STEM.png (the sheet), STEM.MAP.png, STEM.json and STEM.npz (`arrays`) into `folder`; returns the paths,
        the sheet's first. Each file is whole or absent."""
        base = Path(folder)
        drawn = self.pictures(most)
        pictures = {"": draw_sheet(self, drawn), **{f".{name}": each for name, each in drawn.items()}}
        paths = [write_bytes(base / f"{stem}{name}.png", _png(each)) for name, each in pictures.items()]
        paths.append(write_text(base / f"{stem}.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"))
        buffer = BytesIO()
        np.savez_compressed(buffer, **self.arrays())  # type: ignore[arg-type]
        return [*paths, write_bytes(base / f"{stem}.npz", buffer.getvalue())]


def explain_output(
    output: Output, index: int, image: Image.Image, answer: Segmentation, words: Sequence[str], geometry: Geometry
) -> Explanation:
    """What `output` can show of its expression `index`, whose `answer` about `image` is given."""
    maps = [_shown(name, each, each.read(index), words, geometry) for name, each in output.maps.items()]
    return Explanation(image, answer, tuple(words), tuple(maps), geometry)


def _shown(name: str, named: NamedMap, panels: Panels, words: Sequence[str], geometry: Geometry) -> ShownMap:
    values, names = panels.values.float().cpu().numpy(), panels.names
    if not names:  # a panel a token; those of padding are left out
        names = tuple(words) or tuple(f"token {number + 1}" for number in range(len(values)))
        values = values[: len(names)]
    if named.kind == "words" and words:
        values = values[:, : len(words)]
    weights = None if panels.weights is None else panels.weights.float().cpu().numpy()[: len(values)]
    boxes = None if panels.boxes is None else corners_of(panels.boxes, geometry)
    return ShownMap(name, named.title, named.kind, values, names, weights, boxes, named.scale)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
