"""`refseg evaluate`: score a model on a data set under a named protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from refseg.errors import RefsegError
from refseg.metrics import PROTOCOLS, Protocol, get_protocol
from refseg.names import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="packaged name, model folder or hub id (default %(default)s)"
    )
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of the data set, or the one above")
    parser.add_argument(
        "--dataset", help="refcoco, refcoco+, refcocog, grefcoco, scenes (default: the folder's only one)"
    )
    parser.add_argument("--split", required=True, help="val, testA, testB, ...")
    parser.add_argument("--split-by", help="unc, google, umd: who made the split")
    parser.add_argument(
        "--protocol",
        default="native",
        help="a protocol, several with commas, or all (a table of how far they differ): "
        + ", ".join(name for name, entry in PROTOCOLS.items() if entry.task == "masks"),
    )
    parser.add_argument("--threshold", type=float, help="native only: instead of the threshold stored with the weights")
    parser.add_argument("--no-target-threshold", type=float, help="native only: likewise for saying none")
    parser.add_argument("--json", metavar="OUT.json", help="write metrics, counts, the protocol and breakdowns")
    parser.add_argument(
        "--rows", metavar="OUT.jsonl", help="write a line a sentence; refseg score --rows counts them again"
    )
    parser.add_argument("--predictions", metavar="P.jsonl", help="write masks as refseg score reads them")
    parser.add_argument("--targets", metavar="T.jsonl", help="write the targets as refseg score reads them")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N sentences")
    parser.add_argument("--shard", default="0/1", metavar="K/N", help="only every N-th picture from the K-th on")
    parser.add_argument("--batch-size", type=int, default=16, help="sentences at once (default 16)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures (default 0: this one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--boundary", action="store_true", help="also boundary IoU (slow)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write. Every output file is whole or absent."""
    chosen = _protocols(arguments.protocol)
    shard = _shard(arguments.shard)
    if arguments.limit is not None and arguments.limit < 1:
        raise RefsegError(f"--limit is at least 1, not {arguments.limit}")
    for path in (arguments.json, arguments.rows, arguments.predictions, arguments.targets):
        if path and Path(path).is_dir():
            raise RefsegError(f"{path} is a folder; a file name is wanted here")

    from refseg.cli.score import print_score
    from refseg.data import open_dataset
    from refseg.evaluation.evaluate import Writers, evaluate_protocols
    from refseg.evaluation.score import protocol_table, write_score
    from refseg.inference.predictor import load

    dataset = open_dataset(arguments.data, arguments.dataset, arguments.split, arguments.split_by)
    if dataset.problems:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in dataset.problem_counts().items())
        print(f"the data set has problems ({kinds}); refseg data check {arguments.data} lists them", file=sys.stderr)
    if arguments.limit is not None:
        dataset = dataset[: arguments.limit]
    segmenter = load(arguments.model, device=arguments.device, precision=arguments.precision)
    protocols = [_with_thresholds(entry, arguments, segmenter.info) for entry in chosen]
    with ExitStack() as stack:
        writers = Writers(
            *(
                stack.enter_context(_json_lines(path)) if path else None
                for path in (arguments.rows, arguments.predictions, arguments.targets)
            )
        )
        scores = evaluate_protocols(
            segmenter.model,
            segmenter.tokenizer,
            dataset,
            protocols,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            precision=arguments.precision,
            boundary=arguments.boundary,
            shard=shard,
            writers=writers,
            progress=stack.enter_context(_progress()),
        )
    for problem in scores[0].problems:
        print(f"not evaluated: {problem}", file=sys.stderr)
    about = {
        "model": str(arguments.model),
        "data": {"dataset": dataset.name, "split": dataset.split, "split_by": dataset.split_by},
    }
    if len(scores) == 1:
        print_score(scores[0])
    else:
        print(protocol_table(scores))
    if arguments.json:
        if len(scores) == 1:
            write_score(scores[0], arguments.json, **about)
        else:
            from refseg.files import write_text

            document = {"protocols": {entry.protocol.name: entry.to_dict() for entry in scores}, **about}
            write_text(arguments.json, json.dumps(document, indent=1, allow_nan=False) + "\n")
        print(f"written to {arguments.json}")
    return 0


def _protocols(names: str) -> list[Protocol]:
    if names == "all":
        return [entry for entry in PROTOCOLS.values() if entry.task == "masks"]
    return [get_protocol(name.strip()) for name in names.split(",")]


def _with_thresholds(protocol: Protocol, arguments: argparse.Namespace, info: dict[str, Any]) -> Protocol:
    from dataclasses import replace

    from refseg.evaluation.evaluate import native_protocol

    given = {"threshold": arguments.threshold, "no_target_threshold": arguments.no_target_threshold}
    given = {name: value for name, value in given.items() if value is not None}
    if protocol.name != "native":
        if given:
            raise RefsegError(f"protocol {protocol.name} has its own thresholds; --threshold goes with native only")
        return protocol
    return replace(native_protocol(info), **given)


def _shard(text: str) -> tuple[int, int]:
    number, slash, total = text.partition("/")
    if not (slash and number.isdigit() and total.isdigit() and int(number) < int(total)):
        raise RefsegError(f"--shard is K/N with K from 0 to N - 1, such as 0/4, not {text!r}")
    return int(number), int(total)


@contextmanager
def _json_lines(path: str) -> Iterator[Any]:
    """A function that writes a line; the file appears when all are written."""
    from refseg.files import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        yield lambda values: handle.write(json.dumps(values, ensure_ascii=False) + "\n")


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on the error output, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("sentences"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("sentences", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
