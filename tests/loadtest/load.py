"""A measurement of the whole: a filled database, a server of its own, players at human pace.

Times are those that a player waits, from the request to the last byte. Players think in between: the pauses are drawn
from a log-normal distribution, which fits how long people take over small tasks, few very short and some long.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refseg.apps.annotate.game import Game
from refseg.apps.annotate.settings import Settings
from refseg.errors import ConfigError
from tests.loadtest.filling import PASSWORD, SAMPLES_A_PICTURE, Amount, fill
from tests.loadtest.players import Client, Exchange, Player
from tests.loadtest.served import Served, Usage
from tests.support.replay import contradictions

EXPECTED = ("duplicate", "near_duplicate", "lease_lost")
"""Refusals that play brings with it; any other is counted as an error."""


@dataclass(frozen=True)
class LoadSettings:
    """See `python -m tests.loadtest --help`; times in seconds."""

    players: int = 50
    samples: int = 100_000
    seconds: float = 60.0
    think: float = 4.0
    """Mean pause where a person thinks, types or looks; a sentence has four of them."""
    spread: float = 0.6
    """Standard deviation of the logarithm of a pause; 0 makes all pauses equal."""
    settle: float = 10.0
    """Seconds of play before the counting begins: everybody arrives at once, and every cache is empty."""
    workers: int = 1
    database: str = ""
    administrators: int = 2
    """So many of the players look at pages most of the time, the administrator's among them."""

    def __post_init__(self) -> None:
        for name, least in (("players", 1), ("samples", 0), ("workers", 1), ("think", 0), ("spread", 0), ("settle", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} is at least {least}, not {getattr(self, name)}")
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"--seconds is more than 0, not {self.seconds}")

    def pause(self, rng: random.Random) -> float:
        """A drawn pause, of mean `think`."""
        return self.think * math.exp(rng.gauss(-(self.spread**2) / 2, self.spread)) if self.think else 0.0


@dataclass
class Times:
    """What the players' watch functions heard, by route."""

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    first_errors: list[str] = field(default_factory=list)
    since: float = 0.0
    """Requests that began before this time (`time.time()`) are not counted, their errors are."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, exchange: Exchange) -> None:
        """Keep one exchange."""
        code = exchange.body["error"]["code"] if exchange.status >= 400 and isinstance(exchange.body, dict) else ""
        wrong = exchange.status == 0 or (exchange.status >= 400 and code not in EXPECTED)
        with self.lock:
            if exchange.started >= self.since or wrong:
                self.taken[exchange.route].append(exchange.seconds)
            if wrong:
                self.note(exchange.route, f"{exchange.method} {exchange.path}: {exchange.status} {exchange.text[:200]}")

    def note(self, route: str, message: str) -> None:
        """Count an error."""
        self.wrong[route] += 1
        if len(self.first_errors) < 5:
            self.first_errors.append(message)

    def rows(self) -> list[dict[str, Any]]:
        """A table by route, in milliseconds; "all" first."""
        everything = [taken for times in self.taken.values() for taken in times]
        named = [("all", everything, sum(self.wrong.values()))] if everything else []
        named += [(route, times, self.wrong[route]) for route, times in sorted(self.taken.items())]
        return [
            {
                "route": route, "requests": len(times), "errors": wrong, "slowest": max(times) * 1000,
                **{name: float(np.quantile(times, share)) * 1000 for name, share in _SHARES.items()},
            }
            for route, times, wrong in named
        ]  # fmt: skip


_SHARES = {"median": 0.5, "p95": 0.95, "p99": 0.99}


def measure(
    wanted: LoadSettings, folder: Path, on_progress: Callable[[str, float], None] = lambda what, share: None
) -> dict[str, Any]:
    """Fill, serve, play.

    Args:
        wanted: how much of everything.
        folder: an empty folder for pictures, and for the database if SQLite's.
        on_progress: called with what is going on and the share of it that is done, 0 to 1.

    Returns: a table of plain values; `interrupted` says whether Ctrl-C cut the play short. The server is ended in any
    case. Raises `DataError` for a database that is not empty.
    """
    settings = Settings(folder / "data", wanted.database, requests_per_minute=10**6, login_attempts=10**6)
    game = Game.open(settings)
    amount = Amount(wanted.samples, max(20, wanted.samples // SAMPLES_A_PICTURE), max(wanted.players, 3))
    began = time.perf_counter()
    fill(game, amount, lambda samples: on_progress("filling", samples / max(wanted.samples, 1)))
    filled = time.perf_counter() - began
    kind = _kind(game)
    game.database.close()
    on_progress("starting the server", 0)
    server = Served(settings, folder / "server.log", wanted.workers)
    times, coming = Times(), Times()
    try:
        clients = _log_in(wanted, server.url, coming, on_progress)
        _wait_until_idle(server)
        interrupted, took, before, after = _play_all(wanted, server, clients, times, on_progress)
    finally:
        server.stop()
    on_progress("checking the database against its log", 0)
    with game.database.read() as session:
        doubts = contradictions(session)
    game.database.close()
    rows = times.rows()
    requests = rows[0]["requests"] if rows else 0
    coming.taken.pop("GET /", None)
    used = None
    if before is not None and after is not None:
        processor = after.processor - before.processor
        each = 1000 * processor / requests if requests else None
        used = {"processor_seconds": processor, "milliseconds_each": each, "megabytes": after.memory / 1e6}
    return {
        "wanted": {**asdict(wanted), "database": kind}, "pictures": amount.pictures, "filled_in": filled,
        "seconds": took, "interrupted": interrupted, "routes": rows, "login": coming.rows(), "server": used,
        "contradictions": doubts, "first_errors": times.first_errors, "load_average": _load_average(),
        "cores": os.cpu_count(),
    }  # fmt: skip


def _log_in(wanted: LoadSettings, url: str, times: Times, on_progress: Callable[[str, float], None]) -> list[Client]:
    """Everybody's connection, logged in one after the other: hashing passwords is slow by design, and done once."""
    clients = []
    for number in range(1, wanted.players + 1):
        clients.append(Client(url, f"player {number}", times.hear))
        clients[-1].log_in(PASSWORD)
        on_progress("logging in", number / wanted.players)
    return clients


