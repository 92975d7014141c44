"""Scoring a model on a data set: pictures in, rows out, no mask kept.

Each picture is read once and, by late-fusion models, encoded once for all its sentences. How an output becomes a mask
is the protocol's affair (`refseg.evaluation.protocol_masks`). Several protocols can be scored in one run of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from refseg.data.sample import Sample
from refseg.data.transforms import place_image
from refseg.errors import DataError, RefsegError
from refseg.evaluation.protocol_masks import Prediction, answered_boxes, predict, target_mask
from refseg.geometry import Geometry, InputConfig
from refseg.metrics.counts import Row, count_masks
from refseg.metrics.grounding import BoxRow, best_box_iou, count_boxes
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.referring import Accumulator
from refseg.metrics.scoring import Score, finish, finish_boxes
from refseg.types import Batch, Output, Tokens

RowWriter = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Writers:
    """Where evaluation sends what it does not keep: a dict a sentence each.

    `row` takes rows (counts and no-target decisions), `prediction` and `target` the lines that `refseg score` reads.
    """

    row: RowWriter | None = None
    prediction: RowWriter | None = None
    target: RowWriter | None = None


def evaluate_model(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: Sequence[Sample],
    protocol: str | Protocol = "native",
    *,
    on_row: RowWriter | None = None,
    **options: Any,
) -> Score:
    """Score a model under one protocol; `on_row` gets each sentence's row as it comes.

    Options are those of `evaluate_protocols`.
    """
    writers = options.pop("writers", Writers())
    if on_row is not None:
        writers = replace(writers, row=on_row)
    return evaluate_protocols(model, tokenizer, dataset, [protocol], writers=writers, **options)[0]


def evaluate_protocols(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: Sequence[Sample],
    protocols: Sequence[str | Protocol],
    *,
    batch_size: int = 16,
    workers: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    boundary: bool = False,
    shard: tuple[int, int] = (0, 1),
    writers: Writers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Score one run of a model under several mask protocols.

    Args:
        model: in eval or training mode; the mode is put back afterwards.
        dataset: samples, in any order; they are visited picture by picture.
        protocols: names or `Protocol`s, all of masks or all of boxes; `writers` see the first one. Of boxes, those of
            the instances that the model answers with are counted, all of them: it has chosen already.
        batch_size: sentences computed at once. Answers do not depend on it: pictures of one input size go together.
        workers: processes that read pictures; 0 reads in this one.
        shard: (k, n) evaluates every n-th picture from the k-th on; the rows of all shards together, scored by
            `refseg.metrics.rescore`, give exactly the score of one run.
        progress: called with sentences done and in all.

    Samples without annotation (a hidden test set: not `no_target`, and no object) are answered and written as
    predictions, but are in no row, no target line and no metric; `counts["unannotated"]` is their number, and where no
    sample has an annotation every metric is nan. Pictures that cannot be read are counted in `counts["unreadable"]`
    and told in the score's `problems`. Raises `DataError` for a protocol that compares no masks, or when nothing could
    be read.
    """
    chosen = [get_protocol(protocol) for protocol in protocols]
    for protocol in chosen:
        if protocol.task not in ("masks", "boxes"):
            raise DataError(f"protocol {protocol.name} compares {protocol.task}, not masks; use refseg score")
        if protocol.task != chosen[0].task:
            raise DataError(f"protocol {protocol.name} compares {protocol.task}, {chosen[0].name} {chosen[0].task}")
    if batch_size < 1 or not 0 <= shard[0] < shard[1]:
        raise DataError(f"batch_size is at least 1 and a shard is k of n with k < n, not {batch_size}, {shard}")
    pictures = _by_picture(dataset)[shard[0] :: shard[1]]
    total = sum(map(len, pictures))
    kind = _BoxRun if chosen[0].task == "boxes" else _Run
    run = kind(chosen, boundary, writers or Writers(), model.config.input)  # type: ignore[union-attr, arg-type]
    training, device = model.training, next(model.parameters()).device
    model.eval()
    done = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
            for group in _same_size(_read(dataset, pictures, run.config, workers, run.unreadable), batch_size):
                for samples, geometries, output, size in _answers(model, tokenizer, group, batch_size, device):
                    run.add(samples, geometries, output, size)
                    done += len(samples)
                    if progress is not None:
                        progress(done, total)
    finally:
        model.train(training)
    return run.scores()


