"""Scoring a model on clips: an expression is answered in all frames, and J and F are counted frame by frame.

A video's frames are read once and encoded once for all its expressions. Models that answer clips at once
(`decode_clip`: VLT) see all frames of a video together, or so many at a time as `clip_frames` says; others answer frame
by frame. Masks are cut from the answers as the protocol says; where it merges the objects of an annotator, a pixel
belongs to the likeliest. Nothing of a video is kept but its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from refseg.data.formats.clips import Clip, FrameSamples
from refseg.data.rle import encode
from refseg.data.sample import ReferringDataset, Sample
from refseg.data.transforms import place_image
from refseg.errors import DataError, RefsegError
from refseg.evaluation.protocol_masks import enlarged, level_of
from refseg.evaluation.runs import Writers
from refseg.evaluation.submission import Submission
from refseg.geometry import Geometry
from refseg.inference.postprocess import check_numbers
from refseg.inference.video import AnswersClips
from refseg.metrics.clip_rows import ClipCounter, ClipRow
from refseg.metrics.protocols import Protocol
from refseg.metrics.scoring import Score, finish_clips
from refseg.types import Batch, Output, ReferringModel, Tokens

__all__ = ["clips_of", "evaluate_clips", "first_clips"]


@dataclass(frozen=True)
class _Window:
    """Some frames of a video with the answers to its expressions, an output each with a row a frame."""

    start: int
    geometries: list[Geometry]
    outputs: list[Output]
    size: tuple[int, int]
    """(height, width) that the network saw."""


def clips_of(dataset: Sequence[Sample]) -> list[Clip]:
    """The clips of a video data set. Raises `DataError` for other data sets, and where frames of a clip are missing: a
    number over the others would pass for one over all."""
    samples = dataset.samples if isinstance(dataset, ReferringDataset) else dataset
    if not isinstance(samples, FrameSamples):
        raise DataError(
            "video protocols compare clips, not masks of pictures; take ref-youtube-vos, mevis, ref-davis17"
        )
    for problem in dataset.problems if isinstance(dataset, ReferringDataset) else ():
        if problem.kind == "missing_picture":
            raise DataError(f"{problem}; clips are scored and submitted whole: put the data set's frames back")
    return samples.clips


def first_clips(dataset: ReferringDataset, clips: int = 0, videos: int = 0) -> ReferringDataset:
    """The data set with its first `clips` clips, or those of its first `videos` videos; 0 are all."""
    kept = clips_of(dataset)
    if clips:
        kept = kept[:clips]
    if videos:
        names = list(dict.fromkeys(clip.video for clip in kept))[:videos]
        kept = [clip for clip in kept if clip.video in names]
    return ReferringDataset(
        FrameSamples(kept),
        name=dataset.name,
        split=dataset.split,
        split_by=dataset.split_by,
        root=dataset.root,
        problems=dataset.problems,
    )


def evaluate_clips(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: Sequence[Sample],
    protocols: Sequence[Protocol],
    *,
    batch_size: int = 16,
    precision: Literal["float32", "bfloat16"] = "float32",
    shard: tuple[int, int] = (0, 1),
    writers: Writers | None = None,
    progress: Callable[[int, int], None] | None = None,
    clip_frames: int | None = None,
    submission: Submission | None = None,
) -> list[Score]:
    """Score one run of a model under several protocols of task "video".

    Args:
        dataset: a video data set as `refseg.data.open_dataset` gives it.
        batch_size: frames that a model without `decode_clip` is shown at once.
        shard: (k, n) evaluates every n-th video from the k-th on.
        writers: `row` gets a line an expression with J and F of each frame, `prediction` and `target` a line a frame;
            all of the first protocol.
        clip_frames: frames that a model with `decode_clip` is shown at once; None shows it a whole video.
        submission: takes the masks of the first protocol.

    Clips whose masks are not published are answered and written, and are in no number (`counts["unannotated"]`); where
    all are such, every metric is nan. Videos that cannot be read are counted in `counts["unreadable"]` and told in
    `problems`; with a submission they are an error. Raises `DataError` for no data set of clips, missing frames, and
    where nothing could be read.
    """
    clips = clips_of(dataset)
    least = max(sum(protocol.skipped_frames) for protocol in protocols)
    for clip in clips:
        if clip.masks is not None and len(clip.frames) <= least:
            raise DataError(
                f"clip {clip.id}: {len(clip.frames)} frames; {protocols[0].name} leaves out {least} of them"
            )
    videos: dict[tuple[Any, ...], list[Clip]] = {}
    for clip in clips:
        videos.setdefault((clip.video, clip.frames), []).append(clip)
    chosen = list(videos.values())[shard[0] :: shard[1]]
    total, done = sum(map(len, chosen)), 0
    run = _Run(list(protocols), writers or Writers(), submission)
    training, device = model.training, next(model.parameters()).device
    network = cast(ReferringModel[object], model.eval())
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
            for members in chosen:
                shown = clip_frames or len(members[0].frames) if isinstance(model, AnswersClips) else batch_size
                run.add(members, _answers(network, tokenizer, members, shown, device))
                done += len(members)
                if progress is not None:
                    progress(done, total)
    finally:
        model.train(training)
    return run.scores()


def _answers(
    model: ReferringModel[object],
    tokenizer: Callable[[list[str]], Tokens],
    clips: Sequence[Clip],
    shown: int,
    device: torch.device,
) -> Iterator[_Window]:
    """The answers to all expressions about one video, `shown` frames at a time."""
    pictures, texts = replace(clips[0], masks=None), [clip.text for clip in clips]
    tokens = tokenizer(texts).to(device)
    features = model.encode_text(tokens) if model.late_fusion else None
    whole = model if isinstance(model, AnswersClips) else None
    for start in range(0, len(pictures.frames), shown):
        numbers = range(start, min(start + shown, len(pictures.frames)))
        placed = [place_image(pictures.sample(frame).read_image(), model.config.input) for frame in numbers]
        if len({item[0].shape for item in placed}) > 1:
            raise DataError(f"video {pictures.video}: its frames have several sizes")
        images = torch.stack([item[0] for item in placed]).to(device)
        pixel_mask = torch.stack([item[1] for item in placed]).to(device)
        state: object = None
        if model.late_fusion:
            encode = model.encode_image if whole is None else whole.encode_clip
            state = encode(images, pixel_mask)
        outputs = []
        for index in range(len(clips)):
            rows = torch.full((len(images),), index, device=device)
            if features is None:
                output = model(Batch(images, pixel_mask, Tokens(tokens.ids[rows], tokens.mask[rows])))
            elif whole is not None:
                output = whole.decode_clip(state, features.select(rows[:1]))
            else:
                output = model.decode(state, features.select(rows), None)
            kept = Output(output.mask_logits, output.no_target_logits).to("cpu")
            check_numbers(kept)
            outputs.append(kept)
        yield _Window(start, [item[2] for item in placed], outputs, (int(images.shape[-2]), int(images.shape[-1])))


class _Run:
    """The rows of the protocols of one run."""

    def __init__(self, protocols: list[Protocol], writers: Writers, submission: Submission | None) -> None:
        self.protocols, self.writers, self.submission = protocols, writers, submission
        self.rows: list[list[ClipRow]] = [[] for _ in protocols]
        self.unreadable: list[tuple[str, str]] = []
        self.unannotated = self.videos = 0

    def add(self, clips: Sequence[Clip], windows: Iterator[_Window]) -> None:
        """Count the expressions about one video."""
        groups = _by_annotator(clips)
        known = [all(clips[index].masks is not None for index in group) for group in groups]
        counters = [
            [
                ClipCounter([clips[index].id for index in group], protocol, clips[0].video, clips[group[0]].kind)
                for group in groups
            ]
            for protocol in self.protocols
        ]
        try:
            for window in windows:
                for place, geometry in enumerate(window.geometries):
                    frame = window.start + place
                    targets = [clip.sample(frame).mask() if clip.masks is not None else None for clip in clips]
                    for protocol, each in zip(self.protocols, counters, strict=True):
                        predictions = _frame_masks(window, place, geometry, protocol, groups)
                        for group, counter, scored in zip(groups, each, known, strict=True):
                            if scored:
                                wanted = [mask for mask in (targets[index] for index in group) if mask is not None]
                                counter.update([predictions[index] for index in group], wanted)
                        if protocol is self.protocols[0]:
                            self._write(clips, frame, predictions, targets, protocol)
        except RefsegError as error:
            if self.submission is not None:
                raise
            self.unreadable += [(clip.id, str(error)) for clip in clips]
            return
        self.videos += 1
        self.unannotated += sum(len(group) for group, scored in zip(groups, known, strict=True) if not scored)
        for number, (protocol, each) in enumerate(zip(self.protocols, counters, strict=True)):
            found = [row for counter, scored in zip(each, known, strict=True) if scored for row in counter.rows()]
            self.rows[number] += found
            for row in found if number == 0 and self.writers.row is not None else ():
                self.writers.row({**row.to_dict(), "protocol": protocol.name})  # type: ignore[misc]

    def _write(
        self,
        clips: Sequence[Clip],
        frame: int,
        predictions: list[Bool[np.ndarray, "H W"]],
        targets: list[Bool[np.ndarray, "H W"] | None],
        protocol: Protocol,
    ) -> None:
        for clip, mask, target in zip(clips, predictions, targets, strict=True):
            about = {"picture": clip.video, "kind": clip.kind}
            identity = f"{clip.id}/{clip.frames[frame].stem}"
            if self.writers.prediction is not None:
                self.writers.prediction({"id": identity, "mask": encode(mask), "protocol": protocol.name, **about})
            if self.writers.target is not None and target is not None:
                line = {"id": identity, "mask": encode(target), "no_target": not target.any(), "text": clip.text}
                self.writers.target({**line, **about})
        if self.submission is not None:
            self.submission.add(clips, frame, predictions)

    def scores(self) -> list[Score]:
        """Raises `DataError` where no video was answered."""
        if not self.videos:
            first = f": {self.unreadable[0][1]}" if self.unreadable else ""
            raise DataError(f"no clip could be evaluated{first}")
        scores = [finish_clips(*pair) for pair in zip(self.rows, self.protocols, strict=True)]
        for score in scores:
            score.counts |= {
                "videos": self.videos, "unannotated": self.unannotated, "unreadable": len(self.unreadable),
            }  # fmt: skip
            score.problems = [f"{identity}: {message}" for identity, message in self.unreadable]
        return scores


def _by_annotator(clips: Sequence[Clip]) -> list[list[int]]:
    """The numbers of the clips that one annotator wrote about a video; each on its own where nobody is named."""
    groups: dict[Any, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(index if clip.kind is None else clip.kind, []).append(index)
    return list(groups.values())


def _frame_masks(
    window: _Window, place: int, geometry: Geometry, protocol: Protocol, groups: list[list[int]]
) -> list[Bool[np.ndarray, "H W"]]:
    """The masks of all expressions in one frame, at the picture's size."""
    level, values = level_of(protocol), []
    for output in window.outputs:
        value = enlarged(output.mask_logits[place], geometry, protocol, window.size)
        none = output.no_target_logits
        chance = 0.0 if none is None else float(none[place].double().sigmoid())
        if protocol.gating == "mask" and chance > protocol.no_target_threshold:
            value = torch.full_like(value, -math.inf)
        values.append(value)
    masks: list[Any] = [None] * len(values)
    for group in groups:
        stacked = torch.stack([values[index] for index in group])
        for index, mask in zip(group, _cut(stacked, level, protocol), strict=True):
            masks[index] = mask.numpy()
    return masks


def _cut(values: Tensor, level: float, protocol: Protocol) -> Tensor:
    """Masks (K, H, W) of maps: above the level, and of merged objects those with the largest value of each pixel."""
    chosen = values >= level if protocol.inclusive else values > level
    if protocol.objects == "merged" and len(values) > 1:
        best = values.argmax(dim=0)
        chosen = chosen & (best[None] == torch.arange(len(values))[:, None, None])
    return chosen
