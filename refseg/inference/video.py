"""Answers over the frames of a clip: things are linked, and what an expression means is chosen over their tracks.

    frames -> [cut?] -> candidates -> Linker: track numbers -> TrackMemory: the tracks that are meant -> masks

Candidates are, by what the model has:
- proposals with their evidence and a mask for any box (`ChoosesInstances`: the system `instances`): masks are made for
  the chosen tracks only, also where the frame alone would have chosen otherwise or the detector missed a frame;
- else connected parts of the probability map at half the threshold. A part that belongs to a chosen track keeps its
  pixels of lower probability; one that never passes the threshold is never shown (hysteresis).
Models that read a clip at once (`AnswersClips`: VLT, section 4.3.5 of the thesis) see windows of frames of one scene.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refseg.errors import RefsegError
from refseg.inference.connected_components import Components, counts_as_target, find_components
from refseg.inference.frames import DEFAULT_FPS, Frame, read_frames
from refseg.inference.mask_memory import MaskMemory
from refseg.inference.pipeline import AskOptions
from refseg.inference.postprocess import Thresholds, postprocess
from refseg.inference.segmentation import Instance, Segmentation
from refseg.inference.tracking import (
    Candidates,
    Chosen,
    CutDetector,
    Linker,
    TrackingConfig,
    TrackMemory,
    logit,
    same_things,
)
from refseg.types import InstancePredictions, Output, TextFeatures

if TYPE_CHECKING:
    from refseg.inference.segmenter import Segmenter

__all__ = ["AnswersClips", "ChoosesInstances", "VideoFrame", "segment_video"]

State = TypeVar("State")
State_contra = TypeVar("State_contra", contravariant=True)
CLIP_FRAMES = 8
"""Frames that a model which reads clips sees at once."""


@runtime_checkable
class ProposedThings(Protocol):
    """K things that a detector proposes in one image."""

    @property
    def boxes(self) -> Float[Tensor, "K 4"]:
        """x0 y0 x1 y1, 0 to 1 of the image."""
        ...

    @property
    def scores(self) -> Float[Tensor, " K"]:
        """0 to 1."""
        ...

    @property
    def class_probs(self) -> Float[Tensor, "K C"]:
        """Of each class, 0 to 1."""
        ...

    @property
    def features(self) -> Float[Tensor, "K D"]:
        """What a thing looks like."""
        ...


@runtime_checkable
class EncodedThings(Protocol):
    """One encoded image of a model that chooses."""

    @property
    def proposals(self) -> ProposedThings:
        """What is chosen among."""
        ...


@runtime_checkable
class ChosenThings(Protocol):
    """What an expression says of K proposals (`refseg.models.instances.chooser.Choice`)."""

    @property
    def logits(self) -> Float[Tensor, " K"]:
        """Of being meant; above 0 a thing is."""
        ...

    @property
    def evidence(self) -> Float[Tensor, "P K"]:
        """What speaks for each, by the expression's phrases."""
        ...

    @property
    def no_target_logit(self) -> Float[Tensor, ""]:
        """Above 0 nothing is meant."""
        ...

    @property
    def labels(self) -> Int[Tensor, " K"]:
        """The class that each is taken for."""
        ...

    @property
    def several(self) -> bool:
        """Whether the expression asks for a set."""
        ...


@runtime_checkable
class ChoosesInstances(Protocol[State_contra]):
    """A model that chooses among an image's proposals (`encode_image(...)[0]` is `EncodedThings`) and makes a mask for
    any box."""

    class_names: Sequence[str]

    def choose(self, state: State_contra, text: TextFeatures) -> tuple[Sequence[ChosenThings], list[list[str]]]:
        """What each expression says of one image's proposals, and remarks."""
        ...

    def masks_of(self, state: State_contra, boxes: Float[Tensor, "k 4"]) -> Float[Tensor, "k H W"]:
        """Mask logits at the input's size of boxes x0 y0 x1 y1, 0 to 1 of the image."""
        ...


@runtime_checkable
class AnswersClips(Protocol[State]):
    """A model that answers one expression in all frames of a clip at once."""

    def encode_clip(self, images: Float[Tensor, "F 3 H W"], pixel_mask: Bool[Tensor, "F H W"]) -> State:
        """What no expression changes of a clip's frames, seen together: a state for `decode_clip`."""
        ...

    def decode_clip(self, state: State, text: TextFeatures) -> Output:
        """One answer a frame; `state` holds the frames."""
        ...


