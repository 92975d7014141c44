"""Passwords: guessing is slowed down by name and address, nobody locks an owner out, a new one ends what was open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from refseg.apps.annotate.app import create_app
from refseg.apps.annotate.auth import attempts, people
from refseg.apps.annotate.auth.audit import MOST_EVENTS, note_security
from refseg.apps.annotate.database.tables import Attempt, Rate, Security
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.limits import Window, hit, network_of
from refseg.apps.annotate.settings import Settings
from refseg.cli.annotate_serve import check_proxies
from refseg.errors import RefsegError
from tests.support.small_games import PASSWORD, add_people, log_in, make_game, open_game, token_in


class Doors:
    """The login of a game, from any address."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.game = make_game(folder, login_attempts=3, **settings)
        add_people(self.game, "anna", "viktor", "vera", "otto")
        self.app = create_app(self.game.settings, self.game)

    def browser(self, address: str) -> TestClient:
        return TestClient(self.app, client=(address, 1000))

    def attempt(self, browser: TestClient, name: str, password: str) -> int:
        form = {"name": name, "password": password, "csrf_token": token_in(browser.get("/login").text)}
        answer = browser.post("/login", data=form, follow_redirects=False)
        self.waited = int(answer.headers.get("retry-after", 0))
        if answer.status_code == 303:
            browser.cookies.delete("refseg_game")
        return answer.status_code


@pytest.fixture
def doors(tmp_path: Path) -> Any:
    made = Doors(tmp_path / "game")
    yield made
    made.game.database.close()


def tick(game: Game, seconds: float) -> None:
    game.clock.now += seconds  # type: ignore[attr-defined]


def test_waits_grow(doors: Doors) -> None:
    stranger = doors.browser("192.0.2.1")
    assert [doors.attempt(stranger, "anna", "wrong") for _ in range(4)] == [401, 401, 401, 429]
    waits = [doors.waited]
    for _ in range(9):
        tick(doors.game, waits[-1])
        assert doors.attempt(stranger, "anna", "wrong") == 401
        assert doors.attempt(stranger, "anna", PASSWORD) == 429, "the right one does not tell either"
        waits.append(doors.waited)
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    tick(doors.game, 86_401)
    assert [doors.attempt(stranger, "anna", "wrong") for _ in range(3)] == [401] * 3, "forgotten after a day"


def test_a_stranger_does_not_lock_the_owner_out(doors: Doors) -> None:
    at_home = doors.browser("192.0.2.9")
    assert doors.attempt(at_home, "anna", PASSWORD) == 303
    for number in range(10):
        stranger = doors.browser(f"198.51.100.{number}")
        for _ in range(4):
            doors.attempt(stranger, "anna", "wrong")
    assert doors.attempt(doors.browser("203.0.113.5"), "anna", PASSWORD) == 303, "from an address of her own"
    neighbour = doors.browser("192.0.2.9")
    assert [doors.attempt(neighbour, "anna", "wrong") for _ in range(4)][-1] == 429
    for name in ("viktor", "vera", "otto", *(f"nobody{number}" for number in range(9))):
        for _ in range(3):
            doors.attempt(neighbour, name, "wrong")
    assert doors.attempt(doors.browser("192.0.2.9"), "viktor", PASSWORD) == 429, "the address as a whole"
    assert doors.attempt(at_home, "anna", PASSWORD) == 303, "her own browser is known, even beside the stranger"
    forged = doors.browser("192.0.2.9")
    for name, value in at_home.cookies.items():
        if name.startswith("refseg_device"):
            forged.cookies.set(name, value[:-2] + "xx")
    assert doors.attempt(forged, "anna", PASSWORD) == 429


def test_many_at_once_are_no_way_around(doors: Doors) -> None:
    """Every attempt counts before its password is looked at."""
    game = doors.game
    keys = attempts.keys_of("anna", "192.0.2.1", None)
    waits = [game.database.write(lambda session: attempts.attempt(session, game, keys)) for _ in range(6)]
    assert waits == [0, 0, 0, 30, 30, 30]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "another", True),
    ],
)
def test_what_one_address_is(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) == same


def test_a_64_is_one_address(doors: Doors) -> None:
    codes = [doors.attempt(doors.browser(f"2001:db8::{number:x}"), "anna", "wrong") for number in range(1, 6)]
    assert codes == [401, 401, 401, 429, 429]


def test_the_tables_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    game = open_game(Settings(tmp_path / "game"))
    monkeypatch.setattr(attempts, "MOST_ROWS", 40)

    def many(session: Any) -> None:
        for number in range(200):
            game.clock.now += 1  # type: ignore[attr-defined]
            attempts.attempt(session, game, attempts.keys_of(f"name {number}", f"10.0.{number}.1", None))
            hit(session, game.clock(), f"key {number}", 60)

    game.database.write(many)
    with game.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) <= 42
        newest = attempts.keys_of("name 199", "10.0.199.1", None)
        assert all(session.get(Attempt, key) is not None for key in newest)
    tick(game, 90_000)
    game.database.write(lambda session: hit(session, game.clock(), "later", 60))
    game.database.write(lambda session: attempts.attempt(session, game, {"later": 1}))
    with game.database.read() as session:
        assert session.scalars(select(Rate.key)).all() == ["later"]
        assert session.scalars(select(Attempt.key)).all() == ["later"]
    game.database.close()


