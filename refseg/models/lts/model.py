r"""LTS: locate the object by a kernel that the expression makes, then segment with its place as a prior.

Jing, Kong, Wang, Wang, Li, Tan: Locate then Segment: A Strong Pipeline for Referring Image Segmentation, CVPR 2021.

    image   -> F_v1 (1/32) ---- product --> F_m1 -> up -> F_m2 -> up -> F_m3 (1/8) ---.---> segmentation -> P_mask (1/4)
            -> F_v2 (1/16) -------|------------------------'       |                 |         ^
            -> F_v3 (1/8)  -------|--------------------------------'              locator ---- H_mask, the prior
    expression -> f_text ---------'-----------------------------------------------'

Ours <-> the paper: `width` d_k, `visual` g(F_v W_v), `features` F_m3, `response_logits` H_mask before its sigmoid,
`mask_logits` P_mask before its sigmoid. There is no published code; what the paper leaves open is a field of
`config.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.errors import ConfigError
from refseg.models.lts.config import LocatorConfig, LTSConfig
from refseg.nn.aspp import SegmentationModule
from refseg.nn.conv import KERAS_EPS, LEAK, channels_last, masks_of, pointwise
from refseg.nn.detr import DetrDecoderLayer
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import resize_masks, shared_losses
from refseg.nn.maps import pixel_map
from refseg.nn.parts import Part, as_parts, conv_parts, joined, mean_of, rows_of
from refseg.nn.positions import PixelPositions, with_coordinates
from refseg.types import Batch, Output, Targets, TextEncoder, TextFeatures, Tokens, VisionEncoder

__all__ = ["LTS", "FilterResponse", "LTSState", "Locator", "TransformerResponse", "build_lts", "pointed"]

STRIDES = (32, 16, 8)
"""Of F_v1, F_v2 and F_v3."""


class LTSState(NamedTuple):
    """N images, encoded once for all their expressions."""

    visual: tuple[Float[Tensor, "N _ _ _"], ...]
    """g(F_v1 W_v1), g(F_v2 W_v2) and g(F_v3 W_v3)."""
    size: tuple[int, int]
    """Height and width of the input."""
    tag_logits: Float[Tensor, "N t h w"] | None = None


class Activated(nn.Module):
    """g(F W): a linear map of every place's channels, batch normalisation where wanted, leaky rectification."""

    def __init__(self, inputs: int, outputs: int, normalise: bool) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, kernel_size=1, bias=not normalise)
        self.norm = nn.BatchNorm2d(outputs, eps=KERAS_EPS) if normalise else None

    def forward(self, maps: Float[Tensor, "B C h w"] | Sequence[Part]) -> Float[Tensor, "B D h w"]:
        """A map of the same size."""
        if isinstance(maps, Tensor):
            maps = pointwise(self.linear, maps)
        else:
            maps = conv_parts(maps, self.linear.weight, self.linear.bias)
        return F.leaky_relu(maps if self.norm is None else self.norm(maps), LEAK)


class FilterResponse(nn.Module):
    """Relevance filtering (equation 8): a kernel of the expression, or one of each word whose maps a 1x1 convolution
    combines (table 5, after DMN)."""

    def __init__(self, width: int, text_width: int, max_words: int | None) -> None:
        super().__init__()
        self.kernel = nn.Linear(text_width, width, bias=False)
        self.combine = None if max_words is None else nn.Linear(max_words, 1)

    def forward(
        self, features: Float[Tensor, "B C h w"] | Sequence[Part], text: TextFeatures
    ) -> Float[Tensor, "B h w"]:
        """Response logits."""
        features = as_parts(features)
        if self.combine is None:
            return self._products(self.kernel(text.sentence)[:, None], features)[:, 0]
        maps = self._products(self.kernel(text.words), features)
        maps = maps * text.mask[..., None, None].to(maps.dtype)
        length = maps.shape[1]
        return torch.einsum("blhw,l->bhw", maps, self.combine.weight[0, :length]) + self.combine.bias

    @staticmethod
    def _products(kernels: Float[Tensor, "B K C"], features: Sequence[Part]) -> Float[Tensor, "B K h w"]:
        """Inner products of each expression's kernels with its places."""
        own = kernels.split([part.maps.shape[1] for part in features], dim=2)
        maps = [
            Part(masks_of(kernel, part.maps, part.image_index), None, part.times).whole()
            for kernel, part in zip(own, features, strict=True)
        ]
        return torch.stack(maps).sum(dim=0) if len(maps) > 1 else maps[0]


