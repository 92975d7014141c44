"""M3Att: the contract, and the equations against loops written from the thesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refseg.encoders.vision.swin import SwinConfig
from refseg.models import build
from refseg.models.m3att.config import (
    ABLATIONS,
    MINI,
    PAPER,
    PAPER_LSTM,
    PAPER_SWIN,
    M3AttLosses,
    MaskDecoderConfig,
    MutualDecoderConfig,
)
from refseg.models.m3att.decoder import Interaction
from refseg.models.m3att.mutual import MutualAttentionConfig
from refseg.models.m3att.neck import VLTNeck, at_stride
from refseg.nn.losses import resize_masks
from refseg.types import Batch
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_systems import tiny_m3att as tiny

TINY_SWIN = SwinConfig(embed_dim=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=3, drop_path=0.1)


def mutual(kind: str, **changes: Any) -> MutualDecoderConfig:
    return MutualDecoderConfig(2, MutualAttentionConfig(kind), **changes)  # type: ignore[arg-type]


NO_TAGS = {"losses.tags": "there are no tags", "tags": "tested in test_systems"}
HEAD = {**NO_TAGS, "losses.no_target": "no head: without effect"}
GRADIENT = {"losses.detach_target": "changes gradients alone; tested below"}
LINEAGE = {"stride": "the lineage's chain ends at 16: an error, see test_wrong_configurations"}
FROZEN = {"text.train_embedding": "changes gradients alone; see the encoder's tests", "vision.freeze": "likewise"}


class StrideTwo:
    """The thesis's masks."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 2), -(-width // 2)


class TestPaper(StrideTwo, ModelContract):
    config = tiny(PAPER)
    changes: ClassVar[dict[str, Any]] = {
        "mask_decoder.convs": 5,
        "mask_decoder.output_stride": 4,
        "width": 24,
        "vision.widths": (4, 8, 8, 8, 16, 24),
        "vision.depths": (1, 1, 1, 1, 2),
    }
    inactive: ClassVar[dict[str, str]] = {
        **HEAD,
        **GRADIENT,
        **LINEAGE,
        **FROZEN,
        "mask_decoder.coarse": "three doublings leave four convolutions no choice; tested below",
    }


class TestPaperLstm(StrideTwo, ModelContract):
    config = tiny(PAPER_LSTM)
    knobs = "text.cell"


class TestPaperSwin(StrideTwo, ModelContract):
    config = tiny(PAPER_SWIN)
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})  # of the map of stride 4, which nobody reads
    knobs = "vision.embed_dim"


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True)
    knobs = "losses."
    inactive: ClassVar[dict[str, str]] = {**NO_TAGS, **GRADIENT}


class TestGeneric(ModelContract):
    """The generic transformer's layer, no interaction, no reconstruction."""

    config = replace(tiny(MINI), decoder=mutual("language_attended", requery=False, interaction="none"))
    config = replace(config, losses=replace(MINI.losses, reconstruction=0.0))
    knobs = "decoder."
    changes: ClassVar[dict[str, Any]] = {"decoder.attention.kind": "independent"}
    inactive: ClassVar[dict[str, str]] = {"decoder.interaction_weight": "there is no interaction"}


class TestVisionAttended(ModelContract):
    config = replace(tiny(MINI), decoder=mutual("vision_attended", interaction="same"), projection_norm=False)
    knobs = "decoder."
    inactive: ClassVar[dict[str, str]] = {"decoder.requery": "without it: an error, see test_wrong_configurations"}


class TestIndependentConcat(ModelContract):
    config = replace(tiny(MINI), decoder=mutual("independent"), mask_decoder=MaskDecoderConfig("concat", 8, 3, 1, 4))
    knobs = "mask_decoder."
    changes: ClassVar[dict[str, Any]] = {
        "mask_decoder.convs": 4,
        "mask_decoder.coarse": 2,
        "mask_decoder.output_stride": 8,
    }


class TestVltMasks(ModelContract):
    """Everything is looked at, as in VLT's code, whose text encoder turns padding words into zeros first."""

    config = replace(tiny(MINI), mask_decoder=MaskDecoderConfig("vlt", 8, 3, 1, 4), mask_padding=False)
    config = replace(config, text=replace(config.text, mask_padding=False))
    slots_matter = True
    knobs = "mask_padding"


# What the sources say


