r"""The photograph model, ours: ReLA's regions on a detector that knows what things are called.

    image -> ShuffleNet, ghost pyramid, head -> feature pyramid F_m, levels -> RIA -> F'_r -.
      |                            `-> classes -.           `-> tags -.                      > PhotoDecoder -> answers
      `-> colours at stride 8 -------------------'--------------------'---------------------'
    expression -> words, sentence, shares in concepts -----------------------------------'

Liu, Ding, Jiang (CVPR 2023) have the regions; concepts, colours, tags and the dynamic mask head are not theirs.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.transformer import WordTransformer
from refseg.encoders.vision.shufflenet import ShuffleNet
from refseg.models.photo.concepts import CLASSES
from refseg.models.photo.config import PhotoConfig
from refseg.models.photo.decoder import PhotoDecoder, PhotoState
from refseg.models.photo.matching import color_maps
from refseg.models.rela.model import build_pixel_decoder, output_of, region_losses
from refseg.models.rela.regions import region_maps
from refseg.nn.heads import tag_head
from refseg.nn.pyramid import DeformablePyramid, FeaturePyramid
from refseg.types import Batch, Output, Targets, TextFeatures, Tokens, VisualFeatures

__all__ = ["Photo", "build_photo", "class_probabilities"]


class Photo(nn.Module):
    """The model; `build_photo` wires its parts."""

    late_fusion = True

    def __init__(
        self,
        config: PhotoConfig,
        vision: ShuffleNet,
        text: WordTransformer,
        pixel_decoder: DeformablePyramid | FeaturePyramid,
        relation: PhotoDecoder,
    ) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision, self.text, self.pixel_decoder, self.relation = vision, text, pixel_decoder, relation
        self.tags = tag_head(config.width, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4, a no-target logit, and what `refseg.models.rela.model.output_of` adds."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """Words, sentences, and their shares in concepts."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> PhotoState:
        """What no expression changes."""
        config = self.config
        maps = self.vision(images)
        mean, std = (images.new_tensor(part).view(3, 1, 1) for part in (config.input.mean, config.input.std))
        colors = color_maps(images * std + mean)
        pyramid = self.pixel_decoder(maps)
        assert config.vision.pyramid is not None
        classes = class_probabilities(maps, config.vision.pyramid, len(CLASSES))
        tag_logits = None if self.tags is None else self.tags(pyramid.mask_features)
        if tag_logits is not None:
            # Answers do not teach the tags: they learn where they hold and nothing else.
            known = F.adaptive_avg_pool2d(tag_logits.detach().sigmoid(), (classes.shape[2], classes.shape[3]))
            classes = torch.cat([classes, known.to(classes.dtype)], dim=1)
        return self.relation.encode(pyramid, pixel_mask, classes, colors)._replace(tag_logits=tag_logits)

    def decode(self, state: PhotoState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        answers = self.relation.decode(state, text, image_index)
        maps = region_maps(answers, state.mask_features, image_index, self.config.mask_scale)
        return output_of(answers, state.tag_logits, maps)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """ReLA's."""
        return region_losses(output, targets, self.config.losses, self.config.regions)


def class_probabilities(maps: VisualFeatures, first: int, number: int) -> Float[Tensor, "N K u v"]:
    """A detector's class probabilities at stride 8, the largest of strides 8, 16 and 32; their logits are the `number`
    channels of `maps` from `first`."""
    levels = [maps[stride][:, first : first + number].sigmoid() for stride in (8, 16, 32)]
    size = (levels[0].shape[2], levels[0].shape[3])
    return torch.stack([levels[0], *(F.interpolate(level, size=size) for level in levels[1:])]).amax(dim=0)


def build_photo(config: PhotoConfig) -> Photo:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision, text = ShuffleNet(config.vision), WordTransformer(config.text)
    pixel_decoder = build_pixel_decoder(config.pixel_decoder, vision.channels, config.width)
    return Photo(config, vision, text, pixel_decoder, PhotoDecoder(config))
