"""The drawn world: what there is, what it looks like, and where it stands.

A layout is free of pixels: positions and heights are fractions of the image's height (the images are square). The
camera looks along a flat floor, so that an object of height h whose foot is at y is drawn h * (y - horizon) / eye tall:
what is nearer stands lower and is larger.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from functools import cache

from refseg.palette import PAINTS

PATTERNS = ("striped", "dotted", "checked")
ALL = tuple(PAINTS)


@dataclass(frozen=True)
class Category:
    """One kind of object. `height` is in adult heights, `aspect` is width over height.

    `indoors` and `outdoors` are how often it is picked there; `surface` is how high its top is (fraction of its height)
    for objects that others can stand on, and `small` says that it may stand on one.
    """

    name: str
    families: tuple[str, ...]
    height: float
    aspect: float
    colours: tuple[str, ...] = ALL
    patterned: float = 0.0
    indoors: float = 1.0
    outdoors: float = 1.0
    surface: float | None = None
    small: bool = False


_NATURAL = ("brown", "black", "white")
CATEGORIES: dict[str, Category] = {
    item.name: item
    for item in (
        Category("man", ("person", "adult"), 1.0, 0.46, patterned=0.35, indoors=3.0, outdoors=3.0),
        Category("woman", ("person", "adult"), 0.95, 0.46, patterned=0.35, indoors=3.0, outdoors=3.0),
        Category("boy", ("person", "kid"), 0.68, 0.52, patterned=0.35, indoors=2.0, outdoors=2.0),
        Category("girl", ("person", "kid"), 0.66, 0.52, patterned=0.35, indoors=2.0, outdoors=2.0),
        Category("dog", ("animal",), 0.46, 1.25, (*_NATURAL, "orange", "yellow"), indoors=1.5, outdoors=2.0),
        Category("cat", ("animal",), 0.42, 1.12, (*_NATURAL, "orange"), indoors=2.0),
        Category("horse", ("animal",), 0.86, 1.16, _NATURAL, indoors=0.0, outdoors=1.5),
        Category("duck", ("animal",), 0.34, 1.15, ("yellow", "white", "brown", "green"), indoors=0.3, outdoors=1.5),
        Category("car", ("vehicle",), 0.56, 2.15, indoors=0.0, outdoors=2.5),
        Category("bus", ("vehicle",), 0.86, 1.9, indoors=0.0, outdoors=1.2),
        Category("truck", ("vehicle",), 0.78, 1.95, indoors=0.0, outdoors=1.2),
        Category("bicycle", ("vehicle",), 0.62, 1.55, indoors=0.4, outdoors=1.6),
        Category("chair", ("furniture",), 0.66, 0.66, indoors=2.2, outdoors=0.6),
        Category("table", ("furniture",), 0.5, 1.75, indoors=1.6, outdoors=0.5, surface=0.90),
        Category("sofa", ("furniture",), 0.52, 1.95, patterned=0.4, indoors=1.2, outdoors=0.0),
        Category("lamp", ("light",), 0.92, 0.44, indoors=1.2, outdoors=0.0),
        Category("cup", ("tableware",), 0.25, 1.2, patterned=0.4, indoors=1.8, outdoors=0.3, small=True),
        Category("bottle", ("tableware",), 0.4, 0.36, indoors=1.2, outdoors=0.5, small=True),
        Category("vase", ("tableware",), 0.42, 0.62, patterned=0.5, indoors=1.5, outdoors=0.3, small=True),
        Category("ball", ("toy",), 0.29, 1.0, patterned=0.5, indoors=1.6, outdoors=2.0, small=True),
        Category(
            "teddy bear", ("toy",), 0.4, 0.8, (*_NATURAL, "pink", "yellow"), indoors=1.2, outdoors=0.5, small=True
        ),
        Category("box", ("container",), 0.36, 1.2, patterned=0.45, indoors=1.6, outdoors=1.2, surface=0.82, small=True),
        Category("suitcase", ("container",), 0.48, 0.78, patterned=0.35, indoors=1.2, outdoors=1.0),
        Category("umbrella", ("accessory",), 0.5, 1.5, patterned=0.5, indoors=0.7, outdoors=1.5),
    )
}
PEOPLE = tuple(name for name, item in CATEGORIES.items() if "person" in item.families)
_CLOSE_UP = 0.5  # height of the eye over that of other scenes, in adult heights: things are drawn twice as tall
_SITTING = 0.6  # height of a person on the floor over the height of the same person standing


@dataclass(frozen=True)
class Placed:
    """One object of a layout. `x` is its middle, `foot` where it touches the ground, `top` to `foot` its height."""

    category: str
    colour: str
    pattern: str | None
    traits: tuple[str, ...]
    x: float
    foot: float
    height: float
    width: float
    depth: float
    flip: bool
    style: int
    support: int | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) as fractions of the image."""
        return self.x - self.width / 2, self.foot - self.height, self.x + self.width / 2, self.foot


