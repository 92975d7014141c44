"""`refseg segment IMAGE... EXPRESSION...`: which pixels of the pictures the expressions refer to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

from refseg.cli import options
from refseg.cli.answers import ENDS, ERRORS, ORDERS, RESULTS, Folder, Row, identity, printable, slugs
from refseg.cli.app import App
from refseg.cli.options import BadValue, arg, flag, opt
from refseg.cli.tables import print_table
from refseg.errors import ImageError, RefsegError, did_you_mean
from refseg.files import write_bytes
from refseg.inference import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from refseg.inference.predictor import Segmenter
    from refseg.inference.segmentation import Segmentation

FORMATS = (*ENDS, "none")
SHOWN = 40
"""Answers that are printed at most; the table in the folder has them all."""
TOLD = 5
"""Pictures that could not be read and are told of at once; the file of errors has them all."""

app = App()


def _order(value: str) -> None:
    if value not in (*ORDERS, "-"):
        raise BadValue(f"orders by {', '.join(ORDERS)}, not {value!r}")


def _dash(value: str) -> None:
    if value != "-":
        raise BadValue(f"prints, and takes no file: write > FILE for one ({value!r} came after it)")


@app.command("segment")
def segment(
    words: Annotated[
        list[str],
        arg("IMAGE-or-EXPRESSION", "pictures, folders and patterns (what is there, or named so); expressions"),
    ],
    text: Annotated[list[str] | None, opt("EXPRESSION", "an expression, never a file", "-t", "--text")] = None,
    phrase: Annotated[
        list[str] | None,
        opt(
            "PHRASE",
            "a part of the expression, which is then a caption, to be answered: its words, or START:STOP, its "
            "characters; again for more",
            "--phrase",
        ),
    ] = None,
    output: Annotated[Path, options.output("folder for the results")] = Path("out"),
    format: Annotated[
        str, opt("LIST", f"with commas: {', '.join(FORMATS)}", names=lambda: FORMATS, group=options.WRITING)
    ] = "overlay,mask,json",
    jsonl: Annotated[
        str | None,
        opt("[-]", "print a line of JSON an answer, as they come", "--jsonl", group=options.WRITING, check=_dash),
    ] = None,
    sort: Annotated[
        str | None,
        opt(
            "[KEY]",
            f"order by {', '.join(ORDERS)}; alone: most surely there first",
            names=lambda: list(ORDERS),
            group=options.WRITING,
            check=_order,
        ),
    ] = None,
    resume: Annotated[
        bool, flag("--resume", "leave out what the folder has, made with these settings", options.WRITING)
    ] = False,
    model: options.Model = DEFAULT_MODEL,
    proposals: options.Proposals = None,
    threshold: options.Threshold = None,
    no_target_threshold: options.NoTargetThreshold = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    device_map: options.DeviceMap = None,
    compile: options.Compile = False,
) -> int:
    """Segment what expressions refer to in pictures: one object, several, or none.

    A picture that cannot be read is left out, told in errors.jsonl, and makes the exit code 1. The folder's results.csv
    has a line for each answer.
    """
    options.check_folder(output)
    from refseg.inference.predictor import choose_device, clean_text

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows a question mark instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    formats = _formats(format)
    paths, given_texts = sort_words(words, output)
    given_texts += text or []
    expressions = list(dict.fromkeys(map(clean_text, given_texts)))
    for kind, given in (("picture", paths), ("expression", expressions)):
        if not given:
            raise RefsegError(f'no {kind} is given; write: refseg segment photo.jpg "the dog on the left"')
    asked: dict[str, tuple[int, int]] = {}
    if phrase:
        if len(expressions) != 1:
            raise RefsegError(
                f"--phrase: phrases are parts of one caption, and {len(expressions)} expressions are given"
            )
        if resume:
            raise RefsegError("--resume leaves out single answers, and phrases are read together; leave it or --phrase")
        asked = _phrases(given_texts[0], phrase)
        expressions = list(asked)
    choose_device(device)
    thresholds = {"threshold": threshold, "no_target_threshold": no_target_threshold}
    named = model if proposals is None else f"{model} over {proposals}"
    settings = {"model": named, **{key: "" if value is None else repr(value) for key, value in thresholds.items()}}
    order = "found" if sort == "-" else sort
    held: dict[tuple[str, str], str] = {}
    with Folder(output) as folder:
        run = _Run(
            folder,
            formats,
            expressions,
            settings,
            held,
            lines=jsonl is not None,
            hold=order is not None,
            caption=given_texts[0],
            phrases=asked,
        )
        run.go(paths, (model, device, precision, None, proposals, device_map, compile), thresholds, resume)
        rows = folder.finish(((identity(path), text) for path in paths for text in expressions), order)
    if jsonl is None:
        _print(rows, folder)
    for row in rows:
        print(held.get((row["picture"], row["expression"]), ""), end="")
    for expression, remark in run.remarks:
        print(f"note: “{shorten(expression, 60, placeholder=' ...')}”: {remark}", file=sys.stderr)
    if folder.failed:
        told = f"{folder.failed:,} of {len(paths):,} pictures gave no answer; {output / ERRORS} says why"
        print(f"refseg segment: {told}", file=sys.stderr)
    return 1 if folder.failed else 0


def sort_words(words: Sequence[str], output: Path | None = None) -> tuple[list[Path], list[str]]:
    """Pictures and expressions apart, each in order; a picture that is named twice is taken once.

    Folders and patterns stand for their pictures, without those in the folder `output`. Raises `RefsegError` for what
    looks like a picture and is not there, for folders without pictures, and for addresses.
    """
    from refseg.data.images import ADDRESS, SUFFIXES, find_pictures

    sources: list[str] = []
    expressions: list[str] = []
    for word in words:
        path = Path(word)
        try:
            exists = bool(word) and path.exists()
        except (OSError, ValueError):  # too long for a file's name, or with a zero byte: an expression
            exists = False
        suffixes = {*SUFFIXES, ".svg", ".pdf", ".eps"}
        looks_like_path = path.suffix.lower() in suffixes or ("/" in word and not any(map(str.isspace, word)))
        if exists or looks_like_path or ADDRESS.match(word):
            sources.append(word)
        else:
            expressions.append(word)
    try:
        return find_pictures(sources, leave_out=output), expressions
    except ImageError as error:
        word = str(error).partition(": ")[0]
        hint = "" if ADDRESS.match(word) else f' (if it is an expression: --text "{word}")'
        raise ImageError(f"{error}{hint}") from error


def _phrases(caption: str, wanted: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Name -> characters of each phrase of the caption; START:STOP is one by its characters. Phrases of the same words
    have their characters in their names."""
    from refseg.encoders.text.phrases import locate_phrases

    numbers = (re.fullmatch(r"(\d+):(\d+)", word) for word in wanted)
    places = [
        word if found is None else (int(found[1]), int(found[2])) for word, found in zip(wanted, numbers, strict=True)
    ]
    spans = list(dict.fromkeys(locate_phrases(caption, places)))
    texts = [" ".join(caption[start:stop].split()) for start, stop in spans]
    return {
        text if texts.count(text) == 1 else f"{text} [{start}:{stop}]": (start, stop)
        for text, (start, stop) in zip(texts, spans, strict=True)
    }


