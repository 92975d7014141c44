"""Copies of the database, and databases from copies: SQLite to SQLite, and from either to the other."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.backup import backup, dump, restore
from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.tables import Base, Person
from refseg.apps.annotate.game import Game
from refseg.errors import DataError
from tests.support.small_games import play


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.engine.connect() as connection:
        return {
            name: sorted((tuple(map(str, row)) for row in connection.execute(select(table))), key=repr)
            for name, table in Base.metadata.tables.items()
            if name != "rates"
        }


@pytest.mark.parametrize("name", ["copy.db", "copy.jsonl.gz"])
def test_a_copy_is_the_game(sqlite_game: Game, tmp_path: Path, name: str) -> None:
    play(sqlite_game)
    copy = tmp_path / name
    assert backup(sqlite_game.database, copy) == ("sqlite" if name == "copy.db" else "dump")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    counts = restore(other, copy)
    assert counts["samples"] == 6
    assert rows(other) == rows(sqlite_game.database)
    with pytest.raises(DataError, match="holds a game already"):
        restore(other, copy)
    restore(other, copy, replace=True)
    assert rows(other) == rows(sqlite_game.database)
    other.close()


@pytest.mark.postgres
@pytest.mark.parametrize("name", ["copy.db", "copy.jsonl.gz"])
def test_from_sqlite_to_postgresql_and_back(sqlite_game: Game, tmp_path: Path, postgres_url: str, name: str) -> None:
    play(sqlite_game)
    backup(sqlite_game.database, tmp_path / name)
    server = Database(postgres_url)
    restore(server, tmp_path / name)
    assert rows(server) == rows(sqlite_game.database)
    moved = Game(sqlite_game.settings, server, sqlite_game.clock)
    added = server.write(lambda session: people.add_person(session, moved, "new", "correct horse", ["validator"]).id)
    assert added == 3, "numbers go on where they were"
    with pytest.raises(DataError, match=r"\.jsonl\.gz"):
        backup(server, tmp_path / "again.db")
    backup(server, tmp_path / "again.jsonl.gz")
    back = Database(f"sqlite:///{tmp_path / 'back.db'}")
    restore(back, tmp_path / "again.jsonl.gz")
    assert rows(back) == rows(server)
    back.close()
    server.close()


def test_two_dumps_are_the_same(game: Game) -> None:
    play(game)
    assert list(dump(game.database)) == list(dump(game.database))


def test_damaged_copies_change_nothing(sqlite_game: Game, tmp_path: Path) -> None:
    play(sqlite_game)
    whole = tmp_path / "whole.jsonl.gz"
    backup(sqlite_game.database, whole)
    lines = gzip.decompress(whole.read_bytes()).decode().splitlines()
    strange = json.dumps({"table": "people", "row": {"id": 1, "password": "x"}})
    faulty = {
        "empty": b"",
        "cut": whole.read_bytes()[:-40],
        "not ours": b'{"format": "other"}\n',
        "a list": b"[1]\n",
        "future": "\n".join([lines[0].replace("0001", "9999"), *lines[1:]]).encode(),
        "columns": "\n".join([*lines, strange]).encode(),
        "table": "\n".join([*lines, '{"table": "sqlite_master", "row": {}}']).encode(),
        "binary": bytes(range(256)),
        "database": b"SQLite format 3\0" + b"\0" * 100,
    }
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    for name, content in faulty.items():
        path = tmp_path / "faulty"
        path.write_bytes(content)
        with pytest.raises(DataError):
            restore(other, path)
        if name != "database":
            with Database(other.url).read() as session:
                assert session.scalars(select(Person)).all() == [], name
    with pytest.raises(DataError, match="no such file"):
        restore(other, tmp_path / "nothing")
    assert restore(other, whole)["samples"] == 6
    other.close()
