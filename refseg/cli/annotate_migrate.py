"""`refseg annotate migrate`: the database brought up to date."""

from __future__ import annotations

import argparse

from refseg.cli.annotate_common import add_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Apply the missing steps."""
    from refseg.apps.annotate.database import Database
    from refseg.apps.annotate.migrate import migrate
    from refseg.apps.annotate.settings import Settings

    settings = Settings(arguments.data, arguments.database)
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    before, now = migrate(database)
    database.close()
    print(f"the database is at version {now}" + ("" if before == now else f" (it was {before or 'empty'})"))
    return 0
