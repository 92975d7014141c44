"""What the verbs of `refseg annotate` have in common: the data folder and the database."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refseg.apps.annotate.game import Game


def add_place(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """--data and --database."""
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=default is None, default=default,
        help="folder of the game: pictures, the key of its cookies, and the database unless --database is given"
        + ("" if default is None else f" (default {default})"),
    )  # fmt: skip
    parser.add_argument(
        "--database", metavar="URL", default="",
        help="sqlite:///FILE or postgresql://USER@HOST/NAME (default: game.db in the data folder)",
    )  # fmt: skip


def open_game(arguments: argparse.Namespace, **fields: Any) -> Game:
    """The game of --data and --database, its database up to date."""
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.settings import Settings

    return Game.open(Settings(arguments.data, arguments.database, **fields))
