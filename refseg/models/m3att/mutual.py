r"""Mutual attention: words gather pixels, pixels gather words, and both are multiplied (M3Att).

Liu, Ding, Zhang, Jiang: Multi-Modal Mutual Attention and Iterative Interaction for Referring Image Segmentation, IEEE
TIP 2023, equations 5.1 and 5.2 in the thesis of the first author, chapter 5.

    words  -> keys F_L^k, values F_L^v --.            .-> softmax over pixels -> F_V^a (T C)  --.
                                          > A (T HW) <                                           > F_mul (T HW)
    pixels -> keys F_V^k, values F_V^v --'            `-> softmax over words  -> F_L^a (HW C) --'    -> linear

The last linear layer has an input for each place of the map, so its size is that of one input resolution. At another
one its weight, seen as a map for each output channel, is resized: see `GridLinear`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import ConfigError
from refseg.models.m3att.token_norm import TokenBatchNorm

__all__ = ["GridLinear", "MutualAttention", "MutualAttentionConfig", "MutualFeatures"]


@dataclass(frozen=True)
class MutualAttentionConfig(Config):
    """Which of the two ways of attention there are, and how they share."""

    kind: Literal["shared", "independent", "language_attended", "vision_attended"] = "shared"
    """shared: one attention matrix, normalised along both axes. independent: a second pair of key projections for the
    way that gathers words. language_attended: pixels gathered by words alone (LAV), the generic attention.
    vision_attended: words gathered by pixels alone (VAL), of which the thesis reports that it does not converge."""
    heads: PositiveInt = 1
    """1 as the equations are written, with 1 / sqrt(C). With more, channels are split as in multi-head attention, and
    the linear layer reads all heads' products."""
    output_norm: Literal["batch_relu", "batch", "none"] = "batch_relu"
    """What follows the linear layer at the end: batch normalisation and rectification, as section 5.2.1 says of all
    linear layers; the first alone; or nothing. Products of values summed over all places have no scale of their own:
    with nothing, a small model took over five times as many steps to learn which of eight expressions mean nothing."""


class MutualFeatures(NamedTuple):
    """What the attention gives, and where it looked (mean over heads; None where that way does not exist)."""

    features: Float[Tensor, "B K C"]
    """One vector a word; with "vision_attended" one a pixel."""
    pixel_attention: Float[Tensor, "B L T"] | None
    """How much each word looks at each pixel."""
    word_attention: Float[Tensor, "B L"] | None
    """How much pixels look at each word, mean over the real pixels."""


class GridLinear(nn.Module):
    """A linear layer over all places of a map, as if it had been made for each size of map.

    At the size that it was built for it is the plain linear layer of heads * rows * columns inputs. At another size its
    weight is resized like an image (bilinear, smoothed when it shrinks) and scaled by the ratio of the numbers of
    places. It is so the same weighted integral over the image: a constant map gives the same answer at each size.
    """

    def __init__(self, rows: int, columns: int, outputs: int, heads: int = 1) -> None:
        super().__init__()
        bound = 1 / math.sqrt(heads * rows * columns)
        self.weight = nn.Parameter(torch.empty(outputs, heads, rows, columns).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, maps: Float[Tensor, "B L H T"], size: tuple[int, int]) -> Float[Tensor, "B L C"]:
        """`maps` holds H heads with T = size[0] * size[1] places, row by row."""
        return F.linear(maps.flatten(2), self.resized(size).flatten(1), self.bias)

    def resized(self, size: tuple[int, int]) -> Float[Tensor, "C H h w"]:
        """The weight for maps of that size."""
        own = (self.weight.shape[2], self.weight.shape[3])
        if own == tuple(size):
            return self.weight
        weight = F.interpolate(self.weight, size=size, mode="bilinear", align_corners=False, antialias=True)
        return weight * (own[0] * own[1] / (size[0] * size[1]))


