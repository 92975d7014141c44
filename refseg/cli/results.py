"""`refseg results`: the published numbers of the field's papers next to those measured with this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refseg.evaluation.leaderboard import Board, Result

SHOWN = ("cIoU", "mIoU", "IoU?", "gIoU", "N_acc", "T_acc", "Acc@0.5", "J&F", "pointing", "F1")
"""Metrics shown when none is asked for."""

CHOOSE, SHOW = "which numbers", "how to show them"
"""Groups of the help page."""

app = App()


@app.command("results")
def results(
    system: Annotated[list[str] | None, opt("NAME", "ReLA, VLT, LAVT, ... (may be repeated)", group=CHOOSE)] = None,
    dataset: Annotated[str | None, opt("NAME", "gRefCOCO, RefCOCO, RefCOCO+, RefCOCOg, ...", group=CHOOSE)] = None,
    split: options.Split = None,
    partition: Annotated[str | None, opt("NAME", "who split it: umd or google (RefCOCOg)", group=CHOOSE)] = None,
    metric: Annotated[str | None, opt("NAME", "cIoU, mIoU, gIoU, Pr@0.5, N_acc, parameters, ...", group=CHOOSE)] = None,
    protocol: options.OptionalProtocol = None,
    ablations: Annotated[bool, flag("--ablations", "also ablated forms of a system", CHOOSE)] = False,
    subsets: Annotated[bool, flag("--subsets", "also parts of splits (lengths of expressions)", CHOOSE)] = False,
    second_hand: Annotated[bool, flag("--second-hand", "also numbers not read in their own paper", CHOOSE)] = False,
    measured: Annotated[
        list[Path] | None, opt("SCORE.json...", "files of evaluate --json or score -o, or folders", group=CHOOSE)
    ] = None,
    mix_iou: Annotated[bool, flag("--mix-iou", "mean and cumulative IoU in one column", SHOW)] = False,
    markdown: Annotated[bool, flag("--markdown", "print Markdown", SHOW)] = False,
    sources: Annotated[bool, flag("--sources", "list where each number stands", SHOW)] = False,
    disagreements: Annotated[bool, flag("--disagreements", "list numbers that differ by source", SHOW)] = False,
    csv: Annotated[Path | None, opt("FILE.csv", "write the numbers, one a line (-: print them)", group=SHOW)] = None,
    plot: Annotated[Path | None, opt("FILE.png", "draw bars of one data set, split and metric", group=SHOW)] = None,
) -> None:
    """Print the published numbers of the field's papers next to measured ones, a table for each data set."""
    from refseg.evaluation import leaderboard
    from refseg.evaluation.leaderboard.board import Board, to_csv
    from refseg.files import write_text

    options.check_file(csv, "--csv")
    options.check_file(plot, "--plot")
    chosen = leaderboard.select(
        [*leaderboard.load_published(), *leaderboard.load_measured(measured or [])],
        system=system,
        dataset=dataset,
        split=split,
        partition=partition,
        metric=metric,
        protocol=protocol,
        ablations=ablations or disagreements,
        subsets=subsets,
        second_hand=second_hand,
    )
    if not chosen:
        raise RefsegError("no number matches all of these filters; leave one out, or add --ablations, --subsets")
    if disagreements:
        _print_disagreements(leaderboard.disagreements(chosen))
        return
    if str(csv) == "-":
        sys.stdout.write(to_csv(chosen))
        return
    shown = chosen if metric else [result for result in chosen if result.metric in SHOWN] or chosen
    if metric:
        # Columns keep measures apart, but who asks for one metric called IoU wants one column.
        Board(shown, mix_iou).check()
    for name in dict.fromkeys(sorted((r.dataset for r in shown), key=lambda name: (not name, name.lower()))):
        _print_board(Board([r for r in shown if r.dataset == name], mix_iou), name, markdown)
    if sources:
        _print_sources(shown)
    if csv:
        write_text(csv, to_csv(chosen))
        print(f"{len(chosen):,} numbers written to {csv}")
    if plot:
        _plot(Board(shown, mix_iou), plot)
        print(f"plot written to {plot}")


def _print_board(board: Board, dataset: str, markdown: bool) -> None:
    title = dataset or "size and cost"
    if not dataset and any(result.origin == "measured" for result in board.results):
        title = 'data set not named (write "dataset" and "split" into the score file)'
    if markdown:
        print(f"### {title}\n\n{board.markdown()}")
        for remark in board.remarks():
            print(f"- {remark}")
        print()
        return
    header, *lines = board.table()
    print_table([name.removeprefix(f"{dataset} ") for name in header], lines, title=title, left=3)
    for remark in board.remarks():
        print(remark)


def _print_sources(results: Sequence[Result]) -> None:
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


def _print_disagreements(groups: Sequence[Sequence[Result]]) -> None:
    from refseg.evaluation.leaderboard.board import column_name

    for group in groups:
        places: dict[str, list[str]] = {}
        for result in group:
            places.setdefault(result.printed_value, []).append(result.source)
        values = "; ".join(f"{value} ({', '.join(dict.fromkeys(sources))})" for value, sources in places.items())
        name = ", ".join(filter(None, (group[0].system, group[0].configuration)))
        print(f"{name}, {column_name((*group[0].place(), group[0].metric))}: {values}")
    print(f"{len(groups)} questions have more than one answer")


def _plot(board: Board, path: Path) -> None:
    from refseg.evaluation.leaderboard.board import column_name
    from refseg.evaluation.plots import results_bars, save_figure

    if len(board.columns) != 1:
        names = [column_name(column) for column in board.columns]
        raise RefsegError(
            f"--plot draws one column, but {len(names)} match ({', '.join([*names[:4], '...'][: len(names)])}); "
            "narrow it with --dataset, --split, --partition and --metric"
        )
    save_figure(results_bars(board, board.columns[0]), path)
