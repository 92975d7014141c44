r"""M3Att: words and pixels attend to one another, again and again.

Liu, Ding, Zhang, Jiang: Multi-Modal Mutual Attention and Iterative Interaction for Referring Image Segmentation, IEEE
Transactions on Image Processing 2023; described here as chapter 5 of the first author's thesis has it.

    image    -> encoder -> neck -> F_vis -> transformer encoder -> F_enc ------------------------------> mask decoder
                                                                     | to every layer                        ^
    expression -> encoder -> words F_t -> M3Dec layer -> IMI -> M3Dec layer -> IMI -> M3Dec layer -> F_dec --'
                    |         |                           ^                    ^                      |
                    |         '---------------------------'--------------------'                      |
                    `-> sentence F'_t -------------> language feature reconstruction (training) <-----'

Ours <-> the thesis: `state.pixels` F_enc, `words` F_t, `sentence` F'_t, `auxiliary["fused"]` F_dec, `width` C. M3Dec,
IMI and the mask decoder are in `decoder.py`, mutual attention in `mutual.py`, the reconstruction in
`reconstruction.py`, F_vis in `neck.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.build import build_text, build_vision
from refseg.encoders.vision.swin import Swin
from refseg.encoders.vision.vit import patch_mask
from refseg.models.m3att.config import M3AttConfig
from refseg.models.m3att.decoder import MaskDecoder, MutualDecoder
from refseg.models.m3att.neck import SummedNeck, VLTNeck
from refseg.models.m3att.reconstruction import LanguageReconstruction
from refseg.models.m3att.token_norm import Projection
from refseg.nn.detr import DetrEncoderLayer
from refseg.nn.heads import NoTargetHead, tag_head
from refseg.nn.losses import resize_masks, shared_losses
from refseg.nn.maps import pixel_map, word_map
from refseg.nn.positions import PixelPositions
from refseg.types import Batch, Output, Targets, TextEncoder, TextFeatures, Tokens, VisionEncoder

__all__ = ["M3Att", "M3AttState", "PixelEncoder", "build_m3att"]


class M3AttState(NamedTuple):
    """N images, encoded once for all their expressions."""

    pixels: Float[Tensor, "N T C"]
    """F_enc, row by row; zeros on padding where it is masked."""
    mask: Bool[Tensor, "N T"] | None
    """True on cells with a real pixel; None where all may be looked at."""
    grid: tuple[int, int]
    """Rows and columns of F_enc."""
    size: tuple[int, int]
    """Height and width of the input."""
    tag_logits: Float[Tensor, "N t h w"] | None = None


class PixelEncoder(nn.Module):
    """F_vis to F_enc: N_enc layers of self-attention over all cells."""

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        self.once = config.positions == "input"
        self.positions = PixelPositions(config.width)
        self.layers = nn.ModuleList(
            DetrEncoderLayer(config.width, config.heads, config.feedforward, config.dropout)
            for _ in range(config.encoder_layers)
        )

    def forward(self, maps: Float[Tensor, "N C h w"], mask: Bool[Tensor, "N h w"]) -> Float[Tensor, "N T C"]:
        """F_enc, row by row; `mask` is True on cells that may be looked at."""
        tokens = maps.flatten(2).transpose(1, 2)
        places = self.positions(mask).flatten(2).transpose(1, 2)
        if self.once:
            tokens, places = tokens + places, torch.zeros_like(places)
        for layer in self.layers:
            tokens = layer(tokens, places, mask.flatten(1))
        return tokens


class M3Att(nn.Module):
    """The model; `build_m3att` wires its parts. Images are encoded without the expression."""

    late_fusion = True

    def __init__(
        self,
        config: M3AttConfig,
        vision: VisionEncoder,
        text: TextEncoder,
        neck: VLTNeck | SummedNeck,
        reconstruction: LanguageReconstruction | None,
    ) -> None:
        super().__init__()
        self.config, self.needs = config, config.needs
        self.vision = vision
        self.text = text
        self.neck = neck
        self.encoder = PixelEncoder(config)
        norm = config.projection_norm
        self.project_words = Projection(text.width, config.width, norm, relu=norm)
        # F'_t is for the reconstruction alone.
        self.project_sentence = None
        if reconstruction is not None:
            self.project_sentence = Projection(text.width, config.width, norm, relu=norm)
        self.decoder = MutualDecoder(config)
        self.mask_decoder = MaskDecoder(config)
        self.reconstruction = reconstruction
        self.no_target = NoTargetHead(config.width) if config.no_target_head else None
        self.tags = tag_head(config.width, config.tags)

    def forward(self, batch: Batch) -> Output:
        """Mask logits at `mask_decoder.output_stride`, and `auxiliary`: `fused` (B, L, C), F_dec, and `word_mask`;
        with the reconstruction `words` (B, L, C) and `sentence` (B, C), F_t and F'_t; `tag_logits` (N, t, h, w) where
        there are tags. `attention_maps` of the last layer, where that way of attention exists: "words" (B, L) of the
        pixels over each word, and "pixels" (B, L, h, w) of each word over each cell."""
        state = self.encode_image(batch.images, batch.pixel_mask)
        return self.decode(state, self.encode_text(batch.tokens), batch.image_index)

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """One vector a word and one an expression, before they are brought to C channels."""
        return self.text(tokens)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> M3AttState:
        """F_enc: what no expression changes."""
        maps = self.neck(self.vision(images))
        grid = (maps.shape[2], maps.shape[3])
        tags = None if self.tags is None else self.tags(maps)
        # Warped images have no padding, and attention without a mask is faster.
        masked = self.config.mask_padding and self.config.input.resize != "warp"
        cells = patch_mask(pixel_mask, self.config.stride)
        pixels = self.encoder(maps, cells if masked else torch.ones_like(cells))
        size = (images.shape[2], images.shape[3])
        if not masked:
            return M3AttState(pixels, None, grid, size, tags)
        mask = cells.flatten(1)
        return M3AttState(pixels * mask[..., None].to(pixels.dtype), mask, grid, size, tags)

    def decode(self, state: M3AttState, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The answers to B expressions; `image_index[b]` is the image of expression b, None means one to one."""
        word_mask = text.mask if self.config.mask_padding else None
        pixel_mask = state.mask if state.mask is None or image_index is None else state.mask[image_index]
        words = self.project_words(text.words, word_mask)
        if word_mask is not None:
            words = words * word_mask[..., None].to(words.dtype)
        fused, attended = self.decoder(words, state.pixels, state.grid, word_mask, pixel_mask, image_index)
        logits = self.mask_decoder(fused, state.pixels, state.grid, word_mask, image_index)
        stride = self.config.mask_decoder.output_stride
        # Cells beyond the image's border are of no interest.
        logits = logits[:, : -(-state.size[0] // stride), : -(-state.size[1] // stride)]
        no_target = None if self.no_target is None else self.no_target(fused, word_mask)
        # Padding that may be looked at counts like words.
        counted = torch.ones_like(text.mask) if word_mask is None else word_mask
        auxiliary: dict[str, Tensor] = {"fused": fused * counted[..., None].to(fused.dtype), "word_mask": counted}
        maps, named = {}, {}
        if attended.word_attention is not None:
            maps["words"] = attended.word_attention
            named["words"] = word_map("mutual attention: what pixels read of the words", attended.word_attention)
        if attended.pixel_attention is not None:
            maps["pixels"] = attended.pixel_attention.unflatten(2, state.grid)
            named["pixels"] = pixel_map(
                "mutual attention: where each word looks", maps["pixels"], weights=attended.word_attention
            )
        if self.project_sentence is not None:
            auxiliary["words"] = words
            auxiliary["sentence"] = self.project_sentence(text.sentence[:, None])[:, 0]
        if state.tag_logits is not None:
            auxiliary["tag_logits"] = state.tag_logits
        return Output(logits, no_target, auxiliary=auxiliary, attention_maps=maps, maps=named)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """Equation 5.5, weighted; and the `shared_losses`."""
        config, auxiliary = self.config.losses, output.auxiliary
        logits = output.mask_logits
        masks = resize_masks(targets.masks, (logits.shape[1], logits.shape[2]))
        entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction=config.reduction)
        parts = {"mask": config.mask * (entropy / len(logits) if config.reduction == "sum" else entropy)}
        if self.reconstruction is not None:
            counted = auxiliary["word_mask"]
            read = auxiliary["words"], auxiliary["sentence"], counted, auxiliary["fused"], counted
            distance = self.reconstruction(*read)
            parts["reconstruction"] = config.reconstruction * distance
        return parts | shared_losses(config, output, targets, logits, masks)


def build_m3att(config: M3AttConfig) -> M3Att:
    """The model of a configuration, with fresh weights; nothing is downloaded."""
    vision, text = build_vision(config.vision), build_text(config.text)
    if isinstance(vision, Swin):
        # The normalisation of the map of stride 4, which nobody reads, never gets a gradient.
        vision.get_submodule("norm0").requires_grad_(False)
    neck: VLTNeck | SummedNeck
    if config.neck == "vlt":
        neck = VLTNeck(vision.channels, config.width)
    else:
        neck = SummedNeck(vision.channels, config.width, config.stride)
    reconstruction = None
    if config.losses.reconstruction:
        reconstruction = LanguageReconstruction(
            config.width, config.width, norm=config.projection_norm, detach_target=config.losses.detach_target
        )
    return M3Att(config, vision, text, neck, reconstruction)
