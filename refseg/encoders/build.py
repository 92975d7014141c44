"""The encoders: one table of configuration, module, and reader of published weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from refseg.encoders.text import bert, clip, glove_transformer, recurrent, transformer
from refseg.encoders.text import towers as text_towers
from refseg.encoders.vision import (
    clip_resnet,
    darknet,
    darknet_weights,
    mobilenet,
    nanodet,
    nanodet_weights,
    resnet,
    swin,
    towers,
    video_swin,
    vit,
)
from refseg.errors import ConfigError
from refseg.state_dicts import read_state
from refseg.types import TextEncoder, VisionEncoder

__all__ = ["TEXT", "VISION", "Encoder", "build_text", "build_vision"]


@dataclass(frozen=True)
class Encoder:
    """A kind of encoder: its module, and how published weights of it are read."""

    module: type[nn.Module]
    read: Callable[[Path, Any], dict[str, Tensor]] | None = None
    """(file, encoder) -> the file's tensors under the encoder's names; None where no published weights fit."""
    fresh: tuple[str, ...] = ()
    """How names begin that the files do not hold, such as normalisations of outgoing maps."""
    spare: tuple[str, ...] = ()
    """How names begin that files may hold though the encoder has no place for them."""


VISION: dict[type, Encoder] = {
    swin.SwinConfig: Encoder(
        swin.Swin,
        lambda path, _: swin.from_transformers(read_state(path)),
        fresh=("norm0.", "norm1.", "norm2.", "norm3."),
    ),
    video_swin.VideoSwinConfig: Encoder(
        video_swin.VideoSwin, video_swin.read_video_swin, fresh=("norm0.", "norm1.", "norm2.", "norm3.")
    ),
    resnet.ResNetConfig: Encoder(resnet.ResNet, lambda path, _: resnet.from_transformers(read_state(path))),
    clip_resnet.ClipResNetConfig: Encoder(
        clip_resnet.ClipResNet,
        lambda path, _: clip_resnet.from_openai(read_state(path)),
        fresh=("pool.connect.",),
    ),
    vit.ViTConfig: Encoder(vit.ViT, lambda path, _: vit.from_transformers(read_state(path))),
    towers.VisionTowerConfig: Encoder(
        towers.VisionTower,
        lambda path, encoder: towers.from_transformers(read_state(path), encoder),
        fresh=("pyramid.",),
    ),
    darknet.DarkNetConfig: Encoder(darknet.DarkNet, darknet_weights.read_darknet),
    nanodet.ShuffleNetConfig: Encoder(
        nanodet.ShuffleNet, lambda path, encoder: nanodet_weights.encoder_from_state(read_state(path), encoder)
    ),
    mobilenet.MobileNetConfig: Encoder(
        mobilenet.MobileNet, lambda path, encoder: mobilenet.from_execution_order(read_state(path), encoder.config)
    ),
}
TEXT: dict[type, Encoder] = {
    bert.BertTextConfig: Encoder(
        bert.Bert, lambda path, _: bert.from_transformers(read_state(path)), spare=("bert.pooler.",)
    ),
    text_towers.TextTowerConfig: Encoder(
        text_towers.TextTower, lambda path, encoder: text_towers.from_transformers(read_state(path), encoder)
    ),
    clip.ClipTextConfig: Encoder(clip.ClipText, lambda path, encoder: clip.from_openai(read_state(path), encoder)),
    transformer.WordTransformerConfig: Encoder(transformer.WordTransformer),
    glove_transformer.GloveTransformerConfig: Encoder(glove_transformer.GloveTransformer),
    recurrent.RecurrentTextConfig: Encoder(recurrent.RecurrentText),
}


def build_vision(config: object) -> VisionEncoder:
    """The vision encoder of a configuration, a `torch.nn.Module`. Raises `ConfigError` for other objects."""
    return cast(VisionEncoder, _build(VISION, config, "vision"))


def build_text(config: object) -> TextEncoder:
    """The text encoder of a configuration, a `torch.nn.Module`. Raises `ConfigError` for other objects."""
    return cast(TextEncoder, _build(TEXT, config, "text"))


def _build(table: dict[type, Encoder], config: object, room: str) -> nn.Module:
    if type(config) not in table:
        known = ", ".join(kind.__name__ for kind in table)
        raise ConfigError(f"{room}: {type(config).__name__} is no configuration of an encoder; known are {known}")
    return table[type(config)].module(config)
