"""What can be imported, read by the toolkit's own readers into one form: a picture, its objects, its sentences.

a COCO-style .json (instances.json)       all objects; splits from its pictures' "split" field
a RefCOCO or gRefCOCO folder              all objects, and the sentences with their splits
a folder with pictures/ and masks/        masks/NAME.png (each number but 0 is an object), or masks/NAME/*.png (each
                                          file is one, called by its name up to the first digit or underscore)
anything else that `refseg data convert` reads (JSONL, YOLO, Label Studio, CVAT): the objects that sentences mean
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from refseg.data.convert import detect, read_any
from refseg.data.convert.common import by_picture, find_picture, picture_size
from refseg.data.formats.coco import build_instance, read_instances
from refseg.data.layout import DatasetFiles, PictureFinder, find_datasets
from refseg.data.mask_files import MaskFile, read_labels
from refseg.data.masks import bounding_box
from refseg.data.readers import ReadOptions, open_samples, picture_finder
from refseg.data.sample import Instance, Problem, Sample
from refseg.errors import DataError, RefsegError
from refseg.generation.scenes import SceneDataset
from refseg.generation.scenes.dataset import scene_samples

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass
class Found:
    """A picture on its way into the game; sentences are (text, object numbers, kind), none for no target."""

    number: int
    file_name: str
    source: Path | Image.Image
    size: tuple[int, int]
    split: str
    objects: list[Instance]
    sentences: list[tuple[str, tuple[int, ...], str | None]] = field(default_factory=list)


def read_source(
    source: Path, images: Path | None, split: str | None, dataset: str | None, problems: list[Problem]
) -> Iterator[Found]:
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
        found = [files for files in find_datasets(source) if files.form == "refs"]
        if dataset is not None:
            found = [files for files in found if files.name == dataset]
        if found:
            names = sorted({files.name for files in found})
            if len(names) > 1:
                raise DataError(f"{source}: holds {', '.join(names)}; say which with --dataset")
            return _refs(found[0], split, problems)
    if source.suffix.lower() == ".json" and detect(source) == "coco":
        return _coco(source, images, split, problems)
    return _any(source, images, split, dataset, problems)


def scenes(count: int, seed: int = 0, size: int = 320) -> Iterator[Found]:
    """Drawn scenes with their sentences, three of four in split train and the rest in val."""
    for split, number in (("train", count - count // 4), ("val", count // 4)):
        start = 0 if split == "train" else count
        for scene in SceneDataset(seed, number, size=size, sentences=6, split=split):
            samples = scene_samples(scene, start + scene.index + 1)
            base = (start + scene.index + 1) * 1000
            objects = [
                Instance(base + item.ann_id, item.category, item.bbox, item.segmentation)
                for item in samples[0].surroundings
            ]
            said = [(one.text, tuple(base + item.ann_id for item in one.objects), one.kind) for one in samples]
            picture = Image.fromarray(scene.image)
            number_of = start + scene.index + 1
            yield Found(number_of, f"scene_{split}_{scene.index}.png", picture, samples[0].size, split, objects, said)


def _coco(path: Path, images: Path | None, split: str | None, problems: list[Problem]) -> Iterator[Found]:
    instances = read_instances(path)
    problems += instances.problems
    folders = (images,) if images is not None else (path.parent, path.parent / "images", path.parent / "train2014")
    finder = PictureFinder(folders)
    groups: dict[int, list[dict[str, object]]] = {}
    for record in instances.annotations.values():
        groups.setdefault(record["image_id"], []).append(record)
    for number, picture in instances.pictures.items():
        said = picture.extra.get("split")
        own = said if isinstance(said, str) and said else split or "train"
        if split is not None and own != split:
            continue
        source = find_picture(finder, picture.file_name, number)
        if source is None:
            problems.append(Problem("no_picture", f"picture {number}", f"{picture.file_name} was not found"))
            continue
        objects = []
        for record in groups.get(number, []):
            item, faults = build_instance(instances, record)
            problems += faults
            if item.segmentation is not None and not item.crowd:
                objects.append(item)
        yield Found(number, picture.file_name, source, picture.size, own, objects)


def _refs(files: DatasetFiles, split: str | None, problems: list[Problem]) -> Iterator[Found]:
    samples, faults = open_samples(files, ReadOptions(split))
    problems += faults
    groups = by_picture(samples)
    instances = read_instances(files.instances)
    finder = picture_finder(files)
    records: dict[int, list[dict[str, object]]] = {}
    for record in instances.annotations.values():
        if record["image_id"] in groups:
            records.setdefault(record["image_id"], []).append(record)
    for number, group in groups.items():
        picture = instances.pictures[number]
        source = group[0].image_path or find_picture(finder, picture.file_name, number)
        if source is None:
            continue
        objects = []
        for record in records.get(number, []):
            item, _ = build_instance(instances, record)
            if item.segmentation is not None and not item.crowd:
                objects.append(item)
        yield _with_sentences(number, source.name, source, group, objects, problems)


def _any(
    source: Path, images: Path | None, split: str | None, dataset: str | None, problems: list[Problem]
) -> Iterator[Found]:
    found = read_any(source, images=images, dataset=dataset)
    problems += found.problems
    for number, group in by_picture(found).items():
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
        masked = [item for item in objects.values() if item.segmentation is not None and not item.crowd]
        yield _with_sentences(number, first.image_path.name, first.image_path, group, masked, problems, split)


def _with_sentences(
    number: int,
    name: str,
    source: Path,
    group: list[Sample],
    objects: list[Instance],
    problems: list[Problem],
    split: str | None = None,
) -> Found:
    """A picture belongs to one split: the sentences of another one are left out, so that nothing leaks."""
    own = group[0].split or split or "train"
    numbers = {item.ann_id for item in objects}
    said: list[tuple[str, tuple[int, ...], str | None]] = []
    for sample in group:
        meant = tuple(item.ann_id for item in sample.objects)
        if (sample.split or own) != own:
            what = f"is of split {sample.split}, its picture {number} of {own}"
            problems.append(Problem("two_splits", f"sentence {sample.id}", what, 1))
        elif numbers.issuperset(meant):
            said.append((sample.text, meant, sample.kind))
    return Found(number, name, source, group[0].size, own, objects, said)


def _masks(folder: Path, split: str, problems: list[Problem]) -> Iterator[Found]:
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
        yield Found(number, path.name, path, size, split, objects)


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
