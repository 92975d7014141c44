"""The rules for photographs: what is certain between boxes, and what is not."""

from __future__ import annotations

from refseg.generation.language.forms import Compare, Extreme, Nth, Related, Select, Side, Thing, View
from refseg.generation.photos.evaluator import PhotoEvaluator

SIZE = (300, 400)


def thing(category: str, *edges: float, **fields) -> Thing:
    left, top, right, bottom = map(float, edges)
    centre = ((left + right) / 2, (top + bottom) / 2)
    area = (right - left) * (bottom - top) * 0.7
    return Thing(category, (left, top, right, bottom), centre, area, depth=bottom, **fields)


def denote(form, *things: Thing, open_names: tuple[str, ...] = ()):
    return PhotoEvaluator(View(SIZE, things, frozenset(open_names))).denote(form)


DOG = Select("dog")


def test_clear_places() -> None:
    dogs = thing("dog", 20, 100, 80, 160), thing("dog", 150, 100, 210, 160), thing("dog", 300, 110, 360, 170)
    assert denote(Extreme(DOG, "left"), *dogs) == {0}
    assert denote(Extreme(DOG, "middle"), *dogs) == {1}
    assert denote(Nth(DOG, 2, "right"), *dogs) == {1}
    assert denote(Side(DOG, "right"), *dogs) is None  # the one in the middle
    assert denote(Side(DOG, "right"), dogs[0], dogs[2]) == {1}


def test_a_large_thing_around_a_small_one_leaves_left_open() -> None:
    # By centres the small dog is the left one by far; but the large one reaches farther to the left.
    large, small = thing("dog", 10, 50, 390, 290), thing("dog", 60, 200, 120, 260)
    assert denote(Extreme(DOG, "left"), large, small) is None
    shifted = thing("dog", 100, 50, 390, 290)
    assert denote(Extreme(DOG, "left"), shifted, small) == {1}
    assert denote(Extreme(DOG, "right"), shifted, small) == {0}


def test_what_reaches_across_the_middle_is_on_no_side() -> None:
    assert denote(Side(DOG, "right"), thing("dog", 120, 50, 390, 290)) is None
    assert denote(Side(DOG, "right"), thing("dog", 190, 50, 390, 290)) == {0}


def test_depth_needs_feet_and_heights_that_agree() -> None:
    near, far = thing("person", 20, 60, 120, 290), thing("person", 250, 100, 290, 200)
    child = thing("person", 150, 220, 190, 292)
    assert denote(Extreme(Select("person"), "near"), near, far) == {0}
    assert denote(Extreme(Select("person"), "far"), near, far) == {1}
    assert denote(Extreme(Select("person"), "near"), near, far, child) is None
    assert denote(Extreme(Select("cup"), "near"), thing("cup", 20, 60, 60, 290), thing("cup", 200, 60, 220, 90)) is None


def test_size_needs_a_clear_ratio_and_an_uncut_smaller_one() -> None:
    big, small = thing("dog", 20, 100, 140, 200), thing("dog", 250, 120, 300, 170)
    assert denote(Compare(DOG, "bigger"), big, small) == {0}
    assert denote(Compare(DOG, "smaller"), big, small) == {1}
    assert denote(Compare(DOG, "smaller"), big, thing("dog", 350, 120, 400, 170)) is None
    assert denote(Compare(DOG, "bigger"), big, thing("dog", 250, 100, 340, 190)) is None


def test_relations() -> None:
    dog, cat, bird = thing("dog", 40, 100, 100, 160), thing("cat", 115, 105, 165, 162), thing("bird", 320, 10, 340, 30)
    assert denote(Related(DOG, "left_of", Select("cat")), dog, cat, bird) == {0}
    assert denote(Related(DOG, "right_of", Select("cat")), dog, cat, bird) == frozenset()
    assert denote(Related(DOG, "next_to", Select("cat")), dog, cat, bird) == {0}
    assert denote(Related(DOG, "next_to", Select("bird")), dog, cat, bird) == frozenset()
    assert denote(Related(DOG, "on", Select("cat")), dog, cat, bird) is None


def test_a_rider_is_neither_beside_nor_behind() -> None:
    rider, horse = thing("person", 150, 60, 210, 200), thing("horse", 120, 120, 260, 260)
    for relation in ("next_to", "behind", "in_front_of"):
        assert not denote(Related(Select("person"), relation, Select("horse")), rider, horse)
    walker, car = thing("person", 160, 190, 220, 295), thing("car", 100, 60, 300, 200)
    assert denote(Related(Select("person"), "in_front_of", Select("car")), walker, car) == {0}


def test_open_nouns_are_never_certain() -> None:
    one, other = thing("dog", 20, 100, 80, 160), thing("dog", 300, 100, 360, 160)
    assert denote(DOG, one, other, open_names=("dog",)) is None
    assert denote(Extreme(DOG, "left"), one, other, open_names=("dog",)) is None
    assert denote(Select("cat"), one, open_names=("dog",)) == frozenset()


def test_a_mixed_colour_is_certainly_not_a_third_one() -> None:
    mixed = thing("dog", 20, 100, 80, 160, colour="", other_colours=("black", "white"))
    assert denote(Select("dog", "red"), mixed) == frozenset()
    assert denote(Select("dog", "black"), mixed) is None
    assert denote(Select("dog", "red"), thing("dog", 20, 100, 80, 160)) is None


def test_who_may_ride_is_not_behind() -> None:
    elephant = thing("elephant", 100, 100, 300, 290, families=("animal",))
    behind = Related(Select("person"), "behind", Select("elephant"))
    front = Related(Select("elephant"), "in_front_of", Select("person"))
    rider = thing("person", 180, 40, 220, 110)
    apart = thing("person", 180, 20, 220, 90)
    for person, found in ((rider, None), (apart, {0})):
        assert denote(behind, person, elephant) == found
    assert denote(front, rider, elephant) is None
