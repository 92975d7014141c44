"""`refseg explain IMAGE... EXPRESSION...`: how answers come about, drawn as the papers draw it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.answers import slugs
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.errors import RefsegError
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image

    from refseg.inference.segmentation import Segmentation

app = App()


@app.command("explain")
def explain(
    words: Annotated[
        list[str],
        arg("IMAGE-or-EXPRESSION", "pictures, folders and patterns (what is there, or named so); expressions"),
    ],
    text: Annotated[list[str] | None, opt("EXPRESSION", "an expression, never a file", "-t", "--text")] = None,
    output: Annotated[Path, options.output("folder for the pictures")] = Path("explained"),
    model: Annotated[
        list[str] | None,
        opt(
            "NAME",
            f"packaged weights, model folder or hub id; again for another one beside it (default: {DEFAULT_MODEL})",
            "--model",
            group=options.MODEL,
            names=options.model_names,
        ),
    ] = None,
    target: Annotated[Path | None, opt("FILE.png", "the right mask, white is meant; shown beside")] = None,
    panels: Annotated[
        int, opt("N", "most panels of a map, those that count most", "--panels", check=options.at_least(1))
    ] = 6,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
) -> None:
    """Show how a model comes to its answer: attention, minimap and regions, responses, queries, choices.

    For each picture, expression and model: a sheet of everything that the system can show (STEM.png), each map by
    itself (STEM.MAP.png), and the numbers (STEM.json, STEM.npz). With several expressions or models, or --target, the
    answers stand side by side in PICTURE.answers.png.
    """
    from refseg.cli.segment import sort_words
    from refseg.data.images import read_image
    from refseg.inference.predictor import choose_device, clean_text, load

    paths, expressions = sort_words(words, output)
    expressions = list(dict.fromkeys(clean_text(expression) for expression in [*expressions, *(text or [])]))
    for kind, given in (("picture", paths), ("expression", expressions)):
        if not given:
            raise RefsegError(f'no {kind} is given; write: refseg explain photo.jpg "the dog on the left"')
    options.check_folder(output)
    choose_device(device)
    names = list(dict.fromkeys(model or [DEFAULT_MODEL]))
    pictures = {stem: read_image(path) for stem, path in _stems(paths).items()}
    truths = {stem: None if target is None else _mask(target, image) for stem, image in pictures.items()}
    compared = len(names) * len(expressions) > 1 or target is not None
    tiles: dict[str, dict[tuple[str, str], Image.Image]] = {stem: {} for stem in pictures}
    for number, name in enumerate(names):
        segmenter = load(name, device=device)
        mark = f".{_label(names, number)}" if len(names) > 1 else ""
        for stem, image in pictures.items():
            for expression, slug in zip(expressions, slugs(expressions), strict=True):
                shown = segmenter.explain(
                    image, expression, threshold=threshold, no_target_threshold=no_target_threshold
                )
                paths_written = shown.save(output, f"{stem}.{slug}{mark}", panels)
                print(paths_written[0])
                if not shown.maps:
                    print(f"refseg explain: {name} has no maps to show; the answer alone is drawn", file=sys.stderr)
                tiles[stem][expression, name] = _tile(image, shown.answer, name if len(names) > 1 else "")
    if compared:
        for stem, image in pictures.items():
            print(_compare(output / f"{stem}.answers.png", image, tiles[stem], expressions, names, truths[stem]))


def _stems(paths: Sequence[Path]) -> dict[str, Path]:
    """What the files of each picture begin with: its name, with a number where several are called so."""
    stems: dict[str, Path] = {}
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in {known.casefold() for known in stems}:
            number += 1
            stem = f"{path.stem}-{number}"
        stems[stem] = path
    return stems


def _label(names: Sequence[str], number: int) -> str:
    """What a model is called in names of files: the last part of its name, with its number where that is another's."""
    short = [Path(name).name.replace("@", "-") or "model" for name in names]
    return short[number] if short.count(short[number]) == 1 else f"{short[number]}-{number + 1}"


def _mask(path: Path, image: Image.Image) -> Segmentation:
    import numpy as np

    from refseg.data.images import read_image
    from refseg.inference.segmentation import Segmentation

    drawn = read_image(path).convert("L")
    if drawn.size != image.size:
        sizes = f"{drawn.width} x {drawn.height}, the picture {image.width} x {image.height}"
        raise RefsegError(f"{path}: --target is {sizes}; give a mask of the picture's size")
    mask = np.asarray(drawn) >= 128
    return Segmentation(mask, None, not mask.any(), float(not mask.any()), 1.0, "annotated")


def _tile(image: Image.Image, answer: Segmentation, name: str) -> Image.Image:
    from refseg.inference.map_pictures import captioned
    from refseg.inference.visualize import overlay

    return captioned(overlay(image, answer), name)


def _compare(
    path: Path,
    image: Image.Image,
    tiles: dict[tuple[str, str], Image.Image],
    expressions: Sequence[str],
    names: Sequence[str],
    truth: Segmentation | None,
) -> Path:
    """A row an expression (in rows of up to four where there is one model), a column a model, the right mask last."""
    from io import BytesIO

    from refseg.files import write_bytes
    from refseg.inference.visualize import contact_sheet

    last = [] if truth is None else [_tile(image, truth, "")]
    if len(names) == 1:
        shown = [tiles[expression, names[0]] for expression in expressions] + last
        columns = min(4, len(shown))
    else:
        shown = [tile for expression in expressions for tile in [*(tiles[expression, name] for name in names), *last]]
        columns = len(names) + len(last)
    buffer = BytesIO()
    contact_sheet(shown, columns=columns).save(buffer, format="PNG")
    return write_bytes(path, buffer.getvalue())
