"""Mutual attention against loops written from equations 5.1 and 5.2, and its linear layer at other sizes of map."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from refseg.errors import ConfigError
from refseg.models.m3att.mutual import GridLinear, MutualAttention, MutualAttentionConfig
from tests.support.contract import assert_differs

WIDTH, GRID = 8, (3, 4)
WORD_MASK = torch.tensor([[True, True, True, False, False], [True, True, True, True, True]])
PIXEL_MASK = torch.ones(2, 12, dtype=torch.bool)
PIXEL_MASK[0, 8:] = False
KINDS = ("shared", "independent", "language_attended", "vision_attended")


def mutual(kind: str = "shared", heads: int = 1, grid: tuple[int, int] = GRID, norm: str = "none") -> MutualAttention:
    module = MutualAttention(MutualAttentionConfig(kind, heads, norm), WIDTH, grid)  # type: ignore[arg-type]
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return module


def linear(layer: nn.Linear, vector: Tensor) -> list[float]:
    return [
        sum(float(layer.weight[row, k]) * float(vector[k]) for k in range(len(vector))) + float(layer.bias[row])
        for row in range(len(layer.bias))
    ]


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def slow(module: MutualAttention, words: Tensor, pixels: Tensor, heads: int) -> list[list[float]]:
    """One sentence and one picture without padding: word by word, pixel by pixel, product by product."""
    part, found = WIDTH // heads, []
    count, places = len(words), len(pixels)
    products = [[[0.0] * places for _ in range(heads)] for _ in range(count)]
    attended_pixels: list[list[float]] = [[] for _ in range(count)]
    attended_words: list[list[float]] = [[] for _ in range(places)]
    for head in range(heads):
        own = slice(head * part, (head + 1) * part)

        def scores(word_key: nn.Linear, pixel_key: nn.Linear, own: slice = own) -> list[list[float]]:
            language = [linear(word_key, word)[own] for word in words]
            vision = [linear(pixel_key, pixel)[own] for pixel in pixels]
            return [
                [sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(part) for other in vision]
                for one in language
            ]

        matrix = scores(module.word_key, module.pixel_key)  # 5.1
        second = matrix
        if module.second_word_key is not None:
            second = scores(module.second_word_key, module.second_pixel_key)
        lav, val = [], []
        if module.pixel_value is not None:
            values = [linear(module.pixel_value, pixel)[own] for pixel in pixels]
            for word in range(count):  # 5.2a
                weights = softmax(matrix[word])
                lav.append([sum(weights[p] * values[p][k] for p in range(places)) for k in range(part)])
                attended_pixels[word] += lav[-1]
        if module.word_value is not None:
            values = [linear(module.word_value, word)[own] for word in words]
            for place in range(places):  # 5.2b
                weights = softmax([second[word][place] for word in range(count)])
                val.append([sum(weights[w] * values[w][k] for w in range(count)) for k in range(part)])
                attended_words[place] += val[-1]
        if lav and val:
            for word in range(count):
                for place in range(places):
                    products[word][head][place] = sum(a * b for a, b in zip(lav[word], val[place], strict=True))
    if module.word_value is None:
        return [linear(module.output, torch.tensor(row)) for row in attended_pixels]
    if module.pixel_value is None:
        return [linear(module.output, torch.tensor(row)) for row in attended_words]
    weight = module.output.weight.detach().flatten(2)
    for word in range(count):
        row = []
        for channel in range(WIDTH):
            total = float(module.output.bias[channel])
            for head in range(heads):
                total += sum(float(weight[channel, head, p]) * products[word][head][p] for p in range(places))
            row.append(total)
        found.append(row)
    return found


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_equations_5_1_and_5_2(kind: str, heads: int) -> None:
    """Sentence and picture without their padding give what the masked ones give."""
    module = mutual(kind, heads)
    words, pixels = torch.randn(1, 5, WIDTH), torch.randn(1, 12, WIDTH)
    found = module(words, pixels, GRID, WORD_MASK[:1]).features
    expected = torch.tensor(slow(module, words[0, :3], pixels[0], heads))
    own = found[0] if kind == "vision_attended" else found[0, :3]
    assert torch.allclose(own, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_changes_nothing(kind: str) -> None:
    module = mutual(kind, 2)
    words, pixels = torch.randn(2, 5, WIDTH), torch.randn(2, 12, WIDTH)
    before = module(words, pixels, GRID, WORD_MASK, PIXEL_MASK)
    words = torch.where(WORD_MASK[..., None], words, words + 3)
    pixels = torch.where(PIXEL_MASK[..., None], pixels, pixels - 5)
    after = module(words, pixels, GRID, WORD_MASK, PIXEL_MASK)
    real = PIXEL_MASK if kind == "vision_attended" else WORD_MASK
    assert torch.allclose(before.features[real], after.features[real], atol=1e-5)
    if before.word_attention is not None:
        assert torch.allclose(before.word_attention, after.word_attention, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_follows_the_linear_layer(kind: str) -> None:
    """Batch normalisation over the real words (or pixels), then rectification."""
    plain, norm, both = mutual(kind), mutual(kind, norm="batch"), mutual(kind, norm="batch_relu")
    for module in (norm, both):
        module.load_state_dict(plain.state_dict(), strict=False)
        module.norm.reset_parameters()
    words, pixels = torch.randn(2, 5, WIDTH), torch.randn(2, 12, WIDTH)
    found = [module.train()(words, pixels, GRID, WORD_MASK, PIXEL_MASK).features for module in (plain, norm, both)]
    real = PIXEL_MASK if kind == "vision_attended" else WORD_MASK
    tokens = found[0][real]
    expected = (tokens - tokens.mean(dim=0)) / (tokens.var(dim=0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(found[1][real], expected, atol=1e-4)
    assert not found[1][~real].any()
    assert torch.equal(found[2], found[1].clamp(min=0))


@torch.no_grad()
def test_a_picture_is_projected_once_for_all_its_sentences() -> None:
    module = mutual("independent")
    words, pixels, picture = torch.randn(3, 5, WIDTH), torch.randn(2, 12, WIDTH), torch.tensor([1, 0, 1])
    shared = module(words, pixels, GRID, image_index=picture)
    apart = module(words, pixels[picture], GRID)
    assert torch.allclose(shared.features, apart.features, atol=1e-6)


@torch.no_grad()
def test_attention_is_spread_over_what_is_real() -> None:
    found = mutual("shared", 2)(torch.randn(2, 5, WIDTH), torch.randn(2, 12, WIDTH), GRID, WORD_MASK, PIXEL_MASK)
    assert torch.allclose(found.pixel_attention.sum(dim=2), torch.ones(2, 5))
    assert torch.allclose(found.word_attention.sum(dim=1), torch.ones(2))
    assert not found.pixel_attention[0, :, 8:].any()
    assert not found.word_attention[~WORD_MASK].any()


@torch.no_grad()
def test_which_attention_there_is() -> None:
    words, pixels = torch.randn(1, 5, WIDTH), torch.randn(1, 12, WIDTH)
    found = {kind: mutual(kind)(words, pixels, GRID) for kind in KINDS}
    assert [found[kind].word_attention is not None for kind in KINDS] == [True, True, False, True]
    assert [found[kind].pixel_attention is not None for kind in KINDS] == [True, True, True, False]


@torch.no_grad()
def test_shared_means_one_matrix() -> None:
    """An independent module whose second keys are its first ones computes the shared one."""
    shared, independent = mutual("shared"), mutual("independent")
    missing = independent.load_state_dict(shared.state_dict(), strict=False).missing_keys
    assert {name.split(".")[0] for name in missing} == {"second_word_key", "second_pixel_key"}
    words, pixels = torch.randn(1, 5, WIDTH), torch.randn(1, 12, WIDTH)
    assert_differs(shared(words, pixels, GRID).features, independent(words, pixels, GRID).features)
    independent.second_word_key.load_state_dict(shared.word_key.state_dict())
    independent.second_pixel_key.load_state_dict(shared.pixel_key.state_dict())
    assert torch.allclose(shared(words, pixels, GRID).features, independent(words, pixels, GRID).features, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind: str) -> None:
    module = mutual(kind)
    found = module(torch.randn(2, 5, WIDTH), torch.randn(2, 12, WIDTH), GRID, WORD_MASK, PIXEL_MASK)
    found.features.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@torch.no_grad()
def test_a_sentence_without_words_is_no_accident() -> None:
    found = mutual()(torch.randn(1, 5, WIDTH), torch.randn(1, 12, WIDTH), GRID, torch.zeros(1, 5, dtype=torch.bool))
    assert found.features.isfinite().all()


# The linear layer of a map


@torch.no_grad()
def test_grid_linear_is_a_linear_layer_at_its_own_size() -> None:
    layer = GridLinear(3, 4, 8, heads=2)
    maps = torch.randn(2, 5, 2, 12)
    plain = nn.Linear(24, 8)
    plain.weight.copy_(layer.weight.flatten(1))
    plain.bias.copy_(layer.bias)
    assert torch.equal(layer(maps, (3, 4)), plain(maps.flatten(2)))


@pytest.mark.parametrize("size", [(6, 8), (2, 3), (5, 4), (1, 1), (30, 30)])
@torch.no_grad()
def test_grid_linear_integrates_over_the_picture(size: tuple[int, int]) -> None:
    """A constant map gives one answer at every size: exactly for whole multiples, closely for smooth weights."""
    layer = GridLinear(4, 4, 8)
    ramp = torch.linspace(-1, 1, 4)
    layer.weight.copy_((torch.randn(8, 1, 1, 1) + 0.2 * ramp[:, None] + 0.1 * ramp).expand(8, 1, 4, 4))
    places = size[0] * size[1]
    found = layer(torch.ones(1, 1, 1, places), size)
    assert torch.allclose(found, layer(torch.ones(1, 1, 1, 16), (4, 4)), atol=1e-3)


@torch.no_grad()
def test_grid_linear_reads_the_same_picture_at_another_size() -> None:
    """A smooth map sampled twice as finely gives nearly the same answer under a smooth weight."""

    def sampled(rows: int) -> Tensor:
        axis = (torch.arange(rows) + 0.5) / rows
        return (axis[:, None] * axis + 0.3 * axis).flatten()[None, None, None]

    layer = GridLinear(8, 8, 4)
    axis = (torch.arange(8) + 0.5) / 8
    layer.weight.copy_((torch.randn(4, 1, 1, 1) + axis[:, None] - 2 * axis) / 64)
    coarse, fine = layer(sampled(8), (8, 8)), layer(sampled(16), (16, 16))
    assert float((coarse - fine).abs().max()) < 0.02
    assert float(coarse.std()) > 0.1


def test_wrong_configurations_say_so() -> None:
    with pytest.raises(ConfigError, match="heads=0"):
        MutualAttentionConfig(heads=0)
    with pytest.raises(ConfigError, match="heads=3 does not divide width=8"):
        mutual(heads=3)


def test_the_printed_size_of_the_linear_layer() -> None:
    """676 places at 416 pixels, 900 at 480, both to 256 channels."""
    for side, places in ((26, 676), (30, 900)):
        with torch.device("meta"):
            module = MutualAttention(MutualAttentionConfig(), 256, (side, side))
        assert module.output.weight.flatten(1).shape == (256, places)