@dataclass(frozen=True)
class Layout:
    """The objects of a scene from far to near, and the set: indoors or not, horizon, where the floor begins, light."""

    objects: tuple[Placed, ...]
    indoors: bool
    horizon: float
    edge: float  # where the floor begins: the foot of the wall, or the horizon
    light: float  # -1 light from the left ... 1 from the right


def random_for(*key: object) -> random.Random:
    """Random numbers that depend on `key` alone: the same in every process, unrelated for different keys."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


@cache
def held_out() -> frozenset[tuple[str, str]]:
    """The (colour, category) pairs that only split testC shows: a fifth of each category's colours, at least one."""
    pairs = []
    for item in CATEGORIES.values():
        ranked = sorted(item.colours, key=lambda colour: hashlib.sha256(f"{colour} {item.name}".encode()).digest())
        pairs += [(colour, item.name) for colour in ranked[: max(1, round(len(ranked) / 5))]]
    return frozenset(pairs)


def sample_layout(rng: random.Random, split: str = "train", close_up: bool = False) -> Layout:
    """A set with 2 to 10 objects that leave each other in sight; `close_up` with 2 to 6, twice as tall.

    Objects come in groups of one to four of a category (or of people), with colours from a small palette, so that most
    words fit several objects and an expression has to tell them apart. testA always has people, testB always something
    else, testC at least one held-out combination; the others have none.
    """
    indoors = rng.random() < 0.55
    horizon = rng.uniform(0.22, 0.36)
    edge = horizon + rng.uniform(0.10, 0.16) if indoors else horizon
    eye = rng.uniform(1.0, 1.3)
    if close_up:
        eye *= _CLOSE_UP
        wanted = rng.choices(range(2, 7), weights=(2, 4, 6, 4, 2))[0]
    else:
        wanted = rng.choices(range(2, 11), weights=(2, 3, 5, 7, 7, 6, 4, 3, 2))[0]
    palette = rng.sample(ALL, 4)
    objects: list[Placed] = []
    first = {"testA": "person", "testB": "other"}.get(split)
    for _ in range(40):
        if len(objects) >= wanted:
            break
        if first is not None:
            people = first == "person"
        else:
            people = rng.random() < 0.36
        category = rng.choice(PEOPLE) if people else _pick_category(rng, indoors)
        first = None
        count = min(rng.choices((1, 2, 3, 4), weights=(4, 4, 3, 1.5))[0], wanted - len(objects))
        forced = split == "testC" and not any((item.colour, item.category) in held_out() for item in objects)
        for _ in range(count):
            name = rng.choice(PEOPLE) if people and rng.random() < 0.6 else category
            dressed = _dress(rng, CATEGORIES[name], palette, split, forced)
            placed = _place(rng, CATEGORIES[name], dressed, objects, horizon, edge, eye)
            if placed is not None:
                objects.append(placed)
                forced = False
    order = sorted(range(len(objects)), key=lambda index: objects[index].depth)
    rank = {old: new for new, old in enumerate(order)}
    moved = (
        item if item.support is None else replace(item, support=rank[item.support])
        for item in (objects[index] for index in order)
    )
    return Layout(tuple(moved), indoors, horizon, edge, rng.uniform(-1, 1))


