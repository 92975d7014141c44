"""Photographs with more objects: cut out of some pictures, pasted into others, and annotated anew without a gap.

    pictures with masks -> cutouts of whole objects -.
                                                       > a base, nearest objects pasted last -> COCO-style file
    pictures with few objects, or empty parts of them-'

What comes out is a COCO-style file like any other one, of which `refseg data templates` makes expressions: place,
order, number and exceptions are then true of the new picture. Only pictures of one split give anything to it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from refseg.data.formats.coco import Instances, build_instance, read_instances
from refseg.data.images import read_image
from refseg.data.masks import bounding_box
from refseg.data.rle import encode
from refseg.data.source import PictureFinder
from refseg.errors import DataError, RefsegError
from refseg.files import replacing, write_text
from refseg.generation.language.lexicon import CUT_OUT, GROUNDED, WORN, normal_name
from refseg.generation.scenes.world import random_for

_LEAST_AREA = 2500  # pixels of a cutout
_MOST_COVERED = 0.35  # of an object, by what stands before it
_TRIES = 12
_PEOPLE = 12  # how much more often than another category people are pasted, as people speak of people


@dataclass(frozen=True)
class CollageSettings:
    """`count` pictures of `size` x `size` pixels, made of the pictures of `split` alone."""

    seed: int = 0
    count: int = 1000
    size: int = 320
    split: str = "train"

    def __post_init__(self) -> None:
        if self.count < 1 or not 64 <= self.size <= 2048:
            raise DataError(f"collages: --count is 1 or more, --size 64 to 2048, not {self.count} and {self.size}")


@dataclass(frozen=True)
class Cutout:
    """One object as it can be pasted: where its picture is, which annotation it has, its name and what it wears."""

    path: Path
    source: int
    annotation: int
    name: str
    traits: tuple[str, ...] | None
    edges: tuple[bool, bool, bool]
    """Whether its picture's left, right and lower edge cuts it: it is then pasted at that edge again."""


@dataclass(frozen=True)
class Base:
    """A picture that is pasted into."""

    path: Path
    source: int
    image_id: int


@dataclass
class _Pasted:
    name: str
    mask: NDArray[np.bool_]
    traits: tuple[str, ...] | None
    full: float
    """Pixels before anything stood before it."""