def test_presets_say_what_the_thesis_says() -> None:
    counts = [sum(name.startswith(f"table 5.{number}") for name in ABLATIONS) for number in (1, 2, 3)]
    assert counts == [12, 5, 3]
    assert (PAPER.width, PAPER.heads, PAPER.encoder_layers, PAPER.decoder.layers) == (256, 8, 2, 3)
    assert (PAPER.mask_decoder.width, PAPER.mask_decoder.convs) == (512, 4)
    assert (PAPER.losses.mask, PAPER.losses.reconstruction, PAPER.losses.detach_target) == (1.0, 0.1, False)
    assert (PAPER.input.size, PAPER.text.max_words, PAPER.grid) == (416, 15, (26, 26))
    assert (PAPER_SWIN.input.size, PAPER_SWIN.grid) == (480, (30, 30))
    assert PAPER_LSTM.text.cell == "lstm"
    with torch.device("meta"):
        model = build(PAPER)
    assert model.decoder.layers[0].mutual.output.weight.flatten(1).shape == (256, 676)
    numbers = {name: value.numel() for name, value in model.vision.state_dict().items()}
    assert sum(count for name, count in numbers.items() if not name.endswith("num_batches_tracked")) == 56_367_712


# Equations (5.1 and 5.2 are in tests/models/test_m3att_mutual.py, 5.4 in tests/models/test_m3att_reconstruction.py)


@pytest.mark.parametrize("transforms", [True, False])
@torch.no_grad()
def test_equation_5_3(transforms: bool) -> None:
    """One IMI block, word by word, without the normalisation that the equations do not print."""
    block = filled(Interaction(6, norm=False, first_weight=0.1, transforms=transforms)).eval()
    block.norm.running_mean.uniform_()
    block.norm.running_var.uniform_(0.5, 2)
    mask = torch.tensor([[True, True, True, False]])
    fused, before = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    found, language = block(fused, before, mask)
    own = before[0, :3]
    if transforms:
        own = own @ block.language.linear.weight.T + block.language.linear.bias
    assert_near(language[0, :3], own)
    for word in range(3):
        query = (block.query.linear.weight @ fused[0, word]).clamp(min=0)
        scores = torch.stack([query @ own[other] for other in range(3)])
        weights = scores.exp() / scores.exp().sum()
        wanted = sum(weights[other] * (block.value.linear.weight @ own[other]).clamp(min=0) for other in range(3))
        total = fused[0, word] + block.weight * wanted
        normal = (total - block.norm.running_mean) / (block.norm.running_var + 1e-5).sqrt()
        assert_near(found[0, word], normal * block.norm.weight + block.norm.bias)
    assert not found[0, 3].any()


@torch.no_grad()
def test_equation_5_5() -> None:
    model = filled(build(tiny(PAPER))).eval()
    batch = batch_of(model.config, sentences=4)
    output, targets = model(batch), targets_of(batch)
    losses = model.losses(output, targets)
    found = output.auxiliary
    truth = resize_masks(targets.masks, (32, 40))
    chance = output.mask_logits.double().sigmoid()
    entropy = -(truth * chance.log() + (1 - truth) * (1 - chance).log())
    assert float(losses["mask"]) == pytest.approx(float(entropy.mean()), rel=1e-4)
    distance = model.reconstruction(
        found["words"], found["sentence"], batch.tokens.mask, found["fused"], batch.tokens.mask
    )
    assert float(losses["reconstruction"]) == pytest.approx(0.1 * float(distance), rel=1e-5)
    summed = build(replace(model.config, losses=M3AttLosses(reduction="sum"))).eval()
    assert float(summed.losses(output, targets)["mask"]) == pytest.approx(float(entropy.sum()) / 4, rel=1e-4)


def slow_attention(module: Any, queries: Tensor, keys: Tensor) -> Tensor:
    """Multi-head attention of (Q, C) on (K, C), values from the keys' tokens."""
    part = queries.shape[1] // module.heads
    rows = []
    for query in queries:
        gathered = []
        for head in range(module.heads):
            own = slice(head * part, (head + 1) * part)
            asked = (module.query.weight @ query + module.query.bias)[own]
            scores = torch.stack([(module.key.weight @ key + module.key.bias)[own] @ asked for key in keys])
            weights = (scores / part**0.5).exp() / (scores / part**0.5).exp().sum()
            values = torch.stack([(module.value.weight @ key + module.value.bias)[own] for key in keys])
            gathered.append(weights @ values)
        rows.append(module.output.weight @ torch.cat(gathered) + module.output.bias)
    return torch.stack(rows)


def normalised(norm: Any, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias)


@torch.no_grad()
def test_a_decoder_layer_is_figure_5_3() -> None:
    config = tiny(MINI)
    layer = filled(build(config)).eval().decoder.layers[0]
    words, pixels = torch.randn(1, 7, 16), torch.randn(1, 12, 16)
    mask = torch.arange(7)[None] < 4
    found, attended = layer(words, pixels, (3, 4), mask, None, None)
    real = words[0, :4]
    queries = normalised(layer.self_norm, real + slow_attention(layer.self_attention, real, real))
    assert_near(attended.features[:, :4], layer.mutual(queries[None], pixels, (3, 4)).features)
    fused = slow_attention(layer.requery, queries, attended.features[0, :4])
    fused = normalised(layer.fused_norm, queries + fused)
    inner = (fused @ layer.feed_forward.inner.weight.T + layer.feed_forward.inner.bias).clamp(min=0)
    outer = inner @ layer.feed_forward.outer.weight.T + layer.feed_forward.outer.bias
    assert_near(found[0, :4], normalised(layer.feed_forward_norm, fused + outer))


