"""LTS: the contract, equations 5 to 13 against loops written from the paper, and its plug-in module."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models import build
from refseg.models.lts.config import (
    ABLATIONS,
    MINI,
    PAPER,
    PAPER_SWIN,
    PAPER_TRANSFORMER,
    LocatorConfig,
    LTSLosses,
)
from refseg.models.lts.model import pointed
from refseg.models.restr.config import MINI_RESNET
from refseg.nn.aspp import ASPP, SegmentationConfig, SegmentationModule
from refseg.nn.positions import with_coordinates
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_parts import TINY_RESNET
from tests.support.tiny_systems import tiny_lts as tiny

TAGS = {
    "losses.tags": "there are no tags",
    "tags": "tested in test_systems",
    "text.train_embedding": "says what training changes, tested with the encoder",
}
HEAD = {**TAGS, "losses.no_target": "no head: without effect"}
ONCE = {
    "locator.repeat": "the object is located once",
    "losses.supervise": "there is one response map",
}
FILTER = {
    "locator.heads": "for the transformer",
    "locator.feedforward": "for the transformer",
    "locator.dropout": "for the transformer",
}
DARKNET = {
    "vision.widths": (4, 8, 8, 12, 16, 16),
    "vision.depths": (1, 1, 1, 2, 1),
    "segmentation.rates": (1, 3),
}
RESNET = {
    "vision.widths": (8, 16, 16, 20),
    "vision.depths": (1, 1, 2, 1),
    "vision.norm_groups": 1,
    "segmentation.rates": (1, 3),
}
SMALL = {"width": 24}


class Coarse:
    """Answers at stride 8: there is no segmentation module."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return math.ceil(height / 8), math.ceil(width / 8)


class TestPaper(ModelContract):
    config = tiny(PAPER)
    changes: ClassVar[dict[str, Any]] = {**DARKNET, **SMALL}
    inactive: ClassVar[dict[str, str]] = {**HEAD, **ONCE, **FILTER}


class TestTransformer(ModelContract):
    config = replace(tiny(PAPER_TRANSFORMER), no_target_head=True)
    # One key: the softmax is 1 whatever the query.
    unreached = frozenset(
        f"locator.responses.0.layer.cross_attention.{name}.{part}"
        for name in ("query", "key")
        for part in ("weight", "bias")
    )
    knobs = "locator"
    inactive: ClassVar[dict[str, str]] = ONCE


class TestSwin(ModelContract):
    config = tiny(PAPER_SWIN)
    knobs = "normalise"
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})  # of the map at stride 4, which nobody reads


class TestWords(ModelContract):
    """Three filters of words side by side."""

    config = replace(
        tiny(ABLATIONS["table 5: word filter"]),
        locator=LocatorConfig(kind="words", times=3, repeat="parallel", heads=2),
        losses=LTSLosses(supervise="all"),
    )
    knobs = "lo"  # locator and losses
    inactive: ClassVar[dict[str, str]] = {**HEAD, **FILTER}


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True)
    changes: ClassVar[dict[str, Any]] = {**RESNET, **SMALL}
    inactive: ClassVar[dict[str, str]] = {**TAGS, **FILTER}


class TestFilterAlone(Coarse, ModelContract):
    config = tiny(ABLATIONS["table 2: filter"])
    knobs = "losses"
    changes: ClassVar[dict[str, Any]] = {"losses.locating": 0.2}
    inactive: ClassVar[dict[str, str]] = {**HEAD, **ONCE}


class TestFusionAlone(Coarse, ModelContract):
    config = replace(tiny(ABLATIONS["table 2: fusion"]), normalise=False)
    knobs = "normalise"


# What the sources say


def test_presets_say_what_the_paper_says() -> None:
    assert (PAPER.width, PAPER.losses.locating, PAPER.losses.reduction) == (1024, 0.1, "sum")
    assert PAPER.text.hidden * 2 == 1024
    assert (PAPER.text.directions, PAPER.text.pool, PAPER.text.max_words) == ("concat", "mean", 15)
    assert (PAPER_TRANSFORMER.locator.heads, PAPER_TRANSFORMER.locator.feedforward) == (4, 1024)
    assert [ABLATIONS[f"table 6: {size}"].input.size for size in range(320, 481, 32)] == list(range(320, 481, 32))
    best = ABLATIONS["table 7: LTS*"]
    assert (best.input.size, best.locator.kind, best.locator.times) == (480, "transformer", 2)


