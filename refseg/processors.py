"""How many processors this process may use."""

from __future__ import annotations

import os

__all__ = ["at_most", "processors"]


def processors() -> int:
    """The processors that this process may run on, which can be fewer than the machine has; at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_most(workers: int) -> int:
    """`workers`, or the processors that this process has where they are fewer: more only cost memory. Of several
    processes that torchrun started on a machine, each counts its share, at least 1."""
    share = processors() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1") or 1))
    return min(workers, max(1, share))