@torch.no_grad()
def test_without_requery_the_generic_attention_is_a_transformers() -> None:
    """Words ask pixels with as many heads as elsewhere: the decoder layer of Vaswani et al."""
    config = tiny(ABLATIONS["table 5.1: generic, 3 layers"])
    layer = filled(build(config)).eval().decoder.layers[0]
    words, pixels = torch.randn(1, 4, 16), torch.randn(1, 16, 16)
    found, _ = layer(words, pixels, (4, 4), None, None, None)
    mutual_part = layer.mutual

    class Renamed:
        heads = mutual_part.heads
        query, key, value, output = (
            mutual_part.word_key,
            mutual_part.pixel_key,
            mutual_part.pixel_value,
            mutual_part.output,
        )

    queries = normalised(layer.self_norm, words[0] + slow_attention(layer.self_attention, words[0], words[0]))
    fused = normalised(layer.fused_norm, queries + slow_attention(Renamed, queries, pixels[0]))
    assert_near(found[0], normalised(layer.feed_forward_norm, fused + layer.feed_forward(fused)))


@pytest.mark.parametrize("interaction", ["iterative", "same", "none"])
@torch.no_grad()
def test_language_goes_its_own_way_beside_the_layers(interaction: str) -> None:
    config = replace(tiny(MINI), decoder=replace(tiny(MINI).decoder, interaction=interaction))
    decoder = filled(build(config)).eval().decoder
    words, pixels = torch.randn(1, 5, 16), torch.randn(1, 16, 16)
    given = (pixels, (4, 4), None, None, None)
    found = decoder(words, *given).words
    first, _ = decoder.layers[0](words, *given)
    if interaction == "none":
        queries = [first, decoder.layers[1](first, *given)[0]]
    else:
        query, language = decoder.interactions[0](first, words, None)
        assert torch.equal(language, words) == (interaction == "same")
        second, _ = decoder.layers[1](query, *given)
        last, _ = decoder.interactions[1](second, language, None)
        queries = [query, last]
        assert all(abs(float(block.weight)) > 0 for block in decoder.interactions)
    assert_near(found, decoder.layers[2](queries[1], *given)[0])


def test_interaction_starts_small() -> None:
    model = build(MINI)
    assert [float(block.weight.detach()) for block in model.decoder.interactions] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("kind", ["kernel", "concat", "sum", "vlt"])
@torch.no_grad()
def test_mask_decoder_maps(kind: str) -> None:
    config = replace(tiny(MINI), mask_decoder=MaskDecoderConfig(kind, 8, 3, 1, 4))  # type: ignore[arg-type]
    decoder = filled(build(config)).eval().mask_decoder
    words, pixels, mask = torch.randn(1, 5, 16), torch.randn(1, 64, 16), torch.arange(5)[None] < 3
    maps = decoder._maps(words, pixels, (8, 8), mask, None)
    grid = pixels[0].T.unflatten(1, (8, 8))
    if kind == "vlt":
        rows = [(decoder.to_map.weight @ word + decoder.to_map.bias).clamp(min=0).view(8, 8) for word in words[0, :3]]
    else:
        kernels = slow_attention(decoder.attention, words[0, :3], words[0, :3])
        if kind == "kernel":
            rows = [(grid * kernel[:, None, None]).sum(dim=0) for kernel in kernels]
        else:
            meant = kernels[0] + kernels[1] + kernels[2]
            rows = [grid[c] + meant[c] for c in range(16)] if kind == "sum" else [*grid]
            rows += [] if kind == "sum" else [meant[c].expand(8, 8) for c in range(16)]
    assert_near(maps[0, : len(rows)], torch.stack(rows))
    assert not maps[0, len(rows) :].any()
    assert maps.shape[1] == {"kernel": 7, "vlt": 7, "concat": 32, "sum": 16}[kind]


def test_convolutions_double_between_one_another() -> None:
    """26 -> 52 -> 104 -> 208 between the four convolutions; VLT's stack has three before the first doubling."""
    with torch.device("meta"):
        paper = build(PAPER).mask_decoder
        vlt = build(ABLATIONS["table 5.3: VLT's mask decoder"]).mask_decoder
    assert ([*paper.doubled], len(paper.convs)) == ([1, 2, 3], 3)
    assert ([*vlt.doubled], len(vlt.convs)) == ([3, 4, 5], 6)
    assert {conv.conv.out_channels for conv in paper.convs} == {512}
    assert {conv.conv.out_channels for conv in vlt.convs} == {256}


