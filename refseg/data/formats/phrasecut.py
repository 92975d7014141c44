"""PhraseCut as published: phrases of Visual Genome's pictures with polygons of everything that each means.

Wu et al., "PhraseCut: Language-based Image Segmentation in the Wild", CVPR 2020, and the repository's README:

    ROOT/refer_train.json  refer_val.json  refer_test.json  refer_miniv.json
        [{"task_id", "image_id", "ann_ids", "instance_boxes": [[x, y, w, h]], "Polygons": [[[[x, y], ...]]], "phrase",
          "phrase_structure": {"name", "attributes", "relation_ids", "relation_descriptions", "type"}}]
    ROOT/image_data_split3000.json (or image_data_split.json)   picture sizes, COCO numbers and splits
    ROOT/images/2405722.jpg

A sample's `id` is the published `task_id`, its `kind` the phrase's type (name, attribute, relation, verbose). `val`
does not hold `miniv`, a debugging subset. Outlines are filled by this package's own rule (COCO's), the published
evaluation draws them with a graphics library: masks differ by pixels at the edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.fields import Missing, attempt, box_xywh, integer, items, outline, sentence, table
from refseg.data.formats.visual_genome import PICTURE_FILES, PICTURE_TABLES, GenomePicture, read_pictures
from refseg.data.json_files import stream_list
from refseg.data.published import Published, Release, RemoteFile, SplitCounts
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, Format, PictureFinder, ReadOptions, parts_of, picture_folders

_SPLITS = ("train", "val", "test", "miniv")
_ABOUT = ("image_data_split3000.json", "image_data_split.json")
# Records of a split are fewer: numbers of objects and referents differ from split to split.
_SPLIT_STEP = 10_000_000
_PICTURES = ("images", "VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "")


def find(folder: Path) -> list[DatasetFiles]:
    """The data set where `folder` holds refer_<split>.json and the pictures' sizes."""
    parts = parts_of(folder, "refer_{}.json", _SPLITS)
    about = next((folder / name for name in _ABOUT if (folder / name).is_file()), None)
    if not parts or about is None:
        return []
    return [DatasetFiles(FORMAT, "phrasecut", "wu", parts[0][1], picture_folders(folder, _PICTURES), about, parts)]


def read(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterator[Sample]:
    """One sample a phrase; `ref_id` is the record's place in its split's file, ten millions further a split."""
    about = read_pictures(files.companion, problems)
    finder = PictureFinder(files.picture_folders, coco=False)
    missing = Missing(options.need_pictures)
    for split, path in files.wanted_parts(options.split):
        first = _SPLIT_STEP * _SPLITS.index(split)
        for index, record in enumerate(stream_list(path)):
            where = f"{path.name}[{index}]"
            key = first + index
            sample = attempt(where, problems, _sample, record, where, split, key, about, finder, files.name, problems)
            if sample is not None and not missing.skips(sample.image_path, sample.image_id):
                yield sample
    missing.report(problems)


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
    for place, (box, polygons) in enumerate(zip(boxes, outlines, strict=True)):
        flat = [_flat(polygon) for polygon in items(polygons, "Polygons")]
        try:
            segmentation = outline(flat, sides, f"{where} instance {place}", problems)
        except ValueError as error:
            raise ValueError(f"instance {place} has {error}") from error
        objects.append(Instance(1000 * key + place, name if isinstance(name, str) else "", box, segmentation))
    return Sample(
        id=str(fields["task_id"]),
        text=sentence(fields["phrase"], "phrase"),
        image_id=number,
        size=sides,
        objects=tuple(objects),
        image_path=finder.find(number),
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


FORMAT = Format(
    "phrasecut", find, read,
    (
        Published(
            "phrasecut", "wu",
            {
                "train": SplitCounts(310_816, pictures=71_746), "val": SplitCounts(20_316, pictures=2_971),
                "test": SplitCounts(14_354, pictures=2_545), "miniv": SplitCounts(821, pictures=100),
            },
            "Wu et al., PhraseCut, CVPR 2020, and its repository", pictures=77_262, expressions=345_486,
            note="by its total, the printed val counts miniv too, which refer_val.json does not hold; a first version "
            "of the files held 348,233 phrases",
        ),
    ),
    (
        Release(
            "phrasecut", "PhraseCut",
            "Wu et al., PhraseCut: Language-based Image Segmentation in the Wild, CVPR 2020",
            "https://github.com/ChenyunWu/PhraseCutDataset",
            "annotations: not stated in the repository; pictures: Visual Genome, CC BY 4.0",
            (
                RemoteFile(
                    (), "phrasecut",
                    manual="run the repository's download_dataset.py, or take refer_*.json and "
                    "image_data_split3000.json from its Google Drive folder into phrasecut/",
                ),
                *PICTURE_FILES,
            ),
            (
                "phrasecut/refer_train.json, refer_val.json, ...", "phrasecut/image_data_split3000.json",
                "phrasecut/images/*.jpg or VG_100K/",
            ),
        ),
    ),
    picture_table=PICTURE_TABLES,
)  # fmt: skip
