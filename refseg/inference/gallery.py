"""A page of answers: pictures with what was asked about them, in a folder that can be moved and shown anywhere.

    FOLDER/index.html or index.md     the page; no script, nothing fetched, pictures beside it
    FOLDER/PICTURE.jpg                the picture, shown where the answer is none
    FOLDER/PICTURE.EXPRESSION.jpg     the picture with the targets coloured, outlined and numbered
    FOLDER/gallery.json               the answers without masks

Pictures are written anew: what a camera wrote into the file (place, time, owner) is not there, nor is any path.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

from refseg import __version__
from refseg.errors import RefsegError
from refseg.files import write_bytes, write_text
from refseg.inference.segmentation import Segmentation
from refseg.inference.visualize import COLOURS, SMALLEST_SIDE, overlay, summary

__all__ = ["ANSWERS", "PAGES", "Card", "Gallery", "GalleryWriter", "check_gallery_folder", "to_html", "to_markdown"]

PAGES = {"html": "index.html", "markdown": "index.md"}
"""Format -> the page's file."""
ANSWERS = "gallery.json"
MADE_BY = "refseg gallery"
COLUMNS = 3
"""Of a page in Markdown."""
MOST_NOTES = 12
"""Different notes that are counted at the head of the page; more are no classes but remarks."""
QUALITY = 85
NONE_COLOUR = "#b3423a"


@dataclass(frozen=True)
class Target:
    """One instance of an answer: its class, its score from 0 to 1, and its box x0 y0 x1 y1 in pixels."""

    label: str
    score: float
    box: tuple[float, ...]


@dataclass(frozen=True)
class Card:
    """An answer as it is shown. `file` is its picture in the folder, `size` that picture's (width, height)."""

    expression: str
    answer: str
    no_target: bool
    no_target_score: float
    score: float
    targets: tuple[Target, ...]
    remarks: tuple[str, ...]
    note: str
    file: str
    size: tuple[int, int]


