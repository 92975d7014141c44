"""The server killed by SIGKILL while players submit, again and again: what was acknowledged is there once."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from refseg.apps.annotate.settings import Settings
from tests.loadtest.players import Client, Player
from tests.support.replay import contradictions
from tests.support.witnesses import Journal, broken_promises, crowded_game, lost_drafts, own_postgres

PLAYERS = 8
FORKED = multiprocessing.get_context("forkserver")


def serve(settings: str, port: int) -> None:
    """The server, in a process forked from one that has the modules loaded."""
    import uvicorn

    from refseg.apps.annotate.app import create_app

    uvicorn.run(create_app(Settings.from_json(settings)), port=port, log_level="error")


class Killable:
    """A server on one port, that is killed and comes back."""

    def __init__(self, settings: Settings) -> None:
        settings.secret()
        self.settings = settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        FORKED.set_forkserver_preload(["uvicorn", "refseg.apps.annotate.app", "refseg.apps.annotate.database.migrate"])
        self.start()

    def start(self) -> None:
        self.process = FORKED.Process(target=serve, args=(self.settings.to_json(), self.port), daemon=True)
        self.process.start()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.is_alive(), "the server did not come back"
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"{self.url} does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)


def play(url: str, name: str, token: str, journal: Journal, over: threading.Event, faults: list[str]) -> None:
    """One player without pauses, who sends each request until it is answered."""
    rng = random.Random(name)
    client = Client(url, name, journal.hear, token=token, patience=120.0)
    player = Player(client, rng)
    turns = [
        player.write, player.validate, player.write_two, lambda: player.leave("write"),
        lambda: player.leave("validate"), lambda: player.put_back("write", False), player.repeat,
    ]  # fmt: skip
    try:
        while not over.is_set():
            rng.choices(turns, (40, 40, 5, 4, 4, 4, 3))[0]()
    except Exception as error:
        faults.append(f"{name}: {error!r}")
    finally:
        client.close()


def check_kills(folder: Path, url: str, kills: int) -> None:
    game, tokens = crowded_game(folder / "game", url, PLAYERS, pictures=10, lease_seconds=2)
    journal, faults, over = Journal(), [], threading.Event()
    rng = random.Random(kills)
    server = Killable(game.settings)
    threads = [
        threading.Thread(target=play, args=(server.url, name, token, journal, over, faults), daemon=True)
        for name, token in tokens.items()
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in range(kills):
            before, end = submitted(journal), time.monotonic() + 30
            while submitted(journal) < before + 3 and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            server.kill()
            server.start()
        over.set()
        for thread in threads:
            thread.join(130)
    finally:
        over.set()
        server.kill()
    cut = [e for e in journal.exchanges if e.status == 0 and "Connect" not in e.text]
    again = [e for route in ("POST samples", "POST verdict") for e in journal.of(route) if e.body["replayed"]]
    counts = {"kills": kills, "acknowledged": submitted(journal), "cut": len(cut), "replayed": len(again)}
    print({**counts, "drafts": len(journal.of("PUT draft"))})
    assert not faults
    assert len(cut) >= kills / 2, "the server was not killed in the middle of anything"
    assert submitted(journal) >= kills
    assert broken_promises(game, journal.exchanges) == []
    assert lost_drafts(game, journal.exchanges) == []
    with game.database.read() as session:
        assert contradictions(session) == []
    game.database.close()


def submitted(journal: Journal) -> int:
    """Acknowledged sentences and verdicts."""
    with journal.lock:
        return len(journal.of("POST samples")) + len(journal.of("POST verdict"))


KILLS = pytest.mark.parametrize("kills", [4, pytest.param(50, marks=(pytest.mark.slow, pytest.mark.timeout(1800)))])


@KILLS
def test_killed_on_sqlite(tmp_path: Path, kills: int) -> None:
    check_kills(tmp_path, "", kills)


@pytest.mark.postgres
@pytest.mark.skipif("REFSEG_TEST_POSTGRES" not in os.environ, reason="REFSEG_TEST_POSTGRES names no PostgreSQL server")
@KILLS
def test_killed_on_postgres(tmp_path: Path, kills: int) -> None:
    with own_postgres() as url:
        check_kills(tmp_path, url, kills)
