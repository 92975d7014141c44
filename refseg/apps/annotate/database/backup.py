"""Copies of the database: SQLite's own online copy, and a portable dump that either database reads.

The dump is JSON lines, compressed: a head with the version, then each table's rows in an order in which they can be put
back. It holds password hashes; it is written for its owner's eyes only (mode 0600). Pictures are files and are copied
as files: the data folder's `pictures/` never changes but for new ones.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DatabaseError

from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import migrate, newest, version
from refseg.apps.annotate.database.tables import ORDER, Base, GameSample, Picture
from refseg.errors import DataError
from refseg.files import replacing

FORMAT = "refseg-annotate-dump"
_AT_ONCE = 500
_PASSED_OVER = ("rates",)
_LARGEST_LINE = 64 << 20


def backup(database: Database, target: Path) -> str:
    """Copy the database into a file while the game runs; returns the kind that was written.

    `.db` or `.sqlite` is SQLite's online copy (of a SQLite database only); anything else is the portable dump.
    """
    if target.suffix in (".db", ".sqlite", ".sqlite3"):
        if not database.is_sqlite:
            raise DataError(f"{target}: the database is PostgreSQL; name a .jsonl.gz file for the portable dump")
        with replacing(target) as temporary:
            source = make_url(database.url).database or ""
            with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(temporary)) as there:
                here.backup(there, pages=1000, sleep=0.01)
                there.execute("PRAGMA journal_mode=DELETE")
        target.chmod(0o600)
        return "sqlite"
    with replacing(target) as temporary, _compressed(temporary, "wt") as handle:
        for line in dump(database):
            handle.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    target.chmod(0o600)
    return "dump"


def dump(database: Database) -> Iterator[dict[str, Any]]:
    """The lines of a dump, all of one state of the database."""
    revision = version(database)
    if revision != newest():
        raise DataError(
            f"the database is at version {revision}, this refseg works with {newest()}; run refseg annotate migrate"
        )
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield {"format": FORMAT, "version": revision}
        for table in _tables():
            columns = [column.name for column in table.columns]
            rows = connection.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*table.primary_key))
            for row in rows:
                yield {"table": table.name, "row": dict(zip(columns, row, strict=True))}


def restore(database: Database, source: Path, *, replace: bool = False) -> dict[str, int]:
    """Put a backup into a database, in one transaction; returns the number of rows of each table.

    Raises `DataError`: a database that holds something (unless `replace`), a damaged file, another version.
    """
    if not source.is_file():
        raise DataError(f"{source}: no such file")
    copy: Database | None = None
    try:
        with source.open("rb") as handle:
            if handle.read(16) == b"SQLite format 3\0":
                copy = Database(f"sqlite:///{source.absolute()}")
                if version(copy) != newest():
                    raise DataError(f"{source}: a database of version {newest()} is wanted, not {version(copy)}")
        migrate(database)
        with database.engine.execution_options(writes=True).begin() as connection:
            _make_room(connection, replace)
            counts = _load(connection, source, _lines(source) if copy is None else dump(copy))
            if not database.is_sqlite:
                continue_numbers(connection)
        return counts
    except (OSError, EOFError, ValueError, sqlite3.DatabaseError, DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise DataError(f"{source}: damaged or cut short ({reason}); nothing was restored") from error
    finally:
        if copy is not None:
            copy.close()


def _load(connection: Connection, source: Path, lines: Iterator[dict[str, Any]]) -> dict[str, int]:
    tables = {table.name: table for table in _tables()}
    counts: dict[str, int] = dict.fromkeys(tables, 0)
    waiting: list[dict[str, Any]] = []
    current = ""

    def flush() -> None:
        if waiting:
            connection.execute(insert(tables[current]), waiting)
            counts[current] += len(waiting)
            waiting.clear()

    for number, line in enumerate(lines, 1):
        if number == 1:
            if line.get("format") != FORMAT or line.get("version") != newest():
                raise DataError(
                    f"{source}: a dump of version {newest()} is wanted, not {line.get('format')} {line.get('version')}"
                )
            continue
        name, row = line.get("table"), line.get("row")
        if not isinstance(name, str) or name not in tables or not isinstance(row, dict):
            raise DataError(f"{source} line {number}: not a row of a known table")
        if set(row) != {column.name for column in tables[name].columns}:
            raise DataError(f"{source} line {number}: not the columns of table {name}")
        if name != current or len(waiting) >= _AT_ONCE:
            flush()
            current = name
        waiting.append(row)
    flush()
    return counts


def _lines(source: Path) -> Iterator[dict[str, Any]]:
    with _compressed(source, "rt") as handle:
        empty = True
        while text_line := handle.readline(_LARGEST_LINE):
            empty = False
            line = json.loads(text_line)
            if not isinstance(line, dict):
                raise DataError(f"{source}: not a dump of the game")
            yield line
    if empty:
        raise DataError(f"{source}: the file is empty")


def _make_room(connection: Connection, replace: bool) -> None:
    held = sum(
        connection.scalar(select(func.count()).select_from(table.__table__)) or 0 for table in (Picture, GameSample)
    )
    people = connection.scalar(text("SELECT count(*) FROM people")) or 0
    if (held or people) and not replace:
        raise DataError("the database holds a game already; restore into an empty one, or replace it with --replace")
    for table in reversed([*Base.metadata.sorted_tables]):
        connection.execute(table.delete())


def continue_numbers(connection: Connection) -> None:
    """Let PostgreSQL number new rows after the largest number that is there."""
    for table in _tables():
        if "id" in table.columns:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f"COALESCE((SELECT max(id) FROM {table.name}), 0) + 1, false)"
                )
            )


def _tables() -> list[Any]:
    return [table.__table__ for table in ORDER if table.__tablename__ not in _PASSED_OVER]


def _compressed(path: Path, mode: str) -> io.TextIOWrapper:
    if mode == "wt":
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.close(descriptor)
        return gzip.open(path, mode, encoding="utf-8", compresslevel=6)  # type: ignore[return-value]
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(encoding="utf-8")
