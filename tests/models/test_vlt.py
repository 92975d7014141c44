"""VLT in its readings: contract, sizes of the tables, clips; equations are in test_vlt_equations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from refseg.errors import ConfigError, RefsegError
from refseg.models import build
from refseg.models.rela.regions import HardSplitConfig, RegionDecoderConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.models.vlt.config import (
    ABLATIONS,
    MINI,
    MINI_MCL,
    OFFICIAL,
    PAPER,
    PAPER_SWIN,
    RELA,
    FusionConfig,
    InterSampleConfig,
    QueryConfig,
    VLTConfig,
)
from tests.support.contract import ModelContract, assert_differs, assert_near, batch_of, filled, targets_of
from tests.support.tiny_parts import tiny_vlt as tiny

NO_HEAD = {"losses.no_target": "no head: without effect", "no_target_head": "tested in the small preset"}
NO_TAGS = {"losses.tags": "there are no tags", "tags": "tested in test_systems"}
BATCHES = {
    f"inter_sample.{name}": "decides which samples a batch has: tested in tests/training/test_contrast.py"
    for name in ("compose", "same_object", "other_object", "frames")
}
NOTHING_BETWEEN = {
    f"inter_sample.{name}": "nothing is learnt between samples"
    for name in ("weight", "temperature", "least_words", "word_select", "threshold", "anchors")
}
TRAINED = {"text.train_embedding": "which parameters are trained: tested in tests/encoders/text/test_recurrent.py"}
DRAWN = {
    f"inter_sample.{name}": "how a word is drawn: tested in test_vlt_equations" for name in ("word_select", "threshold")
}
NO_REGIONS = {"regions": "ReLA's block has them", "losses.minimap": "ReLA's block has one"}
CHANGES: dict[str, Any] = {
    "vision.widths": (4, 4, 8, 8, 12, 20),
    "vision.depths": (1, 1, 1, 1, 2),
    "vision.freeze": "all",
    "width": 24,
    "transformer.heads": 4,
    "queries.channels": (4, 5),
    "transformer.norm_eps": 0.1,
    "mask_decoder.output_stride": 4,
    "queries.number": 8,
    "queries.kind": "learnt",
    "conv_eps": 0.1,
    "vision.eps": 0.1,
    "losses.kernel_decay": 0.5,
    "transformer.dropout": 0.3,
    "text.dropout": 0.5,
}


BETWEEN = frozenset({"mask_features", "masked_features", "masked_word"})


class StrideTwo:
    """Answers of half the input's size."""

    def mask_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 2), -(-width // 2)


class TestPaper(StrideTwo, ModelContract):
    training_only = BETWEEN
    config = replace(tiny(PAPER), inter_sample=replace(PAPER.inter_sample, anchors="all"))
    changes: ClassVar[dict[str, Any]] = {**CHANGES, "inter_sample.kind": "cl", "fusion.kind": "tile"}
    inactive: ClassVar[dict[str, str]] = {
        **NO_HEAD,
        **NO_TAGS,
        **BATCHES,
        **NO_REGIONS,
        **TRAINED,
        **DRAWN,
        "queries.kind": "masked words need generated ones: tested below",
        "queries.heads": "one map a query",
        "stride": "8 with three enlargements is finer than the pictures: tested in the small preset",
    }


class TestOfficial(StrideTwo, ModelContract):
    config = tiny(OFFICIAL)
    slots_matter = True
    changes: ClassVar[dict[str, Any]] = {**CHANGES, "transformer.norm_eps": 0.1, "queries.heads": 4}
    inactive: ClassVar[dict[str, str]] = {
        **NO_HEAD,
        **NO_TAGS,
        **BATCHES,
        **NOTHING_BETWEEN,
        **NO_REGIONS,
        **TRAINED,
        "inter_sample.kind": "tested in the paper's preset",
        "fusion.sentence": "of spatial-dynamic fusion",
        "fusion.text_kernel": "of spatial-dynamic fusion",
        "queries.channels": "of the text's form",
        "stride": "the fusion of the code is made for 16",
    }


class TestMini(ModelContract):
    config = replace(tiny(MINI), no_target_head=True)
    changes: ClassVar[dict[str, Any]] = {
        **CHANGES,
        "vision.widths": (8, 16, 16, 20),
        "vision.depths": (1, 1, 1, 2),
        "vision.norm_groups": 1,
        "mask_decoder.output_stride": 2,
        "stride": 16,
        "fusion.kind": "tile",
    }
    inactive: ClassVar[dict[str, str]] = {
        **NO_TAGS,
        **BATCHES,
        **NOTHING_BETWEEN,
        **NO_REGIONS,
        **TRAINED,
        "inter_sample.kind": "tested in the paper's preset",
        "queries.heads": "one map a query",
        "mask_padding": "tested in the paper's preset, whose pictures are padded",
    }


class TestMiniMCL(ModelContract):
    training_only = BETWEEN
    config = tiny(MINI_MCL)
    knobs = "inter_sample."
    changes: ClassVar[dict[str, Any]] = {"inter_sample.kind": "none"}
    inactive: ClassVar[dict[str, str]] = {**BATCHES, **DRAWN}


class TestSwin(StrideTwo, ModelContract):
    training_only = BETWEEN
    config = replace(tiny(PAPER_SWIN), inter_sample=InterSampleConfig("cl"))
    knobs = "inter_sample.kind"
    changes: ClassVar[dict[str, Any]] = {"inter_sample.kind": "mcl"}
    # The map at stride 4 is not read.
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})


