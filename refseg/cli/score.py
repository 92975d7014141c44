"""`refseg score` and `refseg compare`: saved predictions counted, and two runs side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import percent, print_table
from refseg.errors import RefsegError

if TYPE_CHECKING:
    from refseg.data import ReferringDataset
    from refseg.evaluation.compare import Report, Run
    from refseg.metrics import Score

app = App()

Targets = Annotated[Path | None, opt("T.jsonl", "one object a line: id, mask, no_target, boxes", group=options.DATA)]
Resamples = Annotated[int, opt("N", "draws of pictures", check=options.at_least(1), group=options.COUNTING)]


def _describe_protocols() -> tuple[str, list[tuple[str, str]]]:
    from refseg.metrics import PROTOCOLS

    return "protocols", [(name, entry.title) for name, entry in PROTOCOLS.items()]


@app.command("score", more=_describe_protocols)
def score(
    predictions: Annotated[
        Path | None, opt("P.jsonl", "one object a line: id, mask, no_target, boxes", group=options.DATA)
    ] = None,
    targets: Targets = None,
    rows: Annotated[
        list[Path] | None, opt("R.jsonl...", "instead of both: of evaluate --rows", group=options.DATA)
    ] = None,
    protocol: options.Protocol = "native",
    boundary: options.Boundary = False,
    all_protocols: Annotated[
        bool, flag("--all-protocols", "print every mask protocol", group=options.COUNTING)
    ] = False,
    output: Annotated[Path | None, options.output("metrics, protocol, counts and breakdowns", "FILE.json")] = None,
    plots: Annotated[
        Path | None, opt("DIR", "draw histogram, kinds, reliability of none, coverage", group=options.WRITING)
    ] = None,
) -> None:
    """Score saved predictions of any system against targets, under a named protocol."""
    from refseg.evaluation import score as scoring
    from refseg.metrics import Row, get_protocol

    options.check_file(output, "-o")
    if plots and (plots.is_file() or get_protocol(protocol).task != "masks"):
        raise RefsegError("--plots wants a folder, and a protocol of masks")
    if bool(rows) == bool(predictions or targets) or bool(predictions) != bool(targets):
        raise RefsegError("give --predictions with --targets, or --rows alone")
    with _problems_listed("nothing was scored"):
        if predictions is None or targets is None:
            if all_protocols:
                raise RefsegError("--all-protocols wants --predictions and --targets")
            result = scoring.score_rows(rows or [], protocol)
        elif all_protocols:
            print(scoring.protocol_table(scoring.all_protocols(predictions, targets)))
            return
        else:
            result = scoring.score_files(predictions, targets, protocol, boundary=boundary)
    print_score(result)
    if output:
        scoring.write_score(result, output)
        print(f"written to {output}")
    if plots:
        from refseg.evaluation.plots import save_plots

        name = (predictions or (rows or [])[0]).stem
        for file in save_plots({name: [Row.from_dict(row) for row in result.rows]}, plots, result.protocol):
            print(f"written to {file}")


@contextmanager
def _problems_listed(outcome: str) -> Iterator[None]:
    """Every problem of records on a line of its own, then the error that ends the command."""
    from refseg.metrics import RecordsError

    try:
        yield
    except RecordsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        raise RefsegError(f"{len(error.problems)} problems in the records, listed above; {outcome}") from None


def print_score(result: Score) -> None:
    """The metrics and the main breakdowns (files hold all of them), with the protocol's name and source."""
    protocol = result.protocol
    print(f"protocol {protocol.name}: {protocol.title}")
    print(f"source: {protocol.source}")
    print(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in result.counts.items()))
    print_table(
        ("metric", "%"),
        [(name + (" *" if name == protocol.headline else ""), percent(value)) for name, value in result.items()],
    )
    columns = [name for name in ("gIoU", "cIoU", "Pr@0.5", "N_acc", "T_acc", "J&F", "J", "F") if name in result]
    for by in ("kind", "targets", "length", "annotator"):
        groups = result.breakdowns.get(by, {})
        if groups:
            print_table(
                (by, "expressions", *columns),
                [
                    (group, f"{metrics['sentences']:,.0f}", *(percent(metrics[name]) for name in columns))
                    for group, metrics in groups.items()
                ],
            )


