"""`refseg benchmark`: what the documents' tables of times are made with."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.studies.benchmark import Report

app = App()


@app.command("benchmark")
def benchmark(
    model: Annotated[
        str, arg("MODEL", "weights, or a preset for random weights", names=options.model_names)
    ] = DEFAULT_MODEL,
    device: options.Device = "cpu",
    precision: Annotated[str, opt("LIST", "with commas: float32, bfloat16", group=options.MODEL)] = "float32",
    pictures: Annotated[str, opt("LIST", "with commas: pictures in one call")] = "1",
    sentences: Annotated[str, opt("LIST", "with commas: expressions a picture")] = "1,4,16",
    device_map: options.DeviceMap = None,
    compile: options.Compile = False,
    rounds: Annotated[int, opt("N", "how often each case is timed")] = 5,
    threads: options.Threads = None,
    reference: Annotated[bool, flag("--reference", "also time ReLA as its published code computes it")] = False,
    json: Annotated[Path | None, options.json_file("all times")] = None,
) -> None:
    """Measure how long a model's stages take, by precision, pictures and expressions."""
    options.check_file(json, "--json")
    from rich.console import Console

    from refseg.precision import check_precision
    from refseg.studies.benchmark import Options, run_benchmark

    _use_threads(threads)
    settings = Options(
        model=model,
        device=device,
        precisions=tuple(check_precision(word) for word in _words(precision)),
        pictures=_numbers("--pictures", pictures),
        sentences=_numbers("--sentences", sentences),
        rounds=rounds,
        reference=reference,
        device_map=device_map,
        compile=compile,
    )
    with Console(stderr=True).status("preparing") as status:
        report = run_benchmark(settings, status.update)
    _print_benchmark(report)
    if json:
        write_text(json, json_format.dumps(report.to_dict(), indent=1) + "\n")


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
