"""`refseg score`: predictions from any system against targets, under a named protocol. No model, no torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refseg.errors import RefsegError
from refseg.metrics import PROTOCOLS, RecordsError, Row, Score, get_protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--predictions", metavar="P.jsonl", help="a JSON object a line: id, mask, no_target, boxes, scores"
    )
    parser.add_argument("--targets", metavar="T.jsonl", help="one object a line: id, mask, no_target, boxes")
    parser.add_argument(
        "--rows", metavar="R.jsonl", nargs="+", help="instead of both: what refseg evaluate --rows saved"
    )
    parser.add_argument("--protocol", default="native", help=f"one of {', '.join(PROTOCOLS)} (default native)")
    parser.add_argument("--boundary", action="store_true", help="also boundary IoU (slow)")
    parser.add_argument("--all-protocols", action="store_true", help="print the same masks under every mask protocol")
    parser.add_argument("-o", "--output", metavar="OUT.json", help="write metrics, protocol, counts and breakdowns")
    parser.add_argument(
        "--plots", metavar="DIR", help="draw IoU histogram, bars by kind, reliability of none, coverage"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics, write the file."""
    from refseg.evaluation.score import all_protocols, protocol_table, score_files, score_rows, write_score

    if arguments.output and Path(arguments.output).is_dir():
        raise RefsegError(f"{arguments.output} is a folder; -o wants a file name")
    if arguments.plots and (Path(arguments.plots).is_file() or get_protocol(arguments.protocol).task != "masks"):
        raise RefsegError("--plots wants a folder, and a protocol of masks")
    both = arguments.predictions and arguments.targets
    if bool(arguments.rows) == bool(arguments.predictions or arguments.targets) or not (both or arguments.rows):
        raise RefsegError("give --predictions with --targets, or --rows alone")
    try:
        if arguments.all_protocols:
            if not both:
                raise RefsegError("--all-protocols wants --predictions and --targets")
            print(protocol_table(all_protocols(arguments.predictions, arguments.targets)))
            return 0
        if arguments.rows:
            result = score_rows(arguments.rows, arguments.protocol)
        else:
            result = score_files(
                arguments.predictions, arguments.targets, arguments.protocol, boundary=arguments.boundary
            )
    except RecordsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise RefsegError(f"{len(error.problems)} problems in the records, listed above; nothing was scored") from None
    print_score(result)
    if arguments.output:
        write_score(result, arguments.output)
        print(f"written to {arguments.output}")
    if arguments.plots:
        from refseg.evaluation.plots import save_plots

        name = Path(arguments.predictions or arguments.rows[0]).stem
        for file in save_plots({name: [Row.from_dict(row) for row in result.rows]}, arguments.plots, result.protocol):
            print(f"written to {file}")
    return 0


def print_score(result: Score) -> None:
    """The metrics and the main breakdowns (files hold all of them), with the protocol's name and source."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    protocol = result.protocol
    console.print(f"protocol {protocol.name}: {protocol.title}", markup=False)
    console.print(f"source: {protocol.source}", markup=False)
    console.print(
        ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in result.counts.items()), markup=False
    )
    table = Table("metric", "%")
    table.columns[1].justify = "right"
    for name, value in result.items():
        mark = " *" if name == protocol.headline else ""
        table.add_row(name + mark, "-" if value != value else f"{100 * value:.2f}")
    console.print(table)
    for by in ("kind", "targets", "length"):
        groups = result.breakdowns.get(by, {})
        if not groups:
            continue
        columns = [name for name in ("gIoU", "cIoU", "Pr@0.5", "N_acc", "T_acc") if name in result]
        table = Table(by, "sentences", *columns)
        for column in table.columns[1:]:
            column.justify = "right"
        for group, metrics in groups.items():
            cells = ["-" if metrics[name] != metrics[name] else f"{100 * metrics[name]:.2f}" for name in columns]
            table.add_row(group, f"{metrics['sentences']:,.0f}", *cells)
        console.print(table)