@app.command("compare")
def compare(
    first: Annotated[Path, arg("A.jsonl", "rows of refseg evaluate --rows, or predictions")],
    second: Annotated[Path, arg("B.jsonl", "the other run, on the same expressions")],
    targets: Targets = None,
    data: options.OptionalData = None,
    dataset: options.Dataset = None,
    split: options.Split = None,
    protocol: options.OptionalProtocol = None,
    resamples: Resamples = 2000,
    seed: Annotated[int, options.seed("of the draws")] = 0,
    top: Annotated[int, opt("N", "how many expressions to show", check=options.at_least(0))] = 12,
    output: Annotated[
        Path | None, options.output("compare.json, differences.jsonl, plots, pictures (with --data)")
    ] = None,
) -> None:
    """Compare two runs: is the second better than the first, by how much, on what, and where do they differ.

    Intervals and p values come from drawing pictures again and again.
    """
    from refseg.evaluation.compare import compare_runs, load_run, protocol_of
    from refseg.evaluation.score import read_lines
    from refseg.metrics import RecordsError, get_protocol
    from refseg.metrics.inputs import RecordProblem

    chosen = get_protocol(protocol or protocol_of((first, second)))
    options.check_folder(output)
    names = _names(first, second)
    with _problems_listed("nothing compared"):
        samples = _data(data, dataset, split)
        expected: list | None = None if samples is None else list(samples)
        if targets:
            problems: list[RecordProblem] = []
            expected = read_lines(targets, problems)
            if problems:
                raise RecordsError(problems)
        runs = load_run(first, chosen, expected, names[0]), load_run(second, chosen, expected, names[1])
    report = compare_runs(*runs, chosen, resamples=resamples, seed=seed)
    print_report(report, top)
    if output:
        for file in write_report(report, runs, output, samples, top):
            print(f"written: {file}")


def print_report(report: Report, top: int = 12) -> None:
    """The comparison as tables: metrics, kinds, and the expressions on which the runs differ most."""
    one, two = report.names
    (better, equal, worse), (mended, broken) = report.wins, report.no_target_decisions
    print(f"{one} -> {two}, protocol {report.protocol.name}: {report.protocol.title}")
    print(
        f"{report.sentences:,} expressions, {report.pictures:,} pictures; {two} is better on {better:,}, equal on "
        f"{equal:,}, worse on {worse:,}; no-target decisions: {mended:,} mended, {broken:,} broken"
    )
    if report.pictures == report.sentences:
        print("no two expressions share a picture (or the rows name none): expressions are drawn one by one")
    print_table(
        ("metric", f"{one} %", f"{two} %", "difference", "95 % interval", "p"),
        [
            (
                name,
                percent(metric.first),
                percent(metric.second),
                percent(metric.difference.value, "+.2f"),
                f"{percent(metric.difference.low, '+.2f')} .. {percent(metric.difference.high, '+.2f')}",
                f"{metric.p_value:.4f}",
            )
            for name, metric in report.metrics.items()
        ],
    )
    headline = next(name for name in report.metrics if name in ("gIoU", "mIoU"))
    for by, groups in report.groups.items():
        print_table(
            (by, "expressions", f"{one} {headline} %", f"{two} {headline} %", "difference"),
            [
                (
                    group,
                    f"{values['sentences']:,.0f}",
                    *map(percent, values[headline][:2]),
                    percent(values[headline][2], "+.2f"),
                )
                for group, values in groups.items()
                if headline in values
            ],
        )
    changed = [difference for difference in report.differences if difference.change][:top]
    if changed:
        print_table(
            ("id", "expression", "kind", one, two, "change"),
            [
                (
                    entry.id,
                    entry.text,
                    entry.kind or "",
                    f"{entry.first:.3f}{' none' if entry.first_says_none else ''}",
                    f"{entry.second:.3f}{' none' if entry.second_says_none else ''}",
                    f"{entry.change:+.3f}",
                )
                for entry in changed
            ],
            title="where they differ most",
            left=3,
        )


def write_report(
    report: Report, runs: tuple[Run, Run], folder: Path, data: ReferringDataset | None, top: int
) -> list[Path]:
    """compare.json, differences.jsonl, and what else the inputs allow; returns the files."""
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


def _data(data: Path | None, dataset: str | None, split: str | None) -> ReferringDataset | None:
    if data is None:
        if dataset or split:
            raise RefsegError("--dataset and --split choose a part of --data ROOT, which is not given")
        return None
    from refseg.data import open_dataset

    return open_dataset(data, dataset, split)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Short names of two files that tell them apart."""
    if first.stem != second.stem:
        return first.stem, second.stem
    if first.parent.name != second.parent.name:
        return first.parent.name or first.stem, second.parent.name or second.stem
    return "first", "second"
