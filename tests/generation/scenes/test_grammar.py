import random
import re

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
    Union,
)
from refseg.generation.language.grammar import say
from refseg.generation.language.lexicon import FAMILY_NOUNS, article, number_word, ordinal, plural


def wordings(form, many=False, count=200):
    return {say(form, random.Random(seed), many) for seed in range(count)}


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("man", "men"),
        ("woman", "women"),
        ("person", "people"),
        ("child", "children"),
        ("lady", "ladies"),
        ("toy", "toys"),
        ("bus", "buses"),
        ("box", "boxes"),
        ("bench", "benches"),
        ("knife", "knives"),
        ("mouse", "mice"),
        ("sheep", "sheep"),
        ("wine glass", "wine glasses"),
        ("teddy bear", "teddy bears"),
        ("little boy", "little boys"),
        ("piece of furniture", "pieces of furniture"),
        ("toothbrush", "toothbrushes"),
    ],
)
def test_plurals(one, several):
    assert plural(one) == several


def test_ordinals_and_numbers():
    assert [ordinal(rank) for rank in (1, 2, 3, 10)] == ["first", "second", "third", "tenth"]
    assert [ordinal(rank, digits=True) for rank in (1, 2, 3, 4, 11, 12, 13, 21, 22, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "111th",
    ]  # fmt: skip
    assert (number_word(2), number_word(10), number_word(12)) == ("two", "ten", "12")


def test_articles():
    assert article("orange shirt") == "an orange shirt"
    assert article("striped shirt") == "a striped shirt"
    for words in wordings(Select("man", "orange", "striped"), count=100) | wordings(Select("man", "orange")):
        assert not re.search(r"\ba [aeiou]", words), words
        assert not re.search(r"\ban [^aeiou]", words), words


def test_people_wear_colours_and_things_have_them():
    assert all(words.replace("the ", "").split()[0] != "red" for words in wordings(Select("man", "red")))
    assert wordings(Select("ball", "red")) == {"red ball", "the red ball"}
    assert {"guy in red", "the man wearing red"} <= wordings(Select("man", "red"), count=500)


def test_ordinal_sentences():
    said = wordings(Nth(Select("cup"), 2, "left"), count=300)
    assert {"the second cup from the left", "2nd mug from left", "cup number two from the left"} <= said


def test_singular_and_plural_agree():
    for words in wordings(Select("dog", "brown"), many=True):
        singular = words.startswith(("every ", "each "))
        assert words.endswith("dog" if singular else "dogs"), words
    assert all("guys" not in words and "gentlemans" not in words for words in wordings(Select("man"), many=True))
    assert "both dogs" in wordings(Exactly(Select("dog"), 2), many=True)
    assert not any(words.startswith("all two") for words in wordings(Exactly(Select("dog"), 2), many=True))
    assert "all three dogs" in wordings(Exactly(Select("dog"), 3), many=True)
    assert "two leftmost dogs" in wordings(First(Select("dog"), 2, "left"), many=True)


def test_modified_conjunct_comes_first():
    form = Union((Select("man"), Select("woman", "red")))
    for words in wordings(form):
        assert words.rstrip().endswith(("man", "guy", "gentleman")), words
    shared = wordings(Union((Select("man"), Select("woman")), "red"), many=True)
    assert all(words.endswith(("both in red", "both wearing red")) for words in shared)


def test_comparison_degrees():
    two, more = wordings(Compare(Select("dog"), "bigger")), wordings(Compare(Select("dog"), "bigger", True))
    assert "the bigger dog" in two
    assert "the biggest dog" in more
    assert all("est " in words for words in more)


def test_exclusion_names_what_is_left_out():
    said = wordings(Except(Select("person"), Select("boy", "white")), many=True, count=400)
    assert "everyone except the boy in white" in said
    assert "all the dogs but the brown one" in wordings(Except(Select("dog"), Select("dog", "brown")), True, 800)


def test_location_and_relation_wordings_are_distinct():
    assert not wordings(Extreme(Select("dog"), "left")) & wordings(Side(Select("dog"), "left"))
    assert "the dog behind the red box" in wordings(Related(Select("dog"), "behind", Select("box", "red")))


def test_families_without_a_word_are_not_said():
    assert "animal" in FAMILY_NOUNS
    assert "kitchen" not in FAMILY_NOUNS
