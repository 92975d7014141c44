"""`refseg data stats DIR` (or a .jsonl file): sentences, words, targets, kinds and areas, as a table or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from refseg.data.stats import Distribution, Stats

_BAR = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "root", metavar="DIR", type=Path, help="the folder that holds data sets, one data set's own, or a .jsonl file"
    )
    parser.add_argument("--dataset", metavar="NAME", help="which data set (default: the folder's only one)")
    parser.add_argument("--split", metavar="NAME", help="train, val, testA, ... (default: all)")
    parser.add_argument("--split-by", metavar="NAME", help="who made the split: unc, umd, google, ...")
    parser.add_argument("--pictures", action="store_true", help="leave out sentences whose picture is not there")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="OUT",
        help="write everything as JSON to OUT (to the screen without OUT)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Count and print."""
    from refseg.data import open_dataset
    from refseg.data.stats import describe

    dataset = open_dataset(
        arguments.root,
        arguments.dataset,
        arguments.split,
        arguments.split_by,
        need_pictures=arguments.pictures,
    )
    stats = describe(dataset)
    text = json.dumps(stats.to_dict(), indent=1, ensure_ascii=False)
    if arguments.json == "-":
        print(text)
        return 0
    from rich.console import Console

    if arguments.json is not None:
        from refseg.files import write_text

        write_text(arguments.json, text + "\n")
    _print(Console(highlight=False, width=None if sys.stdout.isatty() else 120), stats)
    return 0


def _print(console: Console, stats: Stats) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(stats.dataset)}[/] {escape(stats.split or 'all splits')}")
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in (
        ("sentences", stats.sentences),
        ("distinct sentences", stats.distinct_sentences),
        ("pictures", stats.pictures),
        ("objects", stats.objects),
        ("of them with a box only", stats.boxes_only),
        ("referents", stats.referents),
        ("vocabulary", stats.vocabulary),
        ("words that come once", stats.once),
    ):
        table.add_row(name, f"{number:,}")
    console.print(table)
    for title, spread, unit in (
        ("words a sentence", stats.words, ""),
        ("targets a sentence", stats.targets, ""),
        ("sentences a picture", stats.sentences_per_picture, ""),
        ("area of the targets", stats.area, " of the picture"),
    ):
        _print_spread(console, title, spread, unit)
    for title, counts in (
        ("splits", stats.splits),
        ("kinds", stats.kinds),
        ("categories", stats.categories),
        ("frequent words", stats.frequent_words),
        ("problems met", stats.problems),
    ):
        if counts:
            console.print(f"{title}: " + escape(", ".join(f"{name} {count:,}" for name, count in counts.items())))


def _print_spread(console: Console, title: str, spread: Distribution, unit: str) -> None:
    if not spread.count:
        return
    console.print(
        f"{title}: mean {spread.mean:.3g}, median {spread.median:.3g}, "
        f"{spread.smallest:.3g} to {spread.largest:.3g}{unit}"
    )
    most = max(spread.histogram.values())
    width = max(map(len, spread.histogram))
    for name, count in spread.histogram.items():
        console.print(f"  {name:>{width}} {'█' * max(1, round(_BAR * count / most))} {count:,}")
