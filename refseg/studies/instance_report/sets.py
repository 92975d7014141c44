"""What a report measures: referring sets, photographs of COCO-style files, drawn scenes, nouns, and which half."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from refseg.data.formats.coco import read_instances
from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import ConfigError, DataError, did_you_mean
from refseg.studies.instance_report.kept import HALVES, half_of
from refseg.studies.photographs import ScoredSet
from refseg.training.instances.annotated import AnnotatedPicture, read_annotated

__all__ = ["PhotographSet", "Settings", "file_of", "key_of", "number_of", "open_splits", "read_photographs"]

_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class PhotographSet:
    """A COCO-style file of photographs. `only` and `apart` are a field of the pictures' records with a value: which
    pictures are taken, and which have numbers of their own besides. `names`: whether every object of its categories is
    annotated, so that the names of what a photograph does not show may be asked."""

    name: str
    file: Path
    images: Path
    names: bool = False
    only: tuple[str, str] | None = None
    apart: tuple[str, str] | None = None

    @classmethod
    def parse(cls, text: str) -> PhotographSet:
        """Of `NAME=FILE[,images=DIR][,names=yes][,only=FIELD:VALUE][,apart=FIELD:VALUE]`. Raises `ConfigError`."""
        name, found, rest = text.partition("=")
        file, *words = rest.split(",")
        if not (found and name and file):
            raise ConfigError(f"{text!r}: photographs are NAME=FILE[,images=DIR][,names=yes][,only=FIELD:VALUE]")
        given = {key: value for key, _, value in (word.partition("=") for word in words)}
        known = ["images", "names", "only", "apart"]
        for key in given:
            if key not in known:
                raise ConfigError(f"{text!r}: {key!r} is no part of it; {did_you_mean(key, known)}")
        if given.get("names", "no") not in ("yes", "no"):
            raise ConfigError(f"{text!r}: names is yes or no, not {given['names']!r}")
        pairs: dict[str, tuple[str, str] | None] = {"only": None, "apart": None}
        for key in pairs:
            if key in given:
                field, colon, value = given[key].partition(":")
                if not colon:
                    raise ConfigError(f"{text!r}: {key} is FIELD:VALUE, as in {key}=split2017:val")
                pairs[key] = (field, value)
        images = Path(given["images"]) if "images" in given else Path(file).parent / "images"
        return cls(name, Path(file), images, given.get("names") == "yes", **pairs)


@dataclass(frozen=True)
class Settings:
    """What is measured. The splits of a referring set are joined by +; `scenes` are drawn from `seed` (0: none).
    `objects`: referring sets are also answered over their annotated objects, whose categories must be known then."""

    referring: tuple[ScoredSet, ...] = ()
    photographs: tuple[PhotographSet, ...] = ()
    scenes: int = 0
    seed: int = 0
    size: int = 320
    nouns: Path | None = None
    half: Literal["val", "test", "both"] = "both"
    objects: bool = False

    def __post_init__(self) -> None:
        if not (self.referring or self.photographs or self.scenes or self.nouns):
            raise ConfigError("nothing to measure: give --referring, --photographs, --scenes or --nouns")
        for kind in (self.referring, self.photographs):
            listed = [item.name for item in kind] + (["scenes"] if self.scenes else [])
            for name in listed:
                if not _NAME.fullmatch(name) or listed.count(name) > 1:
                    raise ConfigError(f"{name!r}: names of sets are letters, digits and . _ + -, each once")

    @property
    def halves(self) -> tuple[str, ...]:
        """The parts that have numbers: a half, or both and all together."""
        return (*HALVES, "both") if self.half == "both" else (self.half,)

    def takes(self, file_name: str) -> bool:
        """Whether a picture is in what is measured."""
        return self.half in ("both", half_of(file_name))


def open_splits(scored: ScoredSet) -> ReferringDataset:
    """The expressions of all splits of a set."""
    parts = [replace(scored, split=split or None).open() for split in (scored.split or "").split("+")]
    if len(parts) == 1:
        return parts[0]
    samples = [sample for part in parts for sample in part]
    return ReferringDataset(samples, name=parts[0].name, split=scored.split, root=parts[0].root)


def read_photographs(each: PhotographSet) -> list[AnnotatedPicture]:
    """The pictures of a file that are taken. Raises `DataError`."""
    pictures = read_annotated(each.name, each.file, each.images)
    if each.only is None:
        return pictures
    field, value = each.only
    extra = read_instances(each.file).pictures
    kept = [picture for picture in pictures if str(extra[number_of(picture)].extra.get(field)) == value]
    if not kept:
        raise DataError(f"{each.file}: no picture's {field!r} is {value!r}")
    return kept


def number_of(picture: AnnotatedPicture) -> int:
    """A picture's number in its file."""
    return int(picture.key.rsplit("/", 1)[-1])


def file_of(sample: Sample) -> str:
    """The name of a picture's file, by which its half goes; its number where it is in no file."""
    return str(sample.image_id) if sample.image_path is None else sample.image_path.name


def key_of(samples: Sequence[Sample]) -> str:
    """A picture with what is asked about it."""
    said = "\n".join(f"{sample.id} {sample.text}" for sample in samples)
    return f"{file_of(samples[0])} {hashlib.sha256(said.encode()).hexdigest()[:12]}"
