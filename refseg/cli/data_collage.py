"""`refseg data collage --coco FILE --images DIR -o OUT`: photographs with more objects, for sentences about places."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from refseg.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--coco",
        required=True,
        metavar="FILE",
        type=Path,
        action="append",
        help="COCO-style file with masks and a `split` a picture, as `refseg data templates` writes; may be repeated",
    )
    parser.add_argument(
        "--images", required=True, metavar="DIR", type=Path, action="append", help="folder of each file's pictures"
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT", type=Path, help="folder for what is made")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="pictures to make (default 1000)")
    parser.add_argument("--size", type=int, default=320, metavar="PX", help="their side in pixels (default 320)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same pictures")
    parser.add_argument("--split", default="train", help="pictures of this split alone are used (default train)")


def run(arguments: argparse.Namespace) -> int:
    """Make the pictures, with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from refseg.generation.photos.collage import Collages, CollageSettings, write_collages

    if len(arguments.coco) != len(arguments.images):
        raise DataError(f"--images: one folder a --coco file is wanted, not {len(arguments.images)}")
    for folder in arguments.images:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; --images is the folder of the pictures")
    settings = CollageSettings(arguments.seed, arguments.count, arguments.size, arguments.split)
    started = time.perf_counter()
    collages = Collages(list(zip(arguments.coco, arguments.images, strict=True)), settings)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("pasting", total=len(collages))
        for done in write_collages(arguments.out, collages):
            bar.update(task, completed=done)
    objects = sum(len(each) for each in collages.cutouts.values())
    print(
        f"{len(collages)} pictures of {objects} objects on {len(collages.bases)} pictures in "
        f"{time.perf_counter() - started:.1f} s; make sentences with `refseg data templates --coco "
        f"{arguments.out / 'instances.json'} --images {arguments.out / 'images'} -o ...`"
    )
    return 0
