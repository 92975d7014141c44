"""Runs migrations on the connection that `refseg.apps.annotate.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from refseg.apps.annotate.database.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
context.run_migrations()