def test_a_window_keeps_so_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refseg.apps.annotate.limits._KEYS", 3)
    window = Window(2)
    counts = [window.count(0.0, key) for key in ("a", "b", "c", "d", "e", "a", "f")]
    assert counts == [1, 1, 1, 1, 2, 2, 3], "those beyond share one"


def test_the_log_of_refusals_is_bounded(tmp_path: Path) -> None:
    game = open_game(Settings(tmp_path / "game"))
    row = {"at": 0.0, "event": "old", "address": "", "path": "", "details": {}}

    def fill(session: Any) -> None:
        session.add_all([Security(id=1, **row), Security(id=MOST_EVENTS + 499, **row)])

    game.database.write(fill)
    note_security(game, "new")
    with game.database.read() as session:
        assert list(session.scalars(select(Security.event).order_by(Security.id))) == ["old", "new"]
        assert session.get(Security, 1) is None
    game.database.close()


def test_a_stranger_who_floods_costs_no_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait for the disk, and the players for it."""
    game = open_game(Settings(tmp_path / "game"))
    written = []
    write = game.database.write
    monkeypatch.setattr(game.database, "write", lambda work: (written.append(1), write(work))[1])
    for _ in range(250):
        note_security(game, "login_required", address="10.0.0.1")
    for number in range(250):
        note_security(game, "login_required", address=f"2001:db8::{number:x}")
    assert len(written) == 200, "a hundred for either, of which the second has its whole network"
    with game.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Security)) == 200
    game.clock.now += 61  # type: ignore[attr-defined]
    note_security(game, "login_required", address="10.0.0.1")
    assert len(written) == 201
    game.database.close()


@pytest.mark.parametrize("trusted", ["*", "0.0.0.0/0", "::/0", "proxy.example", "127.0.0.1,*", ""])
def test_a_proxy_is_named_by_its_address(trusted: str) -> None:
    with pytest.raises(RefsegError, match="forwarded-allow-ips"):
        check_proxies(trusted)


def test_proxies_that_may_be_trusted() -> None:
    for trusted in (None, "127.0.0.1", "127.0.0.1, 10.0.0.0/24", "::1", "2001:db8::/32"):
        check_proxies(trusted)


def test_a_chain_of_proxies_is_read_from_its_end() -> None:
    """What a stranger writes into the header himself stands before what the first trusted proxy adds."""
    import asyncio

    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    trusting = ProxyHeadersMiddleware(app, "10.0.0.1,10.0.0.2")
    for client, header in (
        ("10.0.0.1", b"6.6.6.6, 203.0.113.7, 10.0.0.2"), ("203.0.113.7", b"6.6.6.6"), ("10.0.0.1", b"203.0.113.7"),
    ):  # fmt: skip
        scope = {"type": "http", "client": (client, 1), "headers": [(b"x-forwarded-for", header)], "scheme": "http"}
        asyncio.run(trusting(scope, None, None))
    assert seen == ["203.0.113.7"] * 3


def test_a_new_password_ends_tokens_and_logins(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game")
    numbers = add_people(game, "anna", "admin")
    app = create_app(game.settings, game)
    for change in ("own", "administrator", "command line"):
        anna, other, admin = log_in(app, "anna"), log_in(app, "anna"), log_in(app, "admin")
        made = anna.post("/api/v1/me/tokens", json={"label": "script", "password": PASSWORD}).json()
        script = TestClient(app, headers={"Authorization": f"Bearer {made['token']}"})
        assert script.get("/api/v1/me").status_code == 200
        if change == "own":
            answer = anna.put("/api/v1/me/password", json={"old": PASSWORD, "new": PASSWORD})
        elif change == "administrator":
            answer = admin.patch(f"/api/v1/admin/people/{numbers['anna']}", json={"password": PASSWORD})
        else:
            answer = admin.get("/api/v1/me")
            game.database.write(
                lambda session: people.change_person(session, game, numbers["anna"], password=PASSWORD).id
            )
        assert answer.status_code == 200
        assert script.get("/api/v1/me").status_code == 401, change
        assert other.get("/api/v1/me").status_code == 401, change
        assert anna.get("/api/v1/me").status_code == (200 if change == "own" else 401)
    game.database.close()


def test_a_token_wants_the_password(tmp_path: Path) -> None:
    game = make_game(tmp_path / "game", login_attempts=3)
    add_people(game, "anna")
    app = create_app(game.settings, game)
    anna = log_in(app, "anna")
    assert anna.post("/api/v1/me/tokens", json={"label": "script"}).status_code == 422
    wrong = anna.post("/api/v1/me/tokens", json={"label": "script", "password": "not this"})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "password")
    made = anna.post("/api/v1/me/tokens", json={"label": "script", "password": PASSWORD})
    assert made.status_code == 201
    script = TestClient(app, headers={"Authorization": f"Bearer {made.json()['token']}"})
    assert script.post("/api/v1/me/tokens", json={"label": "another", "password": "guess"}).status_code == 422
    assert script.post("/api/v1/me/tokens", json={"label": "another", "password": "guess"}).status_code == 429
    game.database.close()
