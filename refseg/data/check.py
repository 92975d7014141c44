"""What is in a data folder: every data set counted by split, compared with what was published, every problem named.

No torch in this file: a folder can be checked on a machine that only holds the data.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from refseg.data.catalog import SplitCounts, published
from refseg.data.coco import Instances, read_instances
from refseg.data.grefcoco import read_grefs
from refseg.data.images import image_size, read_image
from refseg.data.index import SampleIndex, build_index
from refseg.data.layout import DatasetFiles, PictureFinder, find_datasets
from refseg.data.refcoco import Referent, read_refs
from refseg.data.sample import Problem
from refseg.errors import DataError, RefsegError

_SPLITS = ("train", "val", "test", "testA", "testB", "testC")


@dataclass
class Counts:
    """What one split holds. `usable` sentences can be trained on and scored; `published` is their number in print."""

    expressions: int = 0
    usable: int = 0
    referents: int = 0
    pictures: int = 0
    objects: int = 0
    one_target: int = 0
    several_targets: int = 0
    no_target: int = 0
    published: int | None = None
    verdict: str = ""
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class DatasetReport:
    """One data set: its files, counts by split, problems; `error` when a file could not be read at all."""

    name: str
    split_by: str
    refs: str
    splits: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    pictures_found: int = 0
    pictures_missing: int = 0
    note: str = ""
    error: str = ""

    @property
    def usable(self) -> int:
        """Sentences that can be used."""
        return sum(counts.usable for counts in self.splits.values())


@dataclass
class Report:
    """A checked folder."""

    root: str
    datasets: list[DatasetReport]

    @property
    def usable(self) -> bool:
        """Whether any sentence can be used."""
        return any(dataset.usable for dataset in self.datasets)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values, all problems included."""
        plain = asdict(self)
        plain["usable"] = self.usable
        for entry, dataset in zip(plain["datasets"], self.datasets, strict=True):
            entry["usable"] = dataset.usable
            entry["problem_counts"] = dict(Counter(problem.kind for problem in dataset.problems).most_common())
        return plain


def check(root: str | os.PathLike[str], *, deep: bool = False) -> Report:
    """Check every data set under `root`.

    The headers of all pictures that a sentence needs are read and their sizes compared; with `deep` every picture and
    every outline is decoded as well. Raises `DataError` when there is no data set at all.
    """
    found = find_datasets(root)
    if not found:
        raise DataError(
            f"{root}: no data set here; wanted is a folder with refs(unc).p or grefs(unc).json and instances.json, "
            "or the folder above it"
        )
    instances: dict[Path, Instances] = {}
    sizes: dict[Path, str] = {}
    return Report(str(root), [_check_one(files, instances, sizes, deep) for files in found])


def _check_one(
    files: DatasetFiles, cache: dict[Path, Instances], pictures: dict[Path, str], deep: bool
) -> DatasetReport:
    report = DatasetReport(files.name, files.split_by, str(files.refs))
    try:
        referents, problems = (read_grefs if files.generalised else read_refs)(files.refs)
        if files.instances not in cache:
            cache[files.instances] = read_instances(files.instances)
        instances = cache[files.instances]
        index, found = build_index(
            files.name,
            referents,
            instances,
            PictureFinder(files.picture_folders),
            drop_crowd=files.generalised,
            need_pictures=False,
        )
    except RefsegError as error:
        report.error = str(error)
        return report
    report.problems = [*problems, *instances.problems, *found]
    broken = _check_pictures(index, pictures, report.problems, deep)
    if deep:
        _check_masks(index, report.problems)
    report.pictures_missing = sum(path is None for path in index.paths.values())
    report.pictures_found = len(index.paths) - report.pictures_missing
    _count(report, referents, index, broken)
    entry = published(files.name, files.split_by)
    if entry is not None:
        report.note = entry.note
        for split, numbers in entry.splits.items():
            _compare(report.splits.setdefault(split, Counts()), numbers)
    report.splits = dict(sorted(report.splits.items(), key=lambda item: _split_order(item[0])))
    return report


def _split_order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)


def _count(report: DatasetReport, referents: list[Referent], index: SampleIndex, broken: set[int]) -> None:
    pictures: dict[str, set[int]] = {}
    objects: dict[str, set[int]] = {}
    kinds: dict[str, Counter[str]] = {}
    for referent in referents:
        counts = report.splits.setdefault(referent.split, Counts())
        if referent.sentences:
            counts.referents += 1
            pictures.setdefault(referent.split, set()).add(referent.image_id)
            objects.setdefault(referent.split, set()).update(referent.ann_ids)
        counts.expressions += len(referent.sentences)
        targets = len(referent.ann_ids)
        name = "no_target" if not targets else "one_target" if targets == 1 else "several_targets"
        setattr(counts, name, getattr(counts, name) + len(referent.sentences))
        kinds.setdefault(referent.split, Counter()).update(s.kind for s in referent.sentences if s.kind is not None)
    for sample in index:
        if sample.image_path is not None and sample.image_id not in broken:
            report.splits[sample.split].usable += 1
    for split, counts in report.splits.items():
        counts.pictures = len(pictures.get(split, ()))
        counts.objects = len(objects.get(split, ()))
        counts.kinds = dict(kinds.get(split, Counter()).most_common())


def _compare(counts: Counts, numbers: SplitCounts) -> None:
    counts.published = numbers.expressions
    if counts.expressions == numbers.expressions:
        counts.verdict = "complete"
    elif counts.expressions == 0:
        counts.verdict = "absent"
    elif counts.expressions < numbers.expressions:
        counts.verdict = f"{100 * counts.expressions / numbers.expressions:.3g} %"
    else:
        counts.verdict = f"{counts.expressions - numbers.expressions} too many"


def _check_pictures(index: SampleIndex, known: dict[Path, str], problems: list[Problem], deep: bool) -> set[int]:
    """Name the pictures that cannot be read or have another size; returns their numbers. `known` spares rereading."""
    lost = Counter(index.referents[row].image_id for row, _ in index.pairs.tolist())
    broken: set[int] = set()
    for image_id, path in index.paths.items():
        if path is None:
            continue
        size = index.instances[image_id].size
        key = path / f"{size[0]}x{size[1]}"
        if key not in known:
            known[key] = _fault_of(path, size, deep)
        if known[key]:
            broken.add(image_id)
            problems.append(Problem("bad_picture", f"picture {image_id}", known[key], lost[image_id]))
    return broken


def _fault_of(path: Path, size: tuple[int, int], deep: bool) -> str:
    try:
        stored = image_size(path)
        if deep:
            upright = read_image(path)
            fits = size in (stored, (upright.height, upright.width))
        else:
            fits = size in (stored, stored[::-1])  # an orientation in the header may turn it
    except RefsegError as error:
        return str(error)
    if fits:
        return ""
    return f"{path}: is {stored[1]} x {stored[0]}, annotated at {size[1]} x {size[0]}"


def _check_masks(index: SampleIndex, problems: list[Problem]) -> None:
    """Decode every outline; name those that are damaged or cover no pixel."""
    done: set[int] = set()
    for row in sorted({row for row, _ in index.pairs.tolist()}):
        referent = index.referents[row]
        for key in referent.ann_ids:
            if key in done or key not in index.objects:
                continue
            done.add(key)
            try:
                fault = (
                    "" if index.objects[key].mask(index.instances[referent.image_id].size).any() else "covers no pixel"
                )
            except RefsegError as error:
                fault = str(error)
            if fault:
                problems.append(Problem("bad_outline", f"object {key}", fault))
