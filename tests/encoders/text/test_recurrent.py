"""The recurrent text encoder: Keras's cell against its equations, padding in front and behind, all kinds of pooling."""

from dataclasses import replace
from itertools import product
from typing import get_args, get_type_hints

import pytest
import torch

from refseg.encoders.build import build_text
from refseg.encoders.text.recurrent import KerasGRU, RecurrentText, RecurrentTextConfig, reversed_words
from refseg.errors import ConfigError
from refseg.types import Tokens

SMALL = RecurrentTextConfig(vocabulary_size=20, max_words=6, embedding=5, hidden=4, dropout=0.0)
CHOICES = {name: get_args(get_type_hints(RecurrentTextConfig)[name]) for name in ("cell", "directions", "pool")}


def sentences(length=6, counts=(6, 3, 1), front=False):
    ids = torch.arange(len(counts) * length).reshape(len(counts), length) % 17 + 2
    places = torch.arange(length)[None]
    counts = torch.tensor(counts)[:, None]
    mask = places >= length - counts if front else places < counts
    return Tokens(ids * mask, mask)


@torch.no_grad()
def test_keras_cell_is_its_equations():
    """One bias; the reset gate works on the state before the recurrent kernel."""
    cell = KerasGRU(5, 4)
    cell.inputs.bias.normal_()
    vectors = torch.randn(2, 3, 5)
    kernels = cell.inputs.weight.chunk(3)
    recurrent, biases = cell.recurrent.chunk(3), cell.inputs.bias.chunk(3)
    for batch in range(2):
        state = torch.zeros(4)
        for step in range(3):
            word = vectors[batch, step]
            update = torch.sigmoid(kernels[0] @ word + recurrent[0] @ state + biases[0])
            reset = torch.sigmoid(kernels[1] @ word + recurrent[1] @ state + biases[1])
            new = torch.tanh(kernels[2] @ word + recurrent[2] @ (reset * state) + biases[2])
            state = update * state + (1 - update) * new
            torch.testing.assert_close(cell(vectors)[batch, step], state)


@pytest.mark.parametrize(("cell", "directions", "pool"), list(product(*CHOICES.values())))
@pytest.mark.parametrize("mask_padding", [True, False])
def test_every_kind_learns_and_ignores_what_stands_in_padding(cell, directions, pool, mask_padding):
    config = replace(SMALL, cell=cell, directions=directions, pool=pool, mask_padding=mask_padding)
    model, tokens = build_text(config), sentences()
    text = model(tokens)
    assert text.words.shape == (3, 6, model.width)
    assert text.sentence.shape == (3, model.width)
    (text.words.square().sum() + text.sentence.square().sum()).backward()
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())
    other = model(Tokens(tokens.ids.masked_fill(~tokens.mask, 7), tokens.mask))
    assert torch.equal(text.words, other.words)
    assert torch.equal(text.sentence, other.sentence)


@pytest.mark.parametrize(("cell", "pool"), list(product(CHOICES["cell"], CHOICES["pool"])))
@torch.no_grad()
def test_masked_padding_changes_nothing_wherever_it_stands(cell, pool):
    model = RecurrentText(replace(SMALL, cell=cell, pool=pool)).eval()
    behind, front = model(sentences()), model(sentences(front=True))
    for index, count in enumerate((6, 3, 1)):
        whole = sentences(length=count, counts=(count,))
        whole = Tokens(sentences().ids[index : index + 1, :count], whole.mask)
        alone = model(whole)
        torch.testing.assert_close(behind.words[index, :count], alone.words[0])
        torch.testing.assert_close(behind.sentence[index], alone.sentence[0])
        assert not behind.words[index, count:].any()
    ids = sentences().ids[1:2, :3]
    padded = Tokens(torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1), front.mask[1:2])
    moved = model(padded)
    torch.testing.assert_close(moved.words[0, 3:], behind.words[1, :3])
    torch.testing.assert_close(moved.sentence[0], behind.sentence[1])


@torch.no_grad()
def test_padding_goes_through_the_cells_when_it_is_not_masked():
    model = RecurrentText(replace(SMALL, mask_padding=False)).eval()
    short = Tokens(sentences().ids[1:2, :3], torch.ones(1, 3, dtype=torch.bool))
    padded = Tokens(sentences().ids[1:2], sentences().mask[1:2])
    assert not torch.allclose(model(short).sentence, model(padded).sentence)


@torch.no_grad()
def test_two_directions_are_one_cell_each_way():
    model = RecurrentText(replace(SMALL, directions="concat", pool="last")).eval()
    tokens = sentences(counts=(6,))
    text = model(tokens)
    vectors = model.words(tokens.ids)
    ahead, back = model.forward_cell(vectors)[0], model.backward_cell(vectors.flip(1))[0].flip(1)
    torch.testing.assert_close(text.words, torch.cat([ahead, back], dim=2))
    torch.testing.assert_close(text.sentence, torch.cat([ahead[:, -1], back[:, 0]], dim=1))


@torch.no_grad()
def test_pools_are_weighted_sums():
    tokens = sentences()
    for pool in ("channel", "scalar", "mean"):
        model = RecurrentText(replace(SMALL, pool=pool)).eval()
        text = model(tokens)
        for index, count in enumerate((6, 3, 1)):
            words = text.words[index, :count]
            scores = torch.zeros(count, 1) if pool == "mean" else torch.tanh(model.attention(words))
            for channel in range(4):
                own = scores[:, channel % scores.shape[1]].exp()
                expected = sum(own[place] * words[place, channel] for place in range(count)) / own.sum()
                torch.testing.assert_close(text.sentence[index, channel], expected)


def test_a_sentence_without_words_is_finite():
    for pool in CHOICES["pool"]:
        model = RecurrentText(replace(SMALL, pool=pool))
        text = model(Tokens(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.bool)))
        assert not text.sentence.any()
        (text.sentence.sum() + text.words.sum()).backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_order_of_reversed_words():
    mask = torch.tensor([[False, True, True, True], [True, True, False, False]])
    assert reversed_words(mask).tolist() == [[3, 2, 1, 0], [1, 0, 2, 3]]


def test_a_fixed_embedding_is_not_trained():
    model = RecurrentText(replace(SMALL, train_embedding=False))
    model(sentences()).sentence.sum().backward()
    assert model.words.weight.grad is None


@pytest.mark.parametrize("cell", CHOICES["cell"])
def test_runs_in_sixteen_bits(cell):
    model = RecurrentText(replace(SMALL, cell=cell))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        text = model(sentences())
    text.sentence.float().sum().backward()
    assert text.sentence.isfinite().all()


def test_errors_name_the_field():
    for fields in ({"vocabulary_size": 2}, {"hidden": 0}, {"dropout": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(fields))):
            replace(SMALL, **fields)
