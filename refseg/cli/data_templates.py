"""`refseg data templates --coco FILE --images DIR -o OUT`: sentences for real photographs, in gRefCOCO's format."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from refseg.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--coco", required=True, metavar="FILE", type=Path, help="COCO-style instances.json with masks")
    parser.add_argument("--images", required=True, metavar="DIR", type=Path, help="folder of its pictures")
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", type=Path, help="folder for templates/ and images/"
    )
    parser.add_argument(
        "--per-image", type=int, default=8, metavar="N", help="at most N sentences a picture (default 8)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same seed gives the same bytes (default 0)"
    )
    parser.add_argument("--plus", action="store_true", help="no words for absolute places, as in RefCOCO+")
    parser.add_argument(
        "--split-fractions",
        metavar="A=X,B=Y",
        help="shares of pictures by split (default: the file's own `split` fields, else train=0.9,val=0.1)",
    )
    parser.add_argument(
        "--not-exhaustive",
        action="store_true",
        help="some objects may lack, unless a picture's `exhaustive` says otherwise: only what is safe is said",
    )
    parser.add_argument(
        "--without",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="leave out pictures that this COCO-style file holds too, such as those to be scored on; may be repeated",
    )
    parser.add_argument(
        "--preview",
        nargs="?",
        const="",
        metavar="PNG",
        help="draw a contact sheet (to OUT/preview.png, or to PNG)",
    )
    parser.add_argument("--preview-count", type=int, default=24, metavar="N", help="pictures on the sheet (default 24)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the sentences, with a progress bar, write them, and print what was made."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from refseg.generation.photos.write import TemplateSettings, make_templates, write_templates
    from refseg.generation.scenes.propose import KINDS

    settings = TemplateSettings(
        seed=arguments.seed,
        per_image=arguments.per_image,
        plus=arguments.plus,
        fractions=_fractions(arguments.split_fractions),
        exhaustive=not arguments.not_exhaustive,
    )
    if not arguments.images.is_dir():
        raise DataError(f"{arguments.images}: no such folder; --images is the folder of the pictures")
    kept = arguments.out / "templates" / "pictures.jsonl.part"
    if kept.exists():
        print(f"going on with {kept}, where an earlier run stopped", file=sys.stderr)
    started = time.perf_counter()
    columns = (
        TextColumn("looking at"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("looking at", total=None)
        instances, spoken, problems = make_templates(
            arguments.coco,
            arguments.images,
            settings,
            arguments.workers,
            lambda done, total: bar.update(task, completed=done, total=total),
            arguments.without,
            kept,
        )
    counts = write_templates(arguments.out, instances, spoken, settings)
    kept.unlink(missing_ok=True)
    if arguments.preview is not None:
        from refseg.files import replacing
        from refseg.generation.photos.preview import preview

        target = Path(arguments.preview) if arguments.preview else arguments.out / "preview.png"
        with replacing(target) as temporary:
            preview(instances, spoken, arguments.preview_count, arguments.seed).save(temporary, "PNG")
    seconds = time.perf_counter() - started
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table("split", "pictures", "sentences", *KINDS)
    for split, kinds in sorted(counts.items()):
        pictures = sum(item.split == split and bool(item.expressions) for item in spoken)
        row = (split, pictures, sum(kinds.values()), *(kinds.get(kind, 0) for kind in KINDS))
        table.add_row(*map(str, row))
    console.print(table)
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        first = next(problem for problem in problems if problem.kind == kind)
        console.print(f"{kind.replace('_', ' ')}: {count} times, the first: {first}", markup=False)
    total = sum(sum(kinds.values()) for kinds in counts.values())
    silent = sum(not item.expressions for item in spoken)
    console.print(
        f"{len(spoken) - silent} pictures, {total} sentences in {seconds:.1f} s; {silent} pictures had nothing "
        f"certain to say; read them with --data {arguments.out} --dataset templates"
    )
    return 0


def _fractions(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            shares[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise DataError(f"--split-fractions is such as train=0.8,val=0.1,test=0.1, not {text!r}")
    return shares
