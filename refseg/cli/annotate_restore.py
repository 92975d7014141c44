"""`refseg annotate restore FILE`: a backup into a database."""

from __future__ import annotations

import argparse
from pathlib import Path

from refseg.cli.annotate_common import add_place, open_game


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", metavar="FILE", type=Path, help="what refseg annotate backup wrote")
    parser.add_argument("--replace", action="store_true", help="put it in place of a game that is there")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore, in one transaction."""
    from refseg.apps.annotate.backup import restore

    game = open_game(arguments)
    counts = restore(game.database, arguments.source, replace=arguments.replace)
    game.database.close()
    print(f"{counts['samples']:,} samples on {counts['pictures']:,} pictures by {counts['people']:,} people restored")
    return 0
