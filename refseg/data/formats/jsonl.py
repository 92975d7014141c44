"""The generic format: one JSON object a line, `image`, `text`, `masks`, `boxes`, `no_target`, `split`, `id`.

`jsonl.schema.json` beside this file says what each field is. Every line is checked when the file is opened; all faults
are named with file, line and id, and the records are left out. Lines are read again when a sample is asked for, so that
a large file takes little memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refseg.data import rle
from refseg.data.fields import NOT_UNICODE, Missing, is_unicode
from refseg.data.images import image_size
from refseg.data.masks import bounding_box
from refseg.data.sample import Instance, Problem, ReferringDataset, Sample
from refseg.data.schema import faults, load_schema
from refseg.errors import DataError, RefsegError, did_you_mean
from refseg.files import replacing

__all__ = ["JsonLines", "is_jsonl", "jsonl_file", "read_jsonl", "record_of", "write_jsonl"]

WRITTEN = "data.jsonl"
"""What the file is called in a folder."""

_TOO_LONG = 64 << 20  # bytes of a line: a mask of a picture of the largest size takes less


def is_jsonl(root: str | os.PathLike[str]) -> bool:
    """Whether `root` names a file of the generic format."""
    return Path(root).suffix.lower() in (".jsonl", ".ndjson")


def jsonl_file(root: str | os.PathLike[str]) -> Path | None:
    """The file of the generic format that `root` is, or that lies in the folder `root` as `refseg data convert` calls
    it; None where there is none."""
    path = Path(root) if is_jsonl(root) else Path(root) / WRITTEN
    return path if is_jsonl(root) or path.is_file() else None


def read_jsonl(
    path: str | os.PathLike[str], split: str | None = None, *, need_pictures: bool = True, name: str | None = None
) -> ReferringDataset:
    """The samples of a .jsonl file; `problems` names every record that was left out, and why.

    Args:
        path: the file; pictures are looked for beside it.
        split: only the records of this split.
        need_pictures: leave out records whose picture is not there.
        name: the data set's name where the records do not say; the file's name without its ending otherwise.

    Raises `DataError` when the file is unreadable, has no such split, or no record is usable.
    """
    path = Path(path)
    lines = JsonLines(path, need_pictures, path.stem if name is None else name)
    if split is not None:
        lines.keep(split)
    if not len(lines):
        first = f"; the first fault: {lines.problems[0]}" if lines.problems else "; it is empty"
        raise DataError(f"{path}: no usable record ({len(lines.problems)} faults){first}")
    return ReferringDataset(lines, name=lines.name, split=split, root=path.parent, problems=lines.problems)


@dataclass
class _Pictures:
    """What is known of the pictures of a file: number, size, whether it is there; by the name in the records."""

    folder: Path
    need: bool
    ids: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    paths: dict[str, Path | None] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    def path(self, name: str) -> Path | None:
        """The picture's file, None if it is missing; raises `DataError` for a name that leads out of the folder."""
        if name not in self.paths:
            pure = PurePosixPath(name.replace("\\", "/"))
            if pure.is_absolute() or ".." in pure.parts or "\0" in name or ":" in pure.parts[0]:
                raise DataError(f"image {name!r} leads out of the folder; put pictures beside the .jsonl file")
            path = self.folder / pure
            self.paths[name] = path if path.is_file() else None
        return self.paths[name]

    def size(self, name: str, recorded: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(height, width), from the record, or from the picture; raises `DataError` where they contradict."""
        path = self.path(name)
        if path is None and self.need:
            raise DataError(f"image {name} was not found")
        if name not in self.sizes and path is not None:
            self.sizes[name] = image_size(path)
        known = self.sizes.get(name)
        for size in recorded:
            # An orientation in the header may turn the picture.
            if known is not None and size not in (known, known[::-1]):
                raise DataError(f"a mask of {size[0]} x {size[1]}, but the picture is {known[0]} x {known[1]}")
        if len(set(recorded)) > 1:
            raise DataError("masks of different sizes")
        if recorded:
            self.sizes.setdefault(name, recorded[0])
            return recorded[0]
        if known is None:
            raise DataError("no size: give masks, size, or the picture")
        return known

    def number(self, name: str, recorded: int | None) -> int:
        """The picture's number: the record's, or one that no other picture has."""
        if name not in self.ids:
            number = recorded if recorded is not None else len(self.ids) + 1
            while number in self.used and recorded is None:
                number += 1
            if number in self.used:
                raise DataError(f"image_id {number} belongs to another picture")
            self.ids[name] = number
            self.used.add(number)
        elif recorded is not None and recorded != self.ids[name]:
            raise DataError(f"image_id {recorded}, but the picture had {self.ids[name]} before")
        return self.ids[name]


class JsonLines(Sequence[Sample]):
    """The usable records of a .jsonl file; a `Sample` is built from its line when it is asked for."""

    def __init__(self, path: Path, need_pictures: bool = True, name: str = "") -> None:
        self.path = path
        self.name = name
        self.problems: list[Problem] = []
        self._pictures = _Pictures(path.parent, need_pictures)
        self._objects: dict[bytes, int] = {}
        self._object_ids: set[int] = set()
        missing = Missing(need_pictures)
        offsets: list[tuple[int, int]] = []
        splits: list[str] = []
        seen: dict[str, int] = {}
        position = 0
        try:
            with path.open("rb") as handle:
                for number, raw in enumerate(iter(lambda: handle.readline(_TOO_LONG), b""), 1):
                    start, position = position, position + len(raw)
                    if not raw.strip():
                        continue
                    record, wrong = _parse(raw)
                    key = str(record.get("id", number)) if record is not None else str(number)
                    if record is not None and not wrong:
                        wrong = self._check(record)
                        if key in seen:
                            wrong.append(f"id {key!r} was used before, at line {seen[key]}")
                    where = f"{path.name} line {number} (id {key})"
                    self.problems += [
                        Problem("bad_record", where, fault, lost=int(place == 0)) for place, fault in enumerate(wrong)
                    ]
                    if record is not None and not wrong:
                        seen[key] = number
                        offsets.append((start, number))
                        splits.append(record.get("split", ""))
                        missing.skips(self._pictures.paths.get(record["image"]), record["image"])
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        missing.report(self.problems)
        self._offsets = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
        self._splits = splits

    def keep(self, split: str) -> None:
        """Drop the records of other splits; raises `DataError` if there is none of this one."""
        there = sorted(set(self._splits))
        if split not in there and there:
            raise DataError(f"{self.path}: no split {split!r}; {did_you_mean(split, there)}")
        chosen = [index for index, name in enumerate(self._splits) if name == split]
        self._offsets = self._offsets[chosen]
        self._splits = [split] * len(chosen)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        start, number = (int(value) for value in self._offsets[index])
        with self.path.open("rb") as handle:
            handle.seek(start)
            record, wrong = _parse(handle.readline(_TOO_LONG))
        if record is None or wrong:
            raise DataError(f"{self.path} line {number}: the file has changed since it was opened")
        return self._sample(record, number)

    def _check(self, record: dict[str, Any]) -> list[str]:
        """What the schema cannot say: sizes, counts, encodings, the picture. Remembers picture and objects."""
        wrong: list[str] = []
        masks, boxes = record["masks"], record.get("boxes")
        texts = [*(record.get(key, "") for key in ("text", "id", "split", "kind", "dataset")), record["image"]]
        if not all(is_unicode(str(text)) for text in (*texts, *(record.get("categories") or ()))):
            wrong.append(NOT_UNICODE)
        if record.get("no_target") is True and masks:
            wrong.append(f"no_target is true, but there are {len(masks)} masks")
        if not masks and record.get("no_target") is not True:
            wrong.append("no masks; an expression without target says no_target: true")
        for name, values in (
            ("boxes", boxes),
            ("categories", record.get("categories")),
            ("ann_ids", record.get("ann_ids")),
        ):
            if values is not None and len(values) != len(masks):
                wrong.append(f"{len(values)} {name} for {len(masks)} masks")
        wrong += [
            f"boxes[{index}] {box} is not x1 y1 x2 y2"
            for index, box in enumerate(boxes or ())
            if box[2] < box[0] or box[3] < box[1]
        ]
        sizes = [(mask["size"][0], mask["size"][1]) for mask in masks]
        if "size" in record:
            sizes.append((record["size"][0], record["size"][1]))
        size: tuple[int, int] | None = None
        try:
            size = self._pictures.size(record["image"], list(dict.fromkeys(sizes)))
        except RefsegError as error:
            wrong.append(str(error))
        for index, mask in enumerate(masks):
            try:
                rle.validate(mask, size)
            except RefsegError as error:
                wrong.append(f"masks[{index}]: {error}")
        if size is not None:
            wrong += [
                f"boxes[{index}] {box} lies outside the picture of {size[1]} x {size[0]}"
                for index, box in enumerate(boxes or ())
                if box[2] > size[1] + 1 or box[3] > size[0] + 1
            ]
        if not wrong:
            try:
                self._pictures.number(record["image"], record.get("image_id"))
            except RefsegError as error:
                wrong.append(str(error))
        if not wrong:
            for index in range(len(masks)):
                self._object_id(record, index)
        return wrong

    def _object_id(self, record: dict[str, Any], index: int) -> int:
        """The object's number: the record's, or one for each different mask of a picture."""
        if record.get("ann_ids") is not None:
            number = int(record["ann_ids"][index])
            self._object_ids.add(number)
            return number
        content = json.dumps([record["image"], record["masks"][index]], sort_keys=True)
        key = hashlib.blake2b(content.encode(), digest_size=12).digest()
        if key not in self._objects:
            number = len(self._objects) + 1
            while number in self._object_ids:
                number += 1
            self._objects[key] = number
            self._object_ids.add(number)
        return self._objects[key]

    def _sample(self, record: dict[str, Any], number: int) -> Sample:
        name = record["image"]
        recorded = [(mask["size"][0], mask["size"][1]) for mask in record["masks"][:1]]
        if "size" in record:
            recorded = [(record["size"][0], record["size"][1])]
        size = self._pictures.size(name, recorded)
        categories = record.get("categories") or [""] * len(record["masks"])
        objects = []
        for index, mask in enumerate(record["masks"]):
            if record.get("boxes"):
                left, top, right, bottom = (float(value) for value in record["boxes"][index])
            else:
                left, top, right, bottom = bounding_box(rle.decode(mask, size))
            box = (left, top, right, bottom)
            objects.append(Instance(self._object_id(record, index), categories[index], box, mask))
        return Sample(
            id=str(record.get("id", number)),
            text=record["text"],
            image_id=self._pictures.ids[name],
            size=size,
            objects=tuple(objects),
            no_target=not objects,
            image_path=self._pictures.path(name),
            kind=record.get("kind"),
            split=record.get("split", ""),
            dataset=record.get("dataset", self.name),
            ref_id=record.get("ref_id", -1),
            sent_id=record.get("sent_id", -1),
        )


def record_of(sample: Sample, image: str) -> dict[str, Any]:
    """A sample as a record; `image` is the picture's file relative to the .jsonl file. Masks are compressed."""
    masks = []
    for item in sample.objects:
        if isinstance(item.segmentation, dict) and isinstance(item.segmentation["counts"], str):
            masks.append({"size": list(item.segmentation["size"]), "counts": item.segmentation["counts"]})
        else:
            masks.append(rle.encode(item.mask(sample.size)))
    record: dict[str, Any] = {
        "id": sample.id,
        "image": image,
        "text": sample.text,
        "masks": masks,
        "boxes": [_inside(item.bbox, sample.size) for item in sample.objects],
        "no_target": sample.no_target,
        "split": sample.split,
        "size": list(sample.size),
        "image_id": sample.image_id,
        "categories": [item.category for item in sample.objects],
        "ann_ids": [item.ann_id for item in sample.objects],
    }
    if sample.kind is not None:
        record["kind"] = sample.kind
    if sample.dataset:
        record["dataset"] = sample.dataset
    if sample.ref_id >= 0:
        record["ref_id"] = sample.ref_id
    if sample.sent_id >= 0:
        record["sent_id"] = sample.sent_id
    return record


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> list[float]:
    """The box without what lies outside the picture (annotators draw over the edge)."""
    limits = (size[1], size[0]) * 2
    return [min(max(value, 0.0), float(limit)) for value, limit in zip(box, limits, strict=True)]


def write_jsonl(path: str | os.PathLike[str], records: Iterable[dict[str, Any]]) -> int:
    """Write records, one a line, whole or not at all; returns how many. Raises `DataError` for one that is invalid."""
    schema = load_schema("jsonl")
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        for record in records:
            wrong = faults(record, schema)
            if wrong:
                raise DataError(f"record {record.get('id', count + 1)}: {'; '.join(wrong)}")
            handle.write(json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """A line as a table, and what is wrong with it by the schema."""
    if len(raw) >= _TOO_LONG:
        return None, [f"the line is longer than {_TOO_LONG >> 20} MiB"]
    try:
        record = json.loads(raw.decode("utf-8-sig"), parse_constant=float)
    except (ValueError, RecursionError) as error:
        return None, [f"not valid JSON ({error})"]
    wrong = faults(record, load_schema("jsonl"))
    return (record if isinstance(record, dict) else None), wrong
