"""The published forms: which module reads each, and the one way in which all are opened. No torch in this file.

A form is a module with `find(folder) -> list[DatasetFiles]`, which says what of it lies in a folder, and
`read(files, options, problems)`, which gives the samples and adds to the list of problems what could not be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from refseg.data.layout import DatasetFiles, PictureFinder
from refseg.data.sample import Problem, Sample
from refseg.errors import DataError, did_you_mean


@dataclass(frozen=True)
class ReadOptions:
    """What a reader is asked for; see `refseg.data.open_dataset`."""

    split: str | None = None
    sentence: Literal["raw", "sent"] = "raw"
    need_pictures: bool = True


# form -> its module; "refs" is read here, its files are found by refseg.data.layout
FORMS: dict[str, str] = {
    "flickr30k": "refseg.data.formats.flickr30k",
    "visual-genome": "refseg.data.formats.visual_genome",
    "phrasecut": "refseg.data.formats.phrasecut",
    "referit": "refseg.data.formats.refclef",
    "meta-expressions": "refseg.data.formats.video",
    "davis": "refseg.data.formats.davis",
    "mdetr": "refseg.data.formats.mdetr",
    "split-lists": "refseg.data.split_lists",
    "parquet": "refseg.data.formats.parquet",
}

# Forms whose samples are built when asked for and are kept as they are, not packed into a table.
_LAZY = ("meta-expressions", "davis")


def find_forms(folder: Path) -> list[DatasetFiles]:
    """Every data set in `folder` that is not in the RefCOCO family's form."""
    found: list[DatasetFiles] = []
    for module in FORMS.values():
        found += import_module(module).find(folder)
    return found


def open_samples(files: DatasetFiles, options: ReadOptions) -> tuple[Sequence[Any], list[Problem]]:
    """The samples of a data set and split, from the cache where that helps, and what could not be used.

    Raises `DataError` when there is no such split, or a file is unreadable.
    """
    from refseg.data.cache import cached, is_worth_it

    problems: list[Problem] = []
    if files.form in _LAZY:
        return import_module(FORMS[files.form]).read(files, options, problems), problems
    if files.form == "refs" and not is_worth_it(files.sources()):
        return _read_refs(files, options, problems), problems

    def build(found: list[Problem]) -> Iterable[Sample]:
        if files.form == "refs":
            return _read_refs(files, options, found)
        samples = import_module(FORMS[files.form]).read(files, options, found)
        return _of_split(samples, files, options.split)

    keys = {"form": files.form, "split_by": files.split_by, "split": options.split, "sentence": options.sentence}
    keys |= {"need_pictures": str(options.need_pictures)}
    return cached(files.name, files.sources(), watched_folders(files), keys, build)


def split_matches(split: str, wanted: str | None) -> bool:
    """Whether a record of `split` belongs to the split that is asked for.

    As in the published loader (refer.py): "test" is every split of that name (testA, testB, ...), and "testA" also
    takes what is marked testAB or testAC, as RefCLEF's records are.
    """
    if wanted is None or split == wanted:
        return True
    if wanted == "test":
        return split.startswith("test")
    letters = split[4:] if split.startswith("test") else ""
    return wanted in ("testA", "testB", "testC") and len(letters) > 1 and wanted[-1] in letters


def check_split(wanted: str | None, known: Iterable[str], where: object) -> None:
    """Raises `DataError` that lists the splits when none of them is meant by `wanted`."""
    splits = sorted(set(known))
    if wanted is not None and not any(split_matches(split, wanted) for split in splits):
        raise DataError(f"{where}: no split {wanted!r}; {did_you_mean(wanted, splits)}")


def picture_finder(files: DatasetFiles) -> PictureFinder:
    """Finds the pictures of a data set in the RefCOCO family's form."""
    clef = files.name == "refclef"
    return PictureFinder(files.picture_folders, coco=not clef, nested=clef)


def watched_folders(files: DatasetFiles) -> tuple[Path, ...]:
    """The folders whose names decide which pictures and masks there are."""
    if files.name == "refclef":
        return picture_finder(files).folders
    return tuple(folder for folder in dict.fromkeys(files.picture_folders) if folder.is_dir())


def _read_refs(files: DatasetFiles, options: ReadOptions, problems: list[Problem]) -> Sequence[Sample]:
    from refseg.data.formats.coco import read_instances
    from refseg.data.formats.grefcoco import read_grefs
    from refseg.data.formats.refcoco import read_refs
    from refseg.data.index import build_index

    referents, faults = (read_grefs if files.generalised else read_refs)(files.refs, options.sentence)
    check_split(options.split, (referent.split for referent in referents), files.refs)
    referents = [referent for referent in referents if split_matches(referent.split, options.split)]
    instances = read_instances(files.instances)
    index, found = build_index(
        files.name,
        referents,
        instances,
        picture_finder(files),
        drop_crowd=files.generalised,
        need_pictures=options.need_pictures,
    )
    problems += [*faults, *instances.problems, *found]
    return index


def _of_split(samples: Iterable[Sample], files: DatasetFiles, wanted: str | None) -> Iterable[Sample]:
    # Rows of a parquet file may say a split of their own.
    if files.parts and files.form != "parquet":
        check_split(wanted, (name for name, _ in files.parts), files.refs)
    seen: set[str] = set()
    for sample in samples:
        seen.add(sample.split)
        if split_matches(sample.split, wanted):
            yield sample
    if seen:
        check_split(wanted, seen, files.refs)
