"""Mean IoU of semantic maps over the categories of a COCO file, as semantic segmentation is scored.

The pixels of all pictures are counted together; a category's IoU is the number of pixels that are labelled with it and
are it, over that of pixels that are one or the other; the mean is over the categories that occur in the pictures ("mean
IU" of Long et al., CVPR 2015, section 5). Where annotations overlap, the smaller one has the pixel; a crowd is what it
is a crowd of.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.masks import rasterise
from refseg.errors import DataError, ImageError

__all__ = ["CategoryMaps", "SemanticScore", "read_category_maps"]


@dataclass(frozen=True)
class CategoryMaps:
    """The annotations of a COCO file as semantic maps."""

    names: tuple[str, ...]
    """The categories in the order of their ids; the first one is 1 in a map."""
    instances: Instances
    pictures: dict[str, list[int]]
    """Ids of the pictures of a file name, without folders."""
    records: dict[int, list[dict[str, Any]]]
    """Annotations of a picture's id."""

    def find(self, path: str | os.PathLike[str]) -> int | None:
        """The id of the picture of the path's name, None where there is no record of it. Raises `DataError` where there
        are several."""
        keys = self.pictures.get(Path(path).name, [])
        if len(keys) > 1:
            raise DataError(f"{self.instances.path}: {len(keys)} pictures are called {Path(path).name}")
        return keys[0] if keys else None

    def map_of(self, key: int) -> Int[np.ndarray, "H W"]:
        """Of each pixel of the picture with this id the number of its category in `names` from 1, 0 for none."""
        size = self.instances.pictures[key].size
        numbers = {category: number for number, category in enumerate(sorted(self.instances.categories), start=1)}
        regions = [
            (numbers[record["category_id"]], rasterise(build_instance(self.instances, record)[0].segmentation, size))
            for record in self.records.get(key, [])
            if record.get("category_id") in numbers
        ]
        result = np.zeros(size, dtype=np.int32)
        for number, region in sorted(regions, key=lambda entry: -int(entry[1].sum())):
            result[region] = number
        return result


def read_category_maps(path: str | os.PathLike[str]) -> CategoryMaps:
    """The semantic maps of a COCO file. Raises `DataError` for what is none, or has no categories."""
    instances = read_instances(path)
    if not instances.categories:
        raise DataError(f'{path}: "categories" holds no record with id and name')
    pictures: dict[str, list[int]] = defaultdict(list)
    for key, picture in instances.pictures.items():
        pictures[picture.file_name.replace("\\", "/").rpartition("/")[2]].append(key)
    records: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in instances.annotations.values():
        records[record["image_id"]].append(record)
    names = tuple(instances.categories[key] for key in sorted(instances.categories))
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two categories have the same name ({_twice(names)}); give them one id")
    return CategoryMaps(names, instances, dict(pictures), dict(records))


class SemanticScore:
    """IoU of each of `names`, over all pictures that were added."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.pictures = 0
        self._counts = np.zeros((len(self.names) + 1,) * 2, dtype=np.int64)

    def add(self, labelled: Int[np.ndarray, "H W"], target: Int[np.ndarray, "A B"]) -> None:
        """Count one picture: of each pixel the number of its name from 1, 0 for none. Raises `ImageError` where the two
        have different sizes."""
        if labelled.shape != target.shape:
            height, width = target.shape
            raise ImageError(
                f"the picture is {labelled.shape[1]} x {labelled.shape[0]}, annotated is {width} x {height}"
            )
        sides = len(self._counts)
        pairs = target.astype(np.int64).ravel() * sides + labelled.ravel()
        self._counts += np.bincount(pairs, minlength=sides**2).reshape(sides, sides)
        self.pictures += 1

    def ious(self) -> dict[str, float]:
        """IoU of each name that occurs in the pictures, in order."""
        there = self._counts.sum(axis=1) > 0
        ious = self._all()
        return {name: float(ious[row]) for row, name in enumerate(self.names, start=1) if there[row]}

    def to_dict(self) -> dict[str, Any]:
        """What `iou.json` holds. Means are None where none of the names occurs."""
        ious = self.ious()
        there = self._counts.sum(axis=1) > 0
        return {
            "mean_iou": float(np.mean(list(ious.values()))) if ious else None,
            "mean_iou_with_ground": float(self._all()[there].mean()) if ious else None,
            "categories": len(ious),
            "pictures": self.pictures,
            "iou": ious,
        }

    def _all(self) -> Float[np.ndarray, " N"]:
        shared = np.diag(self._counts)
        union = self._counts.sum(axis=0) + self._counts.sum(axis=1) - shared
        return shared / np.maximum(union, 1)


def _twice(names: Sequence[str]) -> str:
    return next(name for place, name in enumerate(names) if name in names[:place])
