"""Pictures that a training source shares with an evaluation split: by number where both have one, else by looks.

Three ways, each named with every shared picture:

- the same COCO picture: RefCOCO's family and its derived formats carry COCO's numbers; Visual Genome and PhraseCut
  say in image_data.json which of their pictures are COCO's; ReferIt's two formats share the numbers of IAPR TC-12;
- the same Flickr picture: Flickr30k's numbers are Flickr's, Visual Genome's image_data.json has them too;
- the same looks: a hash of 64 bits of each picture's coarse gradient (dHash) and one of its low frequencies (pHash),
  both within a few bits. For pictures without numbers, and on request for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refseg.data.catalog import NUMBERED_BY, PICTURE_TABLES
from refseg.data.formats.visual_genome import read_pictures
from refseg.data.sample import Problem, ReferringDataset, Sample
from refseg.errors import DataError, RefsegError

# Bits that may differ. On 361 photographs the same one, saved at half or a quarter of its size or with JPEG quality 40,
# differed in at most 8 (dHash) and 6 (pHash) bits; of all 64,980 pairs of them only the 12 that are one photograph from
# two data sets were within both limits. Two different photographs differ in 32 bits on average.
DHASH_BITS = 8
PHASH_BITS = 10


@dataclass(frozen=True)
class SharedPicture:
    """One picture on both sides: how it was found, its numbers, its files, and how many bits of the hashes differ."""

    how: str
    number: str
    train_id: int
    evaluation_id: int
    train_path: str = ""
    evaluation_path: str = ""
    bits: int | None = None


@dataclass
class LeakReport:
    """What two data sets share; `ways` are the comparisons that could be made, `skipped` those that could not."""

    train: str
    evaluation: str
    train_pictures: int = 0
    evaluation_pictures: int = 0
    shared: list[SharedPicture] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def train_ids(self) -> set[int]:
        """The numbers of the training pictures that are in the evaluation split too."""
        return {item.train_id for item in self.shared}


def leak(
    train: ReferringDataset,
    evaluation: ReferringDataset,
    *,
    looks: bool | None = None,
    genome: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LeakReport:
    """The pictures of `train` that are in `evaluation` too.

    Args:
        looks: compare pictures by their looks: None only where the two have no numbers of one source, True always,
            False never. Every picture is decoded for it.
        genome: Visual Genome's image_data.json, where it does not lie with the data set.
        progress: called with pictures done and in all while looks are compared.
    """
    report = LeakReport(_title(train), _title(evaluation))
    first, second = _pictures(train), _pictures(evaluation)
    report.train_pictures, report.evaluation_pictures = len(first), len(second)
    numbered = False
    sources = [
        _numbers(dataset, pictures, genome, report) for dataset, pictures in ((train, first), (evaluation, second))
    ]
    for source in ("COCO", "Flickr", "IAPR TC-12"):
        known = [numbers.get(source, {}) for numbers in sources]
        if not all(known):
            continue
        # A picture of Visual Genome without such a number is not of this source.
        numbered = True
        report.ways.append(f"by {source} number")
        places = {number: image_id for image_id, number in known[1].items()}
        for image_id, number in known[0].items():
            if number in places:
                report.shared.append(_shared(f"{source} number", str(number), first[image_id], second[places[number]]))
    if looks or (looks is None and not numbered):
        report.ways.append("by looks")
        _compare_looks(first, second, report, progress)
    elif not report.ways:
        report.skipped.append("no common numbers, and looks were not to be compared")
    return report


def without(dataset: ReferringDataset, pictures: Iterable[int]) -> ReferringDataset:
    """The data set without the expressions about these pictures (`LeakReport.train_ids`)."""
    left_out = set(pictures)
    groups = dataset.by_picture()
    kept = sorted(index for image_id, indices in groups.items() if image_id not in left_out for index in indices)
    return dataset.subset(kept)


def dhash(image: Image.Image) -> int:
    """64 bits: is each of 8 x 8 cells darker than its right neighbour."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return _packed(grey[:, 1:] > grey[:, :-1])


