"""Words that are a slip away from known ones, and word vectors beside learnt embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import refseg.encoders.text.tokenizer as tokenizer_module
from refseg.encoders.pretrained import load_word_vectors
from refseg.encoders.text.tokenizer import WordTokenizer, load_tokenizer, read_expression
from refseg.encoders.text.transformer import WordTransformer, WordTransformerConfig
from refseg.errors import CheckpointError, ConfigError

WORDS = ["left", "right", "woman", "elephant", "women", "cat", "car"]


def test_the_most_frequent_word_one_slip_away_is_read() -> None:
    tokenizer = WordTokenizer(WORDS, spelling=True)
    assert tokenizer.known("elphant") == "elephant"
    assert tokenizer.known("elepahnt") == "elephant"
    assert tokenizer.known("elephantt") == "elephant"
    assert tokenizer.known("womin") == "woman"  # "women" is one slip away too, and comes later
    assert tokenizer.known("wombat") is None
    assert tokenizer.known("caz") is None  # too short to be sure
    assert tokenizer.known("ктоооо") is None
    assert (
        tokenizer(["the elphant on the rigth"]).ids[0, :5].tolist()
        == tokenizer(["the elephant on the right"]).ids[0, :5].tolist()
    )
    assert tokenizer.unknown("elphant wombat") == ["wombat"]


@given(word=st.sampled_from([word for word in WORDS if len(word) > 4]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_every_single_slip_in_a_long_word_is_read(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("abcxyz"))
    slipped = data.draw(
        st.sampled_from(
            [word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :]]
        )
    )
    read = WordTokenizer([word], spelling=True).known(slipped)
    assert read == word or len(slipped) < 4


def test_without_spelling_nothing_is_guessed_and_folders_keep_the_choice(tmp_path: Path) -> None:
    assert WordTokenizer(WORDS).known("elphant") is None
    for spelling in (True, False):
        WordTokenizer(WORDS, spelling=spelling).save(tmp_path / str(spelling))
        loaded = load_tokenizer(tmp_path / str(spelling))
        assert isinstance(loaded, WordTokenizer)
        assert loaded.spelling is spelling


def test_a_slip_is_understood_and_a_foreign_sentence_is_not() -> None:
    tokenizer = WordTokenizer(WORDS, spelling=True)
    assert read_expression(tokenizer, "elphant").understood
    reading = read_expression(tokenizer, "der Hund rechts")
    assert not reading.understood
    assert reading.unknown == ("der", "hund", "rechts")


def test_more_words_follow_the_learnt_ones_once() -> None:
    tokenizer = WordTokenizer.learn(["a cat", "a dog"], extra_words=["dog", "zebra"])
    assert tokenizer.words[2:] == ["a", "cat", "dog", "zebra"]


def test_given_vectors_stand_beside_learnt_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("cat 3 4 0\ncar 0 0 5\n")
    tokenizer = WordTokenizer(["cat", "car", "left"])
    model = torch.nn.Module()
    encoder = WordTransformer(WordTransformerConfig(vocabulary_size=5, width=8, heads=2, vectors=3))
    model.text = encoder
    missing = load_word_vectors(model, path, tokenizer.words)
    assert missing == ["<pad>", "<unk>", "left"]
    assert encoder.given is not None
    assert encoder.project is not None
    torch.testing.assert_close(encoder.given[2:4], torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]))
    assert not encoder.words.weight[2:4].any()
    assert encoder.words.weight[4].any()
    embedded = encoder.embed(tokenizer(["cat"]))[0, 0]
    torch.testing.assert_close(embedded, encoder.project(encoder.given[2]) + encoder.positions.weight[0])
    assert "given" in encoder.state_dict()
    assert not encoder.given.requires_grad


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("cat 3 4\n")
    model = torch.nn.Module()
    model.text = WordTransformer(WordTransformerConfig(vocabulary_size=3, width=8, heads=2, vectors=3))
    with pytest.raises(CheckpointError, match=r"text\.vectors=3"):
        load_word_vectors(model, path, ["<pad>", "<unk>", "cat"])
    with pytest.raises(ConfigError, match="vectors=-1"):
        WordTransformerConfig(vectors=-1)


def test_spelling_is_bounded_in_letters_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of 100,000 letters took minutes: all of its slips, each as long as it, were looked up."""
    asked: list[int] = []

    def counted(word: str) -> Iterator[str]:
        for other in slips(word):
            asked.append(len(other))
            yield other

    slips = tokenizer_module._one_slip
    monkeypatch.setattr(tokenizer_module, "_one_slip", counted)
    tokenizer = WordTokenizer(WORDS, max_words=4, spelling=True)
    long = "x" * 100_000
    assert tokenizer.known(long) is None
    assert tokenizer([f"{long} elphant"]).ids[0, :2].tolist() == [1, tokenizer.numbers["elephant"]]
    assert read_expression(tokenizer, f"{long} elphant").unknown == (long,)
    assert max(asked) <= len("elephant") + 2
    asked.clear()
    # Words that are not read are not looked up.
    tokenizer(["elephent " * 1000])
    assert len(asked) <= 4 * 54 * 10
