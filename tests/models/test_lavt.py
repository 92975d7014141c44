"""LAVT: the contract, its decoder against a loop, its losses, and LAVT+ReLA beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.vision.swin import SwinConfig
from refseg.errors import RefsegError
from refseg.models import build
from refseg.models.lavt.config import MINI, OFFICIAL, PAPER, LAVTLosses
from refseg.models.lavt.model import LAVTState
from refseg.models.rela.config import LAVT_RELA
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_systems import tiny_lavt as tiny

CHANGES = {
    "vision.embed_dim": 16,
    "vision.depths": (1, 1, 1, 1),
    "vision.heads": (1, 2, 4, 4),
    "vision.window": 8,
    "text.max_words": 6,
    "text.vectors": 8,
    "tags": ("red",),
}
BATCH = {"groups": "batch normalisation has none; tested with norm = group"}


class TestPaper(ModelContract):
    config = tiny(PAPER)
    late_fusion = False
    changes: ClassVar[dict[str, Any]] = CHANGES
    inactive: ClassVar[dict[str, str]] = BATCH | {
        "losses.no_target": "without no_target_head there is no such loss",
        "losses.tags": "without tags there is no such loss",
    }


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True, tags=("red", "cat"))
    late_fusion = False
    knobs = "losses."


class TestWithVerdict(ModelContract):
    config = replace(
        tiny(OFFICIAL),
        vision=SwinConfig(embed_dim=16, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=4),
        norm="group",
        no_target_head=True,
        tags=("red", "cat"),
        losses=LAVTLosses(dice=1.0),
    )
    late_fusion = False
    knobs = "losses."
    changes: ClassVar[dict[str, Any]] = {**CHANGES, "groups": 4}


def test_presets_say_what_the_sources_say() -> None:
    assert (PAPER.losses.background, OFFICIAL.losses.background, OFFICIAL.losses.foreground) == (1.0, 0.9, 1.1)
    assert PAPER.width == 512


def test_lavt_and_lavt_with_rela_share_their_encoder() -> None:
    """Table 5 of GRES: the same picture encoder with words inside, and another decoder."""
    with torch.device("meta"):
        plain, related = build(PAPER), build(LAVT_RELA)
    for part in ("vision", "language_stages", "text"):
        own, other = (getattr(model, part).state_dict() for model in (plain, related))
        assert {name: value.shape for name, value in own.items()} == {
            name: value.shape for name, value in other.items()
        }
    assert plain.late_fusion is related.late_fusion is False
    assert type(related.relation).__name__ == "RegionDecoder"


@torch.no_grad()
def test_decoder_of_section_3_4() -> None:
    model = filled(build(tiny(PAPER))).eval()
    maps = {
        stride: torch.randn(1, 8 << level, 32 // stride, 64 // stride) for level, stride in enumerate((4, 8, 16, 32))
    }
    pairs, _ = model.pixel_decoder(maps)
    above = maps[32]
    for stride, block in zip((16, 8, 4), model.pixel_decoder.blocks, strict=True):
        above = F.interpolate(above, scale_factor=2, mode="bilinear", align_corners=True)
        above = torch.cat([above, maps[stride]], dim=1)
        for layer in block:
            above = F.conv2d(above, layer.conv.weight, padding=1)
            norm = layer.norm
            above = (above - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
            above = (above * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    weight = model.pixel_decoder.classes.weight[:, :, 0, 0]
    assert_near(pairs, torch.einsum("bchw,kc->bkhw", above, weight) + model.pixel_decoder.classes.bias[:, None, None])


@torch.no_grad()
def test_mask_loss_is_the_weighted_cross_entropy_of_both_classes() -> None:
    model = filled(build(tiny(OFFICIAL))).eval()
    batch = batch_of(model.config)
    output, targets = model(batch), targets_of(batch)
    enlarged = F.interpolate(
        output.auxiliary["mask_pairs"], size=targets.masks.shape[1:], mode="bilinear", align_corners=True
    )
    expected = F.cross_entropy(enlarged, targets.masks.long(), weight=torch.tensor([0.9, 1.1]))
    losses = model.losses(output, targets)
    assert set(losses) == {"mask"}
    assert float(losses["mask"]) == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_words_change_every_map_and_a_picture_has_no_state_alone() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config, sentences=2)
    same = torch.stack([batch.images[0]] * 2)
    maps = model.vision(same, model.language_stages.after_stage(model.encode_text(batch.tokens)))
    for each in maps.values():
        assert_differs(each[0], each[1])
    with pytest.raises(RefsegError, match="call it with both"):
        model.encode_image(batch.images, batch.pixel_mask)
    text = model.encode_text(batch.tokens)
    with pytest.raises(RefsegError, match="its own maps"):
        model.decode(LAVTState(maps, batch.pixel_mask), text, torch.tensor([0, 1]))


@torch.no_grad()
def test_tags_are_of_pictures() -> None:
    model = filled(build(replace(tiny(PAPER), tags=("red", "dog")))).eval()
    batch = batch_of(model.config, sentences=3, pictures=2, image_index=[1, 0, 1])
    found = model(batch).auxiliary["tag_logits"]
    each = model(batch.expanded()).auxiliary["tag_logits"]
    assert_near(found[1], (each[0] + each[2]) / 2)
    assert_near(found[0], each[1])
