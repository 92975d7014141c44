"""The database from nothing to the newest version, on both databases; and what the settings refuse."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from refseg.apps.annotate.database.engine import Database
from refseg.apps.annotate.database.migrate import alembic_config, migrate, newest, version
from refseg.apps.annotate.database.tables import ORDER, Base
from refseg.apps.annotate.settings import SECRET_VARIABLE, Settings
from refseg.errors import ConfigError, DataError


def open_database(tmp_path: Path, url: str) -> Database:
    return Database(url or f"sqlite:///{tmp_path / 'game.db'}")


def test_from_empty_to_the_tables_of_the_code(tmp_path: Path, database_url: str) -> None:
    database = open_database(tmp_path, database_url)
    assert version(database) is None
    assert migrate(database) == (None, newest())
    assert migrate(database) == (newest(), newest())
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_down_to_nothing(tmp_path: Path, database_url: str) -> None:
    database = open_database(tmp_path, database_url)
    migrate(database)
    config = alembic_config()
    with database.engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
    database.close()


def test_several_workers_migrate_at_once(tmp_path: Path, database_url: str) -> None:
    database = open_database(tmp_path, database_url)
    faults: list[Exception] = []

    def work() -> None:
        try:
            migrate(database)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert version(database) == newest()
    database.close()


def test_a_database_of_the_future_is_refused(tmp_path: Path) -> None:
    database = open_database(tmp_path, "")
    migrate(database)
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match="version 9999"):
        migrate(database)
    database.close()


def test_the_order_of_restoring_names_every_table_after_those_it_needs() -> None:
    assert {table.__tablename__ for table in ORDER} == set(Base.metadata.tables)
    seen: set[str] = set()
    for table in ORDER:
        needs = {key.column.table.name for key in table.__table__.foreign_keys}
        assert needs <= seen | {table.__tablename__}, table
        seen.add(table.__tablename__)


def test_sqlite_waits_flushes_and_checks(tmp_path: Path) -> None:
    database = open_database(tmp_path, "")
    with database.engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--database"):
        Database(url)


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    settings = Settings(tmp_path / "data")
    secret = settings.secret()
    assert len(secret) >= 32
    assert settings.secret() == secret
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600
    monkeypatch.setenv(SECRET_VARIABLE, "short")
    with pytest.raises(ConfigError, match="at least 32"):
        settings.secret()
    monkeypatch.setenv(SECRET_VARIABLE, "x" * 40)
    assert settings.secret() == b"x" * 40


def test_settings_travel_to_workers_and_are_checked(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "postgres://a@b/c", allowed_hosts=("one",), root_path="/game")
    assert settings.url == "postgresql+psycopg://a@b/c"
    assert Settings.from_json(settings.to_json()) == settings
    with pytest.raises(ConfigError, match="root_path"):
        Settings(tmp_path, root_path="game/")
    with pytest.raises(ConfigError, match="daily_goal"):
        Settings(tmp_path, daily_goal=0)
