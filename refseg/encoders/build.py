"""Encoders from their configurations: the one place that knows which class belongs to which dataclass."""

from __future__ import annotations

from torch import nn

from refseg.encoders.text.bert import Bert, BertTextConfig
from refseg.encoders.text.glove_transformer import GloveTransformer, GloveTransformerConfig
from refseg.encoders.text.recurrent import RecurrentText, RecurrentTextConfig
from refseg.encoders.text.transformer import WordTransformer, WordTransformerConfig
from refseg.encoders.vision.darknet import DarkNet, DarkNetConfig
from refseg.encoders.vision.mobilenet import MobileNet, MobileNetConfig
from refseg.encoders.vision.resnet import ResNet, ResNetConfig
from refseg.encoders.vision.shufflenet import ShuffleNet, ShuffleNetConfig
from refseg.encoders.vision.swin import Swin, SwinConfig
from refseg.encoders.vision.vit import ViT, ViTConfig
from refseg.errors import ConfigError

__all__ = ["build_text", "build_vision"]

_VISION: dict[type, type[nn.Module]] = {
    SwinConfig: Swin,
    ResNetConfig: ResNet,
    ViTConfig: ViT,
    DarkNetConfig: DarkNet,
    ShuffleNetConfig: ShuffleNet,
    MobileNetConfig: MobileNet,
}
_TEXT: dict[type, type[nn.Module]] = {
    BertTextConfig: Bert,
    WordTransformerConfig: WordTransformer,
    GloveTransformerConfig: GloveTransformer,
    RecurrentTextConfig: RecurrentText,
}


def build_vision(config: object) -> nn.Module:
    """The vision encoder of a configuration: `channels` {stride: C}, and `forward(images)` -> {stride: "B C h w"}."""
    return _build(_VISION, config, "vision")


def build_text(config: object) -> nn.Module:
    """The text encoder of a configuration: `width`, and `forward(tokens)` -> `TextFeatures`."""
    return _build(_TEXT, config, "text")


def _build(table: dict[type, type[nn.Module]], config: object, room: str) -> nn.Module:
    if type(config) not in table:
        known = ", ".join(kind.__name__ for kind in table)
        raise ConfigError(f"{room}: {type(config).__name__} is no configuration of an encoder; known are {known}")
    return table[type(config)](config)
