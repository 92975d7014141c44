"""Annotated pictures for training the detector and the masks: from COCO-style files, with what must be left out.

A picture's `source` is the name that its file was given, with the picture's `subset` where it has one ("photos/cats"):
what is annotated exhaustively differs between sources, see `known_classes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.images import read_image
from refseg.data.sample import Instance
from refseg.errors import DataError
from refseg.models.instances.classes import COCO, PART_OF, SECOND, class_index

__all__ = ["AnnotatedPicture", "known_classes", "picture_keys", "read_annotated", "read_splits", "second_index"]

_COCO_NUMBER = re.compile(r"(?<![0-9])([0-9]{12})(?![0-9])")


@dataclass(frozen=True)
class AnnotatedPicture:
    """One picture and its objects. `key` is unique over all files ("photos/17"), `split` where the picture may be used:
    "train", or a name of something held out. `exhaustive`: every object of the source's categories is annotated."""

    key: str
    path: Path
    size: tuple[int, int]
    instances: tuple[Instance, ...]
    source: str
    split: str
    exhaustive: bool

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture, RGB; raises `ImageError` where it cannot be read."""
        return np.asarray(read_image(self.path))

    def masks(self) -> list[Bool[np.ndarray, "H W"]]:
        """The mask of every instance."""
        return [item.mask(self.size) for item in self.instances]


def picture_keys(instances: Instances) -> dict[int, str]:
    """What tells each picture from those of other files: COCO's number where there is one, else the file's name."""
    keys = {}
    for number, picture in instances.pictures.items():
        told = picture.extra.get("coco_id")
        names = (str(picture.extra.get("original_name", "")), picture.file_name)
        found = next((match for name in names if (match := _COCO_NUMBER.search(name))), None)
        if told is None and found is not None:
            told = found[1]
        keys[number] = picture.file_name if told is None else str(int(told))
    return keys


def read_splits(path: Path) -> dict[int, str]:
    """Splits by picture number: a JSON table {number: split}, or the instances.json of `refseg data templates`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as splits of pictures ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return {int(image["id"]): str(image["split"]) for image in content["images"] if image.get("split")}
    if not isinstance(content, dict):
        raise DataError(f"{path}: a table of splits by picture number is wanted")
    return {int(number): str(split) for number, split in content.items()}


def read_annotated(
    name: str,
    file: Path,
    images: Path,
    *,
    splits: Mapping[int, str] | None = None,
    split_field: str | None = None,
    without: Sequence[str] = (),
) -> list[AnnotatedPicture]:
    """The pictures of a COCO-style file whose objects have masks; crowds are left out.

    Args:
        name: of the source; pictures get the key "name/number".
        file, images: instances.json and the folder of its pictures.
        splits: split of each picture by its number; a picture that is not named there is held out as "unassigned".
        split_field: field of the picture's record that holds its split, where `splits` is None ("split2017", in which
            COCO's val2017 becomes "val2017"). With neither, all are "train".
        without: keys of `picture_keys` that are held out whatever their split says, as "without".

    Raises `DataError` when a file is unusable.
    """
    content = read_instances(file)
    keys, apart = picture_keys(content), set(without)
    objects: dict[int, list[Instance]] = {}
    for record in content.annotations.values():
        if record["image_id"] in content.pictures:
            instance, _ = build_instance(content, record)
            if instance.segmentation is not None and not instance.crowd:
                objects.setdefault(record["image_id"], []).append(instance)
    pictures = []
    for number, picture in sorted(content.pictures.items()):
        path = images / picture.file_name
        if not path.exists():
            raise DataError(f"{path}: the picture {number} of {file} is not there")
        subset = picture.extra.get("subset")
        if keys[number] in apart:
            split = "without"
        elif splits is not None:
            split = splits.get(number, "unassigned")
        else:
            split = str(picture.extra.get(split_field, "train")) if split_field else "train"
            split = {"val": "val2017"}.get(split, split) if split_field == "split2017" else split
        pictures.append(
            AnnotatedPicture(
                f"{name}/{number}",
                path,
                picture.size,
                tuple(objects.get(number, ())),
                f"{name}/{subset}" if isinstance(subset, str) else name,
                split,
                bool(picture.extra.get("exhaustive", True)),
            )
        )
    return pictures


_OFTEN_SILENT = PART_OF | {"vehicle", "van", "tree", "building"}
"""What stands in many pictures that do not annotate it: garments, hair, car parts, things of the street."""
_SECOND_INDEX = {name: number for number, name in enumerate(SECOND)}


def second_index(category: str, drawn: bool) -> int | None:
    """The output of the detector's second head for a category, None where the first head knows it."""
    if drawn:
        return _SECOND_INDEX.get(f"drawn {category}")
    index = class_index(category)
    return None if index is None or index < len(COCO) else _SECOND_INDEX.get(category)


def known_classes(pictures: Sequence[AnnotatedPicture]) -> dict[str, Bool[np.ndarray, " S"]]:
    """For each source, which outputs of the second head its pictures tell about: absence there is absence.

    Drawn classes, and animals and fruit outside COCO, are told about by every source; garments, car parts and things of
    the street only by sources in which they are annotated, and by scenes.
    """
    seen: dict[str, set[int]] = {}
    for picture in pictures:
        found = seen.setdefault(picture.source, set())
        drawn = picture.source.startswith("scenes")
        found |= {index for item in picture.instances if (index := second_index(item.category, drawn)) is not None}
    everywhere = np.array([name not in _OFTEN_SILENT for name in SECOND])
    known = {}
    for source, found in seen.items():
        row = everywhere.copy()
        row[sorted(found)] = True
        known[source] = np.ones_like(row) if source.startswith("scenes") else row
    return known