# Maps, padding, gradients


@torch.no_grad()
def test_maps_keep_their_places_at_sizes_no_stride_divides() -> None:
    """A picture of 75 pixels: 10, 5 and 3 cells; what lies in a coarse cell comes from it."""
    fine = torch.arange(10.0).expand(1, 1, 10, 10)
    expected = torch.tensor([0.5, 2.5, 4.5, 6.5, 8.5])
    assert torch.equal(at_stride(fine, 8, 16, (5, 5))[0, 0, 0], expected)
    assert torch.equal(at_stride(fine[..., :9, :9], 8, 16, (5, 5))[0, 0, 0, -1], torch.tensor(8.0))
    coarse = torch.arange(3.0).expand(1, 1, 3, 3)
    assert torch.equal(at_stride(coarse, 32, 16, (5, 5))[0, 0, 0], torch.tensor([0.0, 0, 1, 1, 2]))
    assert torch.equal(at_stride(coarse, 16, 16, (3, 3)), coarse)


def test_lineage_has_the_widths_of_its_code() -> None:
    with torch.device("meta"):
        neck = VLTNeck({8: 256, 16: 512, 32: 1024}, 256)
        found = neck(
            {
                stride: torch.empty(1, width, 416 // stride, 416 // stride)
                for stride, width in ((8, 256), (16, 512), (32, 1024))
            }
        )
    assert found.shape == (1, 256, 26, 26)
    assert [neck.coarse[1].conv.out_channels, neck.joined.conv.out_channels] == [1024, 512]
    assert (neck.output[0].conv.in_channels, neck.output[0].conv.out_channels) == (1536, 256)


@torch.no_grad()
def test_padding_pixels_are_not_looked_at() -> None:
    """What stands in cells of padding, whatever the encoder made of it, changes no answer."""
    config = replace(tiny(PAPER), mask_decoder=MaskDecoderConfig(width=8, convs=4))
    model = filled(build(config)).eval()
    batch = batch_of(config, size=(64, 64), sentences=2)
    real = batch.pixel_mask.clone()
    real[:, 32:] = False
    plain = model(Batch(batch.images, real, batch.tokens))
    # Another one for each channel: what all channels share is taken out by the next LayerNorm.
    noise = torch.zeros(1, config.width, 4, 4)
    noise[:, :, 2:] = 5.0 * torch.randn(config.width)[:, None, None]
    model.neck.register_forward_hook(lambda module, inputs, output: output + noise)
    noisy = model(Batch(batch.images, real, batch.tokens))
    assert_near(plain.mask_logits, noisy.mask_logits)
    assert not noisy.attention_maps["pixels"][:, :, 2:].any()
    open_model = build(replace(config, mask_padding=False)).eval()
    open_model.load_state_dict(model.state_dict())
    plain = open_model(Batch(batch.images, real, batch.tokens))
    open_model.neck.register_forward_hook(lambda module, inputs, output: output + noise)
    assert_differs(plain.mask_logits, open_model(Batch(batch.images, real, batch.tokens)).mask_logits)


@torch.no_grad()
def test_attention_over_words_and_pixels_sums_to_one() -> None:
    config = tiny(PAPER)
    model = filled(build(config)).eval()
    batch = batch_of(config, sentences=3)
    found = model(batch).attention_maps
    assert torch.allclose(found["words"].sum(dim=1), torch.ones(3), atol=1e-5)
    assert not found["words"][~batch.tokens.mask].any()
    assert torch.allclose(found["pixels"].flatten(2).sum(dim=2), torch.ones(3, 7), atol=1e-5)


def test_reconstruction_teaches_the_text_encoder_unless_it_is_stopped() -> None:
    """With `detach_target` the sentence, which is read for the reconstruction alone, gets no gradient."""
    for detach in (False, True):
        config = replace(tiny(PAPER), losses=M3AttLosses(detach_target=detach))
        model = build(config).train()
        batch = batch_of(config)
        model.losses(model(batch), targets_of(batch))["reconstruction"].backward()
        assert (model.project_sentence.linear.weight.grad is None) == detach
        assert model.decoder.layers[0].self_attention.query.weight.grad is not None


def test_reconstruction_is_of_training_alone() -> None:
    """The mask does not depend on its layers, which stay unused while answering."""
    config = tiny(PAPER)
    model = filled(build(config)).eval()
    plain = build(replace(config, losses=M3AttLosses(reconstruction=0.0))).eval()
    kept = {name: value for name, value in model.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(kept)
    batch = batch_of(config)
    assert torch.equal(model(batch).mask_logits, plain(batch).mask_logits)
    names = {name.split(".")[0] for name in model.state_dict()} - {name.split(".")[0] for name in plain.state_dict()}
    assert names == {"reconstruction", "project_sentence"}
