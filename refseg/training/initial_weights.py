"""Whether the encoders of a run begin with weights that somebody trained, where the run counts on it."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from refseg.encoders.text.bert import Bert
from refseg.encoders.text.clip import ClipText
from refseg.encoders.text.towers import TextTower
from refseg.encoders.vision.clip_resnet import CLIP_R50, CLIP_R101, ClipResNet
from refseg.encoders.vision.resnet import RESNET18, RESNET50, RESNET101, ResNet, ResNetConfig
from refseg.encoders.vision.swin import SWIN_B, SWIN_T, Swin, SwinConfig
from refseg.encoders.vision.towers import VisionTower
from refseg.encoders.vision.video_swin import VIDEO_SWIN_B, VIDEO_SWIN_T, VideoSwin, VideoSwinConfig
from refseg.encoders.vision.vit import VIT_B16, ViT, ViTConfig
from refseg.errors import ConfigError
from refseg.nn.conv import FrozenBatchNorm
from refseg.training.recipe import Recipe

__all__ = ["NOTHING", "check_initial_weights"]

NOTHING = "none"
"""In `pretrained.vision` or `pretrained.text`: the encoder is to learn from nothing."""

_RESNETS = ((RESNET18, "microsoft/resnet-18"), (RESNET50, "microsoft/resnet-50"), (RESNET101, "microsoft/resnet-101"))
_SWINS = (
    (SWIN_T, "microsoft/swin-tiny-patch4-window7-224"),
    (SWIN_B, "microsoft/swin-base-patch4-window12-384-in22k"),
)
_VIDEO_SWINS = (
    (VIDEO_SWIN_T, "swin_tiny_patch244_window877_kinetics400_1k.pth"),
    (VIDEO_SWIN_B, "swin_base_patch244_window877_kinetics600_22k.pth"),
)
"""Files of the authors' release; the encoder reads an image Swin's weights, too."""
_VITS = {14: "google/vit-base-patch16-224-in21k", 24: "google/vit-base-patch16-384"}
_TOWERS = {
    "clip": "openai/clip-vit-base-patch16",
    "siglip": "google/siglip-base-patch16-512",
    "dinov2": "facebook/dinov2-base",
    "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m",
}
_CLIPS = {1024: "RN50.pth", 512: "RN101.pth"}
"""State dicts of OpenAI's files, both encoders in one, by the channels of the space that they share."""
_BERTS = {"bert": "google-bert/bert-base-uncased", "roberta": "FacebookAI/roberta-base"}


_KNOWN = (Bert, ClipResNet, ResNet, Swin, VideoSwin, ViT, VisionTower, TextTower)


def check_initial_weights(model: nn.Module, recipe: Recipe) -> None:
    """Raises `ConfigError`, with what to add to the command, for a BERT, Swin, ResNet or ViT that the recipe gives no
    weights though something in it is never trained (parameters that the recipe freezes, normalisations with fixed
    statistics), or though it has the size of published weights, which no run on this task's data makes up for.

    `pretrained.vision` or `pretrained.text` "none" allows the second; the first stays an error.
    """
    if recipe.pretrained.model is not None:
        return
    for part, given in (("vision", recipe.pretrained.vision), ("text", recipe.pretrained.text)):
        encoder = dict(model.named_children()).get(part)
        if not isinstance(encoder, _KNOWN) or given not in (None, NOTHING):
            continue
        published, kind = _published(encoder), type(encoder).__name__
        remedy = f"add pretrained.{part}={published or 'FILE'} to the command (a hub id, a folder or a file)"
        fixed = _fixed(encoder, part, recipe)
        if fixed:
            raise ConfigError(f"pretrained.{part}: {fixed} of {kind} would keep random weights for good; {remedy}")
        if published and given is None:
            raise ConfigError(
                f"pretrained.{part}: the model's {kind} would begin with random weights; {remedy}, or "
                f"pretrained.{part}={NOTHING} to have it learn from nothing"
            )


def _fixed(encoder: nn.Module, part: str, recipe: Recipe) -> str:
    """What of an encoder is never trained, in words; empty where all of it is."""
    if any(isinstance(module, FrozenBatchNorm) for module in encoder.modules()):
        return "the fixed normalisations"
    if isinstance(encoder, (VisionTower, TextTower)) and encoder.config.freeze:
        return "the frozen tower"
    for name, _ in encoder.named_parameters():
        full = f"{part}.{name}"
        rule = next((r for r in recipe.optimizer.groups if any(fnmatchcase(full, p) for p in r.names)), None)
        if rule is not None and not rule.train:
            return f"what optimizer.groups freezes ({', '.join(rule.names)})"
    return ""


def _published(encoder: nn.Module) -> str | None:
    """The hub id of published weights that fit an encoder; None where there are none of its size."""
    if isinstance(encoder, ClipText):
        text = encoder.config
        return _CLIPS.get(text.joint_width) if (text.width, text.layers) == (512, 12) else None
    if isinstance(encoder, ClipResNet):
        return next((_CLIPS[size.output_width] for size in (CLIP_R50, CLIP_R101) if encoder.config == size), None)
    if isinstance(encoder, (VisionTower, TextTower)):
        # Larger ones are as well known; the smallest stands for them.
        return _TOWERS[encoder.config.family]
    if isinstance(encoder, ResNet):
        return next((name for size, name in _RESNETS if _resnet_size(size) == _resnet_size(encoder.config)), None)
    if isinstance(encoder, Swin):
        return next((name for size, name in _SWINS if _swin_size(size) == _swin_size(encoder.config)), None)
    if isinstance(encoder, VideoSwin):
        return next((name for size, name in _VIDEO_SWINS if _clip_size(size) == _clip_size(encoder.config)), None)
    if isinstance(encoder, ViT):
        return _VITS.get(encoder.config.grid) if _vit_size(encoder.config) == _vit_size(VIT_B16) else None
    if isinstance(encoder, Bert):
        bert = encoder.config
        return _BERTS[bert.family] if (bert.width, bert.layers, bert.feedforward) == (768, 12, 3072) else None
    return None


def _resnet_size(config: ResNetConfig) -> tuple[object, ...]:
    return config.block, config.widths, config.depths, config.stem, config.stem_width


def _swin_size(config: SwinConfig) -> tuple[object, ...]:
    return config.embed_dim, config.depths, config.heads, config.window


def _clip_size(config: VideoSwinConfig) -> tuple[object, ...]:
    return config.embed_dim, config.depths, config.heads


def _vit_size(config: ViTConfig) -> tuple[object, ...]:
    return config.patch, config.width, config.layers, config.feedforward
