"""Batch normalisation that leaves padding out of its statistics."""

from __future__ import annotations

import pytest
import torch

from refseg.models.m3att.token_norm import Projection, TokenBatchNorm

MASK = torch.tensor([[True, True, False, True], [True, False, False, False]])


def test_statistics_are_of_the_real_tokens() -> None:
    norm = TokenBatchNorm(3).train()
    tokens = torch.randn(2, 4, 3)
    found = norm(tokens, MASK)
    real = tokens[MASK]
    expected = (real - real.mean(dim=0)) / (real.var(dim=0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(found[MASK], expected, atol=1e-5)
    assert not found[~MASK].any()
    assert torch.allclose(norm.running_mean, 0.1 * real.mean(dim=0))


def test_padding_changes_nothing() -> None:
    tokens = torch.randn(2, 4, 3)
    other = torch.where(MASK[..., None], tokens, tokens + 7)
    norms = [TokenBatchNorm(3).train(), TokenBatchNorm(3).train()]
    assert torch.equal(norms[0](tokens, MASK), norms[1](other, MASK))
    assert torch.equal(norms[0].running_var, norms[1].running_var)
    assert torch.equal(norms[0].eval()(tokens, MASK), norms[1].eval()(other, MASK))


def test_without_mask_it_is_batch_normalisation() -> None:
    norm, plain = TokenBatchNorm(3), torch.nn.BatchNorm1d(3)
    tokens = torch.randn(2, 4, 3)
    for mode in (True, False):
        expected = plain.train(mode)(tokens.flatten(0, 1)).view(2, 4, 3)
        assert torch.allclose(norm.train(mode)(tokens), expected, atol=1e-6)


def test_one_real_token_is_normalised_by_the_running_statistics() -> None:
    norm = TokenBatchNorm(3).train()
    tokens = torch.randn(1, 4, 3)
    found = norm(tokens, torch.tensor([[False, True, False, False]]))
    assert torch.allclose(found[0, 1], tokens[0, 1] / (1 + 1e-5) ** 0.5)
    assert not norm.running_mean.any()


def test_gradient_skips_padding() -> None:
    norm = TokenBatchNorm(3).train()
    tokens = torch.randn(2, 4, 3, requires_grad=True)
    norm(tokens, MASK).square().mul(torch.randn(2, 4, 3)).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[MASK].any()
    assert not tokens.grad[~MASK].any()


@pytest.mark.parametrize(("norm", "relu", "bias"), [(True, True, True), (False, True, False), (False, False, True)])
def test_projection(norm: bool, relu: bool, bias: bool) -> None:
    layer = Projection(3, 5, norm, relu, bias).eval()
    assert (layer.linear.bias is not None) == (bias and not norm)
    tokens = torch.randn(2, 4, 3)
    expected = tokens @ layer.linear.weight.T
    if norm:
        expected = expected / (1 + 1e-5) ** 0.5
    if relu:
        expected = expected.clamp(min=0)
    assert torch.allclose(layer(tokens), expected, atol=1e-6)
