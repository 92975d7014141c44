"""What can be imported, read by the toolkit's own readers into one form: a picture, its objects, its sentences.

a COCO-style .json (instances.json)       all objects; splits from its pictures' "split" field
a RefCOCO or gRefCOCO folder              all objects, and the sentences with their splits
a folder of pictures and nothing else     pictures whose masks are made here: proposed by a model, drawn by people
a folder with pictures/ and masks/        masks/NAME.png (each number but 0 is an object), or masks/NAME/*.png (each
                                          file is one, called by its name up to the first digit or underscore)
anything else that `refseg data convert` reads (JSONL, YOLO, Label Studio, CVAT): the objects that sentences mean
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refseg.data.catalog import find_datasets, open_samples
from refseg.data.convert import detect, read_any
from refseg.data.convert.common import by_picture, picture_size
from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.formats.refcoco import FORMAT as REFCOCO_FORMAT
from refseg.data.formats.refcoco import picture_finder
from refseg.data.masks import MaskFile, bounding_box, read_labels
from refseg.data.sample import Instance, Problem, Sample
from refseg.data.source import DatasetFiles, PictureFinder, ReadOptions
from refseg.errors import DataError, RefsegError
from refseg.generation.scenes import SceneDataset
from refseg.generation.scenes.scene import scene_samples

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_ANNOTATIONS = (".json", ".jsonl", ".p", ".pickle", ".xml", ".yaml", ".yml", ".csv", ".tsv", ".parquet", ".mat", ".npy")


@dataclass
class SourcePicture:
    """A picture to import; sentences are (text, numbers of the target objects: () for no target, kind).

    `plain` is one without masks: they are made in the game. `license` and `source_url` are what the data set says.
    """

    number: int
    file_name: str
    source: Path | Image.Image
    size: tuple[int, int]
    split: str
    objects: list[Instance]
    sentences: list[tuple[str, tuple[int, ...], str | None]] = field(default_factory=list)
    plain: bool = False
    license: str = ""
    source_url: str = ""


def read_source(
    source: Path, images: Path | None, split: str | None, dataset: str | None, problems: list[Problem]
) -> Iterator[SourcePicture]:
    """The pictures of a file or folder; what cannot be used is added to `problems`.

    Args:
        source: see the module.
        images: where the pictures lie, if not beside `source`.
        split: only this split of a data set that has splits; the split of all pictures of one that has none.
        dataset: which data set of a folder with several.

    Raises: DataError when nothing of it can be read.
    """
    if source.is_dir():
        if (source / "masks").is_dir():
            return _masks(source, split or "train", problems)
        named = [files for files in find_datasets(source) if dataset in (None, files.name)]
        published = [files for files in named if files.format is REFCOCO_FORMAT]
        if published:
            names = sorted({files.name for files in published})
            if len(names) > 1:
                raise DataError(f"{source}: holds {', '.join(names)}; say which with --dataset")
            return _refcoco(published[0], split, problems)
        if not named and (found := _plain_pictures(source)):
            return _plain(source, found, split or "train", problems)
    if source.suffix.lower() == ".json" and detect(source) == "coco":
        return _coco(source, images, split, problems)
    return _convertible(source, images, split, dataset, problems)


def scenes(count: int, seed: int = 0, size: int = 320) -> Iterator[SourcePicture]:
    """Drawn scenes with their sentences, three of four in split train and the rest in val."""
    for split, number, start in (("train", count - count // 4, 0), ("val", count // 4, count)):
        for scene in SceneDataset(seed, number, size=size, sentences=6, split=split):
            place = start + scene.index + 1
            samples = scene_samples(scene, place)
            base = place * 1000
            objects = [replace(item, ann_id=base + item.ann_id) for item in samples[0].surroundings]
            sentences = [(one.text, tuple(base + item.ann_id for item in one.objects), one.kind) for one in samples]
            name, image = f"scene_{split}_{scene.index}.png", Image.fromarray(scene.image)
            yield SourcePicture(place, name, image, samples[0].size, split, objects, sentences)


def _plain_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder and those below it; [] where there is anything that may say something about them."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
        if hidden or path.is_dir():
            continue
        if path.suffix.lower() in _SUFFIXES:
            found.append(path)
        elif path.suffix.lower() in _ANNOTATIONS:
            return []
    return found


def _plain(folder: Path, found: list[Path], split: str, problems: list[Problem]) -> Iterator[SourcePicture]:
    for number, path in enumerate(found, 1):
        name = path.relative_to(folder).as_posix()
        try:
            size = picture_size(path)
        except (RefsegError, OSError, SyntaxError) as error:
            problems.append(Problem("bad_picture", name, str(error)))
            continue
        yield SourcePicture(number, name, path, size, split, [], plain=True)


def _coco(path: Path, images: Path | None, split: str | None, problems: list[Problem]) -> Iterator[SourcePicture]:
    instances = read_instances(path)
    problems += instances.problems
    folders = (images,) if images is not None else (path.parent, path.parent / "images", path.parent / "train2014")
    finder = PictureFinder(folders)
    records = _records(instances)
    for number, picture in instances.pictures.items():
        recorded = picture.extra.get("split")
        own = recorded if isinstance(recorded, str) and recorded else split or "train"
        if split is not None and own != split:
            continue
        source = finder.find_loosely(picture.file_name, number)
        if source is None:
            problems.append(Problem("no_picture", f"picture {number}", f"{picture.file_name} was not found"))
            continue
        objects = _objects(instances, records.get(number, []), problems)
        found = SourcePicture(number, picture.file_name, source, picture.size, own, objects)
        yield _with_origin(found, instances)


def _refcoco(files: DatasetFiles, split: str | None, problems: list[Problem]) -> Iterator[SourcePicture]:
    samples, faults = open_samples(files, ReadOptions(split))
    problems += faults
    instances = read_instances(files.companion)
    finder = picture_finder(files)
    records = _records(instances)
    for number, group in by_picture(samples).items():
        source = group[0].image_path or finder.find_loosely(instances.pictures[number].file_name, number)
        if source is not None:
            objects = _objects(instances, records.get(number, []), [])
            found = _with_sentences(number, source, group, objects, problems)
            yield _with_origin(found, instances)


def _with_origin(picture: SourcePicture, instances: Instances) -> SourcePicture:
    """The picture with what an instances.json says about its origin: COCO's fields, and the game's own exports'."""
    extra = instances.pictures[picture.number].extra

    def text(value: Any) -> str:
        return value if isinstance(value, str) else ""

    licence = extra.get("license")
    picture.license = instances.licenses.get(licence, "") if isinstance(licence, int) else text(licence)
    addresses = (text(extra.get(name)) for name in ("coco_url", "flickr_url", "source_url"))
    picture.source_url = next(filter(None, addresses), "")
    picture.file_name = text(extra.get("original_name")) or picture.file_name
    return picture


