"""What a run of a model over a data set counts, by what its protocols compare: masks, boxes, or phrases' boxes.

A run gets the model's outputs group by group and gives the scores at the end; `Writers` see each expression as it
comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from refseg.data.phrase_targets import phrases_of
from refseg.data.rle import encode
from refseg.data.sample import Sample
from refseg.errors import DataError, RefsegError
from refseg.evaluation.pictures import Oracle, Picture, Tokenizer, answers
from refseg.evaluation.protocol_masks import Prediction, answered_boxes, best_boxes, predict, target_mask
from refseg.geometry import Geometry, InputConfig
from refseg.inference.phrases import decode_phrases
from refseg.metrics.counts import Row, count_masks
from refseg.metrics.grounding import BoxRow, PhraseRow, best_box_iou, count_boxes, count_phrase
from refseg.metrics.protocols import Protocol
from refseg.metrics.referring import Accumulator
from refseg.metrics.scoring import Score, finish, finish_boxes, finish_phrases
from refseg.types import Output, ReferringModel

__all__ = ["RUNS", "RowWriter", "Run", "Writers", "is_unannotated"]

RowWriter = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Writers:
    """Where evaluation sends what it does not keep: a dict per expression (or phrase) each.

    `row` takes rows (counts and no-target decisions), `prediction` and `target` the lines that `refseg score` reads.
    """

    row: RowWriter | None = None
    prediction: RowWriter | None = None
    target: RowWriter | None = None


class Run:
    """The accumulators and rows of the protocols of one run."""

    def __init__(self, protocols: list[Protocol], boundary: bool, writers: Writers, config: InputConfig) -> None:
        self.accumulators = [Accumulator(protocol) for protocol in protocols]
        self.rows: list[list[Row]] = [[] for _ in protocols]
        self.boundary, self.writers, self.config = boundary, writers, config
        self.unreadable: list[tuple[str, str]] = []
        self.unannotated: list[int] = []
        """Their pictures, one entry per expression."""

    def answer(
        self,
        model: ReferringModel[object],
        tokenizer: Tokenizer,
        group: list[Picture],
        batch_size: int,
        device: torch.device,
        oracle: Oracle | None,
    ) -> Iterator[int]:
        """Answer and count all expressions about some pictures; yields how many are done, as they are done."""
        for answered in answers(model, tokenizer, group, batch_size, device, oracle):
            self.add(*answered)
            yield len(answered.samples)

    def add(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], output: Output, size: tuple[int, int]
    ) -> None:
        """Count some expressions; arguments as in `Answered`."""
        kept = Output(
            output.mask_logits,
            output.no_target_logits,
            output.boxes,
            # Of instances the boxes alone: their masks are many.
            instances=None if output.instances is None else replace(output.instances, mask_logits=[]),
            location_logits=output.location_logits,
        ).to("cpu")
        self.unannotated += [sample.image_id for sample in samples if is_unannotated(sample)]
        for index, (accumulator, rows) in enumerate(zip(self.accumulators, self.rows, strict=True)):
            protocol = accumulator.protocol
            predictions = predict(kept, geometries, protocol, size)
            for sample, geometry, prediction in zip(samples, geometries, predictions, strict=True):
                if is_unannotated(sample):
                    if index == 0:
                        self._write_prediction(sample, prediction, protocol)
                    continue
                try:
                    target = target_mask(sample, geometry, protocol, self.config)
                except RefsegError as error:
                    if index == 0:
                        self.unreadable.append((sample.id, str(error)))
                    continue
                row = _row(sample, prediction, target, self.boundary)
                row_score = accumulator.update(row)
                rows.append(row)
                if index == 0:
                    self._write(row.to_dict() | row_score.to_dict(), sample, prediction, target, protocol)

    def _write(
        self, row: dict[str, Any], sample: Sample, prediction: Prediction, target: np.ndarray, protocol: Protocol
    ) -> None:
        if self.writers.row is not None:
            self.writers.row({**row, "protocol": protocol.name})
        self._write_prediction(sample, prediction, protocol)
        if self.writers.target is not None:
            line = {"id": sample.id, "mask": encode(target), "no_target": sample.no_target, **_about(sample)}
            if not sample.no_target:
                line["boxes"] = sample.boxes().tolist()
            self.writers.target(line)

    def _write_prediction(self, sample: Sample, prediction: Prediction, protocol: Protocol) -> None:
        if self.writers.prediction is not None:
            line: dict[str, Any] = {"id": sample.id, "mask": encode(prediction.mask), "protocol": protocol.name}
            if prediction.no_target is not None:
                line |= {"no_target": prediction.no_target, "no_target_score": prediction.no_target_score}
            if prediction.boxes is not None:
                line["boxes"] = prediction.boxes.tolist()
            self.writers.prediction(line)

    def scores(self) -> list[Score]:
        pictures = {row.picture for row in self.rows[0]}
        return self._finished([finish(*pair) for pair in zip(self.accumulators, self.rows, strict=True)], pictures)

    def _finished(self, scores: list[Score], pictures: set[str | None]) -> list[Score]:
        """The scores with the counts of what is in no number; raises `DataError` where nothing was answered."""
        pictures = pictures | {str(number) for number in self.unannotated}
        if not pictures:
            first = f": {self.unreadable[0][1]}" if self.unreadable else ""
            raise DataError(f"no expression could be evaluated{first}")
        for score in scores:
            if not score.rows:
                # A protocol's values for sets without no-target expressions are for sets that have expressions.
                score.update(dict.fromkeys(score, math.nan))
            score.counts |= {
                "pictures": len(pictures),
                "unannotated": len(self.unannotated),
                "unreadable": len(self.unreadable),
            }
            score.problems = [f"{identity}: {message}" for identity, message in self.unreadable]
        return scores


class BoxRun(Run):
    """The same for protocols that compare all boxes (GREC)."""

    def __init__(self, protocols: list[Protocol], boundary: bool, writers: Writers, config: InputConfig) -> None:
        super().__init__(protocols, boundary, writers, config)
        self.boxes: list[list[BoxRow]] = [[] for _ in protocols]
        self.pictures: set[int] = set()

    def add(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], output: Output, size: tuple[int, int]
    ) -> None:
        protocols = [accumulator.protocol for accumulator in self.accumulators]
        for index, (sample, geometry) in enumerate(zip(samples, geometries, strict=True)):
            hidden = is_unannotated(sample)
            if hidden:
                self.unannotated.append(sample.image_id)
            else:
                self.pictures.add(sample.image_id)
            for number, (protocol, rows) in enumerate(zip(protocols, self.boxes, strict=True)):
                boxes = answered_boxes(output, index, geometry, protocol)
                if not number and self.writers.prediction is not None:
                    self.writers.prediction({"id": sample.id, "boxes": boxes.tolist(), "protocol": protocol.name})
                if hidden:
                    continue
                rows.append(count_boxes(sample.id, boxes, None, sample.boxes(), sample.no_target, protocol))
                if number:
                    continue
                if self.writers.row is not None:
                    self.writers.row({**rows[-1].to_dict(), **_about(sample), "protocol": protocol.name})
                if self.writers.target is not None:
                    wanted = {"boxes": sample.boxes().tolist(), "no_target": sample.no_target}
                    self.writers.target({"id": sample.id, **wanted, **_about(sample)})

    def scores(self) -> list[Score]:
        protocols = [accumulator.protocol for accumulator in self.accumulators]
        scores = [finish_boxes(*pair) for pair in zip(self.boxes, protocols, strict=True)]
        return self._finished(scores, {str(number) for number in self.pictures})


class BestBoxRun(Run):
    """The same for protocols of one box an expression (REC), or one a phrase of it (Flickr30k Entities).

    A caption with annotated phrases is asked them: all at once where the system reads phrases in their caption,
    otherwise each as an expression. Phrases that have no box are asked nothing and are in no number.
    """

    def __init__(self, protocols: list[Protocol], boundary: bool, writers: Writers, config: InputConfig) -> None:
        super().__init__(protocols, boundary, writers, config)
        self.phrases: list[list[PhraseRow]] = [[] for _ in protocols]
        self.pictures: set[int] = set()
        self.without = 0
        """Expressions that mean nothing in their picture."""

    def answer(
        self,
        model: ReferringModel[object],
        tokenizer: Tokenizer,
        group: list[Picture],
        batch_size: int,
        device: torch.device,
        oracle: Oracle | None,
    ) -> Iterator[int]:
        if self.accumulators[0].protocol.task == "box":
            yield from super().answer(model, tokenizer, group, batch_size, device, oracle)
            return
        for picture in group:
            captions = [sample for sample in picture.samples if sample.phrases and model.needs.reads_phrases]
            if captions:
                self._read_captions(model, tokenizer, picture, captions, device)
            others = [sample for sample in picture.samples if sample not in captions]
            alone = [each for sample in others for each in _phrases_alone(sample)]
            asked = Picture(picture.image, picture.pixel_mask, picture.geometry, alone)
            for answered in answers(model, tokenizer, [asked], batch_size, device, oracle) if alone else ():
                self.add(*answered)
            yield len(picture.samples)

    def _read_captions(
        self,
        model: ReferringModel[object],
        tokenizer: Tokenizer,
        picture: Picture,
        captions: list[Sample],
        device: torch.device,
    ) -> None:
        """The phrases of captions of one picture, each read in its caption."""
        images, pixel_mask = picture.image[None].to(device), picture.pixel_mask[None].to(device)
        state = model.encode_image(images, pixel_mask) if model.late_fusion else None
        size = (int(images.shape[-2]), int(images.shape[-1]))
        for sample in captions:
            alone, done = _phrases_alone(sample), 0
            try:
                spans = phrases_of(sample, len(alone)) if alone else []
                for output in decode_phrases(model, tokenizer, images, pixel_mask, state, sample.text, spans):
                    part = alone[done : done + len(output.mask_logits)]
                    self.add(part, [picture.geometry] * len(part), output, size)
                    done += len(part)
            except RefsegError as error:
                self.unreadable += [(each.id, str(error)) for each in alone[done:]]

    def add(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], output: Output, size: tuple[int, int]
    ) -> None:
        protocols = [accumulator.protocol for accumulator in self.accumulators]
        for index, (sample, geometry) in enumerate(zip(samples, geometries, strict=True)):
            hidden = is_unannotated(sample)
            for number, (protocol, rows) in enumerate(zip(protocols, self.phrases, strict=True)):
                boxes = best_boxes(output, index, geometry, size)
                if not number and self.writers.prediction is not None:
                    self.writers.prediction({"id": sample.id, "boxes": boxes.tolist(), "protocol": protocol.name})
                if hidden or sample.no_target:
                    continue
                rows.append(count_phrase(sample.id, boxes, sample.boxes(), protocol))
                if not number and self.writers.row is not None:
                    self.writers.row({**rows[-1].to_dict(protocol), **_about(sample), "protocol": protocol.name})
            if hidden:
                self.unannotated.append(sample.image_id)
                continue
            self.pictures.add(sample.image_id)
            self.without += sample.no_target
            if self.writers.target is not None:
                wanted = {"boxes": sample.boxes().tolist(), "no_target": sample.no_target}
                self.writers.target({"id": sample.id, **wanted, **_about(sample)})

    def scores(self) -> list[Score]:
        protocols = [accumulator.protocol for accumulator in self.accumulators]
        scores = [finish_phrases(*pair, self.without) for pair in zip(self.phrases, protocols, strict=True)]
        return self._finished(scores, {str(number) for number in self.pictures})


RUNS: dict[str, type[Run]] = {"masks": Run, "boxes": BoxRun, "box": BestBoxRun, "phrases": BestBoxRun}
"""By what protocols compare; `refseg score` alone compares the rest."""


def is_unannotated(sample: Sample) -> bool:
    """Whether nobody says what a sample's expression means: a hidden test set."""
    return not sample.no_target and not sample.objects


