"""`refseg data`: check, count, fetch, compare, time and convert data sets. Those it makes are in `data_make`."""

from __future__ import annotations

import json as json_format
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from refseg.cli import data_make, options
from refseg.cli.app import App
from refseg.cli.options import arg, flag, opt
from refseg.cli.tables import console, print_table, write_json
from refseg.errors import DataError, RefsegError

if TYPE_CHECKING:
    from refseg.data.check import DatasetReport
    from refseg.data.leak import LeakReport
    from refseg.data.stats import Distribution, Stats

Target = Literal["jsonl", "grefcoco", "coco", "yolo", "labelstudio", "cvat"]
Source = Literal["jsonl", "published", "coco", "yolo", "labelstudio", "cvat"]
SHOWN = 10
"""So many problems of one kind, and shared pictures, are printed; a missing folder would fill the screen otherwise."""
BAR = 40

app = App("data", "Check, fetch, convert, draw and paste data sets.")
app.add_typer(data_make.app)


@app.command("check")
def check(
    root: options.Root,
    json: options.JsonOut = None,
    deep: Annotated[bool, flag("--deep", "decode every picture and outline")] = False,
    strict: options.Strict = False,
    all: Annotated[bool, flag("--all", f"print all problems, not the first {SHOWN} of each kind")] = False,
) -> int:
    """Say what a data folder holds, compare with published counts, name every problem.

    Exits with 2 when no expression is usable, with --strict when there is any problem.
    """
    from refseg.data.check import check

    report = check(root, deep=deep)
    if not write_json(json, report.to_dict()):
        for dataset in report.datasets:
            _print_dataset(dataset, sys.maxsize if all else SHOWN)
        if not report.usable:
            console().print("[bold red]nothing here is usable[/]: mend the problems above")
    faulty = any(dataset.problems or dataset.error for dataset in report.datasets)
    return 2 if not report.usable or (strict and faulty) else 0


def _print_dataset(dataset: DatasetReport, shown: int) -> None:
    from rich.text import Text

    console().print(Text(f"{dataset.name} ({dataset.split_by})  {dataset.main}", style="bold"))
    if dataset.error:
        print(f"  unreadable: {dataset.error}\n")
        return
    headings = ("expressions", "usable", "referents", "pictures", "objects", "one", "several", "none", "published")
    rows = []
    for split, counts in dataset.splits.items():
        targets = (counts.one_target, counts.several_targets, counts.no_target)
        numbers = (counts.expressions, counts.usable, counts.referents, counts.pictures, counts.objects, *targets)
        published = "-" if counts.published is None else f"{counts.published:,}"
        rows.append((split, *(f"{number:,}" for number in numbers), published, counts.completeness))
    print_table(("split", *headings, "of that"), rows, lines=False)
    for split, counts in dataset.splits.items():
        if counts.kinds:
            print(f"  kinds in {split}: {_counted(counts.kinds)}")
    print(f"  pictures: {dataset.pictures_found:,} found, {dataset.pictures_missing:,} missing")
    if dataset.note:
        print(f"  note: {dataset.note}")
    if not dataset.problems:
        print("  no problems")
    for kind in dict.fromkeys(problem.kind for problem in dataset.problems):
        problems = [problem for problem in dataset.problems if problem.kind == kind]
        lost = sum(problem.lost for problem in problems)
        print(f"  {kind.replace('_', ' ')}: {len(problems):,} times, {lost:,} expressions lost")
        for problem in problems[:shown]:
            print(f"    {problem}")
        if len(problems) > shown:
            print(f"    ... and {len(problems) - shown:,} more (--all prints, --json OUT lists them)")
    print()


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


