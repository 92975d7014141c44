"""Things linked over the frames of a clip, and choices among them that are made over their tracks.

Linking is greedy by affinity (as in CenterTrack: Zhou et al., "Tracking Objects as Points", ECCV 2020, section 4.1),
strong candidates before weak ones, which go on with tracks that nothing strong fits (ByteTrack: Zhang et al., ECCV
2022). A choice looks at the mean evidence of each track with exponential forgetting, and what was chosen stays chosen
until another is plainly better: no frame alone moves the mask. Everything is online: no frame waits for a later one.
Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Bool, Float, Int
from PIL import Image

from refseg.config import Config, NonNegativeFloat

__all__ = ["Candidates", "Chosen", "CutDetector", "Linker", "TrackMemory", "TrackingConfig", "pair_iou"]

Share = Annotated[float, Ge(0), Le(1)]
HIDDEN = 0.5
"""The no-target logit of a frame in which nothing shows what is meant, where the frame itself says less."""


@dataclass(frozen=True)
class TrackingConfig(Config):
    """How things are linked over frames and how a choice over tracks is made. Frames are those looked at."""

    box_weight: NonNegativeFloat = 0.6
    """Of the boxes' overlap in the affinity of a track and a candidate; the weights need not add up to 1."""
    look_weight: NonNegativeFloat = 0.25
    """Of the likeness of appearance."""
    class_weight: NonNegativeFloat = 0.15
    """Of the likeness of class probabilities."""
    least_overlap: Share = 0.2
    """IoU of the expected box and a candidate's from which they may be one thing."""
    least_look: Share = 0.9
    """Likeness of appearance from which a thing that moved farther, half its own size at most, may be the same."""
    strong: Share = 0.3
    """Scores from which candidates are linked before the others."""
    longest_gap: Annotated[int, Ge(0)] = 12
    """Frames after which a track that is not seen ends."""
    coast: Annotated[int, Ge(0)] = 2
    """Frames for which a chosen thing that no candidate shows is looked for where it is expected."""
    half_life: Annotated[float, Gt(0)] = 20.0
    """Frames after which evidence counts half."""
    prior: NonNegativeFloat = 1.0
    """Frames of no evidence that every track begins with, so that a new one does not win by its first frame."""
    stay: NonNegativeFloat = 0.75
    """Logits by which another track must be better than the one that was chosen before."""
    mask_memory: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the frames before in the mask of a proposal's track, moved along with its box: calmer masks (at 0.8),
    and worse ones of what bends as it moves (docs/video.md has the figures)."""
    limit: Annotated[float, Gt(0)] = 6.0
    """Logits of one frame are cut to this size."""


@dataclass(frozen=True)
class Candidates:
    """K things of one frame. `boxes` x0 y0 x1 y1, 0 to 1 of its width and height; `scores` 0 to 1; `classes` and
    `looks` are vectors of which the directions are compared (0 wide where there are none)."""

    boxes: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, " K"]
    classes: Float[np.ndarray, "K A"]
    looks: Float[np.ndarray, "K C"]

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass
class _Track:
    number: int
    box: Float[np.ndarray, " 4"]
    velocity: Float[np.ndarray, " 4"]
    classes: Float[np.ndarray, " A"]
    look: Float[np.ndarray, " C"]
    gap: int = 0
    """Frames since it was seen."""

    def expected(self) -> Float[np.ndarray, " 4"]:
        """Where it is now, if it goes on as before; what is not seen slows down."""
        return self.box + self.velocity * min(self.gap + 1, 3)


class Linker:
    """Gives the candidates of each frame the numbers of their tracks."""

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, found: Candidates) -> Int[np.ndarray, " K"]:
        """The candidates' track numbers, from 1, each once; new things get new numbers."""
        numbers = np.zeros(len(found), dtype=np.int64)
        free = np.ones(len(self._tracks), dtype=bool)
        affinity = self._affinity(found)
        for strong in (True, False):
            rows = (found.scores >= self.config.strong) == strong
            for track, row in _greedy(np.where(free[:, None] & rows, affinity, -1.0)):
                free[track] = False
                numbers[row] = self._tracks[track].number
                self._move(self._tracks[track], found, row)
        for track in np.flatnonzero(free).tolist():
            self._tracks[track].gap += 1
        for row in np.flatnonzero(numbers == 0).tolist():
            zeros = np.zeros(4)
            self._tracks.append(
                _Track(self._next, found.boxes[row].copy(), zeros, found.classes[row], _unit(found.looks[row]))
            )
            numbers[row] = self._next
            self._next += 1
        self._tracks = [track for track in self._tracks if track.gap <= self.config.longest_gap]
        return numbers

    def cut(self) -> None:
        """Another scene: all tracks end."""
        self._tracks = []

    def alive(self) -> set[int]:
        """Numbers of the tracks that may go on."""
        return {track.number for track in self._tracks}

    def missing(self) -> dict[int, tuple[int, Float[np.ndarray, " 4"]]]:
        """Tracks not seen in the last frame: for how many frames, and where they are expected, cut at the borders."""
        # `gap` was counted up already: one less leads from the last sight to now.
        return {
            track.number: (track.gap, (track.box + track.velocity * min(track.gap, 3)).clip(0, 1))
            for track in self._tracks
            if track.gap
        }

    def _affinity(self, found: Candidates) -> Float[np.ndarray, "T K"]:
        """0 to the weights' sum; -1 where the two cannot be one thing."""
        config = self.config
        if not self._tracks or not len(found):
            return np.zeros((len(self._tracks), len(found)))
        expected = np.stack([track.expected() for track in self._tracks])
        overlap = pair_iou(expected, found.boxes)
        looks = np.stack([track.look for track in self._tracks]) @ _unit(found.looks).T
        classes = _unit(np.stack([track.classes for track in self._tracks])) @ _unit(found.classes).T
        size = np.sqrt((expected[:, 2:] - expected[:, :2]).clip(0).prod(axis=1))
        centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (expected, found.boxes)]
        apart = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=2)
        near = (looks >= config.least_look) & (apart <= 0.5 * size[:, None])
        value = config.box_weight * overlap + config.look_weight * looks.clip(0) + config.class_weight * classes
        return np.where((overlap >= config.least_overlap) | near, value, -1.0)

    def _move(self, track: _Track, found: Candidates, row: int) -> None:
        box = found.boxes[row]
        track.velocity = 0.6 * track.velocity + 0.4 * (box - track.box) / (track.gap + 1)
        track.box, track.gap = box.copy(), 0
        track.classes = 0.8 * track.classes + 0.2 * found.classes[row]
        track.look = _unit(0.8 * track.look + 0.2 * _unit(found.looks[row]))


