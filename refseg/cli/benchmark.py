"""refseg benchmark: how long a model's stages take, by precision, pictures and sentences."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from refseg.errors import RefsegError
from refseg.files import write_text
from refseg.names import DEFAULT_MODEL

WIDTH = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        help="weights (packaged name, folder, hub id), or a preset for random weights; default: %(default)s",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps or auto; default: cpu")
    parser.add_argument("--precision", default="float32", help="comma list of float32, bfloat16; default: float32")
    parser.add_argument("--pictures", default="1", help="comma list: pictures in one call; default: 1")
    parser.add_argument("--sentences", default="1,4,16", help="comma list: sentences a picture; default: 1,4,16")
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is timed; default: 5")
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU; default: its own choice")
    parser.add_argument(
        "--reference", action="store_true", help="also time ReLA written plainly, as the published code computes it"
    )
    parser.add_argument("--json", metavar="OUT", help="write all times to this file")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    if arguments.json and Path(arguments.json).is_dir():
        raise RefsegError(f"{arguments.json} is a folder; --json wants a file")
    if arguments.threads is not None and arguments.threads < 1:
        raise RefsegError(f"--threads {arguments.threads}: 1 or more is wanted")
    import torch
    from rich.console import Console

    from refseg.inference.precision import check_precision
    from refseg.studies.benchmark import Options, run_benchmark

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    options = Options(
        model=arguments.model,
        device=arguments.device,
        precisions=tuple(check_precision(word) for word in _words(arguments.precision)),
        pictures=_numbers("--pictures", arguments.pictures),
        sentences=_numbers("--sentences", arguments.sentences),
        rounds=arguments.rounds,
        reference=arguments.reference,
    )
    console = Console(stderr=True)
    with console.status("preparing") as status:
        report = run_benchmark(options, status.update)
    _print(report)
    if arguments.json:
        write_text(arguments.json, json.dumps(report.to_dict(), indent=1) + "\n")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError as error:
        raise RefsegError(f"{name} {text!r}: whole numbers with commas between are wanted, such as 1,4,16") from error


def _print(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from refseg.studies.benchmark import STAGES

    machine = report.machine
    table = Table(
        title=f"{report.options.model} ({report.weights} weights) on {machine['device']} with {machine['threads']} "
        f"threads, torch {machine['torch']}: median milliseconds of {report.options.rounds} rounds"
    )
    names = ("post" if stage == "post-processing" else stage for stage in STAGES)
    for column in ("case", "pictures", "sentences", *names, "total", "ratio", "growth", "IoU"):
        table.add_column(column, justify="left" if column == "case" else "right", no_wrap=True)
    for case in report.cases:
        times = case.summary()["median"]
        table.add_row(
            case.name,
            str(case.pictures),
            str(case.sentences),
            *(f"{times[stage] * 1000:.1f}" for stage in (*STAGES, "total")),
            f"{report.ratio(case, report.baseline(case)):.3f}",
            f"{report.ratio(case, report.single(case)):.2f}",
            f"{case.agreement['iou']:.4f}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a file or pipe has no width of its own, and numbers must not be cut
    console.print(table)
    console.print(
        "ratio: time by that of the first case with as many pictures and sentences; growth: by that of the case with "
        "the fewest sentences; IoU: overlap of the masks with the first case's"
    )
