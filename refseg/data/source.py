"""What a format of data sets is, where the files of a data set lie, and how its pictures are found.

A format is one file in `refseg.data.formats` that ends in a `Format`: it finds data sets in a folder, reads them, and
holds what is published of them (counts, addresses, licences).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from refseg.data.published import Published, Release
from refseg.data.sample import Problem, Sample
from refseg.errors import DataError, did_you_mean


@dataclass(frozen=True)
class ReadOptions:
    """What a reader is asked for; see `refseg.data.open_dataset`."""

    split: str | None = None
    sentence: Literal["raw", "sent"] = "raw"
    need_pictures: bool = True


@dataclass(frozen=True)
class Sentence:
    """One expression of a referent; `kind` is recorded by some data sets only."""

    sent_id: int
    text: str
    kind: str | None = None


@dataclass(frozen=True)
class Referent:
    """What a few expressions refer to: objects of one picture by number, none for expressions without target.

    `hidden`: the file does not say (the test set of a benchmark); `ann_ids` is then empty, too.
    """

    ref_id: int
    image_id: int
    ann_ids: tuple[int, ...]
    split: str
    sentences: tuple[Sentence, ...]
    hidden: bool = False


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one data set in a folder.

    format: how it is written and read.
    name, split_by: the data set, and who made the split (or the derived format's name).
    main: the annotation file that holds the expressions; the first one's where splits have files of their own.
    second: a second annotation file (objects, boxes, sizes of pictures), where there is one.
    picture_folders: folders that may hold pictures.
    parts: the file of each split where splits have files of their own.
    """

    format: Format = field(repr=False)
    name: str
    split_by: str
    main: Path
    picture_folders: tuple[Path, ...]
    second: Path | None = None
    parts: tuple[tuple[str, Path], ...] = ()

    def sources(self) -> tuple[Path, ...]:
        """All annotation files, each once."""
        return tuple(dict.fromkeys((self.main, self.companion, *(path for _, path in self.parts))))

    @property
    def companion(self) -> Path:
        """The second annotation file; the main one where there is no other."""
        return self.second or self.main

    def wanted_parts(self, split: str | None) -> list[tuple[str, Path]]:
        """The parts that belong to `split` (`split_matches`)."""
        return [part for part in self.parts if split_matches(part[0], split)]


@dataclass(frozen=True)
class Format:
    """One format: how its data sets are found, read, and what is published of them.

    name: unique among the formats.
    find: every data set of this format directly in a folder; reads file names, or the first letters of a file.
    read: the samples of the split asked for (others may come too and are dropped), in file order; what cannot be used
        is added to the list of problems. Raises `DataError` when a file is unreadable.
    counts, releases: published numbers, and where the data sets are published.
    pictures_of: data set's name -> whose numbers its pictures carry ("COCO", "Flickr", "IAPR TC-12").
    picture_table: names of the file that gives its pictures' numbers in other sources (Visual Genome).
    on_demand: `read` gives a sequence that builds samples when asked for and is kept as it is, not packed into a table.
    rows_have_splits: records may say another split than their file does, so that `parts` does not list the splits.
    watched: folders whose contents decide which pictures there are; the picture folders where None.
    referents: all records of the files, also those without usable objects, where they are to be counted so.
    """

    name: str
    find: Callable[[Path], list[DatasetFiles]]
    read: Callable[[DatasetFiles, ReadOptions, list[Problem]], Iterable[Sample]]
    counts: tuple[Published, ...] = ()
    releases: tuple[Release, ...] = ()
    pictures_of: dict[str, str] = field(default_factory=dict)
    picture_table: tuple[str, ...] = ()
    on_demand: bool = False
    rows_have_splits: bool = False
    watched: Callable[[DatasetFiles], tuple[Path, ...]] | None = None
    referents: Callable[[DatasetFiles], list[Referent]] | None = None


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
    """Raises `DataError` that lists the splits when none of them is `wanted` (`split_matches`)."""
    splits = sorted(set(known))
    if wanted is not None and not any(split_matches(split, wanted) for split in splits):
        raise DataError(f"{where}: no split {wanted!r}; {did_you_mean(wanted, splits)}")


def parts_of(folder: Path, pattern: str, splits: Iterable[str]) -> tuple[tuple[str, Path], ...]:
    """(split, file) for each split whose file is there; `pattern` is its name with {} for the split."""
    files = ((split, folder / pattern.format(split)) for split in splits)
    return tuple((split, path) for split, path in files if path.is_file())


def picture_folders(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Where pictures may lie: each name inside the data set's folder ("" is itself), then beside it."""
    return (*(folder / name for name in names), *(folder.parent / name for name in names if name))


class PictureFinder:
    """Finds a data set's pictures by number and recorded name; each folder is listed once.

    `coco`: the numbers are COCO's, so its file names may be tried. They must not where numbers are another source's.
    `nested`: look also into the folders NN/images of each folder, as the SAIAPR collection is unpacked.
    """

    def __init__(self, folders: Iterable[Path], *, coco: bool = True, nested: bool = False) -> None:
        self.coco = coco
        self.folders = tuple(folder for folder in folders if folder.is_dir())
        if nested:
            inner = (path for folder in self.folders for path in sorted(folder.glob("*/images")) if path.is_dir())
            self.folders = tuple(dict.fromkeys((*self.folders, *inner)))
        self._names = {folder: {entry.name for entry in os.scandir(folder)} for folder in self.folders}

    def find(self, image_id: int, file_name: str = "") -> Path | None:
        """The picture's path, or None. The recorded name is tried first, then COCO's two ways of naming by number."""
        names = [f"COCO_train2014_{image_id:012d}.jpg", f"{image_id:012d}.jpg"] if self.coco else [f"{image_id}.jpg"]
        recorded = PurePosixPath(file_name.replace("\\", "/"))
        # A data set file must not reach out of its folder.
        if file_name and "\0" not in file_name and not recorded.is_absolute() and ".." not in recorded.parts:
            names.insert(0, str(recorded))
        for folder in self.folders:
            for name in names:
                if name in self._names[folder] or ("/" in name and (folder / name).is_file()):
                    return folder / name
        return None

    def find_loosely(self, file_name: str, image_id: int = -1) -> Path | None:
        """As `find`, also by the bare name, where tools have put folders or addresses in front."""
        found = self.find(image_id, file_name)
        return found or self.find(image_id, file_name.replace("\\", "/").rsplit("/", 1)[-1])