@dataclass(frozen=True)
class VideoFrame:
    """A frame with its answers: `answers[i]` and `tracks[i]` belong to expression i; `tracks[i][k]` is the number of
    the thing that `answers[i].instances[k]` shows, the same in all frames of a scene. `cut`: a new scene begins."""

    index: int
    time: float
    image: Image.Image
    answers: tuple[Segmentation, ...]
    tracks: tuple[tuple[int, ...], ...]
    cut: bool = False

    @property
    def answer(self) -> Segmentation:
        """The answer to the first expression."""
        return self.answers[0]


def segment_video(
    segmenter: Segmenter,
    source: str | os.PathLike[str],
    texts: str | Sequence[str],
    every: int = 1,
    start: float = 0.0,
    end: float | None = None,
    fps: float = DEFAULT_FPS,
    threshold: float | None = None,
    no_target_threshold: float | None = None,
    tracking: TrackingConfig | None = None,
) -> Iterator[VideoFrame]:
    """See `Segmenter.video`."""
    frames = read_frames(source, every=every, start=start, end=end, fps=fps)
    return _answered(segmenter, frames, texts, threshold, no_target_threshold, tracking or TrackingConfig())


def _answered(
    segmenter: Segmenter,
    frames: Iterator[Frame],
    texts: str | Sequence[str],
    threshold: float | None,
    no_target_threshold: float | None,
    config: TrackingConfig,
) -> Iterator[VideoFrame]:
    with segmenter._inference():
        expressions = segmenter._expressions(texts)
    thresholds = segmenter._thresholds(threshold, no_target_threshold)
    answerer: _Proposals | _Parts
    if isinstance(segmenter.model, ChoosesInstances):
        answerer = _Proposals(segmenter, expressions.texts, expressions.features, thresholds, config)
    else:
        answerer = _Parts(segmenter, expressions.texts, expressions.features, thresholds, config)
    cuts = CutDetector()
    window: list[Frame] = []
    new_scene = False
    for frame in frames:
        is_cut = cuts.update(frame.image)
        if window and (is_cut or len(window) == answerer.window):
            yield from _window(answerer, window, new_scene)
            window, new_scene = [], False
        if is_cut:
            answerer.cut()
        new_scene = new_scene or is_cut
        window.append(frame)
        if len(window) == answerer.window:  # nothing waits that need not
            yield from _window(answerer, window, new_scene)
            window, new_scene = [], False
    if window:
        yield from _window(answerer, window, new_scene)


def _window(answerer: _Proposals | _Parts, frames: list[Frame], cut: bool) -> Iterator[VideoFrame]:
    for place, (frame, found) in enumerate(zip(frames, answerer.answer(frames), strict=True)):
        answers, tracks = tuple(each[0] for each in found), tuple(each[1] for each in found)
        yield VideoFrame(frame.index, frame.time, frame.image, answers, tracks, cut and place == 0)


Found = list[tuple[Segmentation, tuple[int, ...]]]
"""Of one frame: an expression's answer with the numbers of its instances' tracks."""


