"""`refseg annotate backup FILE`: a copy of the database while the game runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from refseg.cli.annotate_common import add_place, open_game


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "target", metavar="FILE", type=Path,
        help=".db: SQLite's own copy; .jsonl.gz: a portable dump that SQLite and PostgreSQL can be restored from",
    )  # fmt: skip
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy."""
    from refseg.apps.annotate.backup import backup

    game = open_game(arguments)
    kind = backup(game.database, arguments.target)
    game.database.close()
    size = arguments.target.stat().st_size
    print(f"{arguments.target}: {kind}, {size:,} bytes; copy {arguments.data / 'pictures'} beside it")
    return 0
