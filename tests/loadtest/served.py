"""A game served by a process of our own, on this machine only: for measuring and for tests that kill it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refseg.apps.annotate.app import VARIABLE
from refseg.apps.annotate.settings import KEEP_ALIVE, Settings
from refseg.errors import RefsegError


@dataclass(frozen=True)
class Usage:
    """What the server's processes have used: processor seconds so far, resident memory in bytes, their number."""

    processor: float
    memory: int
    processes: int


class Served:
    """The server, started; `stop` or `kill` ends it and its workers, by the number of the process that was started.

    It has a session of its own: Ctrl-C in the terminal reaches us, not it. What it says goes to the end of `log`.
    """

    def __init__(self, settings: Settings, log: Path, workers: int = 1) -> None:
        settings.secret()  # made once, before the workers look for it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable, "-m", "uvicorn", "refseg.apps.annotate.app:from_environment", "--factory", "--port",
            str(port), "--log-level", "error", "--no-server-header", "--timeout-graceful-shutdown", "5",
            "--timeout-keep-alive", str(KEEP_ALIVE),
        ]  # fmt: skip
        if workers > 1:
            command += ["--workers", str(workers)]
        environment = {**os.environ, VARIABLE: settings.to_json()}
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, start_new_session=True, stdout=output, stderr=output
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def usage(self) -> Usage | None:
        """What the server and its workers have used; None where psutil is not installed."""
        try:
            import psutil
        except ImportError:
            return None
        own = psutil.Process(self.process.pid)
        processor, memory, processes = 0.0, 0, 0
        for process in (own, *own.children(recursive=True)):
            try:
                times: Any = process.cpu_times()
                processor += times.user + times.system
                memory += process.memory_info().rss
                processes += 1
            except psutil.NoSuchProcess:
                continue
        return Usage(processor, memory, processes)

    def stop(self) -> None:
        """Let it finish what it is at, and end; killed when that takes long."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it and its workers at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the session's number is the process's
        self.process.wait(20)

    def _wait(self, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                said = self.log.read_text(errors="replace")[-2000:]
                raise RefsegError(f"the server did not start; it said: {said}")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise RefsegError(f"the server did not answer within {seconds:.0f} seconds")
