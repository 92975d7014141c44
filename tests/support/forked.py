"""`refseg train` in a copy of the test's own process: it can be killed and can hang, and imports nothing again."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refseg.cli.main import main
from refseg.config import to_toml

LIMIT = 200.0
"""Seconds after which a process hangs."""


class Forked:
    """A run of a recipe in a process of its own session, which calls `before` first; what it says goes to `said`."""

    def __init__(
        self,
        values: dict[str, Any],
        folder: Path,
        arguments: Sequence[str] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        recipe, self.said = folder / "recipe.toml", folder / "said.txt"
        recipe.write_text(to_toml(values))
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run(["train", str(recipe), *arguments], before))

    def _run(self, words: list[str], before: Callable[[], None] | None) -> int:
        """In the child: everything that the interpreter does until its end, at whatever point it ends."""
        code = 1
        try:
            os.setsid()
            handle = os.open(self.said, os.O_CREAT | os.O_WRONLY, 0o644)
            for number in (1, 2):
                os.dup2(handle, number)
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            if before is not None:
                before()
            code = main(words)
        except BaseException:
            traceback.print_exc()
        multiprocessing.util._exit_function()
        sys.stderr.flush()
        return code

    def poll(self) -> int | None:
        """The code that it ended with, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait_for_lines(self, log: Path, count: int) -> None:
        """Wait until the log of the run has so many lines."""
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit and self.poll() is None:
            if log.exists() and len(log.read_bytes().splitlines()) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"the run did not get there: {self.poll()}, {self.said.read_text()}")

    def ended(self) -> str:
        """What it said before it ended by itself; one that hangs is killed, and fails the test."""
        limit = time.monotonic() + LIMIT
        while self.poll() is None:
            if time.monotonic() > limit:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"the run hangs: {self.said.read_text()}")
            time.sleep(0.01)
        return self.said.read_text()
