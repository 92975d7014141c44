"""Full disk, locked database, and what the server says about itself meanwhile."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.web import probes
from tests.support.small_games import Browser, add_people, log_in, make_game

Enter = Callable[..., Browser]


@contextmanager
def locked(game: Game) -> Iterator[None]:
    """Another process that holds SQLite's lock."""
    other = sqlite3.connect(game.settings.data / "game.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_a_locked_database_says_when_to_come_again(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", busy_seconds=0.05)
    add_people(game, "anna")
    app = create_app(game.settings, game)
    anna = log_in(app, "anna")
    task = anna.next_write()
    body = {"lease_id": task["lease"]["id"], "client_key": "k" * 8, "text": "x y", "no_target": True}
    with locked(game):
        answer = anna.post("/api/v1/samples", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert TestClient(app).get("/healthz").json() == {"status": "ok"}
        ready = TestClient(app).get("/readyz")
        assert ready.status_code == 503
        assert int(ready.headers["retry-after"]) > 0
        assert "busy" in ready.json()["reason"]
        page = TestClient(app).post("/login", data={"name": "x"}, headers={"Accept": "text/html"})
        assert page.status_code in (400, 503)
    assert anna.post("/api/v1/samples", json=body).status_code == 201, "the same request, a moment later"
    assert TestClient(app).get("/readyz").json() == {"status": "ready"}
    game.database.close()


def test_a_full_disk_says_so(enter: Enter, sqlite_game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = enter("anna")

    def full(*given: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr("refseg.apps.annotate.services.drafts.drop", full)
    answer = anna.delete("/api/v1/drafts/write/1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full")
    assert int(answer.headers["retry-after"]) > 0

    def no_room(*given: object) -> None:
        raise ValueError("cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("refseg.apps.annotate.services.drafts.listed", no_room)
    answer = anna.get("/api/v1/drafts")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full")
    assert int(answer.headers["retry-after"]) > 0


def test_sqlite_that_may_not_grow_is_a_full_disk(sqlite_game: Game) -> None:
    """The real error of a real database, whose number of pages is limited."""

    def grow(session: object) -> None:
        connection = session.connection().connection.driver_connection  # type: ignore[attr-defined]
        connection.execute("PRAGMA max_page_count=1")
        session.execute(text("CREATE TABLE more AS SELECT hex(randomblob(100000)) AS text"))  # type: ignore[attr-defined]

    with pytest.raises(GameError) as error:
        sqlite_game.database.write(grow)
    assert error.value.code == "disk_full"


def test_ready_is_what_can_be_played(enter: Enter, sqlite_game: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = TestClient(enter.app)  # type: ignore[attr-defined]
    assert stranger.get("/readyz").json() == {"status": "ready"}
    with monkeypatch.context() as patched:
        patched.setattr(probes, "free_bytes", lambda folder: 1000)
        answer = stranger.get("/readyz")
        assert (answer.status_code, "disk" in answer.json()["reason"]) == (503, True)
    pictures = sqlite_game.settings.pictures
    shutil.move(pictures, pictures.with_name("elsewhere"))
    answer = stranger.get("/readyz")
    assert (answer.status_code, "pictures are missing" in answer.json()["reason"]) == (503, True)
    shutil.move(pictures.with_name("elsewhere"), pictures)
    assert stranger.get("/readyz").status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(probes, "newest", lambda: "9999")
        assert "version" in stranger.get("/readyz").json()["reason"]
    assert stranger.get("/healthz").status_code == 200, "a server that waits is not to be killed"


def test_the_counters_are_for_administrators(enter: Enter) -> None:
    ada, anna = enter("ada"), enter("anna", "annotator")
    task = ada.next_write()
    ada.write("something", [task["objects"][0]["id"]])
    ada.get("/api/v1/nothing")
    text = ada.get("/metrics").text
    assert 'refseg_game_samples{state="waiting"} 1.0' in text
    assert "refseg_game_pictures 4.0" in text
    assert 'refseg_game_requests_total{method="POST",route="/api/v1/samples",status="201"} 1.0' in text
    assert 'route="other",status="404"' in text
    assert 'refseg_game_request_seconds_count{route="/api/v1/samples"}' in text
    assert "refseg_game_disk_free_bytes" in text
    assert anna.get("/metrics").status_code == 403
    assert TestClient(enter.app).get("/metrics").status_code == 401  # type: ignore[attr-defined]


def test_no_redirection_to_another_host(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    add_people(game, "anna")
    app = create_app(game.settings, game)
    stranger = TestClient(app, base_url="http://evil.example")
    for path in ("/login/", "/api/v1/me/", "/write/", "/static"):
        answer = stranger.get(path, follow_redirects=False)
        assert "evil.example" not in answer.headers.get("location", ""), path
    changed = game.settings.change(allowed_hosts=("www.annotate.example", "*.team.example"))
    named = create_app(changed, Game(changed, game.database, game.clock))
    for host, status in (
        ("www.annotate.example", 200), ("a.team.example:8000", 200), ("annotate.example", 400), ("team.example", 400),
        ("evil.example", 400),
    ):  # fmt: skip
        answer = TestClient(named, base_url=f"http://{host}").get("/login", follow_redirects=False)
        assert answer.status_code == status, host
    for path in ("/healthz", "/readyz"):
        answer = TestClient(named, base_url="http://127.0.0.1").get(path)
        assert answer.status_code == 200, "probes know the address only"
    game.database.close()


def test_the_description_under_a_path(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", root_path="/game")
    stranger = TestClient(create_app(game.settings, game))
    description = stranger.get("/game/api/openapi.json").json()
    assert description["servers"] == [{"url": "/game"}]
    assert stranger.get("/game/healthz").json() == {"status": "ok"}
    assert stranger.get("/game/readyz").json() == {"status": "ready"}
    game.database.close()
