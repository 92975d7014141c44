"""Bringing a database up to date, by Alembic; several workers may try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text

from refseg.apps.annotate.database.engine import Database
from refseg.errors import DataError

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7_346_271  # the number of PostgreSQL's advisory lock that migrations hold


def migrate(database: Database) -> tuple[str | None, str]:
    """Apply the missing migrations; returns the version before (None: an empty database) and the one now.

    Raises `DataError` when the database is of a newer refseg.
    """
    config = alembic_config()
    wanted = newest()
    if version(database) == wanted:
        return wanted, wanted
    # One transaction for all steps: a server killed in the middle leaves the old version.
    with database.engine.execution_options(writes=True).begin() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        if before != wanted:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise DataError(
                    f"the database is at version {before}, which this refseg does not know; install a newer one"
                ) from error
    return before, wanted


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