class TransformerResponse(nn.Module):
    """A transformer decoder layer whose queries are all places and whose memory is the expression, and a linear map
    (equation 9). Its softmax over one vector is 1 at every place: cross-attention adds the same to all of them."""

    def __init__(self, config: LocatorConfig, width: int, text_width: int) -> None:
        super().__init__()
        self.project_text = nn.Linear(text_width, width) if text_width != width else nn.Identity()
        self.positions = PixelPositions(width)
        self.layer = DetrDecoderLayer(width, config.heads, config.feedforward, config.dropout)
        self.output = nn.Linear(width, 1)

    def forward(
        self, features: Float[Tensor, "B C h w"] | Sequence[Part], text: TextFeatures
    ) -> Float[Tensor, "B h w"]:
        """Response logits."""
        features = joined(as_parts(features))
        count, _, height, width = features.shape
        places = torch.ones(count, height, width, dtype=torch.bool, device=features.device)
        positions = self.positions(places).flatten(2).transpose(1, 2).to(features.dtype)
        memory = self.project_text(text.sentence)[:, None]
        decoded = self.layer(
            features.flatten(2).transpose(1, 2),
            positions,
            places.flatten(1),
            memory,
            torch.zeros_like(memory),
            places.new_ones(count, 1),
        )
        return self.output(decoded)[..., 0].unflatten(1, (height, width))


class Locator(nn.Module):
    """The object's place, found once or several times (section 3.2, table 5)."""

    def __init__(self, config: LocatorConfig, width: int, text_width: int, max_words: int, normalise: bool) -> None:
        super().__init__()
        self.recurrent = config.repeat == "recurrent"
        self.responses = nn.ModuleList(
            TransformerResponse(config, width, text_width)
            if config.kind == "transformer"
            else FilterResponse(width, text_width, max_words if config.kind == "words" else None)
            for _ in range(config.times)
        )
        again = config.times - 1 if self.recurrent else 0
        self.feedback = nn.ModuleList(Activated(width + 1, width, normalise) for _ in range(again))

    def forward(
        self, features: Float[Tensor, "B C h w"] | Sequence[Part], text: TextFeatures
    ) -> Float[Tensor, "B n h w"]:
        """The response logits of every time, the last one last."""
        features = as_parts(features)
        logits = [self.responses[0](features, text)]
        for index, response in enumerate(self.responses[1:]):
            if self.recurrent:
                prior = logits[-1].sigmoid()[:, None].to(features[0].maps.dtype)
                features = [Part(self.feedback[index]([*features, Part(channels_last(prior))]))]
            logits.append(response(features, text))
        return torch.stack(logits, dim=1)


