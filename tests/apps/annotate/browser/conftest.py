"""Browsers and games for the tests of the pages; all of them are skipped where Chromium or Playwright is missing."""

import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'refseg[annotate,dev]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'refseg[annotate]'")

from playwright.sync_api import Browser, expect, sync_playwright

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from tests.support.browser_players import CHROMIUM, FLAGS, Player
from tests.support.game_server import ThreadServer, fill

expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong


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
    """One Chromium; every player has a profile of their own in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """drawn(4): the folder of a game with four drawn pictures, made once; tests play in copies."""

    @lru_cache
    def folder(pictures: int) -> Path:
        made = tmp_path_factory.mktemp("drawn") / "game"
        fill(made, pictures).database.close()
        return made

    return folder


@pytest.fixture
def server(drawn: Callable[[int], Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ThreadServer]:
    """A game of four pictures; `@pytest.mark.parametrize("server", [1], indirect=True)` for another number."""
    data = shutil.copytree(drawn(getattr(request, "param", 4)), tmp_path / "game")
    server = ThreadServer(Game.open(Settings(data=data)))
    yield server
    server.stop()


@pytest.fixture
def play(browser: Browser, server: ThreadServer) -> Iterator[Callable[..., Player]]:
    """play("anna", "/write"): anna logged in at that page. No script may fail and no policy be broken in the test."""
    players: list[Player] = []

    def start(name: str, path: str = "/", **options) -> Player:
        player = Player(browser, server.url, name, **options).log_in(path)
        players.append(player)
        return player

    yield start
    faults = [fault for player in players for fault in player.faults]
    for player in players:
        player.context.close()
    assert not faults
