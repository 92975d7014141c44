"""Whether the encoders of a run begin with weights that somebody trained, where the run counts on it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from refseg.encoders.text.bert import Bert
from refseg.encoders.text.clip import ClipText
from refseg.encoders.text.towers import TextTower
from refseg.encoders.vision.clip_resnet import CLIP_R50, CLIP_R101, ClipResNet
from refseg.encoders.vision.resnet import RESNET18, RESNET50, RESNET101, ResNet
from refseg.encoders.vision.swin import SWIN_B, SWIN_T, Swin
from refseg.encoders.vision.towers import VisionTower
from refseg.encoders.vision.video_swin import VIDEO_SWIN_B, VIDEO_SWIN_T, VideoSwin
from refseg.encoders.vision.vit import VIT_B16, ViT
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
        encoder = getattr(model, part, None)
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


def _published(encoder: Any) -> str | None:
    """The hub id of published weights that fit an encoder; None where there are none of its size."""
    own = encoder.config
    same: tuple[str, ...]
    if isinstance(encoder, ClipText):
        return _CLIPS.get(own.joint_width) if (own.width, own.layers) == (512, 12) else None
    if isinstance(encoder, ClipResNet):
        return next((_CLIPS[size.output_width] for size in (CLIP_R50, CLIP_R101) if own == size), None)
    if isinstance(encoder, (VisionTower, TextTower)):
        # Larger ones are as well known; the smallest stands for them.
        return _TOWERS[own.family]
    if isinstance(encoder, ResNet):
        same = ("block", "widths", "depths", "stem", "stem_width")
        return next((name for size, name in _RESNETS if all(getattr(own, f) == getattr(size, f) for f in same)), None)
    if isinstance(encoder, Swin):
        same = ("embed_dim", "depths", "heads", "window")
        return next((name for size, name in _SWINS if all(getattr(own, f) == getattr(size, f) for f in same)), None)
    if isinstance(encoder, VideoSwin):
        same = ("embed_dim", "depths", "heads")
        return next(
            (name for size, name in _VIDEO_SWINS if all(getattr(own, f) == getattr(size, f) for f in same)), None
        )
    if isinstance(encoder, ViT):
        same = ("patch", "width", "layers", "feedforward")
        return _VITS.get(own.grid) if all(getattr(own, f) == getattr(VIT_B16, f) for f in same) else None
    return _BERTS[own.family] if (own.width, own.layers, own.feedforward) == (768, 12, 3072) else None
