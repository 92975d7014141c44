"""Work for the tests of `map_shards`; a module without torch, so that processes that import it start at once."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from refseg.apps.batch.execute import Shard, Work
from refseg.errors import RefsegError


def counting(folder: str) -> Work:
    """Work that leaves a file in `folder` for each time that it is done."""
    return partial(count, folder)


def count(folder: str, shard: Shard) -> Shard:
    """The shard itself. One called "deadly" kills its process the first time, one called "fatal" each time, one called
    "wrong" raises an error."""
    name = shard["name"]
    (Path(folder) / f"{name}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if name == "fatal" or (name == "deadly" and len(list(Path(folder).glob("deadly-*"))) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "wrong":
        raise RefsegError("this shard is wrong")
    return shard
