"""Data sets: `open_dataset` reads what the field publishes, as a sequence of samples. Importing this needs no torch."""

from __future__ import annotations

import os
from collections import Counter
from typing import Literal

from refseg.data.sample import Instance, Problem, ReferringDataset, Sample
from refseg.errors import DataError, did_you_mean

__all__ = ["Instance", "Problem", "ReferringDataset", "Sample", "open_dataset"]


def open_dataset(
    root: str | os.PathLike[str],
    dataset: str | None = None,
    split: str | None = None,
    split_by: str | None = None,
    *,
    sentence: Literal["raw", "sent"] = "raw",
    need_pictures: bool = True,
) -> ReferringDataset:
    """The samples of a data set in the published files' form: RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO, drawn scenes.

    Args:
        root: the folder above `refcoco/`, `grefcoco/`, `images/train2014/`, or one data set's own folder.
        dataset: "refcoco", "refcoco+", "refcocog", "grefcoco", "scenes"; None for the folder's only one.
        split: "train", "val", "testA", ...; None for all.
        split_by: who made the split where a data set has several ("unc", "umd", "google"); None for the usual one.
        sentence: read each sentence as typed ("raw", as ReLA and LAVT do) or as cleaned by the makers ("sent").
        need_pictures: leave out sentences whose picture is not there.

    Records that cannot be used are left out and named in the result's `problems`. Raises `DataError` when there is no
    such data set or split, a file is damaged, or nothing is usable.
    """
    from refseg.data.coco import read_instances
    from refseg.data.grefcoco import read_grefs
    from refseg.data.index import build_index
    from refseg.data.layout import PictureFinder, choose
    from refseg.data.refcoco import read_refs

    files = choose(root, dataset, split_by)
    referents, problems = (read_grefs if files.generalised else read_refs)(files.refs, sentence)
    splits = sorted({referent.split for referent in referents})
    if split is not None:
        if split not in splits:
            raise DataError(f"{files.refs}: no split {split!r}; {did_you_mean(split, splits)}")
        referents = [referent for referent in referents if referent.split == split]
    instances = read_instances(files.instances)
    index, found = build_index(
        files.name,
        referents,
        instances,
        PictureFinder(files.picture_folders),
        drop_crowd=files.generalised,
        need_pictures=need_pictures,
    )
    problems = [*problems, *instances.problems, *found]
    if not len(index):
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(item.kind for item in problems).most_common(3))
        first = next((str(item) for item in reversed(problems) if item.lost), "the file holds no sentences")
        raise DataError(f"{files.refs}: no usable sentence ({kinds or 'empty'}); {first}; see refseg data check {root}")
    return ReferringDataset(
        index, name=files.name, split=split, split_by=files.split_by, root=files.refs.parent, problems=problems
    )