def _formats(text: str) -> list[str]:
    chosen = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
    for entry in chosen:
        if entry not in FORMATS:
            raise RefsegError(f"--format: {entry!r} is not possible; {did_you_mean(entry, FORMATS)}")
    if not chosen:
        raise RefsegError(f"--format: nothing to write; choose from {', '.join(FORMATS)}")
    if "none" in chosen and len(chosen) > 1:
        raise RefsegError("--format: none stands alone; it writes no file an answer")
    return list(dict.fromkeys(chosen))


@dataclass
class _Run:
    """One run over pictures: what it writes, and what it has to tell in the end."""

    folder: Folder
    formats: Sequence[str]
    expressions: Sequence[str]
    settings: Mapping[str, str]
    held: dict[tuple[str, str], str]
    """Where lines of JSON wait until the answers are in order."""
    lines: bool
    """Whether lines of JSON are printed."""
    hold: bool
    """Whether they wait."""
    caption: str = ""
    phrases: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Where phrases are asked: their caption, and the expressions' characters in it."""
    remarks: dict[tuple[str, str], None] = field(default_factory=dict)

    def go(
        self,
        paths: Sequence[Path],
        model: tuple[str, str, Any, None, str | None, str | None, bool],
        thresholds: Mapping[str, float | None],
        resume: bool,
    ) -> None:
        """Answer everything. Raises `ImageError` where no picture could be read and the folder has nothing either."""
        from refseg.data.images import read_image
        from refseg.inference.predictor import load
        from refseg.progress import progress

        segmenter: Segmenter | None = None
        problems: list[str] = []
        told = 0
        console = _error_console()
        with progress("pictures", console=console, lines=True) as update:
            for done, (path, stem) in enumerate(zip(paths, self.folder.names(paths), strict=True)):
                update(done, len(paths))
                missing = self._missing(path) if resume else list(self.expressions)
                if not missing:
                    continue
                try:
                    image = read_image(path)
                    segmenter = segmenter or load(*model)
                    answers = self._ask(segmenter, image, missing, thresholds)
                except (ImageError, MemoryError) as error:
                    self.folder.fail(path, error)
                    problems.append(str(error) or f"{path}: out of memory")
                else:
                    self._write(path, stem, image, answers)
                while told < min(len(problems), TOLD) and self.folder.rows:  # without any answer they are one error
                    console.print(f"left out: {problems[told]}", soft_wrap=True, markup=False, highlight=False)
                    told += 1
        if problems and not self.folder.rows:
            raise ImageError("; ".join(problems[:TOLD]) + (" ..." if len(problems) > TOLD else ""))

    def _ask(
        self, segmenter: Segmenter, image: Image.Image, missing: Sequence[str], thresholds: Mapping[str, float | None]
    ) -> list[Segmentation]:
        encoded = segmenter.encode(image)
        threshold, no_target = thresholds["threshold"], thresholds["no_target_threshold"]
        maps = not {"probabilities", "matte"}.isdisjoint(self.formats)
        if not self.phrases:
            return encoded.ask(missing, threshold=threshold, no_target_threshold=no_target, probabilities=maps)
        answers = encoded.ask(
            self.caption,
            phrases=list(self.phrases.values()),
            threshold=threshold,
            no_target_threshold=no_target,
            probabilities=maps,
        )
        return [
            replace(answer, text=name, extra={**answer.extra, "caption": self.caption, "characters": list(place)})
            for answer, (name, place) in zip(answers, self.phrases.items(), strict=True)
        ]

    def _missing(self, path: Path) -> list[str]:
        return [text for text in self.expressions if not self.folder.has(path, text, self.formats, self.settings)]

    def _write(self, path: Path, stem: str, image: Image.Image, answers: Sequence[Segmentation]) -> None:
        slug_of = dict(zip(self.expressions, slugs(self.expressions), strict=True))
        for answer in answers:
            name = f"{stem}.{slug_of[answer.text]}"
            document = {"image": printable(path), "model": self.settings["model"], **answer.to_dict(), **answer.extra}
            for entry in self.formats:
                if entry in ENDS:
                    content = _content(entry, image, answer, document)
                    write_bytes(self.folder.path / f"{name}.{ENDS[entry]}", content)
            if self.lines:
                line = json.dumps(document, ensure_ascii=False) + "\n"
                if self.hold:
                    self.held[identity(path), answer.text] = line
                else:
                    print(line, end="", flush=True)
            self.folder.add(path, _row(name, self.formats, self.settings, answer))
            self.remarks |= dict.fromkeys((answer.text, remark) for remark in answer.extra.get("remarks", []))


