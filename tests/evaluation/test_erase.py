"""Erased words: the one that the model reads most is gone, in every kind of tokenizer, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from refseg.data.sample import ReferringDataset, Sample
from refseg.encoders.text.tokenizer import BERT_VOCABULARY, ByteTokenizer, WordTokenizer, load_tokenizer
from refseg.errors import DataError, RefsegError
from refseg.evaluation.erase import erase_words, words_at
from refseg.nn.maps import word_map
from refseg.types import TextFeatures, Tokens
from tests.evaluation.test_evaluate import Finder

WORDS = ["the", "red", "cup", "on", "left", "of", "it"]


class Reader(Finder):
    """Reads the word whose number in the vocabulary is largest."""

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        words = tokens.ids[..., None].float() * tokens.mask[..., None]
        return TextFeatures(words.expand(-1, -1, 3), torch.ones(len(words), 3), tokens.mask)

    def decode(self, state, text, picture=None):
        output = super().decode(state, text, picture)
        rows = torch.stack([0.2 * text.words[..., 0], 0.8 * text.words[..., 0]], dim=1)
        return replace(output, maps={"words": word_map("read", rows / rows.sum(dim=(1, 2), keepdim=True))})


class Mute(Finder):
    """Has no map over words."""

    encode_text = Reader.encode_text


def samples_of(*texts: str) -> ReferringDataset:
    image = np.zeros((32, 32, 3), np.uint8)
    samples = [Sample(str(number), text, number % 2, (32, 32), image=image) for number, text in enumerate(texts)]
    return ReferringDataset(samples, name="some", split="val")


def pieces(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "cup", "##s", "left", "of", ",", "it"]
    (tmp_path / BERT_VOCABULARY).write_text("\n".join(words) + "\n")
    return load_tokenizer(tmp_path, 12)


def test_the_word_that_is_read_most_is_erased() -> None:
    data = samples_of("the red cup", "Left, of it", "cup", "unheard words", "the cup on the left")
    erased = erase_words(Reader(True), WordTokenizer(WORDS, 8), data, "attention")
    assert [sample.text for sample in erased.samples] == ["the red", "Left, of", "cup", "words", "the cup on the"]
    assert erased.count == 4
    assert (erased.samples.name, erased.samples.split) == ("some", "val")
    assert [sample.id for sample in erased.samples] == [sample.id for sample in data]


def test_whole_words_of_pieces_are_erased(tmp_path) -> None:
    """A word goes with all its pieces, and no sign is a word, however much it is read."""
    data = samples_of("the red cups", "Cups, the")
    erased = erase_words(Reader(True), pieces(tmp_path), data, "attention")
    assert [sample.text for sample in erased.samples] == ["the red", ", the"]


def test_a_random_word_is_the_same_for_every_model() -> None:
    data = samples_of(*(f"the red cup on left of it {number}" for number in range(20)))
    tokenizer = WordTokenizer(WORDS, 8)
    one, other = (erase_words(model(True), tokenizer, data, "random") for model in (Reader, Mute))
    texts = [sample.text for sample in one.samples]
    assert texts == [sample.text for sample in other.samples]
    assert len(set(map(len, texts))) > 2
    for sample, text in zip(data, texts, strict=True):
        assert len(text.split()) == len(sample.text.split()) - 1
        assert set(text.split()) < set(sample.text.split())
    assert texts != [sample.text for sample in erase_words(Mute(True), tokenizer, data, "random", seed=1).samples]


def test_words_that_are_not_read_are_not_erased() -> None:
    assert [word[:2] for word in words_at(WordTokenizer(WORDS, 2), "the red cup")] == [(0, 3), (4, 7)]
    assert words_at(WordTokenizer(WORDS, 4), "?!") == []


def test_models_without_attention_over_words() -> None:
    with pytest.raises(DataError, match="no map of attention over words; take random"):
        erase_words(Mute(True), WordTokenizer(WORDS, 8), samples_of("the red cup"), "attention")
    with pytest.raises(RefsegError, match="no word to erase"):
        erase_words(Mute(True), ByteTokenizer(), samples_of("the red cup"), "random")
