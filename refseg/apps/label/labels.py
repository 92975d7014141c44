"""Pictures labelled with the phrases of a list, overlaps resolved.

Each phrase is asked for by itself, as a set ("all dogs"), so that any phrase is possible. What several phrases claim is
resolved in three steps:
1. of instances that are one thing (IoU of the masks above `same`) the one of the highest score stays, of equal ones
   that whose phrase more surely means something ("dog" finds a hot dog with the detection's own score, too);
2. a part lies on what it is a part of: an instance mostly inside a larger one is drawn over it; else the higher score
   takes a pixel;
3. what is left of an instance must be at least half of it, as in Panoptic FPN (Kirillov et al., CVPR 2019, section
   3.1), or it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float, Int

from refseg.config import Config, PositiveInt
from refseg.data.rle import encode
from refseg.errors import ConfigError, RefsegError
from refseg.inference.predictor import ImageLike, Segmenter, clean_text
from refseg.inference.segmentation import Instance

if TYPE_CHECKING:
    import supervision

__all__ = ["LabelConfig", "LabelledImage", "LabelledInstance", "label", "palette_of", "read_phrases", "resolve"]

Share = Annotated[float, Ge(0), Le(1)]
MAX_PHRASES = 65_535
"""What a map of 16 bits tells apart."""
MAX_BYTES = 10_000_000
"""Of a list of phrases."""


@dataclass(frozen=True)
class LabelConfig(Config):
    """How phrases are asked for and overlaps resolved."""

    template: str = "all {}"
    """What is asked for a phrase, which stands where the braces are; "{}" asks for the phrase as it is."""
    least_score: Share = 0.0
    """Instances of lower scores are left out."""
    same: Share = 0.7
    """IoU of two masks from which they are one thing."""
    inside: Share = 0.8
    """Share of an instance that lies in one at least twice as large, from which it is a part of that."""
    visible: Share = 0.5
    """Share of an instance that must be left after others took theirs."""
    at_once: PositiveInt = 16
    """Phrases that are asked for together."""

    def check(self) -> None:
        """Raises `ConfigError` for a template without its braces."""
        if self.template.count("{}") != 1:
            raise ConfigError(f"template {self.template!r}: {{}} stands once where the phrase is put")


@dataclass(frozen=True)
class LabelledInstance:
    """An instance and the phrase that it was found by: its number from 0."""

    instance: Instance
    phrase: int
    no_target_score: float = 0.0
    """The probability that the phrase means nothing in the picture."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """The labelled instances of one picture of `size` (height, width), which do not overlap; the best first."""

    phrases: Sequence[str]
    size: tuple[int, int]
    instances: tuple[LabelledInstance, ...]

    def semantic_map(self) -> Int[np.ndarray, "H W"]:
        """Of each pixel the number of its phrase from 1; 0 is none."""
        return self._map(lambda place, entry: entry.phrase + 1)

    def instance_map(self) -> Int[np.ndarray, "H W"]:
        """Of each pixel the number of its instance from 1, in the order of `instances`; 0 is none."""
        return self._map(lambda place, entry: place + 1)

    def to_coco(self, image_id: int, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations with scores; categories are the phrases' numbers from 1."""
        return [
            {
                "id": first_id + place,
                "image_id": image_id,
                "category_id": entry.phrase + 1,
                "segmentation": encode(entry.instance.mask),
                "bbox": [float(value) for value in (*entry.instance.box[:2], *_sides(entry.instance))],
                "area": int(entry.instance.region.sum()),
                "iscrowd": 0,
                "score": round(entry.instance.score, 6),
            }
            for place, entry in enumerate(self.instances)
        ]

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections` (needs the package `supervision`): `class_id` is the phrase's number from 0,
        `class_name` the phrase."""
        try:
            import supervision
        except ImportError as error:
            raise RefsegError("to_supervision needs the package supervision: pip install supervision") from error
        if not self.instances:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.array([entry.instance.box for entry in self.instances], dtype=np.float32),
            mask=np.stack([entry.instance.mask for entry in self.instances]),
            confidence=np.array([entry.instance.score for entry in self.instances], dtype=np.float32),
            class_id=np.array([entry.phrase for entry in self.instances]),
            data={"class_name": np.array([self.phrases[entry.phrase] for entry in self.instances])},
        )

    def _map(self, value: Callable[[int, LabelledInstance], int]) -> Int[np.ndarray, "H W"]:
        result = np.zeros(self.size, dtype=np.int32)
        for place, entry in enumerate(self.instances):
            result[entry.instance.rows_and_columns][entry.instance.region] = value(place, entry)
        return result


def label(
    segmenter: Segmenter,
    image: ImageLike,
    phrases: Sequence[str],
    config: LabelConfig | None = None,
    *,
    threshold: float | None = None,
    no_target_threshold: float | None = None,
) -> LabelledImage:
    """What the phrases mean in one picture. Raises `ImageError` for what is no picture, `RefsegError` without phrases
    and for thresholds out of range."""
    config = config or LabelConfig()
    cleaned = [clean_text(phrase) for phrase in phrases]
    if not cleaned:
        raise RefsegError("no phrase to label with")
    encoded = segmenter.encode(image)
    size = (encoded.image.height, encoded.image.width)
    found: list[LabelledInstance] = []
    for start in range(0, len(cleaned), config.at_once):
        asked = [config.template.format(phrase) for phrase in cleaned[start : start + config.at_once]]
        answers = encoded.ask(asked, threshold=threshold, no_target_threshold=no_target_threshold)
        found += [
            LabelledInstance(replace(instance, label=cleaned[start + place]), start + place, answer.no_target_score)
            for place, answer in enumerate(answers)
            for instance in answer.instances
            if instance.region.any() and instance.score >= config.least_score
        ]
    return LabelledImage(cleaned, size, tuple(resolve(found, config)))


def resolve(found: Sequence[LabelledInstance], config: LabelConfig | None = None) -> list[LabelledInstance]:
    """The instances with overlaps resolved (see the top of this file), the best first; masks are cut accordingly."""
    config = config or LabelConfig()
    kept = sorted(found, key=lambda entry: (-entry.instance.score, entry.no_target_score))
    shared = _intersections(kept)
    areas = np.array([float(entry.instance.region.sum()) for entry in kept])
    union = areas[:, None] + areas[None] - shared
    single: list[int] = []
    for row in range(len(kept)):
        if not any(shared[row, other] > config.same * union[row, other] for other in single):
            single.append(row)
    kept, areas, shared = [kept[row] for row in single], areas[single], shared[np.ix_(single, single)]
    while kept:
        part = (shared >= config.inside * areas[:, None]) & (2 * areas[:, None] <= areas[None])
        depth = part.sum(axis=1)
        # Drawn from below: parts last, among equals the best last.
        order = sorted(range(len(kept)), key=lambda row: (depth[row], -row))
        left = _left_over([kept[row].instance for row in order])
        visible = np.zeros(len(kept))
        for row, region in zip(order, left, strict=True):
            visible[row] = region.sum() / areas[row]
        worst = int(visible.argmin())
        if visible[worst] >= config.visible:
            regions = dict(zip(order, left, strict=True))
            return [replace(entry, instance=_cut(entry.instance, regions[row])) for row, entry in enumerate(kept)]
        rest = [row for row in range(len(kept)) if row != worst]
        kept, areas, shared = [kept[row] for row in rest], areas[rest], shared[np.ix_(rest, rest)]
    return []


def _intersections(entries: Sequence[LabelledInstance]) -> Float[np.ndarray, "K K"]:
    """Pixels that two masks share."""
    result = np.zeros((len(entries), len(entries)))
    spans = [entry.instance.rows_and_columns for entry in entries]
    for row, entry in enumerate(entries):
        result[row, row] = entry.instance.region.sum()
        for column in range(row):
            top, left = (max(spans[row][axis].start, spans[column][axis].start) for axis in (0, 1))
            bottom, right = (min(spans[row][axis].stop, spans[column][axis].stop) for axis in (0, 1))
            if bottom <= top or right <= left:
                continue
            parts = [
                entries[place].instance.region[
                    top - spans[place][0].start : bottom - spans[place][0].start,
                    left - spans[place][1].start : right - spans[place][1].start,
                ]
                for place in (row, column)
            ]
            result[row, column] = result[column, row] = (parts[0] & parts[1]).sum()
    return result


def _left_over(instances: Sequence[Instance]) -> list[np.ndarray]:
    """Of each instance's region what those after it leave."""
    if not instances:
        return []
    drawn = np.full(instances[0].size, -1, dtype=np.int32)
    for place, instance in enumerate(instances):
        drawn[instance.rows_and_columns][instance.region] = place
    return [instance.region & (drawn[instance.rows_and_columns] == place) for place, instance in enumerate(instances)]


def _sides(instance: Instance) -> Float[np.ndarray, " 2"]:
    """Width and height of its box."""
    return instance.box[2:] - instance.box[:2]


def _cut(instance: Instance, region: np.ndarray) -> Instance:
    if np.array_equal(region, instance.region):
        return instance
    mask = np.zeros(instance.size, dtype=bool)
    mask[instance.rows_and_columns] = region
    return Instance.from_mask(mask, instance.score, instance.label, instance.box)


def read_phrases(path: Path) -> list[str]:
    """The phrases of a text file (UTF-8), one a line; empty lines and those that begin with # are passed over, and each
    is taken once. Raises `RefsegError` for a file that is not there, too large, no text, or empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RefsegError(f"{path}: a list of more than {MAX_BYTES:,} bytes; one phrase a line is wanted")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise RefsegError(f"{path}: the phrases cannot be read ({reason})") from error
    except UnicodeDecodeError as error:
        raise RefsegError(f"{path}: not a text file in UTF-8; one phrase a line is wanted") from error
    phrases = list(dict.fromkeys(_lines(path, text)))
    if not phrases:
        raise RefsegError(f"{path}: no phrase in it; one a line is wanted")
    if len(phrases) > MAX_PHRASES:
        raise RefsegError(f"{path}: {len(phrases):,} phrases; at most {MAX_PHRASES:,} can be told apart in a map")
    return phrases


def _lines(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield clean_text(line)
            except RefsegError as error:
                raise RefsegError(f"{path}:{number}: {error}") from error


def palette_of(count: int) -> list[int]:
    """R, G, B of 0 to `count` (at most 255) for a palette picture: ground black, then colours far apart."""
    colours = [0, 0, 0]
    for number in range(1, min(count, 255) + 1):
        # Steps of the golden ratio: neighbouring numbers have hues far apart.
        hue, value = (number * 0.618034) % 1.0, (0.95, 0.75, 0.55)[number % 3]
        colours += [round(255 * part) for part in hsv_to_rgb(hue, 0.75, value)]
    return colours