@dataclass
class Gallery:
    """What a page shows: the answers picture by picture, and pictures that were left out with the reason."""

    title: str
    model: str
    pictures: list[tuple[str, list[Card]]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def cards(self) -> list[Card]:
        """All answers."""
        return [card for _, cards in self.pictures for card in cards]

    @property
    def notes(self) -> dict[str, int]:
        """How often each note occurs, the most frequent first; empty where they are too many to be counted."""
        counts = Counter(card.note for card in self.cards if card.note)
        return dict(counts.most_common()) if len(counts) <= MOST_NOTES else {}

    def headline(self) -> str:
        """The counts in a sentence."""
        cards = self.cards
        none = sum(card.no_target for card in cards)
        told = f"{_count(len(self.pictures), 'picture')}, {_count(len(cards), 'expression')}"
        return f"{told}: {len(cards) - none:,} with an answer, {none:,} none. Model: {self.model}."


def check_gallery_folder(folder: Path) -> None:
    """Raises `RefsegError` where `folder`, which a gallery replaces as a whole, holds something else."""
    if folder.exists() and not folder.is_dir():
        raise RefsegError(f"{folder} is a file; -o wants a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        with (folder / ANSWERS).open(encoding="utf-8") as handle:
            head = handle.read(200)
    except (OSError, ValueError):
        head = ""
    if f'"made_by": "{MADE_BY}"' not in head:
        raise RefsegError(f"{folder} is not empty and holds no gallery; choose another folder for -o")


class GalleryWriter:
    """Draws answers into `folder`, which is there and empty, and in the end writes the page.

    `side` is the longest side of a drawn picture in pixels; smaller pictures are enlarged up to 384 pixels.
    """

    def __init__(self, folder: Path, title: str, model: str, side: int) -> None:
        self.folder, self.side = folder, side
        self.gallery = Gallery(title, model)

    def add(self, name: str, stem: str, image: Image.Image, answers: Sequence[tuple[str, Segmentation, str]]) -> None:
        """A picture, shown as `name`, with its answers: (what the file's name ends with, answer, note) each.

        `stem` begins the names of its files; no two pictures have the same.
        """
        cards = []
        drawn: dict[str, tuple[int, int]] = {}
        for slug, answer, note in answers:
            file = f"{stem}.{slug}.jpg" if answer.mask.any() else f"{stem}.jpg"
            if file not in drawn:
                picture = overlay(
                    image, answer, caption=False, smallest=min(SMALLEST_SIDE, self.side), largest=self.side
                )
                drawn[file] = picture.size
                write_bytes(self.folder / file, _jpeg(picture))
            cards.append(_card(answer, note, file, drawn[file]))
        self.gallery.pictures.append((name, cards))

    def leave_out(self, name: str, reason: str) -> None:
        """A picture that could not be read."""
        self.gallery.left_out.append((name, reason))

    def finish(self, kind: str) -> None:
        """Write the page, of a format of `PAGES`, and the answers."""
        page = to_html(self.gallery) if kind == "html" else to_markdown(self.gallery)
        write_text(self.folder / PAGES[kind], page)
        document = {
            "made_by": MADE_BY,
            "version": __version__,
            "title": self.gallery.title,
            "model": self.gallery.model,
            "pictures": [
                {"picture": name, "answers": [asdict(card) for card in cards]} for name, cards in self.gallery.pictures
            ],
            "left_out": [{"picture": name, "error": reason} for name, reason in self.gallery.left_out],
        }
        write_text(self.folder / ANSWERS, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def to_html(gallery: Gallery) -> str:
    """The page as one HTML document with its style."""
    parts = [f"<h1>{escape(gallery.title)}</h1>", f"<p>{escape(gallery.headline())}</p>"]
    if gallery.notes:
        counts = ", ".join(f"{escape(note)}: <b>{count}</b>" for note, count in gallery.notes.items())
        parts.append(f"<p>{counts}</p>")
    for name, cards in gallery.pictures:
        parts += [f"<h2>{escape(name)}</h2>", '<div class="cards">', *map(_html_card, cards), "</div>"]
    if gallery.left_out:
        parts += ["<h2>Left out</h2>", "<ul>"]
        parts += [f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in gallery.left_out]
        parts += ["</ul>"]
    parts.append(f"<footer>Made by {MADE_BY} {escape(__version__)}</footer>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(gallery.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(gallery: Gallery) -> str:
    """The page in Markdown, with tables as GitHub and mkdocs read them."""
    lines = [f"# {_plain(gallery.title)}", "", _plain(gallery.headline())]
    if gallery.notes:
        lines += ["", ", ".join(f"{_plain(note)}: **{count}**" for note, count in gallery.notes.items())]
    for name, cards in gallery.pictures:
        lines += ["", f"## {_plain(name)}"]
        columns = min(COLUMNS, len(cards))
        for start in range(0, len(cards), columns):
            row = cards[start : start + columns]
            empty = [""] * (columns - len(row))
            pictures = [f"![{_plain(card.expression)}]({card.file.replace(' ', '%20')})" for card in row]
            lines += ["", _row([" "] * columns), _row(["---"] * columns)]
            lines += [_row([*pictures, *empty]), _row([*map(_markdown_card, row), *empty])]
    if gallery.left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- {_plain(name)}: {_plain(reason)}" for name, reason in gallery.left_out]
    return "\n".join([*lines, "", f"Made by `{MADE_BY}` {__version__}."]) + "\n"


def _card(answer: Segmentation, note: str, file: str, size: tuple[int, int]) -> Card:
    targets = tuple(
        Target(each.label, round(each.score, 4), tuple(round(float(value), 1) for value in each.box))
        for each in answer.instances
    )
    remarks = tuple(str(remark) for remark in answer.extra.get("remarks", []))
    scores = (round(answer.no_target_score, 4), round(answer.score, 4))
    return Card(answer.text, summary(answer), answer.no_target, *scores, targets, remarks, note, file, size)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _html_card(card: Card) -> str:
    width, height = card.size
    kind = "card none" if card.no_target else "card"
    picture = (
        f'<a href="{_address(card.file)}"><img src="{_address(card.file)}" alt="{escape(card.expression)}" '
        f'width="{width}" height="{height}" loading="lazy"></a>'
    )
    parts = [f'<figure class="{kind}">{picture}<figcaption>', f"<b>{escape(card.expression)}</b>"]
    parts.append(f'<div class="answer">{escape(card.answer)} <small>p(none) {card.no_target_score:.2f}</small></div>')
    if card.targets:
        parts.append("<ol>")
        for number, target in enumerate(card.targets):
            colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[number % len(COLOURS)])
            mark = f'<i style="background:{colour}"></i>'
            parts.append(f"<li>{mark}{escape(target.label)} <small>{target.score:.2f}</small></li>")
        parts.append("</ol>")
    parts += [f"<p>{escape(remark)}</p>" for remark in card.remarks]
    if card.note:
        parts.append(f'<p class="note">{escape(card.note)}</p>')
    return "".join([*parts, "</figcaption></figure>"])


def _markdown_card(card: Card) -> str:
    parts = [f"**{_plain(card.expression)}**", f"{card.answer}, p(none) {card.no_target_score:.2f}"]
    numbered = len(card.targets) > 1
    parts += [
        f"{f'{number}: ' if numbered else ''}{_plain(target.label)} {target.score:.2f}"
        for number, target in enumerate(card.targets, start=1)
    ]
    parts += [f"*{_plain(remark)}*" for remark in card.remarks]
    if card.note:
        parts.append(f"({_plain(card.note)})")
    return "<br>".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text of one line in which Markdown and HTML see no marks."""
    marked = re.sub(r"([\\`*_\[\]#!])", r"\\\1", escape(" ".join(text.split()), quote=False))
    return marked.replace("|", "&#124;")


def _address(file: str) -> str:
    from urllib.parse import quote

    return quote(file)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


_STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; }}
h2 {{ margin: 2rem 0 .5rem; font-size: 1.1rem; overflow-wrap: anywhere; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1rem; }}
.card {{ margin: 0; border: 1px solid #8885; border-radius: 6px; overflow: hidden; }}
.card img {{ display: block; width: 100%; height: auto; }}
figcaption {{ padding: .5rem .7rem .7rem; overflow-wrap: anywhere; }}
figcaption p {{ margin: .3rem 0 0; font-size: .85rem; }}
.none .answer {{ color: {NONE_COLOUR}; font-weight: 600; }}
.note {{ font-style: italic; }}
ol {{ margin: .2rem 0 0; padding-left: 1.5rem; }}
li i {{ display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .4em; }}
small {{ opacity: .7; }}
footer {{ margin-top: 2rem; font-size: .8rem; opacity: .7; }}
"""