class LTS(nn.Module):
    """The model; `build_lts` wires its parts. Images are encoded without the expression."""

    late_fusion = True

    def __init__(
        self,
        config: LTSConfig,
        vision: VisionEncoder,
        text: TextEncoder,
        locator: Locator | None,
        segmentation: SegmentationModule | None,
    ) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision = vision
        self.text = text
        width, normalise = config.width, config.normalise
        extra = 2 if config.coordinates else 0
        self.visual = nn.ModuleList(
            Activated(vision.channels[stride] + extra, width if stride == 32 else width // 2, normalise)
            for stride in STRIDES
        )
        self.sentence = Activated(text.width, width, normalise) if config.fusion else None
        self.raise_coarse = nn.ModuleList(Activated(width, width // 2, normalise) for _ in STRIDES[1:])
        self.locator = locator
        self.segmentation = segmentation
        self.output = nn.Conv2d(width, 1, kernel_size=1) if locator is None and segmentation is None else None
        self.no_target = NoTargetHead(width) if config.no_target_head else None
        self.tags = tag_head(width // 2, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at stride 4 (8 without segmentation module), and `auxiliary`: `response_logits` (B, h, w) at
        stride 8 (`location_logits` too), the map in which the object was located last, `all_response_logits` (B, n, h,
        w), those of every time, where there is a locator, and `tag_logits` (N, t, h, w) where there are tags."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """h_t and f_text (equations 1 to 4)."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> LTSState:
        """What no expression changes. The padding of a letterbox is seen like any other grey, as in MCN."""
        maps = self.vision(images)
        visual = []
        for stride, layer in zip(STRIDES, self.visual, strict=True):
            visual.append(layer(with_coordinates(maps[stride]) if self.config.coordinates else maps[stride]))
        tags = None if self.tags is None else self.tags(visual[-1])
        return LTSState(tuple(visual), (images.shape[2], images.shape[3]), tags)

    def fuse(self, visual: tuple[Float[Tensor, "B _ _ _"], ...], text: TextFeatures) -> Float[Tensor, "B D h w"]:
        """F_m3 (equations 5 to 7)."""
        return joined(self._fused(visual, text, None))

    def _fused(
        self,
        visual: tuple[Float[Tensor, "N _ _ _"], ...],
        text: TextFeatures,
        image_index: Int[Tensor, " B"] | None,
    ) -> list[Part]:
        """F_m3 as its parts: the one that reads the expression, and the image's own."""
        maps = rows_of(visual[0], image_index)
        if self.sentence is not None:
            maps = maps * self.sentence(text.sentence[..., None, None])
        parts = [Part(maps)]
        for finer, layer in zip(visual[1:], self.raise_coarse, strict=True):
            # The same as enlarging first: a linear map of each place's channels does not see its neighbours.
            parts = [Part.of(layer(parts), finer.shape[2:]), Part(finer, image_index)]
        return parts

    def decode(self, state: LTSState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        features = self._fused(state.visual, text, image_index)
        auxiliary: dict[str, Any] = {}
        responses = None
        if self.locator is not None:
            responses = self.locator(features, text)
            auxiliary = {"response_logits": responses[:, -1], "all_response_logits": responses}
        if self.segmentation is not None:
            prior = None
            if responses is not None:
                prior = (responses[:, -1:] if self.locator.recurrent else responses).sigmoid()  # type: ignore[union-attr]
            logits = self.segmentation(features, prior)
            # The deconvolution doubles, so that an odd number of cells gets one too many.
            logits = logits[:, : -(-state.size[0] // 4), : -(-state.size[1] // 4)]
        elif responses is not None:
            logits = responses[:, -1]
        else:
            assert self.output is not None
            logits = self.output(joined(features))[:, 0]
        # The head takes the mean over all places, which is the mean of the parts'.
        no_target = None if self.no_target is None else self.no_target(mean_of(features).flatten(2).transpose(1, 2))
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        if responses is None:
            return Output(logits, no_target, auxiliary=auxiliary)
        # Figure 4.
        times = [f"time {number + 1}" if responses.shape[1] > 1 else "" for number in range(responses.shape[1])]
        heat = pixel_map("response H_mask of the locator", responses, times, apply=torch.sigmoid, scale="probability")
        return Output(logits, no_target, auxiliary=auxiliary, location_logits=responses[:, -1], maps={"response": heat})

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Equation 13, weighted; and the `shared_losses`."""
        config = self.config.losses
        logits = output.mask_logits
        masks = self._target(targets, logits)
        parts = {"mask": config.mask * self._entropy(logits, masks)}
        responses = output.auxiliary.get("all_response_logits")
        if responses is not None and config.locating:
            chosen = responses[:, -1:] if config.supervise == "last" else responses
            goal = self._target(targets, responses[:, 0])[:, None].expand_as(chosen)
            parts["locating"] = config.locating * self._entropy(chosen.flatten(0, 1), goal.flatten(0, 1))
        return parts | shared_losses(config, output, targets, logits, masks)

    def _target(self, targets: Targets, logits: Float[Tensor, "B h w"]) -> Float[Tensor, "B h w"]:
        size = (logits.shape[1], logits.shape[2])
        if self.config.losses.downsample == "area":
            return resize_masks(targets.masks, size)
        return F.interpolate(targets.masks.float()[:, None], size=size, mode="nearest-exact")[:, 0]

    def _entropy(self, logits: Float[Tensor, "K h w"], masks: Float[Tensor, "K h w"]) -> Float[Tensor, ""]:
        """Equations 11 and 12 with the sign that they lack; the mean over the maps."""
        entropy = F.binary_cross_entropy_with_logits(logits, masks)
        return entropy * logits[0].numel() if self.config.losses.reduction == "sum" else entropy


def pointed(response_logits: Float[Tensor, "B h w"], masks: Bool[Tensor, "B H W"]) -> Bool[Tensor, " B"]:
    """Whether the strongest response of each expression lies in its mask; the mean is the paper's localisation quality
    (section 4.3). A cell of the map stands for the pixel at its centre."""
    height, width = response_logits.shape[1:]
    best = response_logits.flatten(1).argmax(dim=1)
    rows = ((best // width * 2 + 1) * masks.shape[1]) // (2 * height)
    columns = ((best % width * 2 + 1) * masks.shape[2]) // (2 * width)
    return masks[torch.arange(len(masks), device=masks.device), rows, columns]


def build_lts(config: LTSConfig) -> LTS:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision = build_vision(config.vision)
    text = build_text(config.text)
    if not set(STRIDES) <= set(vision.channels):
        raise ConfigError(f"vision: maps of strides {STRIDES} are wanted, not {tuple(vision.channels)}")
    locator, priors = None, 0
    if config.locator.kind != "none":
        locator = Locator(config.locator, config.width, text.width, config.text.max_words, config.normalise)
        priors = 1 if locator.recurrent else config.locator.times
    segmentation = SegmentationModule(config.segmentation, config.width, priors) if config.segment else None
    return LTS(config, vision, text, locator, segmentation)