def _play_all(
    wanted: LoadSettings, server: Served, clients: list[Client], times: Times, on_progress: Callable[[str, float], None]
) -> tuple[bool, float, Usage | None, Usage | None]:
    """All players at once, until the time is over or Ctrl-C.

    Returns: whether it was Ctrl-C, the seconds that were counted, the server's usage at their begin and end.
    """
    over = threading.Event()
    threads = [
        threading.Thread(target=_play, args=(wanted, client, number, times, over), name=client.who, daemon=True)
        for number, client in enumerate(clients, 1)
    ]
    interrupted = False
    times.since = math.inf
    before, began = server.usage(), time.monotonic()

    def wait(what: str, seconds: float) -> None:
        begin = time.monotonic()
        while (gone := time.monotonic() - begin) < seconds and any(thread.is_alive() for thread in threads):
            on_progress(what, gone / seconds)
            over.wait(0.25)

    try:
        for thread in threads:
            thread.start()
        wait("settling", wanted.settle)
        before, began, times.since = server.usage(), time.monotonic(), time.time()
        wait("playing", wanted.seconds)
    except KeyboardInterrupt:
        interrupted = True
    took, after = time.monotonic() - began, server.usage()
    over.set()
    for thread in threads:
        thread.join(70)  # longer than a request may take
    return interrupted, took, before, after


class _OverError(Exception):
    """The time is over, in the middle of a pause."""


def _play(wanted: LoadSettings, client: Client, number: int, times: Times, over: threading.Event) -> None:
    rng = random.Random(number)

    def pause() -> None:
        if over.wait(wanted.pause(rng)):
            raise _OverError

    client.watch = times.hear
    player = Player(client, rng, pause, pages=True)
    administers = number <= wanted.administrators
    shares = (10, 10, 75, 1, 2, 2) if administers else (35, 45, 10, 5, 3, 2)
    turns: list[Callable[[], Any]] = [
        player.write, player.validate, lambda: player.look(administers), player.write_two,
        lambda: player.put_back("validate", skip=True), lambda: player.put_back("write", skip=True),
    ]  # fmt: skip
    try:
        if over.wait(rng.random() * min(2 * wanted.think, wanted.settle)):  # not all in the same moment
            return
        while not over.is_set():
            rng.choices(turns, shares)[0]()
            pause()
    except _OverError:
        pass
    except Exception as error:
        with times.lock:
            times.note("player", f"{client.who}: {error!r}")
    finally:
        client.close()


def _wait_until_idle(server: Served) -> None:
    """Return when all workers have started: when they use hardly anything for half a second."""
    before = server.usage()
    for _ in range(60):
        time.sleep(0.5)
        now = server.usage()
        if before is None or now is None or now.processor - before.processor < 0.03:
            return
        before = now


def _kind(game: Game) -> str:
    """The database's name and version, without its address."""
    with game.database.engine.connect() as connection:
        found = ".".join(map(str, connection.dialect.server_version_info or ()))
    return f"{'SQLite' if game.database.is_sqlite else 'PostgreSQL'} {found}"


def _load_average() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
