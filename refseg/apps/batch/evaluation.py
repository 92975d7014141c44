"""`refseg evaluate --ray`: parts of a data set are scored by workers, and their rows counted together.

Metrics are counted from rows, exactly and in any order, so that the score is that of one process. The workers need to
see the data set under the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from refseg.apps.batch.execute import Cluster, Shard, Work, map_shards
from refseg.data import open_dataset
from refseg.errors import DataError, RefsegError
from refseg.evaluation.evaluate import Writers, evaluate_protocols
from refseg.inference.predictor import Segmenter, load
from refseg.metrics import Protocol, Score, rescore
from refseg.metrics.counts import Row
from refseg.metrics.scoring import finish

__all__ = ["Job", "evaluate_elsewhere", "lines_of"]

PICTURES = 32
"""Pictures of a shard, about: what is answered again when a worker dies."""
LINES = ("row", "prediction", "target")


@dataclass(frozen=True)
class Job:
    """What a worker evaluates: `shard` (k, n) of `limit` samples, under protocols that compare masks."""

    data: Path
    dataset: str | None
    split: str | None
    split_by: str | None
    limit: int | None
    shard: tuple[int, int]
    model: str
    device: str
    precision: Literal["float32", "bfloat16"]
    protocols: tuple[Protocol, ...]
    boundary: bool = False
    batch_size: int = 16
    lines: tuple[str, ...] = ()
    """Which lines of `Writers` come back."""


def lines_of(writers: Writers) -> tuple[str, ...]:
    """Which lines are wanted."""
    return tuple(name for name in LINES if getattr(writers, name) is not None)


def evaluate_elsewhere(
    job: Job,
    pictures: int,
    *,
    workers: int = 1,
    cluster: Cluster | None = None,
    writers: Writers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """As `evaluate_protocols`, on workers; `pictures` of the data set are cut into shards.

    `progress` gets shards done and in all. Raises `RefsegError` as `map_shards` does and for protocols of boxes, and
    `DataError` when nothing could be read.
    """
    if any(protocol.task != "masks" for protocol in job.protocols):
        raise RefsegError("--ray counts protocols of masks; leave it out for those of boxes")
    first, step = job.shard
    parts = max(1, -(-pictures // step // PICTURES))
    shards = [{"number": number, "shard": [first + step * number, step * parts]} for number in range(parts)]
    results: list[Shard] = []
    for result in map_shards(partial(_worker, job), shards, workers=workers, cluster=cluster):
        results.append(result)
        if progress is not None:
            progress(len(results), parts)
    results.sort(key=lambda result: result["number"])
    _write(results, writers or Writers())
    problems = [problem for result in results for problem in result["problems"]]
    counts = {name: sum(result["counts"].get(name, 0) for result in results) for name in COUNTED}
    if not counts["pictures"]:
        raise DataError(f"no expression could be evaluated{': ' + problems[0] if problems else ''}")
    scores = []
    for number, protocol in enumerate(job.protocols):
        rows = [Row.from_dict(row) for result in results for row in result["rows"][number]]
        score = finish(rescore(rows, protocol), rows)
        score.counts |= counts
        score.problems = problems
        scores.append(score)
    return scores


COUNTED = ("pictures", "unannotated", "unreadable")
"""Counts of a score that are not its rows'."""


def _write(results: Sequence[Shard], writers: Writers) -> None:
    for name in LINES:
        write = getattr(writers, name)
        for result in results if write is not None else ():
            for line in result["lines"][name]:
                write(line)


def _worker(job: Job) -> Work:
    return partial(_evaluate, job, load(job.model, job.device, job.precision))


def _evaluate(job: Job, segmenter: Segmenter, shard: Shard) -> Shard:
    samples = open_dataset(job.data, job.dataset, job.split, job.split_by)
    lines: dict[str, list[dict[str, Any]]] = {name: [] for name in LINES}
    writers = Writers(**{name: lines[name].append if name in job.lines else None for name in LINES})
    empty: Shard = {"number": shard["number"], "rows": [[] for _ in job.protocols], "counts": {}, "lines": lines}
    try:
        scores = evaluate_protocols(
            segmenter.model,
            segmenter.tokenizer,
            samples if job.limit is None else samples[: job.limit],
            job.protocols,
            batch_size=job.batch_size,
            precision=job.precision,
            boundary=job.boundary,
            shard=(shard["shard"][0], shard["shard"][1]),
            writers=writers,
        )
    except DataError as error:  # none of this part's pictures can be read; others may be
        return {**empty, "problems": [str(error)]}
    return {
        **empty,
        "rows": [score.rows for score in scores],
        "counts": {name: scores[0].counts[name] for name in COUNTED},
        "problems": scores[0].problems,
    }
