"""Sentences that only the writer's page explains are refused, however they are spelled; ordinary ones are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from refseg.apps.annotate.services.letters import mixed_words, shapes_of
from refseg.apps.annotate.services.nouns import nouns_of
from refseg.apps.annotate.services.page_names import is_page_name
from refseg.apps.annotate.services.sentences import same_key
from tests.support.small_games import Browser

CATEGORIES = ("dog", "dog", "person", "car") * 3
SYNONYMS = nouns_of(frozenset(CATEGORIES)).names(set(CATEGORIES))

PAGE_NAMES = [
    # slips
    "nunber 1", "numbre 1", "nubmer one", "numer 1", "mumber 1", "objct 1", "obejct 2", "numberr 12",
    "number thre", "number fuor", "number won",
    # letters and digits for each other
    "number l", "number I", "dog l", "dog I", "number l2", "numb3r 1", "n0. 1", "0bject 1", "number on3",
    "number i", "number iv", "number \u2173", "obj3ct one",
    "number |", "number 00001", "number first", "object 2nd",
    # letters of other scripts
    "numb\u0435r 1", "n\u03c5mber one", "\u043ebject 1", "\u03bfbject 1", "d\u043eg 1", "\u0412\u041e\u0425 2",
    "\u0274\u1d1c\u1d0d\u0299\u1d07\u0280 1", "\u00f1\u00famb\u00e9r 1", "n\u0131\u0131mber 1",
    # other words and signs
    "box 2", "boxes 1 and 2", "bbox 3", "no. 1", "No 1", "#1", "the #1", "# one", "\u266f1 of the objects", "nr 1",
    "nr. 1", "num 3", "numero 1", "n\u00famero 2", "Nummer 3", "n\u00b0 1", "\u2116 1", "ID 4", "tag 1",
    "option 2", "target 1", "thing 1", "things 1 and 2", "object one", "the number one", "digit 1", "label 3",
    "entry 5", "\u6570\u5b571", "1\u53f7", "\u53f7\u7801\u4e09", "\u7b2c\u4e00\u4e2a",
    # together and apart
    "number1", "NUMBER1", "object1", "no1", "nr1", "ID1", "dog1", "dog1 and person2", "number1and2", "numberone",
    "n u m b e r 1", "n.u.m.b.e.r 1", "numb er 1", "num bero ne", "number-1", "number_1", "number:1", "number=1",
    "number (1)", "[number 1]",
    # numbers alone
    "the 1", "one", "the one", "1", "1 and 2", "1, 2", "1+2", "one and two", "this is 1", "I",
    # on the way to the number
    "it is number 1", "that's number 1", "number 1 please", "the object numbered 1", "the one labelled 1",
    "object marked 2", "press 1", "click number 2", "number 1 on the page", "number one in the list",
    "item in row 1",
    "the correct number is 1", "you should pick number 1", "click on dog 1", "select person 2",
    # categories, and other words for them
    "dog 2", "dogs 1, 2", "dog number 1", "person no. 2", "dog 1 and person 2", "guy 1", "man number 2",
    "animal 3", "ladies 1 and 2", "the car 1", "dog 1 person 2", "dog one and person two", "#1 dog",
    "number one dog", "two dogs and dog 1",
]  # fmt: skip

ORDINARY = [
    "number 7 on the shirt", "the number 1 on the shirt", "the player with 1 on his back", "player number 3",
    "player 7", "person with number 2", "the one with number 4", "batter no 12", "bus 42", "number 42",
    "box on the left", "two boxes", "2 boxes", "the number plate", "number plates of both cars",
    "license plate number", "no one", "no dog", "no number on it", "both", "both of them", "the two", "two",
    "all three", "a couple", "the pair", "one dog", "the one in red", "the one on the left", "each one",
    "every one of them", "2 dogs", "two objects", "one object", "three things on the table", "3 items",
    "second dog", "the second one", "a dog !", "select committee",
    "1st dog from the left", "first object", "dogs in row 1", "car marked 3",
    "boat numbered 2", "the clock at 3", "one and the same", "two of the dogs", "i see a dog", "the dog i like",
    "person in the number 1 jersey", "dog and one person", "dog and two people", "car, 2 dogs and a person",
    "1 dog and 2 people", "one person and two dogs", "two dogs, three people", "a box", "the mask",
    "person in a mask", "object behind the dog", "item nearest the car", "shape like a one", "oil", "box of oil",
    "number line", "things to eat", "tag on the ear", "top ten", "part of a dog", "the letter l", "left",
    "the lone dog", "phone", "bone", "carton", "someone", "anyone", "kitten", "a stone", "weight", "often",
    "two people", "ten men", "dog on the one hand", "key on the table", "people at the table", "red",
    "\u0441\u043e\u0431\u0430\u043a\u0430", "\u4e00\u53ea\u72d7", "\u4e24\u4e2a\u4eba", "\u5de6\u8fb9\u7684\u72d7",
    "\u03c3\u03ba\u03cd\u03bb\u03bf\u03c2",
]  # fmt: skip


@pytest.mark.parametrize("text", PAGE_NAMES)
def test_refused(text: str) -> None:
    assert is_page_name(text, CATEGORIES, SYNONYMS)


@pytest.mark.parametrize("text", ORDINARY)
def test_not_refused(text: str) -> None:
    assert not is_page_name(text, CATEGORIES, SYNONYMS)
    assert mixed_words(text) == []


@pytest.mark.parametrize("text", ["number 1", "dog 2", "the 3"])
def test_numbers_beyond_the_objects_are_not_the_page_s(text: str) -> None:
    assert not is_page_name(text, (), ())


@pytest.mark.parametrize(
    ("text", "mixed"),
    [
        ("numb\u0435r", ["numb\u0435r"]),
        ("red d\u03bfg", ["d\u03bfg"]),
        ("\u0441\u043eb\u0430\u043a\u0430", ["\u0441\u043eb\u0430\u043a\u0430"]),
        ("\u0430\u03b1", ["\u0430\u03b1"]),
        ("c\u0585w", ["c\u0585w"]),
        ("\uff44\u043eg", ["\uff44\u043eg"]),
        ("sign that says \u043c\u0438\u0440", []),
        ("na\u00efve fa\u00e7ade", []),
        ("5\u00b5m", []),
        ("\u03b2-carotene", []),
        ("\u732bcafe", []),
        ("T\u30b7\u30e3\u30c4", []),
    ],
)
def test_words_that_mix_scripts(text: str, mixed: list[str]) -> None:
    assert mixed_words(text) == mixed


def test_words_that_look_the_same_are_the_same() -> None:
    assert shapes_of("\u0441\u0430\u0440") == "cap"
    assert (
        shapes_of("\u043c\u0438\u0440\u044b \u0441\u043e\u0431\u0430\u043a\u0430")
        == "\u043c\u0438\u0440\u044b \u0441\u043e\u0431\u0430\u043a\u0430"
    )
    assert same_key("red \u0441\u0430\u0440") == same_key("red cap")


def test_the_game_refuses_them(enter: Callable[..., Browser]) -> None:
    anna = enter("anna")
    for text, words in (
        ("nunber l", "this page"),
        ("thing 1", "this page"),
        ("guy 1", "this page"),
        ("red d\u043eg", "two scripts"),
    ):
        task = anna.next_write(split="train")
        body = {"picture_id": task["picture"]["id"], "text": text, "targets": []}
        for answer in (anna.post("/api/v1/check", json=body), anna.write(text)):
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, "text"), text
            assert words in answer.json()["error"]["message"]
