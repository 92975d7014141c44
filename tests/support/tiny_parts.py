"""Encoders of a few channels that the tests of several systems build their small models from."""

from __future__ import annotations

from refseg.encoders.text.bert import BertTextConfig
from refseg.encoders.text.transformer import WordTransformerConfig
from refseg.encoders.vision.darknet import DarkNetConfig
from refseg.encoders.vision.resnet import ResNetConfig
from refseg.encoders.vision.swin import SwinConfig

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
