"""Counting a data set's samples into a report, and looking at pictures and outlines. No torch in this file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from refseg.data.formats.clips import Clip
from refseg.data.images import image_size, read_image
from refseg.data.report import Counts, DatasetReport
from refseg.data.sample import Instance, Problem, Sample
from refseg.errors import RefsegError


class Tally:
    """Counts samples one by one into a report, and looks at their pictures and outlines."""

    def __init__(self, report: DatasetReport, known: dict[Path, str], deep: bool) -> None:
        self.report, self.known, self.deep = report, known, deep
        self.pictures: dict[str, set[int]] = {}
        self.objects: dict[str, set[tuple[int, int]]] = {}
        self.referents: dict[str, set[int]] = {}
        self.kinds: dict[str, Counter[str]] = {}
        self.lost: dict[int, tuple[str, int]] = {}
        self.seen: dict[int, bool] = {}
        self.outlines: set[tuple[int, int, tuple[float, ...]]] = set()

    def add(self, sample: Sample) -> None:
        """One more sentence."""
        split = sample.split
        counts = self.report.splits.setdefault(split, Counts())
        counts.expressions += 1
        targets = len(sample.objects)
        name = "no_target" if sample.no_target else "one_target" if targets == 1 else "several_targets"
        if targets or sample.no_target:
            setattr(counts, name, getattr(counts, name) + 1)
        self.pictures.setdefault(split, set()).add(sample.image_id)
        self.objects.setdefault(split, set()).update((sample.image_id, item.ann_id) for item in sample.objects)
        self.referents.setdefault(split, set()).add(sample.ref_id)
        if sample.kind is not None:
            self.kinds.setdefault(split, Counter())[sample.kind] += 1
        if self._picture(sample) and self._outlines(sample):
            counts.usable += 1

    def finish(self) -> None:
        """Put the numbers of pictures, objects and referents into the report, and the pictures that are damaged."""
        report = self.report
        for split, counts in report.splits.items():
            counts.pictures, counts.objects = len(self.pictures[split]), len(self.objects[split])
            counts.referents = len(self.referents[split])
            counts.kinds = dict(self.kinds.get(split, Counter()).most_common())
        report.pictures_found = sum(self.seen.values())
        report.pictures_missing = len(self.seen) - report.pictures_found
        for image_id, (fault, lost) in self.lost.items():
            report.problems.append(Problem("bad_picture", f"picture {image_id}", fault, lost))

    def _picture(self, sample: Sample) -> bool:
        there = sample.image_path is not None or sample.stored is not None
        self.seen[sample.image_id] = there
        if not there:
            return False
        fault = self._fault(sample)
        if fault:
            self.lost[sample.image_id] = (fault, self.lost.get(sample.image_id, ("", 0))[1] + 1)
        return not fault

    def _fault(self, sample: Sample) -> str:
        if sample.image_path is None:
            if not self.deep:
                return ""
            try:
                sample.read_image()
            except RefsegError as error:
                return str(error)
            return ""
        key = sample.image_path / f"{sample.size[0]}x{sample.size[1]}"
        if key not in self.known:
            self.known[key] = picture_fault(sample.image_path, sample.size, self.deep)
        return self.known[key]

    def _outlines(self, sample: Sample) -> bool:
        """Whether every outline can be drawn; looked at with `deep` only, each once."""
        if not self.deep:
            return True
        sound = True
        for item in sample.objects:
            key = (sample.image_id, item.ann_id, item.bbox)
            if item.segmentation is None or key in self.outlines:
                continue
            try:
                fault = "" if item.mask(sample.size).any() else "covers no pixel"
            except RefsegError as error:
                fault, sound = str(error), False
            if fault:
                self.report.problems.append(Problem("bad_outline", f"sample {sample.id} object {item.ann_id}", fault))
            self.outlines.add(key)
        return sound


def picture_fault(path: Path, size: tuple[int, int], deep: bool) -> str:
    """What is wrong with the picture at `path`, annotated at (height, width) `size`; "" for nothing."""
    try:
        stored = image_size(path)
        if deep:
            upright = read_image(path)
            fits = size in (stored, (upright.height, upright.width))
        else:
            fits = size in (stored, stored[::-1])  # an orientation in the header may turn it
    except RefsegError as error:
        return str(error)
    if fits:
        return ""
    return f"{path}: is {stored[1]} x {stored[0]}, annotated at {size[1]} x {size[0]}"


def clip_samples(clips: list[Clip], problems: list[Problem]) -> Iterator[Sample]:
    """Each clip as one sample, to be counted as one sentence: its first frame and all its objects, without masks."""
    for clip in clips:
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


def check_clips(clips: list[Clip], problems: list[Problem]) -> None:
    """Read every frame and mask of every clip."""
    done: set[Path] = set()
    for clip in clips:
        for frame, path in enumerate(clip.frames):
            try:
                sample = clip.sample(frame)
                if path not in done:
                    done.add(path)
                    sample.read_image()
            except RefsegError as error:
                problems.append(Problem("bad_frame", f"{clip.id}/{path.stem}", str(error)))
