"""Phrases: their own tokens, their places among the sentence's, and the errors that name both."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from refseg.encoders.text.phrases import place_phrases
from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer
from refseg.errors import RefsegError

TEXT = "A man with a red hat, beside a man"
WORDS = WordTokenizer(["a", "man", "with", "red", "hat", "beside"], max_words=10)


def pieces(max_words: int = 14) -> WordPieceTokenizer:
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "man", "with", "red", "ha", "##t", ",", "beside"]
    tokenizer = Tokenizer(WordPiece({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return WordPieceTokenizer(tokenizer, max_words)


def test_words() -> None:
    found = place_phrases([TEXT, "red hat"], [["a man", "a red hat", "A man"], ["hat"]], WORDS, max_words=4)
    assert found.mask.tolist() == [[True, True, True], [True, False, False]]
    assert [(int(a), int(b)) for a, b in zip(found.start[0], found.stop[0], strict=True)] == [(0, 2), (3, 6), (8, 10)]
    assert (int(found.start[1, 0]), int(found.stop[1, 0])) == (1, 2)
    assert found.ids.shape == (2, 3, 4)
    assert found.ids[0, 1].tolist() == [2, 5, 6, 0]
    assert found.word_mask[0, 1].tolist() == [True, True, True, False]
    # Missing phrases are a sentence without a word, at the first token.
    assert found.word_mask[1, 1].tolist() == [True, False, False, False]
    assert (int(found.start[1, 1]), int(found.stop[1, 1])) == (0, 1)


def test_pieces() -> None:
    found = place_phrases([TEXT], [["a man", "a red hat", "a man", "hat"]], pieces(), max_phrases=5)
    spans = [(int(a), int(b)) for a, b in zip(found.start[0], found.stop[0], strict=True)]
    # [CLS] a man with a red ha ##t , beside a man [SEP]
    assert spans == [(1, 3), (4, 8), (10, 12), (6, 8), (0, 1)]
    assert found.ids[0, 3, :5].tolist() == [1, 8, 9, 2, 0]
    assert found.ids[0, 4, :3].tolist() == [1, 2, 0]
    assert found.mask.tolist() == [[True, True, True, True, False]]
    assert torch.equal(found.word_mask[0].sum(dim=1), torch.tensor([4, 6, 4, 4, 2]))


@pytest.mark.parametrize("tokenizer", [WORDS, pieces()], ids=["words", "pieces"])
def test_errors_name_phrase_and_sentence(tokenizer: WordTokenizer | WordPieceTokenizer) -> None:
    for phrase in ("a dog", "ed hat", "man a", " "):
        message = f"{phrase!r} is not in its expression 'A man with a red hat, beside a man'"
        with pytest.raises(RefsegError, match=message):
            place_phrases([TEXT], [[phrase]], tokenizer)
    with pytest.raises(RefsegError, match=r"2 phrases in .* room for 1"):
        place_phrases([TEXT], [["a man", "hat"]], tokenizer, max_phrases=1)
    with pytest.raises(RefsegError, match="1 expressions have 2 lists"):
        place_phrases([TEXT], [[], []], tokenizer)


def test_phrases_behind_the_words_that_are_read() -> None:
    with pytest.raises(RefsegError, match="'beside' stands behind the first 6 words of 'A man"):
        place_phrases([TEXT], [["beside"]], WordTokenizer(["a"], max_words=6))
    with pytest.raises(RefsegError, match="'hat' stands behind the first 7 words"):
        place_phrases([TEXT], [["hat"]], pieces(max_words=7))


@pytest.mark.parametrize("tokenizer", [WORDS, pieces()], ids=["words", "pieces"])
def test_annotated_characters_say_which_occurrence_is_meant(tokenizer: WordTokenizer | WordPieceTokenizer) -> None:
    # The second of two equal phrases alone, and a phrase whose words also stand inside an earlier one.
    shift = 1 if isinstance(tokenizer, WordPieceTokenizer) else 0
    last = TEXT.rindex("a man")
    found = place_phrases([TEXT], [[(last, last + 5), (0, 5)]], tokenizer)
    words = 9 if shift else 8  # "hat" is two pieces
    assert found.start[0].tolist() == [words + shift, shift]
    assert found.stop[0].tolist() == [words + shift + 2, shift + 2]
    searched = place_phrases([TEXT], [["a man", "a man"]], tokenizer)
    assert torch.equal(found.ids[0].sort(dim=0).values, searched.ids[0].sort(dim=0).values)
    inside = "a man with a hat beside a hat"
    behind = place_phrases([inside], [[(0, 16), (24, 29)]], tokenizer)
    assert int(behind.start[0, 1]) > int(behind.stop[0, 0])
    # Characters in the middle of a word mean the word.
    cut = place_phrases([TEXT], [[(3, 4)]], tokenizer)
    assert (int(cut.start[0, 0]), int(cut.stop[0, 0])) == (1 + shift, 2 + shift)


def test_characters_of_letters_that_splitting_changes() -> None:
    # A ligature becomes two letters, full-width ones their narrow form: words are counted, not letters.
    text = "ﬁne ﬁne Ｒｅｄ hat"
    tokenizer = WordTokenizer(["fine", "red", "hat"], max_words=8)
    found = place_phrases([text], [[(8, 15), (4, 7)]], tokenizer)
    assert (found.start[0].tolist(), found.stop[0].tolist()) == ([2, 1], [4, 2])
    assert found.ids[0, 0, :2].tolist() == [3, 4]


@pytest.mark.parametrize("tokenizer", [WORDS, pieces()], ids=["words", "pieces"])
def test_characters_outside_the_sentence(tokenizer: WordTokenizer | WordPieceTokenizer) -> None:
    for place in ((0, 99), (-2, 3), (5, 5), (7, 4)):
        with pytest.raises(RefsegError, match=f"characters {place[0]} to {place[1]} of 'A man"):
            place_phrases([TEXT], [[place]], tokenizer)
    with pytest.raises(RefsegError, match=r"characters 1 to 2 of .* no word is there"):
        place_phrases([TEXT], [[(1, 2)]], tokenizer)
