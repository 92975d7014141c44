"""What is in a data folder: every data set counted by split, compared with what was published, every problem named.

No torch in this file: a folder can be checked on a machine that only holds the data.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from refseg.data.formats.clips import FrameSamples
from refseg.data.formats.coco import Instances, read_instances
from refseg.data.formats.grefcoco import read_grefs
from refseg.data.formats.jsonl import JsonLines, is_jsonl
from refseg.data.formats.refcoco import Referent, read_refs
from refseg.data.index import SampleIndex, build_index
from refseg.data.layout import DatasetFiles, find_datasets, plain_coco
from refseg.data.readers import ReadOptions, open_samples, picture_finder
from refseg.data.report import Counts, DatasetReport, Report, against_published
from refseg.data.sample import Problem
from refseg.data.tally import Tally, check_clips, clip_samples, picture_fault
from refseg.errors import DataError, RefsegError


def check(root: str | os.PathLike[str], *, deep: bool = False) -> Report:
    """Check every data set under `root`, or a .jsonl file of the generic form.

    The headers of all pictures that a sentence needs are read and their sizes compared; with `deep` every picture and
    every outline is decoded as well. Raises `DataError` when there is no data set at all.
    """
    if is_jsonl(root):
        return Report(str(root), [_check_lines(Path(root), deep)])
    found = find_datasets(root)
    if not found:
        raise DataError(
            f"{root}: no data set here; wanted is a folder with refs(unc).p or grefs(unc).json and instances.json, "
            "or another published form (docs/data.md), or the folder above it" + plain_coco(root)
        )
    instances: dict[Path, Instances] = {}
    sizes: dict[Path, str] = {}
    return Report(str(root), [_check_one(files, instances, sizes, deep) for files in found])


def _check_one(
    files: DatasetFiles, cache: dict[Path, Instances], pictures: dict[Path, str], deep: bool
) -> DatasetReport:
    report = DatasetReport(files.name, files.split_by, str(files.refs))
    if files.form != "refs":
        return _check_form(report, files, pictures, deep)
    try:
        referents, problems = (read_grefs if files.generalised else read_refs)(files.refs)
        if files.instances not in cache:
            cache[files.instances] = read_instances(files.instances)
        instances = cache[files.instances]
        index, found = build_index(
            files.name,
            referents,
            instances,
            picture_finder(files),
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
    return against_published(report)


def _check_lines(path: Path, deep: bool) -> DatasetReport:
    """A .jsonl file: every faulty line is a problem, sentences are counted as they would be read."""
    report = DatasetReport(path.stem, "jsonl", str(path))
    try:
        lines = JsonLines(path, need_pictures=False, name=path.stem)
    except RefsegError as error:
        report.error = str(error)
        return report
    report.problems = list(lines.problems)
    tally = Tally(report, {}, deep)
    for sample in lines:
        tally.add(sample)
    tally.finish()
    return report


def _check_form(report: DatasetReport, files: DatasetFiles, known: dict[Path, str], deep: bool) -> DatasetReport:
    """As `_check_one` for every other form, which gives samples: sentences are counted as they would be read."""
    try:
        samples, report.problems = open_samples(files, ReadOptions(need_pictures=False))
        clips = samples.clips if isinstance(samples, FrameSamples) else None
        tally = Tally(report, known, deep)
        for sample in samples if clips is None else clip_samples(clips, report.problems):
            tally.add(sample)
        tally.finish()
        if clips is not None and deep:
            check_clips(clips, report.problems)
    except RefsegError as error:
        report.error = str(error)
        return report
    return against_published(report)


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
            known[key] = picture_fault(path, size, deep)
        if known[key]:
            broken.add(image_id)
            problems.append(Problem("bad_picture", f"picture {image_id}", known[key], lost[image_id]))
    return broken


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
