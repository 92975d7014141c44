"""Work on shards, in this process, in processes of this machine, or in actors of a Ray cluster.

What is done with a shard must not depend on when, where and how often it is done: a shard whose worker died is given to
another one, and may be done twice.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeAlias

from refseg.errors import RefsegError

__all__ = ["Cluster", "Make", "Shard", "map_shards"]

Shard: TypeAlias = dict[str, Any]
"""Plain JSON values: what a worker needs to know of its part of the work, and what it tells about it."""
Work: TypeAlias = Callable[[Shard], Shard]
Make: TypeAlias = Callable[[], Work]
"""Called once in each worker, to load what all shards need; it is pickled, so that it is a function of a module, a
`functools.partial` of one, or an object of a module's class."""

DEATHS = 3
"""How many workers may die, one after the other, without any shard coming back."""


@dataclass(frozen=True)
class Cluster:
    """Ray workers: `address` "local" starts Ray here, "auto", "HOST:PORT" and "ray://HOST:PORT" join a cluster.

    `actors` of them, None as many as there are CPUs (or GPUs, where they use some); each has `cpus` and `gpus` for
    itself.
    """

    address: str = "local"
    actors: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0


def map_shards(
    make: Make, shards: Sequence[Shard], *, workers: int = 1, cluster: Cluster | None = None
) -> Iterator[Shard]:
    """What `make()(shard)` returns, for each shard, as they are done and in any order.

    `workers` processes of this machine, this one itself for 1; or actors of `cluster`. An error that `make` or the work
    raises ends everything and is raised here. Raises `RefsegError` where the cluster cannot be reached or is lost, and
    where workers keep dying.
    """
    if not shards:
        return
    if cluster is not None:
        yield from _on_ray(make, shards, cluster)
    elif workers <= 1 or len(shards) == 1:
        work = make()
        for shard in shards:
            yield work(shard)
    else:
        yield from _in_processes(make, shards, min(workers, len(shards)))


_work: Work | None = None


def _start(make: Make, threads: int) -> None:
    global _work
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if "torch" in sys.modules:  # what is unpickled for this call may have imported it, with a thread a core
        sys.modules["torch"].set_num_threads(threads)
    _work = make()


def _do(shard: Shard) -> Shard:
    assert _work is not None
    return _work(shard)


def _in_processes(make: Make, shards: Sequence[Shard], workers: int) -> Iterator[Shard]:
    left = list(shards)
    deaths = 0
    threads = max(1, cores() // workers)
    while left:
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_start, initargs=(make, threads)
        )
        running: dict[Future[Shard], Shard] = {}
        try:
            while left or running:
                while left and len(running) < 2 * workers:  # a few ahead, so that no worker waits
                    running[pool.submit(_do, left[0])] = left[0]
                    del left[0]
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    del running[future]
                    deaths = 0
                    yield result
        except BrokenProcessPool as error:
            left = [*running.values(), *left]
            deaths += 1
            if deaths > DEATHS:
                raise RefsegError(
                    f"the workers died {deaths} times in a row (out of memory, or the model cannot be loaded); "
                    "try --workers 1, which shows the reason"
                ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Actor:
    """Keeps what `make` gives, and does the shards of Ray Data's batches."""

    def __init__(self, make: Make) -> None:
        self.work = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"result": [json.dumps(self.work(json.loads(shard))) for shard in batch["shard"]]}


def _on_ray(make: Make, shards: Sequence[Shard], cluster: Cluster) -> Iterator[Shard]:
    with _connected(cluster) as ray:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        actors = min(cluster.actors or _room(ray, cluster), len(shards))
        items = [{"shard": json.dumps(shard)} for shard in shards]
        # A block is what is lost and done again with its worker, and what the driver hears of when it is done.
        data = ray.data.from_items(items, override_num_blocks=min(len(items), 2000)).map_batches(
            _Actor,
            fn_constructor_args=(make,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
        )
        try:
            for row in data.iter_rows():
                yield json.loads(row["result"])
        except Exception as error:
            cause = _cause(error)
            if cause is not None:
                raise cause from error
            if not type(error).__module__.startswith("ray."):
                raise
            lines = str(error).strip().splitlines()
            raise RefsegError(f"Ray gave up: {lines[-1] if lines else type(error).__name__}") from error


def _room(ray: Any, cluster: Cluster) -> int:
    """How many actors the cluster has room for now."""
    total = ray.cluster_resources()
    room = total.get("GPU", 0) / cluster.gpus if cluster.gpus else total.get("CPU", 1) / max(cluster.cpus, 1e-9)
    if room < 1:
        kind = f"{cluster.gpus:g} GPUs" if cluster.gpus else f"{cluster.cpus:g} CPUs"
        raise RefsegError(f"the cluster {cluster.address} has no room for an actor of {kind}; it has {total}")
    return int(room)


def _cause(error: BaseException) -> RefsegError | None:
    """What an actor raised, inside of what Ray makes of it, whose message is a traceback."""
    chain: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in chain:
        chain.append(inner)
        inner = getattr(inner, "cause", None) or inner.__cause__
    return next((each for each in reversed(chain) if isinstance(each, RefsegError)), None)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; what was connected before stays so."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RefsegError("Ray is not installed: pip install 'refseg[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    local = cluster.address == "local"
    if not local:
        _check_address(cluster.address)
    try:
        ray.init(
            address=cluster.address,
            num_cpus=(cluster.actors or cores()) if local else None,
            include_dashboard=False if local else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise RefsegError(f"--ray {cluster.address}: no connection to Ray ({reason[:200]})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raises `RefsegError` where nothing listens: Ray itself would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise RefsegError(f"--ray {address}: an address is local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise RefsegError(f"--ray {address}: nothing answers there ({error}); is the cluster up?") from error


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
