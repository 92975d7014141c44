"""What an expression means, as a form over things: the language between pictures and English.

A `View` is a neutral list of `Thing`s with boxes and whatever else is known of them, so that forms serve drawn scenes
and annotated photographs alike. `refseg.generation.language.logic` says what a form means in a view, `grammar` how
it is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One object as the evaluator knows it; lengths are pixels of the picture.

    `families` are wider nouns ("person", "animal"); `other_colours` are colours that it shows besides its own; `depth`
    is the foot's height in the picture (larger is nearer), `support` the index of what it stands on (-1: the ground).
    None means not known; `colour` "" means known, but not one that can be named, so that all that it might be called
    stands in `other_colours`.
    """

    category: str
    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    area: float
    families: tuple[str, ...] = ()
    colour: str | None = None
    pattern: str | None = None
    other_colours: tuple[str, ...] = ()
    traits: tuple[str, ...] | None = None
    depth: float | None = None
    support: int | None = None


@dataclass(frozen=True)
class View:
    """A picture of `size` (height, width) and the things in it.

    Of the nouns in `open` there may be more things than those listed: nothing is certain about them.
    """

    size: tuple[int, int]
    things: tuple[Thing, ...]
    open: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Select:
    """All things with a noun (category, family or "thing") and attributes."""

    noun: str
    colour: str | None = None
    pattern: str | None = None
    trait: str | None = None


@dataclass(frozen=True)
class Extreme:
    """The one of `base` farthest to a side: left, right, top, bottom, near, far, or the middle one of three."""

    base: Select
    side: str


@dataclass(frozen=True)
class Side:
    """Those of `base` in the left or right half of the picture."""

    base: Select
    side: str


@dataclass(frozen=True)
class Nth:
    """The `rank`-th (from 1) of `base` counted from a side: left, right, near, far."""

    base: Select
    rank: int
    side: str


@dataclass(frozen=True)
class First:
    """The `count` of `base` farthest to a side, of more."""

    base: Select
    count: int
    side: str


@dataclass(frozen=True)
class Exactly:
    """All of `base`, which are `count`."""

    base: Select
    count: int


@dataclass(frozen=True)
class Related:
    """Those of `base` that stand in a relation to the one thing that `anchor` means.

    Relations: left_of, right_of, behind, in_front_of, next_to, on, and nearest (the one closest to the anchor).
    """

    base: Select
    relation: str
    anchor: Select


@dataclass(frozen=True)
class Compare:
    """The bigger or the smaller of two; if `several`, the biggest or smallest of more."""

    base: Select
    quality: str
    several: bool = False


@dataclass(frozen=True)
class Union:
    """All parts together; `shared` says that every part has this colour, said once."""

    parts: tuple[Form, ...]
    shared: str | None = None


@dataclass(frozen=True)
class Except:
    """`base` without `excluded`, which is part of it."""

    base: Select
    excluded: Form


Form = Select | Extreme | Side | Nth | First | Exactly | Related | Compare | Union | Except


def selects(form: Form) -> Iterator[Select]:
    """Every `Select` inside a form; the first is the head."""
    if isinstance(form, Select):
        yield form
    elif isinstance(form, Union):
        for part in form.parts:
            yield from selects(part)
    else:
        yield form.base
        if isinstance(form, Related):
            yield form.anchor
        elif isinstance(form, Except):
            yield from selects(form.excluded)
