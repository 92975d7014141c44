"""Which words an answer rests on: everything that was not used is told, negations are checked or told."""

from __future__ import annotations

import pytest

from refseg.models.instances.chooser import Chooser
from refseg.models.instances.config import ChooserConfig
from refseg.models.instances.expression import (
    heard,
    parse,
)
from refseg.models.instances.vocabulary import ACTIONS, FILLERS, LOOKS, NEGATIONS
from refseg.models.instances.words import (
    Lexicon,
    silent_words,
)


@pytest.mark.parametrize(
    ("text", "used", "ignored"),
    [
        ("the running person", ("person",), ("running",)),
        ("the old striped cat", ("cat",), ("old", "striped")),
        ("the person sitting on the bench", ("person", "on", "bench"), ("sitting",)),
        ("the man looking at the dog", ("man",), ("looking", "dog")),
        ("man reaching for the dog on the left", ("man", "left"), ("reaching", "dog")),
        ("eating bear", ("bear",), ("eating",)),
        ("the feeding giraffe", ("giraffe",), ("feeding",)),
        ("the dog with the long tail", ("dog",), ("long", "tail")),
        ("man with a hat", ("man",), ("hat",)),
        ("man with a red hat", ("man", "with", "red", "hat"), ()),
        ("woman holding an umbrella", ("woman", "holding", "umbrella"), ()),
        ("second guy from the left", ("second", "guy", "from", "left"), ()),
        ("all three people next to the car", ("all", "three", "people", "next", "to", "car"), ()),
    ],
)
def test_words_that_say_nothing_here_are_told(text: str, used: tuple[str, ...], ignored: tuple[str, ...]) -> None:
    found = parse(text)
    assert (found.used, found.ignored) == (used, ignored)
    assert not found.unchecked


def test_of_actions_that_link_only_with_is_read() -> None:
    found = parse("the person eating a sandwich")
    assert found.phrases[0].relations[0].kind == "with"
    assert found.read_as == (("eating", "with"),)
    assert found.used == ("person", "sandwich")
    assert not found.ignored


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("the dog without a collar", "without a collar"),
        ("the person not smiling", "not smiling"),
        ("the person who isn't smiling", "not smiling"),
        ("man with no hat", "with no hat"),
        ("no hat guy", "no hat"),
        ("the cup not on the left", "not on the left"),
        ("person not facing the camera", "not facing the camera"),
    ],
)
def test_negations_that_cannot_be_checked_are_told(text: str, piece: str) -> None:
    found = parse(text)
    assert found.unchecked == (piece,)
    assert not set(piece.split()) & set(found.used)
    assert found.phrases[0].head in ("dog", "person", "man", "guy", "cup")


def test_negated_colours_things_and_relations_are_read() -> None:
    for text in (
        "the man not in red",
        "man that isn't red",
        "the man not wearing red",
        "man who is not wearing a red tie",
    ):
        (phrase,) = parse(text).phrases
        assert (phrase.not_colours, phrase.colours) == (("red",), ())
        assert not parse(text).unchecked
    (phrase,) = parse("the man without an umbrella").phrases
    assert [(link.kind, link.negated, link.anchors[0].head) for link in phrase.relations] == [
        ("with", True, "umbrella")
    ]
    (phrase,) = parse("giraffe not next to the car").phrases
    assert [(link.kind, link.negated) for link in phrase.relations] == [("next_to", True)]
    (phrase,) = parse("the animal that is not a dog").phrases
    assert phrase.excluded is not None
    assert (phrase.excluded.head, phrase.many) == ("dog", False)


def test_no_action_look_or_negation_is_silent() -> None:
    assert not silent_words() & (ACTIONS | LOOKS | NEGATIONS)
    assert (ACTIONS | LOOKS) & FILLERS  # nor taken for a noun


@pytest.mark.parametrize("word", sorted((ACTIONS | LOOKS) - {"holds", "holding", "carrying"}))
def test_every_action_and_look_is_told(word: str) -> None:
    found = parse(f"the {word} dog")
    assert word in found.ignored or word in [action for action, _ in found.read_as]
    assert word not in found.used


def test_what_the_language_model_knows_is_used() -> None:
    """Words outside the parser's lists mean something to the lexicon at hand, or are told."""
    chooser = Chooser(ChooserConfig(), Lexicon())
    text = "the beagle next to the xylorimba"
    assert "beagle" in heard(parse(text), chooser.meaning).used
    assert "xylorimba" in heard(parse(text), chooser.meaning).ignored
    assert "next" not in heard(parse(text), chooser.meaning).used  # the relation is to nothing
