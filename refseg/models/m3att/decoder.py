r"""M3Dec, the decoder whose layers fuse words and pixels, and IMI, which brings the words back between them.

    words X -> self-attention -> F_q --> mutual attention with F_enc -> F_mm --.
                                  `----> attention: F_q asks F_mm <------------'--> feed-forward -> F_dec^n
                                                                                                      |
    F_l^(n-1) -> linear -> F_l^n --> IMI: which words does F_dec^n want? -----> batch norm(F_dec^n + w_ci F_i)
                                                                                  -> X of the next layer

Residuals and layer normalisation stand where a transformer's layer has them; the thesis draws none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.m3att.config import M3AttConfig
from refseg.models.m3att.mutual import MutualAttention, MutualFeatures
from refseg.models.m3att.token_norm import Projection, TokenBatchNorm
from refseg.nn.attention import Attention, FeedForward
from refseg.nn.conv import ConvNorm

__all__ = ["Decoded", "Interaction", "MaskDecoder", "MutualDecoder", "MutualLayer"]


class Decoded(NamedTuple):
    """What the decoder gives."""

    words: Float[Tensor, "B L C"]
    """F_dec, after the last layer."""
    attended: MutualFeatures
    """The last layer's mutual attention."""


class Interaction(nn.Module):
    """One IMI block (section 5.1.2)."""

    def __init__(self, width: int, norm: bool, first_weight: float, transforms: bool) -> None:
        super().__init__()
        self.language = Projection(width, width, norm, relu=norm) if transforms else None
        self.query = Projection(width, width, norm, bias=False)
        self.value = Projection(width, width, norm, bias=False)
        self.weight = nn.Parameter(torch.tensor(first_weight))
        self.norm = TokenBatchNorm(width)

    def forward(
        self,
        fused: Float[Tensor, "B L C"],
        language: Float[Tensor, "B L C"],
        mask: Bool[Tensor, "B L"] | None,
    ) -> tuple[Float[Tensor, "B L C"], Float[Tensor, "B L C"]]:
        """The next layer's query and F_l^n. `fused` is F_dec^n, `language` F_l^(n-1), `mask` True on words to see."""
        if self.language is not None:
            language = self.language(language, mask)
        scores = self.query(fused, mask) @ language.transpose(1, 2)  # equation 5.3
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        gathered = scores.softmax(dim=2) @ self.value(language, mask)
        return self.norm(fused + self.weight * gathered, mask), language


class MutualLayer(nn.Module):
    """One layer of M3Dec (figure 5.3c)."""

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        width, part = config.width, config.decoder
        self.kind = part.attention.kind
        self.self_attention = Attention(width, config.heads, config.dropout)
        self.self_norm = nn.LayerNorm(width)
        self.mutual = MutualAttention(part.attention, width, config.grid)
        self.requery = Attention(width, config.heads, config.dropout) if part.requery else None
        self.fused_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feedforward, "relu", config.dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None,
        pixel_mask: Bool[Tensor, "B T"] | None,
        image_index: Int[Tensor, " B"] | None,
    ) -> tuple[Float[Tensor, "B L C"], MutualFeatures]:
        """F_dec^n, and the mutual attention inside."""
        mask = None if word_mask is None else word_mask[:, None]
        queries = self.self_norm(words + self.dropout(self.self_attention(words, words, words, mask)))
        mutual = self.mutual(queries, pixels, size, word_mask, pixel_mask, image_index)
        fused = mutual.features
        if self.requery is not None:
            if self.kind == "vision_attended":
                mask = None if pixel_mask is None else pixel_mask[:, None]
            fused = self.requery(queries, fused, fused, mask)
        fused = self.fused_norm(queries + self.dropout(fused))
        return self.feed_forward_norm(fused + self.dropout(self.feed_forward(fused))), mutual


