"""`refseg annotate rank --model NAME`: which pictures are hard for a model."""

from __future__ import annotations

import argparse

from refseg.cli.annotate_common import add_place, open_game


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--model", required=True, metavar="NAME", help="a model of refseg: a name, a folder, a hub id")
    parser.add_argument("--most", type=int, metavar="N", help="stop after so many pictures")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the model all known sentences of the pictures it has not seen."""
    from refseg.apps.annotate.helping import rank_pictures

    game = open_game(arguments, help_model=arguments.model)
    done = rank_pictures(game, arguments.most)
    game.database.close()
    print(f"{done} pictures asked about; those with more wrong answers are drawn more often")
    return 0
