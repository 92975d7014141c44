"""The page without a server in Chromium; skipped where Chromium, Playwright or onnxruntime-web is missing."""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'refseg[dev]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'refseg[onnx]'")

from playwright.sync_api import Browser, sync_playwright

import refseg
from refseg.errors import RefsegError
from refseg.inference.export.web import export_web, fetch_ort, find_ort
from refseg.inference.predictor import Segmenter
from tests.support.browser_players import CHROMIUM, FLAGS


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not Path(CHROMIUM).exists():
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is missing: apt-get install chromium"))


class Handler(SimpleHTTPRequestHandler):
    """Static files, without a line of log a request."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return refseg.load("instances", device="cpu")


@pytest.fixture(scope="session")
def address(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, served from loopback. onnxruntime-web is taken from REFSEG_ORT_WEB, a node_modules, or npm."""
    folder = tmp_path_factory.mktemp("web")
    try:
        named = os.environ.get("REFSEG_ORT_WEB")
        ort = find_ort(named) or fetch_ort(tmp_path_factory.mktemp("ort"))
    except RefsegError as error:
        pytest.skip(f"onnxruntime-web is missing: {error}")
    export_web(segmenter, folder / "page", ort=ort)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder / "page")))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
