"""RIA and RLA against loops written from the equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refseg.errors import ConfigError
from refseg.models.rela.regions import RegionImageAttention, RIAConfig
from refseg.models.rela.relations import ParallelRLA, ParallelRLAConfig, StackedRLA, StackedRLAConfig


def gelu(values: Tensor) -> Tensor:
    return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))


def softmax(scores: list[float]) -> list[float]:
    shares = [math.exp(score - max(scores)) for score in scores]
    return [share / sum(shares) for share in shares]


@torch.no_grad()
def test_ria_is_equation_2() -> None:
    ria = RegionImageAttention(RIAConfig(), regions=2, width=4)
    maps = torch.randn(2, 4, 3, 5)
    real = torch.ones(2, 12, 20, dtype=torch.bool)
    real[1, :, 12:] = False  # the last two columns of the second picture are padding
    found = ria(maps, real)
    for picture in range(2):
        pixels = [(row, column) for row in range(3) for column in range(5) if not (picture == 1 and column >= 3)]
        for region in range(4):
            scores, values = [], []
            for row, column in pixels:
                pixel = maps[picture, :, row, column]
                scores.append(float(ria.queries[region] @ gelu(ria.key.weight @ pixel)))
                values.append(gelu(ria.value.weight @ pixel))
            expected = sum(share * value for share, value in zip(softmax(scores), values, strict=True))
            assert torch.allclose(found[picture, region], expected, atol=1e-5)


@torch.no_grad()
def test_cell_queries_and_residual_see_their_cell() -> None:
    ria = RegionImageAttention(RIAConfig(heads=2, scale=True, query="cell", residual=True), regions=2, width=8)
    maps = torch.randn(1, 8, 4, 4)
    everything = torch.ones(1, 16, 16, dtype=torch.bool)
    ria.value.weight.zero_()  # nothing is attended: what is left is the query
    found = ria(maps, everything)
    cell = ria.cell(maps[0, :, 2:, :2].mean(dim=(1, 2)))
    assert torch.allclose(found[0, 2], ria.norm(ria.queries[2] + cell), atol=1e-5)


@torch.no_grad()
def test_positions_tell_equal_pixels_apart() -> None:
    everything = torch.ones(1, 8, 8, dtype=torch.bool)
    maps = torch.zeros(1, 8, 2, 2)
    maps[0, :, 0, 0] = 1.0
    moved = torch.zeros(1, 8, 2, 2)
    moved[0, :, 1, 1] = 1.0
    for positions in (False, True):
        ria = RegionImageAttention(RIAConfig(positions=positions), regions=1, width=8)
        assert torch.allclose(ria(maps, everything), ria(moved, everything), atol=1e-6) == (not positions)


@torch.no_grad()
def test_rla_is_equation_3_and_the_parallel_sum() -> None:
    rla = ParallelRLA(ParallelRLAConfig(), width=4)
    regions, words = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    mask = torch.tensor([[True, True, True, False, False]])
    found, attention = rla(regions, words, mask)
    assert attention is not None
    for index in range(3):
        query = gelu(rla.language.query.weight @ regions[0, index])
        shares = softmax([float(query @ gelu(rla.language.key.weight @ words[0, w])) for w in range(3)])
        assert torch.allclose(attention[0, index, :3], torch.tensor(shares), atol=1e-5)
        assert not attention[0, index, 3:].any()
        second = sum(share * words[0, w] for w, share in enumerate(shares))
        query = gelu(rla.regions.query.weight @ regions[0, index])
        shares = softmax([float(query @ gelu(rla.regions.key.weight @ regions[0, r])) for r in range(3)])
        first = sum(share * regions[0, r] for r, share in enumerate(shares))
        expected = rla.mlp(regions[0, index] + first + second)
        assert torch.allclose(found[0][0, index], expected, atol=1e-5)


@torch.no_grad()
def test_baseline_multiplies_with_the_mean_word() -> None:
    rla = ParallelRLA(ParallelRLAConfig(False, False, product=True), width=4)
    regions, words = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    mask = torch.tensor([[True, True, False, False, False]])
    found, attention = rla(regions, words, mask)
    assert attention is None
    assert torch.allclose(found[0], rla.mlp(regions * words[:, :2].mean(dim=1)[:, None]), atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_every_supervised_layer_answers(norm: str) -> None:
    regions, words = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    torch.manual_seed(1)
    deep = StackedRLA(StackedRLAConfig(3, 2, 16, norm), 8)  # type: ignore[arg-type]
    torch.manual_seed(1)
    last = StackedRLA(StackedRLAConfig(3, 2, 16, norm, deep_supervision=False), 8)  # type: ignore[arg-type]
    answers = deep(regions, words, mask)[0]
    assert len(answers) == 3
    assert len(last(regions, words, mask)[0]) == 1
    assert torch.equal(answers[-1], last(regions, words, mask)[0][0])
    other = words.clone()
    other[1, 1:] = 9.0
    assert torch.equal(answers[-1], deep(regions, other, mask)[0][-1])


@torch.no_grad()
def test_products_start_without_effect_and_then_multiply_regions_by_the_mean_word() -> None:
    plain = StackedRLA(StackedRLAConfig(layers=1, heads=2, feedforward=8), 8)
    with_product = StackedRLA(StackedRLAConfig(layers=1, heads=2, feedforward=8, product=True), 8)
    with_product.load_state_dict(plain.state_dict(), strict=False)
    regions, words = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    torch.testing.assert_close(with_product(regions, words, mask)[0][0], plain(regions, words, mask)[0][0])
    torch.nn.init.normal_(with_product.products[0].weight)
    multiplied = regions.clone()
    for sentence, count in enumerate((3, 1)):
        mean = words[sentence, :count].mean(dim=0)
        multiplied[sentence] += regions[sentence] * with_product.products[0](mean)
    torch.testing.assert_close(with_product(regions, words, mask)[0][0], plain(multiplied, words, mask)[0][0])


def test_heads_must_divide() -> None:
    with pytest.raises(ConfigError, match="heads=3"):
        RegionImageAttention(RIAConfig(heads=3), regions=2, width=8)
