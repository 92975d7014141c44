"""What the campaign runs in processes of its own.

They are forked from a server that has imported everything and computed nothing: a fork of a process that has computed
with several threads hangs at its own first computation.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from refseg.training.loop import train
from refseg.training.recipe import parse_recipe
from tests.reliability.faults import watching
from tests.support.tiny_system import install

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = (
    "tests.reliability.children", "torch._dynamo", "refseg.cli.main", "refseg.cli.data", "refseg.evaluation.evaluate",
    "refseg.inference.predictor", "refseg.inference.visualize", "refseg.generation.scenes.write",
)  # fmt: skip
"""What children would each import for seconds: `torch._dynamo` is what the first optimiser imports."""
CONTEXT.set_forkserver_preload(list(PRELOAD))
# The server of the children is started by the first of them; a second thread in it would not live on in a child.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def train_here(values: dict[str, Any], cache: str, resume: bool, kill_at: int = 0, count: Any = None) -> None:
    """A run of the tiny system, killed at that operation on the files of its folder; `count` is told how many there
    were."""
    os.environ["REFSEG_CACHE"] = cache
    torch.set_num_threads(1)
    install()
    with watching(Path(values["output"]["folder"]), kill_at, kill=True) as watched:
        outcome = train(parse_recipe(values), resume)
    if count is not None:
        count.value = watched.count
    sys.exit(0 if outcome.signal == 0 else 3)


def verb_here(words: list[str], cache: str, log: str, start_at: float = 0.0) -> None:
    """A verb, with what it prints in a file; it begins at that time, so that several begin at once."""
    os.environ["REFSEG_CACHE"] = cache
    torch.set_num_threads(1)
    from refseg.cli.main import main

    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    time.sleep(max(0.0, start_at - time.time()))
    sys.exit(main(words))


def run(function: Any, *arguments: Any, kill_after: float | None = None) -> int:
    """The exit code of a child; one that is still there after `kill_after` seconds is killed. Negative: the signal."""
    child = CONTEXT.Process(target=function, args=arguments)
    child.start()
    child.join(200 if kill_after is None else kill_after)
    if child.is_alive():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert kill_after is not None, "it hangs"
    assert child.exitcode is not None
    return child.exitcode
