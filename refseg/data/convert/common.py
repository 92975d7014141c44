"""What all converters share: collecting samples with the faults met, placing pictures, names for objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data import rle
from refseg.data.fields import NOT_UNICODE, Box, is_integer, is_unicode
from refseg.data.images import image_size
from refseg.data.masks import bounding_box, clean_segmentation, rasterise
from refseg.data.sample import Instance, Problem, ReferringDataset, Sample
from refseg.errors import DataError, RefsegError
from refseg.files import copy_file, replacing

TEXT_FIELDS = ("text", "expression", "sentence", "caption", "phrase", "description")


@dataclass
class Shape:
    """An object on its way: name, mask (H, W) bool, and its number and box where they were recorded."""

    category: str
    mask: NDArray[np.bool_]
    ann_id: int | None = None
    box: Box | None = None


@dataclass
class Collector:
    """Gathers samples and every fault, then makes the data set of them."""

    path: Path
    name: str
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)
    _objects: int = 0

    def fault(self, where: str, message: str, lost: int = 0) -> None:
        """Note that a record cannot be used."""
        self.problems.append(Problem("bad_record", f"{self.path.name} {where}", message, lost))

    def instance(self, shape: Shape) -> Instance:
        """A shape as an object; numbers are given to those that have none."""
        self._objects += 1
        number = shape.ann_id if shape.ann_id is not None else self._objects
        return Instance(number, shape.category, box_beside(shape.mask, shape.box), rle.encode(shape.mask))

    def add(
        self,
        where: str,
        text: Any,
        objects: Sequence[Instance],
        picture: tuple[int, Path | None, tuple[int, int]],
        fields: dict[str, Any],
    ) -> None:
        """One expression; `fields`: id, split, kind, dataset, ref_id, sent_id. A faulty one is noted instead."""
        if not isinstance(text, str) or not text.strip():
            self.fault(where, "the expression is missing or empty", 1)
            return
        if not is_unicode(text):
            self.fault(where, NOT_UNICODE, 1)
            return
        if not objects and fields.get("no_target") is not True:
            self.fault(where, "no masks, and no_target is not true", 1)
            return
        key = str(fields.get("id", len(self.samples)))
        if key in self._ids:
            self.fault(where, f"id {key!r} was used before", 1)
            return
        self._ids.add(key)
        image_id, path, size = picture
        self.samples.append(
            Sample(
                id=key,
                text=text,
                image_id=image_id,
                size=size,
                objects=tuple(objects),
                no_target=not objects,
                image_path=path,
                kind=_text_or_none(fields.get("kind")),
                split=_text_or_none(fields.get("split")) or "",
                dataset=_text_or_none(fields.get("dataset")) or self.name,
                ref_id=_number(fields.get("ref_id")),
                sent_id=_number(fields.get("sent_id")),
            )
        )

    def add_groups(
        self,
        where: str,
        objects: Iterable[tuple[str, Instance]],
        picture: tuple[int, Path | None, tuple[int, int]],
        fields: dict[str, Any],
        prefix: str = "",
    ) -> None:
        """Each text as one expression about all its objects; with `prefix` its id is "<prefix>_<text>"."""
        groups: dict[str, list[Instance]] = {}
        for text, item in objects:
            groups.setdefault(text, []).append(item)
        for text, members in groups.items():
            self.add(where, text, members, picture, {"id": f"{prefix}_{text}", **fields} if prefix else fields)

    def finish(self) -> ReferringDataset:
        """The data set; raises `DataError` when nothing is usable."""
        if not self.samples:
            first = f"; the first fault: {self.problems[0]}" if self.problems else ""
            raise DataError(f"{self.path}: no usable expression ({len(self.problems)} faults){first}")
        return ReferringDataset(self.samples, name=self.name, root=self.path.parent, problems=self.problems)


@dataclass
class Placer:
    """Puts pictures into a folder, each once, under names that do not clash."""

    folder: Path
    names: dict[int, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def place(self, sample: Sample) -> str:
        """The name that the sample's picture has in the folder; it is written there the first time."""
        if sample.image_id in self.names:
            return self.names[sample.image_id]
        source = sample.image_path
        name = f"{sample.image_id:012d}.png" if source is None else source.name
        if name.lower() in self.taken:
            name = f"{sample.image_id}_{name}"
        self.names[sample.image_id] = name
        self.taken.add(name.lower())
        target = self.folder / name
        if source is not None:
            place_picture(source, target)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                sample.read_image().save(temporary, "PNG")
        return name


