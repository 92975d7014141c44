"""YOLO segmentation: `data.yaml`, `images/SPLIT/`, `labels/SPLIT/*.txt` with one polygon a line, normalised to 0..1.

The expressions stand in `expressions.jsonl`, which YOLO's own tools pass over: {"image", "text", "objects": [line
numbers from 0 in the label file], ...}. Without that file the classes' names are the expressions. A mask of several
parts or with holes is one polygon whose loops are joined (`refseg.data.contours`), exact to the pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.contours import single_polygon
from refseg.data.convert.common import (
    Collector,
    Placer,
    Shape,
    by_picture,
    fields_of,
    polygon_mask,
    read_list,
    safe_size,
)
from refseg.data.fields import optional_box
from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.errors import DataError, RefsegError
from refseg.files import write_text

__all__ = ["read_yolo", "write_yolo"]

_NOT_SPLITS = ("path", "names", "nc", "download")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def write_yolo(samples: Iterable[Sample], folder: Path) -> int:
    """Write the data set; returns the number of expressions. Pictures of samples without split go to `train`."""
    placers: dict[str, Placer] = {}
    classes: dict[str, int] = {}
    lines: list[str] = []
    for group in by_picture(samples).values():
        first = group[0]
        split = first.split or "train"
        name = placers.setdefault(split, Placer(folder / "images" / split)).place(first)
        objects: dict[int, Instance] = {}
        for sample in group:
            if (sample.split or "train") != split:
                raise DataError(f"picture {first.image_id}: in the splits {split} and {sample.split}; YOLO keeps one")
            objects |= {item.ann_id: item for item in sample.objects}
        rows = [_row(item, first, classes) for item in objects.values()]
        write_text(folder / "labels" / split / f"{Path(name).stem}.txt", "".join(row + "\n" for row in rows))
        order = list(objects)
        for sample in group:
            record = {
                "image": f"images/{split}/{name}",
                "text": sample.text,
                "objects": [order.index(item.ann_id) for item in sample.objects],
                "ann_ids": [item.ann_id for item in sample.objects],
                "boxes": [list(item.bbox) for item in sample.objects],
                "image_id": sample.image_id,
                **fields_of(sample),
            }
            lines.append(json.dumps(record, ensure_ascii=False))
    write_text(folder / "expressions.jsonl", "".join(line + "\n" for line in lines))
    listed = {split: f"images/{split}" for split in placers}
    names = {number: name for name, number in classes.items()}
    yaml = ["path: .", *(f"{split}: {where}" for split, where in listed.items()), "names:"]
    # A JSON string is a YAML string, whatever it holds.
    yaml += [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in names.items()]
    write_text(folder / "data.yaml", "\n".join(yaml) + "\n")
    return len(lines)


def _row(item: Instance, sample: Sample, classes: dict[str, int]) -> str:
    number = classes.setdefault(item.category or "object", len(classes))
    points = single_polygon(item.mask(sample.size)) / np.array([sample.size[1], sample.size[0]], dtype=np.float64)
    return " ".join([str(number), *(f"{value:.8f}".rstrip("0").rstrip(".") or "0" for value in points.reshape(-1))])


def read_yolo(folder: Path) -> ReferringDataset:
    """The expressions of a YOLO segmentation folder; raises `DataError` when its data.yaml is unusable."""
    settings, path = _settings(folder)
    names = settings.get("names")
    classes = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes.values()):
        raise DataError(f'{path}: "names" is a list or table of the classes\' names')
    collector = Collector(path, folder.name)
    pictures = _pictures(folder, settings, collector)
    shapes: dict[str, list[Shape | None]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in pictures:
        size = safe_size(folder / name)
        if size is None:
            collector.fault(name, "cannot be read as a picture")
            continue
        sizes[name] = size
        shapes[name] = _labels(folder, name, size, classes, collector)
    sidecar = folder / "expressions.jsonl"
    if sidecar.is_file():
        _recorded(collector, sidecar, folder, sizes, shapes)
        return collector.finish()
    for number, name in enumerate(sizes, 1):
        objects = [(shape.category, collector.instance(shape)) for shape in shapes[name] if shape is not None]
        fields = {"split": pictures[name], "kind": "category"}
        collector.add_groups(name, objects, (number, folder / name, sizes[name]), fields)
    return collector.finish()


def _settings(folder: Path) -> tuple[dict[str, Any], Path]:
    import yaml  # type: ignore[import-untyped]

    path = next(
        (folder / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (folder / name).is_file()), None
    )
    if path is None:
        raise DataError(f"{folder}: no data.yaml; this is no YOLO data set")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise DataError(f"{path}: a table with train, val and names is wanted")
    return settings, path


def _pictures(folder: Path, settings: dict[str, Any], collector: Collector) -> dict[str, str]:
    """Relative name -> split of every picture, in the order of splits and names."""
    splits: dict[str, str] = {}
    listed: list[tuple[str, str]] = []
    for split, value in settings.items():
        if (split not in ("train", "val", "test") and not isinstance(value, str)) or split in _NOT_SPLITS:
            continue  # settings of the tools, such as augmentation
        for where in value if isinstance(value, list) else [] if value is None else [value]:
            if isinstance(where, str):
                listed.append((str(split), where))
            else:
                collector.fault(f"{split}: {where!r}", "a folder of pictures is wanted")
    for split, where in listed:
        home = folder / where.removeprefix("../").removeprefix("./")  # "../train/images" is written by some tools
        if not home.resolve().is_relative_to(folder.resolve()) or not home.is_dir():
            collector.fault(f"{split}: {where}", "no such folder in the data set's own")
            continue
        for path in sorted(home.rglob("*")):
            if path.suffix.lower() in _PICTURES:
                splits[path.relative_to(folder).as_posix()] = split
    return splits


def _labels(
    folder: Path, name: str, size: tuple[int, int], classes: dict[Any, str], collector: Collector
) -> list[Shape | None]:
    """The objects of a picture, one a line; None for a line that cannot be used."""
    parts = list(Path(name).with_suffix(".txt").parts)
    if "images" in parts:  # the last folder of that name is the one that labels lie beside
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    path = folder / Path(*parts)
    shapes: list[Shape | None] = []
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        collector.fault(str(Path(*parts)), f"cannot be read ({error})")
        return []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{Path(*parts).as_posix()} line {number}"
        try:
            first, *rest = line.split()
            values = np.array([float(value) for value in rest])
            category = classes[int(first)]
        except (ValueError, KeyError) as error:
            collector.fault(where, f"a class number and the polygon's x y ... are wanted ({error})")
            shapes.append(None)
            continue
        if len(values) == 4:
            collector.fault(where, "a box, not a polygon: this is a data set for detection")
            shapes.append(None)
            continue
        if len(values) % 2 or not ((values >= -0.01) & (values <= 1.01)).all():
            collector.fault(where, "coordinates are pairs between 0 and 1")
            shapes.append(None)
            continue
        points = values.reshape(-1, 2) * np.array([size[1], size[0]])
        try:
            shapes.append(Shape(category, polygon_mask(points.reshape(-1).tolist(), size)))
        except RefsegError as error:
            collector.fault(where, str(error))
            shapes.append(None)
    return shapes


def _recorded(
    collector: Collector,
    sidecar: Path,
    folder: Path,
    sizes: dict[str, tuple[int, int]],
    shapes: dict[str, list[Shape | None]],
) -> None:
    collector.path = sidecar
    numbers: dict[str, int] = {}
    for number, line in enumerate(sidecar.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        where = f"line {number}"
        try:
            record = json.loads(line)
            name, picked = record["image"], read_list(record["objects"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            collector.fault(where, f"a table with image, text and objects is wanted ({error})", 1)
            continue
        where += f" (id {record.get('id')})"
        if not isinstance(name, str) or name not in sizes:
            collector.fault(where, f"the picture {name!r} was not found", 1)
            continue
        rows = shapes[name]
        chosen = [rows[row] if isinstance(row, int) and 0 <= row < len(rows) else None for row in picked]
        if any(shape is None for shape in chosen):
            collector.fault(where, f"objects {picked} are not all usable lines of its label file", 1)
            continue
        keys, boxes = read_list(record.get("ann_ids")), read_list(record.get("boxes"))
        objects = []
        for place, shape in enumerate(chosen):
            assert shape is not None
            key = keys[place] if place < len(keys) and isinstance(keys[place], int) else None
            box = optional_box(boxes[place]) if place < len(boxes) else None
            objects.append(collector.instance(Shape(shape.category, shape.mask, key, box)))
        recorded = record.get("image_id")
        image_id = numbers.setdefault(name, recorded if isinstance(recorded, int) else len(numbers) + 1)
        collector.add(where, record.get("text"), objects, (image_id, folder / name, sizes[name]), record)
