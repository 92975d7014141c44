"""The server's sockets, processes and signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from refseg.apps.serve.app import VARIABLE, create_app
from refseg.apps.serve.metrics import FOLDER
from refseg.apps.serve.searching import open_index
from refseg.apps.serve.settings import KEEP_ALIVE, Settings
from refseg.apps.serve.state import load_segmenters
from refseg.errors import RefsegError

DRAIN = 60
"""Seconds that requests in work are given when the server is told to stop."""
START = 120
"""Seconds after which a worker that says nothing is taken for hung: loading models takes a while on a busy machine."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `RefsegError` where the port is taken, or the address is not ours."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise RefsegError(f"--host {host} --port {port}: no such address ({error})") from error
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise RefsegError(f"port {port} at {host} cannot be had ({reason}); choose another --port") from error
    listening.set_inheritable(True)
    return listening


def run(settings: Settings, host: str = "127.0.0.1", port: int = 8000, workers: int = 1) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in work are finished first.

    Raises `RefsegError` where a model, the index or the port is not to be had, before anything is served.
    """
    listening = listen(host, port)
    shared = tempfile.mkdtemp(prefix="refseg-serve-") if workers > 1 else ""
    signal.signal(signal.SIGTERM, _stop)
    try:
        options: dict[str, Any] = {
            "workers": workers if workers > 1 else None,
            "log_level": "warning",
            "server_header": False,
            "timeout_graceful_shutdown": DRAIN,
            "timeout_keep_alive": KEEP_ALIVE,
            "timeout_worker_healthcheck": START,
        }
        if workers > 1:
            _check(settings)
            for part in ("spool", "metrics"):
                (Path(shared) / part).mkdir()
            os.environ[FOLDER] = f"{shared}/metrics"
            os.environ[VARIABLE] = replace(settings, spool=f"{shared}/spool").to_json()
            config = uvicorn.Config("refseg.apps.serve.app:from_environment", factory=True, **options)
            _announce(listening)
            Multiprocess(config, [listening]).run()
        else:
            index = open_index(settings.index) if settings.index else None
            app = create_app(settings, load_segmenters(settings), index)
            _announce(listening)
            with suppress(KeyboardInterrupt):  # Ctrl-C is how one stops it
                uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listening])
    finally:
        listening.close()
        if shared:
            shutil.rmtree(shared, ignore_errors=True)


def _check(settings: Settings) -> None:
    """What the workers would fail at: models and index that are not there."""
    from refseg.inference.checkpoint import check_model

    for model in settings.models:
        check_model(model)
    if settings.index:
        open_index(settings.index)


def _announce(listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    print(f"listening at http://{place}:{port}/ (stop with Ctrl-C)", flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    """What SIGTERM means once uvicorn has finished the requests in work (it raises the signal again): a good end."""
    if threading.current_thread() is threading.main_thread():
        sys.exit(0)
