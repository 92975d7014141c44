"""CVAT JSON: annotations as CVAT's server, SDK and task backups write them, with masks in CVAT's own encoding.

    annotations.json      [{"version", "tags": [...], "shapes": [...], "tracks": [...]}]
    data/manifest.jsonl   two lines of heading, then one picture a line: the frames in order
    labels.json           the labels, to paste into the "Raw" tab of a new task

An expression is a tag `expression` on its frame, with the attributes text, objects (numbers of shapes), id, split,
kind. A shape's attribute `object` is its number. A mask's points are run lengths inside its box, row by row and
beginning with zeros, then the box: left, top, right, bottom, the last pixel included. Files without such tags are read
by their labels, or by a shape's attribute `text`, `caption`, `expression`, ...
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refseg.data.convert.common import (
    TEXT_FIELDS,
    Collector,
    Placer,
    Shape,
    box_mask,
    by_picture,
    fields_of,
    polygon_mask,
    read_list,
    safe_size,
)
from refseg.data.fields import Box, finite_numbers, optional_box
from refseg.data.json_files import read_json, write_json
from refseg.data.masks import bounding_box
from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.data.source import PictureFinder
from refseg.errors import DataError, RefsegError
from refseg.files import write_text

__all__ = ["decode_mask", "encode_mask", "read_cvat", "write_cvat"]

_TAG = "expression"
_TAG_FIELDS = ("text", "objects", "id", "split", "kind", "dataset", "ref_id", "sent_id", "no_target", "image_id")


def encode_mask(mask: NDArray[np.bool_]) -> list[int]:
    """A (H, W) mask as CVAT's points; raises `DataError` for an empty one."""
    left, top, right, bottom = (int(value) for value in bounding_box(mask))
    if right <= left:
        raise DataError("an empty mask cannot be written as a CVAT shape")
    flat = mask[top:bottom, left:right].reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [*([0] if flat[0] else []), *runs, left, top, right - 1, bottom - 1]


