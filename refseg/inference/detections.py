"""Detections that were made elsewhere as a proposer: COCO's results format, or a COCO file with names.

    [{"image_id": 139, "category_id": 44, "bbox": [x, y, width, height], "score": 0.9, "segmentation": {...}}, ...]
    [{"file_name": "photo.jpg", "category": "crate", "bbox": [...], "score": 0.9}, ...]
    {"images": [{"id": 1, "file_name": ...}], "categories": [{"id": 1, "name": ...}], "annotations": [...]}

`bbox` or `segmentation` (polygons or a run-length encoding, in pixels of the upright picture) may be left out, `score`
is 1 without one. Without `categories` a category_id is COCO's own (1 to 90). A picture is found by `file_name`, by its
number in `images`, or by the number that its file's name ends in; where a file's records name no picture at all, they
are those of any picture that is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image

from refseg.data import rle
from refseg.data.fields import box_xywh, category_names, integer, is_integer
from refseg.data.images import FILENAME
from refseg.data.json_files import read_json
from refseg.data.masks import SegmentationSource, bounding_box, clean_segmentation, rasterise
from refseg.encoders.vision.proposers import Detections
from refseg.errors import DataError, ImageError
from refseg.models.instances.classes import COCO
from refseg.models.instances.concepts import category_weight, normal_category
from refseg.models.instances.words import SAID, Lexicon

__all__ = ["Detection", "DetectionTable", "read_detections"]

LEAST_WEIGHT = 0.3
"""Of a category for a name, from which its things are taken for things of the name."""
LEAST_LIKENESS = 0.5
"""Cosine of MiniLM's vectors from which a word that means none of a file's categories is taken for the nearest one. Of
22 such words in five lists of categories 13 then find theirs and none a wrong one, and none of 30 names of other things
is taken for any; at 0.45 it is 15, none, and 4."""
LEAST_SCORE = 0.25
"""Of a file: where detectors are cut by default (YOLO's predictors)."""
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
_COCO_IDS = dict(zip((number for number in range(1, 91) if number not in _UNUSED), COCO, strict=True))
_NAMES = ("category", "category_name", "label")
_LIMITS = (200_000, 200_000)
"""A picture that is larger than any: for checks before it is known."""


@dataclass(frozen=True)
class Detection:
    """One thing: its category and the names that it goes by besides, as `normal_category` writes them, and where it is,
    in pixels.

    `where` names the record for errors.
    """

    category: str
    box: tuple[float, float, float, float] | None = None
    segmentation: SegmentationSource = None
    score: float = 1.0
    also: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class _Stored:
    records: Sequence[Detection]
    size: tuple[int, int]


class DetectionTable:
    """An `InstanceProposer` of a closed vocabulary: what is stored of each picture."""

    def __init__(
        self,
        source: str,
        pictures: Mapping[str, Sequence[Detection]],
        means: Lexicon,
        any_picture: bool = False,
        least_score: float = LEAST_SCORE,
    ) -> None:
        """
        Args:
            source: what errors call it.
            pictures: detections by file name or number.
            means: for words that are no category but mean one ("sofa", "animal"), or are like one ("lift truck").
            any_picture: whether they are those of every picture, whatever its name.
            least_score: score at which a thing is as likely there as not.
        """
        self.least_score = least_score
        self.source, self.pictures, self.means, self.any_picture = source, pictures, means, any_picture
        found = {(detection.category, detection.also) for records in pictures.values() for detection in records}
        self._kinds = sorted(found)
        self.categories = tuple(sorted({category for category, _ in found}))
        """Normal names of all categories."""
        self._alike: dict[str, str | None] = {}

    def encode_picture(self, picture: Image.Image) -> object:
        """The picture's records; raises `ImageError` where there are none."""
        return _Stored(self._records(picture.info.get(FILENAME)), (picture.height, picture.width))

    def propose(self, encoded: object, names: Sequence[str]) -> list[Detections]:
        """Things of the categories that each name means, with scores times how far it does."""
        assert isinstance(encoded, _Stored)
        return [self._proposed(encoded, name) for name in names]

    def _proposed(self, stored: _Stored, name: str) -> Detections:
        weights: dict[tuple[str, tuple[str, ...]], float] = {}
        alike = self._nearest(name)
        boxes, scores, masks, labels = [], [], [], []
        for record in stored.records:
            key = (record.category, record.also)
            if key not in weights:
                weights[key] = SAID if record.category == alike else self._weight(name, *key)
            if weights[key] < LEAST_WEIGHT:
                continue
            mask = None if record.segmentation is None else _mask(record, stored.size)
            box = record.box or (bounding_box(mask) if mask is not None else None)
            if box is None or min(box[2] - box[0], box[3] - box[1]) <= 0:
                continue
            boxes.append(box)
            scores.append(record.score * weights[key])
            masks.append(mask)
            labels.append(record.category)
        if not boxes:
            return Detections.none()
        height, width = stored.size
        filled = None
        if any(mask is not None for mask in masks):
            # Of some a mask is known: the others are their boxes.
            parts = [
                _filled(box, height, width) if mask is None else mask for box, mask in zip(boxes, masks, strict=True)
            ]
            filled = torch.from_numpy(np.stack(parts))
        return Detections(torch.tensor(boxes), torch.tensor(scores), filled, tuple(labels))

    def _weight(self, name: str, category: str, also: tuple[str, ...]) -> float:
        return category_weight(name, category, self.means, also)

    def _nearest(self, name: str) -> str | None:
        """The category that a name is like, where it means none."""
        if name not in self._alike:
            near = None
            if self.categories and all(self._weight(name, *kind) < LEAST_WEIGHT for kind in self._kinds):
                likeness, category = max(zip(self.means.likeness(name, self.categories), self.categories, strict=True))
                near = category if likeness >= LEAST_LIKENESS else None
            self._alike[name] = near
        return self._alike[name]

    def _records(self, name: str | None) -> Sequence[Detection]:
        if self.any_picture:
            return next(iter(self.pictures.values()), ())
        if name is None:
            raise ImageError(
                f"{self.source}: detections are found by the picture's file name; give the picture as a path"
            )
        path = PurePosixPath(Path(name).as_posix())
        alike = [key for key in self.pictures if not key.startswith("#") and PurePosixPath(key).name == path.name]
        ends = [key for key in alike if path.parts[-len(PurePosixPath(key).parts) :] == PurePosixPath(key).parts]
        if len(ends or alike) == 1:
            return self.pictures[(ends or alike)[0]]
        if len(ends or alike) > 1:
            raise ImageError(f"{self.source}: {name} may be {' or '.join((ends or alike)[:3])}; give its whole path")
        number = re.search(r"(\d+)$", path.stem)
        for key in (f"#{path.stem}", f"#{path.name}", f"#{int(number[1])}" if number else ""):
            if key in self.pictures:
                return self.pictures[key]
        known = ", ".join(key.removeprefix("#") for key in list(self.pictures)[:3])
        raise ImageError(
            f"{self.source}: holds nothing of {name}, but of {known}{' ...' if len(self.pictures) > 3 else ''}; give "
            "its records this file_name, or list it under `images` where nothing was found in it"
        )


def read_detections(path: str | os.PathLike[str], means: Lexicon) -> DetectionTable:
    """The detections of a file; see the module. Raises `DataError` that names file, record and field."""
    path = Path(path)
    content = read_json(path)
    files: dict[object, str] = {}
    names, wider = _COCO_IDS, {}
    pictures: dict[str, list[Detection]] = {}
    if isinstance(content, dict):
        if not isinstance(content.get("annotations"), list):
            raise DataError(f'{path}: a list of detections is wanted, or a table with "annotations"')
        files = _files(path, content.get("images", []))
        pictures = {name: [] for name in files.values()}
        if "categories" in content:
            names, wider = category_names(content["categories"]), _supercategories(content["categories"])
            if not names:
                raise DataError(f'{path}: "categories" holds no record with id and name')
        content = content["annotations"]
    if not isinstance(content, list):
        raise DataError(f"{path}: a list of detections is wanted, not {type(content).__name__}")
    keys = []
    for index, record in enumerate(content):
        where = f"{path}: detection {index}"
        if not isinstance(record, dict):
            raise DataError(f"{where}: a table of fields is wanted, not {type(record).__name__}")
        try:
            keys.append(_picture_of(record, files))
            pictures.setdefault(keys[-1], []).append(_detection(record, where, names, wider))
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    if "" in keys and set(keys) != {""}:
        where = f"{path}: detection {keys.index('')}"
        raise DataError(f"{where}: has no file_name and no image_id, which others have")
    return DetectionTable(str(path), pictures, means, any_picture="" in keys)


def _detection(record: Mapping[str, Any], where: str, names: Mapping[int, str], wider: Mapping[int, str]) -> Detection:
    """A record, checked as far as that is possible without the picture; raises `ValueError`."""
    segmentation: SegmentationSource = None
    given = record.get("segmentation")
    if given not in (None, [], ""):
        if isinstance(given, dict):
            rle.validate(given)
        segmentation, faults = clean_segmentation(given, tuple(given["size"]) if isinstance(given, dict) else _LIMITS)
        if faults:
            raise ValueError(f"segmentation: {faults[0]}")
    box = None
    if record.get("bbox") is not None:
        box = box_xywh(record["bbox"])
        if min(box[2] - box[0], box[3] - box[1]) <= 0:
            raise ValueError(f"bbox {list(record['bbox'])}: width and height are above 0 (x, y, width, height)")
    if box is None and segmentation is None:
        raise ValueError("has neither bbox nor segmentation")
    score = record.get("score", 1.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ValueError(f"score is a number from 0 to 1, not {score!r}")
    named = next((record[field] for field in _NAMES if field in record), None)
    groups: tuple[str, ...] = ()
    if named is None:
        if "category_id" not in record:
            raise ValueError("has no category_id and no category")
        number = integer(record["category_id"], "category_id")
        if number not in names:
            hint = "write its name as `category`, or give a file with `categories`"
            whose = "of COCO's own" if names is _COCO_IDS else "of the file's `categories`"
            raise ValueError(f"category_id {number} is none {whose}; {hint}")
        named = names[number]
        groups = (normal_category(wider[number]),) if number in wider else ()
    if not isinstance(named, str) or not normal_category(named):
        raise ValueError(f"the category is a name of letters, not {named!r}")
    return Detection(normal_category(named), box, segmentation, float(score), groups, where)


def _picture_of(record: Mapping[str, Any], files: Mapping[object, str]) -> str:
    """Under which key a record's picture stands, "" where it names none; raises `ValueError`."""
    name, number = record.get("file_name"), record.get("image_id")
    if name is not None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"file_name is the name of a picture, not {name!r}")
        return Path(name).as_posix()
    if number is None:
        return ""
    if isinstance(number, bool) or not isinstance(number, (int, str)):
        raise ValueError(f"image_id is a number or a name, not {number!r}")
    if files:
        if number not in files:
            raise ValueError(f"image_id {number!r} is not among the file's `images`")
        return files[number]
    return f"#{number}"


def _files(path: Path, records: Any) -> dict[object, str]:
    """`images` as number -> file name."""
    if not isinstance(records, list):
        raise DataError(f'{path}: "images" is a list, not {type(records).__name__}')
    found: dict[object, str] = {}
    for index, record in enumerate(records):
        fields = record if isinstance(record, dict) else {}
        if not isinstance(fields.get("id"), (int, str)) or not isinstance(fields.get("file_name"), str):
            raise DataError(f"{path}: images[{index}]: id and file_name are wanted")
        found[fields["id"]] = Path(fields["file_name"]).as_posix()
    return found


def _supercategories(records: Iterable[Any]) -> dict[int, str]:
    return {
        record["id"]: record["supercategory"]
        for record in records
        if isinstance(record, dict) and is_integer(record.get("id")) and isinstance(record.get("supercategory"), str)
    }


def _mask(record: Detection, size: tuple[int, int]) -> np.ndarray:
    outline, faults = record.segmentation, list[str]()
    try:
        if isinstance(outline, list):
            # What lies far outside is only known now.
            outline, faults = clean_segmentation([part.tolist() for part in outline], size)
        if faults:
            raise DataError(faults[0])
        return rasterise(outline, size)
    except DataError as error:
        raise DataError(f"{record.where}: segmentation: {error}") from error


def _filled(box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """A box as a mask: the pixels whose centres lie in it."""
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    inside = ((rows >= box[1]) & (rows <= box[3]))[:, None]
    return inside & ((columns >= box[0]) & (columns <= box[2]))
