"""`instances.json`, the COCO format in which data sets keep pictures, objects and categories."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.fields import box_xywh, category_names, is_integer
from refseg.data.images import MAX_PIXELS
from refseg.data.json_files import read_json
from refseg.data.masks import bounding_box, clean_segmentation, rasterise
from refseg.data.sample import Instance, Problem
from refseg.errors import DataError

_PICTURE_FIELDS = ("id", "file_name", "height", "width")


@dataclass(frozen=True)
class PictureRecord:
    """A picture as recorded: the file's name (not to be trusted), (height, width), and its further fields."""

    file_name: str
    size: tuple[int, int]
    extra: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Instances:
    """The contents of one instances.json: pictures and raw annotations by number, category names by number."""

    path: Path
    pictures: dict[int, PictureRecord]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, str]
    problems: list[Problem]
    supercategories: dict[int, str] = field(default_factory=dict)
    licenses: dict[int, str] = field(default_factory=dict)
    """Names and addresses of licences by number."""


def read_instances(path: str | os.PathLike[str]) -> Instances:
    """Read and check an instances.json.

    Records that cannot be used are left out and named in `problems`. Raises `DataError` when the file is unreadable or
    holds no usable picture.
    """
    path = Path(path)
    content = read_json(path, _compact)
    if not isinstance(content, dict):
        raise DataError(f'{path}: a table with "images" and "annotations" is wanted, not {type(content).__name__}')
    problems: list[Problem] = []
    pictures: dict[int, PictureRecord] = {}
    for index, record in enumerate(_records(content, "images", path)):
        where = f"{path.name} images[{index}]"
        try:
            key, size = record["id"], (record["height"], record["width"])
        except (KeyError, TypeError):
            problems.append(Problem("bad_record", where, "a picture needs id, height and width"))
            continue
        if (
            not is_integer(key)
            or not all(is_integer(side) and side > 0 for side in size)
            or size[0] * size[1] > MAX_PIXELS
        ):
            problems.append(Problem("bad_record", where, f"id {key!r} and size {size!r} are not usable"))
        elif key in pictures:
            problems.append(Problem("duplicate_picture", where, f"picture {key} is recorded twice; the first counts"))
        else:
            name = record.get("file_name", "")
            extra = {entry: value for entry, value in record.items() if entry not in _PICTURE_FIELDS}
            pictures[key] = PictureRecord(name if isinstance(name, str) else "", size, extra)
    annotations: dict[int, dict[str, Any]] = {}
    for index, record in enumerate(_records(content, "annotations", path)):
        where = f"{path.name} annotations[{index}]"
        if not isinstance(record, dict) or not is_integer(record.get("id")) or not is_integer(record.get("image_id")):
            problems.append(Problem("bad_record", where, "an object needs the integers id and image_id"))
        elif record["id"] in annotations:
            problems.append(
                Problem("duplicate_object", where, f"object {record['id']} is recorded twice; the first counts")
            )
        else:
            annotations[record["id"]] = record
    listed = content.get("categories")
    named = [record for record in listed if isinstance(record, dict)] if isinstance(listed, list) else []
    categories = category_names(named)
    supercategories = {
        record["id"]: record["supercategory"]
        for record in named
        if is_integer(record.get("id")) and record["id"] in categories and isinstance(record.get("supercategory"), str)
    }
    if not pictures:
        raise DataError(f"{path}: no usable picture among the images" + (f" ({problems[0]})" if problems else ""))
    return Instances(path, pictures, annotations, categories, problems, supercategories, _licenses(content))


def _licenses(content: dict[str, Any]) -> dict[int, str]:
    """The licences of a file as text: the name, the address behind it."""
    listed = content.get("licenses")
    found = {}
    for record in listed if isinstance(listed, list) else []:
        if isinstance(record, dict) and is_integer(record.get("id")):
            parts = [record[name] for name in ("name", "url") if isinstance(record.get(name), str) and record[name]]
            found[record["id"]] = " ".join(dict.fromkeys(parts))
    return found


def build_instance(instances: Instances, record: dict[str, Any]) -> tuple[Instance, list[Problem]]:
    """One annotation as an `Instance` and what was wrong with it; `segmentation` is None when nothing was usable."""
    key = record["id"]
    where = f"{instances.path.name} object {key}"
    size = instances.pictures[record["image_id"]].size
    segmentation, faults = clean_segmentation(record.get("segmentation"), size)
    kind = "bad_polygon" if segmentation is not None else "no_outline"
    problems = [Problem(kind, where, fault) for fault in faults]
    category = record.get("category_id")
    name = instances.categories.get(category) if isinstance(category, int) else ""
    if name is None:
        name = f"category {category}"
        problems.append(Problem("unknown_category", where, f"category {category} is not among the categories"))
    try:
        box = box_xywh(record.get("bbox"))
    except ValueError:
        problems.append(Problem("bad_box", where, "bbox is not x, y, width, height; taken from the outline"))
        box = bounding_box(rasterise(segmentation, size))
    return Instance(key, name, box, segmentation, crowd=bool(record.get("iscrowd"))), problems


def _compact(record: dict[str, Any]) -> dict[str, Any]:
    """An annotation with its polygons as arrays: a published file of 140 MB would take 2 GB as lists of numbers."""
    outline = record.get("segmentation")
    if isinstance(outline, list):
        record["segmentation"] = [_as_array(polygon) for polygon in outline]
    return record


def _as_array(polygon: Any) -> Any:
    try:
        return np.array(polygon, dtype=np.float64) if isinstance(polygon, list) else polygon
    except (TypeError, ValueError, OverflowError):
        return polygon  # no list of numbers: named when the object is used


def _records(content: dict[str, Any], field: str, path: Path) -> list[Any]:
    records = content.get(field)
    if not isinstance(records, list):
        raise DataError(f'{path}: "{field}" is missing or not a list; this is no COCO instances file')
    return records
