r"""M3Att's mask decoder (section 5.1.4, figure 5.6) and the others of table 5.3.

F_dec -> self-attention -> Z, one kernel a word --.
                                                   > 1x1 convolution -> a map a word -> conv -> up -> ... -> logit
F_enc --------------------------------------------'
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.models.m3att.config import M3AttConfig
from refseg.nn.attention import Attention
from refseg.nn.conv import ConvNorm

__all__ = ["MaskDecoder"]


class MaskDecoder(nn.Module):
    """Words and pixels to mask logits at the configured output stride."""

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
        picture: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B h w"]:
        """Logits at 2^doublings times the map's `size`; `word_mask` is True on words that count."""
        maps = self._maps(words, pixels, size, word_mask, picture)
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
        picture: Int[Tensor, " B"] | None,
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
        pixels = pixels if picture is None else pixels[picture]
        if self.kind == "kernel":
            return self._in_slots((kernels @ pixels.transpose(1, 2)).unflatten(2, size))
        meant = kernels.sum(dim=1)[:, :, None, None]
        grid = pixels.transpose(1, 2).unflatten(2, size)
        if self.kind == "sum":
            return grid + meant
        return torch.cat([grid, meant.expand_as(grid)], dim=1)

    def _in_slots(self, maps: Float[Tensor, "B L h w"]) -> Float[Tensor, "B S h w"]:
        """A channel for each word slot that there can be; those beyond the sentences at hand stay empty."""
        return F.pad(maps, (0, 0, 0, 0, 0, self.slots - maps.shape[1]))
