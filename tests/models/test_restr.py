"""ReSTR in its two readings: the contract, and the equations against loops written from the paper."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models import build
from refseg.models.restr.config import (
    ABLATIONS,
    MINI,
    MINI_RESNET,
    OFFICIAL,
    PAPER,
    DecoderConfig,
    FusionConfig,
    ReSTRConfig,
)
from refseg.models.restr.model import CoarseToFine, patch_targets
from refseg.types import Batch
from tests.support.contract import ModelContract, assert_near, batch_of, filled, targets_of
from tests.support.tiny_parts import TINY_BERT
from tests.support.tiny_systems import tiny_restr as tiny

NO_TAGS = {
    "losses.tags": "there are no tags",
    "tags": "tested in test_systems",
    "decoder.order": "the same numbers at another cost, tested below",
}
HEAD = {**NO_TAGS, "losses.no_target": "no head: without effect"}
VIT_ALONE = {
    "patch": "must be the encoder's: an error, see test_wrong_configurations",
    "vision.patch": "must be `patch`, as above",
}
VIT_CHANGES = {"vision.width": 24, "fusion.width": 24, "text.width": 16, "fusion.layers": 2}


ANY_PIXEL = {"losses.patch_threshold": "a single pixel makes a patch positive"}


class StrideOne:
    """Answers of the input's own size."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class TestPaper(StrideOne, ModelContract):
    config = tiny(PAPER)
    changes: ClassVar[dict[str, Any]] = {**VIT_CHANGES, "text.output_width": 8, "losses.patch_threshold": 0.2}
    inactive: ClassVar[dict[str, str]] = {**HEAD, **VIT_ALONE}


class TestOfficial(StrideOne, ModelContract):
    config = tiny(OFFICIAL)
    padding_words_matter = True
    changes: ClassVar[dict[str, Any]] = {**VIT_CHANGES, "text.output_width": 8}
    inactive: ClassVar[dict[str, str]] = {
        **HEAD,
        **VIT_ALONE,
        **ANY_PIXEL,
    }


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True)
    changes: ClassVar[dict[str, Any]] = {
        **VIT_CHANGES,
        "text.output_width": 8,
    }
    inactive: ClassVar[dict[str, str]] = {**NO_TAGS, **VIT_ALONE, **ANY_PIXEL}


class TestMiniResNet(ModelContract):
    config = tiny(MINI_RESNET)
    changes: ClassVar[dict[str, Any]] = {
        "vision.widths": (8, 16, 20, 16),
        "vision.depths": (1, 1, 2, 1),
        "vision.norm_groups": 1,
        "fusion.width": 24,
        "text.width": 16,
        "fusion.layers": 2,
        "text.output_width": 8,
        "patch": 8,
    }
    inactive: ClassVar[dict[str, str]] = {**HEAD, **ANY_PIXEL}


class TestVme(StrideOne, ModelContract):
    config = replace(
        tiny(ABLATIONS["table 3b: VME"]), text=TINY_BERT, decoder=DecoderConfig(kind="none"), no_target_head=True
    )
    changes: ClassVar[dict[str, Any]] = {
        **VIT_CHANGES,
        "fusion.output_norm": "classifier",
        "text.positions": 12,
        "text.width": 24,
        "text.max_words": 9,
    }
    inactive: ClassVar[dict[str, str]] = {
        **NO_TAGS,
        **VIT_ALONE,
        "decoder.guide": "there is no decoder",
        "losses.patch_label": "without decoder there is no second loss",
        "losses.patch_threshold": "without decoder there is no second loss",
    }


class TestIme(StrideOne, ModelContract):
    config = replace(tiny(ABLATIONS["table 3b: IME"]), fusion=replace(tiny(PAPER).fusion, encoder="ime", share=True))
    changes: ClassVar[dict[str, Any]] = {**VIT_CHANGES, "text.output_width": 8, "fusion.layers": 6}
    inactive: ClassVar[dict[str, str]] = {
        **HEAD,
        **VIT_ALONE,
        "decoder.guide": "there is no decoder",
        "losses.patch_label": "without decoder there is no second loss",
        "losses.patch_threshold": "without decoder there is no second loss",
    }


# What the sources say


