"""`refseg train` of the tiny system in a process of its own: it can be killed, limited and can hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from refseg.config import to_toml

LIMIT = 200.0
"""Seconds after which a process hangs."""
ROOT = Path(__file__).parents[2]


class TrainingProcess:
    """A run of a recipe in a session of its own, which calls `before` ahead of all else; what it says goes to `said`.

    It is started anew and not forked: OpenMP's threads are gone in a fork, and the first operation would wait for them.
    """

    def __init__(
        self,
        values: dict[str, Any],
        folder: Path,
        arguments: Sequence[str] = (),
        before: Callable[[], None] | None = None,
    ) -> None:
        recipe, self.said = folder / "recipe.toml", folder / "said.txt"
        recipe.write_text(to_toml(values))
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.tiny_system", "train", str(recipe), *arguments],
                cwd=ROOT,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=before,
            )
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        """The code that it ended with, negative for a signal; None while it runs."""
        return self.process.poll()

    def wait_for_lines(self, log: Path, count: int) -> None:
        """Wait until the log of the run has so many lines."""
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit and self.returncode is None:
            if log.exists() and len(log.read_bytes().splitlines()) >= count:
                return
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"the run did not get there: {self.returncode}, {self.said.read_text()}")

    def kill(self) -> None:
        """End it and all that it started."""
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def ended(self) -> str:
        """What it said before it ended by itself; one that hangs is killed, and fails the test."""
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run hangs: {self.said.read_text()}") from None
        return self.said.read_text()
