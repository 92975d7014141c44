"""ReLA in all its wirings: the contract, the equations against loops written from the paper, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import ConfigError, RefsegError
from refseg.geometry import InputConfig
from refseg.models import MODELS, build
from refseg.models.rela.config import (
    ABLATIONS,
    CAMERA_READY,
    LAVT_RELA,
    MINI,
    OFFICIAL,
    OFFICIAL_R50,
    PAPER,
    PRESETS,
    DeformableConfig,
    FeaturePyramidConfig,
    ReLAConfig,
)
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.regions import HardSplitConfig, RegionDecoderConfig
from refseg.models.rela.relations import ParallelRLAConfig, StackedRLAConfig
from refseg.nn.conv import masks_of
from refseg.types import Batch, Targets, Tokens
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.learning import drawn_batch, fit, mean_iou, train_a_step
from tests.support.tiny_parts import TINY_BERT, TINY_RESNET, TINY_SWIN, TINY_WORDS


def tiny(config: ReLAConfig, regions: int = 3) -> ReLAConfig:
    """The same wiring at a size that runs in milliseconds."""
    relation = config.relation
    if isinstance(relation, MaskedRegionDecoderConfig):
        relation = replace(relation, layers=4, heads=2, feedforward=16)
    elif isinstance(relation.rla, StackedRLAConfig):
        relation = replace(relation, rla=replace(relation.rla, layers=2, heads=2, feedforward=16, dropout=0.1))
    text: Any = TINY_BERT
    if isinstance(config.text, WordTransformerConfig):
        text = TINY_WORDS
    pixels: Any = DeformableConfig(layers=1, heads=2, points=2, feedforward=16, groups=4)
    if isinstance(config.pixel_decoder, FeaturePyramidConfig):
        pixels = FeaturePyramidConfig(fine_width=8, groups=4)
    return replace(
        config,
        input=InputConfig(size=64),
        vision=TINY_SWIN if isinstance(config.vision, SwinConfig) else replace(TINY_RESNET, norm=config.vision.norm),
        text=text,
        pixel_decoder=pixels,
        width=16,
        regions=regions,
        relation=relation,
    )


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


NO_SWIN = {"language_in_vision": "needs a Swin transformer: an error, tested below"}
NO_CONCEPTS = {"text.concepts": "ReLA has nothing to match them with"}
NO_TAGS = {"losses.tags": "there are no tags", "tags": "tested with the small preset"}
ONE_ANSWER = {**NO_TAGS, "losses.earlier": "one layer answers"}
ALONE = {
    **ONE_ANSWER,
    "relation.rla.language_attention": "off, nothing would see the expression: an error, tested below",
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


# The table of systems and configurations


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_build_run_and_train_a_step(name: str) -> None:
    config = tiny(ABLATIONS[name], regions=min(ABLATIONS[name].regions, 4))
    _, output, losses = train_a_step(config)
    assert output.auxiliary["minimap_logits"].shape == (3, config.regions**2)
    assert ("minimap" in losses) == ("without minimap" not in name)


def test_rows_of_one_table_are_different_models() -> None:
    rows = list(ABLATIONS.values())
    assert sum(row == PAPER for row in rows) == 3  # the last row of tables 2 and 3, and 10 x 10 of table 4
    assert len({repr(row) for row in rows}) == len(rows) - 2
    assert [ABLATIONS[f"table 4: {p}x{p} regions"].regions for p in (4, 8, 10, 12)] == [4, 8, 10, 12]


def test_presets_say_what_the_sources_say() -> None:
    assert MODELS["rela"].presets is PRESETS
    assert PAPER.regions == 10
    assert not PAPER.language_in_vision
    assert isinstance(PAPER.relation, RegionDecoderConfig)
    assert PAPER.relation.mask_padding
    assert OFFICIAL.language_in_vision
    assert isinstance(OFFICIAL.relation, MaskedRegionDecoderConfig)
    assert (OFFICIAL.relation.layers, OFFICIAL.relation.feedforward, OFFICIAL.relation.mask_padding) == (9, 2048, False)
    # MASK_WEIGHT 5 on (mask + 0.1 minimap + 0.1 no-target)
    assert (OFFICIAL.losses.mask, OFFICIAL.losses.minimap, OFFICIAL.losses.no_target) == (5.0, 0.5, 0.5)


def test_mini_fits_the_package() -> None:
    parameters = sum(parameter.numel() for parameter in build(MINI).parameters())
    assert parameters * 4 <= 25e6


def test_wrong_configurations_say_so() -> None:
    with pytest.raises(ConfigError, match="Swin"):
        replace(MINI, language_in_vision=True)
    with pytest.raises(ConfigError, match="expression"):
        ParallelRLAConfig(language_attention=False)
    with pytest.raises(ConfigError, match="multiple of 4"):
        replace(PAPER, width=30)


def test_official_needs_the_sentence_to_encode() -> None:
    model = build(tiny(OFFICIAL))
    batch = batch_of(model.config)
    with pytest.raises(RefsegError, match="expression"):
        model.encode_image(batch.images, batch.pixel_mask)


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


@pytest.mark.parametrize("picture", [None, [0, 0, 0], [1, 0, 1], [2, 0, 2]])
def test_masks_of_equals_a_loop(picture: list[int] | None) -> None:
    features = torch.randn(3, 4, 2, 5)
    kernels = torch.randn(3, 2, 4)
    found = masks_of(kernels, features, None if picture is None else torch.tensor(picture))
    for sentence in range(3):
        own = sentence if picture is None else picture[sentence]
        for kernel in range(2):
            expected = (kernels[sentence, kernel][:, None, None] * features[own]).sum(dim=0)
            assert_near(found[sentence, kernel], expected)


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


# It learns


@pytest.mark.slow
def test_mini_overfits_eight_samples() -> None:
    """Two squares of two colours a picture; the sentence names one of them, both, or a colour that is not there."""
    torch.manual_seed(0)
    config = tiny(MINI, regions=4)
    config = replace(config, width=32, text=replace(TINY_WORDS, dropout=0.0))
    relation = config.relation
    assert isinstance(relation, RegionDecoderConfig)
    assert isinstance(relation.rla, StackedRLAConfig)
    config = replace(config, relation=replace(relation, rla=replace(relation.rla, dropout=0.0)))
    model = build(config).train()
    images = torch.zeros(2, 3, 64, 64)
    squares = torch.zeros(2, 2, 64, 64, dtype=torch.bool)
    places = [[(8, 8), (36, 32)], [(40, 4), (4, 40)]]
    for picture in range(2):
        for colour, (top, left) in enumerate(places[picture]):
            squares[picture, colour, top : top + 20, left : left + 20] = True
            images[picture, colour, squares[picture, colour]] = 2.0
    masks = torch.stack([squares[p, 0] for p in range(2)] + [squares[p, 1] for p in range(2)])
    both = squares.any(dim=1)
    masks = torch.cat([masks, both, torch.zeros(2, 64, 64, dtype=torch.bool)])
    words = torch.tensor([[2], [2], [3], [3], [4], [4], [5], [5]])
    tokens = Tokens(torch.nn.functional.pad(words, (0, 6)), torch.arange(7).expand(8, 7) < 1)
    batch = Batch(images, torch.ones(2, 64, 64, dtype=torch.bool), tokens, image_index=torch.tensor([0, 1] * 4))
    targets = Targets(masks, ~masks.flatten(1).any(dim=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        torch.stack(list(model.losses(model(batch), targets).values())).sum().backward()
        optimizer.step()
    output = model.eval()(batch)
    found = torch.nn.functional.interpolate(output.mask_logits[:, None], size=(64, 64), mode="bilinear")[:, 0] > 0
    shared = (found & masks).flatten(1).sum(dim=1)[:6]
    union = (found | masks).flatten(1).sum(dim=1)[:6]
    assert ((output.no_target_logits > 0) == targets.no_target).all()
    assert float((shared / union).min()) > 0.8


@pytest.mark.slow
def test_mini_overfits_eight_drawn_samples() -> None:
    config, batch, targets = drawn_batch(MINI, size=192)

    def rate(step: int) -> float:
        return 1e-3 * min(1.0, (step + 1) / 10, (100 - step) / 20)

    output = fit(build(config), batch, targets, steps=100, rate=rate)
    assert ((output.no_target_logits > 0) == targets.no_target).all()
    assert mean_iou(output, targets) > 0.8


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
