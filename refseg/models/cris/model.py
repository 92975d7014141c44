r"""CRIS: CLIP's encoders, a decoder in which pixels read words, and an expression that becomes the kernel of its mask.

Wang, Lu, Li, Tao, Guo, Gong, Liu: CRIS: CLIP-Driven Referring Image Segmentation, CVPR 2022. What is computed is that
of the published code (DerrickWang005/CRIS.pytorch at 664b984, model/).

    image -> CLIP ResNet -> F_v2 (1/8), F_v3 (1/16), F_v4 (1/32) -.
    expression -> CLIP text transformer -> sentence F_s -> neck --+--> F_v (1/16) --> decoder x n --> F_c (1/16)
                                    \--> words F_t ------------------------------------^               |
                                     F_s -> kernel and bias z_t ---> correlation <--- z_v (1/4) <-- x4 '
                                                                         '--> mask logits

Ours <-> the paper: `Neck` the cross-modal neck, `VLDecoder` the vision-language decoder, `Projector` both projectors.
GRES (Liu, Ding, Jiang, CVPR 2023) trains it on gRefCOCO with Swin-B and BERT (its table 5): preset GRES.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.encoders.text.clip import ClipText
from refseg.models.cris.config import CRISConfig
from refseg.models.cris.parts import Neck, Projector, VLDecoder
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import shared_losses
from refseg.types import Batch, Output, Targets, TextEncoder, TextFeatures, Tokens, VisionEncoder, VisualFeatures

__all__ = ["CRIS", "CRISState", "build_cris"]


class CRISState(NamedTuple):
    """What no expression changes of N images."""

    maps: VisualFeatures
    """Of `Neck.pictures`, by the stride of the encoder's map."""
    pixel_mask: Bool[Tensor, "N H W"]
    tags: Float[Tensor, "N t h w"] | None


class CRIS(nn.Module):
    """The model; `build_cris` wires its parts."""

    late_fusion = True

    def __init__(self, config: CRISConfig, vision: VisionEncoder, text: TextEncoder) -> None:
        super().__init__()
        self.config, self.needs, self.vision, self.text = config, config.needs, vision, text
        sentence = text.joint_width if isinstance(text, ClipText) else text.width
        self.words = nn.Linear(text.width, config.width) if text.width != config.width else None
        self.neck = Neck(config, vision.channels, sentence)
        self.decoder = VLDecoder(config)
        self.projector = Projector(config, sentence)
        self.no_target = NoTargetHead(config.width) if config.no_target_head else None
        self.tags = tag_head(vision.channels[8], config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4, and `auxiliary`: where they exist `tag_logits` (N, t, h, w) of the images."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> CRISState:
        """The encoder's maps, projected; sides that 32 does not divide are padded with zeros."""
        maps = self.vision(F.pad(images, (0, -images.shape[3] % 32, 0, -images.shape[2] % 32)))
        return CRISState(self.neck.pictures(maps), pixel_mask, None if self.tags is None else self.tags(maps[8]))

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """F_t, one vector a word, and F_s, one a sentence."""
        return self.text(tokens)

    def decode(self, state: CRISState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers; expression b asks about image `image_index[b]`, None means one to one."""
        fused = self.neck(state.maps, text.sentence, image_index)
        words = text.words if self.words is None else self.words(text.words)
        decoded = self.decoder(fused, words, text.mask)
        height, width = (-(-side // 4) for side in state.pixel_mask.shape[1:])
        logits = self.projector(decoded, text.sentence)[:, :height, :width]
        auxiliary: dict[str, Any] = {} if state.tags is None else {"tag_logits": state.tags}
        no_target = None
        if self.no_target is not None:
            masks = state.pixel_mask if image_index is None else state.pixel_mask[image_index]
            masks = F.pad(masks, (0, -masks.shape[2] % 32, 0, -masks.shape[1] % 32))
            real = F.max_pool2d(masks[:, None].float(), 16)[:, 0].bool()
            no_target = self.no_target(decoded.flatten(2).transpose(1, 2), real.flatten(1))
        return Output(logits, no_target, auxiliary=auxiliary)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Text-to-pixel contrast: a pixel of the target answers its expression with log sigmoid(z_t z_v), any other
        with log sigmoid(-z_t z_v); the mean over all, at the logits' size, of masks resized to the nearest pixel."""
        config = self.config.losses
        size = output.mask_logits.shape[1:]
        masks = F.interpolate(targets.masks[:, None].float(), size=size, mode="nearest")[:, 0]
        contrast = F.binary_cross_entropy_with_logits(output.mask_logits, masks)
        parts = {"contrast": config.contrast * contrast}
        return parts | shared_losses(config, output, targets, output.mask_logits, masks)


def build_cris(config: CRISConfig) -> CRIS:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    return CRIS(config, build_vision(config.vision), build_text(config.text))
