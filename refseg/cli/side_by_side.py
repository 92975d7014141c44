"""`refseg studies side-by-side`: the small systems trained on the same scenes, and the papers' claims weighed."""

from __future__ import annotations

import json as json_format
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refseg.cli import instance_ablations, instance_report, options
from refseg.cli.app import App
from refseg.cli.options import flag, opt
from refseg.errors import RefsegError
from refseg.files import write_text

if TYPE_CHECKING:
    from refseg.studies.photographs import Photographs
    from refseg.studies.settings import Run, Settings

TIMES = "times.json"
PHOTOGRAPHS = "on photographs too"
WORKER = "REFSEG_STUDY_WORKER"
"""Set in the processes that `--processes` starts: they train, and leave the page to the first."""
_NOT_WRITTEN = ("threads", "list", "processes", "page_only", "kept")
"""Options that change nothing of the page, and do not stand in its command."""
_LOOK = 5.0
"""Seconds between looks at what those processes have finished."""

app = App("studies", "Experiments that compare systems, and what `instances` is measured with.")
app.add_typer(instance_report.app)
app.add_typer(instance_ablations.app)


def _setting(text: str, names: str = "N") -> Any:
    return opt(names, text, group="the study")


@app.command("side-by-side")
def side_by_side(
    context: typer.Context,
    output: Annotated[Path, options.output("folder where runs are kept")] = Path("runs/side-by-side"),
    only: Annotated[
        str | None, opt("NAMES", "systems and claims, with commas; or systems, claims, no-target (default: all)")
    ] = None,
    list: Annotated[bool, flag("--list", "print the names of systems and claims")] = False,
    recipes: Annotated[Path, opt("DIR", "folder with NAME-mini-scenes.toml")] = Path("recipes"),
    budget: Annotated[int, _setting("expressions that each system is trained on")] = 150_000,
    claim_budget: Annotated[int, _setting("expressions that each row of a claim is trained on (0: as systems)")] = 0,
    seeds: Annotated[int, _setting("trainings of each row of a claim")] = 3,
    pictures_per_batch: Annotated[int, _setting("pictures in a batch")] = 4,
    sentences_per_picture: Annotated[int, _setting("expressions on each of them")] = 6,
    pool: Annotated[int, _setting("different scenes to learn from")] = 6250,
    size: Annotated[int, _setting("side of a scene in pixels")] = 96,
    far: Annotated[bool, flag("--far", "scenes with more and smaller things, which want a larger size")] = False,
    encoder: Annotated[
        Literal["frozen", "tuned", "own"], _setting("the shared picture encoder, or each system its own", "KIND")
    ] = "frozen",
    encoder_passes: Annotated[int, _setting("passes over the scenes in which the shared encoder learns to see")] = 6,
    precision: Annotated[Literal["float32", "bfloat16"], _setting("of the forward pass", "NAME")] = "float32",
    test_pictures: Annotated[int, _setting("scenes that are scored")] = 100,
    curve: Annotated[int, _setting("evaluations during a training")] = 6,
    seed: Annotated[int, _setting("of the scenes that are learnt from")] = 0,
    workers: Annotated[int, _setting("processes that prepare batches of a training")] = 0,
    photographs: Annotated[
        Path | None, opt("DIR", "data set of photographs (split train) that systems learn from too", group=PHOTOGRAPHS)
    ] = None,
    photograph_test: Annotated[
        list[str] | None,
        opt("SET", "what is scored: NAME=DIR,dataset=NAME,split_by=WHO,split=NAME; again for more", group=PHOTOGRAPHS),
    ] = None,
    photograph_budget: Annotated[
        int, opt("N", "expressions of photographs for each system", group=PHOTOGRAPHS)
    ] = 30_000,
    photograph_size: Annotated[int, opt("N", "side of a photograph as the systems see it", group=PHOTOGRAPHS)] = 192,
    photograph_encoder: Annotated[
        str, opt("NAME", "weights whose picture encoder the systems take, frozen", group=PHOTOGRAPHS)
    ] = "rela-photo",
    kept: Annotated[
        Path | None, opt("DIR", "results of finished runs, small enough for a repository: taken from there, left there")
    ] = None,
    processes: Annotated[int, opt("N", "trainings at once, a process each")] = 1,
    calibrate: Annotated[bool, flag("--calibrate", "choose thresholds on further scenes")] = False,
    no_timing: Annotated[bool, flag("--no-timing", "leave milliseconds out")] = False,
    page_only: Annotated[bool, flag("--page-only", "train nothing: write the page of what is finished")] = False,
    markdown: Annotated[Path | None, opt("FILE", "the page (default: DIR/scenes.md)", group=options.WRITING)] = None,
    json: Annotated[Path | None, options.json_file("its numbers (default: DIR/scenes.json)")] = None,
    threads: options.Threads = None,
) -> int:
    """Train the small systems side by side on drawn scenes, and write the page that compares them.

    What is finished is kept, what was stopped goes on: the same command, at any time, also while another one is at it.
    Exits with 0 when every run has its numbers, 1 when some have not (the page says which), 130 after a stop.
    """
    from refseg.studies.claims import CLAIMS, choose, no_target_costs
    from refseg.studies.claims import systems as all_systems
    from refseg.studies.finished import SETTINGS, carry
    from refseg.studies.settings import Settings, runs_of
    from refseg.studies.side_by_side import Stopped, collect, prepare, run_all

    if list:
        for entry in all_systems():
            print(f"{entry.name:<18} system, {entry.recipe}")
        for claim in (*CLAIMS, *no_target_costs()):
            print(f"{claim.name:<18} claim, {claim.title}: {', '.join(label for label, _ in claim.rows)}")
        return 0
    if processes < 1:
        raise RefsegError(f"--processes {processes}: 1 or more is wanted")
    chosen, claims = choose([word.strip() for word in (only or "").split(",") if word.strip()])
    if not recipes.is_dir():
        raise RefsegError(f"--recipes {recipes}: no such folder; it holds rela-mini-scenes.toml and the others")
    settings = Settings(
        budget=budget,
        claim_budget=claim_budget,
        seeds=seeds,
        pictures_per_batch=pictures_per_batch,
        sentences_per_picture=sentences_per_picture,
        pool=pool,
        size=size,
        close_up=not far,
        encoder=encoder,
        encoder_passes=encoder_passes,
        precision=precision,
        test_pictures=test_pictures,
        curve=curve,
        seed=seed,
        thresholds="calibrated" if calibrate else "plain",
        workers=workers,
        photographs=_photographs(
            photographs, photograph_test or [], photograph_budget, photograph_size, photograph_encoder
        ),
    )
    _use_threads(threads or (1 if processes > 1 or WORKER in os.environ else None))
    runs = runs_of(chosen, claims, settings)
    if page_only and not any(folder and (folder / SETTINGS).exists() for folder in (output, kept)):
        raise RefsegError(f"--page-only: no study has begun in {output}; leave the option out to begin one")
    try:
        prepare(output, settings, recipes, _say, kept)
        if not page_only and processes == 1:
            run_all(runs, recipes, output, settings, _say)
        elif not page_only and not _run_processes(processes, runs, output):
            raise Stopped("the processes were stopped; the same command goes on from there")
    except Stopped as stopped:
        print(f"refseg studies side-by-side: {stopped}", file=sys.stderr)
        return 130
    if WORKER in os.environ:
        return 0
    if kept is not None:
        for name in carry(output, kept):
            _say(f"{name}: its result is kept in {kept}")
    results = collect(runs, recipes, output, settings)
    page, numbers = markdown or output / "scenes.md", json or output / "scenes.json"
    _write(page, numbers, settings, chosen, claims, results, output, no_timing, _command(context))
    print(f"{page} and {numbers}: {len(results)} runs")
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    for name, message in failed.items():
        print(f"no number: {name}: {message}", file=sys.stderr)
    return 1 if failed else 0


