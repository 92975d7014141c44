"""`refseg results`: the published numbers of the field's papers next to those measured with this package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refseg.errors import RefsegError

SHOWN = ("cIoU", "mIoU", "IoU?", "gIoU", "N_acc", "T_acc", "Acc@0.5", "J&F", "pointing", "F1")
"""Metrics shown when none is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    choose = parser.add_argument_group("which numbers")
    choose.add_argument("--system", action="append", metavar="NAME", help="ReLA, VLT, LAVT, ... (may be repeated)")
    choose.add_argument("--dataset", metavar="NAME", help="gRefCOCO, RefCOCO, RefCOCO+, RefCOCOg, ReferIt, ...")
    choose.add_argument("--split", metavar="NAME", help="val, test, testA, testB")
    choose.add_argument("--partition", metavar="NAME", help="who split the data set: umd or google (RefCOCOg)")
    choose.add_argument("--metric", metavar="NAME", help="cIoU, mIoU, gIoU, Pr@0.5, N_acc, parameters, ...")
    choose.add_argument("--protocol", metavar="NAME", help="numbers that this named protocol reproduces")
    choose.add_argument("--ablations", action="store_true", help="also ablated forms of a system")
    choose.add_argument("--subsets", action="store_true", help="also parts of splits (sentence lengths)")
    choose.add_argument("--second-hand", action="store_true", help="also numbers that nobody read in their own paper")
    choose.add_argument(
        "--measured", nargs="+", default=[], metavar="SCORE.json",
        help="files of refseg evaluate --json or refseg score -o, or folders of them",
    )  # fmt: skip
    parser.add_argument(
        "--mix-iou", action="store_true", help="show mean and cumulative IoU in one column, each value with its measure"
    )
    show = parser.add_argument_group("how to show them")
    show.add_argument("--markdown", action="store_true", help="print Markdown")
    show.add_argument("--sources", action="store_true", help="list where each number stands")
    show.add_argument("--disagreements", action="store_true", help="list numbers that differ from source to source")
    show.add_argument(
        "--csv", metavar="OUT.csv", help="write the numbers, one a line with all that is known (-: print)"
    )
    show.add_argument("--plot", metavar="OUT.png", help="draw bars, best first (needs one data set, split and metric)")


def run(arguments: argparse.Namespace) -> int:
    """Print tables, one a data set; write what was asked for."""
    from refseg.evaluation.leaderboard import Board, disagreements, load_measured, load_published, select
    from refseg.evaluation.leaderboard.board import to_csv
    from refseg.files import write_text

    for option, path in (("--csv", arguments.csv), ("--plot", arguments.plot)):
        if path and path != "-" and Path(path).is_dir():
            raise RefsegError(f"{path} is a folder; {option} wants a file name")
    everything = [*load_published(), *load_measured(arguments.measured)]
    chosen = select(
        everything,
        system=arguments.system,
        dataset=arguments.dataset,
        split=arguments.split,
        partition=arguments.partition,
        metric=arguments.metric,
        protocol=arguments.protocol,
        ablations=arguments.ablations or arguments.disagreements,
        subsets=arguments.subsets,
        second_hand=arguments.second_hand,
    )
    if not chosen:
        raise RefsegError("no number matches all of these filters; leave one out, or add --ablations, --subsets")
    if arguments.disagreements:
        _print_disagreements(disagreements(chosen))
        return 0
    if arguments.csv == "-":
        sys.stdout.write(to_csv(chosen))
        return 0
    shown = chosen if arguments.metric else [result for result in chosen if result.metric in SHOWN] or chosen
    if arguments.metric:
        # Columns keep measures apart, but who asks for one metric called IoU wants one column.
        Board(shown, arguments.mix_iou).check()
    for dataset in dict.fromkeys(sorted((r.dataset for r in shown), key=lambda name: (not name, name.lower()))):
        _print_board(Board([r for r in shown if r.dataset == dataset], arguments.mix_iou), dataset, arguments)
    if arguments.sources:
        _print_sources(shown)
    if arguments.csv:
        write_text(arguments.csv, to_csv(chosen))
        print(f"{len(chosen):,} numbers written to {arguments.csv}")
    if arguments.plot:
        _plot(Board(shown, arguments.mix_iou), arguments.plot)
        print(f"plot written to {arguments.plot}")
    return 0


def _print_board(board, dataset: str, arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    if arguments.markdown:
        print(f"### {_title(board, dataset)}\n\n{board.markdown()}")
        for remark in board.remarks():
            print(f"- {remark}")
        print()
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    header, *lines = board.table()
    table = Table(
        *(Column(Text(name.removeprefix(f"{dataset} "))) for name in header), title=Text(_title(board, dataset))
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
    for remark in board.remarks():
        console.print(Text(remark))


def _title(board, dataset: str) -> str:  # type: ignore[no-untyped-def]
    if dataset:
        return dataset
    measured = any(result.origin == "measured" for result in board.results)
    return 'data set not told (write "dataset" and "split" into the score file)' if measured else "size and cost"


def _print_sources(results: list) -> None:
    from refseg.evaluation.leaderboard import documents

    places: dict[str, dict[str, None]] = {}
    for result in results:
        places.setdefault(result.document, {}).setdefault(result.table)
    for document, tables in places.items():
        known = documents().get(document)
        name = f"{known['authors']}: {known['title']}, {known['venue']}".lstrip(": ") if known else document
        print(f"{name}: {', '.join(filter(None, tables)) or 'measured here'}")
    for note in dict.fromkeys(f"{r.system}, {r.table}: {r.note}" for r in results if r.note and r.origin != "measured"):
        print(f"  {note}")


def _print_disagreements(groups: list) -> None:
    from refseg.evaluation.leaderboard.board import column_name

    for group in groups:
        places: dict[str, list[str]] = {}
        for result in group:
            places.setdefault(result.printed_value, []).append(result.source)
        values = "; ".join(f"{value} ({', '.join(dict.fromkeys(sources))})" for value, sources in places.items())
        name = ", ".join(filter(None, (group[0].system, group[0].configuration)))
        print(f"{name}, {column_name((*group[0].place(), group[0].metric))}: {values}")
    print(f"{len(groups)} questions have more than one answer")


def _plot(board, path: str) -> None:  # type: ignore[no-untyped-def]
    from refseg.evaluation.leaderboard.board import column_name
    from refseg.evaluation.plots import results_bars, save_figure

    if len(board.columns) != 1:
        names = [column_name(column) for column in board.columns]
        raise RefsegError(
            f"--plot draws one column, but {len(names)} match ({', '.join([*names[:4], '...'][: len(names)])}); "
            "narrow it with --dataset, --split, --partition and --metric"
        )
    save_figure(results_bars(board, board.columns[0]), path)
