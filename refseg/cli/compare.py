"""`refseg compare A B`: is the second run better than the first, by how much, on what, and where do they differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.data import ReferringDataset
    from refseg.evaluation.compare import Report, Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("first", metavar="A.jsonl", help="rows of refseg evaluate --rows, or predictions")
    parser.add_argument("second", metavar="B.jsonl", help="the other run, on the same sentences")
    parser.add_argument("--targets", metavar="T.jsonl", help="the predictions' targets, as refseg score takes them")
    parser.add_argument("--data", metavar="ROOT", help="the data set: targets for predictions, and pictures")
    parser.add_argument("--dataset", metavar="NAME", help="which data set under ROOT")
    parser.add_argument("--split", metavar="NAME", help="which split of it")
    parser.add_argument("--protocol", metavar="NAME", help="how to count (default: what the files name, else native)")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="draws of pictures (default 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default 0)")
    parser.add_argument("--top", type=int, default=12, metavar="N", help="how many sentences to show (default 12)")
    parser.add_argument(
        "-o", "--output", metavar="DIR",
        help="write compare.json, differences.jsonl, plots and, from predictions with --data, pictures",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison, write the files."""
    from refseg.evaluation.compare import compare_runs, load_run, protocol_of
    from refseg.evaluation.score import read_lines
    from refseg.metrics import RecordsError, get_protocol
    from refseg.metrics.records import Problem

    protocol = get_protocol(arguments.protocol or protocol_of((arguments.first, arguments.second)))
    if arguments.resamples < 1 or arguments.top < 0:
        raise RefsegError("--resamples is at least 1 and --top at least 0")
    if arguments.output and Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise RefsegError(f"{arguments.output} is a file; -o wants a folder")
    names = _names(arguments.first, arguments.second)
    try:
        data = _data(arguments)
        targets: Sequence[Any] | None = None if data is None else list(data)
        if arguments.targets:
            problems: list[Problem] = []
            targets = read_lines(arguments.targets, problems)
            if problems:
                raise RecordsError(problems)
        first = load_run(arguments.first, protocol, targets, names[0])
        second = load_run(arguments.second, protocol, targets, names[1])
    except RecordsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise RefsegError(f"{len(error.problems)} problems in the records, listed above; nothing compared") from None
    report = compare_runs(first, second, protocol, resamples=arguments.resamples, seed=arguments.seed)
    print_report(report, arguments.top)
    if arguments.output:
        for file in write_report(report, (first, second), Path(arguments.output), data, arguments.top):
            print(f"written: {file}")
    return 0


def print_report(report: Report, top: int = 12) -> None:
    """The comparison as tables: metrics, kinds, and the sentences on which the runs differ most."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    one, two = report.names
    (better, equal, worse), (mended, broken) = report.wins, report.verdicts
    console.print(Text(f"{one} -> {two}, protocol {report.protocol.name}: {report.protocol.title}"))
    console.print(
        Text(
            f"{report.sentences:,} sentences, {report.pictures:,} pictures; {two} is better on {better:,}, equal on "
            f"{equal:,}, worse on {worse:,}; none verdicts: {mended:,} mended, {broken:,} broken"
        )
    )
    if report.pictures == report.sentences:
        console.print(Text("no two sentences share a picture (or the rows name none): sentences are drawn one by one"))
    table = _table("metric", f"{one} %", f"{two} %", "difference", "95 % interval", "p")
    for name, found in report.metrics.items():
        interval = found.difference
        table.add_row(
            name,
            _percent(found.first),
            _percent(found.second),
            _signed(interval.value),
            f"{_signed(interval.low)} .. {_signed(interval.high)}",
            f"{found.p_value:.4f}",
        )
    _right(table, 1)
    console.print(table)
    metric = next(iter(name for name in report.metrics if name in ("gIoU", "mIoU")))
    for by, groups in report.groups.items():
        table = _table(by, "sentences", *(f"{name} {metric} %" for name in report.names), "difference")
        for group, values in groups.items():
            if metric in values:
                first, second, change = values[metric]
                table.add_row(
                    Text(group), f"{values['sentences']:,.0f}", _percent(first), _percent(second), _signed(change)
                )
        _right(table, 1)
        console.print(table)
    changed = [difference for difference in report.differences if difference.change][:top]
    if changed:
        table = _table("id", "sentence", "kind", one, two, "change", title="where they differ most")
        for entry in changed:
            table.add_row(
                Text(entry.id),
                Text(entry.text),
                Text(entry.kind or ""),
                _value(entry.first, entry.first_says_none),
                _value(entry.second, entry.second_says_none),
                f"{entry.change:+.3f}",
            )
        _right(table, 3)
        console.print(table)


def write_report(
    report: Report, runs: tuple[Run, Run], folder: Path, data: ReferringDataset | None, top: int
) -> list[Path]:
    """compare.json, differences.jsonl, and what else the inputs allow; returns the files."""
    import json
    from importlib.util import find_spec

    from refseg.files import write_text

    content = report.to_dict()
    lines = content.pop("differences")
    files = [
        write_text(folder / "compare.json", json.dumps(content, indent=1, allow_nan=False) + "\n"),
        write_text(
            folder / "differences.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        ),
    ]
    if find_spec("matplotlib"):
        from refseg.evaluation.plots import save_plots

        files += save_plots({run.name: run.rows for run in runs}, folder / "plots", report.protocol)
    else:
        print('no plots: pip install "refseg[plots]"', file=sys.stderr)
    if data is not None and all(run.predictions for run in runs):
        from refseg.evaluation.compare_pictures import write_pictures

        files += write_pictures(report, runs, data, folder / "pictures", top)
    return files


def _data(arguments: argparse.Namespace) -> ReferringDataset | None:
    if not arguments.data:
        if arguments.dataset or arguments.split:
            raise RefsegError("--dataset and --split choose a part of --data ROOT, which is not given")
        return None
    from refseg.data import open_dataset

    return open_dataset(arguments.data, arguments.dataset, arguments.split)


def _names(first: str, second: str) -> tuple[str, str]:
    """Short names of two files that tell them apart."""
    one, two = Path(first), Path(second)
    if one.stem != two.stem:
        return one.stem, two.stem
    if one.parent.name != two.parent.name:
        return one.parent.name or one.stem, two.parent.name or two.stem
    return "first", "second"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"


def _signed(value: float) -> str:
    return "-" if value != value else f"{100 * value:+.2f}"


def _value(iou: float, says_none: bool) -> str:
    return f"{iou:.3f}{' none' if says_none else ''}"


def _table(*headers: str, title: str | None = None):  # type: ignore[no-untyped-def]
    """A table whose headers are text, not markup."""
    from rich.table import Column, Table
    from rich.text import Text

    return Table(*(Column(Text(header)) for header in headers), title=title)


def _right(table, start: int) -> None:  # type: ignore[no-untyped-def]
    for column in table.columns[start:]:
        column.justify = "right"
