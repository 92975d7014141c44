"""How fast the annotation game answers many players, with many samples in the database: `python -m tests.loadtest`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from refseg.errors import RefsegError
from refseg.files import write_text
from tests.loadtest.load import LoadSettings, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the file; 1 when an answer was wrong or the database contradicts its log."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.loadtest",
        description="Fills a database of its own, starts a server on this machine, lets scripted players play, and "
        "prints what they waited for, by request. Ctrl-C ends the play early and prints what there is.",
    )
    option = parser.add_argument
    option("--samples", type=int, default=100_000, metavar="N", help="samples to begin with (default 100000)")
    option("--players", type=int, default=50, metavar="N", help="people at once (default 50)")
    option("--seconds", type=float, default=60, metavar="S", help="how long they play (default 60)")
    option("--think", type=float, default=4, metavar="S", help="mean pause; a sentence has four (default 4)")
    option("--spread", type=float, default=0.6, metavar="X", help="deviation of a pause's logarithm (default 0.6)")
    option("--settle", type=float, default=10, metavar="S", help="seconds of play before counting (default 10)")
    option("--workers", type=int, default=1, metavar="N", help="processes that answer (default 1)")
    option("--database", default="", metavar="URL", help="an EMPTY database (default: SQLite in a temporary folder)")
    option("-o", "--output", type=Path, metavar="FILE", help="write everything to this file as JSON")
    fields = vars(parser.parse_args(arguments))
    output: Path | None = fields.pop("output")
    try:
        report = _measure(LoadSettings(**fields))
    except RefsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if output is not None:
        write_text(output, json.dumps(report, indent=1) + "\n")
    print("\n".join(_lines(report)))
    wrong = report["contradictions"] or (report["routes"] and report["routes"][0]["errors"])
    return 130 if report["interrupted"] else 1 if wrong else 0


def _measure(settings: LoadSettings) -> dict[str, Any]:
    """Run with a bar on standard error, which the terminal shows and files do not get."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="refseg-load-") as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        bar = progress.add_task("filling", total=1.0)
        return measure(
            settings, Path(folder), lambda what, share: progress.update(bar, description=what, completed=share)
        )


def _lines(report: dict[str, Any]) -> list[str]:
    wanted, used = report["wanted"], report["server"]
    lines = [
        f"{wanted['players']} players for {report['seconds']:.0f} s, pauses of {wanted['think']:g} s on average; "
        f"{wanted['samples']:,} samples of {report['pictures']:,} pictures in {wanted['database']}, "
        f"made up in {report['filled_in']:.0f} s; {wanted['workers']} worker(s)",
        f"{'request':<28} {'number':>7} {'errors':>6} {'median':>8} {'95 %':>8} {'99 %':>8}   (milliseconds)",
    ]
    for row in report["routes"] + [row for row in report["login"] if row["route"] != "all"]:
        times = " ".join(f"{row[name]:>8.1f}" for name in ("median", "p95", "p99"))
        lines.append(f"{row['route']:<28} {row['requests']:>7,} {row['errors']:>6} {times}")
    if used is not None and used["milliseconds_each"] is not None:
        lines.append(
            f"server: {used['milliseconds_each']:.1f} ms of processor time a request, "
            f"{used['processor_seconds'] / report['seconds']:.2f} cores in use, {used['megabytes']:.0f} MB of memory"
        )
    if report["load_average"] is not None:
        lines.append(
            f"load of the machine at the end: {report['load_average']:.1f} on {report['cores']} cores; "
            "times on a machine that is busy with other work are longer"
        )
    lines += [f"error: {line}" for line in report["first_errors"]]
    lines += [f"contradiction: {line}" for line in report["contradictions"][:10]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