def phash(image: Image.Image) -> int:
    """64 bits: which of the 8 x 8 lowest frequencies of a 32 x 32 copy are above their median (mean left out)."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    low = (_COSINES @ grey @ _COSINES.T).reshape(-1)
    return _packed(low > np.median(low[1:]))


def near_pairs(first: NDArray[np.uint64], second: NDArray[np.uint64], bits: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The pairs (row of first, row of second) whose hashes differ in at most `bits`.

    Args:
        first, second: (N, K) and (M, K) hashes of K kinds.
        bits: (K,) how many bits of each kind may differ.
    """
    pairs: list[tuple[int, int]] = []
    step = max(1, 4_000_000 // max(len(second), 1))
    for start in range(0, len(first), step):
        rows = first[start : start + step]
        near = np.ones((len(rows), len(second)), dtype=bool)
        for kind in range(first.shape[1]):
            near &= _ones(rows[:, None, kind] ^ second[None, :, kind]) <= bits[kind]
        pairs += [(start + int(a), int(b)) for a, b in zip(*np.nonzero(near), strict=True)]
    return pairs


def _compare_looks(
    first: dict[int, Sample], second: dict[int, Sample], report: LeakReport, progress: Callable[[int, int], None] | None
) -> None:
    done, total = 0, len(first) + len(second)
    hashes: list[tuple[list[int], NDArray[np.uint64]]] = []
    for side in (first, second):
        names, rows = [], []
        for image_id, sample in side.items():
            try:
                picture = sample.read_image()
                rows.append((dhash(picture), phash(picture)))
                names.append(image_id)
            except RefsegError as error:
                report.problems.append(Problem("bad_picture", f"picture {image_id}", str(error)))
            done += 1
            if progress is not None:
                progress(done, total)
        hashes.append((names, np.asarray(rows, dtype=np.uint64).reshape(-1, 2)))
    known = {(item.train_id, item.evaluation_id) for item in report.shared}
    (names, rows_), (others, columns) = hashes
    for row, column in near_pairs(rows_, columns, np.array([DHASH_BITS, PHASH_BITS])):
        pair = (names[row], others[column])
        if pair not in known:
            bits = int(_ones(rows_[row] ^ columns[column]).sum())
            report.shared.append(_shared("looks", "", first[pair[0]], second[pair[1]], bits))


def _numbers(
    dataset: ReferringDataset, pictures: dict[int, Sample], genome: Path | None, report: LeakReport
) -> dict[str, dict[int, int]]:
    """Source -> picture -> its number there."""
    # Records of a converted file say which data set they come from.
    names = {sample.dataset for sample in pictures.values()} or {dataset.name}
    sources = {NUMBERED_BY.get(name) for name in names}
    if len(sources) == 1 and (source := sources.pop()) is not None:
        return {source: {image_id: image_id for image_id in pictures}}
    if dataset.name not in PICTURE_TABLES:
        return {}
    folder = dataset.root or Path()
    tables = (folder / name for name in PICTURE_TABLES[dataset.name])
    path = genome or next((table for table in tables if table.is_file()), None)
    if path is None or not path.is_file():
        report.skipped.append(
            f"{dataset.name}: image_data.json is not there (--genome), its pictures have no COCO numbers"
        )
        return {}
    about = read_pictures(path, report.problems)
    if not about:
        raise DataError(f"{path}: no usable picture; Visual Genome's image_data.json is wanted")
    known = {image_id: about[image_id] for image_id in pictures if image_id in about}
    return {
        "COCO": {image_id: entry.coco_id for image_id, entry in known.items() if entry.coco_id is not None},
        "Flickr": {image_id: entry.flickr_id for image_id, entry in known.items() if entry.flickr_id is not None},
    }


def _pictures(dataset: ReferringDataset) -> dict[int, Sample]:
    return {image_id: dataset.samples[indices[0]] for image_id, indices in dataset.by_picture().items()}


def _shared(how: str, number: str, train: Sample, evaluation: Sample, bits: int | None = None) -> SharedPicture:
    paths = [str(sample.image_path or "") for sample in (train, evaluation)]
    return SharedPicture(how, number, train.image_id, evaluation.image_id, paths[0], paths[1], bits)


def _title(dataset: ReferringDataset) -> str:
    return " ".join(part for part in (dataset.name, dataset.split_by, dataset.split) if part)


def _packed(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.reshape(-1)).tobytes(), "big")


def _ones(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of ones in each."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values).astype(np.int64)
    planes = np.ascontiguousarray(values)[..., None].view(np.uint8)
    return np.unpackbits(planes, axis=-1).sum(axis=-1).astype(np.int64)


_COSINES = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32)[None, :] + 1) / 64)
