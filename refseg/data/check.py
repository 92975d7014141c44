"""What is in a data folder: every data set counted by split, compared with what was published, every problem named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from refseg.data.catalog import open_samples, published, require_datasets
from refseg.data.convert import detect, read_any
from refseg.data.formats.clips import FrameSamples
from refseg.data.formats.jsonl import JsonLines, jsonl_file
from refseg.data.images import image_size, read_image
from refseg.data.sample import Problem, Sample
from refseg.data.source import DatasetFiles, ReadOptions, Referent
from refseg.errors import RefsegError

_SPLITS = ("train", "trainval", "val", "valid", "valid_u", "test", "testA", "testB", "testC")


@dataclass
class Counts:
    """What one split holds. `usable` expressions can be trained on and scored; `published` is their number in print."""

    expressions: int = 0
    usable: int = 0
    referents: int = 0
    pictures: int = 0
    objects: int = 0
    one_target: int = 0
    several_targets: int = 0
    no_target: int = 0
    published: int | None = None
    completeness: str = ""
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class DatasetReport:
    """One data set: its main file, counts by split, problems; `error` when a file could not be read at all."""

    name: str
    split_by: str
    main: str
    splits: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    pictures_found: int = 0
    pictures_missing: int = 0
    note: str = ""
    error: str = ""

    @property
    def usable(self) -> int:
        """Expressions that can be used."""
        return sum(counts.usable for counts in self.splits.values())


@dataclass
class Report:
    """A checked folder."""

    root: str
    datasets: list[DatasetReport]

    @property
    def usable(self) -> bool:
        """Whether any expression can be used."""
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
    """Check every data set under `root`, a .jsonl file of the generic format, or a folder that `refseg data convert`
    wrote for another tool.

    The headers of all pictures that an expression needs are read and their sizes compared; with `deep` every picture
    and every outline is decoded as well. Raises `DataError` when there is no data set at all.
    """
    pictures: dict[tuple[Path, tuple[int, int]], str] = {}
    if (path := jsonl_file(root)) is not None:
        report = DatasetReport(path.stem, "jsonl", str(path))
        try:
            lines = JsonLines(path, need_pictures=False, name=path.stem)
            report.problems = list(lines.problems)
            _Tally(report, pictures, deep).count(lines)
        except RefsegError as error:
            report.error = str(error)
        return Report(str(root), [report])
    folder = Path(root)
    if folder.is_dir() and (kind := detect(folder)) != "published":
        return Report(str(root), [_check_converted(folder, kind, pictures, deep)])
    return Report(str(root), [_check_dataset(files, pictures, deep) for files in require_datasets(root)])


def _check_converted(
    folder: Path, kind: str, pictures: dict[tuple[Path, tuple[int, int]], str], deep: bool
) -> DatasetReport:
    report = DatasetReport(folder.resolve().name, kind, str(folder))
    try:
        dataset = read_any(folder)
        report.problems = list(dataset.problems)
        _Tally(report, pictures, deep).count(dataset)
    except RefsegError as error:
        report.error = str(error)
    return report


def _check_dataset(files: DatasetFiles, pictures: dict[tuple[Path, tuple[int, int]], str], deep: bool) -> DatasetReport:
    report = DatasetReport(files.name, files.split_by, str(files.main))
    try:
        samples, report.problems = open_samples(files, ReadOptions(need_pictures=False))
        clips = samples if isinstance(samples, FrameSamples) else None
        _Tally(report, pictures, deep).count(samples if clips is None else clips.first_frames(report.problems))
        if clips is not None and deep:
            clips.read_everything(report.problems)
        if files.format.referents is not None:
            _count_referents(report, files.format.referents(files))
    except RefsegError as error:
        report.error = str(error)
        return report
    entry = published(report.name, report.split_by)
    if entry is not None:
        report.note = entry.note
        for split, numbers in entry.splits.items():
            _compare(report.splits.setdefault(split, Counts()), numbers.expressions)
    report.splits = dict(sorted(report.splits.items(), key=lambda item: _split_order(item[0])))
    return report


def _split_order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)


def _compare(counts: Counts, expressions: int | None) -> None:
    counts.published = expressions
    if expressions is None:
        return
    if counts.expressions == expressions:
        counts.completeness = "complete"
    elif counts.expressions == 0:
        counts.completeness = "absent"
    elif counts.expressions < expressions:
        counts.completeness = f"{100 * counts.expressions / expressions:.3g} %"
    else:
        counts.completeness = f"{counts.expressions - expressions} too many"


def _count_referents(report: DatasetReport, referents: list[Referent]) -> None:
    """Put the numbers of all records in place of those of the samples; what is usable stays."""
    for counts in report.splits.values():
        for name in ("expressions", "referents", "pictures", "objects", "one_target", "several_targets", "no_target"):
            setattr(counts, name, 0)
    pictures: dict[str, set[int]] = {}
    objects: dict[str, set[int]] = {}
    for referent in referents:
        counts = report.splits.setdefault(referent.split, Counts())
        counts.expressions += len(referent.sentences)
        if not referent.hidden:
            _count_targets(counts, len(referent.ann_ids), len(referent.sentences))
        if referent.sentences:
            counts.referents += 1
            pictures.setdefault(referent.split, set()).add(referent.image_id)
            objects.setdefault(referent.split, set()).update(referent.ann_ids)
    for split, counts in report.splits.items():
        counts.pictures, counts.objects = len(pictures.get(split, ())), len(objects.get(split, ()))


def _count_targets(counts: Counts, targets: int, expressions: int) -> None:
    name = "no_target" if not targets else "one_target" if targets == 1 else "several_targets"
    setattr(counts, name, getattr(counts, name) + expressions)


class _Tally:
    """Counts samples into a report, and reads their pictures and outlines; `known` spares reading a picture twice."""

    def __init__(self, report: DatasetReport, known: dict[tuple[Path, tuple[int, int]], str], deep: bool) -> None:
        self.report, self.known, self.deep = report, known, deep
        self.lost: dict[int, tuple[str, int]] = {}
        self.outlines: dict[tuple[int, int, tuple[float, ...]], bool] = {}

    def count(self, samples: Iterable[Sample]) -> None:
        """Count every sample; damaged pictures and outlines become problems."""
        report = self.report
        pictures: dict[str, set[int]] = {}
        objects: dict[str, set[tuple[int, int]]] = {}
        referents: dict[str, set[int]] = {}
        kinds: dict[str, Counter[str]] = {}
        there: dict[int, bool] = {}
        for sample in samples:
            split = sample.split
            counts = report.splits.setdefault(split, Counts())
            counts.expressions += 1
            if sample.objects or sample.no_target:
                _count_targets(counts, len(sample.objects), 1)
            pictures.setdefault(split, set()).add(sample.image_id)
            objects.setdefault(split, set()).update((sample.image_id, item.ann_id) for item in sample.objects)
            referents.setdefault(split, set()).add(sample.ref_id)
            if sample.kind is not None:
                kinds.setdefault(split, Counter())[sample.kind] += 1
            there[sample.image_id] = sample.image_path is not None or sample.stored is not None
            readable = there[sample.image_id] and self._picture(sample)
            counts.usable += self._outlines(sample) and readable
        for split, counts in report.splits.items():
            counts.pictures, counts.objects = len(pictures[split]), len(objects[split])
            counts.referents = len(referents[split])
            counts.kinds = dict(kinds.get(split, Counter()).most_common())
        report.pictures_found = sum(there.values())
        report.pictures_missing = len(there) - report.pictures_found
        for image_id, (fault, lost) in self.lost.items():
            report.problems.append(Problem("bad_picture", f"picture {image_id}", fault, lost))

    def _picture(self, sample: Sample) -> bool:
        """Whether the picture can be read and has the annotated size."""
        fault = ""
        if sample.image_path is not None:
            key = (sample.image_path, sample.size)
            if key not in self.known:
                self.known[key] = _picture_fault(sample.image_path, sample.size, self.deep)
            fault = self.known[key]
        elif self.deep:
            try:
                sample.read_image()
            except RefsegError as error:
                fault = str(error)
        if fault:
            self.lost[sample.image_id] = (fault, self.lost.get(sample.image_id, ("", 0))[1] + 1)
        return not fault

    def _outlines(self, sample: Sample) -> bool:
        """Whether every outline can be drawn; drawn with `deep` only, each once. Empty ones are named too."""
        sound = True
        for item in sample.objects if self.deep else ():
            key = (sample.image_id, item.ann_id, item.bbox)
            if item.segmentation is not None and key not in self.outlines:
                fault, self.outlines[key] = "", True
                try:
                    fault = "" if item.mask(sample.size).any() else "covers no pixel"
                except RefsegError as error:
                    fault, self.outlines[key] = str(error), False
                if fault:
                    where = f"sample {sample.id} object {item.ann_id}"
                    self.report.problems.append(Problem("bad_outline", where, fault))
            sound = sound and self.outlines.get(key, True)
        return sound


def _picture_fault(path: Path, size: tuple[int, int], deep: bool) -> str:
    """What is wrong with the picture at `path`, annotated at (height, width) `size`; "" for nothing."""
    try:
        stored = image_size(path)
        # An orientation in the header may turn it.
        sizes = [stored, stored[::-1]]
        if deep:
            upright = read_image(path)
            sizes = [stored, (upright.height, upright.width)]
    except RefsegError as error:
        return str(error)
    return "" if size in sizes else f"{path}: is {stored[1]} x {stored[0]}, annotated at {size[1]} x {size[0]}"