def _pick_category(rng: random.Random, indoors: bool) -> str:
    names = [name for name in CATEGORIES if name not in PEOPLE]
    weights = [CATEGORIES[name].indoors if indoors else CATEGORIES[name].outdoors for name in names]
    return rng.choices(names, weights=weights)[0]


def _dress(
    rng: random.Random, category: Category, palette: list[str], split: str, forced: bool
) -> tuple[str, str | None, tuple[str, ...]]:
    """(colour, pattern, traits) of a new object."""
    secret = [colour for colour in category.colours if (colour, category.name) in held_out()]
    open_colours = [colour for colour in category.colours if colour not in secret]
    if forced or (split == "testC" and rng.random() < 0.35):
        colour = rng.choice(secret)
    else:
        near = [colour for colour in open_colours if colour in palette]
        colour = rng.choice(near) if near and rng.random() < 0.75 else rng.choice(open_colours)
    pattern = rng.choice(PATTERNS) if rng.random() < category.patterned else None
    traits: tuple[str, ...] = ()
    if category.name in PEOPLE:
        sitting = rng.random() < 0.3
        traits = ("sitting",) if sitting else ("standing",)
        if rng.random() < 0.22:
            traits += ("hat",)
        if rng.random() < 0.2:
            traits += ("waving",)
    return colour, pattern, traits


def _place(
    rng: random.Random,
    category: Category,
    dressed: tuple[str, str | None, tuple[str, ...]],
    objects: list[Placed],
    horizon: float,
    edge: float,
    eye: float,
) -> Placed | None:
    """The new object at a place where it hides little of the others and they of it; None when there is no room."""
    colour, pattern, traits = dressed
    sitting = "sitting" in traits
    aspect = 1.02 if sitting else category.aspect
    size = rng.choice((0.82, 0.92, 1.0, 1.08, 1.2)) * category.height * (_SITTING if sitting else 1.0)
    flip, style = rng.random() < 0.5, rng.randrange(1 << 16)
    for attempt in range(24):
        support = _free_support(rng, objects) if category.small and attempt < 3 and rng.random() < 0.6 else None
        if support is not None:
            under = objects[support]
            surface = CATEGORIES[under.category].surface or 0.0
            height = size * (under.depth - horizon) / eye
            width = height * aspect
            if width > 0.6 * under.width:
                continue
            slack = max(0.0, (under.width * 0.86 - width) / 2)
            x = under.x + rng.uniform(-slack, slack)
            foot = under.foot - under.height * surface
            depth = under.depth + 1e-3
        else:
            low, high = max(edge + 0.03, horizon + 0.17), 0.97
            foot = low + (high - low) * rng.random() ** 0.85
            height = size * (foot - horizon) / eye
            width = height * aspect
            if width > 0.62 or height < 0.07 or foot - height < 0.01:
                continue
            x = rng.uniform(width / 2 - 0.04 * width, 1 - width / 2 + 0.04 * width)
            depth = foot
        placed = Placed(category.name, colour, pattern, traits, x, foot, height, width, depth, flip, style, support)
        if height >= 0.06 and all(_clear(placed, other, index == support) for index, other in enumerate(objects)):
            return placed
    return None


def _free_support(rng: random.Random, objects: list[Placed]) -> int | None:
    places = [
        index
        for index, item in enumerate(objects)
        if CATEGORIES[item.category].surface is not None and item.support is None and item.height > 0.09
    ]
    return rng.choice(places) if places else None


def _clear(one: Placed, other: Placed, on_it: bool) -> bool:
    """Whether two objects leave each other in sight and do not stand in the same place."""
    if on_it:
        return True
    left, top, right, bottom = one.box
    other_left, other_top, other_right, other_bottom = other.box
    wide = min(right, other_right) - max(left, other_left)
    tall = min(bottom, other_bottom) - max(top, other_top)
    if wide <= 0 or tall <= 0:
        return True
    gap = abs(one.depth - other.depth)
    if gap < 0.035:
        return wide < 0.12 * min(one.width, other.width)
    behind = one if one.depth < other.depth else other
    return wide * tall <= 0.30 * behind.width * behind.height
