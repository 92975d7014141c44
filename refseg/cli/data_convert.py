"""`refseg data convert SRC DST --to FORMAT`: data sets to and from the forms of other tools."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refseg.errors import DataError

_FORMS = ("jsonl", "grefcoco", "coco", "yolo", "labelstudio", "cvat")
_SOURCES = ("jsonl", "published", "coco", "yolo", "labelstudio", "cvat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "source",
        metavar="SRC",
        type=Path,
        help="a .jsonl file, a COCO, Label Studio or CVAT .json, a YOLO folder, or a data set's own folder",
    )
    parser.add_argument("target", metavar="DST", type=Path, help="folder to write (for jsonl also a .jsonl file)")
    parser.add_argument("--to", required=True, choices=_FORMS, help="the form to write")
    parser.add_argument("--from", dest="form", choices=_SOURCES, help="the form of SRC (found out where left out)")
    parser.add_argument("--images", metavar="DIR", type=Path, help="folder of the pictures, where not beside SRC")
    parser.add_argument("--dataset", metavar="NAME", help="which data set of a folder that holds several")
    parser.add_argument("--split", metavar="NAME", help="only this split")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="leave out faulty records; otherwise nothing is written if any is faulty",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert; every faulty record is printed to stderr, and stops the conversion unless --keep-going is given."""
    from refseg.data.convert import WRITERS, read_any

    found = read_any(
        arguments.source,
        arguments.form,
        images=arguments.images,
        dataset=arguments.dataset,
        split=arguments.split,
    )
    for problem in found.problems:
        print(problem, file=sys.stderr)
    lost = sum(problem.lost for problem in found.problems)
    if lost and not arguments.keep_going:
        raise DataError(
            f"{arguments.source}: {lost} sentences cannot be used ({len(found.problems)} faults, all printed above); "
            "mend them, or leave them out with --keep-going"
        )
    count = WRITERS[arguments.to](found, arguments.target)
    without = f", {lost} left out" if lost else ""
    print(f"{count} sentences on {len(found.by_picture())} pictures written to {arguments.target}{without}")
    return 0
