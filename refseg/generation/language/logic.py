"""The evaluator: which things of a view a form means.

Truth has three values. A thing that only just satisfies a word (a little left of the middle, nearly as big, a red and
white ball for "white", an attribute that nobody recorded) is neither in nor out, and a form that depends on it has no
answer: `denote` returns None, and no expression is made of it. Margins are fractions of the picture's larger side.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from refseg.generation.language import forms
from refseg.generation.language.lexicon import PEOPLE_NOUNS

POSITION_MARGIN = 0.045  # between centres, for left, right, top, bottom
DEPTH_MARGIN = 0.05  # between feet, for near and far
HALF_BAND = 0.08  # on each side of the middle line, neither left nor right
SIZE_RATIO = 1.4  # between areas, for bigger and smaller
TOUCHING, APART = 0.06, 0.16  # gaps between boxes: certainly next to, certainly not


class Evaluator:
    """Denotations over one view, each form worked out once.

    The geometry is that of drawings on a flat floor; photographs have stricter rules in a class derived from this one.
    """

    size_ratio = SIZE_RATIO

    def __init__(self, view: forms.View) -> None:
        self.view = view
        self.things = view.things
        self.length = float(max(view.size))
        self._known: dict[forms.Form, frozenset[int] | None] = {}

    def denote(self, form: forms.Form) -> frozenset[int] | None:
        """The indices of the things that `form` means, empty if there are certainly none, None if it is not certain."""
        if form not in self._known:
            self._known[form] = _RULES[type(form)](self, form)
        return self._known[form]

    def position(self, index: int, side: str) -> float | None:
        """How far a thing lies towards a side (larger is farther), as a fraction of the picture; None if not known."""
        thing = self.things[index]
        if side in ("near", "far"):
            if thing.depth is None:
                return None
            return (thing.depth if side == "near" else -thing.depth) / self.length
        value = thing.centre[0 if side in ("left", "right") else 1] / self.length
        return value if side in ("right", "bottom") else -value

    def ranked(self, base: frozenset[int], side: str) -> tuple[list[int], list[float]] | None:
        """The things of `base` from a side inwards, and the gap between each and the next."""
        places = [(self.position(index, side), index) for index in base]
        if any(place is None for place, _ in places):
            return None
        order = sorted(places, key=lambda place: (-(place[0] or 0.0), place[1]))
        gaps = [(one or 0.0) - (two or 0.0) for (one, _), (two, _) in pairwise(order)]
        return [index for _, index in order], gaps

    def half(self, index: int, side: str) -> bool | None:
        """Whether a thing lies in the left or right half; None near the middle."""
        beyond = self.things[index].centre[0] / self.view.size[1] - 0.5
        if abs(beyond) < HALF_BAND:
            return None
        return (beyond > 0) == (side == "right")

    def holds(self, index: int, relation: str, anchor: int) -> bool | None:
        """Whether a thing stands in a relation to another one (`nearest` is no such relation)."""
        one, other = self.things[index], self.things[anchor]
        if relation == "on":
            if one.support is None:
                return None
            return one.support == anchor
        if relation in ("left_of", "right_of"):
            if one.support == anchor or other.support == index:
                return None
            ahead = (other.centre[0] - one.centre[0]) * (1 if relation == "left_of" else -1) / self.length
            if ahead <= -0.02:
                return False
            # Clearly beside: the centre lies beyond the anchor's box, not merely off its middle.
            reach = (other.box[2] - other.box[0]) / 2 / self.length
            return True if ahead > max(POSITION_MARGIN, 0.8 * reach) else None
        if relation == "next_to":
            if one.support == anchor or other.support == index:
                return None
            between = gap(one, other) / self.length
            apart = 0.0 if one.depth is None or other.depth is None else abs(one.depth - other.depth) / self.length
            if between < TOUCHING and apart < 0.1:
                return True
            return False if between > APART or apart > 0.3 else None
        if one.depth is None or other.depth is None or one.support == anchor or other.support == index:
            return None
        nearer = (one.depth - other.depth) / self.length * (1 if relation == "in_front_of" else -1)
        if nearer < 0:
            return False if nearer < -0.02 else None
        width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
        aligned = width > 0.25 * min(one.box[2] - one.box[0], other.box[2] - other.box[0])
        return True if nearer > DEPTH_MARGIN and aligned else None

    def nearest(self, others: list[int], anchor: int) -> frozenset[int] | None:
        """The thing of `others` that is closest to another one by centres, if the boxes agree and the second closest is
        clearly farther."""
        if len(others) < 2:
            return None
        target = self.things[anchor]

        distances = {index: center_distance(self.things[index], target) for index in others}
        order = sorted(others, key=distances.__getitem__)
        gaps = {index: gap(self.things[index], target) for index in others}
        clear = distances[order[1]] > 1.35 * distances[order[0]] + 0.02 * self.length
        return frozenset(order[:1]) if clear and gaps[order[0]] <= min(gaps.values()) else None


def _match(thing: forms.Thing, form: forms.Select) -> bool | None:
    """Whether one thing has the noun and the attributes; None if that is not certain."""
    certain: bool | None = True
    if form.noun == "thing":
        # People would argue whether a woman in red is a red thing.
        if "person" in thing.families or "animal" in thing.families or thing.category in ("person",):
            certain = None
    elif form.noun != thing.category and form.noun not in thing.families:
        if thing.category != "person" or form.noun not in PEOPLE_NOUNS:
            return False
        certain = None  # of a person, no more is recorded: perhaps a man
    for wanted, found in ((form.colour, thing.colour), (form.pattern, thing.pattern)):
        if wanted is not None and found is None:
            certain = None
        elif wanted is not None and wanted != found:
            if wanted not in thing.other_colours:
                return False
            certain = None
    if form.trait is not None:
        if thing.traits is None:
            return None
        if form.trait not in thing.traits:
            return False
    return certain


def _gather(truths: list[bool | None]) -> frozenset[int] | None:
    if any(truth is None for truth in truths):
        return None
    return frozenset(index for index, truth in enumerate(truths) if truth)


def _select(self: Evaluator, form: forms.Select) -> frozenset[int] | None:
    if form.noun in self.view.open:
        return None
    return _gather([_match(thing, form) for thing in self.things])


def _margin(side: str) -> float:
    return DEPTH_MARGIN if side in ("near", "far") else POSITION_MARGIN


def _extreme(self: Evaluator, form: forms.Extreme) -> frozenset[int] | None:
    base = self.denote(form.base)
    if not base:
        return base
    if form.side == "middle":
        ranked = self.ranked(base, "left")
        if len(base) != 3 or ranked is None or min(ranked[1]) < POSITION_MARGIN:
            return None
        return frozenset(ranked[0][1:2])
    if len(base) == 1:
        # Of one thing nobody says "the left one", unless it is on the left.
        return base if form.side in ("left", "right") and self.half(min(base), form.side) else None
    ranked = self.ranked(base, form.side)
    if ranked is None or ranked[1][0] < _margin(form.side):
        return None
    return frozenset(ranked[0][:1])


def _side(self: Evaluator, form: forms.Side) -> frozenset[int] | None:
    base = self.denote(form.base)
    if not base:
        return base
    truths = {index: self.half(index, form.side) for index in base}
    if any(truth is None for truth in truths.values()):
        return None
    found = frozenset(index for index, truth in truths.items() if truth)
    # "The dog on the left" of two dogs on the right may still mean the left one of them.
    return None if not found and len(base) > 1 else found


def _nth(self: Evaluator, form: forms.Nth) -> frozenset[int] | None:
    base = self.denote(form.base)
    if not base:
        return base
    ranked = self.ranked(base, form.side)
    if ranked is None:
        return None
    order, gaps = ranked
    if len(order) == 1:
        return None
    if any(gap < _margin(form.side) for gap in gaps[: form.rank]):
        return None
    return frozenset(order[form.rank - 1 : form.rank])


def _first(self: Evaluator, form: forms.First) -> frozenset[int] | None:
    base = self.denote(form.base)
    if not base:
        return base
    ranked = self.ranked(base, form.side)
    if ranked is None or len(base) <= form.count or ranked[1][form.count - 1] < 1.5 * _margin(form.side):
        return None
    return frozenset(ranked[0][: form.count])


def _exactly(self: Evaluator, form: forms.Exactly) -> frozenset[int] | None:
    base = self.denote(form.base)
    return base if not base or len(base) == form.count else None


def _related(self: Evaluator, form: forms.Related) -> frozenset[int] | None:
    base, anchors = self.denote(form.base), self.denote(form.anchor)
    if base is None or anchors is None:
        return None
    if not base or not anchors:
        return frozenset()
    if len(anchors) > 1:
        return None
    anchor = min(anchors)
    others = sorted(base - anchors)
    if form.relation == "nearest":
        return self.nearest(others, anchor)
    truths = {index: self.holds(index, form.relation, anchor) for index in others}
    if any(truth is None for truth in truths.values()):
        return None
    return frozenset(index for index, truth in truths.items() if truth)


def gap(one: forms.Thing, other: forms.Thing) -> float:
    """Distance between two boxes in pixels, 0 if they overlap."""
    across = max(one.box[0] - other.box[2], other.box[0] - one.box[2], 0.0)
    down = max(one.box[1] - other.box[3], other.box[1] - one.box[3], 0.0)
    return (across * across + down * down) ** 0.5


def center_distance(one: forms.Thing, other: forms.Thing) -> float:
    """Distance between the centres of two boxes in pixels."""
    return ((one.centre[0] - other.centre[0]) ** 2 + (one.centre[1] - other.centre[1]) ** 2) ** 0.5


def overlap(one: forms.Thing, other: forms.Thing) -> float:
    """The area that two boxes share over the smaller one's."""
    across = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    down = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if across <= 0 or down <= 0:
        return 0.0
    areas = [(thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1]) for thing in (one, other)]
    return across * down / max(min(areas), 1.0)


