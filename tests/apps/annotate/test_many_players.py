"""24 players at once on a real server with two workers: nothing held twice, nothing lost, no secret told."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loadtest.players import Client, Exchange, Player
from tests.loadtest.served import Served
from tests.support.replay import contradictions
from tests.support.witnesses import Journal, broken_promises, crowded_game, double_held, leaked, own_postgres

PLAYERS = 24
SECONDS = float(os.environ.get("REFSEG_TEST_SECONDS", "6"))


ENOUGH = 200
"""Requests below which play goes on for up to half a minute more: a busy machine proves nothing by being slow."""


def play(url: str, name: str, token: str, journal: Journal, end: float, faults: list[str]) -> None:
    """One player without pauses: everything that people do, and some things that they should not."""
    rng = random.Random(name)
    client = Client(url, name, journal.hear, token=token, patience=5.0)
    player = Player(client, rng)

    def either() -> str:
        return rng.choice(["write", "validate"])

    turns = [
        player.write, player.validate, player.write_two, lambda: player.put_back(either(), True),
        lambda: player.put_back("write", False), lambda: player.leave(either()), player.repeat,
        lambda: player.peek(rng.randrange(1, 200)), player.look,
    ]  # fmt: skip
    try:
        while (now := time.monotonic()) < end or (now < end + 30 and len(journal.exchanges) < ENOUGH):
            rng.choices(turns, (30, 45, 5, 2, 5, 5, 8, 3, 2))[0]()
    except Exception as error:
        faults.append(f"{name}: {error!r}")
    finally:
        client.close()


def check_many(folder: Path, url: str, seconds: float) -> None:
    # Fewer pictures than players, and leases that run out within the test.
    game, tokens = crowded_game(folder / "game", url, PLAYERS, pictures=16, lease_seconds=2)
    journal, faults = Journal(), []
    server = Served(game.settings, folder / "server.log", workers=2)
    try:
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=play, args=(server.url, name, token, journal, end, faults))
            for name, token in tokens.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.stop()
    statuses = Counter(exchange.status for exchange in journal.exchanges)
    results = Counter(exchange.body["result"] for exchange in journal.of("POST verdict"))
    written = len(journal.of("POST samples"))
    print(f"{sum(statuses.values())} requests {dict(statuses)}, {written} written, {dict(results)}")
    said = (folder / "server.log").read_text(errors="replace")
    assert not faults
    assert "Traceback" not in said, said[-4000:]
    assert not {status for status in statuses if status >= 500 and status != 503} | ({0} & statuses.keys())
    assert statuses[503] <= sum(statuses.values()) / 50
    assert written >= 5
    assert results
    assert double_held(journal.exchanges) == []
    assert leaked(journal.exchanges) == []
    assert broken_promises(game, journal.exchanges) == []
    with game.database.read() as session:
        assert contradictions(session) == []
    game.database.close()


def test_24_players_on_sqlite(tmp_path: Path) -> None:
    check_many(tmp_path, "", SECONDS)


@pytest.mark.postgres
@pytest.mark.skipif("REFSEG_TEST_POSTGRES" not in os.environ, reason="REFSEG_TEST_POSTGRES names no PostgreSQL server")
def test_24_players_on_postgres(tmp_path: Path) -> None:
    with own_postgres() as url:
        check_many(tmp_path, url, SECONDS)


@pytest.mark.slow
def test_24_players_for_a_minute_on_sqlite(tmp_path: Path) -> None:
    check_many(tmp_path, "", 60)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.skipif("REFSEG_TEST_POSTGRES" not in os.environ, reason="REFSEG_TEST_POSTGRES names no PostgreSQL server")
def test_24_players_for_a_minute_on_postgres(tmp_path: Path) -> None:
    with own_postgres() as url:
        check_many(tmp_path, url, 60)


# The checks themselves: each finds what it is there for.


def exchange(who: str, route: str, at: float, body: object, sent: object = None, path: str = "/") -> Exchange:
    return Exchange(who, route, "POST", path, sent, float(at), at + 0.1, 0.1, 200, body, str(body))


def lease(at: float, number: str) -> dict[str, object]:
    expires = f"1970-01-01T00:00:{at + 10:06.3f}Z"
    return {"id": number, "kind": "write", "item_id": 7, "seconds": 10, "expires_at": expires}


def test_a_double_hold_is_seen() -> None:
    first = exchange("anna", "POST write/next", 1, {"task": {"lease": lease(1, "a")}})
    second = exchange("viktor", "POST write/next", 5, {"task": {"lease": lease(5, "b")}})
    sent = {"lease_id": "a", "client_key": "k", "keep": False}
    submitted = exchange("anna", "POST samples", 4, {"lease": None}, sent)
    assert len(double_held([first, second])) == 1
    assert double_held([first, submitted, second]) == []
    assert len(double_held([first, replace(submitted, status=422), second])) == 1
    assert double_held([first, replace(second, started=11.5, ended=11.6)]) == []
    renewed = exchange("anna", "POST renew", 9, lease(9, "a"))
    assert len(double_held([first, renewed, replace(second, started=11.5, ended=11.6)])) == 1


@pytest.mark.parametrize(
    "extra", [{"targets": [3]}, {"author": "anna"}, {"sample": {"id": 1, "text": "dog", "no_target": True}}]
)
def test_a_leak_is_seen(extra: dict[str, object]) -> None:
    task = {"lease": {}, "sample": {"id": 1, "text": "dog"}, "picture": {}, "objects": [], "turn": 0, "draft": None}
    assert leaked([exchange("viktor", "POST validate/next", 1, {"task": task})]) == []
    assert leaked([exchange("viktor", "POST validate/next", 1, {"task": {**task, **extra}})])


def test_anothers_draft_is_seen() -> None:
    found = exchange("player 2", "GET draft", 1, {"content": {"note": "private to player 1", "targets": []}})
    assert leaked([found])
