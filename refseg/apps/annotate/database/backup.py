"""Copies of the game: SQLite's own online copy, a portable dump that either database reads, and a dump with pictures.

The dump is JSON lines, compressed: a head with the version, then each table's rows in an order in which they can be put
back. With the pictures it is a .zip file: `game.jsonl.gz` and `pictures/`. Copies hold password hashes; they are for
their owner's eyes only (mode 0600). Every copy has the hash of each picture: `refseg annotate check` tells which are
missing.

A copy of an older version is restored by building a database of that version beside, and migrating it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table, func, insert, select, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DatabaseError

from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import knows, migrate, newest, version
from refseg.apps.annotate.database.tables import ORDER, Base, GameSample, Picture
from refseg.errors import DataError
from refseg.files import copy_file, replacing

FORMAT = "refseg-annotate-dump"
GAME, PICTURES = "game.jsonl.gz", "pictures/"
_AT_ONCE = 500
_PASSED_OVER = ("rates", "attempts", "boards")  # who did what in the last minutes: nothing that a game is made of
_LARGEST_LINE = 64 << 20
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the time of every file in an archive
_SEAL, _DIGEST = b"refseg sha256 ", 64
"""An archive ends with a comment: these words and the digest of all bytes before it, since a .zip file's own sums leave
out names, attributes and most of its directory."""


def backup(database: Database, target: Path, pictures: Path | None = None) -> str:
    """Copy the database into a file while the game runs; returns the kind that was written.

    `.db` or `.sqlite` is SQLite's online copy (of a SQLite database only), `.zip` the dump with the files of the folder
    `pictures`; anything else is the portable dump.
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
    whole = target.suffix.lower() == ".zip"
    if whole and pictures is None:
        raise DataError(f"{target}: a .zip file holds the pictures too; name the folder of the game")
    with replacing(target) as temporary:
        temporary.chmod(0o600)
        if whole:
            assert pictures is not None
            _write_archive(database, temporary, pictures)
        else:
            _write_dump(database, temporary)
    target.chmod(0o600)
    return "archive" if whole else "dump"


def _write_dump(database: Database, target: Path) -> None:
    with _compressed(target, "wt") as handle:
        for line in dump(database):
            handle.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _write_archive(database: Database, target: Path, pictures: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            packed = Path(folder) / GAME
            _write_dump(database, packed)
            _add(archive, packed, GAME)
        for path in sorted(pictures.iterdir()) if pictures.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                _add(archive, path, PICTURES + path.name)
        archive.comment = _SEAL + b"0" * _DIGEST
    digest = _digest(target)
    with target.open("r+b") as handle:
        handle.seek(-_DIGEST, os.SEEK_END)
        handle.write(digest)


def _digest(path: Path) -> bytes:
    """Of all but the last `_DIGEST` bytes, as hexadecimal digits."""
    left, digest = path.stat().st_size - _DIGEST, hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(min(left, 1 << 20)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest().encode()


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _OLDEST)
    entry.external_attr = 0o600 << 16
    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as place:
        shutil.copyfileobj(source, place, 1 << 20)


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


def restore(database: Database, source: Path, *, pictures: Path | None = None, replace: bool = False) -> dict[str, int]:
    """Put a backup into a database, in one transaction; returns the number of rows of each table.

    One of an older version is brought up to date on the way. The pictures of a .zip file go into the folder `pictures`
    first. Raises `DataError`: a database that holds something (unless `replace`), a damaged file, a newer version.
    """
    if not source.is_file():
        raise DataError(f"{source}: no such file")
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refseg-restore-")))
            given = source
            if zipfile.is_zipfile(source):
                given = _unpack(source, folder)
            migrate(database)
            lines = _current_lines(given, folder, stack, source)
            with database.engine.execution_options(writes=True).begin() as connection:
                _make_room(connection, replace)
                counts = _load(connection, source, lines, {table.name: table for table in _tables()})
                if given is not source:
                    _restore_pictures(source, pictures)
                if not database.is_sqlite:
                    continue_numbers(connection)
            return counts
    except DataError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        sqlite3.DatabaseError,
        DatabaseError,
        zipfile.BadZipFile,
    ) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise DataError(f"{source}: damaged or cut short ({reason}); nothing was restored") from error


