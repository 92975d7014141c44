"""CRIS: the contract, each part against a slow loop, and its loss as the paper writes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refseg.encoders.text.bert import BertTextConfig
from refseg.models import build, preset
from refseg.models.cris.config import (
    GRES,
    MINI,
    OFFICIAL,
    OFFICIAL_R101,
    CRISLosses,
)
from refseg.models.cris.parts import corner_coordinates
from refseg.types import Targets
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_systems import tiny_cris as tiny

TINY_CLIP = tiny(OFFICIAL)


class TestClip(ModelContract):
    config = TINY_CLIP
    changes: ClassVar[dict[str, Any]] = {
        "vision.depths": (1, 1, 1, 1),
        "vision.heads": 4,
        "vision.grid": 4,
        "text.max_words": 6,
        "text.heads": 4,
        "text.positions": 12,
        "neck": (8, 20),
        "width": 16,
        "decoder.heads": 4,
        "kernel": 1,
        "tags": ("red",),
    }
    inactive: ClassVar[dict[str, str]] = {
        "text.family": "CLIP's alone; another one is an error",
        "text.width": "tied to the vocabulary's tower; other widths are tried with words",
        "width": "tied to CLIP's words here; tried with words",
        "groups": "batch normalisation has none; tested with norm = group",
        "losses.no_target": "without no_target_head there is no such loss",
        "losses.tags": "without tags there is no such loss",
    }


class TestWithWords(ModelContract):
    config = replace(tiny(MINI), no_target_head=True, tags=("red", "cat"), losses=CRISLosses(dice=1.0))
    knobs = "losses."
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})  # of the map at stride 4, which nobody reads


class TestOtherKnobs(TestWithWords):
    """Those that the first class cannot try."""

    knobs = "groups"
    changes: ClassVar[dict[str, Any]] = {"groups": 4}


def test_presets_say_what_the_sources_say() -> None:
    assert (OFFICIAL.input.size, OFFICIAL.input.resize, OFFICIAL.text.max_words) == (416, "letterbox", 17)
    assert (OFFICIAL.neck, OFFICIAL.width, OFFICIAL.decoder.layers) == ((256, 1024), 512, 3)
    assert (OFFICIAL.vision.output_width, OFFICIAL_R101.vision.output_width) == (1024, 512)
    assert OFFICIAL_R101.text.joint_width == 512
    assert [value / 255 for value in OFFICIAL.input.mean] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert [value / 255 for value in OFFICIAL.input.std] == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    assert preset("cris: GRES, table 5: CRIS") == GRES
    assert isinstance(GRES.text, BertTextConfig)


@pytest.fixture(scope="module")
def model() -> Any:
    return filled(build(TINY_CLIP)).eval()


def normal(maps: Tensor, norm: Any) -> Tensor:
    """Batch normalisation in evaluation."""
    shape = (-1, *[1] * (maps.ndim - 2))
    maps = (maps - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return maps * norm.weight.view(shape) + norm.bias.view(shape)


def conv(part: Any, maps: Tensor) -> Tensor:
    """Convolution, normalisation, ReLU."""
    return normal(F.conv2d(maps, part.conv.weight, padding=part.conv.kernel_size[0] // 2), part.norm).clamp(min=0)


@torch.no_grad()
def test_the_neck(model) -> None:
    neck, sentence = model.neck, torch.randn(2, 12)
    maps = {8: torch.randn(2, 32, 8, 12), 16: torch.randn(2, 64, 4, 6), 32: torch.randn(2, 12, 2, 3)}
    scale = normal(sentence @ neck.sentence.weight.t(), neck.sentence_norm.norm).clamp(min=0)
    fused_5 = normal(conv(neck.project_5, maps[32]) * scale[:, :, None, None], neck.fused_norm).clamp(min=0)
    fused_4 = conv(neck.join_4, torch.cat([conv(neck.project_4, maps[16]), twice(fused_5)], 1))
    fine = conv(neck.project_3, maps[8])
    fine = sum(fine[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)) / 4
    fused_3 = conv(neck.join_3, torch.cat([fine, fused_4], 1))
    levels = [conv(neck.out_3, fused_3), conv(neck.out_4, fused_4), twice(conv(neck.out_5, fused_5))]
    fused = conv(neck.aggregate, torch.cat(levels, 1))
    grid = torch.zeros(2, 2, 4, 6)
    for row in range(4):
        for column in range(6):
            grid[:, 0, row, column], grid[:, 1, row, column] = -1 + 2 * column / 5, -1 + 2 * row / 3
    assert_near(corner_coordinates(fused), grid)
    expected = conv(neck.smooth, conv(neck.locate, torch.cat([fused, grid], 1)))
    assert_near(neck(neck.pictures(maps), sentence, None), expected)


def twice(maps: Tensor) -> Tensor:
    """Twice as large: a new pixel lies a quarter of an old one from the next centre, at the edge it repeats."""
    for axis in (2, 3):
        count = maps.shape[axis]
        parts = []
        for place in range(2 * count):
            at = (place + 0.5) / 2 - 0.5
            low = math.floor(at)
            share = at - low
            left, right = (maps.select(axis, min(max(index, 0), count - 1)) for index in (low, low + 1))
            parts.append(left * (1 - share) + right * share)
        maps = torch.stack(parts, dim=axis)
    return maps


@torch.no_grad()
def test_the_decoder_layer_by_layer(model) -> None:
    """Heads, places and words in loops; positions by their formula."""
    fused, words = torch.randn(1, 16, 2, 3), torch.randn(1, 7, 16)
    mask = torch.arange(7)[None] < 5

    def wave(place: float, channels: int) -> Tensor:
        rates = [10000 ** (-(2 * (index // 2)) / channels) for index in range(channels)]
        return torch.tensor([(math.cos if index % 2 else math.sin)(place * rates[index]) for index in range(channels)])

    def attention(part: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        queries, keys, values = part.query(queries), part.key(keys), part.value(values)
        rows = []
        for query in queries:
            heads = []
            for head in (slice(0, 8), slice(8, 16)):
                scores = torch.stack([query[head] @ key[head] / math.sqrt(8) for key in keys])
                shares = scores.exp() / scores.exp().sum()
                heads.append(sum(share * value[head] for share, value in zip(shares, values, strict=True)))
            rows.append(part.output(torch.cat(heads)))
        return torch.stack(rows)

    # The column's position in the first half of the channels, the row's in the second.
    grid = torch.stack([torch.cat([wave(x, 8), wave(y, 8)]) for y in range(2) for x in range(3)])
    numbers = torch.stack([wave(index, 16) for index in range(5)])
    pixels, real = fused[0].flatten(1).t(), words[0, :5]
    for layer in model.decoder.layers:
        step = layer.norm1(pixels)
        pixels = pixels + layer.self_norm(attention(layer.self_attention, step + grid, step + grid, step))
        step = layer.norm2(pixels) + grid
        pixels = pixels + layer.cross_norm(attention(layer.cross_attention, step, real + numbers, real))
        hidden = layer.inner_norm(layer.inner(layer.norm3(pixels)).clamp(min=0))
        pixels = pixels + layer.outer(hidden)
    expected = model.decoder.norm(pixels).t().unflatten(1, (2, 3))
    assert_near(model.decoder(fused, words, mask)[0], expected)


@torch.no_grad()
def test_a_sentence_is_the_kernel_of_its_mask(model) -> None:
    decoded, sentences = torch.randn(2, 16, 2, 2), torch.randn(2, 12)
    part = model.projector
    pixels = part.pixels(conv(part.second, twice(conv(part.first, twice(decoded)))))
    found = part(decoded, sentences)
    expected = torch.zeros(2, 8, 8)
    padded = F.pad(pixels, (1, 1, 1, 1))
    for index in range(2):
        text = part.text(sentences[index])
        kernel, bias = text[:-1].view(8, 3, 3), text[-1]
        for row in range(8):
            for column in range(8):
                expected[index, row, column] = (
                    padded[index, :, row : row + 3, column : column + 3] * kernel
                ).sum() + bias
    assert_near(found, expected)


@torch.no_grad()
def test_with_a_kernel_of_one_the_logit_is_a_product_of_pixel_and_sentence() -> None:
    part = filled(build(replace(TINY_CLIP, kernel=1))).eval().projector
    decoded, sentences = torch.randn(2, 16, 2, 2), torch.randn(2, 12)
    pixels = part.pixels(part.second(twice(part.first(twice(decoded)))))
    text = part.text(sentences)
    assert_near(part(decoded, sentences), torch.einsum("bchw,bc->bhw", pixels, text[:, :-1]) + text[:, -1, None, None])


@torch.no_grad()
def test_text_to_pixel_contrast(model) -> None:
    """The mean of -log sigmoid(z) over the target's pixels and -log(1 - sigmoid(z)) over all others."""
    batch = batch_of(TINY_CLIP)
    output, targets = model(batch), targets_of(batch)
    total, count = 0.0, 0
    for logits, mask in zip(output.mask_logits, targets.masks, strict=True):
        for row in range(logits.shape[0]):
            for column in range(logits.shape[1]):
                inside = bool(mask[4 * row, 4 * column])
                chance = 1 / (1 + math.exp(-float(logits[row, column])))
                total -= math.log(chance if inside else 1 - chance)
                count += 1
    losses = model.losses(output, targets)
    assert set(losses) == {"contrast"}
    assert float(losses["contrast"]) == pytest.approx(total / count, rel=1e-3)
    nothing = Targets(torch.zeros_like(targets.masks), torch.ones(3, dtype=torch.bool))
    assert float(model.losses(output, nothing)["contrast"]) > 0


@torch.no_grad()
def test_padding_of_pictures_counts_for_no_no_target_logit() -> None:
    model = filled(build(replace(TestWithWords.config, tags=()))).eval()
    batch = batch_of(model.config, size=(64, 64), sentences=1)
    half = batch.pixel_mask.clone()
    half[:, 32:] = False
    whole, part = model(batch), model(replace(batch, pixel_mask=half))
    assert torch.equal(whole.mask_logits, part.mask_logits)
    assert_differs(whole.no_target_logits, part.no_target_logits)