class MutualAttention(nn.Module):
    """M3Att on words and pixels of `width` channels; `grid` is the (rows, columns) of the map it is built for."""

    def __init__(self, config: MutualAttentionConfig, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"attention.heads={config.heads} does not divide width={width}")
        self.kind, self.heads = config.kind, config.heads
        self.scale = (width // config.heads) ** -0.5
        gathers_pixels, gathers_words = self.kind != "vision_attended", self.kind != "language_attended"
        self.word_key, self.pixel_key = _linear(width), _linear(width)
        self.pixel_value = _linear(width) if gathers_pixels else None
        self.word_value = _linear(width) if gathers_words else None
        independent = self.kind == "independent"
        self.second_word_key = _linear(width) if independent else None
        self.second_pixel_key = _linear(width) if independent else None
        self.output: GridLinear | nn.Linear
        if gathers_pixels and gathers_words:
            self.output = GridLinear(*grid, width, config.heads)
        else:
            self.output = _linear(width)
        self.norm = None if config.output_norm == "none" else TokenBatchNorm(width)
        self.relu = config.output_norm == "batch_relu"

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        word_mask: Bool[Tensor, "B L"] | None = None,
        pixel_mask: Bool[Tensor, "B T"] | None = None,
        image_index: Int[Tensor, " B"] | None = None,
    ) -> MutualFeatures:
        """Equations 5.1 and 5.2, and the product of both ways through the linear layer and what follows it.

        `size` is the map's (rows, columns), T in all. Masks are True on what may be looked at, None means everything.
        `image_index[b]` is the image of expression b, so that pixels are projected once an image; None: one to one.
        """
        keys = self._split(self.word_key(words))
        scores = self._scores(keys, self._of(self.pixel_key(pixels), image_index))
        pixel_weights = word_weights = None
        if self.pixel_value is not None:
            pixel_weights = _weights(scores, None if pixel_mask is None else pixel_mask[:, None, None], axis=3)
        if self.word_value is not None:
            if self.second_word_key is not None and self.second_pixel_key is not None:
                keys = self._split(self.second_word_key(words))
                scores = self._scores(keys, self._of(self.second_pixel_key(pixels), image_index))
            word_weights = _weights(scores, None if word_mask is None else word_mask[:, None, :, None], axis=2)
        features = self._gather(words, pixels, size, pixel_weights, word_weights, pixel_mask, image_index)
        if self.norm is not None:
            features = self.norm(features, word_mask if self.pixel_value is not None else pixel_mask)
        features = F.relu(features) if self.relu else features
        on_pixels = None if pixel_weights is None else pixel_weights.detach().float().mean(dim=1)
        on_words = None if word_weights is None else _mean_row(word_weights.detach().float().mean(dim=1), pixel_mask)
        return MutualFeatures(features, on_pixels, on_words)

    def _gather(
        self,
        words: Float[Tensor, "B L C"],
        pixels: Float[Tensor, "N T C"],
        size: tuple[int, int],
        pixel_weights: Float[Tensor, "B H L T"] | None,
        word_weights: Float[Tensor, "B H L T"] | None,
        pixel_mask: Bool[Tensor, "B T"] | None,
        image_index: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B K C"]:
        attended_pixels = attended_words = None
        if self.pixel_value is not None and pixel_weights is not None:
            values = self._of(self.pixel_value(pixels), image_index)
            attended_pixels = pixel_weights.to(values.dtype) @ values
        if self.word_value is None or word_weights is None:
            assert attended_pixels is not None
            return self.output(attended_pixels.transpose(1, 2).flatten(2))
        values = self._split(self.word_value(words))
        word_weights = word_weights.to(values.dtype)
        if attended_pixels is None:
            attended_words = word_weights.transpose(2, 3) @ values
            return self.output(attended_words.transpose(1, 2).flatten(2))
        # F_V^a (F_L^a)^T, with the products of words and words first: the words that every pixel gathers, HW x C, are
        # never formed.
        product = (attended_pixels @ values.transpose(2, 3)) @ word_weights
        if pixel_mask is not None:
            product = product * pixel_mask[:, None, None].to(product.dtype)
        return self.output(product.transpose(1, 2), size)

    def _scores(self, words: Float[Tensor, "B H L c"], pixels: Float[Tensor, "B H T c"]) -> Float[Tensor, "B H L T"]:
        """Equation 5.1."""
        return (words * self.scale) @ pixels.transpose(2, 3)

    def _split(self, tokens: Float[Tensor, "B K C"]) -> Float[Tensor, "B H K c"]:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _of(self, pixels: Float[Tensor, "N T C"], image_index: Int[Tensor, " B"] | None) -> Float[Tensor, "B H T c"]:
        """Projected pixels of each expression's image."""
        return self._split(pixels if image_index is None else pixels[image_index])


def _linear(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _weights(scores: Float[Tensor, "B H L T"], mask: Tensor | None, axis: int) -> Float[Tensor, "B H L T"]:
    """The softmax along one axis; where nothing is real, all is weighed alike instead of not a number."""
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=axis)


def _mean_row(weights: Float[Tensor, "B L T"], pixel_mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B L"]:
    if pixel_mask is None:
        return weights.mean(dim=2)
    real = pixel_mask[:, None].to(weights.dtype)
    return (weights * real).sum(dim=2) / real.sum(dim=2).clamp(min=1)
