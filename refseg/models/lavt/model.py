r"""LAVT: words enter the image encoder after every stage, and a plain decoder reads the mask off its maps.

Yang, Wang, Tang, Chen, Zhao, Torr: LAVT: Language-Aware Vision Transformer for Referring Image Segmentation, CVPR 2022.

    expression -> text L -------.-----------.-----------.-----------.
                                v           v           v           v
    image   -> Swin stage 1 -> PWAM -> 2 -> PWAM -> 3 -> PWAM -> 4 -> PWAM
                                |F_1        |F_2        |F_3        |F_4
    mask <- linear <- conv <- x2 [;] <- conv x2 [;] <- conv x2 [;] <'

Ours <-> the paper: `LanguageStages` the pixel-word attention modules and language pathways (in
`refseg.nn.pixel_word`), `maps` F_i, `PlainDecoder` the Y_i of section 3.4. GRES (Liu, Ding, Jiang, CVPR 2023)
trains it on gRefCOCO and puts ReLA's relation block in the decoder's place (its table 5): ReLA's preset LAVT_RELA.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text
from refseg.encoders.vision.swin import Swin
from refseg.errors import RefsegError
from refseg.models.lavt.config import LAVTConfig
from refseg.nn.conv import ConvNorm, channels_last
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import shared_losses, weighted_cross_entropy
from refseg.nn.pixel_word import LanguageStages
from refseg.types import Batch, Output, Targets, TextEncoder, TextFeatures, Tokens, VisualFeatures

__all__ = ["LAVT", "LAVTState", "PlainDecoder", "build_lavt"]


class LAVTState(NamedTuple):
    """Images that have read their expressions, one each."""

    maps: VisualFeatures
    """F_1 to F_4 by stride."""
    pixel_mask: Bool[Tensor, "B H W"]


class PlainDecoder(nn.Module):
    """Y_4 = F_4, Y_i = convolutions of [Y_{i+1} enlarged ; F_i] (section 3.4); and a linear map to two classes."""

    def __init__(self, config: LAVTConfig, channels: dict[int, int]) -> None:
        super().__init__()
        above, blocks = channels[32], []
        for stride in (16, 8, 4):
            first = ConvNorm(above + channels[stride], config.width, 3, config.norm, groups=config.groups)
            second = ConvNorm(config.width, config.width, 3, config.norm, groups=config.groups)
            blocks.append(nn.Sequential(first, second))
            above = config.width
        self.blocks = nn.ModuleList(blocks)
        self.classes = nn.Conv2d(config.width, 2, kernel_size=1)

    def forward(self, maps: VisualFeatures) -> tuple[Float[Tensor, "B 2 h w"], Float[Tensor, "B C h w"]]:
        """Background's and foreground's logit at stride 4, and the map that they are read off."""
        above = channels_last(maps[32])
        for stride, block in zip((16, 8, 4), self.blocks, strict=True):
            size = maps[stride].shape[-2:]
            above = F.interpolate(above, size=size, mode="bilinear", align_corners=True)
            above = block(torch.cat([above, maps[stride]], dim=1))
        return self.classes(above), above


class LAVT(nn.Module):
    """The model; `build_lavt` wires its parts."""

    late_fusion = False

    def __init__(self, config: LAVTConfig, vision: Swin, text: TextEncoder) -> None:
        super().__init__()
        self.config, self.needs, self.vision, self.text = config, config.needs, vision, text
        self.language_stages = LanguageStages(vision.channels, text.width)
        self.pixel_decoder = PlainDecoder(config, vision.channels)
        self.no_target = NoTargetHead(vision.channels[32]) if config.no_target_head else None
        self.tags = tag_head(config.width, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4, and `auxiliary`: `mask_pairs` (B, 2, h, w) background's and foreground's logit, and
        where they exist `tag_logits` (N, t, h, w), the mean over an image's expressions."""
        text = self.encode_text(batch.tokens)
        maps = self.language_stages.encode(self.vision, batch.images, text, batch.image_index)
        masks = batch.pixel_mask if batch.image_index is None else batch.pixel_mask[batch.image_index]
        output = self.decode(LAVTState(maps, masks), text)
        if self.tags is not None and batch.image_index is not None:
            tags = _of_images(output.auxiliary["tag_logits"], batch.image_index, len(batch.images))
            output.auxiliary["tag_logits"] = tags
        return output

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """L: one vector a word."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> LAVTState:
        """Raises `RefsegError`: words enter the image encoder, so an image has no state without its expression."""
        raise RefsegError("LAVT reads the expression inside its picture encoder: call it with both")

    def decode(self, state: LAVTState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers; expression b belongs to entry b of the state, `image_index` must be None."""
        if image_index is not None:
            raise RefsegError("LAVT reads the expression inside its picture encoder: each wants its own maps")
        pairs, finest = self.pixel_decoder(state.maps)
        auxiliary: dict[str, Any] = {"mask_pairs": pairs}
        if self.tags is not None:
            auxiliary["tag_logits"] = self.tags(finest)
        no_target = None
        if self.no_target is not None:
            last = state.maps[32]
            real = F.interpolate(state.pixel_mask[:, None].float(), size=last.shape[-2:])[:, 0].bool()
            no_target = self.no_target(last.flatten(2).transpose(1, 2), real.flatten(1))
        return Output(pairs[:, 1] - pairs[:, 0], no_target, auxiliary=auxiliary)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Weighted cross entropy at the input's size (section 3.5), and what the configuration adds."""
        config = self.config.losses
        masks = targets.masks.float()
        size = (masks.shape[1], masks.shape[2])
        logits = F.interpolate(output.mask_logits[:, None], size=size, mode="bilinear", align_corners=True)[:, 0]
        parts = {"mask": config.mask * weighted_cross_entropy(logits, masks, config.background, config.foreground)}
        return parts | shared_losses(config, output, targets, logits, masks)


def _of_images(
    logits: Float[Tensor, "B t h w"], image_index: Int[Tensor, " B"], count: int
) -> Float[Tensor, "N t h w"]:
    """Means over each image's expressions."""
    sums = logits.new_zeros(count, *logits.shape[1:]).index_add(0, image_index, logits)
    return sums / torch.bincount(image_index, minlength=count).clamp(min=1)[:, None, None, None]


def build_lavt(config: LAVTConfig) -> LAVT:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    return LAVT(config, Swin(config.vision), build_text(config.text))