def pair_iou(one: Float[np.ndarray, "T 4"], other: Float[np.ndarray, "K 4"]) -> Float[np.ndarray, "T K"]:
    """IoU of boxes x0 y0 x1 y1."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (one, other)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


def _greedy(values: Float[np.ndarray, "T K"]) -> list[tuple[int, int]]:
    """Pairs of rows and columns, each used once, the largest values first; none below 0."""
    pairs = []
    open_rows, open_columns = np.ones(values.shape[0], dtype=bool), np.ones(values.shape[1], dtype=bool)
    rows, columns = np.nonzero(values >= 0)
    for place in np.argsort(-values[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if open_rows[row] and open_columns[column]:
            open_rows[row] = open_columns[column] = False
            pairs.append((row, column))
    return pairs


def _unit(vectors: Float[np.ndarray, "*N C"]) -> Float[np.ndarray, "*N C"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


@dataclass
class _Evidence:
    weight: float = 0.0
    meant: float = 0.0
    none: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """The tracks that an expression means in one frame, best first; `unseen` are those of them that no candidate
    shows. `none_logit` above the threshold's means that there is no target."""

    tracks: tuple[int, ...]
    unseen: frozenset[int]
    none_logit: float


@dataclass
class TrackMemory:
    """What the frames so far said about the tracks, for one expression, and the choice that follows."""

    config: TrackingConfig = field(default_factory=TrackingConfig)
    _evidence: dict[int, _Evidence] = field(default_factory=dict)
    _before: set[int] = field(default_factory=set)

    def choose(
        self,
        tracks: Sequence[int],
        logits: Float[np.ndarray, " K"],
        none_logit: float,
        several: bool,
        missing: dict[int, int],
        alive: set[int],
    ) -> Chosen:
        """The choice of this frame.

        Args:
            tracks: numbers of the tracks seen in it.
            logits: of being meant, by this frame alone; above 0 are meant.
            none_logit: of no target, by this frame alone.
            several: whether any number of tracks may be meant, or one.
            missing: tracks that are not seen, and for how many frames.
            alive: tracks that may go on; the others are forgotten.
        """
        config = self.config
        self._evidence = {number: entry for number, entry in self._evidence.items() if number in alive}
        keep = 0.5 ** (1 / config.half_life)
        limit = config.limit
        for number, logit in zip(tracks, logits, strict=True):
            entry = self._evidence.setdefault(number, _Evidence())
            entry.weight = entry.weight * keep + 1
            entry.meant = entry.meant * keep + float(np.clip(logit, -limit, limit))
            entry.none = entry.none * keep + float(np.clip(none_logit, -limit, limit))
        waiting = [
            number for number in self._before if number in self._evidence and 0 < missing.get(number, 0) <= config.coast
        ]
        values = {number: self._value(number, several) for number in [*tracks, *waiting]}
        if several:
            kept = [n for n, v in values.items() if v > (-config.stay if n in self._before else 0.0)]
            kept.sort(key=lambda n: -values[n])
        else:
            kept = sorted(values, key=lambda n: -(values[n] + (config.stay if n in self._before else 0.0)))[:1]
        if not several and kept and values[kept[0]] < 0 and self._hidden(missing) > values[kept[0]] + config.stay:
            # What is meant is out of sight for a while; what was worse as long as it was there is not meant instead.
            return Chosen((), frozenset(), max(float(none_logit), HIDDEN))
        if not kept:
            self._before = set()
            return Chosen((), frozenset(), max(float(none_logit), HIDDEN if len(tracks) else limit))
        none = min(self._none(number) for number in kept)
        # What was there stays there until the frames plainly say otherwise.
        none -= config.stay if self._before & set(kept) and none > 0 else 0.0
        self._before = set(kept) if none <= 0 else set()
        return Chosen(tuple(kept), frozenset(kept) & frozenset(waiting), none)

    def cut(self) -> None:
        """Another scene: nothing is known of it."""
        self._evidence, self._before = {}, set()

    def _hidden(self, missing: dict[int, int]) -> float:
        """The best value of a track that is out of sight, where its evidence is for it."""
        values = [self._value(number, False) for number in missing if number in self._evidence]
        return max((value for value in values if value > 0), default=-math.inf)

    def _value(self, number: int, several: bool) -> float:
        entry = self._evidence[number]
        mean = entry.meant / (entry.weight + self.config.prior)
        return mean if several else mean - max(0.0, self._none(number))

    def _none(self, number: int) -> float:
        entry = self._evidence[number]
        return entry.none / entry.weight