class TestRela(ModelContract):
    config = tiny(RELA)
    # The map at stride 4 is not read.
    unreached = frozenset({"vision.norm0.weight", "vision.norm0.bias"})
    # The block's own fields are tested with ReLA.
    knobs = "regions"


class TestWordsAsQueries(StrideTwo, ModelContract):
    config = replace(
        tiny(PAPER), queries=QueryConfig("words"), fusion=FusionConfig("tile"), inter_sample=MINI.inter_sample
    )
    knobs = "fusion.kind"


class TestLearntQueries(StrideTwo, ModelContract):
    training_only = BETWEEN
    config = replace(
        tiny(PAPER),
        queries=QueryConfig("learnt", number=4),
        fusion=FusionConfig("tile_conv4"),
        balance=False,
        inter_sample=InterSampleConfig("cl"),
        no_target_head=True,
    )
    knobs = "queries.kind"
    inactive: ClassVar[dict[str, str]] = {"queries.kind": "tested above"}


class TestConvolutions(StrideTwo, ModelContract):
    config = replace(tiny(ABLATIONS["table 4.1: 7 conv layers"]), no_target_head=True)
    knobs = "transformer."


# What the sources say


def test_presets_say_what_the_sources_say() -> None:
    assert (PAPER.input.size, PAPER.grid, PAPER.queries.number, PAPER.text.max_words) == (416, 26, 16, 15)
    assert (PAPER.transformer.encoder_layers, PAPER.transformer.decoder_layers, PAPER.transformer.heads) == (2, 2, 8)
    assert PAPER.inter_sample.other_object == 0.1
    assert (OFFICIAL.losses.reduction, OFFICIAL.losses.kernel_decay) == ("sum", 5e-4)
    assert OFFICIAL.transformer.causal
    assert OFFICIAL.transformer.attention_relu


