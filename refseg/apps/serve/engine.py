"""The one thread that computes. What waits while a batch is computed makes the next batch; nothing waits for company.

A job belongs to a group; jobs of the same group are computed together, up to `max_batch` expressions. A job whose
client has left is dropped before its turn. A batch that fails is computed again job by job, so that only the job that
is at fault fails.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from refseg.apps.serve.errors import ServeError
from refseg.apps.serve.metrics import Metrics
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.inference.predictor import EncodedImage, Segmenter
    from refseg.inference.segmentation import Segmentation

LOGGER = logging.getLogger("refseg.serve")

Result = TypeVar("Result")


@dataclass(eq=False)
class Job(Generic[Result]):
    """A piece of work: `compute` takes all jobs of a batch and returns a result for each."""

    group: Hashable
    weight: int
    """Expressions."""
    compute: Callable[[Sequence[Job[Result]]], list[Result]]
    kind: str = ""
    until: float = math.inf
    """`time.monotonic()` after which it is not begun."""
    future: Future[Result] = field(default_factory=Future)


class Engine:
    """A queue and the thread that works it off."""

    def __init__(self, max_batch: int, queue: int, max_wait: float, metrics: Metrics | None = None) -> None:
        """`queue` expressions wait at most, each for at most `max_wait` seconds."""
        self.max_batch, self.queue, self.max_wait = max_batch, queue, max_wait
        self.metrics = metrics or Metrics()
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._waiting = 0
        self._seconds_each = 0.25
        """Recent time of an expression, to say when to come back."""
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="refseg engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Expressions that wait."""
        return self._waiting

    def check_room(self, weight: int = 1) -> None:
        """Raises `ServeError` (429) where so many further expressions would not find room."""
        if self._waiting + weight > self.queue:
            self.metrics.refused.labels("queue").inc()
            seconds = max(1, math.ceil(self._waiting * self._seconds_each))
            raise ServeError("busy", f"{self._waiting} expressions wait already; come back later", seconds=seconds)

    def submit(self, job: Job[Result]) -> Future[Result]:
        """Queue a job. Raises `ServeError` where the queue is full, or the engine stops."""
        with self._changed:
            if self._stopping:
                raise ServeError("not_ready", "the server is stopping")
            self.check_room(job.weight)
            job.until = time.monotonic() + self.max_wait
            self._jobs.append(job)
            self._count(job.weight)
            self._changed.notify()
        return job.future

    def stop(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _count(self, change: int) -> None:
        self._waiting += change
        self.metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if not self._jobs:
                    return
                batch = self._next_batch()
            if batch:
                self._compute(batch)

    def _next_batch(self) -> list[Job]:
        """The first job that is still wanted, and the others of its group that fit."""
        batch: list[Job] = []
        weight = 0
        left: deque[Job] = deque()
        while self._jobs:
            job = self._jobs.popleft()
            fits = not batch or (job.group == batch[0].group and weight + job.weight <= self.max_batch)
            if not fits:
                left.append(job)
            elif not job.future.set_running_or_notify_cancel():
                self.metrics.cancelled.inc()
                self._count(-job.weight)
            elif time.monotonic() > job.until:
                self.metrics.refused.labels("wait").inc()
                self._count(-job.weight)
                message = f"its turn did not come within {self.max_wait:.0f} seconds"
                job.future.set_exception(ServeError("busy", message, seconds=10))
            else:
                batch.append(job)
                weight += job.weight
                self._count(-job.weight)
        self._jobs = left
        return batch

    def _compute(self, batch: list[Job]) -> None:
        weight = sum(job.weight for job in batch)
        began = time.perf_counter()
        try:
            results = batch[0].compute(batch)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} jobs")
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self._compute([job])
                return
            if not isinstance(error, RefsegError):
                LOGGER.exception("a computation failed")
            batch[0].future.set_exception(error)
            return
        seconds = time.perf_counter() - began
        self._seconds_each += 0.2 * (seconds / weight - self._seconds_each)
        self.metrics.batch.observe(weight)
        self.metrics.batch_seconds.labels(batch[0].kind).observe(seconds)
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)


@dataclass(frozen=True)
class Thresholds:
    """Probabilities of a request; None takes the model's."""

    mask: float | None = None
    no_target: float | None = None


@dataclass(eq=False)
class EncodeJob(Job["EncodedImage"]):
    """Encode one picture."""

    @classmethod
    def of(cls, segmenter: Segmenter, picture: object) -> EncodeJob:
        """The job; each picture is encoded on its own, since a model's state of several cannot be taken apart."""
        return cls(object(), 1, lambda jobs: [segmenter.encode(picture)], "encode")  # type: ignore[arg-type]


@dataclass(eq=False)
class AskJob(Job["list[Segmentation]"]):
    """Ask expressions of a picture that is encoded. Jobs about the same picture are one call of the model."""

    encoded: EncodedImage | None = None
    texts: Sequence[str] = ()

    @classmethod
    def of(cls, encoded: EncodedImage, texts: Sequence[str], thresholds: Thresholds, batch_size: int) -> AskJob:
        """The job."""

        def compute(jobs: Sequence[Job[list[Segmentation]]]) -> list[list[Segmentation]]:
            flat = [text for job in jobs for text in job.texts]  # type: ignore[attr-defined]
            answers = encoded.ask(
                flat, threshold=thresholds.mask, no_target_threshold=thresholds.no_target, batch_size=batch_size
            )
            return _split(answers, [job.weight for job in jobs])

        group = ("ask", id(encoded), thresholds)  # the job holds the picture: no other one has its id meanwhile
        return cls(group, len(texts), compute, "ask", encoded=encoded, texts=texts)


@dataclass(eq=False)
class SegmentJob(Job["list[Segmentation]"]):
    """Answer expressions about one picture that is not kept. Pictures of one input size are encoded together."""

    picture: object = None
    texts: Sequence[str] = ()

    @classmethod
    def of(
        cls, segmenter: Segmenter, picture: object, texts: Sequence[str], thresholds: Thresholds, batch_size: int
    ) -> SegmentJob:
        """The job."""

        def compute(jobs: Sequence[Job[list[Segmentation]]]) -> list[list[Segmentation]]:
            pairs = [(number, text) for number, job in enumerate(jobs) for text in job.texts]  # type: ignore[attr-defined]
            answers = segmenter.answer_pairs(
                [job.picture for job in jobs],  # type: ignore[attr-defined]
                pairs,
                threshold=thresholds.mask,
                no_target_threshold=thresholds.no_target,
                batch_size=batch_size,
            )
            return _split(answers, [job.weight for job in jobs])

        return cls(("segment", id(segmenter), thresholds), len(texts), compute, "segment", picture=picture, texts=texts)


def _split(answers: list[Segmentation], counts: Sequence[int]) -> list[list[Segmentation]]:
    rest = iter(answers)
    return [[next(rest) for _ in range(count)] for count in counts]
