"""Scoring a model on a data set: pictures in, rows out, no mask kept.

Each picture is read once and, by late-fusion models, encoded once for all its expressions. How an output becomes a mask
is the protocol's affair (`refseg.evaluation.protocol_masks`). Several protocols can be scored in one run of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, TypedDict, cast

import torch
from torch import nn
from typing_extensions import Unpack

from refseg.data.sample import Sample
from refseg.errors import DataError
from refseg.evaluation.clips import evaluate_clips
from refseg.evaluation.pictures import Oracle, by_picture, read_pictures, same_size
from refseg.evaluation.runs import RUNS, RowWriter, Writers
from refseg.evaluation.submission import Submission
from refseg.metrics.protocols import Protocol, get_protocol
from refseg.metrics.scoring import Score
from refseg.types import ReferringModel, Tokens

__all__ = ["EvaluationOptions", "Writers", "evaluate_model", "evaluate_protocols", "native_protocol"]


class EvaluationOptions(TypedDict, total=False):
    """Keyword arguments of `evaluate_protocols`, which says what they are."""

    batch_size: int
    workers: int
    precision: Literal["float32", "bfloat16"]
    boundary: bool
    shard: tuple[int, int]
    writers: Writers | None
    progress: Callable[[int, int], None] | None
    oracle: Oracle | None
    clip_frames: int | None
    submission: Submission | None


def evaluate_model(
    model: nn.Module,
    tokenizer: Callable[[list[str]], Tokens],
    dataset: Sequence[Sample],
    protocol: str | Protocol = "native",
    *,
    on_row: RowWriter | None = None,
    **options: Unpack[EvaluationOptions],
) -> Score:
    """Score a model under one protocol; `on_row` gets each expression's row as it comes.

    Options are those of `evaluate_protocols`.
    """
    if on_row is not None:
        options["writers"] = replace(options.get("writers") or Writers(), row=on_row)
    return evaluate_protocols(model, tokenizer, dataset, [protocol], **options)[0]


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
    oracle: Oracle | None = None,
    clip_frames: int | None = None,
    submission: Submission | None = None,
) -> list[Score]:
    """Score one run of a model under several protocols that compare the same: masks, boxes, phrases' boxes, or clips.

    Args:
        model: in eval or training mode; the mode is put back afterwards.
        dataset: samples, in any order; they are visited picture by picture.
        protocols: names or `Protocol`s of one task; `writers` see the first one. Of boxes, those of the instances that
            the model answers with are counted, all of them: it has chosen already. Of one box an expression or phrase,
            its best: that of the best instance, the one beside the mask, or the one around it.
        batch_size: expressions computed at once. Answers do not depend on it: pictures of one input size go together.
        workers: processes that read pictures, at most one a processor; 0 reads in this one.
        shard: (k, n) evaluates every n-th picture from the k-th on; the rows of all shards together, scored by
            `refseg.metrics.rescore`, give exactly the score of one run.
        progress: called with expressions done and in all.
        oracle: changes the model's answers with the knowledge of what is meant (`refseg.evaluation.oracle`).
        clip_frames, submission: of clips, see `refseg.evaluation.clips.evaluate_clips`, which answers those.

    Samples without annotation (a hidden test set: not `no_target`, and no object) are answered and written as
    predictions, but are in no row, no target line and no metric; `counts["unannotated"]` is their number, and where no
    sample has an annotation every metric is nan. Pictures that cannot be read are counted in `counts["unreadable"]`
    and told in the score's `problems`. Raises `DataError` for protocols of several tasks, for those of clips with
    pictures or an oracle, or when nothing could be read.
    """
    chosen = [get_protocol(protocol) for protocol in protocols]
    for protocol in chosen:
        if protocol.task != chosen[0].task:
            raise DataError(f"protocol {protocol.name} compares {protocol.task}, {chosen[0].name} {chosen[0].task}")
    if batch_size < 1 or not 0 <= shard[0] < shard[1]:
        raise DataError(f"batch_size is at least 1 and a shard is k of n with k < n, not {batch_size}, {shard}")
    if chosen[0].task == "video":
        if oracle is not None:
            raise DataError(f"protocol {chosen[0].name} compares clips, for which there is no oracle")
        return evaluate_clips(
            model,
            tokenizer,
            dataset,
            chosen,
            batch_size=batch_size,
            precision=precision,
            shard=shard,
            writers=writers,
            progress=progress,
            clip_frames=clip_frames,
            submission=submission,
        )
    pictures = by_picture(dataset)[shard[0] :: shard[1]]
    total = sum(map(len, pictures))
    network = cast(ReferringModel[object], model)
    run = RUNS[chosen[0].task](chosen, boundary, writers or Writers(), network.config.input)
    training, device = model.training, next(model.parameters()).device
    model.eval()
    done = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
            for group in same_size(read_pictures(dataset, pictures, run.config, workers, run.unreadable), batch_size):
                for count in run.answer(network, tokenizer, group, batch_size, device, oracle):
                    done += count
                    if progress is not None:
                        progress(done, total)
    finally:
        model.train(training)
    return run.scores()


def native_protocol(info: Mapping[str, Any]) -> Protocol:
    """The protocol `native` with the thresholds that a model's weights were stored with."""
    return replace(
        get_protocol("native"),
        threshold=float(info.get("threshold", 0.5)),
        no_target_threshold=float(info.get("no_target_threshold", 0.5)),
    )
