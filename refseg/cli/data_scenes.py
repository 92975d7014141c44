"""`refseg data scenes OUT`: draw scenes with sentences and exact masks, in gRefCOCO's format."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for scenes/ and images/train2014/")
    parser.add_argument("--train", type=int, default=1000, metavar="N", help="scenes for training (default 1000)")
    parser.add_argument("--val", type=int, default=100, metavar="N", help="scenes for validation (default 100)")
    parser.add_argument(
        "--test",
        type=int,
        default=100,
        metavar="N",
        help="scenes for each of testA (people), testB (everything else) and testC (combinations of colour and "
        "category that no other split shows) (default 100)",
    )
    parser.add_argument("--size", type=int, default=320, metavar="S", help="side in pixels (default 320)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same seed gives the same bytes (default 0)"
    )
    parser.add_argument("--sentences", type=int, default=16, metavar="K", help="at most K a scene (default 16)")
    parser.add_argument("--plus", action="store_true", help="no words for absolute places, as in RefCOCO+")
    parser.add_argument("--png", action="store_true", help="lossless pictures, three times as large")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw, with a progress bar, and print what was made."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from refseg.generation.scenes.propose import KINDS
    from refseg.generation.scenes.write import SceneSettings, write_scenes

    counts = {"train": arguments.train, "val": arguments.val}
    counts |= dict.fromkeys(("testA", "testB", "testC"), arguments.test)
    settings = SceneSettings(
        seed=arguments.seed,
        counts=counts,
        size=arguments.size,
        sentences=arguments.sentences,
        plus=arguments.plus,
        picture="png" if arguments.png else "jpg",
    )
    started = time.perf_counter()
    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TextColumn("scenes"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("drawing", total=sum(counts.values()))
        sentences = write_scenes(
            arguments.out, settings, arguments.workers, lambda done: bar.update(task, advance=done)
        )
    seconds = time.perf_counter() - started
    table = Table("split", "scenes", "sentences", *KINDS)
    for split, kinds in sentences.items():
        table.add_row(split, str(counts[split]), str(sum(kinds.values())), *(str(kinds.get(kind, 0)) for kind in KINDS))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    total = sum(sum(kinds.values()) for kinds in sentences.values())
    console.print(
        f"{sum(counts.values())} scenes, {total} sentences in {seconds:.1f} s ({total / seconds:.0f} a second); "
        f"read them with --data {arguments.out} --dataset scenes"
    )
    return 0
