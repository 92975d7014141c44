"""The derived JSON of SeqTR and of SimREC: one table of splits, each a list of objects with their expressions.

Zhu et al., "SeqTR", ECCV 2022, `annotations/refcoco-unc/instances.json`:

    {"train": [{"image_id", "bbox": [x, y, w, h], "expressions": [...], "mask": polygons or RLE, "height", "width"}]}

Luo et al., SimREC, `anns/refcoco.json` with `masks/refcoco/<mask_id>.npy`:

    {"train": [{"iid", "bbox": [x, y, w, h], "cat_id": 0 to 79, "refs": [...], "mask_id"}], ...}

SimREC records no picture sizes, they are read from the pictures. Its `mask_id` is RefCOCO's `ref_id`; SeqTR has no such
number, there `ref_id` is the record's place in the file (all splits counted through).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.coco import CATEGORIES as COCO_CATEGORIES
from refseg.data.fields import Missing, attempt, box_xywh, integer, items, outline, sentence, size, table
from refseg.data.images import image_size
from refseg.data.json_files import read_table
from refseg.data.masks import MaskFile, SegmentationSource
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, picture_folders, split_matches
from refseg.errors import DataError

_HEAD = re.compile(r'^\s*\{\s*"(train|val|test)[A-Za-z0-9_]*"\s*:\s*\[\s*(\{|\])')
_NAMES = ("refcoco", "refcoco+", "refcocog", "refclef", "flickr30k", "merge", "mixed")
_SEQTR = {"refcocoplus": "refcoco+", "referitgame": "refclef", "flickr30k": "flickr30k"}
_PICTURES = (
    "images/train2014", "images/mscoco/train2014", "train2014", "images/saiaprtc12", "images/refclef",
    "images/flickr30k", "images/flickr", "images/visual-genome", "images/VG", "images", "",
)  # fmt: skip


def find(folder: Path) -> list[DatasetFiles]:
    """SeqTR's instances.json in `folder`, and SimREC's files by data set name in it (the folder is called anns)."""
    found = []
    if _is_splits(folder / "instances.json"):
        base, _, maker = folder.resolve().name.partition("-")
        ups = (folder.parent.parent, folder.parent.parent.parent)
        split_by = f"seqtr-{maker}" if maker else "seqtr"
        found.append(_files(folder / "instances.json", _SEQTR.get(base, base), split_by, ups))
    paths = [folder / f"{name}.json" for name in _NAMES]
    return found + [_files(path, path.stem, "simrec", (folder.parent,)) for path in paths if _is_splits(path)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample per expression; the cleaned expressions of RefCOCO, as these files hold no others."""
    finder = PictureFinder(files.picture_folders, coco=files.name not in ("refclef", "flickr30k", "merge", "mixed"))
    bases = (files.main.parent.parent, files.main.parent)
    masks = next((base / "masks" / files.main.stem for base in bases
                  if (base / "masks" / files.main.stem).is_dir()), None)  # fmt: skip
    missing, place = Missing(options.need_pictures), 0
    counts: Counter[int] = Counter()
    for split, records in read_table(files.main).items():
        if not isinstance(records, list):
            problems.append(Problem("bad_record", f"{files.main.name} {split}", "not a list"))
            continue
        for index, record in enumerate(records):
            place += 1
            if not split_matches(split, options.split):
                continue
            where = f"{files.main.name} {split}[{index}]"
            count = len(_texts(record)) if isinstance(record, dict) else 1
            entry = attempt(where, problems, _picture, record, finder, lost=count)
            if entry is None:
                continue
            number, path, texts = entry
            if missing.skips(path, number, count):
                continue
            made = attempt(where, problems, _target, record, path, masks, where, problems, lost=count)
            if made is None:
                continue
            sides, item = made
            ref_id = item.ann_id if item.ann_id >= 0 else place - 1
            for words in texts:
                # Outside training every expression is a record of its own, with its object's number.
                sent_id = counts[ref_id]
                counts[ref_id] += 1
                text = attempt(f"{where} expression {sent_id}", problems, sentence, words, "the expression")
                if text is not None:
                    yield Sample(
                        f"{ref_id}_{sent_id}", text, number, sides, (item,), image_path=path, split=split,
                        dataset=files.name, ref_id=ref_id, sent_id=sent_id,
                    )  # fmt: skip
    missing.report(problems)


def _is_splits(path: Path) -> bool:
    """By the first letters: the whole file may have hundreds of megabytes."""
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            return _HEAD.match(handle.read(400)) is not None
    except OSError:
        return False


def _files(path: Path, name: str, split_by: str, ups: tuple[Path, ...]) -> DatasetFiles:
    further = (up / folder for up in ups for folder in _PICTURES if folder)
    return DatasetFiles(FORMAT, name, split_by, path, (*picture_folders(path.parent, _PICTURES), *further))


def _texts(record: dict[str, Any]) -> list[Any]:
    texts = record.get("expressions", record.get("refs"))
    return texts if isinstance(texts, list) else []


def _picture(record: Any, finder: PictureFinder) -> tuple[int, Path | None, list[Any]]:
    fields = table(record, "an object")
    number = integer(fields["image_id"] if "image_id" in fields else fields["iid"], "image_id")
    texts = items(fields["expressions"] if "expressions" in fields else fields["refs"], "expressions")
    if not texts:
        raise ValueError("there are no expressions")
    source = str(fields.get("data_source", ""))
    name = f"COCO_train2014_{number:012d}.jpg" if "coco" in source else f"{number}.jpg"
    return number, finder.find(number, name), texts


def _sides(record: dict[str, Any], path: Path | None) -> tuple[int, int]:
    if "height" in record and "width" in record:
        return size(record["height"], record["width"])
    if path is None:
        raise ValueError("the picture's size is not recorded, and the picture is not there")
    return image_size(path)


def _target(
    record: dict[str, Any], path: Path | None, masks: Path | None, where: str, problems: list[Problem]
) -> tuple[tuple[int, int], Instance]:
    sides = _sides(record, path)
    segmentation: SegmentationSource = None
    key = integer(record.get("mask_id", -1), "mask_id")
    if record.get("mask") is not None:
        segmentation = outline(record["mask"], sides, where, problems)
    elif key >= 0 and masks is not None:
        if not (masks / f"{key}.npy").is_file():
            raise DataError(f"{masks / f'{key}.npy'}: the mask's file is missing")
        segmentation = MaskFile(masks / f"{key}.npy", None)
    category = record.get("cat_id")
    name = COCO_CATEGORIES[category] if isinstance(category, int) and 0 <= category < 80 else ""
    return sides, Instance(key, name, box_xywh(record["bbox"]), segmentation)


FORMAT = Format("split-lists", find, read)
