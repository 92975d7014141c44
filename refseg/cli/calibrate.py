"""`refseg calibrate`: choose a model's thresholds on held-out pictures and store them with its weights."""

from __future__ import annotations

import argparse

from refseg.errors import RefsegError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("model", metavar="MODEL", help="model folder, whose config.json takes the thresholds")
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of the data set, or the one above")
    parser.add_argument("--dataset", help="name of the data set (default: the folder's only one)")
    parser.add_argument("--split", default="val", help="pictures that training did not see (default val)")
    parser.add_argument("--split-by", help="unc, google, umd: who made the split")
    parser.add_argument(
        "--target-accuracy",
        type=float,
        default=0.95,
        help="least T_acc to keep (default 0.95)",
    )
    parser.add_argument(
        "--slack",
        type=float,
        default=0.0,
        help="gIoU that may be given up to say none more rarely, for sentences wilder than these (default 0)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N sentences")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dry-run", action="store_true", help="print the thresholds, store nothing")


def run(arguments: argparse.Namespace) -> int:
    """Choose, print, store."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from refseg.data import open_dataset
    from refseg.evaluation.calibrate import calibrate, store
    from refseg.inference.checkpoint import locate_model
    from refseg.inference.predictor import load

    if arguments.limit is not None and arguments.limit < 1:
        raise RefsegError(f"--limit is at least 1, not {arguments.limit}")
    folder = locate_model(arguments.model)
    dataset = open_dataset(arguments.data, arguments.dataset, arguments.split, arguments.split_by)
    if arguments.limit is not None:
        dataset = dataset[: arguments.limit]
    segmenter = load(folder, device=arguments.device)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("calibrating", total=len(dataset))
        found = calibrate(
            segmenter.model,
            segmenter.tokenizer,
            dataset,
            target_accuracy=arguments.target_accuracy,
            slack=arguments.slack,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    table = Table("", "threshold", "no-target threshold", *found.chosen)
    for name, pair, metrics in (
        ("as it was born", (0.5, 0.5), found.plain),
        ("chosen", (found.threshold, found.no_target_threshold), found.chosen),
    ):
        table.add_row(name, *(f"{value:.2f}" for value in pair), *(f"{value:.4f}" for value in metrics.values()))
    Console().print(table)
    if not arguments.dry_run:
        store(folder, found, f"{dataset.name} {dataset.split}")
        print(f"stored in {folder / 'config.json'}")
    return 0