def test_presets_say_what_the_sources_say() -> None:
    assert (PAPER.text.layers, PAPER.text.feedforward, PAPER.text.norm) == (6, 3072, "pre")
    assert (OFFICIAL.text.layers, OFFICIAL.text.feedforward, OFFICIAL.text.norm) == (6, 1200, "post")
    assert (PAPER.losses.patch, PAPER.losses.patch_threshold, PAPER.losses.patch_label) == (0.1, 0.8, "mean")
    assert OFFICIAL.losses.patch_label == "any"
    assert PAPER.decoder.scale_sigmoid
    assert not OFFICIAL.decoder.scale_sigmoid
    assert OFFICIAL.decoder.projections
    # Table 5 counts another MLP of the encoders and the paper's order of upsampling; what fuses is the same.
    assert ABLATIONS["table 4: 4 shared layers"].fusion == ABLATIONS["table 5: CME, shared"].fusion
    assert FusionConfig(encoder="vme", layers=3).layers == 3


def blocks_of(model: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in model.fusion.named_parameters() if ".blocks." in name)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("table 3b: VME", 28_351_488),
        ("table 3b: IME", 28_351_488),
        ("table 3b: CME", 28_351_488),
        ("table 3b: CME, shared", 14_175_744),
        ("table 4: 6 shared layers, no decoder", 14_175_744),
    ],
)
def test_fusion_has_the_printed_parameters(name: str, blocks: int) -> None:
    with torch.device("meta"):
        assert blocks_of(build(ABLATIONS[name])) == blocks


def test_the_published_code_has_its_parameters() -> None:
    """129,759,472 and with shared blocks 115,583,728, a classifier of 769,000 that nobody uses among them."""
    published = replace(OFFICIAL, vision=replace(OFFICIAL.vision, grid=30))
    with torch.device("meta"):
        whole = build(published)
        shared = build(replace(published, fusion=replace(published.fusion, share=True)))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (whole, shared)]
    assert counts == [129_759_472 - 769_000, 115_583_728 - 769_000]


def test_a_resnet_is_cut_where_its_map_is_taken() -> None:
    model = build(tiny(MINI_RESNET))
    assert len(model.vision.stages) == 3
    assert max(model.vision.channels) == 16


def test_positions_are_added_to_patches_alone() -> None:
    torch.manual_seed(0)
    model = build(tiny(MINI_RESNET)).eval()
    images, real = torch.rand(2, 3, 64, 96), torch.ones(2, 64, 96, dtype=torch.bool)
    real[1, :, 64:] = False
    with torch.no_grad():
        told = model.encode_image(images, real)
        model.positions = None
        untold = model.encode_image(images, real)
    assert torch.equal(told.vision, untold.vision)
    added = (told.patches - untold.patches).unflatten(1, (4, 6))
    # The centre of the second of six columns; every second channel is a cosine, the latter half is of columns.
    assert added[0, 0, 1, 9].item() == pytest.approx(math.cos(2 * math.pi * 1.5 / 6), abs=1e-4)
    assert torch.allclose(added[0, 2, :, 8:], added[0, 3, :, 8:], atol=1e-5)


# Equations