def size_of(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_both_sides_of_table_4_1_have_their_printed_size() -> None:
    """About 16.6 million for seven convolutions, with what they need more in the mask decoder; about 17.5 million for
    what they stand for: encoder and decoder, query generation, query balance."""
    with torch.device("meta"):
        row, paper = build(ABLATIONS["table 4.1: 7 conv layers"]), build(ABLATIONS["table 4.1: transformer"])
    wider = 9 * (512 - 16) * 256
    assert size_of(row.convolutions) + wider == pytest.approx(16.6e6, rel=0.01)
    assert size_of(paper.transformer, paper.query_generation, paper.query_balance) == pytest.approx(17.5e6, rel=0.01)


def test_tile_with_four_convolutions_has_the_size_of_sdf() -> None:
    """As the text to table 4.4 says of the two."""
    with torch.device("meta"):
        tile, dynamic = build(ABLATIONS["table 4.4: tile + conv x 4"]), build(ABLATIONS["table 4.4: SDF"])
    assert size_of(tile.fusion) == size_of(dynamic.fusion) == pytest.approx(2.16e6, rel=0.01)
    assert len([module for module in tile.fusion.modules() if isinstance(module, torch.nn.Conv2d)]) == 4


def test_gres_runs_vlt_on_the_backbone_of_its_other_rows() -> None:
    row = ABLATIONS["GRES table 5: VLT+ReLA"]
    assert (row.vision, row.text, row.input) == (PAPER_SWIN.vision, PAPER_SWIN.text, PAPER_SWIN.input)


@torch.no_grad()
def test_answers_cost_no_contrast() -> None:
    """Only training masks a word and decodes again."""
    config = tiny(PAPER)
    model = filled(build(config))
    batch, calls = batch_of(config), []
    decode = model.transformer.decode
    model.transformer.decode = lambda *parts: calls.append(1) or decode(*parts)
    trained = model.train()(batch)
    assert ({"mask_features", "masked_features", "masked_word"} <= trained.auxiliary.keys(), len(calls)) == (True, 2)
    answered = model.eval()(batch)
    assert ({"mask_features", "masked_features", "masked_word"} & answered.auxiliary.keys(), len(calls)) == (set(), 3)


def build_with(model, config):
    model.config = config
    return model


# What pads and what varies


@torch.no_grad()
def test_padded_places_change_nothing() -> None:
    """A picture in a larger, padded input answers as its state masked alone does: keys of padding are never seen."""
    config = replace(tiny(PAPER), inter_sample=InterSampleConfig("none"))
    model = filled(build(config)).eval()
    batch = batch_of(config, size=(64, 64))
    pixels = batch.pixel_mask.clone()
    pixels[:, 48:] = False
    state = model.encode_image(batch.images, pixels)
    assert state.mask.sum() == 3 * 4 * 3
    text = model.encode_text(batch.tokens)
    fused = model.fusion.decode(state.visual, *projected(model, text)).features
    memory = model._encode(fused, state.mask)
    other = fused.clone()
    other[:, :, 3:] += 1.0
    assert_near(memory.unflatten(1, (4, 4))[:, :3], model._encode(other, state.mask).unflatten(1, (4, 4))[:, :3])
    free = build_with(model, replace(config, mask_padding=False))
    assert free.encode_image(batch.images, pixels).mask is None


def projected(model, text):
    return model.project_text(text.words), model.project_text(text.sentence), text.mask


# Video


@pytest.mark.parametrize("config", [PAPER, OFFICIAL], ids=["raw", "fused"])
@torch.no_grad()
def test_frames_of_a_clip_share_their_queries(config: VLTConfig) -> None:
    config = replace(tiny(config), inter_sample=InterSampleConfig("none"))
    model = filled(build(config)).eval()
    batch = batch_of(config, sentences=1, pictures=3)
    state, text = model.encode_image(batch.images, batch.pixel_mask), model.encode_text(batch.tokens)
    clip = model.decode_clip(state, text)
    assert len(clip.mask_logits) == 3
    attention = clip.attention_maps["words"]
    assert torch.equal(attention[0], attention[1])
    assert torch.equal(attention[0], attention[2])
    apart = model.decode(state, text, torch.zeros(3, dtype=torch.long)[:1])
    assert_differs(apart.attention_maps["words"][0], attention[0])
    # A clip of one picture again and again is that picture.
    still = model.encode_image(batch.images[:1].expand(3, -1, -1, -1), batch.pixel_mask)
    repeated = model.decode_clip(still, text)
    for frame in range(3):
        assert_near(repeated.mask_logits[frame], apart.mask_logits[0])
    # The queries are those of the frames' mean map.
    if config.queries.source == "raw":
        mean = model.query_generation.visual_queries(state.raw.mean(dim=0, keepdim=True))
        expected = model.query_generation(mean, model.project_text(text.words), text.mask).attention
        torch.testing.assert_close(attention[:1], expected)
    with pytest.raises(RefsegError, match="one expression for a clip"):
        model.decode_clip(state, model.encode_text(batch_of(config).tokens))


# Errors


def test_relas_block_behind_vlt_has_neither_layers_nor_patches() -> None:
    for field, block in (
        ("deep_supervision", RegionDecoderConfig(rla=StackedRLAConfig())),
        (r"ria\.split", RegionDecoderConfig(ria=HardSplitConfig("input"))),
    ):
        with pytest.raises(ConfigError, match=field):
            build(replace(tiny(RELA), mask_decoder=block))


def test_learning_between_samples_wants_the_groups() -> None:
    config = tiny(MINI_MCL)
    model = build(config)
    batch = batch_of(config)
    with pytest.raises(RefsegError, match=r"Targets\.groups"):
        model.losses(model(batch), targets_of(batch))


# What is shown


@torch.no_grad()
def test_the_likeliest_place_is_shown_with_where_it_looks() -> None:
    """Figure 4.15: a row of the encoder's attention, which sums to 1; and where each query finds what it asks for."""
    config = tiny(PAPER)
    output = filled(build(config)).eval()(batch_of(config))
    place, panels = output.maps["place"].read(1).values, output.maps["queries"].read(1)
    assert place.shape == (1, *panels.values.shape[1:])
    assert_near(place.sum(), torch.tensor(1.0))
    assert_differs(place, output.maps["place"].read(0).values)
    assert torch.equal(panels.weights, output.auxiliary["confidence"][1])
    assert (panels.values >= 0).all()
