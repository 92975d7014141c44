"""The photograph model: the contract, and what its decoder adds to ReLA's answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.vision.nanodet import ShuffleNetConfig
from refseg.errors import ConfigError
from refseg.geometry import InputConfig
from refseg.models import build, preset
from refseg.models.photo.concepts import CLASSES, PHOTO_TAGS
from refseg.models.photo.config import PhotoConfig
from refseg.models.photo.model import PhotoDecoder, PhotoState, class_probabilities
from refseg.models.rela.config import FeaturePyramidConfig
from refseg.models.rela.regions import RIAConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.nn.pyramid import PyramidFeatures
from refseg.palette import COLORS
from refseg.types import TextFeatures
from tests.support.contract import ModelContract, filled
from tests.support.tiny_parts import TINY_WORDS

NUMBER = len(CLASSES) + 2 + len(COLORS)
TINY = PhotoConfig(
    input=InputConfig(size=64),
    vision=ShuffleNetConfig(stem_width=8, widths=(8, 8, 8), depths=(1, 2, 1), pyramid=8, head=len(CLASSES) + 2),
    text=replace(TINY_WORDS, vectors=4, concepts=NUMBER),
    pixel_decoder=FeaturePyramidConfig(fine_width=8, groups=4),
    width=16,
    regions=3,
    ria=RIAConfig(heads=4, scale=True, positions=True, query="cell", residual=True),
    rla=StackedRLAConfig(layers=2, heads=2, feedforward=16, dropout=0.1, product=True),
    mask_units=4,
    tags=("red", "dog"),
)


class TestPhoto(ModelContract):
    config = TINY
    unreached = frozenset({"text.project.weight"})  # no word has a vector here
    changes: ClassVar[dict[str, Any]] = {
        "vision.widths": (8, 8, 12),
        "vision.depths": (2, 2, 1),
        "vision.head": len(CLASSES) + 3,
        "vision.pyramid": 10,
        "width": 24,
    }
    inactive: ClassVar[dict[str, str]] = {
        "text.concepts": "follows from classes, tags and colours: an error, tested below",
        "tags": "changed alone an error, tested below",
    }


def test_the_preset_is_the_default_and_the_recipes_old_name_says_so() -> None:
    assert preset("photo-rela") == PhotoConfig()
    assert preset("photo-rela").text.concepts == len(CLASSES) + len(PHOTO_TAGS) + len(COLORS)
    for old in ("rela-photo", "vlt-photo", "rela-photo-mobilenet"):
        with pytest.raises(ConfigError, match="photo-rela"):
            preset(old)


def test_words_have_as_many_concepts_as_there_are_maps() -> None:
    with pytest.raises(ConfigError, match=rf"text\.concepts={NUMBER}: {NUMBER - 1} are wanted"):
        replace(TINY, tags=("red",))
    other = replace(TINY, tags=("red",), text=replace(TINY.text, concepts=NUMBER - 1))
    assert build(other).tags.out_channels == 1
    with pytest.raises(ConfigError, match=r"vision\.head"):
        replace(TINY, vision=replace(TINY.vision, head=3))


@torch.no_grad()
def test_class_probabilities_are_the_largest_of_the_levels() -> None:
    maps = {stride: torch.randn(2, 8, side, side) for stride, side in ((8, 6), (16, 3), (32, 2))}
    found = class_probabilities(maps, 2, 3)
    for row in range(6):
        for column in range(6):
            levels = [maps[8][:, 2:5, row, column], maps[16][:, 2:5, row // 2, column // 2]]
            levels.append(maps[32][:, 2:5, row // 3, column // 3])
            expected = torch.stack([1 / (1 + (-level).exp()) for level in levels]).amax(dim=0)
            torch.testing.assert_close(found[:, :, row, column], expected)


@torch.no_grad()
def test_tags_stand_behind_the_classes_and_are_not_taught_by_answers() -> None:
    model = filled(build(TINY)).eval()
    images = torch.randn(1, 3, 64, 64)
    state = model.encode_image(images, torch.ones(1, 64, 64, dtype=torch.bool))
    assert state.classes.shape == (1, len(CLASSES) + 2, 8, 8)
    torch.testing.assert_close(state.classes[:, -2:], F.avg_pool2d(state.tag_logits.sigmoid(), 2))
    assert state.colors.shape == (1, len(COLORS), 8, 8)


def decoder() -> PhotoDecoder:
    return PhotoDecoder(replace(TINY, rla=replace(TINY.rla, dropout=0.0))).eval()


def inputs() -> tuple[PhotoState, TextFeatures]:
    """Two images and two expressions; concepts of any size, so that what they do is large."""
    pyramid = PyramidFeatures(torch.randn(2, 16, 12, 12), [torch.randn(2, 16, side, side) for side in (2, 3, 6)])
    words, concepts = torch.randn(2, 4, 16), torch.rand(2, 4, NUMBER)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    text = TextFeatures(words, words.mean(dim=1), mask, concepts.sum(dim=1), concepts)
    real = torch.ones(2, 48, 48, dtype=torch.bool)
    maps = torch.rand(2, len(CLASSES) + 2, 6, 6), torch.rand(2, len(COLORS), 6, 6)
    return decoder().encode(pyramid, real, *maps), text


def mask_of(model: PhotoDecoder, state: PhotoState, text: TextFeatures) -> torch.Tensor:
    return model.decode(state, text, None).last.mask_logits


@torch.no_grad()
def test_similarity_is_the_sum_of_shares_times_probabilities() -> None:
    state, text = inputs()
    classes, colors = decoder().similarity(state, text, torch.tensor([1, 0]))
    number = len(CLASSES) + 2
    assert text.concepts is not None
    for expression, image in ((0, 1), (1, 0)):
        expected = sum(text.concepts[expression, k] * state.classes[image, k] for k in range(number))
        torch.testing.assert_close(classes[expression], expected)
        expected = sum(text.concepts[expression, number + k] * state.colors[image, k] for k in range(len(COLORS)))
        torch.testing.assert_close(colors[expression], expected)


@torch.no_grad()
def test_similarities_and_the_minimap_are_added_to_the_mask() -> None:
    state, text = inputs()
    model = decoder()
    before = mask_of(model, state, text)
    model.class_scale.fill_(2.0)
    model.color_scale.fill_(-3.0)
    classes, colors = (F.interpolate(each[:, None], (12, 12), mode="bilinear")[:, 0] for each in
                       model.similarity(state, text, None))  # fmt: skip
    torch.testing.assert_close(mask_of(model, state, text), before + 2 * classes - 3 * colors)

    answers = decoder().decode(state, text, None)
    weights = answers.last.minimap_logits.sigmoid()
    kernels = torch.einsum("br,brc->bc", weights, answers.filters) * TINY.mask_scale
    masks = torch.einsum("bc,bchw->bhw", kernels, state.mask_features)
    cells = F.interpolate(answers.last.minimap_logits.view(2, 1, 3, 3), (12, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(answers.last.mask_logits, masks + cells)


@torch.no_grad()
def test_the_sentence_adds_a_filter_of_its_own() -> None:
    state, text = inputs()
    model = decoder()
    before = mask_of(model, state, text)
    torch.nn.init.normal_(model.sentence.weight)
    assert text.concepts is not None
    kernel = model.sentence(torch.cat([text.sentence, text.concepts], dim=1))
    expected = torch.einsum("bc,bchw->bhw", kernel, state.mask_features)
    torch.testing.assert_close(mask_of(model, state, text), before + expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_dynamic_mask_head_changes_the_last_answer_alone() -> None:
    state, text = inputs()
    model = decoder()
    before = model.decode(state, text, None)
    torch.nn.init.normal_(model.mask_head.outer.weight)
    after = model.decode(state, text, None)
    assert float((before.last.mask_logits - after.last.mask_logits).abs().max()) > 0.1
    torch.testing.assert_close(before.earlier[0].mask_logits, after.earlier[0].mask_logits)


@torch.no_grad()
@pytest.mark.parametrize("features", [slice(0, 6), slice(6, 9), slice(9, 15)])
def test_region_features_reach_the_answers(features: slice) -> None:
    state, text = inputs()
    model = decoder()
    before = model.decode(state, text, None).last.minimap_logits
    # Different for each channel: the same number for all would be taken out by the next LayerNorm.
    model.match.weight[:, features] += 5.0 * torch.randn(16, features.stop - features.start)
    after = model.decode(state, text, None).last.minimap_logits
    assert float((after - before).abs().max()) > 0.05 * float(before.abs().max())


@torch.no_grad()
def test_region_features_are_weighed_by_the_expression_too() -> None:
    state, text = inputs()
    model = decoder()
    before = model.decode(state, text, None).last.minimap_logits
    model.match_weights.bias[0] = 3.0  # of the class similarity, pooled
    after = model.decode(state, text, None).last.minimap_logits
    pooled = F.adaptive_max_pool2d(model.similarity(state, text, None)[0][:, None], 3).flatten(1)
    torch.testing.assert_close(after, before + 3 * pooled)


@torch.no_grad()
def test_the_best_region_is_heard_on_no_target() -> None:
    state, text = inputs()
    model = decoder()
    before = model.decode(state, text, None)
    model.best_region.outer.bias += 1.5
    after = model.decode(state, text, None)
    torch.testing.assert_close(after.last.no_target_logits, before.last.no_target_logits + 1.5)
    torch.testing.assert_close(after.last.mask_logits, before.last.mask_logits)
