"""`refseg data get NAME`: fetch a published data set with resume and checks, or say how to get it by hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from refseg.errors import RefsegError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a data set of the catalogue; without it all are listed"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("data"), help="folder (default: data)")
    parser.add_argument("--no-pictures", action="store_true", help="annotations only (COCO's pictures take 13 GB)")
    parser.add_argument("--mirror", metavar="URL", help="try URL/<file name> first, for a copy of your own")
    parser.add_argument("--dry-run", action="store_true", help="say where everything is and fetch nothing")


def run(arguments: argparse.Namespace) -> int:
    """0 when everything is there, 1 when something is to be got by hand."""
    from refseg.data.download import fetch_all
    from refseg.data.releases import release

    if arguments.name is None:
        _list()
        return 0
    chosen = release(arguments.name)
    print(f"{chosen.title}: {chosen.paper}\n  published at {chosen.home}\n  licence: {chosen.licence}")
    if chosen.note:
        print(f"  note: {chosen.note}")
    if arguments.dry_run:
        for file in chosen.files:
            print(f"  {file.path}: " + (", else ".join(file.urls) or f"by hand: {file.manual}"))
        print("  then there are: " + "; ".join(chosen.layout))
        return 0
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, object] = {}

        def show(path: str, done: int, total: int | None) -> None:
            if path not in tasks:
                tasks[path] = bar.add_task(Path(path).name, total=total)
            bar.update(tasks[path], completed=done, total=total)  # type: ignore[arg-type]

        try:
            results = fetch_all(
                chosen.files,
                arguments.output,
                pictures=not arguments.no_pictures,
                mirror=arguments.mirror,
                progress=show,
            )
        except OSError as error:
            raise RefsegError(f"{arguments.output}: cannot write there ({error.strerror})") from error
    by_hand = [result for result in results if result.state == "manual"]
    for result in results:
        print(
            f"  {result.state:8} {result.path}" + (f"\n           {result.message}" if result.state == "manual" else "")
        )
    if by_hand:
        print(f"{len(by_hand)} to be got by hand; in the end there are: " + "; ".join(chosen.layout))
        return 1
    print(f"everything is there; look at it with refseg data check {arguments.output}")
    return 0


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from refseg.data.catalog import PUBLISHED
    from refseg.data.releases import RELEASES

    table = Table("name", "title", "sentences", "fetched", "licence", box=None, pad_edge=False, padding=(0, 2))
    for name, entry in RELEASES.items():
        counts = next((item.expressions for item in PUBLISHED if item.dataset == name), None)
        direct = sum(bool(file.urls) for file in entry.files)
        table.add_row(
            name, entry.title, f"{counts:,}" if counts else "-", f"{direct} of {len(entry.files)} files", entry.licence
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
