"""`refseg benchmark` and `refseg systems`: what the documents' tables of times and of small systems are made with."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import RefsegError
from refseg.files import write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.studies.benchmark import Report
    from refseg.studies.claims import Entry

TIMES = "times.json"

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


def _setting(text: str) -> Any:
    return opt("N", text, group="the study")


@app.command("systems")
def systems(
    context: typer.Context,
    output: Annotated[Path, options.output("folder where runs are kept")] = Path("runs/systems"),
    only: Annotated[str | None, opt("NAMES", "systems and claims, with commas (default: all; see --list)")] = None,
    list: Annotated[bool, flag("--list", "print the names of systems and claims")] = False,
    recipes: Annotated[Path, opt("DIR", "folder with NAME-mini-scenes.toml")] = Path("recipes"),
    budget: Annotated[int, _setting("expressions that each system is trained on")] = 10_000,
    pictures_per_batch: Annotated[int, _setting("pictures in a batch")] = 8,
    sentences_per_picture: Annotated[int, _setting("expressions on each of them")] = 6,
    pool: Annotated[int, _setting("different scenes to learn from")] = 2000,
    size: Annotated[int, _setting("side of a scene in pixels")] = 192,
    test_pictures: Annotated[int, _setting("scenes that are scored")] = 50,
    seed: Annotated[int, _setting("of the scenes that are learnt from")] = 0,
    workers: Annotated[int, _setting("processes that prepare batches")] = 0,
    calibrate: Annotated[bool, flag("--calibrate", "choose thresholds on further scenes")] = False,
    no_timing: Annotated[bool, flag("--no-timing", "leave milliseconds out")] = False,
    markdown: Annotated[Path | None, opt("FILE", "the page (default: DIR/scenes.md)", group=options.WRITING)] = None,
    json: Annotated[Path | None, options.json_file("its numbers (default: DIR/scenes.json)")] = None,
    threads: options.Threads = None,
) -> int:
    """Train the small systems side by side on drawn scenes, and write the tables that compare them.

    Exits with 0 when every entry has its numbers, 1 when some failed (the page says which), 130 after a stop.
    """
    from refseg.studies.claims import CLAIMS, choose, entries_of
    from refseg.studies.claims import systems as all_systems
    from refseg.studies.report import to_dict, to_markdown
    from refseg.studies.side_by_side import Settings, Stopped, prepare, run_entries

    if list:
        for entry in all_systems():
            print(f"{entry.name:<18} system, {entry.recipe}")
        for claim in CLAIMS:
            print(f"{claim.name:<18} claim, {claim.title}: {', '.join(label for label, _ in claim.rows)}")
        return 0
    _use_threads(threads)
    chosen, claims = choose(_words(only or ""))
    if not recipes.is_dir():
        raise RefsegError(f"--recipes {recipes}: no such folder; it holds rela-mini-scenes.toml and the others")
    settings = Settings(
        budget=budget,
        pictures_per_batch=pictures_per_batch,
        sentences_per_picture=sentences_per_picture,
        pool=pool,
        size=size,
        seed=seed,
        test_pictures=test_pictures,
        thresholds="calibrated" if calibrate else "plain",
        workers=workers,
    )
    prepare(output, settings)
    try:
        results = run_entries(
            entries_of(chosen, claims), recipes, output, settings, lambda text: print(text, file=sys.stderr, flush=True)
        )
    except Stopped as stopped:
        print(f"refseg systems: {stopped}", file=sys.stderr)
        return 130
    times = _times(output, [] if no_timing else [entry for entry in chosen if "error" not in results[entry.name]])
    document = to_dict(settings, chosen, claims, results, times)
    page, numbers = markdown or output / "scenes.md", json or output / "scenes.json"
    write_text(numbers, json_format.dumps(document, indent=1) + "\n")
    write_text(page, to_markdown(document, _command(context)))
    print(f"{page} and {numbers}: {len(results)} entries")
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    for name, message in failed.items():
        print(f"failed: {name}: {message}", file=sys.stderr)
    return 1 if failed else 0


def _times(folder: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Times of the finished systems; measured again, all of them, when one is new."""
    from refseg.studies.side_by_side import time_entries

    path = folder / TIMES
    known = json_format.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if entries and any(entry.name not in known for entry in entries):
        known = time_entries(entries, folder)
        write_text(path, json_format.dumps(known, indent=1) + "\n")
    return {entry.name: known[entry.name] for entry in entries if entry.name in known}


def _command(context: typer.Context) -> str:
    """The command that makes the page, with what differs from the defaults."""
    words = ["refseg systems"]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if param.name in ("threads", "list") or value in (None, False) or value == param.default:
            continue
        words.append(param.opts[-1] if value is True else f"{param.opts[-1]} {value}")
    return " ".join(words)
