"""Which words are asked of an open vocabulary, and which categories of a closed one are meant."""

from __future__ import annotations

import pytest

from refseg.models.instances.concepts import Asked, ask, category_weight, exclusive, normal_category, singular
from refseg.models.instances.expression import parse
from refseg.models.instances.model import is_spelled
from refseg.models.instances.words import Lexicon

MEANS = Lexicon()


def asked(text: str, *categories: str) -> Asked:
    return ask(text, MEANS, is_spelled, categories)


@pytest.mark.parametrize(
    ("text", "names", "targets"),
    [
        ("the second crate from the left", ("crate",), ("crate",)),
        ("all crates except the leftmost one", ("crate",), ("crate",)),
        ("the bigger espresso machine", ("espresso machine",), ("espresso machine",)),
        ("man in red next to the kiosk", ("man", "kiosk"), ("man",)),
        ("the polar bear on the right", ("polar bear",), ("polar bear",)),
        ("middle zebra", ("zebra",), ("zebra",)),
        ("everyone in blue", ("person",), ("person",)),
        ("the tripod and the microphone", ("tripod", "microphone"), ("tripod", "microphone")),
        ("the left one", ("object",), ("object",)),
        ("red shirt", ("shirt",), ("shirt",)),
        ("the goats behind the fence", ("goat", "fence"), ("goat",)),
    ],
)
def test_what_is_asked(text: str, names: tuple[str, ...], targets: tuple[str, ...]) -> None:
    found = asked(text)
    assert (found.names, found.targets) == (names, targets)


def test_an_unknown_plural_is_a_set_and_its_words_are_used() -> None:
    found = asked("the two rightmost crates").expression
    assert found.phrases[0].head == "crate"
    assert found.phrases[0].many
    assert found.phrases[0].count == 2
    assert not found.ignored
    assert not asked("the crate").expression.phrases[0].many


def test_order_and_place_are_those_of_the_ordinary_parser() -> None:
    for noun in ("crate", "espresso machine"):
        open_phrase = asked(f"the third {noun} from the right").expression.phrases[0]
        plain = parse("the third dog from the right").phrases[0]
        assert (open_phrase.rank, open_phrase.places) == (plain.rank, plain.places)


def test_words_of_a_categorys_name_are_nouns() -> None:
    assert asked("the zorblat next to the frindle", "zorblat", "frindle").names == ("zorblat", "frindle")


def test_the_ordinary_parser_knows_no_more_nouns_than_before() -> None:
    asked("the crate", "crate")
    assert parse("the crate").phrases[0].head == ""


@pytest.mark.parametrize(
    ("many", "one"),
    [
        ("crates", "crate"), ("zebras", "zebra"), ("boxes", "box"), ("buses", "bus"), ("knives", "knife"),
        ("people", "person"), ("benches", "bench"), ("ponies", "pony"), ("sheep", "sheep"), ("glasses", "glasses"),
        ("wine glasses", "wine glasses"), ("horses", "horse"), ("bus", "bus"), ("grass", "grass"),
        ("coffee machines", "coffee machine"), ("vases", "vase"), ("women", "woman"), ("lens", "lens"),
    ],
)  # fmt: skip
def test_singular(many: str, one: str) -> None:
    assert singular(many) == one


@pytest.mark.parametrize(
    ("name", "category", "least", "most"),
    [
        ("crate", "crate", 1, 1),
        ("crate", "shipping crate", 0.8, 1),
        ("rusty crate", "crate", 0.8, 1),
        ("sofa", "couch", 0.8, 1),
        ("animal", "zebra", 0.5, 1),
        ("person", "woman", 1, 1),
        ("man", "woman", 0, 0),
        ("man", "person", 1, 1),
        ("lady", "woman", 0.9, 1),
        ("zebra", "horse", 0, 0),
        ("object", "anything", 1, 1),
        ("crate", "barrel", 0, 0),
    ],
)
def test_categories(name: str, category: str, least: float, most: float) -> None:
    assert least <= category_weight(name, category, MEANS) <= most


def test_a_thing_is_what_its_wider_category_says() -> None:
    assert category_weight("instrument", "cello", MEANS) == 0
    assert category_weight("instrument", "cello", MEANS, ("instruments",)) == 1


def test_names_of_categories() -> None:
    assert {normal_category(name) for name in ("traffic_light", "Traffic-Light", "TrafficLight", "traffic light (on)")}
    assert normal_category("TrafficLight") == normal_category("traffic_light") == "traffic light"


def test_what_excludes_what() -> None:
    assert exclusive("horse", "zebra", MEANS)
    assert exclusive("man", "woman", MEANS)
    assert exclusive("crate", "kiosk", MEANS)
    for one, other in (("dog", "animal"), ("man", "person"), ("crate", "shipping crate"), ("object", "crate")):
        assert not exclusive(one, other, MEANS)
        assert not exclusive(other, one, MEANS)
