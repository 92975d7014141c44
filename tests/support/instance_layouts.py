"""Random layouts of perfect boxes with expressions that certainly mean some of them: what the logic test draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from refseg.generation.language.expressions import Expression, expressions_of
from refseg.generation.language.forms import Thing, View
from refseg.models.instances.chooser import Candidates
from refseg.models.instances.classes import CLASSES
from refseg.models.instances.evidence import lay_out
from refseg.models.instances.types import COLOURS

_KINDS = {
    "man": ("person", "adult"),
    "woman": ("person", "adult"),
    "boy": ("person", "kid"),
    "girl": ("person", "kid"),
    "dog": ("animal",),
    "cat": ("animal",),
    "horse": ("animal",),
    "car": ("vehicle",),
    "bus": ("vehicle",),
    "bicycle": ("vehicle",),
    "chair": ("furniture",),
    "cup": (),
    "umbrella": (),
    "teddy bear": (),
    "suitcase": (),
    "zebra": ("animal",),
    "bench": ("furniture",),
}
_SIDE = 320


@dataclass(frozen=True)
class Puzzle:
    """An expression about a view, and the view as proposals."""

    view: View
    expression: Expression
    candidates: Candidates


def candidates_of(view: View, certain: float = 0.92, noise: float = 0.01) -> Candidates:
    """Perfect proposals: the right class, the right box, most pixels of the right colour."""
    count = len(view.things)
    probabilities = torch.full((count, len(CLASSES)), noise)
    colours = torch.zeros(count, len(COLOURS))
    boxes = torch.zeros(count, 4)
    height, width = view.size
    for row, thing in enumerate(view.things):
        probabilities[row, CLASSES.index(thing.category)] = certain
        if "person" in thing.families:
            probabilities[row, CLASSES.index("person")] = certain
        if thing.colour:
            colours[row, COLOURS.index(thing.colour)] = 0.85
        boxes[row] = torch.tensor(thing.box) / torch.tensor([width, height, width, height])
    return Candidates(probabilities, colours, lay_out(boxes, view.size))


def draw_view(rng: random.Random) -> View:
    """Some things of a few categories on a floor, hardly overlapping."""
    names = rng.sample(sorted(_KINDS), rng.randint(1, 3))
    colours = rng.sample(("black", "white", "red", "yellow", "green", "blue", "brown"), rng.randint(1, 4))
    things: list[Thing] = []
    for _ in range(rng.randint(2, 8)):
        for _ in range(30):
            width, height = rng.randint(24, 90), rng.randint(24, 110)
            x, y = rng.randint(0, _SIDE - width), rng.randint(0, _SIDE - height)
            box = (float(x), float(y), float(x + width), float(y + height))
            if all(_shared(box, other.box) < 0.1 * width * height for other in things):
                break
        else:
            break
        name = rng.choice(names)
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        things.append(
            Thing(
                name, box, centre, float(width * height), _KINDS[name], rng.choice(colours), "plain", (), (), box[3], -1
            )
        )
    return View((_SIDE, _SIDE), tuple(things))


def _shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def puzzles(count: int, seed: int = 0) -> Iterator[Puzzle]:
    """`count` layouts with one expression each; expressions that name no category ("everything red") are left out."""
    rng = random.Random(seed)
    made = 0
    before = draw_view(rng)
    while made < count:
        view = draw_view(rng)
        found = expressions_of(view, rng, 2, elsewhere=before)
        before = view
        if found:
            yield Puzzle(view, rng.choice(found), candidates_of(view))
            made += 1
