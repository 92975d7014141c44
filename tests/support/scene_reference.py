"""The meaning of forms a second time, in slow loops from the words of the docs: what `Evaluator` is checked against.

Returns a set of indices, or None where the sentence is not certain.
"""

import math

YES, NO, MAYBE = "yes", "no", "maybe"


def fits(thing, noun, colour, pattern, trait):
    answers = []
    if noun == "thing":
        answers.append(MAYBE if {"person", "animal"} & set(thing.families) else YES)
    else:
        unrecorded = thing.category == "person" and noun in ("man", "woman", "boy", "girl", "kid", "adult")
        answers.append(YES if noun in {thing.category, *thing.families} else MAYBE if unrecorded else NO)
    if colour is not None:
        if thing.colour is None:
            answers.append(MAYBE)
        elif thing.colour == colour:
            answers.append(YES)
        else:
            answers.append(MAYBE if colour in thing.other_colours else NO)
    if pattern is not None:
        answers.append(MAYBE if thing.pattern is None else YES if thing.pattern == pattern else NO)
    if trait is not None:
        answers.append(MAYBE if thing.traits is None else YES if trait in thing.traits else NO)
    return NO if NO in answers else MAYBE if MAYBE in answers else YES


def settle(answers):
    """answers: {index: YES, NO or MAYBE}."""
    if MAYBE in answers.values():
        return None
    return {index for index, answer in answers.items() if answer == YES}


def place(view, index, side):
    thing, length = view.things[index], max(view.size)
    return {
        "left": -thing.centre[0],
        "right": thing.centre[0],
        "top": -thing.centre[1],
        "bottom": thing.centre[1],
        "near": thing.depth,
        "far": -thing.depth,
    }[side] / length


def margin(side):
    return 0.05 if side in ("near", "far") else 0.045


def beyond(view, base, side, index):
    """How many of `base` lie farther towards the side than `index`, and the least distance to any other."""
    here = place(view, index, side)
    others = [place(view, other, side) for other in base if other != index]
    return sum(other > here for other in others), min((abs(other - here) for other in others), default=math.inf)


def which_half(view, index):
    offset = view.things[index].centre[0] / view.size[1] - 0.5
    return None if abs(offset) < 0.08 else "right" if offset > 0 else "left"


def meaning(view, form):
    name = type(form).__name__
    if name == "Select":
        return settle(
            {i: fits(thing, form.noun, form.colour, form.pattern, form.trait) for i, thing in enumerate(view.things)}
        )
    if name == "Union":
        parts = [meaning(view, part) for part in form.parts]
        if any(not part for part in parts):
            return None
        if any(one & other for k, one in enumerate(parts) for other in parts[:k]):
            return None
        return set.union(*parts)
    base = meaning(view, form.base)
    if base is None:
        return None
    if name == "Except":
        out = meaning(view, form.excluded)
        return base - out if base and out and out <= base and out != base else None
    if name == "Related":
        return related(view, form, base)
    if not base:
        return set()
    if name == "Exactly":
        return base if len(base) == form.count else None
    if name == "Side":
        halves = {index: which_half(view, index) for index in base}
        if None in halves.values():
            return None
        found = {index for index in base if halves[index] == form.side}
        return None if not found and len(base) != 1 else found
    if name == "Compare":
        return compared(view, form, base)
    if name == "Extreme" and form.side == "middle":
        if len(base) != 3:
            return None
        counts = {index: beyond(view, base, "left", index) for index in base}
        if min(gap for _, gap in counts.values()) < margin("left"):
            return None
        return {index for index in base if counts[index][0] == 1}
    if name == "Extreme" and len(base) == 1:
        return base if which_half(view, min(base)) == form.side else None
    if name == "Nth" and len(base) == 1:
        return None
    wanted = {"Extreme": 1, "Nth": getattr(form, "rank", 0), "First": getattr(form, "count", 0)}[name]
    values = sorted((place(view, index, form.side) for index in base), reverse=True)
    if name == "First":
        if len(base) <= wanted or values[wanted - 1] - values[wanted] < 1.5 * margin(form.side):
            return None
        return {index for index in base if place(view, index, form.side) >= values[wanted - 1]}
    for k in range(min(wanted, len(values) - 1)):
        if values[k] - values[k + 1] < margin(form.side):
            return None
    if wanted > len(values):
        return set()
    return {index for index in base if beyond(view, base, form.side, index)[0] == wanted - 1}


def compared(view, form, base):
    if len(base) < 2 or (len(base) > 2) != form.several:
        return None
    boxes = {i: (t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for i, t in enumerate(view.things)}
    areas = {i: t.area for i, t in enumerate(view.things)}
    best = (max if form.quality == "bigger" else min)(sorted(base), key=lambda index: boxes[index])
    second = (max if form.quality == "bigger" else min)(sorted(base - {best}), key=lambda index: boxes[index])
    for sizes in (boxes, areas):
        ratio = sizes[best] / sizes[second] if form.quality == "bigger" else sizes[second] / sizes[best]
        if ratio < 1.4:
            return None
    return {best}


def box_gap(one, other):
    across = max(0.0, one.box[0] - other.box[2], other.box[0] - one.box[2])
    down = max(0.0, one.box[1] - other.box[3], other.box[1] - one.box[3])
    return math.hypot(across, down)


def related(view, form, base):
    anchors = meaning(view, form.anchor)
    if anchors is None:
        return None
    if not base or not anchors:
        return set()
    if len(anchors) != 1:
        return None
    (anchor,) = anchors
    rest = sorted(base - anchors)
    if form.relation == "nearest":
        if len(rest) < 2:
            return None
        target = view.things[anchor]
        far = {i: math.dist(view.things[i].centre, target.centre) for i in rest}
        first = min(rest, key=lambda i: far[i])
        second = min((i for i in rest if i != first), key=lambda i: far[i])
        if far[second] <= 1.35 * far[first] + 0.02 * max(view.size):
            return None
        return (
            {first}
            if all(box_gap(view.things[first], target) <= box_gap(view.things[i], target) for i in rest)
            else None
        )
    return settle({index: holds(view, index, form.relation, anchor) for index in rest})


def holds(view, index, relation, anchor):
    one, other, length = view.things[index], view.things[anchor], max(view.size)
    stacked = one.support == anchor or other.support == index
    if relation == "on":
        return YES if one.support == anchor else NO
    if stacked:
        return MAYBE
    if relation in ("left_of", "right_of"):
        ahead = (other.centre[0] - one.centre[0]) / length
        ahead = ahead if relation == "left_of" else -ahead
        half = (other.box[2] - other.box[0]) / (2 * length)
        return YES if ahead > 0.045 and ahead > 0.8 * half else NO if ahead <= -0.02 else MAYBE
    apart = (one.depth - other.depth) / length
    if relation == "next_to":
        gap = box_gap(one, other) / length
        if gap < 0.06 and abs(apart) < 0.1:
            return YES
        return NO if gap > 0.16 or abs(apart) > 0.3 else MAYBE
    nearer = apart if relation == "in_front_of" else -apart
    if nearer < -0.02:
        return NO
    overlap = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    narrow = min(one.box[2] - one.box[0], other.box[2] - other.box[0])
    return YES if nearer > 0.05 and overlap > 0.25 * narrow else MAYBE
