import random
from dataclasses import replace

import pytest

from refseg.generation.language.forms import (
    Compare,
    Exactly,
    Except,
    Extreme,
    First,
    Nth,
    Related,
    Select,
    Side,
    Thing,
    Union,
    View,
    selects,
)
from refseg.generation.language.logic import Evaluator
from tests.support import scene_reference as reference

COLOURS = ("red", "blue", "white")
FAMILIES = {
    "person": ("person",),
    "man": ("person", "adult"),
    "girl": ("person", "kid"),
    "dog": ("animal",),
    "cup": (),
    "box": (),
}


def thing(category, x, foot, *, width=20.0, height=20.0, colour="red", **fields):
    x, foot = float(x), float(foot)
    width, height = float(width), float(height)
    box = (x - width / 2, foot - height, x + width / 2, foot)
    centre = (x, foot - height / 2)
    values = {"pattern": "plain", "traits": (), "depth": foot, "support": -1, **fields}
    return Thing(category, box, centre, width * height * 0.8, FAMILIES[category], colour, **values)


def row(*things):
    return Evaluator(View((200, 200), things))


def random_view(rng):
    things = []
    for index in range(rng.randint(1, 8)):
        category = rng.choice(list(FAMILIES))
        person = "person" in FAMILIES[category]
        pattern = rng.choice(("plain", "plain", "striped"))
        colour = rng.choice(COLOURS)
        things.append(
            thing(
                category,
                rng.uniform(10, 190),
                rng.uniform(60, 195),
                width=rng.uniform(8, 60),
                height=rng.uniform(8, 60),
                colour=colour,
                pattern=pattern,
                other_colours=("white",) if pattern == "striped" and colour != "white" else (),
                traits=(rng.choice(("sitting", "standing")),) if person else (),
                support=rng.randrange(index) if index and rng.random() < 0.15 else -1,
            )
        )
    return View((200, 200), tuple(things))


def random_select(rng):
    return Select(
        rng.choice(("man", "girl", "dog", "cup", "box", "person", "kid", "animal", "thing")),
        rng.choice((None, None, *COLOURS)),
        rng.choice((None, None, None, "striped")),
        rng.choice((None, None, None, "sitting")),
    )


def random_form(rng, depth=0):
    base = random_select(rng)
    sides = ("left", "right", "near", "far")
    makers = [
        lambda: base,
        lambda: Extreme(base, rng.choice((*sides, "top", "bottom", "middle"))),
        lambda: Side(base, rng.choice(("left", "right"))),
        lambda: Nth(base, rng.randint(1, 4), rng.choice(sides)),
        lambda: First(base, rng.randint(1, 3), rng.choice(sides)),
        lambda: Exactly(base, rng.randint(1, 3)),
        lambda: Related(
            base,
            rng.choice(("left_of", "right_of", "behind", "in_front_of", "next_to", "on", "nearest")),
            Select(rng.choice(list(FAMILIES)), rng.choice((None, *COLOURS))),
        ),
        lambda: Compare(base, rng.choice(("bigger", "smaller")), rng.random() < 0.5),
    ]
    if depth == 0:
        makers.append(lambda: Union((random_form(rng, 1), random_form(rng, 1))))
        part = replace(base, colour=rng.choice(COLOURS))
        makers.append(lambda: Except(base, rng.choice((part, random_form(rng, 1)))))
    return rng.choice(makers)()


def test_evaluator_agrees_with_slow_reference():
    rng = random.Random(7)
    answered = {}
    for _ in range(200):
        view = random_view(rng)
        evaluator = Evaluator(view)
        for _ in range(40):
            form = random_form(rng)
            expected = reference.meaning(view, form)
            found = evaluator.denote(form)
            assert (found is None) == (expected is None), (form, view)
            if found is not None:
                assert set(found) == expected, (form, view)
                answered.setdefault(type(form).__name__, [0, 0])[bool(found)] += 1
    # The comparison means something only if every form was answered both ways, where both can be.
    for name, (empty, full) in answered.items():
        assert full >= 5, name
        assert empty >= 5 or name in ("Union", "Except"), name
    assert len(answered) == 10


def test_ordinals_count_from_the_side():
    evaluator = row(*(thing("cup", x, 150) for x in (150, 50, 100)))
    cup = Select("cup")
    assert evaluator.denote(Nth(cup, 2, "left")) == {2}
    assert evaluator.denote(Nth(cup, 1, "right")) == {0}
    assert evaluator.denote(Nth(cup, 4, "left")) == frozenset()
    assert evaluator.denote(First(cup, 2, "left")) == {1, 2}
    assert evaluator.denote(Extreme(cup, "middle")) == {2}


def test_near_ties_have_no_answer():
    evaluator = row(thing("cup", 50, 150), thing("cup", 54, 180), thing("cup", 150, 184))
    assert evaluator.denote(Extreme(Select("cup"), "left")) is None
    assert evaluator.denote(Extreme(Select("cup"), "near")) is None
    assert evaluator.denote(Extreme(Select("cup"), "far")) == {0}
    assert evaluator.denote(Compare(Select("cup"), "bigger", True)) is None


def test_relations():
    evaluator = row(
        thing("box", 100, 120, width=60, height=40),
        thing("cup", 100, 160),
        thing("cup", 105, 90, support=0),
        thing("dog", 20, 121),
    )
    box = Select("box")
    assert evaluator.denote(Related(Select("cup"), "on", box)) == {2}
    # The cup on the box is neither in front of it nor behind it.
    assert evaluator.denote(Related(Select("cup"), "in_front_of", box)) is None
    assert evaluator.denote(Related(Select("dog"), "left_of", box)) == {3}
    assert evaluator.denote(Related(Select("dog"), "right_of", box)) == frozenset()
    assert evaluator.denote(Related(Select("dog"), "left_of", Select("cup"))) is None


@pytest.mark.parametrize(
    "form", [Select("cup", "red"), Select("cup", None, "plain"), Select("cup", None, None, "sitting")]
)
def test_unknown_attributes_are_uncertain(form):
    view = View((200, 200), (Thing("cup", (10.0, 10.0, 30.0, 30.0), (20.0, 20.0), 300.0),))
    evaluator = Evaluator(view)
    assert evaluator.denote(Select("cup")) == {0}
    assert evaluator.denote(form) is None
    assert evaluator.denote(Related(Select("cup"), "behind", Select("cup"))) == frozenset()
    assert evaluator.denote(Extreme(Select("cup"), "near")) is None


def test_selects_lists_the_head_first():
    inner = Related(Select("dog"), "on", Select("box"))
    assert list(selects(Except(Select("animal"), inner))) == [Select("animal"), Select("dog"), Select("box")]
    assert [form.noun for form in selects(Union((Select("man"), inner)))] == ["man", "dog", "box"]
