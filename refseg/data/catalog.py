"""Which data sets a folder holds, how one is opened, and what is published of each; over all of `FORMATS`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from refseg.data.cache import cached
from refseg.data.formats import FORMATS
from refseg.data.published import Published, Release
from refseg.data.sample import Problem, Sample
from refseg.data.source import DatasetFiles, ReadOptions, check_split, split_matches
from refseg.errors import DataError, did_you_mean

# Which annotation file is taken when a folder holds several and nobody says: the split of most papers.
_FIRST_CHOICE = ("unc", "umd", "google", "scenes", "templates", "converted")

PUBLISHED: tuple[Published, ...] = tuple(entry for format_ in FORMATS for entry in format_.counts)
RELEASES: dict[str, Release] = {entry.name: entry for format_ in FORMATS for entry in format_.releases}
NUMBERED_BY: dict[str, str] = {name: source for format_ in FORMATS for name, source in format_.pictures_of.items()}
"""Data set's name -> whose numbers its pictures carry."""
PICTURE_TABLES: dict[str, tuple[str, ...]] = {
    entry.dataset: format_.picture_table for format_ in FORMATS for entry in format_.counts if format_.picture_table
}
"""Data set's name -> names of the file that gives its pictures' numbers in other sources."""


def published(dataset: str, split_by: str) -> Published | None:
    """The published numbers of a data set and split, or None where there are none (drawn scenes, one's own data)."""
    for entry in PUBLISHED:
        if (entry.dataset, entry.split_by) == (dataset, split_by):
            return entry
    return None


def release(name: str) -> Release:
    """How the data set called `name` is published. Raises `DataError` that names the nearest ones."""
    if name not in RELEASES:
        raise DataError(f"no data set {name!r} is known; {did_you_mean(name, list(RELEASES))}")
    return RELEASES[name]


def find_datasets(root: str | os.PathLike[str]) -> list[DatasetFiles]:
    """Every data set under `root`, by name and split's maker. Raises `DataError` when `root` is no folder."""
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: a file; the folder that holds a data set is wanted")
    found: list[DatasetFiles] = []
    for folder in (root, *(entry for entry in sorted(root.iterdir()) if entry.is_dir())):
        known = {(files.format.name, files.main) for files in found}  # some formats look one folder deeper
        here = [files for format_ in FORMATS for files in format_.find(folder)]
        found += [files for files in here if (files.format.name, files.main) not in known]
    return sorted(found, key=lambda files: (files.name, _rank(files.split_by)))


def require_datasets(root: str | os.PathLike[str]) -> list[DatasetFiles]:
    """As `find_datasets`; raises `DataError` also when there is none."""
    found = find_datasets(root)
    if not found:
        alone = (
            "; instances.json alone has no expressions: refseg data templates makes some, refseg data convert reads it"
        )
        raise DataError(
            f"{root}: no data set here; wanted is a folder with refs(unc).p or grefs(unc).json and instances.json, "
            "or another published format (docs/data.md), or the folder above it"
            + (alone if (Path(root) / "instances.json").is_file() else "")
        )
    return found


def choose(root: str | os.PathLike[str], dataset: str | None, split_by: str | None) -> DatasetFiles:
    """The one data set under `root` that is asked for.

    Without `dataset` the folder's only one; without `split_by` the first of unc, umd, google, scenes.
    Raises `DataError` that lists what is there.
    """
    found = require_datasets(root)
    names = sorted({files.name for files in found})
    if dataset is None:
        if len(names) > 1:
            raise DataError(f"{root}: holds {', '.join(names)}; say which with --dataset (dataset=...)")
        dataset = names[0]
    if dataset not in names:
        raise DataError(f"{root}: no data set {dataset!r} here; {did_you_mean(dataset, names)}")
    candidates = [files for files in found if files.name == dataset]
    if split_by is None:
        return candidates[0]
    for files in candidates:
        if files.split_by == split_by:
            return files
    makers = [files.split_by for files in candidates]
    raise DataError(f"{root}: {dataset} has no split by {split_by!r}; {did_you_mean(split_by, makers)}")


def open_samples(files: DatasetFiles, options: ReadOptions) -> tuple[Sequence[Any], list[Problem]]:
    """The samples of a data set and split, from the cache where that helps, and what could not be used.

    The samples are `Sequence[Sample]`; a checker of types at run time is not to build one.
    Raises `DataError` when there is no such split, or a file is unreadable.
    """
    problems: list[Problem] = []
    if files.format.on_demand:
        samples = files.format.read(files, options, problems)
        assert isinstance(samples, Sequence)
        return samples, problems
    keys = {"format": files.format.name, "split_by": files.split_by, "split": options.split}
    keys |= {"sentence": options.sentence, "need_pictures": str(options.need_pictures)}
    watched = files.format.watched
    folders = files.picture_folders if watched is None else watched(files)
    return cached(
        files.name,
        files.sources(),
        [folder for folder in dict.fromkeys(folders) if folder.is_dir()],
        keys,
        lambda faults: _of_split(files, options, faults),
    )


def _of_split(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Iterable[Sample]:
    if files.parts and not files.format.rows_have_splits:
        check_split(options.split, (name for name, _ in files.parts), files.main)
    seen: set[str] = set()
    for sample in files.format.read(files, options, problems):
        seen.add(sample.split)
        if split_matches(sample.split, options.split):
            yield sample
    if seen:
        check_split(options.split, seen, files.main)


def _rank(maker: str) -> tuple[int, str]:
    return (_FIRST_CHOICE.index(maker) if maker in _FIRST_CHOICE else len(_FIRST_CHOICE), maker)
