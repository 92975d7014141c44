"""A browser in front of a server; all tests here are skipped where Chromium or Playwright is missing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'refseg[browser]'")

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.apps.serve.conftest import Running, scene
from tests.support.browser_players import CHROMIUM, FLAGS, LAPTOP, PHONE

expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not Path(CHROMIUM).exists():
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is missing: apt-get install chromium"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One server for the tests of a file."""
    server = Running()
    yield server
    server.stop()


class Visitor:
    """Somebody at the page; collects what goes wrong in it."""

    def __init__(self, browser: Browser, url: str, phone: bool = False, dark: bool = False, hash: str = "") -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            viewport=PHONE if phone else LAPTOP,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            is_mobile=phone,
            accept_downloads=True,
            reduced_motion="reduce",
            permissions=["camera", "clipboard-read", "clipboard-write"],
        )
        self.context.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(f"{url}/{hash}")

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def example(self, number: int = 3) -> Visitor:
        """Choose a drawn picture and wait until the server has it."""
        self.page.locator(f'#examples button[data-id="{number}"]').click()
        return self.ready()

    def ready(self) -> Visitor:
        expect(self.page.locator("#picture-state")).to_contain_text("×")
        return self

    def sentence(self, text: str, number: int = 0) -> Visitor:
        self.page.locator(".sentence").nth(number).fill(text)
        return self

    def answered(self, words: str, number: int = 0) -> Visitor:
        """Wait for an answer."""
        layer = self.page.locator(".layer").nth(number)
        expect(layer.locator(".answer")).to_contain_text(words)
        expect(layer).not_to_have_attribute("aria-busy", "true")
        return self

    def marked(self) -> int:
        """Pixels of the canvas, shown example 3, that are masks': all others are a little darker than the picture."""
        address = self.page.evaluate(
            """async () => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            return document.querySelector("#canvas").toDataURL();
        }"""
        )
        shown = Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")
        darker = Image.fromarray((scene().image * 0.68).astype(np.uint8)).resize(shown.size, Image.Resampling.BILINEAR)
        difference = np.abs(np.asarray(shown, float) - np.asarray(darker, float)).max(axis=2)
        return int((difference > 40).sum())


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Callable[..., Visitor]]:
    """visit(phone=True): somebody at the page. No script may fail and no policy be broken in the test."""
    visitors: list[Visitor] = []

    def start(url: str = "", **options: Any) -> Visitor:
        visitors.append(Visitor(browser, url or server.url, **options))
        return visitors[-1]

    yield start
    faults = [fault for visitor in visitors for fault in visitor.faults]
    for visitor in visitors:
        visitor.context.close()
    assert not faults
