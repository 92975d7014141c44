"""Answers to clips as the benchmarks' servers take them: a folder of PNG files, to be zipped.

    ref-youtube-vos   DIR/Annotations/<video>/<expression>/<frame>.png    0 and 255; the zip holds Annotations
    mevis             DIR/<video>/<expression>/<frame>.png                0 and 255; the zip holds the videos
    ref-davis17       DIR/anno_<0 to 3>/<video>/<frame>.png               a palette: 0 is ground, then the objects'
                                                                          numbers; for the DAVIS tool, one by one

Sources: the challenge's page and ReferFormer's docs/Ref-Youtube-VOS.md; the README of MeViS; ReferFormer's
inference_davis.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from refseg.data.formats.clips import Clip
from refseg.errors import DataError, RefsegError, did_you_mean
from refseg.files import replacing_folder
from refseg.metrics.protocols import Protocol

__all__ = ["SUBMISSION_FORMATS", "Submission", "check_submission", "writing_submission"]

SUBMISSION_FORMATS = ("ref-youtube-vos", "mevis", "ref-davis17")
"""Data sets whose servers' format is known."""


class Submission:
    """Writes the masks of a data set's clips into a folder, frame by frame."""

    def __init__(self, folder: Path, dataset: str) -> None:
        self.folder, self.dataset = folder, dataset
        self.annotators: dict[str, int] = {}
        """The number of each annotator's folder."""
        self.files = 0
        palette = np.zeros((256, 3), dtype=np.uint8)
        for label in range(256):
            # DAVIS' colours: the bits of the label, in turn the highest of red, green and blue, then the next.
            for bit in range(8):
                palette[label, bit % 3] |= ((label >> bit) & 1) << (7 - bit // 3)
        self.palette = palette.flatten().tolist()

    def add(self, clips: Sequence[Clip], frame: int, masks: Sequence[Bool[np.ndarray, "H W"]]) -> None:
        """Frame `frame` of the clips about one video, a mask each. Raises `DataError` where a name does not fit."""
        if self.dataset == "ref-davis17":
            self._add_objects(clips, frame, masks)
            return
        home = self.folder / "Annotations" if self.dataset == "ref-youtube-vos" else self.folder
        for clip, mask in zip(clips, masks, strict=True):
            if clip.sentence != Path(clip.sentence).name or clip.sentence in ("", ".", ".."):
                raise DataError(f"clip {clip.id}: {clip.sentence!r} cannot be the name of a folder")
            picture = Image.fromarray(mask.astype(np.uint8) * 255)
            self._save(picture, home / clip.video / clip.sentence / f"{clip.frames[frame].stem}.png")

    def _add_objects(self, clips: Sequence[Clip], frame: int, masks: Sequence[Bool[np.ndarray, "H W"]]) -> None:
        labels: dict[str, np.ndarray] = {}
        for clip, mask in zip(clips, masks, strict=True):
            if clip.kind is None or len(clip.objects) != 1:
                raise DataError(f"clip {clip.id}: one object and its annotator are wanted for a submission")
            number = clip.objects[0]
            if not 0 < number < 256:
                raise DataError(f"clip {clip.id}: object {number} has no colour in a palette")
            picture = labels.setdefault(clip.kind, np.zeros(mask.shape, dtype=np.uint8))
            picture[mask] = number
        for annotator, picture in labels.items():
            number = self.annotators.setdefault(annotator, len(self.annotators))
            image = Image.frombytes("P", picture.shape[::-1], picture.tobytes())
            image.putpalette(self.palette)
            name = f"{clips[0].frames[frame].stem}.png"
            self._save(image, self.folder / f"anno_{number}" / clips[0].video / name)

    def _save(self, picture: Image.Image, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        self.files += 1


def check_submission(folder: Path, dataset: str, protocol: Protocol) -> None:
    """Raises `RefsegError` where a submission cannot be begun: something stands in its place, the protocol is not of
    clips, or the data set has no format."""
    if folder.exists():
        raise RefsegError(
            f"--submission: {folder} is there already; name a folder that is not, so that nothing is mixed"
        )
    if protocol.task != "video":
        raise RefsegError(
            f"--submission: protocol {protocol.name} compares {protocol.task}; take youtube-vos, mevis or ref-davis17"
        )
    if dataset not in SUBMISSION_FORMATS:
        raise DataError(f"--submission: {dataset} has no known format; {did_you_mean(dataset, SUBMISSION_FORMATS)}")
    if dataset == "ref-davis17" and protocol.objects != "merged":
        raise DataError(f"--submission: {dataset} wants merged objects; take the protocol ref-davis17 or davis")


@contextmanager
def writing_submission(folder: Path, dataset: str, protocol: Protocol) -> Iterator[Submission]:
    """A `Submission` whose folder is there, whole, when the block ends well. Raises as `check_submission`."""
    check_submission(folder, dataset, protocol)
    with replacing_folder(folder) as temporary:
        yield Submission(temporary, dataset)