class CutDetector:
    """Says where a clip goes on with another scene: colours and pixels both change much at once.

    A cut is where half of the mean difference of the 16-bin histograms of R, G and B is above `colours`, and the mean
    difference of the pixels of 64 x 36 thumbnails above `pixels` (0 to 1) and three times what it was lately. Fades and
    dissolves are none.
    """

    def __init__(self, colours: float = 0.3, pixels: float = 0.1) -> None:
        self.colours, self.pixels = colours, pixels
        self._before: tuple[Float[np.ndarray, "36 64 3"], Float[np.ndarray, "3 16"]] | None = None
        self._usual = 0.0

    def update(self, image: Image.Image) -> bool:
        """Whether this frame is the first of another scene; the clip's first one is not."""
        small = np.asarray(image.resize((64, 36), Image.Resampling.BOX).convert("RGB"), dtype=np.float64) / 255
        bins = np.stack([np.histogram(small[..., c], 16, (0, 1))[0] / small[..., c].size for c in range(3)])
        before, self._before = self._before, (small, bins)
        if before is None:
            return False
        moved = float(np.abs(small - before[0]).mean())
        recoloured = float(np.abs(bins - before[1]).sum(axis=1).mean()) / 2
        cut = recoloured > self.colours and moved > self.pixels and moved > 3 * self._usual
        self._usual = 0.0 if cut else 0.8 * self._usual + 0.2 * moved
        return cut


def logit(probability: float) -> float:
    """log(p / (1 - p)), with p kept 1e-6 away from 0 and 1."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def same_things(boxes: Float[np.ndarray, "K 4"], overlap: float = 0.7) -> Bool[np.ndarray, "K K"]:
    """Which of the boxes show one thing: an IoU of at least `overlap`."""
    return pair_iou(boxes, boxes) >= overlap
