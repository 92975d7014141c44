"""The queue and the batches that it makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from refseg.apps.serve.engine import Engine, Job
from refseg.apps.serve.errors import ServeError
from refseg.errors import RefsegError


class Work:
    """Jobs whose results tell which batch they were in; the first job can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.begun = threading.Event()

    def job(self, name: str, group: str = "a", weight: int = 1) -> Job[str]:
        def compute(jobs: Sequence[Job[str]]) -> list[str]:
            names = [job.kind for job in jobs]
            self.batches.append(names)
            if "hold" in names:
                self.begun.set()
                self.go.wait(10)
            if any(name.startswith("bad") for name in names):
                raise RefsegError("a bad one")
            return [f"{name} of {len(names)}" for name in names]

        return Job(group, weight, compute, name)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_batch=4, queue=6, max_wait=30.0)
    yield engine
    engine.stop()


def held(engine: Engine, work: Work) -> Job[str]:
    """A job that keeps the engine busy until `work.go` is set."""
    job = work.job("hold", "first")
    engine.submit(job)
    assert work.begun.wait(10)
    return job


def test_what_waits_is_computed_together_group_by_group(engine: Engine, work: Work) -> None:
    held(engine, work)
    futures = [engine.submit(work.job(name, group)) for name, group in zip("123456", "aabaaa", strict=True)]
    work.go.set()
    assert [future.result(10) for future in futures] == ["1 of 4", "2 of 4", "3 of 1", "4 of 4", "5 of 4", "6 of 1"]
    assert work.batches == [["hold"], ["1", "2", "4", "5"], ["3"], ["6"]]


def test_a_batch_holds_no_more_expressions_than_allowed_and_one_large_job_alone(engine: Engine, work: Work) -> None:
    held(engine, work)
    futures = [engine.submit(work.job("1", weight=3)), engine.submit(work.job("2", weight=2))]
    futures.append(engine.submit(work.job("3")))
    work.go.set()
    assert [future.result(10) for future in futures] == ["1 of 2", "2 of 1", "3 of 2"]
    assert engine.submit(work.job("large", weight=6)).result(10) == "large of 1"


def test_a_bad_job_fails_alone(engine: Engine, work: Work) -> None:
    held(engine, work)
    futures = [engine.submit(work.job(name)) for name in ("1", "bad", "3")]
    work.go.set()
    assert futures[0].result(10) == "1 of 1"
    assert futures[2].result(10) == "3 of 1"
    with pytest.raises(RefsegError, match="a bad one"):
        futures[1].result(10)


def test_what_nobody_waits_for_is_not_computed(engine: Engine, work: Work) -> None:
    held(engine, work)
    future = engine.submit(work.job("left"))
    other = engine.submit(work.job("other"))
    assert future.cancel()
    assert engine.waiting == 2
    work.go.set()
    assert other.result(10) == "other of 1"
    with pytest.raises(CancelledError):
        future.result(0)
    assert "left" not in [name for batch in work.batches for name in batch]
    assert engine.waiting == 0


def test_a_full_queue_refuses_and_says_when_to_come_back(engine: Engine, work: Work) -> None:
    held(engine, work)
    engine.submit(work.job("1", weight=5))
    with pytest.raises(ServeError) as refused:
        engine.submit(work.job("2", weight=2))
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    engine.submit(work.job("3", weight=1))
    work.go.set()


def test_a_job_whose_turn_does_not_come_is_refused(work: Work) -> None:
    engine = Engine(max_batch=4, queue=6, max_wait=0.05)
    held(engine, work)
    future = engine.submit(work.job("late"))
    time.sleep(0.1)
    work.go.set()
    with pytest.raises(ServeError, match="did not come") as refused:
        future.result(10)
    assert refused.value.status == 429
    engine.stop()


def test_stopping_finishes_what_waits_and_takes_nothing_more(work: Work) -> None:
    engine = Engine(max_batch=1, queue=6, max_wait=30.0)
    held(engine, work)
    futures = [engine.submit(work.job(name)) for name in "123"]
    work.go.set()
    engine.stop()
    assert [future.result(0) for future in futures] == ["1 of 1", "2 of 1", "3 of 1"]
    with pytest.raises(ServeError) as refused:
        engine.submit(work.job("4"))
    assert refused.value.status == 503
