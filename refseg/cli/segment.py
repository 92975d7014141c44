"""`refseg segment IMAGE... EXPRESSION...`: which pixels of the pictures the expressions refer to."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

from refseg.cli import options
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.cli.tables import print_table
from refseg.errors import ImageError, RefsegError, did_you_mean
from refseg.files import write_bytes, write_text
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image

    from refseg.inference.segmentation import Segmentation

_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif .jp2 .j2k .tga .ico "
    ".heic .heif .svg .pdf .eps"
)
SUFFIXES = frozenset(_SUFFIXES.split())
FORMATS = ("overlay", "mask", "cutout", "json")
KEPT_PIXELS = 50_000_000  # pictures up to this many pixels in all stay in memory between the check and the work


app = App()


@app.command("segment")
def segment(
    words: Annotated[
        list[str], arg("IMAGE-or-EXPRESSION", "pictures (what is a file, or named like one) and expressions")
    ],
    text: Annotated[list[str] | None, opt("EXPRESSION", "an expression, never a file", "-t", "--text")] = None,
    output: Annotated[Path, options.output("folder for the results")] = Path("out"),
    format: Annotated[
        str, opt("LIST", f"with commas: {', '.join(FORMATS)}", names=lambda: FORMATS, group=options.WRITING)
    ] = "overlay,mask,json",
    model: options.Model = DEFAULT_MODEL,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
) -> None:
    """Segment what expressions refer to in pictures: one object, several, or none."""
    # Everything is checked before the model is loaded, and nothing is written before everything is checked.
    from refseg.inference.predictor import clean_text, load

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows a question mark instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    formats = _formats(format)
    paths, expressions = sort_words(words)
    expressions = list(dict.fromkeys(clean_text(expression) for expression in [*expressions, *(text or [])]))
    for kind, given in (("picture", paths), ("expression", expressions)):
        if not given:
            raise RefsegError(f'no {kind} is given; write: refseg segment photo.jpg "the dog on the left"')
    options.check_folder(output)
    read = _checked(paths)
    segmenter = load(model, device, precision)
    rows = []
    for path, stem in zip(paths, _stems(paths), strict=True):
        image = read(path)
        answers = segmenter.encode(image).ask(expressions, threshold=threshold, no_target_threshold=no_target_threshold)
        for answer, slug in zip(answers, slugs(expressions), strict=True):
            name = f"{stem}.{slug}"
            _write(output, name, formats, path, image, answer, model)
            rows.append((path, answer, _file_name(name, formats[0]) if len(formats) == 1 else f"{name}.*"))
    _print(rows, output)


def sort_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Pictures and expressions apart, each in order; a picture that is named twice is taken once.

    Raises `RefsegError` for what looks like a picture and is not there, for folders, and for addresses.
    """
    paths: list[Path] = []
    expressions: list[str] = []
    for word in words:
        if re.match(r"https?://", word):
            raise RefsegError(f"{word}: pictures are not fetched from the network; download it and give the file")
        path = Path(word)
        try:
            is_file, is_folder = bool(word) and path.is_file(), bool(word) and path.is_dir()
        except (OSError, ValueError):  # too long for a file's name, or with a zero byte: an expression
            is_file = is_folder = False
        looks_like_path = path.suffix.lower() in SUFFIXES or ("/" in word and not any(map(str.isspace, word)))
        if is_file:
            paths.append(path)
        elif is_folder:
            raise RefsegError(
                f"{word} is a folder; a picture file is wanted (for all of its pictures: {word.rstrip('/')}/*.jpg; "
                f"if it is an expression: --text {word})"
            )
        elif looks_like_path:
            raise ImageError(f'{word}: no such picture (if it is an expression: --text "{word}"){_near(path)}')
        else:
            expressions.append(word)
    unique: dict[str, Path] = {}
    for path in paths:
        unique.setdefault(str(path.resolve()), path)
    return list(unique.values()), expressions


def slugs(expressions: Sequence[str]) -> list[str]:
    """A short name for each expression, of a-z, 0-9 and hyphens: no two alike, and always the same for the same."""
    names: list[str] = []
    for expression in expressions:
        plain = unicodedata.normalize("NFKD", expression).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        exact = slug.replace("-", " ") == expression and len(slug) <= 48
        # Where the name does not tell the whole expression, a checksum keeps expressions apart.
        names.append(slug if exact else "-".join(filter(None, [slug[:40].strip("-"), _checksum(expression)])))
    return names


def _checksum(expression: str) -> str:
    return f"{zlib.crc32(expression.encode()):08x}"


def _near(path: Path) -> str:
    """A hint at files of the same folder whose names are like the missing one's."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES]
    hint = did_you_mean(path.name, names) if names else ""
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _formats(text: str) -> list[str]:
    chosen = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
    for entry in chosen:
        if entry not in FORMATS:
            raise RefsegError(f"--format: {entry!r} is not possible; {did_you_mean(entry, FORMATS)}")
    if not chosen:
        raise RefsegError(f"--format: nothing to write; choose from {', '.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


def _checked(paths: Sequence[Path]) -> Callable[[Path], Image.Image]:
    """A reader of these pictures, each of which has been read once: a damaged one stops the command before any work."""
    from refseg.data.images import read_image

    kept: dict[Path, Image.Image] = {}
    problems = []
    pixels = 0
    for path in paths:
        try:
            image = read_image(path)
        except ImageError as error:
            problems.append(str(error))
            continue
        pixels += image.width * image.height
        if pixels <= KEPT_PIXELS:
            kept[path] = image
    if problems:
        raise ImageError("; ".join(problems))
    return lambda path: kept.pop(path) if path in kept else read_image(path)


def _stems(paths: Sequence[Path]) -> list[str]:
    """The pictures' names without suffix, made different where folders or suffixes were all that told them apart."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = path.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _file_name(name: str, entry: str) -> str:
    return f"{name}.json" if entry == "json" else f"{name}.{entry}.png"


def _write(
    folder: Path, name: str, formats: Sequence[str], path: Path, image: Image.Image, answer: Segmentation, model: str
) -> None:
    from refseg.inference.visualize import cutout, overlay

    for entry in formats:
        target = folder / _file_name(name, entry)
        if entry == "overlay":
            write_bytes(target, _png(overlay(image, answer)))
        elif entry == "mask":
            answer.save(target)
        elif entry == "cutout":
            write_bytes(target, _png(cutout(image, answer)))
        else:
            source = str(path).encode("utf-8", "replace").decode()
            values = {"image": source, "model": model, **answer.to_dict(), **answer.extra}
            write_text(target, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _print(rows: Sequence[tuple[Path, Segmentation, str]], folder: Path) -> None:
    from rich.text import Text

    from refseg.inference.visualize import summary

    print_table(
        ("picture", "expression", "answer", "p(none)", "score", f"files in {folder}"),
        [
            (
                path.name,
                answer.text,
                Text(summary(answer), style="red" if answer.no_target else "green"),
                f"{answer.no_target_score:.2f}",
                f"{answer.score:.2f}",
                files,
            )
            for path, answer, files in rows
        ],
        left=6,
    )
    remarks = [(answer.text, remark) for _, answer, _ in rows for remark in answer.extra.get("remarks", [])]
    for text, remark in dict.fromkeys(remarks):
        print(f"note: “{shorten(text, 60, placeholder=' ...')}”: {remark}", file=sys.stderr)
