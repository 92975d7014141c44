"""The database: one engine, reading sessions, and writing transactions that are repeated when others were faster.

SQLite runs with a write-ahead log, waits for its lock, takes it at the start of a writing transaction (BEGIN IMMEDIATE)
and is flushed to disk at each commit; its file is readable by its owner alone.

PostgreSQL runs as it comes: READ COMMITTED, rows locked where the services say.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from refseg.apps.annotate.errors import GameError
from refseg.errors import ConfigError

T = TypeVar("T")

# What PostgreSQL says when a transaction lost against another and may be repeated: serialisation, deadlock, lock.
_REPEATABLE = ("40001", "40P01", "55P03")
_TRIES = 4


class Database:
    """The engine of one database address.

    Args:
        url: SQLAlchemy's address, SQLite or PostgreSQL (psycopg).
        busy_seconds: how long to wait for a lock or a free connection.

    Raises: ConfigError for an address of another kind.
    """

    def __init__(self, url: str, busy_seconds: float = 10.0) -> None:
        try:
            kind = make_url(url).get_backend_name()
        except ArgumentError as error:
            raise ConfigError(
                f"--database {url!r}: not an address such as sqlite:///game.db or postgresql://..."
            ) from error
        if kind not in ("sqlite", "postgresql"):
            raise ConfigError(f"--database: {kind} is not supported; use sqlite or postgresql")
        self.url = url
        self.is_sqlite = kind == "sqlite"
        self.busy_seconds = busy_seconds
        arguments: dict[str, Any] = {"connect_timeout": max(2, round(busy_seconds))}
        if self.is_sqlite:
            arguments = {"timeout": busy_seconds, "check_same_thread": False}
        memory = self.is_sqlite and make_url(url).database in (None, "", ":memory:")
        if memory:
            raise ConfigError("--database: a database in memory is lost with its process; name a file")
        if self.is_sqlite:
            _keep_private(Path(make_url(url).database or ""))
        self.engine: Engine = create_engine(
            url,
            connect_args=arguments,
            pool_size=10,
            max_overflow=30,
            pool_timeout=busy_seconds,
            pool_pre_ping=not self.is_sqlite,
        )
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writing = self.engine.execution_options(writes=True)
        self._turn = threading.Lock() if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that reads one state of the database; nothing is kept of what it changes."""
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                yield session
        except (DBAPIError, PoolTimeout) as error:
            if _is_full(error):
                raise disk_full() from error
            if _may_repeat(error):
                raise _busy() from error
            raise

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction and return its result; repeated as a whole when another transaction was faster.

        `work` must have no effect outside the session. Raises `GameError`: "busy" when the database stays locked or
        away, "disk_full" when there is no room for it.
        """
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                with self._in_turn(), Session(self._writing, expire_on_commit=False) as session:
                    result = work(session)
                    session.commit()
                    return result
            except IntegrityError:
                # Two of the same key at once: the second time, the first one's row is there to be found.
                if last:
                    raise
            except (DBAPIError, PoolTimeout) as error:
                if _is_full(error):
                    raise disk_full() from error
                if not _may_repeat(error):
                    raise
                if last:
                    raise _busy() from error
            time.sleep(random.uniform(0.005, 0.03) * (attempt + 1))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """SQLite's writers of this process one after the other.

        They would be alone anyway; but SQLite lets those who wait look again after longer and longer pauses, and some
        of many are overtaken for seconds. Between processes that is how it stays.
        """
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=self.busy_seconds):
            raise _busy()
        try:
            yield
        finally:
            self._turn.release()


def disk_full() -> GameError:
    """The refusal where there is no room: nothing was kept."""
    return GameError("disk_full", "the server's disk is full: nothing was kept; tell the administrator", seconds=60)


def _is_full(error: Exception) -> bool:
    # SQLite says "database or disk is full", PostgreSQL has a class of errors for it (53100).
    return isinstance(error, DBAPIError) and (
        "disk is full" in str(error.orig).lower() or getattr(error.orig, "sqlstate", None) == "53100"
    )


def _keep_private(path: Path) -> None:
    """Make SQLite's file readable by its owner alone; the files beside it take over its mode."""
    with suppress(FileExistsError, FileNotFoundError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with suppress(OSError):  # another's file, or a file system without modes
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(name).chmod(0o600)


def _busy() -> GameError:
    return GameError("busy", "the database is busy or away; send the same request again in a moment", seconds=2)


def _may_repeat(error: Exception) -> bool:
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _REPEATABLE:
        return True
    text = str(error.orig).lower()
    return isinstance(error, OperationalError) and any(
        word in text for word in ("locked", "busy", "connect", "closed", "terminat", "shutting down", "starting up")
    )


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, not where Python guesses
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-32000", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