@app.command("stats")
def stats(
    root: options.Root,
    dataset: options.Dataset = None,
    split: options.Split = None,
    split_by: options.SplitBy = None,
    pictures: Annotated[bool, flag("--pictures", "leave out expressions whose picture is not there")] = False,
    json: options.JsonOut = None,
) -> None:
    """Count expressions, words, targets, kinds and areas of a data set."""
    from refseg.data import open_dataset
    from refseg.data.stats import describe

    found = describe(open_dataset(root, dataset, split, split_by, need_pictures=pictures))
    if not write_json(json, found.to_dict()):
        _print_stats(found)


def _print_stats(stats: Stats) -> None:
    print(f"{stats.dataset} {stats.split or 'all splits'}")
    rows = (
        ("expressions", stats.sentences),
        ("distinct expressions", stats.distinct_sentences),
        ("pictures", stats.pictures),
        ("objects", stats.objects),
        ("of them with a box only", stats.boxes_only),
        ("referents", stats.referents),
        ("vocabulary", stats.vocabulary),
        ("words that come once", stats.once),
    )
    print_table(("", ""), [(name, f"{number:,}") for name, number in rows], lines=False)
    _print_distribution("words an expression", stats.words)
    _print_distribution("targets an expression", stats.targets)
    _print_distribution("expressions a picture", stats.sentences_per_picture)
    _print_distribution("area of the targets", stats.area, " of the picture")
    for title, counts in (
        ("splits", stats.splits),
        ("kinds", stats.kinds),
        ("categories", stats.categories),
        ("frequent words", stats.frequent_words),
        ("problems met", stats.problems),
    ):
        if counts:
            print(f"{title}: {_counted(counts)}")


def _print_distribution(title: str, values: Distribution, unit: str = "") -> None:
    if not values.count:
        return
    print(
        f"{title}: mean {values.mean:.3g}, median {values.median:.3g}, "
        f"{values.smallest:.3g} to {values.largest:.3g}{unit}"
    )
    most = max(values.histogram.values())
    width = max(map(len, values.histogram))
    for name, count in values.histogram.items():
        print(f"  {name:>{width}} {'█' * max(1, round(BAR * count / most))} {count:,}")


def _release_names() -> list[str]:
    from refseg.data.catalog import RELEASES

    return list(RELEASES)


@app.command("get")
def get(
    name: Annotated[str | None, arg("NAME", "a data set; without it all are listed", names=_release_names)] = None,
    output: Annotated[Path, options.output("folder for the files")] = Path("data"),
    no_pictures: Annotated[bool, flag("--no-pictures", "annotations only (COCO's pictures take 13 GB)")] = False,
    mirror: Annotated[str | None, opt("URL", "try URL/<file name> first, for a copy of your own")] = None,
    dry_run: options.DryRun = False,
) -> int:
    """Fetch a published data set with resume and checks, or say how to get it by hand.

    Exits with 1 when something is to be got by hand.
    """
    from refseg.data.catalog import release
    from refseg.data.download import fetch_all

    if name is None:
        _print_releases()
        return 0
    chosen = release(name)
    print(f"{chosen.title}: {chosen.paper}\n  published at {chosen.home}\n  licence: {chosen.licence}")
    if chosen.note:
        print(f"  note: {chosen.note}")
    if dry_run:
        for file in chosen.files:
            print(f"  {file.path}: " + (", else ".join(file.urls) or f"by hand: {file.manual}"))
        print("  then there are: " + "; ".join(chosen.layout))
        return 0
    from refseg.progress import downloads

    try:
        with downloads() as show:
            results = fetch_all(chosen.files, output, pictures=not no_pictures, mirror=mirror, progress=show)
    except OSError as error:
        raise RefsegError(f"{output}: cannot write there ({error.strerror})") from error
    for result in results:
        by_hand = f"\n           {result.message}" if result.state == "manual" else ""
        print(f"  {result.state:8} {result.path}{by_hand}")
    missing = sum(result.state == "manual" for result in results)
    if missing:
        print(f"{missing} to be got by hand; in the end there are: " + "; ".join(chosen.layout))
        return 1
    print(f"everything is there; look at it with refseg data check {output}")
    return 0


