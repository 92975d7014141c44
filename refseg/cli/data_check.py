"""`refseg data check DIR` (or a .jsonl file): what is there, counted by split, and everything that is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from refseg.data.check import DatasetReport

# So many problems of one kind are printed in full; a missing picture folder would fill the screen otherwise.
_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "root", metavar="DIR", type=Path, help="the folder that holds data sets, one data set's own, or a .jsonl file"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="OUT",
        help="write everything as JSON to OUT (to the screen without OUT)",
    )
    parser.add_argument("--deep", action="store_true", help="decode every picture and outline, not only the headers")
    parser.add_argument("--strict", action="store_true", help="exit with 2 when anything at all is wrong")
    parser.add_argument("--all", action="store_true", help=f"print all problems, not the first {_SHOWN} of each kind")


def run(arguments: argparse.Namespace) -> int:
    """0 when any sentence is usable, with --strict when there is no problem at all; 2 otherwise."""
    from refseg.data.check import check

    report = check(arguments.root, deep=arguments.deep)
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    if arguments.json == "-":
        print(text)
    else:
        from rich.console import Console

        if arguments.json is not None:
            from refseg.files import write_text

            write_text(arguments.json, text + "\n")
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        for dataset in report.datasets:
            _print(console, dataset, sys.maxsize if arguments.all else _SHOWN)
        if not report.usable:
            console.print("[bold red]nothing here is usable[/]: mend the problems above")
    faulty = any(dataset.problems or dataset.error for dataset in report.datasets)
    return 2 if not report.usable or (arguments.strict and faulty) else 0


def _print(console: Console, dataset: DatasetReport, shown: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(dataset.name)}[/] ({escape(dataset.split_by)})  {escape(dataset.refs)}")
    if dataset.error:
        console.print(f"  [red]unreadable[/]: {escape(dataset.error)}\n")
        return
    table = Table("split", box=None, pad_edge=False, padding=(0, 2))
    headings = ("sentences", "usable", "referents", "pictures", "objects", "one", "several", "none", "published")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("of that", no_wrap=True)
    for split, counts in dataset.splits.items():
        targets = (counts.one_target, counts.several_targets, counts.no_target)
        numbers = (counts.expressions, counts.usable, counts.referents, counts.pictures, counts.objects, *targets)
        printed = "-" if counts.published is None else f"{counts.published:,}"
        table.add_row(escape(split), *(f"{number:,}" for number in numbers), printed, counts.verdict)
    console.print(table)
    for split, counts in dataset.splits.items():
        if counts.kinds:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.kinds.items())
            console.print(f"  kinds in {escape(split)}: {escape(kinds)}")
    console.print(f"  pictures: {dataset.pictures_found:,} found, {dataset.pictures_missing:,} missing")
    if dataset.note:
        console.print(f"  note: {escape(dataset.note)}")
    if not dataset.problems:
        console.print("  no problems\n")
        return
    by_kind: dict[str, list[str]] = {}
    lost: dict[str, int] = {}
    for problem in dataset.problems:
        by_kind.setdefault(problem.kind, []).append(str(problem))
        lost[problem.kind] = lost.get(problem.kind, 0) + problem.lost
    for kind, lines in by_kind.items():
        console.print(f"  [yellow]{kind.replace('_', ' ')}[/]: {len(lines):,} times, {lost[kind]:,} sentences lost")
        for line in lines[:shown]:
            console.print(f"    {escape(line)}")
        if len(lines) > shown:
            console.print(f"    ... and {len(lines) - shown:,} more (--all prints, --json OUT lists them)")
    console.print()
