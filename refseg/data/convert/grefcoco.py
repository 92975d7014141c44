"""gRefCOCO's own form, `converted/grefs(converted).json` with `instances.json`, for all tools that read that one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refseg.data import rle
from refseg.data.convert.common import Placer, by_picture, object_numbers, write_json
from refseg.data.sample import Sample

__all__ = ["write_grefcoco"]

_KEY = re.compile(r"^(\d+)_(\d+)$")


def write_grefcoco(samples: Iterable[Sample], folder: Path) -> int:
    """Write `converted/` and `images/train2014/`; returns the number of sentences.

    Sentences of a picture with the same targets become one referent. Ids that are "<ref_id>_<sent_id>" stay if every
    sentence has one and they fit the targets; otherwise sentences are numbered anew.
    """
    placer = Placer(folder / "images" / "train2014")
    images: list[dict[str, Any]] = []
    annotations: dict[int, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    refs: list[dict[str, Any]] = []
    groups = by_picture(samples)
    numbers = object_numbers(groups)
    kept = _keeps_numbers([sample for group in groups.values() for sample in group])
    count = 0
    for image_id, group in groups.items():
        first = group[0]
        name = placer.place(first)
        images.append({"id": image_id, "file_name": name, "height": first.size[0], "width": first.size[1]})
        referents: dict[Any, list[Sample]] = {}
        for sample in group:
            targets = tuple(numbers[image_id, item.ann_id] for item in sample.objects)
            for number, item in zip(targets, sample.objects, strict=True):
                if number not in annotations:
                    left, top, right, bottom = item.bbox
                    mask = item.mask(sample.size)
                    annotations[number] = {
                        "id": number,
                        "image_id": image_id,
                        "category_id": categories.setdefault(item.category or "object", len(categories) + 1),
                        "bbox": [left, top, right - left, bottom - top],
                        "area": float(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": rle.encode(mask),
                    }
            key = _numbers(sample)[0] if kept else (targets, sample.split, None if targets else sample.text)
            referents.setdefault(key, []).append(sample)
        for said in referents.values():
            sent_ids = [_numbers(sample)[1] if kept else count + place for place, sample in enumerate(said)]
            keys = [numbers[image_id, item.ann_id] for item in said[0].objects]
            refs.append(
                {
                    "ref_id": _numbers(said[0])[0] if kept else len(refs),
                    "image_id": image_id,
                    "file_name": name,
                    "split": said[0].split or "train",
                    "ann_id": keys or [-1],
                    "category_id": [annotations[key]["category_id"] for key in keys] or [-1],
                    "no_target": not keys,
                    "sent_ids": sent_ids,
                    "sentences": [_sentence(sample, key) for sample, key in zip(said, sent_ids, strict=True)],
                }
            )
            count += len(said)
    home = folder / "converted"
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    content = {"images": images, "annotations": list(annotations.values()), "categories": listed}
    write_json(home / "instances.json", content)
    write_json(home / "grefs(converted).json", refs)
    return count


def _sentence(sample: Sample, number: int) -> dict[str, Any]:
    words = " ".join(re.sub(r"[^\w\s'-]", " ", sample.text.lower()).split())
    record = {"sent_id": number, "raw": sample.text, "sent": words, "tokens": words.split()}
    return record if sample.kind is None else {**record, "kind": sample.kind}


def _numbers(sample: Sample) -> tuple[int, int]:
    match = _KEY.match(sample.id)
    return (int(match.group(1)), int(match.group(2))) if match else (-1, -1)


def _keeps_numbers(samples: list[Sample]) -> bool:
    """Whether the ids are numbers of referents and sentences, each referent with one picture, split and targets."""
    meaning: dict[int, tuple[Any, ...]] = {}
    for sample in samples:
        ref_id, _ = _numbers(sample)
        what = (sample.image_id, sample.split, tuple(item.ann_id for item in sample.objects))
        if ref_id < 0 or meaning.setdefault(ref_id, what) != what:
            return False
    return True