def _photographs(root: Path | None, tests: Sequence[str], budget: int, size: int, encoder: str) -> Photographs | None:
    from refseg.studies.photographs import Photographs, ScoredSet

    if root is None:
        if tests:
            raise RefsegError("--photograph-test: systems that have learnt nothing of photographs; give --photographs")
        return None
    return Photographs(str(root), tuple(ScoredSet.parse(test) for test in tests), budget, size, encoder)


def _write(
    page: Path,
    numbers: Path,
    settings: Settings,
    chosen: Sequence[Any],
    claims: Sequence[Any],
    results: dict[str, dict[str, Any]],
    folder: Path,
    no_timing: bool,
    command: str,
) -> None:
    """The page, its numbers, and the plot beside the page."""
    from refseg.inference import DEFAULT_MODEL
    from refseg.studies import packaged, photographs
    from refseg.studies.curves import curves_svg
    from refseg.studies.finished import ABOUT, ENCODER
    from refseg.studies.report import to_dict, to_markdown
    from refseg.studies.scene_sets import test_set
    from refseg.studies.settings import Run, runs_of
    from refseg.studies.side_by_side import METRICS, read_rows
    from refseg.studies.unread import unread

    done = [run for run in runs_of(chosen, claims, settings) if "metrics" in results[run.name]]
    rows = {run.name: read_rows(folder, run) for run in done}
    systems = [run for run in (Run(entry, settings.budget) for entry in chosen) if run in done]
    about = folder / ENCODER / ABOUT
    encoder = json_format.loads(about.read_text(encoding="utf-8")) if about.exists() else None
    times = _times(folder, [] if no_timing else systems)
    name, pictures = DEFAULT_MODEL, dict[str, Any]()
    if settings.photographs is not None:
        place = folder / photographs.FOLDER
        pictures[name] = packaged.on_photographs(name, place, settings.photographs, METRICS, _say)
    shipped = {name: packaged.on_scenes(name, folder, test_set(folder, settings), METRICS, _say)} if systems else {}
    blind = unread(test_set(folder, settings), METRICS[:6]) if systems else {}
    document = to_dict(settings, chosen, claims, results, rows, times, encoder, pictures, shipped, blind)
    write_text(numbers, json_format.dumps(document, indent=1) + "\n")
    plot = page.with_suffix(".svg")
    write_text(plot, curves_svg(document))
    write_text(page, to_markdown(document, command, plot.name))


