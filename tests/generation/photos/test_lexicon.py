"""Words for category names of any file: aliases, plurals, articles, pairs, masses."""

from __future__ import annotations

import random

import pytest

from refseg.generation.language.forms import Exactly, Extreme, Nth, Related, Select
from refseg.generation.language.grammar import Voice, say
from refseg.generation.language.lexicon import (
    PhotoWords,
    article,
    countability,
    has_side_in_name,
    names_no_color,
    normal_name,
    plural,
)

# Every category of COCO, as singular and plural.
COCO = """person people|bicycle bicycles|car cars|motorcycle motorcycles|airplane airplanes|bus buses|train trains|
truck trucks|boat boats|traffic light=traffic lights|fire hydrant=fire hydrants|stop sign=stop signs|
parking meter=parking meters|bench benches|bird birds|cat cats|dog dogs|horse horses|sheep sheep|cow cows|
elephant elephants|bear bears|zebra zebras|giraffe giraffes|backpack backpacks|umbrella umbrellas|handbag handbags|
tie ties|suitcase suitcases|frisbee frisbees|snowboard snowboards|sports ball=sports balls|kite kites|
baseball bat=baseball bats|baseball glove=baseball gloves|skateboard skateboards|surfboard surfboards|
tennis racket=tennis rackets|bottle bottles|wine glass=wine glasses|cup cups|fork forks|knife knives|spoon spoons|
bowl bowls|banana bananas|apple apples|sandwich sandwiches|orange oranges|carrot carrots|hot dog=hot dogs|pizza pizzas|
donut donuts|cake cakes|chair chairs|couch couches|potted plant=potted plants|bed beds|dining table=dining tables|
toilet toilets|tv tvs|laptop laptops|mouse mice|remote remotes|keyboard keyboards|cell phone=cell phones|
microwave microwaves|oven ovens|toaster toasters|sink sinks|refrigerator refrigerators|book books|clock clocks|
vase vases|teddy bear=teddy bears|hair drier=hair driers|toothbrush toothbrushes""".replace("\n", "")


@pytest.mark.parametrize("pair", COCO.split("|"))
def test_plurals_of_coco(pair: str) -> None:
    one, several = pair.split("=") if "=" in pair else pair.split(" ")
    assert plural(one) == several
    assert countability(one) == "count"


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("pair of skis", "pairs of skis"),
        ("piece of broccoli", "pieces of broccoli"),
        ("police officer", "police officers"),
        ("fireman", "firemen"),
        ("human", "humans"),
        ("leaf", "leaves"),
        ("scarf", "scarves"),
        ("butter knife", "butter knives"),
        ("giraffe", "giraffes"),
        ("fish", "fish"),
        ("cherry", "cherries"),
        ("strawberry", "strawberries"),
        ("tomato", "tomatoes"),
        ("glass of water", "glasses of water"),
        ("grandchild", "grandchildren"),
    ],
)
def test_irregular_and_compound_plurals(one: str, several: str) -> None:
    assert plural(one) == several


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("umbrella", "an umbrella"),
        ("unicycle", "a unicycle"),
        ("uninvited guest", "an uninvited guest"),
        ("hourglass", "an hourglass"),
        ("orange cat", "an orange cat"),
        ("SUV", "an SUV"),
        ("European car", "a European car"),
        ("one-way sign", "a one-way sign"),
        ("horse", "a horse"),
    ],
)
def test_articles_follow_the_sound(words: str, expected: str) -> None:
    assert article(words) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tvmonitor", "tv"),
        ("car_(automobile)", "car"),
        ("TrafficLight", "traffic light"),
        ("Dining_Table", "dining table"),
        ("pedestrian", "person"),
        ("teddy_bear", "teddy bear"),
        ("t-shirt", "t-shirt"),
    ],
)
def test_normal_names(name: str, expected: str) -> None:
    assert normal_name(name) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("skis", "pair"),
        ("front glasses", "pair"),
        ("shoes", "pair"),
        ("hair", "mass"),
        ("cars", "mass"),
        ("accessories", "mass"),
        ("broccoli", "count"),
        ("bus", "count"),
        ("dress", "count"),
        ("glass", "count"),
        ("cactus", "count"),
    ],
)
def test_kinds_of_nouns(name: str, kind: str) -> None:
    assert countability(name) == kind


def wordings(form: object, present: tuple[str, ...] = (), many: bool = False, **fields: float) -> set[str]:
    found = set()
    for seed in range(150):
        rng = random.Random(seed)
        found.add(say(form, Voice(rng, PhotoWords(rng, present), garments=False, **fields), many))  # type: ignore[arg-type]
    return found


def test_pairs_are_counted_as_pairs_and_named_without() -> None:
    assert wordings(Select("skis")) == {"skis", "the skis"}
    assert {"the second pair of skis from the left"} <= wordings(Nth(Select("skis"), 2, "left"))
    assert {"the two pairs of skis", "both pairs of skis"} <= wordings(Exactly(Select("skis"), 2), many=True)
    assert all("pair of scissors" in text for text in wordings(Extreme(Select("scissors"), "left")))
    assert any(
        text.endswith("next to the skis") for text in wordings(Related(Select("dog"), "next_to", Select("skis")))
    )


def test_words_that_fit_another_category_are_avoided() -> None:
    assert any("bike" in text for text in wordings(Select("bicycle"), ("bicycle",)))
    assert not any("bike" in text for text in wordings(Select("bicycle"), ("bicycle", "motorcycle")))
    assert any("bag" in text.split() for text in wordings(Select("suitcase"), ("suitcase",)))
    assert not any("bag" in text.split() for text in wordings(Select("suitcase"), ("suitcase", "handbag")))


def test_people_are_called_by_what_is_known() -> None:
    assert wordings(Select("person")) == {"person", "the person"}
    assert {"guy", "the gentleman"} <= wordings(Select("man"))
    assert {"lady", "the woman"} <= wordings(Select("woman"))
    assert {"child", "the kid"} <= wordings(Select("kid"))
    # A colour seen on somebody is not known to be that of a shirt.
    colours = wordings(Select("person", "red"))
    assert not any("shirt" in text or "top" in text for text in colours)
    assert {"person in red", "the person wearing red"} <= colours


def test_indefinite_articles_are_right() -> None:
    found = wordings(Select("umbrella", "orange"), indefinite=1.0)
    assert found == {"an orange umbrella"}
    assert wordings(Select("skis"), indefinite=1.0) == {"a pair of skis"}
    assert wordings(Select("broccoli"), indefinite=1.0) == {"a piece of broccoli"}


def test_names_that_hold_sides_or_colours() -> None:
    assert has_side_in_name("front left door")
    assert not has_side_in_name("door")
    assert names_no_color("orange")
    assert names_no_color("polar bear")
    assert not names_no_color("car")
