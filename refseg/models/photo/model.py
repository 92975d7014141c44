r"""The photograph model, ours: ReLA's regions on a detector that knows what things are called.

    image -> ShuffleNet, ghost pyramid, head -> feature pyramid F_m, levels -> RIA -> F'_r -.
      |                            `-> classes -.           `-> tags -.                      > PhotoDecoder -> answers
      `-> colours at stride 8 -------------------'--------------------'---------------------'
    expression -> words, sentence, shares in concepts -----------------------------------'

`PhotoDecoder` is ReLA's block with similarities of concepts:

    classes, tags x expression's shares -> class similarity -.-> features of each region -> + F'_r -> RLA -> F_r
    colours       x expression's shares -> colour similarity -'-----------------------------.               |
    M = <sum_n x_n F_f^n + sentence, F_m> + minimap + class similarity + colour similarity + dynamic mask head

Liu, Ding, Jiang (CVPR 2023) have the regions; concepts, colours, tags and the dynamic mask head are not theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.transformer import WordTransformer
from refseg.encoders.vision.nanodet import ShuffleNet
from refseg.models.photo.concepts import CLASSES
from refseg.models.photo.config import PhotoConfig
from refseg.models.photo.matching import FEATURES, BestRegion, DynamicMaskHead, region_features
from refseg.models.rela.model import build_pixel_decoder, region_losses
from refseg.models.rela.regions import (
    RegionImageAttention,
    RegionOutput,
    RegionPrediction,
    output_of,
    region_maps,
)
from refseg.models.rela.relations import StackedRLA
from refseg.nn.attention import MLP
from refseg.nn.color_maps import color_maps
from refseg.nn.conv import masks_of
from refseg.nn.heads import tag_head
from refseg.nn.pyramid import DeformablePyramid, FeaturePyramid, PyramidFeatures
from refseg.types import Batch, Output, Targets, TextFeatures, Tokens, VisualFeatures

__all__ = ["Photo", "PhotoDecoder", "PhotoState", "build_photo", "class_probabilities"]


class PhotoState(NamedTuple):
    """What is kept of N images for all their expressions; maps of concepts have stride 8."""

    regions: Float[Tensor, "N R C"]
    """F'_r."""
    mask_features: Float[Tensor, "N C h w"]
    """F_m."""
    classes: Float[Tensor, "N K u v"]
    """Probabilities of classes and tags."""
    colors: Float[Tensor, "N D u v"]
    """Shares of the names of colours."""
    tag_logits: Float[Tensor, "N T h w"] | None = None


class PhotoDecoder(nn.Module):
    """Regions, their relations, and mask, minimap and no-target logit. All additions to ReLA start without effect."""

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__()
        self.config, self.grid = config, config.regions
        width, text_width = config.width, config.text.width + config.text.concepts
        self.ria = RegionImageAttention(config.ria, config.regions, width)
        self.words = nn.Linear(text_width, width)
        self.rla = StackedRLA(config.rla, width)
        self.filter = MLP(width, width, config.filter_layers)
        self.sentence = _zero_linear(text_width, width)
        self.match = nn.Linear(FEATURES, width)
        self.match_weights = _zero_linear(text_width, FEATURES)
        self.class_scale = nn.Parameter(torch.zeros(1))
        self.color_scale = nn.Parameter(torch.zeros(1))
        self.mask_head = DynamicMaskHead(config.mask_units, width, text_width, maps=3)
        self.minimap = nn.Linear(width, 1)
        self.no_target = MLP(width, 1, config.no_target_layers)
        self.best_region = BestRegion(width, FEATURES)

    def encode(
        self,
        pyramid: PyramidFeatures,
        pixel_mask: Bool[Tensor, "N H W"],
        classes: Float[Tensor, "N K u v"],
        colors: Float[Tensor, "N D u v"],
    ) -> PhotoState:
        """What does not depend on the expression."""
        return PhotoState(self.ria(pyramid.levels[2], pixel_mask), pyramid.mask_features, classes, colors)

    def similarity(
        self, state: PhotoState, text: TextFeatures, image_index: Int[Tensor, " B"] | None
    ) -> tuple[Float[Tensor, "B u v"], Float[Tensor, "B u v"]]:
        """How well each place fits the classes and tags, and the colours, that an expression names: the sum over
        concepts of the expression's share times the image's probability."""
        assert text.concepts is not None
        number = state.classes.shape[1]
        classes, colors = text.concepts[:, None, :number], text.concepts[:, None, number:]
        return (
            masks_of(classes, state.classes, image_index)[:, 0],
            masks_of(colors, state.colors, image_index)[:, 0],
        )

    def decode(self, state: PhotoState, text: TextFeatures, image_index: Int[Tensor, " B"] | None) -> RegionOutput:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        assert text.concepts is not None
        assert text.word_concepts is not None
        sentence = torch.cat([text.sentence, text.concepts], dim=-1)
        words = self.words(torch.cat([text.words, text.word_concepts], dim=-1))
        regions = state.regions if image_index is None else state.regions[image_index]
        class_similarity, color_similarity = self.similarity(state, text, image_index)
        features = region_features(class_similarity, color_similarity, self.grid)
        layers, _ = self.rla(regions + self.match(features), words, text.mask)

        directly = torch.einsum("brf,bf->br", features, self.match_weights(sentence))
        minimaps = [self.minimap(related)[..., 0] + directly for related in layers]
        filters = [self.filter(related) for related in layers]
        sums = [torch.einsum("br,brc->bc", m.sigmoid(), f) for m, f in zip(minimaps, filters, strict=True)]
        kernels = torch.stack(sums, dim=1) + self.sentence(sentence)[:, None] / self.config.mask_scale
        masks = masks_of(kernels * self.config.mask_scale, state.mask_features, image_index)

        size = (masks.shape[2], masks.shape[3])
        cells = _enlarged(torch.stack(minimaps, dim=1).unflatten(2, (self.grid, self.grid)), size)
        class_map, color_map = (_enlarged(each[:, None], size) for each in (class_similarity, color_similarity))
        masks = masks + cells + self.class_scale * class_map + self.color_scale * color_map
        maps = torch.cat([class_map, color_map, cells[:, -1:]], dim=1)
        last = self.mask_head(kernels[:, -1], sentence, state.mask_features, maps, image_index)
        masks = torch.cat([masks[:, :-1], masks[:, -1:] + last[:, None]], dim=1)

        predictions = []
        for index, related in enumerate(layers):
            no_target = self.no_target(related.mean(dim=1))[:, 0]
            no_target = no_target + self.best_region(related, minimaps[index], features)
            predictions.append(RegionPrediction(masks[:, index], minimaps[index], no_target))
        return RegionOutput(predictions[-1], filters[-1], predictions[:-1])


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
        """Mask logits at stride 4, a no-target logit, and what `refseg.models.rela.regions.output_of` adds."""
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


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose outputs are 0 at first."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _enlarged(maps: Float[Tensor, "B K u v"], size: tuple[int, int]) -> Float[Tensor, "B K h w"]:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