def _current_lines(given: Path, folder: Path, stack: ExitStack, source: Path) -> Iterator[dict[str, Any]]:
    """The lines of a copy as a dump of the version that this refseg works with; the copy stays as it is."""
    scratch = folder / "scratch.db"
    with given.open("rb") as handle:
        is_database = handle.read(16) == b"SQLite format 3\0"
    if is_database:
        copy_file(given, scratch)
        beside = Database(f"sqlite:///{scratch}")
        stack.callback(beside.close)
        _check_known(source, version(beside))
    else:
        lines = _lines(given)
        head = next(lines, {})
        if head.get("format") != FORMAT:
            raise DataError(f"{source}: not a dump of the game")
        if head.get("version") == newest():
            return lines
        _check_known(source, head.get("version"))
        beside = Database(f"sqlite:///{scratch}")
        stack.callback(beside.close)
        migrate(beside, str(head["version"]))
        tables = MetaData()
        tables.reflect(beside.engine)
        with beside.engine.execution_options(writes=True).begin() as connection:
            _load(connection, source, lines, tables.tables)
    migrate(beside)
    lines = dump(beside)
    next(lines)
    return lines


def _check_known(source: Path, found: Any) -> None:
    if not isinstance(found, str) or not knows(found):
        raise DataError(
            f"{source}: of version {found}, which this refseg ({newest()}) does not know; install a newer one"
        )


def _load(
    connection: Connection, source: Path, lines: Iterator[dict[str, Any]], tables: Mapping[str, Table]
) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(tables, 0)
    waiting: list[dict[str, Any]] = []
    current = ""

    def flush() -> None:
        if waiting:
            connection.execute(insert(tables[current]), waiting)
            counts[current] += len(waiting)
            waiting.clear()

    for number, line in enumerate(lines, 2):
        name, row = line.get("table"), line.get("row")
        if not isinstance(name, str) or name not in tables or name == "alembic_version" or not isinstance(row, dict):
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


def _unpack(source: Path, folder: Path) -> Path:
    with zipfile.ZipFile(source) as archive:
        # Archives of before have no comment, and end with its length, 0 in two bytes.
        with source.open("rb") as handle:
            handle.seek(-2, os.SEEK_END)
            sealed = bool(archive.comment) or handle.read() != b"\0\0"
        if sealed and archive.comment != _SEAL + _digest(source):
            raise DataError(f"{source}: damaged: it is not what was written; nothing was restored")
        if GAME not in archive.namelist():
            raise DataError(f"{source}: not a backup of the game; {GAME} is missing")
        with archive.open(GAME) as packed, (folder / GAME).open("wb") as place:
            shutil.copyfileobj(packed, place, 1 << 20)
    return folder / GAME


def _restore_pictures(source: Path, pictures: Path | None) -> None:
    """Put the pictures of an archive into the game's folder, once all of them are whole."""
    if pictures is None:
        raise DataError(f"{source}: holds pictures; name the folder that they go into")
    pictures.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename != GAME]
        for entry in entries:
            name = entry.filename.removeprefix(PICTURES)
            if not entry.filename.startswith(PICTURES) or not name or name != Path(name).name or name.startswith("."):
                raise DataError(f"{source}: {entry.filename!r} is no picture of a backup")
        # Beside the folder, so that moving them is renaming: no damaged archive changes a picture that is there.
        with tempfile.TemporaryDirectory(dir=pictures.parent, prefix=".restore-") as folder:
            for entry in entries:
                with archive.open(entry) as packed, (Path(folder) / Path(entry.filename).name).open("wb") as place:
                    shutil.copyfileobj(packed, place, 1 << 20)
            pictures.mkdir(exist_ok=True)
            for path in sorted(Path(folder).iterdir()):
                copied = pictures / path.name
                with replacing(copied) as temporary:
                    path.replace(temporary)


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
        packed_file = gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)  # the same game gives the same bytes
        return io.TextIOWrapper(packed_file, encoding="utf-8")
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(encoding="utf-8")