# Equations


def rectified(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 0.1 * value)


def activated(layer: nn.Module, vector: Tensor) -> Tensor:
    """g(vector W) of one place, with the normalisation's statistics at hand."""
    vector = layer.linear.weight[:, :, 0, 0] @ vector
    if layer.linear.bias is not None:
        vector = vector + layer.linear.bias
    if layer.norm is not None:
        norm = layer.norm
        vector = (vector - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return rectified(vector)


def slow_fusion(model: nn.Module, maps: dict[int, Tensor], sentence: Tensor) -> Tensor:
    """Equations 5 to 7 of one sentence, place by place; sizes double from level to level."""
    found = torch.zeros(0)
    for level, stride in enumerate((32, 16, 8)):
        height, width = maps[stride].shape[1:]
        here = torch.zeros(model.config.width, height, width)
        for row in range(height):
            for column in range(width):
                seen = activated(model.visual[level], maps[stride][:, row, column])
                if level == 0:
                    if model.sentence is not None:
                        seen = seen * activated(model.sentence, sentence)
                    here[:, row, column] = seen
                else:
                    coarse = found[:, row // 2, column // 2]
                    raised = activated(model.raise_coarse[level - 1], coarse)
                    here[:, row, column] = torch.cat([raised, seen])
        found = here
    return found


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("fusion", [True, False])
@torch.no_grad()
def test_equations_5_to_7(fusion: bool, normalise: bool) -> None:
    model = filled(build(replace(tiny(PAPER), fusion=fusion, normalise=normalise))).eval()
    batch = batch_of(model.config, sentences=2)
    maps, text = model.vision(batch.images), model.encode_text(batch.tokens)
    features = model.fuse(model.encode_image(batch.images, batch.pixel_mask).visual, text)
    for index in range(2):
        own = {stride: maps[stride][index] for stride in (32, 16, 8)}
        own = {stride: own[stride][:, : 64 // stride, : 64 // stride] for stride in own}
        assert_near(features[index, :, :8, :8], slow_fusion(model, own, text.sentence[index]))


@torch.no_grad()
def test_equation_8() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config, sentences=2)
    text = model.encode_text(batch.tokens)
    features = torch.randn(2, 16, 3, 5)
    found = model.locator(features, text)
    assert found.shape == (2, 1, 3, 5)
    for index in range(2):
        kernel = model.locator.responses[0].kernel.weight @ text.sentence[index]
        for row in range(3):
            for column in range(5):
                expected = sum(float(kernel[c] * features[index, c, row, column]) for c in range(16))
                assert float(found[index, 0, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@torch.no_grad()
def test_word_filter_combines_the_maps_of_real_words() -> None:
    model = filled(build(tiny(ABLATIONS["table 5: word filter"]))).eval()
    batch = batch_of(model.config, sentences=3)
    text = model.encode_text(batch.tokens)
    features = torch.randn(3, 16, 2, 2)
    found = model.locator(features, text)
    response = model.locator.responses[0]
    for index in range(3):
        expected = response.combine.bias.expand(2, 2).clone()
        for word in range(int(batch.tokens.mask[index].sum())):
            kernel = response.kernel.weight @ text.words[index, word]
            expected += response.combine.weight[0, word] * torch.einsum("c,chw->hw", kernel, features[index])
        assert_near(found[index, 0], expected)


@pytest.mark.parametrize("repeat", ["recurrent", "parallel"])
@torch.no_grad()
def test_several_filters(repeat: str) -> None:
    """Recurrent: a later filter reads the features and the prior before it, and the segmentation module the last prior.
    Parallel: all read the features, and the module all priors. Equation 10 has the original features both times."""
    config = replace(tiny(PAPER), locator=LocatorConfig(times=3, repeat=repeat))
    model = filled(build(config)).eval()
    batch = batch_of(config, sentences=2)
    text, output = model.encode_text(batch.tokens), model(batch)
    features = model.fuse(model.encode_image(batch.images, batch.pixel_mask).visual, text)
    read, priors = features, []
    for index, response in enumerate(model.locator.responses):
        if index and repeat == "recurrent":
            read = model.locator.feedback[index - 1](torch.cat([read, priors[-1][:, None]], dim=1))
        logits = torch.einsum("bc,bchw->bhw", text.sentence @ response.kernel.weight.T, read)
        assert_near(output.auxiliary["all_response_logits"][:, index], logits)
        priors.append(logits.sigmoid())
    assert torch.equal(output.auxiliary["response_logits"], output.auxiliary["all_response_logits"][:, -1])
    chosen = torch.stack(priors if repeat == "parallel" else priors[-1:], dim=1)
    assert_near(output.mask_logits, model.segmentation(features, chosen))


@torch.no_grad()
def test_equation_9_with_one_sentence_as_memory() -> None:
    """Places look at one another, positions added to queries and keys; every place gets the same of the sentence."""
    model = filled(build(tiny(PAPER_TRANSFORMER))).eval()
    text = model.encode_text(batch_of(model.config, sentences=1).tokens)
    features = torch.randn(1, 16, 2, 3)
    response = model.locator.responses[0]
    layer = response.layer
    tokens = features[0].flatten(1).T
    placed = tokens + response.positions(torch.ones(1, 2, 3, dtype=torch.bool))[0].flatten(1).T
    own = layer.self_attention
    queries, keys, values = own.query(placed), own.key(placed), own.value(tokens)
    gathered = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        weights = (queries[:, part] @ keys[:, part].T / 8**0.5).softmax(dim=1)
        gathered.append(weights @ values[:, part])
    tokens = layer.self_norm(tokens + own.output(torch.cat(gathered, dim=1)))
    cross = layer.cross_attention
    tokens = layer.cross_norm(tokens + cross.output(cross.value(text.sentence)))
    tokens = layer.feed_forward_norm(tokens + layer.feed_forward(tokens))
    assert_near(model.locator(features, text)[0, 0].flatten(), response.output(tokens)[:, 0])


@torch.no_grad()
def test_equation_10_reads_features_and_prior() -> None:
    module = filled(SegmentationModule(SegmentationConfig(width=4, rates=(1, 3), fine_width=2), 6)).eval()
    features, prior = torch.randn(2, 6, 5, 4), torch.rand(2, 1, 5, 4)
    aspp, maps = module.aspp, torch.cat([features, prior], dim=1)
    parts = []
    for conv, rate in ((aspp.point, 0), (aspp.wide[0], 1), (aspp.wide[1], 3), (aspp.mean, -1)):
        weight, norm = conv.conv.weight, conv.norm
        here = torch.zeros(2, 4, 5, 4)
        for row in range(5):
            for column in range(4):
                for down in range(weight.shape[2]):
                    for right in range(weight.shape[3]):
                        y, x = row + rate * (down - 1), column + rate * (right - 1)
                        if rate > 0 and not (0 <= y < 5 and 0 <= x < 4):
                            continue
                        seen = maps[:, :, y, x] if rate > 0 else maps[:, :, row, column]
                        seen = maps.mean(dim=(2, 3)) if rate < 0 else seen
                        here[:, :, row, column] += seen @ weight[:, :, down, right].T
        parts.append(rectified(here * (norm.weight / (1 + norm.eps) ** 0.5)[:, None, None] + norm.bias[:, None, None]))
    assert_near(aspp(maps), aspp.join(torch.cat(parts, dim=1)))
    found = module(features, prior)
    assert found.shape == (2, 10, 8)
    assert_differs(found, module(features, 1 - prior))


@torch.no_grad()
def test_equations_11_to_13() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config)
    output, targets = model(batch), targets_of(batch)
    losses = model.losses(output, targets)
    for name, logits, step, weight in (
        ("mask", output.mask_logits, 4, 1.0),
        ("locating", output.auxiliary["response_logits"], 8, 0.1),
    ):
        total = 0.0
        for index in range(3):
            for row in range(logits.shape[1]):
                for column in range(logits.shape[2]):
                    truth = bool(targets.masks[index, step * row + step // 2, step * column + step // 2])
                    probability = float(logits[index, row, column].double().sigmoid())
                    total -= math.log(probability if truth else 1 - probability)
        assert float(losses[name]) == pytest.approx(weight * total / 3, rel=1e-4)


@torch.no_grad()
def test_mean_losses_are_the_sums_by_the_number_of_cells() -> None:
    config = tiny(PAPER)
    batch = batch_of(config)
    model, targets = filled(build(config)).eval(), targets_of(batch)
    output, summed = model(batch), model.losses(model(batch), targets)
    model.config = replace(config, losses=LTSLosses(reduction="mean"))
    averaged = model.losses(output, targets)
    assert_near(summed["mask"], averaged["mask"] * 16 * 20)
    assert_near(summed["locating"], averaged["locating"] * 8 * 10)


# Beyond the paper's equations


@torch.no_grad()
def test_pointing_accuracy_comes_from_the_response_map() -> None:
    masks = torch.zeros(3, 64, 80, dtype=torch.bool)
    masks[0, 20, 44] = True  # the centre of cell (2, 5) of 8 x 10
    masks[1, 16:24, 40:48] = True
    masks[1, 20, 44] = False
    masks[2] = True
    responses = torch.zeros(3, 8, 10)
    responses[:2, 2, 5] = 1.0
    assert pointed(responses, masks).tolist() == [True, False, True]
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config)
    output = model(batch)
    # What evaluation takes the maximum of is the response map, and not the mask.
    assert output.location_logits is not None
    assert torch.equal(output.location_logits, output.auxiliary["response_logits"])
    assert output.location_logits.shape != output.mask_logits.shape
    hits = pointed(output.auxiliary["response_logits"], targets_of(batch).masks)
    for index in range(3):
        strongest = int(output.auxiliary["response_logits"][index].argmax())
        row, column = 8 * (strongest // 10) + 4, 8 * (strongest % 10) + 4
        assert bool(hits[index]) == bool(targets_of(batch).masks[index, row, column])


def test_segmentation_module_stands_behind_another_system() -> None:
    """Table 3: ReSTR's patches as features and its patch map as prior; gradients reach both."""
    config = replace(
        MINI_RESNET,
        vision=TINY_RESNET,
        text=replace(MINI_RESNET.text, vocabulary_size=30, max_words=7, width=12, heads=2, feedforward=16),
        fusion=replace(MINI_RESNET.fusion, width=16, heads=2, feedforward=16),
    )
    other = build(config).train()
    batch = batch_of(config, size=(64, 64))
    state = other.encode_image(batch.images, batch.pixel_mask)
    output = other.decode(state, other.encode_text(batch.tokens))
    module = SegmentationModule(SegmentationConfig(width=8, rates=(1, 2), fine_width=4), state.vision.shape[1])
    logits = module(state.vision, output.auxiliary["patch_logits"].sigmoid()[:, None])
    assert logits.shape == (3, 8, 8)
    goal = F.adaptive_avg_pool2d(targets_of(batch).masks.float()[:, None], 8)[:, 0]
    F.binary_cross_entropy_with_logits(logits, goal).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
    for name in ("vision.stages.2.0.convs.0.conv.weight", "fusion.seed"):
        assert other.get_parameter(name).grad.any()


def test_aspp_without_prior_keeps_the_size() -> None:
    maps = ASPP(5, 6, (1, 2, 3)).eval()(torch.randn(1, 5, 3, 7))
    assert maps.shape == (1, 6, 3, 7)


def test_coordinates_are_the_centres_of_places() -> None:
    maps = with_coordinates(torch.zeros(2, 3, 2, 4))
    assert maps.shape == (2, 5, 2, 4)
    assert maps[1, 3, :, 2].tolist() == [-0.5, 0.5]
    assert maps[0, 4, 1].tolist() == [-0.75, -0.25, 0.25, 0.75]
