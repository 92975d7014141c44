"""`refseg annotate import SRC`: pictures, objects and sentences into the game."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from refseg.cli.annotate_common import add_place, open_game

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "source", metavar="SRC", type=Path,
        help="a COCO-style .json; a RefCOCO or gRefCOCO folder; a folder with pictures/ and masks/; what refseg data "
        "convert reads",
    )  # fmt: skip
    parser.add_argument("--images", metavar="DIR", type=Path, help="folder of the pictures, where not beside SRC")
    parser.add_argument("--split", metavar="NAME", help="only this split; for data without splits, the split's name")
    parser.add_argument("--dataset", metavar="NAME", help="which data set of a folder that holds several")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import, and say what was left out and why."""
    from refseg.apps.annotate.importing import import_source

    game = open_game(arguments)
    brought = import_source(
        game, arguments.source, images=arguments.images, split=arguments.split, dataset=arguments.dataset
    )
    for problem in brought.problems[:_SHOWN]:
        print(problem, file=sys.stderr)
    if len(brought.problems) > _SHOWN:
        kinds = Counter(problem.kind for problem in brought.problems)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        print(f"... {len(brought.problems)} problems in all: {listed}", file=sys.stderr)
    print(f"{brought.pictures} pictures, {brought.objects} objects, {brought.sentences} sentences imported")
    game.database.close()
    return 0
