"""Language feature reconstruction against equation 5.4 written out, and beside systems that do not know it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refseg.encoders.vision.resnet import ResNetConfig
from refseg.errors import ConfigError, RefsegError
from refseg.models import build
from refseg.models.m3att.reconstruction import LanguageReconstruction, attach_reconstruction
from refseg.models.rela.config import MINI as RELA_MINI
from refseg.models.restr.config import MINI as RESTR_MINI
from refseg.types import Batch, Targets, Tokens

MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])


def slow_target(module: LanguageReconstruction, words: Tensor, sentence: Tensor) -> list[float]:
    """F_proj of one sentence without padding, without normalisation."""
    count, width = words.shape
    matrix = module.projection.linear.weight  # W_proj transposed
    rows = []
    for place in range(count):
        row = []
        for channel in range(width):
            angle = place / 10000 ** ((channel - channel % 2) / width)
            row.append(float(words[place, channel]) + (math.sin(angle) if channel % 2 == 0 else math.cos(angle)))
        rows.append(row)
    rows.append([float(value) for value in sentence])
    total = [0.0] * len(matrix)
    for row in rows:
        for output in range(len(matrix)):
            total[output] += max(0.0, sum(float(matrix[output, k]) * row[k] for k in range(width)))
    return [value / (count + 1) for value in total]


@torch.no_grad()
def test_equation_5_4() -> None:
    module = LanguageReconstruction(6, 5, norm=False)
    words, sentence = torch.randn(2, 4, 6), torch.randn(2, 6)
    found = module.project(words, sentence, MASK)
    for index in range(2):
        expected = torch.tensor(slow_target(module, words[index][MASK[index]], sentence[index]))
        assert torch.allclose(found[index], expected, atol=1e-5)


@torch.no_grad()
def test_reconstruction_and_its_distance() -> None:
    module = LanguageReconstruction(6, 5, norm=False)
    words, sentence, features = torch.randn(2, 4, 6), torch.randn(2, 6), torch.randn(2, 4, 5)
    rebuilt = module.reconstruct(features, MASK)
    for index in range(2):
        tokens = features[index][MASK[index]]
        for layer in module.layers:
            tokens = (tokens @ layer.linear.weight.T + layer.linear.bias).clamp(min=0)
        assert torch.allclose(rebuilt[index], tokens.mean(dim=0), atol=1e-5)
    target = module.project(words, sentence, MASK)
    expected = sum(float(a - b) ** 2 for a, b in zip(rebuilt.flatten(), target.flatten(), strict=True)) / 12
    assert float(module(words, sentence, MASK, features, MASK)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_padding_changes_nothing(training: bool) -> None:
    module = LanguageReconstruction(6, 5).train(training)
    words, sentence, features = torch.randn(2, 4, 6), torch.randn(2, 6), torch.randn(2, 4, 5)
    before = module(words, sentence, MASK, features, MASK)
    padding = ~MASK[..., None]
    after = module(words + 9 * padding, sentence, MASK, features - 4 * padding, MASK)
    assert torch.allclose(before, after, atol=1e-6)


def test_three_layers_and_the_comparison_in_c_channels() -> None:
    module = LanguageReconstruction(256, 256)
    assert [layer.linear.weight.shape for layer in module.layers] == [(256, 256)] * 3
    assert module.projection.linear.weight.shape == (256, 256)
    assert module.projection.linear.bias is None


@pytest.mark.parametrize("detach", [True, False])
def test_where_the_gradient_goes(detach: bool) -> None:
    module = LanguageReconstruction(6, 5, detach_target=detach)
    words, sentence = torch.randn(2, 4, 6, requires_grad=True), torch.randn(2, 6, requires_grad=True)
    features = torch.randn(2, 4, 5, requires_grad=True)
    module(words, sentence, MASK, features, MASK).backward()
    assert features.grad is not None
    assert (words.grad is None) == (sentence.grad is None) == detach
    assert (module.projection.linear.weight.grad is None) == detach


def test_it_can_be_learnt() -> None:
    """Features that hold the language let the loss fall; features without it do not."""
    words, sentence = torch.randn(16, 3, 8), torch.randn(16, 8)
    last = {}
    for name, features in {"language": words, "constant": torch.ones(16, 3, 8)}.items():
        torch.manual_seed(0)
        module = LanguageReconstruction(8, 8, detach_target=True)
        for parameter in module.projection.parameters():
            parameter.requires_grad_(False)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for _ in range(60):
            loss = module(words, sentence, None, features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        last[name] = loss.item()
    assert last["language"] < 0.6 * last["constant"]


# Beside other systems

TINY = ResNetConfig(
    block="basic", widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), stem="conv3", stem_width=8, norm="group", norm_groups=2
)


def tiny_rela() -> nn.Module:
    relation = replace(
        RELA_MINI.relation,
        ria=replace(RELA_MINI.relation.ria, heads=2),
        rla=replace(RELA_MINI.relation.rla, layers=2, heads=2, feedforward=16),
    )
    config = replace(
        RELA_MINI,
        vision=TINY,
        text=replace(RELA_MINI.text, vocabulary_size=30, max_words=7, width=16, heads=2, feedforward=16),
        pixel_decoder=replace(RELA_MINI.pixel_decoder, fine_width=8, groups=4),
        width=16,
        regions=4,
        relation=relation,
    )
    return build(config)


def tiny_restr() -> nn.Module:
    config = replace(
        RESTR_MINI,
        vision=replace(RESTR_MINI.vision, width=16, layers=2, heads=2, feedforward=16, grid=3),
        text=replace(RESTR_MINI.text, vocabulary_size=30, max_words=7, width=12, layers=2, heads=2, feedforward=16),
        fusion=replace(RESTR_MINI.fusion, width=16, heads=2, feedforward=16),
    )
    return build(config)


SYSTEMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rela": (tiny_rela, {"features": "auxiliary.region_filters", "channels": 16}),
    "restr": (tiny_restr, {"features": "fusion", "part": "patches", "channels": 16}),
}


def small_batch() -> tuple[Batch, Targets]:
    mask = torch.tensor([[True] * 3 + [False] * 4, [True] * 7, [True] * 5 + [False] * 2])
    tokens = Tokens(torch.randint(2, 30, (3, 7)) * mask, mask)
    batch = Batch(
        torch.randn(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool), tokens, image_index=torch.tensor([0, 1, 1])
    )
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:2, 10:40, 10:40] = True
    return batch, Targets(masks, ~masks.flatten(1).any(dim=1))


@pytest.mark.parametrize("name", SYSTEMS)
def test_beside_another_system(name: str) -> None:
    """The system answers as before; its losses gain one, whose gradient reaches the encoders and the new layers."""
    make, where = SYSTEMS[name]
    model = make().eval()
    trained = attach_reconstruction(model, **where).eval()
    batch, targets = small_batch()
    plain, found = model(batch), trained(batch)
    assert torch.equal(plain.mask_logits, found.mask_logits)
    assert set(found.auxiliary) - set(plain.auxiliary) == {"reconstruction"}
    losses = trained.losses(found, targets)
    own = model.losses(plain, targets)
    assert set(losses) - set(own) == {"reconstruction"}
    assert all(torch.equal(losses[key], own[key]) for key in own)
    losses["reconstruction"].backward()
    for part in (model.vision, model.text, trained.reconstruction):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    assert trained.config is model.config
    assert trained.late_fusion


@pytest.mark.parametrize("name", SYSTEMS)
def test_steps_of_training_lower_it(name: str) -> None:
    make, where = SYSTEMS[name]
    trained = attach_reconstruction(make(), **where, weight=1.0).train()
    batch, targets = small_batch()
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    seen = []
    for _ in range(15):
        losses = trained.losses(trained(batch), targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        seen.append(losses["reconstruction"].item())
    assert sum(seen[-3:]) < sum(seen[:3])
    assert not any(module._forward_hooks for module in trained.modules())


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_the_way_by_parts_is_the_same(name: str) -> None:
    make, where = SYSTEMS[name]
    trained = attach_reconstruction(make(), **where, weight=0.5).eval()
    batch, targets = small_batch()
    state = trained.encode_image(batch.images, batch.pixel_mask)
    apart = trained.decode(state, trained.encode_text(batch.tokens), batch.image_index)
    whole = trained(batch)
    assert torch.equal(apart.mask_logits, whole.mask_logits)
    found = [trained.losses(output, targets)["reconstruction"] for output in (apart, whole)]
    assert torch.equal(*found)
    heard = whole.auxiliary["reconstruction"]
    assert torch.allclose(found[0], 0.5 * trained.reconstruction(**heard))


def test_one_vector_and_maps_are_features_too() -> None:
    batch, targets = small_batch()
    model = tiny_restr()
    vector = attach_reconstruction(model, "fusion", part="classifier", channels=16)
    maps = attach_reconstruction(model, "decoder.layers.0", channels=16)
    assert vector(batch).auxiliary["reconstruction"]["features"].shape == (3, 1, 16)
    assert maps(batch).auxiliary["reconstruction"]["features"].shape == (3, 16, 16)
    for trained in (vector, maps):
        assert trained.losses(trained(batch), targets)["reconstruction"].isfinite()


def test_wrong_places_say_so() -> None:
    model, (batch, _) = tiny_restr(), small_batch()
    with pytest.raises(ConfigError, match=r"'fusio' is no part of ReSTR; did you mean 'fusion'"):
        attach_reconstruction(model, "fusio", channels=16)
    with pytest.raises(ConfigError, match=r"weight=-1\.0"):
        attach_reconstruction(model, "fusion", channels=16, weight=-1.0)
    with pytest.raises(ConfigError, match="no `text` encoder"):
        attach_reconstruction(nn.Linear(2, 2), "fusion", channels=16)
    with pytest.raises(RefsegError, match="gave no tensor"):
        attach_reconstruction(model, "fusion", channels=16)(batch)
    with pytest.raises(RefsegError, match="2 rows for 3 expressions"):
        attach_reconstruction(model, "project_patches", channels=16)(batch)
    with pytest.raises(ConfigError, match="layers=0"):
        LanguageReconstruction(4, 4, layers=0)
