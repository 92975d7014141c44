"""`refseg benchmark`: what the documents' tables of times are made with, answering and training."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError, did_you_mean
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.precision import Precision
    from refseg.studies.benchmark import Report
    from refseg.studies.training_speed import TrainingReport

app = App()


@app.command("benchmark")
def benchmark(
    model: Annotated[
        str | None,
        arg("MODEL", "weights, or a preset for random weights (default: instances)", names=options.model_names),
    ] = None,
    device: options.Device = "cpu",
    precision: Annotated[str, opt("LIST", "with commas: float32, bfloat16", group=options.MODEL)] = "float32",
    pictures: Annotated[
        str | None, opt("LIST", "with commas: pictures in one call", show_default="1; with --train 8")
    ] = None,
    sentences: Annotated[
        str | None, opt("LIST", "with commas: expressions a picture", show_default="1,4,16; with --train 6")
    ] = None,
    device_map: options.DeviceMap = None,
    compile: options.Compile = False,
    rounds: Annotated[int, opt("N", "how often each case is timed")] = 5,
    threads: options.Threads = None,
    reference: Annotated[bool, flag("--reference", "also time ReLA as its published code computes it")] = False,
    train: Annotated[
        bool,
        flag("--train", "a step of training, of a preset; without MODEL of every small system and of ReLA with Swin-T"),
    ] = False,
    size: Annotated[int | None, opt("PIXELS", "with --train: side of the input (default: the preset's)")] = None,
    frozen: Annotated[
        bool, flag("--frozen", "with --train: pictures' encoders stay as they are, and give maps that are kept")
    ] = False,
    json: Annotated[Path | None, options.json_file("all times")] = None,
) -> None:
    """Measure how long a model's stages take, by precision, pictures and expressions, answering or (--train) learning.

    With --train the columns are the milliseconds of a step's parts, expressions a second, and the share of what a plain
    matrix product reaches on this machine.
    """
    options.check_file(json, "--json")
    from rich.console import Console

    if (size is not None or frozen) and not train:
        raise RefsegError("benchmark: --size and --frozen go with --train")
    _use_threads(threads)
    with Console(stderr=True).status("preparing") as status:
        if train:
            if device_map is not None or compile:
                raise RefsegError("benchmark: --device-map and --compile are for answering, not for --train")
            from refseg.studies.training_speed import TrainingOptions, run_training_benchmark

            training = run_training_benchmark(
                TrainingOptions(
                    models=() if model is None else (_preset(model),),
                    precisions=_precisions(precision),
                    pictures=_number("--pictures", pictures or "8"),
                    sentences=_number("--sentences", sentences or "6"),
                    size=size,
                    frozen=frozen,
                    reference=reference,
                    rounds=rounds,
                    device=device,
                ),
                status.update,
            )
        else:
            from refseg.studies.benchmark import Options, run_benchmark

            report = run_benchmark(
                Options(
                    model=DEFAULT_MODEL if model is None else model,
                    device=device,
                    precisions=_precisions(precision),
                    pictures=_numbers("--pictures", "1" if pictures is None else pictures),
                    sentences=_numbers("--sentences", "1,4,16" if sentences is None else sentences),
                    rounds=rounds,
                    reference=reference,
                    device_map=device_map,
                    compile=compile,
                ),
                status.update,
            )
    if train:
        _print_training(training)
    else:
        _print_benchmark(report)
    if json:
        write_text(json, json_format.dumps((training if train else report).to_dict(), indent=1) + "\n")


def _precisions(text: str) -> tuple[Precision, ...]:
    from refseg.precision import check_precision

    return tuple(check_precision(word) for word in _words(text))


def _preset(name: str) -> str:
    """The preset's name as it is listed; raises `RefsegError` with the ones alike for any other."""
    from refseg.models import preset_names

    known = name.lower().replace("_", "-")
    if known not in preset_names():
        raise RefsegError(f"benchmark --train: {name!r} is no preset; {did_you_mean(known, preset_names())}")
    return known


def _number(name: str, text: str) -> int:
    numbers = _numbers(name, text)
    if len(numbers) != 1:
        raise RefsegError(f"{name} {text!r}: with --train one whole number is wanted")
    return numbers[0]


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError as error:
        raise RefsegError(f"{name} {text!r}: whole numbers with commas between are wanted, such as 1,4,16") from error


def _print_benchmark(report: Report) -> None:
    from refseg.studies.benchmark import STAGES

    rows = []
    for case in report.cases:
        times = case.summary()["median"]
        rows.append(
            (
                case.name,
                str(case.pictures),
                str(case.sentences),
                *(f"{times[stage] * 1000:.1f}" for stage in (*STAGES, "total")),
                f"{report.ratio(case, report.baseline(case)):.3f}",
                f"{report.ratio(case, report.single(case)):.2f}",
                f"{case.agreement['iou']:.4f}",
            )
        )
    names = ("post" if stage == "post-processing" else stage for stage in STAGES)
    machine = report.machine
    print_table(
        ("case", "pictures", "expressions", *names, "total", "ratio", "growth", "IoU"),
        rows,
        title=f"{report.options.model} ({report.weights} weights) on {machine['device']} with {machine['threads']} "
        f"threads, torch {machine['torch']}: median milliseconds of {report.options.rounds} rounds",
    )
    print(
        "ratio: time by that of the first case with as many pictures and expressions; growth: by that of the case with "
        "the fewest expressions; IoU: overlap of the masks with the first case's"
    )


def _print_training(report: TrainingReport) -> None:
    from statistics import median

    from refseg.studies.training_speed import STAGES

    rows = []
    for case in report.cases:
        ratio = report.reference_ratio(case)
        rows.append(
            (
                case.model + (" frozen" if case.frozen else ""),
                case.name,
                str(case.size),
                *(f"{median(case.stages[stage]) * 1000:.0f}" for stage in STAGES),
                f"{median(case.totals) * 1000:.0f}",
                f"{case.speed:.1f}",
                f"{report.share(case):.0%}",
                *((f"{ratio:.2f}" if ratio else "",) if report.options.reference else ()),
            )
        )
    machine, given = report.machine, report.options
    peaks = ", ".join(f"{precision} {speed / 1e9:.0f}" for precision, speed in report.peaks.items())
    print_table(
        ("model", "case", "size", *STAGES, "total", "expr/s", "peak", *(("faster",) if given.reference else ())),
        rows,
        title=f"a step of training, {given.pictures} pictures x {given.sentences} expressions, on {machine['device']} "
        f"with {machine['threads']} threads, torch {machine['torch']}: median milliseconds of {given.rounds} rounds",
    )
    print(f"peak: share of this machine's square matrix product in the same precision (GFLOP/s: {peaks})")
    if given.reference:
        print("faster: time of the plain structure by this one's, in the same precision; the median over the rounds")
