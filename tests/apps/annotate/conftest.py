"""Games on both databases, and people who are logged in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the optional extra 'annotate' is not installed")

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.game import Game
from tests.support.small_games import EVERYTHING, NUMBERS, Browser, add_people, log_in, make_game, postgres_database


@pytest.fixture
def postgres_url() -> str:
    """The address of an empty database on the test server."""
    url = os.environ.get("REFSEG_TEST_POSTGRES")
    if not url:
        pytest.skip("REFSEG_TEST_POSTGRES names no PostgreSQL server")
    return postgres_database(url, f"refseg_test_{os.getpid()}_{next(NUMBERS)}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases in turn; "" is SQLite in the data folder."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""


@pytest.fixture
def game(tmp_path: Path, database_url: str) -> Iterator[Game]:
    """A game on each database."""
    made = make_game(tmp_path / "game", database_url)
    yield made
    made.database.close()


@pytest.fixture
def sqlite_game(tmp_path: Path) -> Iterator[Game]:
    """A game on SQLite."""
    made = make_game(tmp_path / "game")
    yield made
    made.database.close()


@pytest.fixture
def enter(sqlite_game: Game) -> Callable[..., Browser]:
    """Makes accounts and logs them in: enter("anna"), enter("viktor", "validator")."""
    app = create_app(sqlite_game.settings, sqlite_game)

    def make(name: str, *roles: str) -> Browser:
        add_people(sqlite_game, name, roles=roles or EVERYTHING)
        return log_in(app, name)

    make.app = app  # type: ignore[attr-defined]
    return make
