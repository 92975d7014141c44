"""COCO JSON with expressions: `instances.json` and, beside images, annotations and categories, a list `expressions`.

    expressions: [{"id", "image_id", "text", "annotation_ids": [...], "no_target", "split", "kind"}, ...]

Other tools pass over the extra list. A file without it is read by what it has: expressions at the annotations (`text`,
`caption`, `expression`, ...; equal ones of a picture mean all their objects), else the categories' names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refseg.data.convert.common import TEXT_FIELDS, CocoTables, Collector, Placer, by_picture, fields_of, read_list
from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.json_files import read_json, write_json
from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.data.source import PictureFinder

__all__ = ["read_coco", "write_coco"]


def write_coco(samples: Iterable[Sample], folder: Path) -> int:
    """Write `instances.json` and `images/`; returns the number of expressions. Masks are run-length encoded, exact."""
    placer = Placer(folder / "images")
    groups = by_picture(samples)
    tables = CocoTables(groups, keep_crowds=True)
    expressions: list[dict[str, Any]] = []
    for image_id, group in groups.items():
        tables.add_image(group[0], f"images/{placer.place(group[0])}")
        for sample in group:
            record = {"image_id": image_id, "text": sample.text, "annotation_ids": tables.add_objects(sample)}
            expressions.append(record | fields_of(sample))
    write_json(folder / "instances.json", tables.content() | {"expressions": expressions})
    return len(expressions)


def read_coco(path: Path, images: Path | None = None) -> ReferringDataset:
    """The expressions of a COCO JSON file; pictures lie in `images`, or beside the file."""
    instances = read_instances(path)
    given = read_json(path)
    collector = Collector(path, path.parent.name or "coco")
    collector.problems += instances.problems
    folders = (images,) if images is not None else (path.parent, path.parent / "images", path.parent / "train2014")
    finder = PictureFinder(folders)
    objects: dict[int, Instance] = {}
    for key, record in instances.annotations.items():
        if record["image_id"] not in instances.pictures:
            collector.fault(f"object {key}", f"picture {record['image_id']} is not recorded")
            continue
        item, faults = build_instance(instances, record)
        collector.problems += faults
        if item.segmentation is not None:
            objects[key] = item
    if "expressions" in given:
        _recorded(collector, instances, objects, finder, read_list(given["expressions"]))
    else:
        _derived(collector, instances, objects, finder)
    return collector.finish()


def _picture(instances: Instances, finder: PictureFinder, key: int) -> tuple[int, Path | None, tuple[int, int]]:
    record = instances.pictures[key]
    return key, finder.find_loosely(record.file_name, key), record.size


def _recorded(
    collector: Collector,
    instances: Instances,
    objects: dict[int, Instance],
    finder: PictureFinder,
    expressions: list[Any],
) -> None:
    for index, record in enumerate(expressions):
        where = f"expressions[{index}]"
        if not isinstance(record, dict):
            collector.fault(where, "not a table", 1)
            continue
        where += f" (id {record.get('id')})"
        key, numbers = record.get("image_id"), read_list(record.get("annotation_ids"))
        if not isinstance(key, int) or key not in instances.pictures:
            collector.fault(where, f"picture {key!r} is not recorded", 1)
            continue
        strange = [number for number in numbers if not isinstance(number, int) or number not in objects]
        foreign = [
            number for number in numbers if number not in strange and instances.annotations[number]["image_id"] != key
        ]
        if strange or foreign:
            what = "of another picture" if foreign else "not there or without outline"
            collector.fault(where, f"objects {strange or foreign} are {what}", 1)
            continue
        picture = _picture(instances, finder, key)
        if picture[1] is None:
            collector.fault(where, f"the picture {instances.pictures[key].file_name} was not found", 1)
            continue
        collector.add(where, record.get("text"), [objects[number] for number in numbers], picture, record)


def _derived(collector: Collector, instances: Instances, objects: dict[int, Instance], finder: PictureFinder) -> None:
    """Expressions from what a plain COCO file has: texts at its annotations, or its categories' names."""
    described = any(_texts(instances.annotations[key]) for key in objects)
    groups: dict[tuple[int, str], list[Instance]] = {}
    for key, item in objects.items():
        if item.crowd:
            continue
        for text in _texts(instances.annotations[key]) if described else [item.category]:
            groups.setdefault((instances.annotations[key]["image_id"], text), []).append(item)
    missing: set[int] = set()
    for (key, text), members in groups.items():
        picture = _picture(instances, finder, key)
        if picture[1] is None:
            if key not in missing:
                collector.fault(f"picture {key}", f"{instances.pictures[key].file_name} was not found", 1)
            missing.add(key)
            continue
        fields = {"split": instances.pictures[key].extra.get("split")}
        collector.add(f"picture {key}", text, members, picture, fields if described else {**fields, "kind": "category"})


def _texts(record: dict[str, Any]) -> list[str]:
    attributes = record.get("attributes")
    texts: dict[str, None] = {}
    for source in (record, attributes if isinstance(attributes, dict) else {}):
        for name in TEXT_FIELDS:
            value = source.get(name, source.get(name + "s"))
            entries = value if isinstance(value, list) else [value]
            texts |= dict.fromkeys(text for text in entries if isinstance(text, str) and text)
    return list(texts)