def _print_releases() -> None:
    from refseg.data.catalog import PUBLISHED, RELEASES

    rows = []
    for name, entry in RELEASES.items():
        count = next((item.expressions for item in PUBLISHED if item.dataset == name), None)
        direct = f"{sum(bool(file.urls) for file in entry.files)} of {len(entry.files)} files"
        rows.append((name, entry.title, direct, entry.licence, f"{count:,}" if count else "-"))
    print_table(("name", "title", "fetched", "licence", "expressions"), rows, left=4, lines=False)


def _side_option(side: str, part: str, text: str) -> Any:
    return opt("NAME", text, f"--{side}-{part}", group=f"the {side} data set")


@app.command("leak")
def leak(
    train: Annotated[Path, arg("TRAIN", "folder of the data set that is trained on")],
    evaluation: Annotated[Path, arg("EVALUATION", "folder of the one that is scored on")],
    train_dataset: Annotated[str | None, _side_option("train", "dataset", "which (default: its only one)")] = None,
    train_split: Annotated[str | None, _side_option("train", "split", "which split (default: all)")] = None,
    train_split_by: Annotated[str | None, _side_option("train", "split-by", "who made the split")] = None,
    evaluation_dataset: Annotated[
        str | None, _side_option("evaluation", "dataset", "which (default: its only one)")
    ] = None,
    evaluation_split: Annotated[str | None, _side_option("evaluation", "split", "which split (default: all)")] = None,
    evaluation_split_by: Annotated[str | None, _side_option("evaluation", "split-by", "who made the split")] = None,
    genome: Annotated[Path | None, opt("FILE", "Visual Genome's image_data.json")] = None,
    looks: Annotated[bool | None, flag("--looks/--no-looks", "compare pixels too, or numbers only")] = None,
    json: options.JsonOut = None,
    strict: options.Strict = False,
) -> int:
    """List the pictures that a training source shares with an evaluation split; with --strict exit with 1 if any."""
    from refseg.data import open_dataset
    from refseg.data.leak import leak

    if genome is not None and not genome.is_file():
        raise DataError(f"{genome}: no such file; --genome is Visual Genome's image_data.json")
    report = leak(
        open_dataset(train, train_dataset, train_split, train_split_by, need_pictures=False),
        open_dataset(evaluation, evaluation_dataset, evaluation_split, evaluation_split_by, need_pictures=False),
        looks=looks,
        genome=genome,
    )
    if not write_json(json, report.to_dict()):
        _print_leak(report)
    return 1 if strict and report.shared else 0


def _print_leak(report: LeakReport) -> None:
    for name, count in ((report.train, report.train_pictures), (report.evaluation, report.evaluation_pictures)):
        print(f"{name}: {count:,} pictures")
    print("compared " + (", ".join(report.ways) or "in no way"))
    for line in report.skipped:
        print(f"not compared: {line}")
    for problem in report.problems[: 2 * SHOWN]:
        print(f"problem: {problem}")
    if not report.shared:
        print("no picture is shared")
        return
    rows = []
    for item in report.shared[: 2 * SHOWN]:
        names = [
            Path(path).name or str(number)
            for path, number in ((item.train_path, item.train_id), (item.evaluation_path, item.evaluation_id))
        ]
        rows.append((item.how, item.number, *names, "" if item.bits is None else str(item.bits)))
    print_table(("found by", "number", "training", "evaluation", "bits"), rows, left=4, lines=False)
    if len(report.shared) > len(rows):
        print(f"... and {len(report.shared) - len(rows):,} more (--json OUT lists them)")
    print(f"{len(report.train_ids()):,} pictures of the training source are in the evaluation split")