class _Proposals:
    """Answers of a model that chooses among proposals: one linking for all expressions."""

    window = 1

    def __init__(
        self,
        segmenter: Segmenter,
        texts: Sequence[str],
        features: TextFeatures | None,
        thresholds: Thresholds,
        config: TrackingConfig,
    ) -> None:
        if features is None:
            raise RefsegError("a model that chooses among proposals encodes expressions by themselves")
        self.segmenter, self.texts, self.features, self.thresholds = segmenter, list(texts), features, thresholds
        self.linker = Linker(config)
        self.memories = [TrackMemory(config) for _ in texts]
        self.masks = MaskMemory(config.mask_memory)
        self.labels: list[dict[int, int]] = [{} for _ in texts]
        """What each track was last taken for, by expression."""

    def cut(self) -> None:
        self.linker.cut()
        self.masks.cut()
        for memory in self.memories:
            memory.cut()

    def answer(self, frames: Sequence[Frame]) -> Iterator[Found]:
        for frame in frames:
            with self.segmenter._inference():
                yield self._frame(frame.image)

    def _frame(self, image: Image.Image) -> Found:
        model = cast("ChoosesInstances[EncodedThings]", self.segmenter.model)
        placed = self.segmenter._place(image)
        state = cast("Sequence[EncodedThings]", self.segmenter._encode([placed]).state)[0]
        found = _candidates(state.proposals)
        choices, remarks = model.choose(state, self.features)
        numbers = self.linker.update(found)
        row_of = {int(number): row for row, number in enumerate(numbers)}
        missing, alive = self.linker.missing(), self.linker.alive()
        gaps = {number: gap for number, (gap, _) in missing.items()}
        same = same_things(found.boxes)
        floor = logit(self.thresholds.no_target)
        chosen, boxes = [], {}
        for place, choice in enumerate(choices):
            # A union of several phrases is a set, too.
            several = choice.several or len(choice.evidence) > 1
            logits = _shared(_array(choice.logits if several else choice.evidence[0]), same, several)
            labels = self.labels[place]
            labels.update(zip(numbers.tolist(), choice.labels.tolist(), strict=True))
            for number in labels.keys() - alive:
                del labels[number]
            none_logit = float(choice.no_target_logit) - floor
            picked = self.memories[place].choose(numbers.tolist(), logits, none_logit, several, gaps, alive)
            picked = _without_doubles(picked, row_of, same)
            chosen.append(picked)
            for number in picked.tracks if picked.none_logit <= 0 else ():
                boxes[number] = missing[number][1] if number in picked.unseen else found.boxes[row_of[number]]
        order = {number: place for place, number in enumerate(boxes)}
        corners = torch.tensor(np.array(list(boxes.values())).reshape(-1, 4), dtype=torch.float32)
        masks = self.masks.update(list(boxes), corners, model.masks_of(state, corners))
        result: Found = []
        for place, picked in enumerate(chosen):
            tracks = picked.tracks if picked.none_logit <= 0 else ()
            rows = [order[number] for number in tracks]
            own_masks = masks[rows]
            own = corners[rows]
            centred = torch.cat([(own[:, :2] + own[:, 2:]) / 2, own[:, 2:] - own[:, :2]], dim=1)
            classes = [self.labels[place][number] for number in tracks]
            scores = torch.tensor(
                [found.classes[row_of[n], c] if n in row_of else 0.0 for n, c in zip(tracks, classes, strict=True)]
            )
            names = [model.class_names[number] for number in classes]
            union = own_masks.amax(0) if rows else masks.new_full(masks.shape[1:], -10.0)
            output = Output(
                union[None],
                torch.tensor([picked.none_logit + floor]),
                instances=InstancePredictions([centred], [scores], [own_masks], [names]),
                remarks=[remarks[place]],
            )
            answer = postprocess(
                output,
                [placed.geometry],
                [self.texts[place]],
                self.thresholds.mask,
                self.thresholds.no_target,
                input_size=(placed.image.shape[-2], placed.image.shape[-1]),
            )[0]
            result.append((answer, tuple(tracks) if answer.instances else ()))
        return result


def _candidates(proposals: ProposedThings) -> Candidates:
    return Candidates(*map(_array, (proposals.boxes, proposals.scores, proposals.class_probs, proposals.features)))


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()


def _shared(values: Float[np.ndarray, " K"], same: NDArray[np.bool_], several: bool) -> Float[np.ndarray, " K"]:
    """Logits of being meant. Candidates that show one thing share what speaks for it: of one thing its evidence
    against the best of other things, of several the largest logit."""
    if not len(values):
        return values
    best = np.where(same, values[None, :], -np.inf).max(axis=1)
    if several:
        return best
    others = np.where(same, -np.inf, values[None, :]).max(axis=1)
    return np.where(np.isfinite(others), best - others, 3.0)


def _without_doubles(picked: Chosen, row_of: dict[int, int], same: NDArray[np.bool_]) -> Chosen:
    """The choice without tracks that show what a better one shows."""
    kept: list[int] = []
    for number in picked.tracks:
        row = row_of.get(number)
        if row is None or not any(other in row_of and same[row, row_of[other]] for other in kept):
            kept.append(number)
    return Chosen(tuple(kept), picked.unseen & frozenset(kept), picked.none_logit)


