"""Where the files of a data set lie: the published folders, and what is found under a root. No torch in this file.

    ROOT/
      refcoco/    refs(unc).p   refs(google).p  instances.json
      refcoco+/   refs(unc).p   instances.json
      refcocog/   refs(umd).p   refs(google).p  instances.json
      grefcoco/   grefs(unc).json  instances.json
      scenes/     grefs(scenes).json  instances.json
      refclef/    refs(unc).p   refs(berkeley).p   instances.json
      images/train2014/COCO_train2014_000000000009.jpg ...
      images/saiapr_tc-12/00/images/25.jpg ...   (RefCLEF; also without the folders between)

ROOT may be that parent or one data set's own folder; pictures are looked for inside it and beside it. The other data
sets' files are found by their own modules (`refseg.data.readers`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from refseg.errors import DataError, did_you_mean

_REFS = re.compile(r"^(g?)refs\(([^()]+)\)\.(p|json)$")

# Which annotation file is meant when a folder holds several and nobody says: the split of most papers.
_FIRST_CHOICE = ("unc", "umd", "google", "scenes", "templates", "converted")

_PICTURE_FOLDERS = ("images/train2014", "images/mscoco/images/train2014", "images", "train2014", "")
_SAIAPR_FOLDERS = (
    "images/saiapr_tc-12",
    "images/saiaprtc12",
    "images/refclef",
    "saiapr_tc-12",
    "referit/images",
    "images",
    "",
)


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one data set: name, who made the split, sentences, objects, and folders that may hold pictures.

    `form` is the way it is written, a key of `refseg.data.readers.FORMS`. Forms other than "refs" have their main file
    in both `refs` and `instances`, and the file of each split in `parts` where splits have files of their own.
    """

    name: str
    split_by: str
    refs: Path
    instances: Path
    generalised: bool
    picture_folders: tuple[Path, ...]
    form: str = "refs"
    parts: tuple[tuple[str, Path], ...] = ()

    def sources(self) -> tuple[Path, ...]:
        """All annotation files, each once."""
        return tuple(dict.fromkeys((self.refs, self.instances, *(path for _, path in self.parts))))


def find_datasets(root: str | os.PathLike[str]) -> list[DatasetFiles]:
    """Every data set under `root`, by name and split's maker. Raises `DataError` when `root` is no folder."""
    from refseg.data.readers import find_forms

    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: a file; the folder that holds a data set is wanted")
    found: list[DatasetFiles] = []
    for folder in (root, *(entry for entry in sorted(root.iterdir()) if entry.is_dir())):
        found += _in_folder(folder)
        known = {(files.form, files.refs) for files in found if files.form != "refs"}
        found += [files for files in find_forms(folder) if (files.form, files.refs) not in known]
    return sorted(found, key=lambda files: (files.name, _rank(files.split_by)))


def choose(root: str | os.PathLike[str], dataset: str | None, split_by: str | None) -> DatasetFiles:
    """The one data set under `root` that is meant.

    Without `dataset` the folder's only one; without `split_by` the first of unc, umd, google, scenes.
    Raises `DataError` that lists what is there.
    """
    found = find_datasets(root)
    if not found:
        raise DataError(
            f"{root}: no data set here; wanted is a folder with refs(unc).p or grefs(unc).json and instances.json, "
            "or another published form (docs/data.md), or the folder above it" + plain_coco(root)
        )
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


def plain_coco(root: str | os.PathLike[str]) -> str:
    """What to do with a folder that holds objects and no sentences; "" for others."""
    if not (Path(root) / "instances.json").is_file():
        return ""
    return "; instances.json alone has no sentences: refseg data templates makes some, refseg data convert reads it"


class PictureFinder:
    """Finds a data set's pictures by number and recorded name; each folder is listed once.

    `coco`: the numbers are COCO's, so its file names may be tried. They must not where numbers are another source's.
    `nested`: look also into the folders NN/images of each folder, as the SAIAPR collection is unpacked.
    """

    def __init__(self, folders: tuple[Path, ...], *, coco: bool = True, nested: bool = False) -> None:
        self.coco = coco
        self.folders = tuple(folder for folder in folders if folder.is_dir())
        if nested:
            inner = (path for folder in self.folders for path in sorted(folder.glob("*/images")) if path.is_dir())
            self.folders = tuple(dict.fromkeys((*self.folders, *inner)))
        self._names = {folder: {entry.name for entry in os.scandir(folder)} for folder in self.folders}

    def find(self, image_id: int, file_name: str) -> Path | None:
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


def picture_folders(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Where pictures may lie: each name inside the data set's folder ("" is itself), then beside it."""
    return (*(folder / name for name in names), *(folder.parent / name for name in names if name))


def _in_folder(folder: Path) -> list[DatasetFiles]:
    instances = folder / "instances.json"
    if not instances.is_file():
        return []
    by_maker: dict[tuple[str, str], DatasetFiles] = {}
    # "p" after "json": a pickle with the same content has priority where both are there, as in the published loader
    for path in sorted(folder.iterdir(), key=lambda entry: entry.suffix == ".p"):
        match = _REFS.match(path.name)
        if match is None or not path.is_file():
            continue
        general, maker = match.group(1) == "g", match.group(2)
        name = _name_of(folder.resolve().name, general, maker)
        pictures = picture_folders(folder, _SAIAPR_FOLDERS if name == "refclef" else _PICTURE_FOLDERS)
        by_maker[name, maker] = DatasetFiles(name, maker, path, instances, general, pictures)
    return list(by_maker.values())


def _name_of(folder: str, general: bool, maker: str) -> str:
    if maker in ("scenes", "templates", "converted"):
        return maker
    if general:
        return folder if folder.startswith("gref") else "grefcoco"
    if folder.startswith("ref"):
        return folder
    if maker == "berkeley":
        return "refclef"
    return "refcocog" if maker in ("umd", "google") else folder


def _rank(maker: str) -> tuple[int, str]:
    return (_FIRST_CHOICE.index(maker) if maker in _FIRST_CHOICE else len(_FIRST_CHOICE), maker)