class MutualDecoder(nn.Module):
    """N_dec layers, with an interaction between each two."""

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        part = config.decoder
        self.layers = nn.ModuleList(MutualLayer(config) for _ in range(part.layers))
        blocks = 0 if part.interaction == "none" else part.layers - 1
        transforms = part.interaction == "iterative"
        self.interactions = nn.ModuleList(
            Interaction(config.width, config.projection_norm, part.interaction_weight, transforms)
            for _ in range(blocks)
        )

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None,
        pixel_mask: Bool[Tensor, "B T"] | None,
        image_index: Int[Tensor, " B"] | None,
    ) -> Decoded:
        """F_dec from F_t (`words`) and F_enc (`pixels`, N images; `image_index[b]` is that of expression b)."""
        language, query = words, words
        decoded, mutual = self.layers[0](query, pixels, size, word_mask, pixel_mask, image_index)
        for index, layer in enumerate(self.layers[1:]):
            query = decoded
            if len(self.interactions):
                query, language = self.interactions[index](decoded, language, word_mask)
            decoded, mutual = layer(query, pixels, size, word_mask, pixel_mask, image_index)
        return Decoded(decoded, mutual)


class MaskDecoder(nn.Module):
    r"""M3Att's mask decoder (section 5.1.4, figure 5.6) and the others of table 5.3, at the configured output stride.

    F_dec -> self-attention -> Z, one kernel a word --.
                                                       > 1x1 convolution -> a map a word -> conv -> up -> ... -> logit
    F_enc --------------------------------------------'
    """

    def __init__(self, config: M3AttConfig) -> None:
        super().__init__()
        part, width = config.mask_decoder, config.width
        self.kind, self.grid, self.slots = part.kind, config.grid, config.text.max_words
        self.attention = None if part.kind == "vlt" else Attention(width, config.heads)
        # VLT's linear layer to a map: an output a place, so of one resolution.
        self.to_map = nn.Linear(width, self.grid[0] * self.grid[1]) if part.kind == "vlt" else None
        inputs = {"kernel": self.slots, "vlt": self.slots, "concat": 2 * width, "sum": width}[part.kind]
        sizes = [inputs] + [part.width] * (part.convs - 1)
        self.convs = nn.ModuleList(ConvNorm(sizes[i], sizes[i + 1], 3, "batch") for i in range(part.convs - 1))
        self.output = nn.Conv2d(sizes[-1], 1, kernel_size=3, padding=1)
        self.doubled = range(part.coarse, part.coarse + config.doublings)

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None = None,
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B h w"]:
        """Logits at 2^doublings times the map's `size`; `word_mask` is True on words that count."""
        maps = self._maps(words, pixels, size, word_mask, image_index)
        if maps.device.type == "cpu":
            maps = maps.contiguous(memory_format=torch.channels_last)
        for index, conv in enumerate([*self.convs, self.output]):
            if index in self.doubled:
                maps = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
            maps = conv(maps)
        return maps[:, 0]

    def _maps(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None,
        image_index: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B D h w"]:
        real = None if word_mask is None else word_mask[..., None].to(words.dtype)
        if self.attention is None:
            assert self.to_map is not None
            maps = F.relu(self.to_map(words))
            maps = (maps if real is None else maps * real).unflatten(2, self.grid)
            if self.grid != tuple(size):
                maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)
            return self._in_slots(maps)
        kernels = self.attention(words, words, words, None if word_mask is None else word_mask[:, None])
        kernels = kernels if real is None else kernels * real
        pixels = pixels if image_index is None else pixels[image_index]
        if self.kind == "kernel":
            return self._in_slots((kernels @ pixels.transpose(1, 2)).unflatten(2, size))
        summed = kernels.sum(dim=1)[:, :, None, None]
        grid = pixels.transpose(1, 2).unflatten(2, size)
        if self.kind == "sum":
            return grid + summed
        return torch.cat([grid, summed.expand_as(grid)], dim=1)

    def _in_slots(self, maps: Float[Tensor, "B L h w"]) -> Float[Tensor, "B S h w"]:
        """A channel for each word slot that there can be; those beyond the expressions at hand stay empty."""
        return F.pad(maps, (0, 0, 0, 0, 0, self.slots - maps.shape[1]))