def _records(instances: Instances) -> dict[int, list[dict[str, Any]]]:
    """The annotations of a file by picture."""
    records: dict[int, list[dict[str, Any]]] = {}
    for record in instances.annotations.values():
        records.setdefault(record["image_id"], []).append(record)
    return records


def _objects(instances: Instances, records: list[dict[str, Any]], problems: list[Problem]) -> list[Instance]:
    objects = []
    for record in records:
        item, faults = build_instance(instances, record)
        problems += faults
        objects.append(item)
    return _masked(objects)


def _masked(objects: Iterable[Instance]) -> list[Instance]:
    return [item for item in objects if item.segmentation is not None and not item.crowd]


def _convertible(
    source: Path, images: Path | None, split: str | None, dataset: str | None, problems: list[Problem]
) -> Iterator[SourcePicture]:
    samples = read_any(source, images=images, dataset=dataset)
    problems += samples.problems
    for number, group in by_picture(samples).items():
        first = group[0]
        if first.split and split and first.split != split:
            continue
        if first.image_path is None:
            problems.append(Problem("no_picture", f"picture {number}", "the picture is not a file of its own"))
            continue
        objects: dict[int, Instance] = {}
        for sample in group:
            for item in (*sample.objects, *sample.surroundings):
                objects.setdefault(item.ann_id, item)
        yield _with_sentences(number, first.image_path, group, _masked(objects.values()), problems, split)


def _with_sentences(
    number: int, source: Path, group: list[Sample], objects: list[Instance], problems: list[Problem],
    split: str | None = None,
) -> SourcePicture:  # fmt: skip
    """A picture belongs to one split: the sentences of another one are left out, so that nothing leaks."""
    own = group[0].split or split or "train"
    numbers = {item.ann_id for item in objects}
    sentences: list[tuple[str, tuple[int, ...], str | None]] = []
    for sample in group:
        targets = tuple(item.ann_id for item in sample.objects)
        if (sample.split or own) != own:
            what = f"is of split {sample.split}, its picture {number} of {own}"
            problems.append(Problem("two_splits", f"sentence {sample.id}", what, 1))
        elif numbers.issuperset(targets):
            sentences.append((sample.text, targets, sample.kind))
    return SourcePicture(number, source.name, source, group[0].size, own, objects, sentences)


def _masks(folder: Path, split: str, problems: list[Problem]) -> Iterator[SourcePicture]:
    home = next((folder / name for name in ("pictures", "images") if (folder / name).is_dir()), folder)
    pictures = sorted(path for path in home.iterdir() if path.is_file() and path.suffix.lower() in _SUFFIXES)
    if not pictures:
        raise DataError(f"{home}: no pictures; they lie in pictures/ or images/ beside masks/")
    next_object = 1
    for number, path in enumerate(pictures, 1):
        objects: list[Instance] = []
        try:
            size = picture_size(path)
            for category, mask_file in _mask_files(folder / "masks", path.stem):
                mask = mask_file.read(size)
                if mask.any():
                    objects.append(Instance(next_object, category, bounding_box(mask), np.asarray(mask)))
                    next_object += 1
        except (RefsegError, OSError, SyntaxError) as error:
            problems.append(Problem("bad_mask", path.name, str(error)))
            continue
        if not objects:
            problems.append(
                Problem("no_masks", path.name, f"masks/{path.stem}.png or masks/{path.stem}/*.png is wanted")
            )
            continue
        yield SourcePicture(number, path.name, path, size, split, objects)


def _mask_files(folder: Path, stem: str) -> Iterator[tuple[str, MaskFile]]:
    plain = folder / f"{stem}.png"
    if plain.is_file():
        for value in np.unique(read_labels(plain)):
            if value:
                yield "object", MaskFile(plain, int(value))
    if (folder / stem).is_dir():
        for path in sorted((folder / stem).glob("*.png")):
            match = re.match(r"[^\d_]+(?:_[^\d_]+)*", path.stem)
            yield (match.group(0).replace("_", " ").strip() if match else "object") or "object", MaskFile(path, None)
