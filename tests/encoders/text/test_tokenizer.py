"""Sentences to numbers and back from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refseg.encoders.text.tokenizer import WordPieceTokenizer, WordTokenizer, load_tokenizer, split_words
from refseg.errors import CheckpointError, RefsegError

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "##gy", "left", "on", "!"]


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


def test_words_are_lower_case_and_punctuation_stands_alone() -> None:
    assert split_words("The kid's RED-ish cup, 2nd!") == [
        "the", "kid", "'", "s", "red", "-", "ish", "cup", ",", "2nd", "!",
    ]  # fmt: skip
    assert split_words("Ｄｏｇ ﬁre") == ["dog", "fire"]
    assert split_words(" \t\n") == []


def test_learnt_vocabulary_puts_frequent_words_first() -> None:
    tokenizer = WordTokenizer.learn(["red cup", "red dog", "a red cup"], max_words=4)
    assert tokenizer.words == ["<pad>", "<unk>", "red", "cup", "a", "dog"]
    assert tokenizer.vocabulary_size == 6
    assert WordTokenizer.learn(["red cup", "red dog"], min_count=2).words == ["<pad>", "<unk>", "red"]


def test_sentences_are_padded_cut_and_never_empty() -> None:
    tokenizer = WordTokenizer(["red", "cup"], max_words=3)
    tokens = tokenizer(["red cup", "cup cup red red red", "", "\N{DOG FACE} cup", "猫"])
    assert tokens.ids.tolist() == [[2, 3, 0], [3, 3, 2], [1, 0, 0], [1, 3, 0], [1, 0, 0]]
    assert tokens.mask.sum(dim=1).tolist() == [2, 3, 1, 2, 1]
    assert tokenizer.unknown("red ball") == ["ball"]
    assert len(tokenizer([])) == 0


def test_vocabulary_rejects_what_it_cannot_keep() -> None:
    with pytest.raises(RefsegError, match="'red' more than once"):
        WordTokenizer(["red", "cup", "red"])
    with pytest.raises(RefsegError, match="max_words"):
        WordTokenizer(["red"], max_words=0)


def test_words_survive_the_disk(tmp_path: Path) -> None:
    tokenizer = WordTokenizer(["red", "café", "猫", "'"], max_words=5)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, WordTokenizer)
    assert loaded.words == tokenizer.words
    assert loaded.max_words == 5
    assert load_tokenizer(tmp_path, max_words=9).max_words == 9


def test_pieces_are_cut_as_the_published_loader_cuts(bert_folder: Path) -> None:
    tokenizer = load_tokenizer(bert_folder, max_words=5)
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert tokenizer.vocabulary_size == len(PIECES)
    tokens = tokenizer(["The Doggy!", "the dog on the left on the left", "cat"])
    # [CLS] the dog ##gy ! without [SEP]; a short sentence keeps it
    assert tokens.ids.tolist() == [[2, 5, 6, 7, 10], [2, 5, 6, 9, 5], [2, 1, 3, 0, 0]]
    assert tokens.mask.tolist()[2] == [True, True, True, False, False]


def test_pieces_survive_the_disk(bert_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(bert_folder)
    assert tokenizer.max_words == 20
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_options.json").read_text()) == {"kind": "pieces", "max_words": 20}
    assert load_tokenizer(tmp_path)(["the doggy"]).ids.tolist() == tokenizer(["the doggy"]).ids.tolist()


def test_cased_vocabularies_keep_their_case(bert_folder: Path) -> None:
    (bert_folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(bert_folder, 3)(["The"]).ids.tolist() == [[2, 1, 3]]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer there"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_options.json").write_text('{"kind": "letters"}')
    with pytest.raises(CheckpointError, match="kind"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_options.json").unlink()
    (tmp_path / "vocabulary.txt").write_text("red\ncup\n")
    with pytest.raises(CheckpointError, match="first two lines"):
        load_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        load_tokenizer(tmp_path / "vocabulary.txt")
    with pytest.raises(CheckpointError, match="give a local folder"):
        load_tokenizer("nobody/no-such-tokenizer")