def _run_processes(count: int, runs: Sequence[Run], folder: Path) -> bool:
    """Run `count` processes of the same command, whose words go to files in the folder; False after a signal."""
    from refseg.studies.finished import RESULT
    from refseg.studies.side_by_side import run_folder
    from refseg.training.interrupt import Interrupt
    from refseg.training.monitor import time_text

    words = _without(sys.argv[1:], "--processes")
    logs = [folder / f"process-{number + 1}.log" for number in range(count)]
    _say(f"{count} processes, see {', '.join(map(str, logs))}")
    running = []
    for log in logs:
        with log.open("ab") as said:
            command = [sys.executable, "-m", "refseg", *words]
            environment = os.environ | {WORKER: "1", "OMP_NUM_THREADS": "1"}
            running.append(subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True))
    began, known = time.monotonic(), -1
    first = sum((run_folder(folder, run) / RESULT).exists() for run in runs)
    with Interrupt() as interrupt:
        while any(process.poll() is None for process in running):
            if interrupt.signal:
                for process in running:
                    process.terminate()
                for process in running:
                    process.wait()
                return False
            done = sum((run_folder(folder, run) / RESULT).exists() for run in runs)
            if done != known:
                left = (time.monotonic() - began) / max(1, done - first) * (len(runs) - done)
                _say(f"{done} of {len(runs)} runs are done" + (f", {time_text(left)} left" if done > first else ""))
                known = done
            time.sleep(_LOOK)
    for process, log in zip(running, logs, strict=True):
        if process.returncode:
            _say(f"a process ended with {process.returncode}, see {log}")
    return True


def _without(words: Sequence[str], name: str) -> list[str]:
    """The words of a command without an option and its value."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word == name or word.startswith(f"{name}="):
            skip = word == name
            continue
        kept.append(word)
    return kept


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _times(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Times of the finished systems; measured again, all of them, when one is new."""
    from refseg.studies.side_by_side import time_runs

    path = folder / TIMES
    known = json_format.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if runs and any(run.entry.name not in known for run in runs):
        known = time_runs(runs, folder)
        write_text(path, json_format.dumps(known, indent=1) + "\n")
    return {run.entry.name: known[run.entry.name] for run in runs if run.entry.name in known}


def _command(context: typer.Context) -> str:
    """The command that makes the page, with what differs from the defaults."""
    words = ["refseg studies side-by-side"]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if param.name in _NOT_WRITTEN or value in (None, False) or value == param.default:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [param.opts[-1] if each is True else f"{param.opts[-1]} {each}" for each in values]
    return " ".join(words)
