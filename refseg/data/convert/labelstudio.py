"""Label Studio JSON: a list of tasks, one per expression: `data.text` holds it, brush regions are its targets.

Brush regions keep the pixels exactly; on import polygons and rectangles are understood too. Label Studio's brush
encoding is a bit stream: 32 bits for the number of values, 5 for a value's width less 1, four times 4 for the widths of
run lengths less 1; then runs: a bit that tells repeated from single values, 2 for the width of the length, the length
less 1, and the value or values. Values are the RGBA bytes of the mask's picture, row by row; alpha says what is inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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
from refseg.data.fields import optional_box
from refseg.data.images import MAX_PIXELS
from refseg.data.json_files import read_json, write_json
from refseg.data.sample import Instance, ReferringDataset, Sample
from refseg.data.source import PictureFinder
from refseg.errors import DataError, RefsegError
from refseg.files import write_text

__all__ = ["decode_brush", "encode_brush", "read_label_studio", "write_label_studio"]

_RUN_WIDTHS = (4, 8, 12, 16)  # bits of a run length
# Results that are about the task, not about a place in the picture.
_NO_REGIONS = ("choices", "textarea", "relation", "rating", "number", "datetime", "taxonomy", "pairwise", "ranker")
_SETUP = """<View>
  <Text name="sentence" value="$text"/>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="target" toName="image">
{labels}
  </BrushLabels>