class Collages:
    """Picture n of the settings, drawn when it is asked for. `sources` are (instances.json, folder of pictures)."""

    def __init__(self, sources: Sequence[tuple[Path, Path]], settings: CollageSettings) -> None:
        self.settings = settings
        self.instances: list[Instances] = []
        self.by_picture: list[dict[int, list[int]]] = []
        self.cutouts: dict[str, list[Cutout]] = {}
        self.bases: list[Base] = []
        for number, (file, folder) in enumerate(sources):
            instances = read_instances(file)
            self.instances.append(instances)
            groups: dict[int, list[int]] = {}
            for key, annotation in instances.annotations.items():
                groups.setdefault(annotation["image_id"], []).append(key)
            self.by_picture.append(groups)
            finder = PictureFinder((folder,))
            for image_id, record in instances.pictures.items():
                path = finder.find(image_id, record.file_name)
                if path is not None and record.extra.get("split") == settings.split:
                    self._collect(number, image_id, path)
        if not self.cutouts or not self.bases:
            raise DataError(
                f"collages: no whole object or no exhaustively annotated picture of the split {settings.split!r} "
                "in the files; give those that `refseg data templates` wrote"
            )
        self.names = sorted(self.cutouts)

    def __len__(self) -> int:
        return self.settings.count

    def make(self, index: int) -> tuple[NDArray[np.uint8], list[_Pasted], list[str]]:
        """Picture `index` (size, size, 3) uint8, its objects, and the files that it is made of."""
        rng = random_for("collage", self.settings.seed, index)
        size = self.settings.size
        while True:
            picture, objects, made_of = self._base(rng)
            weights = [len(self.cutouts[name]) ** 0.25 * (_PEOPLE if name == "person" else 1) for name in self.names]
            main = rng.choices(self.names, weights)[0]
            if objects and rng.random() < 0.4 and objects[0].name in self.cutouts:
                main = objects[0].name
            wanted = rng.randint(1, 3) if objects else rng.randint(2, 5)
            names = [main if rng.random() < 0.65 else rng.choices(self.names, weights)[0] for _ in range(wanted)]
            grounds = sorted(rng.uniform(0.55, 1.0) * size for _ in names)
            for name, ground in zip(names, grounds, strict=True):
                used = self._paste(picture, objects, name, ground, rng)
                made_of += [used] if used else []
            objects = [item for item in objects if item.mask.sum() >= 64]
            if objects:
                return np.clip(picture, 0, 255).astype(np.uint8), objects, made_of

    def _collect(self, number: int, image_id: int, path: Path) -> None:
        instances = self.instances[number]
        keys = self.by_picture[number].get(image_id, [])
        record = instances.pictures[image_id]
        names = [normal_name(instances.categories.get(instances.annotations[key]["category_id"], "")) for key in keys]
        worn = tuple(WORN[name] for name in dict.fromkeys(names) if name in WORN)
        dressed = names.count("person") == 1 and any(name in ("skin", "hair") for name in names)
        height, width = record.size
        whole = 0
        for key, name in zip(keys, names, strict=True):
            left, top, wide, high = instances.annotations[key]["bbox"]
            edges = (left <= 2, left + wide >= width - 2, top + high >= height - 2)
            if name in CUT_OUT and top > 2 and not (edges[0] and edges[1]) and wide * high > _LEAST_AREA:
                if instances.annotations[key].get("iscrowd"):
                    continue
                traits = worn if name == "person" and dressed else None
                self.cutouts.setdefault(name, []).append(Cutout(path, number, key, name, traits, edges))
            whole += name in CUT_OUT
        if record.extra.get("exhaustive", True) and whole == len(names) and len(names) <= 3:
            self.bases.append(Base(path, number, image_id))

    def _base(self, rng: random.Random) -> tuple[NDArray[np.float32], list[_Pasted], list[str]]:
        """A picture to paste into: as it is, or a part of it without any object, enlarged."""
        size = self.settings.size
        while True:
            base = rng.choice(self.bases)
            try:
                image = read_image(base.path)
                masks = self._masks(base)
            except RefsegError:
                continue
            covered = np.zeros((image.height, image.width), dtype=bool)
            for _, mask in masks:
                covered |= mask
            if rng.random() < 0.4:
                picture = np.array(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
                objects = []
                for name, mask in masks:
                    placed = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
                    objects.append(_Pasted(name, placed.copy(), None, float(placed.sum())))
                return picture, objects, [base.path.name]
            for _ in range(_TRIES):
                side = rng.uniform(0.3, 0.8)
                wide, high = int(image.width * side), int(image.height * side * rng.uniform(0.8, 1.25))
                if high > image.height:
                    continue
                left, top = rng.randint(0, image.width - wide), rng.randint(0, image.height - high)
                if covered[top : top + high, left : left + wide].mean() < 0.002:
                    part = image.crop((left, top, left + wide, top + high))
                    enlarged = part.resize((size, size), Image.Resampling.BICUBIC)
                    return np.array(enlarged, dtype=np.float32), [], [base.path.name]

    def _masks(self, base: Base) -> list[tuple[str, NDArray[np.bool_]]]:
        instances = self.instances[base.source]
        found = []
        for key in self.by_picture[base.source].get(base.image_id, []):
            instance, _ = build_instance(instances, instances.annotations[key])
            mask = instance.mask(instances.pictures[base.image_id].size)
            found.append((normal_name(instance.category), mask))
        return found

    def _paste(
        self, picture: NDArray[np.float32], objects: list[_Pasted], name: str, ground: float, rng: random.Random
    ) -> str | None:
        """One object of a category, its feet at row `ground`; the name of the file it came from, None if it does not
        fit anywhere."""
        size = self.settings.size
        cutout = rng.choice(self.cutouts[name])
        instances = self.instances[cutout.source]
        annotation = instances.annotations[cutout.annotation]
        try:
            image = np.asarray(read_image(cutout.path))
            mask = build_instance(instances, annotation)[0].mask(instances.pictures[annotation["image_id"]].size)
        except RefsegError:
            return None
        left, top, right, bottom = (int(value) for value in bounding_box(mask))
        if right - left < 8 or bottom - top < 8 or mask.shape != image.shape[:2]:
            return None
        colours, alpha = image[top:bottom, left:right], mask[top:bottom, left:right]
        at_left, at_right, at_bottom = cutout.edges
        if rng.random() < 0.5:
            colours, alpha = colours[:, ::-1], alpha[:, ::-1]
            at_left, at_right = at_right, at_left
        cut = any(cutout.edges)
        long = rng.uniform(0.4, 0.9) * size if cut else rng.uniform(0.22, 0.75) * size * (0.55 + 0.45 * ground / size)
        scale = min(long / max(alpha.shape), 2.0)
        wide, high = max(8, round(alpha.shape[1] * scale)), max(8, round(alpha.shape[0] * scale))
        small = Image.fromarray(np.ascontiguousarray(colours)).resize((wide, high), Image.Resampling.BILINEAR)
        soft = Image.fromarray(np.ascontiguousarray(alpha) * np.uint8(255)).resize(
            (wide, high), Image.Resampling.BILINEAR
        )
        opacity = np.asarray(soft.filter(ImageFilter.BoxBlur(0.7)), dtype=np.float32)[..., None] / 255
        opaque = np.asarray(soft) > 127
        for _ in range(_TRIES):
            x = rng.randint(-wide // 8, max(size - wide + wide // 8, -wide // 8 + 1))
            y = round(ground) - high if name in GROUNDED else rng.randint(-high // 8, max(size - high, 1))
            x = -1 if at_left else size - wide + 1 if at_right else x
            y = size - high + 1 if at_bottom else y
            x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + wide, size), min(y + high, size)
            if x1 - x0 < 0.7 * wide or y1 - y0 < 0.7 * high:
                continue
            here = np.zeros((size, size), dtype=bool)
            here[y0:y1, x0:x1] = opaque[y0 - y : y1 - y, x0 - x : x1 - x]
            if any((item.mask & ~here).sum() < (1 - _MOST_COVERED) * item.full for item in objects):
                continue
            part = opacity[y0 - y : y1 - y, x0 - x : x1 - x]
            new = np.asarray(small, dtype=np.float32)[y0 - y : y1 - y, x0 - x : x1 - x]
            picture[y0:y1, x0:x1] = part * new + (1 - part) * picture[y0:y1, x0:x1]
            for item in objects:
                item.mask = item.mask & ~here
            objects.append(_Pasted(name, here, cutout.traits, float(here.sum())))
            return cutout.path.name
        return None


def write_collages(folder: Path, collages: Collages) -> Iterator[int]:
    """Write `folder`/images and `folder`/instances.json; yields the number of pictures done."""
    categories = {name: number for number, name in enumerate(sorted({*collages.names, *_all_names(collages)}), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(len(collages)):
        picture, objects, made_of = collages.make(index)
        name = f"collage_{index:06d}.jpg"
        with replacing(folder / "images" / name) as temporary:
            Image.fromarray(picture).save(temporary, "JPEG", quality=92)
        side = collages.settings.size
        images.append(
            {
                "id": index + 1,
                "file_name": name,
                "height": side,
                "width": side,
                "exhaustive": True,
                "split": collages.settings.split,
                "made_of": made_of,
            }
        )
        for item in objects:
            left, top, right, bottom = bounding_box(item.mask)
            record: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": index + 1,
                "category_id": categories[item.name],
                "segmentation": encode(item.mask),
                "area": int(item.mask.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            if item.traits is not None:
                record["traits"] = list(item.traits)
            annotations.append(record)
        yield index + 1
    supercategories = {
        normal_name(name): each.supercategories.get(number, "")
        for each in collages.instances
        for number, name in each.categories.items()
    }
    document = {
        "info": {"seed": collages.settings.seed},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": supercategories.get(name, "")}
            for name, number in categories.items()
        ],
    }
    write_text(folder / "instances.json", json.dumps(document))


def _all_names(collages: Collages) -> set[str]:
    return {normal_name(name) for each in collages.instances for name in each.categories.values()}
