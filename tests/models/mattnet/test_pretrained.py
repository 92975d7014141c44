"""Where MAttNet's detector comes from, before its first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import CheckpointError, ConfigError
from refseg.inference.checkpoint import save_model
from refseg.models import build
from refseg.models.mattnet.config import MINI, PAPER
from refseg.training.recipe import PretrainedRecipe, Recipe
from refseg.training.setup import load_pretrained
from tests.support.contract import filled
from tests.support.tiny_model import write_model_folder
from tests.support.tiny_systems import tiny_mattnet as tiny

WORDS = WordTokenizer(["dog"], 7)


def recipe(**names: str) -> Recipe:
    return replace(Recipe(), pretrained=PretrainedRecipe(**names))


def test_a_random_detector_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"pretrained\.detector"):
        load_pretrained(build(tiny(MINI)), recipe(), WORDS)
    with pytest.raises(ConfigError, match=r"pretrained\.vision"):
        load_pretrained(build(tiny(PAPER)), recipe(detector="instances"), WORDS)


def test_a_detector_is_taken_from_another_model(tmp_path: Path) -> None:
    source = filled(build(tiny(MINI)))
    save_model(tmp_path / "source", source, WORDS)
    model = build(tiny(MINI))
    before = model.text.embedding.weight.clone()
    assert load_pretrained(model, recipe(detector=str(tmp_path / "source")), WORDS) == ""
    taken, given = model.proposer.state_dict(), source.proposer.state_dict()
    assert all(torch.equal(taken[name], given[name]) for name in given)
    assert torch.equal(model.text.embedding.weight, before)
    write_model_folder(tmp_path / "rela")
    with pytest.raises(CheckpointError, match="has no detector"):
        load_pretrained(build(tiny(MINI)), recipe(detector=str(tmp_path / "rela")), WORDS)