@app.command("speed")
def speed(
    root: Annotated[Path | None, arg("DIR", "the data set; without it a made-up RefCOCO of full size (1 GB)")] = None,
    dataset: options.Dataset = None,
    split: options.Split = None,
    split_by: options.SplitBy = None,
    size: Annotated[int, opt("PX", "the network's input", check=options.at_least(32))] = 480,
    samples: Annotated[int, opt("N", "samples to load", check=options.at_least(1))] = 256,
    json: Annotated[Path | None, options.json_file("all times")] = None,
) -> None:
    """Measure how fast a data set opens, and how many samples a second one worker delivers."""
    from refseg.data.speed import measure_opening, measure_rate, noise_samples, write_refcoco
    from refseg.files import write_text

    options.check_file(json, "--json")
    if root is None:
        with tempfile.TemporaryDirectory(prefix="refseg-speed-") as folder:
            print("writing a made-up RefCOCO of full size ...", flush=True)
            write_refcoco(Path(folder))
            openings = measure_opening(Path(folder))
            noise = noise_samples(Path(folder) / "noise")
            rounds = -(-samples // len(noise))
            rate = measure_rate((noise * rounds)[:samples], size)
    else:
        from refseg.data import open_dataset

        openings = measure_opening(root, dataset=dataset, split=split, split_by=split_by)
        opened = open_dataset(root, dataset, split, split_by)
        step = max(1, len(opened) // samples)
        rate = measure_rate([opened.samples[index] for index in range(0, len(opened), step)][:samples], size)
    for name, opening in zip(("first", "again"), openings, strict=True):
        print(
            f"{name}: {opening.sentences:,} expressions in {opening.processor:.2f} processor seconds "
            f"({opening.clock:.2f} by the clock), peak memory {opening.peak / 1e6:.0f} MB"
        )
    print(
        f"worker: {rate.a_second:.0f} samples a processor second on one thread at {rate.size} pixels "
        f"({rate.samples} samples, {rate.clock:.2f} s by the clock, pictures of {rate.kilobytes:.0f} kB)"
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None:
        print(f"load of the machine: {load:.1f} on {os.cpu_count()} cores; a busy one makes the clock's figures worse")
    if json is not None:
        content = {"openings": [asdict(one) for one in openings], "rate": asdict(rate), "load": load}
        write_text(json, json_format.dumps(content, indent=1) + "\n")


@app.command("convert")
def convert(
    source: Annotated[Path, arg("SRC", ".jsonl, .json of COCO, Label Studio or CVAT, folder of YOLO or of a data set")],
    to: Annotated[Target, opt("FORMAT", f"the format to write: {', '.join(get_args(Target))}")],
    target: Annotated[
        Path | None, arg("DST", "folder to write (for jsonl also a .jsonl file), here or with -o")
    ] = None,
    from_: Annotated[Source | None, opt("FORMAT", "the format of SRC (default: found out)", "--from")] = None,
    images: options.Images = None,
    dataset: options.Dataset = None,
    split: options.Split = None,
    keep_going: Annotated[bool, flag("--keep-going", "leave out faulty records instead of stopping")] = False,
    output: Annotated[Path | None, options.output("the same as DST")] = None,
) -> None:
    """Convert to and from JSONL, gRefCOCO, COCO, YOLO, Label Studio and CVAT; every faulty record is printed."""
    from refseg.data.convert import WRITERS, read_any

    target = options.one_target(target, output, "DST")
    if to != "jsonl" or target.suffix != ".jsonl":
        options.check_folder(target)
    if target.resolve() == source.resolve():
        raise DataError(f"{source} is both SRC and DST; choose another DST")
    if images is not None:
        options.check_images(images)
    samples = read_any(source, from_, images=images, dataset=dataset, split=split)
    for problem in samples.problems:
        print(problem, file=sys.stderr)
    lost = sum(problem.lost for problem in samples.problems)
    if lost and not keep_going:
        raise DataError(
            f"{source}: {lost} expressions cannot be used ({len(samples.problems)} faults, all printed above); "
            "mend them, or leave them out with --keep-going"
        )
    count = WRITERS[to](samples, target)
    without = f", {lost} left out" if lost else ""
    print(f"{count} expressions on {len(samples.by_picture())} pictures written to {target}{without}")
