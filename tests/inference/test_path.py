"""From picture to mask: which of our files run code when a loaded model answers, as CONTRIBUTING.md lists them."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image, ImageDraw

import refseg
from refseg.inference.predictor import Segmenter

ROOT = Path(refseg.__file__).parent
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
MOST = {"instances": 18, "rela-photo": 19}
"""Files that a reader who follows a plain noun, found or not, has to open at most."""
PLAIN = ("the red car", "the dog", "the ball", "the table", "the orange")
"""Nouns alone or with a colour: places, links, slips and words that no list holds have files of their own."""


@pytest.fixture(scope="module", params=sorted(MOST))
def model(request: pytest.FixtureRequest) -> tuple[str, Segmenter, list[Image.Image]]:
    segmenter = refseg.load(request.param)
    pictures = [scene(320, 240), scene(200, 300)]
    segmenter(pictures[0], "the blue chair")  # what is imported and looked up at the first question counts for none
    return request.param, segmenter, pictures


def scene(width: int, height: int) -> Image.Image:
    """An orange ball on a table top, drawn."""
    picture = Image.new("RGB", (width, height), (205, 215, 225))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(122, 76, 42))
    side = min(width, height) // 3
    left, top = width // 3, height * 2 // 3 - side
    draw.ellipse((left, top, left + side, top + side), fill=(240, 132, 24), outline=(40, 30, 30), width=2)
    return picture


def run(segmenter: Segmenter, picture: Image.Image, text: str) -> tuple[dict[str, set[str]], bool]:
    """The functions of each file of the package that are called for one answer, and whether it is none.

    Modules' own code and what dataclasses generate, which has no file, is left out.
    """
    called: dict[str, set[str]] = defaultdict(set)

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and code.co_name != "<module>" and path.is_relative_to(ROOT):
            called[path.relative_to(ROOT).as_posix()].add(code.co_qualname)

    sys.setprofile(note)
    try:
        answer = segmenter(picture, text)
    finally:
        sys.setprofile(None)
    return dict(called), answer.no_target


def listing(called: dict[str, set[str]]) -> str:
    return "\n".join(f"{name}: {', '.join(sorted(called[name]))}" for name in sorted(called))


def documented(name: str) -> set[str]:
    """The files of a model's list in CONTRIBUTING.md, by its name in the paragraph before."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    section = text[text.index("## From picture to mask") :].split("\n## ")[0]
    (table,) = (part for part in section.split("\n### ")[1:] if part.splitlines()[0].strip() == f"`{name}`")
    return set(re.findall(r"^\| `([\w/]+\.py)`", table, re.MULTILINE))


def union(runs: Sequence[dict[str, set[str]]]) -> dict[str, set[str]]:
    every: dict[str, set[str]] = defaultdict(set)
    for called in runs:
        for name, functions in called.items():
            every[name] |= functions
    return every


def test_an_answer_takes_few_files_and_those_that_are_documented(model) -> None:
    name, segmenter, pictures = model
    runs, none = zip(*(run(segmenter, picture, text) for picture in pictures for text in PLAIN), strict=True)
    assert any(none), "one of the answers is none"
    assert not all(none), "one of them has a mask"
    every = union(runs)
    assert len(every) <= MOST[name], f"{len(every)} files:\n{listing(every)}"
    assert set(every) == documented(name), listing(every)


def test_no_file_on_the_way_is_long(model) -> None:
    name, segmenter, pictures = model
    called, _ = run(segmenter, pictures[0], PLAIN[0])
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in called}
    assert max(lines.values()) <= 400, lines
    assert len(lines) <= MOST[name]


def test_asking_again_goes_the_same_way(model) -> None:
    _, segmenter, pictures = model
    first, second = (run(segmenter, pictures[1], PLAIN[0])[0] for _ in range(2))
    assert listing(first) == listing(second)
