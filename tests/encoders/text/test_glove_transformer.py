"""ReSTR's language encoder: positions, padding in front or behind, and that padding is not looked at."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from refseg.encoders.text.glove_transformer import (
    GloveTransformer,
    GloveTransformerConfig,
    sinusoidal_positions,
    words_last,
)
from refseg.errors import ConfigError
from refseg.types import Tokens

TINY = GloveTransformerConfig(vocabulary_size=20, max_words=6, width=12, layers=2, heads=2, feedforward=16)


def tokens(*rows: list[int]) -> Tokens:
    """Sentences by number; 0 is padding."""
    ids = torch.tensor(rows)
    return Tokens(ids, ids != 0)


def test_positions_are_sines_and_cosines() -> None:
    table = sinusoidal_positions(5, 6)
    for position in range(5):
        for channel in range(6):
            angle = position / 10000 ** (2 * (channel // 2) / 6)
            expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
            assert float(table[position, channel]) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_words_at_the_end_take_the_last_positions_wherever_their_slots_are() -> None:
    model = GloveTransformer(replace(TINY, align="end")).eval()
    behind, before = tokens([3, 4, 5, 0, 0, 0]), tokens([0, 0, 0, 3, 4, 5])
    assert words_last(behind.mask).tolist() == [[3, 4, 5, 0, 1, 2]]
    found, expected = model(behind), model(before)
    assert torch.allclose(found.words[:, :3], expected.words[:, 3:], atol=1e-6)
    assert torch.allclose(found.sentence, expected.sentence, atol=1e-6)
    assert torch.equal(found.mask, behind.mask)
    start = GloveTransformer(TINY).eval()
    start.load_state_dict(model.state_dict())
    assert not torch.allclose(start(behind).words[:, :3], found.words[:, :3], atol=1e-3)
    # a full sentence stands at the start and at the end
    full = tokens([3, 4, 5, 6, 7, 8])
    assert torch.equal(start(full).words, model(full).words)


@torch.no_grad()
def test_padding_is_looked_at_only_where_asked() -> None:
    sentence = tokens([3, 4, 0, 0, 0, 0])
    other = Tokens(sentence.ids.masked_fill(~sentence.mask, 9), sentence.mask)
    for masked in (True, False):
        model = GloveTransformer(replace(TINY, mask_padding=masked)).eval()
        before, after = model(sentence).words[:, :2], model(other).words[:, :2]
        assert torch.allclose(before, after, atol=1e-6) == masked


def test_padding_has_a_vector_of_zeros_that_stays() -> None:
    model = GloveTransformer(replace(TINY, mask_padding=False))
    model(tokens([3, 4, 0, 0, 0, 0])).words.square().sum().backward()
    assert not model.words.weight[0].any()
    assert model.words.weight.grad is not None
    assert not model.words.weight.grad[0].any()
    assert model.words.weight.grad[3].any()


def test_output_width() -> None:
    model = GloveTransformer(replace(TINY, output_width=8))
    assert model.width == 8
    assert model(tokens([3, 0, 0, 0, 0, 0])).words.shape == (1, 6, 8)


@pytest.mark.parametrize("fields", [{"heads": 5}, {"output_width": 0}, {"dropout": 1.0}, {"layers": 0}])
def test_wrong_sizes_say_so(fields: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        replace(TINY, **fields)
