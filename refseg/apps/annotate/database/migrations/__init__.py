"""Alembic's scripts: each version of the database and the step to it."""
