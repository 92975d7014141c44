"""Clips to learn from: windows of successive frames, each with expressions, as batches whose rows come in runs.

An item is a window of `data.frames` frames of a video, the windows of a video one after the other (the last one moved
back to end with the video; of a shorter video the last frame is repeated). In an item an expression stands as the
window's middle frame, so that what composes batches of pictures composes batches of clips; each is then taken apart
into its frames (`Batch.frames`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from refseg.data.formats.clips import Clip, FrameSamples
from refseg.data.sample import ReferringDataset, Sample
from refseg.errors import ConfigError, DataError, RefsegError
from refseg.types import Batch, Targets

__all__ = ["ClipPictures", "in_runs"]

_LOG = logging.getLogger(__name__)


class ClipPictures:
    """The windows of a video data set; with `unit` "sentence" every expression about one is an item of its own.

    Raises `ConfigError` for a data set of pictures, and for clips whose masks are not published.
    """

    def __init__(self, dataset: ReferringDataset, frames: int, unit: str, notice: str = "") -> None:
        if not isinstance(dataset.samples, FrameSamples):
            raise ConfigError(f"data.frames: {dataset.name} holds pictures, not clips; leave data.frames at 1")
        self.frames, self.notice = frames, notice
        self.clips = dataset.samples.clips
        hidden = next((clip for clip in self.clips if clip.masks is None), None)
        if hidden is not None:
            raise ConfigError(f"data.split: the masks of {dataset.name} {hidden.split} are not published")
        videos: dict[Any, list[Clip]] = {}
        for clip in self.clips:
            videos.setdefault((clip.video, clip.frames), []).append(clip)
        self.items: list[tuple[list[Clip], int]] = []
        """The clips, and the number of the first frame."""
        for members in videos.values():
            for start in window_starts(len(members[0].frames), frames):
                groups = [members] if unit == "picture" else [[clip] for clip in members]
                self.items += [(group, start) for group in groups]
        self.count: int | None = len(self.items)
        self._by_place = {clip.place: clip for clip in self.clips}

    def size(self, of: Literal["item", "object", "sentence"]) -> int:
        """How many windows, objects of videos, or expressions about windows there are."""
        if of == "item":
            return len(self.items)
        if of == "sentence":
            return sum(len(members) for members, _ in self.items)
        return len({(clip.video, number) for clip in self.clips for number in clip.objects})

    def samples(self, index: int) -> list[Sample]:
        """The expressions about window `index`, each about its middle frame."""
        clips, start = self.items[index]
        return [_sample(clip, min(start + self.frames // 2, len(clip.frames) - 1)) for clip in clips]

    def texts(self) -> list[str]:
        """The expressions, each once."""
        return [clip.text for clip in self.clips]

    def batch(
        self, chosen: Sequence[Sample], load: Callable[[list[Sample]], tuple[Batch, Targets]]
    ) -> tuple[Batch, Targets]:
        """Samples of `samples` as clips, loaded by `load`. One of which a frame or mask cannot be read is left out,
        with a line in the log. Raises `DataError` when none is left."""
        runs = []
        for sample in chosen:
            try:
                run = self._run(sample)
                runs.append(run)
            except RefsegError as error:
                _LOG.warning("clip %s is left out: %s", sample.id, error)
        try:
            if runs:
                return in_runs(*load([sample for run in runs for sample in run]), self.frames)
        except RefsegError:
            readable = [run for run in runs if _is_readable(run, load)]
            if len(readable) == len(runs):
                raise
            runs = readable
        if not runs:
            raise DataError(f"none of the {len(chosen)} clips of a batch can be read (the first: {chosen[0].id})")
        return in_runs(*load([sample for run in runs for sample in run]), self.frames)

    def _run(self, sample: Sample) -> list[Sample]:
        """The frames of the window that `sample` stands for."""
        clip = self._by_place[sample.ref_id]
        last = len(clip.frames) - 1
        start = max(0, min(sample.sent_id - self.frames // 2, len(clip.frames) - self.frames))
        return [clip.sample(min(start + number, last)) for number in range(self.frames)]


def _sample(clip: Clip, frame: int) -> Sample:
    """A frame as a sample; of one that cannot be read, which `batch` finds out, one without objects."""
    try:
        return clip.sample(frame)
    except RefsegError:
        path, image_id = clip.frames[frame], clip.place_of(frame)
        name = f"{clip.id}/{path.stem}"
        return Sample(name, clip.text, image_id, (1, 1), image_path=path, ref_id=clip.place, sent_id=frame)


def window_starts(length: int, frames: int) -> list[int]:
    """Where the windows of `frames` frames begin that together hold a video of `length` frames."""
    return [max(0, min(start, length - frames)) for start in range(0, length, frames)]


def in_runs(batch: Batch, targets: Targets, frames: int) -> tuple[Batch, Targets]:
    """A batch of which `frames` successive rows are those of one clip, with its images in such runs, too."""
    rows = batch.image_index if batch.image_index is not None else torch.arange(len(batch.tokens))
    windows, numbers = rows.view(-1, frames).unique(dim=0, return_inverse=True)
    order = windows.flatten()
    index = (numbers[:, None] * frames + torch.arange(frames)).flatten()
    own = torch.equal(index, torch.arange(len(order)))
    images, pixel_mask = batch.images[order], batch.pixel_mask[order]
    clips = replace(batch, images=images, pixel_mask=pixel_mask, image_index=None if own else index, frames=frames)
    if targets.tags is not None:
        targets = replace(targets, tags=targets.tags[order])
    return clips, targets


def _is_readable(run: list[Sample], load: Callable[[list[Sample]], tuple[Batch, Targets]]) -> bool:
    try:
        load(run)
    except RefsegError as error:
        _LOG.warning("clip %s is left out: %s", run[0].id, error)
        return False
    return True
