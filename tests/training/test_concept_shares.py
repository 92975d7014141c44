"""The shares that words have at first in the detector's classes, in tags and in colours."""

from __future__ import annotations

import pytest
import torch

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.text.transformer import WordTransformer, WordTransformerConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.generation.language.lexicon import EVERYDAY, HYPERNYMS
from refseg.models.photo.concepts import CLASSES
from refseg.palette import COLORS
from refseg.training.concept_shares import fill_shares

WORDS = ["the", "truck", "trucks", "guy", "people", "oranges", "bear", "teddy", "bike", "left", "knives", "sofa"]
NUMBER = 80 + len(COLORS)


def encoder(concepts: int = NUMBER, words: int = 14) -> WordTransformer:
    return WordTransformer(WordTransformerConfig(vocabulary_size=words, width=8, heads=2, concepts=concepts))


def test_there_are_cocos_eighty_classes_in_its_order() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert [CLASSES[number] for number in (0, 7, 21, 39, 57, 77, 79)] == [
        "person", "truck", "bear", "bottle", "couch", "teddy bear", "toothbrush",
    ]  # fmt: skip


def test_names_plurals_and_synonyms_get_their_classes() -> None:
    text, tokenizer = encoder(), WordTokenizer(WORDS)
    assert fill_shares(text, tokenizer.words, ()) == 10
    assert text.shares is not None

    def share(word: str, name: str) -> float:
        return float(text.shares.weight.detach()[tokenizer.numbers[word], CLASSES.index(name)])  # type: ignore[union-attr]

    assert share("truck", "truck") == share("trucks", "truck") == 1.0
    assert share("guy", "person") == share("people", "person") == 1.0
    assert share("oranges", "orange") == 1.0
    assert share("knives", "knife") == 1.0
    assert 0.5 < share("sofa", "couch") < 1.0
    assert share("bear", "bear") > share("bear", "teddy bear") > 0
    assert share("bike", "bicycle") > share("bike", "motorcycle") > 0
    assert not text.shares.weight[tokenizer.numbers["the"]].any()
    assert not text.shares.weight[tokenizer.numbers["left"]].any()


@torch.no_grad()
def test_a_sentence_sums_the_shares_of_its_words_by_how_much_they_count() -> None:
    text, tokenizer = encoder(), WordTokenizer(WORDS)
    fill_shares(text, tokenizer.words, ())
    found = text(tokenizer(["the guy left", "the truck"]))
    assert text.width == found.words.shape[2] == found.sentence.shape[1] == 8
    assert found.concepts is not None
    assert found.word_concepts is not None
    assert text.shares is not None
    for row, sentence in enumerate(("the guy left", "the truck")):
        expected = torch.zeros(NUMBER)
        for place, word in enumerate(sentence.split()):
            counts = torch.sigmoid(text.counts(found.words[row, place]))
            own = counts * text.shares.weight[tokenizer.numbers[word]]
            torch.testing.assert_close(found.word_concepts[row, place], own)
            expected += own
        torch.testing.assert_close(found.concepts[row], expected)
    assert not found.word_concepts[1, 2:].any()  # padding
    again = found.select(torch.tensor([1, 1, 0]))
    assert again.concepts is not None
    assert torch.equal(again.concepts, found.concepts[[1, 1, 0]])


def test_colors_follow_the_classes() -> None:
    tokenizer = WordTokenizer(["red", "grey", "orange", "oranges"])
    text = encoder(91, 6)
    fill_shares(text, tokenizer.words, ())
    assert text.shares is not None
    weights = text.shares.weight.detach()
    assert weights[tokenizer.numbers["red"], 80 + COLORS.index("red")] == 1.0
    assert weights[tokenizer.numbers["grey"], 80 + COLORS.index("gray")] == 1.0
    assert weights[tokenizer.numbers["orange"], 80 + COLORS.index("orange")] == 1.0
    assert weights[tokenizer.numbers["orange"], CLASSES.index("orange")] == 1.0
    assert not weights[tokenizer.numbers["oranges"], 80:].any()


def test_tags_stand_between_classes_and_colors() -> None:
    tags = ("dog", "front bumper", "shoes")
    tokenizer = WordTokenizer(["dog", "dogs", "puppy", "bumper", "front", "red", "shoes"])
    text = encoder(94, 9)
    assert fill_shares(text, tokenizer.words, tags) == 6  # not "front", which is no head
    assert text.shares is not None
    rows = {word: text.shares.weight.detach()[number] for word, number in tokenizer.numbers.items()}
    assert rows["dog"][CLASSES.index("dog")] == rows["dog"][80] == rows["dogs"][80] == 1.0
    assert rows["puppy"][80] > 0.5
    assert 0 < rows["bumper"][81] < 1
    assert rows["shoes"][82] == 1.0
    assert rows["red"][83 + COLORS.index("red")] == 1.0
    assert not rows["red"][:83].any()
    with pytest.raises(CheckpointError, match="94 are wanted"):
        fill_shares(encoder(91), WORDS, tags)


def test_every_name_that_people_say_is_of_a_class_of_the_detector() -> None:
    assert set(EVERYDAY) <= set(CLASSES)
    for word, names in HYPERNYMS.items():
        assert set(names) <= set(CLASSES), word


def test_encoders_without_shares_are_refused() -> None:
    for concepts in (0, 5):
        with pytest.raises(CheckpointError, match="91 are wanted"):
            fill_shares(encoder(concepts), WORDS, ())
    with pytest.raises(ConfigError, match=r"concepts=-1: 0 or more is wanted"):
        WordTransformerConfig(concepts=-1)
