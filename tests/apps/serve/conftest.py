"""Servers of a shipped model that answers about drawn scenes, and pictures to send them."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the optional extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the optional extra 'serve' is not installed")

import uvicorn
from starlette.testclient import TestClient

from refseg.apps.serve.app import create_app
from refseg.apps.serve.server import listen
from refseg.apps.serve.settings import Settings
from refseg.generation.scenes import Scene, generate
from refseg.inference.predictor import Segmenter, load

MODEL = "rela-photo"


@lru_cache(maxsize=1)
def segmenter() -> Segmenter:
    """The model, loaded once for all tests."""
    return load(MODEL, device="cpu")


@lru_cache
def scene(number: int = 3) -> Scene:
    """A drawn scene: number 3 is a red car between two red chairs."""
    return generate(seed=11, index=number, size=480)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG") -> bytes:
    """A picture as a file's bytes."""
    buffer = BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of a few bytes whose header promises that many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def serve() -> Iterator[Callable[..., TestClient]]:
    """serve(queue=4): a client of a new application with these settings; `index=` as for `create_app`."""
    clients: list[TestClient] = []

    def start(segmenters: Mapping[str, Segmenter] | None = None, index: Any = None, **fields: Any) -> TestClient:
        models = segmenters or {MODEL: segmenter()}
        app = create_app(Settings(models=tuple(models), **fields), models, index)
        client = TestClient(app)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


class Running:
    """An application behind a real socket, in a thread."""

    def __init__(self, **fields: Any) -> None:
        index = fields.pop("index", None)
        listening = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.app = create_app(Settings(models=(MODEL,), **fields), {MODEL: segmenter()}, index)
        self.state = self.app.state.serve
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, args=([listening],), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End it."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """running(queue=4): an application that listens on this machine."""
    started: list[Running] = []

    def start(**fields: Any) -> Running:
        started.append(Running(**fields))
        return started[-1]

    yield start
    for each in started:
        each.stop()
