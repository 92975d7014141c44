"""Copies of the database, and databases from copies: SQLite to SQLite, and from either to the other."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, select, text
from sqlalchemy.exc import IntegrityError

from refseg.apps.annotate.auth import people
from refseg.apps.annotate.database.backup import backup, dump, restore
from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import migrate, newest, version
from refseg.apps.annotate.database.tables import Base, GameSample, Person
from refseg.apps.annotate.game import Game
from refseg.apps.annotate.services.missing import missing_pictures
from refseg.apps.annotate.settings import Settings
from refseg.cli.main import main
from refseg.errors import DataError
from tests.support.replay import contradictions
from tests.support.small_games import add_people, make_game, open_game, play


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.engine.connect() as connection:
        return {
            name: sorted((tuple(map(str, row)) for row in connection.execute(select(table))), key=repr)
            for name, table in Base.metadata.tables.items()
            if name not in ("rates", "attempts", "boards")
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
        "future": "\n".join([lines[0].replace(newest(), "9999"), *lines[1:]]).encode(),
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


def old_game(folder: Path) -> Path:
    """A game as version 0001 kept it: a sentence that was accepted, with its log."""
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'game.db'}")
    migrate(database, "0001")
    rows = {
        "people": [
            (1, "anna", "anna", "x", "annotator validator", True, "auto", 1.0, None),
            (2, "viktor", "viktor", "x", "validator", True, "auto", 1.0, None),
        ],
        "pictures": [(1, 7, "a.jpg", ".jpg", "d" * 64, 8, 6, "train", 1, 1, 0.0, 0, 0.5, None, None, None)],
        "objects": [(1, 1, 70, "dog", 1.0, 1.0, 5.0, 4.0, 12.0, "[]", "[]")],
        "samples": [
            (1, 1, "train", 1, "the dog", False, 1, "category", "accepted", 1, "", "[]", "[]", None, None, "k" * 8,
             "h", 0.5, 1.0, 1.0, 1.0, None, None, None)
        ],
        "sample_targets": [(1, 1)],
        "verdicts": [(1, 1, 2, 1, "matched", True, False, None, "", "k" * 8, "h", 2.0)],
        "verdict_targets": [(1, 1)],
        "days": [(1, "2027-01-15", 10, 1, 0, 1, 1, 1, 0, 0), (2, "2027-01-15", 5, 0, 1, 0, 0, 0, 1, 1)],
        "awards": [(1, 1, 1, "accepted", 10, 2.0), (2, 2, 1, "matched", 5, 2.0)],
        "audit": [
            (1, 1.0, 1, "sample", 1, "submit", None, "waiting", "", "{}"),
            (2, 2.0, 2, "sample", 1, "match", "waiting", "accepted", "", "{}"),
        ],
    }  # fmt: skip
    with database.engine.execution_options(writes=True).begin() as connection:
        for table, values in rows.items():
            for row in values:
                marks = ", ".join("?" * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", row)
    database.close()
    return folder / "game.db"


def old_dump(source: Path, target: Path) -> Path:
    """What version 0001 wrote of that database."""
    database = Database(f"sqlite:///{source}")
    metadata = MetaData()
    metadata.reflect(database.engine)
    lines = [{"format": "refseg-annotate-dump", "version": "0001"}]
    with database.engine.connect() as connection:
        for table in metadata.sorted_tables:
            if table.name not in ("rates", "alembic_version"):
                lines += [{"table": table.name, "row": dict(row._mapping)} for row in connection.execute(select(table))]
    database.close()
    with gzip.open(target, "wt") as handle:
        handle.writelines(json.dumps(line) + "\n" for line in lines)
    return target


@pytest.mark.parametrize("kind", ["dump", "database", "in place"])
def test_a_backup_of_an_older_version_is_brought_up_to_date(tmp_path: Path, kind: str) -> None:
    old = old_game(tmp_path / "old")
    if kind == "in place":
        database = Database(f"sqlite:///{old}")
        assert migrate(database) == ("0001", newest())
    else:
        source = old_dump(old, tmp_path / "old.jsonl.gz") if kind == "dump" else old
        before = source.read_bytes()
        database = Database(f"sqlite:///{tmp_path / 'new.db'}")
        assert restore(database, source)["samples"] == 1
        assert source.read_bytes() == before, "the copy stays as it is"
    assert version(database) == newest()
    with database.read() as session:
        assert contradictions(session) == []
        sample = session.scalars(select(GameSample)).one()
        assert (sample.text, sample.state, sample.target_ids) == ("the dog", "accepted", [1])
        assert sample.picture.license == ""
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
        sample.state = "returned"
        session.flush()
        with pytest.raises(IntegrityError):
            session.execute(text("UPDATE samples SET state = 'lost'"))
    database.close()


def test_a_backup_of_a_newer_version_says_so(sqlite_game: Game, tmp_path: Path) -> None:
    backup(sqlite_game.database, tmp_path / "copy.jsonl.gz")
    lines = gzip.decompress((tmp_path / "copy.jsonl.gz").read_bytes()).decode().splitlines()
    (tmp_path / "newer").write_text(json.dumps({"format": "refseg-annotate-dump", "version": "9999"}) + "\n")
    assert json.loads(lines[0])["version"] == newest()
    with pytest.raises(DataError, match="install a newer one"):
        restore(Database(f"sqlite:///{tmp_path / 'other.db'}"), tmp_path / "newer")


def test_a_backup_with_its_pictures(sqlite_game: Game, tmp_path: Path) -> None:
    play(sqlite_game)
    copy = tmp_path / "copy.zip"
    assert backup(sqlite_game.database, copy, sqlite_game.settings.pictures) == "archive"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    other = open_game(Settings(tmp_path / "other"))
    restore(other.database, copy, pictures=other.settings.pictures)
    assert rows(other.database) == rows(sqlite_game.database)
    assert list(missing_pictures(other)) == []
    again = tmp_path / "again.zip"
    backup(other.database, again, other.settings.pictures)
    assert again.read_bytes() == copy.read_bytes()
    other.database.close()
    with pytest.raises(DataError, match="name the folder"):
        backup(sqlite_game.database, copy)


@pytest.mark.parametrize("kind", ["zip", "jsonl.gz"])
def test_a_changed_or_shortened_copy_changes_nothing(sqlite_game: Game, tmp_path: Path, kind: str) -> None:
    play(sqlite_game, 3)
    whole = tmp_path / f"whole.{kind}"
    backup(sqlite_game.database, whole, sqlite_game.settings.pictures)
    data = whole.read_bytes()
    other = make_game(tmp_path / "other")
    add_people(other, "zoe")
    for path in other.settings.pictures.iterdir():
        path.write_bytes(path.read_bytes() + b"another")

    def state() -> tuple[object, object]:
        return rows(other.database), {path.name: path.read_bytes() for path in other.settings.data.rglob("*.png")}

    before = state()
    # A .zip file ends with its directory, of which its own sums say nothing.
    for place in [*(len(data) * step // 24 for step in range(1, 24)), *range(len(data) - 400, len(data), 7)]:
        flipped = bytearray(data)
        flipped[place] ^= 0x55
        for content in (data[:place], bytes(flipped)):
            damaged = tmp_path / f"damaged.{kind}"
            damaged.write_bytes(content)
            with pytest.raises(DataError):
                restore(other.database, damaged, pictures=other.settings.pictures, replace=True)
            assert state() == before
    restore(other.database, whole, pictures=other.settings.pictures, replace=True)
    assert rows(other.database) == rows(sqlite_game.database)
    other.database.close()


@pytest.mark.parametrize("name", ["../evil.png", "pictures/../evil.png", "pictures/a/b.png", "evil.png"])
def test_an_archive_that_leads_out(sqlite_game: Game, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy.zip"
    backup(sqlite_game.database, copy, sqlite_game.settings.pictures)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.writestr(name, b"x")
        archive.comment = b""  # as if made by hand
    other = open_game(Settings(tmp_path / "other"))
    with pytest.raises(DataError, match="no picture of a backup"):
        restore(other.database, copy, pictures=other.settings.pictures)
    assert not list(tmp_path.rglob("evil.png"))
    with other.database.read() as session:
        assert session.scalars(select(Person)).all() == []
    other.database.close()


def test_missing_pictures_are_named_before_anybody_plays(
    sqlite_game: Game, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(sqlite_game)
    copy = tmp_path / "copy.jsonl.gz"
    data = ["--data", str(sqlite_game.settings.data)]
    assert main(["annotate", "backup", str(copy), *data]) == 0
    assert main(["annotate", "check", *data]) == 0
    there = ["--data", str(tmp_path / "there")]
    assert main(["annotate", "restore", str(copy), *there]) == 0
    told = capsys.readouterr().err
    assert "4 pictures are missing or changed" in told
    assert "000000000001.png: missing" in told
    assert main(["annotate", "check", *there]) == 2
    shutil.copytree(sqlite_game.settings.pictures, tmp_path / "there" / "pictures")
    changed = tmp_path / "there" / "pictures" / "000000000002.png"
    content = bytearray(changed.read_bytes())
    content[-20] ^= 1
    changed.write_bytes(content)
    capsys.readouterr()
    assert main(["annotate", "check", *there]) == 2
    assert "000000000002.png: changed" in capsys.readouterr().err
    changed.write_bytes((sqlite_game.settings.pictures / changed.name).read_bytes())
    assert main(["annotate", "check", *there]) == 0
