"""`refseg annotate stats`: how far the game is."""

from __future__ import annotations

import argparse
import json

from refseg.cli.annotate_common import add_place, open_game


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the numbers of the administrator's first page."""
    from refseg.apps.annotate.overview import overview

    game = open_game(arguments)
    with game.database.read() as session:
        found = overview(session, game)
    game.database.close()
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{found['pictures']:,} pictures, {found['objects']:,} objects, {found['imported']:,} imported sentences")
    print("samples: " + ", ".join(f"{number:,} {state}" for state, number in found["samples"].items()))
    for row in found["splits"]:
        print(
            f"  {row['split']}: {row['covered']:,} of {row['pictures']:,} pictures have sentences; accepted with one "
            f"target {row['one']:,}, several {row['several']:,}, none {row['none']:,}"
        )
    kinds = ", ".join(f"{row['kind']} {row['total']:,}" for row in found["kinds"])
    print(f"kinds: {kinds or 'none yet'}")
    rate, first = found["agreement"]["rate"], found["agreement"]["first_rate"]
    if rate is not None:
        print(f"agreement: {rate:.1%} of {found['agreement']['compared']:,} selections, {first:.1%} of the first ones")
    queues = found["queues"]
    print(f"held now: {queues['held_write']} pictures, {queues['held_validate']} samples; {queues['drafts']} drafts")
    return 0
