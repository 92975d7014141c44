"""Bodies of requests: none is read before it is known whose it is, none stands still, none fills the disk."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.database.tables import Picture, Security
from refseg.apps.annotate.errors import GameError
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services import disk, uploads
from refseg.apps.annotate.services.importing import ImportResult, import_pictures
from refseg.apps.annotate.web import middleware
from tests.apps.annotate.test_security import archive_of, coco, picture_bytes, upload
from tests.support.small_games import Browser, add_people, found, log_in, make_game

Enter = Callable[..., Browser]
UPLOAD = "/api/v1/admin/import"
BLOCK = 64 * 1024
LARGE = 300_000_000
HEAD = b'--b\r\nContent-Disposition: form-data; name="annotations"; filename="a.json"\r\n\r\n'


@dataclass
class Sent:
    """What became of a request: the answer, and how much of its body was read."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    read: int = 0

    @property
    def code(self) -> str:
        return json.loads(self.body)["error"]["code"]


def send(
    app: Any, path: str, size: int, headers: dict[str, str], wait: Callable[[], Any] | None = None, head: bytes = b""
) -> Sent:
    """POST `size` bytes block by block, by ASGI's own protocol; `wait` is awaited before each block."""
    sent = Sent()

    async def receive() -> dict[str, Any]:
        if wait is not None:
            await wait()
        block = min(BLOCK, size - sent.read)
        body = (head if not sent.read else b"").ljust(block, b"x")[:block]
        sent.read += block
        return {"type": "http.request", "body": body, "more_body": sent.read < size}

    async def answer(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            sent.status = message["status"]
            sent.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            sent.body += message.get("body", b"")

    given = {"host": "testserver", "content-length": str(size), "content-type": "multipart/form-data; boundary=b"}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("192.0.2.7", 1),
        "server": ("testserver", 80), "headers": [(k.encode(), v.encode()) for k, v in {**given, **headers}.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, answer))
    return sent


def cookies_of(browser: Browser) -> dict[str, str]:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"cookie": cookie, "x-csrf-token": browser.headers["X-CSRF-Token"]}


def events(game: Game) -> list[str]:
    with game.database.read() as session:
        return list(session.scalars(select(Security.event).order_by(Security.id)))


def test_a_stranger_s_upload_is_not_read(enter: Enter, sqlite_game: Game, caplog: pytest.LogCaptureFixture) -> None:
    before = sorted(path.name for path in sqlite_game.settings.data.iterdir())
    sent = send(enter.app, UPLOAD, LARGE, {})  # type: ignore[attr-defined]
    assert (sent.status, sent.code) == (401, "login_required")
    assert sent.read <= 2 * middleware._REMAINDER, "a little is read away, so that the answer is seen"
    assert sent.headers["connection"] == "close"
    assert sorted(path.name for path in sqlite_game.settings.data.iterdir()) == before
    assert events(sqlite_game).count("login_required") == 1
    assert [line for line in caplog.messages if UPLOAD in line and "192.0.2.7" in line]


@pytest.mark.parametrize(
    ("roles", "headers", "code"),
    [(("annotator", "validator"), {}, "forbidden"), (("administrator",), {"x-csrf-token": "other"}, "csrf")],
)
def test_an_upload_without_role_or_token_is_not_read(enter: Enter, roles: Any, headers: Any, code: str) -> None:
    browser = enter("somebody", *roles)
    sent = send(enter.app, UPLOAD, LARGE, {**cookies_of(browser), **headers})  # type: ignore[attr-defined]
    assert (sent.status, sent.code) == (403, code)
    assert sent.read <= 2 * middleware._REMAINDER


def test_every_body_of_the_api_waits_for_a_login(enter: Enter) -> None:
    paths = enter.app.openapi()["paths"]  # type: ignore[attr-defined]
    writing = [path for path, methods in paths.items() if "post" in methods]
    assert UPLOAD in writing
    for path in writing:
        filled = "/".join("1" if part.startswith("{") else part for part in path.split("/"))
        sent = send(enter.app, filled, 200_000, {})  # type: ignore[attr-defined]
        assert (sent.status, sent.code) == (401, "login_required"), path