def _compare(self: Evaluator, form: forms.Compare) -> frozenset[int] | None:
    base = self.denote(form.base)
    if not base:
        return base
    if len(base) < 2 or form.several != (len(base) > 2):
        return None
    sign = 1 if form.quality == "bigger" else -1

    def extent(index: int) -> float:
        left, top, right, bottom = self.things[index].box
        return (right - left) * (bottom - top)

    order = sorted(base, key=lambda index: (-sign * extent(index), index))
    for measure in (extent, lambda index: self.things[index].area):
        large, small = (measure(order[0]), measure(order[1]))[::sign]
        if large < self.size_ratio * small:
            return None
    return frozenset(order[:1])


def _union(self: Evaluator, form: forms.Union) -> frozenset[int] | None:
    parts = [self.denote(part) for part in form.parts]
    if not all(parts):
        return None
    together = frozenset[int]().union(*(part for part in parts if part))
    return together if len(together) == sum(len(part) for part in parts if part) else None


def _except(self: Evaluator, form: forms.Except) -> frozenset[int] | None:
    base, excluded = self.denote(form.base), self.denote(form.excluded)
    if not base or not excluded or not excluded < base:
        return None
    return base - excluded


_RULES: dict[type, Callable[..., frozenset[int] | None]] = {
    forms.Select: _select,
    forms.Extreme: _extreme,
    forms.Side: _side,
    forms.Nth: _nth,
    forms.First: _first,
    forms.Exactly: _exactly,
    forms.Related: _related,
    forms.Compare: _compare,
    forms.Union: _union,
    forms.Except: _except,
}