def _row(name: str, formats: Sequence[str], settings: Mapping[str, str], answer: Segmentation) -> Row:
    height, width = answer.mask.shape
    return {
        "expression": answer.text,
        "no_target": "true" if answer.no_target else "false",
        "no_target_score": f"{answer.no_target_score:.6f}",
        "score": f"{answer.score:.6f}",
        "instances": str(len(answer.instances)),
        "area": str(int(answer.mask.sum())),
        "width": str(width),
        "height": str(height),
        "name": name,
        "formats": ",".join(formats),
        **settings,
    }


def _content(entry: str, image: Image.Image, answer: Segmentation, document: Mapping[str, Any]) -> bytes:
    """The file of one format."""
    from PIL import Image

    from refseg.inference.visualize import cutout, overlay

    if entry == "json":
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    if entry == "overlay":
        return _png(overlay(image, answer))
    if entry == "cutout":
        return _png(cutout(image, answer))
    if entry == "matte":
        from refseg.apps.cutout.matting import matte

        return _png(matte(image, answer).to_image())
    if entry == "probabilities":
        import numpy as np

        assert answer.probabilities is not None
        return _png(Image.fromarray(np.round(answer.probabilities * 65535).astype(np.uint16)))
    return answer._repr_png_()


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _error_console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _print(rows: Sequence[Row], folder: Folder) -> None:
    """A table of the answers, then where they are: on lines of their own, which no terminal cuts."""
    from rich.text import Text

    shown = rows[:SHOWN]
    names = short_names(row["picture"] for row in shown)
    print_table(
        ("picture", "expression", "answer", "p(none)", "score"),
        [
            (
                names[row["picture"]],
                shorten(row["expression"], 200, placeholder=" ..."),
                Text(_summary(row), style="red" if row["no_target"] == "true" else "green"),
                f"{float(row['no_target_score']):.2f}",
                f"{float(row['score']):.2f}",
            )
            for row in shown
        ],
        left=5,
    )
    for row in shown:
        files = folder.files(row)
        if files:
            print(files[0] if len(files) == 1 else folder.path / f"{row['name']}.*")
    more = f"{len(rows) - SHOWN:,} more answers are in " if len(rows) > SHOWN else ""
    print(f"{more}{folder.path / RESULTS}")


def short_names(pictures: Iterable[str]) -> dict[str, str]:
    """Picture -> its file's name, with as many folders before it as tell it from the others."""
    names = {}
    parts = {picture: Path(picture).parts for picture in pictures}
    for picture, own in parts.items():
        others = [other for name, other in parts.items() if name != picture]
        count = next((n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others)), len(own))
        names[picture] = str(Path(*own[-count:]))
    return names


def _summary(row: Row) -> str:
    """The answer in a few words."""
    count = int(row["instances"])
    if row["no_target"] == "true":
        return "none"
    return "unclear" if not count and row["area"] == "0" else f"{count} target{'s' * (count != 1)}"
