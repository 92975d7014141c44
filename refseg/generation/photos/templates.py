"""A referring data set from any COCO-style file: expressions for its photographs, written in gRefCOCO's own format.

    OUT/templates/grefs(templates).json   expressions with their targets and kinds
    OUT/templates/instances.json          pictures, objects, categories, as they were given
    OUT/templates/settings.json           what they were made from
    OUT/images/train2014/...              copies of the pictures that are spoken about

What is written depends on the annotation file, the pictures and the settings, not on the number of processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refseg.data.convert.common import place_picture
from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.sample import Problem
from refseg.data.source import PictureFinder
from refseg.errors import DataError
from refseg.files import write_text
from refseg.generation.grefcoco import add_ref, by_targets, count_kinds
from refseg.generation.language.expressions import Expression
from refseg.generation.language.lexicon import normal_name
from refseg.generation.photos.attributes import PhotoView, Record, read_attributes
from refseg.generation.photos.cache import open_cache, read_photos
from refseg.generation.photos.expressions import photo_expressions
from refseg.generation.scenes.world import random_for

DEFAULT_FRACTIONS = {"train": 0.9, "val": 0.1}
_NEIGHBOURS_TRIED = 8
_COCO_NUMBER = re.compile(r"(?<![0-9])([0-9]{12})(?![0-9])")
_SAME_PICTURE = ("coco_id", "coco_url", "flickr_url", "original_name")  # fields that tell copies of one picture


@dataclass(frozen=True)
class TemplateSettings:
    """How expressions are made. `fractions` of pictures by split; None: as the file says, or 0.9 train and 0.1 val.

    `exhaustive` is assumed of pictures whose record does not say: every object of the categories is annotated.
    """

    seed: int = 0
    per_image: int = 8
    plus: bool = False
    fractions: dict[str, float] | None = None
    exhaustive: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.per_image <= 64:
            raise DataError(f"--per-image is 1 to 64, not {self.per_image}")
        if self.fractions is not None:
            values = self.fractions.values()
            if not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > 1e-6:
                raise DataError(f"--split-fractions are 0 to 1 and add up to 1, not {self.fractions}")


@dataclass
class Spoken:
    """The expressions of one picture."""

    photo: PhotoView
    split: str
    path: Path
    file_name: str
    expressions: list[Expression] = field(default_factory=list)


def make_templates(
    coco: Path,
    images: Path,
    settings: TemplateSettings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    without: Sequence[Path] = (),
    kept: Path | None = None,
) -> tuple[Instances, list[Spoken], list[Problem]]:
    """Expressions for every picture of `coco` that is found under `images`; `progress(done, all)` counts pictures.

    Pictures that one of the files `without` holds too, by COCO's number or the file's name, are left out. What was seen
    in each picture is kept in the file `kept`, and read from it when a run that was stopped goes on.
    Raises `DataError` when the file is unusable or no picture is found.
    """
    instances = read_instances(coco)
    kept_out = {token for path in without for token in _tokens(read_instances(path)).values()}
    for key, token in _tokens(instances).items():
        if token in kept_out:
            del instances.pictures[key]
    instances.annotations = {
        key: item for key, item in instances.annotations.items() if item["image_id"] in instances.pictures
    }
    records, problems = read_records(instances, images, settings.exhaustive)
    if not records:
        raise DataError(f"{images}: none of the {len(instances.pictures)} pictures of {coco} is there; see --images")
    photos: list[PhotoView] = []
    seen: list[Record] = []
    with open_cache(kept) if kept is not None else nullcontext() as views:
        for done, (record, (photo, faults)) in enumerate(
            zip(records, read_photos(records, workers, views), strict=True), 1
        ):
            problems += faults
            if photo is not None:
                photos.append(photo)
                seen.append(record)
            if progress is not None:
                progress(done, len(records))
    splits = _split(instances, photos, settings)
    spoken = [
        Spoken(photo, split, record.path, record.path.relative_to(images).as_posix())
        for photo, split, record in zip(photos, splits, seen, strict=True)
    ]
    traits = frozenset(trait for photo in photos for thing in photo.view.things for trait in thing.traits or ())
    speak(spoken, settings, traits)
    return instances, spoken, problems


def read_records(instances: Instances, images: Path, exhaustive: bool) -> tuple[list[Record], list[Problem]]:
    """What is known of each picture that is found, in the order of its number, and all problems met."""
    finder = PictureFinder((images,))
    problems = list(instances.problems)
    by_picture: dict[int, list[dict[str, Any]]] = {}
    for annotation in instances.annotations.values():
        if annotation["image_id"] in instances.pictures:
            by_picture.setdefault(annotation["image_id"], []).append(annotation)
        else:
            where = f"{instances.path.name} object {annotation['id']}"
            problems.append(Problem("unknown_picture", where, f"picture {annotation['image_id']} is not recorded"))
    records = []
    for image_id, picture in sorted(instances.pictures.items()):
        path = finder.find(image_id, picture.file_name)
        if path is None:
            name = picture.file_name or f"number {image_id}"
            problems.append(Problem("missing_picture", f"picture {image_id}", f"{name} was not found"))
            continue
        built, attributes, families = [], [], []
        open_names: set[str] = set()
        for annotation in by_picture.get(image_id, ()):
            instance, faults = build_instance(instances, annotation)
            problems += faults
            if instance.segmentation is None:
                open_names.add(normal_name(instance.category))  # it is in the picture, nobody knows where
                continue
            built.append(instance)
            attributes.append(read_attributes(annotation))
            families.append(instances.supercategories.get(annotation.get("category_id", -1), ""))
        told = picture.extra.get("exhaustive")
        missing = picture.extra.get("not_exhaustive_category_ids")  # LVIS
        if isinstance(missing, list):
            open_names |= {normal_name(instances.categories.get(number, "")) for number in missing}
            families = [""] * len(families)
        records.append(
            Record(
                image_id,
                path,
                picture.size,
                tuple(built),
                tuple(attributes),
                tuple(families),
                told if isinstance(told, bool) else exhaustive,
                frozenset(open_names - {""}),
            )
        )
    return records, problems


def speak(spoken: Sequence[Spoken], settings: TemplateSettings, traits: frozenset[str] = frozenset()) -> None:
    """Fill in the expressions of each picture; deceptions are borrowed within a split only."""
    alike: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(spoken):
        for name in {thing.category for thing in item.photo.view.things}:
            alike.setdefault((item.split, name), []).append(index)
    for index, item in enumerate(spoken):
        rng = random_for("templates", settings.seed, item.photo.image_id)
        names = sorted({thing.category for thing in item.photo.view.things})
        other: Spoken | None = None
        for _ in range(_NEIGHBOURS_TRIED if names else 0):
            candidate = rng.choice(alike[item.split, rng.choice(names)])
            if candidate != index and spoken[candidate].photo.exhaustive:
                other = spoken[candidate]
                break
        item.expressions = photo_expressions(
            item.photo,
            rng,
            settings.per_image,
            plus=settings.plus,
            elsewhere=None if other is None else other.photo.view,
            traits=traits,
        )


def write_templates(
    folder: Path, instances: Instances, spoken: Sequence[Spoken], settings: TemplateSettings
) -> dict[str, dict[str, int]]:
    """Write the data set under `folder`; returns the number of expressions by split and kind.

    Raises `DataError` when not one expression could be made.
    """
    used = [item for item in spoken if item.expressions]
    if not used:
        raise DataError(f"{instances.path}: not one certain expression can be made of its pictures")
    home = folder / "templates"
    refs: list[dict[str, Any]] = []
    for item in used:
        place_picture(item.path, folder / "images" / "train2014" / item.file_name)
        for targets, expressions in by_targets(item.expressions):
            keys = [item.photo.ann_ids[target] for target in targets]
            categories = [instances.annotations[key].get("category_id", -1) for key in keys]
            add_ref(refs, item.photo.image_id, item.file_name, item.split, keys, categories, expressions)
    # The expressions come last and name the data set: what is stopped before is no data set, not half of one.
    (home / "grefs(templates).json").unlink(missing_ok=True)
    write_text(home / "settings.json", json.dumps({**asdict(settings), "source": instances.path.name}, indent=1) + "\n")
    write_text(home / "instances.json", json.dumps(_instances(instances, used)))
    write_text(home / "grefs(templates).json", json.dumps(refs, ensure_ascii=False))
    return count_kinds(refs)


def _tokens(instances: Instances) -> dict[int, str]:
    """What tells each picture from others across files: COCO's number where there is one, else the file's name."""
    result = {}
    for key, picture in instances.pictures.items():
        number = picture.extra.get("coco_id")
        names = (str(picture.extra.get("original_name", "")), picture.file_name)
        found = next((match for name in names if (match := _COCO_NUMBER.search(name))), None)
        if number is None and found is not None:
            number = found[1]
        result[key] = picture.file_name if number is None else str(int(number))
    return result


def _split(instances: Instances, photos: Sequence[PhotoView], settings: TemplateSettings) -> list[str]:
    """Each picture's split; pictures that are copies of each other share it."""
    recorded = [instances.pictures[photo.image_id].extra.get("split") for photo in photos]
    if settings.fractions is None and recorded and all(isinstance(split, str) and split for split in recorded):
        return [str(split) for split in recorded]
    fractions = settings.fractions or DEFAULT_FRACTIONS
    leader = list(range(len(photos)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, photo in enumerate(photos):
        extra = instances.pictures[photo.image_id].extra
        tokens = [(name, str(extra[name])) for name in _SAME_PICTURE if extra.get(name)]
        if 6 <= int(photo.look, 16).bit_count() <= 58:  # of flat pictures the fingerprint says nothing
            tokens.append(("look", photo.look))
        for token in tokens:
            other = find(first.setdefault(token, index))
            leader[max(other, find(index))] = min(other, find(index))
    splits = []
    for index in range(len(photos)):
        draw = random_for("split", settings.seed, photos[find(index)].image_id).random()
        splits.append(_at(fractions, draw))
    return splits


def _at(fractions: dict[str, float], draw: float) -> str:
    """The split whose stretch of 0 to 1 holds `draw`."""
    for name, share in fractions.items():
        draw -= share
        if draw < 0:
            return name
    return next(name for name, share in reversed(fractions.items()) if share > 0)


def _instances(instances: Instances, used: Iterable[Spoken]) -> dict[str, Any]:
    """The given file's content for the pictures that are spoken about; names of files as they are found."""
    names = {item.photo.image_id: item.file_name for item in used}
    splits = {item.photo.image_id: item.split for item in used}
    images = [
        {
            "id": key,
            "file_name": name,
            "height": instances.pictures[key].size[0],
            "width": instances.pictures[key].size[1],
            **instances.pictures[key].extra,
            "split": splits[key],
        }
        for key, name in names.items()
    ]
    annotations = [_plain(item) for item in instances.annotations.values() if item["image_id"] in names]
    categories = [
        {"id": number, "name": name, "supercategory": instances.supercategories.get(number, "")}
        for number, name in instances.categories.items()
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _plain(annotation: dict[str, Any]) -> dict[str, Any]:
    outline = annotation.get("segmentation")
    if not isinstance(outline, list):
        return annotation
    polygons = [part.tolist() if isinstance(part, np.ndarray) else part for part in outline]
    return {**annotation, "segmentation": polygons}
