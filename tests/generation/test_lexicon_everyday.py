"""What people call categories, as sentences are said otherwise."""

from __future__ import annotations

import random

from refseg.generation.language.lexicon import EVERYDAY, FILLERS, HYPERNYMS, TOKENS
from refseg.generation.language.paraphrase import paraphrase


def said(text: str, **options: bool) -> set[str]:
    return {paraphrase(text, random.Random(seed), slips=0.0, **options) for seed in range(400)}


def test_a_category_is_called_what_people_call_it() -> None:
    assert {"stove", "stovetop", "oven"} <= said("oven")
    assert {"table", "desk", "dining table"} <= said("dining table")
    assert {"hotdogs", "hot dogs", "sausages"} <= said("hot dogs")


def test_one_name_is_said_alike_throughout_a_sentence() -> None:
    for sentence in said("the left cup and the right cup"):
        words = sentence.split()
        assert words.count("mug") in (0, 2), sentence


def test_wider_nouns_need_that_nothing_else_is_there() -> None:
    wide = {word for word, names in HYPERNYMS.items() if "pizza" in names} | set(FILLERS)
    assert not {word for sentence in said("pizza") for word in sentence.split()} & (wide - {"one"})
    assert {word for sentence in said("pizza", alone=True) for word in sentence.split()} & {"food", "thing", "meal"}


def test_drawn_things_keep_their_names() -> None:
    assert not {word for sentence in said("oven", photograph=False) for word in sentence.split()} & set(
        EVERYDAY["oven"]
    )


def test_a_vocabulary_knows_all_these_words_and_their_plurals() -> None:
    assert {"batter", "batters", "stove", "table", "striped", "food", "thing"} <= set(TOKENS)
    assert len(TOKENS) == len(set(TOKENS))
    assert all(word == word.lower() and word.isalpha() for word in TOKENS)
