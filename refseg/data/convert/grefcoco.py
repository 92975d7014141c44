"""gRefCOCO's own format, `converted/grefs(converted).json` with `instances.json`, for all tools that read that one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refseg.data.convert.common import CocoTables, Placer, by_picture
from refseg.data.json_files import write_json
from refseg.data.sample import Sample

__all__ = ["write_grefcoco"]

_KEY = re.compile(r"^(\d+)_(\d+)$")


def write_grefcoco(samples: Iterable[Sample], folder: Path) -> int:
    """Write `converted/` and `images/train2014/`; returns the number of expressions.

    Expressions of a picture with the same targets become one referent. Ids that are "<ref_id>_<sent_id>" stay if every
    expression has one and they fit the targets; otherwise expressions are numbered anew.
    """
    placer = Placer(folder / "images" / "train2014")
    groups = by_picture(samples)
    tables = CocoTables(groups, keep_crowds=False)
    refs: list[dict[str, Any]] = []
    kept = _keeps_numbers([sample for group in groups.values() for sample in group])
    count = 0
    for image_id, group in groups.items():
        name = placer.place(group[0])
        tables.add_image(group[0], name)
        referents: dict[Any, list[tuple[Sample, list[int]]]] = {}
        for sample in group:
            targets = tables.add_objects(sample)
            key = _numbers(sample)[0] if kept else (tuple(targets), sample.split, None if targets else sample.text)
            referents.setdefault(key, []).append((sample, targets))
        for members in referents.values():
            first, keys = members[0]
            sent_ids = [_numbers(sample)[1] if kept else count + place for place, (sample, _) in enumerate(members)]
            refs.append(
                {
                    "ref_id": _numbers(first)[0] if kept else len(refs),
                    "image_id": image_id,
                    "file_name": name,
                    "split": first.split or "train",
                    "ann_id": keys or [-1],
                    "category_id": [tables.annotations[key]["category_id"] for key in keys] or [-1],
                    "no_target": not keys,
                    "sent_ids": sent_ids,
                    "sentences": [_expression(one, key) for (one, _), key in zip(members, sent_ids, strict=True)],
                }
            )
            count += len(members)
    write_json(folder / "converted" / "instances.json", tables.content())
    write_json(folder / "converted" / "grefs(converted).json", refs)
    return count


def _expression(sample: Sample, number: int) -> dict[str, Any]:
    words = " ".join(re.sub(r"[^\w\s'-]", " ", sample.text.lower()).split())
    record = {"sent_id": number, "raw": sample.text, "sent": words, "tokens": words.split()}
    return record if sample.kind is None else {**record, "kind": sample.kind}


def _numbers(sample: Sample) -> tuple[int, int]:
    match = _KEY.match(sample.id)
    return (int(match.group(1)), int(match.group(2))) if match else (-1, -1)


def _keeps_numbers(samples: list[Sample]) -> bool:
    """Whether the ids are numbers of referents and expressions, each referent with one picture, split and targets."""
    targets: dict[int, tuple[Any, ...]] = {}
    for sample in samples:
        ref_id, _ = _numbers(sample)
        what = (sample.image_id, sample.split, tuple(item.ann_id for item in sample.objects))
        if ref_id < 0 or targets.setdefault(ref_id, what) != what:
            return False
    return True
