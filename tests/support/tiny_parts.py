"""Encoders of a few channels, and small models, that the tests of several systems build on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.recurrent import RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DarkNetConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig
from refseg.encoders.vision.video_swin import VideoSwinConfig
from refseg.models.vlt.config import ConvolutionsConfig, MaskDecoderConfig, TransformerConfig, VLTConfig

TINY_RESNET = ResNetConfig(
    block="basic", widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), stem="conv3", stem_width=8, norm="group", norm_groups=2
)
TINY_DARKNET = DarkNetConfig(widths=(4, 8, 8, 8, 16, 16), depths=(1, 1, 1, 1, 1), freeze="none")
TINY_SWIN = SwinConfig(embed_dim=8, depths=(2, 1, 1, 1), heads=(1, 2, 2, 4), window=4, drop_path=0.3)
TINY_BERT = BertTextConfig(
    vocabulary_size=30, max_words=7, width=16, layers=1, heads=2, feedforward=16, positions=9, dropout=0.1
)
TINY_WORDS = WordTransformerConfig(
    vocabulary_size=30, max_words=7, width=16, layers=1, heads=2, feedforward=16, dropout=0.1
)


def tiny_vlt(config: VLTConfig) -> VLTConfig:
    """The same VLT at a size that runs in milliseconds; everything is trained."""
    vision: Any = TINY_RESNET
    if isinstance(config.vision, DarkNetConfig):
        vision = DarkNetConfig(widths=(4, 4, 8, 8, 12, 16), depths=(1, 1, 1, 1, 1), freeze="none")
    elif isinstance(config.vision, SwinConfig):
        vision = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window=3, drop_path=0.1)
    elif isinstance(config.vision, VideoSwinConfig):
        sizes = {"embed_dim": 8, "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
        vision = VideoSwinConfig(**sizes, frames=2, window=3, drop_path=0.1)  # type: ignore[arg-type]
    text: Any = BertTextConfig(
        vocabulary_size=30, max_words=7, width=16, layers=1, heads=2, feedforward=16, positions=9, dropout=0.1
    )
    if isinstance(config.text, RecurrentTextConfig):
        text = replace(config.text, vocabulary_size=30, max_words=7, embedding=8, hidden=12, train_embedding=True)
    transformer: Any = ConvolutionsConfig(depth=7, hidden=12)
    if isinstance(config.transformer, TransformerConfig):
        transformer = replace(config.transformer, heads=2, head_width=8, feedforward=16)
    decoder: Any = config.mask_decoder
    if isinstance(decoder, MaskDecoderConfig):
        decoder = replace(decoder, channels=8)
    return replace(
        config,
        input=replace(config.input, size=64),
        vision=vision,
        text=text,
        width=16,
        regions=3,
        queries=replace(
            config.queries,
            number=min(config.queries.number, 4),
            heads=2,
            channels=None if config.queries.channels is None else (8, 6),
        ),
        transformer=transformer,
        mask_decoder=decoder,
    )
