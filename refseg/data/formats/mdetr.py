"""MDETR's derived JSON: COCO's tables where each "image" is an expression with the picture that it is about.

Kamath et al., "MDETR", ICCV 2021; `finetune_refcoco_train.json`, `finetune_grefcoco_val.json`,
`finetune_phrasecut_*.json`, `final_flickr_separateGT_*.json`:

    {"images": [{"id", "file_name", "height", "width", "original_id", "caption", "dataset_name"}],
     "annotations": [{"image_id", "id", "original_id", "bbox", "category_id", "iscrowd", "tokens_positive", ...}]}

Outlines are in some of the files only; elsewhere the objects have boxes alone. Expressions without annotations mean
nothing (gRefCOCO). For Flickr30k the spans `tokens_positive` become `Sample.phrases`. Keys: `ref_id` is the
annotation's original number (several expressions share it; the picture's number without one), `sent_id` the
expression record's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refseg.data.fields import Missing, attempt, box_xywh, category_names, integer, sentence, size, table
from refseg.data.json_files import read_table
from refseg.data.masks import clean_segmentation
from refseg.data.sample import Instance, Phrase, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, picture_folders
from refseg.errors import DataError

_NAME = re.compile(r"^(?:finetune|final)_(.+?)(?:_(separate|merged)GT)?_(train|val|test[A-C]?|miniv)\.json$")
_PICTURES = (
    "images/train2014", "train2014", "images", "flickr30k-images", "flickr30k_images", "VG_100K", "VG_100K_2", "",
)  # fmt: skip


def find(folder: Path) -> list[DatasetFiles]:
    """One data set for each name among `finetune_<name>_<split>.json`.

    Flickr30k comes twice, with each box by itself and with the boxes of a phrase merged: "mdetr" and "mdetr-merged".
    """
    by_name: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for path in sorted(folder.glob("fin*_*.json")):
        match = _NAME.match(path.name)
        if match is not None:
            maker = "mdetr-merged" if match.group(2) == "merged" else "mdetr"
            name = "flickr30k" if match.group(1).startswith("flickr") else match.group(1)
            by_name.setdefault((name, maker), []).append((match.group(3), path))
    pictures = picture_folders(folder, _PICTURES)
    return [
        DatasetFiles(FORMAT, name, maker, parts[0][1], pictures, parts=tuple(parts))
        for (name, maker), parts in by_name.items()
    ]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample per expression record."""
    finder = PictureFinder(files.picture_folders, coco=files.name not in ("flickr30k", "phrasecut"))
    missing = Missing(options.need_pictures)
    for split, path in files.wanted_parts(options.split):
        content = read_table(path)
        names = category_names(content.get("categories"))
        objects: dict[int, list[Any]] = {}
        for index, record in enumerate(_list(content, "annotations", path)):
            place = f"{path.name} annotations[{index}]"
            key = attempt(place, problems, _expression_of, record, lost=0)
            if key is not None:
                objects.setdefault(key, []).append(record)
        for index, record in enumerate(_list(content, "images", path)):
            where = f"{path.name} images[{index}]"
            sample = attempt(
                where, problems, _sample, record, where, split, objects, names, finder, files.name, problems
            )
            if sample is not None and not missing.skips(sample.image_path, sample.image_id):
                yield sample
    missing.report(problems)


def _sample(
    record: Any,
    where: str,
    split: str,
    annotations: dict[int, list[Any]],
    names: dict[int, str],
    finder: PictureFinder,
    dataset: str,
    problems: list[Problem],
) -> Sample:
    fields = table(record, "an expression")
    key = integer(fields["id"], "id")
    number = integer(fields.get("original_id", fields.get("original_img_id", key)), "original_id")
    sides = size(fields["height"], fields["width"])
    raw = fields["caption"]
    text = sentence(raw, "caption")
    objects: list[Instance] = []
    spans: list[tuple[Instance, Any]] = []
    for place, entry in enumerate(annotations.get(key, [])):
        fault_at = f"{where} object {place}"
        item = _object(table(entry, "an object"), sides, names, fault_at, problems)
        if item.crowd:  # left out by the published loader
            continue
        objects.append(item)
        spans.append((item, entry.get("tokens_positive", [])))
    if key in annotations and not objects:
        raise ValueError("all its objects are crowds")
    ref_id = objects[0].ann_id if objects else number
    file_name = fields.get("file_name", "")
    return Sample(
        id=str(fields["task_id"]) if "task_id" in fields else f"{ref_id}_{key}",
        text=text,
        image_id=number,
        size=sides,
        objects=tuple(objects),
        no_target=not objects,
        image_path=finder.find(number, file_name if isinstance(file_name, str) else ""),
        split=split,
        dataset=dataset,
        ref_id=ref_id,
        sent_id=key,
        phrases=_phrases(raw, text, spans) if dataset == "flickr30k" else (),
    )


def _list(content: dict[str, Any], name: str, path: Path) -> list[Any]:
    if not isinstance(content.get(name), list):
        raise DataError(f'{path}: "{name}" is missing or not a list')
    return content[name]


def _expression_of(record: Any) -> int:
    return integer(table(record, "an object")["image_id"], "image_id")


def _object(
    entry: dict[str, Any], sides: tuple[int, int], names: dict[int, str], where: str, problems: list[Problem]
) -> Instance:
    outline = None
    if entry.get("segmentation"):
        outline, faults = clean_segmentation(entry["segmentation"], sides)
        problems.extend(Problem("bad_polygon", where, fault) for fault in faults)
    category = entry.get("category_id")
    name = names.get(category, "") if isinstance(category, int) else ""
    key = integer(entry.get("original_id", entry["id"]), "id")
    return Instance(key, name, box_xywh(entry["bbox"]), outline, bool(entry.get("iscrowd")))


def _phrases(raw: str, text: str, spans: list[tuple[Instance, Any]]) -> tuple[Phrase, ...]:
    """Objects by the characters that mention them; a span that is not inside the caption is left out."""
    groups: dict[tuple[int, int], list[Instance]] = {}
    for item, tokens in spans:
        for pair in tokens if isinstance(tokens, list) else []:
            if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(v, int) for v in pair):
                groups.setdefault((pair[0], pair[1]), []).append(item)
    phrases = []
    for (start, stop), items_ in sorted(groups.items()):
        words = raw[start:stop]
        if 0 <= start < stop <= len(raw) and text == raw:
            phrases.append(Phrase(words, start, stop, tuple(items_)))
    return tuple(phrases)


FORMAT = Format("mdetr", find, read)