def place_picture(source: Path, target: Path) -> None:
    """A copy of the picture at another place, never a second name of the same file: whoever changes one does not change
    the other. Raises `DataError` for a different one that is there already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists():
            if not target.samefile(source) and target.stat().st_size != source.stat().st_size:
                raise DataError(f"{target}: another picture is there already; choose another folder")
            return
        with replacing(target) as temporary:
            copy_file(source, temporary)
    except OSError as error:
        raise DataError(f"{target}: the picture cannot be placed there ({error.strerror})") from error


def box_beside(mask: NDArray[np.bool_], recorded: Box | None) -> Box:
    """The recorded box if it is that of the mask but for fractions of pixels, else the mask's own."""
    own = bounding_box(mask)
    if recorded is not None and max(abs(one - other) for one, other in zip(recorded, own, strict=True)) <= 2.0:
        return recorded
    return own


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as people see it."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    height, width = image_size(path)
    return (width, height) if turned else (height, width)


def read_list(value: Any) -> list[Any]:
    """The value if it is a list, else nothing."""
    return value if isinstance(value, list) else []


def by_picture(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    """Samples by their picture, in order."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.image_id, []).append(sample)
    return groups


def object_numbers(groups: dict[int, list[Sample]]) -> dict[tuple[int, int], int]:
    """(picture, object's number) -> a number that no object of another picture has, its own where that is free.

    Data sets that count objects by picture (ReferIt, video frames) use the same numbers again in every picture.
    """
    numbers: dict[tuple[int, int], int] = {}
    keys = [(image_id, item.ann_id) for image_id, group in groups.items() for one in group for item in one.objects]
    taken: set[int] = set()
    later = []
    for key in dict.fromkeys(keys):
        if key[1] in taken or key[1] < 0:
            later.append(key)
        else:
            numbers[key] = key[1]
            taken.add(key[1])
    first = max(taken, default=0) + 1
    return numbers | {key: first + place for place, key in enumerate(later)}


class CocoTables:
    """COCO's `images`, `annotations` and `categories` of samples, with masks run-length encoded, exact."""

    def __init__(self, groups: dict[int, list[Sample]], keep_crowds: bool) -> None:
        self.numbers = object_numbers(groups)
        self.keep_crowds = keep_crowds
        self.images: list[dict[str, Any]] = []
        self.annotations: dict[int, dict[str, Any]] = {}
        self.categories: dict[str, int] = {}

    def add_image(self, sample: Sample, file_name: str) -> None:
        """The sample's picture."""
        height, width = sample.size
        self.images.append({"id": sample.image_id, "file_name": file_name, "height": height, "width": width})

    def add_objects(self, sample: Sample) -> list[int]:
        """The sample's objects, each once; returns their numbers."""
        keys = [self.numbers[sample.image_id, item.ann_id] for item in sample.objects]
        for key, item in zip(keys, sample.objects, strict=True):
            if key in self.annotations:
                continue
            left, top, right, bottom = item.bbox
            mask = item.mask(sample.size)
            self.annotations[key] = {
                "id": key,
                "image_id": sample.image_id,
                "category_id": self.categories.setdefault(item.category or "object", len(self.categories) + 1),
                "bbox": [left, top, right - left, bottom - top],
                "area": float(mask.sum()),
                "iscrowd": int(item.crowd and self.keep_crowds),
                "segmentation": rle.encode(mask),
            }
        return keys

    def content(self) -> dict[str, Any]:
        """The three tables."""
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        return {"images": self.images, "annotations": list(self.annotations.values()), "categories": categories}


def fields_of(sample: Sample) -> dict[str, Any]:
    """What an expression records besides text and targets, without what is not known."""
    texts = {"id": sample.id, "split": sample.split, "kind": sample.kind, "dataset": sample.dataset}
    numbers = {"ref_id": sample.ref_id, "sent_id": sample.sent_id}
    fields: dict[str, Any] = {key: value for key, value in texts.items() if value}
    fields |= {key: value for key, value in numbers.items() if value >= 0}
    return fields | {"no_target": sample.no_target}


def polygon_mask(points: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of one polygon x1, y1, x2, ... in pixels; raises `DataError` for one that is none."""
    segmentation, faults = clean_segmentation([points], size)
    if segmentation is None:
        raise DataError(faults[0] if faults else "no polygon")
    return rasterise(segmentation, size)


def box_mask(box: Sequence[float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a box xyxy, whose pixels' centres lie inside."""
    mask = np.zeros(size, dtype=bool)
    left, top, right, bottom = (max(0, round(value)) for value in box)
    mask[top:bottom, left:right] = True
    return mask


def safe_size(path: Path | None) -> tuple[int, int] | None:
    """The picture's size, None where it cannot be read."""
    try:
        return None if path is None else picture_size(path)
    except (RefsegError, OSError, ValueError, SyntaxError):
        return None


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int:
    return value if is_integer(value) and value >= 0 else -1
