"""Every system at a size that runs in milliseconds, wired as the configuration given; all of it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.clip import ClipTextConfig
from refseg.encoders.text.glove_transformer import GloveTransformerConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.clip_resnet import ClipResNetConfig
from refseg.encoders.vision.darknet import DarkNetConfig
from refseg.encoders.vision.nanodet import NanoDetConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.encoders.vision.vit import ViTConfig
from refseg.geometry import InputConfig
from refseg.models.cris.config import CRISConfig, VLDecoderConfig
from refseg.models.instances.config import DetectorConfig, InstancesConfig, ProposalConfig
from refseg.models.isfp.config import BranchConfig, ISFPConfig
from refseg.models.lavt.config import LAVTConfig
from refseg.models.lts.config import LTSConfig
from refseg.models.m3att.config import M3AttConfig
from refseg.models.mattnet.config import MAttNetConfig
from refseg.models.reftr.config import RefTRConfig
from refseg.models.rela.config import DeformableConfig, FeaturePyramidConfig, ReLAConfig
from refseg.models.rela.masked_regions import MaskedRegionDecoderConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.models.restr.config import ReSTRConfig
from refseg.nn.aspp import SegmentationConfig
from tests.support.tiny_parts import TINY_BERT, TINY_DARKNET, TINY_RESNET, TINY_SWIN, TINY_WORDS, tiny_vlt

__all__ = ["DETECTOR", "TINY"]

DETECTOR = DetectorConfig(
    detector=NanoDetConfig(widths=(16, 16, 16), depths=(1, 1, 1), side=64),
    proposals=ProposalConfig(min_score=0.001, most=6),
)
"""A detector that proposes something in noise."""


def _vision(config: Any, swin: SwinConfig = TINY_SWIN) -> Any:
    return {DarkNetConfig: TINY_DARKNET, SwinConfig: swin, ResNetConfig: TINY_RESNET}[type(config)]


def _text(config: Any, hidden: int = 8) -> Any:
    if not isinstance(config, RecurrentTextConfig):
        return TINY_BERT
    sizes: dict[str, Any] = {"vocabulary_size": 30, "max_words": 7, "embedding": 6, "hidden": hidden}
    return replace(config, **sizes, train_embedding=True, dropout=0.1)


def tiny_rela(config: ReLAConfig, regions: int | None = None) -> ReLAConfig:
    """With 3 x 3 regions, or as many as `regions` says along a side."""
    relation = config.relation
    if isinstance(relation, MaskedRegionDecoderConfig):
        relation = replace(relation, layers=4, heads=2, feedforward=16)
    elif isinstance(relation.rla, StackedRLAConfig):
        relation = replace(relation, rla=replace(relation.rla, layers=2, heads=2, feedforward=16, dropout=0.1))
    pixels: Any = DeformableConfig(layers=1, heads=2, points=2, feedforward=16, groups=4)
    if isinstance(config.pixel_decoder, FeaturePyramidConfig):
        pixels = FeaturePyramidConfig(fine_width=8, groups=4)
    vision: Any = TINY_SWIN
    if isinstance(config.vision, ResNetConfig):
        vision = replace(TINY_RESNET, norm=config.vision.norm)
    return replace(
        config,
        input=InputConfig(size=64),
        vision=vision,
        text=TINY_WORDS if isinstance(config.text, WordTransformerConfig) else TINY_BERT,
        pixel_decoder=pixels,
        width=16,
        regions=regions or 3,
        relation=relation,
    )


def tiny_lavt(config: LAVTConfig) -> LAVTConfig:
    return replace(
        config,
        input=InputConfig(size=64),
        vision=SwinConfig(embed_dim=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=4, drop_path=0.1),
        text=replace(TINY_WORDS, dropout=0.0),
        width=8,
        groups=2,
    )


def tiny_m3att(config: M3AttConfig) -> M3AttConfig:
    swin = SwinConfig(embed_dim=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=3, drop_path=0.1)
    attention = config.decoder.attention
    return replace(
        config,
        input=replace(config.input, size=64),
        vision=_vision(config.vision, swin),
        text=_text(config.text, hidden=12),
        width=16,
        heads=2,
        feedforward=16,
        decoder=replace(config.decoder, attention=replace(attention, heads=min(attention.heads, 2))),
        mask_decoder=replace(config.mask_decoder, width=8),
    )


def tiny_isfp(config: ISFPConfig) -> ISFPConfig:
    """Refined at every step."""
    return replace(
        config,
        input=replace(config.input, size=64),
        vision=_vision(config.vision),
        text=_text(config.text),
        width=16,
        grid=3,
        branches=BranchConfig(instance_width=12, segmentation_width=8, layers=2, rates=(1, 2)),
        refinement=replace(config.refinement, width=4),
        losses=replace(config.losses, refine_threshold=-1.0),
    )


def tiny_lts(config: LTSConfig) -> LTSConfig:
    return replace(
        config,
        input=replace(config.input, size=64),
        vision=_vision(config.vision),
        text=_text(config.text),
        width=16,
        locator=replace(config.locator, heads=2, feedforward=16),
        segmentation=SegmentationConfig(width=8, rates=(1, 2), fine_width=4),
    )


def tiny_restr(config: ReSTRConfig) -> ReSTRConfig:
    vision: Any = TINY_RESNET
    if isinstance(config.vision, ViTConfig):
        vision = replace(config.vision, width=16, layers=2, heads=2, feedforward=16, grid=3)
    text: Any = TINY_BERT
    if isinstance(config.text, GloveTransformerConfig):
        text = replace(
            config.text, vocabulary_size=30, max_words=7, width=12, layers=2, heads=2, feedforward=16, dropout=0.1
        )
        if config.text.output_width is not None:
            text = replace(text, output_width=16)
    return replace(
        config,
        input=replace(config.input, size=64, divisor=16),
        vision=vision,
        text=text,
        fusion=replace(config.fusion, width=16, heads=2, feedforward=16),
    )


def tiny_reftr(config: RefTRConfig) -> RefTRConfig:
    text: Any = TINY_WORDS
    if isinstance(config.text, BertTextConfig):
        text = replace(TINY_BERT, pooler=config.text.pooler, family=config.text.family)
    assert isinstance(config.vision, ResNetConfig)
    return replace(
        config,
        input=replace(config.input, size=64, divisor=32),
        vision=replace(TINY_RESNET, widths=(16, 16, 16, 16), stem_width=16, dilated=config.vision.dilated),
        text=text,
        width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=min(config.decoder_layers, 2),
        feedforward=16,
        dropout=0.1,
        text_positions=9,
        groups=4,
        mask_groups=2,
    )


def tiny_cris(config: CRISConfig) -> CRISConfig:
    vision: Any = ClipResNetConfig(width=4, depths=(1, 2, 1, 1), output_width=12, heads=2, grid=3)
    if not isinstance(config.vision, ClipResNetConfig):
        vision = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=4)
    text: Any = ClipTextConfig(
        vocabulary_size=30, max_words=7, width=16, layers=1, heads=2, feedforward=24, positions=9, joint_width=12
    )
    if not isinstance(config.text, ClipTextConfig):
        text = TINY_BERT if isinstance(config.text, BertTextConfig) else replace(TINY_WORDS, width=24, dropout=0.0)
    return replace(
        config,
        input=InputConfig(size=64),
        vision=vision,
        text=text,
        neck=(6, 20) if isinstance(vision, ClipResNetConfig) else (8, 20),
        width=16,
        groups=2,
        decoder=VLDecoderConfig(layers=2, heads=2, feedforward=24),
    )


def tiny_mattnet(config: MAttNetConfig) -> MAttNetConfig:
    text = replace(config.text, vocabulary_size=30, max_words=7, embedding=10, hidden=6)
    return replace(
        config,
        input=replace(config.input, size=64),
        vision=None if config.vision is None else TINY_RESNET,
        detector=DETECTOR,
        text=replace(text, projection=9) if text.projection else text,
        embed_dim=8,
        grid=3,
        fine_masks=False,
    )


def tiny_instances(config: InstancesConfig) -> InstancesConfig:
    """Without MiniLM, which has tests of its own: expressions here hold words of the lists."""
    return replace(config, input=InputConfig(size=64, resize="longest"), detector=DETECTOR, text=None, fine_masks=False)


TINY: dict[str, Callable[[Any], Any]] = {
    "rela": tiny_rela,
    "lavt": tiny_lavt,
    "vlt": tiny_vlt,
    "m3att": tiny_m3att,
    "isfp": tiny_isfp,
    "lts": tiny_lts,
    "restr": tiny_restr,
    "reftr": tiny_reftr,
    "cris": tiny_cris,
    "mattnet": tiny_mattnet,
    "instances": tiny_instances,
}
"""By the system's name. The photograph model has one size alone, in its test."""
