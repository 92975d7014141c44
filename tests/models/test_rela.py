"""ReLA in all its wirings: the contract, and the equations against loops written from the paper."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from refseg.models import build
from refseg.models.rela.config import (
    ABLATIONS,
    CAMERA_READY,
    LAVT_RELA,
    MINI,
    OFFICIAL,
    OFFICIAL_R50,
    PAPER,
)
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.regions import HardSplitConfig, RegionDecoderConfig
from refseg.nn.conv import masks_of
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_parts import TINY_RESNET
from tests.support.tiny_systems import tiny_rela as tiny

SWIN_CHANGES = {
    "vision.embed_dim": 16,
    "vision.depths": (1, 1, 1, 1),
    "vision.heads": (2, 2, 2, 4),
    "vision.window": 3,
    "width": 24,
}
RESNET_CHANGES = {
    "vision.widths": (8, 16, 16, 20),
    "vision.depths": (1, 1, 2, 1),
    "vision.norm_groups": 1,
    "width": 24,
}


NO_SWIN = {"language_in_vision": "needs a Swin transformer: an error, see test_wrong_configurations"}
NO_CONCEPTS = {"text.concepts": "ReLA has nothing to match them with"}
NO_TAGS = {"losses.tags": "there are no tags", "tags": "tested with the small preset"}
ONE_ANSWER = {**NO_TAGS, "losses.earlier": "one layer answers"}
ALONE = {
    **ONE_ANSWER,
    "relation.rla.language_attention": "off, nothing would see the expression: an error, see test_wrong_configurations",
}


class TestPaper(ModelContract):
    config = tiny(PAPER)
    changes: ClassVar[dict[str, Any]] = {
        **SWIN_CHANGES,
        "text.positions": 12,
        "text.max_words": 9,
    }
    inactive: ClassVar[dict[str, str]] = ALONE


class TestMini(ModelContract):
    config = replace(tiny(MINI), tags=("red", "dog"))
    changes: ClassVar[dict[str, Any]] = {**RESNET_CHANGES, "tags": ("red",)}
    inactive: ClassVar[dict[str, str]] = {
        **NO_SWIN,
        **NO_CONCEPTS,
        "vision.norm_groups": "matters for group normalisation",
    }


class TestOfficial(ModelContract):
    config = tiny(OFFICIAL)
    late_fusion = False
    padding_words_matter = True
    changes: ClassVar[dict[str, Any]] = {**SWIN_CHANGES, "text.positions": 12, "text.max_words": 9}
    inactive: ClassVar[dict[str, str]] = ONE_ANSWER


class TestCameraReady(ModelContract):
    config = tiny(CAMERA_READY)
    late_fusion = False
    padding_words_matter = True
    knobs = "relation."
    inactive: ClassVar[dict[str, str]] = ONE_ANSWER


class TestLAVTReLA(ModelContract):
    # A block that chance skips for the whole of a small batch gets no gradient.
    config = replace(tiny(LAVT_RELA), vision=replace(tiny(LAVT_RELA).vision, drop_path=0.0))
    late_fusion = False
    knobs = "language_in_vision"


class TestOfficialResNet(ModelContract):
    config = replace(tiny(OFFICIAL_R50), vision=TINY_RESNET)
    padding_words_matter = True
    knobs = "relation."
    inactive: ClassVar[dict[str, str]] = {**ONE_ANSWER, **NO_SWIN}


class TestHardSplitInput(ModelContract):
    config = tiny(ABLATIONS["table 2 #1: hard split, input"])
    knobs = "relation.ria."
    inactive: ClassVar[dict[str, str]] = ALONE

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        step = 4 * self.config.regions
        return math.ceil(height / step) * step // 4, math.ceil(width / step) * step // 4


# What the sources say


def test_presets_say_what_the_sources_say() -> None:
    assert PAPER.regions == 10
    assert not PAPER.language_in_vision
    assert isinstance(PAPER.relation, RegionDecoderConfig)
    assert PAPER.relation.mask_padding
    assert OFFICIAL.language_in_vision
    assert isinstance(OFFICIAL.relation, MaskedRegionDecoderConfig)
    assert (OFFICIAL.relation.layers, OFFICIAL.relation.feedforward, OFFICIAL.relation.mask_padding) == (9, 2048, False)
    # MASK_WEIGHT 5 on (mask + 0.1 minimap + 0.1 no-target)
    assert (OFFICIAL.losses.mask, OFFICIAL.losses.minimap, OFFICIAL.losses.no_target) == (5.0, 0.5, 0.5)
    assert [ABLATIONS[f"table 4: {p}x{p} regions"].regions for p in (4, 8, 10, 12)] == [4, 8, 10, 12]


# Equations


@torch.no_grad()
def test_equation_1_sums_region_masks_by_their_probability() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config, sentences=2)
    output = model(batch)
    state = model.encode_image(batch.images, batch.pixel_mask).relation
    masks = masks_of(output.auxiliary["region_filters"], state.mask_features, None)
    expected = torch.zeros_like(output.mask_logits)
    for sentence in range(2):
        for region in range(9):
            logit = float(output.auxiliary["minimap_logits"][sentence, region])
            expected[sentence] += masks[sentence, region] / (1 + math.exp(-logit))
    assert_near(output.mask_logits, expected)


@torch.no_grad()
def test_filters_come_from_before_or_after_the_sentence() -> None:
    for origin in ("ria", "rla"):
        config = tiny(PAPER)
        config = replace(config, relation=replace(config.relation, filter_from=origin))
        model = filled(build(config)).eval()
        batch = batch_of(config, sentences=2, pictures=1, image_index=[0, 0])
        filters = model(batch).auxiliary["region_filters"]
        assert torch.allclose(filters[0], filters[1]) == (origin == "ria")


@torch.no_grad()
def test_verdict_is_of_the_mean_region_in_the_paper_and_the_mean_verdict_in_the_code() -> None:
    paper = filled(build(tiny(PAPER))).eval()
    batch = batch_of(paper.config, sentences=2)
    state = paper.encode_image(batch.images, batch.pixel_mask).relation
    text = paper.encode_text(batch.tokens)
    related = paper.relation.rla(state.regions, paper.relation.words(text.words), text.mask)[0][-1]
    expected = paper.relation.no_target(related.mean(dim=1))[:, 0]
    assert_near(paper(batch).no_target_logits, expected)


@torch.no_grad()
def test_hard_split_averages_the_cells() -> None:
    config = tiny(ABLATIONS["table 2 #2: hard split, decoder"], regions=2)
    model = build(config).eval()
    images = torch.randn(1, 3, 64, 64)
    regions = model.encode_image(images, torch.ones(1, 64, 64, dtype=torch.bool)).relation.regions
    features = model.relation.project(model.vision(images)[16])
    for row in range(2):
        for column in range(2):
            cell = features[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean(dim=(1, 2))
            assert_near(regions[0, 2 * row + column], cell)


@torch.no_grad()
def test_patches_of_a_split_input_do_not_see_each_other() -> None:
    config = replace(tiny(PAPER, regions=2), relation=RegionDecoderConfig(ria=HardSplitConfig("input")))
    model = build(config).eval()
    images = torch.randn(1, 3, 64, 64)
    changed = images.clone()
    changed[..., :32, 32:] = torch.randn(1, 3, 32, 32)
    before, after = model._encode_patches(images), model._encode_patches(changed)
    for stride, maps in before.items():
        half = 32 // stride
        assert maps.shape[-2:] == (64 // stride, 64 // stride)
        assert torch.allclose(maps[..., half:, :], after[stride][..., half:, :], atol=1e-5)
        assert torch.allclose(maps[..., :half], after[stride][..., :half], atol=1e-5)
        assert_differs(maps[..., :half, half:], after[stride][..., :half, half:])


def test_losses_of_the_paper_are_plain_cross_entropies() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config)
    targets = targets_of(batch)
    output = model(batch)
    losses = model.losses(output, targets)
    assert set(losses) == {"mask", "minimap", "no_target"}
    expected = binary_cross_entropy_with_logits(output.no_target_logits, targets.no_target.float())
    assert_near(losses["no_target"], expected)


def test_earlier_layers_are_supervised_with_their_factor() -> None:
    config = tiny(MINI)
    model = filled(build(config)).eval()
    batch = batch_of(config)
    output, targets = model(batch), targets_of(batch)
    earlier = output.auxiliary["earlier"]
    assert len(earlier) == 1
    first = replace(
        output,
        mask_logits=earlier[0]["mask_logits"],
        no_target_logits=earlier[0]["no_target_logits"],
        auxiliary={"minimap_logits": earlier[0]["minimap_logits"]},
    )
    alone = sum(model.losses(first, targets).values())
    assert_near(model.losses(output, targets)["earlier"], config.losses.earlier * alone)


@torch.no_grad()
def test_region_masks_weighed_by_the_minimap_are_the_mask() -> None:
    """Equation 1 read off the maps that are shown, of several expressions about two images."""
    config = replace(tiny(PAPER), relation=replace(PAPER.relation, mask_scale=0.5))
    model = filled(build(config)).eval()
    output = model(batch_of(config, sentences=3, pictures=2, image_index=[1, 0, 1]))
    for index in range(3):
        panels = output.maps["region_masks"].read(index)
        minimap = output.maps["minimap"].read(index).values
        assert torch.equal(panels.weights, minimap.flatten())
        assert_near(torch.einsum("r,rhw->hw", panels.weights, panels.values), output.mask_logits[index])
        assert torch.equal(output.maps["words"].read(index).values, output.attention_maps["words"][index])
