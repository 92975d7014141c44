"""The detector's classes by name, and the shares that words have in them."""

from __future__ import annotations

import pytest
import torch

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.encoders.text.transformer import WordTransformer, WordTransformerConfig
from refseg.errors import CheckpointError, ConfigError
from refseg.generation.language.everyday_words import EVERYDAY, WIDER
from refseg.models.photo.class_names import CLASSES, give_names
from refseg.models.photo.color_maps import COLOURS

WORDS = ["the", "truck", "trucks", "guy", "people", "oranges", "bear", "teddy", "bike", "left", "knives", "sofa"]


def encoder(classes: int = 80) -> WordTransformer:
    torch.manual_seed(0)
    return WordTransformer(WordTransformerConfig(vocabulary_size=14, width=8, heads=2, classes=classes))


def test_there_are_cocos_eighty_classes_in_its_order() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert [CLASSES[number] for number in (0, 7, 21, 39, 57, 77, 79)] == [
        "person", "truck", "bear", "bottle", "couch", "teddy bear", "toothbrush",
    ]  # fmt: skip


def test_names_plurals_and_synonyms_get_their_classes() -> None:
    text, tokenizer = encoder(), WordTokenizer(WORDS)
    assert give_names(text, tokenizer.words) == 10
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
    give_names(text, tokenizer.words)
    found = text(tokenizer(["the guy left", "the truck"]))
    assert text.width == 88
    assert found.words.shape[2] == found.sentence.shape[1] == 88
    assert text.shares is not None
    for row, sentence in enumerate(("the guy left", "the truck")):
        expected = torch.zeros(80)
        for place, word in enumerate(sentence.split()):
            counts = torch.sigmoid(text.counts(found.words[row, place, :8]))
            expected += counts * text.shares.weight[tokenizer.numbers[word]]
        torch.testing.assert_close(found.sentence[row, 8:], expected)


def test_colours_follow_the_classes() -> None:
    tokenizer = WordTokenizer(["red", "grey", "orange", "oranges"])
    text = WordTransformer(WordTransformerConfig(vocabulary_size=6, width=8, heads=2, classes=91))
    give_names(text, tokenizer.words)
    assert text.shares is not None
    weights = text.shares.weight.detach()
    assert weights[tokenizer.numbers["red"], 80 + COLOURS.index("red")] == 1.0
    assert weights[tokenizer.numbers["grey"], 80 + COLOURS.index("gray")] == 1.0
    assert weights[tokenizer.numbers["orange"], 80 + COLOURS.index("orange")] == 1.0
    assert weights[tokenizer.numbers["orange"], CLASSES.index("orange")] == 1.0
    assert not weights[tokenizer.numbers["oranges"], 80:].any()


def test_tags_stand_between_classes_and_colours() -> None:
    tags = ("dog", "front bumper", "shoes")
    tokenizer = WordTokenizer(["dog", "dogs", "puppy", "bumper", "front", "red", "shoes"])
    text = WordTransformer(WordTransformerConfig(vocabulary_size=9, width=8, heads=2, classes=94))
    assert give_names(text, tokenizer.words, tags) == 6  # not "front", which is no head
    assert text.shares is not None
    rows = {word: text.shares.weight.detach()[number] for word, number in tokenizer.numbers.items()}
    assert rows["dog"][CLASSES.index("dog")] == rows["dog"][80] == rows["dogs"][80] == 1.0
    assert rows["puppy"][80] > 0.5
    assert 0 < rows["bumper"][81] < 1
    assert rows["shoes"][82] == 1.0
    assert rows["red"][83 + COLOURS.index("red")] == 1.0
    assert not rows["red"][:83].any()
    with pytest.raises(CheckpointError, match="classes=83, or 94"):
        give_names(encoder(91), WORDS, tags)


def test_every_name_that_people_say_is_of_a_class_of_the_detector() -> None:
    assert set(EVERYDAY) <= set(CLASSES)
    for word, names in WIDER.items():
        assert set(names) <= set(CLASSES), word


def test_encoders_without_shares_are_refused() -> None:
    for classes in (0, 5):
        with pytest.raises(CheckpointError, match="classes=80, or 91"):
            give_names(encoder(classes), WORDS)
    with pytest.raises(ConfigError, match=r"text\.classes=-1"):
        WordTransformerConfig(classes=-1)