def decode_mask(points: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of CVAT's points; raises `DataError` where they are damaged or reach out of the picture."""
    if not isinstance(points, list) or len(points) < 5 or finite_numbers(points, len(points)) is None:
        raise DataError("a mask's points are run lengths and left, top, right, bottom")
    *runs, left, top, right, bottom = (int(value) for value in points)
    if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
        raise DataError(f"the mask reaches out of the picture of {size[1]} x {size[0]}")
    width, height = right - left + 1, bottom - top + 1
    if min(runs) < 0 or sum(runs) > width * height:
        raise DataError(f"the runs add up to {sum(runs)} pixels, but the box is {height} x {width}")
    flat = np.zeros(width * height, dtype=bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat[: len(inside)] = inside
    mask = np.zeros(size, dtype=bool)
    mask[top : bottom + 1, left : right + 1] = flat.reshape(height, width)
    return mask


def write_cvat(samples: Iterable[Sample], folder: Path) -> int:
    """Write the three files and the pictures, under `data/`; returns the number of expressions."""
    placer = Placer(folder / "data")
    manifest = ['{"version":"1.1"}', '{"type":"images"}']
    tags: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    labels: dict[str, None] = {}
    for frame, group in enumerate(by_picture(samples).values()):
        path = Path(placer.place(group[0]))
        height, width = group[0].size
        line = {"name": path.stem, "extension": path.suffix, "width": width, "height": height, "meta": {}}
        manifest.append(json.dumps(line, ensure_ascii=False))
        objects = {item.ann_id: item for sample in group for item in sample.objects}
        for item in objects.values():
            labels[item.category or "object"] = None
            attributes = {"object": str(item.ann_id), "box": json.dumps(list(item.bbox))}
            points = encode_mask(item.mask(group[0].size))
            shapes.append({"type": "mask", **_common(frame, item.category or "object", attributes), "points": points})
        for sample in group:
            numbers = " ".join(str(item.ann_id) for item in sample.objects)
            fields = {"text": sample.text, "objects": numbers, "image_id": sample.image_id, **fields_of(sample)}
            given = {name: _attribute(value) for name, value in fields.items()}
            tags.append({key: value for key, value in _common(frame, _TAG, given).items() if key not in _SHAPE_ONLY})
    write_json(folder / "annotations.json", [{"version": 0, "tags": tags, "shapes": shapes, "tracks": []}])
    write_text(folder / "data" / "manifest.jsonl", "\n".join(manifest) + "\n")
    setup = [{"name": _TAG, "type": "tag", "attributes": [_spec(name) for name in _TAG_FIELDS]}]
    setup += [{"name": name, "type": "mask", "attributes": [_spec("object"), _spec("box")]} for name in labels]
    write_json(folder / "labels.json", setup)
    return len(tags)


_SHAPE_ONLY = ("occluded", "outside", "z_order", "rotation", "elements")


def _common(frame: int, label: str, attributes: dict[str, str]) -> dict[str, Any]:
    return {
        "frame": frame,
        "label": label,
        "group": 0,
        "source": "manual",
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "elements": [],
        "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
    }


def _spec(name: str) -> dict[str, Any]:
    return {"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}


def _attribute(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_cvat(path: Path, images: Path | None = None) -> ReferringDataset:
    """The expressions of CVAT annotations; `path` is the file, or the folder that holds annotations.json.

    Frames are named by data/manifest.jsonl, or by meta.json ({"frames": [{"name", ...}]}) beside the file; pictures lie
    in `images`, in data/ or beside the file. Of tracks the key frames are read.
    """
    if path.is_dir():
        path = path / "annotations.json"
    content = read_json(path)
    jobs = content if isinstance(content, list) else [content]
    if not jobs or not all(isinstance(job, dict) and isinstance(job.get("shapes"), list) for job in jobs):
        raise DataError(f"{path}: annotations with tags, shapes and tracks are wanted")
    collector = Collector(path, path.parent.name or "cvat")
    folders = (images,) if images is not None else (path.parent / "data", path.parent / "images", path.parent)
    finder = PictureFinder(folders)
    names = _frames(path.parent)
    labels = _labels(path.parent)
    pictures: dict[int, tuple[Path, tuple[int, int]]] = {}
    for number, name in enumerate(names):
        source = finder.find_loosely(name)
        size = safe_size(source)
        if source is None or size is None:
            collector.fault(f"frame {number}", f"{name} was not found, or cannot be read")
        else:
            pictures[number] = (source, size)
    shapes: dict[int, list[tuple[Shape, dict[str, str]]]] = {}
    for index, record in enumerate(_all_shapes(jobs, collector)):
        frame = record.get("frame")
        where = f"shape {index}, frame {frame}"
        if not isinstance(frame, int) or frame not in pictures:
            collector.fault(where, "there is no such frame with a picture")
            continue
        given = _attributes(record)
        label = record.get("label", labels.get(record.get("label_id"), "object"))
        try:
            mask = _mask_of(record, pictures[frame][1])
            if not mask.any():
                raise DataError("covers no pixel")
        except RefsegError as error:
            collector.fault(where, str(error))
            continue
        shapes.setdefault(frame, []).append((Shape(str(label), mask, *_recorded(given)), given))
    tags = [tag for job in jobs for tag in _tables(job.get("tags"), "tags", collector)]
    tags = [tag for tag in tags if tag.get("label", labels.get(tag.get("label_id"))) == _TAG]
    if tags:
        _from_tags(collector, tags, shapes, pictures)
    else:
        _from_labels(collector, shapes, pictures)
    return collector.finish()


def _from_tags(
    collector: Collector,
    tags: list[dict[str, Any]],
    shapes: dict[int, list[tuple[Shape, dict[str, str]]]],
    pictures: dict[int, tuple[Path, tuple[int, int]]],
) -> None:
    built: dict[int, dict[str, Instance]] = {}
    for index, tag in enumerate(tags):
        given, frame = _attributes(tag), tag.get("frame")
        where = f"tag {index} (id {given.get('id')})"
        if not isinstance(frame, int) or frame not in pictures:
            collector.fault(where, f"there is no frame {frame!r} with a picture", 1)
            continue
        if frame not in built:
            built[frame] = {
                attributes.get("object", f"#{place}"): collector.instance(shape)
                for place, (shape, attributes) in enumerate(shapes.get(frame, ()))
            }
        wanted = given.get("objects", "").replace(",", " ").split()
        lacking = [key for key in wanted if key not in built[frame]]
        if lacking:
            collector.fault(where, f"objects {' '.join(lacking)} are not usable shapes of frame {frame}", 1)
            continue
        fields: dict[str, Any] = dict(given)
        fields |= {name: _integer(given.get(name)) for name in ("ref_id", "sent_id")}
        fields["no_target"] = given.get("no_target") == "true"
        image_id = _integer(given.get("image_id"))
        picture = (frame + 1 if image_id is None else image_id, *pictures[frame])
        collector.add(where, given.get("text"), [built[frame][key] for key in wanted], picture, fields)


def _from_labels(
    collector: Collector,
    shapes: dict[int, list[tuple[Shape, dict[str, str]]]],
    pictures: dict[int, tuple[Path, tuple[int, int]]],
) -> None:
    described = any(given.get(name) for group in shapes.values() for _, given in group for name in TEXT_FIELDS)
    for frame, group in sorted(shapes.items()):
        texts: list[tuple[str, Instance]] = []
        for shape, given in group:
            text = next((given[name] for name in TEXT_FIELDS if given.get(name)), "") if described else shape.category
            if text:
                texts.append((text, collector.instance(shape)))
        fields = {} if described else {"kind": "category"}
        collector.add_groups(f"frame {frame}", texts, (frame + 1, *pictures[frame]), fields)


def _all_shapes(jobs: list[dict[str, Any]], collector: Collector) -> list[dict[str, Any]]:
    every: list[dict[str, Any]] = []
    for job in jobs:
        every += _tables(job["shapes"], "shapes", collector)
        for track in _tables(job.get("tracks"), "tracks", collector):
            name: dict[str, Any] = {key: track[key] for key in ("label", "label_id") if key in track}
            keys = _tables(track.get("shapes"), "a track's shapes", collector)
            every += [{**name, **shape} for shape in keys if not shape.get("outside")]
    return every


def _tables(value: Any, name: str, collector: Collector) -> list[dict[str, Any]]:
    """The tables in a list; whatever else is in it is a fault."""
    entries = read_list(value)
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            collector.fault(f"{name}[{place}]", "not a table")
    return [entry for entry in entries if isinstance(entry, dict)]


def _mask_of(record: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    kind, points = record.get("type"), record.get("points")
    if kind == "mask":
        return decode_mask(points, size)
    if kind == "polygon":
        return polygon_mask(points, size)
    if kind == "rectangle":
        box = optional_box(points)
        if box is None or record.get("rotation"):
            raise DataError("a rectangle has four numbers and no rotation")
        return box_mask(box, size)
    raise DataError(f"a shape of type {kind!r} has no mask")


def _attributes(record: dict[str, Any]) -> dict[str, str]:
    listed = [entry for entry in read_list(record.get("attributes")) if isinstance(entry, dict)]
    return {str(entry.get("name", entry.get("spec_id"))): str(entry.get("value", "")) for entry in listed}


def _recorded(given: dict[str, str]) -> tuple[int | None, Box | None]:
    """A shape's number and box from its attributes."""
    try:
        box = optional_box(json.loads(given.get("box", "null")))
    except (ValueError, RecursionError):
        box = None
    return _integer(given.get("object")), box


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None


def _frames(folder: Path) -> list[str]:
    """The frames' names in order."""
    manifest, meta = folder / "data" / "manifest.jsonl", folder / "meta.json"
    if manifest.is_file():
        names = []
        for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{manifest}: not valid JSON lines ({error})") from error
            if isinstance(entry, dict) and "name" in entry:
                names.append(f"{entry['name']}{entry.get('extension', '')}")
        return names
    if meta.is_file():
        content = read_json(meta)
        frames = read_list(content.get("frames")) if isinstance(content, dict) else []
        return [str(frame.get("name", "")) for frame in frames if isinstance(frame, dict)]
    raise DataError(f"{folder}: no data/manifest.jsonl and no meta.json, so the frames' pictures are not known")


def _labels(folder: Path) -> dict[Any, str]:
    """The labels' names by number, where a labels.json or task.json tells them."""
    for name in ("labels.json", "task.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            listed = content.get("labels") if isinstance(content, dict) else content
            return {
                entry["id"]: str(entry["name"])
                for entry in read_list(listed)
                if isinstance(entry, dict) and "id" in entry and "name" in entry
            }
    return {}
