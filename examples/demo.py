"""The demo: draw a scene, ask the packaged model several expressions, write what it answers into demo-out/.

    make demo                                                     # a drawn scene
    make demo IMAGE=photo.jpg TEXT="the dog on the left"          # a picture and an expression of yours
    python examples/demo.py --seed 7 --output demo-out            # another scene

Every file is named after the expression that it answers; contact.png shows all of them, scene.png is the scene alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

import refseg
from refseg.cli.answers import slugs
from refseg.data.images import read_image
from refseg.files import replacing
from refseg.generation.scenes import generate
from refseg.inference import DEFAULT_MODEL
from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import contact_sheet, overlay, summary

# A scene is drawn that has things of several categories and an expression of each of these kinds.
CATEGORIES = 4
KINDS = ("attribute", "ordinal", "relation", "counting", "compound", "no_target")
SIZE = 480


def drawn_scene(seed: int) -> tuple[Image.Image, list[str], dict[str, np.ndarray]]:
    """A scene that no training has seen, an expression of each kind, and what each expression means, (H, W) bool."""
    for index in count():
        scene = generate(seed, index, size=SIZE, sentences=48, split="val")
        by_kind = {expression.kind: expression for expression in reversed(scene.expressions)}
        varied = len({thing.category for thing in scene.things}) >= CATEGORIES
        if varied and all(kind in by_kind for kind in KINDS):
            break
    chosen = [by_kind[kind] for kind in KINDS]
    truths = {entry.text: scene.mask(entry) for entry in chosen}
    return Image.fromarray(scene.image), [entry.text for entry in chosen], truths


def agreement(answer: Segmentation, truth: np.ndarray) -> float:
    """Intersection over union of the answer and what the expression means; two empty masks agree wholly."""
    union = int((answer.mask | truth).sum())
    return int((answer.mask & truth).sum()) / union if union else 1.0


def write_picture(path: Path, image: Image.Image) -> None:
    """A PNG file, whole or not at all."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, write, and print a table of the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", help="a picture of yours instead of a drawn scene")
    parser.add_argument("texts", nargs="*", help="expressions to ask about it")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seed", type=int, default=20303, help="which scene is drawn")
    parser.add_argument("--output", type=Path, default=Path("demo-out"))
    arguments = parser.parse_args(argv)
    truths: dict[str, np.ndarray] = {}
    if arguments.image:
        image, texts, name = read_image(arguments.image), arguments.texts or ["the person on the left"], "photo"
    else:
        image, texts, truths = drawn_scene(arguments.seed)
        name = "scene"
        write_picture(arguments.output / "scene.png", image)
    answers = refseg.load(arguments.model).encode(image).ask(texts)
    table = Table("expression", "answer", "p(none)", "score", *(["IoU with the truth"] if truths else []), "files")
    tiles = []
    for answer, slug in zip(answers, slugs([answer.text for answer in answers]), strict=True):
        tiles.append(overlay(image, answer))
        stem = arguments.output / f"{name}.{slug}"
        write_picture(Path(f"{stem}.overlay.png"), tiles[-1])
        answer.save(f"{stem}.mask.png")
        answer.save(f"{stem}.json")
        row = [Text(answer.text), summary(answer), f"{answer.no_target_score:.2f}", f"{answer.score:.2f}"]
        if truths:
            row.append(f"{agreement(answer, truths[answer.text]):.2f}")
        table.add_row(*row, Text(f"{stem.name}.{{overlay.png,mask.png,json}}"))
    write_picture(arguments.output / "contact.png", contact_sheet(tiles, columns=min(3, len(tiles))))
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(table)
    console.print(f"written to {arguments.output}/; all answers in one picture: {arguments.output}/contact.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except refseg.RefsegError as error:
        sys.exit(f"demo: {error}")
