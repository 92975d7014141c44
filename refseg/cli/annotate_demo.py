"""`refseg annotate demo`: a game to try, on drawn scenes or on pictures of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from refseg.cli.annotate_common import add_place
from refseg.cli.annotate_serve import add_server, serve, settings_of, show_accounts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_place(parser, default=Path("refseg-annotate-demo"))
    parser.add_argument("--scenes", type=int, default=12, metavar="N", help="scenes to draw (default 12)")
    parser.add_argument(
        "--from", dest="source", metavar="SRC", type=Path,
        help="pictures of your own in place of drawn scenes: whatever refseg annotate import takes",
    )  # fmt: skip
    parser.add_argument("--prepare-only", action="store_true", help="make pictures and accounts, and do not serve")
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prepare and serve."""
    from refseg.apps.annotate.demo import prepare_demo
    from refseg.apps.annotate.game import Game
    from refseg.apps.annotate.importing import import_source

    settings = settings_of(arguments)
    game = Game.open(settings)
    if arguments.source is not None:
        brought = import_source(game, arguments.source)
        print(f"{brought.pictures} pictures with {brought.objects} objects imported, {len(brought.problems)} problems")
    show_accounts(arguments, prepare_demo(game, arguments.scenes))
    game.database.close()
    return 0 if arguments.prepare_only else serve(settings, arguments)
