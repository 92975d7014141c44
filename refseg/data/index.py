"""The index of a data set: which sentence belongs to which referent, picture and objects. Samples are built on demand.

Whatever cannot be used is found here, when the data set is opened, and not in the middle of a run: it is left out,
counted, and named in `problems`. No torch in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refseg.data.formats.coco import Instances, build_instance
from refseg.data.formats.refcoco import Referent
from refseg.data.layout import PictureFinder
from refseg.data.sample import Instance, Problem, Sample


class SampleIndex(Sequence[Sample]):
    """The usable (referent, sentence) pairs of a data set; holds numbers and builds a `Sample` when asked for one."""

    def __init__(
        self,
        dataset: str,
        referents: list[Referent],
        instances: Instances,
        objects: dict[int, Instance],
        paths: dict[int, Path | None],
        pairs: list[tuple[int, int]],
        repeated: dict[int, str],
    ) -> None:
        self.dataset = dataset
        self.referents = referents
        self.instances = instances.pictures
        self.objects = objects
        self.paths = paths
        self.pairs = np.asarray(pairs, dtype=np.int32).reshape(-1, 2)
        self.repeated = repeated

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        row, column = (int(value) for value in self.pairs[index])
        referent = self.referents[row]
        sentence = referent.sentences[column]
        position = index + len(self) if index < 0 else index
        return Sample(
            id=f"{referent.ref_id}_{sentence.sent_id}{self.repeated.get(position, '')}",
            text=sentence.text,
            image_id=referent.image_id,
            size=self.instances[referent.image_id].size,
            objects=tuple(self.objects[key] for key in referent.ann_ids if key in self.objects),
            no_target=not referent.ann_ids,
            image_path=self.paths[referent.image_id],
            kind=sentence.kind,
            split=referent.split,
            dataset=self.dataset,
            ref_id=referent.ref_id,
            sent_id=sentence.sent_id,
        )


def build_index(
    dataset: str,
    referents: list[Referent],
    instances: Instances,
    finder: PictureFinder,
    *,
    drop_crowd: bool,
    need_pictures: bool = True,
) -> tuple[SampleIndex, list[Problem]]:
    """The index over `referents`, and everything that had to be left out.

    drop_crowd: leave objects marked as crowds out of the targets, as gRefCOCO's published loader does; a referent that
        has no other object is left out. RefCOCO's published loader keeps them.
    need_pictures: leave out sentences whose picture is missing; otherwise their samples have no `image_path`.
    """
    problems: list[Problem] = []
    objects: dict[int, Instance] = {}
    unusable: set[int] = set()
    paths: dict[int, Path | None] = {}
    missing: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    names: dict[tuple[int, int], int] = {}
    repeated: dict[int, str] = {}
    for row, referent in enumerate(referents):
        count = len(referent.sentences)
        where = f"referent {referent.ref_id}"
        record = instances.pictures.get(referent.image_id)
        if record is None:
            message = f"picture {referent.image_id} is not in {instances.path.name}"
            problems.append(Problem("unknown_picture", where, message, count))
            continue
        fault = _load_objects(referent, instances, objects, unusable, problems, drop_crowd)
        if fault is not None:
            problems.append(Problem(fault[0], where, fault[1], count))
            continue
        if referent.image_id not in paths:
            paths[referent.image_id] = finder.find(referent.image_id, record.file_name)
        if paths[referent.image_id] is None:
            missing[referent.image_id] = missing.get(referent.image_id, 0) + count
            if need_pictures:
                continue
        for column, sentence in enumerate(referent.sentences):
            key = (referent.ref_id, sentence.sent_id)
            names[key] = names.get(key, 0) + 1
            if names[key] > 1:
                repeated[len(pairs)] = f"_{names[key]}"
                message = f"sent_id {sentence.sent_id} was used before; kept as {key[0]}_{key[1]}_{names[key]}"
                problems.append(Problem("duplicate_sentence", where, message))
            pairs.append((row, column))
    for image_id, count in missing.items():
        name = instances.pictures[image_id].file_name or f"number {image_id}"
        problems.append(Problem("missing_picture", f"picture {image_id}", f"{name} was not found", count))
    return SampleIndex(dataset, referents, instances, objects, paths, pairs, repeated), problems


def _load_objects(
    referent: Referent,
    instances: Instances,
    objects: dict[int, Instance],
    unusable: set[int],
    problems: list[Problem],
    drop_crowd: bool,
) -> tuple[str, str] | None:
    """Put a referent's objects into `objects`; the kind and words of the fault when its targets cannot be known."""
    kept = 0
    for key in referent.ann_ids:
        record = instances.annotations.get(key)
        if record is None:
            return "unknown_object", f"object {key} is not in {instances.path.name}"
        if record["image_id"] != referent.image_id:
            return "foreign_object", f"object {key} belongs to picture {record['image_id']}, not {referent.image_id}"
        if key not in objects and key not in unusable:
            item, faults = build_instance(instances, record)
            problems += faults
            if drop_crowd and item.crowd:
                problems.append(Problem("crowd", f"{instances.path.name} object {key}", "marked as a crowd; left out"))
                unusable.add(key)
            elif item.segmentation is None:
                unusable.add(key)
            else:
                objects[key] = item
        if key in objects:
            kept += 1
        elif not (drop_crowd and bool(record.get("iscrowd"))):
            return "no_outline", f"object {key} has no usable outline, so the target is not known"
    if referent.ann_ids and not kept:
        return "crowd", "all its objects are crowds"
    return None
