"""One expression about one picture with its targets, and a data set as a sequence of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data.images import read_image
from refseg.data.masks import SegmentationSource, rasterise
from refseg.errors import DataError, ImageError


@dataclass(frozen=True)
class Instance:
    """One annotated object: its number, its category's name, its box xyxy in pixels, and its outline.

    `segmentation` is polygons (a list of flat arrays x1, y1, x2, ...), a COCO run-length encoding, a mask (H, W) bool,
    a `MaskFile`, or None where only the box is annotated. `crowd` marks an encoding of a whole group (COCO's iscrowd).
    `tags` are words that hold of it besides its category, such as its colour, where they are known.
    """

    ann_id: int
    category: str
    bbox: tuple[float, float, float, float]
    segmentation: SegmentationSource = field(default=None, repr=False, compare=False)
    crowd: bool = False
    tags: tuple[str, ...] = ()

    def mask(self, size: tuple[int, int], model_size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """The object's mask at the picture's (height, width), or at another size; see `refseg.data.masks.rasterise`.

        Raises `DataError` where only a box is annotated: an empty mask would pass for a measured one.
        """
        if self.segmentation is None:
            raise DataError(f"object {self.ann_id}: only its box is annotated, there is no mask")
        return rasterise(self.segmentation, size, model_size)


@runtime_checkable
class StoredPicture(Protocol):
    """A picture inside another file, such as a row of a parquet table; equal ones are the same picture."""

    def read(self) -> bytes:
        """The encoded picture; raises `ImageError`."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Phrase:
    """A part of an expression and its objects: `text` stands at characters start to stop (exclusive) of the expression.

    `objects` may be empty: nothing that could be boxed. `kinds` are its coarse categories ("people",
    "clothing"), `chain` the number of the coreference chain where the data set has them, -1 otherwise.
    """

    text: str
    start: int
    stop: int
    objects: tuple[Instance, ...] = ()
    kinds: tuple[str, ...] = ()
    chain: int = -1


@dataclass(frozen=True)
class Sample:
    """An expression, its picture, and the objects that it refers to (none for an expression without target).

    `id` is "<ref_id>_<sent_id>" or the data set's own name for the pair, unique in its data set. `size` is the
    picture's (height, width) as annotated. The picture is a file (`image_path`), a part of a file (`stored`) or, for
    drawn scenes, an array in memory (`image`, (H, W, 3) uint8). `phrases` are the expression's parts with their objects
    where a data set annotates them (Flickr30k Entities); `objects` then are all of theirs. A sample that is not
    `no_target` and has no objects has no annotation (a hidden test set). `kind` says what sort of expression it is
    where the data set records that ("relation", "counting", ...). `surroundings` are all objects of the picture,
    targets or not, where every one is known; empty otherwise.
    """

    id: str
    text: str
    image_id: int
    size: tuple[int, int]
    objects: tuple[Instance, ...] = ()
    no_target: bool = False
    image_path: Path | None = None
    image: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    kind: str | None = None
    split: str = ""
    dataset: str = ""
    ref_id: int = -1
    sent_id: int = -1
    surroundings: tuple[Instance, ...] = field(default=(), repr=False, compare=False)
    phrases: tuple[Phrase, ...] = ()
    stored: StoredPicture | None = None

    def __post_init__(self) -> None:
        if self.no_target and self.objects:
            raise DataError(f"sample {self.id}: an expression without target cannot have {len(self.objects)} objects")

    def read_image(self) -> Image.Image:
        """The picture, RGB, of the annotated size.

        Raises `ImageError` when the file is missing, damaged, or of another size than the annotations'.
        """
        if self.image is not None:
            return self._of_right_size(read_image(self.image))
        if self.stored is not None:
            return self._of_right_size(read_image(self.stored.read()))
        if self.image_path is None:
            raise ImageError(f"sample {self.id}: there is no picture")
        picture = read_image(self.image_path)
        if (picture.height, picture.width) != self.size:
            # Annotations are made on the stored pixels where a file carries an orientation that nobody applied.
            stored = read_image(self.image_path, rotate=False)
            picture = stored if (stored.height, stored.width) == self.size else picture
        return self._of_right_size(picture)

    def mask(self) -> NDArray[np.bool_]:
        """The union of the objects' masks, (H, W) bool at the picture's size; all False without target."""
        union = np.zeros(self.size, dtype=bool)
        for item in self.objects:
            union |= item.mask(self.size)
        return union

    def boxes(self) -> NDArray[np.float64]:
        """The objects' boxes, (K, 4) xyxy in pixels of the picture."""
        return np.asarray([item.bbox for item in self.objects], dtype=np.float64).reshape(-1, 4)

    def _of_right_size(self, picture: Image.Image) -> Image.Image:
        if (picture.height, picture.width) != self.size:
            raise ImageError(
                f"{self.image_path or self.id}: the picture is {picture.width} x {picture.height}, but it was "
                f"annotated at {self.size[1]} x {self.size[0]}; put back the data set's own file"
            )
        return picture


@dataclass(frozen=True)
class Problem:
    """Something wrong in a data set's files that reading went around: what kind, in which record, and in words.

    `lost` is the number of expressions that the data set is shorter for it.
    """

    kind: str
    where: str
    message: str
    lost: int = 0

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ReferringDataset(Sequence[Sample]):
    """Samples of one data set and split, with the problems met on the way.

    `samples` may be any sequence, also one that builds its samples when they are asked for; such a one may have
    `texts() -> list[str]` and `image_ids() -> list[int]`, which are then used in place of building every sample.
    """

    def __init__(
        self,
        samples: Sequence[Any],  # of Sample; not checked, as that would build one
        *,
        name: str = "",
        split: str | None = None,
        split_by: str | None = None,
        root: Path | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        self.samples = samples
        self.name = name
        self.split = split
        self.split_by = split_by
        self.root = root
        self.problems = tuple(problems)

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> ReferringDataset: ...
    def __getitem__(self, index: int | slice) -> Sample | ReferringDataset:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        counts = f"{len(self)} expressions, {len(self.problems)} problems"
        return f"ReferringDataset({self.name!r}, split={self.split!r}, {counts})"

    def by_picture(self) -> dict[int, list[int]]:
        """The indices of the samples by their picture's `image_id`, both in the data set's order."""
        return self._by_picture

    def subset(self, indices: Sequence[int]) -> ReferringDataset:
        """The samples at `indices`, in that order."""
        return ReferringDataset(
            _Chosen(self.samples, list(indices)),
            name=self.name,
            split=self.split,
            split_by=self.split_by,
            root=self.root,
            problems=self.problems,
        )

    def texts(self) -> list[str]:
        """All expressions in order, to learn a vocabulary from."""
        return _column(self.samples, "texts", "text")

    def problem_counts(self) -> dict[str, int]:
        """How many problems of each kind were met, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    @cached_property
    def _by_picture(self) -> dict[int, list[int]]:
        groups: dict[int, list[int]] = {}
        for index, number in enumerate(_column(self.samples, "image_ids", "image_id")):
            groups.setdefault(number, []).append(index)
        return groups


class _Chosen(Sequence[Sample]):
    """Some samples of another sequence, built only when asked for."""

    def __init__(self, samples: Sequence[Sample], indices: list[int]) -> None:
        self.samples = samples
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.samples[self.indices[index]]

    def texts(self) -> list[str]:
        return _column(self.samples, "texts", "text", self.indices)

    def image_ids(self) -> list[int]:
        return _column(self.samples, "image_ids", "image_id", self.indices)


def _column(samples: Sequence[Any], fast: str, attribute: str, indices: Sequence[int] | None = None) -> list[Any]:
    """An attribute of all samples, or of those at `indices`; by the sequence's own method `fast` where it has it."""
    method = getattr(samples, fast, None)
    if method is None:
        return [getattr(samples[index], attribute) for index in (range(len(samples)) if indices is None else indices)]
    every = method()
    return every if indices is None else [every[index] for index in indices]