def _phrases_alone(sample: Sample) -> list[Sample]:
    """The phrases that have objects as samples of their own about the same picture; the sample itself where no phrase
    is annotated."""
    if not sample.phrases:
        return [sample]
    return [
        replace(
            sample,
            id=f"{sample.id}_{number}",
            text=phrase.text,
            objects=phrase.objects,
            kind=phrase.kinds[0] if phrase.kinds else sample.kind,
            phrases=(),
        )
        for number, phrase in enumerate(sample.phrases)
        if phrase.objects
    ]


def _row(sample: Sample, prediction: Prediction, target: np.ndarray, boundary: bool) -> Row:
    box = None
    if prediction.boxes is not None and not sample.no_target:
        box = best_box_iou(prediction.boxes, None, sample.boxes())
    return Row(
        id=sample.id,
        no_target=sample.no_target,
        predicted_no_target=prediction.no_target,
        no_target_score=prediction.no_target_score,
        pointed=bool(target[prediction.point[1], prediction.point[0]]),
        box_iou=box,
        **count_masks(prediction.mask, target, boundary),
        **_about(sample),
    )


def _about(sample: Sample) -> dict[str, Any]:
    names = {item.category for item in sample.objects if item.category}
    return {
        "picture": str(sample.image_id),
        "text": sample.text,
        "kind": sample.kind,
        "targets": len(sample.objects),
        "category": names.pop() if len(names) == 1 else None,
        "split": sample.split or None,
        "dataset": sample.dataset or None,
    }
