"""What a data set is like: expressions, words, targets, kinds, areas."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from refseg.data.formats.clips import FrameSamples
from refseg.data.masks import MaskFile, outline_area
from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import RefsegError

# A word is letters and digits with what stands inside them: "man's", "t-shirt", "2nd".
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

# Shares of the picture that the targets cover, as group borders.
AREAS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass
class Distribution:
    """A quantity over the expressions: how often each value, and the usual numbers about it."""

    count: int = 0
    mean: float = 0.0
    median: float = 0.0
    smallest: float = 0.0
    largest: float = 0.0
    histogram: dict[str, int] = field(default_factory=dict)


@dataclass
class Stats:
    """A data set's numbers. Areas are the targets' outlines (boxes where there are no outlines) over the picture's."""

    dataset: str
    split: str | None
    sentences: int = 0
    pictures: int = 0
    objects: int = 0
    referents: int = 0
    distinct_sentences: int = 0
    vocabulary: int = 0
    once: int = 0
    boxes_only: int = 0
    words: Distribution = field(default_factory=Distribution)
    targets: Distribution = field(default_factory=Distribution)
    sentences_per_picture: Distribution = field(default_factory=Distribution)
    area: Distribution = field(default_factory=Distribution)
    splits: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    frequent_words: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def words_of(text: str) -> list[str]:
    """The words of an expression, lower case; punctuation is none."""
    return _WORD.findall(text.lower())


def describe(dataset: ReferringDataset, *, frequent: int = 30) -> Stats:
    """Count everything in one pass; no picture is decoded.

    Args:
        frequent: so many of the most frequent words and categories are kept.
    """
    stats = Stats(dataset.name, dataset.split, problems=dataset.problem_counts())
    vocabulary: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    pictures: Counter[int] = Counter()
    objects: set[tuple[int, int, tuple[float, ...]]] = set()
    referents: set[tuple[str, int]] = set()
    texts: set[str] = set()
    lengths, targets, areas = [], [], []
    clips = dataset.samples if isinstance(dataset.samples, FrameSamples) else None
    # Of a video every expression counts once and not once a frame; areas would need every mask.
    for sample in dataset if clips is None else clips.first_frames([]):
        words = words_of(sample.text)
        vocabulary.update(words)
        lengths.append(len(words))
        texts.add(" ".join(words))
        pictures[sample.image_id] += 1
        splits[sample.split] += 1
        referents.add((sample.split, sample.ref_id))
        if sample.kind is not None:
            kinds[sample.kind] += 1
        if sample.objects or sample.no_target:
            targets.append(len(sample.objects))
        for item in sample.objects:
            key = (sample.image_id, item.ann_id, item.bbox)
            if key not in objects:
                objects.add(key)
                categories[item.category or "(none)"] += 1
                stats.boxes_only += item.segmentation is None
        area = _share(sample) if clips is None else None
        if area is not None:
            areas.append(area)
    stats.sentences, stats.pictures, stats.objects = len(lengths), len(pictures), len(objects)
    stats.referents, stats.distinct_sentences = len(referents), len(texts)
    stats.vocabulary, stats.once = len(vocabulary), sum(count == 1 for count in vocabulary.values())
    stats.words, stats.targets = _of_integers(lengths), _of_integers(targets)
    stats.sentences_per_picture = _of_integers(list(pictures.values()))
    stats.area = _of_shares(areas)
    stats.splits, stats.kinds = dict(splits.most_common()), dict(kinds.most_common())
    stats.categories = dict(categories.most_common(frequent))
    stats.frequent_words = dict(vocabulary.most_common(frequent))
    return stats


def _share(sample: Sample) -> float | None:
    """The share of the picture that the targets cover, parts that overlap counted twice; None without targets."""
    if not sample.objects:
        return None
    total = 0.0
    for item in sample.objects:
        left, top, right, bottom = item.bbox
        box = (right - left) * (bottom - top)
        # A mask in a file of its own is not read for this: its box stands for it.
        plain = item.segmentation is None or isinstance(item.segmentation, MaskFile)
        try:
            total += box if plain else outline_area(item.segmentation, sample.size)
        except RefsegError:
            total += box
    return min(total / (sample.size[0] * sample.size[1]), 1.0)


def _of_integers(values: list[int]) -> Distribution:
    """One group a value, from 20 on groups of ten, from 100 on one group."""
    result = _numbers(values)
    groups: Counter[str] = Counter()
    for value in sorted(values):
        low = value // 10 * 10
        groups[str(value) if value < 20 else f"{low}-{low + 9}" if value < 100 else "100+"] += 1
    result.histogram = dict(groups)
    return result


def _of_shares(values: list[float]) -> Distribution:
    result = _numbers(values)
    places = np.searchsorted(AREAS, values, side="left")
    groups = Counter(int(min(place, len(AREAS) - 1)) for place in places)
    borders = (0.0, *AREAS)
    result.histogram = {f"{borders[g]:g}-{borders[g + 1]:g}": groups[g] for g in sorted(groups)}
    return result


def _numbers(values: list[int] | list[float]) -> Distribution:
    if not values:
        return Distribution()
    array = np.asarray(values, dtype=np.float64)
    return Distribution(
        len(values), float(array.mean()), float(np.median(array)), float(array.min()), float(array.max())
    )
