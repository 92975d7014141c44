"""The evaluator for photographs: flat boxes of a deep world, so it takes more for a word to be certain.

Boxes and outlines tell nothing of supports: on is never certain. Depth is only between things that stand on the ground:
near and far within one category, when feet and heights agree; behind and in front of, when boxes are aligned and hardly
overlap and the feet are clearly apart; a person that touches an animal or vehicle may ride it.
"""

from __future__ import annotations

from itertools import pairwise

from refseg.generation.language.forms import Compare, Form, Thing
from refseg.generation.language.lexicon import GROUNDED, PEOPLE_NOUNS
from refseg.generation.language.logic import (
    APART,
    HALF_BAND,
    POSITION_MARGIN,
    TOUCHING,
    Evaluator,
    center_distance,
    gap,
    overlap,
)

_MANY = 16  # of more things nobody counts positions
_EDGE_SLACK = 0.015  # by which a box's edge may contradict the order of the centres
_OVERLAP_SHARE = 0.12  # of the narrower box's width, added to the margin
_TALLER = 5.0  # a height ratio of 1.25 counts as much as feet 0.05 apart


class PhotoEvaluator(Evaluator):
    """Denotations over one annotated photograph."""

    size_ratio = 1.8

    def denote(self, form: Form) -> frozenset[int] | None:
        """As in drawings; the smaller of two is certain only if the picture's edge does not cut it."""
        found = super().denote(form)
        if found and isinstance(form, Compare) and form.quality == "smaller":
            return None if any(self._cut(self.things[index]) for index in found) else found
        return found

    def ranked(self, base: frozenset[int], side: str) -> tuple[list[int], list[float]] | None:
        """As in drawings; a gap is the smallest lead that a thing before it has over a thing after it."""
        if len(base) > _MANY or (side in ("near", "far") and not self._on_one_ground(base)):
            return None
        axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}.get(side, (3, 1))
        if axis == 3:
            sign = -1 if side == "near" else 1
            order = sorted(base, key=lambda index: (sign * self.things[index].box[3], index))
        else:
            order = sorted(base, key=lambda index: (sign * self.things[index].centre[axis], index))
        leads = {
            (one, other): self._lead(self.things[one], self.things[other], side)
            for place, one in enumerate(order)
            for other in order[place + 1 :]
        }
        gaps = [
            min(leads[one, other] for one in order[: place + 1] for other in order[place + 1 :])
            for place, _ in enumerate(pairwise(order))
        ]
        return order, gaps

    def half(self, index: int, side: str) -> bool | None:
        """As in drawings; None also for what reaches far across the middle."""
        left, _, right, _ = self.things[index].box
        middle = self.view.size[1] / 2
        across = min(right - middle, middle - left)
        if across > 0.25 * (right - left) or abs((left + right) / 2 - middle) < HALF_BAND * self.view.size[1]:
            return None
        return ((left + right) / 2 > middle) == (side == "right")

    def holds(self, index: int, relation: str, anchor: int) -> bool | None:
        """Whether a thing stands in a relation to another one, where boxes leave no doubt."""
        one, other = self.things[index], self.things[anchor]
        if relation in ("left_of", "right_of"):
            return self._beside(one, other, relation)
        if relation in ("behind", "in_front_of"):
            return self._before(one, other, 1 if relation == "in_front_of" else -1)
        if relation != "next_to":
            return None
        apart = gap(one, other) / self.length
        heights = one.box[3] - one.box[1], other.box[3] - other.box[1]
        widths = one.box[2] - one.box[0], other.box[2] - other.box[0]
        if apart > APART and apart * self.length > 0.4 * max(*heights, *widths):
            return False
        level = abs(one.box[3] - other.box[3]) <= 0.2 * max(heights)
        alike = max(heights) < 3 * min(heights)  # a pedestrian's box may touch that of a far tower
        side_by_side = overlap(one, other) < 0.1 and apart < TOUCHING
        return True if side_by_side and level and alike else None

    def nearest(self, others: list[int], anchor: int) -> frozenset[int] | None:
        """The closest thing, where distances between centres and between boxes both say so by far."""
        if len(others) < 2:
            return None
        target = self.things[anchor]

        distances = {index: center_distance(self.things[index], target) for index in others}
        order = sorted(others, key=distances.__getitem__)
        gaps = [gap(self.things[index], target) for index in order]
        level = abs(self.things[order[0]].box[3] - target.box[3]) < 0.2 * self.length
        clear = distances[order[1]] > 1.5 * distances[order[0]] + 0.04 * self.length
        boxes_agree = min(gaps[1:]) > gaps[0] + 0.06 * self.length
        return frozenset(order[:1]) if clear and boxes_agree and level else None

    def _lead(self, one: Thing, other: Thing, side: str) -> float:
        """By how much `one` certainly is ahead of `other` towards a side, as a fraction of the picture."""
        if side in ("near", "far"):
            ahead, behind = (one, other) if side == "near" else (other, one)
            taller = (ahead.box[3] - ahead.box[1]) / max(behind.box[3] - behind.box[1], 1.0) - 1
            return min((ahead.box[3] - behind.box[3]) / self.length, taller / _TALLER)
        axis = 0 if side in ("left", "right") else 1
        sign = 1 if side in ("left", "top") else -1
        low = sign * (other.box[axis] - one.box[axis]) / self.length
        high = sign * (other.box[axis + 2] - one.box[axis + 2]) / self.length
        centre = sign * (other.centre[axis] - one.centre[axis]) / self.length
        narrow = min(one.box[axis + 2] - one.box[axis], other.box[axis + 2] - other.box[axis]) / self.length
        return min(centre - _OVERLAP_SHARE * narrow, low + _EDGE_SLACK, high + _EDGE_SLACK)

    def _on_one_ground(self, base: frozenset[int]) -> bool:
        names = {self.things[index].category for index in base}
        return len(names) == 1 and names <= GROUNDED

    def _beside(self, one: Thing, other: Thing, relation: str) -> bool | None:
        sign = 1 if relation == "left_of" else -1
        ahead = sign * (other.centre[0] - one.centre[0]) / self.length
        if ahead <= -POSITION_MARGIN:
            return False
        width = min(one.box[2] - one.box[0], other.box[2] - other.box[0])
        room = other.box[0] - one.box[2] if relation == "left_of" else one.box[0] - other.box[2]
        rows = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
        level = rows > 0.3 * min(one.box[3] - one.box[1], other.box[3] - other.box[1])
        return True if ahead > POSITION_MARGIN and room > -0.25 * width and level else None

    def _before(self, one: Thing, other: Thing, sign: int) -> bool | None:
        if not {one.category, other.category} <= GROUNDED:
            return None
        farther, nearer_one = (one, other) if sign < 0 else (other, one)
        # A rider's feet are higher in the picture than the animal's, too.
        if farther.category in PEOPLE_NOUNS and nearer_one.families and gap(one, other) <= 0:
            return None
        nearer = sign * (one.box[3] - other.box[3]) / self.length
        if nearer < -0.06:
            return False
        across = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
        aligned = across > 0.5 * min(one.box[2] - one.box[0], other.box[2] - other.box[0])
        return True if nearer > 0.06 and aligned and overlap(one, other) < 0.25 else None

    def _cut(self, thing: Thing) -> bool:
        height, width = self.view.size
        left, top, right, bottom = thing.box
        return left < 2 or top < 2 or right > width - 2 or bottom > height - 2
