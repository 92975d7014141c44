"""`refseg data leak TRAIN EVALUATION`: the pictures that a training source shares with an evaluation split."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# So many shared pictures are printed; --json has all.
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    for name, words in (("train", "the data set that is trained on"), ("evaluation", "the one that is scored on")):
        parser.add_argument(name, metavar=name.upper(), type=Path, help=f"folder of {words}")
        parser.add_argument(f"--{name}-dataset", metavar="NAME", help="which data set in it (default: its only one)")
        parser.add_argument(f"--{name}-split", metavar="NAME", help="which split of it (default: all)")
        parser.add_argument(f"--{name}-split-by", metavar="NAME", help="who made the split")
    parser.add_argument("--genome", metavar="FILE", type=Path, help="Visual Genome's image_data.json")
    looks = parser.add_mutually_exclusive_group()
    looks.add_argument("--looks", action="store_true", default=None, help="compare all pictures by their looks too")
    looks.add_argument("--no-looks", action="store_false", dest="looks", help="compare by numbers only")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="OUT",
        help="write all of them as JSON to OUT (to the screen without OUT)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when any picture is shared")


def run(arguments: argparse.Namespace) -> int:
    """0; with --strict 1 when any picture is shared."""
    from refseg.data.leak import leak
    from refseg.files import write_text

    report = leak(
        _open(arguments, "train"), _open(arguments, "evaluation"), looks=arguments.looks, genome=arguments.genome
    )
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    if arguments.json == "-":
        print(text)
    else:
        if arguments.json is not None:
            write_text(arguments.json, text + "\n")
        _print(report)
    return 1 if arguments.strict and report.shared else 0


def _open(arguments: argparse.Namespace, side: str) -> Any:
    from refseg.data import open_dataset

    names = (getattr(arguments, f"{side}_{part}") for part in ("dataset", "split", "split_by"))
    return open_dataset(getattr(arguments, side), *names, need_pictures=False)


def _print(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    for name, count in ((report.train, report.train_pictures), (report.evaluation, report.evaluation_pictures)):
        console.print(f"{name}: {count:,} pictures")
    console.print("compared " + (", ".join(report.ways) or "in no way"))
    for line in report.skipped:
        console.print(f"not compared: {line}")
    for problem in report.problems[:_SHOWN]:
        console.print(f"problem: {problem}")
    if not report.shared:
        console.print("no picture is shared")
        return
    table = Table("found by", "number", "training", "evaluation", "bits", box=None, pad_edge=False, padding=(0, 2))
    for item in report.shared[:_SHOWN]:
        paths = (item.train_path, item.evaluation_path)
        train, evaluation = (
            Path(path).name or str(number)
            for path, number in zip(paths, (item.train_id, item.evaluation_id), strict=True)
        )
        table.add_row(item.how, item.number, train, evaluation, "" if item.bits is None else str(item.bits))
    console.print(table)
    if len(report.shared) > _SHOWN:
        console.print(f"... and {len(report.shared) - _SHOWN:,} more (--json OUT lists them)")
    console.print(f"{len(report.train_ids()):,} pictures of the training source are in the evaluation split")