</View>
"""


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A (H, W) mask in Label Studio's brush encoding, a list of bytes."""
    flat = np.repeat(mask.reshape(-1).astype(np.uint8), 4)
    ends = np.append(np.flatnonzero(np.diff(flat)) + 1, len(flat))
    bits = [f"{len(flat):032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _RUN_WIDTHS)]
    start = 0
    for end in ends.tolist():
        value = f"{255 * int(flat[start]):08b}"
        while start < end:
            run = min(end - start, 1 << _RUN_WIDTHS[-1])
            pick = next(index for index, width in enumerate(_RUN_WIDTHS) if run <= 1 << width)
            bits += ["1", f"{pick:02b}", f"{run - 1:0{_RUN_WIDTHS[pick]}b}", value]
            start += run
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return np.packbits(np.frombuffer(stream.encode(), dtype=np.uint8) - 48).tolist()


def decode_brush(values: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The (H, W) mask of a brush encoding; raises `DataError` where it is damaged or of another size."""
    if not isinstance(values, list) or not all(isinstance(value, int) and 0 <= value < 256 for value in values):
        raise DataError("a brush's rle is a list of bytes")
    bits = np.unpackbits(np.asarray(values, dtype=np.uint8))
    stream = bits.tobytes().translate(bytes.maketrans(b"\x00\x01", b"01")).decode()
    position = 0

    def read(width: int) -> int:
        nonlocal position
        position += width
        if position > len(stream):
            raise DataError("the brush's rle ends too early")
        return int(stream[position - width : position], 2)

    total, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if total != size[0] * size[1] * 4 or total > 4 * MAX_PIXELS:
        raise DataError(f"the brush's rle holds {total} values, but the picture is {size[0]} x {size[1]}")
    flat = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        repeated = read(1)
        run = read(widths[read(2)]) + 1
        if done + run > total:
            raise DataError("the brush's rle runs past the picture")
        if repeated:
            flat[done : done + run] = read(word) > 0
        else:
            for index in range(done, done + run):
                flat[index] = read(word) > 0
        done += run
    return flat.reshape(*size, 4)[..., 3] > 0


def write_label_studio(samples: Iterable[Sample], folder: Path) -> int:
    """Write `tasks.json`, `setup.xml` (the labelling interface) and `images/`; returns the number of expressions.

    Serve the folder to Label Studio as local storage; pictures are addressed relative to it.
    """
    placer = Placer(folder / "images")
    tasks: list[dict[str, Any]] = []
    labels: set[str] = set()
    for group in by_picture(samples).values():
        for sample in group:
            names = [item.category or "object" for item in sample.objects]
            labels |= set(names)
            result = [_region(item, name, sample) for item, name in zip(sample.objects, names, strict=True)]
            data = {
                "image": f"/data/local-files/?d=images/{placer.place(sample)}",
                "text": sample.text,
                "image_id": sample.image_id,
                "objects": [
                    {"region": f"object_{item.ann_id}", "ann_id": item.ann_id, "box": list(item.bbox)}
                    for item in sample.objects
                ],
                **fields_of(sample),
            }
            tasks.append(
                {"id": len(tasks) + 1, "data": data, "annotations": [{"id": len(tasks) + 1, "result": result}]}
            )
    write_json(folder / "tasks.json", tasks)
    from xml.sax.saxutils import quoteattr

    rows = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in sorted(labels or {"object"}))
    write_text(folder / "setup.xml", _SETUP.format(labels=rows))
    return len(tasks)


def _region(item: Instance, name: str, sample: Sample) -> dict[str, Any]:
    height, width = sample.size
    return {
        "id": f"object_{item.ann_id}",
        "type": "brushlabels",
        "from_name": "target",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_brush(item.mask(sample.size)), "brushlabels": [name]},
    }


def read_label_studio(path: Path, images: Path | None = None) -> ReferringDataset:
    """The expressions of a Label Studio export; the first annotation of each task that was not cancelled counts.

    A task without an expression (`text`, `caption`, `expression`, ... in its data) takes its labels as expressions.
    Pictures lie in `images`, or beside the file.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: a list of tasks is wanted, not {type(tasks).__name__}")
    collector = Collector(path, path.parent.name or "label-studio")
    finder = PictureFinder((images,) if images is not None else (path.parent / "images", path.parent))
    numbers: dict[Path, int] = {}
    for index, task in enumerate(tasks):
        data = task.get("data") if isinstance(task, dict) else None
        where = f"[{index}]"
        if not isinstance(data, dict):
            collector.fault(where, "a task with data is wanted", 1)
            continue
        where += f" (id {data.get('id', task.get('id'))})"
        picture = _find(finder, data)
        size = safe_size(picture)
        if picture is None or size is None:
            collector.fault(where, f"the picture {data.get('image')!r} was not found, or cannot be read", 1)
            continue
        recorded = data.get("image_id")
        image_id = numbers.setdefault(picture, recorded if isinstance(recorded, int) else len(numbers) + 1)
        done = [
            entry for entry in read_list(task.get("annotations", task.get("completions"))) if isinstance(entry, dict)
        ]
        done = [entry for entry in done if not entry.get("was_cancelled")]
        shapes, wrong = _shapes(done[0].get("result") if done else [], data, size)
        for fault in wrong:
            collector.fault(where, fault)
        if wrong:
            collector.fault(where, "left out: its targets are not all known", 1)
            continue
        objects = [collector.instance(shape) for shape in shapes]
        text = next((data[name] for name in TEXT_FIELDS if isinstance(data.get(name), str)), None)
        place = (image_id, picture, size)
        if text is not None:
            # A finished task without any region is an expression without target.
            none = data.get("no_target") is True or (bool(done) and not objects)
            collector.add(where, text, objects, place, {"id": task.get("id", index), **data, "no_target": none})
            continue
        fields = {"split": data.get("split"), "kind": "category"}
        groups = [(item.category, item) for item in objects]
        collector.add_groups(where, groups, place, fields, str(task.get("id", index)))
    return collector.finish()


def _find(finder: PictureFinder, data: dict[str, Any]) -> Path | None:
    address = data.get("image", data.get("img"))
    if not isinstance(address, str) or not address:
        return None
    parts = urlsplit(address)
    named = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = named.lstrip("/")
    path = finder.find_loosely(name.removeprefix("images/"))
    if path is None and "-" in name:  # uploads get eight characters and a dash in front
        path = finder.find_loosely(name.rsplit("/", 1)[-1].partition("-")[2])
    return path


def _shapes(result: Any, data: dict[str, Any], size: tuple[int, int]) -> tuple[list[Shape], list[str]]:
    """The regions of an annotation in the order that the data's `objects` say, and what is wrong with them."""
    known = {str(entry.get("region")): entry for entry in read_list(data.get("objects")) if isinstance(entry, dict)}
    shapes: list[tuple[str, Shape]] = []
    wrong: list[str] = []
    for place, region in enumerate(read_list(result)):
        if not isinstance(region, dict):
            wrong.append(f"region {place} is no table")
            continue
        kind = region.get("type", "")
        if kind in _NO_REGIONS:
            continue
        if kind not in ("brushlabels", "polygonlabels", "rectanglelabels", "brush", "polygon", "rectangle"):
            wrong.append(f"region {region.get('id')!r}: a {kind!r} region has no mask")
            continue
        entry = known.get(str(region.get("id")), {})
        try:
            mask, label = _region_mask(region, kind, size)
        except (RefsegError, KeyError, TypeError, ValueError, OverflowError) as error:
            wrong.append(f"region {region.get('id')!r}: {f'no {error}' if isinstance(error, KeyError) else error}")
            continue
        number = entry.get("ann_id")
        shape = Shape(label, mask, number if isinstance(number, int) else None, optional_box(entry.get("box")))
        shapes.append((str(region.get("id")), shape))
    order = list(known)
    shapes.sort(key=lambda pair: order.index(pair[0]) if pair[0] in known else len(order))
    return [shape for _, shape in shapes], wrong


def _region_mask(region: dict[str, Any], kind: str, size: tuple[int, int]) -> tuple[NDArray[np.bool_], str]:
    recorded = (region.get("original_height", size[0]), region.get("original_width", size[1]))
    if recorded != size:
        raise DataError(f"drawn on {recorded[0]} x {recorded[1]}, but the picture is {size[0]} x {size[1]}")
    value = region["value"]
    if not isinstance(value, dict):
        raise DataError("its value is no table")
    labels = read_list(value.get(kind, value.get(kind + "labels", value.get("labels"))))
    label = labels[0] if labels and isinstance(labels[0], str) else "object"
    if kind.startswith("brush"):
        return decode_brush(value["rle"], size), label
    scale = np.array([size[1], size[0]]) / 100
    if kind.startswith("polygon"):
        points = np.asarray(value["points"], dtype=np.float64).reshape(-1, 2) * scale
        return polygon_mask(points.reshape(-1).tolist(), size), label
    if value.get("rotation"):
        raise DataError("a rotated rectangle; draw a polygon instead")
    left, top = float(value["x"]) * scale[0], float(value["y"]) * scale[1]
    right, bottom = left + float(value["width"]) * scale[0], top + float(value["height"]) * scale[1]
    return box_mask((left, top, right, bottom), size), label