def slow_encoder(encoder: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks by equations 1 to 5 on one sequence (N, D), and the last token's attention in each block."""
    rows = []
    for index in range(len(encoder.rates)):
        block = encoder.blocks[0] if len(encoder.blocks) == 1 else encoder.blocks[index]
        width, heads = tokens.shape[1], block.attn.heads
        normal = F.layer_norm(tokens, (width,), block.norm1.weight, block.norm1.bias)
        queries, keys, values = (normal @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(width, dim=1)
        gathered, looked = [], []
        for head in range(heads):
            own = slice(head * width // heads, (head + 1) * width // heads)
            weights = (queries[:, own] @ keys[:, own].T / (width / heads) ** 0.5).softmax(dim=1)
            gathered.append(weights @ values[:, own])
            looked.append(weights[-1])
        rows.append(torch.stack(looked).mean(dim=0))
        tokens = tokens + torch.cat(gathered, dim=1) @ block.attn.proj.weight.T + block.attn.proj.bias
        normal = F.layer_norm(tokens, (width,), block.norm2.weight, block.norm2.bias)
        hidden = F.gelu(normal @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        tokens = tokens + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    return tokens, torch.stack(rows)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("encoder", ["vme", "ime", "cme"])
@torch.no_grad()
def test_equations_7_and_8(encoder: str, share: bool) -> None:
    config = replace(tiny(PAPER), fusion=replace(tiny(PAPER).fusion, encoder=encoder, share=share))
    fusion = filled(build(config)).eval().fusion
    patches, words = torch.randn(2, 6, 16), torch.randn(2, 4, 16)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    found = fusion(patches, words, None, mask)
    assert fusion.seed.shape == (1, 1, 16)
    for index in range(2):
        real = words[index][mask[index]]  # a masked word is as good as none
        seed = fusion.seed[0]
        if encoder == "vme":
            tokens, rows = slow_encoder(fusion.visual_linguistic, torch.cat([patches[index], real, seed]))
            expected = fusion.norm(tokens)[:6], fusion.norm(tokens)[-1]
        else:
            tokens, _ = slow_encoder(fusion.visual_linguistic, torch.cat([patches[index], real]))
            tokens = fusion.patch_norm(tokens)
            seen = tokens[6:] if encoder == "cme" else real
            last, rows = slow_encoder(fusion.linguistic_seed, torch.cat([seen, seed]))
            expected = tokens[:6], fusion.norm(last)[-1]
        assert_near(found.patches[index], expected[0])
        assert_near(found.classifier[index], expected[1])
        kept = torch.cat(
            [torch.ones(6 if encoder == "vme" else 0, dtype=torch.bool), mask[index], torch.tensor([True])]
        )
        assert_near(found.attention[index][:, kept], rows)
        assert not found.attention[index][:, ~kept].any()


@pytest.mark.parametrize("norm", ["each", "shared", "classifier"])
@torch.no_grad()
def test_who_is_normalised_last(norm: str) -> None:
    """Each: pixels and the words that go on. Shared: pixels, not the words. Classifier: neither."""
    config = replace(tiny(PAPER), fusion=replace(tiny(PAPER).fusion, output_norm=norm))
    fusion = filled(build(config)).eval().fusion
    patches, words = torch.randn(1, 5, 16), torch.randn(1, 3, 16)
    found = fusion(patches, words, None, None)
    raw, _ = slow_encoder(fusion.visual_linguistic, torch.cat([patches[0], words[0]]))
    normed = fusion.patch_norm(raw) if norm == "each" else raw
    last, _ = slow_encoder(fusion.linguistic_seed, torch.cat([normed[5:], fusion.seed[0]]))
    assert_near(found.classifier[0], fusion.norm(last[-1]))
    assert_near(found.patches[0], fusion.norm(raw[:5]) if norm == "shared" else normed[:5])


def pieces(model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """State and fused features of a batch of one picture a sentence."""
    state = model.encode_image(batch.images, batch.pixel_mask)
    text = model.encode_text(batch.tokens)
    words = model.project_words(F.normalize(text.words, dim=-1)) * text.mask[..., None]
    return state, model.fusion(state.patches, words, state.mask, text.mask if model.config.mask_padding else None)


@pytest.mark.parametrize("preset", [PAPER, OFFICIAL])
@torch.no_grad()
def test_equations_9_and_10_and_the_decoder(preset: ReSTRConfig) -> None:
    """The paper's order in the decoder: enlarge, linear map, activation; the code's product without scale."""
    model = filled(build(tiny(preset))).eval()
    batch = batch_of(model.config, size=(32, 48), sentences=2)
    output = model(batch)
    state, fused = pieces(model, batch)
    for sentence in range(2):
        classifier = fused.classifier[sentence]
        masked = torch.zeros(16, 2, 3)
        for row in range(2):
            for column in range(3):
                patch = fused.patches[sentence, 3 * row + column]
                if preset is PAPER:
                    logit = float(patch @ classifier) / 4  # sqrt(16)
                    masked[:, row, column] = patch / (1 + torch.exp(torch.tensor(-logit)))
                else:
                    patch = patch @ model.patch_matrix
                    logit = float(patch @ (classifier @ model.classifier_matrix))
                    masked[:, row, column] = patch * logit
                assert_near(output.auxiliary["patch_logits"][sentence, row, column], torch.tensor(logit))
        projected = state.patches[sentence].T.unflatten(1, (2, 3))
        maps = torch.cat([state.vision[sentence] if preset is PAPER else projected, masked])
        for layer in model.decoder.layers:
            maps = F.interpolate(maps[None], scale_factor=2, mode="bilinear", align_corners=True)[0]
            maps = F.leaky_relu(torch.einsum("chw,dc->dhw", maps, layer.weight[:, :, 0, 0]), 0.01)
        assert_near(
            output.mask_logits[sentence], torch.einsum("chw,c->hw", maps, model.decoder.output.weight[0, :, 0, 0])
        )


def test_both_orders_of_the_decoder_give_the_same_numbers() -> None:
    torch.manual_seed(0)
    first, last = CoarseToFine(32, 3), CoarseToFine(32, 3, upsample_first=True)
    last.load_state_dict(first.state_dict())
    maps = torch.randn(2, 32, 3, 5)
    assert_near(last(maps), first(maps))


def test_decoder_halves_its_channels() -> None:
    decoder = CoarseToFine(1536, 4)
    assert [layer.weight.shape[0] for layer in decoder.layers] == [768, 384, 192, 96]
    assert decoder.output.weight.shape == (1, 96, 1, 1)
    assert all(parameter.ndim == 4 for parameter in decoder.parameters())  # no biases


@pytest.mark.parametrize("any_pixel", [False, True])
def test_equation_11(any_pixel: bool) -> None:
    masks = torch.rand(3, 20, 35) > 0.3
    masks[0] = False
    masks[1, :8, :8] = False
    masks[1, 3, 3] = True
    found = patch_targets(masks, 8, 0.7, any_pixel)
    assert found.shape == (3, 3, 5)
    for index in range(3):
        for row in range(3):
            for column in range(5):
                inside = masks[index, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                expected = bool(inside.any()) if any_pixel else float(inside.sum()) / 64 > 0.7
                assert bool(found[index, row, column]) == expected


@torch.no_grad()
def test_equation_12() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config)
    output, targets = model(batch), targets_of(batch)
    losses = model.losses(output, targets)
    coarse = output.auxiliary["patch_logits"].sigmoid()
    labels = patch_targets(targets.masks, 16, 0.8)
    assert 0 < float(labels.mean()) < 1
    expected = -(labels * coarse.log() + (1 - labels) * (1 - coarse).log()).mean()
    assert float(losses["patch"]) == pytest.approx(0.1 * float(expected), rel=1e-4)
    fine, truth = output.mask_logits.sigmoid(), targets.masks.float()
    expected = -(truth * fine.log() + (1 - truth) * (1 - fine).log()).mean()
    assert float(losses["pixel"]) == pytest.approx(float(expected), rel=1e-4)


@torch.no_grad()
def test_without_decoder_the_patch_map_is_enlarged() -> None:
    model = filled(build(tiny(ABLATIONS["table 3b: CME"]))).eval()
    output = model(batch_of(model.config, size=(30, 50), sentences=2))
    coarse = output.auxiliary["patch_logits"]
    assert coarse.shape == (2, 2, 4)
    expected = F.interpolate(coarse[:, None], size=(32, 64), mode="bilinear", align_corners=False)[:, 0, :30, :50]
    assert torch.equal(output.mask_logits, expected)


@pytest.mark.parametrize("preset", [PAPER, OFFICIAL])
@torch.no_grad()
def test_padding_pixels_change_nothing_unless_the_code_looks_at_them(preset: ReSTRConfig) -> None:
    model = filled(build(tiny(preset))).eval()
    batch = batch_of(model.config, size=(64, 64), sentences=2)
    real = batch.pixel_mask.clone()
    real[:, 48:] = False
    changed = batch.images.clone()
    changed[:, :, 48:] += 1
    answers = [model(Batch(images, real, batch.tokens)).mask_logits[:, :48] for images in (batch.images, changed)]
    assert torch.allclose(answers[0], answers[1], atol=1e-4) == (preset is PAPER)


@torch.no_grad()
def test_seed_attention_is_shared_between_pixels_words_and_seed() -> None:
    batch = batch_of(tiny(PAPER), sentences=2)
    for name in ("VME", "IME", "CME"):
        model = filled(build(tiny(ABLATIONS[f"table 3b: {name}"]))).eval()
        output = model(batch)
        shares, words = output.attention_maps["modalities"], output.attention_maps["words"]
        assert (shares[..., 0] > 0).all() == (name == "VME")
        assert (shares.sum(dim=2) < 1).all()
        assert torch.allclose(words.sum(dim=1), shares[:, -1, 1])
        assert not words[~batch.tokens.mask].any()