class _Run:
    """The accumulators and rows of the protocols of one run."""

    def __init__(self, protocols: list[Protocol], boundary: bool, writers: Writers, config: InputConfig) -> None:
        self.accumulators = [Accumulator(protocol) for protocol in protocols]
        self.rows: list[list[Row]] = [[] for _ in protocols]
        self.boundary, self.writers, self.config = boundary, writers, config
        self.unreadable: list[tuple[str, str]] = []
        self.unannotated: list[int] = []
        """Their pictures, one entry a sentence."""

    def add(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], output: Output, size: tuple[int, int]
    ) -> None:
        kept = Output(
            output.mask_logits, output.no_target_logits, output.boxes, location_logits=output.location_logits
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
        from refseg.data.rle import encode

        if self.writers.row is not None:
            self.writers.row({**row, "protocol": protocol.name})
        self._write_prediction(sample, prediction, protocol)
        if self.writers.target is not None:
            self.writers.target(
                {"id": sample.id, "mask": encode(target), "no_target": sample.no_target, **_about(sample)}
            )

    def _write_prediction(self, sample: Sample, prediction: Prediction, protocol: Protocol) -> None:
        from refseg.data.rle import encode

        if self.writers.prediction is not None:
            line: dict[str, Any] = {"id": sample.id, "mask": encode(prediction.mask), "protocol": protocol.name}
            if prediction.no_target is not None:
                line |= {"no_target": prediction.no_target, "no_target_score": prediction.no_target_score}
            self.writers.prediction(line)

    def scores(self) -> list[Score]:
        pictures = {row.picture for row in self.rows[0]}
        return self._finished([finish(*pair) for pair in zip(self.accumulators, self.rows, strict=True)], pictures)

    def _finished(self, scores: list[Score], pictures: set[str | None]) -> list[Score]:
        """The scores with the counts of what is in no number; raises `DataError` where nothing was answered."""
        pictures = pictures | {str(number) for number in self.unannotated}
        if not pictures:
            first = f": {self.unreadable[0][1]}" if self.unreadable else ""
            raise DataError(f"no sentence could be evaluated{first}")
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


class _BoxRun(_Run):
    """The same for protocols of boxes."""

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


def is_unannotated(sample: Sample) -> bool:
    """Whether nobody says what a sample's expression means: a hidden test set."""
    return not sample.no_target and not sample.objects


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


@dataclass(frozen=True)
class _Picture:
    """A picture on the network's input, and the samples about it."""

    image: Tensor
    pixel_mask: Tensor
    geometry: Geometry
    samples: list[Sample]


def _by_picture(dataset: Sequence[Sample]) -> list[list[int]]:
    groups = getattr(dataset, "by_picture", None)
    if groups is not None:
        return list(groups().values())
    groups_by_image: dict[int, list[int]] = {}
    for index in range(len(dataset)):
        groups_by_image.setdefault(dataset[index].image_id, []).append(index)
    return list(groups_by_image.values())


class _Pictures(torch.utils.data.Dataset[Any]):
    """Item k is the k-th picture, read and placed; or its samples' ids with what is wrong with it."""

    def __init__(self, dataset: Sequence[Sample], pictures: list[list[int]], config: InputConfig) -> None:
        self.dataset, self.pictures, self.config = dataset, pictures, config

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> _Picture | tuple[list[str], str]:
        samples = [self.dataset[position] for position in self.pictures[index]]
        try:
            return _Picture(*place_image(samples[0].read_image(), self.config), samples)
        except RefsegError as error:
            return [sample.id for sample in samples], str(error)


def _read(
    dataset: Sequence[Sample],
    pictures: list[list[int]],
    config: InputConfig,
    workers: int,
    unreadable: list[tuple[str, str]],
) -> Iterator[_Picture]:
    source = _Pictures(dataset, pictures, config)
    items: Any = (source[index] for index in range(len(source)))
    if workers:
        items = torch.utils.data.DataLoader(source, batch_size=None, num_workers=workers)
    for item in items:
        if isinstance(item, _Picture):
            yield item
        else:
            unreadable += [(identity, item[1]) for identity in item[0]]


def _same_size(pictures: Iterator[_Picture], sentences: int) -> Iterator[list[_Picture]]:
    """Neighbouring pictures of one input size with at most `sentences` sentences together, but at least one picture."""
    group: list[_Picture] = []
    for picture in pictures:
        full = sum(len(entry.samples) for entry in group) + len(picture.samples) > sentences
        if group and (full or picture.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(picture)
    if group:
        yield group


def _answers(
    model: Any, tokenizer: Callable[[list[str]], Tokens], group: list[_Picture], batch_size: int, device: torch.device
) -> Iterator[tuple[list[Sample], list[Geometry], Output, tuple[int, int]]]:
    """The model's output for all sentences of some pictures, at most `batch_size` at once."""
    images = torch.stack([entry.image for entry in group]).to(device)
    pixel_mask = torch.stack([entry.pixel_mask for entry in group]).to(device)
    state = model.encode_image(images, pixel_mask) if model.late_fusion else None
    pairs = [(number, sample) for number, entry in enumerate(group) for sample in entry.samples]
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        tokens = tokenizer([sample.text for _, sample in part]).to(device)
        picture = torch.tensor([number for number, _ in part], device=device)
        if model.late_fusion:
            output = model.decode(state, model.encode_text(tokens), picture)
        else:
            used, local = picture.unique(return_inverse=True)
            output = model(Batch(images[used], pixel_mask[used], tokens, image_index=local))
        geometries = [group[number].geometry for number, _ in part]
        yield [sample for _, sample in part], geometries, output, (int(images.shape[-2]), int(images.shape[-1]))


def native_protocol(info: Mapping[str, Any]) -> Protocol:
    """The protocol `native` with the thresholds that a model's weights were stored with."""
    return replace(
        get_protocol("native"),
        threshold=float(info.get("threshold", 0.5)),
        no_target_threshold=float(info.get("no_target_threshold", 0.5)),
    )
