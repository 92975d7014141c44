"""`refseg gallery IMAGE... EXPRESSION...`: a page that shows pictures, what was asked about them, and the answers."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from refseg.cli import options
from refseg.cli.answers import slugs
from refseg.cli.app import App
from refseg.cli.options import arg, opt
from refseg.errors import ImageError, RefsegError
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from refseg.inference.gallery import GalleryWriter
    from refseg.inference.predictor import Segmenter

LARGEST_LIST = 64 << 20
"""Bytes of a list of expressions."""
TOLD = 5

app = App()


class Question(NamedTuple):
    """An expression about a picture, with what somebody wrote about it."""

    picture: Path
    expression: str
    note: str = ""


def _side(value: int) -> None:
    if not 64 <= value <= 4096:
        raise options.BadValue(f"is a number of pixels from 64 to 4096, not {value}")


@app.command("gallery")
def gallery(
    words: Annotated[
        list[str] | None,
        arg("IMAGE-or-EXPRESSION", "pictures, folders and patterns (what is there, or named so); expressions"),
    ] = None,
    text: Annotated[list[str] | None, opt("EXPRESSION", "an expression, never a file", "-t", "--text")] = None,
    expressions: Annotated[
        Path | None,
        opt(
            "FILE",
            "picture, expression and perhaps a note a line: .tsv, or .jsonl with image, text and note",
            "--expressions",
        ),
    ] = None,
    images: Annotated[
        Path | None, opt("DIR", "folder of the pictures of --expressions, where not beside the file", "--images")
    ] = None,
    output: Annotated[Path, options.output("folder of the gallery; an earlier gallery there is replaced")] = Path(
        "gallery"
    ),
    format: Annotated[
        Literal["html", "markdown"], opt("html|markdown", "of the page", "--format", group=options.WRITING)
    ] = "html",
    title: Annotated[str, opt("TEXT", "heading of the page", "--title", group=options.WRITING)] = "Gallery",
    side: Annotated[
        int, opt("N", "longest side of a picture in pixels", "--side", group=options.WRITING, check=_side)
    ] = 640,
    model: options.Model = DEFAULT_MODEL,
    proposals: options.Proposals = None,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
) -> int:
    """Make a page of answers from your own pictures: overlays, instances with classes and scores, remarks, reasons.

    Every expression is asked about every picture, and those of --expressions about their own pictures. A picture that
    cannot be read is left out, named on the page, and makes the exit code 1. The folder can be moved or put on a server
    as it is: the page fetches nothing, and pictures are written without what cameras add to them.
    """
    from refseg.files import replacing_folder
    from refseg.inference.gallery import PAGES, GalleryWriter, check_gallery_folder
    from refseg.inference.predictor import choose_device, load

    questions = _questions(words or [], text or [], expressions, images, output)
    check_gallery_folder(output)
    choose_device(device)
    segmenter = load(model, device, precision, proposals=proposals)
    named = model if proposals is None else f"{model} over {proposals}"
    with replacing_folder(output) as folder:
        writer = GalleryWriter(folder, title, Path(named).name if Path(named).is_dir() else named, side)
        _answer(segmenter, questions, writer, threshold, no_target_threshold)
        writer.finish(format)
    made = writer.gallery
    print(made.headline())
    print(output / PAGES[format])
    if made.left_out:
        print(f"refseg gallery: {len(made.left_out):,} pictures gave no answer; the page says why", file=sys.stderr)
    return 1 if made.left_out else 0


def _answer(
    segmenter: Segmenter,
    questions: Sequence[Question],
    writer: GalleryWriter,
    threshold: float | None,
    no_target_threshold: float | None,
) -> None:
    """Ask everything, picture by picture. Raises `ImageError` where no picture can be read."""
    from refseg.cli.segment import short_names
    from refseg.data.images import read_image
    from refseg.progress import progress

    asked: dict[Path, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.picture, []).append(question)
    names = short_names(str(path) for path in asked)
    problems: list[str] = []
    with progress("pictures", lines=True) as update:
        for done, ((path, own), stem) in enumerate(zip(asked.items(), _stems(list(asked)), strict=True)):
            update(done, len(asked))
            name = names[str(path)]
            texts = [question.expression for question in own]
            try:
                image = read_image(path)
                answers = segmenter.encode(image).ask(
                    texts, threshold=threshold, no_target_threshold=no_target_threshold
                )
            except (ImageError, MemoryError) as error:
                problems.append(str(error) or f"{path}: out of memory")
                # The page is for others: a name and a reason without the path of this machine.
                writer.leave_out(name, problems[-1].replace(str(path), name).removeprefix(f"{name}: "))
                continue
            notes = [question.note for question in own]
            writer.add(name, stem, image, list(zip(slugs(texts), answers, notes, strict=True)))
    if not writer.gallery.pictures:
        raise ImageError("; ".join(problems[:TOLD]) + (" ..." if len(problems) > TOLD else ""))
    for problem in problems[:TOLD]:
        print(f"left out: {problem}", file=sys.stderr)


def _stems(paths: Sequence[Path]) -> list[str]:
    """What the files of each picture begin with, no two alike in any file system: a-z, 0-9 and hyphens."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode().lower()
        base = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "picture"
        stem, number = base, 1
        while stem in taken:
            number += 1
            stem = f"{base}-{number}"
        taken.add(stem)
        stems.append(stem)
    return stems


