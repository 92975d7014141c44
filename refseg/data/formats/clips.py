"""Referring in video: an expression about a clip, its frames, and the objects that it refers to, frame by frame.

A `Clip` is one expression with its frames. As a data set of samples (`FrameSamples`) each frame of each clip is one
sample with the id "<video>_<sentence>/<frame>", which `refseg score` joins to clips again. Masks and pictures are read
when a sample is asked for. The formats of `video` and `davis` give these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refseg.data import rle
from refseg.data.images import image_size
from refseg.data.masks import MaskFile, SegmentationSource, bounding_box, rasterise
from refseg.data.sample import Instance, Problem, Sample
from refseg.errors import DataError, RefsegError

ANNOTATORS = (
    "annotator 1, first frame", "annotator 1, full video", "annotator 2, first frame", "annotator 2, full video",
)  # fmt: skip
"""Who wrote Ref-DAVIS17's expressions, and from what; `Clip.kind`."""


@runtime_checkable
class MaskSource(Protocol):
    """Where the objects' masks of a clip are."""

    def outline(self, number: int, frame: int) -> SegmentationSource:
        """Object `number` (the clip's own numbering) in frame `frame` (from 0); None where it is not seen."""
        ...


@dataclass(frozen=True)
class PaletteMasks:
    """One palette PNG a frame; the object's number is the palette's."""

    folder: Path
    frames: tuple[str, ...]

    def outline(self, number: int, frame: int) -> SegmentationSource:
        """See `MaskSource`. Frames without a file show nothing that is annotated."""
        path = self.folder / f"{self.frames[frame]}.png"
        return MaskFile(path, number) if path.is_file() else None


@dataclass(frozen=True)
class Clip:
    """One expression about one video.

    `objects` are the numbers of the targets, `numbers` what `masks` calls them; `masks` is None for hidden test
    sets. `kind` says who wrote the expression and from what, where a data set has several annotators (Ref-DAVIS17).
    """

    video: str
    sentence: str
    text: str
    frames: tuple[Path, ...]
    objects: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    category: str = ""
    kind: str | None = None
    split: str = ""
    dataset: str = ""
    place: int = 0
    masks: MaskSource | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        """ "<video>_<sentence>", unique in its data set."""
        return f"{self.video}_{self.sentence}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames, from the first one's header."""
        return _size_of(self.frames[0])

    def sample(self, frame: int) -> Sample:
        """Frame `frame` as a sample; without target where none of the objects is seen in it.

        Raises `DataError` for a damaged mask.
        """
        path, size = self.frames[frame], _size_of(self.frames[frame])
        seen = []
        for number, own in zip(self.objects, self.numbers, strict=True) if self.masks is not None else ():
            outline = self.masks.outline(own, frame) if self.masks is not None else None
            mask = None if outline is None else rasterise(outline, size)
            if mask is not None and mask.any():
                kept = outline if isinstance(outline, dict) else rle.encode(mask)
                seen.append(Instance(number, self.category, bounding_box(mask), kept))
        return Sample(
            id=f"{self.id}/{path.stem}",
            text=self.text,
            image_id=self.place_of(frame),
            size=size,
            objects=tuple(seen),
            no_target=self.masks is not None and not seen,
            image_path=path,
            kind=self.kind,
            split=self.split,
            dataset=self.dataset,
            ref_id=self.place,
            sent_id=frame,
        )

    def place_of(self, frame: int) -> int:
        """A number for the frame's picture, the same for all expressions about the video."""
        return picture_number(self.video, self.frames[frame].stem)

    def target(self) -> NDArray[np.bool_]:
        """The union of the objects' masks, (frames, H, W) bool, as `refseg.metrics.video` takes it.

        Raises `DataError` for a hidden test set.
        """
        if self.masks is None:
            raise DataError(f"clip {self.id}: its masks are not published")
        return np.stack([self.sample(frame).mask() for frame in range(len(self.frames))])


class FrameSamples(Sequence[Sample]):
    """Every frame of every clip as a sample, clip after clip; nothing is read before it is asked for."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = list(clips)
        self._ends = np.cumsum([len(clip.frames) for clip in self.clips], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        clip = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[clip - 1]) if clip else 0
        return self.clips[clip].sample(index - start)

    def first_frames(self, problems: list[Problem]) -> Iterator[Sample]:
        """Each clip as one sample, to be counted once: its first frame and all its objects, without masks."""
        for clip in self.clips:
            items = tuple(Instance(number, clip.category, (0.0, 0.0, 0.0, 0.0)) for number in clip.objects)
            try:
                size = clip.size
            except RefsegError as error:
                problems.append(Problem("bad_frame", clip.id, str(error), 1))
                continue
            yield Sample(
                clip.id, clip.text, clip.place_of(0), size, items, clip.masks is not None and not items,
                image_path=clip.frames[0], kind=clip.kind, split=clip.split, dataset=clip.dataset,
                ref_id=clip.place, sent_id=0,
            )  # fmt: skip

    def read_everything(self, problems: list[Problem]) -> None:
        """Read every frame and mask of every clip; add what cannot be read."""
        done: set[Path] = set()
        for clip in self.clips:
            for frame, path in enumerate(clip.frames):
                try:
                    sample = clip.sample(frame)
                    if path not in done:
                        done.add(path)
                        sample.read_image()
                except RefsegError as error:
                    problems.append(Problem("bad_frame", f"{clip.id}/{path.stem}", str(error)))

    def texts(self) -> list[str]:
        """The expressions, each once a frame."""
        return [clip.text for clip in self.clips for _ in clip.frames]

    def image_ids(self) -> list[int]:
        """The pictures' numbers, without reading any."""
        return [clip.place_of(frame) for clip in self.clips for frame in range(len(clip.frames))]


@lru_cache(maxsize=1 << 16)
def picture_number(video: str, frame: str) -> int:
    """A number for a frame: 63 bits of a hash, as names of videos are text."""
    return int.from_bytes(hashlib.sha256(f"{video}/{frame}".encode()).digest()[:8], "big") >> 1


@lru_cache(maxsize=1 << 14)
def _size_of(path: Path) -> tuple[int, int]:
    return image_size(path)


def clip_frames(folder: Path, names: Sequence[Any]) -> tuple[tuple[Path, ...], list[str]]:
    """The frames' paths in order, and the names of those that are not there."""
    paths, missing = [], []
    for name in names:
        path = next((p for s in (".jpg", ".jpeg", ".png") if (p := folder / f"{name}{s}").is_file()), None)
        if path is None:
            missing.append(str(name))
        else:
            paths.append(path)
    return tuple(paths), missing
