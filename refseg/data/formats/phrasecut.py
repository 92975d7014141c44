"""PhraseCut as published: phrases of Visual Genome's pictures with polygons of everything that each means.

Wu et al., "PhraseCut: Language-based Image Segmentation in the Wild", CVPR 2020, and the repository's README:

    ROOT/refer_train.json  refer_val.json  refer_test.json  refer_miniv.json
        [{"task_id", "image_id", "ann_ids", "instance_boxes": [[x, y, w, h]], "Polygons": [[[[x, y], ...]]], "phrase",
          "phrase_structure": {"name", "attributes", "relation_ids", "relation_descriptions", "type"}}]
    ROOT/image_data_split3000.json (or image_data_split.json)   picture sizes, COCO numbers and splits
    ROOT/images/2405722.jpg

A sample's `id` is the published `task_id`, its `kind` the phrase's type (name, attribute, relation, verbose). `val`
does not hold `miniv`, a debugging subset. Outlines are filled by this package's own rule (COCO's), the published
evaluation draws them with a graphics library: masks differ by pixels at the edge. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.fields import Missing, attempt, box_xywh, integer, items, sentence, table
from refseg.data.formats.visual_genome import GenomePicture, read_pictures
from refseg.data.json_stream import stream_list
from refseg.data.layout import DatasetFiles, PictureFinder, picture_folders
from refseg.data.masks import clean_segmentation
from refseg.data.readers import ReadOptions, split_matches
from refseg.data.sample import Instance, Problem, Sample

_SPLITS = ("train", "val", "test", "miniv")
_ABOUT = ("image_data_split3000.json", "image_data_split.json")
# Records of a split are fewer: numbers of objects and referents stay apart from split to split.
_APART = 10_000_000
_PICTURES = ("images", "VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "")


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds refer_<split>.json and the pictures' sizes."""
    parts = tuple(
        (name, folder / f"refer_{name}.json") for name in _SPLITS if (folder / f"refer_{name}.json").is_file()
    )
    about = next((folder / name for name in _ABOUT if (folder / name).is_file()), None)
    if not parts or about is None:
        return []
    pictures = picture_folders(folder, _PICTURES)
    return [DatasetFiles("phrasecut", "wu", parts[0][1], about, False, pictures, "phrasecut", parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample a phrase; `ref_id` is the record's place in its split's file, ten millions further a split."""
    about = read_pictures(files.instances, problems)
    finder = PictureFinder(files.picture_folders, coco=False)
    missing = Missing()
    for split, path in files.parts:
        if not split_matches(split, options.split):
            continue
        first = _APART * _SPLITS.index(split)
        for index, record in enumerate(stream_list(path)):
            where = f"{path.name}[{index}]"
            key = first + index
            sample = attempt(where, problems, _sample, record, where, split, key, about, finder, files.name, problems)
            if sample is None:
                continue
            if sample.image_path is None:
                missing.add(str(sample.image_id))
                if options.need_pictures:
                    continue
            yield sample
    missing.tell(problems)


def _sample(
    record: Any,
    where: str,
    split: str,
    key: int,
    about: dict[int, GenomePicture],
    finder: PictureFinder,
    dataset: str,
    problems: list[Problem],
) -> Sample:
    fields = table(record, "a phrase")
    number = integer(fields["image_id"], "image_id")
    if number not in about:
        raise ValueError(f"picture {number} is not among the pictures' sizes")
    sides = about[number].size
    structure = fields.get("phrase_structure") or {}
    kind, name = (structure.get(key) if isinstance(structure, dict) else None for key in ("type", "name"))
    outlines = items(fields["Polygons"], "Polygons")
    boxes = [box_xywh(box, "instance_boxes") for box in items(fields["instance_boxes"], "instance_boxes")]
    if len(boxes) != len(outlines) or not boxes:
        raise ValueError(f"{len(boxes)} instance_boxes, but {len(outlines)} entries in Polygons")
    objects = []
    for place, (box, outline) in enumerate(zip(boxes, outlines, strict=True)):
        flat = [_flat(polygon) for polygon in items(outline, "Polygons")]
        segmentation, faults = clean_segmentation(flat, sides)
        if segmentation is None:
            raise ValueError(f"instance {place} has no usable outline ({faults[0]})")
        problems.extend(Problem("bad_polygon", f"{where} instance {place}", fault) for fault in faults)
        objects.append(Instance(1000 * key + place, name if isinstance(name, str) else "", box, segmentation))
    return Sample(
        id=str(fields["task_id"]),
        text=sentence(fields["phrase"], "phrase"),
        image_id=number,
        size=sides,
        objects=tuple(objects),
        image_path=finder.find(number, f"{number}.jpg"),
        kind=kind if isinstance(kind, str) else None,
        split=split,
        dataset=dataset,
        ref_id=key,
        sent_id=0,
    )


def _flat(polygon: Any) -> Any:
    """[[x, y], ...] as x, y, x, y, ...; what is not that goes through and is named as damaged."""
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError):
        return polygon
    return points.reshape(-1) if points.ndim == 2 and points.shape[1] == 2 else polygon
