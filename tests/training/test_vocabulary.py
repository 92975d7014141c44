"""Where a run's tokenizer comes from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import ConfigError
from refseg.inference.checkpoint import load_model
from refseg.training.loop import train
from refseg.training.recipe import parse_recipe
from refseg.training.setup import build_tokenizer, fit_vocabulary
from refseg.training.source import open_pictures
from tests.support.tiny_system import TinyConfig, recipe_values

ALONE = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)


def build(values, config=None):
    recipe = parse_recipe(values)
    return build_tokenizer(recipe, open_pictures(recipe.data), None, config or TinyConfig(), ALONE)


def test_words_are_learnt_from_the_first_scenes_and_sized_into_the_model(tmp_path):
    values = recipe_values(tmp_path)
    tokenizer = build(values)
    assert set(tokenizer.words) == {"<pad>", "<unk>", "the", "square", "red", "green", "blue"}
    assert tokenizer.max_words == TinyConfig().text.max_words
    assert fit_vocabulary(TinyConfig(), tokenizer).text.vocabulary_size == 7
    values["data"]["vocab_min_count"] = 15
    assert len(build(values).words) < 7


def test_a_vocabulary_file_takes_the_place_of_learning(tmp_path):
    (tmp_path / "words.txt").write_text("red\ngreen\nred\n")
    values = recipe_values(tmp_path)
    values["data"]["vocabulary"] = str(tmp_path / "words.txt")
    assert build(values).words == ["<pad>", "<unk>", "red", "green"]
    values["data"]["vocabulary"] = str(tmp_path / "absent.txt")
    with pytest.raises(ConfigError, match=r"data\.vocabulary: .*absent\.txt cannot be read"):
        build(values)


def test_a_tokenizer_folder_is_read_and_cut_to_the_model(tmp_path):
    WordTokenizer(["blue"], 40).save(tmp_path / "words")
    values = recipe_values(tmp_path)
    values["data"]["tokenizer"] = str(tmp_path / "words")
    assert build(values).words[2:] == ["blue"]
    assert build(values).max_words == TinyConfig().text.max_words


def test_a_model_with_bert_wants_word_pieces(tmp_path):
    config = replace(TinyConfig(), text=BertTextConfig(layers=1))
    with pytest.raises(ConfigError, match=r"data\.tokenizer: .*bert"):
        build(recipe_values(tmp_path), config)


def test_a_run_can_start_from_a_model_and_its_words(tmp_path):
    train(parse_recipe(recipe_values(tmp_path / "first", steps=2)))
    values = recipe_values(tmp_path / "second", steps=1)
    values["pretrained"] = {"model": str(tmp_path / "first" / "final")}
    values["data"]["seed"] = 99
    values["optimizer"]["lr"] = 1e-9
    train(parse_recipe(values))
    first, words, _ = load_model(tmp_path / "first" / "final")
    second, more, _ = load_model(tmp_path / "second" / "final")
    assert words.words == more.words
    assert first.text.weight.detach() == pytest.approx(second.text.weight.detach(), abs=1e-6)


def test_the_words_of_word_vectors_join_what_the_sentences_have(tmp_path):
    (tmp_path / "glove.txt").write_text("the 0.5 1\nzebra 0.25 1\nred 1 2\ngiraffe 1 1\n")
    values = recipe_values(tmp_path)
    values["pretrained"] = {"glove": str(tmp_path / "glove.txt")}
    values["data"]["vocab_glove_words"] = 3
    words = build(values).words
    assert {"square", "zebra"} < set(words)
    assert "giraffe" not in words
    assert words.count("red") == 1
    (tmp_path / "extra.txt").write_text("okapi\n")
    values["data"]["vocab_extra_file"] = str(tmp_path / "extra.txt")
    values["output"]["folder"] = str(tmp_path / "third")
    assert "zebra" not in build(values).words  # a list of its own says which
    assert "okapi" in build(values).words
    del values["data"]["vocab_extra_file"]
    values["data"]["vocab_glove_words"] = 0
    values["output"]["folder"] = str(tmp_path / "other")
    assert "zebra" not in build(values).words
