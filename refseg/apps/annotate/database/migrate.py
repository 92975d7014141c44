"""Bringing a database up to date, by Alembic; several workers may try at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Connection

from refseg.apps.annotate.database.engine import Database
from refseg.errors import DataError

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7_346_271  # the number of PostgreSQL's advisory lock that migrations hold


def migrate(database: Database, wanted: str | None = None) -> tuple[str | None, str]:
    """Apply the missing migrations; returns the version before (None: an empty database) and the one now.

    Args:
        database: the database.
        wanted: the version to go up to; None is the newest.

    Raises: DataError when the database is of a newer refseg, or there is no such version.
    """
    config = alembic_config()
    wanted = wanted or newest()
    if version(database) == wanted:
        return wanted, wanted
    # One transaction for all steps: a server killed in the middle leaves the old version.
    with _changing(database) as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        if before != wanted:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, wanted)
            except CommandError as error:
                raise DataError(
                    f"the database is at version {before}, which this refseg does not know; install a newer one"
                ) from error
    return before, wanted


def knows(revision: str) -> bool:
    """Whether this refseg has a migration of that name."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


@contextmanager
def _changing(database: Database) -> Iterator[Connection]:
    """A transaction in which tables may be made anew.

    SQLite changes a table by copying it and dropping the old one, which its foreign keys would take for the loss of
    all that others point to: they are off meanwhile (that can be said outside of a transaction only), and checked
    before the end.
    """
    with database.engine.execution_options(writes=True).connect() as connection:
        raw = connection.connection.driver_connection
        if database.is_sqlite:
            assert raw is not None
            raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                if database.is_sqlite and connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
                    raise DataError("the migration left rows that point to nothing; nothing was changed")
        finally:
            if database.is_sqlite:
                assert raw is not None
                raw.execute("PRAGMA foreign_keys=ON")


def version(database: Database) -> str | None:
    """The database's version, None for an empty one."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The version that this refseg works with."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


def alembic_config() -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
