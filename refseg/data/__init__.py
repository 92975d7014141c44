"""Data sets: `open_dataset` reads what the field publishes, as a sequence of samples."""

from __future__ import annotations

import os
from collections import Counter
from typing import Literal

from refseg.data.sample import Instance, Phrase, Problem, ReferringDataset, Sample
from refseg.errors import DataError

__all__ = ["Instance", "Phrase", "Problem", "ReferringDataset", "Sample", "open_dataset"]


def open_dataset(
    root: str | os.PathLike[str],
    dataset: str | None = None,
    split: str | None = None,
    split_by: str | None = None,
    *,
    sentence: Literal["raw", "sent"] = "raw",
    need_pictures: bool = True,
) -> ReferringDataset:
    """The samples of a data set in its published format: one expression a sample, whichever the data set.

    RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO, RefCLEF/ReferIt, Flickr30k Entities, Visual Genome regions, PhraseCut,
    Ref-DAVIS17, Ref-YouTube-VOS, MeViS (one sample a frame), drawn scenes, and the derived formats of MDETR, SeqTR,
    SimREC and Hugging Face parquet. `docs/data.md` says what each looks like on disk.

    Args:
        root: the folder above `refcoco/`, `grefcoco/`, `images/train2014/`, or one data set's own folder; or a .jsonl
            file of the generic format (`refseg.data.formats.jsonl`) or the folder that holds data.jsonl.
        dataset: "refcoco", "refcoco+", "refcocog", "grefcoco", "refclef", ...; None for the folder's only one.
        split: "train", "val", "testA", ...; None for all. "test" takes testA and testB together.
        split_by: who made the split, or the derived format, where a data set has several ("unc", "umd", "google",
            "mdetr"); None for the usual one.
        sentence: read each sentence as typed ("raw", as ReLA and LAVT do) or as cleaned by the makers ("sent"), in the
            RefCOCO family.
        need_pictures: leave out expressions whose picture is not there.

    Large annotation files are read once and then cached (`refseg.data.cache`). Records that cannot be used are left out
    and named in the result's `problems`. Raises `DataError` when there is no such data set or split, a file is damaged,
    or nothing is usable.
    """
    from refseg.data.formats.jsonl import jsonl_file, read_jsonl

    if (lines := jsonl_file(root)) is not None:
        return read_jsonl(lines, split, need_pictures=need_pictures, name=dataset)
    from refseg.data.catalog import choose, open_samples
    from refseg.data.source import ReadOptions

    files = choose(root, dataset, split_by)
    samples, problems = open_samples(files, ReadOptions(split, sentence, need_pictures))
    if not len(samples):
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(item.kind for item in problems).most_common(3))
        first = next((str(item) for item in reversed(problems) if item.lost), "the file holds no expressions")
        reason = f"({kinds or 'empty'}); {first}; see refseg data check {root}"
        raise DataError(f"{files.main}: no usable expression {reason}")
    return ReferringDataset(
        samples, name=files.name, split=split, split_by=files.split_by, root=files.main.parent, problems=problems
    )