class _Parts:
    """Answers of a model that gives a probability map: connected parts are linked, for each expression by itself."""

    def __init__(
        self,
        segmenter: Segmenter,
        texts: Sequence[str],
        features: TextFeatures | None,
        thresholds: Thresholds,
        config: TrackingConfig,
    ) -> None:
        self.segmenter, self.texts, self.features, self.thresholds = segmenter, list(texts), features, thresholds
        self.clips = isinstance(segmenter.model, AnswersClips) and features is not None
        self.window = CLIP_FRAMES if self.clips else 1
        self.linkers = [Linker(config) for _ in texts]
        self.memories = [TrackMemory(config) for _ in texts]

    def cut(self) -> None:
        for linker, memory in zip(self.linkers, self.memories, strict=True):
            linker.cut()
            memory.cut()

    def answer(self, frames: Sequence[Frame]) -> Iterator[Found]:
        for frame, answers in zip(frames, self._answers(frames), strict=True):
            yield [self._linked(place, frame.image, answer) for place, answer in enumerate(answers)]

    def _answers(self, frames: Sequence[Frame]) -> Iterator[list[Segmentation]]:
        """What the model says of each frame, with probability maps."""
        options: AskOptions = {
            "threshold": self.thresholds.mask,
            "no_target_threshold": self.thresholds.no_target,
            "probabilities": True,
        }
        if not self.clips:
            for frame in frames:
                yield self.segmenter.encode(frame.image).ask(self.texts, **options)
            return
        model = cast("AnswersClips[object]", self.segmenter.model)
        with self.segmenter._inference():
            placed = [self.segmenter._place(frame.image) for frame in frames]
            images, pixel_mask = (
                torch.stack(parts).to(self.segmenter.device)
                for parts in ([entry.image for entry in placed], [entry.pixel_mask for entry in placed])
            )
            state = model.encode_clip(images, pixel_mask)
            answers = []
            for place, text in enumerate(self.texts):
                assert self.features is not None
                rows = torch.tensor([place], device=images.device)
                output = model.decode_clip(state, self.features.select(rows))
                answers.append(
                    postprocess(
                        output,
                        [entry.geometry for entry in placed],
                        [text] * len(frames),
                        self.thresholds.mask,
                        self.thresholds.no_target,
                        input_size=(images.shape[-2], images.shape[-1]),
                        probabilities=True,
                    )
                )
        yield from ([row[index] for row in answers] for index in range(len(frames)))

    def _linked(self, place: int, image: Image.Image, answer: Segmentation) -> tuple[Segmentation, tuple[int, ...]]:
        chance = answer.probabilities
        assert chance is not None
        threshold = self.thresholds.mask
        parts = find_components(chance > threshold / 2)
        rows = np.flatnonzero(counts_as_target(parts)).tolist()
        height, width = chance.shape
        boxes = parts.boxes[rows] / np.array([width, height, width, height], dtype=np.float64)
        regions = [self._region(parts, row) for row in rows]
        certain = np.array([float(np.quantile(chance[where][inside], 0.9)) for where, inside in regions])
        pixels = np.asarray(image)
        looks = np.array([_colours(pixels[where][inside]) for where, inside in regions]).reshape(len(rows), 64)
        numbers = self.linkers[place].update(Candidates(boxes, certain, np.zeros((len(rows), 0)), looks))
        gaps = {number: gap for number, (gap, _) in self.linkers[place].missing().items()}
        logits = np.array([logit(value) - logit(threshold) for value in certain])
        none = logit(answer.no_target_score) - logit(self.thresholds.no_target)
        picked = self.memories[place].choose(numbers.tolist(), logits, none, True, gaps, self.linkers[place].alive())
        seen = [number for number in picked.tracks if number not in picked.unseen] if picked.none_logit <= 0 else []
        mask = np.zeros_like(answer.mask)
        instances = []
        for number in seen:
            row = numbers.tolist().index(number)
            where, inside = regions[row]
            own = np.zeros_like(mask)
            # A weak frame of a thing that is there takes its less certain pixels rather than none.
            own[where] = inside & (chance[where] > (threshold if certain[row] > threshold else threshold / 2))
            mask |= own
            instances.append(Instance.from_mask(own, float(certain[row]), answer.text))
        none_score = float(1 / (1 + np.exp(-np.clip(picked.none_logit + logit(self.thresholds.no_target), -30, 30))))
        gone = not seen
        if gone:
            none_score = max(none_score, min(1.0, self.thresholds.no_target + 1e-6))
        score = 1.0 - none_score if gone else float(chance[mask].mean()) if mask.any() else 0.0
        made = Segmentation(
            mask, None, gone, none_score, score, answer.text, answer.extra, instances=instances, probabilities=chance
        )
        return made, tuple(seen)

    @staticmethod
    def _region(parts: Components, row: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        left, top, right, bottom = parts.boxes[row].tolist()
        where = (slice(top, bottom), slice(left, right))
        return where, parts.labels[where] == row


def _colours(pixels: NDArray[np.uint8]) -> Float[np.ndarray, " 64"]:
    """Shares of 4 x 4 x 4 colours among pixels (N, 3)."""
    bins = (pixels // 64).astype(np.int64) @ np.array([16, 4, 1])
    return np.bincount(bins, minlength=64) / max(1, len(bins))
