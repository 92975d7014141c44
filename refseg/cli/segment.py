"""refseg segment IMAGE... "sentence" ["sentence" ...]: which pixels of the pictures the sentences mean."""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from refseg.errors import ImageError, RefsegError, did_you_mean
from refseg.files import write_bytes, write_text
from refseg.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image

    from refseg.inference.segmentation import Segmentation

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".j2k",
        ".tga",
        ".ico",
        ".heic",
        ".heif",
        ".svg",
        ".pdf",
        ".eps",
    ),
)
FORMATS = ("overlay", "mask", "cutout", "json")
KEPT_PIXELS = 50_000_000  # pictures up to this many pixels in all stay in memory between the check and the work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="IMAGE-or-SENTENCE",
        help="picture files and sentences, in any order: what is a file or is named like one is a picture",
    )
    parser.add_argument(
        "-t", "--text", action="append", default=[], metavar="SENTENCE", help="a sentence, never a file"
    )
    parser.add_argument("-o", "--output", default="out", metavar="DIR", help="folder for the results (default: out)")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="packaged weights, a model folder or a hub id (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        default="overlay,mask,json",
        metavar="LIST",
        help=f"what to write, with commas: {', '.join(FORMATS)} (default: overlay,mask,json)",
    )
    parser.add_argument("--threshold", type=float, metavar="P", help="a pixel counts above this probability")
    parser.add_argument(
        "--no-target-threshold", type=float, metavar="P", help="the answer is none above this probability"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="default: float32")


def run(arguments: argparse.Namespace) -> int:
    """Everything is checked before the model is loaded, and nothing is written before everything is checked."""
    from refseg.inference.postprocess import check_probability
    from refseg.inference.predictor import clean_text, load

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows a question mark instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    formats = _formats(arguments.format)
    paths, sentences = sort_words(arguments.words)
    sentences = list(dict.fromkeys(clean_text(sentence) for sentence in [*sentences, *arguments.text]))
    if not paths:
        raise RefsegError('no picture is given; write: refseg segment photo.jpg "the dog on the left"')
    if not sentences:
        raise RefsegError('no sentence is given; write: refseg segment photo.jpg "the dog on the left"')
    for name in ("threshold", "no_target_threshold"):
        if getattr(arguments, name) is not None:
            check_probability("--" + name.replace("_", "-"), getattr(arguments, name))
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise RefsegError(f"{folder} is a file; -o wants a folder")
    read = _checked(paths)
    segmenter = load(arguments.model, arguments.device, arguments.precision)
    rows = []
    for path, stem in zip(paths, _stems(paths), strict=True):
        image = read(path)
        answers = segmenter.encode(image).ask(
            sentences, threshold=arguments.threshold, no_target_threshold=arguments.no_target_threshold
        )
        for answer, slug in zip(answers, slugs(sentences), strict=True):
            name = f"{stem}.{slug}"
            _write(folder, name, formats, path, image, answer, arguments.model)
            rows.append((path, answer, _file_name(name, formats[0]) if len(formats) == 1 else f"{name}.*"))
    _print(rows, folder)
    return 0


def sort_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Pictures and sentences apart, each in order; a picture that is named twice is taken once.

    Raises `RefsegError` for what looks like a picture and is not there, for folders, and for addresses.
    """
    paths: list[Path] = []
    sentences: list[str] = []
    for word in words:
        if re.match(r"https?://", word):
            raise RefsegError(f"{word}: pictures are not fetched from the network; download it and give the file")
        path = Path(word)
        try:
            is_file, is_folder = bool(word) and path.is_file(), bool(word) and path.is_dir()
        except (OSError, ValueError):  # too long for a file's name, or with a zero byte: a sentence
            is_file = is_folder = False
        looks_like_path = path.suffix.lower() in SUFFIXES or ("/" in word and not any(map(str.isspace, word)))
        if is_file:
            paths.append(path)
        elif is_folder:
            raise RefsegError(
                f"{word} is a folder; a picture file is wanted (for all of its pictures: {word.rstrip('/')}/*.jpg; "
                f"if it is a sentence: --text {word})"
            )
        elif looks_like_path:
            raise ImageError(f'{word}: no such picture (if it is a sentence: --text "{word}"){_near(path)}')
        else:
            sentences.append(word)
    unique: dict[str, Path] = {}
    for path in paths:
        unique.setdefault(str(path.resolve()), path)
    return list(unique.values()), sentences


def slugs(sentences: Sequence[str]) -> list[str]:
    """A short name for each sentence, of a-z, 0-9 and hyphens, no two alike; the same sentence always has the same."""
    names: list[str] = []
    for sentence in sentences:
        plain = unicodedata.normalize("NFKD", sentence).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        exact = slug.replace("-", " ") == sentence and len(slug) <= 48
        # Where the name does not tell the whole sentence, a checksum keeps sentences apart.
        names.append(slug if exact else "-".join(filter(None, [slug[:40].strip("-"), _checksum(sentence)])))
    return names


def _checksum(sentence: str) -> str:
    return f"{zlib.crc32(sentence.encode()):08x}"


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

    kept: dict[Path, Any] = {}
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
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from refseg.inference.visualize import verdict

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    table = Table("picture", "sentence", "answer", "p(none)", "score", Column(Text(f"files in {folder}")))
    for path, answer, files in rows:
        table.add_row(
            Text(path.name),
            Text(answer.text),
            Text(verdict(answer), style="red" if answer.no_target else "green"),
            f"{answer.no_target_score:.2f}",
            f"{answer.score:.2f}",
            Text(files),
        )
    console.print(table)
    remarks = [(answer.text, remark) for _, answer, _ in rows for remark in answer.extra.get("remarks", [])]
    for text, remark in dict.fromkeys(remarks):
        print(f"note: “{shorten(text, 60, placeholder=' ...')}”: {remark}", file=sys.stderr)