def test_a_body_that_stands_still_is_given_up(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", body_seconds=1)
    add_people(game, "admin")
    app = create_app(game.settings, game)
    headers = cookies_of(log_in(app, "admin"))

    async def never() -> None:
        await asyncio.Event().wait()

    for path in (UPLOAD, "/api/v1/me/tokens", "/login"):
        sent = send(app, path, 1000, headers, never)
        assert (sent.status, sent.code) == (408, "too_slow"), path
        assert sent.headers["connection"] == "close"
    assert events(game).count("too_slow") == 3
    game.database.close()


# The form's reader leaves what it has kept of a broken upload to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_upload_that_trickles_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    game = make_game(tmp_path / "game", upload_pace=BLOCK)
    add_people(game, "admin")
    app = create_app(game.settings, game)
    headers = cookies_of(log_in(app, "admin"))
    now = [0.0]
    monkeypatch.setattr(middleware, "time", type("Time", (), {
        "monotonic": staticmethod(lambda: now[0]), "perf_counter": staticmethod(lambda: now[0]),
    }))  # fmt: skip

    def pace(seconds: float) -> Callable[[], Any]:
        async def step() -> None:
            now[0] += seconds

        return step

    slow = send(app, UPLOAD, 100 * BLOCK, headers, pace(2.0), HEAD)
    assert (slow.status, slow.code) == (408, "too_slow")
    assert 10 * BLOCK < slow.read < 40 * BLOCK, "after the seconds that every body has, and not at its end"
    steady = send(app, UPLOAD, 100 * BLOCK, headers, pace(0.9), HEAD)
    assert steady.read == 100 * BLOCK
    assert steady.status in (400, 422), "it was taken in whole, and is no form"
    gc.collect()
    game.database.close()


def test_an_upload_leaves_room_for_the_game(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", disk_reserve=1 << 60)
    add_people(game, "admin")
    app = create_app(game.settings, game)
    admin = log_in(app, "admin")
    sent = send(app, UPLOAD, LARGE, cookies_of(admin))
    assert (sent.status, sent.code) == (503, "disk_full")
    assert int(sent.headers["retry-after"]) > 0
    assert sent.read <= 2 * middleware._REMAINDER
    assert "disk_full" in events(game)
    assert admin.get("/api/v1/admin/export").status_code == 503
    assert admin.write("the players go on").status_code == 201
    with pytest.raises(GameError, match="disk is full"):
        import_pictures(game, [found(9, ("dog",))], ImportResult(), "more")
    game.database.close()


def test_unpacking_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    game = make_game(tmp_path / "game")
    left = iter([1 << 40] * 3 + [0] * 100)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: next(left))
    (tmp_path / "pictures.zip").write_bytes(archive_of(*((f"{number}.png", b"\0" * 10) for number in range(50))))
    with pytest.raises(GameError, match="disk is full") as error, (tmp_path / "pictures.zip").open("rb") as packed:
        uploads.unpack_pictures(packed, tmp_path / "out", game.settings)
    assert error.value.status == 503
    assert len(list((tmp_path / "out").iterdir())) <= 5
    game.database.close()


def test_so_many_uploads_at_once(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", uploads_at_once=1)
    add_people(game, "admin")
    app = create_app(game.settings, game)
    admin = log_in(app, "admin")
    inner: list[Sent] = []

    async def second() -> AsyncIterator[None]:  # another one while the first is under way
        if not inner:
            inner.append(Sent())
            inner[0] = await asyncio.to_thread(send, app, UPLOAD, LARGE, cookies_of(admin))

    first = send(app, UPLOAD, 1000, cookies_of(admin), second)
    assert (inner[0].status, inner[0].code) == (503, "busy")
    assert first.status in (400, 422)
    assert upload(admin, coco(), archive_of(("a.png", picture_bytes()))).status_code == 200, "its turn came back"
    with game.database.read() as session:
        assert session.scalar(select(Picture.id).where(Picture.number == 77)) is not None
    game.database.close()
