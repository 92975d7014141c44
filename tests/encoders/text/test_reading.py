"""What a model can read of a sentence."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer, read_expression

WORDS = WordTokenizer(["the", "red", "ball", "dog", ",", "."], max_words=4)


def pieces(max_words: int) -> WordPieceTokenizer:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "red", "ball", "##s", "dog", ","]
    tokenizer = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return WordPieceTokenizer(tokenizer, max_words)


@pytest.mark.parametrize("tokenizer", [WORDS, pieces(6), pieces(5)])
def test_a_plain_sentence_leaves_nothing_to_say(tokenizer: object) -> None:
    assert read_expression(tokenizer, "The red ball, ").remarks() == []
    assert read_expression(tokenizer, "the dog").understood


def test_where_words_are_cut() -> None:
    reading = read_expression(WORDS, "the red ball, the dog and so on")
    assert reading.kept == "the red ball ,"
    assert reading.unknown == ()  # what is not read cannot be unknown
    assert "cut after “the red ball ,”" in reading.remarks()[0]


def test_where_word_pieces_are_cut() -> None:
    assert read_expression(pieces(4), "the red balls").kept == "the red ball"
    assert read_expression(pieces(5), "the red balls").kept is None  # only [SEP] is lost
    assert read_expression(pieces(5), "the red balls the").kept == "the red balls"


@pytest.mark.parametrize("tokenizer", [WORDS, pieces(10)])
def test_unknown_words_are_listed(tokenizer: object) -> None:
    reading = read_expression(tokenizer, "the purple dog!")
    assert reading.unknown == ("purple",)
    assert reading.understood
    assert "purple" in reading.remarks()[0]


@pytest.mark.parametrize("tokenizer", [WORDS, pieces(10)])
@pytest.mark.parametrize("text", ["猫", "🐈", "il cane, la gatta", "?!", "<unk>"])
def test_a_sentence_without_a_known_word_is_not_understood(tokenizer: object, text: str) -> None:
    reading = read_expression(tokenizer, text)
    assert not reading.understood
    assert "knows no word" in reading.remarks()[-1]


def test_other_tokenizers_are_left_in_peace() -> None:
    assert read_expression(object(), "anything").remarks() == []


@pytest.mark.parametrize("tokenizer", [WORDS, pieces(10)])
@pytest.mark.parametrize("text", ["it", "that", "What is this?", "the", "of it"])
def test_a_sentence_that_names_nothing_is_not_understood(tokenizer: object, text: str) -> None:
    reading = read_expression(tokenizer, text)
    assert reading.empty
    assert not reading.understood
    assert "names or describes" in reading.remarks()[-1]


@pytest.mark.parametrize("text", ["it is a dog", "the red one of them"])
def test_a_sentence_with_one_word_of_content_is(text: str) -> None:
    reading = read_expression(WORDS, text)
    assert not reading.empty
    assert reading.understood
