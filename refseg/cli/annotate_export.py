"""`refseg annotate export DST`: the accepted samples as a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from refseg.cli.annotate_common import add_place, open_game


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("target", metavar="DST", type=Path, help="folder to write, or a .zip file")
    parser.add_argument(
        "--form", choices=("grefcoco", "refcoco", "jsonl"), default="grefcoco",
        help="gRefCOCO's form (default), RefCOCO's for sentences with exactly one target, or JSON lines",
    )  # fmt: skip
    parser.add_argument("--split", metavar="NAME", help="only this split")
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export."""
    from refseg.apps.annotate.audit import record
    from refseg.apps.annotate.exporting import export, export_archive

    game = open_game(arguments)
    write = export_archive if arguments.target.suffix.lower() == ".zip" else export
    count = write(game, arguments.target, arguments.form, arguments.split)
    details = {"form": arguments.form, "split": arguments.split, "sentences": count}
    game.database.write(lambda session: record(session, game, None, "data", None, "export", details=details))
    print(f"{count} sentences written to {arguments.target}; look with refseg data check {arguments.target}")
    game.database.close()
    return 0
