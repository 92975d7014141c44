"""Numbers of a scored run by kind of sentence, each with its 95 % interval over pictures.

    refseg evaluate --data DIR --split test --rows rows.jsonl
    python examples/intervals.py rows.jsonl                  # may be several files: they are counted together
    python examples/intervals.py rows.jsonl --bare           # "the dog": nothing but the name of the one that is meant

Intervals are those of `refseg.metrics.bootstrap`: pictures are drawn again and again, not sentences.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import refseg
from refseg.errors import ConfigError, DataError
from refseg.generation.language.lexicon import normal_name
from refseg.metrics.bootstrap import confidence_interval
from refseg.metrics.counts import Row

METRICS = ("gIoU", "mIoU_target", "Pr@0.5", "N_acc", "T_acc")


def read_rows(path: Path) -> list[Row]:
    """The rows that `refseg evaluate --rows` wrote."""
    try:
        return [Row.from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not rows that refseg evaluate wrote ({error})") from error


def is_bare(row: Row) -> bool:
    """Whether a sentence with one target is nothing but the name of its category."""
    said = re.sub(r"^(?:the|an?) ", "", row.text.lower().strip())
    return row.targets == 1 and row.category is not None and said == normal_name(row.category)


def cell(rows: list[Row], metric: str) -> str:
    """A metric with its interval; nothing where there is nothing to count."""
    try:
        found = confidence_interval(rows, metric)
    except ConfigError:  # no sentence of a kind for which the metric is counted
        return ""
    return "" if math.isnan(found.value) else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--bare", action="store_true", help="only sentences that name a category and nothing else")
    arguments = parser.parse_args(argv)
    rows = [row for path in arguments.rows for row in read_rows(path)]
    if arguments.bare:
        rows = [row for row in rows if is_bare(row)]
    if not rows:
        raise DataError("no sentence is left to count")
    table = Table("sentences about", "number", *METRICS)
    kinds = sorted({row.kind for row in rows if row.kind})
    for name, own in [*((kind, [row for row in rows if row.kind == kind]) for kind in kinds), ("all", rows)]:
        table.add_row(name, str(len(own)), *(cell(own, metric) for metric in METRICS))
    Console(width=None if sys.stdout.isatty() else 170, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except refseg.RefsegError as error:
        sys.exit(f"intervals: {error}")
