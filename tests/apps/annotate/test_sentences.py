"""What the system reads off a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refseg.apps.annotate.game import clean
from refseg.apps.annotate.services.nouns import Nouns, deceptive, no_target_remarks
from refseg.apps.annotate.services.sentences import KINDS, are_near, count_warning, kind_of, same_key

NOUNS = Nouns(["person", "dog", "car", "cup", "couch", "wine glass"])


@pytest.mark.parametrize(
    ("one", "other", "same", "near"),
    [
        ("The dog.", "a dog", True, True),
        ("two dogs", "2 dogs", True, True),
        ("man left", "left man", False, True),
        ("yellow shirt", "yelow shirt", False, True),
        ("yellow shirt", "yellwo shirt", False, True),
        ("dog with bike", "bike with dog", False, False),
        ("left man", "right man", False, False),
        ("the women", "the woman", False, False),
        ("person on left", "persons on left", False, False),
        ("two men", "three men", False, False),
        ("second from left", "third from left", False, False),
        ("black dog", "black dog in front", False, False),
    ],
)
def test_twins(one: str, other: str, same: bool, near: bool) -> None:
    assert (same_key(one) == same_key(other)) == same
    assert are_near(one, other) == near == are_near(other, one)


@given(st.text(), st.text())
def test_near_is_symmetric_and_reflexive(one: str, other: str) -> None:
    assert are_near(one, one)
    assert are_near(one, other) == are_near(other, one)


@given(st.text())
def test_clean_is_stable_and_storable(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "\0" not in cleaned
    assert "\n" not in cleaned
    cleaned.encode()


@pytest.mark.parametrize(
    ("text", "targets", "odd"),
    [
        ("two men", 2, False),
        ("two men", 1, True),
        ("both kids", 3, True),
        ("man with two dogs", 1, False),
        ("two men and a dog", 3, False),
        ("two men and a dog", 1, True),
        ("two men and three dogs", 5, False),
        ("two men and three dogs", 4, True),
        ("second man from the left", 1, False),
        ("player number 3", 1, False),
        ("all but two dogs", 4, False),
        ("the one in red", 1, False),
        ("dog", 1, False),
    ],
)
def test_counting_words(text: str, targets: int, odd: bool) -> None:
    assert (count_warning(text, targets) is not None) == odd


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("everyone except the boy", "exclusion"),
        ("two dogs on the left", "counting"),
        ("the dog and the car", "compound"),
        ("third person from left", "ordinal"),
        ("biggest cup", "comparison"),
        ("dog beside the car", "relation"),
        ("man on the left", "location"),
        ("black dog", "attribute"),
        ("the dogs", "category"),
        ("whatever", "other"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text, frozenset(NOUNS.find(text))) == kind
    assert kind in KINDS


def test_nouns_are_found_in_all_their_forms() -> None:
    assert NOUNS.find("two wine glasses beside the sofas") == {
        "wine glasses": frozenset({"wine glass"}),
        "sofas": frozenset({"couch"}),
    }
    assert NOUNS.find("the lady")["lady"] == frozenset({"person"})
    assert NOUNS.find("any vehicle")["vehicle"] == frozenset({"car"})
    assert NOUNS.find("carpet cupboard dogma") == {}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("black dog", ["irrelevant"]),
        ("kid in blue", []),
        ("the person", ["names_present"]),
        ("person with a dog", []),
        ("something shiny", []),
    ],
)
def test_sentences_without_target(text: str, codes: list[str]) -> None:
    assert [code for code, _ in no_target_remarks(text, NOUNS, {"person", "cup"})] == codes


def test_deceptive_sentences_name_what_is_there_and_say_more() -> None:
    assert deceptive("woman with a red cup", NOUNS, {"person"})
    assert not deceptive("black dog", NOUNS, {"person"})
    assert not deceptive("the cup", NOUNS, {"cup"})
    assert not deceptive("shiny thing", NOUNS, {"cup"})