def _questions(
    words: Sequence[str], texts: Sequence[str], listed: Path | None, images: Path | None, output: Path
) -> list[Question]:
    """What is asked about which picture, each once. Raises `RefsegError` where pictures or expressions are missing."""
    from refseg.cli.segment import sort_words
    from refseg.inference.predictor import clean_text

    paths, expressions = sort_words(words, output)
    expressions = [*expressions, *texts]
    if images is not None:
        options.check_images(images)
        if listed is None:
            raise RefsegError("--images is the folder of the pictures of --expressions FILE, which is not given")
    if bool(paths) != bool(expressions):
        missing = "expression" if paths else "picture"
        hint = f"; --images DIR is where the pictures of {listed} are" if paths and listed is not None else ""
        raise RefsegError(f"no {missing} is given for the {'pictures' if paths else 'expressions'} that are{hint}")
    if not paths and listed is None:
        raise RefsegError(
            'nothing is asked; write: refseg gallery photos "the dog on the left" "a cat", or --expressions FILE'
        )
    asked = [Question(path, clean_text(expression)) for path in paths for expression in expressions]
    asked += [] if listed is None else read_questions(listed, images)
    found: dict[tuple[Path, str], Question] = {}
    for question in asked:
        found.setdefault((question.picture, question.expression), question)
    return list(found.values())


def read_questions(path: Path, images: Path | None = None) -> list[Question]:
    """The lines of a .tsv file (picture, expression, note, parted by tabs) or a .jsonl file (image, text, note).

    Pictures are beside the file or in `images`. Blank lines are passed over, and lines of a .tsv that begin with #.
    Raises `RefsegError` with file, line and remedy for everything else.
    """
    from refseg.inference.predictor import clean_text

    kind = path.suffix.lower()
    if kind not in (".tsv", ".jsonl"):
        raise RefsegError(f"{path}: a list of expressions is a .tsv or .jsonl file")
    folder = path.parent if images is None else images
    found = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        parts = _fields(line, where) if kind == ".jsonl" else line.split("\t")
        if not line.strip() or (kind == ".tsv" and line.startswith("#")):
            continue
        if not 2 <= len(parts) <= 3:
            raise RefsegError(f"{where}: picture, expression and perhaps a note are wanted, parted by tabs")
        picture, expression, note = (part.strip() for part in (*parts, "")[:3])
        if not picture:
            raise RefsegError(f"{where}: names no picture")
        try:
            expression = clean_text(expression)
        except RefsegError as error:
            raise RefsegError(f"{where}: {error}") from error
        try:
            there = (folder / picture).is_file()
        except (OSError, ValueError):  # too long for a name, or with a zero byte
            there = False
        if not there:
            raise RefsegError(f"{where}: there is no picture {folder / picture}; --images DIR is where they are")
        found.append(Question(folder / picture, expression, note))
    if not found:
        raise RefsegError(f"{path}: no expression in it; a line is picture, tab, expression")
    return found


def _fields(line: str, where: str) -> list[str]:
    if not line.strip():
        return []
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefsegError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise RefsegError(f'{where}: an object is wanted: {{"image": ..., "text": ...}}')
    parts = [record.get(name, "" if name == "note" else None) for name in ("image", "text", "note")]
    for name, value in zip(("image", "text", "note"), parts, strict=True):
        if not isinstance(value, str):
            raise RefsegError(f"{where}: {name} is {'missing' if value is None else 'no text'}")
    return [str(part) for part in parts]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise RefsegError(f"{path}: {path.stat().st_size >> 20} MiB are no list of expressions for a gallery")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise RefsegError(f"{path}: cannot be read ({reason})") from error
    return enumerate(text.split("\n"), start=1)
